/* SPDX-License-Identifier: MIT */
/*
 * format.h - the live file and the dump: one layout, the only bridge to report/.
 *
 * Idea: the shim keeps its account in a small file in memory. A dump is the used
 * part of the same layout, frozen; a recording (.tide) is dumps one after another.
 *
 *      0                 header_bytes            offset of region k
 *      +----------------+-----------------------+----- ... -+------------------+
 *      | tp_file_header | region rows           |           | records          |
 *      |  total_bytes   | {kind, record_bytes,  |           | of one kind, each|
 *      |  n_regions     |  count, offset} x n   |           | record_bytes long|
 *      +----------------+-----------------------+----- ... -+------------------+
 *      `------------------------ total_bytes: here the next dump begins -------'
 *
 * Holds always:
 *   - every number is little-endian and of fixed width;
 *   - offsets count from the header of the dump that they stand in;
 *   - a row counts only when n_regions covers it: rows are filled first, counted
 *     last, so that a kill between two stores leaves a readable file;
 *   - a kind may have several rows (the thread slots grow in pieces); a reader adds
 *     them up, skips kinds it does not know, and reads the first record_bytes it
 *     knows of a longer record (fields are only ever added at the end); a latency
 *     record may lack buckets at its end, which are 0 then;
 *   - nothing in the file is ever trusted for memory safety, by writer or reader.
 *
 * tidepool-dump(5) mirrors this page. Knows nothing of: pool, shim, report.
 */
#ifndef TP_SHIM_FORMAT_H
#define TP_SHIM_FORMAT_H

#include <assert.h>
#include <stdint.h>

enum {
    TP_FORMAT_VERSION = 1,
    TP_FORMAT_REGIONS = 120,      // rows that a live file has room for
    TP_FORMAT_POOL_CLASSES = 48,  // size classes of the pools
    TP_FORMAT_LARGE = 48,         // the class index of blocks above the pools
    TP_FORMAT_CLASSES = 49,       // both together
    TP_FORMAT_BUCKETS = 160,      // of a latency histogram
    TP_FORMAT_NAME = 16,          // bytes of a thread's name, as the kernel has it
    TP_FORMAT_SUM_SLOT = 30,      // see tp_totals_record: this slot or the next
    TP_ENDED_FOR_GOOD = -1,       // a slot's index, of no slot: the ended record counts
};

#define TP_FORMAT_MAGIC "TIDEPOOL"

enum tp_file_state {
    TP_FILE_LIVE = 1,  // mapped by a process, or left behind by one that was killed
    TP_FILE_DUMP = 2,  // frozen and whole
};

enum tp_file_flags {
    TP_FILE_LOST_COUNTS = 1,  // some thread's counters could not be kept in the file
    TP_FILE_LOST_SITES = 2,  // records of who allocates are missing; the counts are not
};

enum tp_dump_reason {  // of a dump; 0 in a live file, but for EXIT after a sandbox
    TP_REASON_EXIT = 1,
    TP_REASON_SIGNAL = 2,
    TP_REASON_INTERVAL = 3,
    TP_REASON_REQUEST = 4,  // tidepool dump PID
    TP_REASON_KILLED = 5,   // made by the reader from an orphaned live file
};

/* Stands at byte 0 of a live file and of each dump; the region rows follow. */
struct tp_file_header {
    char magic[8];          // TP_FORMAT_MAGIC, not terminated
    uint32_t version;       // TP_FORMAT_VERSION
    uint32_t header_bytes;  // of this struct: where the rows begin
    uint64_t total_bytes;   // of this dump, header included; grows in a live file
    uint32_t state;         // enum tp_file_state
    uint32_t reason;        // enum tp_dump_reason
    uint32_t flags;         // enum tp_file_flags
    uint32_t row_bytes;     // of one region row
    uint32_t n_regions;     // rows that count
    uint32_t reserved0;
    uint64_t sequence;         // of this dump in its process, from 0
    uint64_t time_unix_ns;     // when the dump was made; last refresh of a live file
    uint64_t monotonic_ns;     // the same instant on CLOCK_MONOTONIC
    uint64_t ticks;            // the same instant on the cycle counter
    uint64_t rss_bytes;        // resident set of the process then; 0 in a live file
    uint64_t rss_peak_bytes;   // its high-water mark; 0 in a live file
    uint64_t live_file_bytes;  // of pages of the live file; 0: none, or unknown
    uint8_t reserved1[24];
};
static_assert(sizeof(struct tp_file_header) == 128, "the header is part of the format");

enum tp_region_kind {
    TP_REGION_PROCESS = 1,    // one struct tp_process_record
    TP_REGION_EXE = 2,        // bytes: path of the executable, not terminated
    TP_REGION_COMMAND = 3,    // bytes: the arguments, each ended by a NUL
    TP_REGION_CLASSES = 4,    // struct tp_class_record, one a size class, in order
    TP_REGION_TOTALS = 5,     // one struct tp_totals_record
    TP_REGION_THREADS = 6,    // struct tp_thread_slot
    TP_REGION_ENDED = 7,      // struct tp_ended_record
    TP_REGION_LATENCY = 8,    // struct tp_latency_record; several may share one name
    TP_REGION_SAMPLING = 9,   // one struct tp_sampling_record
    TP_REGION_MODULES = 10,   // struct tp_module_record
    TP_REGION_NODES = 11,     // struct tp_node_record
    TP_REGION_SITES = 12,     // struct tp_site_record
    TP_REGION_SAMPLES = 13,   // struct tp_sample_record
    TP_REGION_TIMELINE = 14,  // struct tp_point_record
};

struct tp_region {
    uint32_t kind;          // enum tp_region_kind
    uint32_t record_bytes;  // 1 for the kinds that are bytes
    uint64_t count;         // records
    uint64_t offset;        // of the first, from the header; a multiple of 8
    uint64_t reserved;
};
static_assert(sizeof(struct tp_region) == 32, "the rows are part of the format");

enum tp_process_flags {
    TP_PROCESS_INERT = 1,       // loaded, but another malloc serves the program
    TP_PROCESS_FORKED = 2,      // began as a fork of parent_pid, without exec
    TP_PROCESS_NO_RANGE = 4,    // no address space for the pools: all blocks are large
    TP_PROCESS_NO_FILE = 8,     // the account is in anonymous memory: lost on SIGKILL
    TP_PROCESS_SANDBOXED = 16,  // gave up system calls: its live file is its last dump
    TP_PROCESS_OTHER_MALLOC = 32,   // with INERT: another library's, not the program's
    TP_PROCESS_DEEPBIND_KEPT = 64,  // a library was opened with RTLD_DEEPBIND
};

/* Who the process is; written before the file can be found, but for the last counts. */
struct tp_process_record {
    uint32_t pid;
    uint32_t ppid;   // at start
    uint32_t flags;  // enum tp_process_flags
    uint32_t page_bytes;
    uint64_t start_unix_ns;  // when the library started in it
    uint64_t start_monotonic_ns;
    uint64_t start_ticks;    // cycle counter at the same instant
    uint64_t start_jiffies;  // field 22 of /proc/PID/stat: names a process for ever
    uint8_t boot_id[16];     // of the kernel that ran it
    char name[64];           // last part of the executable's path, terminated
    char host[64];           // terminated
    uint64_t inherited_allocations;      // counted before a fork made this process:
    uint64_t inherited_frees;            // part of the counters, not of its own doing
    uint64_t inherited_bytes;            // live bytes at that moment
    uint64_t inherited_requested_bytes;  // as inherited_allocations
    uint64_t inherited_allocated_bytes;  // likewise; freed = allocated - live
    uint32_t deepbind_stripped;  // libraries opened without the RTLD_DEEPBIND asked for
    uint32_t namespaces;         // that the program opened with dlmopen
    uint8_t reserved[16];
};
static_assert(sizeof(struct tp_process_record) == 256, "format");

/* One size class of the pools. The reader needs nothing of the pool's arithmetic. */
struct tp_class_record {
    uint64_t size_bytes;  // of every block
    uint64_t slabs;       // in use now
    uint64_t slab_bytes;  // address space of those slabs
};
static_assert(sizeof(struct tp_class_record) == 24, "format");

/*
 * What belongs to no thread; `reserved` may hold the writer's own.
 *
 * Slots of threads that ended are given up when there are many: their figures are
 * added to those of slot 30 or slot 31 of a live file, and they are set to zero.
 * `folded` says at any instant which slots count. Its bit 32 names the sums: slot
 * 30 + that bit, its twin does not count; its low 16 bits are the first and the 16 bits
 * above them the number of further slots that do not count. What stands above bit 32
 * changes with every fold. A dump holds only what counted, and `folded` means nothing.
 *
 * The peak of live (usable) bytes P:
 *   peak_single              exact maximum while one thread ran;
 *   peak_low <= P            and P <= max(peak_single, peak_high) always;
 *   exact when               peak_single >= peak_high.
 * `net` misses what running threads have not flushed: live bytes are always the sum
 * of the slots; a reader of a live file raises the peak by the open epochs of the
 * slots (see tp_thread_slot).
 */
struct tp_totals_record {
    int64_t net;            // live bytes as of every thread's last flush
    int64_t slack;          // sum of the threads' flush limits: net's error bound
    int64_t peak_single;    // see above
    int64_t peak_low;       // see above; counts only flushes with several threads
    int64_t peak_high;      // see above; counts only flushes with several threads
    int64_t peak_estimate;  // best guess for P: highest net + high at any flush
    uint64_t peak_ticks;    // cycle counter when peak_estimate was last raised
    uint32_t threads_running;
    uint32_t threads_started;
    uint64_t foreign_frees;    // pointers given to free that were not ours
    uint64_t range_bytes;      // address space reserved for the pools
    uint64_t committed_bytes;  // of it, made accessible
    uint64_t empty_bytes;      // slabs that hold no block and wait to be used or purged
    uint64_t large_bytes;      // mapped for the allocator behind the pools
    uint64_t self_bytes;       // Tidepool's own memory: descriptors, heaps, this file
    uint64_t purged_bytes;     // given back to the kernel so far, cumulative
    uint64_t ended_total;      // threads ended, including those without a record
    uint64_t folded;           // which slots of a live file count; see above
    uint8_t reserved[56];
};
static_assert(sizeof(struct tp_totals_record) == 192, "format");

enum tp_slot_state {
    TP_SLOT_FREE = 0,     // never used, or given up
    TP_SLOT_RUNNING = 1,  // a thread counts here
    TP_SLOT_PARKED = 2,   // its thread ended; the counters stay
    TP_SLOT_SHARED = 3,   // threads that have no slot of their own, under a lock
    TP_SLOT_FOLDED = 4,   // the sums of slots that were given up
};

enum tp_entry {  // entry points, in the order of interface.md section 4
    TP_ENTRY_MALLOC = 0,
    TP_ENTRY_CALLOC = 1,
    TP_ENTRY_REALLOC = 2,
    TP_ENTRY_REALLOCARRAY = 3,
    TP_ENTRY_ALIGNED_ALLOC = 4,
    TP_ENTRY_POSIX_MEMALIGN = 5,
    TP_ENTRY_MEMALIGN = 6,
    TP_ENTRY_VALLOC = 7,
    TP_ENTRY_PVALLOC = 8,
    TP_ENTRIES = 9,
};

struct tp_taken {  // one line of the malloc side
    uint64_t allocations;
    uint64_t requested_bytes;
};

struct tp_thread_sums {  // a thread's figures as the report gives them
    uint64_t allocations;
    uint64_t frees;
    uint64_t requested_bytes;
    uint64_t allocated_bytes;
    uint64_t freed_bytes;
    uint64_t remote_frees;
};

/*
 * One thread's counters. Only its thread writes them (a shared slot: under a lock).
 *
 * Derived, never stored: allocated bytes = sum(taken[c].allocations * class size)
 * + large_allocated_bytes; freed bytes likewise from frees[]; calls of malloc =
 * all allocations - (calls[e] - failed[e] over the other allocating entries, where
 * the reallocs that moved or began a block count) + failed[MALLOC]; calls of free =
 * all frees - realloc_moved - realloc_freed.
 *
 * Peak: x = high - room is the net since this thread's last flush, max(high, x) the
 * highest it has been. With one thread running the true peak is
 * max(peak_single, net + max(high, x)).
 *
 * A slot outlives its thread: the next thread goes on counting in it, or finds it at
 * zero after it was given up. What the running thread did itself = counters -
 * base[epoch & 1].
 */
struct tp_thread_slot {
    int64_t room;    // bytes to the epoch's highest net; negative above it
    int64_t width;   // a free with (uint64_t)room > (uint64_t)width must look closer
    int64_t high;    // highest net of this epoch, as far as known
    int64_t limit;   // this thread flushes when |net| passes it
    uint32_t state;  // enum tp_slot_state
    uint32_t tid;
    uint64_t epoch;       // raised by one when a thread ends: commits its ended record
    uint64_t started_ns;  // CLOCK_MONOTONIC
    uint64_t remote_frees;              // of blocks that belong to another thread
    uint64_t frees[TP_FORMAT_CLASSES];  // per class; [TP_FORMAT_LARGE] is large
    struct tp_taken taken[TP_FORMAT_CLASSES];
    uint64_t large_allocated_bytes;  // usable bytes, growth in place included
    uint64_t large_freed_bytes;      // usable bytes, shrinking in place included
    uint64_t calls[TP_ENTRIES];      // calls[TP_ENTRY_MALLOC] is not counted: 0
    uint64_t failed[TP_ENTRIES];     // calls that returned no memory
    uint64_t realloc_in_place;       // reallocs that kept the address
    uint64_t realloc_moved;          // one allocation and one free each
    uint64_t realloc_fresh;          // realloc(NULL, n) that gave a block
    uint64_t realloc_freed;          // realloc(p, 0)
    uint64_t zeroed_for_free;        // callocs that found the memory clean
    char name[TP_FORMAT_NAME];       // terminated
    struct tp_thread_sums base[2];   // the slot's sums when the thread began
    uint8_t reserved[496];
};
static_assert(sizeof(struct tp_thread_slot) == 2048, "format");

/*
 * A thread that ended. Does not count while its slot is running at this epoch or a
 * lower one: the one store that raises the slot's epoch takes the figures from the
 * running thread to this record. Threads that found no record are the difference
 * between the slots' sums and everything recorded.
 */
struct tp_ended_record {
    uint32_t slot;   // index over all slots, in file order; or TP_ENDED_FOR_GOOD
    uint32_t tid;    // written last: 0 while there is no record
    uint64_t epoch;  // of the slot when the thread ended
    uint64_t started_ns;
    uint64_t ended_ns;
    char name[TP_FORMAT_NAME];
    struct tp_thread_sums sums;
    uint8_t reserved[32];
};
static_assert(sizeof(struct tp_ended_record) == 128, "format");

/*
 * How long one kind of operation took, in ticks of the cycle counter. The buckets
 * are log-linear with four steps an octave:
 *   bucket(t) = t                                        for t < 4
 *             = 4 * (log2(t) - 1) + ((t >> (log2(t) - 2)) & 3)   above,
 * so bucket b >= 4 holds [ (4 + b%4) << (b/4 - 1), (5 + b%4) << (b/4 - 1) ); the
 * last one holds everything above it. A record whose count is 0 has no min.
 */
struct tp_latency_record {
    char name[TP_FORMAT_NAME];  // "refill", "new_slab", ...
    uint64_t count;
    uint64_t total_ticks;
    uint64_t min_ticks;
    uint64_t max_ticks;
    uint64_t reserved[2];
    uint64_t buckets[TP_FORMAT_BUCKETS];
};
static_assert(sizeof(struct tp_latency_record) == 1344, "format");

/* ---- who allocates ---- */

enum tp_sampling_mode {
    TP_SAMPLING_OFF = 0,
    TP_SAMPLING_SAMPLED = 1,
    TP_SAMPLING_EXACT = 2,  // every allocation: all weights are 1
};

enum tp_stack_end {           // why a stack has no further frames
    TP_STACK_WHOLE = 0,       // the thread begins here
    TP_STACK_DEPTH = 1,       // there are more than `depth`
    TP_STACK_NO_RULE = 2,     // code without unwind information, and no frame pointer
    TP_STACK_BAD_RULE = 3,    // unwind information that cannot be followed
    TP_STACK_BAD_MEMORY = 4,  // the next frame would lie outside of the stack
    TP_STACK_LOOP = 5,        // the stack pointer did not move outwards
    TP_STACK_NO_ROOM = 6,     // the table of nodes is full: the known part is kept
    TP_STACK_NONE = 7,        // not walked at all: no stack to stand on, or no scratch
    TP_STACK_ENDS = 8,
};

/* How samples were taken, and what became of them. */
struct tp_sampling_record {
    uint32_t mode;                 // enum tp_sampling_mode
    uint32_t depth;                // frames kept at most
    uint64_t interval_bytes;       // mean distance that was asked for
    uint64_t samples;              // taken; in exact mode allocations
    uint64_t dropped;              // samples that found no room, and are in no site
    uint64_t ends[TP_STACK_ENDS];  // stacks by enum tp_stack_end
    uint64_t frames;               // walked, of all stacks
    uint64_t walk_ticks;           // cycle counter spent on that, where it was measured
    uint64_t walks_timed;          // stacks, and
    uint64_t frames_timed;         // frames that it was spent on
    uint32_t peak;                 // number of the last peak: see tp_site_record
    uint32_t reserved0;
    uint64_t peak_bytes;   // live bytes of the process at that peak
    uint64_t node_misses;  // stacks cut because the table of nodes was full
    uint64_t reserved[7];
};
static_assert(sizeof(struct tp_sampling_record) == 208, "format");

enum {
    TP_FORMAT_BUILD_ID = 20,  // bytes kept of a build id
    TP_FORMAT_PATH = 400,
};

enum tp_module_flags {
    TP_MODULE_PATH_CUT = 1,  // the path was longer: its end is missing
    TP_MODULE_MAIN = 2,      // the executable
    TP_MODULE_VDSO = 4,
};

/* A loaded file that occurs in a stack. One that is unloaded keeps its record. */
struct tp_module_record {
    uint64_t base;         // added to addresses of the file when it was loaded
    uint64_t start;        // mapped from here
    uint64_t end;          // to here; written last: 0 while there is no record
    uint64_t loaded_ns;    // CLOCK_MONOTONIC when it was first met
    uint64_t unloaded_ns;  // when it was found gone; 0: it is there
    uint32_t epoch;        // of the loader: raised whenever something was unloaded
    uint32_t flags;        // enum tp_module_flags
    uint8_t build_id[TP_FORMAT_BUILD_ID];
    uint8_t build_id_bytes;  // 0: has none
    uint8_t reserved[43];
    char path[TP_FORMAT_PATH];  // terminated
};
static_assert(sizeof(struct tp_module_record) == 512, "format");

/*
 * A frame below its caller: stacks are paths in one tree, from the outermost frame
 * inwards. Record 0 is the root and means "no frame".
 */
struct tp_node_record {
    uint32_t parent;  // index of the caller's record, always a lower one
    uint32_t module;  // index + 1 of its module; 0: none, `offset` is the address
    uint64_t offset;  // of the call (return address - 1) from the module's base
};
static_assert(sizeof(struct tp_node_record) == 16, "format");

/* `blocks` and `temporary_blocks` count in units of 1/TP_FORMAT_ONE. */
enum { TP_FORMAT_ONE = 4096 };

/*
 * Sums over the sampled blocks of a site, each with its weight w = 1 / p, where
 * p = 1 - exp(-usable bytes / interval in force) is the chance it had (Horvitz and
 * Thompson); in exact mode w = 1. For blocks of the pools usable bytes are blocks times
 * the class size, and `bytes` and `byte_variance` are 0. A block that a realloc made larger
 * where it stood belongs to that realloc's site from then on: there only its growth is
 * in `taken`, and what it was before is taken from `freed`, which may fall below 0
 * (modulo 2^64).
 */
struct tp_site_sums {
    uint64_t samples;          // 0 in exact mode: every block is one
    uint64_t blocks;           // sum of w, times TP_FORMAT_ONE
    uint64_t requested_bytes;  // sum of w * requested
    uint64_t bytes;            // large blocks: sum of w * usable
    double block_variance;     // sum of w * (w - 1)
    double byte_variance;      // large blocks: sum of usable^2 * w * (w - 1)
};

/*
 * One stack and one size class. Figures of live blocks are `taken` - `freed`.
 *
 * At the peak: whenever live bytes have been higher than ever before, and something is
 * about to change, tp_sampling_record.peak goes up by one. A site that changes while its
 * own `peak` is behind first copies its live figures to peak_* and takes the number. So
 * the figures at the last peak are peak_* where `peak` is that number, else the live ones.
 */
struct tp_site_record {
    uint32_t node;   // innermost frame; written last
    uint16_t class;  // index of the size class, or TP_FORMAT_LARGE
    uint16_t used;   // 1: this is a site; written after node
    uint32_t peak;
    uint32_t end;  // enum tp_stack_end of the stack that made it
    struct tp_site_sums taken;
    struct tp_site_sums freed;
    uint64_t peak_blocks;
    uint64_t peak_bytes;
    double peak_block_variance;
    double peak_byte_variance;
    uint64_t temporary_blocks;  // freed before their thread allocated again
    uint64_t reserved[1];
};
static_assert(sizeof(struct tp_site_record) == 160, "format");

/* A sampled block that is alive. Records of freed ones are used again. */
struct tp_sample_record {
    uint32_t site;   // index of its site
    uint32_t state;  // 1: alive; written last
    uint64_t address;
    uint64_t bytes;  // usable
    uint64_t requested_bytes;
    uint64_t interval_bytes;  // in force when it was taken
    uint64_t born_ticks;      // cycle counter
    uint64_t allocations;     // of its thread until then, for temporary_blocks
    uint32_t slot;            // of its thread
    uint32_t next;            // the writer's own
};
static_assert(sizeof(struct tp_sample_record) == 64, "format");

/*
 * What went on from the point before to this one, at most. When the table is full,
 * neighbours are merged: the later one's figures, the higher of the maxima.
 */
struct tp_point_record {
    uint64_t ticks;  // cycle counter; written last: 0 while there is no record
    int64_t live_bytes;
    int64_t live_bytes_max;  // of the points that were merged into this one
    uint64_t rss_bytes;      // 0: unknown
    uint64_t allocations;    // of the process so far
    uint64_t frees;
};
static_assert(sizeof(struct tp_point_record) == 48, "format");

#endif
