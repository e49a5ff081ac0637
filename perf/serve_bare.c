/*
 * What one model on one thread can do: ONNX Runtime's Run in a loop and nothing else, for
 * perf/serve_models.
 *
 * usage: serve_bare MODEL.onnx INPUT SHAPE BATCH SECONDS
 *
 * SHAPE is one row's ("3,48,192"), FP32. Prints rows per second. Thread rule: one thread, and ONNX
 * Runtime has no others.
 */
#include <onnxruntime_c_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host/os/os.h"

static const OrtApi *api;

static void check(OrtStatus *status)
{
    if (status != NULL) {
        (void)fprintf(stderr, "serve_bare: %s\n", api->GetErrorMessage(status));
        exit(EXIT_FAILURE);
    }
}

static OrtSession *session_open(const char *path)
{
    OrtEnv *env;
    OrtSessionOptions *options;
    OrtSession *session;
    check(api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "bare", &env));
    check(api->CreateSessionOptions(&options));
    check(api->SetIntraOpNumThreads(options, 1));
    check(api->SetInterOpNumThreads(options, 1));
    check(api->CreateSession(env, path, options, &session));
    return session;
}

/* A batch of zeros and small numbers. */
static OrtValue *input_make(const char *row, long batch)
{
    int64_t shape[8] = {batch};
    size_t rank = 1;
    size_t count = (size_t)batch;
    for (const char *text = row; *text != '\0' && rank < 8;) {
        char *end;
        shape[rank] = strtoll(text, &end, 10);
        count *= (size_t)shape[rank++];
        text = *end == ',' ? end + 1 : end;
    }
    float *data = calloc(count, sizeof *data);
    for (size_t i = 0; data != NULL && i < count; i++) {
        data[i] = (float)(i % 17) / 17;
    }
    OrtMemoryInfo *info;
    OrtValue *value;
    check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &info));
    check(api->CreateTensorWithDataAsOrtValue(info, data, count * sizeof *data, shape, rank,
                                              ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &value));
    return value;
}

int main(int count, char **arguments)
{
    if (count != 6) {
        (void)fprintf(stderr, "usage: serve_bare MODEL.onnx INPUT SHAPE BATCH SECONDS\n");
        return 2;
    }
    api = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    long batch = strtol(arguments[4], NULL, 10);
    double seconds = strtod(arguments[5], NULL);
    OrtSession *session = session_open(arguments[1]);
    OrtAllocator *allocator;
    char *output_name;
    check(api->GetAllocatorWithDefaultOptions(&allocator));
    check(api->SessionGetOutputName(session, 0, allocator, &output_name));
    OrtValue *input = input_make(arguments[3], batch);
    const char *inputs[] = {arguments[2]};
    const char *outputs[] = {output_name};
    uint64_t start_ns = 0;
    long runs = -3; /* to warm up */
    double spent = 0;
    while (spent < seconds) {
        OrtValue *output = NULL;
        check(api->Run(session, NULL, inputs, (const OrtValue *const *)&input, 1, outputs, 1,
                       &output));
        api->ReleaseValue(output);
        if (++runs == 0) {
            start_ns = fm_os_now_ns();
        }
        spent = runs > 0 ? (double)(fm_os_now_ns() - start_ns) / 1e9 : 0;
    }
    (void)printf("%.3f\n", (double)runs * (double)batch / spent);
    return EXIT_SUCCESS;
}
