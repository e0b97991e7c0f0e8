#include "base/base_test.h"
#include "handler/alive.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/str.h"

#define POD "11111111-2222-3333-4444-555555555555"

/* A /proc of one other process, and one that is to be found or not. */
static pid_t look(const char *stat, const char *cgroup, const char *pod_uid, bool *in_pod)
{
    char dir[] = "/tmp/vireo-alive-XXXXXX", path[64];
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int proc = -1;
    static const char *const names[] = {"7/stat", "7/cgroup", "23/stat", "23/cgroup", "self"};
    pid_t found;

    assert_non_null(mkdtemp(dir));
    assert_true(file_open_dir(AT_FDCWD, dir, &proc, &err));
    assert_int_equal(mkdirat(proc, "7", 0755), 0);
    assert_int_equal(mkdirat(proc, "23", 0755), 0);
    assert_true(file_write(proc, "7/stat", STR("7 (pause) S 1 7 7"), 0644, &err));
    assert_true(file_write(proc, "7/cgroup", STR("0::/kubepods/pod" POD "/a\n"), 0644, &err));
    assert_true(file_write(proc, "23/stat", str_of(stat), 0644, &err));
    assert_true(file_write(proc, "23/cgroup", str_of(cgroup), 0644, &err));
    assert_true(file_write(proc, "self", STR(""), 0644, &err));
    found = alive_launcher(proc, pod_uid);
    *in_pod = alive_in_pod(proc, 23, pod_uid, &err);
    if (!*in_pod)
        assert_int_equal(err.kind, ERROR_FORBIDDEN);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++)
        assert_int_equal(unlinkat(proc, names[i], 0), 0);
    for (int i = 7; i <= 23; i += 16) {
        snprintf(path, sizeof path, "%s/%d", dir, i);
        assert_int_equal(rmdir(path), 0);
    }
    assert_int_equal(rmdir(dir), 0);
    return found;
}

static void a_launcher_is_found_by_its_name_and_cgroup(void **state)
{
    static const struct {
        const char *stat, *cgroup;
        pid_t found;
        bool in_pod;
    } cases[] = {
        {"23 (vireo-launcher) S 1 23 23", "0::/kubepods/besteffort/pod" POD "/b\n", 23, true},
        {"23 (vireo-launcher) T 1 23 23", "4:memory:/vc/kubepods/pod" POD "/b\n", 23, true}, /* stopped is not dead */
        {"23 (vireo-launcher) S 1 23 23", "0::/kubepods.slice/kubepods-pod11111111_2222_3333_4444_555555555555.slice/cri-b.scope\n", 23, true},
        {"23 (vireo-launcher) Z 1 23 23", "0::/kubepods/pod" POD "/b\n", 0, true},
        {"23 (container-disk) S 1 23 23", "0::/kubepods/pod" POD "/b\n", 0, true},
        {"23 (vireo-launcher) S 1 23 23", "0::/kubepods/pod99999999-2222-3333-4444-555555555555/b\n", 0, false},
        {"23 (vireo-launcher)", "0::/kubepods/pod" POD "/b\n", 0, true},
        {"", "", 0, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        bool in_pod;
        pid_t found = look(cases[i].stat, cases[i].cgroup, POD, &in_pod);

        if (found != cases[i].found || in_pod != cases[i].in_pod)
            fail_msg("case %zu: %d, %d", i, (int)found, in_pod);
    }
    bool in_pod;
    assert_int_equal(look("23 (vireo-launcher) S 1 23 23", "0::/kubepods/pod" POD "/b\n", "kubepods", &in_pod), 0); /* no UID */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_launcher_is_found_by_its_name_and_cgroup)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
