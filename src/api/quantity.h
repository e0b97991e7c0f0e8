/* api/quantity - resource.Quantity: "1500m", "2Gi", "1e3", exactly as Kubernetes reads, rounds and writes them.
 *
 * A value is a whole number of nano units in 128 bits (±1.7e29 units). What is finer is rounded away from zero when
 * parsed, as upstream does ("if you want some resources, you should get some"); a decimal beyond the range is refused. */
#pragma once
#include "base/arena.h"
#include "base/buf.h"

enum quantity_format { QUANTITY_DECIMAL_SI, QUANTITY_BINARY_SI, QUANTITY_DECIMAL_EXPONENT };

struct quantity {
    __int128 nano;
    enum quantity_format format;
};

/* ERROR_INVALID with apimachinery's three messages. */
MUST_CHECK bool quantity_parse(struct str text, struct quantity *ret, struct error *err);
struct quantity quantity_of(int64_t units, enum quantity_format format);

int quantity_cmp(struct quantity a, struct quantity b);
static inline bool quantity_is_zero(struct quantity q) { return q.nano == 0; }
/* The format of the left side stays unless that is zero. Saturate at the ends of the range. */
struct quantity quantity_add(struct quantity a, struct quantity b);

/* Rounded away from zero; saturated to int64. */
int64_t quantity_value(struct quantity q); /* Go's Value() */
int64_t quantity_milli(struct quantity q); /* Go's MilliValue() */
/* Only when it is a whole number within int64 (Go's AsInt64()). */
bool quantity_exact(struct quantity q, int64_t *ret);

/* Canonical form: no fraction, the largest suffix without loss. */
void quantity_write(struct buf *b, struct quantity q);
char *quantity_text(struct arena *a, struct quantity q);

/* Shortcuts for fields that validation has already looked at: `otherwise` for absent or unreadable text. */
int64_t quantity_bytes(struct str text, int64_t otherwise);
int64_t quantity_millis(struct str text, int64_t otherwise);
