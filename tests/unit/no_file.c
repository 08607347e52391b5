/* SPDX-License-Identifier: MIT */
/*
 * no_file.c - what the profile needs of live.c and timeline.c, where there is no file.
 *
 * All of it is weak: a test that links the real ones gets those.
 */
#include "shim/output.h"

#include <string.h>

#define WEAK __attribute__((weak))

static struct tp_sampling_record sampling;
WEAK struct tp_sampling_record *const tp_sampling = &sampling;

WEAK uint64_t tp_live_claim(uint64_t bytes)
{
    (void)bytes;
    return 0;
}

WEAK bool tp_live_add(const struct tp_live_part *part)
{
    (void)part;
    return false;
}

WEAK void tp_snapshot_read(void *out, const void *at, size_t bytes)
{
    memcpy(out, at, bytes);
}

WEAK void tp_timeline_tick(void)
{
}
