/* SPDX-License-Identifier: MIT */
/*
 * thread_crowd.c - very many threads, at once or one after another; then they are gone,
 * and what the library kept for them goes too: 2 MiB and a hundredth of the heap.
 *
 * Each takes 20 blocks and frees them but for `kept`, which the main thread does. The
 * stacks are ours, so that nothing else grows with the number of threads.
 *
 * options: purge=100ms
 * expect: delta.calls.malloc == said.threads * 20
 * expect: delta.calls.free >= said.threads * 20
 * expect: delta.totals.live_blocks == 0
 * expect: len(dumps[1].threads) <= 2 + 256 + 1
 * expect: sum(1 for r in dumps[1].threads if r.running) == 1
 *
 * case: at_once
 * arg: 10000 10000 0
 * expect: said.live_kb < 1024
 * expect: said.resident_kb < 6000
 * expect: last.self.memory_bytes < 2 << 20
 * expect: os.path.getsize(out + '/' + sorted(files)[1]) < 600000
 *
 * case: blocks_stay
 * arg: 10000 10000 2
 * expect: said.live_kb < 1024
 * expect: last.self.memory_bytes < 2 << 20
 *
 * case: one_after_another
 * arg: 100000 8 0
 * expect: said.live_kb < 256
 * expect: said.resident_kb < 1000
 * expect: dumps[1].self.memory_bytes - dumps[0].self.memory_bytes < 100000
 *
 * case: killed
 * arg: 3000 3000 0 kill
 * status: SIGKILL
 * expect: live.totals.allocations == last.totals.allocations
 * expect: live.totals.frees == last.totals.frees
 * expect: live.calls == last.calls
 * expect: live.size_classes == last.size_classes
 * expect: sorted(str(r) for r in live.threads) == sorted(str(r) for r in last.threads)
 */
#include "scene.h"

#include <glob.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

enum { BLOCKS = 20, STACK = 32 * 1024, MOST = 40000 };

static pthread_t thread[MOST];
static pthread_attr_t attributes;
static pthread_barrier_t barrier;
static void *left[MOST][2];
static unsigned kept;
static bool together;

static void *work(void *argument)
{
    void **mine = argument, *block[BLOCKS];
    for (unsigned i = 0; i < BLOCKS; i++) MUST((block[i] = malloc(16 + 13 * i)));
    if (together) pthread_barrier_wait(&barrier);
    for (unsigned i = kept; i < BLOCKS; i++) free(block[i]);
    for (unsigned i = 0; i < kept; i++) mine[i] = block[i];
    return NULL;
}

static void run(unsigned n, char *stacks)
{
    pthread_barrier_init(&barrier, NULL, n + 1);
    for (unsigned i = 0; i < n; i++) {
        pthread_attr_setstack(&attributes, stacks + (size_t)i * STACK, STACK);
        if (pthread_create(&thread[i], &attributes, work, left[i])) {
            fprintf(stderr, "only %u threads can be had here\n", i);
            _exit(77);
        }
    }
    if (together) pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < n; i++) MUST(!pthread_join(thread[i], NULL));
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < kept; k++) free(left[i][k]);
    pthread_barrier_destroy(&barrier);
}

static number resident_kb(void)
{
    FILE *status = fopen("/proc/self/statm", "r");
    unsigned long size = 0, resident = 0;
    MUST(status && fscanf(status, "%lu %lu", &size, &resident) == 2);
    fclose(status);
    return resident * (number)sysconf(_SC_PAGESIZE) / 1024;
}

static number live_kb(void)
{
    char pattern[4200];
    const char *folder = getenv("XDG_RUNTIME_DIR");
    glob_t found;
    struct stat status = { 0 };
    snprintf(pattern, sizeof pattern, "%s/tidepool.%d.*", folder ? folder : "/dev/shm",
        getpid());
    if (glob(pattern, 0, NULL, &found) == 0) stat(found.gl_pathv[0], &status);
    globfree(&found);
    return (number)status.st_blocks / 2;
}

/* What a program does that goes on: the library's ticks are in its calls. */
static void go_on(void)
{
    struct timespec pause = { .tv_nsec = 20 * 1000 * 1000 };
    for (unsigned i = 0; i < 40; i++) {
        for (unsigned k = 0; k < 2000; k++) free(malloc(1009));
        nanosleep(&pause, NULL);
    }
}

int main(int argc, char **argv)
{
    MUST(argc >= 4);
    unsigned all = (unsigned)atoi(argv[1]), n = (unsigned)atoi(argv[2]);
    kept = (unsigned)atoi(argv[3]);
    together = n == all;
    MUST(n <= MOST && kept <= 2);
    free(malloc(1));
    number before = resident_kb();
    char *stacks = mmap(NULL, (size_t)n * STACK, PROT_READ | PROT_WRITE,
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    MUST(stacks != MAP_FAILED);
    pthread_attr_init(&attributes);
    dump_now();
    for (unsigned done = 0; done < all; done += n) run(n, stacks);
    dump_now();
    munmap(stacks, (size_t)n * STACK);
    say("threads", all);
    go_on();
    say("live_kb", live_kb());
    say("resident_kb", resident_kb() - before);
    dump_now();
    if (argc > 4) kill(getpid(), SIGKILL);
    return 0;
}
