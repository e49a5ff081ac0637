/*
 * Operator ctc_decode: the class scores of a text recogniser, step by step along a line, to text.
 *
 * HOW IT WORKS. Greedy CTC (Graves et al., 2006): the best class of each step, runs of the same
 * class taken once, blanks dropped. The confidence is the mean, over the characters, of the
 * probability at the first step of their run. Recognisers trained on languages without spaces
 * seldom let the space win. So between two characters a space is put in when its own probability,
 * at any step from the last of the first character's run to the first of the second's, exceeds
 * space_threshold. Such spaces do not count for the confidence and have no step of their own.
 * Thread rule: the state is constant.
 */
#include <math.h>
#include <string.h>

#include "core/tensor/tensor.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/text.h"
#include "host/runtime/operators/option.h"
#include "host/runtime/operators/row.h"
#include "host/runtime/operators/table.h"

enum {
    PARAMETER_KEYS,
    PARAMETER_BLANK,
    PARAMETER_SPACE,
    PARAMETER_THRESHOLD,
    PARAMETER_INPUT,
};

static const struct fm_operator_parameter parameters[] = {
    [PARAMETER_KEYS] = {"keys_file", NULL,
                        "text file with the character of one class on each line, in order, without "
                        "the blank"},
    [PARAMETER_BLANK] = {"blank", "0",
                         "class that means nothing; the keys are the others in order"},
    [PARAMETER_SPACE] = {"space", "true",
                         "the space is one more class, behind those of the key file"},
    [PARAMETER_THRESHOLD] = {"space_threshold", "0.05",
                             "probability of the space class between two characters above which a "
                             "space is put in; 1: never"},
    [PARAMETER_INPUT] = {"input", "probabilities", "what the scores are: probabilities or logits"},
    {NULL, NULL, NULL},
};

struct ctc_state {
    struct fm_option_lines keys;
    const char **texts; /* by class; NULL for the blank */
    size_t class_count;
    size_t space; /* class, SIZE_MAX: none */
    double space_threshold;
    bool logits;
};

static void ctc_destroy(void *state_)
{
    struct ctc_state *state = state_;
    if (state != NULL) {
        fm_option_lines_deinit(&state->keys);
        fm_free(state->texts);
        fm_free(state);
    }
}

static int classes_make(struct ctc_state *state, uint64_t blank, bool space,
                        struct fm_error *reterr)
{
    state->class_count = state->keys.count + 1 + (space ? 1 : 0);
    state->space = SIZE_MAX;
    if (blank >= state->class_count) {
        return fm_error_set(reterr, FM_EINVAL,
                            "parameter 'blank' is %llu, but the key file makes only %zu classes",
                            (unsigned long long)blank, state->class_count);
    }
    state->texts = fm_alloc(state->class_count * sizeof(state->texts[0]));
    if (state->texts == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for %zu classes", state->class_count);
    }
    size_t key = 0;
    for (size_t i = 0; i < state->class_count; i++) {
        if (i == blank) {
            state->texts[i] = NULL;
        } else if (key < state->keys.count) {
            state->texts[i] = state->keys.lines[key++];
        } else {
            state->texts[i] = " ";
            state->space = i;
        }
    }
    return 0;
}

static int ctc_create(const struct fm_host *host, const struct fm_setting *settings,
                      size_t setting_count, void **ret_state, struct fm_error *reterr)
{
    static const char *const inputs[] = {"probabilities", "logits", NULL};
    (void)host;
    (void)setting_count;
    uint64_t blank = 0;
    bool space = false;
    int input = 0;
    struct ctc_state *state = fm_alloc_zero(1, sizeof(*state));
    if (state == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    int status = fm_option_uint(&settings[PARAMETER_BLANK], 0, 10000000, &blank, reterr);
    if (status == 0) {
        status = fm_option_bool(&settings[PARAMETER_SPACE], &space, reterr);
    }
    if (status == 0) {
        status =
            fm_option_double(&settings[PARAMETER_THRESHOLD], 0, 1, &state->space_threshold, reterr);
    }
    if (status == 0) {
        status = fm_option_choice(&settings[PARAMETER_INPUT], inputs, &input, reterr);
    }
    if (status == 0) {
        status = fm_option_lines_read(&settings[PARAMETER_KEYS], &state->keys, reterr);
    }
    if (status == 0) {
        status = classes_make(state, blank, space, reterr);
    }
    if (status != 0) {
        ctc_destroy(state);
        return status;
    }
    state->logits = input == 1;
    *ret_state = state;
    return 0;
}

static int ctc_ports(void *state, const struct fm_port **ret_inputs, uint32_t *ret_input_count,
                     const struct fm_port **ret_outputs, uint32_t *ret_output_count)
{
    static const struct fm_port input = {
        .name = "scores", .dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, -1}};
    static const struct fm_port outputs[] = {
        {.name = "text", .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {1}},
        {.name = "confidence", .dtype = FM_DTYPE_FP32, .rank = 1, .shape = {1}},
        {.name = "steps", .dtype = FM_DTYPE_INT32, .rank = 1, .shape = {-1}},
    };
    (void)state;
    *ret_inputs = &input;
    *ret_input_count = 1;
    *ret_outputs = outputs;
    *ret_output_count = 3;
    return 0;
}

/* --- Run --- */

/* What is known of a line while it is read. */
struct reading {
    const float *scores; /* [step_count, class_count] */
    size_t step_count;
    struct fm_text text;
    int32_t *steps; /* of the characters kept */
    size_t count;
    double confidence_sum;
    size_t run_class;  /* of the step before; SIZE_MAX at the start */
    size_t last_class; /* of the last character kept */
    size_t last_step;  /* the last step of its run */
};

/* The probability of a class at a step whose greatest score is known. */
static double probability(const struct ctc_state *state, const float *row, size_t class_index,
                          float maximum)
{
    if (!state->logits) {
        return (double)row[class_index];
    }
    return (double)expf(row[class_index] - maximum) /
           fm_row_exp_sum(row, state->class_count, maximum);
}

/* The space's own view of the steps from the last character to `step`. */
static bool space_between(const struct ctc_state *state, const struct reading *reading, size_t step)
{
    for (size_t t = reading->last_step; t <= step; t++) {
        const float *row = reading->scores + t * state->class_count;
        float maximum = 0;
        if (state->logits) {
            (void)fm_row_maximum(row, state->class_count, &maximum);
        }
        if (probability(state, row, state->space, maximum) > state->space_threshold) {
            return true;
        }
    }
    return false;
}

static int line_read(const struct ctc_state *state, struct reading *reading,
                     struct fm_error *reterr)
{
    for (size_t t = 0; t < reading->step_count; t++) {
        const float *row = reading->scores + t * state->class_count;
        float maximum = 0;
        size_t best = fm_row_maximum(row, state->class_count, &maximum);
        if (best == SIZE_MAX || isinf(maximum)) {
            return fm_error_set(reterr, FM_ECORRUPT,
                                "step %zu of %zu has no best class: its scores are NaN or infinite",
                                t, reading->step_count);
        }
        bool kept = state->texts[best] != NULL;
        if (kept && best != reading->run_class) {
            bool spaces = state->space != SIZE_MAX && state->space_threshold < 1;
            if (spaces && reading->count > 0 && best != state->space &&
                reading->last_class != state->space && space_between(state, reading, t)) {
                fm_text_append_char(&reading->text, ' ');
            }
            fm_text_append_string(&reading->text, state->texts[best]);
            reading->steps[reading->count++] = (int32_t)t;
            reading->confidence_sum += probability(state, row, best, maximum);
            reading->last_class = best;
        }
        if (kept) {
            reading->last_step = t;
        }
        reading->run_class = best;
    }
    return reading->text.failed ? fm_error_set(reterr, FM_ENOMEM, "out of memory for the text") : 0;
}

static int reading_emit(struct fm_operator_call *call, const struct reading *reading)
{
    struct fm_tensor like = {
        .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {1}, .size = 4 + reading->text.length};
    void *data = NULL;
    int status = call->emit(call, 0, &like, &data);
    if (status != 0) {
        return status;
    }
    for (int b = 0; b < 4; b++) {
        ((unsigned char *)data)[b] = (unsigned char)(reading->text.length >> (8 * b));
    }
    if (reading->text.length > 0) {
        memcpy((unsigned char *)data + 4, reading->text.data, reading->text.length);
    }
    like.dtype = FM_DTYPE_FP32;
    status = call->emit(call, 1, &like, &data);
    if (status != 0) {
        return status;
    }
    *(float *)data =
        reading->count > 0 ? (float)(reading->confidence_sum / (double)reading->count) : 0;
    like.dtype = FM_DTYPE_INT32;
    like.shape[0] = (int64_t)reading->count;
    status = call->emit(call, 2, &like, &data);
    if (status == 0 && reading->count > 0) {
        memcpy(data, reading->steps, reading->count * sizeof(int32_t));
    }
    return status;
}

static int ctc_run(void *state_, struct fm_operator_call *call)
{
    const struct ctc_state *state = state_;
    const struct fm_tensor *scores = &call->inputs[0].items[0];
    if (scores->shape[1] != (int64_t)state->class_count) {
        return fm_error_set(&call->error, FM_ETYPE,
                            "the scores have %lld classes, but keys_file, blank%s make %zu; is it "
                            "the key file of this model?",
                            (long long)scores->shape[1],
                            state->space != SIZE_MAX ? " and space" : "", state->class_count);
    }
    if (scores->shape[0] > INT32_MAX) {
        return fm_error_set(&call->error, FM_ETOOLARGE, "the scores have %lld steps",
                            (long long)scores->shape[0]);
    }
    struct reading reading = {.scores = scores->data,
                              .step_count = (size_t)scores->shape[0],
                              .run_class = SIZE_MAX,
                              .last_class = SIZE_MAX};
    reading.steps = fm_alloc(reading.step_count * sizeof(reading.steps[0]));
    if (reading.steps == NULL) {
        return fm_error_set(&call->error, FM_ENOMEM, "out of memory for %zu steps",
                            reading.step_count);
    }
    int status = line_read(state, &reading, &call->error);
    if (status == 0) {
        status = reading_emit(call, &reading);
    }
    fm_text_deinit(&reading.text);
    fm_free(reading.steps);
    return status;
}

const struct fm_operator fm_operator_ctc_decode = {
    .struct_size = sizeof(struct fm_operator),
    .abi_major = FM_OPERATOR_ABI_MAJOR,
    .abi_minor = FM_OPERATOR_ABI_MINOR,
    .name = "ctc_decode",
    .summary = "the class scores of a text recogniser to text (greedy CTC)",
    .parameters = parameters,
    .create = ctc_create,
    .destroy = ctc_destroy,
    .ports = ctc_ports,
    .run = ctc_run,
};
