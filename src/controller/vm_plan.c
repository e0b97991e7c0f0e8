/* How a VM's plan is made: first what has to be remembered before it is gone (start failures, requests), then what the strategy
 * wants of the instance, then the status. A plan writes the VM at most once, as every write moves the revision that the next one
 * has to name; what it creates and deletes goes along with that write, in the same commit. */
#include "controller/vm_plan.h"

#include "api/kv.h"
#include "api/status.h"
#include "base/cleanup.h"
#include "base/ident.h"
#include "loop/loop.h"

#define BACKOFF_MAX_SECONDS 300

static enum vm_strategy strategy_of(const struct json *vm)
{
    static const char *const names[] = {"Always", "RerunOnFailure", "Manual",
                                        "Halted", "Once",           "WaitAsReceiver"};
    struct str name = json_str_at(vm, "spec/runStrategy");

    for (size_t i = 0; name.n && i < ARRAY_SIZE(names); i++)
        if (str_is(name, names[i]))
            return (enum vm_strategy)i;
    return json_bool_at(vm, "spec/running", false) ? VM_ALWAYS : VM_HALTED;
}

static const char *strategy_name(enum vm_strategy s)
{
    switch (s) {
    case VM_ALWAYS:
        return "Always";
    case VM_RERUN_ON_FAILURE:
        return "RerunOnFailure";
    case VM_MANUAL:
        return "Manual";
    case VM_HALTED:
        return "Halted";
    case VM_ONCE:
        return "Once";
    case VM_WAIT_AS_RECEIVER:
        return "WaitAsReceiver";
    }
    __builtin_unreachable();
}

static enum vm_step step_absent(const struct vm_case *c)
{
    switch (c->strategy) {
    case VM_ALWAYS:
    case VM_ONCE:
        return VM_CREATE;
    case VM_RERUN_ON_FAILURE:
        return c->request == VM_START || !c->same_strategy ? VM_CREATE : VM_STAY;
    case VM_MANUAL:
        return c->request == VM_START ? VM_CREATE : VM_STAY;
    case VM_HALTED:
        return c->request == VM_START ? VM_SPEC_ALWAYS : VM_STAY;
    case VM_WAIT_AS_RECEIVER:
        return VM_STAY; /* decentralized migration is refused at admission */
    }
    __builtin_unreachable();
}

enum vm_step vm_step(const struct vm_case *c)
{
    if (c->vmi == VMI_NONE)
        return step_absent(c);
    switch (c->strategy) {
    case VM_ALWAYS:
        return c->request == VM_STOP || vmi_final(c->vmi) ? VM_DELETE : VM_STAY;
    case VM_RERUN_ON_FAILURE:
        if (c->request == VM_STOP || c->vmi == VMI_SUCCEEDED)
            return VM_DELETE;
        if (c->vmi == VMI_FAILED)
            return c->request == VM_START ? VM_DELETE : VM_PUSH_START;
        return VM_STAY;
    case VM_MANUAL:
        return c->request == VM_STOP ? VM_DELETE : VM_STAY;
    case VM_HALTED:
        return VM_DELETE;
    case VM_ONCE:
    case VM_WAIT_AS_RECEIVER:
        return VM_STAY;
    }
    __builtin_unreachable();
}

int64_t vm_backoff_seconds(int64_t failures, uint64_t random)
{
    int64_t delay = failures > 5 ? BACKOFF_MAX_SECONDS : 10 * failures * failures;

    delay += (int64_t)(random % (uint64_t)(delay / 2 + 1));
    return delay < BACKOFF_MAX_SECONDS ? delay : BACKOFF_MAX_SECONDS;
}

/* Requests */

static const struct json *without_first(struct arena *a, const struct json *list)
{
    const struct json *out = NULL;

    for (size_t i = 1; i < json_len(list); i++)
        out = json_append(a, out ? out : json_array(a, NULL), json_item(list, i));
    return out;
}

/* A request ends when it has come true: only the first one acts. */
static bool request_over(const struct json *request, const struct json *vmi, enum vmi_phase phase)
{
    if (str_is(json_str_at(request, "action"), "Stop"))
        return !vmi || !str_eq(json_str_at(request, "uid"), meta_uid(vmi));
    if (str_is(json_str_at(request, "action"), "Start"))
        return vmi && !vmi_final(phase) && !meta_deleting(vmi);
    return true; /* admission lets nothing else through */
}

static const struct json *trim_requests(struct arena *a, const struct json *vm,
                                        const struct json *vmi)
{
    const struct json *list = json_at(vm, "status/stateChangeRequests");

    while (json_len(list) > 0 && request_over(json_item(list, 0), vmi, vmi_phase(vmi)))
        list = without_first(a, list);
    if (list == json_at(vm, "status/stateChangeRequests"))
        return vm;
    return json_with_at(a, vm, "status/stateChangeRequests", list);
}

static enum vm_request request_of(const struct json *vm)
{
    struct str action =
        json_str_at(json_item(json_at(vm, "status/stateChangeRequests"), 0), "action");

    return str_is(action, "Start") ? VM_START : str_is(action, "Stop") ? VM_STOP : VM_NO_REQUEST;
}

/* Start failures */

static const struct json *count_start_failure(const struct vm_view *v, struct arena *a,
                                              const struct json *vm, enum vm_strategy s)
{
    const struct json *old = json_at(vm, "status/startFailure"), *failure;
    int64_t count, until;

    if ((s != VM_ALWAYS && s != VM_RERUN_ON_FAILURE && s != VM_ONCE)
        || (v->vmi && vmi_was_running(v->vmi)))
        return json_with_at(a, vm, "status/startFailure", NULL);
    /* One that was told to go before it ran has not failed. */
    if (!v->vmi || vmi_phase(v->vmi) != VMI_FAILED || meta_deleting(v->vmi)
        || str_eq(json_str_at(old, "lastFailedVMIUID"), meta_uid(v->vmi)))
        return vm;
    count = json_i64_at(old, "consecutiveFailCount", 0) + 1;
    until = v->now_unix_ns + SECONDS(vm_backoff_seconds(count, v->random));
    failure = json_object(a, "consecutiveFailCount", json_new_i64(a, count), "lastFailedVMIUID",
                          json_new_str(a, meta_uid(v->vmi)), "retryAfterTimestamp",
                          json_new_z(a, time_text(a, until)), NULL);
    return json_with_at(a, vm, "status/startFailure", failure);
}

/* Nanoseconds until a start may be tried again; ≤ 0: now. */
static int64_t backoff_left(const struct json *vm, int64_t now_unix_ns)
{
    AUTO(error_clear) struct error err = {0};
    int64_t until;

    if (!ident_parse_time(json_str_at(vm, "status/startFailure/retryAfterTimestamp"), &until, &err))
        return 0;
    return until - now_unix_ns;
}

/* Conditions */

static bool own_condition(struct str type)
{
    return str_is(type, "Ready") || str_is(type, "Failure") || str_is(type, "RestartRequired")
           || str_is(type, "ManualRecoveryRequired");
}

/* An instance's conditions are the VM's, but for those that only a VM has. Without an instance they stay as they were. */
static const struct json *mirror_conditions(struct arena *a, const struct json *vm,
                                            const struct json *vmi)
{
    const struct json *out = json_array(a, NULL);

    if (!vmi)
        return vm;
    json_each_item(c, json_at(vm, "status/conditions"))
        if (own_condition(json_str_at(c, "type")))
            out = json_append(a, out, c);
    json_each_item(c, json_at(vmi, "status/conditions"))
        if (!own_condition(json_str_at(c, "type")))
            out = json_append(a, out, c);
    return json_with_at(a, vm, "status/conditions", out);
}

static bool says_the_same(const struct json *x, const struct json *y)
{
    return str_eq(json_str_at(x, "status"), json_str_at(y, "status"))
           && str_eq(json_str_at(x, "reason"), json_str_at(y, "reason"))
           && str_eq(json_str_at(x, "message"), json_str_at(y, "message"));
}

/* The instance's Ready as it stands; before it has one, what it will say: that saves a write per start. */
static const struct json *mirror_ready(struct arena *a, const struct json *vm,
                                       const struct json *vmi, const char *now)
{
    const struct json *ready = condition_find(vmi, "Ready"), *out = json_array(a, NULL), *list;
    struct condition c = {.type = "Ready", .status = "False"};

    if (!ready) {
        if (!vmi)
            c.reason = "VMINotExists", c.message = "VMI does not exist";
        else if (vmi_final(vmi_phase(vmi)))
            c.reason = "VMIConditionMissing", c.message = "VMI is missing the Ready condition";
        else
            c.reason = "GuestNotRunning", c.message = "Guest VM is not reported as running";
        return condition_set(a, vm, &c, now);
    }
    if (says_the_same(ready, condition_find(vm, "Ready")))
        return vm;
    list = json_at(vm, "status/conditions");
    out = json_append(a, out, ready);
    json_each_item(other, list)
        if (!str_is(json_str_at(other, "type"), "Ready"))
            out = json_append(a, out, other);
    return json_with_at(a, vm, "status/conditions", out);
}

static const struct json *restart_required(const struct vm_view *v, struct arena *a,
                                           const struct json *vm, const char *now)
{
    const struct json *started = json_at(v->revision, "data/spec/template/spec");
    struct condition c = {.type = "RestartRequired",
                          .status = "True",
                          .message = "a non-live-updatable field was changed in the template spec"};

    if (!v->vmi || vmi_final(vmi_phase(v->vmi)))
        return condition_remove(a, vm, "RestartRequired");
    if (!str_eq(kv_vmm(vm), kv_vmm(v->vmi))) {
        c.message = arena_printf(a, "the hypervisor was chosen again: it runs on " STR_FMT " until it is restarted, then on " STR_FMT,
                                 STR_ARG(kv_vmm(v->vmi)), STR_ARG(kv_vmm(vm)));
        return condition_set(a, vm, &c, now);
    }
    if (!started)
        return vm;
    if (json_eq(started, json_at(vm, "spec/template/spec")))
        return condition_remove(a, vm, "RestartRequired");
    return condition_set(a, vm, &c, now);
}

static const struct json *failure_condition(const struct vm_view *v, struct arena *a,
                                            const struct json *vm, const char *now)
{
    struct condition c = {.type = "Failure",
                          .status = "True",
                          .reason = v->failure.reason,
                          .message = v->failure.message};

    return v->failure.reason ? condition_set(a, vm, &c, now) : condition_remove(a, vm, "Failure");
}

static const struct json *flag(struct arena *a, const struct json *vm, const char *path, bool value)
{
    return json_with_at(a, vm, path, value ? json_new_bool(true) : NULL);
}

/* Everything in status but what the caller has put there: requests, start failure. */
static const struct json *status_of_vm(const struct vm_view *v, struct arena *a,
                                       const struct json *vm, enum vm_strategy s, enum vm_step step)
{
    const char *now = time_text(a, v->now_unix_ns);
    int64_t observed;

    vm = flag(a, vm, "status/created", v->vmi != NULL);
    vm = flag(a, vm, "status/ready", condition_is(v->vmi, "Ready", "True"));
    /* While a first run is still to come, the old value has to say so. */
    if (v->vmi || (json_str_at(vm, "status/runStrategy").n && step == VM_STAY))
        vm = json_with_at(a, vm, "status/runStrategy", json_new_z(a, strategy_name(s)));
    if (v->vmi) {
        AUTO(error_clear) struct error err = {0};

        if (parse_i64(meta_annotation(v->vmi, "kubevirt.io/vm-generation"), 0, INT64_MAX, &observed,
                      &err))
            vm = json_with_at(a, vm, "status/observedGeneration", json_new_i64(a, observed));
        vm = json_with_at(a, vm, "status/desiredGeneration", json_new_i64(a, meta_generation(vm)));
    }
    vm = mirror_ready(a, vm, v->vmi, now);
    vm = restart_required(v, a, vm, now);
    vm = failure_condition(v, a, vm, now);
    vm = mirror_conditions(a, vm, v->vmi);
    return json_with_at(
        a, vm, "status/printableStatus",
        json_new_z(a,
                   kv_printable_status(vm, v->vmi, step == VM_CREATE || step == VM_SPEC_ALWAYS)));
}

/* Starting */

static const char *revision_name(struct arena *a, const struct json *vm)
{
    return arena_printf(a, "revision-start-vm-" STR_FMT "-%lld", STR_ARG(meta_uid(vm)),
                        (long long)meta_generation(vm));
}

static void create_revision(const struct vm_view *v, struct plan *p, const char *name)
{
    struct arena *a = p->a;
    bool there = false;
    size_t old = 0;

    json_each_item(r, v->revisions) {
        if (str_is(meta_name(r), name))
            there = true;
        else if (
            old++
            < 2) /* more than one is left only by a lost delete; the next start takes the rest */
            plan_delete(p, RESOURCE_REVISION, r, -1);
    }
    if (there)
        return;
    plan_act(p, ACTION_CREATE, RESOURCE_REVISION, NULL,
             json_object(a, "apiVersion", json_new_z(a, "apps/v1"), "kind",
                         json_new_z(a, "ControllerRevision"), "metadata",
                         json_object(a, "name", json_new_z(a, name), "namespace",
                                     json_at(v->vm, "metadata/namespace"), "ownerReferences",
                                     json_array(a, meta_owner_ref(a, v->vm, true), NULL), NULL),
                         "data", json_object(a, "spec", json_get(v->vm, "spec"), NULL), "revision",
                         json_new_i64(a, 1), NULL))
        ->failed = (struct notice){"Warning", "FailedCreate", NULL};
}

static void random_uuid(void *data, char ret[37])
{
    (void)data;
    ident_uuid4(ret);
}

/* What admission does with an instance: whether the hypervisor of its VM is still there and allowed, what was left open, whether the
 * rules hold and everything can be honoured; with the one thing that it knows from the server, when. NULL: refused, *ret_why says it as
 * a server would. */
static const struct json *admitted(const struct vm_view *v, const struct json *vmi, struct arena *a, const char **ret_why)
{
    const struct kv_random random = {.uuid = random_uuid};
    const struct json *written = vmi;
    struct schema_causes causes = {0};
    char now[TIME_TEXT_LEN + 1];

    if (!v->config)
        return vmi;
    vmi = kv_vmi_choose(vmi, NULL, v->config, NULL, true, a, &causes);
    vmi = kv_vmi_default(vmi, v->config, &random, a);
    kv_vmi_validate(vmi, NULL, v->config, true, a, &causes);
    if (!causes.n)
        kv_unsupported(v->on_cluster ? kv_without_placing(json_get(vmi, "spec"), a) : json_get(vmi, "spec"), kv_vmm(vmi),
                       "spec", v->config, a, &causes);
    if (causes.n) {
        const struct json *status = status_invalid(a, &causes, "kubevirt.io", "VirtualMachineInstance",
                                                   arena_strdup(a, meta_name(vmi)));

        *ret_why = arena_strdup(a, json_str_at(status, "message"));
        return NULL;
    }
    if (!v->on_cluster)
        return written;
    ident_time(v->now_unix_ns, false, now);
    return json_with_at(a, vmi, "status/phaseTransitionTimestamps",
                        json_array(a,
                                   json_object(a, "phase", json_new_z(a, "Pending"), "phaseTransitionTimestamp",
                                               json_new_z(a, now), NULL),
                                   NULL));
}

/* The revision and the instance are made together: whichever is lost is made by the next plan, as both names are known. Returns why
 * nothing is made, or NULL. */
static const char *create_instance(const struct vm_view *v, struct plan *p, const struct json *vm)
{
    struct arena *a = p->a;
    const char *name = revision_name(a, vm), *why = NULL;
    const struct json *vmi = kv_vmi_from_vm(vm, a);
    struct action *act;

    vmi = meta_add_finalizer(a, vmi, FINALIZER_VM);
    vmi = meta_add_finalizer(a, vmi, FINALIZER_VMI);
    vmi = json_with_at(a, vmi, "status/virtualMachineRevisionName", json_new_z(a, name));
    vmi = admitted(v, vmi, a, &why);
    if (!vmi)
        return why;
    create_revision(v, p, name);
    act = plan_act(p, ACTION_CREATE, RESOURCE_VMI, NULL, vmi);
    act->done = (struct notice){
        "Normal", "SuccessfulCreate",
        arena_printf(
            a, "Started the virtual machine by creating the new virtual machine instance " STR_FMT,
            STR_ARG(meta_name(vm)))};
    act->failed = (struct notice){"Warning", "FailedCreate", NULL};
    return NULL;
}

static void delete_instance(const struct vm_view *v, struct plan *p)
{
    struct action *act;

    if (meta_deleting(v->vmi))
        return;
    act = plan_delete(p, RESOURCE_VMI, v->vmi, -1);
    act->done = (struct notice){
        "Normal", "SuccessfulDelete",
        arena_printf(
            p->a, "Stopped the virtual machine by deleting the virtual machine instance " STR_FMT,
            STR_ARG(meta_uid(v->vmi)))};
    act->failed = (struct notice){"Warning", "FailedDelete", NULL};
}

/* The VM has seen how its instance ended; the instance may go as far as we are concerned. */
static void release_instance(const struct vm_view *v, struct plan *p)
{
    if (v->vmi && meta_deleting(v->vmi) && vmi_final(vmi_phase(v->vmi))
        && meta_has_finalizer(v->vmi, FINALIZER_VM))
        plan_patch(p, RESOURCE_VMI, v->vmi, meta_remove_finalizer(p->a, v->vmi, FINALIZER_VM),
                   false);
}

/* A change that needs no restart: the instance is up to date with the new generation. */
static void bump_generation(const struct vm_view *v, struct plan *p)
{
    const char *want = arena_printf(p->a, "%lld", (long long)meta_generation(v->vm));

    if (!v->vmi || !v->revision || meta_deleting(v->vmi) || vmi_final(vmi_phase(v->vmi))
        || str_is(meta_annotation(v->vmi, "kubevirt.io/vm-generation"), want)
        || !json_eq(json_at(v->revision, "data/spec/template"), json_at(v->vm, "spec/template")))
        return;
    plan_patch(p, RESOURCE_VMI, v->vmi,
               meta_with_annotation(p->a, v->vmi, "kubevirt.io/vm-generation", str_of(want)),
               false);
}

static void plan_deleting(const struct vm_view *v, struct plan *p)
{
    const struct json *vm = status_of_vm(v, p->a, v->vm, strategy_of(v->vm), VM_STAY);

    if (v->vmi && !meta_has_finalizer(v->vm, "orphan")) {
        delete_instance(v, p);
        release_instance(v, p);
        plan_patch(p, RESOURCE_VM, v->vm, vm, true);
    } else if (meta_has_finalizer(v->vm, FINALIZER_VM)) {
        plan_patch(p, RESOURCE_VM, v->vm, meta_remove_finalizer(p->a, v->vm, FINALIZER_VM), false);
    }
}

/* No instance can be made of it: said once, by the condition and an Event. */
static void plan_failed(const struct vm_view *v, struct plan *p, const struct json *vm, enum vm_step step, const char *why)
{
    struct vm_view alone = *v;

    alone.vmi = alone.revision = NULL;
    alone.failure = (struct failure){"FailedCreate", why};
    if (plan_patch(p, RESOURCE_VM, v->vm, status_of_vm(&alone, p->a, vm, strategy_of(v->vm), step), true))
        plan_notice(p, "Warning", "FailedCreate", "%s", why);
}

/* An instance of that name that is not this VM's. */
static void plan_foreign(const struct vm_view *v, struct plan *p)
{
    plan_failed(v, p, v->vm, VM_STAY,
                arena_printf(p->a,
                             "there is a virtual machine instance " STR_FMT
                             " that is not this virtual machine's: delete it, or rename the virtual machine",
                             STR_ARG(meta_name(v->vm))));
}

static const struct json *push_start(struct arena *a, const struct json *vm)
{
    const struct json *list = json_at(vm, "status/stateChangeRequests");

    return json_with_at(a, vm, "status/stateChangeRequests",
                        json_append(a, list ? list : json_array(a, NULL),
                                    json_object(a, "action", json_new_z(a, "Start"), NULL)));
}

static void spec_always(const struct vm_view *v, struct plan *p)
{
    const struct json *vm = v->vm;

    if (json_at(vm, "spec/running"))
        vm = json_with_at(p->a, vm, "spec/running", json_new_bool(true));
    else
        vm = json_with_at(p->a, vm, "spec/runStrategy", json_new_z(p->a, "Always"));
    plan_patch(p, RESOURCE_VM, v->vm, vm, false);
}

/* Why the VM does not run, as an Event on the VM itself: users look there first, not at its instance or pod. */
static void tell_trouble(struct plan *p, const struct json *old, const struct json *new)
{
    static const char *const types[] = {"PodScheduled", "Synchronized"};

    for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
        const struct json *c = condition_find(new, types[i]);
        struct str message = json_str_at(c, "message"), reason = json_str_at(c, "reason");

        if (!str_is(json_str_at(c, "status"), "False") || !message.n
            || str_eq(message, json_str_at(condition_find(old, types[i]), "message")))
            continue;
        /* The agent's reason is a sentence (upstream's); an Event's is a word. */
        plan_notice(p, "Warning", str_has(reason, ' ') || !reason.n ? "SyncFailed" : arena_strdup(p->a, reason), STR_FMT,
                    STR_ARG(message));
    }
}

void vm_plan(const struct vm_view *v, struct plan *p)
{
    struct arena *a = p->a;
    enum vm_strategy strategy = strategy_of(v->vm);
    const struct json *vm, *counted;
    const char *why;
    struct vm_case c;
    enum vm_step step;
    int64_t left;

    p->about = v->vm;
    if (v->vmi && !meta_controlled_by(v->vmi, meta_uid(v->vm))) {
        if (meta_deleting(v->vm)) {
            struct vm_view alone = *v;

            alone.vmi = NULL;
            plan_deleting(&alone, p);
        } else {
            plan_foreign(v, p);
        }
        return;
    }
    if (meta_deleting(v->vm)) {
        plan_deleting(v, p);
        return;
    }

    counted = count_start_failure(v, a, v->vm, strategy);
    vm = trim_requests(a, counted, v->vmi);
    c = (struct vm_case){
        .strategy = strategy,
        .vmi = vmi_phase(v->vmi),
        .request = request_of(vm),
        .same_strategy = str_is(json_str_at(vm, "status/runStrategy"), strategy_name(strategy))};
    step = vm_step(&c);

    left = backoff_left(vm, v->now_unix_ns);
    if (step == VM_CREATE && left > 0 && strategy != VM_ONCE && strategy != VM_MANUAL) {
        plan_again(p, left);
        step = VM_STAY;
    }
    if (!meta_has_finalizer(v->vm, FINALIZER_VM))
        plan_patch(p, RESOURCE_VM, v->vm, meta_add_finalizer(a, v->vm, FINALIZER_VM), false);

    switch (step) {
    case VM_STAY:
        if (v->vmi && !v->revision && !meta_deleting(v->vmi)
            && str_is(json_str_at(v->vmi, "status/virtualMachineRevisionName"),
                      revision_name(a, v->vm)))
            create_revision(v, p, revision_name(a, v->vm)); /* its creation was lost */
        bump_generation(v, p);
        break;
    case VM_CREATE:
        why = create_instance(v, p, vm);
        if (!why)
            break;
        if (p->n_actions == 0)
            plan_failed(v, p, vm, step, why);
        return;
    case VM_PUSH_START:
        vm = push_start(a, vm);
        break;
    case VM_DELETE:
        /* The count of failures is in what is about to go: it is written down first. */
        if (json_eq(json_at(counted, "status/startFailure"), json_at(v->vm, "status/startFailure")))
            delete_instance(v, p);
        break;
    case VM_SPEC_ALWAYS:
        if (p->n_actions == 0)
            spec_always(v, p);
        return;
    }
    if (json_eq(json_at(counted, "status/startFailure"), json_at(v->vm, "status/startFailure")))
        release_instance(v, p);
    /* One write of the VM per plan. */
    for (size_t i = 0; i < p->n_actions; i++)
        if (p->actions[i].resource == RESOURCE_VM)
            return;
    /* What is under way is told once the instance is there, or going: one write, not two. */
    if (step == VM_CREATE && !v->failure.reason
        && !json_len(json_at(v->vm, "status/stateChangeRequests")))
        return;
    if (step == VM_DELETE && p->n_actions > 0 && p->actions[0].kind == ACTION_DELETE
        && !v->failure.reason)
        return;
    vm = status_of_vm(v, a, vm, strategy, step);
    if (plan_patch(p, RESOURCE_VM, v->vm, vm, true))
        tell_trouble(p, v->vm, vm);
}
