/* SPDX-License-Identifier: MIT */
/*
 * nearby.h - a few large blocks that were just freed, at hand for the next request.
 *
 * Idea: a program that frees a buffer and asks for one like it again pays huge.c's lock,
 * its search and its joining twice, for the same run. Here such a run waits a moment as
 * it is: no free run any more or yet. A thread has a line of four entries, by the number
 * of its heap, so that several may share one; and one entry, for a run of any size, is
 * everybody's.
 *
 * An entry is one word: the run's place, its granules and when it was put there. Who
 * changes the word from an entry to 0, by compare and exchange, has the run to himself,
 * and who changes it from 0 to an entry gives it away; that is all there is to argue:
 *   - no word is ever changed but by such an exchange, so a run is had by one thread;
 *   - what a thread wrote into the descriptor, or the program into the block, is released
 *     with the entry and acquired with the run;
 *   - an entry that went and came back in between (ABA) is the same run of the same size
 *     at hand again: who takes it is right to do so;
 *   - a signal handler, or a fork, falls before or after an exchange. A run that a thread
 *     had to itself when a fork left it behind is lost to the child, which is all.
 *
 * Why this costs no memory: huge.c counts a run at hand as in use, so what is idle there
 * and what is at hand make no more than was in use lately (or 2 MiB above what is). Who
 * finds nothing puts back his line, and the shared entry, before he asks huge.c: nobody
 * takes new pages while he keeps old ones. Only others may, for the 2 MiB of a line.
 *
 * Holds always:
 *   - the descriptor of a run at hand says that nothing begins there, so that a second
 *     free of the block is noticed;
 *   - nothing stays for longer than from one tp_nearby_age() to the next but one.
 *
 * Knows nothing of: heaps, counters, who frees.
 */
#ifndef TP_POOL_NEARBY_H
#define TP_POOL_NEARBY_H

#include "pool/huge.h"

enum { TP_NEARBY_LINE_MOST = 18 * TP_GRANULE };  // bytes of a block in a line

/*
 * A block of `bytes`, as from tp_huge_alloc() without an alignment, and its content
 * is anything; NULL when none of about that size is at hand of `line` (any number).
 * Needs: bytes >= TP_HUGE_MIN.
 */
struct tp_slab *tp_nearby_take(unsigned line, size_t bytes);

/* Keeps a huge block; false: it does not belong here, tp_huge_free() takes it. */
bool tp_nearby_keep(unsigned line, struct tp_slab *slab);

/* Frees what has been at hand since the last call but one. Returns the bytes. */
TP_COLD size_t tp_nearby_age(void);

/* Frees all that is at hand. Returns the bytes. */
TP_COLD size_t tp_nearby_empty(void);

#endif
