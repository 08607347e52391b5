/* SPDX-License-Identifier: MIT */
/*
 * test_huge.c - runs of granules: whole, aligned, apart, joined again, and zero when
 * they say so.
 */
#include "pool/huge.h"

#include "pool/counters.h"
#include "tests/unit/tp_test.h"

#include <string.h>

enum { MIB = 1024 * 1024, SLOTS = 40, STEPS = 3000, MOST = 3 * MIB, STRIDE = 4096 };

struct piece {
    char *p;
    size_t bytes;
    uint64_t key;  // of its content
};

static struct piece pieces[SLOTS];
static uint64_t seed = 7;

static int open_range(void **state)
{
    (void)state;
    return tp_range_open((size_t)1 << 30) ? 0 : 1;
}

/* Marks every page: the mark does not depend on the address. */
static void stamp(struct piece *piece)
{
    piece->key = test_random(&seed) | 1;
    for (size_t at = 0; at + 8 <= piece->bytes; at += STRIDE) {
        uint64_t word = piece->key + at;
        memcpy(piece->p + at, &word, sizeof(word));
    }
}

static bool has_stamp(const struct piece *piece, size_t bytes)
{
    for (size_t at = 0; at + 8 <= bytes; at += STRIDE) {
        uint64_t word = piece->key + at;
        if (memcmp(piece->p + at, &word, sizeof(word)) != 0) return false;
    }
    return true;
}

static void check_place(const struct piece *piece)
{
    struct tp_slab *slab = tp_slab_at(piece->p);
    assert_non_null(slab);
    assert_int_equal(tp_slab_owner(slab), TP_SLAB_LARGE);
    assert_true(slab->huge);
    assert_ptr_equal(slab->large_start, piece->p);
    assert_true(slab->large_bytes >= piece->bytes);
    assert_int_equal((uintptr_t)piece->p % TP_GRANULE, 0);
    for (int i = 0; i < SLOTS; i++)
        if (pieces[i].p && &pieces[i] != piece)
            assert_true(pieces[i].p + pieces[i].bytes <= piece->p ||
                piece->p + slab->large_bytes <= pieces[i].p);
}

static size_t any_size(void)
{
    return TP_HUGE_MIN + test_below(&seed, MOST - TP_HUGE_MIN);
}

static void alloc_one(struct piece *piece)
{
    bool zero = test_below(&seed, 2);
    size_t align = test_below(&seed, 4) ? 0 : (size_t)1 << (17 + test_below(&seed, 6));
    piece->bytes = any_size();
    piece->p = tp_huge_alloc(piece->bytes, align, zero);
    assert_non_null(piece->p);
    if (align) assert_int_equal((uintptr_t)piece->p % align, 0);
    if (zero) assert_true(test_is_filled(piece->p, 0, piece->bytes));
    check_place(piece);
    stamp(piece);
}

static void free_one(struct piece *piece)
{
    tp_huge_free(tp_slab_at(piece->p));
    piece->p = NULL;
}

static void resize_one(struct piece *piece)
{
    size_t bytes = any_size();
    size_t least = bytes < piece->bytes ? bytes : piece->bytes;
    bool good = tp_huge_resize(tp_slab_at(piece->p), bytes);
    if (bytes <= piece->bytes) assert_true(good);
    assert_true(has_stamp(piece, least));
    if (!good) return;
    piece->bytes = bytes;
    check_place(piece);
    stamp(piece);
}

static void move_one(struct piece *piece)
{
    size_t bytes = piece->bytes + test_below(&seed, MIB);
    char *to = tp_huge_move(tp_slab_at(piece->p), bytes);
    assert_non_null(to);
    piece->p = to;
    assert_true(has_stamp(piece, piece->bytes));
    piece->bytes = bytes;
    check_place(piece);
    stamp(piece);
}

static void neighbours_are_joined_when_they_are_free(void **state)
{
    (void)state;
    char *p[3];
    for (int i = 0; i < 3; i++) assert_non_null(p[i] = tp_huge_alloc(MIB, 0, false));
    assert_ptr_equal(p[1], p[0] + MIB);
    assert_ptr_equal(p[2], p[1] + MIB);
    uint64_t mapped = tp_account.totals.large_bytes;
    tp_huge_free(tp_slab_at(p[0]));
    tp_huge_free(tp_slab_at(p[2]));
    tp_huge_free(tp_slab_at(p[1]));
    char *whole = tp_huge_alloc(3 * MIB + TP_GRANULE, 0, false);
    assert_ptr_equal(whole, p[0]);
    assert_int_equal(tp_account.totals.large_bytes, mapped);
    tp_huge_free(tp_slab_at(whole));
}

static void smallest_hole_that_fits_is_taken(void **state)
{
    (void)state;
    char *p[7];
    for (int i = 0; i < 7; i++)
        p[i] = tp_huge_alloc((size_t)(i == 1  ? 8
                                     : i == 3 ? 6
                                              : 3) *
                TP_GRANULE,
            0, false);
    tp_huge_free(tp_slab_at(p[1]));
    tp_huge_free(tp_slab_at(p[3]));
    assert_ptr_equal(tp_huge_alloc(6 * TP_GRANULE, 0, false), p[3]);
    assert_ptr_equal(tp_huge_alloc(7 * TP_GRANULE, 0, false), p[1]);
    for (int i = 0; i < 7; i++) tp_huge_free(tp_slab_at(p[i]));
}

static void block_grows_into_the_hole_behind_it(void **state)
{
    (void)state;
    char *p = tp_huge_alloc(MIB, 0, false), *behind = tp_huge_alloc(MIB, 0, false);
    assert_ptr_equal(behind, p + MIB);
    assert_false(tp_huge_resize(tp_slab_at(p), 2 * MIB));
    tp_huge_free(tp_slab_at(behind));
    assert_true(tp_huge_resize(tp_slab_at(p), 2 * MIB));
    assert_true(tp_slab_at(p)->large_bytes >= 2 * MIB);
    tp_huge_free(tp_slab_at(p));
}

static void shrunk_block_leaves_its_tail(void **state)
{
    (void)state;
    char *p = tp_huge_alloc(2 * MIB, 0, false);
    assert_true(tp_huge_resize(tp_slab_at(p), MIB));
    assert_int_equal(tp_slab_at(p)->large_bytes, MIB);
    char *tail = tp_huge_alloc(MIB, 0, false);
    assert_ptr_equal(tail, p + MIB);
    tp_huge_free(tp_slab_at(tail));
    tp_huge_free(tp_slab_at(p));
}

/* The last granule of a block may hold pages of an earlier one behind its end. */
static void granule_left_by_a_move_is_clean_or_known_as_dirty(void **state)
{
    (void)state;
    tp_huge_purge(true);
    char *p = tp_huge_alloc(4 * TP_GRANULE, 0, false);
    memset(p, 0x5a, 4 * TP_GRANULE);
    tp_huge_free(tp_slab_at(p));
    char *q = tp_huge_alloc(3 * TP_GRANULE + 1, 0, false);
    assert_ptr_equal(q, p);
    char *wall = tp_huge_alloc(TP_HUGE_MIN, 0, false);
    char *to = tp_huge_move(tp_slab_at(q), 8 * TP_GRANULE);
    assert_non_null(to);
    char *again = tp_huge_alloc(4 * TP_GRANULE, 0, true);
    assert_ptr_equal(again, p);
    assert_true(test_is_filled(again, 0, 4 * TP_GRANULE));
    tp_huge_free(tp_slab_at(again));
    tp_huge_free(tp_slab_at(to));
    tp_huge_free(tp_slab_at(wall));
}

static void blocks_stay_whole_whatever_happens_around_them(void **state)
{
    (void)state;
    for (int i = 0; i < STEPS; i++) {
        struct piece *piece = &pieces[test_below(&seed, SLOTS)];
        if (piece->p) assert_true(has_stamp(piece, piece->bytes));
        size_t what = test_below(&seed, 16);
        if (!piece->p)
            alloc_one(piece);
        else if (what < 8)
            free_one(piece);
        else if (what < 12)
            resize_one(piece);
        else
            move_one(piece);
        if (i % 100 == 0) tp_huge_purge(i % 300 == 0);
    }
    for (int i = 0; i < SLOTS; i++) {
        if (!pieces[i].p) continue;
        assert_true(has_stamp(&pieces[i], pieces[i].bytes));
        free_one(&pieces[i]);
    }
}

static void purge_gives_everything_idle_back_once(void **state)
{
    (void)state;
    char *p = tp_huge_alloc(5 * MIB, 0, false);
    memset(p, 0x5a, 5 * MIB);
    tp_huge_free(tp_slab_at(p));
    assert_true(tp_huge_purge(true) >= 5 * MIB);
    assert_int_equal(tp_huge_purge(true), 0);
    assert_int_equal(tp_huge_purge(false), 0);
}

static void pages_in_use_lately_survive_one_tick(void **state)
{
    (void)state;
    tp_huge_purge(true);
    tp_huge_purge(false);
    char *p = tp_huge_alloc(MIB, 0, false);
    memset(p, 0x5a, MIB);
    tp_huge_free(tp_slab_at(p));
    assert_int_equal(tp_huge_purge(false), 0);
    assert_true(tp_huge_purge(false) >= MIB);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    assert_null(tp_huge_alloc((size_t)1 << 31, 0, false));
    assert_null(tp_huge_alloc(SIZE_MAX / 2, 0, true));
    assert_null(tp_huge_alloc(TP_HUGE_MIN, (size_t)1 << 40, false));
}

static int use_after_fork(void *argument)
{
    struct piece *piece = argument;
    tp_depot_forked(false);
    tp_huge_forked(false);
    if (!has_stamp(piece, piece->bytes)) return 1;
    char *fresh = tp_huge_alloc(MIB, 0, true);
    if (!fresh || !test_is_filled(fresh, 0, MIB)) return 2;
    if (fresh + MIB > piece->p && fresh < piece->p + piece->bytes) return 3;
    tp_huge_free(tp_slab_at(piece->p));
    char *again = tp_huge_alloc(piece->bytes, 0, true);
    return again && test_is_filled(again, 0, piece->bytes) ? 0 : 4;
}

static void child_goes_on_with_its_own_runs(void **state)
{
    (void)state;
    struct piece piece = { tp_huge_alloc(MIB + 1, 0, false), MIB + 1, 0 };
    stamp(&piece);
    char *idle = tp_huge_alloc(MIB, 0, false);
    tp_huge_free(tp_slab_at(idle));
    assert_int_equal(test_in_child(use_after_fork, &piece), 0);
    free_one(&piece);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neighbours_are_joined_when_they_are_free),
        cmocka_unit_test(smallest_hole_that_fits_is_taken),
        cmocka_unit_test(block_grows_into_the_hole_behind_it),
        cmocka_unit_test(shrunk_block_leaves_its_tail),
        cmocka_unit_test(granule_left_by_a_move_is_clean_or_known_as_dirty),
        cmocka_unit_test(blocks_stay_whole_whatever_happens_around_them),
        cmocka_unit_test(purge_gives_everything_idle_back_once),
        cmocka_unit_test(pages_in_use_lately_survive_one_tick),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(child_goes_on_with_its_own_runs),
    };
    return cmocka_run_group_tests_name("huge", tests, open_range, NULL);
}
