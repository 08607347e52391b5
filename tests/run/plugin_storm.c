/* SPDX-License-Identifier: MIT */
/*
 * plugin_storm.c - eight threads open and close plugins while dumps are made.
 *
 * Constructors and destructors of the plugins allocate under the loader's locks, the
 * dump signal stops threads in the middle of it, and children are forked: nothing
 * waits for ever, nothing is lost.
 *
 * plain: no
 * expect: last.totals.live_blocks <= first.totals.live_blocks + 500
 * expect: last.coverage.deepbind_stripped == said.opened // 2
 * expect: last.coverage.foreign_frees == 0
 * expect: len(dumps) > 2
 * case: default
 * case: checked
 * options: check=on
 */
#include "scene.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

enum { THREADS = 8, ROUNDS = 40, FORKS = 20 };

static atomic_uint running = THREADS;

/* A copy, so that each thread has a library that comes and goes. */
static void copy(const char *from, const char *to)
{
    static char bytes[1 << 20];
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_EXCL, 0700);
    ssize_t n = read(in, bytes, sizeof bytes);
    MUST(in >= 0 && out >= 0 && n > 0 && n < (ssize_t)sizeof bytes);
    MUST(write(out, bytes, (size_t)n) == n);
    close(in);
    close(out);
}

static void *come_and_go(void *name)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        void *plug = dlopen(name, RTLD_NOW | (i % 2 ? RTLD_DEEPBIND : 0));
        MUST(plug);
        char *(*text)(void) = (char *(*)(void))dlsym(plug, "plug_text");
        void (*drop)(void *) = (void (*)(void *))dlsym(plug, "plug_free");
        MUST(text && drop);
        char *mine = text();
        drop(strdup("for the plugin"));
        MUST(!dlclose(plug));
        free(mine);
    }
    atomic_fetch_sub(&running, 1);
    return NULL;
}

int main(void)
{
    static char name[THREADS][4096];
    pthread_t threads[THREADS];
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 64);
    MUST(n > 0);
    path[n] = 0;
    strcpy(strrchr(path, '/') + 1, "libplug.so");
    for (unsigned i = 0; i < THREADS; i++) {
        MUST(getcwd(name[i], sizeof name[i] - 64));
        snprintf(name[i] + strlen(name[i]), 64, "/plug%u.so", i);
        copy(path, name[i]);
    }
    raise(SIGUSR1);
    for (unsigned i = 0; i < THREADS; i++)
        MUST(!pthread_create(&threads[i], NULL, come_and_go, name[i]));
    for (unsigned forks = 0; atomic_load(&running);) {
        kill(getpid(), SIGUSR1);
        pid_t child = forks++ < FORKS ? fork() : 0;
        if (child == 0 && forks <= FORKS) {
            free(malloc(100));
            raise(SIGUSR1);
            kill(getpid(), SIGKILL);
        }
        if (child > 0) MUST(waitpid(child, NULL, 0) == child);
        usleep(1000);
    }
    for (unsigned i = 0; i < THREADS; i++) MUST(!pthread_join(threads[i], NULL));
    say("opened", THREADS * ROUNDS);
    return 0;
}
