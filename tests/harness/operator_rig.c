/*
 * Running one operator by itself. See operator_rig.h.
 */
#include "tests/harness/operator_rig.h"

#include <string.h>

#include "core/util/assert.h"
#include "core/util/memory.h"

enum { SETTINGS_MAX = 24, TEXT_SIZE = 2048 };

int fm_rig_create(struct fm_rig *rig, const char *operator_name, const char *parameters)
{
    const struct fm_operator *operator_ = NULL;
    struct fm_setting settings[SETTINGS_MAX];
    char text[TEXT_SIZE] = "";
    size_t count = 0;
    *rig = (struct fm_rig){0};
    FM_ASSERT(parameters == NULL || strlen(parameters) < sizeof(text));
    if (parameters != NULL) {
        memcpy(text, parameters, strlen(parameters) + 1);
    }
    char *rest = text;
    for (char *part = strsep(&rest, ";"); part != NULL; part = strsep(&rest, ";")) {
        char *equals = strchr(part, '=');
        if (equals != NULL) {
            FM_ASSERT(count < SETTINGS_MAX);
            *equals = '\0';
            settings[count++] = (struct fm_setting){part, equals + 1};
        }
    }
    int status = fm_operator_find(operator_name, &operator_, &rig->error);
    if (status == 0) {
        status = fm_operator_create(operator_, settings, count, ".", &rig->instance, &rig->error);
    }
    if (status == 0) {
        status = fm_operator_start(rig->instance, "rig", &rig->error);
    }
    if (status == 0) {
        (void)fm_operator_inputs(rig->instance, &rig->input_count);
        (void)fm_operator_outputs(rig->instance, &rig->output_count);
        FM_ASSERT(rig->input_count <= FM_RIG_PORTS_MAX);
        FM_ASSERT(rig->output_count <= FM_RIG_PORTS_MAX);
    }
    return status;
}

void *fm_rig_input(struct fm_rig *rig, uint32_t port, uint32_t dtype, uint32_t rank,
                   const int64_t *shape)
{
    struct fm_value value = {0};
    if (fm_value_alloc(&value, dtype, shape, rank, 0) != 0) {
        return NULL;
    }
    void *data = value.tensor.data;
    memset(data, 0, value.tensor.size);
    if (fm_value_list_append(&rig->inputs[port], &value) != 0) {
        fm_value_unref(&value);
        return NULL;
    }
    return data;
}

void fm_rig_input_bytes(struct fm_rig *rig, uint32_t port, const void *data, size_t size)
{
    struct fm_value value = {0};
    int status = fm_value_from_bytes(&value, data, size);
    FM_ASSERT(status == 0);
    status = fm_value_list_append(&rig->inputs[port], &value);
    FM_ASSERT(status == 0);
}

int fm_rig_run(struct fm_rig *rig)
{
    for (uint32_t i = 0; i < FM_RIG_PORTS_MAX; i++) {
        fm_value_list_deinit(&rig->outputs[i]);
    }
    rig->error = (struct fm_error){0};
    return fm_operator_run(rig->instance, rig->inputs, rig->input_count, rig->outputs,
                           rig->output_count, FM_OPERATOR_FAN_OUT_DEFAULT, &rig->error);
}

const struct fm_tensor *fm_rig_output(const struct fm_rig *rig, uint32_t port)
{
    return rig->outputs[port].count > 0 ? &rig->outputs[port].items[0].tensor : NULL;
}

void fm_rig_inputs_clear(struct fm_rig *rig)
{
    for (uint32_t i = 0; i < FM_RIG_PORTS_MAX; i++) {
        fm_value_list_deinit(&rig->inputs[i]);
    }
}

void fm_rig_destroy(struct fm_rig *rig)
{
    fm_rig_inputs_clear(rig);
    for (uint32_t i = 0; i < FM_RIG_PORTS_MAX; i++) {
        fm_value_list_deinit(&rig->outputs[i]);
    }
    fm_operator_destroy(rig->instance);
    rig->instance = NULL;
}
