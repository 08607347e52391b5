/* SPDX-License-Identifier: MIT */
/*
 * stack_oracle.c - a preload library: our stacks against libunwind's, in any program.
 *
 * It stands in front of the next malloc; every STACK_EVERY-th call of a thread (default
 * 97) is walked twice from the same place and compared frame by frame. At exit one
 * line with the sums goes to the file STACK_RESULT, and the first differences before it.
 * Another walker remembers, and must give what the plain one gives.
 */
#include "shim/stack.h"

#define UNW_LOCAL_ONLY
#include <dlfcn.h>
#include <fcntl.h>
#include <libunwind.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { DEPTH = 200, SHOWN = 40, REPEATS = 32, NOTES = 1 << 20 };

static struct {
    void *(*malloc)(size_t);
    unsigned long every;
    int result;
    uintptr_t own_start, own_end;
    _Atomic(unsigned long) stacks, same, frames, whole, ours_longer, theirs_longer,
        other;
    _Atomic(unsigned long) ends[TP_STACK_ENDS], remembered, kept, recalled, wrong;
    _Atomic(unsigned) shown;
} oracle;

static _Thread_local struct tp_stack_memory *plain, *remembering;
static _Thread_local unsigned long calls;
static _Thread_local bool inside;

static void tell(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void tell(const char *format, ...)
{
    char line[512];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(line, sizeof(line), format, list);
    va_end(list);
    if (n > 0 && oracle.result >= 0 && write(oracle.result, line, (size_t)n) < 0)
        _exit(97);
}

static bool is_own(uintptr_t address)
{
    return address >= oracle.own_start && address < oracle.own_end;
}

/* libunwind's frames outside this library, return addresses as it has them. */
static unsigned walk_theirs(uintptr_t *out)
{
    unw_context_t context;
    unw_cursor_t cursor;
    unsigned n = 0;
    unw_getcontext(&context);
    if (unw_init_local(&cursor, &context) != 0) return 0;
    do {
        unw_word_t pc = 0;
        if (unw_get_reg(&cursor, UNW_REG_IP, &pc) != 0 || pc == 0) break;
        if (n == 0 && is_own(pc)) continue;
        out[n++] = pc;
    } while (n < DEPTH && unw_step(&cursor) > 0);
    return n;
}

/* Ours is the address of the call, theirs where it returns to, or what was hit. */
static bool is_same(const struct tp_frame *ours, uintptr_t theirs)
{
    return ours->address == theirs || ours->address + 1 == theirs;
}

static void show(const struct tp_stack *ours, const uintptr_t *theirs, unsigned n)
{
    if (oracle.shown++ >= SHOWN) return;
    unsigned i = 0, most = ours->n > n ? ours->n : n;
    while (i < ours->n && i < n && is_same(&ours->frames[i], theirs[i])) i++;
    tell("ours %u end %u, theirs %u, differ at %u\n", ours->n, ours->end, n, i);
    for (unsigned j = i < 2 ? 0 : i - 2; j < most && j < i + 3; j++) {
        Dl_info a = { 0 }, b = { 0 };
        uintptr_t x = j < ours->n ? ours->frames[j].address : 0,
                  y = j < n ? theirs[j] : 0;
        if (x) dladdr((void *)x, &a);
        if (y) dladdr((void *)y, &b);
        tell("  %s+%#lx (%s)  |  %s+%#lx (%s)\n", a.dli_fname ? a.dli_fname : "?",
            x - (uintptr_t)a.dli_fbase, a.dli_sname ? a.dli_sname : "",
            b.dli_fname ? b.dli_fname : "?", y - (uintptr_t)b.dli_fbase,
            b.dli_sname ? b.dli_sname : "");
    }
}

static void compare(const struct tp_stack *ours, const uintptr_t *theirs, unsigned n)
{
    unsigned i = 0;
    while (i < ours->n && i < n && is_same(&ours->frames[i], theirs[i])) i++;
    oracle.stacks++;
    oracle.frames += ours->n;
    oracle.ends[ours->end]++;
    if (i == ours->n && i == n) {
        oracle.same++;
        return;
    }
    if (i == n)
        oracle.ours_longer++;
    else if (i == ours->n)
        oracle.theirs_longer++;
    else
        oracle.other++;
    show(ours, theirs, n);
}

/* A tree of frames, as sites.c has one; a thread's own, and long enough for its notes. */
static _Thread_local struct note {
    struct tp_frame frame;
    uint32_t parent;
} * tree;
static _Thread_local uint32_t n_tree;

/* Notes the frames that were walked, and fills in those that were recalled. */
static void complete(struct tp_stack *stack)
{
    uint32_t fresh = stack->n - stack->same, node = stack->same ? stack->outer : 0;
    for (uint32_t i = fresh, at = node; i < stack->n; i++, at = tree[at].parent)
        stack->frames[i] = tree[at].frame;
    for (uint32_t i = fresh; i--; node = stack->nodes[i] = n_tree++)
        tree[n_tree] = (struct note){ .frame = stack->frames[i], .parent = node };
}

/* The same stack, by the walker that remembers. */
static void compare_remembered(const struct tp_stack *first, struct tp_stack *second)
{
    complete(second);
    // Their own first frames are calls from two lines of this file: left out by both.
    bool same = first->n == second->n && first->end == second->end &&
        memcmp(first->frames, second->frames, first->n * sizeof(first->frames[0])) == 0;
    if (same)
        oracle.remembered++;
    else if (oracle.shown++ < SHOWN)
        tell("remembered: %u frames, end %u; walked: %u, end %u; same %u\n", second->n,
            second->end, first->n, first->end, second->same);
    oracle.kept += second->same;
}

/* What is known of our caller's stack without a walk: nothing, or all of it. */
static void compare_recalled(
    const struct tp_stack *walked, const struct tp_stack_note *note)
{
    if (!note) return;
    uint32_t at = note->node, i = 0;
    for (; at && i < walked->n; i++, at = tree[at].parent)
        if (memcmp(&tree[at].frame, &walked->frames[i], sizeof(tree[at].frame)) != 0)
            break;
    oracle.recalled++;
    if (!at && i == walked->n && note->end == walked->end) return;
    if (oracle.wrong++ < SHOWN)
        tell("recalled: differs at %u of %u, end %u; walked: end %u\n", i, walked->n,
            note->end, walked->end);
}

static __attribute__((noinline)) void look(const struct tp_caller *caller)
{
    static _Thread_local uintptr_t theirs[DEPTH];
    if (!plain) plain = tp_stack_memory_make(false);
    if (!remembering) remembering = tp_stack_memory_make(true);
    if (!plain || !remembering) return;
    unsigned n = walk_theirs(theirs);
    const struct tp_stack *ours = tp_stack_take(plain, DEPTH);
    compare(ours, theirs, n);
    if (n_tree + DEPTH > NOTES || !n_tree) {
        tp_stack_memory_forget(remembering);
        n_tree = 1;  // 0 is outside of every stack
    }
    if (!tree)
        tree = mmap(NULL, NOTES * sizeof(*tree), PROT_READ | PROT_WRITE,
            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (tree == MAP_FAILED) _exit(97);
    compare_recalled(ours, tp_stack_recall(remembering, caller));
    compare_recalled(ours, tp_stack_recall(remembering, NULL));
    compare_remembered(ours, tp_stack_take(remembering, DEPTH));
    tp_stack_learn(remembering);
}

static __attribute__((constructor)) void begin(void)
{
    const char *every = getenv("STACK_EVERY"), *result = getenv("STACK_RESULT");
    const char *way = getenv("STACK_WAY");
    oracle.malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    oracle.result =
        result ? open(result, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
    tp_stack_open(way && strcmp(way, "dwarf") == 0 ? TP_STACK_DWARF : TP_STACK_AUTO);
    extern const char __ehdr_start[] __attribute__((visibility("hidden")));
    extern const char _end[] __attribute__((visibility("hidden")));
    oracle.own_start = (uintptr_t)__ehdr_start;
    oracle.own_end = (uintptr_t)_end;
    oracle.every = every ? strtoul(every, NULL, 10) : 97;  // last: now we look
}

static __attribute__((destructor)) void end(void)
{
    oracle.every = 0;
    if (!oracle.stacks) return;
    tell("stacks %lu same %lu frames %lu ours_longer %lu theirs_longer %lu other %lu "
         "remembered %lu kept %lu recalled %lu wrong %lu",
        oracle.stacks, oracle.same, oracle.frames, oracle.ours_longer,
        oracle.theirs_longer, oracle.other, oracle.remembered, oracle.kept,
        oracle.recalled, oracle.wrong);
    for (unsigned i = 0; i < TP_STACK_ENDS; i++) tell(" end%u %lu", i, oracle.ends[i]);
    tell("\n");
}

TP_EXPORT void *malloc(size_t size)
{
    if (!oracle.malloc) {
        // Before our constructor: what dlsym() asks for, and early libraries.
        extern void *__libc_malloc(size_t);
        return __libc_malloc(size);
    }
    void *block = oracle.malloc(size);
    if (oracle.every && !inside && ++calls % oracle.every == 0) {
        inside = true;
        const uintptr_t *frame = __builtin_frame_address(0);
        struct tp_caller caller = { .pc = (uintptr_t)__builtin_return_address(0),
            .sp = (uintptr_t)__builtin_dwarf_cfa(),
            .fp = frame[0] };
        look(&caller);
        inside = false;
    }
    return block;
}
