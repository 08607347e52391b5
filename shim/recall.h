/* SPDX-License-Identifier: MIT */
/*
 * recall.h - stacks that were seen before are recognised, and not walked again.
 *
 * Idea: with every block counted a program asks from the same few places over and over.
 * Each frame that a walk has met is kept with the words of the stack that led out of it,
 * and linked to the frame that they led to: a tree, the outermost frames its roots. Who
 * stands on a frame of the tree with all words outwards as they were stands on the same
 * stack. To see that takes two loads and two comparisons a frame.
 *
 * Why it may be believed: a step is a function of (pc, sp, fp), of rules that change only
 * with the loader's epoch, and of the words that it reads. When a frame has the (pc, sp,
 * fp) that it had, and every word read from there outwards is as it was, then so is every
 * frame. The frame pointer counts only where a frame further out is found by it: nearly
 * all code keeps anything else in that register. Frames that read more than that
 * (signals, rows that do not fit, realigned stacks) are never kept, nor what lies within.
 *
 * Knows nothing of: how a walk is done.
 */
#ifndef TP_SHIM_RECALL_H
#define TP_SHIM_RECALL_H

#include "shim/stack.h"
#include "shim/unwind.h"

/* One thread's; on one stack, of which [low, high) is known. */
struct tp_recall;

/* A frame as a walk met it, and the words that led to the next one. */
struct tp_met {
    uintptr_t pc;
    uintptr_t sp;
    uintptr_t fp;
    const uintptr_t *ra_at;  // NULL: none was read
    uintptr_t ra;            // the word there
    const uintptr_t *fp_at;  // NULL: the frame pointer is as it was
    uintptr_t old_fp;
    uint64_t key;  // what tp_recall_find() has made of it
    bool by_fp;    // the frame pointer was needed to get out
};

/* Memory that is never freed; NULL without any. */
struct tp_recall *tp_recall_make(void);

/* Another thread uses it from here on. */
void tp_recall_forget(struct tp_recall *recall);

/*
 * A walk begins on a stack that ends at `high`, at most `depth` frames: forgets
 * everything when the last one did so otherwise.
 */
void tp_recall_begin(
    struct tp_recall *recall, uint64_t salt, uint32_t depth, uintptr_t high);

/*
 * Looks for the frame (pc, sp, fp) of a stack that still stands from there outwards.
 * `row` is the one for pc, `inner` the number of frames further in. Returns its number,
 * or 0. Needs: `sp` is on the stack that tp_recall_begin() was told of. Context: hot.
 */
uint32_t tp_recall_find(struct tp_recall *recall, uint64_t row, uintptr_t pc,
    uintptr_t sp, uintptr_t fp, uint32_t inner, uint64_t *out_key);

/* Frames from `known` outwards, and what is noted of it. */
uint32_t tp_recall_depth(const struct tp_recall *recall, uint32_t known);
const struct tp_stack_note *tp_recall_note_of(
    const struct tp_recall *recall, uint32_t known);

/*
 * Keeps frames first .. n - 1 of `stack`, which were met; `known` is the frame outside of
 * the last, 0: there is none. What was kept before may be forgotten for it. Returns the
 * note of frame `first`; NULL: that could not be.
 */
struct tp_stack_note *tp_recall_keep(struct tp_recall *recall,
    const struct tp_stack *stack, const struct tp_met *met, uint32_t first, uint32_t n,
    uint32_t known);

/* The note of the stack that `caller` stands on; NULL: it is not known. Context: hot. */
struct tp_stack_note *tp_recall_note(
    struct tp_recall *recall, const struct tp_caller *caller);

#endif
