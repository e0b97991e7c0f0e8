#include "api/kv_config.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "json/yaml.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static const char *data_arg, *examples_arg; /* folders; may be absent */

static const struct json *parse(struct arena *a, struct str text)
{
    const struct json *v = NULL;
    struct error err = {0};

    if (!json_parse(text, a, &v, &err))
        fail_msg(STR_FMT ": %s", STR_ARG(text), error_text(&err));
    return v;
}

static void some_uuid(void *data, char ret[37])
{
    (void)data;
    memcpy(ret, "6f5ca3b6-2a53-4d4b-9a0c-1a0a12a3c0de", 37);
}

static const struct kv_random randomness = {.uuid = some_uuid};

static struct kv_config *config_of(const char *spec, struct arena *a)
{
    struct kv_config *c = kv_config_new(
        parse(a, str_of(arena_printf(a, "{\"spec\":{\"configuration\":%s}}", spec ? spec : "{}"))));

    c->architecture = STR("amd64");
    return c;
}

/* "I field: message" lines, I R N F for the reason. */
static const char *lines(const struct schema_causes *causes, struct arena *a)
{
    AUTO(buf_done) struct buf b = {0};

    for (size_t i = 0; i < causes->n; i++) {
        const char *reason = causes->p[i].reason;

        buf_addf(&b, "%s%c %s: %s", i ? "\n" : "",
                 strcmp(reason, "FieldValueNotSupported") == 0 ? 'N' : reason[strlen("FieldValue")],
                 causes->p[i].field, causes->p[i].message);
    }
    return b.n ? arena_strdup(a, buf_str(&b)) : "";
}

/* What is said of types is not ours; but defaults have to leave a good object good. */
static void check_schema(const char *plural, const struct json *o, struct arena *a,
                         struct schema_causes *causes)
{
    const struct kind_info *k = schema_kind_find(STR("kubevirt.io"), str_of(plural));

    if (json_get(o, "kind"))
        schema_validate(k->type, o, a, causes);
}

/* As the API server does: defaults, rules, and with good rules what is not supported. */
static const char *judge_vmi(const struct json *vmi, const struct kv_config *c, bool by_platform,
                             struct arena *a)
{
    struct schema_causes causes = {0};

    vmi = kv_vmi_default(vmi, c, &randomness, a);
    check_schema("virtualmachineinstances", vmi, a, &causes);
    kv_vmi_validate(vmi, NULL, c, by_platform, a, &causes);
    if (causes.n == 0)
        kv_unsupported(json_get(vmi, "spec"), kv_vmm(vmi), "spec", c, a, &causes);
    return lines(&causes, a);
}

static const char *judge_vm(const struct json *vm, const struct kv_config *c, struct arena *a)
{
    struct schema_causes causes = {0};

    vm = kv_vm_default(vm, c, &randomness, a);
    check_schema("virtualmachines", vm, a, &causes);
    kv_vm_validate(vm, NULL, c, a, &causes);
    if (causes.n == 0)
        kv_unsupported(json_at(vm, "spec/template/spec"), kv_vmm(vm), "spec.template.spec", c, a, &causes);
    return lines(&causes, a);
}

struct row {
    const char *config;   /* spec.configuration, or NULL */
    const char *fragment; /* what differs from a good object */
    const char *want;
};

#include "api/kv_validate_rows.h"

/* The fragment laid over a good one: objects are merged, all else is replaced. */
static const struct json *merged(struct arena *a, const struct json *base, const struct json *over)
{
    if (!json_is(base, JSON_OBJECT) || !json_is(over, JSON_OBJECT))
        return over;
    json_each_member(m, over)
        base = json_with_str(a, base, json_str(&m->key),
                             merged(a, json_get_str(base, json_str(&m->key)), &m->value));
    return base;
}

static unsigned mismatch(const struct row *row, const char *is)
{
    if (strcmp(is, row->want) == 0)
        return 0;
    print_error("%s\nis     %s\nwanted %s\n\n", row->fragment, is, row->want);
    return 1;
}

static void test_vmi_rows(void **state)
{
    unsigned bad = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(vmi_rows); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct kv_config *c = config_of(vmi_rows[i].config, &a);
        const struct json *base =
            parse(&a, STR("{\"spec\":{\"domain\":{\"memory\":{\"guest\":\"64Mi\"}}}}"));

        bad += mismatch(
            &vmi_rows[i],
            judge_vmi(merged(&a, base, parse(&a, str_of(vmi_rows[i].fragment))), c, false, &a));
        kv_config_free(c);
    }
    assert_int_equal(bad, 0);
}

static void test_vm_rows(void **state)
{
    unsigned bad = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(vm_rows); i++) {
        AUTO(arena_done) struct arena a = {0};
        struct kv_config *c = config_of(vm_rows[i].config, &a);

        bad += mismatch(&vm_rows[i], judge_vm(parse(&a, str_of(vm_rows[i].fragment)), c, &a));
        kv_config_free(c);
    }
    assert_int_equal(bad, 0);
}

static void test_update(void **state)
{
    static const struct {
        const char *old, *new, *user, *platform;
    } table[] = {
        {"{\"spec\":{\"a\":1}}", "{\"spec\":{\"a\":1},\"status\":{}}", "", ""},
        {"{\"spec\":{\"a\":1}}", "{\"spec\":{\"a\":2}}",
         "N spec: update of VMI object is restricted", ""},
        {"{\"metadata\":{\"labels\":{\"x\":\"1\"}}}",
         "{\"metadata\":{\"labels\":{\"x\":\"2\",\"kubevirt.io/nodeName\":\"n\"}}}",
         "N metadata.labels: modification of the following reserved kubevirt.io/ labels on a VMI "
         "object is prohibited",
         ""},
        {"{\"spec\":{\"domain\":{\"cpu\":{\"maxSockets\":4}}}}",
         "{\"spec\":{\"domain\":{\"cpu\":{\"maxSockets\":8}}}}",
         "N spec: update of VMI object is restricted",
         "N spec.domain.cpu.maxSockets: CPU topology maxSockets changed"},
        {"{\"spec\":{\"domain\":{\"memory\":{\"maxGuest\":\"4Gi\"}}}}",
         "{\"spec\":{\"domain\":{\"memory\":{}}}}", "N spec: update of VMI object is restricted",
         "N spec.domain.memory.maxGuest: Memory maxGuest changed"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
        for (int platform = 0; platform < 2; platform++) {
            AUTO(arena_done) struct arena a = {0};
            struct kv_config *c = config_of(NULL, &a);
            struct schema_causes causes = {0};

            kv_vmi_validate(parse(&a, str_of(table[i].new)), parse(&a, str_of(table[i].old)), c,
                            platform, &a, &causes);
            assert_string_equal(lines(&causes, &a), platform ? table[i].platform : table[i].user);
            kv_config_free(c);
        }
    }
}

/* A VMI with a platform's label, written by the platform. */
static void test_platform(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    struct kv_config *c = config_of(NULL, &a);
    const struct json *vmi = parse(
        &a, STR("{\"metadata\":{\"labels\":{\"kubevirt.io/nodeName\":\"n\"}},\"spec\":{\"domain\":"
                "{\"memory\":{\"guest\":\"1Gi\"}}}}"));

    (void)state;
    assert_string_equal(judge_vmi(vmi, c, true, &a), "");
    assert_string_equal(judge_vmi(vmi, c, false, &a),
                        "N metadata.labels: creation of the following reserved kubevirt.io/ labels "
                        "on a VMI object is prohibited");
    kv_config_free(c);
}

/* Whatever stands where, the rules come to an end; that types are wrong is said by others. */
static void test_wrong_types(void **state)
{
    static const char *const values[] = {"null",
                                         "true",
                                         "7",
                                         "\"x\"",
                                         "[]",
                                         "{}",
                                         "[null,1,\"a\",[],{}]",
                                         "{\"name\":5,\"disk\":[]}"};
    static const char *const paths[] = {
        "spec",
        "spec/domain",
        "spec/domain/cpu",
        "spec/domain/cpu/features",
        "spec/domain/memory",
        "spec/domain/memory/guest",
        "spec/domain/memory/hugepages",
        "spec/domain/resources",
        "spec/domain/resources/requests",
        "spec/domain/devices",
        "spec/domain/devices/disks",
        "spec/domain/devices/interfaces",
        "spec/domain/devices/inputs",
        "spec/domain/devices/watchdog",
        "spec/domain/devices/sound",
        "spec/domain/devices/video",
        "spec/domain/devices/filesystems",
        "spec/domain/firmware",
        "spec/domain/firmware/bootloader",
        "spec/domain/firmware/kernelBoot",
        "spec/domain/features",
        "spec/domain/features/hyperv",
        "spec/domain/clock",
        "spec/domain/machine",
        "spec/domain/launchSecurity",
        "spec/networks",
        "spec/volumes",
        "spec/accessCredentials",
        "spec/livenessProbe",
        "spec/dnsConfig",
        "spec/dnsConfig/searches",
        "spec/architecture",
        "spec/hostname",
        "metadata",
        "metadata/labels",
        "metadata/annotations",
        "status",
    };

    (void)state;
    for (size_t p = 0; p < ARRAY_SIZE(paths); p++) {
        for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
            AUTO(arena_done) struct arena a = {0};
            struct kv_config *c = config_of(NULL, &a);
            const struct json
                *vmi = json_with_at(
                    &a, parse(&a, STR("{\"spec\":{\"domain\":{\"memory\":{\"guest\":\"1Gi\"}}}}")),
                    paths[p], parse(&a, str_of(values[v]))),
                *vm;

            (void)judge_vmi(vmi, c, false, &a);
            vm = json_object(&a, "spec",
                             json_object(&a, "running", json_new_bool(true), "template", vmi, NULL),
                             NULL);
            (void)judge_vm(vm, c, &a);
            kv_config_free(c);
        }
    }
}

/* ---- whole manifests ---- */

static void assert_admitted(const struct json *o, const char *where, struct arena *a)
{
    struct kv_config *c = config_of(NULL, a);
    struct str kind = json_str_at(o, "kind");
    const char *why = "";

    if (str_is(kind, "VirtualMachine"))
        why = judge_vm(o, c, a);
    else if (str_is(kind, "VirtualMachineInstance"))
        why = judge_vmi(json_with(a, o, "status", NULL), c, true, a);
    kv_config_free(c);
    if (why[0])
        fail_msg("%s: %s", where, why);
}

static void test_recordings(void **state)
{
    static const char *const files[] = {"sample-virtualmachines.json",
                                        "sample-virtualmachineinstances.json", "vm-life.jsonl"};
    const char *data = getenv("VIREO_DATA") ? getenv("VIREO_DATA") : data_arg;
    unsigned n = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        AUTO(arena_done) struct arena a = {0};
        AUTO(buf_done) struct buf text = {0};
        AUTO(error_clear) struct error err = {0};
        struct str rest, line;

        buf_init(&text, 64u << 20);
        if (!file_read(AT_FDCWD,
                       arena_printf(&a, "%s/kubevirt-live/%s", data ? data : ".", files[i]), &text,
                       &err)) {
            print_message("skipped: %s\n", error_text(&err));
            skip();
        }
        rest = buf_str(&text);
        if (str_ends(str_of(files[i]), STR(".json"))) {
            const struct json *v = parse(&a, rest), *items = json_get(v, "items");

            assert_admitted(v, files[i], &a);
            json_each_item(item, items)
                assert_admitted(item, files[i], &a);
            n++;
            continue;
        }
        while (str_next(&rest, '\n', &line)) {
            const struct json *o = line.n ? json_get(parse(&a, line), "object") : NULL;

            assert_admitted(o, files[i], &a);
            n += o != NULL;
        }
    }
    assert_true(n > 10);
}

/* Every example is one that can be tried. */
static void test_examples(void **state)
{
    AUTO(arena_done) struct arena a = {0};
    const char *examples = examples_arg ? examples_arg : "examples";
    DIR *d = opendir(examples);
    unsigned n = 0;

    (void)state;
    if (!d) {
        print_message("skipped: no folder %s\n", examples);
        skip();
    }
    for (struct dirent *e; (e = readdir(d));) {
        AUTO(buf_done) struct buf text = {0};
        AUTO(error_clear) struct error err = {0};
        struct yaml_docs docs = {0};

        if (!str_ends(str_of(e->d_name), STR(".yaml")))
            continue;
        buf_init(&text, 1u << 20);
        if (!file_read(AT_FDCWD, arena_printf(&a, "%s/%s", examples, e->d_name), &text, &err)
            || !yaml_parse(buf_str(&text), &a, &docs, &err))
            fail_msg("%s: %s", e->d_name, error_text(&err));
        for (size_t i = 0; i < docs.n; i++)
            assert_admitted(docs.p[i], e->d_name, &a);
        n++;
    }
    closedir(d);
    print_message("%u examples\n", n);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vmi_rows),    cmocka_unit_test(test_vm_rows),
        cmocka_unit_test(test_update),      cmocka_unit_test(test_platform),
        cmocka_unit_test(test_wrong_types), cmocka_unit_test(test_recordings),
        cmocka_unit_test(test_examples),
    };

    data_arg = argc > 1 ? argv[1] : NULL;
    examples_arg = argc > 2 ? argv[2] : NULL;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
