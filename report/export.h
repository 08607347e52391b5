/* SPDX-License-Identifier: MIT */
/*
 * export.h - call sites for the formats of other tools: pprof, folded and their kin.
 *
 *     report --export.c--> sites that the view wants, with six figures and their frames
 *                   |
 *             space.c  from frames to addresses that are different for different code
 *
 * Idea: these formats all want sums by call stack. Which processes they are of, which
 * stacks the view wants and which of their frames it folds is decided here, once.
 *
 * Holds always:
 *   - without focus and ignore the figures of all visits add up to the exact totals of
 *     the processes: what belongs to no stack comes as a site without frames;
 *   - a text that was cleaned is UTF-8 without control characters.
 *
 * Knows nothing of: how a format is written.
 */
#ifndef TP_REPORT_EXPORT_H
#define TP_REPORT_EXPORT_H

#include "report/emit.h"
#include "report/frames.h"
#include "report/intern.h"

enum tp_value {
    TP_VALUE_ALLOCATIONS,
    TP_VALUE_ALLOCATED,  // bytes
    TP_VALUE_LIVE_BLOCKS,
    TP_VALUE_LIVE,       // bytes
    TP_VALUE_PEAK,       // bytes
    TP_VALUE_TEMPORARY,  // blocks
    TP_VALUES,
};

/* What is exported: of one process or, where they were asked for together, of all. */
struct tp_export {
    const struct tp_view *view;
    struct tp_symbols *symbols;
    struct tp_who *whos;
    size_t n_whos;
    struct tp_site *wholes;  // one a process: all of it, where no stacks were taken
};

/* Fails: false, without memory. */
bool tp_export_open(struct tp_export *out, const struct tp_report *report);
void tp_export_close(struct tp_export *export);

/* True for the processes that an export has: all that count, or the one that is chosen. */
bool tp_export_takes(const struct tp_report *report, const struct tp_profile *profile);

/* A site with its figures; false ends the visits. */
typedef bool tp_export_visit(void *argument, size_t who, const struct tp_site *site,
    const int64_t values[TP_VALUES]);

/* Visits every site that is wanted. False when a visit has said so. */
bool tp_export_sites(
    const struct tp_export *export, tp_export_visit *visit, void *argument);

/* The figure of --sort, live bytes by default, as a value. */
enum tp_value tp_export_value(const struct tp_view *view);

/* a + b, or the largest number there is. */
int64_t tp_export_add(int64_t a, int64_t b);

/* ---- frames of a site ----------------------------------------------------------------- */

enum { TP_EXPORT_DEPTH = 256, TP_EXPORT_PLACES = 2048 };

/* An address of a stack with its functions, innermost first; at least one. */
struct tp_frame {
    uint32_t node;  // 0: no address; the only frame of a site that has no stack
    const struct tp_place *places;
    size_t n;
};

/*
 * The stack of a site, innermost frame first, at least one. Unless the view is full,
 * frames that are nothing but plumbing are left out at the inner end, and what runs
 * before main at the outer one.
 */
size_t tp_export_frames(struct tp_frame out[TP_EXPORT_DEPTH], const struct tp_who *who,
    const struct tp_site *site);

/* The same by functions: of a frame that is partly plumbing that part is left out too. */
size_t tp_export_places(const struct tp_place *out[TP_EXPORT_PLACES],
    const struct tp_who *who, const struct tp_site *site);

/* The text as UTF-8 in memory of the caller's; NULL without memory. */
char *tp_export_clean(const char *text);

/* ---- stacks that are the same ---------------------------------------------------------- */

/* Sums by a list of numbers, in the order of their coming. All zero is empty. */
struct tp_sums {
    struct tp_intern keys;  // the lists
    int64_t (*values)[TP_VALUES];
    size_t room;
};

/* Fails: false, without memory. */
bool tp_sums_add(struct tp_sums *sums, const uint32_t *list, size_t n,
    const int64_t values[TP_VALUES]);

const uint32_t *tp_sums_list(const struct tp_sums *sums, uint32_t row, size_t *out_n);

/* Rows by that value, most first, and otherwise as they came; freed by the caller. */
uint32_t *tp_sums_order(const struct tp_sums *sums, enum tp_value value);
void tp_sums_fini(struct tp_sums *sums);

/* ---- space.c: addresses ------------------------------------------------------------------ */

/* A module where it was loaded, or where it had to be put to be alone there. */
struct tp_mapped {
    const struct tp_module_record *module;
    uint64_t start;
    uint64_t end;
    bool is_main;
};

/* A frame: the same code of the same module has the same, in whatever process. */
struct tp_location {
    uint64_t address;  // of the call; not 0, and no other location has it
    uint32_t mapping;  // index + 1; 0: none
    uint32_t who;
    uint32_t node;  // in its dump; 0: stands for what has no stack
    const struct tp_place *places;
    size_t n_places;
};

struct tp_space {
    struct tp_mapped *mapped;  // the program first, then by address
    size_t n_mapped;
    uint32_t **of;  // for each process: mapping + 1 by number of its module; 0: none
    size_t n_whos;
    struct tp_intern keys;
    struct tp_intern addresses;
    struct tp_location *locations;
    size_t room;
    uint64_t next;  // address for what has none
};

/* Fails: false, without memory. */
bool tp_space_open(struct tp_space *out, const struct tp_export *export);
void tp_space_close(struct tp_space *space);

/* The number of a frame's location, from 0; TP_INTERN_NONE: without memory. */
uint32_t tp_space_locate(struct tp_space *space, const struct tp_export *export,
    size_t who, const struct tp_frame *frame);

/* The sums by lists of locations, innermost first. Fails: false, without memory. */
bool tp_space_sums(
    struct tp_sums *sums, struct tp_space *space, const struct tp_export *export);

/* The build id in hexadecimal digits, and the path, terminated within its bytes. */
enum { TP_BUILD_ID_DIGITS = 2 * TP_FORMAT_BUILD_ID + 1 };
const char *tp_module_build_id(
    char out[TP_BUILD_ID_DIGITS], const struct tp_module_record *module);
const char *tp_module_path(
    char out[TP_FORMAT_PATH + 1], const struct tp_module_record *module);

#endif
