/* SPDX-License-Identifier: MIT */
/*
 * trim.c - after malloc_trim(0) the freed memory is the kernel's again.
 *
 * 64 MB in blocks of every kind; what remains resident must be a small part.
 *
 * expect: said.full >= 60000
 * expect: said.trimmed <= 12000
 * expect: delta.totals.live_blocks == 0
 * case: kept
 * options: purge=off
 * case: default
 */
#include "scene.h"

#include <fcntl.h>

static number resident_kb(void)
{
    char text[128] = "";
    int fd = open("/proc/self/statm", O_RDONLY);
    MUST(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
    close(fd);
    return strtoull(strchr(text, ' '), NULL, 10) * (number)sysconf(_SC_PAGESIZE) / 1024;
}

int main(void)
{
    static char *small[100003], *middle[1511];
    char *large[16];
    dump_now();
    number start = resident_kb();
    for (unsigned i = 0; i < 100003; i++) MUST((small[i] = calloc(1, 170)));
    for (unsigned i = 0; i < 1511; i++) memset((middle[i] = malloc(20011)), 1, 20011);
    for (unsigned i = 0; i < 16; i++) memset((large[i] = malloc(1000003)), 1, 1000003);
    for (unsigned i = 0; i < 100003; i++) memset(small[i], 1, 170);
    say("full", resident_kb() - start);
    for (unsigned i = 0; i < 100003; i++) free(small[i]);
    for (unsigned i = 0; i < 1511; i++) free(middle[i]);
    for (unsigned i = 0; i < 16; i++) free(large[i]);
    malloc_trim(0);
    number now = resident_kb();
    say("trimmed", now > start ? now - start : 0);
    dump_now();
    return 0;
}
