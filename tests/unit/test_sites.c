/* SPDX-License-Identifier: MIT */
/*
 * test_sites.c - stacks to nodes, nodes to sites, sums, and what was live at the peak.
 */
#include "shim/profile.h"

#include "tests/unit/tp_test.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum {
    NODES = 1 << 18,
    SITES = 4096,
    WORKERS = 8,
    STACKS = 2000,
    STEPS = 20000,
    MODELS = 40,
};

/* ---- tables that stand still: no file, no growth ---- */

static char nodes[NODES * sizeof(struct tp_node_record)];
static char sites[SITES * sizeof(struct tp_site_record)];
static char modules[4 * sizeof(struct tp_module_record)];
struct tp_table tp_nodes = { .record_bytes = sizeof(struct tp_node_record),
    .most = NODES,
    .records = nodes,
    .n = 1 };
struct tp_table tp_sites = { .record_bytes = sizeof(struct tp_site_record),
    .most = SITES,
    .records = sites,
    .n = 1 };
struct tp_table tp_modules = { .record_bytes = sizeof(struct tp_module_record),
    .most = 4,
    .records = modules,
    .n = 2 };
static struct tp_sampling_record sampling;
struct tp_sampling_record *const tp_sampling = &sampling;
static uint32_t most_nodes = NODES;

uint32_t tp_table_add(struct tp_table *table)
{
    uint32_t most = table == &tp_nodes ? most_nodes : table->most;
    uint32_t n = atomic_load(&table->n);
    if (n >= most) return UINT32_MAX;
    return atomic_fetch_add(&table->n, 1);
}

uint32_t tp_table_count(const struct tp_table *table)
{
    return atomic_load(&table->n);
}

/* ---- stacks ---- */

static struct tp_stack *make_stack(struct tp_stack *stack, unsigned n, uint64_t seed)
{
    memset(stack, 0, offsetof(struct tp_stack, frames));
    stack->n = n;
    for (unsigned i = 0; i < n; i++) {
        // Outer frames are shared by many: few choices there, more further in.
        uint64_t choice = seed % (2 + 2 * (uint64_t)(n - 1 - i));
        stack->frames[i] = (struct tp_frame){ .address = 0x1000 + choice * 0x10 + i,
            .module = 1 + (i & 1) };
    }
    return stack;
}

static uint32_t node_of(struct tp_stack *stack)
{
    bool all;
    return tp_site_node(stack, &all);
}

static void a_stack_has_one_node(void **state)
{
    (void)state;
    struct tp_stack a, b;
    uint32_t node = node_of(make_stack(&a, 20, 7));
    assert_int_not_equal(node, 0);
    assert_int_equal(node_of(make_stack(&b, 20, 7)), node);
    b.frames[0].address++;
    uint32_t sibling = node_of(&b);
    assert_int_not_equal(sibling, node);
    const struct tp_node_record *one = tp_table_at(&tp_nodes, node);
    const struct tp_node_record *two = tp_table_at(&tp_nodes, sibling);
    assert_int_equal(one->parent, two->parent);
    assert_int_equal(one->offset, a.frames[0].address);
}

static void a_node_tells_its_stack(void **state)
{
    (void)state;
    struct tp_stack stack;
    for (uint64_t seed = 0; seed < STACKS; seed++) {
        uint32_t node =
            node_of(make_stack(&stack, 1 + (unsigned)(seed % 60), seed * 31));
        for (unsigned i = 0; i < stack.n; i++) {
            const struct tp_node_record *record = tp_table_at(&tp_nodes, node);
            assert_int_equal(record->offset, stack.frames[i].address);
            assert_int_equal(record->module, stack.frames[i].module);
            assert_true(record->parent < node);
            node = record->parent;
        }
        assert_int_equal(node, 0);
    }
}

static void a_stack_without_frames_is_the_root(void **state)
{
    (void)state;
    struct tp_stack none = { 0 };
    assert_int_equal(node_of(&none), 0);
    assert_int_not_equal(tp_site_of(0, 3, TP_STACK_NONE), 0);
    assert_int_equal(tp_site_of(0, 3, TP_STACK_NONE), tp_site_of(0, 3, TP_STACK_NONE));
}

/* Addresses of JIT code, and of files above 4 GiB, differ above the key's 32 bits. */
static void long_addresses_are_told_apart(void **state)
{
    (void)state;
    static const uintptr_t addresses[] = { 0x7f0000000000, 0x7f0100000000, 0x100000000,
        0x200000000, 0x7f0012345678, 0x7f0112345678 };
    struct tp_stack stack = { .n = 1 };
    uint32_t found[2][6];
    for (unsigned again = 0; again < 4; again++)
        for (unsigned i = 0; i < 6; i++) {
            unsigned module = again & 1;
            stack.frames[0] =
                (struct tp_frame){ .address = addresses[i], .module = module };
            uint32_t node = node_of(&stack);
            const struct tp_node_record *record = tp_table_at(&tp_nodes, node);
            assert_int_equal(record->offset, addresses[i]);
            if (again < 2)
                found[module][i] = node;
            else
                assert_int_equal(found[module][i], node);
        }
}

static void what_is_the_same_is_not_looked_up(void **state)
{
    (void)state;
    bool all = false;
    struct tp_stack stack;
    tp_site_node(make_stack(&stack, 30, 5), &all);
    assert_true(all);
    struct tp_stack next = stack;
    next.frames[0].address = 0x9999;
    next.same = 29;
    next.outer = stack.nodes[1];
    // Were they looked up, these would give other nodes.
    for (unsigned i = 1; i < 30; i++) next.frames[i].address = 0xdead0000 + i;
    uint32_t node = tp_site_node(&next, &all);
    const struct tp_node_record *record = tp_table_at(&tp_nodes, node);
    assert_int_equal(record->parent, stack.nodes[1]);
    assert_int_equal(node, next.nodes[0]);
    stack.frames[0].address = 0x9999;
    assert_int_equal(node_of(&stack), node);
}

static void a_full_table_keeps_the_outer_part(void **state)
{
    (void)state;
    struct tp_stack stack;
    make_stack(&stack, 10, 3);
    for (unsigned i = 0; i < 10; i++) stack.frames[i].address = 0x777000 + i;
    most_nodes = tp_table_count(&tp_nodes) + 4;
    bool all = true;
    uint64_t misses = sampling.node_misses;
    uint32_t node = tp_site_node(&stack, &all);
    assert_false(all);
    assert_int_equal(stack.nodes[6], node);
    assert_int_equal(sampling.node_misses, misses + 1);
    assert_int_equal(node_of(&stack), node);
    most_nodes = NODES;
    assert_int_not_equal(node_of(&stack), node);
}

struct worker {
    pthread_t thread;
    uint32_t found[STACKS];
};

static void *find_all(void *argument)
{
    struct worker *worker = argument;
    struct tp_stack stack;
    for (uint64_t seed = 0; seed < STACKS; seed++) {
        uint32_t node =
            node_of(make_stack(&stack, 5 + (unsigned)(seed % 40), seed * 0x9e3779b9));
        worker->found[seed] = tp_site_of(node, (uint32_t)(seed % 49), TP_STACK_WHOLE);
    }
    return NULL;
}

static void threads_find_the_same_sites(void **state)
{
    (void)state;
    static struct worker workers[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_create(&workers[i].thread, NULL, find_all, &workers[i]);
    for (unsigned i = 0; i < WORKERS; i++) pthread_join(workers[i].thread, NULL);
    for (unsigned i = 1; i < WORKERS; i++)
        assert_memory_equal(
            workers[0].found, workers[i].found, sizeof(workers[0].found));
    for (unsigned i = 0; i < STACKS; i++) assert_int_not_equal(workers[0].found[i], 0);
}

/* ---- sums and the peak ---- */

static const struct tp_site_record *site_at(uint32_t id)
{
    return tp_table_at(&tp_sites, id);
}

/* Against a model that copies all figures at every new peak. */
static void figures_at_the_peak_are_those_of_a_copy(void **state)
{
    (void)state;
    uint64_t seed = 4242;
    uint32_t ids[MODELS];
    uint64_t live[MODELS] = { 0 }, copy[MODELS] = { 0 };
    int64_t bytes = 0, peak = 0;
    sampling.mode = TP_SAMPLING_EXACT;
    for (unsigned i = 0; i < MODELS; i++) ids[i] = tp_site_of(77, i, TP_STACK_WHOLE);
    struct tp_weight one = { .blocks = TP_FORMAT_ONE, .bytes = 64 };
    for (unsigned step = 0; step < STEPS; step++) {
        unsigned i = (unsigned)test_below(&seed, MODELS);
        // Long rises and falls, so that peaks are far apart.
        bool rise = test_below(&seed, 100) < (step / 1000 % 2 ? 40u : 60u);
        if (rise || !live[i]) {
            tp_site_taken(ids[i], &one, peak);
            live[i]++;
            bytes += 64;
        } else {
            tp_site_freed(ids[i], &one, false, peak);
            live[i]--;
            bytes -= 64;
        }
        if (bytes > peak) {
            peak = bytes;
            memcpy(copy, live, sizeof(copy));
        }
    }
    // One more change: the model's last peak may be the present.
    tp_site_taken(ids[0], &one, peak);
    for (unsigned i = 0; i < MODELS; i++) {
        const struct tp_site_record *site = site_at(ids[i]);
        uint64_t now = site->taken.blocks - site->freed.blocks;
        uint64_t then = site->peak == sampling.peak ? site->peak_blocks : now;
        assert_int_equal(then, copy[i] * TP_FORMAT_ONE);
    }
    assert_int_equal(sampling.peak_bytes, peak);
}

static void weights_add_up(void **state)
{
    (void)state;
    sampling.mode = TP_SAMPLING_SAMPLED;
    uint32_t id = tp_site_of(78, TP_FORMAT_LARGE, TP_STACK_DEPTH);
    struct tp_weight weight = { 1, 5000, 300, 700, 0.25, 1e12 };
    tp_site_taken(id, &weight, 0);
    tp_site_taken(id, &weight, 0);
    tp_site_freed(id, &weight, true, 0);
    const struct tp_site_record *site = site_at(id);
    assert_int_equal(site->taken.samples, 2);
    assert_int_equal(site->taken.blocks, 10000);
    assert_int_equal(site->taken.requested_bytes, 600);
    assert_int_equal(site->taken.bytes, 1400);
    assert_true(site->taken.block_variance == 0.5 && site->taken.byte_variance == 2e12);
    assert_int_equal(site->freed.blocks, 5000);
    assert_int_equal(site->temporary_blocks, 5000);
    assert_int_equal(site->end, TP_STACK_DEPTH);
}

static void *add_up(void *argument)
{
    struct tp_weight weight = { 1, TP_FORMAT_ONE, 10, 20, 1, 1 };
    for (unsigned i = 0; i < STEPS; i++) {
        tp_site_taken(*(uint32_t *)argument, &weight, i);
        if (i % 2) tp_site_freed(*(uint32_t *)argument, &weight, false, i);
    }
    return NULL;
}

static void threads_lose_no_weight(void **state)
{
    (void)state;
    sampling.mode = TP_SAMPLING_SAMPLED;
    uint32_t id = tp_site_of(79, TP_FORMAT_LARGE, TP_STACK_WHOLE);
    pthread_t threads[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++)
        pthread_create(&threads[i], NULL, add_up, &id);
    for (unsigned i = 0; i < WORKERS; i++) pthread_join(threads[i], NULL);
    const struct tp_site_record *site = site_at(id);
    assert_int_equal(site->taken.blocks, (uint64_t)WORKERS * STEPS * TP_FORMAT_ONE);
    assert_int_equal(site->freed.bytes, (uint64_t)WORKERS * STEPS / 2 * 20);
    assert_true(site->taken.block_variance == (double)WORKERS * STEPS);
}

static void an_adjusted_site_may_hold_what_came(void **state)
{
    (void)state;
    sampling.mode = TP_SAMPLING_SAMPLED;
    uint32_t id = tp_site_of(80, TP_FORMAT_LARGE, TP_STACK_WHOLE);
    struct tp_weight grown = { 1, 0, 100, 100, 0, 0 };
    struct tp_weight came = { 0, (uint64_t)-TP_FORMAT_ONE, (uint64_t)-900,
        (uint64_t)-900, 0, 0 };
    tp_site_adjust(id, &grown, &came, 0);
    const struct tp_site_record *site = site_at(id);
    assert_int_equal(site->taken.blocks, 0);
    assert_int_equal(site->taken.blocks - site->freed.blocks, TP_FORMAT_ONE);
    assert_int_equal(site->taken.bytes - site->freed.bytes, 1000);
}

/* What a record or a mark says is checked: the file may have been spoiled. */
static void nonsense_is_ignored(void **state)
{
    (void)state;
    struct tp_weight weight = { 0, TP_FORMAT_ONE, 1, 1, 0, 0 };
    tp_site_taken(UINT32_MAX, &weight, 0);
    tp_site_freed(SITES, &weight, true, 0);
    tp_site_adjust(tp_table_count(&tp_sites), &weight, &weight, 0);
    assert_int_equal(tp_site_node_of(UINT32_MAX), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_stack_has_one_node),
        cmocka_unit_test(a_node_tells_its_stack),
        cmocka_unit_test(a_stack_without_frames_is_the_root),
        cmocka_unit_test(long_addresses_are_told_apart),
        cmocka_unit_test(what_is_the_same_is_not_looked_up),
        cmocka_unit_test(a_full_table_keeps_the_outer_part),
        cmocka_unit_test(threads_find_the_same_sites),
        cmocka_unit_test(figures_at_the_peak_are_those_of_a_copy),
        cmocka_unit_test(weights_add_up),
        cmocka_unit_test(threads_lose_no_weight),
        cmocka_unit_test(an_adjusted_site_may_hold_what_came),
        cmocka_unit_test(nonsense_is_ignored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
