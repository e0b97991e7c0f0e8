#include "cmd/cert_files.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"

#define FILE_LIMIT (1u << 20)

struct texts {
    char *cert, *key, *ca;
};

struct cert_files {
    struct cert_files_config config;
    char *dir, *ca_file;
    struct texts now;
    char *complaint; /* the last one, told once */
    struct loop_timer again;
};

static void texts_done(struct texts *t)
{
    free(t->cert);
    free(t->key);
    free(t->ca);
    *t = (struct texts){0};
}

static bool read_one(const char *dir, const char *name, char **ret, struct error *err)
{
    AUTO(buf_done) struct buf b = {0};
    AUTO_FREE char *path = dir ? xasprintf("%s/%s", dir, name) : xstrdup(name);

    buf_init(&b, FILE_LIMIT);
    if (!file_read(AT_FDCWD, path, &b, err))
        return error_wrap(err, "%s", path);
    if (!b.n || memchr(b.p, '\0', b.n))
        return error_set(err, ERROR_BAD_REQUEST, "%s: no PEM text in it", path);
    *ret = buf_detach(&b);
    return true;
}

static bool read_all(const struct cert_files *c, struct texts *ret, struct error *err)
{
    return (!c->dir
            || (read_one(c->dir, "tls.crt", &ret->cert, err)
                && read_one(c->dir, "tls.key", &ret->key, err)))
           && (!c->ca_file || read_one(NULL, c->ca_file, &ret->ca, err));
}

static bool same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static void complain(struct cert_files *c, const struct error *err)
{
    if (!same(c->complaint, error_text(err)))
        log_warning(NULL, "certificates stay as they were: %s", error_text(err));
    free(c->complaint);
    c->complaint = xstrdup(error_text(err));
}

bool cert_files_look(struct cert_files *c, struct error *err)
{
    AUTO(texts_done) struct texts found = {0};
    struct texts before = c->now;

    if (!read_all(c, &found, err))
        return false;
    if (same(found.cert, before.cert) && same(found.key, before.key) && same(found.ca, before.ca))
        return true;
    c->now = found;
    if (!c->config.changed(c->config.user, err)) {
        c->now = before;
        return false;
    }
    found = before;
    free(c->complaint);
    c->complaint = NULL;
    log_info(NULL, "certificates were renewed: new connections get them");
    return true;
}

static void on_again(struct loop_timer *t)
{
    struct cert_files *c = container_of(t, struct cert_files, again);
    AUTO(error_clear) struct error err = {0};

    if (!cert_files_look(c, &err))
        complain(c, &err);
    loop_timer_start(c->config.loop, &c->again, CERT_FILES_AGAIN, on_again);
}

struct cert_files *cert_files_new(const struct cert_files_config *config, struct error *err)
{
    struct cert_files *c = NEW(struct cert_files);

    c->config = *config;
    c->dir = config->dir ? xstrdup(config->dir) : NULL;
    c->ca_file = config->ca_file ? xstrdup(config->ca_file) : NULL;
    if (!read_all(c, &c->now, err)) {
        cert_files_free(c);
        return NULL;
    }
    loop_timer_start(config->loop, &c->again, CERT_FILES_AGAIN, on_again);
    return c;
}

void cert_files_free(struct cert_files *c)
{
    if (!c)
        return;
    loop_timer_stop(&c->again);
    texts_done(&c->now);
    free(c->dir);
    free(c->ca_file);
    free(c->complaint);
    free(c);
}

const char *cert_files_cert(const struct cert_files *c)
{
    return c->now.cert;
}

const char *cert_files_key(const struct cert_files *c)
{
    return c->now.key;
}

const char *cert_files_ca(const struct cert_files *c)
{
    return c->now.ca;
}
