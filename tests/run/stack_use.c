/* SPDX-License-Identifier: MIT */
/*
 * stack_use.c - how deep our calls go: less than 4 KiB of stack on every path.
 *
 * A thread paints its stack, makes one kind of call often enough to come by its rare
 * paths, and looks how far down the paint is gone. The system's part of a signal's
 * frame is in the figure of the dump that a handler makes, and taken off again.
 *
 * What malloc alone takes below its caller, stacks included, is less than 2 KiB: in a
 * thread's first call (0), from a place never seen before (1), and again and again (2).
 *
 * case: usual
 * options: purge=0,interval=5ms,sample=4k
 * expect: max(said.depth.values()) < 4096 and len(said.depth) == 11
 * expect: max(said.below.values()) < 4096
 * case: sampled
 * options: sample=1
 * expect: max(said.depth.values()) < 4096 and len(said.depth) == 11
 * expect: max(said.below.values()) < 2048 and len(said.below) == 3
 * expect: first.sampling.samples > 100000
 * case: exact
 * options: sample=all
 * expect: max(said.depth.values()) < 4096 and len(said.depth) == 11
 * expect: max(said.below.values()) < 2048 and len(said.below) == 3
 * expect: first.sampling.mode == 'exact'
 */
#include "scene.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

enum { STACK = 256 * 1024, PAINT = 0x5a };

static void small_blocks(void)
{
    void *block[64];
    for (unsigned round = 0; round < 3000; round++) {
        for (unsigned i = 0; i < 64; i++) block[i] = malloc(round % 900 + 16 * i);
        for (unsigned i = 0; i < 64; i++) free(block[i]);
    }
}

static void medium_blocks(void)
{
    for (unsigned i = 0; i < 20000; i++) free(malloc(9000 + i % 100 * 1100));
}

static void large_blocks(void)
{
    void *block[8] = { 0 };
    for (unsigned i = 0; i < 4000; i++) {
        free(block[i % 8]);
        block[i % 8] = malloc(140000 + i % 300 * 4099);
    }
    for (unsigned i = 0; i < 8; i++) free(block[i]);
}

static void resized_blocks(void)
{
    void *block = NULL;
    for (size_t n = 1; n < (size_t)20 << 20; n += n / 3 + 1) block = realloc(block, n);
    for (size_t n = (size_t)20 << 20; n > 10; n -= n / 3) block = realloc(block, n);
    free(block);
}

static void aligned_blocks(void)
{
    for (size_t align = 16; align <= (size_t)4 << 20; align *= 2)
        for (unsigned i = 0; i < 20; i++) {
            void *block = NULL;
            if (!posix_memalign(&block, align, i * 977 + 1)) free(block);
        }
}

static void cleared_blocks(void)
{
    for (unsigned i = 0; i < 3000; i++) free(calloc(i + 1, 97));
}

static void questions(void)
{
    struct mallinfo2 info = mallinfo2();
    void *block = malloc(info.uordblks % 100 + 1);
    MUST(malloc_usable_size(block) > 0);
    free(block);
    malloc_trim(0);
}

static void dump(void)
{
    dump_now();
}

static unsigned char *stack;
static size_t *in_child;  // how deep a child went, in its own copy of the stack

static size_t depth_now(void)
{
    size_t clean = 0;
    while (clean < STACK && stack[clean] == PAINT) clean++;
    return STACK - clean;
}

static void fork_once(void)
{
    pid_t child = _Fork();
    if (child == 0) {
        small_blocks();
        *in_child = depth_now();
        syscall(SYS_exit_group, 0);
    }
    int status = 1;
    MUST(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

/* Long enough for ticks, which purge and, as the interval says, dump. */
static void a_while(void)
{
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        for (unsigned i = 0; i < 1000; i++) free(malloc(997 * i));
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (
        (now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 <
        300);
}

static void nothing(void)
{
}

static void (*const kinds[])(void) = { small_blocks, medium_blocks, large_blocks,
    resized_blocks, aligned_blocks, cleared_blocks, questions, dump, fork_once, a_while,
    nothing };

/* Runs on the painted stack from its first call of malloc to its end. */
static void *work(void *kind)
{
    (*(void (*const *)(void))kind)();
    return NULL;
}

/* Bytes of paint that are gone from a fresh stack, the caller's own not counted. */
static size_t depth_of(void *(*body)(void *), const void *kind)
{
    pthread_t thread;
    pthread_attr_t attributes;
    memset(stack, PAINT, STACK);
    *in_child = 0;
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, stack, STACK);
    MUST(!pthread_create(&thread, &attributes, body, (void *)(uintptr_t)kind));
    pthread_join(thread, NULL);
    size_t depth = depth_now();
    return depth > *in_child ? depth : *in_child;
}

/* ---- what malloc alone takes ---- */

enum { NEAR = 256 };  // below a caller's frame that is not painted: his own

#define PLACE(n)                                          \
    static __attribute__((noinline)) void place_##n(void) \
    {                                                     \
        free(malloc(40 * (n) + 1));                       \
        free(malloc(140000 + (n)));                       \
        number_of_places = (n) + 1;                       \
    }
static volatile unsigned number_of_places;
PLACE(0)
PLACE(1)
PLACE(2)
PLACE(3)
PLACE(4)
PLACE(5)
PLACE(6)
PLACE(7)
static void (*const places[])(
    void) = { place_0, place_1, place_2, place_3, place_4, place_5, place_6, place_7 };

/* Bytes that `place` takes below the frame of this function. */
static __attribute__((noinline)) size_t below_here(void (*place)(void))
{
    volatile unsigned char *here = __builtin_frame_address(0);
    for (volatile unsigned char *at = stack; at < here - NEAR; at++) *at = PAINT;
    place();
    volatile unsigned char *clean = stack;
    while (clean < here && *clean == PAINT) clean++;
    return (size_t)(here - clean);
}

static void *measure_places(void *deepest_)
{
    size_t *deepest = deepest_;
    deepest[0] = below_here(place_0);
    for (unsigned i = 0; i < 800; i++) {
        size_t depth = below_here(places[i % 8]), *most = &deepest[i < 8 ? 1 : 2];
        if (depth > *most) *most = depth;
    }
    return NULL;
}

static void *wait_here(void *unused)
{
    return unused;
}

static void on_signal(int number_)
{
    (void)number_;
}

static void *be_signalled(void *unused)
{
    raise(SIGUSR2);
    return unused;
}

int main(void)
{
    int access = PROT_READ | PROT_WRITE, flags = MAP_ANONYMOUS;
    stack = mmap(NULL, STACK, access, flags | MAP_PRIVATE, -1, 0);
    in_child = mmap(NULL, sizeof *in_child, access, flags | MAP_SHARED, -1, 0);
    MUST(stack != MAP_FAILED && in_child != MAP_FAILED);
    signal(SIGUSR2, on_signal);
    free(malloc(1));
    // The loader binds a name at its first call, on two KiB of stack.
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) kinds[i]();
    static size_t below[3];
    depth_of(measure_places, below);
    for (unsigned i = 0; i < 3; i++) say_of("below", i, below[i]);
    // What a thread and a signal cost by themselves.
    size_t bare = depth_of(wait_here, NULL);
    size_t signalled = depth_of(be_signalled, NULL);
    for (unsigned i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        size_t depth = depth_of(work, &kinds[i]);
        size_t frame = kinds[i] == dump ? signalled : bare;
        say_of("depth", i, depth > frame ? depth - frame : 0);
    }
    return 0;
}
