/* SPDX-License-Identifier: MIT */
/*
 * scene.h - what the scenes share: a book of their own, and words without stdio.
 *
 * Idea: a C runtime allocates too (stdio, the loader, threads). A scene therefore
 * dumps itself before and after (dump_now), and keeps its own book between the two;
 * run.py compares the difference with the book, number by number. Nothing here
 * allocates, so nothing here is in the account.
 */
#ifndef TP_TESTS_RUN_SCENE_H
#define TP_TESTS_RUN_SCENE_H

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long number;  // short in every printf

enum { BOOK_SIZES = 4096 };  // a table by usable size, open addressing

/* What a scene took and gave itself, by usable size. */
struct book {
    number allocations, frees, requested, allocated, freed;
    number peak;  // highest allocated - freed
    struct {
        number usable, taken, given, asked;
    } size[BOOK_SIZES];
};

static inline void put_text(int fd, const char *text)
{
    size_t done = 0, size = strlen(text);
    while (done < size) {
        ssize_t n = write(fd, text + done, size - done);
        if (n <= 0) _exit(99);
        done += (size_t)n;
    }
}

/* One line `key value` on stdout, for run.py. */
static inline void say(const char *key, number value)
{
    char line[128];
    snprintf(line, sizeof line, "%s %llu\n", key, value);
    put_text(STDOUT_FILENO, line);
}

/* One line `key index value` on stdout. */
static inline void say_of(const char *key, number index, number value)
{
    char line[128];
    snprintf(line, sizeof line, "%s %llu %llu\n", key, index, value);
    put_text(STDOUT_FILENO, line);
}

/* The scene's own check: ends it with status 1 and the text of what is not so. */
#define MUST(statement) must((statement), #statement, __LINE__)
static inline void must(bool holds, const char *text, int line)
{
    if (holds) return;
    char message[256];
    snprintf(message, sizeof message, "line %d: not so: %s\n", line, text);
    put_text(STDERR_FILENO, message);
    _exit(1);
}

/*
 * A function that is a frame of its own, with a name: never a part of another one. One
 * that ends with STAYS(what it returns) is not left by a jump either.
 */
#define SITE __attribute__((noinline))
#define STAYS(value) __asm__ volatile("" : "+r"(value))

/* A dump, now, by the signal; nothing when the scene runs without the library. */
static inline void dump_now(void)
{
    const char *plain = getenv("SCENE_PLAIN");
    if (!plain || !*plain) raise(SIGUSR1);
}

static inline unsigned book_row(struct book *book, number usable)
{
    unsigned row = (unsigned)(usable / 16 % BOOK_SIZES);
    for (unsigned tries = 0; book->size[row].usable; tries++) {
        if (book->size[row].usable == usable) return row;
        if (tries == BOOK_SIZES / 2) _exit(98);
        row = (row + 1) % BOOK_SIZES;
    }
    book->size[row].usable = usable;
    return row;
}

/* Writes a new block of `asked` bytes into the book and hands it on. */
static inline void *took(struct book *book, void *block, size_t asked)
{
    MUST(block);
    number usable = malloc_usable_size(block);
    unsigned row = book_row(book, usable);
    book->allocations++;
    book->requested += asked;
    book->allocated += usable;
    book->size[row].taken++;
    book->size[row].asked += asked;
    number live = book->allocated - book->freed;
    if (live > book->peak && live < (number)1 << 62) book->peak = live;
    return block;
}

/* Writes into the book that `block` is about to be freed, and hands it on. */
static inline void *gave(struct book *book, void *block)
{
    number usable = malloc_usable_size(block);
    book->frees++;
    book->freed += usable;
    book->size[book_row(book, usable)].given++;
    return block;
}

static inline void *take(struct book *book, size_t size)
{
    return took(book, malloc(size), size);
}

static inline void give(struct book *book, void *block)
{
    free(gave(book, block));
}

/* Adds the figures of `part` to `whole`; the peak is not a sum. */
static inline void book_add(struct book *whole, const struct book *part)
{
    whole->allocations += part->allocations;
    whole->frees += part->frees;
    whole->requested += part->requested;
    whole->allocated += part->allocated;
    whole->freed += part->freed;
    for (unsigned i = 0; i < BOOK_SIZES; i++) {
        if (!part->size[i].usable) continue;
        unsigned row = book_row(whole, part->size[i].usable);
        whole->size[row].taken += part->size[i].taken;
        whole->size[row].given += part->size[i].given;
        whole->size[row].asked += part->size[i].asked;
    }
}

/* The whole book, in the words that matches() of run.py reads. */
static inline void say_book(const struct book *book)
{
    say("allocations", book->allocations);
    say("frees", book->frees);
    say("requested_bytes", book->requested);
    say("allocated_bytes", book->allocated);
    say("freed_bytes", book->freed);
    say("peak_bytes", book->peak);
    for (unsigned i = 0; i < BOOK_SIZES; i++) {
        if (!book->size[i].usable) continue;
        say_of("taken", book->size[i].usable, book->size[i].taken);
        say_of("given", book->size[i].usable, book->size[i].given);
        say_of("asked", book->size[i].usable, book->size[i].asked);
    }
}

/* A fixed row of numbers, the same on every machine (xorshift64*). */
static inline uint64_t draw(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dU;
}

#endif
