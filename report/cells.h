/* SPDX-License-Identifier: MIT */
/*
 * cells.h - what the dump says of each site and size class, made safe to reckon with.
 *
 * Holds always: sums are finite, not negative, and cut to what cannot overflow when a
 * few of them are multiplied; in exact mode all variances are 0.
 *
 * Knows nothing of: estimates.
 */
#ifndef TP_REPORT_CELLS_H
#define TP_REPORT_CELLS_H

#include "report/model.h"

struct tp_sums {
    double samples;
    double blocks;
    double bytes;  // of large blocks
    double block_variance;
    double byte_variance;
};

struct tp_cell {
    uint32_t node;   // UINT32_MAX: no stack, so that it stands last
    uint32_t class;  // of the profile, or TP_FORMAT_LARGE
    uint32_t row;    // of the dump
    uint32_t site;   // for sites.c
    struct tp_sums taken;
    struct tp_sums live;
    struct tp_sums peak;  // `samples` is -1 where it is not known
    double temporary;     // blocks
    int64_t value[4];     // for sites.c
};

/*
 * Makes the cells of all site records of the dump that count, in order of nodes and
 * classes; the caller frees them. Needs: fewer than 2^32 records. Fails: without memory.
 */
bool tp_cells_read(
    struct tp_cell **out_cells, size_t *out_n, const struct tp_profile *profile);

/* True when the present is the highest peak that the sites know of. */
bool tp_cells_peak_now(const struct tp_profile *profile);

/* Bytes of the blocks of a class; 1 for large ones, whose sums are bytes. */
double tp_cells_size(const struct tp_profile *profile, uint32_t class);

/* What was asked for of what is live in a record's site, as far as it says. */
int64_t tp_cells_live_requested(const struct tp_site_record *record);

#endif
