/*
 * Parsing of port lists. See port_list.h.
 */
#include "host/runtime/backends/common/port_list.h"

#include <stdio.h>
#include <string.h>

#include "core/tensor/tensor.h"
#include "core/util/error.h"
#include "core/util/text.h"

static const char *spaces_skip(const char *text)
{
    return text + strspn(text, " \t");
}

static int parse_error(const char *setting, const char *rest, const char *wanted,
                       struct fm_error *reterr)
{
    return fm_error_set(
        reterr, FM_EINVAL,
        "setting '%s': expected %s at '%.40s'; write it as \"x:FP32[-1,4], y:BYTES[-1]\"", setting,
        wanted, rest);
}

/* "[-1,4]" into the port; *text moves behind it. */
static int shape_parse(const char *setting, const char **text, struct fm_port *port,
                       struct fm_error *reterr)
{
    const char *cursor = *text + 1;
    port->rank = 0;
    cursor = spaces_skip(cursor);
    while (*cursor != ']') {
        char number[24];
        size_t length = strspn(cursor, "-0123456789");
        int64_t size = 0;
        if (length == 0 || length >= sizeof(number) || port->rank == FM_RANK_MAX) {
            return parse_error(setting, cursor, "a dimension", reterr);
        }
        memcpy(number, cursor, length);
        number[length] = '\0';
        if (fm_parse_int64(number, &size) != 0 || size < -1) {
            return parse_error(setting, cursor, "a dimension (-1 for any size)", reterr);
        }
        port->shape[port->rank++] = size;
        cursor = spaces_skip(cursor + length);
        if (*cursor == ',') {
            cursor = spaces_skip(cursor + 1);
        } else if (*cursor != ']') {
            return parse_error(setting, cursor, "',' or ']'", reterr);
        }
    }
    *text = cursor + 1;
    return 0;
}

static int port_parse(struct port_list *list, const char *setting, const char **text,
                      struct fm_error *reterr)
{
    if (list->count == PORT_LIST_MAX) {
        return fm_error_set(reterr, FM_ELIMIT, "setting '%s': more than %d entries", setting,
                            PORT_LIST_MAX);
    }
    const char *cursor = spaces_skip(*text);
    struct fm_port *port = &list->ports[list->count];
    size_t length = strcspn(cursor, ":,[] \t");
    if (length == 0 || length >= PORT_NAME_SIZE || cursor[length] != ':') {
        return parse_error(setting, cursor, "NAME:TYPE[SHAPE]", reterr);
    }
    (void)snprintf(list->names[list->count], PORT_NAME_SIZE, "%.*s", (int)length, cursor);
    for (uint32_t i = 0; i < list->count; i++) {
        if (strcmp(list->names[i], list->names[list->count]) == 0) {
            return fm_error_set(reterr, FM_EINVAL, "setting '%s': '%s' is there twice", setting,
                                list->names[i]);
        }
    }
    cursor += length + 1;
    length = strcspn(cursor, ":,[] \t");
    *port =
        (struct fm_port){.name = list->names[list->count], .dtype = fm_dtype_parse(cursor, length)};
    if (port->dtype == FM_DTYPE_INVALID) {
        return parse_error(setting, cursor, "a data type such as FP32, INT64 or BYTES", reterr);
    }
    cursor += length;
    if (*cursor != '[') {
        return parse_error(setting, cursor, "a shape in brackets", reterr);
    }
    *text = cursor;
    list->count++;
    return shape_parse(setting, text, port, reterr);
}

static int list_parse(struct port_list *ret_list, const char *setting, const char *text,
                      bool with_flags, struct fm_error *reterr)
{
    ret_list->count = 0;
    for (;;) {
        int status = port_parse(ret_list, setting, &text, reterr);
        if (status != 0) {
            return status;
        }
        if (with_flags && (*text == '*' || *text == '?')) {
            ret_list->ports[ret_list->count - 1].flags =
                *text == '*' ? FM_PORT_MANY : FM_PORT_OPTIONAL;
            text++;
        }
        text = spaces_skip(text);
        if (*text == '\0') {
            return 0;
        }
        if (*text != ',') {
            return parse_error(setting, text, "',' before the next entry", reterr);
        }
        text++;
    }
}

int port_list_parse(struct port_list *ret_list, const char *setting, const char *text,
                    struct fm_error *reterr)
{
    return list_parse(ret_list, setting, text, false, reterr);
}

int port_list_parse_flags(struct port_list *ret_list, const char *setting, const char *text,
                          struct fm_error *reterr)
{
    return list_parse(ret_list, setting, text, true, reterr);
}

bool port_list_is_batchable(const struct port_list *list)
{
    bool batchable = list->count > 0;
    for (uint32_t i = 0; i < list->count; i++) {
        batchable = batchable && list->ports[i].rank > 0 && list->ports[i].shape[0] < 0;
    }
    return batchable;
}
