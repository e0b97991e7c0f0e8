/* api/names - which texts may name things, with apimachinery's words for those that may not.
 *
 * Each returns NULL for a good text, else the message (static, or made in the arena). */
#pragma once
#include "base/arena.h"

const char *name_dns1123_label(struct str s);
const char *name_dns1123_subdomain(struct str s);
const char *name_dns1035_label(struct str s);
const char *name_label_value(struct str s);
const char *name_qualified(struct str s, struct arena *a); /* label and annotation keys, taints, finalizers */
const char *name_path_segment(struct str s, struct arena *a); /* RBAC names */
