/* SPDX-License-Identifier: MIT */
/*
 * large.c - blocks above the pools (huge.h), and the door to the private jemalloc,
 * which serves every block when there is no range, or when it is used up.
 *
 * Idea: jemalloc is linked in from the distribution's archive with its public names
 * prefixed by tp_je_ (pool/jemalloc.redefine). It takes its memory from the far end
 * of our range, so the descriptor of a block's first granule can say "a block begins
 * exactly here, of so many bytes": two large blocks never begin in one granule. What
 * it has to map elsewhere is remembered in a short table of mappings.
 *
 * Its own purging is off: with the default decay "allocate and free blocks of
 * 5-25 MB" took 17-20 s and 7.5 million page faults, without it 2.6-3.2 s. We purge
 * when more lies idle than a share of what is in use, and when nothing was freed
 * from one tick to the next.
 *
 * What jemalloc asks of its surroundings is answered here: no environment and no
 * /etc/malloc.conf of the program's, no dlsym (it may wait for the loader's lock),
 * fork handlers kept for tp_large_before_fork().
 */
#include "pool/counters.h"
#include "pool/nearby.h"

#include <errno.h>
#include <sys/mman.h>
#include <ucontext.h>

enum {
    MAPPINGS = 512,                  // outside the range; they double, so few are made
    START_STACK = 256 * 1024,        // for jemalloc's start
    START_NEEDS = 12 * 1024 * 1024,  // of memory, so that a start cannot fail half-way
    AREA = 2 * 1024 * 1024,          // jemalloc wants its chunks aligned to that
    IDLE_LEAST = 16 * 1024 * 1024,   // idle bytes that are always allowed
    IDLE_SHARE = 2,                  // above that, half of the bytes in use
};

/* The part of jemalloc's interface that we use, under its private names. */
void *tp_je_mallocx(size_t size, int flags);
void tp_je_dallocx(void *p, int flags);
size_t tp_je_xallocx(void *p, size_t size, size_t extra, int flags);
size_t tp_je_sallocx(const void *p, int flags);
int tp_je_mallctl(
    const char *name, void *old, size_t *old_size, void *new, size_t new_size);

/* What jemalloc calls instead of libc; see pool/jemalloc.redefine. */
void *tp_je_mmap(void *at, size_t bytes, int access, int flags, int fd, long offset);
int tp_je_munmap(void *start, size_t bytes);
char *tp_je_getenv(const char *name);
long tp_je_readlink(const char *path, char *out, size_t size);
void *tp_je_dlsym(void *handle, const char *name);
int tp_je_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void));
void tp_je_unused_exp(void);
void tp_je_unused_log(void);
void tp_je_unused_round(void);
void tp_je_unused_backtrace(void);
void tp_je_unused_ip(void);
void *tp_je_sbrk(long change);

extern const char *tp_je_malloc_conf;
const char *tp_je_malloc_conf =
    "dirty_decay_ms:-1,muzzy_decay_ms:-1,narenas:1,tcache_max:1048576,"
    "tcache_nslots_large:4,background_thread:false,dss:disabled,retain:true,"
    "abort_conf:false,prof:false";

enum state { UNTRIED, STARTED, FAILED };  // of jemalloc

static struct {
    struct {
        _Atomic(char *) start;  // written before n covers it; moves down afterwards
        char *end;
    } mapping[MAPPINGS];
    _Atomic(unsigned) n_mappings;
    struct tp_lock lock;        // of mapping[]
    struct tp_lock start_lock;  // held while jemalloc starts
    char *start_at;             // what it starts on, NULL at any other time
    char *start_end;
    void (*prepare)(void);
    void (*parent)(void);
    void (*child)(void);
    bool prepared;            // prepare() has run for the fork under way
    _Atomic(uint32_t) state;  // enum state
    _Atomic(bool) has_small;  // some block has no descriptor of its own
    _Atomic(uint64_t) frees;  // large frees so far
    _Atomic(int64_t) credit;  // bytes that may still be freed before a look around
    _Atomic(bool) looking;    // one thread does that at a time
    uint64_t frees_at_tick;   // of the last tick, and of the last purge at a tick
    uint64_t frees_at_purge;  //
} large;

/* ---- what jemalloc calls ---- */

static char *start_of(unsigned i)
{
    return atomic_load_explicit(&large.mapping[i].start, memory_order_relaxed);
}

static void set_start(unsigned i, char *start)
{
    atomic_store_explicit(&large.mapping[i].start, start, memory_order_relaxed);
}

static bool remember(char *start, size_t bytes)
{
    tp_lock_enter(&large.lock);
    unsigned n = atomic_load_explicit(&large.n_mappings, memory_order_relaxed);
    bool joined = n && start_of(n - 1) == start + bytes;
    // Who asks about a block in what is added has been given it after this.
    if (joined) {
        set_start(n - 1, start);
    } else if (n < MAPPINGS) {
        set_start(n, start);
        large.mapping[n].end = start + bytes;
        // Meets the acquire in is_mapped().
        atomic_store_explicit(&large.n_mappings, n + 1, memory_order_release);
    }
    tp_lock_leave(&large.lock);
    return joined || n < MAPPINGS;
}

static bool is_mapped(const void *p)
{
    unsigned n = atomic_load_explicit(&large.n_mappings, memory_order_acquire);
    for (unsigned i = n; i-- > 0;)
        if ((const char *)p >= start_of(i) && (const char *)p < large.mapping[i].end)
            return true;
    return false;
}

static void give_back(void *start, size_t bytes)
{
    if (tp_slab_at(start)) {
        tp_os_decommit(start, bytes);
    } else {
        tp_os_unmap(start, bytes);
    }
}

/* A piece of the memory set aside for the start, or NULL. */
static char *take_for_start(size_t bytes)
{
    if (!large.start_at) return NULL;
    size_t align = bytes >= AREA ? AREA : tp_os_page();
    char *start = (char *)tp_align_up((uintptr_t)large.start_at, align);
    if (start > large.start_end || bytes > (size_t)(large.start_end - start))
        return NULL;
    large.start_at = start + bytes;
    return start;
}

void *tp_je_mmap(void *at, size_t bytes, int access, int flags, int fd, long offset)
{
    (void)access;
    (void)flags;
    (void)fd;
    (void)offset;
    // A wish for an address is only a wish, and an extent never grows that way.
    char *start = at ? NULL : take_for_start(bytes);
    if (!at && !start) start = tp_depot_extent(bytes);
    if (!at && !start) start = tp_os_map(bytes);
    if (start && !remember(start, bytes)) {
        give_back(start, bytes);
        start = NULL;
    }
    if (!start) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    atomic_fetch_add_explicit(
        &tp_account.totals.large_bytes, bytes, memory_order_relaxed);
    return start;
}

int tp_je_munmap(void *start, size_t bytes)
{
    atomic_fetch_sub_explicit(
        &tp_account.totals.large_bytes, bytes, memory_order_relaxed);
    give_back(start, bytes);
    return 0;
}

char *tp_je_getenv(const char *name)
{
    (void)name;
    return NULL;
}

long tp_je_readlink(const char *path, char *out, size_t size)
{
    (void)path;
    (void)out;
    (void)size;
    errno = ENOENT;
    return -1;
}

void *tp_je_dlsym(void *handle, const char *name)
{
    (void)handle;
    (void)name;
    return NULL;
}

int tp_je_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    large.prepare = prepare;
    large.parent = parent;
    large.child = child;
    return 0;
}

void *tp_je_sbrk(long change)
{
    (void)change;
    errno = ENOMEM;
    return (void *)-1;
}

/* Stand for what only its profiler needs, which is never on. */
#define UNUSED(name)               \
    void tp_je_unused_##name(void) \
    {                              \
        __builtin_trap();          \
    }
UNUSED(exp)
UNUSED(log)
UNUSED(round)
UNUSED(backtrace)
UNUSED(ip)

/* ---- what the pool calls ---- */

size_t tp_large_bytes(const void *p)
{
    struct tp_slab *slab = tp_slab_at(p);
    if (slab && tp_slab_owner(slab) == TP_SLAB_LARGE)
        return slab->large_start == p ? slab->large_bytes : 0;
    // Small blocks come from jemalloc only where the pools have no room.
    bool maybe = atomic_load_explicit(&large.has_small, memory_order_relaxed);
    return maybe && is_mapped(p) ? tp_je_sallocx(p, 0) : 0;
}

/* The descriptor of the huge block that begins at `p`; NULL when none does. */
static struct tp_slab *huge_at(const void *p)
{
    struct tp_slab *slab = tp_slab_at(p);
    bool huge = slab && tp_slab_owner(slab) == TP_SLAB_LARGE && slab->huge;
    return huge ? slab : NULL;
}

/* The descriptor that tells of the block at `p` alone; NULL when it has none. */
static struct tp_slab *described_at(const void *p)
{
    struct tp_slab *slab = tp_slab_at(p);
    bool described =
        slab && tp_slab_owner(slab) == TP_SLAB_LARGE && slab->large_start == p;
    return described ? slab : NULL;
}

/* Writes down a block that is big enough to be alone in its first granule. */
static void describe(void *p, size_t bytes)
{
    struct tp_slab *slab = tp_slab_at(p);
    if (!slab || bytes <= TP_GRANULE) {
        atomic_store_explicit(&large.has_small, true, memory_order_relaxed);
        return;
    }
    slab->huge = false;
    slab->large_start = p;
    slab->large_bytes = bytes;
    tp_slab_set_owner(slab, TP_SLAB_LARGE);
}

/* The first call, on a stack of its own: its start needs more than a small thread has. */
static void start_here(void)
{
    void *p = tp_je_mallocx(1, 0);
    if (p) tp_je_dallocx(p, 0);
    atomic_store_explicit(&large.state, p ? STARTED : FAILED, memory_order_release);
}

/*
 * Starts jemalloc, once. A start that failed for want of memory is not tried again:
 * it leaves things behind that a second try would trip over.
 */
static bool is_started(void)
{
    uint32_t state = atomic_load_explicit(&large.state, memory_order_acquire);
    if (TP_LIKELY(state != UNTRIED)) return state == STARTED;
    if (tp_os_is_sandboxed()) return false;  // it asks for processors and files
    tp_lock_enter(&large.start_lock);
    char *stack = NULL;
    if (atomic_load_explicit(&large.state, memory_order_relaxed) == UNTRIED) {
        // Where a start finds too little memory, or too few mappings, it crashes: all
        // that it needs is there before, in one piece with its stack.
        stack = tp_os_map(START_STACK + START_NEEDS);
        if (!stack) atomic_store_explicit(&large.state, FAILED, memory_order_release);
    }
    if (stack) {
        large.start_at = stack + START_STACK;
        large.start_end = large.start_at + START_NEEDS;
        static ucontext_t here, there;
        getcontext(&there);
        there.uc_stack.ss_sp = stack;
        there.uc_stack.ss_size = START_STACK;
        there.uc_link = &here;
        makecontext(&there, start_here, 0);
        swapcontext(&here, &there);
        tp_os_unmap(stack, START_STACK);
        tp_os_unmap(large.start_at, (size_t)(large.start_end - large.start_at));
        large.start_at = NULL;
    }
    tp_lock_leave(&large.start_lock);
    return atomic_load_explicit(&large.state, memory_order_acquire) == STARTED;
}

void *tp_large_alloc(size_t bytes, size_t align, bool zero)
{
    if (bytes > PTRDIFF_MAX) return NULL;
    if (bytes >= TP_HUGE_MIN || align >= TP_HUGE_MIN) {
        size_t least = bytes > TP_HUGE_MIN ? bytes : TP_HUGE_MIN;
        void *run = tp_huge_alloc(least, align, zero);
        if (!run && tp_nearby_empty()) run = tp_huge_alloc(least, align, zero);
        if (run) return run;
    }
    int flags = zero ? 0x40 : 0;                             // MALLOCX_ZERO
    if (align > TP_MIN_ALIGN) flags |= (int)tp_log2(align);  // MALLOCX_LG_ALIGN
    int saved = errno;
    if (!is_started()) return NULL;
    // A block with a descriptor of its own needs more than a granule; jemalloc's blocks
    // of 8 bytes are aligned to no more than that.
    size_t least = align > TP_POOL_MAX ? TP_GRANULE + 1 : TP_MIN_ALIGN;
    void *p = tp_je_mallocx(bytes > least ? bytes : least, flags);
    errno = saved;
    if (p) {
        describe(p, tp_je_sallocx(p, 0));
        struct tp_slab *slab = described_at(p);
        if (slab) tp_large_keep(p, (struct tp_note){ 0 });
    }
    return p;
}

bool tp_large_keep(void *p, struct tp_note note)
{
    struct tp_slab *slab = described_at(p);
    if (!slab) return tp_ledger_add(p, note);
    slab->requested = note.requested;
    slab->mark = note.mark;
    return true;
}

struct tp_note tp_large_note(const void *p)
{
    struct tp_slab *slab = described_at(p);
    if (!slab) return tp_ledger_find(p);
    return (struct tp_note){ .mark = slab->mark, .requested = slab->requested };
}

struct tp_note tp_large_end(void *p)
{
    struct tp_slab *slab = described_at(p);
    if (!slab) return tp_ledger_remove(p);
    struct tp_note note = tp_large_note(p);
    slab->mark = 0;
    return note;
}

static size_t read_stat(const char *name)
{
    size_t value = 0, size = sizeof(value);
    return tp_je_mallctl(name, &value, &size, NULL, 0) == 0 ? value : 0;
}

/*
 * Purges what jemalloc holds idle beyond `share` of the bytes in use (0: all of it).
 * It knows its idle pages only after a walk over its arenas, 10-20 us, so the walk
 * waits until so much was freed that the answer can have changed.
 */
static size_t look_around(size_t share)
{
    bool idle_now = false;
    if (!atomic_compare_exchange_strong_explicit(&large.looking, &idle_now, true,
            memory_order_acquire, memory_order_relaxed))
        return 0;
    int saved = errno;
    uint64_t epoch = 1;
    tp_je_mallctl("epoch", NULL, NULL, &epoch, sizeof(epoch));
    // 4096: MALLCTL_ARENAS_ALL, its index in names of this kind.
    size_t idle = read_stat("stats.arenas.4096.pdirty") * tp_os_page();
    size_t allowed = share ? read_stat("stats.allocated") / share : 0;
    if (share && allowed < IDLE_LEAST) allowed = IDLE_LEAST;
    size_t purged = 0;
    if (idle > allowed) {
        tp_je_mallctl("arena.4096.purge", NULL, NULL, NULL, 0);
        purged = idle;
        idle = 0;
    }
    int64_t credit = (int64_t)(allowed - idle);
    atomic_store_explicit(
        &large.credit, tp_max_i64(credit, IDLE_LEAST / 4), memory_order_relaxed);
    errno = saved;
    atomic_store_explicit(&large.looking, false, memory_order_release);
    return purged;
}

static void note_freed(size_t bytes)
{
    atomic_fetch_add_explicit(&large.frees, 1, memory_order_relaxed);
    int64_t credit =
        atomic_fetch_sub_explicit(&large.credit, (int64_t)bytes, memory_order_relaxed);
    if (credit >= (int64_t)bytes) return;
    uint64_t begin = tp_os_ticks();
    if (look_around(IDLE_SHARE))
        tp_latency_record(TP_OP_PURGE, 0, tp_os_ticks() - begin);
}

void tp_large_free(void *p)
{
    struct tp_slab *slab = huge_at(p);
    if (slab) {
        tp_huge_free(slab);
        return;
    }
    slab = tp_slab_at(p);
    if (slab && tp_slab_owner(slab) == TP_SLAB_LARGE) tp_slab_set_owner(slab, 0);
    int saved = errno;
    size_t bytes = tp_je_sallocx(p, 0);
    tp_je_dallocx(p, 0);
    errno = saved;
    note_freed(bytes);
}

bool tp_large_resize(void *p, size_t bytes)
{
    struct tp_slab *slab = huge_at(p);
    // It may be the run behind that was just freed.
    if (slab && bytes > slab->granules << TP_GRANULE_SHIFT) tp_nearby_empty();
    if (slab) return bytes >= TP_HUGE_MIN && tp_huge_resize(slab, bytes);
    int saved = errno;
    size_t now = tp_je_xallocx(p, bytes, 0, 0);
    errno = saved;
    describe(p, now);
    return now >= bytes;
}

void *tp_large_move(void *p, size_t bytes)
{
    struct tp_slab *slab = huge_at(p);
    return slab && bytes >= TP_HUGE_MIN ? tp_huge_move(slab, bytes) : NULL;
}

size_t tp_large_purge(bool now)
{
    size_t purged = tp_huge_purge(now);
    if (atomic_load_explicit(&large.state, memory_order_relaxed) != STARTED)
        return purged;
    uint64_t frees = atomic_load_explicit(&large.frees, memory_order_relaxed);
    bool quiet = frees == large.frees_at_tick;
    large.frees_at_tick = frees;
    if (!now && (!quiet || frees == large.frees_at_purge)) return purged;
    large.frees_at_purge = frees;
    int saved = errno;
    tp_je_mallctl("thread.tcache.flush", NULL, NULL, NULL, 0);
    errno = saved;
    return purged + look_around(0);
}

void tp_large_before_fork(void)
{
    large.prepared = large.prepare != NULL;
    if (large.prepared) large.prepare();
}

void tp_large_after_fork(bool child)
{
    if (child) {
        atomic_store_explicit(&large.lock.word, 0, memory_order_relaxed);
        atomic_store_explicit(&large.start_lock.word, 0, memory_order_relaxed);
        atomic_store_explicit(&large.looking, false, memory_order_relaxed);
    }
    // jemalloc may have started between the two: it unlocks only what it has locked.
    if (child && large.child) large.child();
    if (!child && large.prepared) large.parent();
    large.prepared = false;
}
