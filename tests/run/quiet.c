/* SPDX-License-Identifier: MIT */
/*
 * quiet.c - the program sees no descriptor, thread, child or mask that it did not make.
 *
 * expect: said.descriptors == 4
 * expect: said.threads == 1
 * expect: said.blocked == 0
 * expect: said.umask == 0o22
 * expect: said.reused == 3
 */
#include "scene.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

static number entries(const char *folder)
{
    number count = 0;
    DIR *open_folder = opendir(folder);
    MUST(open_folder);
    for (struct dirent *entry; (entry = readdir(open_folder));)
        count += entry->d_name[0] != '.';
    closedir(open_folder);
    return count;
}

int main(void)
{
    umask(022);
    dump_now();
    for (size_t i = 0; i < 2000; i++) free(malloc(i * 997));
    dump_now();
    say("descriptors", entries("/proc/self/fd"));  // 0, 1, 2 and the folder itself
    say("threads", entries("/proc/self/task"));
    sigset_t mask;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    number blocked = 0;
    for (int i = 1; i < SIGRTMIN; i++) blocked += sigismember(&mask, i) == 1;
    say("blocked", blocked);
    say("umask", umask(022));
    say("reused", (number)open("/dev/null", O_RDONLY));  // the lowest free number
    MUST(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
    return 0;
}
