/*
 * An operator plug-in of a future major version, with nothing else in its table that this version
 * could read.
 */
#include "fermata/operator.h"

static const struct fm_operator_plugin plugin = {
    .struct_size = 4096,
    .abi_major = FM_OPERATOR_ABI_MAJOR + 1,
    .operators = (const struct fm_operator *const *)(uintptr_t)8,
    .operator_count = 1000000,
};

FM_PLUGIN_EXPORT const struct fm_operator_plugin *fm_operator_entry(uint16_t major, uint16_t minor);

const struct fm_operator_plugin *fm_operator_entry(uint16_t major, uint16_t minor)
{
    (void)major;
    (void)minor;
    return &plugin;
}
