#include "launcher/internal.h"

#include "base/file.h"
#include "base/log.h"

/* The last word about the machine: whoever comes later, even after a reboot of the host, finds how it ended. */
void termination_write(struct launcher *l)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf b = {0};
    AUTO(error_clear) struct error err = {0};

    json_write(&b, json_object(&a, "v", json_new_i64(&a, PROTO_VERSION), "uid",
                               json_new_z(&a, l->options->uid), "domain", launcher_domain(l, &a),
                               NULL));
    if (!file_write(l->private_dirfd, TERMINATION_NAME, buf_str(&b), 0644, &err))
        log_error(launcher_tag(l), "termination record: %s", error_text(&err));
}
