/* SPDX-License-Identifier: MIT */
/*
 * exit_modes.c - nothing is lost, whichever way a program ends.
 *
 * An orderly end leaves a dump, any other the live file, which `tidepool report PID`
 * reads; the figures are the same.
 *
 * case: return
 * arg: return
 * status: 3
 * expect: delta.totals.allocations == 997
 * expect: delta.totals.requested_bytes == 997 * 173
 * expect: last.dump.reason == 'exit' and last.dump.complete
 * case: exit
 * arg: exit
 * status: 3
 * expect: delta.totals.allocations == 997
 * expect: last.dump.reason == 'exit' and len(dumps) == 2
 * case: _exit
 * arg: _exit
 * status: 3
 * expect: delta.totals.allocations == 997
 * expect: last.dump.reason == 'exit' and len(dumps) == 2
 * case: _Exit
 * arg: _Exit
 * status: 3
 * expect: delta.totals.allocations == 997
 * expect: last.dump.reason == 'exit' and len(dumps) == 2
 * case: quick_exit
 * arg: quick_exit
 * status: 3
 * expect: delta.totals.allocations == 997
 * expect: last.dump.reason == 'exit' and len(dumps) == 2
 * case: thread
 * arg: thread
 * status: 3
 * expect: delta.calls.malloc == 997
 * expect: last.dump.reason == 'exit' and len(dumps) == 2
 * case: abort
 * arg: abort
 * status: SIGABRT
 * expect: live.totals.allocations - first.totals.allocations == 997
 * expect: live.totals.requested_bytes - first.totals.requested_bytes == 997 * 173
 * expect: live.dump.reason == 'killed'
 * case: kill
 * arg: kill
 * status: SIGKILL
 * expect: live.totals.allocations - first.totals.allocations == 997
 * expect: live.totals.requested_bytes - first.totals.requested_bytes == 997 * 173
 * expect: live.dump.reason == 'killed'
 * case: segv
 * arg: segv
 * status: SIGSEGV
 * expect: live.totals.allocations - first.totals.allocations == 997
 * case: term
 * arg: term
 * status: SIGTERM
 * expect: live.totals.allocations - first.totals.allocations == 997
 * expect: live.dump.reason == 'killed'
 * case: no_live_file
 * arg: return
 * options: live=off
 * status: 3
 * expect: delta.totals.allocations == 997
 * expect: os.listdir(work + '/../live') == []
 * case: off
 * arg: return
 * options: exit=off
 * status: 3
 * expect: len(dumps) == 1 and first.dump.reason == 'signal'
 */
#include "scene.h"

#include <pthread.h>

static void *leave(void *unused)
{
    (void)unused;
    exit(3);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "return";
    static void *block[997];
    dump_now();
    for (unsigned i = 0; i < 997; i++) MUST((block[i] = malloc(173)));
    if (!strcmp(mode, "exit")) exit(3);
    if (!strcmp(mode, "_exit")) _exit(3);
    if (!strcmp(mode, "_Exit")) _Exit(3);
    if (!strcmp(mode, "quick_exit")) quick_exit(3);
    if (!strcmp(mode, "abort")) abort();
    if (!strcmp(mode, "kill")) kill(getpid(), SIGKILL);
    if (!strcmp(mode, "term")) raise(SIGTERM);
    if (!strcmp(mode, "segv")) raise(SIGSEGV);
    if (!strcmp(mode, "thread")) {
        pthread_t thread;
        pthread_create(&thread, NULL, leave, NULL);
        pthread_join(thread, NULL);
    }
    return 3;
}
