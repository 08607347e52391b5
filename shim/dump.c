/* SPDX-License-Identifier: MIT */
/*
 * dump.c - the live file, frozen: written beside its name, then moved into place.
 *
 * Only plain system calls, no allocation, little stack: a dump may be made in the
 * handler of a signal that stopped the program anywhere. The threads' counters and who
 * allocates are copied first (frozen.c, copied.c), as long as there is memory for it;
 * without it sites are left out, and the dump says so. It is put together in
 * pages of its own and leaves in one write, without such pages piece by piece.
 * The writer's error is sticky and looked at once, at the end.
 *
 * A build starts thousands of compilers, and each leaves a dump: what was never used is
 * left out. Of 36 latencies a compiler has used six, and of their buckets half.
 */
#include "shim/output.h"

#include "pool/host.h"
#include "pool/pool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    NAMES = 10000,
    ROWS = 14,
    ROWS_ALWAYS = 10,    // of them; the rest is of those whose process was sampled
    TRIES = 1000,        // of a write that signals cut short
    LAST_TRIES = 40000,  // of 50 us: what the last dump waits for another
};

static_assert(sizeof(struct tp_totals) <= sizeof(tp_account.classes), "see dump.words");

/* One dump at a time, so its buffers need no stack. */
static struct {
    _Atomic(uint32_t) writer;  // its thread id; 0: none
    _Atomic(bool) leaving;     // the process ends: only the last dump may still come
    _Atomic(uint64_t) sequence;
    char wish[TP_PATH];         // out= with its patterns filled in
    char path[TP_PATH + 8];     // with .1, .2, ...
    char beside[TP_PATH + 32];  // where it is written first
    char text[8192];            // the summary
    char summary[TP_PATH];      // summary= with its patterns filled in
    bool written;               // path is that of the last dump, and it is there
    struct {
        struct tp_file_header header;
        struct tp_region rows[ROWS];
    } head;
    struct {  // those that were used, and how much of each record
        const struct tp_latency *of[TP_OPERATIONS * TP_SHARDS];
        uint32_t n;
        uint32_t record_bytes;
    } latencies;
    uint64_t words[TP_CLASSES * sizeof(struct tp_class_count) / 8];
    struct tp_copies copies;
    struct tp_point_record last;  // of the timeline: the process as it is dumped
    bool said;                    // that dumps fail: once is enough
} dump;

struct writer {
    int fd;
    int error;        // first one
    uint8_t *memory;  // where the dump is put together; NULL: nowhere
    uint64_t room;    // of it
    uint64_t used;
};

static void send_all(struct writer *writer, const void *data, uint64_t bytes)
{
    const char *at = data;
    unsigned tries = 0;
    while (bytes && !writer->error) {
        ssize_t n = write(writer->fd, at, bytes);
        if (n < 0 && errno == EINTR && ++tries < TRIES) continue;
        if (n <= 0) {
            writer->error = n < 0 ? errno : ENOSPC;
            return;
        }
        at += n;
        bytes -= (uint64_t)n;
    }
}

static void flush(struct writer *writer)
{
    send_all(writer, writer->memory, writer->used);
    writer->used = 0;
}

static void put(struct writer *writer, const void *data, uint64_t bytes)
{
    if (bytes > writer->room - writer->used) {
        flush(writer);
        send_all(writer, data, bytes);
        return;
    }
    if (bytes) memcpy(writer->memory + writer->used, data, bytes);
    writer->used += bytes;
}

/* ---- names ---- */

static void put_char(char *out, size_t *n, char c)
{
    if (*n + 1 < TP_PATH) out[(*n)++] = c;
}

static void put_string(char *out, size_t *n, const char *text)
{
    for (; *text; text++) put_char(out, n, *text == '/' ? '_' : *text);
}

static void put_number(char *out, size_t *n, uint64_t value)
{
    char digits[24];
    tp_format(digits, sizeof(digits), "%lu", (unsigned long)value);
    put_string(out, n, digits);
}

static void expand(const char *pattern, char *out, uint64_t sequence)
{
    size_t n = 0;
    for (; *pattern; pattern++) {
        if (*pattern != '%') {
            put_char(out, &n, *pattern);
            continue;
        }
        switch (*++pattern) {
        case 'e':
            put_string(out, &n, tp_boot.name);
            break;
        case 'p':
            put_number(out, &n, tp_boot.pid);
            break;
        case 'h':
            put_string(out, &n, tp_boot.host);
            break;
        case 'n':
            put_number(out, &n, sequence);
            break;
        case 't':
            put_number(out, &n, (uint64_t)time(NULL));
            break;
        case '%':
            put_char(out, &n, '%');
            break;
        case '\0':
            pattern--;
            break;
        default:
            put_char(out, &n, '%'), put_char(out, &n, *pattern);
        }
    }
    out[n] = '\0';
}

/* Moves the finished file to a name that nobody has; 0 or an errno. */
static int move_into_place(void)
{
    int error = EEXIST;
    for (unsigned i = 0; i < NAMES && error == EEXIST; i++) {
        tp_format(dump.path, sizeof(dump.path), i ? "%s.%u" : "%s", dump.wish, i);
        error = tp_names_give(dump.beside, dump.path);
    }
    return error;
}

/* ---- content ---- */

static void add_row(uint32_t kind, uint64_t bytes, uint64_t count)
{
    struct tp_file_header *header = &dump.head.header;
    dump.head.rows[header->n_regions++] = (struct tp_region){ .kind = kind,
        .record_bytes = (uint32_t)bytes,
        .count = count,
        .offset = header->total_bytes };
    header->total_bytes += tp_align_up(bytes * count, 8);
}

static void put_padded(struct writer *writer, const void *data, uint64_t bytes)
{
    static const char zeros[8];
    put(writer, data, bytes);
    put(writer, zeros, tp_align_up(bytes, 8) - bytes);
}

/* What other threads write meanwhile: none of its words is torn. */
static void put_words(struct writer *writer, const void *data, uint64_t bytes)
{
    const uint64_t *words = data;
    for (uint64_t i = 0; i < bytes / sizeof(*words); i++)
        dump.words[i] = __atomic_load_n(&words[i], __ATOMIC_RELAXED);
    put(writer, dump.words, bytes);
}

static uint32_t buckets_used(const struct tp_latency *latency)
{
    uint32_t n = TP_BUCKETS;
    while (n && !atomic_load_explicit(&latency->buckets[n - 1], memory_order_relaxed))
        n--;
    return n;
}

/* Chooses the latencies to write; all their records are as long as the longest. */
static void choose_latencies(void)
{
    uint32_t buckets = 0;
    dump.latencies.n = 0;
    for (unsigned i = 0; i < TP_OPERATIONS * TP_SHARDS; i++) {
        const struct tp_latency *latency =
            &tp_account.latency[i / TP_SHARDS][i % TP_SHARDS];
        if (!atomic_load_explicit(&latency->count, memory_order_relaxed)) continue;
        uint32_t used = buckets_used(latency);
        if (used > buckets) buckets = used;
        dump.latencies.of[dump.latencies.n++] = latency;
    }
    dump.latencies.record_bytes =
        (uint32_t)(offsetof(struct tp_latency, buckets) + buckets * sizeof(uint64_t));
}

/* The process as a whole, as its counters were copied. */
static void finish_timeline(const struct tp_frozen *threads)
{
    struct tp_sums all = { 0 };
    struct tp_walk walk = tp_pool_walk();
    for (uint32_t i = 0; i < threads->n_slots; i++) {
        const struct tp_counters *slot =
            threads->slots ? &threads->slots[i] : tp_pool_next(&walk);
        if (!slot) break;
        struct tp_sums sums = tp_counters_sums(slot);
        all.allocations += sums.allocations;
        all.frees += sums.frees;
        all.allocated_bytes += sums.allocated_bytes;
        all.freed_bytes += sums.freed_bytes;
    }
    int64_t live = (int64_t)(all.allocated_bytes - all.freed_bytes);
    dump.last = (struct tp_point_record){ .ticks = dump.head.header.ticks,
        .live_bytes = tp_max_i64(live, 0),
        .rss_bytes = dump.head.header.rss_bytes,
        .allocations = all.allocations,
        .frees = all.frees };
    tp_timeline_now(&dump.last);
    // A tick on another processor may have been later.
    const struct tp_point_record *points = dump.copies.points.records;
    uint32_t *n = &dump.copies.points.n;
    while (*n && points[*n - 1].ticks >= dump.last.ticks) --*n;
}

static uint32_t count_rows(void)
{
    const struct tp_copies *copies = &dump.copies;
    uint32_t n = ROWS_ALWAYS;
    n += copies->modules.n > 0;
    n += copies->nodes.n > 0;
    n += copies->sites.n > 0;
    n += copies->samples.n > 0;
    return n;
}

static void add_copied_row(
    uint32_t kind, uint64_t bytes, const struct tp_copied *copied)
{
    if (copied->n) add_row(kind, bytes, copied->n);
}

static void describe(enum tp_dump_reason reason, const struct tp_frozen *threads,
    const struct tp_live_view *view)
{
    struct tp_file_header *header = &dump.head.header;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    *header = (struct tp_file_header){ .version = TP_FORMAT_VERSION,
        .header_bytes = sizeof(*header),
        .total_bytes = sizeof(*header) + count_rows() * sizeof(struct tp_region),
        .state = TP_FILE_DUMP,
        .reason = reason,
        .flags = view->flags,
        .live_file_bytes = view->file_bytes,
        .row_bytes = sizeof(struct tp_region),
        .sequence = atomic_load_explicit(&dump.sequence, memory_order_relaxed),
        .time_unix_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
        .monotonic_ns = tp_os_now_ns(),
        .ticks = tp_os_ticks() };
    memcpy(header->magic, TP_FORMAT_MAGIC, sizeof(header->magic));
    tp_boot_read_rss(&header->rss_bytes, &header->rss_peak_bytes);
    add_row(TP_REGION_PROCESS, sizeof(struct tp_process_record), 1);
    add_row(TP_REGION_EXE, 1, view->exe_bytes);
    add_row(TP_REGION_COMMAND, 1, view->command_bytes);
    add_row(TP_REGION_SAMPLING, sizeof(dump.copies.sampling), 1);
    add_row(TP_REGION_TOTALS, sizeof(struct tp_totals), 1);
    add_row(TP_REGION_CLASSES, sizeof(struct tp_class_count), TP_CLASSES);
    choose_latencies();
    add_row(TP_REGION_LATENCY, dump.latencies.record_bytes, dump.latencies.n);
    add_row(TP_REGION_ENDED, sizeof(struct tp_ended_record), threads->n_ended);
    add_row(TP_REGION_THREADS, sizeof(struct tp_counters), threads->n_slots);
    const struct tp_copies *copies = &dump.copies;
    add_copied_row(
        TP_REGION_MODULES, sizeof(struct tp_module_record), &copies->modules);
    add_copied_row(TP_REGION_NODES, sizeof(struct tp_node_record), &copies->nodes);
    add_copied_row(TP_REGION_SITES, sizeof(struct tp_site_record), &copies->sites);
    add_copied_row(
        TP_REGION_SAMPLES, sizeof(struct tp_sample_record), &copies->samples);
    finish_timeline(threads);
    add_row(TP_REGION_TIMELINE, sizeof(dump.last), copies->points.n + 1);
}

/* Without memory for a copy: as they are now, `n` of them, the last perhaps empty. */
static void put_slots_now(struct writer *writer, uint32_t n)
{
    static const struct tp_counters none;
    struct tp_walk walk = tp_pool_walk();
    for (uint32_t i = 0; i < n; i++) {
        const struct tp_counters *slot = tp_pool_next(&walk);
        put(writer, slot ? slot : &none, sizeof(none));
    }
}

static uint32_t count_slots(void)
{
    uint32_t n = 0;
    struct tp_walk walk = tp_pool_walk();
    while (tp_pool_next(&walk)) n++;
    return n;
}

static void put_copied(
    struct writer *writer, const struct tp_copied *copied, uint64_t bytes)
{
    put(writer, copied->records, copied->n * bytes);
}

static void put_parts(struct writer *writer, enum tp_dump_reason reason,
    const struct tp_frozen *threads, const struct tp_live_view *view)
{
    describe(reason, threads, view);
    // Writing past RLIMIT_FSIZE would kill the program.
    if (tp_os_file_limit() < dump.head.header.total_bytes) {
        writer->error = EFBIG;
        return;
    }
    uint64_t total = dump.head.header.total_bytes;
    writer->memory = tp_os_map(total);
    writer->room = writer->memory ? total : 0;
    const struct tp_copies *copies = &dump.copies;
    put(writer, &dump.head.header, sizeof(dump.head.header));
    put(writer, dump.head.rows, dump.head.header.n_regions * sizeof(struct tp_region));
    put_padded(writer, view->process, sizeof(*view->process));
    put_padded(writer, view->exe, view->exe_bytes);
    put_padded(writer, view->command, view->command_bytes);
    put(writer, &copies->sampling, sizeof(copies->sampling));
    put_words(writer, &tp_account.totals, sizeof(tp_account.totals));
    put_words(writer, tp_account.classes, sizeof(tp_account.classes));
    for (uint32_t i = 0; i < dump.latencies.n; i++)
        put(writer, dump.latencies.of[i], dump.latencies.record_bytes);
    put_padded(writer, threads->ended, threads->n_ended * sizeof(*threads->ended));
    if (threads->slots)
        put(writer, threads->slots, threads->n_slots * sizeof(*threads->slots));
    else
        put_slots_now(writer, threads->n_slots);
    put_copied(writer, &copies->modules, sizeof(struct tp_module_record));
    put_copied(writer, &copies->nodes, sizeof(struct tp_node_record));
    put_copied(writer, &copies->sites, sizeof(struct tp_site_record));
    put_copied(writer, &copies->samples, sizeof(struct tp_sample_record));
    put_copied(writer, &copies->points, sizeof(dump.last));
    put(writer, &dump.last, sizeof(dump.last));
    flush(writer);
    if (writer->memory) tp_os_unmap(writer->memory, total);
}

static void put_dump(struct writer *writer, enum tp_dump_reason reason)
{
    struct tp_frozen threads;
    struct tp_live_view view = tp_live_view();
    if (!tp_frozen_take(&threads, &view))
        threads = (struct tp_frozen){ .n_slots = count_slots() };
    if (!tp_copies_take(&dump.copies)) view.flags |= TP_FILE_LOST_SITES;
    put_parts(writer, reason, &threads, &view);
    tp_copies_drop(&dump.copies);
    tp_frozen_drop(&threads);
}

/* What stands in the way is not ours to remove: of a killed process, or foreign. */
static int open_beside(void)
{
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, fd = -1;
    for (unsigned i = 0; i < NAMES && fd < 0; i++) {
        tp_format(dump.beside, sizeof(dump.beside), i ? "%s.%u.%u.part" : "%s.%u.part",
            dump.wish, tp_boot.pid, i);
        fd = open(dump.beside, flags, 0600);
        if (fd < 0 && errno != EEXIST) return -1;
    }
    if (fd >= 0) fchmod(fd, 0600);  // the umask may have taken more
    return fd;
}

static int write_dump(enum tp_dump_reason reason)
{
    uint64_t sequence = atomic_load_explicit(&dump.sequence, memory_order_relaxed);
    expand(tp_options.out, dump.wish, sequence);
    struct writer writer = { .fd = open_beside() };
    if (writer.fd < 0) return errno;
    put_dump(&writer, reason);
    if (close(writer.fd) != 0 && !writer.error) writer.error = errno;
    if (!writer.error) writer.error = move_into_place();
    if (writer.error) unlink(dump.beside);
    return writer.error;
}

/* Only a file of our own is appended to; without waiting for whoever reads a FIFO. */
static struct writer open_summary(void)
{
    int flags =
        O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    struct writer writer = { .fd = open(dump.summary, flags, 0600) };
    struct stat status;
    if (writer.fd < 0 || fstat(writer.fd, &status) != 0)
        writer.error = errno;
    else if (!S_ISCHR(status.st_mode) &&
        (!S_ISREG(status.st_mode) || status.st_uid != geteuid()))
        writer.error = EPERM;
    else if (!(status.st_mode & 0777))
        fchmod(writer.fd, 0600);  // just made, and the umask has taken all
    return writer;
}

static void write_summary(enum tp_dump_reason reason)
{
    if (tp_options.summary == TP_SUMMARY_OFF) return;
    size_t length = tp_summary_write(dump.text, sizeof(dump.text), reason);
    struct writer writer = { .fd = STDERR_FILENO };
    bool to_file = tp_options.summary == TP_SUMMARY_PATH;
    if (to_file) {
        expand(tp_options.summary_path, dump.summary,
            atomic_load_explicit(&dump.sequence, memory_order_relaxed));
        writer = open_summary();
    }
    put(&writer, dump.text, length);
    if (to_file && writer.fd >= 0) close(writer.fd);
    if (to_file && writer.error)
        tp_say("cannot write summary %s: %d", dump.summary, writer.error);
}

/*
 * One at a time. The last dump waits for the one under way, and none begins after
 * it; unless that one is ours and we stand in a handler on top of it.
 */
static bool begin(enum tp_dump_reason reason)
{
    uint32_t self = tp_os_tid();
    bool last = reason == TP_REASON_EXIT;
    if (last)
        atomic_store_explicit(&dump.leaving, true, memory_order_relaxed);
    else if (atomic_load_explicit(&dump.leaving, memory_order_relaxed))
        return false;
    for (unsigned tries = 0; tries < LAST_TRIES; tries++) {
        uint32_t nobody = 0;
        if (atomic_compare_exchange_strong_explicit(&dump.writer, &nobody, self,
                memory_order_acquire, memory_order_relaxed))
            return true;
        if (!last || nobody == self) return false;
        tp_os_pause();
    }
    return false;
}

void tp_dump_write(enum tp_dump_reason reason)
{
    if (tp_boot.secure || tp_os_is_sandboxed()) return;
    int saved = errno;
    if (!begin(reason)) {
        errno = saved;
        return;
    }
    struct tp_quiet quiet;
    tp_os_quiet(&quiet);
    int error = write_dump(reason);
    dump.written = !error;
    if (error && !dump.said) {
        dump.said = true;
        tp_say("cannot write %s: %d", dump.wish, error);
    }
    write_summary(reason);
    tp_os_loud(&quiet);
    atomic_fetch_add_explicit(&dump.sequence, 1, memory_order_relaxed);
    errno = saved;
    atomic_store_explicit(&dump.writer, 0, memory_order_release);
}

void tp_dump_forget(void)
{
    dump.written = false;
}

void tp_dump_withdraw(void)
{
    atomic_store_explicit(&dump.leaving, false, memory_order_relaxed);
    if (dump.written) unlink(dump.path);
    dump.written = false;
}

void tp_dump_forked(void)
{
    atomic_store_explicit(&dump.writer, 0, memory_order_relaxed);
    atomic_store_explicit(&dump.leaving, false, memory_order_relaxed);
    atomic_store_explicit(&dump.sequence, 0, memory_order_relaxed);
}
