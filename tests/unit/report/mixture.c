/* SPDX-License-Identifier: MIT */
/*
 * mixture.c - a simulated program whose sites are known, seen through samples.
 */
#include "tests/unit/report/mixture.h"

#include "pool/size.h"
#include "shim/profile.h"
#include "tests/unit/tp_test.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { MOST_BLOCKS = 1 << 21, TICKS_PER_MS = 1000, SPELLS = 8 };

static struct {
    struct mixture_run run;
    struct tp_sampler samplers[MIXTURE_THREADS];
    uint8_t order[MOST_BLOCKS];  // the site of each block
    struct {
        uint32_t row;
        struct tp_weight weight;
        double bytes;
    } held[MOST_BLOCKS / 2];  // samples of the first half
    size_t n_held;
    struct {
        uint64_t bytes;
        uint32_t site;
        uint64_t interval;
    } blocks[MOST_BLOCKS / 2];  // of the first half
    size_t n_blocks;
    size_t turn;  // threads take turns
    uint64_t seed;
    uint64_t now;
    int64_t live;
    double sampled_live;
} sim;

static double uniform(void)
{
    return ((double)(test_random(&sim.seed) >> 11) + 0.5) * 0x1p-53;
}

static uint64_t size_of(const struct mixture_site *site)
{
    if (site->least == site->most) return site->least;
    unsigned low = tp_log2(site->least), high = tp_log2(site->most);
    unsigned scale = low + (unsigned)test_below(&sim.seed, high - low + 1);
    uint64_t size =
        ((uint64_t)1 << scale) + test_below(&sim.seed, (uint64_t)1 << scale);
    if (size < site->least) return site->least;
    return size < site->most ? size : site->most;
}

static const struct mixture_site *site_of(const struct mixture *mixture, size_t i)
{
    return &mixture->sites[i < mixture->n_sites ? i : mixture->n_sites - 1];
}

/* A random order of all blocks, in bursts. */
static size_t shuffle(const struct mixture *mixture, size_t n_sites)
{
    static uint8_t bursts[MOST_BLOCKS];
    size_t n = 0, n_bursts = 0;
    for (size_t s = 0; s < n_sites; s++) {
        uint32_t burst = site_of(mixture, s)->burst ? site_of(mixture, s)->burst : 1;
        for (uint32_t i = 0; i < site_of(mixture, s)->blocks / burst; i++)
            bursts[n_bursts++] = (uint8_t)s;
    }
    for (size_t i = n_bursts; i > 1; i--) {
        size_t j = test_below(&sim.seed, i);
        uint8_t other = bursts[j];
        bursts[j] = bursts[i - 1];
        bursts[i - 1] = other;
    }
    for (size_t i = 0; i < n_bursts; i++) {
        uint32_t burst = site_of(mixture, bursts[i])->burst;
        for (uint32_t k = 0; k < (burst ? burst : 1); k++) sim.order[n++] = bursts[i];
    }
    assert(n <= MOST_BLOCKS);
    return n;
}

/* ---- the account -------------------------------------------------------------------- */

static void add(struct tp_site_sums *sums, const struct tp_weight *weight)
{
    sums->samples++;
    sums->blocks += weight->blocks;
    sums->requested_bytes += weight->requested;
    sums->bytes += weight->bytes;
    sums->block_variance += weight->block_variance;
    sums->byte_variance += weight->byte_variance;
}

static void count(
    enum mixture_figure blocks, size_t site, uint64_t bytes, double p, int64_t sign)
{
    struct mixture_truth *truth = &sim.run.truth[site];
    truth->figure[blocks] += sign;
    truth->figure[blocks + 1] += sign * (int64_t)bytes;
    truth->expected[blocks] += (double)sign * p;
    truth->expected[blocks + 1] += (double)sign * p;
}

static uint64_t usable(uint64_t bytes)
{
    if (bytes > TP_POOL_MAX) return (bytes + 4095) & ~(uint64_t)4095;
    return tp_class_bytes(tp_class_of(bytes));
}

static unsigned class_of(uint64_t bytes)
{
    return bytes > TP_POOL_MAX ? TP_FORMAT_LARGE : tp_class_of(bytes);
}

/* A block dies: on the books, and in its site when it was sampled. */
static void die(
    size_t site, uint64_t bytes, double p, uint32_t row, const struct tp_weight *weight)
{
    unsigned class = class_of(bytes);
    sim.run.slot.frees[class]++;
    if (class == TP_FORMAT_LARGE) sim.run.slot.large_freed_bytes += bytes;
    count(MIXTURE_LIVE_BLOCKS, site, bytes, p, -1);
    sim.live -= (int64_t)bytes;
    if (!row) return;
    add(&sim.run.rows[row].freed, weight);
    sim.sampled_live -= (double)weight->blocks / TP_FORMAT_ONE * (double)bytes;
}

static size_t thread_of(const struct mixture *mixture)
{
    if (mixture->threads <= 1) return 0;
    if (mixture->equal_seeds) return sim.turn++ % mixture->threads;
    return test_below(&sim.seed, mixture->threads);
}

/* A block that was not sampled has row 0. */
static uint32_t take(const struct mixture *mixture, size_t site, uint64_t requested,
    struct tp_weight *out_weight, double *out_p)
{
    uint64_t bytes = usable(requested);
    unsigned class = class_of(bytes);
    sim.run.slot.taken[class].allocations++;
    sim.run.slot.taken[class].requested_bytes += requested;
    if (class == TP_FORMAT_LARGE) sim.run.slot.large_allocated_bytes += bytes;
    sim.live += (int64_t)bytes;

    size_t thread = thread_of(mixture);
    struct tp_sampler *sampler = &sim.samplers[thread];
    uint64_t interval = sampler->interval;
    *out_p = mixture->exact ? 1 : -expm1(-(double)bytes / (double)interval);
    count(MIXTURE_ALLOCATIONS, site, bytes, *out_p, 1);
    count(MIXTURE_LIVE_BLOCKS, site, bytes, *out_p, 1);
    sampler->to_sample -= (int64_t)bytes;
    bool hit = mixture->exact || sampler->to_sample < 0;
    if (!hit) return 0;
    bool large = class == TP_FORMAT_LARGE;
    *out_weight = mixture->exact ? tp_weight_one(bytes, requested, large)
                                 : tp_poisson_weight(interval, bytes, requested, large);
    if (mixture->adapt)
        tp_poisson_next(sampler, mixture->interval, sim.now, TICKS_PER_MS);
    else
        tp_poisson_arm(sampler, mixture->interval);

    uint32_t row = (uint32_t)(site * MIXTURE_CLASSES + class) + 1;
    struct tp_site_record *record = &sim.run.rows[row];
    record->node = (uint32_t)site + 1;
    record->class = (uint16_t) class;
    record->used = 1;
    add(&record->taken, out_weight);
    double w = (double)out_weight->blocks / TP_FORMAT_ONE;
    sim.run.weights[site][0] += w;
    sim.run.weights[site][1] += w * (double)bytes;
    sim.run.raw[site][0] += 1;
    sim.run.raw[site][1] += (double)bytes;
    sim.sampled_live += w * (double)bytes;
    sim.run.sampled_peak = fmax(sim.run.sampled_peak, sim.sampled_live);
    return row;
}

/* ---- the run --------------------------------------------------------------------- */

/* Every row copies its live figures, as it does when it changes after a peak. */
static void remember_peak(void)
{
    for (size_t i = 0; i < MIXTURE_ROWS; i++) {
        struct tp_site_record *record = &sim.run.rows[i];
        record->peak = 1;
        record->peak_blocks = record->taken.blocks;
        record->peak_bytes = record->taken.bytes;
        record->peak_block_variance = record->taken.block_variance;
        record->peak_byte_variance = record->taken.byte_variance;
    }
    for (size_t s = 0; s < MIXTURE_SITES; s++) {
        struct mixture_truth *truth = &sim.run.truth[s];
        truth->figure[MIXTURE_PEAK_BYTES] = truth->figure[MIXTURE_LIVE_BYTES];
        truth->expected[MIXTURE_PEAK_BYTES] = truth->expected[MIXTURE_LIVE_BYTES];
    }
    sim.run.sampling.peak = 1;
    sim.run.sampling.peak_bytes = (uint64_t)sim.live;
}

static void first_half_ends(const struct mixture *mixture)
{
    remember_peak();
    size_t held = 0;
    for (size_t i = 0; i < sim.n_blocks; i++) {
        size_t site = sim.blocks[i].site;
        bool sampled = sim.blocks[i].interval >> 63;
        size_t sample = sampled ? held++ : 0;
        if (uniform() >= site_of(mixture, site)->dies) continue;
        double interval = (double)(sim.blocks[i].interval << 1 >> 1);
        uint64_t bytes = sim.blocks[i].bytes;
        double p = mixture->exact ? 1 : -expm1(-(double)bytes / interval);
        die(site, bytes, p, sampled ? sim.held[sample].row : 0,
            sampled ? &sim.held[sample].weight : NULL);
    }
}

static void one_block(const struct mixture *mixture, size_t i, size_t n)
{
    size_t site = sim.order[i];
    uint64_t requested = size_of(site_of(mixture, site)), bytes = usable(requested);
    uint64_t interval = sim.samplers[0].interval;
    double p = 0;
    struct tp_weight weight = { 0 };
    // By turns as many bytes as 16 intervals a millisecond, and a twentieth of one.
    bool fast = i * SPELLS / n % 2 == 0;
    double ms = (double)bytes / (double)mixture->interval / (fast ? 16 : 0.05);
    sim.now += 1 + (uint64_t)(ms * TICKS_PER_MS);
    uint32_t row = take(mixture, site, requested, &weight, &p);
    if (i < n / 2) {
        sim.blocks[sim.n_blocks].bytes = bytes;
        sim.blocks[sim.n_blocks].site = (uint32_t)site;
        sim.blocks[sim.n_blocks++].interval = interval | (uint64_t)(row > 0) << 63;
        if (!row) return;
        sim.held[sim.n_held].row = row;
        sim.held[sim.n_held++].weight = weight;
    } else if (uniform() < site_of(mixture, site)->dies) {
        die(site, bytes, p, row, &weight);
    }
}

static void begin(const struct mixture *mixture, uint64_t seed)
{
    memset(&sim.run, 0, sizeof(sim.run));
    memset(sim.samplers, 0, sizeof(sim.samplers));
    sim.seed = seed;
    sim.n_held = sim.n_blocks = sim.turn = 0;
    sim.live = 0;
    sim.sampled_live = 0;
    sim.now = 1;
    uint64_t seed_of_first = 0;
    for (size_t t = 0; t < MIXTURE_THREADS; t++) {
        bool equal = mixture->equal_seeds && t > 0;
        sim.samplers[t].generator = equal ? seed_of_first : test_random(&sim.seed) | 1;
        if (t == 0) seed_of_first = sim.samplers[0].generator;
        tp_poisson_arm(&sim.samplers[t], mixture->interval);
    }
    for (unsigned c = 0; c < TP_FORMAT_POOL_CLASSES; c++)
        sim.run.classes[c].size_bytes = tp_class_bytes(c);
}

struct mixture_run *mixture_run(const struct mixture *mixture, uint64_t seed)
{
    struct mixture_run *run = &sim.run;
    begin(mixture, seed);
    run->n_sites = mixture->n_sites + mixture->same;
    assert(run->n_sites < MIXTURE_SITES);
    size_t n = shuffle(mixture, run->n_sites);
    for (size_t i = 0; i < n; i++) {
        if (i == n / 2) first_half_ends(mixture);
        one_block(mixture, i, n);
    }
    bool later = sim.live > (int64_t)run->sampling.peak_bytes;
    for (size_t s = 0; later && s < run->n_sites; s++) {
        struct mixture_truth *truth = &run->truth[s];
        truth->figure[MIXTURE_PEAK_BYTES] = truth->figure[MIXTURE_LIVE_BYTES];
        truth->expected[MIXTURE_PEAK_BYTES] = truth->expected[MIXTURE_LIVE_BYTES];
    }
    run->live_bytes = sim.live;
    run->peak_bytes = later ? sim.live : (int64_t)run->sampling.peak_bytes;
    run->sampling.mode = mixture->exact ? TP_SAMPLING_EXACT : TP_SAMPLING_SAMPLED;
    run->sampling.interval_bytes = mixture->interval;
    return run;
}
