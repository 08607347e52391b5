/* SPDX-License-Identifier: MIT */
/*
 * test_live.c - the file behind the counters: made, grown, removed, replaced.
 */
#include "pool/pool.h"
#include "shim/output.h"

#include "tests/unit/tp_test.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CROWD = 40, SITES = 3001 };

/* The rest of the shim, as far as live.c knows it. */
struct tp_options tp_options;
struct tp_boot tp_boot;

void tp_boot_forked(void)
{
    tp_boot.pid++;
}

void tp_boot_read_rss(uint64_t *out_now, uint64_t *out_peak)
{
    *out_now = *out_peak = 1000003;
}

/* As sample.c, which is not here, passes it on. */
void tp_host_thread_ended(
    const struct tp_counters *counters, uint32_t index, const struct tp_sums *did)
{
    tp_live_thread_ended(counters, index, did);
}

static char path[1024];
static unsigned char bytes[128 << 20];  // what is not read costs nothing

static int make_folder(void **state)
{
    (void)state;
    strcpy(tp_boot.name, "prog");
    strcpy(tp_boot.exe, "/bin/prog");
    tp_boot.pid = 4242;
    tp_boot.start_jiffies = 17;
    tp_options.command = true;
    tp_boot.command = "prog";
    tp_boot.command_bytes = 5;
    strcpy(tp_options.live_path, "tidepool-test.XXXXXX");
    tp_options.live = TP_LIVE_PATH;
    return mkdtemp(tp_options.live_path) && tp_pool_start() && tp_pool_counters() ? 0
                                                                                  : 1;
}

static int remove_folder(void **state)
{
    (void)state;
    return rmdir(tp_options.live_path);
}

static const char *file_of(unsigned pid)
{
    snprintf(path, sizeof(path), "%.64s/tidepool.%u.17.0", tp_options.live_path, pid);
    return path;
}

static bool has_file(unsigned pid)
{
    return access(file_of(pid), F_OK) == 0;
}

static size_t read_back(const char *name)
{
    FILE *file = fopen(name, "rb");
    if (!file) return 0;
    // What lies behind may be a long hole.
    struct tp_file_header header = { 0 };
    bool good = fread(&header, sizeof(header), 1, file) == 1 &&
        header.total_bytes <= sizeof(bytes);
    rewind(file);
    size_t n = good ? fread(bytes, 1, header.total_bytes, file) : 0;
    fclose(file);
    return n == header.total_bytes ? n : 0;
}

static struct tp_file_header header_now(void)
{
    struct tp_file_header header;
    memcpy(&header, bytes, sizeof(header));
    return header;
}

/* Allocations of all slots in the bytes read back. */
static uint64_t allocations_in_file(void)
{
    struct tp_file_header header = header_now();
    uint64_t sum = 0;
    for (uint32_t i = 0; i < header.n_regions; i++) {
        struct tp_region row;
        memcpy(&row, bytes + header.header_bytes + i * sizeof(row), sizeof(row));
        if (row.kind != TP_REGION_THREADS) continue;
        for (uint64_t k = 0; k < row.count; k++) {
            struct tp_counters slot;
            memcpy(&slot, bytes + row.offset + k * sizeof(slot), sizeof(slot));
            sum += tp_counters_sums(&slot).allocations;
        }
    }
    return sum;
}

static uint64_t allocations_in_memory(void)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < tp_pool_slots(); i++)
        sum += tp_counters_sums(tp_pool_slot(i)).allocations;
    return sum;
}

/* True when the file of the last read takes no more blocks than it uses bytes. */
static bool is_a_hole_after(uint64_t used)
{
    struct stat status;
    return stat(path, &status) == 0 && (uint64_t)status.st_size > used &&
        (uint64_t)status.st_blocks * 512 <= used + 64 * 1024;
}

static void what_was_counted_before_is_in_the_file(void **state)
{
    (void)state;
    for (int i = 0; i < 97; i++) tp_pool_free(tp_pool_alloc(61));
    assert_false(has_file(4242));
    tp_live_open();
    assert_true(has_file(4242));
    size_t n = read_back(file_of(4242));
    struct tp_file_header header = header_now();
    assert_memory_equal(header.magic, TP_FORMAT_MAGIC, 8);
    assert_int_equal(header.state, TP_FILE_LIVE);
    assert_true(header.total_bytes <= n);
    assert_true(is_a_hole_after(header.total_bytes));
    assert_int_equal(allocations_in_file(), 97);
}

static void file_counts_along(void **state)
{
    (void)state;
    for (int i = 0; i < 499; i++) tp_pool_free(tp_pool_alloc(61));
    read_back(file_of(4242));
    assert_int_equal(allocations_in_file(), 97 + 499);
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

static pthread_barrier_t barrier;

static void *take_a_slot(void *argument)
{
    tp_pool_free(tp_pool_alloc(61));
    pthread_barrier_wait(&barrier);
    return argument;
}

static void file_grows_with_the_threads(void **state)
{
    (void)state;
    pthread_t thread[CROWD];
    struct tp_file_header before = header_now();
    // It needs neither its name nor a descriptor for that.
    char away[1100];
    snprintf(away, sizeof(away), "%s.away", file_of(4242));
    assert_int_equal(rename(file_of(4242), away), 0);
    assert_int_equal(pthread_barrier_init(&barrier, NULL, CROWD), 0);
    for (int i = 0; i < CROWD; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, take_a_slot, NULL), 0);
    for (int i = 0; i < CROWD; i++) pthread_join(thread[i], NULL);
    pthread_barrier_destroy(&barrier);
    assert_int_equal(rename(away, file_of(4242)), 0);
    size_t n = read_back(file_of(4242));
    struct tp_file_header header = header_now();
    assert_true(header.total_bytes > before.total_bytes);
    assert_true(header.total_bytes <= n);
    assert_true(is_a_hole_after(header.total_bytes));
    assert_int_equal(header.flags & TP_FILE_LOST_COUNTS, 0);
    assert_int_equal(allocations_in_file(), allocations_in_memory());
    assert_int_equal(tp_live_view().n_ended, CROWD);
    assert_int_equal(tp_live_view().ended[0].sums.allocations, 1);
}

/* Sites that the bytes read back hold, of those that add_sites() made. */
static uint32_t sites_in_file(void)
{
    struct tp_file_header header = header_now();
    uint32_t n = 0;
    for (uint32_t i = 0; i < header.n_regions; i++) {
        struct tp_region row;
        memcpy(&row, bytes + header.header_bytes + i * sizeof(row), sizeof(row));
        if (row.kind != TP_REGION_SITES) continue;
        for (uint64_t k = 0; k < row.count; k++) {
            struct tp_site_record site;
            memcpy(&site, bytes + row.offset + k * sizeof(site), sizeof(site));
            n += site.used && site.peak == 7 * site.node;
        }
    }
    return n;
}

static bool add_sites(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct tp_site_record *site = tp_table_at(&tp_sites, tp_table_add(&tp_sites));
        if (!site || site->used || site->node) return false;
        site->node = i + 1;
        site->peak = 7 * site->node;
        site->used = 1;
    }
    return true;
}

static void file_grows_with_the_tables(void **state)
{
    (void)state;
    uint64_t before = tp_live_view().file_bytes;
    assert_true(add_sites(SITES));
    assert_true(read_back(file_of(4242)) > 0);
    assert_int_equal(sites_in_file(), SITES);
    assert_int_equal(allocations_in_file(), allocations_in_memory());
    struct tp_file_header header = header_now();
    assert_int_equal(header.flags, 0);
    assert_int_equal(header.live_file_bytes, tp_live_view().file_bytes);
    assert_int_equal(header.live_file_bytes - before, tp_table_bytes(&tp_sites));
    assert_true(is_a_hole_after(header.live_file_bytes));
}

static int live_in_a_child(void *argument)
{
    (void)argument;
    tp_live_forked();
    tp_pool_forked();
    for (int i = 0; i < 1009; i++) tp_pool_free(tp_pool_alloc(61));
    if (!add_sites(1)) return 7;  // before there is a file
    tp_live_settle();
    if (!has_file(tp_boot.pid)) return 1;
    if (!add_sites(2003)) return 8;
    tp_pool_free(tp_pool_alloc(61));
    if (!read_back(file_of(tp_boot.pid))) return 3;
    if (allocations_in_file() != allocations_in_memory()) return 4;
    if (sites_in_file() != SITES + 2004) return 9;
    const struct tp_process_record *process = tp_live_view().process;
    if (!(process->flags & TP_PROCESS_FORKED)) return 5;
    if (process->inherited_allocations + 1010 != allocations_in_memory()) return 6;
    tp_live_remove();
    return 0;
}

static void child_counts_into_a_file_of_its_own(void **state)
{
    (void)state;
    uint64_t before = allocations_in_memory();
    assert_int_equal(test_in_child(live_in_a_child, NULL), 0);
    assert_int_equal(allocations_in_memory(), before);
    read_back(file_of(4242));
    assert_int_equal(allocations_in_file(), before);
    assert_int_equal(sites_in_file(), SITES);
}

static int exec_at_once(void *argument)
{
    (void)argument;
    tp_live_forked();
    tp_pool_forked();
    // Not one record of the parent is touched, and there is no file.
    struct tp_site_record *site = tp_table_at(&tp_sites, 5);
    site->peak = 0;
    if (has_file(tp_boot.pid)) return 1;
    return tp_sites.filed == 0 && add_sites(1) ? 0 : 2;
}

static void child_never_writes_into_the_tables_of_its_parent(void **state)
{
    (void)state;
    uint32_t n = tp_table_count(&tp_sites);
    assert_int_equal(test_in_child(exec_at_once, NULL), 0);
    assert_int_equal(tp_table_count(&tp_sites), n);
    read_back(file_of(4242));
    assert_int_equal(sites_in_file(), SITES);
}

static int killed_while_it_adds(void *argument)
{
    (void)argument;
    tp_live_forked();
    tp_pool_forked();
    tp_live_settle();
    alarm(60);
    for (;;)
        if (!add_sites(1)) raise(SIGKILL);
    return 0;
}

static void kill_leaves_the_tables_in_the_file(void **state)
{
    (void)state;
    for (int i = 0; i < 10; i++) {
        pid_t child = fork();
        if (child == 0) _exit(killed_while_it_adds(NULL));
        assert_true(child > 0);
        while (!has_file(4243)) usleep(100);
        usleep((useconds_t)(i * 700));
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
        assert_true(read_back(file_of(4243)) > 0);
        struct tp_file_header header = header_now();
        assert_int_equal(header.state, TP_FILE_LIVE);
        assert_true(header.n_regions <= TP_FORMAT_REGIONS);
        assert_true(sites_in_file() >= SITES);
        assert_int_equal(unlink(path), 0);
    }
}

static int live_in_a_small_file(void *argument)
{
    (void)argument;
    tp_live_forked();
    tp_pool_forked();
    // Room for the counters but not for the sites.
    const struct rlimit small = { 480 * 1024, 480 * 1024 };
    if (setrlimit(RLIMIT_FSIZE, &small) != 0) return 1;
    tp_live_settle();
    if (!has_file(tp_boot.pid)) return 2;
    if (!add_sites(10007)) return 3;
    if (!tp_table_at(&tp_sites, SITES + 10007)) return 4;
    if (!read_back(file_of(tp_boot.pid))) return 5;
    if (!(header_now().flags & TP_FILE_LOST_SITES)) return 6;
    if (header_now().flags & TP_FILE_LOST_COUNTS) return 7;
    if (allocations_in_file() != allocations_in_memory()) return 8;
    // A dump has them all: they are in memory.
    if (tp_live_view().flags) return 9;
    tp_live_remove();
    return 0;
}

static void small_file_costs_the_sites_and_not_the_counts(void **state)
{
    (void)state;
    assert_int_equal(test_in_child(live_in_a_small_file, NULL), 0);
}

/* Where other threads may have been, the file is made at the next slow path. */
static void reopen(const void *argument)
{
    (void)argument;
    tp_live_reopen();
    tp_live_settle();
}

static void file_can_be_removed_and_made_again(void **state)
{
    (void)state;
    tp_live_remove();
    tp_live_remove();
    assert_false(has_file(4242));
    assert_int_equal(read_back(file_of(4242)), 0);
    reopen(NULL);
    assert_true(has_file(4242));
    assert_true(read_back(file_of(4242)) > 0);
    assert_int_equal(allocations_in_file(), allocations_in_memory());
    assert_int_equal(sites_in_file(), SITES);
    tp_live_remove();
}

static void file_of_someone_else_is_not_removed(void **state)
{
    (void)state;
    reopen(NULL);
    assert_int_equal(unlink(file_of(4242)), 0);
    FILE *other = fopen(path, "wb");
    assert_non_null(other);
    fclose(other);
    tp_live_remove();
    assert_int_equal(unlink(path), 0);
}

static void missing_folder_costs_the_file_only(void **state)
{
    (void)state;
    char kept[TP_PATH];
    strcpy(kept, tp_options.live_path);
    strcpy(tp_options.live_path, "nowhere/at/all");
    assert_string_equal(test_words(reopen, NULL),
        "tidepool: cannot keep the live file in nowhere/at/all: no such folder; the "
        "account is lost on SIGKILL\n");
    strcpy(tp_options.live_path, kept);
    assert_false(has_file(4242));
    assert_true(tp_live_view().process->flags & TP_PROCESS_NO_FILE);
    uint64_t before = allocations_in_memory();
    tp_pool_free(tp_pool_alloc(61));
    assert_int_equal(allocations_in_memory(), before + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_counted_before_is_in_the_file),
        cmocka_unit_test(file_counts_along),
        cmocka_unit_test(file_grows_with_the_threads),
        cmocka_unit_test(file_grows_with_the_tables),
        cmocka_unit_test(child_counts_into_a_file_of_its_own),
        cmocka_unit_test(child_never_writes_into_the_tables_of_its_parent),
        cmocka_unit_test(kill_leaves_the_tables_in_the_file),
        cmocka_unit_test(small_file_costs_the_sites_and_not_the_counts),
        cmocka_unit_test(file_can_be_removed_and_made_again),
        cmocka_unit_test(file_of_someone_else_is_not_removed),
        cmocka_unit_test(missing_folder_costs_the_file_only),
    };
    return cmocka_run_group_tests_name("live", tests, make_folder, remove_folder);
}
