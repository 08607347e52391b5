/* SPDX-License-Identifier: MIT */
/*
 * counters.h - one writer, many readers, nothing lost.
 *
 * Idea: a thread counts in a block of its own with plain adds; whoever wants a sum
 * reads the blocks of all threads. No locked instruction is ever needed: an
 * uncontended one costs as much as the rest of malloc. Counters that belong to no
 * thread (slabs, purges, latencies) change on cold paths only and are atomic.
 *
 * All of it is laid out like the records of the live file, byte for byte, but this
 * file knows no file: someone else may map one over these blocks.
 *
 * Order of memory: relaxed throughout. A counter is a number of its own; only sums
 * taken after the threads stopped, or frees read before allocations, are exact.
 */
#ifndef TP_POOL_COUNTERS_H
#define TP_POOL_COUNTERS_H

#include "pool/os.h"
#include "pool/size.h"

enum tp_call {  // entry points that may fail or that count themselves
    TP_CALL_MALLOC,
    TP_CALL_CALLOC,
    TP_CALL_REALLOC,
    TP_CALL_REALLOCARRAY,
    TP_CALL_ALIGNED_ALLOC,
    TP_CALL_POSIX_MEMALIGN,
    TP_CALL_MEMALIGN,
    TP_CALL_VALLOC,
    TP_CALL_PVALLOC,
    TP_CALLS,
};

enum {
    TP_BAY_SLOTS = 32,  // blocks of counters that come into being together
    TP_SUM_SLOT = 30,   // this one or the next: what folded slots counted; see fold.c
    TP_SUM_SLOTS = 2,
};

enum tp_slot_use { TP_UNUSED, TP_RUNNING, TP_PARKED, TP_SHARED, TP_FOLDED };

struct tp_sums {  // a thread's figures
    uint64_t allocations;
    uint64_t frees;
    uint64_t requested_bytes;
    uint64_t allocated_bytes;
    uint64_t freed_bytes;
    uint64_t remote_frees;
};

struct tp_class_taken {  // one class, the malloc side
    uint64_t allocations;
    uint64_t requested_bytes;
};

/* One thread's block. The first line is all that free touches besides frees[]. */
struct tp_counters {
    int64_t room;    // see peak.h, also the next three
    int64_t width;   //
    int64_t high;    //
    int64_t limit;   //
    uint32_t state;  // enum tp_slot_use
    uint32_t tid;
    uint64_t epoch;  // threads that ended here: base[epoch & 1] is in force
    uint64_t started_ns;
    uint64_t remote_frees;
    uint64_t frees[TP_CLASSES + 1];
    struct tp_class_taken taken[TP_CLASSES + 1];
    uint64_t large_allocated_bytes;
    uint64_t large_freed_bytes;
    uint64_t calls[TP_CALLS];
    uint64_t failed[TP_CALLS];
    uint64_t realloc_in_place;
    uint64_t realloc_moved;
    uint64_t realloc_fresh;
    uint64_t realloc_freed;
    uint64_t zeroed_for_free;
    char name[16];
    struct tp_sums base[2];
    uint32_t others_seen;  // peak.c: what had disturbed G when this epoch began
    uint8_t reserved[492];
};
static_assert(sizeof(struct tp_counters) == 2048, "two to a page");

/* Slow-path operations that are timed. */
enum tp_operation {
    TP_OP_MALLOC,        // the fast path, once per sample
    TP_OP_REFILL,        // a list of blocks for a heap
    TP_OP_NEW_SLAB,      // of it, a slab taken from the depot or stolen
    TP_OP_LARGE_MALLOC,  // above the pools
    TP_OP_LARGE_FREE,
    TP_OP_LARGE_REALLOC,
    TP_OP_PURGE,  // pages given back
    TP_OP_THREAD_START,
    TP_OP_THREAD_END,
    TP_OPERATIONS,
};

enum { TP_BUCKETS = 160, TP_SHARDS = 4 };

struct tp_latency {  // log-linear, four steps an octave; see tp_bucket_of()
    char name[16];
    _Atomic(uint64_t) count;
    _Atomic(uint64_t) total;
    _Atomic(uint64_t) min;  // meaningless while count is 0
    _Atomic(uint64_t) max;
    uint64_t reserved[2];
    _Atomic(uint64_t) buckets[TP_BUCKETS];
};

struct tp_class_count {
    uint64_t bytes;  // of a block
    _Atomic(uint64_t) slabs;
    _Atomic(uint64_t) slab_bytes;
};

struct tp_totals {
    _Atomic(int64_t) net;  // see peak.h, also the next six
    _Atomic(int64_t) slack;
    _Atomic(int64_t) peak_single;
    _Atomic(int64_t) peak_low;
    _Atomic(int64_t) peak_high;
    _Atomic(int64_t) peak_estimate;
    _Atomic(uint64_t) peak_ticks;
    _Atomic(uint32_t) running;  // threads with a heap of their own
    _Atomic(uint32_t) started;
    _Atomic(uint64_t) foreign_frees;
    _Atomic(uint64_t) range_bytes;
    _Atomic(uint64_t) committed_bytes;
    _Atomic(uint64_t) empty_bytes;
    _Atomic(uint64_t) large_bytes;
    _Atomic(uint64_t) self_bytes;
    _Atomic(uint64_t) purged_bytes;
    _Atomic(uint64_t) ended;
    _Atomic(uint64_t) folded;     // which slots count: see tp_fold_of()
    _Atomic(uint64_t) disturbed;  // times the shared heap counted: no thread's doing
    uint8_t reserved[48];
};

/*
 * Everything that belongs to no thread. A whole number of pages, so that a file can
 * be mapped over it.
 */
struct tp_account {
    struct tp_totals totals;
    struct tp_class_count classes[TP_CLASSES];
    struct tp_latency latency[TP_OPERATIONS][TP_SHARDS];
} __attribute__((aligned(TP_PAGE)));

extern struct tp_account tp_account;

/*
 * Adds to a counter that only the caller's thread writes. One instruction, so that
 * a signal handler that allocates cannot lose a count either.
 */
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__)
static inline void tp_count_add(uint64_t *counter, uint64_t n)
{
    __asm__("addq %1, %0" : "+m"(*counter) : "er"(n) : "cc");
}
static inline void tp_count_add_signed(int64_t *counter, int64_t n)
{
    __asm__("addq %1, %0" : "+m"(*counter) : "er"(n) : "cc");
}
static inline void tp_count_sub_signed(int64_t *counter, int64_t n)
{
    __asm__("subq %1, %0" : "+m"(*counter) : "er"(n) : "cc");
}
/* Takes one away; true when nothing is left. */
static inline bool tp_count_down(int32_t *counter)
{
    bool done;
    __asm__("subl $1, %0" : "+m"(*counter), "=@ccle"(done));
    return done;
}
#else
static inline void tp_count_add(uint64_t *counter, uint64_t n)
{
    uint64_t now = __atomic_load_n(counter, __ATOMIC_RELAXED);
    __atomic_store_n(counter, now + n, __ATOMIC_RELAXED);
}
static inline void tp_count_add_signed(int64_t *counter, int64_t n)
{
    int64_t now = __atomic_load_n(counter, __ATOMIC_RELAXED);
    __atomic_store_n(counter, now + n, __ATOMIC_RELAXED);
}
static inline void tp_count_sub_signed(int64_t *counter, int64_t n)
{
    tp_count_add_signed(counter, -n);
}
static inline bool tp_count_down(int32_t *counter)
{
    return --*counter <= 0;
}
#endif

/*
 * Adds to a counter of entry points. In the shared slot threads without a heap count
 * their calls without its lock: a call that fails must be counted even where the lock
 * cannot be had.
 */
static inline void tp_count_of_call(
    const struct tp_counters *counters, uint64_t *counter, uint64_t n)
{
    if (TP_UNLIKELY(counters->state == TP_SHARED))
        __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
    else
        tp_count_add(counter, n);
}

/* Reads a counter that another thread may be writing. */
static inline uint64_t tp_count_read(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

/* Bucket of a duration; see format.h for the inverse. */
static inline unsigned tp_bucket_of(uint64_t ticks)
{
    if (ticks < 4) return (unsigned)ticks;
    unsigned log = tp_log2(ticks);
    unsigned bucket = 4 * (log - 1) + (unsigned)((ticks >> (log - 2)) & 3);
    return bucket < TP_BUCKETS ? bucket : TP_BUCKETS - 1;
}

/* What tp_totals.folded says. */
struct tp_fold {
    uint32_t first;  // slots first .. first + n - 1 do not count
    uint32_t n;
    uint32_t sums;  // slot that holds the sums of folded ones; its twin does not count
};

/* Mirrors the format: see tp_totals_record there. */
static inline struct tp_fold tp_fold_of(uint64_t word)
{
    return (struct tp_fold){ .first = word & 0xffff,
        .n = word >> 16 & 0xffff,
        .sums = TP_SUM_SLOT + (uint32_t)(word >> 32 & 1) };
}

/* True when slot `index` counts. */
static inline bool tp_fold_counts(struct tp_fold fold, uint32_t index)
{
    bool is_sums = index - TP_SUM_SLOT < TP_SUM_SLOTS;
    return is_sums ? index == fold.sums : index - fold.first >= fold.n;
}

/* Fills in the class sizes. Context: once, before anything counts. */
TP_COLD void tp_counters_init(void);

/*
 * Records one operation of `ticks`. `shard` spreads threads over copies, so that
 * they seldom meet. Context: cold; any thread.
 */
TP_COLD void tp_latency_record(enum tp_operation op, unsigned shard, uint64_t ticks);

/* A thread's figures as of now. Context: any thread may read another's. */
TP_COLD struct tp_sums tp_counters_sums(const struct tp_counters *counters);

#endif
