/* SPDX-License-Identifier: MIT */
/*
 * fastpath.c LIBRARY [pairs] - counts the instructions of malloc and free, one by one.
 *
 * Idea: the parent single-steps a copy of this program that runs under the library,
 * and counts the steps whose instruction lies inside the library. The child marks
 * what is to be counted with int3: one before malloc, one between malloc and
 * free's turn, one after. So neither the PLT nor the harness is in the count.
 *
 * Small blocks are taken in a row and then given back; with `pairs` a larger one is
 * given back before the next is taken.
 *
 * Output, one line a call: `malloc SIZE COUNT` or `free SIZE COUNT`; fastpath.py
 * judges. Status 77 where single-stepping is impossible.
 */
#include "scene.h"

#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>

enum { SKIPPED = 77, CALLS = 300 };

#if defined __x86_64__

static const size_t sizes[] = { 16, 24, 48, 64, 100, 128, 200, 256, 400, 512, 777,
    1000 };

static const size_t pairs[] = { 40 * 1024, 200 * 1024, 1024 * 1024 };

static inline void mark(void)
{
    __asm__ volatile("int3" ::: "memory");
}

/* What is counted: batches of one, then of a hundred, after a warm-up of the same. */
static void child(void)
{
    static void *block[CALLS];
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        for (int round = 0; round < 20; round++) {
            for (unsigned n = 0; n < CALLS; n++) block[n] = malloc(sizes[i]);
            for (unsigned n = 0; n < CALLS; n++) free(block[n]);
        }
        for (unsigned n = 0; n < CALLS; n++) {
            mark();
            block[n] = malloc(sizes[i]);
            mark();
        }
        for (unsigned n = 0; n < CALLS; n++) {
            mark();
            free(block[n]);
            mark();
        }
    }
}

static void child_of_pairs(void)
{
    for (unsigned i = 0; i < sizeof pairs / sizeof *pairs; i++)
        for (unsigned n = 0; n < 2 * CALLS; n++) {
            bool counted = n >= CALLS;
            if (counted) mark();
            char *volatile block = malloc(pairs[i]);
            if (counted) mark();
            *block = 1;
            if (counted) mark();
            free(block);
            if (counted) mark();
        }
}

/* Where the library's code is mapped in the child. */
static bool find_library(pid_t pid, const char *path, uintptr_t *low, uintptr_t *high)
{
    char name[64], line[4400];
    char *real = realpath(path, NULL);
    snprintf(name, sizeof name, "/proc/%d/maps", (int)pid);
    FILE *maps = fopen(name, "r");
    bool found = false;
    while (maps && real && fgets(line, sizeof line, maps)) {
        char *end;
        if (!strstr(line, real)) continue;
        uintptr_t start = strtoull(line, &end, 16);
        if (!found) *low = start;
        *high = strtoull(end + 1, NULL, 16);
        found = true;
    }
    if (maps) fclose(maps);
    free(real);
    return found;
}

/* Steps to the next int3; returns how many instructions were the library's. */
static long count_to_mark(pid_t pid, uintptr_t low, uintptr_t high)
{
    long count = 0;
    for (;;) {
        int status;
        siginfo_t info;
        struct user_regs_struct regs;
        MUST(!ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL));
        MUST(waitpid(pid, &status, 0) == pid);
        if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP) return -1;
        MUST(!ptrace(PTRACE_GETSIGINFO, pid, NULL, &info));
        if (info.si_code == SI_KERNEL) return count;  // int3
        MUST(!ptrace(PTRACE_GETREGS, pid, NULL, &regs));
        // The stop is before the instruction at rip, which the next step executes.
        count += regs.rip >= low && regs.rip < high;
    }
}

/* Lets the child run to its next mark. */
static bool run_to_mark(pid_t pid)
{
    int status;
    MUST(!ptrace(PTRACE_CONT, pid, NULL, NULL));
    MUST(waitpid(pid, &status, 0) == pid);
    return WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP;
}

static void watch(pid_t pid, const char *library, bool in_pairs)
{
    uintptr_t low = 0, high = 0;
    int status;
    size_t rows =
        in_pairs ? sizeof pairs / sizeof *pairs : sizeof sizes / sizeof *sizes;
    MUST(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));  // the exec
    for (unsigned i = 0; i < rows; i++)
        for (unsigned n = 0; n < 2 * CALLS; n++) {
            MUST(run_to_mark(pid));
            if (!high) MUST(find_library(pid, library, &low, &high));
            bool frees = in_pairs ? n % 2 == 1 : n >= CALLS;
            printf("%s %zu %ld\n", frees ? "free" : "malloc",
                in_pairs ? pairs[i] : sizes[i], count_to_mark(pid, low, high));
        }
    ptrace(PTRACE_CONT, pid, NULL, NULL);
    MUST(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
}

int main(int argc, char **argv)
{
    bool in_pairs = argc > 2 && !strcmp(argv[2], "pairs");
    if (argc < 2) {
        if (getenv("FASTPATH_PAIRS"))
            child_of_pairs();
        else
            child();
        return 0;
    }
    pid_t pid = fork();
    if (pid == 0) {
        char *words[] = { argv[0], NULL };
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL)) _exit(SKIPPED);
        setenv("LD_PRELOAD", argv[1], 1);
        if (in_pairs) setenv("FASTPATH_PAIRS", "1", 1);
        execv("/proc/self/exe", words);
        _exit(1);
    }
    int status;
    siginfo_t info = { 0 };
    MUST(!waitid(P_PID, (id_t)pid, &info, WEXITED | WSTOPPED | WNOWAIT));
    if (info.si_code == CLD_EXITED) {
        waitpid(pid, &status, 0);
        return WEXITSTATUS(status);
    }
    watch(pid, argv[1], in_pairs);
    return 0;
}

#else

int main(void)
{
    return SKIPPED;
}

#endif
