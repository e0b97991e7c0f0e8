/* Dictionaries for compression, one per kind, trained on the first objects of that kind. They hold pieces of those
 * objects for good, so kinds whose objects are somebody's secrets get none. */
#include "store/impl.h"
#include <zdict.h>

enum {
    SAMPLES = 100,
    SAMPLE_BYTES = 512 << 10, /* all together */
    SAMPLE_MIN = 512,
    SAMPLE_MAX = 16 << 10,
    SAMPLES_PER_KEY = 3,      /* states of one object are too alike to learn from */
    DICT_BYTES = 16 << 10,    /* measured: 4 KiB gives half the ratio, 110 KiB nothing more */
};

struct kind {
    char *name;
    struct dict *dict;  /* newest */
    bool tried;         /* no second training in this process */
    struct buf samples;
    size_t sizes[SAMPLES];
    uint64_t keys[SAMPLES];
    unsigned n;
};
struct kinds {
    struct map by_name;
    VEC(struct dict *) all;
    int last_id;
};

struct kinds *kinds_new(void)
{
    return NEW(struct kinds);
}

static void kind_free(void *p)
{
    struct kind *k = p;

    buf_done(&k->samples);
    free(k->name);
    free(k);
}

void kinds_free(struct kinds *k)
{
    if (!k)
        return;
    map_done_with(&k->by_name, kind_free);
    for (size_t i = 0; i < k->all.n; i++)
        dict_unref(k->all.p[i]);
    vec_done(&k->all);
    free(k);
}

/* "/registry/<group>/<plural>/…" up to the plural. */
static struct str kind_of(struct str key)
{
    size_t slashes = 0;

    for (size_t i = 0; i < key.n; i++)
        if (key.p[i] == '/' && ++slashes == 4)
            return str_take(key, i);
    return STR_NONE;
}

static bool is_private(struct str kind)
{
    return str_ends(kind, STR("/secrets")) || str_ends(kind, STR("/configmaps"));
}

static struct kind *kind_get(struct kinds *k, struct str name)
{
    struct kind *kind = map_get(&k->by_name, name);

    if (kind)
        return kind;
    kind = NEW(struct kind);
    kind->name = str_dup(name);
    buf_init(&kind->samples, SAMPLE_BYTES + SAMPLE_MAX);
    (void)map_set(&k->by_name, name, kind);
    return kind;
}

void kinds_add(struct kinds *k, int id, struct str name, struct str bytes)
{
    struct dict *d = dict_new(id, bytes);

    if (!d)
        return; /* rows that need it will be reported */
    vec_push(&k->all, d);
    kind_get(k, name)->dict = d;
    if (id > k->last_id)
        k->last_id = id;
}

struct dict *kinds_by_id(struct kinds *k, int id)
{
    for (size_t i = 0; i < k->all.n; i++)
        if (dict_id(k->all.p[i]) == id)
            return k->all.p[i];
    return NULL;
}

struct dict *kinds_for(struct kinds *k, struct str key)
{
    const struct kind *kind = map_get(&k->by_name, kind_of(key));

    return kind ? kind->dict : NULL;
}

bool kinds_sample(struct kinds *k, struct str key, struct str text)
{
    struct str name = kind_of(key);
    uint64_t hash = str_hash(key);
    struct kind *kind;
    unsigned alike = 0;

    if (!name.p || is_private(name) || text.n < SAMPLE_MIN)
        return false;
    kind = kind_get(k, name);
    if (kind->dict || kind->tried)
        return false;
    for (unsigned i = 0; i < kind->n; i++)
        alike += kind->keys[i] == hash;
    if (alike >= SAMPLES_PER_KEY)
        return false;
    text = str_take(text, SAMPLE_MAX);
    buf_addstr(&kind->samples, text);
    kind->sizes[kind->n] = text.n;
    kind->keys[kind->n++] = hash;
    return kind->n == SAMPLES || kind->samples.n >= SAMPLE_BYTES;
}

bool kinds_train(struct kinds *k, struct str key, int *ret_id, struct str *ret_kind, struct str *ret_bytes)
{
    struct kind *kind = kind_get(k, kind_of(key));
    char *dict = xcalloc(1, DICT_BYTES);
    size_t n = ZDICT_trainFromBuffer(dict, DICT_BYTES, kind->samples.p, kind->sizes, kind->n);

    kind->tried = true;
    buf_done(&kind->samples);
    if (ZDICT_isError(n)) {
        free(dict);
        return false;
    }
    *ret_id = ++k->last_id;
    *ret_kind = str_of(kind->name);
    *ret_bytes = str_n(dict, n);
    return true;
}
