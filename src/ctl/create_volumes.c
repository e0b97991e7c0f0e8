/* The volumes of `create vm`. */
#include "api/quantity.h"
#include "base/cleanup.h"
#include "ctl/create_vm.h"

/* --- parameters ---------------------------------------------------------------------------------------------------------------- */

static bool is_known(const char *const *known, struct str name)
{
    for (; *known; known++)
        if (str_is(name, *known))
            return true;
    return false;
}

static bool refuse_param(const char *flag, struct str name, const char *const *known, struct error *err)
{
    AUTO(buf_done) struct buf b = {0};

    for (; *known; known++)
        buf_addf(&b, "%s%s", b.n ? ", " : "", *known);
    return error_set(err, ERROR_BAD_REQUEST, "--%s: unknown parameter '" STR_FMT "' (known: %s)", flag, STR_ARG(name), b.p);
}

bool create_params_parse(const char *flag, const char *text, const char *const *known, struct create_params *ret,
                         struct error *err)
{
    struct create_params p = {.flag = flag};
    struct str rest = str_of(text), part, name, value;

    while (str_next(&rest, ',', &part)) {
        if (!str_cut(part, ':', &name, &value) || !name.n || !value.n)
            return error_set(err, ERROR_BAD_REQUEST, "--%s: 'NAME:VALUE,…' is wanted, not '%s'", flag, text);
        if (!is_known(known, name))
            return refuse_param(flag, name, known, err);
        for (size_t i = 0; i < p.n; i++)
            if (str_eq(p.p[i].name, name))
                return error_set(err, ERROR_BAD_REQUEST, "--%s: '" STR_FMT "' is given twice", flag, STR_ARG(name));
        if (p.n == CREATE_PARAMS_MAX)
            return error_set(err, ERROR_BAD_REQUEST, "--%s: too many parameters", flag);
        p.p[p.n].name = name;
        p.p[p.n++].value = value;
    }
    if (!p.n)
        return error_set(err, ERROR_BAD_REQUEST, "--%s: 'NAME:VALUE,…' is wanted", flag);
    *ret = p;
    return true;
}

struct str create_param(const struct create_params *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++)
        if (str_is(p->p[i].name, name))
            return p->p[i].value;
    return STR_NONE;
}

static bool need(const struct create_params *p, const char *name, struct error *err)
{
    return create_param(p, name).n || error_set(err, ERROR_BAD_REQUEST, "--%s: %s must be specified", p->flag, name);
}

static bool size_of(const struct create_params *p, bool required, struct str *ret, struct error *err)
{
    struct quantity q;

    *ret = create_param(p, "size");
    if (!ret->n)
        return !required || need(p, "size", err);
    return quantity_parse(*ret, &q, err) || error_wrap(err, "--%s: size", p->flag);
}

/* "[namespace/]name" */
static bool split_name(const struct create_params *p, struct str *ret_ns, struct str *ret_name, struct error *err)
{
    struct str src = create_param(p, "src");

    if (!need(p, "src", err))
        return false;
    *ret_ns = STR_NONE;
    *ret_name = src;
    if (str_cut(src, '/', ret_ns, ret_name) && (!ret_ns->n || !ret_name->n || str_has(*ret_name, '/')))
        return error_set(err, ERROR_BAD_REQUEST, "--%s: src is [NAMESPACE/]NAME, not '" STR_FMT "'", p->flag, STR_ARG(src));
    if (!str_has(src, '/')) {
        *ret_ns = STR_NONE;
        *ret_name = src;
    }
    return true;
}

/* --- volumes ------------------------------------------------------------------------------------------------------------------- */

static const struct json *text(struct creation *v, struct str s)
{
    return s.n ? json_new_str(v->a, s) : NULL;
}

static const struct json *append(struct creation *v, const struct json *array, const struct json *item)
{
    return json_append(v->a, array ? array : json_array(v->a, NULL), item);
}

bool create_volume_add(struct creation *v, const char *flag, struct str name, const char *source, const struct json *value,
                       struct error *err)
{
    const struct json *volume = json_object(v->a, "name", json_new_str(v->a, name), NULL);

    json_each_item(other, v->volumes)
        if (str_eq(json_str_at(other, "name"), name))
            return error_set(err, ERROR_BAD_REQUEST, "--%s: there is already a volume with name '" STR_FMT "'", flag, STR_ARG(name));
    /* In Go's order of keys, as manifests of KubeVirt's own virtctl are. */
    if (strcmp(source, "name") < 0)
        volume = json_object(v->a, source, value, "name", json_new_str(v->a, name), NULL);
    else
        volume = json_with(v->a, volume, source, value);
    v->volumes = append(v, v->volumes, volume);
    return true;
}

/* A disk is only written for a boot order: the server makes the others. */
static bool add_boot_order(struct creation *v, const struct create_params *p, struct str name, struct error *err)
{
    struct str order = create_param(p, "bootorder");
    AUTO(error_clear) struct error why = {0};
    uint64_t n;

    if (!order.p)
        return true;
    if (!parse_u64(order, 1000, &n, &why) || n == 0)
        return error_set(err, ERROR_BAD_REQUEST, "--%s: bootorder is a number greater than 0", p->flag);
    json_each_item(disk, v->disks)
        if (json_i64_at(disk, "bootOrder", 0) == (int64_t)n)
            return error_set(err, ERROR_BAD_REQUEST, "--%s: bootorder %llu was specified multiple times", p->flag,
                             (unsigned long long)n);
    v->disks = append(v, v->disks,
                      json_object(v->a, "bootOrder", json_new_i64(v->a, (int64_t)n), "name", json_new_str(v->a, name), NULL));
    if (!v->lowest_boot_order || n < v->lowest_boot_order) {
        v->lowest_boot_order = n;
        v->boot_volume = name;
    }
    return true;
}

static struct str name_or(struct creation *v, const struct create_params *p, const char *otherwise)
{
    struct str name = create_param(p, "name");

    return name.n ? name : arena_str(v->a, str_of(otherwise));
}

/* A DataVolumeTemplate and the volume of it. `member` is source or sourceRef. */
static bool add_template(struct creation *v, const struct create_params *p, struct str name, const char *member,
                         const struct json *source, struct str size, struct error *err)
{
    const struct json *storage = json_object(v->a, NULL);
    const struct json *spec;

    if (size.n)
        storage = json_with_at(v->a, storage, "resources/requests/storage", json_new_str(v->a, size));
    spec = json_object(v->a, member, source, "storage", storage, NULL);
    if (!create_volume_add(v, p->flag, name, "dataVolume", json_object(v->a, "name", json_new_str(v->a, name), NULL), err))
        return false;
    v->templates = append(v, v->templates,
                          json_object(v->a, "metadata", json_object(v->a, "name", json_new_str(v->a, name), NULL), "spec", spec,
                                      NULL));
    return add_boot_order(v, p, name, err);
}

static bool add_containerdisk(struct creation *v, const struct create_params *p, size_t i, struct error *err)
{
    struct str name = name_or(v, p, arena_printf(v->a, "%s-containerdisk-%zu", v->name, i));

    return need(p, "src", err)
           && create_volume_add(v, p->flag, name, "containerDisk",
                                json_object(v->a, "image", text(v, create_param(p, "src")), NULL), err)
           && add_boot_order(v, p, name, err);
}

static bool add_pvc(struct creation *v, const struct create_params *p, size_t i, struct error *err)
{
    struct str ns, claim, name;

    (void)i;
    if (!split_name(p, &ns, &claim, err))
        return false;
    if (ns.n)
        return error_set(err, ERROR_BAD_REQUEST, "--%s: not allowed to specify namespace of pvc '" STR_FMT "'", p->flag, STR_ARG(claim));
    name = create_param(p, "name").n ? create_param(p, "name") : claim;
    return create_volume_add(v, p->flag, name, "persistentVolumeClaim", json_object(v->a, "claimName", text(v, claim), NULL), err)
           && add_boot_order(v, p, name, err);
}

static const struct json *object_ref(struct creation *v, const char *kind, struct str ns, struct str name)
{
    return json_object(v->a, "kind", json_new_z(v->a, kind), "name", text(v, name), "namespace", text(v, ns), NULL);
}

static bool add_datasource(struct creation *v, const struct create_params *p, size_t i, struct error *err)
{
    struct str ns, source, size;

    (void)i;
    if (!split_name(p, &ns, &source, err) || !size_of(p, false, &size, err))
        return false;
    return add_template(v, p, name_or(v, p, arena_printf(v->a, "%s-ds-" STR_FMT, v->name, STR_ARG(source))), "sourceRef",
                        object_ref(v, "DataSource", ns, source), size, err);
}

static bool add_clone(struct creation *v, const struct create_params *p, size_t i, struct error *err)
{
    struct str ns, claim, size;

    (void)i;
    if (!split_name(p, &ns, &claim, err) || !size_of(p, false, &size, err))
        return false;
    if (!ns.n)
        return error_set(err, ERROR_BAD_REQUEST, "--%s: namespace of pvc '" STR_FMT "' must be specified", p->flag, STR_ARG(claim));
    return add_template(v, p, name_or(v, p, arena_printf(v->a, "%s-pvc-" STR_FMT, v->name, STR_ARG(claim))), "source",
                        json_object(v->a, "pvc", object_ref(v, NULL, ns, claim), NULL), size, err);
}

static bool add_blank(struct creation *v, const struct create_params *p, size_t i, struct error *err)
{
    struct str size;

    if (!size_of(p, true, &size, err))
        return false;
    return add_template(v, p, name_or(v, p, arena_printf(v->a, "%s-blank-%zu", v->name, i)), "source",
                        json_object(v->a, "blank", json_object(v->a, NULL), NULL), size, err);
}

/* --- --volume-import: one source per type -------------------------------------------------------------------------------------- */

struct import_param {
    const char *name, *member; /* as the flag and the DataVolume spell it */
    enum { IMPORT_TEXT, IMPORT_NEEDED, IMPORT_LIST } kind;
};
static const struct import_type {
    const char *type, *source;
    struct import_param params[7];
} import_types[] = {
    {"blank", "blank", {{0}}},
    {"gcs", "gcs", {{"secretref", "secretRef", IMPORT_TEXT}, {"url", "url", IMPORT_NEEDED}}},
    {"http", "http",
     {{"certconfigmap", "certConfigMap", IMPORT_TEXT}, {"extraheaders", "extraHeaders", IMPORT_LIST},
      {"secretextraheaders", "secretExtraHeaders", IMPORT_LIST}, {"secretref", "secretRef", IMPORT_TEXT},
      {"url", "url", IMPORT_NEEDED}}},
    {"imageio", "imageio",
     {{"certconfigmap", "certConfigMap", IMPORT_TEXT}, {"diskid", "diskId", IMPORT_NEEDED},
      {"secretref", "secretRef", IMPORT_TEXT}, {"url", "url", IMPORT_NEEDED}}},
    {"registry", "registry",
     {{"certconfigmap", "certConfigMap", IMPORT_TEXT}, {"imagestream", "imageStream", IMPORT_TEXT},
      {"pullmethod", "pullMethod", IMPORT_TEXT}, {"secretref", "secretRef", IMPORT_TEXT}, {"url", "url", IMPORT_TEXT}}},
    {"s3", "s3",
     {{"certconfigmap", "certConfigMap", IMPORT_TEXT}, {"secretref", "secretRef", IMPORT_TEXT}, {"url", "url", IMPORT_NEEDED}}},
    {"vddk", "vddk",
     {{"backingfile", "backingFile", IMPORT_NEEDED}, {"initimageurl", "initImageURL", IMPORT_TEXT},
      {"secretref", "secretRef", IMPORT_NEEDED}, {"thumbprint", "thumbprint", IMPORT_NEEDED}, {"url", "url", IMPORT_NEEDED},
      {"uuid", "uuid", IMPORT_NEEDED}}},
};

/* "a;b" */
static const struct json *list_of(struct creation *v, struct str s)
{
    const struct json *array = NULL;
    struct str item;

    while (str_next(&s, ';', &item))
        array = append(v, array, json_new_str(v->a, item));
    return array;
}

static bool import_source(struct creation *v, const struct create_params *p, const struct import_type *t,
                          const struct json **ret, struct error *err)
{
    const struct json *source = json_object(v->a, NULL);

    for (size_t i = 0; i < ARRAY_SIZE(t->params) && t->params[i].name; i++) {
        const struct import_param *param = &t->params[i];
        struct str value = create_param(p, param->name);

        if (param->kind == IMPORT_NEEDED && !need(p, param->name, err))
            return false;
        source = json_with(v->a, source, param->member, param->kind == IMPORT_LIST ? list_of(v, value) : text(v, value));
    }
    if (strcmp(t->type, "registry") == 0 && !create_param(p, "url").n == !create_param(p, "imagestream").n)
        return error_set(err, ERROR_BAD_REQUEST, "--%s: exactly one of url and imagestream must be specified", p->flag);
    *ret = json_object(v->a, t->source, source, NULL);
    return true;
}

static bool add_import(struct creation *v, const struct create_params *p, size_t i, struct error *err)
{
    struct str type = create_param(p, "type"), ns, from, size, name;
    const struct json *source = NULL;
    char suffix[5];

    (void)i;
    if (!need(p, "type", err))
        return false;
    create_random(suffix, 4);
    name = name_or(v, p, arena_printf(v->a, "imported-volume-%s", suffix));
    if (str_is(type, "ds") || str_is(type, "pvc") || str_is(type, "snapshot")) {
        if (!split_name(p, &ns, &from, err) || !size_of(p, false, &size, err))
            return false;
        if (!ns.n && !str_is(type, "ds"))
            return error_set(err, ERROR_BAD_REQUEST, "--%s: namespace of '" STR_FMT "' must be specified: src:NAMESPACE/NAME",
                             p->flag, STR_ARG(from));
        if (str_is(type, "ds"))
            return add_template(v, p, name, "sourceRef", object_ref(v, "DataSource", ns, from), size, err);
        source = json_with_str(v->a, NULL, type, object_ref(v, NULL, ns, from));
        return add_template(v, p, name, "source", source, size, err);
    }
    for (size_t k = 0; k < ARRAY_SIZE(import_types); k++)
        if (str_is(type, import_types[k].type))
            return size_of(p, true, &size, err) && import_source(v, p, &import_types[k], &source, err)
                   && add_template(v, p, name, "source", source, size, err);
    return error_set(err, ERROR_BAD_REQUEST, "--%s: unknown type '" STR_FMT "' (known: blank, ds, gcs, http, imageio, pvc, "
                                             "registry, s3, snapshot, vddk)", p->flag, STR_ARG(type));
}

static bool add_sysprep(struct creation *v, const struct create_params *p, size_t i, struct error *err)
{
    struct str type = create_param(p, "type");
    const struct json *name = text(v, create_param(p, "src"));
    bool secret = str_is(type, "secret");

    (void)i;
    if (!need(p, "src", err))
        return false;
    if (type.n && !secret && !str_eq_nocase(type, STR("configMap")))
        return error_set(err, ERROR_BAD_REQUEST, "--%s: type is configMap or secret", p->flag);
    v->disks = append(v, v->disks,
                      json_object(v->a, "cdrom", json_object(v->a, "bus", json_new_z(v->a, "sata"), NULL), "name",
                                  json_new_z(v->a, "sysprepdisk"), NULL));
    return create_volume_add(v, p->flag, STR("sysprepdisk"), "sysprep",
                             json_object(v->a, secret ? "secret" : "configMap", json_object(v->a, "name", name, NULL), NULL), err);
}

/* --- all of them --------------------------------------------------------------------------------------------------------------- */

static const char *const volume_params[] = {"src", "name", "bootorder", NULL};
static const char *const clone_params[] = {"src", "name", "bootorder", "size", NULL};
static const char *const blank_params[] = {"size", "name", NULL};
static const char *const sysprep_params[] = {"src", "type", NULL};
static const char *const import_params[] = {
    "type", "name", "size", "bootorder", "src", "url", "secretref", "certconfigmap", "extraheaders", "secretextraheaders",
    "diskid", "imagestream", "pullmethod", "backingfile", "initimageurl", "thumbprint", "uuid", NULL};

/* In boot order. */
static const struct {
    const char *flag;
    const char *const *params;
    bool (*add)(struct creation *v, const struct create_params *p, size_t i, struct error *err);
} volume_flags[] = {
    {"volume-containerdisk", volume_params, add_containerdisk}, {"volume-pvc", volume_params, add_pvc},
    {"volume-datasource", clone_params, add_datasource},        {"volume-clone-pvc", clone_params, add_clone},
    {"volume-blank", blank_params, add_blank},                  {"volume-import", import_params, add_import},
    {"volume-sysprep", sysprep_params, add_sysprep},
};

bool create_volumes(struct creation *v, struct error *err)
{
    struct create_params p;
    const char *value;

    for (size_t k = 0; k < ARRAY_SIZE(volume_flags); k++)
        for (size_t i = 0; (value = flags_item(&v->c->flags, volume_flags[k].flag, i)) != NULL; i++)
            if (!create_params_parse(volume_flags[k].flag, value, volume_flags[k].params, &p, err)
                || !volume_flags[k].add(v, &p, i, err))
                return false;
    if (!v->boot_volume.n)
        v->boot_volume = json_str_at(json_item(v->volumes, 0), "name");
    return true;
}

bool create_can_infer(const struct creation *v, struct str name)
{
    json_each_item(volume, v->volumes)
        if (str_eq(json_str_at(volume, "name"), name) && json_get(volume, "persistentVolumeClaim"))
            return true;
    json_each_item(t, v->templates)
        if (str_eq(json_str_at(t, "metadata/name"), name))
            return json_at(t, "spec/source/pvc") || str_is(json_str_at(t, "spec/sourceRef/kind"), "DataSource");
    return false;
}
