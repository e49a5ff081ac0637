/*
 * Results as lines of JSON. See sink.h; row_format.h has what a line looks like.
 */
#include "engines/batch/row_columns.h"
#include "engines/batch/sink_text.h"
#include "host/source/formats.h"

static int jsonl_check(const struct fm_row_format *format, struct fm_error *reterr)
{
    (void)format;
    (void)reterr;
    return 0; /* whatever has a form at all has one in JSON */
}

static int jsonl_open(const struct fm_row_format *format, const char *path,
                      struct fm_sink_file **ret_file, struct fm_error *reterr)
{
    const struct fm_text nothing = {0};
    return fm_sink_text_open(format->sink, path, &nothing, ret_file, reterr);
}

/* Compressed lines are read back as rows, whose ids are texts. */
static int gzip_pack(const struct fm_row_format *format, const struct fm_result *result,
                     struct fm_text *rows, struct fm_error *reterr)
{
    int status = fm_row_columns_id_check(format, &result->id, reterr);
    return status != 0 ? status : fm_row_format_result(format, result, rows, reterr);
}

/* What its files have in common, compressed or not. */
#define JSONL                                                                            \
    FM_SINK_TEXT, .name = "jsonl", .title = "JSON", .lines = true, .check = jsonl_check, \
                  .open = jsonl_open

static const struct fm_sink sink_jsonl_gzip = {JSONL, FM_SINK_TEXT_GZIPPED, .ending = ".jsonl.gz",
                                               .source = &fm_source_jsonl, .pack = gzip_pack};

const struct fm_sink fm_sink_jsonl = {JSONL, .ending = ".jsonl", .gzip = &sink_jsonl_gzip,
                                      .pack = fm_row_format_result};
