/*
 * Linking a pipeline: names to values, stages to scopes, types to types. See pipeline.h. Pure.
 *
 * HOW IT WORKS. Values are numbered first (pipeline inputs, then every stage's outputs), so that
 * bindings resolve in any order of declaration. Kahn's algorithm then orders the stages; what is
 * left over lies on a cycle. In that order each stage's scope follows from the scopes of its
 * inputs, and types are checked edge by edge.
 */
#include "core/plan/pipeline.h"

#include <stdio.h>
#include <string.h>

#include "core/tensor/tensor.h"
#include "core/util/error.h"
#include "core/util/text.h"

struct linker {
    const struct fm_pipeline_spec *spec;
    struct fm_pipeline *pipeline;
    struct fm_error *reterr;
};

static int out_of_memory(const struct linker *linker)
{
    return fm_error_set(linker->reterr, FM_ENOMEM, "%s: out of memory while linking the pipeline",
                        linker->spec->file);
}

/* "file:line:column: " in front of the message, as compilers do; the position is left out when it
 * is unknown. */
#define LINK_ERROR(linker, mark, status, ...) link_error((linker), (mark), (status), __VA_ARGS__)

static int link_error(const struct linker *linker, struct fm_mark mark, int status,
                      const char *format, ...) FM_PRINTF(4, 5);

static int link_error(const struct linker *linker, struct fm_mark mark, int status,
                      const char *format, ...)
{
    char message[FM_ERROR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    if (mark.line == 0) {
        return fm_error_set(linker->reterr, status, "%s: %s", linker->spec->file, message);
    }
    return fm_error_set(linker->reterr, status, "%s:%u:%u: %s", linker->spec->file, mark.line,
                        mark.column, message);
}

static int check_names(const struct linker *linker)
{
    const struct fm_pipeline_spec *spec = linker->spec;
    if (spec->stage_count == 0 || spec->stage_count > FM_PIPELINE_STAGES_MAX) {
        return LINK_ERROR(linker, (struct fm_mark){0}, FM_EINVAL,
                          "a pipeline has 1 to %d stages, this one has %zu", FM_PIPELINE_STAGES_MAX,
                          spec->stage_count);
    }
    if (spec->input_count > FM_PIPELINE_PORTS_MAX || spec->output_count > FM_PIPELINE_PORTS_MAX) {
        return LINK_ERROR(linker, (struct fm_mark){0}, FM_EINVAL,
                          "a pipeline has at most %d inputs and %d outputs", FM_PIPELINE_PORTS_MAX,
                          FM_PIPELINE_PORTS_MAX);
    }
    if (spec->output_count == 0) {
        return LINK_ERROR(linker, (struct fm_mark){0}, FM_EINVAL,
                          "the pipeline has no outputs: name at least one under 'outputs'");
    }
    for (size_t i = 0; i < spec->stage_count; i++) {
        const struct fm_stage_spec *stage = &spec->stages[i];
        if (stage->name[0] == '\0' || strchr(stage->name, '.') != NULL) {
            return LINK_ERROR(linker, stage->mark, FM_EINVAL,
                              "'%s' is no stage name: it must not be empty or contain '.'",
                              stage->name);
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(stage->name, spec->stages[j].name) == 0) {
                return LINK_ERROR(linker, stage->mark, FM_EINVAL,
                                  "two stages are called '%s': rename one", stage->name);
            }
        }
        for (size_t j = 0; j < spec->input_count; j++) {
            if (strcmp(stage->name, spec->inputs[j].name) == 0) {
                return LINK_ERROR(
                    linker, stage->mark, FM_EINVAL,
                    "a stage and an input of the pipeline are both called '%s': rename one",
                    stage->name);
            }
        }
    }
    for (size_t i = 0; i < spec->output_count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (strcmp(spec->outputs[i].port, spec->outputs[j].port) == 0) {
                return LINK_ERROR(linker, spec->outputs[i].mark, FM_EINVAL,
                                  "two outputs are called '%s'", spec->outputs[i].port);
            }
        }
    }
    return 0;
}

/* The port as one item of the stage sees it: without the batch dimension that the executor adds. */
static struct fm_port item_port(const struct fm_pipeline_stage *stage, const struct fm_port *port)
{
    struct fm_port item = *port;
    if (stage->spec->kind == FM_STAGE_MODEL && stage->ports.batch_max > 0 &&
        !stage->spec->items_have_rows && item.rank > 0) {
        item.rank--;
        memmove(&item.shape[0], &item.shape[1], (size_t)item.rank * sizeof(item.shape[0]));
    }
    return item;
}

static int number_values(struct linker *linker, const struct fm_stage_ports *ports)
{
    struct fm_pipeline *pipeline = linker->pipeline;
    const struct fm_pipeline_spec *spec = linker->spec;
    uint32_t count = (uint32_t)spec->input_count;
    for (size_t i = 0; i < spec->stage_count; i++) {
        if (ports[i].input_count > FM_PIPELINE_PORTS_MAX ||
            ports[i].output_count > FM_PIPELINE_PORTS_MAX) {
            return LINK_ERROR(linker, spec->stages[i].mark, FM_EINVAL,
                              "stage '%s': more than %d inputs or outputs", spec->stages[i].name,
                              FM_PIPELINE_PORTS_MAX);
        }
        count += ports[i].output_count;
    }
    pipeline->stage_count = (uint32_t)spec->stage_count;
    pipeline->stages =
        fm_arena_alloc(&pipeline->arena, pipeline->stage_count * sizeof(*pipeline->stages));
    pipeline->values = fm_arena_alloc(&pipeline->arena, count * sizeof(*pipeline->values));
    if (pipeline->stages == NULL || pipeline->values == NULL) {
        return out_of_memory(linker);
    }
    for (uint32_t i = 0; i < spec->input_count; i++) {
        pipeline->values[i] =
            (struct fm_pipeline_value){.stage = -1, .port = i, .type = spec->inputs[i]};
    }
    pipeline->value_count = (uint32_t)spec->input_count;
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        struct fm_pipeline_stage *stage = &pipeline->stages[i];
        *stage = (struct fm_pipeline_stage){.spec = &spec->stages[i],
                                            .ports = ports[i],
                                            .child_scope = -1,
                                            .input_count = ports[i].input_count,
                                            .output_count = ports[i].output_count};
        stage->inputs =
            fm_arena_alloc(&pipeline->arena, stage->input_count * sizeof(*stage->inputs));
        stage->outputs =
            fm_arena_alloc(&pipeline->arena, stage->output_count * sizeof(*stage->outputs));
        if (stage->inputs == NULL || stage->outputs == NULL) {
            return out_of_memory(linker);
        }
        for (uint32_t j = 0; j < stage->input_count; j++) {
            stage->inputs[j].value = -1;
        }
        for (uint32_t j = 0; j < stage->output_count; j++) {
            stage->outputs[j] = pipeline->value_count;
            pipeline->values[pipeline->value_count++] = (struct fm_pipeline_value){
                .stage = (int32_t)i, .port = j, .type = item_port(stage, &ports[i].outputs[j])};
        }
    }
    return 0;
}

static int find_stage(const struct linker *linker, const char *name, size_t length)
{
    for (uint32_t i = 0; i < linker->pipeline->stage_count; i++) {
        const char *candidate = linker->spec->stages[i].name;
        if (strlen(candidate) == length && memcmp(candidate, name, length) == 0) {
            return (int)i;
        }
    }
    return -1;
}

static const char *port_suggest(const struct fm_port *ports, uint32_t count, const char *word)
{
    const char *nearest = NULL;
    for (uint32_t i = 0; i < count; i++) {
        nearest = fm_text_suggest_next(word, nearest, ports[i].name);
    }
    return nearest;
}

static int unknown_source(const struct linker *linker, const struct fm_binding_spec *binding)
{
    char stage_name[128];
    (void)snprintf(stage_name, sizeof(stage_name), "%.*s", (int)strcspn(binding->source, "."),
                   binding->source);
    const char *nearest =
        port_suggest(linker->spec->inputs, (uint32_t)linker->spec->input_count, stage_name);
    for (size_t i = 0; i < linker->spec->stage_count; i++) {
        nearest = fm_text_suggest_next(stage_name, nearest, linker->spec->stages[i].name);
    }
    return LINK_ERROR(linker, binding->mark, FM_EINVAL,
                      "'%s' is neither an input of the pipeline nor a stage%s%s%s", binding->source,
                      nearest != NULL ? "; did you mean '" : "", nearest != NULL ? nearest : "",
                      nearest != NULL ? "'?" : "");
}

/* "name" or "stage.port" to a value. */
static int resolve_source(const struct linker *linker, const struct fm_binding_spec *binding,
                          uint32_t *ret_value)
{
    const struct fm_pipeline *pipeline = linker->pipeline;
    for (uint32_t i = 0; i < linker->spec->input_count; i++) {
        if (strcmp(linker->spec->inputs[i].name, binding->source) == 0) {
            *ret_value = i;
            return 0;
        }
    }
    size_t length = strcspn(binding->source, ".");
    int index = find_stage(linker, binding->source, length);
    if (index < 0) {
        return unknown_source(linker, binding);
    }
    const struct fm_pipeline_stage *stage = &pipeline->stages[index];
    if (binding->source[length] == '\0') {
        if (stage->output_count != 1) {
            return LINK_ERROR(linker, binding->mark, FM_EINVAL,
                              "stage '%s' has %u outputs: say which one, as '%s.<output>'",
                              stage->spec->name, stage->output_count, stage->spec->name);
        }
        *ret_value = stage->outputs[0];
        return 0;
    }
    const char *port = binding->source + length + 1;
    const struct fm_port *ports = stage->ports.outputs;
    for (uint32_t i = 0; i < stage->output_count; i++) {
        if (strcmp(ports[i].name, port) == 0) {
            *ret_value = stage->outputs[i];
            return 0;
        }
    }
    const char *nearest = port_suggest(ports, stage->output_count, port);
    return LINK_ERROR(linker, binding->mark, FM_EINVAL, "stage '%s' (%s) has no output '%s'%s%s%s",
                      stage->spec->name, stage->spec->target, port,
                      nearest != NULL           ? "; did you mean '"
                      : stage->output_count > 0 ? "; it has '"
                                                : "",
                      nearest != NULL           ? nearest
                      : stage->output_count > 0 ? ports[0].name
                                                : "",
                      nearest != NULL           ? "'?"
                      : stage->output_count > 0 ? "'"
                                                : "");
}

static int find_input_port(const struct linker *linker, const struct fm_pipeline_stage *stage,
                           const struct fm_binding_spec *binding, uint32_t *ret_port)
{
    if (binding->port == NULL) {
        if (stage->input_count != 1) {
            return LINK_ERROR(linker, binding->mark, FM_EINVAL,
                              "%s '%s' has %u inputs: name them, as {<input>: %s}",
                              stage->spec->kind == FM_STAGE_MODEL ? "model" : "operator",
                              stage->spec->target, stage->input_count, binding->source);
        }
        *ret_port = 0;
        return 0;
    }
    const struct fm_port *ports = stage->ports.inputs;
    for (uint32_t i = 0; i < stage->input_count; i++) {
        if (strcmp(ports[i].name, binding->port) == 0) {
            *ret_port = i;
            return 0;
        }
    }
    const char *nearest = port_suggest(ports, stage->input_count, binding->port);
    return LINK_ERROR(linker, binding->mark, FM_EINVAL, "%s '%s' has no input '%s'%s%s%s",
                      stage->spec->kind == FM_STAGE_MODEL ? "model" : "operator",
                      stage->spec->target, binding->port,
                      nearest != NULL          ? "; did you mean '"
                      : stage->input_count > 0 ? "; it has '"
                                               : "",
                      nearest != NULL          ? nearest
                      : stage->input_count > 0 ? ports[0].name
                                               : "",
                      nearest != NULL          ? "'?"
                      : stage->input_count > 0 ? "'"
                                               : "");
}

static int bind_inputs(struct linker *linker)
{
    struct fm_pipeline *pipeline = linker->pipeline;
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        struct fm_pipeline_stage *stage = &pipeline->stages[i];
        for (size_t j = 0; j < stage->spec->input_count; j++) {
            const struct fm_binding_spec *binding = &stage->spec->inputs[j];
            uint32_t port = 0;
            uint32_t value = 0;
            int status = find_input_port(linker, stage, binding, &port);
            if (status == 0) {
                status = resolve_source(linker, binding, &value);
            }
            if (status != 0) {
                return status;
            }
            if (stage->inputs[port].value >= 0) {
                return LINK_ERROR(linker, binding->mark, FM_EINVAL,
                                  "stage '%s': input '%s' is given twice", stage->spec->name,
                                  stage->ports.inputs[port].name);
            }
            stage->inputs[port].value = (int32_t)value;
            stage->inputs[port].collects = (stage->ports.inputs[port].flags & FM_PORT_MANY) != 0;
            pipeline->values[value].consumer_count++;
        }
        for (uint32_t j = 0; j < stage->input_count; j++) {
            if (stage->inputs[j].value < 0 &&
                (stage->ports.inputs[j].flags & FM_PORT_OPTIONAL) == 0) {
                return LINK_ERROR(linker, stage->spec->mark, FM_EINVAL,
                                  "stage '%s': input '%s' of %s is not given", stage->spec->name,
                                  stage->ports.inputs[j].name, stage->spec->target);
            }
        }
    }
    return 0;
}

/* Fills every value's consumer list; bind_inputs has counted them. */
static int list_consumers(struct linker *linker)
{
    struct fm_pipeline *pipeline = linker->pipeline;
    for (uint32_t i = 0; i < pipeline->value_count; i++) {
        struct fm_pipeline_value *value = &pipeline->values[i];
        value->consumers =
            fm_arena_alloc(&pipeline->arena, value->consumer_count * sizeof(*value->consumers));
        if (value->consumers == NULL) {
            return out_of_memory(linker);
        }
        value->consumer_count = 0;
    }
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        for (uint32_t j = 0; j < pipeline->stages[i].input_count; j++) {
            int32_t index = pipeline->stages[i].inputs[j].value;
            if (index >= 0) {
                struct fm_pipeline_value *value = &pipeline->values[index];
                value->consumers[value->consumer_count++] =
                    (struct fm_pipeline_consumer){.stage = i, .input = j};
            }
        }
    }
    return 0;
}

/* Names the stages of one cycle among those not ordered: walking backwards over unordered producers
 * must come round. */
static int report_cycle(const struct linker *linker, const bool *ordered)
{
    const struct fm_pipeline *pipeline = linker->pipeline;
    bool seen[FM_PIPELINE_STAGES_MAX] = {false};
    uint32_t path[FM_PIPELINE_STAGES_MAX];
    uint32_t length = 0;
    uint32_t current = 0;
    while (ordered[current]) {
        current++;
    }
    while (!seen[current]) {
        seen[current] = true;
        path[length++] = current;
        const struct fm_pipeline_stage *stage = &pipeline->stages[current];
        for (uint32_t j = 0; j < stage->input_count; j++) {
            int32_t value = stage->inputs[j].value;
            int32_t producer = value >= 0 ? pipeline->values[value].stage : -1;
            if (producer >= 0 && !ordered[producer]) {
                current = (uint32_t)producer;
                break;
            }
        }
    }
    struct fm_text text = {0};
    fm_text_append_string(&text, pipeline->stages[current].spec->name);
    for (uint32_t i = length; i-- > 0;) {
        if (text.length > 300) {
            fm_text_append_string(&text, " -> ...");
            break;
        }
        fm_text_append_format(&text, " -> %s", pipeline->stages[path[i]].spec->name);
        if (path[i] == current) {
            break;
        }
    }
    int status = LINK_ERROR(linker, pipeline->stages[current].spec->mark, FM_EINVAL,
                            "the pipeline has a cycle: %s",
                            text.data != NULL ? text.data : pipeline->stages[current].spec->name);
    fm_text_deinit(&text);
    return status;
}

/* Kahn's algorithm; ties go to the stage declared first, so that the order is a function of the
 * file. */
static int order_stages(struct linker *linker, uint32_t *ret_order)
{
    struct fm_pipeline *pipeline = linker->pipeline;
    bool ordered[FM_PIPELINE_STAGES_MAX] = {false};
    for (uint32_t rank = 0; rank < pipeline->stage_count; rank++) {
        uint32_t chosen = pipeline->stage_count;
        for (uint32_t i = 0; i < pipeline->stage_count && chosen == pipeline->stage_count; i++) {
            bool ready = !ordered[i];
            for (uint32_t j = 0; ready && j < pipeline->stages[i].input_count; j++) {
                int32_t value = pipeline->stages[i].inputs[j].value;
                int32_t producer = value >= 0 ? pipeline->values[value].stage : -1;
                ready = producer < 0 || ordered[producer];
            }
            chosen = ready ? i : chosen;
        }
        if (chosen == pipeline->stage_count) {
            return report_cycle(linker, ordered);
        }
        ordered[chosen] = true;
        pipeline->stages[chosen].depth = rank;
        ret_order[rank] = chosen;
    }
    return 0;
}

static bool scope_is_within(const struct fm_pipeline *pipeline, uint32_t inner, uint32_t outer)
{
    int32_t scope = (int32_t)inner;
    while (scope >= 0 && (uint32_t)scope != outer) {
        scope = pipeline->scopes[scope].parent;
    }
    return scope >= 0;
}

static const char *scope_name(const struct fm_pipeline *pipeline, uint32_t scope)
{
    int32_t stage = pipeline->scopes[scope].stage;
    return stage < 0 ? "the request" : pipeline->stages[stage].spec->name;
}

/* The stage's scope: the deepest among its inputs'; all must lie on one line. */
static int stage_scope(const struct linker *linker, struct fm_pipeline_stage *stage)
{
    const struct fm_pipeline *pipeline = linker->pipeline;
    stage->scope = 0;
    for (uint32_t j = 0; j < stage->input_count; j++) {
        if (stage->inputs[j].value < 0) {
            continue;
        }
        const struct fm_port *port = &stage->ports.inputs[j];
        uint32_t scope = pipeline->values[stage->inputs[j].value].scope;
        if (stage->inputs[j].collects) {
            if (pipeline->scopes[scope].parent < 0) {
                return LINK_ERROR(linker, stage->spec->mark, FM_EINVAL,
                                  "stage '%s': input '%s' takes all elements of a fan-out, but its "
                                  "source has exactly one per request",
                                  stage->spec->name, port->name);
            }
            scope = (uint32_t)pipeline->scopes[scope].parent;
        }
        if (scope_is_within(pipeline, scope, stage->scope)) {
            stage->scope = scope;
        } else if (!scope_is_within(pipeline, stage->scope, scope)) {
            return LINK_ERROR(
                linker, stage->spec->mark, FM_EINVAL,
                "stage '%s' mixes items of '%s' with items of '%s': collect one of them first",
                stage->spec->name, scope_name(pipeline, scope), scope_name(pipeline, stage->scope));
        }
    }
    for (uint32_t j = 0; j < stage->input_count; j++) {
        if (stage->inputs[j].value >= 0 && stage->inputs[j].collects) {
            uint32_t scope = pipeline->values[stage->inputs[j].value].scope;
            if ((uint32_t)pipeline->scopes[scope].parent != stage->scope) {
                return LINK_ERROR(linker, stage->spec->mark, FM_EINVAL,
                                  "stage '%s': input '%s' takes all items of '%s', which cannot be "
                                  "done once per item of '%s'",
                                  stage->spec->name, stage->ports.inputs[j].name,
                                  scope_name(pipeline, scope), scope_name(pipeline, stage->scope));
            }
        }
    }
    return 0;
}

static int assign_scopes(struct linker *linker, const uint32_t *order)
{
    struct fm_pipeline *pipeline = linker->pipeline;
    pipeline->scopes =
        fm_arena_alloc(&pipeline->arena, (pipeline->stage_count + 1) * sizeof(*pipeline->scopes));
    if (pipeline->scopes == NULL) {
        return out_of_memory(linker);
    }
    pipeline->scopes[0] = (struct fm_pipeline_scope){.parent = -1, .stage = -1};
    pipeline->scope_count = 1;
    for (uint32_t rank = 0; rank < pipeline->stage_count; rank++) {
        struct fm_pipeline_stage *stage = &pipeline->stages[order[rank]];
        int status = stage_scope(linker, stage);
        if (status != 0) {
            return status;
        }
        for (uint32_t j = 0; j < stage->output_count; j++) {
            struct fm_pipeline_value *value = &pipeline->values[stage->outputs[j]];
            value->scope = stage->scope;
            if ((stage->ports.outputs[j].flags & FM_PORT_MANY) != 0) {
                if (stage->child_scope < 0) {
                    stage->child_scope = (int32_t)pipeline->scope_count;
                    pipeline->scopes[pipeline->scope_count++] = (struct fm_pipeline_scope){
                        .parent = (int32_t)stage->scope, .stage = (int32_t)order[rank]};
                }
                value->scope = (uint32_t)stage->child_scope;
            }
        }
    }
    return 0;
}

/* Appends to a scope's list; the arrays were sized for everything. */
static uint32_t scope_append(uint32_t *list, uint32_t *count, uint32_t item)
{
    list[*count] = item;
    return (*count)++;
}

static int number_scopes(struct linker *linker)
{
    struct fm_pipeline *pipeline = linker->pipeline;
    for (uint32_t i = 0; i < pipeline->scope_count; i++) {
        struct fm_pipeline_scope *scope = &pipeline->scopes[i];
        scope->stages = fm_arena_alloc(&pipeline->arena, pipeline->stage_count * sizeof(uint32_t));
        scope->values = fm_arena_alloc(&pipeline->arena, pipeline->value_count * sizeof(uint32_t));
        scope->children =
            fm_arena_alloc(&pipeline->arena, pipeline->scope_count * sizeof(uint32_t));
        if (scope->stages == NULL || scope->values == NULL || scope->children == NULL) {
            return out_of_memory(linker);
        }
    }
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        struct fm_pipeline_scope *scope = &pipeline->scopes[pipeline->stages[i].scope];
        pipeline->stages[i].local = scope_append(scope->stages, &scope->stage_count, i);
    }
    for (uint32_t i = 0; i < pipeline->value_count; i++) {
        struct fm_pipeline_scope *scope = &pipeline->scopes[pipeline->values[i].scope];
        pipeline->values[i].local = scope_append(scope->values, &scope->value_count, i);
    }
    for (uint32_t i = 1; i < pipeline->scope_count; i++) {
        struct fm_pipeline_scope *parent = &pipeline->scopes[pipeline->scopes[i].parent];
        pipeline->scopes[i].local = scope_append(parent->children, &parent->child_count, i);
    }
    return 0;
}

static bool types_agree(const struct fm_port *source, const struct fm_port *target)
{
    if (source->dtype != FM_DTYPE_INVALID && target->dtype != FM_DTYPE_INVALID &&
        source->dtype != target->dtype) {
        return false;
    }
    if (source->rank < 0 || target->rank < 0) {
        return true;
    }
    if (source->rank != target->rank) {
        return false;
    }
    for (int32_t i = 0; i < source->rank; i++) {
        if (source->shape[i] >= 0 && target->shape[i] >= 0 &&
            source->shape[i] != target->shape[i]) {
            return false;
        }
    }
    return true;
}

static const char *type_format(const struct fm_port *port, char *text, size_t size)
{
    char shape[160] = " of any shape";
    if (port->rank >= 0) {
        shape[0] = ' ';
        (void)fm_shape_format(port->shape, (uint32_t)port->rank, shape + 1, sizeof(shape) - 1);
    }
    (void)snprintf(text, size, "%s%s",
                   port->dtype == FM_DTYPE_INVALID ? "any type" : fm_dtype_name(port->dtype),
                   shape);
    return text;
}

static const struct fm_binding_spec *binding_of(const struct fm_pipeline_stage *stage,
                                                uint32_t port)
{
    for (size_t i = 0; i < stage->spec->input_count; i++) {
        const struct fm_binding_spec *binding = &stage->spec->inputs[i];
        if (binding->port == NULL || strcmp(binding->port, stage->ports.inputs[port].name) == 0) {
            return binding;
        }
    }
    return NULL;
}

static int check_batch(const struct linker *linker, const struct fm_pipeline_stage *stage)
{
    const struct fm_batch_spec *batch = &stage->spec->batch;
    bool given = batch->max > 1 || batch->bucket_step > 0 || batch->wait_for > 1;
    if (given && (stage->spec->kind != FM_STAGE_MODEL || stage->ports.batch_max == 0)) {
        return LINK_ERROR(
            linker, stage->spec->mark, FM_EINVAL,
            "stage '%s': 'batch' is given, but %s '%s' does not batch", stage->spec->name,
            stage->spec->kind == FM_STAGE_MODEL ? "model" : "operator", stage->spec->target);
    }
    if (batch->max > stage->ports.batch_max && stage->ports.batch_max > 0) {
        return LINK_ERROR(linker, stage->spec->mark, FM_EINVAL,
                          "stage '%s': batch max %u is more than the %u of model '%s'",
                          stage->spec->name, batch->max, stage->ports.batch_max,
                          stage->spec->target);
    }
    if (batch->bucket_step > 0) {
        struct fm_port first = item_port(stage, &stage->ports.inputs[0]);
        if (batch->bucket_axis < 0 || batch->bucket_axis >= first.rank ||
            first.shape[batch->bucket_axis] >= 0) {
            return LINK_ERROR(linker, stage->spec->mark, FM_EINVAL,
                              "stage '%s': bucket_axis %d is not a variable dimension of the first "
                              "input, whose items have %d dimensions",
                              stage->spec->name, batch->bucket_axis, first.rank);
        }
    }
    return 0;
}

static int check_types(const struct linker *linker)
{
    const struct fm_pipeline *pipeline = linker->pipeline;
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        const struct fm_pipeline_stage *stage = &pipeline->stages[i];
        for (uint32_t j = 0; j < stage->input_count; j++) {
            if (stage->inputs[j].value < 0) {
                continue;
            }
            struct fm_port target = item_port(stage, &stage->ports.inputs[j]);
            const struct fm_port *source = &pipeline->values[stage->inputs[j].value].type;
            if (!types_agree(source, &target)) {
                char source_text[200];
                char target_text[200];
                const struct fm_binding_spec *binding = binding_of(stage, j);
                return LINK_ERROR(
                    linker, binding->mark, FM_ETYPE,
                    "stage '%s': input '%s' takes %s, but '%s' is %s", stage->spec->name,
                    target.name, type_format(&target, target_text, sizeof(target_text)),
                    binding->source, type_format(source, source_text, sizeof(source_text)));
            }
        }
        int status = check_batch(linker, stage);
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

static int bind_outputs(struct linker *linker)
{
    struct fm_pipeline *pipeline = linker->pipeline;
    pipeline->output_count = (uint32_t)linker->spec->output_count;
    pipeline->outputs =
        fm_arena_alloc(&pipeline->arena, pipeline->output_count * sizeof(*pipeline->outputs));
    if (pipeline->outputs == NULL) {
        return out_of_memory(linker);
    }
    for (uint32_t i = 0; i < pipeline->output_count; i++) {
        const struct fm_binding_spec *binding = &linker->spec->outputs[i];
        struct fm_pipeline_output *output = &pipeline->outputs[i];
        int status = resolve_source(linker, binding, &output->value);
        if (status != 0) {
            return status;
        }
        struct fm_pipeline_value *value = &pipeline->values[output->value];
        output->name = binding->port;
        output->type = value->type;
        output->type.name = binding->port;
        output->type.flags = 0;
        output->stacks = value->scope != 0;
        value->is_output = true;
        if (!output->stacks) {
            continue;
        }
        if (pipeline->scopes[value->scope].parent != 0) {
            return LINK_ERROR(linker, binding->mark, FM_EINVAL,
                              "output '%s' lies two fan-outs deep and cannot be stacked: collect "
                              "it with an operator first",
                              output->name);
        }
        bool single = output->type.rank == 1 && output->type.shape[0] == 1;
        if (output->type.rank == FM_RANK_MAX) {
            return LINK_ERROR(linker, binding->mark, FM_ETYPE,
                              "output '%s' has too many dimensions to be stacked", output->name);
        }
        if (single) {
            output->type.shape[0] = -1;
        } else if (output->type.rank >= 0) {
            memmove(&output->type.shape[1], &output->type.shape[0],
                    (size_t)output->type.rank * sizeof(output->type.shape[0]));
            output->type.shape[0] = -1;
            output->type.rank++;
        }
    }
    return 0;
}

static int check_all_used(const struct linker *linker)
{
    const struct fm_pipeline *pipeline = linker->pipeline;
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        const struct fm_pipeline_stage *stage = &pipeline->stages[i];
        bool used = false;
        for (uint32_t j = 0; j < stage->output_count; j++) {
            const struct fm_pipeline_value *value = &pipeline->values[stage->outputs[j]];
            used = used || value->is_output || value->consumer_count > 0;
        }
        if (!used) {
            return LINK_ERROR(
                linker, stage->spec->mark, FM_EINVAL,
                "nothing uses stage '%s': remove it, or name one of its outputs under 'outputs'",
                stage->spec->name);
        }
    }
    return 0;
}

int fm_pipeline_link(const struct fm_pipeline_spec *spec, const struct fm_stage_ports *ports,
                     struct fm_pipeline **ret_pipeline, struct fm_error *reterr)
{
    struct linker linker = {.spec = spec, .reterr = reterr};
    uint32_t order[FM_PIPELINE_STAGES_MAX];
    int status = check_names(&linker);
    if (status != 0) {
        return status;
    }
    linker.pipeline = fm_alloc_zero(1, sizeof(*linker.pipeline));
    if (linker.pipeline == NULL) {
        return out_of_memory(&linker);
    }
    fm_arena_init(&linker.pipeline->arena, 0);
    linker.pipeline->spec = spec;
    status = number_values(&linker, ports);
    status = status != 0 ? status : bind_inputs(&linker);
    status = status != 0 ? status : list_consumers(&linker);
    status = status != 0 ? status : order_stages(&linker, order);
    status = status != 0 ? status : assign_scopes(&linker, order);
    status = status != 0 ? status : number_scopes(&linker);
    status = status != 0 ? status : check_types(&linker);
    status = status != 0 ? status : bind_outputs(&linker);
    status = status != 0 ? status : check_all_used(&linker);
    if (status != 0) {
        fm_pipeline_free(linker.pipeline);
        return status;
    }
    *ret_pipeline = linker.pipeline;
    return 0;
}

void fm_pipeline_free(struct fm_pipeline *pipeline)
{
    if (pipeline != NULL) {
        fm_arena_deinit(&pipeline->arena);
        fm_free(pipeline);
    }
}
