/* SPDX-License-Identifier: MIT */
/*
 * test_fold.c - heaps of many ended threads are given up; no count is lost, at any
 * instruction.
 */
#include "pool/heap.h"
#include "pool/pool.h"

#include "tests/unit/tp_test.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    CROWD = 600,  // threads at once
    EACH = 7,     // blocks each of them takes
    KEPT = 200,   // heaps that may stay parked, and some
    ODD_SIZE = 1733,
};

struct job {
    pthread_t thread;
    unsigned keep;  // blocks that outlive the thread
    void *blocks[EACH];
    uint32_t slot;
    uint64_t epoch;
};

static struct job jobs[CROWD];
static pthread_barrier_t barrier;
static pthread_attr_t small_stack;

/* The counters are where a child can write them and we can read. */
void tp_host_bay(struct tp_counters *counters, uint32_t first)
{
    (void)first;
    mmap(counters, TP_BAY_SLOTS * sizeof(*counters), PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
}

bool tp_host_release(struct tp_counters *counters, uint32_t first, uint32_t n)
{
    (void)first;
    for (uint32_t i = 0; i < n; i++)
        if (!test_is_filled(&counters[i], 0, sizeof(counters[i]))) return false;
    test_host.n_released += n;
    return true;
}

static int open_pool(void **state)
{
    (void)state;
    mmap(&tp_account, sizeof(tp_account), PROT_READ | PROT_WRITE,
        MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    pthread_attr_init(&small_stack);
    pthread_attr_setstacksize(&small_stack, 256 * 1024);
    return tp_pool_start() && tp_pool_counters() ? 0 : 1;
}

static struct tp_sums all_sums(void)
{
    struct tp_sums all;
    struct tp_walk walk;
    do {
        const struct tp_counters *counters;
        memset(&all, 0, sizeof(all));
        walk = tp_pool_walk();
        while ((counters = tp_pool_next(&walk))) {
            struct tp_sums sums = tp_counters_sums(counters);
            all.allocations += sums.allocations;
            all.frees += sums.frees;
            all.requested_bytes += sums.requested_bytes;
            all.remote_frees += sums.remote_frees;
        }
    } while (!tp_pool_walked(&walk));
    return all;
}

static unsigned slots_in_state(uint32_t wanted)
{
    unsigned n = 0;
    struct tp_walk walk = tp_pool_walk();
    const struct tp_counters *counters;
    while ((counters = tp_pool_next(&walk))) n += counters->state == wanted;
    return n;
}

static void *do_job(void *argument)
{
    struct job *job = argument;
    for (unsigned i = 0; i < EACH; i++) job->blocks[i] = tp_pool_alloc(ODD_SIZE + i);
    job->slot = tp_heap_self->index;
    job->epoch = tp_pool_counters()->epoch;
    pthread_barrier_wait(&barrier);
    for (unsigned i = job->keep; i < EACH; i++) tp_pool_free(job->blocks[i]);
    return NULL;
}

static void start_crowd(unsigned n, unsigned keep)
{
    pthread_barrier_init(&barrier, NULL, n + 1);
    for (unsigned i = 0; i < n; i++) {
        jobs[i].keep = keep;
        assert_int_equal(
            pthread_create(&jobs[i].thread, &small_stack, do_job, &jobs[i]), 0);
    }
}

static void end_crowd(unsigned n)
{
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < n; i++) pthread_join(jobs[i].thread, NULL);
    pthread_barrier_destroy(&barrier);
}

static void crowd_leaves_its_figures_and_few_slots(void **state)
{
    (void)state;
    struct tp_sums before = all_sums();
    start_crowd(CROWD, 0);
    end_crowd(CROWD);
    struct tp_sums after = all_sums();
    assert_int_equal(after.allocations - before.allocations, CROWD * EACH);
    assert_int_equal(after.frees - before.frees, CROWD * EACH);
    assert_int_equal(after.requested_bytes - before.requested_bytes,
        CROWD * (EACH * ODD_SIZE + EACH * (EACH - 1) / 2));
    assert_in_range(slots_in_state(TP_PARKED), 1, KEPT);
    assert_int_equal(slots_in_state(TP_FOLDED), 1);
    assert_true(test_host.n_released > CROWD - 2 * KEPT);
}

static void next_crowd_uses_the_same_slots(void **state)
{
    (void)state;
    uint32_t slots = tp_pool_slots(), restored = test_host.n_restored;
    struct tp_sums before = all_sums();
    start_crowd(CROWD - 50, 0);
    end_crowd(CROWD - 50);
    struct tp_sums after = all_sums();
    assert_int_equal(tp_pool_slots(), slots);
    assert_true(test_host.n_restored > restored);
    assert_int_equal(after.allocations - before.allocations, (CROWD - 50) * EACH);
    assert_int_equal(after.frees - before.frees, (CROWD - 50) * EACH);
}

static void epoch_of_a_slot_goes_on_after_it_was_folded(void **state)
{
    (void)state;
    static uint64_t next[2 * CROWD];  // the least epoch that a slot may begin with
    for (int round = 0; round < 3; round++) {
        start_crowd(CROWD, 0);
        end_crowd(CROWD);
        for (unsigned i = 0; i < CROWD; i++) {
            assert_in_range(jobs[i].slot, 1, 2 * CROWD - 1);
            assert_true(jobs[i].epoch >= next[jobs[i].slot]);
            next[jobs[i].slot] = jobs[i].epoch + 1;
        }
    }
}

static void what_outlives_its_heap_moves_to_another(void **state)
{
    (void)state;
    tp_pool_trim();
    uint64_t slabs = tp_account.classes[tp_class_of(ODD_SIZE)].slabs;
    struct tp_sums before = all_sums();
    start_crowd(CROWD, 2);
    end_crowd(CROWD);
    assert_in_range(slots_in_state(TP_PARKED), 1, KEPT);
    for (unsigned i = 0; i < CROWD; i++)
        for (unsigned k = 0; k < 2; k++) {
            assert_int_equal(tp_pool_usable(jobs[i].blocks[k]), 1792);
            memset(jobs[i].blocks[k], 0x3c, ODD_SIZE);
            tp_pool_free(jobs[i].blocks[k]);
        }
    struct tp_sums after = all_sums();
    assert_int_equal(after.allocations - before.allocations, CROWD * EACH);
    assert_int_equal(after.frees - before.frees, CROWD * EACH);
    tp_pool_trim();
    assert_in_range(tp_account.classes[tp_class_of(ODD_SIZE)].slabs, 0, slabs + 1);
}

static void *try_job(void *argument)
{
    struct job *job = argument;
    tp_pool_free(tp_pool_alloc(1));
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < EACH * 100; i++) {
        void *block = tp_pool_alloc(ODD_SIZE + i % EACH);
        if (!block) job->keep++;
        tp_pool_free(job->blocks[i % EACH]);
        job->blocks[i % EACH] = block;
    }
    for (unsigned i = 0; i < EACH; i++) tp_pool_free(job->blocks[i]);
    return NULL;
}

/* Must be first: it wants to see a park without heaps to spare. */
static void threads_beyond_the_last_heap_share_one(void **state)
{
    (void)state;
    enum { MANY = 300, HEAPS = 8 };
    struct tp_sums before = all_sums();
    uint32_t most = tp_park_most;
    tp_park_most = HEAPS;
    pthread_barrier_init(&barrier, NULL, MANY);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(
            pthread_create(&jobs[i].thread, &small_stack, try_job, &jobs[i]), 0);
    unsigned refused = 0;
    for (unsigned i = 0; i < MANY; i++) {
        pthread_join(jobs[i].thread, NULL);
        refused += jobs[i].keep;
    }
    pthread_barrier_destroy(&barrier);
    tp_park_most = most;
    struct tp_sums after = all_sums();
    assert_int_equal(refused, 0);
    assert_int_equal(tp_pool_slots(), HEAPS);
    assert_int_equal(after.allocations - before.allocations, MANY * (EACH * 100 + 1));
    assert_int_equal(after.frees - before.frees, MANY * (EACH * 100 + 1));
    assert_true(tp_counters_sums(tp_pool_slot(0)).allocations > 0);
    memset(jobs, 0, sizeof(jobs));
}

/* ---- sums while slots are folded ---- */

static _Atomic(bool) over;
static uint64_t expected;

static void *check_sums(void *argument)
{
    uintptr_t wrong = 0;
    (void)argument;
    while (!atomic_load_explicit(&over, memory_order_relaxed))
        if (all_sums().allocations != expected) wrong++;
    return (void *)wrong;
}

static void sums_are_the_same_while_slots_are_folded(void **state)
{
    (void)state;
    pthread_t checker;
    void *wrong;
    for (int round = 0; round < 3; round++) {
        start_crowd(CROWD, 0);
        atomic_store(&over, false);
        // All blocks are taken: nothing but the end of threads changes anything.
        pthread_barrier_wait(&barrier);
        expected = all_sums().allocations;
        assert_int_equal(pthread_create(&checker, NULL, check_sums, NULL), 0);
        for (unsigned i = 0; i < CROWD; i++) pthread_join(jobs[i].thread, NULL);
        atomic_store(&over, true);
        pthread_join(checker, &wrong);
        assert_int_equal((uintptr_t)wrong, 0);
        pthread_barrier_destroy(&barrier);
    }
}

/* ---- sums at every instruction ---- */

/* Not under a sanitizer, which has signals and threads of its own in a child. */
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)

enum { FIRST = 35, SLOTS = 3 };

static void fold_in_child(void)
{
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) _exit(77);
    raise(SIGSTOP);
    tp_fold_slots(FIRST, SLOTS);
    _exit(0);
}

static uint64_t sum_of_class(unsigned c)
{
    uint64_t sum = 0;
    struct tp_walk walk = tp_pool_walk();
    const struct tp_counters *counters;
    while ((counters = tp_pool_next(&walk)))
        sum += counters->taken[c].allocations * 1000003 + counters->frees[c];
    return sum;
}

static void fold_is_exact_at_every_instruction(void **state)
{
    (void)state;
    // Nobody is in these slots; they are given something to be folded.
    unsigned c = tp_class_of(ODD_SIZE);
    uint64_t without = sum_of_class(c);
    for (uint32_t i = FIRST; i < FIRST + SLOTS; i++) {
        struct tp_counters *slot = tp_pool_slot(i);
        slot->taken[c].allocations += 101 + i;
        slot->frees[c] += 97 + i;
        slot->state = TP_PARKED;
    }
    assert_true(sum_of_class(c) > without);
    for (int turn = 0; turn < 2; turn++) {
        uint64_t before = sum_of_class(c), steps = 0;
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) fold_in_child();
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
            print_message("nobody may be traced here\n");
            return;
        }
        assert_true(WIFSTOPPED(status));
        while (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) == 0) {
            assert_int_equal(waitpid(child, &status, 0), child);
            if (!WIFSTOPPED(status)) break;
            assert_int_equal(sum_of_class(c), before);
            steps++;
        }
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        assert_true(steps > 1000);
        assert_int_equal(tp_pool_slot(FIRST)->taken[c].allocations, 0);
        tp_pool_slot(FIRST)->taken[c].allocations = 11;
    }
    tp_fold_slots(FIRST, SLOTS);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_beyond_the_last_heap_share_one),
        cmocka_unit_test(crowd_leaves_its_figures_and_few_slots),
        cmocka_unit_test(next_crowd_uses_the_same_slots),
        cmocka_unit_test(epoch_of_a_slot_goes_on_after_it_was_folded),
        cmocka_unit_test(what_outlives_its_heap_moves_to_another),
        cmocka_unit_test(sums_are_the_same_while_slots_are_folded),
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
        cmocka_unit_test(fold_is_exact_at_every_instruction),
#endif
    };
    return cmocka_run_group_tests_name("fold", tests, open_pool, NULL);
}
