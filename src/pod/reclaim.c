#include "pod/reclaim.h"

#include <stdlib.h>

#include "api/meta.h"
#include "api/names.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "client/informer.h"
#include "client/queue.h"
#include "json/patch.h"

struct reclaim {
    struct client *client;
    int dirfd;
    struct informer *volumes;
    struct queue *queue;
    struct client_call *call; /* of `busy` */
    char *busy;               /* one at a time: the disk is the bottleneck anyway */
};

static void on_released(void *user, const struct client_response *res)
{
    struct reclaim *r = user;
    AUTO_FREE char *name = TAKE(r->busy);
    bool failed = res->err->kind != ERROR_NONE && res->err->kind != ERROR_NOT_FOUND;

    r->call = NULL;
    if (failed)
        log_warning(name, "volume: %s, retrying", error_text(res->err));
    queue_done(r->queue, str_of(name), failed);
}

static bool remove_data(struct reclaim *r, const struct json *pv, struct error *err)
{
    AUTO(buf_done) struct buf path = {0};

    if (str_is(json_str_at(pv, "spec/persistentVolumeReclaimPolicy"), "Retain"))
        return true;
    /* The object's name is the directory's name; nothing else in it is believed. */
    if (name_dns1123_subdomain(meta_name(pv)))
        return error_set(err, ERROR_INVALID, "not a volume's name");
    buf_addf(&path, "volumes/" STR_FMT, STR_ARG(meta_name(pv)));
    return file_remove_tree(r->dirfd, path.p, err);
}

static void work(void *user, struct str key)
{
    struct reclaim *r = user;
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *pv = informer_get(r->volumes, key, &a), *patch;

    if (!pv || !meta_deleting(pv) || !meta_has_finalizer(pv, RECLAIM_FINALIZER)) {
        queue_done(r->queue, key, false);
        return;
    }
    if (!remove_data(r, pv, &err)) {
        AUTO_FREE char *name = str_dup(key);

        log_warning(name, "volume: %s, retrying", error_text(&err));
        queue_done(r->queue, key, true);
        return;
    }
    patch = json_merge_diff(&a, pv, meta_remove_finalizer(&a, pv, RECLAIM_FINALIZER));
    r->busy = str_dup(key);
    r->call = client_call(r->client, &(struct client_request){.verb = CLIENT_PATCH_MERGE, .group = "", .version = "v1",
                                                              .plural = "persistentvolumes", .name = meta_name(pv), .body = patch},
                          on_released, r);
}

static void on_changed(void *user, struct str key, const struct json *pv, bool deleted)
{
    struct reclaim *r = user;

    if (!deleted && meta_deleting(pv))
        queue_add(r->queue, key);
}

struct reclaim *reclaim_new(struct client *c, int dirfd)
{
    struct reclaim *r = NEW(struct reclaim);

    r->client = c;
    r->dirfd = dirfd;
    r->queue = queue_new(c->loop, 1, work, r);
    r->volumes = informer_new(&(struct informer_config){.client = c, .group = "", .version = "v1", .plural = "persistentvolumes",
                                                        .changed = on_changed, .user = r});
    return r;
}

void reclaim_free(struct reclaim *r)
{
    if (!r)
        return;
    informer_free(r->volumes);
    queue_free(r->queue);
    if (r->call)
        client_cancel(r->client, r->call);
    free(r->busy);
    free(r);
}
