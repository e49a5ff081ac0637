/*
 * The commands of `fermata`. See commands.h.
 */
#include "cmd/commands.h"

#include <string.h>

#include "cmd/arguments.h"

/* The build says which commands are there: FM_HAVE_COMMAND_<NAME>. */
extern const struct fm_command fm_command_infer;
extern const struct fm_command fm_command_batch;
extern const struct fm_command fm_command_job;
extern const struct fm_command fm_command_job_list;
extern const struct fm_command fm_command_job_show;
extern const struct fm_command fm_command_job_verify;
extern const struct fm_command fm_command_job_dead_letters;
extern const struct fm_command fm_command_job_report;
extern const struct fm_command fm_command_job_pause;
extern const struct fm_command fm_command_job_resume;
extern const struct fm_command fm_command_job_cancel;
extern const struct fm_command fm_command_worker;
extern const struct fm_command fm_command_serve;
extern const struct fm_command fm_command_profile;
extern const struct fm_command fm_command_sim;
extern const struct fm_command fm_command_bench;
extern const struct fm_command fm_command_bench_sched;
extern const struct fm_command fm_command_bench_model;
extern const struct fm_command fm_command_help;
extern const struct fm_command fm_command_version;
extern const struct fm_command fm_command_internal_docs;

const struct fm_command *const fm_commands[] = {
#ifdef FM_HAVE_COMMAND_INFER
    &fm_command_infer,
#endif
#ifdef FM_HAVE_COMMAND_BATCH
    &fm_command_batch,
#endif
#ifdef FM_HAVE_COMMAND_JOB
    &fm_command_job,
    &fm_command_job_list,
    &fm_command_job_show,
    &fm_command_job_verify,
    &fm_command_job_dead_letters,
    &fm_command_job_report,
    &fm_command_job_pause,
    &fm_command_job_resume,
    &fm_command_job_cancel,
#endif
#ifdef FM_HAVE_COMMAND_WORKER
    &fm_command_worker,
#endif
#ifdef FM_HAVE_COMMAND_SERVE
    &fm_command_serve,
#endif
#ifdef FM_HAVE_COMMAND_PROFILE
    &fm_command_profile,
#endif
#ifdef FM_HAVE_COMMAND_SIM
    &fm_command_sim,
#endif
#ifdef FM_HAVE_COMMAND_BENCH
    &fm_command_bench,
    &fm_command_bench_sched,
    &fm_command_bench_model,
#endif
    &fm_command_help,
    &fm_command_version,
    &fm_command_internal_docs,
    NULL,
};

const struct fm_command *fm_command_find(const char *name)
{
    for (size_t i = 0; fm_commands[i] != NULL; i++) {
        if (strcmp(fm_commands[i]->name, name) == 0) {
            return fm_commands[i];
        }
    }
    return NULL;
}

const struct fm_command *fm_command_find_in(const struct fm_command *group, const char *name)
{
    for (size_t i = 0; fm_commands[i] != NULL; i++) {
        const char *nested = fm_command_in_group(fm_commands[i], group);
        if (nested != NULL && strcmp(nested, name) == 0) {
            return fm_commands[i];
        }
    }
    return NULL;
}

const char *fm_command_suggest(const struct fm_command *group, const char *name)
{
    const char *names[64];
    size_t count = 0;
    for (size_t i = 0; fm_commands[i] != NULL && count < sizeof names / sizeof names[0]; i++) {
        const struct fm_command *command = fm_commands[i];
        const char *shown = group != NULL                   ? fm_command_in_group(command, group)
                            : fm_command_is_nested(command) ? NULL
                                                            : command->name;
        if (!command->hidden && shown != NULL) {
            names[count++] = shown;
        }
    }
    return fm_arguments_suggest(name, names, count);
}
