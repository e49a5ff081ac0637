/*
 * Messages in an arena. See messages_internal.h.
 */
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "host/messages/messages_internal.h"
#include "host/messages/print.h"

void *fm_messages_alloc(struct fm_messages_builder *builder, size_t count, size_t size)
{
    void *memory = count <= SIZE_MAX / size ? fm_arena_alloc(&builder->arena, count * size) : NULL;
    builder->failed = builder->failed || memory == NULL;
    return memory;
}

void *fm_messages_alloc_list(struct fm_messages_builder *builder, size_t count, size_t size)
{
    void **list = fm_messages_alloc(builder, count + 1, sizeof(*list));
    char *elements = fm_messages_alloc(builder, count + 1, size);
    if (list == NULL || elements == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        list[i] = elements + i * size;
    }
    return list;
}

char *fm_messages_string(const char *string)
{
    return string != NULL ? (char *)(uintptr_t)string : (char *)(uintptr_t) "";
}

char *fm_messages_number(struct fm_messages_builder *builder, uint64_t number)
{
    char *text = fm_messages_alloc(builder, 24, 1);
    if (text == NULL) {
        return fm_messages_string(NULL);
    }
    (void)snprintf(text, 24, "%llu", (unsigned long long)number);
    return text;
}

void fm_messages_send(struct fm_messages_builder *builder, struct fm_text *text,
                      enum fm_messages_form form, const ProtobufCMessage *message,
                      const struct fm_messages_shape *shape)
{
    if (builder->failed) {
        text->failed = true;
    } else if (form == FM_MESSAGES_JSON) {
        struct fm_json_writer writer;
        fm_json_writer_init(&writer, text);
        if (shape->list != NULL) {
            fm_messages_print_list(&writer, message, shape->list, shape->defaults);
        } else {
            fm_messages_print(&writer, message, shape->defaults);
        }
    } else {
        size_t size = protobuf_c_message_get_packed_size(message);
        char *bytes = fm_text_reserve(text, size);
        if (bytes != NULL) {
            (void)protobuf_c_message_pack(message, (uint8_t *)bytes);
        }
    }
    fm_arena_deinit(&builder->arena);
}

struct unpacking {
    struct fm_arena *arena;
    bool failed;
};

static void *unpack_alloc(void *context, size_t size)
{
    struct unpacking *unpacking = context;
    void *memory = fm_arena_alloc(unpacking->arena, size > 0 ? size : 1);
    unpacking->failed = unpacking->failed || memory == NULL;
    return memory;
}

static void unpack_free(void *context, void *memory)
{
    /* The arena frees everything at once. */
    (void)context;
    (void)memory;
}

static bool is_utf8(const char *text)
{
    size_t length = text != NULL ? strlen(text) : 0;
    for (size_t at = 0; at < length;) {
        size_t sequence = fm_utf8_sequence(text + at, length - at);
        if (sequence == 0) {
            return false;
        }
        at += sequence;
    }
    return true;
}

static const char *field_text_wrong(const ProtobufCFieldDescriptor *field, const void *at);

/* The name of a string field that is not UTF-8, which the language's rules forbid and this library
 * does not check: others would be given it back. NULL: all are. Messages of ours do not nest
 * without end. */
static const char *text_wrong(const ProtobufCMessage *message)
{
    const char *base = (const char *)message;
    for (unsigned i = 0; message != NULL && i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        const char *at = base + field->offset;
        const char *wrong = NULL;
        if (field->type != PROTOBUF_C_TYPE_STRING && field->type != PROTOBUF_C_TYPE_MESSAGE) {
            continue;
        }
        if (field->label == PROTOBUF_C_LABEL_REPEATED) {
            size_t count = *(const size_t *)(base + field->quantifier_offset);
            void *const *list = *(void *const *const *)at;
            for (size_t k = 0; wrong == NULL && k < count; k++) {
                wrong = field_text_wrong(field, list[k]);
            }
        } else if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0 ||
                   *(const uint32_t *)(base + field->quantifier_offset) == field->id) {
            wrong = field_text_wrong(field, *(void *const *)at);
        }
        if (wrong != NULL) {
            return wrong;
        }
    }
    return NULL;
}

static const char *field_text_wrong(const ProtobufCFieldDescriptor *field, const void *at)
{
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        return text_wrong(at);
    }
    return is_utf8(at) ? NULL : field->name;
}

int fm_messages_unpack(struct fm_arena *arena, const ProtobufCMessageDescriptor *descriptor,
                       const void *data, size_t size, ProtobufCMessage **ret_message,
                       struct fm_error *reterr)
{
    struct unpacking unpacking = {.arena = arena};
    ProtobufCAllocator allocator = {
        .alloc = unpack_alloc, .free = unpack_free, .allocator_data = &unpacking};
    *ret_message =
        protobuf_c_message_unpack(descriptor, &allocator, size, size > 0 ? data : (const void *)"");
    const char *wrong = text_wrong(*ret_message);
    if (wrong != NULL) {
        return fm_error_set(reterr, FM_EINVAL, "%s of a %s is not UTF-8", wrong,
                            descriptor->short_name);
    }
    if (*ret_message != NULL) {
        return 0;
    }
    return unpacking.failed ? fm_error_set(reterr, FM_ENOMEM, "out of memory while reading a %s",
                                           descriptor->short_name)
                            : fm_error_set(reterr, FM_EINVAL, "the request is no well-formed %s",
                                           descriptor->short_name);
}
