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

/* Text that stands in an object's JSON as it is: no quotes, backslashes, control characters, nothing beyond ASCII. */
static bool is_plain(struct str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x20 || (unsigned char)s.p[i] > 0x7e
            || strchr("\"\\<>&", s.p[i]))
            return false;
    return s.n > 0;
}

static bool has(struct str text, const char *fmt, ...) PRINTF_LIKE(2, 3);
static bool has(struct str text, const char *fmt, ...)
{
    char bytes[600];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(bytes, sizeof bytes, fmt, ap);
    va_end(ap);
    return n < 0 || (size_t)n >= sizeof bytes || memmem(text.p, text.n, bytes, (size_t)n) != NULL;
}

static bool may_have_label(const struct label_requirement *r, struct str text)
{
    if (!is_plain(r->key))
        return true;
    switch (r->op) {
    case LABEL_IN:
        for (size_t i = 0; i < r->n; i++)
            if (!is_plain(r->values[i])
                || has(text, "\"" STR_FMT "\":\"" STR_FMT "\"", STR_ARG(r->key),
                       STR_ARG(r->values[i])))
                return true;
        return false;
    case LABEL_EXISTS:
    case LABEL_GREATER:
    case LABEL_LESS:
        return has(text, "\"" STR_FMT "\":", STR_ARG(r->key));
    case LABEL_NOT_IN:
    case LABEL_ABSENT:
        return true;
    }
    return true;
}

bool selection_may_match(const struct selection *s, struct str text)
{
    for (size_t i = 0; i < s->labels.n; i++)
        if (!may_have_label(&s->labels.p[i], text))
            return false;
    for (size_t i = 0; i < s->fields.n; i++) {
        const struct field_term *t = &s->fields.p[i];

        if (!t->negative && is_plain(t->value) && !has(text, STR_FMT, STR_ARG(t->value)))
            return false;
    }
    return !s->labels.nothing;
}

struct str selection_name(const struct selection *s)
{
    return field_selector_value(&s->fields, "metadata.name");
}
