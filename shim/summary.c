/* SPDX-License-Identifier: MIT */
/*
 * summary.c - the account on one screen, without stdio: summary=stderr.
 *
 * `tidepool report` says more and says it better; this is for the moment when only
 * the program's own log is at hand.
 */
#include "shim/output.h"

#include "pool/pool.h"

#include <string.h>

enum { TOP = 8, NAME_WIDTH = 12, NUMBER_WIDTH = 14 };

struct page {
    char *out;
    size_t size;
    size_t used;
};

struct account {
    struct tp_sums sums;
    uint64_t class_allocations[TP_CLASSES + 1];
    uint64_t class_frees[TP_CLASSES + 1];
    uint64_t large_live_bytes;
    uint32_t threads;
};

/* Bytes as "999", "12.3k", "4.56m": three digits and a unit. */
static void format_bytes(char out[16], uint64_t bytes)
{
    static const char units[] = " kmgtp";
    unsigned unit = 0;
    uint64_t whole = bytes, rest = 0;
    while (whole >= 1024 && unit < 5) {
        rest = whole % 1024;
        whole /= 1024;
        unit++;
    }
    if (!unit)
        tp_format(out, 16, "%lu", (unsigned long)whole);
    else
        tp_format(out, 16, "%lu.%lu%c", (unsigned long)whole,
            (unsigned long)(rest * 10 / 1024), units[unit]);
}

static void put_padded(struct page *page, const char *text, size_t width, bool right)
{
    size_t length = strlen(text);
    size_t pad = length < width ? width - length : 0;
    for (size_t i = 0; right && i < pad; i++)
        page->used += tp_format(page->out + page->used, page->size - page->used, " ");
    page->used +=
        tp_format(page->out + page->used, page->size - page->used, "%s", text);
    for (size_t i = 0; !right && i < pad; i++)
        page->used += tp_format(page->out + page->used, page->size - page->used, " ");
}

static void put_count(struct page *page, uint64_t count)
{
    char text[24];
    tp_format(text, sizeof(text), "%lu", (unsigned long)count);
    put_padded(page, text, NUMBER_WIDTH, true);
}

static void put_size(struct page *page, uint64_t bytes)
{
    char text[16];
    format_bytes(text, bytes);
    put_padded(page, text, NUMBER_WIDTH, true);
}

/* False when it is to be done again: slots were folded meanwhile. */
static bool sum_slots(struct account *account)
{
    struct tp_walk walk = tp_pool_walk();
    const struct tp_counters *counters;
    memset(account, 0, sizeof(*account));
    while ((counters = tp_pool_next(&walk))) {
        struct tp_sums sums = tp_counters_sums(counters);
        account->sums.allocations += sums.allocations;
        account->sums.frees += sums.frees;
        account->sums.requested_bytes += sums.requested_bytes;
        account->sums.allocated_bytes += sums.allocated_bytes;
        account->sums.freed_bytes += sums.freed_bytes;
        for (unsigned c = 0; c <= TP_CLASSES; c++) {
            account->class_frees[c] += tp_count_read(&counters->frees[c]);
            account->class_allocations[c] +=
                tp_count_read(&counters->taken[c].allocations);
        }
        account->large_live_bytes += tp_count_read(&counters->large_allocated_bytes) -
            tp_count_read(&counters->large_freed_bytes);
    }
    account->threads =
        atomic_load_explicit(&tp_account.totals.started, memory_order_relaxed);
    return tp_pool_walked(&walk);
}

/* The peak as far as flushes tell; live bytes may be above it at this moment. */
static uint64_t peak_of(uint64_t live)
{
    int64_t peak =
        atomic_load_explicit(&tp_account.totals.peak_estimate, memory_order_relaxed);
    return peak > (int64_t)live ? (uint64_t)peak : live;
}

static void put_totals(struct page *page, const struct account *account)
{
    uint64_t live = account->sums.allocated_bytes - account->sums.freed_bytes;
    put_padded(page, "                     count         bytes\n", 0, false);
    put_padded(page, "allocated", NAME_WIDTH, false);
    put_count(page, account->sums.allocations);
    put_size(page, account->sums.allocated_bytes);
    put_padded(page, "\n", 0, false);
    put_padded(page, "freed", NAME_WIDTH, false);
    put_count(page, account->sums.frees);
    put_size(page, account->sums.freed_bytes);
    put_padded(page, "\n", 0, false);
    put_padded(page, "live", NAME_WIDTH, false);
    put_count(page, account->sums.allocations - account->sums.frees);
    put_size(page, live);
    put_padded(page, "\n", 0, false);
    put_padded(page, "peak", NAME_WIDTH, false);
    put_padded(page, "", NUMBER_WIDTH, false);
    put_size(page, peak_of(live));
    put_padded(page, "\n", 0, false);
}

static uint64_t class_live_bytes(const struct account *account, unsigned c)
{
    if (c == TP_LARGE_CLASS) return account->large_live_bytes;
    return (account->class_allocations[c] - account->class_frees[c]) *
        tp_class_bytes(c);
}

/* The classes that hold most of the live bytes, largest first. */
static void put_classes(struct page *page, const struct account *account)
{
    bool shown[TP_CLASSES + 1] = { false };
    put_padded(page, "size class            live         bytes\n", 0, false);
    for (unsigned row = 0; row < TOP; row++) {
        unsigned best = TP_CLASSES + 1;
        for (unsigned c = 0; c <= TP_CLASSES; c++) {
            if (shown[c] || !class_live_bytes(account, c)) continue;
            if (best > TP_CLASSES ||
                class_live_bytes(account, c) > class_live_bytes(account, best))
                best = c;
        }
        if (best > TP_CLASSES) return;
        shown[best] = true;
        char name[16] = "large";
        if (best < TP_CLASSES) format_bytes(name, tp_class_bytes(best));
        put_padded(page, name, NAME_WIDTH, false);
        put_count(page, account->class_allocations[best] - account->class_frees[best]);
        put_size(page, class_live_bytes(account, best));
        put_padded(page, "\n", 0, false);
    }
}

size_t tp_summary_write(char *out, size_t size, enum tp_dump_reason reason)
{
    static const char *const reasons[] = { [TP_REASON_EXIT] = "at exit",
        [TP_REASON_SIGNAL] = "on a signal",
        [TP_REASON_INTERVAL] = "after an interval",
        [TP_REASON_REQUEST] = "on request",
        [TP_REASON_KILLED] = "after it was killed" };
    struct account account;
    while (!sum_slots(&account)) {
    }
    struct page page = { out, size, 0 };
    page.used = tp_format(out, size, "tidepool: %s, pid %u, %s, %u thread%s\n",
        tp_boot.name, tp_boot.pid, reasons[reason], account.threads,
        account.threads == 1 ? "" : "s");
    put_totals(&page, &account);
    put_classes(&page, &account);
    return page.used;
}
