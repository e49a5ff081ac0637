/*
 * The operators of the OCR plug-in, and what they share.
 *
 * Owns: declarations, parameter parsing, error texts. Thread rule: as in fermata/operator.h; run()
 * is called from many threads at once.
 */
#ifndef FM_EXAMPLES_OCR_OPERATORS_H
#define FM_EXAMPLES_OCR_OPERATORS_H

#include <stdbool.h>

#include "examples/ocr/rectangle.h"
#include "fermata/operator.h"

/* [prob map, page image] -> many quads in reading order. */
extern const struct fm_operator ocr_boxes_operator;
/* [many crops, many class probabilities, many quads] -> many crops and quads of the upright page,
 * and whether it stood on its head. */
extern const struct fm_operator ocr_orient_operator;
/* [many texts, many confidences, many quads] -> one page. */
extern const struct fm_operator ocr_page_operator;

/* Sets *error (NULL allowed) and returns status. */
int ocr_fail(struct fm_error *error, int status, const char *format, ...) FM_PRINTF(3, 4);

/* A number between min and max, both included, or FM_EINVAL naming the parameter. */
int ocr_parameter(const struct fm_setting *setting, double min, double max, double *ret_value,
                  struct fm_error *reterr);

/* Reads a [4, 2] FP32 tensor of finite numbers. FM_ETYPE for another shape, FM_EINVAL for a value
 * that is not finite. */
int ocr_quad_read(const struct fm_tensor *tensor, struct ocr_quad *ret_quad,
                  struct fm_error *reterr);
void ocr_quad_write(const struct ocr_quad *quad, float ret_values[8]);

#endif
