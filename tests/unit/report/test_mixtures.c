/* SPDX-License-Identifier: MIT */
#include "report/sites.h"
#include "tests/unit/report/mixture.h"
#include "tests/unit/report/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { K = 1024, M = 1024 * K };

static const struct mixture mixtures[] = {
    { .name = "many small",
        .interval = 64 * K,
        .n_sites = 2,
        .sites = { { 16, 256, 8000, 0.7, 0 }, { 48, 48, 6000, 0.9, 0 } },
        .same = 3 },
    { .name = "few large",
        .interval = 512 * K,
        .n_sites = 3,
        .sites = { { 200 * K, 4 * M, 60, 0.5, 0 }, { 150 * K, 600 * K, 80, 0.6, 0 },
            { 16, 4096, 4000, 0.8, 0 } } },
    { .name = "one in a hundred",
        .interval = 8 * K,
        .n_sites = 2,
        .sites = { { 64, 64, 300, 0.5, 0 }, { 64, 64, 300, 0.5, 0 } },
        .same = 98 },
    { .name = "one in a hundred, mixed",
        .interval = 8 * K,
        .n_sites = 2,
        .sites = { { 16, 1024, 200, 0.5, 0 }, { 16, 1024, 200, 0.5, 0 } },
        .same = 98 },
    { .name = "bursts",
        .interval = 32 * K,
        .n_sites = 3,
        .sites = { { 112, 112, 8000, 0.9, 500 }, { 96, 112, 3000, 0.5, 100 },
            { 1024, 4096, 1000, 0.6, 50 } } },
    { .name = "threads",
        .interval = 32 * K,
        .threads = 8,
        .n_sites = 3,
        .sites = { { 16, 2048, 3000, 0.7, 0 }, { 100, 100, 5000, 0.5, 0 },
            { 300, 20000, 500, 0.8, 0 } } },
    { .name = "all sizes",
        .interval = 512 * K,
        .n_sites = 2,
        .sites = { { 1, 64 * M, 3000, 0.7, 0 }, { 1, 64 * M, 3000, 0.5, 0 } } },
    { .name = "all sizes, short interval",
        .interval = 4 * K,
        .n_sites = 2,
        .sites = { { 1, 64 * M, 5000, 0.7, 0 }, { 1, 64 * M, 5000, 0.5, 0 } } },
    { .name = "near the interval",
        .interval = 64 * K,
        .n_sites = 3,
        .sites = { { 32 * K, 128 * K, 100, 0.6, 0 }, { 65536, 65536, 100, 0.5, 0 },
            { 65537, 65537, 80, 0.7, 0 } } },
    { .name = "near the interval, large",
        .interval = 512 * K,
        .n_sites = 3,
        .sites = { { 256 * K, 1023 * K, 100, 0.6, 0 },
            { 512 * K, 512 * K, 100, 0.5, 0 },
            { 512 * K + 1, 512 * K + 1, 80, 0.7, 0 } } },
    { .name = "adapted",
        .interval = 16 * K,
        .adapt = true,
        .n_sites = 3,
        .sites = { { 16, 512, 8000, 0.6, 0 }, { 64, 64, 8000, 0.5, 0 },
            { 512, 4096, 2000, 0.8, 0 } } },
    { .name = "adapted, threads",
        .interval = 16 * K,
        .adapt = true,
        .threads = 4,
        .n_sites = 3,
        .sites = { { 16, 512, 8000, 0.6, 0 }, { 64, 64, 8000, 0.5, 0 },
            { 512, 4096, 2000, 0.8, 0 } } },
    { .name = "die",
        .interval = 16 * K,
        .n_sites = 4,
        .sites = { { 64, 64, 5000, 0.99, 0 }, { 64, 64, 2000, 0.9, 0 },
            { 64, 64, 300, 0, 0 }, { 128, 512, 500, 0, 0 } } },
    { .name = "few samples",
        .interval = 64 * K,
        .n_sites = 10,
        .sites = { { 64, 64, 512, .5, 0 }, { 64, 64, 1024, 0.5, 0 },
            { 64, 64, 1536, .5, 0 }, { 64, 64, 2048, .5, 0 }, { 64, 64, 2560, .5, 0 },
            { 64, 64, 3072, .5, 0 }, { 64, 64, 4096, .5, 0 }, { 64, 64, 5000, .5, 0 },
            { 64, 64, 6000, .5, 0 }, { 64, 64, 8000, .5, 0 } } },
    { .name = "few samples of two",
        .interval = 64 * K,
        .n_sites = 6,
        .sites = { { 16, 1000, 512, .5, 0 }, { 16, 1000, 1024, 0.5, 0 },
            { 16, 1000, 1536, .5, 0 }, { 16, 1000, 2048, .5, 0 },
            { 16, 1000, 2560, .5, 0 }, { 16, 1000, 3072, .5, 0 } } },
};

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

int main(int argc, char **argv)
{
    int runs = argc > 1 ? atoi(argv[1]) : 300;
    int verbose = argc > 2;
    static const char *names[] = { "allocs", "abytes", "live", "lbytes", "peak" };
    for (size_t m = 0; m < sizeof(mixtures) / sizeof(mixtures[0]); m++) {
        const struct mixture *mx = &mixtures[m];
        static double covered[MIXTURE_SITES][5], lowmiss[MIXTURE_SITES][5],
            unseen[MIXTURE_SITES], bias[MIXTURE_SITES][5], truth[MIXTURE_SITES][5],
            ht[2], tht[2], lam[MIXTURE_SITES], width[MIXTURE_SITES][5];
        memset(covered, 0, sizeof covered);
        memset(lowmiss, 0, sizeof lowmiss);
        memset(unseen, 0, sizeof unseen);
        memset(bias, 0, sizeof bias);
        memset(truth, 0, sizeof truth);
        memset(lam, 0, sizeof lam);
        memset(width, 0, sizeof width);
        ht[0] = ht[1] = tht[0] = tht[1] = 0;
        size_t n_sites = 0;
        for (int r = 0; r < runs; r++) {
            struct mixture_run *run = mixture_run(mx, (uint64_t)(m * 100000 + r));
            n_sites = run->n_sites;
            struct tp_dump dump;
            dump_of(&dump, run);
            struct tp_profile profile;
            struct tp_error error = { "" };
            struct tp_sites sites;
            if (!tp_profile_build(&profile, &dump, "x", &error)) {
                puts(error.text);
                return 1;
            }
            if (!tp_sites_build(&sites, &profile, "x", &error)) {
                puts(error.text);
                return 1;
            }
            const struct tp_site *of[MIXTURE_SITES + 1] = { NULL };
            int64_t sum[5] = { 0 };
            for (size_t i = 0; i < sites.n_sites; i++) {
                const struct tp_site *s = &sites.sites[i];
                if (s->node) of[s->node - 1] = s;
                sum[0] += s->allocations.value;
                sum[1] += s->allocated_bytes.value;
                sum[2] += s->live_blocks.value;
                sum[3] += s->live_bytes.value;
                sum[4] += s->peak_bytes.value;
            }
            if (sum[0] != (int64_t)profile.totals.allocations ||
                sum[1] != (int64_t)profile.totals.allocated_bytes ||
                sum[2] != profile.totals.live_blocks ||
                sum[3] != profile.totals.live_bytes ||
                sum[4] != profile.totals.peak_bytes)
                printf("SUM WRONG %zu\n", m);
            for (size_t s = 0; s < n_sites; s++) {
                const struct mixture_truth *t = &run->truth[s];
                lam[s] += t->expected[0];
                ht[0] += run->weights[s][0];
                ht[1] += run->weights[s][1];
                tht[0] += (double)t->figure[0];
                tht[1] += (double)t->figure[1];
                const struct tp_site *x = of[s];
                const struct tp_estimate none = { 0, 0, 0 };
                const struct tp_estimate *f[5] = { x ? &x->allocations : &none,
                    x ? &x->allocated_bytes : &none, x ? &x->live_blocks : &none,
                    x ? &x->live_bytes : &none, x ? &x->peak_bytes : &none };
                if (!x) unseen[s]++;
                for (int k = 0; k < 5; k++) {
                    bool in = x
                        ? f[k]->low <= t->figure[k] && t->figure[k] <= f[k]->high
                        : t->expected[k] <= 3;
                    covered[s][k] += in;
                    if (!in && x && t->figure[k] < f[k]->low) lowmiss[s][k]++;
                    bias[s][k] += (double)f[k]->value;
                    truth[s][k] += (double)t->figure[k];
                    width[s][k] += (double)(f[k]->high - f[k]->low);
                }
            }
            tp_sites_fini(&sites);
            tp_profile_fini(&profile);
        }
        printf("%-26s HT %.4f %.4f\n", mx->name, ht[0] / tht[0], ht[1] / tht[1]);
        double all[5] = { 0 }, allb[5] = { 0 }, allt[5] = { 0 }, lows[5] = { 0 };
        for (size_t s = 0; s < n_sites; s++)
            for (int k = 0; k < 5; k++) {
                all[k] += covered[s][k];
                allb[k] += bias[s][k];
                allt[k] += truth[s][k];
                lows[k] += lowmiss[s][k];
            }
        for (int k = 0; k < 5; k++)
            printf("   %s %.1f%% (below %.1f%%) bias %.3f;", names[k],
                100 * all[k] / runs / (double)n_sites,
                100 * lows[k] / runs / (double)n_sites, allb[k] / allt[k]);
        printf("\n");
        if (verbose)
            for (size_t s = 0; s < n_sites && s < 10; s++) {
                printf("      site %zu lambda %.1f unseen %.2f:", s, lam[s] / runs,
                    unseen[s] / runs);
                for (int k = 0; k < 5; k++)
                    printf("  %.1f (%.1f) b%.3f w%.2f", 100 * covered[s][k] / runs,
                        100 * lowmiss[s][k] / runs, bias[s][k] / truth[s][k],
                        width[s][k] / truth[s][k]);
                printf("\n");
            }
    }
    return 0;
}
