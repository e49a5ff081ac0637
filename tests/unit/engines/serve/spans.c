/*
 * The timeline's names of models: one number for each name, and an end to them.
 */
#include "core/util/memory.h"
#include "engines/serve/serve_internal.h"
#include "tests/harness/test.h"

TEST(names_of_models_come_to_an_end)
{
    static struct fm_serve serve;
    char name[24];
    uint32_t count = 0;
    fm_mutex_init(&serve.names_lock);
    for (uint32_t i = 0; i < FM_SERVE_SPAN_MODELS_MAX; i++) {
        (void)snprintf(name, sizeof(name), "m%u", i);
        CHECK_INT_EQ(fm_serve_span_model(&serve, name), i);
    }
    CHECK_INT_EQ(fm_serve_span_model(&serve, "one more"), FM_TIMELINE_NONE);
    CHECK_INT_EQ(fm_serve_span_model(&serve, "m0"), 0);
    CHECK_INT_EQ(fm_serve_span_model(&serve, name), FM_SERVE_SPAN_MODELS_MAX - 1);
    const char **names = fm_serve_span_names(&serve, &count);
    CHECK(names != NULL);
    CHECK_INT_EQ(count, FM_SERVE_SPAN_MODELS_MAX);
    CHECK_STR_EQ(names[count - 1], name);
    fm_free(names);
    for (uint32_t i = 0; i < serve.span_model_count; i++) {
        fm_free(serve.span_models[i]);
    }
    fm_free(serve.span_models);
    fm_mutex_deinit(&serve.names_lock);
}

TEST(a_name_without_memory_has_no_number)
{
    static struct fm_serve serve;
    fm_mutex_init(&serve.names_lock);
    for (uint64_t i = 1; i <= 2; i++) {
        (void)fm_memory_fail_at(i, 0);
        CHECK_INT_EQ(fm_serve_span_model(&serve, "a"), FM_TIMELINE_NONE);
        (void)fm_memory_fail_at(0, 0);
        CHECK_INT_EQ(serve.span_model_count, 0);
    }
    CHECK_INT_EQ(fm_serve_span_model(&serve, "a"), 0);
    fm_free(serve.span_models[0]);
    fm_free(serve.span_models);
    fm_mutex_deinit(&serve.names_lock);
}

TEST_MAIN()
