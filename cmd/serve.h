/*
 * What a server is started with, read from one table for `fermata serve` and for programs that
 * embed it (library.c).
 *
 * Owns: the options, what they must agree on. Does not own: serving (engines/serve), the process
 * (serve_process.c). Thread rule: caller's memory; the tables are constant.
 */
#ifndef FM_CMD_SERVE_H
#define FM_CMD_SERVE_H

#include "cmd/command.h"
#include "engines/serve/serve.h"
#include "fermata/backend.h"
#include "host/os/log.h"

extern const struct fm_positional fm_serve_positionals[];
extern const struct fm_option fm_serve_option_table[];

/* Of a call of a command with these tables. Strings are borrowed from it. FM_EINVAL: what does not
 * go together, or makes no sense. */
int FM_NODISCARD fm_serve_options_read(const struct fm_call *call, struct fm_serve_options *serve,
                                       struct fm_error *reterr);
/* The log's options; the descriptor is the caller's. */
struct fm_log_options fm_serve_log_options(const struct fm_call *call);
/* For fm_host_set_log: what backends and operators have to say joins our own records. */
void fm_serve_plugin_log(enum fm_log_level level, const char *text);

#endif
