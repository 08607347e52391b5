/* SPDX-License-Identifier: MIT */
/*
 * test_park.c - threads come and go; their heaps and their figures stay.
 */
#include "pool/heap.h"
#include "pool/pool.h"

#include "tests/unit/tp_test.h"

#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>

enum { CROWD = 40, BLOCKS = 499, ODD_SIZE = 1733 };

struct job {
    unsigned take, give;   // blocks
    void *blocks[BLOCKS];  // those taken and not given
    struct tp_counters *counters;
    pthread_barrier_t *barrier;
};

static int open_pool(void **state)
{
    (void)state;
    return tp_pool_start() && tp_pool_counters() ? 0 : 1;
}

static void *do_job(void *argument)
{
    struct job *job = argument;
    prctl(PR_SET_NAME, "worker");
    for (unsigned i = 0; i < job->take; i++) job->blocks[i] = tp_pool_alloc(ODD_SIZE);
    for (unsigned i = 0; i < job->give; i++) tp_pool_free(job->blocks[i]);
    job->counters = tp_pool_counters();
    if (job->barrier) pthread_barrier_wait(job->barrier);
    return NULL;
}

static void run(void *(*body)(void *), void *argument)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, body, argument), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static uint64_t slabs(void)
{
    return tp_account.classes[tp_class_of(ODD_SIZE)].slabs;
}

static void first_slot_is_shared_by_those_without_one(void **state)
{
    (void)state;
    assert_int_equal(tp_pool_slot(0)->state, TP_SHARED);
    assert_int_equal(tp_pool_counters()->state, TP_RUNNING);
    assert_int_equal(tp_pool_counters()->tid, tp_os_tid());
    assert_int_equal(tp_pool_slots(), 2);
    assert_null(tp_pool_slot(2));
    assert_null(tp_pool_slot(UINT32_MAX));
}

static void slot_of_an_ended_thread_is_continued(void **state)
{
    (void)state;
    uint32_t ended = test_host.n_ended;
    uint64_t total = tp_account.totals.ended;
    struct job first = { .take = 97, .give = 97 }, second = { .take = 13, .give = 13 };
    run(do_job, &first);
    assert_int_equal(first.counters->state, TP_PARKED);
    assert_string_equal(first.counters->name, "worker");
    uint32_t slots = tp_pool_slots();
    run(do_job, &second);
    assert_ptr_equal(first.counters, second.counters);
    assert_int_equal(tp_pool_slots(), slots);
    assert_int_equal(tp_counters_sums(second.counters).allocations, 97 + 13);
    assert_int_equal(second.counters->epoch, 2);

    assert_int_equal(test_host.n_ended, ended + 2);
    assert_int_equal(tp_account.totals.ended, total + 2);
    assert_int_equal(test_host.did[ended].allocations, 97);
    assert_int_equal(test_host.did[ended].requested_bytes, 97 * ODD_SIZE);
    assert_int_equal(test_host.did[ended + 1].allocations, 13);
    assert_int_equal(test_host.did[ended + 1].frees, 13);
    assert_ptr_equal(tp_pool_slot(test_host.slot[ended]), first.counters);
}

static void *do_nothing(void *argument)
{
    return argument;
}

static void thread_that_takes_nothing_costs_no_slot(void **state)
{
    (void)state;
    uint32_t started = tp_account.totals.started;
    run(do_nothing, NULL);
    assert_int_equal(tp_account.totals.started, started);
}

static void threads_at_one_time_have_slots_of_their_own(void **state)
{
    (void)state;
    static struct job jobs[CROWD];
    pthread_t thread[CROWD];
    pthread_barrier_t barrier;
    uint32_t running = tp_account.totals.running, ended = test_host.n_ended;
    assert_int_equal(pthread_barrier_init(&barrier, NULL, CROWD), 0);
    for (unsigned i = 0; i < CROWD; i++) {
        jobs[i] = (struct job){ .take = i + 1, .give = i + 1, .barrier = &barrier };
        assert_int_equal(pthread_create(&thread[i], NULL, do_job, &jobs[i]), 0);
    }
    for (int i = 0; i < CROWD; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < CROWD; i++)
        for (int j = 0; j < i; j++)
            assert_ptr_not_equal(jobs[i].counters, jobs[j].counters);
    assert_true(tp_pool_slots() >= CROWD + 2);
    assert_int_equal(tp_account.totals.running, running);
    assert_int_equal(test_host.n_ended, ended + CROWD);
    for (uint32_t i = 0; i < tp_pool_slots(); i++) assert_non_null(tp_pool_slot(i));
    pthread_barrier_destroy(&barrier);
}

static void orphaned_blocks_are_freed_by_those_who_live(void **state)
{
    (void)state;
    struct job job = { .take = BLOCKS };
    run(do_job, &job);
    uint64_t before = slabs();
    struct tp_counters *mine = tp_pool_counters();
    uint64_t remote = tp_count_read(&mine->remote_frees);
    assert_true(before >= BLOCKS * ODD_SIZE / TP_GRANULE);
    for (int i = 0; i < BLOCKS; i++) {
        memset(job.blocks[i], 0x5a, ODD_SIZE);
        tp_pool_free(job.blocks[i]);
    }
    assert_int_equal(tp_count_read(&mine->remote_frees) - remote, BLOCKS);
    tp_pool_trim();
    assert_in_range(slabs(), 0, 1);  // this thread's bin may hold on to one
}

static void slabs_of_a_parked_heap_are_used_before_new_ones(void **state)
{
    (void)state;
    struct job job = { .take = BLOCKS, .give = BLOCKS - 1 };
    run(do_job, &job);
    // The order in which parked heaps have their turn decides when it is found.
    for (uint32_t i = 0; i < tp_pool_slots(); i++) tp_park_collect();
    struct tp_slab *slab = tp_slab_at(job.blocks[BLOCKS - 1]);
    uintptr_t owner = tp_slab_owner(slab);
    void *blocks[BLOCKS];
    unsigned n = 0;
    bool stolen = false;
    while (n < BLOCKS && !stolen) {
        blocks[n++] = tp_pool_alloc(ODD_SIZE);
        stolen = tp_slab_owner(slab) != owner;
    }
    for (unsigned i = 0; i < n; i++) tp_pool_free(blocks[i]);
    tp_pool_free(job.blocks[BLOCKS - 1]);
    assert_true(stolen);
}

static void shared_heap_is_for_one_at_a_time(void **state)
{
    (void)state;
    struct tp_heap *shared = tp_park_enter_shared(false);
    assert_ptr_equal(shared, tp_park_at(0));
    assert_true(shared->shared);
    assert_null(tp_park_enter_shared(false));
    tp_park_leave_shared(shared);
    assert_ptr_equal(tp_park_enter_shared(false), shared);
    tp_park_leave_shared(shared);
}

/* ---- destructors that allocate, to the last round ---- */

#if defined(__SANITIZE_THREAD__)
enum { ROUNDS = 3 };  // the sanitizer leaves its threads in the fourth
#else
enum { ROUNDS = 4 };
#endif

static pthread_key_t late;
static _Atomic(uint32_t) n_rounds;

static void allocate_late(void *data)
{
    tp_pool_free(data);
    uint32_t round = atomic_fetch_add_explicit(&n_rounds, 1, memory_order_relaxed);
    void *p = tp_pool_alloc(ODD_SIZE);
    if (round + 1 < ROUNDS && pthread_setspecific(late, p) == 0) return;
    tp_pool_free(p);
}

static void *leave_something(void *argument)
{
    pthread_setspecific(late, tp_pool_alloc(ODD_SIZE));
    return argument;
}

static struct tp_sums all_sums(void)
{
    struct tp_sums all = { 0 };
    for (uint32_t i = 0; i < tp_pool_slots(); i++) {
        struct tp_sums sums = tp_counters_sums(tp_pool_slot(i));
        all.allocations += sums.allocations;
        all.frees += sums.frees;
        all.allocated_bytes += sums.allocated_bytes;
        all.freed_bytes += sums.freed_bytes;
    }
    return all;
}

static void nothing_is_lost_in_the_last_destructors(void **state)
{
    (void)state;
    assert_int_equal(pthread_key_create(&late, allocate_late), 0);
    struct tp_sums before = all_sums();
    run(leave_something, NULL);
    struct tp_sums after = all_sums();
    assert_int_equal(n_rounds, ROUNDS);
    assert_int_equal(after.allocations - before.allocations, ROUNDS + 1);
    assert_int_equal(after.frees - before.frees, ROUNDS + 1);
    assert_int_equal(after.allocated_bytes - before.allocated_bytes,
        after.freed_bytes - before.freed_bytes);
    pthread_key_delete(late);
}

/* ---- threads without a heap count in one slot, all of them ---- */

enum { LATE = 4, LATE_CALLS = 1500000 };

static pthread_barrier_t all_late;
static _Thread_local unsigned late_rounds;

static void count_late(void *data)
{
    // Pool's key is older: in the last round its destructor has run before.
    if (++late_rounds < ROUNDS) {
        pthread_setspecific(late, data);
        return;
    }
    pthread_barrier_wait(&all_late);
    for (unsigned i = 0; i < LATE_CALLS; i++) {
        tp_pool_count_call(TP_CALL_MEMALIGN);
        tp_pool_count_failure(TP_CALL_VALLOC);
    }
}

static void *be_late(void *argument)
{
    tp_pool_free(tp_pool_alloc(1));
    pthread_setspecific(late, argument);
    return NULL;
}

static void calls_of_threads_without_a_heap_are_all_counted(void **state)
{
    (void)state;
    pthread_t thread[LATE];
    const struct tp_counters *shared = tp_pool_slot(0);
    uint64_t calls = shared->calls[TP_CALL_MEMALIGN];
    uint64_t failed = shared->failed[TP_CALL_VALLOC];
    assert_int_equal(pthread_key_create(&late, count_late), 0);
    assert_int_equal(pthread_barrier_init(&all_late, NULL, LATE), 0);
    for (unsigned i = 0; i < LATE; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, be_late, &all_late), 0);
    for (unsigned i = 0; i < LATE; i++) pthread_join(thread[i], NULL);
    assert_int_equal(shared->calls[TP_CALL_MEMALIGN] - calls, LATE * LATE_CALLS);
    assert_int_equal(shared->failed[TP_CALL_VALLOC] - failed, LATE * LATE_CALLS);
    pthread_barrier_destroy(&all_late);
    pthread_key_delete(late);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_slot_is_shared_by_those_without_one),
        cmocka_unit_test(slot_of_an_ended_thread_is_continued),
        cmocka_unit_test(thread_that_takes_nothing_costs_no_slot),
        cmocka_unit_test(orphaned_blocks_are_freed_by_those_who_live),
        cmocka_unit_test(slabs_of_a_parked_heap_are_used_before_new_ones),
        cmocka_unit_test(threads_at_one_time_have_slots_of_their_own),
        cmocka_unit_test(orphaned_blocks_are_freed_by_those_who_live),
        cmocka_unit_test(shared_heap_is_for_one_at_a_time),
        cmocka_unit_test(nothing_is_lost_in_the_last_destructors),
        cmocka_unit_test(calls_of_threads_without_a_heap_are_all_counted),
    };
    return cmocka_run_group_tests_name("park", tests, open_pool, NULL);
}
