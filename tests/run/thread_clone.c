/* SPDX-License-Identifier: MIT */
/*
 * thread_clone.c - threads and children made with clone() itself.
 *
 * With thread-local storage of its own such a thread has a heap like any other, as long
 * as it lives; it ends without destructors, so its heap is not used again. One that has
 * none shares its creator's heap: two that allocate at once would spoil any allocator
 * that keeps something per thread, glibc's too, so the creator waits here, as it does in
 * vfork. All calls are counted in every case.
 *
 * expect: delta.calls.malloc == said.calls
 * expect: delta.calls.free == said.calls
 * expect: delta.totals.live_blocks == 0
 *
 * case: own_storage
 * arg: own
 * expect: sum(1 for r in dumps[1].threads if r.running) >= 2
 *
 * case: shared_storage
 * arg: shared
 * expect: sum(1 for r in dumps[1].threads if r.running) == 1
 *
 * case: own_process
 * arg: process
 *
 * case: by_number
 * arg: number
 *
 * case: vfork
 * arg: vfork
 * expect: not children
 */
#include "scene.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { TURNS = 7, CALLS = 997, STACK = 256 * 1024 };

extern void *_dl_allocate_tls(void *storage);
extern void _dl_deallocate_tls(void *storage, int own);

static void *left[CALLS];

static int work(void *unused)
{
    (void)unused;
    for (unsigned i = 0; i < CALLS; i++) {
        left[i] = malloc(i % 100 ? 17 + 3 * i : 300000 + i);
        if (!left[i]) syscall(SYS_exit, 1);
        memset(left[i], (int)i, 17);
    }
    for (unsigned i = 0; i < CALLS; i++) free(left[i]);
    return 0;
}

static int work_and_exit(void *unused)
{
    work(unused);
    syscall(SYS_exit, 0);  // of this thread alone
    return 0;
}

/* The creator's control block says where the storage is; these are glibc's offsets. */
static void *new_storage(void)
{
#if defined(__x86_64__)
    char *mine, *block = _dl_allocate_tls(NULL);
    MUST(block);
    __asm__("movq %%fs:16, %0" : "=r"(mine));
    *(void **)(void *)(block + 0) = block;
    *(void **)(void *)(block + 16) = block;
    memcpy(block + 0x28, mine + 0x28, 16);  // guards of stacks and pointers
    return block;
#else
    put_text(STDERR_FILENO, "thread storage by hand is written for x86-64 only\n");
    _exit(77);
#endif
}

static void run_thread(char *stack, int flags, void *storage)
{
    static int tid;
    flags |= CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
        CLONE_SYSVSEM | CLONE_CHILD_CLEARTID | CLONE_PARENT_SETTID;
    tid = -1;
    MUST(clone(work_and_exit, stack + STACK, flags, NULL, &tid, storage, &tid) > 0);
    int now;
    while ((now = __atomic_load_n(&tid, __ATOMIC_ACQUIRE)) != 0)
        syscall(SYS_futex, &tid, FUTEX_WAIT, now, NULL, NULL, 0);
}

static void run_process(char *stack, int flags)
{
    int status = 1;
    pid_t child = clone(work, stack + STACK, CLONE_VM | SIGCHLD | flags, NULL);
    MUST(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static _Noreturn void returned_to(void)
{
    work(NULL);
    for (;;) syscall(SYS_exit, 0);
}

/* The bare call returns in the child too, to what stands on top of its new stack. */
static void run_by_number(char *stack)
{
#if defined(__x86_64__)
    int status = 1;
    void **top = (void **)(void *)(stack + STACK - 64);
    *top = (void *)(uintptr_t)returned_to;
    pid_t child = (pid_t)syscall(
        SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, top, NULL, NULL, NULL);
    MUST(child > 0 && waitpid(child, &status, 0) == child && status == 0);
#else
    (void)stack;
    put_text(STDERR_FILENO, "written for x86-64 only\n");
    _exit(77);
#endif
}

static void run_vfork(void)
{
    int status = 1;
    pid_t child = vfork();
    if (child == 0) {
        work(NULL);
        _exit(0);
    }
    MUST(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

int main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "";
    char *stack =
        mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(stack != MAP_FAILED);
    void *storage[TURNS] = { 0 };
    for (unsigned i = 0; i < TURNS && !strcmp(kind, "own"); i++)
        storage[i] = new_storage();
    dump_now();
    for (unsigned i = 0; i < TURNS; i++) {
        if (!strcmp(kind, "own"))
            run_thread(stack, CLONE_SETTLS, storage[i]);
        else if (!strcmp(kind, "shared"))
            run_thread(stack, 0, NULL);
        else if (!strcmp(kind, "process"))
            run_process(stack, CLONE_VFORK);
        else if (!strcmp(kind, "number"))
            run_by_number(stack);
        else
            run_vfork();
    }
    dump_now();
    say("calls", TURNS * CALLS);
    for (unsigned i = 0; i < TURNS; i++)
        if (storage[i]) _dl_deallocate_tls(storage[i], 1);
    return 0;
}
