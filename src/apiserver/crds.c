/* apiserver/crds - CustomResourceDefinitions: admission of them, and the kinds that they bring. */
#include "apiserver/crds.h"
#include "api/meta.h"

struct crds {
    struct apiserver *s;
};

const struct json *crd_defaults(struct request *r, const struct json *old, const struct json *o)
{
    (void)r;
    (void)old;
    return o;
}

bool crd_validate(struct request *r, const struct json *old, const struct json *o, struct schema_causes *c)
{
    (void)r;
    (void)old;
    (void)o;
    (void)c;
    return true;
}

bool crd_is_builtin(struct apiserver *s, struct str name)
{
    (void)s;
    (void)name;
    return false;
}

void crds_bootstrap(struct apiserver *s)
{
    (void)s;
}

struct crds *crds_new(struct apiserver *s)
{
    struct crds *c = NEW(struct crds);

    c->s = s;
    return c;
}

void crds_free(struct crds *c)
{
    free(c);
}
