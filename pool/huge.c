/* SPDX-License-Identifier: MIT */
/*
 * huge.c - runs of granules: best fit, join, grow, purge.
 *
 * One lock; a look at a bounded number of free runs is the longest thing done under
 * it, but for a purge that walks to the next dirty one. Pages are purged, moved and
 * cleared outside it.
 */
#include "pool/huge.h"

#include "pool/counters.h"

#include <string.h>

enum {
    BINS = 40,                     // free runs by log2 of their granules
    CHUNK = 4 * 1024 * 1024,       // least address space taken at once
    IDLE_LEAST = 2 * 1024 * 1024,  // dirty bytes that are always allowed
    IDLE_SHARE = 4,                // above that, 1/4 of the bytes in use lately
    FIT_LOOKS = 64,                // runs of one bin looked at for the best fit
    ANY_SIZE = 1024 * 1024,    // bytes from which pages count for more than a good fit
    MOVE_LEAST = 1024 * 1024,  // bytes below which a copy is as good
    MOVES = 4096,              // of pages, in the life of a process
    PURGE_TO_CLEAR =
        1024 * 1024,  // bytes from which zeroed blocks are purged, not cleared
};

static struct {
    struct tp_lock lock;
    struct tp_slab *bin[BINS];
    uint64_t filled;   // bit n: bin[n] has a run
    size_t used;       // granules in blocks
    size_t used_high;  // most of `used` since the last tick but one
    size_t used_top;   // most of `used` since the last tick
    size_t dirty;      // granules in free runs whose pages may be there
    size_t dirty_low;  // least of `dirty` since the last tick
    _Atomic(uint32_t) moves;
} huge;

static unsigned bin_of(size_t granules)
{
    return tp_log2(granules);
}

static size_t granules_of(size_t bytes)
{
    return (bytes + TP_GRANULE - 1) >> TP_GRANULE_SHIFT;
}

/* ---- free runs: all of this needs the lock ---- */

/* Granules [at, at + n) of something; n may be 0. */
struct part {
    size_t at;
    size_t n;
};

/* The part of `dirty` that lies in [begin, begin + n), told from there. */
static struct part clip(struct part dirty, size_t begin, size_t n)
{
    size_t from = dirty.at > begin ? dirty.at : begin;
    size_t to = dirty.at + dirty.n < begin + n ? dirty.at + dirty.n : begin + n;
    return from < to ? (struct part){ from - begin, to - from } : (struct part){ 0, 0 };
}

/* The least part that covers both. */
static struct part cover(struct part a, struct part b)
{
    if (!a.n || !b.n) return a.n ? a : b;
    size_t from = a.at < b.at ? a.at : b.at;
    size_t to = a.at + a.n > b.at + b.n ? a.at + a.n : b.at + b.n;
    return (struct part){ from, to - from };
}

static struct part dirty_of(const struct tp_slab *run)
{
    return (struct part){ run->dirty_at, run->dirty };
}

static void link_run(struct tp_slab *run, size_t granules, struct part dirty)
{
    struct tp_slab *last = run + granules - 1;
    tp_slab_set_owner(run, TP_SLAB_IDLE);
    tp_slab_set_owner(last, TP_SLAB_IDLE);
    run->granules = last->granules = granules;
    run->fork_era = last->fork_era = tp_fork_era;
    run->dirty_at = (uint32_t)dirty.at;
    run->dirty = (uint32_t)dirty.n;
    unsigned n = bin_of(granules);
    struct tp_slab *first = huge.bin[n];
    run->prev = NULL;
    run->next = first;
    if (first) first->prev = run;
    huge.bin[n] = run;
    huge.filled |= (uint64_t)1 << n;
    huge.dirty += dirty.n;
}

static void unlink_run(struct tp_slab *run)
{
    struct tp_slab *last = run + run->granules - 1;
    if (run->next) run->next->prev = run->prev;
    if (run->prev) {
        run->prev->next = run->next;
    } else {
        unsigned n = bin_of(run->granules);
        huge.bin[n] = run->next;
        if (!run->next) huge.filled &= ~((uint64_t)1 << n);
    }
    run->next = run->prev = NULL;
    tp_slab_set_owner(run, 0);
    tp_slab_set_owner(last, 0);
    huge.dirty -= run->dirty;
}

/* The descriptor `slab` if a free run begins or ends there. */
static struct tp_slab *idle_at(struct tp_slab *slab)
{
    if ((char *)slab >= (char *)tp_range.slabs + tp_range.span) return NULL;
    bool idle = tp_slab_owner(slab) == TP_SLAB_IDLE && slab->fork_era == tp_fork_era;
    return idle ? slab : NULL;
}

/* Makes [run, run + granules) free, joined with its neighbours. */
static void put_run(struct tp_slab *run, size_t granules, struct part dirty)
{
    struct tp_slab *after = idle_at(run + granules);
    if (after) {
        unlink_run(after);
        struct part theirs = dirty_of(after);
        theirs.at += granules;
        dirty = cover(dirty, theirs);
        granules += after->granules;
    }
    struct tp_slab *before = idle_at(run - 1);
    if (before) {
        size_t n = before->granules;
        run -= n;
        unlink_run(run);
        dirty.at += n;
        dirty = cover(dirty_of(run), dirty);
        granules += n;
    }
    link_run(run, granules, dirty);
}

/* Pages that are there already, of the `granules` that a block would take. */
static size_t overlap(const struct tp_slab *run, size_t granules)
{
    return run->dirty < granules ? run->dirty : granules;
}

/*
 * Better: with more pages already there; of the same number, smaller. For less than a
 * megabyte a run of more than twice the size is not cut up for the sake of its pages.
 */
static bool fits_better(
    const struct tp_slab *run, const struct tp_slab *best, size_t granules)
{
    if (!best) return true;
    bool any = granules >= ANY_SIZE >> TP_GRANULE_SHIFT;
    bool close = any || run->granules < 2 * granules;
    bool best_close = any || best->granules < 2 * granules;
    size_t ours = overlap(run, granules), theirs = overlap(best, granules);
    if (close == best_close && ours != theirs) return ours > theirs;
    return run->granules < best->granules;
}

/* Looks at a bounded number of runs of each bin; those of the higher bins all fit. */
static struct tp_slab *find_fit(size_t granules)
{
    struct tp_slab *best = NULL;
    uint64_t bins = huge.filled >> bin_of(granules) << bin_of(granules);
    for (; bins; bins &= bins - 1) {
        unsigned looks = 0;
        struct tp_slab *run = huge.bin[__builtin_ctzll(bins)];
        for (; run && looks < FIT_LOOKS; looks++) {
            if (run->granules >= granules && fits_better(run, best, granules))
                best = run;
            run = run->next;
        }
    }
    return best;
}

static bool add_chunk(size_t granules)
{
    size_t bytes = granules << TP_GRANULE_SHIFT;
    void *start = tp_depot_extent(bytes > CHUNK ? bytes : CHUNK);
    if (!start && bytes < CHUNK)
        start = tp_depot_extent(bytes);
    else if (bytes < CHUNK)
        bytes = CHUNK;
    if (!start) return false;
    put_run(tp_slab_at(start), bytes >> TP_GRANULE_SHIFT, (struct part){ 0, 0 });
    atomic_fetch_add_explicit(
        &tp_account.totals.large_bytes, bytes, memory_order_relaxed);
    return true;
}

/* Once an operation is over: runs taken out and put back in between do not count. */
static void note_dirty_low(void)
{
    if (huge.dirty < huge.dirty_low) huge.dirty_low = huge.dirty;
}

/*
 * Cuts `granules` out of a free run, from `at` on; what is left over stays free.
 * Returns how many of them may be dirty.
 */
static size_t cut_run(struct tp_slab *run, struct tp_slab *at, size_t granules)
{
    size_t whole = run->granules;
    struct part dirty = dirty_of(run);
    unlink_run(run);
    size_t front = (size_t)(at - run), back = whole - front - granules;
    if (back) link_run(at + granules, back, clip(dirty, front + granules, back));
    if (front) link_run(run, front, clip(dirty, 0, front));
    huge.used += granules;
    if (huge.used > huge.used_top) huge.used_top = huge.used;
    if (huge.used > huge.used_high) huge.used_high = huge.used;
    note_dirty_low();
    return clip(dirty, front, granules).n;
}

/* ---- blocks ---- */

/* Where in a run to cut: where its pages are, or where the alignment has it. */
static struct tp_slab *place_in(struct tp_slab *run, size_t granules, size_t align)
{
    if (align > TP_GRANULE) {
        uintptr_t start = tp_align_up((uintptr_t)tp_slab_start(run), align);
        return tp_slab_at((void *)start);
    }
    struct part dirty = dirty_of(run);
    bool at_end = dirty.n && dirty.at && dirty.at + dirty.n == run->granules;
    return at_end ? run + run->granules - granules : run;
}

/*
 * Cuts a block; `instead_of` granules of another one are about to be free, so that
 * they do not count as in use at the same time. `out_dirty` may be dirty.
 */
static void *take_block(
    size_t bytes, size_t align, size_t instead_of, size_t *out_dirty)
{
    size_t granules = granules_of(bytes);
    size_t spare = align > TP_GRANULE ? align >> TP_GRANULE_SHIFT : 0;
    if (!tp_range.span || granules + spare > tp_range.span / sizeof(struct tp_slab))
        return NULL;

    void *p = NULL;
    tp_lock_enter(&huge.lock);
    struct tp_slab *run = find_fit(granules + spare);
    if (!run && add_chunk(granules + spare)) run = find_fit(granules + spare);
    if (run) {
        struct tp_slab *at = place_in(run, granules, align);
        huge.used -= instead_of;
        *out_dirty = cut_run(run, at, granules);
        at->mark = 0;
        at->requested = 0;
        at->granules = granules;
        tp_huge_describe(at, bytes);
        p = at->large_start;
    }
    tp_lock_leave(&huge.lock);
    return p;
}

/*
 * Clearing touches every page, the program perhaps only some: beyond a megabyte the
 * kernel does it cheaper.
 */
static void clear(void *p, size_t bytes, size_t dirty)
{
    size_t used = tp_align_up(bytes, tp_os_page());
    bool small = bytes < PURGE_TO_CLEAR && dirty >= granules_of(bytes) / 2;
    if (small || !tp_os_purge(p, used)) memset(p, 0, bytes);
}

void tp_huge_clear(void *p, size_t bytes)
{
    clear(p, bytes, granules_of(bytes));
}

void *tp_huge_alloc(size_t bytes, size_t align, bool zero)
{
    size_t dirty;
    void *p = take_block(bytes, align, 0, &dirty);
    if (p && zero && dirty) clear(p, bytes, dirty);
    return p;
}

/* Needs: the lock. */
static size_t allowed_dirty(void)
{
    size_t lately = huge.used_high, least = IDLE_LEAST >> TP_GRANULE_SHIFT;
    size_t allowed = lately + lately / IDLE_SHARE - huge.used;
    if (tp_idle != TP_IDLE_SHARE) return tp_idle == TP_IDLE_ALL ? SIZE_MAX : 0;
    return allowed > least ? allowed : least;
}

/* Takes one dirty run out, the largest; NULL when none is. Needs: the lock. */
static struct tp_slab *take_dirty(void)
{
    for (unsigned bin = BINS; bin-- > 0;)
        for (struct tp_slab *run = huge.bin[bin]; run; run = run->next)
            if (run->dirty) {
                unlink_run(run);
                note_dirty_low();
                return run;
            }
    return NULL;
}

/* Purges runs until at most `keep` granules are dirty; returns the bytes. */
static size_t purge_down_to(size_t keep)
{
    size_t purged = 0;
    for (;;) {
        tp_lock_enter(&huge.lock);
        struct tp_slab *run = huge.dirty > keep ? take_dirty() : NULL;
        tp_lock_leave(&huge.lock);
        if (!run) return purged;

        struct part dirty = dirty_of(run);
        bool clean =
            tp_os_purge(tp_slab_start(run + dirty.at), dirty.n << TP_GRANULE_SHIFT);
        if (clean) dirty.n = 0;
        tp_lock_enter(&huge.lock);
        size_t granules = run->dirty;
        put_run(run, run->granules, dirty);
        tp_lock_leave(&huge.lock);
        if (!clean) return purged;
        purged += granules << TP_GRANULE_SHIFT;
        atomic_fetch_add_explicit(&tp_account.totals.purged_bytes,
            granules << TP_GRANULE_SHIFT, memory_order_relaxed);
    }
}

/*
 * Frees a run, all or none of it dirty; `used` of its granules counted as used until
 * now. Keeps idle pages within their share.
 */
static void give_back(struct tp_slab *slab, size_t granules, bool is_dirty, size_t used)
{
    struct part dirty = { 0, is_dirty ? granules : 0 };
    tp_lock_enter(&huge.lock);
    huge.used -= used;
    put_run(slab, granules, dirty);
    size_t allowed = allowed_dirty();
    bool purge = huge.dirty > allowed;
    tp_lock_leave(&huge.lock);
    if (!purge) return;
    uint64_t begin = tp_os_ticks();
    purge_down_to(allowed);
    tp_latency_record(TP_OP_PURGE, 0, tp_os_ticks() - begin);
}

void tp_huge_free(struct tp_slab *slab)
{
    size_t granules = slab->granules;
    slab->huge = false;
    tp_slab_set_owner(slab, 0);
    give_back(slab, granules, true, granules);
}

bool tp_huge_resize(struct tp_slab *slab, size_t bytes)
{
    size_t have = slab->granules, want = granules_of(bytes);
    if (want < have) {
        slab->granules = want;
        tp_huge_describe(slab, bytes);
        give_back(slab + want, have - want, true, have - want);
        return true;
    }
    bool good = want == have;
    if (!good) {
        tp_lock_enter(&huge.lock);
        struct tp_slab *after = idle_at(slab + have);
        good = after && after->granules >= want - have;
        if (good) cut_run(after, after, want - have);
        tp_lock_leave(&huge.lock);
    }
    if (!good) return false;
    slab->granules = want;
    tp_huge_describe(slab, bytes);
    return true;
}

/*
 * Moving pages leaves two mappings where there was one, for ever: a large block is
 * worth that, and a process has some 65000 of them in all.
 */
static enum tp_move move_pages(char *from, char *to, size_t bytes)
{
    if (bytes < MOVE_LEAST) return TP_NOT_MOVED;
    if (atomic_fetch_add_explicit(&huge.moves, 1, memory_order_relaxed) >= MOVES)
        return TP_NOT_MOVED;
    return tp_os_move(from, to, bytes);
}

void *tp_huge_move(struct tp_slab *slab, size_t bytes)
{
    size_t granules = slab->granules;
    size_t dirty;
    char *to = take_block(bytes, 0, granules, &dirty);
    if (!to) return NULL;
    // Whole granules: what a page of the old one keeps would not be known as dirty.
    size_t n = granules < granules_of(bytes) ? granules : granules_of(bytes);
    enum tp_move moved = move_pages(slab->large_start, to, n << TP_GRANULE_SHIFT);
    if (moved == TP_MOVE_LOST) {
        tp_lock_enter(&huge.lock);
        huge.used += granules - granules_of(bytes);
        tp_lock_leave(&huge.lock);
        tp_slab_set_owner(tp_slab_at(to), 0);
        return NULL;
    }
    size_t used = slab->large_bytes < bytes ? slab->large_bytes : bytes;
    if (moved == TP_NOT_MOVED) memcpy(to, slab->large_start, used);
    slab->huge = false;
    tp_slab_set_owner(slab, 0);
    give_back(slab, granules, moved == TP_NOT_MOVED || n < granules, 0);
    return to;
}

size_t tp_huge_purge(bool now)
{
    tp_lock_enter(&huge.lock);
    size_t keep = now ? 0 : huge.dirty - huge.dirty_low;
    huge.dirty_low = huge.dirty;
    huge.used_high = huge.used_top;
    huge.used_top = huge.used;
    tp_lock_leave(&huge.lock);
    return purge_down_to(keep);
}

void tp_huge_forked(bool alone)
{
    atomic_store_explicit(&huge.lock.word, 0, memory_order_relaxed);
    if (alone) return;
    // Runs of the era before are no longer idle_at(): they are forgotten.
    memset(huge.bin, 0, sizeof(huge.bin));
    huge.filled = 0;
    huge.dirty = huge.dirty_low = 0;
}
