/* What goes wrong in a VMM, on demand: the driver reports an error that names what happened, within its time, and leaves nothing. */
#include "bench.h"

#include <signal.h>
#include <stdio.h>

/* The request that starts the guest, and the one that pauses it, for each VMM. */
static bool is_ch(const struct bench *b)
{
    return strcmp(b->s->driver->name, "cloud-hypervisor") == 0;
}

static const char *start_request(const struct bench *b)
{
    return is_ch(b) ? "\"method\":\"PUT\",\"path\":\"/api/v1/vm.boot\"" : "\"method\":\"PUT\",\"path\":\"/actions\"";
}

static const char *pause_request(const struct bench *b)
{
    return is_ch(b) ? "\"method\":\"PUT\",\"path\":\"/api/v1/vm.pause\"" : "\"method\":\"PATCH\",\"path\":\"/vm\"";
}

static void order(const char *request, const char *fault)
{
    AUTO_FREE char *text = xasprintf("[{%s,%s}]", request, fault);

    bench_faults(text);
}

static const char *documented_error(const struct bench *b)
{
    return is_ch(b) ? "\"do\":\"error\",\"status\":500,\"body\":[\"The VM could not do it\",\"because of reason R17\"]"
                    : "\"do\":\"error\",\"status\":400,\"body\":{\"fault_message\":\"It could not be done because of reason R17\"}";
}

/* A start that must fail; says: what has to be in the error, or NULL. */
static void start_fails(struct bench *b, const char *request, const char *fault, const char *says, int within_ms)
{
    struct wish w = {.disk = true};
    int64_t begun = bench_now_ms();
    size_t at;

    b->may_err = true;
    order(request, fault);
    assert_false(bench_start(b, &w));
    print_message("  %lld ms: %s\n", (long long)(bench_now_ms() - begun), error_text(&b->err));
    assert_true(bench_now_ms() - begun < within_ms);
    bench_reach(b, VMM_CRASHED, VMM_REASON_START_FAILED);
    assert_true(vmm_status(b->vmm)->message[0] != 0);
    assert_int_equal(vmm_status(b->vmm)->pid, 0);
    if (says && !str_find(str_of(error_text(&b->err)), str_of(says), &at))
        fail_msg("the error does not say '%s': %s", says, error_text(&b->err));
}

#define START_FAULT(function, fault, says, ms)                                                                                 \
    static void function(struct bench *b)                                                                                      \
    {                                                                                                                          \
        start_fails(b, start_request(b), fault, says, ms);                                                                     \
    }

static void start_refused(struct bench *b)
{
    start_fails(b, start_request(b), documented_error(b), "R17", 10000);
}
START_FAULT(start_cut_before, "\"do\":\"cut-before\"", NULL, 10000)
START_FAULT(start_cut_inside, "\"do\":\"cut-inside\"", NULL, 10000)
START_FAULT(start_cut_after, "\"do\":\"cut-after\"", NULL, 10000)
START_FAULT(start_dies, "\"do\":\"die\",\"code\":3", NULL, 10000)
START_FAULT(start_dies_by_signal, "\"do\":\"die\",\"signal\":11", NULL, 10000)
START_FAULT(start_silence, "\"do\":\"silence\"", NULL, 70000)
START_FAULT(start_garbage, "\"do\":\"garbage\"", NULL, 10000)
START_FAULT(start_huge, "\"do\":\"huge\"", NULL, 70000)
START_FAULT(start_headers, "\"do\":\"headers\"", NULL, 70000)

#define PROCESS "\"path\":\"start\""
static void process_exits(struct bench *b)
{
    start_fails(b, PROCESS, "\"do\":\"exit\",\"code\":1,\"text\":\"Error: no hypervisor, says R18\\n\"", "R18", 10000);
}
static void process_never_listens(struct bench *b)
{
    start_fails(b, PROCESS, "\"do\":\"no-socket\"", NULL, 70000);
}

static void process_listens_late(struct bench *b)
{
    struct wish w = {0};

    order(PROCESS, "\"do\":\"late-socket\",\"seconds\":1");
    bench_up(b, &w);
}

/* Every request of a start, one after the other, is refused, cut off, or the death of the process. */
static void each_request(struct bench *b, const char *fault)
{
    const struct subject *s = b->s;
    struct wish w = {.disk = true, .balloon = true, .vsock = true};
    int nth = 2; /* 1 is the start of the process */

    for (;; nth++) {
        AUTO_FREE char *text = xasprintf("[{\"path\":\"*\",\"nth\":%d,\"times\":1,%s}]", nth, fault);
        bool ok;

        b->may_err = true;
        /* "*" is the start of the process too: that comes first and knows none of these. */
        bench_faults(text);
        ok = bench_start(b, &w);
        if (!ok) {
            bench_reach(b, VMM_CRASHED, VMM_REASON_START_FAILED);
            assert_true(error_text(&b->err)[0] != 0);
        }
        bench_done(b);
        bench_init(b, s);
        if (ok)
            break;
    }
    print_message("  %d requests\n", nth - 1);
    assert_true(nth > 3);
}

static void each_request_dies(struct bench *b)
{
    each_request(b, "\"do\":\"die\",\"code\":1");
}

static void each_request_is_cut(struct bench *b)
{
    each_request(b, "\"do\":\"cut-inside\"");
}

static void slow_answers(struct bench *b)
{
    struct wish w = {0};

    order(start_request(b), "\"do\":\"delay\",\"seconds\":1.5");
    bench_up(b, &w);
}

/* ---- once it runs ---- */

static void pause_refused(struct bench *b)
{
    struct wish w = {0};
    size_t at;

    bench_up(b, &w);
    order(pause_request(b), documented_error(b));
    assert_false(vmm_pause(b->vmm, &b->err));
    assert_true(str_find(str_of(error_text(&b->err)), STR("R17"), &at));
    assert_int_equal(vmm_status(b->vmm)->state, VMM_RUNNING);
    bench_faults("[]");
    error_clear(&b->err);
    bench_ok(b, vmm_pause(b->vmm, &b->err)); /* the next one is heard */
    bench_reach(b, VMM_PAUSED, VMM_REASON_USER);
}

static void pause_answer_cut(struct bench *b)
{
    struct wish w = {0};

    bench_up(b, &w);
    order(pause_request(b), "\"do\":\"cut-before\",\"times\":1");
    b->may_err = true;
    if (!vmm_pause(b->vmm, &b->err)) { /* or it has asked again */
        assert_true(error_text(&b->err)[0] != 0);
        assert_int_equal(vmm_status(b->vmm)->state, VMM_RUNNING);
        error_clear(&b->err);
        bench_ok(b, vmm_pause(b->vmm, &b->err));
    }
    bench_reach(b, VMM_PAUSED, VMM_REASON_USER);
}

static void dies_on_pause(struct bench *b)
{
    struct wish w = {0};
    int64_t begun;

    bench_up(b, &w);
    order(pause_request(b), "\"do\":\"die\",\"signal\":9");
    begun = bench_now_ms();
    assert_false(vmm_pause(b->vmm, &b->err));
    assert_true(bench_now_ms() - begun < 10000);
    assert_true(error_text(&b->err)[0] != 0);
    bench_reach(b, VMM_CRASHED, VMM_REASON_VMM_KILLED);
}

static void silent_on_pause(struct bench *b)
{
    struct wish w = {0};
    int64_t begun;

    bench_up(b, &w);
    order(pause_request(b), "\"do\":\"silence\"");
    begun = bench_now_ms();
    if (!vmm_pause(b->vmm, &b->err))
        assert_true(error_text(&b->err)[0] != 0);
    assert_true(bench_now_ms() - begun < 70000);
    vmm_kill(b->vmm, false); /* what does not answer still ends */
    bench_reach(b, VMM_SHUTDOWN, VMM_REASON_DESTROYED);
}

static void garbage_as_counters(struct bench *b)
{
    struct wish w = {.disk = true};
    struct vmm_stats s;

    bench_up(b, &w);
    if (is_ch(b))
        order("\"path\":\"/api/v1/vm.counters\"", "\"do\":\"garbage\"");
    else
        order("\"path\":\"/actions\"", "\"do\":\"garbage\"");
    if (!vmm_read_stats(b->vmm, &s, &b->err))
        assert_true(error_text(&b->err)[0] != 0);
    error_clear(&b->err);
    bench_faults("[]");
    bench_ok(b, vmm_read_stats(b->vmm, &s, &b->err));
    bench_type(b, "say on");
    bench_hear(b, "said on");
}

const struct scenario fault_scenarios[] = {
    {"fault: the start is refused", start_refused, PRETENDED_ONLY},
    {"fault: cut before the answer to the start", start_cut_before, PRETENDED_ONLY},
    {"fault: cut inside the answer to the start", start_cut_inside, PRETENDED_ONLY},
    {"fault: cut instead of an answer to the start", start_cut_after, PRETENDED_ONLY},
    {"fault: it ends at the start", start_dies, PRETENDED_ONLY},
    {"fault: it crashes at the start", start_dies_by_signal, PRETENDED_ONLY},
    {"fault: it is silent at the start", start_silence, PRETENDED_ONLY, true},
    {"fault: garbage for an answer", start_garbage, PRETENDED_ONLY},
    {"fault: an answer without end", start_huge, PRETENDED_ONLY},
    {"fault: headers without end", start_headers, PRETENDED_ONLY},
    {"fault: the process exits at once", process_exits, PRETENDED_ONLY},
    {"fault: its API never appears", process_never_listens, PRETENDED_ONLY, true},
    {"fault: its API appears late", process_listens_late, PRETENDED_ONLY},
    {"fault: it answers slowly", slow_answers, PRETENDED_ONLY},
    {"fault: it dies at each request of the start", each_request_dies, PRETENDED_ONLY},
    {"fault: it cuts off each answer of the start", each_request_is_cut, PRETENDED_ONLY},
    {"fault: a pause is refused", pause_refused, PRETENDED_ONLY},
    {"fault: a pause is cut off", pause_answer_cut, PRETENDED_ONLY},
    {"fault: it dies of a pause", dies_on_pause, PRETENDED_ONLY},
    {"fault: it is silent about a pause", silent_on_pause, PRETENDED_ONLY, true},
    {"fault: garbage for counters", garbage_as_counters, PRETENDED_ONLY},
    {0},
};
