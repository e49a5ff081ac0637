/*
 * `fermata serve`: models and pipelines answering over HTTP until told to stop.
 *
 * Owns: the log's life, exit codes. Does not own: options (serve.h), serving (engines/serve).
 * Thread rule: the main thread, which becomes the event loop's.
 */
#include <stdlib.h>

#include "cmd/serve.h"
#include "fermata_commit.h"
#include "host/runtime/backend_registry.h"

enum { STANDARD_ERROR = 2 };

static const struct fm_example examples[] = {
    {"Serve a model repository, then ask it who it is",
     "fermata serve .deps/models/ocr & sleep 3; curl -s http://127.0.0.1:8000/v2/models/det"},
    {"Serve a pipeline, and send it a photo as it is",
     "fermata serve examples/ocr/pipeline.yaml & sleep 3; curl -s -H 'Content-Type: image/jpeg' "
     "--data-binary @page.jpg "
     "http://127.0.0.1:8000/v2/models/ocr/infer"},
    {"In a container: reachable from outside, one JSON record a line",
     "fermata serve models --host 0.0.0.0 --log-format json"},
    {NULL, NULL},
};

static const int exit_codes[] = {FM_EXIT_INPUT, FM_EXIT_UNAVAILABLE, FM_EXIT_INTERRUPTED, 0};

static int run(const struct fm_call *call)
{
    struct fm_error error = {0};
    struct fm_log_options log = fm_serve_log_options(call);
    struct fm_serve_options serve;
    log.descriptor = STANDARD_ERROR;
    if (fm_serve_options_read(call, &serve, &error) != 0) {
        return fm_call_fail_arguments(call, &error);
    }
    if (!serve.http && !serve.grpc) {
        return fm_call_usage(call, "--no-http and --no-grpc leave nobody to answer: give one");
    }
    serve.supervised = true;
    serve.server_commit = FM_BUILD_COMMIT;
    if (fm_log_start(&log, &error) != 0) {
        return fm_call_fail(call, &error);
    }
    fm_host_set_log(fm_serve_plugin_log);
    enum fm_serve_end end = FM_SERVE_DRAINED;
    int status = fm_serve_run(&serve, &end, &error);
    if (status == 0 && end != FM_SERVE_DRAINED) {
        /* Models may still be computing on threads of their own, so nothing is released: the
         * process ends here. */
        fm_log_flush(UINT64_C(1000000000));
        _Exit(end == FM_SERVE_FORCED ? FM_EXIT_INTERRUPTED
              : end == FM_SERVE_HUNG ? FM_EXIT_OK
                                     : FM_EXIT_FAILURE);
    }
    fm_host_set_log(NULL);
    fm_log_stop();
    return status == 0 ? FM_EXIT_OK : fm_call_fail(call, &error);
}

const struct fm_command fm_command_serve = {
    .name = "serve",
    .summary = "answer inference requests over HTTP and gRPC",
    .description = "Speaks the Open Inference Protocol v2 (gRPC, and REST with Triton's binary "
                   "tensors): any client of that protocol works, and so does curl. "
                   "A pipeline is a model there too.\n\n"
                   "It listens at once and is ready when all models are loaded (GET "
                   "/v2/health/ready). A model that does not load is logged, "
                   "listed by POST /v2/repository/index with the reason, and the others are "
                   "served. SIGTERM and Ctrl-C end it gracefully: no "
                   "new connections, every request in flight is answered. SIGUSR2 starts the "
                   "program again, which takes over without a pause.",
    .positionals = fm_serve_positionals,
    .options = fm_serve_option_table,
    .examples = examples,
    .exit_codes = exit_codes,
    .see_also = "docs/serving.md",
    .results_elsewhere = true,
    .run = run,
};
