#include "subresources/documents.h"

#include <openssl/sha.h>

#include "base/cleanup.h"

/* --- discovery ---------------------------------------------------------------------------------------------------------------- */

static const struct json *resources_of(const struct virtual_group *g, struct arena *a)
{
    AUTO(error_clear) struct error ignored = {0}; /* a text of ours */
    const struct json *list;

    return json_parse(str_of(g->resources_json), a, &list, &ignored) ? list : json_array(a, NULL);
}

static const struct json *version_value(const struct virtual_group *g, const char *version, struct arena *a)
{
    return json_object(a, "groupVersion", json_new_f(a, "%s/%s", g->group, version), "version", json_new_z(a, version), NULL);
}

static const struct json *group_value(const struct virtual_group *g, bool alone, struct arena *a)
{
    const struct json *versions = json_array(a, NULL);

    for (size_t i = 0; g->versions[i]; i++)
        versions = json_append(a, versions, version_value(g, g->versions[i], a));
    return json_object(a, "kind", alone ? json_new_z(a, "APIGroup") : NULL, "apiVersion", alone ? json_new_z(a, "v1") : NULL, "name",
                       json_new_z(a, g->group), "versions", versions, "preferredVersion", json_item(versions, 0), NULL);
}

static const struct json *group_list(const struct virtual_group *g, struct arena *a)
{
    return json_object(a, "kind", json_new_z(a, "APIGroupList"), "apiVersion", json_new_z(a, "v1"), "groups",
                       json_array(a, group_value(g, false, a), NULL), NULL);
}

static const struct json *resource_list(const struct virtual_group *g, const char *version, struct arena *a)
{
    return json_object(a, "kind", json_new_z(a, "APIResourceList"), "apiVersion", json_new_z(a, "v1"), "groupVersion",
                       json_new_f(a, "%s/%s", g->group, version), "resources", resources_of(g, a), NULL);
}

/* --- OpenAPI ------------------------------------------------------------------------------------------------------------------ */

static const struct json *parameter(const char *name, bool v3, struct arena *a)
{
    const struct json *type = json_new_z(a, "string");

    return json_object(a, "name", json_new_z(a, name), "in", json_new_z(a, "path"), "required", json_new_bool(true), "type",
                       v3 ? NULL : type, "schema", v3 ? json_object(a, "type", type, NULL) : NULL, NULL);
}

static const struct json *response(const char *description, struct arena *a)
{
    return json_object(a, "description", json_new_z(a, description), NULL);
}

/* "virtualmachines/start" and its like: one operation each. */
static const struct json *path_item(const struct json *resource, const char *version, bool named, bool v3, struct arena *a)
{
    struct str name = json_str_at(resource, "name");
    bool get = str_is(json_str(json_item(json_get(resource, "verbs"), 0)), "get");
    char *id = arena_printf(a, "%s_%s_" STR_FMT, get ? "read" : "replace", version, STR_ARG(name));
    const struct json *operation;

    for (char *c = id; *c; c++)
        if (*c == '/' || *c == '-')
            *c = '_';
    operation = json_object(a, "operationId", json_new_z(a, id), "responses",
                            json_object(a, "200", response("OK", a), "202", get ? NULL : response("Accepted", a), "401",
                                        response("Unauthorized", a), NULL),
                            NULL);
    return json_object(a, get ? "get" : "put", operation, "parameters",
                       json_array(a, parameter("namespace", v3, a), named ? parameter("name", v3, a) : NULL, NULL), NULL);
}

static const struct json *add_paths(const struct virtual_group *g, const char *version, const struct json *paths, bool v3,
                                    struct arena *a)
{
    json_each_item(resource, resources_of(g, a)) {
        struct str name = json_str_at(resource, "name"), kind, sub;
        bool named = str_cut(name, '/', &kind, &sub);
        char *path = named ? arena_printf(a, "/apis/%s/%s/namespaces/{namespace}/" STR_FMT "/{name}/" STR_FMT, g->group, version,
                                          STR_ARG(kind), STR_ARG(sub))
                           : arena_printf(a, "/apis/%s/%s/namespaces/{namespace}/" STR_FMT, g->group, version, STR_ARG(name));

        paths = json_with(a, paths, path, path_item(resource, version, named, v3, a));
    }
    return paths;
}

static const struct json *info(const struct virtual_group *g, struct arena *a)
{
    return json_object(a, "title", json_new_z(a, g->group), "version", json_new_z(a, VIREO_VERSION), NULL);
}

static const struct json *openapi_2(const struct virtual_group *g, struct arena *a)
{
    const struct json *paths = json_object(a, NULL);

    for (size_t i = 0; g->versions[i]; i++)
        paths = add_paths(g, g->versions[i], paths, false, a);
    return json_object(a, "swagger", json_new_z(a, "2.0"), "info", info(g, a), "paths", paths, NULL);
}

static const struct json *openapi_3(const struct virtual_group *g, const char *version, struct arena *a)
{
    return json_object(a, "openapi", json_new_z(a, "3.0.0"), "info", info(g, a), "paths",
                       add_paths(g, version, json_object(a, NULL), true, a), NULL);
}

static const char *hash_of(struct arena *a, struct str text)
{
    unsigned char digest[SHA256_DIGEST_LENGTH];
    char *hex = arena_alloc_bytes(a, 2 * sizeof digest + 1);

    SHA256((const unsigned char *)text.p, text.n, digest);
    for (size_t i = 0; i < sizeof digest; i++)
        snprintf(hex + 2 * i, 3, "%02X", digest[i]);
    return hex;
}

static const struct json *openapi_3_index(const struct virtual_group *g, struct arena *a)
{
    const struct json *paths = json_object(a, NULL);

    for (size_t i = 0; g->versions[i]; i++) {
        AUTO(buf_done) struct buf text = {0};
        const char *path = arena_printf(a, "apis/%s/%s", g->group, g->versions[i]);

        json_write(&text, openapi_3(g, g->versions[i], a));
        paths = json_with(a, paths, path,
                          json_object(a, "serverRelativeURL",
                                      json_new_f(a, "/openapi/v3/%s?hash=%s", path, hash_of(a, buf_str(&text))), NULL));
    }
    return json_object(a, "paths", paths, NULL);
}

/* Whoever asks has it already: an API server asks every minute. */
static void respond_document(struct exchange *x, const struct json *document)
{
    AUTO(buf_done) struct buf text = {0};
    const char *tag;

    json_write(&text, document);
    tag = arena_printf(&x->arena, "\"%s\"", hash_of(&x->arena, buf_str(&text)));
    exchange_set_header(x, "ETag", str_of(tag));
    if (str_is(exchange_header(x, "if-none-match"), tag))
        exchange_respond(x, 304, NULL, STR(""));
    else
        exchange_respond(x, 200, "application/json", buf_str(&text));
}

bool aggregated_documents(const struct virtual_group *g, struct exchange *x)
{
    struct arena *a = &x->arena;
    struct str path = x->path;

    if (path.n > 1 && path.p[path.n - 1] == '/')
        path.n--;
    if (str_is(path, "/apis")) {
        apiserver_respond_json(x, 200, group_list(g, a));
    } else if (str_is(path, arena_printf(a, "/apis/%s", g->group))) {
        apiserver_respond_json(x, 200, group_value(g, true, a));
    } else if (str_is(path, "/openapi/v2")) {
        respond_document(x, openapi_2(g, a));
    } else if (str_is(path, "/openapi/v3")) {
        respond_document(x, openapi_3_index(g, a));
    } else {
        for (size_t i = 0; g->versions[i]; i++) {
            if (str_is(path, arena_printf(a, "/apis/%s/%s", g->group, g->versions[i]))) {
                apiserver_respond_json(x, 200, resource_list(g, g->versions[i], a));
                return true;
            }
            if (str_is(path, arena_printf(a, "/openapi/v3/apis/%s/%s", g->group, g->versions[i]))) {
                respond_document(x, openapi_3(g, g->versions[i], a));
                return true;
            }
        }
        return false;
    }
    return true;
}
