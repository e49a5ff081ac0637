/*
 * The control plane from the client's side: what is asked, and what is answered, as JSON text
 * whichever way it came.
 *
 * Owns: the bodies of requests in both forms, the reading of protobuf answers. Does not own: paths
 * and methods, inference (core/proto/oip_client.h). Thread rule: no shared state.
 */
#ifndef FM_HOST_MESSAGES_QUESTIONS_H
#define FM_HOST_MESSAGES_QUESTIONS_H

#include <stdbool.h>

#include "core/util/text.h"
#include "host/messages/messages.h"

enum fm_messages_topic {
    FM_MESSAGES_TOPIC_LIVE,
    FM_MESSAGES_TOPIC_READY,
    FM_MESSAGES_TOPIC_MODEL_READY,
    FM_MESSAGES_TOPIC_SERVER,
    FM_MESSAGES_TOPIC_MODEL,
    FM_MESSAGES_TOPIC_CONFIG,
    FM_MESSAGES_TOPIC_STATISTICS,
    FM_MESSAGES_TOPIC_INDEX,
    FM_MESSAGES_TOPIC_LOAD,
    FM_MESSAGES_TOPIC_UNLOAD,
    FM_MESSAGES_TOPIC_REGION_STATUS,
    FM_MESSAGES_TOPIC_REGION_REGISTER,
    FM_MESSAGES_TOPIC_REGION_UNREGISTER,
    FM_MESSAGES_TOPIC_COUNT_,
};

/* Everything is borrowed; NULL is "". */
struct fm_messages_question {
    enum fm_messages_topic topic;
    const char *name; /* of the model or the region */
    const char *version;
    const char *config; /* LOAD: as JSON; NULL: none */
    const char *key;    /* REGION_REGISTER */
    uint64_t offset;
    uint64_t size;
    bool flag; /* INDEX: ready ones only; UNLOAD: dependents too */
};

/* The name of the RPC. */
const char *fm_messages_topic_method(enum fm_messages_topic topic);
/* Appends the request's body. What stands in a REST path is not in it. Check text->failed. */
void fm_messages_question_write(struct fm_text *text, enum fm_messages_form form,
                                const struct fm_messages_question *question);
/* Appends what REST would have answered to a protobuf answer. FM_ECORRUPT, FM_ENOMEM; check
 * text->failed, too. */
int FM_NODISCARD fm_messages_answer_read(enum fm_messages_topic topic, const void *data,
                                         size_t size, struct fm_text *text,
                                         struct fm_error *reterr);

#endif
