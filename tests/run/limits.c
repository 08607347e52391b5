/* SPDX-License-Identifier: MIT */
/*
 * limits.c - narrows what it may do, then works on its heap: limits WHAT [kill].
 *
 * The first word says what it does to itself, places.py where it is run and what must
 * be in its account. Threads that live together need several bays of counters; with
 * `kill` it ends by SIGKILL, so that the live file tells what was kept.
 *
 * arg: nothing
 * status: 7
 * expect: said.sum == 100 * 400 * 173 and last.totals.allocations >= 100 * 400
 * expect: len(last.threads) >= 101 and last.dump.complete
 */
#include "scene.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum { THREADS = 100, ROUNDS = 400, NOBODY = 65534 };

static pthread_barrier_t barrier;

static void *work(void *sum_)
{
    number *sum = sum_;
    char *block[ROUNDS];
    for (unsigned i = 0; i < ROUNDS; i++) {
        block[i] = malloc(i * 7 + 1);
        MUST(block[i]);
        memset(block[i], 'x', i * 7 + 1);
    }
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < ROUNDS; i++) {
        MUST(block[i][0] == 'x' && block[i][i * 7] == 'x');
        *sum += 173;
        free(block[i]);
    }
    return NULL;
}

static void limit(int which, rlim_t most)
{
    struct rlimit now;
    MUST(!getrlimit((__rlimit_resource_t)which, &now));
    now.rlim_cur = most;
    MUST(!setrlimit((__rlimit_resource_t)which, &now));
}

/* Pages with another protection each, until the kernel has no room for one more. */
static void use_up_maps(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = 1 << 18;
    char *start =
        mmap(NULL, pages * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(start != MAP_FAILED);
    for (size_t i = 0; i < pages; i += 2)
        if (mprotect(start + i * page, page, PROT_READ)) return;
    MUST(!strlen("a limit of maps"));
}

/* Room for little more than what is mapped now. */
static void limit_space(void)
{
    char text[64] = "";
    int fd = open("/proc/self/statm", O_RDONLY);
    MUST(fd >= 0 && read(fd, text, sizeof text - 1) > 0 && !close(fd));
    limit(RLIMIT_AS,
        strtoull(text, NULL, 10) * (rlim_t)sysconf(_SC_PAGESIZE) + (48 << 20));
}

static bool is(const char *text, const char *word)
{
    return strcmp(text, word) == 0;
}

static void narrow(const char *what)
{
    if (is(what, "chroot")) {
        MUST(!mkdir("root", 0700) && !chroot("root") && !chdir("/"));
    } else if (is(what, "setuid")) {
        MUST(!setgroups(0, NULL) && !setresgid(NOBODY, NOBODY, NOBODY) &&
            !setresuid(NOBODY, NOBODY, NOBODY));
    } else if (is(what, "gone")) {
        MUST(!mkdir("gone", 0700) && !chdir("gone") && !rmdir("../gone"));
    } else if (is(what, "closed")) {
        MUST(!syscall(SYS_close_range, 3U, ~0U, 0U));
        closefrom(3);
    } else if (is(what, "files")) {
        limit(RLIMIT_NOFILE, 0);
    } else if (is(what, "size")) {
        limit(RLIMIT_FSIZE, 0);
    } else if (is(what, "space")) {
        limit_space();
    } else if (is(what, "maps")) {
        use_up_maps();
    } else {
        MUST(is(what, "nothing"));
    }
}

/* Where nothing can be mapped any more there may be no block: never a bad one. */
static number work_alone(void)
{
    enum { BLOCKS = 2000 };
    static char *block[BLOCKS];
    number sum = 0;
    for (unsigned i = 0; i < BLOCKS; i++) {
        size_t size = i % 100 ? i * 11 + 1 : i * 1009 + 1;
        block[i] = malloc(size);
        if (!block[i]) continue;
        block[i][0] = block[i][size - 1] = 'x';
        char *longer = i % 3 ? realloc(block[i], size * 2) : NULL;
        if (longer) block[i] = longer;
    }
    for (unsigned i = 0; i < BLOCKS; i++) {
        sum += !block[i] || block[i][0] == 'x' ? 20 * 173 : 0;
        free(block[i]);
    }
    return sum;
}

int main(int argc, char **argv)
{
    static pthread_t thread[THREADS];
    static number sums[THREADS];
    number sum = 0;
    const char *what = argc > 1 ? argv[1] : "nothing";
    free(malloc(1));
    free(malloc(1 << 20));
    narrow(what);
    if (is(what, "maps")) {
        sum = work_alone();
    } else {
        pthread_attr_t small;
        pthread_attr_init(&small);
        pthread_attr_setstacksize(&small, 64 * 1024);
        pthread_barrier_init(&barrier, NULL, THREADS);
        for (unsigned i = 0; i < THREADS; i++)
            MUST(!pthread_create(&thread[i], &small, work, &sums[i]));
        for (unsigned i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
        for (unsigned i = 0; i < THREADS; i++) sum += sums[i];
    }
    say("sum", sum);
    if (argc > 2) kill(getpid(), SIGKILL);
    return 7;
}
