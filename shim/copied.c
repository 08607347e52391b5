/* SPDX-License-Identifier: MIT */
/*
 * copied.c - who allocates, copied for a dump while others write on.
 *
 * Idea: what refers is copied before what it refers to: live samples, sites, nodes,
 * modules. Of the last three records are only ever added, and are complete before
 * anything refers to them, so every index of a copied record leads to a copied one. How
 * many there are is asked when their turn comes. A site's freed sums are copied before
 * its taken ones: no more seems to be freed than was taken, but for what happens
 * meanwhile.
 *
 * Holds always, in copies that were taken: samples are alive and their sites are here;
 * nodes of sites are here, parents are below, modules are here. A record that its writer
 * had not finished is all zero. It is checked here and not believed: the originals lie
 * in a file.
 */
#include "shim/output.h"

#include "pool/os.h"

enum { ROOT = 0 };

static bool get_room(struct tp_copied *copied, uint32_t n, size_t record_bytes)
{
    *copied = (struct tp_copied){ 0 };
    if (!n) return true;
    copied->bytes = tp_align_up(n * record_bytes, tp_os_page());
    copied->records = tp_os_map(copied->bytes);
    return copied->records != NULL;
}

/* Records are written meanwhile: by whole words, none of them torn. */
static void copy_words(void *to, const void *from, size_t bytes)
{
    uint64_t *out = to;
    const uint64_t *in = from;
    for (size_t i = 0; i < bytes / sizeof(*in); i++)
        out[i] = __atomic_load_n(&in[i], __ATOMIC_RELAXED);
}

static bool copy_samples(struct tp_copied *copied)
{
    uint32_t n = tp_table_count(&tp_samples);
    if (!get_room(copied, n, sizeof(struct tp_sample_record))) return false;
    struct tp_sample_record *to = copied->records;
    for (uint32_t i = tp_samples.first; i < n; i++) {
        const struct tp_sample_record *from = tp_table_at(&tp_samples, i);
        // Written last by who begins one.
        if (__atomic_load_n(&from->state, __ATOMIC_ACQUIRE) != 1) continue;
        copy_words(&to[copied->n], from, sizeof(*from));
        // Ended, and perhaps begun anew, meanwhile: then it is no one's.
        if (to[copied->n].state != 1 ||
            __atomic_load_n(&from->state, __ATOMIC_ACQUIRE) != 1 ||
            __atomic_load_n(&from->address, __ATOMIC_RELAXED) != to[copied->n].address)
            continue;
        to[copied->n++].next = 0;
    }
    return true;
}

static void copy_site(struct tp_site_record *to, const struct tp_site_record *from)
{
    // Written last by who adds one.
    if (__atomic_load_n(&from->used, __ATOMIC_ACQUIRE) != 1) return;
    copy_words(&to->freed, &from->freed, sizeof(to->freed));
#if !defined(__SANITIZE_THREAD__)  // which knows of no fences
    atomic_thread_fence(memory_order_acquire);
#endif
    const size_t freed = offsetof(struct tp_site_record, freed);
    const size_t behind = freed + sizeof(to->freed);
    copy_words(to, from, freed);
    copy_words((char *)to + behind, (const char *)from + behind, sizeof(*to) - behind);
}

static bool copy_sites(struct tp_copied *copied)
{
    uint32_t n = tp_table_count(&tp_sites);
    if (!get_room(copied, n, sizeof(struct tp_site_record))) return false;
    struct tp_site_record *to = copied->records;
    for (uint32_t i = tp_sites.first; i < n; i++)
        copy_site(&to[i], tp_table_at(&tp_sites, i));
    copied->n = n;
    return true;
}

static bool copy_nodes(struct tp_copied *copied)
{
    uint32_t n = tp_table_count(&tp_nodes);
    if (!get_room(copied, n, sizeof(struct tp_node_record))) return false;
    struct tp_node_record *to = copied->records;
    for (uint32_t i = tp_nodes.first; i < n; i++)
        copy_words(&to[i], tp_table_at(&tp_nodes, i), sizeof(to[i]));
    copied->n = n;
    return true;
}

static bool copy_modules(struct tp_copied *copied)
{
    uint32_t n = tp_table_count(&tp_modules);
    if (!get_room(copied, n, sizeof(struct tp_module_record))) return false;
    struct tp_module_record *to = copied->records;
    for (uint32_t i = tp_modules.first; i < n; i++) {
        const struct tp_module_record *from = tp_table_at(&tp_modules, i);
        // Written last by who adds one.
        if (!__atomic_load_n(&from->end, __ATOMIC_ACQUIRE)) continue;
        copy_words(&to[i], from, sizeof(to[i]));
        if (to[i].build_id_bytes > TP_FORMAT_BUILD_ID) to[i].build_id_bytes = 0;
        to[i].path[TP_FORMAT_PATH - 1] = '\0';
    }
    copied->n = n;
    return true;
}

static bool copy_points(struct tp_copied *copied)
{
    uint32_t n = tp_table_count(&tp_timeline);
    if (!get_room(copied, n, sizeof(struct tp_point_record))) return false;
    copied->n = tp_timeline_copy(copied->records, n);
    return true;
}

/* ---- every index leads somewhere ---- */

static void check_nodes(struct tp_copies *copies)
{
    struct tp_node_record *nodes = copies->nodes.records;
    for (uint32_t i = 0; i < copies->nodes.n; i++)
        if ((i != ROOT && nodes[i].parent >= i) || nodes[i].module > copies->modules.n)
            nodes[i] = (struct tp_node_record){ 0 };
}

static bool is_site(const struct tp_copies *copies, const struct tp_site_record *site)
{
    return site->used == 1 && site->class <= TP_FORMAT_LARGE &&
        site->end < TP_STACK_ENDS &&
        (site->node == ROOT || site->node < copies->nodes.n);
}

static void check_sites(struct tp_copies *copies)
{
    struct tp_site_record *sites = copies->sites.records;
    for (uint32_t i = 0; i < copies->sites.n; i++)
        if (!is_site(copies, &sites[i])) sites[i] = (struct tp_site_record){ 0 };
}

static void check_samples(struct tp_copies *copies)
{
    struct tp_sample_record *samples = copies->samples.records;
    const struct tp_site_record *sites = copies->sites.records;
    uint32_t n = 0;
    for (uint32_t i = 0; i < copies->samples.n; i++)
        if (samples[i].site < copies->sites.n && sites[samples[i].site].used)
            samples[n++] = samples[i];
    copies->samples.n = n;
}

bool tp_copies_take(struct tp_copies *out)
{
    *out = (struct tp_copies){ 0 };
    bool good = copy_samples(&out->samples) && copy_sites(&out->sites) &&
        copy_nodes(&out->nodes) && copy_modules(&out->modules) &&
        copy_points(&out->points);
    if (!good) tp_copies_drop(out);
    check_nodes(out);
    check_sites(out);
    check_samples(out);
    // Last: no site is ahead of the number of the last peak.
    copy_words(&out->sampling, tp_sampling, sizeof(out->sampling));
    return good;
}

static void drop(struct tp_copied *copied)
{
    if (copied->records) tp_os_unmap(copied->records, copied->bytes);
    *copied = (struct tp_copied){ 0 };
}

void tp_copies_drop(struct tp_copies *copies)
{
    drop(&copies->samples);
    drop(&copies->sites);
    drop(&copies->nodes);
    drop(&copies->modules);
    drop(&copies->points);
}
