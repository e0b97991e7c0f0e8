/* json/yaml - YAML to JSON values and back, by libyaml's events.
 *
 * As Kubernetes reads YAML: only true/false/null/~ and numbers are resolved in plain scalars; anchors are
 * expanded up to LIMIT_YAML_ALIAS_NODES nodes; depth and size have bounds; duplicate keys are an error. */
#pragma once
#include "json/json.h"

/* All documents of a stream (empty ones left out). */
struct yaml_docs {
    const struct json **p; /* in the arena */
    size_t n;
};
MUST_CHECK bool yaml_parse(struct str text, struct arena *a, struct yaml_docs *ret, struct error *err);
MUST_CHECK bool yaml_parse_one(struct str text, struct arena *a, const struct json **ret, struct error *err);
void yaml_write(struct buf *b, const struct json *v); /* one document, block style, keys in given order, sigs.k8s.io/yaml's quoting */
