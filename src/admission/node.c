#include "admission/node.h"

#include "api/meta.h"
#include "base/cleanup.h"

#define EXTRA "authentication.kubernetes.io/"

static struct str extra(const struct json *request, const char *key)
{
    const struct json *first = NULL;

    json_each_item(v, json_get(json_at(request, "userInfo/extra"), key)) {
        first = v;
        break;
    }
    return json_str(first);
}

bool node_agent_of(const struct json *request, struct str install_ns, struct node_agent *ret)
{
    AUTO(arena_done) struct arena a = {0};

    if (!str_is(json_str_at(request, "userInfo/username"),
                arena_printf(&a, "system:serviceaccount:" STR_FMT ":kubevirt-handler", STR_ARG(install_ns))))
        return false;
    *ret = (struct node_agent){extra(request, EXTRA "node-name"), extra(request, EXTRA "pod-name"), extra(request, EXTRA "pod-uid")};
    return true;
}

/* "kubevirt.io/…", "vireo.io/…", "cpu-model.node.kubevirt.io/…": by the domain, not by what a key contains. */
static bool is_ours(struct str key)
{
    struct str domain, rest;

    if (!str_cut(key, '/', &domain, &rest))
        return false;
    return str_is(domain, "kubevirt.io") || str_is(domain, "vireo.io")
           || (str_ends(domain, STR(".kubevirt.io")) && domain.n > strlen(".kubevirt.io"));
}

static bool only_ours(const struct json *old, const struct json *new)
{
    json_each_member(m, old)
        if (!is_ours(json_str(&m->key)) && !json_eq(&m->value, json_get_str(new, json_str(&m->key))))
            return false;
    json_each_member(m, new)
        if (!is_ours(json_str(&m->key)) && !json_get_str(old, json_str(&m->key)))
            return false;
    return true;
}

/* All members but those in `but` (ends with NULL) are as they were. */
static bool same_but(const struct json *old, const struct json *new, const char *const *but)
{
    const struct json *sides[] = {old, new};

    for (size_t i = 0; i < 2; i++)
        json_each_member(m, sides[i]) {
            const char *const *b = but;

            while (*b && !str_is(json_str(&m->key), *b))
                b++;
            if (!*b && !json_eq(&m->value, json_get_str(sides[1 - i], json_str(&m->key))))
                return false;
        }
    return true;
}

static bool same(const struct json *a, const struct json *b)
{
    return a && b ? json_eq(a, b) : a == b;
}

static bool may_node(struct str node, const struct json *old, const struct json *object, struct error *err)
{
    static const char *const but[] = {"labels", "annotations", "managedFields", "resourceVersion", NULL};

    if (!node.n || !str_eq(meta_name(object), node))
        return error_set(err, ERROR_FORBIDDEN, "a node agent may change no node but its own");
    if (!same(json_get(old, "spec"), json_get(object, "spec")))
        return error_set(err, ERROR_FORBIDDEN, "a node agent may not change the node's spec");
    if (!same_but(json_get(old, "metadata"), json_get(object, "metadata"), but))
        return error_set(err, ERROR_FORBIDDEN, "a node agent may change of the node's metadata only labels and annotations");
    if (!only_ours(json_at(old, "metadata/labels"), json_at(object, "metadata/labels")))
        return error_set(err, ERROR_FORBIDDEN, "a node agent may change only labels of kubevirt.io and vireo.io");
    return true;
}

static bool may_instance(struct str node, const struct json *old, const struct json *object, struct error *err)
{
    static const char *const but[] = {"annotations", "managedFields", "resourceVersion", "generation", NULL};

    if (!node.n || !str_eq(json_str_at(old, "status/nodeName"), node))
        return error_set(err, ERROR_FORBIDDEN, "a node agent may change no virtual machine instance but those on its node");
    if (!str_eq(json_str_at(object, "status/nodeName"), node))
        return error_set(err, ERROR_FORBIDDEN, "a node agent may not move a virtual machine instance to another node");
    if (!same(json_get(old, "spec"), json_get(object, "spec")))
        return error_set(err, ERROR_FORBIDDEN, "a node agent may not change the spec of a virtual machine instance");
    if (!same_but(json_get(old, "metadata"), json_get(object, "metadata"), but))
        return error_set(err, ERROR_FORBIDDEN,
                         "a node agent may change of the metadata of a virtual machine instance only annotations");
    return true;
}

bool node_agent_may(struct str node, struct str plural, const struct json *old, const struct json *object, struct error *err)
{
    bool is_node = str_is(plural, "nodes");

    if (!is_node && !str_is(plural, "virtualmachineinstances"))
        return error_set(err, ERROR_FORBIDDEN, "a node agent may not change " STR_FMT, STR_ARG(str_take(plural, 64)));
    if (!(is_node ? may_node : may_instance)(node, old, object, err))
        return false;
    if (!only_ours(json_at(old, "metadata/annotations"), json_at(object, "metadata/annotations")))
        return error_set(err, ERROR_FORBIDDEN, "a node agent may change only annotations of kubevirt.io and vireo.io");
    return true;
}
