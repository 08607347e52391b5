/* SPDX-License-Identifier: MIT */
/*
 * survey.h - who runs under the library, and what processes have left behind.
 *
 *     live files in the usual folders ---.
 *     folders of `tidepool run`, runs.c --+--survey.c--> struct tp_survey --clean.c
 *     /proc/PID/maps of every process ---'                 offered, then removed
 *
 * Idea: a live file that nobody uses any more is an orphan. Its name says whose it was,
 * but a process may be out of sight (another pid namespace), its number may have been
 * given to another one, or it may have gone on with exec. So three witnesses are heard:
 * the maps of every process that may be read, the process of that number when its maps
 * may not be read, and the kernel, which refuses a read lease on a file that anybody
 * anywhere still has mapped from a descriptor for writing. One of them is enough to
 * leave the file alone.
 *
 * An orphan is offered when it is listed: its mode becomes 0400 and its time the present.
 * Only what was offered is ever removed without being asked for.
 *
 * Holds always:
 *   - nothing is opened through a link, and nothing is unlinked but the very inode that
 *     was judged;
 *   - an orphan has the right name, is a regular file, reads as the live file of the
 *     process in its name (or that process ended before it was filled: it is called so,
 *     or holds nothing but zeros), and belongs to the caller unless that is root.
 *
 * Knows nothing of: text, JSON, terminals.
 */
#ifndef TP_REPORT_SURVEY_H
#define TP_REPORT_SURVEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "report/report.h"

struct stat;
struct tp_image;
struct tp_source;

/* ---- process.c: names of live files, and what processes have mapped ----------------- */

struct tp_live_name {  // tidepool.PID.JIFFIES.N
    uint64_t pid;
    uint64_t jiffies;  // field 22 of /proc/PID/stat
    uint64_t n;
};

/* Takes the last part of a path apart: all of it, nothing before or after. */
bool tp_live_name_parse(struct tp_live_name *out_name, const char *name);

/* The same for a file that is not filled yet: a live file's name and .new. */
bool tp_live_name_unfilled(struct tp_live_name *out_name, const char *name);

/* True when `a` is of a later process, or the later file of the same. */
bool tp_live_name_newer(const struct tp_live_name *a, const struct tp_live_name *b);

struct tp_mapping {
    bool found;    // a live file; the fields below are its
    bool library;  // libtidepool.so is mapped, with a live file or without
    bool deleted;  // the file has no name any more
    bool hidden;   // the maps may not be read
    struct tp_live_name name;
    char range[64];  // of addresses, as /proc/PID/map_files has it
    char path[4096];
};

/* Looks for the newest live file among what the process has mapped. */
void tp_mapping_read(struct tp_mapping *out_mapping, uint32_t pid);

/* Opens what was found; the source is the caller's. */
bool tp_mapping_open(struct tp_source *out_source, const struct tp_mapping *mapping,
    uint32_t pid, struct tp_error *error);

/* The arguments of a running process, each ended by NUL; the caller frees. Or NULL. */
char *tp_process_command(uint32_t pid, size_t *out_n_bytes);

/* ---- runs.c: what `tidepool run` leaves when it is cut off --------------------------- */

/* The folder of a `tidepool run`, and what it says of itself in its file `run`. */
struct tp_found_run {
    char *folder;
    char *command;    // of the run; NULL: not known
    char *recording;  // the part of the recording that is written already; NULL: none
    uint32_t pid;     // of the `tidepool run`; 0: not known
    bool abandoned;   // it ended, and no process of it goes on
    bool packed;      // `tidepool dump FOLDER` has made a recording of it
    bool removed;
    uid_t owner;
    dev_t device;
    ino_t inode;
    uint64_t changed_ns;       // the time of the folder, or of the mark of packing
    size_t n_dumps;            // recordings in the folder
    size_t n_live;             // live files in it
    uint64_t n_bytes;          // of both
    uint64_t recording_bytes;  // of the part outside
};

/* True for the name of a folder that `tidepool run` makes. */
bool tp_run_name(const char *name);

/*
 * Reads whose run the open folder is. It counts as abandoned unless that process runs or
 * the recording is still being written. Fails: only when memory is short.
 */
bool tp_run_read(struct tp_found_run *out_run, int folder, const char *path);

/* What a file takes of the memory behind it: most of its length may be a hole. */
uint64_t tp_file_memory(const struct stat *status);

/* Counts one entry of the folder. */
void tp_run_count(struct tp_found_run *run, int folder, const char *entry);

/* True for a run whose dumps nobody has packed: only force throws it away. */
bool tp_run_holds_dumps(const struct tp_found_run *run);

void tp_run_fini(struct tp_found_run *run);

/* ---- survey.c: everything that is there --------------------------------------------- */

enum tp_found_state {
    TP_FOUND_RUNNING,
    TP_FOUND_STOPPED,  // runs, but is stopped by a signal or a debugger
    TP_FOUND_KILLED,   // ended without a word
    TP_FOUND_EXITED,   // ended well, but could not write its dump: its file says so
};

/* A process that runs under the library, or a live file without one. */
struct tp_found {
    enum tp_found_state state;
    uint32_t pid;  // as the caller's /proc has it; of an orphan, as its name has it
    uint32_t ppid;
    char *name;     // of the program; never NULL
    char *command;  // n_command_bytes, the arguments ended by NUL each; may be NULL
    size_t n_command_bytes;
    uint64_t start_unix_ns;  // 0: not known
    uint64_t end_unix_ns;    // of an orphan: the last sign of life. 0: runs, unknown
    bool counted;            // the figures are known
    int64_t live_bytes;
    int64_t peak_bytes;
    uint64_t allocations;

    char *folder;         // of the live file; NULL: there is none
    char *file;           // its path; NULL: there is none
    uint64_t file_bytes;  // memory that it takes
    dev_t device;
    ino_t inode;
    uid_t owner;
    uint64_t changed_ns;  // the file's time: of an offered one, when it was offered
    struct tp_live_name live_name;
    bool
        orphan;  // nobody uses the file, it is one of ours, and the caller may remove it
    bool offered;  // listed before: mode 0400
    bool removed;
    bool unfilled;  // its process ended while it made the file
    size_t run;     // index of the run whose folder it stands in, or TP_NO_RUN
};

#define TP_NO_RUN SIZE_MAX

struct tp_survey {
    struct tp_found *found;  // running first, by number; then orphans, latest end first
    size_t n_found;
    struct tp_found_run *runs;
    size_t n_runs;
};

/*
 * Looks through `folders`, or through the usual ones when there are none: all that is in
 * them and in the folders of runs below them. With folders of the caller's choice only
 * processes are found whose live file is in one of them.
 *
 * What cannot be read is left out, or listed with what is known.
 * Fails: when memory is short, or a folder named by the caller is none.
 */
bool tp_survey_read(struct tp_survey *out_survey, const char *const *folders,
    size_t n_folders, struct tp_error *error);

void tp_survey_fini(struct tp_survey *survey);

/* True while its process runs, or is stopped. */
bool tp_found_runs(const struct tp_found *found);

/* True for an orphan, unless it belongs to a run that goes on or must be packed first. */
bool tp_found_removable(const struct tp_survey *survey, const struct tp_found *found);

/* True when nobody maps this open file, as far as can be told. See the head. */
bool tp_live_unused(int fd);

enum { TP_USUAL_FOLDERS = 3 };

/* Where live files are looked for: $XDG_RUNTIME_DIR, /dev/shm, /tmp. Returns how many. */
size_t tp_usual_folders(const char *out_folders[TP_USUAL_FOLDERS]);

/*
 * find.c: true for NAME.tide and NAME.tide.zst, and for these with .N: nothing is ever
 * overwritten.
 */
bool tp_recording_name(const char *name);

/* ---- clean.c: offering and removing ---------------------------------------------------- */

enum {
    TP_CLEAN_AGE_DAYS = 7,    // after it was offered, an orphan goes by itself
    TP_CLEAN_KEEP_MIB = 256,  // offered orphans beyond this go by themselves
};

struct tp_clean_wishes {
    uint64_t older_ns;    // only what ended at least so long ago
    uint64_t keep_bytes;  // stop when no more than this is left; 0: go on to the end
    bool force;           // dumps that nobody has packed go, too
};

struct tp_cleaned {
    size_t n_files;  // live files
    size_t n_runs;
    uint64_t n_bytes;
    char problem[256];  // the first thing that could not be removed, and why
};

/* Offers every orphan of the caller's own that was not offered yet. */
void tp_clean_offer(struct tp_survey *survey);

/* Removes what the user wants removed, and marks it so in the survey. */
void tp_clean_asked(struct tp_cleaned *out_cleaned, struct tp_survey *survey,
    const struct tp_clean_wishes *wishes);

/* Removes what is the caller's own, was offered before and is beyond the two limits. */
void tp_clean_offered(struct tp_cleaned *out_cleaned, struct tp_survey *survey);

/*
 * For the end of another command, without listing anything: the same over `folders`, or
 * over the usual ones when there are none. Fills `out_line` with what to tell the user
 * and returns true when something was removed. Costs a look into these folders unless
 * there is something to remove; those of runs are left to `tidepool ls`.
 */
enum { TP_CLEAN_LINE = 200 };
bool tp_clean_in_passing(
    char out_line[TP_CLEAN_LINE], const char *const *folders, size_t n_folders);

/* The sentence that tells what tp_clean_offered() did. */
void tp_cleaned_tell(char out_line[TP_CLEAN_LINE], const struct tp_cleaned *cleaned);

/* ---- folder.c: a folder as an input ------------------------------------------------------ */

struct tp_folder {
    struct tp_image *images;  // the first process of a run first, then as they started
    size_t n_images;
    size_t n_damaged;  // files that could not be read, or only in part
    bool complete;     // nothing is missing, but for half a dump that is there whole
};

/*
 * Reads every recording and live file of a folder; of one that `tidepool run` left, also
 * the part of the recording that was written already.
 *
 * Fails: when there is nothing to be read in it.
 */
bool tp_folder_read(
    struct tp_folder *out_folder, const char *path, struct tp_error *error);

/* Marks the folder of an abandoned run as packed: nothing in it would be missed now. */
void tp_folder_mark_packed(const char *path);

void tp_folder_fini(struct tp_folder *folder);

#endif
