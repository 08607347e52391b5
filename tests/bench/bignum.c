// SPDX-License-Identifier: MIT
/*
 * bignum.c - small churn of a big-number library.
 *
 * Imitates: pidigits, factorials and RSA in a language whose numbers are heap blocks.
 * Each operation reads two numbers, allocates the result and frees what it replaces.
 * Sizes are 24-400 bytes, nearly every block dies young, one in 64 is kept in a
 * history that is long enough to make a heap of some megabytes.
 *
 * Why: nearly pure malloc and free of small sizes; nothing hides their cost.
 */
#include "tests/bench/bench.h"

enum {
    STEPS = 20000000,
    REGISTERS = 64,
    HISTORY = 65536,
    KEEP_ONE_IN = 64,
    LIMBS_MAX = 48
};

struct number {
    size_t n_limbs;
    uint64_t limb[];  // least significant first
};

static struct number *new_number(size_t n_limbs)
{
    size_t size = sizeof(struct number) + n_limbs * sizeof(uint64_t);
    struct number *n = bench_must(malloc(size));
    n->n_limbs = n_limbs;
    return n;
}

static struct number *add(const struct number *a, const struct number *b)
{
    if (a->n_limbs < b->n_limbs) {
        const struct number *longer = b;
        b = a;
        a = longer;
    }
    struct number *sum = new_number(a->n_limbs);
    uint64_t carry = 0;
    for (size_t i = 0; i < a->n_limbs; i++) {
        uint64_t addend = i < b->n_limbs ? b->limb[i] : 0;
        uint64_t part = a->limb[i] + carry;
        carry = part < carry;
        sum->limb[i] = part + addend;
        carry += sum->limb[i] < addend;
    }
    return sum;
}

/* Multiplies by one limb: the result is a limb longer until it meets the limit. */
static struct number *multiply(const struct number *a, uint64_t factor)
{
    size_t n_limbs = a->n_limbs < LIMBS_MAX ? a->n_limbs + 1 : LIMBS_MAX;
    struct number *product = new_number(n_limbs);
    uint64_t carry = 0;
    for (size_t i = 0; i < n_limbs; i++) {
        uint64_t limb = i < a->n_limbs ? a->limb[i] : 0;
        product->limb[i] = limb * factor + carry;
        carry = limb >> 40;
    }
    return product;
}

/* Keeps the upper third: a division or a shift. */
static struct number *divide(const struct number *a)
{
    size_t n_limbs = a->n_limbs / 3 + 1;
    struct number *part = new_number(n_limbs);
    const uint64_t *from = a->limb + (a->n_limbs - n_limbs);
    memcpy(part->limb, from, n_limbs * sizeof *from);
    return part;
}

static void replace(struct number **place, struct number *by)
{
    free(*place);
    *place = by;
}

int main(int argc, char **argv)
{
    static struct number *reg[REGISTERS];
    static struct number *history[HISTORY];
    struct bench_rng rng = { 1 };
    size_t steps = bench_steps(argc, argv, STEPS);
    uint64_t checksum = 0;

    for (size_t i = 0; i < REGISTERS; i++) {
        reg[i] = new_number(1);
        reg[i]->limb[0] = bench_next(&rng);
    }
    for (size_t step = 0; step < steps; step++) {
        uint64_t bits = bench_next(&rng);
        struct number **to = &reg[bits % REGISTERS];
        const struct number *a = reg[(bits >> 8) % REGISTERS];
        const struct number *b = reg[(bits >> 16) % REGISTERS];
        struct number *result;
        switch (bits >> 61) {
        case 0:
            result = add(a, b);
            break;
        case 1:
            result = divide(a);
            break;
        default:
            result = multiply(a, bits | 1);
            break;
        }
        checksum += result->limb[result->n_limbs - 1];
        replace(to, result);
        if (step % KEEP_ONE_IN == 0)
            replace(&history[step / KEEP_ONE_IN % HISTORY], add(*to, *to));
    }
    for (size_t i = 0; i < REGISTERS; i++) free(reg[i]);
    for (size_t i = 0; i < HISTORY; i++) free(history[i]);
    return bench_report("bignum", checksum);
}
