#include "operator/status.h"

#include "api/meta.h"
#include "base/cleanup.h"

struct write {
    struct arena *a;
    const struct json *old, *o;
    const char *now;
};

/* Times move when status, reason or message do, and never by themselves. */
static void condition(struct write *w, const char *type, const char *status, const char *reason, const char *message)
{
    const struct json *old = condition_find(w->old, type), *list = json_array(w->a, NULL), *c;
    bool same = str_is(json_str_at(old, "status"), status) && str_is(json_str_at(old, "reason"), reason)
                && str_is(json_str_at(old, "message"), message),
         found = false;

    c = same ? old
             : json_object(w->a, "type", json_new_z(w->a, type), "status", json_new_z(w->a, status), "reason",
                           json_new_z(w->a, reason), "message", json_new_z(w->a, message), "lastProbeTime",
                           json_new_z(w->a, w->now), "lastTransitionTime", json_new_z(w->a, w->now), NULL);
    json_each_item(it, json_at(w->o, "status/conditions")) {
        bool here = str_is(json_str_at(it, "type"), type);

        list = json_append(w->a, list, here ? c : it);
        found = found || here;
    }
    if (!found)
        list = json_append(w->a, list, c);
    w->o = json_with_at(w->a, w->o, "status/conditions", list);
}

static void gone(struct write *w, const char *type)
{
    const struct json *list = json_array(w->a, NULL);

    json_each_item(it, json_at(w->o, "status/conditions"))
        if (!str_is(json_str_at(it, "type"), type))
            list = json_append(w->a, list, it);
    if (json_at(w->o, "status/conditions"))
        w->o = json_with_at(w->a, w->o, "status/conditions", list);
}

static void three(struct write *w, const char *available, const char *progressing, const char *degraded, const char *reason,
                  const char *message)
{
    condition(w, "Available", available, reason, message);
    condition(w, "Progressing", progressing, reason, message);
    condition(w, "Degraded", degraded, reason, message);
}

static void set(struct write *w, const char *field, const char *text)
{
    w->o = json_with_at(w->a, w->o, arena_printf(w->a, "status/%s", field), json_new_z(w->a, text));
}

static const char *text(struct write *w, const char *field)
{
    struct str s = json_str_at(w->o, arena_printf(w->a, "status/%s", field));

    return arena_strdup(w->a, s.p ? s : STR(""));
}

static void target(struct write *w, const struct status_facts *f)
{
    const struct install *i = f->install;

    set(w, "operatorVersion", f->operator_version);
    if (!i)
        return;
    set(w, "targetKubeVirtVersion", i->version);
    set(w, "targetKubeVirtRegistry", i->registry);
    set(w, "targetDeploymentID", i->id);
    set(w, "targetDeploymentConfig", i->config_json);
    set(w, "defaultArchitecture", "amd64");
}

static void observed(struct write *w, const struct status_facts *f)
{
    const struct install *i = f->install;

    set(w, "observedKubeVirtVersion", i->version);
    set(w, "observedKubeVirtRegistry", i->registry);
    set(w, "observedDeploymentID", i->id);
    set(w, "observedDeploymentConfig", i->config_json);
}

static void failed(struct write *w, const char *error)
{
    const char *message = arena_printf(w->a, "An error occurred during deployment: %s", error);

    condition(w, "Synchronized", "False", "DeploymentFailed", message);
    condition(w, "Available", "False", "DeploymentFailed", message);
    condition(w, "Progressing", "False", "DeploymentFailed", message);
    condition(w, "Degraded", "True", "DeploymentFailed", message);
}

static void deploying(struct write *w, const struct status_facts *f)
{
    const char *message = arena_printf(w->a, "Deploying version %s with registry %s", text(w, "targetKubeVirtVersion"),
                                       text(w, "targetKubeVirtRegistry"));

    gone(w, "Synchronized");
    if (!text(w, "phase")[0])
        set(w, "phase", "Deploying");
    condition(w, "Available", "False", "DeploymentInProgress", message);
    condition(w, "Progressing", "True", "DeploymentInProgress", message);
    if (f->trouble)
        condition(w, "Degraded", "True", "DeploymentFailed", f->trouble);
    else
        condition(w, "Degraded", "False", "DeploymentInProgress", message);
}

static void updating(struct write *w, const struct status_facts *f)
{
    const char *message =
        arena_printf(w->a, "Transitioning from previous version %s with registry %s to target version %s using registry %s",
                     text(w, "observedKubeVirtVersion"), text(w, "observedKubeVirtRegistry"), text(w, "targetKubeVirtVersion"),
                     text(w, "targetKubeVirtRegistry"));

    gone(w, "Created");
    gone(w, "Synchronized");
    three(w, "True", "True", "True", "UpdateInProgress", message);
    if (f->trouble)
        condition(w, "Degraded", "True", "DeploymentFailed", f->trouble);
}

static void created(struct write *w)
{
    condition(w, "Created", "True", "AllResourcesCreated", "All resources were created.");
}

static void ready(struct write *w, const struct status_facts *f)
{
    gone(w, "Synchronized");
    observed(w, f);
    created(w);
    set(w, "phase", "Deployed");
    three(w, "True", "False", "False", "AllComponentsReady",
          f->note ? arena_printf(w->a, "All components are ready. %s", f->note) : "All components are ready.");
    w->o = json_with_at(w->a, w->o, "status/observedGeneration", json_at(w->o, "metadata/generation"));
    if (f->generations)
        w->o = json_with_at(w->a, w->o, "status/generations", f->generations);
}

static void deleting(struct write *w, const struct status_facts *f)
{
    set(w, "phase", "Deleting");
    gone(w, "Created");
    three(w, "False", "False", "True", "DeletionInProgress", "Deletion was triggered");
    if (f->error)
        condition(w, "Synchronized", "False", "DeletionFailed",
                  arena_printf(w->a, "An error occurred during deletion: %s", f->error));
    else
        gone(w, "Synchronized");
}

const struct json *status_with(struct arena *a, const struct json *kubevirt, const struct status_facts *f, const char *now)
{
    struct write w = {.a = a, .old = kubevirt, .o = kubevirt, .now = now};

    if (f->now != STATUS_SECOND)
        target(&w, f);
    switch (f->now) {
    case STATUS_SECOND: /* nothing else, so that whoever reads conditions does not take this one for the installation */
        condition(&w, "Synchronized", "False", "ExistingDeployment", f->error);
        break;
    case STATUS_FAILED:
        if (!text(&w, "phase")[0])
            set(&w, "phase", "Deploying");
        failed(&w, f->error);
        break;
    case STATUS_DEPLOYING:
        deploying(&w, f);
        if (f->created)
            created(&w);
        break;
    case STATUS_UPDATING:
        updating(&w, f);
        break;
    case STATUS_READY:
        ready(&w, f);
        break;
    case STATUS_BLOCKED: /* it works on, and says so */
        set(&w, "phase", "Deleting");
        condition(&w, "Synchronized", "False", "DeletionFailed",
                  arena_printf(a, "An error occurred during deletion: %s", f->error));
        break;
    case STATUS_DELETING:
        deleting(&w, f);
        break;
    case STATUS_DELETED:
        deleting(&w, f);
        set(&w, "phase", "Deleted");
        break;
    }
    return json_eq(w.o, kubevirt) ? kubevirt : w.o;
}
