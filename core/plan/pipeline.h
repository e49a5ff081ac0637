/*
 * Pipelines: a DAG of stages, linked and checked before anything runs.
 *
 * Owns: the specification record, name resolution, cycle detection, scopes (fan-out and fan-in),
 * type checks. Does not own: file syntax (host/runtime/pipeline_file.h), models and operators (the
 * caller says what their ports are), execution (flow.h). Thread rule: a linked pipeline is
 * immutable.
 *
 * Scopes. Scope 0 is the request. A stage whose operator has outputs flagged FM_PORT_MANY opens a
 * scope below its own; each element is an item there. A stage belongs to the deepest scope among
 * its plain inputs; the scopes of its inputs must lie on one line from the root. An input flagged
 * FM_PORT_MANY takes a value of a scope directly below the stage's own, all elements in order. A
 * pipeline output that lies in a scope directly below the root is stacked: one tensor with the
 * elements along a new dimension 0 ([1]-shaped BYTES stack to [n]).
 */
#ifndef FM_CORE_PLAN_PIPELINE_H
#define FM_CORE_PLAN_PIPELINE_H

#include <stdbool.h>

#include "core/util/memory.h"
#include "fermata/status.h"
#include "fermata/tensor.h"

#define FM_PIPELINE_STAGES_MAX 256
#define FM_PIPELINE_PORTS_MAX  1024 /* of one stage, and of the pipeline */

enum fm_stage_kind { FM_STAGE_OPERATOR, FM_STAGE_MODEL };

struct fm_mark {
    uint32_t line; /* from 1; 0: unknown */
    uint32_t column;
};

/* "port <- source": source is an input of the pipeline, "stage.port", or "stage" when that stage
 * has one output. */
struct fm_binding_spec {
    const char *port; /* NULL: the only one */
    const char *source;
    struct fm_mark mark;
};

/* How a model stage forms batches. */
struct fm_batch_spec {
    uint32_t max;         /* rows; 0: what the model says */
    int32_t bucket_axis;  /* axis of the item's first input whose size decides the bucket (no batch
                             dimension counted); -1: exact shapes */
    uint32_t bucket_step; /* items whose size rounds up to the same multiple share a bucket and are
                             padded to the largest; 0: equal sizes only */
    uint32_t wait_for; /* keep an instance waiting while fewer items than this are queued and more
                          may come; 0 and 1: never wait */
    double pad_value;
};

struct fm_stage_spec {
    const char *name;
    enum fm_stage_kind kind;
    const char *target; /* name of the operator or model */
    struct fm_binding_spec *inputs;
    size_t input_count;
    struct fm_batch_spec batch;
    bool items_have_rows; /* a model served alone: items carry the batch dimension themselves */
    uint32_t fan_out_max; /* 0: default */
    struct fm_mark mark;
};

struct fm_pipeline_spec {
    const char *file; /* for messages */
    const char *name;
    uint64_t slo_ns; /* of requests that bring no deadline; 0: not said */
    struct fm_port *inputs;
    size_t input_count;
    struct fm_stage_spec *stages;
    size_t stage_count;
    struct fm_binding_spec *outputs; /* port = name of the output */
    size_t output_count;
};

/* What the caller knows of a stage's target. For a model: ports as one item sees them (see
 * `batched`). */
struct fm_stage_ports {
    const struct fm_port *inputs;
    uint32_t input_count;
    const struct fm_port *outputs;
    uint32_t output_count;
    uint32_t batch_max; /* models: > 0 means ports carry a batch dimension in front, which items do
                           not have */
};

struct fm_pipeline_consumer {
    uint32_t stage;
    uint32_t input;
};

/* A value that flows: a pipeline input or a stage's output. */
struct fm_pipeline_value {
    uint32_t scope;
    int32_t stage; /* producer; -1: pipeline input */
    uint32_t port; /* of the producer, or index of the pipeline input */
    struct fm_port type;
    struct fm_pipeline_consumer *consumers;
    uint32_t consumer_count;
    uint32_t local; /* index among the values of its scope */
    bool is_output;
};

struct fm_pipeline_input {
    int32_t value; /* -1: an optional input left open */
    bool collects; /* takes all elements of the inner scope */
};

struct fm_pipeline_stage {
    const struct fm_stage_spec
        *spec; /* borrowed from the specification, which must outlive the pipeline */
    struct fm_stage_ports ports;
    uint32_t scope;
    int32_t child_scope;              /* -1: opens none */
    struct fm_pipeline_input *inputs; /* by port of the target */
    uint32_t input_count;
    uint32_t *outputs; /* value by port */
    uint32_t output_count;
    uint32_t depth; /* topological rank: later stages have larger ones */
    uint32_t local; /* index among the stages of its scope */
};

struct fm_pipeline_scope {
    int32_t parent;   /* -1: root */
    int32_t stage;    /* that opens it; -1: root */
    uint32_t *stages; /* that run in it, by local index */
    uint32_t stage_count;
    uint32_t *values; /* that live in it, by local index */
    uint32_t value_count;
    uint32_t *children; /* scopes directly below; `local` is the index here */
    uint32_t child_count;
    uint32_t local; /* index among the parent's children */
};

struct fm_pipeline_output {
    const char *name;
    uint32_t value;
    bool stacks;
    struct fm_port type; /* as the outside sees it (stacked: -1 in front) */
};

struct fm_pipeline {
    struct fm_arena arena;
    const struct fm_pipeline_spec *spec;
    struct fm_pipeline_stage *stages;
    uint32_t stage_count;
    struct fm_pipeline_value *values; /* the pipeline inputs come first */
    uint32_t value_count;
    struct fm_pipeline_scope *scopes;
    uint32_t scope_count;
    struct fm_pipeline_output *outputs;
    uint32_t output_count;
};

/*
 * Links: ports[i] belongs to spec->stages[i]. Errors read "<file>:<line>:<column>: ...": unknown
 * sources (with a suggestion), cycles (naming the stages on it), missing or doubled inputs, scopes
 * that do not fit, dtype, rank and dimension mismatches (both sides shown).
 */
int FM_NODISCARD fm_pipeline_link(const struct fm_pipeline_spec *spec,
                                  const struct fm_stage_ports *ports,
                                  struct fm_pipeline **ret_pipeline, struct fm_error *reterr);
void fm_pipeline_free(struct fm_pipeline *pipeline); /* accepts NULL */

#endif
