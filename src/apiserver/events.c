/* apiserver/events - Events have two faces, core/v1 and events.k8s.io/v1; the core one is stored. */
#include "apiserver/internal.h"

static const struct {
    const char *core, *events;
} names[] = {
    {"involvedObject", "regarding"},
    {"message", "note"},
    {"source", "deprecatedSource"},
    {"firstTimestamp", "deprecatedFirstTimestamp"},
    {"lastTimestamp", "deprecatedLastTimestamp"},
    {"count", "deprecatedCount"},
    {"reportingComponent", "reportingController"},
};

static const struct json *renamed(struct arena *a, const struct json *event, bool to_core)
{
    struct json_member *m = ARENA_ARRAY(a, struct json_member, json_len(event) + 2);
    size_t n = 0;

    json_each_member(it, event) {
        struct str key = json_str(&it->key);

        m[n] = *it;
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
            if (str_is(key, to_core ? names[i].events : names[i].core))
                m[n].key = *json_new_z(a, to_core ? names[i].core : names[i].events);
        if (str_is(key, "apiVersion"))
            m[n].value = *json_new_z(a, to_core ? "v1" : "events.k8s.io/v1");
        n++;
    }
    return json_object_n(a, m, n);
}

const struct json *event_to_core(struct arena *a, const struct json *event)
{
    return renamed(a, event, true);
}

const struct json *event_from_core(struct arena *a, const struct json *event)
{
    return renamed(a, event, false);
}
