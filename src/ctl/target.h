/* ctl/target - which virtual machine a verb is about: "NAME", "vm NAME", "vmi/NAME", "[user@]vm/NAME/NAMESPACE". */
#pragma once
#include "base/buf.h"

enum target_kind { TARGET_VM, TARGET_VMI };
struct target { /* owned */
    enum target_kind kind;
    char *name, *ns;
    char *user; /* NULL: none was given */
};
void target_done(struct target *t);
const char *target_kind_name(enum target_kind k);  /* "vm" */
const char *target_plural(enum target_kind k);     /* "virtualmachines" */
const char *target_title(enum target_kind k);      /* "VirtualMachine" */

/* "[user@]type/name[/namespace]"; without a type only where `otherwise` is non-NULL. */
MUST_CHECK bool target_parse(struct str text, const enum target_kind *otherwise, bool with_user, const char *ns,
                             struct target *ret, struct error *err);
/* The arguments of a verb that takes "type NAME", "type/NAME" or, with `otherwise`, "NAME". */
MUST_CHECK bool target_of_args(const char *const *args, size_t n, const enum target_kind *otherwise, const char *ns,
                               struct target *ret, struct error *err);
/* "/apis/subresources.kubevirt.io/v1/namespaces/NS/PLURAL/NAME/ACTION", owned */
char *target_subresource(const struct target *t, const char *action);
char *target_object_path(enum target_kind k, const struct target *t); /* the object itself */
