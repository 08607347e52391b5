/* SPDX-License-Identifier: MIT */
/*
 * park.c - where heaps come from and where they go when their threads end.
 *
 * A heap is parked whole and given to the next new thread, the lowest first, which
 * goes on counting in its slot; meanwhile other threads' slow paths take home what is
 * freed into it and steal its slabs. The lock covers every parked heap.
 *
 * Few are kept so: KEEP, and an eighth of those in use. When more are parked, the
 * highest are given up, down to half of KEEP: their slabs go to a heap that stays,
 * their figures to the sums of folded slots (fold.c), and both are bare from then on.
 * A thread pool of a usual size pays nothing for this, 10 000 threads that end leave
 * half a megabyte behind instead of forty. A heap whose slabs cannot all be moved yet
 * stays parked; its turn comes again.
 *
 * Pages go back bay by bay as soon as a bay is all bare; those of bays that are half
 * bare when their turn comes at the end of a thread; the others at the tick. A bare slot
 * whose pages are gone is restored with its neighbours before it is used again. Its
 * epoch goes on above all that were ever folded: an ended record tells its thread from
 * later ones by it.
 *
 * One heap, the first, belongs to all threads that have none: those past their last
 * destructor, and those that found no memory for one. It has a lock of its own.
 */
#include "pool/heap.h"
#include "pool/host.h"

enum {
    STEAL_MOST = 4,      // slabs taken from a parked heap at once
    STEAL_LOOK = 8,      // parked heaps looked at for one that has any
    SHARED_TRIES = 100,  // then a signal handler must do without; each sleeps a bit
    KEEP = 128,          // parked heaps that are always allowed
    KEEP_SHARE = 8,      // and 1/8 of the heaps that threads have
    COLLECT = 64,        // parked heaps collected by the ticks of all threads together
    TRIM_BAYS = 8,       // looked at by a tick, and by a thread that ends
    TRIM_WORTH = 16,     // bare slots of a bay that such a thread gives back at once
    SLOT_BYTES = sizeof(union tp_heap_room),
};
static_assert(sizeof(union tp_heap_room) == sizeof(struct tp_counters),
    "the same slots share a page in both halves of a bay");

/* A bit for every slot. Written under the lock. */
struct set {
    _Atomic(uint32_t) bay[TP_BAYS];
};

static struct {
    struct tp_lock lock;
    struct set parked;
    struct set stuck;  // of these: could not be given up when last tried
    struct set bare;   // given up: the slot is zero, the heap is nothing
    struct set gone;   // of these: without pages
    _Atomic(uint32_t) n_parked;
    uint32_t n_stuck;
    uint32_t turn;       // slot after the parked heap that had its turn last
    uint32_t trim_turn;  // bay that the next tick begins with
    uint64_t epoch;      // as high as that of any slot that was folded
    struct tp_lock shared_lock;
    _Atomic(uint32_t) shared_by;  // thread that holds it
    char *bay[TP_BAYS];           // written before n_heaps covers it
    _Atomic(uint32_t) n_heaps;
    uint32_t shared;  // index of the shared heap
    uint32_t out;     // heaps that threads have; under the lock
} park;

TP_THREAD struct tp_heap *tp_heap_self = &tp_heap_none;
struct tp_heap tp_heap_none;
struct tp_heap tp_heap_gone;
struct tp_heap tp_heap_aside;

uint32_t tp_park_most = TP_BAYS * TP_BAY_SLOTS;

/* ---- sets ---- */

static uint32_t bits_of(const struct set *set, uint32_t bay)
{
    return atomic_load_explicit(&set->bay[bay], memory_order_relaxed);
}

static void set_bits(struct set *set, uint32_t bay, uint32_t bits)
{
    atomic_store_explicit(&set->bay[bay], bits, memory_order_relaxed);
}

static bool has(const struct set *set, uint32_t index)
{
    return bits_of(set, index / TP_BAY_SLOTS) >> index % TP_BAY_SLOTS & 1;
}

static void add(struct set *set, uint32_t index)
{
    uint32_t bay = index / TP_BAY_SLOTS;
    set_bits(set, bay, bits_of(set, bay) | 1u << index % TP_BAY_SLOTS);
}

static void remove(struct set *set, uint32_t index)
{
    uint32_t bay = index / TP_BAY_SLOTS;
    set_bits(set, bay, bits_of(set, bay) & ~(1u << index % TP_BAY_SLOTS));
}

/* Bits first .. first + n - 1. Needs: n > 0. */
static uint32_t run_of(uint32_t first, uint32_t n)
{
    return (UINT32_MAX >> (TP_BAY_SLOTS - n)) << first;
}

/* The lowest run of ones in `bits`, which are not 0. */
static uint32_t lowest_run(uint32_t bits, uint32_t *out_first)
{
    *out_first = (uint32_t)__builtin_ctz(bits);
    uint32_t above = ~(bits >> *out_first);
    uint32_t n = above ? (uint32_t)__builtin_ctz(above) : TP_BAY_SLOTS;
    return n;
}

/* ---- bays ---- */

struct tp_heap *tp_park_at(uint32_t index)
{
    // Meets the release in add_heap().
    if (index >= atomic_load_explicit(&park.n_heaps, memory_order_acquire)) return NULL;
    char *bay = park.bay[index / TP_BAY_SLOTS];
    return &((union tp_heap_room *)(void *)bay)[index % TP_BAY_SLOTS].heap;
}

uint32_t tp_park_count(void)
{
    return atomic_load_explicit(&park.n_heaps, memory_order_acquire);
}

static uint32_t n_bays(void)
{
    return (tp_park_count() + TP_BAY_SLOTS - 1) / TP_BAY_SLOTS;
}

uint32_t tp_park_bare(uint32_t bay)
{
    return bits_of(&park.bare, bay);
}

uint32_t tp_park_gone(uint32_t bay)
{
    return bits_of(&park.gone, bay);
}

static void note_own(int64_t bytes)
{
    atomic_fetch_add_explicit(
        &tp_account.totals.self_bytes, (uint64_t)bytes, memory_order_relaxed);
}

static bool add_bay(uint32_t bay)
{
    char *start = tp_os_map(2 * TP_BAY_HALF);
    if (!start) return false;
    tp_os_no_huge(start, 2 * TP_BAY_HALF);
    park.bay[bay] = start;
    tp_host_bay(
        (struct tp_counters *)(void *)(start + TP_BAY_HALF), bay * TP_BAY_SLOTS);
    note_own(TP_BAY_HALF);  // a file reserves it at once
    return true;
}

/* Needs: the lock. */
static struct tp_heap *add_heap(void)
{
    uint32_t n = atomic_load_explicit(&park.n_heaps, memory_order_relaxed);
    if (n >= tp_park_most) return NULL;
    if (n == TP_SUM_SLOT) n += TP_SUM_SLOTS;
    if (n % TP_BAY_SLOTS == 0 && !add_bay(n / TP_BAY_SLOTS)) return NULL;
    char *bay = park.bay[n / TP_BAY_SLOTS];
    struct tp_heap *heap = &((union tp_heap_room *)(void *)bay)[n % TP_BAY_SLOTS].heap;
    tp_heap_init(heap, n);
    atomic_store_explicit(&park.n_heaps, n + 1, memory_order_release);
    note_own(SLOT_BYTES);
    return heap;
}

static void share(struct tp_heap *heap)
{
    heap->shared = true;
    tp_heap_counters(heap)->state = TP_SHARED;
    park.shared = heap->index;
}

bool tp_park_open(void)
{
    tp_lock_enter(&park.lock);
    bool good = tp_park_count() > 0;
    if (!good) {
        struct tp_heap *shared = add_heap();
        if (shared) share(shared);
        good = shared != NULL;
    }
    tp_lock_leave(&park.lock);
    return good;
}

/* ---- giving up; all of it needs the lock ---- */

static void set_parked(uint32_t n)
{
    // Read without the lock by those who only want to know whether there is one.
    atomic_store_explicit(&park.n_parked, n, memory_order_relaxed);
}

static uint32_t n_parked(void)
{
    return atomic_load_explicit(&park.n_parked, memory_order_relaxed);
}

static void unstick(uint32_t index)
{
    if (!has(&park.stuck, index)) return;
    remove(&park.stuck, index);
    park.n_stuck--;
}

/* Slots that share a page; a whole bay at most. */
static uint32_t slots_of_page(void)
{
    size_t slots = tp_os_page() / SLOT_BYTES;
    return slots < TP_BAY_SLOTS ? (uint32_t)slots : TP_BAY_SLOTS;
}

/* The whole pages in `bits`. */
static uint32_t whole_pages(uint32_t bits)
{
    uint32_t whole = 0, slots = slots_of_page();
    for (uint32_t first = 0; first < TP_BAY_SLOTS; first += slots)
        if ((bits & run_of(first, slots)) == run_of(first, slots))
            whole |= run_of(first, slots);
    return whole;
}

/* Gives back the pages of a bay that hold nothing. */
static void release_pages(uint32_t bay)
{
    uint32_t bits = whole_pages(bits_of(&park.bare, bay) & ~bits_of(&park.gone, bay));
    while (bits) {
        uint32_t first, n = lowest_run(bits, &first);
        bits &= ~run_of(first, n);
        char *heaps = park.bay[bay] + first * SLOT_BYTES;
        struct tp_counters *slots = (void *)(heaps + TP_BAY_HALF);
        if (!tp_host_release(slots, bay * TP_BAY_SLOTS + first, n)) continue;
        tp_os_purge(heaps, n * SLOT_BYTES);
        set_bits(&park.gone, bay, bits_of(&park.gone, bay) | run_of(first, n));
        note_own(-2 * (int64_t)n * SLOT_BYTES);
    }
}

/* Looks at some bays, in turn, that are not all bare but hold `worth` bare slots. */
static void trim(uint32_t worth)
{
    for (uint32_t i = 0, bays = n_bays(); i < TRIM_BAYS && i < bays; i++) {
        if (park.trim_turn >= bays) park.trim_turn = 0;
        uint32_t bay = park.trim_turn++;
        uint32_t bare = bits_of(&park.bare, bay) & ~bits_of(&park.gone, bay);
        if ((uint32_t)__builtin_popcount(bare) >= worth) release_pages(bay);
    }
}

/* Gets pages for a slot, and for those beside it that have none either. */
static void restore_pages(uint32_t index)
{
    uint32_t bay = index / TP_BAY_SLOTS;
    uint32_t gone = bits_of(&park.gone, bay), bits = gone, first, n;
    do {
        n = lowest_run(bits, &first);
        bits &= ~run_of(first, n);
    } while (index % TP_BAY_SLOTS - first >= n);
    set_bits(&park.gone, bay, gone & ~run_of(first, n));
    char *heaps = park.bay[bay] + first * SLOT_BYTES;
    tp_host_restore((void *)(heaps + TP_BAY_HALF), bay * TP_BAY_SLOTS + first, n);
    note_own(2 * (int64_t)n * SLOT_BYTES);
}

/* True when nothing but the list of parked heaps knows `heap` any more. */
static bool can_give_up(struct tp_heap *heap, struct tp_heap *heir)
{
    tp_heap_collect(heap);
    tp_heap_drop_spares(heap);
    if (heap->slabs) tp_heap_bequeath(heap, heir);
    return heap->slabs == 0;
}

static void give_up_run(uint32_t first, uint32_t n)
{
    for (uint32_t i = first; i < first + n; i++) {
        uint64_t epoch = tp_heap_counters(tp_park_at(i))->epoch;
        if (epoch > park.epoch) park.epoch = epoch;
    }
    tp_fold_slots(first, n);
    for (uint32_t i = first; i < first + n; i++) {
        remove(&park.parked, i);
        add(&park.bare, i);
    }
    set_parked(n_parked() - n);
}

/* Gives up what it can of a bay's parked heaps, `most` at most; the heir's bay is lower. */
static void give_up_in(uint32_t bay, struct tp_heap *heir, uint32_t most)
{
    uint32_t bits = bits_of(&park.parked, bay) & ~bits_of(&park.stuck, bay);
    uint32_t base = bay * TP_BAY_SLOTS, free = 0;
    for (uint32_t i = TP_BAY_SLOTS; i-- > 0 && most > 0;) {
        if (!(bits >> i & 1) || base + i == heir->index) continue;
        if (can_give_up(tp_park_at(base + i), heir)) {
            free |= 1u << i;
            most--;
        } else {
            add(&park.stuck, base + i);
            park.n_stuck++;
        }
    }
    while (free) {
        uint32_t first, n = lowest_run(free, &first);
        free &= ~run_of(first, n);
        give_up_run(base + first, n);
    }
    if (bits_of(&park.bare, bay) == UINT32_MAX) release_pages(bay);
}

static uint32_t lowest(const struct set *set)
{
    for (uint32_t bay = 0; bay < n_bays(); bay++)
        if (bits_of(set, bay))
            return bay * TP_BAY_SLOTS + (uint32_t)__builtin_ctz(bits_of(set, bay));
    return UINT32_MAX;
}

/* Parked heaps beyond what may be kept. */
static uint32_t excess(void)
{
    uint32_t kept = n_parked() - park.n_stuck, allowed = KEEP + park.out / KEEP_SHARE;
    return kept > allowed ? kept - allowed : 0;
}

/* The highest go first, so that what stays stands close together. */
static void give_up_some(void)
{
    uint32_t most = excess() + KEEP / 2, first = lowest(&park.parked);
    struct tp_heap *heir = tp_park_at(first);
    for (uint32_t bay = n_bays(); bay-- > first / TP_BAY_SLOTS && most > 0;) {
        uint32_t before = n_parked();
        give_up_in(bay, heir, most);
        most -= before - n_parked();
    }
}

/* ---- taking and parking ---- */

static struct tp_heap *next_parked(void)
{
    uint32_t bays = n_bays(), bay = park.turn / TP_BAY_SLOTS;
    uint32_t from = UINT32_MAX << park.turn % TP_BAY_SLOTS;
    for (uint32_t i = 0; i <= bays; i++, bay++, from = UINT32_MAX) {
        if (bay >= bays) bay = 0;
        uint32_t bits = bits_of(&park.parked, bay) & from;
        if (!bits) continue;
        park.turn = bay * TP_BAY_SLOTS + (uint32_t)__builtin_ctz(bits);
        return tp_park_at(park.turn++);
    }
    return NULL;
}

/* The next parked heap that has slabs, among the next `most`; NULL: none has. */
static struct tp_heap *next_in_turn(uint32_t most)
{
    for (uint32_t i = 0; i < most; i++) {
        struct tp_heap *heap = next_parked();
        if (!heap || heap->slabs) return heap;
    }
    return NULL;
}

/* A heap that was given up, or a new one. */
static struct tp_heap *revive(void)
{
    uint32_t index = lowest(&park.bare);
    if (index == UINT32_MAX) return add_heap();
    if (has(&park.gone, index)) restore_pages(index);
    remove(&park.bare, index);
    struct tp_heap *heap = tp_park_at(index);
    tp_heap_init(heap, index);
    tp_heap_counters(heap)->epoch = park.epoch;
    return heap;
}

struct tp_heap *tp_park_take(void)
{
    tp_lock_enter(&park.lock);
    struct tp_heap *heap = NULL;
    if (n_parked()) {
        uint32_t index = lowest(&park.parked);
        remove(&park.parked, index);
        unstick(index);
        set_parked(n_parked() - 1);
        heap = tp_park_at(index);
    } else {
        heap = revive();
    }
    if (heap) park.out++;
    tp_lock_leave(&park.lock);
    return heap;
}

void tp_park_put(struct tp_heap *heap)
{
    tp_heap_empty_bins(heap);
    tp_heap_collect(heap);
    tp_heap_drop_spares(heap);
    tp_lock_enter(&park.lock);
    add(&park.parked, heap->index);
    set_parked(n_parked() + 1);
    park.out--;
    if (excess()) give_up_some();
    trim(TRIM_WORTH);
    tp_lock_leave(&park.lock);
}

/* ---- the shared heap ---- */

/* `patient` waits for its turn, others for a while only. */
static bool lock_shared(bool patient)
{
    uint32_t self = tp_os_tid();
    if (atomic_load_explicit(&park.shared_by, memory_order_relaxed) == self)
        return false;
    bool good = true;
    if (patient) {
        tp_lock_enter(&park.shared_lock);
    } else {
        for (int i = 0; !(good = tp_lock_try(&park.shared_lock)) && i < SHARED_TRIES;
             i++)
            tp_os_pause();
    }
    if (good) atomic_store_explicit(&park.shared_by, self, memory_order_relaxed);
    return good;
}

static void unlock_shared(void)
{
    atomic_store_explicit(&park.shared_by, 0, memory_order_relaxed);
    tp_lock_leave(&park.shared_lock);
}

bool tp_park_begin_alone(void)
{
    tp_lock_enter(&park.lock);
    // The one heap that is out may be somebody else's.
    uint32_t mine = tp_heap_self->alive || tp_heap_self == &tp_heap_aside;
    if (park.out <= mine && tp_lock_try(&park.shared_lock)) {
        atomic_store_explicit(&park.shared_by, tp_os_tid(), memory_order_relaxed);
        return true;
    }
    tp_lock_leave(&park.lock);
    return false;
}

void tp_park_end_alone(void)
{
    unlock_shared();
    tp_lock_leave(&park.lock);
}

bool tp_park_steal(struct tp_heap *heap, unsigned c)
{
    if (!n_parked()) return false;
    if (!tp_lock_try(&park.lock)) return false;
    unsigned n = 0;
    struct tp_heap *parked = next_in_turn(STEAL_LOOK);
    if (parked) {
        // One class only: the rest is for the tick, which is in no hurry.
        tp_heap_collect_class(parked, c);
        n = tp_heap_steal(heap, parked, c, STEAL_MOST);
    }
    tp_lock_leave(&park.lock);
    return n > 0;
}

/* Needs: the lock. */
static void collect(uint32_t looks)
{
    struct tp_heap *parked;
    while (looks-- > 0 && (parked = next_in_turn(n_parked()))) {
        tp_heap_collect(parked);
        tp_heap_drop_spares(parked);
        unstick(parked->index);
    }
    if (excess()) give_up_some();
}

void tp_park_collect(void)
{
    if (tp_park_count() <= TP_BAY_SLOTS && !n_parked()) return;
    if (!tp_lock_try(&park.lock)) return;
    // Every running thread ticks: together they look at the same number of heaps.
    collect(COLLECT / (park.out + 1) + 1);
    trim(1);
    tp_lock_leave(&park.lock);
}

void tp_park_collect_all(void)
{
    if (!tp_lock_try(&park.lock)) return;
    collect(n_parked());
    for (uint32_t bay = 0; bay < n_bays(); bay++) release_pages(bay);
    tp_lock_leave(&park.lock);
}

struct tp_heap *tp_park_enter_shared(bool patient)
{
    struct tp_heap *shared = tp_park_at(park.shared);
    return shared && lock_shared(patient) ? shared : NULL;
}

void tp_park_leave_shared(struct tp_heap *heap)
{
    (void)heap;
    unlock_shared();
}

void tp_park_forked(struct tp_heap *self, bool alone)
{
    atomic_store_explicit(&park.lock.word, 0, memory_order_relaxed);
    atomic_store_explicit(&park.shared_lock.word, 0, memory_order_relaxed);
    atomic_store_explicit(&park.shared_by, 0, memory_order_relaxed);
    park.out = self->alive ? 1 : 0;
    tp_fold_finish();
    if (alone) return;

    // Caught anywhere, in the middle of a change too: addresses are lost, not memory.
    // Slots without pages have none here either: pages come after the bit is cleared.
    for (uint32_t bay = 0; bay < TP_BAYS; bay++) {
        set_bits(&park.parked, bay, 0);
        set_bits(&park.stuck, bay, 0);
        set_bits(&park.bare, bay, bits_of(&park.gone, bay));
    }
    set_parked(0);
    park.n_stuck = 0;
    atomic_store_explicit(&self->callers, NULL, memory_order_relaxed);
    for (uint32_t i = 0; i < tp_park_count(); i++) {
        struct tp_heap *heap = tp_park_at(i);
        struct tp_counters *counters = tp_heap_counters(heap);
        if (heap != self && counters->state == TP_RUNNING) counters->state = TP_PARKED;
    }
    // The shared heap may have been caught at work: another takes its place.
    struct tp_heap *shared = add_heap();
    if (shared) share(shared);
}
