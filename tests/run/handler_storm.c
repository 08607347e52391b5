/* SPDX-License-Identifier: MIT */
/*
 * handler_storm.c - a handler that allocates and frees, ten thousand times a second, on
 * a signal stack of 8 KiB, on top of eight threads that do nothing else.
 *
 * glibc's malloc promises nothing here and may lock itself out; ours does not, and
 * counts it all. In the second case the handler leaves by siglongjmp half of the time,
 * from the middle of whatever it stands on: what was under way may be lost or counted
 * half, so only the identities of every dump are expected. There the stack has room for
 * one more frame of the system's: siglongjmp unblocks the signal before it leaves the
 * stack, and with AVX-512 two such frames alone are 7 KiB.
 *
 * case: returns
 * arg: return
 * plain: no
 * expect: totals_match(delta, said)
 * expect: said.handled > 1000
 *
 * case: jumps
 * arg: jump
 * plain: no
 * expect: said.handled > 1000
 */
#include "scene.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

enum {
    THREADS = 8,
    SLOTS = 97,
    STACK = 8192,
    GUARD = 64 * 1024,
    SECONDS = 1,
    PATIENCE = 40
};

/* What one thread counted: in itself, and in handlers on top of it. */
struct counts {
    _Atomic number allocations, frees, requested, allocated, freed;
};

static struct counts counts[2 * THREADS];
static _Thread_local struct counts *mine, *handlers;
static _Thread_local sigjmp_buf way_out;
static _Thread_local volatile sig_atomic_t can_jump;
static _Thread_local unsigned turn;
static _Atomic number handled;
static _Atomic bool over;
static _Atomic unsigned done;
static bool jumps;
static pthread_barrier_t barrier;

static void add(_Atomic number *counter, number n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void *take_one(struct counts *book, size_t size)
{
    unsigned char *block = malloc(size);
    MUST(block);
    number usable = malloc_usable_size(block);
    add(&book->allocations, 1);
    add(&book->requested, size);
    add(&book->allocated, usable);
    block[0] = block[size - 1] = (unsigned char)size;
    return block;
}

static void give_one(struct counts *book, void *block)
{
    add(&book->frees, 1);
    add(&book->freed, malloc_usable_size(block));
    free(block);
}

static void on_alarm(int number_)
{
    (void)number_;
    if (!handlers) return;
    void *block[5];
    int saved = errno;
    unsigned now = ++turn;
    add(&handled, 1);
    for (unsigned i = 0; i < 5; i++)
        block[i] =
            take_one(handlers, now % 7 == i ? 150000 + now % 9 * 4096 : 40 * i + 8);
    for (unsigned i = 0; i < 5; i++) give_one(handlers, block[i]);
    errno = saved;
    if (jumps && can_jump && now % 2) {
        can_jump = 0;
        siglongjmp(way_out, 1);
    }
}

/* One that ends at memory that nobody may touch: too little is a fault, nothing worse. */
static void set_stack(void)
{
    unsigned long frame = getauxval(AT_MINSIGSTKSZ), bytes = STACK;
    if (jumps) bytes += ((frame ? frame : 4096) + 15) & ~15ul;
    char *memory = mmap(
        NULL, 2 * GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(memory != MAP_FAILED && !mprotect(memory, GUARD, PROT_NONE) && bytes <= GUARD);
    MUST(!sigaltstack(&(stack_t){ .ss_sp = memory + GUARD, .ss_size = bytes }, NULL));
}

static void *work(void *argument)
{
    unsigned i = (unsigned)(uintptr_t)argument;
    unsigned char *volatile slot[SLOTS] = { 0 };
    size_t volatile size[SLOTS] = { 0 };
    static _Thread_local uint64_t state;
    state = i + 1;
    set_stack();
    mine = &counts[2 * i];
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    handlers = &counts[2 * i + 1];
    sigset_t alarm;
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
    sigsetjmp(way_out, 1);
    while (!atomic_load(&over)) {
        unsigned k = (unsigned)(draw(&state) % SLOTS);
        size_t n = 1 + draw(&state) % (draw(&state) % 61 ? 3000 : 300000);
        unsigned char *block = slot[k];
        // A jump may come anywhere from here on: the slot must hold nothing then.
        slot[k] = NULL;
        MUST(!block ||
            (block[0] == (unsigned char)size[k] &&
                block[size[k] - 1] == (unsigned char)size[k]));
        can_jump = 1;
        if (block) give_one(mine, block);
        block = take_one(mine, n);
        can_jump = 0;
        size[k] = n;
        slot[k] = block;
    }
    pthread_sigmask(SIG_BLOCK, &alarm, NULL);
    for (unsigned k = 0; k < SLOTS; k++)
        if (slot[k]) give_one(mine, slot[k]);
    handlers = NULL;
    pthread_barrier_wait(&barrier);
    atomic_fetch_add(&done, 1);
    return NULL;
}

/* Whoever locks itself out is told from one who works: nobody waits for ever. */
static void *watch(void *argument)
{
    struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };
    for (unsigned i = 0; i < PATIENCE * 20; i++) {
        nanosleep(&pause, NULL);
        if (i >= SECONDS * 20) atomic_store(&over, true);
        if (atomic_load(&done) == THREADS) return argument;
    }
    put_text(STDERR_FILENO, "a thread is stuck: its handler waits for what it holds\n");
    _exit(3);
}

int main(int argc, char **argv)
{
    pthread_t thread[THREADS], watcher;
    sigset_t alarm;
    jumps = argc > 1 && !strcmp(argv[1], "jump");
    sigemptyset(&alarm);
    sigaddset(&alarm, SIGALRM);
    pthread_sigmask(SIG_BLOCK, &alarm, NULL);
    struct sigaction action = { .sa_handler = on_alarm,
        .sa_flags = SA_ONSTACK | SA_RESTART };
    MUST(!sigaction(SIGALRM, &action, NULL));
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (uintptr_t i = 0; i < THREADS; i++)
        MUST(!pthread_create(&thread[i], NULL, work, (void *)i));
    MUST(!pthread_create(&watcher, NULL, watch, NULL));
    pthread_barrier_wait(&barrier);
    dump_now();
    struct itimerval often = { { .tv_usec = 100 }, { .tv_usec = 100 } }, never = { 0 };
    setitimer(ITIMER_REAL, &often, NULL);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    setitimer(ITIMER_REAL, &never, NULL);
    dump_now();
    for (unsigned i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    pthread_join(watcher, NULL);
    struct book book = { 0 };
    for (unsigned i = 0; i < 2 * THREADS; i++) {
        book.allocations += counts[i].allocations;
        book.frees += counts[i].frees;
        book.requested += counts[i].requested;
        book.allocated += counts[i].allocated;
        book.freed += counts[i].freed;
    }
    say_book(&book);
    say("handled", handled);
    return 0;
}
