/*
 * The SQLite job store, killed at the boundary of every system call that it makes while a job is
 * begun, claimed, committed, grown and closed: before the call, and after it. Whenever that is,
 * the store opens again, holds everything whose function had returned, and of what was under way
 * either all or nothing.
 *
 * The process that writes is traced (ptrace), and killed at stop k, for k = 1, 2, ... until it
 * comes to its end.
 */
#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/os/file.h"
#include "host/store/sqlite_store.h"
#include "tests/harness/test.h"

enum { PUTS = 6, SHARDS = 2 };

/* What the process does, in this order; each one durable when it is said to be done. */
enum { TAKEN = 1, CREATED, PUT_FIRST, GROWN = PUT_FIRST + PUTS, FACTS, CLOSED };

static char directory[64];
static char path[128];

/* The shards of one put: its number is in all that they hold. */
static void shards_make(uint64_t put, struct fm_shard_record *ret_shards)
{
    for (uint64_t i = 0; i < SHARDS; i++) {
        ret_shards[i] = (struct fm_shard_record){
            .shard = {.number = i,
                      .first_row = i * 10,
                      .row_count = 10,
                      .owner = put,
                      .epoch = put,
                      .state = put == PUTS ? FM_SHARD_DONE : FM_SHARD_LEASED,
                      .rows_out = put == PUTS ? 10 : 0},
            .files = {.part_bytes = put == PUTS ? 100 : 0, .attempt = put == PUTS ? put : 0}};
        (void)snprintf(ret_shards[i].reason, sizeof(ret_shards[i].reason), "put %u", (unsigned)put);
    }
}

/* One word down the pipe for each thing that is done. */
static void done(int pipe_end, char what)
{
    if (write(pipe_end, &what, 1) != 1) {
        _exit(2);
    }
}

static void store_write(int pipe_end)
{
    const struct fm_job_fact facts[] = {{"pipeline", "abc"}, {"rows", "20"}};
    const struct fm_job_fact grown[] = {{"rows", "30"}};
    const struct fm_job_fact late[] = {{"state", "ended"}, {"rows", "30"}};
    const struct fm_job_segment first = {.rows = {.row_count = 20, .grain_rows = 1},
                                         .listing_checksum = 1};
    const struct fm_job_segment second = {
        .rows = {.first_row = 20, .row_count = 10, .grain_rows = 1}, .listing_checksum = 2};
    struct fm_job_store *store = NULL;
    struct fm_error error = {0};
    int status = fm_sqlite_store_open(path, &store, &error);
    status = status != 0 ? status : store->functions->take(store, &error);
    done(pipe_end, TAKEN);
    status = status != 0 ? status : store->functions->create(store, facts, 2, &first, &error);
    done(pipe_end, CREATED);
    for (int i = 0; i < PUTS && status == 0; i++) {
        struct fm_shard_record shards[SHARDS];
        shards_make((uint64_t)i + 1, shards);
        status = store->functions->put(store, shards, SHARDS, &error);
        done(pipe_end, (char)(PUT_FIRST + i));
    }
    status = status != 0 ? status : store->functions->grow(store, grown, 1, &second, &error);
    done(pipe_end, GROWN);
    status = status != 0 ? status : store->functions->facts_put(store, late, 2, &error);
    done(pipe_end, FACTS);
    if (status != 0) {
        printf("# %s\n", error.text);
        _exit(1);
    }
    store->functions->close(store);
    done(pipe_end, CLOSED);
}

/* What was found in a store. */
struct found {
    uint32_t segments;
    uint32_t shards;
    uint64_t put; /* the one that the shards are of; UINT64_MAX: they are of several */
    char rows[16];
    bool ended;
    bool wrong;
};

static int segment_see(void *context, const struct fm_job_segment *segment)
{
    struct found *found = context;
    found->wrong = found->wrong || segment->listing_checksum != ++found->segments;
    return 0;
}

static int shard_see(void *context, const struct fm_shard_record *record)
{
    struct found *found = context;
    struct fm_shard_record expected[SHARDS];
    uint64_t put = record->shard.epoch;
    if (record->shard.number >= SHARDS || put < 1 || put > PUTS) {
        found->wrong = true;
        return 0;
    }
    shards_make(put, expected);
    const struct fm_shard_record *like = &expected[record->shard.number];
    found->wrong = found->wrong || record->shard.state != like->shard.state ||
                   record->shard.owner != like->shard.owner ||
                   record->shard.rows_out != like->shard.rows_out ||
                   record->files.part_bytes != like->files.part_bytes ||
                   strcmp(record->reason, like->reason) != 0;
    found->put = found->shards > 0 && found->put != put ? UINT64_MAX : put;
    found->shards++;
    return 0;
}

static int fact_see(void *context, const struct fm_job_fact *fact)
{
    struct found *found = context;
    if (strcmp(fact->key, "rows") == 0) {
        (void)snprintf(found->rows, sizeof(found->rows), "%s", fact->value);
    }
    found->ended = found->ended || strcmp(fact->key, "state") == 0;
    return 0;
}

/* How far the store says that the process came: the last thing that it holds. 0: nothing; -1: it
 * holds what no course of things leaves. */
static int store_read(void)
{
    struct fm_job_store *store = NULL;
    struct fm_error error = {0};
    struct found found = {0};
    int status = fm_sqlite_store_open(path, &store, &error);
    if (status == 0) {
        const struct fm_job_store_functions *functions = store->functions;
        status = functions->segments(store, segment_see, &found, &error);
        status = status != 0 ? status : functions->shards(store, false, shard_see, &found, &error);
        status = status != 0 ? status : functions->facts(store, fact_see, &found, &error);
        functions->close(store);
    }
    if (status != 0) {
        printf("# %s\n", error.text);
        return -1;
    }
    bool grown = found.segments == 2;
    bool torn = found.wrong || found.segments > 2 ||
                (found.shards != 0 && found.shards != SHARDS) || found.put == UINT64_MAX ||
                (grown && found.put != PUTS) || (found.ended && !grown) ||
                (found.segments == 0 && found.shards > 0) ||
                strcmp(found.rows, grown                 ? "30"
                                   : found.segments == 1 ? "20"
                                                         : "") != 0;
    return torn                  ? -1
           : found.ended         ? FACTS
           : grown               ? GROWN
           : found.shards > 0    ? PUT_FIRST + (int)found.put - 1
           : found.segments == 1 ? CREATED
                                 : 0;
}

/* Lets a traced process run to stop `stops`, and kills it there. false: it ended before. */
static bool run_to(pid_t process, uint64_t stops)
{
    int state = 0;
    (void)waitpid(process, &state, 0);
    (void)ptrace(PTRACE_SETOPTIONS, process, NULL, PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD);
    for (uint64_t i = 0; i < stops; i++) {
        int signal = 0;
        do {
            (void)ptrace(PTRACE_SYSCALL, process, NULL, signal);
            (void)waitpid(process, &state, 0);
            signal = WIFSTOPPED(state) && WSTOPSIG(state) != (SIGTRAP | 0x80) ? WSTOPSIG(state) : 0;
        } while (WIFSTOPPED(state) && signal != 0);
        if (!WIFSTOPPED(state)) {
            return false;
        }
    }
    (void)kill(process, SIGKILL);
    (void)waitpid(process, &state, 0);
    return true;
}

/* One process that writes, killed at stop `stops`. What it said to have done last; -1: it cannot be
 * traced here. */
static int write_and_kill(uint64_t stops, bool *ret_killed)
{
    int ends[2];
    char said = 0;
    char word = 0;
    if (pipe(ends) != 0) {
        abort();
    }
    pid_t process = fork();
    if (process == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) {
            _exit(3);
        }
        (void)raise(SIGSTOP);
        store_write(ends[1]);
        _exit(0);
    }
    (void)close(ends[1]);
    *ret_killed = run_to(process, stops);
    while (read(ends[0], &word, 1) == 1) {
        said = word;
    }
    (void)close(ends[0]);
    return said;
}

static bool may_trace(void)
{
    pid_t process = fork();
    int state = 0;
    if (process == 0) {
        _exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 ? 0 : 3);
    }
    (void)waitpid(process, &state, 0);
    return WIFEXITED(state) && WEXITSTATUS(state) == 0;
}

TEST(killed_at_every_system_call_nothing_is_lost_or_torn)
{
    bool killed = true;
    uint64_t stops = 0;
    uint32_t between = 0; /* times that more was there than was said */
    if (!may_trace()) {
        TEST_SKIP("processes may not be traced here");
    }
    while (killed) {
        (void)snprintf(directory, sizeof(directory), "/tmp/fermata-store-kill-XXXXXX");
        CHECK(mkdtemp(directory) != NULL);
        (void)snprintf(path, sizeof(path), "%s/ledger.db", directory);
        int said = write_and_kill(++stops, &killed);
        int there = store_read();
        CHECK_INT_EQ(fm_file_remove_tree(directory, NULL), 0);
        /* Taking the job and closing leave nothing to be seen here. */
        int least = said == CLOSED ? FACTS : said == TAKEN ? 0 : said;
        int most = said == 0 ? 0 : said < FACTS ? said + 1 : FACTS;
        if (there < least || there > most) {
            printf("# stop %" PRIu64 ": %d was said, %d is there\n", stops, said, there);
        }
        CHECK(there >= least);
        CHECK(there <= most);
        between += there > least;
    }
    printf("# killed at %" PRIu64 " places; %u times a commit was there that nobody had heard of\n",
           stops - 1, between);
    CHECK(stops > 200);
    CHECK(between > PUTS);
}

TEST_MAIN()
