/* SPDX-License-Identifier: MIT */
/*
 * sites.c - a stack and a size class become a site, and sites have sums.
 *
 * Stacks are paths in one tree of nodes. Two private indexes, open addressing, tell the
 * node below a node for a frame, and the site of a node for a class. Their key is the
 * whole question in 64 bits, so a hit costs one line:
 *
 *      node:  | parent 20 | module 12 | low half of the offset 32 |
 *      site:  | node + 1                              56 | class 8 |
 *
 * Only an address outside of all modules, or beyond 4 GiB in one, needs a look at the
 * record. Asking takes no lock; what is new is added under one. An index that is half
 * full is copied into one twice as large; the old one stays, for those who read it, and
 * all old ones together are no larger than the last.
 *
 * At the peak: what live bytes of each site were when the process had most of them is
 * known without a copy of all sites. The number of peaks goes up when a change is about
 * to end one, and a site whose number is behind keeps its figures before it changes (the
 * falling edge of memray, whose event log this needs not). A peak that is less than
 * 1/256 above the last one does not count, unless every block is counted.
 */
#include "shim/profile.h"

#include "shim/life.h"

#include <sys/single_threaded.h>

enum {
    FIRST_SLOTS = 1024,
    NODE_BITS = 20,
    MODULE_BITS = 12,
    PEAK_SHARE = 256,
};

struct slot {
    _Atomic(uint64_t) key;  // written last; 0: empty
    _Atomic(uint32_t) id;
};

/* What lookups see; replaced as a whole. */
struct slots {
    uint64_t mask;  // slots - 1
    struct slot slots[];
};

struct index {
    struct slots *_Atomic now;  // NULL: nothing was added yet
    uint32_t used;              // under the lock
};

static struct {
    struct tp_lock lock;  // of adding
    struct index nodes;
    struct index sites;
    _Atomic(int64_t) peak_bytes;  // live bytes at the last peak that counted
} tree;

/* ---- the indexes ---- */

/* Multiplies and folds: every bit of the key reaches the low bits (splitmix64's mix). */
static uint64_t spread(uint64_t key)
{
    key ^= key >> 32;
    key *= 0x9e3779b97f4a7c15u;
    return key ^ key >> 29;
}

/* True when the key alone does not tell the frame. */
static bool is_long(const struct tp_frame *frame, uint64_t offset)
{
    return !frame->module || frame->module >= 1u << MODULE_BITS || offset >> 32;
}

static bool is_node(uint32_t id, uint32_t parent, uint32_t module, uint64_t offset)
{
    const struct tp_node_record *node = tp_table_at(&tp_nodes, id);
    return node && node->parent == parent && node->module == module &&
        node->offset == offset;
}

/* The number that is known under `key`; 0: none. `at` counts collisions of long ones. */
static uint32_t look_up(const struct slots *slots, uint64_t key, uint64_t *at)
{
    for (uint64_t i = *at;; i++) {
        const struct slot *slot = &slots->slots[i & slots->mask];
        // Meets the release in put().
        uint64_t found = atomic_load_explicit(&slot->key, memory_order_acquire);
        if (TP_LIKELY(found == key)) {
            *at = i + 1;
            return atomic_load_explicit(&slot->id, memory_order_relaxed);
        }
        if (!found) return 0;
    }
}

static void put(struct slots *slots, uint64_t key, uint32_t id)
{
    uint64_t i = spread(key);
    while (
        atomic_load_explicit(&slots->slots[i & slots->mask].key, memory_order_relaxed))
        i++;
    struct slot *slot = &slots->slots[i & slots->mask];
    atomic_store_explicit(&slot->id, id, memory_order_relaxed);
    atomic_store_explicit(&slot->key, key, memory_order_release);
}

/* Sees to room for one more. Needs: the lock. Fails: false, without memory. */
static bool make_room(struct index *index)
{
    struct slots *old = atomic_load_explicit(&index->now, memory_order_relaxed);
    if (old && index->used < (old->mask + 1) / 2) return true;
    uint64_t n = old ? (old->mask + 1) * 2 : FIRST_SLOTS;
    struct slots *slots = tp_os_map(sizeof(*slots) + n * sizeof(struct slot));
    if (!slots) return false;
    slots->mask = n - 1;
    for (uint64_t i = 0; old && i <= old->mask; i++) {
        uint64_t key = atomic_load_explicit(&old->slots[i].key, memory_order_relaxed);
        if (key)
            put(slots, key,
                atomic_load_explicit(&old->slots[i].id, memory_order_relaxed));
    }
    // Meets the acquire of those who look something up.
    atomic_store_explicit(&index->now, slots, memory_order_release);
    return true;
}

static void add(struct index *index, uint64_t key, uint32_t id)
{
    put(atomic_load_explicit(&index->now, memory_order_relaxed), key, id);
    index->used++;
}

/* ---- nodes ---- */

static uint64_t node_key(uint32_t parent, uint32_t module, uint64_t offset)
{
    uint64_t key = (uint64_t)parent << (64 - NODE_BITS) |
        (uint64_t)(module & ((1u << MODULE_BITS) - 1)) << 32 | (uint32_t)offset;
    return key ? key : 1;
}

static uint64_t offset_in_module(const struct tp_frame *frame)
{
    const struct tp_module_record *module =
        frame->module ? tp_table_at(&tp_modules, frame->module - 1) : NULL;
    return frame->address - (module ? module->base : 0);
}

static uint32_t find_node(
    uint32_t parent, const struct tp_frame *frame, uint64_t offset, uint64_t key)
{
    // Meets the release in make_room().
    const struct slots *slots =
        atomic_load_explicit(&tree.nodes.now, memory_order_acquire);
    if (TP_UNLIKELY(!slots)) return 0;
    uint64_t at = spread(key);
    uint32_t id;
    while ((id = look_up(slots, key, &at)))
        if (!is_long(frame, offset) || is_node(id, parent, frame->module, offset))
            break;
    return id;
}

static TP_COLD uint32_t add_node(
    uint32_t parent, const struct tp_frame *frame, uint64_t offset, uint64_t key)
{
    tp_lock_enter(&tree.lock);
    uint32_t id = find_node(parent, frame, offset, key);
    if (!id && make_room(&tree.nodes)) {
        uint32_t next = tp_table_add(&tp_nodes);
        struct tp_node_record *node =
            next < 1u << NODE_BITS ? tp_table_at(&tp_nodes, next) : NULL;
        if (node) {
            *node = (struct tp_node_record){
                .parent = parent, .module = frame->module, .offset = offset
            };
            add(&tree.nodes, key, id = next);
        }
    }
    tp_lock_leave(&tree.lock);
    return id;
}

uint32_t tp_site_node(struct tp_stack *stack, bool *out_all)
{
    uint32_t same = stack->same < stack->n ? stack->same : stack->n;
    uint32_t node = same ? stack->outer : 0;
    *out_all = true;
    for (uint32_t i = stack->n - same; i--;) {
        const struct tp_frame *frame = &stack->frames[i];
        uint64_t offset = offset_in_module(frame);
        uint64_t key = node_key(node, frame->module, offset);
        uint32_t next = find_node(node, frame, offset, key);
        if (TP_UNLIKELY(!next)) next = add_node(node, frame, offset, key);
        if (TP_UNLIKELY(!next)) {
            __atomic_fetch_add(&tp_sampling->node_misses, 1, __ATOMIC_RELAXED);
            *out_all = false;
            break;
        }
        stack->nodes[i] = node = next;
    }
    return node;
}

/* ---- sites ---- */

static uint32_t find_site(uint64_t key)
{
    const struct slots *slots =
        atomic_load_explicit(&tree.sites.now, memory_order_acquire);
    uint64_t at = spread(key);
    return slots ? look_up(slots, key, &at) : 0;
}

static TP_COLD uint32_t add_site(
    uint64_t key, uint32_t node, uint32_t class, enum tp_stack_end end)
{
    tp_lock_enter(&tree.lock);
    uint32_t id = find_site(key);
    bool good = !id && make_room(&tree.sites);
    uint32_t next = good ? tp_table_add(&tp_sites) : UINT32_MAX;
    struct tp_site_record *site = tp_table_at(&tp_sites, next);
    if (site) {
        site->node = node;
        site->class = (uint16_t) class;
        site->end = end;
        // The number of the peak: it had nothing then.
        site->peak = __atomic_load_n(&tp_sampling->peak, __ATOMIC_RELAXED);
        __atomic_store_n(&site->used, 1, __ATOMIC_RELEASE);
        add(&tree.sites, key, id = next);
    }
    tp_lock_leave(&tree.lock);
    return id;
}

uint32_t tp_site_of(uint32_t node, uint32_t class, enum tp_stack_end end)
{
    uint64_t key = ((uint64_t)node + 1) << 8 | class;
    uint32_t id = find_site(key);
    return TP_LIKELY(id) ? id : add_site(key, node, class, end);
}

uint32_t tp_site_node_of(uint32_t site)
{
    const struct tp_site_record *record = tp_table_at(&tp_sites, site);
    return record ? record->node : 0;
}

/* ---- sums ---- */

/* Live bytes have been at `bytes`, which is more than at the last peak. */
static TP_SLOW void raise_peak(int64_t bytes)
{
    int64_t seen = atomic_load_explicit(&tree.peak_bytes, memory_order_relaxed);
    int64_t least = tp_sampling->mode == TP_SAMPLING_EXACT ? 1 : seen / PEAK_SHARE + 1;
    if (TP_LIKELY(bytes < seen + least)) return;
    while (bytes > seen)
        if (atomic_compare_exchange_weak_explicit(&tree.peak_bytes, &seen, bytes,
                memory_order_relaxed, memory_order_relaxed)) {
            __atomic_store_n(
                &tp_sampling->peak_bytes, (uint64_t)bytes, __ATOMIC_RELAXED);
            __atomic_fetch_add(&tp_sampling->peak, 1, __ATOMIC_RELAXED);
            return;
        }
}

/* Live bytes have been at `bytes`: a new peak, if that is high enough. */
static inline void note_peak(int64_t bytes)
{
    if (TP_UNLIKELY(
            bytes > atomic_load_explicit(&tree.peak_bytes, memory_order_relaxed)))
        raise_peak(bytes);
}

/* What is left may be below 0 by what rounding did. */
static double less(const double *taken, const double *freed)
{
    double from, away;
    __atomic_load(taken, &from, __ATOMIC_RELAXED);
    __atomic_load(freed, &away, __ATOMIC_RELAXED);
    return from > away ? from - away : 0;
}

/* The figures at the last peak, which was number `peak`. */
static TP_SLOW void copy_peak(struct tp_site_record *site, uint32_t peak)
{
    const struct tp_site_sums *taken = &site->taken, *freed = &site->freed;
    site->peak_blocks = tp_count_read(&taken->blocks) - tp_count_read(&freed->blocks);
    site->peak_bytes = tp_count_read(&taken->bytes) - tp_count_read(&freed->bytes);
    site->peak_block_variance = less(&taken->block_variance, &freed->block_variance);
    site->peak_byte_variance = less(&taken->byte_variance, &freed->byte_variance);
    __atomic_store_n(&site->peak, peak, __ATOMIC_RELEASE);
}

/* Keeps them, before the site changes. */
static inline void keep_peak(struct tp_site_record *site)
{
    uint32_t peak = __atomic_load_n(&tp_sampling->peak, __ATOMIC_RELAXED);
    if (TP_UNLIKELY(__atomic_load_n(&site->peak, __ATOMIC_RELAXED) != peak))
        copy_peak(site, peak);
}

static void add_to_double(double *sum, double value)
{
    double seen, total;
    __atomic_load(sum, &seen, __ATOMIC_RELAXED);
    do {
        total = seen + value;
    } while (!__atomic_compare_exchange(
        sum, &seen, &total, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

/*
 * With one thread a plain addition will do, which takes a quarter of the time: that
 * thread is not here while it makes a second one.
 */
static void add_to(uint64_t *sum, uint64_t value)
{
    if (!value) return;
    if (__libc_single_threaded)
        tp_count_add(sum, value);
    else
        __atomic_fetch_add(sum, value, __ATOMIC_RELAXED);
}

static void add_weight(struct tp_site_sums *sums, const struct tp_weight *weight)
{
    add_to(&sums->samples, weight->samples);
    add_to(&sums->blocks, weight->blocks);
    add_to(&sums->requested_bytes, weight->requested);
    add_to(&sums->bytes, weight->bytes);
    if (weight->block_variance > 0)
        add_to_double(&sums->block_variance, weight->block_variance);
    if (weight->byte_variance > 0)
        add_to_double(&sums->byte_variance, weight->byte_variance);
}

void tp_site_taken(uint32_t id, const struct tp_weight *weight, int64_t peak_bytes)
{
    struct tp_site_record *site = tp_table_at(&tp_sites, id);
    if (!site) return;
    note_peak(peak_bytes);
    keep_peak(site);
    add_weight(&site->taken, weight);
}

void tp_site_freed(
    uint32_t id, const struct tp_weight *weight, bool temporary, int64_t peak_bytes)
{
    struct tp_site_record *site = tp_table_at(&tp_sites, id);
    if (!site) return;
    note_peak(peak_bytes);
    keep_peak(site);
    add_weight(&site->freed, weight);
    if (temporary) add_to(&site->temporary_blocks, weight->blocks);
}

/* One block that stands for itself. */
static inline void add_one(
    struct tp_site_sums *sums, size_t requested, size_t large_bytes)
{
    if (TP_LIKELY(__libc_single_threaded)) {  // see add_to()
        tp_count_add(&sums->blocks, TP_FORMAT_ONE);
        tp_count_add(&sums->requested_bytes, requested);
        if (large_bytes) tp_count_add(&sums->bytes, large_bytes);
        return;
    }
    __atomic_fetch_add(&sums->blocks, TP_FORMAT_ONE, __ATOMIC_RELAXED);
    __atomic_fetch_add(&sums->requested_bytes, requested, __ATOMIC_RELAXED);
    if (large_bytes) __atomic_fetch_add(&sums->bytes, large_bytes, __ATOMIC_RELAXED);
}

void tp_site_taken_one(
    uint32_t id, size_t requested, size_t large_bytes, int64_t peak_bytes)
{
    struct tp_site_record *site = tp_table_at(&tp_sites, id);
    if (TP_UNLIKELY(!site)) return;
    note_peak(peak_bytes);
    keep_peak(site);
    add_one(&site->taken, requested, large_bytes);
}

void tp_site_freed_one(uint32_t id, size_t requested, size_t large_bytes,
    bool temporary, int64_t peak_bytes)
{
    struct tp_site_record *site = tp_table_at(&tp_sites, id);
    if (TP_UNLIKELY(!site)) return;
    note_peak(peak_bytes);
    keep_peak(site);
    add_one(&site->freed, requested, large_bytes);
    if (temporary) add_to(&site->temporary_blocks, TP_FORMAT_ONE);
}

void tp_site_adjust(uint32_t id, const struct tp_weight *taken,
    const struct tp_weight *freed, int64_t peak_bytes)
{
    struct tp_site_record *site = tp_table_at(&tp_sites, id);
    if (!site) return;
    note_peak(peak_bytes);
    keep_peak(site);
    add_weight(&site->taken, taken);
    add_weight(&site->freed, freed);
}

void tp_sites_forked(void)
{
    // What another thread was adding is in the table at most, not in the index.
    atomic_store_explicit(&tree.lock.word, 0, memory_order_relaxed);
}
