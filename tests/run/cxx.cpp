/* SPDX-License-Identifier: MIT */
/*
 * cxx.cpp - C++: new and delete of every kind, exceptions, what threads take along.
 *
 * operator new and delete are libstdc++'s, and it calls malloc and free; its exceptions
 * come from malloc too. Who unwinds must be who would without us.
 *
 * case: operators
 * arg: operators
 * expect: delta.totals.live_blocks == 0
 * expect: delta.totals.allocations >= 997 * 9
 * case: operators_checked
 * arg: operators
 * options: check=on
 * expect: delta.totals.live_blocks == 0
 * case: exceptions
 * arg: exceptions
 * expect: delta.totals.allocations >= 100003
 * expect: delta.totals.live_blocks == 0
 * case: thread_local
 * arg: thread_local
 * expect: said.ended == 64
 * case: last
 * arg: last
 * expect: last.totals.live_blocks <= first.totals.live_blocks
 */
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

static void must(bool holds, const char *text, int line)
{
    if (holds) return;
    dprintf(2, "line %d: not so: %s\n", line, text);
    _exit(1);
}
#define MUST(statement) must(statement, #statement, __LINE__)

static void dump_now()
{
    const char *plain = getenv("SCENE_PLAIN");
    if (!plain || !*plain) raise(SIGUSR1);
}

struct alignas(256) wide {
    char bytes[256];
};

static void operators()
{
    void *(*volatile make)(std::size_t) = ::operator new;  // not to be left out
    for (unsigned i = 0; i < 997; i++) {
        std::size_t size = 1 + i * 37;
        ::operator delete(make(size));
        ::operator delete(make(size), size);
        ::operator delete[](::operator new[](size), size);
        ::operator delete(::operator new(size, std::nothrow), std::nothrow);
        std::align_val_t align{ std::size_t(32) << i % 8 };
        void *p = ::operator new(size, align);
        MUST((std::size_t)p % (std::size_t)align == 0);
        ::operator delete(p, size, align);
        ::operator delete[](::operator new[](size, align, std::nothrow), align);
        wide *volatile w = new wide;
        MUST((std::size_t)w % 256 == 0);
        delete w;
        std::string text(size, 'x');
        std::vector<std::string> many(3, text);
        MUST(many[2].size() == size);
    }
    try {
        make(std::size_t(1) << 62);
        MUST(false);
    } catch (const std::bad_alloc &) {
    }
    MUST(!::operator new(std::size_t(1) << 62, std::nothrow));
}

[[gnu::noinline]] static void fail(unsigned depth)
{
    std::string kept(100, 'x');
    if (!depth) throw std::runtime_error("at the end of the way");
    fail(depth - 1);
}

static void exceptions(unsigned rounds)
{
    unsigned caught = 0;
    for (unsigned i = 0; i < rounds; i++) {
        try {
            fail(i % 5);
        } catch (const std::exception &e) {
            caught += std::strlen(e.what()) == 21;
        }
    }
    MUST(caught == rounds);
    Dl_info of;
    void *unwinder = dlsym(RTLD_DEFAULT, "_Unwind_RaiseException");
    MUST(unwinder && dladdr(unwinder, &of) && strstr(of.dli_fname, "libgcc_s.so"));
}

static int ended;

struct late {
    std::string text = std::string(1009, 'x');
    ~late()
    {
        std::vector<std::string> more(17, text);
        __atomic_fetch_add(&ended, (int)(more[16].size() == 1009), __ATOMIC_RELAXED);
    }
};
static thread_local late of_the_thread;

static void thread_locals()
{
    for (int round = 0; round < 8; round++) {
        std::vector<std::thread> threads;
        for (int i = 0; i < 8; i++)
            threads.emplace_back([] { MUST(of_the_thread.text.size() == 1009); });
        for (auto &thread : threads) thread.join();
    }
    printf("ended %d\n", ended);
}

static std::vector<std::string> *of_the_program;

static void at_exit()
{
    delete of_the_program;
    std::string more(5003, 'x');
}

int main(int argc, char **argv)
{
    std::string word = argc > 1 ? argv[1] : "";
    if (word == "last") {
        of_the_program = new std::vector<std::string>(101, std::string(173, 'x'));
        MUST(!std::atexit(at_exit));
        dump_now();
        return 0;
    }
    if (word == "exceptions") exceptions(7);  // what is kept for ever
    dump_now();
    if (word == "operators") operators();
    if (word == "exceptions") exceptions(100003);
    dump_now();
    if (word == "thread_local") thread_locals();
}
