/* SPDX-License-Identifier: MIT */
/*
 * believe.h - the making of sites: what sites.c and believe.c share.
 *
 * Knows nothing of: names, reports.
 */
#ifndef TP_REPORT_BELIEVE_H
#define TP_REPORT_BELIEVE_H

#include "report/blend.h"
#include "report/cells.h"
#include "report/sites.h"

enum figure {
    ALLOCATIONS,
    ALLOCATED_BYTES,
    LIVE_BLOCKS,
    LIVE_BYTES,
    COUNTED,  // the figures above, of which the counters know every class
    PEAK_BYTES = COUNTED,
    TEMPORARY,
    FIGURES,
};

struct tp_tally {  // what is believed of one figure of one site
    struct tp_belief belief;
    double least;
    double most;
};

/*
 * What the counters know of each class and therefore is not left to chance: the variance
 * of its sum of weights brought to the counted one, and of how many samples it is.
 */
struct tp_known {
    double variance[TP_FORMAT_CLASSES];
    double samples[TP_FORMAT_CLASSES];
    double share[TP_FORMAT_CLASSES];  // of all sites, that a figure counts
    double group_total[TP_FORMAT_CLASSES];
    double group_variance[TP_FORMAT_CLASSES];
    double group_noise[TP_FORMAT_CLASSES];  // of shares in its classes
};

/* What a worker needs to work out one site after the other. */
struct tp_scratch;

struct tp_build {
    const struct tp_profile *profile;
    const struct tp_dump *dump;
    struct tp_sites *out;
    bool exact;
    struct tp_cell *cells;  // in order of sites, then of classes
    size_t n_cells;
    uint32_t *by_class;  // their indexes in order of classes, then of cells
    size_t class_begin[TP_FORMAT_CLASSES + 1];  // in by_class
    struct tp_part *parts;                      // room for all cells
    uint32_t *site_of_row;                      // UINT32_MAX: none
    size_t unsampled;                           // index of that site
    struct tp_tally rest_tally[FIGURES];        // what is believed of it
    int64_t rest[TP_FORMAT_CLASSES][COUNTED];   // what it has of each class
    double rest_sum[FIGURES];                   // of those that are above 0
    int64_t total[TP_FORMAT_CLASSES][COUNTED];
    struct tp_whole whole[TP_FORMAT_CLASSES][COUNTED];  // of the sums of weights
    uint32_t group_of[2][TP_FORMAT_POOL_CLASSES];       // taken, live: see believe.c
    struct tp_scratch *scratch[2];  // one a worker; the second may be NULL
    // For believe.c, of one figure:
    struct tp_known known;
    struct tp_blend *whole_blends;  // one a group of classes; the last: large blocks
    double peak_factor;             // that all sums at the peak are multiplied by
    double peak_total;              // that was shared out
};

/* NULL: without memory. */
struct tp_scratch *tp_scratch_open(void);
void tp_scratch_close(struct tp_scratch *scratch);

/* What was seen of some blocks is certain: as many, or as many bytes. */
double tp_believe_certain(const struct tp_sums *sums, bool bytes);

/*
 * Makes ready for what is believed of a figure. Needs: cells with their values, whole[]
 * and total[]; for the peak peak_factor and peak_total; not exact mode.
 */
void tp_believe_begin(struct tp_build *build, enum figure figure);

/*
 * What is believed of that figure of the site of `n` cells, which follow each other.
 * Context: any thread, with a scratch of its own.
 */
struct tp_tally tp_believe_site(const struct tp_build *build,
    struct tp_scratch *scratch, const struct tp_cell *cells, size_t n,
    enum figure figure);

/* The factor that brings a cell's weights to what it was given; 1 for large blocks. */
double tp_believe_scale(const struct tp_build *build, const struct tp_cell *cell);

#endif
