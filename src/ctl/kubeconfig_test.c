#include "base/base_test.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fcntl.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "ctl/kubeconfig.h"

static char dir[] = "/tmp/kubeconfig-test-XXXXXX";

static char *in_dir(const char *name)
{
    return xasprintf("%s/%s", dir, name);
}

static void put(const char *name, const char *text)
{
    AUTO_FREE char *path = in_dir(name);
    AUTO(error_clear) struct error err = {0};

    if (!file_write(AT_FDCWD, path, str_of(text), 0600, &err))
        fail_msg("%s", error_text(&err));
}

/* "LS0t" … are base64. */
static const char full[] = "apiVersion: v1\nkind: Config\ncurrent-context: dev\n"
                           "clusters:\n- name: c1\n  cluster:\n    server: https://10.0.0.1:6443\n"
                           "    certificate-authority-data: Q0FQRU0=\n"
                           "- name: c2\n  cluster: {server: 'https://[::1]/k8s/x/', insecure-skip-tls-verify: true, tls-server-name: api}\n"
                           "contexts:\n- name: dev\n  context: {cluster: c1, user: u1, namespace: team}\n"
                           "- name: two\n  context: {cluster: c2, user: u2}\n"
                           "- name: cloud\n  context: {cluster: c1, user: u3}\n"
                           "- name: broken\n  context: {cluster: nowhere, user: u1}\n"
                           "users:\n- name: u1\n  user:\n    client-certificate-data: Q0VSVA==\n    client-key-data: |\n      S0\n      VZ\n"
                           "- name: u2\n  user: {tokenFile: token, token: stale}\n"
                           "- name: u3\n  user: {exec: {command: aws}}\n";

static void test_one_file(void **state)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(kubeconfig_done) struct kubeconfig k = {0};
    AUTO_FREE char *path = in_dir("full");

    (void)state;
    put("full", full);
    assert_true(kubeconfig_load(&(struct kubeconfig_flags){.kubeconfig = path}, &k, &err));
    assert_string_equal(k.host, "10.0.0.1");
    assert_int_equal(k.port, 6443);
    assert_true(k.tls);
    assert_string_equal(k.prefix, "");
    assert_string_equal(k.ns, "team");
    assert_string_equal(k.ca_pem, "CAPEM");
    assert_string_equal(k.cert_pem, "CERT");
    assert_string_equal(k.key_pem, "KEY");
    assert_null(k.token);
    assert_false(k.insecure);
}

static void test_context_flag_and_token_file(void **state)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(kubeconfig_done) struct kubeconfig k = {0};
    AUTO_FREE char *path = in_dir("full");

    (void)state;
    put("token", " secret\n");
    assert_true(kubeconfig_load(&(struct kubeconfig_flags){.env = path, .context = "two"}, &k, &err));
    assert_string_equal(k.host, "::1");
    assert_int_equal(k.port, 443);
    assert_string_equal(k.prefix, "/k8s/x");
    assert_string_equal(k.ns, "default");
    assert_string_equal(k.token, "secret"); /* relative to the kubeconfig's directory */
    assert_string_equal(k.tls_server_name, "api");
    assert_true(k.insecure);
}

static void test_list_merges_first_wins(void **state)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(kubeconfig_done) struct kubeconfig k = {0};
    AUTO_FREE char *env = xasprintf("%s/absent::%s/first:%s/full", dir, dir, dir);

    (void)state;
    put("first", "contexts:\n- name: dev\n  context: {cluster: c1, user: mine, namespace: first}\n"
                 "users:\n- name: mine\n  user: {token: abc}\n");
    assert_true(kubeconfig_load(&(struct kubeconfig_flags){.env = env, .home = "/nonexistent"}, &k, &err));
    assert_string_equal(k.ns, "first");      /* the first file's context */
    assert_string_equal(k.host, "10.0.0.1"); /* current-context and cluster from the second */
    assert_string_equal(k.token, "abc");
    assert_null(k.cert_pem);
}

static void test_home(void **state)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(kubeconfig_done) struct kubeconfig k = {0};
    AUTO_FREE char *kube = in_dir(".kube");

    (void)state;
    mkdir(kube, 0700);
    put(".kube/config", full);
    assert_true(kubeconfig_load(&(struct kubeconfig_flags){.home = dir, .ns = "n", .server = "http://h:81", .token = "t"}, &k, &err));
    assert_false(k.tls);
    assert_string_equal(k.host, "h");
    assert_int_equal(k.port, 81);
    assert_string_equal(k.ns, "n");
    assert_string_equal(k.token, "t");
}

static void test_refusals(void **state)
{
    AUTO_FREE char *path = in_dir("full");
    AUTO_FREE char *bad = in_dir("bad");
    static const char *const bad_base64 = "current-context: x\ncontexts: [{name: x, context: {cluster: c, user: u}}]\n"
                                          "clusters: [{name: c, cluster: {server: 'https://h', certificate-authority-data: '*'}}]\n"
                                          "users: [{name: u, user: {}}]\n";
    const struct {
        struct kubeconfig_flags f;
        const char *text; /* of "bad" */
        const char *want;
    } rows[] = {
        {{.kubeconfig = path, .context = "none"}, "", "context 'none' is not in the kubeconfig"},
        {{.kubeconfig = path, .context = "broken"}, "", "cluster 'nowhere' is not in the kubeconfig"},
        {{.kubeconfig = path, .user = "who"}, "", "user 'who' is not in the kubeconfig"},
        {{.kubeconfig = path, .context = "cloud"}, "", "logs in by 'exec'"},
        {{.kubeconfig = "/nonexistent/file"}, "", "kubeconfig /nonexistent/file"},
        {{.env = "/nonexistent/a:/nonexistent/b"}, "", "no such file"},
        {{.home = "/nonexistent"}, "", "no API server is known"},
        {{.kubeconfig = bad}, "- a\n- b\n", "not a mapping"},
        {{.kubeconfig = bad}, "a: [", "bad"},
        {{.kubeconfig = bad}, bad_base64, "certificate-authority-data"},
        {{.server = "10.0.0.1:6443"}, "", "https://HOST:PORT is wanted"},
        {{.server = "https://h:0"}, "", "bad port"},
        {{.server = "https://h:99999"}, "", "bad port"},
        {{.server = "https://"}, "", "https://HOST:PORT is wanted"},
        {{.server = "https://u@h"}, "", "https://HOST:PORT is wanted"},
        {{.server = "https://h/a b"}, "", "white space"},
        {{.server = "https://h", .token = "a\r\nb"}, "", "white space or control"},
        {{.server = "https://h", .client_certificate = path}, "", "the key is missing"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO(error_clear) struct error err = {0};
        AUTO(kubeconfig_done) struct kubeconfig k = {0};
        size_t at;

        put("bad", rows[i].text);
        if (kubeconfig_load(&rows[i].f, &k, &err))
            fail_msg("row %zu was accepted", i);
        if (!str_find(str_of(error_text(&err)), str_of(rows[i].want), &at))
            fail_msg("row %zu: '%s' lacks '%s'", i, error_text(&err), rows[i].want);
    }
}

static int setup(void **state)
{
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    AUTO(error_clear) struct error err = {0};

    (void)state;
    return file_remove_tree(AT_FDCWD, dir, &err) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_file),
        cmocka_unit_test(test_context_flag_and_token_file),
        cmocka_unit_test(test_list_merges_first_wins),
        cmocka_unit_test(test_home),
        cmocka_unit_test(test_refusals),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
