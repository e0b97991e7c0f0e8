#include "base/base_test.h"
#include "controller/image_volumes.h"

#include "base/cleanup.h"

static const struct json *parse(struct arena *a, const char *text)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *v = NULL;

    if (!json_parse(str_of(text), a, &v, &err))
        fail_msg("%s: %s", text, error_text(&err));
    return v;
}

static void a_nodes_versions_say_whether_it_has_them(void **state)
{
    static const struct {
        const char *kubelet, *runtime;
        bool has;
    } rows[] = {
        {"v1.20.5-Debian", "containerd://1.6.20~ds1", false},
        {"v1.34.9", "containerd://2.2.0", false}, /* a gate that is off there */
        {"v1.35.0", "containerd://2.1.0", true},
        {"v1.35.0", "containerd://1.7.29",
         false}, /* Kubernetes still takes it, and it mounts no images */
        {"v1.35.0", "containerd://2.0.5", false},
        {"v1.35.3+k3s1", "containerd://2.1.5-k3s1", true},
        {"v1.36.2", "containerd://v2.2.1", true},
        {"v1.36.2-eks-99", "cri-o://1.36.0", true},
        {"v1.35.0", "cri-o://1.30.4", false},
        {"v1.36.2", "docker://29.0.0", false},
        {"v2.0.0", "containerd://3.0.0", true},
        {"1.35", "containerd://2.1", true},
        {"", "containerd://2.1.0", false},
        {"v1.35.0", "", false},
        {"latest", "containerd://2.1.0", false},
        {"v1.35.0", "containerd://", false},
        {"v99999999999999999999.1", "containerd://2.1.0", true},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO(arena_done) struct arena a = {0};
        const char *node = arena_printf(&a,
                                        "{\"status\":{\"nodeInfo\":{\"kubeletVersion\":\"%s\","
                                        "\"containerRuntimeVersion\":\"%s\"}}}",
                                        rows[i].kubelet, rows[i].runtime);

        if (image_volumes_of_node(parse(&a, node)) != rows[i].has)
            fail_msg("kubelet %s, %s", rows[i].kubelet, rows[i].runtime);
    }
    assert_false(image_volumes_of_node(NULL));
}

static void an_answer_that_lost_the_image_is_a_no(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *asked = image_volumes_question(STR("ns"), &a);

    (void)state;
    assert_true(image_volumes_answer(asked)); /* it comes back as it went */
    assert_false(image_volumes_answer(NULL));
    assert_false(image_volumes_answer(
        parse(&a, "{\"spec\":{\"volumes\":[{\"name\":\"image\",\"emptyDir\":{}}]}}"))); /* 1.20 */
    assert_false(image_volumes_answer(parse(
        &a, "{\"spec\":{\"volumes\":[{\"name\":\"other\",\"image\":{\"reference\":\"r\"}}]}}")));
    assert_false(image_volumes_answer(
        parse(&a, "{\"spec\":{\"volumes\":[{\"name\":\"image\",\"image\":{}}]}}")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_nodes_versions_say_whether_it_has_them),
        cmocka_unit_test(an_answer_that_lost_the_image_is_a_no),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
