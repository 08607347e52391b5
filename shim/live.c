/* SPDX-License-Identifier: MIT */
/*
 * live.c - the file behind the counters: create, grow, remove, replace after fork.
 *
 * The library's counters are static memory and bays of the pool. A file on tmpfs is
 * mapped over them with MAP_FIXED, so that the hot paths know nothing of it and the
 * kernel keeps the account whatever ends the process:
 *
 *     offset 0      4 KiB   12 KiB                64 KiB     96 KiB      160 KiB ...
 *     +------------+-------+---------------------+----------+-----------+---------
 *     | header and | pro-  | totals, classes,    | ended    | bay 0:    | bay 1 ...
 *     | rows       | cess  | latencies           | threads  | 32 slots  |
 *     +------------+-------+---------------------+----------+-----------+---------
 *
 * Every page is reserved with fallocate before it is touched (a full tmpfs is an
 * error here, not a SIGBUS later); the descriptor is closed after mmap, because
 * programs close what they do not know. A disk file would not do: a store to its
 * pages after write-back costs microseconds to hundreds of milliseconds.
 *
 * A forked child must not count into its parent's pages: it gets private copies at
 * once, and a file of its own only when it lives long enough to reach a slow path,
 * because most children exec at once.
 */
#include "shim/output.h"

#include "pool/host.h"
#include "pool/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static_assert(
    sizeof(struct tp_counters) == sizeof(struct tp_thread_slot), "one layout");
#define SAME(pool_field, file_field)                          \
    static_assert(offsetof(struct tp_counters, pool_field) == \
            offsetof(struct tp_thread_slot, file_field),      \
        "one layout")
SAME(room, room);
SAME(limit, limit);
SAME(state, state);
SAME(tid, tid);
SAME(epoch, epoch);
SAME(started_ns, started_ns);
SAME(remote_frees, remote_frees);
SAME(frees, frees);
SAME(taken, taken);
SAME(large_allocated_bytes, large_allocated_bytes);
SAME(large_freed_bytes, large_freed_bytes);
SAME(calls, calls);
SAME(failed, failed);
SAME(realloc_freed, realloc_freed);
SAME(zeroed_for_free, zeroed_for_free);
SAME(name, name);
SAME(base, base);
static_assert(
    sizeof(struct tp_totals) == sizeof(struct tp_totals_record), "one layout");
static_assert(offsetof(struct tp_totals, foreign_frees) ==
        offsetof(struct tp_totals_record, foreign_frees),
    "one layout");
static_assert(
    sizeof(struct tp_latency) == sizeof(struct tp_latency_record), "one layout");
static_assert(
    offsetof(struct tp_latency, buckets) == offsetof(struct tp_latency_record, buckets),
    "one layout");
static_assert(
    sizeof(struct tp_class_count) == sizeof(struct tp_class_record), "layout");
static_assert((int)TP_CALLS == (int)TP_ENTRIES, "one list of entry points");
static_assert((int)TP_CLASSES == (int)TP_FORMAT_POOL_CLASSES, "one list of classes");
static_assert((int)TP_BUCKETS == (int)TP_FORMAT_BUCKETS, "one kind of histogram");
static_assert((int)TP_FOLDED == (int)TP_SLOT_FOLDED, "one list of states");
static_assert((int)TP_SUM_SLOT == (int)TP_FORMAT_SUM_SLOT, "one place for sums");
static_assert(
    offsetof(struct tp_totals, folded) == offsetof(struct tp_totals_record, folded),
    "one layout");
static_assert(sizeof(struct tp_sums) == sizeof(struct tp_thread_sums), "one layout");

enum {
    HEAD_BYTES = 4096,
    PROCESS_BYTES = 8192,
    ENDED = 256,
    BAY_BYTES = 64 * 1024,
    AT_PROCESS = HEAD_BYTES,
    AT_ACCOUNT = AT_PROCESS + PROCESS_BYTES,
    AT_ENDED = AT_ACCOUNT + (int)sizeof(struct tp_account),
    AT_BAYS = AT_ENDED + ENDED * (int)sizeof(struct tp_ended_record),
    BAYS = 1024,
    SETTLE_AFTER = 32,  // slow paths of a forked child
};
static_assert(AT_BAYS % 4096 == 0, "bays begin on a page");

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
        struct tp_process_record process;
        uint8_t process_page[PROCESS_BYTES];  // record, executable, arguments
    };
} file __attribute__((aligned(4096)));

static struct tp_ended_record ended[ENDED] __attribute__((aligned(4096)));

static struct {
    char path[TP_PATH];  // empty: no file
    dev_t device;
    ino_t inode;
    struct tp_counters *bay[BAYS];
    uint32_t n_bays;
    _Atomic(uint32_t) n_ended;
    uint32_t flags;       // enum tp_file_flags
    bool due;             // a forked child without its file yet
    bool torn;            // the parent folded slots while they were copied
    bool fresh_fork;      // a forked child that has reached no slow path yet
    uint32_t slow_paths;  // of such a child
    uint32_t parent_pid;
} live;

/* ---- what the file says of itself ---- */

static void add_row(
    uint32_t kind, uint32_t record_bytes, uint64_t count, uint64_t offset)
{
    uint32_t n = file.header.n_regions;
    if (n >= TP_FORMAT_REGIONS) return;
    file.rows[n] = (struct tp_region){
        .kind = kind, .record_bytes = record_bytes, .count = count, .offset = offset
    };
    __atomic_store_n(&file.header.n_regions, n + 1, __ATOMIC_RELEASE);
}

/* Bays follow each other in the file: one row covers them all. */
static void add_bay_row(uint64_t offset)
{
    uint64_t slots = BAY_BYTES / sizeof(struct tp_counters);
    uint32_t n = file.header.n_regions;
    struct tp_region *last = n ? &file.rows[n - 1] : NULL;
    if (last && last->kind == TP_REGION_THREADS &&
        last->offset + last->count * sizeof(struct tp_counters) == offset) {
        __atomic_store_n(&last->count, last->count + slots, __ATOMIC_RELEASE);
    } else {
        add_row(TP_REGION_THREADS, sizeof(struct tp_counters), slots, offset);
    }
    __atomic_store_n(&file.header.total_bytes, offset + BAY_BYTES, __ATOMIC_RELEASE);
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
    process->ppid = tp_boot.ppid;
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
    size_t room = PROCESS_BYTES - sizeof(struct tp_process_record) - aligned;
    size_t command = tp_boot.command_bytes < room ? tp_boot.command_bytes : room;
    uint8_t *text = file.process_page + sizeof(struct tp_process_record);
    memcpy(text, tp_boot.exe, exe);
    if (command) memcpy(text + aligned, tp_boot.command, command);

    memcpy(file.header.magic, TP_FORMAT_MAGIC, sizeof(file.header.magic));
    file.header.version = TP_FORMAT_VERSION;
    file.header.header_bytes = sizeof(struct tp_file_header);
    file.header.state = TP_FILE_LIVE;
    file.header.row_bytes = sizeof(struct tp_region);
    file.header.n_regions = 0;
    add_row(TP_REGION_PROCESS, sizeof(struct tp_process_record), 1, AT_PROCESS);
    uint64_t at = AT_PROCESS + sizeof(struct tp_process_record);
    add_row(TP_REGION_EXE, 1, exe, at);
    add_row(TP_REGION_COMMAND, 1, command, at + aligned);
    add_row(TP_REGION_TOTALS, sizeof(struct tp_totals), 1,
        AT_ACCOUNT + offsetof(struct tp_account, totals));
    add_row(TP_REGION_CLASSES, sizeof(struct tp_class_count), TP_CLASSES,
        AT_ACCOUNT + offsetof(struct tp_account, classes));
    add_row(TP_REGION_LATENCY, sizeof(struct tp_latency), TP_OPERATIONS * TP_SHARDS,
        AT_ACCOUNT + offsetof(struct tp_account, latency));
    add_row(TP_REGION_ENDED, sizeof(struct tp_ended_record), ENDED, AT_ENDED);
    file.header.total_bytes = AT_BAYS;
    refresh_clocks();
}

/* ---- mapping ---- */

static bool map_part(int fd, void *at, size_t bytes, uint64_t offset)
{
    return mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
               (off_t)offset) != MAP_FAILED;
}

/* Reserves pages; 0 or an errno. Never lets RLIMIT_FSIZE kill the program. */
static int reserve(int fd, uint64_t offset, uint64_t bytes)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        limit.rlim_cur < offset + bytes)
        return EFBIG;
    int error;
    while ((error = posix_fallocate(fd, (off_t)offset, (off_t)bytes)) == EINTR) {
    }
    return error;
}

static int create(const char *folder, char *out_path)
{
    for (unsigned n = 0; n < 100; n++) {
        tp_format(out_path, TP_PATH, "%s/tidepool.%u.%lu.%u", folder, tp_boot.pid,
            (unsigned long)tp_boot.start_jiffies, n);
        int flags = O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
        int fd = open(out_path, flags, 0600);
        if (fd >= 0 || errno != EEXIST) return fd;
    }
    return -1;
}

static uint64_t offset_of(uint32_t slot)
{
    return AT_BAYS + (uint64_t)slot * sizeof(struct tp_counters);
}

/* False for bays in which nobody counts; the last one gives the file its length. */
static bool has_pages(uint32_t bay)
{
    return !tp_pool_is_gone(bay) || bay + 1 == live.n_bays;
}

/* Content first, then the mapping over it: what was counted so far stays. */
static int fill_and_map(int fd)
{
    int error = reserve(fd, 0, AT_BAYS);
    for (uint32_t i = 0; !error && i < live.n_bays; i++)
        if (has_pages(i)) error = reserve(fd, offset_of(i * TP_BAY_SLOTS), BAY_BYTES);
    if (error) return error;
    if (pwrite(fd, &file, sizeof(file), 0) != (ssize_t)sizeof(file) ||
        pwrite(fd, &tp_account, TP_PAGE, AT_ACCOUNT) != TP_PAGE)
        return errno;
    for (uint32_t i = 0; i < live.n_bays; i++) {
        if (!has_pages(i)) continue;
        uint32_t used = tp_pool_slots() - i * TP_BAY_SLOTS;
        if (used > TP_BAY_SLOTS) used = TP_BAY_SLOTS;
        size_t length = used * sizeof(struct tp_counters);
        off_t at = (off_t)offset_of(i * TP_BAY_SLOTS);
        if (pwrite(fd, live.bay[i], length, at) != (ssize_t)length) return errno;
    }

    bool good = map_part(fd, &file, sizeof(file), 0) &&
        map_part(fd, &tp_account, sizeof(tp_account), AT_ACCOUNT) &&
        map_part(fd, ended, sizeof(ended), AT_ENDED);
    for (uint32_t i = 0; good && i < live.n_bays; i++)
        if (has_pages(i))
            good = map_part(fd, live.bay[i], BAY_BYTES, offset_of(i * TP_BAY_SLOTS));
    return good ? 0 : errno;
}

/* Tries one folder; 0 or an errno. */
static int open_in(const char *folder)
{
    int fd = create(folder, live.path);
    if (fd < 0) {
        live.path[0] = '\0';
        return errno;
    }
    struct stat status;
    int error = fstat(fd, &status) == 0 ? fill_and_map(fd) : errno;
    close(fd);
    if (error) {
        unlink(live.path);
        live.path[0] = '\0';
        return error;
    }
    live.device = status.st_dev;
    live.inode = status.st_ino;
    return 0;
}

static void open_file(void)
{
    int error = 0;
    if (tp_options.live == TP_LIVE_OFF || tp_boot.secure) return;
    if (tp_options.live == TP_LIVE_PATH) {
        error = open_in(tp_options.live_path);
    } else {
        const char *run = tp_boot.run_folder;
        error = run && run[0] == '/' ? open_in(run) : ENOENT;
        if (error) error = open_in("/dev/shm");
        if (error) error = open_in("/tmp");
    }
    if (!error) return;
    file.process.flags |= TP_PROCESS_NO_FILE;
    tp_say("cannot keep the live file%s%s: %d; the account is lost on SIGKILL",
        tp_options.live == TP_LIVE_PATH ? " in " : "",
        tp_options.live == TP_LIVE_PATH ? tp_options.live_path : "", error);
}

void tp_live_open(void)
{
    uint32_t flags = 0;
    if (!atomic_load_explicit(&tp_account.totals.range_bytes, memory_order_relaxed))
        flags |= TP_PROCESS_NO_RANGE;
    describe_process(flags);
    describe_file();
    for (uint32_t i = 0; i < live.n_bays; i++)
        add_bay_row(AT_BAYS + (uint64_t)i * BAY_BYTES);
    open_file();
    atomic_fetch_add_explicit(
        &tp_account.totals.self_bytes, AT_BAYS, memory_order_relaxed);
}

/* Opens the file by name, only if it is still ours; below 0: minus an errno. */
static int open_again(void)
{
    int fd = open(live.path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return -errno;
    struct stat status;
    int error = fstat(fd, &status) == 0 ? 0 : errno;
    if (!error && (status.st_dev != live.device || status.st_ino != live.inode))
        error = ENOENT;
    if (error) close(fd);
    return error ? -error : fd;
}

/* Maps further slots; 0 or an errno. */
static int extend(struct tp_counters *counters, uint64_t offset, size_t bytes)
{
    int fd = open_again();
    if (fd < 0) return -fd;
    int error = reserve(fd, offset, bytes);
    if (!error && !map_part(fd, counters, bytes, offset)) error = errno;
    close(fd);
    return error;
}

static void note_lost_counts(void)
{
    live.flags |= TP_FILE_LOST_COUNTS;
    file.header.flags |= TP_FILE_LOST_COUNTS;
}

/*
 * Anonymous pages take the place of the file's first, so that whoever walks over the
 * slots meanwhile reads zeros: a hole in a full file system would be a SIGBUS.
 */
bool tp_host_release(struct tp_counters *counters, uint32_t first, uint32_t n)
{
    int saved = errno;
    size_t bytes = n * sizeof(*counters);
    bool good = mmap(counters, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED;
    if (good) tp_os_no_huge(counters, bytes);
    int fd = good && live.path[0] ? open_again() : -1;
    if (fd >= 0) {
        // Where the file system cannot, the file keeps its zeros.
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
            (off_t)offset_of(first), (off_t)bytes);
        close(fd);
    }
    errno = saved;
    return good;
}

void tp_host_restore(struct tp_counters *counters, uint32_t first, uint32_t n)
{
    int saved = errno;
    if (live.path[0] && extend(counters, offset_of(first), n * sizeof(*counters)))
        note_lost_counts();
    errno = saved;
}

void tp_host_bay(struct tp_counters *counters, uint32_t first)
{
    uint32_t bay = first / TP_BAY_SLOTS;
    if (bay >= BAYS) return;
    live.bay[bay] = counters;
    live.n_bays = bay + 1;
    if (!file.header.n_regions) return;  // not opened yet
    uint64_t offset = AT_BAYS + (uint64_t)bay * BAY_BYTES;
    int saved = errno;
    if (live.path[0] && extend(counters, offset, BAY_BYTES)) {
        note_lost_counts();
    } else if (!(live.flags & TP_FILE_LOST_COUNTS)) {
        add_bay_row(offset);
    }
    errno = saved;
}

void tp_live_set_inert(void)
{
    file.process.flags |= TP_PROCESS_INERT;
}

bool tp_live_is_fresh_fork(void)
{
    return live.fresh_fork;
}

/*
 * Makes a file while the process runs: nobody may count between the copy of the
 * counters and the mapping over them. Where another thread does, it stays due.
 */
static void open_late(void)
{
    live.due = !tp_pool_begin_alone();
    if (live.due) return;
    open_file();
    tp_pool_end_alone();
}

void tp_live_reopen(void)
{
    if (!live.path[0]) open_late();
}

void tp_live_remove(void)
{
    if (!live.path[0]) return;
    struct stat status;
    int saved = errno;
    if (lstat(live.path, &status) == 0 && status.st_dev == live.device &&
        status.st_ino == live.inode)
        unlink(live.path);
    live.path[0] = '\0';
    errno = saved;
}

/* ---- threads that ended ---- */

void tp_host_thread_ended(
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

/* Puts private memory in the place of shared pages; the first `keep` bytes stay. */
static void privatise(void *at, size_t bytes, size_t keep)
{
    static char page[TP_PAGE];  // a child has one thread, whose stack may be small
    char *copy = keep > sizeof(page) ? tp_os_map(keep) : page;
    if (copy) memcpy(copy, at, keep);
    void *fresh = mmap(at, bytes, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (copy && fresh != MAP_FAILED) memcpy(at, copy, keep);
    if (copy && copy != page) tp_os_unmap(copy, keep);
}

void tp_live_forked(void)
{
    int saved = errno;
    bool had_file = live.path[0] != '\0';
    live.path[0] = '\0';
    live.parent_pid = tp_boot.pid;
    tp_boot_forked();
    if (had_file) {
        size_t totals = sizeof(struct tp_totals) + sizeof(tp_account.classes);
        struct tp_walk walk = tp_pool_walk();
        privatise(&file, sizeof(file), sizeof(file));
        privatise(ended, sizeof(ended), 0);
        uint32_t slots = tp_pool_slots();
        for (uint32_t i = 0; i < live.n_bays; i++) {
            uint32_t used = slots - i * TP_BAY_SLOTS;
            if (used > TP_BAY_SLOTS) used = TP_BAY_SLOTS;
            if (!tp_pool_is_gone(i))  // else it is private, and zero
                privatise(live.bay[i], BAY_BYTES, used * sizeof(struct tp_counters));
        }
        privatise(&tp_account, sizeof(tp_account), totals);
        // The parent goes on: it may have folded slots while they were copied.
        live.torn = live.torn || !tp_pool_walked(&walk);
        if (live.torn) note_lost_counts();
    }
    atomic_store_explicit(&live.n_ended, 0, memory_order_relaxed);
    if (had_file) live.due = true;
    live.fresh_fork = true;
    live.slow_paths = 0;

    uint64_t allocations = 0, frees = 0, bytes = 0;
    struct tp_walk walk = tp_pool_walk();
    const struct tp_counters *counters;
    while ((counters = tp_pool_next(&walk))) {
        struct tp_sums sums = tp_counters_sums(counters);
        allocations += sums.allocations;
        frees += sums.frees;
        bytes += sums.allocated_bytes - sums.freed_bytes;
    }
    describe_process(file.process.flags | TP_PROCESS_FORKED);
    file.process.inherited_allocations = allocations;
    file.process.inherited_frees = frees;
    file.process.inherited_bytes = bytes;
    errno = saved;
}

void tp_live_settle(void)
{
    int saved = errno;
    live.fresh_fork = false;
    if (live.due) open_late();
    refresh_clocks();
    errno = saved;
}

/* Most children exec after a few calls: a file is for those that do not. */
bool tp_host_settle(void)
{
    if (live.due && ++live.slow_paths < SETTLE_AFTER) return false;
    tp_live_settle();
    return true;
}

struct tp_live_view tp_live_view(void)
{
    uint32_t n = atomic_load_explicit(&live.n_ended, memory_order_relaxed);
    return (struct tp_live_view){ .process = &file.process,
        .exe = (const char *)file.process_page + sizeof(struct tp_process_record),
        .exe_bytes = file.rows[1].count,
        .command = (const char *)&file + file.rows[2].offset,
        .command_bytes = file.rows[2].count,
        .ended = ended,
        .n_ended = n < ENDED ? n : ENDED,
        .flags = live.path[0] && !live.torn ? 0 : live.flags,
        .file_bytes = live.path[0] ? file.header.total_bytes : 0 };
}
