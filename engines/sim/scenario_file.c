/*
 * The scenario file's syntax. See scenario_file.h and docs/sim.md.
 */
#include "engines/sim/scenario_file.h"

#include <float.h>
#include <stdio.h>
#include <string.h>

#include "core/load/trace_text.h"
#include "core/sched/partition.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "host/config/config.h"
#include "host/os/file.h"
#include "host/runtime/profile_file.h"

#define TRACE_BYTES_MAX    ((size_t)1 << 30)
#define NAME_LENGTH_MAX    100u
#define AFFINE_BATCH_LIMIT FM_SCHED_BATCH_LIMIT

struct reader {
    struct fm_sim_scenario *scenario;
    struct fm_error *reterr;
    char directory[4096];
    bool has_pipelines; /* models may be stages alone: the scenario's check says what is missing */
};

static int out_of_memory(const struct reader *reader)
{
    return fm_error_set(reader->reterr, FM_ENOMEM, "%s: out of memory while reading the scenario",
                        reader->scenario->file);
}

/* What must be there, with something after it. */
static int require(struct fm_config *mapping, const char *key, struct fm_config **ret_child,
                   struct fm_error *reterr)
{
    int status = fm_config_require(mapping, key, ret_child, reterr);
    return status == 0 && (*ret_child)->kind == FM_CONFIG_NULL
               ? fm_config_error(*ret_child, reterr, "'%s' is empty: write its value after it", key)
               : status;
}

static void *allocate(const struct reader *reader, size_t count, size_t size)
{
    return fm_arena_alloc(&reader->scenario->arena, count * size);
}

static int read_uint32(const struct reader *reader, struct fm_config *mapping, const char *key,
                       uint32_t min, uint32_t max, uint32_t *value)
{
    int64_t number = *value;
    int status = fm_config_int(mapping, key, min, max, &number, reader->reterr);
    *value = (uint32_t)number;
    return status;
}

static int read_seed(const struct reader *reader, struct fm_config *mapping, const char *key,
                     uint64_t *value)
{
    int64_t number = (int64_t)*value;
    int status = fm_config_int(mapping, key, 0, INT64_MAX, &number, reader->reterr);
    *value = (uint64_t)number;
    return status;
}

/* A duration that simulated time can hold. */
static int read_time(const struct reader *reader, struct fm_config *mapping, const char *key,
                     uint64_t *value)
{
    int status = fm_config_duration_ns(mapping, key, value, reader->reterr);
    if (status == 0 && *value > FM_SIM_TIME_MAX_NS) {
        status = fm_config_error(fm_config_get(mapping, key), reader->reterr,
                                 "'%s' is longer than two years", key);
    }
    return status;
}

static int read_time_required(const struct reader *reader, struct fm_config *mapping,
                              const char *key, uint64_t *value)
{
    struct fm_config *node = NULL;
    int status = require(mapping, key, &node, reader->reterr);
    status = status == 0 ? read_time(reader, mapping, key, value) : status;
    if (status == 0 && *value == 0) {
        status = fm_config_error(node, reader->reterr, "'%s' must be above 0", key);
    }
    return status;
}

static int read_memory(const struct reader *reader, struct fm_config *mapping, uint64_t *value)
{
    int status = fm_config_bytes(mapping, "memory", value, reader->reterr);
    if (status == 0 && *value > FM_PARTITION_MEMORY_MAX_BYTES) {
        status = fm_config_error(fm_config_get(mapping, "memory"), reader->reterr,
                                 "'memory' is more than 64 TiB");
    }
    return status;
}

/* A list that has to be one; count 0 and NULL where it is absent. */
static int read_list(const struct reader *reader, struct fm_config *mapping, const char *key,
                     size_t limit, struct fm_config **ret_list)
{
    struct fm_config *list = fm_config_get(mapping, key);
    *ret_list = NULL;
    if (list == NULL || list->kind == FM_CONFIG_NULL) {
        return 0;
    }
    int status = fm_config_expect(list, FM_CONFIG_SEQUENCE, reader->reterr);
    if (status == 0 && list->count > limit) {
        status = fm_config_error(list, reader->reterr, "more than %zu entries in '%s'", limit, key);
    }
    *ret_list = list;
    return status;
}

/* C0, delete, and C1 as UTF-8 has them: U+009B begins a terminal's command as well as ESC does. */
static bool has_control(const char *text)
{
    for (const unsigned char *byte = (const unsigned char *)text; *byte != '\0'; byte++) {
        if (*byte < 0x20 || *byte == 0x7f || (*byte == 0xc2 && byte[1] >= 0x80 && byte[1] < 0xa0)) {
            return true;
        }
    }
    return false;
}

static int read_name(const struct reader *reader, struct fm_config *mapping, const char *key,
                     size_t length_max, const char **ret_name)
{
    struct fm_config *node = NULL;
    int status = require(mapping, key, &node, reader->reterr);
    status = status == 0 ? fm_config_expect(node, FM_CONFIG_SCALAR, reader->reterr) : status;
    if (status != 0) {
        return status;
    }
    size_t length = strlen(node->text);
    if (length == 0 || length > length_max) {
        return fm_config_error(node, reader->reterr, "'%s' must have 1 to %zu bytes", key,
                               length_max);
    }
    if (has_control(node->text)) {
        return fm_config_error(node, reader->reterr,
                               "'%s' has a control character in it: a name is what a terminal can "
                               "show",
                               key);
    }
    *ret_name = fm_arena_strdup(&reader->scenario->arena, node->text);
    return *ret_name != NULL ? 0 : out_of_memory(reader);
}

/* The path of a file that the scenario names; it is remembered as one that is read. */
static int resolve(const struct reader *reader, const struct fm_config *node, char *ret_path,
                   size_t size)
{
    struct fm_sim_scenario *scenario = reader->scenario;
    if (fm_path_join(ret_path, size, reader->directory, node->text) != 0) {
        return fm_config_error(node, reader->reterr, "the path is longer than %zu bytes", size - 1);
    }
    struct fm_sim_file *file = allocate(reader, 1, sizeof *file);
    char *path = fm_arena_strdup(&scenario->arena, ret_path);
    if (file == NULL || path == NULL) {
        return out_of_memory(reader);
    }
    *file = (struct fm_sim_file){.path = path, .next = scenario->files};
    scenario->files = file;
    return 0;
}

/* --- accelerators ------------------------------------------------------------------------------
 */

/* The index of a type's name; type_count when it is not there. */
static uint32_t type_find(const struct fm_sim_scenario *scenario, const char *name)
{
    uint32_t index = 0;
    while (index < scenario->type_count && strcmp(scenario->types[index], name) != 0) {
        index++;
    }
    return index;
}

static int read_pool(const struct reader *reader, struct fm_config *node, struct fm_sim_pool *pool)
{
    struct fm_sim_scenario *scenario = reader->scenario;
    struct fm_config *ignored = NULL;
    const char *type = "default";
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    status = status == 0 ? require(node, "count", &ignored, reader->reterr) : status;
    status = status == 0
                 ? read_uint32(reader, node, "count", 1, FM_SCHED_ACCELERATORS_LIMIT, &pool->count)
                 : status;
    if (status == 0 && fm_config_get(node, "type") != NULL) {
        status = read_name(reader, node, "type", FM_SIM_TYPE_NAME_SIZE - 1, &type);
    }
    status = status == 0 ? fm_config_finish(node, reader->reterr) : status;
    if (status != 0) {
        return status;
    }
    pool->type = type_find(scenario, type);
    if (pool->type == FM_SCHED_TYPES_LIMIT) {
        return fm_config_error(node, reader->reterr, "more than %u types of accelerators",
                               FM_SCHED_TYPES_LIMIT);
    }
    if (pool->type == scenario->type_count) {
        (void)snprintf(scenario->types[scenario->type_count++], FM_SIM_TYPE_NAME_SIZE, "%s", type);
    }
    return 0;
}

static int read_accelerators(const struct reader *reader, struct fm_config *root)
{
    struct fm_sim_scenario *scenario = reader->scenario;
    struct fm_config *node = NULL;
    int status = require(root, "accelerators", &node, reader->reterr);
    if (status != 0) {
        return status;
    }
    size_t count = node->kind == FM_CONFIG_SEQUENCE ? node->count : 1;
    if (count == 0 || count > FM_SIM_GROUPS_MAX) {
        return fm_config_error(node, reader->reterr, "'accelerators' has 1 to %u entries",
                               FM_SIM_GROUPS_MAX);
    }
    scenario->pools = allocate(reader, count, sizeof *scenario->pools);
    if (scenario->pools == NULL) {
        return out_of_memory(reader);
    }
    if (node->kind != FM_CONFIG_SEQUENCE) {
        scenario->pool_count = 1;
        scenario->type_count = 1;
        (void)snprintf(scenario->types[0], FM_SIM_TYPE_NAME_SIZE, "default");
        return read_uint32(reader, root, "accelerators", 1, FM_SCHED_ACCELERATORS_LIMIT,
                           &scenario->pools[0].count);
    }
    for (size_t i = 0; status == 0 && i < count; i++) {
        status = read_pool(reader, &node->children[i], &scenario->pools[scenario->pool_count++]);
    }
    return status;
}

/* --- profiles ----------------------------------------------------------------------------------
 */

static int read_affine(const struct reader *reader, struct fm_config *node,
                       struct fm_profile *profile)
{
    uint64_t alpha_ns = 0;
    uint64_t beta_ns = 0;
    uint32_t batch_max = AFFINE_BATCH_LIMIT;
    struct fm_config *ignored = NULL;
    int status = require(node, "alpha", &ignored, reader->reterr);
    status = status == 0 ? require(node, "beta", &ignored, reader->reterr) : status;
    status = status == 0 ? read_time(reader, node, "alpha", &alpha_ns) : status;
    status = status == 0 ? read_time(reader, node, "beta", &beta_ns) : status;
    status = status == 0 ? read_uint32(reader, node, "batch_max", 1, AFFINE_BATCH_LIMIT, &batch_max)
                         : status;
    if (status == 0 && alpha_ns + beta_ns == 0) {
        status = fm_config_error(node, reader->reterr, "'alpha' and 'beta' cannot both be 0");
    }
    struct fm_error error = {0};
    if (status == 0 && fm_profile_add_affine(profile, alpha_ns, beta_ns, batch_max, &error) != 0) {
        status = fm_config_error(node, reader->reterr, "%s", error.text);
    }
    return status;
}

static int read_table(const struct reader *reader, struct fm_config *table,
                      struct fm_profile *profile)
{
    int status = fm_config_expect(table, FM_CONFIG_MAPPING, reader->reterr);
    if (status == 0 && table->count == 0) {
        status =
            fm_config_error(table, reader->reterr, "'table' is empty: write {1: 20ms, 8: 100ms}");
    }
    for (size_t i = 0; status == 0 && i < table->count; i++) {
        const struct fm_config *node = &table->children[i];
        struct fm_profile_point point = {.sample_count = 1};
        uint64_t batch = 0;
        uint64_t latency_ns = 0;
        if (fm_parse_uint64(table->keys[i], &batch) != 0 || batch == 0 ||
            batch > FM_PROFILE_BATCH_MAX) {
            status =
                fm_config_error(node, reader->reterr, "'%.60s' is not a batch size from 1 to %u",
                                table->keys[i], FM_PROFILE_BATCH_MAX);
        }
        status = status == 0
                     ? fm_config_duration_ns(table, table->keys[i], &latency_ns, reader->reterr)
                     : status;
        point.batch = (uint32_t)batch;
        for (unsigned j = 0; j < FM_PROFILE_STATISTIC_COUNT_; j++) {
            point.latency_ns[j] = latency_ns;
        }
        struct fm_error error = {0};
        if (status == 0 && fm_profile_add(profile, &point, &error) != 0) {
            status = fm_config_error(node, reader->reterr, "%s", error.text);
        }
    }
    return status;
}

static int read_profile_file(const struct reader *reader, struct fm_config *node,
                             struct fm_profile *profile)
{
    char path[4096];
    uint32_t threads = 0;
    uint32_t instances = 0;
    struct fm_profile_record *record = NULL;
    struct fm_config *file = fm_config_get(node, "file");
    int status = fm_config_expect(file, FM_CONFIG_SCALAR, reader->reterr);
    status = status == 0 ? read_uint32(reader, node, "threads", 1, 1024, &threads) : status;
    status = status == 0 ? read_uint32(reader, node, "instances", 1, 1024, &instances) : status;
    status = status == 0 ? resolve(reader, file, path, sizeof path) : status;
    status = status == 0 ? fm_profile_file_load(path, &record, reader->reterr) : status;
    if (status != 0) {
        return status;
    }
    const struct fm_profile_setting *setting = fm_profile_record_find(record, threads, instances);
    if (setting == NULL || setting->profile.point_count == 0) {
        status = fm_config_error(node, reader->reterr,
                                 "the profile has no measured setting with these 'threads' and "
                                 "'instances'");
    } else {
        *profile = setting->profile;
    }
    fm_free(record);
    return status;
}

static int read_profile(const struct reader *reader, struct fm_config *node,
                        const struct fm_profile **ret_profile)
{
    struct fm_profile *profile = allocate(reader, 1, sizeof *profile);
    if (profile == NULL) {
        return out_of_memory(reader);
    }
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    if (status != 0) {
        return status;
    }
    struct fm_config *table = fm_config_get(node, "table");
    bool from_file = fm_config_get(node, "file") != NULL;
    if (table != NULL && !from_file) {
        status = read_table(reader, table, profile);
    } else if (from_file && table == NULL) {
        status = read_profile_file(reader, node, profile);
    } else if (from_file) {
        status =
            fm_config_error(node, reader->reterr, "a profile is a 'table' or a 'file', not both");
    } else {
        status = read_affine(reader, node, profile);
    }
    *ret_profile = profile;
    return status == 0 ? fm_config_finish(node, reader->reterr) : status;
}

/* 'profile' for all types alike, or 'profiles' by type: [FM_SCHED_TYPES_LIMIT]. */
static int read_profiles(const struct reader *reader, struct fm_config *node,
                         const struct fm_profile **profiles)
{
    struct fm_sim_scenario *scenario = reader->scenario;
    struct fm_config *one = fm_config_get(node, "profile");
    struct fm_config *many = fm_config_get(node, "profiles");
    if ((one == NULL) == (many == NULL)) {
        return fm_config_error(node, reader->reterr,
                               "a model needs either 'profile' or 'profiles' (by type of "
                               "accelerator)");
    }
    if (one != NULL) {
        int status = read_profile(reader, one, &profiles[0]);
        for (uint32_t i = 1; i < scenario->type_count; i++) {
            profiles[i] = profiles[0];
        }
        return status;
    }
    int status = fm_config_expect(many, FM_CONFIG_MAPPING, reader->reterr);
    for (uint32_t i = 0; status == 0 && i < scenario->type_count; i++) {
        struct fm_config *child = fm_config_get(many, scenario->types[i]);
        if (child != NULL) {
            status = read_profile(reader, child, &profiles[i]);
        }
    }
    return status == 0 ? fm_config_finish(many, reader->reterr) : status;
}

/* --- arrivals ----------------------------------------------------------------------------------
 */

static int read_states(const struct reader *reader, struct fm_config *node,
                       struct fm_arrivals_spec *spec)
{
    struct fm_config *list = NULL;
    int status = read_list(reader, node, "states", FM_ARRIVALS_STATES_MAX, &list);
    for (size_t i = 0; status == 0 && list != NULL && i < list->count; i++) {
        struct fm_config *entry = &list->children[i];
        struct fm_arrivals_state *state = &spec->states[spec->state_count++];
        struct fm_config *ignored = NULL;
        uint64_t mean_ns = 0;
        status = fm_config_expect(entry, FM_CONFIG_MAPPING, reader->reterr);
        status = status == 0 ? require(entry, "rate", &ignored, reader->reterr) : status;
        status = status == 0 ? fm_config_double(entry, "rate", 0, FM_ARRIVALS_RATE_MAX_HZ,
                                                &state->rate_hz, reader->reterr)
                             : status;
        status = status == 0 ? read_time_required(reader, entry, "mean", &mean_ns) : status;
        status = status == 0 ? fm_config_finish(entry, reader->reterr) : status;
        state->mean_s = (double)mean_ns / 1e9;
    }
    return status;
}

static int read_steps(const struct reader *reader, struct fm_config *node,
                      struct fm_arrivals_spec *spec)
{
    struct fm_config *list = NULL;
    int status = read_list(reader, node, "steps", FM_ARRIVALS_STEPS_MAX, &list);
    if (status != 0 || list == NULL) {
        return status;
    }
    struct fm_arrivals_step *steps = allocate(reader, list->count, sizeof *steps);
    if (steps == NULL) {
        return out_of_memory(reader);
    }
    for (size_t i = 0; status == 0 && i < list->count; i++) {
        struct fm_config *entry = &list->children[i];
        struct fm_config *ignored = NULL;
        status = fm_config_expect(entry, FM_CONFIG_MAPPING, reader->reterr);
        status = status == 0 ? require(entry, "at", &ignored, reader->reterr) : status;
        status = status == 0 ? read_time(reader, entry, "at", &steps[i].at_ns) : status;
        status = status == 0 ? require(entry, "factor", &ignored, reader->reterr) : status;
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

/* One column of a trace, in the arena. */
static int trace_parse(const struct reader *reader, const struct fm_trace_text_options *options,
                       const char *data, size_t size, uint64_t **ret_times, uint64_t *ret_count)
{
    uint64_t *parsed = NULL;
    int status = fm_trace_text_parse(options, data, size, &parsed, ret_count, reader->reterr);
    if (status != 0) {
        return status;
    }
    uint64_t *times = allocate(reader, *ret_count, sizeof *times);
    if (times != NULL) {
        memcpy(times, parsed, *ret_count * sizeof *times);
    }
    fm_free(parsed);
    *ret_times = times;
    return times != NULL ? 0 : out_of_memory(reader);
}

/* What each request has from its time to its deadline; both count from the same zero. */
static int trace_budgets(const struct reader *reader, struct fm_config *node,
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
                                     (unsigned long long)(i + 1), options->name,
                                     (double)times_ns[i] / 1e9, (double)deadline_ns / 1e9);
        }
    }
    group->budgets_ns = budgets_ns;
    return status;
}

static int trace_take(const struct reader *reader, struct fm_config *node,
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

static int read_trace(const struct reader *reader, struct fm_config *node,
                      struct fm_sim_group *group)
{
    char path[4096];
    char *data = NULL;
    size_t size = 0;
    bool from_first = false;
    const char *deadline_column = NULL;
    struct fm_config *file = NULL;
    struct fm_trace_text_options options = {.name = path, .times_max = FM_SIM_TRACE_TIMES_MAX};
    int status = require(node, "file", &file, reader->reterr);
    status = status == 0 ? fm_config_expect(file, FM_CONFIG_SCALAR, reader->reterr) : status;
    status =
        status == 0 ? fm_config_string(node, "column", &options.column, reader->reterr) : status;
    status = status == 0
                 ? fm_config_string(node, "deadline_column", &deadline_column, reader->reterr)
                 : status;
    if (status == 0 && deadline_column != NULL && options.column == NULL) {
        status = fm_config_error(fm_config_get(node, "deadline_column"), reader->reterr,
                                 "'deadline_column' is for CSV files: name the 'column' of the "
                                 "times, too");
    }
    status = status == 0 ? fm_config_bool(node, "from_first", &from_first, reader->reterr) : status;
    status = status == 0 ? resolve(reader, file, path, sizeof path) : status;
    status =
        status == 0 ? fm_file_read(path, TRACE_BYTES_MAX, &data, &size, reader->reterr) : status;
    status = status == 0 ? trace_take(reader, node, &options, from_first, deadline_column, data,
                                      size, group)
                         : status;
    fm_free(data);
    return status;
}

static int read_arrivals(const struct reader *reader, struct fm_config *mapping,
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
    int status = require(mapping, "arrivals", &node, reader->reterr);
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
        status = require(node, "shape", &ignored, reader->reterr);
        status = status == 0 ? fm_config_double(node, "shape", FM_ARRIVALS_SHAPE_MIN,
                                                FM_ARRIVALS_SHAPE_MAX, &spec->shape, reader->reterr)
                             : status;
    }
    if (kind == FM_ARRIVALS_MMPP) {
        status = status == 0 ? read_states(reader, node, spec) : status;
    } else {
        status = status == 0 ? require(node, "rate", &ignored, reader->reterr) : status;
    }
    status = status == 0 ? fm_config_double(node, "rate", FM_ARRIVALS_RATE_MIN_HZ,
                                            FM_ARRIVALS_RATE_MAX_HZ, &spec->rate_hz, reader->reterr)
                         : status;
    status = status == 0 ? read_steps(reader, node, spec) : status;
    status = status == 0 ? read_time(reader, node, "period", &spec->period_ns) : status;
    return status == 0 ? fm_config_finish(node, reader->reterr) : status;
}

/* --- models ------------------------------------------------------------------------------------
 */

static int read_preferred(const struct reader *reader, struct fm_config *node,
                          struct fm_sim_group *group)
{
    struct fm_config *list = NULL;
    int status = read_list(reader, node, "preferred", FM_SCHED_PREFERRED_MAX, &list);
    for (size_t i = 0; status == 0 && list != NULL && i < list->count; i++) {
        uint64_t batch = 0;
        const struct fm_config *entry = &list->children[i];
        if (entry->kind != FM_CONFIG_SCALAR || fm_parse_uint64(entry->text, &batch) != 0 ||
            batch == 0 || batch > FM_SCHED_BATCH_LIMIT ||
            (i > 0 && batch <= group->preferred[i - 1])) {
            return fm_config_error(entry, reader->reterr,
                                   "'preferred' is a list of batch sizes from 1 to %u, ascending",
                                   FM_SCHED_BATCH_LIMIT);
        }
        group->preferred[i] = (uint32_t)batch;
    }
    return status;
}

static int read_choices(const struct reader *reader, struct fm_config *node,
                        struct fm_sim_group *group)
{
    const char *goals[FM_SCHED_GOAL_COUNT_ + 1] = {NULL};
    const char *statistics[FM_PROFILE_STATISTIC_COUNT_ + 1] = {NULL};
    for (unsigned i = 0; i < FM_SCHED_GOAL_COUNT_; i++) {
        goals[i] = fm_sched_goal_name((enum fm_sched_goal)i);
    }
    for (unsigned i = 0; i < FM_PROFILE_STATISTIC_COUNT_; i++) {
        statistics[i] = fm_profile_statistic_name((enum fm_profile_statistic)i);
    }
    int goal = FM_SCHED_GOAL_BALANCED;
    int statistic = FM_PROFILE_MEAN;
    int status = fm_config_enum(node, "goal", goals, &goal, reader->reterr);
    status = status == 0 ? fm_config_enum(node, "statistic", statistics, &statistic, reader->reterr)
                         : status;
    group->goal = (enum fm_sched_goal)goal;
    group->statistic = (enum fm_profile_statistic)statistic;
    return status;
}

/* "{20ms: 0.7, 100ms: 0.3}": values that requests draw, with their shares; ascending after this.
 * `parse`: of a key. */
static int read_mix(const struct reader *reader, struct fm_config *node, const char *key,
                    uint32_t limit, int (*parse)(const char *, uint64_t *),
                    struct fm_sim_choice *choices, uint32_t *ret_count)
{
    double shares[FM_SIM_SLOS_MAX] = {0};
    double sum = 0;
    uint32_t count = 0;
    if (node->count == 0 || node->count > limit) {
        return fm_config_error(node, reader->reterr, "'%s' has 1 to %u values with their shares",
                               key, limit);
    }
    for (size_t i = 0; i < node->count; i++, count++) {
        uint64_t value = 0;
        double share = 0;
        if (parse(node->keys[i], &value) != 0) {
            return fm_config_error(&node->children[i], reader->reterr,
                                   "'%.60s' is not a value of '%s'; write {VALUE: SHARE, ...}",
                                   node->keys[i], key);
        }
        int status = fm_config_double(node, node->keys[i], 1e-6, 1, &share, reader->reterr);
        uint32_t place = count;
        for (; status == 0 && place > 0 && choices[place - 1].value >= value; place--) {
            if (choices[place - 1].value == value) {
                return fm_config_error(&node->children[i], reader->reterr, "'%s' has '%.60s' twice",
                                       key, node->keys[i]);
            }
            choices[place].value = choices[place - 1].value;
            shares[place] = shares[place - 1];
        }
        if (status != 0) {
            return status;
        }
        choices[place].value = value;
        shares[place] = share;
        sum += share;
    }
    if (sum < 0.999 || sum > 1.001) {
        return fm_config_error(node, reader->reterr, "the shares of '%s' add up to %g, not to 1",
                               key, sum);
    }
    double below = 0;
    for (uint32_t i = 0; i < count; i++) {
        below += shares[i];
        choices[i].below = (uint64_t)(below / sum * (double)FM_SIM_DRAW_END + 0.5);
    }
    choices[count - 1].below = FM_SIM_DRAW_END;
    *ret_count = count;
    return 0;
}

static int parse_slo(const char *text, uint64_t *ret_ns)
{
    int status = fm_parse_duration_ns(text, ret_ns);
    return status == 0 && *ret_ns > 0 && *ret_ns <= FM_SIM_TIME_MAX_NS ? 0 : FM_EINVAL;
}

static int parse_priority(const char *text, uint64_t *ret_priority)
{
    int status = fm_parse_uint64(text, ret_priority);
    return status == 0 && *ret_priority < FM_SCHED_PRIORITY_COUNT ? 0 : FM_EINVAL;
}

/* One of each for all requests, or shares of several. */
static int read_slo_priority(const struct reader *reader, struct fm_config *node,
                             struct fm_sim_group *group)
{
    struct fm_config *slos = fm_config_get(node, "slo");
    struct fm_config *priorities = fm_config_get(node, "priority");
    int status = 0;
    if (slos != NULL && slos->kind == FM_CONFIG_MAPPING) {
        status = read_mix(reader, slos, "slo", FM_SIM_SLOS_MAX, parse_slo, group->slo_choices,
                          &group->slo_choice_count);
        /* Measured: told a longer one, the scheduler plans batches that the shortest cannot wait
         * for, and loses more of those than it wins of the others (docs/sim.md). */
        group->slo_ns = fm_sim_group_slo_min_ns(group);
    } else if (slos != NULL || !reader->has_pipelines) {
        status = read_time_required(reader, node, "slo", &group->slo_ns);
    }
    if (status != 0 || priorities == NULL || priorities->kind != FM_CONFIG_MAPPING) {
        return status == 0 ? read_uint32(reader, node, "priority", 0, FM_SCHED_PRIORITY_COUNT - 1,
                                         &group->priority)
                           : status;
    }
    status = read_mix(reader, priorities, "priority", FM_SCHED_PRIORITY_COUNT, parse_priority,
                      group->priority_choices, &group->priority_choice_count);
    group->priority = (uint32_t)group->priority_choices[0].value;
    return status;
}

/* Whether it is there at the beginning, and who asks for it when it is not. */
static int read_presence(const struct reader *reader, struct fm_config *node,
                         struct fm_sim_group *group)
{
    static const char *const names[] = {"stay", "leave", NULL};
    bool present = true;
    int clients = 0;
    int status = fm_config_bool(node, "present", &present, reader->reterr);
    status =
        status == 0 ? fm_config_enum(node, "clients", names, &clients, reader->reterr) : status;
    group->absent = !present;
    group->clients_leave = clients == 1;
    return status;
}

static int read_group(const struct reader *reader, struct fm_config *node,
                      struct fm_sim_group *group)
{
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    group->line = node->line;
    group->count = 1;
    status = status == 0 ? read_name(reader, node, "name", NAME_LENGTH_MAX, &group->name) : status;
    status = status == 0
                 ? read_uint32(reader, node, "count", 1, FM_SCHED_MODELS_LIMIT, &group->count)
                 : status;
    status = status == 0
                 ? fm_config_double(node, "popularity", 0, 10, &group->popularity, reader->reterr)
                 : status;
    status = status == 0 ? read_slo_priority(reader, node, group) : status;
    status = status == 0 ? read_presence(reader, node, group) : status;
    status = status == 0 ? read_choices(reader, node, group) : status;
    status = status == 0 ? read_uint32(reader, node, "batch_max", 1, FM_SCHED_BATCH_LIMIT,
                                       &group->batch_max)
                         : status;
    status = status == 0 ? read_preferred(reader, node, group) : status;
    status = status == 0 ? read_memory(reader, node, &group->memory_bytes) : status;
    /* Unless it is given: a fifth of the SLO, which is what one would try first. */
    group->queue_delay_ns = group->slo_ns / 5;
    status = status == 0 ? read_time(reader, node, "queue_delay", &group->queue_delay_ns) : status;
    status = status == 0 ? read_profiles(reader, node, group->profiles) : status;
    group->silent = reader->has_pipelines && fm_config_get(node, "arrivals") == NULL;
    status = status == 0 && !group->silent ? read_arrivals(reader, node, group) : status;
    return status == 0 ? fm_config_finish(node, reader->reterr) : status;
}

/* Whether a group of several has a model of that name, "group.index". */
static bool group_has(const struct fm_sim_group *group, const char *name, uint64_t *ret_index)
{
    size_t length = strlen(group->name);
    *ret_index = 0;
    return group->count > 1 && strncmp(name, group->name, length) == 0 && name[length] == '.' &&
           fm_parse_uint64(name + length + 1, ret_index) == 0 && *ret_index < group->count;
}

/* No name may stand for two models, or for a model and a group. */
static int group_name_check(const struct reader *reader, const struct fm_config *node,
                            const struct fm_sim_group *before, const struct fm_sim_group *group)
{
    uint64_t index = 0;
    if (strcmp(before->name, group->name) == 0) {
        return fm_config_error(node, reader->reterr, "two models are called '%s'", group->name);
    }
    bool of_before = group_has(before, group->name, &index);
    if (!of_before && !group_has(group, before->name, &index)) {
        return 0;
    }
    const struct fm_sim_group *many = of_before ? before : group;
    return fm_config_error(node, reader->reterr,
                           "two models are called '%s': '%s' with a count of %u has one of that "
                           "name, too",
                           of_before ? group->name : before->name, many->name, many->count);
}

static int read_groups(struct reader *reader, struct fm_config *root)
{
    struct fm_sim_scenario *scenario = reader->scenario;
    struct fm_config *list = NULL;
    reader->has_pipelines = fm_config_get(root, "pipelines") != NULL;
    int status = require(root, "models", &list, reader->reterr);
    status = status == 0 ? fm_config_expect(list, FM_CONFIG_SEQUENCE, reader->reterr) : status;
    if (status == 0 && (list->count == 0 || list->count > FM_SIM_GROUPS_MAX)) {
        status = fm_config_error(list, reader->reterr,
                                 "'models' has 1 to %u entries (one may stand for many: 'count')",
                                 FM_SIM_GROUPS_MAX);
    }
    if (status != 0) {
        return status;
    }
    scenario->groups = allocate(reader, list->count, sizeof *scenario->groups);
    if (scenario->groups == NULL) {
        return out_of_memory(reader);
    }
    for (size_t i = 0; status == 0 && i < list->count; i++) {
        struct fm_sim_group *group = &scenario->groups[scenario->group_count++];
        status = read_group(reader, &list->children[i], group);
        for (size_t j = 0; status == 0 && j < i; j++) {
            status = group_name_check(reader, &list->children[i], &scenario->groups[j], group);
        }
    }
    return status;
}

/* --- pipelines ---------------------------------------------------------------------------------
 */

/* "m" for all of a group, "m.3" for one of its models. */
static int find_models(const struct reader *reader, const struct fm_config *name,
                       uint32_t *ret_first, uint32_t *ret_count,
                       const struct fm_sim_group **ret_group)
{
    const struct fm_sim_scenario *scenario = reader->scenario;
    int status = fm_config_expect(name, FM_CONFIG_SCALAR, reader->reterr);
    uint32_t first = 0;
    for (uint32_t i = 0; status == 0 && i < scenario->group_count; i++) {
        const struct fm_sim_group *group = &scenario->groups[i];
        uint64_t index = 0;
        bool all = strcmp(name->text, group->name) == 0;
        bool one = group_has(group, name->text, &index);
        if (all || one) {
            *ret_first = first + (one ? (uint32_t)index : 0);
            *ret_count = one ? 1 : group->count;
            *ret_group = group;
            return 0;
        }
        first += group->count;
    }
    return status == 0
               ? fm_config_error(name, reader->reterr, "there is no model '%.100s'", name->text)
               : status;
}

static int read_stages(const struct reader *reader, struct fm_config *node,
                       struct fm_sim_pipeline *pipeline)
{
    struct fm_config *list = NULL;
    int status = require(node, "stages", &list, reader->reterr);
    status = status == 0 ? fm_config_expect(list, FM_CONFIG_SEQUENCE, reader->reterr) : status;
    if (status == 0 && (list->count == 0 || list->count > FM_SIM_STAGES_MAX)) {
        status =
            fm_config_error(list, reader->reterr, "'stages' has 1 to %u models", FM_SIM_STAGES_MAX);
    }
    for (size_t i = 0; status == 0 && i < list->count; i++) {
        const struct fm_sim_group *group = NULL;
        uint32_t count = 0;
        status = find_models(reader, &list->children[i], &pipeline->stages[i], &count, &group);
        if (status == 0 && count > 1) {
            status = fm_config_error(&list->children[i], reader->reterr,
                                     "'%.100s' are %u models, a stage is one: write '%.100s.0'",
                                     group->name, count, group->name);
        }
        pipeline->stage_count++;
    }
    return status;
}

static int read_pipeline(const struct reader *reader, struct fm_config *node,
                         struct fm_sim_pipeline *pipeline)
{
    static const char *const splits[] = {"budget", "even", NULL};
    struct fm_sim_group load = {0};
    int split = 0;
    pipeline->line = node->line;
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    status =
        status == 0 ? read_name(reader, node, "name", NAME_LENGTH_MAX, &pipeline->name) : status;
    status = status == 0 ? read_time_required(reader, node, "slo", &pipeline->slo_ns) : status;
    status = status == 0 ? read_uint32(reader, node, "priority", 0, FM_SCHED_PRIORITY_COUNT - 1,
                                       &pipeline->priority)
                         : status;
    status = status == 0 ? read_stages(reader, node, pipeline) : status;
    status = status == 0 ? fm_config_enum(node, "split", splits, &split, reader->reterr) : status;
    status = status == 0 ? read_arrivals(reader, node, &load) : status;
    if (status == 0 && load.budgets_ns != NULL) {
        status = fm_config_error(fm_config_get(node, "arrivals"), reader->reterr,
                                 "'deadline_column' is for models; a pipeline has one slo");
    }
    pipeline->even = split == 1;
    pipeline->arrivals = load.arrivals;
    return status == 0 ? fm_config_finish(node, reader->reterr) : status;
}

static int read_pipelines(const struct reader *reader, struct fm_config *root)
{
    struct fm_sim_scenario *scenario = reader->scenario;
    struct fm_config *list = NULL;
    int status = read_list(reader, root, "pipelines", FM_SIM_PIPELINES_MAX, &list);
    if (status != 0 || list == NULL) {
        return status;
    }
    scenario->pipelines = allocate(reader, list->count, sizeof *scenario->pipelines);
    if (scenario->pipelines == NULL) {
        return out_of_memory(reader);
    }
    for (size_t i = 0; status == 0 && i < list->count; i++) {
        struct fm_sim_pipeline *pipeline = &scenario->pipelines[scenario->pipeline_count++];
        status = read_pipeline(reader, &list->children[i], pipeline);
        for (size_t j = 0; status == 0 && j < i; j++) {
            if (strcmp(scenario->pipelines[j].name, pipeline->name) == 0) {
                status = fm_config_error(&list->children[i], reader->reterr,
                                         "two pipelines are called '%s'", pipeline->name);
            }
        }
    }
    return status;
}

/* --- what goes wrong, and what changes ---------------------------------------------------------
 */

/* The profile times a factor. */
static int scale_profile(const struct reader *reader, const struct fm_config *node,
                         const struct fm_profile *profile, double factor,
                         const struct fm_profile **ret_scaled)
{
    struct fm_profile *scaled = allocate(reader, 1, sizeof *scaled);
    if (scaled == NULL) {
        return out_of_memory(reader);
    }
    for (uint32_t i = 0; i < profile->point_count; i++) {
        struct fm_profile_point point = profile->points[i];
        for (unsigned j = 0; j < FM_PROFILE_STATISTIC_COUNT_; j++) {
            double latency_ns = (double)point.latency_ns[j] * factor + 0.5;
            point.latency_ns[j] = latency_ns < 1 ? 1 : (uint64_t)latency_ns;
        }
        struct fm_error error = {0};
        if (fm_profile_add(scaled, &point, &error) != 0) {
            return fm_config_error(node, reader->reterr, "times 'factor': %s", error.text);
        }
    }
    *ret_scaled = scaled;
    return 0;
}

/* A new profile: written out, or a factor on the one the scenario gives the model. */
static int read_reprofiled(const struct reader *reader, struct fm_config *node,
                           const struct fm_sim_group *group, struct fm_sim_event *event)
{
    static const char *const changes[] = {"both", "truth", "promise", NULL};
    const struct fm_profile **profiles = allocate(reader, FM_SCHED_TYPES_LIMIT, sizeof *profiles);
    struct fm_config *factor_node = fm_config_get(node, "factor");
    double factor = 1;
    int change = FM_SIM_CHANGE_BOTH;
    if (profiles == NULL) {
        return out_of_memory(reader);
    }
    int status = fm_config_enum(node, "changes", changes, &change, reader->reterr);
    if (status == 0 && factor_node == NULL) {
        status = read_profiles(reader, node, profiles);
    } else if (status == 0 && (fm_config_get(node, "profile") != NULL ||
                               fm_config_get(node, "profiles") != NULL)) {
        status =
            fm_config_error(factor_node, reader->reterr,
                            "give the new profile, or a 'factor' on the model's own, not both");
    } else if (status == 0) {
        status = fm_config_double(node, "factor", 0.01, 1000, &factor, reader->reterr);
        for (uint32_t i = 0; status == 0 && i < reader->scenario->type_count; i++) {
            status = group->profiles[i] == NULL
                         ? 0
                         : scale_profile(reader, node, group->profiles[i], factor, &profiles[i]);
        }
    }
    event->change = (enum fm_sim_change)change;
    event->profiles = profiles;
    return status;
}

static int read_event_model(const struct reader *reader, struct fm_config *node,
                            struct fm_sim_event *event)
{
    const struct fm_sim_group *group = NULL;
    struct fm_config *name = NULL;
    int status = require(node, "model", &name, reader->reterr);
    status = status == 0 ? find_models(reader, name, &event->first, &event->count, &group) : status;
    return status == 0 && event->kind == FM_SIM_EVENT_REPROFILED
               ? read_reprofiled(reader, node, group, event)
               : status;
}

static int read_event_accelerator(const struct reader *reader, struct fm_config *node,
                                  struct fm_sim_event *event)
{
    struct fm_config *ignored = NULL;
    double factor = 1;
    event->count = 1;
    int status = require(node, "accelerator", &ignored, reader->reterr);
    status = status == 0 ? read_uint32(reader, node, "accelerator", 0,
                                       FM_SCHED_ACCELERATORS_LIMIT - 1, &event->first)
                         : status;
    status = status == 0
                 ? read_uint32(reader, node, "count", 1, FM_SCHED_ACCELERATORS_LIMIT, &event->count)
                 : status;
    if (status == 0 && event->kind == FM_SIM_EVENT_SLOW) {
        status = require(node, "factor", &ignored, reader->reterr);
        status = status == 0 ? fm_config_double(node, "factor", 0.01, 1000, &factor, reader->reterr)
                             : status;
    }
    event->permille = (uint32_t)(factor * 1000 + 0.5);
    return status;
}

static int read_event(const struct reader *reader, struct fm_config *node,
                      struct fm_sim_event *event)
{
    /* In the order of fm_sim_event_kind. */
    static const char *const names[] = {"down",          "up",         "slow", "model_added",
                                        "model_removed", "reprofiled", NULL};
    struct fm_config *ignored = NULL;
    int kind = 0;
    event->line = node->line;
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    status = status == 0 ? require(node, "at", &ignored, reader->reterr) : status;
    status = status == 0 ? read_time(reader, node, "at", &event->at_ns) : status;
    status = status == 0 ? require(node, "kind", &ignored, reader->reterr) : status;
    status = status == 0 ? fm_config_enum(node, "kind", names, &kind, reader->reterr) : status;
    event->kind = (enum fm_sim_event_kind)kind;
    if (status == 0) {
        status = kind >= FM_SIM_EVENT_MODEL_ADDED ? read_event_model(reader, node, event)
                                                  : read_event_accelerator(reader, node, event);
    }
    return status == 0 ? fm_config_finish(node, reader->reterr) : status;
}

static int read_events(const struct reader *reader, struct fm_config *root)
{
    struct fm_sim_scenario *scenario = reader->scenario;
    struct fm_config *list = NULL;
    int status = read_list(reader, root, "events", FM_SIM_EVENTS_MAX, &list);
    if (status != 0 || list == NULL) {
        return status;
    }
    scenario->events = allocate(reader, list->count, sizeof *scenario->events);
    if (scenario->events == NULL) {
        return out_of_memory(reader);
    }
    for (size_t i = 0; status == 0 && i < list->count; i++) {
        status = read_event(reader, &list->children[i], &scenario->events[scenario->event_count++]);
    }
    return status;
}

/* A map of a share (or sigma), and a seed of its own. */
static int read_chance(const struct reader *reader, struct fm_config *root, const char *key,
                       const char *share_key, double share_max, double *share, uint64_t *seed,
                       uint64_t *delay_ns)
{
    struct fm_config *node = fm_config_get(root, key);
    struct fm_config *ignored = NULL;
    if (node == NULL || node->kind == FM_CONFIG_NULL) {
        return 0;
    }
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    status = status == 0 ? require(node, share_key, &ignored, reader->reterr) : status;
    status = status == 0 ? fm_config_double(node, share_key, 0, share_max, share, reader->reterr)
                         : status;
    status = status == 0 ? read_seed(reader, node, "seed", seed) : status;
    if (status == 0 && delay_ns != NULL) {
        status = require(node, "delay", &ignored, reader->reterr);
        status = status == 0 ? read_time(reader, node, "delay", delay_ns) : status;
    }
    return status == 0 ? fm_config_finish(node, reader->reterr) : status;
}

/* A share, kept in parts of `whole`. */
static int read_parts(const struct reader *reader, struct fm_config *node, const char *key,
                      double share_max, uint32_t whole, uint32_t *parts)
{
    double share = (double)*parts / whole;
    int status = fm_config_double(node, key, 0, share_max, &share, reader->reterr);
    *parts = (uint32_t)(share * whole + 0.5);
    return status;
}

static int read_autoscale(const struct reader *reader, struct fm_config *root)
{
    struct fm_sim_autoscale *autoscale = &reader->scenario->autoscale;
    struct fm_advice_options *advice = &autoscale->advice;
    struct fm_config *node = fm_config_get(root, "autoscale");
    if (node == NULL || node->kind == FM_CONFIG_NULL) {
        return 0;
    }
    autoscale->on = true;
    autoscale->line = node->line;
    const struct {
        const char *key;
        uint32_t min;
        uint32_t max;
        uint32_t *value;
    } counts[] = {
        {"min", 0, FM_SCHED_ACCELERATORS_LIMIT, &advice->accelerators_min},
        {"max", 1, FM_SCHED_ACCELERATORS_LIMIT, &advice->accelerators_max},
        {"initial", 0, FM_SCHED_ACCELERATORS_LIMIT, &autoscale->initial},
        {"step_max", 0, FM_SCHED_ACCELERATORS_LIMIT, &advice->step_max},
    };
    const struct {
        const char *key;
        uint64_t *value;
    } times[] = {
        {"interval", &autoscale->interval_ns}, {"start_delay", &autoscale->start_delay_ns},
        {"lack_hold", &advice->lack_hold_ns},  {"surplus_hold", &advice->surplus_hold_ns},
        {"cooldown", &advice->cooldown_ns},
    };
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    for (size_t i = 0; status == 0 && i < FM_COUNT_OF(counts); i++) {
        status =
            read_uint32(reader, node, counts[i].key, counts[i].min, counts[i].max, counts[i].value);
    }
    for (size_t i = 0; status == 0 && i < FM_COUNT_OF(times); i++) {
        status = read_time(reader, node, times[i].key, times[i].value);
    }
    if (status == 0 && autoscale->interval_ns < FM_SIM_INTERVAL_MIN_NS) {
        status = fm_config_error(fm_config_get(node, "interval"), reader->reterr,
                                 "'interval' must be at least 10 ms");
    }
    status = status == 0
                 ? read_parts(reader, node, "headroom", 10, 1000, &advice->headroom_permille)
                 : status;
    status = status == 0 ? read_parts(reader, node, "bad_tolerated", 0.999, 10000,
                                      &advice->bad_tolerated_permyriad)
                         : status;
    return status == 0 ? fm_config_finish(node, reader->reterr) : status;
}

static int read_partition(const struct reader *reader, struct fm_config *root)
{
    struct fm_sim_partition *partition = &reader->scenario->partition;
    struct fm_config *node = fm_config_get(root, "partition");
    struct fm_config *ignored = NULL;
    if (node == NULL || node->kind == FM_CONFIG_NULL) {
        return 0;
    }
    partition->line = node->line;
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    status = status == 0 ? require(node, "clusters", &ignored, reader->reterr) : status;
    status = status == 0 ? read_uint32(reader, node, "clusters", 0, FM_PARTITION_CLUSTERS_LIMIT,
                                       &partition->clusters)
                         : status;
    status = status == 0 ? read_memory(reader, node, &partition->memory_bytes) : status;
    status = status == 0 ? read_time(reader, node, "every", &partition->every_ns) : status;
    status = status == 0
                 ? read_parts(reader, node, "threshold", 10, 1000, &partition->threshold_permille)
                 : status;
    status = status == 0 ? read_parts(reader, node, "gain", 10, 1000, &partition->gain_permille)
                         : status;
    return status == 0 ? fm_config_finish(node, reader->reterr) : status;
}

/* A term of the network, up to what the scheduler takes. */
static int read_term(const struct reader *reader, struct fm_config *node, const char *key,
                     uint64_t most_ns, uint64_t *value)
{
    int status = read_time(reader, node, key, value);
    if (status == 0 && *value > most_ns) {
        status = fm_config_error(fm_config_get(node, key), reader->reterr,
                                 "'%s' is at most %.9g s, which the scheduler can plan with", key,
                                 (double)(most_ns / 1000000000));
    }
    return status;
}

static int read_network(const struct reader *reader, struct fm_config *root)
{
    struct fm_sim_scenario *scenario = reader->scenario;
    struct fm_config *node = fm_config_get(root, "network");
    if (node == NULL || node->kind == FM_CONFIG_NULL) {
        return 0;
    }
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reader->reterr);
    status = status == 0 ? read_term(reader, node, "control", FM_PROFILE_LATENCY_MAX_NS,
                                     &scenario->control_ns)
                         : status;
    status = status == 0
                 ? read_term(reader, node, "data", FM_PROFILE_LATENCY_MAX_NS / FM_SCHED_BATCH_LIMIT,
                             &scenario->data_ns)
                 : status;
    status = status == 0 ? read_term(reader, node, "result", FM_PROFILE_LATENCY_MAX_NS,
                                     &scenario->result_ns)
                         : status;
    return status == 0 ? fm_config_finish(node, reader->reterr) : status;
}

static int read_settings(const struct reader *reader, struct fm_config *root)
{
    struct fm_sim_scenario *scenario = reader->scenario;
    const char *policies[FM_SCHED_POLICY_COUNT_ + 1] = {NULL};
    for (unsigned i = 0; i < FM_SCHED_POLICY_COUNT_; i++) {
        policies[i] = fm_sched_policy_name((enum fm_sched_policy_kind)i);
    }
    int policy = FM_SCHED_POLICY_DEFERRED;
    int status = read_seed(reader, root, "seed", &scenario->seed);
    status = status == 0 ? read_time(reader, root, "warmup", &scenario->warmup_ns) : status;
    status = status == 0 ? read_time(reader, root, "measure", &scenario->measure_ns) : status;
    scenario->ends_with_load = true;
    status =
        status == 0 ? fm_config_enum(root, "policy", policies, &policy, reader->reterr) : status;
    scenario->policy = (enum fm_sched_policy_kind)policy;
    status = status == 0 ? read_uint32(reader, root, "batch_max", 1, FM_SCHED_BATCH_LIMIT,
                                       &scenario->batch_max)
                         : status;
    status = status == 0
                 ? read_uint32(reader, root, "attempts", 1, UINT8_MAX, &scenario->attempts_max)
                 : status;
    status = status == 0 ? read_uint32(reader, root, "requests_max", 1, FM_SCHED_REQUESTS_LIMIT,
                                       &scenario->requests_max)
                         : status;
    status = status == 0 ? fm_config_bool(root, "learn", &scenario->learn, reader->reterr) : status;
    return status == 0 ? fm_config_bool(root, "admit", &scenario->admit, reader->reterr) : status;
}

static int read_root(struct reader *reader, struct fm_config *root)
{
    struct fm_sim_scenario *scenario = reader->scenario;
    int status = fm_config_expect(root, FM_CONFIG_MAPPING, reader->reterr);
    status = status == 0 ? read_settings(reader, root) : status;
    status = status == 0 ? read_network(reader, root) : status;
    status = status == 0 ? read_accelerators(reader, root) : status;
    status = status == 0 ? read_groups(reader, root) : status;
    status = status == 0 ? read_pipelines(reader, root) : status;
    status = status == 0 ? read_chance(reader, root, "spread", "sigma", 3, &scenario->spread_sigma,
                                       &scenario->spread_seed, NULL)
                         : status;
    status = status == 0 ? read_chance(reader, root, "batch_failures", "share", 1,
                                       &scenario->failure_share, &scenario->failure_seed, NULL)
                         : status;
    status = status == 0 ? read_chance(reader, root, "cancels", "share", 1, &scenario->cancel_share,
                                       &scenario->cancel_seed, &scenario->cancel_delay_ns)
                         : status;
    status = status == 0 ? read_events(reader, root) : status;
    status = status == 0 ? read_autoscale(reader, root) : status;
    status = status == 0 ? read_partition(reader, root) : status;
    return status == 0 ? fm_config_finish(root, reader->reterr) : status;
}

/* Takes the tree. */
static int load_tree(const char *file, struct fm_config *root, struct fm_sim_scenario *scenario,
                     struct fm_error *reterr)
{
    struct reader reader = {.scenario = scenario, .reterr = reterr};
    int status = 0;
    scenario->file = fm_arena_strdup(&scenario->arena, file);
    if (scenario->file == NULL) {
        status = fm_error_set(reterr, FM_ENOMEM, "%s: out of memory", file);
    } else if (fm_path_directory(reader.directory, sizeof reader.directory, file) != 0) {
        status = fm_error_set(reterr, FM_ETOOLARGE, "the path of the scenario is too long");
    }
    status = status == 0 ? read_root(&reader, root) : status;
    fm_config_free(root);
    return status == 0 ? fm_sim_scenario_check(scenario, reterr) : status;
}

int fm_sim_scenario_load(const char *path, struct fm_sim_scenario *scenario,
                         struct fm_error *reterr)
{
    struct fm_config *root = NULL;
    fm_sim_scenario_init(scenario);
    int status = fm_config_load(path, &root, reterr);
    return status == 0 ? load_tree(path, root, scenario, reterr) : status;
}

int fm_sim_scenario_load_text(const char *file, const char *text, size_t length,
                              struct fm_sim_scenario *scenario, struct fm_error *reterr)
{
    struct fm_config *root = NULL;
    fm_sim_scenario_init(scenario);
    int status = fm_config_load_text(file, text, length, &root, reterr);
    return status == 0 ? load_tree(file, root, scenario, reterr) : status;
}
