/* apiserver/route - what a request is about, read from its line and headers. */
#include "apiserver/local_call.h"

struct request *request_new(struct apiserver *s)
{
    struct request *r = NEW(struct request);

    r->s = s;
    r->started_ns = loop_now_ns(s->loop);
    r->accept = (struct accept){.ok = true};
    list_add_tail(&s->requests, &r->node);
    return r;
}

void request_free(struct request *r)
{
    if (!r)
        return;
    if (r->x) {
        r->x->user = NULL;
        r->x->closed = NULL;
    }
    pending_forget(r->pending);
    bulk_forget(r->bulk);
    list_scan_forget(r->scan);
    local_forget(r);
    list_remove(&r->node);
    served_unref(r->kind);
    arena_done(&r->arena);
    free(r);
}

static const char *const verb_names[] = {
    [VERB_GET] = "get",         [VERB_LIST] = "list",
    [VERB_WATCH] = "watch",     [VERB_CREATE] = "create",
    [VERB_UPDATE] = "update",   [VERB_PATCH] = "patch",
    [VERB_DELETE] = "delete",   [VERB_DELETE_ALL] = "deletecollection",
    [VERB_CONNECT] = "connect",
};

const char *verb_name(enum verb v)
{
    return verb_names[v];
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static struct str decode(struct str s, struct arena *a)
{
    char *out = arena_alloc_bytes(a, s.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '+') {
            out[n++] = ' ';
        } else if (s.p[i] == '%' && i + 2 < s.n && hex(s.p[i + 1]) >= 0 && hex(s.p[i + 2]) >= 0) {
            out[n++] = (char)(hex(s.p[i + 1]) * 16 + hex(s.p[i + 2]));
            i += 2;
        } else {
            out[n++] = s.p[i];
        }
    }
    out[n] = '\0';
    return str_n(out, n);
}

void query_parse(struct str raw, struct arena *a, struct query_pair **ret, size_t *ret_n)
{
    struct str rest = raw, piece;
    size_t n = 1;

    for (size_t i = 0; i < raw.n; i++)
        n += raw.p[i] == '&';
    *ret = ARENA_ARRAY(a, struct query_pair, n);
    *ret_n = 0;
    if (str_empty(raw))
        return;
    while (str_next(&rest, '&', &piece)) {
        struct str name, value;

        if (str_empty(piece))
            continue;
        if (!str_cut(piece, '=', &name, &value))
            value = STR("");
        (*ret)[(*ret_n)++] = (struct query_pair){decode(name, a), decode(value, a)};
    }
}

struct str query_get(const struct request *r, const char *name)
{
    for (size_t i = 0; i < r->n_query; i++)
        if (str_is(r->query[i].name, name))
            return r->query[i].value;
    return STR_NONE;
}

bool query_true(const struct request *r, const char *name)
{
    struct str v = query_get(r, name);

    return str_is(v, "true") || str_is(v, "1") || str_is(v, "True") || str_is(v, "TRUE")
           || str_is(v, "t") || str_is(v, "T");
}

bool media_is(struct str content_type, const char *type)
{
    struct str media, params;

    str_cut(content_type, ';', &media, &params);
    return str_eq_nocase(str_trim(media), str_of(type));
}

/* One media range of an Accept header; true when we can answer it. *q is its weight in thousandths. */
static bool accept_range(struct str range, bool protobuf, struct accept *ret, int *q)
{
    struct str media, params, p, as = STR_NONE, v = STR_NONE, g = STR_NONE;
    struct accept a = {.ok = true};

    *q = 1000;
    str_cut(range, ';', &media, &params);
    media = str_trim(media);
    while (params.p && str_next(&params, ';', &p)) {
        struct str key, value;

        if (!str_cut(str_trim(p), '=', &key, &value))
            continue;
        if (str_is(key, "as"))
            as = value;
        else if (str_is(key, "v"))
            v = value;
        else if (str_is(key, "g"))
            g = value;
        else if (str_is(key, "q") && value.n > 0 && value.p[0] == '0') {
            *q = 0;
            for (size_t i = 2, unit = 100; i < value.n && unit; i++, unit /= 10)
                *q += value.p[i] >= '0' && value.p[i] <= '9' ? (int)unit * (value.p[i] - '0') : 0;
        }
    }
    if (str_is(media, "application/yaml") || str_is(media, "text/yaml"))
        a.yaml = true;
    else if (protobuf && str_is(media, "application/vnd.kubernetes.protobuf"))
        a.protobuf = true;
    else if (!str_is(media, "application/json") && !str_is(media, "*/*")
             && !str_is(media, "application/*"))
        return false;
    if (as.p) {
        if (!str_is(g, "meta.k8s.io") || !(str_is(v, "v1") || str_is(v, "v1beta1")))
            return false;
        a.v1beta1 = str_is(v, "v1beta1");
        if (str_is(as, "Table"))
            a.form = FORM_TABLE;
        else if (str_is(as, "PartialObjectMetadata") || str_is(as, "PartialObjectMetadataList"))
            a.form = FORM_PARTIAL;
        else
            return false;
        if (a.protobuf && a.form == FORM_TABLE) /* has no such form upstream either */
            return false;
    }
    *ret = a;
    return *q > 0;
}

/* The heaviest range that we can answer, the first of equals. */
void accept_parse(struct str header, bool protobuf, struct accept *ret)
{
    struct str range, rest = header;
    int best = 0, q;

    *ret = (struct accept){.ok = true};
    if (str_empty(str_trim(header)))
        return;
    while (str_next(&rest, ',', &range)) {
        struct accept one;

        if (accept_range(str_trim(range), protobuf, &one, &q) && q > best) {
            *ret = one;
            best = q;
        }
    }
    ret->ok = best > 0;
}

void request_warn(struct request *r, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    if (r->n_warnings == ARRAY_SIZE(r->warnings))
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (size_t i = 0; i < r->n_warnings; i++)
        if (!strcmp(r->warnings[i], text)) /* said already, by another webhook or before a conflict */
            return;
    r->warnings[r->n_warnings++] = arena_strdup(&r->arena, str_of(text));
}

const char *request_manager(struct request *r)
{
    struct str m = query_get(r, "fieldManager"), rest;

    if (str_empty(m))
        str_cut(r->user_agent, '/', &m, &rest);
    if (str_empty(m))
        return r->is_local ? "vireo" : "unknown";
    return arena_strdup(&r->arena, str_take(m, 128));
}
