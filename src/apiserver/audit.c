#include "apiserver/audit.h"
#include "api/meta.h"
#include "apiserver/audit_policy.h"
#include "apiserver/internal.h"
#include "apiserver/protobuf.h"
#include "base/ident.h"
#include "base/log.h"
#include "json/yaml.h"

struct audit {
    struct audit_policy *policy;
    struct rotated *log;
    uint64_t events;
    bool warned;
};

struct record {
    struct audit *audit;
    struct loop *loop;
    struct arena arena;
    struct audit_decision d;
    struct access want;
    const char *id, *uri, *verb, *version, *agent, *address, *received;
    const struct json *user, *impersonated, *annotations, *request, *response, *status;
    struct str name; /* known later than `want` when the server chooses it */
};

bool audit_new(const struct audit_config *c, struct audit **ret, struct error *err)
{
    struct audit *a = NEW(struct audit);

    if (audit_policy_parse(c->policy, &a->policy, err) && rotated_open(&c->log, &a->log, err)) {
        *ret = a;
        return true;
    }
    audit_free(a);
    return false;
}

void audit_free(struct audit *a)
{
    if (!a)
        return;
    rotated_close(a->log);
    audit_policy_free(a->policy);
    free(a);
}

void audit_metrics(struct audit *a, struct buf *b)
{
    struct rotated_stats st;

    if (!a)
        return;
    rotated_stats(a->log, &st);
    buf_addf(b,
             "# HELP apiserver_audit_event_total Audit events that were made.\n"
             "# TYPE apiserver_audit_event_total counter\napiserver_audit_event_total %llu\n"
             "# HELP apiserver_audit_error_total Audit events that were lost: the disk did not "
             "take them, or did not keep up.\n"
             "# TYPE apiserver_audit_error_total "
             "counter\napiserver_audit_error_total{plugin=\"log\"} %llu\n",
             (unsigned long long)a->events, (unsigned long long)(st.dropped + st.failed));
}

/* Texts of the client are UTF-8 in the log, whatever they were. */
static const char *clean(struct arena *a, struct str s)
{
    char *copy = arena_strdup(a, s.p ? s : STR(""));

    if (!str_valid_utf8(s))
        for (char *p = copy; *p; p++)
            if (*p & 0x80)
                *p = '?';
    return copy;
}

static const char *now(const struct record *r, struct arena *a)
{
    char *text = arena_alloc_bytes(a, TIME_TEXT_LEN + 1);

    ident_time(loop_unix_ns(r->loop), true, text);
    return text;
}

static const struct json *object_ref(const struct record *r, struct arena *a)
{
    const struct access *w = &r->want;
    struct str name = w->name.n ? w->name : r->name;

    if (w->path.p)
        return NULL;
    return json_object(a, "resource", json_new_str(a, w->resource), "namespace",
                       w->ns.n ? json_new_str(a, w->ns) : NULL, "name",
                       name.n ? json_new_str(a, name) : NULL, "apiGroup",
                       w->group.n ? json_new_str(a, w->group) : NULL, "apiVersion",
                       json_new_z(a, r->version), "subresource",
                       w->subresource.n ? json_new_str(a, w->subresource) : NULL, NULL);
}

static void emit(struct record *r, enum audit_stage stage, int code)
{
    struct arena a = {0};
    AUTO(buf_done) struct buf line = {0};
    bool body = stage == AUDIT_COMPLETE;
    const struct json *status = r->status;

    if (r->d.omit & 1u << stage) {
        return;
    }
    if (!status && stage != AUDIT_RECEIVED)
        status = json_object(&a, "metadata", json_object(&a, NULL), "code", json_new_i64(&a, code),
                             NULL);
    json_write(&line, json_object(
                          &a, "kind", json_new_z(&a, "Event"), "apiVersion",
                          json_new_z(&a, "audit.k8s.io/v1"), "level",
                          json_new_z(&a, audit_level_name(r->d.level)), "auditID",
                          json_new_z(&a, r->id), "stage", json_new_z(&a, audit_stage_name(stage)),
                          "requestURI", json_new_z(&a, r->uri), "verb", json_new_z(&a, r->verb),
                          "user", r->user ? r->user : json_object(&a, NULL), "impersonatedUser",
                          r->impersonated, "sourceIPs",
                          r->address ? json_array(&a, json_new_z(&a, r->address), NULL) : NULL,
                          "userAgent", *r->agent ? json_new_z(&a, r->agent) : NULL, "objectRef",
                          object_ref(r, &a), "responseStatus", status, "requestObject",
                          body && r->d.level >= AUDIT_REQUEST ? r->request : NULL, "responseObject",
                          body && r->d.level >= AUDIT_REQUEST_RESPONSE ? r->response : NULL,
                          "requestReceivedTimestamp", json_new_z(&a, r->received), "stageTimestamp",
                          json_new_z(&a, stage == AUDIT_RECEIVED ? r->received : now(r, &a)),
                          "annotations", r->annotations, NULL));
    r->audit->events++;
    if (line.overflow || !rotated_write(r->audit->log, buf_str(&line))) {
        if (!r->audit->warned)
            log_warning(NULL, "audit: the disk does not keep up, events are lost "
                              "(apiserver_audit_error_total counts them)");
        r->audit->warned = true;
    }
    arena_done(&a);
}

static void record_free(struct exchange *x)
{
    struct record *r = x->observer;

    x->observe = NULL;
    x->observer = NULL;
    arena_done(&r->arena);
    free(r);
}

static void observed(struct exchange *x, int status, enum exchange_stage stage)
{
    struct record *r = x->observer;

    switch (stage) {
    case EXCHANGE_STREAMS:
        emit(r, AUDIT_STARTED, status);
        return;
    case EXCHANGE_ANSWERED:
        emit(r, AUDIT_COMPLETE, status);
        break;
    case EXCHANGE_GONE:
        if (!status)
            r->status =
                json_object(&r->arena, "metadata", json_object(&r->arena, NULL), "status",
                            json_new_z(&r->arena, "Failure"), "message",
                            json_new_z(&r->arena, "the client went away before the answer"), NULL);
        emit(r, AUDIT_COMPLETE, status);
        break;
    }
    record_free(x);
}

static struct record *record_of(const struct request *r)
{
    return r->x ? r->x->observer : NULL;
}

/* "127.0.0.1" of "127.0.0.1:4711", "::1" of "[::1]:4711"; NULL for a local socket. */
static const char *address_of(const struct http_peer *peer, struct arena *a)
{
    struct str all = str_of(peer ? peer->address : ""), host, port;

    if (!str_rcut(all, ':', &host, &port) || (peer && peer->local))
        return NULL;
    if (str_starts(host, STR("[")))
        host = str_take(str_skip(host, 1), host.n - 2);
    return arena_strdup(a, host);
}

static struct str keep(struct arena *a, struct str s)
{
    return s.p ? arena_str(a, s) : s;
}

/* What was sent, as JSON; absent when it cannot be read. */
static const struct json *sent(const struct request *r, struct arena *a)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;

    if (!r->body.n)
        return NULL;
    if (media_is(r->content_type, "application/vnd.kubernetes.protobuf"))
        return protobuf_object(r->body, a, &v, &err) ? v : NULL;
    if (media_is(r->content_type, "application/yaml")
        || media_is(r->content_type, "application/apply-patch+yaml"))
        return yaml_parse_one(r->body, a, &v, &err) ? v : NULL;
    return json_parse(r->body, a, &v, &err) ? v : NULL;
}

static const struct json *without_managed_fields(struct arena *a, const struct json *o)
{
    const struct json *items = json_get(o, "items"), *out;

    if (json_at(o, "metadata/managedFields"))
        o = json_with_at(a, o, "metadata/managedFields", NULL);
    if (!json_is(items, JSON_ARRAY))
        return o;
    out = json_array(a, NULL);
    json_each_item(it, items)
        out = json_append(a, out,
                          json_at(it, "metadata/managedFields")
                              ? json_with_at(a, it, "metadata/managedFields", NULL)
                              : it);
    return json_with(a, o, "items", out);
}

static struct record *record_new(struct request *r, const struct identity *who,
                                 const struct access *want)
{
    struct audit *audit = r->s->config.audit;
    struct audit_decision d = audit_policy_decide(audit->policy, who, want);
    struct record *c;
    struct arena *a;

    if (d.level == AUDIT_NONE)
        return NULL;
    c = NEW(struct record);
    a = &c->arena;
    c->audit = audit;
    c->loop = r->s->loop;
    c->d = d;
    c->want = (struct access){.verb = keep(a, want->verb),
                              .group = keep(a, want->group),
                              .resource = keep(a, want->resource),
                              .subresource = keep(a, want->subresource),
                              .ns = keep(a, want->ns),
                              .name = keep(a, want->name),
                              .path = keep(a, want->path)};
    c->id = clean(a, str_take(str_of(r->audit_id), 64));
    c->uri = clean(a, r->x->target);
    c->verb = c->want.verb.p;
    c->version = r->version ? arena_strdup(a, str_of(r->version)) : NULL;
    c->agent = clean(a, r->user_agent);
    c->address = address_of(r->x->peer, a);
    c->received = now(c, a);
    c->user = who ? json_copy(a, user_info(a, who)) : NULL;
    r->x->observer = c;
    r->x->observe = observed;
    return c;
}

void audit_begin(struct request *r, const struct access *want)
{
    struct record *c;

    if (!r->s->config.audit || !r->x)
        return;
    c = record_new(r, &r->who, want);
    if (!c)
        return;
    emit(c, AUDIT_RECEIVED, 0);
    if (c->d.level >= AUDIT_REQUEST) {
        c->request = sent(r, &c->arena);
        if (c->request && c->d.omit_managed_fields)
            c->request = without_managed_fields(&c->arena, c->request);
    }
}

void audit_refused(struct request *r, const struct access *want)
{
    struct record *c;
    struct arena *a;

    if (!r->s->config.audit || !r->x)
        return;
    c = record_new(r, NULL, want);
    if (!c)
        return;
    a = &c->arena;
    c->status = json_object(a, "metadata", json_object(a, NULL), "status", json_new_z(a, "Failure"),
                            "message",
                            json_new_z(a, "Authentication failed, no credentials that are known"),
                            "code", json_new_i64(a, 401), NULL);
    emit(c, AUDIT_STARTED, 401);
    record_free(r->x);
}

void audit_impersonated(struct request *r)
{
    struct record *c = record_of(r);

    if (c && r->impersonator)
        c->impersonated = json_copy(&c->arena, user_info(&c->arena, &r->who));
}

void audit_annotate(struct request *r, const char *key, const char *value)
{
    struct record *c = record_of(r);

    if (c)
        c->annotations =
            json_with(&c->arena, c->annotations ? c->annotations : json_object(&c->arena, NULL),
                      key, json_new_str(&c->arena, str_of(clean(&c->arena, str_of(value)))));
}

bool audit_wants_response(const struct request *r)
{
    const struct record *c = record_of(r);

    return c && c->d.level >= AUDIT_REQUEST_RESPONSE;
}

void audit_response(struct request *r, int code, const struct json *value)
{
    struct record *c = record_of(r);

    if (!c)
        return;
    if (r->name.n && !c->want.name.n)
        c->name = arena_str(&c->arena, r->name);
    if (code >= 400 && str_is(json_str_at(value, "kind"), "Status"))
        c->status =
            json_copy(&c->arena, json_with(&r->arena, json_with(&r->arena, value, "kind", NULL),
                                           "apiVersion", NULL));
    if (value && c->d.level >= AUDIT_REQUEST_RESPONSE)
        c->response = json_copy(
            &c->arena, c->d.omit_managed_fields ? without_managed_fields(&r->arena, value) : value);
}
