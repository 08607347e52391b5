/* SPDX-License-Identifier: MIT */
/*
 * plug.c - a plugin: allocates when it comes and goes, and hands blocks over.
 *
 * Built as libplug.so, and as libquiet_plug.so without the coming and going.
 */
#include <stdlib.h>
#include <string.h>

void *plug_malloc(size_t size);
void plug_free(void *block);
char *plug_text(void);

#if !defined(QUIET)
enum { KEPT = 31 };
static void *kept[KEPT];

__attribute__((constructor)) static void start(void)
{
    for (unsigned i = 0; i < KEPT; i++) kept[i] = malloc(17 + i * 37);
    free(strdup("made by the C library, freed by the plugin"));
}

__attribute__((destructor)) static void end(void)
{
    for (unsigned i = 0; i < KEPT; i++) free(kept[i]);
}

#endif

void *plug_malloc(size_t size)
{
    return malloc(size);
}

void plug_free(void *block)
{
    free(block);
}

char *plug_text(void)
{
    return strdup("a text of the plugin's");
}
