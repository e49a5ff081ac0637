/*
 * libfermata: run a model or a pipeline inside your own program.
 *
 *     struct fm_error error = {0};
 *     struct fm_session *session = NULL;
 *     struct fm_result *result = NULL;
 *     if (fm_session_open("ocr/pipeline.yaml", NULL, &session, &error) != 0 ||
 *         fm_session_run(session, &input, 1, &result, &error) != 0) {
 *         fprintf(stderr, "%s\n", error.text);
 *     }
 *
 * Owns: loading, batching across threads, running. A session is what `fermata serve` serves under
 * one name: requests of several threads are batched together. Thread rule: open and close from one
 * thread; run from any number of threads at once; a result belongs to one thread.
 */
#ifndef FERMATA_FERMATA_H
#define FERMATA_FERMATA_H

#include "fermata/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

struct fm_session;
struct fm_result;

struct fm_session_options {
    uint32_t struct_size;      /* sizeof(struct fm_session_options) */
    uint32_t operator_threads; /* 0: one per usable CPU */
    uint32_t instances;        /* of each model; 0: as configured */
    uint32_t threads;          /* of each instance; 0: as configured */
    uint32_t requests_max;     /* in flight at once, FM_EAGAIN beyond it; 0: 1024 */
};

/* "0.1.0". */
FM_PLUGIN_EXPORT const char *fm_library_version(void);
/* The words for a status, "invalid argument". */
FM_PLUGIN_EXPORT const char *fm_library_status_text(int status);

/* Opens a model file, a model directory or a pipeline file and makes it ready. options may be NULL.
 * On failure *ret_session is untouched. */
FM_PLUGIN_EXPORT int fm_session_open(const char *path, const struct fm_session_options *options,
                                     struct fm_session **ret_session,
                                     struct fm_error *reterr) FM_NODISCARD;
/* Waits for runs in progress. Accepts NULL. Results outlive their session. */
FM_PLUGIN_EXPORT void fm_session_close(struct fm_session *session);

/* What goes in and comes out, in order. Borrowed until the session is closed. -1 is a dimension of
 * any size. */
FM_PLUGIN_EXPORT const struct fm_port *fm_session_inputs(const struct fm_session *session,
                                                         uint32_t *ret_count);
FM_PLUGIN_EXPORT const struct fm_port *fm_session_outputs(const struct fm_session *session,
                                                          uint32_t *ret_count);

/*
 * Runs once and waits. inputs[i] belongs to input i (an absent optional one has dtype
 * FM_DTYPE_INVALID); bytes are borrowed until the call returns. On success *ret_result holds all
 * outputs and is the caller's.
 */
FM_PLUGIN_EXPORT int fm_session_run(struct fm_session *session, const struct fm_tensor *inputs,
                                    uint32_t input_count, struct fm_result **ret_result,
                                    struct fm_error *reterr) FM_NODISCARD;
/* Output `index`, borrowed from the result; NULL when there is no such output. */
FM_PLUGIN_EXPORT const struct fm_tensor *fm_result_output(const struct fm_result *result,
                                                          uint32_t index);
FM_PLUGIN_EXPORT void fm_result_free(struct fm_result *result); /* accepts NULL */

#ifdef __cplusplus
}
#endif
#endif
