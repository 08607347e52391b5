/* SPDX-License-Identifier: MIT */
/*
 * latency.c - histograms of ticks become times.
 *
 * Idea: a bucket is a quarter of an octave, so a percentile read off its edge could be
 * 25 % wrong; samples are taken to lie evenly in their bucket and the value is
 * interpolated. Sums are kept in doubles where a hostile file could overflow them.
 *
 * Knows nothing of: files, output.
 */
#include "report/model.h"

#include <string.h>

double tp_latency_tick_ns(const struct tp_dump *dump)
{
    uint64_t ns = dump->header.monotonic_ns - dump->process.start_monotonic_ns;
    uint64_t ticks = dump->header.ticks - dump->process.start_ticks;
    if (dump->header.monotonic_ns <= dump->process.start_monotonic_ns ||
        dump->header.ticks <= dump->process.start_ticks)
        return 1.0;
    return (double)ns / (double)ticks;
}

double tp_latency_frame_ns(const struct tp_dump *dump)
{
    const struct tp_sampling_record *sampling = &dump->sampling;
    if (!sampling->frames_timed) return 0;
    double ns = (double)sampling->walk_ticks * tp_latency_tick_ns(dump);
    return ns / (double)sampling->frames_timed;
}

/* First tick of bucket b; the inverse of the formula in the format. */
static double bucket_begin(size_t b)
{
    if (b < 4) return (double)b;
    return (double)((4 + (uint64_t)b % 4) << (b / 4 - 1));
}

static double clamp(double value, double low, double high)
{
    if (value < low) return low;
    return value > high ? high : value;
}

double tp_latency_quantile(const struct tp_latency_record *record, double q)
{
    double samples = 0;
    for (size_t b = 0; b < TP_FORMAT_BUCKETS; b++)
        samples += (double)record->buckets[b];
    double min = (double)record->min_ticks;
    double max = (double)record->max_ticks;
    if (samples <= 0 || max < min) return max;

    double rank = q * samples;
    for (size_t b = 0; b < TP_FORMAT_BUCKETS; b++) {
        double here = (double)record->buckets[b];
        if (here > 0 && rank <= here) {
            double begin = bucket_begin(b);
            double end = b + 1 < TP_FORMAT_BUCKETS ? bucket_begin(b + 1) : max;
            return clamp(begin + (end - begin) * (rank / here), min, max);
        }
        rank -= here;
    }
    return max;
}

/* Adds `from` to `to`, both in use; sums stop at their largest value. */
static void merge(struct tp_latency_record *to, const struct tp_latency_record *from)
{
    if (__builtin_add_overflow(to->count, from->count, &to->count))
        to->count = UINT64_MAX;
    if (__builtin_add_overflow(to->total_ticks, from->total_ticks, &to->total_ticks))
        to->total_ticks = UINT64_MAX;
    if (from->min_ticks < to->min_ticks) to->min_ticks = from->min_ticks;
    if (from->max_ticks > to->max_ticks) to->max_ticks = from->max_ticks;
    for (size_t b = 0; b < TP_FORMAT_BUCKETS; b++)
        if (__builtin_add_overflow(to->buckets[b], from->buckets[b], &to->buckets[b]))
            to->buckets[b] = UINT64_MAX;
}

static uint64_t whole(double value)
{
    if (!(value > 0)) return 0;
    return value < 9e18 ? (uint64_t)(value + 0.5) : (uint64_t)9e18;
}

static void settle(struct tp_latency *out, const struct tp_latency_record *record,
    double tick_ns, uint64_t duration_ns)
{
    memset(out, 0, sizeof(*out));
    memcpy(out->operation, record->name, TP_FORMAT_NAME);
    out->count = record->count;
    out->total_ns = whole((double)record->total_ticks * tick_ns);
    out->average_ns =
        whole((double)record->total_ticks * tick_ns / (double)record->count);
    out->min_ns = whole((double)record->min_ticks * tick_ns);
    out->p50_ns = whole(tp_latency_quantile(record, 0.5) * tick_ns);
    out->p99_ns = whole(tp_latency_quantile(record, 0.99) * tick_ns);
    out->p999_ns = whole(tp_latency_quantile(record, 0.999) * tick_ns);
    out->max_ns = whole((double)record->max_ticks * tick_ns);
    if (duration_ns)
        out->per_second = (double)record->count * 1e9 / (double)duration_ns;
}

size_t tp_latency_build(struct tp_latency rows[TP_LATENCY_NAMES],
    const struct tp_dump *dump, uint64_t duration_ns)
{
    struct tp_latency_record merged[TP_LATENCY_NAMES];
    size_t n = 0;
    for (size_t i = 0; i < dump->n_latency; i++) {
        const struct tp_latency_record *record = &dump->latency[i];
        if (record->count == 0) continue;
        size_t at = 0;
        while (at < n && strncmp(merged[at].name, record->name, TP_FORMAT_NAME) != 0)
            at++;
        if (at < n)
            merge(&merged[at], record);
        else if (n < TP_LATENCY_NAMES)
            merged[n++] = *record;
    }
    double tick_ns = tp_latency_tick_ns(dump);
    for (size_t i = 0; i < n; i++) settle(&rows[i], &merged[i], tick_ns, duration_ns);
    return n;
}
