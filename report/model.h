/* SPDX-License-Identifier: MIT */
/*
 * model.h - a profile in memory, and the three steps that lead to it.
 *
 *     name or PID --find.c--> source --load.c--> dumps --model.c--> profiles
 *     profiles of one recording or several --tree.c--> processes and programs
 *     `-------------------------- inputs.c: all of it --------------------'
 *
 * Idea: a source is an open file and what is known of its process. A dump is the
 * file's content after every bound has been checked, still in the records of the
 * format. A profile is what people and machines want to know, with the derived
 * figures worked out; emitters see profiles only.
 *
 * Holds always, in a profile that was built:
 *   - live_blocks = allocations - frees, live_bytes = allocated - freed, everywhere;
 *   - the classes plus `large` sum exactly to the totals, and so do the threads;
 *   - peak_low <= peak <= peak_high and live_bytes <= peak_high;
 *   - no figure has wrapped: a sum beyond 2^63 is an error of the input.
 *
 * Knows nothing of: text, JSON, terminals.
 */
#ifndef TP_REPORT_MODEL_H
#define TP_REPORT_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "report/report.h"
#include "shim/format.h"

/* ---- find.c: where the bytes are ------------------------------------------- */

struct tp_unpack;

struct tp_source {
    int fd;
    char *path;   // as messages name it
    uint64_t at;  // where tp_image_freeze() finds the dump; 0: the first. In a
                  // compressed file only forwards, and after the dump before it
    bool gone;    // a live file whose process has ended, or goes on without it
    bool in_use;  // a live file that somebody maps, be the process seen or not
    struct tp_unpack *packed;  // the bytes of a compressed file; NULL: it is not
};

/*
 * Opens what the user named: a file of that name, else the live file of the process
 * with that number, else one that such a process left behind. NULL means the newest
 * *.tide or *.tide.zst in the current folder. A file compressed by zstd is known by its
 * first bytes.
 *
 * Fails: false, with nothing open.
 */
bool tp_source_open(
    struct tp_source *out_source, const char *name, struct tp_error *error);

/* True when the source has no byte at `at` or behind it. What cannot be told is none. */
bool tp_source_ended(const struct tp_source *source);

/*
 * Fills `out_note` and returns true when `name` is the number of a process that runs now
 * without the library, and the source is what an earlier one of that number left behind.
 */
enum { TP_SOURCE_NOTE = 200 };
bool tp_source_note(
    char out_note[TP_SOURCE_NOTE], const struct tp_source *source, const char *name);

/* Closes and frees; accepts a zeroed source whose fd is 0 and path NULL. */
void tp_source_close(struct tp_source *source);

/* ---- process.c: what the kernel says of a process that runs now ------------ */

struct tp_process_now {
    bool running;
    bool stopped;  // by a signal or a debugger
    uint32_t ppid;
    uint64_t start_jiffies;
    uint64_t rss_bytes;
    uint64_t rss_peak_bytes;
};

/* Asks /proc; `running` is false when there is no such process or only its zombie. */
void tp_process_now_read(struct tp_process_now *out_now, uint32_t pid);

/* True when `boot_id` is the present boot's, or when either cannot be told. */
bool tp_process_same_boot(const uint8_t boot_id[16]);

/* ---- load.c: bytes to records ---------------------------------------------- */

/* The frozen bytes of one dump; whole and self-contained. */
struct tp_image {
    unsigned char *bytes;
    size_t n_bytes;
};

/* Reads up to n bytes at `offset`; returns how many, less only at the end or an error. */
size_t tp_image_read(int fd, void *to, size_t n, uint64_t offset);

/* Row `i` of the image. Needs: i < n_regions of a header that has been checked. */
struct tp_region tp_image_row(const struct tp_image *image, uint32_t i);

/* True when the records of `row` lie inside the image. */
bool tp_image_holds(const struct tp_image *image, const struct tp_region *row);

/* One dump. Every array is a copy: the file may change or go away. */
struct tp_dump {
    struct tp_file_header header;
    struct tp_process_record process;
    struct tp_totals_record totals;
    struct tp_class_record classes[TP_FORMAT_POOL_CLASSES];
    size_t n_classes;
    struct tp_thread_slot *slots;
    size_t n_slots;
    struct tp_ended_record *ended;
    size_t n_ended;
    struct tp_latency_record *latency;
    size_t n_latency;
    // Who allocates; all zero where nothing was sampled. See records.c for what holds.
    struct tp_sampling_record sampling;
    struct tp_module_record *modules;  // end 0: no module of that number
    size_t n_modules;
    struct tp_node_record *nodes;  // 0 is the root
    size_t n_nodes;
    struct tp_site_record *sites;  // used 0: no site of that number
    size_t n_sites;
    struct tp_sample_record *samples;  // alive, all of them
    size_t n_samples;
    struct tp_point_record *points;  // in the order of their ticks
    size_t n_points;
    char *exe;      // terminated
    char *command;  // n_command_bytes, the arguments ended by NUL each
    size_t n_command_bytes;
    bool running;     // of a live file: its process still runs
    uint64_t now_ns;  // CLOCK_MONOTONIC of the reading, for a running process
    uint64_t rss_bytes;
    uint64_t rss_peak_bytes;
};

struct tp_recording {
    struct tp_dump *dumps;
    size_t n_dumps;
};

/*
 * Reads every dump of a recording, or the one state of a live file.
 *
 * Trusts nothing: whatever the bytes are, the result is a recording of at least one
 * dump or an ordinary error. Memory is at most a small multiple of the file.
 * Of a live file that is still being written, no class shows more frees than
 * allocations.
 */
bool tp_recording_load(struct tp_recording *out_recording,
    const struct tp_source *source, struct tp_error *error);

/* The same from bytes in memory, which are called `name` in messages. */
bool tp_recording_parse(struct tp_recording *out_recording, const unsigned char *bytes,
    size_t n_bytes, const char *name, struct tp_error *error);

void tp_recording_fini(struct tp_recording *recording);

/*
 * Freezes a live file into the bytes of a dump: used records only, state DUMP, and
 * reason REQUEST, or KILLED when its process is gone. Of a file that holds dumps
 * already, the one at source->at is taken as it is.
 */
bool tp_image_freeze(
    struct tp_image *out_image, const struct tp_source *source, struct tp_error *error);

void tp_image_fini(struct tp_image *image);

/*
 * records.c: sees that every record of who allocates leads to where it says. NULL, or
 * what is wrong with a dump; of a live file bad records are left out.
 */
const char *tp_dump_check_records(struct tp_dump *dump, bool live);

/* live.c: what is special about a live file. */

/*
 * Second look at a live file that `image` was copied from just now. False: the copy is
 * of no one moment and has to be made again.
 */
bool tp_image_settle(struct tp_image *image, int fd);

/* True when slot `index` of a live file counts, with that word in its totals. */
bool tp_slot_counts(uint64_t folded, uint64_t index);

/* Clears the slots of a live file's dump that do not count. */
void tp_dump_leave_out_folded(struct tp_dump *dump);

/* True when the record stands for a thread that ended. */
bool tp_ended_counts(const struct tp_dump *dump, const struct tp_ended_record *record);

/* freeze.c: what tp_image_freeze() makes of a live file that was copied and parsed. */
bool tp_image_layout(struct tp_image *out, const struct tp_image *live,
    const struct tp_dump *dump, struct tp_error *error);

/* ---- model.c and latency.c: records to figures ------------------------------ */

struct tp_class {
    uint64_t size_bytes;  // of every block; 0 for large
    uint64_t allocations;
    uint64_t frees;
    uint64_t requested_bytes;
    uint64_t allocated_bytes;
    uint64_t freed_bytes;
    int64_t live_blocks;
    int64_t live_bytes;
    uint64_t slabs;
    uint64_t slab_bytes;
};

struct tp_thread {
    uint32_t tid;  // 0 in a row that stands for several threads
    bool running;
    char name[40];  // terminated; not known to be UTF-8
    struct tp_thread_sums sums;
};

struct tp_totals {
    uint64_t allocations;
    uint64_t frees;
    uint64_t requested_bytes;
    uint64_t allocated_bytes;
    uint64_t freed_bytes;
    int64_t live_blocks;
    int64_t live_bytes;
    int64_t peak_bytes;
    int64_t peak_low;
    int64_t peak_high;
    bool peak_exact;
    uint64_t peak_ns;  // from the start of the process
};

struct tp_calls {
    uint64_t entries[TP_ENTRIES];  // indexed by enum tp_entry, malloc derived
    uint64_t free;
    uint64_t realloc_in_place;
    uint64_t realloc_moved;
    uint64_t failed;
};

struct tp_latency {
    char operation[TP_FORMAT_NAME + 1];
    uint64_t count;
    uint64_t total_ns;
    uint64_t average_ns;
    uint64_t min_ns;
    uint64_t p50_ns;
    uint64_t p99_ns;
    uint64_t p999_ns;
    uint64_t max_ns;
    double per_second;
};

enum {
    TP_LATENCY_NAMES = 32,  // distinct operations that a profile keeps
    TP_COVERAGE_REASONS = 8,
};

struct tp_profile {
    const char *reason;  // exit, signal, interval, request, live or killed
    uint64_t sequence;
    uint64_t time_unix_ns;
    bool complete;
    const struct tp_dump *dump;  // names, paths and arguments stay there
    uint64_t duration_ns;
    struct tp_totals totals;
    struct tp_calls calls;
    struct tp_class classes[TP_FORMAT_POOL_CLASSES];
    size_t n_classes;
    struct tp_class large;
    struct tp_thread *threads;  // running, ended, then the remainder
    size_t n_threads;
    struct tp_latency latency[TP_LATENCY_NAMES];
    size_t n_latency;
    bool inert;
    const char *coverage_reasons[TP_COVERAGE_REASONS];
    size_t n_coverage_reasons;
    uint64_t foreign_frees;
    bool counts;  // in sums: the last dump of its program (see tp_tree_build)
    uint64_t deepbind_stripped;
    uint64_t namespaces;
    uint64_t self_bytes;
    uint64_t self_cpu_ns;
    uint64_t live_file_bytes;
};

/*
 * Works out a profile from a dump, which must outlive it.
 *
 * Fails: false when the figures cannot be true (a sum beyond 2^63, blocks of a class
 * that has no size) or memory is short; `name` is what messages call the input.
 */
bool tp_profile_build(struct tp_profile *out_profile, const struct tp_dump *dump,
    const char *name, struct tp_error *error);

/* True when a profile can be built from the dump. */
bool tp_dump_is_sound(const struct tp_dump *dump);

/*
 * Allocations and frees in the dump. The live file of a process whose last dump was taken
 * tells something new only when it has counted more.
 */
uint64_t tp_dump_counted(const struct tp_dump *dump);

void tp_profile_fini(struct tp_profile *profile);

/* Nanoseconds a tick of the dump's cycle counter; 1 when that cannot be told. */
double tp_latency_tick_ns(const struct tp_dump *dump);

/* Nanoseconds that a frame of a stack took, where walks were timed; 0: none was. */
double tp_latency_frame_ns(const struct tp_dump *dump);

/*
 * Merges the records of one name, in order of first appearance, into at most
 * TP_LATENCY_NAMES rows and returns how many there are. Records that were never
 * used are left out.
 */
size_t tp_latency_build(struct tp_latency rows[TP_LATENCY_NAMES],
    const struct tp_dump *dump, uint64_t duration_ns);

/*
 * The value in ticks below which the share `q` of the samples lies, interpolated
 * inside its bucket and never outside [min, max] of the record.
 */
double tp_latency_quantile(const struct tp_latency_record *record, double q);

/* ---- tree.c: profiles to processes ------------------------------------------- */

/* What a process did itself: without the blocks and counts that a fork gave it. */
struct tp_work {
    uint64_t allocations;
    uint64_t frees;
    uint64_t requested_bytes;
    uint64_t allocated_bytes;
    uint64_t freed_bytes;
    int64_t live_blocks;  // allocations - frees; a forked child may free what it
    int64_t live_bytes;   // inherited, then they are negative
    int64_t peak_bytes;   // of a sum the highest; inherited blocks are part of it
};

/* Of one dump. */
struct tp_work tp_work_of(const struct tp_profile *profile);

void tp_work_add(struct tp_work *to, const struct tp_work *work);

#define TP_NO_NODE SIZE_MAX

/* A process: one program, or several that replaced each other by exec. */
struct tp_node {
    uint32_t pid;
    size_t parent;  // its index in the tree; TP_NO_NODE: not recorded
    size_t depth;
    size_t n_below;     // processes below it; they follow it
    size_t first;       // of its dumps in the report, and they follow each other
    size_t n_profiles;  // dumps
    size_t n_programs;
    uint64_t duration_ns;
    struct tp_work own;
};

/* All processes of a run that ran the same executable. */
struct tp_program {
    const char *name;
    const char *exe;  // its path, or again the name
    size_t processes;
    struct tp_work sum;
};

struct tp_tree {
    struct tp_node *nodes;  // each before those below it
    size_t n_nodes;
    struct tp_program *programs;  // by allocated bytes, most first
    size_t n_programs;
    struct tp_work sum;
    bool forked;  // some process inherited an account
};

/* ---- inputs.c: from names to figures ----------------------------------------- */

struct tp_view;

/* One recording or several, and the profiles of all their dumps. */
struct tp_report {
    struct tp_recording *recordings;
    size_t n_recordings;
    struct tp_profile *profiles;  // in the order of the tree
    size_t n_profiles;
    struct tp_tree tree;
    char note[512];  // what the reader should know of the input; empty: nothing
    const struct tp_view *view;  // how to show it; NULL: an overview of all
};

/*
 * Finds the processes and their tree, and brings the profiles into its order: that of
 * a file says only who ended first. Fails: when memory is short.
 */
bool tp_tree_build(struct tp_report *report, struct tp_error *error);

void tp_tree_fini(struct tp_tree *tree);

/*
 * Opens, loads and builds: all a command needs to read the `n_names` inputs that the
 * user named. A folder stands for every recording and live file in it. Without any name
 * it is the newest recording of the current folder.
 */
bool tp_report_open(struct tp_report *out_report, const char *const *names,
    size_t n_names, struct tp_error *error);

void tp_report_fini(struct tp_report *report);

#endif
