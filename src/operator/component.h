/* operator/component - what gets installed: objects made of the manifests in components/ and of our CRDs.
 *
 * ${NAME} in texts of the parsed manifest is replaced by a parameter; a text that is nothing but ${NAME} becomes the parameter itself,
 * whatever its type, and goes when that is absent. Nothing is ever replaced in YAML's own text, so no parameter can bring structure
 * with it. Pure. */
#pragma once
#include "operator/install.h"

struct component_file { /* ended by one without a name */
    const char *name, *text;
};
extern const struct component_file component_files[]; /* generated */

/* The kinds that we install, in the order in which they come. */
enum managed_id {
    MANAGED_CRD,
    MANAGED_PRIORITY_CLASS,
    MANAGED_SERVICE_ACCOUNT,
    MANAGED_CLUSTER_ROLE,
    MANAGED_CLUSTER_ROLE_BINDING,
    MANAGED_ROLE,
    MANAGED_ROLE_BINDING,
    MANAGED_CONFIG_MAP,
    MANAGED_SECRET,
    MANAGED_SERVICE,
    MANAGED_PDB,
    MANAGED_POLICY,
    MANAGED_POLICY_BINDING,
    MANAGED_DEPLOYMENT,
    MANAGED_DAEMON_SET,
    MANAGED_VALIDATING,
    MANAGED_MUTATING,
    MANAGED_API_SERVICE,
};
enum { MANAGED = MANAGED_API_SERVICE + 1 };
struct managed {
    const char *group, *version, *kind, *plural;
    bool namespaced;
    const char *older; /* a version for servers that lack the other; NULL: none */
    bool optional;     /* where the server has no such kind, the component is left out */
};
extern const struct managed managed_kinds[MANAGED];
bool managed_of(const struct json *object, enum managed_id *ret);

/* When a component has its turn (operator_plan.h). */
enum stage { STAGE_CRD, STAGE_BASE, STAGE_API, STAGE_ADMISSION, STAGE_CONTROLLER, STAGE_HANDLER };
enum { STAGES = STAGE_HANDLER + 1 };

struct component {
    enum managed_id kind;
    enum stage stage;
    const struct json *object; /* with our labels, and in an annotation its hash */
    const char *key;           /* "namespace/name", or "name" */
    const char *title;         /* for people: "Deployment virt-api" */
    struct str hash;
};
struct components {
    struct component *p; /* in the arena, by kind */
    size_t n;
};

#define LABEL_MANAGED_BY   "app.kubernetes.io/managed-by"
#define LABEL_OWNER        "vireo.io/operator" /* the namespace of the operator that made it: what is without it is not ours */
#define ANNOTATION_HASH    "vireo.io/hash"
#define ANNOTATION_VERSION "kubevirt.io/install-strategy-version"

/* All that an installation consists of, but certificates. ERROR_INVALID names the manifest, the patch or the parameter. */
MUST_CHECK bool components_make(const struct install *i, struct arena *a, struct components *ret, struct error *err);
/* One object more, with our labels and hash. */
struct component component_of(const struct install *i, struct arena *a, enum managed_id kind, const struct json *object);
/* A manifest with its parameters put in. Unknown ones are an error. */
MUST_CHECK bool component_fill(struct arena *a, const struct json *v, const struct json *params, const struct json **ret,
                               struct error *err);
/* A definition of our own kinds as it is installed, without status. */
const struct json *component_crd(struct arena *a, const struct kind_info *k);
/* Where the live object differs from what the component says, as a path in the arena; NULL: nowhere. What the live one has beyond the
 * component is its server's and other writers'; lists have to be the same. */
const char *component_difference(const struct json *want, const struct json *live, struct arena *a);
/* A hash of the value that does not depend on the order of its keys. */
struct str component_hash(struct arena *a, const struct json *v);
