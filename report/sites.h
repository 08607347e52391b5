/* SPDX-License-Identifier: MIT */
/*
 * sites.h - who allocates: from samples to sites with names and error bars.
 *
 *     dump --estimate.c--> sites with figures     dump --symbols.c--> names of addresses
 *              `------------------ sites.c ------------------'
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

/* ---- estimate.c: figures with intervals ------------------------------------------- */

struct tp_estimate {
    int64_t value;
    int64_t low;  // 95 % interval; both are `value` where nothing was left to chance
    int64_t high;
};

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
    uint64_t age_ns_median;
    uint64_t age_ns_most;
};

struct tp_sites {
    struct tp_site *sites;  // one a stack, in order of their nodes; the others last
    size_t n_sites;
    enum tp_sampling_mode mode;
    int64_t live_requested_bytes;  // in exact mode, of all
};

/*
 * Works out the sites of a profile. Fails: without memory, or when the figures cannot
 * be true.
 */
bool tp_sites_build(struct tp_sites *out_sites, const struct tp_profile *profile,
    const char *name, struct tp_error *error);

void tp_sites_fini(struct tp_sites *sites);

#endif
