// SPDX-License-Identifier: MIT
/*
 * start.c - processes that live for a millisecond, one after the other.
 *
 * Imitates: a shell script, or a build with many tiny steps: /bin/true, 400 times.
 *
 * Why: start and end of an allocator are paid by each process, whatever it does.
 */
#include <spawn.h>
#include <sys/wait.h>

#include "tests/bench/bench.h"

enum { PROCESSES = 400 };

int main(int argc, char **argv)
{
    extern char **environ;
    static char program[] = "/bin/true";
    char *words[] = { program, NULL };
    size_t n_processes = bench_steps(argc, argv, PROCESSES);

    for (size_t i = 0; i < n_processes; i++) {
        pid_t pid;
        int status = -1;
        if (posix_spawn(&pid, program, NULL, NULL, words, environ)) return 2;
        if (waitpid(pid, &status, 0) != pid || status) return 2;
    }
    return bench_report("start", n_processes);
}
