/* SPDX-License-Identifier: MIT */
/*
 * witness_work.c - one thread, a fixed row of calls of every kind, for witness.py.
 *
 * Through stdio, so that libc's own calls are counted by both as well.
 */
#include "scene.h"

int main(void)
{
    static void *slot[211];
    uint64_t state = 611953;
    for (unsigned step = 0; step < 40009; step++) {
        unsigned i = (unsigned)(draw(&state) % 211);
        size_t size = 1 + (size_t)(draw(&state) % 5003);
        switch (draw(&state) % 5) {
        case 0:
            if (slot[i])
                free(slot[i]);  // memusage counts free(NULL), the account does not
            slot[i] = NULL;
            break;
        case 1:
        case 2:
            slot[i] = realloc(slot[i], size);
            break;
        case 3:
            if (slot[i]) free(slot[i]);
            slot[i] = calloc(size % 7 + 1, size);
            break;
        default:
            if (slot[i]) free(slot[i]);
            slot[i] = malloc(size);
        }
        if (step % 1009 == 0) printf("%u %d\n", step, slot[i] != NULL);
    }
    for (unsigned i = 0; i < 211; i++)
        if (slot[i]) free(slot[i]);
    char *text = NULL;
    MUST(asprintf(&text, "%0777d", 5) == 777);
    free(text);
    return 0;
}
