/* SPDX-License-Identifier: MIT */
/*
 * test_damage.c - a dump cut at every byte, and with bits turned over.
 *
 * Whatever comes of it must be an ordinary error, or a profile in which the promised
 * equations hold; and it must never ask for more memory than the file warrants. The
 * linker sends every allocation of the reader through the counters below.
 */
#include "tests/unit/report/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FLIPS = 40000,
    BYTES_PER_BYTE = 32,  // of memory for one of the file: a minimal dump's structs
    BYTES_ANYWAY = 64 * 1024,
};

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *block, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *block, size_t n);

static size_t asked;  // since it was last set to 0

void *__wrap_malloc(size_t n)
{
    asked += n;
    return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    asked += n * size;
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *block, size_t n)
{
    asked += n;
    return __real_realloc(block, n);
}

static void check_profile(const struct tp_profile *profile)
{
    const struct tp_totals *totals = &profile->totals;
    struct tp_thread_sums threads = { 0 };
    uint64_t allocations = profile->large.allocations;
    int64_t live = profile->large.live_bytes;
    for (size_t i = 0; i < profile->n_classes; i++) {
        allocations += profile->classes[i].allocations;
        live += profile->classes[i].live_bytes;
    }
    for (size_t i = 0; i < profile->n_threads; i++) {
        threads.allocations += profile->threads[i].sums.allocations;
        threads.frees += profile->threads[i].sums.frees;
        threads.allocated_bytes += profile->threads[i].sums.allocated_bytes;
    }
    assert_int_equal(totals->allocations, allocations);
    assert_int_equal(totals->allocations, threads.allocations);
    assert_int_equal(totals->frees, threads.frees);
    assert_int_equal(totals->allocated_bytes, threads.allocated_bytes);
    assert_true(totals->live_bytes == live);
    assert_true(totals->peak_low <= totals->peak_bytes);
    assert_true(totals->peak_bytes <= totals->peak_high);
    assert_true(totals->live_bytes <= totals->peak_bytes);
}

/* Reads the bytes and, if they make sense, checks what came of them. */
static bool try(const unsigned char *bytes, size_t n)
{
    struct tp_recording recording;
    struct tp_error error = { "" };
    // A copy of the exact size, so that a sanitizer sees a read past the end.
    unsigned char *copy = malloc(n ? n : 1);
    memcpy(copy, bytes, n);
    asked = 0;
    bool good = tp_recording_parse(&recording, copy, n, "x.tide", &error);
    for (size_t i = 0; good && i < recording.n_dumps; i++) {
        struct tp_profile profile;
        if (!tp_profile_build(&profile, &recording.dumps[i], "x.tide", &error))
            continue;
        check_profile(&profile);
        tp_profile_fini(&profile);
    }
    assert_true(asked <= BYTES_ANYWAY + n * BYTES_PER_BYTE);
    assert_true(good || error.text[0]);
    if (good) tp_recording_fini(&recording);
    free(copy);
    return good;
}

static void a_dump_cut_anywhere_is_an_ordinary_error(void **state)
{
    (void)state;
    struct test_file file;
    test_file_full(&file);
    assert_true(try(file.bytes, file.n_bytes));
    for (size_t n = 0; n < file.n_bytes; n++) assert_false(try(file.bytes, n));
    test_file_fini(&file);
}

static void a_live_file_cut_anywhere_does_no_harm(void **state)
{
    (void)state;
    struct test_file file;
    test_file_full(&file);
    test_file_header(&file)->state = TP_FILE_LIVE;
    for (size_t n = 0; n < file.n_bytes; n++) try(file.bytes, n);
    test_file_fini(&file);
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Turns one to four bits over, most often where the structure is. */
static void spoil(struct test_file *file, uint64_t *random)
{
    uint64_t n_flips = 1 + next_random(random) % 4;
    for (uint64_t i = 0; i < n_flips; i++) {
        uint64_t head = sizeof(struct tp_file_header) + 8 * sizeof(struct tp_region);
        uint64_t range = next_random(random) % 2 ? head : file->n_bytes;
        uint64_t at = next_random(random) % range;
        file->bytes[at] ^= (unsigned char)(1u << next_random(random) % 8);
    }
}

static void turned_bits_do_no_harm(void **state)
{
    (void)state;
    struct test_file whole;
    struct test_file spoilt = { 0 };
    uint64_t random = 0x9e3779b97f4a7c15;
    unsigned readable = 0;
    print_message("# seed %#llx\n", (unsigned long long)random);
    test_file_full(&whole);
    spoilt.n_bytes = whole.n_bytes;
    spoilt.bytes = malloc(whole.n_bytes);
    for (int i = 0; i < FLIPS; i++) {
        memcpy(spoilt.bytes, whole.bytes, whole.n_bytes);
        spoil(&spoilt, &random);
        readable += try(spoilt.bytes, spoilt.n_bytes);
    }
    // Both outcomes must have been met, or the test has tried nothing.
    assert_in_range(readable, FLIPS / 100, FLIPS - FLIPS / 100);
    test_file_fini(&spoilt);
    test_file_fini(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_dump_cut_anywhere_is_an_ordinary_error),
        cmocka_unit_test(a_live_file_cut_anywhere_does_no_harm),
        cmocka_unit_test(turned_bits_do_no_harm),
    };
    return cmocka_run_group_tests_name("damage", tests, NULL, NULL);
}
