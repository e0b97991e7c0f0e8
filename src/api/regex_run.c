/* The compiler and the machine. A program is a list of instructions; a state is an index into it. For each character
 * the set of states that the text so far can be in is advanced by one step (Thompson's construction): a state is in
 * the set once, however many ways lead to it, so there is nothing to go back to. */
#include "api/regex.h"

#include "api/regex_tree.h"
#include "base/alloc.h"
#include "base/cleanup.h"

enum opcode {
    OP_SET,
    OP_SPLIT,
    OP_JUMP,
    OP_BEGIN_TEXT,
    OP_END_TEXT,
    OP_BEGIN_LINE,
    OP_END_LINE,
    OP_EDGE,
    OP_NO_EDGE,
    OP_MATCH
};
struct instruction {
    uint8_t op;
    uint32_t next, other; /* OP_SPLIT: both */
    const struct regex_range *ranges;
    uint32_t n;
};
struct regex {
    struct instruction *code;
    uint32_t n;
    bool anchored; /* begins with \A: only one place to start at */
};

/* -- compiling ------------------------------------------------------------------------------------ */

/* Parts lie side by side, so that the depth here is that of groups in groups and not that of the text's length. */
static size_t size_of(const struct regex_node *t)
{
    size_t inner = 0;

    switch (t->op) {
    case REGEX_EMPTY:
        return 0;
    case REGEX_CAT:
    case REGEX_ALT:
        for (const struct regex_node *p = t->part; p && inner <= REGEX_PROGRAM_MAX; p = p->next)
            inner += size_of(p) + (t->op == REGEX_ALT ? 2 : 0);
        break;
    case REGEX_REPEAT:
        inner = size_of(t->part);
        if (t->max < 0)
            inner = (inner + 1) * (size_t)(t->min ? t->min : 1) + 2;
        else
            inner = (inner + 1) * (size_t)t->max;
        break;
    case REGEX_SET:
    case REGEX_BEGIN_TEXT:
    case REGEX_END_TEXT:
    case REGEX_BEGIN_LINE:
    case REGEX_END_LINE:
    case REGEX_WORD_EDGE:
    case REGEX_NO_WORD_EDGE:
        return 1;
    }
    return inner > REGEX_PROGRAM_MAX ? REGEX_PROGRAM_MAX + 1 : inner;
}

static uint32_t add(struct regex *re, enum opcode op)
{
    re->code[re->n] = (struct instruction){.op = (uint8_t)op, .next = re->n + 1};
    return re->n++;
}

static void emit(struct regex *re, const struct regex_node *t);

static void emit_repeat(struct regex *re, const struct regex_node *t)
{
    uint32_t at, first = re->n;

    for (int i = 0; i < t->min; i++) {
        first = re->n;
        emit(re, t->part);
    }
    if (t->max < 0 && t->min > 0) { /* x+: back to the last one */
        at = add(re, OP_SPLIT);
        re->code[at].other = at + 1;
        re->code[at].next = first;
    } else if (t->max < 0) { /* x* */
        at = add(re, OP_SPLIT);
        emit(re, t->part);
        re->code[add(re, OP_JUMP)].next = at;
        re->code[at].other = re->n;
    }
    for (int i = t->min; i < t->max; i++) {
        at = add(re, OP_SPLIT);
        emit(re, t->part);
        re->code[at].other = re->n; /* out of this one, which is before the split of the next */
    }
}

static void emit_choice(struct regex *re, const struct regex_node *t)
{
    uint32_t ends = UINT32_MAX; /* the jumps to the end, each naming the one before */

    for (const struct regex_node *p = t->part; p; p = p->next) {
        uint32_t at = p->next ? add(re, OP_SPLIT) : 0, jump;

        emit(re, p);
        if (!p->next)
            break;
        jump = add(re, OP_JUMP);
        re->code[jump].next = ends;
        ends = jump;
        re->code[at].other = re->n;
    }
    while (ends != UINT32_MAX) {
        uint32_t before = re->code[ends].next;

        re->code[ends].next = re->n;
        ends = before;
    }
}

static void emit(struct regex *re, const struct regex_node *t)
{
    static const enum opcode edges[] = {
        [REGEX_BEGIN_TEXT] = OP_BEGIN_TEXT, [REGEX_END_TEXT] = OP_END_TEXT,
        [REGEX_BEGIN_LINE] = OP_BEGIN_LINE, [REGEX_END_LINE] = OP_END_LINE,
        [REGEX_WORD_EDGE] = OP_EDGE,        [REGEX_NO_WORD_EDGE] = OP_NO_EDGE,
    };
    uint32_t at;

    switch (t->op) {
    case REGEX_EMPTY:
        return;
    case REGEX_SET:
        at = add(re, OP_SET);
        re->code[at].ranges = t->ranges;
        re->code[at].n = (uint32_t)t->n;
        return;
    case REGEX_CAT:
        for (const struct regex_node *p = t->part; p; p = p->next)
            emit(re, p);
        return;
    case REGEX_ALT:
        emit_choice(re, t);
        return;
    case REGEX_REPEAT:
        emit_repeat(re, t);
        return;
    case REGEX_BEGIN_TEXT:
    case REGEX_END_TEXT:
    case REGEX_BEGIN_LINE:
    case REGEX_END_LINE:
    case REGEX_WORD_EDGE:
    case REGEX_NO_WORD_EDGE:
        add(re, edges[t->op]);
        return;
    }
}

bool regex_compile(struct arena *a, struct str pattern, const struct regex **ret, struct error *err)
{
    struct regex_node *tree;
    struct regex *re;
    size_t n;

    if (!regex_parse(a, pattern, &tree, err))
        return false;
    n = size_of(tree);
    if (n > REGEX_PROGRAM_MAX)
        return error_set(err, ERROR_INVALID, "error parsing regexp: expression too large");
    re = ARENA_NEW(a, struct regex);
    re->code = ARENA_ARRAY(a, struct instruction, n + 1);
    emit(re, tree);
    add(re, OP_MATCH);
    re->anchored = re->code[0].op == OP_BEGIN_TEXT;
    *ret = re;
    return true;
}

size_t regex_size(const struct regex *re)
{
    return re->n;
}

/* -- running -------------------------------------------------------------------------------------- */

struct set { /* sparse: a member is one whose place in `dense` names it */
    uint32_t *dense, *sparse, n;
};
struct machine {
    const struct regex *re;
    struct set now, next;
    uint32_t *stack;
    size_t steps;
    int32_t before, after; /* characters around the place; -1 at the ends */
    bool matched;
};

static bool set_add(struct set *s, uint32_t v)
{
    if (s->sparse[v] < s->n && s->dense[s->sparse[v]] == v)
        return false;
    s->sparse[v] = s->n;
    s->dense[s->n++] = v;
    return true;
}

static bool is_word(int32_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static bool edge_holds(const struct machine *m, uint8_t op)
{
    switch ((enum opcode)op) {
    case OP_BEGIN_TEXT:
        return m->before < 0;
    case OP_END_TEXT:
        return m->after < 0;
    case OP_BEGIN_LINE:
        return m->before < 0 || m->before == '\n';
    case OP_END_LINE:
        return m->after < 0 || m->after == '\n';
    case OP_EDGE:
        return is_word(m->before) != is_word(m->after);
    case OP_NO_EDGE:
        return is_word(m->before) == is_word(m->after);
    case OP_SET:
    case OP_SPLIT:
    case OP_JUMP:
    case OP_MATCH:
        break;
    }
    return false;
}

/* A state and all that it reaches without a character. The stack holds each state at most twice. */
static void reach(struct machine *m, struct set *s, uint32_t start)
{
    size_t top = 0;

    m->stack[top++] = start;
    while (top) {
        uint32_t at = m->stack[--top];
        const struct instruction *i = &m->re->code[at];

        if (!set_add(s, at))
            continue;
        m->steps++;
        switch ((enum opcode)i->op) {
        case OP_SET:
            break;
        case OP_MATCH:
            m->matched = true;
            break;
        case OP_SPLIT:
            m->stack[top++] = i->other;
            m->stack[top++] = i->next;
            break;
        case OP_JUMP:
            m->stack[top++] = i->next;
            break;
        case OP_BEGIN_TEXT:
        case OP_END_TEXT:
        case OP_BEGIN_LINE:
        case OP_END_LINE:
        case OP_EDGE:
        case OP_NO_EDGE:
            if (edge_holds(m, i->op))
                m->stack[top++] = i->next;
            break;
        }
    }
}

static bool in_ranges(const struct instruction *i, uint32_t c)
{
    size_t low = 0, high = i->n;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (c < i->ranges[middle].low)
            high = middle;
        else if (c > i->ranges[middle].high)
            low = middle + 1;
        else
            return true;
    }
    return false;
}

/* The character at a place, U+FFFD for a byte that is none; -1 at the end. */
static int32_t character(struct str text, size_t at, size_t *ret_n)
{
    const unsigned char *p = (const unsigned char *)text.p + at;
    size_t left = text.n - at, n;
    uint32_t c;

    *ret_n = 1;
    if (at >= text.n)
        return -1;
    if (p[0] < 0x80)
        return p[0];
    n = p[0] >= 0xf0 && p[0] < 0xf5   ? 4
        : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
        : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
                                      : 0;
    if (!n || n > left)
        return 0xfffd;
    c = p[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0xfffd;
        c = c << 6 | (p[i] & 0x3fu);
    }
    if ((n == 3 && (c < 0x800 || (c >= 0xd800 && c < 0xe000)))
        || (n == 4 && (c < 0x10000 || c > 0x10ffff)))
        return 0xfffd;
    *ret_n = n;
    return (int32_t)c;
}

static void swap(struct machine *m)
{
    struct set was = m->now;

    m->now = m->next;
    m->next = was;
}

static bool run(struct machine *m, struct str text)
{
    size_t at = 0, n;

    m->before = -1;
    m->after = character(text, 0, &n);
    for (;;) {
        int32_t c = m->after;

        if (at == 0 || !m->re->anchored)
            reach(m, &m->now, 0);
        if (m->matched)
            return true;
        if (c < 0 || !m->now.n || m->steps > REGEX_STEPS_MAX)
            return false;
        at += n;
        m->before = c;
        m->after = character(text, at, &n);
        m->next.n = 0;
        for (uint32_t i = 0; i < m->now.n; i++) {
            const struct instruction *in = &m->re->code[m->now.dense[i]];

            if (in->op == OP_SET && in_ranges(in, (uint32_t)c))
                reach(m, &m->next, in->next);
        }
        m->steps += m->now.n;
        swap(m);
        if (m->matched)
            return true;
    }
}

bool regex_found(const struct regex *re, struct str text)
{
    AUTO_FREE uint32_t *memory = xcalloc((size_t)re->n * 7 + 2, sizeof *memory);
    struct machine m = {
        .re = re,
        .now = {memory, memory + re->n, 0},
        .next = {memory + re->n * 2, memory + re->n * 3, 0},
        .stack = memory + re->n * 4,
    };

    return run(&m, text.p ? text : STR(""));
}

bool regex_check(struct str pattern, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    const struct regex *re;

    return regex_compile(&a, pattern, &re, err);
}

bool regex_match(const char *pattern, struct str text)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    const struct regex *re;

    return regex_compile(&a, str_of(pattern), &re, &err) && regex_found(re, text);
}
