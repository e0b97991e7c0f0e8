/* ssh, scp: the local OpenSSH, connected through `virtctl port-forward --stdio`. */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "ctl/target.h"
#include "ctl/verbs.h"

struct argv {
    VEC(char *) v;
};

static void argv_add(struct argv *a, const char *text)
{
    vec_push(&a->v, xstrdup(text));
}

static void argv_done(struct argv *a)
{
    for (size_t i = 0; i < a->v.n; i++)
        free(a->v.p[i]);
    vec_done(&a->v);
}

/* OpenSSH expands % and hands the rest to a shell. */
static void add_quoted(struct buf *b, const char *word)
{
    buf_adds(b, " '");
    for (const char *p = word; *p; p++) {
        if (*p == '\'')
            buf_adds(b, "'\\''");
        else if (*p == '%')
            buf_adds(b, "%%");
        else
            buf_addc(b, *p);
    }
    buf_addc(b, '\'');
}

/* The same server and identity as ours; KUBECONFIG is inherited. */
static bool add_proxy(struct argv *argv, struct ctl *c, const struct target *t, struct error *err)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO_FREE char *target = xasprintf("%s/%s/%s", target_kind_name(t->kind), t->name, t->ns);
    AUTO_FREE char *port = xasprintf("%lld", (long long)flags_int(&c->flags, "port"));
    char self[4096];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

    if (n <= 0)
        return error_set(err, ERROR_INTERNAL, "this program's own path is not known");
    self[n] = '\0';
    buf_adds(&b, "ProxyCommand="); /* OpenSSH puts the exec in front of it */
    add_quoted(&b, self);
    buf_adds(&b, " port-forward --stdio=true");
    for (size_t i = 0; i < ctl_n_global_flags; i++) {
        const char *name = ctl_global_flags[i].name;

        if (!flags_given(&c->flags, name) || strcmp(name, "namespace") == 0)
            continue;
        AUTO_FREE char *word = xasprintf("--%s=%s", name, flags_str(&c->flags, name));

        add_quoted(&b, word);
    }
    add_quoted(&b, target);
    add_quoted(&b, port);
    argv_add(argv, "-o");
    argv_add(argv, b.p);
    return true;
}

/* What ssh and scp have in common. */
static bool add_options(struct argv *argv, struct ctl *c, const struct target *t, struct error *err)
{
    const char *hosts = flags_str(&c->flags, "known-hosts"), *home = getenv("HOME"), *option;
    AUTO_FREE char *own = NULL;

    if (flags_int(&c->flags, "port") < 1 || flags_int(&c->flags, "port") > 65535)
        return error_set(err, ERROR_BAD_REQUEST, "--port is a number from 1 to 65535");
    if (!flags_bool(&c->flags, "local-ssh"))
        return error_set(err, ERROR_UNSUPPORTED, "--local-ssh=false: virtctl has no SSH client of its own, OpenSSH's is used");
    if (!add_proxy(argv, c, t, err))
        return false;
    if (hosts[0] || home) {
        own = hosts[0] ? xasprintf("UserKnownHostsFile=\"%s\"", hosts)
                       : xasprintf("UserKnownHostsFile=\"%s/.ssh/kubevirt_known_hosts\"", home);
        argv_add(argv, "-o");
        argv_add(argv, own);
    }
    for (size_t i = 0; (option = flags_item(&c->flags, "local-ssh-opts", i)) != NULL; i++) {
        /* "-o Name=value" in one word reads as one option of ssh, with a blank that it skips. */
        argv_add(argv, option);
    }
    if (flags_given(&c->flags, "identity-file")) {
        argv_add(argv, "-i");
        argv_add(argv, flags_str(&c->flags, "identity-file"));
    }
    return true;
}

/* The user of the target, of --username, of the environment. */
static char *host_of(const struct ctl *c, const struct target *t)
{
    const char *user = t->user ? t->user : flags_str(&c->flags, "username");

    if (!user[0] && getenv("USER"))
        user = getenv("USER");
    return xasprintf("%s%s%s.%s.%s", user, user[0] ? "@" : "", target_kind_name(t->kind), t->name, t->ns);
}

/* On success this program is OpenSSH from here on. */
static bool become(struct argv *argv, struct error *err)
{
    sigset_t none;

    vec_push(&argv->v, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    execvp(argv->v.p[0], argv->v.p);
    if (errno == ENOENT)
        return error_set(err, ERROR_NOT_FOUND, "%s is not in PATH: install openssh-client", argv->v.p[0]);
    return error_errno(err, errno, "%s", argv->v.p[0]);
}

static bool run_ssh(struct ctl *c, struct error *err)
{
    AUTO(argv_done) struct argv argv = {0};
    AUTO(target_done) struct target t = {0};
    AUTO_FREE char *host = NULL;
    const char *command = flags_str(&c->flags, "command");

    if (!ctl_load_config(c, err) || !target_parse(str_of(c->args[0]), NULL, true, c->config.ns, &t, err))
        return false;
    argv_add(&argv, "ssh");
    if (!add_options(&argv, c, &t, err))
        return false;
    host = host_of(c, &t);
    argv_add(&argv, host);
    if (command[0])
        argv_add(&argv, command);
    return become(&argv, err);
}

/* "[user@]type/name[/namespace]:path" is in a guest; a local path with a colon is written ./a:b, as scp has it. */
static bool is_remote(const char *text)
{
    const char *colon = strchr(text, ':'), *slash = strchr(text, '/');

    return colon && slash && slash < colon && text[0] != '/' && text[0] != '.';
}

static bool run_scp(struct ctl *c, struct error *err)
{
    AUTO(argv_done) struct argv argv = {0};
    AUTO(target_done) struct target t = {0};
    bool from = is_remote(c->args[0]), to = is_remote(c->args[1]);
    AUTO_FREE char *host = NULL, *remote = NULL;
    struct str where, path;

    if (from == to)
        return error_set(err, ERROR_BAD_REQUEST, "one of SRC and DST is in a guest: [user@]vm/NAME[/NAMESPACE]:PATH");
    str_cut(str_of(c->args[from ? 0 : 1]), ':', &where, &path);
    if (!ctl_load_config(c, err) || !target_parse(where, NULL, true, c->config.ns, &t, err))
        return false;
    argv_add(&argv, "scp");
    if (flags_bool(&c->flags, "recursive"))
        argv_add(&argv, "-r");
    if (flags_bool(&c->flags, "preserve"))
        argv_add(&argv, "-p");
    if (!add_options(&argv, c, &t, err))
        return false;
    host = host_of(c, &t);
    remote = xasprintf("%s:" STR_FMT, host, STR_ARG(path));
    argv_add(&argv, "--");
    argv_add(&argv, from ? remote : c->args[0]);
    argv_add(&argv, from ? c->args[1] : remote);
    return become(&argv, err);
}

#define COMMON_FLAGS                                                                                                        \
    {"username", 'l', FLAG_STRING, NULL, "user to log in as, instead of $USER"},                                            \
    {"identity-file", 'i', FLAG_STRING, NULL, "private key to log in with"},                                                \
    {"known-hosts", 0, FLAG_STRING, NULL, "file of known hosts, instead of ~/.ssh/kubevirt_known_hosts"},                   \
    {"port", 'p', FLAG_INT, "22", "port of the guest's SSH server"},                                                        \
    {"local-ssh-opts", 't', FLAG_LIST, NULL, "option for the local OpenSSH, as -t '-o StrictHostKeyChecking=no'"},          \
    {"local-ssh", 0, FLAG_BOOL, "true", "accepted for old scripts: the local OpenSSH is always used"}

static const struct flag ssh_flags[] = {
    COMMON_FLAGS,
    {"command", 'c', FLAG_STRING, NULL, "command to run instead of a login shell"},
};
static const struct flag scp_flags[] = {
    COMMON_FLAGS,
    {"recursive", 'r', FLAG_BOOL, NULL, "copy directories"},
    {"preserve", 0, FLAG_BOOL, NULL, "keep times and modes"},
};

const struct ctl_verb ctl_ssh = {
    .name = "ssh", .args = "[USER@]vm|vmi/NAME[/NAMESPACE]", .min_args = 1, .max_args = 1, .summary = "Log in to a guest by SSH",
    .examples = "# as 'alice' in 'myvm'\nssh alice@vm/myvm\n# with a key, one command\nssh alice@vm/myvm -i ~/.ssh/id_ed25519 -c uptime",
    .flags = {ssh_flags, ARRAY_SIZE(ssh_flags)}, .run = run_ssh,
};
const struct ctl_verb ctl_scp = {
    .name = "scp", .args = "SRC DST", .min_args = 2, .max_args = 2, .summary = "Copy files to or from a guest by SSH",
    .examples = "# to 'myvm'\nscp notes.txt alice@vm/myvm:/tmp/\n# a directory from it\nscp -r alice@vm/myvm:logs .",
    .flags = {scp_flags, ARRAY_SIZE(scp_flags)}, .run = run_scp,
};
