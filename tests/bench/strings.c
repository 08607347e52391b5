// SPDX-License-Identifier: MIT
/*
 * strings.c - the strings of an interpreter.
 *
 * Imitates: a scripting language at work on text. Variables hold strings that grow by
 * small appends through realloc, are joined, cut, copied and dropped; a temporary of a
 * few bytes lives for one statement. Lengths run from 1 byte to some kilobytes.
 *
 * Why: realloc of small blocks, mostly within the same class or to the next, and the
 * shortest lifetimes of all patterns.
 */
#include "tests/bench/bench.h"

enum { STEPS = 4000000, VARIABLES = 30000, LENGTH_MAX = 3000 };

struct text {
    char *at;  // ends with a zero, NULL when empty
    size_t length;
};

static void append(struct text *text, const char *more, size_t length)
{
    text->at = bench_must(realloc(text->at, text->length + length + 1));
    memcpy(text->at + text->length, more, length);
    text->length += length;
    text->at[text->length] = '\0';
}

static void drop(struct text *text)
{
    free(text->at);
    *text = (struct text){ 0 };
}

/* Keeps the first half and gives the rest of the memory back. */
static void cut(struct text *text)
{
    if (!text->at) return;
    text->length /= 2;
    text->at = bench_must(realloc(text->at, text->length + 1));
    text->at[text->length] = '\0';
}

/* One statement: makes a temporary word and does one thing with it. */
static uint64_t execute(struct text *variable, struct bench_rng *rng)
{
    uint64_t bits = bench_next(rng);
    struct text *a = &variable[bits % VARIABLES];
    struct text *b = &variable[(bits >> 20) % VARIABLES];
    size_t length = 1 + (bits >> 40) % 30;
    char *word = bench_must(malloc(length + 1));
    memset(word, 'a' + (int)(bits % 26), length);
    word[length] = '\0';

    switch (bits >> 60) {
    case 0:
        drop(a);
        break;
    case 1:
        cut(a);
        break;
    case 2:
        if (b->at && a != b) append(a, b->at, b->length);
        break;
    default:
        append(a, word, strlen(word));
        break;
    }
    if (a->length > LENGTH_MAX) drop(a);
    uint64_t sum = a->length + (uint64_t)(unsigned char)word[length / 2];
    free(word);
    return sum;
}

int main(int argc, char **argv)
{
    struct text *variable = bench_must(calloc(VARIABLES, sizeof *variable));
    struct bench_rng rng = { 8 };
    size_t steps = bench_steps(argc, argv, STEPS);
    uint64_t checksum = 0;

    for (size_t step = 0; step < steps; step++) checksum += execute(variable, &rng);
    for (size_t i = 0; i < VARIABLES; i++) {
        for (size_t k = 0; k < variable[i].length; k++)
            checksum += (uint64_t)(unsigned char)variable[i].at[k] << k % 8;
        drop(&variable[i]);
    }
    free(variable);
    return bench_report("strings", checksum);
}
