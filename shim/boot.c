/* SPDX-License-Identifier: MIT */
/*
 * boot.c - start-up in its order, and the only reader of /proc.
 *
 *   1. the first call of malloc, free, ... in any thread (the dynamic loader may be
 *      that caller, long before libc is set up): tp_host_start() reads arguments and
 *      environment from the initial stack, parses TIDEPOOL; the pool opens;
 *   2. right after: tp_host_started() creates the live file;
 *   3. the constructor: what needs libc, handlers of signals, fork and exit.
 *
 * Nothing here allocates or uses stdio; files are read with plain system calls.
 */
#include "shim/life.h"

#include "pool/host.h"
#include "pool/pool.h"
#include "shim/output.h"
#include "shim/profile.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

extern void *__libc_stack_end;  // of the dynamic loader: where the kernel put argc

struct tp_boot tp_boot;

enum { WATCHED_SHARE = 16 };  // of an interval in bytes that may pass unnoticed

static struct {
    const char *setting;  // text of TIDEPOOL, NULL when unset or not to be trusted
} boot;

/* Reads up to size - 1 bytes of a small file; terminated. Returns the length. */
static size_t read_file(const char *path, char *out, size_t size)
{
    out[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, out, size - 1);
    close(fd);
    size_t length = n > 0 ? (size_t)n : 0;
    out[length] = '\0';
    return length;
}

static uint64_t parse_number(const char *text)
{
    uint64_t value = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        value = value * 10 + (uint64_t)(*text - '0');
    return value;
}

/* Field 22 of /proc/self/stat; the name in field 2 may hold spaces and brackets. */
static uint64_t read_start_jiffies(void)
{
    char text[1024];
    read_file("/proc/self/stat", text, sizeof(text));
    const char *at = strrchr(text, ')');
    for (int field = 2; at && field < 22; field++) {
        at = strchr(at + 1, ' ');
    }
    return at ? parse_number(at + 1) : 0;
}

static void read_boot_id(uint8_t out[16])
{
    char text[64];
    read_file("/proc/sys/kernel/random/boot_id", text, sizeof(text));
    unsigned n = 0;
    for (const char *at = text; *at && n < 32; at++) {
        int digit = *at >= '0' && *at <= '9' ? *at - '0'
            : *at >= 'a' && *at <= 'f'       ? *at - 'a' + 10
                                             : -1;
        if (digit < 0) continue;
        out[n / 2] = (uint8_t)(out[n / 2] << 4 | digit);
        n++;
    }
}

static void read_identity(void)
{
    tp_boot.pid = (uint32_t)syscall(SYS_getpid);
    tp_boot.ppid = (uint32_t)syscall(SYS_getppid);
    tp_boot.start_jiffies = read_start_jiffies();
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    tp_boot.start_unix_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    tp_boot.start_monotonic_ns = tp_os_now_ns();
    tp_boot.start_ticks = tp_os_ticks();
}

static void read_names(void)
{
    ssize_t n = readlink("/proc/self/exe", tp_boot.exe, sizeof(tp_boot.exe) - 1);
    if (n < 0) n = 0;
    tp_boot.exe[n] = '\0';
    const char *last = strrchr(tp_boot.exe, '/');
    const char *name = last ? last + 1 : tp_boot.exe;
    if (!*name && tp_boot.command_bytes) {
        last = strrchr(tp_boot.command, '/');
        name = last ? last + 1 : tp_boot.command;
    }
    tp_format(tp_boot.name, sizeof(tp_boot.name), "%s", *name ? name : "unknown");
    struct utsname system;
    if (uname(&system) == 0)
        tp_format(tp_boot.host, sizeof(tp_boot.host), "%s", system.nodename);
}

/* Arguments, environment and auxiliary vector, where the kernel left them. */
static void read_stack(void)
{
    size_t argc = *(size_t *)__libc_stack_end;
    char **argv = (char **)__libc_stack_end + 1;
    char **env = argv + argc + 1;
    if (argc) {
        tp_boot.command = argv[0];
        tp_boot.command_bytes =
            (size_t)(argv[argc - 1] - argv[0]) + strlen(argv[argc - 1]) + 1;
    }

    const char *setting = NULL;
    char **at = env;
    for (; *at; at++) {
        if (strncmp(*at, "TIDEPOOL=", 9) == 0) setting = *at + 9;
        if (strncmp(*at, "XDG_RUNTIME_DIR=", 16) == 0) tp_boot.run_folder = *at + 16;
    }
    const ElfW(auxv_t) *aux = (const ElfW(auxv_t) *)(void *)(at + 1);
    for (; aux->a_type != AT_NULL; aux++)
        if (aux->a_type == AT_SECURE) tp_boot.secure = aux->a_un.a_val != 0;
    boot.setting = tp_boot.secure ? NULL : setting;
}

void tp_host_start(struct tp_pool_options *out_options)
{
    int saved = errno;
    read_stack();
    tp_boot.first_break = (uintptr_t)sbrk(0);
    tp_options_parse(boot.setting, &tp_options);
    out_options->reserve = (size_t)tp_options.reserve;
    out_options->purge_ns = tp_options.purge_ns;
    out_options->zero = tp_options.zero;
    out_options->check = tp_options.check;
    out_options->exact = tp_options.sample == TP_SAMPLE_ALL;
    if (tp_options.interval_bytes)
        out_options->watch_bytes =
            (int64_t)(tp_options.interval_bytes / WATCHED_SHARE + 1);
    tp_aside_decide();
    tp_boot.aside = tp_aside.state == TP_ASIDE_YES;
    out_options->inert = tp_boot.aside;
    if (!tp_boot.aside) tp_sample_open();

    char folder[TP_PATH];
    long length = syscall(SYS_getcwd, folder, sizeof(folder));
    if (length <= 0) folder[0] = '\0';
    tp_options_resolve(&tp_options, folder);
    read_identity();
    read_boot_id(tp_boot.boot_id);
    read_names();
    errno = saved;
}

void tp_host_started(void)
{
    int saved = errno;
    if (!tp_boot.aside &&
        !atomic_load_explicit(&tp_account.totals.range_bytes, memory_order_relaxed))
        tp_say(
            "no address space for the pools: slower, all blocks are counted as large");
    tp_live_open();
    errno = saved;
}

/* follow=off: takes this library out of LD_PRELOAD, where the kernel put it. */
static void stay_behind(void)
{
    static const char ours[] = "libtidepool.so";
    for (char **at = environ; at && *at; at++) {
        if (strncmp(*at, "LD_PRELOAD=", 11) != 0) continue;
        char *list = *at + 11, *name = strstr(list, ours);
        if (!name) return;
        char *begin = name, *end = name + sizeof(ours) - 1;
        while (begin > list && begin[-1] != ':' && begin[-1] != ' ') begin--;
        if (*end)
            end++;
        else if (begin > list)
            begin--;
        memmove(begin, end, strlen(end) + 1);
    }
}

/* Says who serves the program in our place, and puts it on record. */
static void stand_aside(void)
{
    tp_say("%s of %s serves the program, its blocks are not counted", tp_aside.name,
        tp_aside.library);
    tp_live_process()->flags |=
        TP_PROCESS_INERT | (tp_aside.own ? 0 : (uint32_t)TP_PROCESS_OTHER_MALLOC);
}

static __attribute__((constructor)) void finish_start(void)
{
    int saved = errno;
    tp_pool_counters();
    if (!tp_options.follow) stay_behind();
    tp_loader_open();
    if (!tp_boot.secure) {
        if (tp_boot.aside) stand_aside();
        tp_fork_open();
        tp_syscalls_open();
        tp_exit_open();
        tp_signals_open();
    }
    errno = saved;
}

void tp_boot_forked(void)
{
    read_identity();
}

void tp_boot_read_rss(uint64_t *out_now, uint64_t *out_peak)
{
    char text[128];
    struct rusage usage;
    *out_now = *out_peak = 0;
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        *out_peak = (uint64_t)usage.ru_maxrss * 1024;
    if (!read_file("/proc/self/statm", text, sizeof(text))) return;
    const char *second = strchr(text, ' ');
    if (second) *out_now = parse_number(second + 1) * tp_os_page();
    if (*out_peak < *out_now) *out_peak = *out_now;
}
