/* SPDX-License-Identifier: MIT */
/*
 * test_follow.c - what the host is told of: every mark comes back once, with its block,
 * and neither the blocks nor the books show that some are followed.
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

/* ---- one thing at a time; the pool of this process samples every block ---- */

static int sample_every_block(void **state)
{
    (void)state;
    set_up(&(struct mode){ "", { RANGE }, 1, 1, 0, 0 });
    return tp_pool_start() ? 0 : 1;
}

static const struct tp_marked *kept(const void *p)
{
    struct tp_slab *slab = tp_slab_head(tp_slab_at(p));
    return tp_slab_owner(slab) == TP_MARKS_OWNER ? tp_marks_read(p) : NULL;
}

static void small_block_leaves_a_proxy(void **state)
{
    (void)state;
    for (size_t size = 1; size <= TP_POOL_MAX; size *= 2) {
        char *p = tp_pool_alloc(size);
        assert_non_null(kept(p));
        char *proxy = kept(p)->proxy;
        assert_int_equal(proxy != NULL, size <= TP_PROXY_MAX);
        if (proxy) {
            struct tp_slab *home = tp_slab_head(tp_slab_at(proxy));
            assert_int_equal(tp_slab_owner(home) & TP_SLAB_MARKED, 0);
            assert_int_equal(home->bytes, tp_slab_head(tp_slab_at(p))->bytes);
            // It is nobody's while the sample lives.
            char *others[300];
            for (int i = 0; i < 300; i++) {
                others[i] = tp_pool_alloc(size);
                assert_ptr_not_equal(others[i], proxy);
                assert_ptr_not_equal(kept(others[i])->proxy, proxy);
            }
            for (int i = 0; i < 300; i++) tp_pool_free(others[i]);
        }
        tp_pool_free(p);
    }
}

static void *free_it(void *p)
{
    tp_pool_free(p);
    return NULL;
}

static void free_in_another_thread_is_remote(void **state)
{
    (void)state;
    struct tp_sums before = figures();
    uint32_t back = test_host.n_back;
    void *p = tp_pool_alloc(100);
    assert_non_null(kept(p));
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, free_it, p), 0);
    pthread_join(thread, NULL);
    tp_pool_free(tp_pool_alloc(100));
    assert_int_equal(figures().remote_frees - before.remote_frees, 1);
    assert_int_equal(test_host.n_back - back, 2);
}

static void block_that_is_used_again_is_cleared(void **state)
{
    (void)state;
    for (size_t size = 1; size < 30000; size = size * 3 / 2 + 1) {
        void *p = tp_pool_alloc(size);
        memset(p, 0xff, tp_pool_usable(p));
        tp_pool_free(p);
        void *again = tp_pool_zalloc(size);
        assert_ptr_equal(again, p);
        assert_true(test_is_filled(again, 0, size));
        tp_pool_free(again);
    }
}

static void free_twice(void *p)
{
    tp_pool_free(p);
    tp_pool_free(p);
}

static void free_inside(void *p)
{
    tp_pool_free((char *)p + 16);
}

static void realloc_inside(void *p)
{
    tp_pool_realloc((char *)p + 16, 50, TP_CALL_REALLOC);
}

static void sized_free_of_too_much(void *p)
{
    tp_pool_free_sized(p, 113);
}

static void misuse_of_a_followed_block_dies(void **state)
{
    (void)state;
    static const struct {
        void (*body)(void *);
        const char *words;
    } rows[] = {
        { free_twice, "double free of 0x" },
        { free_inside, "invalid free of 0x" },
        { realloc_inside, "invalid realloc of 0x" },
        { sized_free_of_too_much, "with size 113: the block has 112 bytes" },
    };
    void *p = tp_pool_alloc(100), *beside = tp_pool_alloc(100);
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *words = test_last_words(rows[i].body, p);
        assert_non_null(words);
        assert_non_null(strstr(words, rows[i].words));
    }
    tp_pool_free(p);
    tp_pool_free(beside);
}

static void growth_in_place_is_told_of(void **state)
{
    (void)state;
    char *p = tp_pool_alloc(2 * MIB);
    for (int i = 1; i < 20; i++) {
        assert_ptr_equal(tp_pool_realloc(p, MIB, TP_CALL_REALLOC), p);
        uint32_t resized = test_host.n_resized;
        size_t size = MIB + (size_t)i * 50000;
        assert_ptr_equal(tp_pool_realloc(p, size, TP_CALL_REALLOC), p);
        assert_int_equal(test_host.n_resized, resized + 1);
        assert_int_equal(test_host.last.bytes, tp_pool_usable(p));
        assert_int_equal(test_host.last.requested, size);
        assert_int_equal(test_host.last.class, TP_LARGE_CLASS);
        assert_ptr_equal(test_host.last.p, p);
    }
    tp_pool_free(p);
}

static void bytes_grown_in_place_are_in_no_countdown(void **state)
{
    (void)state;
    test_host.to_sample = 40 * MIB;
    tp_pool_free(tp_pool_alloc(1));
    while (tp_heap_self->sampler.to_sample < 30 * MIB) tp_pool_free(tp_pool_alloc(1));
    char *p = tp_pool_alloc(2 * MIB);
    uint32_t told = test_host.n_told, resized = test_host.n_resized;
    // Down and up again in the same place, 100 MiB in all.
    for (int i = 0; i < 100; i++) {
        assert_ptr_equal(tp_pool_realloc(p, MIB, TP_CALL_REALLOC), p);
        assert_ptr_equal(tp_pool_realloc(p, 2 * MIB, TP_CALL_REALLOC), p);
    }
    assert_int_equal(test_host.n_told, told);
    assert_int_equal(test_host.n_resized - resized, 100);  // unmarked: growth alone
    tp_pool_free(p);
    test_host.to_sample = 1;
    for (int i = 0; i < 100; i++) tp_pool_free(tp_pool_alloc(MIB));
    assert_true(test_host.n_told > told);
}

static void marked_large_block_is_told_of_all_that_happens(void **state)
{
    (void)state;
    char *p = tp_pool_alloc(4 * MIB);
    uint32_t mark = test_mark_of(p), resized = test_host.n_resized;
    assert_int_not_equal(mark, 0);
    assert_ptr_equal(tp_pool_realloc(p, 2 * MIB, TP_CALL_REALLOC), p);
    assert_int_equal(test_host.n_resized, resized + 1);
    assert_ptr_equal(tp_pool_realloc(p, 3 * MIB, TP_CALL_REALLOC), p);
    assert_int_equal(test_host.n_resized, resized + 2);
    uint32_t back = test_host.n_back;
    void *to = tp_pool_realloc(p, 1000 * MIB / 2, TP_CALL_REALLOC);
    assert_non_null(to);
    if (to != p) assert_int_equal(test_host.n_back, back + 1);
    tp_pool_free(to);
    assert_int_equal(test_mark_of(to), 0);
    assert_int_equal(test_host.n_wrong, 0);
}

/* A signal handler on top of a slow path, played by the test. */
static void on_top_of_a_slow_path_nothing_is_told(void **state)
{
    (void)state;
    void *p = tp_pool_alloc(100), *large = tp_pool_alloc(MIB), *q = NULL;
    struct tp_sums before = figures();
    uint32_t told = test_host.n_told, back = test_host.n_back;

    uintptr_t outer = tp_slow_begin();
    char below[256];
    memset(below, 0, sizeof(below));
    for (int i = 0; i < 50; i++) {
        q = tp_pool_alloc(100);
        assert_null(kept(q));
        tp_pool_free(q);
    }
    tp_pool_free(p);
    tp_pool_free(large);
    uint32_t told_there = test_host.n_told - told, back_there = test_host.n_back - back;
    struct tp_sums after = figures();
    tp_slow_end(outer);

    assert_int_equal(told_there, 0);
    assert_int_equal(back_there, 0);
    assert_int_equal(after.frees - before.frees, 52);
    assert_int_equal(after.allocations - before.allocations, 50);
    void *next = tp_pool_alloc(100);
    assert_int_equal(test_host.n_back - back, 2);
    assert_ptr_equal(next, p);  // put back with the next one
    tp_pool_free(next);
    assert_int_equal(test_host.n_wrong, 0);
}

static void *blocks[100];

static int free_in_child(void *unused)
{
    (void)unused;
    uint32_t back = test_host.n_back;
    tp_pool_forked();
    for (int i = 0; i < 100; i++) tp_pool_free(blocks[i]);
    CHECK(test_host.n_back - back == 100 && test_host.n_wrong == 0);
    for (int i = 0; i < 100; i++) {
        CHECK(blocks[i] = tp_pool_zalloc(1 + (size_t)i * 7));
        CHECK(kept(blocks[i]));
        memset(blocks[i], 1, 1 + (size_t)i * 7);
    }
    for (int i = 0; i < 100; i++) tp_pool_free(blocks[i]);
    CHECK(test_host.n_back - back == 200 && test_host.n_wrong == 0);
    return 0;
}

static void child_frees_what_its_parent_sampled(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) blocks[i] = tp_pool_alloc(1 + (size_t)i * 7);
    tp_pool_before_fork();
    assert_int_equal(test_in_child(free_in_child, NULL), 0);
    tp_pool_after_fork();
    // As a child of many threads: the lists are forgotten.
    atomic_fetch_add(&tp_account.totals.running, 1);
    tp_pool_before_fork();
    assert_int_equal(test_in_child(free_in_child, NULL), 0);
    tp_pool_after_fork();
    atomic_fetch_sub(&tp_account.totals.running, 1);
    for (int i = 0; i < 100; i++) tp_pool_free(blocks[i]);
    assert_int_equal(test_host.n_wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        // In children, so first: the pool of this process is not open yet.
        cmocka_unit_test(every_mark_comes_back_and_nothing_shows),
        cmocka_unit_test(threads_free_each_others_blocks),
        cmocka_unit_test_setup(small_block_leaves_a_proxy, sample_every_block),
        cmocka_unit_test(free_in_another_thread_is_remote),
        cmocka_unit_test(block_that_is_used_again_is_cleared),
        cmocka_unit_test(misuse_of_a_followed_block_dies),
        cmocka_unit_test(growth_in_place_is_told_of),
        cmocka_unit_test(bytes_grown_in_place_are_in_no_countdown),
        cmocka_unit_test(marked_large_block_is_told_of_all_that_happens),
        cmocka_unit_test(on_top_of_a_slow_path_nothing_is_told),
        cmocka_unit_test(child_frees_what_its_parent_sampled),
    };
    return cmocka_run_group_tests_name("follow", tests, NULL, NULL);
}
