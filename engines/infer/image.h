/*
 * Images for models that take pixels: decoding, resizing and normalising with the same operators
 * that pipelines use.
 *
 * Owns: guessing what a port wants (layout, size), and the defaults. Does not own: decoding and
 * resizing (host/runtime/operators). Thread rule: a plan is read-only once made and may be used by
 * several threads.
 */
#ifndef FM_ENGINES_INFER_IMAGE_H
#define FM_ENGINES_INFER_IMAGE_H

#include "core/tensor/tensor.h"

enum { FM_PLAN_CHANNELS_MAX = 4, FM_PLAN_SIZE_STEP = 32, FM_PLAN_SIDE_MAX = 16384 };

/* What the user may choose; zero means the default. */
struct fm_image_options {
    uint32_t width; /* for ports that leave it open; 0: the image's own, rounded up to a multiple of
                       FM_PLAN_SIZE_STEP */
    uint32_t height;
    bool has_scale;
    double
        scale; /* value = (pixel * scale - mean) / std; default 1/255, for whole-number ports 1 */
    double mean[FM_PLAN_CHANNELS_MAX];
    double std[FM_PLAN_CHANNELS_MAX]; /* 0: 1 */
    bool bgr;
};

/* How an image becomes the tensor of one port. */
struct fm_image_plan {
    bool usable; /* the port looks like an image */
    bool channels_last;
    uint32_t channels; /* 1 or 3 */
    uint32_t width;    /* 0: the image's */
    uint32_t height;
    uint32_t dtype;
    struct fm_image_options options;
};

/* Looks at a port ([N,C,H,W] or [N,H,W,C], or without N): usable is false when it is not like an
 * image. */
void fm_image_plan_make(const struct fm_port *port, bool batched,
                        const struct fm_image_options *options, struct fm_image_plan *ret_plan);
/* One line for people: "resized to 192 x 48, RGB, NCHW, pixel / 255". Returns text. */
const char *fm_image_plan_describe(const struct fm_image_plan *plan, char *text, size_t size);
/* Decodes JPEG or PNG and makes one row: rank 3, no batch dimension. */
int FM_NODISCARD fm_image_convert(const struct fm_image_plan *plan, const char *label,
                                  const void *data, size_t size, struct fm_value *ret_row,
                                  struct fm_error *reterr);

#endif
