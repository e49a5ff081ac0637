/*
 * Reading what was recorded of a job's inputs. See row_source.h.
 */
#include "engines/batch/row_source.h"

#include <stdlib.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/hash.h"
#include "core/util/text.h"

enum { READ_CHUNK = 1 << 16, EXAMPLES_MAX = 3 };

struct fm_row_segment {
    struct fm_file_reader reader;
    uint64_t first_row;
    uint64_t row_count;
    uint64_t entry_count;
    uint64_t *offsets; /* of every FM_ROW_SOURCE_STRIDE-th entry */
    size_t offset_capacity;
    struct fm_row_index index; /* where files hold rows */
};

static bool has_index(const struct fm_row_segment *segment)
{
    return segment->index.file.open;
}

static int segment_corrupt(const struct fm_row_segment *segment, struct fm_error *reterr)
{
    return fm_error_set(
        reterr, FM_ECORRUPT,
        "the recorded list of inputs '%s' is damaged, or the ledger beside it is another job's: "
        "put both back, or --restart begins the job anew",
        segment->reader.path);
}

static int offset_add(struct fm_row_segment *segment, uint64_t offset)
{
    size_t index = (size_t)(segment->entry_count / FM_ROW_SOURCE_STRIDE);
    if (index == segment->offset_capacity) {
        size_t capacity = index == 0 ? 64 : index * 2;
        uint64_t *grown = fm_realloc(segment->offsets, capacity * sizeof(*grown));
        if (grown == NULL) {
            return FM_ENOMEM;
        }
        segment->offsets = grown;
        segment->offset_capacity = capacity;
    }
    segment->offsets[index] = offset;
    return 0;
}

/* One pass over the file: counts entries, notes offsets, adds up the sum. */
static int segment_scan(struct fm_row_segment *segment, uint64_t *ret_checksum,
                        struct fm_error *reterr)
{
    char *chunk = fm_alloc(READ_CHUNK);
    uint64_t sum = FM_HASH_START;
    uint64_t offset = 0;
    int status = chunk != NULL ? offset_add(segment, 0) : FM_ENOMEM;
    bool room = status == 0;
    while (status == 0) {
        size_t size = 0;
        status = fm_file_reader_read_at(&segment->reader, offset, chunk, READ_CHUNK, &size, reterr);
        if (status != 0 || size == 0) {
            break;
        }
        sum = fm_hash_add(sum, chunk, size);
        for (size_t i = 0; i < size && room; i++) {
            if (chunk[i] == '\0' && ++segment->entry_count % FM_ROW_SOURCE_STRIDE == 0) {
                room = offset_add(segment, offset + i + 1) == 0;
            }
        }
        status = room ? 0 : FM_ENOMEM;
        offset += size;
    }
    fm_free(chunk);
    *ret_checksum = sum;
    return room ? status : fm_error_set(reterr, FM_ENOMEM, "out of memory for the list of inputs");
}

uint64_t fm_row_source_checksum(uint64_t listing_checksum, uint64_t index_checksum)
{
    return fm_hash_add(listing_checksum, &index_checksum, sizeof(index_checksum));
}

static int segment_open(struct fm_row_segment *segment, const char *path, const char *index_path,
                        uint64_t checksum, struct fm_error *reterr)
{
    uint64_t sum = 0;
    uint64_t index_sum = FM_HASH_START;
    int status = fm_file_reader_open(&segment->reader, path, reterr);
    status = status != 0 ? status : segment_scan(segment, &sum, reterr);
    if (status == 0 && index_path != NULL) {
        status = fm_row_index_open(&segment->index, index_path, &index_sum, reterr);
        sum = fm_row_source_checksum(sum, index_sum);
    }
    if (status == 0 &&
        (sum != checksum || (index_path == NULL && segment->entry_count != segment->row_count))) {
        status = segment_corrupt(segment, reterr);
    }
    return status;
}

static void segment_close(struct fm_row_segment *segment)
{
    fm_file_reader_close(&segment->reader);
    fm_row_index_close(&segment->index);
    fm_free(segment->offsets);
}

int fm_row_source_add(struct fm_row_source *source, const char *path, const char *index_path,
                      uint64_t first_row, uint64_t row_count, uint64_t checksum,
                      struct fm_error *reterr)
{
    if (source->buffer == NULL) {
        source->buffer_size = READ_CHUNK;
        source->buffer = fm_alloc(source->buffer_size);
        source->cursor_entry = UINT64_MAX;
    }
    if (source->segment_count == source->segment_capacity) {
        size_t capacity = source->segment_capacity == 0 ? 4 : source->segment_capacity * 2;
        struct fm_row_segment *grown = fm_realloc(source->segments, capacity * sizeof(*grown));
        if (grown == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "out of memory for the list of inputs");
        }
        source->segments = grown;
        source->segment_capacity = capacity;
    }
    if (source->buffer == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the list of inputs");
    }
    struct fm_row_segment *segment = &source->segments[source->segment_count];
    memset(segment, 0, sizeof(*segment));
    segment->first_row = first_row;
    segment->row_count = row_count;
    int status = segment_open(segment, path, index_path, checksum, reterr);
    if (status != 0) {
        segment_close(segment);
        return status;
    }
    source->segment_count++;
    return 0;
}

/* Makes sure that a whole record stands at the buffer's position. */
static int buffer_fill(struct fm_row_source *source, struct fm_error *reterr)
{
    const struct fm_row_segment *segment = &source->segments[source->cursor_segment];
    if (source->buffer_position < source->buffer_used &&
        memchr(source->buffer + source->buffer_position, '\0',
               source->buffer_used - source->buffer_position) != NULL) {
        return 0;
    }
    source->buffer_offset += source->buffer_position;
    source->buffer_position = 0;
    int status = fm_file_reader_read_at(&segment->reader, source->buffer_offset, source->buffer,
                                        source->buffer_size, &source->buffer_used, reterr);
    if (status == 0 && memchr(source->buffer, '\0', source->buffer_used) == NULL) {
        status = segment_corrupt(segment, reterr);
    }
    return status;
}

static void seek(struct fm_row_source *source, size_t segment, uint64_t entry)
{
    uint64_t stride = entry / FM_ROW_SOURCE_STRIDE;
    source->cursor_segment = segment;
    source->cursor_entry = stride * FM_ROW_SOURCE_STRIDE;
    source->buffer_offset = source->segments[segment].offsets[stride];
    source->buffer_position = 0;
    source->buffer_used = 0;
}

/* The next word of a record as a number; "?" is UINT64_MAX. False: it is none. */
static bool word_take(char **record, uint64_t *ret_number)
{
    char *space = strchr(*record, ' ');
    if (space == NULL) {
        return false;
    }
    *space = '\0';
    bool unknown = strcmp(*record, "?") == 0;
    int status = unknown ? 0 : fm_parse_uint64(*record, ret_number);
    *ret_number = unknown ? UINT64_MAX : *ret_number;
    *record = space + 1;
    return status == 0;
}

static int entry_parse(const struct fm_row_segment *segment, char *record,
                       struct fm_listing_entry *ret_entry, struct fm_error *reterr)
{
    struct fm_listing_entry entry = {0};
    bool good = word_take(&record, &entry.size);
    if (has_index(segment)) {
        good = good && word_take(&record, &entry.first_row) &&
               word_take(&record, &entry.row_count) && word_take(&record, &entry.rows_total);
    }
    entry.id = record;
    *ret_entry = entry;
    return good ? 0 : segment_corrupt(segment, reterr);
}

/* What is recorded of one file; its id is borrowed until the next call. */
static int entry_get(struct fm_row_source *source, size_t segment, uint64_t entry,
                     struct fm_listing_entry *ret_entry, struct fm_error *reterr)
{
    if (source->cursor_entry == UINT64_MAX || source->cursor_segment != segment ||
        entry < source->cursor_entry ||
        entry - source->cursor_entry > (uint64_t)2 * FM_ROW_SOURCE_STRIDE) {
        seek(source, segment, entry);
    }
    for (;;) {
        int status = buffer_fill(source, reterr);
        if (status != 0) {
            source->cursor_entry = UINT64_MAX;
            return status;
        }
        char *record = source->buffer + source->buffer_position;
        source->buffer_position += strlen(record) + 1;
        if (source->cursor_entry++ == entry) {
            return entry_parse(&source->segments[segment], record, ret_entry, reterr);
        }
    }
}

int fm_row_source_get(struct fm_row_source *source, uint64_t row, uint64_t rows_max,
                      struct fm_row_place *ret_place, struct fm_error *reterr)
{
    struct fm_row_point point = {0};
    struct fm_listing_entry entry = {0};
    size_t at = 0;
    while (row >= source->segments[at].first_row + source->segments[at].row_count) {
        at++;
        FM_ASSERT(at < source->segment_count);
    }
    const struct fm_row_segment *segment = &source->segments[at];
    uint64_t inside = row - segment->first_row;
    int status =
        has_index(segment) ? fm_row_index_find(&segment->index, inside, &point, reterr) : 0;
    uint64_t number = has_index(segment) ? point.entry : inside;
    if (status == 0 && number >= segment->entry_count) {
        status = segment_corrupt(segment, reterr);
    }
    status = status != 0 ? status : entry_get(source, at, number, &entry, reterr);
    if (status != 0) {
        return status;
    }
    *ret_place = (struct fm_row_place){.id = entry.id, .size = entry.size};
    if (has_index(segment)) {
        uint64_t first = point.file_row + (inside - point.row);
        uint64_t end = entry.first_row + entry.row_count;
        if (first >= end || point.point.row > first) {
            return segment_corrupt(segment, reterr);
        }
        ret_place->first_row = first;
        ret_place->row_count = end - first < rows_max ? end - first : rows_max;
        ret_place->point = point.point;
    }
    return 0;
}

void fm_row_source_deinit(struct fm_row_source *source)
{
    for (size_t i = 0; i < source->segment_count; i++) {
        segment_close(&source->segments[i]);
    }
    fm_free(source->segments);
    fm_free(source->buffer);
    *source = (struct fm_row_source){0};
}

/* --- Comparing --- */

/* Collects the first few examples of one kind of difference. */
static void example_add(struct fm_text *text, uint64_t *count, const char *id, uint64_t before,
                        uint64_t now)
{
    if ((*count)++ >= EXAMPLES_MAX) {
        return;
    }
    fm_text_append_format(text, "%s'%.120s'", *count > 1 ? ", " : "", id);
    if (before != now) {
        fm_text_append_format(text, " (%llu bytes, now %llu)", (unsigned long long)before,
                              (unsigned long long)now);
    }
}

static int difference_error(uint64_t missing, const struct fm_text *missing_names, uint64_t changed,
                            const struct fm_text *changed_names, struct fm_error *reterr)
{
    const struct fm_text *names = missing > 0 ? missing_names : changed_names;
    return fm_error_set(reterr, FM_EINVAL,
                        "the inputs are not those the job was begun with: %llu missing, %llu of "
                        "another size, for example %s; put them back, or --restart",
                        (unsigned long long)missing, (unsigned long long)changed,
                        names->data != NULL ? names->data : "?");
}

/* What comparing has found so far. */
struct comparison {
    struct fm_listing *listing;
    bool *seen; /* by entry of the listing */
    uint64_t missing;
    uint64_t changed;
    struct fm_text missing_names;
    struct fm_text changed_names;
};

/* One recorded file against the listing. */
static void entry_compare(struct comparison *comparison, const struct fm_listing_entry *recorded)
{
    struct fm_listing *listing = comparison->listing;
    struct fm_listing_entry *found = listing->count == 0
                                         ? NULL
                                         : bsearch(recorded, listing->entries, listing->count,
                                                   sizeof(*recorded), fm_listing_compare);
    if (found == NULL) {
        example_add(&comparison->missing_names, &comparison->missing, recorded->id, 0, 0);
        return;
    }
    comparison->seen[found - listing->entries] = true;
    if (found->size != recorded->size && found->size != FM_LISTING_SIZE_UNKNOWN &&
        recorded->size != FM_LISTING_SIZE_UNKNOWN) {
        example_add(&comparison->changed_names, &comparison->changed, recorded->id, recorded->size,
                    found->size);
    }
    uint64_t end = recorded->first_row + recorded->row_count;
    found->first_row = end > found->first_row ? end : found->first_row;
    if (recorded->rows_total != FM_LISTING_ROWS_UNKNOWN) {
        found->rows_total = recorded->rows_total;
    }
}

static int segment_compare(struct fm_row_source *source, size_t segment,
                           struct comparison *comparison, struct fm_error *reterr)
{
    int status = 0;
    source->cursor_entry = UINT64_MAX;
    for (uint64_t i = 0; i < source->segments[segment].entry_count && status == 0; i++) {
        struct fm_listing_entry recorded;
        status = entry_get(source, segment, i, &recorded, reterr);
        if (status == 0) {
            entry_compare(comparison, &recorded);
        }
    }
    return status;
}

/* A file of which more rows are there than are recorded, or may be. */
static bool is_partial(const struct fm_row_source *source, const struct fm_listing_entry *entry)
{
    return has_index(&source->segments[0]) && entry->first_row < entry->rows_total;
}

int fm_row_source_compare(struct fm_row_source *source, struct fm_listing *listing,
                          size_t **ret_added, size_t *ret_added_count, struct fm_error *reterr)
{
    struct comparison comparison = {.listing = listing};
    size_t added = 0;
    int status = 0;
    size_t *order = fm_alloc((listing->count + 1) * sizeof(*order));
    comparison.seen = fm_alloc_zero(listing->count + 1, sizeof(*comparison.seen));
    if (comparison.seen == NULL || order == NULL) {
        status = fm_error_set(reterr, FM_ENOMEM, "out of memory for the list of inputs");
    }
    for (size_t i = 0; i < listing->count; i++) {
        listing->entries[i].first_row = 0;
        listing->entries[i].rows_total = FM_LISTING_ROWS_UNKNOWN;
    }
    for (size_t i = 0; i < source->segment_count && status == 0; i++) {
        status = segment_compare(source, i, &comparison, reterr);
    }
    for (size_t i = 0; i < listing->count && status == 0; i++) {
        if (!comparison.seen[i] || is_partial(source, &listing->entries[i])) {
            order[added++] = i;
        }
    }
    if (status == 0 && comparison.missing + comparison.changed > 0) {
        status = difference_error(comparison.missing, &comparison.missing_names, comparison.changed,
                                  &comparison.changed_names, reterr);
    }
    fm_text_deinit(&comparison.missing_names);
    fm_text_deinit(&comparison.changed_names);
    fm_free(comparison.seen);
    if (status != 0) {
        fm_free(order);
        return status;
    }
    *ret_added = order;
    *ret_added_count = added;
    return 0;
}
