/*
 * What accelerators of a batch worker have done. See batch_accelerators.h. Pure.
 */
#include "core/proto/batch_accelerators.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/util/text.h"

#define SEPARATOR ", "

enum { WORD_SIZE = 24 };

bool fm_batch_accelerator_append(char *text, size_t size,
                                 const struct fm_batch_accelerator *accelerator)
{
    size_t used = strlen(text);
    int length = snprintf(text + used, size - used, "%s%.*s %" PRIu64 " %" PRIu64,
                          used > 0 ? SEPARATOR : "", (int)accelerator->name.size,
                          accelerator->name.data, accelerator->busy_ms, accelerator->batches);
    if (length < 0 || (size_t)length >= size - used) {
        text[used] = '\0';
        return false;
    }
    return true;
}

/* Up to the next blank or comma; empty: there is none. */
static struct fm_batch_view word_take(struct fm_batch_view *text)
{
    struct fm_batch_view word = {.data = text->data};
    while (word.size < text->size && text->data[word.size] != ' ' &&
           text->data[word.size] != SEPARATOR[0]) {
        word.size++;
    }
    text->data += word.size;
    text->size -= word.size;
    return word;
}

/* A number behind a blank. */
static bool number_take(struct fm_batch_view *text, uint64_t *ret_number)
{
    char digits[WORD_SIZE];
    if (text->size == 0 || text->data[0] != ' ') {
        return false;
    }
    text->data++;
    text->size--;
    struct fm_batch_view word = word_take(text);
    if (word.size == 0 || word.size >= sizeof(digits)) {
        return false;
    }
    fm_batch_view_copy(word, digits, sizeof(digits));
    return fm_parse_uint64(digits, ret_number) == 0;
}

bool fm_batch_accelerator_next(struct fm_batch_view *text,
                               struct fm_batch_accelerator *ret_accelerator)
{
    struct fm_batch_view rest = *text;
    size_t gap = strlen(SEPARATOR);
    *ret_accelerator = (struct fm_batch_accelerator){.busy_ms = 0};
    if (rest.size == 0) {
        return false;
    }
    ret_accelerator->name = word_take(&rest);
    if (ret_accelerator->name.size == 0 || !number_take(&rest, &ret_accelerator->busy_ms) ||
        !number_take(&rest, &ret_accelerator->batches)) {
        return false;
    }
    if (rest.size >= gap && memcmp(rest.data, SEPARATOR, gap) == 0) {
        rest.data += gap;
        rest.size -= gap;
    } else if (rest.size > 0) {
        return false;
    }
    *text = rest;
    return true;
}
