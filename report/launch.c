/* SPDX-License-Identifier: MIT */
/*
 * launch.c - starts a program under the library and waits for it.
 *
 * Signals: a key press reaches the whole foreground group, so INT and QUIT are the
 * program's affair and ignored here; TERM and HUP were sent to us alone and are passed
 * on. CHLD is blocked and waited for, with the time of the next look as the limit, and
 * must not be ignored or no status would come. The program itself starts with the actions
 * that we were started with.
 *
 * In a container this may be process 1, whose children are all that lost their parent:
 * whoever ends is waited for.
 */
#include "report/run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- the library --------------------------------------------------------------------- */

/* Takes the path if a file is there. */
static bool try_library(char **out_path, char *path)
{
    if (path && access(path, R_OK) == 0) {
        *out_path = realpath(path, NULL);
        free(path);
        return *out_path != NULL;
    }
    free(path);
    return false;
}

static char *join(const char *a, const char *b)
{
    char *joined = NULL;
    return asprintf(&joined, "%s%s", a, b) < 0 ? NULL : joined;
}

bool tp_launch_library(char **out_path, struct tp_error *error)
{
    static const char *const beside[] = {
        "/../shim/libtidepool.so",  // in a build folder
        "/../" TP_LIBDIR_RELATIVE "/libtidepool.so",
        "/../lib/libtidepool.so",
    };
    char here[4096];
    const char *wish = getenv("TIDEPOOL_LIB");
    bool found = false;
    if (wish && *wish) {
        found = try_library(out_path, join(wish, ""));
        if (!found) return tp_error_set(error, "there is no library at %s", wish);
    }
    ssize_t n = readlink("/proc/self/exe", here, sizeof(here) - 1);
    here[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(here, '/');
    if (slash) *slash = '\0';
    for (size_t i = 0; !found && slash && i < sizeof(beside) / sizeof(beside[0]); i++)
        found = try_library(out_path, join(here, beside[i]));
    if (!found) found = try_library(out_path, join(TP_LIBDIR, "/libtidepool.so"));
    if (!found)
        return tp_error_set(error,
            "cannot find libtidepool.so beside this program or in %s", TP_LIBDIR);
    if (!strpbrk(*out_path, ": \t")) return true;

    tp_error_set(
        error, "cannot preload %s: its path has a blank or a colon in it", *out_path);
    free(*out_path);
    *out_path = NULL;
    return false;
}

/* ---- the environment ------------------------------------------------------------------- */

char *tp_launch_escape(const char *value)
{
    char *escaped = malloc(2 * strlen(value) + 1);
    char *to = escaped;
    if (!escaped) return NULL;
    for (const char *at = value; *at; at++) {
        if (*at == ',') *to++ = '\\';
        *to++ = *at;
    }
    *to = '\0';
    return escaped;
}

/* Sets name to "first<separator>second", or the one that is there. */
static bool set_joined(
    const char *name, const char *first, char separator, const char *second)
{
    char *value = NULL;
    bool both = first && *first && second && *second;
    int made = both ? asprintf(&value, "%s%c%s", first, separator, second)
                    : asprintf(&value, "%s", first && *first ? first : second);
    bool good = made >= 0 && setenv(name, value, 1) == 0;
    free(value);
    return good;
}

/* ---- the program ------------------------------------------------------------------------ */

enum { IDLE_MS = 60 * 60 * 1000 };  // when there is nothing to look at

static volatile sig_atomic_t child_pid;

static void pass_on(int signal)
{
    int saved = errno;
    if (child_pid > 0) kill((pid_t)child_pid, signal);
    errno = saved;
}

enum { N_SIGNALS = 6 };
static const struct {
    int number;
    sighandler_t action;
    bool always;  // else an ignored signal stays ignored
} signals[N_SIGNALS] = {
    { SIGINT, SIG_IGN, false }, { SIGQUIT, SIG_IGN, false },
    { SIGTERM, pass_on, false }, { SIGHUP, pass_on, false }, { SIGCHLD, SIG_DFL, true },
    { SIGXFSZ, SIG_IGN, true },  // a recording beyond the limit is an error, no death
};

static void take_signals(struct sigaction before[N_SIGNALS])
{
    for (int i = 0; i < N_SIGNALS; i++) {
        struct sigaction action = { .sa_flags = SA_RESTART };
        sigemptyset(&action.sa_mask);
        action.sa_handler = signals[i].action;
        sigaction(signals[i].number, NULL, &before[i]);
        if (signals[i].always || before[i].sa_handler != SIG_IGN)
            sigaction(signals[i].number, &action, NULL);
    }
}

static void give_signals_back(const struct sigaction before[N_SIGNALS])
{
    for (int i = 0; i < N_SIGNALS; i++) sigaction(signals[i].number, &before[i], NULL);
}

/* The ways between the two processes while the program is not there yet. */
struct ways {
    int tell[2];  // to us: why exec failed; closed by an exec that did not
    int go[2];    // from us: closed when all is ready
};

static void close_ways(struct ways *ways)
{
    for (int i = 0; i < 2; i++) {
        if (ways->tell[i] >= 0) close(ways->tell[i]);
        if (ways->go[i] >= 0) close(ways->go[i]);
        ways->tell[i] = ways->go[i] = -1;
    }
}

/*
 * A pipe beyond the standard descriptors: where those are closed it would take their
 * numbers, and a message on the standard error would go into it.
 */
static bool open_way(int way[2])
{
    int low[2];
    if (pipe2(low, O_CLOEXEC) < 0) return false;
    for (int i = 0; i < 2; i++) way[i] = fcntl(low[i], F_DUPFD_CLOEXEC, 3);
    int why = errno;
    close(low[0]);
    close(low[1]);
    errno = why;
    return way[0] >= 0 && way[1] >= 0;
}

static bool open_ways(struct ways *ways)
{
    *ways = (struct ways){ { -1, -1 }, { -1, -1 } };
    if (open_way(ways->tell) && open_way(ways->go)) return true;
    int why = errno;
    close_ways(ways);
    errno = why;
    return false;
}

static void close_one(int *fd)
{
    close(*fd);
    *fd = -1;
}

/* Reads what fits; what is missing at the end of the way is 0. */
static ssize_t read_way(int fd, int *out)
{
    ssize_t got;
    while ((got = read(fd, out, sizeof(*out))) < 0 && errno == EINTR) continue;
    return got;
}

/* In the child: becomes the program, or tells the parent why not. */
static _Noreturn void become(const struct tp_launch *launch, struct ways *ways,
    const struct sigaction before[N_SIGNALS], const sigset_t *mask)
{
    int why = 0;
    close_one(&ways->go[1]);
    (void)read_way(ways->go[0], &why);
    give_signals_back(before);
    sigprocmask(SIG_SETMASK, mask, NULL);
    why = ENOMEM;
    bool alone = !launch->library;
    if (alone ||
        (set_joined("LD_PRELOAD", launch->library, ':', getenv("LD_PRELOAD")) &&
            set_joined("TIDEPOOL", getenv("TIDEPOOL"), ',', launch->keys))) {
        execvp(launch->argv[0], launch->argv);
        why = errno;
    }
    (void)!write(ways->tell[1], &why, sizeof(why));
    _exit(127);
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* True when `pid` is among those that have ended; `out_status` is its then. */
static bool has_ended(pid_t pid, int *out_status)
{
    int status = 0;
    pid_t got;
    while ((got = waitpid(-1, &status, WNOHANG)) != 0) {
        if (got < 0 && errno == EINTR) continue;
        if (got == pid) *out_status = status;
        if (got == pid || got < 0) return true;
    }
    return false;
}

/* Needs: SIGCHLD blocked. */
static int wait_for(pid_t pid, const struct tp_launch *launch)
{
    int status = 0;
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    int64_t next = now_ms() + (launch->look ? 0 : IDLE_MS);
    while (!has_ended(pid, &status)) {
        int64_t left = next - now_ms();
        if (left <= 0) {
            left = launch->look ? launch->look(launch->argument) : IDLE_MS;
            next = now_ms() + left;
        }
        struct timespec limit = { left / 1000, left % 1000 * 1000000 };
        (void)sigtimedwait(&child, NULL, &limit);
    }
    if (WIFSIGNALED(status)) return 128 + WTERMSIG(status);
    return WEXITSTATUS(status);
}

static int did_not_start(const char *name, int why, struct tp_error *error)
{
    tp_error_set(error, "cannot run %s: %s", name, strerror(why));
    return why == ENOENT || why == ENOTDIR ? TP_EXIT_RUN_NOT_FOUND
                                           : TP_EXIT_RUN_NOT_EXECUTABLE;
}

static int did_not_fork(const char *name, struct tp_error *error)
{
    tp_error_set(error, "cannot run %s: %s", name, strerror(errno));
    return TP_EXIT_RUN_FAILED;
}

int tp_launch_run(struct tp_launch *launch, struct tp_error *error)
{
    struct ways ways;
    struct sigaction before[N_SIGNALS];
    sigset_t all;
    sigset_t mask;
    sigset_t waiting;
    if (!open_ways(&ways)) return did_not_fork(launch->argv[0], error);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &mask);  // nothing is to come between these lines
    waiting = mask;
    sigaddset(&waiting, SIGCHLD);
    pid_t pid = fork();
    int status = pid < 0 ? did_not_fork(launch->argv[0], error) : 0;
    take_signals(before);
    if (pid == 0) become(launch, &ways, before, &mask);
    child_pid = pid;
    sigprocmask(SIG_SETMASK, &waiting, NULL);
    if (pid > 0) {
        int why = 0;
        launch->out_pid = (uint32_t)pid;
        if (launch->started) launch->started(launch->argument, launch->out_pid);
        close_one(&ways.tell[1]);
        close_one(&ways.go[1]);
        ssize_t got = read_way(ways.tell[0], &why);
        status = wait_for(pid, launch);
        if (got == (ssize_t)sizeof(why))
            status = did_not_start(launch->argv[0], why, error);
    }
    child_pid = 0;
    close_ways(&ways);
    give_signals_back(before);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    return status;
}
