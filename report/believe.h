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

struct tp_tally {  // of one site
    struct tp_belief belief[FIGURES];
    double least[FIGURES];
    double most[FIGURES];
    double value[FIGURES];  // for shares; the exact ones stand in the site
    bool grew;              // large blocks live here that were taken elsewhere
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

struct tp_build {
    const struct tp_profile *profile;
    const struct tp_dump *dump;
    struct tp_sites *out;
    bool exact;
    struct tp_cell *cells;
    size_t n_cells;
    struct tp_tally *tallies;                  // one a site
    struct tp_part *parts;                     // room for all cells
    size_t *stratum;                           // cells of the parts
    uint32_t *site_of_row;                     // UINT32_MAX: none
    size_t unsampled;                          // index of that site
    int64_t rest[TP_FORMAT_CLASSES][COUNTED];  // what that site has of each class
    int64_t total[TP_FORMAT_CLASSES][COUNTED];
    struct tp_whole whole[TP_FORMAT_CLASSES][COUNTED];  // of the sums of weights
    uint32_t group_of[2][TP_FORMAT_POOL_CLASSES];       // taken, live: see believe.c
    // For believe.c, of one figure:
    struct tp_known known;
    // and one a group of classes:
    struct tp_blend *whole_blends;  // of all sites; the last one of large blocks
    struct tp_blend *own_blends;    // of one site
    struct tp_halves *halves;
};

/* What was seen of some blocks is certain: as many, or as many bytes. */
double tp_believe_certain(const struct tp_sums *sums, bool bytes);

/*
 * Adds what is believed of the counted figures to the tallies of all sites. Needs: cells
 * with their values, whole[] and total[]; not exact mode.
 */
void tp_believe_all(struct tp_build *build);

/*
 * The same of the peak, of which `total` was shared out. The values stand in the sites.
 * All sums are multiplied by `factor`.
 */
void tp_believe_peak(struct tp_build *build, double factor, double total);

#endif
