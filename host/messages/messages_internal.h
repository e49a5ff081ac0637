/*
 * What the files of this folder share: messages in an arena, and sending one in either form.
 *
 * Thread rule: caller's memory.
 */
#ifndef FM_HOST_MESSAGES_MESSAGES_INTERNAL_H
#define FM_HOST_MESSAGES_MESSAGES_INTERNAL_H

#include <protobuf-c/protobuf-c.h>

#include "host/messages/messages.h"

/* A message under construction. Its pieces need not be checked one by one: memory that ran out sets
 * `failed`, and what is written then is nothing. */
struct fm_messages_builder {
    struct fm_arena arena;
    bool failed;
};

/* Zeroed; NULL and `failed` when there is no memory. */
void *fm_messages_alloc(struct fm_messages_builder *builder, size_t count, size_t size);
/* An array of `count` pointers to zeroed elements of `size` each; NULL when there is no memory. */
void *fm_messages_alloc_list(struct fm_messages_builder *builder, size_t count, size_t size);
/* Messages have no const, and are not written to. NULL becomes "". */
char *fm_messages_string(const char *string);
char *fm_messages_number(struct fm_messages_builder *builder, uint64_t number);

/* How a message becomes JSON. */
struct fm_messages_shape {
    const char *list; /* only this repeated field, not the message */
    bool defaults;
};
/* Sends the message, unless building it failed, and releases the builder. */
void fm_messages_send(struct fm_messages_builder *builder, struct fm_text *text,
                      enum fm_messages_form form, const ProtobufCMessage *message,
                      const struct fm_messages_shape *shape);

/* Unpacks into the arena. FM_EINVAL with the message's name, FM_ENOMEM. */
int FM_NODISCARD fm_messages_unpack(struct fm_arena *arena,
                                    const ProtobufCMessageDescriptor *descriptor, const void *data,
                                    size_t size, ProtobufCMessage **ret_message,
                                    struct fm_error *reterr);

#endif
