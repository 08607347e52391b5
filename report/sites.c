/* SPDX-License-Identifier: MIT */
/*
 * sites.c - the figures of each call stack, out of the sums of stacks and classes.
 *
 * Idea: every (site, class) is an entry. The entries of one class are a stratum, whose
 * sum the counters know; estimate.c gives each its part of it. That is done twice:
 * first for the values, which tell how a site's half sample is spread over its classes,
 * then for the beliefs, which add up to the site's intervals.
 *
 * The peak has no counters for each class: all entries are one stratum, and where the
 * peak is now its figures are those of the live bytes.
 *
 * Holds always: whatever the dump says, sums of figures are exact. Sums of weights are
 * doubles, cut to what cannot overflow when it is multiplied.
 */
#include "report/sites.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum figure {
    ALLOCATIONS,
    ALLOCATED_BYTES,
    LIVE_BLOCKS,
    LIVE_BYTES,
    COUNTED,  // the figures above, of which the counters know every class
    PEAK_BYTES = COUNTED,
    TEMPORARY,
    FIGURES,
};

struct sums {
    double samples;
    double blocks;
    double bytes;
    double block_variance;
    double byte_variance;
};

struct entry {
    uint32_t node;  // UINT32_MAX: no stack, so that it stands last
    uint32_t class;
    size_t row;   // of the dump
    size_t site;  // index
    struct sums taken;
    struct sums live;
    double peak;
    double peak_variance;
    double temporary;
    int64_t value[COUNTED];
};

struct tally {  // of one site
    struct tp_belief belief[FIGURES];
    double least[FIGURES];
    double most[FIGURES];
    double value[FIGURES];  // for shares; the exact ones stand in the site
};

struct build {
    const struct tp_profile *profile;
    const struct tp_dump *dump;
    struct tp_sites *out;
    bool exact;
    struct entry *entries;
    size_t n_entries;
    struct tally *tallies;                     // one a site
    struct tp_part *parts;                     // room for all entries
    size_t *stratum;                           // entries of the parts
    uint32_t *site_of_row;                     // UINT32_MAX: none
    size_t unsampled;                          // index of that site
    int64_t rest[TP_FORMAT_CLASSES][COUNTED];  // what that site has of each class
};

/* ---- entries ----------------------------------------------------------------------- */

static const double MOST_SUM = 1e25, MOST_VARIANCE = 1e50;

/* What a file says may be anything; 0 for what is not a number. */
static double sane(double value, double most)
{
    if (!(value > 0)) return 0;
    return value < most ? value : most;
}

static double less(uint64_t taken, uint64_t freed)
{
    return taken > freed ? (double)(taken - freed) : 0;
}

/*
 * A variance that was added and taken away may leave a trace of rounding, or nothing
 * where something is: then it follows from the mean weight.
 */
static double variance_of(double variance, double weights, double samples, double size)
{
    if (!(samples > 0) || !(weights > samples)) return 0;
    double w = weights / samples, from_mean = samples * w * (w - 1) * size * size;
    return variance > from_mean / 1e6 ? variance : from_mean;
}

static void read_sums(struct sums *out, const struct tp_site_sums *plus,
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

static double class_size(const struct build *build, uint32_t class)
{
    if (class == TP_FORMAT_LARGE) return 1;
    return (double)build->profile->classes[class].size_bytes;
}

/* True when the present is the highest peak that the sites know of. */
static bool peak_is_now(const struct build *build)
{
    const struct tp_sampling_record *sampling = &build->dump->sampling;
    int64_t live = build->profile->totals.live_bytes;
    return sampling->peak == 0 || (live > 0 && (uint64_t)live > sampling->peak_bytes);
}

static void read_peak(const struct build *build, struct entry *entry,
    const struct tp_site_record *record, bool now)
{
    double size = class_size(build, entry->class);
    bool large = entry->class == TP_FORMAT_LARGE;
    double blocks = entry->live.blocks, bytes = entry->live.bytes;
    double block_variance = entry->live.block_variance;
    double byte_variance = entry->live.byte_variance;
    if (!now && record->peak == build->dump->sampling.peak) {
        blocks = (double)record->peak_blocks / TP_FORMAT_ONE;
        bytes = (double)record->peak_bytes;
        block_variance = sane(record->peak_block_variance, MOST_VARIANCE);
        byte_variance = sane(record->peak_byte_variance, MOST_VARIANCE);
    }
    entry->peak = sane(large ? bytes : blocks * size, MOST_SUM);
    double variance = large ? byte_variance : block_variance * size * size;
    entry->peak_variance = build->exact ? 0 : sane(variance, MOST_VARIANCE);
}

static bool counts(const struct build *build, const struct tp_site_record *record)
{
    bool known =
        record->class == TP_FORMAT_LARGE || record->class < build->profile->n_classes;
    return record->used == 1 && known && record->taken.samples > 0;
}

static int by_site(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->node != y->node) return x->node < y->node ? -1 : 1;
    if (x->class != y->class) return x->class < y->class ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static void read_entries(struct build *build)
{
    bool now = peak_is_now(build);
    for (size_t i = 0; i < build->dump->n_sites; i++) {
        const struct tp_site_record *record = &build->dump->sites[i];
        static const struct tp_site_sums none;
        build->site_of_row[i] = UINT32_MAX;
        if (!counts(build, record)) continue;
        struct entry *entry = &build->entries[build->n_entries++];
        bool stack = record->node > 0 && record->node < build->dump->n_nodes;
        entry->node = stack ? record->node : UINT32_MAX;
        entry->class = record->class;
        entry->row = i;
        entry->temporary = (double)record->temporary_blocks / TP_FORMAT_ONE;
        read_sums(&entry->taken, &record->taken, &none, build->exact);
        read_sums(&entry->live, &record->taken, &record->freed, build->exact);
        read_peak(build, entry, record, now);
    }
    if (build->n_entries)
        qsort(build->entries, build->n_entries, sizeof(build->entries[0]), by_site);
}

/* ---- sites ------------------------------------------------------------------------- */

static uint64_t sum_or_most(uint64_t a, uint64_t b)
{
    return a > UINT64_MAX - b ? UINT64_MAX : a + b;
}

static int64_t live_requested(const struct tp_site_record *record)
{
    uint64_t plus = record->taken.requested_bytes,
             minus = record->freed.requested_bytes;
    uint64_t live = plus > minus ? plus - minus : 0;
    return live < INT64_MAX ? (int64_t)live : INT64_MAX;
}

static void number_sites(struct build *build)
{
    struct tp_sites *out = build->out;
    for (size_t i = 0; i < build->n_entries; i++) {
        struct entry *entry = &build->entries[i];
        const struct tp_site_record *record = &build->dump->sites[entry->row];
        bool fresh = i == 0 || entry->node != entry[-1].node;
        struct tp_site *site = &out->sites[fresh ? out->n_sites++ : out->n_sites - 1];
        if (fresh) {
            bool stack = entry->node != UINT32_MAX;
            site->kind = stack ? TP_SITE_STACK : TP_SITE_NO_STACK;
            site->node = stack ? entry->node : 0;
            site->end = record->end < TP_STACK_ENDS ? (enum tp_stack_end)record->end
                                                    : TP_STACK_NONE;
        }
        entry->site = out->n_sites - 1;
        build->site_of_row[entry->row] = (uint32_t)entry->site;
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
    int64_t rest;        // of that, what no entry can be charged with
    size_t n;            // entries
};

static void collect(struct build *build, struct stratum *stratum)
{
    stratum->n = 0;
    for (size_t i = 0; i < build->n_entries; i++) {
        const struct entry *entry = &build->entries[i];
        if (entry->class != stratum->class) continue;
        const struct sums *sums = stratum->live ? &entry->live : &entry->taken;
        double size = sums->blocks > 0 ? sums->bytes / sums->blocks : 0;
        // Heavier blocks are the smaller ones: their mean is below that of the samples.
        build->parts[stratum->n] = (struct tp_part){
            .sum = stratum->bytes ? sums->bytes : sums->blocks,
            .variance = stratum->bytes ? sums->byte_variance : sums->block_variance,
            .block = stratum->bytes ? size : 1,
            .certain = stratum->bytes ? sums->samples * size : sums->samples,
        };
        build->stratum[stratum->n++] = i;
    }
}

static enum tp_calibration way_of(const struct stratum *stratum)
{
    return stratum->class == TP_FORMAT_LARGE ? TP_CALIBRATE_DIFFERENCE
                                             : TP_CALIBRATE_SHARES;
}

/* Puts a rest into the site that has no stack. */
static void add_rest(struct build *build, enum figure figure, int64_t rest,
    int64_t scale, double variance)
{
    if (rest == 0) return;
    struct tally *tally = &build->tallies[build->unsampled];
    struct tp_belief belief = { .mean = (double)rest, .variance = variance };
    figure_of(&build->out->sites[build->unsampled], figure)->value += rest * scale;
    tp_belief_add(&tally->belief[figure], &belief, (double)scale);
    tally->most[figure] = (double)INT64_MAX;
}

static void add_values(struct build *build, const struct stratum *stratum,
    enum figure figure, int64_t size)
{
    double variance = 0;
    for (size_t i = 0; i < stratum->n; i++) {
        struct entry *entry = &build->entries[build->stratum[i]];
        entry->value[figure] = build->parts[i].value * size;
        build->tallies[entry->site].value[figure] += (double)entry->value[figure];
        figure_of(&build->out->sites[entry->site], figure)->value +=
            entry->value[figure];
        variance += build->parts[i].variance;
    }
    build->rest[stratum->class][figure] = stratum->rest * size;
    add_rest(build, figure, stratum->rest, size, variance);
}

/* Blocks that were temporary are a part of those taken, and scaled like them. */
static void add_temporary(struct tally *tally, const struct entry *entry)
{
    double taken = entry->taken.blocks;
    double temporary = fmin(entry->temporary, taken);
    if (!(temporary > 0)) return;
    double factor = (double)entry->value[ALLOCATIONS] / taken;
    double grain = factor * entry->taken.block_variance / taken;
    double value = factor * temporary;
    double variance = value * grain + grain * grain / 2;
    struct tp_belief belief = {
        .mean = value + grain / 2,
        .variance = variance,
        .third = variance * (2 * grain + (grain > 0)),
    };
    tp_belief_add(&tally->belief[TEMPORARY], &belief, 1);
    tally->value[TEMPORARY] += value;
    tally->most[TEMPORARY] += (double)entry->value[ALLOCATIONS];
}

static void add_beliefs(
    struct build *build, const struct stratum *stratum, enum figure figure, double size)
{
    int64_t total = stratum->total - stratum->rest;
    for (size_t i = 0; i < stratum->n; i++) {
        const struct entry *entry = &build->entries[build->stratum[i]];
        double whole = build->tallies[entry->site].value[figure];
        build->parts[i].prior = whole > 0 ? (double)entry->value[figure] / whole : 0;
    }
    tp_estimate_believe(build->parts, stratum->n, total, way_of(stratum));
    for (size_t i = 0; i < stratum->n; i++) {
        const struct entry *entry = &build->entries[build->stratum[i]];
        struct tally *tally = &build->tallies[entry->site];
        tp_belief_add(&tally->belief[figure], &build->parts[i].belief, size);
        tally->least[figure] += build->parts[i].certain * size;
        tally->most[figure] += (double)total * size;
        if (figure == ALLOCATIONS) add_temporary(tally, entry);
    }
}

/* One calibration; what it gives goes to its figure, times the size to another. */
static void settle(
    struct build *build, struct stratum *stratum, int64_t size, bool believe)
{
    enum figure bytes = stratum->live ? LIVE_BYTES : ALLOCATED_BYTES;
    collect(build, stratum);
    stratum->rest = tp_estimate_calibrate(
        build->parts, stratum->n, stratum->total, way_of(stratum));
    if (believe) {
        add_beliefs(build, stratum, stratum->figure, 1);
        if (size) add_beliefs(build, stratum, bytes, (double)size);
    } else {
        add_values(build, stratum, stratum->figure, 1);
        if (size) add_values(build, stratum, bytes, size);
    }
}

static void settle_class(
    struct build *build, const struct tp_class *class, uint32_t index, bool believe)
{
    for (int live = 0; live < 2; live++) {
        struct stratum stratum = {
            .class = index,
            .live = live != 0,
            .figure = live ? LIVE_BLOCKS : ALLOCATIONS,
            .total = live ? class->live_blocks : (int64_t) class->allocations,
        };
        bool large = index == TP_FORMAT_LARGE;
        settle(build, &stratum, large ? 0 : (int64_t) class->size_bytes, believe);
        if (!large) continue;
        stratum.bytes = true;
        stratum.figure = live ? LIVE_BYTES : ALLOCATED_BYTES;
        stratum.total = live ? class->live_bytes : (int64_t) class->allocated_bytes;
        settle(build, &stratum, 0, believe);
    }
}

static void settle_classes(struct build *build, bool believe)
{
    const struct tp_profile *profile = build->profile;
    for (size_t i = 0; i < profile->n_classes; i++)
        settle_class(build, &profile->classes[i], (uint32_t)i, believe);
    settle_class(build, &profile->large, TP_FORMAT_LARGE, believe);
}

/* ---- the peak ---------------------------------------------------------------------- */

/*
 * The sites' moment may be one a little below the highest, which the record tells: then
 * all are raised by the same factor. Exact figures stay what they are.
 */
static double peak_factor(const struct build *build)
{
    double moment = (double)build->dump->sampling.peak_bytes;
    double peak = (double)build->profile->totals.peak_bytes;
    bool near = moment > 0.9 * peak && moment < 1.1 * peak;
    return build->exact || peak_is_now(build) || !near ? 1 : peak / moment;
}

static void settle_peak(struct build *build)
{
    size_t n = build->out->n_sites;
    double factor = peak_factor(build);
    memset(build->parts, 0, n * sizeof(build->parts[0]));
    for (size_t i = 0; i < build->n_entries; i++) {
        const struct entry *entry = &build->entries[i];
        struct tp_part *part = &build->parts[entry->site];
        bool large = entry->class == TP_FORMAT_LARGE;
        double size = class_size(build, entry->class);
        double blocks = entry->taken.blocks;
        if (large) size = blocks > 0 ? entry->taken.bytes / blocks : 0;
        part->sum += entry->peak * factor;
        part->variance += entry->peak_variance * factor * factor;
        part->block += size * entry->peak * factor;
        part->prior = 1;
    }
    for (size_t i = 0; i < n; i++)
        if (build->parts[i].sum > 0) build->parts[i].block /= build->parts[i].sum;
    int64_t total = build->profile->totals.peak_bytes;
    int64_t rest =
        tp_estimate_calibrate(build->parts, n, total, TP_CALIBRATE_DIFFERENCE);
    tp_estimate_believe(build->parts, n, total - rest, TP_CALIBRATE_DIFFERENCE);
    double variance = 0;
    for (size_t i = 0; i < n; i++) {
        struct tally *tally = &build->tallies[i];
        build->out->sites[i].peak_bytes.value = build->parts[i].value;
        tp_belief_add(&tally->belief[PEAK_BYTES], &build->parts[i].belief, 1);
        tally->most[PEAK_BYTES] = (double)total;
        variance += build->parts[i].variance;
    }
    add_rest(build, PEAK_BYTES, rest, 1, variance);
}

/* ---- the end ----------------------------------------------------------------------- */

static void finish(struct build *build)
{
    bool now = peak_is_now(build) &&
        build->profile->totals.peak_bytes == build->profile->totals.live_bytes;
    if (!now) settle_peak(build);
    for (size_t i = 0; i <= build->unsampled; i++) {
        struct tp_site *site = &build->out->sites[i];
        const struct tally *tally = &build->tallies[i];
        double temporary = fmin(tally->value[TEMPORARY], (double)INT64_MAX / 2);
        site->temporary_blocks.value = (int64_t)(temporary + 0.5);
        for (int f = 0; f < FIGURES; f++) {
            struct tp_estimate *figure = figure_of(site, f);
            double least = fmin(tally->least[f], (double)figure->value);
            *figure =
                tp_estimate_of(&tally->belief[f], figure->value, least, tally->most[f]);
        }
        if (now) site->peak_bytes = site->live_bytes;
    }
    const struct tp_site *last = &build->out->sites[build->unsampled];
    bool any = last->allocations.value || last->allocated_bytes.value ||
        last->live_blocks.value || last->live_bytes.value || last->peak_bytes.value;
    build->out->n_sites = build->unsampled + any;
}

static void add_requested(struct build *build)
{
    struct tp_sites *out = build->out;
    if (!build->exact) return;
    for (size_t i = 0; i < build->n_entries; i++) {
        struct tp_site *site = &out->sites[build->entries[i].site];
        int64_t live = live_requested(&build->dump->sites[build->entries[i].row]);
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

static void list_classes(struct build *build)
{
    struct tp_sites *out = build->out;
    for (size_t i = 0; i < build->n_entries; i++) {
        const struct entry *entry = &build->entries[i];
        out->classes[out->n_classes++] = (struct tp_site_class){
            .site = entry->site,
            .class = entry->class,
            .samples = (uint64_t)fmin(entry->taken.samples, 1e18),
            .allocations = entry->value[ALLOCATIONS],
            .allocated_bytes = entry->value[ALLOCATED_BYTES],
            .live_blocks = entry->value[LIVE_BLOCKS],
            .live_bytes = entry->value[LIVE_BYTES],
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

static bool make_room(struct build *build)
{
    size_t n = build->dump->n_sites + 1;
    build->entries = calloc(n, sizeof(build->entries[0]));
    build->tallies = calloc(n, sizeof(build->tallies[0]));
    build->parts = calloc(n, sizeof(build->parts[0]));
    build->stratum = calloc(n, sizeof(build->stratum[0]));
    build->site_of_row = calloc(n, sizeof(build->site_of_row[0]));
    build->out->sites = calloc(n, sizeof(build->out->sites[0]));
    build->out->classes = calloc(n + TP_FORMAT_CLASSES, sizeof(build->out->classes[0]));
    return build->entries && build->tallies && build->parts && build->stratum &&
        build->site_of_row && build->out->sites && build->out->classes;
}

static void build_all(struct build *build)
{
    read_entries(build);
    number_sites(build);
    settle_classes(build, false);
    settle_classes(build, true);
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

    struct build build = { .profile = profile, .dump = dump, .out = out_sites };
    build.exact = mode == TP_SAMPLING_EXACT;
    bool good = dump->n_sites < UINT32_MAX && make_room(&build);
    if (good) build_all(&build);
    good = good && tp_ages_build(out_sites, dump, build.site_of_row);
    free(build.entries);
    free(build.tallies);
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
