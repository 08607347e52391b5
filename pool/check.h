/* SPDX-License-Identifier: MIT */
/*
 * check.h - check=on: every misuse of a pool block that can be caught is caught.
 *
 * Idea: with checks on, every malloc and free takes the slow path. A side array, one
 * word for 16 bytes of the slabs' part of the range, says of every block start
 * whether it is with the program and how many bytes it asked for. The rest of the
 * block is filled with a known byte when it is handed out, all of it when it is
 * freed, and both are looked at again later.
 *
 * Dies with one line at the first misuse. Knows nothing of: heaps, counters.
 */
#ifndef TP_POOL_CHECK_H
#define TP_POOL_CHECK_H

#include "pool/base.h"

/* Maps the side array; false without memory. Needs: the range is open. */
bool tp_check_open(void);

bool tp_check_is_on(void);

/*
 * A block of `bytes` goes to the program, which asked for `size`, at `place` (host.h).
 * Context, also of the next three: not in a slow path, for what they may have to say.
 */
TP_COLD void tp_check_taken(void *p, size_t size, size_t bytes, uint32_t place);

/* A block that the program does not have was taken for another: was it written to? */
TP_COLD void tp_check_unused(const void *p, size_t bytes);

/* The program frees it. Safe against another thread that frees the same block. */
TP_COLD void tp_check_freed(void *p, size_t bytes, uint32_t place);

/*
 * The program frees, or resizes, what lies inside the block at `start`; `what` it does
 * is one word.
 */
_Noreturn TP_COLD void tp_check_inside(
    const char *what, const void *p, const void *start, size_t bytes, uint32_t place);

/* The memory at `start` will hold blocks of another size: forget the old ones. */
TP_COLD void tp_check_forget(const void *start, size_t bytes);

/* What the program asked for at `p`; 0 when no block begins there. */
TP_COLD size_t tp_check_asked(const void *p);

#endif
