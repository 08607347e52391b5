/* SPDX-License-Identifier: MIT */
/*
 * lookup.c - modules are looked up side by side, and within bounds of memory.
 *
 *     wanted addresses of a module -> index: has them all, done
 *                                        `-> files -> libdw -> into the index
 *
 * Workers are plain threads that take the next module from a counter. OpenMP would do the
 * same, but ThreadSanitizer does not understand the barriers of its runtime (libgomp), and
 * the thread that waits can show the progress.
 *
 * Holds always: the bytes of all modules that are open stay below `cache_bytes`, unless
 * one alone is larger; those that nobody reads are closed first, the least recently used
 * one before the others.
 */
#include "report/symbols.h"

#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    THREADS_MOST = 16,
    STACK_BYTES = 8 << 20,  // of a worker: libiberty and libdw recurse
    PROGRESS_AFTER_MS = 500,
    PROGRESS_EVERY_MS = 100,
    PROGRESS_NAME = 48,
};
static const uint64_t cache_bytes_default = (uint64_t)512 << 20;

/* One call of tp_lookup_run(). */
struct work {
    struct tp_lookup *lookup;
    struct tp_unit **units;
    size_t n;
    _Atomic(size_t) next;
    atomic_bool failed;
    pthread_mutex_t lock;  // of what follows
    pthread_cond_t moved;
    size_t done;
    const struct tp_unit *latest;  // that somebody took
};

void tp_lookup_init(struct tp_lookup *lookup, const struct tp_symbols_wish *wish)
{
    memset(lookup, 0, sizeof(*lookup));
    lookup->wish = *wish;
    lookup->places.folders = wish->debug_folders;
    lookup->places.debuginfod = wish->debuginfod;
    if (!lookup->wish.cache_bytes) lookup->wish.cache_bytes = cache_bytes_default;
    if (!wish->no_cache) lookup->folder = tp_index_folder();
    pthread_mutex_init(&lookup->lock, NULL);
    pthread_cond_init(&lookup->closed, NULL);
}

void tp_lookup_fini(struct tp_lookup *lookup)
{
    if (lookup->written) tp_index_prune(lookup->folder, TP_INDEX_FOLDER_BYTES);
    free(lookup->folder);
    pthread_cond_destroy(&lookup->closed);
    pthread_mutex_destroy(&lookup->lock);
}

void tp_unit_free(struct tp_unit *unit)
{
    tp_dwarf_close(unit->dwarf);
    tp_names_fini(&unit->names);
    free(unit->wanted);
    free(unit->path);
    free(unit);
}

/* ---- open modules, within bounds ---------------------------------------------------------- */

/* Takes it out of the list. Context: under the lock. */
static void unlink_unit(struct tp_lookup *lookup, struct tp_unit *unit)
{
    *(unit->newer ? &unit->newer->older : &lookup->newest) = unit->older;
    *(unit->older ? &unit->older->newer : &lookup->oldest) = unit->newer;
    unit->newer = unit->older = NULL;
}

/* An open module of which the caller is the only user from here on; NULL: it is not. */
static struct tp_dwarf *take_open(struct tp_lookup *lookup, struct tp_unit *unit)
{
    pthread_mutex_lock(&lookup->lock);
    struct tp_dwarf *dwarf = unit->dwarf;
    if (dwarf) {
        unlink_unit(lookup, unit);
        unit->dwarf = NULL;
    }
    pthread_mutex_unlock(&lookup->lock);
    return dwarf;
}

static bool fits(const struct tp_lookup *lookup, uint64_t bytes)
{
    uint64_t sum;
    return !__builtin_add_overflow(lookup->open_bytes, bytes, &sum) &&
        sum <= lookup->wish.cache_bytes;
}

/* Waits until so many bytes more may be open. */
static void make_room(struct tp_lookup *lookup, uint64_t bytes)
{
    pthread_mutex_lock(&lookup->lock);
    while (lookup->open_bytes && !fits(lookup, bytes)) {
        struct tp_unit *unit = lookup->oldest;
        if (unit) {
            unlink_unit(lookup, unit);
            lookup->open_bytes -= tp_dwarf_bytes(unit->dwarf);
            tp_dwarf_close(unit->dwarf);
            unit->dwarf = NULL;
        } else {
            pthread_cond_wait(&lookup->closed, &lookup->lock);
        }
    }
    lookup->open_bytes += bytes;
    if (lookup->open_bytes > lookup->most_bytes)
        lookup->most_bytes = lookup->open_bytes;
    lookup->opened++;
    pthread_mutex_unlock(&lookup->lock);
}

/* The caller has done with it; without a handle it could not be opened. */
static void put_open(struct tp_lookup *lookup, struct tp_unit *unit,
    struct tp_dwarf *dwarf, uint64_t bytes)
{
    pthread_mutex_lock(&lookup->lock);
    if (!dwarf) {
        lookup->open_bytes -= bytes;
    } else {
        unit->dwarf = dwarf;
        unit->older = lookup->newest;
        if (lookup->newest) lookup->newest->newer = unit;
        lookup->newest = unit;
        if (!lookup->oldest) lookup->oldest = unit;
    }
    pthread_cond_broadcast(&lookup->closed);
    pthread_mutex_unlock(&lookup->lock);
}

/* ---- one module ------------------------------------------------------------------------------ */

/* Leaves only what is not known. */
static void drop_known(struct tp_unit *unit)
{
    size_t n = 0;
    for (size_t i = 0; i < unit->n_wanted; i++)
        if (!tp_names_find(&unit->names, unit->wanted[i]))
            unit->wanted[n++] = unit->wanted[i];
    unit->n_wanted = n;
}

/* What nobody knows has a row all the same, so that it is not looked for again. */
static bool add_unknown(struct tp_unit *unit)
{
    static const struct tp_symbol unknown = { .function = "", .file = "" };
    for (size_t i = 0; i < unit->n_wanted; i++)
        if (!tp_names_add(&unit->names, unit->wanted[i], &unknown, 1)) return false;
    return true;
}

/* Reads the index; true when it answers all, whatever files there are. */
static bool ask_index(struct tp_lookup *lookup, struct tp_unit *unit)
{
    if (!unit->index_read && lookup->folder && unit->about.id.n &&
        unit->names.n_rows == 0)
        (void)tp_index_read(
            &unit->names, &unit->origin, lookup->folder, &unit->about.id);
    unit->index_read = true;
    drop_known(unit);
    return unit->n_wanted == 0 && unit->origin.quality == TP_QUALITY_DWARF;
}

/*
 * Better debug information than that which the names came from: they are forgotten, and
 * those of this call are looked up anew. `all` are the addresses, known ones included.
 */
static void prefer_files(struct tp_unit *unit, const struct tp_debug_files *files,
    const uint64_t *all, size_t n)
{
    const struct tp_origin *now = &files->origin, *then = &unit->origin;
    if (now->quality < then->quality) return;
    bool same = now->quality == then->quality &&
        (now->quality != TP_QUALITY_DWARF ||
            (now->bytes == then->bytes && now->time_ns == then->time_ns));
    if (same) return;
    unit->names.n_rows = 0;
    unit->names.n_symbols = 0;
    unit->origin = *now;
    memcpy(unit->wanted, all, n * sizeof(all[0]));
    unit->n_wanted = n;
}

static bool look_up_in(struct tp_lookup *lookup, struct tp_unit *unit,
    struct tp_dwarf *dwarf, struct tp_debug_files *files)
{
    uint64_t bytes = files->bytes;
    if (!dwarf) {
        make_room(lookup, bytes);
        dwarf = tp_dwarf_open(files);
    }
    bool good = dwarf
        ? tp_dwarf_look_up(dwarf, unit->wanted, unit->n_wanted, &unit->names)
        : add_unknown(unit);
    put_open(lookup, unit, dwarf, bytes);
    tp_names_sort(&unit->names);
    if (good && dwarf && lookup->folder && unit->about.id.n &&
        tp_index_write(&unit->names, &unit->origin, lookup->folder, &unit->about.id)) {
        pthread_mutex_lock(&lookup->lock);
        lookup->written = true;
        pthread_mutex_unlock(&lookup->lock);
    }
    return good;
}

/* Opens the files of the module for what the index does not know. */
static bool look_up_files(
    struct tp_lookup *lookup, struct tp_unit *unit, const uint64_t *all, size_t n)
{
    struct tp_debug_files files;
    struct tp_dwarf *dwarf = take_open(lookup, unit);
    if (dwarf) {
        memset(&files, 0, sizeof(files));
        return look_up_in(lookup, unit, dwarf, &files);
    }
    tp_debug_files_open(&files, &unit->about, &lookup->places);
    prefer_files(unit, &files, all, n);
    bool good = true;
    if (!unit->n_wanted) {
        tp_debug_files_close(&files);
    } else if (files.main_fd < 0 || files.origin.quality < unit->origin.quality) {
        // Names of less worth must not be taken for those of the index.
        tp_debug_files_close(&files);
        good = add_unknown(unit);
        tp_names_sort(&unit->names);
    } else {
        good = look_up_in(lookup, unit, NULL, &files);
    }
    return good;
}

static bool look_up(struct tp_lookup *lookup, struct tp_unit *unit)
{
    size_t n = unit->n_wanted;
    uint64_t *all = malloc(n * sizeof(all[0]));
    if (!all) return false;
    memcpy(all, unit->wanted, n * sizeof(all[0]));
    bool good = ask_index(lookup, unit) || look_up_files(lookup, unit, all, n);
    free(all);
    unit->n_wanted = 0;
    return good;
}

/* ---- workers and their progress ----------------------------------------------------------------- */

static void *run_worker(void *argument)
{
    struct work *work = argument;
    size_t i;
    // Relaxed: the units were all there before the threads, and each is one worker's.
    while ((i = atomic_fetch_add_explicit(&work->next, 1, memory_order_relaxed)) <
        work->n) {
        pthread_mutex_lock(&work->lock);
        work->latest = work->units[i];
        pthread_mutex_unlock(&work->lock);
        if (!look_up(work->lookup, work->units[i])) atomic_store(&work->failed, true);
        pthread_mutex_lock(&work->lock);
        work->done++;
        pthread_cond_signal(&work->moved);
        pthread_mutex_unlock(&work->lock);
    }
    return NULL;
}

/* One line, without anything that a terminal would obey. Context: under work->lock. */
static void say_progress(const struct work *work)
{
    char name[PROGRESS_NAME + 1];
    const char *path = work->latest ? work->latest->about.path : "";
    const char *slash = strrchr(path, '/');
    snprintf(name, sizeof(name), "%s", slash ? slash + 1 : path);
    for (char *at = name; *at; at++)
        if (*at < ' ' || *at > '~') *at = '?';
    fprintf(stderr, "\r\033[Ktidepool: symbols: %zu of %zu files, %s", work->done,
        work->n, name);
    fflush(stderr);
}

static void add_ms(struct timespec *time, long ms)
{
    time->tv_nsec += ms * 1000000;
    time->tv_sec += time->tv_nsec / 1000000000;
    time->tv_nsec %= 1000000000;
}

static void watch(struct work *work, bool show)
{
    struct timespec next;
    bool shown = false;
    clock_gettime(CLOCK_MONOTONIC, &next);
    add_ms(&next, PROGRESS_AFTER_MS);
    pthread_mutex_lock(&work->lock);
    while (work->done < work->n) {
        if (!show) {
            pthread_cond_wait(&work->moved, &work->lock);
        } else if (pthread_cond_timedwait(&work->moved, &work->lock, &next) != 0) {
            say_progress(work);
            shown = true;
            clock_gettime(CLOCK_MONOTONIC, &next);
            add_ms(&next, PROGRESS_EVERY_MS);
        }
    }
    pthread_mutex_unlock(&work->lock);
    if (shown) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
}

static unsigned count_threads(const struct tp_lookup *lookup, size_t n)
{
    cpu_set_t set;
    unsigned most = lookup->wish.threads;
    if (!most) {
        most = sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set)
                                                            : 1;
        if (most > THREADS_MOST) most = THREADS_MOST;
    }
    if (most > n) most = (unsigned)n;
    return most ? most : 1;
}

/* Signals are for the thread that waits. Returns how many threads there are. */
static unsigned start_threads(pthread_t *threads, unsigned n, struct work *work)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    unsigned started = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    while (started < n &&
        pthread_create(&threads[started], &attributes, run_worker, work) == 0)
        started++;
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

bool tp_lookup_run(struct tp_lookup *lookup, struct tp_unit **units, size_t n)
{
    struct work work = { .lookup = lookup, .units = units, .n = n };
    pthread_condattr_t clock;
    unsigned wanted = count_threads(lookup, n);
    pthread_t *threads = calloc(wanted, sizeof(threads[0]));
    if (!threads) return false;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&work.lock, NULL);
    pthread_cond_init(&work.moved, &clock);
    unsigned n_threads = start_threads(threads, wanted, &work);
    if (!n_threads) run_worker(&work);
    watch(&work, !lookup->wish.quiet && isatty(STDERR_FILENO) == 1);
    for (unsigned i = 0; i < n_threads; i++) pthread_join(threads[i], NULL);
    pthread_cond_destroy(&work.moved);
    pthread_mutex_destroy(&work.lock);
    pthread_condattr_destroy(&clock);
    free(threads);
    return !atomic_load(&work.failed);
}
