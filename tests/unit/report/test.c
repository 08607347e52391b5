/* SPDX-License-Identifier: MIT */
/*
 * test.c - dumps made in memory, and captured text, for the tests of report/.
 */
#include "tests/unit/report/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static unsigned char *grow(struct test_file *file, size_t n)
{
    file->bytes = realloc(file->bytes, file->n_bytes + n);
    assert_non_null(file->bytes);
    unsigned char *fresh = file->bytes + file->n_bytes;
    memset(fresh, 0, n);
    file->n_bytes += n;
    return fresh;
}

struct tp_file_header *test_file_header(struct test_file *file)
{
    return (struct tp_file_header *)(void *)file->bytes;
}

struct tp_region *test_file_row(struct test_file *file, uint32_t i)
{
    return (struct tp_region *)(void *)(file->bytes + sizeof(struct tp_file_header)) +
        i;
}

void test_file_init(struct test_file *file, const char *name)
{
    memset(file, 0, sizeof(*file));
    grow(file, sizeof(struct tp_file_header) + TEST_ROWS * sizeof(struct tp_region));
    struct tp_file_header *header = test_file_header(file);
    memcpy(header->magic, TP_FORMAT_MAGIC, sizeof(header->magic));
    header->version = TP_FORMAT_VERSION;
    header->header_bytes = sizeof(*header);
    header->row_bytes = sizeof(struct tp_region);
    header->state = TP_FILE_DUMP;
    header->reason = TP_REASON_EXIT;
    header->monotonic_ns = TEST_START_NS + 3000000000;
    header->ticks = TEST_START_TICKS + 6000000000;
    header->total_bytes = file->n_bytes;

    struct tp_process_record process = {
        .pid = TEST_PID,
        .start_monotonic_ns = TEST_START_NS,
        .start_ticks = TEST_START_TICKS,
    };
    snprintf(process.name, sizeof(process.name), "%s", name);
    test_file_add(file, TP_REGION_PROCESS, sizeof(process), 1, &process);
}

void test_file_add(struct test_file *file, uint32_t kind, uint32_t record_bytes,
    uint64_t count, const void *records)
{
    size_t n = (size_t)count * record_bytes;
    size_t offset = file->n_bytes;
    unsigned char *to = grow(file, (n + 7) & ~(size_t)7);
    if (n) memcpy(to, records, n);
    assert_true(file->n_rows < TEST_ROWS);
    *test_file_row(file, file->n_rows++) = (struct tp_region){
        .kind = kind, .record_bytes = record_bytes, .count = count, .offset = offset
    };
    test_file_header(file)->n_regions = file->n_rows;
    test_file_header(file)->total_bytes = file->n_bytes;
}

void test_classes(struct tp_class_record classes[3])
{
    static const uint64_t sizes[3] = { 16, 48, 112 };
    for (int i = 0; i < 3; i++)
        classes[i] = (struct tp_class_record){ .size_bytes = sizes[i], .slabs = 1 };
}

void test_file_full(struct test_file *file)
{
    struct tp_class_record classes[3];
    struct tp_totals_record totals = { .net = 16, .peak_single = 1009 };
    struct tp_thread_slot slots[2] = {
        { .state = TP_SLOT_RUNNING, .tid = 7, .name = "first" },
        { .state = TP_SLOT_RUNNING, .tid = 9, .name = "second", .epoch = 1 },
    };
    struct tp_ended_record ended = { .slot = 1, .tid = 8, .name = "gone" };
    struct tp_latency_record latency = {
        .name = "refill", .count = 1, .total_ticks = 41
    };
    test_classes(classes);
    slots[0].taken[1] = (struct tp_taken){ 101, 101 * 43 };
    slots[0].frees[1] = 97;
    slots[1].taken[2] = (struct tp_taken){ 211, 211 * 99 };
    slots[1].frees[2] = 199;
    slots[1].base[1].allocations = 11;
    ended.sums.allocations = 11;
    latency.min_ticks = latency.max_ticks = 41;
    latency.buckets[17] = 1;

    test_file_init(file, "full");
    test_file_add(file, TP_REGION_EXE, 1, 9, "/bin/full");
    test_file_add(file, TP_REGION_COMMAND, 1, 8, "full\0-x");
    test_file_add(file, TP_REGION_CLASSES, sizeof(classes[0]), 3, classes);
    test_file_add(file, TP_REGION_TOTALS, sizeof(totals), 1, &totals);
    test_file_add(file, TP_REGION_THREADS, sizeof(slots[0]), 2, slots);
    test_file_add(file, TP_REGION_ENDED, sizeof(ended), 1, &ended);
    test_file_add(file, TP_REGION_LATENCY, sizeof(latency), 1, &latency);
}

void test_file_fini(struct test_file *file)
{
    free(file->bytes);
    memset(file, 0, sizeof(*file));
}

void test_dump(struct tp_dump *dump, struct tp_thread_slot *slots, size_t n_slots)
{
    memset(dump, 0, sizeof(*dump));
    dump->header.state = TP_FILE_DUMP;
    dump->header.reason = TP_REASON_EXIT;
    dump->header.monotonic_ns = TEST_START_NS + 3000000000;
    dump->header.ticks = TEST_START_TICKS + 6000000000;
    dump->process.start_monotonic_ns = TEST_START_NS;
    dump->process.start_ticks = TEST_START_TICKS;
    test_classes(dump->classes);
    dump->n_classes = 3;
    dump->slots = slots;
    dump->n_slots = n_slots;
}

/* Everything in `file` as a string; closes it. */
static char *slurp(FILE *file)
{
    long n = 0;
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    n = ftell(file);
    assert_true(n >= 0);
    char *text = calloc(1, (size_t)n + 1);
    assert_non_null(text);
    rewind(file);
    assert_int_equal(fread(text, 1, (size_t)n, file), n);
    fclose(file);
    return text;
}

char *test_written(void (*write)(struct tp_writer *, void *), void *argument)
{
    struct tp_writer writer;
    struct tp_error error = { "" };
    FILE *file = tmpfile();
    assert_non_null(file);
    tp_writer_init(&writer, fileno(file));
    write(&writer, argument);
    assert_true(tp_writer_finish(&writer, "a file", &error));
    return slurp(file);
}

struct emission {
    void (*emit)(struct tp_writer *, const struct tp_report *);
    struct tp_report *report;
};

static void emit_now(struct tp_writer *writer, void *argument)
{
    struct emission *emission = argument;
    emission->emit(writer, emission->report);
}

char *test_capture(void (*emit)(struct tp_writer *, const struct tp_report *),
    struct tp_report *report)
{
    struct emission emission = { emit, report };
    return test_written(emit_now, &emission);
}

/* ---- a folder of the test's own ---- */

char test_folder[64];

int test_folder_make(void **state)
{
    (void)state;
    strcpy(test_folder, "/tmp/test_run.XXXXXX");
    return mkdtemp(test_folder) ? chdir(test_folder) : -1;
}

int test_folder_clear(void **state)
{
    (void)state;
    DIR *list = opendir(test_folder);
    for (const struct dirent *entry; list && (entry = readdir(list));)
        unlinkat(dirfd(list), entry->d_name, 0);
    if (list) closedir(list);
    return chdir("/") || rmdir(test_folder);
}

void test_write_file(const char *path, const void *bytes, size_t n, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n), n);
    close(fd);
    chmod(path, mode);
}
