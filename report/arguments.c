/* SPDX-License-Identifier: MIT */
/*
 * arguments.c - what a command was given, and one line when that is wrong.
 *
 * argp says three lines for a wrong option, the first by getopt on the standard error,
 * and ends the program. So while it parses the standard error is memory; what it ends
 * with is the first line of that, in our words' form. Help and version go to the
 * standard output and end the program as well: with nothing in that memory.
 */
#include "report/report.h"

#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    FILE *real;    // the standard error; NULL: nothing is being parsed
    FILE *memory;  // in its place; NULL: there was none to be had
    char *text;
    size_t bytes;
    const char *name;  // of the command, which begins each line of argp's
} arguments;

static void tell(void)
{
    if (!arguments.real) return;
    stderr = arguments.real;
    arguments.real = NULL;
    if (!arguments.memory || fclose(arguments.memory) != 0 || !arguments.bytes) return;
    size_t n = strlen(arguments.name);
    char *line = arguments.text;
    if (strncmp(line, arguments.name, n) == 0 && strncmp(line + n, ": ", 2) == 0)
        line += n + 2;
    // The last lines are argp's own; a word of the user's may have some, too.
    char *end = strstr(line, "\nTry `");
    if (!end) end = strrchr(line, '\n');
    if (end) *end = '\0';
    for (char *at = line; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f) *at = '?';
    fprintf(stderr, "tidepool: %s\n", line);
}

bool tp_arguments_parse(
    const struct argp *argp, int argc, char **argv, unsigned flags, void *input)
{
    arguments.name = argv[0];
    arguments.memory = open_memstream(&arguments.text, &arguments.bytes);
    arguments.real = stderr;
    if (arguments.memory) stderr = arguments.memory;
    atexit(tell);
    bool good = argp_parse(argp, argc, argv, flags, NULL, input) == 0;
    tell();
    free(arguments.text);
    arguments.text = NULL;
    return good;
}
