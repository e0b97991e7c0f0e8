#include "base/base_test.h"
#include "base/thrift.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"

/* Whatever is given back is there when it is needed: programs, constants, and what a private mapping of a file was changed to. */
static void what_is_given_back_comes_again(void **state)
{
    char path[] = "/tmp/thrift-XXXXXX", page[4096];
    int fd = mkstemp(path);
    char *same, *changed;

    (void)state;
    assert_true(fd >= 0);
    memset(page, 'a', sizeof page);
    assert_int_equal(write(fd, page, sizeof page), sizeof page);
    same = mmap(NULL, sizeof page, PROT_READ, MAP_PRIVATE, fd, 0);
    changed = mmap(NULL, sizeof page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    assert_true(same != MAP_FAILED && changed != MAP_FAILED);
    changed[1] = 'b';
    assert_int_equal(same[1], 'a');
    assert_int_equal(mprotect(changed, sizeof page, PROT_READ), 0); /* as a linker does with what it has relocated */
    for (int i = 0; i < 3; i++) {
        assert_true(thrift_give_back(0) > 0);
        assert_int_equal(same[1], 'a');
        assert_int_equal(changed[1], 'b');
        assert_int_equal(changed[2], 'a');
    }
    munmap(same, sizeof page);
    munmap(changed, sizeof page);
    close(fd);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_given_back_comes_again)};

    thrift_begin();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
