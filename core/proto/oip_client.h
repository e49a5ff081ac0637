/*
 * The client's side of inference, in both forms of the protocol: requests to bytes, answers to
 * tensors. The server's side is oip.h and oip_grpc.h.
 *
 * Owns: the infer request and response bodies, the envelope of ModelStreamInfer, the error
 * document, a model's metadata. Does not own: paths, headers and frames (host/net), the other
 * messages (host/messages). Thread rule: caller's memory.
 *
 * Answers come from outside: every name, shape and size in them is checked, and nothing is
 * allocated that the bytes at hand do not justify.
 */
#ifndef FM_CORE_PROTO_OIP_CLIENT_H
#define FM_CORE_PROTO_OIP_CLIENT_H

#include "core/proto/oip.h"
#include "core/util/memory.h"
#include "fermata/client.h"

#define FM_OIP_CLIENT_OUTPUTS_MAX 4096u

/* An encoded request. It stays where it was encoded. */
struct fm_oip_client_message {
    struct fm_text head; /* every byte that is not a tensor's */
    struct fm_oip_part *parts;
    uint32_t part_count;
    size_t size; /* of all parts */
    bool binary; /* REST: tensors stand behind head.length bytes of JSON */
};

/*
 * Encodes a request, whose parts refer to its tensors: those must live until they were sent. REST:
 * `binary` uses the binary tensor extension. On failure nothing has to be released, and reterr says
 * which part is wrong: FM_EINVAL, FM_ETYPE, FM_ETOOLARGE, FM_ENOMEM.
 */
int FM_NODISCARD fm_oip_client_encode_json(const struct fm_client_request *request, bool binary,
                                           struct fm_oip_client_message *ret_message,
                                           struct fm_error *reterr);
int FM_NODISCARD fm_oip_client_encode_grpc(const struct fm_client_request *request,
                                           struct fm_oip_client_message *ret_message,
                                           struct fm_error *reterr);
void fm_oip_client_message_deinit(struct fm_oip_client_message *message);

struct fm_oip_client_output {
    const char *name;
    struct fm_value value; /* without data: it went into shared memory */
};

/* A decoded answer. Strings and the list live in the arena. */
struct fm_oip_client_answer {
    struct fm_arena arena;
    const char *model; /* "" where nothing was said */
    const char *version;
    const char *id;
    const char *error_text; /* of a stream: this request failed; NULL: it did not */
    struct fm_oip_client_output *outputs;
    uint32_t output_count;
};

struct fm_oip_client_body {
    const char *data;
    size_t size;
    struct fm_buffer *buffer; /* owner of data: tensors refer to it where they lie aligned; NULL:
                                 they are copied */
    uint64_t header_length;   /* REST: as in oip.h */
};

/*
 * Decodes an answer. `request` tells which outputs went into shared memory; it may be NULL. On
 * failure nothing has to be released. FM_ECORRUPT: no such answer, and reterr says what is wrong
 * with it; FM_ETOOLARGE, FM_ENOMEM.
 */
int FM_NODISCARD fm_oip_client_decode_json(const struct fm_oip_client_body *body,
                                           const struct fm_client_request *request,
                                           struct fm_oip_client_answer *ret_answer,
                                           struct fm_error *reterr);
/* `stream`: a ModelStreamInferResponse around it. */
int FM_NODISCARD fm_oip_client_decode_grpc(const struct fm_oip_client_body *body,
                                           const struct fm_client_request *request, bool stream,
                                           struct fm_oip_client_answer *ret_answer,
                                           struct fm_error *reterr);
void fm_oip_client_answer_deinit(struct fm_oip_client_answer *answer);

/* Appends the message of an error document: {"error": "..."}. False: it is none. */
bool fm_oip_client_error_read(const char *data, size_t size, struct fm_text *text);
/* A member of the top object that is true or false. False also when it is not there. */
bool fm_oip_client_flag_read(const char *data, size_t size, const char *name, bool *ret_value);

/* A model's metadata, as JSON: names, types and shapes into the arena. FM_ECORRUPT, FM_ENOMEM. */
int FM_NODISCARD fm_oip_client_model_read(const char *data, size_t size, struct fm_arena *arena,
                                          struct fm_client_model *ret_model,
                                          struct fm_error *reterr);

/* --- Between the files of the client's side --- */

/* A tensor over bytes of the body: refers to them where ownership and alignment allow, else copies.
 * Checks type, shape and size. `value->tensor` has type and shape. */
int FM_NODISCARD fm_oip_client_tensor_set(const struct fm_oip_client_body *body, const char *name,
                                          const char *data, size_t size, struct fm_value *value,
                                          struct fm_error *reterr);
/* Whether we asked for the output in shared memory. `request` NULL, as of a stream: nobody knows,
 * and it may be. */
bool fm_oip_client_region_asked(const struct fm_client_request *request, const char *name);
/* FM_ENOMEM. */
int fm_oip_client_no_memory(struct fm_error *reterr);

#endif
