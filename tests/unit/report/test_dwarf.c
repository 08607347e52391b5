/* SPDX-License-Identifier: MIT */
/*
 * test_dwarf.c - functions, inlined ones and lines, however a program was built.
 */
#include "tests/unit/report/scene.h"

#include <stdio.h>
#include <string.h>

static const char source_cxx[] =
    "extern \"C\" void here(int);\n"
    "namespace tide {\n"
    "template <typename T> struct pool {\n"
    "    __attribute__((noinline)) void take(T) { here(1); __asm__ volatile(\"\"); }\n"
    "};\n"
    "namespace {\n"
    "__attribute__((noinline)) void secret() { here(2); __asm__ volatile(\"\"); }\n"
    "}\n"
    "}\n"
    "extern \"C\" void outer()\n"
    "{\n"
    "    auto inner = [](int i) __attribute__((always_inline)) { here(i); };\n"
    "    inner(0);\n"  // line 13
    "    tide::pool<int>().take(1);\n"
    "    tide::secret();\n"
    "    __asm__ volatile(\"\");\n"
    "}\n";

/* The same frame for a body in another language. */
static const char source_frame[] =
    "#define _GNU_SOURCE\n"
    "#include <link.h>\n"
    "#include <stdio.h>\n"
    "static char *calls[4];\n"
    "void here(int i);\n"
    "void outer(void);\n"
    "__attribute__((noinline)) void here(int i)\n"
    "{\n"
    "    calls[i] = (char *)__builtin_return_address(0) - 1;\n"
    "}\n"
    "static int first(struct dl_phdr_info *info, size_t n, void *p)\n"
    "{\n"
    "    (void)n, *(char **)p = (char *)info->dlpi_addr;\n"
    "    return 1;\n"
    "}\n"
    "int main(void)\n"
    "{\n"
    "    char *base;\n"
    "    outer();\n"
    "    here(3);\n"
    "    dl_iterate_phdr(first, &base);\n"
    "    for (int i = 0; i < 4; i++) printf(\"%lx\\n\", (long)(calls[i] - base));\n"
    "}\n";

static void look_at_build(const char *options)
{
    struct scene scene;
    uint64_t calls[CALLS];
    scene_build(calls, "fixture", options);
    scene_begin(&scene);
    scene_add_module(&scene, "fixture");
    scene_add_calls(&scene, 1, calls);
    struct tp_symbols *symbols = scene_resolved(&scene, &no_cache);
    scene_check_all(symbols, &scene);
    tp_symbols_close(symbols);
}

/* ---- where code may be ----------------------------------------------------------------------- */

static void inlined_calls_have_their_lines(void **state)
{
    (void)state;
    look_at_build("-g");
}

static void a_program_at_a_fixed_address_has_names(void **state)
{
    (void)state;
    look_at_build("-g -no-pie");
}

static void a_first_segment_away_from_zero_is_counted(void **state)
{
    (void)state;
    look_at_build("-g -Wl,-Ttext-segment=0x10000000");
}

static void older_and_compressed_debug_information_is_read(void **state)
{
    (void)state;
    look_at_build("-g -gdwarf-4");
    look_at_build("-g -gdwarf-3 -gstrict-dwarf");
    look_at_build("-g -gz=zlib");
    look_at_build("-g -gsplit-dwarf");
    look_at_build("-g -flto");
    look_at_build("-g -ffunction-sections -Wl,--gc-sections");
}

static void debug_information_without_address_ranges_is_read(void **state)
{
    (void)state;
    struct scene scene;
    uint64_t calls[CALLS];
    scene_build(calls, "fixture", "-g -Wl,-q");  // relocations are kept
    scene_shell(
        "objcopy --remove-section=.debug_aranges --remove-section=.rela.debug_aranges"
        " fixture");
    scene_begin(&scene);
    scene_add_module(&scene, "fixture");
    scene_add_calls(&scene, 1, calls);
    struct tp_symbols *symbols = scene_resolved(&scene, &no_cache);
    scene_check_all(symbols, &scene);
    tp_symbols_close(symbols);
}

static void a_library_has_names(void **state)
{
    (void)state;
    struct scene scene;
    uint64_t calls[CALLS];
    static const char program[] = "void work(int); int main(void) { work(0); }\n";
    scene_write_source();
    test_write_file("program.c", program, strlen(program), 0600);
    scene_shell(
        "gcc -g -O2 -shared -fPIC -Wl,--build-id=sha1 -Wl,-Ttext-segment=0x7000000 "
        "fixture.c -o lib.so && gcc program.c ./lib.so -o program");
    scene_read_calls(calls, "./program");
    assert_true(calls[0] > 0x7000000);
    scene_begin(&scene);
    scene_add_module(&scene, "program");
    scene_add_module(&scene, "lib.so");
    scene_add_calls(&scene, 2, calls);
    struct tp_symbols *symbols = scene_resolved(&scene, &no_cache);
    scene_check_all(symbols, &scene);
    tp_symbols_close(symbols);
}

/* ---- languages and compilers ------------------------------------------------------------------- */

static void look_at_cxx(const char *compiler)
{
    struct scene scene;
    uint64_t calls[CALLS];
    if (!scene_have(compiler)) {
        scene_leave_out(compiler);
        return;
    }
    test_write_file("frame.c", source_frame, strlen(source_frame), 0600);
    test_write_file("body.cpp", source_cxx, strlen(source_cxx), 0600);
    scene_shell("gcc -O2 -c frame.c && %s -g -O2 -c body.cpp && "
                "gcc -Wl,--build-id=sha1 frame.o body.o -o fixture",
        compiler);
    scene_read_calls(calls, "./fixture");
    scene_begin(&scene);
    scene_add_module(&scene, "fixture");
    scene_add_calls(&scene, 1, calls);
    struct tp_symbols *symbols = scene_resolved(&scene, &no_cache);
    size_t n;
    const struct tp_symbol *symbol = tp_symbols_at(symbols, &scene.dump, 1, &n);
    assert_int_equal(n, 2);
    assert_non_null(strstr(symbol[0].function, "operator()"));
    assert_string_equal(symbol[1].function, "outer");
    assert_int_equal(symbol[1].line, 13);
    scene_check(symbols, &scene, 2, "tide::pool<int>::take(int) body.cpp:4");
    scene_check(symbols, &scene, 3, "tide::(anonymous namespace)::secret() body.cpp:7");
    scene_check(symbols, &scene, 4, "main");
    tp_symbols_close(symbols);
}

static void names_of_cxx_are_those_of_the_source(void **state)
{
    (void)state;
    look_at_cxx("g++");
    look_at_cxx("clang++");  // leaves out .debug_aranges
}

static void functions_inside_of_functions_are_found(void **state)
{
    (void)state;
    struct scene scene;
    uint64_t calls[CALLS];
    static const char body[] = "void here(int);\n"
                               "void outer(void);\n"
                               "void outer(void)\n"
                               "{\n"
                               "    __attribute__((noinline)) void nested(int i)\n"
                               "    {\n"
                               "        here(i);\n"
                               "        __asm__ volatile(\"\");\n"
                               "    }\n"
                               "    for (int i = 0; i < 3; i++) nested(i);\n"
                               "}\n";
    test_write_file("frame.c", source_frame, strlen(source_frame), 0600);
    test_write_file("body.c", body, strlen(body), 0600);
    scene_shell("gcc -O2 -g -Wl,--build-id=sha1 frame.c body.c -o fixture");
    scene_read_calls(calls, "./fixture");
    scene_begin(&scene);
    scene_add_module(&scene, "fixture");
    scene_add_calls(&scene, 1, calls);
    struct tp_symbols *symbols = scene_resolved(&scene, &no_cache);
    size_t n;
    const struct tp_symbol *symbol = tp_symbols_at(symbols, &scene.dump, 1, &n);
    assert_int_equal(n, 1);
    assert_string_equal(symbol->function, "nested");  // its symbol has a number too
    assert_int_equal(symbol->line, 7);
    tp_symbols_close(symbols);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define IN_FOLDER(test) \
    cmocka_unit_test_setup_teardown(test, scene_folder_make, scene_folder_clear)
        IN_FOLDER(inlined_calls_have_their_lines),
        IN_FOLDER(a_program_at_a_fixed_address_has_names),
        IN_FOLDER(a_first_segment_away_from_zero_is_counted),
        IN_FOLDER(older_and_compressed_debug_information_is_read),
        IN_FOLDER(debug_information_without_address_ranges_is_read),
        IN_FOLDER(a_library_has_names),
        IN_FOLDER(names_of_cxx_are_those_of_the_source),
        IN_FOLDER(functions_inside_of_functions_are_found),
    };
    return cmocka_run_group_tests_name("dwarf", tests, NULL, NULL);
}
