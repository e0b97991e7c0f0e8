/* sync: from a VMI and the node agent's descriptors to a running machine. */
#include "launcher/internal.h"
#include "launcher/images.h"

#include "api/kv.h"
#include "api/types.h"
#include "base/alloc.h"
#include "base/log.h"
#include "base/vec.h"
#include "storage/disks.h"

#define MAX_NICS 32
#define IMAGES_PATIENCE SECONDS(10) /* the containers of images start with ours, or have started */

struct plan { /* what a sync request holds, as the driver wants it */
    struct vmm_nic nics[MAX_NICS];
    size_t n_nics;
    int fds[PROTO_MAX_FDS]; /* tap queues of all NICs, in a row */
    size_t n_fds;
    struct storage_passed *passed;
    size_t n_passed;
};

/* The descriptor that a message names by its index; it stays the message's. */
static bool message_fd(const struct json *index, const int *fds, size_t n_fds, int *ret,
                       struct error *err)
{
    int64_t i;

    if (!json_i64(index, &i) || i < 0 || (uint64_t)i >= n_fds || fds[i] < 0)
        return error_set(err, ERROR_BAD_REQUEST, "a descriptor is named that did not come along");
    *ret = fds[i];
    return true;
}

static bool read_nics(const struct json *list, const int *fds, size_t n_fds, struct plan *p,
                      struct error *err)
{
    json_each_item(nic, list) {
        struct vmm_nic *n = &p->nics[p->n_nics];

        if (p->n_nics == MAX_NICS)
            return error_set(err, ERROR_BAD_REQUEST, "more than %d NICs", MAX_NICS);
        n->name = json_str_at(nic, "name");
        n->mac = json_str_at(nic, "mac");
        n->mtu = (int)json_i64_at(nic, "mtu", 0);
        n->fds = &p->fds[p->n_fds];
        json_each_item(index, json_get(nic, "fds")) {
            if (p->n_fds == PROTO_MAX_FDS)
                return error_set(err, ERROR_BAD_REQUEST, "more than %d tap queues", PROTO_MAX_FDS);
            if (!message_fd(index, fds, n_fds, &p->fds[p->n_fds], err))
                return false;
            p->n_fds++;
            n->n_fds++;
        }
        p->n_nics++;
    }
    return true;
}

static bool read_disks(const struct json *list, const int *fds, size_t n_fds, struct arena *a,
                       struct plan *p, struct error *err)
{
    p->passed = ARENA_ARRAY(a, struct storage_passed, json_len(list) + 1);
    json_each_item(disk, list) {
        struct storage_passed *d = &p->passed[p->n_passed++];

        d->volume = json_str_at(disk, "volume");
        d->read_only = json_bool_at(disk, "read_only", false);
        d->format = str_is(json_str_at(disk, "format"), "qcow2") ? "qcow2" : "raw";
        if (!message_fd(json_get(disk, "fd"), fds, n_fds, &d->fd, err))
            return false;
    }
    return true;
}

/* Absent: the machine gets no vsock. */
static bool read_vsock(const struct json *vsock, const int *fds, size_t n_fds,
                       struct vmm_machine *m, struct error *err)
{
    int64_t cid;

    if (!vsock)
        return true;
    if (!json_i64(json_get(vsock, "cid"), &cid) || cid < 3 || cid > UINT32_MAX - 1)
        return error_set(err, ERROR_BAD_REQUEST, "vsock: cid is no context ID of a guest");
    m->vsock_cid = (unsigned)cid;
    return !json_get(vsock, "fd")
           || message_fd(json_get(vsock, "fd"), fds, n_fds, &m->vhost_vsock_fd, err);
}

static bool decode(struct launcher *l, const struct json *object, struct error *err)
{
    struct kv_virtual_machine_instance *vmi;
    const struct json *own;

    l->vmi_arena = NEW(struct arena);
    own = json_copy(l->vmi_arena,
                    object); /* views borrow their text, and the message ends with this call */
    vmi = ARENA_NEW(l->vmi_arena, struct kv_virtual_machine_instance);
    if (!schema_decode(&schema_type_kv_virtual_machine_instance, own, l->vmi_arena, vmi, err))
        return false;
    if (!vmi->metadata || !vmi->spec || !vmi->spec->domain || !vmi->spec->domain->devices)
        return error_set(err, ERROR_BAD_REQUEST, "vmi: metadata or spec.domain.devices is missing");
    /* An agent that mixes pods up must not start a VM in another's sandbox. */
    if (!str_is(vmi->metadata->uid, l->options->uid))
        return error_set(err, ERROR_CONFLICT,
                         "this launcher serves the VMI with UID %s, not " STR_FMT, l->options->uid,
                         STR_ARG(vmi->metadata->uid));
    l->vmi = vmi;
    return true;
}

/* The VMM that admission chose and wrote down. */
static bool find_driver(const struct kv_virtual_machine_instance *vmi, const struct vmm_driver **ret, struct error *err)
{
    struct str name = str_map_get(&vmi->metadata->annotations, STR(KV_ANNOTATION_VMM));

    *ret = vmm_driver_find(name.n ? name : STR("qemu"));
    return *ret || error_set(err, ERROR_UNSUPPORTED, KV_ANNOTATION_VMM ": this launcher has no driver for '" STR_FMT "'", STR_ARG(name));
}

static const struct vmm_disk *to_vmm(const struct storage_disks *s, struct arena *a)
{
    struct vmm_disk *d = ARENA_ARRAY(a, struct vmm_disk, s->n + 1);

    for (size_t i = 0; i < s->n; i++) {
        const struct storage_disk *from = &s->p[i];

        d[i] = (struct vmm_disk){.name = from->name,
                                 .fd = from->fd,
                                 .format = from->format,
                                 .backing_fd = from->backing_fd,
                                 .backing_format = from->backing_format,
                                 .read_only = from->read_only,
                                 .block_device = from->block_device,
                                 .direct = from->direct,
                                 .preallocated = from->preallocated};
    }
    return d;
}

/* Ports of the machine that now runs. */
static bool connect_ports(struct launcher *l, struct error *err)
{
    const struct kv_devices *d = l->vmi->spec->domain->devices;
    int fd;

    if (opt_not_false(d->autoattach_serial_console)) {
        if (!vmm_open_stream(l->vmm, VMM_STREAM_SERIAL, &fd, err))
            return false;
        l->console =
            console_new(l->loop, fd, opt_not_false(d->log_serial_console) ? l->own_dirfd : -1);
    }
    if (vmm_open_stream(l->vmm, VMM_STREAM_AGENT, &fd, err)) {
        l->agent = agent_new(l, fd);
        return true;
    }
    if (err->kind != ERROR_UNSUPPORTED)
        return false;
    error_clear(err); /* this VMM has no such port: the guest's agent stays unheard */
    return true;
}

static bool start_dhcp(struct launcher *l, const struct json *nics, int *fds, size_t n_fds,
                       struct error *err)
{
    json_each_item(nic, nics) {
        const struct json *dhcp = json_get(nic, "dhcp");

        if (dhcp && !dhcp_start(l, nic, dhcp, fds, n_fds, err))
            return error_wrap(err, "nic '" STR_FMT "'", STR_ARG(json_str_at(nic, "name")));
    }
    return true;
}

static bool is_disk(const struct launcher *l, struct str volume)
{
    const struct kv_disk_slice *disks = &l->vmi->spec->domain->devices->disks;

    for (size_t i = 0; i < disks->n; i++)
        if (str_eq(disks->p[i].name, volume))
            return true;
    return false;
}

/* What comes from other containers of the pod, where images are no volumes. */
static bool take_images(struct launcher *l, struct arena *a, struct storage_place *place, struct error *err)
{
    const struct kv_virtual_machine_instance_spec *spec = l->vmi->spec;
    const struct kv_firmware *fw = spec->domain->firmware;
    struct str *names;
    struct storage_image *images;
    size_t n = 0;

    if (!l->images)
        return true;
    names = ARENA_ARRAY(a, struct str, spec->volumes.n + 1);
    for (size_t i = 0; i < spec->volumes.n; i++)
        if (spec->volumes.p[i].container_disk && is_disk(l, spec->volumes.p[i].name))
            names[n++] = spec->volumes.p[i].name;
    if (fw && fw->kernel_boot && fw->kernel_boot->container)
        names[n++] = STR(KV_IMAGE_KERNEL_BOOT);
    if (!images_wait(l->images, names, n, IMAGES_PATIENCE, err))
        return false;
    images = ARENA_ARRAY(a, struct storage_image, n + 1);
    for (size_t i = 0; i < n; i++)
        images[i] = (struct storage_image){names[i], images_root(l->images, names[i])};
    place->images = images;
    place->n_images = n;
    return true;
}

static bool start(struct launcher *l, const struct json *request, int *fds, size_t n_fds,
                  struct error *err)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(storage_disks_done) struct storage_disks disks = {.kernel_fd = -1, .initrd_fd = -1};
    struct storage_place place = {.private_dirfd = l->private_dirfd,
                                  .public_dirfd = l->public_dirfd,
                                  .ephemeral_dirfd = l->ephemeral_dirfd};
    struct plan *p = ARENA_NEW(&a, struct plan);
    struct vmm_machine m = {.private_dirfd = l->private_dirfd, .private_dir = l->private_dir, .vhost_vsock_fd = -1};
    struct vmm_listener listener = launcher_listener(l);
    const struct vmm_driver *driver;

    if (!decode(l, json_get(request, "vmi"), err)
        || !find_driver(l->vmi, &driver, err))
        return false;
    place.raw_only = driver->raw_disks;
    if (!read_nics(json_get(request, "nics"), fds, n_fds, p, err)
        || !read_disks(json_get(request, "disks"), fds, n_fds, &a, p, err)
        || !read_vsock(json_get(request, "vsock"), fds, n_fds, &m, err)
        || !take_images(l, &a, &place, err)
        || !storage_prepare(l->vmi, &place, p->passed, p->n_passed, &a, &disks, err)
        || !start_dhcp(l, json_get(request, "nics"), fds, n_fds, err))
        return false;
    if (!vmm_accelerator_parse(json_str_at(request, "accelerator"), &l->accelerator, err))
        return false;
    m.vmi = l->vmi;
    m.accelerator = l->accelerator;
    m.disks = to_vmm(&disks, &a);
    m.n_disks = disks.n;
    m.nics = p->nics;
    m.n_nics = p->n_nics;
    m.kernel_fd = disks.kernel_fd;
    m.initrd_fd = disks.initrd_fd;
    l->vmm = vmm_new(driver, l->loop, &listener);
    if (!vmm_start(l->vmm, &m, err))
        return false; /* the listener hears of it and lets the machine go */
    l->last = *vmm_status(l->vmm);
    return connect_ports(l, err);
}

void launcher_sync_done(struct launcher *l)
{
    console_free(l->console);
    l->console = NULL;
    agent_free(l->agent);
    l->agent = NULL;
    dhcp_stop(l);
    if (l->vmi_arena)
        arena_done(l->vmi_arena);
    free(l->vmi_arena);
    l->vmi_arena = NULL;
    l->vmi = NULL;
}

bool launcher_sync(struct launcher *l, const struct json *request, int *fds, size_t n_fds,
                   struct error *err)
{
    if (l->ending)
        return error_set(err, ERROR_CONFLICT, "this launcher is ending");
    if (l->vmm && l->last.reason == VMM_REASON_START_FAILED)
        launcher_retire(l);
    if (l->vmm) /* it runs: nothing to bring in line yet */
        return true;
    if (start(l, request, fds, n_fds, err))
        return true;
    log_error(launcher_tag(l), "start: %s", error_text(err));
    if (l->vmm) {
        l->last = *vmm_status(l->vmm);
        if (vmm_alive(l->vmm)) /* it runs, but we cannot reach its ports */
            vmm_kill(l->vmm, true);
        return false;
    }
    launcher_sync_done(l);
    return false;
}
