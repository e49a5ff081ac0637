/*
 * Files of results that are texts: what the sinks jsonl, csv and openai_batch share.
 *
 * Owns: appending, compression, the checksum. Does not own: what the text says. Thread rule: as
 * sink.h.
 */
#ifndef FM_ENGINES_BATCH_SINK_TEXT_H
#define FM_ENGINES_BATCH_SINK_TEXT_H

#include "engines/batch/sink.h"

/* The file begins with `head`, which may be empty. */
int FM_NODISCARD fm_sink_text_open(const struct fm_sink *sink, const char *path,
                                   const struct fm_text *head, struct fm_sink_file **ret_file,
                                   struct fm_error *reterr);

/* For the table. */
int FM_NODISCARD fm_sink_text_append(struct fm_sink_file *file, const char *rows, size_t size,
                                     struct fm_error *reterr);
int FM_NODISCARD fm_sink_text_finish(struct fm_sink_file *file, uint64_t *ret_bytes,
                                     uint64_t *ret_checksum, struct fm_error *reterr);
void fm_sink_text_abandon(struct fm_sink_file *file);
/* Of files that are compressed: members of gzip. */
int FM_NODISCARD fm_sink_text_seal(const struct fm_text *rows, struct fm_text *sealed);
int FM_NODISCARD fm_sink_text_append_sealed(struct fm_sink_file *file, const char *sealed,
                                            size_t size, struct fm_error *reterr);
extern const char *const fm_sink_text_compressions[];

/* What all entries of texts have, and what those of compressed files have besides. */
#define FM_SINK_TEXT                                                          \
    .compressions = fm_sink_text_compressions, .append = fm_sink_text_append, \
    .finish = fm_sink_text_finish, .abandon = fm_sink_text_abandon
#define FM_SINK_TEXT_GZIPPED \
    .gzipped = true, .seal = fm_sink_text_seal, .append_sealed = fm_sink_text_append_sealed

#endif
