/* The certificates as components of an installation. */
#include "api/meta.h"
#include "operator/internal.h"

static const struct json *held(struct operator* o, enum managed_id kind, const char *name, struct arena *a)
{
    return informer_get(o->managed[kind], str_of(arena_printf(a, "%s/%s", o->config.env.ns, name)), a);
}

/* What stays is a component, too: its key is ours, and it is probed and removed like the others. */
static void add(const struct install *i, enum managed_id kind, const char *name, const struct json *fresh, struct arena *a,
                struct cert_components *c)
{
    const struct json *object = fresh;

    if (!object)
        object = json_object(a, "metadata", json_object(a, "name", json_new_z(a, name), NULL), NULL);
    c->write[c->n] = fresh != NULL;
    c->p[c->n++] = component_of(i, a, kind, object);
}

bool certs_view(struct operator* o, const struct json *kubevirt, struct arena *a, struct cert_components *ret,
                struct error *err)
{
    struct certs_view v = {.ns = o->config.env.ns, .now_s = loop_unix_ns(o->loop) / SECONDS(1)};
    struct certs_plan p;
    struct cert_components c = {0};
    struct install i;

    if (!install_of(kubevirt, &o->config.env, &o->cluster, STR_NONE, a, &i, err))
        return false;
    v.life = i.life;
    v.ca_secret = held(o, MANAGED_SECRET, CERTS_CA, a);
    v.bundle = held(o, MANAGED_CONFIG_MAP, CERTS_CA, a);
    for (size_t k = 0; k < CERT_LEAVES; k++)
        v.leaves[k] = held(o, MANAGED_SECRET, cert_leaves[k].secret, a);
    if (!certs_make_plan(&v, a, &p, err))
        return error_wrap(err, "certificates");
    add(&i, MANAGED_SECRET, CERTS_CA, p.ca_secret, a, &c);
    add(&i, MANAGED_CONFIG_MAP, CERTS_CA, p.bundle, a, &c);
    for (size_t k = 0; k < CERT_LEAVES; k++)
        add(&i, MANAGED_SECRET, cert_leaves[k].secret, p.leaves[k], a, &c);
    c.ca_bundle = p.ca_bundle;
    c.next_s = p.next_s;
    c.news = p.news;
    *ret = c;
    return true;
}
