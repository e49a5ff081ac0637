/*
 * Reads messages between batch master and workers from standard input and writes each again on
 * standard output, through structs: what batch_messages.py compares with Google's protobuf.
 *
 * Both ways a message is: 'w' (a worker's), 'm' (a master's) or 's' (a status), its length in four
 * bytes, lowest first, and its bytes. One that is not well-formed is answered with 'e', length, and
 * words. Ends with its input; exit code 1: that was cut off, or memory ran out. Thread rule: one
 * thread.
 */
#include <stdio.h>
#include <string.h>

#include "core/proto/batch_control.h"
#include "core/proto/batch_messages.h"
#include "core/util/memory.h"

/* FM_EINVAL and the like: the words are in *error. */
static int again(char kind, const void *data, size_t size, struct fm_text *text,
                 struct fm_error *error)
{
    struct fm_batch_worker_message worker;
    struct fm_batch_master_message master;
    struct fm_batch_status told;
    if (kind == 's') {
        int read = fm_batch_status_read(data, size, &told, error);
        error->text[0] = read != 0 ? error->text[0] : '\0';
        return read != 0 ? read : fm_batch_status_write(text, &told);
    }
    int status = kind == 'w' ? fm_batch_worker_message_read(data, size, &worker, error)
                             : fm_batch_master_message_read(data, size, &master, error);
    if (status != 0) {
        return status;
    }
    error->text[0] = '\0';
    return kind == 'w' ? fm_batch_worker_message_write(text, &worker)
                       : fm_batch_master_message_write(text, &master);
}

static bool answer(char kind, const void *data, size_t size)
{
    const uint8_t head[5] = {(uint8_t)kind, (uint8_t)size, (uint8_t)(size >> 8),
                             (uint8_t)(size >> 16), (uint8_t)(size >> 24)};
    return fwrite(head, 1, sizeof(head), stdout) == sizeof(head) &&
           (size == 0 || fwrite(data, 1, size, stdout) == size) && fflush(stdout) == 0;
}

int main(void)
{
    uint8_t head[5];
    bool good = true;
    while (good && fread(head, 1, sizeof(head), stdin) == sizeof(head)) {
        size_t size =
            head[1] | (size_t)head[2] << 8 | (size_t)head[3] << 16 | (size_t)head[4] << 24;
        struct fm_text text = {0};
        struct fm_error error = {0};
        void *data = fm_alloc(size);
        good = data != NULL && fread(data, 1, size, stdin) == size;
        if (good && again((char)head[0], data, size, &text, &error) == 0) {
            good = answer((char)head[0], text.data, text.length);
        } else if (good) {
            good = answer('e', error.text, strlen(error.text));
        }
        fm_text_deinit(&text);
        fm_free(data);
    }
    return good ? 0 : 1;
}
