#include "storage/cloudinit.h"

#include <fcntl.h>

#include "api/types.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "json/json.h"
#include "storage/mounted.h"

struct sources { /* the two kinds have the same fields */
    struct str user, user64, network, network64;
    bool user_secret, network_secret;
};

#define SOURCES_OF(s)                                                                              \
    (struct sources)                                                                               \
    {                                                                                              \
        (s)->user_data, (s)->user_data_base64, (s)->network_data, (s)->network_data_base64,        \
            (s)->secret_ref != NULL, (s)->network_data_secret_ref != NULL                          \
    }

/* The pod mounts both Secrets, each at a name of its own (api/kv.h): `kind` is "udata" or "ndata". */
static bool from_secret(int private_dirfd, struct str volume, const char *kind, const char *key, const char *alias,
                        struct arena *a, struct str *ret, struct error *err)
{
    AUTO_CLOSE int dir = -1;

    if (!file_open_dir(private_dirfd, arena_printf(a, "secret/" STR_FMT "-%s", STR_ARG(volume), kind), &dir, err))
        return false;
    if (!mounted_read(dir, key, a, ret, err) || (!ret->p && !mounted_read(dir, alias, a, ret, err)))
        return false;
    if (!ret->p)
        return error_set(err, ERROR_NOT_FOUND, "the Secret has neither a key '%s' nor '%s'", key,
                         alias);
    return true;
}

static bool take(struct str plain, struct str base64, struct arena *a, struct str *ret,
                 struct error *err)
{
    AUTO(buf_done) struct buf b = {0};

    *ret = plain;
    if (plain.n > 0 || base64.n == 0)
        return true;
    if (!buf_add_base64_decoded(&b, base64, err))
        return false;
    *ret = arena_str(a, buf_str(&b));
    return true;
}

/* Up to the first dot and 63 characters, as upstream makes a host name of a VM's name. */
static struct str host_name(const struct kv_virtual_machine_instance *vmi)
{
    struct str name = vmi->spec->hostname.n ? vmi->spec->hostname : vmi->metadata->name, first,
               rest;

    str_cut(name, '.', &first, &rest);
    return str_take(first, first.n < 63 ? first.n : 63);
}

static struct str text_of(const struct json *v, struct arena *a)
{
    AUTO(buf_done) struct buf b = {0};

    json_write(&b, v);
    return arena_str(a, buf_str(&b));
}

/* {"0": key, …} from the Secrets that accessCredentials names for this kind of disk; NULL without any. */
static bool public_keys(const struct kv_virtual_machine_instance *vmi, bool config_drive,
                        int private_dirfd, struct arena *a, const struct json **ret,
                        struct error *err)
{
    const struct kv_access_credential_slice *s = &vmi->spec->access_credentials;
    unsigned n = 0;

    *ret = NULL;
    for (size_t i = 0; i < s->n; i++) {
        const struct kv_ssh_public_key_access_credential *k = s->p[i].ssh_public_key;
        AUTO_CLOSE int dir = -1;
        struct iso_file *files;
        size_t n_files;

        if (!k || !k->propagation_method || !k->source || !k->source->secret
            || !(config_drive ? k->propagation_method->config_drive != NULL
                              : k->propagation_method->no_cloud != NULL))
            continue;
        if (!file_open_dir(private_dirfd,
                           arena_printf(a, "secret/" STR_FMT "-access-cred",
                                        STR_ARG(k->source->secret->secret_name)),
                           &dir, err)
            || !mounted_list(dir, a, &files, &n_files, err))
            return error_wrap(err, "SSH keys");
        for (size_t f = 0; f < n_files; f++) {
            struct str rest = files[f].data, line;

            while (str_next(&rest, '\n', &line)) {
                line = str_trim(line);
                if (line.n > 0)
                    *ret = json_with(a, *ret, arena_printf(a, "%u", n++), json_new_str(a, line));
            }
        }
    }
    return true;
}

static void add(struct cloudinit *c, const char *path, struct str data)
{
    c->files[c->n++] = (struct iso_file){path, data.p ? data : STR("")};
}

bool cloudinit_make(const struct kv_virtual_machine_instance *vmi, const struct kv_volume *volume,
                    int private_dirfd, struct arena *a, struct cloudinit *ret, struct error *err)
{
    bool drive = volume->cloud_init_config_drive != NULL;
    struct sources s = drive ? SOURCES_OF(volume->cloud_init_config_drive)
                             : SOURCES_OF(volume->cloud_init_no_cloud);
    const struct kv_firmware *fw = vmi->spec->domain->firmware;
    const struct json *keys, *meta;
    struct str user, network, host = host_name(vmi);
    struct cloudinit c = {.label = drive ? "config-2" : "cidata"};

    if (!take(s.user, s.user64, a, &user, err) || !take(s.network, s.network64, a, &network, err))
        return error_wrap(err, "cloud-init");
    if (s.user_secret
        && !from_secret(private_dirfd, volume->name, "udata", "userdata", "userData", a, &user, err))
        return error_wrap(err, "cloud-init user data");
    if (s.network_secret
        && !from_secret(private_dirfd, volume->name, "ndata", "networkdata", "networkData", a, &network,
                        err))
        return error_wrap(err, "cloud-init network data");
    if (!public_keys(vmi, drive, private_dirfd, a, &keys, err))
        return false;
    if (drive) {
        meta = json_object(a, "instance_id",
                           json_new_f(a, STR_FMT "." STR_FMT, STR_ARG(vmi->metadata->name),
                                      STR_ARG(vmi->metadata->namespace)),
                           "uuid", fw && fw->uuid.n ? json_new_str(a, fw->uuid) : NULL, "hostname",
                           json_new_str(a, host), "public_keys", keys, NULL);
        add(&c, "openstack/latest/meta_data.json", text_of(meta, a));
        add(&c, "openstack/latest/user_data", user);
        if (network.n > 0)
            add(&c, "openstack/latest/network_data.json", network);
    } else {
        meta = json_object(a, "instance-id",
                           json_new_str(a, fw && fw->uuid.n ? fw->uuid : vmi->metadata->uid),
                           "local-hostname", json_new_str(a, host), "public-keys", keys, NULL);
        add(&c, "meta-data", text_of(meta, a));
        add(&c, "user-data", user);
        if (network.n > 0)
            add(&c, "network-config", network);
    }
    *ret = c;
    return true;
}
