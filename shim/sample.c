/* SPDX-License-Identifier: MIT */
/*
 * sample.c - what becomes of a sampled block, from the sampler's byte to its free.
 *
 * Sampled: the pool asks when the byte is allocated that a heap's sampler waits for. The
 * stack is walked, the site found, the block's weight added to it, and a record kept
 * until the block is freed. Its number is the block's mark. The weight is that of the
 * interval that the distance was drawn with; the next one may be another (poisson.c).
 *
 * Exact: the pool tells of every block. The mark is the site itself, all weights are 1.
 *
 * A large block that grows where it stands is judged anew by its new size, as if it had
 * been freed and allocated at the place that made it grow, but only the growth counts as
 * allocated. One that shrinks stays what it is: the chance it had depends on bytes over
 * interval only, so both shrink. What is smaller is sampled no more and no less.
 */
#include "pool/pool.h"
#include "shim/output.h"
#include "shim/profile.h"

enum {
    SCRATCHES = 64,    // threads that can be at a sample at once
    OWN = 128,         // threads that remember their stacks, in exact mode
    PLACE_TRIES = 20,  // of 50 us each
    SLOTS = 32 * 1024,
    TICKS_PER_SECOND = 10,  // of the pool
};

/* Where one stack is put. */
struct place {
    _Atomic(bool) busy;
    struct tp_stack_memory *memory;
    uint32_t tid;               // exact mode: whose stack it was
    struct tp_sampler sampler;  // for blocks that grow: nothing counts down to those
};

/*
 * In exact mode a thread keeps a place of its own until it ends, and remembers the last
 * stack there. Such a place touches 24 KiB: 10 000 threads with one each were 240 MB.
 * Those that find none walk whole stacks at the shared places.
 */
static struct {
    struct place *_Atomic of_slot[SLOTS];  // written by the slot's thread only
    const void *last[SLOTS];               // likewise: the block that it took last
    struct place *_Atomic idle[OWN];       // of threads that ended
    _Atomic(uint32_t) n_idle;  // at least so many, but for changes under way
    _Atomic(uint32_t) n_own;   // made, or about to be
    struct place *_Atomic shared[SCRATCHES];
    _Atomic(uint32_t) n_shared;  // made, or about to be
    _Atomic(uint64_t) next_dump_ns;
    _Atomic(uint64_t) next_dump_bytes;
} sample;

static bool is_exact(void)
{
    return tp_options.sample == TP_SAMPLE_ALL;
}

static void count(uint64_t *counter, uint64_t n)
{
    __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
}

void tp_sample_open(void)
{
    bool on = tp_options.sample != 0;
    tp_sampling->mode = is_exact() ? TP_SAMPLING_EXACT
        : on                       ? TP_SAMPLING_SAMPLED
                                   : TP_SAMPLING_OFF;
    tp_sampling->depth = tp_options.depth;
    tp_sampling->interval_bytes = is_exact() ? 1 : tp_options.sample;
    tp_stack_open(tp_options.unwind == TP_UNWIND_FP ? TP_STACK_FP
            : tp_options.unwind == TP_UNWIND_DWARF  ? TP_STACK_DWARF
                                                    : TP_STACK_AUTO);
}

/* ---- places for stacks ---- */

static struct place *make_place(bool remember)
{
    struct place *place = tp_os_map(sizeof(*place));
    if (!place) return NULL;
    place->memory = tp_stack_memory_make(remember);
    if (place->memory) return place;
    tp_os_unmap(place, sizeof(*place));
    return NULL;
}

static bool seize(struct place *place)
{
    return !atomic_exchange_explicit(&place->busy, true, memory_order_acquire);
}

/* One that nobody is at; made when there is none yet. NULL: all are in use. */
static struct place *any_place(void)
{
    for (unsigned i = 0; i < SCRATCHES; i++) {
        // Meets the release below.
        struct place *place =
            atomic_load_explicit(&sample.shared[i], memory_order_acquire);
        if (place && seize(place)) return place;
    }
    // Counted before it is made: of threads that come at once each makes one at most.
    uint32_t i = atomic_load_explicit(&sample.n_shared, memory_order_relaxed);
    do {
        if (i >= SCRATCHES) return NULL;
    } while (!atomic_compare_exchange_weak_explicit(
        &sample.n_shared, &i, i + 1, memory_order_relaxed, memory_order_relaxed));
    struct place *made = make_place(false);
    if (!made) {
        atomic_fetch_sub_explicit(&sample.n_shared, 1, memory_order_relaxed);
        return NULL;
    }
    seize(made);
    for (i = 0; i < SCRATCHES; i++) {
        struct place *none = NULL;
        if (atomic_compare_exchange_strong_explicit(&sample.shared[i], &none, made,
                memory_order_release, memory_order_relaxed))
            break;
    }
    return made;
}

/* One that a thread has left behind, or a new one; NULL: there are enough. */
static struct place *get_own(void)
{
    if (atomic_load_explicit(&sample.n_idle, memory_order_relaxed))
        for (unsigned i = 0; i < OWN; i++) {
            // Meets the release in give_up_own().
            struct place *place =
                atomic_exchange_explicit(&sample.idle[i], NULL, memory_order_acquire);
            if (!place) continue;
            atomic_fetch_sub_explicit(&sample.n_idle, 1, memory_order_relaxed);
            place->tid = 0;
            return place;
        }
    if (atomic_load_explicit(&sample.n_own, memory_order_relaxed) >= OWN) return NULL;
    bool good = atomic_fetch_add_explicit(&sample.n_own, 1, memory_order_relaxed) < OWN;
    struct place *place = good ? make_place(true) : NULL;
    if (!place) atomic_fetch_sub_explicit(&sample.n_own, 1, memory_order_relaxed);
    return place;
}

/* Who sits at a shared place may have been put to sleep there: for a while only. */
static struct place *wait_for_place(void)
{
    struct place *place = any_place();
    for (unsigned i = 0; !place && i < PLACE_TRIES; i++) {
        if (atomic_load_explicit(&sample.n_shared, memory_order_relaxed) < SCRATCHES)
            return NULL;  // no memory
        tp_os_pause();
        place = any_place();
    }
    return place;
}

/* The slot's thread is another one, or has no place yet. */
static TP_SLOW struct place *begin_own(const struct tp_told *block, uint32_t tid)
{
    if (block->slot >= SLOTS) return wait_for_place();
    struct place *_Atomic *at = &sample.of_slot[block->slot];
    struct place *place = atomic_load_explicit(at, memory_order_relaxed);
    if (!place) place = get_own();
    if (!place) return wait_for_place();
    atomic_store_explicit(at, place, memory_order_relaxed);
    tp_stack_memory_forget(place->memory);
    place->tid = tid;
    return place;
}

/* The slot's own, or a shared one, which leave() gives back. */
static inline struct place *own_place(const struct tp_told *block)
{
    uint32_t tid = block->counters ? block->counters->tid : 0;
    struct place *place = TP_LIKELY(block->slot < SLOTS)
        ? atomic_load_explicit(&sample.of_slot[block->slot], memory_order_relaxed)
        : NULL;
    return TP_LIKELY(place && place->tid == tid) ? place : begin_own(block, tid);
}

/* What the slot's thread kept for its stacks is the next thread's. */
static void give_up_own(uint32_t slot)
{
    if (slot >= SLOTS) return;
    sample.last[slot] = NULL;
    struct place *place =
        atomic_exchange_explicit(&sample.of_slot[slot], NULL, memory_order_relaxed);
    if (!place) return;
    tp_stack_memory_forget(place->memory);
    for (unsigned i = 0; i < OWN; i++) {
        struct place *none = NULL;
        // Meets the acquire in get_own().
        if (!atomic_compare_exchange_strong_explicit(&sample.idle[i], &none, place,
                memory_order_release, memory_order_relaxed))
            continue;
        atomic_fetch_add_explicit(&sample.n_idle, 1, memory_order_relaxed);
        return;
    }
}

static void leave(struct place *place)
{
    if (place) atomic_store_explicit(&place->busy, false, memory_order_release);
}

/* ---- the caller's stack ---- */

static void note_walk(const struct tp_stack *stack, uint64_t ticks)
{
    count(&tp_sampling->walk_ticks, ticks);
    count(&tp_sampling->walks_timed, 1);
    count(&tp_sampling->frames_timed, stack->n);
    count(&tp_sampling->frames, stack->n);
}

static void count_end(enum tp_stack_end end)
{
    // With every block counted, whole stacks are what the others leave.
    if (!is_exact() || end != TP_STACK_WHOLE) count(&tp_sampling->ends[end], 1);
}

/*
 * The innermost node of the stack that we stand on; `place` may be NULL. The note, if
 * there is one, is where its site can be kept.
 */
static uint32_t take_node(
    struct place *place, enum tp_stack_end *out_end, struct tp_stack_note **out_note)
{
    *out_end = TP_STACK_NONE;
    *out_note = NULL;
    bool exact = is_exact(), all;
    uint32_t node = 0;
    if (place) {
        uint64_t begin = exact ? 0 : tp_os_ticks();
        struct tp_stack *stack = tp_stack_take(place->memory, tp_options.depth);
        if (!exact) note_walk(stack, tp_os_ticks() - begin);
        node = tp_site_node(stack, &all);
        *out_end = all ? stack->end : TP_STACK_NO_ROOM;
        if (exact && all) *out_note = tp_stack_learn(place->memory);
    }
    count_end(*out_end);
    return node;
}

/* The site of a block; 0 when there is no room for one. */
static uint32_t take_site(struct place *place, uint32_t class)
{
    enum tp_stack_end end;
    struct tp_stack_note *note;
    uint32_t node = take_node(place, &end, &note);
    uint32_t site = tp_site_of(node, class, end);
    if (note) note->class = class, note->site = site;
    return site;
}

/*
 * The same, without a walk where the stack is known. Blocks whose caller is not told come
 * by many ways, few of them often: to try those first cost bench-strings 0.8 % more
 * instructions than it saved.
 */
static uint32_t recall_site(struct place *place, const struct tp_told *block)
{
    struct tp_stack_note *note =
        place && block->caller ? tp_stack_recall(place->memory, block->caller) : NULL;
    if (TP_UNLIKELY(!note)) return take_site(place, block->class);
    if (TP_UNLIKELY(note->end != TP_STACK_WHOLE))
        count_end((enum tp_stack_end)note->end);
    if (TP_LIKELY(note->site && note->class == block->class)) return note->site;
    note->class = block->class;
    note->site = tp_site_of(note->node, block->class, (enum tp_stack_end)note->end);
    return note->site;
}

/* ---- sampled ---- */

static uint64_t allocations_of(const struct tp_counters *counters)
{
    uint64_t n = 0;
    for (unsigned c = 0; c <= TP_CLASSES; c++)
        n += tp_count_read(&counters->taken[c].allocations);
    return n;
}

static bool is_large(const struct tp_told *block)
{
    return block->class == TP_LARGE_CLASS;
}

static uint32_t begin_sample(
    const struct tp_told *block, uint32_t site, uint64_t interval)
{
    struct tp_sample_record record = { .site = site,
        .address = (uintptr_t)block->p,
        .bytes = block->bytes,
        .requested_bytes = block->requested,
        .interval_bytes = interval,
        .born_ticks = tp_os_ticks(),
        .allocations = allocations_of(block->counters),
        .slot = block->slot };
    return tp_sample_begin(&record);
}

/* A site and a record for the block; 0, and `out_site` 0, when it is dropped. */
static uint32_t follow(struct place *place, const struct tp_told *block,
    uint64_t interval, uint32_t *out_site)
{
    uint32_t site = take_site(place, block->class);
    uint32_t mark = site ? begin_sample(block, site, interval) : 0;
    if (!mark) count(&tp_sampling->dropped, 1);
    *out_site = mark ? site : 0;
    return mark;
}

static struct tp_weight weight_of(const struct tp_sample_record *record, bool large)
{
    return tp_poisson_weight(
        record->interval_bytes, record->bytes, record->requested_bytes, large);
}

void tp_host_arm(struct tp_sampler *sampler)
{
    tp_poisson_arm(sampler, is_exact() ? 0 : tp_options.sample);
}

static uint32_t take_sample(struct tp_sampler *sampler, const struct tp_told *block)
{
    uint64_t interval = sampler->interval;
    uint64_t ticks_per_ms = tp_pool_tick_ticks() * TICKS_PER_SECOND / 1000;
    tp_poisson_next(
        sampler, is_exact() ? 0 : tp_options.sample, tp_os_ticks(), ticks_per_ms);
    if (!interval || !tp_options.sample || is_exact()) return 0;
    if (!block->p) {
        count(&tp_sampling->dropped, 1);
        return 0;
    }
    int64_t peak = tp_pool_peak_now(block->counters);
    struct place *place = any_place();
    uint32_t site, mark = follow(place, block, interval, &site);
    leave(place);
    if (!mark) return 0;
    count(&tp_sampling->samples, 1);
    struct tp_weight weight =
        tp_poisson_weight(interval, block->bytes, block->requested, is_large(block));
    tp_site_taken(site, &weight, peak);
    return mark;
}

uint32_t tp_host_sampled(struct tp_sampler *sampler, const struct tp_told *block)
{
    struct tp_floats held = tp_floats_hold();
    uint32_t mark = take_sample(sampler, block);
    tp_floats_return(held);
    return mark;
}

static void end_sample(uint32_t mark, const struct tp_told *block)
{
    struct tp_sample_record record;
    if (!tp_sample_end(mark, &record)) return;
    struct tp_floats held = tp_floats_hold();
    struct tp_weight weight = weight_of(&record, is_large(block));
    bool temporary = record.slot == block->slot && block->counters &&
        record.allocations == allocations_of(block->counters);
    tp_site_freed(record.site, &weight, temporary, tp_pool_peak_now(block->counters));
    tp_floats_return(held);
}

/* Without variance: what came from elsewhere was left to no chance but once. */
static struct tp_weight negative(struct tp_weight weight)
{
    return (struct tp_weight){
        .blocks = -weight.blocks, .requested = -weight.requested, .bytes = -weight.bytes
    };
}

static const struct tp_weight nothing;

/* It keeps its weight and has fewer bytes. */
static void shrink_sample(uint32_t mark, const struct tp_told *block, size_t old_bytes)
{
    struct tp_sample_record record;
    if (!tp_sample_read(mark, &record) || !old_bytes) return;
    struct tp_weight before = weight_of(&record, true);
    double share = (double)block->bytes / (double)old_bytes;
    record.interval_bytes = (uint64_t)((double)record.interval_bytes * share + 0.5);
    record.bytes = block->bytes;
    record.requested_bytes = block->requested;
    struct tp_weight after = weight_of(&record, true);
    after = (struct tp_weight){ .requested = before.requested - after.requested,
        .bytes = before.bytes - after.bytes,
        .byte_variance = before.byte_variance - after.byte_variance };
    tp_site_adjust(record.site, &nothing, &after, tp_pool_peak_now(block->counters));
    tp_sample_write(mark, &record);
}

/*
 * Judged anew. The whole block is live here from now on; of it the growth was allocated
 * here, and the rest came here: it is taken from what was freed.
 */
static uint32_t grow_sample(
    uint32_t mark, const struct tp_told *block, size_t old_bytes, size_t old_requested)
{
    int64_t peak = tp_pool_peak_now(block->counters);
    struct tp_sample_record record;
    if (mark && tp_sample_end(mark, &record)) {
        struct tp_weight weight = weight_of(&record, true);
        tp_site_adjust(record.site, &nothing, &weight, peak);
    }
    struct place *place = any_place();
    if (!place) return 0;
    if (!place->sampler.interval) tp_poisson_arm(&place->sampler, tp_options.sample);
    uint64_t interval = tp_options.sample;
    uint32_t site, now = 0;
    if (tp_poisson_hits(&place->sampler, interval, block->bytes))
        now = follow(place, block, interval, &site);
    leave(place);
    if (!now) return 0;
    struct tp_weight all =
        tp_poisson_weight(interval, block->bytes, block->requested, true);
    double w = (double)all.blocks / TP_FORMAT_ONE;
    struct tp_weight came = { .blocks = all.blocks,
        .requested = (uint64_t)(w * (double)old_requested + 0.5),
        .bytes = (uint64_t)(w * (double)old_bytes + 0.5) };
    struct tp_weight grown = all;
    grown.blocks = 0;
    grown.requested -= came.requested;
    grown.bytes -= came.bytes;
    came = negative(came);
    tp_site_adjust(site, &grown, &came, peak);
    count(&tp_sampling->samples, 1);
    return now;
}

/* ---- exact ---- */

uint32_t tp_host_taken(const struct tp_told *block)
{
    int64_t peak = tp_pool_peak_exact();
    struct place *place = own_place(block);
    uint32_t site = recall_site(place, block);
    leave(place);
    if (TP_LIKELY(block->slot < SLOTS)) sample.last[block->slot] = block->p;
    if (TP_LIKELY(site))
        tp_site_taken_one(
            site, block->requested, is_large(block) ? block->bytes : 0, peak);
    else
        count(&tp_sampling->dropped, 1);
    return site;
}

static void free_exact(uint32_t site, const struct tp_told *block)
{
    bool temporary = block->slot < SLOTS && sample.last[block->slot] == block->p;
    tp_site_freed_one(site, block->requested, is_large(block) ? block->bytes : 0,
        temporary, tp_pool_peak_exact());
}

static uint32_t resize_exact(
    uint32_t site, const struct tp_told *block, size_t old_bytes, size_t old_requested)
{
    bool large = is_large(block);
    struct tp_weight old = tp_weight_one(old_bytes, old_requested, large);
    struct tp_weight now = tp_weight_one(block->bytes, block->requested, large);
    size_t more = block->bytes > old_bytes ? block->bytes - old_bytes : 0;
    int64_t peak = tp_pool_peak_now(block->counters);
    if (!more) {
        old = (struct tp_weight){ .requested = old.requested - now.requested,
            .bytes = old.bytes - now.bytes };
        tp_site_adjust(site, &nothing, &old, peak);
        return site;
    }
    tp_site_adjust(site, &nothing, &old, peak);
    struct place *place = own_place(block);
    uint32_t here = take_site(place, block->class);
    leave(place);
    if (!here) return 0;
    now.blocks = 0;
    now.requested -= old.requested;
    now.bytes -= old.bytes;
    old = negative(old);
    tp_site_adjust(here, &now, &old, peak);
    return here;
}

/* ---- both ---- */

void tp_host_freed(uint32_t mark, const struct tp_told *block)
{
    if (is_exact())
        free_exact(mark, block);
    else
        end_sample(mark, block);
}

uint32_t tp_host_resized(
    uint32_t mark, const struct tp_told *block, size_t old_bytes, size_t old_requested)
{
    if (!tp_options.sample) return 0;
    if (is_exact())
        return mark ? resize_exact(mark, block, old_bytes, old_requested) : 0;
    struct tp_floats held = tp_floats_hold();
    if (block->bytes > old_bytes)
        mark = grow_sample(mark, block, old_bytes, old_requested);
    else if (mark)
        shrink_sample(mark, block, old_bytes);
    tp_floats_return(held);
    return mark;
}

uint32_t tp_host_place(void)
{
    enum tp_stack_end end;
    struct tp_stack_note *note;
    struct place *place = any_place();
    uint32_t node = take_node(place, &end, &note);
    leave(place);
    return node;
}

void tp_host_thread_ended(
    const struct tp_counters *counters, uint32_t index, const struct tp_sums *did)
{
    tp_live_thread_ended(counters, index, did);
    give_up_own(index);
}

/* ---- places in messages ---- */

void tp_host_say_place(const char *heading, uint32_t place)
{
    const struct tp_node_record *node = place ? tp_table_at(&tp_nodes, place) : NULL;
    tp_say("%s:%s", heading, node ? "" : " not known");
    for (unsigned depth = 0; node && place && depth < TP_STACK_MOST; depth++) {
        const char *path = node->module ? tp_module_path(node->module) : "";
        tp_say("  #%u %s+%p", depth, path[0] ? path : "[no file]",
            (const void *)(uintptr_t)node->offset);
        place = node->parent < place ? node->parent : 0;
        node = tp_table_at(&tp_nodes, place);
    }
}

/* ---- fork ---- */

void tp_sample_forked(void)
{
    tp_sites_forked();
    tp_samples_forked(tp_table_count(&tp_sites));
    tp_modules_forked();
    tp_poisson_forked();
    for (unsigned i = 0; i < SCRATCHES; i++)
        leave(atomic_load_explicit(&sample.shared[i], memory_order_relaxed));
    // What threads kept that are not here is for those to come. Ours too, but in use.
    for (uint32_t slot = tp_pool_is_busy() ? 0 : tp_pool_slots(); slot-- > 0;)
        give_up_own(slot);
}

/* ---- ticks ---- */

/* True for one caller when the limit is passed; moves it on by `step`. */
static bool passed(_Atomic(uint64_t) *limit, uint64_t now, uint64_t step)
{
    uint64_t due = atomic_load_explicit(limit, memory_order_relaxed);
    if (!step || now < due) return false;
    return atomic_compare_exchange_strong_explicit(
               limit, &due, now + step, memory_order_relaxed, memory_order_relaxed) &&
        due;
}

static uint64_t allocated_bytes(void)
{
    struct tp_sums sums;
    while (!tp_pool_sums(&sums)) {
    }
    return sums.allocated_bytes;
}

void tp_host_tick(void)
{
    tp_live_settle();
    tp_timeline_tick();
    bool due = passed(&sample.next_dump_ns, tp_os_now_ns(), tp_options.interval_ns);
    if (tp_options.interval_bytes && !due)
        due = passed(
            &sample.next_dump_bytes, allocated_bytes(), tp_options.interval_bytes);
    if (due) tp_dump_write(TP_REASON_INTERVAL);
}
