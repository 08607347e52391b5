/* SPDX-License-Identifier: MIT */
/*
 * controls.c - mallopt, malloc_info and malloc_stats answer, and harm nothing.
 *
 * stderr: (?s).+
 */
#include "scene.h"

int main(void)
{
    MUST(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1);
    MUST(mallopt(M_TRIM_THRESHOLD, 1 << 20) == 1);
    MUST(mallopt(M_ARENA_MAX, 1) == 1);

    char *text = NULL;
    size_t size = 0;
    FILE *stream = open_memstream(&text, &size);
    MUST(stream && malloc_info(0, stream) == 0);
    fclose(stream);
    MUST(strncmp(text, "<malloc version=", 16) == 0 && strstr(text, "</malloc>"));
    free(text);

    errno = 0;
    MUST(malloc_info(1, stderr) != 0);  // options must be 0
    malloc_stats();                     // some words on stderr
    void *block = malloc(100003);
    MUST(mallinfo2().uordblks >= 100003);
    malloc_trim(0);
    free(block);
    return 0;
}
