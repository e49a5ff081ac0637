/*
 * Values of a scenario. See scenario_reader.h and docs/sim.md.
 */
#include "engines/sim/scenario_reader.h"

#include <stdio.h>
#include <string.h>

#include "core/sched/partition.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "host/os/file.h"

int fm_sim_read_out_of_memory(const struct fm_sim_reader *reader)
{
    return fm_error_set(reader->reterr, FM_ENOMEM, "%s: out of memory while reading the scenario",
                        reader->scenario->file);
}

int fm_sim_read_required(struct fm_config *mapping, const char *key, struct fm_config **ret_child,
                         struct fm_error *reterr)
{
    int status = fm_config_require(mapping, key, ret_child, reterr);
    return status == 0 && (*ret_child)->kind == FM_CONFIG_NULL
               ? fm_config_error(*ret_child, reterr, "'%s' is empty: write its value after it", key)
               : status;
}

void *fm_sim_read_allocate(const struct fm_sim_reader *reader, size_t count, size_t size)
{
    return fm_arena_alloc(&reader->scenario->arena, count * size);
}

int fm_sim_read_uint32(const struct fm_sim_reader *reader, struct fm_config *mapping,
                       const char *key, uint32_t min, uint32_t max, uint32_t *value)
{
    int64_t number = *value;
    int status = fm_config_int(mapping, key, min, max, &number, reader->reterr);
    *value = (uint32_t)number;
    return status;
}

int fm_sim_read_seed(const struct fm_sim_reader *reader, struct fm_config *mapping, const char *key,
                     uint64_t *value)
{
    int64_t number = (int64_t)*value;
    int status = fm_config_int(mapping, key, 0, INT64_MAX, &number, reader->reterr);
    *value = (uint64_t)number;
    return status;
}

int fm_sim_read_time(const struct fm_sim_reader *reader, struct fm_config *mapping, const char *key,
                     uint64_t *value)
{
    int status = fm_config_duration_ns(mapping, key, value, reader->reterr);
    if (status == 0 && *value > FM_SIM_TIME_MAX_NS) {
        status = fm_config_error(fm_config_get(mapping, key), reader->reterr,
                                 "'%s' is longer than two years", key);
    }
    return status;
}

int fm_sim_read_time_required(const struct fm_sim_reader *reader, struct fm_config *mapping,
                              const char *key, uint64_t *value)
{
    struct fm_config *node = NULL;
    int status = fm_sim_read_required(mapping, key, &node, reader->reterr);
    status = status == 0 ? fm_sim_read_time(reader, mapping, key, value) : status;
    if (status == 0 && *value == 0) {
        status = fm_config_error(node, reader->reterr, "'%s' must be above 0", key);
    }
    return status;
}

int fm_sim_read_memory(const struct fm_sim_reader *reader, struct fm_config *mapping,
                       uint64_t *value)
{
    int status = fm_config_bytes(mapping, "memory", value, reader->reterr);
    if (status == 0 && *value > FM_PARTITION_MEMORY_MAX_BYTES) {
        status = fm_config_error(fm_config_get(mapping, "memory"), reader->reterr,
                                 "'memory' is more than 64 TiB");
    }
    return status;
}

int fm_sim_read_list(const struct fm_sim_reader *reader, struct fm_config *mapping, const char *key,
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

int fm_sim_read_name(const struct fm_sim_reader *reader, struct fm_config *mapping, const char *key,
                     size_t length_max, const char **ret_name)
{
    struct fm_config *node = NULL;
    int status = fm_sim_read_required(mapping, key, &node, reader->reterr);
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
    return *ret_name != NULL ? 0 : fm_sim_read_out_of_memory(reader);
}

int fm_sim_read_path(const struct fm_sim_reader *reader, const struct fm_config *node,
                     char *ret_path, size_t size)
{
    struct fm_sim_scenario *scenario = reader->scenario;
    if (fm_path_join(ret_path, size, reader->directory, node->text) != 0) {
        return fm_config_error(node, reader->reterr, "the path is longer than %zu bytes", size - 1);
    }
    struct fm_sim_file *file = fm_sim_read_allocate(reader, 1, sizeof *file);
    char *path = fm_arena_strdup(&scenario->arena, ret_path);
    if (file == NULL || path == NULL) {
        return fm_sim_read_out_of_memory(reader);
    }
    *file = (struct fm_sim_file){.path = path, .next = scenario->files};
    scenario->files = file;
    return 0;
}
