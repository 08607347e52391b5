/* SPDX-License-Identifier: MIT */
/*
 * run.h - what `run` and `dump` are made of.
 *
 *     target.c  judges the program       elf.c     reads what it says of itself
 *     launch.c  starts it and waits      gather.c  collects the dumps
 *     output.c  names and places the recording
 *
 * Idea: everything that a run leaves behind is first written into a private folder;
 * one recording is made of it, placed beside the user's files in one step, and the
 * folder goes.
 *
 * Holds always:
 *   - no file that exists is ever overwritten: the next free name with .1, .2, ... is
 *     taken instead;
 *   - a recording appears under its name whole or not at all.
 *
 * Knows nothing of: figures, formats of output.
 */
#ifndef TP_REPORT_RUN_H
#define TP_REPORT_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/*
 * Writes the images one after another to `wanted`, or to the next free name; a file
 * beside it grows and is renamed at the end. The caller frees *out_path.
 */
bool tp_output_place(char **out_path, const char *wanted, const struct tp_image *images,
    size_t n_images, struct tp_error *error);

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
};

/*
 * Runs the program to its end and returns its exit status as a shell would, or 126,
 * 127 or 125 with `error` filled when it did not start.
 */
int tp_launch_run(struct tp_launch *launch, struct tp_error *error);

/* ---- gather.c ------------------------------------------------------------------- */

struct tp_gathered {
    struct tp_image *images;  // the main process first, its latest dump foremost
    size_t n_images;
    size_t n_damaged;  // files that could not be read
    size_t n_running;  // processes that go on: their live files must stay
};

/* Reads what the run left in `folder`. Fails: only when memory is short. */
bool tp_gather_read(struct tp_gathered *out_gathered, const char *folder,
    uint32_t main_pid, struct tp_error *error);

/* Deletes what was read, and the folder unless a process still needs it. */
void tp_gather_clean(const struct tp_gathered *gathered, const char *folder);

void tp_gather_fini(struct tp_gathered *gathered);

#endif
