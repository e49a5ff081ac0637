/*
 * Results as lines of JSON. See sink.h; row_format.h has what a line looks like.
 */
#include "engines/batch/sink_text.h"

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

const struct fm_sink fm_sink_jsonl = {.name = "jsonl",
                                      .title = "JSON",
                                      .ending = ".jsonl",
                                      .compressions = fm_sink_text_compressions,
                                      .check = jsonl_check,
                                      .pack = fm_row_format_result,
                                      .open = jsonl_open,
                                      .append = fm_sink_text_append,
                                      .finish = fm_sink_text_finish,
                                      .abandon = fm_sink_text_abandon};
