/* SPDX-License-Identifier: MIT */
/*
 * test_frames.c - stacks as steps: folding, recursion, patterns; sums of trees.
 */
#include "tests/unit/report/made_up.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct made_up made;

/* The functions of a site's steps, innermost first, as one text. */
static const char *steps_of(size_t site)
{
    static char text[2000];
    size_t n = 0;
    const struct tp_step *steps = tp_stacks_of(made.who.stacks, &made.list[site], &n);
    text[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof(text) - used, "%s%.40s", i ? " < " : "",
            steps[i].place->function);
        used = strlen(text);
        if (steps[i].repeats)
            snprintf(text + used, sizeof(text) - used, " x%u/%u", steps[i].repeats + 1,
                steps[i].cycle);
    }
    return text;
}

static void plumbing_is_known_in_every_form(void **state)
{
    (void)state;
    static const char *const names[] = { "operator new(unsigned long)",
        "operator new[](unsigned long, std::nothrow_t const&)",
        "operator new(unsigned long, std::align_val_t)", "operator new",
        "operator new[]",
        "std::__new_allocator<int>::allocate(unsigned long, void const*)",
        "__gnu_cxx::new_allocator<std::pair<int, char> >::allocate(unsigned long)",
        "std::allocator_traits<std::allocator<A> >::allocate(std::allocator<A>&, "
        "unsigned long)",
        "std::_Vector_base<A, std::allocator<A> >::_M_allocate(unsigned long)",
        "std::__cxx11::basic_string<char, std::char_traits<char>, "
        "std::allocator<char> >::_M_create(unsigned long&, unsigned long)",
        "std::__detail::_Hashtable_alloc<std::allocator<X> >::_M_allocate_buckets("
        "unsigned long)",
        "std::__1::__libcpp_allocate[abi:v160006](unsigned long, unsigned long)",
        "__rust_alloc", "__rdl_alloc_zeroed", "alloc::alloc::alloc",
        "alloc::alloc::Global::alloc_impl",
        "<alloc::alloc::Global as core::alloc::Allocator>::allocate",
        "alloc::raw_vec::RawVec<T,A>::grow_amortized", "alloc::raw_vec::finish_grow" };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (!tp_frames_is_plumbing(names[i])) fail_msg("not plumbing: %s", names[i]);
}

static void what_asks_for_itself_is_no_plumbing(void **state)
{
    (void)state;
    static const char *const names[] = { "strdup", "calloc", "fopen", "main",
        "operator new_thing(int)", "operator<(A const&, A const&)",
        "operator()(operator new)", "my::allocator<int>::allocate(unsigned long)",
        "std::vector<int, std::allocator<int> >::reserve(unsigned long)",
        "void std::vector<A>::_M_realloc_insert<A>(A&&)", "alloc::vec::Vec<T>::push",
        "allocate", "", "<", ">", "operator", "operator<", "((((", "std::" };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (tp_frames_is_plumbing(names[i])) fail_msg("plumbing: %s", names[i]);
}

static void the_inner_end_is_folded_and_inlines_are_steps(void **state)
{
    (void)state;
    made_program(&made);
    made_open(&made);
    assert_string_equal(steps_of(0),
        "void std::vector<Json, std::allocator<Js < parse_array(Json&, char const*&) < "
        "parse_value(Json&, char const*&) < parse_document < main");
    assert_string_equal(steps_of(2), "strdup < remember_name < main");
    made_close(&made);
}

static void what_is_unknown_is_called_by_its_module(void **state)
{
    (void)state;
    made_program(&made);
    made_open(&made);
    assert_string_equal(steps_of(3), "libjson.so.1+0x10bb < main");
    made_close(&made);

    made_program(&made);
    made.view.no_symbols = true;
    made.nodes[11].module = 0;  // code made at run time
    made.nodes[2].module = 99;  // no such module
    made_open(&made);
    assert_string_equal(steps_of(3), "0x10bb < 0x1022 < libc.so.6+0x1011");
    made_close(&made);
}

static void a_stack_of_plumbing_alone_keeps_its_outermost_step(void **state)
{
    (void)state;
    made_init(&made);
    uint32_t outer = made_frame(&made, 0, 1, "alloc::alloc::alloc", "", 0);
    uint32_t inner = made_frame(&made, outer, 1, "__rust_alloc", "", 0);
    made_site(&made, inner, 17, 1, 0);
    made_open(&made);
    assert_string_equal(steps_of(0), "alloc::alloc::alloc");
    made_close(&made);
}

static void wrappers_are_hidden_when_asked(void **state)
{
    (void)state;
    struct tp_error error;
    made_program(&made);
    assert_true(tp_patterns_add(&made.view.hide, "hide", "^xmalloc$", &error));
    assert_true(tp_patterns_add(&made.view.hide, "hide", "json\\.cc", &error));
    made_open(&made);
    assert_string_equal(steps_of(1), "main");
    made_close(&made);
}

static void a_recursion_is_one_step_with_a_count(void **state)
{
    (void)state;
    made_init(&made);
    uint32_t at = made_frame(&made, 0, 1, "main", "a.c", 1);
    for (int i = 0; i < 5; i++) at = made_frame(&made, at, 1, "walk", "a.c", 9);
    made_site(&made, at, 17, 1, 0);
    at = made_frame(&made, 1, 1, "begin", "a.c", 3);
    for (int i = 0; i < 3; i++) {
        at = made_frame(&made, at, 1, "ping", "a.c", 5);
        at = made_frame(&made, at, 1, "pong", "a.c", 7);
    }
    made_site(&made, at, 19, 1, 0);
    made_open(&made);
    assert_string_equal(steps_of(0), "walk x5/1 < main");
    assert_string_equal(steps_of(1), "pong x3/2 < ping < begin < main");
    made_close(&made);
}

static void one_function_in_two_files_is_two(void **state)
{
    (void)state;
    made_init(&made);
    uint32_t at = made_frame(&made, 0, 1, "init", "a.c", 1);
    at = made_frame(&made, at, 1, "init", "b.c", 1);
    made_site(&made, at, 17, 1, 0);
    made_open(&made);
    assert_string_equal(steps_of(0), "init < init");
    made_close(&made);
}

static size_t count_wanted(void)
{
    size_t n = 0;
    for (size_t i = 0; i < made.sites.n_sites; i++)
        n += tp_stacks_wants(made.who.stacks, &made.list[i]);
    return n;
}

static void focus_and_ignore_match_function_file_and_module(void **state)
{
    (void)state;
    static const struct {
        const char *focus;
        const char *ignore;
        size_t n;
    } table[] = {
        { NULL, NULL, 5 },
        { "parse_", NULL, 2 },
        { "names\\.c$", NULL, 1 },
        { "libjson", NULL, 1 },
        { "operator new", NULL, 1 },  // although it is folded away
        { "nothing of the kind", NULL, 0 },
        { NULL, "main", 1 },  // what has no stack has no main
        { "main", "parse_string|strdup", 2 },
        { NULL, "libc\\.so", 1 },
    };
    struct tp_error error;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        made_program(&made);
        if (table[i].focus)
            assert_true(
                tp_patterns_add(&made.view.focus, "focus", table[i].focus, &error));
        if (table[i].ignore)
            assert_true(
                tp_patterns_add(&made.view.ignore, "ignore", table[i].ignore, &error));
        made_open(&made);
        assert_int_equal(count_wanted(), table[i].n);
        made_close(&made);
    }
}

static void a_pattern_that_repeats_too_much_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = { "((a{1,500}){1,500}){1,500}", "(a{100}){100}",
        "((((((((((((a+)+)+)+)+)+)+)+)+)+)+)+)+", "x)(a{300}){300}", "([(]{300}){300}",
        "(a{99,}){99}" };
    static const char *const good[] = { "a{1,500}", "^(std::)?vector<[^>]{1,40}>$",
        "(a|b)+c*", "[]{(]{3}", "x{", "a\\{3", "", "(ab){3}(cd){2,}" };
    struct tp_view view;
    struct tp_error error;
    tp_view_init(&view);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(tp_patterns_add(&view.focus, "focus", bad[i], &error));
        assert_non_null(strstr(error.text, "repeats too much"));
    }
    static char many[5000];
    memset(many, 'a', sizeof(many) - 1);
    assert_false(tp_patterns_add(&view.focus, "focus", many, &error));
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        if (!tp_patterns_add(&view.focus, "focus", good[i], &error) &&
            strstr(error.text, "repeats too much"))
            fail_msg("refused: %s", good[i]);
    tp_view_fini(&view);
}

static void a_bad_pattern_is_an_error_of_one_line(void **state)
{
    (void)state;
    struct tp_view view;
    struct tp_error error = { "" };
    tp_view_init(&view);
    assert_false(tp_patterns_add(&view.focus, "focus", "a(b", &error));
    assert_non_null(strstr(error.text, "--focus: 'a(b' is no regular expression: "));
    assert_null(strchr(error.text, '\n'));
    assert_int_equal(view.focus.n, 0);
    tp_view_fini(&view);
}

static void every_sort_has_its_figure(void **state)
{
    (void)state;
    struct tp_site site = { .peak_bytes.value = 2,
        .live_bytes.value = 3,
        .allocated_bytes.value = 5,
        .allocations.value = 7,
        .temporary_blocks.value = 11 };
    static const struct {
        const char *word;
        int64_t value;
    } table[] = { { "peak", 2 }, { "live", 3 }, { "allocated", 5 }, { "count", 7 },
        { "temporary", 11 } };
    for (size_t i = 0; i < TP_FIGURES; i++) {
        enum tp_figure figure = tp_figure_find(table[i].word);
        assert_int_equal(figure, i);
        assert_int_equal(tp_site_figure(&site, figure)->value, table[i].value);
    }
    assert_int_equal(tp_figure_find("bytes"), TP_FIGURE_NONE);
}

static void errors_of_a_sum_add_as_squares(void **state)
{
    (void)state;
    struct tp_sum sum = { 0 };
    tp_sum_add(&sum, &(struct tp_estimate){ 1000, 997, 1006 });
    tp_sum_add(&sum, &(struct tp_estimate){ 2000, 1996, 2008 });
    struct tp_estimate out = tp_sum_estimate(&sum, NULL);
    assert_int_equal(out.value, 3000);
    assert_int_equal(out.low, 2995);
    assert_int_equal(out.high, 3010);
    tp_sum_add(&sum, &(struct tp_estimate){ INT64_MAX, INT64_MIN, INT64_MAX });
    out = tp_sum_estimate(&sum, NULL);
    assert_true(out.low <= out.value && out.value <= out.high);
}

static void the_sum_of_everything_is_exact(void **state)
{
    (void)state;
    struct tp_sum one = { 1000, 16, 9, 2 };
    struct tp_sum rest = { 5000, 400, 100, 3 };
    struct tp_sum all = { 6000, 416, 109, 5 };
    struct tp_estimate out = tp_sum_estimate(&all, &all);
    assert_true(out.low == 6000 && out.high == 6000);
    out = tp_sum_estimate(&one, &all);  // its own error is the smaller one
    assert_true(out.low == 996 && out.high == 1003);
    out =
        tp_sum_estimate(&rest, &all);  // what one has too much, the rest has too little
    assert_true(out.low == 4997 && out.high == 5004);
    rest.n = 1;
    out = tp_sum_estimate(&rest, &all);
    assert_true(out.low == 4980 && out.high == 5010);
}

/* ---- groups and trees --------------------------------------------------------------- */

static void stacks_of_one_line_are_one_group(void **state)
{
    (void)state;
    struct tp_groups groups;
    made_init(&made);
    uint32_t run = made_frame(&made, 0, 1, "main", "a.c", 1);
    uint32_t one = made_frame(&made, run, 1, "one", "a.c", 3);
    uint32_t two = made_frame(&made, run, 1, "two", "a.c", 5);
    made_site(&made, made_frame(&made, one, 1, "make", "a.c", 9), 101, 1, 3);
    made_site(&made, made_frame(&made, two, 1, "make", "a.c", 9), 211, 1, 4);
    made_site(&made, made_frame(&made, two, 1, "make", "a.c", 10), 17, 1, 0);
    made_open(&made);
    assert_true(tp_groups_build(
        &groups, &made.sites, made.who.stacks, &made.view, TP_FIGURE_LIVE));
    assert_int_equal(groups.n_groups, 2);
    assert_int_equal(groups.groups[0].n_stacks, 2);
    assert_ptr_equal(groups.groups[0].heaviest, &made.list[1]);
    struct tp_estimate sum =
        tp_sum_estimate(&groups.groups[0].sums[TP_FIGURE_LIVE], NULL);
    assert_int_equal(sum.value, 312);
    assert_int_equal(sum.low, 307);
    assert_int_equal(groups.sum.value, groups.total);
    tp_groups_fini(&groups);
    made.view.full = true;
    assert_true(tp_groups_build(
        &groups, &made.sites, made.who.stacks, &made.view, TP_FIGURE_LIVE));
    assert_int_equal(groups.n_groups, 3);
    tp_groups_fini(&groups);
    made_close(&made);
}

static void growth_is_told_from_a_working_set_and_a_cache(void **state)
{
    (void)state;
    const uint64_t s = 1000000000;
    struct tp_group grows = { .live_samples = 20,
        .age_ns_least = s,
        .age_ns_median = 50 * s,
        .age_ns_most = 98 * s };
    assert_true(tp_group_grows(&grows, 100 * s));
    struct tp_group set = grows;
    set.age_ns_median = 97 * s;
    assert_false(tp_group_grows(&set, 100 * s));
    struct tp_group cache = grows;
    cache.age_ns_most = 10 * s;
    cache.age_ns_median = 5 * s;
    assert_false(tp_group_grows(&cache, 100 * s));
    struct tp_group few = grows;
    few.live_samples = 3;
    assert_false(tp_group_grows(&few, 100 * s));
}

/* Every node's figure is its own and its children's, and the root's is the sites'. */
static void check_sums(const struct tp_path *paths, size_t n, int64_t all)
{
    assert_int_equal(paths[0].all.value, all);
    for (size_t i = 0; i < n; i++) {
        int64_t sum = paths[i].own.value;
        for (uint32_t c = paths[i].child; c; c = paths[c].next) {
            assert_true(c < n && paths[c].parent == i);
            sum += paths[c].all.value;
        }
        assert_int_equal(sum, paths[i].all.value);
    }
}

static void the_lines_of_a_tree_sum_to_its_root(void **state)
{
    (void)state;
    for (int way = TP_PATHS_ROOTS; way <= TP_PATHS_CALLERS; way++) {
        struct tp_path *paths = NULL;
        size_t n = 0;
        made_program(&made);
        made.view.paths = (enum tp_paths)way;
        made_open(&made);
        for (int figure = 0; figure < TP_FIGURES; figure++) {
            int64_t named = 0;
            for (size_t i = 0; i < 4; i++)
                named += tp_site_figure(&made.list[i], (enum tp_figure)figure)->value;
            assert_true(tp_paths_build(&paths, &n, &made.who, figure));
            check_sums(paths, n, named);
            free(paths);
        }
        made_close(&made);
    }
}

static void a_large_tree_keeps_its_sums(void **state)
{
    (void)state;
    static char names[MADE_NODES][8];
    struct tp_path *paths = NULL;
    size_t n = 0;
    uint32_t random = 12345;
    made_init(&made);
    int64_t all = 0;
    for (uint32_t i = 1; i < MADE_NODES; i++) {
        random = random * 1103515245 + 12345;
        snprintf(names[i], sizeof(names[i]), "f%u", (random >> 16) % 7);
        made_frame(&made, (random >> 8) % i, 1, names[i], "a.c", i);
        made_site(&made, i, 1009 + i, 1, 3);
        all += 1009 + i;
    }
    made.view.paths = TP_PATHS_ROOTS;
    made_open(&made);
    assert_true(tp_paths_build(&paths, &n, &made.who, TP_FIGURE_LIVE));
    check_sums(paths, n, all);
    free(paths);
    made_close(&made);
}

static void nodes_that_are_no_tree_are_survived(void **state)
{
    (void)state;
    made_program(&made);
    made.nodes[3].parent = 3;   // its own caller
    made.nodes[4].parent = 60;  // a later record, and none of this dump
    made.list[2].node = 4000000000;
    made_open(&made);
    assert_true(strlen(steps_of(0)) > 0);
    assert_string_equal(steps_of(2), "");
    made_close(&made);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plumbing_is_known_in_every_form),
        cmocka_unit_test(what_asks_for_itself_is_no_plumbing),
        cmocka_unit_test(the_inner_end_is_folded_and_inlines_are_steps),
        cmocka_unit_test(what_is_unknown_is_called_by_its_module),
        cmocka_unit_test(a_stack_of_plumbing_alone_keeps_its_outermost_step),
        cmocka_unit_test(wrappers_are_hidden_when_asked),
        cmocka_unit_test(a_recursion_is_one_step_with_a_count),
        cmocka_unit_test(one_function_in_two_files_is_two),
        cmocka_unit_test(focus_and_ignore_match_function_file_and_module),
        cmocka_unit_test(a_bad_pattern_is_an_error_of_one_line),
        cmocka_unit_test(every_sort_has_its_figure),
        cmocka_unit_test(errors_of_a_sum_add_as_squares),
        cmocka_unit_test(the_sum_of_everything_is_exact),
        cmocka_unit_test(stacks_of_one_line_are_one_group),
        cmocka_unit_test(growth_is_told_from_a_working_set_and_a_cache),
        cmocka_unit_test(the_lines_of_a_tree_sum_to_its_root),
        cmocka_unit_test(a_large_tree_keeps_its_sums),
        cmocka_unit_test(nodes_that_are_no_tree_are_survived),
        cmocka_unit_test(a_pattern_that_repeats_too_much_is_refused),
    };
    return cmocka_run_group_tests_name("frames", tests, NULL, NULL);
}
