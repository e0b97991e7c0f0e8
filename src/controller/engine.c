#include "controller/engine.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "loop/loop.h"

/* A write whose event never comes: planned on what there is after that time. */
#define EXPECT_NS SECONDS(20)
/* Between tries of what an API server had no ear for. */
#define AWAY_MAX_NS SECONDS(5)

/* The actions of one plan, from the first call to the last answer. */
struct job {
    struct key_state *k;
    struct plan plan;
    struct arena arena;
    struct job_call {
        struct job *job;
        struct client_call *call;
        int64_t held; /* the revision that the informer had */
    } calls[PLAN_ACTIONS];
    size_t running;
    bool failed;
    bool away; /* and that because of the API server, not of what was asked */
};

static void job_free(struct job *j)
{
    if (!j)
        return;
    for (size_t i = 0; i < PLAN_ACTIONS; i++)
        if (j->calls[i].call)
            client_cancel(j->k->engine->c->client, j->calls[i].call);
    arena_done(&j->arena);
    free(j);
}

static void expect_clear(struct key_state *k)
{
    for (size_t i = 0; i < k->expected.n; i++)
        free(k->expected.p[i].key);
    k->expected.n = 0;
}

static void failure_clear(struct key_state *k)
{
    free(k->failure_reason);
    free(k->failure_message);
    k->failure_reason = k->failure_message = NULL;
}

static void key_free(void *p)
{
    struct key_state *k = p;

    job_free(k->job);
    expect_clear(k);
    vec_done(&k->expected);
    failure_clear(k);
    free(k->key);
    free(k);
}

struct failure key_failure(const struct key_state *k, struct arena *a)
{
    if (!k->failure_reason)
        return (struct failure){NULL, NULL};
    return (struct failure){arena_strdup(a, str_of(k->failure_reason)),
                            arena_strdup(a, str_of(k->failure_message))};
}

/* Own writes */

static bool expectation_met(struct controllers *c, const struct expectation *e)
{
    struct informer *i = c->informers[e->resource];

    if (informer_revision(i) >= e->revision)
        return true;
    return e->gone && informer_revision_of(i, str_of(e->key)) == 0;
}

static bool expectations_met(struct key_state *k)
{
    for (size_t i = 0; i < k->expected.n; i++)
        if (!expectation_met(k->engine->c, &k->expected.p[i]))
            return false;
    expect_clear(k);
    return true;
}

static void expect(struct key_state *k, enum resource_id r, const char *key, int64_t revision,
                   bool gone)
{
    if (!k->engine->c->informers[r])
        return; /* not one that plans look at */
    vec_push(&k->expected,
             (struct expectation){
                 .resource = r, .key = xstrdup(key), .revision = revision, .gone = gone});
    k->expected_until_ns = loop_now_ns(k->engine->c->loop) + EXPECT_NS;
}

static int64_t revision_of(const struct json *object)
{
    AUTO(error_clear) struct error err = {0};
    int64_t revision = 0;

    return parse_i64(meta_resource_version(object), 0, INT64_MAX, &revision, &err) ? revision : 0;
}

/* Answers */

static void say(struct job *j, const struct notice *n, const char *text)
{
    if (n->reason)
        recorder_event(j->k->engine->recorder, j->plan.about, n->type, n->reason, "%s",
                       n->message ? n->message : text);
}

static void job_end(struct job *j)
{
    struct key_state *k = j->k;
    struct engine *e = k->engine;
    AUTO_FREE char *key = xstrdup(k->key);
    int64_t again_ns = j->plan.again_ns;
    bool failed = j->failed, away = j->away;

    k->job = NULL;
    if (!failed
        && k->failure_reason) { /* it has gone well, or is no longer tried: planned once more, without the failure */
        failure_clear(k);
        queue_add(e->queue, str_of(key));
    }
    job_free(j);
    if (!failed)
        queue_forget(e->queue, str_of(key));
    if (again_ns > 0)
        queue_add_after(e->queue, str_of(key), again_ns);
    if (!k->expected.n && !k->failure_reason && !k->noticed_ns) {
        map_del(&e->keys, str_of(key));
        key_free(k);
    } else if (!failed) {
        /* The event of the last write, which brings the key back, may have come before its answer. */
        if (k->expected.n && expectations_met(k))
            queue_add(e->queue, str_of(key));
        else if (k->expected.n)
            queue_add_after(e->queue, str_of(key), EXPECT_NS);
    }
    if (failed && away)
        queue_done_within(e->queue, str_of(key), AWAY_MAX_NS);
    else
        queue_done(e->queue, str_of(key), failed);
}

/* Races that the next plan settles by looking again; nothing to tell anybody. */
static bool is_race(enum error_kind kind)
{
    return kind == ERROR_CONFLICT || kind == ERROR_NOT_FOUND || kind == ERROR_UNAVAILABLE
           || kind == ERROR_TIMEOUT || kind == ERROR_TOO_MANY;
}

static void action_failed(struct job *j, const struct action *act, const struct error *err)
{
    struct key_state *k = j->k;

    j->failed = true;
    j->away |= err->kind == ERROR_UNAUTHORIZED || err->kind == ERROR_UNAVAILABLE || err->kind == ERROR_TIMEOUT || err->kind == ERROR_TOO_MANY || err->kind == ERROR_INTERNAL;
    if (is_race(err->kind)) {
        log_debug(k->key, "%s: %s", j->k->engine->name, error_text(err));
        return;
    }
    log_warning(k->key, "%s: %s, retrying", j->k->engine->name, error_text(err));
    if (!act->failed.reason)
        return;
    say(j, &act->failed, error_text(err));
    failure_clear(k);
    k->failure_reason = xstrdup(act->failed.reason);
    k->failure_message = xstrdup(error_text(err));
}

static void on_done(void *user, const struct client_response *r)
{
    struct job_call *call = user;
    struct job *j = call->job;
    const struct action *act = &j->plan.actions[call - j->calls];
    AUTO(arena_done) struct arena a = {0};
    enum error_kind kind = r->err->kind;
    const struct json *object = act->kind == ACTION_CREATE ? act->body : act->object;
    const char *key = meta_key(object, &a);

    call->call = NULL;
    if (act->kind == ACTION_CREATE && kind == ERROR_EXISTS) {
        /* Not yet seen: ours from a plan whose answer was lost, or one that the next plan judges. Seen, and yet to be made: it
         * is somebody else's and stands in the way. */
        if (call->held == 0)
            j->failed = true;
        else
            action_failed(j, act, r->err);
    } else if (act->kind == ACTION_DELETE && kind == ERROR_NOT_FOUND) {
        expect(j->k, act->resource, key, call->held + 1, true);
    } else if (kind != ERROR_NONE) {
        action_failed(j, act, r->err);
    } else {
        int64_t revision = revision_of(r->body);

        if (act->kind == ACTION_DELETE)
            expect(j->k, act->resource, key, revision > call->held ? revision : call->held + 1,
                   true);
        else if (revision > 0) /* the last finalizer's removal ends an object */
            expect(j->k, act->resource, key, revision, act->kind != ACTION_CREATE);
        say(j, &act->done, "");
    }
    if (--j->running == 0)
        job_end(j);
}

static void act_on(struct job *j, size_t i)
{
    static const enum client_verb verbs[] = {
        [ACTION_CREATE] = CLIENT_CREATE,
        [ACTION_PATCH] = CLIENT_PATCH_MERGE,
        [ACTION_PATCH_STATUS] = CLIENT_PATCH_MERGE,
        [ACTION_CONDITION] = CLIENT_PATCH_STRATEGIC,
        [ACTION_BIND] = CLIENT_CREATE,
        [ACTION_DELETE] = CLIENT_DELETE,
    };
    struct controllers *c = j->k->engine->c;
    const struct action *act = &j->plan.actions[i];
    const struct resource *r = &resources[act->resource];
    const struct json *object = act->kind == ACTION_CREATE ? act->body : act->object;
    struct client_request request = {.verb = verbs[act->kind],
                                     .group = r->group,
                                     .version = r->version,
                                     .plural = r->plural,
                                     .ns = meta_namespace(object),
                                     .body = act->body};

    if (act->kind != ACTION_CREATE)
        request.name = meta_name(object);
    if (act->kind == ACTION_PATCH_STATUS || act->kind == ACTION_CONDITION)
        request.subresource = "status";
    else if (act->kind == ACTION_BIND)
        request.subresource = "binding";
    j->calls[i].job = j;
    if (c->informers[act->resource])
        j->calls[i].held =
            informer_revision_of(c->informers[act->resource], str_of(meta_key(object, &j->arena)));
    j->running++;
    j->calls[i].call = client_call(c->client, &request, on_done, &j->calls[i]);
}

static void work(void *user, struct str key)
{
    struct engine *e = user;
    struct key_state *k = map_get(&e->keys, key);
    struct job *j;

    if (!k) {
        k = NEW(struct key_state);
        k->engine = e;
        k->key = str_dup(key);
        map_set(&e->keys, key, k);
    }
    if (!controllers_synced(e->c)) {
        /* Plans need the whole view; whoever gets the last list brings every key back. */
        map_del(&e->keys, key);
        queue_done(e->queue, str_of(k->key), false);
        key_free(k);
        return;
    }
    if (!expectations_met(k)) {
        int64_t left = k->expected_until_ns - loop_now_ns(e->c->loop);

        if (left > 0) {
            queue_add_after(e->queue, key, left);
            queue_done(e->queue, str_of(k->key), false); /* the event of our write brings it back */
            return;
        }
        log_warning(k->key, "%s: a write has not come back, planning without it", e->name);
        for (size_t i = 0; i < k->expected.n; i++)
            informer_doubt(e->c->informers[k->expected.p[i].resource]);
        expect_clear(k);
    }
    j = NEW(struct job);
    j->k = k;
    j->plan.a = &j->arena;
    k->job = j;
    e->plan(e->c, k, &j->plan);
    for (size_t i = 0; i < j->plan.n_notices; i++)
        say(j, &j->plan.notices[i], "");
    if (j->plan.n_actions == 0) {
        job_end(j);
        return;
    }
    for (size_t i = 0; i < j->plan.n_actions; i++)
        act_on(j, i);
}

void engine_init(struct engine *e, struct controllers *c, const char *name, unsigned parallel,
                 struct recorder *r,
                 void (*plan)(struct controllers *c, struct key_state *k, struct plan *p))
{
    *e = (struct engine){.c = c, .name = name, .recorder = r, .plan = plan};
    e->queue = queue_new(c->loop, parallel, work, e);
}

void engine_done(struct engine *e)
{
    queue_free(e->queue);
    map_done_with(&e->keys, key_free);
}
