/*
 * Grids of models. See family_grid.h. Pure.
 */
#include "core/onnx/family_grid.h"

#include <inttypes.h>

#include "core/util/assert.h"
#include "core/util/error.h"

int fm_family_grid_set(struct fm_family_grid *grid, enum fm_family_parameter parameter,
                       const uint64_t *values, uint32_t count, struct fm_error *reterr)
{
    const char *name = fm_family_parameter_name(parameter);
    struct fm_family_grid_axis axis = {.count = count};
    if (count == 0 || count > FM_FAMILY_GRID_VALUES_MAX) {
        return fm_error_set(reterr, FM_EINVAL, "%s: %u values; give 1 to %u", name, count,
                            FM_FAMILY_GRID_VALUES_MAX);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct fm_family_spec spec = {.family = grid->family};
        int status = fm_family_set(&spec, parameter, values[i], reterr);
        if (status != 0) {
            return status;
        }
        for (uint32_t j = 0; j < i; j++) {
            if (values[j] == values[i]) {
                return fm_error_set(reterr, FM_EINVAL, "%s: %" PRIu64 " is there twice", name,
                                    values[i]);
            }
        }
        axis.values[i] = values[i];
    }
    grid->axes[parameter] = axis;
    return 0;
}

uint64_t fm_family_grid_count(const struct fm_family_grid *grid)
{
    uint64_t count = 1;
    for (int i = 0; i < FM_FAMILY_PARAMETER_COUNT_; i++) {
        uint32_t values = grid->axes[i].count;
        if (values > 1) {
            count = count > UINT64_MAX / values ? UINT64_MAX : count * values;
        }
    }
    return count;
}

void fm_family_grid_at(const struct fm_family_grid *grid, uint64_t index,
                       struct fm_family_spec *ret_spec)
{
    FM_ASSERT(index < fm_family_grid_count(grid));
    *ret_spec = (struct fm_family_spec){.family = grid->family, .seed = grid->seed};
    for (int i = FM_FAMILY_PARAMETER_COUNT_ - 1; i >= 0; i--) {
        const struct fm_family_grid_axis *axis = &grid->axes[i];
        if (axis->count > 0) {
            ret_spec->values[i] = axis->values[index % axis->count];
            index /= axis->count;
        }
    }
}

int fm_family_grid_check(const struct fm_family_grid *grid, struct fm_error *reterr)
{
    uint64_t count = fm_family_grid_count(grid);
    if (count > FM_FAMILY_GRID_MODELS_MAX) {
        return fm_error_set(reterr, FM_EINVAL,
                            "%" PRIu64 " models are too many for one grid, which has %u at most: "
                            "give fewer values",
                            count, FM_FAMILY_GRID_MODELS_MAX);
    }
    for (uint64_t i = 0; i < count; i++) {
        struct fm_family_spec spec;
        fm_family_grid_at(grid, i, &spec);
        int status = fm_family_check(&spec, reterr);
        if (status != 0) {
            struct fm_text text = {0};
            fm_family_grid_name(grid, i, &text);
            status = text.failed || count == 1 ? status
                                               : fm_error_prefix(reterr, status, "%s", text.data);
            fm_text_deinit(&text);
            return status;
        }
    }
    return 0;
}

void fm_family_grid_name(const struct fm_family_grid *grid, uint64_t index, struct fm_text *text)
{
    struct fm_family_spec spec;
    fm_family_grid_at(grid, index, &spec);
    fm_text_append_string(text, fm_family_name(grid->family));
    for (int i = 0; i < FM_FAMILY_PARAMETER_COUNT_; i++) {
        if (grid->axes[i].count > 1) {
            fm_text_append_format(text, "-%s%" PRIu64,
                                  fm_family_parameter_name((enum fm_family_parameter)i),
                                  spec.values[i]);
        }
    }
}
