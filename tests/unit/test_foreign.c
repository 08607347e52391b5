/* SPDX-License-Identifier: MIT */
/*
 * test_foreign.c - what glibc made goes back to it, everything else ends in one line.
 */
#include "pool/host.h"
#include "shim/output.h"

#include "tests/unit/tp_test.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_memalign(size_t align, size_t size);
extern void __libc_free(void *p);
// The sanitizers have a __libc_memalign of their own, whose blocks are not glibc's.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ALIGNED(size) __libc_malloc(size)
#else
#define ALIGNED(size) __libc_memalign(4096, size)
#endif

extern char end;  // of the program, from the linker

/* The rest of the shim, as far as foreign.c knows it. */
struct tp_boot tp_boot;
struct tp_next tp_next;
static struct tp_process_record process;

struct tp_process_record *tp_live_process(void)
{
    return &process;
}

static int know_the_break(void **state)
{
    (void)state;
    tp_boot.first_break = (uintptr_t)&end;  // the heap begins above the program
    return 0;
}

static void blocks_of_glibc_are_known_by_their_size(void **state)
{
    (void)state;
    static const size_t sizes[] = { 0, 1, 24, 25, 1000, 100003, 131073, 5000011 };
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        void *p = __libc_malloc(sizes[i]);
        void *aligned = ALIGNED(sizes[i]);
        size_t bytes = tp_host_foreign_bytes(p);
        assert_true(bytes >= sizes[i] && bytes >= 24 && bytes <= sizes[i] + 8192);
        assert_true(tp_host_foreign_bytes(aligned) >= sizes[i]);
        memset(p, 0x5a, bytes);
        tp_host_foreign_free(p);
        tp_host_foreign_free(aligned);
    }
}

/* ---- nonsense ---- */

static _Alignas(4096) char pages[3 * 4096];

struct bad {
    const char *what;
    char *p;
    size_t size;  // what stands where glibc has the size of a chunk
    const char *words;
};

static void free_it(void *p)
{
    tp_host_foreign_free(p);
}

static void expect(const struct bad *bad)
{
    const char *words = test_last_words(free_it, bad->p);
    if (!words || !strstr(words, "tidepool: invalid free of 0x") ||
        !strstr(words, bad->words))
        fail_msg("%s: %s", bad->what, words ? words : "lives on");
    assert_int_equal(tp_host_foreign_bytes(bad->p), 0);
}

static void nonsense_ends_and_says_why(void **state)
{
    (void)state;
    char *gone = mmap(
        NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(gone != MAP_FAILED);
    assert_int_equal(munmap(gone, 4096), 0);
    assert_int_equal(mprotect(gone + 8192, 4096, PROT_NONE), 0);
    static const char *const none = ": no block begins there";
    static const char *const odd = ": no block begins at such an address";
    static const char *const nowhere = ": there is no memory";
    const struct bad table[] = {
        { "zeros before it", pages + 4096, 0, none },
        { "an odd address", pages + 4097, 48, odd },
        { "a multiple of 8", pages + 4104, 48, odd },
        { "less than any chunk", pages + 4096, 16, none },
        { "no multiple of 16", pages + 4096, 56, none },
        { "more than all memory", pages + 4096, (size_t)-16, none },
        { "nothing behind it", pages + 4096, (size_t)1 << 46, none },
        { "a mapping off its page", pages + 4128, 4096 | 2, none },
        { "half a mapping", pages + 4112, 48 | 2, none },
        { "no page", gone + 16, 0, nowhere },
        { "the first block of a mapping", gone + 4096, 0, nowhere },
        { "no access", gone + 8192 + 64, 0, nowhere },
        { "the first page", (char *)16, 0, nowhere },
        { "a number", (char *)0x1230, 0, nowhere },
        { "above all addresses", (char *)0xfffffffffffffff0, 0, nowhere },
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        memset(pages, 0, sizeof(pages));
        if (table[i].size)
            memcpy((char *)((uintptr_t)table[i].p & ~(uintptr_t)15) - 8, &table[i].size,
                sizeof(table[i].size));
        expect(&table[i]);
    }
    munmap(gone + 4096, 8192);
}

static void blocks_of_another_namespace_are_left_alone(void **state)
{
    (void)state;
    size_t size = 48 | 1;
    memset(pages, 0, sizeof(pages));
    memcpy(pages + 4096 - 8, &size, sizeof(size));
    process.namespaces = 1;
    tp_host_foreign_free(pages + 4096);
    assert_int_equal(tp_host_foreign_bytes(pages + 4096), 40);
    void *ours = __libc_malloc(40);
    tp_host_foreign_free(ours);
    assert_ptr_equal(__libc_malloc(40), ours);  // glibc got that one back
    __libc_free(ours);
    process.namespaces = 0;
}

/* ---- an allocator behind us ---- */

static void *freed_elsewhere;

static void other_free(void *p)
{
    freed_elsewhere = p;
}

static size_t other_bytes(void *p)
{
    return p == pages ? 77 : 0;
}

static void what_glibc_did_not_make_is_the_next_allocators(void **state)
{
    (void)state;
    memset(pages, 0, sizeof(pages));
    tp_next.free = other_free;
    tp_next.malloc_usable_size = other_bytes;
    tp_host_foreign_free(pages);
    assert_ptr_equal(freed_elsewhere, pages);
    assert_int_equal(tp_host_foreign_bytes(pages), 77);
    tp_host_foreign_free(__libc_malloc(40));
    assert_ptr_equal(freed_elsewhere, pages);
    tp_next.free = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_of_glibc_are_known_by_their_size),
        cmocka_unit_test(nonsense_ends_and_says_why),
        cmocka_unit_test(blocks_of_another_namespace_are_left_alone),
        cmocka_unit_test(what_glibc_did_not_make_is_the_next_allocators),
    };
    return cmocka_run_group_tests_name("foreign", tests, know_the_break, NULL);
}
