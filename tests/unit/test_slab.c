/* SPDX-License-Identifier: MIT */
/*
 * test_slab.c - the range, its descriptors, and runs cut into blocks.
 */
#include "pool/slab.h"

#include "tests/unit/tp_test.h"

enum { RANGE = 256 * 1024 * 1024 };

static int open_range(void **state)
{
    (void)state;
    return tp_range.span || tp_range_open(RANGE) ? 0 : 1;
}

static struct tp_slab *new_slab(unsigned c)
{
    struct tp_slab *slab = tp_depot_take(tp_class_order(c));
    assert_non_null(slab);
    tp_slab_prepare(slab, c);
    return slab;
}

static void no_range_holds_no_pointer(void **state)
{
    (void)state;
    int here;
    assert_null(tp_slab_at(NULL));
    assert_null(tp_slab_at(&here));
    assert_null(tp_slab_at((void *)UINTPTR_MAX));
}

static void range_is_as_large_as_wanted(void **state)
{
    (void)state;
    assert_int_equal(tp_range.end - tp_range.base, RANGE);
    assert_true(tp_range.base < tp_range.zone && tp_range.zone < tp_range.end);
    assert_int_equal((uintptr_t)tp_range.zone % TP_GRANULE, 0);
    assert_int_equal(tp_range.span, RANGE / TP_GRANULE * sizeof(struct tp_slab));
    assert_true((char *)tp_range.slabs + tp_range.span <= tp_range.zone);
}

static void descriptors_end_where_the_range_does(void **state)
{
    (void)state;
    size_t n = RANGE / TP_GRANULE;
    assert_ptr_equal(tp_slab_at(tp_range.base), tp_range.slabs);
    assert_ptr_equal(tp_slab_at(tp_range.base + TP_GRANULE - 1), tp_range.slabs);
    assert_ptr_equal(tp_slab_at(tp_range.base + TP_GRANULE), tp_range.slabs + 1);
    assert_ptr_equal(tp_slab_at(tp_range.end - 1), tp_range.slabs + n - 1);
    assert_null(tp_slab_at(tp_range.base - 1));
    assert_null(tp_slab_at(tp_range.end));
    assert_null(tp_slab_at(NULL));
    assert_null(tp_slab_at((void *)UINTPTR_MAX));
}

static void unused_granules_belong_to_nobody(void **state)
{
    (void)state;
    assert_int_equal(tp_slab_owner(tp_slab_at(tp_range.end - 1)), 0);
    assert_int_equal(tp_slab_owner(tp_slab_at(tp_range.base)), 0);
}

static void start_and_descriptor_are_inverse(void **state)
{
    (void)state;
    for (size_t i = 0; i < RANGE / TP_GRANULE; i += 97)
        assert_ptr_equal(
            tp_slab_at(tp_slab_start(tp_range.slabs + i)), tp_range.slabs + i);
}

static void prepared_slab_is_empty_and_its_granules_point_back(void **state)
{
    (void)state;
    for (unsigned c = 0; c < TP_CLASSES; c++) {
        struct tp_slab *slab = new_slab(c);
        size_t run = (size_t)TP_GRANULE << slab->order;
        assert_int_equal(slab->bytes, tp_class_bytes(c));
        assert_int_equal(slab->capacity, run / slab->bytes);
        assert_int_equal(slab->carved, 0);
        assert_int_equal(slab->used, 0);
        assert_int_equal((uintptr_t)tp_slab_start(slab) % run, 0);
        tp_slab_set_owner(slab, 2048);
        for (size_t i = 0; i < run; i += TP_GRANULE)
            assert_ptr_equal(tp_slab_head(tp_slab_at(tp_slab_start(slab) + i)), slab);
        tp_depot_put(slab);
    }
}

static void starts_are_found_without_a_division(void **state)
{
    (void)state;
    for (unsigned c = 0; c < TP_CLASSES; c++) {
        struct tp_slab *slab = new_slab(c);
        size_t run = (size_t)TP_GRANULE << slab->order;
        for (size_t offset = 0; offset < run; offset++)
            if (tp_slab_is_start(slab, offset) != (offset % slab->bytes == 0))
                fail_msg("offset %zu of %u-byte blocks", offset, slab->bytes);
        tp_depot_put(slab);
    }
}

static void carving_stops_at_capacity(void **state)
{
    (void)state;
    for (unsigned c = 0; c < TP_CLASSES; c++) {
        struct tp_slab *slab = new_slab(c);
        char *expected = tp_slab_start(slab);
        uint32_t got, total = 0;
        struct tp_block *list;
        while ((list = tp_slab_carve(slab, 7, &got))) {
            assert_in_range(got, 1, 7);
            for (total += got; list; list = list->next, got--) {
                assert_ptr_equal(list, expected);
                expected += slab->bytes;
            }
            assert_int_equal(got, 0);
            assert_int_equal(slab->carved, total);
            assert_int_equal(slab->used, total);
        }
        assert_int_equal(got, 0);
        assert_int_equal(total, slab->capacity);
        assert_true(
            expected <= tp_slab_start(slab) + ((size_t)TP_GRANULE << slab->order));
        tp_depot_put(slab);
    }
}

static void only_carved_starts_are_blocks(void **state)
{
    (void)state;
    unsigned c = tp_class_of(48);
    struct tp_slab *slab = new_slab(c);
    uint32_t n;
    tp_slab_carve(slab, 3, &n);
    char *start = tp_slab_start(slab);
    assert_true(tp_slab_is_block(slab, start));
    assert_true(tp_slab_is_block(slab, start + 2 * 48));
    assert_false(tp_slab_is_block(slab, start + 3 * 48));
    assert_false(tp_slab_is_block(slab, start + 16));
    assert_false(tp_slab_is_block(slab, start + 47));
    tp_depot_put(slab);
}

static void flag_or_stranger_makes_an_owner_not_plain(void **state)
{
    (void)state;
    struct tp_slab *slab = new_slab(0);
    static _Alignas(2048) char heap[2048], other[2048];
    tp_slab_set_owner(slab, (uintptr_t)heap);
    assert_true(tp_slab_is_plain(slab, heap));
    assert_false(tp_slab_is_plain(slab, other));
    for (uintptr_t flag = 1; flag < TP_SLAB_FLAGS; flag *= 2) {
        tp_slab_set_owner(slab, (uintptr_t)heap | flag);
        assert_false(tp_slab_is_plain(slab, heap));
    }
    tp_depot_put(slab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_range_holds_no_pointer),
        cmocka_unit_test_setup(range_is_as_large_as_wanted, open_range),
        cmocka_unit_test(descriptors_end_where_the_range_does),
        cmocka_unit_test(unused_granules_belong_to_nobody),
        cmocka_unit_test(start_and_descriptor_are_inverse),
        cmocka_unit_test(prepared_slab_is_empty_and_its_granules_point_back),
        cmocka_unit_test(starts_are_found_without_a_division),
        cmocka_unit_test(carving_stops_at_capacity),
        cmocka_unit_test(only_carved_starts_are_blocks),
        cmocka_unit_test(flag_or_stranger_makes_an_owner_not_plain),
    };
    return cmocka_run_group_tests_name("slab", tests, NULL, NULL);
}
