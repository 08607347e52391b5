/* SPDX-License-Identifier: MIT */
/*
 * blend.c - samples of unlike weights, sorted by weight.
 *
 * A step with k samples of about the weight w is Poisson: what it says of the true figure
 * is a gamma distribution of shape k + 1/2 (Jeffreys' prior: half a sample). A part and the
 * rest of the whole are sums of such, and the share of the two about a beta distribution;
 * the first three cumulants are used, which add over steps (as for weighted sums of Poisson
 * numbers: Fay and Feuer 1997). Of one sample that stands for w blocks of the size u:
 *     grain g = (w - 1) u;  variance w (w - 1) u^2;  third w (w - 1) (2 w - 1) u^3.
 * The half sample must be as heavy as a sample may be that was missed by chance. With half a
 * sample of the mean weight intervals were too narrow where the interval had grown: 82 %
 * instead of 95 %.
 */
#include "report/blend.h"

#include <math.h>
#include <string.h>

static void add_at(struct tp_blend *blend, double samples, double weight, double unit)
{
    if (!(samples > 0)) return;
    int step = (int)fmin(log2(1 + (weight - 1) * unit), TP_BLEND_STEPS - 1);
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
    double mean = fmax(x / k, 1), light = fmin(fmax(lightest, 1), mean);
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
    double heavy = fmax(above, 0) / (two.heavy * (two.heavy - two.light));
    heavy = fmin(heavy, sums->blocks / two.heavy);
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
    size = fmin(size, sums->bytes / heavy);
    add_at(blend, two.heavy_samples, two.heavy, size * factor);
    double certain = sums->bytes - heavy * size;
    if (!(certain > 0)) return;
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
    double variance;
    double third;
};

static double all_of(const double *steps)
{
    double sum = 0;
    for (int i = 0; i < TP_BLEND_STEPS; i++) sum += steps[i];
    return sum;
}

static void add_step(struct sums *to, const struct tp_blend *whole, int i,
    double own_sum, double own_variance, double half)
{
    if (!(whole->sum[i] > 0)) return;
    double grain = whole->variance[i] / whole->sum[i];
    double variance = own_variance + half * grain * grain;
    to->sum += own_sum + half * grain;
    to->variance += variance;
    if (variance > 0) to->third += variance * whole->third[i] / whole->variance[i];
}

static double share_of(const struct tp_blend *own, const struct tp_blend *whole)
{
    double sum = all_of(whole->sum);
    return sum > 0 ? fmin(all_of(own->sum) / sum, 1) : 0;
}

/* How open it is whose the samples are: a site that has them all may not have had more. */
static double openness(const struct tp_blend *own, const struct tp_blend *whole)
{
    return 1 - share_of(own, whole) + 1e-6;
}

/*
 * Jeffreys' half sample, as heavy as those of all: `part` of it belongs to this step. But
 * where `expected` samples were to be expected there, up to half a sample of this weight:
 * a gamma distribution of shape 1/2 and that mean, after none was found.
 */
static double half_sample(double part, double expected)
{
    return fmax(part / 2, expected / (1 + 2 * expected));
}

void tp_blend_halves(struct tp_halves *halves, const struct tp_blend *own,
    const struct tp_blend *whole, size_t n, double heaviest)
{
    double all = 0, mine = 0, steps[TP_BLEND_STEPS] = { 0 },
           open[TP_BLEND_STEPS] = { 0 };
    for (size_t g = 0; g < n; g++) {
        mine += all_of(own[g].samples);
        all += all_of(whole[g].samples);
        for (int i = 0; i < TP_BLEND_STEPS; i++) {
            steps[i] += whole[g].samples[i];
            open[i] += whole[g].samples[i] * openness(&own[g], &whole[g]);
        }
    }
    memset(halves, 0, n * sizeof(halves[0]));
    double share = fmin((mine + 0.5) / (all + 1), 1);
    for (size_t g = 0; g < n; g++) {
        double q = openness(&own[g], &whole[g]);
        for (int i = 0; i < TP_BLEND_STEPS; i++) {
            double k = whole[g].samples[i];
            if (!(k > 0) || !(whole[g].sum[i] > 0)) continue;
            double part = steps[i] / all,
                   grain = whole[g].variance[i] / whole[g].sum[i];
            double fits = grain > heaviest ? heaviest / grain : 1;
            double mine_of = half_sample(part, share * steps[i]);
            halves[g].own[i] = fits * mine_of * k * q / open[i];
            halves[g].rest[i] =
                half_sample(part, (1 - share) * steps[i]) * k / steps[i];
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
    double chance = all_of(whole->variance), blocks = 0;
    for (int i = 0; i < TP_BLEND_STEPS; i++) {
        if (!(whole->sum[i] > 0)) continue;
        double grain = whole->variance[i] / whole->sum[i];
        blocks += fmax(whole->third[i] - 2 * grain * whole->variance[i], 0);
    }
    if (!(chance > 0)) return;
    double missed = (total - all_of(whole->sum)) * (blocks / chance);
    if (!(missed > chance)) return;
    belief->variance *= missed / chance;
    belief->third *= missed / chance;
}

struct tp_belief tp_blend_believe(const struct tp_blend *own,
    const struct tp_blend *whole, const struct tp_halves *halves, double total,
    double value, enum tp_calibration how)
{
    double all = all_of(whole->sum), mine = all_of(own->sum);
    if (!(all > 0)) return (struct tp_belief){ 0 };
    struct sums a = { 0 }, b = { 0 };
    for (int i = 0; i < TP_BLEND_STEPS; i++) {
        add_step(&a, whole, i, own->sum[i], own->variance[i], halves->own[i]);
        add_step(&b, whole, i, fmax(whole->sum[i] - own->sum[i], 0),
            fmax(whole->variance[i] - own->variance[i], 0), halves->rest[i]);
    }
    bool shares = how == TP_CALIBRATE_SHARES;
    double sum = a.sum + b.sum, both = a.variance + b.variance;
    if (!(both > 0)) return (struct tp_belief){ .mean = value };
    double q = shares ? a.sum / sum : a.variance / both, p = 1 - q;
    double n = sum * sum / both, factor = shares ? total / sum : 1;
    struct tp_belief belief = {
        .mean = shares ? total * q
                       : value + p * (a.sum - mine) - q * (b.sum - fmax(all - mine, 0)),
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
