/* SPDX-License-Identifier: MIT */
/*
 * test_modules.c - records of loaded files: each load has its own.
 *
 * The libraries are copies of one of this machine under other names: the loader takes
 * them for different ones, and mostly puts the second where the first one was.
 */
#include "pool/os.h"
#include "shim/life.h"
#include "shim/profile.h"
#include "shim/unwind.h"

#include "tests/unit/tp_test.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64] = "/tmp/tp-modules-XXXXXX";
static char first[128], second[128];

static const struct tp_module_record *record_of(uint32_t module)
{
    assert_int_not_equal(module, 0);
    return tp_table_at(&tp_modules, module - 1);
}

static void copy(const char *from, const char *to)
{
    char command[512];
    snprintf(command, sizeof(command), "cp '%s' '%s'", from, to);
    assert_int_equal(system(command), 0);
}

/* A small library that stays loaded nowhere else: any that dlopen() can take away. */
static int make_libraries(void **state)
{
    (void)state;
    void *math = dlopen("libutil.so.1", RTLD_NOW);
    const struct link_map *map = NULL;
    if (!math || dlinfo(math, RTLD_DI_LINKMAP, &map) != 0 || !mkdtemp(folder))
        return -1;
    snprintf(first, sizeof(first), "%s/first.so", folder);
    snprintf(second, sizeof(second), "%s/second.so", folder);
    copy(map->l_name, first);
    copy(map->l_name, second);
    dlclose(math);
    return 0;
}

static int remove_libraries(void **state)
{
    (void)state;
    unlink(first);
    unlink(second);
    return rmdir(folder);
}

/* Opens a library; its base and an address in its code. */
static void *open_library(const char *path, uintptr_t *out_code)
{
    const struct link_map *map = NULL;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    assert_non_null(library);
    assert_int_equal(dlinfo(library, RTLD_DI_LINKMAP, &map), 0);
    *out_code = map->l_addr + 0x1000;
    return library;
}

static void the_program_and_its_libraries_have_records(void **state)
{
    (void)state;
    uint32_t own = tp_module_of((uintptr_t)record_of);
    const struct tp_module_record *record = record_of(own);
    assert_int_equal(record->flags, TP_MODULE_MAIN);
    assert_string_equal(record->path, tp_boot.exe);
    assert_in_range((uintptr_t)record_of, record->start, record->end - 1);
    uint32_t libc = tp_module_of((uintptr_t)dlsym(RTLD_DEFAULT, "getppid"));
    assert_int_not_equal(libc, own);
    assert_non_null(strstr(tp_module_path(libc), "libc.so"));
    assert_int_equal(record_of(libc)->build_id_bytes, 20);
    assert_int_equal(tp_module_of((uintptr_t)dlsym(RTLD_DEFAULT, "getpid")), libc);
    assert_int_equal(tp_module_of((uintptr_t)record_of), own);
}

static void what_no_file_holds_has_no_module(void **state)
{
    (void)state;
    int here = 0;
    assert_int_equal(tp_module_of((uintptr_t)&here), 0);
    assert_int_equal(tp_module_of(0), 0);
    assert_int_equal(tp_module_of(UINTPTR_MAX), 0);
    assert_string_equal(tp_module_path(0), "");
    assert_string_equal(tp_module_path(999), "");
}

static void the_kernels_code_is_told_apart(void **state)
{
    (void)state;
    uintptr_t vdso = getauxval(AT_SYSINFO_EHDR);
    if (!vdso) skip();
    uint32_t module = tp_module_of(vdso + 0x400);
    if (!module) skip();  // not every loader lists it
    assert_int_equal(record_of(module)->flags, TP_MODULE_VDSO);
}

static void a_library_that_goes_is_retired_and_one_that_comes_is_new(void **state)
{
    (void)state;
    uintptr_t code, other;
    void *library = open_library(first, &code);
    uint32_t module = tp_module_of(code);
    assert_string_equal(tp_module_path(module), first);
    assert_int_equal(record_of(module)->unloaded_ns, 0);
    uint64_t salt = tp_rows_salt();
    tp_modules_unloaded();
    assert_int_equal(tp_rows_salt(), salt);  // nothing went
    assert_int_equal(dlclose(library), 0);
    tp_modules_unloaded();
    assert_int_not_equal(record_of(module)->unloaded_ns, 0);
    assert_int_not_equal(tp_rows_salt(), salt);
    assert_int_equal(tp_module_of(code), 0);

    library = open_library(second, &other);
    uint32_t next = tp_module_of(other);
    assert_int_not_equal(next, module);
    assert_string_equal(tp_module_path(next), second);
    assert_true(record_of(next)->epoch > record_of(module)->epoch);
    assert_string_equal(tp_module_path(module), first);
    dlclose(library);
    tp_modules_unloaded();

    library = open_library(first, &other);
    assert_int_not_equal(tp_module_of(other), module);
    dlclose(library);
    tp_modules_unloaded();
}

/* The C library closes its own plugins without asking anybody's dlclose. */
static void a_change_that_nobody_told_is_noticed(void **state)
{
    (void)state;
    uintptr_t code, other;
    void *library = open_library(first, &code);
    uint32_t module = tp_module_of(code);
    uint64_t salt = tp_rows_salt();
    dlclose(library);
    library = open_library(second, &other);
    uint32_t next = tp_module_of(other);
    assert_int_not_equal(next, module);
    assert_string_equal(tp_module_path(next), second);
    if (other == code) {
        assert_int_not_equal(record_of(module)->unloaded_ns, 0);
        assert_int_not_equal(tp_rows_salt(), salt);
    }
    dlclose(library);
    tp_modules_unloaded();
    assert_int_not_equal(record_of(next)->unloaded_ns, 0);
}

static uint32_t found[4];

static void *ask(void *argument)
{
    for (unsigned i = 0; i < 20000; i++)
        *(uint32_t *)argument = tp_module_of((uintptr_t)ask);
    return NULL;
}

static void threads_agree(void **state)
{
    (void)state;
    pthread_t thread[4];
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, ask, &found[i]), 0);
    for (unsigned i = 0; i < 4; i++) pthread_join(thread[i], NULL);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(found[i], tp_module_of((uintptr_t)ask));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_agree),
        cmocka_unit_test(the_program_and_its_libraries_have_records),
        cmocka_unit_test(what_no_file_holds_has_no_module),
        cmocka_unit_test(the_kernels_code_is_told_apart),
        cmocka_unit_test(a_library_that_goes_is_retired_and_one_that_comes_is_new),
        cmocka_unit_test(a_change_that_nobody_told_is_noticed),
    };
    return cmocka_run_group_tests_name(
        "modules", tests, make_libraries, remove_libraries);
}
