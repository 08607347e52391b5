/* SPDX-License-Identifier: MIT */
/*
 * handler_return.c - a second signal comes when the handler of the first has returned, but
 * not yet to where that one fell: between its last instruction and the kernel's.
 *
 * The first falls on each instruction of a malloc in turn, so the second one's handler
 * runs on top of a malloc that is half done, though the program counter is in the C
 * library. A tracer brings both; the handlers keep what they allocate. No block may be
 * given out twice.
 *
 * plain: no
 * status: 0
 * expect: said.points > 15
 * expect: said.twice == 0
 */
#include "scene.h"

#if defined(__x86_64__)
#include <dlfcn.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

enum { BLOCK = 100, POINTS_MOST = 100, STEPS_MOST = 1000, KEPT_MOST = 64 };

static void *kept[KEPT_MOST];
static int n_kept;

static void on_signal(int number_)
{
    (void)number_;
    kept[n_kept++] = malloc(BLOCK);
}

/* One malloc that is interrupted; exit status 1: a block was given out twice. */
static void be_traced(void)
{
    struct sigaction action = { .sa_handler = on_signal };
    for (int i = 0; i < 8; i++) kept[n_kept++] = malloc(BLOCK);  // the bin is filled
    MUST(sigaction(SIGUSR1, &action, NULL) == 0);
    MUST(sigaction(SIGUSR2, &action, NULL) == 0);
    MUST(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0);
    __asm__ volatile("int3");
    void *block = malloc(BLOCK);
    kept[n_kept++] = block;
    for (int i = 0; i < 8; i++) kept[n_kept++] = malloc(BLOCK);
    for (int i = 0; i < n_kept; i++)
        for (int j = 0; j < i; j++)
            if (kept[i] == kept[j]) _exit(1);
    _exit(n_kept == 19 ? 0 : 2);
}

static uintptr_t pc_of(pid_t child)
{
    struct user_regs_struct registers;
    MUST(ptrace(PTRACE_GETREGS, child, NULL, &registers) == 0);
    return registers.rip;
}

/* One instruction, or a signal and the first one of its handler. False: it is gone. */
static bool step(pid_t child, int signal_, int *status)
{
    MUST(ptrace(PTRACE_SINGLESTEP, child, NULL, (void *)(uintptr_t)signal_) == 0);
    MUST(waitpid(child, status, 0) == child);
    return WIFSTOPPED(*status);
}

/* Where handlers return to: mov $15, %rax; syscall. */
static uintptr_t restorer_of(int signal_)
{
    struct {
        void *handler;
        unsigned long flags;
        uintptr_t restorer;
        uint64_t mask;
    } action;
    MUST(syscall(SYS_rt_sigaction, signal_, NULL, &action, sizeof(action.mask)) == 0);
    return action.restorer;
}

/* Lets it go on to `pc`, with a signal. */
static void run_to(pid_t child, uintptr_t pc, int signal_)
{
    int status;
    struct user_regs_struct registers;
    long code = ptrace(PTRACE_PEEKTEXT, child, (void *)pc, NULL);
    long trap = (code & ~0xffL) | 0xcc;
    MUST(ptrace(PTRACE_POKETEXT, child, (void *)pc, (void *)trap) == 0);
    MUST(ptrace(PTRACE_CONT, child, NULL, (void *)(uintptr_t)signal_) == 0);
    MUST(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
    MUST(ptrace(PTRACE_GETREGS, child, NULL, &registers) == 0);
    MUST(registers.rip == pc + 1);
    registers.rip = pc;
    MUST(ptrace(PTRACE_SETREGS, child, NULL, &registers) == 0);
    MUST(ptrace(PTRACE_POKETEXT, child, (void *)pc, (void *)code) == 0);
}

/* A child that stands at the first instruction of malloc. */
static pid_t begin(uintptr_t entry)
{
    int status, steps = 0;
    pid_t child = fork();
    MUST(child >= 0);
    if (child == 0) be_traced();
    MUST(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
    while (pc_of(child) != entry && steps++ < STEPS_MOST) MUST(step(child, 0, &status));
    MUST(steps < STEPS_MOST);
    return child;
}

/* Brings both signals, the first after `point` instructions of malloc. */
static int status_at(uintptr_t entry, uintptr_t restorer, int point)
{
    int status;
    pid_t child = begin(entry);
    for (int i = 0; i < point; i++) MUST(step(child, 0, &status));
    run_to(child, restorer, SIGUSR1);
    MUST(ptrace(PTRACE_CONT, child, NULL, (void *)(uintptr_t)SIGUSR2) == 0);
    MUST(waitpid(child, &status, 0) == child);
    MUST(WIFEXITED(status) && WEXITSTATUS(status) < 2);
    return WEXITSTATUS(status);
}

/* Instructions of a malloc that comes from a filled bin. */
static int count_points(uintptr_t entry)
{
    int status, n = 0;
    pid_t child = begin(entry);
    do {
        MUST(step(child, 0, &status));
        n++;
    } while (n < POINTS_MOST && pc_of(child) - entry < 4096);
    kill(child, SIGKILL);
    MUST(waitpid(child, &status, 0) == child);
    return n;
}

int main(void)
{
    struct sigaction action = { .sa_handler = on_signal };
    MUST(sigaction(SIGUSR1, &action, NULL) == 0);
    uintptr_t entry = (uintptr_t)dlsym(RTLD_DEFAULT, "malloc");
    uintptr_t restorer = restorer_of(SIGUSR1);
    int points = count_points(entry), twice = 0;
    for (int i = 0; i < points; i++) twice += status_at(entry, restorer, i);
    say("points", (number)points);
    say("twice", (number)twice);
    return 0;
}
#else
int main(void)
{
    return 77;
}
#endif
