/* Which of the Pod Security Standards our pods satisfy. The controls are Kubernetes' published ones (restricted includes baseline), as far as they
 * concern Linux; rows with pods that break one each hold the checks themselves. */
#include "api/kv_config.h"
#include "base/base_test.h"

#include <fcntl.h>
#include <glob.h>

#include "api/meta.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "json/json_test.h"
#include "json/yaml.h"

/* --- the standards --- */

struct pod {
    struct arena *a;
    const struct json *metadata, *spec, *security; /* the pod's own security context */
    const char *baseline, *restricted;             /* the first control that it breaks, or NULL */
};

static bool one_of(struct str s, const char *const *names)
{
    for (; *names; names++)
        if (str_is(s, *names))
            return true;
    return false;
}

static void breaks(const char **which, bool broken, const char *control)
{
    if (broken && !*which)
        *which = control;
}

static bool has_true(const struct json *o, const char *path)
{
    return json_bool_at(o, path, false);
}

static void baseline_pod(struct pod *p)
{
    static const char *const sysctls[] = {"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
                                          "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
                                          "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
                                          "net.ipv4.tcp_keepalive_probes", NULL};
    static const char *const selinux[] = {"container_t", "container_init_t", "container_kvm_t", "container_engine_t", NULL};
    const struct json *options = json_get(p->security, "seLinuxOptions");

    breaks(&p->baseline, has_true(p->spec, "hostNetwork") || has_true(p->spec, "hostPID") || has_true(p->spec, "hostIPC"), "host namespaces");
    breaks(&p->baseline, has_true(p->security, "windowsOptions/hostProcess"), "HostProcess");
    breaks(&p->baseline, json_str_at(options, "user").n || json_str_at(options, "role").n
                             || (json_str_at(options, "type").n && !one_of(json_str_at(options, "type"), selinux)), "SELinux");
    breaks(&p->baseline, str_is(json_str_at(p->security, "seccompProfile/type"), "Unconfined"), "seccomp");
    breaks(&p->baseline, str_is(json_str_at(p->security, "appArmorProfile/type"), "Unconfined"), "AppArmor");
    json_each_item(v, json_get(p->spec, "volumes"))
        breaks(&p->baseline, json_get(v, "hostPath") != NULL, "hostPath volumes");
    json_each_item(s, json_get(p->security, "sysctls"))
        breaks(&p->baseline, !one_of(json_str_at(s, "name"), sysctls), "sysctls");
    json_each_member(m, json_get(p->metadata, "annotations"))
        breaks(&p->baseline, str_starts(json_str(&m->key), STR("container.apparmor.security.beta.kubernetes.io/"))
                                 && !str_is(json_str(&m->value), "runtime/default") && !str_starts(json_str(&m->value), STR("localhost/")),
               "AppArmor");
}

static void baseline_container(struct pod *p, const struct json *c)
{
    static const char *const allowed[] = {"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD",
                                          "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT", NULL};
    const struct json *s = json_get(c, "securityContext");
    struct str proc = json_str_at(s, "procMount");

    breaks(&p->baseline, has_true(s, "privileged"), "privileged containers");
    json_each_item(cap, json_at(s, "capabilities/add"))
        breaks(&p->baseline, !one_of(json_str(cap), allowed), "capabilities");
    json_each_item(port, json_get(c, "ports"))
        breaks(&p->baseline, json_i64_at(port, "hostPort", 0) != 0, "host ports");
    breaks(&p->baseline, proc.n && !str_is(proc, "Default"), "/proc mount type");
    breaks(&p->baseline, str_is(json_str_at(s, "seccompProfile/type"), "Unconfined"), "seccomp");
    breaks(&p->baseline, json_at(s, "seLinuxOptions/user") || json_at(s, "seLinuxOptions/role"), "SELinux");
    json_each_item(h, json_array(p->a, json_at(c, "livenessProbe/httpGet/host"), json_at(c, "readinessProbe/httpGet/host"), NULL))
        breaks(&p->baseline, json_str(h).n > 0, "host probes");
}

static void restricted_pod(struct pod *p)
{
    static const char *const types[] = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
                                        "projected", "secret", "image", NULL};

    json_each_item(v, json_get(p->spec, "volumes"))
        json_each_member(m, v)
            breaks(&p->restricted, !str_is(json_str(&m->key), "name") && !one_of(json_str(&m->key), types), "volume types");
    breaks(&p->restricted, json_i64_at(p->security, "runAsUser", 1) == 0, "running as user 0");
}

static void restricted_container(struct pod *p, const struct json *c)
{
    const struct json *s = json_get(c, "securityContext"), *non_root = json_get(s, "runAsNonRoot");
    struct str seccomp = json_str_at(s, "seccompProfile/type");
    bool all = false;

    json_each_item(cap, json_at(s, "capabilities/drop"))
        all |= str_is(json_str(cap), "ALL");
    breaks(&p->restricted, !all, "capabilities: not all dropped");
    json_each_item(cap, json_at(s, "capabilities/add"))
        breaks(&p->restricted, !str_is(json_str(cap), "NET_BIND_SERVICE"), "capabilities");
    breaks(&p->restricted, json_bool_at(s, "allowPrivilegeEscalation", true), "privilege escalation");
    breaks(&p->restricted, !json_bool(non_root ? non_root : json_get(p->security, "runAsNonRoot")), "running as non-root");
    breaks(&p->restricted, json_i64_at(s, "runAsUser", 1) == 0, "running as user 0");
    seccomp = seccomp.n ? seccomp : json_str_at(p->security, "seccompProfile/type");
    breaks(&p->restricted, !str_is(seccomp, "RuntimeDefault") && !str_is(seccomp, "Localhost"), "seccomp");
}

/* "restricted", "baseline: CONTROL that restricted would want", "privileged: CONTROL that baseline would want". */
static const char *verdict(struct arena *a, const struct json *metadata, const struct json *spec)
{
    static const char *const lists[] = {"initContainers", "containers", "ephemeralContainers"};
    struct pod p = {a, metadata, spec, json_get(spec, "securityContext"), NULL, NULL};

    baseline_pod(&p);
    restricted_pod(&p);
    for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
        json_each_item(c, json_get(spec, lists[i])) {
            baseline_container(&p, c);
            restricted_container(&p, c);
        }
    if (p.baseline)
        return arena_printf(a, "privileged: %s", p.baseline);
    return p.restricted ? arena_printf(a, "baseline: %s", p.restricted) : "restricted";
}

#define GOOD "'capabilities':{'drop':['ALL']},'allowPrivilegeEscalation':false,'runAsNonRoot':true,'seccompProfile':{'type':'RuntimeDefault'}"
#define POD(more, container) "{" more "'containers':[{'name':'c','securityContext':{" container "}}]}"

static void the_checks_find_what_they_are_for(void **state)
{
    static const struct {
        const char *spec, *want;
    } cases[] = {
        {POD("", GOOD), "restricted"},
        {POD("'securityContext':{'runAsNonRoot':true,'seccompProfile':{'type':'Localhost'}},",
             "'capabilities':{'drop':['ALL'],'add':['NET_BIND_SERVICE']},'allowPrivilegeEscalation':false"), "restricted"},
        {POD("'hostPID':true,", GOOD), "privileged: host namespaces"},
        {POD("'hostNetwork':true,", GOOD), "privileged: host namespaces"},
        {POD("'volumes':[{'name':'v','hostPath':{'path':'/'}}],", GOOD), "privileged: hostPath volumes"},
        {POD("'volumes':[{'name':'v','nfs':{}}],", GOOD), "baseline: volume types"},
        {POD("'volumes':[{'name':'v','emptyDir':{}},{'name':'w','image':{}}],", GOOD), "restricted"},
        {POD("", GOOD ",'privileged':true"), "privileged: privileged containers"},
        {POD("", "'capabilities':{'drop':['ALL'],'add':['SYS_ADMIN']}"), "privileged: capabilities"},
        {POD("", "'capabilities':{'drop':['ALL'],'add':['CHOWN']},'allowPrivilegeEscalation':false,'runAsNonRoot':true,"
                 "'seccompProfile':{'type':'RuntimeDefault'}"), "baseline: capabilities"},
        {POD("", "'capabilities':{'drop':['ALL']},'runAsNonRoot':true,'seccompProfile':{'type':'RuntimeDefault'}"), "baseline: privilege escalation"},
        {POD("", "'capabilities':{'drop':['ALL']},'allowPrivilegeEscalation':false,'seccompProfile':{'type':'RuntimeDefault'}"),
         "baseline: running as non-root"},
        {POD("", "'capabilities':{'drop':['ALL']},'allowPrivilegeEscalation':false,'runAsNonRoot':true"), "baseline: seccomp"},
        {POD("", GOOD ",'runAsUser':0"), "baseline: running as user 0"},
        {POD("'securityContext':{'seccompProfile':{'type':'Unconfined'}},", GOOD), "privileged: seccomp"},
        {POD("'securityContext':{'sysctls':[{'name':'kernel.msgmax'}]},", GOOD), "privileged: sysctls"},
        {POD("", GOOD ",'procMount':'Unmasked'"), "privileged: /proc mount type"},
        {"{'initContainers':[{'securityContext':{'privileged':true}}],'containers':[{'securityContext':{" GOOD "}}]}",
         "privileged: privileged containers"},
        {"{'containers':[{'ports':[{'hostPort':1}],'securityContext':{" GOOD "}}]}", "privileged: host ports"},
        {POD("", ""), "baseline: capabilities: not all dropped"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        AUTO(arena_done) struct arena a = {0};

        assert_string_equal(verdict(&a, NULL, parse_quoted(&a, cases[i].spec)), cases[i].want);
    }
}

/* --- our pods --- */

static void launchers_are_restricted(void **state)
{
    static const char *const specs[] = {
        "{}",
        ("{'volumes':[{'name':'e','emptyDisk':{'capacity':'1Gi'}},{'name':'r','containerDisk':{'image':'a/b:1'}},"
        "{'name':'p','persistentVolumeClaim':{'claimName':'c'}},{'name':'s','secret':{'secretName':'x'}},"
        "{'name':'m','configMap':{'name':'y'}},{'name':'y','sysprep':{'secret':{'name':'x'}}},"
        "{'name':'i','cloudInitNoCloud':{'userData':'x','secretRef':{'name':'z'}}}]}"),
        ("{'domain':{'firmware':{'kernelBoot':{'container':{'image':'k'}}},'cpu':{'dedicatedCpuPlacement':true,'cores':2},"
        "'devices':{'interfaces':[{'name':'default','masquerade':{}}],'autoattachVSOCK':true}},'hostname':'h','subdomain':'s'}"),
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(specs); i++)
        for (int images = 0; images < 2; images++) {
            AUTO(arena_done) struct arena a = {0};
            struct kv_config *c = kv_config_new(NULL);
            const struct json *vmi = json_object(&a, "metadata", parse_quoted(&a, "{'name':'v','namespace':'n','uid':'u'}"), "spec",
                                                 parse_quoted(&a, specs[i]), NULL);
            const struct json *pod =
                kv_launcher_pod(vmi, c, &(struct kv_pod_options){.launcher_image = "l", .image_volumes = images, .kvm = true}, &a);
            const struct json *spec = json_get(pod, "spec");

            assert_string_equal(verdict(&a, json_get(pod, "metadata"), spec), "restricted");
            assert_false(json_bool_at(spec, "automountServiceAccountToken", true));
            assert_false(json_bool_at(spec, "enableServiceLinks", true));
            assert_null(json_get(spec, "serviceAccountName"));
            json_each_item(container, json_get(spec, "containers"))
                assert_null(json_at(container, "securityContext/capabilities/add"));
            assert_true(json_bool_at(json_item(json_get(spec, "containers"), 0), "securityContext/readOnlyRootFilesystem", false));
            kv_config_free(c);
        }
}

static const char *source;

/* What each of the installed workloads needs; docs/security.md says why. What is not named is restricted. */
static const struct {
    const char *name, *want;
} workloads[] = {
    {"virt-handler", "privileged: host namespaces"},
};

static void check_file(const char *path, size_t *n)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf text = {0};
    AUTO(error_clear) struct error err = {0};
    struct yaml_docs docs;

    buf_init(&text, 4 << 20);
    if (!file_read(AT_FDCWD, path, &text, &err) || !yaml_parse(buf_str(&text), &a, &docs, &err))
        fail_msg("%s: %s", path, error_text(&err));
    for (size_t i = 0; i < docs.n; i++) {
        const struct json *pod = json_at(docs.p[i], "spec/template");
        const char *want = "restricted", *got;

        if (!json_get(json_get(pod, "spec"), "containers"))
            continue;
        for (size_t w = 0; w < ARRAY_SIZE(workloads); w++)
            if (str_is(meta_name(docs.p[i]), workloads[w].name))
                want = workloads[w].want;
        got = verdict(&a, json_get(pod, "metadata"), json_get(pod, "spec"));
        if (strcmp(got, want) != 0)
            fail_msg("%s, " STR_FMT ": %s, not %s", path, STR_ARG(meta_name(docs.p[i])), got, want);
        ++*n;
    }
}

static void roles_are_as_documented(void **state)
{
    static const char *const places[] = {"src/operator/components/*.yaml", "deploy/*.yaml"};
    size_t n = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
        AUTO_FREE char *pattern = xasprintf("%s/%s", source, places[i]);
        glob_t g;

        if (glob(pattern, 0, NULL, &g) == 0) {
            for (size_t k = 0; k < g.gl_pathc; k++)
                check_file(g.gl_pathv[k], &n);
            globfree(&g);
        }
    }
    assert_true(n > 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_checks_find_what_they_are_for), cmocka_unit_test(launchers_are_restricted),
                                       cmocka_unit_test(roles_are_as_documented)};

    source = argc > 3 ? argv[3] : ".";
    return cmocka_run_group_tests(tests, NULL, NULL);
}
