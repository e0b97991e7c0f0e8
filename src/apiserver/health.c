/* apiserver/health - /livez, /readyz, /healthz, /version, /metrics. */
#include "apiserver/internal.h"
#include <sys/utsname.h>

static void text(struct request *r, int code, struct buf *b)
{
    answer_text(r, code, "text/plain; charset=utf-8", buf_str(b));
}

/* "etcd" is what monitoring looks for: it stands for the store. */
static void health(struct request *r, const char *which, bool ready)
{
    AUTO(buf_done) struct buf list = {0}, out = {0};
    AUTO(error_clear) struct error err = {0};
    bool ok = true, verbose = query_get(r, "verbose").p != NULL;
    struct str key;
    void *reason;
    size_t at = 0;

    buf_adds(&list, "[+]ping ok\n");
    if (store_health(r->s->store, &err)) {
        buf_adds(&list, "[+]etcd ok\n");
    } else {
        ok = false;
        buf_addf(&list, "[-]etcd failed: %s\n", error_text(&err));
    }
    while (ready && map_next(&r->s->health, &at, &key, &reason)) {
        const char *why = reason;

        if (*why) {
            ok = false;
            buf_addf(&list, "[-]" STR_FMT " failed: %s\n", STR_ARG(key), why);
        } else {
            buf_addf(&list, "[+]" STR_FMT " ok\n", STR_ARG(key));
        }
    }
    if (ok && !verbose)
        buf_adds(&out, "ok");
    else if (ok)
        buf_addf(&out, "%s%s check passed\n", list.p, which);
    else
        buf_addf(&out, "%s%s check failed\n", list.p, which);
    text(r, ok ? 200 : 500, &out);
}

static void version(struct request *r)
{
    struct arena *a = &r->arena;
    struct utsname u;
    const char *arch = "amd64";

    if (uname(&u) == 0 && !strcmp(u.machine, "aarch64"))
        arch = "arm64";
    r->pretty = true;
    answer_json(r, 200,
                json_object(a, "major", json_new_z(a, "1"), "minor", json_new_z(a, "36"),
                            "emulationMajor", json_new_z(a, "1"), "emulationMinor",
                            json_new_z(a, "36"), "minCompatibilityMajor", json_new_z(a, "1"),
                            "minCompatibilityMinor", json_new_z(a, "35"), "gitVersion",
                            json_new_z(a, "v1.36.0+vireo-" VIREO_VERSION), "gitCommit",
                            json_new_z(a, ""), "gitTreeState", json_new_z(a, "clean"), "buildDate",
                            json_new_z(a, "1970-01-01T00:00:00Z"), "goVersion",
                            json_new_z(a, "none"), "compiler", json_new_z(a, "cc"), "platform",
                            json_new_f(a, "linux/%s", arch), NULL));
}

bool health_handle(struct request *r)
{
    struct str path = r->path;

    if (str_ends(path, STR("/")) && path.n > 1)
        path = str_take(path, path.n - 1);
    if (str_is(path, "/livez") || str_is(path, "/healthz") || str_is(path, "/livez/ping")
        || str_is(path, "/healthz/ping")) {
        health(r, str_starts(path, STR("/livez")) ? "livez" : "healthz", false);
        return true;
    }
    if (str_is(path, "/readyz") || str_is(path, "/readyz/ping")) {
        health(r, "readyz", true);
        return true;
    }
    if (str_is(path, "/version")) {
        version(r);
        return true;
    }
    if (str_is(path, "/metrics")) {
        AUTO(buf_done) struct buf b = {0};

        metrics_write(r->s, &b);
        answer_text(r, 200, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", buf_str(&b));
        return true;
    }
    return false;
}
