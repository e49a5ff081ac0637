/*
 * What the server says of many models at once: how long it takes. What it says is tested through
 * the program (tests/e2e/serve_protocol.py, serve_pipeline.py).
 */
#include "core/util/memory.h"
#include "engines/serve/catalog_view.h"
#include "engines/serve/serve_internal.h"
#include "tests/harness/test.h"

enum { FEW = 1000, MANY = 32000, TIMES = MANY / FEW };

static char names[MANY][12];
static struct fm_catalog_entry entries[MANY];
static struct fm_catalog_row rows[MANY];
static struct fm_serving serving; /* everybody's; nothing was counted of it */

/* Of this thread, so that others on the machine do not count. */
static uint64_t cpu_ns(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* The time for statistics of so many models; 0: they were not written. */
static uint64_t statistics_ns(size_t count)
{
    static struct fm_serve_loop loop;
    struct fm_text text = {0};
    struct fm_error error = {0};
    struct fm_catalog_view *view = fm_catalog_view_create(rows, count);
    if (view == NULL) {
        return 0;
    }
    loop.reader.view = view;
    uint64_t start_ns = cpu_ns();
    int status = fm_serve_write_statistics(&loop, &text, FM_MESSAGES_JSON, "", 0, &error);
    uint64_t took_ns = cpu_ns() - start_ns;
    bool whole = text.length > count * 100 && strstr(text.data, names[count - 1]) != NULL;
    fm_text_deinit(&text);
    fm_catalog_view_free(view);
    return status == 0 && whole ? took_ns : 0;
}

static uint64_t best_of_three_ns(size_t count)
{
    uint64_t best_ns = UINT64_MAX;
    for (int i = 0; i < 3; i++) {
        uint64_t took_ns = statistics_ns(count);
        best_ns = took_ns < best_ns ? took_ns : best_ns;
    }
    return best_ns;
}

TEST(statistics_take_as_much_longer_as_there_are_more_models)
{
    for (size_t i = 0; i < MANY; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "m%05zu", i);
        entries[i] =
            (struct fm_catalog_entry){.name = names[i], .version = 1, .attached = &serving};
        atomic_init(&entries[i].references, 1);
        rows[i] = (struct fm_catalog_row){.name = names[i],
                                          .version = 1,
                                          .state = FM_CATALOG_READY,
                                          .reason = "",
                                          .entry = &entries[i]};
    }
    uint64_t few_ns = best_of_three_ns(FEW);
    uint64_t many_ns = best_of_three_ns(MANY);
    printf("# %d models: %.1f ms, %d: %.1f ms\n", FEW, (double)few_ns / 1e6, MANY,
           (double)many_ns / 1e6);
    CHECK(few_ns > 0 && many_ns > 0);
    /* A walk over all for each of them would make it up to TIMES * TIMES. */
    CHECK(many_ns < UINT64_C(3) * TIMES * few_ns);
}

TEST_MAIN()
