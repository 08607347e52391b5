/* SPDX-License-Identifier: MIT */
/*
 * test_os.c - address space comes and goes; the lock lets one in.
 */
#include "pool/os.h"

#include "tests/unit/tp_test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { AREA = 2 * 1024 * 1024, LOCKERS = 4, EACH = 20011 };

static void page_is_a_power_of_two(void **state)
{
    (void)state;
    assert_true(tp_is_pow2(tp_os_page()));
    assert_true(tp_os_page() >= TP_PAGE);
}

static void reservation_is_aligned_and_becomes_zeros(void **state)
{
    (void)state;
    char *start = tp_os_reserve(2 * AREA, AREA);
    assert_non_null(start);
    assert_int_equal((uintptr_t)start % AREA, 0);
    assert_true(tp_os_show(start, AREA));
    assert_true(test_is_filled(start, 0, AREA));
    assert_true(tp_os_commit(start, AREA));
    memset(start, 0x5a, AREA);
    assert_true(tp_os_decommit(start, AREA));
    assert_true(tp_os_commit(start, AREA));
    assert_true(test_is_filled(start, 0, AREA));
    tp_os_unmap(start, 2 * AREA);
}

static void reservation_beyond_all_space_fails(void **state)
{
    (void)state;
    errno = EXDEV;
    assert_null(tp_os_reserve(SIZE_MAX - AREA / 2, AREA));
    assert_null(tp_os_reserve((size_t)1 << 62, AREA));
    assert_int_equal(errno, EXDEV);
}

static void purged_pages_read_as_zeros(void **state)
{
    (void)state;
    char *start = tp_os_map(AREA);
    assert_non_null(start);
    assert_true(test_is_filled(start, 0, AREA));
    memset(start, 0x5a, AREA);
    assert_true(tp_os_purge(start, AREA / 2));
    assert_true(test_is_filled(start, 0, AREA / 2));
    assert_true(test_is_filled(start + AREA / 2, 0x5a, AREA / 2));
    tp_os_unmap(start, AREA);
}

static void moved_pages_take_their_content_along(void **state)
{
    (void)state;
    char *from = tp_os_map(AREA), *to = tp_os_map(AREA);
    memset(from, 0x5a, AREA);
    memset(to, 0x17, AREA);
    if (tp_os_move(from, to, AREA) != TP_MOVED) skip();
    assert_true(test_is_filled(to, 0x5a, AREA));
    assert_true(test_is_filled(from, 0, AREA));
    tp_os_unmap(from, AREA);
    tp_os_unmap(to, AREA);
}

static _Atomic(uint32_t) *mark;

static int read_mark(void *argument)
{
    (void)argument;
    return (int)atomic_load_explicit(mark, memory_order_relaxed);
}

static void child_finds_its_fork_mark_wiped(void **state)
{
    (void)state;
    mark = tp_os_fork_mark();
    if (!mark) skip();
    assert_int_equal(read_mark(NULL), 1);
    assert_int_equal(test_in_child(read_mark, NULL), 0);
    assert_int_equal(read_mark(NULL), 1);
}

static void clocks_do_not_go_back(void **state)
{
    (void)state;
    uint64_t ns = tp_os_now_ns(), ticks = tp_os_ticks();
    tp_os_pause();
    assert_true(tp_os_now_ns() > ns);
    assert_true(tp_os_ticks() > ticks);
}

static struct tp_lock lock;
static unsigned guarded;

static void *count_under_lock(void *argument)
{
    (void)argument;
    for (int i = 0; i < EACH; i++) {
        while (i % 7 == 0 && !tp_lock_try(&lock)) tp_os_pause();
        if (i % 7) tp_lock_enter(&lock);
        guarded++;
        if (i % 5000 == 0) tp_os_pause();  // let the others fall asleep
        tp_lock_leave(&lock);
    }
    return NULL;
}

static void lock_lets_one_thread_in(void **state)
{
    (void)state;
    pthread_t thread[LOCKERS];
    for (int i = 0; i < LOCKERS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, count_under_lock, NULL), 0);
    for (int i = 0; i < LOCKERS; i++) pthread_join(thread[i], NULL);
    assert_int_equal(guarded, LOCKERS * EACH);
    assert_int_equal(lock.word, 0);
}

static void held_lock_cannot_be_had(void **state)
{
    (void)state;
    assert_true(tp_lock_try(&lock));
    assert_false(tp_lock_try(&lock));
    tp_lock_leave(&lock);
    assert_true(tp_lock_try(&lock));
    tp_lock_leave(&lock);
}

static void a_write_that_nobody_reads_brings_no_signal(void **state)
{
    (void)state;
    int ends[2];
    struct tp_quiet quiet;
    sigset_t pending;
    assert_int_equal(pipe(ends), 0);
    close(ends[0]);
    tp_os_quiet(&quiet);
    assert_int_equal(write(ends[1], "x", 1), -1);
    assert_int_equal(errno, EPIPE);
    tp_os_loud(&quiet);  // where it would come now, this test is over
    assert_int_equal(errno, EPIPE);
    assert_int_equal(sigpending(&pending), 0);
    assert_false(sigismember(&pending, SIGPIPE));
    close(ends[1]);
}

static void a_signal_that_the_program_blocks_stays_as_it_was(void **state)
{
    (void)state;
    sigset_t mine, before, after;
    struct tp_quiet quiet;
    sigemptyset(&mine);
    sigaddset(&mine, SIGPIPE);
    assert_int_equal(sigprocmask(SIG_BLOCK, &mine, &before), 0);
    raise(SIGPIPE);
    tp_os_quiet(&quiet);
    tp_os_loud(&quiet);
    assert_int_equal(sigpending(&after), 0);
    assert_true(sigismember(&after, SIGPIPE));
    assert_int_equal(sigprocmask(SIG_BLOCK, NULL, &after), 0);
    assert_true(sigismember(&after, SIGPIPE));
    assert_false(sigismember(&after, SIGXFSZ));
    assert_int_equal(sigwaitinfo(&mine, NULL), SIGPIPE);
    sigprocmask(SIG_SETMASK, &before, NULL);
}

static void file_limit_is_what_was_set(void **state)
{
    (void)state;
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 12345;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(tp_os_file_limit(), 12345);
    setrlimit(RLIMIT_FSIZE, &before);
    if (before.rlim_cur == RLIM_INFINITY)
        assert_int_equal(tp_os_file_limit(), UINT64_MAX);
}

static void a_sandbox_knows_its_threads_too(void **state)
{
    (void)state;
    char name[16] = "untouched";
    uint32_t tid = tp_os_tid();
    assert_false(tp_os_on_signal_stack());
    atomic_store(&tp_os_sandboxed, true);
    assert_int_equal(tp_os_tid(), tid);
    assert_true(tp_os_on_signal_stack());
    tp_os_thread_name(name);
    assert_string_equal(name, "untouched");
    atomic_store(&tp_os_sandboxed, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(page_is_a_power_of_two),
        cmocka_unit_test(reservation_is_aligned_and_becomes_zeros),
        cmocka_unit_test(reservation_beyond_all_space_fails),
        cmocka_unit_test(purged_pages_read_as_zeros),
        cmocka_unit_test(moved_pages_take_their_content_along),
        cmocka_unit_test(child_finds_its_fork_mark_wiped),
        cmocka_unit_test(clocks_do_not_go_back),
        cmocka_unit_test(a_write_that_nobody_reads_brings_no_signal),
        cmocka_unit_test(a_signal_that_the_program_blocks_stays_as_it_was),
        cmocka_unit_test(file_limit_is_what_was_set),
        cmocka_unit_test(a_sandbox_knows_its_threads_too),
        cmocka_unit_test(lock_lets_one_thread_in),
        cmocka_unit_test(held_lock_cannot_be_had),
    };
    return cmocka_run_group_tests_name("os", tests, NULL, NULL);
}
