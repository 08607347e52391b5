/* SPDX-License-Identifier: MIT */
/*
 * cells.c - what the dump says of each site and size class, made safe to reckon with.
 */
#include "report/cells.h"

#include <stdlib.h>
#include <string.h>

static const double MOST_VARIANCE = 1e50;

/* What a file says may be anything; 0 for what is not a number. */
static double sane(double value, double most)
{
    if (!(value > 0)) return 0;
    return value < most ? value : most;
}

static bool exact_of(const struct tp_profile *profile)
{
    return profile->dump->sampling.mode == TP_SAMPLING_EXACT;
}

static double less(uint64_t taken, uint64_t freed)
{
    int64_t left = (int64_t)(taken - freed);
    return left > 0 ? (double)left : 0;
}

/*
 * A variance that was added and taken away may be nothing but a trace of rounding, or
 * not even that: then it follows from the mean weight.
 */
static double variance_of(double variance, double weights, double samples, double size)
{
    if (!(samples > 0)) return 0;
    double w = weights > samples ? weights / samples : 1;
    double from_mean = samples * w * (w - 1) * size * size;
    return variance > from_mean / 1e6 ? variance : from_mean;
}

static void read_sums(struct tp_sums *out, const struct tp_site_sums *plus,
    const struct tp_site_sums *minus, bool exact)
{
    out->samples = less(plus->samples, minus->samples);
    out->blocks = less(plus->blocks, minus->blocks) / TP_FORMAT_ONE;
    out->bytes = less(plus->bytes, minus->bytes);
    out->block_variance = out->byte_variance = 0;
    if (exact) return;
    double blocks = sane(plus->block_variance, MOST_VARIANCE) -
        sane(minus->block_variance, MOST_VARIANCE);
    double bytes = sane(plus->byte_variance, MOST_VARIANCE) -
        sane(minus->byte_variance, MOST_VARIANCE);
    bool chance = sane(plus->block_variance, MOST_VARIANCE) > 0;
    if (!chance) return;
    out->block_variance = variance_of(blocks, out->blocks, out->samples, 1);
    double size = out->blocks > 0 ? out->bytes / out->blocks : 0;
    out->byte_variance = variance_of(bytes, out->blocks, out->samples, size);
    out->block_variance = sane(out->block_variance, MOST_VARIANCE);
    out->byte_variance = sane(out->byte_variance, MOST_VARIANCE);
}

double tp_cells_size(const struct tp_profile *profile, uint32_t class)
{
    if (class == TP_FORMAT_LARGE) return 1;
    return (double)profile->classes[class].size_bytes;
}

bool tp_cells_peak_now(const struct tp_profile *profile)
{
    const struct tp_sampling_record *sampling = &profile->dump->sampling;
    int64_t live = profile->totals.live_bytes;
    return sampling->peak == 0 || (live > 0 && (uint64_t)live > sampling->peak_bytes);
}

static void read_peak(const struct tp_profile *profile, struct tp_cell *cell,
    const struct tp_site_record *record, bool now)
{
    struct tp_sums *peak = &cell->peak;
    *peak = cell->live;
    if (now || record->peak != profile->dump->sampling.peak) return;
    peak->blocks = less(record->peak_blocks, 0) / TP_FORMAT_ONE;
    peak->bytes = less(record->peak_bytes, 0);
    bool exact = exact_of(profile);
    peak->block_variance = exact ? 0 : sane(record->peak_block_variance, MOST_VARIANCE);
    peak->byte_variance = exact ? 0 : sane(record->peak_byte_variance, MOST_VARIANCE);
    peak->samples = -1;  // is not on record
}

static bool counts(
    const struct tp_profile *profile, const struct tp_site_record *record)
{
    bool known = record->class == TP_FORMAT_LARGE || record->class < profile->n_classes;
    return record->used == 1 && known && record->taken.samples > 0;
}

int64_t tp_cells_live_requested(const struct tp_site_record *record)
{
    uint64_t plus = record->taken.requested_bytes,
             minus = record->freed.requested_bytes;
    uint64_t live = plus > minus ? plus - minus : 0;
    return live < INT64_MAX ? (int64_t)live : INT64_MAX;
}

/* A record on its way to its place; few bytes, as they are sorted. */
struct key {
    uint32_t node;
    uint32_t class;
    size_t row;
};

static int by_site(const void *a, const void *b)
{
    const struct key *x = a, *y = b;
    if (x->node != y->node) return x->node < y->node ? -1 : 1;
    if (x->class != y->class) return x->class < y->class ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static void read_cell(
    struct tp_cell *cell, const struct key *key, const struct tp_profile *profile)
{
    static const struct tp_site_sums none;
    const struct tp_site_record *record = &profile->dump->sites[key->row];
    bool exact = exact_of(profile);
    memset(cell, 0, sizeof(*cell));
    cell->node = key->node;
    cell->class = key->class;
    cell->row = (uint32_t)key->row;
    cell->temporary = (double)record->temporary_blocks / TP_FORMAT_ONE;
    read_sums(&cell->taken, &record->taken, &none, exact);
    read_sums(&cell->live, &record->taken, &record->freed, exact);
    read_peak(profile, cell, record, tp_cells_peak_now(profile));
}

bool tp_cells_read(
    struct tp_cell **out_cells, size_t *out_n, const struct tp_profile *profile)
{
    const struct tp_dump *dump = profile->dump;
    struct key *keys = malloc((dump->n_sites + 1) * sizeof(keys[0]));
    size_t n = 0;
    bool ordered = true;
    *out_cells = NULL;
    if (!keys) return false;
    for (size_t i = 0; i < dump->n_sites; i++) {
        const struct tp_site_record *record = &dump->sites[i];
        if (!counts(profile, record)) continue;
        bool stack = record->node > 0 && record->node < dump->n_nodes;
        keys[n++] = (struct key){ stack ? record->node : UINT32_MAX, record->class, i };
        ordered = ordered && (n < 2 || by_site(&keys[n - 2], &keys[n - 1]) < 0);
    }
    if (!ordered) qsort(keys, n, sizeof(keys[0]), by_site);
    *out_cells = malloc((n + 1) * sizeof(**out_cells));
    for (size_t i = 0; *out_cells && i < n; i++)
        read_cell(&(*out_cells)[i], &keys[i], profile);
    free(keys);
    *out_n = n;
    return *out_cells != NULL;
}
