/* SPDX-License-Identifier: MIT */
/*
 * quantile.c - the ends of intervals: quantiles of a gamma distribution.
 *
 * Idea: few samples are Poisson, so what they tell is a gamma distribution; many are
 * normal, and a gamma distribution of a large shape is. A belief with three cumulants
 * is taken as a shifted gamma distribution (Pearson's type III), mirrored when its long
 * tail is below: one formula from a single sample to a million.
 *
 * Knows nothing of: samples, sites.
 */
#include "report/sites.h"

#include <float.h>
#include <math.h>
#include <pthread.h>

enum {
    TERMS = 400,       // of the series and the fraction, many more than are needed
    STEPS = 200,       // of the search: halving alone would do
    SHAPE_MANY = 400,  // from here on the closed formula is good to 1e-5
    GRID = 1024,       // steps of the table
};

static const double NORMAL = 1.9599639845400545;  // 97.5 % of a normal one

/*
 * The regularised incomplete gamma function P(a, x): by its series below a + 1, by the
 * continued fraction of 1 - P (evaluated as Lentz does) above; DLMF 8.11.4 and 8.9.2.
 */
static double lower_gamma(double a, double x)
{
    if (x <= 0) return 0;
    double front = exp(a * log(x) - x - lgamma(a));
    if (x < a + 1) {
        double term = 1 / a, sum = term;
        for (int k = 1; k < TERMS && term > sum * DBL_EPSILON; k++)
            sum += term *= x / (a + k);
        return fmin(front * sum, 1);
    }
    double b = x + 1 - a, c = 1 / DBL_MIN, d = 1 / b, product = d;
    for (int k = 1; k < TERMS; k++) {
        double numerator = -k * (k - a);
        b += 2;
        d = numerator * d + b;
        c = b + numerator / c;
        if (fabs(d) < DBL_MIN) d = DBL_MIN;
        if (fabs(c) < DBL_MIN) c = DBL_MIN;
        d = 1 / d;
        product *= c * d;
        if (fabs(c * d - 1) < 4 * DBL_EPSILON) break;
    }
    return fmax(1 - front * product, 0);
}

/* The quantile of a standard normal distribution; Newton from a first guess. */
static double normal_quantile(double p)
{
    if (p == 0.975) return NORMAL;
    if (p == 0.025) return -NORMAL;
    double z = p < 0.5 ? -1 : 1;
    for (int i = 0; i < STEPS; i++) {
        double error = 0.5 * erfc(-z * M_SQRT1_2) - p;
        double step = error * sqrt(2 * M_PI) * exp(z * z / 2);
        step = fmax(fmin(step, 0.5), -0.5);
        z -= step;
        if (fabs(step) < 1e-14) break;
    }
    return z;
}

/* Wilson and Hilferty (1931): the cube root of a gamma variable is nearly normal. */
static double cube_of_normal(double shape, double p)
{
    double root = 1 - 1 / (9 * shape) + normal_quantile(p) / (3 * sqrt(shape));
    return root > 0 ? shape * root * root * root : 0;
}

double tp_gamma_quantile(double shape, double p)
{
    double x = cube_of_normal(shape, p);
    if (shape >= SHAPE_MANY) return x;
    // Near 0 the distribution is x^a / (a gamma(a)): the guess for small shapes.
    double small = exp((log(p) + lgamma(shape + 1)) / shape);
    if (small < 1e-9) return small;  // what is left out there is as small
    if (!(x > 0) || shape < 1) x = fmin(small, shape + 1);
    if (!(x > DBL_MIN)) return 0;

    double low = 0, high = DBL_MAX;
    for (int i = 0; i < STEPS; i++) {
        double error = lower_gamma(shape, x) - p;
        if (error > 0)
            high = x;
        else
            low = x;
        double density = exp((shape - 1) * log(x) - x - lgamma(shape));
        double next = x - error / density;
        bool inside = next > low && next < high;  // false of what is not a number, too
        if (!inside) next = high < DBL_MAX ? (low + high) / 2 : 2 * x + 1;
        bool settled = fabs(next - x) <= 1e-10 * x;
        x = next;
        if (settled || !(x > DBL_MIN)) break;
    }
    return x;
}

double tp_belief_quantile(const struct tp_belief *belief, double p)
{
    double deviation = sqrt(belief->variance), tail = belief->third;
    if (!(deviation > 0)) return belief->mean;
    double skew = tail / (deviation * deviation * deviation), shape = 4 / (skew * skew);
    if (!(shape < 1e8)) return belief->mean + deviation * normal_quantile(p);
    double scale = tail / (2 * belief->variance);  // negative: the tail is below
    double x = tp_gamma_quantile(shape, scale > 0 ? p : 1 - p);
    return belief->mean + scale * (x - shape);
}

/* ---- the ends of intervals ------------------------------------------------------------ */

/*
 * The two quantiles of the distribution with mean 0, variance 1 and a skewness of
 * 2 t / (1 - t), for t = 0, 1 / GRID ... : a million sites want ten million of them.
 */
static struct {
    pthread_once_t once;
    double ends[2][GRID];
} table = { .once = PTHREAD_ONCE_INIT };

static void fill_table(void)
{
    for (int i = 0; i < GRID; i++) {
        double t = (double)i / GRID, skew = 2 * t / (1 - t);
        struct tp_belief belief = { 0, 1, skew };
        table.ends[0][i] = tp_belief_quantile(&belief, 0.025);
        table.ends[1][i] = tp_belief_quantile(&belief, 0.975);
    }
}

double tp_belief_end(const struct tp_belief *belief, bool upper)
{
    double deviation = sqrt(belief->variance);
    double skew = fabs(belief->third) / (deviation * deviation * deviation);
    double at = skew / (skew + 2) * GRID;
    bool listed = at < GRID - 1;  // false of what is not a number, too
    if (!(deviation > 0) || !listed)
        return tp_belief_quantile(belief, upper ? 0.975 : 0.025);
    pthread_once(&table.once, fill_table);
    bool mirrored = belief->third < 0;
    const double *ends = table.ends[upper != mirrored];
    int i = (int)at;
    double end = ends[i] + (at - i) * (ends[i + 1] - ends[i]);
    return belief->mean + (mirrored ? -end : end) * deviation;
}
