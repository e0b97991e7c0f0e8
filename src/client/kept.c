/* client/kept - objects that are kept for long, as compressed text. A client that lives beside the store has something
 * better: the store's own bytes. */
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "client/client.h"
#include <zstd.h>

enum { LEVEL = 1, COMPRESS_FROM = 512 };

struct kept_text {
    uint32_t text_n, body_n; /* equal: not compressed */
    char body[];
};

/* One of each for the thread that holds informers. */
static _Thread_local ZSTD_CCtx *pack;
static _Thread_local ZSTD_DCtx *unpack;

static const struct json *text_json(const void *p, struct arena *a)
{
    const struct kept_text *k = p;
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;
    char *text = arena_alloc_bytes(a, (size_t)k->text_n + 1);
    bool ok = true;

    if (!unpack && !(unpack = ZSTD_createDCtx()))
        abort();
    if (k->body_n == k->text_n)
        memcpy(text, k->body, k->text_n);
    else
        ok = ZSTD_decompressDCtx(unpack, text, k->text_n, k->body, k->body_n) == k->text_n;
    text[k->text_n] = '\0';
    if (ok && json_parse_borrowed(str_n(text, k->text_n), a, &v, &err))
        return v;
    log_error(NULL, "an object that was kept cannot be read back: %s",
              ok ? error_text(&err) : "damaged");
    return json_object(a, NULL); /* only with broken memory: we have written it */
}

static const struct client_kept_ops text_ops = {.json = text_json, .free = free};

static struct client_kept keep_text(const struct json *object)
{
    AUTO(buf_done) struct buf text = {0};
    struct kept_text *k;
    size_t n = 0;

    json_write(&text, object);
    k = xcalloc(1, sizeof *k + text.n);
    if (!pack && !(pack = ZSTD_createCCtx()))
        abort();
    if (text.n >= COMPRESS_FROM)
        n = ZSTD_compressCCtx(pack, k->body, text.n - text.n / 8, text.p, text.n, LEVEL);
    if (n == 0 || ZSTD_isError(n)) {
        n = text.n;
        memcpy(k->body, text.p, n);
    }
    k->text_n = (uint32_t)text.n;
    k->body_n = (uint32_t)n;
    return (struct client_kept){&text_ops, xrealloc(k, sizeof *k + n, 1)};
}

struct client_kept client_keep(struct client *c, const char *group, const char *version,
                               const char *plural, const struct json *object)
{
    struct client_kept ret;

    if (c->ops->keep && c->ops->keep(c, group, version, plural, object, &ret))
        return ret;
    return keep_text(object);
}

void client_kept_done(struct client_kept *k)
{
    if (k->ops)
        k->ops->free(k->p);
    *k = (struct client_kept){0};
}
