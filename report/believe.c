/* SPDX-License-Identifier: MIT */
/*
 * believe.c - what the samples tell of each figure of each site.
 *
 * Idea: the samples of a site and of all sites are blended for each group of size classes
 * (blend.c); what is believed of the groups adds up to what is believed of the site. Values
 * play no part in it but where nothing was left to chance.
 *
 * Measured (tests/unit/report/test_mixtures.c, 1000 runs): 95 % intervals cover the truth in
 * 93-97.5 % of cases, adapted intervals included. The rows that do not, up to 99 % and of
 * classes without a sample 100 %, stand with their reasons in tests/unit/report/mixtures.c.
 * Tried and refused: beliefs of single classes (a site without a sample of a class looked
 * certain to have none); half a sample for each class (many classes of few samples: twice
 * the figure); the samples of each octave of weight on record (the sums of the file tell as
 * much: 90.9 % and 92.7 where they should have mattered most).
 *
 * Knows nothing of: how figures are brought to the exact counts.
 */
#include "report/believe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    GROWTH = 32,      // the interval grows to so many times what was asked for, at most
    KNOWN_BITS = 16,  // of the number of tallies that are remembered
};

static const double MOST_TOTAL = 9e18;
static const double NOISE = 2;  // see known_of_group()

/* ---- groups of classes --------------------------------------------------------------- */

enum {
    DENSE = 10,  // samples of a class that is judged alone
    SPARSE = 3,  // fewer are judged with the next class, dense or not
};

/*
 * Shares in a class of few samples say little, and nothing of a class without any. So
 * beliefs are of groups of neighbouring classes, each with DENSE (effective) samples,
 * where there are as many: one stratum, shared by the sums of its weights. Values are
 * those of the classes all the same, which lie about the same mean.
 */
static void group_classes(struct tp_build *build, bool live)
{
    double sum = 0, variance = 0;
    uint32_t group = 0, n = (uint32_t)build->profile->n_classes;
    for (uint32_t class = 0; class < n; class ++) {
        const struct tp_whole *whole =
            &build->whole[class][live ? LIVE_BLOCKS : ALLOCATIONS];
        double size = tp_cells_size(build->profile, class);
        bool dense = whole->sum * whole->sum >= DENSE * whole->variance;
        if (dense && whole->sum > 0 && sum * sum >= SPARSE * variance && sum > 0) {
            group++;
            sum = variance = 0;
        }
        build->group_of[live][class] = group;
        sum += whole->sum * size;
        variance += whole->variance * size * size;
        if (!(sum > 0) || sum * sum < DENSE * variance) continue;
        group++;
        sum = variance = 0;
    }
    // What is left over at the end belongs to the last whole group.
    for (uint32_t class = 0; class < n && sum * sum <= SPARSE * variance; class ++)
        if (group > 0 && build->group_of[live][class] == group)
            build->group_of[live][class] = group - 1;
}

static void add_belief(
    struct tp_tally *tally, const struct tp_belief *belief, double least, double most)
{
    tp_belief_add(&tally->belief, belief, 1);
    tally->least += least;
    tally->most += most;
}

/* ---- what is remembered ---------------------------------------------------------------- */

/*
 * Most sites of a large program have one sample of one class. Those that were sampled
 * alike are believed alike, so what was worked out for one is kept for the others.
 */
struct alike {
    uint64_t used;  // 0: nothing; else figure and class
    double samples;
    double blocks;
    double variance;
    double scale;
    struct tp_tally tally;
};

struct tp_scratch {
    struct tp_blend own_blends[TP_FORMAT_CLASSES];  // of one site, one a group
    struct tp_halves halves[TP_FORMAT_CLASSES];
    struct alike known[1 << KNOWN_BITS];
};

struct tp_scratch *tp_scratch_open(void)
{
    return calloc(1, sizeof(struct tp_scratch));
}

void tp_scratch_close(struct tp_scratch *scratch)
{
    free(scratch);
}

static uint64_t mix(uint64_t hash, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof(bits));
    hash = (hash ^ bits) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 32;
}

static bool is_alike(const struct alike *a, const struct alike *b)
{
    return a->used == b->used && a->samples == b->samples && a->blocks == b->blocks &&
        a->variance == b->variance && a->scale == b->scale;
}

/* The place of what has these sums; `out_there` tells whether it is filled. */
static struct alike *remember(
    struct tp_scratch *scratch, const struct alike *wanted, bool *out_there)
{
    uint64_t hash = mix(mix(wanted->used, wanted->samples), wanted->blocks);
    hash = mix(mix(hash, wanted->variance), wanted->scale);
    struct alike *place = &scratch->known[hash >> 8 & ((1 << KNOWN_BITS) - 1)];
    *out_there = is_alike(place, wanted);
    return place;
}

/* ---- blends --------------------------------------------------------------------------- */

/*
 * The least weight of a sample: the interval is never below what was asked for. Large
 * blocks have many sizes, and may be nearly certain.
 */
static double lightest(const struct tp_build *build, uint32_t class)
{
    double interval = (double)build->dump->sampling.interval_bytes;
    double size = tp_cells_size(build->profile, class);
    bool one = class == TP_FORMAT_LARGE || !(interval > 1);
    return one ? 1 : -1 / expm1(-size / interval);
}

static void blend_cell(const struct tp_build *build, struct tp_blend *to,
    const struct tp_cell *cell, enum figure figure)
{
    double size = figure % 2 ? tp_cells_size(build->profile, cell->class) : 1;
    const struct tp_sums *sums = figure >= LIVE_BLOCKS ? &cell->live : &cell->taken;
    if (cell->class == TP_FORMAT_LARGE && figure % 2)
        tp_blend_add_bytes(to, sums, 1);
    else
        tp_blend_add(to, sums, lightest(build, cell->class), size);
}

static void blend_all(struct tp_build *build, enum figure figure)
{
    memset(build->whole_blends, 0, TP_FORMAT_CLASSES * sizeof(build->whole_blends[0]));
    for (size_t i = 0; i < build->n_cells; i++) {
        const struct tp_cell *cell = &build->cells[i];
        bool large = cell->class == TP_FORMAT_LARGE;
        uint32_t group = large ? TP_FORMAT_LARGE
                               : build->group_of[figure >= LIVE_BLOCKS][cell->class];
        blend_cell(build, &build->whole_blends[group], cell, figure);
    }
}

/* ---- what is known class by class ----------------------------------------------------- */

/* A small class, its weights brought to its total and multiplied by `factor`. */
static void know_class(
    struct tp_build *build, uint32_t class, enum figure figure, double factor)
{
    struct tp_known *known = &build->known;
    const struct tp_whole *whole = &build->whole[class][figure];
    if (!(whole->sum > 0) || !(whole->variance > 0)) return;
    double unit = figure % 2 ? tp_cells_size(build->profile, class) : 1;
    double scale = (double)build->total[class][figure] / whole->sum * unit * factor;
    known->samples[class] = whole->sum * whole->sum / whole->variance;
    known->variance[class] = whole->variance * scale * scale;
}

static void know_groups(struct tp_build *build, enum figure figure)
{
    struct tp_known *known = &build->known;
    memset(known, 0, sizeof(*known));
    for (uint32_t class = 0; class < build->profile->n_classes; class ++) {
        uint32_t group = build->group_of[figure >= LIVE_BLOCKS][class];
        double unit = figure % 2 ? tp_cells_size(build->profile, class) : 1;
        know_class(build, class, figure, 1);
        known->group_total[group] +=
            fmax((double)build->total[class][figure] * unit, 0);
        if (!(known->samples[class] > 0)) continue;
        known->group_variance[group] += known->variance[class];
        known->group_noise[group] += known->variance[class] / known->samples[class];
    }
}

/* Takes away what is no chance, but leaves a quarter: it is an estimate, too. */
static void narrow(struct tp_belief *belief, double known)
{
    if (!(known > 0) || !(belief->variance > 0)) return;
    double left = fmax(1 - known / belief->variance, 0.25);
    belief->variance *= left;
    belief->third *= left;
}

/*
 * A site with the share q of a group, but s of its classes: as the counters know each
 * class, sum over classes of v (s - q)^2 is not left to chance. Shares of few samples
 * differ by chance alone, q (1 - q) / k; NOISE as much is allowed for, or what chance
 * makes larger would be taken and what it makes smaller would not.
 */
static double known_of_group(const struct tp_build *build, const struct tp_cell *cells,
    size_t n, enum figure figure, uint32_t group, double q)
{
    bool live = figure >= LIVE_BLOCKS;
    const struct tp_known *known = &build->known;
    double sum = q * q * known->group_variance[group] -
        NOISE * q * (1 - q) * known->group_noise[group];
    for (size_t i = 0; i < n; i++) {
        uint32_t class = cells[i].class;
        if (class == TP_FORMAT_LARGE || build->group_of[live][class] != group) continue;
        double whole = build->whole[class][figure].sum;
        const struct tp_sums *sums = live ? &cells[i].live : &cells[i].taken;
        double share = whole > 0 ? fmin(sums->blocks / whole, 1) : 0;
        sum += known->variance[class] * share * (share - 2 * q);
    }
    return sum;
}

/* ---- one site ------------------------------------------------------------------------- */

/* What one site has of a group of classes, in blocks or in bytes. */
struct group {
    double value;
    double certain;  // was seen of that
};

static void collect_groups(const struct tp_build *build, struct tp_scratch *scratch,
    const struct tp_cell *cells, size_t n, enum figure figure, struct group *groups)
{
    bool live = figure >= LIVE_BLOCKS, bytes = figure % 2 != 0;
    for (size_t i = 0; i < n; i++) {
        if (cells[i].class == TP_FORMAT_LARGE) continue;
        uint32_t group = build->group_of[live][cells[i].class];
        double size = bytes ? tp_cells_size(build->profile, cells[i].class) : 1;
        const struct tp_sums *sums = live ? &cells[i].live : &cells[i].taken;
        blend_cell(build, &scratch->own_blends[group], &cells[i], figure);
        groups[group].certain += sums->samples * size;
        groups[group].value += (double)cells[i].value[figure];
    }
}

static void believe_large(const struct tp_build *build, struct tp_scratch *scratch,
    const struct tp_cell *cell, enum figure figure, struct tp_tally *tally)
{
    bool live = figure >= LIVE_BLOCKS, bytes = figure % 2 != 0;
    const struct tp_blend *whole = &build->whole_blends[TP_FORMAT_LARGE];
    struct tp_blend *own = &scratch->own_blends[TP_FORMAT_LARGE];
    struct tp_halves *halves = &scratch->halves[TP_FORMAT_LARGE];
    tp_blend_clear(own);
    blend_cell(build, own, cell, figure);
    // Blocks of others may be smaller and weigh more than any of this site could.
    double size = cell->taken.blocks > 0 ? cell->taken.bytes / cell->taken.blocks : 0;
    double interval = (double)build->dump->sampling.interval_bytes * GROWTH;
    double heaviest = bytes || !(size > 0) ? INFINITY : interval / size;
    tp_blend_halves(halves, own, whole, 1, heaviest);
    double total = fmax((double)build->total[TP_FORMAT_LARGE][figure], 0);
    struct tp_belief belief = tp_blend_believe(own, whole, halves, total,
        (double)cell->value[figure], TP_CALIBRATE_DIFFERENCE);
    double certain = tp_believe_certain(live ? &cell->live : &cell->taken, bytes);
    add_belief(tally, &belief, certain, total);
}

/*
 * The site of `n` cells, which follow each other. Where it has small and large classes,
 * those between may be among its own, too.
 */
static struct tp_tally believe_counted(const struct tp_build *build,
    struct tp_scratch *scratch, const struct tp_cell *cells, size_t n,
    enum figure figure)
{
    struct group groups[TP_FORMAT_CLASSES];
    struct tp_tally tally = { 0 };
    uint32_t least = UINT32_MAX, most = 0;
    for (size_t i = 0; i < n; i++) {
        if (cells[i].class == TP_FORMAT_LARGE) {
            believe_large(build, scratch, &cells[i], figure, &tally);
            continue;
        }
        uint32_t group = build->group_of[figure >= LIVE_BLOCKS][cells[i].class];
        least = group < least ? group : least;
        most = group > most ? group : most;
    }
    if (least > most) return tally;
    memset(&groups[least], 0, (most - least + 1) * sizeof(groups[0]));
    for (uint32_t g = least; g <= most; g++) tp_blend_clear(&scratch->own_blends[g]);
    collect_groups(build, scratch, cells, n, figure, groups);
    tp_blend_halves(&scratch->halves[least], &scratch->own_blends[least],
        &build->whole_blends[least], most - least + 1, INFINITY);
    for (uint32_t g = least; g <= most; g++) {
        double total = build->known.group_total[g];
        if (!(total < MOST_TOTAL)) continue;
        const struct tp_blend *own = &scratch->own_blends[g],
                              *whole = &build->whole_blends[g];
        struct tp_belief belief = tp_blend_believe(own, whole, &scratch->halves[g],
            total, groups[g].value, TP_CALIBRATE_SHARES);
        double q = tp_blend_share(own, whole);
        narrow(&belief, known_of_group(build, cells, n, figure, g, q));
        add_belief(&tally, &belief, groups[g].certain, total);
    }
    return tally;
}

double tp_believe_certain(const struct tp_sums *sums, bool bytes)
{
    if (!bytes) return sums->samples;
    // Heavier blocks are the smaller ones: their mean is below that of the samples.
    return sums->blocks > 0 ? sums->samples * (sums->bytes / sums->blocks) : 0;
}

/* ---- the peak ------------------------------------------------------------------------- */

/* Weights are those of all that the site took, of which the counters know the sum. */
double tp_believe_scale(const struct tp_build *build, const struct tp_cell *cell)
{
    double taken = cell->taken.blocks * tp_cells_size(build->profile, cell->class);
    if (cell->class == TP_FORMAT_LARGE || !(taken > 0)) return 1;
    return (double)cell->value[ALLOCATED_BYTES] / taken;
}

/* What is on record of the peak; how many samples that is may have to be found out. */
static struct tp_sums sums_at_peak(
    const struct tp_build *build, const struct tp_cell *cell)
{
    struct tp_sums peak = cell->peak;
    if (peak.samples < 0)
        peak.samples =
            tp_blend_count(&peak, &cell->taken, lightest(build, cell->class));
    return peak;
}

static void blend_peak(
    const struct tp_build *build, struct tp_blend *to, const struct tp_cell *cell)
{
    double size = tp_cells_size(build->profile, cell->class);
    struct tp_sums peak = sums_at_peak(build, cell);
    double factor = build->peak_factor * tp_believe_scale(build, cell);
    if (cell->class == TP_FORMAT_LARGE)
        tp_blend_add_bytes(to, &peak, factor);
    else
        tp_blend_add(to, &peak, lightest(build, cell->class), size * factor);
}

/* What part of all that was taken of its class a cell has at the peak. */
static double share_at_peak(const struct tp_build *build, const struct tp_cell *cell)
{
    double whole = build->whole[cell->class][ALLOCATIONS].sum;
    if (cell->class == TP_FORMAT_LARGE || !(whole > 0)) return 0;
    return fmin(cell->peak.blocks / whole, 1);
}

static void know_peak(struct tp_build *build, double factor)
{
    struct tp_known *known = &build->known;
    memset(known, 0, sizeof(*known));
    for (uint32_t class = 0; class < build->profile->n_classes; class ++) {
        know_class(build, class, ALLOCATED_BYTES, factor);
        // One sample has all of its class whoever it is: it tells nothing of shares.
        double k = known->samples[class];
        known->variance[class] *= k > 1 ? (k - 1) / k : 0;
    }
    for (size_t i = 0; i < build->n_cells; i++)
        known->share[build->cells[i].class] += share_at_peak(build, &build->cells[i]);
    for (uint32_t class = 0; class < build->profile->n_classes; class ++) {
        double all = known->share[class];
        known->group_variance[0] += known->variance[class] * all * all;
    }
}

/* As known_of_group(), where the sites have `share` of a class and q of that is its own. */
static double known_of_peak(
    const struct tp_build *build, const struct tp_cell *cells, size_t n, double q)
{
    const struct tp_known *known = &build->known;
    double sum = q * q * known->group_variance[0];
    for (size_t i = 0; i < n; i++) {
        uint32_t class = cells[i].class;
        double share = share_at_peak(build, &cells[i]);
        sum += known->variance[class] * share * (share - 2 * q * known->share[class]);
    }
    return sum;
}

/* The values stand in the parts; what is believed lies around 0 here. */
static struct tp_tally believe_peak(const struct tp_build *build,
    struct tp_scratch *scratch, const struct tp_cell *cells, size_t n)
{
    const struct tp_blend *whole = &build->whole_blends[0];
    struct tp_blend *own = &scratch->own_blends[0];
    struct tp_halves *halves = &scratch->halves[0];
    struct tp_tally tally = { .most = build->peak_total };
    tp_blend_clear(own);
    for (size_t i = 0; i < n; i++) blend_peak(build, own, &cells[i]);
    tp_blend_halves(halves, own, whole, 1, INFINITY);
    tally.belief = tp_blend_believe(
        own, whole, halves, build->peak_total, 0, TP_CALIBRATE_DIFFERENCE);
    double q = tp_blend_part_of_variance(own, whole);
    narrow(&tally.belief, known_of_peak(build, cells, n, q));
    return tally;
}

static void begin_peak(struct tp_build *build)
{
    struct tp_blend *whole = &build->whole_blends[0];
    memset(whole, 0, sizeof(*whole));
    for (size_t i = 0; i < build->n_cells; i++)
        blend_peak(build, whole, &build->cells[i]);
    know_peak(build, build->peak_factor);
}

/* ---- all ------------------------------------------------------------------------------- */

void tp_believe_begin(struct tp_build *build, enum figure figure)
{
    if (figure == PEAK_BYTES) {
        begin_peak(build);
        return;
    }
    if (figure == 0) {
        group_classes(build, false);
        group_classes(build, true);
    }
    blend_all(build, figure);
    know_groups(build, figure);
}

static struct tp_tally work_out(const struct tp_build *build,
    struct tp_scratch *scratch, const struct tp_cell *cells, size_t n,
    enum figure figure)
{
    if (figure == PEAK_BYTES) return believe_peak(build, scratch, cells, n);
    return believe_counted(build, scratch, cells, n, figure);
}

struct tp_tally tp_believe_site(const struct tp_build *build,
    struct tp_scratch *scratch, const struct tp_cell *cells, size_t n,
    enum figure figure)
{
    struct tp_tally tally;
    bool peak = figure == PEAK_BYTES, there = false;
    if (n == 1 && cells[0].class != TP_FORMAT_LARGE) {
        struct tp_sums sums = peak  ? sums_at_peak(build, cells)
            : figure >= LIVE_BLOCKS ? cells[0].live
                                    : cells[0].taken;
        struct alike wanted = { .used = (uint64_t)figure << 32 | (cells[0].class + 1),
            .samples = sums.samples,
            .blocks = sums.blocks,
            .variance = sums.block_variance,
            .scale = peak ? tp_believe_scale(build, cells) : 1 };
        struct alike *place = remember(scratch, &wanted, &there);
        if (!there) wanted.tally = work_out(build, scratch, cells, n, figure);
        // Where nothing is left to chance the mean is the value, which is each one's own.
        if (!there && wanted.tally.belief.variance > 0) *place = wanted;
        tally = there ? place->tally : wanted.tally;
    } else {
        tally = work_out(build, scratch, cells, n, figure);
    }
    if (peak) tally.belief.mean += (double)build->parts[cells[0].site].value;
    return tally;
}
