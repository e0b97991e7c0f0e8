#include "pod/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

#define RECORD_LIMIT (256u << 10)

static const char *const phase_names[] = {[RECORD_PREPARED] = "prepared", [RECORD_STARTED] = "started", [RECORD_ENDED] = "ended"};

void record_done(struct record *r)
{
    free(r->uid);
    free(r->ns);
    free(r->name);
    free(r->vmi_uid);
    free(r->reason);
    free(r->message);
    for (size_t i = 0; i < r->claims.n; i++)
        free(r->claims.p[i].volume);
    vec_done(&r->claims);
    for (size_t i = 0; i < r->images.n; i++)
        free(r->images.p[i]);
    vec_done(&r->images);
    *r = (struct record){0};
}

static const struct json *claims_json(const struct record *r, struct arena *a)
{
    const struct json *list = json_array(a, NULL);

    for (size_t i = 0; i < r->claims.n; i++) {
        const struct record_claim *c = &r->claims.p[i];

        list = json_append(a, list, json_object(a, "volume", json_new_z(a, c->volume), "write", json_new_bool(c->write),
                                                "shared", json_new_bool(c->shared), NULL));
    }
    return list;
}

static const struct json *images_json(const struct record *r, struct arena *a)
{
    const struct json *list = json_array(a, NULL);

    for (size_t i = 0; i < r->images.n; i++)
        list = json_append(a, list, json_new_z(a, r->images.p[i]));
    return r->images_known ? list : NULL;
}

static bool replace(int dirfd, struct str text, struct error *err)
{
    AUTO_CLOSE int fd = -1;

    if (!file_open_beneath(dirfd, RECORD_NAME ".new", O_WRONLY | O_CREAT | O_TRUNC, 0600, &fd, err)
        || !file_write_all(fd, text, err))
        return false;
    if (renameat(dirfd, RECORD_NAME ".new", dirfd, RECORD_NAME) < 0)
        return error_errno(err, errno, "rename");
    return true;
}

bool record_write(int pod_dirfd, const struct record *r, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf b = {0};

    json_write(&b, json_object(&a, "v", json_new_i64(&a, 1), "phase", json_new_z(&a, phase_names[r->phase]), "uid",
                               json_new_z(&a, r->uid), "namespace", json_new_z(&a, r->ns), "name", json_new_z(&a, r->name),
                               "vmiUID", json_new_z(&a, r->vmi_uid), "migrationTarget", json_new_bool(r->migration_target),
                               "bootID", json_new_z(&a, r->boot_id), "slot", json_new_i64(&a, r->slot), "pid",
                               json_new_i64(&a, r->pid), "startTicks", json_new_i64(&a, (int64_t)r->start_ticks), "claims",
                               claims_json(r, &a), "images", images_json(r, &a), "ip", json_new_z(&a, r->ip), "hostIP", json_new_z(&a, r->host_ip),
                               "createdNs", json_new_i64(&a, r->created_ns), "startedNs", json_new_i64(&a, r->started_ns),
                               "finishedNs", json_new_i64(&a, r->finished_ns), "exitCode", json_new_i64(&a, r->exit_code),
                               "signal", json_new_i64(&a, r->signal), "reason", json_new_z(&a, r->reason), "message",
                               json_new_z(&a, r->message), NULL));
    if (!replace(pod_dirfd, buf_str(&b), err))
        return error_wrap(err, "sandbox record of pod %s/%s", r->ns, r->name);
    return true;
}

static void copy_text(char *ret, size_t size, struct str s)
{
    snprintf(ret, size, STR_FMT, STR_ARG(s));
}

static bool read_phase(struct str text, enum record_phase *ret)
{
    for (size_t i = 0; i < ARRAY_SIZE(phase_names); i++)
        if (str_is(text, phase_names[i])) {
            *ret = (enum record_phase)i;
            return true;
        }
    return false;
}

bool record_read(int pod_dirfd, struct record *ret, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf b = {0};
    AUTO(record_done) struct record r = {0};
    const struct json *v;

    buf_init(&b, RECORD_LIMIT);
    if (!file_read(pod_dirfd, RECORD_NAME, &b, err) || !json_parse(buf_str(&b), &a, &v, err))
        return false;
    r.uid = str_dup(json_str_at(v, "uid"));
    r.ns = str_dup(json_str_at(v, "namespace"));
    r.name = str_dup(json_str_at(v, "name"));
    r.vmi_uid = str_dup(json_str_at(v, "vmiUID"));
    if (!r.uid || !r.ns || !r.name || !read_phase(json_str_at(v, "phase"), &r.phase))
        return error_set(err, ERROR_INVALID, RECORD_NAME ": not a record");
    if (!r.vmi_uid)
        r.vmi_uid = xstrdup("");
    r.migration_target = json_bool_at(v, "migrationTarget", false);
    copy_text(r.boot_id, sizeof r.boot_id, json_str_at(v, "bootID"));
    copy_text(r.ip, sizeof r.ip, json_str_at(v, "ip"));
    copy_text(r.host_ip, sizeof r.host_ip, json_str_at(v, "hostIP"));
    r.slot = (unsigned)json_i64_at(v, "slot", 0);
    r.pid = (pid_t)json_i64_at(v, "pid", 0);
    r.start_ticks = (uint64_t)json_i64_at(v, "startTicks", 0);
    r.created_ns = json_i64_at(v, "createdNs", 0);
    r.started_ns = json_i64_at(v, "startedNs", 0);
    r.finished_ns = json_i64_at(v, "finishedNs", 0);
    r.exit_code = (int)json_i64_at(v, "exitCode", 0);
    r.signal = (int)json_i64_at(v, "signal", 0);
    r.reason = str_dup(json_str_at(v, "reason"));
    r.message = str_dup(json_str_at(v, "message"));
    json_each_item(c, json_get(v, "claims"))
        vec_push(&r.claims, (struct record_claim){.volume = str_dup(json_str_at(c, "volume")),
                                                  .write = json_bool_at(c, "write", true),
                                                  .shared = json_bool_at(c, "shared", false)});
    r.images_known = json_is(json_get(v, "images"), JSON_ARRAY);
    json_each_item(image, json_get(v, "images"))
        if (json_str(image).n)
            vec_push(&r.images, str_dup(json_str(image)));
    *ret = TAKE(r);
    return true;
}
