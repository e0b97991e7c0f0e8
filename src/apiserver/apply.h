/* apiserver/apply - server-side apply. */
#pragma once
#include "apiserver/internal.h"

void apply_request(struct request *r);
