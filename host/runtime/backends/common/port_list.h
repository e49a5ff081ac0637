/*
 * Ports from a setting: "x:FP32[-1,4], y:BYTES[-1]". Shared by the backends whose models have no
 * file (emulated, identity) and by the operator whose ports its program has (process).
 *
 * Thread rule: caller's memory.
 */
#ifndef FM_HOST_RUNTIME_BACKENDS_COMMON_PORT_LIST_H
#define FM_HOST_RUNTIME_BACKENDS_COMMON_PORT_LIST_H

#include <stdbool.h>

#include "fermata/backend.h"

enum { PORT_LIST_MAX = 256, PORT_NAME_SIZE = 64 };

struct port_list {
    struct fm_port ports[PORT_LIST_MAX];
    char names[PORT_LIST_MAX][PORT_NAME_SIZE];
    uint32_t count;
};

/* Reads the list into *ret_list. Errors name the setting and show where the text stops making
 * sense. */
int port_list_parse(struct port_list *ret_list, const char *setting, const char *text,
                    struct fm_error *reterr);
/* The same, where an entry may end with '*' (FM_PORT_MANY) or '?' (FM_PORT_OPTIONAL). */
int port_list_parse_flags(struct port_list *ret_list, const char *setting, const char *text,
                          struct fm_error *reterr);
/* True when dimension 0 of every port is variable. */
bool port_list_is_batchable(const struct port_list *list);

#endif
