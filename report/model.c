/* SPDX-License-Identifier: MIT */
/*
 * model.c - the figures that follow from a dump's records.
 *
 * Idea: counters are added with one checked addition that remembers an overflow, so
 * that the sums need no checks between them. Once they are known to fit into 63 bits
 * every later difference is ordinary signed arithmetic.
 *
 * Threads: a slot's counters never start again, so what its running thread did is the
 * counters less the base of its epoch, and the rest belongs to threads that ended.
 * Their records are taken from that rest while they fit into it; what is left over is
 * one row of its own. The rows therefore sum to the totals whatever the file says.
 */
#include "report/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- checked sums ------------------------------------------------------------ */

struct sums {
    bool overflow;
};

static void add(struct sums *sums, uint64_t *to, uint64_t amount)
{
    if (__builtin_add_overflow(*to, amount, to) || *to > INT64_MAX)
        sums->overflow = true;
}

static void add_product(struct sums *sums, uint64_t *to, uint64_t a, uint64_t b)
{
    uint64_t product;
    if (__builtin_mul_overflow(a, b, &product))
        sums->overflow = true;
    else
        add(sums, to, product);
}

/* ---- classes and calls --------------------------------------------------------- */

static void add_slot_to_class(struct sums *sums, struct tp_class *class,
    const struct tp_thread_slot *slot, size_t i)
{
    add(sums, &class->allocations, slot->taken[i].allocations);
    add(sums, &class->requested_bytes, slot->taken[i].requested_bytes);
    add(sums, &class->frees, slot->frees[i]);
    if (i == TP_FORMAT_LARGE) {
        add(sums, &class->allocated_bytes, slot->large_allocated_bytes);
        add(sums, &class->freed_bytes, slot->large_freed_bytes);
        return;
    }
    add_product(
        sums, &class->allocated_bytes, slot->taken[i].allocations, class->size_bytes);
    add_product(sums, &class->freed_bytes, slot->frees[i], class->size_bytes);
}

static void settle_class(struct tp_class *class)
{
    class->live_blocks = (int64_t)(class->allocations - class->frees);
    class->live_bytes = (int64_t)(class->allocated_bytes - class->freed_bytes);
}

static void add_class_to_totals(
    struct sums *sums, struct tp_totals *totals, const struct tp_class *class)
{
    add(sums, &totals->allocations, class->allocations);
    add(sums, &totals->frees, class->frees);
    add(sums, &totals->requested_bytes, class->requested_bytes);
    add(sums, &totals->allocated_bytes, class->allocated_bytes);
    add(sums, &totals->freed_bytes, class->freed_bytes);
}

/* False when blocks were counted in a class whose size the dump does not give. */
static bool build_classes(struct sums *sums, struct tp_profile *profile)
{
    const struct tp_dump *dump = profile->dump;
    struct tp_class unknown = { 0 };
    profile->n_classes = dump->n_classes;
    for (size_t i = 0; i < TP_FORMAT_POOL_CLASSES; i++) {
        struct tp_class *class = i < dump->n_classes ? &profile->classes[i] : &unknown;
        if (i < dump->n_classes) {
            class->size_bytes = dump->classes[i].size_bytes;
            class->slabs = dump->classes[i].slabs;
            class->slab_bytes = dump->classes[i].slab_bytes;
        }
        for (size_t s = 0; s < dump->n_slots; s++)
            add_slot_to_class(sums, class, &dump->slots[s], i);
        settle_class(class);
        if (i < dump->n_classes) add_class_to_totals(sums, &profile->totals, class);
    }
    for (size_t s = 0; s < dump->n_slots; s++)
        add_slot_to_class(sums, &profile->large, &dump->slots[s], TP_FORMAT_LARGE);
    profile->large.slab_bytes = dump->totals.large_bytes;
    settle_class(&profile->large);
    add_class_to_totals(sums, &profile->totals, &profile->large);

    struct tp_totals *totals = &profile->totals;
    totals->live_blocks = (int64_t)(totals->allocations - totals->frees);
    totals->live_bytes = (int64_t)(totals->allocated_bytes - totals->freed_bytes);
    return unknown.allocations == 0 && unknown.frees == 0;
}

/* `total` less `part`, or 0: a live file's figures may be a moment apart. */
static uint64_t less(uint64_t total, uint64_t part)
{
    return total > part ? total - part : 0;
}

static void build_calls(struct sums *sums, struct tp_profile *profile)
{
    struct tp_calls *calls = &profile->calls;
    uint64_t fresh = 0;
    uint64_t freed = 0;
    uint64_t others = 0;  // allocations that did not come from malloc
    uint64_t failed[TP_ENTRIES] = { 0 };
    for (size_t s = 0; s < profile->dump->n_slots; s++) {
        const struct tp_thread_slot *slot = &profile->dump->slots[s];
        for (size_t e = 0; e < TP_ENTRIES; e++) {
            add(sums, &calls->entries[e], slot->calls[e]);
            add(sums, &failed[e], slot->failed[e]);
        }
        add(sums, &calls->realloc_in_place, slot->realloc_in_place);
        add(sums, &calls->realloc_moved, slot->realloc_moved);
        add(sums, &fresh, slot->realloc_fresh);
        add(sums, &freed, slot->realloc_freed);
    }
    for (size_t e = 0; e < TP_ENTRIES; e++) {
        add(sums, &calls->failed, failed[e]);
        if (e == TP_ENTRY_MALLOC || e == TP_ENTRY_REALLOC || e == TP_ENTRY_REALLOCARRAY)
            continue;
        add(sums, &others, less(calls->entries[e], failed[e]));
    }
    add(sums, &others, calls->realloc_moved);
    add(sums, &others, fresh);
    add(sums, &freed, calls->realloc_moved);
    calls->entries[TP_ENTRY_MALLOC] = less(profile->totals.allocations, others);
    add(sums, &calls->entries[TP_ENTRY_MALLOC], failed[TP_ENTRY_MALLOC]);
    calls->free = less(profile->totals.frees, freed);
}

/* ---- threads ------------------------------------------------------------------- */

static void slot_sums(struct sums *sums, struct tp_thread_sums *out,
    const struct tp_thread_slot *slot, const struct tp_dump *dump)
{
    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < TP_FORMAT_CLASSES; i++) {
        uint64_t size = i < dump->n_classes ? dump->classes[i].size_bytes : 0;
        add(sums, &out->allocations, slot->taken[i].allocations);
        add(sums, &out->requested_bytes, slot->taken[i].requested_bytes);
        add(sums, &out->frees, slot->frees[i]);
        add_product(sums, &out->allocated_bytes, slot->taken[i].allocations,
            i == TP_FORMAT_LARGE ? 0 : size);
        add_product(
            sums, &out->freed_bytes, slot->frees[i], i == TP_FORMAT_LARGE ? 0 : size);
    }
    add(sums, &out->allocated_bytes, slot->large_allocated_bytes);
    add(sums, &out->freed_bytes, slot->large_freed_bytes);
    add(sums, &out->remote_frees, slot->remote_frees);
}

static void add_sums(
    struct sums *sums, struct tp_thread_sums *to, const struct tp_thread_sums *amount)
{
    add(sums, &to->allocations, amount->allocations);
    add(sums, &to->frees, amount->frees);
    add(sums, &to->requested_bytes, amount->requested_bytes);
    add(sums, &to->allocated_bytes, amount->allocated_bytes);
    add(sums, &to->freed_bytes, amount->freed_bytes);
    add(sums, &to->remote_frees, amount->remote_frees);
}

static void take_sums(struct tp_thread_sums *from, const struct tp_thread_sums *amount)
{
    from->allocations = less(from->allocations, amount->allocations);
    from->frees = less(from->frees, amount->frees);
    from->requested_bytes = less(from->requested_bytes, amount->requested_bytes);
    from->allocated_bytes = less(from->allocated_bytes, amount->allocated_bytes);
    from->freed_bytes = less(from->freed_bytes, amount->freed_bytes);
    from->remote_frees = less(from->remote_frees, amount->remote_frees);
}

static bool within(
    const struct tp_thread_sums *part, const struct tp_thread_sums *whole)
{
    return part->allocations <= whole->allocations && part->frees <= whole->frees &&
        part->requested_bytes <= whole->requested_bytes &&
        part->allocated_bytes <= whole->allocated_bytes &&
        part->freed_bytes <= whole->freed_bytes &&
        part->remote_frees <= whole->remote_frees;
}

static bool any(const struct tp_thread_sums *sums)
{
    return sums->allocations || sums->frees || sums->requested_bytes ||
        sums->allocated_bytes || sums->freed_bytes || sums->remote_frees;
}

static void add_thread(struct tp_profile *profile, uint32_t tid, bool running,
    const char *name, const struct tp_thread_sums *sums)
{
    struct tp_thread *thread = &profile->threads[profile->n_threads++];
    thread->tid = tid;
    thread->running = running;
    thread->sums = *sums;
    snprintf(thread->name, sizeof(thread->name), "%s", name);
}

/* Adds the rows of slots in use now; the rest of all slots goes to `out_rest`. */
static void add_running(
    struct sums *sums, struct tp_profile *profile, struct tp_thread_sums *out_rest)
{
    const struct tp_dump *dump = profile->dump;
    memset(out_rest, 0, sizeof(*out_rest));
    for (size_t i = 0; i < dump->n_slots; i++) {
        const struct tp_thread_slot *slot = &dump->slots[i];
        struct tp_thread_sums all;
        slot_sums(sums, &all, slot, dump);
        struct tp_thread_sums own = all;
        take_sums(&own, &slot->base[slot->epoch & 1]);
        if (slot->state == TP_SLOT_RUNNING) {
            add_thread(profile, slot->tid, true, slot->name, &own);
            take_sums(&all, &own);
        } else if (slot->state == TP_SLOT_SHARED && any(&own)) {
            add_thread(profile, 0, true, "(threads without a slot)", &own);
            take_sums(&all, &own);
        }
        add_sums(sums, out_rest, &all);
    }
}

static bool build_threads(
    struct sums *sums, struct tp_profile *profile, struct tp_error *error)
{
    const struct tp_dump *dump = profile->dump;
    size_t room = dump->n_slots + dump->n_ended + 1;
    profile->threads = calloc(room, sizeof(profile->threads[0]));
    if (!profile->threads) return tp_error_set(error, "out of memory");

    struct tp_thread_sums rest;
    add_running(sums, profile, &rest);
    for (size_t i = 0; i < dump->n_ended; i++) {
        const struct tp_ended_record *record = &dump->ended[i];
        if (!tp_ended_counts(dump, record) || !within(&record->sums, &rest)) continue;
        add_thread(profile, record->tid, false, record->name, &record->sums);
        take_sums(&rest, &record->sums);
    }
    if (any(&rest)) add_thread(profile, 0, false, "(other ended threads)", &rest);
    return true;
}

/* ---- the peak ------------------------------------------------------------------ */

/* Figures this large are no byte counts; sums of a few of them cannot overflow. */
static int64_t plausible(int64_t value)
{
    const int64_t most = INT64_C(1) << 58;
    if (value > most) return most;
    return value < -most ? -most : value;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

struct open_epochs {
    size_t n;         // slots that count now
    int64_t sum;      // of the highest net in each
    int64_t highest;  // of them
};

static void read_epochs(struct open_epochs *out, const struct tp_profile *profile)
{
    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < profile->dump->n_slots; i++) {
        const struct tp_thread_slot *slot = &profile->dump->slots[i];
        bool shared = slot->state == TP_SLOT_SHARED;
        if (slot->state != TP_SLOT_RUNNING && !shared) continue;
        int64_t high = plausible(slot->high);
        int64_t top = larger(0, larger(high, high - plausible(slot->room)));
        if (shared && top == 0) continue;
        out->n++;
        out->sum = plausible(out->sum + top);
        out->highest = larger(out->highest, top);
    }
}

/* The derivation stands beside struct tp_totals_record in the format. */
static void build_peak(struct tp_profile *profile)
{
    const struct tp_totals_record *record = &profile->dump->totals;
    struct tp_totals *totals = &profile->totals;
    struct open_epochs open;
    read_epochs(&open, profile);
    int64_t net = plausible(record->net);
    int64_t single = larger(0, plausible(record->peak_single));
    int64_t low = larger(0, plausible(record->peak_low));
    int64_t high = larger(0, plausible(record->peak_high));
    int64_t best = larger(single, plausible(record->peak_estimate));
    int64_t raised = larger(best, net + open.highest);
    // While the process runs, or several threads do, its parts were not read at one
    // moment: their sums may say more than ever was, and so prove nothing.
    bool torn = profile->dump->running || open.n > 1;
    if (open.n <= 1 && !torn)
        single = larger(single, net + open.sum);
    else
        high = larger(high, net + open.sum);

    low = larger(low, single);
    high = larger(high, low);
    totals->peak_exact = single == high && profile->complete;
    if (totals->live_bytes > high) {
        totals->peak_exact = false;
        high = totals->live_bytes;
    }
    if (!torn) low = larger(low, totals->live_bytes);
    raised = larger(raised, larger(low, totals->live_bytes));
    totals->peak_low = low;
    totals->peak_high = high;
    totals->peak_bytes = totals->peak_exact ? single : raised > high ? high : raised;

    double ticks =
        (double)(int64_t)(record->peak_ticks - profile->dump->process.start_ticks);
    double ns = ticks * tp_latency_tick_ns(profile->dump);
    bool later = totals->peak_bytes > best || ns > (double)profile->duration_ns;
    if (later)
        totals->peak_ns = profile->duration_ns;
    else
        totals->peak_ns = ns > 0 && record->peak_ticks ? (uint64_t)ns : 0;
}

/* ---- the rest ------------------------------------------------------------------ */

static const char *reason_word(const struct tp_dump *dump)
{
    static const char *const words[] = {
        [TP_REASON_EXIT] = "exit",
        [TP_REASON_SIGNAL] = "signal",
        [TP_REASON_INTERVAL] = "interval",
        [TP_REASON_REQUEST] = "request",
        [TP_REASON_KILLED] = "killed",
    };
    if (dump->header.state == TP_FILE_LIVE && dump->running) return "live";
    if (dump->header.state == TP_FILE_LIVE && dump->header.reason != TP_REASON_EXIT)
        return "killed";
    if (dump->header.reason < 1 || dump->header.reason > TP_REASON_KILLED)
        return "request";
    return words[dump->header.reason];
}

static void build_coverage(struct tp_profile *profile)
{
    static const struct {
        uint32_t flag;
        const char *word;
    } reasons[] = {
        { TP_PROCESS_OTHER_MALLOC, "other_malloc" },
        { TP_PROCESS_NO_RANGE, "no_range" },
        { TP_PROCESS_NO_FILE, "no_live_file" },
        { TP_PROCESS_SANDBOXED, "sandboxed" },
        { TP_PROCESS_DEEPBIND_KEPT, "deepbind_kept" },
    };
    const struct tp_process_record *process = &profile->dump->process;
    profile->inert = (process->flags & TP_PROCESS_INERT) != 0;
    profile->foreign_frees = profile->dump->totals.foreign_frees;
    profile->deepbind_stripped = process->deepbind_stripped;
    profile->namespaces = process->namespaces;
    size_t n = 0;
    if (profile->inert && !(process->flags & TP_PROCESS_OTHER_MALLOC))
        profile->coverage_reasons[n++] = "own_malloc";
    for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
        if (process->flags & reasons[i].flag)
            profile->coverage_reasons[n++] = reasons[i].word;
    if (profile->namespaces) profile->coverage_reasons[n++] = "namespaces";
    if (!profile->complete) profile->coverage_reasons[n++] = "lost_counts";
    profile->n_coverage_reasons = n;
}

static void build_process(struct tp_profile *profile)
{
    const struct tp_dump *dump = profile->dump;
    uint64_t end = dump->running ? dump->now_ns : dump->header.monotonic_ns;
    uint64_t begin = dump->process.start_monotonic_ns;
    profile->duration_ns = less(end, begin);
    profile->reason = reason_word(dump);
    profile->sequence = dump->header.sequence;
    profile->time_unix_ns = dump->header.time_unix_ns;
    profile->complete = (dump->header.flags & TP_FILE_LOST_COUNTS) == 0;
    if (!dump->running) return;
    profile->time_unix_ns = dump->process.start_unix_ns + profile->duration_ns;
}

bool tp_profile_build(struct tp_profile *out_profile, const struct tp_dump *dump,
    const char *name, struct tp_error *error)
{
    struct sums sums = { 0 };
    memset(out_profile, 0, sizeof(*out_profile));
    out_profile->dump = dump;
    build_process(out_profile);
    bool known = build_classes(&sums, out_profile);
    build_calls(&sums, out_profile);
    if (!build_threads(&sums, out_profile, error)) return false;
    if (sums.overflow || !known) {
        tp_profile_fini(out_profile);
        return tp_error_set(error, "cannot read %s: damaged: %s", name,
            known ? "the counters overflow" : "blocks of a class without a size");
    }
    build_peak(out_profile);
    build_coverage(out_profile);
    out_profile->n_latency =
        tp_latency_build(out_profile->latency, dump, out_profile->duration_ns);
    for (size_t i = 0; i < out_profile->n_latency; i++)
        out_profile->self_cpu_ns += out_profile->latency[i].total_ns;
    out_profile->self_bytes = dump->totals.self_bytes;
    // A live file is as long as it says; a dump tells of the one behind it.
    out_profile->live_file_bytes = dump->header.state == TP_FILE_LIVE
        ? dump->header.total_bytes
        : dump->header.live_file_bytes;
    return true;
}

bool tp_dump_is_sound(const struct tp_dump *dump)
{
    struct tp_error ignored;
    struct tp_profile profile;
    if (!tp_profile_build(&profile, dump, "a dump", &ignored)) return false;
    tp_profile_fini(&profile);
    return true;
}

uint64_t tp_dump_counted(const struct tp_dump *dump)
{
    uint64_t n = 0;
    for (size_t i = 0; i < dump->n_slots; i++)
        for (size_t c = 0; c < TP_FORMAT_CLASSES; c++)
            n += dump->slots[i].taken[c].allocations + dump->slots[i].frees[c];
    return n;
}

void tp_profile_fini(struct tp_profile *profile)
{
    free(profile->threads);
    profile->threads = NULL;
    profile->n_threads = 0;
}
