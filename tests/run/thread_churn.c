/* SPDX-License-Identifier: MIT */
/*
 * thread_churn.c - 2000 short threads, four at a time: slots are used again.
 *
 * Each takes 101 blocks, frees 67 of them, and leaves 34 to the main thread.
 *
 * expect: delta.calls.malloc == 2000 * 101
 * expect: delta.calls.free >= 2000 * 101
 * expect: delta.totals.requested_bytes - said.created
 *         >= 2000 * (101 * 173 + 5050)
 * expect: said.resident_kb < 60000
 * expect: sum(1 for r in dumps[1].threads if r.running) == 1
 * expect: delta.totals.live_blocks <= 8
 */
#include "scene.h"

#include <pthread.h>

enum { THREADS = 2000, AT_ONCE = 4, EACH = 101, KEPT = 34 };

static void *left[AT_ONCE][KEPT];

static void *work(void *argument)
{
    void **mine = argument, *block[EACH];
    for (unsigned i = 0; i < EACH; i++) MUST((block[i] = malloc(173 + i)));
    for (unsigned i = 0; i < EACH; i++) {
        if (i < KEPT)
            mine[i] = block[i];
        else
            free(block[i]);
    }
    return NULL;
}

int main(void)
{
    pthread_t threads[AT_ONCE];
    dump_now();
    for (unsigned n = 0; n < THREADS / AT_ONCE; n++) {
        for (unsigned i = 0; i < AT_ONCE; i++)
            MUST(!pthread_create(&threads[i], NULL, work, left[i]));
        for (unsigned i = 0; i < AT_ONCE; i++) pthread_join(threads[i], NULL);
        for (unsigned i = 0; i < AT_ONCE; i++)
            for (unsigned k = 0; k < KEPT; k++) free(left[i][k]);
    }
    dump_now();
    say("created", 0);
    FILE *status = fopen("/proc/self/statm", "r");
    unsigned long size = 0, resident = 0;
    MUST(status && fscanf(status, "%lu %lu", &size, &resident) == 2);
    fclose(status);
    say("resident_kb", resident * (number)sysconf(_SC_PAGESIZE) / 1024);
    return 0;
}
