/*
 * The table of families. See families.h. Pure.
 */
#include "core/onnx/families.h"

#include <inttypes.h>
#include <string.h>

#include "core/onnx/family_internal.h"
#include "core/onnx/onnx_writer.h"
#include "core/util/error.h"

struct parameter {
    const char *name;
    uint64_t max;
};

static const struct parameter parameters[FM_FAMILY_PARAMETER_COUNT_] = {
    [FM_FAMILY_LAYERS] = {"layers", 512},      [FM_FAMILY_HIDDEN] = {"hidden", 65536},
    [FM_FAMILY_INPUTS] = {"inputs", 1048576},  [FM_FAMILY_OUTPUTS] = {"outputs", 1048576},
    [FM_FAMILY_CHANNELS] = {"channels", 4096}, [FM_FAMILY_IMAGE] = {"image", 2048},
    [FM_FAMILY_KERNEL] = {"kernel", 11},       [FM_FAMILY_SEQUENCE] = {"sequence", 8192},
    [FM_FAMILY_HEADS] = {"heads", 256},        [FM_FAMILY_EXPANSION] = {"expansion", 16},
    [FM_FAMILY_DENSE] = {"dense", 65536},      [FM_FAMILY_TABLES] = {"tables", 512},
    [FM_FAMILY_ROWS] = {"rows", 134217728},    [FM_FAMILY_WIDTH] = {"width", 4096},
    [FM_FAMILY_BOTTOM] = {"bottom", 64},       [FM_FAMILY_TOP] = {"top", 64},
};

struct family {
    const char *name;
    const char *summary;
    const char *largest; /* what makes it large, for messages */
    uint64_t defaults[FM_FAMILY_PARAMETER_COUNT_];
    void (*build)(const struct fm_family_spec *spec, struct fm_onnx_graph *graph);
};

static const struct family families[FM_FAMILY_COUNT_] = {
    [FM_FAMILY_MLP] = {.name = "mlp",
                       .summary = "fully connected layers with ReLU",
                       .largest = "layers, hidden, inputs or outputs",
                       .defaults = {[FM_FAMILY_LAYERS] = 2,
                                    [FM_FAMILY_HIDDEN] = 256,
                                    [FM_FAMILY_INPUTS] = 128,
                                    [FM_FAMILY_OUTPUTS] = 10},
                       .build = fm_family_mlp_build},
    [FM_FAMILY_CNN] = {.name = "cnn",
                       .summary = "convolutions with ReLU and pooling, over a square RGB image",
                       .largest = "layers, channels, kernel or outputs",
                       .defaults = {[FM_FAMILY_LAYERS] = 4,
                                    [FM_FAMILY_CHANNELS] = 32,
                                    [FM_FAMILY_IMAGE] = 32,
                                    [FM_FAMILY_KERNEL] = 3,
                                    [FM_FAMILY_OUTPUTS] = 10},
                       .build = fm_family_cnn_build},
    [FM_FAMILY_RNN] = {.name = "rnn",
                       .summary = "recurrent layers with tanh, over a sequence of vectors",
                       .largest = "layers, hidden, inputs or outputs",
                       .defaults = {[FM_FAMILY_LAYERS] = 2,
                                    [FM_FAMILY_HIDDEN] = 128,
                                    [FM_FAMILY_INPUTS] = 64,
                                    [FM_FAMILY_SEQUENCE] = 32,
                                    [FM_FAMILY_OUTPUTS] = 10},
                       .build = fm_family_rnn_build},
    [FM_FAMILY_LSTM] = {.name = "lstm",
                        .summary = "layers of LSTM cells, over a sequence of vectors",
                        .largest = "layers, hidden, inputs or outputs",
                        .defaults = {[FM_FAMILY_LAYERS] = 2,
                                     [FM_FAMILY_HIDDEN] = 128,
                                     [FM_FAMILY_INPUTS] = 64,
                                     [FM_FAMILY_SEQUENCE] = 32,
                                     [FM_FAMILY_OUTPUTS] = 10},
                        .build = fm_family_rnn_build},
    [FM_FAMILY_TRANSFORMER] = {.name = "transformer",
                               .summary = "encoder blocks: attention and feed-forward layers",
                               .largest = "layers, hidden or expansion",
                               .defaults = {[FM_FAMILY_LAYERS] = 2,
                                            [FM_FAMILY_HIDDEN] = 256,
                                            [FM_FAMILY_HEADS] = 4,
                                            [FM_FAMILY_SEQUENCE] = 64,
                                            [FM_FAMILY_EXPANSION] = 4},
                               .build = fm_family_transformer_build},
    [FM_FAMILY_DLRM] =
        {.name = "dlrm",
         .summary = "a recommender: embedding tables, interaction, two MLPs",
         .largest = "tables, rows, width, dense, hidden, bottom or top",
         .defaults = {[FM_FAMILY_DENSE] = 13,
                      [FM_FAMILY_TABLES] = 8,
                      [FM_FAMILY_ROWS] = 10000,
                      [FM_FAMILY_WIDTH] = 16,
                      [FM_FAMILY_HIDDEN] = 64,
                      [FM_FAMILY_BOTTOM] = 2,
                      [FM_FAMILY_TOP] = 2},
         .build = fm_family_dlrm_build},
};

const char *fm_family_name(enum fm_family family)
{
    return families[family].name;
}

const char *fm_family_summary(enum fm_family family)
{
    return families[family].summary;
}

enum fm_family fm_family_parse(const char *name)
{
    for (int i = 0; i < FM_FAMILY_COUNT_; i++) {
        if (strcmp(families[i].name, name) == 0) {
            return (enum fm_family)i;
        }
    }
    return FM_FAMILY_COUNT_;
}

const char *fm_family_parameter_name(enum fm_family_parameter parameter)
{
    return parameters[parameter].name;
}

enum fm_family_parameter fm_family_parameter_parse(const char *name)
{
    for (int i = 0; i < FM_FAMILY_PARAMETER_COUNT_; i++) {
        if (strcmp(parameters[i].name, name) == 0) {
            return (enum fm_family_parameter)i;
        }
    }
    return FM_FAMILY_PARAMETER_COUNT_;
}

uint64_t fm_family_parameter_max(enum fm_family_parameter parameter)
{
    return parameters[parameter].max;
}

uint64_t fm_family_default(enum fm_family family, enum fm_family_parameter parameter)
{
    return families[family].defaults[parameter];
}

/* "layers, hidden, inputs, outputs". */
static void parameters_list(enum fm_family family, struct fm_text *text)
{
    for (int i = 0; i < FM_FAMILY_PARAMETER_COUNT_; i++) {
        if (families[family].defaults[i] > 0) {
            fm_text_append_format(text, "%s%s", text->length > 0 ? ", " : "", parameters[i].name);
        }
    }
}

static int value_check(enum fm_family family, enum fm_family_parameter parameter, uint64_t value,
                       struct fm_error *reterr)
{
    const char *name = parameters[parameter].name;
    if (families[family].defaults[parameter] == 0) {
        char memory[256];
        struct fm_text text;
        fm_text_begin(&text, memory, sizeof memory);
        parameters_list(family, &text);
        int status =
            fm_error_set(reterr, FM_EINVAL, "%s: a model of the family %s has none; it has %s",
                         name, families[family].name, text.failed ? "others" : text.data);
        fm_text_deinit(&text);
        return status;
    }
    if (value < 1 || value > parameters[parameter].max) {
        return fm_error_set(reterr, FM_EINVAL, "%s: %" PRIu64 " is not from 1 to %" PRIu64, name,
                            value, parameters[parameter].max);
    }
    return 0;
}

int fm_family_set(struct fm_family_spec *spec, enum fm_family_parameter parameter, uint64_t value,
                  struct fm_error *reterr)
{
    int status = value_check(spec->family, parameter, value, reterr);
    if (status == 0) {
        spec->values[parameter] = value;
    }
    return status;
}

uint64_t fm_family_value(const struct fm_family_spec *spec, enum fm_family_parameter parameter)
{
    return spec->values[parameter] > 0 ? spec->values[parameter]
                                       : families[spec->family].defaults[parameter];
}

int fm_family_check(const struct fm_family_spec *spec, struct fm_error *reterr)
{
    for (int i = 0; i < FM_FAMILY_PARAMETER_COUNT_; i++) {
        int status = spec->values[i] == 0 ? 0
                                          : value_check(spec->family, (enum fm_family_parameter)i,
                                                        spec->values[i], reterr);
        if (status != 0) {
            return status;
        }
    }
    uint64_t kernel = fm_family_value(spec, FM_FAMILY_KERNEL);
    if (spec->family == FM_FAMILY_CNN && kernel % 2 == 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "kernel: %" PRIu64 " is even, and has no pixel in its middle: give 1, "
                            "3, 5, 7, 9 or 11",
                            kernel);
    }
    uint64_t hidden = fm_family_value(spec, FM_FAMILY_HIDDEN);
    uint64_t heads = fm_family_value(spec, FM_FAMILY_HEADS);
    if (spec->family == FM_FAMILY_TRANSFORMER && hidden % heads != 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "heads: hidden, %" PRIu64 ", is not a multiple of %" PRIu64
                            ", and each head gets an equal part of it; make it one",
                            hidden, heads);
    }
    return 0;
}

void fm_family_describe(const struct fm_family_spec *spec, struct fm_text *text)
{
    fm_text_append_string(text, families[spec->family].name);
    for (int i = 0; i < FM_FAMILY_PARAMETER_COUNT_; i++) {
        uint64_t value = fm_family_value(spec, (enum fm_family_parameter)i);
        if (value > 0) {
            fm_text_append_format(text, " %s=%" PRIu64, parameters[i].name, value);
        }
    }
    fm_text_append_format(text, " seed=%" PRIu64, spec->seed);
}

int fm_family_build(const struct fm_family_spec *spec, struct fm_onnx_graph *ret_graph,
                    uint64_t *ret_bytes, struct fm_error *reterr)
{
    int status = fm_family_check(spec, reterr);
    if (status != 0) {
        return status;
    }
    fm_onnx_graph_init(ret_graph, spec->seed);
    struct fm_text text = {0};
    fm_family_describe(spec, &text);
    if (text.failed) {
        ret_graph->failed = true;
    } else {
        ret_graph->description = fm_arena_strdup(&ret_graph->arena, text.data);
        ret_graph->failed = ret_graph->description == NULL;
    }
    fm_text_deinit(&text);
    const struct family *family = &families[spec->family];
    family->build(spec, ret_graph);
    uint64_t bytes = 0;
    status = fm_onnx_measure(ret_graph, &bytes, reterr);
    if (status == FM_ETOOLARGE) {
        status = fm_error_set(reterr, status,
                              "this %s would have %.3f GiB, and an ONNX file ends at 2 "
                              "GiB: give it fewer or smaller %s",
                              family->name, (double)bytes / 1073741824.0, family->largest);
    }
    if (status != 0) {
        fm_onnx_graph_deinit(ret_graph);
    } else if (ret_bytes != NULL) {
        *ret_bytes = bytes;
    }
    return status;
}
