/* SPDX-License-Identifier: MIT */
/*
 * fork_storm.c SECONDS SEED - forks from one thread while others allocate and read.
 *
 * The readers hold stdio's locks while they want memory (getline), the forker holds
 * whatever fork takes: a lock of ours in the wrong order is a deadlock, which the
 * alarm turns into a failure. Each child allocates, frees what it inherited, forks
 * once more itself, and leaves by a random door.
 */
#include "tests/run/scene.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>

enum { READERS = 6, HELD = 499 };

static _Atomic bool over;
static void *held[HELD];

static void *read_lines(void *argument)
{
    uint64_t state = (uint64_t)(uintptr_t)argument;
    while (!atomic_load(&over)) {
        char *line = NULL;
        size_t room = 0;
        FILE *file = fopen("/proc/self/status", "r");
        while (file && getline(&line, &room, file) > 0)
            free(malloc(draw(&state) % 9999));
        if (file) fclose(file);
        free(line);
    }
    return NULL;
}

static void child(uint64_t state, int depth)
{
    void *block[211];
    alarm(60);
    for (unsigned i = 0; i < 211; i++)
        MUST((block[i] = malloc(draw(&state) % (i % 50 ? 3000 : 300000))));
    for (unsigned i = 0; i < 211; i++) free(block[i]);
    for (unsigned i = 0; i < HELD; i += 2) free(held[i]);
    if (depth == 0 && draw(&state) % 4 == 0) {
        pid_t pid = fork();
        if (pid == 0) {
            for (unsigned i = 0; i < HELD; i += 2) held[i] = malloc(33);
            child(state, 1);
        }
        int status;
        MUST(waitpid(pid, &status, 0) == pid);
        MUST(
            WIFEXITED(status) ? WEXITSTATUS(status) == 3 : WTERMSIG(status) == SIGKILL);
    }
    switch (draw(&state) % 4) {
    case 0:
        exit(3);
    case 1:
        quick_exit(3);
    case 2:
        kill(getpid(), SIGKILL);
        break;
    default:
        _exit(3);
    }
}

int main(int argc, char **argv)
{
    pthread_t threads[READERS];
    int seconds = argc > 1 ? atoi(argv[1]) : 5;
    uint64_t state = argc > 2 ? strtoull(argv[2], NULL, 10) * 2 + 1 : 1;
    number forks = 0;
    time_t end = time(NULL) + seconds;
    alarm((unsigned)seconds + 60);
    for (unsigned i = 0; i < HELD; i++) held[i] = malloc(i * 37);
    for (uintptr_t i = 0; i < READERS; i++)
        MUST(!pthread_create(&threads[i], NULL, read_lines, (void *)(i + 1)));
    do {
        int status = 0;
        draw(&state);
        pid_t pid = fork();
        if (pid == 0) child(state, 0);
        MUST(pid > 0 && waitpid(pid, &status, 0) == pid);
        MUST(
            WIFEXITED(status) ? WEXITSTATUS(status) == 3 : WTERMSIG(status) == SIGKILL);
        forks++;
    } while (time(NULL) < end);
    atomic_store(&over, true);
    for (unsigned i = 0; i < READERS; i++) pthread_join(threads[i], NULL);
    say("forks", forks);
    return 0;
}
