/* SPDX-License-Identifier: MIT */
/*
 * spawn.c - vfork, posix_spawn, system and exec: the books balance, nothing is lost.
 *
 * case: vfork
 * arg: vfork
 * expect: delta.totals.live_blocks == 0
 * expect: delta.calls.malloc == 17
 * expect: len(dumps) == 3 and len(children) == 0
 * case: vfork_exec
 * arg: vfork_exec
 * expect: delta.totals.live_blocks == 0
 * expect: delta.calls.malloc == 17
 * expect: [r.dump.reason for r in dumps] == ['signal', 'signal', 'exit']
 * case: system
 * arg: system
 * expect: delta.totals.live_blocks == 0
 * expect: sum(1 for r in children if r.dump.reason == 'exit') >= 2
 * case: follow_off
 * arg: system
 * options: follow=off
 * expect: [r for r in children if r.process.name != 'spawn'] == []
 * case: exec
 * arg: exec 5
 * status: 9
 * expect: dumps[-1].dump.reason == 'exit'
 * expect: dumps[-1].calls.valloc == 7
 * case: no_program
 * arg: no_program
 * expect: [r.dump.reason for r in dumps] == ['signal', 'signal', 'exit']
 * expect: len(dumps[1].threads) == len(dumps[0].threads)
 * expect: [l.operation for l in dumps[0].latency] == [l.operation for l in
 *         dumps[1].latency][:len(dumps[0].latency)]
 * case: words
 * arg: words
 * status: 4
 * expect: [r.dump.reason for r in dumps][-1] == 'exit'
 */
#include "scene.h"

#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

#define TEN "a", "a", "a", "a", "a", "a", "a", "a", "a", "a"
#define HUNDRED TEN, TEN, TEN, TEN, TEN, TEN, TEN, TEN, TEN, TEN
#define WORDS                                                                        \
    HUNDRED, HUNDRED, HUNDRED, HUNDRED, HUNDRED, HUNDRED, HUNDRED, HUNDRED, HUNDRED, \
        HUNDRED

static void by_vfork(bool exec)
{
    int status = 0;
    pid_t pid = vfork();
    if (pid == 0) {
        void *block[17];
        for (unsigned i = 0; i < 17; i++) block[i] = malloc(173);
        for (unsigned i = 0; i < 17; i++) free(block[i]);
        if (exec) execl("/bin/true", "true", (char *)NULL);
        _exit(0);
    }
    MUST(waitpid(pid, &status, 0) == pid && status == 0);
}

static void *allocate(void *unused)
{
    free(malloc(200000));
    return unused;
}

static void by_thread(void)
{
    pthread_t thread;
    MUST(!pthread_create(&thread, NULL, allocate, NULL));
    pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "vfork";
    if (!strcmp(mode, "exec")) {  // five images one after another, one pid
        for (unsigned i = 0; i < 7; i++) MUST(valloc(100));
        int left = atoi(argv[2]);
        char text[16];
        snprintf(text, sizeof text, "%d", left - 1);
        if (left) execl("/proc/self/exe", argv[0], "exec", text, (char *)NULL);
        return 9;
    }
    if (!strcmp(mode, "words"))  // more than fit into any table of fixed size
        execlp("sh", "sh", "-c", "exit $(($# - 3995))", WORDS, WORDS, WORDS, WORDS,
            (char *)NULL);
    if (!strcmp(mode, "no_program")) by_thread();
    dump_now();
    if (!strcmp(mode, "no_program")) {  // the account goes on, all of it
        MUST(execl("/nowhere/at/all", "all", (char *)NULL) == -1 && errno == ENOENT);
    } else if (!strcmp(mode, "system")) {
        int status = 0;
        pid_t pid;
        char *words[] = { (char[]){ "true" }, NULL };
        MUST(system("exit 3") == 3 << 8);
        MUST(!posix_spawnp(&pid, "true", NULL, NULL, words, environ));
        MUST(waitpid(pid, &status, 0) == pid && status == 0);
    } else {
        by_vfork(!strcmp(mode, "vfork_exec"));
    }
    dump_now();
    return 0;
}
