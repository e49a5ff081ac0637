/*
 * A host for one operator call: keeps what the operator gives out. For tests of plug-in operators.
 *
 * Thread rule: one thread.
 */
#ifndef FM_TESTS_UNIT_EXAMPLES_OCR_CALL_H
#define FM_TESTS_UNIT_EXAMPLES_OCR_CALL_H

#include <stdlib.h>
#include <string.h>

#include "fermata/operator.h"

#define CALL_PORTS_MAX    8
#define CALL_ELEMENTS_MAX 4096

struct call {
    struct fm_operator_call call; /* first: the functions below cast back */
    struct fm_tensor_list inputs[CALL_PORTS_MAX];
    struct fm_tensor outputs[CALL_PORTS_MAX][CALL_ELEMENTS_MAX];
    size_t counts[CALL_PORTS_MAX];
    size_t forwards;
    size_t emit_fails_at; /* 1: the next emit fails; 0: none */
};

static int call_emit(struct fm_operator_call *call, uint32_t port, const struct fm_tensor *like,
                     void **ret_data)
{
    struct call *self = (struct call *)call;
    if (port >= CALL_PORTS_MAX || self->counts[port] == CALL_ELEMENTS_MAX ||
        (self->emit_fails_at > 0 && --self->emit_fails_at == 0)) {
        return FM_ENOMEM;
    }
    struct fm_tensor *output = &self->outputs[port][self->counts[port]++];
    *output = *like;
    output->data = calloc(1, like->size + 1);
    *ret_data = output->data;
    return output->data == NULL ? FM_ENOMEM : FM_OK;
}

static int call_forward(struct fm_operator_call *call, uint32_t port, uint32_t input, size_t index)
{
    struct call *self = (struct call *)call;
    void *data = NULL;
    int status = call_emit(call, port, &self->inputs[input].items[index], &data);
    if (status == FM_OK) {
        memcpy(data, self->inputs[input].items[index].data, self->inputs[input].items[index].size);
        self->forwards++;
    }
    return status;
}

static struct call *call_create(uint32_t input_count)
{
    struct call *self = calloc(1, sizeof(*self));
    if (self == NULL) {
        abort();
    }
    self->call.struct_size = sizeof(self->call);
    self->call.input_count = input_count;
    self->call.inputs = self->inputs;
    self->call.emit = call_emit;
    self->call.forward = call_forward;
    return self;
}

static void call_destroy(struct call *self)
{
    for (size_t i = 0; i < CALL_PORTS_MAX; i++) {
        for (size_t j = 0; j < self->counts[i]; j++) {
            free(self->outputs[i][j].data);
        }
    }
    free(self);
}

/* Creates the operator with its default parameters, but `value` for `name` (both may be NULL). */
static int operator_create(const struct fm_operator *op, const char *name, const char *value,
                           void **ret_state, struct fm_error *reterr)
{
    struct fm_setting settings[16];
    size_t count = 0;
    for (const struct fm_operator_parameter *p = op->parameters; p != NULL && p->name != NULL;
         p++) {
        settings[count].key = p->name;
        settings[count++].value =
            name != NULL && strcmp(name, p->name) == 0 ? value : p->default_value;
    }
    return op->create(NULL, settings, count, ret_state, reterr);
}

#endif
