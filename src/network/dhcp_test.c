#include "base/base_test.h"

#include "base/cleanup.h"
#include "network/dhcp.h"

static const char *const basic = "{\"address\":\"10.0.2.2/24\",\"gateway\":\"10.0.2.1\",\"server\":\"10.0.2.1\",\"dns\":[\"10.96.0.10\","
                                 "\"fd00::1\",\"1.1.1.1\"],\"search\":[\"ns.svc.a\",\"b.\"],\"domain\":\"ns.svc.a\",\"hostname\":\"vm\","
                                 "\"mtu\":1450}";
static const char mac[] = "\x02\x00\x00\x00\x00\x07";

static void config(const char *text, struct arena *a, struct dhcp_config *ret)
{
    AUTO(error_clear) struct error err = {0};
    const struct json *v;

    if (!json_parse(str_of(text), a, &v, &err) || !dhcp_config_parse(v, a, ret, &err))
        fail_msg("%s", error_text(&err));
}

/* A request with the options given (and no end mark of its own). */
static void request(struct buf *b, const char *options, size_t n)
{
    uint8_t head[240] = {1, 1, 6};

    buf_clear(b);
    memcpy(head + 4, "XID!", 4);
    head[10] = 0x80;
    memcpy(head + 12, "\x0a\x00\x02\x63", 4); /* ciaddr */
    memcpy(head + 24, "\x0a\x00\x00\x09", 4); /* giaddr */
    memcpy(head + 28, mac, 6);
    memcpy(head + 236, "\x63\x82\x53\x63", 4);
    buf_add(b, head, sizeof head);
    buf_add(b, options, n);
}

static bool has(const struct buf *b, const char *part, size_t n)
{
    return memmem(b->p, b->n, part, n) != NULL;
}
#define HAS(b, lit) assert_true(has((b), lit, sizeof(lit) - 1))
#define REQUEST(b, lit) request((b), lit, sizeof(lit) - 1)
#define VIEW(b) str_n((b).p, (b).n)

static void offers_and_acknowledges(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf in = {0};
    AUTO(buf_done) struct buf out = {0};
    struct dhcp_config c;

    (void)state;
    config(basic, &a, &c);
    REQUEST(&in, "\x35\x01\x01\xff");
    assert_true(dhcp_reply(&c, VIEW(in), &out));
    assert_true(out.n >= 300);
    assert_memory_equal(out.p, "\x02\x01\x06\x00XID!\x00\x00\x80\x00", 12);
    assert_memory_equal(out.p + 12, "\0\0\0\0\x0a\x00\x02\x02\x0a\x00\x02\x01\x0a\x00\x00\x09", 16);
    assert_memory_equal(out.p + 28, mac, 6);
    assert_memory_equal(out.p + 236, "\x63\x82\x53\x63\x35\x01\x02", 7);
    HAS(&out, "\x36\x04\x0a\x00\x02\x01");
    HAS(&out, "\x33\x04\x05\x25\x0a\x80"); /* 999 days */
    HAS(&out, "\x01\x04\xff\xff\xff\x00");
    HAS(&out, "\x03\x04\x0a\x00\x02\x01");
    HAS(&out, "\x06\x08\x0a\x60\x00\x0a\x01\x01\x01\x01"); /* IPv4 only */
    HAS(&out, "\x0c\x02vm\x0f\x08ns.svc.a\x1a\x02\x05\xaa");
    HAS(&out, "\x77\x0d\x02ns\x03svc\x01""a\x00\x01""b\x00\xff");

    buf_clear(&out);
    REQUEST(&in, "\x00\x0c\x01x\x35\x01\x03\x36\x04\x0a\x00\x02\x01\xff");
    assert_true(dhcp_reply(&c, VIEW(in), &out));
    assert_memory_equal(out.p + 12, "\x0a\x00\x02\x63", 4);
    HAS(&out, "\x35\x01\x05");
}

static void routes_and_custom_options(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf in = {0};
    AUTO(buf_done) struct buf out = {0};
    struct dhcp_config c;

    (void)state;
    config("{\"address\":\"10.88.0.2/32\",\"server\":\"169.254.75.10\",\"mac\":\"02:00:00:00:00:07\",\"routes\":["
           "{\"to\":\"169.254.1.1/32\",\"via\":\"0.0.0.0\"},{\"to\":\"10.9.7.3/20\",\"via\":\"10.88.0.9\"},{\"to\":\"0.0.0.0/0\",\"via\":"
           "\"169.254.1.1\"}],\"options\":[{\"code\":42,\"text\":\"1.2.3.4,5.6.7.8\"},{\"code\":66,\"text\":\"tftp\"},{\"code\":67,"
           "\"text\":\"boot\"},{\"code\":240,\"text\":\"x\"}]}",
           &a, &c);
    REQUEST(&in, "\x35\x01\x03"); /* no end mark: accepted */
    assert_true(dhcp_reply(&c, VIEW(in), &out));
    HAS(&out, "\x01\x04\xff\xff\xff\xff");
    HAS(&out, "\x79\x16\x20\xa9\xfe\x01\x01\x00\x00\x00\x00\x14\x0a\x09\x00\x0a\x58\x00\x09\x00\xa9\xfe\x01\x01");
    HAS(&out, "\x2a\x08\x01\x02\x03\x04\x05\x06\x07\x08\x42\x04tftp\x43\x04""boot\xf0\x01x\xff");
    in.p[33] = 8; /* another machine's */
    buf_clear(&out);
    assert_false(dhcp_reply(&c, VIEW(in), &out));
    assert_int_equal(out.n, 0);
}

static void strangers_get_no_answer(void **state)
{
    static const struct str cases[] = {
        STR_INIT(""),                                /* BOOTP without a type */
        STR_INIT("\xff\x35\x01\x01"),                /* behind the end */
        STR_INIT("\x35\x01\x02\xff"),                /* an offer */
        STR_INIT("\x35\x01\x04\xff"),                /* decline */
        STR_INIT("\x35\x01\x07\xff"),                /* release */
        STR_INIT("\x35\x02\x01\x01\xff"),            /* two bytes of type */
        STR_INIT("\x35"),                            /* cut */
        STR_INIT("\x35\x01"),                        /* cut */
        STR_INIT("\x35\x01\x01\x0c\xff" "a"),        /* a length beyond the end */
        STR_INIT("\x35\x01\x03\x36\x04\x0a\x00\x02\x09\xff"), /* for another server */
    };
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf in = {0};
    AUTO(buf_done) struct buf out = {0};
    struct dhcp_config c;

    (void)state;
    config(basic, &a, &c);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        request(&in, cases[i].p, cases[i].n);
        if (dhcp_reply(&c, VIEW(in), &out))
            fail_msg("case %zu was answered", i);
    }
    REQUEST(&in, "\x35\x01\x01\xff");
    for (size_t n = 0; n < 243; n++)
        assert_false(dhcp_reply(&c, str_n(in.p, n), &out));
    for (size_t i = 0; i < 240; i++) { /* what makes it a request at all */
        bool needed = i < 3 || i >= 236;

        in.p[i] ^= 1;
        buf_clear(&out);
        assert_int_equal(dhcp_reply(&c, VIEW(in), &out), !needed);
        in.p[i] ^= 1;
    }
    AUTO(buf_done) struct buf small = {0};
    buf_init(&small, 256);
    assert_false(dhcp_reply(&c, VIEW(in), &small));
}

static void what_a_config_may_not_say(void **state)
{
    static const struct {
        const char *more, *error;
    } cases[] = {
        {"\"mac\":\"02:00\"", "not a MAC address"},
        {"\"hostname\":\"a b\"", "not a host name"},
        {"\"domain\":\"a..b\"", "not a domain name"},
        {"\"search\":[\"ok\",\"\"]", "search domain '' is not"},
        {"\"search\":[\"aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggg\"]", "is not a domain name"},
        {"\"mtu\":3", "mtu 3 is out of range"},
        {"\"dns\":[\"x\"]", "dns: 'x' is not an IP address"},
        {"\"gateway\":\"::1\"", "not an IPv4 address"},
        {"\"routes\":[{\"to\":\"10.0.0.0\",\"via\":\"10.0.0.1\"}]", "routes: "},
        {"\"routes\":[{\"to\":\"10.0.0.0/33\",\"via\":\"10.0.0.1\"}]", "prefix length"},
        {"\"options\":[{\"code\":53,\"text\":\"x\"}]", "DHCP option 53 cannot be set"},
        {"\"options\":[{\"code\":255,\"text\":\"x\"}]", "DHCP option 255 cannot be set"},
        {"\"options\":[{\"code\":42,\"text\":\"ntp.example\"}]", "DHCP option 42"},
        {"\"options\":[{\"code\":66,\"text\":\"\"}]", "1 to 255 bytes"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(error_clear) struct error err = {0};
        const struct json *v;
        struct dhcp_config c;
        const char *text = arena_printf(&a, "{\"address\":\"10.0.2.2/24\",\"server\":\"10.0.2.1\",%s}", cases[i].more);

        assert_true(json_parse(str_of(text), &a, &v, &err));
        assert_false(dhcp_config_parse(v, &a, &c, &err));
        if (!strstr(err.msg, cases[i].error))
            fail_msg("%s: %s", cases[i].more, err.msg);
    }
}

/* 31 private options of 255 bytes would be 8 KB: it is said at the start, not by a silent server. */
static void too_much_for_one_packet(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *list = NULL, *v;
    struct dhcp_config c;
    char filler[201];

    (void)state;
    memset(filler, 'x', 200);
    filler[200] = 0;
    for (int code = 224; code < 230; code++)
        list = json_append(&a, list, json_object(&a, "code", json_new_i64(&a, code), "text", json_new_z(&a, filler), NULL));
    assert_true(json_parse(str_of(basic), &a, &v, &err));
    assert_false(dhcp_config_parse(json_with(&a, v, "options", list), &a, &c, &err));
    assert_string_equal(err.msg, "DHCP options take more than 1000 bytes");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(offers_and_acknowledges), cmocka_unit_test(routes_and_custom_options),
        cmocka_unit_test(strangers_get_no_answer), cmocka_unit_test(what_a_config_may_not_say),
        cmocka_unit_test(too_much_for_one_packet),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
