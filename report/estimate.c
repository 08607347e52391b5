/* SPDX-License-Identifier: MIT */
/*
 * estimate.c - from weights to figures that add up, and the ends of intervals.
 *
 * Figures. The weights of a stratum (one size class, or all large blocks) estimate a
 * sum that the counters know exactly, so they are brought to it (calibration; Deville
 * and Saerndal 1992):
 *   - blocks of one size: all weights are scaled alike (post-stratification), which
 *     leaves only the shares to chance;
 *   - blocks of many sizes: the difference goes to the parts in proportion to their
 *     variance, x + v / V (N - X). Who is certain does not move, nobody falls below
 *     what was seen of him or passes what he can have at most. A difference that cannot
 *     be chance is charged to nobody.
 * Two strata of the same blocks, those that are live and those that were taken, are
 * calibrated apart: of few samples one may say that more is live than was ever taken.
 * So the first sets the least of the second.
 * What is left of rounding down goes to the largest remainders: sums are exact.
 *
 * Beliefs (blend.c) of independent strata add, cumulant by cumulant; quantile.c turns the
 * three into an interval.
 *
 * Knows nothing of: sites, classes, dumps.
 */
#include "report/sites.h"

#include <math.h>
#include <stdlib.h>

enum {
    ROUNDS = 40,  // of bringing parts up to what was seen of them
    CHANCE = 4,   // deviations that a difference may have, and grains besides
};

struct tp_whole tp_estimate_whole(const struct tp_part *parts, size_t n)
{
    struct tp_whole whole = { 0 };
    for (size_t i = 0; i < n; i++) {
        whole.sum += parts[i].sum;
        whole.variance += parts[i].variance;
        if (parts[i].variance > 0) whole.uncertain += parts[i].sum;
    }
    return whole;
}

/* ---- whole numbers ------------------------------------------------------------- */

static int by_remainder(const void *a, const void *b)
{
    const struct tp_part *x = *(struct tp_part *const *)a;
    const struct tp_part *y = *(struct tp_part *const *)b;
    double left = x->wanted - (double)x->value, right = y->wanted - (double)y->value;
    if (left != right) return left > right ? -1 : 1;
    return x < y ? -1 : x > y;
}

/*
 * Brings the `first` parts with the largest remainders to the front, in any order: the
 * whole order, which is a million parts of the peak, would cost more than all the rest.
 * The middle one of three as the border: of what is in order, as of what is alike.
 */
static void select_first(struct tp_part **order, size_t n, size_t first)
{
    while (n > 16 && first > 0 && first < n) {
        struct tp_part *three[3] = { order[0], order[n / 2], order[n - 1] };
        qsort(three, 3, sizeof(three[0]), by_remainder);
        size_t low = 0, high = n - 1;
        for (;;) {
            while (by_remainder(&order[low], &three[1]) < 0) low++;
            while (by_remainder(&order[high], &three[1]) > 0) high--;
            if (low >= high) break;
            struct tp_part *spare = order[low];
            order[low++] = order[high];
            order[high--] = spare;
        }
        size_t front = high + 1;  // none of these comes behind one of the others
        if (first < front) {
            n = front;
        } else {
            order += front;
            n -= front;
            first -= front;
        }
    }
    if (n > 1) qsort(order, n, sizeof(order[0]), by_remainder);
}

/* Where the remainders do not tell, e.g. beyond 2^53: the largest part takes it. */
static void charge_largest(struct tp_part *parts, size_t n, int64_t left)
{
    while (left != 0 && n > 0) {
        struct tp_part *largest = &parts[0];
        for (size_t i = 1; i < n; i++)
            if (parts[i].value > largest->value) largest = &parts[i];
        int64_t change = left < -largest->value ? -largest->value : left;
        if (change == 0) return;
        largest->value += change;
        left -= change;
    }
}

/* Makes `wanted`, none negative, whole numbers that add up to `target`. */
static void make_whole(struct tp_part *parts, size_t n, int64_t target)
{
    int64_t left = target;
    for (size_t i = 0; i < n; i++) {
        double most = (double)target, wanted = parts[i].wanted;
        if (!(wanted > 0)) wanted = 0;
        parts[i].wanted = wanted < most ? wanted : most;
        // (double)target may lie above target.
        parts[i].value = wanted < most ? (int64_t)wanted : target;
        if (parts[i].value > left) parts[i].value = left > 0 ? left : 0;
        left -= parts[i].value;
    }
    struct tp_part **order =
        left > 0 && (size_t)left <= n ? malloc(n * sizeof(struct tp_part *)) : NULL;
    if (!order) {
        charge_largest(parts, n, left);
        return;
    }
    for (size_t i = 0; i < n; i++) order[i] = &parts[i];
    select_first(order, n, (size_t)left);
    for (int64_t i = 0; i < left; i++) order[i]->value++;
    free(order);
}

/* ---- calibration --------------------------------------------------------------- */

static int64_t nearest(double value, int64_t most)
{
    if (!(value > 0)) return 0;
    return value + 0.5 < (double)most ? (int64_t)(value + 0.5) : most;
}

static void scale_all(struct tp_part *parts, size_t n, double factor)
{
    for (size_t i = 0; i < n; i++) parts[i].wanted = parts[i].sum * factor;
}

/* All are scaled alike, but for those that would fall below their least. */
static void scale_to(
    struct tp_part *parts, size_t n, const struct tp_whole *whole, double total)
{
    double sum = whole->sum, factor = 0;
    for (size_t i = 0; i < n; i++) parts[i].wanted = -1;  // still free to move
    bool met = false;
    for (int round = 0; round < ROUNDS && !met; round++) {
        factor = sum > 0 && total > 0 ? total / sum : 0;
        met = true;
        for (size_t i = 0; i < n; i++) {
            struct tp_part *part = &parts[i];
            if (part->wanted >= 0 || !(part->sum * factor < part->least)) continue;
            part->wanted = part->least;
            total -= part->least;
            sum -= part->sum;
            met = false;
        }
    }
    for (size_t i = 0; i < n; i++)
        if (parts[i].wanted < 0) parts[i].wanted = parts[i].sum * factor;
}

static double most_of(const struct tp_part *part)
{
    return part->most > 0 ? part->most : INFINITY;
}

/* x + v / V * difference, but nobody below what is certain, or above his most. */
static void share_out(
    struct tp_part *parts, size_t n, const struct tp_whole *whole, double difference)
{
    double variance = whole->variance;
    for (size_t i = 0; i < n; i++) parts[i].wanted = -1;  // still free to move
    for (int round = 0; round < ROUNDS && variance > 0; round++) {
        bool met = true;
        double fixed_difference = 0, fixed_variance = 0;
        for (size_t i = 0; i < n; i++) {
            struct tp_part *part = &parts[i];
            double most = most_of(part), least = fmin(part->certain, part->sum);
            double moved = part->sum + part->variance / variance * difference;
            if (part->wanted >= 0 || (moved >= least && moved <= most)) continue;
            part->wanted = moved < least ? fmin(least, most) : most;
            fixed_difference += part->wanted - part->sum;
            fixed_variance += part->variance;
            met = false;
        }
        if (met) break;
        difference -= fixed_difference;
        variance -= fixed_variance;
    }
    double left = 0;
    for (size_t i = 0; i < n; i++)
        if (parts[i].wanted < 0) left += parts[i].variance;
    for (size_t i = 0; i < n; i++) {
        struct tp_part *part = &parts[i];
        if (part->wanted >= 0) continue;
        double share = left > 0 ? part->variance / left : 0;
        part->wanted = fmin(fmax(part->sum + share * difference, 0), most_of(part));
    }
}

/* What of a difference may be chance. */
static double by_chance(const struct tp_whole *whole, double difference)
{
    if (!(whole->variance > 0)) return fmin(difference, 0);
    double grain = whole->variance / whole->uncertain;
    return fmin(difference, CHANCE * (sqrt(whole->variance) + grain));
}

int64_t tp_estimate_calibrate(
    struct tp_part *parts, size_t n, int64_t total, enum tp_calibration how)
{
    struct tp_whole whole = tp_estimate_whole(parts, n);
    int64_t target = total;
    scale_all(parts, n, 0);
    if (total <= 0 || !(whole.sum > 0)) {
        make_whole(parts, n, 0);
        return total;
    }
    double difference = (double)total - whole.sum;
    if (!(whole.variance > 0) && difference >= 0) {
        scale_all(parts, n, 1);
        target = nearest(whole.sum, total);
    } else if (how == TP_CALIBRATE_SHARES || !(whole.variance > 0)) {
        scale_to(parts, n, &whole, (double)total);
    } else {
        double chance = by_chance(&whole, difference);
        if (chance < difference) target = nearest(whole.sum + chance, total);
        share_out(parts, n, &whole, chance);
        double sum = 0;
        for (size_t i = 0; i < n; i++) sum += parts[i].wanted;
        // More is certain than there is: no figure is true, the sum has to be.
        if (sum > (double)target + 1)
            for (size_t i = 0; i < n; i++) parts[i].wanted *= (double)target / sum;
        else if (sum < (double)target - 1)
            target = nearest(sum, target);
    }
    make_whole(parts, n, target);
    return total - target;
}

/* ---- beliefs --------------------------------------------------------------------- */

void tp_belief_add(struct tp_belief *to, const struct tp_belief *part, double scale)
{
    to->mean += scale * part->mean;
    to->variance += scale * scale * part->variance;
    to->third += scale * scale * scale * part->third;
}

struct tp_estimate tp_estimate_of(
    const struct tp_belief *belief, int64_t value, double least, double most)
{
    struct tp_estimate estimate = { value, value, value };
    if (!(belief->variance > 0)) return estimate;
    double low = fmax(tp_belief_end(belief, false), fmax(least, 0));
    double high = fmin(tp_belief_end(belief, true), most);
    // Written so that what is not a number changes nothing.
    if (low < (double)value)
        estimate.low = (int64_t)fmin(floor(low + 0.5), (double)value);
    if (high > (double)value)
        estimate.high =
            high < 9e18 ? (int64_t)fmax(floor(high + 0.5), (double)value) : INT64_MAX;
    return estimate;
}
