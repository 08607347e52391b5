// SPDX-License-Identifier: MIT
/*
 * launch.c - runs one command and writes down what it cost. Used by scripts/bench.
 *
 * usage: bench-launch RESULT SECONDS LIBRARY CPUS COMMAND [ARGUMENT...]
 *
 * Preloads LIBRARY into the command only ("" for none), binds the command to CPUS (such
 * as 0,2; "" for any), kills it after SECONDS, and writes one line to the file RESULT:
 * wait status, wall ns, user us, system us, peak KiB, minor faults, major faults, mean
 * KiB, last KiB, samples.
 *
 * The last three come from /proc/PID/statm, read every five milliseconds: the mean counts
 * each reading for the time since the one before; the last is what was resident at the
 * end. A run too short for a reading has zeros there. Processes that the command starts
 * are in the peak (that of the largest), not in the mean.
 *
 * Why not from the script itself: Linux keeps the peak of a process across exec, and
 * a process forked from a Python interpreter starts with the interpreter's 10-20 MB.
 * Forked from here it starts with less than 2. And who samples should be small: this
 * process keeps off the command's processors where there are others.
 *
 * Holds always: the command dies with the launcher and the launcher with the script.
 */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { EVERY_NS = 5000000 };

/* What was seen of the command's resident memory. */
struct watch {
    int statm;       // -1: not open
    int64_t before;  // when the last reading was
    double sum;      // KiB times nanoseconds
    int64_t time;    // nanoseconds that are in `sum`
    long last, n_samples;
};

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

/* Adds one reading. A process that has ended, or not begun, shows no memory: ignored. */
static void sample(struct watch *watch, long page_kib)
{
    char text[128];
    ssize_t n = watch->statm < 0 ? -1 : pread(watch->statm, text, sizeof text - 1, 0);
    int64_t now = now_ns();
    if (n > 0) {
        text[n] = '\0';
        char *end;
        strtol(text, &end, 10);  // the address space comes first
        long resident = strtol(end, NULL, 10) * page_kib;
        if (resident > 0) {
            watch->sum += (double)resident * (double)(now - watch->before);
            watch->time += now - watch->before;
            watch->last = resident;
            watch->n_samples++;
        }
    }
    watch->before = now;
}

/* Reads numbers between commas into `set`. Result: false when there are none. */
static bool read_cpus(const char *text, cpu_set_t *set)
{
    CPU_ZERO(set);
    while (*text) {
        char *end;
        long cpu = strtol(text, &end, 10);
        if (end == text || cpu < 0 || cpu >= CPU_SETSIZE) return false;
        CPU_SET((size_t)cpu, set);
        text = *end ? end + 1 : end;
    }
    return CPU_COUNT(set) > 0;
}

/* Moves the launcher to the processors that the command does not use, if any. */
static void make_way(const cpu_set_t *used)
{
    cpu_set_t mine;
    if (sched_getaffinity(0, sizeof mine, &mine)) return;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, used)) CPU_CLR(cpu, &mine);
    if (CPU_COUNT(&mine)) sched_setaffinity(0, sizeof mine, &mine);
}

/* Starts the command with the signal mask the launcher had. Fails: -1. */
static pid_t start(char **command, const sigset_t *mask, const cpu_set_t *cpus)
{
    pid_t launcher = getpid();
    pid_t child = fork();
    if (child) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != launcher) _exit(125);
    if (CPU_COUNT(cpus) && sched_setaffinity(0, sizeof *cpus, cpus)) {
        perror("processors");
        _exit(126);
    }
    sigprocmask(SIG_SETMASK, mask, NULL);
    execvp(command[0], command);
    perror(command[0]);
    _exit(127);
}

/* Samples until the command ends or its time is up, then it is killed. */
static void watch_until(
    pid_t child, int64_t deadline, const sigset_t *chld, struct watch *watch)
{
    char name[64];
    const struct timespec every = { .tv_nsec = EVERY_NS };
    long page_kib = sysconf(_SC_PAGESIZE) / 1024;
    snprintf(name, sizeof name, "/proc/%d/statm", (int)child);
    watch->statm = open(name, O_RDONLY | O_CLOEXEC);
    watch->before = now_ns();
    while (sigtimedwait(chld, NULL, &every) != SIGCHLD) {
        sample(watch, page_kib);
        if (watch->before < deadline) continue;
        kill(child, SIGKILL);
        return;
    }
}

int main(int argc, char **argv)
{
    cpu_set_t cpus;
    if (argc < 6 || (!read_cpus(argv[4], &cpus) && argv[4][0])) {
        fputs("usage: bench-launch RESULT SECONDS LIBRARY CPUS COMMAND...\n", stderr);
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
    int64_t begin = now_ns();
    pid_t child = start(argv + 5, &before, &cpus);
    if (child < 0) {
        perror("fork");
        return 2;
    }
    if (CPU_COUNT(&cpus)) make_way(&cpus);
    struct watch watch = { .statm = -1 };
    watch_until(child, begin + strtol(argv[2], NULL, 10) * 1000000000, &chld, &watch);

    int status = 0;
    struct rusage cost;
    memset(&cost, 0, sizeof cost);
    if (wait4(child, &status, 0, &cost) != child) return 2;
    fprintf(result, "%d %lld %lld %lld %ld %ld %ld %.0f %ld %ld\n", status,
        (long long)(now_ns() - begin), (long long)microseconds(cost.ru_utime),
        (long long)microseconds(cost.ru_stime), cost.ru_maxrss, cost.ru_minflt,
        cost.ru_majflt, watch.time ? watch.sum / (double)watch.time : 0, watch.last,
        watch.n_samples);
    return fclose(result) ? 2 : 0;
}
