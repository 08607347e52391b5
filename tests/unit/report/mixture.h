/* SPDX-License-Identifier: MIT */
/*
 * mixture.h - a simulated program whose sites are known, seen through samples.
 *
 * Idea: a program is a few sites, each with sizes, a number of blocks and how they live.
 * It is run with the real sampler and the real weights; what they give is written into
 * the records of a dump as the library would, next to the truth.
 *
 * A run has two halves. Blocks of the first live at least until its end; then they die
 * with the chance that the site says. Blocks of the second half die at once or stay. So
 * the peak is in the middle, when most of them die, or at the end.
 */
#ifndef TP_TESTS_UNIT_REPORT_MIXTURE_H
#define TP_TESTS_UNIT_REPORT_MIXTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shim/format.h"

enum {
    MIXTURE_SITES = 101,
    MIXTURE_CLASSES = TP_FORMAT_CLASSES,
    MIXTURE_ROWS = MIXTURE_SITES * MIXTURE_CLASSES + 1,  // row 0 is not used
    MIXTURE_THREADS = 8,
};

struct mixture_site {
    uint64_t least;  // sizes: each power of two between the two as likely as another,
    uint64_t most;   // and each size within it; or one size
    uint32_t blocks;
    double dies;     // chance that a block is freed
    uint32_t burst;  // blocks taken in a row; 0: one
};

struct mixture {
    const char *name;
    uint64_t interval;
    bool adapt;        // the interval, to a clock that runs slow and fast by turns
    uint32_t threads;  // 0: one
    bool equal_seeds;  // of all threads, which then take turns: a fault, for control
    bool exact;
    size_t n_sites;
    struct mixture_site sites[12];
    size_t same;  // further sites like the last one
};

enum mixture_figure {
    MIXTURE_ALLOCATIONS,
    MIXTURE_ALLOCATED_BYTES,
    MIXTURE_LIVE_BLOCKS,
    MIXTURE_LIVE_BYTES,
    MIXTURE_PEAK_BYTES,
    MIXTURE_FIGURES,
};

struct mixture_truth {
    int64_t figure[MIXTURE_FIGURES];
    double expected[MIXTURE_FIGURES];  // samples among what the figure counts
};

struct mixture_run {
    struct tp_sampling_record sampling;
    int64_t live_bytes;
    int64_t peak_bytes;
    struct tp_thread_slot slot;
    struct tp_class_record classes[TP_FORMAT_POOL_CLASSES];
    struct tp_node_record nodes[MIXTURE_SITES + 1];
    struct tp_site_record rows[MIXTURE_ROWS];
    struct mixture_truth truth[MIXTURE_SITES];
    double weights[MIXTURE_SITES][2];  // not calibrated: sums of w, and of w * bytes
    double raw[MIXTURE_SITES][2];      // neither weighed: samples, and their bytes
    double sampled_peak;               // highest sum of w * bytes of live samples
    size_t n_sites;
};

/* Runs the program once. Static memory; the next run takes its place. */
struct mixture_run *mixture_run(const struct mixture *mixture, uint64_t seed);

/* ---- mixtures.c ---- */

/* The programs that intervals are judged by; the last has no name. */
extern const struct mixture mixtures[];

/* How many of the intervals of a figure shall cover the truth, as a share. */
struct mixture_cover {
    double least;
    double most;
};
struct mixture_cover mixture_cover(const char *mixture, int figure);

#endif
