#include "cmd/thrift.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/alloc.h"

#define FIRST SECONDS(15)
#define AGAIN SECONDS(600)
#define SLACK (64u << 10)

struct mapping {
    unsigned long begin, end;
    bool file, written; /* of a file; may be, or has been, written to */
    size_t resident;
};

static size_t let_go(const struct mapping *m)
{
    if (!m->file || m->written || m->resident == 0)
        return 0;
    return madvise((void *)m->begin, m->end - m->begin, MADV_DONTNEED) == 0 ? m->resident : 0;
}

/* A page that was copied because something was written to it (relocations) counts as anonymous: its mapping is left alone. */
size_t thrift_code(void)
{
    FILE *f = fopen("/proc/self/smaps", "re");
    struct mapping m = {0};
    char line[512], perms[5], key[32];
    unsigned long begin, end, inode, kb;
    size_t bytes = 0;

    if (!f)
        return 0;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "%lx-%lx %4s %*x %*s %lu", &begin, &end, perms, &inode) == 4) {
            bytes += let_go(&m);
            m = (struct mapping){begin, end, inode != 0, perms[1] == 'w' || perms[3] != 'p', 0};
        } else if (sscanf(line, "%31[A-Za-z_]: %lu kB", key, &kb) == 2) {
            if (strcmp(key, "Rss") == 0)
                m.resident = kb * 1024;
            else if ((strcmp(key, "Anonymous") == 0 || strcmp(key, "Swap") == 0) && kb > 0)
                m.written = true;
        }
    }
    bytes += let_go(&m);
    fclose(f);
    return bytes;
}

static void on_timer(struct loop_timer *timer)
{
    struct thrift *t = container_of(timer, struct thrift, timer);

    heap_give_back(SLACK);
    thrift_code();
    loop_timer_start(t->loop, timer, AGAIN, on_timer);
}

void thrift_start(struct thrift *t, struct loop *l)
{
    t->loop = l;
    loop_timer_start(l, &t->timer, FIRST, on_timer);
}

void thrift_stop(struct thrift *t)
{
    loop_timer_stop(&t->timer);
}
