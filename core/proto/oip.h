/*
 * The Open Inference Protocol v2 (REST form) with the binary tensor, classification and
 * schedule-policy extensions: bodies to tensors and back.
 *
 * Owns: the infer request and response bodies, and the documents for metadata, configuration, the
 * repository index and errors. Does not own: paths, status lines and headers (host/net,
 * engines/serve), what a model does, checking beyond names, types and shapes. Thread rule: caller's
 * memory.
 *
 * Deliberate differences from other servers: `timeout` (microseconds) is the whole request's
 * budget, not only its time in a queue; NaN and infinities are written as null in JSON (binary
 * output keeps them); request parameters that are not named here are ignored.
 */
#ifndef FM_CORE_PROTO_OIP_H
#define FM_CORE_PROTO_OIP_H

#include <stdbool.h>

#include "core/tensor/tensor.h"
#include "core/util/text.h"

#define FM_OIP_ID_BYTES_MAX 1024
#define FM_OIP_CLASSES_MAX  65536
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

struct fm_oip_body {
    const char *data;
    size_t size;
    struct fm_buffer *buffer; /* owner of data: lets tensors refer to the body instead of copying
                                 it; NULL: they copy */
    uint64_t header_length;   /* bytes of JSON in front of binary tensors; 0: raw, one tensor and no
                                 JSON */
    bool raw_answers_json;    /* raw request: answer in JSON instead of binary */
};

/* One output that the client wants, in the order it asked. */
struct fm_oip_output {
    uint32_t port;
    bool binary;
    uint32_t classes; /* > 0: the `classes` best of each row as "value:index[:label]" */
};

/* A decoded infer request. */
struct fm_oip_request {
    struct fm_text id;       /* data NULL: none was sent */
    uint64_t timeout_us;     /* 0: none */
    uint64_t priority;       /* 0: default */
    uint32_t rows;           /* size of the batch dimension; 1 for models that do not batch */
    struct fm_value *inputs; /* by port of the signature; zeroed = an optional one left out */
    uint32_t input_count;
    struct fm_oip_output *outputs;
    uint32_t output_count;
};

/*
 * Decodes a complete body. On failure nothing has to be released and reterr says what is wrong,
 * where, and what would be right: EINVAL (malformed, unknown or missing name), ETYPE (dtype, shape
 * or size), EUNSUPPORTED (shared memory, sequences), ETOOLARGE, ENOMEM.
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

/* An encoded answer: the JSON is parts[0]; with binary tensors behind it, header_length is its
 * size. */
struct fm_oip_response {
    struct fm_text json;
    struct fm_oip_part *parts;
    uint32_t part_count;
    bool binary; /* the answer needs the header length header and application/octet-stream */
    size_t body_size;
    struct fm_value *classified; /* tensors made here; parallel to the request's outputs */
    uint32_t classified_count;
};

/* Labels of output `port`: *ret_count of them, or NULL. */
typedef const char *const *(*fm_oip_labels)(void *context, uint32_t port, size_t *ret_count);

/*
 * Encodes outputs[signature->output_count] as the request asked. Tensor bytes are not copied when
 * they go out binary, so `outputs` must live until the parts were sent. `labels` may be NULL.
 * Shapes of outputs are what the model produced. On failure nothing has to be released.
 */
int FM_NODISCARD fm_oip_response_encode(const struct fm_oip_signature *signature,
                                        const struct fm_oip_request *request,
                                        const struct fm_value *outputs, fm_oip_labels labels,
                                        void *labels_context, struct fm_oip_response *ret_response,
                                        struct fm_error *reterr);
void fm_oip_response_deinit(struct fm_oip_response *response);

/* Documents. Each appends one JSON text; check text->failed at the end. */
void fm_oip_write_error(struct fm_text *text, const char *message);
void fm_oip_write_server(struct fm_text *text, const char *name, const char *version);
void fm_oip_write_model(struct fm_text *text, const struct fm_oip_signature *signature,
                        const char *platform, const uint64_t *versions, size_t version_count);
void fm_oip_write_model_ready(struct fm_text *text, const char *name, bool ready);
/* `instance_count` 0: unknown, left out. */
void fm_oip_write_config(struct fm_text *text, const struct fm_oip_signature *signature,
                         const char *platform, const char *backend, uint32_t instance_count);

struct fm_oip_index_row {
    const char *name;
    uint64_t version;   /* 0: no version is known */
    const char *state;  /* "READY", "LOADING", "UNAVAILABLE" */
    const char *reason; /* "" when there is none */
};
void fm_oip_write_index(struct fm_text *text, const struct fm_oip_index_row *rows, size_t count);

/* The `ready` member of an index request; an empty body is fine. */
int FM_NODISCARD fm_oip_index_decode(const char *data, size_t size, bool *ret_ready_only,
                                     struct fm_error *reterr);

#endif
