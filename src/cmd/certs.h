/* cmd/certs - a certificate, its key and the authorities of its peers, in files that somebody renews. */
#pragma once
#include "loop/loop.h"

#define CERTS_AGAIN SECONDS(10)

struct certs;
struct certs_config {
    struct loop *loop;
    const char *dir;     /* tls.crt and tls.key in it; NULL: none */
    const char *ca_file; /* NULL: none */
    /* What is kept has changed. In the midst of a renewal certificate and key may not fit: then it returns false with the reason,
     * what was before stays, and the files are looked at again. */
    bool (*changed)(void *user, struct error *err);
    void *user;
};
/* Reads them at once, without calling changed(). NULL: they cannot be read. */
struct certs *certs_new(const struct certs_config *c, struct error *err);
void certs_free(struct certs *c);
/* PEM; NULL where there is none. Valid until the next turn of the loop. */
const char *certs_cert(const struct certs *c);
const char *certs_key(const struct certs *c);
const char *certs_ca(const struct certs *c);
