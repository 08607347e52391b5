/* SPDX-License-Identifier: MIT */
/*
 * crowd.c - the recording of a large program that never ran.
 */
#include "tests/unit/report/crowd.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shim/format.h"

enum {
    CLASSES = 48,
    MODULES = 7,
    CALLS = 60007,  // places in the program that call something
    SHALLOW = 20,   // frames of a stack
    DEEP = 60,
    INTERVAL = 512 * 1024,
    START_NS = 1000003,
    ROWS = 9,
};

struct crowd {
    struct crowd_wish wish;
    uint64_t shape;    // state of the generator for stacks
    uint64_t figures;  // and of that for what was sampled
    struct tp_class_record classes[CLASSES];
    struct tp_thread_slot slot;
    struct tp_module_record modules[MODULES];
    struct tp_node_record *nodes;
    size_t n_nodes;
    struct tp_site_record *sites;
    size_t n_sites;
    struct tp_sample_record *samples;
    size_t n_samples;
    struct tp_sampling_record sampling;
    double blocks[TP_FORMAT_CLASSES][2];  // taken, freed
    double bytes[TP_FORMAT_CLASSES][2];
    double peak_bytes;
};

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15U;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
}

static double fraction(uint64_t *state)
{
    return ((double)(next(state) >> 11) + 0.5) / 9007199254740992.0;
}

static uint64_t below(uint64_t *state, uint64_t n)
{
    return next(state) % n;
}

/* ---- the program ------------------------------------------------------------------- */

static void make_classes(struct crowd *crowd)
{
    uint64_t size = 0, base = 128;
    for (size_t i = 0; i < CLASSES; i++) {
        if (size < 128) {
            size += 16;
        } else {
            if (size == 2 * base) base = size;
            size += base / 4;
        }
        crowd->classes[i] = (struct tp_class_record){ .size_bytes = size, .slabs = 1 };
    }
}

static void make_modules(struct crowd *crowd)
{
    for (uint64_t i = 0; i < MODULES; i++) {
        struct tp_module_record *module = &crowd->modules[i];
        module->base = module->start = (0x7f0000 + i * 0x1000) << 24;
        module->end = module->start + 0x4000000;
        module->loaded_ns = START_NS;
        snprintf(module->path, sizeof(module->path),
            i ? "/nowhere/lib/libcrowd%u.so.1" : "/nowhere/bin/crowd", (unsigned)i);
    }
}

/* A call of some function: few are reached from everywhere, most from one place. */
static struct tp_node_record call(struct crowd *crowd, uint32_t parent)
{
    double place = pow(fraction(&crowd->shape), 3) * CALLS;
    uint64_t number = (uint64_t)place;
    return (struct tp_node_record){
        .parent = parent,
        .module = (uint32_t)(number % MODULES) + 1,
        .offset = 0x1000 + number * 67,
    };
}

/*
 * Stacks as a walk through the program meets them: back by a few callers, then down into
 * others. `path` holds the nodes of the stack; returns its new depth.
 */
static size_t walk(struct crowd *crowd, uint32_t *path, size_t depth)
{
    size_t back = 1 + (size_t)(-log(fraction(&crowd->shape)) * 1.2);
    if (below(&crowd->shape, 997) == 0) back = DEEP;
    depth = back < depth ? depth - back : 1;
    size_t goal = depth + 1 + (size_t)(-log(fraction(&crowd->shape)) * 1.2);
    if (goal < SHALLOW) goal = SHALLOW + below(&crowd->shape, 7);
    if (goal > DEEP) goal = DEEP;
    if (depth >= goal) depth = goal - 1;
    while (depth < goal) {
        uint32_t parent = depth ? path[depth - 1] : 0;
        crowd->nodes[crowd->n_nodes] = call(crowd, parent);
        path[depth++] = (uint32_t)crowd->n_nodes++;
    }
    return depth;
}

/* ---- what was sampled ---------------------------------------------------------------- */

struct block {
    uint16_t class;
    uint64_t usable;
    uint64_t requested;
    uint64_t interval;
    double weight;
};

/* Of a site's class; the interval has been doubled now and then. */
static struct block draw(struct crowd *crowd, uint16_t class)
{
    uint64_t *state = &crowd->figures;
    struct block block = { .class = class };
    if (class == TP_FORMAT_LARGE)
        block.usable = (33 + below(state, 967)) * 4096;
    else
        block.usable = crowd->classes[class].size_bytes;
    block.requested = block.usable - below(state, 15);
    block.interval = (uint64_t)INTERVAL << (below(state, 5) ? 0 : below(state, 4));
    block.weight = crowd->wish.exact
        ? 1
        : -1 / expm1(-(double)block.usable / (double)block.interval);
    return block;
}

static void add_to_sums(
    struct tp_site_sums *sums, const struct block *block, bool exact, uint64_t n)
{
    double w = block->weight, usable = (double)block->usable;
    bool large = block->class == TP_FORMAT_LARGE;
    sums->samples += exact ? 0 : n;
    sums->blocks += n * (uint64_t)(w * TP_FORMAT_ONE);
    sums->requested_bytes += n * (uint64_t)(w * (double)block->requested);
    if (large) sums->bytes += n * (uint64_t)(w * usable);
    if (exact) return;
    sums->block_variance += (double)n * w * (w - 1);
    if (large) sums->byte_variance += (double)n * w * (w - 1) * usable * usable;
}

static void count(struct crowd *crowd, const struct block *block, int freed, uint64_t n)
{
    double weight = (double)n * block->weight;
    crowd->blocks[block->class][freed] += weight;
    crowd->bytes[block->class][freed] += weight * (double)block->usable;
}

static void add_sample(struct crowd *crowd, const struct block *block)
{
    crowd->samples[crowd->n_samples++] = (struct tp_sample_record){
        .site = (uint32_t)crowd->n_sites,
        .state = 1,
        .address = (crowd->n_samples + 1) * 4096,
        .bytes = block->usable,
        .requested_bytes = block->requested,
        .interval_bytes = block->interval,
        .born_ticks = START_NS + below(&crowd->figures, 3000000000),
    };
}

/* One stack and class: mostly one sample, a few have hundreds. */
static void add_site(struct crowd *crowd, uint32_t node, uint16_t class)
{
    uint64_t *state = &crowd->figures;
    struct tp_site_record *site = &crowd->sites[crowd->n_sites];
    bool exact = crowd->wish.exact;
    memset(site, 0, sizeof(*site));
    site->node = node;
    site->class = class;
    site->used = 1;
    size_t n = (size_t)fmin(1 / pow(fraction(state), 0.8), 300);
    for (size_t i = 0; i < n; i++) {
        struct block block = draw(crowd, class);
        uint64_t blocks = exact ? 1 + below(state, 13) : 1;
        add_to_sums(&site->taken, &block, exact, blocks);
        count(crowd, &block, 0, blocks);
        if (below(state, 2)) {
            add_to_sums(&site->freed, &block, exact, blocks);
            count(crowd, &block, 1, blocks);
            if (below(state, 3) == 0)
                site->temporary_blocks +=
                    blocks * (uint64_t)(block.weight * TP_FORMAT_ONE);
        } else if (i == 0 && !exact && below(state, 2)) {
            add_sample(crowd, &block);
        }
    }
    if (below(state, 3)) {  // has changed since the peak, when all was there
        site->peak = 1;
        site->peak_blocks = site->taken.blocks;
        site->peak_bytes = site->taken.bytes;
        site->peak_block_variance = site->taken.block_variance;
        site->peak_byte_variance = site->taken.byte_variance;
    }
    const struct tp_site_sums *taken = &site->taken, *freed = &site->freed;
    double blocks =
        (double)(site->peak ? site->peak_blocks : taken->blocks - freed->blocks);
    crowd->peak_bytes += class == TP_FORMAT_LARGE
        ? (double)(site->peak ? site->peak_bytes : taken->bytes - freed->bytes)
        : blocks / TP_FORMAT_ONE * (double)crowd->classes[class].size_bytes;
    crowd->n_sites++;
}

static void add_stack(struct crowd *crowd, uint32_t node)
{
    // A class of each third, so that no two are the same.
    uint16_t third = CLASSES / 3;
    uint64_t kind = below(&crowd->shape, 20);
    uint64_t n = kind == 0 ? 3 : kind < 4 ? 2 : 1;
    for (uint64_t i = 0; i < n; i++) {
        uint16_t within = (uint16_t)(pow(fraction(&crowd->shape), 2) * third);
        uint16_t class = (uint16_t)(third * ((kind + i) % 3) + within);
        if (below(&crowd->shape, 50) == 0 && i + 1 == n) class = TP_FORMAT_LARGE;
        add_site(crowd, node, class);
    }
}

/* ---- the figures of all ---------------------------------------------------------------- */

static void make_totals(struct crowd *crowd, struct tp_totals_record *totals)
{
    for (size_t i = 0; i < TP_FORMAT_CLASSES; i++) {
        double scale =
            crowd->wish.exact ? 1 : 1.02 + (fraction(&crowd->figures) - 0.5) / 50;
        crowd->slot.taken[i].allocations = (uint64_t)(crowd->blocks[i][0] * scale);
        crowd->slot.taken[i].requested_bytes = (uint64_t)(crowd->bytes[i][0] * 0.95);
        crowd->slot.frees[i] = (uint64_t)(crowd->blocks[i][1] * scale);
    }
    double large = crowd->wish.exact ? 1 : 1.003;
    const double *bytes = crowd->bytes[TP_FORMAT_LARGE];
    crowd->slot.large_allocated_bytes = (uint64_t)(bytes[0] * large);
    crowd->slot.large_freed_bytes = (uint64_t)(bytes[1] * large);
    crowd->slot.state = TP_SLOT_RUNNING;
    crowd->slot.tid = 4711;
    int64_t net =
        (int64_t)(crowd->slot.large_allocated_bytes - crowd->slot.large_freed_bytes);
    for (size_t i = 0; i < CLASSES; i++)
        net += (int64_t)((crowd->slot.taken[i].allocations - crowd->slot.frees[i]) *
            crowd->classes[i].size_bytes);
    int64_t peak = (int64_t)crowd->peak_bytes;
    if (peak < net) peak = net;
    *totals = (struct tp_totals_record){
        .net = net, .peak_single = peak, .peak_estimate = peak
    };
    crowd->sampling.mode = crowd->wish.exact ? TP_SAMPLING_EXACT : TP_SAMPLING_SAMPLED;
    crowd->sampling.depth = 64;
    crowd->sampling.interval_bytes = crowd->wish.exact ? 1 : INTERVAL;
    crowd->sampling.peak = 1;
    crowd->sampling.peak_bytes = (uint64_t)peak;
}

/* ---- the file ---------------------------------------------------------------------------- */

struct row {
    uint32_t kind;
    uint32_t bytes;
    size_t n;
    const void *records;
};

static unsigned char *lay_out(const struct row *rows, size_t n_rows, size_t *out_n)
{
    struct tp_file_header header = { .version = TP_FORMAT_VERSION,
        .header_bytes = sizeof(header),
        .row_bytes = sizeof(struct tp_region),
        .n_regions = (uint32_t)n_rows,
        .state = TP_FILE_DUMP,
        .reason = TP_REASON_EXIT,
        .monotonic_ns = START_NS + 3000000000,
        .ticks = START_NS + 3000000000 };
    memcpy(header.magic, TP_FORMAT_MAGIC, sizeof(header.magic));
    size_t at = sizeof(header) + n_rows * sizeof(struct tp_region);
    for (size_t i = 0; i < n_rows; i++)
        at += (rows[i].n * rows[i].bytes + 7) & ~(size_t)7;
    header.total_bytes = *out_n = at;
    unsigned char *bytes = calloc(1, at);
    if (!bytes) return NULL;
    memcpy(bytes, &header, sizeof(header));
    at = sizeof(header) + n_rows * sizeof(struct tp_region);
    for (size_t i = 0; i < n_rows; i++) {
        struct tp_region region = { .kind = rows[i].kind,
            .record_bytes = rows[i].bytes,
            .count = rows[i].n,
            .offset = at };
        size_t n = rows[i].n * rows[i].bytes;
        memcpy(bytes + sizeof(header) + i * sizeof(region), &region, sizeof(region));
        if (n) memcpy(bytes + at, rows[i].records, n);
        at += (n + 7) & ~(size_t)7;
    }
    return bytes;
}

static unsigned char *write_out(struct crowd *crowd, size_t *out_n)
{
    struct tp_totals_record totals;
    struct tp_process_record process = { .pid = 4711,
        .page_bytes = 4096,
        .start_monotonic_ns = START_NS,
        .start_ticks = START_NS,
        .name = "crowd",
        .host = "harbour" };
    make_totals(crowd, &totals);
    crowd->sampling.samples = crowd->n_sites;
    const struct row rows[ROWS] = {
        { TP_REGION_PROCESS, sizeof(process), 1, &process },
        { TP_REGION_CLASSES, sizeof(crowd->classes[0]), CLASSES, crowd->classes },
        { TP_REGION_TOTALS, sizeof(totals), 1, &totals },
        { TP_REGION_THREADS, sizeof(crowd->slot), 1, &crowd->slot },
        { TP_REGION_SAMPLING, sizeof(crowd->sampling), 1, &crowd->sampling },
        { TP_REGION_MODULES, sizeof(crowd->modules[0]), MODULES, crowd->modules },
        { TP_REGION_NODES, sizeof(crowd->nodes[0]), crowd->n_nodes, crowd->nodes },
        { TP_REGION_SITES, sizeof(crowd->sites[0]), crowd->n_sites, crowd->sites },
        { TP_REGION_SAMPLES, sizeof(crowd->samples[0]), crowd->n_samples,
            crowd->samples },
    };
    return lay_out(rows, ROWS, out_n);
}

unsigned char *crowd_make(const struct crowd_wish *wish, size_t *out_n)
{
    struct crowd *crowd = calloc(1, sizeof(*crowd));
    unsigned char *bytes = NULL;
    if (!crowd) return NULL;
    crowd->wish = *wish;
    crowd->shape = wish->seed;
    crowd->figures = wish->seed + 0x5851f42d4c957f2dU * (wish->run + 1);
    make_classes(crowd);
    make_modules(crowd);
    // On average two new nodes and 1.25 sites a stack; memory that is not touched is free.
    size_t most_nodes = (wish->n_stacks + 1) * (DEEP / 10) + DEEP + 1;
    crowd->nodes = calloc(most_nodes, sizeof(crowd->nodes[0]));
    crowd->sites = calloc(3 * wish->n_stacks + 1, sizeof(crowd->sites[0]));
    crowd->samples = calloc(3 * wish->n_stacks + 1, sizeof(crowd->samples[0]));
    if (crowd->nodes && crowd->sites && crowd->samples) {
        uint32_t path[DEEP] = { 0 };
        size_t depth = 0;
        crowd->n_nodes = crowd->n_sites = 1;  // the first of each means none
        for (size_t i = 0; i < wish->n_stacks && crowd->n_nodes + DEEP < most_nodes;
             i++) {
            depth = walk(crowd, path, depth);
            add_stack(crowd, path[depth - 1]);
        }
        bytes = write_out(crowd, out_n);
    }
    free(crowd->nodes);
    free(crowd->sites);
    free(crowd->samples);
    free(crowd);
    return bytes;
}
