/*
 * The protobuf form of inference: ModelInferRequest to tensors, tensors to ModelInferResponse, and
 * the envelope of ModelStreamInfer.
 *
 * Owns: these messages, read and written in place: tensors refer to the message they came in, and
 * answers to the tensors of the model. Does not own: the checks shared with the REST form (oip.h),
 * frames and streams (host/net), every other message (host/messages). Thread rule: caller's memory.
 *
 * How the protocol's corners are settled: an entry of raw_input_contents belongs to the next input
 * that has neither contents nor shared memory, and every entry must find its input; contents and
 * raw_input_contents do not mix; an answer has one entry of raw_output_contents for each output,
 * empty for what went to shared memory. Parameters that are not known here are ignored.
 */
#ifndef FM_CORE_PROTO_OIP_GRPC_H
#define FM_CORE_PROTO_OIP_GRPC_H

#include "core/proto/oip.h"

#define FM_OIP_GRPC_MESSAGE_MAX INT32_MAX /* bytes: what clients take */
#define FM_OIP_GRPC_ALIGNMENT   64

/*
 * Where in a buffer that is aligned to 64 a message of `size` bytes should begin: so that it ENDS
 * aligned. The tensors stand at its end; then the last one (or the only one) lies aligned too when
 * its size is a multiple of its alignment, and need not be copied.
 */
static inline size_t fm_oip_grpc_message_offset(size_t size)
{
    return (0 - size) & (FM_OIP_GRPC_ALIGNMENT - 1);
}

struct fm_oip_view {
    const char *data; /* not NUL-terminated */
    size_t size;
};

/* What must be known before the model is: views into the message. */
struct fm_oip_grpc_head {
    struct fm_oip_view model_name;
    struct fm_oip_view model_version;
    struct fm_oip_view id;
    const char *raw; /* where the first entry of raw_input_contents begins; NULL: none */
    uint32_t raw_count;
};

/* FM_EINVAL: no ModelInferRequest. */
int FM_NODISCARD fm_oip_grpc_peek(const void *data, size_t size, struct fm_oip_grpc_head *ret_head,
                                  struct fm_error *reterr);
/* A version as messages name it: empty and "-1" are 0, the latest. */
int FM_NODISCARD fm_oip_version_parse(const char *version, size_t length, uint64_t *ret_version,
                                      struct fm_error *reterr);

/* As fm_oip_request_decode; `head` is what peek said of this body. The header length means nothing
 * here. */
int FM_NODISCARD fm_oip_grpc_decode(const struct fm_oip_signature *signature,
                                    const struct fm_oip_body *body,
                                    const struct fm_oip_grpc_head *head,
                                    struct fm_oip_request *ret_request, struct fm_error *reterr);

struct fm_oip_grpc_form {
    bool stream; /* a ModelStreamInferResponse around it, with triton_final_response */
    bool final;  /* the value of that */
};

/*
 * As fm_oip_response_encode. The parts are in turn bytes of `head` and tensors; body_size counts
 * all. FM_ETOOLARGE when it is more than a client takes.
 */
int FM_NODISCARD fm_oip_grpc_encode(const struct fm_oip_signature *signature,
                                    const struct fm_oip_request *request,
                                    const struct fm_value *outputs, fm_oip_labels labels,
                                    void *labels_context, const struct fm_oip_grpc_form *form,
                                    struct fm_oip_response *ret_response, struct fm_error *reterr);
/* An answer without outputs: the empty last one of a stream, for who asked for it
 * (request->empty_final_response). */
int FM_NODISCARD fm_oip_grpc_encode_empty(const struct fm_oip_signature *signature,
                                          const struct fm_oip_request *request,
                                          const struct fm_oip_grpc_form *form,
                                          struct fm_oip_response *ret_response,
                                          struct fm_error *reterr);
/* One request of a stream failed, and the stream lives on. `id` may be NULL. FM_ENOMEM. */
int FM_NODISCARD fm_oip_grpc_encode_stream_error(const char *message, const char *id,
                                                 size_t id_length,
                                                 struct fm_oip_response *ret_response);

#endif
