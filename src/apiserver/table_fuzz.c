/* Rows of Tables from objects as users write them: every kind's cells, and printer columns with paths of the input's own. The input
 * is a column's path, a zero byte, and the object. */
#include "api/jsonpath.h"
#include "apiserver/table.h"
#include "base/cleanup.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const table_cells_fn kinds[] = {
        cells_pod,     cells_node,     cells_namespace,  cells_event,    cells_claim,
        cells_volume,  cells_secret,   cells_configmap,  cells_account,  cells_lease,
        cells_class,   cells_created,  cells_binding,    cells_revision, cells_priority,
        cells_quota,   cells_webhooks, cells_apiservice, cells_budget,   cells_plain,
        cells_columns,
    };
    static const char *const types[] = {"string", "integer", "number", "boolean", "date"};
    AUTO(arena_done) struct arena a = {0};
    AUTO(error_clear) struct error err = {0};
    struct kind_column columns[ARRAY_SIZE(types)];
    struct kind_info k = {
        .group = "g", .version = "v1", .kind = "K", .plural = "ks", .columns = columns};
    struct row row = {.a = &a, .now_ns = SECONDS(1700000000), .k = &k};
    const struct json *cells[TABLE_CELLS_MAX];
    struct str path, text;

    if (!str_cut(str_n((const char *)data, size), '\0', &path, &text)
        || !json_parse(text, &a, &row.object, &err))
        return 0;
    if (jsonpath_check(path, &err)) /* others are no part of a definition */
        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
            columns[k.n_columns++] =
                (struct kind_column){.name = "c", .type = types[i], .path = arena_strdup(&a, path)};
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
        size_t n = kinds[i](&row, cells);

        assert(n >= 1 && n <= TABLE_CELLS_MAX);
        for (size_t j = 0; j < n; j++) {
            AUTO(buf_done) struct buf b = {0};

            assert(cells[j]);
            json_write(&b, cells[j]);
        }
    }
    return 0;
}
