/* SPDX-License-Identifier: MIT */
/*
 * signals.c - the dump signal: ours when nobody wants it, the program's when it does.
 *
 * case: nobody
 * arg: nobody
 * plain: no
 * expect: [r.dump.reason for r in dumps] == ['signal', 'signal', 'exit']
 * expect: [r.dump.sequence for r in dumps] == [0, 1, 2]
 * case: handler
 * arg: handler
 * expect: said.handled == 3
 * expect: [r.dump.reason for r in dumps] == ['signal'] * 3 + ['exit']
 * case: siginfo
 * arg: siginfo
 * expect: said.value == 4567
 * expect: len(dumps) == 2
 * case: early
 * arg: early
 * preload_after: early
 * expect: said.handled == 2
 * expect: [r.dump.reason for r in dumps] == ['signal'] * 2 + ['exit']
 * case: ignored
 * arg: ignored
 * ignore: SIGUSR1
 * expect: [r.dump.reason for r in dumps] == ['exit']
 * case: off
 * arg: off
 * options: signal=off
 * status: SIGUSR1
 * expect: said.caught == 0
 * expect: len(dumps) == 0
 * expect: live.dump.reason == 'killed'
 * case: other
 * arg: other
 * options: signal=USR2
 * plain: no
 * expect: [r.dump.reason for r in dumps] == ['signal', 'exit']
 * case: realtime
 * arg: realtime
 * options: signal=RTMIN+3
 * plain: no
 * expect: [r.dump.reason for r in dumps] == ['signal', 'exit']
 * case: blocked
 * arg: blocked
 * plain: no
 * expect: said.files == 0
 * expect: [r.dump.reason for r in dumps] == ['signal', 'exit']
 * case: sigwait
 * arg: sigwait
 * expect: said.got == 10
 * expect: [r.dump.reason for r in dumps] == ['exit']
 * case: restart
 * arg: restart
 * plain: no
 * expect: [r.dump.reason for r in dumps] == ['signal', 'exit']
 */
#include "scene.h"

#include <fcntl.h>
#include <sys/wait.h>

static volatile sig_atomic_t handled, value;

static void on_signal(int number_)
{
    handled = handled + (number_ == SIGUSR1);
}

static void on_siginfo(int number_, siginfo_t *info, void *context)
{
    value = number_ == SIGUSR1 && context ? info->si_value.sival_int : 0;
}

static bool is(char **argv, const char *word)
{
    return argv[1] && !strcmp(argv[1], word);
}

/* What the program sees must be what it set: the library stays out of sight. */
static void expect_handler(void (*handler)(int))
{
    struct sigaction now;
    MUST(!sigaction(SIGUSR1, NULL, &now));
    MUST(now.sa_handler == handler);
}

/* Is SIGUSR1 caught, as the kernel has it? */
static number caught(void)
{
    char text[4096] = "";
    int fd = open("/proc/self/status", O_RDONLY);
    MUST(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
    close(fd);
    return strtoull(strstr(text, "SigCgt:") + 7, NULL, 16) >> (SIGUSR1 - 1) & 1;
}

static void restart(void)
{
    int ends[2];
    MUST(!pipe(ends));
    pid_t child = fork();
    if (child == 0) {
        usleep(50000);
        kill(getppid(), SIGUSR1);
        usleep(50000);
        MUST(write(ends[1], "x", 1) == 1);
        kill(getpid(), SIGKILL);
    }
    char byte;
    MUST(read(ends[0], &byte, 1) == 1);  // not EINTR
    MUST(waitpid(child, NULL, 0) == child);
}

int main(int argc, char **argv)
{
    struct sigaction action = { .sa_handler = on_signal };
    sigset_t set;
    (void)argc;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    if (is(argv, "nobody")) {
        expect_handler(SIG_DFL);
        raise(SIGUSR1);
        raise(SIGUSR1);
    } else if (is(argv, "handler")) {
        MUST(!sigaction(SIGUSR1, &action, NULL));
        expect_handler(on_signal);
        raise(SIGUSR1);
        raise(SIGUSR1);
        MUST(signal(SIGUSR1, on_signal) == on_signal);
        raise(SIGUSR1);
    } else if (is(argv, "siginfo")) {
        action.sa_flags = SA_SIGINFO;
        action.sa_sigaction = on_siginfo;
        MUST(!sigaction(SIGUSR1, &action, NULL));
        MUST(!sigqueue(getpid(), SIGUSR1, (union sigval){ .sival_int = 4567 }));
        say("value", (number)value);
    } else if (is(argv, "early")) {
        raise(SIGUSR1);  // the constructor of the other library set its handler
        raise(SIGUSR1);
        handled = atoi(getenv("EARLY_HANDLED"));
    } else if (is(argv, "ignored")) {
        expect_handler(SIG_IGN);
        raise(SIGUSR1);
    } else if (is(argv, "off")) {
        expect_handler(SIG_DFL);
        say("caught", caught());
        raise(SIGUSR1);
    } else if (is(argv, "other")) {
        raise(SIGUSR2);
        say("caught", caught());
    } else if (is(argv, "realtime")) {
        raise(SIGRTMIN + 3);
    } else if (is(argv, "blocked")) {
        sigprocmask(SIG_BLOCK, &set, NULL);
        raise(SIGUSR1);
        sigset_t pending;
        sigpending(&pending);
        say("files", sigismember(&pending, SIGUSR1) ? 0 : 1);
        sigprocmask(SIG_UNBLOCK, &set, NULL);
    } else if (is(argv, "sigwait")) {
        int got = 0;
        sigprocmask(SIG_BLOCK, &set, NULL);
        raise(SIGUSR1);
        MUST(!sigwait(&set, &got));
        say("got", (number)got);
    } else if (is(argv, "restart")) {
        restart();
    }
    say("handled", (number)handled);
    return 0;
}
