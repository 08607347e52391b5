/* SPDX-License-Identifier: MIT */
/*
 * test_sites.c - figures of sites add up, say what is not known, and survive any file.
 */
#include "report/json_sites.h"
#include "report/sites.h"
#include "tests/unit/report/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 24, NODES = 8, SAMPLES = 8 };

static struct scene {
    struct tp_dump dump;
    struct tp_thread_slot slot;
    struct tp_node_record nodes[NODES];
    struct tp_site_record rows[ROWS];
    struct tp_sample_record samples[SAMPLES];
    struct tp_profile profile;
    struct tp_sites sites;
    struct tp_error error;
} scene;

static int begin(void **state)
{
    (void)state;
    memset(&scene, 0, sizeof(scene));
    test_dump(&scene.dump, &scene.slot, 1);
    scene.dump.sampling.mode = TP_SAMPLING_SAMPLED;
    scene.dump.nodes = scene.nodes;
    scene.dump.n_nodes = NODES;
    scene.dump.sites = scene.rows;
    scene.dump.n_sites = ROWS;
    scene.dump.samples = scene.samples;
    scene.dump.n_samples = SAMPLES;
    return 0;
}

static int end(void **state)
{
    (void)state;
    tp_sites_fini(&scene.sites);
    tp_profile_fini(&scene.profile);
    return 0;
}

static bool build(void)
{
    return tp_profile_build(&scene.profile, &scene.dump, "a dump", &scene.error) &&
        tp_sites_build(&scene.sites, &scene.profile, "a dump", &scene.error);
}

/* `n` samples of weight `w` in a row; `freed` of them are gone. */
static void sampled(
    uint32_t row, uint32_t node, uint16_t class, uint64_t n, double w, uint64_t freed)
{
    struct tp_site_record *record = &scene.rows[row];
    record->node = node;
    record->class = class;
    record->used = 1;
    struct tp_site_sums *sums[] = { &record->taken, &record->freed };
    for (int i = 0; i < 2; i++) {
        uint64_t k = i ? freed : n;
        sums[i]->samples = k;
        sums[i]->blocks = (uint64_t)((double)k * w * TP_FORMAT_ONE);
        sums[i]->block_variance = (double)k * w * (w - 1);
    }
}

static void check_sums(void)
{
    int64_t sum[5] = { 0 }, of_class[TP_FORMAT_CLASSES][4] = { 0 };
    for (size_t i = 0; i < scene.sites.n_sites; i++) {
        const struct tp_site *site = &scene.sites.sites[i];
        const struct tp_estimate *figures[5] = { &site->allocations,
            &site->allocated_bytes, &site->live_blocks, &site->live_bytes,
            &site->peak_bytes };
        for (int f = 0; f < 5; f++) {
            assert_true(figures[f]->low <= figures[f]->value);
            assert_true(figures[f]->value <= figures[f]->high);
            sum[f] += figures[f]->value;
        }
    }
    const struct tp_totals *totals = &scene.profile.totals;
    assert_int_equal(sum[0], totals->allocations);
    assert_int_equal(sum[1], totals->allocated_bytes);
    assert_int_equal(sum[2], totals->live_blocks);
    assert_int_equal(sum[3], totals->live_bytes);
    assert_int_equal(sum[4], totals->peak_bytes);
    for (size_t i = 0; i < scene.sites.n_classes; i++) {
        const struct tp_site_class *class = &scene.sites.classes[i];
        of_class[class->class][0] += class->allocations;
        of_class[class->class][1] += class->allocated_bytes;
        of_class[class->class][2] += class->live_blocks;
        of_class[class->class][3] += class->live_bytes;
    }
    for (size_t c = 0; c <= scene.profile.n_classes; c++) {
        bool large = c == scene.profile.n_classes;
        const struct tp_class *class =
            large ? &scene.profile.large : &scene.profile.classes[c];
        const int64_t *seen = of_class[large ? TP_FORMAT_LARGE : c];
        assert_int_equal(seen[0], class->allocations);
        assert_int_equal(seen[1], class->allocated_bytes);
        assert_int_equal(seen[2], class->live_blocks);
        assert_int_equal(seen[3], class->live_bytes);
    }
}

static void weights_are_scaled_class_by_class(void **state)
{
    (void)state;
    scene.slot.taken[1].allocations = 1009;
    scene.slot.frees[1] = 509;
    scene.slot.taken[2].allocations = 307;
    sampled(1, 3, 1, 30, 10, 15);
    sampled(2, 4, 1, 70, 10, 35);
    sampled(3, 3, 2, 40, 5, 0);
    assert_true(build());
    check_sums();
    assert_int_equal(scene.sites.n_sites, 2);
    const struct tp_site *site = scene.sites.sites;
    assert_int_equal(site->node, 3);
    assert_int_equal(site->allocations.value, 303 + 307);  // 302.7
    assert_int_equal(site->live_blocks.value, 150 + 307);
    assert_int_equal(site->allocated_bytes.value, 303 * 48 + 307 * 112);
    assert_int_equal(site->samples, 70);
    assert_true(site->allocations.low < 600 && site->allocations.high > 620);
}

static void class_without_a_sample_has_a_site_of_its_own(void **state)
{
    (void)state;
    scene.slot.taken[1].allocations = 100;
    scene.slot.taken[2].allocations = 7;
    sampled(1, 3, 1, 10, 10, 0);
    assert_true(build());
    check_sums();
    assert_int_equal(scene.sites.n_sites, 2);
    const struct tp_site *last = &scene.sites.sites[1];
    assert_int_equal(last->kind, TP_SITE_UNSAMPLED);
    assert_int_equal(last->node, 0);
    assert_int_equal(last->allocations.value, 7);
    assert_int_equal(last->allocated_bytes.value, 7 * 112);
    assert_int_equal(scene.sites.sites[0].allocations.value, 100);
    assert_true(scene.sites.sites[0].allocations.high >= 107);
}

static void stack_that_was_lost_is_a_site(void **state)
{
    (void)state;
    scene.slot.taken[1].allocations = 100;
    sampled(1, 0, 1, 10, 5, 0);
    sampled(2, 2, 1, 10, 5, 0);
    assert_true(build());
    check_sums();
    assert_int_equal(scene.sites.sites[0].kind, TP_SITE_STACK);
    assert_int_equal(scene.sites.sites[1].kind, TP_SITE_NO_STACK);
    assert_int_equal(scene.sites.sites[1].allocations.value, 50);
}

static void exact_mode_keeps_its_figures_and_names_the_rest(void **state)
{
    (void)state;
    scene.dump.sampling.mode = TP_SAMPLING_EXACT;
    scene.slot.taken[1].allocations = 100;
    scene.slot.frees[1] = 40;
    sampled(1, 3, 1, 97, 1, 40);
    scene.rows[1].taken.requested_bytes = 97 * 43;
    scene.rows[1].freed.requested_bytes = 40 * 43;
    assert_true(build());
    check_sums();
    const struct tp_site *site = scene.sites.sites;
    assert_int_equal(site->allocations.value, 97);
    assert_int_equal(site->allocations.low, 97);
    assert_int_equal(site->allocations.high, 97);
    assert_int_equal(site->live_blocks.value, 57);
    assert_int_equal(site->live_requested_bytes, 57 * 43);
    assert_int_equal(scene.sites.live_requested_bytes, 57 * 43);
    assert_int_equal(scene.sites.sites[1].allocations.value, 3);
    assert_int_equal(scene.sites.sites[1].live_blocks.value, 3);
}

/* Site 3 has changed since the peak, site 4 has not: its live figures are those then. */
static void peak_is_remembered_or_still_there(void **state)
{
    (void)state;
    scene.dump.sampling.mode = TP_SAMPLING_EXACT;
    scene.dump.sampling.peak = 5;
    scene.dump.sampling.peak_bytes = 48 * 150;
    scene.dump.totals.peak_single = 48 * 150;
    scene.slot.taken[1].allocations = 150;
    scene.slot.frees[1] = 90;
    sampled(1, 3, 1, 100, 1, 90);
    scene.rows[1].peak = 5;
    scene.rows[1].peak_blocks = 100 * TP_FORMAT_ONE;
    sampled(2, 4, 1, 50, 1, 0);
    scene.rows[2].peak = 4;
    scene.rows[2].peak_blocks = 7 * TP_FORMAT_ONE;
    assert_true(build());
    check_sums();
    assert_int_equal(scene.sites.sites[0].peak_bytes.value, 48 * 100);
    assert_int_equal(scene.sites.sites[1].peak_bytes.value, 48 * 50);
}

/*
 * 60 of 100 blocks are live, and the only live sample is of site 3, which has one in ten
 * of all samples: alone they would say that it took 10 and kept 60.
 */
static void nobody_keeps_more_than_was_taken(void **state)
{
    (void)state;
    scene.slot.taken[1].allocations = 100;
    scene.slot.frees[1] = 40;
    sampled(1, 3, 1, 1, 10, 0);
    sampled(2, 4, 1, 9, 10, 9);
    assert_true(build());
    check_sums();
    const struct tp_site *site = scene.sites.sites;
    assert_int_equal(site[0].live_blocks.value, 60);
    assert_int_equal(site[0].allocations.value, 60);
    assert_int_equal(site[0].allocated_bytes.value, 60 * 48);
    assert_int_equal(site[1].allocations.value, 40);
}

/*
 * Site 3 took all 100 blocks of its class, but its samples weigh 200; site 4 has the
 * other class alone. At the peak, all were live.
 */
static void nobody_has_more_at_the_peak_than_was_taken(void **state)
{
    (void)state;
    scene.dump.sampling.peak = 5;
    scene.dump.sampling.peak_bytes = 48 * 100 + 112 * 100;
    scene.dump.totals.peak_single = 48 * 100 + 112 * 100;
    scene.slot.taken[1].allocations = 100;
    scene.slot.frees[1] = 100;
    scene.slot.taken[2].allocations = 1000;
    scene.slot.frees[2] = 1000;
    sampled(1, 3, 1, 20, 10, 20);
    scene.rows[1].peak = 5;
    scene.rows[1].peak_blocks = 200 * TP_FORMAT_ONE;
    scene.rows[1].peak_block_variance = 20 * 10 * 9;
    sampled(2, 4, 2, 100, 10, 100);
    scene.rows[2].peak = 5;
    scene.rows[2].peak_blocks = 80 * TP_FORMAT_ONE;
    scene.rows[2].peak_block_variance = 8 * 10 * 9;
    assert_true(build());
    check_sums();
    for (int i = 0; i < 2; i++) {
        const struct tp_site *site = &scene.sites.sites[i];
        assert_true(site->peak_bytes.value <= site->allocated_bytes.value);
        assert_true(site->peak_bytes.high <= site->allocated_bytes.high);
    }
    assert_true(scene.sites.sites[0].peak_bytes.value > 40 * 48);
}

static void temporary_blocks_are_scaled_as_the_taken(void **state)
{
    (void)state;
    scene.slot.taken[1].allocations = 1000;
    scene.slot.frees[1] = 1000;
    sampled(1, 3, 1, 50, 10, 50);
    scene.rows[1].temporary_blocks = 200 * TP_FORMAT_ONE;
    assert_true(build());
    const struct tp_estimate *figure = &scene.sites.sites[0].temporary_blocks;
    assert_int_equal(figure->value, 400);
    assert_true(figure->low < 400 && figure->high > 400 && figure->high <= 1000);
}

static void median_age_counts_weights(void **state)
{
    (void)state;
    scene.slot.taken[1].allocations = 100;
    sampled(1, 3, 1, 3, 10, 0);
    // Half a nanosecond a tick; two old blocks that are large, and a young small one.
    const uint64_t born[] = { 1000, 2000, 5000000000 }, bytes[] = { 65536, 65536, 16 };
    for (int i = 0; i < 3; i++)
        scene.samples[i] = (struct tp_sample_record){
            .site = 1,
            .state = 1,
            .bytes = bytes[i],
            .interval_bytes = 65536,
            .born_ticks = TEST_START_TICKS + born[i],
        };
    scene.samples[3] = (struct tp_sample_record){ .site = 1, .state = 0 };
    scene.samples[4] = (struct tp_sample_record){ .site = UINT32_MAX, .state = 1 };
    assert_true(build());
    const struct tp_site *site = scene.sites.sites;
    assert_int_equal(site->live_samples, 3);
    assert_int_equal(site->age_ns_least, 500000000);
    assert_int_equal(site->age_ns_median, 500000000);
    assert_int_equal(site->age_ns_most, 2999999500);
}

static void nothing_is_said_when_sampling_was_off(void **state)
{
    (void)state;
    scene.dump.sampling.mode = TP_SAMPLING_OFF;
    sampled(1, 3, 1, 3, 10, 0);
    assert_true(build());
    assert_int_equal(scene.sites.n_sites, 0);
}

/* ---- any file --------------------------------------------------------------------- */

static uint64_t random_from(uint64_t *seed)
{
    uint64_t x = *seed += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static uint64_t any(uint64_t *seed)
{
    static const uint64_t extremes[] = { 0, 1, 4096, INT64_MAX, UINT64_MAX,
        (uint64_t)1 << 63, 0x7ff8000000000000, 0x7ff0000000000000, 0xfff0000000000000 };
    uint64_t x = random_from(seed);
    return x % 3 ? extremes[x / 3 % 9] : x >> (x % 64);
}

static void nothing_in_a_file_leads_astray(void **state)
{
    uint64_t seed = 43;
    for (int round = 0; round < 3000; round++) {
        begin(state);
        uint64_t *words = (uint64_t *)(void *)scene.rows;
        for (size_t i = 0; i < sizeof(scene.rows) / 8; i++) words[i] = any(&seed);
        for (int i = 0; i < ROWS; i++) {
            scene.rows[i].used = random_from(&seed) % 8 != 0;
            scene.rows[i].class = (uint16_t)(random_from(&seed) % 5);
            if (scene.rows[i].class == 4) scene.rows[i].class = TP_FORMAT_LARGE;
            if (random_from(&seed) % 2) scene.rows[i].node %= NODES + 1;
        }
        words = (uint64_t *)(void *)scene.samples;
        for (size_t i = 0; i < sizeof(scene.samples) / 8; i++) words[i] = any(&seed);
        scene.dump.sampling.mode = 1 + (uint32_t)round % 2;
        scene.dump.sampling.peak = (uint32_t)any(&seed);
        scene.dump.sampling.peak_bytes = any(&seed);
        for (int c = 0; c < 3; c++) {
            scene.slot.taken[c].allocations = random_from(&seed) % 2 ? 1009 : 0;
            scene.slot.frees[c] = random_from(&seed) % 2000;  // more than taken, too
        }
        scene.slot.large_allocated_bytes = any(&seed) >> 2;
        scene.slot.taken[TP_FORMAT_LARGE].allocations = random_from(&seed) % 99;
        if (build()) check_sums();
        end(state);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
    const struct CMUnitTest tests[] = {
        TEST(weights_are_scaled_class_by_class),
        TEST(class_without_a_sample_has_a_site_of_its_own),
        TEST(stack_that_was_lost_is_a_site),
        TEST(exact_mode_keeps_its_figures_and_names_the_rest),
        TEST(peak_is_remembered_or_still_there),
        TEST(nobody_keeps_more_than_was_taken),
        TEST(nobody_has_more_at_the_peak_than_was_taken),
        TEST(temporary_blocks_are_scaled_as_the_taken),
        TEST(median_age_counts_weights),
        TEST(nothing_is_said_when_sampling_was_off),
        TEST(nothing_in_a_file_leads_astray),
    };
    return cmocka_run_group_tests_name("report_sites", tests, NULL, NULL);
}
