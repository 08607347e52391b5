/* SPDX-License-Identifier: MIT */
/*
 * in_libc.c - what libc allocates for the program, the program frees.
 *
 * expect: delta.totals.live_blocks == 0
 * expect: delta.totals.live_bytes == 0
 * expect: last.coverage.foreign_frees == 0
 */
#include "scene.h"

#include <dlfcn.h>
#include <locale.h>
#include <wchar.h>

int main(void)
{
    dlopen("libthere-is-no-such-library.so", RTLD_NOW);
    MUST(dlerror());  // the message is allocated, and freed with the next one
    dump_now();
    for (unsigned i = 0; i < 101; i++) {
        char *copy = strdup("seventeen characters"), *part = strndup(copy, 7);
        char *text = NULL, *line = NULL, *grown = NULL;
        size_t size = 0, room = 0;
        MUST(asprintf(&text, "%s %0500d", part, (int)i) == 508);
        FILE *stream = open_memstream(&grown, &size);
        for (int n = 0; n < 1000; n++) fprintf(stream, "%d\n", n);
        fclose(stream);
        MUST(size == 3890);
        stream = fmemopen(grown, size, "r");
        while (getline(&line, &room, stream) > 0) {
        }
        fclose(stream);
        wchar_t *wide = wcsdup(L"wide");
        char *path = realpath("/proc/self/../self", NULL), *here = getcwd(NULL, 0);
        MUST(wide && path && here);
        locale_t locale = newlocale(LC_ALL_MASK, "C", NULL);
        freelocale(locale);
        void *owned[] = { copy, part, text, line, grown, wide, path, here };
        for (unsigned n = 0; n < 8; n++) free(owned[n]);
    }
    dump_now();
    return 0;
}
