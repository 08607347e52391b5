/* SPDX-License-Identifier: MIT */
/*
 * stack.c - a walk from the caller to the beginning of its thread.
 *
 *     skim()        plain frames: stack and frame pointer, a few loads a frame
 *     follow()      packed rows of every kind
 *     cross()       all registers, up to and over a frame whose row does not fit
 *     recall.c      exact mode: the rest of the stack is one seen before, and not walked
 *     ways.c        our own frames, which are the same for every malloc: not walked
 *
 * Measured (2.8 GHz Xeon, gcc 12 -O2, warm, 19, 49 and 198 frames): 5.4, 5.0 and 4.9 ns
 * a frame; 4.4, 2.6 and 1.6 when recalled, with all that goes with it. It is a chain of two
 * loads a frame, and what lies between: mask, load, shift, add, load are 13 cycles. A shift
 * in the place of an entry, a product in the hash, or a conditional move for the base cost
 * 0.3-3 ns each; clearing all of `struct walk` was 30 ns a stack. tests/unit/test_stack.c
 * prints it.
 */
#include "shim/stack.h"

#include "pool/os.h"
#include "shim/recall.h"
#include "shim/unwind.h"

/* Steps within our own library, before the first frame that counts. */
enum { OWN_MOST = 64 };

/* No frame is larger. */
enum { FRAME_MOST = 256 << 20 };

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
    uint32_t known;  // frame of the tree where it was left off; 0: it was not
};

struct tp_stack_memory {
    struct tp_stack stack;
    struct tp_registers start;  // the caller's, as it called
    struct tp_registers registers;
    struct tp_rules_scratch scratch;
    struct tp_reach_known known_reach;
    struct tp_ways ways;
    struct tp_ways short_ways;  // from recall_here()
    struct tp_recall *recall;   // NULL: nothing is remembered
    // Of the last walk. Only with `recall`.
    uint32_t known;   // as in struct walk
    uint32_t plain;   // frames from this one outwards may be recalled
    bool can_recall;  // what it has met is of a stack that stays where it is
    struct tp_met met[TP_STACK_MOST];
};

struct tp_stack_memory *tp_stack_memory_make(bool remember)
{
    if (!tp_rows_open()) return NULL;
    size_t bytes = remember ? sizeof(struct tp_stack_memory)
                            : offsetof(struct tp_stack_memory, known);
    struct tp_stack_memory *memory = tp_os_map(bytes);
    if (!memory || !remember) return memory;
    memory->recall = tp_recall_make();
    if (memory->recall) return memory;
    tp_os_unmap(memory, bytes);
    return NULL;
}

void tp_stack_memory_forget(struct tp_stack_memory *memory)
{
    memory->known_reach = (struct tp_reach_known){ 0 };
    if (memory->recall) tp_recall_forget(memory->recall);
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
            tp_reach_at(&walk->reach, &walk->memory->known_reach, next);
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
    tp_reach_at(&walk->reach, &walk->memory->known_reach, walk->sp);
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

/*
 * True when the frame is one of a stack that still stands: walk->known is its number.
 * `key` is for tp_recall_keep().
 */
static bool recall(struct walk *walk, uint64_t row, uintptr_t pc, uintptr_t sp,
    uintptr_t fp, uint64_t *out_key)
{
    // A window that moves is no stack that stays.
    if (walk->reach.anchor) return false;
    walk->known =
        tp_recall_find(walk->memory->recall, row, pc, sp, fp, walk->n, out_key);
    return walk->known != 0;
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
    struct tp_met *met = NULL;
    uint32_t *plain = remember ? &walk->memory->plain : NULL;
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
            uint64_t key = 0;
            if (remember && !exact && recall(walk, row, pc, sp, fp, &key))
                return (enum tp_stack_end)tp_recall_note_of(
                    walk->memory->recall, walk->known)
                    ->end;
            if (walk->n == walk->depth) return TP_STACK_DEPTH;
            if (remember) {
                met = &walk->memory->met[walk->n];
                *met = (struct tp_met){ .pc = pc,
                    .sp = sp,
                    .fp = fp,
                    .key = key,
                    .by_fp = kind != TP_PACKED_SP };
            }
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
                    met) {
                    met->ra_at = (const uintptr_t *)(fp + 8);
                    met->ra = tp_reach_load(fp + 8);
                    met->fp_at = (const uintptr_t *)fp, met->old_fp = walk->fp;
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
        uintptr_t ra = pc;
        pc = tp_step_strip(pc);
        lr = 0;
#else
        uintptr_t ra_at = cfa - 8, ra;
        if (!tp_reach_word(&walk->reach, ra_at, &ra)) return TP_STACK_BAD_MEMORY;
        pc = ra;
#endif
        uintptr_t fp_at = kind == TP_PACKED_DEREF ? fp : cfa - tp_packed_fp(row);
        if (fp_at != cfa && !tp_reach_word(&walk->reach, fp_at, &fp))
            return TP_STACK_BAD_MEMORY;
        if (remember && met) {
            if (ra_at != cfa) met->ra_at = (const uintptr_t *)ra_at, met->ra = ra;
            if (fp_at != cfa) met->fp_at = (const uintptr_t *)fp_at, met->old_fp = fp;
        }
        sp = cfa;
        exact = false;
        if (TP_UNLIKELY(pc == 0)) return TP_STACK_WHOLE;
    }
    return TP_STACK_LOOP;
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
    walk.frames = stack->frames;
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
    walk.known = 0;
    tp_reach_at(&walk.reach, &memory->known_reach, walk.sp);
    leave_library(&walk);
    if (!memory->recall) {
        stack->end = follow(&walk, false);
        stack->n = walk.n;
        return;
    }
    uintptr_t high = walk.reach.high;
    bool stays = walk.reach.anchor == 0;
    if (stays) tp_recall_begin(memory->recall, walk.salt, walk.depth, high);
    memory->plain = 0;
    stack->end = follow(&walk, true);
    memory->known = walk.known;
    stack->same = walk.known ? tp_recall_depth(memory->recall, walk.known) : 0;
    stack->n = walk.n + stack->same;
    stack->outer = walk.known ? tp_recall_note_of(memory->recall, walk.known)->node : 0;
    memory->can_recall = stays && walk.reach.anchor == 0 && walk.reach.high == high &&
        (stack->end == TP_STACK_WHOLE || stack->end == TP_STACK_DEPTH);
}

__attribute__((noinline)) struct tp_stack *tp_stack_take(
    struct tp_stack_memory *memory, uint32_t depth)
{
    capture(&memory->start);
    walk_from(memory, depth);
    // A call in the place of this one would overwrite what has just been captured.
    __asm__ volatile("" ::: "memory");
    return &memory->stack;
}

/* By the way out of our own functions. */
static __attribute__((noinline)) struct tp_stack_note *recall_here(
    struct tp_stack_memory *memory)
{
    struct tp_reach reach;
    capture(&memory->start);
    memory->scratch.is_guess = false;
    struct tp_caller caller = { .pc = memory->start.pc,
        .sp = memory->start.value[TP_REGISTER_SP],
        .fp = memory->start.value[TP_REGISTER_FP] };
    tp_reach_at(&reach, &memory->known_reach, caller.sp);
    if (reach.anchor ||
        !tp_ways_leave(&memory->short_ways, &reach, tp_rows_salt(), &memory->scratch,
            &caller.pc, &caller.sp, &caller.fp))
        return NULL;
    return tp_recall_note(memory->recall, &caller);
}

struct tp_stack_note *tp_stack_recall(
    struct tp_stack_memory *memory, const struct tp_caller *caller)
{
    if (!memory->recall) return NULL;
    // Some of our functions call others that look as if the program had.
    if (caller && !tp_rows_is_own(caller->pc))
        return tp_recall_note(memory->recall, caller);
    return recall_here(memory);
}

struct tp_stack_note *tp_stack_learn(struct tp_stack_memory *memory)
{
    const struct tp_stack *stack = &memory->stack;
    if (!memory->recall || !memory->can_recall) return NULL;
    memory->can_recall = false;
    struct tp_stack_note *note = tp_recall_keep(memory->recall, stack, memory->met,
        memory->plain, stack->n - stack->same, memory->known);
    return memory->plain ? NULL : note;
}
