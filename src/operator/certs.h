/* operator/certs - the certificates of an installation: which are due, and new ones.
 *
 * One CA signs all of them. A CA whose end comes near is replaced by another, and for as long as the old one is valid both are in the
 * bundle that everybody trusts. What the old one signed stays good; nothing new is signed by the new one until the bundle has had
 * CERTS_SPREAD_S to reach every process (kubelets put a changed ConfigMap into running pods within a minute or so).
 * No I/O and no clock; keys come from the system's generator. */
#pragma once
#include "http/tls.h"
#include "operator/install.h"

#define CERTS_SPREAD_S 180
#define CERTS_CA       "kubevirt-ca" /* Secret with the key, ConfigMap with the bundle */
#define CERTS_BUNDLE   "ca-bundle"
#define CERTS_OPERATOR "kubevirt-operator-certs"

/* One that the CA signs, and the Secret that it lies in. */
struct cert_leaf {
    const char *secret;
    const char *common_name; /* NULL: "<service>.<namespace>.svc" */
    const char *service;     /* DNS names of a server; NULL: it is a client only */
    bool client;
};
enum { CERT_LEAVES = 5 };
extern const struct cert_leaf cert_leaves[CERT_LEAVES];

struct certs_view {
    const char *ns;
    struct cert_life life;
    int64_t now_s;
    /* As they lie in the API server; NULL where there is none, or none of ours. */
    const struct json *ca_secret, *bundle, *leaves[CERT_LEAVES];
};
struct certs_plan {
    /* What has to be written; NULL: it is well as it is. Without our labels. */
    const struct json *ca_secret, *bundle, *leaves[CERT_LEAVES];
    struct str ca_bundle;  /* what is to be trusted, PEM */
    int64_t next_s;        /* when to look again */
    const char *news;      /* what is new, for the log; NULL: nothing */
};
MUST_CHECK bool certs_make_plan(const struct certs_view *v, struct arena *a, struct certs_plan *ret, struct error *err);
/* tls.crt or tls.key of a Secret, decoded into the arena; absent: it has none. */
struct str certs_data(const struct json *secret, const char *name, struct arena *a);
