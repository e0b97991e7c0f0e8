#include "apiserver/protobuf.h"
#include "base/cleanup.h"
#include "json/proto.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

/* A value of every type, with every field set. Depth stops types that hold themselves. */
static const struct json *sample(const struct schema_type *t, const char *name, struct arena *a, int depth)
{
    switch (t->kind) {
    case SCHEMA_OBJECT: {
        const struct json *v = json_object(a, NULL);

        for (size_t i = 0; i < t->n_fields && depth < 12; i++) {
            /* The one number that is not known here: of resource claims, which nothing here makes. */
            if (t->name && str_ends(str_of(t->name), STR("NodeAllocatableResourceClaimStatus"))
                && !strcmp(t->fields[i].name, "resources"))
                continue;
            const struct json *w = sample(t->fields[i].type, t->fields[i].name, a, depth + 1);

            v = json_with(a, v, t->fields[i].name, w);
        }
        return v;
    }
    case SCHEMA_LIST:
        return json_array(a, sample(t->item, name, a, depth + 1), NULL);
    case SCHEMA_MAP:
        return json_object(a, "k", sample(t->item, name, a, depth + 1), NULL);
    case SCHEMA_STRING:
        return json_new_z(a, name);
    case SCHEMA_BYTES:
        return json_new_z(a, "AAEC");
    case SCHEMA_BOOL:
        return json_new_bool(true);
    case SCHEMA_INT32:
    case SCHEMA_INT64:
    case SCHEMA_NUMBER:
        return json_new_i64(a, -5);
    case SCHEMA_QUANTITY:
        return json_new_z(a, "1Gi");
    case SCHEMA_INT_OR_STRING:
        return json_new_i64(a, 80);
    case SCHEMA_TIME:
        return json_new_z(a, "2026-11-22T01:27:21Z");
    case SCHEMA_MICRO_TIME:
        return json_new_z(a, "2026-11-22T01:27:21.123456Z");
    case SCHEMA_DURATION:
        return json_new_z(a, "5s");
    case SCHEMA_ANY:
        return json_object(a, "any", json_new_i64(a, 1), NULL);
    }
    return NULL;
}

/* Its JSON schemas have a protobuf form that nobody sends. */
static bool kind_without_numbers(const struct kind_info *k)
{
    return !strcmp(k->kind, "CustomResourceDefinition");
}

/* Every field of every core kind has a number: nothing that can be stored is lost on the wire. */
static void every_core_kind_goes_there_and_back(void **state)
{
    size_t n = 0;

    (void)state;
    for (size_t i = 0; schema_kinds[i]; i++) {
        const struct kind_info *k = schema_kinds[i];
        struct arena a = {0};
        AUTO(buf_done) struct buf b = {0};
        AUTO(error_clear) struct error err = {0};
        const struct json *v, *back;

        if (k->flags & KIND_CRD || kind_without_numbers(k))
            continue;
        if (!protobuf_speaks(k->type))
            fail_msg("%s has no numbers: kubectl creates some kinds in protobuf", k->kind);
        v = sample(k->type, "x", &a, 0);
        v = json_with(&a, v, "kind", json_new_z(&a, k->kind));
        v = json_with(&a, v, "apiVersion",
                      *k->group ? json_new_f(&a, "%s/%s", k->group, k->version) : json_new_z(&a, k->version));
        if (!protobuf_write(v, &b))
            fail_msg("%s: a field has no number", k->kind);
        if (!protobuf_object(buf_str(&b), &a, &back, &err))
            fail_msg("%s: %s", k->kind, error_text(&err));
        if (!json_eq(v, back)) {
            AUTO_FREE char *want = json_text(v), *got = json_text(back);

            fail_msg("%s: want %s, got %s", k->kind, want, got);
        }
        n++;
        arena_done(&a);
    }
    assert_true(n > 20);
}

static void bytes_are_those_of_the_recording(void **state)
{
    static const char text[] = "{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"n\",\"namespace\":\"wire\","
                               "\"creationTimestamp\":\"2026-11-22T01:16:47Z\",\"labels\":{\"odd\":\"1\"}},\"data\":{\"k\":\"v\"}}";
    static const char want[] = "k8s\0\x0a\x0f\x0a\x02v1\x12\x09" "ConfigMap\x12\x27\x0a\x1d\x0a\x01n\x1a\x04wire\x42\x08\x08\xff\x84\x89"
                               "\xd8\x06\x10\x00\x5a\x08\x0a\x03odd\x12\x01" "1\x12\x06\x0a\x01k\x12\x01v\x1a\x00\x22\x00";
    struct arena a = {0};
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v;

    (void)state;
    assert_true(json_parse(str_of(text), &a, &v, &err));
    assert_true(protobuf_write(v, &b));
    assert_int_equal(b.n, sizeof want - 1);
    assert_memory_equal(b.p, want, b.n);
    arena_done(&a);
}

static void lists_metadata_and_refusals_have_a_form(void **state)
{
    static const struct {
        const char *text;
        bool ok;
    } rows[] = {
        {"{\"kind\":\"PodList\",\"apiVersion\":\"v1\",\"metadata\":{\"resourceVersion\":\"5\",\"continue\":\"c\","
         "\"remainingItemCount\":3},\"items\":[{\"metadata\":{\"name\":\"a\"}},{\"metadata\":{\"name\":\"b\"}}]}", true},
        {"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{\"name\":\"a\"}}", true},
        {"{\"kind\":\"PartialObjectMetadataList\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{\"resourceVersion\":\"5\"},"
         "\"items\":[{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{\"name\":\"a\"}}]}", true},
        {"{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"m\",\"reason\":\"NotFound\","
         "\"details\":{\"name\":\"a\",\"kind\":\"pods\",\"causes\":[{\"reason\":\"r\",\"field\":\"f\"}]},\"code\":404}", true},
        {"{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{},\"columnDefinitions\":[],\"rows\":[]}", false},
        {"{\"kind\":\"VirtualMachine\",\"apiVersion\":\"kubevirt.io/v1\",\"metadata\":{\"name\":\"a\"}}", false},
        {"{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"a\"},\"unheardOf\":1}", false},
        {"{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"a\",\"creationTimestamp\":\"then\"}}", false},
        {"{\"items\":[]}", false},
        {"[]", false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        struct arena a = {0};
        AUTO(buf_done) struct buf b = {0};
        AUTO(error_clear) struct error err = {0};
        const struct json *v;

        assert_true(json_parse(str_of(rows[i].text), &a, &v, &err));
        if (protobuf_write(v, &b) != rows[i].ok)
            fail_msg("%s", rows[i].text);
        arena_done(&a);
    }
}

static void an_event_is_framed_by_its_length(void **state)
{
    struct arena a = {0};
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};
    const struct json *v, *back;
    struct proto_reader r, inner;
    struct proto_field f;

    (void)state;
    assert_true(json_parse(STR("{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"n\"}}"), &a, &v, &err));
    assert_true(protobuf_write_event("ADDED", v, &b));
    assert_int_equal((unsigned char)b.p[0] << 24 | (unsigned char)b.p[1] << 16 | (unsigned char)b.p[2] << 8 | (unsigned char)b.p[3],
                     b.n - 4);
    r = (struct proto_reader){str_skip(buf_str(&b), 4)};
    assert_true(proto_next(&r, &f, &err) && f.number == 1 && str_is(f.bytes, "ADDED"));
    assert_true(proto_next(&r, &f, &err) && f.number == 2);
    inner = (struct proto_reader){f.bytes};
    assert_true(proto_next(&inner, &f, &err) && f.number == 1);
    assert_true(protobuf_object(f.bytes, &a, &back, &err));
    assert_true(json_eq(v, back));
    arena_done(&a);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_core_kind_goes_there_and_back),
        cmocka_unit_test(bytes_are_those_of_the_recording),
        cmocka_unit_test(lists_metadata_and_refusals_have_a_form),
        cmocka_unit_test(an_event_is_framed_by_its_length),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
