/* SPDX-License-Identifier: MIT */
/*
 * test.h - what the tests of report/ share: cmocka, dumps made in memory, captured text.
 *
 * A test fills the structs of the format and asks for the bytes of a dump; counts are
 * primes and sizes odd, so that a wrong factor shows.
 */
#ifndef TP_TESTS_UNIT_REPORT_TEST_H
#define TP_TESTS_UNIT_REPORT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>

#include "report/emit.h"
#include "report/model.h"
#include "shim/format.h"

enum { TEST_START_NS = 1000003, TEST_START_TICKS = 2000003, TEST_PID = 0x3ffffffe };

/* A dump under construction: rows are added, then the bytes are sealed. */
struct test_file {
    unsigned char *bytes;  // freed by test_file_fini()
    size_t n_bytes;
    uint32_t n_rows;
};

enum { TEST_ROWS = 16 };  // rows that a test file has room for

/* An empty dump with room for rows and a process of that name. */
void test_file_init(struct test_file *file, const char *name);

/* Adds a row and its records. */
void test_file_add(struct test_file *file, uint32_t kind, uint32_t record_bytes,
    uint64_t count, const void *records);

/* The header and the rows in the file's bytes, to be spoiled. */
struct tp_file_header *test_file_header(struct test_file *file);
struct tp_region *test_file_row(struct test_file *file, uint32_t i);

/* A dump with everything in it: classes, two slots, an ended thread, latencies. */
void test_file_full(struct test_file *file);

void test_file_fini(struct test_file *file);

/* Three size classes of 16, 48 and 112 bytes. */
void test_classes(struct tp_class_record classes[3]);

/* A dump struct as load.c would make it, with these slots, which stay the caller's. */
void test_dump(struct tp_dump *dump, struct tp_thread_slot *slots, size_t n_slots);

/* What `emit` writes for the report, in memory of the caller's. */
char *test_capture(void (*emit)(struct tp_writer *, const struct tp_report *),
    struct tp_report *report);

/* The same for anything that writes to a writer. */
char *test_written(void (*write)(struct tp_writer *, void *), void *argument);

/* Setup and teardown of a test that works in an empty folder of its own. */
extern char test_folder[64];
int test_folder_make(void **state);
int test_folder_clear(void **state);

void test_write_file(const char *path, const void *bytes, size_t n, mode_t mode);

#endif
