/* http/resolve - names to addresses, on a thread of its own because getaddrinfo() blocks. */
#pragma once
#include "base/error.h"
#include "loop/loop.h"
#include <netinet/in.h>
#include <sys/socket.h>

#define RESOLVE_MAX 8

struct resolve;
/* done(user) comes from the loop, never at once, unless resolve_free() is called first. */
struct resolve *resolve_start(struct loop *l, const char *host, unsigned port,
                              void (*done)(void *user), void *user);
size_t resolve_count(const struct resolve *r);
const struct sockaddr *resolve_address(const struct resolve *r, size_t i, socklen_t *ret_n);
const char *resolve_error(const struct resolve *r); /* NULL: none */
void resolve_free(struct resolve *r);
