/* SPDX-License-Identifier: MIT */
/*
 * test_remote.c - every block pushed comes home exactly once, and who asks is called.
 */
#include "pool/remote.h"

#include "tests/unit/tp_test.h"

#include <pthread.h>
#include <sched.h>
#include <string.h>

enum { SENDERS = 4, EACH = 9973 };

struct parcel {
    struct tp_block block;  // first, so that a block is its parcel
    unsigned content;       // written by the sender
    unsigned seen;          // written by the owner
};

static struct tp_remote home;
static struct parcel parcels[SENDERS][EACH];
static _Atomic(unsigned) n_calls;
static _Atomic(unsigned) n_sent;

static int forget_everything(void **state)
{
    (void)state;
    memset(&home, 0, sizeof(home));
    memset(parcels, 0, sizeof(parcels));
    n_calls = 0;
    n_sent = 0;
    return 0;
}

static void empty_list_gives_nothing(void **state)
{
    (void)state;
    assert_null(tp_remote_take(&home));
}

static void newest_block_comes_first(void **state)
{
    (void)state;
    struct tp_block *a = &parcels[0][0].block, *b = &parcels[0][1].block;
    assert_false(tp_remote_push(&home, a));
    assert_false(tp_remote_push(&home, b));
    assert_ptr_equal(tp_remote_take(&home), b);
    assert_ptr_equal(b->next, a);
    assert_null(a->next);
    assert_null(tp_remote_take(&home));
}

static void first_stranger_answers_the_bell(void **state)
{
    (void)state;
    assert_true(tp_remote_ring(&home));
    assert_true(tp_remote_push(&home, &parcels[0][0].block));
    assert_false(tp_remote_push(&home, &parcels[0][1].block));
    struct tp_block *list = tp_remote_take(&home);
    assert_ptr_equal(list, &parcels[0][1].block);
    assert_ptr_equal(list->next, &parcels[0][0].block);
    assert_null(list->next->next);
}

static void bell_is_refused_when_blocks_have_come(void **state)
{
    (void)state;
    tp_remote_push(&home, &parcels[0][0].block);
    assert_false(tp_remote_ring(&home));
    assert_ptr_equal(tp_remote_take(&home), &parcels[0][0].block);
}

static void bell_can_be_taken_back(void **state)
{
    (void)state;
    assert_true(tp_remote_ring(&home));
    assert_true(tp_remote_unring(&home));
    assert_false(tp_remote_push(&home, &parcels[0][0].block));
    assert_false(tp_remote_unring(&home));
}

static void answered_bell_cannot_be_taken_back(void **state)
{
    (void)state;
    assert_true(tp_remote_ring(&home));
    assert_true(tp_remote_push(&home, &parcels[0][0].block));
    assert_false(tp_remote_unring(&home));
}

static void bell_alone_is_no_block(void **state)
{
    (void)state;
    assert_true(tp_remote_ring(&home));
    assert_null(tp_remote_take(&home));
}

static void *send_all(void *argument)
{
    struct parcel *mine = argument;
    for (unsigned i = 0; i < EACH; i++) {
        mine[i].content = i;
        if (tp_remote_push(&home, &mine[i].block))
            atomic_fetch_add_explicit(&n_calls, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&n_sent, 1, memory_order_relaxed);
    }
    return NULL;
}

/* Opens what has come; returns how many. */
static unsigned receive(void)
{
    unsigned n = 0;
    for (struct tp_block *block = tp_remote_take(&home); block; block = block->next) {
        struct parcel *parcel = (struct parcel *)(void *)block;
        size_t i = (size_t)(parcel - &parcels[0][0]);
        parcel->seen += parcel->content == i % EACH;
        n++;
    }
    return n;
}

static void start(pthread_t sender[SENDERS])
{
    for (int i = 0; i < SENDERS; i++)
        assert_int_equal(pthread_create(&sender[i], NULL, send_all, parcels[i]), 0);
}

static void check_all_seen_once(void)
{
    assert_null(tp_remote_take(&home));
    for (int s = 0; s < SENDERS; s++)
        for (int i = 0; i < EACH; i++) assert_int_equal(parcels[s][i].seen, 1);
}

static void nothing_is_lost_between_threads(void **state)
{
    (void)state;
    pthread_t sender[SENDERS];
    start(sender);
    unsigned received = 0;
    while (received < SENDERS * EACH) received += receive();
    for (int i = 0; i < SENDERS; i++) pthread_join(sender[i], NULL);
    check_all_seen_once();
}

/* The owner sleeps until it is called, as a full slab does. */
static void every_bell_is_answered_once(void **state)
{
    (void)state;
    pthread_t sender[SENDERS];
    unsigned rings = 0, received = 0;
    start(sender);
    while (received < SENDERS * EACH) {
        if (tp_remote_ring(&home)) {
            rings++;
            while (atomic_load_explicit(&n_calls, memory_order_relaxed) < rings)
                sched_yield();
        }
        received += receive();
    }
    for (int i = 0; i < SENDERS; i++) pthread_join(sender[i], NULL);
    assert_int_equal(n_calls, rings);
    assert_int_equal(n_sent, SENDERS * EACH);
    check_all_seen_once();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(empty_list_gives_nothing, forget_everything),
        cmocka_unit_test_setup(newest_block_comes_first, forget_everything),
        cmocka_unit_test_setup(first_stranger_answers_the_bell, forget_everything),
        cmocka_unit_test_setup(
            bell_is_refused_when_blocks_have_come, forget_everything),
        cmocka_unit_test_setup(bell_can_be_taken_back, forget_everything),
        cmocka_unit_test_setup(answered_bell_cannot_be_taken_back, forget_everything),
        cmocka_unit_test_setup(bell_alone_is_no_block, forget_everything),
        cmocka_unit_test_setup(nothing_is_lost_between_threads, forget_everything),
        cmocka_unit_test_setup(every_bell_is_answered_once, forget_everything),
    };
    return cmocka_run_group_tests_name("remote", tests, NULL, NULL);
}
