#include "cel/internal.h"
const struct cel_library cel_lib_net = {NULL, 0};
