/* SPDX-License-Identifier: MIT */
/*
 * life.h - the library inside someone else's process: options, birth, death.
 *
 * Idea: the first call of any entry point opens everything that needs no libc (the
 * pool, the options, the live file); the constructor adds what does (signals, fork
 * and exit handlers). The program must not notice: no change of its output, exit
 * status, errno, signals or descriptors. Whatever fails costs us the profile, never
 * the program its allocation.
 */
#ifndef TP_SHIM_LIFE_H
#define TP_SHIM_LIFE_H

#include "pool/base.h"

#include <malloc.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>

#define TP_SAMPLE_ALL UINT64_MAX  // no mean distance, but every allocation

enum { TP_PATH = 1024 };  // longest path that we write to, terminator included

enum tp_summary { TP_SUMMARY_OFF, TP_SUMMARY_STDERR, TP_SUMMARY_PATH };
enum tp_live_folder { TP_LIVE_AUTO, TP_LIVE_OFF, TP_LIVE_PATH };
enum tp_unwind { TP_UNWIND_AUTO, TP_UNWIND_FP, TP_UNWIND_DWARF };

/* Set once at start, constant afterwards. interface.md section 2 tells the meaning. */
struct tp_options {
    uint64_t sample;  // mean bytes between samples; 0: off; TP_SAMPLE_ALL: exact mode
    char out[TP_PATH];
    bool exit;
    int signal;               // 0: off
    uint64_t interval_ns;     // 0: off
    uint64_t interval_bytes;  // 0: off
    enum tp_live_folder live;
    char live_path[TP_PATH];
    bool command;  // the recording holds the command line
    enum tp_summary summary;
    char summary_path[TP_PATH];
    bool follow;
    bool keep_deepbind;  // deepbind=keep
    uint32_t depth;
    enum tp_unwind unwind;
    bool zero;
    bool check;
    uint64_t reserve;   // 0: auto
    uint64_t purge_ns;  // UINT64_MAX: off
};
extern struct tp_options tp_options;

/* options.c */

/*
 * Fills `out` from the text of TIDEPOOL (NULL: all defaults). What it does not
 * understand it leaves at the default and reports in one line on stderr. `help` as
 * the text prints the table of keys. Pure but for that.
 */
void tp_options_parse(const char *text, struct tp_options *out);

/* Sees to out=, summary= and live= being absolute, now that the folder is known. */
void tp_options_resolve(struct tp_options *options, const char *folder);

/* boot.c */

/* What the process is, learnt once; strings are terminated. */
struct tp_boot {
    uint32_t pid;
    uint32_t ppid;
    uint64_t start_jiffies;  // 0 when /proc is absent
    uint64_t start_unix_ns;
    uint64_t start_monotonic_ns;
    uint64_t start_ticks;
    uint8_t boot_id[16];
    char exe[TP_PATH];
    char name[64];
    char host[64];
    const char *run_folder;  // $XDG_RUNTIME_DIR or NULL
    const char *command;     // n bytes: the arguments, each ended by a NUL
    size_t command_bytes;
    bool aside;             // another allocator serves the program
    uintptr_t first_break;  // where the C library's own heap begins
    bool secure;            // AT_SECURE: no file, no environment, no signal
};
extern struct tp_boot tp_boot;

/* Learns pid and start anew in a forked child. */
void tp_boot_forked(void);

/* Resident bytes of the process and their peak; 0 when unknown. Signal-safe. */
void tp_boot_read_rss(uint64_t *out_now, uint64_t *out_peak);

/* aside.c: another allocator serves the program, and we hand on what reaches us. */

enum tp_aside_state {
    TP_ASIDE_UNKNOWN,
    TP_ASIDE_DECIDING,
    TP_ASIDE_NO,
    TP_ASIDE_YES,
};

struct tp_aside {
    _Atomic(uint32_t) state;  // enum tp_aside_state
    const char *name;         // the first function that is not ours, and
    const char *library;      // whose it is; NULL: all are ours
    bool own;                 // it is the executable itself
};
extern struct tp_aside tp_aside;

/*
 * What would be called without us. Found when calls are to be handed on; free and
 * malloc_usable_size always, for blocks of an allocator that stands behind us.
 */
struct tp_next {
    void *(*malloc)(size_t);
    void (*free)(void *);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*memalign)(size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*valloc)(size_t);
    void *(*pvalloc)(size_t);
    void *(*reallocarray)(void *, size_t, size_t);
    size_t (*malloc_usable_size)(void *);
    int (*malloc_trim)(size_t);
    int (*mallopt)(int, int);
    struct mallinfo (*mallinfo)(void);
    struct mallinfo2 (*mallinfo2)(void);
    int (*malloc_info)(int, FILE *);
    void (*malloc_stats)(void);
};
extern struct tp_next tp_next;

/* Reaches the verdict. Context: once, as the pool opens. */
void tp_aside_decide(void);

/* Opens the pool, and with it the verdict; true when calls are to be handed on. */
TP_COLD bool tp_aside_ask(void);

/* The same; malloc and free need it not, they learn it on their slow paths. */
static inline bool tp_is_aside(void)
{
    // Meets the release in tp_aside_decide().
    uint32_t state = atomic_load_explicit(&tp_aside.state, memory_order_acquire);
    return TP_UNLIKELY(state != TP_ASIDE_NO) && tp_aside_ask();
}

/* loader.c */
void tp_loader_open(void);

/* handlers.c: the same for the program's handlers, whatever the signal */

typedef void (*tp_handler)(int number, siginfo_t *info, void *context);

/* sigaction(), signal() and its kin, with on top of every handler what keeps it from harm. */
int tp_handlers_set(int number, const struct sigaction *wish, struct sigaction *old);
typedef sighandler_t (*tp_setter)(int number, sighandler_t handler);
sighandler_t tp_handlers_set_by(tp_setter set, int number, sighandler_t handler);

/*
 * First of all in a handler that the kernel has called: where it will return to, which is
 * code of the C library's, the same for all.
 */
void tp_handlers_return_to(uintptr_t address);

/* Then, when a signal has come: true when it must wait, and will come again. */
bool tp_handlers_wait(int number, siginfo_t *info, void *context);

/* Calls a handler of the program's for a signal that does not wait. */
void tp_handlers_call(tp_handler handler, int number, siginfo_t *info, void *context);

/* In a forked child nothing waits that came to the parent. */
void tp_handlers_forked(void);

/* signals.c */
void tp_signals_open(void);
void tp_signals_forked(void);

/* fork.c */
void tp_fork_open(void);

/* syscalls.c: forks and filters that programs ask the kernel for themselves */
void tp_syscalls_open(void);

/* exit.c */
void tp_exit_open(void);
void tp_exit_forked(void);

#endif
