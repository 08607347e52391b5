/* SPDX-License-Identifier: MIT */
/*
 * mallinfo_live.c - mallinfo2().uordblks is the live bytes of the account.
 *
 * expect: said.before == first.totals.live_bytes
 * expect: said.after == dumps[1].totals.live_bytes
 * expect: said.old == said.after
 * expect: said.after - said.before == said.held
 * expect: said.arena >= said.after
 */
#include "scene.h"

int main(void)
{
    static void *block[997];
    number held = 0;
    dump_now();
    say("before", mallinfo2().uordblks);
    for (unsigned i = 0; i < 997; i++) {
        block[i] = malloc(173 + i);
        held += malloc_usable_size(block[i]);
    }
    say("after", mallinfo2().uordblks);
    struct mallinfo2 info = mallinfo2();
    say("arena", info.arena + info.hblkhd);
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    struct mallinfo old = mallinfo();
    say("old", (number)old.uordblks);
    say("held", held);
    dump_now();
    for (unsigned i = 0; i < 997; i++) free(block[i]);
    return 0;
}
