/* SPDX-License-Identifier: MIT */
/*
 * test_pack.c - what is compressed comes back whole, and what is not whole is told.
 */
#include "tests/unit/report/test.h"

#include "report/pack.h"
#include "report/run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MANY = 3000017 };

static char path[128];

/* Bytes that compress a little, the same each time. */
static unsigned char *make_bytes(size_t n)
{
    unsigned char *bytes = malloc(n);
    uint32_t seed = 7;
    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        bytes[i] = (unsigned char)(seed >> 24 & 0x1f);
    }
    return bytes;
}

static int pack_up(enum tp_packing packing, const unsigned char *bytes, size_t n)
{
    snprintf(path, sizeof(path), "%s/packed", test_folder);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    struct tp_pack *pack = tp_pack_open(packing, fd);
    assert_non_null(pack);
    for (size_t at = 0, step = 1; at < n; at += step, step = step * 3 + 1) {
        if (step > n - at) step = n - at;
        assert_true(tp_pack_write(pack, bytes + at, step));
    }
    assert_true(tp_pack_close(pack));
    return fd;
}

static void names_say_what_is_packed(void **state)
{
    (void)state;
    assert_int_equal(tp_packing_of("a.gz"), TP_PACKING_GZIP);
    assert_int_equal(tp_packing_of("a.tide.zst"), TP_PACKING_ZSTD);
    assert_int_equal(tp_packing_of("a.tide"), TP_PACKING_NONE);
    assert_int_equal(tp_packing_of(".gz"), TP_PACKING_NONE);
    assert_int_equal(tp_packing_of(""), TP_PACKING_NONE);
    assert_int_equal(tp_packing_stem("a.json.zst"), 6);
    assert_int_equal(tp_packing_stem("a.json"), 6);
}

static void zstd_comes_back_whole(void **state)
{
    (void)state;
    unsigned char *bytes = make_bytes(MANY);
    unsigned char *back = malloc(MANY + 1);
    struct tp_error error = { "" };
    int fd = pack_up(TP_PACKING_ZSTD, bytes, MANY);
    struct tp_unpack *unpack;
    assert_true(tp_unpack_open(&unpack, fd, "it", &error));
    assert_non_null(unpack);
    size_t at = 0, n = 1;
    for (size_t step = 1; n > 0; step = step * 2 + 1) {
        size_t room = MANY + 1 - at;
        assert_false(at == MANY && tp_unpack_ended(unpack) && step == 1);
        assert_true(
            tp_unpack_read(unpack, back + at, step < room ? step : room, &n, &error));
        at += n;
        assert_int_equal(tp_unpack_at(unpack), at);
    }
    assert_int_equal(at, MANY);
    assert_true(tp_unpack_ended(unpack));
    assert_memory_equal(back, bytes, MANY);
    tp_unpack_close(unpack);
    close(fd);
    free(back);
    free(bytes);
}

static void gzip_is_what_gzip_reads(void **state)
{
    (void)state;
    unsigned char *bytes = make_bytes(MANY);
    char line[400];
    char plain[160];
    close(pack_up(TP_PACKING_GZIP, bytes, MANY));
    snprintf(plain, sizeof(plain), "%s/plain", test_folder);
    test_write_file(plain, bytes, MANY, 0600);
    snprintf(line, sizeof(line), "gzip -dc < '%s' | cmp - '%s'", path, plain);
    assert_int_equal(system(line), 0);
    free(bytes);
}

static void what_is_not_packed_is_left_alone(void **state)
{
    (void)state;
    struct tp_unpack *unpack;
    struct tp_error error;
    snprintf(path, sizeof(path), "%s/plain", test_folder);
    test_write_file(path, "TIDEPOOL", 8, 0600);
    int fd = open(path, O_RDONLY);
    assert_true(tp_unpack_open(&unpack, fd, "it", &error));
    assert_null(unpack);
    tp_unpack_close(unpack);
    close(fd);
    fd = open("/dev/zero", O_RDONLY);  // no regular file, without an end
    assert_true(tp_unpack_open(&unpack, fd, "it", &error));
    assert_null(unpack);
    close(fd);
}

/* Reads the file at `path` to the end; the error's text, empty when all was well. */
static const char *read_all(int fd)
{
    static struct tp_error error;
    static unsigned char bytes[1 << 20];
    struct tp_unpack *unpack;
    size_t n = 1;
    error.text[0] = '\0';
    assert_true(tp_unpack_open(&unpack, fd, "it", &error));
    assert_non_null(unpack);
    while (n > 0 && tp_unpack_read(unpack, bytes, sizeof(bytes), &n, &error)) {
    }
    tp_unpack_close(unpack);
    return error.text;
}

static void every_cut_is_told(void **state)
{
    (void)state;
    unsigned char *bytes = make_bytes(20011);
    int fd = pack_up(TP_PACKING_ZSTD, bytes, 20011);
    off_t whole = lseek(fd, 0, SEEK_END);
    assert_string_equal(read_all(fd), "");
    for (off_t n = whole - 1; n > 4; n -= 1 + n / 37) {
        assert_int_equal(ftruncate(fd, n), 0);
        char wanted[80];
        snprintf(wanted, sizeof(wanted), "cannot read it: truncated at byte %lld",
            (long long)n);
        assert_string_equal(read_all(fd), wanted);
    }
    close(fd);
    free(bytes);
}

static void no_spoiled_byte_passes(void **state)
{
    (void)state;
    unsigned char *bytes = make_bytes(2003);
    int fd = pack_up(TP_PACKING_ZSTD, bytes, 2003);
    off_t whole = lseek(fd, 0, SEEK_END);
    for (off_t at = 6; at < whole; at += 7) {
        unsigned char byte;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x15;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        assert_int_equal(strncmp(read_all(fd), "cannot read it: ", 16), 0);
        byte ^= 0x15;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    assert_string_equal(read_all(fd), "");
    close(fd);
    free(bytes);
}

static void a_bomb_ends_with_an_error(void **state)
{
    (void)state;
    unsigned char *zeros = calloc(1, 1 << 24);
    snprintf(path, sizeof(path), "%s/bomb", test_folder);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    struct tp_pack *pack = tp_pack_open(TP_PACKING_ZSTD, fd);
    for (int i = 0; i < 64; i++) assert_true(tp_pack_write(pack, zeros, 1 << 24));
    assert_true(tp_pack_close(pack));
    struct stat status;
    fstat(fd, &status);
    assert_in_range(status.st_size, 1, 200000);
    assert_non_null(strstr(read_all(fd), "it unpacks to more than "));
    close(fd);
    free(zeros);
}

static void what_does_not_fit_is_told(void **state)
{
    (void)state;
    unsigned char *bytes = make_bytes(MANY);
    for (int i = TP_PACKING_GZIP; i <= TP_PACKING_ZSTD; i++) {
        int fd = open("/dev/full", O_WRONLY);
        struct tp_pack *pack = tp_pack_open((enum tp_packing)i, fd);
        (void)tp_pack_write(pack, bytes, MANY);
        assert_false(tp_pack_close(pack));
        assert_int_equal(errno, ENOSPC);
        close(fd);
    }
    free(bytes);
}

/* Entries of the test's folder. */
static int count_files(void)
{
    char line[160];
    int n = -1;
    snprintf(line, sizeof(line), "ls '%s' | wc -l", test_folder);
    FILE *from = popen(line, "r");
    assert_int_equal(fscanf(from, "%d", &n), 1);
    pclose(from);
    return n;
}

static void a_recording_that_does_not_fit_leaves_nothing(void **state)
{
    (void)state;
    struct tp_image image = { make_bytes(MANY), MANY };
    struct tp_error error = { "" };
    char *out = NULL;
    char wanted[128];
    struct rlimit before, less = { 0 };
    snprintf(wanted, sizeof(wanted), "%s/x.tide.zst", test_folder);
    getrlimit(RLIMIT_FSIZE, &before);
    less.rlim_max = before.rlim_max;
    less.rlim_cur = 65536;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &less);
    bool placed = tp_output_place(&out, wanted, &image, 1, &error);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_false(placed);
    assert_non_null(strstr(error.text, "x.tide.zst: File too large"));
    assert_int_equal(count_files(), 0);

    assert_true(tp_output_place(&out, wanted, &image, 1, &error));
    assert_string_equal(out, wanted);
    assert_int_equal(count_files(), 1);
    int fd = open(out, O_RDONLY);
    assert_string_equal(read_all(fd), "");
    close(fd);
    free(out);

    // The same where a finished file is compressed into another one.
    snprintf(path, sizeof(path), "%s/plain", test_folder);
    test_write_file(path, image.bytes, MANY, 0600);
    setrlimit(RLIMIT_FSIZE, &less);
    placed = tp_output_pack(&out, path, wanted, &error);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_false(placed);
    assert_int_equal(count_files(), 2);
    assert_true(tp_output_pack(&out, path, wanted, &error));
    assert_int_equal(count_files(), 3);
    free(out);
    free(image.bytes);
}

#define IN_A_FOLDER(test) \
    cmocka_unit_test_setup_teardown(test, test_folder_make, test_folder_clear)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_say_what_is_packed),
        IN_A_FOLDER(zstd_comes_back_whole),
        IN_A_FOLDER(gzip_is_what_gzip_reads),
        IN_A_FOLDER(what_is_not_packed_is_left_alone),
        IN_A_FOLDER(every_cut_is_told),
        IN_A_FOLDER(no_spoiled_byte_passes),
        IN_A_FOLDER(a_bomb_ends_with_an_error),
        cmocka_unit_test(what_does_not_fit_is_told),
        IN_A_FOLDER(a_recording_that_does_not_fit_leaves_nothing),
    };
    return cmocka_run_group_tests_name("pack", tests, NULL, NULL);
}
