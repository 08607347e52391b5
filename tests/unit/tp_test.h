/* SPDX-License-Identifier: MIT */
/*
 * tp_test.h - what the unit tests share: cmocka, a seeded generator, captured words,
 * and functions that are expected to die.
 *
 * cmocka leaves a failed test by longjmp(), so only the main thread asserts; other
 * threads and forked children report by what they leave behind.
 */
#ifndef TP_TESTS_UNIT_TP_TEST_H
#define TP_TESTS_UNIT_TP_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "pool/host.h"

enum { TEST_TEXT = 8192, TEST_ENDED = 64 };

/* What host.c answers, and what it was told. Set before the first use of the pool. */
extern struct test_host {
    struct tp_pool_options options;
    int64_t to_sample;            // answer of tp_host_arm() and tp_host_sampled()
    _Atomic(uint32_t) n_samples;  // questions, those of new threads included
    _Atomic(uint32_t) n_ticks;    //
    _Atomic(uint32_t) n_signals_due;
    _Atomic(uint32_t) n_foreign;    // frees passed on
    _Atomic(uint32_t) n_handed_on;  // calls handed on, inert
    _Atomic(uint32_t) n_forked;     // children found by the pool itself
    _Atomic(uint32_t) n_ended;      // threads
    _Atomic(uint32_t) n_released;   // slots that lost their pages
    _Atomic(uint32_t) n_restored;   // and got them again
    struct tp_sums did[TEST_ENDED];
    uint32_t slot[TEST_ENDED];

    // Marks: handed out for every `follow`-th block told of (0: for none), and expected
    // back once, with the same block.
    uint32_t follow;
    bool say_places;            // by tp_host_say_place(): "HEADING: PLACE"
    uint32_t place;             // answer of tp_host_place()
    _Atomic(uint32_t) n_told;   // blocks sampled or taken
    _Atomic(uint32_t) n_lost;   // of these: could not be followed
    _Atomic(uint32_t) n_marks;  // handed out
    _Atomic(uint32_t) n_back;   // came back
    _Atomic(uint32_t)
        n_wrong;  // came back twice, never handed out, or for another block
    _Atomic(uint32_t) n_resized;
    _Atomic(int64_t) live_bytes;      // of blocks that are out, usable
    _Atomic(int64_t) live_requested;  // and asked for
    struct tp_told last;              // told last, whatever of: for one thread
    int64_t last_peak;                // tp_pool_peak_now() then
} test_host;

/* The mark of the block at `p`; 0: it is not followed. */
uint32_t test_mark_of(const void *p);

/* The next number of a seeded sequence (splitmix64). */
static inline uint64_t test_random(uint64_t *seed)
{
    uint64_t x = *seed += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* The same, below `n`. */
static inline size_t test_below(uint64_t *seed, size_t n)
{
    return (size_t)(test_random(seed) % n);
}

/* A size with every power of two up to `most` equally likely. */
static inline size_t test_size(uint64_t *seed, size_t most)
{
    size_t scale = (size_t)1 << test_below(seed, tp_log2(most) + 1);
    return 1 + test_below(seed, scale < most ? scale : most);
}

/* True when all bytes are `value`. */
bool test_is_filled(const void *p, int value, size_t bytes);

/* Runs `body` and returns what it wrote to stderr, in static memory. */
const char *test_words(void (*body)(const void *), const void *argument);

/*
 * Runs `body` in a forked child; returns what it wrote to stderr if it ended by
 * abort(), else NULL.
 */
const char *test_last_words(void (*body)(void *), void *argument);

/* Runs `body` in a forked child; its result, or -1 when it was killed. */
int test_in_child(int (*body)(void *), void *argument);

#endif
