/* create vm: prints a manifest; nothing is sent to a server. */
#include "ctl/create_vm.h"

#include "api/quantity.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "ctl/verbs.h"
#include "json/yaml.h"

void create_random(char *p, size_t n)
{
    static const char letters[] = "bcdfghjklmnpqrstvwxz2456789";

    file_random(p, n);
    for (size_t i = 0; i < n; i++)
        p[i] = letters[(unsigned char)p[i] % (sizeof letters - 1)];
    p[n] = '\0';
}

/* Of these flags at most one. */
static bool exclusive(const struct flags *f, const char *const *names, struct error *err)
{
    const char *first = NULL;

    for (; *names; names++) {
        if (!flags_given(f, *names))
            continue;
        if (first)
            return error_set(err, ERROR_BAD_REQUEST, "--%s and --%s exclude each other", first, *names);
        first = *names;
    }
    return true;
}

/* "[kind/]name" */
static bool matcher_of(struct arena *a, const char *flag, const char *text, const char *kind, const struct json **ret, struct error *err)
{
    AUTO(buf_done) struct buf cluster = {0};
    struct str k, name;
    const char *short_kind = kind + strlen("virtualmachine");

    buf_addf(&cluster, "virtualmachinecluster%s", short_kind);
    if (!str_cut(str_of(text), '/', &k, &name)) {
        *ret = json_object(a, "name", json_new_z(a, text), NULL);
        return true;
    }
    if (!str_is(k, kind) && !str_is(k, cluster.p))
        return error_set(err, ERROR_BAD_REQUEST, "--%s: kind '" STR_FMT "' is neither %s nor %s", flag, STR_ARG(k), kind, cluster.p);
    if (!name.n || str_has(name, '/'))
        return error_set(err, ERROR_BAD_REQUEST, "--%s: [KIND/]NAME is wanted, not '%s'", flag, text);
    *ret = json_object(a, "kind", json_new_str(a, k), "name", json_new_str(a, name), NULL);
    return true;
}

struct inference {
    const char *flag, *infer, *from, *kind;
};

/* The matcher of an instance type or preference: named, or inferred from a volume. Inferred without being asked for, the
 * server may fail to and go on. *ret NULL: none. */
static bool choose_matcher(const struct creation *v, const struct inference *t, bool may_guess, const struct json **ret,
                           bool *ret_asked, struct error *err)
{
    const struct flags *f = &v->c->flags;
    const char *name = flags_str(f, t->flag), *from = flags_str(f, t->from);
    struct str volume = from[0] ? str_of(from) : v->boot_volume;

    *ret = NULL;
    *ret_asked = name[0] || flags_given(f, t->infer) || flags_given(f, t->from);
    if (name[0])
        return matcher_of(v->a, t->flag, name, t->kind, ret, err);
    if (!flags_bool(f, t->infer) || (!*ret_asked && !may_guess)) {
        *ret_asked = false;
        return true;
    }
    if (!create_can_infer(v, volume)) {
        if (!*ret_asked)
            return true;
        return error_set(err, ERROR_BAD_REQUEST, "--%s: %s '" STR_FMT "' has no labels to infer from: a PVC, a cloned PVC or a "
                                                 "DataSource does", from[0] ? t->from : t->infer,
                         volume.n ? "volume" : "there is no volume; volume", STR_ARG(volume));
    }
    *ret = json_object(v->a, "inferFromVolume", json_new_str(v->a, volume), "inferFromVolumeFailurePolicy",
                       *ret_asked ? NULL : json_new_z(v->a, "Ignore"), NULL);
    return true;
}

static bool check_flags(const struct ctl *c, struct error *err)
{
    static const char *const sizes[] = {"memory", "instancetype", "infer-instancetype", "infer-instancetype-from", NULL};
    static const char *const preferences[] = {"preference", "infer-preference", "infer-preference-from", NULL};
    static const char *const strategies[] = {"Always", "Manual", "Halted", "Once", "RerunOnFailure"};
    const char *strategy = flags_str(&c->flags, "run-strategy");
    struct quantity q;

    if (!exclusive(&c->flags, sizes, err) || !exclusive(&c->flags, preferences, err))
        return false;
    if (!quantity_parse(str_of(flags_str(&c->flags, "memory")), &q, err))
        return error_wrap(err, "--memory");
    if (flags_int(&c->flags, "termination-grace-period") < 0)
        return error_set(err, ERROR_BAD_REQUEST, "--termination-grace-period cannot be negative");
    for (size_t i = 0; i < ARRAY_SIZE(strategies); i++)
        if (strcmp(strategy, strategies[i]) == 0)
            return true;
    return error_set(err, ERROR_BAD_REQUEST, "--run-strategy is Always, Manual, Halted, Once or RerunOnFailure, not '%s'", strategy);
}

static const struct json *manifest(const struct creation *v, const struct json *instancetype, const struct json *preference,
                                   bool memory)
{
    const struct flags *f = &v->c->flags;
    struct arena *a = v->a;
    const char *ns = flags_str(f, "namespace");
    const struct json *domain = json_object(
        a, "devices", json_object(a, "disks", v->disks, NULL), "memory",
        memory ? json_object(a, "guest", json_new_z(a, flags_str(f, "memory")), NULL) : NULL, "resources", json_object(a, NULL), NULL);
    const struct json *spec = json_object(a, "accessCredentials", v->credentials, "domain", domain, "terminationGracePeriodSeconds",
                                          json_new_i64(a, flags_int(f, "termination-grace-period")), "volumes", v->volumes, NULL);

    return json_object(
        a, "apiVersion", json_new_z(a, "kubevirt.io/v1"), "kind", json_new_z(a, "VirtualMachine"), "metadata",
        json_object(a, "name", json_new_z(a, v->name), "namespace", ns[0] ? json_new_z(a, ns) : NULL, NULL), "spec",
        json_object(a, "dataVolumeTemplates", v->templates, "instancetype", instancetype, "preference", preference, "runStrategy",
                    json_new_z(a, flags_str(f, "run-strategy")), "template", json_object(a, "spec", spec, NULL), NULL),
        NULL);
}

static bool run(struct ctl *c, struct error *err)
{
    static const struct inference types = {"instancetype", "infer-instancetype", "infer-instancetype-from", "virtualmachineinstancetype"};
    static const struct inference preferences = {"preference", "infer-preference", "infer-preference-from", "virtualmachinepreference"};
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf b = {0};
    struct creation v = {.c = c, .a = &a, .name = flags_str(&c->flags, "name")};
    const struct json *instancetype, *preference;
    char name[] = "vm-12345";
    bool sized, asked;

    if (!v.name[0]) {
        create_random(name + 3, 5);
        v.name = name;
    }
    if (!check_flags(c, err) || !create_volumes(&v, err) || !create_login(&v, err)
        || !choose_matcher(&v, &types, !flags_given(&c->flags, "memory"), &instancetype, &sized, err)
        || !choose_matcher(&v, &preferences, true, &preference, &asked, err))
        return error_wrap(err, "create vm");
    yaml_write(&b, manifest(&v, instancetype, preference, !sized));
    return ctl_print_buf(c, &b, err);
}

static const struct flag flags[] = {
    {"name", 0, FLAG_STRING, NULL, "name of the VM, instead of a random one"},
    {"run-strategy", 0, FLAG_STRING, "Always", "Always, Manual, Halted, Once or RerunOnFailure"},
    {"termination-grace-period", 0, FLAG_INT, "180", "seconds that the guest gets to shut down"},
    {"memory", 0, FLAG_STRING, "512Mi", "memory of the guest"},
    {"instancetype", 0, FLAG_STRING, NULL, "[KIND/]NAME of the instance type"},
    {"infer-instancetype", 0, FLAG_BOOL, "true", "take the instance type that the boot volume's labels name"},
    {"infer-instancetype-from", 0, FLAG_STRING, NULL, "the same from another volume"},
    {"preference", 0, FLAG_STRING, NULL, "[KIND/]NAME of the preference"},
    {"infer-preference", 0, FLAG_BOOL, "true", "take the preference that the boot volume's labels name"},
    {"infer-preference-from", 0, FLAG_STRING, NULL, "the same from another volume"},
    {"volume-containerdisk", 0, FLAG_LIST, NULL, "src:IMAGE[,name:N][,bootorder:B]"},
    {"volume-pvc", 0, FLAG_LIST, NULL, "src:CLAIM[,name:N][,bootorder:B]"},
    {"volume-import", 0, FLAG_LIST, NULL,
     "type:blank|ds|gcs|http|imageio|pvc|registry|s3|snapshot|vddk,size:S,… (url:, src:, secretref: and others by type)"},
    {"volume-sysprep", 0, FLAG_LIST, NULL, "src:NAME[,type:configMap|secret]"},
    {"volume-datasource", 0, FLAG_LIST, NULL, "old form of --volume-import type:ds"},
    {"volume-clone-pvc", 0, FLAG_LIST, NULL, "old form of --volume-import type:pvc"},
    {"volume-blank", 0, FLAG_LIST, NULL, "old form of --volume-import type:blank"},
    {"user", 0, FLAG_STRING, NULL, "user that cloud-init makes"},
    {"password-file", 0, FLAG_STRING, NULL, "file with that user's password"},
    {"ssh-key", 0, FLAG_LIST, NULL, "public key that may log in"},
    {"ga-manage-ssh", 0, FLAG_BOOL, NULL, "let SELinux allow the guest agent to manage SSH keys"},
    {"access-cred", 0, FLAG_LIST, NULL, "type:ssh|password,src:SECRET[,method:ga|nocloud|configdrive][,user:U]"},
    {"cloud-init", 0, FLAG_STRING, "nocloud", "nocloud, configdrive or none"},
    {"cloud-init-user-data", 0, FLAG_STRING, NULL, "user data, base64"},
    {"cloud-init-network-data", 0, FLAG_STRING, NULL, "network data, base64"},
};

const struct ctl_verb ctl_create_vm = {
    .name = "create vm", .args = "", .summary = "Print the manifest of a new virtual machine",
    .examples = "# with a container disk, and create it at once\n"
                "create vm --name=my-vm --volume-containerdisk=src:quay.io/containerdisks/debian:12 | kubectl apply -f -\n"
                "# with a claim as its disk, and a login\n"
                "create vm --memory=1Gi --volume-pvc=src:my-claim --user=alice --ssh-key=\"$(cat ~/.ssh/id_ed25519.pub)\"\n"
                "# of an instance type\ncreate vm --instancetype=u1.small --preference=debian --volume-pvc=src:my-claim",
    .flags = {flags, ARRAY_SIZE(flags)}, .run = run,
};
