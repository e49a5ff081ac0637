/*
 * Reading a manifest. See manifest.h.
 *
 * HOW IT WORKS. The text is looked at byte by byte, with nothing remembered but depth and whether
 * it is within a string: enough to see where the array "parts" is and where each of its elements
 * ends. An element is read by itself when it is whole, and left out of what remains, the head,
 * which is a small JSON text with an empty array and is read at the end.
 */
#include "engines/batch/manifest.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/proto/json.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/file_reader.h"

enum { READ_CHUNK = 1 << 16, HEAD_BYTES_MAX = 4 << 20, PART_BYTES_MAX = 1 << 16 };

#define PARTS_KEY "parts"

/* What is expected next between the elements of "parts". */
enum expected { EXPECT_FIRST, EXPECT_COMMA, EXPECT_NEXT };

struct reader {
    const char *path;
    const struct fm_manifest_handlers *handlers;
    struct fm_text head;
    struct fm_text part; /* the element that is being gathered */
    uint32_t depth;
    bool in_string;
    bool escaped;
    bool in_parts;
    enum expected expected;
    char key[sizeof(PARTS_KEY) + 1]; /* the last string of depth 1, cut */
    size_t key_length;
    struct fm_error *reterr;
};

static int damaged(const struct reader *reader, const char *why)
{
    return fm_error_set(reader->reterr, FM_ECORRUPT, "'%s' is not a manifest of Fermata: %s",
                        reader->path, why);
}

/* --- Values --- */

static int text_take(struct fm_json_reader *json, char *ret_text, size_t size)
{
    struct fm_text text = {0};
    if (fm_json_next(json) != FM_JSON_STRING) {
        return FM_ETYPE;
    }
    fm_json_decode(json, &text);
    int status = text.failed ? FM_ENOMEM : 0;
    (void)snprintf(ret_text, size, "%s", status == 0 && text.data != NULL ? text.data : "");
    fm_text_deinit(&text);
    return status;
}

static int number_take(struct fm_json_reader *json, uint64_t *ret_number)
{
    return fm_json_next(json) == FM_JSON_NUMBER ? fm_json_uint64(json, ret_number) : FM_ETYPE;
}

/* Sixteen hexadecimal digits. */
static int checksum_take(struct fm_json_reader *json, uint64_t *ret_checksum)
{
    char text[24];
    uint64_t checksum = 0;
    int status = text_take(json, text, sizeof(text));
    if (status != 0 || strlen(text) != 16) {
        return status != 0 ? status : FM_ETYPE;
    }
    for (const char *digit = text; *digit != '\0'; digit++) {
        int value = fm_hex_digit(*digit);
        if (value < 0) {
            return FM_ETYPE;
        }
        checksum = checksum << 4 | (uint64_t)value;
    }
    *ret_checksum = checksum;
    return 0;
}

/* --- A part --- */

enum { PART_NUMBERS = 6, PART_KEYS = 9, PART_KEYS_NEEDED = 7 };

/* One member, whose key is the current token. *seen has a bit for each key of `keys`. */
static int part_member(struct fm_json_reader *json, struct fm_manifest_part *part, uint32_t *seen)
{
    static const char *const keys[PART_KEYS] = {"first_row",
                                                "rows_in",
                                                "rows",
                                                "dead_letters",
                                                "bytes",
                                                "part",
                                                "checksum",
                                                "dead_letter_bytes",
                                                "dead_letter_checksum"};
    uint64_t *const numbers[PART_KEYS] = {
        [0] = &part->first_row,    [1] = &part->rows_in,          [2] = &part->rows,
        [3] = &part->dead_letters, [4] = &part->files.part_bytes, [7] = &part->files.letters_bytes};
    for (uint32_t i = 0; i < PART_KEYS; i++) {
        if (fm_json_equals(json, keys[i])) {
            *seen |= 1u << i;
            return numbers[i] != NULL ? number_take(json, numbers[i])
                   : i == 5           ? text_take(json, part->name, sizeof(part->name))
                   : i == 6           ? checksum_take(json, &part->files.part_checksum)
                                      : checksum_take(json, &part->files.letters_checksum);
        }
    }
    return fm_json_skip(json);
}

static int part_read(struct reader *reader)
{
    struct fm_json_reader json;
    struct fm_manifest_part part = {.number = 0};
    uint32_t seen = 0;
    char why[160];
    fm_json_reader_init(&json, reader->part.data, reader->part.length);
    enum fm_json_token token = fm_json_next(&json); /* an object: that is how it was found */
    int status = 0;
    while (status == 0 && (token = fm_json_next(&json)) == FM_JSON_KEY) {
        status = part_member(&json, &part, &seen);
    }
    if (status == FM_ENOMEM) {
        return fm_error_set(reader->reterr, FM_ENOMEM, "out of memory for the manifest");
    }
    bool whole = status == 0 && token == FM_JSON_OBJECT_END &&
                 (seen & ((1u << PART_KEYS_NEEDED) - 1)) == (1u << PART_KEYS_NEEDED) - 1;
    bool letters = (seen >> PART_KEYS_NEEDED) == 3;
    if (!whole || letters != (part.dead_letters > 0) ||
        !fm_part_name_read(part.name, &part.number, &part.sink)) {
        (void)snprintf(why, sizeof(why), "what it says of a part cannot be understood: %.90s",
                       reader->part.data);
        return damaged(reader, why);
    }
    return reader->handlers->part != NULL ? reader->handlers->part(reader->handlers->context, &part)
                                          : 0;
}

/* --- Finding the parts --- */

static int append(const struct reader *reader, struct fm_text *text, char byte, size_t limit)
{
    if (text->length >= limit) {
        return damaged(reader, "a piece of it is too long");
    }
    fm_text_append_char(text, byte);
    return text->failed ? fm_error_set(reader->reterr, FM_ENOMEM, "out of memory for the manifest")
                        : 0;
}

/* Depth and strings: what a byte changes. */
static void step(struct reader *reader, char byte)
{
    if (reader->in_string) {
        bool ends = byte == '"' && !reader->escaped;
        if (!ends && reader->depth == 1 && reader->key_length < sizeof(reader->key) - 1) {
            reader->key[reader->key_length++] = byte;
        }
        reader->in_string = !ends;
        reader->escaped = byte == '\\' && !reader->escaped;
    } else if (byte == '"') {
        reader->in_string = true;
        reader->key_length = reader->depth == 1 ? 0 : reader->key_length;
    } else if (byte == '{' || byte == '[') {
        reader->depth++;
    } else if ((byte == '}' || byte == ']') && reader->depth > 0) {
        reader->depth--;
    }
}

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t';
}

/* Between the elements, directly in the array. */
static int between(struct reader *reader, char byte)
{
    if (is_blank(byte)) {
        return 0;
    }
    if (byte == '{' && reader->expected != EXPECT_COMMA) {
        step(reader, byte);
        fm_text_clear(&reader->part);
        return append(reader, &reader->part, byte, PART_BYTES_MAX);
    }
    if (byte == ',' && reader->expected == EXPECT_COMMA) {
        reader->expected = EXPECT_NEXT;
        return 0;
    }
    if (byte == ']' && reader->expected != EXPECT_NEXT) {
        step(reader, byte);
        reader->in_parts = false;
        return append(reader, &reader->head, byte, HEAD_BYTES_MAX);
    }
    return damaged(reader, "its list of parts holds something else than parts");
}

static int feed(struct reader *reader, const char *data, size_t size)
{
    int status = 0;
    for (size_t i = 0; i < size && status == 0; i++) {
        char byte = data[i];
        if (reader->in_parts && reader->depth == 2) {
            status = between(reader, byte);
        } else if (reader->in_parts) {
            status = append(reader, &reader->part, byte, PART_BYTES_MAX);
            step(reader, byte);
            if (status == 0 && reader->depth == 2) {
                status = part_read(reader);
                reader->expected = EXPECT_COMMA;
            }
        } else {
            bool key_is_parts = reader->depth == 1 && !reader->in_string && byte == '[' &&
                                reader->key_length == strlen(PARTS_KEY) &&
                                memcmp(reader->key, PARTS_KEY, strlen(PARTS_KEY)) == 0;
            status = append(reader, &reader->head, byte, HEAD_BYTES_MAX);
            step(reader, byte);
            reader->in_parts = key_is_parts;
            reader->expected = EXPECT_FIRST;
        }
    }
    return status;
}

/* --- The head --- */

static int facts_read(struct reader *reader, struct fm_json_reader *json)
{
    int status = fm_json_next(json) == FM_JSON_OBJECT_BEGIN ? 0 : FM_ETYPE;
    enum fm_json_token token = FM_JSON_END;
    while (status == 0 && (token = fm_json_next(json)) == FM_JSON_KEY) {
        char key[256];
        char value[1024];
        struct fm_text text = {0};
        fm_json_decode(json, &text);
        status = text.failed ? FM_ENOMEM : 0;
        (void)snprintf(key, sizeof(key), "%s", text.data != NULL ? text.data : "");
        fm_text_deinit(&text);
        status = status != 0 ? status : text_take(json, value, sizeof(value));
        const struct fm_job_fact fact = {.key = key, .value = value};
        if (status == 0 && reader->handlers->fact != NULL) {
            status = reader->handlers->fact(reader->handlers->context, &fact);
        }
    }
    return status != 0 ? status : token == FM_JSON_OBJECT_END ? 0 : FM_ETYPE;
}

enum { HEAD_NUMBERS = 5 };

static int head_member(struct reader *reader, struct fm_json_reader *json,
                       struct fm_manifest_head *head, uint64_t *version, uint32_t *seen)
{
    static const char *const keys[HEAD_NUMBERS] = {"manifest_version", "rows_in", "rows_out",
                                                   "dead_letters", "inputs_found"};
    uint64_t *const numbers[HEAD_NUMBERS] = {version, &head->rows_in, &head->rows_out,
                                             &head->dead_letters, &head->inputs_found};
    char algorithm[16];
    for (uint32_t i = 0; i < HEAD_NUMBERS; i++) {
        if (fm_json_equals(json, keys[i])) {
            *seen |= 1u << i;
            return number_take(json, numbers[i]);
        }
    }
    if (fm_json_equals(json, "job")) {
        return text_take(json, head->job, sizeof(head->job));
    }
    if (fm_json_equals(json, "finished")) {
        return text_take(json, head->finished, sizeof(head->finished));
    }
    if (fm_json_equals(json, "facts")) {
        return facts_read(reader, json);
    }
    if (fm_json_equals(json, "checksum_algorithm")) {
        int status = text_take(json, algorithm, sizeof(algorithm));
        return status != 0 ? status : strcmp(algorithm, "fnv1a64") == 0 ? 0 : FM_EUNSUPPORTED;
    }
    if (fm_json_equals(json, "complete")) {
        enum fm_json_token token = fm_json_next(json);
        head->complete = token == FM_JSON_TRUE;
        return token == FM_JSON_TRUE || token == FM_JSON_FALSE ? 0 : FM_ETYPE;
    }
    if (fm_json_equals(json, PARTS_KEY)) {
        /* Its elements were taken out. */
        *seen |= 1u << HEAD_NUMBERS;
        enum fm_json_token begin = fm_json_next(json);
        enum fm_json_token end = fm_json_next(json);
        return begin == FM_JSON_ARRAY_BEGIN && end == FM_JSON_ARRAY_END ? 0 : FM_ETYPE;
    }
    return fm_json_skip(json);
}

static int head_read(struct reader *reader, struct fm_manifest_head *head)
{
    struct fm_json_reader json;
    uint64_t version = 0;
    uint32_t seen = 0;
    char why[FM_ERROR_TEXT_SIZE];
    fm_json_reader_init(&json, reader->head.data != NULL ? reader->head.data : "",
                        reader->head.length);
    enum fm_json_token token = fm_json_next(&json);
    int status = token == FM_JSON_OBJECT_BEGIN ? 0 : FM_ETYPE;
    while (status == 0 && (token = fm_json_next(&json)) == FM_JSON_KEY) {
        status = head_member(reader, &json, head, &version, &seen);
    }
    if (status == FM_ENOMEM) {
        return fm_error_set(reader->reterr, FM_ENOMEM, "out of memory for the manifest");
    }
    if (status == FM_EUNSUPPORTED || (status == 0 && version > FM_MANIFEST_VERSION)) {
        return fm_error_set(reader->reterr, FM_EUNSUPPORTED,
                            "'%s' was written by a newer Fermata: use that one", reader->path);
    }
    if (status != 0 && status != FM_ETYPE && status != FM_ECORRUPT && status != FM_EINVAL) {
        return status; /* of a handler */
    }
    if (status != 0 || token != FM_JSON_OBJECT_END || fm_json_next(&json) != FM_JSON_END) {
        (void)snprintf(why, sizeof(why), "%.200s",
                       json.error.status != 0 ? json.error.text
                                              : "it is cut off, or a value is of another kind");
        return damaged(reader, why);
    }
    return seen == (1u << (HEAD_NUMBERS + 1)) - 1 && version == FM_MANIFEST_VERSION
               ? 0
               : damaged(reader, "something that each has is not in it");
}

/* --- The file --- */

int fm_manifest_read(const char *path, const struct fm_manifest_handlers *handlers,
                     struct fm_manifest_head *ret_head, struct fm_error *reterr)
{
    struct fm_file_reader file = {0};
    struct reader reader = {.path = path, .handlers = handlers, .reterr = reterr};
    struct fm_manifest_head head = {.complete = false};
    uint64_t offset = 0;
    size_t size = 1;
    char *chunk = fm_alloc(READ_CHUNK);
    int status = chunk == NULL ? fm_error_set(reterr, FM_ENOMEM, "out of memory for the manifest")
                               : fm_file_reader_open(&file, path, reterr);
    while (status == 0 && size > 0) {
        status = fm_file_reader_read_at(&file, offset, chunk, READ_CHUNK, &size, reterr);
        status = status != 0 ? status : feed(&reader, chunk, size);
        offset += size;
    }
    status = status != 0 ? status : head_read(&reader, &head);
    if (status == 0) {
        *ret_head = head;
    }
    fm_file_reader_close(&file);
    fm_text_deinit(&reader.head);
    fm_text_deinit(&reader.part);
    fm_free(chunk);
    return status;
}
