// SPDX-License-Identifier: MIT
/*
 * tree.c - a large search tree and a map, built, searched and torn down.
 *
 * Imitates: compilers, indexes, caches: hundreds of thousands of small nodes that
 * live long and die together, in another order than they were born. Nodes of the
 * tree hold a key and a value block of their own; the map chains entries.
 *
 * Why: the heap only grows, then only shrinks. Carving fresh slabs, the density of
 * small blocks (the peak) and freeing whole slabs at the end are what is measured.
 */
#include "tests/bench/bench.h"

enum {
    STEPS = 2,
    NODES = 150000,
    BUCKETS = 1 << 16,  // what hash() gives
    LOOKUPS = 150000
};

struct node {
    struct node *child[2];
    uint64_t key;  // its order: a plain search tree over random keys
    char *value;   // 16-79 bytes, its own block
    size_t size;   // of the value
};

struct entry {
    struct entry *next;
    uint64_t key;
    uint32_t n_seen;
    char name[];
};

static struct node **find(struct node **at, uint64_t key)
{
    while (*at && (*at)->key != key) at = &(*at)->child[key > (*at)->key];
    return at;
}

static void plant(struct node **tree, struct bench_rng *rng)
{
    uint64_t key = bench_next(rng);
    struct node **at = find(tree, key);
    if (*at) return;
    struct node *node = bench_must(calloc(1, sizeof *node));
    node->key = key;
    node->size = 16 + bench_below(rng, 64);
    node->value = bench_must(malloc(node->size));
    bench_touch(node->value, node->size, 16, key);
    *at = node;
}

/* Frees the whole tree by turning left children up: no stack, no recursion. */
static uint64_t fell(struct node *tree)
{
    uint64_t sum = 0;
    while (tree) {
        struct node *left = tree->child[0];
        if (left) {
            tree->child[0] = left->child[1];
            left->child[1] = tree;
            tree = left;
            continue;
        }
        struct node *right = tree->child[1];
        sum += bench_read(tree->value, tree->size, 16);
        free(tree->value);
        free(tree);
        tree = right;
    }
    return sum;
}

/* Spreads keys over the buckets by multiplication (Fibonacci hashing). */
static size_t hash(uint64_t key)
{
    return (size_t)(key * 0x9e3779b97f4a7c15u >> 48);
}

static void note(struct entry **bucket, uint64_t key)
{
    struct entry **at = &bucket[hash(key)];
    for (struct entry *e = *at; e; e = e->next) {
        if (e->key != key) continue;
        e->n_seen++;
        return;
    }
    size_t length = 8 + key % 40;
    struct entry *entry = bench_must(malloc(sizeof *entry + length));
    *entry = (struct entry){ .next = *at, .key = key, .n_seen = 1 };
    bench_touch(entry->name, length, 16, key);
    *at = entry;
}

static uint64_t empty(struct entry **bucket)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        while (bucket[i]) {
            struct entry *entry = bucket[i];
            bucket[i] = entry->next;
            sum += entry->key * entry->n_seen;
            free(entry);
        }
    }
    return sum;
}

int main(int argc, char **argv)
{
    size_t n_nodes = bench_steps(argc, argv, NODES);
    struct bench_rng rng = { 7 };
    uint64_t checksum = 0;
    for (size_t step = 0; step < STEPS; step++) {
        struct node *tree = NULL;
        struct entry **bucket = bench_must(calloc(BUCKETS, sizeof(struct entry *)));
        for (size_t i = 0; i < n_nodes; i++) {
            plant(&tree, &rng);
            note(bucket, bench_below(&rng, n_nodes));
            note(bucket, i << 20 | 1);
        }
        struct bench_rng again = { 7 };
        for (size_t i = 0; i < LOOKUPS && i < n_nodes; i++)
            checksum += *find(&tree, bench_next(&again)) != NULL;
        checksum += fell(tree) + empty(bucket);
        free(bucket);
    }
    return bench_report("tree", checksum);
}
