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
#include <pthread.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum { ALONE = 20000 };  // cells that are not worth a second thread

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
        cell->site = (uint32_t)(out->n_sites - 1);
        build->site_of_row[cell->row] = cell->site;
        site->samples = sum_or_most(site->samples, record->taken.samples);
    }
    build->unsampled = out->n_sites;
    out->sites[build->unsampled].kind = TP_SITE_UNSAMPLED;
}

/* Puts the cells in order of classes: each stratum is one run of them. */
static void sort_classes(struct tp_build *build)
{
    size_t *begin = build->class_begin, n = 0;
    for (size_t i = 0; i < build->n_cells; i++) begin[build->cells[i].class]++;
    for (size_t class = 0; class <= TP_FORMAT_CLASSES; class ++) {
        size_t count = begin[class];
        begin[class] = n;
        n += count;
    }
    for (size_t i = 0; i < build->n_cells; i++)
        build->by_class[begin[build->cells[i].class]++] = (uint32_t)i;
    // Each now stands where the next one begins.
    memmove(begin + 1, begin, TP_FORMAT_CLASSES * sizeof(begin[0]));
    begin[0] = 0;
}

/* The cells of a site follow each other; returns the index behind its last one. */
static size_t end_of_site(const struct tp_build *build, size_t begin)
{
    size_t end = begin + 1;
    while (end < build->n_cells && build->cells[end].site == build->cells[begin].site)
        end++;
    return end;
}

static struct tp_estimate *figure_of(struct tp_site *site, enum figure figure)
{
    static const size_t offsets[FIGURES] = {
        [ALLOCATIONS] = offsetof(struct tp_site, allocations),
        [ALLOCATED_BYTES] = offsetof(struct tp_site, allocated_bytes),
        [LIVE_BLOCKS] = offsetof(struct tp_site, live_blocks),
        [LIVE_BYTES] = offsetof(struct tp_site, live_bytes),
        [PEAK_BYTES] = offsetof(struct tp_site, peak_bytes),
        [TEMPORARY] = offsetof(struct tp_site, temporary_blocks),
    };
    return (struct tp_estimate *)(void *)((char *)site + offsets[figure]);
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

static struct tp_cell *cell_of(
    const struct tp_build *build, const struct stratum *stratum, size_t i)
{
    return &build->cells[build->by_class[build->class_begin[stratum->class] + i]];
}

static void collect(struct tp_build *build, struct stratum *stratum)
{
    stratum->n =
        build->class_begin[stratum->class + 1] - build->class_begin[stratum->class];
    for (size_t i = 0; i < stratum->n; i++) {
        const struct tp_cell *cell = cell_of(build, stratum, i);
        struct tp_part *part = &build->parts[i];
        *part = part_of(cell, stratum->live, stratum->bytes);
        // Of large blocks that grew in place only the growth was taken where they live.
        if (!stratum->live && stratum->class != TP_FORMAT_LARGE)
            part->least = (double)cell->value[LIVE_BLOCKS];
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
    struct tp_tally *tally = &build->rest_tally[figure];
    struct tp_belief belief = { .mean = (double)rest, .variance = variance };
    figure_of(&build->out->sites[build->unsampled], figure)->value += rest * scale;
    tp_belief_add(&tally->belief, &belief, (double)scale);
    tally->most = (double)INT64_MAX;
}

static void add_values(struct tp_build *build, const struct stratum *stratum,
    enum figure figure, int64_t size)
{
    double variance = 0;
    for (size_t i = 0; i < stratum->n; i++) {
        struct tp_cell *cell = cell_of(build, stratum, i);
        cell->value[figure] = build->parts[i].value * size;
        figure_of(&build->out->sites[cell->site], figure)->value += cell->value[figure];
        variance += build->parts[i].variance;
    }
    int64_t rest = stratum->rest * size;
    build->rest[stratum->class][figure] = rest;
    if (rest > 0) build->rest_sum[figure] += (double)rest;
    add_rest(build, figure, stratum->rest, size, variance);
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

/*
 * What all sites have at the peak. Weights are scaled as those of all that was taken, so
 * that no site has more at the peak than it ever took, but for blocks that grew in place:
 * then its part has no most.
 */
static void collect_peak(struct tp_build *build, double factor)
{
    memset(build->parts, 0, build->out->n_sites * sizeof(build->parts[0]));
    for (size_t begin = 0, end; begin < build->n_cells; begin = end) {
        uint32_t site = build->cells[begin].site;
        struct tp_part *part = &build->parts[site];
        bool grew = false;
        end = end_of_site(build, begin);
        for (const struct tp_cell *cell = &build->cells[begin];
             cell < &build->cells[end]; cell++) {
            const struct tp_sums *peak = &cell->peak;
            bool large = cell->class == TP_FORMAT_LARGE;
            double size = tp_cells_size(build->profile, cell->class);
            double sum = large ? peak->bytes : peak->blocks * size;
            double variance =
                large ? peak->byte_variance : peak->block_variance * size * size;
            double scale = build->exact ? 1 : factor * tp_believe_scale(build, cell);
            grew |= large && fmax(sum, cell->live.bytes) > cell->taken.bytes;
            part->sum += sum * scale;
            part->variance += variance * scale * scale;
        }
        int64_t most = build->out->sites[site].allocated_bytes.value;
        if (!grew) part->most = fmax((double)most, 0.25);
    }
}

static void settle_peak(struct tp_build *build)
{
    size_t n = build->out->n_sites;
    int64_t total = build->profile->totals.peak_bytes;
    build->peak_factor = peak_factor(build);
    collect_peak(build, build->peak_factor);
    int64_t rest =
        tp_estimate_calibrate(build->parts, n, total, TP_CALIBRATE_DIFFERENCE);
    for (size_t i = 0; i < n; i++)
        build->out->sites[i].peak_bytes.value = build->parts[i].value;
    build->peak_total = fmax((double)(total - rest), 0);
    struct tp_whole whole = tp_estimate_whole(build->parts, n);
    add_rest(build, PEAK_BYTES, rest, 1, whole.variance);
}

/* ---- intervals --------------------------------------------------------------------- */

/* Blocks that were temporary are a part of those taken, and scaled like them. */
static void add_temporary(
    struct tp_tally *tally, double *value, const struct tp_cell *cell)
{
    double taken = cell->taken.blocks;
    double temporary = fmin(cell->temporary, taken);
    if (!(temporary > 0)) return;
    double factor = (double)cell->value[ALLOCATIONS] / taken;
    double grain = factor * cell->taken.block_variance / taken;
    double part = factor * temporary;
    double variance = part * grain + grain * grain / 2;
    struct tp_belief belief = {
        .mean = part + grain / 2,
        .variance = variance,
        .third = variance * (2 * grain + (grain > 0)),
    };
    tp_belief_add(&tally->belief, &belief, 1);
    *value += part;
    tally->most += (double)cell->value[ALLOCATIONS];
}

static struct tp_tally believe_temporary(
    struct tp_site *site, const struct tp_cell *cells, size_t n)
{
    struct tp_tally tally = { 0 };
    double value = 0;
    for (size_t i = 0; i < n; i++) add_temporary(&tally, &value, &cells[i]);
    value = fmin(value, (double)INT64_MAX / 2);
    site->temporary_blocks.value = (int64_t)(value + 0.5);
    return tally;
}

/*
 * Blocks of classes without a sample may be anybody's: as far as they would widen an
 * interval upwards, were they an error of their own.
 */
static void allow_unsampled(
    const struct tp_build *build, struct tp_estimate *figure, enum figure which)
{
    double rest = which < COUNTED ? build->rest_sum[which] : 0;
    if (build->exact || !(rest > 0)) return;
    double above = (double)figure->high - (double)figure->value;
    double high = (double)figure->value + ceil(hypot(above, rest));
    figure->high = high < 9e18 ? (int64_t)high : INT64_MAX;
}

static void finish_figure(
    struct tp_estimate *figure, const struct tp_tally *tally, double most)
{
    double least = fmin(tally->least, (double)figure->value);
    *figure = tp_estimate_of(&tally->belief, figure->value, least, most);
}

static void finish_site(const struct tp_build *build, struct tp_scratch *scratch,
    size_t begin, size_t end, enum figure which)
{
    const struct tp_cell *cells = &build->cells[begin];
    struct tp_site *site = &build->out->sites[cells[0].site];
    struct tp_estimate *figure = figure_of(site, which);
    struct tp_tally tally = { 0 };
    if (which == TEMPORARY)
        tally = believe_temporary(site, cells, end - begin);
    else if (!build->exact)
        tally = tp_believe_site(build, scratch, cells, end - begin, which);
    double most = tally.most;
    if (which == PEAK_BYTES && build->parts[cells[0].site].most > 0)
        most = fmin(most, (double)site->allocated_bytes.high);
    finish_figure(figure, &tally, most);
    allow_unsampled(build, figure, which);
}

/* One figure of the sites of some cells; `end` is where a site ends. */
struct task {
    const struct tp_build *build;
    struct tp_scratch *scratch;
    size_t begin;
    size_t end;
    enum figure figure;
};

static void *run_task(void *argument)
{
    struct task *task = argument;
    for (size_t begin = task->begin, end; begin < task->end; begin = end) {
        end = end_of_site(task->build, begin);
        finish_site(task->build, task->scratch, begin, end, task->figure);
    }
    return NULL;
}

/* Sites do not know of each other: one half is worked out beside the other. */
static void finish_sites(struct tp_build *build, enum figure figure)
{
    size_t middle = build->n_cells / 2;
    if (build->n_cells < ALONE || !build->scratch[1]) middle = 0;
    if (middle) middle = end_of_site(build, middle);
    struct task tasks[2] = { { build, build->scratch[0], middle, build->n_cells,
                                 figure },
        { build, build->scratch[1], 0, middle, figure } };
    pthread_t thread;
    bool two = middle && pthread_create(&thread, NULL, run_task, &tasks[1]) == 0;
    run_task(&tasks[0]);
    if (two)
        pthread_join(thread, NULL);
    else
        run_task(&tasks[1]);
}

static void finish(struct tp_build *build)
{
    bool now = tp_cells_peak_now(build->profile) &&
        build->profile->totals.peak_bytes == build->profile->totals.live_bytes;
    struct tp_site *last = &build->out->sites[build->unsampled];
    if (!now) settle_peak(build);
    for (int f = 0; f < FIGURES; f++) {
        enum figure figure = (enum figure)f;
        struct tp_tally *rest = &build->rest_tally[f];
        if (now && figure == PEAK_BYTES) continue;
        if (!build->exact && figure != TEMPORARY) tp_believe_begin(build, figure);
        finish_sites(build, figure);
        finish_figure(figure_of(last, figure), rest, rest->most);
    }
    for (size_t i = 0; now && i <= build->unsampled; i++)
        build->out->sites[i].peak_bytes = build->out->sites[i].live_bytes;
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

/* Room that depends on how many cells and sites there are; cells are read. */
static bool make_room(struct tp_build *build)
{
    size_t n = build->n_cells + 1, n_sites = 1;
    for (size_t i = 0; i < build->n_cells; i++)
        n_sites += i == 0 || build->cells[i].node != build->cells[i - 1].node;
    size_t n_parts = n > n_sites ? n : n_sites;
    build->whole_blends = calloc(TP_FORMAT_CLASSES, sizeof(build->whole_blends[0]));
    build->scratch[0] = tp_scratch_open();
    build->scratch[1] = n > ALONE ? tp_scratch_open() : NULL;
    build->parts = malloc(n_parts * sizeof(build->parts[0]));
    build->by_class = malloc(n * sizeof(build->by_class[0]));
    build->site_of_row =
        malloc((build->dump->n_sites + 1) * sizeof(build->site_of_row[0]));
    build->out->sites = calloc(n_sites, sizeof(build->out->sites[0]));
    return build->whole_blends && build->scratch[0] && build->parts &&
        build->by_class && build->site_of_row && build->out->sites;
}

static void build_figures(struct tp_build *build)
{
    for (size_t i = 0; i < build->dump->n_sites; i++)
        build->site_of_row[i] = UINT32_MAX;
    number_sites(build);
    sort_classes(build);
    for (size_t i = 0; i < build->profile->n_classes; i++)
        settle_class(build, &build->profile->classes[i], (uint32_t)i);
    settle_class(build, &build->profile->large, TP_FORMAT_LARGE);
    finish(build);
    add_requested(build);
    free(build->parts);
    build->parts = NULL;
}

/* What is large goes before the next is made: a million sites fit into 1 GiB. */
static bool build_all(struct tp_build *build)
{
    if (!tp_cells_read(&build->cells, &build->n_cells, build->profile)) return false;
    if (!make_room(build)) return false;
    build_figures(build);
    size_t n_classes = build->n_cells + TP_FORMAT_CLASSES;
    build->out->classes = malloc(n_classes * sizeof(build->out->classes[0]));
    if (!build->out->classes) return false;
    list_classes(build);
    free(build->cells);
    build->cells = NULL;
    return tp_ages_build(build->out, build->dump, build->site_of_row);
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
    bool good = dump->n_sites < UINT32_MAX && build_all(&build);
    free(build.cells);
    free(build.by_class);
    free(build.whole_blends);
    free(build.parts);
    free(build.site_of_row);
    tp_scratch_close(build.scratch[0]);
    tp_scratch_close(build.scratch[1]);
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
