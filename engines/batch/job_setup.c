/*
 * Pipeline, input and facts of a job. See job_setup.h.
 */
#include "engines/batch/job_setup.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/source/request_line.h"
#include "core/util/error.h"
#include "core/util/hash.h"
#include "core/util/text.h"
#include "engines/batch/remote.h"
#include "engines/batch/sink.h"
#include "host/os/os.h"

/* What a line looks like: raised when it changes, so that a job is not continued in another form.
 */
#define LINE_FORMAT "2"
/* Rows that are read and run together, whatever the model would take. */
#define BLOCK_ROWS_MAX 1024u
/* Rows in flight to begin with, where each is read by itself. */
#define ROWS_FIRST 512u
/* Where the job file does not say how many threads read ... */
#define READ_THREADS_FIRST 2u
/* ... or run operators: there may be so many where they wait and do not work. */
#define OPERATOR_THREADS_TUNED_MAX 64u

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
                            "pipeline with an operator that decodes them, or, where files hold "
                            "rows, say input.columns",
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

/* --- Columns --- */

static int column_refuse(const struct fm_job *job, const struct fm_port *port,
                         struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_ETYPE,
                        "%s: the input '%s' of '%s' takes any type or shape, so columns cannot be "
                        "made to fit it",
                        job->file, port->name, job->pipeline);
}

/* The row of a tensor that `count` columns of one element each are. */
static int columns_join(const struct fm_job *job, const struct fm_port *port, uint32_t count,
                        struct fm_column *column, struct fm_error *reterr)
{
    uint64_t elements = 1;
    bool variable = false;
    for (uint32_t i = 0; i < column->rank; i++) {
        bool open = column->shape[i] < 0 && !variable;
        variable = variable || column->shape[i] < 0;
        elements *= open ? 1 : (uint64_t)(column->shape[i] > 0 ? column->shape[i] : 1);
        column->shape[i] = open ? -1 : column->shape[i] < 0 ? 1 : column->shape[i];
    }
    bool fits = variable ? elements > 0 && count % elements == 0 : elements == count;
    for (uint32_t i = 0; i < column->rank && fits; i++) {
        column->shape[i] = column->shape[i] < 0 ? (int64_t)(count / elements) : column->shape[i];
    }
    char shape[128];
    return fits ? 0
                : fm_error_set(
                      reterr, FM_EINVAL,
                      "%s: input.columns: '%s' is given %u columns, but a row of it has "
                      "%llu elements (%s)",
                      job->file, port->name, count, (unsigned long long)elements,
                      fm_shape_format(port->shape, (uint32_t)port->rank, shape, sizeof(shape)));
}

static int column_make(struct fm_job_setup *setup, const struct fm_port *port,
                       const struct fm_job_column *wanted, struct fm_source_tensor *ret_tensor,
                       struct fm_error *reterr)
{
    const struct fm_job *job = setup->job;
    struct fm_column column = {.name = port->name, .dtype = port->dtype};
    int32_t lead = setup->batched ? 1 : 0;
    if (port->dtype == FM_DTYPE_INVALID || port->rank < lead) {
        return column_refuse(job, port, reterr);
    }
    column.rank = (uint32_t)(port->rank - lead);
    memcpy(column.shape, &port->shape[lead], column.rank * sizeof(column.shape[0]));
    int status = wanted != NULL && wanted->name_count > 1
                     ? columns_join(job, port, wanted->name_count, &column, reterr)
                     : 0;
    status = status != 0 ? status : fm_column_check(&column, reterr);
    if (status != 0) {
        return status;
    }
    const char **own = fm_arena_alloc(&setup->arena, sizeof(*own));
    column.name = fm_arena_strdup(&setup->arena, port->name); /* the port goes with the pipeline */
    if (own == NULL || column.name == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    own[0] = column.name;
    bool nameless = wanted == NULL && job->format->nameless;
    uint32_t names = wanted != NULL ? wanted->name_count : 1;
    *ret_tensor = (struct fm_source_tensor){.column = column,
                                            .names = wanted != NULL ? wanted->names : own,
                                            .name_count = nameless ? 0 : names};
    return 0;
}

static const struct fm_job_column *column_of(const struct fm_job *job, const char *input)
{
    for (uint32_t i = 0; i < job->column_count; i++) {
        if (strcmp(job->columns[i].input, input) == 0) {
            return &job->columns[i];
        }
    }
    return NULL;
}

/* Every key of input.columns must be an input. */
static int columns_known(const struct fm_job *job, const struct fm_port *ports, uint32_t count,
                         struct fm_error *reterr)
{
    const char *names[FM_PIPELINE_PORTS_MAX];
    for (uint32_t i = 0; i < count; i++) {
        names[i] = ports[i].name;
    }
    for (uint32_t i = 0; i < job->column_count; i++) {
        uint32_t port = 0;
        while (port < count && strcmp(names[port], job->columns[i].input) != 0) {
            port++;
        }
        if (port == count) {
            const char *near = fm_text_suggest(job->columns[i].input, names, count);
            return fm_error_set(
                reterr, FM_EINVAL, "%s: input.columns: '%s' has no input '%s'%s%s%s", job->file,
                job->pipeline, job->columns[i].input, near != NULL ? "; did you mean '" : "",
                near != NULL ? near : "", near != NULL ? "'" : "");
        }
    }
    return 0;
}

/* What is wanted of the source: a tensor for each input that has columns, or must have a value. */
static int columns_choose(struct fm_job_setup *setup, struct fm_error *reterr)
{
    const struct fm_job *job = setup->job;
    uint32_t count = 0;
    const struct fm_port *ports = fm_servable_inputs(setup->servable, &count);
    struct fm_source_tensor *tensors =
        fm_arena_alloc(&setup->arena, (count + 1) * sizeof(*tensors));
    setup->inputs = fm_arena_alloc(&setup->arena, (count + 1) * sizeof(*setup->inputs));
    if (tensors == NULL || setup->inputs == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    setup->source =
        (struct fm_source_spec){.format = job->format,
                                .tensors = tensors,
                                .id = job->id_column,
                                .passed = job->passed,
                                .passed_count = job->passed_count,
                                .csv = job->csv,
                                .csv_header = job->csv_header,
                                .record_bytes_max = job->record_bytes_max,
                                .url = job->embedding != NULL ? FM_REQUEST_LINE_EMBEDDINGS : NULL};
    int status = columns_known(job, ports, count, reterr);
    for (uint32_t i = 0; i < count && status == 0; i++) {
        const struct fm_job_column *wanted = column_of(job, ports[i].name);
        if (wanted == NULL && (ports[i].flags & FM_PORT_OPTIONAL) != 0) {
            continue;
        }
        uint32_t tensor = setup->source.tensor_count;
        status = column_make(setup, &ports[i], wanted, &tensors[tensor], reterr);
        setup->inputs[tensor] = i;
        setup->source.tensor_count += status == 0 ? 1 : 0;
    }
    return status;
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

/* As many rows as the model takes at once. */
static uint32_t block_rows(const struct fm_job_setup *setup, uint32_t halvings)
{
    if (!setup->batched || setup->job->format == NULL) {
        return 1;
    }
    uint32_t rows = halved(batch_max(&fm_servable_pipeline(setup->servable)->stages[0]), halvings);
    return rows < BLOCK_ROWS_MAX ? rows : BLOCK_ROWS_MAX;
}

int fm_job_setup_open(struct fm_job_setup *setup, const struct fm_job *job,
                      const struct fm_job_setup_options *options, struct fm_error *reterr)
{
    const struct fm_servable_options servable = {.operator_threads = job->operator_threads,
                                                 .requests_max = FM_JOB_ROWS_IN_FLIGHT_MAX +
                                                                 FM_JOB_REQUESTS_MAX,
                                                 .batch_default = job->max_batch_size,
                                                 .batch_halvings = options->halvings,
                                                 .groups = job->groups,
                                                 .group_count = job->group_count,
                                                 .stage_groups = job->stage_groups,
                                                 .stage_group_count = job->stage_group_count,
                                                 .check_only = options->check_only,
                                                 .note = options->note,
                                                 .note_context = options->note_context};
    *setup = (struct fm_job_setup){.job = job, .halvings = options->halvings};
    fm_arena_init(&setup->arena, 0);
    int status = fm_servable_open_path(job->pipeline, &servable, &setup->servable, reterr);
    if (status != 0) {
        return status;
    }
    const struct fm_pipeline_stage *first = &fm_servable_pipeline(setup->servable)->stages[0];
    setup->batched = first->spec->items_have_rows && first->ports.batch_max > 0;
    setup->block_rows = block_rows(setup, setup->halvings);
    return job->format != NULL ? columns_choose(setup, reterr) : tensor_choose(setup, reterr);
}

void fm_job_setup_unload(struct fm_job_setup *setup)
{
    fm_servable_close(setup->servable);
    setup->servable = NULL;
}

void fm_job_setup_close(struct fm_job_setup *setup)
{
    fm_job_setup_unload(setup);
    fm_arena_deinit(&setup->arena);
}

bool fm_job_setup_is_single(const struct fm_job_setup *setup)
{
    const struct fm_pipeline *pipeline = fm_servable_pipeline(setup->servable);
    bool single = fm_job_setup_rows_in_flight(setup) == 1 && fm_job_setup_rows_fetched(setup) == 0;
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        single = single && halved(batch_max(&pipeline->stages[i]), setup->halvings) == 1;
    }
    return single;
}

/* Of a model stage that rows reach one by one, each slot has a batch that runs and one that waits.
 * Where they are read in batches, two more are being read or written for each slot. */
static uint32_t rows_in_flight_full(const struct fm_job_setup *setup)
{
    const struct fm_pipeline *pipeline = fm_servable_pipeline(setup->servable);
    const struct fm_stage_binding *bindings = fm_servable_bindings(setup->servable);
    uint64_t wanted = 2 * fm_os_cpu_count() + 2;
    if (setup->job->rows_in_flight > 0) {
        return setup->job->rows_in_flight;
    }
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        const struct fm_pipeline_stage *stage = &pipeline->stages[i];
        if (bindings[i].model == NULL || stage->scope != 0) {
            continue;
        }
        uint64_t both =
            UINT64_C(2) * batch_max(stage) * fm_servable_stage_slots(setup->servable, i);
        wanted = both > wanted ? both : wanted;
    }
    wanted = wanted < ROWS_FIRST ? wanted : ROWS_FIRST;
    uint32_t block = block_rows(setup, 0);
    if (block > 1) {
        uint64_t rows = UINT64_C(4) * fm_servable_stage_slots(setup->servable, 0) * block;
        wanted = rows > wanted ? rows : wanted;
    }
    return wanted < FM_JOB_ROWS_IN_FLIGHT_MAX ? (uint32_t)wanted : FM_JOB_ROWS_IN_FLIGHT_MAX;
}

uint32_t fm_job_setup_rows_in_flight(const struct fm_job_setup *setup)
{
    return halved(rows_in_flight_full(setup), setup->halvings);
}

static struct fm_tuner_range range(uint32_t wanted, uint32_t first, uint32_t max)
{
    first = wanted > 0 ? wanted : first;
    max = wanted > 0 || max < first ? first : max;
    return (struct fm_tuner_range){.first = first, .max = max};
}

void fm_job_setup_ranges(const struct fm_job_setup *setup, struct fm_job_ranges *ret_ranges)
{
    const struct fm_job *job = setup->job;
    const struct fm_pipeline *pipeline = fm_servable_pipeline(setup->servable);
    bool scarce = setup->halvings > 0;
    uint32_t rows = fm_job_setup_rows_in_flight(setup);
    *ret_ranges = (struct fm_job_ranges){0};
    ret_ranges->rows = range(scarce ? rows : job->rows_in_flight, rows, FM_JOB_ROWS_IN_FLIGHT_MAX);
    ret_ranges->readers =
        range(job->read_threads, READ_THREADS_FIRST, scarce ? 0 : FM_JOB_READ_THREADS_MAX);
    for (uint32_t i = 0; i < pipeline->stage_count; i++) {
        if (pipeline->stages[i].spec->kind == FM_STAGE_OPERATOR) {
            ret_ranges->operators = range(job->operator_threads, fm_os_cpu_count(),
                                          scarce ? 0 : OPERATOR_THREADS_TUNED_MAX);
        }
    }
}

/* --- Types of what is passed --- */

#define TYPE_JSON "JSON"
#define TYPE_TEXT "TEXT"

static uint32_t *types_make(struct fm_job_setup *setup)
{
    size_t size = (setup->job->passed_count + 1) * sizeof(uint32_t);
    uint32_t *types = fm_arena_alloc(&setup->arena, size);
    if (types != NULL) {
        memset(types, 0, size);
    }
    return types;
}

static int types_set(struct fm_job_setup *setup, const uint32_t *types, struct fm_error *reterr)
{
    struct fm_text text = {0};
    for (uint32_t i = 0; i < setup->job->passed_count; i++) {
        const char *name = types[i] == FM_DTYPE_INVALID ? TYPE_JSON
                           : types[i] == FM_DTYPE_BYTES ? TYPE_TEXT
                                                        : fm_dtype_name(types[i]);
        fm_text_append_format(&text, "%s%s", i > 0 ? "," : "", name);
    }
    setup->passed_types = types;
    setup->types =
        !text.failed && text.data != NULL ? fm_arena_strdup(&setup->arena, text.data) : NULL;
    fm_text_deinit(&text);
    return setup->types != NULL ? 0 : fm_error_set(reterr, FM_ENOMEM, "out of memory");
}

int fm_job_setup_types_learn(struct fm_job_setup *setup, const char *path, struct fm_error *reterr)
{
    const struct fm_job *job = setup->job;
    struct fm_source_reader *reader = NULL;
    uint32_t *types = types_make(setup);
    int status = types != NULL ? job->format->open(&setup->source, path, NULL, &reader, reterr)
                               : fm_error_set(reterr, FM_ENOMEM, "out of memory");
    if (status != 0) {
        return status;
    }
    for (uint32_t i = 0; reader->passed_types != NULL && i < job->passed_count; i++) {
        types[i] = reader->passed_types[i];
    }
    job->format->close(reader);
    return types_set(setup, types, reterr);
}

int fm_job_setup_types_take(struct fm_job_setup *setup, const char *text, size_t size,
                            struct fm_error *reterr)
{
    uint32_t *types = types_make(setup);
    const char *end = text + size;
    if (types == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    for (uint32_t i = 0; text < end && i < setup->job->passed_count; i++) {
        const char *comma = memchr(text, ',', (size_t)(end - text));
        size_t length = comma != NULL ? (size_t)(comma - text) : (size_t)(end - text);
        types[i] = length == strlen(TYPE_TEXT) && memcmp(text, TYPE_TEXT, length) == 0
                       ? FM_DTYPE_BYTES
                       : fm_dtype_parse(text, length);
        text += length + (comma != NULL ? 1 : 0);
    }
    return types_set(setup, types, reterr);
}

uint32_t fm_job_setup_rows_fetched(const struct fm_job_setup *setup)
{
    bool fetched = setup->job->rows_in_flight == 0 && fm_remote_may_be(setup->job);
    return fetched && setup->halvings < 32 ? setup->job->requests >> setup->halvings : 0;
}

void fm_job_source_describe(const struct fm_job *job, char *ret_text, size_t size)
{
    if (job->format == NULL) {
        (void)snprintf(ret_text, size, "files");
    } else if (job->query != NULL) {
        (void)snprintf(ret_text, size, "query of %s, sum %016" PRIx64,
                       job->engine == FM_JOB_ENGINE_DUCKDB ? "duckdb" : "sqlite",
                       fm_hash_add(FM_HASH_START, job->query, strlen(job->query)));
    } else if (job->csv.delimiter == '\0') {
        (void)snprintf(ret_text, size, "%s", job->format->name);
    } else {
        (void)snprintf(ret_text, size, "%s, delimiter 0x%02x, quote 0x%02x%s", job->format->name,
                       (unsigned char)job->csv.delimiter, (unsigned char)job->csv.quote,
                       job->csv_header ? "" : ", no header");
    }
}

/* "x=a,b; passthrough=d": as it stands, or its beginning and a sum of it where it is long. */
static void columns_describe(const struct fm_job_setup *setup, char *ret_text, size_t size)
{
    const struct fm_source_spec *source = &setup->source;
    struct fm_text text = {0};
    for (uint32_t i = 0; i < source->tensor_count; i++) {
        const struct fm_source_tensor *tensor = &source->tensors[i];
        fm_text_append_format(&text, "%s%s=", i > 0 ? "; " : "", tensor->column.name);
        for (uint32_t n = 0; n < tensor->name_count; n++) {
            fm_text_append_format(&text, "%s%s", n > 0 ? "," : "", tensor->names[n]);
        }
    }
    for (uint32_t i = 0; i < source->passed_count; i++) {
        fm_text_append_format(&text, "%s%s", i > 0 ? "," : "; passthrough=", source->passed[i]);
    }
    if (text.length < size) {
        (void)snprintf(ret_text, size, "%s", text.data != NULL ? text.data : "");
    } else {
        (void)snprintf(ret_text, size, "%.160s... (%zu characters, sum %016" PRIx64 ")", text.data,
                       text.length, fm_hash_add(FM_HASH_START, text.data, text.length));
    }
    fm_text_deinit(&text);
}

const char *fm_job_fact_former(const char *key)
{
    return strcmp(key, FM_JOB_FACT_FORMAT) == 0  ? "jsonl, compression none"
           : strcmp(key, FM_JOB_FACT_TYPES) == 0 ? ""
                                                 : NULL;
}

void fm_job_facts_make(const struct fm_job_setup *setup, struct fm_job_facts *ret_facts)
{
    static const char *const keys[FM_JOB_FACTS] = {
        "line format",         "pipeline and models", "input.tensor",     "output.bytes",
        "output.timings",      "limits.file_bytes",   FM_JOB_FACT_SOURCE, "input.columns",
        "limits.record_bytes", FM_JOB_FACT_ID,        FM_JOB_FACT_FORMAT, FM_JOB_FACT_TYPES};
    const struct fm_job *job = setup->job;
    uint32_t count = 0;
    const struct fm_port *ports = fm_servable_inputs(setup->servable, &count);
    bool records = job->format != NULL;
    char(*values)[FM_JOB_FACT_SIZE] = ret_facts->values;
    (void)snprintf(values[0], FM_JOB_FACT_SIZE, "%s", LINE_FORMAT);
    (void)snprintf(values[1], FM_JOB_FACT_SIZE, "%016" PRIx64,
                   fm_servable_fingerprint(setup->servable));
    (void)snprintf(values[2], FM_JOB_FACT_SIZE, "%.200s", records ? "" : ports[setup->input].name);
    (void)snprintf(values[3], FM_JOB_FACT_SIZE, "%s",
                   job->bytes == FM_JOB_BYTES_BASE64 ? "base64" : "text");
    (void)snprintf(values[4], FM_JOB_FACT_SIZE, "%s", job->timings ? "true" : "false");
    (void)snprintf(values[5], FM_JOB_FACT_SIZE, "%" PRIu64, job->file_bytes_max);
    fm_job_source_describe(job, values[6], FM_JOB_FACT_SIZE);
    columns_describe(setup, values[7], FM_JOB_FACT_SIZE);
    (void)snprintf(values[8], FM_JOB_FACT_SIZE, "%" PRIu64, records ? job->record_bytes_max : 0);
    (void)snprintf(values[9], FM_JOB_FACT_SIZE, "%.250s",
                   job->id_column != NULL ? job->id_column : "");
    (void)snprintf(values[10], FM_JOB_FACT_SIZE, "%s, compression %s%s%.150s", job->sink->name,
                   job->compression, job->embedding != NULL ? ", embedding " : "",
                   job->embedding != NULL ? job->embedding : "");
    for (size_t i = 0; i < FM_JOB_FACTS; i++) {
        ret_facts->items[i] = (struct fm_job_fact){.key = keys[i], .value = values[i]};
    }
    ret_facts->items[FM_JOB_FACTS - 1].value = setup->types != NULL ? setup->types : "";
}
