/* Every pod that is made for a machine, against Kubernetes' own description of a pod: what a server does not know it drops, and says nothing.
 *
 * kv_pod_schema-test DATA tests; kv_pod_schema-test --print writes the pods as a List instead, for test/cluster to ask a real server about. */
#include "base/base_test.h"
#include "api/kv_config.h"

#include <fcntl.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/file.h"

#define OTHERS                                                                                                                 \
    "'labelSelector':{'matchExpressions':[{'key':'k','operator':'In','values':['v']}],'matchLabels':{'a':'b'}},"               \
    "'topologyKey':'kubernetes.io/hostname'"
#define DISK(name, more) "{'name':'" name "','containerDisk':{'image':'r/d:1'" more "}}"

static const char *const specs[] = {
    "{}",
    "{'volumes':[" DISK("d", "") "]}",
    "{'volumes':[" DISK("d", ",'imagePullPolicy':'Always','imagePullSecret':'s','path':'/x'") "," DISK("e", "") "," DISK("container-disks", "") "]}",
    "{'domain':{'firmware':{'kernelBoot':{'container':{'image':'r/k','kernelPath':'/k','imagePullSecret':'s'}}}},"
    "'volumes':[" DISK("d", "") "]}",
    "{'domain':{'resources':{'requests':{'cpu':'2','memory':'1Gi'},'limits':{'cpu':'2','memory':'1Gi'}}},'volumes':[" DISK("d", "") "]}",
    "{'domain':{'resources':{'limits':{'memory':'1Gi'}}},'volumes':[" DISK("d", "") "]}",
    "{'domain':{'cpu':{'cores':2,'dedicatedCpuPlacement':true},'memory':{'guest':'1Gi'}},'volumes':[" DISK("d", "") "]}",
    "{'domain':{'memory':{'guest':'1Gi','hugepages':{'pageSize':'2Mi'}}}}",
    "{'domain':{'devices':{'autoattachVSOCK':true,'interfaces':[{'name':'a','model':'igb'}]}}}",
    "{'volumes':[{'name':'p','persistentVolumeClaim':{'claimName':'c','readOnly':true}},{'name':'v','dataVolume':{'name':'w'}},"
    "{'name':'e','ephemeral':{'persistentVolumeClaim':{'claimName':'f'}}},{'name':'t','emptyDisk':{'capacity':'1Gi'}}]}",
    "{'volumes':[{'name':'c','cloudInitNoCloud':{'secretRef':{'name':'u'},'networkDataSecretRef':{'name':'n.x'}}},"
    "{'name':'g','cloudInitConfigDrive':{'secretRef':{'name':'u'}}},{'name':'m','configMap':{'name':'c','optional':true}},"
    "{'name':'s','secret':{'secretName':'x','optional':false}},{'name':'y','sysprep':{'secret':{'name':'x'}}},"
    "{'name':'z','sysprep':{'configMap':{'name':'w'}}},{'name':'a','serviceAccount':{'serviceAccountName':'default'}}],"
    "'accessCredentials':[{'sshPublicKey':{'source':{'secret':{'secretName':'k.l'}},'propagationMethod':{'noCloud':{}}}}]}",
    "{'affinity':{'nodeAffinity':{'requiredDuringSchedulingIgnoredDuringExecution':{'nodeSelectorTerms':[{'matchExpressions':[{'key':"
    "'k','operator':'Exists'}]}]}},'podAntiAffinity':{'preferredDuringSchedulingIgnoredDuringExecution':[{'weight':1,'podAffinityTerm':{"
    OTHERS "}}]}},'tolerations':[{'key':'k','operator':'Equal','value':'v','effect':'NoExecute','tolerationSeconds':9}],"
    "'topologySpreadConstraints':[{'maxSkew':1,'whenUnsatisfiable':'DoNotSchedule'," OTHERS "}],'dnsPolicy':'None','dnsConfig':{"
    "'nameservers':['1.1.1.1'],'searches':['a.b'],'options':[{'name':'ndots','value':'2'}]},'subdomain':'sub','hostname':'h',"
    "'schedulerName':'default-scheduler','terminationGracePeriodSeconds':0,'architecture':'amd64','nodeSelector':{'a':'b'}}",
};
static const char *const vmms[] = {"qemu", "qemu-microvm", "firecracker"};

static const struct json *parse(struct arena *a, const char *text)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;
    char *copy = arena_strdup(a, str_of(text));

    for (char *p = copy; *p; p++)
        if (*p == '\'')
            *p = '"';
    if (!json_parse(str_of(copy), a, &v, &err)) {
        fprintf(stderr, "%s: %s\n", copy, error_text(&err));
        exit(1);
    }
    return v;
}

#define PODS (ARRAY_SIZE(specs) * ARRAY_SIZE(vmms) * 4)

static const struct json *pod_number(size_t n, struct arena *a)
{
    struct kv_config *c = kv_config_new(NULL);
    const struct kv_pod_options o = {.launcher_image = "launcher:1", .image_volumes = n & 1, .kvm = n & 2};
    const char *vmm = vmms[n / 4 % ARRAY_SIZE(vmms)], *spec = specs[n / 4 / ARRAY_SIZE(vmms)];
    const struct json *pod =
        json_copy(a, kv_launcher_pod(parse(a, arena_printf(a,
                                                           "{'metadata':{'name':'v%zu','namespace':'default','uid':'u','annotations':{"
                                                           "'vireo.io/vmm':'%s'}},'spec':%s}",
                                                           n, vmm, spec)),
                                     c, &o, a));

    kv_config_free(c);
    return pod;
}

/* --- a validator: of OpenAPI v3 as much as Kubernetes' documents use ------------------------------------------------------------ */

static const struct json *schemas;

static void differs(const char *path, const char *why)
{
    fail_msg("%s: %s", path, why);
}

static void conform(const struct json *v, const struct json *s, const char *path, struct arena *a)
{
    struct str ref = json_str_at(s, "$ref"), type = json_str_at(s, "type"), head = STR("#/components/schemas/");
    const struct json *properties = json_get(s, "properties"), *more = json_get(s, "additionalProperties");

    assert_non_null(s);
    if (ref.n) {
        assert_true(str_starts(ref, head));
        conform(v, json_get_str(schemas, str_skip(ref, head.n)), path, a);
        return;
    }
    json_each_item(part, json_get(s, "allOf"))
        conform(v, part, path, a);
    if (json_len(json_get(s, "oneOf"))) { /* a quantity, or a port: a number or text */
        if (!json_is(v, JSON_STRING) && !json_is(v, JSON_NUMBER))
            differs(path, "neither text nor a number");
        return;
    }
    if (str_is(type, "object")) {
        if (!json_is(v, JSON_OBJECT))
            differs(path, "no object");
        json_each_member(m, v) {
            struct str key = json_str(&m->key);
            const struct json *of = properties ? json_get_str(properties, key) : more;

            if (!of)
                differs(arena_printf(a, "%s." STR_FMT, path, STR_ARG(key)), "not a field");
            conform(&m->value, of, arena_printf(a, "%s." STR_FMT, path, STR_ARG(key)), a);
        }
        json_each_item(name, json_get(s, "required"))
            if (!json_get_str(v, json_str(name)))
                differs(arena_printf(a, "%s." STR_FMT, path, STR_ARG(json_str(name))), "missing");
    } else if (str_is(type, "array")) {
        if (!json_is(v, JSON_ARRAY))
            differs(path, "no array");
        for (size_t i = 0; i < json_len(v); i++)
            conform(json_item(v, i), json_get(s, "items"), arena_printf(a, "%s[%zu]", path, i), a);
    } else if ((str_is(type, "string") && !json_is(v, JSON_STRING)) || (str_is(type, "boolean") && !json_is(v, JSON_TRUE) && !json_is(v, JSON_FALSE))
               || ((str_is(type, "integer") || str_is(type, "number")) && !json_is(v, JSON_NUMBER))) {
        differs(path, "not of its type");
    }
}

static void every_pod_is_one_that_kubernetes_knows(void **state)
{
    size_t with_containers = 0, with_volumes = 0;

    for (size_t n = 0; n < PODS; n++) {
        AUTO(arena_done) struct arena a = {0};
        const struct json *pod = pod_number(n, &a), *containers = json_at(pod, "spec/containers");

        conform(pod, json_get(schemas, "io.k8s.api.core.v1.Pod"), "pod", &a);
        with_containers += json_len(containers) > 1;
        json_each_item(v, json_at(pod, "spec/volumes"))
            if (json_get(v, "image")) {
                with_volumes++;
                break;
            }
    }
    assert_int_equal(with_containers, with_volumes); /* one or the other */
    assert_int_equal(with_containers, 6 * ARRAY_SIZE(vmms) * 2);
    (void)state;
}

/* The validator is none if nothing fails it. */
static void a_field_that_is_none_is_found(void **state)
{
    const struct json *spec = json_get(json_get(schemas, "io.k8s.api.core.v1.PodSpec"), "properties");

    (void)state;
    assert_non_null(json_get(spec, "volumes"));
    assert_null(json_get(spec, "volume"));
    assert_non_null(json_get(json_get(json_get(schemas, "io.k8s.api.core.v1.Volume"), "properties"), "image"));
}

static int print(void)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *items = json_array(&a, NULL);

    for (size_t n = 0; n < PODS; n++)
        items = json_append(&a, items, pod_number(n, &a));
    AUTO_FREE char *text = json_text(json_object(&a, "apiVersion", json_new_z(&a, "v1"), "kind", json_new_z(&a, "List"), "items", items, NULL));

    puts(text);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pod_is_one_that_kubernetes_knows),
        cmocka_unit_test(a_field_that_is_none_is_found),
    };
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf text = {0};
    const struct json *document = NULL;

    if (argc > 1 && strcmp(argv[1], "--print") == 0)
        return print();
    buf_init(&text, 16 << 20);
    if (argc < 2 || !file_read(AT_FDCWD, arena_printf(&a, "%s/k8s-openapi/openapi-v3-api_v1.json", argv[1]), &text, &err)
        || !json_parse(buf_str(&text), &a, &document, &err)) {
        printf("skip kv_pod_schema: no recording of Kubernetes' API: %s\n", error_text(&err));
        return 77;
    }
    schemas = json_at(document, "components/schemas");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
