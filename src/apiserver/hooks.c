/* apiserver/hooks - webhooks: the configurations, ready to be asked, and the asking.
 *
 * Everything else in this server runs from reading an object to queueing its write without a break, so that a write never
 * meets a conflict of its own making. A webhook breaks that: it may take seconds. So the way with webhooks and the way
 * without are one way with two stops (admission.c): where no webhook matches, hooks_ask() calls on at once and nothing is
 * different; where one matches, the request is parked in here and goes on from the callback of the last answer. Meanwhile the
 * world goes on: what is then written is written only if the object is still the one that was admitted (commit() with its
 * revision), and a conflict starts the request anew where upstream does, a few times.
 *
 * A parked request holds a reference to each webhook it asks, so a configuration may go meanwhile; its client may go, too
 * (hooks_cancel(): the calls are cancelled, nothing is written); and the server may close (the same, and 503). A webhook has at
 * most timeoutSeconds, all of them together what is left of the request's minute. Nothing that a webhook says is held in
 * memory beyond ANSWER_MAX, and no more than PARKED_MAX requests are parked at a time. */
#include "apiserver/hooks.h"
#include "api/meta.h"
#include "apiserver/admit.h"
#include "base/ident.h"
#include "base/log.h"
#include "http/tls.h"

#define ANSWER_MAX (4u << 20)
#define PARKED_MAX 1000
#define REQUEST_MAX SECONDS(60)

struct hooks {
    struct apiserver *s;
    struct store_watch *watches[2];
    bool stale;
    VEC(struct hook *) all; /* mutating ones and validating ones, each in order */
    size_t parked;
};

struct hook_call {
    struct admission_run *run;
    size_t at;
    struct http_call *http; /* NULL: over */
    char uid[UUID_LEN + 1];
    const struct json *object; /* what was sent, for patches */
    struct hook_outcome outcome;
    const char *url; /* with its query, for messages */
};

/* Configurations. */

static const char *const prefixes[] = {
    "/registry/admissionregistration.k8s.io/mutatingwebhookconfigurations/",
    "/registry/admissionregistration.k8s.io/validatingwebhookconfigurations/"};

static bool config_changed(void *user, const struct store_event *e)
{
    (void)e;
    ((struct hooks *)user)->stale = true;
    return true;
}

void hook_unref(struct hook *h)
{
    if (--h->refs)
        return;
    http_client_free(h->client);
    http_tls_free(h->tls);
    arena_done(&h->arena);
    free(h);
}

/* https://host[:port][/path] */
static bool url_read(struct hook *h, struct str url, struct str *ret_host, unsigned *ret_port)
{
    struct arena *a = &h->arena;
    struct str rest = str_skip(url, strlen("https://")), host = rest, path = STR("/"), port;
    AUTO(error_clear) struct error err = {0};
    uint64_t n = 443;

    if (!str_starts(url, STR("https://")))
        return false;
    for (size_t i = 0; i < rest.n; i++)
        if (rest.p[i] == '/') {
            host = str_take(rest, i);
            path = str_skip(rest, i);
            break;
        }
    if (str_starts(host, STR("["))) { /* an IPv6 address */
        struct str before;

        if (!str_cut(str_skip(host, 1), ']', &before, &port))
            return false;
        host = before;
        if (port.n && (port.p[0] != ':' || !parse_u64(str_skip(port, 1), 65535, &n, &err)))
            return false;
    } else if (str_cut(host, ':', &host, &port) && !parse_u64(port, 65535, &n, &err)) {
        return false;
    }
    *ret_host = host;
    *ret_port = (unsigned)n;
    h->url = arena_printf(a, STR_FMT "%s", STR_ARG(url),
                          str_is(path, "/") && url.p[url.n - 1] != '/' ? "/" : "");
    h->path = arena_strdup(a, path);
    return host.n > 0 && n > 0;
}

static const struct cel_variable variables[HOOK_VARIABLES] = {
    {"object", NULL}, {"oldObject", NULL}, {"request", NULL}};
const struct cel_env hook_env = {variables, HOOK_VARIABLES};

static bool compile(struct hook *h, struct error *err)
{
    const struct json *list = json_get(h->spec, "matchConditions");
    struct hook_condition *c = ARENA_ARRAY(&h->arena, struct hook_condition, json_len(list) + 1);

    json_each_item(v, list) {
        struct str text = json_str_at(v, "expression");

        c[h->n_conditions].text = arena_strdup(&h->arena, text);
        if (!cel_compile(&h->arena, &hook_env, text, &c[h->n_conditions].program, err))
            return false;
        h->n_conditions++;
    }
    h->conditions = c;
    return true;
}

static bool prepare(struct hook *h, struct loop *loop, struct error *err)
{
    struct str bundle = json_str_at(h->spec, "clientConfig/caBundle"), host;
    AUTO(buf_done) struct buf pem = {0};
    struct http_tls_config tc = {0};
    struct http_client_config cc = {.loop = loop, .user_agent = "kube-apiserver-admission"};

    if (!url_read(h, json_str_at(h->spec, "clientConfig/url"), &host, &cc.port))
        return error_set(err, ERROR_INVALID, "not a https:// URL");
    if (bundle.n) {
        if (!buf_add_base64_decoded(&pem, bundle, err))
            return false;
        buf_addc(&pem, '\0');
        tc.ca_pem = pem.p;
    }
    cc.host = arena_strdup(&h->arena, host);
    h->tls = http_tls_new(&tc, err);
    if (!h->tls)
        return false;
    cc.tls = h->tls;
    cc.connect_timeout_ns = h->timeout_ns;
    h->client = http_client_new(&cc);
    return true;
}

struct hook *hook_new(const struct json *spec, struct str config, bool mutating, struct loop *loop)
{
    struct hook *h = NEW(struct hook);
    struct arena *a = &h->arena;
    AUTO(error_clear) struct error err = {0};

    h->refs = 1;
    h->mutating = mutating;
    h->spec = json_copy(a, spec);
    h->config = arena_strdup(a, config);
    h->name = arena_strdup(a, json_str_at(h->spec, "name"));
    h->ignore_failure = str_is(json_str_at(h->spec, "failurePolicy"), "Ignore");
    h->exact = str_is(json_str_at(h->spec, "matchPolicy"), "Exact");
    h->again = str_is(json_str_at(h->spec, "reinvocationPolicy"), "IfNeeded");
    h->timeout_ns = SECONDS(json_i64_at(h->spec, "timeoutSeconds", 10));
    h->url = h->path = "";
    if (!label_selector_from(json_get(h->spec, "namespaceSelector"), a, &h->namespaces, &err)
        || !label_selector_from(json_get(h->spec, "objectSelector"), a, &h->objects, &err)
        || !compile(h, &err) || !prepare(h, loop, &err))
        h->broken = arena_strdup(a, str_of(error_text(&err)));
    return h;
}

/* The same webhook as before keeps its connections. */
static struct hook *taken_over(struct hooks *h, const struct json *spec, struct str config,
                               bool mutating)
{
    for (size_t i = 0; i < h->all.n; i++) {
        struct hook *old = h->all.p[i];

        if (old->mutating == mutating && str_is(config, old->config) && json_eq(old->spec, spec)) {
            old->refs++;
            return old;
        }
    }
    return NULL;
}

static void refresh(struct hooks *h)
{
    struct hooks fresh = {.s = h->s};

    for (size_t i = 0; i < 2; i++) {
        AUTO(store_list_done) struct store_list list = {0};
        AUTO(error_clear) struct error err = {0};
        struct arena a = {0};

        if (store_list(h->s->store, str_of(prefixes[i]), STR_NONE, 0, 0, NULL, NULL, &list, &err))
            for (size_t j = 0; j < list.n; j++) {
                const struct json *config = store_object_json(list.p[j], &a);

                json_each_item(spec, json_get(config, "webhooks")) {
                    struct hook *hook = taken_over(h, spec, meta_name(config), i == 0);

                    vec_push(&fresh.all,
                             hook ? hook : hook_new(spec, meta_name(config), i == 0, h->s->loop));
                }
            }
        arena_done(&a);
    }
    for (size_t i = 0; i < h->all.n; i++)
        hook_unref(h->all.p[i]);
    vec_done(&h->all);
    h->all.p = fresh.all.p;
    h->all.n = fresh.all.n;
    h->all.cap = fresh.all.cap;
    h->stale = false;
}

struct hooks *hooks_new(struct apiserver *s)
{
    struct hooks *h = NEW(struct hooks);
    AUTO(error_clear) struct error err = {0};

    h->s = s;
    h->stale = true;
    for (size_t i = 0; i < 2; i++) {
        h->watches[i] = store_watch_start(s->store, str_of(prefixes[i]), store_revision(s->store),
                                          config_changed, h, &err);
        if (!h->watches[i])
            log_error("webhooks", "%s", error_text(&err));
    }
    return h;
}

void hooks_free(struct hooks *h)
{
    if (!h)
        return;
    for (size_t i = 0; i < 2; i++)
        store_watch_stop(h->watches[i]);
    for (size_t i = 0; i < h->all.n; i++)
        hook_unref(h->all.p[i]);
    vec_done(&h->all);
    free(h);
}

struct hook **hooks_match(struct admission_run *run, bool mutating, size_t *ret_n)
{
    struct hooks *h = run->r->s->hooks;
    struct hook **found = NULL;
    size_t n = 0;

    *ret_n = 0;
    if (h->stale)
        refresh(h);
    if (!h->all.n || hooks_exempt(run->r->kind->info))
        return NULL;
    for (size_t i = 0; i < h->all.n; i++) {
        if (h->all.p[i]->mutating != mutating || !hook_matches(run, h->all.p[i]))
            continue;
        if (!found)
            found = xcalloc(h->all.n, sizeof *found);
        found[n] = h->all.p[i];
        found[n++]->refs++;
    }
    *ret_n = n;
    return found;
}

/* Asking. */

static void done(void *user, int status, struct str body, const struct error *err);
static void go_on(struct admission_run *run);

static void unpark(struct request *r)
{
    if (!r->parked)
        return;
    r->parked = NULL;
    r->s->hooks->parked--;
}

static void unref_all(struct hook **asked, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hook_unref(asked[i]);
    free(asked);
}

static void release(struct admission_run *run)
{
    unref_all(run->asked, run->n_asked);
    run->asked = NULL;
    run->n_asked = 0;
    unpark(run->r);
}

void hooks_cancel(struct admission_run *run)
{
    for (size_t i = 0; i < run->n_asked; i++)
        if (run->calls[i] && run->calls[i]->http) {
            http_call_cancel(run->calls[i]->http);
            run->calls[i]->http = NULL;
        }
    release(run);
}

static void fail(struct hook_call *c, const char *message)
{
    c->outcome = (struct hook_outcome){.verdict = HOOK_FAILED, .message = message};
}

/* Starts one call; false when there is none to wait for. */
static bool start(struct admission_run *run, size_t at)
{
    struct request *r = run->r;
    struct arena *a = &r->arena;
    struct hook *h = run->asked[at];
    struct hook_call *c = ARENA_NEW(a, struct hook_call);
    int64_t left = r->started_ns + REQUEST_MAX - loop_now_ns(r->s->loop);
    AUTO(buf_done) struct buf body = {0};
    const struct json *review;
    const char *why;
    struct http_request q = {.method = HTTP_POST,
                             .content_type = STR("application/json"),
                             .body_limit = ANSWER_MAX,
                             .done = done,
                             .user = c};

    run->calls[at] = c;
    c->run = run;
    c->at = at;
    switch (hook_interest(run, h, &why)) {
    case HOOK_WANTS:
        break;
    case HOOK_PASSES:
        return false; /* allowed, as it stands */
    case HOOK_CANNOT_TELL:
        c->outcome = (struct hook_outcome){.verdict = HOOK_UNCLEAR, .message = why};
        return false;
    }
    c->url = arena_printf(a, "%s?timeout=%llds", h->url, (long long)(h->timeout_ns / SECONDS(1)));
    ident_uuid4(c->uid);
    if (h->broken || left <= 0) {
        fail(c, arena_printf(a, "failed to call webhook: Post \"%s\": %s", c->url,
                             h->broken ? h->broken : "context deadline exceeded"));
        return false;
    }
    review = hook_review(run, h, c->uid, hook_version(run, h));
    c->object = json_at(review, "request/object");
    json_write(&body, review);
    q.body = buf_str(&body);
    q.path = str_of(
        arena_printf(a, "%s?timeout=%llds", h->path, (long long)(h->timeout_ns / SECONDS(1))));
    q.timeout_ns = left < h->timeout_ns ? left : h->timeout_ns;
    c->http = http_client_call(h->client, &q);
    if (!c->http) {
        fail(c, "failed to call webhook: the server is shutting down");
        return false;
    }
    run->n_calls++;
    return true;
}

static const char *said(int status, struct str body, struct arena *a)
{
    if (status == 404)
        return "the server could not find the requested resource";
    if (status >= 500)
        return arena_printf(
            a, "an error on the server (\"" STR_FMT "\") has prevented the request from succeeding",
            STR_ARG(str_take(str_trim(body), 256)));
    return arena_printf(a, "the server rejected our request for an unknown reason (status %d)",
                        status);
}

static void done(void *user, int status, struct str body, const struct error *err)
{
    struct hook_call *c = user;
    struct admission_run *run = c->run;
    struct request *r = run->r;
    struct arena *a = &r->arena;
    struct hook *h = run->asked[c->at];

    c->http = NULL;
    run->n_calls--;
    if (err->kind != ERROR_NONE)
        fail(c, arena_printf(a, "failed to call webhook: Post \"%s\": %s", c->url,
                             err->kind == ERROR_TIMEOUT ? "context deadline exceeded"
                                                        : error_text(err)));
    else if (status < 200 || status > 299)
        fail(c, arena_printf(a, "failed to call webhook: %s", said(status, body, a)));
    else
        hook_answer(r, h, c->uid, body, run->mutating && run->object ? c->object : NULL,
                    &c->outcome);
    go_on(run);
}

/* True when the request goes on; else it is answered. */
static bool judge(struct admission_run *run, size_t at)
{
    struct request *r = run->r;
    struct arena *a = &r->arena;
    const struct hook *h = run->asked[at];
    const struct hook_outcome o = run->calls[at]->outcome;
    const char *name = arena_strdup(a, str_of(h->name));

    switch (o.verdict) {
    case HOOK_ALLOWED:
        return true;
    case HOOK_DENIED:
        release(run);
        answer_status(
            r, (int)json_i64_at(o.status, "code", 400),
            json_get(o.status, "reason") ? arena_strdup(a, json_str_at(o.status, "reason")) : NULL,
            arena_strdup(a, json_str_at(o.status, "message")), json_get(o.status, "details"));
        return false;
    case HOOK_FAILED:
        if (h->ignore_failure) {
            log_warning("webhooks", "%s: failed calling webhook, failing open: %s", h->name,
                        o.message);
            return true;
        }
        log_warning("webhooks", "%s: failed calling webhook: %s", h->name, o.message);
        release(run);
        answer_status(
            r, 500, "InternalError",
            arena_printf(a, "Internal error occurred: failed calling webhook \"%s\": %s", name,
                         o.message),
            json_object(a, "causes",
                        json_array(a,
                                   json_object(a, "message",
                                               json_new_f(a, "failed calling webhook \"%s\": %s",
                                                          name, o.message),
                                               NULL),
                                   NULL),
                        NULL));
        return false;
    case HOOK_UNCLEAR:
        release(run);
        return admit_forbid(r, o.message);
    case HOOK_BROKE:
        release(run);
        answer_status(r, 500, "InternalError",
                      arena_printf(a, "Internal error occurred: %s", o.message), NULL);
        return false;
    }
    __builtin_unreachable();
}

static void park(struct admission_run *run)
{
    struct request *r = run->r;

    if (r->parked)
        return;
    /* A caller in this process keeps its body no longer than its call. */
    if (r->body_json && !r->was_parked)
        r->body_json = json_copy(&r->arena, r->body_json);
    r->parked = run;
    r->was_parked = true;
    r->s->hooks->parked++;
}

static void finished(struct admission_run *run)
{
    release(run);
    run->then(run);
}

/* All have answered: the first that refuses, in the order of their configurations, has the word. */
static void validated(struct admission_run *run)
{
    if (run->n_calls)
        return;
    for (size_t i = 0; i < run->n_asked; i++)
        if (!judge(run, i))
            return;
    finished(run);
}

/* What a patch made of the object, as an object of the kind again; its identity is not the webhook's to change. */
static bool take_patch(struct admission_run *run, const struct json *patched)
{
    static const char *const fixed[] = {
        "name", "namespace", "uid", "creationTimestamp", "resourceVersion", "generation"};
    struct request *r = run->r;
    struct arena *a = &r->arena;
    struct json_dups none = {0};
    const struct json *next = patched, *meta;

    if (str_is(r->subresource, "scale")) {
        run->object = scale_taken(r, run->object, patched);
        return true;
    }
    if (!str_is(r->subresource, "eviction") && !str_is(r->subresource, "binding")) {
        meta = json_get(next, "metadata");
        for (size_t i = 0; i < ARRAY_SIZE(fixed); i++)
            meta =
                json_with(a, meta, fixed[i], json_get(json_get(run->object, "metadata"), fixed[i]));
        next = json_with(a, next, "metadata", meta);
        if (!object_typed(r, next, &none, true, &next))
            return false;
    }
    run->object = next;
    return true;
}

static bool wants_again(const struct admission_run *run, size_t at)
{
    return !run->second || (run->asked[at]->again && !json_eq(run->seen[at], run->object));
}

/* One after the other; those that ask for it once more when a later one has changed the object. */
static void mutated(struct admission_run *run)
{
    while (run->n_calls == 0) {
        if (run->at < run->n_asked && run->calls[run->at]) { /* it has answered */
            const struct hook_outcome *o = &run->calls[run->at]->outcome;

            if (!judge(run, run->at))
                return;
            if (o->verdict == HOOK_ALLOWED && o->patched
                && !json_eq(o->patched, run->calls[run->at]->object)) {
                struct hook **asked = run->asked;
                size_t n = run->n_asked;

                unpark(run->r);
                if (!take_patch(run, o->patched)) { /* and answered: run is gone */
                    unref_all(asked, n);
                    return;
                }
                run->changed = true;
            }
            run->seen[run->at] = run->object;
            run->calls[run->at] = NULL;
            run->at++;
        }
        while (run->at < run->n_asked && !wants_again(run, run->at))
            run->at++;
        if (run->at == run->n_asked) {
            if (run->second || !run->changed) {
                finished(run);
                return;
            }
            run->second = true;
            run->at = 0;
            continue;
        }
        if (start(run, run->at))
            park(run);
    }
}

static void go_on(struct admission_run *run)
{
    if (run->mutating)
        mutated(run);
    else
        validated(run);
}

void hooks_ask(struct admission_run *run, bool mutating, void (*then)(struct admission_run *run))
{
    struct request *r = run->r;
    size_t n;
    struct hook **asked = hooks_match(run, mutating, &n);

    run->mutating = mutating;
    run->then = then;
    run->asked = asked;
    run->n_asked = n;
    run->at = run->n_calls = 0;
    run->second = false;
    if (!n) {
        then(run);
        return;
    }
    if (r->s->hooks->parked >= PARKED_MAX && !r->parked) {
        release(run);
        answer_status(r, 429, "TooManyRequests",
                      "too many requests wait for webhooks, please try again later", NULL);
        return;
    }
    run->calls = ARENA_ARRAY(&r->arena, struct hook_call *, n);
    run->seen = ARENA_ARRAY(&r->arena, const struct json *, n);
    if (!mutating)
        for (size_t i = 0; i < n; i++)
            if (start(run, i))
                park(run);
    go_on(run);
}
