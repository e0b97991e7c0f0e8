/* cmd/instance - one data directory: its layout, identity, keys and the settings that its processes share. */
#pragma once
#include "base/buf.h"
#include "json/json.h"

#include <sys/types.h>

#define INSTANCE_DEFAULT_DIR    "/var/lib/vireo"
#define INSTANCE_DEFAULT_LISTEN "127.0.0.1:6443"
#define INSTANCE_DEFAULT_CIDR   "10.88.0.0/16"

/* Host uids of an instance, a range of its own so that two on one host share none: control +0, fetcher +1, launchers from +1000. */
#define INSTANCE_UID_FIRST  1870000000u
#define INSTANCE_UID_RANGE  65536u
#define INSTANCE_UID_SLOTS  4096u /* below 2^31 */

/* Descriptors that the supervisor hands to its two processes. */
enum { INSTANCE_FD_CONFIG = 3, INSTANCE_FD_DIR = 4, INSTANCE_FD_LISTEN = 5, INSTANCE_FD_LISTEN_TLS = 6, INSTANCE_FD_AUDIT = 7 };

#define INSTANCE_MAX_SIM_NODES 5000
struct instance_options {
    char *dir;       /* as given, then absolute */
    char *listen;
    char *pod_cidr;
    char *node_name;
    char *oci_dir;   /* local image layouts; NULL: DIR/oci */
    char *cni_dir;
    char *launcher;  /* NULL: beside this program */
    char *fetcher;   /* beside this program */
    unsigned sim_nodes; /* simulated nodes beside this machine's own */
    char *offer_vmm; /* VMMs that only play machines, by commas; NULL: none is offered */
    char *audit_policy_file, *audit_log_path; /* NULL: no audit log; "-": standard output */
    unsigned audit_max_mib, audit_max_backups, audit_max_days; /* 0: 100 MiB, all, of any age */
    bool json_log, debug;
};
void instance_options_done(struct instance_options *o);

struct instance {
    struct instance_options o;
    int dirfd;                 /* DIR */
    int lock_fd;               /* held while the supervisor lives */
    char name[9];              /* stable, from the path: names host objects */
    char *server_cert, *server_key, *ca_cert, *sa_key; /* PEM */
    char *audit_policy;        /* text, or NULL */
};
/* Makes and locks the directory tree, loads or makes keys and certificates (renewed when close to their end), and writes
 * admin.kubeconfig. ERROR_CONFLICT when another `vireo serve` holds the directory. */
MUST_CHECK bool instance_open(const struct instance_options *o, struct instance *ret, struct error *err);
void instance_done(struct instance *i);
/* Reads the keys again: a restored backup has brought its own. */
MUST_CHECK bool instance_reload_keys(struct instance *i, struct error *err);

/* Renews certificates that end within a month, as of now_unix_s, on disk (admin.kubeconfig too) and here. *ret_server: the
 * server's is another one now. */
MUST_CHECK bool instance_renew(struct instance *i, int64_t now_unix_s, bool *ret_server, struct error *err);
/* Where the control process takes a new server certificate, from root over api.sock: {"serverCert":…,"serverKey":…}. */
#define INSTANCE_CERTIFICATE_PATH "/vireo/server-certificate"

/* 8 hex digits that stay the same for a path. */
void instance_name_of(const char *absolute_dir, char ret[9]);
/* First uid of the range that goes with a name. */
uid_t instance_uid_base(const char *name);

/* The settings as JSON text in a sealed memory file, and back. */
MUST_CHECK bool instance_config_fd(const struct instance *i, bool with_keys, int *ret_fd, struct error *err);
MUST_CHECK bool instance_config_read(struct arena *a, const struct json **ret, struct error *err); /* from INSTANCE_FD_CONFIG */

/* Checks the audit options, reads the policy into i->audit_policy and opens the log's directory (-1: there is none). audit_setup.c */
MUST_CHECK bool audit_prepare(struct instance *i, int *ret_dirfd, struct error *err);

/* Verbs. argv[0] is the verb. */
int serve_main(int argc, char **argv);
int stop_main(int argc, char **argv);
int doctor_main(int argc, char **argv);
int control_main(void);
int node_main(void);
MUST_CHECK bool instance_parse_flags(int argc, char **argv, struct instance_options *o, bool *ret_all, struct error *err);
