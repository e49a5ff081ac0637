/*
 * libfermata's sessions: a servable behind the installed C interface. See fermata/fermata.h.
 */
#include "fermata/fermata.h"

#include <stdlib.h>
#include <string.h>

#include "core/util/error.h"
#include "host/runtime/servable.h"

struct fm_session {
    struct fm_servable *servable;
};

struct fm_result {
    uint32_t count;
    struct fm_value outputs[];
};

const char *fm_library_version(void)
{
    return FM_LIBRARY_VERSION;
}

const char *fm_library_status_text(int status)
{
    return fm_status_text(status);
}

int fm_session_open(const char *path, const struct fm_session_options *options,
                    struct fm_session **ret_session, struct fm_error *reterr)
{
    /* A caller built against an older header knows fewer fields: those it does not know are 0. */
    struct fm_session_options known = {0};
    if (options != NULL) {
        memcpy(&known, options,
               options->struct_size < sizeof(known) ? options->struct_size : sizeof(known));
    }
    struct fm_servable_options servable_options = {.operator_threads = known.operator_threads,
                                                   .requests_max = known.requests_max,
                                                   .instances = known.instances,
                                                   .threads = known.threads};
    struct fm_session *session = calloc(1, sizeof(*session));
    if (session == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "cannot open '%s': out of memory", path);
    }
    int status = fm_servable_open_path(path, &servable_options, &session->servable, reterr);
    if (status != 0) {
        free(session);
        return status;
    }
    *ret_session = session;
    return 0;
}

void fm_session_close(struct fm_session *session)
{
    if (session != NULL) {
        fm_servable_close(session->servable);
        free(session);
    }
}

const struct fm_port *fm_session_inputs(const struct fm_session *session, uint32_t *ret_count)
{
    return fm_servable_inputs(session->servable, ret_count);
}

const struct fm_port *fm_session_outputs(const struct fm_session *session, uint32_t *ret_count)
{
    return fm_servable_outputs(session->servable, ret_count);
}

int fm_session_run(struct fm_session *session, const struct fm_tensor *inputs, uint32_t input_count,
                   struct fm_result **ret_result, struct fm_error *reterr)
{
    uint32_t wanted = 0;
    uint32_t output_count = 0;
    (void)fm_servable_inputs(session->servable, &wanted);
    (void)fm_servable_outputs(session->servable, &output_count);
    if (input_count != wanted) {
        return fm_error_set(reterr, FM_EINVAL, "'%s' takes %u inputs, but %u were given",
                            fm_servable_name(session->servable), wanted, input_count);
    }
    struct fm_result *result =
        calloc(1, sizeof(*result) + output_count * sizeof(result->outputs[0]));
    struct fm_value *values = calloc((size_t)input_count + 1, sizeof(*values));
    int status = FM_ENOMEM;
    struct fm_error error = {0};
    (void)fm_error_set(&error, status, "'%s': out of memory for a request",
                       fm_servable_name(session->servable));
    if (result != NULL && values != NULL) {
        result->count = output_count;
        for (uint32_t i = 0; i < input_count; i++) {
            values[i].tensor = inputs[i];
        }
        struct fm_request request = {.inputs = values, .outputs = result->outputs, .rows = 1};
        status = fm_executor_run(fm_servable_executor(session->servable), &request);
        error = request.error;
    }
    free(values);
    if (status != 0) {
        fm_result_free(result);
        return fm_error_set(reterr, status, "%s", error.text);
    }
    *ret_result = result;
    return 0;
}

const struct fm_tensor *fm_result_output(const struct fm_result *result, uint32_t index)
{
    return index < result->count ? &result->outputs[index].tensor : NULL;
}

void fm_result_free(struct fm_result *result)
{
    if (result != NULL) {
        for (uint32_t i = 0; i < result->count; i++) {
            fm_value_unref(&result->outputs[i]);
        }
        free(result);
    }
}
