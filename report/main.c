/* SPDX-License-Identifier: MIT */
/*
 * main.c - the table of commands, and the only place that prints an error.
 *
 * Idea: `tidepool COMMAND ...` finds its row and hands over. Whatever goes wrong below
 * comes back as one line and an exit status.
 */
#include "report/report.h"

#include <argp.h>
#include <stdio.h>
#include <string.h>

static const struct tp_command commands[] = {
    { "run", tp_run_main, "run a program under Tidepool and summarise it" },
    { "report", tp_report_main, "show a recording or a running process" },
    { "dump", tp_dump_main, "write a dump of a running process now" },
    { "ls", tp_ls_main, "list what runs under Tidepool, and what was left behind" },
};

enum { N_COMMANDS = sizeof(commands) / sizeof(commands[0]) };

static void print_usage(FILE *to)
{
    fputs("usage: tidepool COMMAND [options] [FILE|PID|PROGRAM ...]\n\n", to);
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(to, "  %-8s %s\n", commands[i].name, commands[i].help);
    fputs("\n'tidepool COMMAND --help' tells more; the manual is tidepool(1).\n"
          "First steps:  tidepool run ./program   then   tidepool report\n",
        to);
}

/* Prints the message with nothing in it that could steer a terminal. */
static void print_error(const struct tp_error *error)
{
    char line[sizeof(error->text) + 16];
    snprintf(line, sizeof(line), "tidepool: %s\n", error->text);
    for (char *at = line; at[1] != '\0'; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f) *at = '?';
    fputs(line, stderr);
}

static int run_command(const struct tp_command *command, int argc, char **argv)
{
    char name[64];
    struct tp_error error = { "" };
    snprintf(name, sizeof(name), "tidepool %s", command->name);
    argv[0] = name;  // argp names the program so in its messages
    int status = command->main(argc, argv, &error);
    if (error.text[0]) print_error(&error);
    return status;
}

int main(int argc, char **argv)
{
    static char version[64];
    snprintf(version, sizeof(version), "tidepool %s", tp_report_version());
    argp_program_version = version;
    argp_err_exit_status = TP_EXIT_TROUBLE;
    const char *word = argc > 1 ? argv[1] : NULL;
    if (!word) {
        print_usage(stderr);
        return TP_EXIT_TROUBLE;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "help") == 0 ||
        strcmp(word, "-?") == 0 || strcmp(word, "-h") == 0) {
        print_usage(stdout);
        return TP_EXIT_DONE;
    }
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0) {
        puts(version);
        return TP_EXIT_DONE;
    }
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(word, commands[i].name) == 0)
            return run_command(&commands[i], argc - 1, argv + 1);
    struct tp_error error;
    tp_error_set(
        &error, "there is no command '%.40s'; 'tidepool --help' lists them", word);
    print_error(&error);
    return TP_EXIT_TROUBLE;
}
