/* SPDX-License-Identifier: MIT */
/*
 * made_up.c - call sites with names, made by hand.
 */
#include "tests/unit/report/made_up.h"

#include <stdio.h>
#include <string.h>

const struct tp_symbol *__wrap_tp_symbols_at(const struct tp_symbols *symbols,
    const struct tp_dump *dump, uint32_t node, size_t *out_n);

const struct tp_symbol *__wrap_tp_symbols_at(const struct tp_symbols *symbols,
    const struct tp_dump *dump, uint32_t node, size_t *out_n)
{
    const struct made_up *made = (const void *)symbols;
    assert_ptr_equal(dump, &made->dump);
    assert_in_range(node, 1, dump->n_nodes - 1);
    *out_n = made->n_symbols[node];
    return made->symbols[node];
}

void made_init(struct made_up *made)
{
    static const char *const paths[3] = { "/opt/app", "/usr/lib/libjson.so.1",
        "/lib/x86_64-linux-gnu/libc.so.6" };
    memset(made, 0, sizeof(*made));
    test_dump(&made->dump, NULL, 0);
    for (int i = 0; i < 3; i++)
        snprintf(made->modules[i].path, TP_FORMAT_PATH, "%s", paths[i]);
    made->dump.modules = made->modules;
    made->dump.n_modules = 3;
    made->dump.nodes = made->nodes;
    made->dump.n_nodes = 1;
    made->dump.sampling.mode = TP_SAMPLING_SAMPLED;
    made->dump.sampling.depth = 64;
    made->sites.sites = made->list;
    made->sites.mode = TP_SAMPLING_SAMPLED;
    made->profile.dump = &made->dump;
    made->profile.reason = "exit";
    made->profile.complete = true;
    made->profile.duration_ns = 3000000000;
    tp_view_init(&made->view);
}

uint32_t made_frame(struct made_up *made, uint32_t parent, uint32_t module,
    const char *function, const char *file, uint32_t line)
{
    uint32_t node = (uint32_t)made->dump.n_nodes++;
    assert_true(node < MADE_NODES);
    made->nodes[node] =
        (struct tp_node_record){ parent, module, 0x1000 + 0x11 * (uint64_t)node };
    made->symbols[node][0] =
        (struct tp_symbol){ function ? function : "", file, line, false };
    made->n_symbols[node] = 1;
    return node;
}

void made_inline(struct made_up *made, uint32_t node, const char *function,
    const char *file, uint32_t line)
{
    size_t n = made->n_symbols[node]++;
    assert_true(n < MADE_INLINES);
    memmove(&made->symbols[node][1], &made->symbols[node][0],
        n * sizeof(made->symbols[node][0]));
    made->symbols[node][0] = (struct tp_symbol){ function, file, line, true };
}

static struct tp_estimate about(int64_t value, int64_t error)
{
    return (struct tp_estimate){ value, value - error, value + error };
}

struct tp_site *made_site(
    struct made_up *made, uint32_t node, int64_t bytes, int64_t blocks, int64_t error)
{
    assert_true(made->sites.n_sites < MADE_SITES);
    struct tp_site *site = &made->list[made->sites.n_sites++];
    site->kind = node ? TP_SITE_STACK : TP_SITE_UNSAMPLED;
    site->node = node;
    site->samples = 11;
    site->allocated_bytes = site->live_bytes = site->peak_bytes = about(bytes, error);
    site->allocations = site->live_blocks = about(blocks, 0);
    return site;
}

void made_open(struct made_up *made)
{
    struct tp_totals *totals = &made->profile.totals;
    totals->peak_bytes = tp_sites_total(&made->sites, TP_FIGURE_PEAK);
    totals->live_bytes = tp_sites_total(&made->sites, TP_FIGURE_LIVE);
    totals->allocated_bytes =
        (uint64_t)tp_sites_total(&made->sites, TP_FIGURE_ALLOCATED);
    totals->allocations = (uint64_t)tp_sites_total(&made->sites, TP_FIGURE_COUNT);
    struct tp_symbols *names = (void *)made;
    made->who = (struct tp_who){ .profile = &made->profile,
        .view = &made->view,
        .sites = &made->sites,
        .symbols = names,
        .stacks = tp_stacks_open(made->view.no_symbols ? NULL : names, &made->dump,
            &made->sites, &made->view),
        .columns = 80 };
    assert_non_null(made->who.stacks);
}

void made_close(struct made_up *made)
{
    tp_stacks_close(made->who.stacks);
    tp_view_fini(&made->view);
}

static void write_page(struct tp_writer *w, void *argument)
{
    const struct made_up *made = argument;
    tp_who_write(w, &made->who);
}

char *made_page(struct made_up *made)
{
    return test_written(write_page, made);
}

void made_program(struct made_up *made)
{
    made_init(made);
    uint32_t start = made_frame(made, 0, 3, "__libc_start_main_impl", "", 0);
    uint32_t run = made_frame(made, start, 1, "main", "/src/app.cc", 22);
    uint32_t parse = made_frame(made, run, 1, "parse_document", "/src/json.cc", 301);
    uint32_t value = made_frame(
        made, parse, 1, "parse_value(Json&, char const*&)", "/src/json.cc", 412);
    uint32_t array = made_frame(
        made, value, 1, "parse_array(Json&, char const*&)", "/src/json.cc", 377);
    uint32_t grow = made_frame(made, array, 1,
        "void std::vector<Json, std::allocator<Json> >::_M_realloc_insert<Json>()",
        "/usr/include/c++/12/bits/vector.tcc", 440);
    made_inline(made, grow,
        "std::_Vector_base<Json, std::allocator<Json> >::_M_allocate(unsigned long)",
        "/usr/include/c++/12/bits/stl_vector.h", 381);
    made_inline(made, grow,
        "std::__new_allocator<Json>::allocate(unsigned long, void const*)",
        "/usr/include/c++/12/bits/new_allocator.h", 137);
    uint32_t new = made_frame(made, grow, 3, "operator new(unsigned long)", "", 0);
    uint32_t string =
        made_frame(made, value, 1, "parse_string(char const*&)", "/src/json.cc", 204);
    uint32_t name = made_frame(made, run, 1, "remember_name", "/src/names.c", 31);
    uint32_t copy = made_frame(made, name, 3, "strdup", "", 0);
    uint32_t unknown = made_frame(made, run, 2, NULL, "", 0);
    uint32_t wrapper = made_frame(made, string, 1, "xmalloc", "/src/xmalloc.c", 7);

    struct tp_site *site = made_site(made, new, 158 << 20, 1013, 3 << 20);
    site->live_samples = 5;
    site->age_ns_least = 7000003;
    site->age_ns_median = 1100000007;
    site->age_ns_most = 2700000011;
    site->live_bytes = about(79 << 20, 3 << 20);
    site->temporary_blocks = about(499, 0);
    site = made_site(made, wrapper, 61 << 20, 40009, 17 << 20);
    site->live_bytes = about(0, 0);
    site->live_blocks = about(0, 0);
    site->temporary_blocks = about(39989, 0);
    site = made_site(made, copy, 3 << 20, 70001, 4 << 20);
    site->samples = 2;
    made_site(made, unknown, 1 << 20, 1, 0);
    made_site(made, 0, 2 << 20, 4001, 1 << 20)->samples = 0;
}
