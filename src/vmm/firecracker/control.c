/* Changes of a running machine, its vsock, its snapshots. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "vmm/firecracker/firecracker.h"

#define MIB (1ull << 20)

/* A snapshot: two files, by the names that Firecracker's own examples have. */
#define STATE_FILE  "vmstate"
#define MEMORY_FILE "memory"
#define SNAPSHOT_NS (600 * SECONDS(1))

static bool need_boot(struct fc *f, struct error *err)
{
    return f->now.booted || error_set(err, ERROR_CONFLICT, "the guest has not been started yet");
}

bool fc_set_balloon(struct vmm *v, uint64_t bytes, struct error *err)
{
    struct fc *f = fc_of(v);
    AUTO(arena_done) struct arena a = {0};
    uint64_t take;

    if (!f->config.balloon)
        return error_set(err, ERROR_UNSUPPORTED, "this machine has no balloon (spec.domain.devices.autoattachMemBalloon)");
    if (bytes > f->config.memory)
        return error_set(err, ERROR_INVALID, "the guest has %llu bytes, and a balloon gives none",
                         (unsigned long long)f->config.memory);
    take = (f->config.memory - bytes) / MIB;
    return need_boot(f, err)
           && fc_request(f, "PATCH", "/balloon", json_object(&a, "amount_mib", json_new_i64(&a, (int64_t)take), NULL), NULL, &a, NULL,
                         err);
}

bool fc_set_memory(struct vmm *v, uint64_t bytes, struct error *err)
{
    struct fc *f = fc_of(v);
    AUTO(arena_done) struct arena a = {0};

    if (!f->config.hotplug)
        return error_set(err, ERROR_UNSUPPORTED, "this machine was not made for more memory: spec.domain.memory.maxGuest");
    if (bytes < f->config.memory || bytes > f->config.memory + f->config.hotplug || bytes % (2 * MIB))
        return error_set(err, ERROR_INVALID, "memory of this machine is between %llu and %llu MiB, in steps of 2",
                         (unsigned long long)(f->config.memory / MIB),
                         (unsigned long long)((f->config.memory + f->config.hotplug) / MIB));
    return need_boot(f, err)
           && fc_request(f, "PATCH", "/hotplug/memory",
                         json_object(&a, "requested_size_mib", json_new_i64(&a, (int64_t)((bytes - f->config.memory) / MIB)), NULL),
                         "spec.domain.memory.guest", &a, NULL, err);
}

bool fc_vsock_connect(struct vmm *v, unsigned port, int *ret_fd, struct error *err)
{
    struct fc *f = fc_of(v);
    struct rest at = {f->dir_fd, FC_VSOCK, "firecracker"};

    if (!f->config.vsock)
        return error_set(err, ERROR_UNSUPPORTED, "this machine has no vsock (spec.domain.devices.autoattachVSOCK)");
    return need_boot(f, err) && rest_vsock_connect(&at, port, REST_TIMEOUT_NS, ret_fd, err);
}

/* ---- snapshots ----
 *
 * The process may write into its own directory only, so that is where it writes; the files then move to where they shall be. */

static bool move_file(struct fc *f, int to_dir, const char *name, struct error *err)
{
    AUTO_CLOSE int from = -1;
    AUTO_CLOSE int to = -1;

    if (renameat(f->dir_fd, name, to_dir, name) == 0)
        return true;
    if (errno != EXDEV)
        return error_errno(err, errno, "move %s", name);
    return (file_open_beneath(f->dir_fd, name, O_RDONLY | O_NOFOLLOW, 0, &from, err)
            && file_open_beneath(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, &to, err) && file_copy_data(from, to, err)
            && fsync(to) == 0 && unlinkat(f->dir_fd, name, 0) == 0)
           || error_wrap(err, "%s", name);
}

bool fc_snapshot(struct vmm *v, const char *dir, struct error *err)
{
    struct fc *f = fc_of(v);
    AUTO(arena_done) struct arena a = {0};
    AUTO_CLOSE int to = -1;
    struct rest_answer got;
    struct rest_request q = {.method = "PUT",
                             .path = "/snapshot/create",
                             .timeout_ns = SNAPSHOT_NS,
                             .body = json_object(&a, "snapshot_type", json_new_z(&a, "Full"), "snapshot_path",
                                                 json_new_z(&a, STATE_FILE), "mem_file_path", json_new_z(&a, MEMORY_FILE), NULL)};
    bool ok;

    if (!need_boot(f, err) || !file_open_dir(AT_FDCWD, dir, &to, err))
        return false;
    ok = rest_call(&f->api, &q, &a, &got, err);
    if (ok && !rest_ok(&got)) {
        struct str fault = json_str_at(got.json, "fault_message");

        ok = fc_refused(got.status, fault.p ? fault : got.text, "snapshot", err);
    }
    ok = ok && move_file(f, to, MEMORY_FILE, err) && move_file(f, to, STATE_FILE, err);
    unlinkat(f->dir_fd, MEMORY_FILE, 0); /* of a failure */
    unlinkat(f->dir_fd, STATE_FILE, 0);
    return ok;
}

bool fc_open_snapshot(const char *dir, int *ret_state_fd, int *ret_memory_fd, struct error *err)
{
    AUTO_CLOSE int at = -1;
    AUTO_CLOSE int state = -1;
    AUTO_CLOSE int memory = -1;

    if (!file_open_dir(AT_FDCWD, dir, &at, err) || !file_open_beneath(at, STATE_FILE, O_RDONLY | O_NOFOLLOW, 0, &state, err)
        || !file_open_beneath(at, MEMORY_FILE, O_RDONLY | O_NOFOLLOW, 0, &memory, err))
        return error_wrap(err, "snapshot");
    *ret_state_fd = TAKE_FD(state);
    *ret_memory_fd = TAKE_FD(memory);
    return true;
}
