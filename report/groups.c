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

static const uint32_t NOWHERE = UINT32_MAX;  // no group, or none that is shown

/* A stack on its way to its group. */
struct member {
    uint32_t site;  // its index
    uint32_t name;
    uint32_t line;
};

static int by_place(const void *a, const void *b)
{
    const struct member *left = a;
    const struct member *right = b;
    if (left->name != right->name) return left->name < right->name ? -1 : 1;
    if (left->line != right->line) return left->line < right->line ? -1 : 1;
    return left->site < right->site ? -1 : left->site > right->site;
}

/* The median of one stack's ages, and of how many samples it is. */
struct age {
    uint64_t ns;
    uint64_t samples;
};

static int by_median(const void *a, const void *b)
{
    const struct age *left = a;
    const struct age *right = b;
    return left->ns < right->ns ? -1 : left->ns > right->ns;
}

/* What is needed to put groups in order: less than a group to be moved about. */
struct ranked {
    int64_t value;
    uint32_t index;
};

static int by_value(const void *a, const void *b)
{
    const struct ranked *left = a;
    const struct ranked *right = b;
    if (left->value != right->value) return left->value > right->value ? -1 : 1;
    return left->index < right->index ? -1 : left->index > right->index;
}

/* Half of the live samples are of stacks whose median is no higher. */
static uint64_t find_median(struct age *ages, size_t n, uint64_t live_samples)
{
    uint64_t seen = 0;
    uint64_t median = 0;
    if (n > 1) qsort(ages, n, sizeof(ages[0]), by_median);
    for (size_t i = 0; i < n && seen <= live_samples / 2; i++) {
        seen += ages[i].samples;
        median = ages[i].ns;
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
        if (site->kind != TP_SITE_STACK) continue;
        out->n_stacks++;
        tp_sum_add(&out->named, tp_site_figure(site, out->figure));
        if (!tp_stacks_wants(stacks, site)) continue;
        const struct tp_place *place = tp_stacks_first(stacks, site);
        if (!place) continue;
        tp_sum_add(&out->sum, tp_site_figure(site, out->figure));
        out->samples += site->samples;
        members[n++] = (struct member){ (uint32_t)i, place->name,
            apart ? (uint32_t)i : place->line };
    }
    out->n_wanted = n;
    return n;
}

static bool is_ordered(const struct member *members, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (members[i].line < members[i - 1].line) return false;
    return true;
}

/*
 * Puts the members in order of names, lines and indexes: there are as few names as the
 * program has functions, so they are counted. NULL: without memory.
 */
static struct member *sort_members(const struct member *members, size_t n)
{
    uint32_t names = 0;
    for (size_t i = 0; i < n; i++)
        if (members[i].name >= names) names = members[i].name + 1;
    struct member *sorted = malloc((n + 1) * sizeof(sorted[0]));
    size_t *begin = calloc((size_t)names + 1, sizeof(begin[0]));
    if (sorted && begin) {
        for (size_t i = 0; i < n; i++) begin[members[i].name + 1]++;
        for (uint32_t i = 0; i < names; i++) begin[i + 1] += begin[i];
        for (size_t i = 0; i < n; i++) sorted[begin[members[i].name]++] = members[i];
        for (size_t i = 0, end; i < n; i = end) {
            end = begin[sorted[i].name];
            if (!is_ordered(sorted + i, end - i))
                qsort(sorted + i, end - i, sizeof(sorted[0]), by_place);
        }
    }
    bool good = sorted && begin;
    free(begin);
    if (good) return sorted;
    free(sorted);
    return NULL;
}

/* Numbers the groups of sorted members; returns how many there are. */
static size_t number_groups(uint32_t *group_of, const struct member *members, size_t n)
{
    size_t n_groups = 0;
    for (size_t i = 0; i < n; i++) {
        n_groups += i == 0 || members[i].name != members[i - 1].name ||
            members[i].line != members[i - 1].line;
        group_of[members[i].site] = (uint32_t)n_groups - 1;
    }
    return n_groups;
}

/* The medians of all groups, from the ages of their stacks, put in order of groups. */
static bool find_medians(struct tp_groups *out, const struct tp_sites *sites,
    const uint32_t *place_of, size_t n_sites)
{
    size_t *begin = calloc(out->n_groups + 1, sizeof(begin[0]));
    struct age *ages = malloc((n_sites + 1) * sizeof(ages[0]));
    bool good = begin && ages;
    for (size_t i = 0; good && i < n_sites; i++)
        if (place_of[i] != NOWHERE && sites->sites[i].live_samples)
            begin[place_of[i] + 1]++;
    for (size_t i = 0; good && i < out->n_groups; i++) begin[i + 1] += begin[i];
    for (size_t i = 0; good && i < n_sites; i++) {
        const struct tp_site *site = &sites->sites[i];
        if (place_of[i] == NOWHERE || !site->live_samples) continue;
        ages[begin[place_of[i]]++] =
            (struct age){ site->age_ns_median, site->live_samples };
    }
    // Each group's ages now end where they began.
    for (size_t i = 0, first = 0; good && i < out->n_groups; first = begin[i++])
        if (out->groups[i].live_samples)
            out->groups[i].age_ns_median = find_median(
                ages + first, begin[i] - first, out->groups[i].live_samples);
    free(begin);
    free(ages);
    return good;
}

/*
 * Makes the groups, heaviest first, and leaves out those of nothing. Sites are many and
 * large, so they are gone through in their order, and not group by group.
 */
static bool put_together(struct tp_groups *out, const struct tp_sites *sites,
    const struct member *members, size_t n)
{
    size_t n_sites = sites->n_sites;
    uint32_t *place_of = malloc((n_sites + 1) * sizeof(place_of[0]));
    if (!place_of) return false;
    for (size_t i = 0; i < n_sites; i++) place_of[i] = NOWHERE;
    size_t room = number_groups(place_of, members, n);
    struct ranked *ranked = calloc(room + 1, sizeof(ranked[0]));
    uint32_t *rank_of = malloc((room + 1) * sizeof(rank_of[0]));
    bool good = ranked && rank_of;
    for (size_t i = 0; good && i < room; i++) ranked[i].index = (uint32_t)i;
    for (size_t i = 0; good && i < n_sites; i++) {
        if (place_of[i] == NOWHERE) continue;
        struct tp_sum sum = { .value = ranked[place_of[i]].value };
        tp_sum_add(&sum, tp_site_figure(&sites->sites[i], out->figure));
        ranked[place_of[i]].value = sum.value;
    }
    if (good && room) qsort(ranked, room, sizeof(ranked[0]), by_value);
    for (size_t i = 0; good && i < room; i++) {
        bool any = ranked[i].value > 0;
        rank_of[ranked[i].index] = any ? (uint32_t)i : NOWHERE;
        out->n_groups += any;
    }
    out->groups = calloc(out->n_groups + 1, sizeof(out->groups[0]));
    good = good && out->groups;
    for (size_t i = 0; good && i < n_sites; i++) {
        if (place_of[i] != NOWHERE) place_of[i] = rank_of[place_of[i]];
        if (place_of[i] != NOWHERE)
            add_member(&out->groups[place_of[i]], &sites->sites[i], out->figure);
    }
    good = good && find_medians(out, sites, place_of, n_sites);
    free(place_of);
    free(ranked);
    free(rank_of);
    return good;
}

bool tp_groups_build(struct tp_groups *out, const struct tp_sites *sites,
    struct tp_stacks *stacks, const struct tp_view *view, enum tp_figure figure)
{
    memset(out, 0, sizeof(*out));
    out->figure = figure;
    out->total = tp_sites_total(sites, figure);
    struct member *members = malloc((sites->n_sites + 1) * sizeof(members[0]));
    if (!members) return false;
    size_t n = find_members(members, out, sites, stacks, view->full);
    struct member *sorted = sort_members(members, n);
    free(members);
    bool good = sorted && put_together(out, sites, sorted, n);
    free(sorted);
    if (!good) tp_groups_fini(out);
    return good;
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
