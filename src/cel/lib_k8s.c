#include "cel/internal.h"
const struct cel_library cel_lib_k8s = {NULL, 0};
bool cel_equal_opaque(const struct cel_value *a, const struct cel_value *b) { return a->opaque == b->opaque; }
