/*
 * Whether all ids are different. See unique_ids.h.
 */
#include "engines/batch/unique_ids.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/hash.h"
#include "core/util/memory.h"
#include "core/util/text.h"
#include "host/os/file.h"
#include "host/os/file_reader.h"

enum { BUCKET_BITS = 6, BUCKETS = 1 << BUCKET_BITS, BUCKET_BUFFER = 4096 /* fingerprints */ };

struct fingerprint {
    uint64_t hash;
    uint64_t row;
};

struct bucket {
    struct fm_file_writer writer;
    struct fingerprint *buffer;
    size_t used;
    uint64_t count; /* in the file and the buffer */
};

struct fm_unique_ids {
    struct fingerprint *table;
    size_t count;
    size_t capacity;
    size_t in_memory;
    bool ascending; /* so far */
    bool given_up;  /* the fingerprints of what came so far */
    bool spilled;
    bool no_shortcut;    /* the second time: fingerprints are kept */
    struct fm_text last; /* id */
    bool any;
    char folder[256]; /* of the buckets; "": none */
    struct bucket *buckets;
};

int fm_unique_ids_create(size_t in_memory, struct fm_unique_ids **ret_ids, struct fm_error *reterr)
{
    struct fm_unique_ids *ids = fm_alloc_zero(1, sizeof(*ids));
    if (ids == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory to compare ids");
    }
    ids->in_memory = in_memory;
    ids->ascending = true;
    *ret_ids = ids;
    return 0;
}

static void buckets_free(struct fm_unique_ids *ids)
{
    for (size_t i = 0; i < BUCKETS && ids->buckets != NULL; i++) {
        fm_file_writer_abandon(&ids->buckets[i].writer);
        fm_free(ids->buckets[i].buffer);
    }
    fm_free(ids->buckets);
    ids->buckets = NULL;
    if (ids->folder[0] != '\0') {
        /* What cannot be removed lies in the directory for what is temporary. */
        int ignored = fm_file_remove_tree(ids->folder, NULL);
        (void)ignored;
        ids->folder[0] = '\0';
    }
}

void fm_unique_ids_destroy(struct fm_unique_ids *ids)
{
    if (ids != NULL) {
        buckets_free(ids);
        fm_text_deinit(&ids->last);
        fm_free(ids->table);
        fm_free(ids);
    }
}

/* --- Files --- */

static int bucket_flush(struct bucket *bucket, struct fm_error *reterr)
{
    int status = fm_file_writer_append(&bucket->writer, bucket->buffer,
                                       bucket->used * sizeof(*bucket->buffer), reterr);
    bucket->used = 0;
    return status;
}

static int buckets_open(struct fm_unique_ids *ids, struct fm_error *reterr)
{
    char path[512];
    int status = fm_file_make_temporary("fermata-ids", ids->folder, sizeof(ids->folder), reterr);
    ids->buckets = status == 0 ? fm_alloc_zero(BUCKETS, sizeof(*ids->buckets)) : NULL;
    if (status == 0 && ids->buckets == NULL) {
        status = fm_error_set(reterr, FM_ENOMEM, "out of memory to compare ids");
    }
    for (unsigned i = 0; i < BUCKETS && status == 0; i++) {
        struct bucket *bucket = &ids->buckets[i];
        bucket->buffer = fm_alloc(BUCKET_BUFFER * sizeof(*bucket->buffer));
        (void)snprintf(path, sizeof(path), "%s/%02x", ids->folder, i);
        status = bucket->buffer == NULL
                     ? fm_error_set(reterr, FM_ENOMEM, "out of memory to compare ids")
                     : fm_file_writer_open(&bucket->writer, path, reterr);
    }
    return status;
}

/* What is in memory goes into the files. */
static int spill(struct fm_unique_ids *ids, struct fm_error *reterr)
{
    int status = ids->buckets == NULL ? buckets_open(ids, reterr) : 0;
    for (size_t i = 0; i < ids->count && status == 0; i++) {
        struct bucket *bucket = &ids->buckets[ids->table[i].hash >> (64 - BUCKET_BITS)];
        bucket->buffer[bucket->used++] = ids->table[i];
        bucket->count++;
        status = bucket->used == BUCKET_BUFFER ? bucket_flush(bucket, reterr) : 0;
    }
    ids->count = 0;
    ids->spilled = true;
    return status;
}

/* --- Adding --- */

/* FNV's upper bits differ little between short texts (the finish of MurmurHash3, by A. Appleby). */
static uint64_t mix(uint64_t hash)
{
    hash = (hash ^ (hash >> 33)) * UINT64_C(0xff51afd7ed558ccd);
    hash = (hash ^ (hash >> 33)) * UINT64_C(0xc4ceb9fe1a85ec53);
    return hash ^ (hash >> 33);
}

static bool is_above_last(const struct fm_unique_ids *ids, const char *id, size_t size)
{
    size_t common = size < ids->last.length ? size : ids->last.length;
    int order = common > 0 ? memcmp(id, ids->last.data, common) : 0;
    return !ids->any || order > 0 || (order == 0 && size > ids->last.length);
}

static int room_make(struct fm_unique_ids *ids, struct fm_error *reterr)
{
    if (ids->count < ids->capacity) {
        return 0;
    }
    if (ids->capacity == ids->in_memory) {
        if (ids->ascending && !ids->no_shortcut) {
            ids->given_up = true;
            ids->count = 0;
            return 0;
        }
        return spill(ids, reterr);
    }
    size_t wanted = ids->capacity == 0 ? 1024 : ids->capacity * 2;
    wanted = wanted < ids->in_memory ? wanted : ids->in_memory;
    struct fingerprint *table = fm_realloc(ids->table, wanted * sizeof(*table));
    if (table == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory to compare ids");
    }
    ids->table = table;
    ids->capacity = wanted;
    return 0;
}

int fm_unique_ids_add(struct fm_unique_ids *ids, const char *id, size_t size, uint64_t row,
                      struct fm_error *reterr)
{
    if (ids->ascending) {
        ids->ascending = is_above_last(ids, id, size);
        fm_text_clear(&ids->last);
        fm_text_append(&ids->last, id, size);
        ids->any = true;
        if (ids->last.failed) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory to compare ids");
        }
    }
    if (ids->given_up) {
        return 0;
    }
    int status = room_make(ids, reterr);
    if (status == 0 && !ids->given_up) {
        ids->table[ids->count++] =
            (struct fingerprint){.hash = mix(fm_hash_add(FM_HASH_START, id, size)), .row = row};
    }
    return status;
}

/* --- The end --- */

struct found {
    uint64_t *rows;
    size_t max;
    size_t count;
};

static int fingerprints_compare(const void *left, const void *right)
{
    const struct fingerprint *a = left;
    const struct fingerprint *b = right;
    return a->hash != b->hash ? (a->hash < b->hash ? -1 : 1)
           : a->row != b->row ? (a->row < b->row ? -1 : 1)
                              : 0;
}

static int rows_compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return a < b ? -1 : a > b ? 1 : 0;
}

static void look(struct fingerprint *table, size_t count, struct found *found)
{
    qsort(table, count, sizeof(*table), fingerprints_compare);
    for (size_t i = 0; i < count; i++) {
        bool alike = (i > 0 && table[i - 1].hash == table[i].hash) ||
                     (i + 1 < count && table[i + 1].hash == table[i].hash);
        if (alike && found->count < found->max) {
            found->rows[found->count++] = table[i].row;
        }
    }
}

static int bucket_look(struct fm_unique_ids *ids, unsigned index, struct found *found,
                       struct fm_error *reterr)
{
    char path[512];
    struct fm_file_reader file = {0};
    struct bucket *bucket = &ids->buckets[index];
    size_t bytes = (size_t)bucket->count * sizeof(struct fingerprint);
    size_t size = 0;
    (void)snprintf(path, sizeof(path), "%s/%02x", ids->folder, index);
    int status = bucket_flush(bucket, reterr);
    struct fingerprint *table = status == 0 ? fm_alloc(bytes) : NULL;
    if (status == 0 && table == NULL) {
        status = fm_error_set(reterr, FM_ENOMEM, "out of memory to compare ids");
    }
    status = status != 0 ? status : fm_file_reader_open(&file, path, reterr);
    status = status != 0 ? status : fm_file_reader_read_at(&file, 0, table, bytes, &size, reterr);
    if (status == 0 && size != bytes) {
        status = fm_error_set(reterr, FM_EIO, "'%s' has become shorter", path);
    }
    if (status == 0) {
        look(table, (size_t)bucket->count, found);
    }
    fm_file_reader_close(&file);
    fm_file_writer_abandon(&bucket->writer); /* makes room for the next one */
    fm_free(table);
    return status;
}

int fm_unique_ids_finish(struct fm_unique_ids *ids, uint64_t *rows, size_t rows_max,
                         size_t *ret_count, bool *ret_again, struct fm_error *reterr)
{
    struct found found = {.rows = rows, .max = rows_max};
    int status = 0;
    *ret_again = false;
    *ret_count = 0;
    if (ids->ascending) {
        return 0;
    }
    if (ids->given_up) {
        ids->given_up = false;
        ids->no_shortcut = true;
        ids->ascending = true;
        ids->any = false;
        *ret_again = true;
        return 0;
    }
    if (!ids->spilled) {
        look(ids->table, ids->count, &found);
    } else {
        status = spill(ids, reterr);
        for (unsigned i = 0; i < BUCKETS && status == 0; i++) {
            status = bucket_look(ids, i, &found, reterr);
        }
        buckets_free(ids);
    }
    qsort(found.rows, found.count, sizeof(*found.rows), rows_compare);
    *ret_count = found.count;
    return status;
}
