/* SPDX-License-Identifier: MIT */
/*
 * groups.c - stacks that ask for memory at one place are one row.
 *
 * A program of recursions has thousands of stacks that end in one line of the source.
 * What people look for is the line; how it was reached is told by its heaviest stack,
 * and in full by the trees.
 */
#include "report/frames.h"

#include <stdlib.h>
#include <string.h>

/* A stack on its way to its group. */
struct member {
    const struct tp_site *site;
    uint32_t name;
    uint32_t line;
    size_t index;
};

static int by_place(const void *a, const void *b)
{
    const struct member *left = a;
    const struct member *right = b;
    if (left->name != right->name) return left->name < right->name ? -1 : 1;
    if (left->line != right->line) return left->line < right->line ? -1 : 1;
    return left->index < right->index ? -1 : left->index > right->index;
}

static int by_median(const void *a, const void *b)
{
    const struct member *left = a;
    const struct member *right = b;
    uint64_t l = left->site->age_ns_median;
    uint64_t r = right->site->age_ns_median;
    return l < r ? -1 : l > r;
}

static int64_t value_of(const struct tp_group *group, enum tp_figure figure)
{
    return group->sums[figure].value;
}

/* The figure stands beside each group, since qsort takes no argument of ours. */
struct ranked {
    struct tp_group group;
    int64_t value;
    size_t index;
};

static int by_value(const void *a, const void *b)
{
    const struct ranked *left = a;
    const struct ranked *right = b;
    if (left->value != right->value) return left->value > right->value ? -1 : 1;
    return left->index < right->index ? -1 : left->index > right->index;
}

/* Half of the live samples are of stacks whose median is no higher. */
static uint64_t find_median(struct member *members, size_t n, uint64_t live_samples)
{
    uint64_t seen = 0;
    uint64_t median = 0;
    if (n > 1) qsort(members, n, sizeof(members[0]), by_median);
    for (size_t i = 0; i < n && seen <= live_samples / 2; i++) {
        if (!members[i].site->live_samples) continue;
        seen += members[i].site->live_samples;
        median = members[i].site->age_ns_median;
    }
    return median;
}

static void add_member(
    struct tp_group *group, const struct tp_site *site, enum tp_figure figure)
{
    int64_t value = tp_site_figure(site, figure)->value;
    for (int i = 0; i < TP_FIGURES; i++)
        tp_sum_add(&group->sums[i], tp_site_figure(site, (enum tp_figure)i));
    if (!group->heaviest || value > group->heaviest_value) {
        group->heaviest = site;
        group->heaviest_value = value;
    }
    group->n_stacks++;
    group->samples += site->samples;
    if (__builtin_add_overflow(
            group->live_blocks, site->live_blocks.value, &group->live_blocks))
        group->live_blocks = INT64_MAX;
    if (!site->live_samples) return;
    bool first = group->live_samples == 0;
    group->live_samples += site->live_samples;
    if (first || site->age_ns_least < group->age_ns_least)
        group->age_ns_least = site->age_ns_least;
    if (site->age_ns_most > group->age_ns_most) group->age_ns_most = site->age_ns_most;
}

/* Fills `members` with the stacks that are wanted and returns how many. */
static size_t find_members(struct member *members, struct tp_groups *out,
    const struct tp_sites *sites, struct tp_stacks *stacks, bool apart)
{
    size_t n = 0;
    for (size_t i = 0; i < sites->n_sites; i++) {
        const struct tp_site *site = &sites->sites[i];
        size_t n_steps = 0;
        if (site->kind != TP_SITE_STACK) continue;
        out->n_stacks++;
        tp_sum_add(&out->named, tp_site_figure(site, out->figure));
        if (!tp_stacks_wants(stacks, site)) continue;
        const struct tp_step *steps = tp_stacks_of(stacks, site, &n_steps);
        if (!n_steps) continue;
        tp_sum_add(&out->sum, tp_site_figure(site, out->figure));
        out->samples += site->samples;
        members[n++] = (struct member){ site, steps[0].place->name,
            apart ? (uint32_t)i : steps[0].place->line, i };
    }
    out->n_wanted = n;
    return n;
}

/* Puts members that follow each other into groups; returns how many have something. */
static size_t put_together(
    struct ranked *ranked, struct member *members, size_t n, enum tp_figure figure)
{
    size_t n_ranked = 0;
    for (size_t i = 0, end; i < n; i = end) {
        struct ranked *to = &ranked[n_ranked];
        memset(to, 0, sizeof(*to));
        for (end = i; end < n && members[end].name == members[i].name &&
             members[end].line == members[i].line;
             end++)
            add_member(&to->group, members[end].site, figure);
        to->value = value_of(&to->group, figure);
        if (to->value <= 0) continue;
        to->group.age_ns_median =
            find_median(members + i, end - i, to->group.live_samples);
        to->index = n_ranked++;
    }
    return n_ranked;
}

bool tp_groups_build(struct tp_groups *out, const struct tp_sites *sites,
    struct tp_stacks *stacks, const struct tp_view *view, enum tp_figure figure)
{
    memset(out, 0, sizeof(*out));
    out->figure = figure;
    out->total = tp_sites_total(sites, figure);
    struct member *members = calloc(sites->n_sites + 1, sizeof(members[0]));
    struct ranked *ranked = calloc(sites->n_sites + 1, sizeof(ranked[0]));
    if (members && ranked) {
        size_t n = find_members(members, out, sites, stacks, view->full);
        qsort(members, n, sizeof(members[0]), by_place);
        out->n_groups = put_together(ranked, members, n, figure);
        qsort(ranked, out->n_groups, sizeof(ranked[0]), by_value);
        out->groups = calloc(out->n_groups + 1, sizeof(out->groups[0]));
    }
    for (size_t i = 0; out->groups && i < out->n_groups; i++)
        out->groups[i] = ranked[i].group;
    free(members);
    free(ranked);
    return out->groups != NULL;
}

void tp_groups_fini(struct tp_groups *groups)
{
    free(groups->groups);
    memset(groups, 0, sizeof(*groups));
}

/*
 * Blocks that were added evenly and never freed have ages spread evenly over the run:
 * the oldest as old as most of it, half of them older than a third and younger than two
 * thirds, the youngest young. A working set made at the start has an old median, a cache
 * that is renewed a young oldest.
 */
bool tp_group_grows(const struct tp_group *group, uint64_t duration_ns)
{
    enum { ENOUGH = 8 };  // samples: fewer are spread so by chance
    return group->live_samples >= ENOUGH && duration_ns > 0 &&
        group->age_ns_most > duration_ns / 3 * 2 &&
        group->age_ns_least < duration_ns / 6 &&
        group->age_ns_median > duration_ns / 3 &&
        group->age_ns_median < duration_ns / 3 * 2;
}
