/* SPDX-License-Identifier: MIT */
/*
 * output.h - where the account goes: the live file while the process runs, dumps
 * when someone wants to keep it.
 *
 * Idea: counters live in memory that a small file on tmpfs is mapped over, so they
 * outlive the process whatever kills it. A dump is written from the same memory with
 * plain system calls and may be made in a signal handler.
 */
#ifndef TP_SHIM_OUTPUT_H
#define TP_SHIM_OUTPUT_H

#include "pool/counters.h"
#include "shim/format.h"
#include "shim/life.h"
#include "shim/profile.h"

#include <sys/types.h>

/* live.c */

/*
 * Creates the live file and maps it over the counters. What fails is said in one
 * line; the counters then stay in anonymous memory. Context: once, at start.
 */
void tp_live_open(void);

/* The process record, for flags and counts that come up later. */
struct tp_process_record *tp_live_process(void);

/* Notes that the program has given up system calls, as tp_os_sandboxed says. */
void tp_live_note_sandbox(void);

/* How far a forked child has come. */
extern struct tp_live_stage {
    bool due;  // its file is still to be made
    bool
        fresh_fork;  // it has reached no slow path yet: too short a life for an account
} tp_live_stage;

/* Makes a file again after tp_live_remove(): the process goes on after all. */
void tp_live_reopen(void);

/*
 * The process ends, its file stays and says so: it is the last dump. Makes no system
 * call but for the clock.
 */
void tp_live_close(void);

/* Removes the file: its account is in a dump, or nobody wants it. Idempotent. */
void tp_live_remove(void);

/* A thread has ended, see tp_host_thread_ended(): a record of what it did. */
void tp_live_thread_ended(
    const struct tp_counters *counters, uint32_t index, const struct tp_sums *did);

/*
 * In a forked child, before anything counts: private copies take the place of the
 * parent's pages. The child's own file is made by tp_live_settle().
 */
void tp_live_forked(void);

/* Makes the file that a fork left due, and refreshes the clocks in the header. */
void tp_live_settle(void);

/* The parts of the file, for the dump. */
struct tp_live_view {
    const struct tp_process_record *process;
    const char *exe;  // exe_bytes of it, not terminated
    uint64_t exe_bytes;
    const char *command;  // each argument ended by a NUL
    uint64_t command_bytes;
    const struct tp_ended_record *ended;
    uint64_t n_ended;
    uint32_t flags;       // enum tp_file_flags
    uint64_t file_bytes;  // of the live file; 0 without one
};
struct tp_live_view tp_live_view(void);

/* frozen.c */

/* The counters of all threads at one moment: those that hold something. */
struct tp_frozen {
    struct tp_counters *slots;
    uint32_t n_slots;
    uint32_t room;  // slots that `slots` could hold
    struct tp_ended_record *ended;
    uint64_t n_ended;
    size_t bytes;  // of the memory that holds both
};

/* Fails: false, without memory, with nothing taken. Context: signal-safe. */
bool tp_frozen_take(struct tp_frozen *out, const struct tp_live_view *view);
void tp_frozen_drop(struct tp_frozen *frozen);

/* copied.c */

/* Records of one kind, copied. */
struct tp_copied {
    void *records;
    uint32_t n;
    size_t bytes;  // of the memory
};

/*
 * Who allocates, at nearly one moment. Every index leads to a record that is here: what
 * refers is copied before what it refers to, and that is never taken back.
 */
struct tp_copies {
    struct tp_sampling_record sampling;
    struct tp_copied samples;  // those that are alive
    struct tp_copied sites;    // by their numbers; what was not complete yet is zero
    struct tp_copied nodes;
    struct tp_copied modules;
    struct tp_copied points;
};

/*
 * Fails: false, without memory; then there is but the sampling record. Context:
 * signal-safe.
 */
bool tp_copies_take(struct tp_copies *out);
void tp_copies_drop(struct tp_copies *copies);

/*
 * For table.c: a place of `bytes` at the end of the live file, which is claimed but has
 * no memory yet; its offset, or 0 when there is no file.
 */
uint64_t tp_live_claim(uint64_t bytes);

/* A further piece of a table. */
struct tp_live_part {
    uint32_t kind;  // enum tp_region_kind
    uint32_t record_bytes;
    uint64_t count;
    void *at;         // where it is to be mapped; reserved address space
    size_t bytes;     // of it, whole pages
    uint64_t offset;  // in a place that was claimed
};

/*
 * Reserves the piece in the file, maps it and lists its records. False: the file has no
 * room for it, and says so; what is mapped at `at` then is nobody's.
 */
bool tp_live_add(const struct tp_live_part *part);

/*
 * What lies in pages of the live file, is written in place, and is in use: part `i`, which
 * may be empty. False: there are no more. Tables apart.
 */
struct tp_live_bytes {
    const void *at;
    size_t bytes;
};
bool tp_live_shared(uint32_t i, struct tp_live_bytes *out);

/* parts.c: what stands where in the live file */

/*
 * The end of the file is a sequence of parts in the order in which they were claimed;
 * rows tell of those that have memory. Neighbours of one kind share a row. Any thread
 * may claim and list, of one kind only one at a time.
 */
struct tp_parts {
    struct tp_file_header *header;
    struct tp_region *rows;  // TP_FORMAT_REGIONS of them
    uint32_t n_rows;         // the header's own number is not trusted
    struct tp_lock lock;
    _Atomic(uint64_t) end;  // what lies behind nobody has claimed
};

/* Forgets all rows; the parts begin at `end`. */
void tp_parts_init(struct tp_parts *parts, uint64_t end);

/* Offset of `bytes` more. */
uint64_t tp_parts_claim(struct tp_parts *parts, uint64_t bytes);

/*
 * Lists records; commit-last. False: there is no row for them, or the lock is held by
 * whoever this thread interrupted.
 */
bool tp_parts_list(struct tp_parts *parts, const struct tp_region *row);

/* growth.c: parts of the live file */

struct tp_live_place {
    char path[TP_PATH];
    dev_t device;
    ino_t inode;
    uint64_t length;  // its hole included
    void *start;      // where its first byte is mapped
};

/* Maps `bytes` of an open file at `at`; false: errno says why. */
bool tp_growth_map_part(int fd, void *at, size_t bytes, uint64_t offset);

/* Reserves pages of an open file; 0 or an errno. Heeds RLIMIT_FSIZE, which would kill. */
int tp_growth_reserve(int fd, uint64_t offset, uint64_t bytes);

/* Maps a further part of the file at `at`, reserved; 0, or an errno and zeros there. */
int tp_growth_map(
    const struct tp_live_place *place, void *at, uint64_t offset, size_t bytes);

/*
 * In a forked child: private memory takes the place of shared pages; the first `keep`
 * bytes stay, as the snapshot has them. Fails: false, and the pages are still the
 * parent's.
 */
bool tp_growth_part(void *at, size_t bytes, size_t keep);

/*
 * Zeros take the place of a part of the file (NULL: there is none), which gives its
 * pages back. False: nothing has changed.
 */
bool tp_growth_release(
    const struct tp_live_place *place, void *at, uint64_t offset, size_t bytes);

/* filing.c: the tables move into a new file */

struct tp_filing {
    uint64_t at[8];  // of each table, in their order; 0: it has no place
    uint64_t bytes;  // reserved for them
};

/* Reserves, fills and lists; false: some table has no room. */
bool tp_filing_fill(struct tp_filing *filing, int fd, struct tp_parts *parts);

/* Maps what was filled; false: errno says why. */
bool tp_filing_map(const struct tp_filing *filing, int fd);

/* Bytes of all tables when they are full. */
uint64_t tp_filing_most(void);

/* names.c: 0, or an errno: EEXIST, and nothing has changed, when `to` is taken. */
int tp_names_give(const char *from, const char *to);

/*
 * The live file is made beside its name: under the name itself a kill must leave nothing
 * but a whole account. Opens it (below 0: errno says why); then, filled, it takes the
 * first name that is free (0, or an errno). Both fill in the names that they found.
 */
enum { TP_BESIDE = TP_PATH + 8 };
int tp_names_create(char path[TP_PATH], char beside[TP_BESIDE], const char *folder);
int tp_names_take(char path[TP_PATH], const char *beside, const char *folder);

/* dump.c */

/*
 * Writes a dump to the next free name of out=, and the summary if there is to be
 * one. One at a time: a second one is dropped. Says why when it fails.
 * Context: anywhere, signal handlers included; preserves errno.
 */
void tp_dump_write(enum tp_dump_reason reason);

/* From here on tp_dump_withdraw() knows of no dump until one is written. */
void tp_dump_forget(void);

/* Removes the last dump: it was made for an exec that failed. */
void tp_dump_withdraw(void);

/* Lets a forked child make dumps of its own. */
void tp_dump_forked(void);

/* summary.c */

/* The account on one screen, as text; returns its length. Signal-safe. */
size_t tp_summary_write(char *out, size_t size, enum tp_dump_reason reason);

#endif /* ---- snapshot.c ---- */

/* Before a fork, in the thread that forks: copies it all, as far as there is memory. */
void tp_snapshot_take(void);

/*
 * In the child: copies `bytes` at `at` as they were at the fork; as they are now, where
 * nothing is known of them.
 */
void tp_snapshot_read(void *out, const void *at, size_t bytes);

/* After the fork, in both. */
void tp_snapshot_end(bool child);
