/* SPDX-License-Identifier: MIT */
/*
 * kin.c - a family of processes, as the words on its command line say; for tree.py.
 *
 *   take N           N blocks of 173 bytes, of which N/3 are freed again
 *   dump             SIGUSR1 to itself
 *   fork [ ... ]     a child does what is in the brackets; waits for it
 *   daemon [ ... ]   the same for a grandchild that nobody waits for
 *   spawn PATH [ ... ], vfork PATH [ ... ]   a program PATH with those words; waits
 *   exec PATH [ ... ]                        becomes that program
 *   mark FILE, until FILE                    makes a file; waits for one
 *   kill N           a signal to itself
 *   limit N          of the address space, in MiB
 *   starve           allocates until there is no more, then aborts
 *   hide             closes all descriptors, and makes files without any permission
 *   cd PATH
 *   exit N           else it ends by return, with 0
 */
#include "scene.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static void wait_for(pid_t pid)
{
    int status = 0;
    MUST(pid > 0 && waitpid(pid, &status, 0) == pid);
}

static void take_blocks(unsigned n)
{
    void *block = NULL;
    for (unsigned i = 0; i < n; i++) {
        MUST((block = malloc(173)));
        if (i % 3 == 2) free(block);
    }
}

static void wait_until(const char *path)
{
    struct timespec nap = { .tv_nsec = 2000000 };
    struct stat status;
    while (stat(path, &status) < 0) nanosleep(&nap, NULL);
}

static void starve(void)
{
    for (unsigned i = 0; i < 1 << 16; i++)
        if (!malloc(64 << 10)) abort();
}

static void limit_memory(unsigned megabytes)
{
    rlim_t bytes = (rlim_t)megabytes << 20;
    MUST(!setrlimit(RLIMIT_AS, &(struct rlimit){ bytes, bytes }));
}

/* Cuts the words in brackets off; returns what stands after them. */
static char **cut(char **words, char ***out_inner)
{
    unsigned depth = 0;
    MUST(!strcmp(words[0], "["));
    *out_inner = words + 1;
    for (;; words++) {
        MUST(words[0]);
        if (!strcmp(words[0], "[")) depth++;
        if (!strcmp(words[0], "]") && --depth == 0) break;
    }
    words[0] = NULL;
    return words + 1;
}

static int live(char **words);

static void daemonize(char **inner)
{
    pid_t pid = fork();
    if (pid == 0) {
        int nowhere = open("/dev/null", O_RDWR);
        setsid();
        for (int fd = 0; fd < 3; fd++) dup2(nowhere, fd);
        if (fork() == 0) _exit(live(inner));
        _exit(0);
    }
    wait_for(pid);
}

static void start(const char *how, char *path, char **inner)
{
    pid_t pid = 0;
    char *before = inner[-1];  // the bracket: here the program's own name goes
    inner[-1] = path;
    if (!strcmp(how, "spawn")) {
        MUST(!posix_spawn(&pid, path, NULL, NULL, inner - 1, environ));
    } else if (!strcmp(how, "exec") || (pid = vfork()) == 0) {
        execv(path, inner - 1);
        _exit(127);
    }
    wait_for(pid);
    inner[-1] = before;
}

/* Does what the words say, and returns the exit status. */
static int live(char **words)
{
    while (words[0]) {
        const char *word = words[0];
        char **inner;
        if (!strcmp(word, "dump") || !strcmp(word, "starve") || !strcmp(word, "hide")) {
            words++;
            if (word[0] == 'd') kill(getpid(), SIGUSR1);
            if (word[0] == 's') starve();
            if (word[0] == 'h') closefrom(0), umask(0777);
            continue;
        }
        MUST(words[1]);
        if (!strcmp(word, "fork") || !strcmp(word, "daemon")) {
            words = cut(words + 1, &inner);
            if (word[0] == 'd') {
                daemonize(inner);
                continue;
            }
            pid_t pid = fork();
            if (pid == 0) exit(live(inner));
            wait_for(pid);
            continue;
        }
        if (!strcmp(word, "spawn") || !strcmp(word, "vfork") || !strcmp(word, "exec")) {
            char *path = words[1];
            words = cut(words + 2, &inner);
            start(word, path, inner);
            continue;
        }
        if (!strcmp(word, "limit"))
            limit_memory((unsigned)atoi(words[1]));
        else if (!strcmp(word, "take"))
            take_blocks((unsigned)atoi(words[1]));
        else if (!strcmp(word, "mark"))
            close(creat(words[1], 0600));
        else if (!strcmp(word, "until"))
            wait_until(words[1]);
        else if (!strcmp(word, "kill"))
            kill(getpid(), atoi(words[1]));
        else if (!strcmp(word, "cd"))
            MUST(!chdir(words[1]));
        else if (!strcmp(word, "exit"))
            return atoi(words[1]);
        else
            MUST(!strlen("a word that kin does not know"));
        words += 2;
    }
    return 0;
}

int main(int argc, char **argv)
{
    (void)argc;
    return live(argv + 1);
}
