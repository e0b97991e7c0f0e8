/* Defaults in layers: upstream's, which are QEMU's; over them what a VMM's own table says (vmm_caps.h); and from the result goes
 * whatever that VMM does not honour and nobody wrote. What goes is no loss – no one asked for it – but it is told. */
#include "api/kv_choice.h"

#include "api/vmm_caps.h"
#include "base/buf.h"
#include "base/cleanup.h"

/* Whether a path is one that a table names, where "*" is any one part. */
static bool path_is(const char *pattern, const char *path)
{
    struct str a = str_of(pattern), b = str_of(path), x, y;

    for (;;) {
        bool more = str_next(&a, '/', &x);

        if (more != str_next(&b, '/', &y))
            return false;
        if (!more)
            return true;
        if (!str_is(x, "*") && !str_eq(x, y))
            return false;
    }
}

const char *kv_own_default(const struct vmm_caps *v, const char *path)
{
    for (const struct vmm_caps_pair *d = v ? v->defaults : NULL; d && d->key; d++)
        if (path_is(d->key, path))
            return d->value;
    return NULL;
}

/* "spec.domain.devices.disks[0].cdrom.tray" → "domain/devices/disks/0/cdrom/tray" */
static char *pointer_of(struct arena *a, const char *field)
{
    AUTO(buf_done) struct buf b = {0};

    buf_init(&b, 4096);
    for (const char *p = field + strlen("spec."); *p; p++) {
        if (*p == '.' || *p == '[')
            buf_addc(&b, '/');
        else if (*p != ']')
            buf_addc(&b, *p);
    }
    return arena_strdup(a, buf_str(&b));
}

/* An empty text says as little as an absent one, and defaults fill both. */
static bool says(const struct json *v)
{
    return v && !(json_is(v, JSON_STRING) && v->n == 0);
}

const struct json *kv_spec_without_unhonoured(const struct json *made, const struct json *written, struct str vmm, struct arena *a)
{
    const struct vmm_caps *v = vmm_caps_find(vmm);
    struct schema_causes causes = {0};

    if (!v || !json_is(made, JSON_OBJECT))
        return made;
    vmm_caps_check(v, made, "spec", a, &causes);
    for (size_t i = 0; i < causes.n; i++) {
        const char *path;

        if (!str_starts(str_of(causes.p[i].field), STR("spec.")))
            continue;
        path = pointer_of(a, causes.p[i].field);
        if (json_at(made, path) && !says(json_at(written, path)))
            made = json_with_at(a, made, path, NULL);
    }
    return made;
}

static bool wants(const struct json *written, const char *what)
{
    if (strcmp(what, "graphics") == 0)
        return json_bool_at(written, "domain/devices/autoattachGraphicsDevice", true);
    if (strcmp(what, "balloon") == 0)
        return json_bool_at(written, "domain/devices/autoattachMemBalloon", true);
    if (strcmp(what, "serial-console") == 0)
        return json_bool_at(written, "domain/devices/autoattachSerialConsole", true);
    return true;
}

const struct json *kv_left_out(const struct json *written, struct str vmm, struct arena *a)
{
    const struct vmm_caps *v = vmm_caps_find(vmm);
    AUTO(buf_done) struct buf b = {0};

    buf_init(&b, 16 << 10);
    for (const struct vmm_caps_pair *l = v ? v->lacks : NULL; l && l->key; l++)
        if (wants(written, l->key))
            buf_addf(&b, "%s%s (%s)", b.n ? ", " : "", l->key, l->value);
    return b.n ? json_new_str(a, buf_str(&b)) : NULL;
}
