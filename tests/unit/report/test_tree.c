/* SPDX-License-Identifier: MIT */
/*
 * test_tree.c - every dump finds its process, every process its parent, and no block
 * is in two sums.
 */
#include "tests/unit/report/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MANY = 3001, SECOND = 1000000000 };

/* A family under construction. */
static struct tp_dump dumps[MANY];
static struct tp_thread_slot slots[MANY];
static size_t n_dumps;
static struct tp_report report;

static int begin(void **state)
{
    (void)state;
    memset(dumps, 0, sizeof(dumps));
    memset(slots, 0, sizeof(slots));
    memset(&report, 0, sizeof(report));
    n_dumps = 0;
    return 0;
}

static int end(void **state)
{
    (void)state;
    for (size_t i = 0; i < report.n_profiles; i++) tp_profile_fini(&report.profiles[i]);
    tp_tree_fini(&report.tree);
    free(report.profiles);
    return 0;
}

/*
 * Adds a program that `pid` ran from second `start` on and that took `n` blocks of 16
 * bytes. A pid is one process unless its start_jiffies are changed.
 */
static struct tp_dump *add(
    uint32_t pid, uint32_t ppid, unsigned start, const char *name, uint64_t n)
{
    struct tp_thread_slot *slot = &slots[n_dumps];
    struct tp_dump *dump = &dumps[n_dumps++];
    slot->state = TP_SLOT_RUNNING;
    slot->tid = pid;
    slot->taken[0] = (struct tp_taken){ n, n * 13 };
    test_dump(dump, slot, 1);
    dump->process.pid = pid;
    dump->process.ppid = ppid;
    dump->process.start_jiffies = pid;
    dump->process.start_monotonic_ns = (uint64_t)start * SECOND;
    dump->process.start_unix_ns = (uint64_t)(start + 1000) * SECOND;
    dump->header.monotonic_ns = (uint64_t)(start + 1) * SECOND;
    snprintf(dump->process.name, sizeof(dump->process.name), "%s", name);
    return dump;
}

static void build(void)
{
    struct tp_error error;
    report.profiles = calloc(n_dumps, sizeof(report.profiles[0]));
    assert_non_null(report.profiles);
    for (; report.n_profiles < n_dumps; report.n_profiles++)
        assert_true(tp_profile_build(&report.profiles[report.n_profiles],
            &dumps[report.n_profiles], "x", &error));
    assert_true(tp_tree_build(&report, &error));
}

static const struct tp_node *node(size_t i)
{
    assert_true(i < report.tree.n_nodes);
    return &report.tree.nodes[i];
}

static void the_order_of_the_file_does_not_matter(void **state)
{
    (void)state;
    add(13, 11, 4, "grandchild", 3);
    add(12, 10, 3, "second", 5);
    add(11, 10, 2, "first", 7);
    add(10, 1, 1, "main", 11);
    build();
    static const uint32_t pids[] = { 10, 11, 13, 12 };
    static const size_t parents[] = { TP_NO_NODE, 0, 1, 0 };
    static const size_t below[] = { 3, 1, 0, 0 };
    assert_int_equal(report.tree.n_nodes, 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(node(i)->pid, pids[i]);
        assert_true(node(i)->parent == parents[i]);
        assert_int_equal(node(i)->n_below, below[i]);
        assert_int_equal(report.profiles[i].dump->process.pid, pids[i]);
    }
    assert_int_equal(node(2)->depth, 2);
    assert_int_equal(report.tree.sum.allocations, 3 + 5 + 7 + 11);
}

static void an_exec_is_another_program_of_the_same_process(void **state)
{
    (void)state;
    add(20, 10, 5, "child of the second", 2);
    add(10, 1, 1, "sh", 3);
    add(10, 1, 2, "app", 5);
    build();
    assert_int_equal(report.tree.n_nodes, 2);
    assert_int_equal(node(0)->n_programs, 2);
    assert_int_equal(node(0)->n_profiles, 2);
    assert_int_equal(node(0)->own.allocations, 8);
    assert_int_equal(node(0)->duration_ns, UINT64_C(2) * SECOND);
    assert_int_equal(node(1)->parent, 0);
    assert_int_equal(report.tree.n_programs, 3);
    char *text = test_capture(tp_text_write, &report);
    assert_non_null(strstr(text, "\n  sh -> app  "));
    free(text);
}

static void a_pid_that_is_used_again_is_another_process(void **state)
{
    (void)state;
    add(1, 0, 0, "main", 1);
    add(10, 1, 1, "old", 3);
    struct tp_dump *young = add(10, 1, 5, "young", 5);
    young->process.start_jiffies = 500;
    add(11, 10, 2, "of the old", 7);
    add(12, 10, 6, "of the young", 9);
    build();
    assert_int_equal(report.tree.n_nodes, 5);
    assert_int_equal(node(1)->own.allocations, 3);
    assert_int_equal(node(2)->own.allocations, 7);
    assert_int_equal(node(2)->parent, 1);
    assert_int_equal(node(3)->own.allocations, 5);
    assert_int_equal(node(4)->own.allocations, 9);
    assert_int_equal(node(4)->parent, 3);
}

static void of_several_dumps_the_last_counts(void **state)
{
    (void)state;
    add(10, 1, 1, "main", 101)->header.sequence = 1;
    struct tp_dump *killed = add(10, 1, 1, "main", 211);  // from a live file: no number
    killed->header.reason = TP_REASON_KILLED;
    add(10, 1, 1, "main", 11)->header.sequence = 0;
    build();
    assert_int_equal(report.tree.n_nodes, 1);
    assert_int_equal(node(0)->n_profiles, 3);
    assert_int_equal(node(0)->n_programs, 1);
    assert_int_equal(node(0)->own.allocations, 211);
    assert_int_equal(report.tree.programs[0].processes, 1);
    assert_false(report.profiles[0].counts);
    assert_false(report.profiles[1].counts);
    assert_true(report.profiles[2].counts);
    assert_string_equal(report.profiles[2].reason, "killed");
    char *text = test_capture(tp_text_write, &report);
    assert_non_null(strstr(text, "\nDUMPS "));
    free(text);
}

static void what_a_fork_inherited_is_counted_once(void **state)
{
    (void)state;
    add(10, 1, 1, "main", 101);
    struct tp_dump *fork = add(11, 10, 2, "main", 53);
    slots[1].frees[0] = 17;
    fork->process.flags = TP_PROCESS_FORKED;
    fork->process.inherited_allocations = 41;
    fork->process.inherited_frees = 11;
    fork->process.inherited_bytes = 30 * 16;
    fork->process.inherited_requested_bytes = 41 * 13;
    fork->process.inherited_allocated_bytes = 41 * 16;
    build();
    const struct tp_work *own = &node(1)->own;
    assert_int_equal(own->allocations, 12);
    assert_int_equal(own->frees, 6);
    assert_int_equal(own->live_blocks, 6);
    assert_int_equal(own->requested_bytes, 12 * 13);
    assert_int_equal(own->allocated_bytes, 12 * 16);
    assert_int_equal(own->freed_bytes, 6 * 16);
    assert_int_equal(own->live_bytes, 6 * 16);
    assert_int_equal(report.tree.sum.allocations, 113);
    assert_int_equal(report.tree.programs[0].sum.live_bytes, 107 * 16);
    assert_int_equal(report.tree.programs[0].processes, 2);
}

static void no_process_is_its_own_ancestor(void **state)
{
    (void)state;
    add(10, 10, 1, "narcissus", 3);
    add(11, 12, 2, "hen", 5);
    add(12, 11, 2, "egg", 7);
    build();
    assert_int_equal(report.tree.n_nodes, 3);
    for (size_t i = 0; i < 3; i++) assert_true(node(i)->parent == TP_NO_NODE);
}

static void sums_of_hostile_figures_do_not_wrap(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 5; i++) {
        add(10 + i, 1, 1 + i, "greedy", 0);
        slots[i].taken[TP_FORMAT_LARGE] =
            (struct tp_taken){ INT64_MAX / 2, INT64_MAX / 2 };
        slots[i].large_allocated_bytes = INT64_MAX / 2;
    }
    build();
    assert_int_equal(report.tree.sum.allocated_bytes, INT64_MAX);
    assert_int_equal(report.tree.sum.live_bytes, INT64_MAX);
}

/* The count in the column of allocations that ends at column `end`. */
static uint64_t count_before(const char *line, size_t end)
{
    char digits[16] = "";
    size_t n = 0;
    for (size_t i = end - 13; i < end; i++)
        if (line[i] >= '0' && line[i] <= '9') digits[n++] = line[i];
    return strtoull(digits, NULL, 10);
}

static void thousands_of_processes_are_one_screen(void **state)
{
    (void)state;
    uint64_t total = 17;
    add(1, 0, 0, "make", 17);
    for (uint32_t i = 0; i < 1000; i++) {
        uint32_t pid = 10 + 3 * i;
        add(pid, 1, 1 + i, "gcc", 101);
        add(pid + 1, pid, 1 + i, "cc1", 211 + i % 7)->process.start_monotonic_ns += 5;
        add(pid + 2, pid, 1 + i, i == 500 ? "ld" : "as", 31)
            ->process.start_monotonic_ns += 7;
        total += 101 + 211 + i % 7 + 31;
    }
    build();
    assert_int_equal(report.tree.sum.allocations, total);
    char *text = test_capture(tp_text_write, &report);
    unsigned n = 0;
    for (const char *at = text; *at; at++) n += *at == '\n';
    assert_true(n <= 40);
    assert_non_null(strstr(text, "    999 more gcc, 1,998 below "));
    const char *line = strstr(text, "\nPROCESSES ") + 1;
    uint64_t sum = 0;
    for (line = strchr(line, '\n') + 1; *line == ' '; line = strchr(line, '\n') + 1)
        sum += count_before(line, 75);
    assert_int_equal(sum, total);
    free(text);
}

static void a_deep_chain_is_folded_at_its_end(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 300; i++) add(10 + i, 9 + i, 1 + i, "nested", 3);
    build();
    assert_int_equal(node(299)->depth, 299);
    char *text = test_capture(tp_text_write, &report);
    assert_non_null(strstr(text, "1 more nested, 291 below "));
    free(text);
}

/* Folded or not, what was killed has a row; of very many the first. */
static void what_was_killed_is_always_shown(void **state)
{
    (void)state;
    add(1, 0, 0, "make", 17);
    for (uint32_t i = 0; i < 1000; i++) {
        struct tp_dump *dump = add(10 + i, 1, 1 + i, "gcc", 101);
        if (i % 100 == 50) dump->header.reason = TP_REASON_KILLED;
    }
    build();
    char *text = test_capture(tp_text_write, &report);
    const char *at = strstr(text, "  Killed, and folded above:\n");
    assert_non_null(at);
    for (uint32_t i = 0; i < 8; i++) {
        char pid[16];
        snprintf(pid, sizeof(pid), " %u  killed ", 60 + 100 * i);
        at = strstr(at, pid);
        assert_non_null(at);
    }
    assert_non_null(strstr(at, "\n  2 more\n"));
    free(text);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(the_order_of_the_file_does_not_matter),
        CASE(an_exec_is_another_program_of_the_same_process),
        CASE(a_pid_that_is_used_again_is_another_process),
        CASE(of_several_dumps_the_last_counts),
        CASE(what_a_fork_inherited_is_counted_once),
        CASE(no_process_is_its_own_ancestor),
        CASE(sums_of_hostile_figures_do_not_wrap),
        CASE(thousands_of_processes_are_one_screen),
        CASE(a_deep_chain_is_folded_at_its_end),
        CASE(what_was_killed_is_always_shown),
    };
    return cmocka_run_group_tests_name("tree", tests, NULL, NULL);
}
