/* SPDX-License-Identifier: MIT */
/*
 * space.c - one address space for the code of all exported processes.
 *
 * Idea: formats tell frames apart by their addresses. A module stays where its process
 * had it; the same file in another process, or loaded again, is the same module. Where
 * two different ones were at one place (one after the other, or in two processes), the
 * second is put where nothing can be, and so is what has no address: readers without a
 * name for the lowest addresses give them that of the program's first symbol.
 *
 * Holds always: no two locations have one address, and none has 0.
 */
#include "report/export.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ELSEWHERE ((uint64_t)1 << 62)  // above every address of a program
#define NOWHERE ((uint64_t)3 << 61)    // above all that was put there
#define SIZE_MOST ((uint64_t)1 << 40)
#define GAP 4096

const char *tp_module_build_id(
    char out[TP_BUILD_ID_DIGITS], const struct tp_module_record *module)
{
    out[0] = '\0';
    for (size_t i = 0; i < module->build_id_bytes && i < TP_FORMAT_BUILD_ID; i++)
        snprintf(out + 2 * i, 3, "%02x", module->build_id[i]);
    return out;
}

const char *tp_module_path(
    char out[TP_FORMAT_PATH + 1], const struct tp_module_record *module)
{
    memcpy(out, module->path, TP_FORMAT_PATH);
    out[TP_FORMAT_PATH] = '\0';
    return out;
}

/* ---- modules -------------------------------------------------------------------------- */

/* What makes two records the same file. */
struct file_key {
    char path[TP_FORMAT_PATH + 1];
    char build_id[TP_BUILD_ID_DIGITS];
    uint64_t bytes;
};

static bool is_good(const struct tp_module_record *module)
{
    return module->end > module->start && module->end - module->start <= SIZE_MOST;
}

static uint32_t key_of(struct tp_intern *files, const struct tp_module_record *module)
{
    struct file_key key;
    memset(&key, 0, sizeof(key));
    memcpy(key.path, module->path, strnlen(module->path, TP_FORMAT_PATH));
    tp_module_build_id(key.build_id, module);
    key.bytes = module->end - module->start;
    return tp_intern(files, &key, sizeof(key));
}

/* Numbers the modules of one process, and puts new ones into mapped[]. */
static bool take_modules(struct tp_space *space, struct tp_intern *files, size_t i,
    const struct tp_dump *dump)
{
    space->of[i] = calloc(dump->n_modules + 1, sizeof(space->of[i][0]));
    if (!space->of[i]) return false;
    for (size_t k = 0; k < dump->n_modules; k++) {
        const struct tp_module_record *module = &dump->modules[k];
        if (!is_good(module)) continue;
        uint32_t file = key_of(files, module);
        if (file == TP_INTERN_NONE) return false;
        space->of[i][k] = file + 1;
        if (file < space->n_mapped) continue;
        space->mapped[space->n_mapped++] = (struct tp_mapped){ module, module->start,
            module->end, i == 0 && (module->flags & TP_MODULE_MAIN) };
    }
    return true;
}

static int by_start(const void *a, const void *b)
{
    const struct tp_mapped *left = *(const struct tp_mapped *const *)a;
    const struct tp_mapped *right = *(const struct tp_mapped *const *)b;
    if (left->start != right->start) return left->start < right->start ? -1 : 1;
    return left < right ? -1 : left > right;
}

static int main_first(const void *a, const void *b)
{
    const struct tp_mapped *left = *(const struct tp_mapped *const *)a;
    const struct tp_mapped *right = *(const struct tp_mapped *const *)b;
    if (left->is_main != right->is_main) return left->is_main ? -1 : 1;
    return by_start(a, b);
}

/* Moves what overlaps, and what is at no possible address. `order` is by start. */
static void part(struct tp_mapped **order, size_t n)
{
    uint64_t end = GAP;
    uint64_t next = ELSEWHERE;
    for (size_t i = 0; i < n; i++) {
        struct tp_mapped *at = order[i];
        uint64_t bytes = at->end - at->start;
        if (at->start >= end && at->end <= ELSEWHERE) {
            end = at->end;
            continue;
        }
        at->start = next;
        at->end = next + bytes;
        next = (at->end + GAP) / GAP * GAP;
    }
}

/* Brings mapped[] into its order, and the numbers in of[] with it. */
static bool arrange(struct tp_space *space, const struct tp_export *export)
{
    size_t n = space->n_mapped;
    struct tp_mapped **order = calloc(n + 1, sizeof(order[0]));
    struct tp_mapped *arranged = calloc(n + 1, sizeof(arranged[0]));
    uint32_t *place = calloc(n + 1, sizeof(place[0]));
    bool good = order && arranged && place;
    for (size_t i = 0; good && i < n; i++) order[i] = &space->mapped[i];
    if (good) {
        qsort(order, n, sizeof(order[0]), by_start);
        part(order, n);
        qsort(order, n, sizeof(order[0]), main_first);
        for (size_t i = 0; i < n; i++) {
            arranged[i] = *order[i];
            place[order[i] - space->mapped] = (uint32_t)i;
        }
        for (size_t i = 0; i < space->n_whos; i++)
            for (size_t k = 0; k < export->whos[i].profile->dump->n_modules; k++)
                if (space->of[i][k]) space->of[i][k] = place[space->of[i][k] - 1] + 1;
        free(space->mapped);
        space->mapped = arranged;
        arranged = NULL;
    }
    free(order);
    free(arranged);
    free(place);
    return good;
}

bool tp_space_open(struct tp_space *out, const struct tp_export *export)
{
    memset(out, 0, sizeof(*out));
    size_t n = 0;
    for (size_t i = 0; i < export->n_whos; i++)
        n += export->whos[i].profile->dump->n_modules;
    struct tp_intern files = { 0 };
    out->next = NOWHERE;
    out->of = calloc(export->n_whos + 1, sizeof(out->of[0]));
    out->mapped = calloc(n + 1, sizeof(out->mapped[0]));
    bool good = out->of && out->mapped;
    if (good) out->n_whos = export->n_whos;
    for (size_t i = 0; good && i < export->n_whos; i++)
        good = take_modules(out, &files, i, export->whos[i].profile->dump);
    good = good && arrange(out, export);
    tp_intern_fini(&files);
    if (!good) tp_space_close(out);
    return good;
}

void tp_space_close(struct tp_space *space)
{
    for (size_t i = 0; i < space->n_whos; i++) free(space->of[i]);
    free(space->of);
    free(space->mapped);
    free(space->locations);
    tp_intern_fini(&space->keys);
    tp_intern_fini(&space->addresses);
    memset(space, 0, sizeof(*space));
}

/* ---- locations ------------------------------------------------------------------------ */

/* What makes two frames the same. */
struct frame_key {
    uint64_t address;
    uint64_t owner;  // of what has no module: two processes' code may differ there
    uint64_t mapping;
};

static struct frame_key frame_key(const struct tp_space *space, size_t who,
    const struct tp_dump *dump, const struct tp_frame *frame)
{
    struct frame_key key = { .owner = who + 1 };
    if (frame->node == 0) {
        key.owner = (uint64_t)(uintptr_t)frame->places;
        return key;
    }
    const struct tp_node_record *node = &dump->nodes[frame->node];
    key.address = node->offset;
    if (node->module == 0 || node->module > dump->n_modules) return key;
    const struct tp_module_record *module = &dump->modules[node->module - 1];
    uint32_t mapping = space->of[who][node->module - 1];
    uint64_t address = module->base + node->offset;
    if (mapping == 0 || address < module->start || address >= module->end) return key;
    key.owner = 0;
    key.mapping = mapping;
    key.address = space->mapped[mapping - 1].start + (address - module->start);
    return key;
}

static bool inside_any(const struct tp_space *space, uint64_t address)
{
    for (size_t i = 0; i < space->n_mapped; i++)
        if (address >= space->mapped[i].start && address < space->mapped[i].end)
            return true;
    return false;
}

/* An address of its own; 0: without memory. */
static uint64_t choose_address(struct tp_space *space, const struct frame_key *key)
{
    uint64_t address = key->address;
    bool good = address != 0 && (key->mapping || !inside_any(space, address));
    for (;;) {
        uint32_t before = space->addresses.n_items;
        if (!good) address = space->next++;
        uint32_t item = tp_intern(&space->addresses, &address, sizeof(address));
        if (item == TP_INTERN_NONE) return 0;
        if (item == before) return address;
        good = false;
    }
}

uint32_t tp_space_locate(struct tp_space *space, const struct tp_export *export,
    size_t who, const struct tp_frame *frame)
{
    const struct tp_dump *dump = export->whos[who].profile->dump;
    struct frame_key key = frame_key(space, who, dump, frame);
    uint32_t before = space->keys.n_items;
    uint32_t item = tp_intern(&space->keys, &key, sizeof(key));
    if (item != before) return item;
    if (item >= space->room) {
        size_t room = space->room ? 2 * space->room : 256;
        struct tp_location *grown =
            realloc(space->locations, room * sizeof(space->locations[0]));
        if (!grown) return TP_INTERN_NONE;
        space->locations = grown;
        space->room = room;
    }
    uint64_t address = choose_address(space, &key);
    space->locations[item] = (struct tp_location){ address, (uint32_t)key.mapping,
        (uint32_t)who, frame->node, frame->places, frame->n };
    return address ? item : TP_INTERN_NONE;
}

struct gathering {
    struct tp_sums *sums;
    struct tp_space *space;
    const struct tp_export *export;
};

static bool gather(void *argument, size_t who, const struct tp_site *site,
    const int64_t values[TP_VALUES])
{
    const struct gathering *to = argument;
    struct tp_frame frames[TP_EXPORT_DEPTH];
    uint32_t list[TP_EXPORT_DEPTH];
    size_t n = tp_export_frames(frames, &to->export->whos[who], site);
    for (size_t i = 0; i < n; i++) {
        list[i] = tp_space_locate(to->space, to->export, who, &frames[i]);
        if (list[i] == TP_INTERN_NONE) return false;
    }
    return tp_sums_add(to->sums, list, n, values);
}

bool tp_space_sums(
    struct tp_sums *sums, struct tp_space *space, const struct tp_export *export)
{
    struct gathering to = { sums, space, export };
    return tp_export_sites(export, gather, &to);
}
