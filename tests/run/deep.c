/* SPDX-License-Identifier: MIT */
/*
 * deep.c - ten thousand frames, on the main thread and on another, and blocks all over
 * them: what is deeper than `depth` is cut and says so, what is not is whole.
 *
 * plain: no
 * case: default
 * options: sample=all
 * expect: stacks(last) == {('take_one',) + ('down',) * 63: said.deep,
 *         ('take_one',) + ('down',) * 20 + ('main',): 17}
 * expect: last.sampling.stacks_truncated == said.deep
 * expect: last.sampling.stacks_failed == 0
 * case: deepest
 * options: sample=all,depth=256
 * expect: stacks(last)[('take_one',) + ('down',) * 255] >= said.deep - 20
 * expect: stacks(last)[('take_one',) + ('down',) * 20 + ('main',)] == 17
 * expect: sum(stacks(last).values()) == said.deep + 17
 * expect: last.sampling.stacks_failed == 0
 * case: shallow
 * options: sample=all,depth=1
 * expect: stacks(last) == {('take_one',): said.deep + 17}
 * case: dwarf
 * options: sample=all,unwind=dwarf
 * expect: stacks(last)[('take_one',) + ('down',) * 63] == said.deep
 * case: sampled
 * options: sample=1
 * expect: set(stacks(last)) == {('take_one',) + ('down',) * 63,
 *         ('take_one',) + ('down',) * 20 + ('main',)}
 */
#include "scene.h"

#include <pthread.h>

enum { DEEP = 10000, EVERY = 100, CUT = 64 };

static number deep;
static void *kept;

SITE static void take_one(void)
{
    kept = malloc(48);
    STAYS(kept);
}

/* A block at the bottom; with `all` at every EVERY-th frame, both ways. */
SITE static void down(unsigned n, bool all)
{
    bool takes = n == 0 || (all && n % EVERY == 0 && n < DEEP - CUT);
    if (takes) take_one();
    if (n) down(n - 1, all);
    if (takes && all) {
        take_one();
        deep += 2;
    }
    STAYS(kept);
}

static void *in_thread(void *argument)
{
    down(DEEP, true);
    return argument;
}

int main(void)
{
    pthread_t thread;
    for (unsigned i = 0; i < 17; i++) down(19, false);
    for (unsigned i = 0; i < 3; i++) down(DEEP, true);
    MUST(!pthread_create(&thread, NULL, in_thread, NULL));
    MUST(!pthread_join(thread, NULL));
    say("deep", deep);
    return 0;
}
