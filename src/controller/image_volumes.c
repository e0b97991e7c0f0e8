#include "controller/image_volumes.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "controller/engine.h"

#define GATE "ImageVolume"
#define ASK_AGAIN SECONDS(600)
#define KUBELET 135 /* 1.35, as major*100+minor */

static unsigned number(struct str *s)
{
    unsigned n = 0;

    while (s->n > 0 && s->p[0] >= '0' && s->p[0] <= '9') {
        n = n > 9999 ? n : n * 10 + (unsigned)(s->p[0] - '0');
        *s = str_skip(*s, 1);
    }
    return n;
}

/* "v1.35.2+k3s1", "2.1.0": major*100+minor; 0: none is told. */
static unsigned version(struct str s)
{
    unsigned major;

    if (s.n > 0 && s.p[0] == 'v')
        s = str_skip(s, 1);
    major = number(&s);
    if (s.n == 0 || s.p[0] != '.')
        return 0;
    s = str_skip(s, 1);
    return major * 100 + number(&s);
}

bool image_volumes_of_node(const struct json *node)
{
    static const struct {
        const char *name;
        unsigned since;
    } runtimes[] = {{"containerd://", 201}, {"cri-o://", 131}};
    struct str runtime = json_str_at(node, "status/nodeInfo/containerRuntimeVersion");

    if (version(json_str_at(node, "status/nodeInfo/kubeletVersion")) < KUBELET)
        return false;
    for (size_t i = 0; i < ARRAY_SIZE(runtimes); i++)
        if (str_starts(runtime, str_of(runtimes[i].name)))
            return version(str_skip(runtime, strlen(runtimes[i].name))) >= runtimes[i].since;
    return false;
}

const struct json *image_volumes_question(struct str ns, struct arena *a)
{
    const struct json *volume =
        json_object(a, "name", json_new_z(a, "image"), "image",
                    json_object(a, "reference", json_new_z(a, "vireo.io/question:1"), "pullPolicy",
                                json_new_z(a, "IfNotPresent"), NULL),
                    NULL);
    const struct json *container = json_object(a, "name", json_new_z(a, "question"), "image",
                                               json_new_z(a, "vireo.io/question:1"), NULL);

    return json_object(a, "apiVersion", json_new_z(a, "v1"), "kind", json_new_z(a, "Pod"),
                       "metadata",
                       json_object(a, "generateName", json_new_z(a, "vireo-image-volumes-"),
                                   "namespace", json_new_str(a, ns), NULL),
                       "spec",
                       json_object(a, "containers", json_array(a, container, NULL), "volumes",
                                   json_array(a, volume, NULL), "automountServiceAccountToken",
                                   json_new_bool(false), NULL),
                       NULL);
}

bool image_volumes_answer(const struct json *pod)
{
    json_each_item(v, json_at(pod, "spec/volumes"))
        if (str_is(json_str_at(v, "name"), "image"))
            return json_str_at(v, "image/reference").n > 0;
    return false;
}

static void answered(void *user, const struct client_response *r)
{
    struct image_volumes *v = &((struct controllers *)user)->image_question;

    v->call = NULL;
    v->state = r->err->kind == ERROR_NONE && image_volumes_answer(r->body) ? IMAGE_VOLUMES_YES
                                                                           : IMAGE_VOLUMES_NO;
    log_info(NULL, "image volumes: %s%s%s",
             v->state == IMAGE_VOLUMES_YES ? "the API server has them" : "the API server has none",
             r->err->kind == ERROR_NONE ? "" : ": ",
             r->err->kind == ERROR_NONE ? "" : error_text(r->err));
}

static void ask(struct controllers *c)
{
    AUTO(arena_done) struct arena a = {0};
    struct image_volumes *v = &c->image_question;
    struct str ns = str_of(c->ns);

    v->state = IMAGE_VOLUMES_ASKING;
    v->asked_ns = loop_now_ns(c->loop);
    v->call = client_call(c->client,
                          &(struct client_request){.verb = CLIENT_CREATE,
                                                   .group = "",
                                                   .version = "v1",
                                                   .plural = "pods",
                                                   .ns = ns,
                                                   .body = image_volumes_question(ns, &a),
                                                   .query = STR("dryRun=All")},
                          answered, c);
}

void image_volumes_node_changed(struct controllers *c, struct str name, const struct json *node, bool deleted)
{
    struct image_volumes *v = &c->image_question;

    if (deleted || image_volumes_of_node(node))
        map_del(&v->lacking, name);
    else
        map_set(&v->lacking, name, v);
}

bool image_volumes(struct controllers *c)
{
    struct image_volumes *v = &c->image_question;

    if (c->config.image_volumes || kv_gate(c->kv, GATE))
        return true;
    if (kv_gate_off(c->kv, GATE))
        return false;
    if (v->lacking.n > 0 || informer_count(c->informers[RESOURCE_NODE]) == 0)
        return false;
    if (v->state == IMAGE_VOLUMES_UNKNOWN
        || (v->state == IMAGE_VOLUMES_NO && loop_now_ns(c->loop) - v->asked_ns > ASK_AGAIN))
        ask(c);
    return v->state == IMAGE_VOLUMES_YES;
}

void image_volumes_done(struct controllers *c)
{
    if (c->image_question.call)
        client_cancel(c->client, c->image_question.call);
    c->image_question.call = NULL;
    map_done(&c->image_question.lacking);
}
