#include "apiserver/nodes.h"
#include "apiserver/internal.h"

struct str node_of(const struct identity *who)
{
    static const char prefix[] = "system:node:";
    struct str user = str_of(who->user);

    if (!str_starts(user, str_of(prefix)) || user.n == strlen(prefix)
        || !identity_in(who, "system:nodes"))
        return STR_NONE;
    return str_skip(user, strlen(prefix));
}

bool node_allows(struct apiserver *s, const struct identity *who, const struct access *w,
                 struct arena *a, const char **ret_reason)
{
    (void)s;
    (void)who;
    (void)w;
    (void)a;
    *ret_reason = "";
    return false;
}
