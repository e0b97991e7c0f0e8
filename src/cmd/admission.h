/* cmd/admission - KubeVirt's rules as admission plugins of the embedded API server. */
#pragma once
#include "admission/rules.h"
#include "apiserver/apiserver.h"

/* rules is borrowed for the server's life. */
void admission_register(struct apiserver *s, struct admission_rules *rules);
