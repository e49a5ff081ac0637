/*
 * libfermata: `fermata serve` inside your own program.
 *
 *     struct fm_server_options *options = NULL;
 *     struct fm_server *server = NULL;
 *     if (fm_server_options_create(&options, &error) != 0 ||
 *         fm_server_options_add_path(options, "models", &error) != 0 ||
 *         fm_server_options_set(options, "accelerators", "4", &error) != 0 ||
 *         fm_server_start(options, &server, &error) != 0) { ... error.text says why ... }
 *     ... fm_server_infer, fm_server_infer_async ...
 *     fm_server_stop(server, 30000000000, &error);
 *     fm_server_free(server);
 *
 * Owns: a whole server (models loaded, reloaded and unloaded, batches formed by the scheduler, a
 * pool of accelerators, statistics) that answers calls of this process and, if it is told to
 * listen, clients over HTTP and gRPC, both in the same way. It takes no signals, reads no command
 * line, ends no process, and writes nowhere unless it is asked to. Several may be there at once.
 * For one model without a scheduler fermata.h is enough. docs/embedding.md tells more.
 *
 * Thread rule: options belong to one thread. Everything else from any thread at once, except that
 * fm_server_stop is called by one thread at a time and fm_server_free by the last one. What a
 * callback may do stands with it.
 */
#ifndef FERMATA_SERVER_H
#define FERMATA_SERVER_H

#include <stdbool.h>

#include "fermata/backend.h"

#ifdef __cplusplus
extern "C" {
#endif

struct fm_server;
struct fm_server_options;
struct fm_server_call;

/* --- what a server is started with --- */

/* Options as `fermata serve` has them by default, but without ports: it listens where a port is
 * set. FM_ENOMEM. */
FM_PLUGIN_EXPORT int fm_server_options_create(struct fm_server_options **ret_options,
                                              struct fm_error *reterr) FM_NODISCARD;
FM_PLUGIN_EXPORT void fm_server_options_free(struct fm_server_options *options); /* accepts NULL */
/* A model repository, a model's directory, a .onnx file or a pipeline's .yaml file. */
FM_PLUGIN_EXPORT int fm_server_options_add_path(struct fm_server_options *options, const char *path,
                                                struct fm_error *reterr) FM_NODISCARD;
/*
 * An option of `fermata serve` by its long name without dashes, and its value as one would type it:
 * ("slo", "50ms"), ("grpc-port", "0"), ("no-admission", NULL). A flag takes NULL, "yes" or "no".
 * Options that may be repeated are added to, others replaced. `exit-timeout` means nothing here.
 * FM_EINVAL: no such option (with a suggestion), or no such value.
 */
FM_PLUGIN_EXPORT int fm_server_options_set(struct fm_server_options *options, const char *name,
                                           const char *value, struct fm_error *reterr) FM_NODISCARD;
/*
 * Where the log goes: `line` is one record, without a newline, in the form of `log-format` and of
 * at least `log-level`. Called by one thread of the library's own, never by two at once; be quick,
 * records are dropped (and counted) when too many wait. The log is one for the process: of several
 * servers that want one the first has it, until the last server of all is stopped.
 */
typedef void fm_server_log_fn(void *context, const char *line, size_t length);
FM_PLUGIN_EXPORT void fm_server_options_log(struct fm_server_options *options,
                                            fm_server_log_fn *log, void *context);

/* --- life --- */

/*
 * Starts a server and waits until everything that it should serve is loaded. The options are not
 * kept. On failure *ret_server is untouched: a path that cannot be read, options that do not go
 * together, a port that cannot be had, no model that loads or, with `strict`, one that does not.
 */
FM_PLUGIN_EXPORT int fm_server_start(const struct fm_server_options *options,
                                     struct fm_server **ret_server,
                                     struct fm_error *reterr) FM_NODISCARD;
/*
 * Takes nothing new, answers everything that is under way, and releases all but the handle: other
 * threads may go on calling, and are told FM_EUNAVAILABLE. Waits for at most timeout_ns; then
 * FM_EDEADLINE, with the server still ending, and another call waits on. FM_EUNAVAILABLE:
 * everything was answered, but a model still computes something that was given up (`hang-timeout`);
 * what it uses stays until another call finds that it has returned. 0 when it was stopped before.
 * Not from a callback.
 */
FM_PLUGIN_EXPORT int fm_server_stop(struct fm_server *server, uint64_t timeout_ns,
                                    struct fm_error *reterr) FM_NODISCARD;
/* The handle of a stopped server, when no other thread uses it. Calls that are not freed yet stay
 * valid. Accepts NULL. */
FM_PLUGIN_EXPORT void fm_server_free(struct fm_server *server);
/* The port for "http", "grpc" or "metrics"; 0: it does not listen for that. */
FM_PLUGIN_EXPORT uint16_t fm_server_port(const struct fm_server *server, const char *protocol);

/* --- inference --- */

/*
 * One inference. Only the bytes behind inputs[].tensor.data have to stay as they are while it runs;
 * all else is copied by the call that takes the request. Zero-initialise.
 */
struct fm_server_request {
    uint32_t struct_size; /* sizeof(struct fm_server_request) */
    uint32_t priority;    /* 1: the most important; 0: none given, which is in the middle */
    const char *model;
    uint64_t version;    /* 0: the newest that is ready */
    const char *id;      /* for logs and traces; NULL: none */
    uint64_t timeout_ns; /* from now on; too late is FM_EDEADLINE. 0: the model's SLO */
    const struct fm_named_tensor *inputs;
    uint32_t input_count;
    uint32_t output_count;
    const char *const *outputs; /* the names of the wanted ones; output_count 0: all */
    const char *traceparent;    /* W3C trace context of the caller; NULL: none */
    /*
     * Once, when the answer is there, whatever it is: the call is the callback's to free. On a
     * thread of the server, which does nothing else meanwhile: do not wait there; start another
     * inference, or hand the call to a thread of your own.
     */
    void (*done)(void *context, struct fm_server_call *call);
    /*
     * The bytes of the inputs are not read any more. NULL: `done` says so too, and therefore comes
     * late in one case: a model that hangs (`hang-timeout`) and may still be reading. With it, that
     * error comes at once, and this when the model has returned. On any thread of the server: be
     * quick.
     */
    void (*inputs_released)(void *context);
    void *context; /* of both */
};

/*
 * Begins an inference and returns; never waits. On success `done` will be called, perhaps before
 * this returns; `ret_call` (NULL: not wanted) is the call for fm_server_call_cancel, valid until it
 * is freed. On failure nothing was begun: FM_EINVAL (no model, no `done`), FM_ENOMEM,
 * FM_EUNAVAILABLE (the server is being stopped). All else, an unknown model too, comes with the
 * answer, in the words that clients read over the network.
 */
FM_PLUGIN_EXPORT int fm_server_infer_async(struct fm_server *server,
                                           const struct fm_server_request *request,
                                           struct fm_server_call **ret_call,
                                           struct fm_error *reterr) FM_NODISCARD;
/*
 * The same, and waits (`done` and `context` are not looked at). On success *ret_call holds the
 * outputs and is the caller's to free; otherwise it is untouched. Not from a callback: FM_EINVAL.
 */
FM_PLUGIN_EXPORT int fm_server_infer(struct fm_server *server,
                                     const struct fm_server_request *request,
                                     struct fm_server_call **ret_call,
                                     struct fm_error *reterr) FM_NODISCARD;
/* The answer is not wanted any more. `done` comes all the same: with FM_ECANCELLED, or with the
 * answer if that was quicker. Before the call is freed, and before its server is. */
FM_PLUGIN_EXPORT void fm_server_call_cancel(struct fm_server_call *call);

/* What follows is for a call that is done, by one thread at a time; pointers are borrowed from the
 * call. It may outlive its server and its model. */

/* status 0: it went well, and the outputs are there. */
FM_PLUGIN_EXPORT const struct fm_error *fm_server_call_error(const struct fm_server_call *call);
FM_PLUGIN_EXPORT uint32_t fm_server_call_output_count(const struct fm_server_call *call);
/* In the order of the request's `outputs`, else the model's; NULL: there is no such output. The
 * bytes are where the model left them, and may be those of other answers: they are not to be
 * changed. ret_name may be NULL. */
FM_PLUGIN_EXPORT const struct fm_tensor *fm_server_call_output(const struct fm_server_call *call,
                                                               uint32_t index,
                                                               const char **ret_name);
FM_PLUGIN_EXPORT const struct fm_tensor *fm_server_call_output_find(
    const struct fm_server_call *call, const char *name);

/* How it went. The caller sets struct_size; what is 0 did not come to pass, or is not known of a
 * pipeline. */
struct fm_server_timing {
    uint32_t struct_size; /* sizeof(struct fm_server_timing) */
    uint32_t batch_rows;  /* of the batch in which it ran */
    uint64_t version;     /* of the model that answered */
    uint64_t total_ns;    /* from fm_server_infer_async to the answer */
    uint64_t queue_ns;
    uint64_t compute_ns;
};
FM_PLUGIN_EXPORT void fm_server_call_timing(const struct fm_server_call *call,
                                            struct fm_server_timing *ret_timing);
FM_PLUGIN_EXPORT void fm_server_call_free(struct fm_server_call *call); /* accepts NULL */

/* --- the state of the server and its models --- */

/* Whether requests should be sent: not before everything is loaded, nor when it ends. */
FM_PLUGIN_EXPORT bool fm_server_is_ready(struct fm_server *server);
FM_PLUGIN_EXPORT bool fm_server_model_is_ready(struct fm_server *server, const char *model,
                                               uint64_t version);

enum fm_server_document {
    FM_SERVER_METADATA,         /* GET /v2 */
    FM_SERVER_MODEL_METADATA,   /* GET /v2/models/NAME */
    FM_SERVER_MODEL_CONFIG,     /* GET /v2/models/NAME/config */
    FM_SERVER_MODEL_STATISTICS, /* GET /v2/models/NAME/stats; without a name: of all */
    FM_SERVER_INDEX,            /* POST /v2/repository/index: the models, and how they are */
    FM_SERVER_METRICS,          /* GET /metrics, the text that Prometheus reads */
    FM_SERVER_STATE,            /* GET /debug/state, what the dashboard shows */
};

/*
 * What the network answers there, as a NUL-terminated text in JSON (but for METRICS), which is the
 * caller's to free with fm_server_text_free. `model` where the document is a model's, else NULL;
 * version 0: the newest. Not from a callback, as it waits for the server.
 */
FM_PLUGIN_EXPORT int fm_server_read(struct fm_server *server, enum fm_server_document document,
                                    const char *model, uint64_t version, char **ret_text,
                                    struct fm_error *reterr) FM_NODISCARD;
FM_PLUGIN_EXPORT void fm_server_text_free(char *text); /* accepts NULL */

/*
 * Loads a model, or again what changed of it; unloads it, with what is under way answered first.
 * They wait until every request finds the outcome, and want ("model-control-mode", "explicit"):
 * else FM_EUNSUPPORTED. `parameters` is the body of POST /v2/repository/models/NAME/load or unload
 * in JSON, such as {"parameters": {"unload_dependents": true}}; NULL: none. Not from a callback.
 */
FM_PLUGIN_EXPORT int fm_server_model_load(struct fm_server *server, const char *model,
                                          const char *parameters,
                                          struct fm_error *reterr) FM_NODISCARD;
FM_PLUGIN_EXPORT int fm_server_model_unload(struct fm_server *server, const char *model,
                                            const char *parameters,
                                            struct fm_error *reterr) FM_NODISCARD;

#ifdef __cplusplus
}
#endif
#endif
