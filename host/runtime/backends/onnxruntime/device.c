/*
 * The device: ONNX Runtime's environment, and the execution provider that models on this device
 * use.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/util/error.h"
#include "core/util/text.h"
#include "host/runtime/backends/onnxruntime/ort.h"

static void ORT_API_CALL log_forward(void *context, OrtLoggingLevel severity, const char *category,
                                     const char *id, const char *place, const char *message)
{
    const struct fm_host *host = context;
    /* Errors also come back as statuses, and whoever stops those logs them: here they are detail.
     */
    enum fm_log_level level = severity == ORT_LOGGING_LEVEL_FATAL ? FM_LOG_ERROR : FM_LOG_DEBUG;
    char text[512];
    (void)category;
    (void)id;
    (void)place;
    (void)snprintf(text, sizeof(text), "onnxruntime: %s", message);
    host->log(level, text);
}

static int status_code(OrtErrorCode code)
{
    switch (code) {
    case ORT_INVALID_ARGUMENT:
        return FM_EINVAL;
    case ORT_NO_SUCHFILE:
        return FM_ENOTFOUND;
    case ORT_INVALID_PROTOBUF:
    case ORT_INVALID_GRAPH:
    case ORT_NO_MODEL:
        return FM_ECORRUPT;
    case ORT_NOT_IMPLEMENTED:
        return FM_EUNSUPPORTED;
    case ORT_OK:
    case ORT_FAIL:
    case ORT_ENGINE_ERROR:
    case ORT_RUNTIME_EXCEPTION:
    case ORT_MODEL_LOADED:
    case ORT_EP_FAIL:
    default:
        return FM_EINTERNAL;
    }
}

/*
 * The part of ONNX Runtime's message that a user can use. Before it may stand "Load model from PATH
 * failed:" and, for exceptions, a source file with a C++ function: "/src/x.cc:187
 * ns::Class::f(args) text"; behind it line ends and a stack.
 */
static const char *message_sense(const char *message, size_t *ret_length)
{
    static const char failed[] = " failed:";
    const char *sense = message;
    const char *behind = strstr(message, failed);
    if (strncmp(message, "Load model from ", 16) == 0 && behind != NULL) {
        sense = behind + sizeof(failed) - 1;
    }
    behind = strstr(sense, ") ");
    if (sense[0] == '/' && behind != NULL) {
        sense = behind + 2;
    }
    sense += strspn(sense, " \r\n");
    *ret_length = strcspn(sense, "\r\n");
    if (*ret_length == 0) {
        sense = message;
        *ret_length = strcspn(message, "\r\n");
    }
    *ret_length = *ret_length < 380 ? *ret_length : 380;
    return sense;
}

int ort_status(const struct ort_device *device, OrtStatus *take_status, const char *what,
               struct fm_error *reterr)
{
    if (take_status == NULL) {
        return 0;
    }
    const char *message = device->api->GetErrorMessage(take_status);
    int status = status_code(device->api->GetErrorCode(take_status));
    if (strstr(message, "Failed to allocate memory") != NULL ||
        strstr(message, "bad_alloc") != NULL) {
        status = FM_ENOMEM;
    }
    size_t length = 0;
    const char *sense = message_sense(message, &length);
    status = fm_error_set(reterr, status, "%s: %.*s", what, (int)length, sense);
    device->api->ReleaseStatus(take_status);
    return status;
}

/* "CUDA, CPU": what this build of ONNX Runtime names, so that a missing provider is understood at
 * once. */
static void providers_list(const struct ort_device *device, struct fm_text *ret_text)
{
    char **names = NULL;
    int count = 0;
    if (ort_status(device, device->api->GetAvailableProviders(&names, &count), "providers", NULL) !=
        0) {
        return;
    }
    for (int i = 0; i < count; i++) {
        const char *end = strstr(names[i], "ExecutionProvider");
        size_t length = end != NULL ? (size_t)(end - names[i]) : strlen(names[i]);
        fm_text_append_format(ret_text, "%s%.*s", i > 0 ? ", " : "", (int)length, names[i]);
    }
    (void)ort_status(device, device->api->ReleaseAvailableProviders(names, count), "providers",
                     NULL);
}

static int provider_missing(const struct ort_device *device, struct fm_error *reterr)
{
    struct fm_text text = {0};
    providers_list(device, &text);
    int status = fm_error_set(reterr, FM_EUNSUPPORTED,
                              "this ONNX Runtime has no execution provider '%.60s'; it has %s. Use "
                              "'provider: cpu', or an ONNX Runtime built with it",
                              device->provider, text.length > 0 ? text.data : "none that it names");
    fm_text_deinit(&text);
    return status;
}

/* ONNX Runtime knows the provider but cannot have it: typically its library or the vendor's is not
 * installed. */
static int provider_failed(const struct ort_device *device, int status, struct fm_error *reterr)
{
    struct fm_text text = {0};
    char cause[FM_ERROR_TEXT_SIZE] = "";
    providers_list(device, &text);
    if (reterr != NULL) {
        memcpy(cause, reterr->text, sizeof(cause));
    }
    status = fm_error_set(reterr, status == FM_EINVAL ? FM_EINVAL : FM_EUNSUPPORTED,
                          "%.300s. ONNX Runtime was built with %s, but their libraries must be "
                          "installed too; 'provider: cpu' needs none",
                          cause, text.length > 0 ? text.data : "no provider that it names");
    fm_text_deinit(&text);
    return status;
}

static bool provider_available(const struct ort_device *device)
{
    char **names = NULL;
    int count = 0;
    bool found = false;
    if (ort_status(device, device->api->GetAvailableProviders(&names, &count), "providers", NULL) !=
        0) {
        return false;
    }
    size_t length = strlen(device->provider);
    for (int i = 0; i < count && !found; i++) {
        found = strncasecmp(names[i], device->provider, length) == 0 &&
                strcmp(names[i] + length, "ExecutionProvider") == 0;
    }
    (void)ort_status(device, device->api->ReleaseAvailableProviders(names, count), "providers",
                     NULL);
    return found;
}

static int append_cuda(const struct ort_device *device, OrtSessionOptions *options,
                       const char *const *keys, const char *const *values, struct fm_error *reterr)
{
    OrtCUDAProviderOptionsV2 *cuda = NULL;
    int status =
        ort_status(device, device->api->CreateCUDAProviderOptions(&cuda), "provider cuda", reterr);
    if (status == 0 && device->option_count > 0) {
        status = ort_status(
            device,
            device->api->UpdateCUDAProviderOptions(cuda, keys, values, device->option_count),
            "provider cuda", reterr);
    }
    if (status == 0) {
        status = ort_status(
            device, device->api->SessionOptionsAppendExecutionProvider_CUDA_V2(options, cuda),
            "provider cuda", reterr);
    }
    device->api->ReleaseCUDAProviderOptions(cuda);
    return status;
}

static int append_tensorrt(const struct ort_device *device, OrtSessionOptions *options,
                           const char *const *keys, const char *const *values,
                           struct fm_error *reterr)
{
    OrtTensorRTProviderOptionsV2 *tensorrt = NULL;
    int status = ort_status(device, device->api->CreateTensorRTProviderOptions(&tensorrt),
                            "provider tensorrt", reterr);
    if (status == 0 && device->option_count > 0) {
        status = ort_status(device,
                            device->api->UpdateTensorRTProviderOptions(tensorrt, keys, values,
                                                                       device->option_count),
                            "provider tensorrt", reterr);
    }
    if (status == 0) {
        status = ort_status(
            device,
            device->api->SessionOptionsAppendExecutionProvider_TensorRT_V2(options, tensorrt),
            "provider tensorrt", reterr);
    }
    device->api->ReleaseTensorRTProviderOptions(tensorrt);
    return status;
}

static int provider_append(const struct ort_device *device, OrtSessionOptions *options,
                           struct fm_error *reterr)
{
    const char *const *keys = (const char *const *)device->option_keys;
    const char *const *values = (const char *const *)device->option_values;
    if (strcasecmp(device->provider, "cpu") == 0) {
        return 0; /* always there, and always last */
    }
    if (strcasecmp(device->provider, "cuda") == 0) {
        return append_cuda(device, options, keys, values, reterr);
    }
    if (strcasecmp(device->provider, "tensorrt") == 0) {
        return append_tensorrt(device, options, keys, values, reterr);
    }
    if (strcasecmp(device->provider, "openvino") == 0) {
        return ort_status(device,
                          device->api->SessionOptionsAppendExecutionProvider_OpenVINO_V2(
                              options, keys, values, device->option_count),
                          "provider openvino", reterr);
    }
    char what[80];
    (void)snprintf(what, sizeof(what), "provider %.60s", device->provider);
    return ort_status(device,
                      device->api->SessionOptionsAppendExecutionProvider(
                          options, device->provider, keys, values, device->option_count),
                      what, reterr);
}

int ort_provider_append(const struct ort_device *device, OrtSessionOptions *options,
                        struct fm_error *reterr)
{
    int status = provider_append(device, options, reterr);
    return status != 0 ? provider_failed(device, status, reterr) : 0;
}

static int settings_read(struct ort_device *device, const struct fm_setting *settings, size_t count,
                         struct fm_error *reterr)
{
    static const char *const known[] = {"provider", "provider.<option>"};
    device->provider = strdup("cpu");
    for (size_t i = 0; i < count && device->provider != NULL; i++) {
        if (strcmp(settings[i].key, "provider") == 0) {
            free(device->provider);
            device->provider = strdup(settings[i].value);
        } else if (strncmp(settings[i].key, "provider.", 9) == 0 &&
                   device->option_count < ORT_OPTIONS_MAX) {
            size_t at = device->option_count++;
            device->option_keys[at] = strdup(settings[i].key + 9);
            device->option_values[at] = strdup(settings[i].value);
            if (device->option_keys[at] == NULL || device->option_values[at] == NULL) {
                return fm_error_set(reterr, FM_ENOMEM, "onnxruntime: out of memory");
            }
        } else {
            return fm_error_set(
                reterr, FM_EINVAL,
                "onnxruntime: unknown device setting '%s'; there are '%s' and up to %d of '%s'",
                settings[i].key, known[0], ORT_OPTIONS_MAX, known[1]);
        }
    }
    return device->provider != NULL ? 0
                                    : fm_error_set(reterr, FM_ENOMEM, "onnxruntime: out of memory");
}

/*
 * ONNX Runtime has one environment per process and counts who holds it; what was registered with it
 * goes when the last one lets go. This is our count beside its own, for the shared arena.
 */
static pthread_mutex_t environment_mutex = PTHREAD_MUTEX_INITIALIZER;
static unsigned environment_users;
static enum { ARENA_ABSENT, ARENA_POWER_OF_TWO, ARENA_AS_REQUESTED } environment_arena;

/*
 * Builds of ONNX Runtime that Microsoft publishes (1.30 is one) collect telemetry as soon as they
 * have an environment, unless this variable says no: a thread, a database in ~/.cache, a file in
 * /tmp for every process, and what is in it is sent. Whoever wants that sets the variable to 0.
 * Fermata's program has set it before it had threads (cmd/main.c); this is for other programs.
 */
static int telemetry_refuse(struct fm_error *reterr)
{
    return getenv("ORT_DISABLE_TELEMETRY") != NULL || setenv("ORT_DISABLE_TELEMETRY", "1", 0) == 0
               ? 0
               : fm_error_set(reterr, FM_ENOMEM,
                              "onnxruntime: out of memory to switch its telemetry off");
}

static int environment_open(struct ort_device *device, struct fm_error *reterr)
{
    pthread_mutex_lock(&environment_mutex);
    if (telemetry_refuse(reterr) != 0) {
        pthread_mutex_unlock(&environment_mutex);
        return FM_ENOMEM;
    }
    int status = ort_status(device,
                            device->api->CreateEnvWithCustomLogger(
                                log_forward, (void *)(uintptr_t)device->host,
                                ORT_LOGGING_LEVEL_ERROR, "fermata", &device->environment),
                            "onnxruntime", reterr);
    environment_users += status == 0 ? 1 : 0;
    pthread_mutex_unlock(&environment_mutex);
    return status;
}

static void environment_close(struct ort_device *device)
{
    pthread_mutex_lock(&environment_mutex);
    device->api->ReleaseEnv(device->environment);
    environment_users--;
    environment_arena = environment_users == 0 ? ARENA_ABSENT : environment_arena;
    pthread_mutex_unlock(&environment_mutex);
}

int ort_arena_share(const struct ort_device *device, bool as_requested, struct fm_error *reterr)
{
    const char *key = "arena_extend_strategy";
    size_t value = as_requested ? 1 : 0;
    OrtArenaCfg *arena = NULL;
    int status = 0;
    pthread_mutex_lock(&environment_mutex);
    if (environment_arena == ARENA_ABSENT) {
        status = ort_status(device, device->api->CreateArenaCfgV2(&key, &value, 1, &arena),
                            "arena_extend", reterr);
        status = status != 0 ? status
                             : ort_status(device,
                                          device->api->CreateAndRegisterAllocator(
                                              device->environment, device->cpu_memory, arena),
                                          "arena_extend", reterr);
        environment_arena = status != 0    ? ARENA_ABSENT
                            : as_requested ? ARENA_AS_REQUESTED
                                           : ARENA_POWER_OF_TWO;
    } else if ((environment_arena == ARENA_AS_REQUESTED) != as_requested) {
        status = fm_error_set(reterr, FM_EINVAL,
                              "onnxruntime: models that set arena_extend share one arena, and "
                              "another model has set it to the "
                              "other value; use the same for all");
    }
    pthread_mutex_unlock(&environment_mutex);
    if (arena != NULL) {
        device->api->ReleaseArenaCfg(arena);
    }
    return status;
}

int ort_device_open(const struct fm_host *host, const struct fm_setting *settings,
                    size_t setting_count, void **ret_device, struct fm_error *reterr)
{
    struct ort_device *device = calloc(1, sizeof(*device));
    if (device == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "onnxruntime: out of memory");
    }
    device->host = host;
    device->api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    int status = 0;
    if (device->api == NULL) {
        free(device);
        return fm_error_set(reterr, FM_EABI,
                            "ONNX Runtime %s is too old: this plug-in was built for API %d; "
                            "install version 1.%d or newer",
                            OrtGetApiBase()->GetVersionString(), ORT_API_VERSION, ORT_API_VERSION);
    }
    status = environment_open(device, reterr);
    status = status != 0
                 ? status
                 : ort_status(device,
                              device->api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault,
                                                               &device->cpu_memory),
                              "onnxruntime", reterr);
    status =
        status != 0
            ? status
            : ort_status(device, device->api->GetAllocatorWithDefaultOptions(&device->allocator),
                         "onnxruntime", reterr);
    status = status != 0 ? status : settings_read(device, settings, setting_count, reterr);
    if (status == 0 && !provider_available(device)) {
        status = provider_missing(device, reterr);
    }
    if (status != 0) {
        ort_device_close(device);
        return status;
    }
    *ret_device = device;
    return 0;
}

void ort_device_close(void *handle)
{
    struct ort_device *device = handle;
    if (device == NULL) {
        return;
    }
    if (device->cpu_memory != NULL) {
        device->api->ReleaseMemoryInfo(device->cpu_memory);
    }
    if (device->environment != NULL) {
        environment_close(device);
    }
    for (size_t i = 0; i < device->option_count; i++) {
        free(device->option_keys[i]);
        free(device->option_values[i]);
    }
    free(device->provider);
    free(device);
}
