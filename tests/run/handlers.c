/* SPDX-License-Identifier: MIT */
/*
 * handlers.c - handlers that allocate: no signal is lost, late or changed by it.
 *
 * A thread that works with blocks of every size gets real-time signals by the
 * thousand; its handler takes and gives blocks too. Under glibc that hangs soon.
 *
 * case: storm
 * arg: storm
 * plain: no
 * expect: said.handled == said.sent and said.out_of_order == 0 and said.changed == 0
 * expect: first.totals.live_blocks >= 0
 * case: alternate
 * arg: alternate
 * plain: no
 * expect: said.handled == said.sent and said.out_of_order == 0 and said.changed == 0
 * expect: said.elsewhere == 0
 * case: jump
 * arg: jump
 * plain: no
 * expect: said.jumps > 100
 * expect: said.own_thread == 1
 * case: read_back
 * arg: read_back
 * expect: said.right == 1
 * case: once
 * arg: once
 * status: SIGUSR2
 * expect: said.handled == 1
 * case: faults
 * arg: faults
 * expect: said.handled == 3
 * case: nested
 * arg: nested
 * plain: no
 * expect: said.handled > 1000 and said.above > 1000
 * case: mask
 * arg: mask
 * options: interval=100ms
 * plain: no
 * expect: said.handled > 1000
 */
#include "scene.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>

enum { BLOCKS = 64, SENT = 20000 };

static _Atomic(number) handled, out_of_order, changed, elsewhere, jumps;
static _Atomic(int) ready, over;
static char alternate[64 * 1024];
static bool on_alternate;
static sigjmp_buf again;

static size_t some_size(uint64_t *state)
{
    uint64_t value = draw(state);
    return value % 64 == 0 ? 130000 + value % 300000 : 16 + value % 900;
}

/* Takes and gives a small block, a middling one, sometimes a large one. */
static void allocate(number n)
{
    size_t sizes[] = { 16 + n * 37 % 600, 3000, n % 50 ? 64 : 200000 };
    for (int i = 0; i < 3; i++) {
        char *block = malloc(sizes[i]);
        if (!block) _exit(90);
        memset(block, 0xee, sizes[i]);
        free(block);
    }
}

static void on_queued(int signal, siginfo_t *info, void *context)
{
    number n = handled++;
    (void)context;
    if ((number)info->si_value.sival_int != n) out_of_order++;
    if (info->si_code != SI_QUEUE || info->si_pid != getpid() || signal != SIGRTMIN)
        changed++;
    char *here = __builtin_frame_address(0);
    if (on_alternate && (here < alternate || here >= alternate + sizeof alternate))
        elsewhere++;
    allocate(n);
}

/* Works with marked blocks until `over`; a block that changes under it is the end. */
static void churn(void)
{
    unsigned char *block[BLOCKS] = { 0 };
    size_t size[BLOCKS];
    uint64_t state = 7;
    while (!over) {
        size_t i = draw(&state) % BLOCKS;
        for (size_t at = 0; block[i] && at < size[i]; at += 64)
            if (block[i][at] != i) _exit(91);
        if (draw(&state) % 4 == 0 && block[i]) {
            size[i] = some_size(&state);
            block[i] = realloc(block[i], size[i]);
        } else {
            free(block[i]);
            size[i] = some_size(&state);
            block[i] = malloc(size[i]);
        }
        if (!block[i]) _exit(92);
        memset(block[i], (int)i, size[i]);
    }
    for (size_t i = 0; i < BLOCKS; i++) free(block[i]);
}

static void *work(void *unused)
{
    (void)unused;
    stack_t stack = { .ss_sp = alternate, .ss_size = sizeof alternate };
    if (on_alternate) sigaltstack(&stack, NULL);
    ready = 1;
    churn();
    return NULL;
}

static void storm(void)
{
    struct sigaction action = { .sa_flags = SA_SIGINFO | SA_RESTART };
    if (on_alternate) action.sa_flags |= SA_ONSTACK;
    action.sa_sigaction = on_queued;
    MUST(sigaction(SIGRTMIN, &action, NULL) == 0);
    pthread_t thread;
    MUST(pthread_create(&thread, NULL, work, NULL) == 0);
    while (!ready) sched_yield();
    for (int n = 0; n < SENT;) {
        union sigval value = { .sival_int = n };
        if (pthread_sigqueue(thread, SIGRTMIN, value) == 0) n++;
        if (n % 8 == 0) sched_yield();
    }
    while (handled < SENT) sched_yield();
    over = 1;
    pthread_join(thread, NULL);
    dump_now();
    say("sent", SENT);
    say("handled", handled);
    say("out_of_order", out_of_order);
    say("changed", changed);
    say("elsewhere", elsewhere);
}

/* ---- handlers that do not return ---- */

static void on_alarm(int signal)
{
    (void)signal;
    allocate(++jumps);
    siglongjmp(again, 1);
}

static void jump(void)
{
    stack_t stack = { .ss_sp = alternate, .ss_size = sizeof alternate };
    MUST(sigaltstack(&stack, NULL) == 0);
    struct sigaction action = { .sa_flags = SA_ONSTACK };
    action.sa_handler = on_alarm;
    MUST(sigaction(SIGALRM, &action, NULL) == 0);
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM };
    struct itimerspec every = { { 0, 200000 }, { 0, 200000 } }, never = { 0 };
    timer_t timer;
    MUST(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    MUST(timer_settime(timer, 0, &every, NULL) == 0);
    volatile number rounds = 0;
    volatile uint64_t state = 3;
    sigsetjmp(again, 1);
    while (jumps < 2000 && rounds < 50000000) {
        uint64_t draws = state;
        size_t size = some_size(&draws);
        state = draws;
        char *block = malloc(size);  // lost, when the jump comes here
        memset(block, 1, size < 1000 ? size : 1000);
        free(block);
        rounds++;
    }
    sigsetjmp(again, 1);  // for the one that comes while it is disarmed
    timer_settime(timer, 0, &never, NULL);
    // The thread has its own heap again: what it frees it gets back at once.
    char *block = malloc(48);
    free(block);
    char *same = malloc(48);
    free(same);
    say("own_thread", malloc_usable_size(same) >= 48);
    say("jumps", jumps);
}

/* ---- what the program sees ---- */

static void plain(int signal)
{
    (void)signal;
    handled++;
    free(malloc(100));
}

static void with_info(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    if (info && context) handled++;
}

static void read_back(void)
{
    struct sigaction old;
    struct sigaction action = { .sa_flags = SA_NODEFER | SA_ONSTACK };
    action.sa_handler = plain;
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGHUP);
    MUST(sigaction(SIGTERM, NULL, &old) == 0 && old.sa_handler == SIG_DFL);
    MUST(sigaction(SIGTERM, &action, &old) == 0 && old.sa_handler == SIG_DFL);
    MUST(sigaction(SIGTERM, NULL, &old) == 0 && old.sa_handler == plain);
    MUST((old.sa_flags & ~0x04000000) == (SA_NODEFER | SA_ONSTACK));
    MUST(sigismember(&old.sa_mask, SIGHUP) == 1 && !sigismember(&old.sa_mask, SIGINT));
    action.sa_flags = SA_SIGINFO;
    action.sa_sigaction = with_info;
    MUST(sigaction(SIGTERM, &action, &old) == 0 && old.sa_handler == plain);
    raise(SIGTERM);
    MUST(handled == 1);
    struct sigaction *same = &action;
    MUST(sigaction(SIGTERM, &action, same) == 0);  // one memory for both
    MUST(action.sa_sigaction == with_info);
    MUST(signal(SIGTERM, plain) != SIG_ERR);
    MUST(signal(SIGTERM, SIG_IGN) == plain);
    raise(SIGTERM);
    MUST(signal(SIGTERM, SIG_DFL) == SIG_IGN && handled == 1);
    MUST(sigaction(SIGKILL, &action, NULL) == -1 && errno == EINVAL);
    MUST(sigaction(0, &action, NULL) == -1 && sigaction(65, &action, NULL) == -1);
    MUST(sigaction(-5, NULL, &old) == -1);
    MUST(signal(SIGKILL, plain) == SIG_ERR);
    say("right", 1);
}

static void once(void)
{
    struct sigaction action = { .sa_flags = (int)SA_RESETHAND };
    action.sa_handler = plain;
    MUST(sigaction(SIGUSR2, &action, NULL) == 0);
    raise(SIGUSR2);
    MUST(sigaction(SIGUSR2, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
    say("handled", handled);
    raise(SIGUSR2);
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
    (void)signal;
    (void)context;
    handled++;
    allocate(handled);
    MUST(mprotect((void *)((uintptr_t)info->si_addr & ~(uintptr_t)4095), 4096,
             PROT_READ | PROT_WRITE) == 0);
}

/* A fault inside the program's own memory, and two in system calls' places. */
static void faults(void)
{
    struct sigaction action = { .sa_flags = SA_SIGINFO };
    action.sa_sigaction = on_fault;
    MUST(sigaction(SIGSEGV, &action, NULL) == 0);
    char *page = mmap(NULL, 3 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < 3; i++) page[i * 4096] = 1;
    say("handled", handled);
}

/* ---- one handler on top of another, and what is blocked afterwards ---- */

static _Atomic(number) above;

/* Sends `signal` once, so long after the handler of the last one has ended. */
struct again {
    timer_t timer;
    struct itimerspec after;
};
static struct again next_above, next_below;

static void on_above(int signal)
{
    (void)signal;
    above++;
    timer_settime(next_above.timer, 0, &next_above.after, NULL);
}

static void on_below(int signal)
{
    (void)signal;
    unsigned char *block[40];
    handled++;
    for (int i = 0; i < 40; i++) memset(block[i] = malloc(48), i, 48);
    for (int i = 0; i < 40; i++) {
        for (int k = 0; k < 48; k++)
            if (block[i][k] != i) _exit(93);
        free(block[i]);
    }
    timer_settime(next_below.timer, 0, &next_below.after, NULL);
}

/*
 * Not a timer that comes whatever happens: a handler that takes longer than that would
 * be all that runs, where it allocates slowly (every stack walked, a busy machine).
 */
static void call_again(struct again *next, int signal, long ns, void (*handler)(int))
{
    struct sigaction action = { .sa_flags = SA_RESTART };
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = signal };
    next->after = (struct itimerspec){ .it_value = { 0, ns } };
    action.sa_handler = handler;
    MUST(sigaction(signal, &action, NULL) == 0);
    MUST(timer_create(CLOCK_MONOTONIC, &event, &next->timer) == 0);
    MUST(timer_settime(next->timer, 0, &next->after, NULL) == 0);
}

static void check_mask(void)
{
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    for (int n = 1; n < 65; n++) MUST(sigismember(&mask, n) != 1);
}

/* True after two seconds, and when there were interruptions enough, or never will be. */
static bool is_enough(time_t begin, bool nested)
{
    bool many = handled > 1000 && (!nested || above > 1000);
    return time(NULL) > begin + (many ? 2 : 30);
}

/* Works with blocks of one size, which others take as well. */
static void be_interrupted(bool nested)
{
    unsigned char *block[200] = { 0 };
    time_t begin = time(NULL);
    for (number n = 0; n % 2000 || !is_enough(begin, nested); n++) {
        unsigned i = (unsigned)(n * 7 % 200);
        for (int k = 0; block[i] && k < 48; k++)
            if (block[i][k] != (unsigned char)(i | 0x80)) _exit(94);
        free(block[i]);
        memset(block[i] = malloc(48), (int)(i | 0x80), 48);
        if (n % 64 == 0) free(malloc(5000));
        if (n % 2000 == 0) check_mask();
    }
}

int main(int n, char **words)
{
    MUST(n == 2);
    on_alternate = strcmp(words[1], "alternate") == 0;
    if (strcmp(words[1], "jump") == 0) jump();
    if (strcmp(words[1], "read_back") == 0) read_back();
    if (strcmp(words[1], "once") == 0) once();
    if (strcmp(words[1], "faults") == 0) faults();
    bool nested = strcmp(words[1], "nested") == 0;
    if (nested || strcmp(words[1], "mask") == 0) {
        call_again(&next_below, SIGUSR2, nested ? 300000 : 100000, on_below);
        if (nested) call_again(&next_above, SIGALRM, 70000, on_above);
        be_interrupted(nested);
        signal(SIGUSR2, SIG_IGN);
        signal(SIGALRM, SIG_IGN);
        say("handled", handled);
        say("above", above);
    }
    if (strcmp(words[1], "storm") == 0 || on_alternate) storm();
    return 0;
}
