/*
 * What the options of `fermata infer` say about images, shapes and output files.
 *
 * Owns: reading them, and refusing those that mean nothing for the model at hand. Does not own:
 * using them (cmd/infer.c, engines/infer). Everything lies in the call's arena. Every EINVAL is a
 * wrong argument (fm_call_fail_arguments). Thread rule: the main thread.
 */
#ifndef FM_CMD_INFER_OPTIONS_H
#define FM_CMD_INFER_OPTIONS_H

#include "cmd/command.h"
#include "engines/infer/image.h"
#include "engines/profile/inputs.h"

/* One --shape. */
struct fm_infer_shape {
    const char *text;
    struct fm_input_shape shape;
    bool used; /* raw numbers took it */
};

/* One --output. */
struct fm_infer_output {
    const char *text;
    const char *path;
    uint32_t port; /* set by fm_infer_options_check */
};

struct fm_infer_options {
    const char *image_option; /* the first of the image options that was given; NULL: none */
    struct fm_image_options image;
    struct fm_infer_shape *shapes;
    uint32_t shape_count;
    struct fm_infer_output *outputs;
    uint32_t output_count;
    size_t input_bytes_max;
};

/* The ports that the options are held against, borrowed. */
struct fm_infer_ports {
    const char *name; /* of the model or pipeline */
    const struct fm_port *inputs;
    uint32_t input_count;
    const struct fm_port *outputs;
    uint32_t output_count;
    const struct fm_image_plan *plans; /* by input */
};

/* Looks at the texts alone: nothing was opened yet. */
int FM_NODISCARD fm_infer_options_parse(const struct fm_call *call,
                                        struct fm_infer_options *ret_options,
                                        struct fm_error *reterr);
/* Refuses options for ports that do not exist or do not look like an image, and fills in the ports
 * of the outputs. */
int FM_NODISCARD fm_infer_options_check(struct fm_infer_options *options,
                                        const struct fm_infer_ports *ports,
                                        struct fm_error *reterr);
/* Whether every output file can be written, without touching any. File errors, not EINVAL alone. */
int FM_NODISCARD fm_infer_outputs_check(const struct fm_infer_options *options,
                                        struct fm_error *reterr);

/* The port called by the first `length` bytes of `name`; -1 when there is none. */
int fm_infer_port_find(const struct fm_port *ports, uint32_t count, const char *name,
                       size_t length);
/* "a, b, c", cut to size. Returns text. */
const char *fm_infer_port_names(const struct fm_port *ports, uint32_t count, char *text,
                                size_t size);

#endif
