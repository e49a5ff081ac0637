/*
 * A shared object that is no operator plug-in: it exports something else.
 */
#include "fermata/backend.h"

FM_PLUGIN_EXPORT int fm_something_else(void);

int fm_something_else(void)
{
    return 1;
}
