/* SPDX-License-Identifier: MIT */
/*
 * sites.c - the figures of each call stack, out of the sums of stacks and classes.
 *
 * Idea: every (site, class) is a cell. The cells of one class are a stratum, whose
 * sum the counters know; estimate.c gives each its part of it. What is believed of these
 * parts (believe.c) adds up to the site's intervals.
 *
 * The peak has no counters for each class: all cells are one stratum, and where the
 * peak is now its figures are those of the live bytes.
 *
 * Holds always: whatever the dump says, sums of figures are exact. Sums of weights are
 * doubles, cut to what cannot overflow when it is multiplied.
 */
#include "report/believe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- sites ------------------------------------------------------------------------- */

static uint64_t sum_or_most(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static void number_sites(struct tp_build *build)
{
    struct tp_sites *out = build->out;
    for (size_t i = 0; i < build->n_cells; i++) {
        struct tp_cell *cell = &build->cells[i];
        const struct tp_site_record *record = &build->dump->sites[cell->row];
        bool fresh = i == 0 || cell->node != cell[-1].node;
        struct tp_site *site = &out->sites[fresh ? out->n_sites++ : out->n_sites - 1];
        if (fresh) {
            bool stack = cell->node != UINT32_MAX;
            site->kind = stack ? TP_SITE_STACK : TP_SITE_NO_STACK;
            site->node = stack ? cell->node : 0;
            site->end = record->end < TP_STACK_ENDS ? (enum tp_stack_end)record->end
                                                    : TP_STACK_NONE;
        }
        cell->site = out->n_sites - 1;
        build->site_of_row[cell->row] = (uint32_t)cell->site;
        site->samples = sum_or_most(site->samples, record->taken.samples);
    }
    build->unsampled = out->n_sites;
    out->sites[build->unsampled].kind = TP_SITE_UNSAMPLED;
}

static struct tp_estimate *figure_of(struct tp_site *site, enum figure figure)
{
    struct tp_estimate *const figures[FIGURES] = {
        [ALLOCATIONS] = &site->allocations,
        [ALLOCATED_BYTES] = &site->allocated_bytes,
        [LIVE_BLOCKS] = &site->live_blocks,
        [LIVE_BYTES] = &site->live_bytes,
        [PEAK_BYTES] = &site->peak_bytes,
        [TEMPORARY] = &site->temporary_blocks,
    };
    return figures[figure];
}

/* ---- strata ------------------------------------------------------------------------ */

/* One size class, or all large blocks, and the figures that one set of weights gives. */
struct stratum {
    uint32_t class;
    bool live;           // else all that were taken
    bool bytes;          // weighed in bytes: large blocks
    enum figure figure;  // that is calibrated
    int64_t total;       // of it
    int64_t rest;        // of that, what no cell can be charged with
    size_t n;            // cells
};

static struct tp_part part_of(const struct tp_cell *cell, bool live, bool bytes)
{
    const struct tp_sums *sums = live ? &cell->live : &cell->taken;
    return (struct tp_part){
        .sum = bytes ? sums->bytes : sums->blocks,
        .variance = bytes ? sums->byte_variance : sums->block_variance,
        .certain = tp_believe_certain(sums, bytes),
    };
}

static void collect(struct tp_build *build, struct stratum *stratum)
{
    stratum->n = 0;
    for (size_t i = 0; i < build->n_cells; i++) {
        const struct tp_cell *cell = &build->cells[i];
        if (cell->class != stratum->class) continue;
        struct tp_part *part = &build->parts[stratum->n];
        *part = part_of(cell, stratum->live, stratum->bytes);
        // Of large blocks that grew in place only the growth was taken where they live.
        if (!stratum->live && stratum->class != TP_FORMAT_LARGE)
            part->least = (double)cell->value[LIVE_BLOCKS];
        build->stratum[stratum->n++] = i;
    }
}

static enum tp_calibration way_of(uint32_t class)
{
    return class == TP_FORMAT_LARGE ? TP_CALIBRATE_DIFFERENCE : TP_CALIBRATE_SHARES;
}

/* Puts a rest into the site that has no stack. */
static void add_rest(struct tp_build *build, enum figure figure, int64_t rest,
    int64_t scale, double variance)
{
    if (rest == 0) return;
    struct tp_tally *tally = &build->tallies[build->unsampled];
    struct tp_belief belief = { .mean = (double)rest, .variance = variance };
    figure_of(&build->out->sites[build->unsampled], figure)->value += rest * scale;
    tp_belief_add(&tally->belief[figure], &belief, (double)scale);
    tally->most[figure] = (double)INT64_MAX;
}

static void add_values(struct tp_build *build, const struct stratum *stratum,
    enum figure figure, int64_t size)
{
    double variance = 0;
    for (size_t i = 0; i < stratum->n; i++) {
        struct tp_cell *cell = &build->cells[build->stratum[i]];
        cell->value[figure] = build->parts[i].value * size;
        build->tallies[cell->site].value[figure] += (double)cell->value[figure];
        figure_of(&build->out->sites[cell->site], figure)->value += cell->value[figure];
        variance += build->parts[i].variance;
    }
    build->rest[stratum->class][figure] = stratum->rest * size;
    add_rest(build, figure, stratum->rest, size, variance);
}

/* Blocks that were temporary are a part of those taken, and scaled like them. */
static void add_temporary(struct tp_tally *tally, const struct tp_cell *cell)
{
    double taken = cell->taken.blocks;
    double temporary = fmin(cell->temporary, taken);
    if (!(temporary > 0)) return;
    double factor = (double)cell->value[ALLOCATIONS] / taken;
    double grain = factor * cell->taken.block_variance / taken;
    double value = factor * temporary;
    double variance = value * grain + grain * grain / 2;
    struct tp_belief belief = {
        .mean = value + grain / 2,
        .variance = variance,
        .third = variance * (2 * grain + (grain > 0)),
    };
    tp_belief_add(&tally->belief[TEMPORARY], &belief, 1);
    tally->value[TEMPORARY] += value;
    tally->most[TEMPORARY] += (double)cell->value[ALLOCATIONS];
}

/* Works out one stratum; what it gives is also bytes where all blocks have one size. */
static void settle(struct tp_build *build, struct stratum *stratum, int64_t size)
{
    collect(build, stratum);
    stratum->rest = tp_estimate_calibrate(
        build->parts, stratum->n, stratum->total, way_of(stratum->class));
    struct tp_whole whole = tp_estimate_whole(build->parts, stratum->n);
    for (int i = 0; i <= (size > 0); i++) {
        enum figure figure = (enum figure)((int)stratum->figure + i);
        build->whole[stratum->class][figure] = whole;
        build->total[stratum->class][figure] = stratum->total;
        add_values(build, stratum, figure, i ? size : 1);
    }
}

static void settle_class(
    struct tp_build *build, const struct tp_class *class, uint32_t index)
{
    for (int live = 1; live >= 0; live--) {
        struct stratum stratum = {
            .class = index,
            .live = live != 0,
            .figure = live ? LIVE_BLOCKS : ALLOCATIONS,
            .total = live ? class->live_blocks : (int64_t) class->allocations,
        };
        bool large = index == TP_FORMAT_LARGE;
        settle(build, &stratum, large ? 0 : (int64_t) class->size_bytes);
        if (!large) continue;
        stratum.bytes = true;
        stratum.figure = live ? LIVE_BYTES : ALLOCATED_BYTES;
        stratum.total = live ? class->live_bytes : (int64_t) class->allocated_bytes;
        settle(build, &stratum, 0);
    }
}

/* ---- the peak ---------------------------------------------------------------------- */

/*
 * The weights of a class, scaled as those of all that was taken. So no site has more at
 * the peak than it ever took, but for blocks that grew in place.
 */
static double peak_scale(const struct tp_cell *cell, double size)
{
    double taken = cell->taken.blocks * size;
    if (cell->class == TP_FORMAT_LARGE || !(taken > 0)) return 1;
    return (double)cell->value[ALLOCATED_BYTES] / taken;
}

/*
 * The sites' moment may be one a little below the highest, which the record tells: then
 * all are raised by the same factor. Exact figures stay what they are.
 */
static double peak_factor(const struct tp_build *build)
{
    double moment = (double)build->dump->sampling.peak_bytes;
    double peak = (double)build->profile->totals.peak_bytes;
    bool near = moment > 0.9 * peak && moment < 1.1 * peak;
    return build->exact || tp_cells_peak_now(build->profile) || !near ? 1
                                                                      : peak / moment;
}

static void settle_peak(struct tp_build *build)
{
    size_t n = build->out->n_sites;
    double factor = peak_factor(build);
    memset(build->parts, 0, n * sizeof(build->parts[0]));
    for (size_t i = 0; i < build->n_cells; i++) {
        const struct tp_cell *cell = &build->cells[i];
        struct tp_part *part = &build->parts[cell->site];
        const struct tp_sums *peak = &cell->peak;
        bool large = cell->class == TP_FORMAT_LARGE;
        double size = tp_cells_size(build->profile, cell->class);
        double sum = large ? peak->bytes : peak->blocks * size;
        double variance =
            large ? peak->byte_variance : peak->block_variance * size * size;
        double scale = build->exact ? 1 : factor * peak_scale(cell, size);
        build->tallies[cell->site].grew |=
            large && fmax(sum, cell->live.bytes) > cell->taken.bytes;
        part->sum += sum * scale;
        part->variance += variance * scale * scale;
    }
    for (size_t i = 0; i < n; i++)
        if (!build->tallies[i].grew)
            build->parts[i].most =
                fmax((double)build->out->sites[i].allocated_bytes.value, 0.25);
    int64_t total = build->profile->totals.peak_bytes;
    int64_t rest =
        tp_estimate_calibrate(build->parts, n, total, TP_CALIBRATE_DIFFERENCE);
    for (size_t i = 0; i < n; i++)
        build->out->sites[i].peak_bytes.value = build->parts[i].value;
    if (!build->exact) tp_believe_peak(build, factor, fmax((double)(total - rest), 0));
    struct tp_whole whole = tp_estimate_whole(build->parts, n);
    add_rest(build, PEAK_BYTES, rest, 1, whole.variance);
}

/* ---- the end ----------------------------------------------------------------------- */

/*
 * Blocks of classes without a sample may be anybody's: as far as they would widen an
 * interval upwards, were they an error of their own.
 */
static void allow_unsampled(
    const struct tp_build *build, struct tp_estimate *figure, enum figure which)
{
    double rest = 0, above = (double)figure->high - (double)figure->value;
    for (size_t i = 0; which < COUNTED && i < TP_FORMAT_CLASSES; i++)
        if (build->rest[i][which] > 0) rest += (double)build->rest[i][which];
    double high = (double)figure->value + ceil(hypot(above, rest));
    if (!build->exact && rest > 0)
        figure->high = high < 9e18 ? (int64_t)high : INT64_MAX;
}

static void finish(struct tp_build *build)
{
    bool now = tp_cells_peak_now(build->profile) &&
        build->profile->totals.peak_bytes == build->profile->totals.live_bytes;
    if (!now) settle_peak(build);
    for (size_t i = 0; i <= build->unsampled; i++) {
        struct tp_site *site = &build->out->sites[i];
        const struct tp_tally *tally = &build->tallies[i];
        double temporary = fmin(tally->value[TEMPORARY], (double)INT64_MAX / 2);
        site->temporary_blocks.value = (int64_t)(temporary + 0.5);
        for (int f = 0; f < FIGURES; f++) {
            struct tp_estimate *figure = figure_of(site, (enum figure)f);
            double least = fmin(tally->least[f], (double)figure->value);
            double most = tally->most[f];
            if (f == PEAK_BYTES && i < build->unsampled && !tally->grew)
                most = fmin(most, (double)site->allocated_bytes.high);
            *figure = tp_estimate_of(&tally->belief[f], figure->value, least, most);
            if (i < build->unsampled) allow_unsampled(build, figure, (enum figure)f);
        }
        if (now) site->peak_bytes = site->live_bytes;
    }
    const struct tp_site *last = &build->out->sites[build->unsampled];
    bool any = last->allocations.value || last->allocated_bytes.value ||
        last->live_blocks.value || last->live_bytes.value || last->peak_bytes.value;
    build->out->n_sites = build->unsampled + any;
}

static void add_requested(struct tp_build *build)
{
    struct tp_sites *out = build->out;
    if (!build->exact) return;
    for (size_t i = 0; i < build->n_cells; i++) {
        struct tp_site *site = &out->sites[build->cells[i].site];
        int64_t live =
            tp_cells_live_requested(&build->dump->sites[build->cells[i].row]);
        int64_t *sum = &site->live_requested_bytes;
        if (__builtin_add_overflow(*sum, live, sum)) *sum = INT64_MAX;
    }
    for (size_t i = 0; i < build->unsampled; i++) {
        struct tp_site *site = &out->sites[i];
        // Nobody asks for more than he gets.
        if (site->live_requested_bytes > site->live_bytes.value)
            site->live_requested_bytes = site->live_bytes.value;
        out->live_requested_bytes += site->live_requested_bytes;
    }
}

static void list_classes(struct tp_build *build)
{
    struct tp_sites *out = build->out;
    for (size_t i = 0; i < build->n_cells; i++) {
        const struct tp_cell *cell = &build->cells[i];
        out->classes[out->n_classes++] = (struct tp_site_class){
            .site = cell->site,
            .class = cell->class,
            .samples = (uint64_t)fmin(cell->taken.samples, 1e18),
            .allocations = cell->value[ALLOCATIONS],
            .allocated_bytes = cell->value[ALLOCATED_BYTES],
            .live_blocks = cell->value[LIVE_BLOCKS],
            .live_bytes = cell->value[LIVE_BYTES],
        };
    }
    for (uint32_t i = 0; i < TP_FORMAT_CLASSES; i++) {
        const int64_t *rest = build->rest[i];
        if (!rest[ALLOCATIONS] && !rest[ALLOCATED_BYTES] && !rest[LIVE_BLOCKS] &&
            !rest[LIVE_BYTES])
            continue;
        out->classes[out->n_classes++] = (struct tp_site_class){
            .site = build->unsampled,
            .class = i,
            .allocations = rest[ALLOCATIONS],
            .allocated_bytes = rest[ALLOCATED_BYTES],
            .live_blocks = rest[LIVE_BLOCKS],
            .live_bytes = rest[LIVE_BYTES],
        };
    }
}

static bool make_room(struct tp_build *build)
{
    size_t n = build->dump->n_sites + 1;
    build->cells = calloc(n, sizeof(build->cells[0]));
    build->tallies = calloc(n, sizeof(build->tallies[0]));
    build->whole_blends = calloc(TP_FORMAT_CLASSES, sizeof(build->whole_blends[0]));
    build->own_blends = calloc(TP_FORMAT_CLASSES, sizeof(build->own_blends[0]));
    build->halves = calloc(TP_FORMAT_CLASSES, sizeof(build->halves[0]));
    build->parts = calloc(n, sizeof(build->parts[0]));
    build->stratum = calloc(n, sizeof(build->stratum[0]));
    build->site_of_row = calloc(n, sizeof(build->site_of_row[0]));
    build->out->sites = calloc(n, sizeof(build->out->sites[0]));
    build->out->classes = calloc(n + TP_FORMAT_CLASSES, sizeof(build->out->classes[0]));
    return build->cells && build->tallies && build->whole_blends && build->own_blends &&
        build->halves && build->parts && build->stratum && build->site_of_row &&
        build->out->sites && build->out->classes;
}

static void build_all(struct tp_build *build)
{
    build->n_cells = tp_cells_read(build->cells, build->profile);
    for (size_t i = 0; i < build->dump->n_sites; i++)
        build->site_of_row[i] = UINT32_MAX;
    number_sites(build);
    for (size_t i = 0; i < build->profile->n_classes; i++)
        settle_class(build, &build->profile->classes[i], (uint32_t)i);
    settle_class(build, &build->profile->large, TP_FORMAT_LARGE);
    if (!build->exact) tp_believe_all(build);
    for (size_t i = 0; i < build->n_cells; i++)
        add_temporary(&build->tallies[build->cells[i].site], &build->cells[i]);
    finish(build);
    add_requested(build);
    list_classes(build);
}

bool tp_sites_build(struct tp_sites *out_sites, const struct tp_profile *profile,
    const char *name, struct tp_error *error)
{
    const struct tp_dump *dump = profile->dump;
    uint32_t mode = dump->sampling.mode;
    memset(out_sites, 0, sizeof(*out_sites));
    if (mode != TP_SAMPLING_SAMPLED && mode != TP_SAMPLING_EXACT) return true;
    out_sites->mode = (enum tp_sampling_mode)mode;

    struct tp_build build = { .profile = profile, .dump = dump, .out = out_sites };
    build.exact = mode == TP_SAMPLING_EXACT;
    bool good = dump->n_sites < UINT32_MAX && make_room(&build);
    if (good) build_all(&build);
    good = good && tp_ages_build(out_sites, dump, build.site_of_row);
    free(build.cells);
    free(build.tallies);
    free(build.whole_blends);
    free(build.own_blends);
    free(build.halves);
    free(build.parts);
    free(build.stratum);
    free(build.site_of_row);
    if (good) return true;
    tp_sites_fini(out_sites);
    return tp_error_set(error, "cannot read %s: out of memory", name);
}

void tp_sites_fini(struct tp_sites *sites)
{
    free(sites->sites);
    free(sites->classes);
    memset(sites, 0, sizeof(*sites));
}
