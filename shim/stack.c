/* SPDX-License-Identifier: MIT */
/*
 * stack.c - a walk from the caller to the beginning of its thread.
 *
 *     skim()        plain frames: stack and frame pointer, a few loads a frame
 *     follow()      packed rows of every kind
 *     cross()       all registers, up to and over a frame whose row does not fit
 *     resume()      exact mode: the rest of the stack is as it was, and not walked
 *     ways.c        our own frames, which are the same for every malloc: not walked
 *
 * Measured (2.8 GHz Xeon, gcc 12 -O2, warm, 19, 49 and 198 frames): 5.4, 5.0 and 4.9 ns
 * a frame, 2.1, 1.4 and 1.0 when remembered. It is a chain of two loads a frame, and what
 * lies between: mask, load, shift, add, load are 13 cycles. A shift in the place of an
 * entry, a product in the hash, or a conditional move for the base cost 0.3-3 ns each;
 * clearing all of `struct walk` was 30 ns a stack. tests/unit/test_stack.c prints it.
 *
 * Why the rest may be taken over: a step is a function of (pc, sp, fp), of rows that
 * change only with the epoch, and of the words that it reads. When a frame has the
 * (pc, sp, fp) that it had, and every word read from there outwards is as it was, then
 * so is every frame. Frames that read more than that (signals, rows that do not fit,
 * realigned stacks) are never taken over, nor what lies within them.
 */
#include "shim/stack.h"

#include "pool/os.h"
#include "shim/unwind.h"

#include <string.h>

/* Steps within our own library, before the first frame that counts. */
enum { OWN_MOST = 64 };

/* No frame is larger. */
enum { FRAME_MOST = 256 << 20 };

/* A frame as it was met, and the two words that led to the next one. */
struct seen {
    uintptr_t pc;
    uintptr_t sp;
    uintptr_t fp;
    const uintptr_t *ra_at;
    uintptr_t ra;
    const uintptr_t *fp_at;
    uintptr_t old_fp;
};

struct walk {
    struct tp_stack_memory *memory;
    struct tp_frame *frames;
    uint32_t n;
    uint32_t depth;
    uint64_t salt;
    struct tp_reach reach;
    uintptr_t pc;
    uintptr_t sp;
    uintptr_t fp;
    uintptr_t lr;  // aarch64: where the innermost function would return to; else 0
    bool exact;
    bool outside;                     // out of the library: the next frame counts
    const struct tp_registers *from;  // the last frame of which all are known
    uint32_t met;   // frames of the last stack that lie further in, or do not hold
    uint32_t kept;  // frames of the last stack that were taken over
};

struct tp_stack_memory {
    struct tp_stack stack;
    struct tp_registers start;  // the caller's, as it called
    struct tp_registers registers;
    struct tp_rules_scratch scratch;
    struct tp_reach_known known;
    struct tp_ways ways;
    bool remember;
    // The last stack; its frames are those of `stack`. Only with `remember`.
    bool holds;
    uint32_t depth;
    uint64_t salt;
    uint32_t plain;  // frames from this one outwards may be taken over
    uintptr_t high;  // of its reach
    struct tp_frame fresh[TP_STACK_MOST];
    struct seen fresh_seen[TP_STACK_MOST];
    // Outermost last, at the end: further in there is room for new ones.
    struct seen seen[2 * TP_STACK_MOST];
};

struct tp_stack_memory *tp_stack_memory_make(bool remember)
{
    if (!tp_rows_open()) return NULL;
    size_t bytes = remember ? sizeof(struct tp_stack_memory)
                            : offsetof(struct tp_stack_memory, fresh);
    struct tp_stack_memory *memory = tp_os_map(bytes);
    if (memory) memory->remember = remember;
    return memory;
}

void tp_stack_memory_forget(struct tp_stack_memory *memory)
{
    memory->holds = false;
    memory->known = (struct tp_reach_known){ 0 };
}

/* ---- frame pointers ---- */

/*
 * A step by the frame pointer, where there is no rule. It must look as if there were
 * one: further out, and leading to code, which is a file's, or of no file (a compiler
 * at run time made it) and a call.
 */
static TP_COLD enum tp_step guess(struct walk *walk)
{
    uintptr_t fp = walk->fp, old = 0, ra = 0;
    if (fp == 0 && tp_rows.frame_pointers) return TP_STEP_ENDS;
    if (fp % 8 || fp < walk->sp || fp - walk->sp > FRAME_MOST ||
        !tp_reach_word(&walk->reach, fp, &old) ||
        !tp_reach_word(&walk->reach, fp + 8, &ra))
        return TP_STEP_NO_RULE;
    ra = tp_step_strip(ra);
    if (ra == 0) return TP_STEP_ENDS;
    walk->memory->scratch.is_guess = true;  // and all that follows from it
    uint64_t next = tp_rows_at(ra - 1, walk->salt, &walk->memory->scratch);
    if (tp_packed_module(next) == 0 && !tp_step_is_call(ra)) return TP_STEP_NO_RULE;
    walk->pc = ra;
    walk->sp = fp + 16;
    walk->fp = old;
    walk->lr = 0;
    walk->exact = false;
    return TP_STEP_DONE;
}

/* ---- with all registers ---- */

/* One step as the whole row says. */
static enum tp_step step_out(struct tp_registers *registers, struct walk *walk)
{
    struct tp_rules_scratch *scratch = &walk->memory->scratch;
    uintptr_t key = tp_step_key(registers->pc, registers->exact);
    struct tp_object object;
    struct tp_sheet sheet;
    enum tp_step step = TP_STEP_BAD_RULE;
    if (scratch->is_guess && !tp_rows_enter()) return TP_STEP_NO_RULE;
    if (!tp_object_at(key, &object) || !tp_rules_sheet(&object, &sheet))
        step = TP_STEP_NO_RULE;
    else if (tp_rules_find(&sheet, key, scratch) == TP_RULES_FOUND)
        step = tp_step_out(registers, &walk->reach, scratch);
    if (scratch->is_guess) tp_rows_leave();
    return step;
}

/* One step by the frame pointer; of the other registers nothing is known then. */
static enum tp_step step_guess(struct tp_registers *registers, struct walk *walk)
{
    uintptr_t fp = registers->value[TP_REGISTER_FP], old = 0, ra = 0;
    if (fp < registers->value[TP_REGISTER_SP] ||
        !tp_reach_word(&walk->reach, fp, &old) ||
        !tp_reach_word(&walk->reach, fp + 8, &ra))
        return TP_STEP_BAD_MEMORY;
    registers->pc = tp_step_strip(ra);
    registers->value[TP_REGISTER_SP] = fp + 16;
    registers->value[TP_REGISTER_FP] = old;
    registers->known = (uint64_t)1 << TP_REGISTER_FP | (uint64_t)1 << TP_REGISTER_SP;
    registers->exact = false;
    return TP_STEP_DONE;
}

/*
 * Steps over the frame that the walk has come to, with all registers: from the last
 * frame where they were known, over those that were walked without them since. From
 * here on they are known again, so no frame is stepped over twice.
 */
static TP_COLD enum tp_step cross(struct walk *walk)
{
    struct tp_registers *registers = &walk->memory->registers;
    uint64_t fp_bit = (uint64_t)1 << TP_REGISTER_FP;
    if (walk->from != registers) *registers = *walk->from;
    walk->from = registers;
    for (uint32_t most = walk->depth + OWN_MOST; most; most--) {
        uintptr_t sp = registers->value[TP_REGISTER_SP];
        bool there = registers->pc == walk->pc && sp == walk->sp;
        bool leaf = registers->exact;
        uintptr_t key = tp_step_key(registers->pc, leaf);
        uint64_t row = there ? TP_PACKED_COMPLEX
                             : tp_rows_at(key, walk->salt, &walk->memory->scratch);
        enum tp_step step = tp_packed_kind(row) == TP_PACKED_GUESS
            ? step_guess(registers, walk)
            : step_out(registers, walk);
        uintptr_t next = registers->value[TP_REGISTER_SP];
        if (step > TP_STEP_SIGNAL) return step;
        if (step == TP_STEP_DONE && (next < sp || (next == sp && !leaf)))
            return TP_STEP_BAD_RULE;
        if (!there && (step != TP_STEP_DONE || next > walk->sp))
            return TP_STEP_BAD_RULE;
        if (!there) continue;
        walk->pc = registers->pc;
        walk->sp = next;
        walk->fp = registers->known & fp_bit ? registers->value[TP_REGISTER_FP] : 0;
        walk->lr = 0;
        walk->exact = registers->exact;
        if (step == TP_STEP_SIGNAL)
            tp_reach_at(&walk->reach, &walk->memory->known, next);
        return step;
    }
    return TP_STEP_BAD_RULE;
}

/* ---- with packed rows ---- */

static enum tp_stack_end end_of(enum tp_step step)
{
    switch (step) {
    case TP_STEP_ENDS:
        return TP_STACK_WHOLE;
    case TP_STEP_NO_RULE:
        return TP_STACK_NO_RULE;
    case TP_STEP_BAD_MEMORY:
        return TP_STACK_BAD_MEMORY;
    default:
        return TP_STACK_BAD_RULE;
    }
}

/* Out of a frame that the kernel made; the stack may be another from here on. */
static TP_COLD enum tp_step leave_signal(struct walk *walk)
{
    struct tp_registers *registers = &walk->memory->registers;
    registers->value[TP_REGISTER_SP] = walk->sp;
    enum tp_step step = tp_step_signal(registers, &walk->reach);
    if (step != TP_STEP_SIGNAL) return step;
    walk->from = registers;
    walk->pc = registers->pc;
    walk->sp = registers->value[TP_REGISTER_SP];
    walk->fp = registers->value[TP_REGISTER_FP];
#if defined(__aarch64__)
    walk->lr = registers->value[TP_REGISTER_RA];
#endif
    walk->exact = true;
    tp_reach_at(&walk->reach, &walk->memory->known, walk->sp);
    return TP_STEP_SIGNAL;
}

/* Steps that are not "a register and a constant". */
static TP_COLD enum tp_step follow_rare(struct walk *walk, uint64_t row)
{
    switch (tp_packed_kind(row)) {
    case TP_PACKED_END:
        return TP_STEP_ENDS;
    case TP_PACKED_SIGNAL:
        return leave_signal(walk);
    case TP_PACKED_GUESS:
    case TP_PACKED_NONE:
        // The loader's own beginning is such code, and has no caller.
        if (tp_reach_begins(walk->sp)) return TP_STEP_ENDS;
        return tp_packed_kind(row) == TP_PACKED_GUESS ? guess(walk) : TP_STEP_NO_RULE;
    case TP_PACKED_COMPLEX:
        return cross(walk);
    default:
        return TP_STEP_BAD_RULE;
    }
}

static inline void record(struct walk *walk, uintptr_t pc, bool exact, uint64_t row)
{
    // What returns from a signal is not called: it begins where it "returns" to.
    bool whole = exact || tp_packed_kind(row) == TP_PACKED_SIGNAL;
    walk->frames[walk->n++] = (struct tp_frame){
        .address = whole ? pc : pc - 1,
        .module = tp_packed_module(row),
    };
}

/* Where a word that never changes is: for frames that read none. */
static const uintptr_t nothing;

static inline struct seen *see(
    struct walk *walk, uintptr_t pc, uintptr_t sp, uintptr_t fp)
{
    struct seen *seen = &walk->memory->fresh_seen[walk->n];
    *seen = (struct seen){
        .pc = pc, .sp = sp, .fp = fp, .ra_at = &nothing, .fp_at = &nothing
    };
    return seen;
}

/*
 * True when the frame (pc, sp, fp) is one of the last stack's, and all from there
 * outwards still stand; walk->kept says how many.
 */
static TP_NOT_SANITIZED bool resume(
    struct walk *walk, uintptr_t pc, uintptr_t sp, uintptr_t fp)
{
    struct tp_stack_memory *memory = walk->memory;
    uint32_t n = memory->stack.n;
    const struct seen *seen = &memory->seen[2 * TP_STACK_MOST - n];
    while (walk->met < n && seen[walk->met].sp < sp) walk->met++;
    if (walk->met >= n) return false;
    const struct seen *first = &seen[walk->met];
    if (first->sp != sp || first->pc != pc || first->fp != fp) return false;
    // A stack that was cut ends where it did only when it begins where it did.
    uint32_t kept = n - walk->met;
    bool cut = memory->stack.end == TP_STACK_DEPTH;
    if (cut ? walk->met != walk->n : walk->n + kept > walk->depth) return false;
    uintptr_t differs = 0;
    for (const struct seen *at = first; at < seen + n; at++) {
        differs |= *(const volatile uintptr_t *)at->ra_at ^ at->ra;
        differs |= *(const volatile uintptr_t *)at->fp_at ^ at->old_fp;
    }
    if (!differs) {
        walk->kept = kept;
        return true;
    }
    // Further in than the last word that differs nothing can hold.
    for (uint32_t i = n; i-- > walk->met;) {
        const struct seen *at = &seen[i];
        if (*at->ra_at != at->ra || *at->fp_at != at->old_fp) {
            walk->met = i + 1;
            break;
        }
    }
    return false;
}

static void leave_library(struct walk *walk)
{
    struct tp_stack_memory *memory = walk->memory;
    if (!tp_ways_leave(&memory->ways, &walk->reach, walk->salt, &memory->scratch,
            &walk->pc, &walk->sp, &walk->fp))
        return;
    walk->lr = 0;
    walk->exact = false;
    walk->outside = true;
}

/* ---- packed rows ---- */

/*
 * Passes over plain frames as long as there are any: "a register and a constant", found
 * in the table at the first of its places, read within the window that stands. That is
 * nearly all of a stack. What is not plain is left, nothing of it done, to follow().
 * With `own` the frames are those of this library, and are not recorded.
 */
static inline __attribute__((always_inline)) void skim(struct walk *walk, bool own)
{
    struct tp_packed *table =
        atomic_load_explicit(&tp_rows.table, memory_order_relaxed);
    uintptr_t pc = walk->pc, sp = walk->sp, fp = walk->fp;
    const uintptr_t low = walk->reach.low, high = walk->reach.high;
    const uint64_t salt = walk->salt;
    struct tp_frame *frame = &walk->frames[walk->n];
    struct tp_frame *last = &walk->frames[walk->depth];
    if (sp % 8 || sp < low) return;
    while (own ? tp_rows_is_own(pc) : frame < last) {
        struct tp_packed *entry = tp_rows_entry(table, tp_rows_place(pc - 1));
        uint64_t row = atomic_load_explicit(&entry->row, memory_order_relaxed);
        uint64_t check = atomic_load_explicit(&entry->check, memory_order_relaxed);
        if (TP_UNLIKELY(check != tp_rows_check(pc - 1, row, salt))) break;
        uintptr_t base = sp;
        if (tp_packed_kind(row) != TP_PACKED_SP) {
            // A jump: a conditional move would wait for `row`.
            __asm__("" : "+r"(base));
            if (TP_UNLIKELY(tp_packed_kind(row) != TP_PACKED_FP) || fp % 8) break;
            base = fp;
        }
        // Offsets are of whole words, and `sp` is one in the window: so is this.
        uintptr_t cfa = base + tp_packed_offset(row);
        if (TP_UNLIKELY(cfa <= sp || cfa > high)) break;
        uintptr_t fp_at = cfa - tp_packed_fp(row);
        if (TP_UNLIKELY(fp_at < low)) break;
#if defined(__aarch64__)
        uintptr_t ra_at = cfa - tp_packed_ra(row);
        if (TP_UNLIKELY(ra_at < low || ra_at == cfa)) break;
        uintptr_t ra = tp_step_strip(tp_reach_load(ra_at));
#else
        uintptr_t ra = tp_reach_load(cfa - 8);
#endif
        if (!own) {
            frame->address = pc - 1;
            frame->module = tp_packed_module(row);
            frame->reserved = 0;
            frame++;
        }
        if (fp_at != cfa) fp = tp_reach_load(fp_at);
        pc = ra;
        sp = cfa;
        if (TP_UNLIKELY(!pc)) break;
    }
    walk->pc = pc, walk->sp = sp, walk->fp = fp;
    walk->n = (uint32_t)(frame - walk->frames);
}

/*
 * Follows packed rows to the end. Its variables are of this function and not of `walk`
 * because each frame waits for the last one's: a word through memory costs more than
 * all the rest.
 */
static inline __attribute__((always_inline)) enum tp_stack_end follow(
    struct walk *walk, bool remember)
{
    uintptr_t pc = walk->pc, sp = walk->sp, fp = walk->fp, lr = walk->lr;
    bool exact = walk->exact;
    struct seen *seen = NULL;
    uint32_t *plain = &walk->memory->plain;
    uint32_t all = walk->depth + OWN_MOST;
    for (uint32_t most = all; most; most--) {
        if (!remember && !exact) {
            walk->pc = pc, walk->sp = sp, walk->fp = fp;
            if (!walk->n) skim(walk, true);
            if (walk->n || !tp_rows_is_own(walk->pc)) skim(walk, false);
            pc = walk->pc, sp = walk->sp, fp = walk->fp;
            if (!pc) return TP_STACK_WHOLE;
        }
        // Two calls, for the second needs no subtraction to find its place.
        uint64_t row = TP_UNLIKELY(exact)
            ? tp_rows_at(pc, walk->salt, &walk->memory->scratch)
            : tp_rows_at(pc - 1, walk->salt, &walk->memory->scratch);
        enum tp_packed_kind kind = tp_packed_kind(row);
        if (walk->n || walk->outside || (most != all && !tp_rows_is_own(pc))) {
            if (remember && walk->met < walk->memory->stack.n &&
                resume(walk, pc, sp, fp))
                return walk->memory->stack.end;
            if (walk->n == walk->depth) return TP_STACK_DEPTH;
            if (remember) seen = see(walk, pc, sp, fp);
            record(walk, pc, exact, row);
        }
        uintptr_t base = sp;
        if (kind != TP_PACKED_SP) {
            __asm__(""
                    : "+r"(base));  // a jump: a conditional move would wait for `row`
            base = fp;
        }
        uintptr_t cfa = base + tp_packed_offset(row);
        if (TP_UNLIKELY(kind > TP_PACKED_FP)) {
            if (kind == TP_PACKED_DEREF && tp_reach_word(&walk->reach, cfa, &cfa)) {
                if (remember) *plain = walk->n;
            } else {
                walk->pc = pc, walk->sp = sp, walk->fp = fp, walk->lr = lr;
                walk->exact = exact;
                enum tp_step step = kind == TP_PACKED_DEREF ? TP_STEP_BAD_MEMORY
                                                            : follow_rare(walk, row);
                // What was interrupted is looked up otherwise than what has called.
                if (remember && step == TP_STEP_SIGNAL) *plain = walk->n + 1;
                if (remember && kind == TP_PACKED_COMPLEX && step == TP_STEP_DONE)
                    *plain = walk->n;
                if (remember && kind == TP_PACKED_GUESS && step == TP_STEP_DONE &&
                    seen) {
                    seen->ra_at = (const uintptr_t *)(fp + 8), seen->ra = walk->pc;
                    seen->fp_at = (const uintptr_t *)fp, seen->old_fp = walk->fp;
                }
                if (step > TP_STEP_SIGNAL) return end_of(step);
                pc = walk->pc, sp = walk->sp, fp = walk->fp, lr = walk->lr;
                exact = walk->exact;
                continue;
            }
        }
        // Only a function that has put nothing on the stack yet has none.
        if (TP_UNLIKELY(cfa <= sp) && (cfa < sp || !lr)) return TP_STACK_LOOP;
#if defined(__aarch64__)
        uintptr_t ra_at = cfa - tp_packed_ra(row);
        if (ra_at == cfa) {
            if (!lr) return TP_STACK_BAD_RULE;
            pc = lr;
        } else if (!tp_reach_word(&walk->reach, ra_at, &pc)) {
            return TP_STACK_BAD_MEMORY;
        }
        pc = tp_step_strip(pc);
        lr = 0;
#else
        uintptr_t ra_at = cfa - 8;
        if (!tp_reach_word(&walk->reach, ra_at, &pc)) return TP_STACK_BAD_MEMORY;
#endif
        uintptr_t fp_at = kind == TP_PACKED_DEREF ? fp : cfa - tp_packed_fp(row);
        if (fp_at != cfa && !tp_reach_word(&walk->reach, fp_at, &fp))
            return TP_STACK_BAD_MEMORY;
        if (remember && seen) {
            if (ra_at != cfa) seen->ra_at = (const uintptr_t *)ra_at, seen->ra = pc;
            if (fp_at != cfa) seen->fp_at = (const uintptr_t *)fp_at, seen->old_fp = fp;
        }
        sp = cfa;
        exact = false;
        if (TP_UNLIKELY(pc == 0)) return TP_STACK_WHOLE;
    }
    return TP_STACK_LOOP;
}

/* ---- what is remembered ---- */

/* The last stack can be compared with: same thread, same libraries, same question. */
static bool still_holds(const struct tp_stack_memory *memory, const struct walk *walk)
{
    return memory->holds && memory->salt == walk->salt &&
        memory->depth == walk->depth && memory->high == walk->reach.high &&
        walk->reach.anchor == 0;
}

/* Puts the fresh frames in front of those that were kept. */
static void join(struct walk *walk)
{
    struct tp_stack_memory *memory = walk->memory;
    struct tp_stack *stack = &memory->stack;
    uint32_t fresh = walk->n, kept = walk->kept, gone = stack->n - kept;
    if (fresh != gone)
        memmove(&stack->frames[fresh], &stack->frames[gone],
            kept * sizeof(struct tp_frame));
    struct seen *last = &memory->seen[2 * TP_STACK_MOST - kept];
    for (uint32_t i = 0; i < fresh; i++) {
        stack->frames[i] = memory->fresh[i];
        last[(int64_t)i - fresh] = memory->fresh_seen[i];
    }
    stack->n = fresh + kept;
}

/* ---- the caller ---- */

/*
 * All registers as they are at one instruction of the function that this is inlined
 * into, whose unwind information then tells the way out of it.
 */
static inline __attribute__((always_inline)) void capture(struct tp_registers *out)
{
#if defined(__aarch64__)
    __asm__ volatile("stp x19, x20, [%1, #152]\n\tstp x21, x22, [%1, #168]\n\t"
                     "stp x23, x24, [%1, #184]\n\tstp x25, x26, [%1, #200]\n\t"
                     "stp x27, x28, [%1, #216]\n\tstp x29, x30, [%1, #232]\n\t"
                     "mov x9, sp\n\tstr x9, [%1, #248]\n\t"
                     "adr %0, ."
                     : "=&r"(out->pc)
                     : "r"(out->value)
                     : "x9", "memory");
    out->known = 0xfffu << 19 | (uint64_t)1 << TP_REGISTER_SP;
    out->known |= (uint64_t)1 << TP_REGISTER_RA;
#else
    __asm__ volatile(
        "movq %%rbx, 24(%1)\n\tmovq %%rbp, 48(%1)\n\tmovq %%rsp, 56(%1)\n\t"
        "movq %%r12, 96(%1)\n\tmovq %%r13, 104(%1)\n\tmovq %%r14, 112(%1)\n\t"
        "movq %%r15, 120(%1)\n\tleaq 0(%%rip), %0"
        : "=&r"(out->pc)
        : "r"(out->value)
        : "memory");
    out->known = 1u << 3 | 1u << TP_REGISTER_FP | 1u << TP_REGISTER_SP | 0xfu << 12;
#endif
    out->exact = true;
}

/*
 * Walks from memory->start; the result lies in memory->stack. Apart from the caller, but
 * not cold, or the compiler would make it small and slow.
 */
static __attribute__((noinline)) void walk_from(
    struct tp_stack_memory *memory, uint32_t depth)
{
    const struct tp_registers *start = &memory->start;
    struct tp_stack *stack = &memory->stack;
    // Field by field: to clear it all takes the compiler's choice as long as four frames.
    struct walk walk;
    walk.memory = memory;
    walk.frames = memory->remember ? memory->fresh : stack->frames;
    walk.n = 0;
    walk.depth = depth < TP_STACK_MOST ? depth : TP_STACK_MOST;
    walk.salt = tp_rows_salt();
    walk.pc = start->pc;
    walk.sp = start->value[TP_REGISTER_SP];
    walk.fp = start->value[TP_REGISTER_FP];
#if defined(__aarch64__)
    walk.lr = start->value[TP_REGISTER_RA];
#else
    walk.lr = 0;
#endif
    walk.exact = true;
    walk.outside = false;
    walk.from = start;
    memory->scratch.is_guess = false;
    walk.met = walk.kept = 0;
    tp_reach_at(&walk.reach, &memory->known, walk.sp);
    leave_library(&walk);
    if (!memory->remember) {
        stack->end = follow(&walk, false);
        stack->n = walk.n;
        return;
    }
    uintptr_t high = walk.reach.high;
    bool held = still_holds(memory, &walk);
    walk.met = held ? memory->plain : UINT32_MAX;
    memory->plain = 0;
    stack->end = follow(&walk, true);
    if (walk.kept == 0) stack->n = 0;
    join(&walk);
    stack->same = walk.kept;
    memory->holds = walk.reach.anchor == 0 && walk.reach.high == high &&
        (stack->end == TP_STACK_WHOLE || stack->end == TP_STACK_DEPTH);
    memory->depth = walk.depth;
    memory->salt = walk.salt;
    memory->high = high;
}

__attribute__((noinline)) const struct tp_stack *tp_stack_take(
    struct tp_stack_memory *memory, uint32_t depth)
{
    capture(&memory->start);
    walk_from(memory, depth);
    // A call in the place of this one would overwrite what has just been captured.
    __asm__ volatile("" ::: "memory");
    return &memory->stack;
}
