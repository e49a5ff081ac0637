/*
 * The MODEL argument that several commands share: a model file, a model's directory, a pipeline
 * file, or a repository with --model.
 *
 * Owns: finding the one entry that is meant. Does not own: loading it. Thread rule: the main
 * thread.
 */
#ifndef FM_CMD_MODEL_ARGUMENT_H
#define FM_CMD_MODEL_ARGUMENT_H

#include "cmd/command.h"
#include "host/runtime/repository.h"

/* The options that go with it; the command's table must have both. */
#define FM_OPTION_MODEL                                                                     \
    {                                                                                       \
        .name = "model", .short_name = 'm', .kind = FM_OPTION_STRING, .value_name = "NAME", \
        .help = "which model, when MODEL is a repository of several"                        \
    }
#define FM_OPTION_MODEL_VERSION                                                          \
    {                                                                                    \
        .name = "model-version", .kind = FM_OPTION_INTEGER, .value_name = "N", .min = 1, \
        .help = "which version of it; without this, the highest"                         \
    }

/*
 * Opens `path` as a repository and finds the entry. ENOTFOUND and EINVAL list or suggest names. On
 * success the caller closes the repository, which owns the entry.
 */
int FM_NODISCARD fm_model_argument_open(const struct fm_call *call, const char *path,
                                        struct fm_repository *ret_repository,
                                        struct fm_repository_entry **ret_entry,
                                        struct fm_error *reterr);
/* The configuration of the wanted version of a model entry. Borrowed from the repository; the
 * caller may change it before loading. */
int FM_NODISCARD fm_model_argument_config(const struct fm_call *call,
                                          const struct fm_repository_entry *entry,
                                          struct fm_model_config **ret_config,
                                          struct fm_error *reterr);

#endif
