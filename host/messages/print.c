/*
 * Messages as JSON. See print.h.
 */
#include "host/messages/print.h"

#include <string.h>

static void print_base64(struct fm_json_writer *writer, const ProtobufCBinaryData *bytes)
{
    static const char alphabet[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    struct fm_text text = {0};
    for (size_t i = 0; i < bytes->len; i += 3) {
        size_t left = bytes->len - i;
        uint32_t group = (uint32_t)bytes->data[i] << 16;
        group |= left > 1 ? (uint32_t)bytes->data[i + 1] << 8 : 0;
        group |= left > 2 ? bytes->data[i + 2] : 0;
        const char quad[4] = {alphabet[group >> 18], alphabet[group >> 12 & 63],
                              left > 1 ? alphabet[group >> 6 & 63] : '=',
                              left > 2 ? alphabet[group & 63] : '='};
        fm_text_append(&text, quad, sizeof(quad));
    }
    writer->text->failed = writer->text->failed || text.failed;
    fm_json_string_n(writer, text.data != NULL ? text.data : "", text.length);
    fm_text_deinit(&text);
}

static void print_enum(struct fm_json_writer *writer, const ProtobufCEnumDescriptor *descriptor,
                       int32_t number)
{
    const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(descriptor, number);
    if (value != NULL) {
        fm_json_string(writer, value->name);
    } else {
        fm_json_int(writer, number);
    }
}

#define LOAD(type, at) (*(const type *)(at))

/* One value of the field's type. */
static void print_value(struct fm_json_writer *writer, const ProtobufCFieldDescriptor *field,
                        const void *at, bool defaults)
{
    switch (field->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        fm_json_int(writer, LOAD(int32_t, at));
        break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        fm_json_int(writer, LOAD(int64_t, at));
        break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        fm_json_uint(writer, LOAD(uint32_t, at));
        break;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        fm_json_uint(writer, LOAD(uint64_t, at));
        break;
    case PROTOBUF_C_TYPE_FLOAT:
        fm_json_float(writer, LOAD(float, at));
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        fm_json_number(writer, LOAD(double, at));
        break;
    case PROTOBUF_C_TYPE_BOOL:
        fm_json_bool(writer, LOAD(protobuf_c_boolean, at) != 0);
        break;
    case PROTOBUF_C_TYPE_ENUM:
        print_enum(writer, field->descriptor, LOAD(int32_t, at));
        break;
    case PROTOBUF_C_TYPE_STRING:
        fm_json_string(writer, LOAD(char *, at) != NULL ? LOAD(char *, at) : "");
        break;
    case PROTOBUF_C_TYPE_BYTES:
        print_base64(writer, at);
        break;
    case PROTOBUF_C_TYPE_MESSAGE:
        fm_messages_print(writer, LOAD(ProtobufCMessage *, at), defaults);
        break;
    }
}

static size_t value_size(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        return sizeof(uint64_t);
    case PROTOBUF_C_TYPE_DOUBLE:
        return sizeof(double);
    case PROTOBUF_C_TYPE_FLOAT:
        return sizeof(float);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_STRING:
        return sizeof(char *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(ProtobufCMessage *);
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_ENUM:
        break;
    }
    return sizeof(uint32_t);
}

/* Descriptors of this library do not say which messages are entries of a map; their form does. */
static bool is_map(const ProtobufCFieldDescriptor *field)
{
    if (field->type != PROTOBUF_C_TYPE_MESSAGE || field->label != PROTOBUF_C_LABEL_REPEATED) {
        return false;
    }
    const ProtobufCMessageDescriptor *entry = field->descriptor;
    size_t length = strlen(entry->short_name);
    return length > 5 && strcmp(entry->short_name + length - 5, "Entry") == 0 &&
           entry->n_fields == 2 && strcmp(entry->fields[0].name, "key") == 0 &&
           strcmp(entry->fields[1].name, "value") == 0;
}

/* Keys of JSON are strings, whatever they were. */
static void print_entry(struct fm_json_writer *writer, const ProtobufCMessage *entry, bool defaults)
{
    const ProtobufCFieldDescriptor *fields = entry->descriptor->fields;
    const char *base = (const char *)entry;
    if (fields[0].type == PROTOBUF_C_TYPE_STRING) {
        const char *key = LOAD(char *, base + fields[0].offset);
        fm_json_key(writer, key != NULL ? key : "");
    } else {
        struct fm_text text = {0};
        fm_text_append_format(&text, "%llu",
                              value_size(fields[0].type) == sizeof(uint64_t)
                                  ? (unsigned long long)LOAD(uint64_t, base + fields[0].offset)
                                  : (unsigned long long)LOAD(uint32_t, base + fields[0].offset));
        fm_json_key(writer, text.data != NULL ? text.data : "");
        writer->text->failed = writer->text->failed || text.failed;
        fm_text_deinit(&text);
    }
    const void *value = base + fields[1].offset;
    if (fields[1].type == PROTOBUF_C_TYPE_MESSAGE && LOAD(ProtobufCMessage *, value) == NULL) {
        fm_json_object_begin(writer);
        fm_json_object_end(writer);
    } else {
        print_value(writer, &fields[1], value, defaults);
    }
}

static void print_repeated(struct fm_json_writer *writer, const ProtobufCMessage *message,
                           const ProtobufCFieldDescriptor *field, bool defaults)
{
    const char *base = (const char *)message;
    size_t count = LOAD(size_t, base + field->quantifier_offset);
    const char *values = LOAD(char *, base + field->offset);
    size_t size = value_size(field->type);
    if (is_map(field)) {
        fm_json_object_begin(writer);
        for (size_t i = 0; i < count; i++) {
            print_entry(writer, LOAD(ProtobufCMessage *, values + i * size), defaults);
        }
        fm_json_object_end(writer);
        return;
    }
    fm_json_array_begin(writer);
    for (size_t i = 0; i < count; i++) {
        print_value(writer, field, values + i * size, defaults);
    }
    fm_json_array_end(writer);
}

static bool is_default(const ProtobufCFieldDescriptor *field, const void *at)
{
    static const unsigned char zeros[sizeof(uint64_t)];
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        const char *text = LOAD(char *, at);
        return text == NULL || text[0] == '\0';
    }
    if (field->type == PROTOBUF_C_TYPE_BYTES) {
        return ((const ProtobufCBinaryData *)at)->len == 0;
    }
    return memcmp(at, zeros, value_size(field->type)) == 0;
}

static void print_field(struct fm_json_writer *writer, const ProtobufCMessage *message,
                        const ProtobufCFieldDescriptor *field, bool defaults)
{
    const char *base = (const char *)message;
    const void *at = base + field->offset;
    bool one_of = (field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        if (defaults || LOAD(size_t, base + field->quantifier_offset) > 0) {
            fm_json_key(writer, field->name);
            print_repeated(writer, message, field, defaults);
        }
        return;
    }
    if (one_of && LOAD(uint32_t, base + field->quantifier_offset) != field->id) {
        return;
    }
    bool message_type = field->type == PROTOBUF_C_TYPE_MESSAGE;
    if (message_type ? LOAD(ProtobufCMessage *, at) == NULL
                     : !one_of && !defaults && is_default(field, at)) {
        return;
    }
    fm_json_key(writer, field->name);
    print_value(writer, field, at, defaults);
}

void fm_messages_print(struct fm_json_writer *writer, const ProtobufCMessage *message,
                       bool defaults)
{
    fm_json_object_begin(writer);
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        print_field(writer, message, &message->descriptor->fields[i], defaults);
    }
    fm_json_object_end(writer);
}

void fm_messages_print_list(struct fm_json_writer *writer, const ProtobufCMessage *message,
                            const char *field, bool defaults)
{
    const ProtobufCFieldDescriptor *found =
        protobuf_c_message_descriptor_get_field_by_name(message->descriptor, field);
    print_repeated(writer, message, found, defaults);
}
