/* SPDX-License-Identifier: MIT */
/*
 * error.c - one message, made where the fault is seen and printed by main.
 */
#include "report/report.h"

#include <stdarg.h>
#include <stdio.h>

bool tp_error_set(struct tp_error *error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof(error->text), format, arguments);
    va_end(arguments);
    return false;
}

const char *tp_report_version(void)
{
    return TP_VERSION;
}
