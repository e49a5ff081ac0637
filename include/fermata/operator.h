/*
 * The operator plug-in ABI: pre- and post-processing steps of a pipeline, written in C.
 *
 * A plug-in is a shared object that exports fm_operator_entry(), which returns a table of
 * operators. An operator is created once per stage with that stage's parameters and then run once
 * per item, from many threads at once (so run() treats the state as constant).
 *
 * Items and scopes: a stage runs once for each item of its scope. An output port flagged
 * FM_PORT_MANY fans out: each element becomes an item of a new, inner scope. An input port flagged
 * FM_PORT_MANY fans in: it receives the values of all items of the inner scope, in order. All other
 * ports carry exactly one tensor per item. Values of an outer scope can be used as inputs in an
 * inner one.
 *
 * Compatibility is as in backend.h: struct_size first, append only, a different major is refused.
 */
#ifndef FERMATA_OPERATOR_H
#define FERMATA_OPERATOR_H

#include "fermata/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

#define FM_OPERATOR_ABI_MAJOR 1
#define FM_OPERATOR_ABI_MINOR 1

/* A declared parameter: the host rejects unknown ones, with a suggestion, and fills in defaults
 * before create() sees them. */
struct fm_operator_parameter {
    const char *name;
    const char *default_value; /* NULL: required; "" : optional, absent stays "" */
    const char *help;          /* one line with unit and range */
};

/* All tensors of one input port: one element, or any number for FM_PORT_MANY; 0 for an absent
 * optional input. */
struct fm_tensor_list {
    const struct fm_tensor *items;
    size_t count;
};

/* One run on one item. Owned by the host; valid during run() only. */
struct fm_operator_call {
    uint32_t struct_size;
    uint32_t input_count;
    uint32_t output_count;
    uint32_t reserved;
    const struct fm_tensor_list *inputs; /* in port order; bytes are read-only and borrowed */

    /*
     * Appends one element to output port `port` and returns memory for its bytes in *ret_data
     * (aligned to 64, uninitialised, owned by the host). `like` gives dtype, rank, shape and size;
     * its data is ignored. A port without FM_PORT_MANY must get exactly one element; ports with
     * FM_PORT_MANY of one call must all get the same number. Fails with FM_ENOMEM, FM_ELIMIT
     * (fan-out limit), FM_ETYPE (not what the port declares).
     */
    int (*emit)(struct fm_operator_call *call, uint32_t port, const struct fm_tensor *like,
                void **ret_data);
    /* Appends element `index` of input `input` to output `port` without copying. */
    int (*forward)(struct fm_operator_call *call, uint32_t port, uint32_t input, size_t index);

    struct fm_error error; /* run() sets it when it fails: it ends up in the dead-letter record */
    void *host_private;
};

/* What the host may want to know of an operator with its parameters. Since 1.1. */
struct fm_operator_info {
    uint32_t struct_size;  /* set by the caller */
    uint32_t runs_at_once; /* more make no sense; 0: as many as there are threads */
    /* Files whose content decides what it answers: a job is not resumed when one has changed. Those
     * that parameters name (in "_path" or "file") count without being told. Paths belong to the
     * state. */
    const char *const *files;
    size_t file_count;
};

struct fm_operator {
    uint32_t struct_size;
    uint16_t abi_major;
    uint16_t abi_minor;
    const char *name;                               /* as in the pipeline file */
    const char *summary;                            /* one line */
    const struct fm_operator_parameter *parameters; /* terminated by name == NULL; NULL: none */

    /* Settings hold every declared parameter, in order. On success *ret_state is the operator's
     * (may be NULL). */
    int (*create)(const struct fm_host *host, const struct fm_setting *settings,
                  size_t setting_count, void **ret_state, struct fm_error *reterr);
    void (*destroy)(void *state); /* accepts NULL */

    /* Ports, which may depend on the parameters. Pointers belong to the state (or are static). */
    int (*ports)(void *state, const struct fm_port **ret_inputs, uint32_t *ret_input_count,
                 const struct fm_port **ret_outputs, uint32_t *ret_output_count);

    /* One item. 0, or a negative status with call->error set; the item's row is then dead-lettered,
     * others go on. */
    int (*run)(void *state, struct fm_operator_call *call);

    /* Since 1.1. NULL: there is nothing to say. */
    int (*info)(void *state, struct fm_operator_info *ret_info);

    /* Since 1.1. Called once, before the first run, of a stage that is going to be used and not
     * only checked: what takes threads, processes or devices begins here. `stage` is its name in
     * the pipeline. May take long; never called on a serving thread. NULL: there is nothing to
     * start. */
    int (*start)(void *state, const char *stage, struct fm_error *reterr);
};

struct fm_operator_plugin {
    uint32_t struct_size;
    uint16_t abi_major;
    uint16_t abi_minor;
    const char *name; /* of the plug-in, for messages */
    const struct fm_operator *const *operators;
    size_t operator_count;
};

#define FM_OPERATOR_ENTRY_SYMBOL "fm_operator_entry"
typedef const struct fm_operator_plugin *(*fm_operator_entry_function)(uint16_t host_abi_major,
                                                                       uint16_t host_abi_minor);

#ifdef __cplusplus
}
#endif
#endif
