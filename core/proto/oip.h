/*
 * The Open Inference Protocol v2 with the binary tensor, classification, shared memory and
 * schedule-policy extensions: bodies to tensors and back. What both forms of the protocol share,
 * and the REST form; the protobuf form is in oip_grpc.h.
 *
 * Owns: the infer request and response bodies, and the error document. Does not own: paths, status
 * lines and headers (host/net, engines/serve), the other documents (host/messages), the regions of
 * shared memory, what a model does, checking beyond names, types and shapes. Thread rule: caller's
 * memory.
 *
 * Deliberate differences from other servers: `timeout` (microseconds) is the whole request's
 * budget, not only its time in a queue; NaN and infinities are written as null in JSON (binary
 * output keeps them); request parameters that are not named here are ignored.
 */
#ifndef FM_CORE_PROTO_OIP_H
#define FM_CORE_PROTO_OIP_H

#include <stdbool.h>

#include "core/proto/oip_memo.h"
#include "core/tensor/tensor.h"
#include "core/util/text.h"

#define FM_OIP_ID_BYTES_MAX     1024
#define FM_OIP_REGION_BYTES_MAX 255 /* of the name of a shared memory region */
#define FM_OIP_CLASSES_MAX      65536
/* `header_length` of a body that is JSON from end to end. */
#define FM_OIP_HEADER_ABSENT UINT64_MAX

/* What the protocol has to know of a model. Everything is borrowed. */
struct fm_oip_signature {
    const char *name;
    uint64_t version;
    const struct fm_port *inputs;
    uint32_t input_count;
    const struct fm_port *outputs;
    uint32_t output_count;
    uint32_t batch_max; /* > 0: dimension 0 of every port is the batch */
};

/*
 * Finds `size` bytes at `offset` of a registered region of shared memory. On success *ret_value
 * has `data` and `size` and a reference to an owner that keeps the bytes mapped; else reterr says
 * which region and what is wrong with it.
 */
typedef int (*fm_oip_resolve)(void *context, const char *region, uint64_t offset, uint64_t size,
                              bool writable, struct fm_value *ret_value, struct fm_error *reterr);

struct fm_oip_body {
    const char *data;
    size_t size;
    struct fm_buffer *buffer; /* owner of data: lets tensors refer to the body instead of copying
                                 it; NULL: they copy */
    uint64_t header_length;   /* bytes of JSON in front of binary tensors; 0: raw, one tensor and no
                                 JSON */
    bool raw_answers_json;    /* raw request: answer in JSON instead of binary */
    bool copies_regions;      /* inputs in shared memory are copied: whoever has to know for sure
                                 what they are cannot leave them where their client writes */
    fm_oip_resolve resolve;   /* NULL: shared memory is refused */
    void *resolve_context;
    struct fm_oip_memo *memo; /* REST: what is remembered of the model; NULL: nothing */
    /* Of the caller, aligned for anything, and his for as long as the request: its small parts, if
     * they fit. NULL: they are allocated. */
    void *memory;
    size_t memory_size;
};

/* Where an output goes instead of the answer. */
struct fm_oip_region {
    char *name; /* NULL: into the answer */
    uint64_t offset;
    void *data; /* `size` bytes that may be written */
    size_t size;
    struct fm_buffer *buffer; /* keeps them mapped */
};

/* One output that the client wants, in the order it asked. */
struct fm_oip_output {
    uint32_t port;
    bool binary;
    bool binary_given; /* internal: the request said so, rather than left it to its default */
    uint32_t classes;  /* > 0: the `classes` best of each row as "value:index[:label]" */
    struct fm_oip_region region;
};

/* A decoded infer request. Its small parts are in one piece; the struct itself may be moved. */
struct fm_oip_request {
    const char *id; /* NULL: none was sent; NUL-terminated, and may hold NULs */
    size_t id_length;
    uint64_t timeout_us;     /* 0: none */
    uint64_t priority;       /* 0: default */
    uint32_t rows;           /* size of the batch dimension; 1 for models that do not batch */
    struct fm_value *inputs; /* by port of the signature; zeroed = an optional one left out */
    uint32_t input_count;
    struct fm_oip_output *outputs;
    uint32_t output_count;
    uint64_t bytes_copied;     /* of tensor data, because it could not be referred to in place */
    bool empty_final_response; /* gRPC: triton_enable_empty_final_response */
    void *allocated;           /* internal: the piece, if it is not the caller's */
    char *id_memory;           /* internal: of an id that is too long for it */
    struct fm_oip_memo *memo;  /* internal: where its JSON is remembered; NULL: it is not */
    uint64_t seen_number;      /* internal: as which, unless it was forgotten since */
};

/*
 * Decodes a complete body. Tensors that are sent binary refer to the body where it has an owner and
 * they lie aligned for their type. On failure nothing has to be released and reterr says what is
 * wrong, where, and what would be right: EINVAL (malformed, unknown or missing name), ETYPE (dtype,
 * shape or size), EUNSUPPORTED (sequences; shared memory without a resolver), ETOOLARGE, ENOMEM, or
 * what the resolver says.
 */
int FM_NODISCARD fm_oip_request_decode(const struct fm_oip_signature *signature,
                                       const struct fm_oip_body *body,
                                       struct fm_oip_request *ret_request, struct fm_error *reterr);
void fm_oip_request_deinit(struct fm_oip_request *request);

/* A piece of an answer's body; borrowed from the response or from the tensors. */
struct fm_oip_part {
    const void *data;
    size_t size;
};

#define FM_OIP_PARTS_INLINE 9 /* four outputs in either form */
#define FM_OIP_HEAD_INLINE  384

/*
 * An encoded answer. It stays where it was encoded: `parts` may point into it. REST: the JSON is
 * parts[0], and binary tensors stand behind it; gRPC: see oip_grpc.h.
 */
struct fm_oip_response {
    struct fm_text head; /* every byte of the answer that is not a tensor's */
    struct fm_oip_part *parts;
    uint32_t part_count;
    bool binary; /* REST: the answer needs the header length header (the size of parts[0]) and
                    application/octet-stream */
    size_t body_size;
    uint64_t bytes_copied;       /* of tensor data, into shared memory */
    struct fm_value *classified; /* tensors made here; parallel to the request's outputs; NULL: none
                                  */
    uint32_t classified_count;
    struct fm_oip_part inline_parts[FM_OIP_PARTS_INLINE];
    char inline_head[FM_OIP_HEAD_INLINE];
};

/* Labels of output `port`: *ret_count of them, or NULL. */
typedef const char *const *(*fm_oip_labels)(void *context, uint32_t port, size_t *ret_count);

/*
 * Encodes outputs[signature->output_count] as the request asked. Tensor bytes are not copied when
 * they go out binary, so `outputs` must live until the parts were sent. Those that the client wants
 * in shared memory are copied there. `labels` may be NULL. Shapes of outputs are what the model
 * produced. On failure nothing has to be released.
 */
int FM_NODISCARD fm_oip_response_encode(const struct fm_oip_signature *signature,
                                        const struct fm_oip_request *request,
                                        const struct fm_value *outputs, fm_oip_labels labels,
                                        void *labels_context, struct fm_oip_response *ret_response,
                                        struct fm_error *reterr);
void fm_oip_response_deinit(struct fm_oip_response *response);

/* The body of every answer that is an error. Check text->failed. */
void fm_oip_write_error(struct fm_text *text, const char *message);

#endif
