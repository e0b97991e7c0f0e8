/* subresources/documents - what an aggregated API server says of itself: discovery and OpenAPI. */
#pragma once
#include "apiserver/apiserver.h"

/* Answers a GET of /apis, /apis/<group>, /apis/<group>/<version>, /openapi/v2 and /openapi/v3 and what that names. false: none of them. */
bool aggregated_documents(const struct virtual_group *g, struct exchange *x);
