/*
 * A `process` operator in C, with nothing but the standard library: numbers become numbers whose
 * greatest is 1. The protocol is docs/process-operators.md.
 *
 * Build: cc -O2 -o normalize normalize.c
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FP32 = 11 }; /* the table of data types in docs/process-operators.md */

struct head {
    char kind[4];
    uint32_t number;
    uint64_t size; /* of what follows */
};

/* The next frame; NULL when there is none, because Fermata has closed our standard input. */
static uint64_t *frame_read(struct head *head)
{
    if (fread(head, sizeof(*head), 1, stdin) != 1) {
        return NULL;
    }
    uint64_t *body = malloc(head->size + 8);
    if (body == NULL || fread(body, 1, head->size, stdin) != head->size) {
        exit(1);
    }
    return body;
}

static void frame_write(const char *kind, uint32_t number, const void *body, uint64_t size)
{
    struct head head = {.number = number, .size = size};
    memcpy(head.kind, kind, 4);
    fwrite(&head, sizeof(head), 1, stdout);
    fwrite(body, 1, size, stdout);
    fflush(stdout);
}

/* The answer looks as the question does: one FP32 [n] in, one out; its numbers change in place. */
static const char *normalize(uint64_t *body)
{
    uint32_t *type_and_rank = (uint32_t *)(body + 1); /* body[0]: elements of the port, 1 */
    float *numbers = (float *)(body + 4);             /* body[2]: n, body[3]: bytes */
    float greatest = 0;
    if (type_and_rank[0] != FP32 || type_and_rank[1] != 1) {
        return "FP32 [n] is wanted";
    }
    for (uint64_t i = 0; i < body[2]; i++) {
        greatest = numbers[i] > greatest ? numbers[i] : greatest;
    }
    for (uint64_t i = 0; i < body[2] && greatest > 0; i++) {
        numbers[i] /= greatest;
    }
    return greatest > 0 ? NULL : "no number is above 0";
}

int main(void)
{
    struct head head;
    uint64_t *body = NULL;
    while ((body = frame_read(&head)) != NULL) {
        if (memcmp(head.kind, "HELO", 4) == 0) {
            frame_write("REDY", head.number, "", 0);
        } else {
            const char *words = normalize(body);
            frame_write(words == NULL ? "DONE" : "FAIL", head.number,
                        words == NULL ? (const void *)body : words,
                        words == NULL ? head.size : strlen(words));
        }
        free(body);
    }
    return 0;
}
