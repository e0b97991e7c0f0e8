/* vireo operator: installs what a KubeVirt object asks for, keeps it as it should be, and takes it away. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/meta.h"
#include "apiserver/apiserver.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/metric.h"
#include "client/informer.h"
#include "cmd/lead.h"
#include "http/tls.h"
#include "operator/certs.h"
#include "operator/component.h"
#include "operator/operator.h"
#include "operator/webhook.h"

#define OWN_CERT_S (365 * 86400)
#define LINGER SECONDS(5) /* until the API server has heard that this one goes */
#define BODY_MAX (8u << 20) /* a review holds an object twice */

const char operator_usage[] = "usage: vireo operator [options]\n"
                            "Installs, on a Kubernetes cluster, what the KubeVirt object in its namespace asks for. Of several "
                            "one works at a time, by the Lease\n"
                            "virt-operator. VIREO_IMAGE and VIREO_LAUNCHER_IMAGE name the images; VIREO_PULL_POLICY "
                            "(IfNotPresent) and VIREO_KUBELET_DIR\n"
                            "(/var/lib/kubelet) may be set.\n\n"
                            "  --print             print what a KubeVirt object without a spec has installed, certificates "
                            "aside, and end\n" ROLE_FLAGS_USAGE;

struct op {
    struct role role;
    struct role_flags flags;
    struct install_env env;
    struct lead lead;
    struct operator* operator;
    struct informer *certs; /* the Secret with our own server's certificate */
    bool cert_failed;       /* it could not be written down, or is not what its key fits */
    struct loop_timer certs_again;
    struct list reviews;
    int status;
};

/* -- our own certificate -------------------------------------------------------------------------------------- */

static bool write_pair(const char *dir, struct str cert, struct str key, struct error *err)
{
    AUTO_CLOSE int fd = -1;

    return file_open_dir(AT_FDCWD, dir, &fd, err) && file_write(fd, "tls.key", key, 0600, err)
           && file_write(fd, "tls.crt", cert, 0600, err);
}

/* Until the installation's CA has signed one: nobody trusts it, but the kubelet's probes do not ask. */
static bool self_signed(const struct op *o, struct error *err)
{
    AUTO(cert_pair_done) struct cert_pair p = {0};
    AUTO_FREE char *file = xasprintf("%s/tls.crt", o->flags.tls_dir);

    if (file_exists(AT_FDCWD, file))
        return true;
    return cert_make_ca("kubevirt-operator-webhook", loop_unix_ns(o->role.loop) / SECONDS(1), OWN_CERT_S, &p, err)
           && write_pair(o->flags.tls_dir, str_of(p.cert_pem), str_of(p.key_pem), err);
}

static void on_certs_again(struct loop_timer *t);

static void take_certs(struct op *o, const struct json *secret)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct str cert = certs_data(secret, "tls.crt", &a), private = certs_data(secret, "tls.key", &a);

    if (!cert.n || !private.n)
        return;
    o->cert_failed = !write_pair(o->flags.tls_dir, cert, private, &err) || !cert_files_look(o->role.certs, &err);
    role_health(&o->role, "certificate", o->cert_failed ? error_text(&err) : NULL);
    if (!o->cert_failed)
        return;
    log_error("certificates", "%s: %s, retrying", o->flags.tls_dir, error_text(&err));
    loop_timer_start(o->role.loop, &o->certs_again, CERT_FILES_AGAIN, on_certs_again);
}

static void on_certs_again(struct loop_timer *t)
{
    struct op *o = container_of(t, struct op, certs_again);
    AUTO(arena_done) struct arena a = {0};

    take_certs(o, informer_get(o->certs, str_of(arena_printf(&a, "%s/" CERTS_OPERATOR, o->flags.ns)), &a));
}

static void on_certs(void *user, struct str key, const struct json *secret, bool deleted)
{
    (void)key;
    if (!deleted && str_is(meta_name(secret), CERTS_OPERATOR))
        take_certs(user, secret);
}

/* There may be none yet: then nobody has been told to trust us, and nobody asks. */
static void on_certs_listed(void *user)
{
    struct op *o = user;

    if (!o->cert_failed)
        role_health(&o->role, "certificate", NULL);
}

/* The API server trusts the certificate of the Secret alone: until we know whether there is one, we are not to be asked. */
static void follow_certs(struct op *o)
{
    role_health(&o->role, "certificate", "the Secret with it has not been read yet");
    o->certs = informer_new(&(struct informer_config){.client = o->role.client,
                                                      .group = "",
                                                      .version = "v1",
                                                      .plural = "secrets",
                                                      .ns = str_of(o->flags.ns),
                                                      .field_selector = STR("metadata.name=" CERTS_OPERATOR),
                                                      .changed = on_certs,
                                                      .synced = on_certs_listed,
                                                      .user = o});
}

/* -- webhooks ------------------------------------------------------------------------------------------------------ */

/* A review on its way: what it is judged by is asked for first. */
struct pending {
    struct list node;
    struct op *o;
    struct exchange *x;
    const struct json *review;
    struct {
        struct pending *p;
        struct client_call *call;
        const char *what;
    } asks[2];
    unsigned asking;
    struct webhook_facts facts;
};

static void pending_free(struct pending *p)
{
    for (size_t i = 0; i < ARRAY_SIZE(p->asks); i++)
        if (p->asks[i].call)
            client_cancel(p->o->role.client, p->asks[i].call);
    p->x->closed = NULL;
    list_remove(&p->node);
    free(p);
}

static void on_gone(struct exchange *x)
{
    pending_free(x->user);
}

static void judge(struct pending *p)
{
    AUTO(error_clear) struct error err = {0};
    struct exchange *x = p->x;
    const struct json *answer = NULL;
    bool ok = webhook_review(x->path, p->review, &p->facts, &x->arena, &answer, &err);

    pending_free(p);
    if (ok)
        apiserver_respond_json(x, 200, answer);
    else
        apiserver_respond_error(x, &err);
}

static void on_asked(void *user, const struct client_response *r)
{
    struct pending *p = *(struct pending **)user; /* first member of an ask */
    struct arena *a = &p->x->arena;
    size_t i = p->asks[0].p && (void *)&p->asks[0] == user ? 0 : 1;

    p->asks[i].call = NULL;
    if (r->err->kind != ERROR_NONE && r->err->kind != ERROR_NOT_FOUND) {
        p->facts.error = arena_printf(a, "%s cannot be listed: %s", p->asks[i].what, error_text(r->err));
    } else if (str_is(str_of(p->asks[i].what), "kubevirts")) {
        p->facts.kubevirts = json_copy(a, json_get(r->body, "items"));
    } else if (r->err->kind == ERROR_NONE) {
        json_each_item(m, json_get(r->body, "items"))
            p->facts.workloads = arena_printf(
                a, "%s%s%s " STR_FMT "/" STR_FMT, p->facts.workloads ? p->facts.workloads : "", p->facts.workloads ? ", " : "",
                i == 0 ? "VirtualMachine" : "VirtualMachineInstance", STR_ARG(meta_namespace(m)), STR_ARG(meta_name(m)));
        if (json_i64_at(r->body, "metadata/remainingItemCount", 0) > 0)
            p->facts.workloads = arena_printf(a, "%s and more", p->facts.workloads ? p->facts.workloads : "");
    }
    if (--p->asking == 0)
        judge(p);
}

static void ask(struct pending *p, size_t i, const char *plural)
{
    p->asks[i].p = p;
    p->asks[i].what = plural;
    p->asking++;
    p->asks[i].call = client_call(
        p->o->role.client,
        &(struct client_request){
            .verb = CLIENT_LIST, .group = "kubevirt.io", .version = "v1", .plural = plural, .query = STR("limit=5")},
        on_asked, &p->asks[i]);
}

static void handle(struct exchange *x, void *data)
{
    AUTO(error_clear) struct error err = {0};
    struct op *o = data;
    const struct json *review = NULL;
    struct pending *p;

    if (x->method != HTTP_POST || !str_starts(x->path, STR("/kubevirt-validate-"))) {
        error_set(&err, ERROR_NOT_FOUND, "the server could not find the requested resource");
        apiserver_respond_error(x, &err);
        return;
    }
    if (!json_parse(x->body, &x->arena, &review, &err)) {
        error_wrap(&err, "the body must be an AdmissionReview");
        apiserver_respond_error(x, &err);
        return;
    }
    p = NEW(struct pending);
    *p = (struct pending){.o = o, .x = x, .review = review};
    list_add_tail(&o->reviews, &p->node);
    x->user = p;
    x->closed = on_gone;
    if (webhook_needs_kubevirts(x->path)) {
        ask(p, 0, "kubevirts");
    } else if (webhook_needs_workloads(x->path, review)) {
        ask(p, 0, "virtualmachines");
        ask(p, 1, "virtualmachineinstances");
    }
    if (p->asking == 0)
        judge(p);
}

/* -- what would be installed ----------------------------------------------------------------------------------------- */

static int print_all(const struct install_env *env)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *items = json_array(&a, NULL);
    const struct install_cluster cluster = {.nodes = 2, .admission_policies = true, .match_conditions = true};
    struct install_env e = *env;
    struct install i;
    struct components all;

    e.webhook = true;
    if (!install_of(json_object(&a, "spec", json_object(&a, NULL), NULL), &e, &cluster, STR("CA"), &a, &i, &err)
        || !components_make(&i, &a, &all, &err)) {
        fprintf(stderr, "vireo operator: %s\n", error_text(&err));
        return 1;
    }
    for (size_t k = 0; k < all.n; k++)
        items = json_append(&a, items, all.p[k].object);
    json_write(&text,
               json_object(&a, "apiVersion", json_new_z(&a, "v1"), "kind", json_new_z(&a, "List"), "items", items, NULL));
    return fwrite(text.p, 1, text.n, stdout) == text.n && putchar('\n') != EOF ? 0 : 1;
}

/* -- life ------------------------------------------------------------------------------------------------------------- */

static void metrics(void *data, struct buf *b)
{
    const struct op *o = data;

    metric_one(b, "kubevirt_virt_operator_ready_status", "gauge", "1 where the operator is ready to work.", role_ready(&o->role) ? 1 : 0);
    metric_one(b, "kubevirt_virt_operator_leading_status", "gauge", "1 in the process that installs.",
               o->lead.lease && lease_held(o->lead.lease) ? 1 : 0);
}

static void on_elected(void *user)
{
    struct op *o = user;

    log_info(NULL, "leading");
    operator_start(o->operator);
}

static void on_ended(void *user)
{
    struct op *o = user;

    operator_free(o->operator);
    o->operator= NULL;
}

static bool serve(struct op *o, struct error *err)
{
    const struct role_server server = {.handle = handle, .metrics = metrics, .data = o, .linger_ns = LINGER, .body_limit = BODY_MAX};

    if (!o->flags.listen)
        return true;
    if (!o->flags.tls_dir)
        return error_set(err, ERROR_BAD_REQUEST, "--listen needs --tls-dir DIR, where the operator may write its certificate");
    if (!self_signed(o, err) || !role_serve(&o->role, &server, err))
        return false;
    follow_certs(o);
    return true;
}

static bool work(struct op *o, struct error *err)
{
    if (!role_open(&o->role, &o->flags, "vireo-operator/" VIREO_VERSION, err))
        return false;
    o->env.webhook = o->flags.listen && !o->flags.kubeconfig && !getenv("KUBECONFIG");
    lead_start(&o->lead, &(struct lead_config){.role = &o->role, .name = "virt-operator", .elected = on_elected, .ended = on_ended, .user = o});
    o->operator= operator_new(&(struct operator_config){.client = o->lead.client, .env = o->env});
    if (!serve(o, err))
        return false;
    o->status = lead_run(&o->lead) ? 0 : 1;
    return true;
}

static void op_done(struct op *o)
{
    list_each_safe(n, &o->reviews)
        pending_free(container_of(n, struct pending, node));
    operator_free(o->operator);
    lead_done(&o->lead);
    loop_timer_stop(&o->certs_again);
    informer_free(o->certs);
    role_close(&o->role);
}

static const char *from_env(const char *name)
{
    const char *v = getenv(name);

    return v && v[0] ? v : NULL;
}

int operator_main(int argc, char **argv)
{
    AUTO(error_clear) struct error err = {0};
    struct op o = {0};
    bool print = false;
    const struct role_option own[] = {{.name = "print", .flag = &print}, {0}};

    if (!role_parse(argc, argv, &o.flags, own)) {
        fputs(operator_usage, stderr);
        return 2;
    }
    log_setup("operator", o.flags.debug ? LOG_DEBUG : LOG_INFO, o.flags.json);
    list_init(&o.reviews);
    o.env = (struct install_env){.ns = o.flags.ns,
                                 .image = from_env("VIREO_IMAGE"),
                                 .launcher_image = from_env("VIREO_LAUNCHER_IMAGE"),
                                 .pull_policy = from_env("VIREO_PULL_POLICY"),
                                 .kubelet_dir = from_env("VIREO_KUBELET_DIR"),
                                 .version = VIREO_VERSION};
    if (!o.env.image || !o.env.launcher_image) {
        fputs("vireo operator: VIREO_IMAGE and VIREO_LAUNCHER_IMAGE have to name the images that it installs\n", stderr);
        return 2;
    }
    if (print)
        return print_all(&o.env);
    if (!work(&o, &err)) {
        o.status = 1;
        fprintf(stderr, "vireo operator: %s\n", error_text(&err));
    }
    op_done(&o);
    return o.status;
}
