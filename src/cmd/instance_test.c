#include "base/base_test.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "cmd/instance.h"
#include "http/tls.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#define DAY 86400

static int64_t end_of(const char *pem)
{
    AUTO(error_clear) struct error err = {0};
    int64_t ret = 0;

    assert_true(cert_expiry(pem, &ret, &err));
    return ret;
}

static void certificates_are_renewed_a_month_before_their_end(void **state)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(instance_done) struct instance i = {.dirfd = -1, .lock_fd = -1};
    char dir[] = "/tmp/vireo-instance-XXXXXX", listen[] = "127.0.0.1:6443", cidr[] = "10.88.0.0/16", node[] = "n1",
         cni[] = "/usr/lib/cni";
    struct instance_options o = {.dir = dir, .listen = listen, .pod_cidr = cidr, .node_name = node, .cni_dir = cni};
    int64_t now = time(NULL);
    bool server = true;

    (void)state;
    if (geteuid() != 0)
        skip(); /* the data directory's tree belongs to several users */
    assert_non_null(mkdtemp(dir));
    if (!instance_open(&o, &i, &err))
        fail_msg("%s", error_text(&err));
    AUTO_FREE char *cert = xstrdup(i.server_cert), *ca = xstrdup(i.ca_cert), *sa = xstrdup(i.sa_key);
    int64_t end = end_of(cert);

    assert_true(instance_renew(&i, now + 300 * DAY, &server, &err));
    assert_false(server);
    assert_string_equal(i.server_cert, cert);
    assert_true(instance_renew(&i, end - 29 * DAY, &server, &err));
    assert_true(server);
    assert_string_not_equal(i.server_cert, cert);
    assert_true(end_of(i.server_cert) > end + 300 * DAY);
    assert_string_equal(i.ca_cert, ca); /* clients go on trusting it, and tokens stay valid */
    assert_string_equal(i.sa_key, sa);
    assert_true(instance_renew(&i, end - 29 * DAY, &server, &err));
    assert_false(server);
    assert_true(file_remove_tree(AT_FDCWD, dir, &err));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(certificates_are_renewed_a_month_before_their_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
