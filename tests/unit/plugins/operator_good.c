/*
 * A well-made operator plug-in for the tests of the registry: test_repeat gives each number of its
 * input as an element.
 */
#include <string.h>

#include "fermata/operator.h"

static int nothing_create(const struct fm_host *host, const struct fm_setting *settings,
                          size_t setting_count, void **ret_state, struct fm_error *reterr)
{
    (void)host;
    (void)settings;
    (void)setting_count;
    (void)reterr;
    *ret_state = NULL;
    return 0;
}

static void nothing_destroy(void *state)
{
    (void)state;
}

static int repeat_ports(void *state, const struct fm_port **ret_inputs, uint32_t *ret_input_count,
                        const struct fm_port **ret_outputs, uint32_t *ret_output_count)
{
    static const struct fm_port input = {
        .name = "x", .dtype = FM_DTYPE_INT32, .rank = 1, .shape = {-1}};
    static const struct fm_port output = {
        .name = "element", .dtype = FM_DTYPE_INT32, .rank = 1, .shape = {1}, .flags = FM_PORT_MANY};
    (void)state;
    *ret_inputs = &input;
    *ret_input_count = 1;
    *ret_outputs = &output;
    *ret_output_count = 1;
    return 0;
}

static int repeat_run(void *state, struct fm_operator_call *call)
{
    (void)state;
    const struct fm_tensor *input = &call->inputs[0].items[0];
    for (int64_t i = 0; i < input->shape[0]; i++) {
        const struct fm_tensor like = {.dtype = FM_DTYPE_INT32, .rank = 1, .shape = {1}};
        void *data = NULL;
        int status = call->emit(call, 0, &like, &data);
        if (status != 0) {
            return status;
        }
        memcpy(data, (const int32_t *)input->data + i, sizeof(int32_t));
    }
    return 0;
}

static const struct fm_operator repeat = {
    .struct_size = sizeof(struct fm_operator),
    .abi_major = FM_OPERATOR_ABI_MAJOR,
    .abi_minor = FM_OPERATOR_ABI_MINOR,
    .name = "test_repeat",
    .summary = "one element for each number",
    .create = nothing_create,
    .destroy = nothing_destroy,
    .ports = repeat_ports,
    .run = repeat_run,
};

static const struct fm_operator *const operators[] = {&repeat};
static const struct fm_operator_plugin plugin = {
    .struct_size = sizeof(struct fm_operator_plugin),
    .abi_major = FM_OPERATOR_ABI_MAJOR,
    .abi_minor = FM_OPERATOR_ABI_MINOR,
    .name = "test_good",
    .operators = operators,
    .operator_count = 1,
};

FM_PLUGIN_EXPORT const struct fm_operator_plugin *fm_operator_entry(uint16_t major, uint16_t minor);

const struct fm_operator_plugin *fm_operator_entry(uint16_t major, uint16_t minor)
{
    (void)minor;
    return major == FM_OPERATOR_ABI_MAJOR ? &plugin : NULL;
}
