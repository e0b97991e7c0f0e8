/* operator/install - what a KubeVirt object asks to have installed: versions, images, placement, certificates' lives. Pure. */
#pragma once
#include "api/schema.h"

/* What the operator was started with. */
struct install_env {
    const char *ns;
    const char *image, *launcher_image; /* of VIREO_IMAGE and VIREO_LAUNCHER_IMAGE */
    const char *pull_policy;            /* what the images are pulled by when the KubeVirt object says nothing */
    const char *version;                /* our own */
    const char *kubelet_dir;            /* /var/lib/kubelet */
    bool webhook;                       /* requests reach us: the KubeVirt object is validated */
};
/* Of the cluster, as far as it matters for what is installed. */
struct install_cluster {
    int64_t nodes, lost;      /* lost: those whose node agents' pods say nothing any more */
    bool old_budgets;         /* no policy/v1: PodDisruptionBudgets of v1beta1 */
    bool admission_policies;  /* ValidatingAdmissionPolicy is served */
    bool match_conditions;    /* of webhooks: ≥ 1.28 */
};

struct cert_life {
    int64_t ca_s, ca_before_s, leaf_s, leaf_before_s;
};
enum { INSTALL_WARNINGS = 8 };

struct install {
    const struct json *kubevirt, *params; /* params: what ${NAME} stands for */
    const char *ns;
    const char *image, *launcher_image, *registry, *version;
    const char *id;          /* hash of what makes a deployment another one: another is an upgrade */
    const char *config_json; /* the same for people, status.targetDeploymentConfig */
    struct cert_life life;
    struct install_cluster cluster;
    bool webhook;
    bool remove_workloads;   /* uninstallStrategy RemoveWorkloads */
    struct str ca_bundle;    /* PEM; absent: there is none yet */
    const char *warnings[INSTALL_WARNINGS];
    size_t n_warnings;
};

/* ca_bundle may be absent. Everything lies in the arena, which has to outlive *ret. ERROR_INVALID names field and fix. */
MUST_CHECK bool install_of(const struct json *kubevirt, const struct install_env *e, const struct install_cluster *c,
                           struct str ca_bundle, struct arena *a, struct install *ret, struct error *err);
/* What is wrong with a KubeVirt object's spec, in upstream's form of causes. */
void install_validate(const struct json *kubevirt, struct arena *a, struct schema_causes *ret);
MUST_CHECK bool cert_life_of(const struct json *kubevirt, struct cert_life *ret, struct error *err);
/* Go's durations, "1h30m", in whole seconds. */
MUST_CHECK bool install_duration(struct str text, int64_t *ret_s, struct error *err);
/* Order of versions: below 0, 0, above 0. false: one of them is none. */
bool install_version_compare(struct str a, struct str b, int *ret);
