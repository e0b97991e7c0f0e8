/* apiserver/bootstrap - what every cluster has: made when missing, never overwritten. */
#include "api/crd.h"
#include "apiserver/internal.h"
#include "base/log.h"
#include "json/yaml.h"

struct bootstrap {
    struct apiserver *s;
    size_t left;
    bool starting;
    struct error first;
    void (*ready)(void *user, const struct error *err);
    void *user;
    struct loop_defer done;
};

#define RBAC "apiVersion: rbac.authorization.k8s.io/v1\n"
#define BOOT ", labels: {kubernetes.io/bootstrapping: rbac-defaults"

static const char objects[] =
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n---\n"
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: kube-system}\n---\n"
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: kube-public}\n---\n"
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: kube-node-lease}\n---\n" RBAC
    "kind: ClusterRole\nmetadata: {name: cluster-admin" BOOT "}}\n"
    "rules:\n"
    "- {apiGroups: ['*'], resources: ['*'], verbs: ['*']}\n"
    "- {nonResourceURLs: ['*'], verbs: ['*']}\n---\n" RBAC
    "kind: ClusterRoleBinding\nmetadata: {name: cluster-admin" BOOT "}}\n"
    "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}\n"
    "subjects:\n- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: "
    "'system:masters'}\n---\n" RBAC "kind: ClusterRole\nmetadata: {name: 'system:discovery'" BOOT
    "}}\n"
    "rules:\n"
    "- {nonResourceURLs: [/api, '/api/*', /apis, '/apis/*', /healthz, /livez, /openapi, "
    "'/openapi/*', /readyz, /version, "
    "/version/, /], verbs: [get]}\n---\n" RBAC
    "kind: ClusterRoleBinding\nmetadata: {name: 'system:discovery'" BOOT "}}\n"
    "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:discovery'}\n"
    "subjects:\n- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: "
    "'system:authenticated'}\n---\n" RBAC
    "kind: ClusterRole\nmetadata: {name: 'system:basic-user'" BOOT "}}\n"
    "rules:\n"
    "- {apiGroups: [authorization.k8s.io], resources: [selfsubjectaccessreviews, "
    "selfsubjectrulesreviews], verbs: [create]}\n"
    "- {apiGroups: [authentication.k8s.io], resources: [selfsubjectreviews], verbs: "
    "[create]}\n---\n" RBAC "kind: ClusterRoleBinding\nmetadata: {name: 'system:basic-user'" BOOT
    "}}\n"
    "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:basic-user'}\n"
    "subjects:\n- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: "
    "'system:authenticated'}\n---\n" RBAC
    "kind: ClusterRole\nmetadata: {name: 'system:service-account-issuer-discovery'" BOOT "}}\n"
    "rules:\n- {nonResourceURLs: [/.well-known/openid-configuration, '/.well-known/*', "
    "/openid/v1/jwks], verbs: [get]}\n---\n" RBAC
    "kind: ClusterRoleBinding\nmetadata: {name: 'system:service-account-issuer-discovery'" BOOT
    "}}\n"
    "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "
    "'system:service-account-issuer-discovery'}\n"
    "subjects:\n- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: "
    "'system:serviceaccounts'}\n---\n" RBAC "kind: ClusterRole\nmetadata: {name: admin" BOOT "}}\n"
    "aggregationRule: {clusterRoleSelectors: [{matchLabels: "
    "{rbac.authorization.k8s.io/aggregate-to-admin: 'true'}}]}\n---\n" RBAC
    "kind: ClusterRole\nmetadata: {name: edit" BOOT "}}\n"
    "aggregationRule: {clusterRoleSelectors: [{matchLabels: "
    "{rbac.authorization.k8s.io/aggregate-to-edit: 'true'}}]}\n---\n" RBAC
    "kind: ClusterRole\nmetadata: {name: view" BOOT "}}\n"
    "aggregationRule: {clusterRoleSelectors: [{matchLabels: "
    "{rbac.authorization.k8s.io/aggregate-to-view: 'true'}}]}\n---\n" RBAC
    "kind: ClusterRole\nmetadata: {name: 'system:aggregate-to-admin'" BOOT
    ", rbac.authorization.k8s.io/aggregate-to-admin: 'true'}}\n"
    "rules:\n"
    "- {apiGroups: [authorization.k8s.io], resources: [localsubjectaccessreviews], verbs: "
    "[create]}\n"
    "- {apiGroups: [rbac.authorization.k8s.io], resources: [roles, rolebindings], verbs: [create, "
    "delete, deletecollection, get, "
    "list, patch, update, watch]}\n---\n" RBAC
    "kind: ClusterRole\nmetadata: {name: 'system:aggregate-to-edit'" BOOT
    ", rbac.authorization.k8s.io/aggregate-to-admin: 'true', "
    "rbac.authorization.k8s.io/aggregate-to-edit: 'true'}}\n"
    "rules:\n"
    "- {apiGroups: [''], resources: [secrets], verbs: [get, list, watch]}\n"
    "- {apiGroups: [''], resources: [configmaps, events, persistentvolumeclaims, secrets, "
    "serviceaccounts], verbs: [create, delete, "
    "deletecollection, patch, update]}\n"
    "- {apiGroups: [''], resources: [pods, pods/eviction], verbs: [create, delete, "
    "deletecollection, patch, update]}\n"
    "- {apiGroups: [''], resources: [serviceaccounts/token], verbs: [create]}\n"
    "- {apiGroups: [''], resources: [serviceaccounts], verbs: [impersonate]}\n"
    "- {apiGroups: [apps], resources: [controllerrevisions], verbs: [create, delete, "
    "deletecollection, patch, update]}\n"
    "- {apiGroups: [policy], resources: [poddisruptionbudgets], verbs: [create, delete, "
    "deletecollection, patch, update]}\n"
    "- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create, delete, "
    "deletecollection, get, list, patch, update, "
    "watch]}\n---\n" RBAC "kind: ClusterRole\nmetadata: {name: 'system:aggregate-to-view'" BOOT
    ", rbac.authorization.k8s.io/aggregate-to-admin: 'true', "
    "rbac.authorization.k8s.io/aggregate-to-edit: 'true', "
    "rbac.authorization.k8s.io/aggregate-to-view: 'true'}}\n"
    "rules:\n"
    "- {apiGroups: [''], resources: [configmaps, events, namespaces, namespaces/status, "
    "persistentvolumeclaims, "
    "persistentvolumeclaims/status, pods, pods/log, pods/status, serviceaccounts], verbs: [get, "
    "list, watch]}\n"
    "- {apiGroups: [events.k8s.io], resources: [events], verbs: [get, list, watch]}\n"
    "- {apiGroups: [apps], resources: [controllerrevisions], verbs: [get, list, watch]}\n"
    "- {apiGroups: [policy], resources: [poddisruptionbudgets, poddisruptionbudgets/status], "
    "verbs: [get, list, watch]}\n---\n" RBAC
    "kind: ClusterRole\nmetadata: {name: 'kubevirt.io:default', labels: {kubevirt.io: ''}}\n"
    "rules:\n"
    "- {apiGroups: [subresources.kubevirt.io], resources: [version, guestfs], verbs: [get, "
    "list]}\n---\n" RBAC
    "kind: ClusterRoleBinding\nmetadata: {name: 'kubevirt.io:default', labels: {kubevirt.io: ''}}\n"
    "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: "
    "'kubevirt.io:default'}\n"
    "subjects:\n"
    "- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'system:authenticated'}\n"
    "- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: "
    "'system:unauthenticated'}\n---\n" RBAC
    "kind: ClusterRole\nmetadata: {name: 'kubevirt.io:admin', labels: {kubevirt.io: '', "
    "rbac.authorization.k8s.io/aggregate-to-admin: "
    "'true'}}\n"
    "rules:\n"
    "- {apiGroups: [subresources.kubevirt.io], resources: [virtualmachineinstances/console, "
    "virtualmachineinstances/vnc, "
    "virtualmachineinstances/vnc/screenshot, virtualmachineinstances/portforward, "
    "virtualmachineinstances/guestosinfo, "
    "virtualmachineinstances/filesystemlist, virtualmachineinstances/userlist, "
    "virtualmachineinstances/sev/fetchcertchain, "
    "virtualmachineinstances/sev/querylaunchmeasurement, virtualmachineinstances/usbredir], verbs: "
    "[get]}\n"
    "- {apiGroups: [subresources.kubevirt.io], resources: [virtualmachineinstances/pause, "
    "virtualmachineinstances/unpause, "
    "virtualmachineinstances/addvolume, virtualmachineinstances/removevolume, "
    "virtualmachineinstances/freeze, "
    "virtualmachineinstances/unfreeze, virtualmachineinstances/softreboot, "
    "virtualmachineinstances/reset, "
    "virtualmachineinstances/evacuate/cancel, virtualmachineinstances/portforward, "
    "virtualmachineinstances/backup], verbs: [update]}\n"
    "- {apiGroups: [subresources.kubevirt.io], resources: [virtualmachines/expand-spec, "
    "virtualmachines/portforward, "
    "virtualmachines/objectgraph, virtualmachineinstances/objectgraph], verbs: [get]}\n"
    "- {apiGroups: [subresources.kubevirt.io], resources: [virtualmachines/start, "
    "virtualmachines/stop, virtualmachines/restart, "
    "virtualmachines/addvolume, virtualmachines/removevolume, virtualmachines/memorydump, "
    "virtualmachines/evacuate/cancel, "
    "virtualmachines/portforward], verbs: [update]}\n"
    "- {apiGroups: [subresources.kubevirt.io], resources: [expand-vm-spec], verbs: [update]}\n"
    "- {apiGroups: [kubevirt.io], resources: [virtualmachines, virtualmachineinstances, "
    "virtualmachineinstancepresets, "
    "virtualmachineinstancereplicasets], verbs: [get, delete, create, update, patch, list, watch, "
    "deletecollection]}\n"
    "- {apiGroups: [kubevirt.io], resources: [virtualmachineinstancemigrations], verbs: [get, "
    "list, watch]}\n"
    "- {apiGroups: [snapshot.kubevirt.io, export.kubevirt.io, clone.kubevirt.io, "
    "instancetype.kubevirt.io, pool.kubevirt.io, "
    "backup.kubevirt.io], resources: ['*'], verbs: [get, delete, create, update, patch, list, "
    "watch, deletecollection]}\n"
    "- {apiGroups: [migrations.kubevirt.io], resources: [migrationpolicies], verbs: [get, list, "
    "watch]}\n"
    "---\n" RBAC "kind: ClusterRole\nmetadata: {name: 'kubevirt.io:edit', labels: {kubevirt.io: "
                 "'', rbac.authorization.k8s.io/aggregate-to-edit: "
    "'true'}}\n"
    "rules:\n"
    "- {apiGroups: [subresources.kubevirt.io], resources: [virtualmachineinstances/console, "
    "virtualmachineinstances/vnc, "
    "virtualmachineinstances/vnc/screenshot, virtualmachineinstances/portforward, "
    "virtualmachineinstances/guestosinfo, "
    "virtualmachineinstances/filesystemlist, virtualmachineinstances/userlist, "
    "virtualmachineinstances/usbredir, "
    "virtualmachines/expand-spec, virtualmachines/portforward], verbs: [get]}\n"
    "- {apiGroups: [subresources.kubevirt.io], resources: [virtualmachineinstances/pause, "
    "virtualmachineinstances/unpause, "
    "virtualmachineinstances/addvolume, virtualmachineinstances/removevolume, "
    "virtualmachineinstances/freeze, "
    "virtualmachineinstances/unfreeze, virtualmachineinstances/softreboot, "
    "virtualmachineinstances/reset, "
    "virtualmachineinstances/portforward, virtualmachines/start, virtualmachines/stop, "
    "virtualmachines/restart, "
    "virtualmachines/addvolume, virtualmachines/removevolume, virtualmachines/memorydump, "
    "virtualmachines/portforward], "
    "verbs: [update]}\n"
    "- {apiGroups: [subresources.kubevirt.io], resources: [expand-vm-spec], verbs: [update]}\n"
    "- {apiGroups: [kubevirt.io], resources: [virtualmachines, virtualmachineinstances, "
    "virtualmachineinstancepresets, "
    "virtualmachineinstancereplicasets], verbs: [get, delete, create, update, patch, list, "
    "watch]}\n"
    "- {apiGroups: [kubevirt.io], resources: [virtualmachineinstancemigrations], verbs: [get, "
    "list, watch]}\n"
    "- {apiGroups: [kubevirt.io], resources: [kubevirts], verbs: [get, list]}\n"
    "- {apiGroups: [snapshot.kubevirt.io, export.kubevirt.io, clone.kubevirt.io, "
    "instancetype.kubevirt.io, pool.kubevirt.io, "
    "backup.kubevirt.io], resources: ['*'], verbs: [get, delete, create, update, patch, list, "
    "watch]}\n---\n" RBAC "kind: ClusterRole\nmetadata: {name: 'kubevirt.io:view', labels: "
                          "{kubevirt.io: '', rbac.authorization.k8s.io/aggregate-to-view: "
    "'true'}}\n"
    "rules:\n"
    "- {apiGroups: [subresources.kubevirt.io], resources: [virtualmachines/expand-spec, "
    "virtualmachineinstances/guestosinfo, "
    "virtualmachineinstances/filesystemlist, virtualmachineinstances/userlist], verbs: [get]}\n"
    "- {apiGroups: [subresources.kubevirt.io], resources: [expand-vm-spec], verbs: [update]}\n"
    "- {apiGroups: [kubevirt.io], resources: [kubevirts], verbs: [get, list]}\n"
    "- {apiGroups: [kubevirt.io], resources: [virtualmachines, virtualmachineinstances, "
    "virtualmachineinstancepresets, "
    "virtualmachineinstancereplicasets, virtualmachineinstancemigrations], verbs: [get, list, "
    "watch]}\n"
    "- {apiGroups: [snapshot.kubevirt.io, export.kubevirt.io, clone.kubevirt.io, "
    "instancetype.kubevirt.io, pool.kubevirt.io, "
    "backup.kubevirt.io, migrations.kubevirt.io], resources: ['*'], verbs: [get, list, "
    "watch]}\n---\n" RBAC
    "kind: ClusterRole\nmetadata: {name: 'kubevirt.io:migrate', labels: {kubevirt.io: ''}}\n"
    "rules:\n"
    "- {apiGroups: [subresources.kubevirt.io], resources: [virtualmachines/migrate], verbs: "
    "[update]}\n"
    "- {apiGroups: [kubevirt.io], resources: [virtualmachineinstancemigrations], verbs: [get, "
    "delete, create, update, patch, list, "
    "watch, deletecollection]}\n---\n"
    "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: "
    "system-cluster-critical}\n"
    "value: 2000000000\ndescription: For pods that the cluster cannot do without, on any "
    "node.\n---\n"
    "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: "
    "system-node-critical}\n"
    "value: 2000001000\ndescription: For pods that their node cannot do without.\n---\n"
    "apiVersion: storage.k8s.io/v1\nkind: StorageClass\n"
    "metadata: {name: vireo-local, annotations: {storageclass.kubernetes.io/is-default-class: "
    "'true'}}\n"
    "provisioner: vireo.io/local\nreclaimPolicy: Delete\nvolumeBindingMode: "
    "WaitForFirstConsumer\nallowVolumeExpansion: false\n";

static void finish(struct loop_defer *d)
{
    struct bootstrap *b = container_of(d, struct bootstrap, done);
    void (*ready)(void *, const struct error *) = b->ready;
    void *user = b->user;
    AUTO(error_clear) struct error err = TAKE(b->first);

    b->s->bootstrap = NULL;
    free(b);
    if (ready)
        ready(user, &err);
}

static void made(void *user, const struct client_response *r)
{
    struct bootstrap *b = user;

    if (r->err->kind != ERROR_NONE && r->err->kind != ERROR_EXISTS && r->err->kind != ERROR_CONFLICT
        && b->first.kind == ERROR_NONE)
        error_set(&b->first, r->err->kind, "bootstrap: %s", error_text(r->err));
    if (--b->left == 0 && !b->starting)
        loop_defer(b->s->loop, &b->done, finish);
}

/* Creates what is missing; a definition of ours that reads differently now is brought up to date. */
static void create(struct bootstrap *b, const struct json *o)
{
    struct str gv = json_str_at(o, "apiVersion"), group, version;
    struct client_request q = {
        .verb = CLIENT_CREATE, .body = o, .ns = json_str_at(o, "metadata/namespace")};
    struct served *k;

    if (!str_cut(gv, '/', &group, &version)) {
        version = group;
        group = STR("");
    }
    k = catalog_by_kind(b->s, group, json_str_at(o, "kind"));
    if (!k)
        return;
    q.group = k->info->group;
    q.version = k->info->versions ? k->info->versions[0] : k->info->version;
    q.plural = k->info->plural;
    {
        struct arena a = {0};
        const struct json *there =
            apiserver_peek(b->s, q.group, q.plural, q.ns, json_str_at(o, "metadata/name"), &a);
        bool same = there
                    && (!kind_is(k->info, "apiextensions.k8s.io", "customresourcedefinitions")
                        || json_eq(json_get(there, "spec"), json_get(o, "spec")));

        if (there) {
            q.verb = CLIENT_UPDATE;
            q.name = json_str_at(o, "metadata/name");
        }
        arena_done(&a);
        if (same)
            return;
    }
    b->left++;
    client_call(b->s->self, &q, made, b);
}

void apiserver_bootstrap(struct apiserver *s, void (*ready)(void *user, const struct error *err),
                         void *user)
{
    struct bootstrap *b = NEW(struct bootstrap);
    struct arena a = {0};
    struct yaml_docs docs = {0};

    *b = (struct bootstrap){.s = s, .ready = ready, .user = user, .starting = true};
    s->bootstrap = b;
    if (yaml_parse(str_of(objects), &a, &docs, &b->first))
        for (size_t i = 0; i < docs.n; i++)
            create(b, docs.p[i]);
    for (size_t i = 0; schema_kinds[i]; i++) {
        struct arena one = {0};

        if (schema_kinds[i]->flags & KIND_CRD)
            create(b, crd_of_kind(&one, schema_kinds[i], now_text(s, false, &one)));
        arena_done(&one);
    }
    b->starting = false;
    if (b->left == 0)
        loop_defer(s->loop, &b->done, finish);
    arena_done(&a);
}

void bootstrap_free(struct bootstrap *b)
{
    if (!b)
        return;
    loop_defer_cancel(&b->done);
    error_clear(&b->first);
    free(b);
}
