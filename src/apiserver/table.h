/* apiserver/table - cells of a Table's rows, kind by kind. */
#pragma once
#include "apiserver/internal.h"

#define TABLE_CELLS_MAX 64

struct row {
    const struct json *object;
    struct arena *a;
    int64_t now_ns;
    const struct kind_info *k;
};
typedef size_t (*table_cells_fn)(const struct row *r, const struct json **ret);

const struct json *cell_age(const struct row *r, struct str time);

size_t cells_pod(const struct row *r, const struct json **ret);
size_t cells_node(const struct row *r, const struct json **ret);
size_t cells_namespace(const struct row *r, const struct json **ret);
size_t cells_event(const struct row *r, const struct json **ret);
size_t cells_claim(const struct row *r, const struct json **ret);
size_t cells_volume(const struct row *r, const struct json **ret);
size_t cells_secret(const struct row *r, const struct json **ret);
size_t cells_configmap(const struct row *r, const struct json **ret);
size_t cells_account(const struct row *r, const struct json **ret);
size_t cells_lease(const struct row *r, const struct json **ret);
size_t cells_class(const struct row *r, const struct json **ret);
size_t cells_created(const struct row *r, const struct json **ret);
size_t cells_binding(const struct row *r, const struct json **ret);
size_t cells_revision(const struct row *r, const struct json **ret);
size_t cells_priority(const struct row *r, const struct json **ret);
size_t cells_quota(const struct row *r, const struct json **ret);
size_t cells_webhooks(const struct row *r, const struct json **ret);
size_t cells_apiservice(const struct row *r, const struct json **ret);
size_t cells_budget(const struct row *r, const struct json **ret);
size_t cells_columns(const struct row *r,
                     const struct json **ret); /* by the kind's printer columns */
size_t cells_plain(const struct row *r, const struct json **ret);
