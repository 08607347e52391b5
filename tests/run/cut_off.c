/* SPDX-License-Identifier: MIT */
/*
 * cut_off.c - a daemon's habits: every descriptor closed, another folder, a umask.
 *
 * expect: [r.dump.reason for r in dumps] == ['signal', 'signal', 'exit']
 * expect: matches(delta, said)
 */
#include "scene.h"

#include <sys/stat.h>

int main(void)
{
    static struct book book;
    MUST(!chdir("/"));
    umask(077);
    closefrom(3);
    dump_now();
    for (size_t i = 0; i < 997; i++) give(&book, take(&book, i * 173 % 100003));
    closefrom(3);
    dump_now();
    say_book(&book);
    return 0;
}
