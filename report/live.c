/* SPDX-License-Identifier: MIT */
/*
 * live.c - what is special about a live file: it changes, and it has holes.
 *
 * A live file changes while it is copied. Within a slot frees stand before allocations
 * and are read first, but a block may be counted in one slot and freed in another. Where
 * a size class then shows more frees than allocations, the allocations alone are read
 * again: they are younger than every free seen, so no difference stays negative. Reading
 * all of them again always would be simpler, and shows too much: at 100 million calls a
 * second thousands of blocks come between the two copies. The epochs and bases of the
 * first copy decide which thread did what. The ended records are read again as well: a
 * record that the first copy's epoch covers was complete by then. Who allocates is read
 * again in the order in which it refers: live samples of the first copy, sites, nodes,
 * modules.
 *
 * Slots of ended threads are folded into one (format.h tells how). The word that says
 * which slots count stands before the slots and is copied before them; when it has
 * changed at the end, the copy is no copy of any moment and is made again.
 */
#include "report/model.h"

#include <stdlib.h>
#include <string.h>

/* What a live file's slots add up to: blocks by class, then bytes of large ones. */
enum { BALANCES = TP_FORMAT_CLASSES + 1 };

static struct tp_file_header header_of(const struct tp_image *image)
{
    struct tp_file_header header;
    memcpy(&header, image->bytes, sizeof(header));
    return header;
}

/* ---- which slots count -------------------------------------------------------- */

bool tp_slot_counts(uint64_t folded, uint64_t index)
{
    uint64_t first = folded & 0xffff, n = folded >> 16 & 0xffff;
    if (index == TP_FORMAT_SUM_SLOT || index == TP_FORMAT_SUM_SLOT + 1)
        return index == TP_FORMAT_SUM_SLOT + (folded >> 32 & 1);
    return index < first || index >= first + n;
}

void tp_dump_leave_out_folded(struct tp_dump *dump)
{
    if (dump->header.state != TP_FILE_LIVE) return;
    for (size_t i = 0; i < dump->n_slots; i++)
        if (!tp_slot_counts(dump->totals.folded, i))
            memset(&dump->slots[i], 0, sizeof(dump->slots[i]));
}

bool tp_ended_counts(const struct tp_dump *dump, const struct tp_ended_record *record)
{
    if (record->tid == 0) return false;
    if (record->slot == (uint32_t)TP_ENDED_FOR_GOOD) return true;
    if (record->slot >= dump->n_slots) return false;
    const struct tp_thread_slot *slot = &dump->slots[record->slot];
    return slot->state != TP_SLOT_RUNNING || slot->epoch > record->epoch;
}

/* ---- a copy of one moment ------------------------------------------------------ */

/* A walk over the slots of an image, whatever rows they stand in. */
struct walk {
    struct tp_image *image;
    uint32_t n_rows;
    uint64_t folded;  // the word, as the image has it
    int fd;           // of the file that the image was copied from
};

static bool is_slots(const struct tp_image *image, const struct tp_region *row)
{
    return row->kind == TP_REGION_THREADS && tp_image_holds(image, row) &&
        row->record_bytes >= sizeof(struct tp_thread_slot);
}

/* Calls `visit` with every slot that counts, and where in the file it stands. */
static void each_slot(const struct walk *walk,
    void (*visit)(const struct walk *, unsigned char *, uint64_t, void *), void *data)
{
    uint64_t index = 0;
    for (uint32_t r = 0; r < walk->n_rows; r++) {
        struct tp_region row = tp_image_row(walk->image, r);
        for (uint64_t i = 0; is_slots(walk->image, &row) && i < row.count;
             i++, index++) {
            uint64_t offset = row.offset + i * row.record_bytes;
            if (tp_slot_counts(walk->folded, index))
                visit(walk, walk->image->bytes + offset, offset, data);
        }
    }
}

static void add_balance(
    const struct walk *walk, unsigned char *bytes, uint64_t offset, void *data)
{
    uint64_t *balance = data;
    struct tp_thread_slot slot;
    (void)walk;
    (void)offset;
    memcpy(&slot, bytes, sizeof(slot));
    for (size_t c = 0; c < TP_FORMAT_CLASSES; c++)
        balance[c] += slot.taken[c].allocations - slot.frees[c];
    balance[TP_FORMAT_CLASSES] += slot.large_allocated_bytes - slot.large_freed_bytes;
}

/* Says for which balances the copy has more frees than allocations. */
static bool find_debts(bool debts[BALANCES], const struct walk *walk)
{
    uint64_t balance[BALANCES] = { 0 };
    bool any = false;
    each_slot(walk, add_balance, balance);
    for (size_t c = 0; c < BALANCES; c++) {
        debts[c] = (int64_t)balance[c] < 0;
        any = any || debts[c];
    }
    return any;
}

/* Reads the allocation side of a slot again where there is a debt. */
static void settle_debts(
    const struct walk *walk, unsigned char *bytes, uint64_t offset, void *data)
{
    const bool *debts = data;
    struct tp_thread_slot again, slot;
    if (tp_image_read(walk->fd, &again, sizeof(again), offset) != sizeof(again)) return;
    memcpy(&slot, bytes, sizeof(slot));
    for (size_t c = 0; c < TP_FORMAT_CLASSES; c++)
        if (debts[c]) slot.taken[c] = again.taken[c];
    if (debts[TP_FORMAT_LARGE] || debts[TP_FORMAT_CLASSES]) {
        slot.taken[TP_FORMAT_LARGE] = again.taken[TP_FORMAT_LARGE];
        slot.large_allocated_bytes = again.large_allocated_bytes;
    }
    memcpy(bytes, &slot, sizeof(slot));
}

static bool grows(uint32_t kind)
{
    return kind == TP_REGION_THREADS ||
        (kind >= TP_REGION_MODULES && kind <= TP_REGION_TIMELINE);
}

/* Records of a row that others may refer to. */
static uint64_t records_of(struct tp_region row)
{
    return grows(row.kind) && row.kind != TP_REGION_THREADS ? row.count : 0;
}

/*
 * How many of these the file tells of now. Where there are more than before, records of
 * the copy may refer to what it lacks. Returns `otherwise` when that cannot be told.
 */
static uint64_t records_now(
    int fd, const struct tp_file_header *header, uint64_t otherwise)
{
    struct tp_file_header now;
    if (tp_image_read(fd, &now, sizeof(now), 0) != sizeof(now)) return otherwise;
    if (now.n_regions > header->n_regions) return otherwise + 1;
    size_t n = (size_t)header->n_regions * header->row_bytes;
    unsigned char *rows = malloc(n + 1);
    bool good = rows && tp_image_read(fd, rows, n, header->header_bytes) == n;
    uint64_t records = 0;
    for (uint32_t i = 0; good && i < header->n_regions; i++) {
        struct tp_region row;
        memcpy(&row, rows + (size_t)i * header->row_bytes, sizeof(row));
        records += records_of(row);
    }
    free(rows);
    return good ? records : otherwise;
}

/* A file that grew while it was copied has rows that reach beyond the copy. */
static void cut_rows(struct tp_image *image, const struct tp_file_header *header)
{
    for (uint32_t i = 0; i < header->n_regions; i++) {
        struct tp_region row = tp_image_row(image, i);
        if (!grows(row.kind) || row.offset > image->n_bytes || row.record_bytes == 0)
            continue;
        uint64_t most = (image->n_bytes - row.offset) / row.record_bytes;
        if (row.count <= most) continue;
        row.count = most;
        memcpy(image->bytes + header->header_bytes + (size_t)i * header->row_bytes,
            &row, sizeof(row));
    }
}

/* Where `folded` stands in the image, and in the file; 0 when there are no totals. */
static uint64_t where_folded(const struct tp_image *image, uint32_t n_rows)
{
    for (uint32_t i = 0; i < n_rows; i++) {
        struct tp_region row = tp_image_row(image, i);
        if (row.kind == TP_REGION_TOTALS && tp_image_holds(image, &row) &&
            row.record_bytes >= sizeof(struct tp_totals_record) && row.count)
            return row.offset + offsetof(struct tp_totals_record, folded);
    }
    return 0;
}

/* Of what is only ever added, a younger copy holds all that an older one refers to. */
static const uint32_t last_kinds[] = { TP_REGION_SITES, TP_REGION_NODES,
    TP_REGION_MODULES };

static void read_again(struct tp_image *image, int fd, uint32_t n_rows, uint32_t kind)
{
    for (uint32_t i = 0; i < n_rows; i++) {
        struct tp_region row = tp_image_row(image, i);
        if (row.kind == kind && tp_image_holds(image, &row))
            (void)tp_image_read(fd, image->bytes + row.offset,
                (size_t)(row.count * row.record_bytes), row.offset);
    }
}

bool tp_image_settle(struct tp_image *image, int fd)
{
    struct tp_file_header header = header_of(image);
    struct walk walk = { .image = image, .n_rows = header.n_regions, .fd = fd };
    uint64_t records = 0;
    for (uint32_t i = 0; i < header.n_regions; i++)
        records += records_of(tp_image_row(image, i));
    cut_rows(image, &header);
    uint64_t where = where_folded(image, header.n_regions);
    if (where) memcpy(&walk.folded, image->bytes + where, sizeof(walk.folded));

    bool debts[BALANCES];
    if (find_debts(debts, &walk)) each_slot(&walk, settle_debts, debts);
    read_again(image, fd, header.n_regions, TP_REGION_ENDED);
    for (size_t k = 0; k < sizeof(last_kinds) / sizeof(last_kinds[0]); k++)
        read_again(image, fd, header.n_regions, last_kinds[k]);
    uint64_t now = walk.folded;
    if (where && tp_image_read(fd, &now, sizeof(now), where) != sizeof(now))
        return true;
    return now == walk.folded && records == records_now(fd, &header, records);
}
