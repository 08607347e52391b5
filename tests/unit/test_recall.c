/* SPDX-License-Identifier: MIT */
/*
 * test_recall.c - the tree of frames, over a stack that is an array of words.
 *
 * Frame i of the made-up stack is at words[4 i], its return address at words[4 i + 3] and
 * a saved frame pointer, where there is one, at words[4 i + 2].
 */
#include "shim/recall.h"

#include "tests/unit/tp_test.h"

#include <string.h>

enum { FRAMES = 40, WORDS = 4, DEPTH = 32, CODE = 0x1000 };

static uintptr_t words[FRAMES * WORDS];
static struct tp_recall *recall;
static struct tp_stack stack;
static struct tp_met met[TP_STACK_MOST];

/* "The stack pointer and four words", as rows.c packs it. */
static const uint64_t row = TP_PACKED_SP |
    (uint64_t)(WORDS * sizeof(uintptr_t)) << TP_PACKED_OFFSET_AT
#if defined(__aarch64__)
    | (uint64_t)1 << TP_PACKED_RA_AT
#endif
    ;

static uintptr_t sp_of(unsigned frame)
{
    return (uintptr_t)&words[frame * WORDS];
}

static uintptr_t pc_of(unsigned frame)
{
    return CODE + frame * 16;
}

static uintptr_t *ra_of(unsigned frame)
{
    return &words[frame * WORDS + 3];
}

static uintptr_t *fp_of(unsigned frame)
{
    return &words[frame * WORDS + 2];
}

static uint32_t find(unsigned frame, uintptr_t fp, uint32_t inner, uint64_t *out_key)
{
    return tp_recall_find(recall, row, pc_of(frame), sp_of(frame), fp, inner, out_key);
}

/* Meets frame `first` and all outside of it, and keeps them. */
static struct tp_stack_note *meet(unsigned first, enum tp_stack_end end)
{
    stack.n = FRAMES - first;
    stack.end = end;
    for (unsigned i = first; i < FRAMES; i++) {
        struct tp_met *at = &met[i - first];
        *at = (struct tp_met){ .pc = pc_of(i), .sp = sp_of(i), .fp = 7 };
        assert_int_equal(find(i, 7, i - first, &at->key), 0);
        at->ra_at = ra_of(i);
        at->ra = *at->ra_at;
        stack.nodes[i - first] = 100 + i;
    }
    return tp_recall_keep(recall, &stack, met, 0, stack.n, 0);
}

static int set_up(void **state)
{
    (void)state;
    if (!recall) recall = tp_recall_make();
    assert_non_null(recall);
    tp_recall_forget(recall);
    tp_recall_begin(recall, 1, DEPTH, (uintptr_t)(words + FRAMES * WORDS));
    for (unsigned i = 0; i < FRAMES; i++) *ra_of(i) = i + 1 < FRAMES ? pc_of(i + 1) : 0;
    return 0;
}

static void what_stands_is_found_from_any_frame(void **state)
{
    (void)state;
    assert_int_equal(meet(20, TP_STACK_WHOLE)->node, 120);
    uint64_t key;
    for (unsigned i = 20; i < FRAMES; i++) {
        uint32_t known = find(i, 7, 0, &key);
        assert_int_not_equal(known, 0);
        assert_int_equal(tp_recall_depth(recall, known), FRAMES - i);
        assert_int_equal(tp_recall_note_of(recall, known)->node, 100 + i);
    }
    assert_int_equal(find(19, 7, 0, &key), 0);
}

static void a_word_that_changed_hides_all_that_lies_within(void **state)
{
    (void)state;
    meet(20, TP_STACK_WHOLE);
    uint64_t key;
    *ra_of(30) += 1;
    for (unsigned i = 20; i <= 30; i++) assert_int_equal(find(i, 7, 0, &key), 0);
    for (unsigned i = 31; i < FRAMES; i++) assert_int_not_equal(find(i, 7, 0, &key), 0);
    *ra_of(30) -= 1;
    assert_int_not_equal(find(20, 7, 0, &key), 0);
}

static void a_frame_pointer_counts_where_it_is_needed(void **state)
{
    (void)state;
    uint64_t key;
    meet(20, TP_STACK_WHOLE);
    assert_int_not_equal(find(20, 8, 0, &key), 0);  // nobody is found by it

    set_up(NULL);
    stack.n = 4;
    stack.end = TP_STACK_WHOLE;
    for (unsigned i = 0; i < 4; i++) {
        met[i] = (struct tp_met){ .pc = pc_of(36 + i), .sp = sp_of(36 + i), .fp = 7 };
        find(36 + i, 7, i, &met[i].key);
        met[i].ra_at = ra_of(36 + i);
        met[i].ra = *met[i].ra_at;
    }
    // 38 is found by what 36 has saved: 37 passes it on, and 36's own does not matter.
    met[0].fp_at = fp_of(36);
    met[0].old_fp = *fp_of(36) = 7;
    met[2].by_fp = true;
    tp_recall_keep(recall, &stack, met, 0, 4, 0);
    assert_int_not_equal(find(36, 9, 0, &key), 0);
    assert_int_equal(find(37, 9, 0, &key), 0);
    assert_int_not_equal(find(37, 7, 0, &key), 0);
    assert_int_equal(find(38, 9, 0, &key), 0);
    assert_int_not_equal(find(39, 9, 0, &key), 0);
    *fp_of(36) = 9;
    assert_int_equal(find(36, 7, 0, &key), 0);
}

static void callers_at_one_place_are_told_apart(void **state)
{
    (void)state;
    uint64_t key;
    for (unsigned way = 0; way < 100; way++) {
        *ra_of(35) = 0x9000 + way;
        stack.n = 1;
        stack.end = TP_STACK_WHOLE;
        stack.nodes[0] = 1000 + way;
        met[0] = (struct tp_met){ .pc = pc_of(35), .sp = sp_of(35) };
        assert_int_equal(find(35, 0, 0, &met[0].key), 0);
        met[0].ra_at = ra_of(35);
        met[0].ra = *ra_of(35);
        assert_non_null(tp_recall_keep(recall, &stack, met, 0, 1, 0));
    }
    for (unsigned way = 0; way < 100; way++) {
        *ra_of(35) = 0x9000 + way;
        uint32_t known = find(35, 0, 0, &key);
        assert_int_not_equal(known, 0);
        assert_int_equal(tp_recall_note_of(recall, known)->node, 1000 + way);
    }
}

static void a_cut_stack_is_found_from_its_beginning_only(void **state)
{
    (void)state;
    uint64_t key;
    meet(FRAMES - DEPTH, TP_STACK_DEPTH);
    assert_int_not_equal(find(FRAMES - DEPTH, 7, 0, &key), 0);
    assert_int_equal(find(FRAMES - DEPTH, 7, 1, &key), 0);
    assert_int_equal(find(FRAMES - DEPTH + 1, 7, 0, &key), 0);
}

static void no_stack_becomes_deeper_than_was_asked(void **state)
{
    (void)state;
    uint64_t key;
    meet(20, TP_STACK_WHOLE);
    assert_int_not_equal(find(20, 7, DEPTH - 20, &key), 0);
    assert_int_equal(find(20, 7, DEPTH - 19, &key), 0);
}

static void another_question_forgets(void **state)
{
    (void)state;
    uint64_t key;
    uintptr_t high = (uintptr_t)(words + FRAMES * WORDS);
    for (unsigned i = 0; i < 4; i++) {
        set_up(NULL);
        meet(20, TP_STACK_WHOLE);
        tp_recall_begin(recall, 1, DEPTH, high);
        assert_int_not_equal(find(20, 7, 0, &key), 0);
        if (i == 3) tp_recall_forget(recall);
        tp_recall_begin(recall, i == 0 ? 2 : 1, i == 1 ? DEPTH - 1 : DEPTH,
            i == 2 ? high + 8 : high);
        assert_int_equal(find(20, 7, 0, &key), 0);
    }
}

/* Ten times as many as there is room for: what is found is right, and the last is. */
static void a_full_tree_begins_anew(void **state)
{
    (void)state;
    uint64_t key;
    for (unsigned way = 0; way < 1000; way++) {
        *ra_of(FRAMES - 1) = way;
        assert_int_equal(find(30, 7, 0, &key), 0);
        struct tp_stack_note *note = meet(30, TP_STACK_WHOLE);
        assert_non_null(note);
        note->site = way + 1;
        uint32_t known = find(30, 7, 0, &key);
        assert_int_not_equal(known, 0);
        assert_int_equal(tp_recall_note_of(recall, known)->site, way + 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_stands_is_found_from_any_frame, set_up),
        cmocka_unit_test_setup(a_word_that_changed_hides_all_that_lies_within, set_up),
        cmocka_unit_test_setup(a_frame_pointer_counts_where_it_is_needed, set_up),
        cmocka_unit_test_setup(callers_at_one_place_are_told_apart, set_up),
        cmocka_unit_test_setup(a_cut_stack_is_found_from_its_beginning_only, set_up),
        cmocka_unit_test_setup(no_stack_becomes_deeper_than_was_asked, set_up),
        cmocka_unit_test_setup(another_question_forgets, set_up),
        cmocka_unit_test_setup(a_full_tree_begins_anew, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
