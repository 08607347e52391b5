/* SPDX-License-Identifier: MIT */
/*
 * test_scale.c - twice the call sites are twice the work, and memory is a few hundred
 * bytes a site.
 *
 * Time says nothing on a machine that others use. What is counted instead: bytes that the
 * reader asks for, and how often it does.
 */
#include "tests/unit/report/crowd.h"
#include "tests/unit/report/test.h"

#include <stdlib.h>
#include <string.h>

#include "report/frames.h"
#include "report/sites.h"

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *block, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *block, size_t n);

static struct {
    size_t calls;
    size_t bytes;
} asked;

static void note(size_t n)
{
    asked.calls++;
    asked.bytes += n;
}

void *__wrap_malloc(size_t n)
{
    note(n);
    return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    note(n * size);
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *block, size_t n)
{
    note(n);
    return __real_realloc(block, n);
}

enum { MANY = 20000 };

static struct {
    struct tp_recording recording;
    struct tp_profile profile;
    struct tp_sites sites;
    struct tp_error error;
} scene;

static void open_crowd(size_t n, bool exact)
{
    struct crowd_wish wish = { .n_stacks = n, .exact = exact, .seed = 1009 };
    size_t n_bytes = 0;
    unsigned char *bytes = crowd_make(&wish, &n_bytes);
    memset(&scene, 0, sizeof(scene));
    assert_non_null(bytes);
    assert_true(
        tp_recording_parse(&scene.recording, bytes, n_bytes, "crowd", &scene.error));
    free(bytes);
    assert_true(
        tp_profile_build(&scene.profile, scene.recording.dumps, "crowd", &scene.error));
    memset(&asked, 0, sizeof(asked));
    assert_true(tp_sites_build(&scene.sites, &scene.profile, "crowd", &scene.error));
}

static void close_crowd(void)
{
    tp_sites_fini(&scene.sites);
    tp_profile_fini(&scene.profile);
    tp_recording_fini(&scene.recording);
}

static void check_sums(void)
{
    int64_t allocations = 0, live = 0, peak = 0;
    for (size_t i = 0; i < scene.sites.n_sites; i++) {
        const struct tp_site *site = &scene.sites.sites[i];
        allocations += site->allocations.value;
        live += site->live_bytes.value;
        peak += site->peak_bytes.value;
        assert_true(site->live_bytes.low <= site->live_bytes.value);
        assert_true(site->live_bytes.high >= site->live_bytes.value);
    }
    assert_int_equal(allocations, scene.profile.totals.allocations);
    assert_int_equal(live, scene.profile.totals.live_bytes);
    assert_int_equal(peak, scene.profile.totals.peak_bytes);
}

static void many_sites_add_up(void **state)
{
    (void)state;
    for (int exact = 0; exact < 2; exact++) {
        open_crowd(MANY, exact);
        check_sums();
        assert_true(scene.sites.n_sites >= MANY);
        close_crowd();
    }
}

static void no_site_costs_an_allocation(void **state)
{
    (void)state;
    open_crowd(MANY / 10, false);
    size_t few = asked.calls;
    close_crowd();
    open_crowd(MANY, false);
    // A second worker has a scratch and a thread of its own.
    assert_true(asked.calls <= few + 4);
    close_crowd();
}

static void a_site_costs_a_few_hundred_bytes(void **state)
{
    (void)state;
    open_crowd(MANY, false);
    size_t some = asked.bytes;
    close_crowd();
    open_crowd(2 * MANY, false);
    // All that is ever asked for, and not at one time: 1 GiB a million is the bound.
    assert_true(asked.bytes - some < (size_t)900 * MANY);
    close_crowd();
}

static void stacks_cost_no_name_each(void **state)
{
    (void)state;
    struct tp_view view;
    tp_view_init(&view);
    open_crowd(2 * MANY, false);
    memset(&asked, 0, sizeof(asked));
    struct tp_stacks *stacks =
        tp_stacks_open(NULL, scene.recording.dumps, &scene.sites, &view);
    assert_non_null(stacks);
    size_t n_nodes = scene.recording.dumps->n_nodes;
    assert_true(n_nodes > 3 * MANY);
    // Twice what the places, and their names as they are made, need.
    assert_true(asked.calls < n_nodes);
    for (size_t i = 0; i < scene.sites.n_sites; i++) {
        const struct tp_site *site = &scene.sites.sites[i];
        size_t n = 0;
        const struct tp_step *steps = tp_stacks_of(stacks, site, &n);
        assert_ptr_equal(tp_stacks_first(stacks, site), n ? steps[0].place : NULL);
    }
    tp_stacks_close(stacks);
    close_crowd();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(many_sites_add_up),
        cmocka_unit_test(no_site_costs_an_allocation),
        cmocka_unit_test(a_site_costs_a_few_hundred_bytes),
        cmocka_unit_test(stacks_cost_no_name_each),
    };
    return cmocka_run_group_tests_name("scale", tests, NULL, NULL);
}
