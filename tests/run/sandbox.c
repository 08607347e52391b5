/* SPDX-License-Identifier: MIT */
/*
 * sandbox.c - gives up all system calls but those that this scene needs with glibc's
 * malloc, then works on its heap: any other call would kill it.
 *
 * The filter is written by hand: the kernel checks the number alone. With `refuse` a
 * filter answers EPERM to everything that has to do with files, as containers do.
 * (glibc counts the processors, in a file, before it makes a third arena.)
 *
 * env: MALLOC_ARENA_MAX=1
 *
 * case: killing
 * arg: kill
 * status: 3
 * expect: said.sum == 1728900 and files == []
 * expect: live.dump.reason == 'exit' and live.dump.complete
 * expect: live.coverage.reasons == ['sandboxed']
 * expect: said.allocations <= live.calls.malloc <= said.allocations + 200
 * expect: len(live.threads) >= 51
 *
 * case: one_thread
 * arg: kill alone
 * status: 3
 * expect: live.dump.reason == 'exit' and live.totals.peak_exact
 *
 * case: by_a_dead_process
 * arg: kill abort
 * status: SIGABRT
 * expect: live.dump.reason == 'killed' and live.coverage.reasons == ['sandboxed']
 *
 * case: with_a_child
 * arg: kill fork
 * status: 3
 * expect: live.dump.reason == 'exit' and children == [] and files == []
 *
 * case: twice
 * arg: twice
 * status: 3
 * expect: said.sum == 1728900 and live.dump.reason == 'exit' and files == []
 *
 * case: refusing
 * arg: refuse
 * status: 3
 * expect: said.sum == 1728900 and files == []
 */
#include "scene.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { THREADS = 50, ROUNDS = 300, TO_DIE = 3 };

/* What this scene needs without the library; the last TO_DIE only in abort(). */
static const int needed[] = { SYS_read, SYS_write, SYS_mmap, SYS_munmap, SYS_mprotect,
    SYS_madvise, SYS_mremap, SYS_brk, SYS_futex, SYS_exit, SYS_exit_group,
    SYS_rt_sigreturn, SYS_rt_sigprocmask, SYS_rt_sigaction, SYS_clone, SYS_clone3,
    SYS_set_robust_list, SYS_rseq, SYS_sched_yield, SYS_getrandom, SYS_wait4,
    SYS_tgkill, SYS_gettid, SYS_getpid };

static const int of_files[] = {
    SYS_openat,
    SYS_unlinkat,
    SYS_renameat2,
    SYS_linkat,
    SYS_fallocate,
    SYS_ftruncate,
    SYS_pwrite64,
    SYS_newfstatat,
    SYS_fstat,
    SYS_readlinkat,
#if defined(SYS_unlink)  // of the elder machines
    SYS_open,
    SYS_unlink,
    SYS_link,
    SYS_stat,
    SYS_lstat,
    SYS_readlink,
#endif
};

/* `for_them` answers the calls of the list, `otherwise` every other one. */
static void install(const int *calls, size_t n, uint32_t for_them, uint32_t otherwise)
{
    static struct sock_filter code[64];
    size_t at = 0;
    code[at++] = (struct sock_filter)BPF_STMT(
        BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < n; i++) {
        code[at++] = (struct sock_filter)BPF_JUMP(
            BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i], 0, 1);
        code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, for_them);
    }
    code[at++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, otherwise);
    struct sock_fprog program = { (unsigned short)at, code };
    MUST(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    MUST(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

static _Atomic(number) allocations, sum;
static pthread_barrier_t barrier;

static void *work(void *alone)
{
    char *block[ROUNDS];
    for (unsigned i = 0; i < ROUNDS; i++) {
        size_t size = i % 50 ? i * 13 + 1 : i * 4099 + 1;
        block[i] = malloc(size);
        MUST(block[i]);
        block[i][0] = block[i][size - 1] = 'x';
        if (i % 7 == 0) {
            block[i] = realloc(block[i], 2 * size + 100);
            MUST(block[i] && block[i][0] == 'x');
        }
    }
    allocations += ROUNDS;
    if (!alone) pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < ROUNDS; i++) {
        sum += block[i][0] == 'x' ? 113 : 0;
        free(block[i]);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static pthread_t thread[THREADS];
    const char *how = argc > 1 ? argv[1] : "kill", *then = argc > 2 ? argv[2] : "";
    free(malloc(100));
    bool dies = strcmp(then, "abort") == 0;
    if (strcmp(how, "kill") != 0)
        install(of_files, sizeof of_files / sizeof of_files[0],
            SECCOMP_RET_ERRNO | EPERM, SECCOMP_RET_ALLOW);
    if (strcmp(how, "refuse") != 0)
        install(needed, sizeof needed / sizeof needed[0] - (dies ? 0 : TO_DIE),
            SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS);

    work(argv);
    if (strcmp(then, "alone") == 0) return 3;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 * 1024);
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (unsigned i = 0; i < THREADS; i++)
        MUST(!pthread_create(&thread[i], &small, work, NULL));
    for (unsigned i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    if (strcmp(then, "fork") == 0) {
        pid_t pid = fork();
        MUST(pid >= 0);
        for (unsigned i = 0; !pid && i < 40; i++) work(argv);
        if (!pid) exit(5);
        int status;
        MUST(wait4(pid, &status, 0, NULL) == pid && WEXITSTATUS(status) == 5);
    }
    if (strcmp(then, "abort") == 0) abort();
    say("sum", sum);
    say("allocations", allocations);
    return 3;
}
