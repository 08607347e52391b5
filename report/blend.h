/* SPDX-License-Identifier: MIT */
/*
 * blend.h - samples of unlike weights, sorted by weight.
 *
 * Idea: samples of one weight are Poisson. Where weights differ (the interval grew, blocks
 * of many sizes) a few heavy samples decide, and who has none of them by chance looks more
 * certain than he is. So samples are sorted into steps of about one weight, each of which
 * is Poisson, and how many heavy ones a site might have had is told by all sites together.
 *
 * Holds always: a blend of sane sums is finite.
 *
 * Knows nothing of: sites, dumps.
 */
#ifndef TP_REPORT_BLEND_H
#define TP_REPORT_BLEND_H

#include "report/cells.h"
#include "report/sites.h"

enum { TP_BLEND_STEPS = 64 };  // octaves of the weight in the unit of a figure

struct tp_blend {
    int begin;  // steps outside of begin .. end - 1 are empty
    int end;
    double samples[TP_BLEND_STEPS];
    double sum[TP_BLEND_STEPS];       // of weights
    double variance[TP_BLEND_STEPS];  // of those sums
    double third[TP_BLEND_STEPS];     // and third central moment
};

/* Makes it empty again. Needs: it was empty once, all zero. */
void tp_blend_clear(struct tp_blend *blend);

/*
 * Adds the samples of blocks of one size, which weigh `unit` each (1, or their bytes) and
 * have at least the weight `lightest`.
 */
void tp_blend_add(
    struct tp_blend *blend, const struct tp_sums *sums, double lightest, double unit);

/*
 * The same in bytes, for large blocks, which are of many sizes: the heavy samples are taken
 * to be of the size that gives their variance. All is multiplied by `factor`.
 */
void tp_blend_add_bytes(
    struct tp_blend *blend, const struct tp_sums *sums, double factor);

/*
 * How many samples `sums` are of, when weights differ as they do in `like`, of which they
 * are a part: for sums whose number is not on record.
 */
double tp_blend_count(
    const struct tp_sums *sums, const struct tp_sums *like, double lightest);

/* What part of the sums, or of their variance, is `own`. */
double tp_blend_share(const struct tp_blend *own, const struct tp_blend *whole);
double tp_blend_part_of_variance(
    const struct tp_blend *own, const struct tp_blend *whole);

/*
 * What a part and the rest might have besides, in each step: half a sample, and as many
 * as were to be expected there but not met, which make the figure uncertain and do not
 * move it. The factors say how lopsided the chance is, 1 where all weigh alike.
 */
struct tp_halves {
    double own[TP_BLEND_STEPS];
    double rest[TP_BLEND_STEPS];
    double own_missed[TP_BLEND_STEPS];
    double rest_missed[TP_BLEND_STEPS];
    double own_skew;
    double rest_skew;
    double own_grain;  // the mean of the weights without one block
    double rest_grain;
};

/*
 * Fills the halves of `n` groups, of which a site has `own` and all sites have `whole`, in
 * the steps of the latter: half a sample among all of them. Needs: n <= TP_FORMAT_CLASSES. Few are heavier than `heaviest` (without one block,
 * in the unit of the figure; INFINITY: no limit).
 */
void tp_blend_halves(struct tp_halves *halves, const struct tp_blend *own,
    const struct tp_blend *whole, size_t n, double heaviest);

/*
 * What is believed of a part `own` of `whole`, which adds up to `total`. `value` is what
 * the part was given: the mean where all is certain, or the calibration moved it.
 */
struct tp_belief tp_blend_believe(const struct tp_blend *own,
    const struct tp_blend *whole, const struct tp_halves *halves, double total,
    double value, enum tp_calibration how);

#endif
