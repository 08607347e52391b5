/* SPDX-License-Identifier: MIT */
/*
 * faulty.c - a bit of everything, all of it checked, while system calls fail.
 *
 * Small and large blocks, realloc in place and by moving, enough threads for a second
 * bay of counters, a dump, a child that lives long enough to have a file. faults.py
 * runs it with the n-th call of the library failing and compares what it prints. With
 * `scarce` there may be no memory: NULL is then left out, and nothing else.
 *
 * status: 5
 * expect: said.sum == 353 + 41 * 353 + 2 * 353 and said.child == 353
 * expect: len(children) == 1
 */
#include "scene.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>

enum { BLOCKS = 353, THREADS = 41 };

static bool scarce;
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

struct block {
    unsigned char *start;
    size_t size;
};

static void fill(struct block *block, unsigned char with)
{
    if (block->start) memset(block->start, with, block->size);
}

static void check(const struct block *block, size_t size, unsigned char with)
{
    for (size_t i = 0; block->start && i < size; i++) MUST(block->start[i] == with);
}

static void want(struct block *block, size_t size)
{
    block->start = malloc(size);
    block->size = size;
    MUST(block->start || scarce);
}

static void resize(struct block *block, size_t size)
{
    unsigned char *start = block->start ? realloc(block->start, size) : NULL;
    MUST(start || scarce);
    if (!start) return;
    block->start = start;
    check(block, size < block->size ? size : block->size, 0x5a);
    block->size = size;
}

static number work(unsigned seed)
{
    static const size_t large[] = { 140000, 300007, 1200011, 70001, 5000011 };
    struct block block[BLOCKS];
    // In vain most of them, when nothing can be had: then a few must do.
    unsigned n = scarce ? 29 : BLOCKS, sum = BLOCKS - n;
    for (unsigned i = 0; i < n; i++) {
        bool big = seed == 0 && i < 35 && i % 7 == 0;
        want(&block[i], big ? large[i / 7 % 5] : (i * 37 + seed * 11) % 3000 + 1);
        fill(&block[i], 0x5a);
        if (i % 5 == 0) resize(&block[i], block[i].size + block[i].size / 2 + 1);
        fill(&block[i], 0x5a);
    }
    for (unsigned i = 0; i < n; i++) {
        check(&block[i], block[i].size, 0x5a);
        sum++;
        free(block[i].start);
    }
    return sum;
}

/* All threads have a heap before the first one ends. */
static void *run(void *sum)
{
    free(malloc(1));
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    *(number *)sum = work(7);
    return NULL;
}

static number run_threads(void)
{
    static pthread_t thread[THREADS];
    static number sums[THREADS];
    number sum = 0;
    unsigned n = 0;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 * 1024);
    pthread_mutex_lock(&gate);
    // A machine that is busy with other tests may be out of threads for a moment.
    for (unsigned tries = 0; n < THREADS && tries < (scarce ? 1 : 500); tries++) {
        while (n < THREADS && !pthread_create(&thread[n], &small, run, &sums[n])) n++;
        if (n < THREADS && !scarce) usleep(10000);
    }
    pthread_mutex_unlock(&gate);
    MUST(n == THREADS || scarce);
    for (unsigned i = 0; i < n; i++) pthread_join(thread[i], NULL);
    for (unsigned i = 0; i < n; i++) sum += sums[i];
    return sum + (THREADS - n) * (number)BLOCKS;
}

static void run_child(void)
{
    pid_t pid = fork();
    MUST(pid >= 0);
    if (!pid) {
        number sum = 0;
        for (unsigned i = 0; i < 4; i++) sum = work(i);
        say("child", sum);
        exit(6);
    }
    int status;
    MUST(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 6);
}

static void on_signal(int number_)
{
    (void)number_;
}

/* With a handler of its own, or the signal is fatal where ours is not installed. */
static void dump(void)
{
    struct sigaction action = { .sa_handler = on_signal };
    if (!sigaction(SIGUSR1, &action, NULL)) raise(SIGUSR1);
}

int main(int argc, char **argv)
{
    scarce = argc > 1 && strcmp(argv[1], "scarce") == 0;
    number sum = work(0);
    malloc_trim(0);
    dump();
    sum += run_threads();
    errno = 1234;
    free(malloc(77777));
    MUST(errno == 1234 || scarce);
    run_child();
    sum += work(1) + work(2);
    int fd = open("/dev/null", O_RDONLY);
    MUST(fd == 3);  // no descriptor of ours is left
    say("sum", sum);
    return 5;
}
