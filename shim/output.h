/* SPDX-License-Identifier: MIT */
/*
 * output.h - where the account goes: the live file while the process runs, dumps
 * when someone wants to keep it.
 *
 * Idea: counters live in memory that a small file on tmpfs is mapped over, so they
 * outlive the process whatever kills it. A dump is written from the same memory with
 * plain system calls and may be made in a signal handler.
 */
#ifndef TP_SHIM_OUTPUT_H
#define TP_SHIM_OUTPUT_H

#include "pool/counters.h"
#include "shim/format.h"
#include "shim/life.h"

#include <sys/types.h>

/* live.c */

/*
 * Creates the live file and maps it over the counters. What fails is said in one
 * line; the counters then stay in anonymous memory. Context: once, at start.
 */
void tp_live_open(void);

/* The process record, for flags and counts that come up later. */
struct tp_process_record *tp_live_process(void);

/* Notes that the program has given up system calls, as tp_os_sandboxed says. */
void tp_live_note_sandbox(void);

/* True in a forked child that has lived too short to have an account of its own. */
bool tp_live_is_fresh_fork(void);

/* True in a forked child whose file is still to be made. */
bool tp_live_is_due(void);

/* Makes a file again after tp_live_remove(): the process goes on after all. */
void tp_live_reopen(void);

/*
 * The process ends, its file stays and says so: it is the last dump. Makes no system
 * call but for the clock.
 */
void tp_live_close(void);

/* Removes the file: its account is in a dump, or nobody wants it. Idempotent. */
void tp_live_remove(void);

/*
 * In a forked child, before anything counts: private copies take the place of the
 * parent's pages. The child's own file is made by tp_live_settle().
 */
void tp_live_forked(void);

/* Makes the file that a fork left due, and refreshes the clocks in the header. */
void tp_live_settle(void);

/* The parts of the file, for the dump. */
struct tp_live_view {
    const struct tp_process_record *process;
    const char *exe;  // exe_bytes of it, not terminated
    uint64_t exe_bytes;
    const char *command;  // each argument ended by a NUL
    uint64_t command_bytes;
    const struct tp_ended_record *ended;
    uint64_t n_ended;
    uint32_t flags;       // enum tp_file_flags
    uint64_t file_bytes;  // of the live file; 0 without one
};
struct tp_live_view tp_live_view(void);

/* frozen.c */

/* The counters of all threads at one moment: those that hold something. */
struct tp_frozen {
    struct tp_counters *slots;
    uint32_t n_slots;
    uint32_t room;  // slots that `slots` could hold
    struct tp_ended_record *ended;
    uint64_t n_ended;
    size_t bytes;  // of the memory that holds both
};

/* Fails: false, without memory, with nothing taken. Context: signal-safe. */
bool tp_frozen_take(struct tp_frozen *out, const struct tp_live_view *view);
void tp_frozen_drop(struct tp_frozen *frozen);

/* growth.c: parts of the live file */

struct tp_live_place {
    char path[TP_PATH];
    dev_t device;
    ino_t inode;
    uint64_t length;  // its hole included
    void *start;      // where its first byte is mapped
};

/* Maps `bytes` of an open file at `at`; false: errno says why. */
bool tp_growth_map_part(int fd, void *at, size_t bytes, uint64_t offset);

/* Reserves pages of an open file; 0 or an errno. Heeds RLIMIT_FSIZE, which would kill. */
int tp_growth_reserve(int fd, uint64_t offset, uint64_t bytes);

/* Maps a further part of the file at `at`, reserved; 0, or an errno and zeros there. */
int tp_growth_map(
    const struct tp_live_place *place, void *at, uint64_t offset, size_t bytes);

/*
 * Zeros take the place of a part of the file (NULL: there is none), which gives its
 * pages back. False: nothing has changed.
 */
bool tp_growth_release(
    const struct tp_live_place *place, void *at, uint64_t offset, size_t bytes);

/* names.c: 0, or an errno: EEXIST, and nothing has changed, when `to` is taken. */
int tp_names_give(const char *from, const char *to);

/* dump.c */

/*
 * Writes a dump to the next free name of out=, and the summary if there is to be
 * one. One at a time: a second one is dropped. Says why when it fails.
 * Context: anywhere, signal handlers included; preserves errno.
 */
void tp_dump_write(enum tp_dump_reason reason);

/* From here on tp_dump_withdraw() knows of no dump until one is written. */
void tp_dump_forget(void);

/* Removes the last dump: it was made for an exec that failed. */
void tp_dump_withdraw(void);

/* Lets a forked child make dumps of its own. */
void tp_dump_forked(void);

/* summary.c */

/* The account on one screen, as text; returns its length. Signal-safe. */
size_t tp_summary_write(char *out, size_t size, enum tp_dump_reason reason);

#endif
