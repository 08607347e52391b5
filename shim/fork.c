/* SPDX-License-Identifier: MIT */
/*
 * fork.c - one process becomes two.
 *
 * The heap is private memory, so a copy of it is always right; only the counters are
 * shared with the kernel's file and must change hands before the child counts. No
 * lock of ours is held across fork: with one, a thread inside stdio and another in
 * fork could wait for each other for ever. The private jemalloc takes its own.
 */
#include "shim/output.h"

#include "pool/pool.h"

#include <pthread.h>

static void child(void)
{
    tp_live_forked();
    tp_pool_forked();
    tp_dump_forked();
}

void tp_fork_open(void)
{
    pthread_atfork(tp_pool_before_fork, tp_pool_after_fork, child);
}
