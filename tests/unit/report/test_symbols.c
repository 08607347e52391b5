/* SPDX-License-Identifier: MIT */
/*
 * test_symbols.c - many modules and many dumps, side by side and within bounds.
 */
#include "tests/unit/report/scene.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PROGRAMS = SCENE_MODULES };

/* Programs of one source and different build ids, and a stack in each. */
static void begin_many(struct scene *scene)
{
    uint64_t calls[CALLS];
    scene_build(calls, "program0", "-g");
    scene_begin(scene);
    for (uint32_t i = 0; i < PROGRAMS; i++) {
        char name[32];
        snprintf(name, sizeof(name), "program%u", i);
        if (i)
            scene_shell(
                "gcc -g -O2 -DPROGRAM -Wl,--build-id=0x%040x fixture.c -o %s", i, name);
        scene_add_module(scene, name);
        for (int k = 0; k < 3; k++)
            scene->nodes[scene->dump.n_nodes++] = (struct tp_node_record){
                .parent = (uint32_t)scene->dump.n_nodes - 2,
                .module = i + 1,
                .offset = calls[k],
            };
    }
}

static void check_many(const struct tp_symbols *symbols, const struct scene *scene)
{
    for (uint32_t i = 0; i < PROGRAMS; i++) {
        scene_check(symbols, scene, 3 * i + 1,
            "innermost fixture.c:13 < middle fixture.c:17 < outer fixture.c:21");
        scene_check(symbols, scene, 3 * i + 2, "plain fixture.c:26");
        scene_check(symbols, scene, 3 * i + 3, "hidden fixture.c:31");
    }
}

static void modules_are_read_side_by_side(void **state)
{
    (void)state;
    struct scene scene;
    begin_many(&scene);
    for (unsigned threads = 0; threads < 9; threads += 4) {
        struct tp_symbols_wish wish = no_cache;
        wish.threads = threads;
        struct tp_symbols *symbols = scene_resolved(&scene, &wish);
        check_many(symbols, &scene);
        assert_int_equal(tp_symbols_opened(symbols), PROGRAMS);
        tp_symbols_close(symbols);
    }
}

static void memory_is_bounded(void **state)
{
    (void)state;
    struct scene scene;
    struct stat status;
    begin_many(&scene);
    assert_int_equal(stat("program0", &status), 0);
    uint64_t one = (uint64_t)status.st_size;
    for (uint64_t room = 1; room < 4; room++) {
        struct tp_symbols_wish wish = no_cache;
        wish.threads = PROGRAMS;
        wish.cache_bytes = room * one + one / 2;
        struct tp_symbols *symbols = scene_resolved(&scene, &wish);
        check_many(symbols, &scene);
        assert_true(tp_symbols_most_bytes(symbols) <= wish.cache_bytes);
        assert_true(tp_symbols_most_bytes(symbols) + one > wish.cache_bytes);
        tp_symbols_close(symbols);
    }
    // One alone may be larger than all that is allowed.
    struct tp_symbols_wish wish = no_cache;
    wish.cache_bytes = 1;
    struct tp_symbols *symbols = scene_resolved(&scene, &wish);
    check_many(symbols, &scene);
    tp_symbols_close(symbols);
}

static void what_is_open_stays_open_for_the_next_dump(void **state)
{
    (void)state;
    struct scene one, two;
    begin_many(&one);
    two = one;
    two.dump.modules = two.modules;
    two.dump.nodes = two.nodes;
    one.dump.n_nodes = 2;
    struct tp_symbols *symbols = scene_resolved(&one, &no_cache);
    size_t n;
    const struct tp_symbol *before = tp_symbols_at(symbols, &one.dump, 1, &n);
    scene_resolve(symbols, &two);
    assert_int_equal(tp_symbols_opened(symbols), PROGRAMS);  // the first not again
    check_many(symbols, &two);
    assert_ptr_equal(tp_symbols_at(symbols, &one.dump, 1, &n), before);
    scene_resolve(symbols, &two);
    scene_resolve(symbols, &one);
    assert_int_equal(tp_symbols_opened(symbols), PROGRAMS);
    tp_symbols_close(symbols);
}

static void another_dump_at_the_same_place_is_another(void **state)
{
    (void)state;
    struct scene scene;
    begin_many(&scene);
    struct tp_symbols *symbols = scene_resolved(&scene, &no_cache);
    struct tp_module_record module = scene.modules[0];
    scene.modules[0] = scene.modules[1];
    scene.modules[1] = module;
    scene.modules[1].build_id[0] ^= 1;  // nobody has it
    scene.dump.header.time_unix_ns++;
    scene_resolve(symbols, &scene);
    scene_check(symbols, &scene, 2, "plain fixture.c:26");
    scene_check(symbols, &scene, 5, "");
    tp_symbols_close(symbols);
}

static void another_process_may_know_where_a_file_is(void **state)
{
    (void)state;
    struct scene one, two;
    begin_many(&one);
    two = one;
    two.dump.modules = two.modules;
    two.dump.nodes = two.nodes;
    strcpy(one.modules[0].path, "/nowhere/program0");
    struct tp_symbols *symbols = scene_resolved(&one, &no_cache);
    scene_check(symbols, &one, 2, "");
    scene_resolve(symbols, &two);
    check_many(symbols, &two);
    check_many(symbols, &one);  // it is the same build id
    tp_symbols_close(symbols);
}

static void nothing_was_asked(void **state)
{
    (void)state;
    struct scene scene;
    struct tp_error error = { "" };
    scene_begin(&scene);
    struct tp_symbols *symbols = scene_open(&no_cache);
    scene_check(symbols, &scene, 0, "");
    assert_true(tp_symbols_resolve(symbols, &scene.dump, NULL, 0, &error));
    scene_check(symbols, &scene, 0, "");
    scene.dump.nodes = NULL;
    scene.dump.modules = NULL;
    scene.dump.n_nodes = 0;
    const uint32_t node = 7;
    assert_true(tp_symbols_resolve(symbols, &scene.dump, &node, 1, &error));
    scene_check(symbols, &scene, 7, "");
    tp_symbols_close(symbols);
    tp_symbols_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define IN_FOLDER(test) \
    cmocka_unit_test_setup_teardown(test, scene_folder_make, scene_folder_clear)
        IN_FOLDER(modules_are_read_side_by_side),
        IN_FOLDER(memory_is_bounded),
        IN_FOLDER(what_is_open_stays_open_for_the_next_dump),
        IN_FOLDER(another_dump_at_the_same_place_is_another),
        IN_FOLDER(another_process_may_know_where_a_file_is),
        IN_FOLDER(nothing_was_asked),
    };
    return cmocka_run_group_tests_name("symbols", tests, NULL, NULL);
}
