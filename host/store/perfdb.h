/*
 * PerfDB: what was measured, when, of what, on which machine, in one SQLite file.
 *
 * Owns: the file and its schema (docs/perfdb.md). Does not own: what the JSON in it says
 * (engines/bench). Append-only: a run that is in it is neither changed nor removed; UPDATE, DELETE
 * and REPLACE by others are refused by the file's own triggers. Every run is one transaction that
 * is on the disk when fm_perfdb_add returns. Several processes may add to one file. Thread rule:
 * one thread at a time.
 */
#ifndef FM_HOST_STORE_PERFDB_H
#define FM_HOST_STORE_PERFDB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

/* Of the schema, in the file's user_version. */
#define FM_PERFDB_VERSION 1

/* A number by which runs are compared: "response_p99_ms", "goodput". */
struct fm_perfdb_value {
    const char *name; /* of [a-z0-9_.], once in a run */
    const char *unit; /* "ms", "1/s"; "" where there is none */
    double value;     /* finite */
};

/* All texts are borrowed. */
struct fm_perfdb_run {
    uint64_t id; /* by the database, ascending; not looked at by add */
    /* What it is: study, point and repeat together are in the database once. */
    const char *study;   /* a name of the user's */
    const char *point;   /* which of the study: a hash of the resolved configuration */
    uint32_t repeat;     /* from 0 */
    const char *kind;    /* "load", "cold_start" */
    const char *label;   /* the point for people */
    uint64_t created_ms; /* since 1970 */
    /* JSON, as whoever adds it has made it. */
    const char *config; /* resolved: nothing in it is a default that another version may change */
    const char *build;  /* of the program that measured */
    const char *machine;
    const char *model;
    const char *result;
    const char *verdict; /* "valid", "invalid" or "failed" */
    const struct fm_perfdb_value *values;
    size_t value_count; /* up to 1024 */
};

enum fm_perfdb_mode {
    FM_PERFDB_READ,  /* FM_ENOTFOUND: there is no such file. SQLite has to be able to write to its
                        folder (FM_EPERM), as always with a write-ahead log. */
    FM_PERFDB_WRITE, /* it is made where there is none */
};

struct fm_perfdb;

/* FM_ECORRUPT: damaged, or another program's; FM_EUNSUPPORTED: of a newer version; FM_EPERM,
 * FM_ENOSPC, FM_EIO, FM_ENOMEM. */
int FM_NODISCARD fm_perfdb_open(const char *path, enum fm_perfdb_mode mode,
                                struct fm_perfdb **ret_perfdb, struct fm_error *reterr);
void fm_perfdb_close(struct fm_perfdb *perfdb); /* accepts NULL */

/* FM_EEXIST: that study, point and repeat are there; FM_EINVAL: a field is missing, is no JSON, or
 * a value is not finite or twice there. */
int FM_NODISCARD fm_perfdb_add(struct fm_perfdb *perfdb, const struct fm_perfdb_run *run,
                               uint64_t *ret_id, struct fm_error *reterr);
/* Whether there is such a run. */
int FM_NODISCARD fm_perfdb_has(struct fm_perfdb *perfdb, const char *study, const char *point,
                               uint32_t repeat, bool *ret_has, struct fm_error *reterr);

/* NULL, or 0: any. */
struct fm_perfdb_filter {
    uint64_t id;
    const char *study;
    const char *point;
    const char *kind;
    bool brief; /* without config, build, machine, model and result, which are NULL then */
};

/* Calls visit for every run that fits, by ascending id; what it is given is the database's and
 * lasts until it returns. A status other than 0 ends it and is returned. */
int FM_NODISCARD fm_perfdb_visit(struct fm_perfdb *perfdb, const struct fm_perfdb_filter *filter,
                                 int (*visit)(void *context, const struct fm_perfdb_run *run,
                                              struct fm_error *reterr),
                                 void *context, struct fm_error *reterr);

#endif
