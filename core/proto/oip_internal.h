/*
 * What the two forms of the protocol share behind oip.h and oip_grpc.h, so that a mistake is found
 * by the same check and told in the same words whichever way it came.
 *
 * Owns: the checks of names, types, shapes, sizes and batches, where tensors come from, and what
 * happens to outputs before they are written. Does not own: either syntax. Thread rule: caller's
 * memory.
 */
#ifndef FM_CORE_PROTO_OIP_INTERNAL_H
#define FM_CORE_PROTO_OIP_INTERNAL_H

#include "core/proto/json.h"
#include "core/proto/oip.h"

#define FM_OIP_ID_INLINE 64 /* longer ones cost an allocation */
#define FM_OIP_NAME_SIZE 160

struct fm_oip_decoding {
    const struct fm_oip_signature *signature;
    const struct fm_oip_body *body;
    struct fm_oip_request *request;
    struct fm_error *reterr;
};

/* "shared_memory_region" and its companions, as an input or output names them. */
struct fm_oip_region_request {
    bool given;
    bool has_size;
    uint64_t offset;
    uint64_t size;
    char name[FM_OIP_REGION_BYTES_MAX + 1];
};

/* One input while its members are gathered. */
struct fm_oip_input {
    int64_t port; /* -1: not known yet */
    uint32_t dtype;
    uint32_t rank;
    int64_t shape[FM_RANK_MAX];
    bool has_shape;
    struct fm_oip_region_request region;
};

int fm_oip_no_memory(const struct fm_oip_decoding *decoding);

/* Room for the inputs, the outputs and an id of `id_size` bytes, as one allocation. */
int FM_NODISCARD fm_oip_request_init(const struct fm_oip_decoding *decoding, size_t id_size);
/* Copies an id; FM_ETOOLARGE when it is longer than the protocol's limit here. */
int FM_NODISCARD fm_oip_id_set(const struct fm_oip_decoding *decoding, const char *id,
                               size_t length, size_t room);

/* `name` is none of the ports: "model 'm' has no input 'y'; did you mean 'x'?". */
int fm_oip_port_unknown(const struct fm_oip_decoding *decoding, const char *what, const char *name,
                        const struct fm_port *ports, uint32_t count);
int fm_oip_dtype_unknown(const struct fm_oip_decoding *decoding, const char *name);
/* Appends a dimension. */
int FM_NODISCARD fm_oip_dimension_add(const struct fm_oip_decoding *decoding,
                                      struct fm_oip_input *input, int64_t dimension);
/* input->port is known: was it given before? */
int FM_NODISCARD fm_oip_input_once(const struct fm_oip_decoding *decoding,
                                   const struct fm_oip_input *input);
/* Name, type and shape are known: do they fit the port? */
int FM_NODISCARD fm_oip_input_check(const struct fm_oip_decoding *decoding,
                                    const struct fm_oip_input *input);
int fm_oip_sequence_refused(const struct fm_oip_decoding *decoding);
int fm_oip_number_wrong(const struct fm_oip_decoding *decoding, const char *where, uint64_t max);

/* `size` bytes are said to be the tensor's; `source` is "binary_data_size is", for the message. */
int FM_NODISCARD fm_oip_input_size_check(const struct fm_oip_decoding *decoding,
                                         const struct fm_oip_input *input, uint64_t size,
                                         const char *source);
/* A tensor over bytes of the body: refers to them where ownership and alignment allow, else copies.
 */
int FM_NODISCARD fm_oip_input_from_body(const struct fm_oip_decoding *decoding,
                                        const struct fm_oip_input *input, const char *data,
                                        size_t size, struct fm_value *ret_value);
/* A tensor over bytes of shared memory. */
int FM_NODISCARD fm_oip_input_from_region(const struct fm_oip_decoding *decoding,
                                          const struct fm_oip_input *input,
                                          struct fm_value *ret_value);
/* The parts of a region that are missing. `what` is "input" or "output". */
int FM_NODISCARD fm_oip_region_check(const struct fm_oip_decoding *decoding,
                                     const struct fm_oip_region_request *region, const char *what,
                                     const char *name);
/* The same for input `port`, whose type, shape and size were checked before; `data` holds them. */
int FM_NODISCARD fm_oip_tensor_from_body(const struct fm_oip_decoding *decoding, uint32_t port,
                                         const struct fm_tensor *tensor, const char *data);
int FM_NODISCARD fm_oip_region_name_set(const struct fm_oip_decoding *decoding,
                                        struct fm_oip_region_request *region, const char *name,
                                        size_t length);

/* Appends an output that the client asked for. Takes nothing. */
int FM_NODISCARD fm_oip_output_add(const struct fm_oip_decoding *decoding,
                                   const struct fm_oip_output *output,
                                   const struct fm_oip_region_request *region);
/* At the end: nothing is missing, and batches agree. Sets the request's rows. */
int FM_NODISCARD fm_oip_inputs_settle(const struct fm_oip_decoding *decoding);

/* What the reader of a head saw of it, for the memory. */
struct fm_oip_sight {
    size_t length;   /* of the JSON; 0: there was none */
    bool other;      /* something that is not remembered: data in JSON, shared memory */
    uint32_t ids;    /* how many members named "id" */
    uint32_t inputs; /* binary ones, in the order of their bytes */
    uint8_t ports[FM_OIP_MEMO_PORTS_MAX];
};

/*
 * The request, if its head is remembered and the rest of the body is as long as it says: *ret_found
 * tells. Else nothing was done.
 */
int FM_NODISCARD fm_oip_memo_decode(const struct fm_oip_decoding *decoding, size_t head_length,
                                    bool *ret_found);
/* After a request was read with success. */
void fm_oip_memo_request(const struct fm_oip_decoding *decoding, const struct fm_oip_sight *sight);

/* What an answer is made from. */
struct fm_oip_encoding {
    const struct fm_oip_signature *signature;
    const struct fm_oip_request *request;
    const struct fm_value *outputs;
    fm_oip_labels labels;
    void *labels_context;
    struct fm_oip_response *response;
    struct fm_error *reterr;
};

/* The tensor to send for request->outputs[index]: checked, classified if that was asked, and copied
 * into its region if it has one. */
int FM_NODISCARD fm_oip_output_prepare(const struct fm_oip_encoding *encoding, uint32_t index,
                                       const struct fm_tensor **ret_tensor);
/* The answer's head, if that of an answer with the same shapes is remembered: true, and the head
 * and all parts are there. */
bool fm_oip_memo_encode(const struct fm_oip_encoding *encoding);
/* After the answer was written. */
void fm_oip_memo_response(const struct fm_oip_encoding *encoding);
int FM_NODISCARD fm_oip_response_init(struct fm_oip_response *response, uint32_t part_count);
int fm_oip_response_no_memory(const struct fm_oip_encoding *encoding);

/* --- Tensor data in JSON, both ways --- */

/* Where the elements of a tensor go while they are read. */
struct fm_oip_elements {
    uint32_t dtype;
    unsigned char *out;   /* fixed-size types */
    struct fm_text *text; /* BYTES */
};
/* Puts the reader's current token behind what is already there. FM_ETYPE: no value of that type;
 * FM_ENOMEM, FM_ETOOLARGE. */
int FM_NODISCARD fm_oip_element_store(const struct fm_json_reader *reader, enum fm_json_token token,
                                      struct fm_oip_elements *elements);
/* Whether values of the type can be written in JSON. */
bool fm_oip_has_json_form(uint32_t dtype);
/* Writes the flat array of a tensor that passed fm_tensor_check. False when its type has no JSON
 * form. */
bool fm_oip_elements_write(struct fm_json_writer *writer, const struct fm_tensor *tensor,
                           uint64_t count);

#endif
