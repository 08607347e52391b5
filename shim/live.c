/* SPDX-License-Identifier: MIT */
/*
 * live.c - the file behind the counters: create, grow, remove, replace after fork.
 *
 * The library's counters are static memory and bays of the pool. A file on tmpfs is
 * mapped over them with MAP_FIXED, so that the hot paths know nothing of it and the
 * kernel keeps the account whatever ends the process:
 *
 *     offset 0      4 KiB       12 KiB           64 KiB     96 KiB     160 KiB ...
 *     +------------+-----------+----------------+----------+----------+-------------
 *     | header and | process,  | totals,        | ended    | bay 0:   | further bays,
 *     | rows       | sampling  | classes,       | threads  | 32 slots | pieces of the
 *     |            |           | latencies      |          |          | tables
 *     +------------+-----------+----------------+----------+----------+-------------
 *
 * What comes after the ended threads are parts in the order of their growth (parts.c).
 *
 * Every page is reserved before it is touched (a full tmpfs is an error here, not a
 * SIGBUS later); the descriptor is closed after mmap, because programs close what
 * they do not know. A disk file would not do: a store to its pages after write-back
 * costs microseconds to hundreds of milliseconds.
 *
 * A further part needs no descriptor either: see growth.c.
 *
 * A forked child must not count into its parent's pages: it gets private copies at
 * once, and a file of its own only when it lives long enough to reach a slow path,
 * because most children exec at once.
 *
 * Where the program has given up system calls the file stays when the process ends,
 * and says that it did: it is the last dump.
 */
#include "shim/output.h"

#include "pool/host.h"
#include "pool/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    HEAD_BYTES = 4096,
    PROCESS_BYTES = 8192,
    TEXT_BYTES = PROCESS_BYTES - (int)sizeof(struct tp_process_record) -
        (int)sizeof(struct tp_sampling_record),
    ENDED = 256,
    BAY_BYTES = 64 * 1024,
    AT_PROCESS = HEAD_BYTES,
    AT_ACCOUNT = AT_PROCESS + PROCESS_BYTES,
    AT_ENDED = AT_ACCOUNT + (int)sizeof(struct tp_account),
    AT_PARTS = AT_ENDED + ENDED * (int)sizeof(struct tp_ended_record),
    BAYS = 1024,
    SETTLE_AFTER = 32,         // slow paths of a forked child,
    SETTLE_NS = 10 * 1000000,  // or so long after the fork
};
static_assert(AT_PARTS % 4096 == 0, "parts begin on a page");

/* Of tp_account, what a child takes along: all but the latencies. */
#define TOTALS_BYTES (sizeof(struct tp_totals) + sizeof(tp_account.classes))

/* What live.c itself keeps in the file; static memory until the file is there. */
static struct {
    union {
        struct {
            struct tp_file_header header;
            struct tp_region rows[TP_FORMAT_REGIONS];
        };
        uint8_t head_page[HEAD_BYTES];
    };
    union {
        struct {
            struct tp_process_record process;
            char text[TEXT_BYTES];  // executable, arguments
            struct tp_sampling_record sampling;
        };
        uint8_t process_page[PROCESS_BYTES];
    };
} file __attribute__((aligned(4096)));

struct tp_sampling_record *const tp_sampling = &file.sampling;

static struct tp_parts parts = { .header = &file.header, .rows = file.rows };

static struct tp_ended_record ended[ENDED] __attribute__((aligned(4096)));

static struct {
    struct tp_live_place place;  // of the file; path empty: no file
    char beside[TP_BESIDE];      // path.new, until the file is filled
    bool shared;                 // something of ours lies in pages of a file
    struct tp_counters *bay[BAYS];
    uint64_t bay_at[BAYS];  // in the file
    uint32_t n_bays;
    size_t exe_bytes;            // in file.text, which is not asked again
    size_t command_at;           // likewise
    size_t command_bytes;        // likewise
    _Atomic(uint64_t) reserved;  // bytes of the file that have pages
    _Atomic(uint32_t) n_ended;
    uint32_t flags;       // enum tp_file_flags
    bool late;            // something may have been counted before the file is made
    bool torn;            // the parent folded slots while they were copied
    uint32_t slow_paths;  // of such a child
    uint32_t parent_pid;
} live;

struct tp_live_stage tp_live_stage;

/* ---- what the file says of itself ---- */

static bool add_row(
    uint32_t kind, uint32_t record_bytes, uint64_t count, uint64_t offset)
{
    const struct tp_region row = {
        .kind = kind, .record_bytes = record_bytes, .count = count, .offset = offset
    };
    return tp_parts_list(&parts, &row);
}

/* Also of a bay without pages: it keeps its place. */
static bool add_bay_row(uint32_t bay)
{
    return add_row(TP_REGION_THREADS, sizeof(struct tp_counters),
        BAY_BYTES / sizeof(struct tp_counters), live.bay_at[bay]);
}

static void note_reserved(uint64_t bytes)
{
    uint64_t all =
        atomic_fetch_add_explicit(&live.reserved, bytes, memory_order_relaxed);
    __atomic_store_n(&file.header.live_file_bytes, all + bytes, __ATOMIC_RELAXED);
}

static void refresh_clocks(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    file.header.time_unix_ns =
        (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    file.header.monotonic_ns = tp_os_now_ns();
    file.header.ticks = tp_os_ticks();
}

static void describe_process(uint32_t flags)
{
    struct tp_process_record *process = &file.process;
    process->pid = tp_boot.pid;
    // A parent that forked and left at once is nobody's parent any more.
    process->ppid = flags & TP_PROCESS_FORKED ? live.parent_pid : tp_boot.ppid;
    process->flags = flags;
    process->page_bytes = (uint32_t)tp_os_page();
    process->start_unix_ns = tp_boot.start_unix_ns;
    process->start_monotonic_ns = tp_boot.start_monotonic_ns;
    process->start_ticks = tp_boot.start_ticks;
    process->start_jiffies = tp_boot.start_jiffies;
    memcpy(process->boot_id, tp_boot.boot_id, sizeof(process->boot_id));
    memcpy(process->name, tp_boot.name, sizeof(process->name));
    memcpy(process->host, tp_boot.host, sizeof(process->host));
}

static void describe_file(void)
{
    size_t exe = strlen(tp_boot.exe);
    size_t aligned = tp_align_up(exe, 8);
    size_t room = TEXT_BYTES - aligned;
    size_t command = tp_boot.command_bytes < room ? tp_boot.command_bytes : room;
    if (!tp_options.command) command = 0;
    memcpy(file.text, tp_boot.exe, exe);
    if (command) memcpy(file.text + aligned, tp_boot.command, command);
    live.exe_bytes = exe;
    live.command_at = aligned;
    live.command_bytes = command;

    memcpy(file.header.magic, TP_FORMAT_MAGIC, sizeof(file.header.magic));
    file.header.version = TP_FORMAT_VERSION;
    file.header.header_bytes = sizeof(struct tp_file_header);
    file.header.state = TP_FILE_LIVE;
    file.header.row_bytes = sizeof(struct tp_region);
    refresh_clocks();
}

/* Lists all that there is anew, none of it lost; of the tables nothing yet. */
static void list_parts(void)
{
    tp_parts_init(&parts, AT_PARTS);
    uint64_t at = AT_PROCESS + offsetof(__typeof__(file), text) - HEAD_BYTES;
    add_row(TP_REGION_PROCESS, sizeof(struct tp_process_record), 1, AT_PROCESS);
    add_row(TP_REGION_EXE, 1, live.exe_bytes, at);
    add_row(TP_REGION_COMMAND, 1, live.command_bytes, at + live.command_at);
    add_row(TP_REGION_SAMPLING, sizeof(struct tp_sampling_record), 1,
        AT_PROCESS + offsetof(__typeof__(file), sampling) - HEAD_BYTES);
    add_row(TP_REGION_TOTALS, sizeof(struct tp_totals), 1,
        AT_ACCOUNT + offsetof(struct tp_account, totals));
    add_row(TP_REGION_CLASSES, sizeof(struct tp_class_count), TP_CLASSES,
        AT_ACCOUNT + offsetof(struct tp_account, classes));
    add_row(TP_REGION_LATENCY, sizeof(struct tp_latency), TP_OPERATIONS * TP_SHARDS,
        AT_ACCOUNT + offsetof(struct tp_account, latency));
    add_row(TP_REGION_ENDED, sizeof(struct tp_ended_record), ENDED, AT_ENDED);
    file.header.flags &= ~live.flags;
    live.flags = 0;
    if (live.torn) file.header.flags |= TP_FILE_LOST_COUNTS;
    for (uint32_t i = 0; i < live.n_bays; i++) {
        live.bay_at[i] = tp_parts_claim(&parts, BAY_BYTES);
        add_bay_row(i);
    }
}

static void note_lost(uint32_t flag)
{
    live.flags |= flag;
    file.header.flags |= flag;
}

/* ---- mapping ---- */

/*
 * Makes room for all that can still come behind the `bytes` in use, a hole: without it
 * growth needs the file's name.
 */
static void stretch(int fd, uint64_t bytes)
{
    uint64_t all = AT_PARTS + (uint64_t)BAYS * BAY_BYTES + tp_filing_most();
    uint64_t most = tp_os_file_limit();
    if (all > most) all = most & ~(uint64_t)(tp_os_page() - 1);
    bool good = all > bytes && ftruncate(fd, (off_t)all) == 0;
    live.place.length = good ? all : bytes;
}

static uint64_t offset_of(uint32_t slot)
{
    return live.bay_at[slot / TP_BAY_SLOTS] +
        slot % TP_BAY_SLOTS * sizeof(struct tp_counters);
}

static uint32_t slots_used(uint32_t bay)
{
    uint32_t used = tp_pool_slots() - bay * TP_BAY_SLOTS;
    return used < TP_BAY_SLOTS ? used : TP_BAY_SLOTS;
}

/* Room and content for a part that is in memory already; 0 or an errno. */
static int fill(int fd, const void *from, uint64_t offset, size_t bytes, size_t used)
{
    int error = tp_growth_reserve(fd, offset, bytes);
    if (!error && used && pwrite(fd, from, used, (off_t)offset) != (ssize_t)used)
        error = errno ? errno : ENOSPC;
    if (!error) note_reserved(bytes);
    return error;
}

/* Content first, then the mapping over it: what was counted so far stays. */
static int fill_and_map(int fd)
{
    struct tp_filing tables;
    atomic_store_explicit(&live.reserved, 0, memory_order_relaxed);
    list_parts();
    // At the start the rest is zero, as the file is.
    size_t account = live.late ? sizeof(tp_account) : TP_PAGE;
    size_t n_ended = live.late ? sizeof(ended) : 0;
    int error = fill(fd, &tp_account, AT_ACCOUNT, sizeof(tp_account), account);
    if (!error) error = fill(fd, ended, AT_ENDED, sizeof(ended), n_ended);
    for (uint32_t i = 0; !error && i < live.n_bays; i++)
        if (!tp_pool_is_gone(i))
            error = fill(fd, live.bay[i], live.bay_at[i], BAY_BYTES,
                slots_used(i) * sizeof(struct tp_counters));
    if (error) return error;
    if (!tp_filing_fill(&tables, fd, &parts)) note_lost(TP_FILE_LOST_SITES);
    note_reserved(tables.bytes);
    // The header last: by now it knows of all parts.
    note_reserved(sizeof(file));
    error = tp_growth_reserve(fd, 0, sizeof(file));
    if (!error && pwrite(fd, &file, sizeof(file), 0) != (ssize_t)sizeof(file))
        error = errno ? errno : ENOSPC;
    if (error) return error;

    // Past the last row, though that may be of a bay without pages.
    stretch(fd, atomic_load_explicit(&parts.end, memory_order_relaxed));
    // From here on a part may be shared with children, even if the next one fails.
    live.shared = true;
    bool good = tp_growth_map_part(fd, &file, sizeof(file), 0) &&
        tp_growth_map_part(fd, &tp_account, sizeof(tp_account), AT_ACCOUNT) &&
        tp_growth_map_part(fd, ended, sizeof(ended), AT_ENDED);
    for (uint32_t i = 0; good && i < live.n_bays; i++)
        if (!tp_pool_is_gone(i))  // someone counts there
            good = tp_growth_map_part(fd, live.bay[i], BAY_BYTES, live.bay_at[i]);
    return good && tp_filing_map(&tables, fd) ? 0 : errno;
}

/* Tries one folder; 0 or an errno. */
static int open_in(const char *folder)
{
    int fd = tp_names_create(live.place.path, live.beside, folder);
    if (fd < 0) {
        live.place.path[0] = '\0';
        return errno;
    }
    struct stat status;
    int error = fstat(fd, &status) == 0 ? 0 : errno;
    // The umask may have taken even the owner's right to read it later.
    if (!error && (status.st_mode & 0777) != 0600) fchmod(fd, 0600);
    if (!error) error = fill_and_map(fd);
    if (!error) error = tp_names_take(live.place.path, live.beside, folder);
    close(fd);
    if (error) {
        unlink(live.beside);
        live.place.path[0] = '\0';
        return error;
    }
    live.place.start = &file;
    live.place.device = status.st_dev;
    live.place.inode = status.st_ino;
    return 0;
}

/*
 * XDG_RUNTIME_DIR must belong to the user, says its specification. One that does not
 * was kept from somebody else's session (su, sudo), or is open to everybody.
 */
static bool is_private(const char *folder)
{
    struct stat status;
    return stat(folder, &status) == 0 && S_ISDIR(status.st_mode) &&
        status.st_uid == geteuid() && !(status.st_mode & (S_IWGRP | S_IWOTH));
}

static void open_file(void)
{
    int error = 0;
    if (tp_options.live == TP_LIVE_OFF || tp_boot.secure) return;
    if (tp_options.live == TP_LIVE_PATH) {
        error = open_in(tp_options.live_path);
    } else {
        const char *run = tp_boot.run_folder;
        error = run && run[0] == '/' && is_private(run) ? open_in(run) : ENOENT;
        if (error) error = open_in("/dev/shm");
        if (error) error = open_in("/tmp");
    }
    if (!error) return;
    file.process.flags |= TP_PROCESS_NO_FILE;
    if (file.process.flags & TP_PROCESS_FORKED) return;  // not a line for each child
    tp_say("cannot keep the live file%s%s: %d; the account is lost on SIGKILL",
        tp_options.live == TP_LIVE_PATH ? " in " : "",
        tp_options.live == TP_LIVE_PATH ? tp_options.live_path : "", error);
}

void tp_live_open(void)
{
    uint32_t flags = 0;
    if (!tp_boot.aside &&
        !atomic_load_explicit(&tp_account.totals.range_bytes, memory_order_relaxed))
        flags |= TP_PROCESS_NO_RANGE;
    describe_process(flags);
    describe_file();
    list_parts();
    open_file();
    atomic_fetch_add_explicit(
        &tp_account.totals.self_bytes, AT_PARTS, memory_order_relaxed);
}

bool tp_host_release(struct tp_counters *counters, uint32_t first, uint32_t n)
{
    int saved = errno;
    size_t bytes = n * sizeof(*counters);
    const struct tp_live_place *place = live.place.path[0] ? &live.place : NULL;
    bool good = tp_growth_release(place, counters, offset_of(first), bytes);
    if (good && place) note_reserved(-(uint64_t)bytes);
    errno = saved;
    return good;
}

void tp_host_restore(struct tp_counters *counters, uint32_t first, uint32_t n)
{
    int saved = errno;
    size_t bytes = n * sizeof(*counters);
    if (live.place.path[0]) {
        if (tp_growth_map(&live.place, counters, offset_of(first), bytes))
            note_lost(TP_FILE_LOST_COUNTS);
        else
            note_reserved(bytes);
    }
    errno = saved;
}

void tp_host_bay(struct tp_counters *counters, uint32_t first)
{
    uint32_t bay = first / TP_BAY_SLOTS;
    if (bay >= BAYS) return;
    live.bay[bay] = counters;
    live.n_bays = bay + 1;
    if (!parts.n_rows) return;                     // not opened yet
    if (live.flags & TP_FILE_LOST_COUNTS) return;  // a gap is there already
    live.bay_at[bay] = tp_parts_claim(&parts, BAY_BYTES);
    if (!live.place.path[0]) return;  // list_parts() will know it
    int saved = errno;
    if (tp_growth_map(&live.place, counters, live.bay_at[bay], BAY_BYTES) == 0 &&
        add_bay_row(bay))
        note_reserved(BAY_BYTES);
    else
        note_lost(TP_FILE_LOST_COUNTS);
    errno = saved;
}

uint64_t tp_live_claim(uint64_t bytes)
{
    return live.place.path[0] ? tp_parts_claim(&parts, bytes) : 0;
}

bool tp_live_add(const struct tp_live_part *part)
{
    int saved = errno;
    bool good = tp_growth_map(&live.place, part->at, part->offset, part->bytes) == 0 &&
        add_row(part->kind, part->record_bytes, part->count, part->offset);
    if (good)
        note_reserved(part->bytes);
    else
        note_lost(TP_FILE_LOST_SITES);
    errno = saved;
    return good;
}

struct tp_process_record *tp_live_process(void)
{
    return &file.process;
}

void tp_live_note_sandbox(void)
{
    file.process.flags |= TP_PROCESS_SANDBOXED;
}

/*
 * Makes a file while the process runs: nobody may count between the copy of the
 * counters and the mapping over them. Where another thread does, it stays due.
 */
static void open_late(void)
{
    uintptr_t outer;
    tp_live_stage.due = !tp_pool_begin_alone(&outer);
    if (tp_live_stage.due) return;
    live.late = true;
    file.header.reason = 0;  // an exec that failed may have closed the last one
    open_file();
    tp_pool_end_alone(outer);
}

void tp_live_reopen(void)
{
    if (!live.place.path[0]) open_late();
}

void tp_live_close(void)
{
    if (tp_os_is_sandboxed()) tp_live_note_sandbox();
    file.header.reason = TP_REASON_EXIT;
    refresh_clocks();
}

void tp_live_remove(void)
{
    if (!live.place.path[0]) return;
    struct stat status;
    int saved = errno;
    bool found = lstat(live.place.path, &status) == 0 &&
        status.st_dev == live.place.device && status.st_ino == live.place.inode;
    // Out of reach (chroot, setuid) it stays, and should not look like a crash.
    if (!found || unlink(live.place.path) != 0) tp_live_close();
    live.place.path[0] = '\0';
    errno = saved;
}

/* ---- threads that ended ---- */

void tp_live_thread_ended(
    const struct tp_counters *counters, uint32_t index, const struct tp_sums *did)
{
    uint32_t n = atomic_load_explicit(&live.n_ended, memory_order_relaxed);
    do {
        if (n >= ENDED) return;  // the rest is one row in the report
    } while (!atomic_compare_exchange_weak_explicit(
        &live.n_ended, &n, n + 1, memory_order_relaxed, memory_order_relaxed));

    struct tp_ended_record *record = &ended[n];
    record->slot = index;
    record->epoch = counters->epoch;
    record->started_ns = counters->started_ns;
    record->ended_ns = tp_os_now_ns();
    memcpy(record->name, counters->name, sizeof(record->name));
    memcpy(&record->sums, did, sizeof(record->sums));
    // Last: a record without a thread is none.
    __atomic_store_n(&record->tid, counters->tid, __ATOMIC_RELEASE);
}

/* ---- fork ---- */

bool tp_live_shared(uint32_t i, struct tp_live_bytes *out)
{
    uint32_t bay = i - 2;
    *out = (struct tp_live_bytes){ 0 };
    if (i == 0)
        *out = (struct tp_live_bytes){ &file, sizeof(file) };
    else if (i == 1)
        *out = (struct tp_live_bytes){ &tp_account, TOTALS_BYTES };
    else if (bay < live.n_bays && !tp_pool_is_gone(bay))
        *out = (struct tp_live_bytes){ live.bay[bay],
            slots_used(bay) * sizeof(struct tp_counters) };
    return live.shared && i < 2 + live.n_bays;
}

/* Leaves the parent's file to the parent. */
static void part_from_parent(void)
{
    struct tp_walk walk = tp_pool_walk();
    bool good = tp_growth_part(ended, sizeof(ended), 0);
    for (uint32_t i = 0; i < live.n_bays; i++) {
        if (tp_pool_is_gone(i)) continue;  // private already, and zero
        size_t bytes = slots_used(i) * sizeof(struct tp_counters);
        good = tp_growth_part(live.bay[i], BAY_BYTES, bytes) && good;
    }
    good = tp_growth_part(&tp_account, sizeof(tp_account), TOTALS_BYTES) && good;
    // The parent goes on: it may have folded slots while they were copied.
    live.torn = live.torn || !tp_pool_walked(&walk);
    // No memory at all: we count into the parent's file, which should say so.
    if (!good) file.header.flags |= TP_FILE_LOST_COUNTS;
    bool tables = tp_tables_part();
    live.shared =
        !tp_growth_part(&file, sizeof(file), sizeof(file)) || !good || !tables;
    if (live.torn) file.header.flags |= TP_FILE_LOST_COUNTS;
}

void tp_live_forked(void)
{
    int saved = errno;
    bool had_file = live.place.path[0] != '\0';
    live.place.path[0] = '\0';
    live.parent_pid = tp_boot.pid;
    if (!tp_os_is_sandboxed()) tp_boot_forked();
    if (live.shared)
        part_from_parent();
    else
        tp_tables_part();  // for their locks
    tp_snapshot_end(true);
    atomic_store_explicit(&parts.lock.word, 0, memory_order_relaxed);
    tp_timeline_forked();
    atomic_store_explicit(&live.n_ended, 0, memory_order_relaxed);
    if (had_file) tp_live_stage.due = true;
    tp_live_stage.fresh_fork = true;
    live.slow_paths = 0;

    struct tp_sums sums;
    tp_pool_sums(&sums);
    describe_process(file.process.flags | TP_PROCESS_FORKED);
    file.process.inherited_allocations = sums.allocations;
    file.process.inherited_frees = sums.frees;
    file.process.inherited_bytes = sums.allocated_bytes - sums.freed_bytes;
    file.process.inherited_requested_bytes = sums.requested_bytes;
    file.process.inherited_allocated_bytes = sums.allocated_bytes;
    errno = saved;
}

void tp_live_settle(void)
{
    int saved = errno;
    tp_live_stage.fresh_fork = false;
    if (tp_live_stage.due && !tp_os_is_sandboxed()) open_late();
    if (tp_os_is_sandboxed()) tp_live_note_sandbox();
    refresh_clocks();
    errno = saved;
}

/* Most children exec after a few calls: a file is for those that do not. */
bool tp_host_settle(void)
{
    if (tp_live_stage.due && ++live.slow_paths < SETTLE_AFTER &&
        tp_os_now_ns() - tp_boot.start_monotonic_ns < SETTLE_NS)
        return false;
    tp_live_settle();
    return true;
}

struct tp_live_view tp_live_view(void)
{
    uint32_t n = atomic_load_explicit(&live.n_ended, memory_order_relaxed);
    uint64_t bytes = atomic_load_explicit(&live.reserved, memory_order_relaxed);
    return (struct tp_live_view){ .process = &file.process,
        .exe = file.text,
        .exe_bytes = live.exe_bytes,
        .command = file.text + live.command_at,
        .command_bytes = live.command_bytes,
        .ended = ended,
        .n_ended = n < ENDED ? n : ENDED,
        // Parts that the file has no room for are in memory all the same.
        .flags =
            (file.header.flags & ~live.flags) | (live.torn ? TP_FILE_LOST_COUNTS : 0),
        .file_bytes = live.place.path[0] ? bytes : 0 };
}
