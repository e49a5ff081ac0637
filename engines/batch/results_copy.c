/*
 * Results in order. See results_copy.h.
 */
#include "engines/batch/results_copy.h"

#include <stdlib.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/batch/manifest.h"
#include "engines/batch/output.h"
#include "host/source/byte_stream.h"

enum { PIECE = 1 << 16 };

struct part {
    uint64_t first_row;
    uint64_t number;
    const struct fm_sink *sink;
};

struct parts {
    struct part *items;
    size_t count;
    size_t capacity;
    bool failed; /* there was no memory for one */
};

static int part_take(void *context, const struct fm_manifest_part *part)
{
    struct parts *parts = context;
    if (parts->count == parts->capacity) {
        size_t capacity = parts->capacity == 0 ? 64 : parts->capacity * 2;
        struct part *grown = fm_realloc(parts->items, capacity * sizeof(*grown));
        if (grown == NULL) {
            parts->failed = true;
            return FM_ENOMEM;
        }
        parts->items = grown;
        parts->capacity = capacity;
    }
    parts->items[parts->count++] = (struct part){part->first_row, part->number, part->sink};
    return 0;
}

/* Parts without a row begin where the next one does: their numbers keep the order total. */
static int parts_compare(const void *left, const void *right)
{
    const struct part *a = left;
    const struct part *b = right;
    return a->first_row != b->first_row ? (a->first_row < b->first_row ? -1 : 1)
           : a->number != b->number     ? (a->number < b->number ? -1 : 1)
                                        : 0;
}

static int part_copy(const char *path, char *piece,
                     int (*take)(void *context, const char *data, size_t size), void *context,
                     struct fm_error *reterr)
{
    struct fm_byte_stream stream = {0};
    size_t got = PIECE;
    int status = fm_byte_stream_open(&stream, path, reterr);
    for (uint64_t offset = 0; status == 0 && got == PIECE; offset += got) {
        status = fm_byte_stream_read_at(&stream, offset, piece, PIECE, &got, reterr);
        status = status == 0 && got > 0 ? take(context, piece, got) : status;
    }
    fm_byte_stream_close(&stream);
    return status;
}

int fm_results_copy(const char *directory,
                    int (*take)(void *context, const char *data, size_t size), void *context,
                    struct fm_error *reterr)
{
    struct parts parts = {0};
    const struct fm_manifest_handlers handlers = {.part = part_take, .context = &parts};
    struct fm_manifest_head head;
    char path[FM_OUTPUT_PATH_MAX];
    char *piece = fm_alloc(PIECE);
    int status = piece == NULL ? fm_error_set(reterr, FM_ENOMEM, "out of memory") : 0;
    if (status == 0 && fm_path_join(path, sizeof(path), directory, FM_OUTPUT_MANIFEST_FILE) != 0) {
        status = fm_error_set(reterr, FM_ETOOLARGE, "the path '%.200s...' is too long", directory);
    }
    status = status != 0 ? status : fm_manifest_read(path, &handlers, &head, reterr);
    if (parts.failed) {
        status = fm_error_set(reterr, FM_ENOMEM, "out of memory for the list of the parts in '%s'",
                              directory);
    }
    if (parts.count > 0) {
        qsort(parts.items, parts.count, sizeof(*parts.items), parts_compare);
    }
    for (size_t i = 0; i < parts.count && status == 0; i++) {
        char name[FM_PART_NAME_SIZE];
        fm_part_name(parts.items[i].number, parts.items[i].sink, name);
        status =
            fm_path_join(path, sizeof(path), directory, name) == 0
                ? part_copy(path, piece, take, context, reterr)
                : fm_error_set(reterr, FM_ETOOLARGE, "the path '%.200s...' is too long", directory);
    }
    fm_free(parts.items);
    fm_free(piece);
    return status;
}
