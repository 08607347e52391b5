/* SPDX-License-Identifier: MIT */
/*
 * fork_goes_on.c - a child begins with what its parent had at the fork, however busy the
 * parent is from then on: what it does until the child has its copy is its own.
 *
 * plain: no
 * let: born = [r.totals for r in children]
 * expect: len(born) == 24
 * expect: {t.live_blocks for t in born} == {last.totals.live_blocks}
 * expect: {t.live_bytes for t in born} == {last.totals.live_bytes}
 * expect: len({t.peak_bytes for t in born}) == 1
 * case: sampled
 * case: exact
 * options: sample=all
 * expect: len({sum(s.live_blocks for s in r.sites) for r in children}) == 1
 */
#include "scene.h"

#include <sys/wait.h>

enum { KEPT = 100, CHILDREN = 24, BUSY = 3000 };

static void *kept[KEPT];

/* Leaves nothing, but what is alive meanwhile differs from moment to moment. */
static void be_busy(void)
{
    static void *some[BUSY];
    for (unsigned i = 0; i < BUSY; i++) {
        some[i] = malloc(100);
        STAYS(some[i]);
    }
    for (unsigned i = 0; i < BUSY; i++) free(some[i]);
}

int main(void)
{
    for (unsigned i = 0; i < KEPT; i++) kept[i] = malloc(100);
    be_busy();  // the peak is over
    for (unsigned i = 0; i < CHILDREN; i++) {
        pid_t child = fork();
        MUST(child >= 0);
        if (child == 0) exit(0);
        for (unsigned j = 0; j < 5; j++) be_busy();
        int status;
        MUST(waitpid(child, &status, 0) == child && status == 0);
    }
    STAYS(kept[0]);
    return 0;
}
