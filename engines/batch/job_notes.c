/*
 * Notes for those who look at a job. See job_notes.h.
 */
#include "engines/batch/job_notes.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/util/error.h"

#define NS_PER_MS UINT64_C(1000000)

int fm_job_notes_begin(struct fm_job_store *store, const struct fm_job *job, uint64_t wall_ns,
                       struct fm_error *reterr)
{
    char begun[24];
    struct fm_text value = {0};
    struct fm_error error = {0};
    (void)snprintf(begun, sizeof(begun), "%" PRIu64, wall_ns / NS_PER_MS);
    const struct fm_job_fact facts[] = {{FM_JOB_NOTE_NAME, job->name},
                                        {FM_JOB_NOTE_FILE, job->file},
                                        {FM_JOB_NOTE_STATE, FM_JOB_STATE_RUNNING},
                                        {FM_JOB_NOTE_BEGUN, begun}};
    int status = store->functions->fact(store, FM_JOB_NOTE_BEGUN, &value, &error);
    fm_text_deinit(&value);
    if (status != 0 && status != FM_ENOTFOUND) {
        *reterr = error;
        return status;
    }
    return store->functions->facts_put(store, facts, status == 0 ? 3 : 4, reterr);
}

int fm_job_notes_permit(struct fm_job_store *store, const char *directory, struct fm_error *reterr)
{
    struct fm_text state = {0};
    struct fm_error error = {0};
    int status = store->functions->fact(store, FM_JOB_NOTE_STATE, &state, &error);
    bool cancelled = status == 0 && strcmp(state.data, FM_JOB_STATE_CANCELLED) == 0;
    fm_text_deinit(&state);
    if (status != 0 && status != FM_ENOTFOUND) {
        *reterr = error;
        return status;
    }
    return cancelled
               ? fm_error_set(reterr, FM_EINVAL,
                              "the job in '%s' was cancelled: if it is to go on all the same, take "
                              "that back with 'fermata job resume %s', then --resume",
                              directory, directory)
               : 0;
}

void fm_job_notes_end(struct fm_job_store *store, const char *state)
{
    const struct fm_job_fact fact = {FM_JOB_NOTE_STATE, state};
    struct fm_text before = {0};
    struct fm_error ignored = {0};
    int status = store->functions->fact(store, FM_JOB_NOTE_STATE, &before, &ignored);
    bool cancelled = status == 0 && strcmp(before.data, FM_JOB_STATE_CANCELLED) == 0;
    fm_text_deinit(&before);
    if (!cancelled || strcmp(state, FM_JOB_STATE_COMPLETE) == 0) {
        status = store->functions->facts_put(store, &fact, 1, &ignored);
    }
    (void)status;
}
