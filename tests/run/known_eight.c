/* SPDX-License-Identifier: MIT */
/*
 * known_eight.c - eight threads, each frees what its neighbour allocated.
 *
 * Thread i allocates 499 + i blocks of 173 + 2i and 101 of 4567 bytes and one of
 * 200003; all hold everything for a moment (the peak), then each frees the next
 * one's small blocks. Between the dumps the threads only stand at barriers. The peak's
 * bounds are twice the flush limits apart, 16 KiB a thread and 64 KiB for the first.
 *
 * expect: delta.totals.allocations == sum(499 + i for i in range(8)) + 8 * 102
 * expect: delta.totals.requested_bytes == sum((499 + i) * (173 + 2 * i)
 *         for i in range(8)) + 8 * (101 * 4567 + 200003)
 * expect: delta.totals.frees == sum(499 + i for i in range(8))
 * expect: delta.large.allocations == 8
 * expect: matches(delta, said)
 * expect: threads_match(delta, said, 'allocations', 'thread_allocations')
 * expect: threads_match(delta, said, 'frees', 'thread_frees')
 * expect: threads_match(delta, said, 'remote_frees', 'thread_frees')
 * expect: threads_match(delta, said, 'allocated_bytes', 'thread_bytes')
 * expect: threads_match(last, said, 'allocations', 'thread_allocations')
 * expect: threads_match(last, said, 'frees', 'thread_all_frees')
 * expect: sum(1 for r in dumps[1].threads if r.running) == 9
 * expect: sum(1 for r in last.threads if r.running) == 1
 * expect: last.totals.peak_bytes_low <= first.totals.live_bytes + said.peak_bytes
 * expect: last.totals.peak_bytes_high >= first.totals.live_bytes + said.peak_bytes
 * expect: last.totals.peak_bytes_high - last.totals.peak_bytes_low
 *         <= 2 * (8 * 16384 + 65536)
 */
#include "scene.h"

#include <pthread.h>

enum { THREADS = 8, SMALL = 499, MIDDLE = 101 };

static pthread_barrier_t barrier;
static struct book books[THREADS];
static pid_t tids[THREADS];
static void *blocks[THREADS][SMALL + THREADS];
static void *keep[THREADS][MIDDLE + 1];

static void *work(void *argument)
{
    unsigned i = *(unsigned *)argument, next = (i + 1) % THREADS;
    tids[i] = gettid();
    pthread_barrier_wait(&barrier);  // first dump
    pthread_barrier_wait(&barrier);
    for (unsigned n = 0; n < SMALL + i; n++)
        blocks[i][n] = take(&books[i], 173 + 2 * i);
    for (unsigned n = 0; n < MIDDLE; n++) keep[i][n] = take(&books[i], 4567);
    keep[i][MIDDLE] = take(&books[i], 200003);
    pthread_barrier_wait(&barrier);  // all live: the peak
    for (unsigned n = 0; n < SMALL + next; n++) give(&books[i], blocks[next][n]);
    pthread_barrier_wait(&barrier);  // second dump
    pthread_barrier_wait(&barrier);
    return NULL;
}

int main(void)
{
    static struct book all;
    pthread_t threads[THREADS];
    unsigned numbers[THREADS];
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (unsigned i = 0; i < THREADS; i++) {
        numbers[i] = i;
        MUST(!pthread_create(&threads[i], NULL, work, &numbers[i]));
    }
    pthread_barrier_wait(&barrier);
    dump_now();
    for (unsigned i = 0; i < 3; i++) pthread_barrier_wait(&barrier);
    dump_now();
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < THREADS; i++) {
        book_add(&all, &books[i]);
        all.peak += books[i].allocated;
        say_of("thread_allocations", (number)tids[i], books[i].allocations);
        say_of("thread_frees", (number)tids[i], books[i].frees);
        say_of("thread_all_frees", (number)tids[i], books[i].frees);
        say_of("thread_bytes", (number)tids[i], books[i].allocated);
    }
    say_book(&all);
    return 0;
}
