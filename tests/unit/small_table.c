/* SPDX-License-Identifier: MIT */
/*
 * small_table.c - a table of modules in plain memory, for tests that need no live file.
 */
#include "shim/life.h"
#include "shim/profile.h"

enum { MOST = 1024 };

static struct tp_module_record records[MOST];
struct tp_table tp_modules = {
    .record_bytes = sizeof(records[0]), .most = MOST, .records = (char *)records
};
struct tp_boot tp_boot = { .exe = "/the/program" };

uint32_t tp_table_add(struct tp_table *table)
{
    uint32_t n = atomic_load_explicit(&table->n, memory_order_relaxed);
    if (n == table->most) return UINT32_MAX;
    atomic_store_explicit(&table->n, n + 1, memory_order_release);
    return n;
}

uint32_t tp_table_count(const struct tp_table *table)
{
    return atomic_load_explicit(&table->n, memory_order_acquire);
}
