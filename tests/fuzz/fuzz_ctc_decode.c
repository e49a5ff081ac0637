/*
 * Fuzzes ctc_decode: any scores give UTF-8 text made of the keys, with rising steps and, for
 * probabilities, a confidence within the scores' range; or an error. Also any bytes as key file.
 *
 * Input: one byte of choices, then floats: the scores of 6 classes a step. When the first byte is
 * odd, the rest is a key file.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/util/text.h"
#include "host/os/file.h"
#include "tests/fuzz/check.h"
#include "tests/harness/operator_rig.h"

enum { CLASSES = 6 };

int fm_fuzz_has_canary(void)
{
    return 1;
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const char *const lines[] = {"0112203", "1505001", "3434343", "000", "1151"};
    if (capacity < 512 || index > 5) {
        return 0;
    }
    if (index == 5) {
        static const char keys[] = "\x01"
                                   "a\n\xc3\xa9\r\n\xe4\xb8\x80";
        memcpy(data, keys, sizeof(keys) - 1);
        return sizeof(keys) - 1;
    }
    data[0] = (uint8_t)(index * 2);
    size_t size = 1;
    for (const char *at = lines[index]; *at != '\0'; at++) {
        for (int c = 0; c < CLASSES; c++) {
            float score = c == *at - '0' ? 0.9f : 0.02f;
            memcpy(data + size, &score, sizeof(score));
            size += sizeof(score);
        }
    }
    return size;
}

static const char *temporary_path(void)
{
    static char path[64];
    (void)snprintf(path, sizeof(path), "/tmp/fm-fuzz-keys-%d", (int)getpid());
    return path;
}

/* One operator for each kind of input, made once: the key file does not change. */
static struct fm_rig *rig_for(unsigned choice)
{
    static struct fm_rig rigs[3];
    static const char *const more[3] = {"", ";input=logits",
                                        ";blank=5;space=true;space_threshold=0"};
    struct fm_rig *rig = &rigs[choice % 3];
    if (rig->instance == NULL) {
        static const char keys[] = "a\nb\n\xc3\xa9\n\xe4\xb8\x80\n";
        char parameters[128];
        FUZZ_CHECK(fm_file_write_atomic(temporary_path(), keys, sizeof(keys) - 1, NULL) == 0);
        (void)snprintf(parameters, sizeof(parameters), "keys_file=%s%s", temporary_path(),
                       more[choice % 3]);
        FUZZ_CHECK(fm_rig_create(rig, "ctc_decode", parameters) == 0);
        (void)unlink(temporary_path());
    }
    return rig;
}

static void result_check(const struct fm_rig *rig, int64_t step_count, int probabilities)
{
    const struct fm_tensor *text = fm_rig_output(rig, 0);
    const struct fm_tensor *steps = fm_rig_output(rig, 2);
    float confidence = *(const float *)fm_rig_output(rig, 1)->data;
    FUZZ_CHECK(!fm_fuzz_canary);
    for (size_t at = 4; at < text->size;) {
        size_t length = fm_utf8_sequence((const char *)text->data + at, text->size - at);
        FUZZ_CHECK(length > 0);
        at += length > 0 ? length : 1;
    }
    FUZZ_CHECK(steps->shape[0] <= step_count);
    for (int64_t i = 0; i < steps->shape[0]; i++) {
        int32_t step = ((const int32_t *)steps->data)[i];
        FUZZ_CHECK(step >= 0 && step < step_count);
        FUZZ_CHECK(i == 0 || step > ((const int32_t *)steps->data)[i - 1]);
    }
    FUZZ_CHECK(probabilities || isnan(confidence) || (confidence >= 0 && confidence <= 1.0001f));
}

static void keys_run(const uint8_t *data, size_t size)
{
    struct fm_rig rig;
    char parameters[128];
    FUZZ_CHECK(fm_file_write_atomic(temporary_path(), data, size, NULL) == 0);
    (void)snprintf(parameters, sizeof(parameters), "keys_file=%s", temporary_path());
    int status = fm_rig_create(&rig, "ctc_decode", parameters);
    FUZZ_CHECK(status == 0 || status == FM_ECORRUPT || status == FM_EINVAL);
    fm_rig_destroy(&rig);
    (void)unlink(temporary_path());
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) {
        return 0;
    }
    if (data[0] % 2 == 1) {
        keys_run(data + 1, size - 1);
        return 0;
    }
    unsigned choice = data[0] / 2u;
    struct fm_rig *rig = rig_for(choice);
    const int64_t shape[2] = {(int64_t)((size - 1) / (CLASSES * sizeof(float))), CLASSES};
    float *scores = fm_rig_input(rig, 0, FM_DTYPE_FP32, 2, shape);
    FUZZ_CHECK(scores != NULL);
    memcpy(scores, data + 1, (size_t)shape[0] * CLASSES * sizeof(float));
    int status = fm_rig_run(rig);
    if (status == 0) {
        result_check(rig, shape[0], choice % 3 != 1);
    } else {
        FUZZ_CHECK(status == FM_ECORRUPT);
        FUZZ_CHECK(rig->error.text[0] != '\0');
    }
    fm_rig_inputs_clear(rig);
    return 0;
}
