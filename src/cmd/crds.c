/* vireo crds: the definitions of our kinds, for `kubectl apply -f -`: what the operator will install. */
#include <stdio.h>

#include "api/crd.h"
#include "base/cleanup.h"
#include "cmd/role.h"
#include "json/json.h"

/* Status and times are the server's to fill in. */
static const struct json *definition(const struct kind_info *k, struct arena *a)
{
    const struct json *crd = json_with(a, crd_of_kind(a, k, "1970-01-01T00:00:00Z"), "status", NULL);
    const struct json *metadata =
        json_object(a, "name", json_at(crd, "metadata/name"), "labels", json_at(crd, "metadata/labels"), "annotations",
                    json_at(crd, "metadata/annotations"), NULL);

    return json_with(a, crd, "metadata", metadata);
}

int crds_main(int argc, char **argv)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf text = {0};
    const struct json *items = json_array(&a, NULL);

    (void)argv;
    if (argc > 1) {
        fputs("usage: vireo crds\nPrints the CustomResourceDefinitions of our kinds, for `kubectl apply --server-side -f -`.\n",
              stderr);
        return 2;
    }
    for (size_t i = 0; schema_kinds[i]; i++)
        if (schema_kinds[i]->flags & KIND_CRD)
            items = json_append(&a, items, definition(schema_kinds[i], &a));
    buf_init(&text, 64u << 20);
    json_write(&text,
               json_object(&a, "apiVersion", json_new_z(&a, "v1"), "kind", json_new_z(&a, "List"), "items", items, NULL));
    return fwrite(text.p, 1, text.n, stdout) == text.n && putchar('\n') != EOF ? 0 : 1;
}
