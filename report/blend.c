/* SPDX-License-Identifier: MIT */
/*
 * blend.c - samples of unlike weights, sorted by weight.
 *
 * Of one sample that stands for w blocks of the size u:
 *     grain g = (w - 1) u;  variance w (w - 1) u^2;  third w (w - 1) (2 w - 1) u^3.
 * The samples of one step are Poisson; a site's figure is the sum over steps, a compound
 * Poisson number x. Its interval holds the figures N for which x is not unlikely. With
 * m1, m2, m3 the sums of g, g^2, g^3 over samples that a site has or was likely to have,
 * g = m2 / m1 and c = m3 / m2, the expansion of Cornish and Fisher (1938), solved for N, is
 * that of a distribution with
 *     mean x + g / 2,  variance g x,  third (3 g - c) g x.
 * Where all weigh the same this is the gamma distribution of shape k + 1/2 (Jeffreys).
 * Where the weights are known from the site's own samples only, the third would be 2 c:
 * intervals of mixed sizes then began too high (12 % instead of 2.5 missed below).
 * A part and the rest of a known whole are two such; the share of the two is about beta
 * distributed. Cumulants add over groups (as for weighted sums of Poisson numbers: Fay
 * and Feuer 1997).
 */
#include "report/blend.h"

#include <math.h>

/* As fmax() and fmin(), but one instruction; what is not a number is left out if first. */
static inline double larger(double a, double b)
{
    return a > b ? a : b;
}

static inline double smaller(double a, double b)
{
    return a < b ? a : b;
}

void tp_blend_clear(struct tp_blend *blend)
{
    for (int i = blend->begin; i < blend->end; i++)
        blend->samples[i] = blend->sum[i] = blend->variance[i] = blend->third[i] = 0;
    blend->begin = blend->end = 0;
}

/* The step will not be empty. */
static void open_step(struct tp_blend *blend, int step)
{
    blend->begin = blend->end > 0 && blend->begin < step ? blend->begin : step;
    blend->end = blend->end > step ? blend->end : step + 1;
}

static void add_at(struct tp_blend *blend, double samples, double weight, double unit)
{
    if (!(samples > 0)) return;
    int step = (int)smaller(log2(1 + (weight - 1) * unit), TP_BLEND_STEPS - 1);
    open_step(blend, step);
    blend->samples[step] += samples;
    blend->sum[step] += samples * weight * unit;
    double variance = samples * weight * (weight - 1) * unit * unit;
    blend->variance[step] += variance;
    blend->third[step] += variance * (2 * weight - 1) * unit;
}

struct two {
    double light_samples;
    double light;
    double heavy_samples;
    double heavy;
};

/*
 * Of the samples only their number, the sum of their weights and that of the squares are
 * known. The heavy ones among them are taken to be alike: what is above the lightest
 * weight, and its square, tell their number and weight.
 */
static struct two two_weights(const struct tp_sums *sums, double lightest)
{
    double k = sums->samples, x = sums->blocks, q = sums->block_variance + x;
    double mean = larger(x / k, 1), light = smaller(larger(lightest, 1), mean);
    double above = x - k * light, above2 = q - 2 * light * x + k * light * light;
    struct two two = { .light_samples = k, .light = mean };
    if (!(above > 1e-3 * (x - k)) || !(above2 > 0)) return two;
    double heavy = above * above / above2;
    if (heavy > k) return two;  // rounded, or of a file that lies
    return (struct two){ k - heavy, light, heavy, light + above2 / above };
}

void tp_blend_add(
    struct tp_blend *blend, const struct tp_sums *sums, double lightest, double unit)
{
    if (!(sums->samples > 0) || !(sums->blocks > 0)) return;
    struct two two = two_weights(sums, lightest);
    add_at(blend, two.light_samples, two.light, unit);
    add_at(blend, two.heavy_samples, two.heavy, unit);
    // Weights next to 1 round to it, their variance does not.
    if (two.heavy_samples > 0 || two.light > 1) return;
    open_step(blend, 0);
    blend->variance[0] += sums->block_variance * unit * unit;
    blend->third[0] += sums->block_variance * unit * unit * unit;
}

double tp_blend_count(
    const struct tp_sums *sums, const struct tp_sums *like, double lightest)
{
    if (!(like->samples > 0) || !(like->blocks > 0) || !(sums->blocks > 0)) return 0;
    struct two two = two_weights(like, lightest);
    if (!(two.heavy_samples > 0)) return sums->blocks / two.light;
    double above = sums->block_variance + sums->blocks - two.light * sums->blocks;
    double heavy = larger(above, 0) / (two.heavy * (two.heavy - two.light));
    heavy = smaller(heavy, sums->blocks / two.heavy);
    return heavy + (sums->blocks - heavy * two.heavy) / two.light;
}

void tp_blend_add_bytes(
    struct tp_blend *blend, const struct tp_sums *sums, double factor)
{
    if (!(sums->samples > 0) || !(sums->bytes > 0)) return;
    struct two two = two_weights(sums, 1);
    if (!(two.heavy_samples > 0))
        two = (struct two){ 0, 1, two.light_samples, two.light };
    double heavy = two.heavy_samples * two.heavy;
    double chance = heavy * (two.heavy - 1);
    double size = chance > 0 ? sqrt(sums->byte_variance / chance) : 0;
    size = smaller(size, sums->bytes / heavy);
    add_at(blend, two.heavy_samples, two.heavy, size * factor);
    double certain = sums->bytes - heavy * size;
    if (!(certain > 0)) return;
    open_step(blend, 0);
    if (!(chance > 0)) {
        double variance = sums->byte_variance * factor * factor;
        blend->variance[0] += variance;
        blend->third[0] += variance * certain * factor / two.heavy_samples;
    }
    blend->samples[0] += chance > 0 ? two.light_samples : two.heavy_samples;
    blend->sum[0] += certain * factor;
}

/* ---- belief ---- */

struct sums {
    double sum;
    double found;  // variance of what was found, not scaled
    double variance;
    double third;
};

static double sum_of(const struct tp_blend *blend)
{
    double sum = 0;
    for (int i = blend->begin; i < blend->end; i++) sum += blend->sum[i];
    return sum;
}

static double variance_of(const struct tp_blend *blend)
{
    double sum = 0;
    for (int i = blend->begin; i < blend->end; i++) sum += blend->variance[i];
    return sum;
}

/* What one side has of a step, and what it might have besides. */
struct side {
    double sum;
    double variance;
    double half;
    double missed;
    double grain;  // of what it is likely to have, in all steps
};

/*
 * `scale` is what the step is worth now that the total is known. The half sample is one of
 * the mean weight (so the expansion) as much as one drawn from those likely (so a Bayesian):
 * with the first alone adapted intervals cover 1 % less.
 */
static void add_step(struct sums *to, const struct tp_blend *whole, int i,
    const struct side *side, double scale)
{
    double grain = whole->variance[i] / whole->sum[i];
    double likely = (side->grain + grain) / 2;
    double variance =
        side->variance + (side->half * likely + side->missed * grain) * grain;
    to->sum += side->sum + side->half * grain;
    to->found += variance;
    to->variance += variance * scale * scale;
    if (variance > 0)
        to->third +=
            scale * scale * scale * variance * whole->third[i] / whole->variance[i];
}

double tp_blend_part_of_variance(
    const struct tp_blend *own, const struct tp_blend *whole)
{
    double variance = variance_of(whole);
    return variance > 0 ? smaller(variance_of(own) / variance, 1) : 0;
}

double tp_blend_share(const struct tp_blend *own, const struct tp_blend *whole)
{
    double sum = sum_of(whole);
    return sum > 0 ? smaller(sum_of(own) / sum, 1) : 0;
}

/* How open it is whose the samples are: a site that has them all may not have had more. */
static double openness(const struct tp_blend *own, const struct tp_blend *whole)
{
    return 1 - tp_blend_share(own, whole) + 1e-6;
}

/*
 * Of `k` samples of one weight, as many as the other weights let expect (`expected`): the
 * mean of a gamma distribution of shape 1 and that mean, after k. Only upwards: a site
 * may well be unlike the others.
 */
static double missed_of(double k, double expected)
{
    return larger((k + 1) * expected / (expected + 1) - k, 0);
}

struct moments {  // of the weights of likely samples
    double first;
    double second;
    double third;
};

static void add_moment(struct moments *to, double samples, double grain)
{
    to->first += samples * grain;
    to->second += samples * grain * grain;
    to->third += samples * grain * grain * grain;
}

static double half_of(const struct moments *moments, double samples, double grain)
{
    return moments->first > 0 ? samples * grain / moments->first / 2 : 0;
}

static double mean_grain(const struct moments *moments)
{
    return moments->first > 0 ? moments->second / moments->first : 0;
}

/* See the head of this file: (3 g - c) / 2 c. */
static double skew_of(const struct moments *m)
{
    if (!(m->third > 0)) return 1;
    return 1.5 * (m->second / m->first) * (m->second / m->third) - 0.5;
}

static double grain_of(const struct tp_blend *whole, int step)
{
    if (!(whole->samples[step] > 0) || !(whole->sum[step] > 0)) return 0;
    return whole->variance[step] / whole->sum[step];
}

static double rest_of(
    const struct tp_blend *own, const struct tp_blend *whole, int step)
{
    return larger(whole->samples[step] - own->samples[step], 0);
}

void tp_blend_halves(struct tp_halves *halves, const struct tp_blend *own,
    const struct tp_blend *whole, size_t n, double heaviest)
{
    double all = 0, mine = 0, steps[TP_BLEND_STEPS] = { 0 },
           open[TP_BLEND_STEPS] = { 0 }, opens[TP_FORMAT_CLASSES];
    for (size_t g = 0; g < n; g++) {
        double openly = opens[g] = openness(&own[g], &whole[g]);
        for (int i = whole[g].begin; i < whole[g].end; i++) {
            mine += own[g].samples[i];
            all += whole[g].samples[i];
            steps[i] += whole[g].samples[i];
            open[i] += whole[g].samples[i] * openly;
        }
    }
    // Who has no sample is taken to have been about to get one, by half.
    double share = smaller(larger(mine, 0.5) / all, 1);
    double others = smaller(larger(all - mine, 0.5) / all, 1);
    struct moments own_moments = { 0 }, rest_moments = { 0 };
    for (size_t g = 0; g < n; g++) {
        double openly = opens[g];
        for (int i = whole[g].begin; i < whole[g].end; i++) {
            double k = own[g].samples[i], grain = grain_of(&whole[g], i);
            halves[g].own_missed[i] = halves[g].rest_missed[i] = 0;
            if (!(grain > 0)) continue;
            double fits = grain > heaviest ? heaviest / grain : 1;
            double part = whole[g].samples[i] * openly / open[i];
            double rest = rest_of(&own[g], &whole[g], i);
            struct tp_halves *to = &halves[g];
            to->own_missed[i] = fits * missed_of(k, share * steps[i] * part);
            to->rest_missed[i] = missed_of(rest, others * whole[g].samples[i]);
            add_moment(&own_moments, k + to->own_missed[i], grain);
            add_moment(&rest_moments, rest + to->rest_missed[i], grain);
        }
    }
    for (size_t g = 0; g < n; g++) {
        struct tp_halves *to = &halves[g];
        to->own_skew = skew_of(&own_moments);
        to->rest_skew = skew_of(&rest_moments);
        to->own_grain = mean_grain(&own_moments);
        to->rest_grain = mean_grain(&rest_moments);
        for (int i = whole[g].begin; i < whole[g].end; i++) {
            double grain = grain_of(&whole[g], i);
            double mine_here = own[g].samples[i] + to->own_missed[i];
            double rest = rest_of(&own[g], &whole[g], i) + to->rest_missed[i];
            to->own[i] = half_of(&own_moments, mine_here, grain);
            to->rest[i] = half_of(&rest_moments, rest, grain);
        }
    }
}

/*
 * Where nearly every block is sampled the variance says "hardly any was missed", but the
 * counters know how many were: whose they are is open.
 */
static void allow_missed(
    struct tp_belief *belief, const struct tp_blend *whole, double total)
{
    // Third moment and variance of a sample are 2 grain + one block apart.
    double chance = variance_of(whole), blocks = 0;
    for (int i = whole->begin; i < whole->end; i++) {
        if (!(whole->sum[i] > 0)) continue;
        double grain = whole->variance[i] / whole->sum[i];
        blocks += larger(whole->third[i] - 2 * grain * whole->variance[i], 0);
    }
    if (!(chance > 0)) return;
    double missed = (total - sum_of(whole)) * (blocks / chance);
    if (!(missed > chance)) return;
    belief->variance *= missed / chance;
    belief->third *= missed / chance;
}

/* What one block more of the total adds to each unit of grain. */
static double slope_of(
    const struct tp_blend *whole, const struct tp_halves *halves, double total)
{
    double sum = 0, variance = 0;
    for (int i = whole->begin; i < whole->end; i++) {
        double grain = grain_of(whole, i), own = halves->own[i] * grain;
        double rest = halves->rest[i] * grain;
        sum += whole->sum[i] + own + rest;
        variance +=
            whole->variance[i] + own * halves->own_grain + rest * halves->rest_grain;
    }
    return variance > 0 ? (total - sum) / variance : 0;
}

/*
 * Given the total, chance is what it is for as many samples as were found: had there been
 * more of them than there should, each stands for less. Where the total is below their
 * sum only half of that is believed, as the steps are coarse.
 */
static double scale_of(double slope, double grain)
{
    double scale = larger(1 + grain * slope, 0.25);
    return scale < 1 ? sqrt(scale) : scale;
}

struct tp_belief tp_blend_believe(const struct tp_blend *own,
    const struct tp_blend *whole, const struct tp_halves *halves, double total,
    double value, enum tp_calibration how)
{
    double all = sum_of(whole), mine = sum_of(own);
    if (!(all > 0)) return (struct tp_belief){ 0 };
    bool shares = how == TP_CALIBRATE_SHARES;
    double slope = shares ? 0 : slope_of(whole, halves, total);
    struct sums a = { 0 }, b = { 0 };
    for (int i = whole->begin; i < whole->end; i++) {
        if (!(whole->sum[i] > 0)) continue;
        double scale = scale_of(slope, whole->variance[i] / whole->sum[i]);
        struct side ours = { own->sum[i], own->variance[i], halves->own[i],
            halves->own_missed[i], halves->own_grain };
        struct side rest = { larger(whole->sum[i] - own->sum[i], 0),
            larger(whole->variance[i] - own->variance[i], 0), halves->rest[i],
            halves->rest_missed[i], halves->rest_grain };
        add_step(&a, whole, i, &ours, scale);
        add_step(&b, whole, i, &rest, scale);
    }
    a.third *= halves->own_skew;
    b.third *= halves->rest_skew;
    double sum = a.sum + b.sum, both = a.variance + b.variance;
    if (!(both > 0)) return (struct tp_belief){ .mean = value };
    double q = shares ? a.sum / sum : a.variance / both, p = 1 - q;
    double n = sum * sum / (a.found + b.found), factor = shares ? total / sum : 1;
    struct tp_belief belief = {
        .mean = shares
            ? total * q
            : value + p * (a.sum - mine) - q * (b.sum - larger(all - mine, 0)),
        .variance = (p * p * a.variance + q * q * b.variance) * factor * factor,
        .third = (p * p * p * a.third - q * q * q * b.third) * factor * factor * factor,
    };
    if (n < 1e9) {
        belief.variance *= n / (n + 1);
        belief.third *= n * n / ((n + 1) * (n + 2));
    }
    allow_missed(&belief, whole, total);
    return belief;
}
