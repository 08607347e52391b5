/* SPDX-License-Identifier: MIT */
/*
 * neighbours.c - other preloaded libraries, before us and after us.
 *
 * A library that wraps calls of the system and allocates in them must find a heap that
 * works; what we ask the system for ourselves is none of its business. An allocator
 * before us serves the program and gets all that is its own; after us it is nothing.
 *
 * case: alone
 * expect: last.coverage.allocator == 'active'
 * expect: said.wrapped == 0
 * case: wrapper_before
 * preload: wrapper
 * expect: last.coverage.allocator == 'active'
 * expect: last.coverage.foreign_frees == 0
 * expect: last.coverage.reasons == []
 * case: wrapper_after
 * preload_after: wrapper
 * expect: last.coverage.allocator == 'active'
 * expect: last.coverage.foreign_frees == 0
 * case: wrapper_timed
 * preload: wrapper
 * options: interval=64m,purge=0,sample=4k
 * expect: last.coverage.foreign_frees == 0
 * case: wrapper_checked
 * preload: wrapper
 * options: check=on,zero=on
 * expect: last.coverage.allocator == 'active'
 * case: allocator_before
 * preload: other_malloc
 * stderr: ^tidepool: malloc of [^\n]+libother_malloc.so serves the program, [^\n]+\n$
 * expect: last.coverage.allocator == 'inert'
 * expect: last.coverage.reasons == ['other_malloc']
 * expect: last.totals.allocations == 0
 * expect: last.coverage.foreign_frees == 0
 * case: allocator_after
 * preload_after: other_malloc
 * expect: last.coverage.allocator == 'active'
 * expect: last.coverage.reasons == []
 * expect: last.coverage.foreign_frees == 0
 */
#include "scene.h"

#include <pthread.h>

static void *churn(void *unused)
{
    static _Thread_local void *blocks[997];
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 997; i++) MUST((blocks[i] = malloc(17 + i * 13)));
        for (unsigned i = 0; i < 997; i++) free(blocks[i]);
    }
    return unused;
}

int main(void)
{
    pthread_t thread;
    char *line = NULL;
    void *aligned = NULL;
    churn(NULL);
    MUST(!pthread_create(&thread, NULL, churn, NULL) && !pthread_join(thread, NULL));
    for (unsigned i = 0; i < 5; i++) free(realloc(malloc(200003), 1000003));
    free(strdup("a text"));
    MUST(asprintf(&line, "%0300d", 7) == 300);
    free(reallocarray(line, 7, 1009));
    MUST(!posix_memalign(&aligned, 256, 1009) && (uintptr_t)aligned % 256 == 0);
    free(aligned);
    MUST((aligned = aligned_alloc(64, 640)));
    free(aligned);
    pid_t child = fork();
    if (child == 0) {
        churn(NULL);
        exit(0);
    }
    MUST(child > 0);
    const char *wrapped = getenv("WRAPPED_CALLS");
    say("wrapped", wrapped ? strtoull(wrapped, NULL, 10) : 0);
    return 0;
}
