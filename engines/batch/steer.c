/*
 * Steering a job. See steer.h.
 */
#include "engines/batch/steer.h"

#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/batch/job_notes.h"
#include "engines/batch/output.h"
#include "host/net/grpc_client.h"
#include "host/os/file_lock.h"
#include "host/os/os.h"
#include "host/os/unix_socket.h"
#include "host/store/sqlite_store.h"

#define SOCKET_FILE "master.sock"

/* --- Asking the master --- */

struct asker {
    struct fm_loop *loop;
    struct fm_endpoint endpoint;
    bool has_endpoint;
    struct fm_grpc_client *client;
    struct fm_grpc_client_call call;
    struct fm_text *bytes;
    bool closing;
    int state_directory; /* open where the socket's path is too long; 0: it is not */
};

static void closed(void *context)
{
    struct asker *asker = context;
    asker->client = NULL;
    fm_loop_stop(asker->loop);
}

static void on_message(struct fm_grpc_client_call *call, struct fm_buffer *buffer, const char *data,
                       size_t size)
{
    struct asker *asker = FM_CONTAINER_OF(call, struct asker, call);
    fm_text_clear(asker->bytes);
    fm_text_append(asker->bytes, data != NULL ? data : "", size);
    fm_buffer_unref(buffer);
}

static void on_done(struct fm_grpc_client_call *call)
{
    struct asker *asker = FM_CONTAINER_OF(call, struct asker, call);
    asker->closing = true;
}

static void on_round(void *context)
{
    struct asker *asker = context;
    if (asker->client == NULL) {
        return;
    }
    if (asker->closing) {
        struct fm_grpc_client *client = asker->client;
        asker->client = NULL;
        fm_grpc_client_close(client, closed, asker);
        return;
    }
    fm_grpc_client_round(asker->client);
}

/* The socket's URL; a path that is too long for the kernel is reached through the directory. */
static int url_make(struct asker *asker, const char *directory, char *url, size_t size,
                    struct fm_error *reterr)
{
    char path[FM_OUTPUT_PATH_MAX];
    char state[FM_OUTPUT_PATH_MAX];
    int status = fm_output_state_path(directory, SOCKET_FILE, path, sizeof(path), reterr);
    if (status == 0 && strlen(path) > FM_UNIX_SOCKET_PATH_MAX) {
        status = fm_output_state_path(directory, ".", state, sizeof(state), reterr);
        status =
            status != 0 ? status : fm_file_directory_open(state, &asker->state_directory, reterr);
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", asker->state_directory,
                       SOCKET_FILE);
    }
    (void)snprintf(url, size, "grpc+unix:%s", path);
    return status;
}

static int ask(struct asker *asker, const char *directory, const char *method, uint64_t patience_ns,
               struct fm_error *reterr)
{
    static const struct fm_oip_part nothing = {.data = "", .size = 0};
    char url[FM_OUTPUT_PATH_MAX + 16];
    int status = url_make(asker, directory, url, sizeof(url), reterr);
    status = status != 0 ? status : fm_endpoint_parse(url, &asker->endpoint, reterr);
    if (status != 0) {
        return status;
    }
    asker->has_endpoint = true;
    const struct fm_grpc_client_options options = {.endpoint = &asker->endpoint,
                                                   .connections_max = 1,
                                                   .connect_timeout_ns = patience_ns,
                                                   .message_bytes_max = FM_BATCH_STATUS_BYTES_MAX};
    status = fm_loop_create(&asker->loop, reterr);
    status =
        status != 0 ? status : fm_grpc_client_create(asker->loop, &options, &asker->client, reterr);
    if (status != 0) {
        return status;
    }
    asker->call = (struct fm_grpc_client_call){.path = method,
                                               .parts = &nothing,
                                               .part_count = 1,
                                               .deadline_ns = fm_os_now_ns() + patience_ns,
                                               .message = on_message,
                                               .done = on_done};
    fm_loop_each_round(asker->loop, on_round, asker);
    fm_grpc_client_send(asker->client, &asker->call);
    fm_loop_run(asker->loop);
    if (asker->call.status != 0) {
        *reterr = asker->call.error;
    }
    return asker->call.status;
}

static int running_check(const char *directory, struct fm_error *reterr)
{
    char path[FM_OUTPUT_PATH_MAX];
    enum fm_output_state state = FM_OUTPUT_EMPTY;
    bool held = false;
    long holder = 0;
    int status = fm_output_look(directory, &state, reterr);
    status = status != 0
                 ? status
                 : fm_output_state_path(directory, FM_OUTPUT_LOCK_FILE, path, sizeof(path), reterr);
    if (status != 0) {
        return status;
    }
    fm_file_lock_look(path, &held, &holder);
    if (held) {
        return 0;
    }
    return state == FM_OUTPUT_EMPTY
               ? fm_error_set(reterr, FM_ENOTFOUND, "there is no job in '%s'", directory)
               : fm_error_set(reterr, FM_EUNAVAILABLE, "nobody is working on the job in '%s'",
                              directory);
}

int fm_steer_ask(const char *directory, enum fm_steer what, uint64_t patience_ns,
                 struct fm_steer_answer *ret_answer, struct fm_error *reterr)
{
    static const char *const methods[] = {[FM_STEER_STATUS] = FM_BATCH_CONTROL_STATUS,
                                          [FM_STEER_PAUSE] = FM_BATCH_CONTROL_PAUSE,
                                          [FM_STEER_RESUME] = FM_BATCH_CONTROL_RESUME,
                                          [FM_STEER_CANCEL] = FM_BATCH_CONTROL_CANCEL};
    struct asker asker = {.bytes = &ret_answer->bytes};
    struct fm_error why = {0};
    int status = running_check(directory, reterr);
    if (status != 0) {
        return status;
    }
    status = ask(&asker, directory, methods[what], patience_ns, &why);
    if (status == 0 && ret_answer->bytes.failed) {
        status = fm_error_set(&why, FM_ENOMEM, "out of memory for the answer");
    }
    status = status != 0 ? status
                         : fm_batch_status_read(ret_answer->bytes.data, ret_answer->bytes.length,
                                                &ret_answer->status, &why);
    if (status != 0) {
        status = fm_error_set(reterr, status == FM_EDEADLINE ? FM_EUNAVAILABLE : status,
                              "the master of the job in '%s' does not answer as it should: %.300s",
                              directory, why.text);
    }
    fm_loop_destroy(asker.loop);
    if (asker.has_endpoint) {
        fm_endpoint_deinit(&asker.endpoint);
    }
    fm_file_directory_close(asker.state_directory);
    return status;
}

void fm_steer_answer_deinit(struct fm_steer_answer *answer)
{
    fm_text_deinit(&answer->bytes);
}

/* --- The mark --- */

static int mark(const char *directory, bool cancelled, bool *ret_changed, struct fm_error *reterr)
{
    char path[FM_OUTPUT_PATH_MAX];
    struct fm_job_store *store = NULL;
    struct fm_text state = {0};
    const struct fm_job_fact fact = {FM_JOB_NOTE_STATE,
                                     cancelled ? FM_JOB_STATE_CANCELLED : FM_JOB_STATE_STOPPED};
    int status = fm_output_state_path(directory, FM_OUTPUT_LEDGER_FILE, path, sizeof(path), reterr);
    status = status != 0 ? status : fm_sqlite_store_open(path, &store, reterr);
    if (status != 0) {
        return status;
    }
    status = store->functions->fact(store, FM_JOB_NOTE_STATE, &state, reterr);
    status = status == FM_ENOTFOUND ? 0 : status;
    bool is = state.data != NULL && strcmp(state.data, FM_JOB_STATE_CANCELLED) == 0;
    *ret_changed = status == 0 && is != cancelled;
    if (*ret_changed) {
        status = store->functions->take(store, reterr);
        status = status != 0 ? status : store->functions->facts_put(store, &fact, 1, reterr);
    }
    store->functions->close(store);
    fm_text_deinit(&state);
    return status;
}

int fm_steer_mark(const char *directory, bool cancelled, bool *ret_changed, struct fm_error *reterr)
{
    char path[FM_OUTPUT_PATH_MAX];
    char success[FM_OUTPUT_PATH_MAX];
    struct fm_file_lock lock = {.held = false};
    struct fm_file_facts facts = {0};
    enum fm_output_state state = FM_OUTPUT_EMPTY;
    long holder = 0;
    *ret_changed = false;
    int status = fm_output_look(directory, &state, reterr);
    if (status == 0 && state != FM_OUTPUT_JOB) {
        return fm_error_set(reterr, FM_ENOTFOUND, "there is no job in '%s'", directory);
    }
    status = status != 0
                 ? status
                 : fm_output_state_path(directory, FM_OUTPUT_LOCK_FILE, path, sizeof(path), reterr);
    status = status != 0 ? status
                         : fm_output_state_path(directory, "../" FM_OUTPUT_SUCCESS_FILE, success,
                                                sizeof(success), reterr);
    status = status != 0 ? status : fm_file_lock_acquire(&lock, path, &holder, reterr);
    if (status == FM_EUNAVAILABLE) {
        return fm_error_set(reterr, status, "process %ld has just begun to work on '%s': try again",
                            holder, directory);
    }
    status = status != 0 ? status : fm_file_stat(success, &facts, reterr);
    if (status == 0 && cancelled && facts.kind != FM_FILE_ABSENT) {
        status = fm_error_set(reterr, FM_EINVAL,
                              "the job in '%s' is complete: there is nothing to cancel", directory);
    }
    status = status != 0 ? status : mark(directory, cancelled, ret_changed, reterr);
    fm_file_lock_release(&lock);
    return status;
}
