#include "storage/iso.h"

#include <stdlib.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/vec.h"

/* ECMA-119 (ISO 9660), the Joliet specification, SUSP 1.10 and RRIP 1.10. One tree is laid out twice: once with short names and
 * Rock Ridge entries, once with UCS-2 names. The data of files is shared. Sectors:
 *   0-15 empty · 16 primary descriptor · 17 Joliet descriptor · 18 terminator · four path tables · folders (primary) ·
 *   folders (Joliet) · data */

#define SECTOR 2048u
#define MAX_NAME 103
#define MAX_DEPTH 7

enum kind { PRIMARY, JOLIET };

struct node {
    size_t parent; /* the root is its own */
    char *name;    /* owned */
    bool is_dir;
    unsigned depth, number; /* number: in the short name, so that both orders are one */
    struct str data;
    uint32_t sector[2], bytes[2]; /* by kind; of a file both are the same */
    unsigned path_index;          /* folders: 1… */
};
struct image {
    VEC(struct node) nodes; /* parents before children; after sort(): by depth, parent, name */
    struct buf out;
};

static void image_done(struct image *im)
{
    for (size_t i = 0; i < im->nodes.n; i++)
        free(im->nodes.p[i].name);
    vec_done(&im->nodes);
    buf_done(&im->out);
}

/* ---- numbers ---- */

static void le(struct buf *b, size_t n, uint32_t v)
{
    for (size_t i = 0; i < n; i++)
        buf_addc(b, (char)(unsigned char)(v >> (8 * i)));
}

static void be(struct buf *b, size_t n, uint32_t v)
{
    for (size_t i = n; i-- > 0;)
        buf_addc(b, (char)(unsigned char)(v >> (8 * i)));
}

static void both(struct buf *b, size_t n, uint32_t v)
{
    le(b, n, v);
    be(b, n, v);
}

static void fill(struct buf *b, size_t n, char c)
{
    while (n-- > 0)
        buf_addc(b, c);
}

static void pad_sector(struct buf *b)
{
    if (b->n % SECTOR)
        fill(b, SECTOR - b->n % SECTOR, 0);
}

static uint32_t sectors(uint64_t bytes)
{
    return (uint32_t)((bytes + SECTOR - 1) / SECTOR);
}

/* ---- the tree ---- */

static bool good_name(struct str s)
{
    if (s.n == 0 || s.n > MAX_NAME || str_is(s, ".") || str_is(s, ".."))
        return false;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] < 0x20 || s.p[i] > 0x7e || strchr("*/:;?\\", s.p[i]))
            return false;
    return true;
}

static size_t find(const struct image *im, size_t parent, struct str name)
{
    for (size_t i = 1; i < im->nodes.n; i++)
        if (im->nodes.p[i].parent == parent && str_is(name, im->nodes.p[i].name))
            return i;
    return 0;
}

static bool add(struct image *im, const struct iso_file *f, struct error *err)
{
    struct str rest = str_of(f->path), part;
    size_t at = 0;

    while (str_next(&rest, '/', &part)) {
        size_t next = find(im, at, part);
        bool last = rest.p == NULL;

        if (!good_name(part) || im->nodes.p[at].depth + 1 > MAX_DEPTH)
            return error_set(err, ERROR_INVALID, "'%s' cannot be a file's name in an ISO image",
                             f->path);
        if (next && (last || !im->nodes.p[next].is_dir))
            return error_set(err, ERROR_INVALID, "'%s' is there twice", f->path);
        if (!next) {
            vec_push(&im->nodes, (struct node){.parent = at,
                                               .name = str_dup(part),
                                               .is_dir = !last,
                                               .depth = im->nodes.p[at].depth + 1,
                                               .data = last ? f->data : STR_NONE});
            next = im->nodes.n - 1;
        }
        at = next;
    }
    return true;
}

/* By depth, then the parent's place, then name: the order that path tables and folders both ask for. */
static void sort(struct image *im)
{
    for (size_t i = 1; i < im->nodes.n;
         i++) { /* parents get their final place before their children are compared */
        size_t least = i;

        for (size_t k = i + 1; k < im->nodes.n; k++) {
            const struct node *a = &im->nodes.p[k], *b = &im->nodes.p[least];

            if (a->depth != b->depth     ? a->depth < b->depth
                : a->parent != b->parent ? a->parent < b->parent
                                         : strcmp(a->name, b->name) < 0)
                least = k;
        }
        if (least == i)
            continue;
        struct node t = im->nodes.p[i];
        im->nodes.p[i] = im->nodes.p[least];
        im->nodes.p[least] = t;
        for (size_t k = i; k < im->nodes.n; k++) {
            size_t *p = &im->nodes.p[k].parent;

            *p = *p == i ? least : *p == least ? i : *p;
        }
    }
    unsigned folders = 0;
    for (size_t i = 0; i < im->nodes.n; i++) {
        im->nodes.p[i].number = (unsigned)i;
        if (im->nodes.p[i].is_dir)
            im->nodes.p[i].path_index = ++folders;
    }
}

/* ---- folder records ---- */

static void identifier(struct buf *b, const struct node *n, enum kind kind)
{
    if (kind == JOLIET) {
        for (const char *p = n->name; *p; p++)
            be(b, 2, (unsigned char)*p);
    } else {
        buf_addf(b, n->is_dir ? "D%05u" : "F%05u.;1", n->number);
    }
}

static void rock_ridge(struct buf *b, const struct node *n, bool root_self, const char *name)
{
    if (root_self)
        buf_add(b, "SP\x07\x01\xbe\xef\x00", 7);
    buf_add(b, "PX\x24\x01", 4);
    both(b, 4, n->is_dir ? S_IFDIR | 0555 : S_IFREG | 0444);
    both(b, 4, 1);
    both(b, 4, 0);
    both(b, 4, 0);
    if (root_self)
        buf_add(b, "ER\x12\x01\x0a\x00\x00\x01RRIP_1991A", 18);
    if (name) {
        buf_add(b, "NM", 2);
        buf_addc(b, (char)(unsigned char)(5 + strlen(name)));
        buf_add(b, "\x01\x00", 2);
        buf_adds(b, name);
    }
}

/* self: 0 → ".", 1 → "..", −1: by its name */
static void record(struct buf *b, const struct node *n, enum kind kind, int self, bool root_self)
{
    AUTO(buf_done) struct buf id = {0};
    AUTO(buf_done) struct buf r = {0};

    if (self >= 0)
        buf_addc(&id, (char)self);
    else
        identifier(&id, n, kind);
    buf_addc(&r, 0); /* length, below */
    buf_addc(&r, 0);
    both(&r, 4, n->sector[kind]);
    both(&r, 4, n->bytes[kind]);
    buf_add(&r, "\x46\x01\x01\x00\x00\x00\x00", 7); /* 1970-01-01: equal input, equal image */
    buf_addc(&r, n->is_dir ? 2 : 0);
    buf_add(&r, "\0\0", 2);
    both(&r, 2, 1);
    buf_addc(&r, (char)(unsigned char)id.n);
    buf_add(&r, id.p, id.n);
    if (r.n % 2)
        buf_addc(&r, 0);
    if (kind == PRIMARY)
        rock_ridge(&r, n, root_self, self < 0 ? n->name : NULL);
    if (r.n % 2)
        buf_addc(&r, 0);
    r.p[0] = (char)(unsigned char)r.n;
    if (b->n / SECTOR != (b->n + r.n - 1) / SECTOR) /* a record never crosses a sector's end */
        pad_sector(b);
    buf_add(b, r.p, r.n);
}

static void folder(struct buf *b, const struct image *im, size_t at, enum kind kind)
{
    const struct node *n = &im->nodes.p[at];

    record(b, n, kind, 0, at == 0);
    record(b, &im->nodes.p[n->parent], kind, 1, false);
    for (size_t i = 1; i < im->nodes.n; i++)
        if (im->nodes.p[i].parent == at)
            record(b, &im->nodes.p[i], kind, -1, false);
    pad_sector(b);
}

static void path_table(struct buf *b, const struct image *im, enum kind kind, bool big)
{
    void (*number)(struct buf *, size_t, uint32_t) = big ? be : le;

    for (size_t i = 0; i < im->nodes.n; i++) {
        const struct node *n = &im->nodes.p[i];
        AUTO(buf_done) struct buf id = {0};

        if (!n->is_dir)
            continue;
        if (i == 0)
            buf_addc(&id, 0);
        else
            identifier(&id, n, kind);
        buf_addc(b, (char)(unsigned char)id.n);
        buf_addc(b, 0);
        number(b, 4, n->sector[kind]);
        number(b, 2, im->nodes.p[n->parent].path_index);
        buf_add(b, id.p, id.n);
        if (id.n % 2)
            buf_addc(b, 0);
    }
}

/* ---- descriptors ---- */

static void text(struct buf *b, enum kind kind, size_t width, const char *s)
{
    size_t end = b->n + width, n = s ? strlen(s) : 0;

    for (size_t i = 0; i < n && b->n + (kind == JOLIET) < end; i++) {
        if (kind == JOLIET)
            be(b, 2, (unsigned char)s[i]);
        else
            buf_addc(b, s[i]);
    }
    while (b->n < end) {
        if (kind == JOLIET && end - b->n > 1)
            be(b, 2, ' ');
        else
            buf_addc(b, kind == JOLIET ? 0 : ' ');
    }
}

static void descriptor(struct buf *b, const struct image *im, enum kind kind, const char *label,
                       uint32_t total, uint32_t table_bytes, uint32_t table_le, uint32_t table_be)
{
    buf_addc(b, kind == JOLIET ? 2 : 1);
    buf_add(b, "CD001\x01", 6);
    buf_addc(b, 0);
    text(b, kind, 32, NULL); /* system */
    text(b, kind, 32, label);
    fill(b, 8, 0);
    both(b, 4, total);
    if (kind == JOLIET)
        buf_add(b, "%/E", 3); /* UCS-2 level 3 */
    fill(b, kind == JOLIET ? 29 : 32, 0);
    both(b, 2, 1);
    both(b, 2, 1);
    both(b, 2, SECTOR);
    both(b, 4, table_bytes);
    le(b, 4, table_le);
    le(b, 4, 0);
    be(b, 4, table_be);
    be(b, 4, 0);
    record(b, &im->nodes.p[0], JOLIET, 0, false); /* in a descriptor without Rock Ridge entries … */
    size_t at = b->n - 34;
    AUTO(buf_done) struct buf place = {0};
    both(&place, 4, im->nodes.p[0].sector[kind]); /* … but with the place of this tree's root */
    both(&place, 4, im->nodes.p[0].bytes[kind]);
    if (!b->overflow)
        memcpy(b->p + at + 2, place.p, 16);
    text(b, kind, 128, NULL); /* volume set, publisher, preparer, application */
    text(b, kind, 128, NULL);
    text(b, kind, 128, NULL);
    text(b, kind, 128, NULL);
    text(b, kind, 37, NULL); /* copyright, abstract, bibliography */
    text(b, kind, 37, NULL);
    text(b, kind, 37, NULL);
    for (int i = 0; i < 4; i++) { /* dates: not given */
        fill(b, 16, '0');
        buf_addc(b, 0);
    }
    buf_addc(b, 1);
    pad_sector(b);
}

/* Gives every folder and file its sectors; returns the first free one. */
static uint32_t place(struct image *im, uint32_t at)
{
    for (int kind = PRIMARY; kind <= JOLIET; kind++) {
        for (size_t i = 0; i < im->nodes.n; i++) {
            AUTO(buf_done) struct buf b = {0};

            if (!im->nodes.p[i].is_dir)
                continue;
            folder(&b, im, i, (enum kind)kind);
            im->nodes.p[i].sector[kind] = at;
            im->nodes.p[i].bytes[kind] = (uint32_t)b.n;
            at += sectors(b.n);
        }
    }
    for (size_t i = 0; i < im->nodes.n; i++) {
        struct node *n = &im->nodes.p[i];

        if (n->is_dir)
            continue;
        n->sector[PRIMARY] = n->sector[JOLIET] = n->data.n ? at : 0;
        n->bytes[PRIMARY] = n->bytes[JOLIET] = (uint32_t)n->data.n;
        at += sectors(n->data.n);
    }
    return at;
}

static void write_image(struct image *im, const char *label)
{
    uint32_t bytes[2], table[4], at = 19;
    struct buf *b = &im->out;

    for (int kind = PRIMARY; kind <= JOLIET; kind++) {
        AUTO(buf_done) struct buf t = {0};

        path_table(&t, im, (enum kind)kind, false);
        bytes[kind] = (uint32_t)t.n;
        table[2 * kind] = at;
        table[2 * kind + 1] = at + sectors(t.n);
        at += 2 * sectors(t.n);
    }
    uint32_t total = place(im, at);
    fill(b, 16 * SECTOR, 0);
    descriptor(b, im, PRIMARY, label, total, bytes[PRIMARY], table[0], table[1]);
    descriptor(b, im, JOLIET, label, total, bytes[JOLIET], table[2], table[3]);
    buf_add(b,
            "\xff"
            "CD001\x01",
            7);
    pad_sector(b);
    for (int i = 0; i < 4; i++) {
        path_table(b, im, (enum kind)(i / 2), i % 2 == 1);
        pad_sector(b);
    }
    for (int kind = PRIMARY; kind <= JOLIET; kind++)
        for (size_t i = 0; i < im->nodes.n; i++)
            if (im->nodes.p[i].is_dir)
                folder(b, im, i, (enum kind)kind);
    for (size_t i = 0; i < im->nodes.n; i++) {
        if (!im->nodes.p[i].is_dir) {
            buf_addstr(b, im->nodes.p[i].data);
            pad_sector(b);
        }
    }
}

bool iso_write(int fd, const char *label, const struct iso_file *files, size_t n, struct error *err)
{
    AUTO(image_done) struct image im = {0};
    uint64_t total = 0;

    if (n > ISO_MAX_FILES)
        return error_set(err, ERROR_TOO_LARGE, "more than %d files for an ISO image",
                         ISO_MAX_FILES);
    vec_push(&im.nodes, (struct node){.name = xstrdup(""), .is_dir = true});
    for (size_t i = 0; i < n; i++) {
        total += files[i].data.n;
        if (!add(&im, &files[i], err))
            return false;
    }
    if (total > ISO_MAX_BYTES)
        return error_set(err, ERROR_TOO_LARGE, "more than %u MiB for an ISO image",
                         ISO_MAX_BYTES >> 20);
    sort(&im);
    buf_init(&im.out, ISO_MAX_BYTES * 2 + (16u << 20));
    write_image(&im, label);
    return buf_ok(&im.out, "ISO image", err) && file_write_all(fd, buf_str(&im.out), err);
}
