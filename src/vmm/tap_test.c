#include <stddef.h>
#include <stdarg.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "vmm/tap.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"

/* A frame from "the guest" into a real tap, and what is counted then. */
static void a_tap_is_counted_from_the_guests_side(void **state)
{
    struct ifreq ifr = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    AUTO_CLOSE int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    AUTO_CLOSE int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    unsigned char frame[60] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6};
    struct vmm_stats *stats = NEW(struct vmm_stats);
    struct vmm_taps taps = {0};

    (void)state;
    if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) != 0) {
        free(stats);
        puts("skipped: no tap can be made here");
        skip();
    }
    ifr.ifr_flags = IFF_UP;
    assert_int_equal(ioctl(s, SIOCSIFFLAGS, &ifr), 0);
    vmm_taps_add(&taps, STR("default"), fd);
    vmm_taps_add(&taps, STR("no-tap"), s);
    assert_int_equal(taps.n, 1);
    assert_int_equal(write(fd, frame, sizeof frame), sizeof frame);
    vmm_taps_read(&taps, stats);
    assert_int_equal(stats->n_net, 1);
    assert_string_equal(stats->net[0].name, "default");
    assert_int_equal(stats->net[0].write_bytes, sizeof frame);
    assert_int_equal(stats->net[0].write_ops, 1);
    vmm_taps_remove(&taps, STR("default"));
    vmm_taps_read(&taps, stats);
    assert_int_equal(stats->n_net, 0);
    free(stats);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_tap_is_counted_from_the_guests_side)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
