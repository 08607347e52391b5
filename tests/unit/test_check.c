/* SPDX-License-Identifier: MIT */
/*
 * test_check.c - check=on: every misuse dies with a line that tells which.
 */
#include "pool/check.h"

#include "pool/heap.h"
#include "pool/pool.h"
#include "tests/unit/tp_test.h"

#include <stdlib.h>
#include <string.h>

static uint8_t *p;
static size_t at;

static int turn_on(void **state)
{
    (void)state;
    test_host.options.check = true;
    return tp_pool_start() ? 0 : 1;
}

static int take_a_block(void **state)
{
    (void)state;
    p = tp_pool_alloc(173);
    return p ? 0 : 1;
}

static int give_the_block(void **state)
{
    (void)state;
    tp_pool_free(p);
    return 0;
}

static void assert_dies(void (*body)(void *), const char *with)
{
    const char *words = test_last_words(body, NULL);
    assert_non_null(words);
    assert_memory_equal(words, "tidepool: ", 10);
    if (!strstr(words, with)) fail_msg("'%s' not in: %s", with, words);
    assert_ptr_equal(strchr(words, '\n'), words + strlen(words) - 1);
}

static void free_twice(void *argument)
{
    (void)argument;
    tp_pool_free(p);
    tp_pool_free(p);
}

static void free_twice_with_others_between(void *argument)
{
    (void)argument;
    void *other = tp_pool_alloc(173);
    tp_pool_free(p);
    tp_pool_free(other);
    tp_pool_free(p);
}

static void double_free_dies(void **state)
{
    (void)state;
    assert_true(tp_check_is_on());
    assert_dies(free_twice, "double free of the 192-byte block at 0x");
    assert_dies(free_twice_with_others_between, "double free of the 192-byte block");
}

static void write_past_the_end(void *argument)
{
    (void)argument;
    p[at] = 0;
    tp_pool_free(p);
}

static void write_past_the_end_dies_at_free(void **state)
{
    (void)state;
    at = 173;
    assert_dies(write_past_the_end, "write past the end: byte 173 of the block of 173");
    at = 191;
    assert_dies(write_past_the_end, "write past the end: byte 191 of the block of 173");
}

static void write_after_free(void *argument)
{
    (void)argument;
    tp_pool_free(p);
    p[at] = 1;
    for (int i = 0; i < 4096; i++) tp_pool_alloc(173);
}

static void write_after_free_dies_when_the_block_is_reused(void **state)
{
    (void)state;
    at = 8;
    assert_dies(write_after_free, "write after free: byte 8 of the 192-byte block");
    at = 191;
    assert_dies(write_after_free, "write after free: byte 191 of the 192-byte block");
}

/* The freed block stands in for the next one, which is sampled: nobody gets it. */
static void write_after_free_of_a_proxy(void *argument)
{
    (void)argument;
    tp_pool_free(p);
    p[at] = 1;
    test_host.to_sample = test_host.follow = 1;
    tp_heap_self->sampler.to_sample = tp_heap_self->armed = tp_heap_self->countdown = 1;
    for (int i = 0; i < 4096; i++) tp_pool_alloc(173);
}

static void write_after_free_dies_when_the_block_becomes_a_proxy(void **state)
{
    (void)state;
    at = 8;
    assert_dies(
        write_after_free_of_a_proxy, "write after free: byte 8 of the 192-byte");
}

static void write_a_link(void *argument)
{
    (void)argument;
    void *other = tp_pool_alloc(173);
    tp_pool_free(other);
    tp_pool_free(p);
    memset(p, 0x41, 8);
    for (int i = 0; i < 4096; i++) tp_pool_alloc(173);
}

static void write_over_a_link_dies(void **state)
{
    (void)state;
    assert_dies(write_a_link, "heap corrupted: ");
}

static void free_inside(void *argument)
{
    (void)argument;
    tp_pool_free(p + 16);
}

static void free_what_was_never_given(void *argument)
{
    (void)argument;
    for (size_t i = 0; i < 21; i++) tp_pool_free(p + 192 * i);
}

static void free_of_what_is_no_block_dies(void **state)
{
    (void)state;
    assert_dies(free_inside, "invalid free of 0x");
}

static void free_of_what_was_never_given_dies(void **state)
{
    (void)state;
    assert_dies(free_what_was_never_given, "0x");
}

static void free_with_wrong_size(void *argument)
{
    (void)argument;
    tp_pool_free_sized(p, 174);
}

static void sized_free_of_a_shorter_block_dies(void **state)
{
    (void)state;
    assert_dies(free_with_wrong_size, "with size 174: the block has 173 bytes");
}

static void realloc_inside(void *argument)
{
    (void)argument;
    tp_pool_realloc(p + 16, 300, TP_CALL_REALLOC);
}

static void realloc_after_free(void *argument)
{
    (void)argument;
    tp_pool_free(p);
    tp_pool_realloc(p, 300, TP_CALL_REALLOC);
}

static void realloc_of_what_is_no_block_dies(void **state)
{
    (void)state;
    assert_dies(realloc_inside, "invalid realloc of 0x");
    assert_dies(realloc_after_free, "double free");
}

static void usable_bytes_are_those_asked_for(void **state)
{
    (void)state;
    assert_int_equal(tp_pool_usable(p), 173);
    assert_int_equal(tp_check_asked(p), 173);
    assert_int_equal(tp_check_asked(p + 16), 0);
}

static void rest_of_a_block_is_filled(void **state)
{
    (void)state;
    assert_true(test_is_filled(p + 173, 0xa5, 192 - 173));
}

static void freed_block_is_filled(void **state)
{
    (void)state;
    uint8_t *q = tp_pool_alloc(173);
    memset(q, 1, 173);
    tp_pool_free(q);
    assert_true(test_is_filled(q + 8, 0xdf, 192 - 8));
    assert_int_equal(tp_check_asked(q), 0);
}

static void correct_program_goes_through(void **state)
{
    (void)state;
    static uint8_t *blocks[499];
    uint64_t seed = 3;
    for (int i = 0; i < 30000; i++) {
        size_t k = test_below(&seed, 499), size = test_size(&seed, 200000);
        uint8_t **block = &blocks[k];
        if (!*block) {
            *block = test_below(&seed, 2) ? tp_pool_alloc(size) : tp_pool_zalloc(size);
            memset(*block, (int)k, size);
        } else if (test_below(&seed, 2)) {
            *block = tp_pool_realloc(*block, size, TP_CALL_REALLOC);
            if (size > 0) assert_int_equal((*block)[0], k & 255);
            memset(*block, (int)k, size);
        } else {
            tp_pool_free(*block);
            *block = NULL;
        }
    }
    for (int k = 0; k < 499; k++) tp_pool_free(blocks[k]);
}

static void zeroed_block_is_zero_and_keeps_its_filler(void **state)
{
    (void)state;
    for (int i = 0; i < 1009; i++) {
        uint8_t *q = tp_pool_zalloc(61);
        assert_true(test_is_filled(q, 0, 61));
        assert_true(test_is_filled(q + 61, 0xa5, 3));
        memset(q, 0xff, 61);
        tp_pool_free(q);
    }
}

static void make_a_hole(void *argument)
{
    (void)argument;
    test_host.place = 12;
    tp_pool_free(p);
    test_host.place = 13;
    tp_pool_free(p);
}

static void free_a_place_inside(void *argument)
{
    (void)argument;
    test_host.place = 13;
    tp_pool_free(p + 100);
}

static void realloc_a_place_inside(void *argument)
{
    (void)argument;
    test_host.place = 13;
    tp_pool_realloc(p + 100, 10, TP_CALL_REALLOC);
}

static void write_then_free_elsewhere(void *argument)
{
    test_host.place = 13;
    write_past_the_end(argument);
}

static void write_then_take_elsewhere(void *argument)
{
    test_host.place = 12;
    tp_pool_free(p);
    p[100] = 1;
    test_host.place = 13;
    for (int i = 0; i < 4096; i++) tp_pool_alloc(173);
    (void)argument;
}

static void misuse_tells_where_the_block_has_been(void **state)
{
    (void)state;
    static const struct {
        void (*body)(void *);
        const char *first;
        const char *after;
    } rows[] = {
        { make_a_hole, "tidepool: double free of the 192-byte block",
            "tidepool: allocated here: 11\ntidepool: freed here: 12\n"
            "tidepool: freed again here: 13\n" },
        { free_a_place_inside, "tidepool: invalid free of 0x",
            "tidepool: allocated here: 11\ntidepool: invalid free here: 13\n" },
        { realloc_a_place_inside, "tidepool: invalid realloc of 0x",
            "tidepool: allocated here: 11\ntidepool: invalid realloc here: 13\n" },
        { write_then_free_elsewhere, "tidepool: write past the end: byte 173",
            "tidepool: allocated here: 11\ntidepool: freed here: 13\n" },
        { write_then_take_elsewhere, "tidepool: write after free: byte 100",
            "tidepool: allocated here: 11\ntidepool: freed here: 12\n" },
    };
    test_host.say_places = true;
    test_host.place = 11;
    at = 173;
    tp_pool_free(p);
    p = tp_pool_alloc(173);
    for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        const char *words = test_last_words(rows[i].body, NULL);
        assert_non_null(words);
        if (strncmp(words, rows[i].first, strlen(rows[i].first)) != 0)
            fail_msg("not first: %s in: %s", rows[i].first, words);
        assert_string_equal(strchr(words, '\n') + 1, rows[i].after);
    }
    test_host.say_places = false;
    test_host.place = 0;
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, take_a_block, give_the_block)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(double_free_dies),
        CASE(write_past_the_end_dies_at_free),
        CASE(write_after_free_dies_when_the_block_is_reused),
        CASE(write_after_free_dies_when_the_block_becomes_a_proxy),
        CASE(write_over_a_link_dies),
        CASE(free_of_what_is_no_block_dies),
        CASE(free_of_what_was_never_given_dies),
        CASE(sized_free_of_a_shorter_block_dies),
        CASE(realloc_of_what_is_no_block_dies),
        CASE(usable_bytes_are_those_asked_for),
        CASE(rest_of_a_block_is_filled),
        CASE(freed_block_is_filled),
        CASE(correct_program_goes_through),
        CASE(zeroed_block_is_zero_and_keeps_its_filler),
        CASE(misuse_tells_where_the_block_has_been),
    };
    return cmocka_run_group_tests_name("check", tests, turn_on, NULL);
}
