/* SPDX-License-Identifier: MIT */
/*
 * storm_churn.c SECONDS [CHILDREN [BOOK]] - eight threads churn and hand blocks on.
 *
 * Every block carries a word derived from its size and address, checked before it is
 * freed; the sum of all checks must be the number of blocks. Prints "right" and ends
 * with 0 when no block was ever spoiled. With CHILDREN so many forked children churn at
 * any time; each says "child PID" when it is well under way, and "leaves PID" before it
 * ends. The file BOOK, which survives a kill as the account does, gets what each thread
 * took and gave: begun before a call, done after it. Used by storm.py and stress/kills.py.
 */
#include "scene.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

enum { THREADS = 8, SLOTS = 211, MAILBOXES = 64, ROUNDS_OF_CHILD = 40 };

struct parcel {
    size_t size;
    uintptr_t seal;
};

struct row {  // of the book; one writer, read when that is dead
    _Atomic uint64_t taking, taken, giving, given;
    uint64_t unused[4];  // a cache line each
};

static struct row spare[THREADS + 1];  // without a book; the last for main and children
static struct row *book = spare;
static __thread struct row *mine = &spare[THREADS];

static _Atomic(struct parcel *) mailbox[MAILBOXES];
static _Atomic bool over;
static _Atomic unsigned at_work;  // threads that have begun
static _Atomic unsigned long long made, checked;

static uintptr_t seal_of(const struct parcel *parcel)
{
    return (uintptr_t)parcel ^ parcel->size * 0x9e3779b97f4a7c15U;
}

/* In the order of the program, which is all that a kill can cut. */
static void count(_Atomic uint64_t *counter)
{
    uint64_t n = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(counter, n + 1, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
}

static void finish(struct parcel *parcel)
{
    if (!parcel) return;
    MUST(parcel->seal == seal_of(parcel));
    MUST(((unsigned char *)parcel)[parcel->size - 1] == (unsigned char)parcel->size);
    count(&mine->giving);
    free(parcel);
    count(&mine->given);
    atomic_fetch_add_explicit(&checked, 1, memory_order_relaxed);
}

static struct parcel *start(size_t size)
{
    count(&mine->taking);
    struct parcel *parcel = size % 7 ? malloc(size) : memalign(64, size);
    count(&mine->taken);
    MUST(parcel);
    parcel->size = size;
    parcel->seal = seal_of(parcel);
    ((unsigned char *)parcel)[size - 1] = (unsigned char)size;
    atomic_fetch_add_explicit(&made, 1, memory_order_relaxed);
    return parcel;
}

static void *work(void *argument)
{
    uint64_t state = (uint64_t)(uintptr_t)argument * 7919 + 1;
    struct parcel *slot[SLOTS] = { 0 };
    mine = &book[(uintptr_t)argument - 1];
    slot[0] = start(sizeof **slot + 1);
    atomic_fetch_add(&at_work, 1);
    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        for (unsigned n = 0; n < 1000; n++) {
            uint64_t dice = draw(&state);
            unsigned i = (unsigned)(dice % SLOTS);
            size_t scale = dice >> 20 & 255 ? 2000 : 300000;
            finish(slot[i]);
            slot[i] = start(sizeof **slot + 1 + (size_t)(dice >> 32) % scale);
            if (dice >> 12 & 3) continue;
            slot[i] = atomic_exchange(&mailbox[dice >> 16 & (MAILBOXES - 1)], slot[i]);
        }
    }
    for (unsigned i = 0; i < SLOTS; i++) finish(slot[i]);
    return NULL;
}

/* One line of a child, in one write, so that those of several do not mix. */
static void say_word(const char *word)
{
    char line[64];
    int n = snprintf(line, sizeof line, "%s %d\n", word, (int)getpid());
    MUST(write(STDOUT_FILENO, line, (size_t)n) == n);
}

/* What a forked child does: churn for a while, beyond what a short child would. */
static void be_child(uint64_t state)
{
    struct parcel *slot[SLOTS] = { 0 };
    unsigned rounds =
        ROUNDS_OF_CHILD + (unsigned)(draw(&state) % (4 * ROUNDS_OF_CHILD));
    for (unsigned round = 0; round < rounds; round++) {
        if (round == ROUNDS_OF_CHILD) say_word("child");
        for (unsigned n = 0; n < 1000; n++) {
            uint64_t dice = draw(&state);
            unsigned i = (unsigned)(dice % SLOTS);
            finish(slot[i]);
            slot[i] = start(sizeof **slot + 1 + (size_t)(dice >> 32) % 2000);
        }
    }
    say_word("leaves");
    _exit(0);
}

/* Keeps the number of children up; forks from a thread that does not churn itself. */
static void tend_children(unsigned wanted)
{
    static unsigned here;
    static uint64_t state = 1;
    int status;
    while (here > 0 && waitpid(-1, &status, WNOHANG) > 0) {
        MUST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        here--;
    }
    for (; here < wanted; here++) {
        uint64_t seed = draw(&state);
        pid_t pid = fork();
        MUST(pid >= 0);
        if (pid == 0) be_child(seed);
    }
}

static void open_book(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    MUST(fd >= 0 && ftruncate(fd, sizeof spare) == 0);
    book = mmap(NULL, sizeof spare, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    MUST(book != MAP_FAILED);
    close(fd);
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS];
    unsigned children = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    struct timespec start_time, now;
    if (argc > 3) open_book(argv[3]);
    clock_gettime(CLOCK_MONOTONIC, &start_time);
    for (uintptr_t i = 0; i < THREADS; i++)
        MUST(!pthread_create(&threads[i], NULL, work, (void *)(i + 1)));
    while (atomic_load(&at_work) < THREADS) usleep(1000);
    put_text(STDOUT_FILENO, "started\n");
    do {
        struct timespec pause = { .tv_nsec = 10000000 };
        tend_children(children);
        nanosleep(&pause, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((double)(now.tv_sec - start_time.tv_sec) +
            (double)(now.tv_nsec - start_time.tv_nsec) * 1e-9 <
        seconds);
    atomic_store(&over, true);
    while (children && wait(NULL) > 0) {
    }
    for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < MAILBOXES; i++) finish(atomic_load(&mailbox[i]));
    MUST(made == checked);
    put_text(STDOUT_FILENO, "right\n");
    return 0;
}
