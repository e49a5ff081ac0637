/*
 * How a running job stands, as JSON.
 *
 * Owns: the names of the members. Thread rule: pure.
 */
#ifndef FM_ENGINES_BATCH_STATUS_DOCUMENT_H
#define FM_ENGINES_BATCH_STATUS_DOCUMENT_H

#include "core/proto/batch_control.h"
#include "core/proto/json.h"

/* A time as a member: ISO 8601; null for 0. */
void fm_status_document_time(struct fm_json_writer *json, const char *key, uint64_t wall_ms);
/* One object. */
void fm_status_document_write(struct fm_json_writer *json, const struct fm_batch_status *status);

#endif
