/*
 * Names of parts and attempts. See part_name.h.
 */
#include "engines/batch/part_name.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engines/batch/sink.h"

#define PREFIX          "part-"
#define LETTERS_ENDING  ".jsonl"
#define LETTERS_ATTEMPT ".errors.jsonl"

void fm_part_name(uint64_t number, const struct fm_sink *sink, char ret_name[FM_PART_NAME_SIZE])
{
    (void)snprintf(ret_name, FM_PART_NAME_SIZE, PREFIX "%05" PRIu64 "%.16s", number,
                   sink != NULL ? sink->ending : LETTERS_ENDING);
}

void fm_attempt_name(uint64_t number, uint64_t epoch, const struct fm_sink *sink,
                     char ret_name[FM_PART_NAME_SIZE])
{
    (void)snprintf(ret_name, FM_PART_NAME_SIZE, PREFIX "%05" PRIu64 ".%" PRIu64 "%.16s", number,
                   epoch, sink != NULL ? sink->ending : LETTERS_ATTEMPT);
}

/* Digits at *cursor, which moves behind them. */
static bool number_read(const char **cursor, uint64_t *ret_number)
{
    const char *text = *cursor;
    uint64_t number = 0;
    size_t digits = 0;
    for (; text[digits] >= '0' && text[digits] <= '9' && digits < 19; digits++) {
        number = number * 10 + (uint64_t)(text[digits] - '0');
    }
    *cursor = text + digits;
    *ret_number = number;
    return digits > 0;
}

/* "part-00003", behind which *cursor moves. */
static bool stem_read(const char *name, const char **cursor, uint64_t *ret_number)
{
    char again[FM_PART_NAME_SIZE];
    if (strncmp(name, PREFIX, strlen(PREFIX)) != 0) {
        return false;
    }
    *cursor = name + strlen(PREFIX);
    if (!number_read(cursor, ret_number)) {
        return false;
    }
    (void)snprintf(again, sizeof(again), PREFIX "%05" PRIu64, *ret_number);
    return strlen(again) == (size_t)(*cursor - name) && strncmp(again, name, strlen(again)) == 0;
}

bool fm_part_name_read(const char *name, uint64_t *ret_number, const struct fm_sink **ret_sink)
{
    const char *cursor = NULL;
    if (!stem_read(name, &cursor, ret_number)) {
        return false;
    }
    *ret_sink = fm_sink_of_ending(cursor);
    return *ret_sink != NULL;
}

bool fm_attempt_name_read(const char *name, uint64_t *ret_number, uint64_t *ret_epoch,
                          const struct fm_sink **ret_sink)
{
    const char *cursor = NULL;
    if (!stem_read(name, &cursor, ret_number) || *cursor++ != '.' ||
        !number_read(&cursor, ret_epoch)) {
        return false;
    }
    *ret_sink = fm_sink_of_ending(cursor);
    return *ret_sink != NULL || strcmp(cursor, LETTERS_ATTEMPT) == 0;
}
