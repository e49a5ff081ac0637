/*
 * Recorded requests: JSON Lines, a request a line, its tensors as base64 (docs/payloads.md).
 *
 * Owns: the format, written and read. Does not own: the file, who records and who replays. Thread
 * rule: caller's memory.
 *
 * Why this form: any program can read it that has JSON and base64. The tensors of a line
 * stand under `inputs` in the form of NVIDIA's perf_analyzer (--input-data); their bytes are those
 * of the protocol's binary tensors. A directory of NPY files would need a second file for times,
 * and one request would be several files.
 */
#ifndef FM_CORE_PROTO_PAYLOAD_H
#define FM_CORE_PROTO_PAYLOAD_H

#include "core/tensor/tensor.h"
#include "core/util/memory.h"
#include "core/util/text.h"

#define FM_PAYLOAD_FORMAT    "fermata-payloads/1"
#define FM_PAYLOAD_PORTS_MAX 1024u

struct fm_payload_input {
    const char *name;
    struct fm_tensor tensor;
};

struct fm_payload_output {
    const char *name;
    uint32_t classes; /* 0: the tensor itself */
};

enum fm_payload_kind {
    FM_PAYLOAD_BEGIN,   /* the first line */
    FM_PAYLOAD_REQUEST, /* any number of lines */
    FM_PAYLOAD_END      /* the last line, if the recording was ended rather than cut off */
};

/* One line. Everything is borrowed. */
struct fm_payload {
    enum fm_payload_kind kind;
    uint64_t time_ns; /* since the beginning; END: how long it was */

    /* BEGIN */
    const char *server;     /* which program wrote it; may be NULL */
    uint64_t start_wall_ns; /* 0: not said */

    /* REQUEST */
    const char *protocol; /* "http", "grpc" or "local"; may be NULL */
    const char *model;
    uint64_t version; /* of the model that was asked; 0: not said */
    const char *id;   /* NULL: none */
    size_t id_length;
    uint64_t timeout_us; /* from its arrival to the deadline that it brought; 0: none */
    uint64_t priority;   /* 0: none */
    const struct fm_payload_input *inputs;
    uint32_t input_count;
    const struct fm_payload_output *outputs; /* that were asked for; none: all */
    uint32_t output_count;

    /* END: requests */
    uint64_t recorded;
    uint64_t left_out;    /* because they did not fit, or could not be written */
    uint64_t sampled_out; /* because only a share was wanted */
};

/* Appends the line with its line feed; check text->failed. */
void fm_payload_write(struct fm_text *text, const struct fm_payload *payload);
/*
 * Reads a line, with or without its line feed; what the payload refers to is in the arena. Members
 * that are not known are skipped: newer writers may add some. FM_EINVAL, FM_ETYPE (a tensor whose
 * type, shape and size disagree), FM_EUNSUPPORTED (another format), FM_ETOOLARGE, FM_ENOMEM.
 */
int FM_NODISCARD fm_payload_read(const char *line, size_t length, struct fm_arena *arena,
                                 struct fm_payload *ret_payload, struct fm_error *reterr);

#endif
