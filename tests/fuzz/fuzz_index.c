/* SPDX-License-Identifier: MIT */
/*
 * fuzz_index.c - any bytes at all as an index of names, and as a map of JIT code.
 *
 * A checksum would keep the engine from everything behind it, so it is set right here.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "report/symbols.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every text of the table is read, and its rows are in order. */
static void use(const struct tp_names *names)
{
    size_t n = 0;
    for (size_t i = 0; i < names->n_rows; i++) {
        const struct tp_named *row = &names->rows[i];
        if (!row->n || row->n > TP_NAMES_CHAIN) abort();
        if (i && names->rows[i - 1].offset >= row->offset) abort();
        if (tp_names_find(names, row->offset) != row) abort();
        for (uint32_t k = 0; k < row->n; k++) {
            if (strlen(row->symbols[k].function) > TP_NAMES_TEXT) abort();
            if (strlen(row->symbols[k].file) > TP_NAMES_TEXT) abort();
            if (row->symbols[k].inlined && k + 1 == row->n) abort();
            n++;
        }
    }
    if (n != names->n_symbols) abort();
}

static void try_index(const uint8_t *data, size_t size)
{
    static const struct tp_build_id id = { { 1, 2, 3, 4, 5, 6, 7 }, 7 };
    struct tp_names names = { 0 };
    struct tp_origin origin;
    uint8_t *bytes = malloc(size ? size : 1);
    if (!bytes) abort();
    memcpy(bytes, data, size);
    if (tp_index_seal(bytes, size)) {
        if (tp_index_parse(&names, &origin, bytes, size, &id))
            use(&names);
        else if (names.n_rows)
            abort();
    }
    tp_names_fini(&names);
    free(bytes);
}

static void try_map(const uint8_t *data, size_t size)
{
    static const uint64_t addresses[] = { 0, 1, 0x1000, 0x2000, UINT64_MAX };
    struct tp_names names = { 0 };
    if (!tp_perf_map_parse(&names, (const char *)data, size, addresses, 5)) abort();
    tp_names_sort(&names);
    use(&names);
    tp_names_fini(&names);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_index(data, size);
    try_map(data, size);
    return 0;
}
