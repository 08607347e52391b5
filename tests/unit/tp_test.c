/* SPDX-License-Identifier: MIT */
/*
 * tp_test.c - captured words, and children that may die.
 */
#include "tests/unit/tp_test.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static char words[TEST_TEXT];

bool test_is_filled(const void *p, int value, size_t bytes)
{
    const uint8_t *at = p;
    return !bytes || (at[0] == value && memcmp(at, at + 1, bytes - 1) == 0);
}

static void read_all(int fd)
{
    size_t n = 0;
    ssize_t got;
    while ((got = read(fd, words + n, sizeof(words) - 1 - n)) > 0) n += (size_t)got;
    words[n] = '\0';
}

const char *test_words(void (*body)(const void *), const void *argument)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    int kept = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    body(argument);  // what it says must fit into the pipe
    dup2(kept, STDERR_FILENO);
    close(kept);
    read_all(ends[0]);
    close(ends[0]);
    return words;
}

const char *test_last_words(void (*body)(void *), void *argument)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
        signal(SIGABRT, SIG_DFL);
        dup2(ends[1], STDERR_FILENO);
        body(argument);
        _exit(0);
    }
    assert_true(child > 0);
    close(ends[1]);
    read_all(ends[0]);
    close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? words : NULL;
}

int test_in_child(int (*body)(void *), void *argument)
{
    pid_t child = fork();
    if (child == 0) _exit(body(argument));
    assert_true(child > 0);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
