/* apiserver/limits - LimitRanges: what containers get that ask for nothing, and what single pods and claims must keep to. */
#include "api/meta.h"
#include "apiserver/admit.h"

/* Amounts. */

bool quantity_of_json(const struct json *v, struct quantity *ret)
{
    AUTO(error_clear) struct error err = {0};

    if (json_is(v, JSON_NUMBER))
        return quantity_parse(str_n(v->text, v->n), ret, &err);
    return json_is(v, JSON_STRING) && quantity_parse(json_str(v), ret, &err);
}

bool check_quantity(struct request *r, struct schema_causes *c, const char *field,
                    const struct json *v, struct quantity *ret)
{
    AUTO(error_clear) struct error err = {0};
    struct str text = json_is(v, JSON_NUMBER) ? str_n(v->text, v->n) : json_str(v);

    if (!quantity_parse(text, ret, &err)) {
        schema_cause_add(c, &r->arena, "FieldValueInvalid", field,
                         "Invalid value: \"" STR_FMT "\": %s", STR_ARG(text), error_text(&err));
        return false;
    }
    if (ret->nano < 0) {
        schema_cause_add(c, &r->arena, "FieldValueInvalid", field,
                         "Invalid value: \"%s\": must be greater than or equal to 0",
                         quantity_text(&r->arena, *ret));
        return false;
    }
    return true;
}

struct quantity *amount_of(const struct amounts *l, struct str name)
{
    for (size_t i = 0; i < l->n; i++)
        if (str_eq(l->p[i].name, name))
            return &l->p[i].q;
    return NULL;
}

void amount_add(struct amounts *l, struct str name, struct quantity q, struct arena *a)
{
    struct quantity *there = amount_of(l, name);

    if (there) {
        *there = quantity_add(*there, q);
        return;
    }
    if (l->n == l->cap) {
        struct amount *p = ARENA_ARRAY(a, struct amount, l->cap ? l->cap * 2 : 16);

        for (size_t i = 0; i < l->n; i++)
            p[i] = l->p[i];
        l->p = p;
        l->cap = l->cap ? l->cap * 2 : 16;
    }
    l->p[l->n++] = (struct amount){name, q};
}

void amounts_read(struct amounts *ret, const struct json *map, struct arena *a)
{
    json_each_member(m, map) {
        struct quantity q;

        if (quantity_of_json(&m->value, &q))
            amount_add(ret, json_str(&m->key), q, a);
    }
}

void quantity_subtract(struct quantity *from, struct quantity q)
{
    from->nano = q.nano > from->nano ? 0 : from->nano - q.nano;
}

static void amounts_max(struct amounts *l, const struct amounts *other, struct arena *a)
{
    for (size_t i = 0; i < other->n; i++) {
        struct quantity *there = amount_of(l, other->p[i].name);

        if (!there)
            amount_add(l, other->p[i].name, other->p[i].q, a);
        else if (quantity_cmp(other->p[i].q, *there) > 0)
            *there = other->p[i].q;
    }
}

/* Init containers run one after the other before the rest, but for those that restart always: these stay. */
void pod_amounts(const struct json *pod, const char *what, struct amounts *ret, struct arena *a)
{
    const struct json *spec = json_get(pod, "spec");
    struct amounts stay = {0}, most = {0};

    json_each_item(c, json_get(spec, "containers"))
        amounts_read(ret, json_get(json_get(c, "resources"), what), a);
    json_each_item(c, json_get(spec, "initContainers")) {
        const struct json *asked = json_get(json_get(c, "resources"), what);
        struct amounts now = {0};

        amounts_read(&now, asked, a);
        if (str_is(json_str_at(c, "restartPolicy"), "Always")) {
            amounts_read(ret, asked, a);
            amounts_read(&stay, asked, a);
            amounts_max(&most, &stay, a);
            continue;
        }
        for (size_t i = 0; i < stay.n; i++)
            amount_add(&now, stay.p[i].name, stay.p[i].q, a);
        amounts_max(&most, &now, a);
    }
    amounts_max(ret, &most, a);
    amounts_read(ret, json_get(spec, "overhead"), a);
}

/* The ranges of the request's namespace. */

static bool ranges(struct request *r, struct store_list *ret)
{
    struct served *k = catalog_find(r->s, STR(""), STR("v1"), STR("limitranges"));
    AUTO(error_clear) struct error err = {0};

    return k && store_count(r->s->store, kind_prefix(k->info, r->ns, &r->arena))
           && store_list(r->s->store, kind_prefix(k->info, r->ns, &r->arena), STR_NONE, 0, 0, NULL,
                         NULL, ret, &err);
}

/* Defaults. */

static const struct json *fill(struct arena *a, const struct json *into, const struct json *from)
{
    json_each_member(m, from)
        if (!json_get_str(into, json_str(&m->key)))
            into =
                json_with_str(a, into ? into : json_object(a, NULL), json_str(&m->key), &m->value);
    return into;
}

static void tell(struct buf *b, const struct json *was, const struct json *is, const char *what,
                 const char *list, struct str name)
{
    bool any = false;

    json_each_member(m, is) {
        if (json_get_str(was, json_str(&m->key)))
            continue;
        buf_addf(b, "%s" STR_FMT, any ? ", " : b->n ? "; " : "", STR_ARG(json_str(&m->key)));
        any = true;
    }
    if (any)
        buf_addf(b, " %s for %s " STR_FMT, what, list, STR_ARG(name));
}

static const struct json *container_default(struct arena *a, const struct json *c,
                                            const struct json *requests, const struct json *limits,
                                            const char *list, struct buf *told)
{
    const struct json *was_requests = json_at(c, "resources/requests"),
                      *was_limits = json_at(c, "resources/limits"),
                      *is_limits = fill(a, was_limits, limits),
                      *is_requests = fill(a, was_requests, requests);

    tell(told, was_requests, is_requests, "request", list, json_str_at(c, "name"));
    tell(told, was_limits, is_limits, "limit", list, json_str_at(c, "name"));
    if (is_limits != was_limits)
        c = json_with_at(a, c, "resources/limits", is_limits);
    if (is_requests != was_requests)
        c = json_with_at(a, c, "resources/requests", is_requests);
    return c;
}

const struct json *limits_default(struct request *r, const struct json *pod)
{
    static const char *const lists[][2] = {{"containers", "container"},
                                           {"initContainers", "init container"}};
    struct arena *a = &r->arena;
    const struct json *requests = NULL, *limits = NULL;
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(buf_done) struct buf told = {0};

    if (!ranges(r, &list))
        return pod;
    for (size_t i = 0; i < list.n; i++)
        json_each_item(item, json_at(store_object_json(list.p[i], a), "spec/limits")) {
            if (!str_is(json_str_at(item, "type"), "Container"))
                continue;
            requests = fill(a, requests, json_get(item, "defaultRequest"));
            limits = fill(a, limits, json_get(item, "default"));
        }
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
        const struct json *containers = json_get(json_get(pod, "spec"), lists[i][0]);
        const struct json **p = ARENA_ARRAY(a, const struct json *, json_len(containers) + 1);
        size_t n = 0;

        json_each_item(c, containers)
            p[n++] = container_default(a, c, requests, limits, lists[i][1], &told);
        if (n)
            pod =
                json_with(a, pod, "spec",
                          json_with(a, json_get(pod, "spec"), lists[i][0], json_array_n(a, p, n)));
    }
    if (told.n)
        pod = meta_with_annotation(
            a, pod, "kubernetes.io/limit-ranger",
            str_of(arena_printf(a, "LimitRanger plugin set: " STR_FMT, STR_ARG(buf_str(&told)))));
    return pod;
}

/* Bounds. */

struct bounds {
    struct arena *a;
    const char *type;
    const struct amounts *requests, *limits;
    const char *found[32];
    size_t n;
};

static void exceed(struct bounds *b, const char *message)
{
    if (b->n < ARRAY_SIZE(b->found))
        b->found[b->n++] = message;
}

static void at_least(struct bounds *b, struct str name, struct quantity least)
{
    const struct quantity *request = amount_of(b->requests, name),
                          *limit = amount_of(b->limits, name);
    char *head = arena_printf(b->a, "minimum " STR_FMT " usage per %s is %s", STR_ARG(name),
                              b->type, quantity_text(b->a, least));

    if (!request)
        exceed(b, arena_printf(b->a, "%s.  No request is specified", head));
    else if (quantity_cmp(*request, least) < 0)
        exceed(b, arena_printf(b->a, "%s, but request is %s", head, quantity_text(b->a, *request)));
    else if (limit && quantity_cmp(*limit, least) < 0)
        exceed(b, arena_printf(b->a, "%s, but limit is %s", head, quantity_text(b->a, *limit)));
}

static void at_most(struct bounds *b, struct str name, struct quantity most)
{
    bool claim = !strcmp(b->type, "PersistentVolumeClaim");
    const struct quantity *request = amount_of(b->requests, name),
                          *limit = amount_of(b->limits, name);
    char *head = arena_printf(b->a, "maximum " STR_FMT " usage per %s is %s", STR_ARG(name),
                              b->type, quantity_text(b->a, most));

    if (claim ? !request : !limit)
        exceed(b, arena_printf(b->a, "%s.  No %s is specified", head, claim ? "request" : "limit"));
    else if (!claim && quantity_cmp(*limit, most) > 0)
        exceed(b, arena_printf(b->a, "%s, but limit is %s", head, quantity_text(b->a, *limit)));
    else if (request && quantity_cmp(*request, most) > 0)
        exceed(b, arena_printf(b->a, "%s, but request is %s", head, quantity_text(b->a, *request)));
}

static void ratio(struct bounds *b, struct str name, struct quantity most)
{
    const struct quantity *request = amount_of(b->requests, name),
                          *limit = amount_of(b->limits, name);
    char *head = arena_printf(b->a, STR_FMT " max limit to request ratio per %s is %s",
                              STR_ARG(name), b->type, quantity_text(b->a, most));
    double is;

    if (!request || quantity_is_zero(*request)) {
        exceed(b, arena_printf(b->a, "%s, but no request is specified or request is 0", head));
        return;
    }
    if (!limit || quantity_is_zero(*limit)) {
        exceed(b, arena_printf(b->a, "%s, but no limit is specified or limit is 0", head));
        return;
    }
    is = (double)limit->nano / (double)request->nano;
    if (is > (double)most.nano / 1e9)
        exceed(b, arena_printf(b->a, "%s, but provided ratio is %f", head, is));
}

static void hold(struct bounds *b, const struct json *item)
{
    struct amounts min = {0}, max = {0}, most = {0};

    amounts_read(&min, json_get(item, "min"), b->a);
    amounts_read(&max, json_get(item, "max"), b->a);
    amounts_read(&most, json_get(item, "maxLimitRequestRatio"), b->a);
    for (size_t i = 0; i < min.n; i++)
        at_least(b, min.p[i].name, min.p[i].q);
    for (size_t i = 0; i < max.n; i++)
        at_most(b, max.p[i].name, max.p[i].q);
    for (size_t i = 0; i < most.n; i++)
        ratio(b, most.p[i].name, most.p[i].q);
}

static void hold_containers(struct bounds *b, const struct json *list, const struct json *item)
{
    json_each_item(c, list) {
        struct amounts requests = {0}, limits = {0};

        amounts_read(&requests, json_at(c, "resources/requests"), b->a);
        amounts_read(&limits, json_at(c, "resources/limits"), b->a);
        b->requests = &requests;
        b->limits = &limits;
        hold(b, item);
    }
}

/* The object against one range. */
static void hold_range(struct bounds *b, const struct kind_info *k, const struct json *o,
                       const struct json *range)
{
    bool pod = kind_is(k, "", "pods");

    json_each_item(item, json_at(range, "spec/limits")) {
        struct str type = json_str_at(item, "type");
        struct amounts requests = {0}, limits = {0};

        b->type = arena_strdup(b->a, type);
        b->requests = &requests;
        b->limits = &limits;
        if (pod && str_is(type, "Container")) {
            hold_containers(b, json_at(o, "spec/containers"), item);
            hold_containers(b, json_at(o, "spec/initContainers"), item);
        } else if (pod && str_is(type, "Pod")) {
            pod_amounts(o, "requests", &requests, b->a);
            pod_amounts(o, "limits", &limits, b->a);
            hold(b, item);
        } else if (!pod && str_is(type, "PersistentVolumeClaim")) {
            amounts_read(&requests, json_at(o, "spec/resources/requests"), b->a);
            hold(b, item);
        }
    }
}

bool limits_check(struct request *r, const struct json *o)
{
    AUTO(store_list_done) struct store_list list = {0};
    AUTO(buf_done) struct buf text = {0};

    if (!ranges(r, &list))
        return true;
    for (size_t i = 0; i < list.n; i++) {
        struct bounds b = {.a = &r->arena};

        hold_range(&b, r->kind->info, o, store_object_json(list.p[i], &r->arena));
        if (!b.n)
            continue;
        for (size_t j = 0; j < b.n; j++)
            buf_addf(&text, "%s%s", j ? ", " : b.n > 1 ? "[" : "", b.found[j]);
        buf_adds(&text, b.n > 1 ? "]" : "");
        return admit_forbid(r, arena_strdup(&r->arena, buf_str(&text)));
    }
    return true;
}
