#include "operator/certs.h"

#include "api/meta.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "operator/component.h"

#define ANNOTATION_NAMES "vireo.io/names" /* of a leaf: what it was made out to */
#define ANNOTATION_SINCE "vireo.io/since" /* of the bundle: when the newest CA came into it, in seconds */
#define RETRY_S 60

const struct cert_leaf cert_leaves[CERT_LEAVES] = {
    {"kubevirt-virt-api-certs", NULL, "virt-api", false},
    {"kubevirt-virt-handler-server-certs", NULL, "virt-handler", false},
    {"kubevirt-virt-handler-certs", "kubevirt.io:system:client:virt-handler", NULL, true},
    {"kubevirt-controller-certs", NULL, "virt-controller", false},
    {CERTS_OPERATOR, NULL, "kubevirt-operator-webhook", false},
};

struct str certs_data(const struct json *secret, const char *name, struct arena *a)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf text = {0};
    struct str data = json_str(json_get(json_get(secret, "data"), name));

    buf_init(&text, 64u << 10);
    if (!data.n || !buf_add_base64_decoded(&text, data, &err))
        return STR_NONE;
    return arena_str(a, buf_str(&text));
}

static const struct json *base64(struct arena *a, struct str text)
{
    AUTO(buf_done) struct buf b = {0};

    buf_add_base64(&b, text.p, text.n);
    return json_new_str(a, buf_str(&b));
}

static const struct json *secret_of(struct arena *a, const char *name, const struct cert_pair *p, const char *names)
{
    const struct json *annotations = names ? json_object(a, ANNOTATION_NAMES, json_new_z(a, names), NULL) : NULL;

    return json_object(
        a, "apiVersion", json_new_z(a, "v1"), "kind", json_new_z(a, "Secret"), "metadata",
        json_object(a, "name", json_new_z(a, name), "annotations", annotations, NULL), "type",
        json_new_z(a, "kubernetes.io/tls"), "data",
        json_object(a, "tls.crt", base64(a, str_of(p->cert_pem)), "tls.key", base64(a, str_of(p->key_pem)), NULL), NULL);
}

static void soonest(struct certs_plan *p, int64_t at_s)
{
    if (p->next_s == 0 || at_s < p->next_s)
        p->next_s = at_s;
}

static void tell(struct certs_plan *p, struct arena *a, const char *what)
{
    p->news = p->news ? arena_printf(a, "%s, %s", p->news, what) : what;
}

/* -- the CA ------------------------------------------------------------------------------------------------- */

/* Whether the CA that there is may go on; its facts. */
static bool ca_good(const struct certs_view *v, struct str cert, struct str key, struct cert_facts *f)
{
    AUTO(error_clear) struct error err = {0};

    if (!cert.n || !key.n || !cert_inspect(cert.p, key.p, cert.p, f, &err))
        return false;
    if (!f->fits_key || !f->issued)
        return false;
    /* One that lives much longer than it should goes, too. */
    return v->now_s < f->until_unix_s - v->life.ca_before_s && f->until_unix_s - v->now_s <= v->life.ca_s + RETRY_S;
}

static bool next_certificate(struct str *rest, struct str *ret)
{
    static const char begin[] = "-----BEGIN CERTIFICATE-----", end[] = "-----END CERTIFICATE-----";
    size_t from, to;

    if (!str_find(*rest, str_of(begin), &from))
        return false;
    *rest = str_skip(*rest, from);
    if (!str_find(*rest, str_of(end), &to))
        return false;
    *ret = str_take(*rest, to + sizeof end - 1);
    *rest = str_skip(*rest, to + sizeof end - 1);
    return true;
}

/* The newest first, then those that are still valid. A bundle that was tampered with loses what is no certificate; what does not come
 * from us cannot be told apart, as little as upstream's: who may write this ConfigMap is trusted. */
static struct str bundle_text(const struct certs_view *v, struct str newest, struct arena *a, struct certs_plan *p)
{
    AUTO(buf_done) struct buf b = {0};
    struct str rest = json_str(json_get(json_get(v->bundle, "data"), CERTS_BUNDLE)), one;
    size_t n = 1;

    buf_addf(&b, STR_FMT "\n", STR_ARG(str_trim(newest)));
    while (n < 8 && next_certificate(&rest, &one)) {
        AUTO(error_clear) struct error err = {0};
        struct cert_facts f;

        if (str_eq(one, str_trim(newest)) || !cert_inspect(arena_strdup(a, one), NULL, NULL, &f, &err)
            || f.until_unix_s <= v->now_s)
            continue;
        buf_addf(&b, STR_FMT "\n", STR_ARG(one));
        soonest(p, f.until_unix_s + 1); /* then it goes out of the bundle */
        n++;
    }
    return arena_str(a, buf_str(&b));
}

static int64_t since(const struct json *bundle)
{
    AUTO(error_clear) struct error err = {0};
    int64_t s = 0;

    return parse_i64(meta_annotation(bundle, ANNOTATION_SINCE), 0, INT64_MAX, &s, &err) ? s : 0;
}

static bool bundle_plan(const struct certs_view *v, struct str newest, struct arena *a, struct certs_plan *p,
                        int64_t *ret_since)
{
    struct str had = json_str(json_get(json_get(v->bundle, "data"), CERTS_BUNDLE)), first = STR_NONE, rest = had;
    bool same_ca = next_certificate(&rest, &first) && str_eq(first, str_trim(newest));

    p->ca_bundle = bundle_text(v, newest, a, p);
    *ret_since = same_ca && since(v->bundle) <= v->now_s ? since(v->bundle) : v->now_s;
    if (str_eq(had, p->ca_bundle))
        return false;
    p->bundle =
        json_object(a, "apiVersion", json_new_z(a, "v1"), "kind", json_new_z(a, "ConfigMap"), "metadata",
                    json_object(a, "name", json_new_z(a, CERTS_CA), "annotations",
                                json_object(a, ANNOTATION_SINCE, json_new_f(a, "%lld", (long long)*ret_since), NULL), NULL),
                    "data", json_object(a, CERTS_BUNDLE, json_new_str(a, p->ca_bundle), NULL), NULL);
    tell(p, a, "bundle of CAs");
    return true;
}

/* -- leaves ------------------------------------------------------------------------------------------------------ */

static const char *leaf_names(const struct cert_leaf *l, const char *ns, struct arena *a)
{
    if (!l->service)
        return l->common_name;
    return arena_printf(a, "%s.%s.svc,%s.%s.svc.cluster.local,%s.%s,%s", l->service, ns, l->service, ns, l->service, ns,
                        l->service);
}

enum leaf_state { LEAF_GOOD, LEAF_DUE, LEAF_BAD };

static enum leaf_state leaf_state(const struct certs_view *v, const struct json *secret, const char *names, struct str bundle,
                                  struct str ca, struct arena *a, struct certs_plan *p)
{
    struct str cert = certs_data(secret, "tls.crt", a), key = certs_data(secret, "tls.key", a), one;
    AUTO(error_clear) struct error err = {0};
    struct cert_facts f;
    bool trusted = false, newest = false;

    if (!cert.n || !key.n || !str_is(meta_annotation(secret, ANNOTATION_NAMES), names))
        return LEAF_BAD;
    while (next_certificate(&bundle, &one)) {
        if (!cert_inspect(cert.p, key.p, arena_strdup(a, one), &f, &err))
            return LEAF_BAD;
        if (!f.fits_key || f.until_unix_s <= v->now_s)
            return LEAF_BAD;
        trusted = trusted || f.issued;
        newest = newest || (f.issued && str_eq(one, str_trim(ca)));
    }
    if (!trusted)
        return LEAF_BAD;
    if (!newest || v->now_s >= f.until_unix_s - v->life.leaf_before_s || f.until_unix_s - v->now_s > v->life.leaf_s + RETRY_S)
        return LEAF_DUE;
    soonest(p, f.until_unix_s - v->life.leaf_before_s);
    return LEAF_GOOD;
}

static bool leaf_make(const struct certs_view *v, const struct cert_leaf *l, const char *names, const struct cert_pair *ca,
                      int64_t ca_until_s, struct arena *a, const struct json **ret, struct error *err)
{
    AUTO(cert_pair_done) struct cert_pair pair = {0};
    const char *dns[5] = {NULL};
    struct str rest = str_of(names), one;
    int64_t valid = v->life.leaf_s;

    for (size_t i = 0; l->service && i < ARRAY_SIZE(dns) - 1 && str_next(&rest, ',', &one); i++)
        dns[i] = arena_strdup(a, one);
    if (v->now_s + valid > ca_until_s) /* it would end with its CA in any case */
        valid = ca_until_s - v->now_s;
    if (!cert_issue(ca,
                    &(struct cert_request){.common_name = l->common_name ? l->common_name : dns[0],
                                           .dns_names = l->service ? dns : NULL,
                                           .server = l->service != NULL,
                                           .client = l->client,
                                           .now_unix_s = v->now_s,
                                           .valid_s = valid},
                    &pair, err))
        return error_wrap(err, "Secret %s", l->secret);
    *ret = secret_of(a, l->secret, &pair, names);
    return true;
}

static bool leaves_plan(const struct certs_view *v, const struct cert_pair *ca, int64_t ca_until_s, int64_t ca_since_s,
                        struct arena *a, struct certs_plan *p, struct error *err)
{
    for (size_t i = 0; i < CERT_LEAVES; i++) {
        const struct cert_leaf *l = &cert_leaves[i];
        const char *names = leaf_names(l, v->ns, a);

        switch (leaf_state(v, v->leaves[i], names, p->ca_bundle, str_of(ca->cert_pem), a, p)) {
        case LEAF_GOOD:
            continue;
        case LEAF_DUE: /* still good: it waits for the CA that will sign it to be known to everybody */
            if (v->now_s < ca_since_s + CERTS_SPREAD_S && v->life.ca_before_s > 2 * CERTS_SPREAD_S) {
                soonest(p, ca_since_s + CERTS_SPREAD_S);
                continue;
            }
            break;
        case LEAF_BAD:
            break;
        }
        if (!leaf_make(v, l, names, ca, ca_until_s, a, &p->leaves[i], err))
            return false;
        tell(p, a, l->secret);
        soonest(p, v->now_s + v->life.leaf_s - v->life.leaf_before_s);
    }
    return true;
}

bool certs_make_plan(const struct certs_view *v, struct arena *a, struct certs_plan *ret, struct error *err)
{
    struct certs_plan p = {0};
    AUTO(cert_pair_done) struct cert_pair ca = {0};
    struct str cert = certs_data(v->ca_secret, "tls.crt", a), key = certs_data(v->ca_secret, "tls.key", a);
    struct cert_facts f = {0};
    int64_t since_s;

    if (ca_good(v, cert, key, &f)) {
        ca = (struct cert_pair){str_dup(cert), str_dup(key)};
    } else {
        const char *name = arena_printf(a, "kubevirt.io@%lld", (long long)v->now_s);

        if (!cert_make_ca(name, v->now_s, v->life.ca_s, &ca, err))
            return false;
        f.until_unix_s = v->now_s + v->life.ca_s;
        p.ca_secret = secret_of(a, CERTS_CA, &ca, NULL);
        tell(&p, a, "CA");
    }
    soonest(&p, f.until_unix_s - v->life.ca_before_s);
    bundle_plan(v, str_of(ca.cert_pem), a, &p, &since_s);
    if (!leaves_plan(v, &ca, f.until_unix_s, since_s, a, &p, err))
        return false;
    if (p.next_s <= v->now_s)
        p.next_s = v->now_s + 1;
    *ret = p;
    return true;
}
