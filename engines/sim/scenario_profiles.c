/*
 * Latency profiles in a scenario. See scenario_reader.h and docs/sim.md.
 */
#include "engines/sim/scenario_reader.h"

#include <float.h>
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "host/os/file.h"
#include "host/runtime/profile_file.h"

#define AFFINE_BATCH_LIMIT FM_SCHED_BATCH_LIMIT

static int read_affine(const struct fm_sim_reader *reader, struct fm_config *node,
                       struct fm_profile *profile)
{
    uint64_t alpha_ns = 0;
    uint64_t beta_ns = 0;
    uint32_t batch_max = AFFINE_BATCH_LIMIT;
    struct fm_config *ignored = NULL;
    int status = fm_sim_read_required(node, "alpha", &ignored, reader->reterr);
    status = status == 0 ? fm_sim_read_required(node, "beta", &ignored, reader->reterr) : status;
    status = status == 0 ? fm_sim_read_time(reader, node, "alpha", &alpha_ns) : status;
    status = status == 0 ? fm_sim_read_time(reader, node, "beta", &beta_ns) : status;
    status = status == 0
                 ? fm_sim_read_uint32(reader, node, "batch_max", 1, AFFINE_BATCH_LIMIT, &batch_max)
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

static int read_table(const struct fm_sim_reader *reader, struct fm_config *table,
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

static int read_profile_file(const struct fm_sim_reader *reader, struct fm_config *node,
                             struct fm_profile *profile)
{
    char path[4096];
    uint32_t threads = 0;
    uint32_t instances = 0;
    struct fm_profile_record *record = NULL;
    struct fm_config *file = fm_config_get(node, "file");
    int status = fm_config_expect(file, FM_CONFIG_SCALAR, reader->reterr);
    status = status == 0 ? fm_sim_read_uint32(reader, node, "threads", 1, 1024, &threads) : status;
    status =
        status == 0 ? fm_sim_read_uint32(reader, node, "instances", 1, 1024, &instances) : status;
    status = status == 0 ? fm_sim_read_path(reader, file, path, sizeof path) : status;
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

static int read_profile(const struct fm_sim_reader *reader, struct fm_config *node,
                        const struct fm_profile **ret_profile)
{
    struct fm_profile *profile = fm_sim_read_allocate(reader, 1, sizeof *profile);
    if (profile == NULL) {
        return fm_sim_read_out_of_memory(reader);
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

int fm_sim_read_profiles(const struct fm_sim_reader *reader, struct fm_config *node,
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
