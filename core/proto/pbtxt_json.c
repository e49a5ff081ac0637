/*
 * A message in protobuf's JSON form, read into the tree of pbtxt.h.
 *
 * HOW IT WORKS. An object becomes a message, a list the repeated field, true and false identifiers,
 * null nothing. What JSON cannot tell without the schema is left as it stands: enumerations and
 * 64-bit numbers in quotes are strings.
 */
#include <stdio.h>
#include <string.h>

#include "core/proto/json.h"
#include "core/proto/pbtxt.h"
#include "core/util/error.h"

struct converter {
    const char *file;
    struct fm_json_reader json;
    struct fm_arena *arena;
    const char *const *maps;
    struct fm_text scratch;
    struct fm_error *reterr;
    size_t counted; /* up to here lines were counted */
    uint32_t line;
    uint32_t column;
    uint32_t field_count;
};

struct chain {
    const struct fm_pbtxt_field **link;
};

static int convert_fields(struct converter *converter, unsigned depth,
                          const struct fm_pbtxt_field **ret_fields);

static int out_of_memory(const struct converter *converter)
{
    return fm_error_set(converter->reterr, FM_ENOMEM, "%s: out of memory", converter->file);
}

static enum fm_json_token next(struct converter *converter)
{
    enum fm_json_token token = fm_json_next(&converter->json);
    for (; converter->counted < converter->json.offset; converter->counted++) {
        bool line_end = converter->json.data[converter->counted] == '\n';
        converter->line += line_end ? 1 : 0;
        converter->column = line_end ? 1 : converter->column + 1;
    }
    return token;
}

static int fail(const struct converter *converter, const char *message)
{
    return fm_error_set(converter->reterr, FM_EINVAL, "%s:%u:%u: %s", converter->file,
                        converter->line, converter->column, message);
}

static int syntax(const struct converter *converter)
{
    return fm_error_set(converter->reterr, FM_EINVAL, "%s: %s", converter->file,
                        converter->json.error.text);
}

static bool is_map(const struct converter *converter, const char *name)
{
    for (const char *const *map = converter->maps; *map != NULL; map++) {
        if (strcmp(*map, name) == 0) {
            return true;
        }
    }
    return false;
}

/* The current key; as protobuf's JSON may write fields in camel case, as a field's name. */
static int take_key(struct converter *converter, bool as_field, const char **ret_key)
{
    fm_text_clear(&converter->scratch);
    fm_json_decode(&converter->json, &converter->scratch);
    struct fm_text name = {0};
    for (size_t i = 0; i < converter->scratch.length; i++) {
        char character = converter->scratch.data[i];
        if (as_field && character >= 'A' && character <= 'Z') {
            fm_text_append_char(&name, '_');
            character = (char)(character - 'A' + 'a');
        }
        fm_text_append_char(&name, character);
    }
    *ret_key = converter->scratch.failed || name.failed
                   ? NULL
                   : fm_arena_strdup(converter->arena, name.length > 0 ? name.data : "");
    fm_text_deinit(&name);
    return *ret_key != NULL ? 0 : out_of_memory(converter);
}

static int take_text(struct converter *converter, struct fm_pbtxt_value *value)
{
    fm_text_clear(&converter->scratch);
    fm_json_decode(&converter->json, &converter->scratch);
    if (converter->scratch.failed) {
        return out_of_memory(converter);
    }
    value->kind = FM_PBTXT_STRING;
    value->length = converter->scratch.length;
    value->text = fm_arena_strndup(converter->arena,
                                   value->length > 0 ? converter->scratch.data : "", value->length);
    return value->text != NULL ? 0 : out_of_memory(converter);
}

static int take_word(struct converter *converter, enum fm_pbtxt_kind kind, const char *text,
                     size_t length, struct fm_pbtxt_value *value)
{
    value->kind = kind;
    value->length = length;
    value->text = fm_arena_strndup(converter->arena, text, length);
    return value->text != NULL ? 0 : out_of_memory(converter);
}

/* The value whose first token was read. */
static int convert_value(struct converter *converter, enum fm_json_token token, unsigned depth,
                         struct fm_pbtxt_value *value)
{
    value->line = converter->line;
    value->column = converter->column;
    switch (token) {
    case FM_JSON_OBJECT_BEGIN:
        value->kind = FM_PBTXT_MESSAGE;
        return depth == FM_PBTXT_DEPTH_MAX ? fail(converter, "nested too deeply")
                                           : convert_fields(converter, depth + 1, &value->fields);
    case FM_JSON_STRING:
        return take_text(converter, value);
    case FM_JSON_NUMBER:
        return take_word(converter, FM_PBTXT_NUMBER, converter->json.text,
                         converter->json.text_length, value);
    case FM_JSON_TRUE:
        return take_word(converter, FM_PBTXT_IDENTIFIER, "true", 4, value);
    case FM_JSON_FALSE:
        return take_word(converter, FM_PBTXT_IDENTIFIER, "false", 5, value);
    case FM_JSON_ARRAY_BEGIN:
        return fail(converter, "a list within a list is nothing that a message can hold");
    case FM_JSON_NULL:
    case FM_JSON_END:
    case FM_JSON_OBJECT_END:
    case FM_JSON_ARRAY_END:
    case FM_JSON_KEY:
    case FM_JSON_ERROR:
        break;
    }
    return syntax(converter);
}

/* One field with the value whose first token was read; null leaves it out. */
static int add_field(struct converter *converter, struct chain *chain, const char *name,
                     enum fm_json_token token, unsigned depth)
{
    if (token == FM_JSON_NULL) {
        return 0;
    }
    struct fm_pbtxt_field *field = fm_arena_alloc(converter->arena, sizeof(*field));
    if (field == NULL) {
        return out_of_memory(converter);
    }
    if (++converter->field_count > FM_PBTXT_FIELDS_MAX) {
        return fail(converter, "too many fields");
    }
    *field =
        (struct fm_pbtxt_field){.name = name, .line = converter->line, .column = converter->column};
    int status = convert_value(converter, token, depth, &field->value);
    *chain->link = field;
    chain->link = &field->next;
    return status;
}

/* An entry of a map, as the text form has it: a message of `key` and `value`. */
static int add_entry(struct converter *converter, struct chain *chain, const char *name,
                     const char *key, unsigned depth)
{
    struct fm_pbtxt_field *entry = fm_arena_alloc(converter->arena, sizeof(*entry));
    struct fm_pbtxt_field *field = fm_arena_alloc(converter->arena, sizeof(*field));
    if (entry == NULL || field == NULL) {
        return out_of_memory(converter);
    }
    *field = (struct fm_pbtxt_field){
        .name = "key", .line = converter->line, .column = converter->column};
    *entry = *field;
    entry->name = name;
    entry->value = (struct fm_pbtxt_value){.kind = FM_PBTXT_MESSAGE,
                                           .line = converter->line,
                                           .column = converter->column,
                                           .fields = field};
    field->value = (struct fm_pbtxt_value){.kind = FM_PBTXT_STRING,
                                           .line = converter->line,
                                           .column = converter->column,
                                           .text = key,
                                           .length = strlen(key)};
    struct chain inner = {.link = &field->next};
    *chain->link = entry;
    chain->link = &entry->next;
    return add_field(converter, &inner, "value", next(converter), depth + 1);
}

static int convert_map(struct converter *converter, struct chain *chain, const char *name,
                       unsigned depth)
{
    for (;;) {
        enum fm_json_token token = next(converter);
        const char *key = NULL;
        if (token == FM_JSON_OBJECT_END) {
            return 0;
        }
        int status = token == FM_JSON_KEY ? take_key(converter, false, &key) : syntax(converter);
        status = status == 0 ? add_entry(converter, chain, name, key, depth) : status;
        if (status != 0) {
            return status;
        }
    }
}

static int convert_list(struct converter *converter, struct chain *chain, const char *name,
                        unsigned depth)
{
    for (;;) {
        enum fm_json_token token = next(converter);
        if (token == FM_JSON_ARRAY_END) {
            return 0;
        }
        int status = add_field(converter, chain, name, token, depth);
        if (status != 0) {
            return status;
        }
    }
}

/* The members of an object whose brace was read. */
static int convert_fields(struct converter *converter, unsigned depth,
                          const struct fm_pbtxt_field **ret_fields)
{
    struct chain chain = {.link = ret_fields};
    for (;;) {
        enum fm_json_token token = next(converter);
        const char *name = NULL;
        if (token == FM_JSON_OBJECT_END) {
            return 0;
        }
        int status = token == FM_JSON_KEY ? take_key(converter, true, &name) : syntax(converter);
        if (status != 0) {
            return status;
        }
        token = next(converter);
        if (token == FM_JSON_OBJECT_BEGIN && is_map(converter, name)) {
            status = convert_map(converter, &chain, name, depth);
        } else if (token == FM_JSON_ARRAY_BEGIN) {
            status = convert_list(converter, &chain, name, depth);
        } else {
            status = add_field(converter, &chain, name, token, depth);
        }
        if (status != 0) {
            return status;
        }
    }
}

int fm_pbtxt_parse_json(const char *file, const char *text, size_t length, const char *const *maps,
                        struct fm_arena *arena, struct fm_pbtxt_value *ret_root,
                        struct fm_error *reterr)
{
    struct converter converter = {
        .file = file, .arena = arena, .maps = maps, .reterr = reterr, .line = 1, .column = 1};
    *ret_root = (struct fm_pbtxt_value){.kind = FM_PBTXT_MESSAGE, .line = 1, .column = 1};
    if (length > FM_PBTXT_BYTES_MAX) {
        return fm_error_set(reterr, FM_ETOOLARGE,
                            "%s: %zu bytes, more than the %u that a configuration may have", file,
                            length, FM_PBTXT_BYTES_MAX);
    }
    fm_json_reader_init(&converter.json, text, length);
    enum fm_json_token token = next(&converter);
    int status = token == FM_JSON_OBJECT_BEGIN ? convert_fields(&converter, 0, &ret_root->fields)
                 : token == FM_JSON_ERROR      ? syntax(&converter)
                                               : fail(&converter, "expected an object");
    if (status == 0 && next(&converter) != FM_JSON_END) {
        status = syntax(&converter);
    }
    fm_text_deinit(&converter.scratch);
    if (status != 0) {
        ret_root->fields = NULL;
    }
    return status;
}
