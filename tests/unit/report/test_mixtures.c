/* SPDX-License-Identifier: MIT */
/*
 * test_mixtures.c - simulated programs: intervals cover, figures have no bias.
 *
 * Each mixture is run many times with the real sampler and the real estimates. Of a site
 * that no sample has met "at most three samples' worth" counts as its interval.
 *
 * TIDEPOOL_TEST_RUNS sets the runs of each mixture; without it there are enough to see a
 * fault of some percent within seconds. Seeds are fixed: a test passes always or never.
 */
#include "report/sites.h"
#include "tests/unit/report/mixture.h"
#include "tests/unit/report/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { K = 1024, M = 1024 * K, RUNS = 200, MANY_RUNS = 1000 };

static const char *const figure_names[MIXTURE_FIGURES] = { "allocations",
    "allocated_bytes", "live_blocks", "live_bytes", "peak_bytes" };

/* What a dump of the run would be. */
static void dump_of(struct tp_dump *dump, struct mixture_run *run)
{
    memset(dump, 0, sizeof(*dump));
    dump->header.state = TP_FILE_DUMP;
    dump->header.reason = TP_REASON_EXIT;
    dump->header.monotonic_ns = dump->header.ticks = 1000000000;
    dump->process.start_monotonic_ns = dump->process.start_ticks = 1;
    dump->totals.net = run->live_bytes;
    dump->totals.peak_single = run->peak_bytes;
    dump->sampling = run->sampling;
    memcpy(dump->classes, run->classes, sizeof(run->classes));
    dump->n_classes = TP_FORMAT_POOL_CLASSES;
    dump->slots = &run->slot;
    dump->n_slots = 1;
    dump->nodes = run->nodes;
    dump->n_nodes = MIXTURE_SITES + 1;
    dump->sites = run->rows;
    dump->n_sites = MIXTURE_ROWS;
}

static const struct tp_estimate *figure_of(const struct tp_site *site, int figure)
{
    const struct tp_estimate *const figures[MIXTURE_FIGURES] = { &site->allocations,
        &site->allocated_bytes, &site->live_blocks, &site->live_bytes,
        &site->peak_bytes };
    return figures[figure];
}

/* Of one figure, over all runs and sites. */
struct tally {
    double asked;
    double covered;
    double below;  // the truth lay below the interval
    double above;
    double exact;  // nothing was left to chance, and rightly: not asked
    double value;  // of sites with a stack
    double truth;
    double unsampled;              // of the site without one
    double off[MIXTURE_SITES];     // sums of value - truth, of each site
    double off2[MIXTURE_SITES];    // of its squares
    double truths[MIXTURE_SITES];  // of each site
};

struct score {
    double runs;
    double n_sites;
    struct tally of[MIXTURE_FIGURES];
    double weights[2];  // not calibrated: blocks, bytes
    double deviation[2];
};

/* Sums are exact, whatever else. */
static void check_sums(const struct tp_sites *sites, const struct tp_profile *profile)
{
    const int64_t wanted[MIXTURE_FIGURES] = { (int64_t)profile->totals.allocations,
        (int64_t)profile->totals.allocated_bytes, profile->totals.live_blocks,
        profile->totals.live_bytes, profile->totals.peak_bytes };
    for (int f = 0; f < MIXTURE_FIGURES; f++) {
        int64_t sum = 0;
        for (size_t i = 0; i < sites->n_sites; i++) {
            const struct tp_estimate *figure = figure_of(&sites->sites[i], f);
            assert_true(figure->low <= figure->value && figure->value <= figure->high);
            assert_true(figure->low >= 0);
            sum += figure->value;
        }
        assert_int_equal(sum, wanted[f]);
    }
}

/* A site that no sample has met has no figures, and no interval but 0 .. 3 samples. */
static void tally_site(struct tally *tally, size_t site,
    const struct tp_estimate *figure, double truth, double expected)
{
    double value = figure ? (double)figure->value : 0;
    tally->value += value;
    tally->truth += truth;
    tally->off[site] += value - truth;
    tally->off2[site] += (value - truth) * (value - truth);
    tally->truths[site] += truth;
    if (figure && figure->low == figure->high && value == truth) {
        tally->exact++;
        return;
    }
    bool below = figure && truth < (double)figure->low;
    bool above = figure ? truth > (double)figure->high : expected > 3;
    tally->asked++;
    tally->below += below;
    tally->above += above;
    tally->covered += !below && !above;
}

static void score_run(struct score *score, struct mixture_run *run)
{
    struct tp_dump dump;
    struct tp_profile profile;
    struct tp_sites sites;
    struct tp_error error = { "" };
    dump_of(&dump, run);
    assert_true(tp_profile_build(&profile, &dump, "a run", &error));
    assert_true(tp_sites_build(&sites, &profile, "a run", &error));
    check_sums(&sites, &profile);
    const struct tp_site *of[MIXTURE_SITES] = { NULL };
    for (size_t i = 0; i < sites.n_sites; i++) {
        const struct tp_site *site = &sites.sites[i];
        if (site->kind == TP_SITE_STACK) of[site->node - 1] = site;
        for (int f = 0; f < MIXTURE_FIGURES && site->kind == TP_SITE_UNSAMPLED; f++)
            score->of[f].unsampled += (double)figure_of(site, f)->value;
    }
    double blocks[2] = { 0 }, bytes[2] = { 0 };
    for (size_t s = 0; s < run->n_sites; s++) {
        const struct mixture_truth *truth = &run->truth[s];
        for (int f = 0; f < MIXTURE_FIGURES; f++)
            tally_site(&score->of[f], s, of[s] ? figure_of(of[s], f) : NULL,
                (double)truth->figure[f], truth->expected[f]);
        blocks[0] += run->weights[s][0];
        bytes[0] += run->weights[s][1];
        blocks[1] += (double)truth->figure[MIXTURE_ALLOCATIONS];
        bytes[1] += (double)truth->figure[MIXTURE_ALLOCATED_BYTES];
    }
    score->n_sites = (double)run->n_sites;
    score->runs++;
    double off[2] = { blocks[0] / blocks[1] - 1, bytes[0] / bytes[1] - 1 };
    for (int i = 0; i < 2; i++) {
        score->weights[i] += off[i];
        score->deviation[i] += off[i] * off[i];
    }
    tp_sites_fini(&sites);
    tp_profile_fini(&profile);
}

/* The mean error of the site that is furthest off, and how many deviations that is. */
static double worst_bias(const struct score *score, int figure, double *out_sigmas)
{
    const struct tally *tally = &score->of[figure];
    double worst = 0;
    *out_sigmas = 0;
    for (size_t s = 0; s < (size_t)score->n_sites; s++) {
        double noise = sqrt(tally->off2[s]), off = tally->off[s];
        if (!(tally->truths[s] > 0) || fabs(off / noise) <= fabs(*out_sigmas)) continue;
        *out_sigmas = off / noise;
        worst = off / tally->truths[s];
    }
    return worst;
}

static void print_score(const char *name, const struct score *score)
{
    for (int f = 0; f < MIXTURE_FIGURES; f++) {
        const struct tally *of = &score->of[f];
        double sigmas, bias = worst_bias(score, f, &sigmas);
        double asked = of->asked > 0 ? of->asked : 1;
        print_message("# %-32s %-15s %5.1f %% of %6.0f (%4.1f below, %4.1f above), "
                      "%5.0f exact; bias %+5.2f %% (%+.1f sd)\n",
            name, figure_names[f], 100 * of->covered / asked, of->asked,
            100 * of->below / asked, 100 * of->above / asked, of->exact, 100 * bias,
            sigmas);
    }
    print_message("# %-32s weights         %+.2f %% %+.2f %%\n", name,
        100 * score->weights[0] / score->runs, 100 * score->weights[1] / score->runs);
}

static int runs_wanted(void)
{
    const char *wish = getenv("TIDEPOOL_TEST_RUNS");
    return wish && atoi(wish) > 0 ? atoi(wish) : RUNS;
}

static struct score play(const struct mixture *mixture)
{
    static struct score score;
    memset(&score, 0, sizeof(score));
    int runs = runs_wanted();
    for (int i = 0; i < runs; i++)
        score_run(&score, mixture_run(mixture, 1000003u * (unsigned)i + 7));
    print_score(mixture->name, &score);
    return score;
}

/* Weights without calibration are right on average, to within their own noise. */
static void check_weights(const struct score *score)
{
    for (int i = 0; i < 2; i++) {
        double mean = score->weights[i] / score->runs;
        double noise = sqrt(score->deviation[i]) / score->runs;
        assert_true(fabs(mean) < 0.01 || fabs(mean) < 4 * noise);
    }
}

/* With enough runs the bounds hold as they stand; with fewer, to within their noise. */
static void check_cover(const struct mixture *mixture, const struct score *score)
{
    for (int f = 0; f < MIXTURE_FIGURES; f++) {
        const struct tally *of = &score->of[f];
        if (!(of->asked > 0)) continue;
        struct mixture_cover bounds = mixture_cover(mixture->name, f);
        double covered = of->covered / of->asked;
        // Figures of one run share their samples: one run is one observation.
        double n = fmin(of->asked, score->runs);
        double noise = score->runs < MANY_RUNS ? 3 * sqrt(0.05 * 0.95 / n) : 0;
        if (covered < bounds.least - noise || covered > bounds.most + noise)
            fail_msg("%s, %s: %.1f %%", mixture->name, figure_names[f], 100 * covered);
    }
}

/* ---- coverage ---------------------------------------------------------------------- */

static void intervals_cover_what_they_say(void **state)
{
    (void)state;
    for (size_t i = 0; mixtures[i].name; i++) {
        struct score score = play(&mixtures[i]);
        check_weights(&score);
        check_cover(&mixtures[i], &score);
    }
}

static void exact_mode_leaves_nothing_to_chance(void **state)
{
    (void)state;
    const struct mixture exact = { .name = "exact",
        .interval = 1,
        .exact = true,
        .n_sites = 2,
        .sites = { { 1, M, 1009, 0.7, 0 }, { 16, 4096, 997, 0.3, 0 } },
        .same = 1 };
    struct score score = play(&exact);
    for (int f = 0; f < MIXTURE_FIGURES; f++) {
        assert_true(score.of[f].asked == 0 && score.of[f].exact > 0);
        assert_true(score.of[f].value == score.of[f].truth);
        assert_true(score.of[f].unsampled == 0);
    }
}

/* ---- the faults of others ------------------------------------------------------------- */

static void average_size_is_not_used_to_weigh(void **state)
{
    (void)state;
    const struct mixture mixture = { .name = "two sizes at one site",
        .interval = 512,
        .n_sites = 1,
        .sites = { { 16, 16, 4000, 0, 0 } } };
    // 100 blocks of 4096 bytes join them: a second site, looked at as one.
    struct mixture both = mixture;
    both.n_sites = 2;
    both.sites[1] = (struct mixture_site){ 4096, 4096, 100, 0, 0 };
    double naive = 0, ours = 0, naive_bytes = 0, bytes = 0;
    for (unsigned i = 0; i < 300; i++) {
        const struct mixture_run *run = mixture_run(&both, i);
        double n = run->raw[0][0] + run->raw[1][0], b = run->raw[0][1] + run->raw[1][1];
        double w = -1 / expm1(-(b / n) / 512);
        naive += n * w;
        naive_bytes += b * w;
        ours += run->weights[0][0] + run->weights[1][0];
        bytes += run->weights[0][1] + run->weights[1][1];
    }
    assert_true(naive / 300 < 300);  // of 4100
    assert_true(fabs(ours / 300 / 4100 - 1) < 0.02);
    double truth = 4000 * 16 + 100 * 4096;
    assert_true(naive_bytes / 300 / truth < 0.95);
    assert_true(fabs(bytes / 300 / truth - 1) < 0.01);
}

/* One thread that takes large and small blocks by turns favours neither. */
static void sizes_do_not_take_each_others_samples(void **state)
{
    (void)state;
    const struct mixture mixture = { .name = "sizes by turns",
        .interval = 8 * K,
        .n_sites = 3,
        .sites = { { 17, 17, 4000, 0, 0 }, { 4096, 4096, 300, 0, 0 },
            { 65536, 65536, 50, 0, 0 } } };
    double sum[3] = { 0 };
    static const double truth[3] = { 4000, 300, 50 };
    for (unsigned i = 0; i < 400; i++) {
        const struct mixture_run *run = mixture_run(&mixture, i);
        for (int s = 0; s < 3; s++) sum[s] += run->weights[s][0];
    }
    for (int s = 0; s < 3; s++) assert_true(fabs(sum[s] / 400 / truth[s] - 1) < 0.03);
}

/* The chance is that of the block, not of the request: 17 bytes are 32. */
static void weight_is_that_of_the_usable_size(void **state)
{
    (void)state;
    const struct mixture mixture = { .name = "wrong size",
        .interval = 2 * K,
        .n_sites = 1,
        .sites = { { 17, 17, 8000, 0, 0 } } };
    double ours = 0, wrong = 0;
    for (unsigned i = 0; i < 200; i++) {
        const struct mixture_run *run = mixture_run(&mixture, i);
        ours += run->weights[0][0];
        wrong += run->raw[0][0] / -expm1(-17.0 / (2 * K));
    }
    assert_true(fabs(ours / 200 / 8000 - 1) < 0.01);
    assert_true(wrong / 200 / 8000 > 1.8);
}

/* Neither rounding to whole blocks, nor "certain from T on, but scaled all the same". */
static void sizes_about_the_interval_have_no_bias(void **state)
{
    (void)state;
    const uint64_t sizes[] = { 15 * K, 16 * K, 16 * K + 1, 20 * K, 32 * K, 64 * K };
    for (size_t c = 0; c < sizeof(sizes) / sizeof(sizes[0]); c++) {
        const struct mixture mixture = { .name = "about the interval",
            .interval = 16 * K,
            .n_sites = 1,
            .sites = { { sizes[c], sizes[c], 2000, 0, 0 } } };
        double sum = 0;
        for (unsigned i = 0; i < 100; i++)
            sum += mixture_run(&mixture, i)->weights[0][0];
        assert_true(fabs(sum / 100 / 2000 - 1) < 0.01);
    }
}

/* Marks times T would make 3.5 to 4.5 MiB of it. */
static void large_block_has_its_own_size(void **state)
{
    (void)state;
    const struct mixture mixture = { .name = "one of 4 MiB",
        .interval = 512 * K,
        .n_sites = 1,
        .sites = { { 4 * M, 4 * M, 1, 0, 0 } } };
    unsigned seen = 0;
    for (unsigned i = 0; i < 50; i++) {
        const struct mixture_run *run = mixture_run(&mixture, i);
        if (run->weights[0][0] == 0) continue;
        seen++;
        assert_true(fabs(run->weights[0][1] / (4 * M) - 1) < 0.001);
    }
    assert_true(seen >= 49);
}

/* The variance of the estimate of one site's blocks; its threads take turns. */
static double noise_of(const struct mixture *mixture)
{
    double variance = 0;
    for (unsigned i = 0; i < 300; i++) {
        double off = mixture_run(mixture, i)->weights[0][0] - 16000;
        variance += off * off / 300;
    }
    return variance;
}

/*
 * With equal seeds all threads sample at the same places, and the noise grows by eight:
 * the control does that, or this test could not fail.
 */
static void threads_do_not_share_their_noise(void **state)
{
    (void)state;
    struct mixture mixture = { .name = "noise",
        .interval = 4 * K,
        .threads = 1,
        .n_sites = 1,
        .sites = { { 64, 64, 16000, 0, 0 } } };
    double formula = 16000 * 1 / expm1(64.0 / (4 * K));
    assert_true(fabs(noise_of(&mixture) / formula - 1) < 0.3);
    mixture.threads = 8;
    assert_true(fabs(noise_of(&mixture) / formula - 1) < 0.3);
    mixture.equal_seeds = true;
    double ratio = noise_of(&mixture) / formula;
    print_message("# equal seeds: %.1f times the noise\n", ratio);
    assert_true(ratio > 5 && ratio < 11);
}

/* The highest sampled total is above the true peak nearly always; ours is the peak. */
static void peak_is_not_that_of_the_samples(void **state)
{
    (void)state;
    const struct mixture *mixture = mixtures;
    while (strcmp(mixture->name, "peak") != 0) mixture++;
    double sampled = 0, truth = 0;
    for (unsigned i = 0; i < 300; i++) {
        const struct mixture_run *run = mixture_run(mixture, i);
        sampled += run->sampled_peak;
        truth += (double)run->peak_bytes;
    }
    assert_true(sampled > 1.01 * truth);
    struct score score = play(mixture);
    const struct tally *of = &score.of[MIXTURE_PEAK_BYTES];
    assert_true(of->value + of->unsampled == of->truth);
}

/* A heap whose samples cannot be told of draws anew: the next block is no substitute. */
static void lost_samples_do_not_move_to_the_next_block(void **state)
{
    (void)state;
    const struct mixture mixture = { .name = "lost",
        .interval = 4 * K,
        .n_sites = 2,
        .sites = { { 4096, 4096, 1000, 0, 0 }, { 64, 64, 4000, 0, 0 } } };
    double sum = 0;
    for (unsigned i = 0; i < 200; i++) {
        struct mixture_run *run = mixture_run(&mixture, i);
        // The first site's samples are lost on the way; the second has its own only.
        memset(run->rows, 0, (size_t)(MIXTURE_CLASSES + 1) * sizeof(run->rows[0]));
        struct tp_dump dump;
        struct tp_profile profile;
        struct tp_sites sites;
        struct tp_error error = { "" };
        dump_of(&dump, run);
        assert_true(tp_profile_build(&profile, &dump, "a run", &error));
        assert_true(tp_sites_build(&sites, &profile, "a run", &error));
        assert_int_equal(sites.n_sites, 2);
        assert_int_equal(sites.sites[0].allocations.value, 4000);
        assert_int_equal(sites.sites[1].kind, TP_SITE_UNSAMPLED);
        assert_int_equal(sites.sites[1].allocations.value, 1000);
        tp_sites_fini(&sites);
        tp_profile_fini(&profile);
        sum += run->weights[1][0];
    }
    assert_true(fabs(sum / 200 / 4000 - 1) < 0.02);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(intervals_cover_what_they_say),
        cmocka_unit_test(exact_mode_leaves_nothing_to_chance),
        cmocka_unit_test(average_size_is_not_used_to_weigh),
        cmocka_unit_test(sizes_do_not_take_each_others_samples),
        cmocka_unit_test(weight_is_that_of_the_usable_size),
        cmocka_unit_test(sizes_about_the_interval_have_no_bias),
        cmocka_unit_test(large_block_has_its_own_size),
        cmocka_unit_test(threads_do_not_share_their_noise),
        cmocka_unit_test(peak_is_not_that_of_the_samples),
        cmocka_unit_test(lost_samples_do_not_move_to_the_next_block),
    };
    return cmocka_run_group_tests_name("mixtures", tests, NULL, NULL);
}
