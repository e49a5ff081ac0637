/*
 * Tests of host/os/thread and host/os/os: threads run and are joined, conditions time out, facts
 * are plausible.
 */
#include "host/os/thread.h"

#include "host/os/memory_facts.h"
#include "host/os/os.h"
#include "tests/harness/test.h"

struct counter {
    struct fm_mutex mutex;
    struct fm_condition condition;
    int value;
};

static void count_up(void *argument)
{
    struct counter *counter = argument;
    for (int i = 0; i < 1000; i++) {
        fm_mutex_lock(&counter->mutex);
        counter->value++;
        fm_condition_signal(&counter->condition);
        fm_mutex_unlock(&counter->mutex);
    }
}

TEST(threads_count_together)
{
    struct counter counter = {.value = 0};
    struct fm_thread threads[4] = {{.running = false}};
    fm_mutex_init(&counter.mutex);
    fm_condition_init(&counter.condition);
    for (int i = 0; i < 4; i++) {
        CHECK_INT_EQ(
            fm_thread_start(&threads[i], "a-name-that-is-too-long-for-linux", count_up, &counter),
            0);
    }
    fm_mutex_lock(&counter.mutex);
    while (counter.value < 4000) {
        fm_condition_wait(&counter.condition, &counter.mutex);
    }
    fm_mutex_unlock(&counter.mutex);
    for (int i = 0; i < 4; i++) {
        fm_thread_join(&threads[i]);
        fm_thread_join(&threads[i]);
    }
    CHECK_INT_EQ(counter.value, 4000);
    fm_condition_deinit(&counter.condition);
    fm_mutex_deinit(&counter.mutex);
}

static void stack_measure(void *argument)
{
    pthread_attr_t attributes;
    size_t *size = argument;
    if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
        (void)pthread_attr_getstacksize(&attributes, size);
        (void)pthread_attr_destroy(&attributes);
    }
}

/* As under `ulimit -s 64`, which the C library makes the default of every thread. */
TEST(a_small_default_does_not_make_small_stacks)
{
    pthread_attr_t before;
    pthread_attr_t small;
    struct fm_thread thread = {.running = false};
    size_t size = 0;
    CHECK_INT_EQ(pthread_getattr_default_np(&before), 0);
    CHECK_INT_EQ(pthread_attr_init(&small), 0);
    CHECK_INT_EQ(pthread_attr_setstacksize(&small, 65536), 0);
    CHECK_INT_EQ(pthread_setattr_default_np(&small), 0);
    int status = fm_thread_start(&thread, "small", stack_measure, &size);
    fm_thread_join(&thread);
    CHECK_INT_EQ(pthread_setattr_default_np(&before), 0);
    CHECK_INT_EQ(status, 0);
    CHECK(size >= FM_THREAD_STACK_MIN);
    (void)pthread_attr_destroy(&small);
    (void)pthread_attr_destroy(&before);
}

TEST(a_wait_ends_at_its_deadline)
{
    struct counter counter = {.value = 0};
    fm_mutex_init(&counter.mutex);
    fm_condition_init(&counter.condition);
    fm_mutex_lock(&counter.mutex);
    uint64_t deadline_ns = fm_os_now_ns() + 20000000u;
    while (fm_condition_wait_until(&counter.condition, &counter.mutex, deadline_ns)) {
    }
    fm_mutex_unlock(&counter.mutex);
    CHECK(fm_os_now_ns() >= deadline_ns);
    deadline_ns = fm_os_now_ns() + 5000000u;
    fm_sleep_until(deadline_ns);
    CHECK(fm_os_now_ns() >= deadline_ns);
    fm_condition_deinit(&counter.condition);
    fm_mutex_deinit(&counter.mutex);
}

TEST(facts_are_plausible)
{
    char text[32];
    uint64_t cpu_ns = fm_os_cpu_ns();
    for (volatile int i = 0; i < 1000000; i++) {
    }
    CHECK(fm_os_cpu_ns() > cpu_ns);
    CHECK_INT_GE(fm_os_cpu_count(), 1);
    CHECK(fm_memory_peak() >= fm_memory_resident() / 2);
    CHECK(fm_memory_resident() > 100000);
    CHECK(fm_os_entropy() != fm_os_entropy());
    CHECK(fm_os_wall_ns() > 1700000000000000000u);
    fm_os_format_time(1700000000123456789u, text, sizeof(text));
    CHECK_STR_EQ(text, "2023-11-14T22:13:20.123Z");
    CHECK(!fm_os_is_terminal(-1));
    CHECK_UINT_EQ(fm_os_terminal_columns(-1), 80);
    CHECK_PTR_EQ(fm_os_environment("FM_NO_SUCH_VARIABLE"), NULL);
}

TEST_MAIN()
