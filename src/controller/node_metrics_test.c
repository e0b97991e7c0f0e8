#include "json/json_test.h"

#include "controller/node_metrics.h"

static void reports_become_metrics(void **state)
{
    static const char nodes[] =
        "[{'metadata':{'name':'n\\'1'}},"
        "{'metadata':{'name':'x','annotations':{'vireo.io/hypervisor-report':'not JSON'}}},"
        "{'metadata':{'name':'y','annotations':{'vireo.io/hypervisor-report':'{\\'accelerators\\':[{\\'name\\':\\'kvm\\',\\'verdict\\':\\'broken\\'},"
        "{\\'name\\':\\'tcg\\',\\'verdict\\':\\'works\\'}],\\'vmms\\':[{\\'name\\':\\'qemu\\',\\'usable\\':true,\\'state\\':\\'usable\\',"
        "\\'version\\':\\'7.2.22\\'},{\\'name\\':\\'firecracker\\',\\'state\\':\\'no \\\\\\'accelerator\\'}]}'}}}]";
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf b = {0};

    (void)state;
    node_metrics_write(parse_quoted(&a, nodes), &b);
    assert_string_equal(b.p,
                        "# HELP vireo_node_accelerator Whether an accelerator of a node works, with the verdict of its probe.\n"
                        "# TYPE vireo_node_accelerator gauge\n"
                        "vireo_node_accelerator{node=\"y\",accelerator=\"kvm\",verdict=\"broken\"} 0\n"
                        "vireo_node_accelerator{node=\"y\",accelerator=\"tcg\",verdict=\"works\"} 1\n"
                        "# HELP vireo_node_vmm_info Hypervisors of a node: version, state, and whether machines can use them.\n"
                        "# TYPE vireo_node_vmm_info gauge\n"
                        "vireo_node_vmm_info{node=\"y\",vmm=\"qemu\",version=\"7.2.22\",state=\"usable\",usable=\"true\"} 1\n"
                        "vireo_node_vmm_info{node=\"y\",vmm=\"firecracker\",version=\"\",state=\"no \\\"accelerator\",usable=\"false\"} 1\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(reports_become_metrics)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
