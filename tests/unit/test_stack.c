/* SPDX-License-Identifier: MIT */
/*
 * test_stack.c - walks over stacks of every kind, and what they cost.
 *
 * The walker is part of this program, so every frame is seen but tp_stack_take() itself.
 * Frames are recognised by address: a function and where the next one begins.
 */
#include "pool/os.h"
#include "shim/stack.h"
#include "shim/unwind.h"

#include "tests/unit/tp_test.h"

#include <alloca.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

/*
 * A function with a frame and an address range of its own. What each does last is no
 * call, so there is none in the place of a return.
 */
enum { ROOM = 1024 };
#if __has_attribute(noclone)
#define FRAME __attribute__((noinline, noclone, aligned(1024), section(".text.frames")))
#else
#define FRAME __attribute__((noinline, aligned(1024), section(".text.frames")))
#endif

enum { ALL = TP_STACK_MOST, SMALL = 16384, SIDE = 64 * 1024 };

static struct tp_stack_memory *memory, *remembering;
static struct tp_stack seen;  // a copy of the last one

static void keep(const struct tp_stack *stack)
{
    seen = *stack;
}

/* True when frame `i` is in `function`. */
static bool is_in(unsigned i, const void *function)
{
    return i < seen.n && seen.frames[i].address - (uintptr_t)function < ROOM;
}

/* How many frames are in `function`. */
static unsigned count_in(const void *function)
{
    unsigned n = 0;
    for (unsigned i = 0; i < seen.n; i++) n += is_in(i, function);
    return n;
}

/* The first frame in `function`, or UINT32_MAX. */
static unsigned place_of(const void *function)
{
    for (unsigned i = 0; i < seen.n; i++)
        if (is_in(i, function)) return i;
    return UINT32_MAX;
}

static int ready(void **state)
{
    (void)state;
    if (!memory) memory = tp_stack_memory_make(false);
    if (!remembering) remembering = tp_stack_memory_make(true);
    memset(&seen, 0, sizeof(seen));
    return memory && remembering ? 0 : -1;
}

/* ---- plain stacks ---- */

static volatile int always = 1;

static FRAME void take_here(void)
{
    keep(tp_stack_take(memory, ALL));
    always++;
}

static FRAME int down(int n)
{
    volatile int own = n;
    if (n > 0)
        own += down(n - 1);
    else
        take_here();
    return own + 1;
}

static void a_stack_is_walked_to_its_beginning(void **state)
{
    (void)state;
    int saved = errno = 4711;
    down(30);
    assert_int_equal(errno, saved);
    assert_int_equal(seen.end, TP_STACK_WHOLE);
    assert_true(is_in(0, (void *)take_here));
    assert_int_equal(count_in((void *)down), 31);
    assert_true(is_in(1, (void *)down) && is_in(31, (void *)down));
    for (unsigned i = 0; i < seen.n; i++)
        assert_int_not_equal(seen.frames[i].module, 0);
    assert_string_equal(tp_module_path(seen.frames[0].module), "/the/program");
    assert_int_equal(seen.frames[0].module, seen.frames[seen.n - 1].module);  // _start
}

static void a_stack_is_cut_at_the_depth(void **state)
{
    (void)state;
    keep(tp_stack_take(memory, 2));
    assert_int_equal(seen.n, 2);
    assert_int_equal(seen.end, TP_STACK_DEPTH);
    uint32_t n = tp_stack_take(memory, ALL)->n;
    keep(tp_stack_take(memory, n));
    assert_int_equal(seen.n, n);
    assert_int_equal(seen.end, TP_STACK_WHOLE);  // there was no further one
    down(400);
    assert_int_equal(seen.n, ALL);
    assert_int_equal(seen.end, TP_STACK_DEPTH);
}

static FRAME int with_alloca(int n)
{
    char *block = alloca((size_t)n);
    memset(block, n, (size_t)n);
    if (n > 100)
        down(0);
    else
        with_alloca(n * 2);
    return block[n / 2];
}

static FRAME int with_alignment(int n)
{
    _Alignas(64) volatile char block[256];
    block[0] = (char)n;
    char *other = alloca((size_t)n);  // so that the stack is realigned by way of rbp
    other[0] = 1;
    if (n > 20)
        down(0);
    else
        with_alignment(n + 5);
    return block[0] + other[0];
}

static void frames_of_any_size_and_alignment_are_passed(void **state)
{
    (void)state;
    with_alloca(7);
    assert_int_equal(seen.end, TP_STACK_WHOLE);
    assert_int_equal(count_in((void *)with_alloca), 5);
    with_alignment(3);
    assert_int_equal(seen.end, TP_STACK_WHOLE);
    assert_int_equal(count_in((void *)with_alignment), 5);
}

static FRAME int with_much(int n)
{
    volatile char block[3 << 20];
    block[0] = (char)n;
    down(3);
    return block[0];
}

static void frames_too_large_for_a_packed_row_are_passed(void **state)
{
    (void)state;
    with_much(1);
    assert_int_equal(seen.end, TP_STACK_WHOLE);
    assert_int_equal(count_in((void *)with_much), 1);
    assert_int_equal(count_in((void *)down), 4);
}

/* ---- other stacks ---- */

static FRAME void on_signal(int number)
{
    (void)number;
    down(2);
    always++;
}

static FRAME void be_signalled(void)
{
    raise(SIGUSR1);
    always++;
}

static void assert_signalled(void)
{
    unsigned handler = place_of((void *)on_signal),
             under = place_of((void *)be_signalled);
    assert_int_equal(seen.end, TP_STACK_WHOLE);
    assert_in_range(handler, 3, seen.n);
    assert_in_range(under, handler + 2, seen.n);
    assert_int_equal(count_in((void *)down), 3);
}

static void set_handler(int flags)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = flags };
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
}

static void a_signal_is_walked_through(void **state)
{
    (void)state;
    set_handler(0);
    be_signalled();
    assert_signalled();
}

static char *map_side(size_t bytes)
{
    char *side =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(side, MAP_FAILED);
    return side;
}

static void an_alternate_signal_stack_is_walked_through(void **state)
{
    (void)state;
    stack_t old, own = { .ss_sp = map_side(SIDE), .ss_size = SIDE };
    assert_int_equal(sigaltstack(&own, &old), 0);
    set_handler(SA_ONSTACK);
    be_signalled();
    assert_signalled();
    assert_int_equal(sigaltstack(&old, NULL), 0);
    munmap(own.ss_sp, SIDE);
}

static ucontext_t outside, within;

static FRAME void coroutine(void)
{
    be_signalled();
    assert_signalled();
    down(9);
    always++;
}

static void a_coroutine_is_walked_to_its_beginning(void **state)
{
    (void)state;
    char *side = map_side(SIDE + 8192);
    // A hole above and below: what reads too far dies.
    mprotect(side, 4096, PROT_NONE);
    mprotect(side + SIDE + 4096, 4096, PROT_NONE);
    set_handler(0);
    assert_int_equal(getcontext(&within), 0);
    within.uc_stack.ss_sp = side + 4096;
    within.uc_stack.ss_size = SIDE;
    within.uc_link = &outside;
    makecontext(&within, coroutine, 0);
    assert_int_equal(swapcontext(&outside, &within), 0);
    assert_int_equal(count_in((void *)down), 10);
    assert_in_range(place_of((void *)coroutine), 11, 11);
    assert_int_equal(seen.end, TP_STACK_WHOLE);
    munmap(side, SIDE + 8192);
}

static FRAME void *thread_body(void *argument)
{
    down(5);
    return argument;
}

static void a_thread_with_a_small_stack_is_walked(void **state)
{
    (void)state;
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    assert_int_equal(pthread_attr_setstacksize(&attributes, SMALL * 2), 0);
    tp_stack_memory_forget(memory);
    assert_int_equal(pthread_create(&thread, &attributes, thread_body, NULL), 0);
    pthread_join(thread, NULL);
    tp_stack_memory_forget(memory);
    assert_int_equal(seen.end, TP_STACK_WHOLE);
    assert_int_equal(count_in((void *)down), 6);
    assert_in_range(place_of((void *)thread_body), 7, 7);
}

/* ---- code without rules ---- */

#if defined(__x86_64__)
/* Calls its argument; with a frame pointer, without a word for the unwinder. */
void test_stack_framed(void (*call)(void));
void test_stack_bare(void (*call)(void));
__asm__(".pushsection .text.frames, \"ax\", @progbits\n"
        ".balign 1024\n"
        ".globl test_stack_framed\n"
        ".type test_stack_framed, @function\n"
        "test_stack_framed: push %rbp\n mov %rsp, %rbp\n sub $32, %rsp\n call *%rdi\n"
        " leave\n ret\n"
        ".size test_stack_framed, . - test_stack_framed\n"
        ".balign 1024\n"
        ".globl test_stack_bare\n"
        ".type test_stack_bare, @function\n"
        "test_stack_bare: push %rbp\n xor %ebp, %ebp\n sub $32, %rsp\n call *%rdi\n"
        " add $32, %rsp\n pop %rbp\n ret\n"
        ".size test_stack_bare, . - test_stack_bare\n"
        ".balign 1024\n"
        ".popsection\n");

static FRAME void take_plain(void)
{
    down(0);
    always++;
}

static void code_without_rules_is_tried_by_its_frame_pointer(void **state)
{
    (void)state;
    test_stack_framed(take_plain);
    assert_int_equal(seen.end, TP_STACK_WHOLE);
    assert_int_equal(count_in((void *)test_stack_framed), 1);
    test_stack_bare(take_plain);
    assert_int_equal(seen.end, TP_STACK_NO_RULE);
    assert_true(is_in(seen.n - 1, (void *)test_stack_bare));
}

/* The same in memory of no file, as a compiler at run time makes it. */
static void generated_code_is_tried_by_its_frame_pointer(void **state)
{
    (void)state;
    static const uint8_t code[] = { 0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3 };
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) skip();
    memcpy(page, code, sizeof(code));
    ((void (*)(void (*)(void)))page)(take_plain);
    assert_int_equal(seen.end, TP_STACK_WHOLE);
    assert_int_equal(count_in(page), 1);
    munmap(page, 4096);
}

/* Frame pointers that lead into nothing: no fault, and an end that says so. */
static void a_wild_frame_pointer_does_no_harm(void **state)
{
    (void)state;
    static const uint8_t code[] = { 0x55, 0x48, 0x89, 0xf5, 0xff, 0xd7, 0x5d, 0xc3 };
    uint8_t *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) skip();
    memcpy(page, code, sizeof(code));
    uintptr_t here = (uintptr_t)&page,
              wild[] = { 1, 8, here - 4096, here + 3, (uintptr_t)page, UINTPTR_MAX - 7,
                  (uintptr_t)1 << 63, here + (64 << 20) };
    for (unsigned i = 0; i < sizeof(wild) / sizeof(wild[0]); i++) {
        ((void (*)(void (*)(void), uintptr_t))(void *)page)(take_plain, wild[i]);
        assert_int_equal(seen.end, TP_STACK_NO_RULE);
    }
    munmap(page, 4096);
}

static void a_guess_is_not_looked_up_while_a_library_is_closed(void **state)
{
    static const uint8_t code[] = { 0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3 };
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) skip();
    memcpy(page, code, sizeof(code));
    tp_rows_forget();
    tp_modules_closing();
    tp_modules_closing();  // by another thread
    ((void (*)(void (*)(void)))page)(take_plain);
    assert_int_equal(seen.end, TP_STACK_NO_RULE);
    tp_modules_unloaded();
    tp_rows_forget();
    ((void (*)(void (*)(void)))page)(take_plain);
    assert_int_equal(seen.end, TP_STACK_NO_RULE);
    tp_modules_unloaded();
    munmap(page, 4096);
    generated_code_is_tried_by_its_frame_pointer(state);
}
#endif

/* ---- what is remembered ---- */

static bool forgetful;

/* A tree of frames, as sites.c has one, but for telling stacks apart. */
static struct {
    struct tp_frame frame;
    uint32_t parent;
} tree[100000];
static uint32_t n_tree = 1;

/* Notes the frames that were walked, and fills in those that were recalled. */
static void complete(struct tp_stack *stack)
{
    uint32_t fresh = stack->n - stack->same, node = stack->same ? stack->outer : 0;
    for (uint32_t i = fresh, at = node; i < stack->n; i++, at = tree[at].parent)
        stack->frames[i] = tree[at].frame;
    for (uint32_t i = fresh; i--; node = stack->nodes[i] = n_tree++) {
        assert_true(n_tree < sizeof(tree) / sizeof(tree[0]));
        tree[n_tree].frame = stack->frames[i];
        tree[n_tree].parent = node;
    }
}

/* Both ways; they must agree but for the lines that ask. */
static FRAME void take_both(void)
{
    const struct tp_stack *plain = tp_stack_take(memory, ALL);
    if (forgetful) tp_stack_memory_forget(remembering);
    struct tp_stack *stack = tp_stack_take(remembering, ALL);
    complete(stack);
    keep(stack);
    assert_int_equal(stack->n, plain->n);
    assert_int_equal(stack->end, plain->end);
    assert_true(is_in(0, (void *)take_both));
    assert_memory_equal(&stack->frames[1], &plain->frames[1],
        (plain->n - 1) * sizeof(plain->frames[0]));
    tp_stack_learn(remembering);
}

static FRAME int other_way(int n);

static FRAME int one_way(int n, uint64_t *seed)
{
    volatile int own = n;
    if (n <= 0) {
        take_both();
    } else {
        uint64_t next = test_below(seed, 4);
        if (next == 0) own += other_way(n - 1);
        if (next == 1) own += one_way(n - 2, seed) + one_way(n - 1, seed);
        if (next >= 2) own += one_way(n - 1, seed);
    }
    return own;
}

static FRAME int other_way(int n)
{
    static uint64_t seed = 5;
    volatile int own = n;
    return own + one_way(n, &seed);
}

static void a_remembered_stack_is_what_a_walk_gives(void **state)
{
    (void)state;
    uint64_t seed = 20260102, kept = 0;
    for (unsigned i = 0; i < 300; i++) {
        one_way((int)test_below(&seed, 24), &seed);
        kept += seen.same;
    }
    assert_true(kept > 300);
}

static FRAME void take_remembered(void)
{
    struct tp_stack *stack = tp_stack_take(remembering, ALL);
    complete(stack);
    keep(stack);
    tp_stack_learn(remembering);
    always++;
}

static void a_stack_that_stands_is_kept_and_a_changed_one_is_not(void **state)
{
    (void)state;
    tp_stack_memory_forget(remembering);
    for (unsigned i = 0; i < 2; i++) {
        take_remembered();
        assert_int_equal(seen.same, i == 0 ? 0 : seen.n - 2);
    }
    tp_stack_memory_forget(remembering);
    take_remembered();
    assert_int_equal(seen.same, 0);
}

/* ---- cost ---- */

static double ns_of(struct tp_stack_memory *with, uint32_t *out_n)
{
    uint64_t best = UINT64_MAX;
    for (unsigned i = 0; i < 100; i++) {
        uint64_t begin = tp_os_now_ns();
        for (unsigned j = 0; j < 200; j++) {
            *out_n = tp_stack_take(with, ALL)->n;
            tp_stack_learn(with);
        }
        uint64_t spent = tp_os_now_ns() - begin;
        if (spent < best) best = spent;
    }
    return (double)best / 200;
}

static FRAME int measure(int n)
{
    volatile int own = n;
    if (n > 0) return own + measure(n - 1);
    uint32_t frames;
    double walked = ns_of(memory, &frames), kept = ns_of(remembering, &frames);
    print_message(
        "# %u frames: walked %.0f ns, %.1f a frame; remembered %.0f ns, %.1f\n", frames,
        walked, walked / frames, kept, kept / frames);
    return own;
}

static void cost_is_told(void **state)
{
    (void)state;
    measure(10);
    measure(40);
    measure(190);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_stack_is_walked_to_its_beginning, ready),
        cmocka_unit_test_setup(a_stack_is_cut_at_the_depth, ready),
        cmocka_unit_test_setup(frames_of_any_size_and_alignment_are_passed, ready),
        cmocka_unit_test_setup(frames_too_large_for_a_packed_row_are_passed, ready),
        cmocka_unit_test_setup(a_signal_is_walked_through, ready),
        cmocka_unit_test_setup(an_alternate_signal_stack_is_walked_through, ready),
        cmocka_unit_test_setup(a_coroutine_is_walked_to_its_beginning, ready),
        cmocka_unit_test_setup(a_thread_with_a_small_stack_is_walked, ready),
#if defined(__x86_64__)
        cmocka_unit_test_setup(code_without_rules_is_tried_by_its_frame_pointer, ready),
        cmocka_unit_test_setup(generated_code_is_tried_by_its_frame_pointer, ready),
        cmocka_unit_test_setup(a_wild_frame_pointer_does_no_harm, ready),
        cmocka_unit_test_setup(
            a_guess_is_not_looked_up_while_a_library_is_closed, ready),
#endif
        cmocka_unit_test_setup(a_remembered_stack_is_what_a_walk_gives, ready),
        cmocka_unit_test_setup(
            a_stack_that_stands_is_kept_and_a_changed_one_is_not, ready),
        cmocka_unit_test_setup(cost_is_told, ready),
    };
    tp_stack_open(TP_STACK_AUTO);
    return cmocka_run_group_tests_name("stack", tests, NULL, NULL);
}
