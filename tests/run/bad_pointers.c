/* SPDX-License-Identifier: MIT */
/*
 * bad_pointers.c - every kind of pointer that is no block of ours, in every call.
 *
 * A table: what is given, to which call, and what comes of it. Each row runs in a child
 * of its own, once; a crash inside of us or of glibc is never an outcome. The blocks of
 * glibc's own heap are no nonsense and stay good, also with check=on.
 *
 * plain: no
 * status: 0
 * case: default
 * expect: last.coverage.foreign_frees == 0
 * case: checked
 * arg: checked
 * options: check=on
 * case: small_range
 * arg: small_range
 * options: reserve=8m
 */
#include "scene.h"

#include <dlfcn.h>
#include <sys/mman.h>
#include <sys/wait.h>

void *__libc_malloc(size_t size);
void *__libc_memalign(size_t align, size_t size);

enum call { FREE, REALLOC, USABLE, SIZED, CFREE };

static const char *const calls[] = { "free", "realloc", "usable_size", "free_sized",
    "cfree" };

static _Alignas(64) char variable[256];
static char *volatile hole;  // one page that is there between two that are not
static char *volatile stack;

static void *glibc_small(void)
{
    return __libc_malloc(100);
}

static void *glibc_mapped(void)
{
    return __libc_malloc(3000017);
}

static void *glibc_aligned(void)
{
    return __libc_memalign(4096, 5000);
}

static void *glibc_aligned_mapped(void)
{
    return __libc_memalign(1 << 21, 3000017);
}

static void *on_the_stack(void)
{
    return stack;
}

static void *of_a_variable(void)
{
    return variable + 64;
}

static void *of_a_text(void)
{
    return (
        void *)((uintptr_t) "a constant of at least sixteen bytes" & ~(uintptr_t)15);
}

static void *of_a_function(void)
{
    return (void *)((uintptr_t)&on_the_stack & ~(uintptr_t)15);
}

static void *odd(void)
{
    return variable + 65;
}

static void *unmapped(void)
{
    return hole - 4096;
}

static void *start_of_a_page(void)
{
    return hole;
}

static void *small_number(void)
{
    return (void *)0x30;
}

static void *not_canonical(void)
{
    return (void *)0x5a5a5a5a5a5a5a50;
}

static void *twice(void)
{
    void *block = malloc(100);
    free(block);
    return block;
}

static void *large_twice(void)
{
    void *block = malloc(3000017);
    free(block);
    return block;
}

static void *inside_large(void)
{
    return (char *)malloc(3000017) + 4096;
}

static void *unaligned_inside(void)
{
    return (char *)malloc(100) + 8;
}

static void *never_given(void)
{
    return (char *)((uintptr_t)malloc(100000) & ~(uintptr_t)0xffff) + (1 << 28);
}

/* What comes of it: a line that holds these words, or with NULL nothing at all. */
static const struct row {
    const char *what;
    void *(*pointer)(void);
    unsigned which;  // bits of the calls that are tried
    const char *words;
} table[] = {
#define EVERY 31u
#define GIVING (1u << FREE | 1u << REALLOC | 1u << CFREE)
#define ASKING (1u << USABLE)
#define CHECKED 32u  // with check=on only
    { "a block of glibc", glibc_small, EVERY, NULL },
    { "a mapping of glibc", glibc_mapped, EVERY, NULL },
    { "an aligned block of glibc", glibc_aligned, EVERY, NULL },
    { "an aligned mapping of glibc", glibc_aligned_mapped, EVERY, NULL },
    { "the stack", on_the_stack, GIVING, "no block begins there" },
    { "a variable", of_a_variable, GIVING, "no block begins there" },
    { "a constant", of_a_text, GIVING, ": " },
    { "a function", of_a_function, GIVING, ": " },
    { "an odd address", odd, GIVING, ": " },
    { "no memory", unmapped, GIVING, ": " },
    { "the start of a mapping", start_of_a_page, GIVING, ": " },
    { "a small number", small_number, GIVING, ": " },
    { "no address at all", not_canonical, GIVING, ": " },
    { "a question about a variable", of_a_variable, ASKING, NULL },
    { "a question about no memory", unmapped, ASKING, NULL },
    { "a question about a number", small_number, ASKING, NULL },
    { "a question about no address", not_canonical, ASKING, NULL },
    { "a block twice", twice, 1u << FREE, "double free" },
    { "a large block twice", large_twice, GIVING, "" },
    { "inside a large block", inside_large, GIVING, "" },
    // The fast path of free does not look where a block begins: see tidepool(7).
    { "inside a block, unaligned", unaligned_inside, 1u << REALLOC, "inside a block" },
    { "inside a block, checked", unaligned_inside, GIVING | CHECKED, "inside a block" },
    { "what was never given", never_given, GIVING, "" },
};

static void use(void *p, enum call call)
{
    void (*old)(void *) = (void (*)(void *))dlsym(NULL, "cfree");
    void (*sized)(void *, size_t) = (void (*)(void *, size_t))dlsym(NULL, "free_sized");
    if (call == FREE) free(p);
    if (call == REALLOC) free(realloc(p, 70001));
    if (call == USABLE) malloc_usable_size(p);
    if (call == SIZED) sized(p, 1);
    if (call == CFREE) old(p);
    // What was let pass must not break what follows.
    for (size_t i = 0; i < 500; i++) free(malloc(i * 37));
}

/* How the child ended, with its words. */
static int run(const struct row *row, enum call call, char words[512])
{
    int ends[2];
    MUST(!pipe(ends));
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        char here[256] = "";
        stack = (char *)((uintptr_t)(here + 128) & ~(uintptr_t)15);
        use(row->pointer(), call);
        kill(getpid(), SIGKILL);  // without a dump: the account is not asked for
    }
    close(ends[1]);
    size_t n = 0;
    ssize_t got;
    while ((got = read(ends[0], words + n, 511 - n)) > 0) n += (size_t)got;
    words[n] = 0;
    close(ends[0]);
    int status;
    MUST(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : -1;
}

static bool is_right(const struct row *row, int ended, const char *words)
{
    if (!row->words) return ended == SIGKILL && !*words;
    return ended == SIGABRT && !strncmp(words, "tidepool: ", 10) &&
        strstr(words, row->words);
}

int main(int argc, char **argv)
{
    bool checked = argc > 1 && !strcmp(argv[1], "checked");
    char words[512];
    unsigned wrong = 0;
    hole = mmap(NULL, 3 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(hole != MAP_FAILED && !mprotect(hole + 4096, 4096, PROT_READ | PROT_WRITE));
    hole += 4096;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        for (unsigned call = FREE; call <= CFREE; call++) {
            if (!(table[i].which >> call & 1)) continue;
            if (table[i].which & CHECKED && !checked) continue;
            int ended = run(&table[i], call, words);
            if (is_right(&table[i], ended, words)) continue;
            char text[1024];
            snprintf(text, sizeof text, "%s of %s: signal %d, said: %s\n", calls[call],
                table[i].what, ended, words);
            put_text(STDERR_FILENO, text);
            wrong++;
        }
    MUST(!wrong);
    return 0;
}
