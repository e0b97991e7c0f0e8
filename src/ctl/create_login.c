/* How one gets into a VM of `create vm`: cloud-init and access credentials. */
#include <fcntl.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "ctl/create_vm.h"
#include "json/yaml.h"

#define PASSWORD_LIMIT 4096

static const char *flag(const struct creation *v, const char *name)
{
    return flags_str(&v->c->flags, name);
}

static bool check_base64(const char *name, const char *text, struct error *err)
{
    AUTO(buf_done) struct buf b = {0};

    return buf_add_base64_decoded(&b, str_of(text), err) || error_wrap(err, "--%s", name);
}

/* The first line of the file. */
static bool read_password(struct creation *v, const struct json **ret, struct error *err)
{
    AUTO(buf_done) struct buf b = {0};
    const char *name = flag(v, "password-file");
    struct str line, rest;

    *ret = NULL;
    if (!name[0])
        return true;
    buf_init(&b, PASSWORD_LIMIT);
    if (!file_read(AT_FDCWD, name, &b, err))
        return error_wrap(err, "--password-file %s", name);
    str_cut(buf_str(&b), '\n', &line, &rest);
    line = str_trim(line);
    if (!line.n)
        return error_set(err, ERROR_BAD_REQUEST, "--password-file %s: empty", name);
    *ret = json_new_str(v->a, line);
    return true;
}

/* The cloud-config that --user, --password-file, --ssh-key and --ga-manage-ssh ask for; NULL for none. */
static bool user_data(struct creation *v, bool always, const struct json **ret, struct error *err)
{
    AUTO(buf_done) struct buf b = {0};
    const struct json *password, *keys = NULL, *commands = NULL, *config;
    const char *key;

    *ret = NULL;
    if (!read_password(v, &password, err))
        return false;
    for (size_t i = 0; (key = flags_item(&v->c->flags, "ssh-key", i)) != NULL; i++)
        keys = json_append(v->a, keys ? keys : json_array(v->a, NULL), json_new_z(v->a, key));
    if (flags_bool(&v->c->flags, "ga-manage-ssh"))
        commands = json_array(v->a,
                              json_array(v->a, json_new_z(v->a, "setsebool"), json_new_z(v->a, "-P"),
                                         json_new_z(v->a, "virt_qemu_ga_manage_ssh"), json_new_z(v->a, "on"), NULL),
                              NULL);
    if (!flag(v, "user")[0] && !password && !keys && !commands && !always)
        return true;
    config = json_object(v->a, "user", flag(v, "user")[0] ? json_new_z(v->a, flag(v, "user")) : NULL, "password", password,
                         "chpasswd", password ? json_object(v->a, "expire", json_new_bool(false), NULL) : NULL,
                         "ssh_authorized_keys", keys, "runcmd", commands, NULL);
    buf_adds(&b, "#cloud-config\n");
    if (json_len(config))
        yaml_write(&b, config);
    *ret = json_new_str(v->a, buf_str(&b));
    return true;
}

static bool wants_generated(const struct creation *v)
{
    return flags_given(&v->c->flags, "user") || flags_given(&v->c->flags, "password-file")
           || flags_given(&v->c->flags, "ssh-key") || flags_given(&v->c->flags, "ga-manage-ssh");
}

static bool add_cloud_init(struct creation *v, bool always, struct error *err)
{
    const char *method = flag(v, "cloud-init"), *user = flag(v, "cloud-init-user-data"), *network = flag(v, "cloud-init-network-data");
    bool none = strcmp(method, "none") == 0, drive = strcmp(method, "configdrive") == 0;
    const struct json *generated = NULL, *source;

    if (!none && !drive && strcmp(method, "nocloud") != 0)
        return error_set(err, ERROR_BAD_REQUEST, "--cloud-init is nocloud, configdrive or none, not '%s'", method);
    if (user[0] && wants_generated(v))
        return error_set(err, ERROR_BAD_REQUEST, "--cloud-init-user-data takes the place of --user, --password-file, --ssh-key "
                                                 "and --ga-manage-ssh: give one or the others");
    if (none) {
        if (user[0] || network[0] || wants_generated(v))
            return error_set(err, ERROR_BAD_REQUEST, "--cloud-init=none goes with no other flag about cloud-init");
        return true;
    }
    if (!check_base64("cloud-init-user-data", user, err) || !check_base64("cloud-init-network-data", network, err))
        return false;
    if (!user[0] && !user_data(v, always, &generated, err))
        return false;
    if (!user[0] && !network[0] && !generated && !flags_given(&v->c->flags, "cloud-init"))
        return true;
    if (!user[0] && !network[0] && !generated && !user_data(v, true, &generated, err))
        return false;
    source = json_object(v->a, "networkDataBase64", network[0] ? json_new_z(v->a, network) : NULL, "userData", generated,
                         "userDataBase64", user[0] ? json_new_z(v->a, user) : NULL, NULL);
    return create_volume_add(v, "cloud-init", STR("cloudinitdisk"), drive ? "cloudInitConfigDrive" : "cloudInitNoCloud", source, err);
}

/* type:ssh|password,src:SECRET,method:ga|nocloud|configdrive,user:NAME */
static bool add_credential(struct creation *v, const struct create_params *p, bool *ret_at_boot, struct error *err)
{
    struct str type = create_param(p, "type"), method = create_param(p, "method"), user = create_param(p, "user");
    bool password = str_is(type, "password"), agent = !method.n || str_is(method, "ga");
    const struct json *how, *secret;

    if (type.n && !password && !str_is(type, "ssh"))
        return error_set(err, ERROR_BAD_REQUEST, "--%s: type is ssh or password", p->flag);
    if (!create_param(p, "src").n)
        return error_set(err, ERROR_BAD_REQUEST, "--%s: src must be specified", p->flag);
    if (!agent && (password || (!str_is(method, "nocloud") && !str_is(method, "configdrive"))))
        return error_set(err, ERROR_BAD_REQUEST, "--%s: method is %s", p->flag, password ? "ga" : "ga, nocloud or configdrive");
    if (!user.n)
        user = str_of(flag(v, "user"));
    if (!password && agent && !user.n)
        return error_set(err, ERROR_BAD_REQUEST, "--%s: method ga needs user, or --user", p->flag);
    if (agent && password)
        how = json_object(v->a, "qemuGuestAgent", json_object(v->a, NULL), NULL);
    else if (agent)
        how = json_object(v->a, "qemuGuestAgent",
                          json_object(v->a, "users", json_array(v->a, json_new_str(v->a, user), NULL), NULL), NULL);
    else
        how = json_object(v->a, str_is(method, "nocloud") ? "noCloud" : "configDrive", json_object(v->a, NULL), NULL);
    *ret_at_boot = *ret_at_boot || !agent;
    secret = json_object(v->a, "secret", json_object(v->a, "secretName", json_new_str(v->a, create_param(p, "src")), NULL), NULL);
    v->credentials = json_append(v->a, v->credentials ? v->credentials : json_array(v->a, NULL),
                                 json_object(v->a, password ? "userPassword" : "sshPublicKey",
                                             json_object(v->a, "propagationMethod", how, "source", secret, NULL), NULL));
    return true;
}

bool create_login(struct creation *v, struct error *err)
{
    static const char *const known[] = {"type", "src", "method", "user", NULL};
    struct create_params p;
    bool at_boot = false; /* such keys reach the guest through a cloud-init disk */
    const char *value;

    for (size_t i = 0; (value = flags_item(&v->c->flags, "access-cred", i)) != NULL; i++)
        if (!create_params_parse("access-cred", value, known, &p, err) || !add_credential(v, &p, &at_boot, err))
            return false;
    return add_cloud_init(v, at_boot, err);
}
