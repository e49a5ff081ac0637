/*
 * An operator for the tests of batch workers: test_crash gives its input back, but ends the whole
 * process where that contains the word "poison", and never comes back where it contains "hang" (or
 * "stubborn": then SIGTERM is ignored as well). "leak N" keeps N MiB for ever, "take N" has N MiB
 * for a moment, and fails as an operator does where there are none. "collapse N" takes them, and
 * ends the process a moment later. "sleep N" waits for N milliseconds. A worker that loads it hangs
 * as long as the file that FM_TEST_HANG_FILE names is there.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fermata/operator.h"

static int crash_create(const struct fm_host *host, const struct fm_setting *settings,
                        size_t setting_count, void **ret_state, struct fm_error *reterr)
{
    char line[64] = "";
    const char *file = getenv("FM_TEST_HANG_FILE");
    FILE *own = file != NULL ? fopen("/proc/self/cmdline", "re") : NULL;
    size_t length = own != NULL ? fread(line, 1, sizeof(line) - 1, own) : 0;
    (void)host;
    (void)settings;
    (void)setting_count;
    (void)reterr;
    if (own != NULL) {
        (void)fclose(own);
    }
    while (memmem(line, length, "\0worker", 7) != NULL && access(file, F_OK) == 0) {
        (void)usleep(10000);
    }
    *ret_state = NULL;
    return 0;
}

static void crash_destroy(void *state)
{
    (void)state;
}

static int crash_ports(void *state, const struct fm_port **ret_inputs, uint32_t *ret_input_count,
                       const struct fm_port **ret_outputs, uint32_t *ret_output_count)
{
    static const struct fm_port input = {
        .name = "x", .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {1}};
    static const struct fm_port output = {
        .name = "out", .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {1}};
    (void)state;
    *ret_inputs = &input;
    *ret_input_count = 1;
    *ret_outputs = &output;
    *ret_output_count = 1;
    return 0;
}

/* The number behind a word of the input; 0: the word is not there. */
static size_t number_behind(const struct fm_tensor *input, const char *word)
{
    size_t number = 0;
    const char *end = (const char *)input->data + input->size;
    const char *at = memmem(input->data, input->size, word, strlen(word));
    for (at = at != NULL ? at + strlen(word) : end; at < end && *at >= '0' && *at <= '9'; at++) {
        number = number * 10 + (size_t)(*at - '0');
    }
    return number;
}

/* Memory that is really used. */
static char *taken(size_t mebibytes)
{
    /* No machine has a million of them: sanitizers end a process that asks. */
    char *memory = mebibytes < 1000000 ? malloc(mebibytes << 20) : NULL;
    for (size_t i = 0; memory != NULL && i < mebibytes << 20; i += 4096) {
        memory[i] = (char)(i >> 12 | 1);
    }
    return memory;
}

static int memory_use(const struct fm_tensor *input)
{
    size_t leak = number_behind(input, "leak ");
    size_t take = number_behind(input, "take ");
    size_t collapse = number_behind(input, "collapse ");
    if (collapse > 0 && taken(collapse) == NULL) {
        return FM_ENOMEM;
    }
    if (collapse > 0) {
        (void)usleep(1200000);
        abort();
    }
    if (leak > 0 && taken(leak) == NULL) {
        return FM_ENOMEM;
    }
    if (take > 0) {
        char *memory = taken(take);
        if (memory == NULL) {
            return FM_ENOMEM;
        }
        (void)usleep(100000);
        free(memory);
    }
    return 0;
}

static int crash_run(void *state, struct fm_operator_call *call)
{
    (void)state;
    const struct fm_tensor *input = &call->inputs[0].items[0];
    void *data = NULL;
    if (memmem(input->data, input->size, "poison", 6) != NULL) {
        abort();
    }
    if (memmem(input->data, input->size, "stubborn", 8) != NULL) {
        (void)signal(SIGTERM, SIG_IGN);
    }
    while (memmem(input->data, input->size, "hang", 4) != NULL ||
           memmem(input->data, input->size, "stubborn", 8) != NULL) {
        (void)sleep(1);
    }
    (void)usleep((useconds_t)number_behind(input, "sleep ") * 1000);
    int status = memory_use(input);
    status = status != 0 ? status : call->emit(call, 0, input, &data);
    if (status == 0) {
        memcpy(data, input->data, input->size);
    }
    return status;
}

static const struct fm_operator crash = {
    .struct_size = sizeof(struct fm_operator),
    .abi_major = FM_OPERATOR_ABI_MAJOR,
    .abi_minor = FM_OPERATOR_ABI_MINOR,
    .name = "test_crash",
    .summary = "ends the process where its input says so",
    .create = crash_create,
    .destroy = crash_destroy,
    .ports = crash_ports,
    .run = crash_run,
};

static const struct fm_operator *const operators[] = {&crash};
static const struct fm_operator_plugin plugin = {
    .struct_size = sizeof(struct fm_operator_plugin),
    .abi_major = FM_OPERATOR_ABI_MAJOR,
    .abi_minor = FM_OPERATOR_ABI_MINOR,
    .name = "test_crash",
    .operators = operators,
    .operator_count = 1,
};

FM_PLUGIN_EXPORT const struct fm_operator_plugin *fm_operator_entry(uint16_t major, uint16_t minor);

const struct fm_operator_plugin *fm_operator_entry(uint16_t major, uint16_t minor)
{
    (void)minor;
    return major == FM_OPERATOR_ABI_MAJOR ? &plugin : NULL;
}
