#include "subresources/front_proxy.h"
#include "base/cleanup.h"
#include <assert.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* The first line is the ConfigMap, the others are headers: "name: value". Who is believed has a user and a group. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static char name[] = "front-proxy-client", *org;
    struct http_peer peer = {.tls = true, .cert_cn = name, .cert_orgs = &org, .cert_until_unix_s = INT64_MAX};
    struct loop *loop = loop_new_fake();
    struct exchange x = {.peer = &peer, .loop = loop};
    AUTO(error_clear) struct error err = {0}, refused = {0};
    struct str rest = str_n((const char *)data, n), line;
    struct front_proxy p = {0};
    struct http_header headers[64];
    const struct json *map;
    struct identity who;

    x.headers = headers;
    if (str_next(&rest, '\n', &line) && json_parse(line, &x.arena, &map, &err) && front_proxy_read(&p, map, &err)) {
        assert(p.ca_pem && p.n_users > 0);
        while (rest.p && x.n_headers < ARRAY_SIZE(headers) && str_next(&rest, '\n', &line)) {
            struct http_header *h = &headers[x.n_headers];

            if (str_cut(line, ':', &h->name, &h->value) && h->name.n && !memchr(line.p, 0, line.n))
                x.n_headers++;
        }
        if (front_proxy_identity(&p, &x, &who, &refused))
            assert(refused.kind == ERROR_NONE && who.user[0] && who.groups[0] && who.groups[0][0]);
        else
            assert(refused.kind == ERROR_UNAUTHORIZED);
    }
    front_proxy_done(&p);
    arena_done(&x.arena);
    loop_free(loop);
    return 0;
}
