/*
 * Runs the registered tests one after another and prints TAP. See test.h. Single threaded.
 */
#include "tests/harness/test.h"

struct fm_test *fm_tests;
int fm_test_failed;
const char *fm_test_skipped;

int fm_test_contains(const char *haystack, const char *needle)
{
    return haystack != NULL && needle != NULL && strstr(haystack, needle) != NULL;
}

int fm_test_is_sanitized(void)
{
    const char *sanitizers = getenv("FM_SANITIZE");
    return sanitizers != NULL && strcmp(sanitizers, "none") != 0;
}

int fm_test_main(int argc, char **argv)
{
    const char *filter = argc > 1 ? argv[1] : "";
    int count = 0;
    int failed = 0;
    for (struct fm_test *test = fm_tests; test != NULL; test = test->next) {
        if (strstr(test->name, filter) == NULL) {
            continue;
        }
        count++;
        fm_test_failed = 0;
        fm_test_skipped = NULL;
        test->run();
        failed += fm_test_failed;
        printf("%s %d - %s", fm_test_failed ? "not ok" : "ok", count, test->name);
        if (fm_test_skipped != NULL) {
            printf(" # SKIP %s", fm_test_skipped);
        }
        printf("\n");
        fflush(stdout);
    }
    printf("1..%d\n", count);
    return failed == 0 ? 0 : 1;
}
