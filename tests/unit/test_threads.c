/* SPDX-License-Identifier: MIT */
/*
 * test_threads.c - threads that hand blocks to each other: nothing lost, nothing
 * counted twice, the peak within its bounds.
 */
#include "pool/pool.h"

#include "tests/unit/tp_test.h"

#include <pthread.h>
#include <string.h>

enum { WORKERS = 4, DESKS = 499, STEPS = 40009, FORKS = 12, SAMPLE = 4096 };

/* Blocks change hands on desks; their first bytes say what they are. */
struct parcel {
    size_t bytes;
    uint8_t content[];
};

static _Atomic(struct parcel *) desks[DESKS];

struct worker {
    pthread_t thread;
    uint64_t seed;
    struct tp_sums did;  // what the pool should say of this thread
    uint32_t n_damaged;
    struct tp_counters *counters;
    pthread_barrier_t *barrier;
};

static void pack(struct worker *worker, struct parcel *parcel, size_t bytes)
{
    worker->did.allocations++;
    worker->did.requested_bytes += bytes;
    worker->did.allocated_bytes += tp_pool_usable(parcel);
    parcel->bytes = bytes;
    memset(parcel->content, (int)(bytes & 255), bytes - sizeof(*parcel));
}

static void unpack(struct worker *worker, struct parcel *parcel)
{
    size_t bytes = parcel->bytes;
    if (!test_is_filled(parcel->content, (int)(bytes & 255), bytes - sizeof(*parcel)))
        worker->n_damaged++;
    worker->did.frees++;
    worker->did.freed_bytes += tp_pool_usable(parcel);
    tp_pool_free(parcel);
}

static void *hand_over(void *argument)
{
    struct worker *worker = argument;
    worker->counters = tp_pool_counters();
    pthread_barrier_wait(worker->barrier);
    for (int i = 0; i < STEPS; i++) {
        bool large = test_below(&worker->seed, 64) == 0;
        size_t bytes =
            sizeof(struct parcel) + test_size(&worker->seed, large ? 400000 : 4000);
        struct parcel *parcel = tp_pool_alloc(bytes);
        pack(worker, parcel, bytes);
        // The exchange releases what was written and acquires what others wrote.
        struct parcel *other = atomic_exchange_explicit(
            &desks[test_below(&worker->seed, DESKS)], parcel, memory_order_acq_rel);
        if (other) unpack(worker, other);
    }
    return NULL;
}

static struct worker workers[WORKERS];

static void run_workers(void *(*body)(void *), uint64_t seed)
{
    pthread_barrier_t barrier;
    assert_int_equal(pthread_barrier_init(&barrier, NULL, WORKERS), 0);
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){ .seed = seed + i, .barrier = &barrier };
        assert_int_equal(
            pthread_create(&workers[i].thread, NULL, body, &workers[i]), 0);
    }
    for (int i = 0; i < WORKERS; i++) pthread_join(workers[i].thread, NULL);
    pthread_barrier_destroy(&barrier);
}

static struct tp_sums all_sums(void)
{
    struct tp_sums all = { 0 };
    for (uint32_t i = 0; i < tp_pool_slots(); i++) {
        struct tp_sums sums = tp_counters_sums(tp_pool_slot(i));
        all.allocations += sums.allocations;
        all.frees += sums.frees;
        all.requested_bytes += sums.requested_bytes;
        all.allocated_bytes += sums.allocated_bytes;
        all.freed_bytes += sums.freed_bytes;
        all.remote_frees += sums.remote_frees;
    }
    return all;
}

static const struct tp_sums *said_of(const struct worker *worker, uint32_t from)
{
    for (uint32_t i = from; i < test_host.n_ended; i++)
        if (tp_pool_slot(test_host.slot[i]) == worker->counters)
            return &test_host.did[i];
    return NULL;
}

static void every_thread_has_its_own_exact_figures(void **state)
{
    (void)state;
    tp_pool_start();
    for (uint64_t round = 1; round <= 3; round++) {
        uint32_t ended = test_host.n_ended;
        run_workers(hand_over, 100 * round);
        assert_int_equal(test_host.n_ended, ended + WORKERS);
        for (int i = 0; i < WORKERS; i++) {
            assert_int_equal(workers[i].n_damaged, 0);
            const struct tp_sums *said = said_of(&workers[i], ended);
            assert_non_null(said);
            assert_int_equal(said->allocations, workers[i].did.allocations);
            assert_int_equal(said->frees, workers[i].did.frees);
            assert_int_equal(said->requested_bytes, workers[i].did.requested_bytes);
            assert_int_equal(said->allocated_bytes, workers[i].did.allocated_bytes);
            assert_int_equal(said->freed_bytes, workers[i].did.freed_bytes);
            // None, if it ran when the others had ended and has taken over their heaps.
            assert_in_range(said->remote_frees, 0, said->frees);
        }
    }
}

static void sums_balance_when_everything_is_free(void **state)
{
    (void)state;
    struct worker self = { 0 };
    for (int i = 0; i < DESKS; i++)
        if (desks[i]) unpack(&self, desks[i]), desks[i] = NULL;
    assert_int_equal(self.n_damaged, 0);
    struct tp_sums all = all_sums();
    assert_int_equal(all.allocations, 3 * WORKERS * STEPS);
    assert_int_equal(all.frees, all.allocations);
    assert_int_equal(all.allocated_bytes, all.freed_bytes);
    assert_true(all.remote_frees > 0);
    tp_pool_trim();
    uint64_t slabs = 0;
    for (unsigned c = 0; c < TP_CLASSES; c++) slabs += tp_account.classes[c].slabs;
    assert_int_equal(slabs, 0);
}

/* ---- the peak, when the truth is known: each step is one under a lock ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int64_t live, peak;
static struct parcel *stack[4096];
static unsigned height;

static void *grow_and_shrink(void *argument)
{
    struct worker *worker = argument;
    pthread_barrier_wait(worker->barrier);
    for (int i = 0; i < STEPS / 4; i++) {
        pthread_mutex_lock(&lock);
        bool up = test_below(&worker->seed, 100) < (i / 2000 % 2 ? 35u : 65u);
        if (up && height < 4096) {
            struct parcel *p = tp_pool_alloc(test_size(&worker->seed, 300000));
            live += (int64_t)tp_pool_usable(p);
            if (live > peak) peak = live;
            stack[height++] = p;
        } else if (height) {
            live -= (int64_t)tp_pool_usable(stack[--height]);
            tp_pool_free(stack[height]);
        }
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static void peak_is_within_its_bounds(void **state)
{
    (void)state;
    run_workers(grow_and_shrink, 1000);
    while (height) tp_pool_free(stack[--height]);
    // The first test's peak is far below this one's.
    const struct tp_totals *totals = &tp_account.totals;
    assert_true(totals->peak_low <= peak);
    assert_true(peak <= tp_max_i64(totals->peak_single, totals->peak_high));
    assert_true(totals->peak_high - totals->peak_low <= peak / 8 + 1024 * 1024);
}

/* ---- events ---- */

static _Atomic(int64_t) sampled_bytes;

static void *be_sampled(void *argument)
{
    struct worker *worker = argument;
    pthread_barrier_wait(worker->barrier);
    int64_t bytes = 0;
    for (int i = 0; i < 9973; i++) {
        void *p = tp_pool_alloc(173);
        bytes += (int64_t)tp_pool_usable(p);
        tp_pool_free(p);
    }
    atomic_fetch_add_explicit(&sampled_bytes, bytes, memory_order_relaxed);
    return NULL;
}

static void sampler_is_asked_once_for_every_distance(void **state)
{
    (void)state;
    test_host.to_sample = SAMPLE;
    uint32_t asked = test_host.n_samples;
    run_workers(be_sampled, 1);
    test_host.to_sample = INT64_MAX / 4;
    // Each answer holds from the byte that asked, so a block may overshoot.
    int64_t most = sampled_bytes / SAMPLE + WORKERS;
    int64_t least = sampled_bytes / (SAMPLE + 192);
    assert_in_range(test_host.n_samples - asked, least, most);
}

/* ---- fork while others are at work ---- */

static _Atomic(bool) stop;

static void *churn(void *argument)
{
    struct worker *worker = argument;
    pthread_barrier_wait(worker->barrier);
    void *kept[97] = { NULL };
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        size_t k = test_below(&worker->seed, 97);
        tp_pool_free(kept[k]);
        kept[k] = tp_pool_alloc(test_size(&worker->seed, 300000));
    }
    for (int k = 0; k < 97; k++) tp_pool_free(kept[k]);
    return NULL;
}

static int work_alone(void *argument)
{
    uint64_t seed = 5;
    tp_pool_forked();
    tp_pool_free(argument);
    for (int i = 0; i < 3000; i++) {
        size_t bytes = test_size(&seed, 300000);
        uint8_t *p = tp_pool_zalloc(bytes);
        if (!p || !test_is_filled(p, 0, bytes)) return 1;
        memset(p, 1, bytes);
        tp_pool_free(p);
    }
    return 0;
}

static void child_of_a_busy_process_can_work(void **state)
{
    (void)state;
    pthread_barrier_t barrier;
    assert_int_equal(pthread_barrier_init(&barrier, NULL, 3), 0);
    for (unsigned i = 0; i < 2; i++) {
        workers[i] = (struct worker){ .seed = i, .barrier = &barrier };
        assert_int_equal(
            pthread_create(&workers[i].thread, NULL, churn, &workers[i]), 0);
    }
    pthread_barrier_wait(&barrier);
    int failures = 0;
    for (int i = 0; i < FORKS; i++) {
        void *p = tp_pool_alloc(1009);
        tp_pool_before_fork();
        failures += test_in_child(work_alone, p) != 0;
        tp_pool_after_fork();
        tp_pool_free(p);
    }
    atomic_store_explicit(&stop, true, memory_order_relaxed);
    for (int i = 0; i < 2; i++) pthread_join(workers[i].thread, NULL);
    pthread_barrier_destroy(&barrier);
    assert_int_equal(failures, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_thread_has_its_own_exact_figures),
        cmocka_unit_test(sums_balance_when_everything_is_free),
        cmocka_unit_test(peak_is_within_its_bounds),
        cmocka_unit_test(sampler_is_asked_once_for_every_distance),
        cmocka_unit_test(child_of_a_busy_process_can_work),
    };
    return cmocka_run_group_tests_name("threads", tests, NULL, NULL);
}
