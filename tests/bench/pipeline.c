// SPDX-License-Identifier: MIT
/*
 * pipeline.c - stages joined by queues: made here, freed there.
 *
 * Imitates: a media or log pipeline. A producer allocates messages, a filter answers
 * each with a new message and frees the old one, a consumer reads and frees. Messages
 * travel in batches through bounded queues. Each stage has a thread of its own; from
 * four threads on there are several filters, with two the consumer filters, and a single
 * thread goes from stage to stage.
 *
 * Why: every free is of another thread's block, and memory must find its way back
 * to the producer or the heap grows without bound.
 */
#include <pthread.h>

#include "tests/bench/bench.h"

enum { THREADS = 3, MESSAGES = 3000000, BATCH = 128, QUEUE = 64 };

struct message {
    size_t size;  // of the whole block
    uint64_t tag;
};

struct batch {
    size_t n_messages;
    struct message *message[BATCH];
};

/* A bounded queue of batches; an empty batch means the end. */
struct queue {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    size_t n_put, n_taken;  // under lock; n_put - n_taken <= QUEUE
    struct batch *slot[QUEUE];
};

static struct queue raw = { .lock = PTHREAD_MUTEX_INITIALIZER,
    .changed = PTHREAD_COND_INITIALIZER };
static struct queue filtered = { .lock = PTHREAD_MUTEX_INITIALIZER,
    .changed = PTHREAD_COND_INITIALIZER };

static void put(struct queue *queue, struct batch *batch)
{
    pthread_mutex_lock(&queue->lock);
    while (queue->n_put - queue->n_taken == QUEUE)
        pthread_cond_wait(&queue->changed, &queue->lock);
    queue->slot[queue->n_put++ % QUEUE] = batch;
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
}

static struct batch *take(struct queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    while (queue->n_put == queue->n_taken)
        pthread_cond_wait(&queue->changed, &queue->lock);
    struct batch *batch = queue->slot[queue->n_taken++ % QUEUE];
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
    return batch;
}

static struct message *new_message(size_t size, uint64_t tag)
{
    struct message *message = bench_must(malloc(size));
    bench_touch(message, size, BENCH_LINE, tag);
    message->size = size;
    message->tag = tag;
    return message;
}

static struct batch *new_batch(struct bench_rng *rng, size_t n_left)
{
    struct batch *batch = bench_must(malloc(sizeof *batch));
    batch->n_messages = n_left < BATCH ? n_left : BATCH;
    for (size_t i = 0; i < batch->n_messages; i++)
        batch->message[i] = new_message(bench_size(rng, 32, 1024), n_left - i);
    return batch;
}

static void filter(struct batch *batch)
{
    for (size_t i = 0; i < batch->n_messages; i++) {
        struct message *old = batch->message[i];
        batch->message[i] = new_message(old->size / 2 + 32, old->tag + old->size);
        free(old);
    }
}

/* Frees the batch and all in it; returns its part of the sum. */
static uint64_t consume(struct batch *batch)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < batch->n_messages; i++) {
        sum += batch->message[i]->tag * batch->message[i]->size;
        free(batch->message[i]);
    }
    free(batch);
    return sum;
}

struct order {
    size_t n_messages;
    size_t n_ends;  // one for each reader of the queue
};

static void *produce_all(void *arg)
{
    const struct order *order = arg;
    size_t n_left = order->n_messages;
    struct bench_rng rng = { 4 };
    while (n_left) {
        struct batch *batch = new_batch(&rng, n_left);
        n_left -= batch->n_messages;
        put(&raw, batch);
    }
    for (size_t i = 0; i < order->n_ends; i++)
        put(&raw, bench_must(calloc(1, sizeof(struct batch))));
    return NULL;
}

static void *filter_all(void *arg)
{
    (void)arg;
    size_t n_messages;
    do {
        struct batch *batch = take(&raw);
        n_messages = batch->n_messages;
        filter(batch);
        put(&filtered, batch);
    } while (n_messages);
    return NULL;
}

/* Consumes until `n_ends` ends came; filters first when `from` is the raw queue. */
static uint64_t consume_all(struct queue *from, size_t n_ends)
{
    uint64_t sum = 0;
    while (n_ends) {
        struct batch *batch = take(from);
        if (!batch->n_messages) n_ends--;
        if (from == &raw) filter(batch);
        sum += consume(batch);
    }
    return sum;
}

static uint64_t alone(size_t n_left)
{
    uint64_t sum = 0;
    struct bench_rng rng = { 4 };
    while (n_left) {
        struct batch *batch = new_batch(&rng, n_left);
        n_left -= batch->n_messages;
        filter(batch);
        sum += consume(batch);
    }
    return sum;
}

int main(int argc, char **argv)
{
    size_t n_threads = bench_threads(argc, argv, THREADS);
    size_t n_filters = n_threads > 2 ? n_threads - 2 : 0;
    struct order order = { bench_steps(argc, argv, MESSAGES), n_filters + !n_filters };
    pthread_t producer, filterer[BENCH_THREADS];
    if (n_threads == 1) return bench_report("pipeline", alone(order.n_messages));

    if (pthread_create(&producer, NULL, produce_all, &order)) return 2;
    for (size_t i = 0; i < n_filters; i++)
        if (pthread_create(&filterer[i], NULL, filter_all, NULL)) return 2;
    uint64_t checksum = consume_all(n_filters ? &filtered : &raw, order.n_ends);
    pthread_join(producer, NULL);
    for (size_t i = 0; i < n_filters; i++) pthread_join(filterer[i], NULL);
    return bench_report("pipeline", checksum);
}
