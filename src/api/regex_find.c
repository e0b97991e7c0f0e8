/* Which part of a text an expression matches: the leftmost one, and of those that start there the one that its order of
 * preference names (as Perl and Go). The program is made from the same tree as regex_run.c's, which only asks whether
 * there is a match; here each state carries where it began, and the list of states keeps the order of preference. */
#include "api/regex.h"

#include "api/regex_tree.h"
#include "base/alloc.h"
#include "base/cleanup.h"

enum op { OP_SET, OP_ASSERT, OP_SPLIT, OP_MATCH };
struct inst {
    enum op op;
    enum regex_op assertion;
    uint32_t x, y; /* next; split: x is preferred */
    const struct regex_range *ranges;
    uint32_t n;
};
struct regex_finder {
    const struct inst *p;
    uint32_t n, start;
};

/* -- program -------------------------------------------------------------------------------------- */

struct emitter {
    struct inst *p;
    uint32_t n;
    bool full;
};

static uint32_t emit(struct emitter *e, struct inst i)
{
    if (e->n >= REGEX_PROGRAM_MAX) {
        e->full = true;
        return 0;
    }
    e->p[e->n] = i;
    return e->n++;
}

static uint32_t emit_node(struct emitter *e, const struct regex_node *t, uint32_t next);

static uint32_t emit_parts(struct emitter *e, const struct regex_node *part, uint32_t next,
                           bool choice)
{
    const struct regex_node **parts;
    size_t n = 0;
    uint32_t at = next;

    for (const struct regex_node *p = part; p; p = p->next)
        n++;
    parts = xcalloc(n + 1, sizeof *parts);
    n = 0;
    for (const struct regex_node *p = part; p; p = p->next)
        parts[n++] = p;
    for (size_t i = n; i > 0 && !e->full; i--) {
        uint32_t one = emit_node(e, parts[i - 1], choice ? next : at);

        at = choice && i < n ? emit(e, (struct inst){.op = OP_SPLIT, .x = one, .y = at}) : one;
    }
    free(parts);
    return at;
}

static uint32_t emit_repeat(struct emitter *e, const struct regex_node *t, uint32_t next)
{
    uint32_t x, end = next;

    if (t->max < 0) {
        uint32_t loop = emit(e, (struct inst){.op = OP_SPLIT});

        x = emit_node(e, t->part, loop);
        if (e->full)
            return 0;
        e->p[loop].x = t->lazy ? next : x;
        e->p[loop].y = t->lazy ? x : next;
        next = loop;
    }
    for (int i = t->min; i < t->max && !e->full; i++) {
        x = emit_node(e, t->part, next);
        next =
            emit(e, (struct inst){.op = OP_SPLIT, .x = t->lazy ? end : x, .y = t->lazy ? x : end});
    }
    for (int i = 0; i < t->min && !e->full; i++)
        next = emit_node(e, t->part, next);
    return next;
}

/* Emits what matches t and goes on at `next`; returns where it starts. Programs are made from their end. */
static uint32_t emit_node(struct emitter *e, const struct regex_node *t, uint32_t next)
{
    if (e->full)
        return 0;
    switch (t->op) {
    case REGEX_EMPTY:
        return next;
    case REGEX_SET:
        return emit(
            e, (struct inst){.op = OP_SET, .x = next, .ranges = t->ranges, .n = (uint32_t)t->n});
    case REGEX_CAT:
        return emit_parts(e, t->part, next, false);
    case REGEX_ALT:
        return emit_parts(e, t->part, next, true);
    case REGEX_REPEAT:
        return emit_repeat(e, t, next);
    case REGEX_BEGIN_TEXT:
    case REGEX_END_TEXT:
    case REGEX_BEGIN_LINE:
    case REGEX_END_LINE:
    case REGEX_WORD_EDGE:
    case REGEX_NO_WORD_EDGE:
        return emit(e, (struct inst){.op = OP_ASSERT, .x = next, .assertion = t->op});
    }
    return next;
}

bool regex_finder_compile(struct arena *a, struct str pattern, const struct regex_finder **ret,
                          struct error *err)
{
    struct arena scratch = {0};
    struct emitter e = {0};
    struct regex_node *tree;
    struct regex_finder *re;
    struct inst *copy;

    if (!regex_parse(a, pattern, &tree, err))
        return false;
    e.p = ARENA_ARRAY(&scratch, struct inst, REGEX_PROGRAM_MAX);
    re = ARENA_NEW(a, struct regex_finder);
    re->start = emit_node(&e, tree, emit(&e, (struct inst){.op = OP_MATCH}));
    if (!e.full) {
        copy = ARENA_ARRAY(a, struct inst, e.n);
        memcpy(copy, e.p, e.n * sizeof *copy);
        re->p = copy;
        re->n = e.n;
        *ret = re;
    }
    arena_done(&scratch);
    return !e.full || error_set(err, ERROR_INVALID, "error parsing regexp: expression too large");
}

size_t regex_finder_size(const struct regex_finder *re)
{
    return re->n;
}

/* -- run ------------------------------------------------------------------------------------------ */

#define RUNE_MAX 0x10ffff

/* One character of UTF-8; a bad byte is itself, as U+FFFD of one byte in Go. */
static uint32_t rune_at(struct str s, size_t at, size_t *ret_n)
{
    const unsigned char *p = (const unsigned char *)s.p + at;
    size_t left = s.n - at;
    uint32_t r;

    *ret_n = 1;
    if (p[0] < 0x80)
        return p[0];
    if (p[0] >= 0xc2 && p[0] < 0xe0 && left >= 2 && (p[1] & 0xc0) == 0x80) {
        *ret_n = 2;
        return (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
    }
    if (p[0] >= 0xe0 && p[0] < 0xf0 && left >= 3 && (p[1] & 0xc0) == 0x80
        && (p[2] & 0xc0) == 0x80) {
        r = (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
        if (r >= 0x800) {
            *ret_n = 3;
            return r;
        }
    }
    if (p[0] >= 0xf0 && p[0] < 0xf5 && left >= 4 && (p[1] & 0xc0) == 0x80 && (p[2] & 0xc0) == 0x80
        && (p[3] & 0xc0) == 0x80) {
        r = (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12
            | (uint32_t)(p[2] & 0x3f) << 6 | (p[3] & 0x3f);
        if (r >= 0x10000 && r <= RUNE_MAX) {
            *ret_n = 4;
            return r;
        }
    }
    return 0xfffd;
}

struct thread {
    uint32_t pc;
    size_t start;
};
struct threads { /* a sparse set keeps the order of preference and knows its members in one look */
    struct thread *p;
    uint32_t *sparse, n;
};
struct runner {
    const struct regex_finder *re;
    struct str text;
    uint32_t *stack;
};

static bool word_at(struct str s, size_t at)
{
    char c;

    if (at >= s.n)
        return false;
    c = s.p[at];
    return c == '_' || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
}

static bool holds(enum regex_op a, struct str s, size_t at)
{
    bool edge = (at > 0 && word_at(s, at - 1)) != word_at(s, at);

    switch (a) {
    case REGEX_BEGIN_TEXT:
        return at == 0;
    case REGEX_END_TEXT:
        return at == s.n;
    case REGEX_BEGIN_LINE:
        return at == 0 || s.p[at - 1] == '\n';
    case REGEX_END_LINE:
        return at == s.n || s.p[at] == '\n';
    case REGEX_WORD_EDGE:
        return edge;
    case REGEX_NO_WORD_EDGE:
        return !edge;
    case REGEX_EMPTY:
    case REGEX_SET:
    case REGEX_CAT:
    case REGEX_ALT:
    case REGEX_REPEAT:
        break;
    }
    return false;
}

/* Follows what needs no character. The stack never holds more than two entries per instruction. */
static void follow(struct runner *r, struct threads *t, uint32_t pc, size_t start, size_t at)
{
    uint32_t depth = 0;

    r->stack[depth++] = pc;
    while (depth) {
        const struct inst *i;

        pc = r->stack[--depth];
        if (t->sparse[pc] < t->n && t->p[t->sparse[pc]].pc == pc)
            continue;
        t->sparse[pc] = t->n;
        t->p[t->n++] = (struct thread){pc, start};
        i = &r->re->p[pc];
        if (i->op == OP_SPLIT) {
            r->stack[depth++] = i->y;
            r->stack[depth++] = i->x;
        } else if (i->op == OP_ASSERT && holds(i->assertion, r->text, at)) {
            r->stack[depth++] = i->x;
        }
    }
}

static bool in_set(const struct inst *i, uint32_t rune)
{
    size_t lo = 0, hi = i->n;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (rune > i->ranges[mid].high)
            lo = mid + 1;
        else if (rune < i->ranges[mid].low)
            hi = mid;
        else
            return true;
    }
    return false;
}

static void threads_init(struct threads *t, struct arena *a, size_t n)
{
    t->p = ARENA_ARRAY(a, struct thread, n);
    t->sparse = ARENA_ARRAY(a, uint32_t, n);
    t->n = 0;
}

bool regex_find(const struct regex_finder *re, struct str text, size_t from, struct arena *a,
                size_t *ret_start, size_t *ret_end)
{
    struct threads now, next;
    struct runner r = {re, text, ARENA_ARRAY(a, uint32_t, 2 * (size_t)re->n + 2)};
    bool found = false;

    threads_init(&now, a, re->n);
    threads_init(&next, a, re->n);
    for (size_t at = from; at <= text.n;) {
        size_t width = 1;
        uint32_t rune = at < text.n ? rune_at(text, at, &width) : UINT32_MAX;
        struct threads swap;

        if (!found)
            follow(&r, &now, re->start, at, at);
        else if (now.n == 0)
            break;
        next.n = 0;
        for (uint32_t i = 0; i < now.n; i++) {
            const struct inst *in = &re->p[now.p[i].pc];

            if (in->op == OP_MATCH) {
                found = true;
                *ret_start = now.p[i].start;
                *ret_end = at;
                break; /* what is less preferred is cut off */
            }
            if (in->op == OP_SET && in_set(in, rune))
                follow(&r, &next, in->x, now.p[i].start, at + width);
        }
        at += width;
        swap = now;
        now = next;
        next = swap;
    }
    return found;
}
