/* version: of this program and of the server, in the words that scripts look for. */
#include "base/cleanup.h"
#include "ctl/verbs.h"

static void print_info(struct ctl *c, const char *who, const struct json *v)
{
    static const struct {
        const char *word, *member;
    } parts[] = {{"GitVersion", "gitVersion"}, {"GitCommit", "gitCommit"}, {"GitTreeState", "gitTreeState"},
                 {"BuildDate", "buildDate"},   {"GoVersion", "goVersion"}, {"Compiler", "compiler"}, {"Platform", "platform"}};
    AUTO(buf_done) struct buf b = {0};

    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        buf_addf(&b, "%s%s:", i ? ", " : "", parts[i].word);
        json_write_string(&b, json_str_at(v, parts[i].member));
    }
    ctl_print(c, "%s Version: version.Info{%s}\n", who, b.p);
}

static bool run(struct ctl *c, struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(ctl_reply_done) struct ctl_reply reply = {0};

    print_info(c, "Client", json_object(&a, "gitVersion", json_new_z(&a, "v1.8.0+vireo-" VIREO_VERSION), "gitTreeState",
                                        json_new_z(&a, "clean"), "goVersion", json_new_z(&a, "none"), "compiler",
                                        json_new_z(&a, __VERSION__), "platform",
#if defined(__aarch64__)
                                        json_new_z(&a, "linux/arm64"),
#else
                                        json_new_z(&a, "linux/amd64"),
#endif
                                        NULL));
    if (flags_bool(&c->flags, "client"))
        return true;
    if (!ctl_call(c, HTTP_GET, "/apis/subresources.kubevirt.io/v1/version", NULL, &reply, err))
        return error_wrap(err, "no version of the server (--client asks for none)");
    print_info(c, "Server", reply.body);
    return true;
}

static const struct flag flags[] = {{"client", 'c', FLAG_BOOL, NULL, "of this program only; no server is needed"}};

const struct ctl_verb ctl_version = {
    .name = "version", .args = "", .summary = "Show the versions of virtctl and of the server",
    .examples = "# both\nversion\n# without a server\nversion --client",
    .flags = {flags, ARRAY_SIZE(flags)}, .run = run,
};
