/* vireo crds: the definitions of our kinds, for `kubectl apply -f -`: what the operator installs. */
#include <stdio.h>

#include "base/cleanup.h"
#include "cmd/role.h"
#include "operator/component.h"

const char crds_usage[] = "usage: vireo crds\n"
                          "Prints the CustomResourceDefinitions of our kinds, for `kubectl apply --server-side -f -`. On a cluster the\n"
                          "operator installs them.\n";

int crds_main(int argc, char **argv)
{
    AUTO(arena_done) struct arena a = {0};
    AUTO(buf_done) struct buf text = {0};
    const struct json *items = json_array(&a, NULL);

    (void)argv;
    if (argc > 1) {
        fputs(crds_usage, stderr);
        return 2;
    }
    for (size_t i = 0; schema_kinds[i]; i++)
        if (schema_kinds[i]->flags & KIND_CRD)
            items = json_append(&a, items, component_crd(&a, schema_kinds[i]));
    buf_init(&text, 64u << 20);
    json_write(&text,
               json_object(&a, "apiVersion", json_new_z(&a, "v1"), "kind", json_new_z(&a, "List"), "items", items, NULL));
    return fwrite(text.p, 1, text.n, stdout) == text.n && putchar('\n') != EOF ? 0 : 1;
}
