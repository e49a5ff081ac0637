/*
 * Any protobuf-c message as JSON, by its descriptor. Used inside host/messages only.
 *
 * Owns: the mapping: field names as the .proto file has them, enums by name, 64-bit numbers as
 * numbers, maps as objects, bytes as base64, NaN and infinities as null. Thread rule: caller's
 * memory.
 */
#ifndef FM_HOST_MESSAGES_PRINT_H
#define FM_HOST_MESSAGES_PRINT_H

#include <protobuf-c/protobuf-c.h>

#include "core/proto/json.h"

/* `defaults`: fields that have their default value are written too, as empty lists and objects are;
 * absent messages and the members of a oneof that is not set never are. */
void fm_messages_print(struct fm_json_writer *writer, const ProtobufCMessage *message,
                       bool defaults);
/* One repeated field alone: an array, or for a map an object. */
void fm_messages_print_list(struct fm_json_writer *writer, const ProtobufCMessage *message,
                            const char *field, bool defaults);

#endif
