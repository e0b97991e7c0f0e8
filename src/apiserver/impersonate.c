/* apiserver/impersonate - Impersonate-User, -Group, -Uid and -Extra-*: to act as somebody else, each part allowed by RBAC's verb
 * "impersonate" on users, groups, serviceaccounts, uids and userextras/<key>. */
#include "apiserver/internal.h"
#include "apiserver/rules.h"
#include "base/vec.h"

#define AUTHN "authentication.k8s.io"

struct wish {
    const char *kind, *version; /* as an ObjectReference prints them */
    struct access want;
};

struct wishes {
    struct wish *p;
    size_t n, cap;
};

static void wish(struct wishes *all, const char *kind, const char *group, const char *resource,
                 struct str sub, struct str ns, struct str name)
{
    struct wish w = {.kind = kind,
                     .version = *group ? AUTHN "/v1" : "",
                     .want = {.verb = STR("impersonate"),
                              .group = str_of(group),
                              .resource = str_of(resource),
                              .subresource = sub,
                              .ns = ns,
                              .name = name}};

    vec_push(all, w);
}

/* system:serviceaccount:<ns>:<name>, both there and no further colon. */
static bool account_name(struct str user, struct str *ret_ns, struct str *ret_name)
{
    static const char prefix[] = "system:serviceaccount:";

    return str_starts(user, str_of(prefix))
           && str_cut(str_skip(user, strlen(prefix)), ':', ret_ns, ret_name) && ret_ns->n
           && ret_name->n && !str_has(*ret_name, ':');
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Keys come percent-encoded, in lower case; a bad escape leaves the text as it is. */
static struct str extra_key(struct str name, struct arena *a)
{
    char *out = arena_alloc_bytes(a, name.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < name.n; i++) {
        if (name.p[i] == '%') {
            if (i + 2 >= name.n || hex(name.p[i + 1]) < 0 || hex(name.p[i + 2]) < 0
                || (!hex(name.p[i + 1]) && !hex(name.p[i + 2])))
                return name;
            out[n++] = (char)(hex(name.p[i + 1]) * 16 + hex(name.p[i + 2]));
            i += 2;
        } else {
            out[n++] = name.p[i];
        }
    }
    out[n] = '\0';
    return str_n(out, n);
}

static void read_headers(struct request *r, struct wishes *all)
{
    static const char extra[] = "impersonate-extra-";
    struct exchange *x = r->x;
    struct str user = exchange_header(x, "impersonate-user"),
               uid = exchange_header(x, "impersonate-uid"), ns, name;

    if (user.n && account_name(user, &ns, &name))
        wish(all, "ServiceAccount", "", "serviceaccounts", STR_NONE, ns, name);
    else if (user.n)
        wish(all, "User", "", "users", STR_NONE, STR_NONE, user);
    for (size_t i = 0; i < x->n_headers; i++)
        if (str_is(x->headers[i].name, "impersonate-group"))
            wish(all, "Group", "", "groups", STR_NONE, STR_NONE, x->headers[i].value);
    for (size_t i = 0; i < x->n_headers; i++)
        if (str_starts(x->headers[i].name, str_of(extra)))
            wish(all, "UserExtra", AUTHN, "userextras",
                 extra_key(str_skip(x->headers[i].name, strlen(extra)), &r->arena), STR_NONE,
                 x->headers[i].value);
    if (uid.n)
        wish(all, "UID", AUTHN, "uids", STR_NONE, STR_NONE, uid);
}

static bool refuse_without_user(struct request *r, const struct wishes *all)
{
    AUTO(buf_done) struct buf b = {0};

    buf_adds(&b, "requested [");
    for (size_t i = 0; i < all->n; i++) {
        const struct wish *w = &all->p[i];

        buf_addf(&b, "%s{%s " STR_FMT " " STR_FMT "  %s  " STR_FMT "}", i ? " " : "", w->kind,
                 STR_ARG(w->want.ns), STR_ARG(w->want.name), w->version,
                 STR_ARG(w->want.subresource));
    }
    buf_adds(&b, "] without impersonating a user");
    answer_status(r, 400, "BadRequest", arena_strdup(&r->arena, buf_str(&b)), NULL);
    return false;
}

static bool allowed(struct request *r, const struct wishes *all)
{
    for (size_t i = 0; i < all->n; i++) {
        const char *reason;

        if (authorize(r->s, &r->who, &all->p[i].want, &r->arena, &reason))
            continue;
        answer_forbidden(r, &r->who, &all->p[i].want, reason);
        return false;
    }
    return true;
}

static const char *const *groups_of(struct request *r, const struct wishes *all)
{
    struct arena *a = &r->arena;
    const struct access *first = &all->p[0].want;
    const char **groups = ARENA_ARRAY(a, const char *, all->n + 4);
    bool known = false, unknown = false;
    size_t n = 0;

    for (size_t i = 0; i < all->n; i++)
        if (!strcmp(all->p[i].kind, "Group"))
            groups[n++] = arena_strdup(a, all->p[i].want.name);
    if (!n && !strcmp(all->p[0].kind, "ServiceAccount")) {
        groups[n++] = "system:serviceaccounts";
        groups[n++] = arena_printf(a, "system:serviceaccounts:" STR_FMT, STR_ARG(first->ns));
    }
    for (size_t i = 0; i < n; i++) {
        known |= !strcmp(groups[i], "system:authenticated");
        unknown |= !strcmp(groups[i], "system:unauthenticated");
    }
    if (str_is(first->name, "system:anonymous") && first->resource.n == strlen("users")) {
        if (!unknown)
            groups[n++] = "system:unauthenticated";
    } else if (!known && !unknown) {
        groups[n++] = "system:authenticated";
    }
    return groups;
}

static const struct json *extra_of(struct request *r, const struct wishes *all)
{
    struct arena *a = &r->arena;
    const struct json *extra = NULL;

    for (size_t i = 0; i < all->n; i++) {
        const struct access *w = &all->p[i].want;
        const struct json *list;

        if (strcmp(all->p[i].kind, "UserExtra") != 0)
            continue;
        list = json_get_str(extra, w->subresource);
        list = json_append(a, list ? list : json_array(a, NULL), json_new_str(a, w->name));
        extra = json_with_str(a, extra ? extra : json_object(a, NULL), w->subresource, list);
    }
    return extra;
}

bool impersonate(struct request *r)
{
    struct wishes all = {0};
    struct str user = exchange_header(r->x, "impersonate-user"),
               uid = exchange_header(r->x, "impersonate-uid");
    struct identity *who;
    bool ok = true;

    read_headers(r, &all);
    if (!all.n)
        return true;
    if (!user.n)
        ok = refuse_without_user(r, &all);
    else
        ok = allowed(r, &all);
    if (ok) {
        who = ARENA_NEW(&r->arena, struct identity);
        who->user = arena_strdup(&r->arena, user);
        who->uid = uid.n ? arena_strdup(&r->arena, uid) : NULL;
        who->groups = groups_of(r, &all);
        who->extra = extra_of(r, &all);
        r->impersonator = ARENA_NEW(&r->arena, struct identity);
        *r->impersonator = r->who;
        r->who = *who;
    }
    vec_done(&all);
    return ok;
}
