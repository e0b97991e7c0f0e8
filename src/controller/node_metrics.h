/* controller/node_metrics - what nodes can run, as metrics: from the reports on the Nodes. Pure. */
#pragma once
#include "json/json.h"

/* Families with HELP and TYPE, once; `nodes` is an array of Nodes. */
void node_metrics_write(const struct json *nodes, struct buf *b);
