/* SPDX-License-Identifier: MIT */
/*
 * test_slow.c - slow paths and the signals that fall on them.
 */
#include "pool/slow.h"

#include "pool/pool.h"
#include "tests/unit/tp_test.h"

extern void *__libc_stack_end;

static struct tp_slow_now *now(void)
{
    return &tp_slow_now;
}

static uintptr_t here(void)
{
    return (uintptr_t)__builtin_frame_address(0);
}

static uint64_t taken(uint32_t slot)
{
    return tp_counters_sums(tp_pool_slot(slot)).allocations;
}

/* What a handler would see: it stands deeper, by what the kernel puts on the stack. */
static __attribute__((noinline)) bool busy_below(void)
{
    char frame[1024];
    __asm__ volatile("" : : "r"(frame) : "memory");
    bool busy = tp_pool_is_busy();
    __asm__ volatile("" : : "r"(frame) : "memory");
    return busy;
}

static __attribute__((noinline)) void begin_and_end_deeper(bool defer)
{
    char frame[1024];
    __asm__ volatile("" : : "r"(frame) : "memory");
    uintptr_t outer = tp_slow_begin();
    assert_int_not_equal(outer, 0);
    if (defer) tp_pool_defer();
    tp_slow_end(outer);
    __asm__ volatile("" : : "r"(frame) : "memory");
}

static void a_slow_path_is_seen_from_above_only(void **state)
{
    (void)state;
    assert_false(busy_below());
    uintptr_t outer = tp_slow_begin();
    assert_int_equal(outer, 0);
    assert_true(busy_below());
    begin_and_end_deeper(false);
    assert_true(busy_below());
    tp_slow_end(outer);
    assert_false(busy_below());
}

static void a_deferred_signal_is_due_at_the_outermost_end(void **state)
{
    (void)state;
    uint32_t before = test_host.n_signals_due;
    uintptr_t outer = tp_slow_begin();
    begin_and_end_deeper(true);
    assert_int_equal(test_host.n_signals_due, before);
    tp_slow_end(outer);
    assert_int_equal(test_host.n_signals_due, before + 1);
    tp_pool_free(tp_pool_alloc(300000));
    assert_int_equal(test_host.n_signals_due, before + 1);
}

static void beside_the_heap_all_goes_to_the_shared_one(void **state)
{
    (void)state;
    tp_pool_free(tp_pool_alloc(100));
    uint32_t own = tp_heap_self->index;
    assert_int_not_equal(own, 0);
    uint64_t mine = taken(own), shared = taken(0);
    assert_true(tp_pool_step_aside(NULL, 0, here()));
    assert_false(
        tp_pool_step_aside(NULL, 0, here()));  // a second signal changes nothing
    void *small = tp_pool_alloc(100), *large = tp_pool_alloc(300000);
    assert_non_null(small);
    assert_non_null(large);
    tp_pool_free(small);
    tp_pool_free(large);
    assert_int_equal(taken(own), mine);
    assert_int_equal(taken(0), shared + 2);
    tp_pool_step_back();
    tp_pool_free(tp_pool_alloc(100));
    assert_int_equal(taken(own), mine + 1);
}

/* A block that the handler took is given back by the thread, and the other way round. */
static void blocks_change_hands_between_the_two(void **state)
{
    (void)state;
    void *mine = tp_pool_alloc(64);
    tp_pool_step_aside(NULL, 0, here());
    void *theirs = tp_pool_alloc(64);
    tp_pool_free(mine);
    tp_pool_step_back();
    tp_pool_free(theirs);
    void *again[200];
    for (int i = 0; i < 200; i++) assert_non_null(again[i] = tp_pool_alloc(64));
    for (int i = 0; i < 200; i++)
        for (int j = 0; j < i; j++) assert_ptr_not_equal(again[i], again[j]);
    for (int i = 0; i < 200; i++) tp_pool_free(again[i]);
}

/* Steps aside deep in the stack and never steps back, as after a longjmp. */
static __attribute__((noinline)) void leave_aside(void)
{
    char deep[4096];
    __asm__ volatile("" : : "r"(deep) : "memory");  // all of it is there
    tp_pool_step_aside(NULL, 0, here());
    __asm__ volatile("" : : "r"(deep) : "memory");
}

static void a_handler_that_was_left_gives_the_heap_back(void **state)
{
    (void)state;
    struct tp_heap *heap = tp_heap_self;
    leave_aside();
    assert_ptr_not_equal(tp_heap_self, heap);
    tp_pool_free(tp_pool_alloc(100));
    assert_ptr_equal(tp_heap_self, heap);
    assert_null(now()->aside.heap);

    // On a stack of its own: left when we stand where the signal fell.
    static char other[4096];
    tp_pool_step_aside(other, sizeof(other), here());
    tp_pool_free(tp_pool_alloc(100));
    assert_ptr_equal(tp_heap_self, heap);
    uintptr_t near = here() & ~(uintptr_t)0xffff;
    tp_pool_step_aside((void *)(near - 0x20000), 0x40000, (uintptr_t)other);
    tp_pool_free(tp_pool_alloc(100));
    assert_ptr_equal(tp_heap_self, &tp_heap_aside);
    tp_pool_step_back();
    assert_ptr_equal(tp_heap_self, heap);
}

/* The same question on a thread's stack, and on one beside it. */
static void a_handler_that_went_to_a_coroutine_is_under_way(void **state)
{
    (void)state;
    struct tp_heap *heap = tp_heap_self;
    static char other[4096], coroutine[1 << 20];
    tp_pool_step_aside(other, sizeof(other), (uintptr_t)coroutine);
    tp_pool_free(tp_pool_alloc(100));
    assert_ptr_equal(tp_heap_self, &tp_heap_aside);
    tp_pool_step_back();

    tp_pool_step_aside(NULL, 0, 0);
    now()->aside.frame = here() - (1 << 20);  // of the stack below
    now()->aside.fell_at = now()->aside.frame + 4096;
    uintptr_t top = (uintptr_t)__libc_stack_end;
    bool known = top - now()->aside.fell_at < (8u << 20);  // but this is one stack
    tp_pool_free(tp_pool_alloc(100));
    assert_ptr_equal(tp_heap_self, known ? heap : &tp_heap_aside);
    tp_pool_step_back();
    assert_ptr_equal(tp_heap_self, heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slow_path_is_seen_from_above_only),
        cmocka_unit_test(a_deferred_signal_is_due_at_the_outermost_end),
        cmocka_unit_test(beside_the_heap_all_goes_to_the_shared_one),
        cmocka_unit_test(blocks_change_hands_between_the_two),
        cmocka_unit_test(a_handler_that_was_left_gives_the_heap_back),
        cmocka_unit_test(a_handler_that_went_to_a_coroutine_is_under_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
