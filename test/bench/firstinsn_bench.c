/* firstinsn-bench DRIVER KERNEL TIMES: from the start of a machine to the first instruction of its guest, through a driver and by QEMU
 * alone with the very same arguments, in turns.
 *
 * KERNEL is the contract suite's guest: its first instructions write to the serial port. The time runs from vmm_start(), or from
 * before fork(), to the first byte at the other end of that port. The arguments, the environment and the files of the bare QEMU are
 * those of the driver's: they are read from its process, and its descriptors duplicated; sockets are made anew. Prints JSON. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "api/types.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "vmm/vmm.h"

#define PATIENCE_MS 30000
#define MAX_FDS 256
#define MAX_WORDS 512

static void die(const char *what, const char *why)
{
    fprintf(stderr, "firstinsn-bench: %s: %s\n", what, why);
    exit(1);
}

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/* ---- what the driver's QEMU was given ---- */

struct given {
    struct buf args, env; /* words that end with a zero byte each */
    char *argv[MAX_WORDS], *envp[MAX_WORDS];
    int files[MAX_FDS]; /* by their number in QEMU; -1: it has none, -2: a socket */
    int serial;
};

static void words(struct buf *b, char **ret)
{
    size_t n = 0;

    buf_addc(b, 0);
    for (size_t at = 0; at + 1 < b->n && n < MAX_WORDS - 1; at += strlen(b->p + at) + 1)
        ret[n++] = b->p + at;
    ret[n] = NULL;
}

static bool named(const struct given *g, int fd)
{
    char forms[3][32];

    snprintf(forms[0], sizeof forms[0], "fd=%d", fd);
    snprintf(forms[1], sizeof forms[1], "/fd/%d", fd);
    snprintf(forms[2], sizeof forms[2], "fdset/%d", fd);
    for (size_t i = 0; g->argv[i]; i++)
        for (size_t k = 0; k < ARRAY_SIZE(forms); k++)
            for (const char *p = g->argv[i]; (p = strstr(p, forms[k])); p++)
                if (p[strlen(forms[k])] < '0' || p[strlen(forms[k])] > '9')
                    return true;
    return false;
}

static void read_given(pid_t pid, struct given *g)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_FREE char *path = xasprintf("/proc/%d", (int)pid);
    AUTO_CLOSE int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    AUTO_CLOSE int pidfd = pidfd_open(pid, 0);

    memset(g, 0, sizeof *g);
    buf_init(&g->args, 1u << 20);
    buf_init(&g->env, 1u << 20);
    if (dir < 0 || !file_read(dir, "cmdline", &g->args, &err) || !file_read(dir, "environ", &g->env, &err))
        die("QEMU's arguments", error_text(&err));
    words(&g->args, g->argv);
    words(&g->env, g->envp);
    g->serial = -1;
    for (int fd = 0; fd < MAX_FDS; fd++) {
        struct stat st;

        g->files[fd] = -1;
        if (fd < 3 || !named(g, fd))
            continue;
        g->files[fd] = pidfd_getfd(pidfd, fd, 0);
        if (g->files[fd] < 0)
            die("a descriptor that QEMU's arguments name", "it has been closed, or may not be had");
        if (fstat(g->files[fd], &st) == 0 && S_ISSOCK(st.st_mode)) {
            close(g->files[fd]);
            g->files[fd] = -2;
        }
    }
    for (size_t i = 0; g->argv[i]; i++)
        if (strstr(g->argv[i], "id=charserial0") && strstr(g->argv[i], "fd="))
            g->serial = (int)strtol(strstr(g->argv[i], "fd=") + 3, NULL, 10);
    if (g->serial < 0)
        die("QEMU's arguments", "no serial port");
}

/* ---- one start ---- */

static double first_byte(int fd, double begun)
{
    struct pollfd p = {fd, POLLIN, 0};
    char c;

    if (poll(&p, 1, PATIENCE_MS) != 1 || read(fd, &c, 1) != 1)
        die("the guest", "it says nothing");
    return now_ms() - begun;
}

/* In the child: QEMU's numbers are below MAX_FDS, ours are moved above them first. */
static void become(struct given *g, int (*pairs)[2])
{
    int from[MAX_FDS];

    for (int fd = 3; fd < MAX_FDS; fd++)
        from[fd] = g->files[fd] == -1 ? -1 : fcntl(g->files[fd] == -2 ? pairs[fd][1] : g->files[fd], F_DUPFD_CLOEXEC, MAX_FDS);
    for (int fd = 3; fd < MAX_FDS; fd++)
        if (from[fd] >= 0)
            dup2(from[fd], fd);
        else
            close(fd);
    execvpe(g->argv[0], g->argv, g->envp);
    _exit(127);
}

static double start_bare(struct given *g)
{
    int pairs[MAX_FDS][2];
    double begun = now_ms(), took;
    pid_t pid;

    for (int fd = 3; fd < MAX_FDS; fd++)
        if (g->files[fd] == -2 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairs[fd]) != 0)
            die("socketpair", "failed");
    pid = fork();
    if (pid == 0)
        become(g, pairs);
    took = first_byte(pairs[g->serial][0], begun);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    for (int fd = 3; fd < MAX_FDS; fd++)
        if (g->files[fd] == -2) {
            close(pairs[fd][0]);
            close(pairs[fd][1]);
        }
    return took;
}

static void changed(void *user)
{
    (void)user;
}

static double start_driven(const struct vmm_driver *d, const struct vmm_machine *m, struct given *g, double *ret_returned)
{
    AUTO(error_clear) struct error err = {0};
    struct loop *l = loop_new(NULL);
    struct vmm_listener listener = {.changed = changed};
    struct vmm *v = vmm_new(d, l, &listener);
    double begun = now_ms(), took;
    AUTO_CLOSE int fd = -1;

    if (!vmm_start(v, m, &err) || !vmm_open_stream(v, VMM_STREAM_SERIAL, &fd, &err))
        die("start", error_text(&err));
    *ret_returned = now_ms() - begun;
    took = first_byte(fd, begun);
    if (!g->argv[0])
        read_given(vmm_status(v)->pid, g);
    vmm_kill(v, true);
    while (vmm_alive(v))
        loop_turn(l, MILLIS(10));
    vmm_free(v);
    loop_free(l);
    return took;
}

static void print_list(const char *name, const double *p, int n)
{
    printf("\"%s\":[", name);
    for (int i = 0; i < n; i++)
        printf("%s%.2f", i ? "," : "", p[i]);
    printf("]");
}

int main(int argc, char **argv)
{
    static struct given given;
    AUTO(error_clear) struct error err = {0};
    AUTO(arena_done) struct arena a = {0};
    const struct vmm_driver *d = argc == 4 ? vmm_driver_find(str_of(argv[1])) : NULL;
    int n = argc == 4 ? (int)strtol(argv[3], NULL, 10) : 0;
    char dir[] = "/tmp/vireo-firstinsn-XXXXXX";
    struct kv_virtual_machine_instance vmi = {0};
    struct vmm_machine m = {.vmi = &vmi, .accelerator = VMM_TCG, .initrd_fd = -1, .vhost_vsock_fd = -1, .private_dir = dir};
    const struct json *spec;
    double ignored;

    if (!d || n < 1 || n > 1000) {
        fprintf(stderr, "usage: firstinsn-bench qemu|qemu-microvm KERNEL TIMES\n");
        return 2;
    }
    AUTO_FREE double *driven = calloc((size_t)n, sizeof *driven), *returned = calloc((size_t)n, sizeof *returned),
                     *bare = calloc((size_t)n, sizeof *bare);
    signal(SIGPIPE, SIG_IGN);
    m.kernel_fd = open(argv[2], O_RDONLY | O_CLOEXEC);
    if (m.kernel_fd < 0 || !mkdtemp(dir))
        die(argv[2], "cannot be opened");
    m.private_dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!json_parse(arena_str(&a, STR("{\"metadata\":{\"name\":\"n\",\"namespace\":\"ns\",\"uid\":\"5d307ca9-b3ef-428c-8861-06e72d69f223\"},"
                                      "\"spec\":{\"domain\":{\"memory\":{\"guest\":\"32Mi\"},\"cpu\":{\"cores\":1},\"firmware\":{\"kernelBoot\":{"
                                      "\"kernelArgs\":\"console=ttyS0\",\"container\":{\"image\":\"i\",\"kernelPath\":\"/k\"}}},"
                                      "\"devices\":{\"autoattachGraphicsDevice\":false}}}}")),
                    &a, &spec, &err)
        || !schema_decode(&schema_type_kv_virtual_machine_instance, spec, &a, &vmi, &err))
        die("the machine's spec", error_text(&err));
    start_driven(d, &m, &given, &ignored); /* not counted: it brings what all share into memory, and tells the arguments */
    start_bare(&given);
    for (int i = 0; i < n; i++) {
        driven[i] = start_driven(d, &m, &given, &returned[i]);
        bare[i] = start_bare(&given);
    }
    printf("{");
    print_list("driver_ms", driven, n);
    printf(",");
    print_list("driver_returned_ms", returned, n);
    printf(",");
    print_list("bare_ms", bare, n);
    printf("}\n");
    buf_done(&given.args);
    buf_done(&given.env);
    return file_remove_tree(AT_FDCWD, dir, &err) ? 0 : 1;
}
