/* SPDX-License-Identifier: MIT */
/*
 * made_up.h - call sites with names, made by hand: no program, no debug information.
 *
 * A test that uses it is linked with --wrap=tp_symbols_at, so that the names come from
 * here.
 */
#ifndef TP_TESTS_UNIT_REPORT_MADE_UP_H
#define TP_TESTS_UNIT_REPORT_MADE_UP_H

#include "tests/unit/report/test.h"

#include "report/frames.h"

enum { MADE_NODES = 64, MADE_SITES = 64, MADE_INLINES = 3 };

struct made_up {
    struct tp_dump dump;
    struct tp_module_record modules[3];  // app, libjson.so.1, libc.so.6
    struct tp_node_record nodes[MADE_NODES];
    struct tp_symbol symbols[MADE_NODES][MADE_INLINES];
    size_t n_symbols[MADE_NODES];
    struct tp_site list[MADE_SITES];
    struct tp_sites sites;
    struct tp_profile profile;
    struct tp_view view;
    struct tp_who who;
};

/* A process of three seconds, without nodes and sites. */
void made_init(struct made_up *made);

/* A frame below `parent` in a module (1 to 3); function NULL: nothing is known of it. */
uint32_t made_frame(struct made_up *made, uint32_t parent, uint32_t module,
    const char *function, const char *file, uint32_t line);

/* A function that was inlined into the innermost ones of `node`. */
void made_inline(struct made_up *made, uint32_t node, const char *function,
    const char *file, uint32_t line);

/*
 * A site of `bytes` live, at the peak and allocated, `blocks` each, with an interval of
 * `error` bytes on either side.
 */
struct tp_site *made_site(
    struct made_up *made, uint32_t node, int64_t bytes, int64_t blocks, int64_t error);

/* Opens the stacks when all is there; the totals become what the sites sum to. */
void made_open(struct made_up *made);
void made_close(struct made_up *made);

/* What a call on the page writes, to be freed. */
char *made_page(struct made_up *made);

/*
 * A small program: main reads documents and keeps names. 12 nodes, 5 sites, of which one
 * is in a library without symbols and one asks through two wrappers.
 */
void made_program(struct made_up *made);

#endif
