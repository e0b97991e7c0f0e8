/* One attempt to start a pod: what the API knows of its volumes, images and the network are asked for at once; the sandbox is
 * recorded before anything of it exists, and on disk before the container starts; when all have answered, the files are laid out and crun is started. */
#include "pod/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "api/kv.h"
#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"

#define RETRY_FIRST_NS SECONDS(1)
#define RETRY_MAX_NS   SECONDS(60)
#define MAX_MOUNTS     256
#define MAX_PULL_SECRETS 64

enum source { SOURCE_EMPTY, SOURCE_CLAIM, SOURCE_SECRET, SOURCE_CONFIG_MAP, SOURCE_IMAGE };
struct volume {
    struct work *w;
    enum source kind;
    const char *name;
    const struct json *source; /* of the pod's spec */
    const struct json *object; /* Secret or ConfigMap */
    const char *pv_name;
    const char *host_path;
    bool read_only, shared;
};
struct work {
    struct pod *p;
    struct arena arena;
    const struct json *pod;
    struct volume *volumes;
    size_t n_volumes;
    unsigned pending, claims_pending, secrets_pending;
    const struct json *auths; /* of the pull secrets: registry → entry; NULL without any */
    struct network_pod net;
    struct error err; /* the first failure */
    const char *reason, *waiting;
};

static void work_free(struct work *w)
{
    error_clear(&w->err);
    arena_done(&w->arena);
    free(w);
}

void pod_prepare_cancel(struct pod *p)
{
    if (!p->work)
        return;
    ops_abandon(p);
    p->status_busy = p->delete_busy = false;
    work_free(p->work);
    p->work = NULL;
}

static void fail_later(struct work *w, const char *reason, const char *waiting, const struct error *err)
{
    if (w->err.kind != ERROR_NONE)
        return;
    error_set(&w->err, err->kind, "%s", error_text(err));
    w->reason = reason;
    w->waiting = waiting;
}

void pod_failed(struct pod *p, const char *reason, const char *waiting, const struct error *err)
{
    int64_t delay = p->failures < 6 ? RETRY_FIRST_NS << p->failures : RETRY_MAX_NS;
    bool news = !p->told || strcmp(p->told, error_text(err)) != 0;

    p->failures++;
    p->state = POD_IDLE;
    if (news) {
        free(p->told);
        p->told = xstrdup(error_text(err));
        log_warning(pod_tag(p), "%s: %s, retrying", reason, error_text(err));
    }
    if (news || p->failures % 8 == 0)
        pod_event(p, "Warning", reason, error_text(err));
    if (news)
        pod_publish_waiting(p, waiting, error_text(err));
    pod_retry_in(p, delay > RETRY_MAX_NS ? RETRY_MAX_NS : delay);
}

/* ---- one sandbox for a VM and a volume ---- */

static bool claims_clash(const struct record *a, const struct record *b)
{
    for (size_t i = 0; i < a->claims.n; i++)
        for (size_t j = 0; j < b->claims.n; j++) {
            const struct record_claim *x = &a->claims.p[i], *y = &b->claims.p[j];

            if (strcmp(x->volume, y->volume) == 0 && x->write && y->write && !(x->shared && y->shared))
                return true;
        }
    return false;
}

const struct pod *pod_blocked_by(const struct pod *p)
{
    size_t at = 0;
    struct str uid;
    void *value;

    while (map_next(&p->r->pods, &at, &uid, &value)) {
        const struct pod *other = value;

        if (other == p || !pod_process_may_live(other))
            continue;
        if (p->rec.vmi_uid[0] && strcmp(p->rec.vmi_uid, other->rec.vmi_uid) == 0 && !p->rec.migration_target)
            return other;
        if (claims_clash(&p->rec, &other->rec))
            return other;
    }
    return NULL;
}

/* ---- laying out ---- */

static const char *in_pod(struct work *w, const char *rest)
{
    return arena_printf(&w->arena, "%s/pods/%s/%s", w->p->r->dir, w->p->rec.uid, rest);
}

static bool lay_out(struct work *w, int dirfd, struct volume *v, struct error *err)
{
    struct pod *p = w->p;

    switch (v->kind) {
    case SOURCE_EMPTY:
        v->host_path = in_pod(w, arena_printf(&w->arena, DIR_EMPTY "/%s", v->name));
        return volume_empty_dir(p, dirfd, v->name, err);
    case SOURCE_CLAIM:
        v->host_path = arena_printf(&w->arena, "%s/volumes/%s", p->r->dir, v->pv_name);
        return volume_claim(p, v->pv_name, !v->read_only, err);
    case SOURCE_SECRET:
        v->host_path = in_pod(w, arena_printf(&w->arena, DIR_SECRET "/%s", v->name));
        return volume_files(p, dirfd, DIR_SECRET, v->name, true, v->object, json_get(v->source, "items"), err);
    case SOURCE_CONFIG_MAP:
        v->host_path = in_pod(w, arena_printf(&w->arena, DIR_CONFIG_MAP "/%s", v->name));
        return volume_files(p, dirfd, DIR_CONFIG_MAP, v->name, false, v->object, json_get(v->source, "items"), err);
    case SOURCE_IMAGE:
        return true;
    }
    __builtin_unreachable();
}

static int by_destination(const void *a, const void *b)
{
    return strcmp(((const struct config_mount *)a)->destination, ((const struct config_mount *)b)->destination);
}

static bool collect_mounts(struct work *w, struct config_mount **ret, size_t *ret_n, struct error *err)
{
    const struct json *list = json_get(json_item(json_at(w->pod, "spec/containers"), 0), "volumeMounts");
    struct config_mount *mounts;
    size_t n = 0;

    if (json_len(list) > MAX_MOUNTS)
        return error_set(err, ERROR_TOO_LARGE, "more than %d volume mounts", MAX_MOUNTS);
    mounts = ARENA_ARRAY(&w->arena, struct config_mount, json_len(list) + 1);
    json_each_item(m, list) {
        struct str name = json_str_at(m, "name");
        const struct volume *v = NULL;

        for (size_t i = 0; i < w->n_volumes && !v; i++)
            if (str_is(name, w->volumes[i].name))
                v = &w->volumes[i];
        if (!v)
            return error_set(err, ERROR_INVALID, "volume mount '" STR_FMT "' names no volume", STR_ARG(name));
        if (json_str_at(m, "subPath").n || json_str_at(m, "subPathExpr").n)
            return error_set(err, ERROR_UNSUPPORTED, "volume mount '" STR_FMT "': subPath is not supported", STR_ARG(name));
        mounts[n++] = (struct config_mount){
            .source = v->host_path, .destination = arena_strdup(&w->arena, json_str_at(m, "mountPath")),
            .read_only = json_bool_at(m, "readOnly", false) || v->read_only || v->kind == SOURCE_IMAGE || v->kind == SOURCE_SECRET
                         || v->kind == SOURCE_CONFIG_MAP};
    }
    /* A mount point inside of another volume needs that one first. */
    qsort(mounts, n, sizeof *mounts, by_destination);
    *ret = mounts;
    *ret_n = n;
    return true;
}

static bool make_file(int dirfd, const char *name, uid_t owner, mode_t mode, struct error *err)
{
    AUTO_CLOSE int fd = -1;

    if (!file_open_beneath(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode, &fd, err))
        return false;
    if (fchown(fd, owner, owner) < 0)
        return error_errno(err, errno, "chown %s", name);
    return true;
}

static bool write_config(int dirfd, const struct json *config, struct error *err)
{
    AUTO(buf_done) struct buf text = {0};
    AUTO_CLOSE int bundle = -1, fd = -1;

    json_write(&text, config);
    return file_make_dirs(dirfd, "bundle", 0711, &bundle, err)
           && file_open_beneath(bundle, "config.json", O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd, err)
           && file_write_all(fd, buf_str(&text), err);
}

/* For a VMM that attaches to its links by itself. It can take those that are its own, and make none: the network namespace does
 * not belong to the sandbox's user namespace. */
static bool wants_tun(const struct json *pod)
{
    return json_at(json_item(json_at(pod, "spec/containers"), 0), "resources/limits/devices.kubevirt.io~1tun") != NULL;
}

static bool make_bundle(struct work *w, int dirfd, struct error *err)
{
    struct pod *p = w->p;
    struct pod_runtime *r = p->r;
    struct config_input in = {.pod = w->pod, .root_uid = ROOT_UID_OF(r, p->rec.slot), .vm_uid = VM_UID_OF(r, p->rec.slot)};
    struct config_mount *mounts = NULL;
    const struct json *config;
    struct rlimit files;
    struct sysinfo host;

    for (size_t i = 0; i < w->n_volumes; i++)
        if (!lay_out(w, dirfd, &w->volumes[i], err))
            return false;
    if (!collect_mounts(w, &mounts, &in.n_mounts, err) || !volume_etc(p, dirfd, w->pod, p->rec.ip, err)
        || !volume_device(p, dirfd, "kvm", &w->arena, &in.kvm, err)
        || !volume_device(p, dirfd, "mshv", &w->arena, &in.mshv, err)
        || (wants_tun(w->pod) && !volume_device(p, dirfd, "net/tun", &w->arena, &in.tun, err)) || !make_file(dirfd, TERMINATION_LOG, in.vm_uid, 0600, err))
        return false;
    in.mounts = mounts;
    in.rootfs = arena_printf(&w->arena, "%s/run/rootfs", r->dir);
    in.cgroup = arena_printf(&w->arena, "/vireo-%s/%s", r->instance, p->rec.uid);
    in.netns = arena_printf(&w->arena, "%s/run/netns/%s", r->dir, p->rec.uid);
    in.etc = in_pod(w, "etc");
    in.termination_log = in_pod(w, TERMINATION_LOG);
    in.launcher = r->launcher;
    in.nofile = getrlimit(RLIMIT_NOFILE, &files) == 0 ? (files.rlim_max > 1048576 ? 1048576 : files.rlim_max) : 1024;
    in.host_memory = sysinfo(&host) == 0 ? (uint64_t)host.totalram * host.mem_unit : 0;
    return config_make(&in, &w->arena, &config, err) && write_config(dirfd, config, err);
}

static void all_answered(struct work *w)
{
    struct pod *p = w->p;
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int dirfd = -1;

    if (w->err.kind != ERROR_NONE) {
        err = TAKE(w->err);
        const char *reason = w->reason, *waiting = w->waiting;

        p->work = NULL;
        work_free(w);
        pod_failed(p, reason, waiting, &err);
        return;
    }
    if (!pod_open_dir(p, false, &dirfd, &err) || !make_bundle(w, dirfd, &err)) {
        p->work = NULL;
        work_free(w);
        pod_failed(p, "FailedMount", "ContainerCreating", &err);
        return;
    }
    p->work = NULL;
    work_free(w);
    pod_crun_run(p);
}

static void answered(struct work *w)
{
    if (--w->pending == 0)
        all_answered(w);
}

/* ---- the network, once it is known that nothing stands in the way ---- */

static void network_done(void *user, const struct network_pod *net, const struct error *err)
{
    void *arg;
    struct pod *p = op_end(user, &arg);
    struct work *w = arg;

    if (!p)
        return;
    p->net_busy = false;
    pod_step_soon(p);
    if (err && err->kind != ERROR_NONE) {
        fail_later(w, "FailedCreatePodSandBox", "ContainerCreating", err);
    } else {
        snprintf(p->rec.ip, sizeof p->rec.ip, "%s", net->ip);
        snprintf(p->rec.host_ip, sizeof p->rec.host_ip, "%s", net->gateway);
    }
    answered(w);
}

/* A flush waits for whatever else the disk has to do, seconds at times: it has a thread of its own, beside which the network is
 * made. Only the container waits for it. */
struct flush {
    struct op *op;
    struct loop *loop;
    int dirfd, pods_fd, errnum;
};

static void flush_free(struct flush *f)
{
    fd_close(&f->dirfd);
    fd_close(&f->pods_fd);
    free(f);
}

static void flushed(void *take_arg)
{
    struct flush *f = take_arg;
    void *arg;
    struct pod *p = op_end(f->op, &arg);
    struct work *w = arg;

    if (p) {
        pthread_join(p->flusher, NULL);
        p->flush_busy = false;
        pod_step_soon(p);
        if (f->errnum) {
            AUTO(error_clear) struct error err = {0};

            error_errno(&err, f->errnum, "flush " RECORD_NAME);
            fail_later(w, "FailedCreatePodSandBox", "ContainerCreating", &err);
        }
        answered(w);
    }
    flush_free(f);
}

static void flush_dropped(void *take_arg)
{
    struct flush *f = take_arg;

    op_end(f->op, NULL);
    flush_free(f);
}

static void *flush_run(void *arg)
{
    struct flush *f = arg;
    int fd = openat(f->dirfd, RECORD_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    if (fd < 0 || fsync(fd) < 0 || fsync(f->dirfd) < 0 || fsync(f->pods_fd) < 0)
        f->errnum = errno;
    fd_close(&fd);
    loop_post(f->loop, flushed, flush_dropped, f);
    return NULL;
}

static bool flush_start(struct work *w, int dirfd, struct error *err)
{
    struct pod *p = w->p;
    struct flush *f = NEW(struct flush);
    sigset_t all, before;
    int errnum;

    f->loop = p->r->loop;
    f->dirfd = fcntl(dirfd, F_DUPFD_CLOEXEC, 3);
    f->pods_fd = fcntl(p->r->pods_fd, F_DUPFD_CLOEXEC, 3);
    f->op = op_new(p, w);
    p->flush_busy = true;
    w->pending++;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    errnum = pthread_create(&p->flusher, NULL, flush_run, f);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!errnum)
        return true;
    p->flush_busy = false;
    w->pending--;
    flush_dropped(f);
    return error_errno(err, errnum, "start a thread");
}

static bool record(struct work *w, struct error *err)
{
    struct pod *p = w->p;
    AUTO_CLOSE int dirfd = -1, netns_dir = -1, netns = -1;

    if (!pod_open_dir(p, true, &dirfd, err))
        return false;
    if (!p->has_record)
        pod_take_slot(p);
    p->rec.phase = RECORD_PREPARED;
    p->rec.pid = 0;
    p->rec.created_ns = loop_unix_ns(p->r->loop);
    memcpy(p->rec.boot_id, p->r->boot_id, sizeof p->rec.boot_id);
    if (!record_write(dirfd, &p->rec, err))
        return false;
    p->has_record = true;
    if (!flush_start(w, dirfd, err))
        return false;
    return file_make_dirs(p->r->dirfd, "run/netns", 0711, &netns_dir, err)
           && file_open_beneath(netns_dir, p->rec.uid, O_RDONLY | O_CREAT | O_NOFOLLOW, 0444, &netns, err);
}

static void take_claims(struct work *w)
{
    struct record *rec = &w->p->rec;

    for (size_t i = 0; i < rec->claims.n; i++)
        free(rec->claims.p[i].volume);
    rec->claims.n = 0;
    for (size_t i = 0; i < w->n_volumes; i++) {
        const struct volume *v = &w->volumes[i];

        if (v->kind == SOURCE_CLAIM && v->pv_name)
            vec_push(&rec->claims,
                     (struct record_claim){.volume = xstrdup(v->pv_name), .write = !v->read_only, .shared = v->shared});
    }
}

static void sandbox_begin(struct work *w)
{
    struct pod *p = w->p;
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *netns = xasprintf("%s/run/netns/%s", p->r->dir, p->rec.uid);
    const struct pod *other;

    if (w->err.kind != ERROR_NONE)
        return; /* what else is under way is waited for, and then it is told */
    take_claims(w);
    other = pod_blocked_by(p);
    if (other) {
        error_set(&err, ERROR_CONFLICT, "waiting for the old sandbox to end: pod %s/%s (uid %s) still holds %s", other->rec.ns,
                  other->rec.name, other->rec.uid, claims_clash(&p->rec, &other->rec) ? "the volume" : "the virtual machine");
        p->blocked = true;
        fail_later(w, "WaitingForSandbox", "ContainerCreating", &err);
        return;
    }
    if (!record(w, &err)) {
        fail_later(w, "FailedCreatePodSandBox", "ContainerCreating", &err);
        return;
    }
    w->pending++;
    p->net_busy = true;
    network_pod_add(p->r->network, p->rec.uid, p->rec.ns, p->rec.name, netns, network_done, op_new(p, w));
}

/* ---- volumes ---- */

/* A claim's volumeName is its tenant's to write. Believed is the name that binding derives from the claim's own UID, and any other
 * only once the claim is Bound, which the volume binder says after it has seen the volume's claimRef name this claim. */
static bool claim_bound(const struct json *claim)
{
    struct str pv = json_str_at(claim, "spec/volumeName"), uid = json_str_at(claim, "metadata/uid");

    if (str_starts(pv, STR("pvc-")) && uid.n && str_eq(str_skip(pv, 4), uid))
        return true;
    return pv.n && str_is(json_str_at(claim, "status/phase"), "Bound");
}

static void claim_answered(struct pod *p, void *arg, const struct client_response *r)
{
    struct volume *v = arg;
    struct work *w = v->w;
    struct str pv = json_str_at(r->body, "spec/volumeName"), name = json_str_at(v->source, "claimName");
    AUTO(error_clear) struct error err = {0};

    (void)p;
    if (r->err->kind != ERROR_NONE)
        error_set(&err, r->err->kind, "%s", error_text(r->err));
    else if (!claim_bound(r->body))
        error_set(&err, ERROR_UNAVAILABLE, "persistentvolumeclaim \"" STR_FMT "\" is not bound to a volume yet", STR_ARG(name));
    else if (str_is(json_str_at(r->body, "spec/volumeMode"), "Block"))
        error_set(&err, ERROR_UNSUPPORTED, "persistentvolumeclaim \"" STR_FMT "\": volumeMode Block is not offered by this node",
                  STR_ARG(name));
    else if (volume_name_ok(pv, &err))
        v->pv_name = arena_strdup(&w->arena, pv);
    json_each_item(mode, json_at(r->body, "spec/accessModes"))
        v->shared |= str_is(json_str(mode), "ReadWriteMany");
    if (err.kind != ERROR_NONE)
        fail_later(w, "FailedMount", "ContainerCreating", &err);
    if (--w->claims_pending == 0)
        sandbox_begin(w);
    answered(w);
}

static void files_answered(struct pod *p, void *arg, const struct client_response *r)
{
    struct volume *v = arg;
    AUTO(error_clear) struct error err = {0};

    (void)p;
    if (r->err->kind == ERROR_NONE) {
        v->object = json_copy(&v->w->arena, r->body);
    } else if (r->err->kind != ERROR_NOT_FOUND || !json_bool_at(v->source, "optional", false)) {
        error_set(&err, r->err->kind, "volume \"%s\": %s", v->name, error_text(r->err));
        fail_later(v->w, "FailedMount", "ContainerCreating", &err);
    }
    answered(v->w);
}

static void image_answered(void *user, int root_fd, const char *root_path, const char *digest, const struct error *err)
{
    void *arg;
    struct pod *p = op_end(user, &arg);
    struct volume *v = arg;

    if (root_fd >= 0)
        close(root_fd);
    if (!p)
        return;
    pod_step_soon(p);
    if (err && err->kind != ERROR_NONE) {
        AUTO(error_clear) struct error told = {0};

        error_set(&told, err->kind, "image \"" STR_FMT "\": %s", STR_ARG(json_str_at(v->source, "reference")), error_text(err));
        fail_later(v->w, "Failed", p->failures ? "ImagePullBackOff" : "ErrImagePull", &told);
    } else {
        v->host_path = arena_strdup(&v->w->arena, str_of(root_path));
        prune_note(p, digest);
    }
    answered(v->w);
}

static void get(struct work *w, struct volume *v, const char *plural, struct str name, pod_answer_fn fn)
{
    w->pending++;
    pod_call(w->p,
             &(struct client_request){.verb = CLIENT_GET, .group = "", .version = "v1", .plural = plural,
                                      .ns = str_of(w->p->rec.ns), .name = name},
             fn, v);
}

static void pull(struct work *w, struct volume *v)
{
    const char *policy = arena_strdup(&w->arena, json_str_at(v->source, "pullPolicy"));

    w->pending++;
    image_store_pull(w->p->r->images,
                     &(struct image_pull){.reference = arena_strdup(&w->arena, json_str_at(v->source, "reference")),
                                          .policy = policy && policy[0] ? policy : "IfNotPresent",
                                          .auths = w->auths,
                                          .done = image_answered, .user = op_new(w->p, v)});
}

static void pull_all(struct work *w)
{
    for (size_t i = 0; i < w->n_volumes; i++)
        if (w->volumes[i].kind == SOURCE_IMAGE && w->volumes[i].source)
            pull(w, &w->volumes[i]);
}

/* Adds what a Secret says of registries; the first that names one counts. */
static bool add_auths(struct work *w, const struct json *secret, struct error *err)
{
    static const struct {
        const char *type, *key, *inside;
    } forms[] = {{"kubernetes.io/dockerconfigjson", ".dockerconfigjson", "auths"}, {"kubernetes.io/dockercfg", ".dockercfg", NULL}};

    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        AUTO(buf_done) struct buf text = {0};
        const struct json *config = NULL;

        if (!str_is(json_str_at(secret, "type"), forms[i].type))
            continue;
        buf_init(&text, LIMIT_OBJECT_BYTES);
        if (!buf_add_base64_decoded(&text, json_str(json_get(json_get(secret, "data"), forms[i].key)), err)
            || !json_parse(buf_str(&text), &w->arena, &config, err))
            return false;
        json_each_member(m, forms[i].inside ? json_get(config, forms[i].inside) : config)
            if (!json_get_str(w->auths, json_str(&m->key)))
                w->auths = json_with_str(&w->arena, w->auths, json_str(&m->key), &m->value);
        return true;
    }
    return error_set(err, ERROR_INVALID, "its type is not kubernetes.io/dockerconfigjson");
}

/* As the kubelet has it, a Secret that is missing or useless is told and not waited for: the registry may do without. What it
 * holds stays out of the words. */
static void pull_secret_answered(struct pod *p, void *arg, const struct client_response *r)
{
    struct work *w = arg;
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *text = NULL;

    if (r->err->kind == ERROR_NONE && !add_auths(w, r->body, &err))
        text = xasprintf("Secret \"" STR_FMT "\" gives no credentials of registries: it has to be of type "
                         "kubernetes.io/dockerconfigjson with data[.dockerconfigjson]",
                         STR_ARG(json_str_at(r->body, "metadata/name")));
    else if (r->err->kind != ERROR_NONE)
        text = xasprintf("Unable to retrieve image pull secrets: %s", error_text(r->err));
    if (text && p->failures == 0)
        pod_event(p, "Warning", "FailedToRetrieveImagePullSecret", text);
    if (--w->secrets_pending == 0)
        pull_all(w);
    answered(w);
}

static void ask_pull_secrets(struct work *w)
{
    const struct json *list = json_at(w->pod, "spec/imagePullSecrets");
    bool images = false;

    for (size_t i = 0; i < w->n_volumes; i++)
        images |= w->volumes[i].kind == SOURCE_IMAGE && w->volumes[i].source;
    w->secrets_pending = 1;
    for (size_t i = 0; images && i < json_len(list) && i < MAX_PULL_SECRETS; i++) {
        struct str name = json_str_at(json_item(list, i), "name");

        if (!name.n)
            continue;
        w->pending++;
        w->secrets_pending++;
        pod_call(w->p,
                 &(struct client_request){.verb = CLIENT_GET, .group = "", .version = "v1", .plural = "secrets",
                                          .ns = str_of(w->p->rec.ns), .name = name},
                 pull_secret_answered, w);
    }
    if (--w->secrets_pending == 0)
        pull_all(w);
}

static void ask(struct work *w, struct volume *v, const struct json *spec)
{
    AUTO(error_clear) struct error err = {0};

    v->w = w;
    v->name = arena_strdup(&w->arena, json_str_at(spec, "name"));
    if ((v->source = json_get(spec, "emptyDir"))) {
        v->kind = SOURCE_EMPTY;
    } else if ((v->source = json_get(spec, "persistentVolumeClaim"))) {
        v->kind = SOURCE_CLAIM;
        v->read_only = json_bool_at(v->source, "readOnly", false);
        w->claims_pending++;
        get(w, v, "persistentvolumeclaims", json_str_at(v->source, "claimName"), claim_answered);
    } else if ((v->source = json_get(spec, "secret"))) {
        v->kind = SOURCE_SECRET;
        get(w, v, "secrets", json_str_at(v->source, "secretName"), files_answered);
    } else if ((v->source = json_get(spec, "configMap"))) {
        v->kind = SOURCE_CONFIG_MAP;
        get(w, v, "configmaps", json_str_at(v->source, "name"), files_answered);
    } else if ((v->source = json_get(spec, "image"))) {
        v->kind = SOURCE_IMAGE; /* pulled when the credentials are known */
    } else {
        error_set(&err, ERROR_UNSUPPORTED, "volume \"%s\": its type is not offered by this node", v->name);
        fail_later(w, "FailedMount", "ContainerCreating", &err);
    }
}

void pod_prepare(struct pod *p)
{
    struct work *w = NEW(struct work);
    const struct json *volumes;

    w->p = p;
    w->pod = pod_object(p, &w->arena);
    if (!w->pod) {
        work_free(w);
        return;
    }
    volumes = json_at(w->pod, "spec/volumes");
    prune_forget(p);
    p->state = POD_PREPARING;
    p->work = w;
    w->pending = w->claims_pending = 1; /* ours: nothing is complete before all are asked for */
    w->n_volumes = json_len(volumes);
    w->volumes = ARENA_ARRAY(&w->arena, struct volume, w->n_volumes + 1);
    for (size_t i = 0; i < w->n_volumes; i++)
        ask(w, &w->volumes[i], json_item(volumes, i));
    ask_pull_secrets(w);
    if (--w->claims_pending == 0)
        sandbox_begin(w);
    answered(w);
}
