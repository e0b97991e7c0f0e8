#include "base/base_test.h"
#include "api/kv_config.h"

#include "api/names.h"
#include "base/cleanup.h"

static const struct json *parse(struct arena *a, const char *text)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;
    char *copy = arena_strdup(a, str_of(text));

    for (char *p = copy; *p; p++)
        if (*p == '\'')
            *p = '"';
    if (!json_parse(str_of(copy), a, &v, &err))
        fail_msg("%s: %s", copy, error_text(&err));
    return v;
}

static const struct json *pod_of(struct arena *a, const char *vmi)
{
    struct kv_config *c = kv_config_new(NULL);
    const struct kv_pod_options o = {.launcher_image = "launcher:1", .image_volumes = true};
    const struct json *pod = json_copy(a, kv_launcher_pod(parse(a, vmi), c, &o, a));

    kv_config_free(c);
    return pod;
}

static const char *text_of(struct arena *a, const struct json *v)
{
    AUTO_FREE char *text = json_text(v);

    return arena_strdup(a, str_of(text));
}

/* Whoever may create pods can write a machine as their owner. */
static void likenesses_are_no_launchers(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *vmi = json_new_f(&a, "%0253d", 0), *pod;
    static const char *const host[] = {"hostNetwork", "hostPID", "hostIPC"};

    (void)state;
    vmi = json_object(&a, "metadata", json_object(&a, "name", vmi, "namespace", json_new_z(&a, "x"), "uid", json_new_z(&a, "u-1"), NULL), NULL);
    pod = pod_of(&a, text_of(&a, vmi)); /* of a name as long as names get */
    assert_true(kv_is_launcher(pod));
    assert_int_equal(1 + 1 + json_str_at(pod, "metadata/name").n + 1 + 36, 255); /* x_<name>_<uid> */
    assert_int_equal(json_str_at(pod, "metadata/generateName").n, json_str_at(pod, "metadata/name").n - 5);
    assert_false(kv_is_launcher(json_with_at(&a, pod, "metadata/name", json_new_z(&a, "virt-launcher-x-abcde"))));
    assert_false(kv_is_launcher(json_with_at(&a, pod, "metadata/ownerReferences/0/uid", json_new_z(&a, "u-2"))));
    assert_false(kv_is_launcher(json_with_at(&a, pod, "metadata/ownerReferences/0/controller", json_new_bool(false))));
    assert_false(kv_is_launcher(json_with_at(&a, pod, "metadata/ownerReferences", NULL)));
    for (size_t i = 0; i < ARRAY_SIZE(host); i++)
        assert_false(kv_is_launcher(json_with_at(&a, pod, arena_printf(&a, "spec/%s", host[i]), json_new_bool(true))));
}

/* Cut off where a label ends, it would be no name. */
static void a_long_name_is_cut_to_a_good_one(void **state)
{
    (void)state;
    for (size_t letters = 150; letters < 205; letters++) {
        AUTO(arena_done) struct arena a = {0};
        const char *name = arena_printf(&a, "%0*d.b-c%040d", (int)letters, 0, 0);
        const struct json *vmi = json_object(&a, "metadata", json_object(&a, "name", json_new_z(&a, name), "namespace",
                                                                         json_new_z(&a, "x"), "uid", json_new_z(&a, "u-1"), NULL), NULL);
        const struct json *pod = pod_of(&a, text_of(&a, vmi));

        assert_null(name_dns1123_subdomain(json_str_at(pod, "metadata/name")));
        assert_true(kv_is_launcher(pod));
    }
}

#define UNMADE 4 /* private, public, sockets, ephemeral-disks: in every pod, first */

/* "name path source" of each volume that the VMI asked for, in lines. */
static const char *volume_lines(const struct json *pod, struct arena *a)
{
    const struct json *volumes = json_at(pod, "spec/volumes"), *mounts = json_at(pod, "spec/containers/0/volumeMounts");
    AUTO(buf_done) struct buf b = {0};

    assert_int_equal(json_len(volumes), json_len(mounts));
    for (size_t i = 0; i < json_len(volumes); i++) {
        const struct json *v = json_item(volumes, i), *m = json_item(mounts, i);
        struct str name = json_str_at(v, "name");

        assert_true(str_eq(name, json_str_at(m, "name")));
        assert_null(name_dns1123_label(name));
        for (size_t k = 0; k < i; k++) {
            assert_false(str_eq(name, json_str_at(json_item(volumes, k), "name")));
            assert_false(str_eq(json_str_at(m, "mountPath"), json_str_at(json_item(mounts, k), "mountPath")));
        }
        if (i < UNMADE)
            continue;
        v = json_with(a, v, "name", NULL);
        AUTO_FREE char *source = json_text(v);
        buf_addf(&b, "%s" STR_FMT " " STR_FMT "%s %s", b.n ? "\n" : "", STR_ARG(name), STR_ARG(json_str_at(m, "mountPath")),
                 json_bool_at(m, "readOnly", false) ? "" : " rw", source);
    }
    for (char *p = b.p; p && *p; p++)
        if (*p == '"')
            *p = '\'';
    return b.n ? arena_strdup(a, buf_str(&b)) : "";
}

#define LONG "a23456789b23456789c23456789d23456789e23456789f23456789g23456789" /* 63 */
#define SECRETS "/var/run/kubevirt-private/secret"
#define DISKS "/var/run/kubevirt/container-disks"
#define CRED(name) "{'sshPublicKey':{'source':{'secret':{'secretName':'" name "'}},'propagationMethod':{'noCloud':{}}}}"

static void volumes(void **state)
{
    static const struct {
        const char *spec, *lines;
    } cases[] = {
        {"{}", ""},
        {"{'volumes':[{'name':'e','emptyDisk':{'capacity':'1Gi'}}]}", ""},
        {"{'volumes':[{'name':'r','containerDisk':{'image':'a/b:1'}}]}",
         "r " DISKS "/r {'image':{'reference':'a/b:1','pullPolicy':'IfNotPresent'}}"},
        {"{'volumes':[{'name':'r','containerDisk':{'image':'a/b','imagePullPolicy':'Never'}}]}",
         "r " DISKS "/r {'image':{'reference':'a/b','pullPolicy':'Never'}}"},
        {"{'domain':{'firmware':{'kernelBoot':{'container':{'image':'oci:k'}}}}}",
         "kernel-boot " DISKS "/kernel-boot {'image':{'reference':'oci:k','pullPolicy':'Always'}}"},
        {"{'volumes':[{'name':'p','persistentVolumeClaim':{'claimName':'c'}}]}",
         "p /var/run/kubevirt-private/vmi-disks/p rw {'persistentVolumeClaim':{'claimName':'c'}}"},
        {"{'volumes':[{'name':'p','ephemeral':{'persistentVolumeClaim':{'claimName':'c'}}}]}",
         "p /var/run/kubevirt-private/vmi-disks/p {'persistentVolumeClaim':{'claimName':'c','readOnly':true}}"},
        {"{'volumes':[{'name':'p','persistentVolumeClaim':{'claimName':'c','readOnly':true}}]}",
         "p /var/run/kubevirt-private/vmi-disks/p {'persistentVolumeClaim':{'claimName':'c','readOnly':true}}"},
        {"{'volumes':[{'name':'s','secret':{'secretName':'x','optional':true}}]}",
         "s " SECRETS "/s {'secret':{'secretName':'x','optional':true}}"},
        {"{'volumes':[{'name':'y','sysprep':{'secret':{'name':'x'}}},{'name':'z','sysprep':{'configMap':{'name':'w'}}}]}",
         "y /var/run/kubevirt-private/sysprep/y {'secret':{'secretName':'x'}}\n"
         "z /var/run/kubevirt-private/sysprep/z {'configMap':{'name':'w'}}"},
        {"{'volumes':[{'name':'c','cloudInitConfigDrive':{'secretRef':{'name':'u'},'networkDataSecretRef':{'name':'n'}}}]}",
         "c-udata " SECRETS "/c-udata {'secret':{'secretName':'u'}}\nc-ndata " SECRETS "/c-ndata {'secret':{'secretName':'n'}}"},
        {"{'volumes':[{'name':'m','configMap':{'name':'c','optional':true}}]}",
         "m /var/run/kubevirt-private/config-map/m {'configMap':{'name':'c','optional':true}}"},
        {"{'volumes':[{'name':'s','secret':{'secretName':'x.y'}}]}", "s " SECRETS "/s {'secret':{'secretName':'x.y'}}"},
        {"{'volumes':[{'name':'c','cloudInitNoCloud':{'secretRef':{'name':'u'},'networkDataSecretRef':{'name':'n'}}}]}",
         "c-udata " SECRETS "/c-udata {'secret':{'secretName':'u'}}\nc-ndata " SECRETS "/c-ndata {'secret':{'secretName':'n'}}"},
        /* names that are too long with a suffix, or have a dot */
        {"{'volumes':[{'name':'" LONG "','cloudInitNoCloud':{'secretRef':{'name':'u'},'networkDataSecretRef':{'name':'n'}}}]}",
         "a23456789b23456789c23456789d23456789e23456789f23456789-d3a3da5e " SECRETS "/" LONG "-udata {'secret':{'secretName':'u'}}\n"
         "a23456789b23456789c23456789d23456789e23456789f23456789-01f31333 " SECRETS "/" LONG "-ndata {'secret':{'secretName':'n'}}"},
        {"{'accessCredentials':[" CRED("my.key") "]}",
         "my-key-access-cred-070154ba " SECRETS "/my.key-access-cred {'secret':{'secretName':'my.key'}}"},
        /* one Secret in two credentials is mounted once; two whose names differ by a dot only are two */
        {"{'accessCredentials':[" CRED("k") "," CRED("k") "]}",
         "k-access-cred " SECRETS "/k-access-cred {'secret':{'secretName':'k'}}"},
        {"{'accessCredentials':[" CRED("a-b") "," CRED("a.b") "]}",
         "a-b-access-cred " SECRETS "/a-b-access-cred {'secret':{'secretName':'a-b'}}\n"
         "a-b-access-cred-b996556f " SECRETS "/a.b-access-cred {'secret':{'secretName':'a.b'}}"},
        /* a disk that happens to have the name of cloud-init's Secret */
        {"{'volumes':[{'name':'c-udata','containerDisk':{'image':'a:1'}},"
         "{'name':'c','cloudInitNoCloud':{'secretRef':{'name':'u'}}}]}",
         "c-udata " DISKS "/c-udata {'image':{'reference':'a:1','pullPolicy':'IfNotPresent'}}\n"
         "c-udata-eed19e30 " SECRETS "/c-udata {'secret':{'secretName':'u'}}"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        const struct json *pod = pod_of(&a, arena_printf(&a, "{'metadata':{'name':'v','namespace':'n','uid':'u'},'spec':%s}",
                                                         cases[i].spec));
        const char *got = volume_lines(pod, &a);

        if (strcmp(got, cases[i].lines) != 0)
            fail_msg("case %zu:\n%s\nwanted:\n%s", i, got, cases[i].lines);
    }
}

#define CONTAINERS(spec) "{'metadata':{'name':'v','namespace':'n','uid':'u'},'spec':" spec "}"
#define IMAGE(name, more) "{'name':'" name "','containerDisk':{'image':'r/" name ":1'" more "}}"
#define RUNS(name) "'command':['/usr/bin/container-disk','serve','" name "','/var/run/kubevirt/container-disks/images']"
#define SMALL "{'requests':{'cpu':'1m','memory':'1Mi'}}"

/* Without image volumes: a container for each image, whose name is upstream's, and no bigger class of service than the machine's own. */
static void a_container_for_each_image(void **state)
{
    static const struct {
        const char *spec, *want; /* {name, image, imagePullPolicy, command, resources} of each after the first */
    } cases[] = {
        {"{'volumes':[{'name':'e','emptyDisk':{'capacity':'1Gi'}}]}", "[]"},
        {"{'volumes':[" IMAGE("d", "") "]}",
         "[{'name':'volumed','image':'r/d:1','imagePullPolicy':'IfNotPresent'," RUNS("d") ",'resources':" SMALL "}]"},
        {"{'domain':{'firmware':{'kernelBoot':{'container':{'image':'k'}}}},'volumes':[" IMAGE("d", ",'imagePullPolicy':'Never'") "]}",
         "[{'name':'volumekernel-boot-volume','image':'k','imagePullPolicy':'Always'," RUNS("kernelBoot") ",'resources':" SMALL "},"
         "{'name':'volumed','image':'r/d:1','imagePullPolicy':'Never'," RUNS("d") ",'resources':" SMALL "}]"},
        {"{'volumes':[" IMAGE("kernel-boot", "") "]}", /* a disk of that name is a disk */
         "[{'name':'volumekernel-boot','image':'r/kernel-boot:1','imagePullPolicy':'IfNotPresent'," RUNS("kernel-boot") ",'resources':" SMALL "}]"},
        {"{'volumes':[" IMAGE(LONG, "") "]}",
         "[{'name':'volumea23456789b23456789c23456789d23456789e23456789f23-ebfd5cac','image':'r/" LONG ":1','imagePullPolicy':'IfNotPresent',"
         RUNS(LONG) ",'resources':" SMALL "}]"},
        /* Guaranteed stays Guaranteed; a quota of memory finds a limit in every container */
        {"{'domain':{'resources':{'requests':{'cpu':'1','memory':'64Mi'},'limits':{'cpu':'1','memory':'64Mi'}}},'volumes':[" IMAGE("d", "") "]}",
         "[{'name':'volumed','image':'r/d:1','imagePullPolicy':'IfNotPresent'," RUNS("d") ",'resources':{'requests':{'cpu':'100m','memory':'32Mi'},"
         "'limits':{'cpu':'100m','memory':'32Mi'}}}]"},
        {"{'domain':{'memory':{'guest':'64Mi'},'resources':{'limits':{'memory':'1Gi'}}},'volumes':[" IMAGE("d", "") "]}",
         "[{'name':'volumed','image':'r/d:1','imagePullPolicy':'IfNotPresent'," RUNS("d") ",'resources':{'requests':{'cpu':'1m','memory':'1Mi'},"
         "'limits':{'memory':'32Mi'}}}]"},
    };
    static const char *const members[] = {"name", "image", "imagePullPolicy", "command", "resources"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        const struct kv_pod_options o = {.launcher_image = "launcher:1"};
        const struct json *pod = kv_launcher_pod(parse(&a, arena_printf(&a, CONTAINERS("%s"), cases[i].spec)), NULL, &o, &a);
        const struct json *got = json_array(&a, NULL), *init = json_at(pod, "spec/initContainers"), *first = NULL;
        bool any;

        json_each_item(c, json_at(pod, "spec/containers")) {
            const struct json *part = json_object(&a, NULL);

            if (!first) {
                first = c;
                continue;
            }
            for (size_t k = 0; k < ARRAY_SIZE(members); k++)
                part = json_with(&a, part, members[k], json_get(c, members[k]));
            got = json_append(&a, got, part);
            assert_null(name_dns1123_label(json_str_at(c, "name")));
            json_each_item(m, json_get(c, "volumeMounts"))
                assert_true(json_bool_at(m, "readOnly", false));
            assert_true(json_bool_at(c, "securityContext/readOnlyRootFilesystem", false));
            assert_int_equal(json_i64_at(c, "securityContext/runAsUser", 0), KV_UID);
        }
        AUTO_FREE char *text = json_text(got);
        if (!json_eq(got, parse(&a, cases[i].want)))
            fail_msg("case %zu: %s", i, text);
        any = json_len(got) > 0;
        AUTO_FREE char *command = json_text(json_get(first, "command"));
        assert_int_equal(strstr(command, "--image-containers") != NULL, any);
        assert_int_equal(json_len(init), any);
        if (any) {
            assert_true(str_is(json_str_at(json_item(init, 0), "name"), "container-disk-binary"));
            assert_true(str_is(json_str_at(json_item(init, 0), "image"), "launcher:1"));
            assert_true(json_eq(json_at(json_item(init, 0), "resources"), json_at(json_item(got, 0), "resources")));
        }
        json_each_item(v, json_at(pod, "spec/volumes"))
            assert_null(json_get(v, "image"));
    }
}

static void pull_secrets(void **state)
{
    static const struct {
        const char *spec, *secrets;
    } cases[] = {
        {"{'volumes':[{'name':'r','containerDisk':{'image':'a'}}]}", NULL},
        {"{'volumes':[{'name':'r','containerDisk':{'image':'a','imagePullSecret':'s'}}]}", "[{'name':'s'}]"},
        {"{'domain':{'firmware':{'kernelBoot':{'container':{'image':'k','imagePullSecret':'t'}}}},'volumes':["
         "{'name':'r','containerDisk':{'image':'a','imagePullSecret':'s'}},"
         "{'name':'q','containerDisk':{'image':'b','imagePullSecret':'t'}}]}",
         "[{'name':'t'},{'name':'s'}]"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        const struct json *pod = pod_of(&a, arena_printf(&a, "{'metadata':{'name':'v','uid':'u'},'spec':%s}", cases[i].spec));
        const struct json *got = json_at(pod, "spec/imagePullSecrets");

        if (cases[i].secrets ? !json_eq(got, parse(&a, cases[i].secrets)) : got != NULL)
            fail_msg("case %zu", i);
    }
}

static void names(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *pod = pod_of(&a, "{'metadata':{'name':'" LONG ".x','namespace':'n','uid':'u','labels':{'a':'b'},"
                                        "'annotations':{'kubectl.kubernetes.io/x':'y','mine':'z'}},'spec':{}}");
    const struct json *again = pod_of(&a, "{'metadata':{'name':'" LONG ".x','namespace':'n','uid':'u','labels':{'a':'b'},"
                                          "'annotations':{'kubectl.kubernetes.io/x':'y','mine':'z'}},'spec':{}}");

    (void)state;
    assert_true(json_eq(pod, again)); /* a repeat is AlreadyExists */
    assert_true(str_starts(json_str_at(pod, "metadata/name"), STR("virt-launcher-" LONG ".x-")));
    assert_null(name_label_value(json_str(json_get(json_at(pod, "metadata/labels"), "vmi.kubevirt.io/id"))));
    assert_true(str_is(json_str_at(pod, "metadata/labels/a"), "b"));
    assert_null(json_get(json_at(pod, "metadata/annotations"), "kubectl.kubernetes.io/x"));
    assert_true(str_is(json_str_at(pod, "metadata/annotations/mine"), "z"));
    assert_true(str_is(json_str_at(pod, "spec/hostname"), LONG));
    assert_true(str_is(json_str_at(pod, "metadata/ownerReferences/0/uid"), "u"));
}

static void sizes(void **state)
{
    static const struct {
        const char *domain, *resources;
    } cases[] = {
        {"{'cpu':{'cores':2},'memory':{'guest':'1Gi'}}",
         "{'requests':{'cpu':'200m','memory':'1232Mi','ephemeral-storage':'50M'}}"},
        {"{'cpu':{'cores':1},'memory':{'guest':'512Mi'},'devices':{'autoattachGraphicsDevice':false,'interfaces':[{}]}}",
         "{'requests':{'cpu':'100m','memory':'692Mi','ephemeral-storage':'50M','devices.kubevirt.io/tun':'1'},"
         "'limits':{'devices.kubevirt.io/tun':'1'}}"},
        {"{'cpu':{'cores':1},'memory':{'guest':'512Mi','reservedOverhead':{'addedOverhead':'10Mi','memLock':'NotRequired'}},"
         "'devices':{'autoattachGraphicsDevice':false}}",
         "{'requests':{'cpu':'100m','memory':'702Mi','ephemeral-storage':'50M'}}"},
        {"{'cpu':{'cores':1},'memory':{'guest':'512Mi'},'resources':{'overcommitGuestOverhead':true}}",
         "{'requests':{'cpu':'100m','memory':'512Mi','ephemeral-storage':'50M'}}"},
        {"{'resources':{'requests':{'memory':'64Mi','cpu':'500m'},'limits':{'memory':'64Mi','cpu':'1'}}}",
         "{'requests':{'cpu':'500m','memory':'268Mi','ephemeral-storage':'50M'},'limits':{'cpu':'1','memory':'268Mi'}}"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        const struct json *pod = pod_of(&a, arena_printf(&a, "{'metadata':{'name':'v','uid':'u'},'spec':{'domain':%s}}",
                                                         cases[i].domain));
        const struct json *got = json_at(pod, "spec/containers/0/resources");
        AUTO_FREE char *text = json_text(got);

        if (!json_eq(got, parse(&a, cases[i].resources)))
            fail_msg("case %zu: %s", i, text);
    }
}

#define VMI_ON(vmm, spec) "{'metadata':{'name':'v','uid':'u','annotations':{'vireo.io/vmm':'" vmm "'}},'spec':" spec "}"
#define VSOCK(value) "{'domain':{'devices':{'autoattachVSOCK':" value "}}}"
#define GT(level) "{'key':'vireo.io/vmm-qemu-level','operator':'Gt','values':['" level "']}"
#define IGB "'domain':{'devices':{'interfaces':[{'name':'a','model':'igb'}]}}"
#define REQUIRED(terms) "{'nodeAffinity':{'requiredDuringSchedulingIgnoredDuringExecution':{'nodeSelectorTerms':" terms "}}}"

/* Where a machine may go, and what it takes, by its VMM. */
static void hypervisors(void **state)
{
    static const struct {
        const char *vmi, *path, *want; /* NULL: nothing there */
    } cases[] = {
        {"{'metadata':{'name':'v','uid':'u'},'spec':{}}", "spec/nodeSelector",
         "{'kubevirt.io/schedulable':'true','vireo.io/vmm-qemu':'true'}"},
        {VMI_ON("qemu", "{}"), "spec/nodeSelector",
         "{'kubevirt.io/schedulable':'true','vireo.io/vmm-qemu':'true'}"},
        {VMI_ON("qemu-microvm", "{'nodeSelector':{'a':'b'}}"), "spec/nodeSelector",
         "{'a':'b','kubevirt.io/schedulable':'true','vireo.io/vmm-qemu-microvm':'true'}"},
        {VMI_ON("qemu-microvm", "{}"), "spec/containers/0/resources/limits", NULL},
        /* it cannot emulate: wherever it goes, it needs the device, and no room for translated code */
        {VMI_ON("firecracker", "{'domain':{'memory':{'guest':'64Mi'}}}"),
         "spec/containers/0/resources",
         "{'requests':{'cpu':'100m','memory':'78Mi','ephemeral-storage':'50M','devices.kubevirt.io/"
         "kvm':'1'},"
         "'limits':{'devices.kubevirt.io/kvm':'1'}}"},
        {VMI_ON("firecracker", "{'domain':{'memory':{'guest':'64Mi'}}}"),
         "metadata/annotations/kubevirt.io~1memory-overhead-bytes", "'14680064'"},
        /* a vsock that is the kernel's is a device of the node; others are the VMM's own */
        {VMI_ON("qemu", VSOCK("true")), "spec/containers/0/resources",
         "{'requests':{'cpu':'100m','memory':'203Mi','ephemeral-storage':'50M','devices.kubevirt."
         "io/vhost-vsock':'1'},"
         "'limits':{'devices.kubevirt.io/vhost-vsock':'1'}}"},
        {VMI_ON("qemu-microvm", VSOCK("true")), "spec/containers/0/resources/limits",
         "{'devices.kubevirt.io/vhost-vsock':'1'}"},
        {VMI_ON("qemu", VSOCK("false")), "spec/containers/0/resources/limits", NULL},
        {VMI_ON("firecracker", VSOCK("true")), "spec/containers/0/resources/limits",
         "{'devices.kubevirt.io/kvm':'1'}"},
        {VMI_ON("cloud-hypervisor", VSOCK("true")), "spec/containers/0/resources/limits", NULL},
        /* what came with a version asks for it, in every alternative */
        {VMI_ON("qemu", "{'domain':{}}"), "spec/affinity", NULL},
        {VMI_ON("qemu", "{" IGB "}"), "spec/affinity",
         REQUIRED("[{'matchExpressions':[" GT("799") "]}]")},
        {VMI_ON("qemu", "{'affinity':" REQUIRED("[{'matchExpressions':[{'key':'a','operator':'"
                                                "Exists'}]},{},{'matchFields':[]}]") "," IGB "}"),
         "spec/affinity",
         REQUIRED("[{'matchExpressions':[{'key':'a','operator':'Exists'}," GT(
             "799") "]},{},"
                    "{'matchFields':[],'matchExpressions':[" GT("799") "]}]")},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        const struct json *got = json_at(pod_of(&a, cases[i].vmi), cases[i].path);
        AUTO_FREE char *text = got ? json_text(got) : NULL;

        if (cases[i].want ? !json_eq(got, parse(&a, cases[i].want)) : got != NULL)
            fail_msg("case %zu: %s", i, text ? text : "nothing");
    }
}

#define SELECTOR "{'matchExpressions':[{'key':'k','operator':'In','values':['v']}],'matchLabels':{'a':'b'}}"
#define NEIGHBOURS                                                                                                             \
    "{'preferredDuringSchedulingIgnoredDuringExecution':[{'weight':3,'podAffinityTerm':{'labelSelector':" SELECTOR             \
    ",'namespaceSelector':" SELECTOR ",'matchLabelKeys':['m'],'mismatchLabelKeys':['n'],'namespaces':['x'],"                  \
    "'topologyKey':'kubernetes.io/hostname'}}]}"
#define TERM "{'matchExpressions':[{'key':'k','operator':'In','values':['v']}],'matchFields':[{'key':'metadata.name','operator':'In','values':['x']}]}"

/* Where the pod goes and what it finds there is Kubernetes' business, and in Kubernetes' words: the pod has what the VMI says. */
static void placement_is_taken_over(void **state)
{
    static const char *const spec =
        "{'affinity':{'nodeAffinity':{'requiredDuringSchedulingIgnoredDuringExecution':{'nodeSelectorTerms':[" TERM "]},"
        "'preferredDuringSchedulingIgnoredDuringExecution':[{'weight':2,'preference':" TERM "}]},"
        "'podAffinity':" NEIGHBOURS ",'podAntiAffinity':" NEIGHBOURS "},"
        "'tolerations':[{'key':'k','operator':'Equal','value':'v','effect':'NoExecute','tolerationSeconds':9}],"
        "'topologySpreadConstraints':[{'maxSkew':1,'minDomains':1,'topologyKey':'z','whenUnsatisfiable':'DoNotSchedule',"
        "'labelSelector':" SELECTOR ",'matchLabelKeys':['q'],'nodeAffinityPolicy':'Honor','nodeTaintsPolicy':'Ignore'}],"
        "'priorityClassName':'high','dnsPolicy':'None','dnsConfig':{'nameservers':['1.1.1.1'],'searches':['a.b'],"
        "'options':[{'name':'ndots','value':'2'}]},'subdomain':'sub','schedulerName':'default-scheduler'}";
    static const char *const same[] = {"affinity", "tolerations", "topologySpreadConstraints", "priorityClassName",
                                       "dnsPolicy", "dnsConfig", "subdomain", "schedulerName"};
    AUTO(arena_done) struct arena a = {0};
    const struct json *want = parse(&a, spec), *vmi, *pod;

    (void)state;
    vmi = json_object(&a, "metadata", parse(&a, "{'name':'v','uid':'u'}"), "spec", want, NULL);
    AUTO_FREE char *text = json_text(vmi);
    pod = pod_of(&a, text);
    assert_int_equal(json_len(want), ARRAY_SIZE(same));
    for (size_t i = 0; i < ARRAY_SIZE(same); i++)
        if (!json_get(want, same[i]) || !json_eq(json_get(want, same[i]), json_get(json_get(pod, "spec"), same[i])))
            fail_msg("%s", same[i]);
    /* and what is added to */
    pod = pod_of(&a, "{'metadata':{'name':'v','uid':'u'},'spec':{'nodeSelector':{'a':'b'},'architecture':'arm64',"
                     "'terminationGracePeriodSeconds':7,'hostname':'h'}}");
    assert_true(json_eq(json_at(pod, "spec/nodeSelector"),
                        parse(&a, "{'a':'b','kubevirt.io/schedulable':'true','kubernetes.io/arch':'arm64','vireo.io/vmm-qemu':'true'}")));
    assert_int_equal(json_i64_at(pod, "spec/terminationGracePeriodSeconds", 0), 7 + 30); /* time to kill and clean up */
    assert_true(str_is(json_str_at(pod, "spec/hostname"), "h"));
}

/* The device of an accelerator that the KubeVirt object does not allow is not asked for. */
static void kvm_device(void **state)
{
    static const struct {
        const char *configuration, *vmm;
        bool wanted, asked;
    } cases[] = {
        {"{}", "qemu", true, true},
        {"{}", "qemu", false, false},
        {"{'hypervisors':[{'name':'kvm'}]}", "qemu", true, true},
        {"{'hypervisors':[{'name':'hyperv-direct'}]}", "qemu", true, false},
        {"{'hypervisors':[{'name':'hyperv-direct'},{'name':'kvm'}]}", "qemu", true, true},
        {"{}", "firecracker", false, true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct kv_config *c = kv_config_new(parse(&a, arena_printf(&a, "{'spec':{'configuration':%s}}", cases[i].configuration)));
        const struct kv_pod_options o = {.launcher_image = "launcher:1", .kvm = cases[i].wanted};
        const struct json *vmi = parse(&a, arena_printf(&a, VMI_ON("%s", "{}"), cases[i].vmm));
        const struct json *pod = kv_launcher_pod(vmi, c, &o, &a);
        bool asked = json_at(pod, "spec/containers/0/resources/limits/devices.kubevirt.io~1kvm") != NULL;

        kv_config_free(c);
        if (asked != cases[i].asked)
            fail_msg("case %zu", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(volumes), cmocka_unit_test(a_container_for_each_image),
                                       cmocka_unit_test(pull_secrets), cmocka_unit_test(names),
                                       cmocka_unit_test(sizes), cmocka_unit_test(placement_is_taken_over), cmocka_unit_test(hypervisors), cmocka_unit_test(likenesses_are_no_launchers),
        cmocka_unit_test(a_long_name_is_cut_to_a_good_one),
                                       cmocka_unit_test(kvm_device)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
