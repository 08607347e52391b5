/* SPDX-License-Identifier: MIT */
/*
 * peak.c - flushes, and what they tell about the peak.
 *
 * The limit B of n threads is 1/(256 n) of the live bytes: the bound on the peak is
 * then 0.8 %, and flushes follow real growth, not traffic. A lone thread needs no
 * bound and flushes seldom.
 */
#include "pool/peak.h"

enum {
    SHARE = 256,
    LEAST_ALONE = 64 * 1024,
    LEAST_TOGETHER = 16 * 1024,
    MOST = 4 * 1024 * 1024,
};

bool tp_peak_every;

static int64_t limit_for(int64_t net, uint32_t running)
{
    if (tp_peak_every) return 0;
    bool several = running > 1;
    int64_t least = several ? LEAST_TOGETHER : LEAST_ALONE;
    int64_t share = several ? net / (SHARE * (int64_t)running) : net / SHARE;
    return tp_min_i64(tp_max_i64(share, least), MOST);
}

static bool raise_to(_Atomic(int64_t) *high, int64_t value)
{
    int64_t seen = atomic_load_explicit(high, memory_order_relaxed);
    while (seen < value)
        if (atomic_compare_exchange_weak_explicit(
                high, &seen, value, memory_order_relaxed, memory_order_relaxed))
            return true;
    return false;
}

static int64_t change_limit(struct tp_counters *counters, int64_t limit)
{
    int64_t change = limit - counters->limit;
    counters->limit = limit;
    counters->width = counters->high + limit;
    return change +
        atomic_fetch_add_explicit(
            &tp_account.totals.slack, change, memory_order_relaxed);
}

/* Changes whenever anyone but a lone thread may have changed G. */
static uint32_t disturbances(void)
{
    struct tp_totals *totals = &tp_account.totals;
    return atomic_load_explicit(&totals->started, memory_order_relaxed) +
        (uint32_t)atomic_load_explicit(&totals->disturbed, memory_order_relaxed);
}

/* `top`: highest net of this epoch; `before` and `after`: G around its flush. */
static void note_peak(
    struct tp_counters *counters, int64_t top, int64_t before, int64_t after)
{
    struct tp_totals *totals = &tp_account.totals;
    uint32_t running = atomic_load_explicit(&totals->running, memory_order_relaxed);
    uint32_t others = disturbances();
    // Without limits nobody's net is outside of G: all are as one.
    bool alone = tp_peak_every ||
        (running <= 1 && counters->state == TP_RUNNING &&
            others == counters->others_seen);
    counters->others_seen = others;

    int64_t slack = change_limit(counters, limit_for(after, running));
    if (alone) {
        raise_to(&totals->peak_single, before + top);
    } else {
        raise_to(&totals->peak_low, after - slack);
        raise_to(&totals->peak_high, tp_max_i64(before + top, after) + slack);
    }
    if (raise_to(&totals->peak_estimate, before + top))
        atomic_store_explicit(&totals->peak_ticks, tp_os_ticks(), memory_order_relaxed);
}

void tp_peak_every_raise(int64_t net)
{
    struct tp_totals *totals = &tp_account.totals;
    raise_to(&totals->peak_single, net);
    if (raise_to(&totals->peak_estimate, net))
        atomic_store_explicit(&totals->peak_ticks, tp_os_ticks(), memory_order_relaxed);
}

/* One addition that everybody sees, and nothing else unless the peak is new. */
static void flush_every(struct tp_counters *counters)
{
    int64_t net = tp_peak_net(counters), top = tp_max_i64(counters->high, net);
    counters->high = counters->room = counters->width = 0;
    if (top > net && top > 0) {  // it was at the top first
        tp_peak_every_add(top);
        net -= top;
    }
    if (net) tp_peak_every_add(net);
}

/*
 * True when all that note_peak() would do is done: a thread that is alone, and neither
 * the peak nor the limit is another. Most flushes of a program with large blocks.
 */
static bool is_noted(struct tp_counters *counters, int64_t top, int64_t after)
{
    struct tp_totals *totals = &tp_account.totals;
    bool alone = counters->state == TP_RUNNING &&
        atomic_load_explicit(&totals->running, memory_order_relaxed) == 1 &&
        counters->others_seen == disturbances();
    bool small = counters->limit == LEAST_ALONE && after < SHARE * LEAST_ALONE;
    if (!alone || (!small && limit_for(after, 1) != counters->limit) ||
        top > atomic_load_explicit(&totals->peak_single, memory_order_relaxed) ||
        top > atomic_load_explicit(&totals->peak_estimate, memory_order_relaxed))
        return false;
    counters->width = counters->limit;
    return true;
}

void tp_peak_flush(struct tp_counters *counters)
{
    if (tp_peak_every) {
        flush_every(counters);
        return;
    }
    int64_t net = tp_peak_net(counters);
    int64_t top = tp_max_i64(counters->high, net);
    counters->high = 0;
    counters->room = 0;
    int64_t before =
        atomic_fetch_add_explicit(&tp_account.totals.net, net, memory_order_relaxed);
    if (!is_noted(counters, before + top, before + net))
        note_peak(counters, top, before, before + net);
}

void tp_peak_edge(struct tp_counters *counters)
{
    if (counters->room > 0) {
        tp_peak_flush(counters);
        return;
    }
    counters->high -= counters->room;
    counters->room = 0;
    counters->width = counters->high + counters->limit;
}

void tp_peak_settle(struct tp_counters *counters)
{
    if (tp_peak_is_due(counters)) tp_peak_flush(counters);
}

void tp_peak_attach(struct tp_counters *counters)
{
    struct tp_totals *totals = &tp_account.totals;
    atomic_fetch_add_explicit(&totals->running, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&totals->started, 1, memory_order_relaxed);
    counters->others_seen = disturbances();
    counters->high = 0;
    counters->room = 0;
    // The newcomer's own flush tells the bound that holds from now on.
    int64_t net = atomic_load_explicit(&totals->net, memory_order_relaxed);
    note_peak(counters, 0, net, net);
}

void tp_peak_detach(struct tp_counters *counters)
{
    tp_peak_flush(counters);
    change_limit(counters, 0);
}

int64_t tp_peak_now(const struct tp_counters *counters)
{
    struct tp_totals *totals = &tp_account.totals;
    int64_t top = tp_max_i64(counters->high, tp_peak_net(counters));
    return tp_max_i64(
        atomic_load_explicit(&totals->peak_estimate, memory_order_relaxed),
        atomic_load_explicit(&totals->net, memory_order_relaxed) + top);
}
