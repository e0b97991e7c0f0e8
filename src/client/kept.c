/* client/kept - objects that are kept for long, as compressed text. A client that lives beside the store has something
 * better: the store's own bytes.
 *
 * Objects of a kind say mostly the same: names of fields, labels, volumes. A keeper takes some of the first objects that it sees as a
 * dictionary, so that the others shrink to what is their own, some hundred bytes of several thousand. When many more have come it takes
 * younger ones: the first that a controller sees on an empty cluster have no status yet. What was kept by an older dictionary holds a reference to
 * it.
 *
 * Left out is what is for others: metadata.managedFields, and kubectl's copy of what was applied. On real clusters they are half of an
 * object. Nobody who looks at kept objects reads them, and patches are made from differences, in which they do not appear. */
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "client/client.h"
#include <zstd.h>

enum {
    LEVEL = 1, /* with a dictionary nearly as small as higher ones, whose tables are half a megabyte for each kind */
    COMPRESS_FROM = 256,
    SAMPLES = 6, /* objects of a dictionary */
    SAMPLES_BYTES = 48 << 10,
    FIRST_DICTIONARY = 64, /* objects until there is one; and then one at each GROWTH times as many */
    GROWTH = 8,
};

struct dictionary {
    unsigned refs;
    ZSTD_CDict *pack; /* NULL: there is a younger one */
    ZSTD_DDict *unpack;
};

struct keeper {
    struct client *client;
    const char *group, *version, *plural;
    struct dictionary *dictionary;
    size_t seen, next;
    struct buf samples;
};

struct kept_text {
    struct dictionary *dictionary; /* NULL: none */
    uint32_t text_n, body_n;       /* equal: not compressed */
    char body[];
};

/* One of each for the thread that holds informers. */
static _Thread_local ZSTD_CCtx *pack;
static _Thread_local ZSTD_DCtx *unpack;

static void dictionary_unref(struct dictionary *d)
{
    if (!d || --d->refs > 0)
        return;
    ZSTD_freeCDict(d->pack);
    ZSTD_freeDDict(d->unpack);
    free(d);
}

static void text_free(void *p)
{
    dictionary_unref(((struct kept_text *)p)->dictionary);
    free(p);
}

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
    else if (k->dictionary)
        ok = ZSTD_decompress_usingDDict(unpack, text, k->text_n, k->body, k->body_n, k->dictionary->unpack) == k->text_n;
    else
        ok = ZSTD_decompressDCtx(unpack, text, k->text_n, k->body, k->body_n) == k->text_n;
    text[k->text_n] = '\0';
    if (ok && json_parse_borrowed(str_n(text, k->text_n), a, &v, &err))
        return v;
    log_error(NULL, "an object that was kept cannot be read back: %s",
              ok ? error_text(&err) : "damaged");
    return json_object(a, NULL); /* only with broken memory: we have written it */
}

static const struct client_kept_ops text_ops = {.json = text_json, .free = text_free};

/* --- dictionaries --- */

static void take_dictionary(struct keeper *k)
{
    struct dictionary *d = NEW(struct dictionary), *old = k->dictionary;

    d->refs = 1;
    d->pack = ZSTD_createCDict(k->samples.p, k->samples.n, LEVEL);
    d->unpack = ZSTD_createDDict(k->samples.p, k->samples.n);
    buf_done(&k->samples);
    if (!d->pack || !d->unpack)
        abort(); /* only out of memory */
    if (old) {
        ZSTD_freeCDict(old->pack);
        old->pack = NULL;
        dictionary_unref(old);
    }
    k->dictionary = d;
}

/* What is nearer to the end of a dictionary is cheaper to refer to, and the youngest is there. */
static void sample(struct keeper *k, struct str text)
{
    k->seen++;
    if (k->seen + SAMPLES > k->next && k->samples.n + text.n <= SAMPLES_BYTES)
        buf_addstr(&k->samples, text);
    if (k->seen < k->next)
        return;
    k->next *= GROWTH;
    if (k->samples.n)
        take_dictionary(k);
}

/* --- keeping --- */

static const struct json *stripped(const struct json *object, struct arena *a)
{
    static const char *const unread[] = {"metadata/managedFields", "metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration"};

    for (size_t i = 0; i < ARRAY_SIZE(unread); i++)
        if (json_at(object, unread[i]))
            object = json_with_at(a, object, unread[i], NULL);
    return object;
}

static struct client_kept keep_text(struct keeper *keeper, const struct json *object)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf text = {0};
    struct kept_text *k;
    size_t n = 0;

    json_write(&text, stripped(object, &a));
    k = xcalloc(1, sizeof *k + text.n);
    if (!pack && !(pack = ZSTD_createCCtx()))
        abort();
    if (text.n >= COMPRESS_FROM && keeper->dictionary) {
        n = ZSTD_compress_usingCDict(pack, k->body, text.n - text.n / 8, text.p, text.n, keeper->dictionary->pack);
        if (n > 0 && !ZSTD_isError(n)) {
            k->dictionary = keeper->dictionary;
            k->dictionary->refs++;
        }
    } else if (text.n >= COMPRESS_FROM) {
        n = ZSTD_compressCCtx(pack, k->body, text.n - text.n / 8, text.p, text.n, LEVEL);
    }
    if (n == 0 || ZSTD_isError(n)) {
        n = text.n;
        memcpy(k->body, text.p, n);
    }
    k->text_n = (uint32_t)text.n;
    k->body_n = (uint32_t)n;
    sample(keeper, buf_str(&text));
    return (struct client_kept){&text_ops, xrealloc(k, sizeof *k + n, 1)};
}

struct keeper *keeper_new(struct client *c, const char *group, const char *version, const char *plural)
{
    struct keeper *k = NEW(struct keeper);

    *k = (struct keeper){.client = c, .group = group, .version = version, .plural = plural, .next = FIRST_DICTIONARY};
    return k;
}

void keeper_free(struct keeper *k)
{
    if (!k)
        return;
    dictionary_unref(k->dictionary);
    buf_done(&k->samples);
    free(k);
}

struct client_kept keeper_keep(struct keeper *k, const struct json *object)
{
    struct client_kept ret;

    if (k->client->ops->keep && k->client->ops->keep(k->client, k->group, k->version, k->plural, object, &ret))
        return ret;
    return keep_text(k, object);
}

void client_kept_done(struct client_kept *k)
{
    if (k->ops)
        k->ops->free(k->p);
    *k = (struct client_kept){0};
}
