/*
 * What the files of a job's results are called: parts, dead letters, and attempts at them.
 *
 * Owns: these names. Does not own: which directory they lie in (output.h). Thread rule: pure.
 *
 *   part-00003.parquet           results of shard 3
 *   part-00003.jsonl             its dead letters (in errors/), or its results, where they are
 * lines part-00003.7.parquet         attempt 7 at shard 3, and part-00003.7.errors.jsonl
 */
#ifndef FM_ENGINES_BATCH_PART_NAME_H
#define FM_ENGINES_BATCH_PART_NAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fm_sink;

enum { FM_PART_NAME_SIZE = 96 };

/* `sink` NULL: of dead letters. */
void fm_part_name(uint64_t number, const struct fm_sink *sink, char ret_name[FM_PART_NAME_SIZE]);
void fm_attempt_name(uint64_t number, uint64_t epoch, const struct fm_sink *sink,
                     char ret_name[FM_PART_NAME_SIZE]);

/* The name of a part, in any format: its number, and what it was written by. Each number has one
 * name: no zeros too many. */
bool fm_part_name_read(const char *name, uint64_t *ret_number, const struct fm_sink **ret_sink);
/* Likewise of an attempt; *ret_sink NULL: at dead letters. */
bool fm_attempt_name_read(const char *name, uint64_t *ret_number, uint64_t *ret_epoch,
                          const struct fm_sink **ret_sink);

#endif
