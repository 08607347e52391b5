/* SPDX-License-Identifier: MIT */
/*
 * filing.c - the tables move into a live file that is made while they are in use.
 *
 * Idea: content first, while the file has no name yet, then the mapping over it. Each
 * table becomes one part, whatever pieces it had. One that the file has no room for stays
 * where it is and goes on in anonymous memory: the counts are worth more.
 *
 * Needs: nobody adds records meanwhile (tp_pool_begin_alone()).
 */
#include "shim/output.h"

#include "pool/os.h"

#include <unistd.h>

static size_t whole_pages(const struct tp_table *table)
{
    return tp_align_up(tp_table_bytes(table), tp_os_page());
}

/* Reserves and fills the part at `at`, and lists it. */
static bool fill(
    int fd, struct tp_parts *parts, const struct tp_table *table, uint64_t at)
{
    size_t used = tp_table_used_bytes(table);
    const struct tp_region row = { .kind = table->kind,
        .record_bytes = table->record_bytes,
        .count = tp_table_bytes(table) / table->record_bytes,
        .offset = at };
    return !tp_growth_reserve(fd, at, whole_pages(table)) &&
        pwrite(fd, table->records, used, (off_t)at) == (ssize_t)used &&
        tp_parts_list(parts, &row);
}

bool tp_filing_fill(struct tp_filing *filing, int fd, struct tp_parts *parts)
{
    bool all = true;
    unsigned i = 0;
    *filing = (struct tp_filing){ 0 };
    for (struct tp_table *t = NULL; (t = tp_table_next(t)); i++) {
        size_t bytes = whole_pages(t);
        if (!bytes) continue;
        uint64_t at = tp_parts_claim(parts, bytes);
        if (fill(fd, parts, t, at)) {
            filing->at[i] = at;
            filing->bytes += bytes;
        } else {
            all = false;
        }
    }
    return all;
}

bool tp_filing_map(const struct tp_filing *filing, int fd)
{
    unsigned i = 0;
    for (struct tp_table *t = NULL; (t = tp_table_next(t)); i++) {
        size_t bytes = whole_pages(t);
        if (!bytes || !filing->at[i]) {
            if (bytes) tp_table_not_filed(t);
            continue;
        }
        if (!tp_growth_map_part(fd, t->records, bytes, filing->at[i])) return false;
        tp_table_filed(t, filing->at[i]);
    }
    return true;
}

uint64_t tp_filing_most(void)
{
    uint64_t bytes = 0;
    for (struct tp_table *t = NULL; (t = tp_table_next(t));)
        bytes += tp_align_up((size_t)t->most * t->record_bytes, tp_os_page());
    return bytes;
}
