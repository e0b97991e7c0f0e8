/* apiserver/documents - /openapi/v2 and /openapi/v3: made from the tables when first asked for, kept for a while.
 *
 * A document's text is large and asked for rarely: it is dropped a minute after its last use. Its hash stays as long as
 * the set of kinds, so that the index and "not modified" cost nothing. */
#include "api/openapi.h"
#include "apiserver/internal.h"
#include <openssl/sha.h>

#define KEEP_NS SECONDS(60)

struct document {
    char *path; /* "api/v1", "apis/kubevirt.io/v1", "v2", "v2.proto" */
    char *etag; /* hex */
    struct block *text;
    int64_t used_ns;
};

struct documents {
    struct apiserver *s;
    uint64_t generation;
    VEC(struct document) docs;
    struct loop_timer drop;
};

static void clear(struct documents *d)
{
    for (size_t i = 0; i < d->docs.n; i++) {
        free(d->docs.p[i].path);
        free(d->docs.p[i].etag);
        block_unref(d->docs.p[i].text);
    }
    d->docs.n = 0;
}

void documents_free(struct documents *d)
{
    if (!d)
        return;
    clear(d);
    vec_done(&d->docs);
    loop_timer_stop(&d->drop);
    free(d);
}

static void drop_unused(struct loop_timer *t)
{
    struct documents *d = container_of(t, struct documents, drop);
    int64_t now = loop_now_ns(d->s->loop);
    bool left = false;

    for (size_t i = 0; i < d->docs.n; i++) {
        struct document *doc = &d->docs.p[i];

        if (doc->text && now - doc->used_ns >= KEEP_NS) {
            block_unref(doc->text);
            doc->text = NULL;
        }
        left |= doc->text != NULL;
    }
    if (left)
        loop_timer_start(d->s->loop, &d->drop, KEEP_NS, drop_unused);
}

static struct documents *documents(struct apiserver *s)
{
    if (!s->documents) {
        s->documents = NEW(struct documents);
        s->documents->s = s;
    }
    if (s->documents->generation != s->kinds_generation) {
        clear(s->documents);
        s->documents->generation = s->kinds_generation;
    }
    return s->documents;
}

/* "api/v1" → "", "v1"; "apis/g/v" → g, v */
static bool path_group(struct str path, struct str *group, struct str *version)
{
    if (str_starts(path, STR("apis/")))
        return str_cut(str_skip(path, 5), '/', group, version) && !str_has(*version, '/');
    if (!str_starts(path, STR("api/")))
        return false;
    *group = STR("");
    *version = str_skip(path, 4);
    return true;
}

static bool served_path(struct apiserver *s, struct str path)
{
    struct str group, version;

    if (!path_group(path, &group, &version))
        return false;
    for (size_t i = 0; i < s->kinds.n; i++)
        if (str_is(group, s->kinds.p[i]->info->group) && served_has_version(s->kinds.p[i], version))
            return true;
    return false;
}

static struct block *make(struct apiserver *s, struct str path)
{
    struct arena a = {0};
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};
    const struct kind_info **kinds;
    size_t n = catalog_versions(s, &kinds);
    struct str group, version;
    struct block *block;

    if (str_is(path, "v2") || str_is(path, "v2.proto")) {
        const struct json *doc = openapi_v2(&a, kinds, n);

        if (str_is(path, "v2"))
            json_write(&b, doc);
        else if (!openapi_v2_proto(&b, doc, &err))
            buf_clear(&b);
    } else if (path_group(path, &group, &version)) {
        json_write(&b,
                   openapi_v3(&a, arena_strdup(&a, group), arena_strdup(&a, version), kinds, n));
    }
    free(kinds);
    arena_done(&a);
    block = block_new(buf_str(&b));
    return block;
}

static struct document *document(struct apiserver *s, struct str path, bool text)
{
    struct documents *d = documents(s);
    struct document *doc = NULL;

    for (size_t i = 0; i < d->docs.n && !doc; i++)
        if (str_is(path, d->docs.p[i].path))
            doc = &d->docs.p[i];
    if (!doc) {
        vec_push(&d->docs, (struct document){.path = str_dup(path)});
        doc = &d->docs.p[d->docs.n - 1];
    }
    if (!doc->text && (text || !doc->etag)) {
        unsigned char digest[SHA512_DIGEST_LENGTH];
        AUTO(buf_done) struct buf hex = {0};

        doc->text = make(s, path);
        if (!doc->etag) {
            SHA512((const unsigned char *)doc->text->p, doc->text->n, digest);
            for (size_t i = 0; i < sizeof digest; i++)
                buf_addf(&hex, "%02X", digest[i]);
            doc->etag = buf_detach(&hex);
        }
        if (!loop_timer_active(&d->drop))
            loop_timer_start(s->loop, &d->drop, KEEP_NS, drop_unused);
    }
    doc->used_ns = loop_now_ns(s->loop);
    return doc;
}

static void send_document(struct request *r, struct str path, const char *type)
{
    struct document *doc = document(r->s, path, true);
    struct exchange *x = r->x;
    const char *etag = arena_printf(&r->arena, "\"%s\"", doc->etag);

    exchange_set_header(x, "ETag", str_of(etag));
    exchange_set_header(x, "Vary", STR("Accept"));
    if (str_is(exchange_header(x, "if-none-match"), etag)) {
        answer_text(r, 304, type, STR(""));
        return;
    }
    exchange_set_header(x, "Cache-Control", STR("no-cache, private"));
    request_finished(r, 200);
    x->user = NULL;
    x->closed = NULL;
    r->x = NULL;
    exchange_respond_block(x, 200, type, block_ref(doc->text));
    request_free(r);
}

static void index_v3(struct request *r)
{
    AUTO(buf_done) struct buf b = {0};
    struct apiserver *s = r->s;
    struct arena *a = &r->arena;
    const struct json *paths = json_object(a, NULL);

    for (size_t i = 0; i < s->kinds.n; i++) {
        const struct kind_info *k = s->kinds.p[i]->info;

        for (size_t j = 0; k->versions && k->versions[j]; j++) {
            const char *path = *k->group ? arena_printf(a, "apis/%s/%s", k->group, k->versions[j])
                                         : arena_printf(a, "api/%s", k->versions[j]);

            if (json_get(paths, path))
                continue;
            paths = json_with(a, paths, path,
                              json_object(a, "serverRelativeURL",
                                          json_new_f(a, "/openapi/v3/%s?hash=%s", path,
                                                     document(s, str_of(path), false)->etag),
                                          NULL));
        }
    }
    json_write(&b, json_object(a, "paths", paths, NULL));
    answer_text(r, 200, "text/plain; charset=utf-8", buf_str(&b)); /* upstream's type of it */
}

bool documents_handle(struct request *r)
{
    struct str path = r->path, accept = exchange_header(r->x, "accept");
    size_t at;

    if (r->x->method != HTTP_GET && r->x->method != HTTP_HEAD)
        return false;
    if (str_is(path, "/openapi/v2")) {
        bool proto = accept.p && str_find(accept, STR("proto-openapi.spec.v2"), &at);

        send_document(r, proto ? STR("v2.proto") : STR("v2"),
                      proto ? "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
                            : "application/json");
        return true;
    }
    if (str_is(path, "/openapi/v3") || str_is(path, "/openapi/v3/")) {
        index_v3(r);
        return true;
    }
    if (!str_starts(path, STR("/openapi/v3/")))
        return false;
    path = str_skip(path, strlen("/openapi/v3/"));
    if (!served_path(r->s, path)) {
        answer_text(r, 404, "text/plain; charset=utf-8", STR(""));
        return true;
    }
    send_document(r, path, "application/json");
    return true;
}
