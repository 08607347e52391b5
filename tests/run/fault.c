/* SPDX-License-Identifier: MIT */
/*
 * fault.c - the n-th system call of the library fails: fault N HOW KIND REPORT PROGRAM...
 *
 * Idea: a tracer sees every system call of the program and of its children, those
 * before main too, and finds out whose it is: the first return address on the stack
 * that does not lie in the C library belongs to the caller. What FAULT_LIBRARY (a part
 * of the path) calls is counted; from the N-th on the kernel gets another number, so
 * that nothing happens, and the caller gets an error.
 *
 *   HOW     once: only the N-th. on: every one from there
 *   KIND    all; files: calls that have to do with files; memory
 *   REPORT  a file: how many calls there were, and the names of those that failed
 *
 * FAULT_PRELOAD becomes the LD_PRELOAD of the program. FAULT_EINTR=1: calls that a
 * signal may cut short fail with EINTR. close() closes and reports an error, as it does
 * in the kernel. Calls that cannot fail by their nature (getpid, futex, the mask of
 * signals) and those that the program itself asked for are left alone.
 *
 * Exit status: the program's, 128 + n after a signal; 77 where nothing can be traced.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#if !defined(__x86_64__)
int main(void)
{
    puts("skipped: knows the registers of x86-64 only");
    return 77;
}
#else

enum kind { MEMORY = 1, FILES = 2, OTHER = 4 };

static const struct call {
    long number;
    const char *name;
    enum kind kind;
    int error;
    bool interrupted;  // may end with EINTR
} calls[] = {
    { SYS_mmap, "mmap", MEMORY, ENOMEM, false },
    { SYS_munmap, "munmap", MEMORY, ENOMEM, false },
    { SYS_mprotect, "mprotect", MEMORY, ENOMEM, false },
    { SYS_madvise, "madvise", MEMORY, ENOMEM, true },
    { SYS_mremap, "mremap", MEMORY, ENOMEM, false },
    { SYS_open, "open", FILES, EMFILE, true },
    { SYS_openat, "openat", FILES, EMFILE, true },
    { SYS_close, "close", FILES, EIO, true },
    { SYS_read, "read", FILES, EIO, true },
    { SYS_write, "write", FILES, ENOSPC, true },
    { SYS_pread64, "pread64", FILES, EIO, true },
    { SYS_pwrite64, "pwrite64", FILES, ENOSPC, true },
    { SYS_fallocate, "fallocate", FILES, ENOSPC, true },
    { SYS_ftruncate, "ftruncate", FILES, EFBIG, true },
    { SYS_stat, "stat", FILES, EACCES, false },
    { SYS_lstat, "lstat", FILES, EACCES, false },
    { SYS_fstat, "fstat", FILES, EIO, false },
    { SYS_newfstatat, "newfstatat", FILES, EACCES, false },
    { SYS_fchmod, "fchmod", FILES, EPERM, false },
    { SYS_rename, "rename", FILES, EACCES, false },
    { SYS_renameat2, "renameat2", FILES, EACCES, false },
    { SYS_link, "link", FILES, EPERM, false },
    { SYS_unlink, "unlink", FILES, EACCES, false },
    { SYS_readlink, "readlink", FILES, ENOENT, false },
    { SYS_getcwd, "getcwd", FILES, ENOENT, false },
    { SYS_uname, "uname", OTHER, EPERM, false },
    { SYS_prlimit64, "prlimit64", OTHER, EPERM, false },
    { SYS_getrlimit, "getrlimit", OTHER, EPERM, false },
    { SYS_getrusage, "getrusage", OTHER, EPERM, false },
    { SYS_prctl, "prctl", OTHER, EPERM, false },
    { SYS_sigaltstack, "sigaltstack", OTHER, EPERM, false },
    { SYS_rt_sigaction, "rt_sigaction", OTHER, EPERM, false },
    { SYS_sched_getaffinity, "sched_getaffinity", OTHER, EPERM, false },
    { SYS_sysinfo, "sysinfo", OTHER, EPERM, false },
    { SYS_getrandom, "getrandom", OTHER, ENOSYS, true },
};

enum { RANGES = 64, THREADS = 512, WORDS = 128 };

struct range {  // of code
    uint64_t start, end;
    bool ours, libc;
};

static struct {
    struct range range[RANGES];
    unsigned n_ranges;
    bool known;  // the library and the C library are both there
    struct {
        pid_t tid;
        int error;  // that its call under way shall have; 0: none
    } thread[THREADS];
    long wanted, seen;
    bool on;
    unsigned kinds;
    FILE *report;
} fault;

static void learn_ranges(pid_t tid)
{
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/maps", tid);
    FILE *maps = fopen(path, "re");
    const char *library = getenv("FAULT_LIBRARY");
    bool ours = false, libc = false;
    fault.n_ranges = 0;
    while (maps && fgets(line, sizeof line, maps) && fault.n_ranges < RANGES) {
        unsigned long start, end;
        char access[8];
        if (sscanf(line, "%lx-%lx %7s", &start, &end, access) != 3) continue;
        if (access[2] != 'x') continue;
        struct range range = { start, end, library && strstr(line, library),
            strstr(line, "/libc.so.6") || strstr(line, "/libc-") };
        ours = ours || range.ours;
        libc = libc || range.libc;
        fault.range[fault.n_ranges++] = range;
    }
    if (maps) fclose(maps);
    fault.known = ours && libc;
}

static bool read_memory(pid_t tid, uint64_t at, void *to, size_t bytes)
{
    struct iovec mine = { to, bytes }, theirs = { (void *)at, bytes };
    return process_vm_readv(tid, &mine, 1, &theirs, 1, 0) == (ssize_t)bytes;
}

static const struct range *range_of(uint64_t address)
{
    for (unsigned i = 0; i < fault.n_ranges; i++)
        if (address - fault.range[i].start < fault.range[i].end - fault.range[i].start)
            return &fault.range[i];
    return NULL;
}

/* True when the instruction before `address` is a call: not any number on the stack. */
static bool follows_call(pid_t tid, uint64_t address)
{
    uint8_t code[7];
    if (!read_memory(tid, address - 7, code, 7)) return false;
    if (code[2] == 0xe8) return true;
    for (int i = 0; i < 6; i++)
        if (code[i] == 0xff && (code[i + 1] >> 3 & 7) == 2) return true;
    return false;
}

static bool is_ours(pid_t tid, uint64_t instruction, uint64_t stack)
{
    uint64_t word[WORDS];
    size_t n = WORDS;
    if (!fault.known) learn_ranges(tid);
    if (!fault.known) return false;
    const struct range *range = range_of(instruction);
    if (range && range->ours) return true;
    while (n && !read_memory(tid, stack, word, n * 8)) n /= 2;
    for (size_t i = 0; i < n; i++) {
        range = range_of(word[i]);
        if (range && !range->libc && follows_call(tid, word[i])) return range->ours;
    }
    return false;
}

static int *error_of(pid_t tid)
{
    for (unsigned i = 0; i < THREADS; i++) {
        if (!fault.thread[i].tid) fault.thread[i].tid = tid;
        if (fault.thread[i].tid == tid) return &fault.thread[i].error;
    }
    fprintf(stderr, "fault: too many threads\n");
    exit(99);
}

static void enter(pid_t tid, const struct __ptrace_syscall_info *info)
{
    const struct call *call = NULL;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        if ((uint64_t)calls[i].number == info->entry.nr) call = &calls[i];
    if (!call || !(call->kind & fault.kinds)) return;
    if (!is_ours(tid, info->instruction_pointer, info->stack_pointer)) return;
    fault.seen++;
    if (fault.seen < fault.wanted || (fault.seen > fault.wanted && !fault.on)) return;
    fprintf(fault.report, "%s ", call->name);
    *error_of(tid) = call->interrupted && getenv("FAULT_EINTR") ? EINTR : call->error;
    if (call->number == SYS_close) return;
    struct user_regs_struct registers;
    ptrace(PTRACE_GETREGS, tid, 0, &registers);
    registers.orig_rax = (unsigned long long)-1;
    ptrace(PTRACE_SETREGS, tid, 0, &registers);
}

static void leave(pid_t tid)
{
    int *error = error_of(tid);
    if (!*error) return;
    struct user_regs_struct registers;
    ptrace(PTRACE_GETREGS, tid, 0, &registers);
    registers.rax = (unsigned long long)-*error;
    ptrace(PTRACE_SETREGS, tid, 0, &registers);
    *error = 0;
}

/* Looks at a stop of a thread; returns the signal that it shall get. */
static int look(pid_t tid, int status)
{
    int number = WSTOPSIG(status);
    struct __ptrace_syscall_info info;
    if (number == (SIGTRAP | 0x80)) {
        if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof info, &info) < 0) return 0;
        if (info.op == PTRACE_SYSCALL_INFO_ENTRY) enter(tid, &info);
        if (info.op == PTRACE_SYSCALL_INFO_EXIT) leave(tid);
        return 0;
    }
    if (status >> 16) {  // an event: a new thread or process, an exec
        if (status >> 16 == PTRACE_EVENT_EXEC) fault.known = false;
        return 0;
    }
    return number == SIGSTOP ? 0 : number;  // which new ones begin with
}

static void begin(char **argv)
{
    const char *preload = getenv("FAULT_PRELOAD");
    if (preload) setenv("LD_PRELOAD", preload, 1);
    if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0) _exit(77);
    raise(SIGSTOP);
    execv(argv[0], argv);
    _exit(127);
}

static int follow(pid_t first)
{
    int status, result = 99;
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
        PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    if (waitpid(first, &status, 0) < 0 || !WIFSTOPPED(status)) return 77;
    if (ptrace(PTRACE_SETOPTIONS, first, 0, options) < 0) return 77;
    ptrace(PTRACE_SYSCALL, first, 0, 0);
    pid_t tid;
    while ((tid = waitpid(-1, &status, __WALL)) > 0) {
        if (WIFSTOPPED(status)) {
            ptrace(PTRACE_SYSCALL, tid, 0, (long)look(tid, status));
            continue;
        }
        *error_of(tid) = 0;
        if (tid != first) continue;
        result = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    return result;
}

int main(int argc, char **argv)
{
    if (argc < 6) return 99;
    fault.wanted = strtol(argv[1], NULL, 10);
    fault.on = strcmp(argv[2], "on") == 0;
    fault.kinds = strcmp(argv[3], "files") == 0 ? FILES | OTHER
        : strcmp(argv[3], "memory") == 0        ? MEMORY
                                                : FILES | OTHER | MEMORY;
    fault.report = fopen(argv[4], "we");
    if (!fault.report) return 99;
    fflush(NULL);
    pid_t first = fork();
    if (first == 0) begin(argv + 5);
    int result = follow(first);
    fprintf(fault.report, "\n%ld\n", fault.seen);
    fclose(fault.report);
    return result;
}
#endif
