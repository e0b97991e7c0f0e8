#include "cmd/role.h"

#include <signal.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "http/client.h"
#include "http/tls.h"

static void on_term(struct loop_signal *s)
{
    loop_quit(container_of(s, struct role, term)->loop);
}

static void on_interrupt(struct loop_signal *s)
{
    loop_quit(container_of(s, struct role, interrupt)->loop);
}

static bool reachable(const struct kubeconfig *k, struct error *err)
{
    if (k->prefix && k->prefix[0])
        return error_set(err, ERROR_UNSUPPORTED,
                         "the kubeconfig's server has a path, %s, and API servers behind one are not supported here",
                         k->prefix);
    return true;
}

bool role_open(struct role *r, const char *kubeconfig, const char *user_agent, struct error *err)
{
    const struct kubeconfig_flags flags = {.kubeconfig = kubeconfig, .env = getenv("KUBECONFIG")};
    AUTO(kubeconfig_done) struct kubeconfig k = {0};

    if (!kubeconfig && !flags.env)
        return error_set(err, ERROR_BAD_REQUEST, "no API server is named: give --kubeconfig FILE");
    if (!kubeconfig_load(&flags, &k, err) || !reachable(&k, err))
        return false;
    if (k.tls) {
        r->tls = http_tls_new(&(struct http_tls_config){.cert_pem = k.cert_pem,
                                                        .key_pem = k.key_pem,
                                                        .ca_pem = k.ca_pem,
                                                        .insecure = k.insecure,
                                                        .server_name = k.tls_server_name},
                              err);
        if (!r->tls)
            return false;
    }
    r->loop = loop_new(NULL);
    if (!loop_signal_start(r->loop, &r->term, SIGTERM, on_term, err)
        || !loop_signal_start(r->loop, &r->interrupt, SIGINT, on_interrupt, err))
        return false;
    r->client = client_http_new(r->loop, http_client_new(&(struct http_client_config){.loop = r->loop,
                                                                                      .host = k.host,
                                                                                      .port = k.port,
                                                                                      .tls = r->tls,
                                                                                      .bearer_token = k.token,
                                                                                      .user_agent = user_agent}));
    log_info(NULL, "API server https://%s:%u", k.host, k.port);
    return true;
}

void role_close(struct role *r)
{
    client_free(r->client);
    if (r->loop) {
        loop_signal_stop(&r->term);
        loop_signal_stop(&r->interrupt);
        loop_free(r->loop);
    }
    http_tls_free(r->tls);
    *r = (struct role){0};
}
