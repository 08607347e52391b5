/* SPDX-License-Identifier: MIT */
/*
 * nearby.h - a few large blocks that were just freed, at hand for the next request.
 *
 * Idea: a program that frees a buffer and asks for one like it again pays huge.c's lock,
 * its search and its joining twice, for the same run. Here such a run waits a moment as
 * it is: no free run yet, no block any more. Threads have a line of LINES, by the number
 * of their heap; several may share one.
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
 * Holds always:
 *   - the descriptor of a run at hand says that nothing begins there, so that a second
 *     free of the block is noticed;
 *   - huge.c counts the run as in use: what lies idle there and what is at hand of one
 *     line make no more than was in use lately, or two megabytes above it;
 *   - a request that finds nothing puts its whole line back first: it never takes new
 *     pages while its own thread keeps old ones;
 *   - nothing stays for longer than from one tp_nearby_age() to the next but one.
 *
 * Knows nothing of: heaps, counters, who frees.
 */
#ifndef TP_POOL_NEARBY_H
#define TP_POOL_NEARBY_H

#include "pool/huge.h"

enum { TP_NEARBY_MOST = 18 * TP_GRANULE };  // bytes of a block; of a line, 2 MiB

/*
 * A block of `bytes`, as from tp_huge_alloc() without an alignment, and its content is
 * anything; NULL when none of about that size is at hand of `line` (any number).
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
