/* SPDX-License-Identifier: MIT */
/*
 * test_storm.c - blocks that are followed, at random: every mark comes back once, with its
 * block, and neither the blocks nor the books show that some are followed.
 *
 * A pool is opened once in a process, so each mode runs in a child of its own; what
 * fails there is told on stderr by its line.
 */
#include "pool/follow.h"

#include "pool/pool.h"
#include "tests/unit/tp_test.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(x)                                            \
    do {                                                    \
        if (!(x)) {                                         \
            fprintf(stderr, "line %d: %s\n", __LINE__, #x); \
            return 1;                                       \
        }                                                   \
    } while (0)

enum { MIB = 1024 * 1024, PIECES = 311, THREADS = 4, SHARED = 509 };

struct mode {
    const char *name;
    struct tp_pool_options options;
    int64_t to_sample;
    uint32_t follow;
    int steps;
    size_t most;  // bytes of a block
};

#define RANGE .reserve = (size_t)1 << 30, .purge_ns = UINT64_MAX
#define NO_RANGE .reserve = (size_t)4 << 20, .purge_ns = UINT64_MAX
#define SMALL_RANGE .reserve = (size_t)16 << 20, .purge_ns = UINT64_MAX

static const struct mode modes[] = {
    { "every block", { RANGE }, 1, 1, 40000, 2 * MIB },
    { "every block small", { RANGE }, 1, 1, 60000, 4096 },
    { "every third", { RANGE }, 1, 3, 40000, 2 * MIB },
    { "a few", { RANGE }, 100000, 1, 40000, 2 * MIB },
    { "every hundredth", { RANGE }, 1, 100, 40000, 2 * MIB },
    { "none wanted", { RANGE }, 1, 0, 20000, 2 * MIB },
    { "zero", { RANGE, .zero = true }, 500, 1, 40000, 70000 },
    { "check", { RANGE, .check = true }, 500, 1, 40000, 70000 },
    { "nothing idle", { .reserve = (size_t)1 << 30 }, 100, 1, 20000, 70000 },
    { "small range", { SMALL_RANGE }, 500, 1, 10000, 200000 },
    { "no range", { NO_RANGE }, 500, 1, 20000, 200000 },
    { "exact", { RANGE, .exact = true }, 1, 1, 40000, 2 * MIB },
    { "exact, every third", { RANGE, .exact = true }, 1, 3, 40000, 70000 },
    { "exact, check", { RANGE, .exact = true, .check = true }, 1, 1, 40000, 70000 },
    { "exact, zero", { RANGE, .exact = true, .zero = true }, 1, 1, 20000, 70000 },
    { "exact, small range", { SMALL_RANGE, .exact = true }, 1, 1, 10000, 200000 },
    { "exact, no range", { NO_RANGE, .exact = true }, 1, 1, 20000, 200000 },
};
enum { MODES = sizeof(modes) / sizeof(modes[0]) };

static void set_up(const struct mode *mode)
{
    test_host.options = mode->options;
    test_host.to_sample = mode->to_sample;
    test_host.follow = mode->follow;
    test_host.place = 1;
}

/* ---- a storm, and a model of the books ---- */

struct piece {
    uint8_t *p;
    size_t bytes;  // asked for
    uint8_t content;
};

static struct piece pieces[PIECES];
static struct tp_sums model;
static int64_t live, peak;

static int count(int64_t taken, int64_t freed)
{
    model.allocated_bytes += (uint64_t)taken;
    model.freed_bytes += (uint64_t)freed;
    live += taken;
    if (live > peak) peak = live;
    live -= freed;
    return 0;
}

/*
 * The host was told something since `told`: of a peak that left the operation out. `p`
 * is NULL when several operations went by.
 */
static bool peak_was(int64_t before)
{
    return !test_host.last.counters || test_host.last_peak == before;
}

static int take(struct piece *piece, const struct mode *mode, uint64_t *seed)
{
    size_t size = test_size(seed, mode->most), align = 16;
    int64_t before = peak;
    test_host.last.counters = NULL;
    switch (test_below(seed, 4)) {
    case 0:
        piece->p = tp_pool_zalloc(size);
        CHECK(test_is_filled(piece->p, 0, size));
        break;
    case 1:
        align = (size_t)16 << test_below(seed, 12);
        piece->p = tp_pool_aligned(align, size);
        break;
    default:
        piece->p = tp_pool_alloc(size);
    }
    CHECK(piece->p && (uintptr_t)piece->p % align == 0);
    CHECK(peak_was(before));
    CHECK(tp_pool_usable(piece->p) >= size);
    piece->bytes = size;
    piece->content = (uint8_t)test_random(seed);
    memset(piece->p, piece->content, size);
    model.allocations++;
    model.requested_bytes += size;
    return 0;
}

static int give(struct piece *piece, uint64_t *seed)
{
    CHECK(test_is_filled(piece->p, piece->content, piece->bytes));
    int64_t before = peak;
    test_host.last.counters = NULL;
    if (test_below(seed, 2))
        tp_pool_free(piece->p);
    else
        tp_pool_free_sized(piece->p, piece->bytes);
    CHECK(peak_was(before));
    piece->p = NULL;
    model.frees++;
    return 0;
}

static int resize(struct piece *piece, const struct mode *mode, uint64_t *seed)
{
    size_t size = test_size(seed, mode->most);
    size_t kept = size < piece->bytes ? size : piece->bytes;
    uint8_t *to = tp_pool_realloc(piece->p, size, TP_CALL_REALLOC);
    CHECK(to && test_is_filled(to, piece->content, kept));
    if (to != piece->p) {
        model.allocations++;
        model.requested_bytes += size;
        model.frees++;
    }
    piece->p = to;
    piece->bytes = size;
    memset(to, piece->content, size);
    return 0;
}

/* Usable bytes as the pool counts them: with check=on it tells those asked for. */
static size_t counted(const struct piece *piece)
{
    struct tp_slab *slab = tp_slab_at(piece->p);
    if (slab) slab = tp_slab_head(slab);
    bool pool = slab && tp_slab_owner(slab) & ~(uintptr_t)TP_SLAB_FLAGS;
    return pool ? slab->bytes : tp_large_bytes(piece->p);
}

static int step(struct piece *piece, const struct mode *mode, uint64_t *seed)
{
    bool resizes = piece->p && test_below(seed, 3) == 0;
    if (resizes) {
        int64_t old = (int64_t)counted(piece);
        uint8_t *p = piece->p;
        uint64_t requested = model.requested_bytes;
        if (resize(piece, mode, seed)) return 1;
        int64_t now = (int64_t)counted(piece);
        if (piece->p != p) return count(now, old);
        // What is asked for in place is counted for large blocks that grow.
        if (now > old)
            model.requested_bytes = requested +
                (piece->bytes > (size_t)old ? piece->bytes - (size_t)old : 0);
        return now > old ? count(now - old, 0) : count(0, old - now);
    }
    if (!piece->p) return take(piece, mode, seed) || count((int64_t)counted(piece), 0);
    int64_t old = (int64_t)counted(piece);
    return give(piece, seed) || count(0, old);
}

static struct tp_sums figures(void)
{
    struct tp_sums sums = { 0 };
    struct tp_walk walk = tp_pool_walk();
    const struct tp_counters *counters;
    while ((counters = tp_pool_next(&walk))) {
        struct tp_sums more = tp_counters_sums(counters);
        sums.allocations += more.allocations;
        sums.frees += more.frees;
        sums.requested_bytes += more.requested_bytes;
        sums.allocated_bytes += more.allocated_bytes;
        sums.freed_bytes += more.freed_bytes;
        sums.remote_frees += more.remote_frees;
    }
    return sums;
}

static uint64_t slabs(void)
{
    uint64_t n = 0;
    for (unsigned c = 0; c < TP_CLASSES; c++) n += tp_account.classes[c].slabs;
    return n;
}

static int storm(void *argument)
{
    const struct mode *mode = argument;
    set_up(mode);
    uint64_t seed = 17;
    for (int i = 0; i < mode->steps; i++) {
        if (step(&pieces[test_below(&seed, PIECES)], mode, &seed)) return 1;
        CHECK(test_host.n_wrong == 0);
        if (!mode->options.exact) continue;
        CHECK(tp_account.totals.net == live);
        CHECK(tp_account.totals.peak_single == peak);
    }
    for (int i = 0; i < PIECES; i++) {
        if (!pieces[i].p) continue;
        int64_t old = (int64_t)counted(&pieces[i]);
        if (give(&pieces[i], &seed) || count(0, old)) return 1;
    }
    struct tp_sums sums = figures();
    CHECK(sums.allocations == model.allocations && sums.frees == model.frees);
    CHECK(sums.allocated_bytes == model.allocated_bytes);
    CHECK(sums.freed_bytes == model.freed_bytes);
    CHECK(sums.requested_bytes == model.requested_bytes);
    CHECK(sums.remote_frees == 0 && live == 0);
    CHECK(tp_pool_peak_now(tp_pool_counters()) == peak);
    CHECK(test_host.n_marks == test_host.n_back && test_host.n_wrong == 0);
    CHECK(test_host.live_bytes == 0 && test_host.live_requested == 0);
    CHECK(!mode->follow || test_host.n_marks > 100);
    CHECK(mode->to_sample > 1 || test_host.n_told >= model.allocations);
    bool has_range = mode->options.reserve > (size_t)4 << 20;
    CHECK(has_range == (tp_account.totals.range_bytes > 0));
    tp_pool_trim();
    CHECK(slabs() == 0);
    return 0;
}

static void every_mark_comes_back_and_nothing_shows(void **state)
{
    (void)state;
    for (unsigned i = 0; i < MODES; i++)
        if (test_in_child(storm, (void *)(uintptr_t)&modes[i]))
            fail_msg("mode: %s", modes[i].name);
}

/* ---- threads: everyone frees everyone's blocks ---- */

static struct shared {
    _Atomic(uint8_t *) p;
} table[SHARED];

static void fill(uint8_t *p, size_t bytes)
{
    memcpy(p, &bytes, sizeof(bytes));
    memset(p + sizeof(bytes), (int)(bytes % 251), bytes - sizeof(bytes));
}

static bool is_whole(const uint8_t *p)
{
    size_t bytes;
    memcpy(&bytes, p, sizeof(bytes));
    return test_is_filled(p + sizeof(bytes), (int)(bytes % 251), bytes - sizeof(bytes));
}

static void *exchange(void *argument)
{
    uint64_t seed = (uintptr_t)argument;
    uintptr_t broken = 0;
    for (int i = 0; i < 20000; i++) {
        size_t bytes = 8 + test_size(&seed, i % 64 ? 3000 : 300000);
        uint8_t *p = tp_pool_alloc(bytes);
        if (!p) break;
        fill(p, bytes);
        uint8_t *old = atomic_exchange_explicit(
            &table[test_below(&seed, SHARED)].p, p, memory_order_acq_rel);
        if (!old) continue;
        broken += !is_whole(old);
        tp_pool_free(old);
    }
    return (void *)broken;
}

static int crowd(void *argument)
{
    const struct mode *mode = argument;
    set_up(mode);
    tp_pool_start();
    for (int round = 0; round < 2; round++) {
        pthread_t threads[THREADS];
        for (uintptr_t i = 0; i < THREADS; i++)
            CHECK(!pthread_create(&threads[i], NULL, exchange, (void *)(i + 1)));
        for (int i = 0; i < THREADS; i++) {
            void *broken;
            pthread_join(threads[i], &broken);
            CHECK(!broken);
        }
    }
    struct tp_sums sums = figures();
    int64_t left = (int64_t)(sums.allocated_bytes - sums.freed_bytes);
    CHECK(tp_account.totals.net == left &&
        tp_account.totals.peak_single <= (int64_t)sums.allocated_bytes);
    if (mode->options.exact) {
        CHECK(test_host.live_bytes == left);
        CHECK(tp_account.totals.peak_single >= left && tp_account.totals.slack == 0);
        CHECK(tp_account.totals.peak_high <= tp_account.totals.peak_single);
    }
    for (int i = 0; i < SHARED; i++)
        if (table[i].p) {
            CHECK(is_whole(table[i].p));
            tp_pool_free(table[i].p);
        }
    sums = figures();
    CHECK(sums.allocations == 2 * THREADS * 20000 && sums.frees == sums.allocations);
    CHECK(sums.allocated_bytes == sums.freed_bytes);
    CHECK(test_host.n_marks == test_host.n_back && test_host.n_wrong == 0);
    CHECK(test_host.live_bytes == 0 && test_host.n_marks > 100);
    bool has_range = tp_account.totals.range_bytes > 0;
    CHECK(has_range ? sums.remote_frees > 1000 : sums.remote_frees == 0);
    return 0;
}

static void threads_free_each_others_blocks(void **state)
{
    (void)state;
    static const struct mode crowds[] = {
        { "every block", { RANGE }, 1, 1, 0, 0 },
        { "some", { RANGE }, 3000, 1, 0, 0 },
        { "exact", { RANGE, .exact = true }, 1, 1, 0, 0 },
        { "exact, no range", { NO_RANGE, .exact = true }, 1, 1, 0, 0 },
    };
    for (unsigned i = 0; i < sizeof(crowds) / sizeof(crowds[0]); i++)
        if (test_in_child(crowd, (void *)(uintptr_t)&crowds[i]))
            fail_msg("crowd: %s", crowds[i].name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mark_comes_back_and_nothing_shows),
        cmocka_unit_test(threads_free_each_others_blocks),
    };
    return cmocka_run_group_tests_name("storm", tests, NULL, NULL);
}
