/* SPDX-License-Identifier: MIT */
/*
 * samples.c - sampled blocks that are alive, each in a record of the live file.
 *
 * A record is used again as soon as its block is freed, so the table is as long as the
 * most samples that were ever alive at once. Which records are free is on a stack in
 * private memory, under a lock that is held for a few lines.
 */
#include "shim/profile.h"

static struct {
    struct tp_lock lock;
    uint32_t *free;  // numbers of free records; address space for all, reserved once
    uint32_t n_free;
} samples;

static uint32_t pop(void)
{
    return samples.n_free ? samples.free[--samples.n_free] : 0;
}

uint32_t tp_sample_begin(const struct tp_sample_record *content)
{
    tp_lock_enter(&samples.lock);
    if (!samples.free) samples.free = tp_os_map(tp_samples.most * sizeof(uint32_t));
    uint32_t id = pop();
    if (!id && samples.free) id = tp_table_add(&tp_samples);
    tp_lock_leave(&samples.lock);
    struct tp_sample_record *record = tp_table_at(&tp_samples, id);
    if (!id || !record) return 0;
    struct tp_sample_record copy = *content;
    copy.state = 0;
    *record = copy;
    // Last: a record without it is none.
    __atomic_store_n(&record->state, 1, __ATOMIC_RELEASE);
    return id;
}

bool tp_sample_read(uint32_t mark, struct tp_sample_record *out)
{
    const struct tp_sample_record *record = tp_table_at(&tp_samples, mark);
    if (!record || !mark || !record->state) return false;
    *out = *record;
    return true;
}

void tp_sample_write(uint32_t mark, const struct tp_sample_record *content)
{
    struct tp_sample_record *record = tp_table_at(&tp_samples, mark);
    if (record && mark) *record = *content;
}

bool tp_sample_end(uint32_t mark, struct tp_sample_record *out)
{
    struct tp_sample_record *record = tp_table_at(&tp_samples, mark);
    if (!tp_sample_read(mark, out)) return false;
    __atomic_store_n(&record->state, 0, __ATOMIC_RELEASE);
    tp_lock_enter(&samples.lock);
    if (samples.free && samples.n_free < tp_samples.most)
        samples.free[samples.n_free++] = mark;
    tp_lock_leave(&samples.lock);
    return true;
}

void tp_samples_forked(uint32_t sites)
{
    atomic_store_explicit(&samples.lock.word, 0, memory_order_relaxed);
    // The parent's threads went on while its records were copied. What they began has
    // no block here, and may have a site whose number is still to be given here.
    uint32_t n = atomic_load_explicit(&tp_samples.n, memory_order_relaxed);
    for (uint32_t i = tp_samples.first; i < n; i++) {
        struct tp_sample_record *record = tp_table_at(&tp_samples, i);
        if (record->state == 1 && record->site >= sites) record->state = 0;
    }
}
