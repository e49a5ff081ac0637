/*
 * Decimal text and binary floating point: hard cases by name, and random ones against the C
 * library, which rounds correctly in the C locale.
 */
#include "core/proto/decimal.h"

#include <float.h>

#include "tests/harness/test.h"

static uint64_t random_state = 88172645463325252u;

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static int agrees_with_strtod(const char *text)
{
    double expected = strtod(text, NULL);
    double value = -1;
    int status = fm_decimal_read(text, strlen(text), &value);
    if (isinf(expected)) {
        return status == FM_ETYPE;
    }
    if (status != 0 || memcmp(&value, &expected, sizeof(value)) != 0) {
        printf("# %s: %a, expected %a\n", text, value, expected);
        return 0;
    }
    return 1;
}

TEST(hard_cases)
{
    static const char *const texts[] = {
        "0",
        "-0",
        "0.0e5",
        "1",
        "0.1",
        "1e22",
        "1e23",
        "9007199254740993",
        "9007199254740992.5",
        "9007199254740993.0000000000000000000000000000001",
        "1.7976931348623157e308",
        "1.7976931348623158e308",
        "1.7976931348623159e308",
        "1e309",
        "1e-309",
        "4.9e-324",
        "2.4703282292062327e-324",
        "2.4703282292062328e-324",
        "2.2250738585072011e-308",
        "2.2250738585072014e-308",
        "6.631236846766476e-316",
        "3.2378839133029012895883524125015321748630094990e-319",
        "8.5e-324",
        "1e-1000",
        "1e1000",
        "0e99999999999",
        "0.00000000000000000000000000000000000000000000000000000000001",
        "1e99999999999",
        "1e-99999999999",
        "123456789012345678901234567890",
        "5e-324",
        "1.00000000000000011102230246251565404236316680908203125",
        "1.00000000000000011102230246251565404236316680908203124",
        "1.00000000000000011102230246251565404236316680908203126",
        "-1e-7",
        "9214843084008499",
        "30078505129381147446200",
        "2.2250738585072012e-308",
        "17976931348623157e292",
        "0.500000000000000166533453693773481063544750213623046875",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        CHECK(agrees_with_strtod(texts[i]));
    }
}

TEST(a_tie_is_broken_by_the_thousandth_digit)
{
    char text[1200] = "9007199254740993.";
    memset(text + 17, '0', 1000);
    CHECK(agrees_with_strtod(text));
    text[1017] = '1';
    text[1018] = '\0';
    CHECK(agrees_with_strtod(text));
    memset(text, '7', 1100);
    text[0] = '0';
    text[1] = '.';
    text[1100] = '\0';
    CHECK(agrees_with_strtod(text));
}

TEST(random_texts_agree_with_the_c_library)
{
    for (int i = 0; i < 40000; i++) {
        char text[80];
        unsigned digits = 1 + (unsigned)(random_next() % 25);
        int length = 0;
        text[length++] = (char)('1' + random_next() % 9);
        for (unsigned d = 1; d < digits; d++) {
            if (d == digits / 2) {
                text[length++] = '.';
            }
            text[length++] = (char)('0' + random_next() % 10);
        }
        int range = i % 3 == 0 ? 330 : 30;
        (void)snprintf(text + length, 20, "e%d",
                       (int)(random_next() % (unsigned)(2 * range)) - range);
        CHECK(agrees_with_strtod(text));
    }
}

static int float_round_trip(float value)
{
    char text[FM_DECIMAL_SIZE];
    size_t length = fm_decimal_write_float(value, text);
    double back = 0;
    if (length != strlen(text) || fm_decimal_read(text, length, &back) != 0 ||
        (float)back != value || strtof(text, NULL) != value) {
        printf("# %a written as %s\n", (double)value, text);
        return 0;
    }
    return 1;
}

static int double_round_trip(double value)
{
    char text[FM_DECIMAL_SIZE];
    size_t length = fm_decimal_write_double(value, text);
    double back = 0;
    if (length != strlen(text) || fm_decimal_read(text, length, &back) != 0 || back != value ||
        strtod(text, NULL) != value) {
        printf("# %a written as %s\n", value, text);
        return 0;
    }
    return 1;
}

TEST(writes_short_forms)
{
    static const struct {
        double value;
        const char *text;
    } rows[] = {{0, "0.0"},
                {1, "1.0"},
                {-2.5, "-2.5"},
                {0.1, "0.1"},
                {1e15, "1000000000000000.0"},
                {1e16, "1e+16"},
                {1e-4, "0.0001"},
                {1e-7, "1e-7"},
                {1e300, "1e+300"},
                {1.5e300, "1.5e+300"},
                {123456.789, "123456.789"},
                {1.0 / 3, "0.3333333333333333"},
                {5e-324, "5e-324"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char text[FM_DECIMAL_SIZE];
        (void)fm_decimal_write_double(rows[i].value, text);
        CHECK_STR_EQ(text, rows[i].text);
        CHECK(double_round_trip(rows[i].value));
    }
    char text[FM_DECIMAL_SIZE];
    (void)fm_decimal_write_float(0.1f, text);
    CHECK_STR_EQ(text, "0.1");
    (void)fm_decimal_write_float(16777216.0f, text);
    CHECK_STR_EQ(text, "16777216.0");
    (void)fm_decimal_write_float(3.4028235e38f, text);
    CHECK_STR_EQ(text, "3.4028235e+38");
    (void)fm_decimal_write_float(-0.0f, text);
    CHECK_STR_EQ(text, "-0.0");
}

TEST(random_values_survive_the_round_trip)
{
    for (int i = 0; i < 60000; i++) {
        uint64_t bits = random_next();
        double value;
        memcpy(&value, &bits, sizeof(value));
        if (isfinite(value) && i % 4 == 0) {
            CHECK(double_round_trip(value));
        }
        CHECK(double_round_trip((double)(int64_t)bits / 1e12));
        uint32_t low = (uint32_t)bits;
        float single;
        memcpy(&single, &low, sizeof(single));
        if (isfinite(single)) {
            CHECK(float_round_trip(single));
        }
        CHECK(float_round_trip((float)((double)low / 4294967296.0)));
    }
    CHECK(float_round_trip(FLT_MIN));
    CHECK(float_round_trip(FLT_TRUE_MIN));
    CHECK(double_round_trip(DBL_MIN));
    CHECK(double_round_trip(DBL_MAX));
}

TEST_MAIN()
