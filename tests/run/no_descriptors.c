/* SPDX-License-Identifier: MIT */
/*
 * no_descriptors.c - no descriptor is left when dumps are due: one line, no harm.
 *
 * status: 6
 * stderr: ^tidepool: cannot write [^\n]+\n$
 * expect: files == []
 */
#include "scene.h"

#include <sys/resource.h>

int main(void)
{
    struct rlimit limit = { 3, 3 };
    MUST(!setrlimit(RLIMIT_NOFILE, &limit));
    dump_now();
    dump_now();
    for (size_t i = 0; i < 997; i++) free(malloc(i * 173));
    return 6;
}
