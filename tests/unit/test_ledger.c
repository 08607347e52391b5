/* SPDX-License-Identifier: MIT */
/*
 * test_ledger.c - the side array, and the table against a model of it.
 */
#include "pool/ledger.h"

#include "pool/slab.h"
#include "tests/unit/tp_test.h"

#include <pthread.h>
#include <string.h>

enum { ADDRESSES = 1024, STEPS = 200000, THREADS = 4 };

/* A slab of each class, all blocks of all of them noted before the first is read. */
static void side_array_keeps_every_block_apart(void **state)
{
    (void)state;
    assert_true(tp_ledger_open((size_t)64 << 20));
    assert_true(tp_range_open((size_t)64 << 20));
    struct tp_slab *slabs[TP_CLASSES];
    for (unsigned c = 0; c < TP_CLASSES; c++) {
        assert_non_null(slabs[c] = tp_slab_take(c));
    }
    for (unsigned read = 0; read < 2; read++)
        for (uint32_t c = 0; c < TP_CLASSES; c++)
            for (uint32_t i = 0; i < slabs[c]->capacity; i++) {
                const char *p = tp_slab_start(slabs[c]) + (size_t)i * slabs[c]->bytes;
                struct tp_note note = { i * 64 + c + 1, i };
                _Atomic(uint64_t) *entry = tp_ledger_entry(slabs[c], p);
                assert_non_null(entry);
                if (!read) {
                    assert_int_equal(tp_ledger_take(entry).mark, 0);
                    tp_ledger_write(entry, note);
                    continue;
                }
                assert_int_equal(tp_ledger_read(entry).requested, i);
                assert_int_equal(tp_ledger_take(entry).mark, note.mark);
                assert_int_equal(tp_ledger_take(entry).mark, 0);
            }
    const void *p = tp_slab_start(slabs[0]);
    _Atomic(uint64_t) *entry = tp_ledger_entry(slabs[0], p);
    tp_ledger_write(entry, (struct tp_note){ UINT32_MAX, TP_POOL_MAX });
    assert_int_equal(tp_ledger_take(entry).mark, UINT32_MAX);
}

static struct tp_note model[ADDRESSES];

/* Addresses that crowd some stripes and stand alone in others. */
static void *address(size_t i)
{
    return (void *)(0x7f0000000000u + (i < ADDRESSES / 2 ? i << 28 : i << 4));
}

static void assert_same(size_t i, struct tp_note note)
{
    assert_int_equal(note.mark, model[i].mark);
    assert_int_equal(note.requested, model[i].requested);
}

static void table_is_as_its_model(void **state)
{
    (void)state;
    uint64_t seed = 9;
    uint32_t refused = 0, kept = 0;
    for (int step = 0; step < STEPS; step++) {
        // Waves: nearly full, nearly empty.
        size_t i = test_below(&seed, ADDRESSES);
        bool up = test_below(&seed, 8) < (step / 20000 % 2 ? 1 : 7);
        if (up) {
            struct tp_note note = { (uint32_t)step + 1, test_random(&seed) };
            bool good = tp_ledger_add(address(i), note);
            if (good && !model[i].mark) kept++;
            if (good) model[i] = note;
            if (!good) assert_int_equal(model[i].mark, 0);
            refused += !good;
        } else {
            assert_same(i, tp_ledger_remove(address(i)));
            if (model[i].mark) kept--;
            model[i] = (struct tp_note){ 0 };
        }
        size_t k = test_below(&seed, ADDRESSES);
        assert_same(k, tp_ledger_find(address(k)));
        assert_true(kept <= tp_ledger_room);
    }
    assert_true(refused > 100);
    for (size_t i = 0; i < ADDRESSES; i++) assert_same(i, tp_ledger_remove(address(i)));
}

static void *add_and_remove(void *argument)
{
    uintptr_t base = 0x100000000u * (1 + (uintptr_t)argument), wrong = 0;
    for (uint32_t i = 0; i < 50000; i++) {
        void *p = (void *)(base + i % 61 * 48);
        struct tp_note note = { i + 1, base };
        if (!tp_ledger_add(p, note)) continue;
        wrong += tp_ledger_find(p).mark != i + 1;
        struct tp_note back = tp_ledger_remove(p);
        wrong += back.mark != i + 1 || back.requested != base;
    }
    return (void *)wrong;
}

static void threads_do_not_see_each_other(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(
            pthread_create(&threads[i], NULL, add_and_remove, (void *)i), 0);
    for (int i = 0; i < THREADS; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
}

static int look_in_child(void *alone)
{
    tp_ledger_forked(alone != NULL);
    uint32_t mark = tp_ledger_find(address(1)).mark;
    if (mark != (alone ? 3 : 0)) return 1;
    if (!tp_ledger_add(address(2), (struct tp_note){ 4, 4 })) return 2;
    return tp_ledger_find(address(2)).mark == 4 ? 0 : 3;
}

static void child_keeps_the_table_only_when_alone(void **state)
{
    (void)state;
    assert_true(tp_ledger_add(address(1), (struct tp_note){ 3, 3 }));
    assert_int_equal(test_in_child(look_in_child, model), 0);
    assert_int_equal(test_in_child(look_in_child, NULL), 0);
    assert_int_equal(tp_ledger_remove(address(1)).mark, 3);
}

int main(void)
{
    tp_ledger_room = 256;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(side_array_keeps_every_block_apart),
        cmocka_unit_test(table_is_as_its_model),
        cmocka_unit_test(threads_do_not_see_each_other),
        cmocka_unit_test(child_keeps_the_table_only_when_alone),
    };
    return cmocka_run_group_tests_name("ledger", tests, NULL, NULL);
}
