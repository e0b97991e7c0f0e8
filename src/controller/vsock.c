#include "controller/vsock.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"

struct vsock_id {
    uint32_t cid;
    char *uid;
};

static struct str decimal(uint32_t cid, char text[16])
{
    snprintf(text, 16, "%u", cid);
    return str_of(text);
}

static struct vsock_id *holder(const struct vsock_ids *v, uint32_t cid)
{
    char text[16];

    return map_get(&v->by_cid, decimal(cid, text));
}

void vsock_gone(struct vsock_ids *v, struct str key)
{
    struct vsock_id *id = map_del(&v->by_key, key);
    char text[16];

    if (!id)
        return;
    map_del(&v->by_cid, decimal(id->cid, text));
    free(id->uid);
    free(id);
}

/* What this instance holds. One of the same name that was there before it has left, even if nobody saw it go. */
static struct vsock_id *own(struct vsock_ids *v, struct str key, struct str uid)
{
    struct vsock_id *id = map_get(&v->by_key, key);

    if (!id || str_is(uid, id->uid))
        return id;
    vsock_gone(v, key);
    return NULL;
}

static void give(struct vsock_ids *v, struct str key, struct str uid, uint32_t cid)
{
    struct vsock_id *id = NEW(struct vsock_id);
    char text[16];

    id->cid = cid;
    id->uid = str_dup(uid);
    map_set(&v->by_key, key, id);
    map_set(&v->by_cid, decimal(cid, text), id);
}

void vsock_seen(struct vsock_ids *v, struct str key, struct str uid, int64_t cid)
{
    if (own(v, key, uid) || cid < v->first || cid > v->last || holder(v, (uint32_t)cid))
        return;
    give(v, key, uid, (uint32_t)cid);
}

uint32_t vsock_take(struct vsock_ids *v, struct str key, struct str uid, uint32_t chance)
{
    const struct vsock_id *id = own(v, key, uid);
    uint64_t size = (uint64_t)v->last - v->first + 1;
    uint32_t cid = v->first + (uint32_t)(chance % size);

    if (id)
        return id->cid;
    if (v->by_cid.n >= size)
        return 0;
    while (holder(v, cid))
        cid = cid == v->last ? v->first : cid + 1;
    give(v, key, uid, cid);
    return cid;
}

void vsock_done(struct vsock_ids *v)
{
    struct str key;
    size_t at = 0;
    void *value;

    while (map_next(&v->by_key, &at, &key, &value)) {
        struct vsock_id *id = value;

        free(id->uid);
        free(id);
    }
    map_done(&v->by_key);
    map_done(&v->by_cid);
}
