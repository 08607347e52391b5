// SPDX-License-Identifier: MIT
/*
 * pipeline.c - stages joined by queues: made here, freed there.
 *
 * Imitates: a media or log pipeline. A producer allocates messages, a filter thread
 * answers each with a new message and frees the old one, a consumer reads and frees.
 * Messages travel in batches through bounded queues. Three threads, two queues.
 *
 * Why: every free is of another thread's block, and memory must find its way back
 * to the producer or the heap grows without bound.
 */
#include <pthread.h>

#include "tests/bench/bench.h"

enum { MESSAGES = 3500000, BATCH = 128, QUEUE = 64 };

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
    pthread_cond_signal(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
}

static struct batch *take(struct queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    while (queue->n_put == queue->n_taken)
        pthread_cond_wait(&queue->changed, &queue->lock);
    struct batch *batch = queue->slot[queue->n_taken++ % QUEUE];
    pthread_cond_signal(&queue->changed);
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

static void *produce(void *arg)
{
    size_t n_left = *(size_t *)arg;
    struct bench_rng rng = { 4 };
    while (n_left) {
        struct batch *batch = bench_must(malloc(sizeof *batch));
        batch->n_messages = n_left < BATCH ? n_left : BATCH;
        for (size_t i = 0; i < batch->n_messages; i++)
            batch->message[i] = new_message(bench_size(&rng, 32, 1024), n_left - i);
        n_left -= batch->n_messages;
        put(&raw, batch);
    }
    put(&raw, bench_must(calloc(1, sizeof(struct batch))));
    return NULL;
}

static void *filter(void *arg)
{
    (void)arg;
    size_t n_messages;
    do {
        struct batch *batch = take(&raw);
        n_messages = batch->n_messages;
        for (size_t i = 0; i < n_messages; i++) {
            struct message *old = batch->message[i];
            batch->message[i] = new_message(old->size / 2 + 32, old->tag + old->size);
            free(old);
        }
        put(&filtered, batch);
    } while (n_messages);
    return NULL;
}

static uint64_t consume(void)
{
    uint64_t sum = 0;
    size_t n_messages;
    do {
        struct batch *batch = take(&filtered);
        n_messages = batch->n_messages;
        for (size_t i = 0; i < n_messages; i++) {
            sum += batch->message[i]->tag * batch->message[i]->size;
            free(batch->message[i]);
        }
        free(batch);
    } while (n_messages);
    return sum;
}

int main(int argc, char **argv)
{
    size_t n_messages = bench_steps(argc, argv, MESSAGES);
    pthread_t producer, filterer;
    if (pthread_create(&producer, NULL, produce, &n_messages)) return 2;
    if (pthread_create(&filterer, NULL, filter, NULL)) return 2;
    uint64_t checksum = consume();
    pthread_join(producer, NULL);
    pthread_join(filterer, NULL);
    return bench_report("pipeline", checksum);
}
