#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/ident.h"
#include "base/log.h"
#include "operator/health.h"
#include "operator/internal.h"

#define SOON_NS MILLIS(50)
#define COUNT_NS SECONDS(300)  /* how often nodes are counted */
#define FOREIGN_NS SECONDS(30) /* how often others' objects in our way are looked for again */
#define ASK_NS SECONDS(2)

static void reconcile(struct operator* o);

static void on_soon(struct loop_timer *t)
{
    reconcile(container_of(t, struct operator, soon));
}

static void on_later(struct loop_timer *t)
{
    reconcile(container_of(t, struct operator, later));
}

void operator_soon(struct operator* o)
{
    if (!loop_timer_active(&o->soon))
        loop_timer_start(o->loop, &o->soon, SOON_NS, on_soon);
}

void operator_later(struct operator* o, int64_t in_ns)
{
    if (!loop_timer_active(&o->later) || o->later.due_ns > loop_now_ns(o->loop) + in_ns)
        loop_timer_start(o->loop, &o->later, in_ns, on_later);
}

static void memory_free(void *p)
{
    struct memory *m = p;

    free(m->probed);
    free(m->differs);
    free(m);
}

struct memory *memory_of(struct operator* o, enum managed_id kind, const char *key)
{
    AUTO_FREE char *name = xasprintf("%d|%s", (int)kind, key);
    struct memory *m = map_get(&o->memories, str_of(name));

    if (!m) {
        m = NEW(struct memory);
        map_set(&o->memories, str_of(name), m);
    }
    return m;
}

const struct managed *managed_here(struct operator* o, enum managed_id kind, struct managed *ret)
{
    *ret = managed_kinds[kind];
    if (kind == MANAGED_PDB && o->cluster.old_budgets)
        ret->version = ret->older;
    return ret;
}

/* -- views -------------------------------------------------------------------------------------------------- */

/* Of several the oldest in our own namespace is the one. */
static const struct json *choose(const struct json *kubevirts, const char *ns)
{
    const struct json *best = NULL;

    json_each_item(k, kubevirts)
        if (str_is(meta_namespace(k), ns) && informer_older(k, best))
            best = k;
    return best;
}

static const char *now_text(struct operator* o, struct arena *a)
{
    char *text = arena_alloc_bytes(a, TIME_TEXT_LEN + 1);

    ident_time(loop_unix_ns(o->loop), false, text);
    return text;
}

/* -- status --------------------------------------------------------------------------------------------------- */

static void say(struct operator* o, const struct json *kubevirt, const char *type, const char *reason, const char *text)
{
    if (o->said && strcmp(o->said, text) == 0)
        return;
    free(o->said);
    o->said = xstrdup(text);
    recorder_event(o->recorder, kubevirt, type, reason, "%s", text);
    if (strcmp(type, "Normal") == 0)
        log_info("kubevirt", "%s", text);
    else
        log_error("kubevirt", "%s", text);
}

static void set_status(struct operator* o, const struct json *kubevirt, const struct status_facts *f, struct arena *a)
{
    const struct json *new = status_with(a, kubevirt, f, now_text(o, a));

    if (new != kubevirt)
        act_kubevirt(o, OP_STATUS, kubevirt, new);
}

static struct status_facts facts(struct operator* o, enum status_now now, const char *error)
{
    return (struct status_facts){
        .now = now, .operator_version = arena_printf(&o->target.arena, "v%s", o->config.env.version), .error = error};
}

static void refuse(struct operator* o, const struct json *kubevirt, const char *error, struct arena *a)
{
    struct status_facts f = facts(o, STATUS_FAILED, error);

    say(o, kubevirt, "Warning", "DeploymentFailed", error);
    set_status(o, kubevirt, &f, a);
}

static void seconds(struct operator* o, const struct json *kubevirts, const struct json *first, struct arena *a)
{
    json_each_item(k, kubevirts) {
        struct status_facts f = facts(o, STATUS_SECOND, "There is an active KubeVirt deployment");

        if (k == first)
            continue;
        if (!str_is(meta_namespace(k), o->config.env.ns))
            f.error = arena_printf(a, "This operator installs only what a KubeVirt object in its own namespace, %s, asks for",
                                   o->config.env.ns);
        set_status(o, k, &f, a);
    }
}

/* -- the target ------------------------------------------------------------------------------------------------- */

static void target_done(struct target *t)
{
    arena_done(&t->arena);
    free(t->key);
    error_clear(&t->err);
    *t = (struct target){0};
}

/* What was compared or asked is to be compared or asked again. */
static void forget(struct operator* o, bool asked)
{
    struct str key;
    size_t at = 0;
    void *value;

    while (map_next(&o->memories, &at, &key, &value)) {
        struct memory *m = value;

        m->revision = 0;
        if (asked) {
            free(m->probed);
            m->probed = NULL;
        }
    }
}

/* Made anew when what it is made of has changed: the spec, the CAs, the cluster. */
static bool target_make(struct operator* o, const struct json *kubevirt, struct str ca_bundle, struct arena *a,
                        struct error *err)
{
    struct target *t = &o->target, fresh = {0};
    const struct json *made_of = json_array(a, json_get(kubevirt, "spec"), json_new_str(a, meta_uid(kubevirt)),
                                            json_new_str(a, ca_bundle), json_new_i64(a, o->cluster.nodes), json_new_i64(a, o->cluster.lost), NULL);
    struct str key = component_hash(a, made_of);

    if (t->key && str_is(key, t->key)) {
        if (t->err.kind != ERROR_NONE)
            return error_set(err, t->err.kind, "%s", error_text(&t->err));
        return true;
    }
    fresh.key = str_dup(key);
    kubevirt = json_copy(&fresh.arena, kubevirt);
    ca_bundle = arena_str(&fresh.arena, ca_bundle);
    if (!install_of(kubevirt, &o->config.env, &o->cluster, ca_bundle, &fresh.arena, &fresh.install, &fresh.err)
        || !components_make(&fresh.install, &fresh.arena, &fresh.components, &fresh.err))
        error_set(err, fresh.err.kind, "%s", error_text(&fresh.err));
    target_done(t);
    *t = fresh;
    forget(o, false);
    return t->err.kind == ERROR_NONE;
}

/* -- installing -------------------------------------------------------------------------------------------------- */

/* false: it has to be asked for first. */
static bool live_of(struct operator* o, const struct component *c, const struct json *pods, struct arena *a, struct live *ret)
{
    struct informer *i = o->managed[c->kind];
    struct memory *m = memory_of(o, c->kind, c->key);
    int64_t revision = informer_revision_of(i, str_of(c->key));
    struct live l = {.held = m->held_until_ns > loop_now_ns(o->loop)};

    if (revision == 0) {
        if (!m->probed)
            return false;
        l.state = strcmp(m->probed, PROBED_ABSENT) == 0 ? LIVE_ABSENT
                  : strcmp(m->probed, PROBED_OURS) == 0 ? LIVE_DIFFERS
                                                        : LIVE_FOREIGN;
        l.owner = arena_strdup(a, str_of(m->probed));
        l.held = false;
        *ret = l;
        return true;
    }
    const struct json *live = informer_get(i, str_of(c->key), a);

    if (m->revision != revision) {
        m->revision = revision;
        free(m->differs);
        const char *where = component_difference(c->object, live, a);

        m->differs = where && !(act_accepted(m, live) && str_eq(meta_annotation(live, ANNOTATION_HASH), c->hash))
                         ? xstrdup(where)
                         : NULL;
    }
    m->settled = m->settled || !m->differs;
    l.state = m->differs ? LIVE_DIFFERS : LIVE_SAME;
    l.ready = health_of(c->kind, live, pods, a, &l.why);
    *ret = l;
    return true;
}

/* Objects of ours that the target does not have any more. */
static void prune(struct operator* o, const struct cert_components *certs, struct arena *a)
{
    for (size_t k = 0; k < MANAGED; k++) {
        json_each_item(object, informer_list(o->managed[k], STR_NONE, a)) {
            const char *key = meta_key(object, a);
            bool wanted = meta_deleting(object);

            for (size_t i = 0; i < o->target.components.n && !wanted; i++)
                wanted =
                    o->target.components.p[i].kind == (enum managed_id)k && strcmp(o->target.components.p[i].key, key) == 0;
            for (size_t i = 0; i < certs->n && !wanted; i++)
                wanted = certs->p[i].kind == (enum managed_id)k && strcmp(certs->p[i].key, key) == 0;
            if (!wanted && k != MANAGED_CRD) /* a definition goes with all its objects: never by itself */
                act_delete(o, (enum managed_id)k, object);
        }
    }
}

static const struct json *generations(struct operator* o, struct arena *a)
{
    static const enum managed_id kinds[] = {MANAGED_CRD,        MANAGED_PDB,        MANAGED_DEPLOYMENT,
                                            MANAGED_DAEMON_SET, MANAGED_VALIDATING, MANAGED_MUTATING};
    const struct json *list = json_array(a, NULL);

    for (size_t i = 0; i < o->target.components.n; i++) {
        const struct component *c = &o->target.components.p[i];
        bool named = false;

        for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
            named = named || kinds[k] == c->kind;
        if (!named)
            continue;
        const struct json *live = informer_get(o->managed[c->kind], str_of(c->key), a);
        const struct managed *m = &managed_kinds[c->kind];

        list =
            json_append(a, list,
                        json_object(a, "group", json_new_z(a, m->group), "resource", json_new_z(a, m->plural), "name",
                                    json_at(c->object, "metadata/name"), "namespace", json_at(c->object, "metadata/namespace"),
                                    "lastGeneration", json_new_i64(a, meta_generation(live)), NULL));
    }
    return list;
}

static bool updating(const struct json *kubevirt, const struct install *i)
{
    struct str had = json_str_at(kubevirt, "status/observedDeploymentID");

    return had.n && !str_is(had, i->id);
}

static void installed_status(struct operator* o, const struct json *kubevirt, const struct install_plan *p, struct arena *a)
{
    struct status_facts f = facts(o, STATUS_DEPLOYING, NULL);

    f.install = &o->target.install;
    f.created = p->created;
    f.trouble = p->trouble;
    f.note = p->note;
    if (o->failure && o->failures > 2) {
        f.now = STATUS_FAILED;
        f.error = o->failure;
        say(o, kubevirt, "Warning", "DeploymentFailed", o->failure);
    } else if (p->ready) {
        f.now = STATUS_READY;
        f.generations = generations(o, a);
        if (!str_is(json_str_at(kubevirt, "status/phase"), "Deployed") || updating(kubevirt, f.install))
            say(o, kubevirt, "Normal", "AllComponentsReady",
                arena_printf(a, "version %s is deployed", o->target.install.version));
    } else if (updating(kubevirt, f.install)) {
        f.now = STATUS_UPDATING;
    } else if (p->steady && str_is(json_str_at(kubevirt, "status/phase"), "Deployed")) {
        return; /* a repair or a renewal that nobody notices */
    }
    if (p->trouble && f.now != STATUS_FAILED)
        say(o, kubevirt, "Warning", "ComponentNotReady", p->trouble);
    set_status(o, kubevirt, &f, a);
}

/* Applies what is due. false: something has to be known first. */
static bool install(struct operator* o, const struct json *kubevirt, struct arena *a, struct install_plan *ret)
{
    AUTO(error_clear) struct error err = {0};
    struct cert_components certs;
    const struct json *pods = informer_list(o->pods, STR_NONE, a);

    o->cluster.lost = health_lost(pods);
    if (!certs_view(o, kubevirt, a, &certs, &err) || !target_make(o, kubevirt, certs.ca_bundle, a, &err)) {
        refuse(o, kubevirt, error_text(&err), a);
        return false;
    }
    struct components all = {ARENA_ARRAY(a, struct component, certs.n + o->target.components.n),
                             certs.n + o->target.components.n};
    struct live *live = ARENA_ARRAY(a, struct live, all.n);
    bool known = true;

    memcpy(all.p, certs.p, certs.n * sizeof *certs.p);
    memcpy(all.p + certs.n, o->target.components.p, o->target.components.n * sizeof *all.p);
    for (size_t i = 0; i < all.n; i++) {
        if (!live_of(o, &all.p[i], pods, a, &live[i])) {
            act_probe(o, &all.p[i]);
            known = false;
        } else if (i < certs.n && live[i].state != LIVE_FOREIGN) {
            /* The contents of certificates are judged by certs.h alone. */
            live[i].state = certs.write[i] ? LIVE_DIFFERS : LIVE_SAME;
            live[i].ready = true;
        }
    }
    if (!known)
        return false;
    struct install_view v = {&all, live,
                             rollout_of(json_str_at(kubevirt, "status/observedDeploymentID"), str_of(o->target.install.id),
                                        json_str_at(kubevirt, "status/observedKubeVirtVersion"),
                                        str_of(o->target.install.version))};
    struct install_plan p;

    install_make_plan(&v, a, &p);
    if (p.foreign) {
        refuse(o, kubevirt, arena_printf(a, "these belong to somebody else, and nothing was changed: %s", p.foreign), a);
        forget(o, true);
        operator_later(o, FOREIGN_NS);
        return false;
    }
    bool certs_too = false;

    for (size_t i = 0; i < p.n_apply; i++) {
        certs_too = certs_too || p.apply[i] < certs.n;
        act_apply(o, &all.p[p.apply[i]]);
    }
    if (certs_too)
        log_info("certificates", "new: %s", certs.news);
    if (p.ready)
        prune(o, &certs, a);
    operator_later(o, SECONDS(certs.next_s) - loop_unix_ns(o->loop));
    *ret = p;
    return true;
}

/* -- removing --------------------------------------------------------------------------------------------------------- */

static void on_counted(void *user, const struct client_response *r)
{
    struct count *c = user;
    struct operator* o = c->o;
    AUTO(buf_done) struct buf b = {0};
    int64_t more = json_i64_at(r->body, "metadata/remainingItemCount", 0);

    if (r->err->kind != ERROR_NONE && r->err->kind != ERROR_NOT_FOUND) { /* no such kind: no machines */
        free(o->workloads_error);
        o->workloads_error = xasprintf("whether machines exist cannot be told: %s", error_text(r->err));
    }
    if (o->workloads)
        buf_adds(&b, o->workloads);
    json_each_item(m, r->err->kind == ERROR_NONE ? json_get(r->body, "items") : NULL) {
        const char *what =
            str_is(meta_kind(r->body), "VirtualMachineInstanceList") ? "VirtualMachineInstance" : "VirtualMachine";

        buf_addf(&b, "%s%s " STR_FMT "/" STR_FMT, b.n ? ", " : "", what, STR_ARG(meta_namespace(m)), STR_ARG(meta_name(m)));
    }
    if (more > 0)
        buf_addf(&b, " and %lld more", (long long)more);
    free(o->workloads);
    o->workloads = b.n ? buf_detach(&b) : NULL;
    c->call = NULL;
    if (--o->counting == 0) {
        o->counted = true;
        operator_soon(o);
    }
}

static void count_workloads(struct operator* o)
{
    static const char *const plurals[] = {"virtualmachines", "virtualmachineinstances"};

    free(o->workloads);
    free(o->workloads_error);
    o->workloads = o->workloads_error = NULL;
    o->counting = ARRAY_SIZE(plurals);
    for (size_t i = 0; i < ARRAY_SIZE(plurals); i++) {
        o->counts[i].o = o;
        o->counts[i].call = client_call(
            o->client,
            &(struct client_request){
                .verb = CLIENT_LIST, .group = "kubevirt.io", .version = "v1", .plural = plurals[i], .query = STR("limit=5")},
            on_counted, &o->counts[i]);
    }
}

static size_t removal_items(struct operator* o, struct arena *a, struct removal_item **ret, const struct json ***ret_objects)
{
    size_t n = 0, cap = 0;

    for (size_t k = 0; k < MANAGED; k++)
        cap += o->managed[k] ? informer_count(o->managed[k]) : 0;
    *ret = ARENA_ARRAY(a, struct removal_item, cap + 1);
    *ret_objects = ARENA_ARRAY(a, const struct json *, cap + 1);
    for (size_t k = 0; k < MANAGED; k++)
        json_each_item(object, informer_list(o->managed[k], STR_NONE, a)) {
            (*ret)[n] = (struct removal_item){(enum managed_id)k, meta_deleting(object),
                                              arena_printf(a, "%s %s", managed_kinds[k].kind, meta_key(object, a))};
            (*ret_objects)[n++] = object;
        }
    return n;
}

static void finish(struct operator* o, const struct json *kubevirt, struct arena *a)
{
    struct status_facts f = facts(o, STATUS_DELETED, NULL);

    if (!str_is(json_str_at(kubevirt, "status/phase"), "Deleted")) {
        set_status(o, kubevirt, &f, a);
        return;
    }
    say(o, kubevirt, "Normal", "Deleted", "everything that was installed is gone");
    cr_gone(o, kubevirt, a);
    act_kubevirt(o, OP_FINALIZER, kubevirt, meta_remove_finalizer(a, kubevirt, KUBEVIRT_FINALIZER));
}

static void remove_all(struct operator* o, const struct json *kubevirt, struct arena *a)
{
    struct removal_view v = {.workloads = o->workloads,
                             .remove_workloads = str_is(json_str_at(kubevirt, "spec/uninstallStrategy"), "RemoveWorkloads")};
    struct removal_item *items;
    const struct json **objects;
    struct removal_plan p;
    struct status_facts f = facts(o, STATUS_DELETING, NULL);

    if (!meta_has_finalizer(kubevirt, KUBEVIRT_FINALIZER))
        return;
    if (!o->counted) {
        count_workloads(o);
        return;
    }
    o->counted = false;
    v.n = removal_items(o, a, &items, &objects);
    v.items = items;
    if (o->workloads_error && !v.workloads)
        v.workloads = o->workloads_error;
    removal_make_plan(&v, a, &p);
    operator_later(o, SECONDS(2));
    if (p.blocked) { /* it goes on as it is, certificates and all */
        struct install_plan ignored;

        f.now = STATUS_BLOCKED;
        f.error = arena_printf(a, "uninstallStrategy is BlockUninstallIfWorkloadsExist, and there are still: %s", v.workloads);
        say(o, kubevirt, "Warning", "DeletionFailed", f.error);
        (void)install(o, kubevirt, a, &ignored);
        set_status(o, kubevirt, &f, a);
        return;
    }
    if (p.done) {
        finish(o, kubevirt, a);
        return;
    }
    for (size_t i = 0; i < p.n_remove; i++)
        act_delete(o, items[p.remove[i]].kind, objects[p.remove[i]]);
    if (o->failure)
        f.error = o->failure;
    set_status(o, kubevirt, &f, a);
}

/* -- one round ------------------------------------------------------------------------------------------------------------ */

static bool synced(struct operator* o)
{
    if (!o->discovered || !informer_synced(o->kubevirts) || !informer_synced(o->pods) || !informer_synced(o->config_map))
        return false;
    for (size_t k = 0; k < MANAGED; k++)
        if (o->managed[k] && !informer_synced(o->managed[k]))
            return false;
    return true;
}

static void ask(struct operator* o);

static void reconcile(struct operator* o)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *kubevirts, *kubevirt;
    struct install_plan p;

    if (!synced(o) || !act_settled(o) || o->counting || o->asking)
        return;
    if (loop_now_ns(o->loop) < o->not_before_ns) {
        operator_later(o, o->not_before_ns - loop_now_ns(o->loop));
        return;
    }
    if (loop_now_ns(o->loop) - o->asked_ns > COUNT_NS) {
        ask(o); /* the nodes */
        return;
    }
    kubevirts = informer_list(o->kubevirts, STR_NONE, &a);
    kubevirt = choose(kubevirts, o->config.env.ns);
    seconds(o, kubevirts, kubevirt, &a);
    if (cr_make(o, kubevirt, &a) || !kubevirt || !list_empty(&o->ops))
        return;
    if (meta_deleting(kubevirt)) {
        remove_all(o, kubevirt, &a);
    } else if (!meta_has_finalizer(kubevirt, KUBEVIRT_FINALIZER)) {
        act_kubevirt(o, OP_FINALIZER, kubevirt, meta_add_finalizer(&a, kubevirt, KUBEVIRT_FINALIZER));
        return;
    } else if (install(o, kubevirt, &a, &p)) {
        installed_status(o, kubevirt, &p, &a);
    }
    if (list_empty(&o->ops)) /* nothing is left to write */
        act_well(o);
}

/* -- life -------------------------------------------------------------------------------------------------------------------- */

static void changed(void *user, struct str key, const struct json *object, bool deleted)
{
    (void)key;
    (void)object;
    (void)deleted;
    operator_soon(user);
}

static void on_synced(void *user)
{
    operator_soon(user);
}

static struct informer *follow(struct operator* o, const struct managed *m, struct str ns, const char *selector)
{
    return informer_new(&(struct informer_config){.client = o->client,
                                                  .group = m->group,
                                                  .version = m->version,
                                                  .plural = m->plural,
                                                  .ns = ns,
                                                  .label_selector = str_of(selector),
                                                  .changed = changed,
                                                  .synced = on_synced,
                                                  .user = o});
}

static void follow_all(struct operator* o)
{
    AUTO_FREE char *ours = xasprintf(LABEL_OWNER "=%s", o->config.env.ns);

    o->kubevirts = follow(o, &(struct managed){"kubevirt.io", "v1", "KubeVirt", "kubevirts"}, STR_NONE, NULL);
    o->pods = follow(o, &(struct managed){"", "v1", "Pod", "pods"}, str_of(o->config.env.ns),
                     "kubevirt.io in (virt-api,virt-controller,virt-handler)");
    o->config_map = informer_new(&(struct informer_config){.client = o->client,
                                                           .group = "",
                                                           .version = "v1",
                                                           .plural = "configmaps",
                                                           .ns = str_of(o->config.env.ns),
                                                           .field_selector = STR("metadata.name=" CR_CONFIG_MAP),
                                                           .changed = changed,
                                                           .synced = on_synced,
                                                           .user = o});
    for (size_t k = 0; k < MANAGED; k++) {
        struct managed here;
        const struct managed *m = managed_here(o, (enum managed_id)k, &here);

        if (m->optional && !o->cluster.admission_policies)
            continue;
        o->managed[k] = follow(o, m, m->namespaced ? str_of(o->config.env.ns) : STR_NONE, ours);
    }
}

/* What the API server has, asked once; how many nodes there are, from time to time. */
struct question {
    struct client_request request;
    void (*answer)(struct operator* o, const struct client_response *r);
};

static void answer_nodes(struct operator* o, const struct client_response *r)
{
    if (r->err->kind == ERROR_NONE)
        o->cluster.nodes =
            (int64_t)json_len(json_get(r->body, "items")) + json_i64_at(r->body, "metadata/remainingItemCount", 0);
}

static void answer_budgets(struct operator* o, const struct client_response *r)
{
    o->cluster.old_budgets = r->err->kind == ERROR_NOT_FOUND;
}

static void answer_policies(struct operator* o, const struct client_response *r)
{
    /* Conditions of webhooks came with the same release that made policies stable. */
    o->cluster.admission_policies = o->cluster.match_conditions = r->err->kind == ERROR_NONE;
}

static const struct question questions[] = {
    {{.verb = CLIENT_LIST, .group = "", .version = "v1", .plural = "nodes", .query = STR_INIT("limit=1")}, answer_nodes},
    {{.verb = CLIENT_LIST, .group = "policy", .version = "v1", .plural = "poddisruptionbudgets", .query = STR_INIT("limit=1")},
     answer_budgets},
    {{.verb = CLIENT_LIST,
      .group = "admissionregistration.k8s.io",
      .version = "v1",
      .plural = "validatingadmissionpolicies",
      .query = STR_INIT("limit=1")},
     answer_policies},
};

static void on_ask_again(struct loop_timer *t)
{
    ask(container_of(t, struct operator, ask_again));
}

static void on_answer(void *user, const struct client_response *r)
{
    struct operator* o = user;
    const struct question *q = &questions[o->asking_for];

    o->asking = NULL;
    o->asked_ns = loop_now_ns(o->loop);
    if (r->err->kind != ERROR_NONE && r->err->kind != ERROR_NOT_FOUND) {
        log_warning(q->request.plural, "%s, retrying", error_text(r->err));
        if (!o->discovered)
            loop_timer_start(o->loop, &o->ask_again, ASK_NS, on_ask_again);
        else
            operator_soon(o); /* with the number that is known */
        return;
    }
    q->answer(o, r);
    if (o->discovered) {
        operator_soon(o);
    } else if (++o->asking_for < ARRAY_SIZE(questions)) {
        ask(o);
    } else {
        o->asking_for = 0;
        o->discovered = true;
        log_info(NULL, "%lld nodes%s%s", (long long)o->cluster.nodes,
                 o->cluster.old_budgets ? ", PodDisruptionBudgets of v1beta1" : "",
                 o->cluster.admission_policies ? "" : ", no ValidatingAdmissionPolicy");
        follow_all(o);
    }
}

static void ask(struct operator* o)
{
    struct client_request r = questions[o->asking_for].request;

    if (strcmp(r.plural, "poddisruptionbudgets") == 0)
        r.ns = str_of(o->config.env.ns);
    o->asking = client_call(o->client, &r, on_answer, o);
}

struct operator* operator_new(const struct operator_config *c)
{
    struct operator* o = NEW(struct operator);

    o->config = *c;
    o->client = c->client;
    o->loop = c->client->loop;
    o->recorder = recorder_new(c->client, "virt-operator", NULL);
    list_init(&o->ops);
    return o;
}

void operator_start(struct operator* o)
{
    if (o->started)
        return;
    o->started = true;
    ask(o);
}

void operator_free(struct operator* o)
{
    if (!o)
        return;
    loop_timer_stop(&o->soon);
    loop_timer_stop(&o->later);
    loop_timer_stop(&o->ask_again);
    if (o->asking)
        client_cancel(o->client, o->asking);
    for (size_t i = 0; i < ARRAY_SIZE(o->counts); i++)
        if (o->counts[i].call)
            client_cancel(o->client, o->counts[i].call);
    act_done(o);
    for (size_t k = 0; k < MANAGED; k++)
        informer_free(o->managed[k]);
    informer_free(o->config_map);
    informer_free(o->pods);
    informer_free(o->kubevirts);
    recorder_free(o->recorder);
    map_done_with(&o->memories, memory_free);
    target_done(&o->target);
    free(o->failure);
    free(o->workloads);
    free(o->workloads_error);
    free(o->said);
    free(o->cr_said);
    free(o);
}
