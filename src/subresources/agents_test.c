#include "subresources/agents.h"
#include "base/base_test.h"

#include "base/cleanup.h"
#include "client/fake_client.h"
#include "http/tls.h"

#define POD(name, node, ip, ready)                                                                                                \
    "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{\"name\":\"" name "\",\"namespace\":\"kubevirt\",\"labels\":"            \
    "{\"kubevirt.io\":\"virt-handler\"}},\"spec\":{\"nodeName\":\"" node "\"},\"status\":{\"phase\":\"Running\",\"podIP\":\"" ip   \
    "\",\"conditions\":[{\"type\":\"Ready\",\"status\":\"" ready "\"}]}}"

/* A pod that is made begins without a status. */
static void make(struct client *c, const char *name, const char *pod)
{
    AUTO(buf_done) struct buf key = {0};

    buf_addf(&key, "kubevirt/%s", name);
    fake_create(c, "pods", pod);
    fake_merge(c, "pods", key.p, pod);
}

static void turns(struct loop *l)
{
    for (int i = 0; i < 50; i++)
        loop_turn(l, 0);
}

#define UID "00000000-0000-4000-8000-00000000000"

static void a_nodes_agent_is_its_ready_pod(void **state)
{
    AUTO(error_clear) struct error err = {0};
    struct loop *l = loop_new_fake();
    struct client *c = fake_client_new(l);
    struct http_tls *tls = http_tls_new(&(struct http_tls_config){.insecure = true}, &err);
    struct agents *a;
    struct http_client *first, *second;

    (void)state;
    make(c, "old", POD("old", "n1", "10.0.0.1", "False"));
    make(c, "other", POD("other", "n2", "10.0.0.2", "True"));
    a = agents_new(&(struct agents_config){.client = c, .ns = "kubevirt"});
    turns(l);
    assert_true(agents_synced(a));
    assert_null(agents_of(a, STR("n1"))); /* without a certificate to show nobody is asked */
    agents_tls(a, tls);
    first = agents_of(a, STR("n1"));
    assert_non_null(first);
    assert_ptr_equal(agents_of(a, STR("n1")), first); /* and keeps its connections */
    assert_ptr_not_equal(agents_of(a, STR("n2")), first);
    assert_null(agents_of(a, STR("n3")));
    assert_true(str_is(agents_node(a, STR("old"), STR(UID "1")), "n1"));
    assert_true(!agents_node(a, STR("old"), STR(UID "2")).n && !agents_node(a, STR("gone"), STR(UID "1")).n && !agents_node(a, STR_NONE, STR_NONE).n);
    assert_null(agents_of(a, STR_NONE));

    make(c, "new", POD("new", "n1", "10.0.0.3", "True"));
    turns(l);
    second = agents_of(a, STR("n1"));
    assert_ptr_not_equal(second, first);
    fake_remove(c, "pods", "kubevirt/new");
    turns(l);
    assert_ptr_equal(agents_of(a, STR("n1")), first);
    /* It writes before the kubelet has told that it runs. */
    fake_merge(c, "pods", "kubevirt/old", "{\"status\":{\"phase\":\"Pending\",\"podIP\":null}}");
    turns(l);
    assert_null(agents_of(a, STR("n1")));
    assert_true(str_is(agents_node(a, STR("old"), STR(UID "1")), "n1"));
    fake_merge(c, "pods", "kubevirt/old", "{\"status\":{\"phase\":\"Failed\"}}");
    turns(l);
    assert_null(agents_of(a, STR("n1")));

    agents_free(a);
    http_tls_free(tls);
    client_free(c);
    loop_free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_nodes_agent_is_its_ready_pod)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
