/* vireo-fetch: one image, one process (image/fetch.c). A program of its own, since what speaks to registries and unpacks archives (libcurl, libarchive,
 * and thirty libraries behind them) has no business in any other process: it cost each role memory, and the containers of a cluster 19 MiB. */
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "image/image.h"

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("vireo-fetch %s\n", VIREO_VERSION);
        return 0;
    }
    if (argc != 1) {
        fputs("usage: vireo-fetch [--version]\nFetches one image. Started by `vireo serve`; not meant for people.\n", stderr);
        return 2;
    }
    if (getpriority(PRIO_PROCESS, 0) < 0)
        setpriority(PRIO_PROCESS, 0, 0); /* serve's own is not for long work */
    return image_fetch_main();
}
