/* SPDX-License-Identifier: MIT */
/*
 * ways.c - out of our own library, without a walk.
 *
 * From the walker to the entry point that the program has called there are half a dozen
 * frames of our own, the same ones for every malloc. All of them are reached from the
 * stack pointer by constants. So when the return addresses in between stand where they
 * stood, the program's frame is as far from the stack pointer as it was. The addresses
 * are ours, and we are never unloaded: what has held once holds for ever.
 *
 * In exact mode half of all instructions were for these frames. malloc itself does not
 * come here any more: pool/exact.c tells what it was called from. calloc and realloc do.
 */
#include "shim/unwind.h"

/* The way is the one that we stand on: goes it. */
static TP_NOT_SANITIZED bool leave_by(const struct tp_way *way,
    const struct tp_reach *reach, uintptr_t *pc, uintptr_t *sp, uintptr_t *fp)
{
    uintptr_t at = *sp;
    if (!way->n || reach->high - at < way->out) return false;
    // Ways differ at their outer ends.
    for (uint32_t i = way->n - 1; i--;)
        if (*(const volatile uintptr_t *)(at + way->ra_at[i]) != way->ra[i])
            return false;
    uintptr_t to = *(const volatile uintptr_t *)(at + way->last_at);
    if (tp_rows_is_own(to) || to == 0) return false;
    if (way->fp_at) *fp = *(const volatile uintptr_t *)(at + way->fp_at);
    *pc = tp_step_strip(to);
    *sp = at + way->out;
    return true;
}

static bool leave_known(struct tp_ways *ways, const struct tp_reach *reach,
    uintptr_t *pc, uintptr_t *sp, uintptr_t *fp)
{
    // What called last is likely to call again.
    uint32_t last = ways->last;
    if (TP_LIKELY(leave_by(&ways->way[last], reach, pc, sp, fp))) return true;
    for (uint32_t i = 0; i < TP_WAYS; i++)
        if (i != last && leave_by(&ways->way[i], reach, pc, sp, fp)) {
            ways->last = i;
            return true;
        }
    return false;
}

/*
 * Steps out by stack and frame pointer, and notes the way. False, and nothing has
 * happened, where one of our frames needs more than that. What has a frame pointer keeps
 * it as far from its stack pointer as ever: no function of ours has a frame that varies.
 */
static TP_COLD bool find_way(struct tp_ways *ways, struct tp_reach *reach,
    uint64_t salt, struct tp_rules_scratch *scratch, uintptr_t *out_pc,
    uintptr_t *out_sp, uintptr_t *out_fp)
{
    struct tp_way way = { 0 };
    uintptr_t pc = *out_pc, sp = *out_sp, fp = *out_fp;
    bool exact = true;
    while (way.n < TP_WAY_FRAMES) {
        uint64_t row = tp_rows_at(tp_step_key(pc, exact), salt, scratch);
        bool by_fp = tp_packed_kind(row) == TP_PACKED_FP;
        uintptr_t cfa = (by_fp ? fp : sp) + tp_packed_offset(row);
        uintptr_t ra_at = cfa - sizeof(uintptr_t), fp_at = cfa - tp_packed_fp(row);
#if defined(__aarch64__)
        ra_at = cfa - tp_packed_ra(row);
#endif
        if ((tp_packed_kind(row) != TP_PACKED_SP && !by_fp) || cfa <= sp ||
            ra_at == cfa || cfa - *out_sp > UINT32_MAX ||
            !tp_reach_word(reach, ra_at, &pc) ||
            (fp_at != cfa && !tp_reach_word(reach, fp_at, &fp)))
            return false;
        if (fp_at != cfa) way.fp_at = (uint32_t)(fp_at - *out_sp);
        way.ra_at[way.n] = way.last_at = (uint32_t)(ra_at - *out_sp);
        way.ra[way.n++] = pc;
        pc = tp_step_strip(pc);
        sp = cfa;
        exact = false;
        if (tp_rows_is_own(pc)) continue;
        way.out = (uint32_t)(sp - *out_sp);
        ways->way[ways->next++ % TP_WAYS] = way;
        return leave_by(&way, reach, out_pc, out_sp, out_fp);
    }
    return false;
}

bool tp_ways_leave(struct tp_ways *ways, struct tp_reach *reach, uint64_t salt,
    struct tp_rules_scratch *scratch, uintptr_t *pc, uintptr_t *sp, uintptr_t *fp)
{
    if (*sp < reach->low || *sp >= reach->high || *sp % sizeof(uintptr_t)) return false;
    return leave_known(ways, reach, pc, sp, fp) ||
        find_way(ways, reach, salt, scratch, pc, sp, fp);
}
