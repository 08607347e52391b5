/* SPDX-License-Identifier: MIT */
/*
 * run.c - `tidepool run COMMAND`: start, gather while it runs, name, summarise.
 *
 * The program's own output stays its own: all that this command says goes to the
 * standard error, after the program has ended; before it only what cannot wait.
 */
#include "report/run.h"

#include <argp.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "report/emit.h"
#include "report/frames.h"
#include "report/model.h"
#include "report/survey.h"

enum {
    OPTION_COLOUR = 256,
    OPTION_FOLLOW,
    OPTION_NO_FOLLOW,
    COMMAND_BYTES = 1024,  // of the command line in the text `run`
};

struct wishes {
    const char *out;
    const char *sample;
    const char *signal;
    const char *depth;
    const char *unwind;
    const char *follow;
    const char *colour;
    bool quiet;
    char **argv;
};

static error_t take_option(int key, char *value, struct argp_state *state)
{
    struct wishes *wishes = state->input;
    switch (key) {
    case 's':
        wishes->sample = value;
        return 0;
    case 'o':
        wishes->out = value;
        return 0;
    case 'S':
        wishes->signal = value;
        return 0;
    case 'd':
        wishes->depth = value;
        return 0;
    case 'u':
        wishes->unwind = value;
        return 0;
    case 'q':
        wishes->quiet = true;
        return 0;
    case OPTION_FOLLOW:
        wishes->follow = "on";
        return 0;
    case OPTION_NO_FOLLOW:
        wishes->follow = "off";
        return 0;
    case OPTION_COLOUR:
        wishes->colour = value;
        if (strcmp(value, "auto") != 0 && strcmp(value, "always") != 0 &&
            strcmp(value, "never") != 0)
            argp_error(state, "--color takes auto, always or never");
        return 0;
    case ARGP_KEY_ARGS:
        wishes->argv = state->argv + state->next;
        return 0;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "which program? Give its command line");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---- before --------------------------------------------------------------------------- */

/* Makes a private folder, in memory if possible. The caller frees *out_folder. */
static bool make_folder(char **out_folder, struct tp_error *error)
{
    static const char *const places[] = { "/dev/shm/tidepool-run.XXXXXX",
        "/tmp/tidepool-run.XXXXXX" };
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        char *folder = strdup(places[i]);
        if (folder && mkdtemp(folder)) {
            *out_folder = folder;
            return true;
        }
        free(folder);
    }
    return tp_error_set(
        error, "cannot make a folder in /dev/shm or /tmp: %s", strerror(errno));
}

static void add_key(FILE *to, const char *name, const char *value)
{
    char *escaped = value ? tp_launch_escape(value) : NULL;
    if (escaped) fprintf(to, "%s=%s,", name, escaped);
    free(escaped);
}

/* The keys for TIDEPOOL; the folder is one of ours and needs no escape. */
static bool make_keys(char **out_keys, const struct wishes *wishes, const char *folder)
{
    size_t size = 0;
    FILE *to = open_memstream(out_keys, &size);
    if (!to) return false;
    add_key(to, "sample", wishes->sample);
    add_key(to, "signal", wishes->signal);
    add_key(to, "depth", wishes->depth);
    add_key(to, "unwind", wishes->unwind);
    add_key(to, "follow", wishes->follow);
    // Whatever the user's own TIDEPOOL says: without last dumps there is no recording.
    fprintf(to, "exit=on,live=%s,out=%s/%%e.%%p.tide", folder, folder);
    return fclose(to) == 0;
}

/* Says what will not be covered; false when the program must run alone. */
static bool judge_target(const struct wishes *wishes)
{
    char note[TP_TARGET_NOTE];
    char *path = tp_target_find(wishes->argv[0]);
    enum tp_target judged = path ? tp_target_judge(note, path) : TP_TARGET_GOOD;
    if (judged != TP_TARGET_GOOD) fprintf(stderr, "tidepool: %s\n", note);
    free(path);
    return judged != TP_TARGET_ALONE;
}

/* ---- meanwhile ------------------------------------------------------------------------ */

/* A run from its start to its end. */
struct session {
    const struct wishes *wishes;
    char *folder;
    char *wanted;  // name of the recording; NULL until the process is there
    struct tp_gather gather;
};

/* The arguments on one line, with \xNN for what would not stay on it. */
static void write_command(FILE *to, char *const *argv)
{
    size_t room = COMMAND_BYTES;
    fputs("command=", to);
    for (size_t i = 0; argv[i] && room > 0; i++) {
        if (i > 0) fputc(' ', to);
        for (const char *at = argv[i]; *at && room > 0; at++, room--) {
            unsigned char byte = (unsigned char)*at;
            if (byte < 0x20 || byte == 0x7f || byte == '\\')
                fprintf(to, "\\x%02x", byte);
            else
                fputc(byte, to);
        }
    }
    fputc('\n', to);
}

/* A path that another process can use; NULL when it cannot stand on a line. */
static char *whole_path(const char *path)
{
    char *whole = NULL;
    char *folder = path[0] == '/' ? NULL : getcwd(NULL, 0);
    if (path[0] == '/')
        whole = strdup(path);
    else if (folder && asprintf(&whole, "%s/%s", folder, path) < 0)
        whole = NULL;
    free(folder);
    if (!whole || !strchr(whole, '\n')) return whole;
    free(whole);
    return NULL;
}

/*
 * Writes the text `run` into the folder: who makes which recording. Should this process
 * be killed, `tidepool ls` and `tidepool dump FOLDER` go by it. It is not worth a word
 * when that fails.
 */
static void write_text(const struct session *session, const char *part)
{
    char *path = NULL;
    char *fresh = NULL;
    struct tp_process_now now;
    tp_process_now_read(&now, (uint32_t)getpid());
    if (asprintf(&path, "%s/run", session->folder) < 0) return;
    FILE *to = asprintf(&fresh, "%s.part", path) < 0 ? NULL : fopen(fresh, "wxe");
    if (to) {
        char *whole = part ? whole_path(part) : NULL;
        fprintf(to, "pid=%d\nstart=%llu\n", (int)getpid(),
            (unsigned long long)now.start_jiffies);
        if (whole) fprintf(to, "recording=%s\n", whole);
        write_command(to, session->wishes->argv);
        if (fclose(to) == 0) rename(fresh, path);
        free(whole);
    }
    free(fresh);
    free(path);
}

/* Begins the recording: its name may hold the number of the process. */
static void begin(void *argument, uint32_t pid)
{
    struct session *session = argument;
    struct tp_error error;
    const char *name = session->wishes->argv[0];
    const char *slash = strrchr(name, '/');
    struct tp_output_words words = {
        .program = slash ? slash + 1 : name,
        .pid = pid,
        .unix_time = (uint64_t)time(NULL),
    };
    bool good =
        tp_output_expand(&session->wanted, session->wishes->out, &words, &error) &&
        tp_gather_open(&session->gather, session->folder, session->wanted, &error);
    if (!good)
        fprintf(stderr, "tidepool: %s; the recording stays in %s\n", error.text,
            session->folder);
    write_text(session, session->gather.part);
}

static unsigned look(void *argument)
{
    struct session *session = argument;
    return tp_gather_look(&session->gather);
}

/* ---- after ---------------------------------------------------------------------------- */

static void summarise(const struct wishes *wishes, const char *path)
{
    struct tp_report report;
    struct tp_error error;
    if (!tp_report_open(&report, &path, 1, &error)) {
        fprintf(stderr, "tidepool: %s\n", error.text);
        return;
    }
    struct tp_writer writer;
    struct tp_view view;
    tp_view_init(&view);
    view.brief = true;
    report.view = &view;
    fflush(stderr);
    tp_writer_init(&writer, STDERR_FILENO);
    tp_writer_adorn(&writer, wishes->colour);
    tp_write_text(&writer, "\n");
    tp_text_write(&writer, &report);
    tp_write_format(&writer, "\nnext:  tidepool report %s\n", path);
    tp_writer_finish(&writer, "the summary", &error);
    tp_report_fini(&report);
}

/* Says what is missing from the recording, a line each. */
static void tell_gaps(const struct tp_gather *gather, bool started)
{
    if (gather->n_damaged)
        fprintf(stderr, "tidepool: %zu file%s of this run could not be read; see %s\n",
            gather->n_damaged, gather->n_damaged == 1 ? "" : "s", gather->folder);
    if (gather->n_running)
        fprintf(stderr, "tidepool: %zu process%s of this run %s on; see %s\n",
            gather->n_running, gather->n_running == 1 ? "" : "es",
            gather->n_running == 1 ? "goes" : "go", gather->folder);
    if (gather->n_dumps == 0 && !gather->why && started)
        fputs("tidepool: no recording: no process of this run loaded the library\n",
            stderr);
}

/*
 * Compresses the recording when its name says so. It was gathered as it is, so that what
 * a killed run leaves can be read; without room for both it stays so, name and all.
 */
static void pack(struct session *session)
{
    struct tp_gather *gather = &session->gather;
    struct tp_error error;
    char *part = NULL;
    if (tp_output_packing(session->wanted) == TP_PACKING_NONE) return;
    if (!tp_output_pack(&part, gather->part, session->wanted, &error)) {
        fprintf(stderr, "tidepool: %s; the recording is not compressed\n", error.text);
        return;
    }
    unlink(gather->part);
    free(gather->part);
    gather->part = part;
}

/* Gives the recording its name and shows what is in it. */
static bool settle(struct session *session, struct tp_error *error)
{
    struct tp_gather *gather = &session->gather;
    char *path = NULL;
    if (gather->n_dumps == 0) {
        unlink(gather->part);
        return true;
    }
    pack(session);
    bool good = tp_output_settle(&path, gather->part, session->wanted, error);
    if (path && !session->wishes->quiet) summarise(session->wishes, path);
    free(path);
    return good;
}

/* Makes the recording and the summary. */
static bool finish(struct session *session, bool started, struct tp_error *error)
{
    struct tp_gather *gather = &session->gather;
    if (!session->wanted) {  // there is no process
        rmdir(session->folder);
        return true;
    }
    signal(SIGXFSZ, SIG_IGN);  // as meanwhile: a file too large is an error, no death
    tp_gather_finish(gather);
    if (!gather->why && close(gather->fd) < 0) gather->why = errno;
    gather->fd = -1;
    tell_gaps(gather, started);
    if (gather->why) {
        bool nothing_stays = tp_gather_clean(gather);
        const char *name = gather->part ? gather->part : session->wanted;
        if (nothing_stays && gather->n_dumps == 0) {
            if (gather->part) unlink(gather->part);
            return true;
        }
        return nothing_stays
            ? tp_error_set(error, "cannot write %s: %s", name, strerror(gather->why))
            : tp_error_set(error, "cannot write %s: %s; what it lacks stays in %s",
                  name, strerror(gather->why), session->folder);
    }
    bool good = settle(session, error);
    // What says that a part belongs to the folder would now say it of the recording.
    if (good && !tp_gather_clean(gather)) write_text(session, NULL);
    return good;
}

/* What earlier processes left, once it was listed and is old, goes in passing. */
static void clean_in_passing(const struct wishes *wishes)
{
    char line[TP_CLEAN_LINE];
    if (!wishes->quiet && tp_clean_in_passing(line, NULL, 0))
        fprintf(stderr, "tidepool: %s\n", line);
}

/*
 * A recording is made beside its name and then renamed, so it needs to be a file. What
 * is known of the name before the start is judged then: without letters, all of it.
 */
static bool judge_output(const char *out, struct tp_error *error)
{
    struct stat status;
    if (strcmp(out, "-") == 0)
        return tp_error_set(error,
            "the recording cannot go to the standard output, which is the program's; "
            "name a file with -o");
    if (stat(out, &status) < 0 || S_ISREG(status.st_mode)) return true;
    return tp_error_set(error, "cannot write %s: it is not a file", out);
}

static int run(const struct wishes *wishes, struct tp_error *error)
{
    char *library = NULL;
    char *keys = NULL;
    int status = TP_EXIT_RUN_FAILED;
    struct session session = { .wishes = wishes, .gather.fd = -1 };
    if (!judge_output(wishes->out, error)) goto done;
    if (!tp_launch_library(&library, error)) goto done;
    if (!make_folder(&session.folder, error)) goto done;
    if (!make_keys(&keys, wishes, session.folder)) {
        tp_error_set(error, "out of memory");
        goto done;
    }
    struct tp_launch launch = { .library = judge_target(wishes) ? library : NULL,
        .keys = keys,
        .argv = wishes->argv,
        .started = begin,
        .look = look,
        .argument = &session };
    status = tp_launch_run(&launch, error);
    bool started = error->text[0] == '\0';
    // A recording that cannot be written must not hide how the program ended.
    (void)finish(&session, started, error);
    clean_in_passing(wishes);
done:
    tp_gather_fini(&session.gather);
    free(session.wanted);
    free(session.folder);
    free(keys);
    free(library);
    return status;
}

int tp_run_main(int argc, char **argv, struct tp_error *error)
{
    static const struct argp_option options[] = {
        { "sample", 's', "SIZE", 0, "mean bytes between stack samples; off; all", 0 },
        { "out", 'o', "FILE", 0,
            "name of the recording, with %e %p %h %n %t; default tidepool.%e.%p.tide; .zst "
            "is compressed",
            0 },
        { "signal", 'S', "SIGNAL", 0, "dump on this signal; off", 0 },
        { "follow", OPTION_FOLLOW, NULL, 0, "cover programs that the program starts",
            0 },
        { "no-follow", OPTION_NO_FOLLOW, NULL, 0, "do not", 0 },
        { "depth", 'd', "N", 0, "frames kept per stack (1-256)", 0 },
        { "unwind", 'u', "HOW", 0, "auto, fp or dwarf", 0 },
        { "color", OPTION_COLOUR, "WHEN", 0,
            "colour in the summary: auto, always, never", 0 },
        { "quiet", 'q', NULL, 0, "no summary", 0 },
        { 0 },
    };
    static const struct argp argp = {
        .options = options,
        .parser = take_option,
        .args_doc = "[--] COMMAND [ARGUMENT...]",
        .doc =
            "Runs COMMAND under Tidepool, makes one recording of it and the processes "
            "it starts, and shows a summary on the standard error.\v"
            "The exit status is COMMAND's, 128+n when signal n ended it, 125 when "
            "Tidepool failed, 126 when COMMAND cannot be executed, 127 when it is not "
            "found.",
    };
    struct wishes wishes = { .out = "tidepool.%e.%p.tide", .colour = "auto" };
    argp_err_exit_status = TP_EXIT_RUN_FAILED;
    if (!tp_arguments_parse(&argp, argc, argv, ARGP_IN_ORDER, &wishes))
        return TP_EXIT_RUN_FAILED;
    return run(&wishes, error);
}
