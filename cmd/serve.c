/*
 * What a server is started with. See serve.h.
 */
#include "cmd/serve.h"

#include <string.h>

#include "core/util/error.h"
#include "core/util/text.h"
#include "engines/serve/access_origin.h"
#include "fermata_build_facts.h"
#include "host/os/log.h"
#include "host/os/os.h"

#define ID_BYTES_MAX         255
#define IDLE_TIMEOUT_NS_MIN  UINT64_C(1000000)
#define POLL_INTERVAL_NS_MIN UINT64_C(10000000)

static const char *const log_formats[] = {"text", "json", NULL};
static const char *const log_levels[] = {"debug", "info", "warning", "error", NULL};

/* All but shepherd, which stops batches that run: no accelerator here can. */
static const char *const policies[] = {"deferred", "eager",     "latest",   "timeout", "target",
                                       "nexus",    "clockwork", "symphony", NULL};
static const char *const goals[] = {"balanced", "efficiency", "latency", NULL};

static const char *const tls_client_modes[] = {"require", "optional", NULL};
static const char *const tls_versions[] = {"1.2", "1.3", NULL};

static const char *const control_modes[] = {"none", "poll", "explicit", NULL};

const struct fm_positional fm_serve_positionals[] = {
    {.name = "PATH",
     .help = "a model repository, a model's directory, a .onnx file, or a pipeline's .yaml file; "
             "several are served together",
     .repeat = true,
     .path = true},
    {.name = NULL},
};

const struct fm_option fm_serve_option_table[] = {
    {.name = "model",
     .short_name = 'm',
     .kind = FM_OPTION_STRING,
     .value_name = "NAME",
     .repeat = true,
     .help = "serve only this model"},
    {.name = "strict",
     .kind = FM_OPTION_FLAG,
     .help = "end when a model does not load at the start, instead of serving the others"},
    {.name = "model-control-mode",
     .kind = FM_OPTION_CHOICE,
     .value_name = "MODE",
     .default_value = "none",
     .choices = control_modes,
     .help = "none: load all at the start; poll: follow changes of the repositories; explicit: "
             "load what --load-model and the repository API ask for",
     .group = "Models"},
    {.name = "repository-poll-secs",
     .kind = FM_OPTION_DURATION,
     .value_name = "TIME",
     .default_value = "15s",
     .help = "with poll, look at the repositories so often"},
    {.name = "load-model",
     .kind = FM_OPTION_STRING,
     .value_name = "NAME",
     .repeat = true,
     .help = "with explicit, load this model at the start; '*' loads all"},
    {.name = "load-threads",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .default_value = "2",
     .min = 1,
     .max = 64,
     .help = "models that are loaded at once"},
    {.name = "strict-readiness",
     .kind = FM_OPTION_FLAG,
     .help = "ready only while every model that should be served answers, instead of any"},
    {.name = "id",
     .kind = FM_OPTION_STRING,
     .value_name = "NAME",
     .default_value = "fermata",
     .help =
         "what the server calls itself in its metadata; 'triton' for clients that insist on it"},
    {.name = "host",
     .kind = FM_OPTION_STRING,
     .value_name = "ADDRESS",
     .default_value = "127.0.0.1",
     .help =
         "address to listen on; 0.0.0.0 lets other machines in: see --token-file and --tls-cert",
     .group = "Network"},
    {.name = "http-port",
     .short_name = 'p',
     .kind = FM_OPTION_INTEGER,
     .value_name = "PORT",
     .default_value = "8000",
     .min = 0,
     .max = 65535,
     .help = "port for HTTP; 0 takes a free one and logs it"},
    {.name = "grpc-port",
     .kind = FM_OPTION_INTEGER,
     .value_name = "PORT",
     .default_value = "8001",
     .min = 0,
     .max = 65535,
     .help = "port for gRPC; 0 takes a free one and logs it"},
    {.name = "metrics-port",
     .kind = FM_OPTION_INTEGER,
     .value_name = "PORT",
     .default_value = "8002",
     .min = 0,
     .max = 65535,
     .help = "port for Prometheus; 0 takes a free one and logs it"},
    {.name = "no-http", .kind = FM_OPTION_FLAG, .help = "do not listen for HTTP"},
    {.name = "no-grpc", .kind = FM_OPTION_FLAG, .help = "do not listen for gRPC"},
    {.name = "no-metrics",
     .kind = FM_OPTION_FLAG,
     .help = "have no port for Prometheus (the port for HTTP answers /metrics, too)"},
    {.name = "unix-socket",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "listen on this socket for HTTP, too"},
    {.name = "grpc-unix-socket",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "listen on this socket for gRPC, too"},
    {.name = "loops",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .min = 1,
     .max = 63,
     .help = "threads that read and write (without this, one for four CPUs, 63 at most)"},
    {.name = "max-body",
     .kind = FM_OPTION_BYTES,
     .value_name = "SIZE",
     .default_value = "64MiB",
     .help = "largest request body; larger ones are answered with 413"},
    {.name = "max-connections",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .default_value = "4096",
     .min = 1,
     .max = 1000000,
     .help = "open connections; beyond it idle ones are closed, then new ones answered with 503"},
    {.name = "idle-timeout",
     .kind = FM_OPTION_DURATION,
     .value_name = "TIME",
     .default_value = "75s",
     .help = "close a connection that sends no request for so long"},
    {.name = "exit-timeout",
     .kind = FM_OPTION_DURATION,
     .value_name = "TIME",
     .default_value = "30s",
     .help = "after SIGTERM or Ctrl-C, wait so long for requests in flight; a second signal ends "
             "at once"},
    {.name = "upgrade-timeout",
     .kind = FM_OPTION_DURATION,
     .value_name = "TIME",
     .default_value = "5min",
     .help = "after SIGUSR2, wait so long for the new process to be ready; then go on without it"},
    {.name = "hang-timeout",
     .kind = FM_OPTION_DURATION,
     .value_name = "TIME",
     .default_value = "10s",
     .help = "give up a batch that takes longer than this and than 20 times what it should: its "
             "requests are answered with 500, and its accelerator is down until it answers; 0s "
             "waits for ever"},
    {.name = "requests-max",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .default_value = "1024",
     .min = 1,
     .max = 1000000,
     .help = "requests in flight per model; beyond it they are answered with 503",
     .group = "Running"},
    {.name = "slo",
     .kind = FM_OPTION_DURATION,
     .value_name = "TIME",
     .help =
         "answer within this time where a request brings no deadline (without this, 20 times the "
         "model's latency, at least 10s)"},
    {.name = "policy",
     .kind = FM_OPTION_CHOICE,
     .value_name = "POLICY",
     .default_value = "deferred",
     .choices = policies,
     .help = "how batches are formed; docs/scheduling.md compares them"},
    {.name = "goal",
     .kind = FM_OPTION_CHOICE,
     .value_name = "GOAL",
     .choices = goals,
     .help = "of the deferred policy: the fewest accelerators, the lowest latency, or between "
             "(without this, balanced with --slo, else latency)"},
    {.name = "no-admission",
     .kind = FM_OPTION_FLAG,
     .help = "queue also what cannot be in time, instead of answering 503 at once"},
    {.name = "no-brief-batches",
     .kind = FM_OPTION_FLAG,
     .help = "event loops leave every batch to an accelerator's thread, also those that take less "
             "than waking it"},
    {.name = "no-measure",
     .kind = FM_OPTION_FLAG,
     .help = "do not run models without a profile when they are loaded, to see how long they take; "
             "learn it from requests"},
    {.name = "accelerators",
     .short_name = 'a',
     .kind = FM_OPTION_STRING,
     .value_name = "N|GROUPS",
     .help =
         "batches that run at once, over all models (without this, one per CPU, 64 at most); or "
         "groups of unlike ones, such as big=cpu:1x4,small=cpu:4 (1 with 4 threads, and 4), "
         "gpu:2@0 (2 at once on GPU 0), emulated:8"},
    {.name = "emulated",
     .kind = FM_OPTION_FLAG,
     .help = "the accelerators cost no CPU: for the emulated backend, hundreds of them on a few "
             "threads"},
    {.name = "threads",
     .short_name = 't',
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .min = 1,
     .max = 1024,
     .help = "threads of each accelerator (without this, 1)"},
    {.name = "operator-threads",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .min = 1,
     .max = 1024,
     .help = "threads that run a pipeline's operators (without this, one per CPU)"},
    {.name = "response-cache",
     .kind = FM_OPTION_BYTES,
     .value_name = "SIZE",
     .help = "keep answers of models whose configuration allows it (response_cache) in so much "
             "memory, such as 64MiB, and give them again to equal requests (without this, none)"},
    {.name = "otlp-endpoint",
     .kind = FM_OPTION_STRING,
     .value_name = "URL",
     .help = "send traces of requests there, over OTLP/HTTP, as OTEL_EXPORTER_OTLP_ENDPOINT does; "
             "without either none are made"},
    {.name = "trace-rate",
     .kind = FM_OPTION_NUMBER,
     .value_name = "SHARE",
     .default_value = "0.01",
     .number_min = 0,
     .number_max = 1,
     .help = "share of requests that is traced where the sender does not say"},
    {.name = "record",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "record what the scheduler is told and answers, for `fermata sim --replay`"},
    {.name = "record-payloads",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "record requests with their tensors, for replaying them; only this user can read the "
             "file (docs/payloads.md)"},
    {.name = "record-payload-bytes-max",
     .kind = FM_OPTION_BYTES,
     .value_name = "SIZE",
     .default_value = "1GiB",
     .help = "with --record-payloads, the file's largest size; what does not fit is left out and "
             "counted"},
    {.name = "record-payload-share",
     .kind = FM_OPTION_NUMBER,
     .value_name = "SHARE",
     .default_value = "1",
     .number_min = 0,
     .number_max = 1,
     .help = "with --record-payloads, record this share of the requests, chosen at random"},
    {.name = "tls-cert",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "speak TLS on all ports, with this certificate (PEM, its chain behind it)",
     .group = "Access"},
    {.name = "tls-key",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "the certificate's key (PEM, without a passphrase)"},
    {.name = "tls-client-ca",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "ask clients for certificates of these authorities (PEM)"},
    {.name = "tls-client-auth",
     .kind = FM_OPTION_CHOICE,
     .value_name = "MODE",
     .default_value = "require",
     .choices = tls_client_modes,
     .help = "with --tls-client-ca: require a certificate, or let clients in without one, too"},
    {.name = "tls-min-version",
     .kind = FM_OPTION_CHOICE,
     .value_name = "VERSION",
     .default_value = "1.2",
     .choices = tls_versions,
     .help = "oldest version of TLS"},
    {.name = "token-file",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "answer only whoever has a token of this file; a line is NAME TOKEN [SCOPE...], and "
             "SIGHUP reads it again"},
    {.name = "auth-health",
     .kind = FM_OPTION_FLAG,
     .help = "with --token-file: want a token for health and readiness, too"},
    {.name = "client-rate",
     .kind = FM_OPTION_STRING,
     .value_name = "N/s[:BURST]",
     .help = "requests of one client (its token, else its address) in a second, minute (/m) or "
             "hour (/h); beyond it 429"},
    {.name = "client-inflight-max",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .min = 1,
     .max = 1000000,
     .help = "inferences of one client at once; beyond it 429"},
    {.name = "allowed-host",
     .kind = FM_OPTION_STRING,
     .value_name = "NAME",
     .repeat = true,
     .help = "a name by which browsers may reach the dashboard, besides localhost and addresses"},
    {.name = "cors-origin",
     .kind = FM_OPTION_STRING,
     .value_name = "ORIGIN",
     .repeat = true,
     .help = "let pages from there, such as https://example.com, use /v2; * is all"},
    {.name = "allow-client-shm",
     .kind = FM_OPTION_FLAG,
     .help = "let clients register shared memory of this machine"},
    {.name = "insecure",
     .kind = FM_OPTION_FLAG,
     .help = "do not warn when other machines can connect without token or TLS"},
    {.name = "log-format",
     .kind = FM_OPTION_CHOICE,
     .value_name = "FORMAT",
     .default_value = "text",
     .choices = log_formats,
     .help = "text for people, json for collectors; on standard error",
     .group = "Log"},
    {.name = "log-level",
     .kind = FM_OPTION_CHOICE,
     .value_name = "LEVEL",
     .default_value = "info",
     .choices = log_levels,
     .help = "least important records to write"},
    {.name = NULL},
};

/* What the options of group Access must agree on. */
static int access_check(const struct fm_call *call, struct fm_serve_options *serve,
                        struct fm_error *reterr)
{
    struct fm_error error = {0};
    const char *rate = fm_call_string(call, "client-rate");
    if ((serve->tls_certificate_path == NULL) != (serve->tls_key_path == NULL)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--tls-cert and --tls-key go together: give both or none");
    }
    if (serve->tls_client_ca_path != NULL && serve->tls_certificate_path == NULL) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--tls-client-ca means something with --tls-cert only");
    }
    if (fm_call_given(call, "tls-client-auth") && serve->tls_client_ca_path == NULL) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--tls-client-auth means something with --tls-client-ca only");
    }
    if (serve->auth_health && serve->token_file == NULL) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--auth-health means something with --token-file only");
    }
    if (rate != NULL && fm_client_rate_parse(rate, &serve->client_limit, &error) != 0) {
        return fm_error_set(reterr, FM_EINVAL, "--client-rate: %s", error.text);
    }
    for (uint32_t i = 0; i < serve->allowed_host_count; i++) {
        if (!fm_access_host_is_valid(serve->allowed_hosts[i])) {
            return fm_error_set(reterr, FM_EINVAL,
                                "--allowed-host: '%.100s' is no name of a machine; write it "
                                "without scheme and port, such as example.com",
                                serve->allowed_hosts[i]);
        }
    }
    for (uint32_t i = 0; i < serve->cors_origin_count; i++) {
        if (!fm_access_origin_is_valid(serve->cors_origins[i])) {
            return fm_error_set(reterr, FM_EINVAL,
                                "--cors-origin: '%.100s' is no origin; write it as browsers do, "
                                "such as https://example.com or http://localhost:3000, or *",
                                serve->cors_origins[i]);
        }
    }
    return 0;
}

/* A number, or groups. */
static int accelerators_read(const struct fm_call *call, struct fm_serve_options *serve,
                             struct fm_error *reterr)
{
    struct fm_error error = {0};
    uint64_t number = 0;
    const char *text = fm_call_string(call, "accelerators");
    if (text == NULL) {
        return 0;
    }
    if (fm_parse_uint64(text, &number) == 0) {
        if (number < 1 || number > FM_MODEL_INSTANCES_MAX) {
            return fm_error_set(reterr, FM_EINVAL, "--accelerators: give it 1 to %d, or groups",
                                FM_MODEL_INSTANCES_MAX);
        }
        serve->accelerators = (uint32_t)number;
        return 0;
    }
    int status = fm_accelerator_groups_parse(text, serve->groups, &serve->group_count, &error);
    if (status != 0) {
        return fm_error_set(reterr, status, "--accelerators: %s", error.text);
    }
    if (serve->emulated) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--emulated is for a number of accelerators; among groups, write "
                            "emulated:8");
    }
    return 0;
}

static void options_read(const struct fm_call *call, struct fm_serve_options *serve)
{
    *serve = (struct fm_serve_options){
        .paths = call->positionals,
        .path_count = call->positional_count,
        .server_name = fm_call_string(call, "id"),
        .server_version = FM_BUILD_VERSION,
        .server_build = FM_BUILD_COMPILER " " FM_BUILD_TYPE,
        .host = fm_call_string(call, "host"),
        .http = !fm_call_flag(call, "no-http"),
        .port = (uint16_t)fm_call_integer(call, "http-port"),
        .unix_path = fm_call_string(call, "unix-socket"),
        .grpc = !fm_call_flag(call, "no-grpc"),
        .grpc_port = (uint16_t)fm_call_integer(call, "grpc-port"),
        .grpc_unix_path = fm_call_string(call, "grpc-unix-socket"),
        .metrics = !fm_call_flag(call, "no-metrics"),
        .metrics_port = (uint16_t)fm_call_integer(call, "metrics-port"),
        .loops = (uint32_t)fm_call_integer(call, "loops"),
        .emulated = fm_call_flag(call, "emulated"),
        .policy = fm_sched_policy_parse(policies[fm_call_choice(call, "policy")]),
        .goal_given = fm_call_given(call, "goal"),
        .goal = fm_call_given(call, "goal") ? (enum fm_sched_goal)fm_call_choice(call, "goal")
                                            : FM_SCHED_GOAL_BALANCED,
        .slo_ns = fm_call_duration_ns(call, "slo"),
        .admit = !fm_call_flag(call, "no-admission"),
        .brief = !fm_call_flag(call, "no-brief-batches"),
        .measure = !fm_call_flag(call, "no-measure"),
        .record_path = fm_call_string(call, "record"),
        .payload_path = fm_call_string(call, "record-payloads"),
        .payload_bytes_max = fm_call_bytes(call, "record-payload-bytes-max"),
        .payload_share = fm_call_number(call, "record-payload-share"),
        .response_cache_bytes = fm_call_bytes(call, "response-cache"),
        .strict = fm_call_flag(call, "strict"),
        .control = (enum fm_serve_control)fm_call_choice(call, "model-control-mode"),
        .poll_interval_ns = fm_call_duration_ns(call, "repository-poll-secs"),
        .load_threads = (uint32_t)fm_call_integer(call, "load-threads"),
        .strict_readiness = fm_call_flag(call, "strict-readiness"),
        .exit_timeout_ns = fm_call_duration_ns(call, "exit-timeout"),
        .upgrade_timeout_ns = fm_call_duration_ns(call, "upgrade-timeout"),
        .body_bytes_max = fm_call_bytes(call, "max-body"),
        .connections_max = (uint32_t)fm_call_integer(call, "max-connections"),
        .idle_timeout_ns = fm_call_duration_ns(call, "idle-timeout"),
        .requests_max = (uint32_t)fm_call_integer(call, "requests-max"),
        .operator_threads = (uint32_t)fm_call_integer(call, "operator-threads"),
        .threads = (uint32_t)fm_call_integer(call, "threads"),
        .tls_certificate_path = fm_call_string(call, "tls-cert"),
        .tls_key_path = fm_call_string(call, "tls-key"),
        .tls_client_ca_path = fm_call_string(call, "tls-client-ca"),
        .tls_client_optional = fm_call_choice(call, "tls-client-auth") == 1,
        .tls_only_1_3 = fm_call_choice(call, "tls-min-version") == 1,
        .token_file = fm_call_string(call, "token-file"),
        .auth_health = fm_call_flag(call, "auth-health"),
        .client_limit = {.in_flight_max = (uint32_t)fm_call_integer(call, "client-inflight-max")},
        .allow_client_shm = fm_call_flag(call, "allow-client-shm"),
        .insecure = fm_call_flag(call, "insecure"),
        .hang_ns = fm_call_duration_ns(call, "hang-timeout")};
    /* OpenTelemetry's own names, where no option says otherwise. */
    serve->otlp_endpoint = fm_call_given(call, "otlp-endpoint")
                               ? fm_call_string(call, "otlp-endpoint")
                               : fm_os_environment("OTEL_EXPORTER_OTLP_ENDPOINT");
    serve->otlp_traces_endpoint = fm_call_given(call, "otlp-endpoint")
                                      ? NULL
                                      : fm_os_environment("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
    serve->otlp_headers = fm_os_environment("OTEL_EXPORTER_OTLP_HEADERS");
    serve->otlp_service_name = fm_os_environment("OTEL_SERVICE_NAME");
    serve->trace_rate_millionths = (uint32_t)(fm_call_number(call, "trace-rate") * 1e6);
    serve->allowed_hosts = fm_call_strings(call, "allowed-host", &serve->allowed_host_count);
    serve->cors_origins = fm_call_strings(call, "cors-origin", &serve->cors_origin_count);
    serve->models = fm_call_strings(call, "model", &serve->model_count);
    serve->load_models = fm_call_strings(call, "load-model", &serve->load_model_count);
}

/* What goes into JSON and protobuf alike. */
static bool is_id(const char *text)
{
    size_t length = strlen(text);
    for (size_t i = 0; i < length; i++) {
        if (text[i] < ' ' || text[i] > '~') {
            return false;
        }
    }
    return length > 0 && length <= ID_BYTES_MAX;
}

int fm_serve_options_read(const struct fm_call *call, struct fm_serve_options *serve,
                          struct fm_error *reterr)
{
    options_read(call, serve);
    if (!is_id(serve->server_name)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--id: give 1 to %d printable ASCII characters, such as fermata",
                            ID_BYTES_MAX);
    }
    if (serve->body_bytes_max == 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--max-body: 0 would refuse every inference request; give it at "
                            "least 1 byte, such as 64MiB");
    }
    if (serve->payload_path == NULL && (fm_call_given(call, "record-payload-bytes-max") ||
                                        fm_call_given(call, "record-payload-share"))) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--record-payload-bytes-max and --record-payload-share mean something "
                            "with --record-payloads only");
    }
    if (fm_call_given(call, "response-cache") &&
        serve->response_cache_bytes < FM_SERVE_RESPONSE_CACHE_MIN) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--response-cache: less than 1MiB keeps nothing worth it; give it a "
                            "size such as 64MiB, or leave it out to cache nothing");
    }
    if (serve->idle_timeout_ns < IDLE_TIMEOUT_NS_MIN) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--idle-timeout: less than 1ms would close every connection "
                            "before its first request; give it a time such as 75s");
    }
    if (serve->load_model_count > 0 && serve->control != FM_SERVE_CONTROL_EXPLICIT) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--load-model means something with --model-control-mode explicit "
                            "only; --model narrows what the other modes serve");
    }
    if (serve->poll_interval_ns < POLL_INTERVAL_NS_MIN) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--repository-poll-secs: give it at least 10ms, such as 15s");
    }
    int status = access_check(call, serve, reterr);
    return status != 0 ? status : accelerators_read(call, serve, reterr);
}

struct fm_log_options fm_serve_log_options(const struct fm_call *call)
{
    return (struct fm_log_options){.level = (enum fm_log_level)fm_call_choice(call, "log-level"),
                                   .format =
                                       (enum fm_log_format)fm_call_choice(call, "log-format")};
}

void fm_serve_plugin_log(enum fm_log_level level, const char *text)
{
    fm_log(level, "plugin", FM_LOG_TEXT("text", text));
}
