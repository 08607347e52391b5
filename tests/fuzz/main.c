/* SPDX-License-Identifier: MIT */
/*
 * main.c - replays files, and all files of folders, through a fuzz target.
 *
 * Stands in for the fuzzing engine, so that the corpus is an ordinary test everywhere.
 */
#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool replay_file(const char *path)
{
    FILE *file = fopen(path, "rbe");
    struct stat status;
    if (!file || fstat(fileno(file), &status) < 0) {
        perror(path);
        return false;
    }
    size_t n = (size_t)status.st_size;
    uint8_t *bytes = malloc(n ? n : 1);
    bool good = bytes && fread(bytes, 1, n, file) == n;
    if (good) LLVMFuzzerTestOneInput(bytes, n);
    free(bytes);
    fclose(file);
    return good;
}

static bool replay_folder(const char *folder)
{
    DIR *stream = opendir(folder);
    const struct dirent *entry;
    bool good = stream != NULL;
    unsigned n = 0;
    while (good && (entry = readdir(stream))) {
        char *path = NULL;
        if (entry->d_name[0] == '.') continue;
        if (asprintf(&path, "%s/%s", folder, entry->d_name) < 0) abort();
        good = replay_file(path);
        free(path);
        n++;
    }
    if (stream) closedir(stream);
    printf("%s: %u files\n", folder, n);
    return good && n > 0;
}

int main(int argc, char **argv)
{
    bool good = argc > 1;
    for (int i = 1; i < argc && good; i++) {
        struct stat status;
        bool folder = stat(argv[i], &status) == 0 && S_ISDIR(status.st_mode);
        good = folder ? replay_folder(argv[i]) : replay_file(argv[i]);
    }
    return good ? 0 : 1;
}
