/* cel/rules - x-kubernetes-validations: the rules of one version of a CustomResourceDefinition, compiled and enforced.
 *
 * A tree beside the schema's holds the rules of each place. It is built once, when a definition is checked and when its
 * kind is served, and lives in the arena that it was built into, as does everything it points to in the schema. */
#pragma once
#include "api/schema.h"

#define CEL_RULE_COST_MAX 10000000 /* estimated, one rule with all the places that it applies to */
#define CEL_CRD_COST_MAX 100000000 /* estimated, all rules of one schema */

struct cel_rules;

/* NULL when the schema has no rules. What is wrong is added to `faults` as kube-apiserver words it, with `path` in front
 * ("spec.validation.openAPIV3Schema"). With `ignored` non-NULL, rules that need functions which are not here are no
 * fault: their paths are added to *ignored (an array of texts) and they are not enforced. */
const struct cel_rules *cel_rules_compile(struct arena *a, const struct json *schema,
                                          const char *path, struct schema_causes *faults,
                                          const struct json **ignored);

/* The rules that an object breaks. `old` is the object before an update, or NULL. Rules without oldSelf about values that
 * stay as they were do not fail: what they say is added to *warnings (an array of texts; NULL: nobody listens).
 * Scratch memory is freed at the end; causes and warnings are in `a`. */
void cel_rules_validate(const struct cel_rules *rules, const struct json *object,
                        const struct json *old, struct arena *a, struct schema_causes *causes,
                        const struct json **warnings);
