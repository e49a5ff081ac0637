/*
 * The traces of Azure Functions, of 2019 and of 2021: text to arrival times.
 *
 * Owns: the two forms as they are published, and how counts become times. Does not own: reading
 * files (the second is published in an archive), durations of the functions. Thread rule: pure.
 *
 * HOW IT WORKS. 2019 (a file a day: HashOwner, HashApp, HashFunction, Trigger, then a count for
 * each minute): the counts of the rows chosen are added up, and as many times are drawn within each
 * minute, uniformly, by the seed. 2021 (a row for each invocation: app, func, end_timestamp,
 * duration, in seconds): an invocation arrived at its end less its duration; then they are sorted.
 *
 * LIMITATIONS. Counts of a minute say nothing of the seconds: what is drawn is Poisson within a
 * minute, and bursts shorter than that are lost. Where an invocation of 2021 began before the
 * trace's zero, all times count from the earliest.
 */
#ifndef FM_CORE_LOAD_AZURE_TRACE_H
#define FM_CORE_LOAD_AZURE_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_AZURE_TRACE_MINUTES_MAX 1440u
#define FM_AZURE_TRACE_TIMES_MAX   (UINT64_C(1) << 30)

enum fm_azure_trace_form { FM_AZURE_TRACE_2019, FM_AZURE_TRACE_2021 };

struct fm_azure_trace_options {
    const char *name; /* of the file, for messages */
    enum fm_azure_trace_form form;
    const char *app;      /* only rows of this application (HashApp, app); NULL: all */
    const char *function; /* only rows of this function (HashFunction, func); NULL: all */
    uint64_t seed;        /* 2019: of the times within minutes */
    uint64_t times_max;   /* 0: FM_AZURE_TRACE_TIMES_MAX */
    bool from_first;      /* count from the first time */
};

/*
 * Reads all of text[size]. A header comes first; blank lines are skipped; LF and CRLF; a UTF-8
 * byte-order mark is taken. A file of 2019 may have fewer minutes than a day, from 1 on.
 *
 * On success *ret_times_ns holds *ret_count > 0 ascending times and is the caller's to fm_free.
 * FM_EINVAL with name and line in reterr (a file or a choice without invocations included),
 * FM_ETOOLARGE beyond times_max, FM_ENOMEM; then *ret_times_ns is NULL.
 */
int FM_NODISCARD fm_azure_trace_parse(const struct fm_azure_trace_options *options,
                                      const char *text, size_t size, uint64_t **ret_times_ns,
                                      uint64_t *ret_count, struct fm_error *reterr);

#endif
