/* SPDX-License-Identifier: MIT */
/*
 * stack.h - the call stack of the thread that asks.
 *
 * Idea: unwind information (.eh_frame) says for every instruction how to find the
 * caller's frame. Nearly always that is "the stack pointer, or the frame pointer, plus a
 * constant", so it is worked out once an address (rules.c), kept in a table of 16-byte
 * entries that all threads share (stack.c), and a walk costs a few loads a frame. What
 * the table cannot express is stepped over by an interpreter of the whole language
 * (steps.c), slowly. Code without any such information is tried with its frame pointer.
 *
 * Order of trust: memory is read only inside the stack that we stand on; no lock of the
 * loader is taken, nothing is allocated; whatever the rules say, the stack pointer moves
 * outwards or the walk is over.
 *
 * Knows nothing of: sites, samples, files; modules.c apart, which fills tp_modules.
 */
#ifndef TP_SHIM_STACK_H
#define TP_SHIM_STACK_H

#include "pool/host.h"
#include "shim/format.h"

enum { TP_STACK_MOST = 256 };  // frames that a stack can have

struct tp_frame {
    uintptr_t address;  // of the call: return address - 1; what a signal hit: itself
    uint32_t module;    // index + 1 in tp_modules; 0: none
    uint32_t reserved;
};

struct tp_stack {
    uint32_t n;             // frames, innermost first; those of this library left out
    enum tp_stack_end end;  // why there are no more
    uint32_t
        same;  // the outermost `same` frames were recalled, and are not told again:
    uint32_t outer;  // what was noted of the innermost of those
    struct tp_frame frames[TP_STACK_MOST];
    uint32_t nodes[TP_STACK_MOST];  // the caller's notes on the frames that are told
};

/* What the caller keeps with a stack that it may see again; its own but for `end`. */
struct tp_stack_note {
    uint32_t node;
    uint32_t end;  // enum tp_stack_end
    uint32_t class;
    uint32_t site;  // 0: not known
};

/*
 * A place to put stacks, and what is remembered of earlier ones: of a stack whose outer
 * part still stands unchanged that part is not walked again (exact mode; recall.h).
 */
struct tp_stack_memory;

/*
 * Memory for one thread at a time; NULL without memory. Mapped, never freed: the caller
 * keeps it for the next thread.
 */
struct tp_stack_memory *tp_stack_memory_make(bool remember);

/* Another thread uses it from here on: nothing of the last stack holds. */
void tp_stack_memory_forget(struct tp_stack_memory *memory);

/*
 * Walks the caller's stack, at most `depth` frames (1 .. TP_STACK_MOST). Returns what
 * lies in `memory` until the next call. Costs at most 2 KiB of stack.
 * Context: cold; not for a thread that holds a lock of the loader.
 */
struct tp_stack *tp_stack_take(struct tp_stack_memory *memory, uint32_t depth);

/*
 * The note of the stack that the program has when it calls from `caller` (NULL: from
 * wherever it has called us), when it is one that was learnt and still stands; else NULL.
 * Needs: the thread stands below `caller`. Context: hot.
 */
struct tp_stack_note *tp_stack_recall(
    struct tp_stack_memory *memory, const struct tp_caller *caller);

/*
 * The stack that was taken last will be known again, with what nodes[] says now. Returns
 * the note of it, or NULL: it cannot be.
 */
struct tp_stack_note *tp_stack_learn(struct tp_stack_memory *memory);

/* Which way to walk; set once, before the first walk. As the option `unwind`. */
enum tp_stack_way { TP_STACK_AUTO, TP_STACK_FP, TP_STACK_DWARF };
void tp_stack_open(enum tp_stack_way way);

/* modules.c */

/*
 * Index + 1 in tp_modules of the file mapped at `address`, 0 when there is none. Adds a
 * record when it is new. Lock-free but for adding; nothing is allocated.
 */
uint32_t tp_module_of(uintptr_t address);

/*
 * A library may be unloaded from here to tp_modules_unloaded(), which finds out which, and
 * forgets the rules if so. In between nothing is read of what a guessed frame pointer
 * leads to: the first of them waits, a moment at most, for who is at it. May be nested,
 * and be called by several threads at once.
 */
void tp_modules_closing(void);
void tp_modules_unloaded(void);

/* In a forked child: locks are free. */
void tp_modules_forked(void);

/* What the loader calls `address`'s file, for messages; terminated. "" when unknown. */
const char *tp_module_path(uint32_t module);

#endif
