/* SPDX-License-Identifier: MIT */
/*
 * listing.h - how `tidepool ls` shows a survey, as text and as JSON.
 *
 * Knows nothing of: files, how the survey was made.
 */
#ifndef TP_REPORT_LISTING_H
#define TP_REPORT_LISTING_H

#include <stdbool.h>
#include <stddef.h>

struct tp_cleaned;
struct tp_survey;
struct tp_writer;

struct tp_listing {
    const struct tp_survey *survey;
    const struct tp_cleaned *cleaned;  // what went just now
    const char *const *folders;        // that the user named
    size_t n_folders;
    bool asked;  // the user asked for cleaning
};

/* A table, calm and aligned; the next command to type stands below it. */
void tp_listing_text(struct tp_writer *writer, const struct tp_listing *listing);

/* The same for machines: schema tidepool.ls/1. */
void tp_listing_json(struct tp_writer *writer, const struct tp_listing *listing);

#endif
