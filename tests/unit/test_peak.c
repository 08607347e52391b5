/* SPDX-License-Identifier: MIT */
/*
 * test_peak.c - the peak against a model that looks at every byte.
 *
 * A counters block belongs to no particular thread here: several "threads" are played
 * by the main thread, so that the true peak is known.
 */
#include "pool/peak.h"

#include "tests/unit/tp_test.h"

#include <string.h>

enum { STEPS = 200000, PLAYERS = 5 };

struct player {
    struct tp_counters counters;
    int64_t countdown;
    int64_t live;  // taken here minus freed here
    bool running;
};

static struct player players[PLAYERS];
static int64_t live, peak;

static int forget_everything(void **state)
{
    (void)state;
    memset(&tp_account, 0, sizeof(tp_account));
    memset(players, 0, sizeof(players));
    live = peak = 0;
    tp_peak_every = false;
    return 0;
}

static void begin(struct player *player)
{
    player->counters.state = TP_RUNNING;
    tp_peak_attach(&player->counters);
    player->countdown = tp_peak_headroom(&player->counters);
    player->running = true;
}

static void end(struct player *player)
{
    // Who calls it takes the thread off the books.
    uint32_t running = tp_account.totals.running;
    tp_peak_detach(&player->counters);
    tp_account.totals.running = running - 1;
    player->counters.state = TP_PARKED;
    player->running = false;
}

/* What malloc and free do to the books; see fast.h. */
static void take(struct player *player, int64_t bytes)
{
    player->live += bytes;
    live += bytes;
    if (live > peak) peak = live;
    tp_count_sub_signed(&player->counters.room, bytes);
    player->countdown -= bytes;
    if (player->countdown >= 0) return;
    tp_peak_settle(&player->counters);
    player->countdown = tp_peak_headroom(&player->counters);
}

static void give(struct player *player, int64_t bytes)
{
    player->live -= bytes;
    live -= bytes;
    if (!tp_peak_calm(&player->counters)) tp_peak_edge(&player->counters);
    tp_count_add_signed(&player->counters.room, bytes);
}

static void step(struct player *player, uint64_t *seed, size_t most)
{
    int64_t bytes = (int64_t)test_size(seed, most);
    // Long swings up and down, small steps between.
    bool up = test_below(seed, 8) < (test_below(seed, 4096) & 2048 ? 5 : 3);
    if (up || live < bytes)
        take(player, bytes);
    else
        give(player, bytes);
}

/* The peak as a reader of the live file has it, see format.h. */
static int64_t peak_read(const struct player *player)
{
    int64_t net = tp_peak_net(&player->counters);
    int64_t top = tp_max_i64(player->counters.high, net);
    return tp_max_i64(tp_account.totals.peak_single, tp_account.totals.net + top);
}

static void lone_thread_knows_its_peak_exactly(void **state)
{
    (void)state;
    uint64_t seed = 1;
    begin(&players[0]);
    for (int i = 0; i < STEPS; i++) {
        step(&players[0], &seed, i < STEPS / 2 ? 1 << 17 : 1 << 25);
        assert_true(peak_read(&players[0]) == peak);
    }
    assert_true(tp_account.totals.peak_high <= tp_account.totals.peak_single);
}

static void free_sees_a_high_that_malloc_left(void **state)
{
    (void)state;
    struct player *player = &players[0];
    begin(player);
    take(player, 1000);
    assert_false(tp_peak_calm(&player->counters));
    tp_peak_edge(&player->counters);
    assert_true(tp_peak_calm(&player->counters));
    assert_true(player->counters.high == 1000);
    assert_true(tp_peak_net(&player->counters) == 1000);
    assert_true(tp_account.totals.net == 0);
}

static void deep_fall_is_flushed(void **state)
{
    (void)state;
    struct player *player = &players[0];
    begin(player);
    int64_t limit = player->counters.limit;
    give(player, limit + 1);
    assert_false(tp_peak_calm(&player->counters));
    tp_peak_edge(&player->counters);
    assert_true(tp_peak_calm(&player->counters));
    assert_true(tp_account.totals.net == -limit - 1);
    assert_true(tp_peak_net(&player->counters) == 0);
}

static void small_net_is_not_settled(void **state)
{
    (void)state;
    struct player *player = &players[0];
    begin(player);
    tp_count_sub_signed(&player->counters.room, player->counters.limit - 1);
    tp_peak_settle(&player->counters);
    assert_true(tp_account.totals.net == 0);
    assert_true(tp_peak_headroom(&player->counters) == 1);
    tp_count_sub_signed(&player->counters.room, 1);
    tp_peak_settle(&player->counters);
    assert_true(tp_account.totals.net > 0);
    assert_true(tp_peak_net(&player->counters) == 0);
}

static void limit_grows_with_what_is_live(void **state)
{
    (void)state;
    struct player *player = &players[0];
    begin(player);
    int64_t least = player->counters.limit;
    take(player, (int64_t)1 << 30);
    assert_true(player->counters.limit > least);
    take(player, (int64_t)1 << 40);
    assert_true(player->counters.limit == 4 * 1024 * 1024);
    assert_true(tp_account.totals.slack == player->counters.limit);
    give(player, (int64_t)1 << 40);
    give(player, (int64_t)1 << 30);
    tp_peak_flush(&player->counters);
    assert_true(player->counters.limit == least);
}

static void thread_that_ends_leaves_no_slack(void **state)
{
    (void)state;
    begin(&players[0]);
    begin(&players[1]);
    take(&players[1], 12345);
    assert_int_equal(tp_account.totals.running, 2);
    end(&players[1]);
    end(&players[0]);
    assert_int_equal(tp_account.totals.running, 0);
    assert_int_equal(tp_account.totals.started, 2);
    assert_true(tp_account.totals.slack == 0);
    assert_true(tp_account.totals.net == 12345);
}

static void check_books(void)
{
    int64_t net = tp_account.totals.net, slack = 0;
    for (int i = 0; i < PLAYERS; i++) {
        net += players[i].running ? tp_peak_net(&players[i].counters) : 0;
        slack += players[i].counters.limit;
    }
    assert_true(net == live);
    assert_true(slack == tp_account.totals.slack);
}

static void bounds_hold_the_truth(uint64_t seed, size_t most)
{
    forget_everything(NULL);
    begin(&players[0]);
    for (int i = 0; i < STEPS / 4; i++) {
        struct player *player = &players[test_below(&seed, PLAYERS)];
        if (player->running)
            step(player, &seed, most);
        else if (test_below(&seed, 500) == 0)
            begin(player);
        if (player->running && test_below(&seed, 5000) == 0) end(player);
        check_books();
    }
    for (int i = 0; i < PLAYERS; i++)
        if (players[i].running) end(&players[i]);

    const struct tp_totals *totals = &tp_account.totals;
    assert_true(totals->net == live);
    assert_true(totals->peak_low <= peak);
    assert_true(peak <= tp_max_i64(totals->peak_single, totals->peak_high));
    assert_true(totals->peak_single <= peak);
}

static void bounds_of_several_threads_hold_the_truth(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 8; seed++)
        bounds_hold_the_truth(seed, (size_t)1 << (8 + 2 * seed));
}

static void bounds_are_close_while_much_is_live(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) begin(&players[i]);
    for (int i = 0; i < 4096; i++) take(&players[i % 4], 64 * 1024);
    for (int i = 0; i < 4; i++) end(&players[i]);
    const struct tp_totals *totals = &tp_account.totals;
    assert_true(totals->peak_low <= peak && peak <= totals->peak_high);
    assert_true(totals->peak_high - totals->peak_low < peak / 50);
}

static void lone_thread_knows_its_peak_at_any_time(void **state)
{
    (void)state;
    uint64_t seed = 5;
    begin(&players[0]);
    for (int i = 0; i < STEPS / 4; i++) {
        step(&players[0], &seed, 5000);
        assert_int_equal(tp_peak_now(&players[0].counters), peak);
    }
}

/* As slow paths do it: one operation, one flush. */
static void every_operation_flushes(void **state)
{
    (void)state;
    uint64_t seed = 5;
    tp_peak_every = true;
    for (int i = 0; i < PLAYERS; i++) begin(&players[i]);
    for (int i = 0; i < STEPS / 4; i++) {
        struct player *player = &players[test_below(&seed, PLAYERS)];
        assert_int_equal(tp_peak_now(&player->counters), peak);
        step(player, &seed, 5000);
        tp_peak_settle(&player->counters);
        assert_int_equal(tp_account.totals.net, live);
        assert_int_equal(tp_account.totals.peak_single, peak);
        assert_int_equal(tp_account.totals.slack, 0);
        if (i % 1000 == 0) end(player), begin(player);
    }
    assert_int_equal(tp_account.totals.peak_estimate, peak);
    assert_true(tp_account.totals.peak_high <= peak);
    assert_true(tp_account.totals.peak_ticks > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(lone_thread_knows_its_peak_exactly, forget_everything),
        cmocka_unit_test_setup(free_sees_a_high_that_malloc_left, forget_everything),
        cmocka_unit_test_setup(deep_fall_is_flushed, forget_everything),
        cmocka_unit_test_setup(small_net_is_not_settled, forget_everything),
        cmocka_unit_test_setup(limit_grows_with_what_is_live, forget_everything),
        cmocka_unit_test_setup(thread_that_ends_leaves_no_slack, forget_everything),
        cmocka_unit_test_setup(
            bounds_of_several_threads_hold_the_truth, forget_everything),
        cmocka_unit_test_setup(bounds_are_close_while_much_is_live, forget_everything),
        cmocka_unit_test_setup(
            lone_thread_knows_its_peak_at_any_time, forget_everything),
        cmocka_unit_test_setup(every_operation_flushes, forget_everything),
    };
    return cmocka_run_group_tests_name("peak", tests, NULL, NULL);
}
