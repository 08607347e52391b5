/* SPDX-License-Identifier: MIT */
/*
 * depot.c - the shared store of empty runs, and who gets new address space.
 *
 * Runs are kept by order and never split or joined: a run of another order costs
 * address space only, because what lies idle is purged: by age, and at once when idle
 * and used runs together make more than what was in use lately. Dirty runs are reused
 * first, newest first; the oldest wait at the other end for the purge. Slabs grow from the
 * near end of the range, extents of large blocks from the far end.
 *
 * Fork: a child of a process with several threads may have copied these lists in the
 * middle of a change, page by page, even while the lock looked free. It forgets them:
 * that costs it addresses, not memory. No lock is held across fork.
 */
#include "pool/counters.h"
#include "pool/slab.h"

enum {
    AREA = 2 * 1024 * 1024,
    STEP_LEAST = 1024 * 1024,  // of slabs made accessible at once
    STEP_MOST = 32 * 1024 * 1024,
    DESCRIPTOR_STEP = 64 * 1024,   // descriptors of 32 MiB of slabs
    PURGE_BATCH = 16,              // runs taken out of the lock's reach at once
    IDLE_LEAST = 2 * 1024 * 1024,  // dirty bytes that are always allowed
    IDLE_SHARE = 8,                // above that, 1/8 of the bytes in use lately
};

struct list {
    struct tp_slab *newest;
    struct tp_slab *oldest;
};

static struct {
    struct tp_lock lock;
    struct list dirty[TP_ORDERS];
    struct list clean[TP_ORDERS];
    char *low;             // next slab
    char *low_ready;       // accessible up to here
    char *high;            // lowest extent
    char *described_low;   // descriptors are writable below this slab address
    char *described_high;  // and from this extent address on
    size_t used;           // bytes of runs handed out
    size_t used_high;      // most of it since the last purge by age but one
    size_t used_top;       // most of it since the last purge by age
    size_t idle;           // bytes of dirty runs
} depot;

uint32_t tp_fork_era;
enum tp_idle tp_idle;

static void push(struct list *list, struct tp_slab *slab)
{
    slab->prev = NULL;
    slab->next = list->newest;
    *(list->newest ? &list->newest->prev : &list->oldest) = slab;
    list->newest = slab;
}

static void unlink(struct list *list, struct tp_slab *slab)
{
    *(slab->prev ? &slab->prev->next : &list->newest) = slab->next;
    *(slab->next ? &slab->next->prev : &list->oldest) = slab->prev;
    slab->next = slab->prev = NULL;
}

static size_t run_bytes(unsigned order)
{
    return (size_t)TP_GRANULE << order;
}

/* A run without pages, for later; with the last of an area all of them go. */
static void push_clean(struct tp_slab *slab)
{
    push(&depot.clean[slab->order], slab);
    struct tp_slab *first = tp_fallow_cleaned(slab);
    if (!first) return;
    for (size_t i = 0; i < tp_fallow_granules(); i += (size_t)1 << first[i].order)
        unlink(&depot.clean[first[i].order], &first[i]);
    tp_fallow_begin(first);
}

/* A run from an area that lay fallow; the rest of it is cut into clean runs. */
static struct tp_slab *take_fallow(unsigned order)
{
    struct tp_slab *first = tp_fallow_end();
    if (!first) return NULL;
    size_t granules = tp_fallow_granules();
    for (size_t i = (size_t)1 << order, step; i < granules; i += step) {
        unsigned most = (unsigned)__builtin_ctzll(i);
        first[i].order = (uint8_t)(most < TP_ORDERS ? most : TP_ORDERS - 1);
        first[i].fresh = true;
        step = (size_t)1 << first[i].order;
        push_clean(&first[i]);
    }
    first->order = (uint8_t)order;
    first->fresh = true;
    return first;
}

static void open_once(void)
{
    if (depot.low) return;
    depot.low = depot.low_ready = depot.described_low = tp_range.zone;
    depot.high = depot.described_high = tp_range.end;
}

/* Makes the descriptors of [start, end) writable; both granule aligned. */
static bool describe(const char *start, const char *end)
{
    struct tp_slab *first = tp_slab_at(start);
    size_t from = (size_t)((char *)first - tp_range.base);
    size_t count = (size_t)(end - start) / TP_GRANULE;
    size_t to = tp_align_up(from + count * sizeof(struct tp_slab), tp_os_page());
    from &= ~(tp_os_page() - 1);
    atomic_fetch_add_explicit(
        &tp_account.totals.self_bytes, to - from, memory_order_relaxed);
    return tp_os_commit(tp_range.base + from, to - from);
}

/* Makes slabs up to `end` usable; steps grow with what is in use. */
static bool make_ready(const char *end)
{
    if (end <= depot.low_ready) return true;
    size_t used = (size_t)(depot.low_ready - tp_range.zone);
    size_t step = tp_align_up(used / 8, STEP_LEAST);
    if (step < STEP_LEAST) step = STEP_LEAST;
    if (step > STEP_MOST) step = STEP_MOST;
    size_t need = (size_t)(end - depot.low_ready);
    if (step < need) step = tp_align_up(need, STEP_LEAST);
    if (step > (size_t)(depot.high - depot.low_ready))
        step = (size_t)(depot.high - depot.low_ready);

    char *ready = depot.low_ready + step;
    while (depot.described_low < ready) {
        char *next =
            depot.described_low + DESCRIPTOR_STEP / sizeof(struct tp_slab) * TP_GRANULE;
        if (next > tp_range.end) next = tp_range.end;
        if (!describe(depot.described_low, next)) return false;
        depot.described_low = next;
    }
    if (!tp_os_commit(depot.low_ready, step)) {
        // Close to a limit every page counts.
        step = need;
        ready = depot.low_ready + step;
        if (!tp_os_commit(depot.low_ready, step)) return false;
    }
    depot.low_ready = ready;
    atomic_fetch_add_explicit(
        &tp_account.totals.committed_bytes, step, memory_order_relaxed);
    return true;
}

/* Cuts the next run, aligned to its size; granules skipped go to the clean lists. */
static struct tp_slab *cut(unsigned order)
{
    if (!tp_range.span) return NULL;
    open_once();
    size_t bytes = run_bytes(order);
    char *start = (char *)tp_align_up((uintptr_t)depot.low, bytes);
    if (start + bytes > depot.high || start + bytes < start) return NULL;
    if (!make_ready(start + bytes)) return NULL;

    while (depot.low < start) {
        struct tp_slab *skipped = tp_slab_at(depot.low);
        unsigned granule = (unsigned)((uintptr_t)depot.low >> TP_GRANULE_SHIFT);
        skipped->order = (uint8_t)__builtin_ctz(granule);
        skipped->fresh = true;
        push_clean(skipped);
        depot.low += run_bytes(skipped->order);
    }
    depot.low = start + bytes;
    struct tp_slab *slab = tp_slab_at(start);
    slab->order = (uint8_t)order;
    slab->fresh = true;
    return slab;
}

/* Needs: the lock. */
static void change_idle(int64_t bytes)
{
    depot.idle += (size_t)bytes;
    atomic_store_explicit(
        &tp_account.totals.empty_bytes, depot.idle, memory_order_relaxed);
}

/* Dirty bytes beyond what may lie idle. Needs: the lock. */
static size_t excess(void)
{
    size_t allowed = depot.used_high + depot.used_high / IDLE_SHARE - depot.used;
    if (allowed < IDLE_LEAST) allowed = IDLE_LEAST;
    if (tp_idle != TP_IDLE_SHARE) allowed = tp_idle == TP_IDLE_ALL ? SIZE_MAX : 0;
    return depot.idle > allowed ? depot.idle - allowed : 0;
}

struct tp_slab *tp_depot_take(unsigned order)
{
    tp_lock_enter(&depot.lock);
    struct tp_slab *slab = depot.dirty[order].newest;
    if (slab) {
        unlink(&depot.dirty[order], slab);
        change_idle(-(int64_t)run_bytes(order));
    } else if ((slab = depot.clean[order].newest)) {
        unlink(&depot.clean[order], slab);
        tp_fallow_taken(slab);
    } else if (!(slab = take_fallow(order))) {
        slab = cut(order);
    }
    if (slab) {
        depot.used += run_bytes(order);
        if (depot.used > depot.used_top) depot.used_top = depot.used;
        if (depot.used > depot.used_high) depot.used_high = depot.used;
    }
    tp_lock_leave(&depot.lock);
    return slab;
}

/*
 * Purges up to `most` of the oldest dirty runs of `order`, those emptied by `before`;
 * returns the bytes given back.
 */
static size_t purge_batch(unsigned order, uint64_t before, unsigned most)
{
    struct tp_slab *batch[PURGE_BATCH];
    unsigned n = 0;
    tp_lock_enter(&depot.lock);
    struct list *dirty = &depot.dirty[order];
    while (n < most && dirty->oldest && dirty->oldest->emptied_ticks <= before) {
        batch[n] = dirty->oldest;
        unlink(dirty, batch[n++]);
    }
    change_idle(-(int64_t)(n * run_bytes(order)));
    tp_lock_leave(&depot.lock);

    for (unsigned i = 0; i < n; i++)
        batch[i]->fresh = tp_os_purge(tp_slab_start(batch[i]), run_bytes(order));

    tp_lock_enter(&depot.lock);
    for (unsigned i = 0; i < n; i++) push_clean(batch[i]);
    tp_lock_leave(&depot.lock);
    atomic_fetch_add_explicit(
        &tp_account.totals.purged_bytes, n * run_bytes(order), memory_order_relaxed);
    return n * run_bytes(order);
}

/* Purges some oldest run of the longest kind there is. */
static void purge_some(void)
{
    uint64_t begin = tp_os_ticks();
    for (unsigned order = TP_ORDERS; order-- > 0;)
        if (purge_batch(order, UINT64_MAX, 1u << (TP_ORDERS - 1 - order))) break;
    tp_latency_record(TP_OP_PURGE, 0, tp_os_ticks() - begin);
}

void tp_depot_put(struct tp_slab *slab)
{
    tp_slab_set_owner(slab, 0);
    slab->fresh = false;
    slab->local = NULL;
    slab->carved = 0;
    slab->emptied_ticks = tp_os_ticks();
    tp_lock_enter(&depot.lock);
    push(&depot.dirty[slab->order], slab);
    depot.used -= run_bytes(slab->order);
    change_idle((int64_t)run_bytes(slab->order));
    bool purge = excess() > 0;
    tp_lock_leave(&depot.lock);
    if (purge) purge_some();
}

size_t tp_depot_purge(uint64_t age_ticks)
{
    uint64_t now = tp_os_ticks();
    uint64_t before = now > age_ticks ? now - age_ticks : 0;
    size_t purged = 0, batch;
    for (unsigned order = TP_ORDERS; order-- > 0;)
        while ((batch = purge_batch(order, before, PURGE_BATCH))) purged += batch;
    tp_lock_enter(&depot.lock);
    depot.used_high = depot.used_top;
    depot.used_top = depot.used;
    tp_lock_leave(&depot.lock);
    return purged;
}

void *tp_depot_extent(size_t bytes)
{
    if (!tp_range.span || bytes > (size_t)(tp_range.end - tp_range.zone)) return NULL;
    char *start = NULL;
    tp_lock_enter(&depot.lock);
    open_once();
    if (bytes <= (size_t)(depot.high - depot.low_ready)) {
        start = (char *)((uintptr_t)(depot.high - bytes) & ~(uintptr_t)(AREA - 1));
        if (start < depot.low_ready) start = NULL;
    }
    if (start && start < depot.described_high) {
        if (!describe(start, depot.described_high))
            start = NULL;
        else
            depot.described_high = start;
    }
    if (start && !tp_os_commit(start, tp_align_up(bytes, tp_os_page()))) start = NULL;
    if (start) __atomic_store_n(&depot.high, start, __ATOMIC_RELAXED);
    tp_lock_leave(&depot.lock);
    return start;
}

bool tp_depot_is_extent(const void *p)
{
    const char *high = __atomic_load_n(&depot.high, __ATOMIC_RELAXED);
    return high && (const char *)p >= high && (const char *)p < tp_range.end;
}

void tp_depot_forked(bool alone)
{
    tp_fork_era += alone ? 0 : 1;
    atomic_store_explicit(&depot.lock.word, 0, memory_order_relaxed);
    if (alone) return;
    for (unsigned order = 0; order < TP_ORDERS; order++) {
        depot.dirty[order] = (struct list){ NULL, NULL };
        depot.clean[order] = (struct list){ NULL, NULL };
    }
    tp_fallow_forked();
    depot.idle = 0;
}
