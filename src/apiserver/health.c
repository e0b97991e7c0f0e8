/* apiserver/health - /livez, /readyz, /healthz, /version, /metrics. */
#include "apiserver/internal.h"
#include <sys/utsname.h>

static void text(struct request *r, int code, struct buf *b)
{
    answer_text(r, code, "text/plain; charset=utf-8", buf_str(b));
}

struct check {
    struct str name;
    const char *why; /* it fails, or NULL */
};

/* The checks of /livez and /healthz, or of /readyz. "etcd" is what monitoring looks for: it stands for the store. Who is not
 * live is started again: a full disk is no reason for that, it would cost reads and deletions, too. */
static size_t checks_of(struct request *r, bool ready, struct check *ret, size_t max)
{
    AUTO(error_clear) struct error err = {0};
    struct str key;
    void *reason;
    size_t n = 0, at = 0;

    ret[n++] = (struct check){STR("ping"), NULL};
    ret[n++] = (struct check){STR("etcd"),
                              (ready ? store_health : store_alive)(r->s->store, &err)
                                  ? NULL
                                  : arena_strdup(&r->arena, str_of(error_text(&err)))};
    while (ready && n < max - 1 && map_next(&r->s->health, &at, &key, &reason))
        ret[n++] = (struct check){key, *(const char *)reason ? reason : NULL};
    if (ready)
        ret[n++] = (struct check){STR("shutdown"),
                                  r->s->closing ? "process is shutting down" : NULL};
    return n;
}

static bool excluded(const struct request *r, struct str name)
{
    for (size_t i = 0; i < r->n_query; i++)
        if (str_is(r->query[i].name, "exclude") && str_eq(r->query[i].value, name))
            return true;
    return false;
}

static void health(struct request *r, const char *which)
{
    AUTO(buf_done) struct buf list = {0}, out = {0};
    struct check c[32];
    size_t n = checks_of(r, !strcmp(which, "readyz"), c, ARRAY_SIZE(c));
    bool ok = true, verbose = query_get(r, "verbose").p != NULL;

    for (size_t i = 0; i < n; i++) {
        if (excluded(r, c[i].name)) {
            buf_addf(&list, "[+]" STR_FMT " excluded: ok\n", STR_ARG(c[i].name));
        } else if (c[i].why) {
            ok = false;
            buf_addf(&list, "[-]" STR_FMT " failed: %s\n", STR_ARG(c[i].name), c[i].why);
        } else {
            buf_addf(&list, "[+]" STR_FMT " ok\n", STR_ARG(c[i].name));
        }
    }
    if (ok && !verbose)
        buf_adds(&out, "ok");
    else
        buf_addf(&out, "%s%s check %s\n", list.p, which, ok ? "passed" : "failed");
    text(r, ok ? 200 : 500, &out);
}

/* /livez/etcd: one check by itself. */
static void health_one(struct request *r, const char *which, struct str name)
{
    AUTO(buf_done) struct buf out = {0};
    struct check c[32];
    size_t n = checks_of(r, !strcmp(which, "readyz"), c, ARRAY_SIZE(c));

    for (size_t i = 0; i < n; i++) {
        if (!str_eq(c[i].name, name))
            continue;
        if (c[i].why)
            buf_addf(&out, "internal server error: %s\n", c[i].why);
        else
            buf_adds(&out, "ok");
        text(r, c[i].why ? 500 : 200, &out);
        return;
    }
    buf_adds(&out, "404 page not found\n");
    text(r, 404, &out);
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
    static const char *const kinds[] = {"livez", "readyz", "healthz"};
    struct str path = r->path;

    if (str_ends(path, STR("/")) && path.n > 1)
        path = str_take(path, path.n - 1);
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        struct str name = str_skip(path, strlen(kinds[i]) + 1);

        if (!str_starts(path, STR("/")) || !str_starts(str_skip(path, 1), str_of(kinds[i])))
            continue;
        if (!name.n)
            health(r, kinds[i]);
        else if (name.p[0] == '/')
            health_one(r, kinds[i], str_skip(name, 1));
        else
            return false;
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
