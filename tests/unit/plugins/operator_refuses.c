/*
 * An operator plug-in that serves no host: its entry returns NULL.
 */
#include "fermata/operator.h"

FM_PLUGIN_EXPORT const struct fm_operator_plugin *fm_operator_entry(uint16_t major, uint16_t minor);

const struct fm_operator_plugin *fm_operator_entry(uint16_t major, uint16_t minor)
{
    (void)major;
    (void)minor;
    return NULL;
}
