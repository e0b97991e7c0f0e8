/* apiserver/reviews - questions that are answered and not stored: access, rules, tokens, who am I. */
#include "apiserver/internal.h"

static const struct json *with_status(struct request *r, const struct json *body,
                                      const struct json *status)
{
    struct arena *a = &r->arena;
    const struct kind_info *k = r->kind->info;

    body = json_with(a, body, "status", status);
    body = json_with(a, body, "kind", json_new_z(a, k->kind));
    body = json_with(a, body, "apiVersion", json_new_z(a, group_version(k->group, r->version, a)));
    if (!json_get(body, "metadata"))
        body = json_with(a, body, "metadata", json_object(a, NULL));
    return object_order(a, k, body);
}

static const char *z(struct arena *a, struct str s)
{
    return s.p ? arena_strdup(a, s) : "";
}

static const struct json *access_status(struct request *r, const struct identity *who,
                                        const struct json *spec)
{
    struct arena *a = &r->arena;
    const struct json *res = json_get(spec, "resourceAttributes"),
                      *path = json_get(spec, "nonResourceAttributes");
    struct access want = {0};
    const char *reason;
    bool ok;

    if (res) {
        want = (struct access){.verb = json_str_at(res, "verb"),
                               .group = json_str_at(res, "group"),
                               .resource = json_str_at(res, "resource"),
                               .subresource = json_str_at(res, "subresource"),
                               .ns = json_str_at(res, "namespace"),
                               .name = json_str_at(res, "name")};
    } else {
        want.verb = json_str_at(path, "verb");
        want.path = json_str_at(path, "path");
        if (!want.path.p)
            want.path = STR("");
    }
    ok = authorize(r->s, who, &want, a, &reason);
    return json_object(a, "allowed", json_new_bool(ok), "reason",
                       *reason ? json_new_z(a, reason) : NULL, NULL);
}

static bool spec_ok(struct request *r, const struct json *spec)
{
    const struct kind_info *k = r->kind->info;
    bool res = json_get(spec, "resourceAttributes") != NULL,
         path = json_get(spec, "nonResourceAttributes") != NULL;

    if (res != path)
        return true;
    answer_invalid_one(
        r, k->kind, k->group, "", "FieldValueInvalid", "spec.resourceAttributes",
        res ? "Invalid value: cannot be specified in combination with nonResourceAttributes"
            : "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes "
              "must be specified");
    return false;
}

/* The namespace of the path is the only one that a LocalSubjectAccessReview may ask about. */
static bool local_ok(struct request *r, const struct json *body)
{
    const struct kind_info *k = r->kind->info;
    struct arena *a = &r->arena;
    const struct json *spec = json_get(body, "spec");
    struct str asked = json_str_at(spec, "resourceAttributes/namespace"),
               own = json_str_at(body, "metadata/namespace");

    if (json_get(spec, "nonResourceAttributes")) {
        answer_invalid_one(r, k->kind, k->group, "", "FieldValueInvalid",
                           "spec.nonResourceAttributes",
                           "Invalid value: \"null\": disallowed on this kind of request");
        return false;
    }
    if (own.n && !str_eq(own, r->ns)) {
        answer_status(r, 400, "BadRequest",
                      "the namespace of the provided object does not match the namespace sent on "
                      "the request",
                      NULL);
        return false;
    }
    if (str_eq(asked, r->ns))
        return true;
    answer_invalid_one(
        r, k->kind, k->group, "", "FieldValueInvalid", "spec.resourceAttributes.namespace",
        arena_printf(a, "Invalid value: \"" STR_FMT "\": must match metadata.namespace",
                     STR_ARG(asked)));
    return false;
}

static void subject_review(struct request *r, const struct json *body)
{
    struct arena *a = &r->arena;
    const struct json *spec = json_get(body, "spec"), *groups = json_get(spec, "groups");
    const char **list = ARENA_ARRAY(a, const char *, json_len(groups) + 1);
    struct identity who = {.user = z(a, json_str_at(spec, "user")),
                           .uid = z(a, json_str_at(spec, "uid")),
                           .groups = list,
                           .extra = json_get(spec, "extra")};
    size_t n = 0;

    if (!spec_ok(r, spec))
        return;
    if (!*who.user && !json_len(groups)) {
        answer_invalid_one(r, r->kind->info->kind, r->kind->info->group, "", "FieldValueInvalid",
                           "spec.user",
                           "Invalid value: \"\": at least one of user or group must be specified");
        return;
    }
    if (!strcmp(r->kind->info->kind, "LocalSubjectAccessReview") && !local_ok(r, body))
        return;
    json_each_item(g, groups)
        list[n++] = z(a, json_str(g));
    answer_json(r, 201, with_status(r, body, access_status(r, &who, spec)));
}

const struct json *user_info(struct arena *a, const struct identity *who)
{
    const struct json *groups = json_array(a, NULL);

    for (size_t i = 0; who->groups && who->groups[i]; i++)
        groups = json_append(a, groups, json_new_z(a, who->groups[i]));
    return json_object(a, "username", json_new_z(a, who->user), "uid", json_new_z(a, who->uid),
                       "groups", groups, "extra", who->extra, NULL);
}

static void token_review(struct request *r, const struct json *body)
{
    struct arena *a = &r->arena;
    struct str token = json_str_at(body, "spec/token");
    const struct json *aud = json_at(body, "spec/audiences"), *status, *given = NULL;
    AUTO(error_clear) struct error err = {0};
    struct identity who = {0};
    bool ok;

    if (!token.n) {
        answer_invalid_one(r, "TokenReview", "authentication.k8s.io", "", "FieldValueRequired",
                           "spec.token", "Required value");
        return;
    }
    ok = token_verify(r->s, token, aud, a, &who, &given, &err);
    if (!ok && !json_len(aud) && bootstrap_token_verify(r->s, token, a, &who)) {
        ok = true;
        given = json_array(a, json_new_z(a, r->s->config.issuer), NULL);
    }
    if (ok)
        status = json_object(a, "authenticated", json_new_bool(true), "user", user_info(a, &who),
                             "audiences", given, NULL);
    else
        status = json_object(a, "user", json_object(a, NULL), "error",
                             json_new_z(a, "invalid bearer token"), NULL);
    answer_json(r, 201, with_status(r, body, status));
}

void reviews_create(struct request *r)
{
    const char *kind = r->kind->info->kind;
    struct arena *a = &r->arena;
    const struct json *body, *spec;

    if (r->verb != VERB_CREATE) {
        answer_method(r);
        return;
    }
    if (!strcmp(kind, "Binding") && r->ns.p) {
        /* The old way to bind a pod: POST bindings with the pod's name. */
        struct json_dups dups = {0};
        struct served *pods = catalog_find(r->s, STR(""), STR("v1"), STR("pods"));

        if (!body_parse(r, r->kind->info, &body, &dups))
            return;
        r->name = json_str_at(body, "metadata/name");
        served_unref(r->kind);
        r->kind = served_ref(pods);
        r->subresource = STR("binding");
        r->body_json = body;
        pods_binding(r);
        return;
    }
    if (!body_object(r, &body))
        return;
    spec = json_get(body, "spec");
    if (spec && strcmp(kind, "SelfSubjectRulesReview") != 0)
        body = fields_updated(r, NULL,
                              json_get(body, "metadata")
                                  ? body
                                  : json_with(a, body, "metadata", json_object(a, NULL)));
    if (!strcmp(kind, "SelfSubjectAccessReview")) {
        if (spec_ok(r, spec))
            answer_json(r, 201, with_status(r, body, access_status(r, &r->who, spec)));
    } else if (!strcmp(kind, "SubjectAccessReview") || !strcmp(kind, "LocalSubjectAccessReview")) {
        subject_review(r, body);
    } else if (!strcmp(kind, "SelfSubjectRulesReview")) {
        struct str ns = json_str_at(spec, "namespace");

        if (!ns.n) {
            answer_status(r, 400, "BadRequest", "no namespace on request", NULL);
            return;
        }
        body = json_with(a, body, "spec", json_object(a, NULL));
        answer_json(r, 201, with_status(r, body, authorize_rules(r->s, &r->who, ns, a)));
    } else if (!strcmp(kind, "TokenReview")) {
        token_review(r, body);
    } else if (!strcmp(kind, "SelfSubjectReview")) {
        body = json_with_at(a, body, "metadata/creationTimestamp",
                            json_new_z(a, now_text(r->s, false, a)));
        answer_json(r, 201,
                    with_status(r, body, json_object(a, "userInfo", user_info(a, &r->who), NULL)));
    } else {
        answer_unknown_resource(r);
    }
}
