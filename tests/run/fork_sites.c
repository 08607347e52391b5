/* SPDX-License-Identifier: MIT */
/*
 * fork_sites.c - a child goes on from its parent's sites; from the fork on each has its
 * own, though both were the same records. (What the parent did until the child had its
 * copy may be in the child's totals; no site is charged with it.)
 *
 * plain: no
 * let: before = ('take_one', 'before', 'main')
 * let: in_parent = ('take_one', 'in_parent', 'main')
 * let: in_child = ('take_one', 'in_child', 'main')
 * let: in_grandchild = ('take_one', 'in_grandchild', 'in_child', 'main')
 * let: taken = [{before: 101, in_parent: 53}, {before: 101, in_child: 31},
 *         {before: 101, in_child: 31, in_grandchild: 37}]
 * let: left = [{before: 101, in_parent: 53}, {before: 60, in_child: 31},
 *         {before: 39, in_child: 31, in_grandchild: 37}]
 * let: family = [last] + sorted(children, key=lambda r: r.totals.allocations)
 * case: exact
 * options: sample=all
 * expect: [stacks(r) for r in family] == taken
 * expect: [stacks(r, figure='live_blocks') for r in family] == left
 * case: sampled
 * options: sample=1
 * expect: [stacks(r, figure='live_blocks') for r in family] == left
 * expect: last.sampling.samples == sum(site.samples for site in last.sites)
 */
#include "scene.h"

#include <sys/wait.h>

enum { BEFORE = 101, IN_PARENT = 53, IN_CHILD = 31, IN_GRANDCHILD = 37 };
enum { CHILD_FREES = 41, GRANDCHILD_FREES = 21 };

static void *kept[BEFORE], *more;

SITE static void *take_one(void)
{
    void *p = malloc(48);
    STAYS(p);
    return p;
}

SITE static void before(void)
{
    for (unsigned i = 0; i < BEFORE; i++) kept[i] = take_one();
}

SITE static void in_parent(void)
{
    for (unsigned i = 0; i < IN_PARENT; i++) more = take_one();
}

SITE static void in_grandchild(void)
{
    for (unsigned i = 0; i < IN_GRANDCHILD; i++) more = take_one();
    for (unsigned i = 0; i < GRANDCHILD_FREES; i++) free(kept[CHILD_FREES + i]);
}

static void wait_for(pid_t child)
{
    int status;
    MUST(waitpid(child, &status, 0) == child && status == 0);
}

SITE static void in_child(void)
{
    for (unsigned i = 0; i < CHILD_FREES; i++) free(kept[i]);
    for (unsigned i = 0; i < IN_CHILD; i++) more = take_one();
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0)
        in_grandchild();
    else
        wait_for(child);
    STAYS(more);
}

int main(void)
{
    before();
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0) {
        in_child();
    } else {
        in_parent();
        wait_for(child);
    }
    return 0;
}
