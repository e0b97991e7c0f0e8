#include "http/exchange.h"
#include "http/stream.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/limits.h"

#include <assert.h>

#define GZIP_FROM (128u << 10)
#define APPEND_SIZE 2048u /* small writes share a segment of this size */

static const char *const method_names[] = {
    [HTTP_GET] = "GET",         [HTTP_HEAD] = "HEAD",       [HTTP_POST] = "POST",
    [HTTP_PUT] = "PUT",         [HTTP_PATCH] = "PATCH",     [HTTP_DELETE] = "DELETE",
    [HTTP_OPTIONS] = "OPTIONS", [HTTP_CONNECT] = "CONNECT",
};

const char *http_method_name(enum http_method m)
{
    return method_names[m];
}

const char *http_status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } known[] = {
        {100, "Continue"},
        {101, "Switching Protocols"},
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {206, "Partial Content"},
        {301, "Moved Permanently"},
        {302, "Found"},
        {304, "Not Modified"},
        {307, "Temporary Redirect"},
        {308, "Permanent Redirect"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {406, "Not Acceptable"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {411, "Length Required"},
        {412, "Precondition Failed"},
        {413, "Request Entity Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {416, "Range Not Satisfiable"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {422, "Unprocessable Entity"},
        {426, "Upgrade Required"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };

    for (size_t i = 0; i < ARRAY_SIZE(known); i++)
        if (known[i].status == status)
            return known[i].text;
    return "Unknown";
}

static struct stream *stream_of(const struct exchange *x)
{
    return container_of((struct exchange *)(uintptr_t)x, struct stream, x);
}

/* Blocks */

static struct block *block_sized(size_t size)
{
    struct block *b = xcalloc(1, sizeof *b + size);
    b->refs = 1;
    return b;
}

struct block *block_new(struct str data)
{
    struct block *b = block_sized(data.n);
    b->n = data.n;
    if (data.n > 0)
        memcpy(b->p, data.p, data.n);
    return b;
}

struct block *block_ref(struct block *b)
{
    b->refs++;
    return b;
}

void block_unref(struct block *b)
{
    if (b && --b->refs == 0)
        free(b);
}

/* Streams */

struct stream *stream_new(struct loop *l, struct peer *peer, const struct stream_ops *ops,
                          void *owner)
{
    struct stream *s = NEW(struct stream);
    s->x.arena.first = 1024; /* an idle watch keeps it all its life */
    s->x.loop = l;
    s->x.peer = &peer->info;
    s->peer = peer_ref(peer);
    s->ops = ops;
    s->owner = owner;
    s->length = -1;
    return s;
}

static void drop_body(struct stream *s)
{
    if (s->body_budget)
        s->body_budget->bytes -= s->body_charged;
    s->body_charged = 0;
    list_remove(&s->body_node);
    buf_done(&s->body);
    s->x.body = STR_NONE;
}

static void observed(struct stream *s, enum exchange_stage stage)
{
    if (s->x.observe)
        s->x.observe(&s->x, s->status, stage);
}

static void stream_free(struct stream *s)
{
    observed(s, EXCHANGE_GONE);
    if (s->x.guard.over)
        s->x.guard.over(s->x.guard.data);
    list_remove(&s->node);
    drop_body(s);
    for (size_t i = s->out_first; i < s->out.n; i++)
        block_unref(s->out.p[i].block);
    vec_done(&s->out);
    vec_done(&s->reply);
    vec_done(&s->trailers);
    body_free(s->source);
    arena_done(&s->x.arena);
    peer_unref(s->peer);
    free(s);
}

void stream_done(struct stream *s)
{
    assert(s->ended || !s->dispatched);
    stream_free(s);
}

void stream_lost(struct stream *s)
{
    s->owner = NULL;
    s->ops = NULL;
    list_remove(&s->node);
    if (s->body_budget)
        s->body_budget->bytes -= s->body_charged;
    list_remove(&s->body_node);
    s->body_budget = NULL; /* the server may go before an orphan does */
    if (s->ended || !s->dispatched) {
        stream_free(s);
    } else if (s->x.closed) {
        s->ended = true;
        s->x.closed(&s->x);
        stream_free(s);
    } /* else: freed when the handler answers into the void */
}

bool stream_add_body(struct stream *s, struct str data)
{
    buf_add(&s->body, data.p, data.n);
    if (s->body.overflow)
        return false;
    if (s->body_budget && s->body_charged == 0 && data.n > 0)
        list_add_tail(&s->body_budget->waiting, &s->body_node);
    s->body_charged += data.n;
    if (s->body_budget)
        s->body_budget->bytes += data.n;
    s->x.body = buf_str(&s->body);
    return true;
}

void stream_body_complete(struct stream *s)
{
    list_remove(&s->body_node);
}

void stream_add_request_header(struct stream *s, struct str name, struct str value)
{
    struct exchange *x = &s->x;

    if (x->n_headers == s->headers_cap) {
        size_t cap = s->headers_cap ? 2 * s->headers_cap : 16;
        struct http_header *bigger = ARENA_ARRAY(&x->arena, struct http_header, cap);
        if (x->n_headers > 0)
            memcpy(bigger, x->headers, x->n_headers * sizeof *bigger);
        x->headers = bigger;
        s->headers_cap = cap;
    }
    x->headers[x->n_headers++] =
        (struct http_header){arena_str(&x->arena, name), arena_str(&x->arena, value)};
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* False: a broken escape. */
static bool percent_decode(struct arena *a, struct str text, bool plus, struct str *ret)
{
    char *p = arena_alloc_bytes(a, text.n + 1);
    size_t n = 0;

    for (size_t i = 0; i < text.n; i++) {
        char c = text.p[i];
        if (c == '%') {
            int hi = i + 2 < text.n ? hex_digit(text.p[i + 1]) : -1;
            int lo = i + 2 < text.n ? hex_digit(text.p[i + 2]) : -1;
            if (hi < 0 || lo < 0)
                return false;
            c = (char)(hi << 4 | lo);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        p[n++] = c;
    }
    p[n] = '\0';
    *ret = str_n(p, n);
    return true;
}

static bool path_is_safe(struct str path)
{
    struct str rest = path, part;

    if (path.n == 0 || path.p[0] != '/' || memchr(path.p, '\0', path.n) || !str_valid_utf8(path))
        return false;
    while (str_next(&rest, '/', &part))
        if (str_is(part, ".") || str_is(part, ".."))
            return false;
    return true;
}

bool stream_set_target(struct stream *s, struct str target, struct error *err)
{
    struct exchange *x = &s->x;
    struct str raw, query;

    x->target = arena_str(&x->arena, target);
    if (str_is(x->target, "*") && x->method == HTTP_OPTIONS) {
        x->path = x->target;
        return true;
    }
    if (str_starts(x->target, STR("http://")) || str_starts(x->target, STR("https://"))) {
        struct str host; /* absolute form, as proxies send it */
        size_t at = 0;
        if (!str_find(x->target, STR("://"), &at))
            return error_set(err, ERROR_BAD_REQUEST, "bad request target");
        host = str_skip(x->target, at + 3);
        x->target = str_find(host, STR("/"), &at) ? str_skip(host, at) : STR("/");
        str_cut(host, '/', &host, &query);
        if (!str_eq_nocase(host,
                           exchange_header(
                               x, "host"))) /* two names for one request: someone is being fooled */
            return error_set(err, ERROR_BAD_REQUEST, "the request target's host is not the Host");
    }
    str_cut(x->target, '?', &raw, &query);
    x->query = query;
    if (str_has(x->target, '#') || !percent_decode(&x->arena, raw, false, &x->path)
        || !path_is_safe(x->path))
        return error_set(err, ERROR_BAD_REQUEST, "bad request target");
    return true;
}

bool stream_has_body(const struct stream *s)
{
    return s->x.method != HTTP_HEAD && s->status != 204 && s->status != 304 && s->status >= 200;
}

/* Output */

static void push_segment(struct stream *s, struct block *take_block, size_t cap)
{
    if (s->out_first > 32 && s->out_first * 2 > s->out.n) {
        memmove(s->out.p, s->out.p + s->out_first, (s->out.n - s->out_first) * sizeof *s->out.p);
        s->out.n -= s->out_first;
        s->out_first = 0;
    }
    vec_push(&s->out, (struct segment){take_block, 0, cap});
}

static void push_bytes(struct stream *s, struct str data)
{
    struct segment *last = s->out.n > s->out_first ? &s->out.p[s->out.n - 1] : NULL;

    s->queued += data.n;
    if (last && last->cap >= last->block->n + data.n) {
        memcpy(last->block->p + last->block->n, data.p, data.n);
        last->block->n += data.n;
        return;
    }
    if (data.n >= APPEND_SIZE / 2) {
        push_segment(s, block_new(data), 0);
        return;
    }
    struct block *b = block_sized(APPEND_SIZE);
    memcpy(b->p, data.p, data.n);
    b->n = data.n;
    push_segment(s, b, APPEND_SIZE);
}

size_t stream_pull(struct stream *s, char *p, size_t n)
{
    size_t done = 0;

    if (s->source) { /* it is all of the body */
        int64_t begun = s->x.guard.spent ? loop_now_ns(s->x.loop) : 0;
        done = body_read(s->source, p, n, &s->made);
        if (s->x.guard.spent)
            s->x.guard.spent(s->x.guard.data, loop_now_ns(s->x.loop) - begun);
        if (body_ended(s->source)) {
            body_free(s->source);
            s->source = NULL;
        }
        return done;
    }
    while (done < n && s->out_first < s->out.n) {
        struct segment *seg = &s->out.p[s->out_first];
        size_t take = seg->block->n - seg->at;
        if (take > n - done)
            take = n - done;
        memcpy(p + done, seg->block->p + seg->at, take);
        done += take;
        seg->at += take;
        if (seg->at == seg->block->n) {
            block_unref(seg->block);
            s->out_first++;
        }
    }
    if (s->out_first == s->out.n) { /* idle watches keep no queue */
        vec_done(&s->out);
        s->out_first = 0;
    }
    s->queued -= done;
    return done;
}

bool stream_idle(const struct stream *s)
{
    return s->queued == 0 && !s->source;
}

bool stream_broken(const struct stream *s)
{
    return s->aborted || (s->source && body_broken(s->source));
}

bool stream_at_end(const struct stream *s)
{
    return s->ended && stream_idle(s);
}

void stream_pulled(struct stream *s)
{
    if (!s->said_full || s->ended || s->queued >= STREAM_HIGH_WATER / 2)
        return;
    s->said_full = false;
    if (s->x.writable)
        s->x.writable(&s->x);
}

/* What handlers call */

struct str exchange_header(const struct exchange *x, const char *lower_name)
{
    for (size_t i = 0; i < x->n_headers; i++)
        if (str_is(x->headers[i].name, lower_name))
            return x->headers[i].value;
    return STR_NONE;
}

bool exchange_query_next(struct exchange *x, size_t *at, struct str *ret_name,
                         struct str *ret_value)
{
    while (*at < x->query.n) {
        struct str piece, rest, name, value, plain_name, plain_value;
        str_cut(str_skip(x->query, *at), '&', &piece, &rest);
        *at += piece.n + 1;
        if (piece.n == 0)
            continue;
        if (!str_cut(piece, '=', &name, &value))
            value = STR("");
        if (!percent_decode(&x->arena, name, true, &plain_name)
            || !percent_decode(&x->arena, value, true, &plain_value))
            continue;
        *ret_name = plain_name;
        *ret_value = plain_value;
        return true;
    }
    return false;
}

struct str exchange_query(struct exchange *x, const char *name)
{
    struct str n, v;

    for (size_t at = 0; exchange_query_next(x, &at, &n, &v);)
        if (str_is(n, name))
            return v;
    return STR_NONE;
}

static struct http_header copy_header(struct exchange *x, const char *name, struct str value)
{
    struct str n = arena_str(&x->arena, str_of(name)), v = arena_str(&x->arena, value);

    for (size_t i = 0; i < n.n; i++)
        if (n.p[i] >= 'A' && n.p[i] <= 'Z')
            ((char *)(uintptr_t)n.p)[i] |= 0x20;
    for (size_t i = 0; i < v.n; i++) /* a value that echoes input cannot split the response */
        if ((unsigned char)v.p[i] < 0x20 || v.p[i] == 0x7f)
            ((char *)(uintptr_t)v.p)[i] = ' ';
    return (struct http_header){n, str_trim(v)};
}

void exchange_add_header(struct exchange *x, const char *name, struct str value)
{
    vec_push(&stream_of(x)->reply, copy_header(x, name, value));
}

void exchange_set_trailer(struct exchange *x, const char *name, struct str value)
{
    vec_push(&stream_of(x)->trailers, copy_header(x, name, value));
}

void exchange_set_header(struct exchange *x, const char *name, struct str value)
{
    struct stream *s = stream_of(x);

    for (size_t i = s->reply.n; i-- > 0;)
        if (str_eq_nocase(s->reply.p[i].name, str_of(name)))
            vec_remove(&s->reply, i);
    exchange_add_header(x, name, value);
}

/* The response has its head; an orphan that is through goes. */
static void announce(struct stream *s)
{
    if (s->ops)
        s->ops->ready(s);
    else if (s->ended)
        stream_free(s);
}

static void set_head(struct stream *s, int status, const char *content_type)
{
    assert(s->status == 0 && status >= 200);
    s->status = status;
    if (content_type)
        exchange_set_header(&s->x, "content-type", str_of(content_type));
}

static bool wants_gzip(const struct stream *s, const char *content_type, size_t n)
{
    struct str accept = exchange_header(&s->x, "accept-encoding"), part, name, q;

    if (n <= GZIP_FROM || !content_type
        || !str_starts(str_of(content_type), STR("application/json")) || s->x.method == HTTP_HEAD)
        return false;
    while (str_next(&accept, ',', &part)) {
        str_cut(part, ';', &name, &q);
        q = str_trim(q);
        if (str_eq_nocase(str_trim(name), STR("gzip")))
            return !str_is(q, "q=0") && !str_starts(q, STR("q=0.0"));
    }
    return false;
}

static void reader_too_slow(void *user)
{
    struct stream *s = user;

    body_free(s->source);
    s->source = NULL;
    s->aborted = true;
    s->ops->abort(s);
}

static void set_source(struct stream *s, struct body_source *take_source, bool gzip)
{
    if (gzip) {
        exchange_set_header(&s->x, "content-encoding", STR("gzip"));
        exchange_add_header(&s->x, "vary", STR("Accept-Encoding"));
    }
    s->source = body_new(s->x.loop, take_source, gzip, reader_too_slow, s);
}

void exchange_respond_source(struct exchange *x, int status, const char *content_type,
                             struct body_source *take_source, size_t about)
{
    struct stream *s = stream_of(x);

    set_head(s, status, content_type);
    observed(s, EXCHANGE_ANSWERED);
    s->ended = true;
    drop_body(s);
    if (s->ops && stream_has_body(s))
        set_source(s, take_source, wants_gzip(s, content_type, about));
    else
        take_source->free(take_source);
    announce(s);
}

void exchange_respond_block(struct exchange *x, int status, const char *content_type,
                            struct block *take_body)
{
    struct stream *s = stream_of(x);

    set_head(s, status, content_type);
    observed(s, EXCHANGE_ANSWERED);
    s->ended = true;
    drop_body(s);
    if (!s->ops) {
        block_unref(take_body);
        announce(s);
        return;
    }
    if (wants_gzip(s, content_type, take_body->n)) {
        set_source(s, body_of_block(take_body), true);
    } else {
        s->length = (int64_t)take_body->n;
        if (stream_has_body(s) && take_body->n > 0) {
            s->queued += take_body->n;
            push_segment(s, take_body, 0);
        } else {
            block_unref(take_body);
        }
    }
    announce(s);
}

void exchange_respond(struct exchange *x, int status, const char *content_type, struct str body)
{
    exchange_respond_block(x, status, content_type, block_new(body));
}

void exchange_start(struct exchange *x, int status, const char *content_type)
{
    struct stream *s = stream_of(x);

    set_head(s, status, content_type);
    observed(s, EXCHANGE_STREAMS);
    s->streaming = true;
    announce(s);
}

static size_t wrote(struct stream *s)
{
    s->said_full = s->said_full || s->queued >= STREAM_HIGH_WATER;
    announce(s);
    return s->queued;
}

size_t exchange_write(struct exchange *x, struct str data)
{
    struct stream *s = stream_of(x);

    assert(s->streaming && !s->ended);
    if (!s->ops || data.n == 0 || !stream_has_body(s))
        return s->queued;
    push_bytes(s, data);
    return wrote(s);
}

size_t exchange_write_block(struct exchange *x, struct block *b)
{
    struct stream *s = stream_of(x);

    assert(s->streaming && !s->ended);
    if (!s->ops || b->n == 0 || !stream_has_body(s))
        return s->queued;
    s->queued += b->n;
    push_segment(s, block_ref(b), 0);
    return wrote(s);
}

size_t exchange_queued(const struct exchange *x)
{
    return stream_of(x)->queued;
}

void exchange_end(struct exchange *x)
{
    struct stream *s = stream_of(x);

    assert(s->streaming && !s->ended);
    s->ended = true;
    announce(s);
}

void exchange_abort(struct exchange *x)
{
    struct stream *s = stream_of(x);

    assert(!s->ended);
    s->ended = s->aborted = true;
    if (s->ops)
        s->ops->abort(s);
    else
        stream_free(s);
}

void stream_refuse(struct stream *s, int status, const char *text)
{
    struct str body = str_of(arena_printf(&s->x.arena, "%s\n", text));

    s->dispatched = true;
    if (status == 503)
        exchange_set_header(&s->x, "retry-after", STR("1"));
    exchange_respond(&s->x, status, "text/plain; charset=utf-8", body);
}
