/* What cloud-hypervisor's refusals mean. Since v53 the body is an array of causes, outermost first; before, it is text. */
#include "vmm/cloud_hypervisor/ch.h"

/* Words that it says, and what a user can do about them. NULL: its own words are the best. */
static const struct {
    struct str words;
    enum error_kind kind;
    const char *advice;
} known[] = {
    {STR_INIT("lacks PVH header"), ERROR_INVALID, "the kernel is neither a bzImage nor built with CONFIG_PVH"},
    {STR_INIT("argument '--no-shutdown'"), ERROR_UNSUPPORTED, "it is too old: 52.0 or newer is needed"},
    {STR_INIT("currently migrating"), ERROR_CONFLICT, "the machine is on its way to another node"},
    {STR_INIT("ongoing migration"), ERROR_CONFLICT, NULL},
    {STR_INIT("VM is not running"), ERROR_CONFLICT, NULL},
    {STR_INIT("Invalid transition"), ERROR_CONFLICT, NULL},
    {STR_INIT("invalid VM state transition"), ERROR_CONFLICT, NULL},
    {STR_INIT("lock"), ERROR_CONFLICT, "another process has the disk"},
    {STR_INIT("image type does not match"), ERROR_INVALID,
     "a raw disk whose first bytes look like another format is not opened"},
    {STR_INIT("Permission denied"), ERROR_FORBIDDEN, NULL},
    {STR_INIT("Cannot allocate memory"), ERROR_UNAVAILABLE, "the node has not that much memory left"},
    {STR_INIT("/dev/kvm"), ERROR_UNAVAILABLE, "KVM does not work on this node"},
};

static void add_cause(struct buf *b, struct str cause)
{
    size_t at;

    cause = str_trim(cause);
    if (!cause.n || str_is(cause, "Error from API") || str_find(buf_str(b), cause, &at))
        return; /* says nothing, or has been said: outer errors often repeat the inner ones */
    buf_addf(b, "%s" STR_FMT, b->n ? ": " : "", STR_ARG(cause));
}

static enum error_kind kind_of(unsigned status)
{
    switch (status) {
    case 400:
        return ERROR_INVALID;
    case 404:
        return ERROR_NOT_FOUND;
    case 409:
        return ERROR_EXISTS;
    case 413:
        return ERROR_TOO_LARGE;
    case 429:
        return ERROR_TOO_MANY;
    case 503:
        return ERROR_UNAVAILABLE;
    }
    return ERROR_INTERNAL;
}

bool ch_refused(const struct rest_answer *answer, const char *what, struct error *err)
{
    AUTO(buf_done) struct buf b = {0};
    enum error_kind kind = kind_of(answer->status);
    const char *advice = NULL;
    size_t at;

    buf_init(&b, 1024); /* the rest is cut */
    json_each_item(cause, answer->json)
        add_cause(&b, json_str(cause));
    if (b.n == 0)
        add_cause(&b, json_is(answer->json, JSON_STRING) ? json_str(answer->json) : str_take(answer->text, 512));
    for (size_t i = 0; i < ARRAY_SIZE(known) && kind == ERROR_INTERNAL; i++) {
        if (str_find(buf_str(&b), known[i].words, &at)) {
            kind = known[i].kind;
            advice = known[i].advice;
        }
    }
    if (kind == ERROR_TOO_MANY)
        advice = "the guest has not let go of the vCPU yet that was taken from it: try again";
    if (b.n == 0)
        buf_addf(&b, "status %u", answer->status);
    return error_set(err, kind, "cloud-hypervisor: %s: " STR_FMT "%s%s%s", what, STR_ARG(buf_str(&b)), advice ? " (" : "",
                     advice ? advice : "", advice ? ")" : "");
}

/* "  1: Failed to create the VM" behind "Error: Cloud Hypervisor exited with the following chain of errors:" */
static bool chained(struct str line, struct str *ret)
{
    struct str number;
    uint64_t n;
    AUTO(error_clear) struct error err = {0};

    line = str_trim(line);
    if (!str_cut(line, ':', &number, ret) || !parse_u64(number, 99, &n, &err))
        return false;
    *ret = str_trim(*ret);
    return ret->n > 0;
}

void ch_last_words(struct str err_text, struct buf *out)
{
    struct str line, cause, last = STR("");
    bool chain = false, complaint = false;
    size_t at;

    while (str_next(&err_text, '\n', &line)) {
        if (str_find(line, STR("chain of errors:"), &at)) {
            chain = true;
            buf_clear(out);
        } else if (chain && chained(line, &cause)) {
            add_cause(out, cause);
        } else if (str_trim(line).n && !complaint) {
            last = str_trim(line);
            complaint = str_starts(last, STR("error: ")); /* of the command line; how to use it follows */
        }
    }
    if (out->n == 0)
        buf_addstr(out, last);
}
