/*
 * The frames between Fermata and the programs of `process` operators: docs/process-operators.md.
 *
 * Owns: how a hello and a request are written, and how an answer is read, whatever the pieces it
 * arrives in. Does not own: the program, its pipes, time, what a failure means for it. Everything
 * is little-endian and aligned to 8 bytes. Thread rule: caller's memory.
 */
#ifndef FM_CORE_PROTO_PROCESS_FRAMES_H
#define FM_CORE_PROTO_PROCESS_FRAMES_H

#include <stdbool.h>

#include "core/util/text.h"
#include "fermata/operator.h"

#define FM_PROCESS_VERSION         1
#define FM_PROCESS_HEAD_SIZE       16
#define FM_PROCESS_WORDS_BYTES_MAX 400   /* of a failure's text; the rest is not kept */
#define FM_PROCESS_MEMORY_MIN      16384 /* smaller items come as frames all the same */

/* Memory that is shared with a program that wants it: bodies of items in its first half, of answers
 * in the other one. */
struct fm_process_memory {
    unsigned char *data;
    size_t half; /* bytes; 0: there is none */
};

/* Some bytes of a request that follow each other. */
struct fm_process_piece {
    const void *data;
    size_t size;
};

/* The first frame to a program, appended to `text`: the version, the stage, its ports, and the size
 * of each half of the memory that it may share. Where memory runs out, text->failed. */
void fm_process_hello(struct fm_text *text, const char *stage, const struct fm_port *inputs,
                      uint32_t input_count, const struct fm_port *outputs, uint32_t output_count,
                      size_t memory_half);

/* A request: heads of its own, bytes of the tensors borrowed. Zero-initialise; used again for the
 * next one. */
struct fm_process_request {
    unsigned char *heads;
    size_t heads_capacity;
    struct fm_process_piece *pieces; /* to be sent in this order */
    size_t piece_count;
    size_t piece_capacity;
};
/* Lays out the item. FM_ENOMEM. */
int FM_NODISCARD fm_process_request_make(struct fm_process_request *request, uint32_t id,
                                         const struct fm_tensor_list *inputs, uint32_t input_count);
/* Moves the body to the memory, where it fits and is worth it: a frame's head is left. */
void fm_process_request_share(struct fm_process_request *request,
                              const struct fm_process_memory *memory);
void fm_process_request_deinit(struct fm_process_request *request);

enum fm_process_frame {
    FM_PROCESS_FRAME_READY,  /* it is ready for items */
    FM_PROCESS_FRAME_ANSWER, /* the outputs of an item */
    FM_PROCESS_FRAME_FAIL,   /* the item, or starting, has failed: `words` say why */
};

struct fm_process_answer_options {
    bool starting; /* READY or FAIL is expected, else ANSWER or FAIL */
    uint32_t id;   /* that it has to bear */
    const struct fm_port *outputs;
    uint32_t output_count;
    uint64_t bytes_max;              /* of an answer's body */
    struct fm_process_memory memory; /* an answer's body may lie here */
    /* Memory for one element of an output, as operator.h's emit. A failure of it is the item's. */
    int (*emit)(void *context, uint32_t port, const struct fm_tensor *like, void **ret_data);
    void *context;
};

/*
 * Reads one frame. In turns: fm_process_answer_place() says where the next bytes go,
 * fm_process_answer_advance() that some of them are there, until place() wants none.
 *
 * Two kinds of failure: what advance() returns means that nobody knows any more where a frame
 * begins, so the program is of no use. `item_status` is a failure of this item only: the frame was
 * read to its end.
 */
struct fm_process_answer {
    struct fm_process_answer_options options;
    enum fm_process_frame frame; /* known once it is done */
    bool shares;                 /* READY: it uses the memory */
    int item_status;
    struct fm_error error;                      /* of either; without words where emit has failed */
    char words[FM_PROCESS_WORDS_BYTES_MAX + 1]; /* of FAIL: UTF-8 without control characters */
    uint32_t emitted;                           /* elements */
    /* Internal. */
    int state;
    bool in_memory; /* the body */
    uint64_t left;  /* of the frame's body */
    unsigned char head[8 * (FM_RANK_MAX + 2)];
    size_t head_size; /* wanted */
    size_t at;        /* of what is being filled, read already */
    uint32_t port;
    uint64_t elements; /* of the port, to come */
    struct fm_tensor tensor;
    unsigned char *data;
    char scratch[512]; /* what nobody wants */
    size_t words_size;
};

void fm_process_answer_begin(struct fm_process_answer *answer,
                             const struct fm_process_answer_options *options);
/* *ret_size 0: the frame is complete. */
void fm_process_answer_place(struct fm_process_answer *answer, void **ret_data, size_t *ret_size);
/* `size` of the bytes that place() asked for are there. FM_ECORRUPT, FM_ETOOLARGE: see above. */
int FM_NODISCARD fm_process_answer_advance(struct fm_process_answer *answer, size_t size);

#endif
