/* ctl/create_vm - the pieces of `create vm`: a manifest that grows flag by flag. */
#pragma once
#include "ctl/ctl.h"

#define CREATE_PARAMS_MAX 16

/* "src:a/b,name:c": pairs, cut at the first colon; names are known ones. */
struct create_params {
    const char *flag; /* for messages */
    struct {
        struct str name, value;
    } p[CREATE_PARAMS_MAX];
    size_t n;
};
MUST_CHECK bool create_params_parse(const char *flag, const char *text, const char *const *known, struct create_params *ret,
                                    struct error *err);
struct str create_param(const struct create_params *p, const char *name); /* absent when missing */

/* A manifest in the making; values are in the arena. */
struct creation {
    const struct ctl *c;
    struct arena *a;
    const char *name;
    const struct json *disks, *volumes, *templates, *credentials; /* arrays, or NULL */
    uint64_t lowest_boot_order;                                   /* 0: none was given */
    struct str boot_volume;                                       /* its name */
};
/* Volumes of every --volume-… flag, in boot order. */
MUST_CHECK bool create_volumes(struct creation *v, struct error *err);
MUST_CHECK bool create_volume_add(struct creation *v, const char *flag, struct str name, const char *source,
                                  const struct json *value, struct error *err);
/* Can an instance type be inferred from it? */
bool create_can_infer(const struct creation *v, struct str volume);
/* cloud-init and access credentials */
MUST_CHECK bool create_login(struct creation *v, struct error *err);
void create_random(char *p, size_t n); /* letters as Kubernetes' generated names have them; p gets n + NUL */
