/*
 * How far one ledger goes: claims and commits that are durable, a restart, memory.
 *
 * usage: ledger_scale commits FOLDER WORKERS SECONDS ROUNDS
 *        ledger_scale restart FOLDER SHARDS
 *        ledger_scale memory SHARDS
 *
 * Prints one JSON object a line for each figure. perf/ledger runs it, and judges.
 *
 * commits: the real master and the real store in FOLDER; workers are simulated, hold two shards of
 * one row each, and answer a grant at once. In turns, what the master decides is stored by the
 * store writer, and by one `put` for each decision. restart: a job of SHARDS shards is made in
 * FOLDER, and opened again. memory: the ledger alone.
 *
 * Owns: the simulated workers, clocks. Does not own: anything that is measured. Thread rule: one
 * thread decides; the store writer's has `stored` only.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/ledger/master.h"
#include "core/util/error.h"
#include "core/util/random.h"
#include "host/os/file.h"
#include "host/os/memory_facts.h"
#include "host/os/os.h"
#include "host/os/thread.h"
#include "host/store/sqlite_store.h"
#include "host/store/store_writer.h"

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_MS 1e6

enum {
    SHARDS_OF_ONE = 2,
    LEASES = 100000,
    ROWS_OF_SHARD = 100, /* in a restart */
    PUT_TOGETHER = 20000,
    LEASED_LAST = 2000, /* of the shards in a restart, and in flight in the ledger alone */
    FEW = 10000,
};

static void must(bool good, const char *what, const struct fm_error *error)
{
    if (!good) {
        (void)fprintf(stderr, "ledger_scale: %s: %s\n", what, error != NULL ? error->text : "no");
        exit(1);
    }
}

static void tell(const char *name, double value, const char *unit)
{
    printf("{\"name\": \"%s\", \"value\": %.6g, \"unit\": \"%s\"}\n", name, value, unit);
    (void)fflush(stdout);
}

static uint64_t number(const char *word)
{
    char *end = NULL;
    uint64_t value = strtoull(word, &end, 10);
    must(*word != '\0' && *end == '\0' && value > 0, "not a number above 0", NULL);
    return value;
}

/* A new ledger's path in the folder. */
static void path_make(const char *folder, char *ret_path, size_t size)
{
    struct fm_error error = {0};
    must(fm_file_make_directories(folder, &error) == 0, "folder", &error);
    static const char *const suffixes[] = {"-wal", "-shm", ""};
    for (size_t i = 0; i < 3; i++) {
        (void)snprintf(ret_path, size, "%s/ledger-scale.db%s", folder, suffixes[i]);
        must(fm_file_remove(ret_path, &error) == 0, "old ledger", &error);
    }
}

static struct fm_job_store *job_create(const char *path, uint64_t rows)
{
    struct fm_error error = {0};
    struct fm_job_store *store = NULL;
    struct fm_job_segment segment = {.rows = {.row_count = rows, .grain_rows = 1}};
    must(fm_sqlite_store_open(path, &store, &error) == 0, "open", &error);
    must(store->functions->create(store, NULL, 0, &segment, &error) == 0, "create", &error);
    must(store->functions->take(store, &error) == 0, "take", &error);
    return store;
}

/* --- Commits --- */

struct run {
    struct fm_job_store *store;
    struct fm_store_writer *writer; /* NULL: one put for each decision */
    struct fm_master *master;
    uint64_t ends_ns;
    uint64_t pairs;        /* claimed, done, durable */
    uint64_t transactions; /* the writer's are the callback's */
    /* The mutex guards what follows. */
    struct fm_mutex mutex;
    struct fm_condition changed;
    uint64_t sequence;
    uint64_t calls;
};

static void stored(void *context, uint64_t sequence, int status, const struct fm_error *error)
{
    struct run *run = context;
    must(status == 0, "store", error);
    fm_mutex_lock(&run->mutex);
    run->sequence = sequence;
    run->calls++;
    fm_condition_signal(&run->changed);
    fm_mutex_unlock(&run->mutex);
}

/* What the master has decided goes to the store. */
static void decisions_store(struct run *run)
{
    struct fm_error error = {0};
    const struct fm_shard_record *records = NULL;
    uint64_t sequence = 0;
    size_t count = fm_master_take_records(run->master, &records, &sequence);
    if (count == 0) {
        return;
    }
    if (run->writer != NULL) {
        int status = fm_store_writer_push(run->writer, records, count, sequence);
        must(status == 0, fm_status_text(status), NULL);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        must(run->store->functions->put(run->store, &records[i], 1, &error) == 0, "put", &error);
        run->transactions++;
    }
    fm_master_persisted(run->master, sequence);
}

/* The workers answer what they are told, until there is nothing to tell or the time is over. */
static void workers_answer(struct run *run)
{
    struct fm_master_action action;
    while (fm_master_next_action(run->master, &action)) {
        uint64_t now_ns = fm_os_now_ns();
        if (now_ns >= run->ends_ns) {
            return;
        }
        if (action.kind == FM_MASTER_COMMITTED) {
            run->pairs += run->writer != NULL ? 1 : 0;
        } else if (action.kind == FM_MASTER_GRANT) {
            struct fm_master_done done = {
                .number = action.shard.number,
                .epoch = action.shard.epoch,
                .rows_out = action.shard.row_count,
                .files = {.part_bytes = 1000 + action.shard.number % 1000,
                          .part_checksum = action.shard.number * 0x9e3779b97f4a7c15u}};
            must(fm_master_done(run->master, now_ns, action.worker, &done) == 0, "done", NULL);
            decisions_store(run);
            /* Durable by now. Telling so comes after all first grants, which takes longer than the
             * measurement. */
            run->pairs += run->writer == NULL ? 1 : 0;
        }
    }
}

static void transaction_await(struct run *run)
{
    uint64_t known = run->transactions;
    fm_mutex_lock(&run->mutex);
    while (run->calls == known) {
        fm_condition_wait(&run->changed, &run->mutex);
    }
    run->transactions = run->calls;
    uint64_t sequence = run->sequence;
    fm_mutex_unlock(&run->mutex);
    fm_master_persisted(run->master, sequence);
}

/* All workers are there, and what they are given first is stored. */
static void workers_begin(struct run *run, uint32_t workers)
{
    struct fm_error error = {0};
    struct fm_ledger_segment segment;
    const struct fm_master_options options = {
        .ledger = {.leases_max = LEASES, .lease_ns = 3600 * NS_PER_S, .attempts_max = {20, 2}},
        .pace = {.target_ns = NS_PER_S, .least_ns = NS_PER_S, .rows_first = 1, .rows_max = 1},
        .shard_rows = 1,
        .workers_max = workers,
        .limits = {.bad_rows_max = UINT64_MAX, .bad_ratio_max = 1},
        .relief_ns = NS_PER_S};
    must(fm_master_create(&options, &run->master) == 0, "master", NULL);
    must(fm_master_add_rows(run->master, 0,
                            &(struct fm_ledger_segment){.row_count = UINT32_MAX, .grain_rows = 1},
                            &segment) == 0,
         "rows", NULL);
    for (uint32_t i = 0; i < workers; i++) {
        uint64_t id = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);
        must(fm_master_hello(run->master, fm_os_now_ns(), id, SHARDS_OF_ONE, NULL, 0) == 0, "hello",
             NULL);
    }
    const struct fm_shard_record *records = NULL;
    uint64_t sequence = 0;
    size_t count = fm_master_take_records(run->master, &records, &sequence);
    must(run->store->functions->put(run->store, records, count, &error) == 0, "put", &error);
    fm_master_persisted(run->master, sequence);
}

static double commits_run(const char *folder, uint32_t workers, uint64_t seconds, bool together)
{
    char path[512];
    struct fm_error error = {0};
    struct run run = {0};
    fm_mutex_init(&run.mutex);
    fm_condition_init(&run.changed);
    path_make(folder, path, sizeof(path));
    run.store = job_create(path, UINT32_MAX);
    workers_begin(&run, workers);
    if (together) {
        must(fm_store_writer_start(run.store, stored, &run, &run.writer, &error) == 0, "writer",
             &error);
    }
    uint64_t begun_ns = fm_os_now_ns();
    uint64_t cpu_ns = fm_os_cpu_ns();
    uint64_t thread_ns = fm_os_thread_cpu_ns();
    run.ends_ns = begun_ns + seconds * NS_PER_S;
    workers_answer(&run);
    while (fm_os_now_ns() < run.ends_ns) {
        transaction_await(&run); /* only the writer's: the other way never runs dry */
        workers_answer(&run);
    }
    double elapsed_s = (double)(fm_os_now_ns() - begun_ns) / NS_PER_S;
    double pairs = (double)run.pairs;
    const char *how = together ? "stored together" : "one put for each decision";
    char name[128];
    (void)snprintf(name, sizeof(name), "pairs, %s", how);
    tell(name, pairs / elapsed_s, "/s");
    (void)snprintf(name, sizeof(name), "transactions, %s", how);
    tell(name, (double)run.transactions / elapsed_s, "/s");
    (void)snprintf(name, sizeof(name), "pairs per transaction, %s", how);
    tell(name, pairs / (double)run.transactions, "");
    (void)snprintf(name, sizeof(name), "CPU per pair, %s", how);
    tell(name, (double)(fm_os_cpu_ns() - cpu_ns) / pairs / 1e3, "us");
    (void)snprintf(name, sizeof(name), "CPU per pair of the thread that decides, %s", how);
    tell(name, (double)(fm_os_thread_cpu_ns() - thread_ns) / pairs / 1e3, "us");
    fm_store_writer_stop(run.writer);
    fm_master_validate(run.master);
    fm_master_destroy(run.master);
    run.store->functions->close(run.store);
    fm_condition_deinit(&run.changed);
    fm_mutex_deinit(&run.mutex);
    path_make(folder, path, sizeof(path));
    return pairs / elapsed_s;
}

static void commits(const char *folder, uint32_t workers, uint64_t seconds, uint64_t rounds)
{
    for (uint64_t round = 0; round < rounds; round++) {
        double together = commits_run(folder, workers, seconds, true);
        double alone = commits_run(folder, workers, seconds, false);
        tell("stored together / one put for each decision", together / alone, "");
    }
}

/* --- Restart --- */

static void job_make(const char *path, uint64_t shards)
{
    struct fm_error error = {0};
    struct fm_random random;
    struct fm_job_store *store = job_create(path, (shards + 1) * ROWS_OF_SHARD);
    struct fm_shard_record *records = calloc(PUT_TOGETHER, sizeof(*records));
    must(records != NULL, "memory", NULL);
    fm_random_init(&random, 1);
    for (uint64_t first = 0; first < shards; first += PUT_TOGETHER) {
        size_t count = shards - first < PUT_TOGETHER ? (size_t)(shards - first) : PUT_TOGETHER;
        for (size_t i = 0; i < count; i++) {
            uint64_t which = first + i;
            bool done = which + LEASED_LAST < shards;
            uint64_t bad = done && which % 1000 == 0 ? 1 : 0;
            records[i] = (struct fm_shard_record){
                .shard = {.number = which,
                          .first_row = which * ROWS_OF_SHARD,
                          .row_count = ROWS_OF_SHARD,
                          .owner = (which % 1000 + 1) * UINT64_C(0x9e3779b97f4a7c15),
                          .epoch = 1,
                          .state = done ? FM_SHARD_DONE : FM_SHARD_LEASED,
                          .rows_out = done ? ROWS_OF_SHARD - bad : 0,
                          .dead_letters = bad}};
            if (done) {
                records[i].files =
                    (struct fm_part_facts){.attempt = 1,
                                           .part_bytes = 100000 + fm_random_below(&random, 50000),
                                           .part_checksum = fm_random_next(&random),
                                           .letters_bytes = bad * 300,
                                           .letters_checksum = bad * fm_random_next(&random)};
            }
        }
        must(store->functions->put(store, records, count, &error) == 0, "put", &error);
    }
    free(records);
    store->functions->close(store);
}

struct restored {
    struct fm_master *master;
    uint64_t now_ns;
};

static int segment_restore(void *context, const struct fm_job_segment *segment)
{
    const struct restored *restored = context;
    return fm_ledger_restore_segment(fm_master_ledger(restored->master), &segment->rows);
}

static int shard_restore(void *context, const struct fm_shard_record *record)
{
    const struct restored *restored = context;
    return fm_master_restore_shard(restored->master, restored->now_ns, record);
}

static void restart(const char *folder, uint64_t shards)
{
    char path[512];
    struct fm_error error = {0};
    struct fm_job_store *store = NULL;
    struct fm_file_facts facts;
    const struct fm_master_options options = {
        .ledger = {.leases_max = LEASES, .lease_ns = 60 * NS_PER_S, .attempts_max = {20, 2}},
        .pace = {.target_ns = NS_PER_S, .least_ns = NS_PER_S, .rows_first = 1, .rows_max = 1},
        .workers_max = 1000};
    struct fm_master *master = NULL;
    path_make(folder, path, sizeof(path));
    job_make(path, shards);
    must(fm_file_stat(path, &facts, &error) == 0, "stat", &error);
    must(fm_master_create(&options, &master) == 0, "master", NULL);
    uint64_t cpu_ns = fm_os_cpu_ns();
    uint64_t begun_ns = fm_os_now_ns();
    must(fm_sqlite_store_open(path, &store, &error) == 0, "open", &error);
    uint64_t opened_ns = fm_os_now_ns();
    must(store->functions->take(store, &error) == 0, "take", &error);
    uint64_t taken_ns = fm_os_now_ns();
    struct restored restored = {.master = master, .now_ns = taken_ns};
    must(store->functions->segments(store, segment_restore, &restored, &error) == 0, "segments",
         &error);
    must(store->functions->shards(store, false, shard_restore, &restored, &error) == 0, "shards",
         &error);
    uint64_t read_ns = fm_os_now_ns();
    must(fm_ledger_restore_finish(fm_master_ledger(master)) == 0, "finish", NULL);
    uint64_t ends_ns = fm_os_now_ns();
    cpu_ns = fm_os_cpu_ns() - cpu_ns;
    struct fm_ledger_stats stats;
    fm_ledger_stats(fm_master_ledger(master), &stats);
    must(stats.leases == LEASED_LAST && stats.done_ranges == 1, "not what was stored", NULL);
    tell("ledger file", (double)facts.size / 1e6, "MB");
    tell("restart: open and check for damage", (double)(opened_ns - begun_ns) / NS_PER_MS, "ms");
    tell("restart: take", (double)(taken_ns - opened_ns) / NS_PER_MS, "ms");
    tell("restart: read and restore", (double)(read_ns - taken_ns) / NS_PER_MS, "ms");
    tell("restart: finish", (double)(ends_ns - read_ns) / NS_PER_MS, "ms");
    tell("restart: CPU time", (double)cpu_ns / NS_PER_MS, "ms");
    tell("restart", (double)(ends_ns - begun_ns) / NS_PER_MS, "ms");
    fm_master_destroy(master);
    store->functions->close(store);
    path_make(folder, path, sizeof(path));
}

/* --- The ledger alone --- */

static struct fm_ledger *ledger_make(uint64_t rows)
{
    struct fm_ledger *ledger = NULL;
    struct fm_ledger_segment segment;
    const struct fm_ledger_options options = {
        .leases_max = LEASES, .lease_ns = 60 * NS_PER_S, .attempts_max = {20, 2}};
    must(fm_ledger_create(&options, &ledger) == 0, "ledger", NULL);
    must(fm_ledger_add_rows(ledger, &(struct fm_ledger_segment){.row_count = rows, .grain_rows = 1},
                            &segment) == 0,
         "rows", NULL);
    return ledger;
}

static void restored_memory(uint64_t shards)
{
    struct fm_ledger *ledger = ledger_make(shards * ROWS_OF_SHARD);
    uint64_t few = 0;
    for (uint64_t i = 0; i < shards; i++) {
        struct fm_shard shard = {.number = i,
                                 .first_row = i * ROWS_OF_SHARD,
                                 .row_count = ROWS_OF_SHARD,
                                 .state = FM_SHARD_DONE,
                                 .epoch = 1,
                                 .rows_out = ROWS_OF_SHARD};
        must(fm_ledger_restore_shard(ledger, 0, &shard) == 0, "restore", NULL);
        if (i + 1 == FEW) {
            few = fm_memory_resident();
        }
    }
    must(fm_ledger_restore_finish(ledger) == 0, "finish", NULL);
    uint64_t many = fm_memory_resident();
    tell("resident after 10,000 shards", (double)few / 1048576, "MiB");
    tell("resident after all shards", (double)many / 1048576, "MiB");
    tell("more for the rest", ((double)many - (double)few) / 1048576, "MiB");
    fm_ledger_destroy(ledger);
}

/* Claims, and commits of whichever of those in flight. */
static void pairs_alone(uint64_t shards)
{
    struct fm_ledger *ledger = ledger_make(shards);
    static struct fm_shard flying[LEASED_LAST];
    struct fm_ledger_claim claim = {.owner = 1, .rows_max = 1};
    enum fm_ledger_answer answer = FM_LEDGER_GRANTED;
    struct fm_shard rest;
    struct fm_random random;
    uint64_t count = 0;
    fm_random_init(&random, 1);
    fm_ledger_close(ledger, true);
    uint64_t begun_ns = fm_os_now_ns();
    while (answer != FM_LEDGER_FINISHED) {
        while (count < LEASED_LAST && answer == FM_LEDGER_GRANTED) {
            must(fm_ledger_claim(ledger, 0, &claim, &answer, &flying[count]) == 0, "claim", NULL);
            count += answer == FM_LEDGER_GRANTED ? 1 : 0;
        }
        if (count > 0) {
            uint64_t which = fm_random_below(&random, count);
            const struct fm_shard *shard = &flying[which];
            must(fm_ledger_commit(ledger, shard->number, 1, shard->epoch, 1, 0, &rest) == 0,
                 "commit", NULL);
            flying[which] = flying[--count];
            answer = FM_LEDGER_GRANTED;
        }
    }
    uint64_t elapsed_ns = fm_os_now_ns() - begun_ns;
    must(fm_ledger_finished(ledger), "not finished", NULL);
    tell("claim and commit in the ledger alone", (double)elapsed_ns / (double)shards, "ns");
    fm_ledger_destroy(ledger);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "commits") == 0 && argc == 6) {
        uint64_t workers = number(argv[3]);
        must(workers <= LEASES / SHARDS_OF_ONE, "too many workers", NULL);
        commits(argv[2], (uint32_t)workers, number(argv[4]), number(argv[5]));
    } else if (strcmp(what, "restart") == 0 && argc == 4) {
        uint64_t shards = number(argv[3]);
        must(shards > LEASED_LAST, "too few shards", NULL);
        restart(argv[2], shards);
    } else if (strcmp(what, "memory") == 0 && argc == 3) {
        uint64_t shards = number(argv[2]);
        must(shards >= FEW, "too few shards", NULL);
        restored_memory(shards);
        pairs_alone(shards);
    } else {
        must(false, "usage: see the top of perf/ledger_scale.c", NULL);
    }
    return 0;
}
