/* SPDX-License-Identifier: MIT */
/*
 * run.h - what `run` and `dump` are made of.
 *
 *     target.c  judges the program       elf.c     reads what it says of itself
 *     launch.c  starts it and waits      gather.c  collects the dumps
 *     output.c  names and places the recording
 *
 * Idea: everything that a run leaves behind is first written into a private folder in
 * memory. Finished dumps are moved from there to the end of the growing recording while
 * the program runs, so that a build of thousands of compilers does not fill the memory;
 * the recording stands beside the wanted name until the end, and then gets it.
 *
 *     FOLDER/run               whose folder it is, for `tidepool ls`
 *     FOLDER/tidepool.P.J.N    live files, one a process
 *     FOLDER/NAME.PID.tide     finished dumps, moved into place whole
 *     WANTED.part              whole dumps; only its end may be half written
 *
 * Holds always:
 *   - no file that exists is ever overwritten: the next free name with .1, .2, ... is
 *     taken instead;
 *   - a recording appears under its name whole or not at all;
 *   - a dump leaves the folder only when the recording has it: kill -9 of the run loses
 *     nothing, and what a full disk does not take stays in the folder.
 *
 * Knows nothing of: figures, formats of output.
 */
#ifndef TP_REPORT_RUN_H
#define TP_REPORT_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "report/pack.h"
#include "report/report.h"

struct tp_image;

/* ---- output.c ------------------------------------------------------------------- */

struct tp_output_words {
    const char *program;  // %e
    uint32_t pid;         // %p
    uint64_t sequence;    // %n
    uint64_t unix_time;   // %t
};

/* Replaces %e %p %h %n %t and %% in `pattern`. The caller frees *out_path. */
bool tp_output_expand(char **out_path, const char *pattern,
    const struct tp_output_words *words, struct tp_error *error);

/* Recordings of these names are compressed: .zst. */
enum tp_packing tp_output_packing(const char *name);

/* Writes the images one after another, or false with errno set. */
bool tp_output_send(
    int fd, enum tp_packing packing, const struct tp_image *images, size_t n_images);

/*
 * Writes the images one after another to `wanted`, compressed if its name says so, or to
 * the next free name; a file beside it grows and is renamed at the end. The caller frees
 * *out_path.
 */
bool tp_output_place(char **out_path, const char *wanted, const struct tp_image *images,
    size_t n_images, struct tp_error *error);

/*
 * Creates WANTED.part, or the next free name, open for writing and for its owner only.
 * The caller closes *out_fd and frees *out_part.
 */
bool tp_output_begin(
    char **out_part, int *out_fd, const char *wanted, struct tp_error *error);

/* Gives a finished file the wanted name, or the next free one. The caller frees it. */
bool tp_output_settle(
    char **out_path, const char *part, const char *wanted, struct tp_error *error);

/*
 * Compresses a finished file into another one beside `wanted`, which is to be settled
 * instead; the caller frees *out_part. Fails: false, and nothing is left of it.
 */
bool tp_output_pack(
    char **out_part, const char *part, const char *wanted, struct tp_error *error);

/* Writes all of it, or false with errno set. */
bool tp_output_write(int fd, const void *bytes, size_t n);

/* ---- target.c ------------------------------------------------------------------- */

enum { TP_TARGET_NOTE = 256 };

/* The file that execvp would run for `command`; the caller frees it. NULL: none. */
char *tp_target_find(const char *command);

enum tp_target {
    TP_TARGET_GOOD,   // covered, as far as can be told
    TP_TARGET_NOTED,  // not covered, or only in part: there is a note
    TP_TARGET_ALONE,  // would not run with the library; there is a note
};

/*
 * Fills `note` with one sentence when the program at `path` will not be covered
 * (static, of another word size, setuid, another C library or allocator, ...).
 * Says nothing about a file that it cannot read or does not know.
 */
enum tp_target tp_target_judge(char note[TP_TARGET_NOTE], const char *path);

/* ---- elf.c ---------------------------------------------------------------------- */

/* What an executable says of itself. Of a file that is cut off: what is left. */
struct tp_elf {
    bool is_32_bit;
    bool is_foreign;        // for another kind of processor
    bool linked;            // by a dynamic linker, or it cannot be told
    char linker[256];       // its path, terminated
    bool own_malloc;        // malloc, free, calloc or realloc, for all to use
    bool hidden_malloc;     // both malloc and free, for itself
    bool is_go;             // compiled by Go
    const char *sanitizer;  // whose runtime it needs before any other library; or NULL
};

/* False when it is no ELF file. */
bool tp_elf_read(struct tp_elf *out, int fd);

/* ---- launch.c ------------------------------------------------------------------- */

/* The path of libtidepool.so; the caller frees it. */
bool tp_launch_library(char **out_path, struct tp_error *error);

/* The value with every comma escaped, as TIDEPOOL wants it; NULL without memory. */
char *tp_launch_escape(const char *value);

struct tp_launch {
    const char *library;  // NULL: the program runs alone
    const char *keys;     // for TIDEPOOL, after those that are there
    char **argv;          // of the program
    uint32_t out_pid;     // what waitpid said
    // What happens meanwhile; either may be NULL. `started` is called when the process
    // is there and its program not yet; `look` says when it wants to be called again.
    void (*started)(void *argument, uint32_t pid);
    unsigned (*look)(void *argument);  // in milliseconds
    void *argument;
};

/*
 * Runs the program to its end and returns its exit status as a shell would, or 126,
 * 127 or 125 with `error` filled when it did not start.
 */
int tp_launch_run(struct tp_launch *launch, struct tp_error *error);

/* ---- gather.c ------------------------------------------------------------------- */

struct tp_gathered_program;

struct tp_gather {
    const char *folder;  // the caller's
    char *part;          // the growing recording; NULL: it could not be made
    int fd;              // of it
    uint64_t n_bytes;    // whole dumps in it
    int why;             // errno: it does not take more
    unsigned pause_ms;   // to the next look
    size_t n_dumps;      // in it
    size_t n_damaged;    // files in the folder that could not be read
    size_t n_running;    // processes that go on: their live files must stay
    struct tp_gathered_program
        *programs;  // whose last dump, or present state, was taken
    size_t n_programs;
};

/*
 * Begins a recording beside `wanted`. Fails: false, and everything will stay in the
 * folder; the object can be used all the same.
 */
bool tp_gather_open(struct tp_gather *out_gather, const char *folder,
    const char *wanted, struct tp_error *error);

/*
 * Moves the dumps that were finished some time ago into the recording, and returns when
 * to look again, in milliseconds.
 */
unsigned tp_gather_look(struct tp_gather *gather);

/*
 * Takes all the rest: dumps, the live files of killed processes, and of those that go on
 * a copy of the present state. `why` says whether the recording took it all.
 */
void tp_gather_finish(struct tp_gather *gather);

/* True when the folder holds nothing any more but the text `run`; then both are removed. */
bool tp_gather_clean(const struct tp_gather *gather);

/* Closes the recording and frees; the file stays. */
void tp_gather_fini(struct tp_gather *gather);

#endif
