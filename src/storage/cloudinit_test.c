#include "base/base_test.h"
#include "storage/cloudinit.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/types.h"
#include "base/cleanup.h"
#include "base/file.h"

struct place {
    char dir[64];
    int fd;
};

static int setup(void **state)
{
    static struct place p;

    snprintf(p.dir, sizeof p.dir, "/tmp/vireo-cloudinit-XXXXXX");
    if (!mkdtemp(p.dir))
        return -1;
    p.fd = open(p.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *state = &p;
    return p.fd < 0 ? -1 : 0;
}

static int teardown(void **state)
{
    AUTO(error_clear) struct error err = {0};
    struct place *p = *state;

    fd_close(&p->fd);
    return file_remove_tree(AT_FDCWD, p->dir, &err) ? 0 : -1;
}

static void put(const struct place *p, const char *dir, const char *name, const char *text)
{
    AUTO(error_clear) struct error err = {0};
    AUTO_CLOSE int fd = -1;

    if (!file_make_dirs(p->fd, dir, 0755, &fd, &err) || !file_write(fd, name, str_of(text), 0600, &err))
        fail_msg("%s", error_text(&err));
}

/* The files of the first volume, as "name=content" in lines; or "error: …". */
static const char *made(const struct place *p, const char *spec, struct arena *a)
{
    AUTO(error_clear) struct error err = {0};
    AUTO(buf_done) struct buf b = {0};
    struct kv_virtual_machine_instance vmi = {0};
    const struct json *v = NULL;
    struct cloudinit c;
    char *text = arena_printf(a, "{'metadata':{'name':'v','namespace':'n','uid':'u'},'spec':{'domain':{},%s}}", spec);

    for (char *q = text; *q; q++)
        if (*q == '\'')
            *q = '"';
    if (!json_parse(str_of(text), a, &v, &err) || !schema_decode(&schema_type_kv_virtual_machine_instance, v, a, &vmi, &err))
        fail_msg("%s: %s", text, error_text(&err));
    if (!cloudinit_make(&vmi, &vmi.spec->volumes.p[0], p->fd, a, &c, &err))
        return arena_printf(a, "error: %s", error_text(&err));
    buf_adds(&b, c.label);
    for (size_t i = 0; i < c.n; i++)
        buf_addf(&b, "\n%s=" STR_FMT, c.files[i].path, STR_ARG(c.files[i].data));
    for (char *q = b.p; *q; q++)
        if (*q == '"')
            *q = '\'';
    return arena_strdup(a, buf_str(&b));
}

#define CRED(name, how) "{'sshPublicKey':{'source':{'secret':{'secretName':'" name "'}},'propagationMethod':{'" how "':{}}}}"
#define DRIVE "openstack/latest/meta_data.json={'instance_id':'v.n','hostname':'v'"
#define META "{'instance-id':'u','local-hostname':'v'"

static void makes(void **state)
{
    static const struct {
        const char *spec, *files;
    } cases[] = {
        {"'volumes':[{'name':'s','cloudInitNoCloud':{'userData':'x'}}]", "cidata\nmeta-data=" META "}\nuser-data=x"},
        {"'volumes':[{'name':'s','cloudInitNoCloud':{'userDataBase64':'eHk=','networkData':'n'}}]",
         "cidata\nmeta-data=" META "}\nuser-data=xy\nnetwork-config=n"},
        {"'volumes':[{'name':'s','cloudInitNoCloud':{'secretRef':{'name':'any'},'networkDataSecretRef':{'name':'any'}}}]",
         "cidata\nmeta-data=" META "}\nuser-data=from-secret\nnetwork-config=net"},
        {"'volumes':[{'name':'other','cloudInitNoCloud':{'secretRef':{'name':'any'}}}]",
         "error: cloud-init user data: the Secret has neither a key 'userdata' nor 'userData'"},
        {"'accessCredentials':[" CRED("k.1", "noCloud") "," CRED("k.1", "noCloud") "," CRED("other", "configDrive") "],"
         "'volumes':[{'name':'s','cloudInitNoCloud':{'userData':'x'}}]",
         "cidata\nmeta-data=" META ",'public-keys':{'0':'ssh-a A','1':'ssh-b B','2':'ssh-a A','3':'ssh-b B'}}\nuser-data=x"},
        {"'hostname':'h.x','accessCredentials':[" CRED("k.1", "configDrive") "],"
         "'volumes':[{'name':'s','cloudInitConfigDrive':{'userData':'x'}}]",
         "config-2\nopenstack/latest/meta_data.json={'instance_id':'v.n','hostname':'h','public_keys':{'0':'ssh-a A',"
         "'1':'ssh-b B'}}\nopenstack/latest/user_data=x"},
        /* the same data, whichever way they are written */
        {"'volumes':[{'name':'s','cloudInitConfigDrive':{'userDataBase64':'eHk=','networkData':'n'}}]",
         "config-2\n" DRIVE "}\nopenstack/latest/user_data=xy\nopenstack/latest/network_data.json=n"},
        {"'volumes':[{'name':'s','cloudInitConfigDrive':{'networkDataBase64':'bm4=','userData':'x'}}]",
         "config-2\n" DRIVE "}\nopenstack/latest/user_data=x\nopenstack/latest/network_data.json=nn"},
        {"'volumes':[{'name':'s','cloudInitConfigDrive':{'secretRef':{'name':'any'},'networkDataSecretRef':{'name':'any'}}}]",
         "config-2\n" DRIVE "}\nopenstack/latest/user_data=from-secret\nopenstack/latest/network_data.json=net"},
        {"'volumes':[{'name':'s','cloudInitNoCloud':{'userData':'x','networkDataBase64':'bm4='}}]",
         "cidata\nmeta-data=" META "}\nuser-data=x\nnetwork-config=nn"},
    };
    struct place *p = *state;

    put(p, "secret/s-udata", "userdata", "from-secret");
    put(p, "secret/s-ndata", "networkData", "net");
    put(p, "secret/other-udata", "nothing", "x");
    put(p, "secret/k.1-access-cred", "key", "ssh-a A\n\n  ssh-b B  \n");
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};
        const char *got = made(p, cases[i].spec, &a);

        if (strcmp(got, cases[i].files) != 0)
            fail_msg("case %zu: %s\nwanted: %s", i, got, cases[i].files);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(makes, setup, teardown)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
