/*
 * A model's configuration as clients see it: what was configured and what came of it, as
 * host/messages wants it.
 *
 * Owns: which of our settings is which field of Triton's ModelConfig. Does not own: the message
 * itself (host/messages). Thread rule: reads what it is given.
 */
#ifndef FM_ENGINES_SERVE_MODEL_DOCUMENT_H
#define FM_ENGINES_SERVE_MODEL_DOCUMENT_H

#include "host/messages/messages.h"
#include "host/runtime/accelerator_group.h"

/* Everything is borrowed; NULL and 0 are left out. */
struct fm_model_document {
    const struct fm_oip_signature *signature;
    const char *platform;
    const char *backend;
    uint32_t instance_count;
    /* Groups of accelerators, and the models loaded for each (NULL: none); else one group. */
    const struct fm_accelerator_group *groups;
    struct fm_model *const *models;
    uint32_t group_count;
    bool batches;       /* waiting requests are gathered into one run */
    const char *policy; /* of its batches; among the parameters, as it would be configured */
    bool response_cache;
    uint64_t priority_levels;
    uint64_t default_priority;
    uint32_t queue_max;
    const struct fm_model_config *config; /* of a model */
};

/* Appends the message; check text->failed, which memory that ran out sets too. */
void fm_model_document_write(struct fm_text *text, enum fm_messages_form form,
                             const struct fm_model_document *document);

#endif
