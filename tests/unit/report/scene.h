/* SPDX-License-Identifier: MIT */
/*
 * scene.h - what the tests of symbols share: small programs, and dumps of them.
 *
 * The programs are built by the compiler that there is. Each prints the addresses of calls
 * in it, as the library records them; what must be said of these is known from the source.
 */
#ifndef TP_TESTS_UNIT_REPORT_SCENE_H
#define TP_TESTS_UNIT_REPORT_SCENE_H

#include "tests/unit/report/test.h"

#include "report/symbols.h"

enum { CALLS = 4, SECOND = 1000000000, SCENE_MODULES = 4, SCENE_NODES = 16 };

struct scene {
    struct tp_dump dump;
    struct tp_module_record modules[SCENE_MODULES];
    struct tp_node_record nodes[SCENE_NODES];
};

extern const struct tp_symbols_wish no_cache;

/* Setup and teardown: an empty folder of its own, gone with all below it. */
int scene_folder_make(void **state);
int scene_folder_clear(void **state);

/* Runs a line of shell, which must succeed. */
void scene_shell(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* True when there is such a command. */
bool scene_have(const char *command);

/* Says that there is no such thing here, and that the test tries nothing without it. */
void scene_leave_out(const char *what);

/* Reads what a program prints: the addresses of its calls. */
void scene_read_calls(uint64_t calls[CALLS], const char *command);

/* Writes the source of the C program, fixture.c. */
void scene_write_source(void);

/* Builds the C program as `name`, and says which addresses it calls from. */
void scene_build(uint64_t calls[CALLS], const char *name, const char *options);

void scene_path(char *out, size_t size, const char *name);

/* A dump of a process that began a second from now. */
void scene_begin(struct scene *scene);

/* A module as the library would have it, by the file that is there now. */
struct tp_module_record *scene_add_module(struct scene *scene, const char *name);

/* A stack of these calls, the last one innermost; returns the first node. */
uint32_t scene_add_calls(struct scene *scene, uint32_t module, const uint64_t *calls);

struct tp_symbols *scene_open(const struct tp_symbols_wish *wish);

/* Asks for the innermost node only: its callers come with it. */
void scene_resolve(struct tp_symbols *symbols, struct scene *scene);

/* Both at once. */
struct tp_symbols *scene_resolved(
    struct scene *scene, const struct tp_symbols_wish *wish);

/* Compares what is known of a node, as `function file:line < caller file:line`. */
void scene_check(const struct tp_symbols *symbols, const struct scene *scene,
    uint32_t node, const char *expected);

/* Everything that debug information tells of the C program, whose nodes are 1 to 4. */
void scene_check_all(const struct tp_symbols *symbols, const struct scene *scene);
void scene_check_nothing(const struct tp_symbols *symbols, const struct scene *scene);

#endif
