/* loop/internal - what the files of this room share. */
#pragma once
#include "loop/loop.h"

/* Something that a loop outlives: drop() is called by loop_free() unless it was let go before. */
struct loop_owned {
    struct list node;
    void (*drop)(struct loop_owned *owned);
};
void loop_own(struct loop *l, struct loop_owned *owned, void (*drop)(struct loop_owned *));
void loop_disown(struct loop_owned *owned);
