/* Up to Scheduled an instance is the controller's; from there to its end the node agent writes phase and conditions, and the
 * controller only steps in when there is no agent to do so: a pod that vanished, or ended and was not reported. Every write names
 * the revision that it was planned on, so neither can undo what the other has just said. */
#include "controller/vmi_plan.h"

#include "base/cleanup.h"
#include "base/ident.h"
#include "base/vec.h"
#include "loop/loop.h"

/* What the agent gets to report the end of a guest whose pod has ended or is gone. */
#define LAST_WORDS_NS SECONDS(2)
#define NO_GUEST_SECONDS 5
/* Above the guest's own grace period: the launcher's kill and the agent's report. */
#define SHUTDOWN_SLACK_SECONDS 30
/* Nodes that come back, are deleted or declared out of service are looked for this often. */
#define UNSEEN_AGAIN_NS SECONDS(5)

struct str vmi_volume_claim(const struct json *volume)
{
    struct str name = json_str_at(volume, "persistentVolumeClaim/claimName");

    if (!name.n)
        name = json_str_at(volume, "dataVolume/name");
    return name.n ? name : json_str_at(volume, "ephemeral/persistentVolumeClaim/claimName");
}

bool vmi_wants_vsock(const struct json *vmi)
{
    return json_bool_at(vmi, "spec/domain/devices/autoattachVSOCK", false);
}

static const struct json *container(const struct json *pod, const char *name)
{
    json_each_item(s, json_at(pod, "status/containerStatuses"))
        if (str_is(json_str_at(s, "name"), name))
            return s;
    return NULL;
}

/* It is over when its launcher is: the containers of images learn of that, but not one that never met it. */
static bool pod_ended(const struct json *pod)
{
    struct str phase = json_str_at(pod, "status/phase");

    return str_is(phase, "Failed") || str_is(phase, "Succeeded") || json_at(container(pod, "compute"), "state/terminated");
}

/* Not by its phase, which a kubelet writes at the beginning of an eviction, where there is more to go by. */
bool vmi_pod_dead(const struct json *pod)
{
    const struct json *compute = container(pod, "compute");

    return compute ? json_at(compute, "state/terminated") != NULL : pod_ended(pod);
}

const struct json *vmi_pod(const struct vmi_view *v)
{
    const struct json *best = NULL;

    json_each_item(pod, v->pods)
        if (!best || (pod_ended(best) && !pod_ended(pod)))
            best = pod;
    return best;
}

bool vmi_pod_lost(const struct vmi_view *v)
{
    enum vmi_phase phase = vmi_phase(v->vmi);
    const struct json *pod = vmi_pod(v);

    return (phase == VMI_SCHEDULED || phase == VMI_RUNNING) && (!pod || pod_ended(pod));
}

/* Conditions */

static const struct json *ready(const struct vmi_view *v, struct arena *a, const struct json *vmi,
                                const char *now)
{
    const struct json *pod = vmi_pod(v);
    struct condition c = {.type = "Ready", .status = "False", .probe_time = now};

    if (condition_is(vmi, "Ready", "False"))
        c.probe_time = arena_strdup(a, json_str_at(condition_find(vmi, "Ready"), "lastProbeTime"));
    if (!pod)
        c.reason = "PodNotExists", c.message = "virt-launcher pod has not yet been scheduled";
    else if (meta_deleting(pod))
        c.reason = "PodTerminating", c.message = "virt-launcher pod is terminating";
    else
        c.reason = "GuestNotRunning", c.message = "Guest VM is not reported as running";
    return condition_set(a, vmi, &c, now);
}

/* A running guest is ready as far as its pod is: probes are the pod's. The agent has said that the guest runs. */
static const struct json *ready_as_pod(const struct vmi_view *v, struct arena *a,
                                       const struct json *vmi, const char *now)
{
    const struct json *from = condition_find(vmi_pod(v), "Ready");
    struct condition c = {.type = "Ready"};

    /* A pod on its way out is not unready: what ends is the guest, and the agent says so. */
    if (!from || !condition_find(vmi, "Ready") || meta_deleting(vmi_pod(v))
        || pod_ended(vmi_pod(v)))
        return vmi;
    if (str_is(json_str_at(from, "status"), "True") && condition_is(vmi, "Ready", "True"))
        return vmi;
    c.status = arena_strdup(a, json_str_at(from, "status"));
    if (!str_is(json_str_at(from, "status"), "True")) {
        /* Never the agent's own word, by which it knows what it may take back. */
        c.reason = json_str_at(from, "reason").n ? arena_strdup(a, json_str_at(from, "reason"))
                                                 : "ContainersNotReady";
        c.message = arena_strdup(a, json_str_at(from, "message"));
    }
    return condition_set(a, vmi, &c, now);
}

static const struct json *not_synchronized(struct arena *a, const struct json *vmi,
                                           const char *reason, const char *message, const char *now)
{
    struct condition c = {
        .type = "Synchronized", .status = "False", .reason = reason, .message = message};

    return condition_set(a, vmi, &c, now);
}

/* A cluster's scheduler knows devices, not what they are for. (One machine's own says it in its words, scheduler_words.c.) */
static const char *with_hint(struct arena *a, struct str message)
{
    size_t at;

    if (!str_find(message, STR("Insufficient devices.kubevirt.io/kvm"), &at) || str_find(message, STR("/dev/kvm"), &at))
        return arena_strdup(a, message);
    return arena_printf(a, STR_FMT " No such node has a /dev/kvm that works and is free; the label vireo.io/kvm and the Events of "
                           "each Node say why. To emulate guests instead, set spec.configuration.developerConfiguration.useEmulation: "
                           "true of the KubeVirt object, and restart this machine", STR_ARG(str_take(message, 1024)));
}

/* Only as False, and only for what the pod tells about its scheduling. */
static const struct json *scheduled(struct arena *a, const struct json *vmi, const struct json *pod,
                                    const char *now)
{
    const struct json *from = condition_find(pod, "PodScheduled");
    struct condition c = {.type = "PodScheduled", .status = "False"};

    if (!str_is(json_str_at(from, "status"), "False"))
        return condition_remove(a, vmi, "PodScheduled");
    c.reason = arena_strdup(a, json_str_at(from, "reason"));
    c.message = with_hint(a, json_str_at(from, "message"));
    return condition_set(a, vmi, &c, now);
}

/* Why a container does not start, when it is more than that it has not started yet: a reason of its own, or something to say
 * about the ordinary one (volumes that cannot be mounted). */
static const struct json *waiting(const struct json *pod)
{
    static const char *const lists[] = {"status/initContainerStatuses", "status/containerStatuses"};

    for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
        json_each_item(s, json_at(pod, lists[i])) {
            const struct json *w = json_at(s, "state/waiting");
            struct str reason = json_str_at(w, "reason");
            bool ordinary =
                str_is(reason, "ContainerCreating") || str_is(reason, "PodInitializing");

            if (reason.n && (!ordinary || json_str_at(w, "message").n))
                return w;
        }
    return NULL;
}

static const struct json *synchronized(struct arena *a, const struct json *vmi,
                                       const struct json *pod, const char *now)
{
    const struct json *w = waiting(pod);

    if (!w)
        return condition_remove(a, vmi, "Synchronized");
    return not_synchronized(a, vmi, arena_strdup(a, json_str_at(w, "reason")),
                            arena_strdup(a, json_str_at(w, "message")), now);
}

/* What is known of volumes and interfaces when the pod is there; the agent fills in the rest. */

static const struct json *claim_info(struct arena *a, const struct json *claim)
{
    return json_object(a, "accessModes", json_at(claim, "spec/accessModes"), "capacity",
                       json_at(claim, "status/capacity"), "claimName",
                       json_at(claim, "metadata/name"), "filesystemOverhead", json_new_z(a, "0"),
                       "requests", json_at(claim, "spec/resources/requests"), "volumeMode",
                       json_at(claim, "spec/volumeMode"), NULL);
}

static int by_name(const void *x, const void *y)
{
    const struct json *const *a = x, *const *b = y;

    return str_cmp(json_str_at(*a, "name"), json_str_at(*b, "name"));
}

static const struct json *volume_status(const struct vmi_view *v, struct arena *a)
{
    const struct json *volumes = json_at(v->vmi, "spec/volumes"),
                      **items = ARENA_ARRAY(a, const struct json *, json_len(volumes) + 1);
    size_t n = 0;

    if (!json_len(volumes))
        return NULL;
    json_each_item(volume, volumes) {
        const struct json *claim = json_get_str(v->claims, vmi_volume_claim(volume));

        items[n++] = json_object(
            a, "name", json_get(volume, "name"), "target", json_new_z(a, ""), "phase",
            claim && !str_is(json_str_at(claim, "status/phase"), "Bound") ? json_new_z(a, "Pending")
                                                                          : NULL,
            "persistentVolumeClaimInfo", claim ? claim_info(a, claim) : NULL, NULL);
    }
    qsort(items, n, sizeof *items, by_name);
    return json_array_n(a, items, n);
}

static const struct json *interfaces(const struct json *vmi, struct arena *a)
{
    const struct json *out = NULL;

    json_each_item(net, json_at(vmi, "spec/networks"))
        if (json_get(net, "pod"))
            out = json_append(a, out,
                              json_object(a, "name", json_get(net, "name"), "podInterfaceName",
                                          json_new_z(a, "eth0"), NULL));
    return out;
}

static const struct json *active_pods(const struct json *vmi, const struct json *pod,
                                      struct arena *a)
{
    struct str node = json_str_at(pod, "spec/nodeName");

    return json_with_at(a, vmi, "status/activePods",
                        json_with_str(a, json_at(vmi, "status/activePods"), meta_uid(pod),
                                      json_new_str(a, node.p ? node : STR(""))));
}

/* Steps */

static bool put(const struct vmi_view *v, struct plan *p, const struct json *new)
{
    return plan_patch(p, RESOURCE_VMI, v->vmi, new, false);
}

static void fail(const struct vmi_view *v, struct plan *p, const char *reason, const char *message,
                 const char *now)
{
    const struct json *vmi = vmi_with_phase(p->a, v->vmi, "Failed", reason, now);

    put(v, p, ready(v, p->a, vmi, now));
    if (message)
        plan_notice(p, "Warning", reason ? reason : "Stopped", "%s", message);
}

/* A pod gets the device of such a volume under other rules (volumeDevices, and an owner that the container runtime sets). */
static bool is_block(const struct json *claim)
{
    return str_is(json_str_at(claim, "spec/volumeMode"), "Block");
}

struct str vmi_claim_in_the_way(const struct vmi_view *v)
{
    json_each_item(volume, json_at(v->vmi, "spec/volumes")) {
        struct str name = vmi_volume_claim(volume);
        const struct json *claim = json_get_str(v->claims, name);

        if (name.n && (!claim || is_block(claim)))
            return name;
    }
    return STR_NONE;
}

static void plan_waiting(const struct vmi_view *v, struct plan *p, struct str claim, const char *now)
{
    bool block = is_block(json_get_str(v->claims, claim));
    const char *reason = block ? "BlockVolumeUnsupported" : "FailedPvcNotFound", *message;

    message = arena_printf(p->a, block ? "PVC " STR_FMT "/" STR_FMT " has volumeMode Block, of which this release makes no disk: use a claim of "
                                         "volumeMode Filesystem"
                                       : "didn't find PVC " STR_FMT "/" STR_FMT ": create it, or correct the volume's claimName",
                           STR_ARG(meta_namespace(v->vmi)), STR_ARG(claim));
    if (put(v, p, ready(v, p->a, not_synchronized(p->a, v->vmi, reason, message, now), now)))
        plan_notice(p, "Warning", reason, "%s", message);
}

static void plan_pending(const struct vmi_view *v, struct plan *p, const char *now)
{
    struct arena *a = p->a;
    const struct json *pod = vmi_pod(v), *vmi = v->vmi, *image;
    struct str claim = vmi_claim_in_the_way(v);
    struct action *act;

    if (pod) {
        image = json_at(json_item(json_at(pod, "spec/containers"), 0), "image");
        vmi = vmi_with_phase(a, active_pods(vmi, pod, a), "Scheduling", NULL, now);
        vmi = json_with_at(a, vmi, "status/launcherContainerImageVersion", image);
        vmi = scheduled(a, synchronized(a, vmi, pod, now), pod, now);
        put(v, p, ready(v, a, vmi, now));
        return;
    }
    if (claim.n) {
        plan_waiting(v, p, claim, now);
        return;
    }
    act =
        plan_act(p, ACTION_CREATE, RESOURCE_POD, NULL, kv_launcher_pod(vmi, v->config, &v->pod, a));
    act->done = (struct notice){
        "Normal", "SuccessfulCreate",
        arena_printf(a, "Created virtual machine pod " STR_FMT, STR_ARG(meta_name(act->body)))};
    act->failed = (struct notice){"Warning", "FailedCreate", NULL};
    if (v->failure.reason)
        put(v, p,
            ready(v, a, not_synchronized(a, vmi, v->failure.reason, v->failure.message, now), now));
}

static bool containers_ready(const struct json *pod)
{
    if (!str_is(json_str_at(pod, "status/phase"), "Running")
        || !json_len(json_at(pod, "status/containerStatuses")))
        return false;
    json_each_item(s, json_at(pod, "status/containerStatuses"))
        if (!json_bool_at(s, "ready", false))
            return false;
    return true;
}

/* What a pod that ended says of it: an eviction in its own status, the rest in its container's. */
static struct str pod_last_words(const struct json *pod)
{
    struct str why = json_str_at(pod, "status/message");

    if (!why.n)
        why = json_str_at(container(pod, "compute"), "state/terminated/message");
    return str_take(why, 512);
}

/* A container of the pod that ended before the machine could start: that of an image. NULL: none. */
static const struct json *ended_container(const struct json *pod)
{
    json_each_item(s, json_at(pod, "status/containerStatuses"))
        if (json_at(s, "state/terminated"))
            return s;
    return NULL;
}

static bool delete_pods(const struct vmi_view *v, struct plan *p);

static void plan_scheduling(const struct vmi_view *v, struct plan *p, const char *now)
{
    struct arena *a = p->a;
    const struct json *pod = vmi_pod(v), *vmi = v->vmi, *over;
    struct str node = json_str_at(pod, "spec/nodeName");

    if (!pod || pod_ended(pod)) {
        struct str why = pod_last_words(pod);

        fail(v, p, NULL,
             why.n ? arena_strdup(a, why)
                   : "the virtual machine's pod ended before the guest could start",
             now);
        return;
    }
    if ((over = ended_container(pod)) && !meta_deleting(pod)) {
        struct str name = json_str_at(over, "name"), reason = json_str_at(over, "state/terminated/reason");
        struct str why = str_take(json_str_at(over, "state/terminated/message"), 512);

        fail(v, p, NULL,
             arena_printf(a, "container " STR_FMT " ended before the guest could start: " STR_FMT "%s" STR_FMT, STR_ARG(name),
                          STR_ARG(reason), why.n ? ": " : "", STR_ARG(why)),
             now);
        delete_pods(v, p);
        return;
    }
    vmi = scheduled(a, synchronized(a, vmi, pod, now), pod, now);
    if (vmi_wants_vsock(vmi) && v->vsock_cid == 0) {
        put(v, p,
            not_synchronized(a, vmi, "VSOCKContextIDsExhausted",
                             "every context ID of the cluster is some instance's: delete instances "
                             "that have ended, or leave autoattachVSOCK out",
                             now));
        plan_again(p, SECONDS(10));
        return;
    }
    if (containers_ready(pod) && node.n && !meta_deleting(pod)) {
        vmi = vmi_with_phase(a, active_pods(vmi, pod, a), "Scheduled", NULL, now);
        vmi = meta_with_label(a, vmi, "kubevirt.io/nodeName", node);
        vmi = json_with_at(a, vmi, "status/nodeName", json_new_str(a, node));
        vmi = json_with_at(a, vmi, "status/qosClass", json_at(pod, "status/qosClass"));
        vmi = json_with_at(a, vmi, "status/migrationTransport", json_new_z(a, "Unix"));
        if (vmi_wants_vsock(vmi))
            vmi = json_with_at(a, vmi, "status/VSOCKCID", json_new_i64(a, v->vsock_cid));
        vmi = json_with_at(a, vmi, "status/interfaces", interfaces(vmi, a));
        vmi = json_with_at(a, vmi, "status/volumeStatus", volume_status(v, a));
    } else if (meta_deleting(pod)) {
        vmi = ready(v, a, vmi, now);
    }
    put(v, p, vmi);
}

/* A pod that was deleted by force says nothing of its process: the kubelet that would end it may be away, and the machine run on.
 * A second one beside it would write to the same disks. So it counts as running until its node's agent or kubelet has said how it
 * ended, or somebody has said of the node that nothing runs there. */
static void plan_unseen(const struct vmi_view *v, struct plan *p, const char *now)
{
    struct str node = json_str_at(v->vmi, "status/nodeName");
    struct condition c = {.type = "Ready", .status = "False", .reason = "LauncherMayRun"};

    c.message = arena_printf(p->a,
                             "the pod is gone, but node " STR_FMT " has not said that the virtual machine's process has ended, and until "
                             "then it is not started again: bring the node back (kubelet and virt-handler); if the node is switched off for "
                             "certain, taint it node.kubernetes.io/out-of-service=nodeshutdown:NoExecute, or delete the Node",
                             STR_ARG(node));
    if (!str_is(json_str_at(condition_find(v->vmi, "Ready"), "reason"), c.reason)
        && put(v, p, condition_set(p->a, v->vmi, &c, now)))
        plan_notice(p, "Warning", "LauncherMayRun", "%s", c.message);
    plan_again(p, UNSEEN_AGAIN_NS);
}

/* With an agent: only look whether it still can say something. */
static void plan_handed_over(const struct vmi_view *v, struct plan *p, const char *now)
{
    if (v->unseen) {
        plan_unseen(v, p, now);
        return;
    }
    if (vmi_pod_lost(v)) {
        if (v->pod_gone_ns < LAST_WORDS_NS) {
            plan_again(p, LAST_WORDS_NS - v->pod_gone_ns);
            return;
        }
        struct str why = pod_last_words(vmi_pod(v));

        fail(v, p, NULL,
             vmi_pod(v) ? arena_printf(p->a,
                                       "the virtual machine's pod ended and the guest's end was "
                                       "not reported%s" STR_FMT,
                                       why.n ? ": " : "", STR_ARG(why))
                        : "the virtual machine's pod is gone",
             now);
        return;
    }
    if (vmi_phase(v->vmi) == VMI_RUNNING)
        put(v, p, ready_as_pod(v, p->a, v->vmi, now));
}

/* The end */

/* A pod whose instance no agent has been told of has no guest, and its time is that of processes. A SIGTERM that comes before a
 * container's first process has anybody to handle it is lost, and the kubelet would wait for the guest's whole time. */
static bool delete_pods(const struct vmi_view *v, struct plan *p)
{
    enum vmi_phase phase = vmi_phase(v->vmi);
    int64_t seconds = phase == VMI_PENDING || phase == VMI_SCHEDULING ? NO_GUEST_SECONDS : -1;
    bool any = false;

    json_each_item(pod, v->pods) {
        any = true;
        if (meta_deleting(pod) || p->n_actions >= PLAN_ACTIONS - 2)
            continue;
        plan_delete(p, RESOURCE_POD, pod, seconds)->done = (struct notice){
            "Normal", "SuccessfulDelete",
            arena_printf(p->a, "Deleted virtual machine pod " STR_FMT, STR_ARG(meta_name(pod)))};
    }
    return any;
}

static int64_t shutdown_left_ns(const struct vmi_view *v)
{
    AUTO(error_clear) struct error err = {0};
    int64_t since, grace = json_i64_at(v->vmi, "spec/terminationGracePeriodSeconds", 30);

    if (!ident_parse_time(json_str_at(v->vmi, "metadata/deletionTimestamp"), &since, &err))
        return 0;
    if (grace > 7 * 24 * 3600)
        grace = 7 * 24 * 3600;
    return since + SECONDS(grace + SHUTDOWN_SLACK_SECONDS) - v->now_unix_ns;
}

/* An instance goes in this order: the guest is shut down (by the agent, while there is one), its pod goes, then the object. Its
 * VM's controller takes its own finalizer off when it has seen how it ended; if there is no such VM, nobody would. */
static void plan_deleting(const struct vmi_view *v, struct plan *p, const char *now)
{
    struct arena *a = p->a;
    enum vmi_phase phase = vmi_phase(v->vmi);
    const struct json *vmi = v->vmi;
    int64_t left;

    if (v->unseen) {
        plan_unseen(v, p, now);
        return;
    }
    if (phase == VMI_SCHEDULED || phase == VMI_RUNNING) {
        left = vmi_pod_lost(v) ? LAST_WORDS_NS - v->pod_gone_ns : shutdown_left_ns(v);
        if (left > 0) {
            plan_again(p, left);
            return;
        }
    }
    if (delete_pods(v, p))
        return;
    if (!vmi_final(phase))
        vmi = vmi_with_phase(a, vmi, "Failed", NULL, now);
    vmi = meta_remove_finalizer(a, vmi, FINALIZER_VMI);
    if (!v->vm_alive)
        vmi = meta_remove_finalizer(a, vmi, FINALIZER_VM);
    put(v, p, vmi);
}

void vmi_plan(const struct vmi_view *v, struct plan *p)
{
    const char *now = time_text(p->a, v->now_unix_ns);

    p->about = v->vmi;
    if (meta_deleting(v->vmi)) {
        plan_deleting(v, p, now);
        return;
    }
    switch (vmi_phase(v->vmi)) {
    case VMI_PENDING:
        plan_pending(v, p, now);
        return;
    case VMI_SCHEDULING:
        plan_scheduling(v, p, now);
        return;
    case VMI_SCHEDULED:
    case VMI_RUNNING:
        plan_handed_over(v, p, now);
        return;
    case VMI_NONE:
    case VMI_SUCCEEDED:
    case VMI_FAILED:
    case VMI_OTHER:
        return;
    }
    __builtin_unreachable();
}
