/* base/metric - the text format of /metrics, and what every process tells of itself. */
#pragma once
#include "base/buf.h"

void metric_family(struct buf *b, const char *name, const char *type, const char *help); /* its samples follow */
void metric_one(struct buf *b, const char *name, const char *type, const char *help, double value);
void metric_process(struct buf *b); /* process_*: CPU, memory, start, descriptors, under the names of Prometheus' clients */
