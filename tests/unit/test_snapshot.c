/* SPDX-License-Identifier: MIT */
/*
 * test_snapshot.c - memory that a parent and a child share, and the parent writes on.
 */
#include "shim/output.h"
#include "shim/profile.h"

#include "tests/unit/tp_test.h"

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PART = 5000, PARTS = 3, LARGE = 1 << 20 };

static char *shared;  // PARTS parts, and a large one
static unsigned parts;
static size_t bytes_of_last;

bool tp_live_shared(uint32_t i, struct tp_live_bytes *out)
{
    *out = (struct tp_live_bytes){ shared + (size_t)i * PART,
        i + 1 < parts ? PART : bytes_of_last };
    return i < parts;
}

static int set_up(void **state)
{
    (void)state;
    if (!shared)
        shared = mmap(NULL, PARTS * PART + LARGE, PROT_READ | PROT_WRITE,
            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(shared != MAP_FAILED);
    memset(shared, 'a', PARTS * PART + LARGE);
    parts = PARTS;
    bytes_of_last = PART;
    return 0;
}

static bool is_all(const char *bytes, size_t n, char c)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != c) return false;
    return true;
}

/* What a child reads that is asked late; exit status 0: all as at the fork. */
static int status_of_late_child(size_t bytes, char beyond)
{
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    tp_snapshot_take();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        static char copy[PART + LARGE];
        char go;
        bool good = read(pipes[0], &go, 1) == 1;
        for (unsigned i = 0; i < parts; i++) {
            size_t known = i + 1 < parts ? PART : bytes_of_last;
            tp_snapshot_read(copy, shared + (size_t)i * PART, bytes);
            good = good && is_all(copy, known < bytes ? known : bytes, 'a') &&
                (known >= bytes || is_all(copy + known, bytes - known, beyond));
        }
        tp_snapshot_end(true);
        tp_snapshot_read(copy, shared, 1);
        _exit(good && copy[0] == 'b' ? 0 : 1);
    }
    tp_snapshot_end(false);
    memset(shared, 'b', PARTS * PART + LARGE);
    assert_int_equal(write(pipes[1], "g", 1), 1);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    close(pipes[0]);
    close(pipes[1]);
    return status;
}

static void a_child_has_what_was_there_at_the_fork(void **state)
{
    (void)state;
    assert_int_equal(status_of_late_child(PART, 'a'), 0);
}

static void a_part_that_grew_is_read_to_its_end(void **state)
{
    (void)state;
    parts = 1;
    bytes_of_last = 16;
    assert_int_equal(status_of_late_child(PART, 'b'), 0);
}

static void the_next_fork_has_its_own(void **state)
{
    (void)state;
    bytes_of_last = LARGE;
    assert_int_equal(status_of_late_child(PART, 'a'), 0);
    set_up(NULL);
    assert_int_equal(status_of_late_child(PART, 'a'), 0);
}

static void *take_and_fork(void *argument)
{
    (void)argument;
    tp_snapshot_take();
    char copy[PART];
    tp_snapshot_read(copy, shared, PART);
    uintptr_t as_it_is = is_all(copy, PART, 'b');
    tp_snapshot_end(false);
    return (void *)as_it_is;
}

static void who_comes_second_reads_what_is_there(void **state)
{
    (void)state;
    pthread_t thread;
    void *as_it_is;
    char copy[PART];
    tp_snapshot_take();
    memset(shared, 'b', PARTS * PART);
    assert_int_equal(pthread_create(&thread, NULL, take_and_fork, NULL), 0);
    pthread_join(thread, &as_it_is);
    assert_non_null(as_it_is);
    tp_snapshot_read(copy, shared, PART);
    assert_true(is_all(copy, PART, 'a'));
    tp_snapshot_end(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_child_has_what_was_there_at_the_fork, set_up),
        cmocka_unit_test_setup(a_part_that_grew_is_read_to_its_end, set_up),
        cmocka_unit_test_setup(the_next_fork_has_its_own, set_up),
        cmocka_unit_test_setup(who_comes_second_reads_what_is_there, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
