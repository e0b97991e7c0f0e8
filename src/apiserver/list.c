/* apiserver/list - lists: which revision, which page, which objects, in which form. */
#include "apiserver/list_items.h"

struct page {
    int64_t revision; /* 0: the newest */
    int64_t limit;
    struct str start; /* key, absent: the first */
    bool continued;
};

static void forbidden_option(struct request *r, const char *message)
{
    answer_invalid_one(r, "ListOptions", "meta.k8s.io", "", "FieldValueForbidden",
                       "resourceVersionMatch", message);
}

bool read_revision(struct request *r, struct str rv, int64_t *ret)
{
    AUTO(error_clear) struct error err = {0};
    uint64_t v = 0;

    *ret = -1;
    if (str_empty(rv))
        return true;
    if (!parse_u64(rv, INT64_MAX, &v, &err)) {
        answer_status(
            r, 400, "BadRequest",
            arena_printf(&r->arena,
                         "invalid resource version: resourceVersion: Invalid value: \"" STR_FMT
                         "\": strconv.ParseUint: parsing \"" STR_FMT "\": invalid syntax",
                         STR_ARG(rv), STR_ARG(rv)),
            NULL);
        return false;
    }
    *ret = (int64_t)v;
    if (*ret > store_revision(r->s->store)) {
        const struct json *cause =
            json_object(&r->arena, "reason", json_new_z(&r->arena, "ResourceVersionTooLarge"),
                        "message", json_new_z(&r->arena, "Too large resource version"), NULL);

        answer_status(r, 504, "Timeout",
                      arena_printf(&r->arena,
                                   "Timeout: Too large resource version: %lld, current: %lld",
                                   (long long)*ret, (long long)store_revision(r->s->store)),
                      json_object(&r->arena, "causes", json_array(&r->arena, cause, NULL),
                                  "retryAfterSeconds", json_new_i64(&r->arena, 1), NULL));
        return false;
    }
    return true;
}

/* Unpadded base64url; bits behind the last byte may be anything. */
static bool decode_token(struct str token, struct buf *out, struct error *err)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned bits = 0, n = 0;

    for (size_t i = 0; i < token.n; i++) {
        const char *at = token.p[i] ? strchr(alphabet, token.p[i]) : NULL;

        if (!at)
            return error_set(err, ERROR_BAD_REQUEST, "illegal base64 data at input byte %zu", i);
        bits = (bits << 6 | (unsigned)(at - alphabet)) & 0xffff;
        n += 6;
        if (n >= 8) {
            n -= 8;
            buf_addc(out, (char)(bits >> n & 0xff));
        }
    }
    if (token.n % 4 == 1)
        return error_set(err, ERROR_BAD_REQUEST, "illegal base64 data at input byte %zu",
                         token.n - 1);
    return buf_ok(out, "continue token", err);
}

/* {"v":"meta.k8s.io/v1","rv":366,"start":"/list-1\u0000"} */
static bool read_continue(struct request *r, struct str token, struct str prefix, struct page *ret)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v;
    struct str start;

    buf_init(&b, 64u << 10);
    if (!decode_token(token, &b, &err) || !json_parse(buf_str(&b), &r->arena, &v, &err)) {
        unsigned char first = b.n ? (unsigned char)b.p[0] : 0;
        const char *why = arena_strdup(&r->arena, str_of(error_text(&err)));

        if (b.n && !strchr(" \t\r\n{[\"-0123456789tfn", first)) /* as Go's decoder says it */
            why = arena_printf(&r->arena,
                               first >= ' ' && first < 0x7f
                                   ? "invalid character '%c' looking for beginning of value"
                                   : "invalid character '\\u%04x' looking for beginning of value",
                               first);
        answer_status(
            r, 400, "BadRequest",
            arena_printf(&r->arena, "invalid continue token: continue key is not valid: %s", why),
            NULL);
        return false;
    }
    start = json_str_at(v, "start");
    if (!str_is(json_str_at(v, "v"), "meta.k8s.io/v1") || str_empty(start)) {
        answer_status(r, 400, "BadRequest", "invalid continue token: continue key is not valid",
                      NULL);
        return false;
    }
    if (start.p[0] == '/')
        start = str_skip(start, 1);
    ret->revision = json_i64_at(v, "rv", -1);
    if (ret->revision < 0)
        ret->revision = 0;
    ret->continued = true;
    {
        char *key = arena_alloc_bytes(&r->arena, prefix.n + start.n + 1);

        memcpy(key, prefix.p, prefix.n);
        memcpy(key + prefix.n, start.p, start.n);
        key[prefix.n + start.n] = '\0';
        ret->start = str_n(key, prefix.n + start.n);
    }
    return true;
}

static bool read_page(struct request *r, struct str prefix, struct page *ret)
{
    struct str match = query_get(r, "resourceVersionMatch"), rv = query_get(r, "resourceVersion"),
               token = query_get(r, "continue"), limit = query_get(r, "limit");
    AUTO(error_clear) struct error err = {0};
    int64_t revision;

    *ret = (struct page){0};
    if (!str_empty(limit) && !parse_i64(limit, 0, INT64_MAX, &ret->limit, &err)) {
        answer_status(
            r, 400, "BadRequest",
            arena_printf(&r->arena, "limit: Invalid value: \"" STR_FMT "\"", STR_ARG(limit)), NULL);
        return false;
    }
    if (!str_empty(match) && str_empty(rv)) {
        forbidden_option(
            r, "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided");
        return false;
    }
    if (!str_empty(match) && !str_empty(token)) {
        forbidden_option(r,
                         "Forbidden: resourceVersionMatch is forbidden when continue is provided");
        return false;
    }
    if (!str_empty(match) && !str_is(match, "Exact") && !str_is(match, "NotOlderThan")) {
        answer_invalid_one(r, "ListOptions", "meta.k8s.io", "", "FieldValueNotSupported",
                           "resourceVersionMatch",
                           arena_printf(&r->arena,
                                        "Unsupported value: \"" STR_FMT
                                        "\": supported values: \"Exact\", \"NotOlderThan\", \"\"",
                                        STR_ARG(match)));
        return false;
    }
    if (str_is(match, "Exact") && str_is(rv, "0")) {
        forbidden_option(
            r, "Forbidden: resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"");
        return false;
    }
    if (!str_empty(token)) {
        if (!str_empty(rv) && !str_is(rv, "0")) {
            answer_status(r, 400, "BadRequest",
                          "specifying resource version is not allowed when using continue", NULL);
            return false;
        }
        return read_continue(r, token, prefix, ret);
    }
    if (!read_revision(r, rv, &revision))
        return false;
    if (revision == 0)
        ret->limit = 0;
    if (revision > 0 && (str_is(match, "Exact") || (str_empty(match) && ret->limit > 0)))
        ret->revision = revision;
    return true;
}

static const char *continue_token(struct request *r, int64_t revision, struct str prefix,
                                  struct str last_key, bool slash)
{
    struct arena *a = &r->arena;
    AUTO(buf_done) struct buf b = {0}, text = {0}, start = {0};
    const struct json *v;

    if (slash)
        buf_addc(&start, '/');
    buf_addstr(&start, str_skip(last_key, prefix.n));
    buf_addc(&start, '\0');
    v = json_object(a, "v", json_new_z(a, "meta.k8s.io/v1"), "rv", json_new_i64(a, revision),
                    "start", json_new_str(a, buf_str(&start)), NULL);
    json_write(&text, v);
    buf_add_base64url(&b, text.p, text.n);
    return arena_strdup(a, buf_str(&b));
}

static void answer_expired(struct request *r, const struct page *page, struct str prefix)
{
    struct arena *a = &r->arena;
    const struct json *status;

    if (!page->continued) {
        answer_status(r, 410, "Expired", "The resourceVersion for the provided list is too old.",
                      NULL);
        return;
    }
    status = status_value(
        a, 410, "Expired",
        "The provided continue parameter is too old to display a consistent list result. You can "
        "start a new list without the continue parameter, or use the continue token in this "
        "response "
        "to retrieve the remainder of the results. Continuing with the provided token results in "
        "an "
        "inconsistent list - objects that were created, modified, or deleted between the time the "
        "first chunk was returned and now may show up in the list.",
        NULL);
    status = json_with_at(
        a, status, "metadata/continue",
        json_new_z(a,
                   continue_token(r, -1, prefix, str_take(page->start, page->start.n - 1), false)));
    answer_json(r, 410, status);
}

static const struct json *list_meta(struct request *r, const struct store_list *l,
                                    struct str prefix, bool filtered)
{
    struct arena *a = &r->arena;
    const char *token = NULL;
    const struct json *revision = json_new_f(a, "%lld", (long long)l->revision), *remaining = NULL;

    if (l->next_key && l->n)
        token = continue_token(r, l->revision, prefix, store_object_key(l->p[l->n - 1]), true);
    if (token && !filtered && l->remaining > 0)
        remaining = json_new_i64(a, l->remaining);
    /* Lists of custom resources always say whether there is more. */
    if (kind_custom(r->kind->info) && r->accept.form == FORM_OBJECT)
        return json_object(a, "continue", json_new_z(a, token ? token : ""), "remainingItemCount",
                           remaining, "resourceVersion", revision, NULL);
    return json_object(a, "resourceVersion", revision, "continue", json_new_z(a, token),
                       "remainingItemCount", remaining, NULL);
}

/* For callers in this process, and for eyes: as a tree. */
static void answer_tree(struct request *r, const struct json *meta, const struct store_list *l)
{
    const struct kind_info *k = r->kind->info;
    struct arena *a = &r->arena;
    const struct json **items = ARENA_ARRAY(a, const struct json *, l->n + 1);
    bool bare = !kind_custom(k);
    const struct json *v;

    for (size_t i = 0; i < l->n; i++) {
        items[i] = present(r, store_object_json(l->p[i], a));
        if (r->accept.form == FORM_PARTIAL)
            items[i] = partial_object(items[i], r->accept.v1beta1, a);
        else if (bare && !r->is_local && r->accept.form == FORM_OBJECT)
            items[i] = json_with(a, json_with(a, items[i], "kind", NULL), "apiVersion", NULL);
    }
    if (r->accept.form == FORM_TABLE) {
        answer_json(r, 200,
                    table_value(r->s, k, meta, items, l->n, query_get(r, "includeObject"),
                                r->accept.v1beta1, a));
        return;
    }
    if (r->accept.form == FORM_PARTIAL) {
        answer_json(
            r, 200,
            json_object(a, "kind", json_new_z(a, "PartialObjectMetadataList"), "apiVersion",
                        json_new_z(a, r->accept.v1beta1 ? "meta.k8s.io/v1beta1" : "meta.k8s.io/v1"),
                        "metadata", meta, "items", json_array_n(a, items, l->n), NULL));
        return;
    }
    v = json_object(a, "kind", json_new_z(a, k->list_kind), "apiVersion",
                    json_new_z(a, group_version(k->group, r->version, a)), "metadata", meta,
                    "items", json_array_n(a, items, l->n), NULL);
    answer_json(r, 200, bare || r->is_local ? v : order_sorted(a, v));
}

enum { AUDITED_ITEMS = 500 };

static void answer_list(struct request *r, struct store_list *list, bool filtered)
{
    struct str prefix = kind_prefix(r->kind->info, r->ns, &r->arena);
    const struct json *meta = list_meta(r, list, prefix, filtered);

    bool noted = audit_wants_response(r);

    if (noted && list->n > AUDITED_ITEMS) { /* a log takes no copy of everything */
        audit_annotate(r, "vireo.io/response-omitted", "a list of more than 500 objects");
        noted = false;
    }
    if (r->x && !r->accept.yaml && !r->accept.protobuf && !noted)
        answer_list_items(r, meta, list);
    else
        answer_tree(r, meta, list);
}

static void answer_filtered(struct request *r, struct store_list *list)
{
    answer_list(r, list, true);
}

/* One object by name needs no walk over all of them. */
static void list_one(struct request *r, const struct selection *sel)
{
    struct str key = kind_key(r->kind->info, r->ns, selection_name(sel), &r->arena);
    AUTO(store_list_done) struct store_list list = {.revision = store_revision(r->s->store)};
    AUTO(arena_done) struct arena a = {0};
    struct store_object *o = store_get(r->s->store, key);

    if (o && list_match(r, sel, o, &a))
        vec_push(&list, o);
    else
        store_object_unref(o);
    answer_list(r, &list, true);
}

void rest_list(struct request *r)
{
    struct str prefix = kind_prefix(r->kind->info, r->ns, &r->arena);
    struct selection *sel = selection_new(r);
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(error_clear) struct error err = {0};
    struct page page;
    bool filtered;

    if (!sel || !read_page(r, prefix, &page))
        return;
    filtered = !selection_is_empty(sel);
    if (filtered && selection_name(sel).p && (r->ns.p || !kind_namespaced(r->kind->info))
        && !page.continued && page.revision == 0) {
        list_one(r, sel);
        return;
    }
    if (!store_list(r->s->store, prefix, page.start, filtered ? 0 : (size_t)page.limit,
                    page.revision, NULL, NULL, &list, &err)) {
        if (err.kind == ERROR_GONE)
            answer_expired(r, &page, prefix);
        else if (err.kind == ERROR_INVALID) /* of the future: a token that we did not give */
            answer_status(r, 400, "BadRequest",
                          "invalid continue token: its revision has not come yet", NULL);
        else
            answer_error(r, &err);
        return;
    }
    if (filtered)
        list_scan(r, sel, (size_t)page.limit, &list, answer_filtered);
    else
        answer_list(r, &list, false);
}
