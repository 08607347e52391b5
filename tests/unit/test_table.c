/* SPDX-License-Identifier: MIT */
/*
 * test_table.c - records grow in place, in any thread, with a file behind them or without.
 *
 * The file is played: parts are claimed and listed as in the real one, their memory is
 * anonymous.
 */
#include "pool/os.h"
#include "shim/output.h"

#include "tests/unit/tp_test.h"

#include <pthread.h>
#include <string.h>
#include <sys/resource.h>

enum { THREADS = 4, EACH = 20011, BAYS = 1024, BAY = 64 * 1024, HEAD_ROWS = 8 };

static struct {
    bool open;
    bool full;         // has no room
    uint32_t n_bays;   // one more after each claim
    uint32_t n_parts;  // added
    struct tp_file_header header;
    struct tp_region rows[TP_FORMAT_REGIONS];
    struct tp_parts parts;
} played = { .parts = { .header = &played.header, .rows = played.rows } };

static void play_bay(void)
{
    uint64_t at = tp_parts_claim(&played.parts, BAY);
    const struct tp_region row = {
        .kind = TP_REGION_THREADS, .record_bytes = 2048, .count = 32, .offset = at
    };
    if (played.n_bays < BAYS && tp_parts_list(&played.parts, &row)) played.n_bays++;
}

uint64_t tp_live_claim(uint64_t bytes)
{
    if (!played.open) return 0;
    uint64_t at = tp_parts_claim(&played.parts, bytes);
    play_bay();
    return at;
}

bool tp_live_add(const struct tp_live_part *part)
{
    if (played.full) return false;
    const struct tp_region row = { .kind = part->kind,
        .record_bytes = part->record_bytes,
        .count = part->count,
        .offset = part->offset };
    played.n_parts++;
    return tp_os_commit(part->at, part->bytes) && tp_parts_list(&played.parts, &row);
}

static void open_file(void)
{
    tp_parts_init(&played.parts, 1 << 16);
    for (uint32_t i = 0; i < HEAD_ROWS; i++) {
        const struct tp_region row = {
            .kind = 1000 + i, .record_bytes = 8, .count = 1, .offset = 4096 * i
        };
        assert_true(tp_parts_list(&played.parts, &row));
    }
    play_bay();
    played.open = true;
}

static bool is_zero(const struct tp_table *table, uint32_t i)
{
    return test_is_filled(tp_table_at(table, i), 0, table->record_bytes);
}

static void numbers_are_handed_out_in_order(void **state)
{
    (void)state;
    assert_int_equal(tp_table_count(&tp_sites), 0);
    assert_null(tp_table_at(&tp_sites, 0));
    for (uint32_t i = 1; i < 1009; i++) {
        assert_int_equal(tp_table_add(&tp_sites), i);
        assert_true(is_zero(&tp_sites, i));
        memset(tp_table_at(&tp_sites, i), (int)(i % 251 + 1), tp_sites.record_bytes);
    }
    assert_int_equal(tp_table_count(&tp_sites), 1009);
    assert_null(tp_table_at(&tp_sites, 1009));
    for (uint32_t i = 1; i < 1009; i++)
        assert_true(test_is_filled(
            tp_table_at(&tp_sites, i), (int)(i % 251 + 1), tp_sites.record_bytes));
    // The one that is not used is there, and nothing.
    assert_true(is_zero(&tp_sites, 0));
    assert_int_equal(tp_table_add(&tp_modules), 0);
}

static void little_is_paid_for_the_first_records(void **state)
{
    (void)state;
    assert_int_equal(tp_table_bytes(&tp_modules), tp_os_page());
    assert_int_equal(tp_table_bytes(&tp_samples), 0);
    assert_true(tp_table_bytes(&tp_sites) <= 2 * tp_table_used_bytes(&tp_sites));
}

static void full_table_says_so(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < tp_timeline.most; i++) {
        assert_int_equal(tp_table_add(&tp_timeline), i);
        memset(tp_table_at(&tp_timeline, i), 7, tp_timeline.record_bytes);
    }
    assert_int_equal(tp_table_add(&tp_timeline), UINT32_MAX);
    assert_int_equal(tp_table_count(&tp_timeline), tp_timeline.most);
}

static uint32_t taken[THREADS][EACH];

static void *add_many(void *argument)
{
    uint32_t *numbers = argument;
    for (int i = 0; i < EACH; i++) {
        numbers[i] = tp_table_add(&tp_nodes);
        struct tp_node_record *node = tp_table_at(&tp_nodes, numbers[i]);
        if (node) node->offset += numbers[i];
    }
    return NULL;
}

static void threads_never_get_the_same_record(void **state)
{
    (void)state;
    pthread_t thread[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, add_many, taken[i]), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    assert_int_equal(tp_table_count(&tp_nodes), 1 + THREADS * EACH);
    for (int t = 0; t < THREADS; t++)
        for (int i = 0; i < EACH; i++) {
            const struct tp_node_record *node = tp_table_at(&tp_nodes, taken[t][i]);
            assert_non_null(node);
            assert_int_equal(node->offset, taken[t][i]);
        }
}

static int give_up_in_a_handler(void *argument)
{
    (void)argument;
    // As if a signal had come while this thread makes the table grow.
    if (!tp_lock_try(&tp_samples.lock)) return 1;
    atomic_store(&tp_samples.grower, tp_os_tid());
    uint64_t begin = tp_os_now_ns();
    if (tp_table_add(&tp_samples) != UINT32_MAX) return 2;
    if (tp_os_now_ns() - begin > 5000000000u) return 3;
    // And a child of a fork at that moment goes on.
    if (!tp_tables_part()) return 4;
    return tp_table_add(&tp_samples) == 1 ? 0 : 5;
}

static void nobody_waits_for_himself(void **state)
{
    (void)state;
    assert_int_equal(test_in_child(give_up_in_a_handler, NULL), 0);
}

static int grow_in_little_space(void *argument)
{
    (void)argument;
    const struct rlimit little = { (rlim_t)1 << 30, (rlim_t)1 << 30 };
    if (setrlimit(RLIMIT_AS, &little) != 0) return 1;
    uint32_t n = 1;
    while (tp_table_add(&tp_samples) == n) n++;
    // 1/32 of the limit is 32 MiB: a quarter of the table is the first part to fit.
    return n == tp_samples.most / 4 ? 0 : 2;
}

static void where_address_space_is_short_the_table_is_smaller(void **state)
{
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    print_message("# left out: sanitizers have more address space than that already\n");
    return;
#endif
    assert_int_equal(test_in_child(grow_in_little_space, NULL), 0);
}

static int grow_beyond_the_file(void *argument)
{
    (void)argument;
    open_file();
    uint32_t n = 1;
    for (; n < 4001; n++)
        if (tp_table_add(&tp_samples) != n) return 1;
    uint32_t parts = played.n_parts, filed = tp_samples.filed;
    played.full = true;
    for (; n < 40009; n++) {
        if (tp_table_add(&tp_samples) != n) return 2;
        if (!is_zero(&tp_samples, n)) return 3;
    }
    // What went wrong once stays so: a reader could not tell where a gap is.
    played.full = false;
    for (; n < 80021; n++)
        if (tp_table_add(&tp_samples) != n) return 4;
    return parts > 1 && filed >= 4001 && played.n_parts == parts &&
            tp_samples.filed == filed && tp_samples.lost
        ? 0
        : 5;
}

static void full_file_costs_no_record(void **state)
{
    (void)state;
    assert_int_equal(test_in_child(grow_beyond_the_file, NULL), 0);
}

/* Records of a kind that the rows tell of; each row must go on where the last ended. */
static uint64_t listed(uint32_t kind)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < played.header.n_regions; i++)
        if (played.rows[i].kind == kind) n += played.rows[i].count;
    return n;
}

static int fill_everything(void *argument)
{
    (void)argument;
    open_file();
    bool more = true;
    // In turn, so that the parts of each lie between those of the others.
    while (more) {
        more = false;
        for (struct tp_table *t = NULL; (t = tp_table_next(t));)
            more = tp_table_add(t) != UINT32_MAX || more;
    }
    while (played.n_bays < BAYS) play_bay();
    for (struct tp_table *t = NULL; (t = tp_table_next(t));)
        if (t->lost || tp_table_count(t) != t->most) return 1;
    if (listed(TP_REGION_THREADS) != BAYS * 32) return 2;
    if (listed(TP_REGION_SAMPLES) != tp_samples.most) return 3;
    return played.header.n_regions <= 90 ? 0 : 4;
}

static void rows_suffice_for_full_tables_and_all_bays(void **state)
{
    (void)state;
    assert_int_equal(test_in_child(fill_everything, NULL), 0);
}

static void parts_lie_side_by_side(void **state)
{
    (void)state;
    open_file();
    uint32_t before = played.header.n_regions;
    for (int i = 0; i < 97; i++) play_bay();
    assert_int_equal(played.header.n_regions, before);
    assert_int_equal(listed(TP_REGION_THREADS), 98 * 32);
    assert_int_equal(played.header.total_bytes, (1 << 16) + 98 * BAY);
    played.open = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_suffice_for_full_tables_and_all_bays),
        cmocka_unit_test(where_address_space_is_short_the_table_is_smaller),
        cmocka_unit_test(full_file_costs_no_record),
        cmocka_unit_test(nobody_waits_for_himself),
        cmocka_unit_test(numbers_are_handed_out_in_order),
        cmocka_unit_test(little_is_paid_for_the_first_records),
        cmocka_unit_test(full_table_says_so),
        cmocka_unit_test(threads_never_get_the_same_record),
        cmocka_unit_test(parts_lie_side_by_side),
    };
    return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
