/* SPDX-License-Identifier: MIT */
/*
 * signal_rules.c - every way to set, ask for and wait for the dump signal keeps its
 * meaning; what the program is told is what it would be told without us.
 *
 * case: read_back
 * arg: read_back
 * expect: [r.dump.reason for r in dumps] == ['exit']
 * case: system_v
 * arg: system_v
 * plain: no
 * expect: said.handled == 1
 * expect: [r.dump.reason for r in dumps] == ['signal', 'signal', 'exit']
 * case: old_set
 * arg: old_set
 * expect: said.handled == 2
 * expect: [r.dump.reason for r in dumps] == ['signal', 'signal', 'exit']
 * case: ignored_with_info
 * arg: ignored_with_info
 * expect: [r.dump.reason for r in dumps] == ['exit']
 * case: nested
 * arg: nested
 * expect: said.handled == 3
 * case: not_nested
 * arg: not_nested
 * expect: said.handled == 3
 * case: mask
 * arg: mask
 * expect: said.handled == 1
 * case: alternate_stack
 * arg: alternate_stack
 * expect: said.handled == 1
 * case: waits
 * arg: waits
 * expect: said.handled == 0
 * expect: [r.dump.reason for r in dumps] == ['exit']
 * case: interrupt
 * arg: interrupt
 * expect: said.handled == 2
 * case: exec_resets
 * arg: exec_resets
 * expect: [r.dump.reason for r in dumps] == ['exit', 'exit']
 * case: exec_ignores
 * arg: exec_ignores
 * expect: [r.dump.reason for r in dumps] == ['exit', 'exit']
 * case: spawn
 * arg: spawn
 * expect: len(children) == 1
 * case: fork_keeps
 * arg: fork_keeps
 * expect: said.handled == 1
 * expect: [r.dump.reason for r in dumps] == ['signal', 'exit']
 * expect: [r.dump.reason for r in children] == ['signal', 'exit']
 * case: vfork_child
 * arg: vfork_child
 * expect: said.handled == 1
 * case: others
 * arg: others
 * expect: said.handled == 11 + 1
 * case: chain
 * arg: chain
 * expect: said.handled == 11
 */
#include "scene.h"

#include <poll.h>
#include <spawn.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"  // the subject

sighandler_t __sysv_signal(int number, sighandler_t handler);

static volatile sig_atomic_t handled, depth, deepest;
static sighandler_t earlier;

static void on_signal(int number_)
{
    handled = handled + (number_ == SIGUSR1 || earlier);
}

static void on_other(int number_)
{
    handled = handled + (number_ == SIGUSR2);
}

static void on_chain(int number_)
{
    handled = handled + 10;
    earlier(number_);
}

static void on_nested(int number_)
{
    (void)number_;
    depth++;
    if (depth > deepest) deepest = depth;
    if (++handled < 3) raise(SIGUSR1);
    depth--;
}

static void on_mask(int number_)
{
    sigset_t now;
    sigprocmask(SIG_BLOCK, NULL, &now);
    handled = number_ == SIGUSR1 && sigismember(&now, SIGUSR1) &&
        sigismember(&now, SIGUSR2) && !sigismember(&now, SIGALRM);
}

static char other_stack[65536];

static void on_other_stack(int number_)
{
    char here = (char)number_;
    uintptr_t at = (uintptr_t)&here - (uintptr_t)other_stack;
    handled = at < sizeof other_stack;
}

static struct sigaction look(void)
{
    struct sigaction now;
    MUST(!sigaction(SIGUSR1, NULL, &now));
    return now;
}

static void set(sighandler_t handler, int flags)
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = flags };
    MUST(!sigaction(SIGUSR1, &action, NULL));
}

static bool is(char **argv, const char *word)
{
    return argv[1] && !strcmp(argv[1], word);
}

/* What glibc and the kernel say after each way to set the signal. */
static void read_back(void)
{
    enum { OWN = 0x04000000 };  // SA_RESTORER, which glibc adds
    MUST(look().sa_handler == SIG_DFL && look().sa_flags == 0);
    set(on_signal, SA_NODEFER);
    MUST(look().sa_handler == on_signal && look().sa_flags == (SA_NODEFER | OWN));
    MUST(look().sa_restorer);
    MUST(__sysv_signal(SIGUSR1, SIG_DFL) == on_signal);
    MUST(look().sa_handler == SIG_DFL);
    MUST(look().sa_flags == (int)(SA_RESETHAND | SA_NODEFER | OWN));
    MUST(sigset(SIGUSR1, on_signal) == SIG_DFL);
    MUST(look().sa_handler == on_signal && look().sa_flags == OWN);
    MUST(!siginterrupt(SIGUSR1, 1));
    MUST(signal(SIGUSR1, on_mask) == on_signal);
    MUST(look().sa_handler == on_mask && look().sa_flags == OWN);
    struct sigaction now = look();
    MUST(sigismember(&now.sa_mask, SIGUSR1) == 1);
    MUST(!siginterrupt(SIGUSR1, 0));
    MUST(look().sa_handler == on_mask && look().sa_flags == (SA_RESTART | OWN));
    MUST(!sigignore(SIGUSR1));
    MUST(look().sa_handler == SIG_IGN);
    raise(SIGUSR1);
    MUST(sigset(SIGUSR1, SIG_HOLD) == SIG_IGN);
    MUST(sigset(SIGUSR1, SIG_IGN) == SIG_HOLD);
    errno = 0;
    MUST(signal(SIGUSR1, SIG_ERR) == SIG_ERR && errno == EINVAL);
    MUST(look().sa_handler == SIG_IGN);
    MUST(signal(SIGUSR1, on_signal) == SIG_IGN);
    MUST(signal(SIGUSR1, SIG_DFL) == on_signal);
}

/* A blocked signal is the thread's that waits for it. */
static void waits(void)
{
    sigset_t set_;
    siginfo_t info;
    sigemptyset(&set_);
    sigaddset(&set_, SIGUSR1);
    MUST(!sigprocmask(SIG_BLOCK, &set_, NULL));
    MUST(!sigqueue(getpid(), SIGUSR1, (union sigval){ .sival_int = 4567 }));
    MUST(sigtimedwait(&set_, &info, &(struct timespec){ 5, 0 }) == SIGUSR1);
    MUST(info.si_value.sival_int == 4567 && info.si_pid == getpid());
    int fd = signalfd(-1, &set_, SFD_NONBLOCK), got = 0;
    struct signalfd_siginfo told;
    raise(SIGUSR1);
    struct pollfd ready = { fd, POLLIN, 0 };
    MUST(poll(&ready, 1, 5000) == 1);
    MUST(read(fd, &told, sizeof told) == sizeof told && told.ssi_signo == SIGUSR1);
    raise(SIGUSR1);
    MUST(!sigwait(&set_, &got) && got == SIGUSR1);
}

/* A read is ended by the signal, or goes on, as siginterrupt() has it. */
static void interrupt(void)
{
    int ends[2];
    char byte;
    MUST(!pipe(ends));
    for (unsigned goes_on = 0; goes_on < 2; goes_on++) {
        signal(SIGUSR1, on_signal);
        MUST(!siginterrupt(SIGUSR1, !goes_on));
        pid_t parent = getpid(), child = fork();
        if (child == 0) {
            // Asleep in read() is what /proc calls S; then the signal finds it there.
            for (char state = 0, text[512], name[64]; state != 'S';) {
                snprintf(name, sizeof name, "/proc/%d/stat", parent);
                FILE *stat = fopen(name, "r");
                MUST(stat && fgets(text, sizeof text, stat));
                state = strrchr(text, ')')[2];
                fclose(stat);
            }
            kill(parent, SIGUSR1);
            if (goes_on) MUST(write(ends[1], "x", 1) == 1);
            kill(getpid(), SIGKILL);
        }
        errno = 0;
        ssize_t n = read(ends[0], &byte, 1);
        MUST(goes_on ? n == 1 : n == -1 && errno == EINTR);
        MUST(waitpid(child, NULL, 0) == child);
    }
}

static void become(char **argv, const char *word)
{
    execl("/proc/self/exe", argv[0], word, (char *)NULL);
    MUST(false);
}

static void wait_for(pid_t child)
{
    int status;
    MUST(waitpid(child, &status, 0) == child && status == 0);
}

int main(int argc, char **argv)
{
    (void)argc;
    if (is(argv, "expect_default")) {
        MUST(look().sa_handler == SIG_DFL);
        return 0;
    } else if (is(argv, "expect_ignored")) {
        MUST(look().sa_handler == SIG_IGN);
        raise(SIGUSR1);
        return 0;
    } else if (is(argv, "read_back")) {
        read_back();
    } else if (is(argv, "system_v")) {
        MUST(__sysv_signal(SIGUSR1, on_signal) == SIG_DFL);
        raise(SIGUSR1);
        MUST(look().sa_handler == SIG_DFL);
        MUST((unsigned)look().sa_flags & SA_RESETHAND);
        raise(SIGUSR1);  // would end the program without us
    } else if (is(argv, "old_set")) {
        MUST(sigset(SIGUSR1, on_signal) == SIG_DFL);
        raise(SIGUSR1);
        raise(SIGUSR1);
    } else if (is(argv, "ignored_with_info")) {
        set(SIG_IGN, SA_SIGINFO);
        raise(SIGUSR1);
        MUST(look().sa_handler == SIG_IGN);
    } else if (is(argv, "nested") || is(argv, "not_nested")) {
        set(on_nested, is(argv, "nested") ? SA_NODEFER : 0);
        raise(SIGUSR1);
        MUST(deepest == (is(argv, "nested") ? 3 : 1));
    } else if (is(argv, "mask")) {
        struct sigaction action = { .sa_handler = on_mask };
        sigaddset(&action.sa_mask, SIGUSR2);
        MUST(!sigaction(SIGUSR1, &action, NULL));
        raise(SIGUSR1);
    } else if (is(argv, "alternate_stack")) {
        MUST(!sigaltstack(
            &(stack_t){ .ss_sp = other_stack, .ss_size = sizeof other_stack }, NULL));
        set(on_other_stack, SA_ONSTACK);
        raise(SIGUSR1);
    } else if (is(argv, "waits")) {
        waits();
    } else if (is(argv, "interrupt")) {
        interrupt();
    } else if (is(argv, "exec_resets")) {
        set(on_signal, 0);
        become(argv, "expect_default");
    } else if (is(argv, "exec_ignores")) {
        set(SIG_IGN, 0);
        become(argv, "expect_ignored");
    } else if (is(argv, "spawn")) {
        set(on_signal, 0);
        pid_t child;
        char word[] = "expect_default", *words[] = { argv[0], word, NULL };
        MUST(!posix_spawn(&child, "/proc/self/exe", NULL, NULL, words, environ));
        wait_for(child);
        MUST(look().sa_handler == on_signal);
    } else if (is(argv, "fork_keeps")) {
        set(on_signal, 0);
        pid_t child = fork();
        if (child == 0) {
            MUST(look().sa_handler == on_signal);
            raise(SIGUSR1);
            exit(handled == 1 ? 0 : 1);
        }
        wait_for(child);
        raise(SIGUSR1);
    } else if (is(argv, "vfork_child")) {
        set(on_signal, 0);
        pid_t child = vfork();
        if (child == 0) {
            signal(SIGUSR1, SIG_DFL);
            _exit(look().sa_handler == SIG_DFL ? 0 : 1);
        }
        wait_for(child);
        MUST(look().sa_handler == on_signal);
        raise(SIGUSR1);
    } else if (is(argv, "others")) {
        // Of a signal that is not ours the same is true.
        MUST(__sysv_signal(SIGUSR2, on_signal) == SIG_DFL);
        MUST((earlier = sigset(SIGUSR2, on_chain)) == on_signal);
        raise(SIGUSR2);
        MUST(sigset(SIGUSR2, SIG_HOLD) == on_chain);
        MUST(sigset(SIGUSR2, SIG_DFL) == SIG_HOLD);
        MUST(__sysv_signal(SIGUSR2, on_other) == SIG_DFL);
        raise(SIGUSR2);
        struct sigaction now;
        MUST(!sigaction(SIGUSR2, NULL, &now) && now.sa_handler == SIG_DFL);
    } else if (is(argv, "chain")) {
        signal(SIGUSR1, on_signal);
        MUST((earlier = __sysv_signal(SIGUSR1, on_chain)) == on_signal);
        raise(SIGUSR1);
    }
    say("handled", (number)handled);
    return 0;
}
