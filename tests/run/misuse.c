/* SPDX-License-Identifier: MIT */
/*
 * misuse.c - a program that corrupts its heap is stopped with one line.
 *
 * Without check=on what can be seen for nothing; with it every double free, invalid
 * free, and write past the end or after the free.
 *
 * plain: no
 * status: SIGABRT
 * case: double_free
 * arg: double_free
 * stderr: ^tidepool: [^\n]*double[^\n]*\n$
 * case: double_large
 * arg: double_large
 * options: check=on
 * stderr: ^tidepool: .
 * case: interior
 * arg: interior
 * stderr: ^tidepool: [^\n]+\n$
 * case: unaligned
 * arg: unaligned
 * stderr: ^tidepool: [^\n]+\n$
 * case: bad_size
 * arg: bad_size
 * stderr: ^tidepool: [^\n]*size[^\n]*\n$
 * case: bad_link
 * arg: bad_link
 * stderr: ^tidepool: [^\n]+\n$
 * case: double_late_checked
 * arg: double_late
 * options: check=on
 * stderr: ^tidepool: [^\n]*double[^\n]*\n
 * stderr: \ntidepool: allocated here:\ntidepool:   #0 [^\n]*misuse\+0x[0-9a-f]+\n
 * stderr: \ntidepool: freed here:\ntidepool:   #0 [^\n]*misuse\+0x[0-9a-f]+\n
 * stderr: \ntidepool: freed again here:\ntidepool:   #0 [^\n]*misuse\+0x[0-9a-f]+\n
 * case: double_remote_checked
 * arg: double_remote
 * options: check=on
 * stderr: ^tidepool: [^\n]*double[^\n]*\n
 * stderr: \ntidepool: allocated here:\ntidepool:   #0 [^\n]*misuse\+0x[0-9a-f]+\n
 * stderr: \ntidepool: freed here:\ntidepool:   #0 [^\n]*misuse\+0x[0-9a-f]+\n
 * stderr: \ntidepool: freed again here:\ntidepool:   #0 [^\n]*misuse\+0x[0-9a-f]+\n
 * case: interior_checked
 * arg: interior
 * options: check=on
 * stderr: ^tidepool: .
 * case: realloc_freed_checked
 * arg: realloc_freed
 * options: check=on
 * stderr: ^tidepool: .
 * case: past_end_checked
 * arg: past_end
 * options: check=on
 * stderr: ^tidepool: .
 * case: after_free_checked
 * arg: after_free
 * options: check=on
 * stderr: ^tidepool: .
 * case: innocent_checked
 * arg: innocent
 * options: check=on
 * status: 0
 * stderr: ^$
 * expect: delta.totals.allocations == 5000
 * expect: delta.totals.frees == 5000
 */
#include "scene.h"

#include <dlfcn.h>
#include <pthread.h>

static char *volatile block, *volatile other;  // volatile: the compiler must not see

static void *free_it(void *argument)
{
    free(argument);
    return NULL;
}

static void churn(size_t size)
{
    static void *many[5000];
    for (unsigned i = 0; i < 5000; i++) MUST((many[i] = malloc(size)));
    for (unsigned i = 0; i < 5000; i++) free(many[i]);
}

static bool is(const char *mode, const char *word)
{
    return !strcmp(mode, word);
}

static void break_it(const char *mode)
{
    size_t usable = malloc_usable_size(block);
    if (is(mode, "interior")) free(block + 32);
    if (is(mode, "unaligned")) free(block + 8);
    if (is(mode, "past_end")) block[usable] ^= 0x55;
    if (is(mode, "bad_size")) {
        void (*sized)(void *, size_t) =
            (void (*)(void *, size_t))dlsym(NULL, "free_sized");
        MUST(sized);
        sized(block, 4000);
    }
    free(block);
    if (is(mode, "double_late")) free(other);
    if (is(mode, "double_remote")) {
        pthread_t thread;
        pthread_create(&thread, NULL, free_it, block);
        pthread_join(thread, NULL);
    }
    if (is(mode, "bad_link")) *(uintptr_t *)(void *)block = 0x4141414141414140;
    if (is(mode, "after_free")) block[40] ^= 0x55;
    if (is(mode, "realloc_freed")) block = realloc(block, 500);
    if (strncmp(mode, "double", 6) == 0) free(block);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    if (is(mode, "innocent")) {
        dump_now();
        churn(100);
        dump_now();
        return 0;
    }
    block = malloc(is(mode, "double_large") ? 3000017 : 100);
    other = malloc(100);
    break_it(mode);
    churn(100);
    return 0;
}
