/* SPDX-License-Identifier: MIT */
/*
 * json_sites.h - the part of the JSON that says who allocates.
 */
#ifndef TP_REPORT_JSON_SITES_H
#define TP_REPORT_JSON_SITES_H

struct tp_writer;
struct tp_profile;
struct tp_symbols;
struct tp_sites;

/*
 * Writes the members sampling, sites, timeline and modules of a recording; the last
 * three where the recording has them. `symbols` may be NULL: functions have no names.
 * Needs: resolved symbols, for the nodes of all sites and of their callers.
 */
void tp_json_sites(struct tp_writer *w, const struct tp_profile *profile,
    const struct tp_symbols *symbols, const struct tp_sites *sites);

#endif
