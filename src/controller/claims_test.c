/* Machines and the claims that their volumes name. */
#include "controller/controller_test.h"

#define VOLUME ",\"volumes\":[{\"name\":\"d\",\"persistentVolumeClaim\":{\"claimName\":\"c\"}}]"
#define CLAIM(class)                                                                               \
    "{\"apiVersion\":\"v1\",\"kind\":\"PersistentVolumeClaim\",\"metadata\":{\"name\":\"c\","      \
    "\"namespace\":\"x\"},\"spec\":{"                                                              \
    "\"accessModes\":[\"ReadWriteOnce\"],\"storageClassName\":\"" class "\",\"resources\":{"       \
                                                                        "\"requests\":{"           \
                                                                        "\"storage\":\"1Gi\"}}}}"

static void a_claim_is_waited_for_and_bound(void **state)
{
    struct world *w = *state;

    start(w);
    add_vm(w, "Always", "64Mi", VOLUME);
    settle(w);
    assert_string_equal(VM("status/printableStatus"), "ErrorPvcNotFound");
    assert_int_equal(fake_count(w->client, "pods"), 0);
    fake_create(w->client, "persistentvolumeclaims", CLAIM("vireo-local"));
    settle(w);
    assert_string_equal(VM("status/printableStatus"), "Starting");
    assert_false(condition_is(get(w, "virtualmachines"), "Synchronized", "False"));
    assert_true(str_is(
        json_str_at(fake_get(w->client, "persistentvolumeclaims", "x/c", &w->a), "status/phase"),
        "Bound"));
    assert_int_equal(fake_count(w->client, "persistentvolumes"), 1);
    assert_string_equal(text(w, "pods", "spec/nodeName"), "n1");
    /* In use: stays until the pod has gone. */
    fake_delete(w->client, "persistentvolumeclaims", "x/c");
    settle(w);
    assert_int_equal(fake_count(w->client, "persistentvolumeclaims"), 1);
    fake_merge(w->client, "virtualmachines", "x/vm", "{\"spec\":{\"runStrategy\":\"Halted\"}}");
    turns(w);
    pod_goes(w);
    settle(w);
    assert_int_equal(fake_count(w->client, "persistentvolumeclaims"), 0);
    /* The volume waits for its directory's end (pod/reclaim). */
    const char *volume = fake_only(w->client, "persistentvolumes", &w->a);
    assert_true(meta_deleting(fake_get(w->client, "persistentvolumes", volume, &w->a)));
    fake_merge(w->client, "persistentvolumes", volume, "{\"metadata\":{\"finalizers\":null}}");
    settle(w);
    assert_int_equal(fake_count(w->client, "persistentvolumes"), 0);
}

static void a_volume_that_cannot_be_mounted_is_told_on_the_instance(void **state)
{
    struct world *w = *state;
    const struct json *c;

    start(w);
    add_vm(w, "Always", "64Mi", "");
    settle(w);
    fake_merge(w->client, "pods", fake_only(w->client, "pods", &w->a),
               "{\"status\":{\"phase\":\"Pending\",\"containerStatuses\":[{\"name\":\"compute\",\"state\":{"
               "\"waiting\":{\"reason\":\"ContainerCreating\"}}}]}}");
    settle(w);
    assert_null(condition_find(get(w, "virtualmachineinstances"), "Synchronized"));
    fake_merge(w->client, "pods", fake_only(w->client, "pods", &w->a),
               "{\"status\":{\"phase\":\"Pending\",\"containerStatuses\":[{\"name\":\"compute\",\"state\":{"
               "\"waiting\":{\"reason\":\"ContainerCreating\",\"message\":\"disk.img is no file\"}}}]}}");
    settle(w);
    c = condition_find(get(w, "virtualmachineinstances"), "Synchronized");
    assert_true(str_is(json_str_at(c, "status"), "False"));
    assert_true(str_is(json_str_at(c, "message"), "disk.img is no file"));
}

static void a_claim_of_a_block_volume_is_told_until_there_is_another(void **state)
{
    struct world *w = *state;
    const struct json *c;

    start(w);
    fake_create(w->client, "persistentvolumeclaims",
                "{\"apiVersion\":\"v1\",\"kind\":\"PersistentVolumeClaim\",\"metadata\":{\"name\":\"c\",\"namespace\":\"x\"},\"spec\":{"
                "\"volumeMode\":\"Block\",\"accessModes\":[\"ReadWriteOnce\"],\"storageClassName\":\"fast\",\"resources\":{\"requests\":{"
                "\"storage\":\"1Gi\"}}}}");
    add_vm(w, "Always", "64Mi", VOLUME);
    settle(w);
    assert_int_equal(fake_count(w->client, "pods"), 0);
    c = condition_find(get(w, "virtualmachineinstances"), "Synchronized");
    assert_true(str_is(json_str_at(c, "reason"), "BlockVolumeUnsupported"));
    assert_non_null(strstr(arena_strdup(&w->a, json_str_at(c, "message")), "volumeMode Filesystem"));
    fake_delete(w->client, "persistentvolumeclaims", "x/c");
    settle(w);
    fake_create(w->client, "persistentvolumeclaims", CLAIM("fast"));
    settle(w);
    assert_int_equal(fake_count(w->client, "pods"), 1);
}

/* spec.volumeName is the tenant's to write: it neither gives nor takes what is another's. */
static void a_claim_that_names_anothers_volume_gets_and_ends_nothing(void **state)
{
    struct world *w = *state;

    start(w);
    fake_create(w->client, "persistentvolumes",
                "{\"apiVersion\":\"v1\",\"kind\":\"PersistentVolume\",\"metadata\":{\"name\":\"pvc-victim\"},"
                "\"spec\":{\"persistentVolumeReclaimPolicy\":\"Delete\",\"claimRef\":{\"namespace\":\"v\","
                "\"name\":\"c\",\"uid\":\"victim\"}}}");
    fake_create(w->client, "persistentvolumeclaims",
                "{\"apiVersion\":\"v1\",\"kind\":\"PersistentVolumeClaim\",\"metadata\":{\"name\":\"c\","
                "\"namespace\":\"x\",\"finalizers\":[\"kubernetes.io/pvc-protection\"]},\"spec\":{"
                "\"volumeName\":\"pvc-victim\",\"accessModes\":[\"ReadWriteOnce\"],\"storageClassName\":"
                "\"vireo-local\",\"resources\":{\"requests\":{\"storage\":\"1Gi\"}}}}");
    add_vm(w, "Always", "64Mi", VOLUME);
    settle(w);
    assert_false(str_is(
        json_str_at(fake_get(w->client, "persistentvolumeclaims", "x/c", &w->a), "status/phase"),
        "Bound"));
    assert_true(fake_count(w->client, "events") > 0);
    fake_delete(w->client, "virtualmachines", "x/vm");
    fake_delete(w->client, "persistentvolumeclaims", "x/c");
    settle(w);
    assert_int_equal(fake_count(w->client, "persistentvolumes"), 1);
}

static void a_claim_of_another_class_is_told_about(void **state)
{
    struct world *w = *state;

    start(w);
    fake_create(w->client, "persistentvolumeclaims", CLAIM("fast"));
    add_vm(w, "Always", "64Mi", VOLUME);
    settle(w);
    assert_string_equal(VM("status/printableStatus"), "ErrorUnschedulable");
    assert_true(fake_count(w->client, "events") >= 3);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(a_claim_is_waited_for_and_bound),
        T(a_volume_that_cannot_be_mounted_is_told_on_the_instance),
        T(a_claim_of_a_block_volume_is_told_until_there_is_another),
        T(a_claim_that_names_anothers_volume_gets_and_ends_nothing),
        T(a_claim_of_another_class_is_told_about),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
