/*
 * Infer requests of this process: tensors by name, that come without a body and leave without one.
 *
 * Owns: nothing of its own but the order of the checks, which are those of the protocol's forms
 * (oip.h, oip_grpc.h): the same mistake is told in the same words. Does not own: the bytes of
 * inputs and outputs. Thread rule: caller's memory.
 */
#ifndef FM_CORE_PROTO_OIP_NAMED_H
#define FM_CORE_PROTO_OIP_NAMED_H

#include "core/proto/oip.h"

struct fm_oip_named {
    const char *id;    /* NULL: none */
    uint64_t priority; /* 0: default */
    const struct fm_named_tensor *inputs;
    uint32_t input_count;
    const char *const *outputs; /* those that are wanted; output_count 0: all */
    uint32_t output_count;
    /* Of the bytes of the inputs: each that lies aligned for its type refers to them with a
     * reference to this; the others are copied. */
    struct fm_buffer *owner;
};

/* As fm_oip_request_decode. */
int FM_NODISCARD fm_oip_named_decode(const struct fm_oip_signature *signature,
                                     const struct fm_oip_named *named,
                                     struct fm_oip_request *ret_request, struct fm_error *reterr);
/* The outputs that the request wants are there and valid; else as fm_oip_response_encode says. */
int FM_NODISCARD fm_oip_named_check(const struct fm_oip_signature *signature,
                                    const struct fm_oip_request *request,
                                    const struct fm_value *outputs, struct fm_error *reterr);

#endif
