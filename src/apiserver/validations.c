/* apiserver/validations - see validations.h. The rules of a kind are compiled when they are first needed, into the arena of the kind,
 * and go with it when its definition changes. */
#include "apiserver/validations.h"
#include "api/meta.h"
#include "cel/rules.h"

static bool may_ignore(const struct json *crd)
{
    return str_is(meta_annotation(crd, VALIDATIONS_IGNORE), "true");
}

void validations_check(struct request *r, const struct json *crd, struct schema_causes *c)
{
    const struct json *versions = json_at(crd, "spec/versions"), *ignored = NULL;
    bool same = true;
    size_t i = 0;

    json_each_item(it, versions) {
        same = same && json_eq(json_get(it, "schema"), json_get(json_item(versions, 0), "schema"));
    }
    if (may_ignore(crd))
        ignored = json_array(&r->arena, NULL);
    json_each_item(it, versions) {
        const char *path =
            same ? "spec.validation.openAPIV3Schema"
                 : arena_printf(&r->arena, "spec.versions[%zu].schema.openAPIV3Schema", i);

        if (i++ && same)
            break;
        (void)cel_rules_compile(&r->arena, json_at(it, "schema/openAPIV3Schema"), path, c,
                                ignored ? &ignored : NULL);
    }
    json_each_item(it, ignored) {
        request_warn(r, STR_FMT, STR_ARG(json_str(it)));
    }
}

static const struct cel_rules *rules_of(struct served *k)
{
    const struct json *ignored;
    struct schema_causes causes = {0};

    if (k->rules_known || !k->crd)
        return k->rules;
    ignored = json_array(&k->arena, NULL);
    json_each_item(it, json_get(k->crd, "versions")) {
        if (str_is(json_str(json_get(it, "name")), k->info->version))
            k->rules = cel_rules_compile(&k->arena, json_at(it, "schema/openAPIV3Schema"), "",
                                         &causes, &ignored);
    }
    k->rules_known = true;
    return k->rules;
}

/* Faults that leave open what the rules would see. */
static bool blocked(const struct schema_causes *c)
{
    static const char *const blocking[] = {"FieldValueNotSupported", "FieldValueRequired",
                                           "FieldValueTooLong", "FieldValueTooMany",
                                           "FieldValueTypeInvalid"};

    for (size_t i = 0; i < c->n; i++)
        for (size_t k = 0; k < ARRAY_SIZE(blocking); k++)
            if (!strcmp(c->p[i].reason, blocking[k]))
                return true;
    return false;
}

static bool told(const struct schema_causes *c)
{
    for (size_t i = 0; i < c->n; i++)
        if (!strcmp(c->p[i].field, "<nil>"))
            return true;
    return false;
}

void validations_enforce(struct request *r, const struct json *old, const struct json *object,
                         struct schema_causes *c)
{
    const struct cel_rules *rules = r->kind->dynamic ? rules_of(r->kind) : NULL;
    const struct json *warnings = json_array(&r->arena, NULL);

    if (!rules)
        return;
    if (blocked(c)) {
        if (!told(c))
            schema_cause_add(c, &r->arena, "FieldValueInvalid", "<nil>",
                             "Invalid value: null: some validation rules were not checked because "
                             "the object was invalid; "
                             "correct the existing errors to complete validation");
        return;
    }
    cel_rules_validate(rules, object, old, &r->arena, c, &warnings);
    json_each_item(it, warnings) {
        request_warn(r, STR_FMT, STR_ARG(json_str(it)));
    }
}
