/*
 * Reading lines of results. See row_line.h.
 */
#include "engines/batch/row_line.h"

#include "core/proto/base64.h"
#include "core/proto/json.h"
#include "core/util/error.h"
#include "core/util/memory.h"

/* What may stand under a key, and where it goes; the text is NULL for a number. */
struct member {
    const char *key;
    struct fm_text *text;
    uint64_t *number;
    bool found;
};

static int corrupt(struct fm_error *reterr, const char *why)
{
    return fm_error_set(reterr, FM_ECORRUPT, "%s", why);
}

static int member_read(struct fm_json_reader *json, struct member *member)
{
    enum fm_json_token token = fm_json_next(json);
    if (member->text != NULL && token == FM_JSON_STRING) {
        fm_text_clear(member->text);
        fm_json_decode(json, member->text);
        fm_text_append_string(member->text, ""); /* never NULL */
        member->found = true;
        return member->text->failed ? FM_ENOMEM : 0;
    }
    if (member->number != NULL && token == FM_JSON_NUMBER) {
        member->found = true;
        return fm_json_uint64(json, member->number);
    }
    return FM_ETYPE;
}

static int members_read(const char *text, size_t length, struct member *members, size_t count,
                        struct fm_error *reterr)
{
    struct fm_json_reader json;
    fm_json_reader_init(&json, text, length);
    enum fm_json_token token = fm_json_next(&json);
    int status = token == FM_JSON_OBJECT_BEGIN ? 0 : FM_ETYPE;
    if (token != FM_JSON_OBJECT_BEGIN && token != FM_JSON_ERROR) {
        return corrupt(reterr, "it is no JSON object");
    }
    while (status == 0 && (token = fm_json_next(&json)) == FM_JSON_KEY) {
        struct member *member = NULL;
        for (size_t i = 0; i < count; i++) {
            member = fm_json_equals(&json, members[i].key) ? &members[i] : member;
        }
        status = member != NULL ? member_read(&json, member) : fm_json_skip(&json);
    }
    if (status == FM_ENOMEM) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for a line");
    }
    if (json.error.status != 0) {
        return fm_error_set(reterr, FM_ECORRUPT, "it is not JSON (%.200s)", json.error.text);
    }
    if (status != 0) {
        return corrupt(reterr, "a value in it is of another kind than it should be");
    }
    return token == FM_JSON_OBJECT_END && fm_json_next(&json) == FM_JSON_END
               ? 0
               : corrupt(reterr, "it is not one JSON object");
}

/* An id that is no UTF-8 comes in base64, too. */
static int id_take(struct fm_text *ret_id, const struct member *plain, const struct member *coded,
                   struct fm_error *reterr)
{
    size_t size = 0;
    if (!plain->found) {
        return corrupt(reterr, "it has no id");
    }
    if (!coded->found) {
        return 0;
    }
    if (fm_base64_decode(coded->text->data != NULL ? coded->text->data : "", coded->text->length,
                         coded->text->data, &size) != 0) {
        return corrupt(reterr, "its id_base64 is no base64");
    }
    fm_text_clear(ret_id);
    fm_text_append(ret_id, coded->text->data, size);
    return ret_id->failed ? fm_error_set(reterr, FM_ENOMEM, "out of memory for a line") : 0;
}

int fm_row_line_id(const char *text, size_t length, struct fm_text *ret_id, struct fm_error *reterr)
{
    struct fm_text coded = {0};
    struct member members[] = {{.key = "id", .text = ret_id}, {.key = "id_base64", .text = &coded}};
    int status = members_read(text, length, members, 2, reterr);
    status = status != 0 ? status : id_take(ret_id, &members[0], &members[1], reterr);
    fm_text_deinit(&coded);
    return status;
}

int fm_row_letter_read(struct fm_row_letter *letter, const char *text, size_t length,
                       struct fm_error *reterr)
{
    struct fm_text coded = {0};
    struct fm_text *const texts[] = {&letter->source, &letter->file, &letter->stage, &letter->code,
                                     &letter->message};
    struct member members[] = {{.key = "id", .text = &letter->id},
                               {.key = "id_base64", .text = &coded},
                               {.key = "row", .number = &letter->row},
                               {.key = "source", .text = &letter->source},
                               {.key = "file", .text = &letter->file},
                               {.key = "file_row", .number = &letter->file_row},
                               {.key = "stage", .text = &letter->stage},
                               {.key = "code", .text = &letter->code},
                               {.key = "message", .text = &letter->message},
                               {.key = "attempts", .number = &letter->attempts}};
    bool failed = false;
    letter->attempts = 0;
    letter->file_row = 0;
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        fm_text_clear(texts[i]);
        fm_text_append_string(texts[i], ""); /* never NULL */
        failed = failed || texts[i]->failed;
    }
    if (failed) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for a line");
    }
    int status = members_read(text, length, members, sizeof(members) / sizeof(members[0]), reterr);
    status = status != 0 ? status : id_take(&letter->id, &members[0], &members[1], reterr);
    fm_text_deinit(&coded);
    return status != 0         ? status
           : !members[2].found ? corrupt(reterr, "it does not say which row it is of")
                               : 0;
}

void fm_row_letter_deinit(struct fm_row_letter *letter)
{
    fm_text_deinit(&letter->id);
    fm_text_deinit(&letter->source);
    fm_text_deinit(&letter->file);
    fm_text_deinit(&letter->stage);
    fm_text_deinit(&letter->code);
    fm_text_deinit(&letter->message);
}
