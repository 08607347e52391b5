// SPDX-License-Identifier: MIT
/*
 * launch.c - runs one command and writes down what it cost. Used by scripts/bench.
 *
 * usage: bench-launch RESULT SECONDS LIBRARY COMMAND [ARGUMENT...]
 *
 * Preloads LIBRARY into the command only ("" for none), kills it after SECONDS, and
 * writes one line to the file RESULT: wait status, wall ns, user us, system us, peak
 * KiB, minor faults, major faults.
 *
 * Why not from the script itself: Linux keeps the peak of a process across exec, and
 * a process forked from a Python interpreter starts with the interpreter's 10-20 MB.
 * Forked from here it starts with less than 2.
 *
 * Holds always: the command dies with the launcher and the launcher with the script.
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int64_t microseconds(struct timeval t)
{
    return (int64_t)t.tv_sec * 1000000 + t.tv_usec;
}

/* Starts the command with the signal mask the launcher had. Fails: -1. */
static pid_t start(char **command, const sigset_t *mask)
{
    pid_t launcher = getpid();
    pid_t child = fork();
    if (child) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != launcher) _exit(125);
    sigprocmask(SIG_SETMASK, mask, NULL);
    execvp(command[0], command);
    perror(command[0]);
    _exit(127);
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fputs("usage: bench-launch RESULT SECONDS LIBRARY COMMAND...\n", stderr);
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    FILE *result = fopen(argv[1], "we");
    if (!result) {
        perror(argv[1]);
        return 2;
    }
    if (argv[3][0]) setenv("LD_PRELOAD", argv[3], 1);

    sigset_t chld, before;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_BLOCK, &chld, &before);
    struct timespec limit = { .tv_sec = strtol(argv[2], NULL, 10) };

    int64_t begin = now_ns();
    pid_t child = start(argv + 4, &before);
    if (child < 0) {
        perror("fork");
        return 2;
    }
    if (sigtimedwait(&chld, NULL, &limit) != SIGCHLD) kill(child, SIGKILL);
    int status = 0;
    struct rusage cost;
    memset(&cost, 0, sizeof cost);
    if (wait4(child, &status, 0, &cost) != child) return 2;
    fprintf(result, "%d %lld %lld %lld %ld %ld %ld\n", status,
        (long long)(now_ns() - begin), (long long)microseconds(cost.ru_utime),
        (long long)microseconds(cost.ru_stime), cost.ru_maxrss, cost.ru_minflt,
        cost.ru_majflt);
    return fclose(result) ? 2 : 0;
}
