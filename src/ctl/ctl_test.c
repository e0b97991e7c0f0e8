/* Whole runs of virtctl against a server of the test's own, over TLS with a client certificate. */
#include "base/base_test.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <pty.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "ctl/ctl.h"
#include "http/server.h"
#include "http/tls.h"
#include "http/websocket.h"

/* The server, and what it saw. */
static struct world {
    struct loop *loop;
    struct http_server *server;
    struct http_tls *tls;
    unsigned port;
    char dir[64];
    struct buf log;          /* "PUT path body\n" */
    const char *answer;      /* of PUT and GET: body */
    int status;
    int not_running;         /* so many console attempts are refused */
    size_t streamed, stream; /* bytes the server sends on a stream: done, all */
    struct websocket *ws;
    struct loop_timer timer;
    bool hang_up;            /* closes a stream as another session's start does */
} w;

static void must(bool ok, struct error *err)
{
    if (!ok)
        fail_msg("%s", error_text(err));
}

/* --- the server -------------------------------------------------------------------------------------------------------------- */

static void send_more(struct websocket *ws)
{
    char block[1000];

    while (w.streamed < w.stream) {
        size_t n = w.stream - w.streamed < sizeof block ? w.stream - w.streamed : sizeof block;

        for (size_t i = 0; i < n; i++)
            block[i] = (char)('a' + (w.streamed + i) % 26);
        w.streamed += n;
        if (websocket_send(ws, str_n(block, n), true) >= 256u << 10)
            return;
    }
    if (w.stream) {
        w.stream = w.streamed = 0;
        websocket_close(ws, 1000, "");
    }
}

static void ws_message(struct websocket *ws, struct str data, bool binary)
{
    assert_true(binary);
    buf_addf(&w.log, "<" STR_FMT ">", STR_ARG(data));
    if (str_is(data, "stream")) {
        send_more(ws);
        return;
    }
    websocket_send(ws, data, true); /* echo */
    if (str_is(data, "bye"))
        websocket_close(ws, 1000, "");
}

static void ws_closed(struct websocket *ws, unsigned code, struct str reason)
{
    (void)ws;
    (void)reason;
    buf_addf(&w.log, "closed %u\n", code);
    w.ws = NULL;
}

static const struct websocket_ops ws_ops = {.message = ws_message, .writable = send_more, .closed = ws_closed};

static void on_hang_up(struct loop_timer *t)
{
    (void)t;
    if (w.ws)
        websocket_close(w.ws, 1001, "another session has begun");
}

static void accept_stream(struct exchange *x)
{
    size_t at;
    bool tunnel = str_find(x->path, STR("portforward"), &at); /* x is gone behind websocket_accept() */

    assert_true(websocket_offers(x, "plain.kubevirt.io"));
    w.ws = websocket_accept(x, "plain.kubevirt.io", &ws_ops, NULL);
    if (w.ws && !tunnel)
        websocket_send(w.ws, STR("hello "), true);
    if (w.hang_up)
        loop_timer_start(w.loop, &w.timer, MILLIS(20), on_hang_up);
}

static void handle(struct exchange *x, void *data)
{
    size_t at;

    (void)data;
    assert_string_equal(x->peer->cert_cn ? x->peer->cert_cn : "-", "tester");
    buf_addf(&w.log, "%s " STR_FMT "%s%s\n", http_method_name(x->method), STR_ARG(x->target), x->body.n ? " " : "",
             x->body.n ? arena_strdup(&x->arena, x->body) : "");
    if (w.not_running > 0 && str_ends(x->path, STR("/console"))) {
        w.not_running--;
        exchange_respond(x, 400, "application/json", STR("{\"kind\":\"Status\",\"message\":\"VMI is not running\",\"code\":400}"));
    } else if (x->wants_upgrade && w.status < 400) {
        accept_stream(x);
    } else if (str_find(x->path, STR("/virtualmachines/absent"), &at) || str_find(x->path, STR("instances/absent"), &at)) {
        exchange_respond(x, 404, "application/json",
                         STR("{\"kind\":\"Status\",\"message\":\"virtualmachines.kubevirt.io \\\"absent\\\" not found\",\"code\":404}"));
    } else {
        exchange_respond(x, w.status, "application/json", str_of(w.answer));
    }
}

static void write_config(const struct cert_pair *ca, const struct cert_pair *me)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *path = xasprintf("%s/config", w.dir);

    buf_addf(&b, "current-context: t\ncontexts: [{name: t, context: {cluster: t, user: t, namespace: team}}]\n"
                 "clusters:\n- name: t\n  cluster:\n    server: https://127.0.0.1:%u\n    certificate-authority-data: ", w.port);
    buf_add_base64(&b, ca->cert_pem, strlen(ca->cert_pem));
    buf_adds(&b, "\nusers:\n- name: t\n  user:\n    client-certificate-data: ");
    buf_add_base64(&b, me->cert_pem, strlen(me->cert_pem));
    buf_adds(&b, "\n    client-key-data: ");
    buf_add_base64(&b, me->key_pem, strlen(me->key_pem));
    buf_addc(&b, '\n');
    must(file_write(AT_FDCWD, path, buf_str(&b), 0600, &err), &err);
    setenv("KUBECONFIG", path, 1);
}

static int setup(void **state)
{
    AUTO(cert_pair_done) struct cert_pair ca = {0}, server = {0}, me = {0};
    AUTO(error_clear) struct error err = {0};
    const char *const ips[] = {"127.0.0.1", NULL};
    struct sockaddr_in at;
    socklen_t n = sizeof at;
    int64_t now;
    int fd;

    (void)state;
    signal(SIGPIPE, SIG_IGN); /* as main() does */
    w.loop = loop_new(NULL);
    now = loop_unix_ns(w.loop) / SECONDS(1);
    memcpy(w.dir, "/tmp/ctl-test-XXXXXX", 21);
    assert_non_null(mkdtemp(w.dir));
    must(cert_make_ca("ca", now, 3600, &ca, &err), &err);
    must(cert_issue(&ca, &(struct cert_request){.common_name = "api", .ip_addresses = ips, .server = true, .now_unix_s = now,
                                                .valid_s = 3600}, &server, &err), &err);
    must(cert_issue(&ca, &(struct cert_request){.common_name = "tester", .client = true, .now_unix_s = now, .valid_s = 3600}, &me,
                    &err), &err);
    w.tls = http_tls_new(&(struct http_tls_config){.cert_pem = server.cert_pem, .key_pem = server.key_pem, .ca_pem = ca.cert_pem,
                                                   .server = true}, &err);
    must(w.tls != NULL, &err);
    w.server = http_server_new(&(struct http_server_config){.loop = w.loop, .handle = handle});
    must(http_listen_tcp("127.0.0.1:0", &fd, &err), &err);
    getsockname(fd, (struct sockaddr *)&at, &n);
    w.port = ntohs(at.sin_port);
    must(http_server_listen(w.server, fd, w.tls, &err), &err);
    write_config(&ca, &me);
    return 0;
}

static int teardown(void **state)
{
    AUTO(error_clear) struct error err = {0};

    (void)state;
    loop_timer_stop(&w.timer);
    http_server_free(w.server);
    http_tls_free(w.tls);
    loop_free(w.loop);
    buf_done(&w.log);
    must(file_remove_tree(AT_FDCWD, w.dir, &err), &err);
    return 0;
}

/* --- runs ---------------------------------------------------------------------------------------------------------------------- */

struct result {
    int code;
    struct buf out, err;
};

static void result_done(struct result *r)
{
    buf_done(&r->out);
    buf_done(&r->err);
}

static int file_for(const char *name)
{
    AUTO_FREE char *path = xasprintf("%s/%s", w.dir, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    return fd;
}

static void reset(int status, const char *answer)
{
    buf_clear(&w.log);
    w.status = status;
    w.answer = answer;
    w.not_running = 0;
    w.stream = w.streamed = 0;
    w.hang_up = false;
}

/* Words are cut at blanks. */
static struct result run_with(int in, const char *line)
{
    AUTO_FREE char *text = xstrdup(line);
    AUTO(error_clear) struct error err = {0};
    char *argv[32] = {(char[]){"virtctl"}}, *save = NULL;
    struct result r = {0};
    int argc = 1, out = file_for("out"), errors = file_for("err");

    for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save))
        argv[argc++] = word;
    r.code = ctl_run(w.loop, &(struct ctl_io){in, out, errors}, argc, argv);
    lseek(out, 0, SEEK_SET);
    lseek(errors, 0, SEEK_SET);
    must(file_read_fd(out, &r.out, &err) && file_read_fd(errors, &r.err, &err), &err);
    close(out);
    close(errors);
    for (int i = 0; i < 20; i++) /* the server sees its ends */
        loop_turn(w.loop, MILLIS(1));
    return r;
}

static struct result run(const char *line)
{
    AUTO_CLOSE int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    return run_with(null, line);
}

static void expect(const char *line, int code, const char *out, const char *err, const char *seen)
{
    AUTO(result_done) struct result r = run(line);
    size_t at;

    if (r.code != code)
        fail_msg("%s: exit %d: %s", line, r.code, r.err.p ? r.err.p : "");
    if (!str_find(buf_str(&r.out), str_of(out), &at))
        fail_msg("%s: printed '%s'", line, r.out.p ? r.out.p : "");
    if (!str_find(buf_str(&r.err), str_of(err), &at))
        fail_msg("%s: complained '%s'", line, r.err.p ? r.err.p : "");
    if (code != 0) { /* one line */
        assert_true(str_starts(buf_str(&r.err), STR("Error: ")));
        assert_ptr_equal(strchr(r.err.p, '\n'), r.err.p + r.err.n - 1);
    }
    if (!str_find(buf_str(&w.log), str_of(seen), &at))
        fail_msg("%s: the server saw '%s'", line, w.log.p ? w.log.p : "");
}

#define SUB "/apis/subresources.kubevirt.io/v1/namespaces/"

static void test_requests(void **state)
{
    static const struct {
        const char *line, *out, *seen;
    } rows[] = {
        {"start a", "VM a was scheduled to start\n", "PUT " SUB "team/virtualmachines/a/start {}\n"},
        {"-n other start vm/a --paused", "VM a was scheduled to start\n",
         "PUT " SUB "other/virtualmachines/a/start {\"paused\":true}\n"},
        {"start --dry-run a", "Dry Run execution\nVM a was scheduled to start\n", "{\"dryRun\":[\"All\"]}\n"},
        {"stop a --namespace=x", "VM a was scheduled to stop\n", "PUT " SUB "x/virtualmachines/a/stop {}\n"},
        {"stop a --force --grace-period=0", "VM a was scheduled to stop\n", "/stop {\"gracePeriod\":0}\n"},
        {"restart a", "VM a was scheduled to restart\n", "PUT " SUB "team/virtualmachines/a/restart {}\n"},
        {"restart a --force --grace-period 0", "VM a was scheduled to restart\n", "/restart {\"gracePeriodSeconds\":0}\n"},
        {"pause vmi a", "VMI a was scheduled to pause\n", "PUT " SUB "team/virtualmachineinstances/a/pause {}\n"},
        {"pause vm a", "VMI a was scheduled to pause\n",
         "GET /apis/kubevirt.io/v1/namespaces/team/virtualmachines/a\nPUT " SUB "team/virtualmachineinstances/a/pause {}\n"},
        {"unpause vm/a/ns2", "VMI a was scheduled to unpause\n", "PUT " SUB "ns2/virtualmachineinstances/a/unpause {}\n"},
        {"soft-reboot a", "VMI a was scheduled to soft-reboot\n", "PUT " SUB "team/virtualmachineinstances/a/softreboot {}\n"},
        {"reset a", "VMI a was scheduled to reset\n", "PUT " SUB "team/virtualmachineinstances/a/reset {}\n"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        reset(202, "");
        expect(rows[i].line, 0, rows[i].out, "", rows[i].seen);
    }
}

static void test_answers(void **state)
{
    (void)state;
    reset(200, "{\"hostname\":\"h\",\"os\":{\"name\":\"Debian\"}}");
    expect("guestosinfo a", 0, "{\n  \"hostname\": \"h\",", "", "GET " SUB "team/virtualmachineinstances/a/guestosinfo\n");
    expect("userlist a", 0, "hostname", "", "/userlist\n");
    expect("fslist a", 0, "hostname", "", "/filesystemlist\n");
    reset(200, "{\"kind\":\"VirtualMachine\",\"spec\":{\"running\":true}}");
    expect("expand --vm a", 0, "kind: VirtualMachine\nspec:\n  running: true\n", "",
           "GET " SUB "team/virtualmachines/a/expand-spec\n");
    expect("expand --vm a -o json", 0, "{\n    \"kind\": \"VirtualMachine\",", "", "");
    reset(200, "{\"gitVersion\":\"v1.8.0+x\",\"platform\":\"linux/amd64\"}");
    expect("version", 0, "Server Version: version.Info{GitVersion:\"v1.8.0+x\"", "", "GET /apis/subresources.kubevirt.io/v1/version\n");
}

static void test_refusals(void **state)
{
    static const struct {
        const char *line, *err;
    } rows[] = {
        {"start absent", "cannot start VirtualMachine team/absent: virtualmachines.kubevirt.io \"absent\" not found (kubectl get vm"},
        {"start a", "cannot start VirtualMachine team/a: VM is already running"},
        {"start vmi/a", "name its VirtualMachine"},
        {"stop a --force", "--force --grace-period=0"},
        {"restart a --grace-period=0", "--force --grace-period=0"},
        {"pause a", "vm/a or vmi/a is wanted"},
        {"pause pod a", "unknown type 'pod'"},
        {"pause vm absent", "cannot pause VirtualMachine team/absent"},
        {"reset absent", "it does not run"},
        {"start", "start wants VM"},
        {"start a b", "'b' is one argument too many"},
        {"start ../a", "unknown type '..'"},
        {"start A_b", "is no name of a virtual machine"},
        {"guestosinfo a", "no guestosinfo of VirtualMachineInstance team/a: VM is already running"},
        {"migrate a", "'migrate' is a verb of KubeVirt's virtctl that this release of Vireo does not serve"},
        {"addvolume a --volume-name=x", "'addvolume' is a verb"},
        {"create preference", "'create preference' is a verb"},
        {"create nonsense", "unknown verb 'create nonsense'"},
        {"frobnicate", "unknown verb 'frobnicate'"},
        {"expand", "either --vm NAME or -f FILE"},
        {"expand -f /nonexistent", "/nonexistent"},
        {"vnc a --port 70000", "--port is a number"},
        {"vnc a --vnc-path /x", "--vnc-path needs --vnc-type"},
        {"port-forward a 80", "vm/a or vmi/a is wanted"},
        {"port-forward vm/a udp/53", "only tcp ports"},
        {"port-forward vm/a 0:0", "LOCAL[:TARGET]"},
        {"port-forward vm/a 1 2 --stdio", "--stdio forwards one port"},
        {"port-forward --stdio vm/a 22", "port-forward to VirtualMachine team/a: VM is already running"},
        {"console a", "console of VirtualMachineInstance team/a: VM is already running"},
        {"console absent", "there is none of that name"},
        {"scp a b", "one of SRC and DST is in a guest"},
        {"ssh a", "vm/a or vmi/a is wanted"},
        {"ssh vm/a -p 0", "--port is a number"},
        {"start a --server https://127.0.0.1:1", "the API server cannot be reached"},
        {"start a --context nope", "context 'nope'"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        reset(409, "{\"kind\":\"Status\",\"message\":\"VM is already running\",\"code\":409}");
        expect(rows[i].line, 1, "", rows[i].err, "");
    }
    reset(500, "plain words\n");
    expect("userlist a", 1, "", "team/a: plain words", "");
    reset(502, "");
    expect("userlist a", 1, "", "HTTP status 502", "");
}

static void test_help(void **state)
{
    (void)state;
    reset(200, "{}");
    expect("--help", 0, "usage: virtctl VERB", "", "");
    expect("help start", 0, "usage: virtctl start VM", "", "");
    expect("console --help", 0, "virtctl console myvm --timeout=1", "", "");
    expect("help create vm", 0, "--volume-containerdisk", "", "");
    expect("version --client", 0, "Client Version: version.Info{GitVersion:\"v1.8.0", "", "");
    assert_int_equal(w.log.n, 0); /* none of that asks the server */
}

static void test_create_vm(void **state)
{
    (void)state;
    reset(200, "{}");
    expect("create vm --name v --memory=1Gi --volume-containerdisk=src:q.io/a:1,bootorder:1 --user u --ssh-key k", 0,
           "      domain:\n        devices:\n          disks:\n          - bootOrder: 1\n            name: v-containerdisk-0\n"
           "        memory:\n          guest: 1Gi\n", "", "");
    expect("create vm --name v --volume-pvc=src:c", 0,
           "  instancetype:\n    inferFromVolume: c\n    inferFromVolumeFailurePolicy: Ignore\n", "", "");
    expect("create vm --name v --volume-pvc=src:c --infer-instancetype", 0, "  instancetype:\n    inferFromVolume: c\n  preference:",
           "", "");
    expect("create vm --volume-pvc=src:n/c", 1, "", "not allowed to specify namespace of pvc 'c'", "");
    expect("create vm --volume-containerdisk=src:a,bootorder:0", 1, "", "greater than 0", "");
    expect("create vm --volume-containerdisk=src:a,name:x --volume-pvc=src:x", 1, "", "already a volume with name 'x'", "");
    expect("create vm --cloud-init-user-data=%", 1, "", "--cloud-init-user-data", "");
    expect("create vm --memory=1Gi --instancetype=x", 1, "", "exclude each other", "");
    expect("create vm --run-strategy=Sometimes", 1, "", "--run-strategy is", "");
}

/* --- streams ------------------------------------------------------------------------------------------------------------------- */

static int pipe_with(const char *text, int *ret_writer)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_int_equal(write(fds[1], text, strlen(text)), (ssize_t)strlen(text));
    if (ret_writer)
        *ret_writer = fds[1];
    else
        close(fds[1]);
    return fds[0];
}

static void stream(const char *line, const char *input, int code, const char *out, const char *err)
{
    AUTO_CLOSE int in = pipe_with(input, NULL);
    AUTO(result_done) struct result r = run_with(in, line);
    size_t at;

    if (r.code != code)
        fail_msg("%s: exit %d: %s", line, r.code, r.err.p);
    if (!str_eq(buf_str(&r.out), str_of(out)))
        fail_msg("%s: printed '%s'", line, r.out.p ? r.out.p : "");
    if (!str_find(buf_str(&r.err), str_of(err), &at))
        fail_msg("%s: said '%s'", line, r.err.p ? r.err.p : "");
}

static void test_console_pipes(void **state)
{
    (void)state;
    reset(200, "");
    /* Our input's end does not end it: the answer comes later, and the server's close ends it. */
    stream("console a", "bye", 0, "hello bye", "Successfully connected to a console. Press Ctrl+] or Ctrl+5 to exit console.\n");
    assert_true(str_find(buf_str(&w.log), STR("/virtualmachineinstances/a/console\n<bye>closed 1000"), &(size_t){0}));
    reset(200, "");
    stream("console a", "abc\x1d""def", 0, "", ""); /* what stood behind the escape is not sent, nor waited for */
    assert_true(str_find(buf_str(&w.log), STR("<abc>closed 1000"), &(size_t){0}));
    reset(200, "");
    w.hang_up = true;
    stream("console a", "", 1, "hello ", "Error: console of VirtualMachineInstance team/a: the console was closed, another session has begun");
    reset(200, "");
    w.stream = 3000000;
    {
        AUTO_CLOSE int in = pipe_with("stream", NULL);
        AUTO(result_done) struct result r = run_with(in, "console a");

        assert_int_equal(r.code, 0);
        assert_int_equal(r.out.n, 3000006);
        for (size_t i = 6; i < r.out.n; i++)
            if (r.out.p[i] != (char)('a' + (i - 6) % 26))
                fail_msg("byte %zu differs", i);
    }
}

static void test_console_waits(void **state)
{
    (void)state;
    reset(200, "");
    w.not_running = 2;
    stream("console a", "bye", 0, "hello bye", "waiting for a to run");
    reset(200, "");
    w.not_running = 1000;
    stream("console a --timeout=0", "", 1, "", "did not run within 0 minutes (--timeout): VMI is not running");
}

/* The terminal is raw while the console is open, and as before afterwards. */
struct typist {
    struct loop_timer timer;
    int fd;
    bool was_raw, signal;
};

static void on_type(struct loop_timer *t)
{
    struct typist *ty = container_of(t, struct typist, timer);
    struct termios now;

    tcgetattr(ty->fd, &now);
    ty->was_raw = !(now.c_lflag & (ICANON | ECHO | ISIG));
    if (ty->signal)
        kill(getpid(), SIGTERM);
    else
        assert_int_equal(write(ty->fd, "x\x1d", 2), 2);
}

static void test_console_terminal(void **state)
{
    (void)state;
    for (int round = 0; round < 2; round++) {
        struct typist ty = {.signal = round == 1};
        struct termios before, after;
        AUTO(result_done) struct result r = {0};
        int terminal;

        reset(200, "");
        assert_int_equal(openpty(&ty.fd, &terminal, NULL, NULL, NULL), 0);
        tcgetattr(terminal, &before);
        loop_timer_start(w.loop, &ty.timer, MILLIS(300), on_type);
        r = run_with(terminal, "console a");
        tcgetattr(terminal, &after);
        assert_int_equal(r.code, round == 1 ? 128 + SIGTERM : 0);
        assert_true(ty.was_raw);
        assert_memory_equal(&before.c_lflag, &after.c_lflag, sizeof before.c_lflag);
        assert_memory_equal(&before.c_iflag, &after.c_iflag, sizeof before.c_iflag);
        assert_memory_equal(&before.c_oflag, &after.c_oflag, sizeof before.c_oflag);
        if (round == 0)
            assert_true(str_find(buf_str(&w.log), STR("<x>closed 1000"), &(size_t){0}));
        close(terminal);
        close(ty.fd);
    }
}

static void test_port_forward_stdio(void **state)
{
    (void)state;
    reset(200, "");
    stream("port-forward --stdio=true vm/a/ns 22", "bye", 0, "bye", "");
    assert_true(str_find(buf_str(&w.log), STR("GET " SUB "ns/virtualmachines/a/portforward/22/tcp\n<bye>"), &(size_t){0}));
}

/* Verbs that run until a signal or a viewer ends them run in a child; the server stays here. */
static pid_t start_child(const char *line, int *ret_out, int *ret_err)
{
    int out[2], err[2];
    pid_t pid;

    assert_int_equal(pipe2(out, O_CLOEXEC | O_NONBLOCK), 0);
    assert_int_equal(pipe2(err, O_CLOEXEC | O_NONBLOCK), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        AUTO_FREE char *text = xstrdup(line);
        char *argv[32] = {(char[]){"virtctl"}}, *save = NULL;
        struct loop *own = loop_new(NULL);
        int argc = 1, code;

        for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save))
            argv[argc++] = word;
        dup2(out[1], STDOUT_FILENO);
        dup2(err[1], STDERR_FILENO);
        code = ctl_run(own, &(struct ctl_io){STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}, argc, argv);
        loop_free(own);
        _exit(code);
    }
    close(out[1]);
    close(err[1]);
    *ret_out = out[0];
    *ret_err = err[0];
    return pid;
}

/* Serves until the pipe has brought `want`, or its end when want is NULL. */
static void read_until(int fd, struct buf *b, const char *want)
{
    int64_t end = loop_now_ns(w.loop) + SECONDS(20);
    char data[4096];
    size_t at;

    while (loop_now_ns(w.loop) < end) {
        ssize_t n = read(fd, data, sizeof data);

        if (n > 0)
            buf_add(b, data, (size_t)n);
        if (n == 0 || (want && str_find(buf_str(b), str_of(want), &at)))
            return;
        if (n < 0)
            loop_turn(w.loop, MILLIS(2));
    }
    fail_msg("'%s' did not come, but %zu bytes: %.200s", want ? want : "end", b->n, b->p ? b->p : "");
}

static int dial(unsigned port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static unsigned number_after(const struct buf *b, const char *word)
{
    const char *p = strstr(b->p, word);

    assert_non_null(p);
    return (unsigned)strtoul(p + strlen(word), NULL, 10);
}

static void test_port_forward(void **state)
{
    AUTO(buf_done) struct buf said = {0}, one = {0}, two = {0}, many = {0};
    int out, err, a, b, status;
    pid_t pid;

    (void)state;
    reset(200, "");
    pid = start_child("port-forward vmi/a 0:80 0:443", &out, &err);
    read_until(err, &said, "to 443");
    assert_true(str_starts(buf_str(&said), STR("forwarding tcp 127.0.0.1:")));
    a = dial(number_after(&said, "127.0.0.1:"));
    b = dial(number_after(&said, "127.0.0.1:"));
    assert_int_equal(write(a, "one", 3), 3);
    assert_int_equal(write(b, "twotwo", 6), 6);
    read_until(a, &one, "one");
    read_until(b, &two, "twotwo");
    shutdown(a, SHUT_WR);
    close(b);
    close(a);
    assert_true(str_find(buf_str(&w.log), STR("GET " SUB "team/virtualmachineinstances/a/portforward/80/tcp"), &(size_t){0}));
    w.stream = 5000000;
    a = dial(number_after(&said, "to 80\nforwarding tcp 127.0.0.1:"));
    assert_int_equal(write(a, "stream", 6), 6);
    read_until(a, &many, NULL); /* the server closes: so does the local end */
    assert_int_equal(many.n, 5000000);
    close(a);
    kill(pid, SIGTERM);
    waitpid(pid, &status, 0);
    close(out);
    close(err);
}

/* A refused stream resets the local connection and says why. */
static void test_port_forward_refused(void **state)
{
    AUTO(buf_done) struct buf said = {0};
    int out, err, a, status;
    pid_t pid;

    (void)state;
    reset(500, "{\"kind\":\"Status\",\"message\":\"dialing the virtual machine: Connection refused\"}");
    pid = start_child("port-forward vmi/a 0:80", &out, &err);
    read_until(err, &said, "to 80");
    a = dial(number_after(&said, "127.0.0.1:"));
    read_until(err, &said, "forwarding failed: dialing the virtual machine: Connection refused");
    close(a);
    kill(pid, SIGTERM);
    waitpid(pid, &status, 0);
    close(out);
    close(err);
}

static void test_vnc_proxy(void **state)
{
    AUTO(buf_done) struct buf said = {0}, got = {0};
    int out, err, a, status;
    pid_t pid;

    (void)state;
    reset(200, "");
    pid = start_child("vnc a --proxy-only --preserve-session", &out, &err);
    read_until(out, &said, "}\n");
    assert_true(str_starts(buf_str(&said), STR("{\"port\":")));
    w.stream = 20000000;
    a = dial(number_after(&said, "{\"port\":"));
    assert_int_equal(write(a, "stream", 6), 6);
    read_until(a, &got, NULL);
    assert_int_equal(got.n, 20000006);
    assert_true(str_find(buf_str(&w.log), STR("virtualmachineinstances/a/vnc?preserveSession=true"), &(size_t){0}));
    close(a);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(WEXITSTATUS(status), 0);
    close(out);
    close(err);
}

static void put_program(const char *name, const char *text)
{
    AUTO_FREE char *path = xasprintf("%s/%s", w.dir, name);
    AUTO(error_clear) struct error err = {0};

    must(file_write(AT_FDCWD, path, str_of(text), 0700, &err), &err);
}

static void test_ssh_command_line(void **state)
{
    AUTO_FREE char *path = xasprintf("%s:%s", w.dir, getenv("PATH"));
    AUTO_FREE char *old = xstrdup(getenv("PATH"));
    AUTO(buf_done) struct buf ssh = {0}, scp = {0};
    int out, err, status;
    pid_t pid;
    size_t at;

    (void)state;
    put_program("ssh", "#!/bin/sh\nfor a; do echo \"[$a]\"; done\nexit 7\n");
    put_program("scp", "#!/bin/sh\nfor a; do echo \"[$a]\"; done\n");
    setenv("PATH", path, 1);
    setenv("HOME", "/home/me", 1);
    pid = start_child("ssh jo@vm/a.b/ns -i /k%y -t -oBatchMode=yes -p 2222 -c uptime --context=t", &out, &err);
    read_until(out, &ssh, NULL);
    waitpid(pid, &status, 0);
    assert_int_equal(WEXITSTATUS(status), 7); /* ssh's own */
    assert_true(str_starts(buf_str(&ssh), STR("[-o]\n[ProxyCommand= '/")));
    assert_true(str_find(buf_str(&ssh), STR("' port-forward --stdio=true '--context=t' 'vm/a.b/ns' '2222']\n[-o]\n"
                                            "[UserKnownHostsFile=\"/home/me/.ssh/kubevirt_known_hosts\"]\n[-oBatchMode=yes]\n"
                                            "[-i]\n[/k%y]\n[jo@vm.a.b.ns]\n[uptime]\n"), &at));
    close(out);
    close(err);
    pid = start_child("scp -r -l root vmi/a:/etc/x /tmp/y:z", &out, &err);
    read_until(out, &scp, NULL);
    waitpid(pid, &status, 0);
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_true(str_find(buf_str(&scp), STR("[--]\n[root@vmi.a.team:/etc/x]\n[/tmp/y:z]\n"), &at));
    assert_true(str_starts(buf_str(&scp), STR("[-r]\n[-o]\n")));
    close(out);
    close(err);
    setenv("PATH", old, 1);
}

static void test_vnc_viewer(void **state)
{
    AUTO_FREE char *path = xasprintf("%s:%s", w.dir, getenv("PATH"));
    AUTO_FREE char *old = xstrdup(getenv("PATH"));
    AUTO(buf_done) struct buf said = {0};
    int out, err, status;
    pid_t pid;

    (void)state;
    reset(200, "");
    put_program("remote-viewer", "#!/bin/sh\necho viewer $1\nexit 3\n");
    setenv("PATH", path, 1);
    pid = start_child("vnc a", &out, &err);
    read_until(err, &said, "remote-viewer ended without connecting");
    read_until(out, &said, "viewer vnc://127.0.0.1:");
    while (waitpid(pid, &status, WNOHANG) == 0)
        loop_turn(w.loop, MILLIS(2));
    assert_int_equal(WEXITSTATUS(status), 1);
    close(out);
    close(err);
    setenv("PATH", old, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_create_vm),
        cmocka_unit_test(test_console_pipes),
        cmocka_unit_test(test_console_waits),
        cmocka_unit_test(test_console_terminal),
        cmocka_unit_test(test_port_forward_stdio),
        cmocka_unit_test(test_port_forward),
        cmocka_unit_test(test_port_forward_refused),
        cmocka_unit_test(test_vnc_proxy),
        cmocka_unit_test(test_ssh_command_line),
        cmocka_unit_test(test_vnc_viewer),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
