/* SPDX-License-Identifier: MIT */
/*
 * errno_kept.c - free keeps errno; success keeps it; failure sets ENOMEM.
 *
 * expect: delta.totals.live_blocks == 0
 */
#include "scene.h"

#include <sys/resource.h>

int main(void)
{
    static void *block[4099];
    dump_now();
    for (unsigned i = 0; i < 4099; i++) {  // passes through every slow path
        errno = 4321;
        block[i] = malloc(i * 67 % 200003);
        MUST(block[i] && errno == 4321);
    }
    for (unsigned i = 0; i < 4099; i += 2) {
        void *moved = realloc(block[i], 1 + i * 131 % 99991);
        MUST(moved && errno == 4321);
        block[i] = moved;
    }
    for (unsigned i = 0; i < 4099; i++) {
        errno = (int)i + 1;
        free(block[i]);
        MUST(errno == (int)i + 1);
    }
    errno = 0;
    free(NULL);
    MUST(errno == 0);

    struct rlimit limit;
    MUST(!getrlimit(RLIMIT_DATA, &limit));
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = (rlim_t)1 << 20;
    MUST(!setrlimit(RLIMIT_DATA, &limit));
    volatile size_t size = (size_t)1 << 32;
    errno = 0;
    MUST(!malloc(size) && errno == ENOMEM);
    errno = 0;
    MUST(!calloc(1, size) && errno == ENOMEM);
    errno = 0;
    MUST(!memalign(64, size) && errno == ENOMEM);
    limit.rlim_cur = before;
    MUST(!setrlimit(RLIMIT_DATA, &limit));
    void *again = malloc(1000003);  // and it works again after a failure
    MUST(again);
    free(again);
    dump_now();
    return 0;
}
