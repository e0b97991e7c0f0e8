/* cmd/role - what the roles of a cluster share: their options, who they are to the API server, an HTTPS server of their own with
 * health and metrics, and signals that end them.
 *
 * Who we are comes from a kubeconfig, or in a pod from its service account, whose token changes within the hour and is read again
 * each minute. Certificates of the server are files that the operator renews: they are read again, too (cmd/cert_files.h). */
#pragma once
#include "base/map.h"
#include "client/client.h"
#include "cmd/cert_files.h"
#include "ctl/kubeconfig.h"
#include "http/exchange.h"

struct role_flags {
    const char *kubeconfig; /* NULL: $KUBECONFIG, or in a pod its service account */
    const char *ns;         /* where Vireo is installed: "kubevirt" */
    const char *listen;     /* ADDR:PORT or :PORT of the role's own server; NULL: it has none */
    const char *tls_dir;    /* tls.crt and tls.key of that server */
    const char *ca;         /* file with the authorities of our components; NULL: none are trusted */
    bool debug, json;
};
struct role_option { /* one of the role's own: a text or a switch */
    const char *name;
    const char **text;
    bool *flag;
};
#define ROLE_FLAGS_USAGE                                                                                                          \
    "  --kubeconfig FILE   the API server, and who we are to it ($KUBECONFIG; in a pod its service account)\n"                   \
    "  --namespace NS      where Vireo is installed (kubevirt)\n"                                                                 \
    "  --listen ADDR:PORT  serve health, metrics and what else the role serves, over TLS\n"                                      \
    "  --tls-dir DIR       tls.crt and tls.key of that server; read again when they change\n"                                    \
    "  --ca FILE           the authorities that certificates of other components come from; read again, too\n"                   \
    "  --log-json, --debug how and how much is logged\n"
#define ROLE_OPTIONS_MAX 16
/* Fills f, and what the options of `own` (ended by one without a name; may be NULL) point to. false: usage is due. */
MUST_CHECK bool role_parse(int argc, char **argv, struct role_flags *f, const struct role_option *own);

struct http_client;
struct http_server;
struct http_tls;
struct role_account { /* of a pod, or a kubeconfig's token file */
    char *token_file, *ca_file, *token, *ca_pem;
    struct loop_timer again;
};
struct role_server {
    void (*handle)(struct exchange *x, void *data);     /* all but health and metrics; NULL: there is nothing else */
    void (*metrics)(void *data, struct buf *b);         /* adds its own; NULL: none */
    void *data;
    /* SIGTERM: it goes on serving for so long, not ready, until those who call it have heard that; then it drains. */
    int64_t linger_ns;
    size_t body_limit;                                  /* 0: the HTTP server's */
    /* Client certificates (x->peer->cert_cn) are verified against --ca. Who trusts another authority leaves this out and says
     * role_trust(). */
    bool trust_ca;
};
struct role {
    struct loop *loop;
    struct client *client;
    struct http_client *http; /* the client's */
    struct http_tls *tls;
    struct role_account account;
    struct loop_signal term, interrupt;
    struct role_flags flags;
    struct role_server serves;
    struct http_server *server;
    struct http_tls *server_tls;
    struct cert_files *certs;
    char *trusted;            /* role_trust() */
    struct map unready;       /* name → why */
    struct loop_timer linger, thrift;
    bool stopping;
};
/* The API server, loop and signals. On failure, too, role_close() is due. */
MUST_CHECK bool role_open(struct role *r, const struct role_flags *f, const char *user_agent, struct error *err);
/* Listens, if --listen says so: /healthz, /livez, /readyz, /metrics, and what `s` serves (copied). Once, after role_open(). */
MUST_CHECK bool role_serve(struct role *r, const struct role_server *s, struct error *err);
/* Client certificates of new connections are verified against these authorities (PEM, copied). */
MUST_CHECK bool role_trust(struct role *r, const char *ca_pem, struct error *err);
/* A check of /readyz: fails for a reason, or is well (NULL). */
void role_health(struct role *r, const char *name, const char *why);
bool role_ready(const struct role *r); /* every check is well */
void role_close(struct role *r);

int api_main(int argc, char **argv);
int controller_main(int argc, char **argv);
int handler_main(int argc, char **argv);
int operator_main(int argc, char **argv);
int sim_main(int argc, char **argv);
int crds_main(int argc, char **argv);
/* What `vireo ROLE --help` prints, and on stderr who calls one wrongly. */
extern const char api_usage[], controller_usage[], handler_usage[], operator_usage[], sim_usage[], crds_usage[];
