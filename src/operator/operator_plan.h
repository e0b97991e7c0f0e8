/* operator/operator_plan - in which order an installation is made, changed and taken away. Pure.
 *
 * Installing (and going back): CRDs, then what has no processes, then virt-api; once that answers, the webhooks and APIServices that send
 * requests to it; then controllers and node agents. Upgrading, as upstream: node agents first, controllers, virt-api last, since the
 * newer agents and controllers read what older ones wrote, and an older virt-api admits nothing that they do not know.
 * Removing: webhooks and APIServices first, so that nothing waits for who is about to end; then the CRDs, whose machines the controllers
 * and agents still shut down; then the processes; then all else. */
#pragma once
#include "operator/component.h"

enum live_state { LIVE_ABSENT, LIVE_SAME, LIVE_DIFFERS, LIVE_FOREIGN };
struct live {
    enum live_state state;
    bool ready;
    bool held;         /* others change it again and again: left alone for a while */
    const char *why;   /* it is not ready because of this; NULL: it is not told */
    const char *owner; /* LIVE_FOREIGN: whose it seems to be */
};
enum rollout {
    ROLLOUT_NONE, /* what is installed is what is wanted: repairs, in no order */
    ROLLOUT_INSTALL,
    ROLLOUT_UPGRADE,
};
struct install_view {
    const struct components *components;
    const struct live *live; /* one for each */
    enum rollout rollout;
};
struct install_plan {
    size_t *apply, n_apply;   /* in the arena: which components */
    const char *foreign;      /* others' objects in our way, for people; then nothing is applied */
    const char *waiting_for;  /* the first component that is not there or not ready; NULL: none */
    const char *trouble;      /* the first reason that one is not ready; NULL: none is known */
    const char *note;         /* what of a ready one is left out; NULL: nothing */
    bool created, ready;
    bool steady;              /* everything is there and ready, though perhaps not as it should be */
};
void install_make_plan(const struct install_view *v, struct arena *a, struct install_plan *ret);
/* Which rollout leads from one version to another; absent `from`: nothing is installed. */
enum rollout rollout_of(struct str from_id, struct str to_id, struct str from_version, struct str to_version);

struct removal_item {
    enum managed_id kind;
    bool deleting;
    const char *title;
};
struct removal_view {
    const struct removal_item *items;
    size_t n;
    const char *workloads; /* machines that exist, for people; NULL: none */
    bool remove_workloads;
};
struct removal_plan {
    size_t *remove, n_remove; /* in the arena */
    bool blocked;             /* machines exist, and nothing says that they may go */
    bool done;
    const char *waiting_for;
};
void removal_make_plan(const struct removal_view *v, struct arena *a, struct removal_plan *ret);
