/*
 * Arrivals in a scenario, those of trace files among them. See scenario_reader.h and docs/sim.md.
 */
#include "engines/sim/scenario_reader.h"

#include <float.h>
#include <stdio.h>
#include <string.h>

#include "core/load/azure_trace.h"
#include "core/load/trace_text.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/text.h"
#include "host/os/file.h"

#define TRACE_BYTES_MAX ((size_t)1 << 30)

static int read_states(const struct fm_sim_reader *reader, struct fm_config *node,
                       struct fm_arrivals_spec *spec)
{
    struct fm_config *list = NULL;
    int status = fm_sim_read_list(reader, node, "states", FM_ARRIVALS_STATES_MAX, &list);
    for (size_t i = 0; status == 0 && list != NULL && i < list->count; i++) {
        struct fm_config *entry = &list->children[i];
        struct fm_arrivals_state *state = &spec->states[spec->state_count++];
        struct fm_config *ignored = NULL;
        uint64_t mean_ns = 0;
        status = fm_config_expect(entry, FM_CONFIG_MAPPING, reader->reterr);
        status =
            status == 0 ? fm_sim_read_required(entry, "rate", &ignored, reader->reterr) : status;
        status = status == 0 ? fm_config_double(entry, "rate", 0, FM_ARRIVALS_RATE_MAX_HZ,
                                                &state->rate_hz, reader->reterr)
                             : status;
        status = status == 0 ? fm_sim_read_time_required(reader, entry, "mean", &mean_ns) : status;
        status = status == 0 ? fm_config_finish(entry, reader->reterr) : status;
        state->mean_s = (double)mean_ns / 1e9;
    }
    return status;
}

static int read_steps(const struct fm_sim_reader *reader, struct fm_config *node,
                      struct fm_arrivals_spec *spec)
{
    struct fm_config *list = NULL;
    int status = fm_sim_read_list(reader, node, "steps", FM_ARRIVALS_STEPS_MAX, &list);
    if (status != 0 || list == NULL) {
        return status;
    }
    struct fm_arrivals_step *steps = fm_sim_read_allocate(reader, list->count, sizeof *steps);
    if (steps == NULL) {
        return fm_sim_read_out_of_memory(reader);
    }
    for (size_t i = 0; status == 0 && i < list->count; i++) {
        struct fm_config *entry = &list->children[i];
        struct fm_config *ignored = NULL;
        status = fm_config_expect(entry, FM_CONFIG_MAPPING, reader->reterr);
        status = status == 0 ? fm_sim_read_required(entry, "at", &ignored, reader->reterr) : status;
        status = status == 0 ? fm_sim_read_time(reader, entry, "at", &steps[i].at_ns) : status;
        status =
            status == 0 ? fm_sim_read_required(entry, "factor", &ignored, reader->reterr) : status;
        status = status == 0 ? fm_config_double(entry, "factor", 0, FM_ARRIVALS_FACTOR_MAX,
                                                &steps[i].factor, reader->reterr)
                             : status;
        status =
            status == 0 ? fm_config_bool(entry, "ramp", &steps[i].ramp, reader->reterr) : status;
        status = status == 0 ? fm_config_finish(entry, reader->reterr) : status;
        if (status == 0 && i > 0 && steps[i].at_ns <= steps[i - 1].at_ns) {
            status = fm_config_error(entry, reader->reterr,
                                     "'at' must be after that of the step before");
        }
    }
    spec->steps = steps;
    spec->step_count = (uint32_t)list->count;
    return status;
}

/* Takes times that were read, also by failing, into the arena. */
static int trace_keep(const struct fm_sim_reader *reader, uint64_t *parsed, uint64_t count,
                      uint64_t **ret_times)
{
    uint64_t *times = fm_sim_read_allocate(reader, count, sizeof *times);
    if (times != NULL) {
        memcpy(times, parsed, count * sizeof *times);
    }
    fm_free(parsed);
    *ret_times = times;
    return times != NULL ? 0 : fm_sim_read_out_of_memory(reader);
}

/* One column of a trace, in the arena. */
static int trace_parse(const struct fm_sim_reader *reader,
                       const struct fm_trace_text_options *options, const char *data, size_t size,
                       uint64_t **ret_times, uint64_t *ret_count)
{
    uint64_t *parsed = NULL;
    int status = fm_trace_text_parse(options, data, size, &parsed, ret_count, reader->reterr);
    return status == 0 ? trace_keep(reader, parsed, *ret_count, ret_times) : status;
}

/* What each request has from its time to its deadline; both count from the same zero. */
static int trace_budgets(const struct fm_sim_reader *reader, struct fm_config *node,
                         const struct fm_trace_text_options *options, const uint64_t *times_ns,
                         const char *data, size_t size, struct fm_sim_group *group)
{
    uint64_t *budgets_ns = NULL;
    uint64_t count = 0;
    int status = trace_parse(reader, options, data, size, &budgets_ns, &count);
    for (uint64_t i = 0; status == 0 && i < count; i++) {
        uint64_t deadline_ns = budgets_ns[i];
        budgets_ns[i] = deadline_ns - times_ns[i];
        if (deadline_ns <= times_ns[i] || budgets_ns[i] > FM_PROFILE_LATENCY_MAX_NS) {
            status = fm_config_error(fm_config_get(node, "deadline_column"), reader->reterr,
                                     "request %llu of '%s', of %.9g s, has its deadline at %.9g s: "
                                     "it must be after its time, by at most 19 hours",
                                     (unsigned long long)i + 1, options->name,
                                     (double)times_ns[i] / 1e9, (double)deadline_ns / 1e9);
        }
    }
    group->budgets_ns = budgets_ns;
    return status;
}

static int trace_take(const struct fm_sim_reader *reader, struct fm_config *node,
                      const struct fm_trace_text_options *options, bool from_first,
                      const char *deadline_column, const char *data, size_t size,
                      struct fm_sim_group *group)
{
    uint64_t *times_ns = NULL;
    uint64_t count = 0;
    int status = trace_parse(reader, options, data, size, &times_ns, &count);
    if (status == 0 && deadline_column != NULL) {
        struct fm_trace_text_options deadlines = *options;
        deadlines.column = deadline_column;
        deadlines.any_order = true;
        status = trace_budgets(reader, node, &deadlines, times_ns, data, size, group);
    }
    uint64_t first_ns = status == 0 && from_first ? times_ns[0] : 0;
    for (uint64_t i = 0; first_ns > 0 && i < count; i++) {
        times_ns[i] -= first_ns;
    }
    group->arrivals.times_ns = times_ns;
    group->arrivals.time_count = count;
    return status;
}

/* The file that 'file' names; the caller's to fm_free. */
static int read_trace_file(const struct fm_sim_reader *reader, struct fm_config *node, char *path,
                           size_t path_size, char **ret_data, size_t *ret_size)
{
    struct fm_config *file = NULL;
    int status = fm_sim_read_required(node, "file", &file, reader->reterr);
    status = status == 0 ? fm_config_expect(file, FM_CONFIG_SCALAR, reader->reterr) : status;
    status = status == 0 ? fm_sim_read_path(reader, file, path, path_size) : status;
    return status == 0 ? fm_file_read(path, TRACE_BYTES_MAX, ret_data, ret_size, reader->reterr)
                       : status;
}

static int read_azure_trace(const struct fm_sim_reader *reader, struct fm_config *node,
                            enum fm_azure_trace_form form, struct fm_sim_group *group)
{
    char path[4096];
    char *data = NULL;
    size_t size = 0;
    uint64_t *parsed = NULL;
    uint64_t *times_ns = NULL;
    uint64_t count = 0;
    struct fm_azure_trace_options options = {
        .name = path, .form = form, .seed = 1, .times_max = FM_SIM_TRACE_TIMES_MAX};
    int status = fm_config_string(node, "app", &options.app, reader->reterr);
    status = status == 0 ? fm_config_string(node, "function", &options.function, reader->reterr)
                         : status;
    status = status == 0 ? fm_config_bool(node, "from_first", &options.from_first, reader->reterr)
                         : status;
    if (form == FM_AZURE_TRACE_2019) {
        status = status == 0 ? fm_sim_read_seed(reader, node, "seed", &options.seed) : status;
    }
    status = status == 0 ? read_trace_file(reader, node, path, sizeof path, &data, &size) : status;
    status = status == 0
                 ? fm_azure_trace_parse(&options, data, size, &parsed, &count, reader->reterr)
                 : status;
    status = status == 0 ? trace_keep(reader, parsed, count, &times_ns) : status;
    fm_free(data);
    group->arrivals.times_ns = times_ns;
    group->arrivals.time_count = count;
    return status;
}

static int read_times(const struct fm_sim_reader *reader, struct fm_config *node,
                      struct fm_sim_group *group)
{
    char path[4096];
    char *data = NULL;
    size_t size = 0;
    bool from_first = false;
    const char *deadline_column = NULL;
    struct fm_trace_text_options options = {.name = path, .times_max = FM_SIM_TRACE_TIMES_MAX};
    int status = fm_config_string(node, "column", &options.column, reader->reterr);
    status = status == 0
                 ? fm_config_string(node, "deadline_column", &deadline_column, reader->reterr)
                 : status;
    if (status == 0 && deadline_column != NULL && options.column == NULL) {
        status = fm_config_error(fm_config_get(node, "deadline_column"), reader->reterr,
                                 "'deadline_column' is for CSV files: name the 'column' of the "
                                 "times, too");
    }
    status = status == 0 ? fm_config_bool(node, "from_first", &from_first, reader->reterr) : status;
    status = status == 0 ? read_trace_file(reader, node, path, sizeof path, &data, &size) : status;
    status = status == 0 ? trace_take(reader, node, &options, from_first, deadline_column, data,
                                      size, group)
                         : status;
    fm_free(data);
    return status;
}

static int read_trace(const struct fm_sim_reader *reader, struct fm_config *node,
                      struct fm_sim_group *group)
{
    static const char *const formats[] = {"times", "azure2019", "azure2021", NULL};
    int format = 0;
    int status = fm_config_enum(node, "format", formats, &format, reader->reterr);
    if (status != 0) {
        return status;
    }
    return format == 0
               ? read_times(reader, node, group)
               : read_azure_trace(reader, node,
                                  format == 1 ? FM_AZURE_TRACE_2019 : FM_AZURE_TRACE_2021, group);
}

/* LoadGen's seeds use all 64 bits. */
static int read_loadgen_seed(const struct fm_sim_reader *reader, struct fm_config *node,
                             struct fm_arrivals_spec *spec)
{
    const char *text = NULL;
    int status = fm_config_string(node, "seed", &text, reader->reterr);
    if (status != 0 || text == NULL) {
        return status;
    }
    spec->loadgen_seeded = true;
    if (fm_parse_uint64(text, &spec->loadgen_seed) != 0) {
        status =
            fm_config_error(fm_config_get(node, "seed"), reader->reterr,
                            "'seed' is \"%.60s\", not a whole number from 0 to 2^64 - 1", text);
    }
    return status;
}

int fm_sim_read_arrivals(const struct fm_sim_reader *reader, struct fm_config *mapping,
                         struct fm_sim_group *group)
{
    struct fm_arrivals_spec *spec = &group->arrivals;
    const char *names[FM_ARRIVALS_KIND_COUNT_ + 1] = {NULL};
    for (unsigned i = 0; i < FM_ARRIVALS_KIND_COUNT_; i++) {
        names[i] = fm_arrivals_kind_name((enum fm_arrivals_kind)i);
    }
    struct fm_config *node = NULL;
    struct fm_config *ignored = NULL;
    int kind = FM_ARRIVALS_POISSON;
    int status = fm_sim_read_required(mapping, "arrivals", &node, reader->reterr);
    status = status == 0 ? fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr) : status;
    status = status == 0 ? fm_config_enum(node, "kind", names, &kind, reader->reterr) : status;
    if (status != 0) {
        return status;
    }
    spec->kind = (enum fm_arrivals_kind)kind;
    spec->scale = 1;
    if (kind == FM_ARRIVALS_TRACE) {
        status = read_trace(reader, node, group);
        return status == 0 ? fm_config_finish(node, reader->reterr) : status;
    }
    if (kind == FM_ARRIVALS_GAMMA) {
        status = fm_sim_read_required(node, "shape", &ignored, reader->reterr);
        status = status == 0 ? fm_config_double(node, "shape", FM_ARRIVALS_SHAPE_MIN,
                                                FM_ARRIVALS_SHAPE_MAX, &spec->shape, reader->reterr)
                             : status;
    }
    if (kind == FM_ARRIVALS_MMPP) {
        status = status == 0 ? read_states(reader, node, spec) : status;
    } else {
        status =
            status == 0 ? fm_sim_read_required(node, "rate", &ignored, reader->reterr) : status;
    }
    status = status == 0 ? fm_config_double(node, "rate", FM_ARRIVALS_RATE_MIN_HZ,
                                            FM_ARRIVALS_RATE_MAX_HZ, &spec->rate_hz, reader->reterr)
                         : status;
    if (kind == FM_ARRIVALS_LOADGEN) {
        status = status == 0 ? read_loadgen_seed(reader, node, spec) : status;
        return status == 0 ? fm_config_finish(node, reader->reterr) : status;
    }
    status = status == 0 ? read_steps(reader, node, spec) : status;
    status = status == 0 ? fm_sim_read_time(reader, node, "period", &spec->period_ns) : status;
    return status == 0 ? fm_config_finish(node, reader->reterr) : status;
}
