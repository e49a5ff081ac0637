/*
 * The test harness: self-registering tests, TAP output, assertions that print both operands and do
 * not depend on NDEBUG.
 *
 * Owns: registration, running, reporting. Thread rule: assertions may be used from the thread that
 * runs the test only.
 *
 *   #include "tests/harness/test.h"
 *   TEST(arena_grows) { CHECK_INT_EQ(fm_arena_init(...), 0); }
 *   TEST_MAIN()
 *
 * A failed CHECK ends the test (return from its function). Use TEST_SKIP("reason") to skip.
 * Argument 1 of the executable filters by substring.
 */
#ifndef FM_TESTS_HARNESS_TEST_H
#define FM_TESTS_HARNESS_TEST_H

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct fm_test {
    const char *name;
    void (*run)(void);
    struct fm_test *next;
};

extern struct fm_test *fm_tests;
extern int fm_test_failed;
extern const char *fm_test_skipped;

#define TEST(test_name)                                                                    \
    static void test_##test_name(void);                                                    \
    static struct fm_test registration_##test_name = {#test_name, test_##test_name, NULL}; \
    __attribute__((constructor)) static void register_##test_name(void)                    \
    {                                                                                      \
        struct fm_test **link = &fm_tests;                                                 \
        while (*link != NULL) {                                                            \
            link = &(*link)->next;                                                         \
        }                                                                                  \
        *link = &registration_##test_name;                                                 \
    }                                                                                      \
    static void test_##test_name(void)

#define TEST_FAIL_(...)                          \
    do {                                         \
        printf("# %s:%d: ", __FILE__, __LINE__); \
        printf(__VA_ARGS__);                     \
        printf("\n");                            \
        fm_test_failed = 1;                      \
        return;                                  \
    } while (0)

#define TEST_SKIP(reason)           \
    do {                            \
        fm_test_skipped = (reason); \
        return;                     \
    } while (0)

#define CHECK(condition)                         \
    do {                                         \
        if (!(condition)) {                      \
            TEST_FAIL_("CHECK(%s)", #condition); \
        }                                        \
    } while (0)

#define CHECK_COMPARE_(a, op, b, type, format)                                           \
    do {                                                                                 \
        type left_ = (type)(a);                                                          \
        type right_ = (type)(b);                                                         \
        if (!(left_ op right_)) {                                                        \
            TEST_FAIL_("%s %s %s: %" format " vs %" format, #a, #op, #b, left_, right_); \
        }                                                                                \
    } while (0)

#define CHECK_INT_EQ(a, b)  CHECK_COMPARE_(a, ==, b, int64_t, PRId64)
#define CHECK_INT_NE(a, b)  CHECK_COMPARE_(a, !=, b, int64_t, PRId64)
#define CHECK_INT_LT(a, b)  CHECK_COMPARE_(a, <, b, int64_t, PRId64)
#define CHECK_INT_LE(a, b)  CHECK_COMPARE_(a, <=, b, int64_t, PRId64)
#define CHECK_INT_GT(a, b)  CHECK_COMPARE_(a, >, b, int64_t, PRId64)
#define CHECK_INT_GE(a, b)  CHECK_COMPARE_(a, >=, b, int64_t, PRId64)
#define CHECK_UINT_EQ(a, b) CHECK_COMPARE_(a, ==, b, uint64_t, PRIu64)
#define CHECK_PTR_EQ(a, b)  CHECK_COMPARE_(a, ==, b, const void *, "p")
#define CHECK_PTR_NE(a, b)  CHECK_COMPARE_(a, !=, b, const void *, "p")

#define CHECK_NEAR(a, b, tolerance)                                                  \
    do {                                                                             \
        double left_ = (double)(a);                                                  \
        double right_ = (double)(b);                                                 \
        if (!(fabs(left_ - right_) <= (double)(tolerance))) {                        \
            TEST_FAIL_("%s ~ %s: %.9g vs %.9g, tolerance %g", #a, #b, left_, right_, \
                       (double)(tolerance));                                         \
        }                                                                            \
    } while (0)

#define CHECK_STR_EQ(a, b)                                                             \
    do {                                                                               \
        const char *left_ = (a);                                                       \
        const char *right_ = (b);                                                      \
        if (left_ == NULL || right_ == NULL || strcmp(left_, right_) != 0) {           \
            TEST_FAIL_("%s == %s: \"%s\" vs \"%s\"", #a, #b, left_ ? left_ : "(null)", \
                       right_ ? right_ : "(null)");                                    \
        }                                                                              \
    } while (0)

#define CHECK_STR_CONTAINS(haystack, needle)                                      \
    do {                                                                          \
        const char *left_ = (haystack);                                           \
        const char *right_ = (needle);                                            \
        if (!fm_test_contains(left_, right_)) {                                   \
            TEST_FAIL_("%s contains %s: \"%s\" lacks \"%s\"", #haystack, #needle, \
                       left_ ? left_ : "(null)", right_ ? right_ : "(null)");     \
        }                                                                         \
    } while (0)

#define CHECK_MEM_EQ(a, b, size)                                                     \
    do {                                                                             \
        if (memcmp((a), (b), (size)) != 0) {                                         \
            TEST_FAIL_("%s and %s differ within %zu bytes", #a, #b, (size_t)(size)); \
        }                                                                            \
    } while (0)

/* False when either is NULL. A function, so that compilers do not reason about constant arguments.
 */
int fm_test_contains(const char *haystack, const char *needle);

int fm_test_main(int argc, char **argv);

/* Whether the build has sanitizers (FM_SANITIZE), which make everything slow. */
int fm_test_is_sanitized(void);

#define TEST_MAIN()                      \
    int main(int argc, char **argv)      \
    {                                    \
        return fm_test_main(argc, argv); \
    }

#endif
