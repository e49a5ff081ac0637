/*
 * Finding and loading backend plug-ins.
 *
 * Owns: the search path, dlopen, the check of a plug-in's table, and one device per (backend,
 * device settings). Plug-ins are files named libfm_backend_<name>.so, looked for in: every
 * directory of FERMATA_PLUGIN_PATH (colon separated), the directory "plugins" beside the running
 * executable, and the installed plug-in directory; in that order. A plug-in stays loaded until the
 * process ends. Thread rule: thread safe.
 */
#ifndef FM_HOST_RUNTIME_BACKEND_REGISTRY_H
#define FM_HOST_RUNTIME_BACKEND_REGISTRY_H

#include <stddef.h>

#include "fermata/backend.h"

/* The backend called `name`. ENOTFOUND names every directory searched; EABI says which plug-in
 * refused and why. */
int FM_NODISCARD fm_backend_find(const char *name, const struct fm_backend **ret_backend,
                                 struct fm_error *reterr);
/* Loads the plug-in at exactly this path (tests, `plugins:` in a file). */
int FM_NODISCARD fm_backend_load(const char *path, const struct fm_backend **ret_backend,
                                 struct fm_error *reterr);
/* Checks a table as loading does: sizes, versions, mandatory functions, names. `origin` is for the
 * message. */
int FM_NODISCARD fm_backend_check(const struct fm_backend *backend, const char *origin,
                                  struct fm_error *reterr);
/* The host table given to plug-ins. Its log function forwards to the handler below. */
const struct fm_host *fm_host_table(void);
/* Where plug-ins' log lines go; NULL (the start value) drops everything below warning and prints
 * the rest to standard error. */
void fm_host_set_log(void (*handler)(enum fm_log_level level, const char *text));
/* Resolves lib<prefix><name>.so along the search path, as described above, into ret_path. */
int FM_NODISCARD fm_plugin_locate(const char *prefix, const char *name, char *ret_path, size_t size,
                                  struct fm_error *reterr);

#endif
