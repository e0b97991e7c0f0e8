/* Years of renewals in moments: each step's plan is written into a world that the next one sees. */
#include "json/json_test.h"

#include "operator/certs.h"

struct world {
    struct arena a;
    struct certs_view v;
    struct certs_plan last;
};

static void world_done(struct world *w)
{
    arena_done(&w->a);
}

static struct world world_new(void)
{
    return (struct world){
        .v = {.ns = "kubevirt",
              .life = {.ca_s = 168 * 3600, .ca_before_s = 34 * 3600, .leaf_s = 24 * 3600, .leaf_before_s = 5 * 3600},
              .now_s = 1800000000}};
}

/* Plans and writes; how many objects that were. */
static unsigned step(struct world *w)
{
    AUTO(error_clear) struct error err = {0};
    unsigned n = 0;

    if (!certs_make_plan(&w->v, &w->a, &w->last, &err))
        fail_msg("%s", error_text(&err));
    if (w->last.ca_secret && ++n)
        w->v.ca_secret = w->last.ca_secret;
    if (w->last.bundle && ++n)
        w->v.bundle = w->last.bundle;
    for (size_t i = 0; i < CERT_LEAVES; i++)
        if (w->last.leaves[i] && ++n)
            w->v.leaves[i] = w->last.leaves[i];
    return n;
}

static unsigned in_bundle(struct world *w)
{
    struct str rest = json_str(json_get(json_get(w->v.bundle, "data"), CERTS_BUNDLE));
    unsigned n = 0;
    size_t at;

    while (str_find(rest, STR("BEGIN CERTIFICATE"), &at)) {
        rest = str_skip(rest, at + 1);
        n++;
    }
    return n;
}

/* Every leaf verifies against some CA of the bundle, has its own key, and is within its life. */
static void all_good(struct world *w)
{
    for (size_t i = 0; i < CERT_LEAVES; i++) {
        AUTO(error_clear) struct error err = {0};
        struct str cert = certs_data(w->v.leaves[i], "tls.crt", &w->a), key = certs_data(w->v.leaves[i], "tls.key", &w->a),
                   rest, one;
        bool issued = false;
        size_t at, end;

        rest = json_str(json_get(json_get(w->v.bundle, "data"), CERTS_BUNDLE));
        while (str_find(rest, STR("-----BEGIN"), &at) && str_find(rest, STR("-----END CERTIFICATE-----"), &end)) {
            struct cert_facts f;

            one = str_skip(str_take(rest, end + 25), at);
            rest = str_skip(rest, end + 25);
            assert_true(cert_inspect(cert.p, key.p, arena_strdup(&w->a, one), &f, &err));
            assert_true(f.fits_key && f.from_unix_s <= w->v.now_s && f.until_unix_s > w->v.now_s);
            issued = issued || f.issued;
        }
        assert_true(issued);
    }
}

static void all_are_made_once(void **state)
{
    AUTO(world_done) struct world w = world_new();

    (void)state;
    assert_int_equal(step(&w), 2 + CERT_LEAVES);
    all_good(&w);
    assert_int_equal(step(&w), 0);
    assert_int_equal(w.last.next_s, w.v.now_s + 19 * 3600); /* the first that is due: leaves */
    w.v.now_s = w.last.next_s - 1;
    assert_int_equal(step(&w), 0);
    w.v.now_s += 1;
    assert_int_equal(step(&w), CERT_LEAVES);
    assert_int_equal(step(&w), 0);
}

static void a_ca_overlaps_with_the_next(void **state)
{
    AUTO(world_done) struct world w = world_new();
    const struct json *leaf;

    (void)state;
    step(&w);
    w.v.now_s += 134 * 3600; /* its end is 34 h away */
    w.v.life.leaf_s = 24 * 3600;
    step(&w);
    assert_non_null(w.last.ca_secret);
    assert_int_equal(in_bundle(&w), 2);
    all_good(&w);
    leaf = w.v.leaves[0];
    step(&w);
    assert_ptr_equal(w.v.leaves[0], leaf);
    /* The old one leaves the bundle when it has ended. */
    w.v.now_s += 35 * 3600;
    step(&w);
    assert_int_equal(in_bundle(&w), 1);
    all_good(&w);
}

static void the_new_ca_signs_when_everybody_knows_it(void **state)
{
    AUTO(world_done) struct world w = world_new();
    const struct json *leaf;
    int64_t rotated;

    (void)state;
    step(&w);
    w.v.now_s += 133 * 3600;
    step(&w); /* fresh leaves of the old CA */
    leaf = w.v.leaves[0];
    w.v.now_s += 3600;
    step(&w);
    assert_non_null(w.last.ca_secret);
    assert_ptr_equal(w.v.leaves[0], leaf);
    rotated = w.v.now_s;
    assert_int_equal(w.last.next_s, rotated + CERTS_SPREAD_S);
    w.v.now_s = rotated + CERTS_SPREAD_S;
    assert_int_equal(step(&w), CERT_LEAVES);
    all_good(&w);
}

static void years_go_by_without_a_gap(void **state)
{
    AUTO(world_done) struct world w = world_new();
    int64_t end = w.v.now_s + 60 * 86400;
    unsigned writes = 0;

    (void)state;
    step(&w);
    while (w.v.now_s < end) {
        assert_true(w.last.next_s > w.v.now_s);
        w.v.now_s = w.last.next_s;
        writes += step(&w);
        all_good(&w);
        assert_true(in_bundle(&w) <= 2);
    }
    /* Leaves every 19 hours, a CA every 134: no more than that. */
    assert_in_range(writes, 60 * 24 / 19 * CERT_LEAVES, 60 * 24 / 19 * CERT_LEAVES * 3 / 2);
}

static void what_is_broken_is_made_anew(void **state)
{
    static const struct {
        const char *path, *value; /* of the first leaf; NULL: it is gone */
    } rows[] = {{"data/tls.crt", "bm8="},
                {"data/tls.key", "bm8="},
                {"data/tls.crt", "no base64"},
                {"data", NULL},
                {"metadata/annotations/vireo.io~1names", "other.example"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        AUTO(world_done) struct world w = world_new();

        step(&w);
        w.v.leaves[0] = json_with_at(&w.a, w.v.leaves[0], rows[i].path, json_new_z(&w.a, rows[i].value));
        assert_int_equal(step(&w), 1);
        all_good(&w);
    }
}

static void a_key_that_is_another_ones_is_noticed(void **state)
{
    AUTO(world_done) struct world w = world_new();

    (void)state;
    step(&w);
    w.v.leaves[0] = json_with_at(&w.a, w.v.leaves[0], "data/tls.key", json_at(w.v.leaves[1], "data/tls.key"));
    assert_int_equal(step(&w), 1);
    all_good(&w);
}

static void a_ca_that_is_lost_takes_all_with_it(void **state)
{
    AUTO(world_done) struct world w = world_new();

    (void)state;
    step(&w);
    w.v.ca_secret = NULL;
    step(&w);
    assert_int_equal(in_bundle(&w), 2); /* what it signed stays trusted meanwhile */
    all_good(&w);
    w.v.bundle = NULL;
    assert_int_equal(step(&w), 1 + CERT_LEAVES); /* nobody knows the old one any more */
    all_good(&w);
}

static void shorter_lives_take_effect_at_once(void **state)
{
    AUTO(world_done) struct world w = world_new();

    (void)state;
    step(&w);
    w.v.now_s += CERTS_SPREAD_S;
    w.v.life.leaf_s = 3600;
    w.v.life.leaf_before_s = 720;
    assert_int_equal(step(&w), CERT_LEAVES);
    assert_int_equal(w.last.next_s, w.v.now_s + 3600 - 720);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_are_made_once),
        cmocka_unit_test(a_ca_overlaps_with_the_next),
        cmocka_unit_test(the_new_ca_signs_when_everybody_knows_it),
        cmocka_unit_test(years_go_by_without_a_gap),
        cmocka_unit_test(what_is_broken_is_made_anew),
        cmocka_unit_test(a_key_that_is_another_ones_is_noticed),
        cmocka_unit_test(a_ca_that_is_lost_takes_all_with_it),
        cmocka_unit_test(shorter_lives_take_effect_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
