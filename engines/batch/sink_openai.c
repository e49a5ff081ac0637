/*
 * Results as the answers of an OpenAI batch: a line of JSON for each. See sink.h.
 *
 * HOW IT WORKS. A line is {"id", "custom_id", "response": {"status_code": 200, "request_id",
 * "body"}, "error": null}, where all three ids are the row's: it is unique in the job, and the same
 * whenever the row is done again. The body is an object of the pipeline's outputs by name; or,
 * where the job says which output is the embedding, the list of one embedding that
 * FM_REQUEST_LINE_EMBEDDINGS answers with. What is passed is at most the request's model.
 */
#include <string.h>

#include "core/plan/pipeline.h"
#include "core/source/request_line.h"
#include "core/util/error.h"
#include "engines/batch/sink_text.h"
#include "host/source/formats.h"

static int openai_check(const struct fm_row_format *format, struct fm_error *reterr)
{
    const char *names[FM_PIPELINE_PORTS_MAX];
    uint32_t count = format->output_count;
    for (uint32_t i = 0; i < count; i++) {
        names[i] = format->outputs[i].name;
        if (format->embedding != NULL && strcmp(names[i], format->embedding) == 0) {
            return format->outputs[i].dtype != FM_DTYPE_BYTES
                       ? 0
                       : fm_error_set(reterr, FM_EINVAL,
                                      "output.embedding: the output '%s' is BYTES, and an "
                                      "embedding is numbers",
                                      names[i]);
        }
    }
    const char *near =
        format->embedding != NULL ? fm_text_suggest(format->embedding, names, count) : NULL;
    return format->embedding == NULL
               ? 0
               : fm_error_set(reterr, FM_EINVAL,
                              "output.embedding: the pipeline has no output '%s'%s%s%s",
                              format->embedding, near != NULL ? "; did you mean '" : "",
                              near != NULL ? near : "", near != NULL ? "'?" : "");
}

static void model_write(const struct fm_row_format *format, const struct fm_result *result,
                        struct fm_json_writer *json)
{
    bool passed = format->passed_count > 0 && result->passed != NULL &&
                  strcmp(format->passed[0], FM_REQUEST_LINE_MODEL) == 0;
    if (passed && strcmp(result->passed, "null") != 0) {
        fm_json_key(json, "model");
        fm_json_raw(json, result->passed, strlen(result->passed));
    }
}

static int body_write(const struct fm_row_format *format, const struct fm_result *result,
                      struct fm_json_writer *json, const char **ret_output)
{
    int status = 0;
    bool embeds = format->embedding != NULL;
    fm_json_object_begin(json);
    if (embeds) {
        fm_json_member_string(json, "object", "list");
        fm_json_key(json, "data");
        fm_json_array_begin(json);
        fm_json_object_begin(json);
        fm_json_member_string(json, "object", "embedding");
        fm_json_member_uint(json, "index", 0);
    }
    for (uint32_t i = 0; i < format->output_count && status == 0; i++) {
        *ret_output = format->outputs[i].name;
        if (!embeds || strcmp(format->outputs[i].name, format->embedding) == 0) {
            fm_json_key(json, embeds ? "embedding" : format->outputs[i].name);
            status = fm_row_output_write(format, &format->outputs[i], &result->outputs[i], json);
        }
    }
    if (embeds) {
        fm_json_object_end(json);
        fm_json_array_end(json);
        model_write(format, result, json);
    }
    fm_json_object_end(json);
    return status;
}

static int openai_pack(const struct fm_row_format *format, const struct fm_result *result,
                       struct fm_text *rows, struct fm_error *reterr)
{
    struct fm_json_writer json;
    const char *output = "";
    size_t before = rows->length;
    if (!fm_row_id_is_text(&result->id)) {
        return fm_error_set(reterr, FM_EUNSUPPORTED,
                            "the id is not UTF-8, and so no custom_id; output.format: jsonl can "
                            "hold it");
    }
    fm_json_writer_init(&json, rows);
    fm_json_object_begin(&json);
    fm_json_key(&json, "id");
    fm_json_string_n(&json, result->id.data, result->id.size);
    fm_json_key(&json, FM_REQUEST_LINE_ID);
    fm_json_string_n(&json, result->id.data, result->id.size);
    fm_json_key(&json, "response");
    fm_json_object_begin(&json);
    fm_json_member_uint(&json, "status_code", 200);
    fm_json_key(&json, "request_id");
    fm_json_string_n(&json, result->id.data, result->id.size);
    fm_json_key(&json, "body");
    int status = body_write(format, result, &json, &output);
    if (status == 0) {
        fm_json_object_end(&json);
        fm_json_key(&json, "error");
        fm_json_null(&json);
        fm_json_object_end(&json);
        fm_text_append_char(rows, '\n');
    }
    if (status == 0 && !rows->failed) {
        return 0;
    }
    rows->length = before;
    rows->failed = false;
    return status != 0 ? fm_error_set(reterr, status, "output '%s' cannot be written as JSON: %s",
                                      output, fm_status_text(status))
                       : fm_error_set(reterr, FM_ENOMEM, "out of memory for the row's line");
}

static int openai_open(const struct fm_row_format *format, const char *path,
                       struct fm_sink_file **ret_file, struct fm_error *reterr)
{
    const struct fm_text nothing = {0};
    return fm_sink_text_open(format->sink, path, &nothing, ret_file, reterr);
}

/* What its files have in common, compressed or not. */
#define OPENAI_BATCH                                                                   \
    FM_SINK_TEXT, .name = "openai_batch", .title = "an OpenAI batch", .answers = true, \
                  .lines = true, .check = openai_check, .pack = openai_pack, .open = openai_open

/* Its ending tells its parts from those of jsonl, and is one of jsonl to whoever reads them. */
static const struct fm_sink sink_openai_batch_gzip = {
    OPENAI_BATCH, FM_SINK_TEXT_GZIPPED, .ending = ".openai.jsonl.gz", .source = &fm_source_jsonl};

const struct fm_sink fm_sink_openai_batch = {OPENAI_BATCH, .ending = ".openai.jsonl",
                                             .gzip = &sink_openai_batch_gzip};
