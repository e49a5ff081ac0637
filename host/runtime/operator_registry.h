/*
 * Operators by name: the built-in table and those of loaded plug-ins.
 *
 * Owns: lookup, loading of operator plug-ins (libfm_operator_<name>.so, searched as backends are),
 * checking of tables and parameters, and the call machinery that gives an operator its inputs and
 * collects its outputs. Does not own: threads. Thread rule: registration happens before operators
 * run; fm_operator_run may be called from many threads.
 */
#ifndef FM_HOST_RUNTIME_OPERATOR_REGISTRY_H
#define FM_HOST_RUNTIME_OPERATOR_REGISTRY_H

#include "core/tensor/tensor.h"
#include "fermata/operator.h"

/* Most elements that one fan-out may produce: the default of `fan_out_max`. */
#define FM_OPERATOR_FAN_OUT_DEFAULT 4096

/* Loads a plug-in by name (searched) or, when it contains '/', by path. Loading twice is fine. */
int FM_NODISCARD fm_operator_plugin_load(const char *name_or_path, struct fm_error *reterr);
int FM_NODISCARD fm_operator_plugin_check(const struct fm_operator_plugin *plugin,
                                          const char *origin, struct fm_error *reterr);

/* Built-ins first. ENOTFOUND suggests the nearest name. */
int FM_NODISCARD fm_operator_find(const char *name, const struct fm_operator **ret_operator,
                                  struct fm_error *reterr);
/* All known operators in order: index from 0, NULL behind the last (for `fermata operators` and
 * docs). */
const struct fm_operator *fm_operator_at(size_t index);

/* An operator with its parameters: what a stage runs. */
struct fm_operator_instance;

/* Rejects unknown and missing parameters by name; fills in defaults. base_directory resolves
 * parameters that are paths (name ends in "_path" or "file"). */
int FM_NODISCARD fm_operator_create(const struct fm_operator *operator_,
                                    const struct fm_setting *settings, size_t setting_count,
                                    const char *base_directory,
                                    struct fm_operator_instance **ret_instance,
                                    struct fm_error *reterr);
void fm_operator_destroy(struct fm_operator_instance *instance); /* accepts NULL */
/* What the operator has to begin before its first run, for a stage of that name. */
int FM_NODISCARD fm_operator_start(const struct fm_operator_instance *instance, const char *stage,
                                   struct fm_error *reterr);
/* What it says of itself, or that there is nothing to say. Pointers belong to the instance. */
int FM_NODISCARD fm_operator_info(const struct fm_operator_instance *instance,
                                  struct fm_operator_info *ret_info, struct fm_error *reterr);
/* The paths that its parameters name, resolved. They belong to the instance. */
const char *const *fm_operator_paths(const struct fm_operator_instance *instance,
                                     size_t *ret_count);
const struct fm_port *fm_operator_inputs(const struct fm_operator_instance *instance,
                                         uint32_t *ret_count);
const struct fm_port *fm_operator_outputs(const struct fm_operator_instance *instance,
                                          uint32_t *ret_count);

/* The elements of one port, each with a reference of its own. */
struct fm_value_list {
    struct fm_value *items; /* fm_alloc'ed array */
    size_t count;
    size_t capacity;
};
void fm_value_list_deinit(struct fm_value_list *list); /* unrefs all, frees the array, zeroes */
int FM_NODISCARD fm_value_list_append(struct fm_value_list *list,
                                      struct fm_value *take_value); /* takes on success */

/*
 * Runs once. inputs[input_count] borrowed. On success outputs[output_count] (zeroed by the caller)
 * hold the emitted elements, checked: exactly one for ordinary ports, equal numbers on FM_PORT_MANY
 * ports, dtype and shape as declared. On failure they are empty.
 */
int FM_NODISCARD fm_operator_run(const struct fm_operator_instance *instance,
                                 const struct fm_value_list *inputs, uint32_t input_count,
                                 struct fm_value_list *outputs, uint32_t output_count,
                                 size_t fan_out_max, struct fm_error *reterr);

#endif
