/*
 * The auditor's book. See auditor.h.
 */
#include "engines/sim/auditor.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/util/error.h"
#include "core/util/memory.h"

#define GRANTS_MAX 2u

enum request_state { REQUEST_ABSENT, REQUEST_WAITING, REQUEST_RUNNING };

struct request {
    uint64_t deadline_ns;
    uint32_t model;
    uint32_t state;
};

struct accelerator {
    uint64_t batches[GRANTS_MAX];
    uint64_t planned_end_ns; /* of the last one granted */
    uint32_t grant_count;
    bool up;
    bool slowed;
};

struct fm_sim_auditor {
    struct fm_sim_auditor_options options;
    struct request *requests;
    struct accelerator *accelerators;
    bool *models;  /* there; NULL: all are */
    uint64_t open; /* requests without an outcome */
    uint64_t batch_last;
    struct fm_sim_audit audit;
};

int fm_sim_auditor_create(const struct fm_sim_auditor_options *options,
                          struct fm_sim_auditor **ret_auditor, struct fm_error *reterr)
{
    struct fm_sim_auditor *auditor = fm_alloc_zero(1, sizeof *auditor);
    if (auditor != NULL) {
        auditor->options = *options;
        auditor->requests = fm_alloc_zero(options->requests_max, sizeof *auditor->requests);
        auditor->accelerators =
            fm_alloc_zero(options->accelerator_count, sizeof *auditor->accelerators);
        auditor->models = options->model_count > 0
                              ? fm_alloc_zero(options->model_count, sizeof *auditor->models)
                              : NULL;
    }
    if (auditor == NULL || (auditor->models == NULL && options->model_count > 0) ||
        auditor->requests == NULL || auditor->accelerators == NULL) {
        fm_sim_auditor_destroy(auditor);
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the simulation");
    }
    *ret_auditor = auditor;
    return 0;
}

void fm_sim_auditor_destroy(struct fm_sim_auditor *auditor)
{
    if (auditor != NULL) {
        fm_free(auditor->requests);
        fm_free(auditor->accelerators);
        fm_free(auditor->models);
        fm_free(auditor);
    }
}

void fm_sim_auditor_blame(struct fm_sim_auditor *auditor, uint64_t now_ns, const char *format, ...)
{
    if (auditor->audit.violations++ > 0) {
        return;
    }
    va_list arguments;
    char what[200];
    va_start(arguments, format);
    (void)vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    (void)snprintf(auditor->audit.first, sizeof auditor->audit.first, "at %" PRIu64 " ns: %s",
                   now_ns, what);
}

void fm_sim_auditor_arrived(struct fm_sim_auditor *auditor, uint64_t now_ns, uint32_t request,
                            uint32_t model, uint64_t deadline_ns)
{
    struct request *entry = &auditor->requests[request];
    if (entry->state != REQUEST_ABSENT) {
        fm_sim_auditor_blame(auditor, now_ns,
                             "request %" PRIu32 " is used again before its outcome", request);
    }
    *entry = (struct request){.deadline_ns = deadline_ns, .model = model, .state = REQUEST_WAITING};
    auditor->open++;
}

void fm_sim_auditor_returned(struct fm_sim_auditor *auditor, uint64_t now_ns, uint32_t request,
                             bool answered)
{
    struct request *entry = &auditor->requests[request];
    if (entry->state != REQUEST_RUNNING) {
        fm_sim_auditor_blame(auditor, now_ns,
                             "request %" PRIu32 " comes out of a batch it was not in", request);
        return;
    }
    entry->state = answered ? REQUEST_ABSENT : REQUEST_WAITING;
    auditor->open -= answered ? 1 : 0;
}

void fm_sim_auditor_batch_ended(struct fm_sim_auditor *auditor, uint64_t now_ns,
                                uint32_t accelerator, uint64_t batch)
{
    struct accelerator *entry = &auditor->accelerators[accelerator];
    uint32_t place = 0;
    while (place < entry->grant_count && entry->batches[place] != batch) {
        place++;
    }
    if (place == entry->grant_count) {
        fm_sim_auditor_blame(auditor, now_ns,
                             "batch %" PRIu64 " ends on accelerator %" PRIu32
                             " where it was not granted",
                             batch, accelerator);
        return;
    }
    entry->grant_count--;
    entry->batches[place] = entry->batches[entry->grant_count];
}

void fm_sim_auditor_accelerator(struct fm_sim_auditor *auditor, uint32_t accelerator, bool up,
                                bool slowed)
{
    auditor->accelerators[accelerator].up = up;
    auditor->accelerators[accelerator].slowed = slowed;
}

void fm_sim_auditor_model(struct fm_sim_auditor *auditor, uint32_t model, bool present)
{
    auditor->models[model] = present;
}

static bool is_there(const struct fm_sim_auditor *auditor, uint32_t model)
{
    return auditor->models == NULL ||
           (model < auditor->options.model_count && auditor->models[model]);
}

static bool check_place(struct fm_sim_auditor *auditor, uint64_t now_ns,
                        const struct fm_sched_action *action)
{
    if (action->accelerator >= auditor->options.accelerator_count ||
        !auditor->accelerators[action->accelerator].up) {
        fm_sim_auditor_blame(auditor, now_ns,
                             "batch %" PRIu64 " is granted accelerator %" PRIu32
                             ", which is not up",
                             action->batch, action->accelerator);
        return false;
    }
    const struct accelerator *accelerator = &auditor->accelerators[action->accelerator];
    uint32_t allowed = auditor->options.ahead ? GRANTS_MAX : 1;
    if (accelerator->grant_count >= allowed ||
        (accelerator->grant_count > 0 && action->start_ns < accelerator->planned_end_ns)) {
        fm_sim_auditor_blame(auditor, now_ns,
                             "batch %" PRIu64 " is granted accelerator %" PRIu32
                             ", which is busy with batch %" PRIu64,
                             action->batch, action->accelerator, accelerator->batches[0]);
        return false;
    }
    return true;
}

static bool check_requests(struct fm_sim_auditor *auditor, uint64_t now_ns,
                           const struct fm_sched_action *action, const uint32_t *requests,
                           uint64_t end_ns)
{
    bool late = false;
    for (uint32_t i = 0; i < action->request_count; i++) {
        uint32_t request = requests[i];
        struct request *entry =
            request < auditor->options.requests_max ? &auditor->requests[request] : NULL;
        if (entry == NULL || entry->state != REQUEST_WAITING || entry->model != action->model) {
            fm_sim_auditor_blame(auditor, now_ns,
                                 "batch %" PRIu64 " of model %" PRIu32 " holds request %" PRIu32
                                 ", which is not a waiting one of this model",
                                 action->batch, action->model, request);
            return false;
        }
        entry->state = REQUEST_RUNNING;
        late = late || end_ns > entry->deadline_ns;
    }
    if (late && (auditor->options.learn || auditor->accelerators[action->accelerator].slowed)) {
        auditor->audit.late_plans++;
    } else if (late) {
        fm_sim_auditor_blame(auditor, now_ns,
                             "batch %" PRIu64 " of model %" PRIu32 " starts at %" PRIu64
                             " ns, after its latest",
                             action->batch, action->model, action->start_ns);
    }
    return true;
}

static bool check_start(struct fm_sim_auditor *auditor, uint64_t now_ns,
                        const struct fm_sched_action *action, const uint32_t *requests,
                        uint64_t latency_ns)
{
    if (action->request_count == 0 || action->request_count > auditor->options.batch_max ||
        action->start_ns < now_ns || action->batch <= auditor->batch_last) {
        fm_sim_auditor_blame(auditor, now_ns,
                             "batch %" PRIu64 " after %" PRIu64 ", of %" PRIu32
                             " requests, to start at %" PRIu64 " ns: one of these cannot be",
                             action->batch, auditor->batch_last, action->request_count,
                             action->start_ns);
        return false;
    }
    if (!is_there(auditor, action->model)) {
        fm_sim_auditor_blame(auditor, now_ns,
                             "batch %" PRIu64 " is of model %" PRIu32 ", which is not there",
                             action->batch, action->model);
        return false;
    }
    if (!check_place(auditor, now_ns, action) ||
        !check_requests(auditor, now_ns, action, requests,
                        action->start_ns + latency_ns + auditor->options.result_ns)) {
        return false;
    }
    struct accelerator *accelerator = &auditor->accelerators[action->accelerator];
    accelerator->batches[accelerator->grant_count++] = action->batch;
    accelerator->planned_end_ns = action->expected_ns;
    auditor->batch_last = action->batch;
    return true;
}

bool fm_sim_auditor_action(struct fm_sim_auditor *auditor, uint64_t now_ns,
                           const struct fm_sched_action *action, const uint32_t *requests,
                           uint64_t latency_ns)
{
    if (action->kind == FM_SCHED_ACTION_START) {
        return check_start(auditor, now_ns, action, requests, latency_ns);
    }
    if (action->kind == FM_SCHED_ACTION_PREEMPT) {
        const struct accelerator *accelerator =
            action->accelerator < auditor->options.accelerator_count
                ? &auditor->accelerators[action->accelerator]
                : NULL;
        if (accelerator == NULL || accelerator->grant_count == 0 ||
            (accelerator->batches[0] != action->batch &&
             (accelerator->grant_count < 2 || accelerator->batches[1] != action->batch))) {
            fm_sim_auditor_blame(auditor, now_ns,
                                 "batch %" PRIu64 " is preempted on accelerator %" PRIu32
                                 ", where it is not",
                                 action->batch, action->accelerator);
            return false;
        }
        return true;
    }
    struct request *entry = action->request < auditor->options.requests_max
                                ? &auditor->requests[action->request]
                                : NULL;
    if (entry == NULL || entry->state != REQUEST_WAITING) {
        fm_sim_auditor_blame(auditor, now_ns,
                             "request %" PRIu32 " is dropped (%s), but it does not wait",
                             action->request, fm_sched_drop_reason_name(action->reason));
        return false;
    }
    if (action->reason == FM_SCHED_DROP_MODEL_GONE && auditor->models != NULL &&
        is_there(auditor, entry->model)) {
        fm_sim_auditor_blame(auditor, now_ns,
                             "request %" PRIu32 " is dropped as if model %" PRIu32
                             " were gone, but it is there",
                             action->request, entry->model);
    }
    entry->state = REQUEST_ABSENT;
    auditor->open--;
    return true;
}

void fm_sim_auditor_finish(struct fm_sim_auditor *auditor, uint64_t now_ns)
{
    if (auditor->open > 0) {
        fm_sim_auditor_blame(auditor, now_ns, "%" PRIu64 " requests never got an outcome",
                             auditor->open);
    }
}

void fm_sim_auditor_get(const struct fm_sim_auditor *auditor, struct fm_sim_audit *ret_audit)
{
    *ret_audit = auditor->audit;
}
