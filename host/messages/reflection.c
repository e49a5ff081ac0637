/*
 * Server reflection: what grpcurl and its like ask. See messages.h. The descriptors are those of
 * proto/, put into the library by the build; they are searched where they lie, because people ask
 * seldom.
 */
#include <string.h>

#include "core/proto/protobuf.h"
#include "core/util/error.h"
#include "host/messages/messages_internal.h"

extern const unsigned char fm_messages_services[];
extern const size_t fm_messages_services_size;

#define FILES_MAX  32 /* in the set; more than we have, asserted by a test */
#define DEPTH_MAX  16 /* of messages in messages */
#define SYMBOL_MAX 1024

/* Fields of the request, of the answer, and of what is inside them. */
enum { REQUEST_HOST = 1, REQUEST_FILE = 3, REQUEST_SYMBOL, REQUEST_EXTENSION };
enum { REQUEST_NUMBERS = 6, REQUEST_SERVICES };
enum { ANSWER_HOST = 1, ANSWER_REQUEST, ANSWER_FILES = 4, ANSWER_NUMBERS, ANSWER_SERVICES };
enum { ANSWER_ERROR = 7 };
enum { ERROR_CODE = 1, ERROR_MESSAGE };
enum { STATUS_INVALID_ARGUMENT = 3, STATUS_NOT_FOUND = 5 };
/* Fields of descriptors. */
enum { SET_FILE = 1 };
enum { FILE_NAME = 1, FILE_PACKAGE, FILE_DEPENDENCY, FILE_MESSAGE, FILE_ENUM, FILE_SERVICE };
enum { ANY_NAME = 1, MESSAGE_FIELD, MESSAGE_NESTED, MESSAGE_ENUM };
enum { ENUM_VALUE = 2, SERVICE_METHOD = 2 };

typedef struct fm_protobuf_field Field;

/* The first field `number` of a message; `size` 0 when it has none. */
static Field member(const Field *message, uint32_t number)
{
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(message->data, message->size);
    Field field;
    while (fm_protobuf_next(&reader, &field) == 1) {
        if (field.number == number) {
            return field;
        }
    }
    return (Field){.type = FM_PROTOBUF_BYTES, .data = (const uint8_t *)""};
}

static struct fm_protobuf_reader files(void)
{
    return fm_protobuf_reader_make(fm_messages_services, fm_messages_services_size);
}

/* --- Symbols --- */

/* Takes `name` and a dot, or the end, off the front of *symbol. */
static bool symbol_take(const char **symbol, const Field *name)
{
    size_t length = strlen(*symbol);
    if (name->size > length || name->size == 0 || memcmp(*symbol, name->data, name->size) != 0 ||
        ((*symbol)[name->size] != '.' && (*symbol)[name->size] != '\0')) {
        return false;
    }
    *symbol += name->size + ((*symbol)[name->size] == '.' ? 1 : 0);
    return true;
}

/* True when a child `number` of the message has the rest of the symbol as its name. */
static bool child_is(const Field *message, uint32_t number, const char *symbol)
{
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(message->data, message->size);
    Field field;
    while (fm_protobuf_next(&reader, &field) == 1) {
        if (field.number == number) {
            Field name = member(&field, ANY_NAME);
            if (fm_protobuf_equals(&name, symbol)) {
                return true;
            }
        }
    }
    return false;
}

/* `first` is the field in which `scope` (a file or a message) has messages; enums come next to it.
 */
static bool scope_has(const Field *scope, uint32_t first, const char *symbol, unsigned depth)
{
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(scope->data, scope->size);
    Field field;
    while (depth < DEPTH_MAX && fm_protobuf_next(&reader, &field) == 1) {
        const char *rest = symbol;
        if (field.number != first && field.number != first + 1) {
            continue;
        }
        if (field.number == first + 1 && child_is(&field, ENUM_VALUE, symbol)) {
            return true;
        }
        Field name = member(&field, ANY_NAME);
        if (!symbol_take(&rest, &name)) {
            continue;
        }
        if (*rest == '\0' ||
            (field.number == first && (child_is(&field, MESSAGE_FIELD, rest) ||
                                       scope_has(&field, MESSAGE_NESTED, rest, depth + 1)))) {
            return true;
        }
    }
    return false;
}

static bool file_has(const Field *file, const char *symbol)
{
    Field package = member(file, FILE_PACKAGE);
    if (!symbol_take(&symbol, &package) || *symbol == '\0') {
        return false;
    }
    if (scope_has(file, FILE_MESSAGE, symbol, 0)) {
        return true;
    }
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(file->data, file->size);
    Field field;
    while (fm_protobuf_next(&reader, &field) == 1) {
        const char *rest = symbol;
        if (field.number == FILE_SERVICE) {
            Field name = member(&field, ANY_NAME);
            if (symbol_take(&rest, &name) &&
                (*rest == '\0' || child_is(&field, SERVICE_METHOD, rest))) {
                return true;
            }
        }
    }
    return false;
}

/* The file of a name, or of a symbol; false when there is none. */
static bool file_find(const char *name, const char *symbol, Field *ret_file)
{
    struct fm_protobuf_reader reader = files();
    while (fm_protobuf_next(&reader, ret_file) == 1) {
        Field own = member(ret_file, FILE_NAME);
        if (name != NULL ? fm_protobuf_equals(&own, name) : file_has(ret_file, symbol)) {
            return true;
        }
    }
    return false;
}

/* --- Answers --- */

static void answer_error(struct fm_text *text, uint32_t code, const char *what, const char *name)
{
    struct fm_text message = {0};
    struct fm_text error = {0};
    fm_text_append_format(&message, "%s%s%.200s", what, name[0] != '\0' ? ": " : "", name);
    fm_protobuf_append_uint(&error, ERROR_CODE, code);
    fm_protobuf_append_bytes(&error, ERROR_MESSAGE, message.data, message.length);
    fm_protobuf_append_bytes(text, ANSWER_ERROR, error.data, error.length);
    text->failed = text->failed || message.failed || error.failed;
    fm_text_deinit(&message);
    fm_text_deinit(&error);
}

/* A file, and behind it what it imports, each once. */
static void append_files(struct fm_text *list, const Field *first)
{
    Field wanted[FILES_MAX];
    size_t count = 0;
    wanted[count++] = *first;
    for (size_t i = 0; i < count; i++) {
        struct fm_protobuf_reader reader = fm_protobuf_reader_make(wanted[i].data, wanted[i].size);
        Field field;
        fm_protobuf_append_bytes(list, 1, wanted[i].data, wanted[i].size);
        while (fm_protobuf_next(&reader, &field) == 1) {
            char name[256];
            Field file;
            bool known = field.number != FILE_DEPENDENCY || field.size >= sizeof(name);
            if (known) {
                continue;
            }
            memcpy(name, field.data, field.size);
            name[field.size] = '\0';
            known = !file_find(name, NULL, &file);
            for (size_t k = 0; !known && k < count; k++) {
                known = wanted[k].data == file.data;
            }
            if (!known && count < FILES_MAX) {
                wanted[count++] = file;
            }
        }
    }
}

static void answer_file(struct fm_text *text, const char *name, const char *symbol)
{
    Field file;
    if (!file_find(name, symbol, &file)) {
        answer_error(text, STATUS_NOT_FOUND, name != NULL ? "no such file" : "no such symbol",
                     name != NULL ? name : symbol);
        return;
    }
    struct fm_text list = {0};
    append_files(&list, &file);
    fm_protobuf_append_bytes(text, ANSWER_FILES, list.data, list.length);
    text->failed = text->failed || list.failed;
    fm_text_deinit(&list);
}

static void answer_services(struct fm_text *text)
{
    struct fm_protobuf_reader reader = files();
    struct fm_text list = {0};
    Field file;
    while (fm_protobuf_next(&reader, &file) == 1) {
        struct fm_protobuf_reader inside = fm_protobuf_reader_make(file.data, file.size);
        Field package = member(&file, FILE_PACKAGE);
        Field field;
        while (fm_protobuf_next(&inside, &field) == 1) {
            if (field.number != FILE_SERVICE) {
                continue;
            }
            Field name = member(&field, ANY_NAME);
            struct fm_text service = {0};
            /* The only field of a ServiceResponse. */
            fm_text_append_format(&service, "%.*s.%.*s", (int)package.size,
                                  (const char *)package.data, (int)name.size,
                                  (const char *)name.data);
            struct fm_text entry = {0};
            fm_protobuf_append_bytes(&entry, 1, service.data, service.length);
            fm_protobuf_append_bytes(&list, 1, entry.data, entry.length);
            list.failed = list.failed || service.failed || entry.failed;
            fm_text_deinit(&entry);
            fm_text_deinit(&service);
        }
    }
    fm_protobuf_append_bytes(text, ANSWER_SERVICES, list.data, list.length);
    text->failed = text->failed || list.failed;
    fm_text_deinit(&list);
}

/* No message of ours has extensions; those that there are can still be named. */
static void answer_numbers(struct fm_text *text, const char *symbol)
{
    Field file;
    if (!file_find(NULL, symbol, &file)) {
        answer_error(text, STATUS_NOT_FOUND, "no such type", symbol);
        return;
    }
    struct fm_text list = {0};
    fm_protobuf_append_string(&list, 1, symbol);
    fm_protobuf_append_bytes(text, ANSWER_NUMBERS, list.data, list.length);
    text->failed = text->failed || list.failed;
    fm_text_deinit(&list);
}

int fm_messages_reflect(struct fm_text *text, const void *data, size_t size,
                        struct fm_error *reterr)
{
    struct fm_protobuf_reader reader = fm_protobuf_reader_make(data, size);
    Field field;
    Field host = {.data = (const uint8_t *)""};
    Field asked = {.number = 0};
    char name[SYMBOL_MAX + 1] = "";
    int more;
    while ((more = fm_protobuf_next(&reader, &field)) == 1) {
        if (field.number >= REQUEST_HOST && field.number <= REQUEST_SERVICES &&
            field.type != FM_PROTOBUF_BYTES) {
            more = FM_EINVAL;
            break;
        }
        if (field.number == REQUEST_HOST) {
            host = field;
        } else if (field.number >= REQUEST_FILE && field.number <= REQUEST_SERVICES) {
            asked = field;
        }
    }
    if (more != 0 || asked.size > SYMBOL_MAX) {
        return fm_error_set(reterr, FM_EINVAL, "the request is no ServerReflectionRequest%s",
                            more == 0 ? ": its symbol is too long" : "");
    }
    memcpy(name, asked.data != NULL ? asked.data : (const uint8_t *)"", asked.size);
    /* Some tools write a full name as the compiler does, with a dot in front. */
    const char *symbol = name[0] == '.' ? name + 1 : name;
    fm_protobuf_append_bytes(text, ANSWER_HOST, host.data, host.size);
    fm_protobuf_append_bytes(text, ANSWER_REQUEST, size > 0 ? data : "", size);
    if (asked.number == REQUEST_FILE) {
        answer_file(text, name, NULL);
    } else if (asked.number == REQUEST_SYMBOL) {
        answer_file(text, NULL, symbol);
    } else if (asked.number == REQUEST_EXTENSION) {
        answer_error(text, STATUS_NOT_FOUND, "no such extension", "");
    } else if (asked.number == REQUEST_NUMBERS) {
        answer_numbers(text, symbol);
    } else if (asked.number == REQUEST_SERVICES) {
        answer_services(text);
    } else {
        answer_error(text, STATUS_INVALID_ARGUMENT, "the request asks for nothing", "");
    }
    return 0;
}
