/*
 * libfermata-client: ask a model server from your own program. The server is Fermata, or any other
 * that speaks the Open Inference Protocol v2, over REST or gRPC.
 *
 *     struct fm_error error = {0};
 *     struct fm_client *client = NULL;
 *     struct fm_client_result *result = NULL;
 *     struct fm_client_input input = {.name = "x", .tensor = tensor};
 *     struct fm_client_request request = {
 *         .struct_size = sizeof(request), .model = "m", .inputs = &input, .input_count = 1};
 *     if (fm_client_open("grpc://localhost:8001", NULL, &client, &error) != 0 ||
 *         fm_client_infer(client, &request, &result, &error) != 0) {
 *         fprintf(stderr, "%s\n", error.text);
 *     }
 *
 * Owns: connections, retries, both protocols' messages. Does not own: the bytes of your tensors.
 *
 * Thread rule: a client has one thread of its own, which calls every callback. All functions may be
 * called from any number of threads at once. Those that wait, fm_client_close and
 * fm_client_stream_close must not be called from a callback; all others may.
 *
 * Structs with struct_size grow at their end only; what is zero has its default. Every failure is
 * one of the codes of status.h and one sentence in struct fm_error: what was asked of whom, and
 * what came of it.
 */
#ifndef FERMATA_CLIENT_H
#define FERMATA_CLIENT_H

#include <stdbool.h>

#include "fermata/status.h"
#include "fermata/tensor.h"

#if defined(__GNUC__)
#define FM_CLIENT_EXPORT __attribute__((visibility("default")))
#else
#define FM_CLIENT_EXPORT
#endif

#ifdef __cplusplus
extern "C" {
#endif

struct fm_client;
struct fm_client_result;
struct fm_client_stream;

/* "0.1.0". */
FM_CLIENT_EXPORT const char *fm_client_version(void);
/* The words for a status, "invalid argument". */
FM_CLIENT_EXPORT const char *fm_client_status_text(int status);

/* --- Opening --- */

enum fm_client_compression {
    FM_CLIENT_COMPRESSION_NONE,
    FM_CLIENT_COMPRESSION_DEFLATE,
    FM_CLIENT_COMPRESSION_GZIP,
};

#define FM_CLIENT_CONNECTIONS_MAX 1024u
#define FM_CLIENT_REQUESTS_MAX    1048576u
#define FM_CLIENT_RETRIES_NONE    UINT32_MAX
#define FM_CLIENT_HEADERS_MAX     64u

struct fm_client_options {
    uint32_t struct_size;        /* sizeof(struct fm_client_options) */
    uint32_t connections;        /* at most so many; 0: 8 over HTTP, 1 over gRPC */
    uint32_t requests_max;       /* under way at once, FM_EAGAIN beyond it; 0: 65536 */
    uint32_t retries;            /* of what the server surely did not process, and of questions
                                    that change nothing; 0: 2 */
    uint64_t connect_timeout_ns; /* with the handshake of TLS; 0: 10 s */
    uint64_t timeout_ns;         /* of each call that has none of its own; 0: none */
    uint64_t answer_bytes_max;   /* FM_ETOOLARGE beyond it; 0: 1 GiB */
    uint32_t compression;        /* enum fm_client_compression, of requests; answers may be too */
    uint32_t json;               /* 1: REST without binary tensors, for servers without them */
    const char *token;           /* Authorization: Bearer TOKEN */
    const struct fm_setting *headers; /* more header fields (metadata, over gRPC) */
    uint32_t header_count;
    uint32_t reserved;
    /* TLS. PEM files. */
    const char *ca_path; /* who may have signed the server's certificate; NULL: the system's
                            authorities */
    const char *certificate_path; /* our own */
    const char *key_path;
    const char *server_name; /* in the server's certificate; NULL: the host of the URL */
};

/*
 * The URL decides the protocol.
 * - http, https: REST; then a host, a port (8000 unless given) and a path to put before all others
 * - grpc, grpcs: gRPC; then a host and a port (8001 unless given)
 * - unix:PATH: REST over a Unix socket
 * - grpc+unix:PATH: gRPC over a Unix socket
 *
 * Connects when it is first needed, and again whenever it is. `options` may be NULL, and are
 * copied. FM_EINVAL: what is wrong with the URL or an option.
 */
FM_CLIENT_EXPORT int fm_client_open(const char *url, const struct fm_client_options *options,
                                    struct fm_client **ret_client,
                                    struct fm_error *reterr) FM_NODISCARD;
/* Cancels what is under way; every callback was called before this returns. Streams must be closed
 * before. Accepts NULL. Results outlive their client. A lookup of the server's name that is under
 * way cannot be cancelled: this waits for it, at most as long as the resolver's own time limits. */
FM_CLIENT_EXPORT void fm_client_close(struct fm_client *client);

/* --- Asking for state --- */

/* The server runs; it is ready for requests; a model is. `version` "" or NULL: the server's choice.
 * That it is not ready is no failure, nor that there is no such model. */
FM_CLIENT_EXPORT int fm_client_is_live(struct fm_client *client, bool *ret_live,
                                       struct fm_error *reterr) FM_NODISCARD;
FM_CLIENT_EXPORT int fm_client_is_ready(struct fm_client *client, bool *ret_ready,
                                        struct fm_error *reterr) FM_NODISCARD;
FM_CLIENT_EXPORT int fm_client_model_is_ready(struct fm_client *client, const char *model,
                                              const char *version, bool *ret_ready,
                                              struct fm_error *reterr) FM_NODISCARD;

/* Documents as JSON text, the same over both protocols; fm_client_text_free them. */
FM_CLIENT_EXPORT int fm_client_server_metadata(struct fm_client *client, char **ret_json,
                                               struct fm_error *reterr) FM_NODISCARD;
FM_CLIENT_EXPORT int fm_client_model_metadata(struct fm_client *client, const char *model,
                                              const char *version, char **ret_json,
                                              struct fm_error *reterr) FM_NODISCARD;
FM_CLIENT_EXPORT int fm_client_model_config(struct fm_client *client, const char *model,
                                            const char *version, char **ret_json,
                                            struct fm_error *reterr) FM_NODISCARD;
/* `model` NULL or "": of all. */
FM_CLIENT_EXPORT int fm_client_statistics(struct fm_client *client, const char *model,
                                          const char *version, char **ret_json,
                                          struct fm_error *reterr) FM_NODISCARD;
/* An array of models with their states. */
FM_CLIENT_EXPORT int fm_client_repository_index(struct fm_client *client, bool ready_only,
                                                char **ret_json,
                                                struct fm_error *reterr) FM_NODISCARD;
FM_CLIENT_EXPORT void fm_client_text_free(char *text); /* accepts NULL */

/* A model's inputs and outputs, read from its metadata. */
struct fm_client_model {
    const char *name;
    const char *platform;
    const struct fm_port *inputs;
    const struct fm_port *outputs;
    uint32_t input_count;
    uint32_t output_count;
};
FM_CLIENT_EXPORT int fm_client_model_get(struct fm_client *client, const char *model,
                                         const char *version, struct fm_client_model **ret_model,
                                         struct fm_error *reterr) FM_NODISCARD;
FM_CLIENT_EXPORT void fm_client_model_free(struct fm_client_model *model); /* accepts NULL */

/* --- The repository, shared memory --- */

/* `config_json` NULL: the model's own. Returns when it is loaded. */
FM_CLIENT_EXPORT int fm_client_model_load(struct fm_client *client, const char *model,
                                          const char *config_json,
                                          struct fm_error *reterr) FM_NODISCARD;
FM_CLIENT_EXPORT int fm_client_model_unload(struct fm_client *client, const char *model,
                                            bool unload_dependents,
                                            struct fm_error *reterr) FM_NODISCARD;

/* Tells the server of a POSIX shared memory object: `size` bytes at `offset` of `key` ("/name") are
 * the region `name`. */
FM_CLIENT_EXPORT int fm_client_region_register(struct fm_client *client, const char *name,
                                               const char *key, uint64_t offset, uint64_t size,
                                               struct fm_error *reterr) FM_NODISCARD;
/* `name` NULL or "": all. */
FM_CLIENT_EXPORT int fm_client_region_unregister(struct fm_client *client, const char *name,
                                                 struct fm_error *reterr) FM_NODISCARD;
/* As JSON: an array of name, key, offset, byte_size. `name` NULL or "": all. */
FM_CLIENT_EXPORT int fm_client_region_status(struct fm_client *client, const char *name,
                                             char **ret_json, struct fm_error *reterr) FM_NODISCARD;

/* --- Inference --- */

struct fm_client_input {
    const char *name;
    struct fm_tensor tensor; /* with a region: type, shape and size only */
    const char *region;      /* NULL: the tensor's own bytes */
    uint64_t region_offset;
    uint64_t reserved[2];
};

struct fm_client_output {
    const char *name;
    const char *region; /* NULL: into the answer */
    uint64_t region_offset;
    uint64_t region_size;
    uint32_t classes; /* above 0: the best so many of each row, as BYTES "value:index[:label]" */
    uint32_t reserved[5];
};

enum fm_client_parameter_kind {
    FM_CLIENT_PARAMETER_STRING,
    FM_CLIENT_PARAMETER_INT,
    FM_CLIENT_PARAMETER_BOOL,
    FM_CLIENT_PARAMETER_NUMBER,
};

struct fm_client_parameter {
    const char *name;
    uint32_t kind; /* enum fm_client_parameter_kind: which of the following */
    uint32_t is_true;
    const char *string;
    int64_t integer;
    double number;
};

struct fm_client_request {
    uint32_t struct_size; /* sizeof(struct fm_client_request) */
    uint32_t input_count;
    const char *model;
    const char *version; /* NULL: the server's choice */
    const char *id;      /* NULL: none; comes back with the result */
    const struct fm_client_input *inputs;
    const struct fm_client_output *outputs; /* none: all there are */
    uint32_t output_count;
    uint32_t parameter_count;
    uint64_t priority; /* 0: the model's default */
    /* For the whole call: the server is told, and FM_EDEADLINE comes when it is over. 0: the
     * client's. */
    uint64_t timeout_ns;
    const struct fm_client_parameter *parameters;
};

/* Waits for the answer. On success *ret_result is the caller's. */
FM_CLIENT_EXPORT int fm_client_infer(struct fm_client *client,
                                     const struct fm_client_request *request,
                                     struct fm_client_result **ret_result,
                                     struct fm_error *reterr) FM_NODISCARD;

/* One call ended: status 0 and a result that is now the callee's, or a failure and its error. */
typedef void (*fm_client_done)(void *context, int status, struct fm_client_result *result,
                               const struct fm_error *error);

/*
 * Begins a call and returns. `done` is called exactly once, on the client's thread, unless this
 * fails. The request is copied, apart from the bytes of its tensors: they must stay until `done`.
 * *ret_call (may be NULL) names the call for fm_client_cancel, and is set before `done` is called.
 * FM_EAGAIN: requests_max are under way.
 */
FM_CLIENT_EXPORT int fm_client_infer_start(struct fm_client *client,
                                           const struct fm_client_request *request,
                                           fm_client_done done, void *context, uint64_t *ret_call,
                                           struct fm_error *reterr) FM_NODISCARD;
/* Ends a call with FM_ECANCELLED, and tells the server. A call that is over is nothing to do. */
FM_CLIENT_EXPORT void fm_client_cancel(struct fm_client *client, uint64_t call);

/* Borrowed from the result. Texts are "" where the server said nothing. */
FM_CLIENT_EXPORT const char *fm_client_result_model(const struct fm_client_result *result);
FM_CLIENT_EXPORT const char *fm_client_result_version(const struct fm_client_result *result);
FM_CLIENT_EXPORT const char *fm_client_result_id(const struct fm_client_result *result);
FM_CLIENT_EXPORT uint32_t fm_client_result_count(const struct fm_client_result *result);
/* NULL beyond the last. */
FM_CLIENT_EXPORT const char *fm_client_result_name(const struct fm_client_result *result,
                                                   uint32_t index);
/* Bytes lie aligned for their type. What went into a region has no data here. NULL beyond the last.
 */
FM_CLIENT_EXPORT const struct fm_tensor *fm_client_result_output(
    const struct fm_client_result *result, uint32_t index);
/* By name; NULL when there is none. */
FM_CLIENT_EXPORT const struct fm_tensor *fm_client_result_find(
    const struct fm_client_result *result, const char *name);
FM_CLIENT_EXPORT void fm_client_result_free(struct fm_client_result *result); /* accepts NULL */

/* --- Strings in tensors --- */

struct fm_client_bytes {
    const void *data;
    size_t size;
};

/* A BYTES tensor of shape [count]; fm_client_bytes_free it. */
FM_CLIENT_EXPORT int fm_client_bytes_make(const struct fm_client_bytes *elements, size_t count,
                                          struct fm_tensor *ret_tensor) FM_NODISCARD;
FM_CLIENT_EXPORT void fm_client_bytes_free(struct fm_tensor *tensor);
/* The next element of a BYTES tensor; *offset begins as 0. 1: there is one, borrowed; 0: that was
 * the last; FM_ETYPE: no such tensor, or cut off. */
FM_CLIENT_EXPORT int fm_client_bytes_next(const struct fm_tensor *tensor, size_t *offset,
                                          struct fm_client_bytes *ret_element) FM_NODISCARD;

/* --- Streams (ModelStreamInfer; gRPC only) --- */

#define FM_CLIENT_STREAM_BYTES_MAX ((size_t)256 << 20) /* that wait to be sent */

struct fm_client_stream_options {
    uint32_t struct_size; /* sizeof(struct fm_client_stream_options) */
    uint32_t reserved;
    void *context; /* of both */
    /* An answer: as fm_client_done. A failure is that of one request; the stream lives on. */
    fm_client_done answer;
    /* The stream is over, and no more answers come. status 0: the server ended it after we did. */
    void (*ended)(void *context, int status, const struct fm_error *error);
    uint64_t timeout_ns; /* of the whole stream; 0: none */
};

FM_CLIENT_EXPORT int fm_client_stream_open(struct fm_client *client,
                                           const struct fm_client_stream_options *options,
                                           struct fm_client_stream **ret_stream,
                                           struct fm_error *reterr) FM_NODISCARD;
/* Copies the request with its tensors. FM_EAGAIN: FM_CLIENT_STREAM_BYTES_MAX bytes wait already.
 * FM_EUNAVAILABLE: the stream is over. */
FM_CLIENT_EXPORT int fm_client_stream_send(struct fm_client_stream *stream,
                                           const struct fm_client_request *request,
                                           struct fm_error *reterr) FM_NODISCARD;
/* Nothing more is sent; answers still come, then `ended`. */
FM_CLIENT_EXPORT void fm_client_stream_finish(struct fm_client_stream *stream);
/* Cancels the stream unless it is over; `ended` was called before this returns. Accepts NULL. */
FM_CLIENT_EXPORT void fm_client_stream_close(struct fm_client_stream *stream);

#ifdef __cplusplus
}
#endif
#endif
