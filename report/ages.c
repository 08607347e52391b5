/* SPDX-License-Identifier: MIT */
/*
 * ages.c - how long the live blocks of a site have been there.
 *
 * Idea: of the blocks of a site the samples are a few, and small blocks are sampled
 * more rarely: a sample counts in the median with its weight.
 *
 * Knows nothing of: estimates.
 */
#include "report/sites.h"

#include <math.h>
#include <stdlib.h>

struct age {
    uint32_t site;
    uint64_t ns;
    double weight;
};

static int by_site_and_age(const void *a, const void *b)
{
    const struct age *x = a, *y = b;
    if (x->site != y->site) return x->site < y->site ? -1 : 1;
    return x->ns < y->ns ? -1 : x->ns > y->ns;
}

static double weight_of(const struct tp_sample_record *sample, bool exact)
{
    if (exact || sample->interval_bytes <= 1 || sample->bytes == 0) return 1;
    return -1 / expm1(-(double)sample->bytes / (double)sample->interval_bytes);
}

/* A live file goes on being read after its header was written. */
static uint64_t age_of(
    const struct tp_sample_record *sample, const struct tp_dump *dump, double tick_ns)
{
    double ns = 0;
    if (dump->header.ticks > sample->born_ticks)
        ns = (double)(dump->header.ticks - sample->born_ticks) * tick_ns;
    else if (dump->running)
        ns = -(double)(sample->born_ticks - dump->header.ticks) * tick_ns;
    if (dump->running && dump->now_ns > dump->header.monotonic_ns)
        ns += (double)(dump->now_ns - dump->header.monotonic_ns);
    if (!(ns > 0)) return 0;
    return ns < 9e18 ? (uint64_t)(ns + 0.5) : (uint64_t)9e18;
}

/* The ages of one site, in order. */
static void settle(struct tp_site *site, const struct age *ages, size_t n)
{
    double whole = 0, sum = 0;
    for (size_t i = 0; i < n; i++) whole += ages[i].weight;
    size_t middle = 0;
    while (middle + 1 < n && (sum += ages[middle].weight) < whole / 2) middle++;
    site->live_samples = n;
    site->age_ns_least = ages[0].ns;
    site->age_ns_median = ages[middle].ns;
    site->age_ns_most = ages[n - 1].ns;
}

bool tp_ages_build(
    struct tp_sites *sites, const struct tp_dump *dump, const uint32_t *site_of_row)
{
    struct age *ages = calloc(dump->n_samples + 1, sizeof(*ages));
    if (!ages) return false;
    double tick_ns = tp_latency_tick_ns(dump);
    size_t n = 0;
    for (size_t i = 0; i < dump->n_samples; i++) {
        const struct tp_sample_record *sample = &dump->samples[i];
        if (sample->state != 1 || sample->site >= dump->n_sites) continue;
        uint32_t site = site_of_row[sample->site];
        if (site == UINT32_MAX) continue;
        ages[n++] = (struct age){
            .site = site,
            .ns = age_of(sample, dump, tick_ns),
            .weight = weight_of(sample, sites->mode == TP_SAMPLING_EXACT),
        };
    }
    if (n) qsort(ages, n, sizeof(*ages), by_site_and_age);
    for (size_t begin = 0, end; begin < n; begin = end) {
        end = begin;
        while (end < n && ages[end].site == ages[begin].site) end++;
        settle(&sites->sites[ages[begin].site], &ages[begin], end - begin);
    }
    free(ages);
    return true;
}
