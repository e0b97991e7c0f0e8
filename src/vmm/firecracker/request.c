/* What is asked of Firecracker, and what its refusals mean. */
#include <poll.h>
#include <stdio.h>

#include "vmm/firecracker/firecracker.h"

/* A refusal is a sentence for developers. What users can act on is recognized by words that have been in it since 1.0; what is
 * not recognized is handed on as it is. */
static const struct {
    const char *words;
    enum error_kind kind;
    const char *advice;
} known[] = {
    {"not supported after starting", ERROR_CONFLICT, NULL},
    {"not supported before starting", ERROR_CONFLICT, NULL},
    {"number of vCPUs", ERROR_INVALID, "let it be 1 or an even number, at most 32"},
    {"memory size (MiB)", ERROR_INVALID, NULL},
    {"Elf magic", ERROR_INVALID, "the kernel has to be an uncompressed ELF image (vmlinux)"},
    {"Kernel Loader", ERROR_INVALID, "the kernel has to be an uncompressed ELF image (vmlinux)"},
    {"kernel command line", ERROR_INVALID, NULL},
    {"/dev/net/tun", ERROR_UNAVAILABLE, "the pod needs /dev/net/tun: modprobe tun on the node"},
    {"Resource busy", ERROR_UNAVAILABLE, NULL},
    {"EBUSY", ERROR_UNAVAILABLE, NULL},
    {"os error 16", ERROR_UNAVAILABLE, NULL},
    {"/dev/kvm", ERROR_UNAVAILABLE, "KVM cannot be opened: vireo doctor tells why"},
    {"Kvm error", ERROR_UNAVAILABLE, "KVM does not work here: vireo doctor tells why"},
    {"KVM", ERROR_UNAVAILABLE, "KVM does not work here: vireo doctor tells why"},
    {"hugetlb", ERROR_UNAVAILABLE, "the node has too few free huge pages of 2Mi"},
    {"Cannot allocate memory", ERROR_UNAVAILABLE, "the node has too little memory"},
    {"snapshot version", ERROR_UNSUPPORTED, "it was written by another version of Firecracker"},
    {"No space left", ERROR_UNAVAILABLE, "the volume is full"},
};

bool fc_refused(unsigned status, struct str text, const char *field, struct error *err)
{
    enum error_kind kind = status == 400 ? ERROR_INVALID : ERROR_INTERNAL;
    const char *advice = NULL;
    char clean[512];
    size_t n = 0, at;

    for (size_t i = 0; i < text.n && n + 1 < sizeof clean; i++) /* a guest may have taken the writer over */
        clean[n++] = (unsigned char)text.p[i] < 0x20 || text.p[i] == 0x7f ? ' ' : text.p[i];
    clean[n] = '\0';
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        if (str_find(str_of(clean), str_of(known[i].words), &at)) {
            kind = known[i].kind;
            advice = known[i].advice;
            break;
        }
    }
    if (!n)
        snprintf(clean, sizeof clean, "status %u without a reason", status);
    return error_set(err, kind, "%s%sFirecracker refuses: %s%s%s", field ? field : "", field ? ": " : "", clean, advice ? "; " : "",
                     advice ? advice : "");
}

bool fc_request(struct fc *f, const char *method, const char *path, const struct json *body, const char *field, struct arena *a,
                const struct json **answer, struct error *err)
{
    struct rest_answer got;

    if (!rest_call(&f->api, &(struct rest_request){.method = method, .path = path, .body = body}, a, &got, err))
        return field ? error_wrap(err, "%s", field) : false;
    if (!rest_ok(&got)) {
        struct str fault = json_str_at(got.json, "fault_message");

        return fc_refused(got.status, fault.p ? fault : got.text, field, err);
    }
    if (answer)
        *answer = got.json;
    return true;
}

bool fc_action(struct fc *f, const char *action, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};

    return fc_request(f, "PUT", "/actions", json_object(&a, "action_type", json_new_z(&a, action), NULL), NULL, &a, NULL, err);
}

bool fc_set_state(struct fc *f, const char *state, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};

    return fc_request(f, "PATCH", "/vm", json_object(&a, "state", json_new_z(&a, state), NULL), NULL, &a, NULL, err);
}

static bool learn_version(struct fc *f, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    const struct json *answer;
    struct vmm_version v = {0}, oldest = {0};
    char text[64];

    if (!fc_request(f, "GET", "/version", NULL, NULL, &a, &answer, err))
        return false;
    snprintf(text, sizeof text, "v" STR_FMT, STR_ARG(str_take(json_str_at(answer, "firecracker_version"), 40)));
    if (!vmm_version_parse(str_of(text), &v, err) || !vmm_version_parse(STR("v" FC_OLDEST), &oldest, err))
        return error_wrap(err, "firecracker");
    f->now.version = FC_VERSION(v.major, v.minor);
    if (f->now.version < FC_VERSION(oldest.major, oldest.minor))
        return error_set(err, ERROR_UNSUPPORTED, "Firecracker %u.%u is too old: the node needs %s or newer", v.major, v.minor,
                         FC_OLDEST);
    return true;
}

/* Taps are let go of by their last holder, which may be another process a moment behind us. */
#define BUSY_TRIES 50
#define BUSY_MS    20

static bool send_call(struct fc *f, const struct fc_call *c, struct error *err)
{
    const struct json *body = c->body;

    if (c->since > f->now.version) {
        if (!c->older)
            return error_set(err, ERROR_UNSUPPORTED, "%s needs Firecracker %u.%u, and this node has %u.%u", c->field, c->since / 100,
                             c->since % 100, f->now.version / 100, f->now.version % 100);
        body = c->older;
    }
    for (int i = 0;; i++) {
        AUTO(arena_done) struct arena a = {0};
        size_t at;

        if (fc_request(f, c->method, c->path, body, c->field, &a, NULL, err))
            return true;
        if (i == BUSY_TRIES || err->kind != ERROR_UNAVAILABLE || !str_starts(str_of(c->path), STR("/network-interfaces/"))
            || (!str_find(str_of(err->msg), STR("usy"), &at) && !str_find(str_of(err->msg), STR("os error 16"), &at)))
            return false;
        error_clear(err);
        poll(NULL, 0, BUSY_MS);
    }
}

bool fc_configure(struct fc *f, struct error *err)
{
    if (!learn_version(f, err))
        return false;
    for (size_t i = 0; i < f->config.calls.n; i++)
        if (!send_call(f, &f->config.calls.p[i], err))
            return false;
    return true;
}
