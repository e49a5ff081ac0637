/*
 * Reading and writing profile files. See profile_file.h.
 */
#include "host/runtime/profile_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/proto/json.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/config/config.h"
#include "host/os/file.h"

#define FORMAT_NAME "fermata-profile/1"

/* A JSON string is a YAML double-quoted scalar. */
static void quoted(struct fm_text *text, const char *key, const char *value)
{
    struct fm_json_writer writer;
    fm_text_append_string(text, key);
    fm_json_writer_init(&writer, text);
    fm_json_string(&writer, value);
    fm_text_append_char(text, '\n');
}

/* Thousandths as a decimal number: 99123 -> "99.123". */
static void thousandths(struct fm_text *text, uint64_t value)
{
    fm_text_append_format(text, "%" PRIu64 ".%03u", value / 1000, (unsigned)(value % 1000));
}

static void setting_format(const struct fm_profile_setting *setting, struct fm_text *text)
{
    fm_text_append_format(text, "  - threads: %" PRIu32 "\n    instances: %" PRIu32 "\n",
                          setting->threads, setting->instances);
    if (setting->options[0] != '\0') {
        quoted(text, "    options: ", setting->options);
    }
    if (setting->profile.point_count == 0) {
        fm_text_append_string(text, "    points: []\n");
        return;
    }
    fm_text_append_string(text, "    points:\n");
    for (uint32_t i = 0; i < setting->profile.point_count; i++) {
        const struct fm_profile_point *point = &setting->profile.points[i];
        const struct fm_profile_measure *measure = &setting->measures[i];
        fm_text_append_format(text, "      - {batch: %" PRIu32 ", samples: %" PRIu32, point->batch,
                              point->sample_count);
        for (unsigned j = 0; j < FM_PROFILE_STATISTIC_COUNT_; j++) {
            fm_text_append_format(text, ", %s_ns: %" PRIu64,
                                  fm_profile_statistic_name((enum fm_profile_statistic)j),
                                  point->latency_ns[j]);
        }
        fm_text_append_string(text, ", cv: ");
        thousandths(text, measure->spread_permille);
        fm_text_append_string(text, ", rate: ");
        thousandths(text, measure->rate_millihertz);
        fm_text_append_string(text, ", rate_low: ");
        thousandths(text, measure->rate_low_millihertz);
        fm_text_append_string(text, ", rate_high: ");
        thousandths(text, measure->rate_high_millihertz);
        fm_text_append_string(text, "}\n");
    }
}

void fm_profile_file_format(const struct fm_profile_record *record, struct fm_text *text)
{
    fm_text_append_string(text, "# Latency profile of a model, written by `fermata profile`. Times "
                                "in ns, rates in rows per second.\n"
                                "format: " FORMAT_NAME "\n");
    quoted(text, "model: ", record->model);
    fm_text_append_format(text, "version: %" PRIu64 "\n", record->version);
    quoted(text, "backend: ", record->backend);
    quoted(text, "machine: ", record->machine);
    quoted(text, "measured: ", record->measured);
    quoted(text, "inputs: ", record->inputs);
    fm_text_append_format(text, "complete: %s\n", record->complete ? "true" : "false");
    if (record->slo_ns > 0) {
        fm_text_append_format(text, "slo_ns: %" PRIu64 "\n", record->slo_ns);
    }
    if (record->has_choice) {
        const struct fm_profile_setting *setting = &record->settings[record->choice_setting];
        fm_text_append_format(
            text, "recommended: {threads: %" PRIu32 ", instances: %" PRIu32 ", batch: %" PRIu32,
            setting->threads, setting->instances,
            setting->profile.points[record->choice_point].batch);
        if (setting->options[0] != '\0') {
            struct fm_json_writer writer;
            fm_text_append_string(text, ", options: ");
            fm_json_writer_init(&writer, text);
            fm_json_string(&writer, setting->options);
        }
        fm_text_append_string(text, "}\n");
    }
    fm_text_append_string(text, record->setting_count == 0 ? "settings: []\n" : "settings:\n");
    for (uint32_t i = 0; i < record->setting_count; i++) {
        setting_format(&record->settings[i], text);
    }
}

int fm_profile_file_write(const struct fm_profile_record *record, const char *path,
                          struct fm_error *reterr)
{
    struct fm_text text = {0};
    fm_profile_file_format(record, &text);
    int status = text.failed ? fm_error_set(reterr, FM_ENOMEM,
                                            "out of memory while writing the profile '%s'", path)
                             : fm_file_write_atomic(path, text.data, text.length, reterr);
    fm_text_deinit(&text);
    return status;
}

/* Copies a string of the file into a fixed field; too long a one is an error at its place. */
static int string_read(struct fm_config *mapping, const char *key, char *field, size_t size,
                       struct fm_error *reterr)
{
    const char *value = "";
    int status = fm_config_string(mapping, key, &value, reterr);
    if (status != 0) {
        return status;
    }
    size_t length = strlen(value);
    if (length >= size) {
        return fm_config_error(fm_config_get(mapping, key), reterr, "'%s' is longer than %zu bytes",
                               key, size - 1);
    }
    memcpy(field, value, length + 1);
    return 0;
}

static int integer_require(struct fm_config *mapping, const char *key, uint64_t max,
                           uint64_t *ret_value, struct fm_error *reterr)
{
    struct fm_config *node = NULL;
    int64_t value = 0;
    int status = fm_config_require(mapping, key, &node, reterr);
    if (status == 0) {
        status = fm_config_int(mapping, key, 1, (int64_t)max, &value, reterr);
    }
    *ret_value = (uint64_t)value;
    return status;
}

/* A rate or spread with three decimals, back to thousandths. */
static int thousandths_read(struct fm_config *mapping, const char *key, double max,
                            uint64_t *ret_value, struct fm_error *reterr)
{
    double value = 0;
    int status = fm_config_double(mapping, key, 0, max, &value, reterr);
    *ret_value = (uint64_t)(value * 1000 + 0.5);
    return status;
}

static int point_read(struct fm_config *node, struct fm_profile_setting *setting,
                      struct fm_error *reterr)
{
    struct fm_profile_point point = {0};
    struct fm_profile_measure measure = {0};
    uint64_t batch = 0;
    uint64_t spread = 0;
    int64_t samples = 0;
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reterr);
    if (status == 0) {
        status = integer_require(node, "batch", FM_PROFILE_BATCH_MAX, &batch, reterr);
    }
    for (unsigned i = 0; status == 0 && i < FM_PROFILE_STATISTIC_COUNT_; i++) {
        char key[32];
        (void)snprintf(key, sizeof key, "%s_ns",
                       fm_profile_statistic_name((enum fm_profile_statistic)i));
        status =
            integer_require(node, key, FM_PROFILE_LATENCY_MAX_NS, &point.latency_ns[i], reterr);
    }
    if (status == 0) {
        status = fm_config_int(node, "samples", 0, UINT32_MAX, &samples, reterr);
    }
    if (status == 0) {
        status = thousandths_read(node, "cv", 1e6, &spread, reterr);
    }
    if (status == 0) {
        status = thousandths_read(node, "rate", 1e12, &measure.rate_millihertz, reterr);
    }
    if (status == 0) {
        status = thousandths_read(node, "rate_low", 1e12, &measure.rate_low_millihertz, reterr);
    }
    if (status == 0) {
        status = thousandths_read(node, "rate_high", 1e12, &measure.rate_high_millihertz, reterr);
    }
    if (status == 0) {
        status = fm_config_finish(node, reterr);
    }
    if (status != 0) {
        return status;
    }
    point.batch = (uint32_t)batch;
    point.sample_count = (uint32_t)samples;
    measure.spread_permille = (uint32_t)spread;
    struct fm_error error = {0};
    status = fm_profile_setting_add(setting, &point, &measure, &error);
    return status == 0 ? 0 : fm_config_error(node, reterr, "%s", error.text);
}

static int setting_read(struct fm_config *node, struct fm_profile_setting *setting,
                        struct fm_error *reterr)
{
    uint64_t threads = 0;
    uint64_t instances = 0;
    struct fm_config *points = NULL;
    int status = fm_config_expect(node, FM_CONFIG_MAPPING, reterr);
    if (status == 0) {
        status = integer_require(node, "threads", 4096, &threads, reterr);
    }
    if (status == 0) {
        status = integer_require(node, "instances", 4096, &instances, reterr);
    }
    if (status == 0) {
        status = string_read(node, "options", setting->options, sizeof setting->options, reterr);
    }
    if (status == 0) {
        status = fm_config_require(node, "points", &points, reterr);
    }
    if (status == 0) {
        status = fm_config_expect(points, FM_CONFIG_SEQUENCE, reterr);
    }
    for (size_t i = 0; status == 0 && i < points->count; i++) {
        status = point_read(&points->children[i], setting, reterr);
    }
    setting->threads = (uint32_t)threads;
    setting->instances = (uint32_t)instances;
    return status == 0 ? fm_config_finish(node, reterr) : status;
}

static int choice_read(struct fm_config *node, struct fm_profile_record *record,
                       struct fm_error *reterr)
{
    uint64_t threads = 0;
    uint64_t instances = 0;
    uint64_t batch = 0;
    char options[FM_PROFILE_NAME_SIZE];
    int status = integer_require(node, "threads", 4096, &threads, reterr);
    if (status == 0) {
        status = integer_require(node, "instances", 4096, &instances, reterr);
    }
    if (status == 0) {
        status = integer_require(node, "batch", FM_PROFILE_BATCH_MAX, &batch, reterr);
    }
    if (status == 0) {
        status = string_read(node, "options", options, sizeof options, reterr);
    }
    if (status == 0) {
        status = fm_config_finish(node, reterr);
    }
    if (status != 0) {
        return status;
    }
    for (uint32_t i = 0; i < record->setting_count; i++) {
        const struct fm_profile_setting *setting = &record->settings[i];
        if (setting->threads != threads || setting->instances != instances ||
            strcmp(setting->options, options) != 0) {
            continue;
        }
        for (uint32_t j = 0; j < setting->profile.point_count; j++) {
            if (setting->profile.points[j].batch == batch) {
                record->has_choice = true;
                record->choice_setting = i;
                record->choice_point = j;
                return 0;
            }
        }
    }
    return fm_config_error(
        node, reterr, "'recommended' names a setting or batch size that 'settings' does not have");
}

static int settings_read(struct fm_config *root, struct fm_profile_record *record,
                         struct fm_error *reterr)
{
    struct fm_config *settings = NULL;
    int status = fm_config_require(root, "settings", &settings, reterr);
    if (status == 0) {
        status = fm_config_expect(settings, FM_CONFIG_SEQUENCE, reterr);
    }
    if (status != 0) {
        return status;
    }
    if (settings->count > FM_PROFILE_SETTINGS_MAX) {
        return fm_config_error(settings, reterr, "more than %d settings", FM_PROFILE_SETTINGS_MAX);
    }
    for (size_t i = 0; i < settings->count; i++) {
        status = setting_read(&settings->children[i], &record->settings[i], reterr);
        if (status != 0) {
            return status;
        }
        record->setting_count++;
    }
    struct fm_config *recommended = fm_config_get(root, "recommended");
    return recommended != NULL ? choice_read(recommended, record, reterr) : 0;
}

static int record_read(struct fm_config *root, struct fm_profile_record *record,
                       struct fm_error *reterr)
{
    struct fm_config *node = NULL;
    const char *format = "";
    int64_t version = 0;
    int64_t slo_ns = 0;
    int status = fm_config_expect(root, FM_CONFIG_MAPPING, reterr);
    if (status == 0) {
        status = fm_config_require(root, "format", &node, reterr);
    }
    if (status == 0) {
        status = fm_config_string(root, "format", &format, reterr);
    }
    if (status == 0 && strcmp(format, FORMAT_NAME) != 0) {
        status =
            fm_config_error(node, reterr, "format '%s' is not known here; this version reads %s",
                            format, FORMAT_NAME);
    }
    struct {
        const char *key;
        char *field;
        size_t size;
    } strings[] = {
        {"model", record->model, sizeof record->model},
        {"backend", record->backend, sizeof record->backend},
        {"machine", record->machine, sizeof record->machine},
        {"measured", record->measured, sizeof record->measured},
        {"inputs", record->inputs, sizeof record->inputs},
    };
    for (size_t i = 0; status == 0 && i < sizeof strings / sizeof strings[0]; i++) {
        status = string_read(root, strings[i].key, strings[i].field, strings[i].size, reterr);
    }
    if (status == 0) {
        status = fm_config_int(root, "version", 0, INT64_MAX, &version, reterr);
    }
    if (status == 0) {
        status = fm_config_int(root, "slo_ns", 1, INT64_MAX, &slo_ns, reterr);
    }
    record->complete = true;
    if (status == 0) {
        status = fm_config_bool(root, "complete", &record->complete, reterr);
    }
    if (status == 0) {
        status = settings_read(root, record, reterr);
    }
    record->version = (uint64_t)version;
    record->slo_ns = (uint64_t)slo_ns;
    return status == 0 ? fm_config_finish(root, reterr) : status;
}

/* Takes the tree. */
static int tree_read(struct fm_config *root, struct fm_profile_record **ret_record,
                     struct fm_error *reterr)
{
    struct fm_profile_record *record = fm_alloc_zero(1, sizeof *record);
    int status = record == NULL
                     ? fm_error_set(reterr, FM_ENOMEM, "out of memory while reading a profile")
                     : record_read(root, record, reterr);
    fm_config_free(root);
    if (status != 0) {
        fm_free(record);
        return status;
    }
    *ret_record = record;
    return 0;
}

int fm_profile_file_load(const char *path, struct fm_profile_record **ret_record,
                         struct fm_error *reterr)
{
    struct fm_config *root = NULL;
    int status = fm_config_load(path, &root, reterr);
    return status == 0 ? tree_read(root, ret_record, reterr) : status;
}

int fm_profile_file_load_text(const char *file, const char *data, size_t size,
                              struct fm_profile_record **ret_record, struct fm_error *reterr)
{
    struct fm_config *root = NULL;
    int status = fm_config_load_text(file, data, size, &root, reterr);
    return status == 0 ? tree_read(root, ret_record, reterr) : status;
}
