/*
 * Where records begin in a text of many: lines of JSON, or CSV.
 *
 * Owns: the rule of what a record is, counting records over a file that comes in pieces of any
 * size, the index points from which a reader may start, and taking records out of bytes that lie
 * together. Does not own: files, the index (the caller keeps the points), what is in a record
 * (csv.h, core/proto/json.h). Nothing is allocated. Thread rule: caller's memory.
 *
 * THE RULE. A line feed ends a record of lines always, and one of CSV when the record has an even
 * number of quote characters before it. A carriage return at a record's end is no part of it. The
 * last record needs no line feed. A line without content is no record: in CSV one that holds
 * nothing but carriage returns, in lines one of blanks and tabs as well; so a CSV of one column
 * writes an empty field as "". A UTF-8 byte-order mark at the beginning of the file is skipped. All
 * other bytes are data, NUL too.
 *
 * Counting quotes also counts those in the middle of fields that do not begin with one. Many
 * readers take such a quote as data; RFC 4180 does not allow it, and the parser (csv.h) refuses it.
 * So whatever the parser accepts, the scan has cut rightly. A stray quote joins lines up to the
 * next quote, and the parser refuses what comes of it; or it runs into record_bytes_max or the end
 * of the file, and the scan fails.
 */
#ifndef FM_CORE_SOURCE_RECORD_SCAN_H
#define FM_CORE_SOURCE_RECORD_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

enum fm_record_kind {
    FM_RECORD_LINES, /* one JSON value a line */
    FM_RECORD_CSV,
    FM_RECORD_KIND_COUNT_,
};

struct fm_record_options {
    enum fm_record_kind kind;
    char quote;                /* CSV; '\0': fields are never quoted */
    bool header;               /* CSV: the first record names the columns and is no row */
    uint64_t record_bytes_max; /* of one record, before its line feed; > 0 */
    /* Of the scan: a point for the first record, and then for each that lies stride_rows rows or
     * stride_bytes bytes behind the last point. > 0 both. */
    uint64_t stride_rows;
    uint64_t stride_bytes;
};

/* A place where a record begins. */
struct fm_record_point {
    uint64_t row;    /* its number, from 0; a header has none */
    uint64_t offset; /* of its first byte in the file */
    uint64_t line;   /* on which it begins, from 1 */
};

/* Takes an index point. Anything but 0 ends the scan, which returns it. */
typedef int (*fm_record_point_take)(void *context, const struct fm_record_point *point);

struct fm_record_scan {
    struct fm_record_options options;
    uint64_t rows;  /* records that have ended, without the header */
    uint64_t bytes; /* that were looked at; all after finish */
    uint64_t lines; /* that have ended */
    /* The header, once it has ended; size 0: there was none yet. Without its line end. */
    uint64_t header_offset;
    uint64_t header_size;

    /* Internal. */
    fm_record_point_take take;
    void *context;
    int status;        /* what ended the scan */
    bool header_ended; /* or there is none */
    bool pointed;      /* there is a last point */
    struct fm_record_point last;
    struct fm_record_point open;  /* the record that has begun, or may begin here */
    struct fm_record_point quote; /* where the last quoted stretch was opened */
    bool content;                 /* the open record has some */
    uint64_t inside;              /* all ones within quotes, else 0 */
    bool closed;                  /* the last byte was a quote that closed */
    uint8_t last_byte;
    uint8_t mark_held; /* bytes of what may be a byte-order mark */
    bool mark_done;
};

/* `take` may be NULL: nobody wants points. */
void fm_record_scan_init(struct fm_record_scan *scan, const struct fm_record_options *options,
                         fm_record_point_take take, void *context);

/*
 * The next `size` bytes of the file, in pieces of any size: how it is cut changes nothing. A point
 * is given when its record has ended, in order. FM_ETOOLARGE: a record is longer than
 * record_bytes_max (its line and offset are in the text). What failed once fails again.
 */
int FM_NODISCARD fm_record_scan_feed(struct fm_record_scan *scan, const void *data, size_t size,
                                     struct fm_error *reterr);
/* The file is over. FM_ECORRUPT: a quote is open (line and offset of where it was opened). */
int FM_NODISCARD fm_record_scan_finish(struct fm_record_scan *scan, struct fm_error *reterr);

/* --- Reading --- */

/* One record, without its line end. */
struct fm_record {
    const char *data; /* borrowed from the bytes given */
    size_t size;
    struct fm_record_point at; /* row: of a header 0, like that of the first row */
    bool header;
};

/* Takes record after record. Start it at the beginning of the file or at an index point. */
struct fm_record_reader {
    struct fm_record_options options;
    struct fm_record_point next; /* what stands at data[0] in the next call */

    /* Internal: how much of that was looked at, in vain. */
    size_t looked;
    uint64_t inside;
    uint64_t line_feeds; /* within it */
    bool at_start;       /* a byte-order mark may come */
    bool header_due;
};

/* `point` NULL: from the beginning of the file, where the header (if options says so) is the first
 * record. The strides of the options do not matter. */
void fm_record_reader_init(struct fm_record_reader *reader, const struct fm_record_options *options,
                           const struct fm_record_point *point);

/*
 * `data` are bytes of the file from reader->next.offset on, `end` says that the file ends with
 * them. Returns 1: *ret_record is the next record; 0: there is no whole one in them, so come again
 * with more behind what is left (or, with `end`, the file is over). Either way *ret_used bytes were
 * used up, and the next call begins behind them. FM_ETOOLARGE, FM_ECORRUPT: as the scan says.
 */
int FM_NODISCARD fm_record_reader_next(struct fm_record_reader *reader, const char *data,
                                       size_t size, bool end, struct fm_record *ret_record,
                                       size_t *ret_used, struct fm_error *reterr);

#endif
