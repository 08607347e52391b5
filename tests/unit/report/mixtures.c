/* SPDX-License-Identifier: MIT */
/*
 * mixtures.c - the programs that intervals are judged by, and what is asked of them.
 */
#include "tests/unit/report/mixture.h"

#include <string.h>

enum { K = 1024, M = 1024 * K };

const struct mixture mixtures[] = {
    { .name = "many small",
        .interval = 16 * K,
        .n_sites = 2,
        .sites = { { 48, 64, 9000, 0.7, 0 }, { 48, 48, 6000, 0.6, 0 } },
        .same = 3 },
    { .name = "one in a hundred",
        .interval = 8 * K,
        .n_sites = 1,
        .sites = { { 64, 64, 300, 0.5, 0 } },
        .same = 99 },
    { .name = "few samples",
        .interval = 64 * K,
        .n_sites = 6,
        .sites = { { 64, 64, 512, 0.5, 0 }, { 64, 64, 1024, 0.5, 0 },
            { 64, 64, 2048, 0.5, 0 }, { 64, 64, 3072, 0.5, 0 },
            { 64, 64, 4096, 0.5, 0 }, { 64, 64, 8000, 0.5, 0 } } },
    { .name = "bursts",
        .interval = 32 * K,
        .n_sites = 3,
        .sites = { { 112, 112, 8000, 0.7, 500 }, { 112, 112, 4000, 0.5, 100 },
            { 112, 112, 5000, 0.6, 50 } } },
    { .name = "threads",
        .interval = 16 * K,
        .threads = 8,
        .n_sites = 3,
        .sites = { { 200, 200, 3000, 0.7, 0 }, { 193, 224, 5000, 0.5, 0 },
            { 208, 208, 2000, 0.8, 0 } } },
    { .name = "few large",
        .interval = 512 * K,
        .n_sites = 3,
        .sites = { { 200 * K, 4 * M, 100, 0.5, 0 }, { 150 * K, 600 * K, 120, 0.6, 0 },
            { 4096, 4096, 4000, 0.8, 0 } } },
    { .name = "near the interval",
        .interval = 512 * K,
        .n_sites = 3,
        .sites = { { 256 * K, 1023 * K, 100, 0.6, 0 },
            { 512 * K, 512 * K, 100, 0.5, 0 },
            { 512 * K + 1, 512 * K + 1, 80, 0.7, 0 } } },
    { .name = "many small, many sizes",
        .interval = 16 * K,
        .n_sites = 3,
        .sites = { { 16, 512, 8000, 0.7, 0 }, { 16, 512, 5000, 0.5, 0 },
            { 32, 256, 9000, 0.6, 0 } } },
    { .name = "die",
        .interval = 8 * K,
        .n_sites = 3,
        .sites = { { 64, 64, 8000, 0.98, 0 }, { 48, 64, 6000, 0.95, 0 },
            { 64, 64, 4000, 0.9, 0 } } },
    { .name = "adapted",
        .interval = 4 * K,
        .adapt = true,
        .n_sites = 3,
        .sites = { { 16, 512, 8000, 0.6, 0 }, { 64, 64, 8000, 0.5, 0 },
            { 512, 4096, 2000, 0.8, 0 } } },
    { .name = "adapted, threads",
        .interval = 4 * K,
        .adapt = true,
        .threads = 4,
        .n_sites = 3,
        .sites = { { 16, 512, 8000, 0.6, 0 }, { 64, 64, 8000, 0.5, 0 },
            { 512, 4096, 2000, 0.8, 0 } } },
    { .name = "all sizes",
        .interval = 512 * K,
        .n_sites = 2,
        .sites = { { 1, 64 * M, 2000, 0.7, 0 }, { 1, 64 * M, 2000, 0.5, 0 } } },
    { .name = "one in a hundred, of many sizes",
        .interval = 8 * K,
        .n_sites = 1,
        .sites = { { 16, 1024, 200, 0.5, 0 } },
        .same = 99 },
    { .name = "adapted at 16K",
        .interval = 16 * K,
        .adapt = true,
        .n_sites = 3,
        .sites = { { 16, 512, 20000, 0.6, 0 }, { 64, 64, 20000, 0.5, 0 },
            { 512, 4096, 5000, 0.8, 0 } } },
    { .name = "near 64K",
        .interval = 64 * K,
        .n_sites = 3,
        .sites = { { 32 * K, 128 * K, 200, 0.6, 0 }, { 64 * K, 64 * K, 150, 0.5, 0 },
            { 64 * K + 1, 64 * K + 1, 100, 0.7, 0 } } },
    { .name = "all sizes at 4K",
        .interval = 4 * K,
        .n_sites = 2,
        .sites = { { 1, 64 * M, 2000, 0.7, 0 }, { 1, 64 * M, 2000, 0.5, 0 } } },
    { .name = "adapted, all sizes",
        .interval = 512 * K,
        .adapt = true,
        .n_sites = 2,
        .sites = { { 1, 64 * M, 4000, 0.7, 0 }, { 1, 64 * M, 2000, 0.5, 0 } } },
    { .name = "adapted, large",
        .interval = 512 * K,
        .adapt = true,
        .n_sites = 3,
        .sites = { { 129 * K, 2 * M, 500, 0.7, 0 }, { 200 * K, 200 * K, 700, 0.5, 0 },
            { 1 * M, 16 * M, 100, 0.6, 0 } } },
    { .name = "peak",
        .interval = 64 * K,
        .n_sites = 2,
        .sites = { { 64, 64, 6000, 1, 0 }, { 112, 112, 6000, 0.9, 0 } } },
    { .name = NULL },
};

enum {
    COUNTS = 1 << MIXTURE_ALLOCATIONS | 1 << MIXTURE_LIVE_BLOCKS,
    LIVE = 1 << MIXTURE_LIVE_BLOCKS | 1 << MIXTURE_LIVE_BYTES,
    TAKEN = 1 << MIXTURE_ALLOCATIONS | 1 << MIXTURE_ALLOCATED_BYTES,
    PEAK = 1 << MIXTURE_PEAK_BYTES,
    ALL = TAKEN | LIVE | PEAK,
};

/*
 * Intervals are 95 % ones: 93-97 % of them cover the truth. These do not, and cannot:
 *
 *   - Samples are whole numbers. A site of 2.3 expected ones ("one in a hundred") has 6 or
 *     more in 2.7 % of runs, and 5 or more in 9 %: coverage is 97.3 % or 91, nothing between.
 *     The same, over a few sites, in "few samples"; and where a handful of large blocks was
 *     missed, each of which is somebody's ("few large", "near 64K").
 *   - Classes of which no block was sampled may be anybody's ("all sizes": most counts are
 *     of such). The interval says so, and covers.
 *   - Live blocks of an adapted interval are a dozen heavy samples spread over twenty
 *     classes. Who has none of a class may yet have had some; the interval allows for that.
 *     Sites that were unlike each other would need it, but these all live alike. Without
 *     it coverage falls to 82 % elsewhere. The same for live counts of "all sizes at 4K".
 *   - Who is the only one in his class ("peak") is known to have all of it as soon as he
 *     is met: the truth is the value. Of what is dead to the last block the truth is 0,
 *     where no interval ends above it.
 *   - A hundred sites of 8 samples each, of sizes whose weights differ by 64: the smallest,
 *     which are most blocks, are met in every tenth site. A site without them cannot be told
 *     from one that has none: 6.6 % lie above the interval, but hardly any below.
 */
static const struct {
    const char *mixture;
    unsigned figures;  // a bit for each
    struct mixture_cover cover;
} unlike[] = {
    { "one in a hundred", ALL, { 0.95, 0.975 } },
    { "few samples", LIVE | PEAK, { 0.95, 0.98 } },
    { "few large", ALL, { 0.94, 0.98 } },
    { "near 64K", ALL, { 0.94, 0.975 } },
    { "adapted", LIVE, { 0.95, 0.98 } },
    { "adapted, threads", LIVE, { 0.95, 0.985 } },
    { "adapted at 16K", LIVE, { 0.95, 0.995 } },
    { "adapted, large", PEAK, { 0.95, 0.98 } },
    { "all sizes at 4K", 1 << MIXTURE_LIVE_BLOCKS, { 0.95, 0.995 } },
    { "all sizes", COUNTS, { 0.95, 1 } },
    { "adapted, all sizes", COUNTS, { 0.95, 1 } },
    { "peak", TAKEN | LIVE, { 0.95, 1 } },
    { "one in a hundred, of many sizes", 1 << MIXTURE_ALLOCATIONS, { 0.925, 0.97 } },
};

struct mixture_cover mixture_cover(const char *mixture, int figure)
{
    for (size_t i = 0; i < sizeof(unlike) / sizeof(unlike[0]); i++)
        if (!strcmp(unlike[i].mixture, mixture) && unlike[i].figures >> figure & 1)
            return unlike[i].cover;
    return (struct mixture_cover){ 0.93, 0.97 };
}
