/* SPDX-License-Identifier: MIT */
/*
 * test_dump.c - where dumps go, what they are called, what they hold.
 */
#include "pool/pool.h"
#include "shim/output.h"

#include "tests/unit/tp_test.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The rest of the shim, as far as dump.c knows it. */
struct tp_options tp_options;
struct tp_boot tp_boot;
static struct tp_process_record process;

struct tp_live_view tp_live_view(void)
{
    return (struct tp_live_view){ .process = &process,
        .exe = "/bin/x",
        .exe_bytes = 6,
        .command = "x",
        .command_bytes = 2 };
}

void tp_boot_read_rss(uint64_t *out_now, uint64_t *out_peak)
{
    *out_now = 1000003;
    *out_peak = 2000003;
}

static char folder[64];
static unsigned char bytes[128 << 20];  // what is not read costs nothing

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "tidepool-test.XXXXXX");
    strcpy(tp_boot.name, "a/b");
    strcpy(tp_boot.host, "host");
    tp_boot.pid = 4242;
    return mkdtemp(folder) && tp_pool_start() && tp_pool_counters() ? 0 : 1;
}

static int remove_folder(void **state)
{
    (void)state;
    DIR *list = opendir(folder);
    char path[512];
    for (struct dirent *entry; list && (entry = readdir(list));) {
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        unlink(path);
    }
    if (list) closedir(list);
    return rmdir(folder);
}

static int begin_anew(void **state)
{
    (void)state;
    tp_options.summary = TP_SUMMARY_OFF;
    tp_dump_forked();
    return 0;
}

static void want(const char *name)
{
    snprintf(tp_options.out, sizeof(tp_options.out), "%s/%s", folder, name);
}

static const char *in_folder(const char *name)
{
    static char path[256];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    return path;
}

static unsigned n_files(void)
{
    unsigned n = 0;
    DIR *list = opendir(folder);
    while (list && readdir(list)) n++;
    if (list) closedir(list);
    return n - 2;
}

static void write_one(const void *reason)
{
    tp_dump_write((enum tp_dump_reason)(uintptr_t)reason);
}

static void assert_writes(const char *pattern, const char *name)
{
    want(pattern);
    assert_string_equal(test_words(write_one, (void *)TP_REASON_REQUEST), "");
    if (unlink(in_folder(name)) != 0) fail_msg("%s gives no %s", pattern, name);
}

static void name_follows_its_pattern(void **state)
{
    (void)state;
    assert_writes("plain.tide", "plain.tide");
    assert_writes("%e.%p.tide", "a_b.4242.tide");
    assert_writes("%h-%n", "host-2");
    assert_writes("%n%n", "33");
    assert_writes("100%%", "100%");
    assert_writes("%q", "%q");
    assert_writes("end%", "end");
    assert_int_equal(n_files(), 0);
}

static void time_in_a_name_is_now(void **state)
{
    (void)state;
    want("%t");
    time_t before = time(NULL);
    write_one((void *)TP_REASON_REQUEST);
    unsigned found = 0;
    char name[32];
    for (time_t t = before; t <= time(NULL); t++) {
        snprintf(name, sizeof(name), "%lu", (unsigned long)t);
        found += unlink(in_folder(name)) == 0;
    }
    assert_int_equal(found, 1);
}

static void nothing_is_written_over(void **state)
{
    (void)state;
    want("same.tide");
    for (int i = 0; i < 3; i++) write_one((void *)TP_REASON_REQUEST);
    assert_int_equal(n_files(), 3);
    assert_int_equal(unlink(in_folder("same.tide")), 0);
    assert_int_equal(unlink(in_folder("same.tide.1")), 0);
    assert_int_equal(unlink(in_folder("same.tide.2")), 0);
}

static size_t read_back(const char *name)
{
    FILE *file = fopen(in_folder(name), "rb");
    assert_non_null(file);
    size_t n = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    unlink(in_folder(name));
    return n;
}

static void dump_is_whole_and_its_rows_lie_inside(void **state)
{
    (void)state;
    void *p = tp_pool_alloc(173);
    want("whole");
    write_one((void *)TP_REASON_SIGNAL);
    size_t n = read_back("whole");
    struct tp_file_header header;
    memcpy(&header, bytes, sizeof(header));
    assert_memory_equal(header.magic, TP_FORMAT_MAGIC, 8);
    assert_int_equal(header.total_bytes, n);
    assert_int_equal(header.state, TP_FILE_DUMP);
    assert_int_equal(header.reason, TP_REASON_SIGNAL);
    assert_int_equal(header.rss_peak_bytes, 2000003);
    bool slots = false;
    for (uint32_t i = 0; i < header.n_regions; i++) {
        struct tp_region row;
        memcpy(&row, bytes + header.header_bytes + i * sizeof(row), sizeof(row));
        assert_int_equal(row.offset % 8, 0);
        assert_true(row.offset + row.count * row.record_bytes <= n);
        if (row.kind != TP_REGION_THREADS) continue;
        slots = true;
        assert_int_equal(row.count, tp_pool_slots());
        struct tp_counters mine;
        memcpy(&mine, bytes + row.offset + sizeof(mine), sizeof(mine));
        struct tp_sums then = tp_counters_sums(&mine);
        struct tp_sums now = tp_counters_sums(tp_pool_counters());
        assert_memory_equal(&then, &now, sizeof(now));
    }
    assert_true(slots);
    tp_pool_free(p);
}

static struct tp_region find_row(uint32_t kind)
{
    struct tp_file_header header;
    struct tp_region row;
    memcpy(&header, bytes, sizeof(header));
    for (uint32_t i = 0; i < header.n_regions; i++) {
        memcpy(&row, bytes + header.header_bytes + i * sizeof(row), sizeof(row));
        if (row.kind == kind) return row;
    }
    fail_msg("no row of kind %u", kind);
    return (struct tp_region){ 0 };
}

static void latencies_that_were_never_used_are_left_out(void **state)
{
    (void)state;
    memset(tp_account.latency, 0, sizeof(tp_account.latency));
    want("none");
    write_one((void *)TP_REASON_REQUEST);
    read_back("none");
    assert_int_equal(find_row(TP_REGION_LATENCY).count, 0);

    tp_latency_record(TP_OP_REFILL, 3, 3);
    tp_latency_record(TP_OP_PURGE, 0, 41);  // bucket 17
    want("two");
    write_one((void *)TP_REASON_REQUEST);
    size_t n = read_back("two");
    struct tp_region row = find_row(TP_REGION_LATENCY);
    assert_int_equal(row.count, 2);
    assert_int_equal(row.record_bytes, 64 + 18 * 8);
    struct tp_latency_record record;
    memcpy(&record, bytes + row.offset + row.record_bytes, row.record_bytes);
    assert_string_equal(record.name, "purge");
    assert_int_equal(record.total_ticks, 41);
    assert_int_equal(record.buckets[17], 1);
    assert_true(n < 8192);
}

static void without_memory_the_dump_is_the_same(void **state)
{
    (void)state;
    static unsigned char first[1 << 20];
    want("one");
    write_one((void *)TP_REASON_REQUEST);
    size_t n = read_back("one");
    memcpy(first, bytes, n);

    struct rlimit before, none;
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
    write_one((void *)TP_REASON_REQUEST);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(read_back("one"), n);
    // The clocks differ: those of the header and of the timeline's last point.
    struct tp_region timeline = find_row(TP_REGION_TIMELINE);
    size_t at = timeline.offset + (timeline.count - 1) * timeline.record_bytes;
    memset(first + at, 0, sizeof(uint64_t));
    memset(bytes + at, 0, sizeof(uint64_t));
    assert_memory_equal(first + sizeof(struct tp_file_header),
        bytes + sizeof(struct tp_file_header), n - sizeof(struct tp_file_header));
}

static struct tp_region find_row_or_none(uint32_t kind)
{
    struct tp_file_header header;
    struct tp_region row;
    memcpy(&header, bytes, sizeof(header));
    for (uint32_t i = 0; i < header.n_regions; i++) {
        memcpy(&row, bytes + header.header_bytes + i * sizeof(row), sizeof(row));
        if (row.kind == kind) return row;
    }
    return (struct tp_region){ 0 };
}

/* Record `i` of a kind in the bytes read back. */
static void get(uint32_t kind, uint64_t i, void *out, size_t n)
{
    struct tp_region row = find_row(kind);
    assert_true(i < row.count && row.record_bytes == n);
    memcpy(out, bytes + row.offset + i * n, n);
}

static void process_without_samples_writes_how_it_was_sampled(void **state)
{
    (void)state;
    want("unsampled");
    write_one((void *)TP_REASON_EXIT);
    size_t n = read_back("unsampled");
    assert_int_equal(find_row(TP_REGION_SAMPLING).count, 1);
    for (uint32_t kind = TP_REGION_MODULES; kind <= TP_REGION_SAMPLES; kind++)
        assert_int_equal(find_row_or_none(kind).kind, 0);
    // No tick came: one point, of the dump.
    assert_int_equal(find_row(TP_REGION_TIMELINE).count, 1);
    struct tp_point_record point;
    get(TP_REGION_TIMELINE, 0, &point, sizeof(point));
    struct tp_sums now = tp_counters_sums(tp_pool_counters());
    assert_int_equal(point.allocations, now.allocations);
    assert_int_equal(point.live_bytes, now.allocated_bytes - now.freed_bytes);
    assert_int_equal(point.rss_bytes, 1000003);
    assert_true(point.live_bytes_max >= point.live_bytes);
    assert_int_equal(tp_table_count(&tp_timeline), 0);
    assert_true(n < 8192);
}

/* Two sites below one caller, and what their writers have not finished. */
static void allocate_somewhere(void)
{
    assert_int_equal(tp_table_add(&tp_modules), 0);
    struct tp_module_record *module = tp_table_at(&tp_modules, 0);
    TP_ASSERT(module);
    memcpy(module->path, "/bin/x", 7);
    module->end = 8192;
    assert_int_equal(tp_table_add(&tp_modules), 1);
    module = tp_table_at(&tp_modules, 1);
    TP_ASSERT(module);
    memcpy(module->path, "half", 5);

    for (uint32_t i = 1; i <= 4; i++) assert_int_equal(tp_table_add(&tp_nodes), i);
    struct tp_node_record *nodes = tp_table_at(&tp_nodes, 0);
    nodes[1] = (struct tp_node_record){ .parent = 0, .module = 1, .offset = 7 };
    nodes[2] = (struct tp_node_record){ .parent = 1, .module = 1, .offset = 11 };
    nodes[3] = (struct tp_node_record){ .parent = 1, .module = 1, .offset = 13 };
    nodes[4] = (struct tp_node_record){ .parent = 9, .module = 77 };

    for (uint32_t i = 1; i <= 3; i++) assert_int_equal(tp_table_add(&tp_sites), i);
    struct tp_site_record *sites = tp_table_at(&tp_sites, 0);
    sites[1] = (struct tp_site_record){ .node = 2, .class = 3, .used = 1 };
    sites[1].taken.samples = 101;
    sites[1].freed.samples = 97;
    sites[2] = (struct tp_site_record){ .node = 3, .class = 48, .used = 1 };
    sites[3] = (struct tp_site_record){ .node = 77, .class = 3, .used = 0 };

    for (uint32_t i = 1; i <= 5; i++) assert_int_equal(tp_table_add(&tp_samples), i);
    struct tp_sample_record *samples = tp_table_at(&tp_samples, 0);
    samples[1] = (struct tp_sample_record){ .site = 1, .state = 0, .next = 3 };
    samples[2] = (struct tp_sample_record){ .site = 1, .state = 1, .address = 4096 };
    samples[4] = (struct tp_sample_record){ .site = 3, .state = 1, .address = 1 };
    samples[5] = (struct tp_sample_record){ .site = 2, .state = 1, .address = 8192 };
    tp_sampling->samples = 1009;
    struct tp_point_record point = { .ticks = 1, .live_bytes = 5 };
    assert_true(tp_timeline_add(&point));
}

static void dump_holds_who_allocates(void **state)
{
    (void)state;
    allocate_somewhere();
    want("sites");
    write_one((void *)TP_REASON_EXIT);
    read_back("sites");
    struct tp_sampling_record sampling;
    struct tp_module_record module;
    struct tp_node_record node;
    struct tp_site_record site;
    struct tp_sample_record sample;
    struct tp_point_record point;
    get(TP_REGION_SAMPLING, 0, &sampling, sizeof(sampling));
    assert_int_equal(sampling.samples, 1009);
    get(TP_REGION_MODULES, 0, &module, sizeof(module));
    assert_string_equal(module.path, "/bin/x");
    get(TP_REGION_MODULES, 1, &module, sizeof(module));
    assert_true(test_is_filled(&module, 0, sizeof(module)));
    get(TP_REGION_NODES, 3, &node, sizeof(node));
    assert_int_equal(node.offset, 13);
    get(TP_REGION_NODES, 4, &node, sizeof(node));
    assert_true(test_is_filled(&node, 0, sizeof(node)));
    get(TP_REGION_SITES, 0, &site, sizeof(site));
    assert_int_equal(site.used, 0);
    get(TP_REGION_SITES, 1, &site, sizeof(site));
    assert_true(site.taken.samples == 101 && site.freed.samples == 97);
    get(TP_REGION_SITES, 3, &site, sizeof(site));
    assert_true(test_is_filled(&site, 0, sizeof(site)));
    // Those that are alive, side by side.
    assert_int_equal(find_row(TP_REGION_SAMPLES).count, 2);
    get(TP_REGION_SAMPLES, 0, &sample, sizeof(sample));
    assert_int_equal(sample.address, 4096);
    get(TP_REGION_SAMPLES, 1, &sample, sizeof(sample));
    assert_int_equal(sample.address, 8192);
    assert_int_equal(find_row(TP_REGION_TIMELINE).count, 2);
    get(TP_REGION_TIMELINE, 0, &point, sizeof(point));
    assert_int_equal(point.ticks, 1);
    get(TP_REGION_TIMELINE, 1, &point, sizeof(point));
    assert_true(point.ticks > 1 && point.allocations > 0);
}

static void without_memory_sites_are_left_out_and_the_dump_says_so(void **state)
{
    (void)state;
    want("one");
    struct rlimit before, none = { 0, 0 };
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    none.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_AS, &none), 0);
    write_one((void *)TP_REASON_REQUEST);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    size_t n = read_back("one");
    struct tp_file_header header;
    memcpy(&header, bytes, sizeof(header));
    assert_int_equal(header.total_bytes, n);
    assert_int_equal(header.flags, TP_FILE_LOST_SITES);
    for (uint32_t kind = TP_REGION_MODULES; kind <= TP_REGION_SAMPLES; kind++)
        assert_int_equal(find_row_or_none(kind).kind, 0);
    assert_int_equal(find_row(TP_REGION_SAMPLING).count, 1);
    assert_int_equal(find_row(TP_REGION_TIMELINE).count, 1);
}

enum { WRITERS = 3, DUMPS = 60, ENDLESS = 100000 };
static _Atomic(bool) stop;

/* Adds frames, sites and samples and ends samples, as sites.c and samples.c do. */
static void *sample_on(void *argument)
{
    uint32_t mine = 0;
    for (int i = 0; i < ENDLESS && !atomic_load(&stop); i++) {
        uint32_t m = tp_table_add(&tp_modules), n = tp_table_add(&tp_nodes);
        uint32_t s = tp_table_add(&tp_sites);
        struct tp_module_record *module = tp_table_at(&tp_modules, m);
        struct tp_node_record *node = tp_table_at(&tp_nodes, n);
        struct tp_site_record *site = tp_table_at(&tp_sites, s);
        if (module) __atomic_store_n(&module->end, 8192, __ATOMIC_RELEASE);
        if (!node || !site) break;
        __atomic_store_n(&node->module, module ? m + 1 : 0, __ATOMIC_RELAXED);
        __atomic_store_n(&node->parent, n - 1, __ATOMIC_RELAXED);
        __atomic_store_n(&site->node, n, __ATOMIC_RELAXED);
        __atomic_store_n(&site->used, 1, __ATOMIC_RELEASE);
        struct tp_sample_record *sample = tp_table_at(&tp_samples, mine);
        if (!mine || i % 64 == 0) {
            mine = tp_table_add(&tp_samples);
            sample = tp_table_at(&tp_samples, mine);
        }
        if (!sample) break;
        __atomic_store_n(&sample->state, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&sample->site, s, __ATOMIC_RELAXED);
        __atomic_store_n(&sample->address, (uint64_t)i, __ATOMIC_RELAXED);
        __atomic_store_n(&sample->state, 1, __ATOMIC_RELEASE);
        __atomic_fetch_add(&site->taken.samples, 1, __ATOMIC_RELAXED);
        __atomic_fetch_add(&site->freed.samples, 1, __ATOMIC_RELAXED);
    }
    return argument;
}

/* The rules of report/records.c, over what was read back. */
static void assert_indices_lead_somewhere(void)
{
    struct tp_node_record node;
    struct tp_site_record site;
    struct tp_sample_record sample;
    struct tp_region nodes = find_row(TP_REGION_NODES),
                     sites = find_row(TP_REGION_SITES);
    uint64_t modules = find_row(TP_REGION_MODULES).count;
    for (uint64_t i = 1; i < nodes.count; i++) {
        get(TP_REGION_NODES, i, &node, sizeof(node));
        assert_true(node.parent < i && node.module <= modules);
    }
    for (uint64_t i = 1; i < sites.count; i++) {
        get(TP_REGION_SITES, i, &site, sizeof(site));
        assert_true(site.node < nodes.count && site.used <= 1);
        assert_true(site.freed.samples <= site.taken.samples);
        if (!site.used) assert_true(test_is_filled(&site, 0, sizeof(site)));
    }
    for (uint64_t i = 0; i < find_row(TP_REGION_SAMPLES).count; i++) {
        get(TP_REGION_SAMPLES, i, &sample, sizeof(sample));
        assert_true(sample.state == 1 && sample.site < sites.count);
        get(TP_REGION_SITES, sample.site, &site, sizeof(site));
        assert_int_equal(site.used, 1);
    }
}

static void dump_under_way_holds_together(void **state)
{
    (void)state;
    pthread_t writer[WRITERS];
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&writer[i], NULL, sample_on, NULL), 0);
    want("moving");
    for (int i = 0; i < DUMPS; i++) {
        write_one((void *)TP_REASON_SIGNAL);
        read_back("moving");
        assert_indices_lead_somewhere();
    }
    atomic_store(&stop, true);
    for (int i = 0; i < WRITERS; i++) pthread_join(writer[i], NULL);
}

static void dump_is_for_its_owner_only(void **state)
{
    (void)state;
    want("private");
    write_one((void *)TP_REASON_REQUEST);
    struct stat status;
    assert_int_equal(stat(in_folder("private"), &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    unlink(in_folder("private"));
}

static void nothing_follows_the_last_dump(void **state)
{
    (void)state;
    want("last");
    write_one((void *)TP_REASON_EXIT);
    write_one((void *)TP_REASON_SIGNAL);
    assert_int_equal(n_files(), 1);
    tp_dump_withdraw();
    assert_int_equal(n_files(), 0);
    write_one((void *)TP_REASON_SIGNAL);
    assert_int_equal(n_files(), 1);
    unlink(in_folder("last"));
}

static void errno_is_kept(void **state)
{
    (void)state;
    want("errno");
    errno = EXDEV;
    tp_dump_write(TP_REASON_REQUEST);
    assert_int_equal(errno, EXDEV);
    unlink(in_folder("errno"));
}

static void summary_goes_where_it_is_wanted(void **state)
{
    (void)state;
    want("dump");
    tp_options.summary = TP_SUMMARY_STDERR;
    const char *words = test_words(write_one, (void *)TP_REASON_REQUEST);
    assert_memory_equal(words, "tidepool: a/b, pid 4242, on request", 35);
    unlink(in_folder("dump"));

    tp_options.summary = TP_SUMMARY_PATH;
    snprintf(tp_options.summary_path, TP_PATH, "%s/%%p.txt", folder);
    assert_string_equal(test_words(write_one, (void *)TP_REASON_REQUEST), "");
    unlink(in_folder("dump"));
    write_one((void *)TP_REASON_EXIT);
    size_t n = read_back("4242.txt");
    bytes[n] = '\0';
    assert_non_null(strstr((char *)bytes, "on request"));
    assert_non_null(strstr((char *)bytes, "at exit"));  // appended
    unlink(in_folder("dump"));
}

/* Must be last: dumps that fail are reported once. */
static void failure_is_reported_once(void **state)
{
    (void)state;
    want("missing/x.tide");
    char expected[256];
    snprintf(expected, sizeof(expected),
        "tidepool: cannot write %s/missing/x.tide: no such folder\n", folder);
    assert_string_equal(test_words(write_one, (void *)TP_REASON_REQUEST), expected);
    assert_string_equal(test_words(write_one, (void *)TP_REASON_REQUEST), "");
    assert_int_equal(n_files(), 0);
}

static void secure_process_writes_nothing(void **state)
{
    (void)state;
    want("secret");
    tp_boot.secure = true;
    write_one((void *)TP_REASON_REQUEST);
    tp_boot.secure = false;
    assert_int_equal(n_files(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(name_follows_its_pattern, begin_anew),
        cmocka_unit_test_setup(time_in_a_name_is_now, begin_anew),
        cmocka_unit_test_setup(nothing_is_written_over, begin_anew),
        cmocka_unit_test_setup(dump_is_whole_and_its_rows_lie_inside, begin_anew),
        cmocka_unit_test_setup(latencies_that_were_never_used_are_left_out, begin_anew),
        cmocka_unit_test_setup(without_memory_the_dump_is_the_same, begin_anew),
        cmocka_unit_test_setup(
            process_without_samples_writes_how_it_was_sampled, begin_anew),
        cmocka_unit_test_setup(dump_holds_who_allocates, begin_anew),
        cmocka_unit_test_setup(
            without_memory_sites_are_left_out_and_the_dump_says_so, begin_anew),
        cmocka_unit_test_setup(dump_under_way_holds_together, begin_anew),
        cmocka_unit_test_setup(dump_is_for_its_owner_only, begin_anew),
        cmocka_unit_test_setup(nothing_follows_the_last_dump, begin_anew),
        cmocka_unit_test_setup(errno_is_kept, begin_anew),
        cmocka_unit_test_setup(summary_goes_where_it_is_wanted, begin_anew),
        cmocka_unit_test_setup(secure_process_writes_nothing, begin_anew),
        cmocka_unit_test_setup(failure_is_reported_once, begin_anew),
    };
    return cmocka_run_group_tests_name("dump", tests, make_folder, remove_folder);
}
