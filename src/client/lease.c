#include "client/lease.h"

#include <stdlib.h>

#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/ident.h"
#include "base/log.h"

struct lease {
    struct lease_config config;
    struct loop *loop;
    char *ns, *name, *identity;
    struct client_call *call;
    struct loop_timer next, deadline;
    struct arena seen_arena;
    const struct json *seen; /* the Lease as it was last, or NULL */
    int64_t changed_ns;      /* when we saw it change; all of these by loop_boot_ns() */
    int64_t sent_ns;         /* when the write that is under way left: others may count from then */
    int64_t renewed_ns;      /* the same of the last one that was accepted */
    bool held;
    bool doubt;   /* the last write may or may not have been done: look before the next */
    bool retried; /* the release */
    void (*released)(void *user);
};

static void look(struct lease *l);
static void write_lease(struct lease *l, const char *holder, client_done_fn done);
static void on_written(void *user, const struct client_response *r);

static void on_next(struct loop_timer *t)
{
    struct lease *l = container_of(t, struct lease, next);

    if (l->held && !l->doubt)
        write_lease(l, l->identity, on_written);
    else
        look(l);
}

static void again(struct lease *l)
{
    loop_timer_start(l->loop, &l->next, LEASE_RETRY, on_next);
}

static void stop(struct lease *l)
{
    loop_timer_stop(&l->next);
    loop_timer_stop(&l->deadline);
    if (l->call)
        client_cancel(l->config.client, l->call);
    l->call = NULL;
}

/* The last that the user hears; it may free us. */
static void lose(struct lease *l)
{
    l->held = false;
    stop(l);
    l->config.lost(l->config.user);
}

static void on_deadline(struct loop_timer *t)
{
    struct lease *l = container_of(t, struct lease, deadline);

    log_error(NULL, "lease %s/%s could not be renewed within %lld s", l->ns, l->name,
              (long long)(LEASE_RENEW_DEADLINE / SECONDS(1)));
    lose(l);
}

static void see(struct lease *l, const struct json *object)
{
    bool same = l->seen && str_eq(meta_resource_version(l->seen), meta_resource_version(object));

    if (same)
        return;
    l->seen = NULL;
    arena_clear(&l->seen_arena);
    l->seen = json_copy(&l->seen_arena, object);
    l->changed_ns = loop_boot_ns(l->loop);
}

/* --- what is written ---------------------------------------------------------------------------------------------------- */

/* The Lease with us, or with nobody, as its holder: whole, or as a patch of the revision that was looked at. */
static const struct json *lease_with(const struct lease *l, const char *holder, struct arena *a)
{
    const struct json *spec = json_get(l->seen, "spec"), *metadata;
    bool ours = str_is(json_str_at(spec, "holderIdentity"), l->identity);
    int64_t transitions = json_i64_at(spec, "leaseTransitions", 0);
    char now[TIME_TEXT_LEN + 1];

    ident_time(loop_unix_ns(l->loop), true, now);
    spec = json_with(a, spec ? spec : json_object(a, NULL), "holderIdentity", json_new_z(a, holder));
    spec = json_with(a, spec, "leaseDurationSeconds", json_new_i64(a, holder[0] ? LEASE_DURATION / SECONDS(1) : 1));
    spec = json_with(a, spec, "renewTime", json_new_z(a, now));
    if (!ours) {
        spec = json_with(a, spec, "acquireTime", json_new_z(a, now));
        spec = json_with(a, spec, "leaseTransitions", json_new_i64(a, l->seen ? transitions + 1 : 0));
    }
    metadata = l->seen ? json_object(a, "resourceVersion", json_at(l->seen, "metadata/resourceVersion"), NULL)
                       : json_object(a, "name", json_new_z(a, l->name), "namespace", json_new_z(a, l->ns), NULL);
    return json_object(a, "apiVersion", json_new_z(a, "coordination.k8s.io/v1"), "kind", json_new_z(a, "Lease"), "metadata",
                       metadata, "spec", spec, NULL);
}

static void on_written(void *user, const struct client_response *r)
{
    struct lease *l = user;

    l->call = NULL;
    bool doubted = l->doubt;

    l->doubt = r->err->kind != ERROR_NONE;
    if (r->err->kind != ERROR_NONE) {
        bool changed = r->err->kind == ERROR_CONFLICT || r->err->kind == ERROR_NOT_FOUND;

        if (!changed && r->err->kind != ERROR_EXISTS)
            log_warning(NULL, "lease %s/%s: %s, retrying", l->ns, l->name, error_text(r->err));
        if (l->held && changed && !doubted)
            look(l);
        else
            again(l);
        return;
    }
    see(l, r->body);
    l->renewed_ns = l->sent_ns;
    loop_timer_start(l->loop, &l->deadline, lease_left_ns(l), on_deadline);
    again(l);
    if (l->held || lease_left_ns(l) == 0) /* an answer that took so long makes nobody a leader */
        return;
    l->held = true;
    log_info(NULL, "lease %s/%s is ours, as %s", l->ns, l->name, l->identity);
    l->config.elected(l->config.user);
}

static void write_lease(struct lease *l, const char *holder, client_done_fn done)
{
    AUTO(arena_done) struct arena a = {0};
    struct client_request r = {.verb = l->seen ? CLIENT_PATCH_MERGE : CLIENT_CREATE,
                               .group = "coordination.k8s.io",
                               .version = "v1",
                               .plural = "leases",
                               .ns = str_of(l->ns),
                               .timeout_ns = LEASE_PATIENCE,
                               .urgent = true,
                               .body = lease_with(l, holder, &a)};

    if (l->seen)
        r.name = str_of(l->name);
    l->sent_ns = loop_boot_ns(l->loop);
    l->call = client_call(l->config.client, &r, done, l);
}

/* --- what is seen --------------------------------------------------------------------------------------------------------- */

/* Nobody's, ours, or of a holder that has not renewed it for as long as it promised to. */
static bool free_to_take(const struct lease *l)
{
    struct str holder = json_str_at(l->seen, "spec/holderIdentity");
    int64_t seconds = json_i64_at(l->seen, "spec/leaseDurationSeconds", LEASE_DURATION / SECONDS(1));

    if (!l->seen || !holder.n || str_is(holder, l->identity))
        return true;
    if (seconds < 1 || seconds > 3600)
        seconds = LEASE_DURATION / SECONDS(1);
    return loop_boot_ns(l->loop) - l->changed_ns >= SECONDS(seconds);
}

static void on_seen(void *user, const struct client_response *r)
{
    struct lease *l = user;

    l->call = NULL;
    if (r->err->kind == ERROR_NOT_FOUND) {
        l->seen = NULL;
    } else if (r->err->kind != ERROR_NONE) {
        log_warning(NULL, "lease %s/%s: %s, retrying", l->ns, l->name, error_text(r->err));
        again(l);
        return;
    } else {
        see(l, r->body);
    }
    if (l->held && l->seen && !str_is(json_str_at(l->seen, "spec/holderIdentity"), l->identity)) {
        log_error(NULL, "lease %s/%s was taken by " STR_FMT, l->ns, l->name,
                  STR_ARG(json_str_at(l->seen, "spec/holderIdentity")));
        lose(l);
    } else if (free_to_take(l)) {
        write_lease(l, l->identity, on_written);
    } else {
        again(l);
    }
}

static void look_with(struct lease *l, client_done_fn seen)
{
    l->call = client_call(l->config.client,
                          &(struct client_request){.verb = CLIENT_GET,
                                                   .group = "coordination.k8s.io",
                                                   .version = "v1",
                                                   .plural = "leases",
                                                   .ns = str_of(l->ns),
                                                   .name = str_of(l->name),
                                                   .timeout_ns = LEASE_PATIENCE,
                                                   .urgent = true},
                          seen, l);
}

static void look(struct lease *l)
{
    look_with(l, on_seen);
}

/* --- life ----------------------------------------------------------------------------------------------------------------- */

struct lease *lease_new(const struct lease_config *c)
{
    struct lease *l = NEW(struct lease);

    l->config = *c;
    l->loop = c->client->loop;
    l->ns = xstrdup(c->ns);
    l->name = xstrdup(c->name);
    l->identity = xstrdup(c->identity);
    look(l);
    return l;
}

bool lease_held(const struct lease *l)
{
    return l->held;
}

int64_t lease_left_ns(const struct lease *l)
{
    int64_t left = l->renewed_ns + LEASE_RENEW_DEADLINE - loop_boot_ns(l->loop);

    return left > 0 ? left : 0;
}

static void on_released(void *user, const struct client_response *r);

static void on_seen_for_release(void *user, const struct client_response *r)
{
    struct lease *l = user;

    l->call = NULL;
    if (r->err->kind == ERROR_NONE && str_is(json_str_at(r->body, "spec/holderIdentity"), l->identity)) {
        see(l, r->body);
        write_lease(l, "", on_released);
    } else {
        l->released(l->config.user);
    }
}

static void on_released(void *user, const struct client_response *r)
{
    struct lease *l = user;

    l->call = NULL;
    if (r->err->kind == ERROR_CONFLICT && !l->retried) { /* with a renewal of ours that was under way */
        l->retried = true;
        look_with(l, on_seen_for_release);
        return;
    }
    if (r->err->kind != ERROR_NONE)
        log_warning(NULL, "lease %s/%s: %s, ignoring: it ends by itself", l->ns, l->name, error_text(r->err));
    l->released(l->config.user);
}

void lease_release(struct lease *l, void (*done)(void *user))
{
    stop(l);
    l->released = done;
    if (!l->held) {
        done(l->config.user);
        return;
    }
    l->held = false;
    write_lease(l, "", on_released);
}

void lease_free(struct lease *l)
{
    if (!l)
        return;
    stop(l);
    arena_done(&l->seen_arena);
    free(l->ns);
    free(l->name);
    free(l->identity);
    free(l);
}
