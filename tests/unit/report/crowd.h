/* SPDX-License-Identifier: MIT */
/*
 * crowd.h - the recording of a large program that never ran: any number of call sites.
 *
 * Idea: what makes a report slow is not in small recordings. Stacks are 20 to 60 frames
 * deep and share their outer part, as those of a program with a deep main loop do: about
 * two nodes are new for each. Most sites have one sample, a few have many; most have one
 * size class, some up to three; sizes are mixed, intervals have grown, half is live.
 *
 * The totals are what the samples estimate, with an error as chance would make it. In
 * exact mode they are the sums.
 */
#ifndef TP_TESTS_UNIT_REPORT_CROWD_H
#define TP_TESTS_UNIT_REPORT_CROWD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct crowd_wish {
    size_t n_stacks;
    bool exact;     // else sampled
    uint64_t seed;  // the same seed is the same program, and other figures after `run`
    uint64_t run;
};

/* The bytes of the recording, which the caller frees; NULL without memory. */
unsigned char *crowd_make(const struct crowd_wish *wish, size_t *out_n);

#endif
