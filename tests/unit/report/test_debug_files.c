/* SPDX-License-Identifier: MIT */
/*
 * test_debug_files.c - files that were stripped, moved, replaced or deleted: the right name or none.
 */
#include "tests/unit/report/scene.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- files that were stripped, moved, replaced ---------------------------------------------------- */

static void a_stripped_program_keeps_what_it_exports(void **state)
{
    (void)state;
    struct scene scene;
    uint64_t calls[CALLS];
    scene_build(calls, "fixture", "-g -rdynamic");
    scene_shell("strip fixture");
    scene_begin(&scene);
    scene_add_module(&scene, "fixture");
    scene_add_calls(&scene, 1, calls);
    struct tp_symbols *symbols = scene_resolved(&scene, &no_cache);
    scene_check(symbols, &scene, 1, "outer");
    scene_check(symbols, &scene, 2, "plain");
    scene_check(symbols, &scene, 3, "");  // not the function before it
    tp_symbols_close(symbols);
}

static void symbols_without_debug_information_name_functions(void **state)
{
    (void)state;
    struct scene scene;
    uint64_t calls[CALLS];
    scene_build(calls, "fixture", "");
    scene_begin(&scene);
    scene_add_module(&scene, "fixture");
    scene_add_calls(&scene, 1, calls);
    struct tp_symbols *symbols = scene_resolved(&scene, &no_cache);
    scene_check(symbols, &scene, 1, "outer");
    scene_check(symbols, &scene, 3, "hidden");
    tp_symbols_close(symbols);
}

/* Builds, takes the debug information into `debug` and strips the program. */
static void build_apart(uint64_t calls[CALLS], const char *options)
{
    scene_build(calls, "fixture", options);
    scene_shell(
        "objcopy --only-keep-debug fixture debug && strip -g fixture && strip fixture");
}

static void look_apart(const uint64_t calls[CALLS], const struct tp_symbols_wish *wish)
{
    struct scene scene;
    scene_begin(&scene);
    scene_add_module(&scene, "fixture");
    scene_add_calls(&scene, 1, calls);
    struct tp_symbols *symbols = scene_resolved(&scene, wish);
    scene_check_all(symbols, &scene);
    tp_symbols_close(symbols);
}

static void debug_information_is_found_beside_the_file(void **state)
{
    (void)state;
    uint64_t calls[CALLS];
    build_apart(calls, "-g");
    scene_shell("objcopy --add-gnu-debuglink=debug fixture");
    look_apart(calls, &no_cache);
    scene_shell("mkdir .debug && mv debug .debug/");
    look_apart(calls, &no_cache);
    struct tp_symbols_wish wish = no_cache;
    char folder[300];
    scene_path(folder, sizeof(folder), "root");
    wish.debug_folders = folder;
    scene_shell("mkdir -p \"root$PWD\" && mv .debug/debug \"root$PWD/debug\"");
    look_apart(calls, &wish);
}

static void debug_information_without_a_build_id_is_compared_by_checksum(void **state)
{
    (void)state;
    uint64_t calls[CALLS];
    build_apart(calls, "-g -Wl,--build-id=none");
    scene_shell("objcopy --add-gnu-debuglink=debug fixture");
    look_apart(calls, &no_cache);
    struct scene scene;
    scene_begin(&scene);
    scene_add_module(&scene, "fixture");
    scene_add_calls(&scene, 1, calls);
    scene_shell("echo >>debug");
    struct tp_symbols *symbols = scene_resolved(&scene, &no_cache);
    scene_check_nothing(symbols, &scene);
    tp_symbols_close(symbols);
}

/* Puts `debug` where its build id says, below a folder of our own. */
static void file_by_id(const struct scene *scene, char *folder, size_t size)
{
    char hex[64] = "";
    for (size_t i = 0; i < scene->modules[0].build_id_bytes; i++)
        sprintf(hex + 2 * i, "%02x", scene->modules[0].build_id[i]);
    scene_shell("mkdir -p root/.build-id/%.2s && cp debug root/.build-id/%.2s/%s.debug",
        hex, hex, hex + 2);
    scene_path(folder, size, "root");
}

static void debug_information_is_found_by_build_id_even_alone(void **state)
{
    (void)state;
    struct scene scene;
    uint64_t calls[CALLS];
    char folder[300];
    build_apart(calls, "-g");
    scene_begin(&scene);
    scene_add_module(&scene, "fixture");
    scene_add_calls(&scene, 1, calls);
    file_by_id(&scene, folder, sizeof(folder));
    struct tp_symbols_wish wish = no_cache;
    wish.debug_folders = folder;
    look_apart(calls, &wish);
    scene_shell("rm fixture");
    struct tp_symbols *symbols = scene_resolved(&scene, &wish);
    scene_check_all(symbols, &scene);
    tp_symbols_close(symbols);
}

static void servers_are_asked_only_when_wanted(void **state)
{
    (void)state;
    struct scene scene;
    uint64_t calls[CALLS];
    char hex[64] = "", path[300], url[320];
    void *library = dlopen("libdebuginfod.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        scene_leave_out("libdebuginfod");
        return;
    }
    build_apart(calls, "-g");
    scene_begin(&scene);
    scene_add_module(&scene, "fixture");
    scene_add_calls(&scene, 1, calls);
    for (size_t i = 0; i < scene.modules[0].build_id_bytes; i++)
        sprintf(hex + 2 * i, "%02x", scene.modules[0].build_id[i]);
    scene_shell("mkdir -p buildid/%s && mv debug buildid/%s/debuginfo", hex, hex);
    scene_path(path, sizeof(path), "");
    snprintf(url, sizeof(url), "file://%s", path);
    setenv("DEBUGINFOD_URLS", url, 1);
    scene_path(path, sizeof(path), "cache");
    setenv("DEBUGINFOD_CACHE_PATH", path, 1);
    struct tp_symbols_wish wish = no_cache;
    struct tp_symbols *symbols = scene_resolved(&scene, &wish);
    scene_check_nothing(symbols, &scene);
    tp_symbols_close(symbols);
    scene_shell("test ! -e cache");

    wish.debuginfod = true;
    symbols = scene_resolved(&scene, &wish);
    scene_check_all(symbols, &scene);
    tp_symbols_close(symbols);
    unsetenv("DEBUGINFOD_URLS");
    unsetenv("DEBUGINFOD_CACHE_PATH");
}

static void debug_information_that_files_share_is_found(void **state)
{
    (void)state;
    struct scene scene;
    uint64_t calls[CALLS];
    char folder[300];
    if (!scene_have("dwz")) {
        scene_leave_out("dwz");
        return;
    }
    build_apart(calls, "-g");
    // dwz takes what occurs in two files.
    scene_begin(&scene);
    scene_add_module(&scene, "fixture");
    scene_add_calls(&scene, 1, calls);
    file_by_id(&scene, folder, sizeof(folder));
    scene_shell(
        "f=$(echo root/.build-id/*/*.debug) && cp $f again && mkdir root/.dwz && "
        "dwz -m root/.dwz/shared -M $PWD/root/.dwz/shared $f again && "
        "readelf -S $f | grep -q altlink");
    struct tp_symbols_wish wish = no_cache;
    wish.debug_folders = folder;
    struct tp_symbols *symbols = scene_resolved(&scene, &wish);
    scene_check_all(symbols, &scene);
    tp_symbols_close(symbols);
}

static void another_file_of_that_name_is_not_believed(void **state)
{
    (void)state;
    struct scene scene;
    uint64_t calls[CALLS];
    scene_build(calls, "fixture", "-g");
    scene_begin(&scene);
    scene_add_module(&scene, "fixture");
    scene_add_calls(&scene, 1, calls);
    scene_build(calls, "fixture", "-g -DOTHER -Wl,--build-id=0x0123456789abcdef0123");
    struct tp_symbols *symbols = scene_resolved(&scene, &no_cache);
    scene_check_nothing(symbols, &scene);
    tp_symbols_close(symbols);
}

static void without_a_build_id_only_an_unchanged_file_is_believed(void **state)
{
    (void)state;
    struct scene scene;
    uint64_t calls[CALLS];
    scene_build(calls, "fixture", "-g -Wl,--build-id=none");
    scene_begin(&scene);
    struct tp_module_record *record = scene_add_module(&scene, "fixture");
    scene_add_calls(&scene, 1, calls);
    struct tp_symbols *symbols = scene_resolved(&scene, &no_cache);
    scene_check_all(symbols, &scene);
    tp_symbols_close(symbols);

    record->end += 1 << 20;  // of another size
    symbols = scene_resolved(&scene, &no_cache);
    scene_check_nothing(symbols, &scene);
    tp_symbols_close(symbols);
    record->end -= 1 << 20;

    scene.dump.process.start_unix_ns -= (uint64_t)3600 * SECOND;  // changed since
    symbols = scene_resolved(&scene, &no_cache);
    scene_check_nothing(symbols, &scene);
    tp_symbols_close(symbols);
}

static void a_file_with_a_build_id_is_not_that_without_one(void **state)
{
    (void)state;
    struct scene scene;
    uint64_t calls[CALLS];
    scene_build(calls, "fixture", "-g");
    scene_begin(&scene);
    scene_add_module(&scene, "fixture")->build_id_bytes = 0;
    scene_add_calls(&scene, 1, calls);
    struct tp_symbols *symbols = scene_resolved(&scene, &no_cache);
    scene_check_nothing(symbols, &scene);
    tp_symbols_close(symbols);
}

static void a_deleted_file_is_found_through_its_process(void **state)
{
    (void)state;
    struct scene scene;
    uint64_t calls[CALLS];
    char text[256];
    scene_build(calls, "fixture", "-g");
    scene_begin(&scene);
    scene_add_module(&scene, "fixture")->flags = TP_MODULE_MAIN;
    scene_add_calls(&scene, 1, calls);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execl("./fixture", "fixture", "wait", (char *)NULL);
        _exit(1);
    }
    assert_true(read(ends[0], text, sizeof(text)) > 0);
    scene_shell("rm fixture && echo >fixture");
    scene.dump.process.pid = (uint32_t)child;
    scene.dump.running = true;
    struct tp_symbols *symbols = scene_resolved(&scene, &no_cache);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    scene_check_all(symbols, &scene);
    tp_symbols_close(symbols);
    close(ends[0]);
    close(ends[1]);
}

static void names_that_are_no_files_are_no_trouble(void **state)
{
    (void)state;
    struct scene scene;
    const uint64_t calls[CALLS] = { 0, 1, UINT64_MAX, 1u << 20 };
    scene_begin(&scene);
    assert_int_equal(mkfifo("pipe", 0600), 0);
    scene_path(scene.modules[0].path, sizeof(scene.modules[0].path), "pipe");
    strcpy(scene.modules[1].path, "/");
    memset(scene.modules[2].path, 'x', sizeof(scene.modules[2].path));
    scene.modules[2].build_id_bytes = 255;
    strcpy(scene.modules[3].path, "/dev/zero");
    scene.dump.n_modules = 4;
    for (uint32_t i = 1; i <= 3; i++) scene_add_calls(&scene, i, calls);
    scene.nodes[1].parent = 12;  // not lower
    scene.nodes[2].module = 5;   // no such record
    struct tp_symbols *symbols = scene_open(&no_cache);
    struct tp_error error = { "" };
    const uint32_t nodes[] = { 0, 1, 12, 5, 9, 13, UINT32_MAX };
    assert_true(tp_symbols_resolve(symbols, &scene.dump, nodes, 7, &error));
    for (uint32_t node = 0; node < 14; node++) scene_check(symbols, &scene, node, "");
    scene_check(symbols, &scene, UINT32_MAX, "");
    tp_symbols_close(symbols);
}

static void the_vdso_has_names(void **state)
{
    (void)state;
    struct scene scene;
    const unsigned char *image = (const unsigned char *)getauxval(AT_SYSINFO_EHDR);
    Elf64_Ehdr header;
    struct tp_elf_facts facts;
    if (!image) {
        scene_leave_out("vdso");
        return;
    }
    memcpy(&header, image, sizeof(header));
    test_write_file("vdso.so", image,
        header.e_shoff + (size_t)header.e_shnum * header.e_shentsize, 0600);
    int fd = open("vdso.so", O_RDONLY);
    assert_true(tp_elf_facts_read(&facts, fd));
    close(fd);
    if (!facts.id.n) {
        scene_leave_out("build id of the vdso");
        return;
    }
    tp_elf_facts_fini(&facts);
    char line[256] = "";
    FILE *pipe = popen("nm -D vdso.so | grep ' T ' | head -n 1", "r");
    unsigned long address = 0;
    char name[64] = "";
    assert_non_null(fgets(line, sizeof(line), pipe));
    pclose(pipe);
    assert_int_equal(sscanf(line, "%lx T %63[a-z_A-Z0-9]", &address, name), 2);
    scene_begin(&scene);
    struct tp_module_record *record = scene_add_module(&scene, "vdso.so");
    strcpy(record->path, "linux-vdso.so.1");
    record->flags = TP_MODULE_VDSO;
    scene.nodes[1] = (struct tp_node_record){ .module = 1, .offset = address + 1 };
    scene.dump.n_nodes = 2;
    struct tp_symbols *symbols = scene_resolved(&scene, &no_cache);
    size_t n;
    const struct tp_symbol *symbol = tp_symbols_at(symbols, &scene.dump, 1, &n);
    // One place has several names there.
    assert_non_null(strstr(symbol->function, strrchr(name, '_') + 1));
    tp_symbols_close(symbols);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define IN_FOLDER(test) \
    cmocka_unit_test_setup_teardown(test, scene_folder_make, scene_folder_clear)
        IN_FOLDER(a_stripped_program_keeps_what_it_exports),
        IN_FOLDER(symbols_without_debug_information_name_functions),
        IN_FOLDER(debug_information_is_found_beside_the_file),
        IN_FOLDER(debug_information_without_a_build_id_is_compared_by_checksum),
        IN_FOLDER(debug_information_is_found_by_build_id_even_alone),
        IN_FOLDER(servers_are_asked_only_when_wanted),
        IN_FOLDER(debug_information_that_files_share_is_found),
        IN_FOLDER(another_file_of_that_name_is_not_believed),
        IN_FOLDER(without_a_build_id_only_an_unchanged_file_is_believed),
        IN_FOLDER(a_file_with_a_build_id_is_not_that_without_one),
        IN_FOLDER(a_deleted_file_is_found_through_its_process),
        IN_FOLDER(names_that_are_no_files_are_no_trouble),
        IN_FOLDER(the_vdso_has_names),
    };
    return cmocka_run_group_tests_name("debug_files", tests, NULL, NULL);
}
