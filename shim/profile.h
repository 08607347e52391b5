/* SPDX-License-Identifier: MIT */
/*
 * profile.h - who allocates: from a sample to the sums of its site.
 *
 *     pool --host.h--> sample.c   a sampled block, or one of exact mode
 *                        |
 *                      poisson.c  its weight, the distance to the next one
 *                      stack.h    the call stack
 *                        |
 *                      sites.c    stack -> node, node and class -> site; sums, peak
 *                      samples.c  the sampled block, until it is freed
 *                      timeline.c the process as a whole, over time
 *                        |
 *                      table.c    records that grow at the end of the live file
 *
 * Idea: all of it is written into the live file as it happens, commit-last, so a dump
 * is a copy and a kill loses nothing. What only we need (the index over nodes and sites,
 * lists of free records) is private memory.
 *
 * Holds always:
 *   - sums of a site change by atomic adds; a reader may see one without the other;
 *   - an index read back from a record is checked before it is used: the file is never
 *     trusted.
 */
#ifndef TP_SHIM_PROFILE_H
#define TP_SHIM_PROFILE_H

#include "pool/host.h"
#include "shim/format.h"
#include "shim/stack.h"

#include <stdatomic.h>

/* ---- table.c ---- */

/*
 * Records of one kind. Their address space is reserved once and never moves; memory
 * comes piece by piece, from the live file as long as there is one. Record numbers are
 * handed out in order, from `first`, and never taken back.
 *
 * Holds always: n <= ready <= room <= most; records first .. n - 1 were handed out;
 * records 0 .. filed - 1 lie in pages of a file, filed .. ready - 1 in memory of our own.
 */
struct tp_table {
    const uint32_t kind;  // enum tp_region_kind
    const uint32_t record_bytes;
    const uint32_t most;      // records
    const uint32_t first;     // number of the first; those before it stay zero
    char *records;            // reserved on first use
    _Atomic(uint32_t) n;      // above the last number handed out; 0: none was
    _Atomic(uint32_t) ready;  // records that have memory
    // What follows is under the lock.
    struct tp_lock lock;
    _Atomic(uint32_t) grower;  // thread that holds it
    uint32_t room;             // records that have address space; 0: not reserved yet
    uint32_t filed;            // records in pages of a file
    uint32_t claim_first;      // records claim_first .. claim_end - 1 have a place
    uint32_t claim_end;        // in the file,
    uint64_t claim_at;         // from here on
    bool lost;                 // the file has no room: further pieces are anonymous
    bool dead;                 // see tp_tables_part()
};
extern struct tp_table tp_modules;   // struct tp_module_record, from 0
extern struct tp_table tp_nodes;     // struct tp_node_record, from 1; 0 is the root
extern struct tp_table tp_sites;     // struct tp_site_record, from 1
extern struct tp_table tp_samples;   // struct tp_sample_record, from 1
extern struct tp_table tp_timeline;  // struct tp_point_record, from 0

/*
 * One record more, all zero; its number, or UINT32_MAX: full, or no memory, or another
 * thread takes its time to get some.
 * Context: cold; any thread, signal handlers included; lock-free but for growth.
 */
uint32_t tp_table_add(struct tp_table *table);

/* Above the highest number handed out; 0 when none was. All records below have memory. */
uint32_t tp_table_count(const struct tp_table *table);

/* Record `i`; NULL when it was never handed out. */
static inline void *tp_table_at(const struct tp_table *table, uint32_t i)
{
    // Meets the release in tp_table_add().
    if (i >= atomic_load_explicit(&table->n, memory_order_acquire)) return NULL;
    return table->records + (size_t)i * table->record_bytes;
}

/*
 * In a forked child: private copies take the place of what is shared with the parent,
 * and locks are free. False: some could not be had, and that table is empty, and stays
 * so, from here on. Called by tp_live_forked(), before anything else of the profile.
 */
bool tp_tables_part(void);

/* The tables, for who writes dumps or maps files; NULL after the last. */
struct tp_table *tp_table_next(struct tp_table *before);

/* Bytes of a table that have memory, and as many as were ever handed out. */
uint64_t tp_table_bytes(const struct tp_table *table);
uint64_t tp_table_used_bytes(const struct tp_table *table);

/*
 * All of its memory has just been mapped from `offset` of a new file; or could not be,
 * and stays where it is. Needs: nobody adds meanwhile.
 */
void tp_table_filed(struct tp_table *table, uint64_t offset);
void tp_table_not_filed(struct tp_table *table);

/*
 * The record of how samples are taken. Static memory, at the head of the live file from
 * the start; a forked child goes on from its parent's figures.
 */
extern struct tp_sampling_record *const tp_sampling;

/* The weight of a sampled block, and what it stands for. */
struct tp_weight {
    uint64_t samples;       // 1; in exact mode 0: there nobody counts them
    uint64_t blocks;        // w * TP_FORMAT_ONE
    uint64_t requested;     // w * requested bytes
    uint64_t bytes;         // w * usable bytes; 0 for pool classes
    double block_variance;  // w (w - 1); 0 in exact mode, and then not added
    double byte_variance;   // usable^2 w (w - 1); 0 for pool classes
};

/* ---- poisson.c ---- */

/*
 * A heap begins to count: `base` is the mean distance that the user asked for (0: never,
 * 1: every block). Seeds the sampler if it is not yet: differently for every heap, thread
 * and process. A block is the sample when it brings the bytes allocated since above
 * `to_sample`; the bytes of that block do not count for the next one.
 * Context: any.
 */
void tp_poisson_arm(struct tp_sampler *sampler, uint64_t base);

/*
 * A sample was taken: adapts the interval, and draws the next distance. With less than
 * 1 ms since the sample before it doubles, up to 32 * base; with more than 10 ms it is
 * halved, down to base. `now_ticks` is the cycle counter.
 */
void tp_poisson_next(struct tp_sampler *sampler, uint64_t base, uint64_t now_ticks,
    uint64_t ticks_per_ms);

/* True with the chance that a block of `bytes` has; independent of all distances. */
bool tp_poisson_hits(struct tp_sampler *sampler, uint64_t interval, size_t bytes);

/*
 * What a sample stands for that was taken with `interval` in force. The same arguments
 * always give the same weight: it can be worked out again when the block is freed.
 */
struct tp_weight tp_poisson_weight(
    uint64_t interval, size_t bytes, size_t requested, bool large);

/* The same in exact mode: each block stands for itself, without variance. */
struct tp_weight tp_weight_one(size_t bytes, size_t requested, bool large);

/* In a forked child: its samplers go ways of their own. */
void tp_poisson_forked(void);

/*
 * Around arithmetic with doubles in the program's time: it may have unmasked traps, and
 * may look at the flags. The functions above do it themselves; sample.c does it around
 * all that it and sites.c add up. It holds for what is read from memory and written to
 * it in between. Where the processor's state is not known to us, nothing happens.
 */
struct tp_floats {
    uint64_t state;
};
struct tp_floats tp_floats_hold(void);
void tp_floats_return(struct tp_floats held);

/* ---- sample.c ---- */

/* Puts on record how samples will be taken. Needs: the options. Once, at start. */
void tp_sample_open(void);

/* In a forked child, after tp_tables_part(): locks are free. */
void tp_sample_forked(void);

/* ---- sites.c ---- */

/*
 * The node of a stack: of as many of its outer frames as there is room for; 0 when there
 * are none. Fills in stack->nodes; `out_all`: there was room for all.
 */
uint32_t tp_site_node(struct tp_stack *stack, bool *out_all);

/* The site of a node and a size class; 0 when there is no room. */
uint32_t tp_site_of(uint32_t node, uint32_t class, enum tp_stack_end end);

/*
 * Adds to a site, or takes from it. `peak_bytes` is the highest number of live bytes as
 * of now, this change left out: see tp_site_record.
 */
void tp_site_taken(uint32_t site, const struct tp_weight *weight, int64_t peak_bytes);
void tp_site_freed(
    uint32_t site, const struct tp_weight *weight, bool temporary, int64_t peak_bytes);

/* The same in exact mode, for one block; `large_bytes` is 0 for pool classes. */
void tp_site_taken_one(
    uint32_t site, size_t requested, size_t large_bytes, int64_t peak_bytes);
void tp_site_freed_one(uint32_t site, size_t requested, size_t large_bytes,
    bool temporary, int64_t peak_bytes);

/*
 * Adds to both sums of a site; numbers may be negative (modulo 2^64). For blocks that
 * change where they stand: no allocation, no free, yet other bytes or another site.
 */
void tp_site_adjust(uint32_t site, const struct tp_weight *taken,
    const struct tp_weight *freed, int64_t peak_bytes);

/* The innermost frame of a site; 0 when there is none. */
uint32_t tp_site_node_of(uint32_t site);

/* In a forked child. */
void tp_sites_forked(void);

/* ---- samples.c ---- */

/* The number of a record for a live sample; 0: there is no room. */
uint32_t tp_sample_begin(const struct tp_sample_record *content);

/* What is on record of a live sample, and something else. */
bool tp_sample_read(uint32_t mark, struct tp_sample_record *out);
void tp_sample_write(uint32_t mark, const struct tp_sample_record *content);

/* The sample is over: its record, as it was. False: `mark` is none of ours. */
bool tp_sample_end(uint32_t mark, struct tp_sample_record *out);

/* In a forked child, which has sites below `sites`: samples of others are none. */
void tp_samples_forked(uint32_t sites);

/* ---- timeline.c ---- */

/* Adds a point when it is time. Context: a tick, any thread; not in signal handlers. */
void tp_timeline_tick(void);

/*
 * Completes the point that a dump ends with, which the table does not hold: the dump
 * knows all but the maximum, which is at least live_bytes. Signal-safe.
 */
void tp_timeline_now(struct tp_point_record *point);

/* The points in the table, whole ones, in order; at most `room`. Signal-safe. */
uint32_t tp_timeline_copy(struct tp_point_record *out, uint32_t room);

/*
 * Adds a point, merging others when there is no room. False: it is no later than the last.
 * Needs: one thread at a time.
 */
bool tp_timeline_add(const struct tp_point_record *point);

/* In a forked child, which has a time of its own. Called by tp_live_forked(). */
void tp_timeline_forked(void);

#endif
