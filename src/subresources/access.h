/* subresources/access - may they? Asked of the API server by SubjectAccessReview, since the roles are its own. */
#pragma once
#include "apiserver/apiserver.h"
#include "client/client.h"

#define ACCESS_KEPT SECONDS(5) /* how long a yes is believed; a no is asked about each time */

struct access;
struct access *access_new(struct client *c);
void access_free(struct access *a); /* what is asked about is answered no more */

struct access_attributes {
    const char *verb, *group;
    struct str version, ns, resource, name, subresource; /* absent where they do not apply */
};
struct access_question;
/* Called from the loop, once, unless cancelled. ERROR_NONE: allowed; ERROR_UNAUTHORIZED: refused, with the reason; others: it could
 * not be found out. */
typedef void (*access_done_fn)(void *user, const struct error *err);
struct access_question *access_ask(struct access *a, const struct identity *who, const struct access_attributes *what,
                                   access_done_fn done, void *user);
void access_cancel(struct access_question *q); /* no callback follows */
