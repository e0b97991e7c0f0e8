/* api/formats - the formats of strings that CRDs may ask for, judged as kube-apiserver does. */
#pragma once
#include "base/str.h"

/* A format of text that is enforced; "date-time" and "datetime" are one. */
bool format_known(struct str format);
/* True also for formats that are not known: those are not enforced. */
bool format_fits(struct str format, struct str text);
