/* apiserver/hooks - webhooks: which are asked about an operation, and the asking. */
#pragma once
#include "api/labels.h"
#include "apiserver/internal.h"
#include "cel/cel.h"
#include "http/client.h"

#define HOOK_SECONDS_MAX 30

/* What expressions know: object, oldObject, request. */
#define HOOK_VARIABLES 3
extern const struct cel_env hook_env;
struct hook_condition {
    const char *text;
    const struct cel_program *program;
};

/* A webhook of a configuration, ready to be asked. Refcounted: it outlives its configuration while it is being asked. */
struct hook {
    unsigned refs;
    struct arena arena;
    bool mutating, ignore_failure, exact, again; /* again: reinvocationPolicy IfNeeded */
    const char *name, *config;
    const struct json *spec; /* as configured */
    struct label_selector namespaces, objects;
    const struct hook_condition *conditions;
    size_t n_conditions;
    int64_t timeout_ns;
    const char *url, *path;
    struct http_tls *tls;
    struct http_client *client; /* NULL: what cannot be called, with the reason in `broken` */
    const char *broken;
};

struct hooks;
struct hooks *hooks_new(struct apiserver *s);
void hooks_free(struct hooks *h);
struct hook *hook_new(const struct json *spec, struct str config, bool mutating, struct loop *loop);
void hook_unref(struct hook *h);

/* An operation on its way through admission; in the request's arena. */
struct hook_call;
struct admission_run {
    struct request *r;
    enum admission_op op;
    const struct json *old, *object; /* object NULL: delete */
    void (*next)(struct request *r, const struct json *object);
    /* Of the webhooks. */
    struct hook **asked;      /* owned, of references: those that match, in order */
    const struct json **seen; /* what each made of the object, or found it like */
    size_t n_asked, at;
    bool mutating, second, changed;
    void (*then)(struct admission_run *run);
    struct hook_call **calls; /* under way, by the index of asked */
    size_t n_calls;
};
/* Asks all webhooks of one sort that match, then calls `then`: at once when none does. A refusal is answered instead. */
void hooks_ask(struct admission_run *run, bool mutating, void (*then)(struct admission_run *run));
/* The request ends before they have answered: nothing is called any more. */
void hooks_cancel(struct admission_run *run);
/* The webhooks that match: an owned array of references. */
struct hook **hooks_match(struct admission_run *run, bool mutating, size_t *ret_n);
/* Asked when its turn has come, by what the object is then. CANNOT_TELL: *ret_why says which expression failed. */
enum hook_interest { HOOK_WANTS, HOOK_PASSES, HOOK_CANNOT_TELL };
enum hook_interest hook_interest(const struct admission_run *run, const struct hook *h,
                                 const char **ret_why);
/* For the AdmissionReview and for rules: the request's resource as the webhook is to see it. */
const struct json *hook_review(const struct admission_run *run, const struct hook *h,
                               const char *uid, const char *version);
/* The version by which the rules match; NULL: they do not. */
const char *hook_version(const struct admission_run *run, const struct hook *h);
bool hook_matches(const struct admission_run *run, const struct hook *h);
bool hooks_exempt(const struct kind_info *k);

/* hook_answer.c: what a webhook said. */
enum hook_verdict {
    HOOK_ALLOWED,
    HOOK_DENIED,
    HOOK_FAILED,
    HOOK_BROKE,   /* its patch does not apply */
    HOOK_UNCLEAR, /* it was not asked: a condition could not be evaluated */
};
struct hook_outcome {
    enum hook_verdict verdict;
    const char *message;        /* of all that are neither allowed nor denied: why */
    const struct json *status;  /* DENIED: the Status to answer */
    const struct json *patched; /* ALLOWED: the object as patched, or NULL */
};
/* `object`: what was sent; NULL where patches are not taken. Warnings go to the request. */
void hook_answer(struct request *r, const struct hook *h, const char *uid, struct str body,
                 const struct json *object, struct hook_outcome *ret);
