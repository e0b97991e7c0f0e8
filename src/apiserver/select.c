/* apiserver/select - label and field selectors of one request. */
#include "api/labels.h"
#include "api/meta.h"
#include "apiserver/internal.h"

struct selection {
    struct label_selector labels;
    struct field_selector fields;
};

static bool selectable(const struct kind_info *k, struct str path)
{
    if (str_is(path, "metadata.name") || (str_is(path, "metadata.namespace") && kind_namespaced(k)))
        return true;
    for (size_t i = 0; k->selectable && k->selectable[i]; i++)
        if (str_is(path, k->selectable[i]))
            return true;
    return false;
}

struct selection *selection_new(struct request *r)
{
    struct arena *a = &r->arena;
    struct selection *s = ARENA_NEW(a, struct selection);
    struct str labels = query_get(r, "labelSelector"), fields = query_get(r, "fieldSelector");
    AUTO(error_clear) struct error err = {0};

    if (!str_empty(labels) && !label_selector_parse(labels, a, &s->labels, &err)) {
        answer_status(r, 400, "BadRequest", arena_strdup(a, str_of(error_text(&err))), NULL);
        return NULL;
    }
    if (!str_empty(fields) && !field_selector_parse(fields, a, &s->fields, &err)) {
        answer_status(r, 400, "BadRequest", arena_strdup(a, str_of(error_text(&err))), NULL);
        return NULL;
    }
    for (size_t i = 0; i < s->fields.n; i++) {
        struct field_term *t = (struct field_term *)(uintptr_t)&s->fields.p[i];

        if (kind_is(r->kind->info, "", "events") && str_is(t->path, "source"))
            t->path = STR("source.component"); /* what Kubernetes means by it */
        else if (!selectable(r->kind->info, t->path)) {
            AUTO(buf_done) struct buf b = {0};

            if ((r->kind->info->flags & KIND_CRD) || r->kind->dynamic)
                buf_addf(&b, "field label not supported: " STR_FMT, STR_ARG(s->fields.p[i].path));
            else
                buf_addf(&b,
                         "\"" STR_FMT "\" is not a known field selector: only \"metadata.name\", "
                         "\"metadata.namespace\"",
                         STR_ARG(s->fields.p[i].path));
            answer_status(r, 400, "BadRequest", arena_strdup(a, buf_str(&b)), NULL);
            return NULL;
        }
    }
    /* A watch or list of one name by its path. */
    if (r->name.p && (r->verb == VERB_LIST || r->verb == VERB_WATCH)) {
        struct field_term *t = ARENA_ARRAY(a, struct field_term, s->fields.n + 1);

        for (size_t i = 0; i < s->fields.n; i++)
            t[i] = s->fields.p[i];
        t[s->fields.n] = (struct field_term){.path = STR("metadata.name"), .value = r->name};
        s->fields = (struct field_selector){t, s->fields.n + 1};
    }
    return s;
}

bool selection_is_empty(const struct selection *s)
{
    return s->labels.n == 0 && !s->labels.nothing && s->fields.n == 0;
}

bool selection_matches(const struct selection *s, const struct json *object)
{
    return label_selector_match(&s->labels, meta_labels(object))
           && field_selector_match(&s->fields, object);
}

struct str selection_name(const struct selection *s)
{
    return field_selector_value(&s->fields, "metadata.name");
}
