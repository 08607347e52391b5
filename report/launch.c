/* SPDX-License-Identifier: MIT */
/*
 * launch.c - starts a program under the library and waits for it.
 *
 * Signals: a key press reaches the whole foreground group, so INT and QUIT are the
 * program's affair and ignored here; TERM and HUP were sent to us alone and are passed
 * on. The program itself starts with the actions that we were started with.
 */
#include "report/run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
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

static volatile sig_atomic_t child_pid;

static void pass_on(int signal)
{
    int saved = errno;
    if (child_pid > 0) kill((pid_t)child_pid, signal);
    errno = saved;
}

enum { N_SIGNALS = 4 };
static const int signals[N_SIGNALS] = { SIGINT, SIGQUIT, SIGTERM, SIGHUP };

static void take_signals(struct sigaction before[N_SIGNALS])
{
    for (int i = 0; i < N_SIGNALS; i++) {
        struct sigaction action = { .sa_flags = SA_RESTART };
        sigemptyset(&action.sa_mask);
        action.sa_handler = i < 2 ? SIG_IGN : pass_on;
        sigaction(signals[i], NULL, &before[i]);
        if (before[i].sa_handler != SIG_IGN) sigaction(signals[i], &action, NULL);
    }
}

static void give_signals_back(const struct sigaction before[N_SIGNALS])
{
    for (int i = 0; i < N_SIGNALS; i++) sigaction(signals[i], &before[i], NULL);
}

/* In the child: becomes the program, or tells the parent through `tell` why not. */
static _Noreturn void become(const struct tp_launch *launch, int tell,
    const struct sigaction before[N_SIGNALS], const sigset_t *mask)
{
    give_signals_back(before);
    sigprocmask(SIG_SETMASK, mask, NULL);
    int why = ENOMEM;
    bool alone = !launch->library;
    if (alone ||
        (set_joined("LD_PRELOAD", launch->library, ':', getenv("LD_PRELOAD")) &&
            set_joined("TIDEPOOL", getenv("TIDEPOOL"), ',', launch->keys))) {
        execvp(launch->argv[0], launch->argv);
        why = errno;
    }
    (void)!write(tell, &why, sizeof(why));
    _exit(127);
}

static int wait_for(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    if (WIFSIGNALED(status)) return 128 + WTERMSIG(status);
    return WEXITSTATUS(status);
}

static int did_not_start(const char *name, int why, struct tp_error *error)
{
    tp_error_set(error, "cannot run %s: %s", name, strerror(why));
    return why == ENOENT || why == ENOTDIR ? TP_EXIT_RUN_NOT_FOUND
                                           : TP_EXIT_RUN_NOT_EXECUTABLE;
}

int tp_launch_run(struct tp_launch *launch, struct tp_error *error)
{
    int tell[2];
    if (pipe2(tell, O_CLOEXEC) < 0) {
        tp_error_set(error, "cannot run %s: %s", launch->argv[0], strerror(errno));
        return TP_EXIT_RUN_FAILED;
    }
    struct sigaction before[N_SIGNALS];
    sigset_t all;
    sigset_t mask;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &mask);  // nothing is to come between these lines
    pid_t pid = fork();
    int fork_error = errno;
    take_signals(before);
    if (pid == 0) become(launch, tell[1], before, &mask);
    child_pid = pid;
    sigprocmask(SIG_SETMASK, &mask, NULL);
    close(tell[1]);

    int why = 0;
    int status = TP_EXIT_RUN_FAILED;
    if (pid < 0) {
        tp_error_set(error, "cannot run %s: %s", launch->argv[0], strerror(fork_error));
    } else {
        launch->out_pid = (uint32_t)pid;
        ssize_t got;
        while ((got = read(tell[0], &why, sizeof(why))) < 0 && errno == EINTR) continue;
        status = wait_for(pid);
        if (got == (ssize_t)sizeof(why))
            status = did_not_start(launch->argv[0], why, error);
    }
    child_pid = 0;
    close(tell[0]);
    give_signals_back(before);
    return status;
}
