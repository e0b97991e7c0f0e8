/* The operator's writes: many under way, each answered for in what is remembered of its object. */
#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "json/patch.h"
#include "operator/internal.h"

#define EXPECT_NS SECONDS(20)
#define RETRY_NS MILLIS(200)
#define RACES 4              /* so many in a row are none */
#define FIGHT_NS SECONDS(60) /* repairs closer together than that are a fight */
#define FIGHT_AT 3
#define HOLD_NS SECONDS(10) /* the first while that an object is left alone; doubled up to … */
#define HOLD_MAX_NS SECONDS(300)

static void op_free(struct op *op)
{
    list_remove(&op->node);
    if (op->call)
        client_cancel(op->o->client, op->call);
    free(op->key);
    free(op->title);
    free(op);
}

static void expected_clear(struct operator* o)
{
    for (size_t i = 0; i < o->expected.n; i++)
        free(o->expected.p[i].key);
    o->expected.n = 0;
}

void act_done(struct operator* o)
{
    list_each_safe(n, &o->ops)
        op_free(container_of(n, struct op, node));
    expected_clear(o);
    vec_done(&o->expected);
}

static bool expected_met(const struct expected *e)
{
    if (e->gone && informer_revision_of(e->informer, str_of(e->key)) == 0)
        return true;
    return informer_revision(e->informer) >= e->revision;
}

bool act_settled(struct operator* o)
{
    if (!list_empty(&o->ops))
        return false;
    for (size_t i = 0; i < o->expected.n; i++)
        if (!expected_met(&o->expected.p[i])) {
            int64_t left = o->expected_until_ns - loop_now_ns(o->loop);

            if (left > 0) {
                operator_later(o, left);
                return false;
            }
            log_warning(o->expected.p[i].key, "a write has not come back, going on without it");
            break;
        }
    expected_clear(o);
    return true;
}

static int64_t revision_of(const struct json *object)
{
    AUTO(error_clear) struct error err = {0};
    int64_t revision = 0;

    return parse_i64(meta_resource_version(object), 0, INT64_MAX, &revision, &err) ? revision : 0;
}

static void expect(struct op *op, const struct json *answer, bool gone)
{
    struct operator* o = op->o;
    int64_t revision = revision_of(answer);

    if (!op->informer || (!gone && revision <= op->held))
        return;
    vec_push(&o->expected,
             (struct expected){op->informer, xstrdup(op->key), revision > op->held ? revision : op->held + 1, gone});
    o->expected_until_ns = loop_now_ns(o->loop) + EXPECT_NS;
}

/* What of an object tells that somebody has changed it. */
static int64_t state_of(const struct json *object)
{
    return meta_generation(object) > 0 ? meta_generation(object) : revision_of(object);
}

/* Servers leave out what they do not know and rewrite what they know better. What is so right after our own write is no change by
 * somebody else. */
static void accept(struct op *op, const struct json *answer)
{
    AUTO(arena_done) struct arena a = {0};
    const struct components *all = &op->o->target.components;

    for (size_t i = 0; i < all->n; i++)
        if (all->p[i].kind == op->managed && strcmp(all->p[i].key, op->key) == 0
            && component_difference(all->p[i].object, answer, &a)) {
            memory_of(op->o, op->managed, op->key)->accepted = state_of(answer);
            log_debug(op->title, "the server has it otherwise: %s", component_difference(all->p[i].object, answer, &a));
        }
}

bool act_accepted(const struct memory *m, const struct json *live)
{
    return m->accepted > 0 && m->accepted == state_of(live);
}

/* -- answers -------------------------------------------------------------------------------------------- */

/* Races that looking again settles. */
static bool is_race(enum error_kind kind)
{
    return kind == ERROR_CONFLICT || kind == ERROR_NOT_FOUND || kind == ERROR_UNAVAILABLE || kind == ERROR_TIMEOUT
           || kind == ERROR_TOO_MANY;
}

static const char *owner_of(const struct json *object, struct arena *a)
{
    struct str vireo = meta_label(object, LABEL_OWNER), by = meta_label(object, LABEL_MANAGED_BY);

    if (vireo.n)
        return arena_printf(a, "installed by the operator in namespace " STR_FMT, STR_ARG(vireo));
    if (by.n)
        return arena_printf(a, LABEL_MANAGED_BY "=" STR_FMT, STR_ARG(by));
    return "without the label " LABEL_OWNER;
}

static void failed(struct op *op, const struct error *err)
{
    struct operator* o = op->o;

    o->stumbled = true;
    if (is_race(err->kind) && o->failures < RACES) {
        log_debug(op->title, "%s", error_text(err));
        return;
    }
    log_warning(op->title, "%s, retrying", error_text(err));
    free(o->failure);
    o->failure = xasprintf("%s: %s", op->title, error_text(err));
}

static void probed(struct op *op, const struct client_response *r)
{
    AUTO(arena_done) struct arena a = {0};
    struct memory *m = memory_of(op->o, op->managed, op->key);

    free(m->probed);
    m->probed = NULL;
    if (r->err->kind == ERROR_NOT_FOUND)
        m->probed = xstrdup(PROBED_ABSENT);
    else if (r->err->kind != ERROR_NONE)
        failed(op, r->err);
    else if (str_is(meta_label(r->body, LABEL_OWNER), op->o->config.env.ns))
        ; /* the informer is about to see it */
    else if (!meta_label(r->body, LABEL_OWNER).n && meta_annotation(r->body, ANNOTATION_HASH).n)
        m->probed = xstrdup(PROBED_OURS);
    else
        m->probed = xstrdup(owner_of(r->body, &a));
    operator_later(op->o, SECONDS(1));
}

void act_well(struct operator* o)
{
    o->failures = 0;
    free(o->failure);
    o->failure = NULL;
}

static void on_done(void *user, const struct client_response *r)
{
    struct op *op = user;
    struct operator* o = op->o;
    enum error_kind kind = r->err->kind;

    op->call = NULL;
    switch (op->kind) {
    case OP_PROBE:
        probed(op, r);
        break;
    case OP_DELETE:
        if (kind != ERROR_NONE && kind != ERROR_NOT_FOUND) {
            failed(op, r->err);
            break;
        }
        expect(op, r->body, true);
        o->wrote = true;
        break;
    case OP_APPLY:
    case OP_STATUS:
    case OP_FINALIZER:
        if (kind != ERROR_NONE) {
            failed(op, r->err);
            break;
        }
        expect(op, r->body, op->kind == OP_FINALIZER);
        if (op->kind != OP_APPLY)
            break;
        accept(op, r->body);
        o->wrote = true;
        break;
    }
    op_free(op);
    if (!list_empty(&o->ops))
        return;
    if (o->stumbled) {
        o->not_before_ns = loop_now_ns(o->loop) + (RETRY_NS << (o->failures < 8 ? o->failures : 8)); /* up to a minute */
        o->failures++;
    } else if (o->wrote) {
        act_well(o);
    }
    o->stumbled = o->wrote = false;
    operator_soon(o);
}

static struct op *begin(struct operator* o, enum op_kind kind, struct informer *i, const char *key, const char *title)
{
    struct op *op = NEW(struct op);

    *op = (struct op){.o = o, .kind = kind, .informer = i, .key = xstrdup(key), .title = xstrdup(title)};
    op->held = i ? informer_revision_of(i, str_of(key)) : 0;
    list_add_tail(&o->ops, &op->node);
    return op;
}

static void send(struct op *op, const struct client_request *r)
{
    op->call = client_call(op->o->client, r, on_done, op);
}

/* -- writes --------------------------------------------------------------------------------------------------- */

static struct client_request request_of(const struct managed *m, enum client_verb verb, const struct json *object)
{
    return (struct client_request){.verb = verb,
                                   .group = m->group,
                                   .version = m->version,
                                   .plural = m->plural,
                                   .ns = m->namespaced ? meta_namespace(object) : STR_NONE,
                                   .name = meta_name(object)};
}

void act_probe(struct operator* o, const struct component *c)
{
    struct managed m;
    struct op *op = begin(o, OP_PROBE, NULL, c->key, c->title);
    struct client_request r = request_of(managed_here(o, c->kind, &m), CLIENT_GET, c->object);

    op->managed = c->kind;
    send(op, &r);
}

/* What was as it should be and is not any more, somebody else has changed. */
static void count_repair(struct operator* o, const struct component *c, struct memory *m)
{
    int64_t now = loop_now_ns(o->loop);
    AUTO(arena_done) struct arena a = {0};
    const struct json *live = informer_get(o->managed[c->kind], str_of(c->key), &a);

    if (!live || !m->settled || !str_eq(meta_annotation(live, ANNOTATION_HASH), c->hash))
        return;
    m->repairs = now - m->repaired_ns < FIGHT_NS + (m->held_until_ns > m->repaired_ns ? m->held_until_ns - m->repaired_ns : 0)
                     ? m->repairs + 1
                     : 1;
    m->repaired_ns = now;
    log_info(c->title, "was changed by somebody else at %s, and is put back", m->differs ? m->differs : "its labels");
    if (m->repairs < FIGHT_AT)
        return;
    unsigned doublings = m->repairs - FIGHT_AT < 5 ? m->repairs - FIGHT_AT : 5;
    int64_t hold = HOLD_NS << doublings < HOLD_MAX_NS ? HOLD_NS << doublings : HOLD_MAX_NS;

    m->held_until_ns = now + hold;
    operator_later(o, hold);
    log_warning(c->title, "is changed by somebody else again and again: left alone for %lld s", (long long)(hold / SECONDS(1)));
    recorder_event(o->recorder, o->target.install.kubevirt, "Warning", "ComponentContested",
                   "%s is changed by somebody else again and again; customizeComponents is how to change it for good",
                   c->title);
}

void act_apply(struct operator* o, const struct component *c)
{
    struct managed m;
    struct memory *mem = memory_of(o, c->kind, c->key);
    struct op *op = begin(o, OP_APPLY, o->managed[c->kind], c->key, c->title);
    /* Old servers cannot apply what their aggregator keeps: Kubernetes 1.20 breaks the connection. */
    enum client_verb verb = c->kind != MANAGED_API_SERVICE ? CLIENT_APPLY : op->held ? CLIENT_PATCH_MERGE : CLIENT_CREATE;
    struct client_request r = request_of(managed_here(o, c->kind, &m), verb, c->object);

    count_repair(o, c, mem);
    free(mem->probed);
    mem->probed = NULL;
    mem->revision = 0;
    r.body = c->object;
    r.query = verb == CLIENT_APPLY ? STR("fieldManager=vireo-operator&force=true") : STR("fieldManager=vireo-operator");
    if (verb == CLIENT_CREATE)
        r.name = STR_NONE;
    op->managed = c->kind;
    log_debug(c->title, "apply");
    send(op, &r);
}

static void delete (struct operator* o, const struct managed *m, struct informer *i, const struct json *object, const char *how)
{
    AUTO(arena_done) struct arena a = {0};
    const char *key = meta_key(object, &a), *title = arena_printf(&a, "%s %s", m->kind, key);
    struct op *op = begin(o, OP_DELETE, i, key, title);
    struct client_request r = request_of(m, CLIENT_DELETE, object);

    r.body = json_object(&a, "apiVersion", json_new_z(&a, "v1"), "kind", json_new_z(&a, "DeleteOptions"), "preconditions",
                         json_object(&a, "uid", json_at(object, "metadata/uid"), NULL), "propagationPolicy",
                         json_new_z(&a, how), NULL);
    log_info(title, "deleted");
    send(op, &r);
}

void act_delete(struct operator* o, enum managed_id kind, const struct json *object)
{
    struct managed m;
    /* Of what has processes the object stays until they are gone, so that their accounts do not go before them. */
    const char *how = kind == MANAGED_DEPLOYMENT || kind == MANAGED_DAEMON_SET ? "Foreground" : "Background";

    delete (o, managed_here(o, kind, &m), o->managed[kind], object, how);
}

void act_delete_config_map(struct operator* o, const struct json *config_map)
{
    delete (o, &managed_kinds[MANAGED_CONFIG_MAP], o->config_map, config_map, "Background");
}

static const struct managed kubevirts = {"kubevirt.io", "v1", "KubeVirt", "kubevirts", .namespaced = true};

void act_cr(struct operator* o, const struct json *kubevirt)
{
    AUTO(arena_done) struct arena a = {0};
    struct op *op = begin(o, OP_STATUS, o->kubevirts, meta_key(kubevirt, &a), "KubeVirt of ConfigMap " CR_CONFIG_MAP);
    struct client_request r = request_of(&kubevirts, CLIENT_APPLY, kubevirt);

    r.body = kubevirt;
    r.query = STR("fieldManager=" CR_CONFIG_MAP "&force=true");
    log_info("KubeVirt", "applied from ConfigMap " CR_CONFIG_MAP);
    send(op, &r);
}

void act_note(struct operator* o, const struct json *old, const struct json *new)
{
    AUTO(arena_done) struct arena a = {0};
    struct op *op = begin(o, OP_STATUS, o->config_map, meta_key(old, &a), "ConfigMap " CR_CONFIG_MAP);
    struct client_request r = request_of(&managed_kinds[MANAGED_CONFIG_MAP], CLIENT_PATCH_MERGE, old);

    r.body = json_merge_diff(&a, old, new);
    send(op, &r);
}

void act_kubevirt(struct operator* o, enum op_kind kind, const struct json *old, const struct json *new)
{
    AUTO(arena_done) struct arena a = {0};
    struct op *op = begin(o, kind, o->kubevirts, meta_key(old, &a), "KubeVirt");
    const struct json *patch = json_merge_diff(&a, old, new);

    patch = json_with_at(&a, patch, "metadata/resourceVersion", json_at(old, "metadata/resourceVersion"));
    send(op, &(struct client_request){.verb = CLIENT_PATCH_MERGE,
                                      .group = "kubevirt.io",
                                      .version = "v1",
                                      .plural = "kubevirts",
                                      .ns = meta_namespace(old),
                                      .name = meta_name(old),
                                      .subresource = kind == OP_STATUS ? "status" : NULL,
                                      .body = patch});
}
