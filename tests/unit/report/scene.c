/* SPDX-License-Identifier: MIT */
/*
 * scene.c - small programs and dumps of them, for the tests of symbols.
 */
#include "tests/unit/report/scene.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---- programs to look at --------------------------------------------------------------- */

static const char source_c[] =
    "#define _GNU_SOURCE\n"
    "#include <link.h>\n"
    "#include <stdio.h>\n"
    "#include <unistd.h>\n"
    "static char *calls[4];\n"
    "static char *base;\n"
    "__attribute__((noinline)) void here(int i)\n"
    "{\n"
    "    calls[i] = (char *)__builtin_return_address(0) - 1;\n"
    "}\n"
    "static inline __attribute__((always_inline)) void innermost(void)\n"
    "{\n"
    "    here(0);\n"  // line 13
    "}\n"
    "static inline __attribute__((always_inline)) void middle(void)\n"
    "{\n"
    "    innermost();\n"  // line 17
    "}\n"
    "__attribute__((noinline)) void outer(void)\n"
    "{\n"
    "    middle();\n"  // line 21
    "    __asm__ volatile(\"\");\n"
    "}\n"
    "__attribute__((noinline)) void plain(void)\n"
    "{\n"
    "    here(1);\n"  // line 26
    "    __asm__ volatile(\"\");\n"
    "}\n"
    "static __attribute__((noinline)) void hidden(void)\n"
    "{\n"
    "    here(2);\n"  // line 31
    "    __asm__ volatile(\"\");\n"
    "}\n"
    "static int find(struct dl_phdr_info *info, size_t n, void *p)\n"
    "{\n"
    "    char *at = (char *)info->dlpi_addr;\n"
    "    for (int i = 0; i < info->dlpi_phnum; i++)\n"
    "        if (info->dlpi_phdr[i].p_type == PT_LOAD &&\n"
    "            (long)calls[1] - (long)at - info->dlpi_phdr[i].p_vaddr <\n"
    "                info->dlpi_phdr[i].p_memsz)\n"
    "            base = at;\n"
    "    return (void)n, (void)p, 0;\n"
    "}\n"
    "void work(int wait)\n"
    "{\n"
    "    outer();\n"
    "    plain();\n"
    "    hidden();\n"
    "    here(3);\n"
    "    dl_iterate_phdr(find, 0);\n"
    "    for (int i = 0; i < 4; i++) printf(\"%lx\\n\", (long)(calls[i] - base));\n"
    "    fflush(stdout);\n"
    "    if (wait) pause();\n"
    "}\n"
    "#ifdef PROGRAM\n"
    "int main(int argc, char **argv) { (void)argv; work(argc > 1); }\n"
    "#endif\n";

int scene_folder_make(void **state)
{
    return test_folder_make(state);
}

int scene_folder_clear(void **state)
{
    (void)state;
    char line[128];
    snprintf(line, sizeof(line), "rm -rf %s", test_folder);
    return chdir("/") || system(line);
}

void scene_shell(const char *format, ...)
{
    char command[2048];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    if (system(command) != 0) fail_msg("failed: %s", command);
}

void scene_leave_out(const char *what)
{
    // Not skip(): meson takes what cmocka 1.1 prints then for a failure.
    print_message("# left out: no %s\n", what);
}

bool scene_have(const char *command)
{
    char line[128];
    snprintf(line, sizeof(line), "command -v %s >/dev/null 2>&1", command);
    return system(line) == 0;
}

/* Reads what the running program prints. */
void scene_read_calls(uint64_t calls[CALLS], const char *command)
{
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    for (int i = 0; i < CALLS; i++)
        assert_int_equal(fscanf(pipe, "%lx", (unsigned long *)&calls[i]), 1);
    assert_int_equal(pclose(pipe), 0);
}

void scene_write_source(void)
{
    test_write_file("fixture.c", source_c, strlen(source_c), 0600);
}

/* Builds the C program as `name`, and says which addresses it calls from. */
void scene_build(uint64_t calls[CALLS], const char *name, const char *options)
{
    char command[128];
    scene_write_source();
    scene_shell(
        "gcc -O2 -DPROGRAM -Wl,--build-id=sha1 %s fixture.c -o %s", options, name);
    snprintf(command, sizeof(command), "./%s", name);
    scene_read_calls(calls, command);
}

/* ---- dumps of them -------------------------------------------------------------------------- */

void scene_path(char *out, size_t size, const char *name)
{
    char folder[256];
    assert_non_null(getcwd(folder, sizeof(folder)));
    snprintf(out, size, "%s/%s", folder, name);
}

void scene_begin(struct scene *scene)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    memset(scene, 0, sizeof(*scene));
    scene->dump.modules = scene->modules;
    scene->dump.nodes = scene->nodes;
    scene->dump.n_nodes = 1;
    scene->dump.process.pid = TEST_PID;
    scene->dump.process.start_monotonic_ns = 1000 * (uint64_t)SECOND;
    scene->dump.process.start_unix_ns = ((uint64_t)now.tv_sec + 1) * SECOND;
    scene->dump.header.time_unix_ns = ((uint64_t)now.tv_sec + 60) * SECOND;
}

/* A module as the library would have it, by the file that is there now. */
struct tp_module_record *scene_add_module(struct scene *scene, const char *name)
{
    struct tp_elf_facts facts;
    struct tp_module_record *record = &scene->modules[scene->dump.n_modules++];
    scene_path(record->path, sizeof(record->path), name);
    int fd = open(name, O_RDONLY);
    assert_true(fd >= 0);
    assert_true(tp_elf_facts_read(&facts, fd));
    record->base = record->start = 0x555555554000;
    record->end = record->start + facts.span_bytes;
    record->loaded_ns = scene->dump.process.start_monotonic_ns + SECOND;
    record->build_id_bytes = facts.id.n;
    memcpy(record->build_id, facts.id.bytes, facts.id.n);
    tp_elf_facts_fini(&facts);
    close(fd);
    return record;
}

/* A stack of these calls, the last one innermost; returns the first node. */
uint32_t scene_add_calls(struct scene *scene, uint32_t module, const uint64_t *calls)
{
    uint32_t first = (uint32_t)scene->dump.n_nodes;
    for (uint32_t i = 0; i < CALLS; i++)
        scene->nodes[scene->dump.n_nodes++] = (struct tp_node_record){
            .parent = i ? first + i - 1 : 0, .module = module, .offset = calls[i]
        };
    return first;
}

struct tp_symbols *scene_open(const struct tp_symbols_wish *wish)
{
    struct tp_symbols *symbols = tp_symbols_open(wish);
    assert_non_null(symbols);
    return symbols;
}

/* Asks for the innermost node only: its callers come with it. */
void scene_resolve(struct tp_symbols *symbols, struct scene *scene)
{
    struct tp_error error = { "" };
    uint32_t last = (uint32_t)scene->dump.n_nodes - 1;
    if (!tp_symbols_resolve(symbols, &scene->dump, &last, 1, &error))
        fail_msg("%s", error.text);
}

struct tp_symbols *scene_resolved(
    struct scene *scene, const struct tp_symbols_wish *wish)
{
    struct tp_symbols *symbols = scene_open(wish);
    scene_resolve(symbols, scene);
    return symbols;
}

void scene_check(const struct tp_symbols *symbols, const struct scene *scene,
    uint32_t node, const char *expected)
{
    char text[1024] = "";
    size_t n;
    const struct tp_symbol *symbol = tp_symbols_at(symbols, &scene->dump, node, &n);
    for (size_t i = 0; i < n; i++) {
        const char *slash = strrchr(symbol[i].file, '/');
        size_t used = strlen(text);
        snprintf(text + used, sizeof(text) - used, "%s%s", i ? " < " : "",
            symbol[i].function);
        used = strlen(text);
        if (symbol[i].line)
            snprintf(text + used, sizeof(text) - used, " %s:%u",
                slash ? slash + 1 : symbol[i].file, symbol[i].line);
        assert_int_equal(symbol[i].inlined, i + 1 < n);
    }
    assert_string_equal(text, expected);
}

const struct tp_symbols_wish no_cache = { .no_cache = true, .quiet = true };

/* Everything that debug information tells of the C program. */
void scene_check_all(const struct tp_symbols *symbols, const struct scene *scene)
{
    scene_check(symbols, scene, 1,
        "innermost fixture.c:13 < middle fixture.c:17 < outer fixture.c:21");
    scene_check(symbols, scene, 2, "plain fixture.c:26");
    scene_check(symbols, scene, 3, "hidden fixture.c:31");
}

void scene_check_nothing(const struct tp_symbols *symbols, const struct scene *scene)
{
    for (uint32_t node = 1; node <= CALLS; node++)
        scene_check(symbols, scene, node, "");
}
