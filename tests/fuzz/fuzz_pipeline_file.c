/*
 * Fuzzes host/runtime/pipeline_file, and host/config under it: any text is a pipeline or an error
 * that begins with the file's name. Never a crash.
 */
#include "host/runtime/pipeline_file.h"

#include <string.h>

#include "tests/fuzz/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fm_pipeline_file *file = NULL;
    struct fm_error error = {0};
    int status = fm_pipeline_file_load_text("fuzz", (const char *)data, size, &file, &error);
    if (status != 0) {
        FUZZ_CHECK(file == NULL);
        FUZZ_CHECK(error.status == status);
        FUZZ_CHECK(strncmp(error.text, "fuzz:", 5) == 0);
        return 0;
    }
    FUZZ_CHECK(file->spec.stage_count > 0 && file->spec.stage_count <= FM_PIPELINE_STAGES_MAX);
    FUZZ_CHECK(file->spec.output_count > 0 && !fm_fuzz_canary);
    for (size_t i = 0; i < file->spec.stage_count; i++) {
        const struct fm_stage_spec *stage = &file->spec.stages[i];
        FUZZ_CHECK(stage->name[0] != '\0' && stage->target[0] != '\0');
        FUZZ_CHECK(stage->mark.line > 0 && stage->mark.column > 0);
    }
    fm_pipeline_file_free(file);
    return 0;
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const char *const seeds[] = {
        "name: ocr\nmodels: ../models\nplugins: [ocr_text, lib/x.so]\n"
        "inputs:\n  - {name: image, dtype: BYTES, shape: [1]}\n"
        "stages:\n"
        "  - name: page\n    operator: image_decode\n    inputs: {bytes: image}\n"
        "    parameters: {max_pixels: 5, mean: [0.5, 0.25], tags: {a: 1}}\n"
        "  - name: detect\n    model: det\n    version: 3\n    inputs: page\n"
        "    batch: {max: 4, bucket_axis: 2, bucket_step: 32, pad_value: -0.5, wait_for: 4}\n"
        "    instances: 2\n    settings: {threads: 1}\n"
        "outputs:\n  text: detect.text\n",
        "{\"inputs\": [{\"name\": \"x\", \"dtype\": \"FP32\", \"shape\": [-1]}],\n"
        " \"stages\": [&s {\"name\": \"s\", \"operator\": \"o\", \"inputs\": \"x\"}],\n"
        " \"outputs\": {\"y\": \"s\"}}",
    };
    return index < sizeof(seeds) / sizeof(seeds[0]) ? fm_fuzz_text(seeds[index], data, capacity)
                                                    : 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}
