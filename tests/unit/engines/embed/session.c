/*
 * Tests of engines/embed/session: libfermata as a program of somebody else's uses it.
 */
#include <stdlib.h>

#include "fermata/fermata.h"
#include "host/os/file.h"
#include "tests/harness/test.h"

static char folder[64];
static char description[96];

/* A model directory with an identity model of rows of two numbers. */
static void model_make(void)
{
    static const char text[] = "backend: identity\nsettings:\n  inputs: \"x:FP32[-1,2]\"\n";
    struct fm_error error = {0};
    if (folder[0] != '\0') {
        return;
    }
    (void)snprintf(folder, sizeof(folder), "/tmp/fm-session-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        abort();
    }
    (void)snprintf(description, sizeof(description), "%s/model.yaml", folder);
    if (fm_file_write_atomic(description, text, sizeof(text) - 1, &error) != 0) {
        abort();
    }
}

TEST(a_model_runs_and_its_result_outlives_the_session)
{
    struct fm_error error = {0};
    struct fm_session *session = NULL;
    struct fm_result *result = NULL;
    float numbers[] = {1, 2, 3, 4};
    struct fm_tensor input = {.dtype = FM_DTYPE_FP32,
                              .rank = 2,
                              .shape = {2, 2},
                              .data = numbers,
                              .size = sizeof(numbers)};
    uint32_t count = 0;
    model_make();
    CHECK_INT_EQ(fm_session_open(folder, NULL, &session, &error), 0);
    CHECK_STR_EQ(fm_session_inputs(session, &count)[0].name, "x");
    CHECK_UINT_EQ(count, 1);
    CHECK_STR_EQ(fm_session_outputs(session, &count)[0].name, "out_x");
    CHECK_INT_EQ(fm_session_run(session, &input, 1, &result, &error), 0);
    fm_session_close(session);
    const struct fm_tensor *output = fm_result_output(result, 0);
    CHECK_UINT_EQ(output->size, sizeof(numbers));
    CHECK_MEM_EQ(output->data, numbers, sizeof(numbers));
    CHECK_PTR_EQ(fm_result_output(result, 1), NULL);
    fm_result_free(result);
    fm_result_free(NULL);
}

TEST(mistakes_are_told)
{
    struct fm_error error = {0};
    struct fm_session *session = NULL;
    struct fm_result *result = NULL;
    struct fm_tensor input = {.dtype = FM_DTYPE_INT64, .rank = 2, .shape = {0, 2}};
    CHECK_INT_EQ(fm_session_open("/nonexistent/model", NULL, &session, &error), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "/nonexistent/model");
    model_make();
    struct fm_session_options options = {
        .struct_size = sizeof(options), .instances = 2, .requests_max = 4};
    CHECK_INT_EQ(fm_session_open(folder, &options, &session, &error), 0);
    CHECK_INT_EQ(fm_session_run(session, NULL, 0, &result, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "takes 1 inputs, but 0 were given");
    CHECK_INT_EQ(fm_session_run(session, &input, 1, &result, &error), FM_ETYPE);
    CHECK_STR_CONTAINS(error.text, "must be FP32, but is INT64");
    CHECK_PTR_EQ(result, NULL);
    fm_session_close(session);
    fm_session_close(NULL);
}

TEST(words_and_version)
{
    CHECK_STR_EQ(fm_library_status_text(FM_ENOMEM), "out of memory");
    CHECK_STR_CONTAINS(fm_library_version(), ".");
}

int main(int argc, char **argv)
{
    int status = fm_test_main(argc, argv);
    if (folder[0] != '\0') {
        (void)remove(description);
        (void)remove(folder);
    }
    return status;
}
