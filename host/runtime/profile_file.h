/*
 * The profile file: what `fermata profile` writes and a scheduler, a simulator or a person reads.
 * Format: docs/profile.md.
 *
 * Owns: the YAML syntax of struct fm_profile_record. Does not own: its meaning (core/sched). Thread
 * rule: no shared state.
 */
#ifndef FM_HOST_RUNTIME_PROFILE_FILE_H
#define FM_HOST_RUNTIME_PROFILE_FILE_H

#include "core/sched/profile_record.h"
#include "core/util/text.h"

/* Appends the file's text. The same record always gives the same bytes. */
void fm_profile_file_format(const struct fm_profile_record *record, struct fm_text *text);
/* Replaces the file atomically. */
int FM_NODISCARD fm_profile_file_write(const struct fm_profile_record *record, const char *path,
                                       struct fm_error *reterr);
/*
 * Reads a file. Mistakes are "file:line:column: ...". *ret_record is one block: fm_free it.
 */
int FM_NODISCARD fm_profile_file_load(const char *path, struct fm_profile_record **ret_record,
                                      struct fm_error *reterr);
int FM_NODISCARD fm_profile_file_load_text(const char *file, const char *data, size_t size,
                                           struct fm_profile_record **ret_record,
                                           struct fm_error *reterr);

#endif
