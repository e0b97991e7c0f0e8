#include "ctl/ctl.h"

#include <stdio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "http/tls.h"

const struct flag ctl_global_flags[] = {
    {"kubeconfig", 0, FLAG_STRING, NULL, "kubeconfig file, instead of $KUBECONFIG or ~/.kube/config"},
    {"context", 0, FLAG_STRING, NULL, "context of the kubeconfig"},
    {"cluster", 0, FLAG_STRING, NULL, "cluster of the kubeconfig"},
    {"user", 0, FLAG_STRING, NULL, "user of the kubeconfig"},
    {"namespace", 'n', FLAG_STRING, NULL, "namespace, instead of the context's"},
    {"server", 's', FLAG_STRING, NULL, "address of the API server"},
    {"token", 0, FLAG_STRING, NULL, "bearer token"},
    {"certificate-authority", 0, FLAG_STRING, NULL, "file of the authority to trust"},
    {"client-certificate", 0, FLAG_STRING, NULL, "file of the client certificate"},
    {"client-key", 0, FLAG_STRING, NULL, "file of its key"},
    {"tls-server-name", 0, FLAG_STRING, NULL, "name that the server's certificate must have"},
    {"insecure-skip-tls-verify", 0, FLAG_BOOL, NULL, "do not check the server's certificate"},
    {"request-timeout", 0, FLAG_INT, "60", "seconds to wait for an answer"},
    {"v", 'v', FLAG_INT, NULL, "accepted for scripts written for other builds; prints nothing more"},
};
const size_t ctl_n_global_flags = ARRAY_SIZE(ctl_global_flags);

/* --- output ------------------------------------------------------------------------------------------------------------------ */

static void print_to(int fd, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
static void print_to(int fd, const char *fmt, va_list ap)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error ignored = {0}; /* whoever closed our output does not want it */

    buf_vaddf(&b, fmt, ap);
    if (!file_write_all(fd, buf_str(&b), &ignored))
        return;
}

void ctl_print(struct ctl *c, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    print_to(c->io.out, fmt, ap);
    va_end(ap);
}

void ctl_notice(struct ctl *c, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    print_to(c->io.err, fmt, ap);
    va_end(ap);
}

bool ctl_print_buf(struct ctl *c, const struct buf *b, struct error *err)
{
    if (!buf_ok(b, "output", err))
        return false;
    return file_write_all(c->io.out, buf_str(b), err) || error_wrap(err, "standard output");
}

/* --- the server -------------------------------------------------------------------------------------------------------------- */

static const char *given(const struct ctl *c, const char *name)
{
    return flags_given(&c->flags, name) ? flags_str(&c->flags, name) : NULL;
}

bool ctl_load_config(struct ctl *c, struct error *err)
{
    const struct kubeconfig_flags f = {
        .kubeconfig = given(c, "kubeconfig"), .env = getenv("KUBECONFIG"), .home = getenv("HOME"),
        .context = given(c, "context"), .cluster = given(c, "cluster"),
        .user = given(c, "user"),
        .ns = given(c, "namespace"), .server = given(c, "server"), .token = given(c, "token"),
        .tls_server_name = given(c, "tls-server-name"), .certificate_authority = given(c, "certificate-authority"),
        .client_certificate = given(c, "client-certificate"), .client_key = given(c, "client-key"),
        .insecure = flags_bool(&c->flags, "insecure-skip-tls-verify"),
    };

    if (c->config.host)
        return true;
    return kubeconfig_load(&f, &c->config, err);
}

bool ctl_connect(struct ctl *c, struct error *err)
{
    if (c->http)
        return true;
    if (!ctl_load_config(c, err))
        return false;
    if (c->config.tls) {
        c->tls = http_tls_new(&(struct http_tls_config){.cert_pem = c->config.cert_pem, .key_pem = c->config.key_pem,
                                                        .ca_pem = c->config.insecure ? NULL : c->config.ca_pem,
                                                        .insecure = c->config.insecure,
                                                        .server_name = c->config.tls_server_name},
                              err);
        if (!c->tls)
            return error_wrap(err, "kubeconfig");
    }
    c->http = http_client_new(&(struct http_client_config){.loop = c->loop, .host = c->config.host, .port = c->config.port,
                                                           .tls = c->tls, .bearer_token = c->config.token,
                                                           .user_agent = "virtctl/" VIREO_VERSION});
    return true;
}

void ctl_disconnect(struct ctl *c)
{
    http_client_free(c->http);
    c->http = NULL;
    http_tls_free(c->tls);
    c->tls = NULL;
}

void ctl_wait(struct ctl *c, const bool *flag)
{
    while (!*flag)
        loop_turn(c->loop, SECONDS(60));
}

static enum error_kind kind_of(int status)
{
    switch (status) {
    case 401:
        return ERROR_UNAUTHORIZED;
    case 403:
        return ERROR_FORBIDDEN;
    case 404:
        return ERROR_NOT_FOUND;
    case 409:
        return ERROR_CONFLICT;
    case 422:
        return ERROR_INVALID;
    case 501:
        return ERROR_UNSUPPORTED;
    case 503:
        return ERROR_UNAVAILABLE;
    default:
        return status >= 500 ? ERROR_INTERNAL : ERROR_BAD_REQUEST;
    }
}

bool ctl_status_error(struct error *err, int status, struct str body)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error ignored = {0};
    const struct json *answer;
    struct str message = STR_NONE;

    if (json_parse(body, &a, &answer, &ignored))
        message = json_str_at(answer, "message");
    if (!message.n)
        message = str_take(str_trim(body), 500);
    if (message.n)
        error_set(err, kind_of(status), STR_FMT, STR_ARG(message));
    else
        error_set(err, kind_of(status), "HTTP status %d", status);
    if (status == 401)
        error_wrap(err, "the API server does not accept these credentials (see --token and the kubeconfig's user)");
    return false;
}

struct waiting {
    bool done;
    int status;
    struct buf text;
    struct error err;
};

static void on_done(void *user, int status, struct str body, const struct error *err)
{
    struct waiting *w = user;

    w->done = true;
    w->status = status;
    if (err->kind != ERROR_NONE)
        error_set(&w->err, err->kind, "%s", error_text(err));
    else
        buf_addstr(&w->text, body);
}

bool ctl_call(struct ctl *c, enum http_method method, const char *path, const struct json *body, struct ctl_reply *ret,
              struct error *err)
{
    AUTO(buf_done) struct buf text = {0};
    AUTO_FREE char *full = NULL;
    const struct http_header accept = {STR_INIT("accept"), STR_INIT("application/json")};
    struct waiting w = {0};
    AUTO(error_clear) struct error ignored = {0};
    bool ok;

    if (!ctl_connect(c, err))
        return false;
    full = xasprintf("%s%s", c->config.prefix, path);
    if (body)
        json_write(&text, body);
    http_client_call(c->http, &(struct http_request){.method = method, .path = str_of(full), .headers = &accept, .n_headers = 1,
                                                     .body = buf_str(&text),
                                                     .content_type = !body                  ? STR_NONE
                                                                     : method == HTTP_PATCH ? STR("application/merge-patch+json")
                                                                                            : STR("application/json"),
                                                     .timeout_ns = SECONDS(flags_int(&c->flags, "request-timeout")),
                                                     .done = on_done, .user = &w});
    ctl_wait(c, &w.done);
    if (w.err.kind != ERROR_NONE) {
        error_move(err, &w.err);
        ok = error_wrap(err, "the API server cannot be reached (see --server and the kubeconfig)");
    } else if (w.status >= 400) {
        ok = ctl_status_error(err, w.status, buf_str(&w.text));
    } else {
        ok = true;
    }
    if (ok && ret) {
        ret->status = w.status;
        ret->text = TAKE(w.text);
        if (!json_parse_borrowed(buf_str(&ret->text), &ret->arena, &ret->body, &ignored))
            ret->body = NULL;
    }
    buf_done(&w.text);
    return ok;
}

void ctl_reply_done(struct ctl_reply *r)
{
    buf_done(&r->text);
    arena_done(&r->arena);
    *r = (struct ctl_reply){0};
}

/* --- verbs and help ---------------------------------------------------------------------------------------------------------- */

static const char *program_name(const char *argv0)
{
    const char *slash = strrchr(argv0, '/');
    const char *base = slash ? slash + 1 : argv0;

    return strncmp(base, "kubectl-", 8) == 0 ? "kubectl virt" : "virtctl";
}

static void add_global_flags(struct buf *b)
{
    buf_adds(b, "\nfor every verb\n");
    flags_help(&(struct flag_set){ctl_global_flags, ctl_n_global_flags}, b);
}

static void add_overview(struct buf *b, const char *program)
{
    buf_addf(b, "%s: virtual machines on Kubernetes and Vireo\n\nusage: %s VERB [flags]\n\n", program, program);
    for (size_t i = 0; ctl_verbs[i]; i++)
        if (ctl_verbs[i]->run)
            buf_addf(b, "  %-14s %s\n", ctl_verbs[i]->name, ctl_verbs[i]->summary);
    buf_adds(b, "\nof KubeVirt, not in this release:");
    for (size_t i = 0; ctl_verbs[i]; i++)
        if (!ctl_verbs[i]->run)
            buf_addf(b, " %s", ctl_verbs[i]->name);
    buf_addf(b, "\n\n`%s VERB --help` shows a verb's flags and examples.\n", program);
    add_global_flags(b);
}

static void add_verb_help(struct buf *b, const char *program, const struct ctl_verb *v)
{
    struct str rest = str_of(v->examples), line;

    buf_addf(b, "%s.\n\nusage: %s %s %s [flags]\n", v->summary, program, v->name, v->args);
    if (rest.n)
        buf_adds(b, "\nexamples\n");
    while (str_next(&rest, '\n', &line))
        if (line.n && line.p[0] == '#')
            buf_addf(b, "  " STR_FMT "\n", STR_ARG(line));
        else
            buf_addf(b, "  %s " STR_FMT "\n", program, STR_ARG(line));
    if (v->flags.n)
        buf_adds(b, "\nflags\n");
    flags_help(&v->flags, b);
    add_global_flags(b);
}

/* The verb's words are the first arguments that are no flags; verbs may have two words. Fills where[] with their places. */
static const struct ctl_verb *find_verb(int argc, char **argv, int where[2], size_t *ret_n_words)
{
    size_t n = 0;

    *ret_n_words = 0;
    for (int i = 1; i < argc && n < 2; i++) {
        const char *a = argv[i];

        if (strcmp(a, "--") == 0)
            break;
        if (a[0] != '-') {
            where[n++] = i;
            continue;
        }
        for (size_t k = 0; k < ctl_n_global_flags; k++) {
            const struct flag *f = &ctl_global_flags[k];
            bool named = (a[1] == '-' && strcmp(a + 2, f->name) == 0) || (f->letter && a[1] == f->letter && !a[2]);

            if (named && f->type != FLAG_BOOL)
                i++;
        }
    }
    for (size_t words = n; words > 0; words--)
        for (size_t i = 0; ctl_verbs[i]; i++) {
            struct str first, second;
            bool two = str_cut(str_of(ctl_verbs[i]->name), ' ', &first, &second);

            if (two == (words == 2) && str_is(first, argv[where[0]]) && (!two || str_is(second, argv[where[1]]))) {
                *ret_n_words = words;
                return ctl_verbs[i];
            }
        }
    return NULL;
}

static bool no_such_verb(int argc, char **argv, struct error *err)
{
    int where[2] = {0};
    size_t n;

    find_verb(argc, argv, where, &n);
    if (where[1] && (strcmp(argv[where[0]], "create") == 0))
        return error_set(err, ERROR_BAD_REQUEST, "unknown verb 'create %s' (create vm is known)", argv[where[1]]);
    if (!where[0])
        return error_set(err, ERROR_BAD_REQUEST, "a verb is missing (virtctl --help lists them)");
    return error_set(err, ERROR_BAD_REQUEST, "unknown verb '%s' (virtctl --help lists them)", argv[where[0]]);
}

static bool run_verb(struct ctl *c, const struct ctl_verb *v, const char *program, int argc, char **argv, struct error *err)
{
    AUTO(buf_done) struct buf help = {0};
    bool wants_help;

    if (!v->run) {
        return error_set(err, ERROR_UNSUPPORTED, "'%s' is a verb of KubeVirt's virtctl that this release of Vireo does not serve "
                                                 "(docs/compatibility.md lists what it does)", v->name);
    }
    c->flags.sets[0] = v->flags;
    c->flags.sets[1] = (struct flag_set){ctl_global_flags, ctl_n_global_flags};
    if (!flags_parse(&c->flags, argc, argv, &wants_help, err))
        return error_wrap(err, "%s", v->name);
    if (wants_help) {
        add_verb_help(&help, program, v);
        return ctl_print_buf(c, &help, err);
    }
    c->args = c->flags.args.p;
    c->n_args = c->flags.args.n;
    if (c->n_args < v->min_args)
        return error_set(err, ERROR_BAD_REQUEST, "%s wants %s (%s %s --help)", v->name, v->args, program, v->name);
    if (c->n_args > v->max_args)
        return error_set(err, ERROR_BAD_REQUEST, "%s: '%s' is one argument too many (%s %s --help)", v->name,
                         c->args[v->max_args], program, v->name);
    return v->run(c, err);
}

/* The words that name the verb are taken out of argv. */
static bool dispatch(struct ctl *c, int argc, char **argv, struct error *err)
{
    const char *program = program_name(argv[0]);
    AUTO(buf_done) struct buf help = {0};
    VEC(char *) rest = {0};
    int where[2] = {0};
    size_t words;
    const struct ctl_verb *v = find_verb(argc, argv, where, &words);
    bool ok, ask = argc == 1;

    if (!v && where[0] && strcmp(argv[where[0]], "help") == 0) {
        if (where[1]) {
            char *again[] = {argv[0], argv[where[1]], where[1] + 1 < argc ? argv[where[1] + 1] : NULL, NULL};

            v = find_verb(again[2] ? 3 : 2, again, where, &words);
            if (!v)
                return no_such_verb(again[2] ? 3 : 2, again, err);
            add_verb_help(&help, program, v);
        } else {
            add_overview(&help, program);
        }
        return ctl_print_buf(c, &help, err);
    }
    if (!v) {
        for (int i = 1; i < argc; i++)
            ask = ask || strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
        if (!ask || where[0])
            return no_such_verb(argc, argv, err);
        add_overview(&help, program);
        return ctl_print_buf(c, &help, err);
    }
    for (int i = 1; i < argc; i++)
        if (i != where[0] && !(words == 2 && i == where[1]))
            vec_push(&rest, argv[i]);
    ok = run_verb(c, v, program, (int)rest.n, rest.p, err);
    vec_done(&rest);
    return ok;
}

int ctl_run(struct loop *l, const struct ctl_io *io, int argc, char **argv)
{
    struct ctl c = {.loop = l, .io = *io};
    AUTO(error_clear) struct error err = {0};
    bool ok = dispatch(&c, argc, argv, &err);

    if (!ok)
        ctl_notice(&c, "Error: %s\n", error_text(&err));
    ctl_disconnect(&c);
    kubeconfig_done(&c.config);
    flags_done(&c.flags);
    return ok ? c.exit_code : 1;
}
