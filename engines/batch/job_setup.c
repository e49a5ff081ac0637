/*
 * Pipeline, input and facts of a job. See job_setup.h.
 */
#include "engines/batch/job_setup.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/text.h"
#include "host/os/os.h"

/* What a line looks like: raised when it changes, so that a job is not continued in another form.
 */
#define LINE_FORMAT "1"

static int tensor_check(const struct fm_job *job, const struct fm_port *port,
                        struct fm_error *reterr)
{
    bool one = port->rank != 0;
    for (int32_t i = 0; i < port->rank; i++) {
        one = one && (port->shape[i] == 1 || port->shape[i] == -1);
    }
    if (port->dtype != FM_DTYPE_BYTES && port->dtype != FM_DTYPE_INVALID) {
        return fm_error_set(reterr, FM_ETYPE,
                            "%s: the input '%s' of '%s' is %s, but files come as BYTES: begin the "
                            "pipeline with an operator that decodes them",
                            job->file, port->name, job->pipeline, fm_dtype_name(port->dtype));
    }
    return one ? 0
               : fm_error_set(reterr, FM_ETYPE,
                              "%s: the input '%s' of '%s' takes more than one element, but a row "
                              "is one file",
                              job->file, port->name, job->pipeline);
}

/* Which input gets the file's bytes: the named one, or the only one that must have a value. */
static int tensor_choose(struct fm_job_setup *setup, struct fm_error *reterr)
{
    const struct fm_job *job = setup->job;
    const char *names[FM_PIPELINE_PORTS_MAX];
    uint32_t count = 0;
    uint32_t required = 0;
    uint32_t chosen = UINT32_MAX;
    const struct fm_port *ports = fm_servable_inputs(setup->servable, &count);
    for (uint32_t i = 0; i < count; i++) {
        names[i] = ports[i].name;
        bool optional = (ports[i].flags & FM_PORT_OPTIONAL) != 0;
        bool named = job->tensor != NULL && strcmp(job->tensor, ports[i].name) == 0;
        if (named || (job->tensor == NULL && (!optional || count == 1))) {
            chosen = i;
        }
        required += optional || named ? 0 : 1;
    }
    if (chosen == UINT32_MAX && job->tensor != NULL) {
        const char *near = fm_text_suggest(job->tensor, names, count);
        return fm_error_set(reterr, FM_EINVAL, "%s: input.tensor: '%s' has no input '%s'%s%s%s",
                            job->file, job->pipeline, job->tensor,
                            near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                            near != NULL ? "'" : "");
    }
    if (chosen == UINT32_MAX || required > (job->tensor == NULL ? 1 : 0)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "%s: '%s' has %u inputs and a job fills one: name it with "
                            "input.tensor, and make the others optional",
                            job->file, job->pipeline, count);
    }
    setup->input = chosen;
    return tensor_check(job, &ports[chosen], reterr);
}

int fm_job_setup_open(struct fm_job_setup *setup, const struct fm_job *job,
                      const struct fm_job_setup_options *options, struct fm_error *reterr)
{
    const struct fm_servable_options servable = {.operator_threads = job->operator_threads,
                                                 .requests_max = FM_JOB_ROWS_IN_FLIGHT_MAX,
                                                 .batch_halvings = options->halvings,
                                                 .check_only = options->check_only,
                                                 .note = options->note,
                                                 .note_context = options->note_context};
    *setup = (struct fm_job_setup){.job = job, .halvings = options->halvings};
    int status = fm_servable_open_path(job->pipeline, &servable, &setup->servable, reterr);
    return status != 0 ? status : tensor_choose(setup, reterr);
}

void fm_job_setup_close(struct fm_job_setup *setup)
{
    fm_servable_close(setup->servable);
    setup->servable = NULL;
}

/* The largest batch of a stage, before any halving. */
static uint32_t batch_max(const struct fm_pipeline_stage *stage)
{
    uint32_t rows = stage->ports.batch_max > 0 ? stage->ports.batch_max : 1;
    uint32_t wanted = stage->spec->batch.max;
    return wanted > 0 && wanted < rows ? wanted : rows;
}

static uint32_t halved(uint32_t count, uint32_t halvings)
{
    uint32_t left = halvings < 32 ? count >> halvings : 0;
    return left > 0 ? left : 1;
}

bool fm_job_setup_is_single(const struct fm_job_setup *setup)
{
    const struct fm_pipeline *pipeline = fm_servable_pipeline(setup->servable);
    bool single = fm_job_setup_rows_in_flight(setup) == 1;
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        single = single && halved(batch_max(&pipeline->stages[i]), setup->halvings) == 1;
    }
    return single;
}

static uint32_t rows_in_flight_full(const struct fm_job_setup *setup)
{
    const struct fm_pipeline *pipeline = fm_servable_pipeline(setup->servable);
    const struct fm_stage_binding *bindings = fm_servable_bindings(setup->servable);
    uint32_t wanted = 2 * fm_os_cpu_count() + 2;
    if (setup->job->rows_in_flight > 0) {
        return setup->job->rows_in_flight;
    }
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        const struct fm_pipeline_stage *stage = &pipeline->stages[i];
        if (bindings[i].model == NULL || stage->scope != 0) {
            continue;
        }
        uint32_t both = 2 * batch_max(stage) * fm_model_instance_count(bindings[i].model);
        wanted = both > wanted ? both : wanted;
    }
    return wanted < 512 ? wanted : 512;
}

uint32_t fm_job_setup_rows_in_flight(const struct fm_job_setup *setup)
{
    return halved(rows_in_flight_full(setup), setup->halvings);
}

void fm_job_facts_make(const struct fm_job_setup *setup, struct fm_job_facts *ret_facts)
{
    static const char *const keys[FM_JOB_FACTS] = {"line format",    "pipeline and models",
                                                   "input.tensor",   "output.bytes",
                                                   "output.timings", "limits.file_bytes"};
    const struct fm_job *job = setup->job;
    uint32_t count = 0;
    const struct fm_port *ports = fm_servable_inputs(setup->servable, &count);
    char(*values)[FM_JOB_FACT_SIZE] = ret_facts->values;
    (void)snprintf(values[0], FM_JOB_FACT_SIZE, "%s", LINE_FORMAT);
    (void)snprintf(values[1], FM_JOB_FACT_SIZE, "%016" PRIx64,
                   fm_servable_fingerprint(setup->servable));
    (void)snprintf(values[2], FM_JOB_FACT_SIZE, "%.200s", ports[setup->input].name);
    (void)snprintf(values[3], FM_JOB_FACT_SIZE, "%s",
                   job->bytes == FM_JOB_BYTES_BASE64 ? "base64" : "text");
    (void)snprintf(values[4], FM_JOB_FACT_SIZE, "%s", job->timings ? "true" : "false");
    (void)snprintf(values[5], FM_JOB_FACT_SIZE, "%" PRIu64, job->file_bytes_max);
    for (size_t i = 0; i < FM_JOB_FACTS; i++) {
        ret_facts->items[i] = (struct fm_job_fact){.key = keys[i], .value = values[i]};
    }
}
