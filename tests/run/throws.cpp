/* SPDX-License-Identifier: MIT */
/*
 * throws.cpp - a million exceptions, through frames of every depth and without a frame
 * pointer, with a stack taken at every block: two unwinders at work in one program.
 *
 * What the program takes is in its own book: operator new and delete are its own, and
 * each exception is one block besides. With `plugins` eight threads throw while libraries
 * come and go, and who unwinds an exception asks the loader, as does who loads.
 *
 * let: first = {('warm_up', 'main'): 1}
 * let: paths = {('fail',) + ('down',) * (1 + n) + ('throw_all', 'main'): 250000
 *         for n in range(4)} | first
 * let: ways = {('fail',) + ('down',) * (1 + n) + ('throw_all', 'in_thread'): 8 * 500
 *         for n in range(4)} | first
 * let: thrown = '__cxa_allocate_exception'
 * case: exact
 * options: sample=all
 * plain: no
 * expect: delta.totals.allocations == said.news + said.throws == delta.calls.malloc
 * expect: delta.totals.frees == said.deletes + said.throws == delta.calls.free
 * expect: stacks(last, thrown) == paths
 * expect: last.sampling.stacks_failed == 0
 * case: sampled
 * options: sample=1
 * plain: no
 * expect: delta.totals.allocations == said.news + said.throws == delta.calls.malloc
 * expect: delta.totals.frees == said.deletes + said.throws == delta.calls.free
 * expect: set(stacks(last, thrown)) == set(paths)
 * expect: last.sampling.samples > 2000000
 * expect: last.sampling.stacks_failed == 0
 * case: plugins_exact
 * options: sample=all
 * arg: plugins
 * plain: no
 * expect: stacks(last, thrown) == ways
 * expect: last.sampling.stacks_failed == 0
 * case: plugins_sampled
 * options: sample=1
 * arg: plugins
 * plain: no
 * expect: set(stacks(last, thrown)) == set(ways)
 * expect: last.sampling.stacks_failed == 0
 */
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#define SITE __attribute__((noinline))

enum { THROWS = 1000000, THROWS_OF_THREAD = 2000, THREADS = 8 };

static std::atomic<unsigned long> news, deletes;
static std::atomic<bool> over;

void *operator new(std::size_t size)
{
    void *block = std::malloc(size);
    if (!block) throw std::bad_alloc();
    news.fetch_add(1, std::memory_order_relaxed);
    return block;
}

void operator delete(void *block) noexcept
{
    if (block) deletes.fetch_add(1, std::memory_order_relaxed);
    std::free(block);
}

void operator delete(void *block, std::size_t) noexcept
{
    operator delete(block);
}

SITE static void fail(int n)
{
    std::vector<int> values(static_cast<std::size_t>(n % 100 + 1));
    throw std::runtime_error("a message that is long enough to be allocated");
}

SITE static std::size_t down(int depth, int n)
{
    std::string text(40, 'x');
    if (depth == 0) fail(n);
    return down(depth - 1, n) + text.size();
}

/* Returns how many were caught. */
SITE static int throw_all(int most)
{
    int caught = 0;
    for (int i = 0; i < most; i++) {
        try {
            down(i % 4, i);
        } catch (const std::runtime_error &error) {
            caught += std::strlen(error.what()) > 40;
        }
    }
    return caught;
}

/* The first one finds out about libraries, and may allocate for it. */
SITE static void warm_up()
{
    try {
        throw 1;
    } catch (int) {
    }
}

static void dump_now()
{
    const char *plain = std::getenv("SCENE_PLAIN");
    if (!plain || !*plain) std::raise(SIGUSR1);
}

SITE static void in_thread(std::atomic<int> *caught)
{
    *caught += throw_all(THROWS_OF_THREAD);
    over = true;
}

static int with_plugins()
{
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 64);
    if (n <= 0) return 1;
    path[n] = 0;
    std::strcpy(std::strrchr(path, '/') + 1, "libplug.so");
    std::atomic<int> caught = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < THREADS; i++) threads.emplace_back(in_thread, &caught);
    for (bool last = false; !last;) {
        last = over;
        void *plug = dlopen(path, RTLD_NOW);
        if (!plug || dlclose(plug)) return 1;
    }
    for (std::thread &thread : threads) thread.join();
    return caught == THREADS * THROWS_OF_THREAD ? 0 : 1;
}

int main(int argc, char **)
{
    warm_up();
    if (argc > 1) return with_plugins();
    dump_now();
    unsigned long news_before = news, deletes_before = deletes;
    int caught = throw_all(THROWS);
    unsigned long news_after = news, deletes_after = deletes;
    dump_now();
    std::printf("news %lu\ndeletes %lu\nthrows %d\n", news_after - news_before,
        deletes_after - deletes_before, caught);
    return caught == THROWS ? 0 : 1;
}
