/* cmd/cert_files - a certificate, its key and the authorities of its peers, in files that somebody renews. */
#pragma once
#include "loop/loop.h"

#define CERT_FILES_AGAIN SECONDS(10)

struct cert_files;
struct cert_files_config {
    struct loop *loop;
    const char *dir;     /* tls.crt and tls.key in it; NULL: none */
    const char *ca_file; /* NULL: none */
    /* What is kept has changed. In the midst of a renewal certificate and key may not fit: then it returns false with the reason,
     * what was before stays, and the files are looked at again. */
    bool (*changed)(void *user, struct error *err);
    void *user;
};
/* Reads them at once, without calling changed(). NULL: they cannot be read. */
struct cert_files *cert_files_new(const struct cert_files_config *c, struct error *err);
/* Looks now, not at its next turn: whoever calls has just written the files. False: they cannot be used, and what was before stays. */
MUST_CHECK bool cert_files_look(struct cert_files *c, struct error *err);
void cert_files_free(struct cert_files *c);
/* PEM; NULL where there is none. Valid until the next turn of the loop. */
const char *cert_files_cert(const struct cert_files *c);
const char *cert_files_key(const struct cert_files *c);
const char *cert_files_ca(const struct cert_files *c);
