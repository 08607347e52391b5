/* SPDX-License-Identifier: MIT */
/*
 * table.c - records of one kind that grow at the end of the live file.
 *
 *     records   0 ........ filed ........ ready ......... room ... most
 *               |  pages of |  anonymous   |  reserved, no |  no address
 *               |  the file |  memory      |  access       |  space
 *
 * Idea: address space for all records is reserved when the first one is wanted, so a
 * record never moves and needs no lock to be read. Memory comes in pieces: small ones at
 * first (a process that takes one sample pays for a few pages), as large as what is
 * there already later, and never more than PIECE, so that no thread waits long. A
 * piece is a further part of the live file when there is one, reserved before it is
 * touched; else it is anonymous. Places in the file are claimed in larger steps, which
 * double: a table's rows in the header stay few however parts of others come between.
 *
 * Order of memory: a piece has its memory before `ready` covers it (release), whoever
 * counts `n` up has seen that (acquire) and hands it on (release) to tp_table_at().
 *
 * Knows nothing of: what the records mean.
 */
#include "shim/output.h"

#include "pool/counters.h"

enum {
    PIECE = 128 * 1024,  // of memory, at most: 32 page faults
    CLAIM = 64 * 1024,   // of the file, at least
    SHARE = 32,          // of RLIMIT_AS, 1/32 for each table
    SMALLER = 4,         // each try asks for this part of the last
    RESERVE_TRIES = 5,   // down to 1/256
    LOCK_TRIES = 200,    // of 50 us each: what a thread waits for another's piece
};

struct tp_table tp_modules = { .kind = TP_REGION_MODULES,
    .record_bytes = sizeof(struct tp_module_record),
    .most = 4096 };
struct tp_table tp_nodes = { .kind = TP_REGION_NODES,
    .record_bytes = sizeof(struct tp_node_record),
    .most = 1 << 20,
    .first = 1 };
struct tp_table tp_sites = { .kind = TP_REGION_SITES,
    .record_bytes = sizeof(struct tp_site_record),
    .most = 1 << 18,
    .first = 1 };
struct tp_table tp_samples = { .kind = TP_REGION_SAMPLES,
    .record_bytes = sizeof(struct tp_sample_record),
    .most = 1 << 20,
    .first = 1 };
struct tp_table tp_timeline = { .kind = TP_REGION_TIMELINE,
    .record_bytes = sizeof(struct tp_point_record),
    .most = 682 };

static struct tp_table *const tables[] = { &tp_modules, &tp_nodes, &tp_sites,
    &tp_samples, &tp_timeline };
enum { TABLES = sizeof(tables) / sizeof(tables[0]) };

struct tp_table *tp_table_next(struct tp_table *before)
{
    unsigned i = 0;
    while (before && i < TABLES && tables[i++] != before) {
    }
    return i < TABLES ? tables[i] : NULL;
}

static uint32_t ready_of(const struct tp_table *table)
{
    // Meets the release in add_piece().
    return atomic_load_explicit(&table->ready, memory_order_acquire);
}

uint32_t tp_table_count(const struct tp_table *table)
{
    return atomic_load_explicit(&table->n, memory_order_acquire);
}

uint64_t tp_table_bytes(const struct tp_table *table)
{
    return (uint64_t)ready_of(table) * table->record_bytes;
}

uint64_t tp_table_used_bytes(const struct tp_table *table)
{
    return (uint64_t)tp_table_count(table) * table->record_bytes;
}

/* ---- growth; all of it needs the lock ---- */

/* The smallest number of records that is whole pages: no record lies in two parts. */
static uint32_t unit_of(const struct tp_table *table)
{
    size_t page = tp_os_page(), n = page;
    while (n % table->record_bytes) n += page;
    return (uint32_t)(n / table->record_bytes);
}

static size_t bytes_of(const struct tp_table *table, uint32_t n)
{
    return tp_align_up((size_t)n * table->record_bytes, tp_os_page());
}

/* Reserves address space: for all records, or for as many as can be had. */
static bool reserve(struct tp_table *table)
{
    uint32_t unit = unit_of(table), n = table->most;
    // A process that has given up system calls cannot ask: it finds out.
    size_t limit = tp_os_is_sandboxed() ? SIZE_MAX : tp_os_address_limit();
    size_t most = limit / SHARE;
    for (unsigned i = 0; i < RESERVE_TRIES && n; i++, n /= SMALLER) {
        size_t bytes = bytes_of(table, n);
        char *records = bytes <= most ? tp_os_reserve(bytes, tp_os_page()) : NULL;
        if (!records) continue;
        tp_os_no_huge(records, bytes);
        table->records = records;
        table->room = n;
        return true;
    }
    n = unit < table->most ? unit : table->most;  // one piece, whatever the limit
    table->records = tp_os_reserve(bytes_of(table, n), tp_os_page());
    table->room = table->records ? n : 0;
    return table->records != NULL;
}

/* How many records the next piece has. */
static uint32_t next_piece(const struct tp_table *table, uint32_t ready)
{
    uint32_t unit = unit_of(table), n = PIECE / table->record_bytes;
    if (n > ready) n = ready;
    n = n < unit ? unit : n - n % unit;
    return n < table->room - ready ? n : table->room - ready;
}

/* Sees to a place in the file for records `ready` and on; false: there is none. */
static bool claim(struct tp_table *table, uint32_t ready)
{
    if (table->lost || table->filed != ready) return false;
    if (ready < table->claim_end) return true;
    uint32_t unit = unit_of(table), n = CLAIM / table->record_bytes;
    if (n < ready) n = ready;
    n = (n + unit - 1) / unit * unit;
    if (n > table->room - ready) n = table->room - ready;
    uint64_t at = tp_live_claim(bytes_of(table, n));
    if (!at) return false;
    table->claim_first = ready;
    table->claim_end = ready + n;
    table->claim_at = at;
    return true;
}

/* Gives the `n` records from `ready` on memory of the file. */
static bool add_from_file(struct tp_table *table, uint32_t ready, uint32_t n)
{
    if (!claim(table, ready)) return false;
    const struct tp_live_part part = { .kind = table->kind,
        .record_bytes = table->record_bytes,
        .count = n,
        .at = table->records + (size_t)ready * table->record_bytes,
        .bytes = bytes_of(table, n),
        .offset = table->claim_at +
            (uint64_t)(ready - table->claim_first) * table->record_bytes };
    table->lost = !tp_live_add(&part);
    if (!table->lost) table->filed = ready + n;
    return !table->lost;
}

/* Never what is mapped there: a fork may have caught the parent halfway in a piece. */
static bool add_anonymous(char *at, size_t bytes)
{
    if (!tp_os_decommit(at, bytes) || !tp_os_commit(at, bytes)) return false;
    tp_os_no_huge(at, bytes);
    return true;
}

static bool add_piece(struct tp_table *table)
{
    if (table->dead || (!table->room && !reserve(table))) return false;
    uint32_t ready = ready_of(table);
    if (ready >= table->room) return false;
    uint32_t n = next_piece(table, ready);
    if (table->claim_end > ready && n > table->claim_end - ready)
        n = table->claim_end - ready;  // a piece has one place
    char *at = table->records + (size_t)ready * table->record_bytes;
    if (!add_from_file(table, ready, n) && !add_anonymous(at, bytes_of(table, n)))
        return false;
    atomic_fetch_add_explicit(
        &tp_account.totals.self_bytes, bytes_of(table, n), memory_order_relaxed);
    // Meets the acquire in ready_of().
    atomic_store_explicit(&table->ready, ready + n, memory_order_release);
    return true;
}

/* ---- records ---- */

/* Waits a while, but never for itself: in a handler on top of its own growth. */
static bool enter(struct tp_table *table)
{
    for (unsigned tries = 0; tries < LOCK_TRIES; tries++) {
        if (tp_lock_try(&table->lock)) {
            atomic_store_explicit(&table->grower, tp_os_tid(), memory_order_relaxed);
            return true;
        }
        if (atomic_load_explicit(&table->grower, memory_order_relaxed) == tp_os_tid())
            return false;
        tp_os_pause();
    }
    return false;
}

static void leave(struct tp_table *table)
{
    atomic_store_explicit(&table->grower, 0, memory_order_relaxed);
    tp_lock_leave(&table->lock);
}

/* Sees to memory for record `n`. */
static TP_COLD bool grow(struct tp_table *table, uint32_t n)
{
    if (n >= table->most || !enter(table)) return false;
    bool good = n < ready_of(table) || (add_piece(table) && n < ready_of(table));
    leave(table);
    return good;
}

uint32_t tp_table_add(struct tp_table *table)
{
    uint32_t n = atomic_load_explicit(&table->n, memory_order_acquire), next;
    do {
        next = n < table->first ? table->first : n;
        if (next >= ready_of(table) && !grow(table, next)) return UINT32_MAX;
        // Meets the acquire in tp_table_at().
    } while (!atomic_compare_exchange_weak_explicit(
        &table->n, &n, next + 1, memory_order_acq_rel, memory_order_acquire));
    return next;
}

/* ---- files ---- */

void tp_table_filed(struct tp_table *table, uint64_t offset)
{
    uint32_t ready = ready_of(table);
    table->filed = table->claim_end = ready;
    table->claim_first = 0;
    table->claim_at = offset;
    table->lost = false;
}

void tp_table_not_filed(struct tp_table *table)
{
    table->claim_first = table->claim_end = 0;
    table->lost = true;
}

/* False: its pages are still the parent's. */
static bool part(struct tp_table *table)
{
    size_t keep = (size_t)tp_table_used_bytes(table);
    size_t filed = bytes_of(table, table->filed);
    // The child has a time of its own.
    if (keep > filed) keep = filed;
    if (table->kind == TP_REGION_TIMELINE) keep = 0;
    return !filed || tp_growth_part(table->records, filed, keep);
}

bool tp_tables_part(void)
{
    bool all = true;
    for (unsigned i = 0; i < TABLES; i++) {
        struct tp_table *table = tables[i];
        bool good = part(table);
        atomic_store_explicit(&table->lock.word, 0, memory_order_relaxed);
        atomic_store_explicit(&table->grower, 0, memory_order_relaxed);
        table->filed = 0;
        tp_table_not_filed(table);
        table->lost = false;
        if (good) continue;
        all = false;
        table->dead = true;
        atomic_store_explicit(&table->n, 0, memory_order_relaxed);
        atomic_store_explicit(&table->ready, 0, memory_order_relaxed);
    }
    return all;
}
