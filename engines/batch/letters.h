/*
 * The dead letters of a job: one after the other, or summed up.
 *
 * Owns: reading errors/part-*.jsonl, what makes two messages alike. Does not own: printing. Thread
 * rule: one thread.
 */
#ifndef FM_ENGINES_BATCH_LETTERS_H
#define FM_ENGINES_BATCH_LETTERS_H

#include <stddef.h>
#include <stdint.h>

#include "core/util/text.h"
#include "engines/batch/row_line.h"

struct fm_letters_options {
    const char *directory; /* of the job */
    const char *stage;     /* only those of this stage; NULL: of all */
    const char *code;      /* likewise: "ECORRUPT" */
    /* Each, with its line as it stands there; borrowed for the call. An answer above 0 ends it, a
     * negative one too and is returned. */
    int (*each)(void *context, const struct fm_row_letter *letter, const char *line, size_t length);
    void *context;
};

/* In the order of the parts' numbers. FM_ENOTFOUND: no job's output; FM_ECORRUPT: a line that is no
 * dead letter. While a job runs, these are the dead letters of what is committed. */
int FM_NODISCARD fm_letters_each(const struct fm_letters_options *options, struct fm_error *reterr);

/* A message without what differs from row to row: numbers become '#', what is quoted '...'. */
void fm_letter_pattern(const char *message, char *ret_pattern, size_t size);

/* --- Summing up --- */

#define FM_LETTER_GROUPS_MAX 1000u

/* Dead letters that failed alike. */
struct fm_letter_group {
    char stage[64];
    char code[24];
    char pattern[256];
    uint64_t count;
    char example[256]; /* the id of the first one */
    char message[256]; /* its message */
};

/* Zero-initialise. */
struct fm_letter_summary {
    struct fm_letter_group *groups;
    size_t count;
    size_t capacity;
    uint64_t total;
    uint64_t others; /* of more groups than there is room for */
};

/* FM_ENOMEM. */
int FM_NODISCARD fm_letter_summary_add(struct fm_letter_summary *summary,
                                       const struct fm_row_letter *letter);
/* Largest groups first; of equal ones in the order of their words. */
void fm_letter_summary_sort(struct fm_letter_summary *summary);
void fm_letter_summary_deinit(struct fm_letter_summary *summary);

#endif
