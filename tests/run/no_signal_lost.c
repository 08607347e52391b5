/* SPDX-License-Identifier: MIT */
/*
 * no_signal_lost.c - a signal that had to wait comes, once, with what it brought.
 *
 * Each sender sends one signal and waits until the handler has seen it, so that none
 * can fall together with another of its kind: one that is lost is a sender that waits
 * for ever, one that comes twice is seen too often. The receiver does nothing but
 * allocate. Without the library every case ends likewise.
 *
 *   two     of two numbers: one falls on the handler of the other
 *   same    of one number, to the process and to the thread: the kernel keeps both
 *   timers  of two timers, each set anew by its own handler
 *   stop    SIGTSTP, and SIGCONT once that has come: each makes the kernel forget one of
 *           the other that is still on its way
 *   full    as timers, while the kernel has no room for what other signals bring
 *
 * case: two
 * arg: two
 * expect: said.lost == 0 and said.changed == 0 and said.twice == 0
 * case: same
 * arg: same
 * expect: said.lost == 0 and said.changed == 0 and said.twice == 0
 * case: timers
 * arg: timers
 * expect: said.lost == 0 and said.changed == 0 and said.twice == 0
 * case: stop
 * arg: stop
 * expect: said.lost == 0 and said.changed == 0 and said.twice == 0
 * case: full
 * arg: full
 * expect: said.lost == 0 and said.changed == 0 and said.twice == 0
 */
#include "scene.h"

#include <pthread.h>
#include <sys/resource.h>
#include <time.h>

enum { SENDERS = 2, SECONDS = 2, PATIENCE = 5 };

/* One kind of signal: who sends it waits until `seen` is what was sent. */
struct kind {
    int number, code;
    _Atomic(number) sent, seen;
    timer_t timer;
};
static struct kind kinds[SENDERS];
static _Atomic(number) lost, changed, twice;
static _Atomic(int) over, done;
static bool by_timers;
static pthread_t receiver;

static time_t now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec;
}

static struct kind *kind_of(int number_, int code)
{
    for (int i = 0; i < SENDERS; i++)
        if (kinds[i].number == number_ && kinds[i].code == code) return &kinds[i];
    return NULL;
}

/* Sends the next one, so short a time from now that it falls on what comes then. */
static void set_timer(struct kind *kind)
{
    struct itimerspec after = { .it_value = { 0, 20000 } };
    kind->sent++;
    MUST(timer_settime(kind->timer, 0, &after, NULL) == 0);
}

static void on_signal(int number_, siginfo_t *info, void *context)
{
    struct kind *kind = context ? kind_of(number_, info->si_code) : NULL;
    if (!kind || info->si_errno || info->si_signo != number_) {
        changed++;
        return;
    }
    if (!by_timers && (info->si_pid != getpid() || info->si_uid != getuid())) changed++;
    if (by_timers && info->si_value.sival_ptr != kind) changed++;
    for (int i = 0; i < 3; i++) free(malloc(100 + 1000 * (size_t)i));
    if (++kind->seen > kind->sent) twice++;
    if (by_timers && !over) set_timer(kind);
}

static void send_one(struct kind *kind)
{
    sigset_t waiting;
    if (kind->code == SI_USER)
        kill(getpid(), kind->number);
    else
        pthread_kill(receiver, kind->number);
    if (kind->number != SIGTSTP) return;
    do {
        sigpending(&waiting);
    } while (sigismember(&waiting, SIGTSTP));
    kinds[1].sent++;
    kill(getpid(), SIGCONT);
}

/* What of the first kind or of both, where it is sent with the other, is to come. */
static bool has_come(const struct kind *kind)
{
    bool both = kind->number == SIGTSTP;
    return kind->seen >= kind->sent && (!both || kinds[1].seen >= kinds[1].sent);
}

/* Not at once: what runs must not be handlers alone. */
static void pause_for(uint64_t steps)
{
    for (volatile uint64_t n = 0; n < steps; n++) continue;
}

static void *send_on(void *argument)
{
    struct kind *kind = argument;
    uint64_t state = (uint64_t)kind->number + 1;
    time_t end = now() + SECONDS;
    // SIGCONT is sent by who sends SIGTSTP.
    while (!over && now() < end && kind->number != SIGCONT) {
        time_t begin = now();
        kind->sent++;
        send_one(kind);
        while (!has_come(kind) && now() <= begin + PATIENCE) sched_yield();
        if (!has_come(kind)) {
            lost++;
            over = 1;
        }
        pause_for(draw(&state) % 8000);
    }
    done++;
    return NULL;
}

/* Where the handlers send themselves: whether they go on. */
static void *watch(void *argument)
{
    struct kind *kind = argument;
    time_t begin = now(), end = begin + SECONDS;
    number before = 0;
    while (!over && now() < end) {
        nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
        if (kind->seen != before) begin = now();
        before = kind->seen;
        if (!before) end = now() + SECONDS;
        if (now() <= begin + PATIENCE) continue;
        lost++;
        over = 1;
    }
    done++;
    return NULL;
}

/* Takes and gives, by slow paths too, until all has come. */
static void be_interrupted(void)
{
    static void *block[64];
    static uint64_t state = 11;
    while (done < SENDERS) {
        uint64_t value = draw(&state);
        size_t i = value % 64;
        free(block[i]);
        block[i] = malloc(value % 97 ? 16 + value % 3000 : 130000 + value % 100000);
    }
    over = 1;
    for (int i = 0; i < 64; i++) free(block[i]);
}

/* What a timer needs the kernel has set aside when it was made. */
static void leave_no_room(void)
{
    struct rlimit none = { 0, 0 };
    MUST(setrlimit(RLIMIT_SIGPENDING, &none) == 0);
}

static void set_kind(struct kind *kind, int number_, int code)
{
    struct sigaction action = { .sa_flags = SA_SIGINFO | SA_RESTART };
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = number_ };
    event.sigev_value.sival_ptr = kind;
    action.sa_sigaction = on_signal;
    kind->number = number_;
    kind->code = code;
    MUST(sigaction(number_, &action, NULL) == 0);
    if (by_timers) MUST(timer_create(CLOCK_MONOTONIC, &event, &kind->timer) == 0);
}

static void set_kinds(const char *word)
{
    bool stop = strcmp(word, "stop") == 0, same = strcmp(word, "same") == 0;
    int code = by_timers ? SI_TIMER : stop ? SI_USER : SI_TKILL;
    set_kind(&kinds[0], stop ? SIGTSTP : SIGUSR2, code);
    set_kind(&kinds[1],
        stop       ? SIGCONT
            : same ? SIGUSR2
                   : SIGALRM,
        same ? SI_USER : code);
    if (strcmp(word, "full") == 0) leave_no_room();
}

int main(int n, char **words)
{
    pthread_t thread[SENDERS];
    MUST(n == 2);
    by_timers = !strcmp(words[1], "timers") || !strcmp(words[1], "full");
    receiver = pthread_self();
    set_kinds(words[1]);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int i = 0; i < SENDERS; i++)
        MUST(!pthread_create(&thread[i], NULL, by_timers ? watch : send_on, &kinds[i]));
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    for (int i = 0; by_timers && i < SENDERS; i++) set_timer(&kinds[i]);
    be_interrupted();
    for (int i = 0; i < SENDERS; i++) MUST(!pthread_join(thread[i], NULL));
    say("lost", lost);
    say("changed", changed);
    say("twice", twice);
    say("seen", kinds[0].seen);
    say("seen_too", kinds[1].seen);
    return 0;
}
