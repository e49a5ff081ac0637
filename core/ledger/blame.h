/*
 * Why a shard failed, as one text: words for people, and in front of them, where it is known, the
 * stage that is to blame and a status: "[EDEADLINE detect] it ran for more than 30 s".
 *
 * Owns: this form. It travels as the reason of a failed shard, through the store and to the worker
 * that writes the dead letter, and nobody on its way has to know it. Does not own: who is to blame.
 * Thread rule: caller's memory.
 */
#ifndef FM_CORE_LEDGER_BLAME_H
#define FM_CORE_LEDGER_BLAME_H

#include <stddef.h>

#define FM_BLAME_STAGE_SIZE 128u

struct fm_blame {
    int status;                      /* FM_E... */
    char stage[FM_BLAME_STAGE_SIZE]; /* a stage's name, or "process" */
    const char *words;               /* into the text that was read */
};

/* Cut to the size. A stage with a ']' or a line's end in it is written with '?' in its place. */
void fm_blame_write(char *text, size_t size, int status, const char *stage, const char *words);
/* A text of another form is all words, of FM_EINTERNAL in the stage "process". */
void fm_blame_read(const char *text, struct fm_blame *ret_blame);

#endif
