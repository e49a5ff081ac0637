/*
 * The catalog without a server: views (look-up, holding, readiness), stamps, and the life of
 * entries while loops look at them. What operations do to whole servers is in
 * tests/e2e/serve_models.py.
 */
#include "engines/serve/catalog.h"

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/catalog_view.h"
#include "engines/serve/watch.h"
#include "host/os/file.h"
#include "host/os/os.h"
#include "host/os/thread.h"
#include "tests/harness/test.h"

#define SECOND UINT64_C(1000000000)

/* --- Files --- */

static char folder[64];

static void folder_make(void)
{
    (void)snprintf(folder, sizeof(folder), "/tmp/fm-catalog-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        abort();
    }
}

static void folder_remove(void)
{
    if (fm_file_remove_tree(folder, NULL) != 0) {
        abort();
    }
}

/* One file; its name goes below the folder. */
static void put(const char *name, const char *text)
{
    char path[300];
    char above[300];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    if (fm_path_directory(above, sizeof(above), path) != 0 ||
        fm_file_make_directories(above, NULL) != 0 ||
        fm_file_write_atomic(path, text, strlen(text), NULL) != 0) {
        abort();
    }
}

/* --- Views --- */

/* An entry that only counts who holds it. */
static struct fm_catalog_entry held(void)
{
    struct fm_catalog_entry entry = {0};
    atomic_init(&entry.references, 1);
    return entry;
}

static unsigned holders(const struct fm_catalog_entry *entry)
{
    return atomic_load(&entry->references);
}

TEST(the_highest_ready_version_answers)
{
    struct fm_catalog_entry one = held();
    struct fm_catalog_entry two = held();
    const struct fm_catalog_row rows[] = {
        {.name = "a", .version = 1, .state = FM_CATALOG_READY, .reason = "", .entry = &one},
        {.name = "a", .version = 2, .state = FM_CATALOG_READY, .reason = "", .entry = &two},
        {.name = "a",
         .version = 3,
         .state = FM_CATALOG_UNAVAILABLE,
         .reason = "it is broken",
         .wanted = true},
        {.name = "b", .version = 0, .state = FM_CATALOG_LOADING, .reason = "", .wanted = true},
        {.name = "c", .version = 0, .state = FM_CATALOG_UNAVAILABLE, .reason = "not loaded"},
    };
    struct fm_catalog_view *view = fm_catalog_view_create(rows, 5);
    struct fm_catalog_entry *entry = NULL;
    struct fm_error error = {0};
    CHECK(view != NULL);
    CHECK_INT_EQ(fm_catalog_view_find(view, "a", 0, &entry, &error), 0);
    CHECK(entry == &two);
    CHECK_INT_EQ(fm_catalog_view_find(view, "a", 1, &entry, &error), 0);
    CHECK(entry == &one);
    CHECK_INT_EQ(fm_catalog_view_find(view, "a", 3, &entry, &error), FM_EUNAVAILABLE);
    CHECK_STR_EQ(error.text, "model 'a' is not ready: it is broken");
    CHECK_INT_EQ(fm_catalog_view_find(view, "a", 4, &entry, &error), FM_ENOTFOUND);
    CHECK_STR_EQ(error.text, "Request for unknown model: 'a' version 4 is not found");
    CHECK_INT_EQ(fm_catalog_view_find(view, "b", 7, &entry, &error), FM_EUNAVAILABLE);
    CHECK_INT_EQ(fm_catalog_view_find(view, "c", 0, &entry, &error), FM_ENOTFOUND);
    CHECK_INT_EQ(fm_catalog_view_find(view, "d", 0, &entry, &error), FM_ENOTFOUND);
    CHECK_INT_EQ(view->counts[FM_CATALOG_READY], 2);
    CHECK_INT_EQ(view->counts[FM_CATALOG_UNAVAILABLE], 2);
    CHECK_INT_EQ(holders(&one), 2);
    fm_catalog_view_free(view);
    CHECK_INT_EQ(holders(&one), 1);
    CHECK_INT_EQ(holders(&two), 1);
}

TEST(every_name_of_many_is_found_and_no_other)
{
    enum { COUNT = 5000 };
    static char names[COUNT][16];
    static struct fm_catalog_row rows[COUNT];
    for (int i = 0; i < COUNT; i++) {
        (void)snprintf(names[i], sizeof(names[i]), "m%05d", i);
        rows[i] = (struct fm_catalog_row){
            .name = names[i], .state = FM_CATALOG_LOADING, .reason = "", .version = 1};
    }
    struct fm_catalog_view *view = fm_catalog_view_create(rows, COUNT);
    CHECK(view != NULL);
    for (int i = 0; i < COUNT; i++) {
        size_t count = 0;
        const struct fm_catalog_row *found = fm_catalog_view_rows(view, names[i], &count);
        CHECK(found == &view->rows[i]);
        CHECK_INT_EQ(count, 1);
    }
    size_t count = 1;
    CHECK(fm_catalog_view_rows(view, "m", &count) == NULL);
    CHECK_INT_EQ(count, 0);
    fm_catalog_view_free(view);
    view = fm_catalog_view_create(NULL, 0);
    CHECK(view != NULL);
    CHECK(fm_catalog_view_rows(view, "m", &count) == NULL);
    fm_catalog_view_free(view);
}

TEST(readiness)
{
    struct fm_catalog_view view = {.models_wanted = 2, .models_ready = 1};
    CHECK(!fm_catalog_view_is_ready(&view, false));
    view.started = true;
    CHECK(fm_catalog_view_is_ready(&view, false));
    CHECK(!fm_catalog_view_is_ready(&view, true));
    view.models_ready = 0;
    CHECK(!fm_catalog_view_is_ready(&view, false));
    view.models_wanted = 0;
    CHECK(fm_catalog_view_is_ready(&view, false));
    CHECK(fm_catalog_view_is_ready(&view, true));
}

TEST(a_view_without_memory_holds_nothing)
{
    struct fm_catalog_entry one = held();
    const struct fm_catalog_row row = {
        .name = "a", .version = 1, .state = FM_CATALOG_READY, .reason = "", .entry = &one};
    (void)fm_memory_fail_at(1, 0);
    struct fm_catalog_view *view = fm_catalog_view_create(&row, 1);
    (void)fm_memory_fail_at(0, 0);
    CHECK(view == NULL);
    CHECK_INT_EQ(holders(&one), 1);
}

/* --- Stamps --- */

static struct fm_watch_root root_of(void)
{
    return (struct fm_watch_root){.path = folder};
}

/* The stamps of model "a": common, version 1, version 2. */
static void stamps_take(uint64_t stamps[3])
{
    struct fm_watch_root root = root_of();
    struct fm_watch_stamps taken;
    if (fm_watch_stamps_read(&root, "a", &taken, NULL) != 0) {
        abort();
    }
    stamps[0] = taken.whole;
    stamps[1] = fm_watch_stamp_of(&taken, 1);
    stamps[2] = fm_watch_stamp_of(&taken, 2);
    fm_watch_stamps_free(&taken);
}

TEST(a_stamp_changes_with_its_files_only)
{
    uint64_t before[3];
    uint64_t after[3];
    folder_make();
    put("a/1/model.onnx", "one");
    put("a/2/model.onnx", "two");
    put("a/model.yaml", "");
    stamps_take(before);
    stamps_take(after);
    CHECK(memcmp(before, after, sizeof(before)) == 0);

    /* A new version leaves the others alone. */
    put("a/3/model.onnx", "three");
    stamps_take(after);
    CHECK(before[0] != after[0] && before[1] == after[1] && before[2] == after[2]);

    /* Another file of the same size is another inode. */
    stamps_take(before);
    put("a/2/model.onnx", "TWO");
    stamps_take(after);
    CHECK(before[0] != after[0] && before[1] == after[1] && before[2] != after[2]);

    /* What lies beside the versions concerns them all; what begins with a dot nobody. */
    stamps_take(before);
    put("a/labels/x.txt", "cat");
    stamps_take(after);
    CHECK(before[0] != after[0] && before[1] != after[1] && before[2] != after[2]);
    stamps_take(before);
    put("a/1/.model.onnx.part", "half of it");
    stamps_take(after);
    CHECK(memcmp(before, after, sizeof(before)) == 0);
    folder_remove();
}

TEST(a_pipeline_changes_with_its_models)
{
    struct fm_watch_root root = root_of();
    struct fm_watch_stamps before;
    struct fm_watch_stamps after;
    struct fm_watch_uses uses;
    folder_make();
    root = root_of();
    put("n/model.yaml", "backend: identity\n");
    put("p/pipeline.yaml", "inputs: [{name: x, dtype: FP32, shape: [2]}]\n"
                           "stages:\n"
                           "  - {name: s, operator: softmax, inputs: x}\n"
                           "  - {name: t, model: n, inputs: s}\n"
                           "  - {name: u, model: n, inputs: t}\n"
                           "outputs: {y: u}\n");
    CHECK_INT_EQ(fm_watch_uses_read(&root, "p", &uses, NULL), 0);
    CHECK_INT_EQ(uses.count, 1);
    CHECK_STR_EQ(uses.names[0], "n");
    fm_watch_uses_free(&uses);
    CHECK_INT_EQ(fm_watch_uses_read(&root, "n", &uses, NULL), 0);
    CHECK_INT_EQ(uses.count, 0);
    fm_watch_uses_free(&uses);
    CHECK_INT_EQ(fm_watch_stamps_read(&root, "p", &before, NULL), 0);
    put("n/model.yaml", "backend: identity \n");
    CHECK_INT_EQ(fm_watch_stamps_read(&root, "p", &after, NULL), 0);
    CHECK(before.whole != after.whole);
    CHECK(fm_watch_stamp_of(&before, 1) != fm_watch_stamp_of(&after, 1));
    fm_watch_stamps_free(&before);
    fm_watch_stamps_free(&after);
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_watch_stamps_read(&root, "q", &after, &error), FM_ENOTFOUND);
    CHECK_INT_EQ(fm_watch_stamps_read(&root, "../p", &after, &error), FM_ENOTFOUND);
    folder_remove();
}

TEST(a_scan_lists_each_name_once)
{
    char second[200];
    struct fm_watch_scan scan;
    folder_make();
    put("one/b/model.yaml", "");
    put("one/a.onnx", "");
    put("one/.hidden/model.yaml", "");
    put("one/readme.txt", "");
    put("two/b/model.yaml", "");
    put("two/c/1/model.onnx", "");
    char first[200];
    char gone[200];
    (void)snprintf(first, sizeof(first), "%s/one", folder);
    (void)snprintf(second, sizeof(second), "%s/two", folder);
    (void)snprintf(gone, sizeof(gone), "%s/three", folder);
    const struct fm_watch_root roots[] = {{.path = first}, {.path = second}, {.path = gone}};
    CHECK_INT_EQ(fm_watch_scan_read(roots, 3, true, &scan, NULL), 0);
    CHECK_INT_EQ(scan.count, 3);
    CHECK_STR_EQ(scan.found[0].name, "a");
    CHECK_STR_EQ(scan.found[1].name, "b");
    CHECK_STR_EQ(scan.found[2].name, "c");
    CHECK_INT_EQ(scan.found[1].root, 0);
    CHECK_INT_EQ(scan.found[1].twins, 1);
    CHECK_INT_EQ(scan.found[2].root, 1);
    CHECK_INT_EQ(scan.errors[0].status, 0);
    CHECK_INT_EQ(scan.errors[2].status, FM_ENOTFOUND);
    fm_watch_scan_free(&scan);
    folder_remove();
}

/* --- The life of entries --- */

enum { LOOPS = 3 };

struct world {
    struct fm_catalog *catalog;
    struct fm_loop *loops[LOOPS];
    struct fm_catalog_reader readers[LOOPS];
    struct fm_thread threads[LOOPS];
    atomic_int attached;
    atomic_int detached;
    atomic_int attach_fails;
    atomic_bool attach_shut; /* loading waits at a gate ... */
    atomic_bool detach_shut; /* ... or releasing does */
    atomic_int at_gate;      /* threads that wait there */
    struct fm_mutex lock;
    struct fm_condition changed;
    int done;
};

static void pause_shortly(void)
{
    fm_sleep_until(fm_os_now_ns() + SECOND / 1000);
}

static void gate_pass(struct world *world, atomic_bool *shut)
{
    (void)atomic_fetch_add(&world->at_gate, 1);
    while (atomic_load(shut)) {
        pause_shortly();
    }
    (void)atomic_fetch_sub(&world->at_gate, 1);
}

static void gate_wait(struct world *world)
{
    while (atomic_load(&world->at_gate) == 0) {
        pause_shortly();
    }
}

static int attach(void *context, struct fm_catalog_entry *entry, struct fm_error *reterr)
{
    struct world *world = context;
    gate_pass(world, &world->attach_shut);
    if (atomic_load(&world->attach_fails) != 0) {
        return fm_error_set(reterr, FM_ELIMIT, "there is no accelerator left");
    }
    entry->attached = world;
    (void)atomic_fetch_add(&world->attached, 1);
    return 0;
}

static void detach(void *context, struct fm_catalog_entry *entry)
{
    struct world *world = context;
    gate_pass(world, &world->detach_shut);
    if (entry->attached != world) {
        abort();
    }
    (void)atomic_fetch_add(&world->detached, 1);
}

static void loop_thread(void *argument)
{
    fm_loop_run(argument);
}

static int world_open_as(struct world *world, enum fm_catalog_mode mode, bool strict)
{
    static const char *paths[1];
    struct fm_error error = {0};
    paths[0] = folder;
    const struct fm_catalog_options options = {.paths = paths,
                                               .path_count = 1,
                                               .mode = mode,
                                               .strict = strict,
                                               .poll_interval_ns = SECOND / 200,
                                               .attach = attach,
                                               .detach = detach,
                                               .context = world};
    *world = (struct world){0};
    fm_mutex_init(&world->lock);
    fm_condition_init(&world->changed);
    int status = fm_catalog_open(&options, &world->catalog, &error);
    for (int i = 0; i < LOOPS && status == 0; i++) {
        status = fm_loop_create(&world->loops[i], &error);
        if (status == 0) {
            fm_catalog_add_reader(world->catalog, &world->readers[i], world->loops[i]);
            status = fm_thread_start(&world->threads[i], "loop", loop_thread, world->loops[i]);
        }
    }
    return status;
}

static int world_open(struct world *world)
{
    return world_open_as(world, FM_CATALOG_EXPLICIT, false);
}

struct stop {
    struct fm_loop_task task;
    struct fm_loop *loop;
};

static void loop_stop(struct fm_loop_task *task)
{
    fm_loop_stop(((struct stop *)task)->loop);
}

static void world_close(struct world *world)
{
    struct stop stops[LOOPS];
    for (int i = 0; i < LOOPS; i++) {
        stops[i] = (struct stop){.task = {.run = loop_stop}, .loop = world->loops[i]};
        fm_loop_post(world->loops[i], &stops[i].task);
        fm_thread_join(&world->threads[i]);
    }
    fm_catalog_close(world->catalog);
    for (int i = 0; i < LOOPS; i++) {
        fm_loop_destroy(world->loops[i]);
    }
}

static void operation_done(struct fm_catalog_operation *operation)
{
    struct world *world = operation->context;
    fm_mutex_lock(&world->lock);
    world->done++;
    fm_condition_broadcast(&world->changed);
    fm_mutex_unlock(&world->lock);
}

/* Does it and waits. */
static int perform_with(struct world *world, enum fm_catalog_operation_kind kind, const char *name,
                        const char *config, struct fm_error *reterr)
{
    struct fm_catalog_operation operation = {.kind = kind,
                                             .name = name,
                                             .config = config,
                                             .config_size = config != NULL ? strlen(config) : 0,
                                             .reader = &world->readers[world->done % LOOPS],
                                             .done = operation_done,
                                             .context = world};
    fm_mutex_lock(&world->lock);
    int before = world->done;
    fm_mutex_unlock(&world->lock);
    fm_catalog_submit(world->catalog, &operation);
    fm_mutex_lock(&world->lock);
    while (world->done == before) {
        fm_condition_wait(&world->changed, &world->lock);
    }
    fm_mutex_unlock(&world->lock);
    *reterr = operation.error;
    return operation.error.status;
}

static int perform(struct world *world, enum fm_catalog_operation_kind kind, const char *name,
                   struct fm_error *reterr)
{
    return perform_with(world, kind, name, NULL, reterr);
}

/* A loop that looks the model up all the time, holds it for a while, and lets go on another turn.
 */
struct looker {
    struct fm_loop_task task;
    struct fm_catalog_reader *reader;
    struct fm_catalog_entry *held;
    atomic_bool *ends;
    atomic_bool ended;
    uint64_t found;
    uint64_t wrong;
};

static void look(struct fm_loop_task *task)
{
    struct looker *looker = FM_CONTAINER_OF(task, struct looker, task);
    struct fm_error error = {0};
    if (looker->held != NULL) {
        looker->wrong += looker->held->servable == NULL || looker->held->attached == NULL;
        fm_catalog_entry_unref(looker->held);
        looker->held = NULL;
    }
    if (atomic_load(looker->ends)) {
        atomic_store(&looker->ended, true);
        return;
    }
    if (fm_catalog_view_find(looker->reader->view, "a", 0, &looker->held, &error) == 0) {
        fm_catalog_entry_ref(looker->held);
        looker->found++;
    } else {
        looker->wrong++;
    }
    fm_loop_post(looker->reader->loop, &looker->task);
}

static void wait_until(atomic_bool *flag)
{
    while (!atomic_load(flag)) {
        pause_shortly();
    }
}

TEST(entries_live_as_long_as_somebody_holds_them)
{
    static struct world world;
    static struct looker lookers[LOOPS];
    static atomic_bool ends;
    struct fm_error error = {0};
    folder_make();
    put("a/model.yaml", "backend: identity\ninstances: 1\n");
    CHECK_INT_EQ(world_open(&world), 0);
    CHECK_INT_EQ(perform(&world, FM_CATALOG_START, NULL, &error), 0);
    CHECK_INT_EQ(perform(&world, FM_CATALOG_LOAD, "a", &error), 0);
    for (int i = 0; i < LOOPS; i++) {
        lookers[i] =
            (struct looker){.task = {.run = look}, .reader = &world.readers[i], .ends = &ends};
        fm_loop_post(world.loops[i], &lookers[i].task);
    }
    for (int i = 0; i < 100; i++) {
        put("a/model.yaml", "backend: identity\ninstances: 1\n");
        CHECK_INT_EQ(perform(&world, FM_CATALOG_LOAD, "a", &error), 0);
    }
    /* One that cannot be attached leaves the others as they are. */
    atomic_store(&world.attach_fails, 1);
    put("a/model.yaml", "backend: identity\ninstances: 1\n");
    CHECK_INT_EQ(perform(&world, FM_CATALOG_LOAD, "a", &error), FM_ELIMIT);
    CHECK(strstr(error.text, "there is no accelerator left") != NULL);
    atomic_store(&ends, true);
    for (int i = 0; i < LOOPS; i++) {
        wait_until(&lookers[i].ended);
        CHECK_INT_EQ(lookers[i].wrong, 0);
        CHECK(lookers[i].found > 0);
    }
    struct fm_catalog_stats stats;
    fm_catalog_stats_read(world.catalog, &stats);
    CHECK_INT_EQ(stats.loads, 101);
    CHECK_INT_EQ(stats.load_failures, 1);
    world_close(&world);
    CHECK_INT_EQ(atomic_load(&world.attached), 101);
    CHECK_INT_EQ(atomic_load(&world.detached), 101);
    folder_remove();
}

/* What a loop sees, asked on it. */
struct question {
    struct fm_loop_task task;
    struct fm_catalog_reader *reader;
    size_t models_ready;
    size_t loading;
    atomic_bool answered;
};

static void answer_question(struct fm_loop_task *task)
{
    struct question *question = FM_CONTAINER_OF(task, struct question, task);
    question->models_ready = question->reader->view->models_ready;
    question->loading = question->reader->view->counts[FM_CATALOG_LOADING];
    atomic_store(&question->answered, true);
}

/* *ret_loading: rows that say so. */
static size_t models_ready_and(struct world *world, int loop, size_t *ret_loading)
{
    struct question question = {.task = {.run = answer_question}, .reader = &world->readers[loop]};
    fm_loop_post(world->loops[loop], &question.task);
    wait_until(&question.answered);
    *ret_loading = question.loading;
    return question.models_ready;
}

static size_t models_ready(struct world *world, int loop)
{
    size_t loading = 0;
    return models_ready_and(world, loop, &loading);
}

TEST(an_answer_comes_when_every_loop_can_see_it)
{
    static struct world world;
    struct fm_error error = {0};
    folder_make();
    put("a/model.yaml", "backend: identity\ninstances: 1\n");
    CHECK_INT_EQ(world_open(&world), 0);
    CHECK_INT_EQ(perform(&world, FM_CATALOG_START, NULL, &error), 0);
    for (int i = 0; i < 50; i++) {
        CHECK_INT_EQ(perform(&world, FM_CATALOG_LOAD, "a", &error), 0);
        for (int l = 0; l < LOOPS; l++) {
            CHECK_INT_EQ(models_ready(&world, l), 1);
        }
        CHECK_INT_EQ(perform(&world, FM_CATALOG_UNLOAD, "a", &error), 0);
        for (int l = 0; l < LOOPS; l++) {
            CHECK_INT_EQ(models_ready(&world, l), 0);
        }
    }
    CHECK_INT_EQ(perform(&world, FM_CATALOG_STOP, NULL, &error), 0);
    CHECK_INT_EQ(perform(&world, FM_CATALOG_LOAD, "a", &error), FM_EUNAVAILABLE);
    world_close(&world);
    folder_remove();
}

/* --- What is not waited for --- */

struct pending {
    struct fm_catalog_operation operation;
    atomic_bool done;
};

static void pending_done(struct fm_catalog_operation *operation)
{
    atomic_store(&FM_CONTAINER_OF(operation, struct pending, operation)->done, true);
}

static void submit(struct world *world, struct pending *pending,
                   enum fm_catalog_operation_kind kind, const char *name)
{
    *pending = (struct pending){.operation = {.kind = kind,
                                              .name = name,
                                              .dependents = kind == FM_CATALOG_UNLOAD,
                                              .reader = &world->readers[0],
                                              .done = pending_done}};
    fm_catalog_submit(world->catalog, &pending->operation);
}

static void chain_make(void)
{
    folder_make();
    put("n/model.yaml", "backend: identity\nsettings: {inputs: 'x:FP32[2]'}\n");
    put("p/pipeline.yaml", "inputs: [{name: x, dtype: FP32, shape: [2]}]\n"
                           "stages:\n"
                           "  - {name: t, model: n, inputs: x}\n"
                           "outputs: {y: t}\n");
}

/* The same, with the pipeline and its model loaded. */
static void chain_open(struct world *world)
{
    struct fm_error error = {0};
    chain_make();
    CHECK_INT_EQ(world_open(world), 0);
    CHECK_INT_EQ(perform(world, FM_CATALOG_START, NULL, &error), 0);
    CHECK_INT_EQ(perform(world, FM_CATALOG_LOAD, "p", &error), 0);
}

/* What a pipeline uses is being loaded while the pipeline is unloaded with it. */
TEST(an_unload_with_dependents_ends_with_the_last_of_them)
{
    static struct world world;
    static struct pending loads[2];
    static struct pending unload;
    struct fm_error error = {0};
    chain_open(&world);
    for (int i = 0; i < 20; i++) {
        atomic_store(&world.attach_shut, true);
        submit(&world, &loads[0], FM_CATALOG_LOAD, "n");
        gate_wait(&world);
        /* The second load waits for the first, and comes before the unload. */
        submit(&world, &loads[1], FM_CATALOG_LOAD, "n");
        submit(&world, &unload, FM_CATALOG_UNLOAD, "p");
        while (models_ready(&world, 0) > 0) {
            pause_shortly();
        }
        CHECK(!atomic_load(&unload.done));
        atomic_store(&world.attach_shut, false);
        wait_until(&unload.done);
        CHECK_INT_EQ(unload.operation.error.status, 0);
        for (int l = 0; l < LOOPS; l++) {
            CHECK_INT_EQ(models_ready(&world, l), 0);
        }
        wait_until(&loads[0].done);
        wait_until(&loads[1].done);
        CHECK_INT_EQ(loads[1].operation.error.status, 0);
        CHECK_INT_EQ(models_ready(&world, 0), 0);
        CHECK_INT_EQ(perform(&world, FM_CATALOG_LOAD, "p", &error), 0);
    }
    world_close(&world);
    folder_remove();
}

/* By then the thread that decides has ended, and the one that loads is waited for. */
static void gate_open_later(void *argument)
{
    struct world *world = argument;
    fm_sleep_until(fm_os_now_ns() + SECOND / 5);
    atomic_store(&world->attach_shut, false);
}

/* The parts of an operation that nobody comes to are no operations of anybody's. */
TEST(an_unload_with_dependents_is_answered_once_at_the_end)
{
    static struct world world;
    static struct pending load;
    static struct pending unload;
    chain_open(&world);
    atomic_store(&world.attach_shut, true);
    submit(&world, &load, FM_CATALOG_LOAD, "n");
    gate_wait(&world);
    submit(&world, &unload, FM_CATALOG_UNLOAD, "p");
    while (models_ready(&world, 0) > 0) {
        pause_shortly();
    }
    struct fm_thread opener;
    CHECK_INT_EQ(fm_thread_start(&opener, "opener", gate_open_later, &world), 0);
    world_close(&world);
    fm_thread_join(&opener);
    CHECK(atomic_load(&load.done));
    CHECK(atomic_load(&unload.done));
    folder_remove();
}

/* --- Files of a load's own --- */

static uint64_t loads_of(const struct world *world)
{
    struct fm_catalog_stats stats;
    fm_catalog_stats_read(world->catalog, &stats);
    return stats.loads;
}

static bool loads_reach(const struct world *world, uint64_t count)
{
    uint64_t end_ns = fm_os_now_ns() + 20 * SECOND;
    while (loads_of(world) < count && fm_os_now_ns() < end_ns) {
        pause_shortly();
    }
    return loads_of(world) == count;
}

/* What came with a load that failed is not what answers: a look goes on following the files. */
TEST(a_failed_load_with_a_configuration_leaves_the_repository_to_be_followed)
{
    static const char *const configs[] = {"{", "{\"backend\": \"nosuch\"}"};
    static struct world world;
    struct fm_error error = {0};
    folder_make();
    put("a/model.yaml", "backend: identity\ninstances: 1\n");
    CHECK_INT_EQ(world_open(&world), 0);
    CHECK_INT_EQ(perform(&world, FM_CATALOG_START, NULL, &error), 0);
    CHECK_INT_EQ(perform(&world, FM_CATALOG_LOAD, "a", &error), 0);
    for (uint64_t i = 0; i < 2; i++) {
        uint64_t before = loads_of(&world);
        CHECK(perform_with(&world, FM_CATALOG_LOAD, "a", configs[i], &error) != 0);
        CHECK(strstr(error.text, "goes on answering") != NULL);
        put("a/model.yaml", "backend: identity\ninstances: 1\n");
        /* Changed before a load that did not look at it. */
        CHECK(perform_with(&world, FM_CATALOG_LOAD, "a", configs[i], &error) != 0);
        CHECK_INT_EQ(perform(&world, FM_CATALOG_POLL, NULL, &error), 0);
        CHECK(loads_reach(&world, before + 1));
        put("a/model.yaml", "backend: identity\ninstances: 1\n");
        CHECK_INT_EQ(perform(&world, FM_CATALOG_POLL, NULL, &error), 0);
        CHECK(loads_reach(&world, before + 2));
    }
    world_close(&world);
    folder_remove();
}

/* --- Want of memory --- */

/* A start that succeeds, and is strict, has loaded all; and nothing says that it is being loaded
 * when nobody loads it. */
TEST(a_start_without_memory_says_so)
{
    static struct world world;
    struct fm_error error = {0};
    folder_make();
    put("a/model.yaml", "backend: identity\ninstances: 1\n");
    put("b/model.yaml", "backend: identity\ninstances: 1\n");
    for (uint64_t i = 0; i < 16; i++) {
        bool strict = i % 2 == 0;
        size_t loading = 0;
        CHECK_INT_EQ(world_open_as(&world, FM_CATALOG_NONE, strict), 0);
        (void)fm_memory_fail_at(i / 2 + 1, 0);
        int status = perform(&world, FM_CATALOG_START, NULL, &error);
        (void)fm_memory_fail_at(0, 0);
        size_t ready = models_ready_and(&world, 0, &loading);
        CHECK(status == 0 || strict);
        CHECK(status != 0 || ready == 2 || !strict);
        CHECK(strict || loading == 0);
        CHECK(i > 0 || strstr(error.text, "model 'a' does not load: out of memory") != NULL);
        world_close(&world);
    }
    folder_remove();
}

/* --- Looking --- */

static uint64_t cpu_ns(void)
{
    struct timespec time;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

/* The next look is due, and the thread that looks has something else to do. */
TEST(a_look_that_has_to_wait_costs_nothing)
{
    static struct world world;
    struct fm_error error = {0};
    char path[200];
    folder_make();
    put("a/model.yaml", "backend: identity\ninstances: 1\n");
    put("b/model.yaml", "backend: identity\ninstances: 1\n");
    CHECK_INT_EQ(world_open_as(&world, FM_CATALOG_POLLING, false), 0);
    CHECK_INT_EQ(perform(&world, FM_CATALOG_START, NULL, &error), 0);
    atomic_store(&world.detach_shut, true);
    (void)snprintf(path, sizeof(path), "%s/a", folder);
    CHECK_INT_EQ(fm_file_remove_tree(path, NULL), 0);
    gate_wait(&world);
    uint64_t before_ns = cpu_ns();
    fm_sleep_until(fm_os_now_ns() + SECOND);
    uint64_t used_ns = cpu_ns() - before_ns;
    atomic_store(&world.detach_shut, false);
    /* And it goes on looking. */
    put("c/model.yaml", "backend: identity\ninstances: 1\n");
    while (models_ready(&world, 0) < 2) {
        pause_shortly();
    }
    world_close(&world);
    folder_remove();
    CHECK(used_ns < SECOND / 4);
}

TEST_MAIN()
