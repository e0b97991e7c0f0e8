#include "storage/qcow2.h"

#include <errno.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/file.h"

/* QEMU's docs/interop/qcow2.txt */
#define MAGIC 0x514649fbu
#define HEADER_V2 72
#define HEADER_V3 104
#define INCOMPAT_DATA (1ull << 2) /* external data file */
#define INCOMPAT_KNOWN 0x1full
#define CLUSTER_BITS 16
#define CLUSTER (1ull << CLUSTER_BITS)
#define L1_COVERS (CLUSTER * (CLUSTER / 8))

static uint64_t be(const char *p, size_t n)
{
    uint64_t v = 0;

    for (size_t i = 0; i < n; i++)
        v = v << 8 | (unsigned char)p[i];
    return v;
}

static void put(char *p, size_t n, uint64_t v)
{
    while (n > 0) {
        p[--n] = (char)(unsigned char)v;
        v >>= 8;
    }
}

static bool bad(struct error *err, const char *why)
{
    return error_set(err, ERROR_INVALID, "image refused: %s", why);
}

static bool probe_qcow2(struct str head, struct image_info *ret, struct error *err)
{
    uint64_t version, bits, size, l1, incompatible = 0;

    if (head.n < HEADER_V2)
        return bad(err, "its qcow2 header is cut off");
    version = be(head.p + 4, 4);
    bits = be(head.p + 20, 4);
    size = be(head.p + 24, 8);
    l1 = be(head.p + 36, 4);
    if (version != 2 && version != 3)
        return bad(err, "a qcow version that is neither 2 nor 3");
    if (be(head.p + 8, 8) != 0 || be(head.p + 16, 4) != 0)
        return bad(err, "it has a backing file");
    if (be(head.p + 32, 4) != 0)
        return bad(err, "it is encrypted");
    if (version == 3) {
        if (head.n < HEADER_V3)
            return bad(err, "its qcow2 header is cut off");
        incompatible = be(head.p + 72, 8);
    }
    if (incompatible & INCOMPAT_DATA)
        return bad(err, "its data lie in another file");
    if (incompatible & ~INCOMPAT_KNOWN)
        return bad(err, "it needs features that are not known here");
    if (bits < 9 || bits > 21)
        return bad(err, "its cluster size is out of range");
    if (size > QCOW2_MAX_SIZE)
        return bad(err, "its virtual size is absurd");
    if (l1 > (32u << 20) / 8)
        return bad(err, "its first-level table is too large");
    *ret = (struct image_info){"qcow2", size};
    return true;
}

bool image_probe(struct str head, uint64_t file_size, struct image_info *ret, struct error *err)
{
    static const struct {
        struct str magic;
        const char *name;
    } others[] = {
        {STR_INIT("KDMV"), "VMDK"},
        {STR_INIT("COWD"), "VMDK"},
        {STR_INIT("# Disk Descriptor"), "VMDK"},
        {STR_INIT("vhdxfile"), "VHDX"},
        {STR_INIT("conectix"), "VHD"},
        {STR_INIT("QED\0"), "QED"},
        {STR_INIT("\x1f\x8b"), "gzip"},
        {STR_INIT("\xfd"
                  "7zXZ"),
         "xz"},
        {STR_INIT("\x28\xb5\x2f\xfd"), "zstd"},
    };

    if (head.n >= 4 && be(head.p, 4) == MAGIC)
        return probe_qcow2(head, ret, err);
    for (size_t i = 0; i < ARRAY_SIZE(others); i++)
        if (str_starts(head, others[i].magic))
            return error_set(err, ERROR_INVALID,
                             "image refused: it is in the format %s; raw and qcow2 are supported",
                             others[i].name);
    if (file_size == 0)
        return bad(err, "it is empty");
    *ret = (struct image_info){"raw", file_size};
    return true;
}

bool image_probe_fd(int fd, uint64_t file_size, struct image_info *ret, struct error *err)
{
    char head[QCOW2_HEAD];
    ssize_t n;

    do
        n = pread(fd, head, sizeof head, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return error_errno(err, errno, "read image");
    return image_probe(str_n(head, (size_t)n), file_size, ret, err);
}

static bool write_at(int fd, const char *p, size_t n, uint64_t at, struct error *err)
{
    while (n > 0) {
        ssize_t w = pwrite(fd, p, n, (off_t)at);

        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0)
            return error_errno(err, errno, "write image");
        p += w;
        n -= (size_t)w;
        at += (uint64_t)w;
    }
    return true;
}

/* Cluster 0: header. 1: refcount table. 2: first refcount block. 3…: first-level table. All else is a hole. */
bool qcow2_create(int fd, uint64_t virtual_size, struct error *err)
{
    char head[HEADER_V3 + 8] = {0}, table[8];
    AUTO_FREE char *counts = NULL;
    uint64_t entries, l1_clusters, clusters;

    virtual_size = (virtual_size + 511) & ~511ull;
    if (virtual_size == 0 || virtual_size > QCOW2_MAX_SIZE)
        return error_set(err, ERROR_INVALID, "an image cannot have %llu bytes",
                         (unsigned long long)virtual_size);
    entries = (virtual_size + L1_COVERS - 1) / L1_COVERS;
    l1_clusters = (entries * 8 + CLUSTER - 1) / CLUSTER;
    clusters = 3 + l1_clusters;
    put(head + 0, 4, MAGIC);
    put(head + 4, 4, 3);
    put(head + 20, 4, CLUSTER_BITS);
    put(head + 24, 8, virtual_size);
    put(head + 36, 4, entries);
    put(head + 40, 8, 3 * CLUSTER);
    put(head + 48, 8, 1 * CLUSTER);
    put(head + 56, 4, 1);
    put(head + 96, 4, 4); /* refcounts of 1 << 4 bits */
    put(head + 100, 4, HEADER_V3);
    put(table, 8, 2 * CLUSTER);
    counts = xcalloc(clusters, 2);
    for (uint64_t i = 0; i < clusters; i++)
        put(counts + 2 * i, 2, 1);
    if (ftruncate(fd, (off_t)(clusters * CLUSTER)) != 0)
        return error_errno(err, errno, "make image");
    return write_at(fd, table, sizeof table, 1 * CLUSTER, err)
           && write_at(fd, counts, clusters * 2, 2 * CLUSTER, err)
           && write_at(fd, head, sizeof head, 0, err);
}
