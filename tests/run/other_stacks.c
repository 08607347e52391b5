/* SPDX-License-Identifier: MIT */
/*
 * other_stacks.c - stacks that are not the thread's: coroutines, and signal handlers on
 * a stack of their own, each with blocks that are to be found where they were taken.
 *
 * A coroutine's stack is all that is its own: it begins with the function that
 * makecontext() was given. Handlers stand on what they interrupted, on whichever stack
 * that was, and a function that was interrupted in its first instruction is not the one
 * that lies before it.
 *
 * plain: no
 * let: known = {('take_one', 'in_coroutine', 'be_coroutine'): 2 * 29,
 *         ('take_one', 'on_signal', 'interrupted', 'main'): 23,
 *         ('take_one', 'on_signal', 'interrupted', 'be_coroutine'): 2 * 29,
 *         ('take_one', 'on_fault', 'faults_at_once', 'meets_fault', 'main'): 19,
 *         ('run_coroutines', 'main'): 1, ('take_one', 'main'): 11}
 * case: auto
 * options: sample=all
 * expect: stacks(last) == known
 * expect: last.sampling.stacks_failed == 0
 * case: dwarf
 * options: sample=all,unwind=dwarf
 * expect: stacks(last) == known
 * expect: last.sampling.stacks_failed == 0
 * case: sampled
 * options: sample=1
 * expect: set(stacks(last)) == set(known)
 * expect: last.sampling.stacks_failed == 0
 * case: fp
 * options: sample=all,unwind=fp
 * expect: innermost(stacks(last)) == {'take_one': sum(known.values()) - 1, 'run_coroutines': 1}
 */
#include "scene.h"

#include <alloca.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { STACK = 256 * 1024, ROUNDS = 29 };

static ucontext_t outside, coroutine[2];
static volatile bool over[2];
static void *kept;
static volatile unsigned pages = 3;  // unknown to the compiler

SITE static void take_one(void)
{
    kept = malloc(64);
    STAYS(kept);
}

static void *map_stack(void)
{
    void *stack =
        mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(stack != MAP_FAILED);
    return stack;
}

/* ---- handlers ---- */

static void on_signal(int number_)
{
    (void)number_;
    take_one();
    STAYS(kept);
}

SITE static void interrupted(void)
{
    MUST(!raise(SIGUSR2));
    STAYS(kept);
}

/*
 * A function whose first instruction is a fault, right behind one with another frame;
 * the handler goes on after that instruction.
 */
void faults_at_once(void);
#if defined(__aarch64__)
#define FAULT "udf #0"
enum { FAULT_BYTES = 4 };
static void skip(ucontext_t *context)
{
    context->uc_mcontext.pc += FAULT_BYTES;
}
#else
#define FAULT "ud2"
enum { FAULT_BYTES = 2 };
static void skip(ucontext_t *context)
{
    context->uc_mcontext.gregs[REG_RIP] += FAULT_BYTES;
}
#endif
__asm__(".text\n"
        ".type lies_before, %function\n"
        "lies_before:\n"
        ".cfi_startproc\n"
        ".cfi_def_cfa_offset 4096\n"
        "nop\n"
        ".cfi_endproc\n"
        ".size lies_before, .-lies_before\n"
        ".globl faults_at_once\n"
        ".type faults_at_once, %function\n"
        "faults_at_once:\n"
        ".cfi_startproc\n" FAULT "\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size faults_at_once, .-faults_at_once\n");

static void on_fault(int number_, siginfo_t *info, void *context)
{
    (void)number_;
    (void)info;
    take_one();
    skip(context);
    STAYS(kept);
}

SITE static void meets_fault(void)
{
    faults_at_once();
    STAYS(kept);
}

static void set_handlers(void)
{
    stack_t stack = { .ss_size = STACK, .ss_sp = map_stack() };
    MUST(!sigaltstack(&stack, NULL));
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };
    MUST(!sigaction(SIGUSR2, &action, NULL));
    action = (struct sigaction){ .sa_sigaction = on_fault,
        .sa_flags = SA_ONSTACK | SA_SIGINFO };
    MUST(!sigaction(SIGILL, &action, NULL));
}

/* ---- coroutines ---- */

/* Its frame lies on several pages. */
SITE static void in_coroutine(void)
{
    volatile char *here = alloca(pages * 4096);
    here[pages] = 1;
    take_one();
    here[0] = here[pages];
}

static void be_coroutine(int i)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        in_coroutine();
        interrupted();
        MUST(!swapcontext(&coroutine[i], &outside));
    }
    over[i] = true;
    STAYS(kept);
}

/* One on pages of its own, one in a block: nothing tells where such a stack ends. */
SITE static void run_coroutines(void)
{
    void *stack[2] = { malloc(STACK), map_stack() };
    for (int i = 0; i < 2; i++) {
        MUST(stack[i] && !getcontext(&coroutine[i]));
        coroutine[i].uc_stack.ss_sp = stack[i];
        coroutine[i].uc_stack.ss_size = STACK;
        coroutine[i].uc_link = &outside;
        makecontext(&coroutine[i], (void (*)(void))be_coroutine, 1, i);
    }
    for (unsigned i = 0; !over[0] || !over[1]; i++)
        MUST(over[i % 2] || !swapcontext(&outside, &coroutine[i % 2]));
}

int main(void)
{
    set_handlers();
    for (unsigned i = 0; i < 23; i++) interrupted();
    for (unsigned i = 0; i < 19; i++) meets_fault();
    run_coroutines();
    for (unsigned i = 0; i < 11; i++) take_one();
    return 0;
}
