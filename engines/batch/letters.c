/*
 * Dead letters of a job. See letters.h.
 */
#include "engines/batch/letters.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/batch/line_reader.h"
#include "engines/batch/output.h"
#include "engines/batch/part_name.h"

static int part_each(const struct fm_letters_options *options, const char *path,
                     struct fm_line_reader *lines, struct fm_row_letter *letter,
                     struct fm_error *reterr)
{
    const char *line = NULL;
    size_t length = 0;
    int status = fm_line_reader_open(lines, path, reterr);
    while (status == 0) {
        status = fm_line_reader_next(lines, &line, &length, reterr);
        if (status != 0 || line == NULL) {
            break;
        }
        status = fm_row_letter_read(letter, line, length, reterr);
        if (status != 0) {
            status = fm_error_prefix(reterr, status, "'%s', line %" PRIu64, path, lines->lines);
            break;
        }
        bool wanted = (options->stage == NULL || strcmp(options->stage, letter->stage.data) == 0) &&
                      (options->code == NULL || strcmp(options->code, letter->code.data) == 0);
        status = wanted ? options->each(options->context, letter, line, length) : 0;
    }
    fm_line_reader_close(lines);
    return status;
}

static int numbers_compare(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return a < b ? -1 : a > b ? 1 : 0;
}

/* The numbers of the parts in errors/, ascending. */
static int numbers_list(const char *errors, uint64_t **ret_numbers, size_t *ret_count,
                        struct fm_error *reterr)
{
    struct fm_file_list list = {0};
    int status = fm_file_list(errors, &list, reterr);
    uint64_t *numbers = status == 0 ? fm_alloc((list.count + 1) * sizeof(*numbers)) : NULL;
    size_t count = 0;
    for (size_t i = 0; i < list.count && numbers != NULL; i++) {
        const struct fm_sink *sink = NULL;
        bool letters = fm_part_name_read(list.names[i], &numbers[count], &sink);
        count += letters && sink == &fm_sink_jsonl ? 1 : 0;
    }
    if (status == 0 && numbers == NULL) {
        status = fm_error_set(reterr, FM_ENOMEM, "out of memory to list '%s'", errors);
    }
    if (numbers != NULL) {
        qsort(numbers, count, sizeof(*numbers), numbers_compare);
    }
    fm_file_list_free(&list);
    *ret_numbers = numbers;
    *ret_count = count;
    return status;
}

int fm_letters_each(const struct fm_letters_options *options, struct fm_error *reterr)
{
    char errors[FM_OUTPUT_PATH_MAX];
    char path[FM_OUTPUT_PATH_MAX + FM_PART_NAME_SIZE];
    char name[FM_PART_NAME_SIZE];
    bool results = false;
    enum fm_output_state state = FM_OUTPUT_EMPTY;
    struct fm_file_facts facts = {0};
    struct fm_line_reader lines = {0};
    struct fm_row_letter letter = {0};
    uint64_t *numbers = NULL;
    size_t count = 0;
    int length =
        snprintf(errors, sizeof(errors), "%s/%s", options->directory, FM_OUTPUT_ERRORS_DIRECTORY);
    if (length < 0 || (size_t)length >= sizeof(errors)) {
        return fm_error_set(reterr, FM_ETOOLARGE, "the path '%.200s...' is too long",
                            options->directory);
    }
    int status = fm_output_look(options->directory, &state, reterr);
    status = status != 0 ? status : fm_output_has_results(options->directory, &results, reterr);
    if (status == 0 && state == FM_OUTPUT_EMPTY && !results) {
        return fm_error_set(reterr, FM_ENOTFOUND, "there is no job in '%s'", options->directory);
    }
    status = status != 0 ? status : fm_file_stat(errors, &facts, reterr);
    if (status != 0 || facts.kind != FM_FILE_DIRECTORY) {
        return status; /* no dead letters */
    }
    status = numbers_list(errors, &numbers, &count, reterr);
    for (size_t i = 0; i < count && status == 0; i++) {
        fm_part_name(numbers[i], NULL, name);
        (void)snprintf(path, sizeof(path), "%s/%s", errors, name);
        status = part_each(options, path, &lines, &letter, reterr);
    }
    fm_free(numbers);
    fm_line_reader_deinit(&lines);
    fm_row_letter_deinit(&letter);
    return status < 0 ? status : 0;
}

/* --- Summing up --- */

static bool is_word(char character)
{
    return (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z') ||
           (character >= '0' && character <= '9') || character == '_';
}

void fm_letter_pattern(const char *message, char *ret_pattern, size_t size)
{
    size_t length = 0;
    char before = ' ';
    while (*message != '\0' && length + 4 < size) {
        char quote = *message;
        const char *end =
            (quote == '\'' || quote == '"') && !is_word(before) ? strchr(message + 1, quote) : NULL;
        if (end != NULL) {
            ret_pattern[length++] = quote;
            memcpy(ret_pattern + length, "...", 3);
            length += 3;
            message = end; /* its closing quote comes next */
            before = 'a';
            if (length + 4 >= size) {
                break;
            }
            ret_pattern[length++] = *message++;
        } else if (*message >= '0' && *message <= '9' && !is_word(before)) {
            ret_pattern[length++] = '#';
            message += strspn(message, "0123456789");
            before = '#';
        } else {
            before = *message;
            ret_pattern[length++] = *message++;
        }
    }
    ret_pattern[length] = '\0';
}

/* Cut at a whole character. */
static void copy(char *to, size_t size, const char *from)
{
    size_t length = 0;
    for (size_t step = 1; from[length] != '\0'; length += step) {
        step = fm_utf8_sequence(from + length, strlen(from + length));
        step = step == 0 ? 1 : step;
        if (length + step >= size) {
            break;
        }
    }
    memcpy(to, from, length);
    to[length] = '\0';
}

int fm_letter_summary_add(struct fm_letter_summary *summary, const struct fm_row_letter *letter)
{
    struct fm_letter_group wanted = {.count = 1};
    char pattern[sizeof(wanted.pattern)];
    copy(wanted.stage, sizeof(wanted.stage), letter->stage.data);
    copy(wanted.code, sizeof(wanted.code), letter->code.data);
    fm_letter_pattern(letter->message.data, pattern, sizeof(pattern));
    copy(wanted.pattern, sizeof(wanted.pattern), pattern);
    summary->total++;
    for (size_t i = 0; i < summary->count; i++) {
        struct fm_letter_group *group = &summary->groups[i];
        if (strcmp(group->pattern, wanted.pattern) == 0 &&
            strcmp(group->stage, wanted.stage) == 0 && strcmp(group->code, wanted.code) == 0) {
            group->count++;
            return 0;
        }
    }
    if (summary->count == FM_LETTER_GROUPS_MAX) {
        summary->others++;
        return 0;
    }
    if (summary->count == summary->capacity) {
        size_t capacity = summary->capacity > 0 ? summary->capacity * 2 : 16;
        struct fm_letter_group *groups =
            fm_realloc(summary->groups, capacity * sizeof(*summary->groups));
        if (groups == NULL) {
            return FM_ENOMEM;
        }
        summary->groups = groups;
        summary->capacity = capacity;
    }
    copy(wanted.example, sizeof(wanted.example), letter->id.data);
    copy(wanted.message, sizeof(wanted.message), letter->message.data);
    summary->groups[summary->count++] = wanted;
    return 0;
}

static int groups_compare(const void *left, const void *right)
{
    const struct fm_letter_group *a = left;
    const struct fm_letter_group *b = right;
    int order = a->count != b->count ? (a->count > b->count ? -1 : 1) : strcmp(a->stage, b->stage);
    order = order != 0 ? order : strcmp(a->code, b->code);
    return order != 0 ? order : strcmp(a->pattern, b->pattern);
}

void fm_letter_summary_sort(struct fm_letter_summary *summary)
{
    if (summary->count > 0) {
        qsort(summary->groups, summary->count, sizeof(*summary->groups), groups_compare);
    }
}

void fm_letter_summary_deinit(struct fm_letter_summary *summary)
{
    fm_free(summary->groups);
    *summary = (struct fm_letter_summary){0};
}
