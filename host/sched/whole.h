/*
 * One scheduler for all models, worked by whoever brings something for it: what host/sched runs
 * when there are no shards.
 *
 * Owns: the scheduler object, the rings to it, who works it, and a thread for what has to happen at
 * a time. Does not own: the public form (scheduler.h), which says what each call means. Thread
 * rule: as scheduler.h says of the function of the same name.
 *
 * HOW IT WORKS. A submitter or reporter puts events into its ring and asks for them to be looked
 * at. If nobody is at work it does the work itself, on its own thread: a request to an idle server
 * is scheduled without waking anybody. If somebody is, that one looks again before it leaves. Who
 * has looked HELP_ROUNDS times leaves the rest to the scheduler's own thread, which otherwise
 * sleeps until a timer is due. All works that are done are one after the other, so that they are
 * one sequence of steps, which can be recorded.
 *
 * LIMITATIONS. Work is one thread's at a time: some 5 million requests per second. Beyond that
 * there are shards.
 */
#ifndef FM_HOST_SCHED_WHOLE_H
#define FM_HOST_SCHED_WHOLE_H

#include "host/sched/scheduler.h"

struct fm_whole;

void fm_whole_record_header(const struct fm_scheduler_options *options,
                            struct fm_sched_record_header *ret_header);
int FM_NODISCARD fm_whole_create(const struct fm_scheduler_options *options,
                                 struct fm_whole **ret_whole, struct fm_error *reterr);
void fm_whole_destroy(struct fm_whole *whole); /* accepts NULL */

bool FM_NODISCARD fm_whole_submit(struct fm_whole *whole, uint32_t submitter,
                                  const struct fm_sched_event *event);
void fm_whole_submit_flush(struct fm_whole *whole, uint32_t submitter);
bool FM_NODISCARD fm_whole_report(struct fm_whole *whole, uint32_t reporter,
                                  const struct fm_sched_event *event);
void fm_whole_report_flush(struct fm_whole *whole, uint32_t reporter);
/* FM_EINVAL: refused. FM_ENOMEM. */
int FM_NODISCARD fm_whole_controls(struct fm_whole *whole, const struct fm_sched_event *events,
                                   uint32_t count);
uint32_t fm_whole_actor(const struct fm_whole *whole);
void fm_whole_look(struct fm_whole *whole, fm_scheduler_look_fn *look, void *context);
void fm_whole_stats_get(struct fm_whole *whole, struct fm_scheduler_stats *ret_stats);

#endif
