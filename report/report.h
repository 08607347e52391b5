/* SPDX-License-Identifier: MIT */
/*
 * report.h - the ground that every part of the tidepool command stands on.
 *
 * Idea: a command is a row in main.c's table. It says what went wrong by filling a
 * struct tp_error and returning an exit status; only main prints the error.
 *
 * Knows nothing of: recordings, formats, processes.
 */
#ifndef TP_REPORT_REPORT_H
#define TP_REPORT_REPORT_H

#include <stdbool.h>

enum tp_exit {
    TP_EXIT_DONE = 0,
    TP_EXIT_LIMIT = 1,    // a limit that the user asked for was exceeded
    TP_EXIT_TROUBLE = 2,  // wrong use, unreadable or damaged input
    TP_EXIT_RUN_FAILED = 125,
    TP_EXIT_RUN_NOT_EXECUTABLE = 126,
    TP_EXIT_RUN_NOT_FOUND = 127,
};

/* One line for the user, without the leading "tidepool: "; empty while all is well. */
struct tp_error {
    char text[512];
};

/* Fills `error` as printf would. Always returns false, so that a caller can return it. */
bool tp_error_set(struct tp_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * argp_parse(); when a word is wrong, one line on the standard error, and the program
 * ends with argp_err_exit_status. False when a parser has set an error of its own.
 */
struct argp;
bool tp_arguments_parse(
    const struct argp *argp, int argc, char **argv, unsigned flags, void *input);

/* The version of this tool, e.g. "0.1.0". */
const char *tp_report_version(void);

/*
 * A command: `main` receives its own name in argv[0] and returns an exit status.
 * It fills `error` when there is something to print.
 */
struct tp_command {
    const char *name;
    int (*main)(int argc, char **argv, struct tp_error *error);
    const char *help;
};

int tp_report_main(int argc, char **argv, struct tp_error *error);
int tp_dump_main(int argc, char **argv, struct tp_error *error);
int tp_ls_main(int argc, char **argv, struct tp_error *error);
int tp_run_main(int argc, char **argv, struct tp_error *error);

#endif
