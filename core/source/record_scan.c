/*
 * Records of CSV and of lines. See record_scan.h. Pure.
 *
 * HOW IT WORKS. Lines are found by memchr. CSV is looked at in blocks of 64 bytes, of which one
 * word has a bit for each quote and another one for each line feed. The exclusive or of all bits up
 * to and with a bit, over the word of quotes, says for each byte whether it stands within quotes;
 * line feeds that do not are ends of records. So the work does not depend on how many quotes there
 * are, only on how many records end. LIMITATIONS: little-endian, as all of our machines are.
 */
#include "core/source/record_scan.h"

#include <inttypes.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/text.h"

enum { BLOCK = 64, MARK_SIZE = 3 };

static const uint8_t mark[MARK_SIZE] = {0xEF, 0xBB, 0xBF};

/* --- Blocks --- */

/* One bit for each byte. */
struct block {
    uint64_t quotes;
    uint64_t feeds;
};

/* The top bit of each byte of `word` that is zero, and no other bit. */
static inline uint64_t zero_bytes(uint64_t word)
{
    const uint64_t low = UINT64_C(0x7F7F7F7F7F7F7F7F);
    return ~(((word & low) + low) | word | low);
}

/* The top bits of the bytes, as the low eight bits: the product puts each into the highest byte. */
static inline uint64_t gather(uint64_t tops)
{
    return ((tops >> 7) * UINT64_C(0x0102040810204080)) >> 56;
}

static inline struct block block_read(const uint8_t *data, uint8_t quote)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    struct block block = {0};
    for (unsigned i = 0; i < BLOCK / 8; i++) {
        uint64_t word;
        memcpy(&word, data + (size_t)i * 8, sizeof(word));
        block.quotes |= gather(zero_bytes(word ^ ones * quote)) << (i * 8);
        block.feeds |= gather(zero_bytes(word ^ ones * '\n')) << (i * 8);
    }
    return block;
}

/* The same of `count` bytes, less than a block. */
static struct block block_read_part(const uint8_t *data, size_t count, uint8_t quote)
{
    uint8_t padded[BLOCK] = {0};
    memcpy(padded, data, count);
    struct block block = block_read(padded, quote);
    uint64_t there = (UINT64_C(1) << count) - 1;
    block.quotes &= there;
    block.feeds &= there;
    return block;
}

/* Bit i: whether an odd number of the bits 0 to i is set. */
static inline uint64_t parity_up_to(uint64_t bits)
{
    bits ^= bits << 1;
    bits ^= bits << 2;
    bits ^= bits << 4;
    bits ^= bits << 8;
    bits ^= bits << 16;
    bits ^= bits << 32;
    return bits;
}

static inline unsigned count_bits(uint64_t bits)
{
    return bits == 0 ? 0 : (unsigned)__builtin_popcountll(bits);
}

/* --- What a record is --- */

static bool has_quotes(const struct fm_record_options *options)
{
    return options->kind == FM_RECORD_CSV && options->quote != '\0';
}

static inline bool has_content(enum fm_record_kind kind, const uint8_t *data, uint64_t size)
{
    for (uint64_t i = 0; i < size; i++) {
        bool blank =
            data[i] == '\r' || (kind == FM_RECORD_LINES && (data[i] == ' ' || data[i] == '\t'));
        if (!blank) {
            return true;
        }
    }
    return false;
}

static void options_check(const struct fm_record_options *options)
{
    FM_ASSERT(options->kind < FM_RECORD_KIND_COUNT_);
    FM_ASSERT(options->record_bytes_max > 0);
    FM_ASSERT(options->quote != '\n' && options->quote != '\r');
}

static int too_large(const struct fm_record_options *options, const struct fm_record_point *at,
                     struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_ETOOLARGE,
                        "line %" PRIu64 " (byte %" PRIu64
                        "): the record that begins here is longer than %" PRIu64 " bytes%s",
                        at->line, at->offset, options->record_bytes_max,
                        has_quotes(options) ? "; is there a quote in it that is never closed?"
                                            : "");
}

static int unclosed(const struct fm_record_point *at, struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_ECORRUPT,
                        "line %" PRIu64 " (byte %" PRIu64
                        "): the quote that opens here is never closed",
                        at->line, at->offset);
}

/* --- The scan --- */

void fm_record_scan_init(struct fm_record_scan *scan, const struct fm_record_options *options,
                         fm_record_point_take take, void *context)
{
    options_check(options);
    FM_ASSERT(options->stride_rows > 0);
    FM_ASSERT(options->stride_bytes > 0);
    *scan = (struct fm_record_scan){
        .options = *options,
        .take = take,
        .context = context,
        .header_ended = options->kind != FM_RECORD_CSV || !options->header,
        .open = {.line = 1},
    };
}

/* The bytes of one call, and where they stand in the file. */
struct piece {
    const uint8_t *data;
    size_t size;
    uint64_t offset;
};

/* A record with content has ended before byte `end`. */
static int record_count(struct fm_record_scan *scan, const struct piece *piece, uint64_t end)
{
    const struct fm_record_point *open = &scan->open;
    if (!scan->header_ended) {
        uint8_t last = end > piece->offset ? piece->data[end - 1 - piece->offset] : scan->last_byte;
        scan->header_ended = true;
        scan->header_offset = open->offset;
        scan->header_size = end - open->offset - (last == '\r');
        return 0;
    }
    bool due = !scan->pointed || open->row - scan->last.row >= scan->options.stride_rows ||
               open->offset - scan->last.offset >= scan->options.stride_bytes;
    scan->rows++;
    if (!due) {
        return 0;
    }
    scan->pointed = true;
    scan->last = *open;
    return scan->take != NULL ? scan->take(scan->context, &scan->last) : 0;
}

/* The open record, or line without content, ends before byte `end` of the file; what follows begins
 * on `next_line`. */
static inline int record_end(struct fm_record_scan *scan, const struct piece *piece, uint64_t end,
                             uint64_t next_line, struct fm_error *reterr)
{
    struct fm_record_point *open = &scan->open;
    if (end - open->offset > scan->options.record_bytes_max) {
        return too_large(&scan->options, open, reterr);
    }
    uint64_t from = open->offset > piece->offset ? open->offset : piece->offset;
    if (scan->content ||
        has_content(scan->options.kind, piece->data + (from - piece->offset), end - from)) {
        int status = record_count(scan, piece, end);
        if (status != 0) {
            return fm_error_set(reterr, status,
                                "line %" PRIu64 " (byte %" PRIu64 "): no place for an index point",
                                open->line, open->offset);
        }
    }
    *open = (struct fm_record_point){.row = scan->rows, .offset = end + 1, .line = next_line};
    scan->content = false;
    return 0;
}

static int feed_lines(struct fm_record_scan *scan, const struct piece *piece,
                      struct fm_error *reterr)
{
    const uint8_t *at = piece->data;
    const uint8_t *end = piece->data + piece->size;
    int status = 0;
    while (status == 0 && at < end) {
        const uint8_t *feed = memchr(at, '\n', (size_t)(end - at));
        if (feed == NULL) {
            break;
        }
        scan->lines++;
        status = record_end(scan, piece, piece->offset + (uint64_t)(feed - piece->data),
                            scan->lines + 1, reterr);
        at = feed + 1;
    }
    return status;
}

/* Remembers where the last quoted stretch of the block was opened. A quote right behind one that
 * closed is the second of a doubled quote, and opens nothing. */
static void quote_note(struct fm_record_scan *scan, uint64_t opened, uint64_t feeds,
                       uint64_t offset)
{
    unsigned bit = 63 - (unsigned)__builtin_clzll(opened);
    uint64_t before = (UINT64_C(1) << bit) - 1;
    scan->quote = (struct fm_record_point){.offset = offset + bit,
                                           .line = scan->lines + 1 + count_bits(feeds & before)};
}

/* `count` bytes from `offset` on. */
static inline int feed_block(struct fm_record_scan *scan, const struct piece *piece,
                             struct block block, size_t count, uint64_t offset,
                             struct fm_error *reterr)
{
    uint64_t inside = parity_up_to(block.quotes) ^ scan->inside;
    uint64_t closings = block.quotes & ~inside;
    uint64_t opened = block.quotes & inside & ~(closings << 1 | scan->closed);
    if (opened != 0) {
        quote_note(scan, opened, block.feeds, offset);
    }
    for (uint64_t ends = block.feeds & ~inside; ends != 0; ends &= ends - 1) {
        uint64_t before = (ends & (0 - ends)) - 1;
        uint64_t line = scan->lines + 2 + count_bits(block.feeds & before);
        int status =
            record_end(scan, piece, offset + (unsigned)__builtin_ctzll(ends), line, reterr);
        if (status != 0) {
            return status;
        }
    }
    scan->lines += count_bits(block.feeds);
    scan->inside = 0 - (inside >> 63);
    scan->closed = (closings >> (count - 1) & 1u) != 0;
    return 0;
}

static int feed_csv(struct fm_record_scan *scan, const struct piece *piece, struct fm_error *reterr)
{
    uint8_t quote = (uint8_t)scan->options.quote;
    size_t at = 0;
    int status = 0;
    for (; status == 0 && piece->size - at >= BLOCK; at += BLOCK) {
        status = feed_block(scan, piece, block_read(piece->data + at, quote), BLOCK,
                            piece->offset + at, reterr);
    }
    size_t rest = piece->size - at;
    if (status == 0 && rest > 0) {
        status = feed_block(scan, piece, block_read_part(piece->data + at, rest, quote), rest,
                            piece->offset + at, reterr);
    }
    return status;
}

static int feed(struct fm_record_scan *scan, const uint8_t *data, size_t size,
                struct fm_error *reterr)
{
    const struct piece piece = {.data = data, .size = size, .offset = scan->bytes};
    if (size == 0) {
        return 0;
    }
    int status = has_quotes(&scan->options) ? feed_csv(scan, &piece, reterr)
                                            : feed_lines(scan, &piece, reterr);
    if (status != 0) {
        return status;
    }
    scan->bytes += size;
    uint64_t from = scan->open.offset > piece.offset ? scan->open.offset : piece.offset;
    if (scan->bytes - scan->open.offset > scan->options.record_bytes_max) {
        return too_large(&scan->options, &scan->open, reterr);
    }
    scan->content = scan->content || has_content(scan->options.kind, data + (from - piece.offset),
                                                 scan->bytes - from);
    scan->last_byte = data[size - 1];
    return 0;
}

/* What looked like the beginning of a byte-order mark is content. */
static int mark_release(struct fm_record_scan *scan, struct fm_error *reterr)
{
    scan->mark_done = true;
    return feed(scan, mark, scan->mark_held, reterr);
}

static int feed_start(struct fm_record_scan *scan, const uint8_t **data, size_t *size,
                      struct fm_error *reterr)
{
    while (!scan->mark_done && *size > 0) {
        if (**data != mark[scan->mark_held]) {
            return mark_release(scan, reterr);
        }
        (*data)++;
        (*size)--;
        scan->mark_held++;
        if (scan->mark_held == MARK_SIZE) {
            scan->mark_done = true;
            scan->bytes = MARK_SIZE;
            scan->open.offset = MARK_SIZE;
        }
    }
    return 0;
}

static int failed_before(int status, struct fm_error *reterr)
{
    return fm_error_set(reterr, status, "the scan of these records has failed before");
}

int fm_record_scan_feed(struct fm_record_scan *scan, const void *data, size_t size,
                        struct fm_error *reterr)
{
    const uint8_t *bytes = data;
    if (scan->status != 0) {
        return failed_before(scan->status, reterr);
    }
    scan->status = feed_start(scan, &bytes, &size, reterr);
    if (scan->status == 0) {
        scan->status = feed(scan, bytes, size, reterr);
    }
    return scan->status;
}

int fm_record_scan_finish(struct fm_record_scan *scan, struct fm_error *reterr)
{
    if (scan->status != 0) {
        return failed_before(scan->status, reterr);
    }
    scan->status = scan->mark_done ? 0 : mark_release(scan, reterr);
    if (scan->status == 0 && scan->inside != 0) {
        scan->status = unclosed(&scan->quote, reterr);
    }
    if (scan->status == 0 && scan->bytes > scan->open.offset) {
        const struct piece nothing = {.data = mark, .offset = scan->bytes};
        scan->lines++;
        scan->status = record_end(scan, &nothing, scan->bytes, scan->lines + 1, reterr);
    }
    return scan->status;
}

/* --- Reading --- */

void fm_record_reader_init(struct fm_record_reader *reader, const struct fm_record_options *options,
                           const struct fm_record_point *point)
{
    options_check(options);
    *reader = (struct fm_record_reader){
        .options = *options,
        .next = point != NULL ? *point : (struct fm_record_point){.line = 1},
        .at_start = point == NULL,
        .header_due = point == NULL && options->kind == FM_RECORD_CSV && options->header,
    };
}

/* Looks on behind what was looked at in vain. True: the record, or line without content, that
 * begins at data[0] ends before the line feed at data[*ret_end]. */
static bool end_find(struct fm_record_reader *reader, const char *data, size_t size,
                     size_t *ret_end)
{
    if (!has_quotes(&reader->options)) {
        const char *found = size > reader->looked
                                ? memchr(data + reader->looked, '\n', size - reader->looked)
                                : NULL;
        *ret_end = found != NULL ? (size_t)(found - data) : size;
        reader->looked = size;
        return found != NULL;
    }
    while (reader->looked < size) {
        const uint8_t *at = (const uint8_t *)data + reader->looked;
        size_t count = size - reader->looked < BLOCK ? size - reader->looked : BLOCK;
        uint8_t quote = (uint8_t)reader->options.quote;
        struct block block =
            count == BLOCK ? block_read(at, quote) : block_read_part(at, count, quote);
        uint64_t inside = parity_up_to(block.quotes) ^ reader->inside;
        uint64_t ends = block.feeds & ~inside;
        if (ends != 0) {
            reader->line_feeds += count_bits(block.feeds & ((ends & (0 - ends)) - 1));
            *ret_end = reader->looked + (unsigned)__builtin_ctzll(ends);
            return true;
        }
        reader->line_feeds += count_bits(block.feeds);
        reader->inside = 0 - (inside >> 63);
        reader->looked += count;
    }
    *ret_end = size;
    return false;
}

/* The quote that is open at the end of data, which begins with a record. */
static int reader_unclosed(const struct fm_record_reader *reader, const char *data, size_t size,
                           struct fm_error *reterr)
{
    struct fm_record_point at = {0};
    uint64_t line = reader->next.line;
    bool inside = false;
    for (size_t i = 0; i < size; i++) {
        line += data[i] == '\n';
        if (data[i] == reader->options.quote) {
            bool doubled = !inside && i > 0 && data[i - 1] == reader->options.quote;
            inside = !inside;
            if (inside && !doubled) {
                at = (struct fm_record_point){.offset = reader->next.offset + i, .line = line};
            }
        }
    }
    return unclosed(&at, reterr);
}

/* `used` bytes, of which the last is a line feed if `fed`, have been taken. */
static void reader_step(struct fm_record_reader *reader, size_t used, bool fed)
{
    reader->next.offset += used;
    reader->next.line += reader->line_feeds + fed;
    reader->looked = 0;
    reader->inside = 0;
    reader->line_feeds = 0;
}

int fm_record_reader_next(struct fm_record_reader *reader, const char *data, size_t size, bool end,
                          struct fm_record *ret_record, size_t *ret_used, struct fm_error *reterr)
{
    size_t used = 0;
    *ret_used = 0;
    if (reader->at_start) {
        if (size < MARK_SIZE && !end && (size == 0 || memcmp(data, mark, size) == 0)) {
            return 0;
        }
        reader->at_start = false;
        used = fm_text_after_bom(data, size);
        reader->next.offset += used;
    }
    while (used < size) {
        const char *start = data + used;
        size_t length = 0;
        bool fed = end_find(reader, start, size - used, &length);
        if (length > reader->options.record_bytes_max) {
            return too_large(&reader->options, &reader->next, reterr);
        }
        if (!fed && !end) {
            break;
        }
        if (!fed && reader->inside != 0) {
            return reader_unclosed(reader, start, length, reterr);
        }
        bool content = has_content(reader->options.kind, (const uint8_t *)start, length);
        *ret_record = (struct fm_record){
            .data = start,
            .size = length - (content && start[length - 1] == '\r'),
            .at = reader->next,
            .header = reader->header_due,
        };
        reader_step(reader, length + fed, fed);
        used += length + fed;
        if (content) {
            reader->next.row += !reader->header_due;
            reader->header_due = false;
            *ret_used = used;
            return 1;
        }
    }
    *ret_used = used;
    return 0;
}
