/*
 * What the commands of the group `fermata job` share.
 *
 * Thread rule: the main thread.
 */
#ifndef FM_CMD_JOB_H
#define FM_CMD_JOB_H

#include "cmd/command.h"
#include "core/proto/json.h"
#include "host/os/file.h"

/* Of nothing, all is done. */
unsigned fm_job_percent(uint64_t done, uint64_t total);
/* fm_call_print, with a newline behind it: a JSON document. */
int fm_job_print_line(const struct fm_call *call, struct fm_text *text);

#endif
