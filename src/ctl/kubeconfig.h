/* ctl/kubeconfig - which API server to talk to and as whom, from kubeconfig files and flags as kubectl reads them.
 *
 * Of several files (KUBECONFIG is a list) the first that names a cluster, user, context or current-context counts; paths
 * inside a file are relative to that file. Flags override what the files say. */
#pragma once
#include "json/json.h"

struct kubeconfig_flags { /* members NULL: not given */
    const char *kubeconfig; /* --kubeconfig: this file alone, which must exist */
    const char *env;        /* $KUBECONFIG */
    const char *home;       /* $HOME */
    const char *context, *cluster, *user, *ns, *server, *token, *tls_server_name;
    const char *certificate_authority, *client_certificate, *client_key;
    bool insecure;
};

/* Owned. */
struct kubeconfig {
    bool tls;
    char *host, *prefix; /* prefix: path in front of every request, "" or "/k8s/c1" */
    unsigned port;
    char *ns;            /* "default" unless context or flag says otherwise */
    char *ca_pem, *cert_pem, *key_pem, *token, *tls_server_name; /* NULL: none */
    char *token_file;    /* where the token came from, which may change there; NULL: nowhere */
    bool insecure;
};
MUST_CHECK bool kubeconfig_load(const struct kubeconfig_flags *f, struct kubeconfig *ret, struct error *err);
void kubeconfig_done(struct kubeconfig *c);

/* The pure part, in two steps: which entries count, and what their texts mean. */
struct kubeconfig_source {
    struct str text;
    const char *dir; /* for relative paths */
    const char *name; /* for messages */
};
struct kubeconfig_choice {
    const struct json *cluster, *user, *context; /* in the arena; NULL: none */
    const char *cluster_dir, *user_dir;
    struct str user_name;
};
MUST_CHECK bool kubeconfig_choose(const struct kubeconfig_source *sources, size_t n, const struct kubeconfig_flags *f,
                                  struct arena *a, struct kubeconfig_choice *ret, struct error *err);
/* "https://host[:port][/prefix]" */
MUST_CHECK bool kubeconfig_server(struct str url, struct kubeconfig *ret, struct error *err);
