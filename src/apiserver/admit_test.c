#include "apiserver/testing.h"

#define META(name) "\"metadata\":{\"name\":\"" name "\"},"
#define POD(name, resources)                                                                       \
    "{" META(name) "\"spec\":{\"containers\":[{\"name\":\"c\",\"image\":\"i\",\"resources\":"      \
                   "{" resources "}}]}}"
#define ONE "\"containers\":[{\"name\":\"c\",\"image\":\"i\"}]"
#define ASKS(cpu, mem) "\"requests\":{\"cpu\":\"" cpu "\",\"memory\":\"" mem "\"}"
#define TAKES(cpu, mem) "\"limits\":{\"cpu\":\"" cpu "\",\"memory\":\"" mem "\"}"

static const char *message(void)
{
    static char text[4096];

    snprintf(text, sizeof text, STR_FMT, STR_ARG(json_str_at(w.body, "message")));
    return text;
}

static const char *at(const char *path)
{
    static char text[4096];

    snprintf(text, sizeof text, STR_FMT, STR_ARG(json_str_at(w.body, path)));
    return text;
}

static void create(const char *group, const char *plural, const char *body)
{
    if (call(CLIENT_CREATE, group, plural, NULL, NULL, body) != 201)
        fail_msg("%s: %s", plural, message());
}

/* What must hold of each kind: body → code, and what the message says. */
struct row {
    const char *group, *plural, *body;
    int code;
    const char *says;
};
static const struct row rows[] = {
    {"", "secrets",
     "{" META("t1") "\"type\":\"kubernetes.io/tls\",\"data\":{\"tls.crt\":\"\",\"tls.key\":\"\"}}",
     201, NULL},
    {"", "secrets", "{" META("t2") "\"type\":\"kubernetes.io/tls\",\"data\":{\"tls.crt\":\"\"}}",
     422, "data[tls.key]: Required value"},
    {"", "secrets",
     "{" META("t3") "\"type\":\"kubernetes.io/basic-auth\",\"stringData\":{\"username\":\"u\"}}",
     201, NULL},
    {"", "secrets", "{" META("t4") "\"type\":\"kubernetes.io/basic-auth\"}", 422,
     "data[username]: Required value"},
    {"", "secrets", "{" META("t5") "\"type\":\"kubernetes.io/ssh-auth\"}", 422,
     "data[ssh-privatekey]: Required value"},
    {"", "secrets",
     "{" META("t6") "\"type\":\"kubernetes.io/"
                    "dockerconfigjson\",\"data\":{\".dockerconfigjson\":\"e30=\"}}",
     201, NULL},
    {"", "secrets",
     "{" META("t7") "\"type\":\"kubernetes.io/"
                    "dockerconfigjson\",\"data\":{\".dockerconfigjson\":\"ew==\"}}",
     422, "data[.dockerconfigjson]: Invalid value"},
    {"", "secrets", "{" META("t8") "\"type\":\"kubernetes.io/service-account-token\"}", 422,
     "metadata.annotations[kubernetes.io/service-account.name]: Required value"},
    {"", "persistentvolumeclaims",
     "{" META("c1") "\"spec\":{\"resources\":{\"requests\":{\"storage\":\"1Gi\"}}}}", 422,
     "spec.accessModes: Required value: at least 1 access mode is required"},
    {"", "persistentvolumeclaims", "{" META("c2") "\"spec\":{\"accessModes\":[\"ReadWriteOnce\"]}}",
     422, "spec.resources[storage]: Required value"},
    {"", "persistentvolumeclaims",
     "{" META("c3") "\"spec\":{\"accessModes\":[\"Write\"],\"resources\":{\"requests\":{"
                    "\"storage\":\"1Gi\"}}}}",
     422,
     "supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", "
     "\"ReadWriteOncePod\""},
    {"", "persistentvolumeclaims",
     "{" META("c4") "\"spec\":{\"accessModes\":[\"ReadWriteOnce\"],\"resources\":{\"requests\":{"
                    "\"storage\":\"0\"}}}}",
     422, "must be greater than zero"},
    {"", "persistentvolumes",
     "{" META(
         "v1") "\"spec\":{\"accessModes\":[\"ReadWriteOnce\"],\"capacity\":{\"storage\":\"1Gi\"}}}",
     422, "spec: Required value: must specify a volume type"},
    {"", "persistentvolumes",
     "{" META("v2") "\"spec\":{\"accessModes\":[\"ReadWriteOnce\"],\"capacity\":{\"storage\":"
                    "\"1Gi\"},\"hostPath\":{\"path\":\"/x\"}}}",
     201, NULL},
    {"storage.k8s.io", "storageclasses", "{" META("s1") "\"provisioner\":\"\"}", 422,
     "provisioner: Required value"},
    {"storage.k8s.io", "storageclasses",
     "{" META("s2") "\"provisioner\":\"a/b\",\"reclaimPolicy\":\"Keep\"}", 422,
     "reclaimPolicy: Unsupported value: \"Keep\""},
    {"scheduling.k8s.io", "priorityclasses", "{" META("p1") "\"value\":1000000001}", 422,
     "value: Forbidden: maximum allowed value of a user defined priority is 1000000000"},
    {"scheduling.k8s.io", "priorityclasses", "{" META("system-x") "\"value\":1}", 422,
     "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system "
     "use only"},
    {"", "resourcequotas", "{" META("q1") "\"spec\":{\"hard\":{\"cars\":\"1\"}}}", 422,
     "spec.hard[cars]: Invalid value: \"cars\": must be a standard resource for quotas"},
    {"", "resourcequotas", "{" META("q2") "\"spec\":{\"hard\":{\"pods\":\"1500m\"}}}", 422,
     "must be an integer"},
    {"", "resourcequotas", "{" META("q3") "\"spec\":{\"hard\":{\"pods\":\"-1\"}}}", 422,
     "must be greater than or equal to 0"},
    {"", "resourcequotas",
     "{" META("q4") "\"spec\":{\"hard\":{\"cpu\":\"1\"},\"scopes\":[\"BestEffort\"]}}", 422,
     "unsupported scope applied to resource"},
    {"", "resourcequotas",
     "{" META("q5") "\"spec\":{\"hard\":{\"pods\":\"1\"},\"scopes\":[\"BestEffort\","
                    "\"NotBestEffort\"]}}",
     422, "conflicting scopes"},
    {"", "limitranges", "{" META("l1") "\"spec\":{\"limits\":[{\"type\":\"Car\"}]}}", 422,
     "must be a standard limit type or fully qualified"},
    {"", "limitranges",
     "{" META("l2") "\"spec\":{\"limits\":[{\"type\":\"Container\",\"min\":{\"cpu\":\"2\"},\"max\":"
                    "{\"cpu\":\"1\"}}]}}",
     422, "min value 2 is greater than max value 1"},
    {"", "limitranges",
     "{" META("l3") "\"spec\":{\"limits\":[{\"type\":\"Pod\",\"default\":{\"cpu\":\"2\"}}]}}", 422,
     "may not be specified when `type` is 'Pod'"},
    {"", "limitranges",
     "{" META("l4") "\"spec\":{\"limits\":[{\"type\":\"PersistentVolumeClaim\"}]}}", 422,
     "either minimum or maximum storage value is required"},
    {"policy", "poddisruptionbudgets",
     "{" META("b1") "\"spec\":{\"minAvailable\":1,\"maxUnavailable\":1}}", 422,
     "minAvailable and maxUnavailable cannot be both set"},
    {"policy", "poddisruptionbudgets", "{" META("b2") "\"spec\":{\"minAvailable\":\"101%\"}}", 422,
     "must not be greater than 100%"},
    {"policy", "poddisruptionbudgets", "{" META("b3") "\"spec\":{\"minAvailable\":\"x\"}}", 422,
     "a valid percent string must be"},
    {"policy", "poddisruptionbudgets",
     "{" META("b4") "\"spec\":{\"selector\":{\"matchExpressions\":[{\"key\":\"a\",\"operator\":"
                    "\"In\"}]}}}",
     422, "spec.selector.matchExpressions[0].values: Required value"},
    {"coordination.k8s.io", "leases", "{" META("e1") "\"spec\":{\"leaseDurationSeconds\":0}}", 422,
     "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"},
    {"events.k8s.io", "events",
     "{" META("n1") "\"regarding\":{\"namespace\":\"default\"},\"type\":\"Normal\"}", 422,
     "reportingController: Required value"},
    {"", "events", "{" META("n2") "\"involvedObject\":{\"namespace\":\"other\"}}", 422,
     "does not match event.namespace"},
    {"", "pods", "{" META("d1") "\"spec\":{\"priorityClassName\":\"none\"," ONE "}}", 403,
     "pods \"d1\" is forbidden: no PriorityClass with name none was found"},
};

static void kinds_keep_their_rules(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        int code = call(CLIENT_CREATE, rows[i].group, rows[i].plural, NULL, NULL, rows[i].body);

        if (code != rows[i].code || (rows[i].says && !strstr(message(), rows[i].says)))
            fail_msg("%s: %d %s", rows[i].body, code, message());
    }
}

/* A pod's spec, and the one cause that it is refused for. */
static void pods_are_checked(void **state)
{
#define C "\"containers\":[{\"name\":\"c\",\"image\":\"i\","
    static const struct {
        const char *spec, *says;
    } bad[] = {
        {"\"containers\":[]", "is invalid: spec.containers: Required value"},
        {"\"containers\":[{\"name\":\"C\",\"image\":\"i\"}]",
         "spec.containers[0].name: Invalid value: \"C\""},
        {"\"containers\":[{\"name\":\"c\"}]", "spec.containers[0].image: Required value"},
        {"\"containers\":[{\"name\":\"c\",\"image\":\" i\"}]",
         "must not have leading or trailing whitespace"},
        {"\"containers\":[{\"name\":\"c\",\"image\":\"i\"},{\"name\":\"d\",\"image\":\"i\"},{"
         "\"name\":\"c\",\"image\":\"i\"}]",
         "spec.containers[2].name: Duplicate value: \"c\""},
        {"\"initContainers\":[{\"name\":\"c\",\"image\":\"i\"}]," ONE,
         "spec.initContainers[0].name: Duplicate value: \"c\""},
        {"\"restartPolicy\":\"Often\"," ONE,
         "supported values: \"Always\", \"OnFailure\", \"Never\""},
        {"\"dnsPolicy\":\"Some\"," ONE, "spec.dnsPolicy: Unsupported value: \"Some\""},
        {"\"dnsPolicy\":\"None\"," ONE, "spec.dnsConfig.nameservers: Required value"},
        {C "\"imagePullPolicy\":\"Now\"}]",
         "supported values: \"Always\", \"IfNotPresent\", \"Never\""},
        {C "\"ports\":[{\"containerPort\":0}]}]",
         "spec.containers[0].ports[0].containerPort: Required value"},
        {C "\"ports\":[{\"containerPort\":70000}]}]", "must be between 1 and 65535, inclusive"},
        {C "\"ports\":[{\"containerPort\":7,\"name\":\"7\"}]}]",
         "must contain at least one letter (a-z)"},
        {C
         "\"ports\":[{\"containerPort\":7,\"hostPort\":7},{\"containerPort\":8,\"hostPort\":7}]}]",
         "ports[1].hostPort: Duplicate value: \"TCP//7\""},
        {C "\"env\":[{\"name\":\"a=b\"}]}]", "env[0].name: Invalid value: \"a=b\""},
        {C "\"env\":[{\"value\":\"b\"}]}]", "env[0].name: Required value"},
        {C "\"env\":[{\"name\":\"a\",\"valueFrom\":{}}]}]", "must specify one of: `fieldRef`"},
        {C "\"volumeMounts\":[{\"name\":\"v\",\"mountPath\":\"/v\"}]}]",
         "volumeMounts[0].name: Not found: \"v\""},
        {"\"volumes\":[{\"name\":\"v\"}]," C
         "\"volumeMounts\":[{\"name\":\"v\",\"mountPath\":\"/v\"},{\"name\":\"v\","
         "\"mountPath\":\"/v\"}]}]",
         "volumeMounts[1].mountPath: Invalid value: \"/v\": must be unique"},
        {"\"volumes\":[{\"name\":\"v\"},{\"name\":\"v\"}]," ONE,
         "spec.volumes[1].name: Duplicate value: \"v\""},
        {"\"volumes\":[{\"name\":\"v\",\"secret\":{}}]," ONE,
         "spec.volumes[0].secret.secretName: Required value"},
        {"\"volumes\":[{\"name\":\"v\",\"emptyDir\":{},\"hostPath\":{\"path\":\"/\"}}]," ONE,
         "more than 1 volume type"},
        {C "\"resources\":{\"limits\":{\"gold\":\"1\"}}}]",
         "must be a standard resource type or fully qualified"},
        {C "\"resources\":{\"requests\":{\"cpu\":\"2\"},\"limits\":{\"cpu\":\"1\"}}}]",
         "must be less than or equal to cpu limit of 1"},
        {C "\"resources\":{\"requests\":{\"a.io/b\":\"1\"}}}]",
         "Limit must be set for non overcommitable resources"},
        {"\"activeDeadlineSeconds\":0," ONE, "spec.activeDeadlineSeconds: Invalid value: 0"},
        {"\"nodeSelector\":{\"a b\":\"c\"}," ONE, "spec.nodeSelector: Invalid value: \"a b\""},
        {"\"hostname\":\"a.b\"," ONE, "spec.hostname: Invalid value: \"a.b\""},
        {"\"tolerations\":[{\"operator\":\"Equal\"}]," ONE,
         "operator must be Exists when `key` is empty"},
        {"\"tolerations\":[{\"key\":\"a\",\"effect\":\"Go\"}]," ONE,
         "spec.tolerations[0].effect: Unsupported value: \"Go\""},
    };
#undef C
    char body[1024];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        snprintf(body, sizeof body, "{" META("bad") "\"spec\":{%s}}", bad[i].spec);
        if (call(CLIENT_CREATE, "", "pods", NULL, NULL, body) != 422
            || !strstr(message(), bad[i].says))
            fail_msg("%s: %s", bad[i].spec, message());
    }
}

/* All containers stay, each with the token, and what says nothing of its own says what upstream's says. */
static void pods_are_filled_in(void **state)
{
    static const struct {
        const char *path, *want;
    } rows_of_two[] = {
        {"spec/volumes/0/emptyDir", "{}"},
        {"spec/volumes/1/projected/sources/0/serviceAccountToken/path", "\"token\""},
        {"spec/containers/0/imagePullPolicy", "\"Always\""},
        {"spec/containers/1/imagePullPolicy", "\"IfNotPresent\""},
        {"spec/containers/1/volumeMounts/0/mountPath",
         "\"/var/run/secrets/kubernetes.io/serviceaccount\""},
        {"spec/serviceAccount", "\"default\""},
        {"spec/tolerations/0/operator", "\"Exists\""},
        {"spec/tolerations/1/key", "\"node.kubernetes.io/unreachable\""},
    };

    (void)state;
    create("", "pods",
           "{" META("two") "\"spec\":{\"volumes\":[{\"name\":\"v\"}],\"tolerations\":[{\"key\":"
                           "\"node.kubernetes.io/not-ready\","
                           "\"operator\":\"Exists\"}],\"containers\":[{\"name\":\"a\",\"image\":"
                           "\"i\"},{\"name\":\"b\","
                           "\"image\":\"i:1\"}]}}");
    for (size_t i = 0; i < ARRAY_SIZE(rows_of_two); i++) {
        AUTO(buf_done) struct buf b = {0};

        json_write(&b, json_at(w.body, rows_of_two[i].path));
        if (!str_is(buf_str(&b), rows_of_two[i].want))
            fail_msg("%s: " STR_FMT, rows_of_two[i].path, STR_ARG(buf_str(&b)));
    }
    create("", "pods",
           "{" META("none") "\"spec\":{\"automountServiceAccountToken\":false," ONE "}}");
    assert_null(json_at(w.body, "spec/volumes"));
    assert_null(json_at(w.body, "spec/containers/0/volumeMounts"));
    /* Labels of a pod may change, its containers not. */
    assert_int_equal(call(CLIENT_PATCH_MERGE, "", "pods", "none", NULL,
                          "{\"metadata\":{\"labels\":{\"a\":\"b\"}}}"),
                     200);
    assert_int_equal(
        call(CLIENT_PATCH_MERGE, "", "pods", "none", NULL, "{\"spec\":{\"containers\":[]}}"), 422);
    assert_non_null(strstr(message(), "pod updates may not add or remove containers"));
}

static void limit_ranges_fill_in_and_refuse(void **state)
{
    (void)state;
    create(
        "", "limitranges",
        "{" META("r") "\"spec\":{\"limits\":[{\"type\":\"Container\",\"default\":{\"cpu\":\"1\"},"
                      "\"min\":{\"memory\":\"64Mi\"},\"max\":{\"memory\":\"1Gi\"},"
                      "\"maxLimitRequestRatio\":{\"cpu\":\"2\"}},"
                      "{\"type\":\"PersistentVolumeClaim\",\"max\":{\"storage\":\"10Gi\"}}]}}");
    assert_string_equal(at("spec/limits/0/defaultRequest/cpu"), "1");
    assert_string_equal(at("spec/limits/0/default/memory"), "1Gi");
    create("", "pods", POD("a", ""));
    assert_string_equal(at("spec/containers/0/resources/limits/memory"), "1Gi");
    assert_string_equal(at("spec/containers/0/resources/requests/cpu"), "1");
    assert_string_equal(at("metadata/annotations/kubernetes.io~1limit-ranger"),
                        "LimitRanger plugin set: cpu, memory request for container c; cpu, memory "
                        "limit for container c");
    assert_int_equal(call(CLIENT_CREATE, "", "pods", NULL, NULL, POD("b", TAKES("1", "2Gi"))), 403);
    assert_string_equal(
        message(),
        "pods \"b\" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi");
    assert_int_equal(call(CLIENT_CREATE, "", "pods", NULL, NULL,
                          POD("b", TAKES("4", "1Gi") "," ASKS("1", "64Mi"))),
                     403);
    assert_string_equal(
        message(),
        "pods \"b\" is forbidden: cpu max limit to request ratio per Container is 2, but provided "
        "ratio is 4.000000");
    assert_int_equal(call(CLIENT_CREATE, "", "persistentvolumeclaims", NULL, NULL,
                          "{" META("c") "\"spec\":{\"accessModes\":[\"ReadWriteOnce\"],"
                                        "\"resources\":{\"requests\":{\"storage\":\"20Gi\"}}}}"),
                     403);
    assert_string_equal(message(), "persistentvolumeclaims \"c\" is forbidden: maximum storage "
                                   "usage per PersistentVolumeClaim is "
                                   "10Gi, but request is 20Gi");
}

static void quotas_count_and_refuse(void **state)
{
    (void)state;
    create("", "resourcequotas",
           "{" META("q") "\"spec\":{\"hard\":{\"pods\":\"2\",\"requests.memory\":\"1Gi\",\"count/"
                         "configmaps\":\"3\",\"services\":\"1\"}}}");
    assert_int_equal(call(CLIENT_CREATE, "", "pods", NULL, NULL, POD("a", "")), 403);
    assert_string_equal(
        message(), "pods \"a\" is forbidden: failed quota: q: must specify requests.memory for: c");
    create("", "pods", POD("a", ASKS("1", "600Mi")));
    assert_int_equal(call(CLIENT_CREATE, "", "pods", NULL, NULL, POD("b", ASKS("1", "600Mi"))),
                     403);
    assert_string_equal(
        message(),
        "pods \"b\" is forbidden: exceeded quota: q, requested: requests.memory=600Mi, used: "
        "requests.memory=600Mi, limited: requests.memory=1Gi");
    create("", "pods", POD("b", ASKS("1", "100Mi")));
    assert_int_equal(call(CLIENT_CREATE, "", "pods", NULL, NULL, POD("c", ASKS("1", "1Mi"))), 403);
    assert_string_equal(message(), "pods \"c\" is forbidden: exceeded quota: q, requested: pods=1, "
                                   "used: pods=2, limited: pods=2");
    settle(MILLIS(300));
    call(CLIENT_GET, "", "resourcequotas", "q", NULL, NULL);
    assert_string_equal(at("status/used/requests.memory"), "700Mi");
    assert_string_equal(at("status/used/pods"), "2");
    assert_string_equal(at("status/used/services"), "0");
    assert_string_equal(at("status/used/count~1configmaps"), "1"); /* kube-root-ca.crt */
    /* what has ended and what is gone frees its place */
    call(CLIENT_PATCH_MERGE, "", "pods", "a", "status", "{\"status\":{\"phase\":\"Succeeded\"}}");
    create("", "pods", POD("c", ASKS("1", "600Mi")));
    call(CLIENT_DELETE, "", "pods", "b", NULL, NULL);
    create("", "pods", POD("d", ASKS("1", "100Mi")));
    settle(MILLIS(300));
    call(CLIENT_GET, "", "resourcequotas", "q", NULL, NULL);
    assert_string_equal(at("status/used/requests.memory"), "700Mi");
    /* a lower limit refuses from then on; names that are no longer limited leave the status */
    call(CLIENT_PATCH_MERGE, "", "resourcequotas", "q", NULL,
         "{\"spec\":{\"hard\":{\"pods\":\"1\",\"services\":null}}}");
    settle(MILLIS(300));
    assert_int_equal(call(CLIENT_CREATE, "", "pods", NULL, NULL, POD("e", ASKS("1", "1Mi"))), 403);
    call(CLIENT_GET, "", "resourcequotas", "q", NULL, NULL);
    assert_string_equal(at("status/hard/pods"), "1");
    assert_null(json_at(w.body, "status/used/services"));
    call(CLIENT_DELETE, "", "resourcequotas", "q", NULL, NULL);
    create("", "pods", POD("e", ASKS("1", "1Mi")));
}

static void quotas_look_at_scopes(void **state)
{
    (void)state;
    create("scheduling.k8s.io", "priorityclasses", "{" META("high") "\"value\":100}");
    create("", "resourcequotas",
           "{" META("q") "\"spec\":{\"hard\":{\"pods\":\"1\"},\"scopeSelector\":{"
                         "\"matchExpressions\":[{\"scopeName\":"
                         "\"PriorityClass\",\"operator\":\"In\",\"values\":[\"high\"]}]}}}");
    create("", "resourcequotas",
           "{" META("q2") "\"spec\":{\"hard\":{\"pods\":\"1\"},\"scopes\":[\"BestEffort\"]}}");
    create("", "pods", POD("a", ASKS("1", "1Mi")));
    create("", "pods", POD("b", ASKS("1", "1Mi")));
    create("", "pods", POD("c", ""));
    assert_int_equal(call(CLIENT_CREATE, "", "pods", NULL, NULL, POD("d", "")), 403);
    assert_non_null(
        strstr(message(), "exceeded quota: q2, requested: pods=1, used: pods=1, limited: pods=1"));
#define HIGH(name)                                                                                 \
    "{" META(name) "\"spec\":{\"priorityClassName\":\"high\",\"containers\":[{\"name\":\"c\","     \
                   "\"image\":\"i\",\"resources\":{" ASKS("1", "1Mi") "}}]}}"
    create("", "pods", HIGH("e"));
    assert_int_equal(json_i64_at(w.body, "spec/priority", 0), 100);
    assert_int_equal(call(CLIENT_CREATE, "", "pods", NULL, NULL, HIGH("f")), 403);
}

/* A hundred at once for ten places. */
static size_t passed, answers;

static void raced(void *user, const struct client_response *r)
{
    (void)user;
    passed += r->status == 201;
    answers++;
}

static void quotas_hold_in_a_race(void **state)
{
    struct arena a = {0};

    (void)state;
    create("", "resourcequotas",
           "{" META("q") "\"spec\":{\"hard\":{\"count/configmaps\":\"11\"}}}");
    passed = answers = 0;
    for (int i = 0; i < 100; i++) {
        struct client_request q = {.verb = CLIENT_CREATE,
                                   .group = "",
                                   .version = "v1",
                                   .plural = "configmaps",
                                   .ns = STR("default")};

        q.body = json_object(&a, "metadata",
                             json_object(&a, "name", json_new_f(&a, "c%d", i), NULL), NULL);
        client_call(w.c, &q, raced, NULL);
        if (i % 7 == 0)
            loop_turn(w.loop, 0);
    }
    while (answers < 100)
        loop_turn(w.loop, SECONDS(5));
    assert_int_equal(passed, 10); /* and kube-root-ca.crt */
    settle(MILLIS(300));
    call(CLIENT_GET, "", "resourcequotas", "q", NULL, NULL);
    assert_string_equal(at("status/used/count~1configmaps"), "11");
    arena_done(&a);
}

static void claims_grow_where_their_class_lets_them(void **state)
{
    (void)state;
    create("storage.k8s.io", "storageclasses",
           "{" META("grows") "\"provisioner\":\"a/b\",\"allowVolumeExpansion\":true}");
    create("", "resourcequotas",
           "{" META("q") "\"spec\":{\"hard\":{\"requests.storage\":\"3Gi\"}}}");
#define CLAIM(name, class)                                                                         \
    "{" META(                                                                                      \
        name) "\"spec\":{\"storageClassName\":\"" class "\",\"accessModes\":[\"ReadWriteOnce\"],"  \
                                                        "\"resources\":{\"requests\":{"            \
                                                        "\"storage\":\"1Gi\"}}}}"
    create("", "persistentvolumeclaims", CLAIM("a", "grows"));
    create("", "persistentvolumeclaims", CLAIM("b", "vireo-local"));
#define GROW(name, to)                                                                             \
    call(CLIENT_PATCH_MERGE, "", "persistentvolumeclaims", name, NULL,                             \
         "{\"spec\":{\"resources\":{\"requests\":{\"storage\":\"" to "\"}}}}")
    assert_int_equal(GROW("a", "2Gi"), 200);
    assert_int_equal(GROW("a", "3Gi"), 403);
    assert_non_null(
        strstr(message(),
               "exceeded quota: q, requested: requests.storage=1Gi, used: requests.storage=3Gi"));
    assert_int_equal(GROW("a", "1Gi"), 422);
    assert_int_equal(GROW("b", "2Gi"), 422);
    assert_non_null(strstr(message(), "only dynamically provisioned pvc can be resized"));
}

static void pods_keep_to_their_account_and_limits(void **state)
{
    (void)state;
    create("", "serviceaccounts", "{" META("s") "\"imagePullSecrets\":[{\"name\":\"pull\"}]}");
    create("", "pods", "{" META("a") "\"spec\":{\"serviceAccountName\":\"s\"," ONE "}}");
    assert_string_equal(at("spec/imagePullSecrets/0/name"), "pull");
    assert_int_equal(call(CLIENT_CREATE, "", "pods", NULL, NULL,
                          "{" META("b") "\"spec\":{\"serviceAccountName\":\"t\"," ONE "}}"),
                     403);
    assert_string_equal(message(),
                        "pods \"b\" is forbidden: error looking up service account default/t: "
                        "serviceaccount \"t\" not found");
    assert_int_equal(call(CLIENT_CREATE, "", "pods", NULL, NULL,
                          POD("c", TAKES("1", "1Gi") "," ASKS("1", "2Gi"))),
                     422);
    assert_non_null(strstr(
        message(),
        "spec.containers[0].resources.requests: Invalid value: \"2Gi\": must be less than or "
        "equal to memory limit of 1Gi"));
}

static void what_is_served_is_listed(void **state)
{
    (void)state;
    settle(MILLIS(400));
    assert_int_equal(
        call(CLIENT_GET, "apiregistration.k8s.io", "apiservices", "v1.policy", NULL, NULL), 200);
    assert_string_equal(at("status/conditions/0/reason"), "Local");
    assert_int_equal(call(CLIENT_GET, "apiregistration.k8s.io", "apiservices", "v1.", NULL, NULL),
                     200);
    assert_int_equal(call(CLIENT_GET, "apiregistration.k8s.io", "apiservices",
                          "v1.apiregistration.k8s.io", NULL, NULL),
                     404);
}

static void evict(const char *pod, int code, const char *says)
{
    int got = call(CLIENT_CREATE, "", "pods", pod, "eviction",
                   "{\"kind\":\"Eviction\",\"apiVersion\":\"policy/v1\"}");

    if (got != code || (says && !strstr(message(), says)))
        fail_msg("evicting %s: %d %s", pod, got, message());
}

static void evictions_keep_to_budgets(void **state)
{
    static const char *const pods[] = {"a", "b", "c"};

    (void)state;
    create("policy", "poddisruptionbudgets",
           "{" META("d") "\"spec\":{\"minAvailable\":1,\"selector\":{}}}");
    assert_int_equal(json_i64_at(w.body, "status/disruptionsAllowed", -1), 0);
    for (size_t i = 0; i < ARRAY_SIZE(pods); i++) {
        create("", "pods", i == 0 ? POD("a", "") : i == 1 ? POD("b", "") : POD("c", ""));
        call(CLIENT_PATCH_MERGE, "", "pods", pods[i], "status",
             i < 2 ? "{\"status\":{\"phase\":\"Running\",\"conditions\":[{\"type\":\"Ready\","
                     "\"status\":\"True\"}]}}"
                   : "{\"status\":{\"phase\":\"Running\"}}");
    }
    evict("a", 429, "Cannot evict pod as it would violate the pod's disruption budget.");
    assert_string_equal(at("details/causes/0/message"),
                        "The disruption budget d is still being processed by the server.");
    assert_int_equal(json_i64_at(w.body, "details/retryAfterSeconds", 0), 10);
    call(CLIENT_PATCH_MERGE, "policy", "poddisruptionbudgets", "d", "status",
         "{\"status\":{\"observedGeneration\":1,\"disruptionsAllowed\":1,\"currentHealthy\":2,"
         "\"desiredHealthy\":1,\"expectedPods\":3}}");
    evict("a", 201, NULL);
    call(CLIENT_GET, "policy", "poddisruptionbudgets", "d", NULL, NULL);
    assert_int_equal(json_i64_at(w.body, "status/disruptionsAllowed", -1), 0);
    assert_true(json_at(w.body, "status/disruptedPods/a") != NULL);
    evict("b", 429, NULL);
    assert_string_equal(at("details/causes/0/message"),
                        "The disruption budget d needs 1 healthy pods and has 2 currently");
    evict("c", 201, NULL); /* not ready, and the rest is healthy */
    create("policy", "poddisruptionbudgets",
           "{" META("e") "\"spec\":{\"minAvailable\":1,\"selector\":{}}}");
    evict("b", 500, "more than one PodDisruptionBudget");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
    const struct CMUnitTest tests[] = {
        T(kinds_keep_their_rules),    T(pods_are_checked),
        T(pods_are_filled_in),        T(limit_ranges_fill_in_and_refuse),
        T(quotas_count_and_refuse),   T(quotas_look_at_scopes),
        T(quotas_hold_in_a_race),     T(claims_grow_where_their_class_lets_them),
        T(evictions_keep_to_budgets), T(pods_keep_to_their_account_and_limits),
        T(what_is_served_is_listed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
