/* SPDX-License-Identifier: MIT */
/*
 * test_sample.c - what becomes of a sampled block, and when an interval is over.
 *
 * Real are sites, samples, weights and tables; stacks are made up.
 */
#include "pool/host.h"
#include "pool/pool.h"
#include "shim/output.h"
#include "shim/profile.h"

#include "tests/unit/tp_test.h"

#include <fenv.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { MEAN = 512 * 1024, BLOCKS = 20000, CLASS = 4, SIZE = 80 };

/* The rest of the shim, as far as sample.c knows it. */
struct tp_options tp_options;
static unsigned n_dumps, n_settled;
static struct tp_sampler sampler;
static struct tp_counters counters;
static struct tp_told told;

void tp_dump_write(enum tp_dump_reason reason)
{
    n_dumps += reason == TP_REASON_INTERVAL;
}

void tp_live_settle(void)
{
    n_settled++;
}

/* ---- stacks ---- */

static struct tp_stack stack;
static struct tp_stack_note note;
static unsigned n_walks;
static uintptr_t known_from;  // stacks are known from there, once one was learnt
static bool no_memory, learnt;
static unsigned n_made;  // memories that threads keep

void tp_stack_open(enum tp_stack_way way)
{
    (void)way;
}

struct tp_stack_memory *tp_stack_memory_make(bool remember)
{
    n_made += remember;
    return no_memory ? NULL : (struct tp_stack_memory *)(void *)&stack;
}

void tp_stack_memory_forget(struct tp_stack_memory *memory)
{
    (void)memory;
}

struct tp_stack *tp_stack_take(struct tp_stack_memory *memory, uint32_t depth)
{
    (void)memory;
    (void)depth;
    n_walks++;
    return &stack;
}

struct tp_stack_note *tp_stack_recall(
    struct tp_stack_memory *memory, const struct tp_caller *caller)
{
    (void)memory;
    return learnt && caller && caller->pc == known_from ? &note : NULL;
}

struct tp_stack_note *tp_stack_learn(struct tp_stack_memory *memory)
{
    (void)memory;
    learnt = true;
    note = (struct tp_stack_note){ .node = stack.nodes[0], .end = stack.end };
    return &note;
}

void tp_modules_forked(void)
{
}

const char *tp_module_path(uint32_t module)
{
    (void)module;
    return "/lib/made_up.so";
}

/* The stack ends in a call at `address`. */
void tp_live_thread_ended(
    const struct tp_counters *slot, uint32_t index, const struct tp_sums *did)
{
    (void)slot;
    (void)index;
    (void)did;
}

static void stand_at(uintptr_t address)
{
    stack = (struct tp_stack){ .n = 2, .end = TP_STACK_WHOLE };
    stack.frames[0].address = address;
    stack.frames[1].address = 0x1000;
}

static int set_defaults(void **state)
{
    (void)state;
    memset(&tp_options, 0, sizeof(tp_options));
    tp_options.sample = MEAN;
    tp_options.depth = 64;
    learnt = false;
    n_dumps = 0;
    memset(&counters, 0, sizeof(counters));
    memset(&sampler, 0, sizeof(sampler));
    tp_sample_open();
    tp_host_arm(&sampler);
    static char block[1];
    told = (struct tp_told){ .p = block,
        .requested = SIZE - 7,
        .bytes = SIZE,
        .class = CLASS,
        .slot = 1,
        .counters = &counters };
    return 0;
}

/* The site whose innermost frame is at `address`, of `class`. */
static const struct tp_site_record *site_at(uintptr_t address, unsigned class)
{
    for (uint32_t i = 1; i < tp_table_count(&tp_sites); i++) {
        const struct tp_site_record *site = tp_table_at(&tp_sites, i);
        const struct tp_node_record *node = tp_table_at(&tp_nodes, site->node);
        if (node && node->offset == address && site->class == class) return site;
    }
    return NULL;
}

static int64_t live_blocks(const struct tp_site_record *site)
{
    return (int64_t)(site->taken.blocks - site->freed.blocks);
}

static int64_t live_bytes(const struct tp_site_record *site)
{
    return (int64_t)(site->taken.bytes - site->freed.bytes);
}

/* ---- sampled ---- */

static void a_sample_weighs_what_its_interval_says(void **state)
{
    (void)state;
    stand_at(0x2001);
    uint64_t interval = sampler.interval, samples = tp_sampling->samples;
    uint32_t mark = tp_host_sampled(&sampler, &told);
    assert_int_not_equal(mark, 0);
    assert_int_equal(tp_sampling->samples, samples + 1);
    struct tp_weight weight = tp_poisson_weight(interval, SIZE, SIZE - 7, false);
    const struct tp_site_record *site = site_at(0x2001, CLASS);
    assert_non_null(site);
    assert_int_equal(site->taken.blocks, weight.blocks);
    assert_int_equal(site->taken.requested_bytes, weight.requested);
    assert_int_equal(site->taken.bytes, 0);
    assert_int_equal(site->taken.samples, 1);

    tp_host_freed(mark, &told);
    assert_int_equal(live_blocks(site), 0);
    assert_int_equal(site->temporary_blocks, weight.blocks);
}

static void a_block_is_temporary_until_its_thread_allocates(void **state)
{
    (void)state;
    stand_at(0x2002);
    uint32_t first = tp_host_sampled(&sampler, &told);
    counters.taken[CLASS].allocations++;
    tp_host_freed(first, &told);
    uint32_t second = tp_host_sampled(&sampler, &told);
    told.slot = 2;
    tp_host_freed(second, &told);
    const struct tp_site_record *site = site_at(0x2002, CLASS);
    assert_int_equal(live_blocks(site), 0);
    assert_int_equal(site->temporary_blocks, 0);
}

static void what_cannot_be_followed_is_dropped(void **state)
{
    (void)state;
    stand_at(0x2003);
    uint64_t dropped = tp_sampling->dropped;
    told.p = NULL;
    assert_int_equal(tp_host_sampled(&sampler, &told), 0);
    assert_int_equal(tp_sampling->dropped, dropped + 1);
    assert_null(site_at(0x2003, CLASS));
}

static void nothing_is_sampled_when_off(void **state)
{
    (void)state;
    tp_options.sample = 0;
    tp_sample_open();
    tp_host_arm(&sampler);
    assert_true(sampler.to_sample > (int64_t)1 << 60);
    assert_int_equal(tp_host_sampled(&sampler, &told), 0);
    assert_int_equal(tp_sampling->mode, TP_SAMPLING_OFF);
}

static void live_bytes_follow_blocks_that_change_in_place(void **state)
{
    (void)state;
    enum { SMALL = 200 * 1024, BIG = 500 * 1024, FEW = 1000 * 1024 };
    static uint32_t marks[BLOCKS];
    stand_at(0x3000);
    told.class = TP_LARGE_CLASS;
    told.requested = told.bytes = SMALL;
    // As the pool does: a block is sampled with the chance that it has.
    for (unsigned i = 0; i < BLOCKS; i++) {
        told.bytes = told.requested = SMALL;
        sampler.interval = MEAN;
        marks[i] = tp_poisson_hits(&sampler, MEAN, SMALL)
            ? tp_host_sampled(&sampler, &told)
            : 0;
    }
    stand_at(0x3001);
    for (unsigned i = 0; i < BLOCKS; i++) {
        told.bytes = told.requested = BIG;
        marks[i] = tp_host_resized(marks[i], &told, SMALL, SMALL);
    }
    const struct tp_site_record *from = site_at(0x3000, TP_LARGE_CLASS);
    const struct tp_site_record *to = site_at(0x3001, TP_LARGE_CLASS);
    double blocks = (double)live_blocks(to) / TP_FORMAT_ONE / BLOCKS;
    double bytes = (double)live_bytes(to) / BLOCKS / BIG;
    double grown = (double)to->taken.bytes / BLOCKS / (BIG - SMALL);
    assert_int_equal(live_blocks(from), 0);
    assert_int_equal(live_bytes(from), 0);
    assert_true(blocks > 0.98 && blocks < 1.02);
    assert_true(bytes > 0.98 && bytes < 1.02);
    assert_true(grown > 0.98 && grown < 1.02);
    assert_int_equal(to->taken.blocks, 0);  // none was allocated there

    for (unsigned i = 0; i < BLOCKS; i++) {
        told.bytes = told.requested = SMALL;
        if (marks[i]) marks[i] = tp_host_resized(marks[i], &told, BIG, BIG);
    }
    bytes = (double)live_bytes(to) / BLOCKS / SMALL;
    assert_true(bytes > 0.98 && bytes < 1.02);
    for (unsigned i = 0; i < BLOCKS; i++)
        if (marks[i]) tp_host_freed(marks[i], &told);
    assert_int_equal(live_blocks(to), 0);
    assert_in_range(llabs(live_bytes(to)), 0, BLOCKS);  // rounded once a block
}

/* Takes samples, resizes and frees them, and ticks. */
static int use_everything(void *unused)
{
    (void)unused;
    told.class = TP_LARGE_CLASS;
    for (unsigned i = 0; i < 200; i++) {
        told.bytes = told.requested = 100003 + i;
        uint32_t mark = tp_host_sampled(&sampler, &told);
        told.bytes = told.requested = 300007 + i;
        mark = tp_host_resized(mark, &told, 100003 + i, 100003 + i);
        told.bytes = told.requested = 200003 + i;
        if (mark) mark = tp_host_resized(mark, &told, 300007 + i, 300007 + i);
        if (mark) tp_host_freed(mark, &told);
        tp_host_tick();
        if (tp_pool_tick_ticks() < 1000) return 2;
    }
    return 0;
}

static int use_with_traps(void *unused)
{
    (void)unused;
    feclearexcept(FE_ALL_EXCEPT);
    feenableexcept(FE_ALL_EXCEPT);
    return use_everything(NULL);
}

static void the_programs_floating_point_state_stays(void **state)
{
    (void)state;
    stand_at(0x3100);
    assert_int_equal(test_in_child(use_with_traps, NULL), 0);
    feclearexcept(FE_ALL_EXCEPT);
    assert_int_equal(use_everything(NULL), 0);
    assert_int_equal(fetestexcept(FE_ALL_EXCEPT), 0);
}

/* ---- exact ---- */

static void set_exact(void)
{
    tp_options.sample = TP_SAMPLE_ALL;
    tp_sample_open();
    counters.tid = 77;
}

static void every_block_is_at_its_site(void **state)
{
    (void)state;
    static char blocks[5];
    set_exact();
    stand_at(0x4000);
    uint32_t marks[5];
    for (unsigned i = 0; i < 5; i++) {
        told.p = &blocks[i];
        marks[i] = tp_host_taken(&told);
    }
    const struct tp_site_record *site = site_at(0x4000, CLASS);
    assert_int_equal(live_blocks(site), 5 * TP_FORMAT_ONE);
    assert_int_equal(site->taken.requested_bytes, 5 * (SIZE - 7));
    told.p = &blocks[4];
    tp_host_freed(marks[4], &told);
    assert_int_equal(site->temporary_blocks, TP_FORMAT_ONE);
    told.p = &blocks[0];
    tp_host_freed(marks[0], &told);
    assert_int_equal(site->temporary_blocks, TP_FORMAT_ONE);
    assert_int_equal(live_blocks(site), 3 * TP_FORMAT_ONE);
}

static void a_stack_that_is_known_is_not_walked(void **state)
{
    (void)state;
    struct tp_caller caller = { .pc = 0x4101 }, other = { .pc = 0x4201 };
    set_exact();
    stand_at(0x4100);
    known_from = caller.pc;
    told.caller = &caller;
    unsigned walks = n_walks;
    uint32_t site = tp_host_taken(&told);
    assert_int_equal(n_walks, walks + 1);
    // The stack below would say otherwise: it is not asked.
    stand_at(0x4200);
    assert_int_equal(tp_host_taken(&told), site);
    told.class = CLASS + 1;
    uint32_t of_class = tp_host_taken(&told);
    assert_int_not_equal(of_class, site);
    assert_int_equal(tp_site_node_of(of_class), tp_site_node_of(site));
    assert_int_equal(n_walks, walks + 1);
    told.caller = &other;
    assert_int_not_equal(tp_site_node_of(tp_host_taken(&told)), tp_site_node_of(site));
    told.caller = NULL;
    tp_host_taken(&told);
    assert_int_equal(n_walks, walks + 3);
}

static void a_block_belongs_to_the_place_that_made_it_grow(void **state)
{
    (void)state;
    set_exact();
    told.class = TP_LARGE_CLASS;
    told.bytes = 1 << 20;
    told.requested = 1000000;
    stand_at(0x5000);
    uint32_t mark = tp_host_taken(&told);
    stand_at(0x5001);
    told.bytes = 3 << 20;
    told.requested = 3000000;
    uint32_t now = tp_host_resized(mark, &told, 1 << 20, 1000000);
    const struct tp_site_record *from = site_at(0x5000, TP_LARGE_CLASS);
    const struct tp_site_record *to = site_at(0x5001, TP_LARGE_CLASS);
    assert_int_equal(from->taken.bytes, 1 << 20);
    assert_int_equal(live_bytes(from), 0);
    assert_int_equal(to->taken.bytes, 2 << 20);
    assert_int_equal(live_bytes(to), 3 << 20);
    assert_int_equal(live_blocks(to), TP_FORMAT_ONE);
    assert_int_equal(to->taken.blocks, 0);
    assert_int_equal(to->taken.requested_bytes - to->freed.requested_bytes, 3000000);

    told.bytes = 2 << 20;
    told.requested = 2000000;
    assert_int_equal(tp_host_resized(now, &told, 3 << 20, 3000000), now);
    assert_int_equal(live_bytes(to), 2 << 20);
    tp_host_freed(now, &told);
    assert_int_equal(live_bytes(to), 0);
    assert_int_equal(live_blocks(to), 0);
    assert_int_equal(to->taken.requested_bytes, to->freed.requested_bytes);
}

static void without_memory_for_stacks_blocks_have_no_frame(void **state)
{
    (void)state;
    set_exact();
    no_memory = true;
    told.slot = 99;
    uint32_t mark = tp_host_taken(&told);
    no_memory = false;
    const struct tp_site_record *site = tp_table_at(&tp_sites, mark);
    assert_non_null(site);
    assert_int_equal(site->node, 0);
    assert_int_equal(site->end, TP_STACK_NONE);
}

/* A place is a node; a message tells it frame by frame. */
enum { GENERATIONS = 5, EACH = 7, THREADS = GENERATIONS * EACH };
static pthread_barrier_t barrier;

/* A thread that has a slot. */
static void *be_there(void *unused)
{
    tp_pool_free(tp_pool_alloc(100));
    pthread_barrier_wait(&barrier);
    return unused;
}

static void a_forked_child_has_what_threads_kept_that_are_not_there(void **state)
{
    (void)state;
    pthread_t thread[THREADS];
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, be_there, NULL), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    assert_true(tp_pool_slots() > THREADS);

    set_exact();
    tp_sample_forked();
    n_made = 0;
    for (uint32_t slot = 0; slot < THREADS; slot++) {
        told.slot = slot + 1;  // a child's threads have slots of their own
        counters.tid = 1000 + slot;
        assert_int_not_equal(tp_host_taken(&told), 0);
        if (slot % EACH == EACH - 1) tp_sample_forked();
    }
    // One was there already, of the test before.
    assert_in_range(n_made, EACH - 1, EACH);
}

static void a_place_can_be_told(void **state)
{
    (void)state;
    stand_at(0x6000);
    uint32_t place = tp_host_place();
    const struct tp_node_record *node = tp_table_at(&tp_nodes, place);
    assert_int_equal(node->offset, 0x6000);
}

/* ---- ticks ---- */

static void tick_without_an_interval_dumps_nothing(void **state)
{
    (void)state;
    unsigned settled = n_settled;
    for (int i = 0; i < 3; i++) tp_host_tick();
    assert_int_equal(n_dumps, 0);
    assert_int_equal(n_settled, settled + 3);
}

static void interval_of_time_begins_with_the_first_tick(void **state)
{
    (void)state;
    tp_options.interval_ns = 2000000;
    tp_host_tick();
    tp_host_tick();
    assert_int_equal(n_dumps, 0);
    uint64_t begin = tp_os_now_ns();
    while (tp_os_now_ns() - begin < 2000000) tp_os_pause();
    tp_host_tick();
    assert_int_equal(n_dumps, 1);
    tp_options.interval_ns = 3600000000000;
    tp_host_tick();
    tp_host_tick();
    assert_in_range(n_dumps, 1, 2);
}

static void interval_of_bytes_is_over_when_they_are_allocated(void **state)
{
    (void)state;
    tp_options.sample = 0;  // no sample may look before we do
    tp_options.interval_bytes = 1000003;
    tp_host_tick();
    assert_int_equal(n_dumps, 0);
    for (int i = 0; i < 2; i++) tp_pool_free(tp_pool_alloc(500009));
    tp_host_tick();
    tp_host_tick();
    assert_int_equal(n_dumps, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        // First: later there are places to share.
        cmocka_unit_test_setup(
            without_memory_for_stacks_blocks_have_no_frame, set_defaults),
        cmocka_unit_test_setup(a_sample_weighs_what_its_interval_says, set_defaults),
        cmocka_unit_test_setup(
            a_block_is_temporary_until_its_thread_allocates, set_defaults),
        cmocka_unit_test_setup(what_cannot_be_followed_is_dropped, set_defaults),
        cmocka_unit_test_setup(nothing_is_sampled_when_off, set_defaults),
        cmocka_unit_test_setup(
            live_bytes_follow_blocks_that_change_in_place, set_defaults),
        cmocka_unit_test_setup(the_programs_floating_point_state_stays, set_defaults),
        cmocka_unit_test_setup(every_block_is_at_its_site, set_defaults),
        cmocka_unit_test_setup(
            a_block_belongs_to_the_place_that_made_it_grow, set_defaults),
        cmocka_unit_test_setup(
            a_forked_child_has_what_threads_kept_that_are_not_there, set_defaults),
        cmocka_unit_test_setup(a_stack_that_is_known_is_not_walked, set_defaults),
        cmocka_unit_test_setup(a_place_can_be_told, set_defaults),
        cmocka_unit_test_setup(tick_without_an_interval_dumps_nothing, set_defaults),
        cmocka_unit_test_setup(
            interval_of_time_begins_with_the_first_tick, set_defaults),
        cmocka_unit_test_setup(
            interval_of_bytes_is_over_when_they_are_allocated, set_defaults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
