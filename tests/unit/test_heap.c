/* SPDX-License-Identifier: MIT */
/*
 * test_heap.c - shelves and bins: every block comes back, whoever frees it.
 */
#include "pool/heap.h"

#include "tests/unit/tp_test.h"

#include <pthread.h>
#include <string.h>

enum { C = 9, MANY = 4096, STRANGERS = 3, ROUNDS = 60, PARCELS = 997 };

static _Alignas(2048) union tp_heap_room rooms[2];
static struct tp_heap *const heap = &rooms[0].heap;
static struct tp_heap *const other = &rooms[1].heap;
static void *blocks[MANY];

static int open_range(void **state)
{
    (void)state;
    return tp_range_open((size_t)256 << 20) ? 0 : 1;
}

static int new_heaps(void **state)
{
    (void)state;
    tp_heap_init(heap, 1);
    tp_heap_init(other, 2);
    tp_heap_watch = 0;
    return 0;
}

static void *take(struct tp_heap *from, unsigned c)
{
    struct tp_block *block = from->bins[c].free;
    if (!block && tp_heap_refill(from, c)) block = from->bins[c].free;
    if (block) from->bins[c].free = block->next;
    return block;
}

static struct tp_slab *slab_of(const void *p)
{
    return tp_slab_head(tp_slab_at(p));
}

static void put(struct tp_heap *to, void *p)
{
    tp_heap_put(to, slab_of(p), p);
}

static uint64_t slabs(unsigned c)
{
    return tp_account.classes[c].slabs;
}

/* Gives all of a heap back, so that tests leave nothing behind. */
static void check_nothing_is_left(struct tp_heap *of)
{
    tp_heap_empty_bins(of);
    tp_heap_collect(of);
    tp_heap_drop_spares(of);
    for (unsigned c = 0; c < TP_CLASSES; c++) {
        assert_null(of->shelf[c]);
        assert_int_equal(of->spares[c], 0);
    }
}

/* Takes every block of one slab; it is full and on no shelf afterwards. */
static struct tp_slab *fill_a_slab(unsigned c, unsigned *out_n)
{
    struct tp_slab *slab = slab_of(blocks[0] = take(heap, c));
    unsigned n = 1;
    while (slab_of(blocks[n] = take(heap, c)) == slab) n++;
    put(heap, blocks[n]);  // of the next slab
    assert_int_equal(n, slab->capacity);
    assert_int_equal(tp_slab_owner(slab), (uintptr_t)heap | TP_SLAB_FULL);
    *out_n = n;
    return slab;
}

static void every_class_has_blocks_that_do_not_overlap(void **state)
{
    (void)state;
    for (unsigned c = 0; c < TP_CLASSES; c++) {
        size_t bytes = tp_class_bytes(c);
        unsigned n = (unsigned)(200000 / bytes) + 3;
        if (n > MANY) n = MANY;
        for (unsigned i = 0; i < n; i++) {
            assert_non_null(blocks[i] = take(heap, c));
            assert_int_equal(slab_of(blocks[i])->class, c);
            assert_true(tp_slab_is_block(slab_of(blocks[i]), blocks[i]));
            memset(blocks[i], (int)(i % 251), bytes);
        }
        for (unsigned i = 0; i < n; i++) {
            assert_true(test_is_filled(blocks[i], (int)(i % 251), bytes));
            put(heap, blocks[i]);
        }
    }
    check_nothing_is_left(heap);
}

static void freed_blocks_are_reused_before_new_slabs(void **state)
{
    (void)state;
    for (int i = 0; i < 997; i++) blocks[i] = take(heap, C);
    uint64_t before = slabs(C);
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 997; i += 2) put(heap, blocks[i]);
        for (int i = 0; i < 997; i += 2) blocks[i] = take(heap, C);
        assert_int_equal(slabs(C), before);
    }
    for (int i = 0; i < 997; i++) put(heap, blocks[i]);
    check_nothing_is_left(heap);
}

static void fresh_blocks_are_marked_as_such(void **state)
{
    (void)state;
    tp_depot_purge(0);
    char *p = take(heap, C);
    assert_true(heap->fresh >> C & 1);
    tp_heap_empty_bins(heap);
    put(heap, p);
    take(heap, C);
    assert_false(heap->fresh >> C & 1);
    tp_heap_empty_bins(heap);
    put(heap, p);
    check_nothing_is_left(heap);
}

static void remote_frees_come_home(void **state)
{
    (void)state;
    for (int i = 0; i < 499; i++) blocks[i] = take(heap, C);
    uint64_t before = slabs(C);
    for (int i = 0; i < 499; i++) tp_heap_send(slab_of(blocks[i]), blocks[i]);
    for (int i = 0; i < 499; i++) assert_non_null(blocks[i] = take(heap, C));
    assert_int_equal(slabs(C), before);
    for (int i = 0; i < 499; i++) tp_heap_send(slab_of(blocks[i]), blocks[i]);
    check_nothing_is_left(heap);
}

static void first_block_sent_to_a_full_slab_calls_its_owner(void **state)
{
    (void)state;
    unsigned n;
    struct tp_slab *slab = fill_a_slab(C, &n);
    assert_false(slab->listed);
    assert_null(heap->callers);
    tp_heap_send(slab, blocks[3]);
    assert_ptr_equal(heap->callers, slab);
    tp_heap_send(slab, blocks[5]);
    assert_null(slab->caller);
    tp_heap_collect(heap);
    assert_null(heap->callers);
    assert_true(slab->listed);
    assert_int_equal(tp_slab_owner(slab), (uintptr_t)heap);
    assert_int_equal(slab->carved - (uint32_t)slab->used, 2);
    for (unsigned i = 0; i < n; i++)
        if (i != 3 && i != 5) put(heap, blocks[i]);
    check_nothing_is_left(heap);
}

static void full_slab_reopens_when_its_owner_frees(void **state)
{
    (void)state;
    unsigned n;
    struct tp_slab *slab = fill_a_slab(C, &n);
    put(heap, blocks[7]);
    assert_true(slab->listed);
    assert_false(slab->awaited);
    assert_int_equal(tp_slab_owner(slab), (uintptr_t)heap);
    tp_heap_send(slab, blocks[8]);
    assert_null(heap->callers);  // it does not ring any more
    for (unsigned i = 0; i < n; i++)
        if (i != 7 && i != 8) put(heap, blocks[i]);
    check_nothing_is_left(heap);
}

/* Between a stranger's push and its entry in the list of callers. */
static void slab_stays_while_a_call_is_on_its_way(void **state)
{
    (void)state;
    unsigned n;
    struct tp_slab *slab = fill_a_slab(C, &n);
    assert_true(tp_remote_push(&slab->remote, blocks[0]));
    for (unsigned i = 1; i < n; i++) put(heap, blocks[i]);
    assert_true(slab->awaited);
    tp_heap_empty_bins(heap);
    tp_heap_collect(heap);
    tp_heap_drop_spares(heap);
    assert_true(slab->listed);
    assert_int_equal(tp_heap_steal(other, heap, C, 4), 0);
    slab->caller = NULL;
    heap->callers = slab;
    check_nothing_is_left(heap);
}

static void empty_slabs_go_back_but_for_a_few(void **state)
{
    (void)state;
    unsigned n = 0;
    while (slabs(C) < 5) blocks[n++] = take(heap, C);
    uint64_t bytes = tp_account.classes[C].slab_bytes;
    assert_int_equal(bytes, 5 * TP_GRANULE);
    tp_heap_empty_bins(heap);
    for (unsigned i = 0; i < n; i++) put(heap, blocks[i]);
    assert_int_equal(slabs(C), 2);
    assert_int_equal(heap->spares[C], 2);
    tp_heap_drop_spares(heap);
    assert_int_equal(slabs(C), 0);
    assert_int_equal(tp_account.classes[C].slab_bytes, 0);
    check_nothing_is_left(heap);
}

static void stolen_slabs_serve_their_new_owner(void **state)
{
    (void)state;
    unsigned n = 0;
    while (slabs(C) < 3) blocks[n++] = take(heap, C);
    tp_heap_empty_bins(heap);
    for (unsigned i = 0; i < n; i += 2) put(heap, blocks[i]);
    unsigned moved = tp_heap_steal(other, heap, C, 2);
    assert_in_range(moved, 1, 2);
    struct tp_slab *first = other->shelf[C];
    assert_int_equal(tp_slab_owner(first), (uintptr_t)other);
    void *p = take(other, C);
    assert_ptr_equal(slab_of(p), first);
    assert_int_equal(slabs(C), 3);
    put(other, p);
    for (unsigned i = 1; i < n; i += 2) {
        uintptr_t owner = tp_slab_owner(slab_of(blocks[i])) & ~(uintptr_t)TP_SLAB_FLAGS;
        put((struct tp_heap *)owner, blocks[i]);
    }
    check_nothing_is_left(heap);
    check_nothing_is_left(other);
    assert_int_equal(slabs(C), 0);
}

static void watched_slabs_stay_watched(void **state)
{
    (void)state;
    tp_heap_watch = TP_SLAB_WATCHED;
    struct tp_slab *slab = slab_of(blocks[0] = take(heap, C));
    unsigned n = 1;
    while (slab_of(blocks[n] = take(heap, C)) == slab) n++;
    uintptr_t watched = (uintptr_t)heap | TP_SLAB_WATCHED;
    assert_int_equal(tp_slab_owner(slab), watched | TP_SLAB_FULL);
    for (unsigned i = 0; i < n; i++) {
        put(heap, blocks[i]);
        assert_int_equal(tp_slab_owner(slab), watched);
    }
    put(heap, blocks[n]);
    check_nothing_is_left(heap);
}

static void one_block_at_a_time_leaves_the_bin_empty(void **state)
{
    (void)state;
    for (int i = 0; i < 499; i++) {
        assert_non_null(blocks[i] = tp_heap_take_one(heap, C));
        assert_null(heap->bins[C].free);
        memset(blocks[i], 0x5a, tp_class_bytes(C));
    }
    for (int i = 0; i < 499; i++) put(heap, blocks[i]);
    check_nothing_is_left(heap);
}

static int forget_torn_list(void *argument)
{
    (void)argument;
    struct tp_slab *slab = slab_of(blocks[0]);
    int32_t used = slab->used;
    tp_depot_forked(false);
    tp_heap_collect(heap);
    if (slab->used != used) return 1;
    tp_heap_send(slab, blocks[1]);
    tp_heap_collect(heap);
    return slab->used == used - 1 ? 0 : 2;
}

static void child_does_not_follow_a_list_from_before_the_fork(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) blocks[i] = take(heap, C);
    tp_heap_send(slab_of(blocks[0]), blocks[0]);
    assert_int_equal(test_in_child(forget_torn_list, NULL), 0);
    for (int i = 1; i < 4; i++) put(heap, blocks[i]);
    check_nothing_is_left(heap);
}

static void spoil_link(void *argument)
{
    (void)argument;
    tp_heap_empty_bins(heap);
    for (int i = 0; i < 64; i++) put(heap, blocks[i]);
    ((struct tp_block *)blocks[63])->next = (void *)(uintptr_t)0x4141414141414140;
    while (take(heap, C)) {
    }
}

static void put_twice(void *argument)
{
    (void)argument;
    put(heap, blocks[1]);
    put(heap, blocks[1]);
}

static void corruption_that_shows_is_the_end(void **state)
{
    (void)state;
    for (int i = 0; i < 64; i++) blocks[i] = take(heap, C);
    const char *words = test_last_words(spoil_link, NULL);
    assert_non_null(words);
    assert_memory_equal(words, "tidepool: heap corrupted: ", 26);
    assert_non_null(strstr(words, " of 192 bytes"));
    words = test_last_words(put_twice, NULL);
    assert_non_null(words);
    assert_non_null(strstr(words, "tidepool: double free of 0x"));
    for (int i = 0; i < 64; i++) put(heap, blocks[i]);
    check_nothing_is_left(heap);
}

/* ---- strangers at work while the owner is ---- */

static struct {
    pthread_mutex_t lock;
    void *block[MANY];
    unsigned n;
    bool closed;
} mail = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void *send_mail_home(void *argument)
{
    (void)argument;
    for (;;) {
        pthread_mutex_lock(&mail.lock);
        void *p = mail.n ? mail.block[--mail.n] : NULL;
        bool closed = mail.closed;
        pthread_mutex_unlock(&mail.lock);
        if (p) {
            memset(p, 0x17, tp_class_bytes(C));
            tp_heap_send(slab_of(p), p);
        } else if (closed) {
            return NULL;
        } else {
            tp_os_pause();
        }
    }
}

static bool post(void *p)
{
    pthread_mutex_lock(&mail.lock);
    bool room = mail.n < MANY;
    if (room) mail.block[mail.n++] = p;
    pthread_mutex_unlock(&mail.lock);
    return room;
}

static void blocks_sent_while_the_owner_works_come_home(void **state)
{
    (void)state;
    pthread_t stranger[STRANGERS];
    for (int i = 0; i < STRANGERS; i++)
        assert_int_equal(pthread_create(&stranger[i], NULL, send_mail_home, NULL), 0);
    for (int i = 0; i < ROUNDS * PARCELS; i++) {
        void *p = take(heap, C);
        assert_non_null(p);
        memset(p, 0x5a, tp_class_bytes(C));
        if (i % 3 == 0 || !post(p)) put(heap, p);
    }
    pthread_mutex_lock(&mail.lock);
    mail.closed = true;
    pthread_mutex_unlock(&mail.lock);
    for (int i = 0; i < STRANGERS; i++) pthread_join(stranger[i], NULL);
    check_nothing_is_left(heap);
    assert_int_equal(slabs(C), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_class_has_blocks_that_do_not_overlap, new_heaps),
        cmocka_unit_test_setup(freed_blocks_are_reused_before_new_slabs, new_heaps),
        cmocka_unit_test_setup(fresh_blocks_are_marked_as_such, new_heaps),
        cmocka_unit_test_setup(remote_frees_come_home, new_heaps),
        cmocka_unit_test_setup(
            first_block_sent_to_a_full_slab_calls_its_owner, new_heaps),
        cmocka_unit_test_setup(full_slab_reopens_when_its_owner_frees, new_heaps),
        cmocka_unit_test_setup(slab_stays_while_a_call_is_on_its_way, new_heaps),
        cmocka_unit_test_setup(empty_slabs_go_back_but_for_a_few, new_heaps),
        cmocka_unit_test_setup(stolen_slabs_serve_their_new_owner, new_heaps),
        cmocka_unit_test_setup(watched_slabs_stay_watched, new_heaps),
        cmocka_unit_test_setup(one_block_at_a_time_leaves_the_bin_empty, new_heaps),
        cmocka_unit_test_setup(
            child_does_not_follow_a_list_from_before_the_fork, new_heaps),
        cmocka_unit_test_setup(corruption_that_shows_is_the_end, new_heaps),
        cmocka_unit_test_setup(blocks_sent_while_the_owner_works_come_home, new_heaps),
    };
    return cmocka_run_group_tests_name("heap", tests, open_range, NULL);
}
