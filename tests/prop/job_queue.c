/*
 * The queue of bench tasks in virtual time: followers with several devices of different abilities
 * join, leave and are lost, tasks are cancelled, fail, are returned, and take more or less than
 * estimated. Everything from a seed. Usage: job_queue [seed-count] [first-seed].
 *
 * Safety: a task is bound where it fits, to a device that is free, of a follower that is there and
 * stays; never twice at once, never more often than its attempts; of what could be bound there,
 * what has been due longest, else the shortest; no device that could run what waits stands idle;
 * every task ends once, in a way that fits what happened. Liveness: when the faults stop, all tasks
 * end. The same seed gives the same actions. In a world without faults and with true estimates:
 * nobody waits longer than the bound that job_queue.h states, against an independent model of FIFO.
 */
#include "core/bench/job_queue.h"

#include "core/util/random.h"
#include "tests/harness/test.h"

#define S UINT64_C(1000000000)

enum { TASKS = 120, FOLLOWERS = 5, DEVICES = 3, FEATURES = 3 };

struct job {
    uint64_t id;
    struct fm_job_task task;
    uint64_t arrival_ns;
    uint64_t length_ns;
    uint64_t ends_ns; /* while it runs */
    uint64_t follower;
    uint32_t device;
    uint32_t attempts;
    bool submitted;
    bool running;
    bool cancelled;
    bool told;  /* its follower was told to cancel */
    bool over;  /* it waits for nothing any more ... */
    bool ended; /* ... and this was told */
    bool failed;
};

struct helper {
    uint64_t id;
    struct fm_job_ability devices[DEVICES];
    uint32_t device_count;
    bool there;
    bool leaving;
};

struct world {
    struct fm_random random;
    struct fm_job_queue *queue;
    struct fm_job_queue_options options;
    struct job jobs[TASKS];
    struct helper helpers[FOLLOWERS];
    uint64_t now_ns;
    uint64_t faults_until_ns;
    double fault; /* in each step */
    uint32_t submitted;
    uint32_t ended;
    uint64_t lost;
    uint64_t hash;
    bool bad;
    char why[200];
};

#define EXPECT(world, condition)                                                                  \
    do {                                                                                          \
        if (!(condition) && !(world)->bad) {                                                      \
            (world)->bad = true;                                                                  \
            (void)snprintf((world)->why, sizeof((world)->why), "line %d at %.3f s: %s", __LINE__, \
                           (double)(world)->now_ns / 1e9, #condition);                            \
        }                                                                                         \
    } while (0)

static bool happens(struct world *world, double chance)
{
    return fm_random_unit(&world->random) < chance;
}

static void note(struct world *world, uint64_t what)
{
    world->hash = (world->hash ^ what) * 1099511628211u;
}

static struct job *job_of(struct world *world, uint64_t id)
{
    for (uint32_t i = 0; i < TASKS; i++) {
        if (world->jobs[i].submitted && world->jobs[i].id == id) {
            return &world->jobs[i];
        }
    }
    EXPECT(world, false && "a task that was submitted");
    return &world->jobs[0];
}

static struct helper *helper_of(struct world *world, uint64_t id)
{
    for (uint32_t i = 0; i < FOLLOWERS; i++) {
        if (world->helpers[i].there && world->helpers[i].id == id) {
            return &world->helpers[i];
        }
    }
    EXPECT(world, false && "a follower that is there");
    return &world->helpers[0];
}

static bool waits(const struct job *job)
{
    return job->submitted && !job->running && !job->over && !job->cancelled;
}

static bool spent(const struct world *world, const struct job *job)
{
    return job->attempts == world->options.attempts_max;
}

static bool fits(const struct helper *helper, uint32_t device, const struct job *job)
{
    const struct fm_job_ability *has = &helper->devices[device];
    return (job->task.needed.features & ~has->features) == 0 &&
           job->task.needed.memory_bytes <= has->memory_bytes;
}

static bool device_busy(const struct world *world, const struct helper *helper, uint32_t device)
{
    for (uint32_t i = 0; i < TASKS; i++) {
        const struct job *job = &world->jobs[i];
        if (job->running && job->follower == helper->id && job->device == device) {
            return true;
        }
    }
    return false;
}

/* --- What happens --- */

static void helper_join(struct world *world, struct helper *helper, bool able)
{
    *helper = (struct helper){.there = true};
    helper->device_count = 1 + (uint32_t)fm_random_below(&world->random, DEVICES);
    for (uint32_t i = 0; i < helper->device_count; i++) {
        helper->devices[i].features =
            able ? (1u << FEATURES) - 1 : fm_random_below(&world->random, 1u << FEATURES);
        helper->devices[i].memory_bytes = able ? 8 : fm_random_below(&world->random, 9);
    }
    EXPECT(world, fm_job_queue_join(world->queue, world->now_ns, helper->devices,
                                    helper->device_count, &helper->id, NULL) == 0);
}

static void helper_lose(struct world *world, struct helper *helper)
{
    EXPECT(world, fm_job_queue_lose(world->queue, world->now_ns, helper->id) == 0);
    EXPECT(world, fm_job_queue_lose(world->queue, world->now_ns, helper->id) == FM_ENOTFOUND);
    for (uint32_t i = 0; i < TASKS; i++) {
        struct job *job = &world->jobs[i];
        if (job->running && job->follower == helper->id) {
            job->running = false;
            job->over = job->cancelled || spent(world, job);
            world->lost++;
            /* What it says afterwards means nothing. */
            EXPECT(world, fm_job_queue_ended(world->queue, world->now_ns, helper->id, job->id,
                                             FM_JOB_OUTCOME_DONE) == FM_ENOTFOUND);
        }
    }
    helper->there = false;
}

static void job_submit(struct world *world, struct job *job)
{
    job->length_ns = S + fm_random_below(&world->random, 60 * S);
    double wrong = happens(world, 0.5) ? 1 : 0.3 + 3 * fm_random_unit(&world->random);
    job->task.estimate_ns = (uint64_t)((double)job->length_ns * wrong);
    job->task.needed.features =
        happens(world, 0.5) ? 0 : UINT64_C(1) << fm_random_below(&world->random, FEATURES);
    job->task.needed.memory_bytes = fm_random_below(&world->random, 9);
    EXPECT(world,
           fm_job_queue_submit(world->queue, world->now_ns, &job->task, &job->id, NULL) == 0);
    job->submitted = true;
    job->arrival_ns = world->now_ns;
    world->submitted++;
}

static void job_stop(struct world *world, struct job *job, enum fm_job_outcome outcome)
{
    job->running = false;
    job->failed = outcome == FM_JOB_OUTCOME_FAILED;
    job->over = outcome != FM_JOB_OUTCOME_RETURNED || job->cancelled || spent(world, job);
    EXPECT(world,
           fm_job_queue_ended(world->queue, world->now_ns, job->follower, job->id, outcome) == 0);
    EXPECT(world, fm_job_queue_ended(world->queue, world->now_ns, job->follower, job->id,
                                     outcome) == FM_ENOTFOUND);
}

static void disturb(struct world *world)
{
    struct job *job = &world->jobs[fm_random_below(&world->random, TASKS)];
    struct helper *helper = &world->helpers[fm_random_below(&world->random, FOLLOWERS)];
    if (happens(world, world->fault) && helper->there) {
        helper_lose(world, helper);
    } else if (happens(world, world->fault) && helper->there) {
        EXPECT(world, fm_job_queue_leave(world->queue, world->now_ns, helper->id) == 0);
        helper->leaving = true;
    } else if (happens(world, 0.1) && !helper->there) {
        helper_join(world, helper, false);
    }
    if (happens(world, world->fault) && job->submitted && !job->over) {
        EXPECT(world, fm_job_queue_cancel(world->queue, job->id) == 0);
        job->cancelled = true;
        job->over = !job->running;
    } else if (happens(world, world->fault) && waits(job)) {
        job->task.estimate_ns = 1 + fm_random_below(&world->random, 90 * S);
        EXPECT(world, fm_job_queue_estimate(world->queue, world->now_ns, job->id,
                                            job->task.estimate_ns) == 0);
    } else if (happens(world, world->fault) && job->running) {
        job_stop(world, job, happens(world, 0.3) ? FM_JOB_OUTCOME_FAILED : FM_JOB_OUTCOME_RETURNED);
    }
}

/* --- What is decided --- */

static uint64_t due_of(struct world *world, const struct job *job)
{
    struct fm_job_look look;
    EXPECT(world, fm_job_queue_look(world->queue, world->now_ns, job->id, &look) == 0);
    EXPECT(world, look.state == FM_JOB_WAITING && look.attempts == job->attempts);
    EXPECT(world, look.arrival_ns == job->arrival_ns); /* the first one, also after a loss */
    return look.due_ns;
}

/* When the next device of a follower that stays is believed to be free, with what has just been
 * bound. */
static uint64_t next_free_ns(struct world *world)
{
    uint64_t least_ns = UINT64_MAX / 2;
    for (uint32_t i = 0; i < TASKS; i++) {
        struct fm_job_look look;
        if (world->jobs[i].running && !helper_of(world, world->jobs[i].follower)->leaving &&
            fm_job_queue_look(world->queue, world->now_ns, world->jobs[i].id, &look) == 0) {
            least_ns = look.left_ns < least_ns ? look.left_ns : least_ns;
        }
    }
    return world->now_ns + least_ns;
}

/* `due_ns` is from before the action was taken out: that of what has just arrived is not known by
 * then, because it was not clear yet who else arrives. */
static void bind_check(struct world *world, struct job *job, const struct helper *helper,
                       uint32_t device, uint64_t due_ns)
{
    EXPECT(world, waits(job));
    EXPECT(world, helper->there && !helper->leaving && device < helper->device_count);
    EXPECT(world, fits(helper, device, job) && !device_busy(world, helper, device));
    job->running = true;
    job->follower = helper->id;
    uint64_t free_ns = next_free_ns(world);
    bool urgent = due_ns <= free_ns;
    bool fresh = job->arrival_ns == world->now_ns;
    for (uint32_t i = 0; i < TASKS; i++) {
        const struct job *other = &world->jobs[i];
        if (!waits(other) || !fits(helper, device, other)) {
            continue;
        }
        uint64_t other_ns = due_of(world, other);
        bool shorter = job->task.estimate_ns <= other->task.estimate_ns && other_ns > free_ns;
        bool earlier = urgent && due_ns <= other_ns;
        EXPECT(world, fresh ? shorter || earlier : urgent ? earlier : shorter);
    }
}

static void ended_check(struct world *world, struct job *job, const struct fm_job_action *action)
{
    EXPECT(world, !job->running && !job->ended && action->attempt == job->attempts);
    job->ended = true;
    world->ended++;
    switch (action->end) {
    case FM_JOB_END_DONE:
        EXPECT(world, job->attempts > 0);
        break;
    case FM_JOB_END_FAILED:
        EXPECT(world, job->failed);
        break;
    case FM_JOB_END_CANCELLED:
        EXPECT(world, job->cancelled);
        break;
    case FM_JOB_END_GIVEN_UP:
        EXPECT(world, job->attempts == world->options.attempts_max && !job->cancelled);
        break;
    case FM_JOB_END_COUNT_:
    default:
        EXPECT(world, false && "an end that there is");
    }
}

static void obey(struct world *world)
{
    struct fm_job_action action;
    for (;;) {
        uint64_t dues[TASKS] = {0};
        for (uint32_t i = 0; i < TASKS; i++) {
            dues[i] = waits(&world->jobs[i]) ? due_of(world, &world->jobs[i]) : 0;
        }
        if (world->bad || !fm_job_queue_next_action(world->queue, world->now_ns, &action)) {
            return;
        }
        fm_job_queue_validate(world->queue);
        note(world, (uint64_t)action.kind + 8 * action.task + action.follower + action.device);
        struct job *job = action.kind == FM_JOB_RELEASE ? NULL : job_of(world, action.task);
        struct helper *helper =
            action.kind == FM_JOB_ENDED ? NULL : helper_of(world, action.follower);
        if (action.kind == FM_JOB_BIND) {
            bind_check(world, job, helper, action.device, dues[job - world->jobs]);
            job->follower = helper->id;
            job->device = action.device;
            job->ends_ns = world->now_ns + job->length_ns;
            EXPECT(world, ++job->attempts == action.attempt);
            EXPECT(world, job->attempts <= world->options.attempts_max);
        } else if (action.kind == FM_JOB_CANCEL) {
            EXPECT(world, job->running && job->cancelled && !job->told);
            job->told = true;
            job->ends_ns = world->now_ns + fm_random_below(&world->random, 2 * S);
        } else if (action.kind == FM_JOB_ENDED) {
            ended_check(world, job, &action);
        } else {
            EXPECT(world, helper->leaving);
            helper->there = false;
            for (uint32_t i = 0; i < TASKS; i++) {
                EXPECT(world, !world->jobs[i].running || world->jobs[i].follower != helper->id);
            }
        }
    }
}

static void nothing_idle(struct world *world)
{
    for (uint32_t i = 0; i < TASKS; i++) {
        for (uint32_t j = 0; waits(&world->jobs[i]) && j < FOLLOWERS; j++) {
            const struct helper *helper = &world->helpers[j];
            for (uint32_t k = 0; helper->there && !helper->leaving && k < helper->device_count;
                 k++) {
                EXPECT(world, !fits(helper, k, &world->jobs[i]) || device_busy(world, helper, k));
            }
        }
    }
}

static void step(struct world *world)
{
    uint32_t burst = happens(world, 0.2) ? (uint32_t)fm_random_below(&world->random, 12) : 0;
    bool faulty = world->now_ns < world->faults_until_ns;
    world->now_ns += fm_random_below(&world->random, 4 * S);
    for (; burst > 0 && world->submitted < TASKS; burst--) {
        job_submit(world, &world->jobs[world->submitted]);
    }
    if (faulty && world->now_ns >= world->faults_until_ns) {
        for (uint32_t i = 0; i < FOLLOWERS; i++) {
            if (world->helpers[i].there) {
                helper_lose(world, &world->helpers[i]);
            }
            helper_join(world, &world->helpers[i], true);
        }
    } else if (faulty) {
        disturb(world);
    }
    for (uint32_t i = 0; i < TASKS; i++) {
        if (world->jobs[i].running && world->jobs[i].ends_ns <= world->now_ns) {
            job_stop(world, &world->jobs[i], FM_JOB_OUTCOME_DONE);
        }
    }
    obey(world);
    nothing_idle(world);
}

/* What the clock says when a world begins: nothing is relative to it. */
static uint64_t begin_of(uint64_t seed)
{
    const uint64_t begins[] = {0, 30 * 86400 * S, UINT64_C(1) << 62};
    return begins[seed % 3];
}

static uint64_t simulate(uint64_t seed, char *ret_why, size_t size)
{
    struct world *world = calloc(1, sizeof(*world));
    struct fm_job_queue_counts counts;
    uint64_t told = 0;
    fm_random_init(&world->random, seed);
    world->options = (struct fm_job_queue_options){
        .tasks_max = TASKS,
        .followers_max = FOLLOWERS,
        .attempts_max = 1 + (uint32_t)fm_random_below(&world->random, 4),
        .ageing_percent = 100 + (uint32_t)fm_random_below(&world->random, 200)};
    world->fault = happens(world, 0.3) ? 0 : 0.05 * fm_random_unit(&world->random);
    world->now_ns = begin_of(seed);
    world->faults_until_ns = world->now_ns + 600 * S;
    uint64_t end_ns = world->now_ns + 4000 * S;
    EXPECT(world, fm_job_queue_create(&world->options, &world->queue) == 0);
    while (!world->bad && world->now_ns < end_ns &&
           (world->ended < TASKS || world->now_ns < world->faults_until_ns)) {
        step(world);
    }
    EXPECT(world, world->ended == TASKS);
    fm_job_queue_counts(world->queue, &counts);
    for (uint32_t i = 0; i < FM_JOB_END_COUNT_; i++) {
        told += counts.ended[i];
    }
    EXPECT(world, told == TASKS && counts.waiting == 0 && counts.running == 0);
    EXPECT(world, counts.lost == world->lost);
    uint64_t hash = world->hash;
    (void)snprintf(ret_why, size, "%s", world->bad ? world->why : "");
    fm_job_queue_destroy(world->queue);
    free(world);
    return hash;
}

static uint64_t seed_count = 300;
static uint64_t seed_first = 1;

TEST(every_task_ends_once_whatever_happens)
{
    for (uint64_t seed = seed_first; seed < seed_first + seed_count; seed++) {
        char why[200];
        char again[200];
        uint64_t hash = simulate(seed, why, sizeof(why));
        if (why[0] != '\0') {
            printf("# to see it again: job_queue 1 %llu\n", (unsigned long long)seed);
        }
        CHECK_STR_EQ(why, "");
        if (seed % 16 == 0) {
            CHECK_UINT_EQ(simulate(seed, again, sizeof(again)), hash);
        }
    }
}

/* --- The bound --- */

struct plain {
    uint64_t arrival_ns;
    uint64_t length_ns;
    uint64_t fifo_ns; /* when it begins if they are dealt in turn */
    uint64_t ends_ns;
    uint64_t id;
    uint64_t follower;
    bool running;
};

enum { PLAIN = 200, ALIKE = 3 };

struct plain_world {
    struct plain jobs[PLAIN];
    struct fm_job_queue *queue;
    uint64_t now_ns;
    uint64_t longest_ns;
    uint32_t arrived;
    uint32_t percent;
    const char *why;
};

static void plain_make(struct plain_world *world, uint64_t seed)
{
    struct fm_random random;
    uint64_t free_ns[ALIKE] = {0};
    uint64_t now_ns = begin_of(seed);
    fm_random_init(&random, seed);
    for (uint32_t i = 0; i < PLAIN; i++) {
        struct plain *job = &world->jobs[i];
        uint64_t *lane_ns = &free_ns[i % ALIKE];
        now_ns += 1 + fm_random_below(&random, 20 * S);
        job->arrival_ns = now_ns;
        job->length_ns = S + fm_random_below(&random, 52 * S);
        job->fifo_ns = *lane_ns > now_ns ? *lane_ns : now_ns;
        *lane_ns = job->fifo_ns + job->length_ns;
        world->longest_ns = job->length_ns > world->longest_ns ? job->length_ns : world->longest_ns;
    }
}

static uint64_t plain_next_ns(const struct plain_world *world)
{
    uint64_t next_ns = world->arrived < PLAIN ? world->jobs[world->arrived].arrival_ns : UINT64_MAX;
    for (uint32_t i = 0; i < world->arrived; i++) {
        const struct plain *job = &world->jobs[i];
        next_ns = job->running && job->ends_ns < next_ns ? job->ends_ns : next_ns;
    }
    return next_ns;
}

static void plain_arrive(struct plain_world *world)
{
    struct plain *job = &world->jobs[world->arrived++];
    struct fm_job_task task = {.estimate_ns = job->length_ns};
    struct fm_job_look look;
    uint64_t due_ns = world->now_ns + (job->fifo_ns - world->now_ns) / 100 * world->percent;
    if (fm_job_queue_submit(world->queue, world->now_ns, &task, &job->id, NULL) != 0 ||
        fm_job_queue_look(world->queue, world->now_ns, job->id, &look) != 0) {
        world->why = "a task was not taken";
    } else if (look.due_ns != due_ns) {
        world->why = "it is due at another time";
    }
}

static void plain_bind(struct plain_world *world, const struct fm_job_action *action)
{
    for (uint32_t i = 0; i < world->arrived; i++) {
        struct plain *job = &world->jobs[i];
        if (job->id != action->task) {
            continue;
        }
        uint64_t bound_ns = (job->fifo_ns - job->arrival_ns) / 100 * world->percent;
        job->running = true;
        job->ends_ns = world->now_ns + job->length_ns;
        job->follower = action->follower;
        /* What was due earlier begins, in FIFO order, at most one task's length later. */
        if (world->now_ns - job->arrival_ns > bound_ns + 2 * world->longest_ns) {
            world->why = "it waited too long";
        }
    }
}

static void plain_step(struct plain_world *world)
{
    struct fm_job_action action;
    for (uint32_t i = 0; i < world->arrived; i++) {
        struct plain *job = &world->jobs[i];
        if (job->running && job->ends_ns == world->now_ns) {
            job->running = false;
            if (fm_job_queue_ended(world->queue, world->now_ns, job->follower, job->id,
                                   FM_JOB_OUTCOME_DONE) != 0) {
                world->why = "an end came to nothing";
            }
        }
    }
    if (world->arrived < PLAIN && world->jobs[world->arrived].arrival_ns == world->now_ns) {
        plain_arrive(world);
    }
    while (fm_job_queue_next_action(world->queue, world->now_ns, &action)) {
        if (action.kind == FM_JOB_BIND) {
            plain_bind(world, &action);
        }
    }
}

/* Whether none waits longer than the multiple of its own waiting in FIFO order, and for what cannot
 * be interrupted. */
static const char *plain_run(uint64_t seed, uint32_t percent)
{
    static struct plain_world world;
    const struct fm_job_ability alike = {0};
    struct fm_job_queue_options options = {PLAIN, ALIKE, 1, percent};
    world = (struct plain_world){.percent = percent};
    plain_make(&world, seed);
    if (fm_job_queue_create(&options, &world.queue) != 0) {
        return "there is no memory";
    }
    for (uint32_t i = 0; i < ALIKE; i++) {
        uint64_t follower;
        if (fm_job_queue_join(world.queue, begin_of(seed), &alike, 1, &follower, NULL) != 0) {
            world.why = "a follower was not taken";
        }
    }
    while (world.why == NULL && plain_next_ns(&world) != UINT64_MAX) {
        world.now_ns = plain_next_ns(&world);
        plain_step(&world);
    }
    fm_job_queue_destroy(world.queue);
    return world.why != NULL ? world.why : "";
}

TEST(nobody_waits_longer_than_the_bound)
{
    for (uint64_t seed = seed_first; seed < seed_first + seed_count; seed++) {
        CHECK_STR_EQ(plain_run(seed, seed % 2 == 0 ? 100 : 150), "");
    }
}

int main(int argc, char **argv)
{
    seed_count = argc > 1 ? strtoull(argv[1], NULL, 10) : seed_count;
    seed_first = argc > 2 ? strtoull(argv[2], NULL, 10) : seed_first;
    return fm_test_main(1, argv);
}
