/*
 * What a job writes its results as: one table of formats.
 *
 * Owns: which formats there are, and for each what a row's results become, how a file of them
 * begins, grows and ends, and how it is read back for a proof. Does not own: names and places of
 * files (part_name.h, output.h), what is in a row (row_format.h), dead letters, which are JSON
 * lines whatever the results are. Thread rule: the table is read-only; a file belongs to one thread
 * at a time, and rows may be packed on any number of them.
 *
 * A row's results are packed where they come up, into bytes that only the sink itself understands
 * (of a text they are the text); a file takes them in the order of its rows.
 */
#ifndef FM_ENGINES_BATCH_SINK_H
#define FM_ENGINES_BATCH_SINK_H

#include "engines/batch/row_format.h"
#include "host/source/source.h"

/* What every format's file begins with. */
struct fm_sink_file {
    const struct fm_sink *sink;
};

struct fm_sink {
    const char *name;   /* "parquet" */
    const char *title;  /* in messages: "Parquet" */
    const char *ending; /* of its files' names, with the dot */
    bool typed;         /* each of its columns has one type, the same in all files */
    bool answers;       /* its rows are answers to requests, and so are its dead letters */
    /* NULL-terminated; the first is taken where the job does not say. */
    const char *const *compressions;
    bool lines;                 /* its files, decompressed, are lines of JSON */
    bool gzipped;               /* its files are compressed with gzip */
    const struct fm_sink *gzip; /* the same with files that are; NULL: there is none, or it is */
    /* What reads its files back, and finds the ids in the column "id". NULL: they are lines of
     * JSON (row_line.h). */
    const struct fm_source_format *source;
    /* Whether files can be had of such rows, before there are any. FM_EUNSUPPORTED, FM_EINVAL,
     * FM_ENOTFOUND: something that it needs is not installed. */
    int (*check)(const struct fm_row_format *format, struct fm_error *reterr);
    /* Appends a row, packed. After an error nothing was appended: FM_EUNSUPPORTED, FM_ETYPE,
     * FM_ECORRUPT, FM_ENOMEM. */
    int (*pack)(const struct fm_row_format *format, const struct fm_result *result,
                struct fm_text *rows, struct fm_error *reterr);
    /* Creates or truncates a file; `format` is borrowed until its end. */
    int (*open)(const struct fm_row_format *format, const char *path,
                struct fm_sink_file **ret_file, struct fm_error *reterr);
    /* Appends rows as they were packed. After an error only abandon is left. */
    int (*append)(struct fm_sink_file *file, const char *rows, size_t size,
                  struct fm_error *reterr);
    /* Makes of packed rows what only has to be written, where they come up, so that many threads
     * share the work; append_sealed appends it. FM_ENOMEM: the rows are as they were. Both NULL:
     * there is nothing to be gained. */
    int (*seal)(const struct fm_text *rows, struct fm_text *sealed);
    int (*append_sealed)(struct fm_sink_file *file, const char *sealed, size_t size,
                         struct fm_error *reterr);
    /* Completes the file and flushes it to the disk (not its directory): whoever sees it sees all
     * of it. Takes the file in any case. The checksum is as in core/util/hash.h. */
    int (*finish)(struct fm_sink_file *file, uint64_t *ret_bytes, uint64_t *ret_checksum,
                  struct fm_error *reterr);
    /* Takes the file, and removes it. */
    void (*abandon)(struct fm_sink_file *file);
};

extern const struct fm_sink fm_sink_jsonl;
extern const struct fm_sink fm_sink_csv;
extern const struct fm_sink fm_sink_parquet;
extern const struct fm_sink fm_sink_openai_batch;

/* All of them, NULL-terminated; the first is taken where a job does not say. */
extern const struct fm_sink *const fm_sinks[];

/* FM_ENOTFOUND, with the likely name. */
int FM_NODISCARD fm_sink_find(const char *name, const struct fm_sink **ret_sink,
                              struct fm_error *reterr);
/* By the ending of a file's name, exactly; NULL: none has it. */
const struct fm_sink *fm_sink_of_ending(const char *ending);
/* By what a job has recorded: "csv, compression gzip", and whatever stands behind that. An unknown
 * one is taken for the first of the table. */
const struct fm_sink *fm_sink_of_fact(const char *fact);
/* `name` as the sink's own, and *sink as the one whose files are compressed like that:
 * FM_EUNSUPPORTED, with those that it has. */
int FM_NODISCARD fm_sink_compression(const struct fm_sink **sink, const char *name,
                                     const char **ret_compression, struct fm_error *reterr);

#endif
