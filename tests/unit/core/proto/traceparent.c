/*
 * Trace context headers: what is taken, what is refused, who is sampled.
 */
#include "core/proto/traceparent.h"

#include "core/util/random.h"
#include "tests/harness/test.h"

#define GOOD "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

static int parse(const char *text, struct fm_trace_context *context)
{
    return fm_traceparent_parse(text, strlen(text), context);
}

TEST(a_header_comes_back_as_it_was)
{
    struct fm_trace_context context;
    char text[FM_TRACEPARENT_SIZE];
    CHECK_INT_EQ(parse(GOOD, &context), 0);
    CHECK(context.trace_high == 0x4bf92f3577b34da6u && context.trace_low == 0xa3ce929d0e0e4736u);
    CHECK(context.span == 0x00f067aa0ba902b7u && context.sampled);
    fm_traceparent_format(&context, text);
    CHECK_STR_EQ(text, GOOD);
    context.sampled = false;
    fm_traceparent_format(&context, text);
    CHECK_STR_EQ(text + 52, "-00");
}

TEST(versions_and_malformed_ones)
{
    static const char *const bad[] = {
        "",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
        "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01extra",
        "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    };
    struct fm_trace_context context;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CHECK_INT_EQ(parse(bad[i], &context), FM_EINVAL);
    }
    CHECK_INT_EQ(parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03", &context), 0);
    CHECK_INT_EQ(parse("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-x", &context), 0);
    CHECK(!context.sampled);
    /* Every cut and every other byte is refused or read, never more. */
    for (size_t length = 0; length < strlen(GOOD); length++) {
        CHECK_INT_EQ(fm_traceparent_parse(GOOD, length, &context), FM_EINVAL);
    }
}

TEST(states_are_checked_whole)
{
    static const char *const good[] = {"a=1", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
                                       "fw529a3039@dt=FfAfd,,  a=b ", "1a-_*/=x"};
    static const char *const bad[] = {"",      " ",     "a",       "a=",     "=a",         "A=1",
                                      "a=b=c", "a=1,b", "a@b@c=1", "a=\x01", "\xC3\xA4=1", "-a=1"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        CHECK(fm_tracestate_valid(good[i], strlen(good[i])));
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        CHECK(!fm_tracestate_valid(bad[i], strlen(bad[i])));
    }
    char many[FM_TRACESTATE_BYTES_MAX + 8];
    size_t length = 0;
    for (uint32_t i = 0; i < FM_TRACESTATE_ROWS_MAX; i++) {
        memcpy(many + length, "a=1,", 4);
        length += 4;
    }
    CHECK(fm_tracestate_valid(many, length));
    memcpy(many + length, "b=1", 3);
    CHECK(!fm_tracestate_valid(many, length + 3));
    memset(many, 'a', sizeof(many));
    many[1] = '=';
    CHECK(!fm_tracestate_valid(many, sizeof(many)));
    CHECK(fm_tracestate_valid(many, 250));
}

TEST(parents_decide_and_rates_hold)
{
    const uint64_t random[3] = {1, 2, 3};
    struct fm_trace_context parent = {.trace_high = 7, .trace_low = 1, .span = 9, .sampled = true};
    struct fm_trace_sampler sampler = {.rate_millionths = 0, .respect_parent_no = true};
    struct fm_trace_context context = fm_trace_context_begin(&sampler, &parent, random);
    CHECK(context.sampled && context.trace_high == 7 && context.span == 3);
    parent.sampled = false;
    sampler.rate_millionths = 1000000;
    CHECK(!fm_trace_context_begin(&sampler, &parent, random).sampled);
    sampler.respect_parent_no = false;
    CHECK(fm_trace_context_begin(&sampler, &parent, random).sampled);
    const uint64_t zeros[3] = {0, 0, 0};
    context = fm_trace_context_begin(&sampler, NULL, zeros);
    CHECK(context.trace_low != 0 && context.span != 0);

    struct fm_random generator;
    fm_random_init(&generator, 5);
    sampler.rate_millionths = 100000;
    uint32_t sampled = 0;
    for (uint32_t i = 0; i < 20000; i++) {
        const uint64_t ids[3] = {fm_random_next(&generator), fm_random_next(&generator),
                                 fm_random_next(&generator)};
        context = fm_trace_context_begin(&sampler, NULL, ids);
        sampled += context.sampled ? 1 : 0;
        /* The next server decides alike. */
        const struct fm_trace_context above = context;
        CHECK(fm_trace_context_begin(&sampler, &above, ids).sampled == context.sampled);
    }
    CHECK(sampled > 1800 && sampled < 2200);
}

TEST_MAIN()
