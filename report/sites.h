/* SPDX-License-Identifier: MIT */
/*
 * sites.h - who allocates: from samples to sites with names and error bars.
 *
 *     dump --sites.c--> sites with figures     dump --symbols.c--> names of addresses
 *                 |
 *            estimate.c  from weights to figures that add up
 *             believe.c  from weights to intervals
 *
 * Idea: a site is a call stack. The live file knows sums of weights for each stack and
 * size class; the exact counters know what they must add up to. So weights are scaled
 * to the exact counts, class by class, and what the samples cannot tell is said in an
 * interval. Names are looked up last, for the stacks that are shown.
 *
 * Holds always, in sites that were built:
 *   - each of the five figures, summed over all sites, is exactly that of the totals;
 *   - low <= value <= high;
 *   - what belongs to no stack (classes without a sample, stacks that were lost) is in
 *     sites of its own, which have no frames and say why.
 *
 * Knows nothing of: text, JSON, terminals.
 */
#ifndef TP_REPORT_SITES_H
#define TP_REPORT_SITES_H

#include "report/model.h"

/* ---- symbols.c: names of addresses; its parts are in symbols.h --------------------- */

/* One function at an address; inlined functions share the address with their callers. */
struct tp_symbol {
    const char *function;  // demangled; "" when unknown
    const char *file;      // of the source; "" when unknown
    uint32_t line;         // 0 when unknown, or made up by the compiler
    bool inlined;          // into the one that follows
};

/* What may be asked, and what may not. All zero is the default. */
struct tp_symbols_wish {
    bool debuginfod;            // ask the servers of $DEBUGINFOD_URLS
    bool no_cache;              // neither read nor write $XDG_CACHE_HOME/tidepool
    unsigned threads;           // modules read at once; 0: one a processor, at most 16
    uint64_t cache_bytes;       // of debug information held at once; 0: 512 MiB
    bool quiet;                 // no progress on stderr
    const char *debug_folders;  // separated by ':', instead of /usr/lib/debug; or NULL
};

struct tp_symbols;

/*
 * Symbols for the addresses of a report's dumps. Looks up nothing yet. The wish is
 * copied, but not its text. Fails: NULL, without memory.
 */
struct tp_symbols *tp_symbols_open(const struct tp_symbols_wish *wish);
void tp_symbols_close(struct tp_symbols *symbols);

/*
 * Looks up the addresses of `n` nodes of the dump and of all their callers, module by
 * module, in parallel. What cannot be found is no error, nor is a number that is no node.
 * May be called again, for more nodes or for other dumps; one that was loaded anew at the
 * same place must be resolved anew. Progress on stderr when it takes half a second and
 * stderr is a terminal. Fails: without memory. Context: one thread at a time.
 */
bool tp_symbols_resolve(struct tp_symbols *symbols, const struct tp_dump *dump,
    const uint32_t *nodes, size_t n, struct tp_error *error);

/*
 * The functions at a node's address, innermost first; at least one, which has an empty
 * name where nothing is known or nothing was resolved. The last one is not inlined. Lives
 * as long as `symbols`. Context: any thread, while nobody resolves.
 */
const struct tp_symbol *tp_symbols_at(const struct tp_symbols *symbols,
    const struct tp_dump *dump, uint32_t node, size_t *out_n);

/* ---- estimate.c and quantile.c: figures with intervals ----------------------------- */

struct tp_estimate {
    int64_t value;
    int64_t low;  // 95 % interval; both are `value` where nothing was left to chance
    int64_t high;
};

/* What is believed of a figure: the first three cumulants of its distribution. */
struct tp_belief {
    double mean;
    double variance;
    double third;  // its third central moment
};

/*
 * What one site has of one stratum: of the blocks of one kind whose sum over all sites
 * is counted exactly. The upper half is given, the lower half worked out.
 */
struct tp_part {
    double sum;       // of weights, in the unit of the stratum
    double variance;  // of that sum; 0: nothing was left to chance
    double certain;   // at least this was seen
    double least;     // a whole number it cannot fall below where all are scaled alike
    double most;      // that it cannot pass where the difference is taken; 0: no limit
    int64_t value;    // its part of the exact sum; not negative
    double wanted;    // `value` before it was made whole
};

enum tp_calibration {
    TP_CALIBRATE_SHARES,      // all are scaled alike: blocks of one size
    TP_CALIBRATE_DIFFERENCE,  // who is uncertain takes the difference
};

/*
 * Gives the parts values that add up to `total`, less what no part can be charged with,
 * which is returned: what is missing where nothing was left to chance, or cannot be
 * chance any more, or would be more than the parts' most; all of it when it is negative
 * or there is no part. Sums come first: a least or most that contradicts them is passed.
 */
int64_t tp_estimate_calibrate(
    struct tp_part *parts, size_t n, int64_t total, enum tp_calibration how);

/* What all parts of a stratum have together. */
struct tp_whole {
    double sum;
    double variance;
    double uncertain;  // sum of the parts with a variance
};

struct tp_whole tp_estimate_whole(const struct tp_part *parts, size_t n);

/* The belief in a sum of independent figures; `scale` is one of the added. */
void tp_belief_add(struct tp_belief *to, const struct tp_belief *part, double scale);

/* The interval of a belief, kept within least .. most and around `value`. */
struct tp_estimate tp_estimate_of(
    const struct tp_belief *belief, int64_t value, double least, double most);

/*
 * The x below which a gamma distribution of that shape (and scale 1) has the share `p`.
 * Needs: shape > 0, 0 < p < 1.
 */
double tp_gamma_quantile(double shape, double p);

/* The same of a distribution with these cumulants (Pearson's type III). */
double tp_belief_quantile(const struct tp_belief *belief, double p);

/* Its quantiles 0.025 and 0.975, to 1e-4 of a deviation, from a table. */
double tp_belief_end(const struct tp_belief *belief, bool upper);

/* ---- sites.c: figures of sites ------------------------------------------------------ */

enum tp_site_kind {
    TP_SITE_STACK,      // a call stack
    TP_SITE_UNSAMPLED,  // of classes in which no block was sampled
    TP_SITE_NO_STACK,   // sampled, but without a single frame
};

struct tp_site {
    enum tp_site_kind kind;
    uint32_t node;          // innermost frame in the dump's nodes; 0: none
    enum tp_stack_end end;  // why the stack has no further frames
    uint64_t samples;
    struct tp_estimate allocations;
    struct tp_estimate allocated_bytes;
    struct tp_estimate live_blocks;
    struct tp_estimate live_bytes;
    struct tp_estimate peak_bytes;
    struct tp_estimate temporary_blocks;  // freed before their thread allocated again
    int64_t live_requested_bytes;         // in exact mode
    // Of the live samples of this site, from their birth until the dump was made:
    uint64_t live_samples;
    uint64_t age_ns_least;
    uint64_t age_ns_median;  // by the weights of the samples
    uint64_t age_ns_most;
};

/*
 * What a site has of a size class. Over all sites these add up exactly to the class;
 * over all classes, to the site.
 */
struct tp_site_class {
    size_t site;     // its index
    uint32_t class;  // of the profile, or TP_FORMAT_LARGE
    uint64_t samples;
    int64_t allocations;
    int64_t allocated_bytes;
    int64_t live_blocks;
    int64_t live_bytes;
};

struct tp_sites {
    struct tp_site *sites;  // one a stack, in order of their nodes; the others last
    size_t n_sites;
    struct tp_site_class *classes;  // in order of the sites, then of the classes
    size_t n_classes;
    enum tp_sampling_mode mode;
    int64_t live_requested_bytes;  // in exact mode, of all
};

/*
 * Works out the sites of a profile; none when sampling was off. Fails: without memory.
 * Figures that cannot be true are no failure: what no site can be charged with is in
 * the site of kind UNSAMPLED, and there alone a figure may be negative.
 */
bool tp_sites_build(struct tp_sites *out_sites, const struct tp_profile *profile,
    const char *name, struct tp_error *error);

void tp_sites_fini(struct tp_sites *sites);

/* ---- ages.c ------------------------------------------------------------------------- */

/*
 * Fills the ages of all sites; `site_of_row` gives the index of the site of each of the
 * dump's site records, or UINT32_MAX. Fails: without memory.
 */
bool tp_ages_build(
    struct tp_sites *sites, const struct tp_dump *dump, const uint32_t *site_of_row);

#endif
