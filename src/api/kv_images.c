#include "api/kv_images.h"

#include "api/kv.h"

/* A process without a C library, asleep: 8 KiB of its own, and what the kernel keeps for it, 200 KiB in all
 * (docs/benchmarks.md). */
#define REQUEST_CPU "1m"
#define REQUEST_MEMORY "1Mi"
/* Where there has to be a limit it holds for the container runtime, too, which starts the process from inside of it. */
#define LIMIT_CPU "100m"
#define LIMIT_MEMORY "32Mi"

static const struct json *text(struct arena *a, const char *s)
{
    return json_new_z(a, s);
}

const struct json *kv_image(struct arena *a, const char *container, struct str id, struct str image,
                            struct str policy)
{
    return json_object(a, "name", text(a, container), "id", json_new_str(a, id), "image",
                       json_new_str(a, image), "imagePullPolicy", json_new_str(a, policy), NULL);
}

static bool same(const struct json *a, const struct json *b)
{
    return a && b && str_eq(json_str(a), json_str(b));
}

/* The pod's class of service stays what the launcher's container makes it: a limit stands where that one has one (a quota of the
 * namespace may demand it), and requests equal limits where its do, which is what makes a pod Guaranteed. */
static const struct json *resources(const struct json *compute, struct arena *a)
{
    const struct json *requests = json_get(compute, "requests"),
                      *limits = json_get(compute, "limits");
    const struct json *cpu = json_get(limits, "cpu"), *memory = json_get(limits, "memory");
    bool guaranteed =
        same(cpu, json_get(requests, "cpu")) && same(memory, json_get(requests, "memory"));
    const struct json *bound = json_object(a, "cpu", cpu ? text(a, LIMIT_CPU) : NULL, "memory",
                                           memory ? text(a, LIMIT_MEMORY) : NULL, NULL);

    return json_object(a, "requests",
                       guaranteed ? bound
                                  : json_object(a, "cpu", text(a, REQUEST_CPU), "memory",
                                                text(a, REQUEST_MEMORY), NULL),
                       "limits", json_len(bound) ? bound : NULL, NULL);
}

static const struct json *security(struct arena *a)
{
    return json_object(a, "runAsUser", json_new_i64(a, KV_UID), "runAsGroup",
                       json_new_i64(a, KV_UID), "runAsNonRoot", json_new_bool(true),
                       "allowPrivilegeEscalation", json_new_bool(false), "readOnlyRootFilesystem",
                       json_new_bool(true), "capabilities",
                       json_object(a, "drop", json_array(a, text(a, "ALL"), NULL), NULL), NULL);
}

static const struct json *mount(struct arena *a, const char *volume, const char *path,
                                bool read_only)
{
    return json_object(a, "name", text(a, volume), "mountPath", text(a, path), "readOnly",
                       read_only ? json_new_bool(true) : NULL, NULL);
}

static const struct json *container(const struct kv_images *k, const char *name,
                                    const struct json *image, const struct json *policy,
                                    const struct json *command, const struct json *mounts,
                                    struct arena *a)
{
    return json_object(a, "name", text(a, name), "image", image, "imagePullPolicy", policy,
                       "command", command, "resources", resources(k->compute, a), "volumeMounts",
                       mounts, "terminationMessagePath", text(a, "/dev/termination-log"),
                       "terminationMessagePolicy", text(a, "FallbackToLogsOnError"),
                       "securityContext", security(a), NULL);
}

/* Read-only, both: connecting to a socket writes nothing, and nothing in this container may change what the others use. */
const struct json *kv_image_container(const struct kv_images *k, const struct json *image,
                                      struct arena *a)
{
    const struct json *command =
        json_array(a, text(a, KV_IMAGE_PROGRAM_DIR "/container-disk"), text(a, "serve"),
                   json_get(image, "id"), text(a, KV_DIR_CONTAINER_DISK "/" KV_IMAGE_SOCKET), NULL);
    const struct json *mounts =
        json_array(a, mount(a, k->program_volume, KV_IMAGE_PROGRAM_DIR, true),
                   mount(a, k->socket_volume, KV_DIR_CONTAINER_DISK, true), NULL);

    return container(k, arena_strdup(a, json_str_at(image, "name")), json_get(image, "image"),
                     json_get(image, "imagePullPolicy"), command, mounts, a);
}

const struct json *kv_image_init_container(const struct kv_images *k, struct arena *a)
{
    const struct json *command =
        json_array(a, text(a, KV_IMAGE_PROGRAM), text(a, "install"),
                   text(a, "/init" KV_IMAGE_PROGRAM_DIR "/container-disk"), NULL);

    return container(
        k, "container-disk-binary", text(a, k->launcher_image), text(a, "IfNotPresent"), command,
        json_array(a, mount(a, k->program_volume, "/init" KV_IMAGE_PROGRAM_DIR, false), NULL), a);
}
