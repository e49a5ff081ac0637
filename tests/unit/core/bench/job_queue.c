/*
 * The queue of bench tasks: limits, words that come too late, memory, and how tasks are shared.
 */
#include "core/bench/job_queue.h"

#include "core/util/memory.h"
#include "tests/harness/test.h"

#define S UINT64_C(1000000000)

static const struct fm_job_queue_options small = {
    .tasks_max = 4, .followers_max = 2, .attempts_max = 2, .ageing_percent = 100};
static const struct fm_job_ability any = {0, 0};

static struct fm_job_queue *queue_make(const struct fm_job_queue_options *options)
{
    struct fm_job_queue *queue = NULL;
    return fm_job_queue_create(options, &queue) == 0 ? queue : NULL;
}

static uint64_t submit(struct fm_job_queue *queue, uint64_t now_ns, uint64_t seconds,
                       uint64_t features)
{
    struct fm_job_task task = {.needed = {features, 0}, .estimate_ns = seconds * S};
    uint64_t id = 0;
    return fm_job_queue_submit(queue, now_ns, &task, &id, NULL) == 0 ? id : 0;
}

static uint64_t join(struct fm_job_queue *queue, const struct fm_job_ability *devices,
                     uint32_t count)
{
    uint64_t id = 0;
    return fm_job_queue_join(queue, 0, devices, count, &id, NULL) == 0 ? id : 0;
}

/* The task of the next action, which must be of this kind; 0: it is not. */
static uint64_t next(struct fm_job_queue *queue, uint64_t now_ns, enum fm_job_action_kind kind,
                     uint64_t *ret_follower)
{
    struct fm_job_action action;
    *ret_follower = 0;
    if (!fm_job_queue_next_action(queue, now_ns, &action) || action.kind != kind) {
        return 0;
    }
    fm_job_queue_validate(queue);
    *ret_follower = action.follower;
    return kind == FM_JOB_RELEASE ? action.follower : action.task;
}

TEST(limits_are_told)
{
    struct fm_job_queue *queue = queue_make(&small);
    struct fm_job_task task = {.estimate_ns = 0};
    struct fm_job_ability devices[FM_JOB_QUEUE_DEVICES_MAX + 1] = {0};
    struct fm_error error = {0};
    uint64_t id = 7;
    CHECK(queue != NULL);
    CHECK_INT_EQ(fm_job_queue_submit(queue, 0, &task, &id, &error), FM_EINVAL);
    CHECK_UINT_EQ(id, 0);
    CHECK_STR_CONTAINS(error.text, "estimate of 0 ns is not above 0");
    task.estimate_ns = FM_JOB_QUEUE_ESTIMATE_MAX_NS + 1;
    CHECK_INT_EQ(fm_job_queue_submit(queue, 0, &task, &id, NULL), FM_EINVAL);
    for (uint32_t i = 0; i < small.tasks_max; i++) {
        CHECK(submit(queue, 0, 1, 0) != 0);
    }
    task.estimate_ns = 1;
    CHECK_INT_EQ(fm_job_queue_submit(queue, 0, &task, &id, &error), FM_ELIMIT);
    CHECK_STR_CONTAINS(error.text, "4 tasks, which is its limit; try again");
    CHECK_INT_EQ(fm_job_queue_join(queue, 0, devices, 0, &id, &error), FM_EINVAL);
    CHECK_INT_EQ(fm_job_queue_join(queue, 0, devices, FM_JOB_QUEUE_DEVICES_MAX + 1, &id, &error),
                 FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "17 devices; it must be 1 to 16");
    CHECK(join(queue, devices, 1) != 0 && join(queue, devices, FM_JOB_QUEUE_DEVICES_MAX) != 0);
    CHECK_INT_EQ(fm_job_queue_join(queue, 0, devices, 1, &id, &error), FM_ELIMIT);
    CHECK_STR_CONTAINS(error.text, "2 followers, which is its limit");
    fm_job_queue_drain(queue);
    CHECK_INT_EQ(fm_job_queue_submit(queue, 0, &task, &id, &error), FM_EUNAVAILABLE);
    CHECK_STR_CONTAINS(error.text, "takes no more tasks");
    fm_job_queue_destroy(queue);
    fm_job_queue_destroy(NULL);
}

TEST(ids_that_mean_nothing)
{
    struct fm_job_queue *queue = queue_make(&small);
    struct fm_job_look look;
    uint64_t follower;
    CHECK_INT_EQ(fm_job_queue_cancel(queue, 0), FM_ENOTFOUND);
    CHECK_INT_EQ(fm_job_queue_cancel(queue, UINT64_MAX), FM_ENOTFOUND);
    CHECK_INT_EQ(fm_job_queue_estimate(queue, 0, 1, S), FM_ENOTFOUND);
    CHECK_INT_EQ(fm_job_queue_look(queue, 0, 1, &look), FM_ENOTFOUND);
    CHECK_INT_EQ(fm_job_queue_leave(queue, 0, UINT64_MAX), FM_ENOTFOUND);
    CHECK_INT_EQ(fm_job_queue_lose(queue, 0, 0), FM_ENOTFOUND);
    CHECK_UINT_EQ(fm_job_queue_outstanding_ns(queue, 0, 3), 0);
    uint64_t helper = join(queue, &any, 1);
    uint64_t task = submit(queue, 0, 1, 0);
    CHECK_INT_EQ(fm_job_queue_ended(queue, 0, helper, task, FM_JOB_OUTCOME_DONE), FM_ENOTFOUND);
    CHECK_UINT_EQ(next(queue, 0, FM_JOB_BIND, &follower), task);
    CHECK_INT_EQ(fm_job_queue_estimate(queue, 0, task, 0), FM_EINVAL);
    CHECK_INT_EQ(fm_job_queue_ended(queue, S, helper, task, FM_JOB_OUTCOME_DONE), 0);
    CHECK_INT_EQ(fm_job_queue_estimate(queue, S, task, S), FM_ENOTFOUND);
    CHECK_UINT_EQ(next(queue, S, FM_JOB_ENDED, &follower), task);
    /* The same place, another task. */
    uint64_t other = submit(queue, S, 1, 0);
    CHECK(other != task && (uint32_t)other == (uint32_t)task);
    CHECK_INT_EQ(fm_job_queue_cancel(queue, task), FM_ENOTFOUND);
    fm_job_queue_destroy(queue);
}

TEST(least_outstanding_work)
{
    const struct fm_job_ability both[] = {{1, 0}, {1, 0}};
    const struct fm_job_ability other = {2, 0};
    struct fm_job_queue *queue = queue_make(&small);
    uint64_t follower;
    uint64_t first = join(queue, both, 2);
    uint64_t second = join(queue, &other, 1);
    /* Both wait for work; what only the second can run counts for it alone. */
    CHECK(submit(queue, 0, 10, 0) != 0);
    CHECK(submit(queue, 0, 40, 2) != 0);
    CHECK_UINT_EQ(fm_job_queue_outstanding_ns(queue, 0, first), 5 * S);
    CHECK_UINT_EQ(fm_job_queue_outstanding_ns(queue, 0, second), 45 * S);
    CHECK(next(queue, 0, FM_JOB_BIND, &follower) != 0);
    CHECK_UINT_EQ(follower, first);
    CHECK(next(queue, 0, FM_JOB_BIND, &follower) != 0);
    CHECK_UINT_EQ(follower, second);
    CHECK_UINT_EQ(fm_job_queue_outstanding_ns(queue, 4 * S, first), 6 * S);
    /* Past its estimate: a quarter of what it has taken. */
    CHECK_UINT_EQ(fm_job_queue_outstanding_ns(queue, 20 * S, first), 5 * S);
    fm_job_queue_destroy(queue);
}

TEST(memory_decides_where)
{
    const struct fm_job_ability devices[] = {{0, 80}, {0, 16}, {0, 40}};
    struct fm_job_queue *queue = queue_make(&small);
    struct fm_job_task task = {.needed = {0, 10}, .estimate_ns = S};
    struct fm_job_action action;
    uint64_t id;
    CHECK(join(queue, devices, 3) != 0);
    for (uint32_t i = 0; i < 2; i++) {
        CHECK_INT_EQ(fm_job_queue_submit(queue, 0, &task, &id, NULL), 0);
    }
    /* The device with the least to spare, so that large tasks find the large one. */
    CHECK(fm_job_queue_next_action(queue, 0, &action));
    CHECK_UINT_EQ(action.device, 1);
    CHECK(fm_job_queue_next_action(queue, 0, &action));
    CHECK_UINT_EQ(action.device, 2);
    task.needed.memory_bytes = 81;
    CHECK_INT_EQ(fm_job_queue_submit(queue, 0, &task, &id, NULL), 0);
    CHECK(!fm_job_queue_next_action(queue, 0, &action));
    struct fm_job_look look;
    CHECK_INT_EQ(fm_job_queue_look(queue, 0, id, &look), 0);
    CHECK_UINT_EQ(look.due_ns, UINT64_MAX);
    fm_job_queue_destroy(queue);
}

TEST(a_long_task_is_due_and_goes_first)
{
    struct fm_job_queue_options options = {
        .tasks_max = 40, .followers_max = 1, .attempts_max = 1, .ageing_percent = 100};
    struct fm_job_queue *queue = queue_make(&options);
    uint64_t follower;
    uint64_t helper = join(queue, &any, 1);
    uint64_t running = submit(queue, 0, 10, 0);
    CHECK_UINT_EQ(next(queue, 0, FM_JOB_BIND, &follower), running);
    uint64_t patient = submit(queue, S, 100, 0); /* FIFO: at 10 s */
    for (uint64_t i = 2; i < 8; i++) {
        CHECK(submit(queue, i * S, 5, 0) != 0);
    }
    CHECK_INT_EQ(fm_job_queue_ended(queue, 4 * S, helper, running, FM_JOB_OUTCOME_DONE), 0);
    CHECK_UINT_EQ(next(queue, 4 * S, FM_JOB_ENDED, &follower), running);
    /* It took 4 s instead of 10, so in FIFO order its turn would be now. */
    CHECK_UINT_EQ(next(queue, 4 * S, FM_JOB_BIND, &follower), patient);
    fm_job_queue_destroy(queue);
}

TEST(attempts_are_bounded)
{
    struct fm_job_queue *queue = queue_make(&small);
    uint64_t follower;
    uint64_t first = join(queue, &any, 1);
    uint64_t second = join(queue, &any, 1);
    uint64_t task = submit(queue, 0, 1, 0);
    CHECK_UINT_EQ(next(queue, 0, FM_JOB_BIND, &follower), task);
    CHECK_UINT_EQ(follower, first);
    CHECK_INT_EQ(fm_job_queue_lose(queue, S, first), 0);
    CHECK_UINT_EQ(next(queue, S, FM_JOB_BIND, &follower), task);
    CHECK_UINT_EQ(follower, second);
    CHECK_INT_EQ(fm_job_queue_ended(queue, S, first, task, FM_JOB_OUTCOME_DONE), FM_ENOTFOUND);
    CHECK_INT_EQ(fm_job_queue_ended(queue, S, second, task, FM_JOB_OUTCOME_RETURNED), 0);
    struct fm_job_action action;
    CHECK(fm_job_queue_next_action(queue, S, &action));
    CHECK(action.kind == FM_JOB_ENDED && action.end == FM_JOB_END_GIVEN_UP && action.attempt == 2);
    CHECK_INT_EQ(fm_job_queue_leave(queue, S, second), 0);
    CHECK_UINT_EQ(next(queue, S, FM_JOB_RELEASE, &follower), second);
    CHECK(submit(queue, S, 1, 0) != 0);
    CHECK(!fm_job_queue_next_action(queue, S, &action));
    fm_job_queue_destroy(queue);
}

TEST(no_memory_leaves_nothing)
{
    uint64_t nth = 1;
    for (;; nth++) {
        struct fm_job_queue *queue = NULL;
        (void)fm_memory_fail_at(nth, 0);
        int status = fm_job_queue_create(&small, &queue);
        (void)fm_memory_fail_at(0, 0);
        fm_job_queue_destroy(queue);
        if (status == 0) {
            break;
        }
        CHECK_INT_EQ(status, FM_ENOMEM);
        CHECK(queue == NULL);
    }
    CHECK_UINT_EQ(nth, 8);
}

TEST_MAIN()
