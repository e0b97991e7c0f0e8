#include "base/base_test.h"

#include <sys/socket.h>

#include "base/cleanup.h"
#include "network/binding.h"
#include "network/ruleset.h"

static struct ip ip(const char *text)
{
    AUTO(error_clear) struct error err = {0};
    struct ip ret;

    if (!ip_parse(str_of(text), &ret, &err))
        fail_msg("%s", error_text(&err));
    return ret;
}

static void addresses(void **state)
{
    static const char *const bad[] = {"", "/", "1", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.4/", "1.2.3.4/33", "1.2.3.4/-1", "::/129",
                                      "1.2.3.4 ", "g::1", "1.2.3.4/8/8"};
    static const struct {
        const char *text, *network;
        unsigned plus;
        const char *sum;
    } good[] = {
        {"10.88.3.7/16", "10.88.0.0/16", 1, "10.88.0.1"},    {"10.0.0.255/32", "10.0.0.255/32", 1, "10.0.1.0"},
        {"1.2.3.4/0", "0.0.0.0/0", 5, "0.0.0.5"},            {"10.0.2.77/25", "10.0.2.0/25", 300, "10.0.3.44"},
        {"fd10:0:2::17/120", "fd10:0:2::/120", 2, "fd10:0:2::2"}, {"1::ffff/128", "1::ffff/128", 1, "1::1:0"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
        AUTO(error_clear) struct error err = {0};
        struct ip ret;

        assert_false(ip_parse(str_of(bad[i]), &ret, &err));
        assert_non_null(err.msg);
    }
    for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
        struct ip a = ip(good[i].text), net = ip_network(&a), sum = ip_plus(&net, good[i].plus);
        char text[IP_TEXT + 4];

        ip_prefix_text(&net, text);
        assert_string_equal(text, good[i].network);
        ip_text(&sum, text);
        assert_string_equal(text, good[i].sum);
    }
}

static void overlaps(void **state)
{
    static const struct {
        const char *a, *b;
        bool yes;
    } cases[] = {
        {"10.88.0.0/16", "10.0.0.0/8", true},     {"10.88.0.0/16", "10.88.3.0/24", true}, {"10.88.0.0/16", "10.89.0.0/16", false},
        {"10.88.0.0/16", "0.0.0.0/0", true},      {"10.88.0.0/16", "fd00::/8", false},    {"10.88.0.0/13", "10.95.255.255/32", true},
        {"10.88.0.0/13", "10.96.0.0/32", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct ip a = ip(cases[i].a), b = ip(cases[i].b);

        assert_int_equal(ip_overlap(&a, &b), cases[i].yes);
        assert_int_equal(ip_overlap(&b, &a), cases[i].yes);
    }
}

static void macs(void **state)
{
    static const char *const bad[] = {"", "02:00:00:00:00", "02:00:00:00:00:0g", "02.00.00.00.00.01", "02:00:00:00:00:011"};
    uint8_t mac[6];
    char text[MAC_TEXT];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(mac_parse(str_of(bad[i]), mac));
    assert_true(mac_parse(STR("DE-ad-00-00-be-EF"), mac));
    mac_text(mac, text);
    assert_string_equal(text, "de:ad:00:00:be:ef");
}

static void notes(void **state)
{
    struct binding b = {.mac = {2, 0, 0, 0, 0, 1}, .n_ips = 2, .ips = {ip("10.1.2.3/24"), ip("fd00::3/64")}, .n_routes = 2,
                        .routes = {{ip("169.254.1.1/32"), {0}}, {ip("0.0.0.0/0"), ip("169.254.1.1")}}};
    struct binding back;
    char text[256], again[256];

    (void)state;
    assert_true(binding_notes_write(&b, text));
    assert_string_equal(text, "vireo1 02:00:00:00:00:01 10.1.2.3/24,fd00::3/64 169.254.1.1/32=,0.0.0.0/0=169.254.1.1");
    for (size_t n = 0; n < strlen(text); n++) { /* cut anywhere: refused, or read to another text; never worse */
        if (binding_notes_read(str_n(text, n), &back))
            assert_true(binding_notes_write(&back, again));
    }
    assert_true(binding_notes_read(str_of(text), &back));
    assert_true(binding_notes_write(&back, again));
    assert_string_equal(again, text);
    b.n_ips = b.n_routes = 0;
    assert_true(binding_notes_write(&b, text) && binding_notes_read(str_of(text), &back));
    assert_int_equal(back.n_ips + back.n_routes, 0);
    b.n_ips = 8;
    for (size_t i = 0; i < 8; i++)
        b.ips[i] = ip("fd00:1111:2222:3333:4444:5555:6666:7777/64");
    assert_false(binding_notes_write(&b, text));
}

static void masquerade_of_ipv6(void **state)
{
    const struct ruleset_port port = {.port = 22};
    struct ruleset_nat n = {.nic = "eth0", .bridge = "k6t-eth0", .guest = ip("fd10:0:2::2"), .gateway = ip("fd10:0:2::1")};
    AUTO(buf_done) struct buf all = {0};
    AUTO(buf_done) struct buf one = {0};

    (void)state;
    ruleset_masquerade(&all, &n);
    assert_non_null(strstr(all.p, "add rule ip6 nat KUBEVIRT_PREINBOUND counter dnat to fd10:0:2::2\n"));
    assert_non_null(strstr(all.p, "add rule ip6 nat output ip6 daddr { ::1 } counter dnat to fd10:0:2::2\n"));
    assert_non_null(strstr(all.p, "add rule ip6 nat KUBEVIRT_POSTINBOUND ip6 saddr { ::1 } counter snat to fd10:0:2::1\n"));
    assert_non_null(strstr(all.p, "add rule ip6 nat postrouting ip6 saddr fd10:0:2::2 counter masquerade\n"));
    n.ports = &port;
    n.n_ports = 1;
    ruleset_masquerade(&one, &n);
    assert_non_null(strstr(one.p, "add rule ip6 nat KUBEVIRT_PREINBOUND tcp dport { 22 } counter dnat to fd10:0:2::2\n"));
    assert_null(strstr(one.p, "KUBEVIRT_PREINBOUND counter"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses), cmocka_unit_test(overlaps), cmocka_unit_test(macs), cmocka_unit_test(notes),
        cmocka_unit_test(masquerade_of_ipv6),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
