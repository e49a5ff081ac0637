/*
 * Online inference: models and pipelines behind the Open Inference Protocol v2, over REST and gRPC,
 * their batches formed by the scheduler and run by a pool of accelerators.
 *
 * Owns: what is served (loading, readiness, the index), routes, requests from body to answer,
 * drain. Does not own: the protocol's bodies (core/proto/oip), connections (host/net), running
 * models (host/runtime). Options come from cmd/serve.c. Thread rule: fm_serve_run is called once,
 * on the main thread, which becomes the loop's thread.
 */
#ifndef FM_ENGINES_SERVE_SERVE_H
#define FM_ENGINES_SERVE_SERVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/sched/sched.h"
#include "core/util/client_table.h"
#include "fermata/status.h"
#include "host/runtime/accelerator_group.h"

/* Of response_cache_bytes, if it is not 0. */
#define FM_SERVE_RESPONSE_CACHE_MIN (UINT64_C(1) << 20)

/* How the models that are served follow the repositories. */
enum fm_serve_control { FM_SERVE_CONTROL_NONE, FM_SERVE_CONTROL_POLL, FM_SERVE_CONTROL_EXPLICIT };

struct fm_serve_options {
    const char *const *paths; /* repositories, model directories, .onnx files, pipeline files */
    uint32_t path_count;
    const char *const *models; /* names to serve; none: all that the paths hold */
    uint32_t model_count;
    const char *server_name; /* in the server's metadata */
    const char *server_version;
    const char *server_commit; /* what it was built from; NULL: not told */
    const char *server_build;  /* compiler and build type; NULL: not told */
    const char *host;
    bool http;             /* listen for HTTP at all */
    uint16_t port;         /* of HTTP; 0: any free one */
    const char *unix_path; /* NULL: none */
    bool grpc;             /* listen for gRPC at all */
    uint16_t grpc_port;
    const char *grpc_unix_path; /* NULL: none */
    bool metrics;               /* listen for scrapes at all */
    uint16_t metrics_port;
    uint32_t loops; /* event loops; 0: chosen by the CPUs */
    /* Accelerators that run batches, of several kinds; or `accelerators` that are alike. */
    struct fm_accelerator_group groups[FM_GROUPS_MAX];
    uint32_t group_count;
    uint32_t accelerators; /* 0: one per usable CPU */
    bool emulated;         /* they cost no CPU: they share threads */
    enum fm_sched_policy_kind policy;
    enum fm_sched_goal goal;
    bool goal_given;
    uint64_t slo_ns; /* of requests that bring no deadline to models that name no SLO; 0: chosen */
    bool admit;      /* refuse on arrival what the queue leaves no time for */
    bool brief;      /* event loops run brief batches themselves (core/sched/brief.h) */
    /* OpenTelemetry over OTLP/HTTP; endpoints NULL: nobody is traced. */
    const char *otlp_endpoint;        /* a base, to which /v1/traces is added */
    const char *otlp_traces_endpoint; /* as it is */
    const char *otlp_headers;
    const char *otlp_service_name;
    uint32_t trace_rate_millionths; /* of requests whose sender does not say */
    uint64_t response_cache_bytes;  /* for answers of models that allow it; 0: none are kept */
    const char *record_path;    /* a file for the recording of the scheduler's life; NULL: none */
    const char *payload_path;   /* a file for requests with their tensors; NULL: none */
    uint64_t payload_bytes_max; /* of that file */
    double payload_share;       /* of the requests, 0 .. 1 */
    bool measure;               /* run models without a profile when they are loaded, to have one */
    bool strict;                /* end when a model does not load at the start */
    enum fm_serve_control control;
    const char *const *load_models; /* EXPLICIT: loaded at the start; "*" alone: all */
    uint32_t load_model_count;
    uint64_t poll_interval_ns;   /* POLL */
    uint32_t load_threads;       /* models loaded at once; 0: default */
    bool strict_readiness;       /* ready only when every model that is wanted answers */
    uint64_t exit_timeout_ns;    /* how long requests in flight may take after the first signal */
    uint64_t upgrade_timeout_ns; /* how long a new process may take until it is ready */
    size_t body_bytes_max;
    uint32_t connections_max;
    uint64_t idle_timeout_ns;
    uint32_t requests_max; /* in flight per model; 0: default */
    uint32_t operator_threads;
    uint32_t threads; /* per instance; 0: as configured */

    /* Who may connect and what they may ask (docs/security.md). */
    const char *tls_certificate_path; /* NULL: without TLS */
    const char *tls_key_path;
    const char *tls_client_ca_path; /* NULL: clients are not asked for certificates */
    bool tls_client_optional;       /* one without a certificate is let in, too */
    bool tls_only_1_3;
    const char *token_file; /* NULL: everybody may do everything */
    bool auth_health;
    struct fm_client_limit client_limit;
    const char *const *allowed_hosts;
    uint32_t allowed_host_count;
    const char *const *cors_origins;
    uint32_t cors_origin_count;
    bool allow_client_shm;
    bool insecure; /* do not warn about being open to everybody */

    bool supervised;  /* a service manager may have opened sockets for this server */
    uint64_t hang_ns; /* a batch that takes longer, and 20 times what it should, is given up */
};

enum fm_serve_end {
    FM_SERVE_DRAINED,   /* every request was answered; everything is released */
    FM_SERVE_TIMED_OUT, /* exit_timeout passed with requests in flight: memory and threads are still
                           in use, the process has to end */
    FM_SERVE_FORCED,    /* a second signal came: likewise */
    FM_SERVE_HUNG, /* every request was answered, but an accelerator does not answer: likewise */
};

/*
 * Serves until SIGTERM or SIGINT. An error (status < 0, reterr) comes before anything was served: a
 * path that cannot be read, an address that cannot be had, no model that loads, or, with strict,
 * one that does not.
 */
int FM_NODISCARD fm_serve_run(const struct fm_serve_options *options, enum fm_serve_end *ret_end,
                              struct fm_error *reterr);

#endif
