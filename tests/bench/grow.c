// SPDX-License-Identifier: MIT
/*
 * grow.c - buffers that realloc grows to 64 MB.
 *
 * Imitates: readers of streams and builders of vectors. Four buffers grow side by
 * side, each in its own manner: doubling, half as much again, an eighth more, and a
 * fixed step. Between them lie small blocks, so nothing can simply grow at the top
 * of the heap. New bytes are written as they arrive, everything is read at the end.
 *
 * Why: growing by copying touches every page twice; moving pages or growing in place
 * does not. The growth itself starts at 64 bytes, so small classes are passed too.
 */
#include "tests/bench/bench.h"

enum { STEPS = 4, BUFFERS = 4, FULL = 64 << 20, FIXED_STEP = 192 * 1024 };

struct buffer {
    char *at;
    size_t size;
    void *neighbour;  // a small block allocated after the last growth
};

static size_t next_size(size_t manner, size_t size)
{
    size_t grown;
    switch (manner) {
    case 0:
        grown = size * 2;
        break;
    case 1:
        grown = size + size / 2;
        break;
    case 2:
        grown = size + size / 8;
        break;
    default:
        grown = size < FIXED_STEP ? size * 2 : size + FIXED_STEP;
        break;
    }
    grown = (grown + BENCH_LINE - 1) / BENCH_LINE * BENCH_LINE;  // as it is touched
    return grown < FULL ? grown : FULL;
}

static void grow(struct buffer *buffer, size_t manner)
{
    size_t old = buffer->size;
    buffer->size = next_size(manner, old);
    buffer->at = bench_must(realloc(buffer->at, buffer->size));
    bench_touch(buffer->at + old, buffer->size - old, BENCH_LINE, buffer->size);
    free(buffer->neighbour);
    buffer->neighbour = bench_must(malloc(100 + manner));
}

static uint64_t fill_once(void)
{
    struct buffer buffer[BUFFERS];
    uint64_t sum = 0;
    for (size_t i = 0; i < BUFFERS; i++) {
        buffer[i] = (struct buffer){ .at = bench_must(malloc(64)), .size = 64 };
        bench_touch(buffer[i].at, 64, BENCH_LINE, i);
    }
    for (size_t n_full = 0; n_full < BUFFERS;) {
        n_full = 0;
        for (size_t i = 0; i < BUFFERS; i++) {
            if (buffer[i].size < FULL)
                grow(&buffer[i], i);
            else
                n_full++;
        }
    }
    for (size_t i = 0; i < BUFFERS; i++) {
        sum += bench_read(buffer[i].at, buffer[i].size, BENCH_LINE);
        free(buffer[i].at);
        free(buffer[i].neighbour);
    }
    return sum;
}

int main(int argc, char **argv)
{
    size_t steps = bench_steps(argc, argv, STEPS);
    uint64_t checksum = 0;
    for (size_t step = 0; step < steps; step++) checksum += fill_once();
    return bench_report("grow", checksum);
}
