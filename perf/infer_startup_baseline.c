/*
 * The least that any program must do to ask a model once: load ONNX Runtime, make a session, run
 * it. What perf/infer_startup compares with.
 *
 * Usage: infer_startup_baseline LIBRARY MODEL SIZE... (the sizes of one FP32 input). Prints
 * nothing; exit code 1 with a message on failure.
 */
#include <dlfcn.h>
#include <onnxruntime_c_api.h>
#include <stdio.h>
#include <stdlib.h>

static const OrtApi *api;

static void check(OrtStatus *status)
{
    if (status != NULL) {
        fprintf(stderr, "infer_startup_baseline: %s\n", api->GetErrorMessage(status));
        exit(1);
    }
}

int main(int argc, char **argv)
{
    int64_t shape[8];
    size_t rank = 0;
    size_t count = 1;
    for (int i = 3; i < argc && rank < 8; i++) {
        shape[rank] = strtol(argv[i], NULL, 10);
        count *= (size_t)shape[rank++];
    }
    void *library = argc > 3 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (library == NULL) {
        fprintf(stderr, "infer_startup_baseline: cannot load the library\n");
        return 1;
    }
    const OrtApiBase *(*get_base)(void);
    *(void **)&get_base = dlsym(library, "OrtGetApiBase");
    api = get_base()->GetApi(ORT_API_VERSION);
    OrtEnv *environment;
    OrtSessionOptions *options;
    OrtSession *session;
    OrtMemoryInfo *memory;
    OrtAllocator *allocator;
    OrtValue *input;
    OrtValue *output = NULL;
    char *input_name;
    char *output_name;
    check(api->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "baseline", &environment));
    check(api->CreateSessionOptions(&options));
    check(api->SetIntraOpNumThreads(options, 1));
    check(api->CreateSession(environment, argv[2], options, &session));
    check(api->GetAllocatorWithDefaultOptions(&allocator));
    check(api->SessionGetInputName(session, 0, allocator, &input_name));
    check(api->SessionGetOutputName(session, 0, allocator, &output_name));
    check(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    float *data = calloc(count, sizeof *data);
    check(api->CreateTensorWithDataAsOrtValue(memory, data, count * sizeof *data, shape, rank,
                                              ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &input));
    check(api->Run(session, NULL, (const char *const *)&input_name, (const OrtValue *const *)&input,
                   1, (const char *const *)&output_name, 1, &output));
    return 0;
}
