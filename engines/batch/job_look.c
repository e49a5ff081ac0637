/*
 * How a job stands. See job_look.h.
 */
#include "engines/batch/job_look.h"

#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/text.h"
#include "engines/batch/job_notes.h"
#include "engines/batch/manifest.h"
#include "engines/batch/output.h"
#include "host/os/file_lock.h"
#include "host/os/tree.h"
#include "host/store/sqlite_store.h"

#define NS_PER_MS UINT64_C(1000000)

const char *fm_job_standing_name(enum fm_job_standing standing)
{
    static const char *const names[FM_JOB_STANDING_COUNT_] = {
        [FM_JOB_RUNNING] = "running",
        [FM_JOB_STOPPED] = "stopped",
        [FM_JOB_CANCELLED] = "cancelled",
        [FM_JOB_COMPLETE] = "complete",
        [FM_JOB_COMPLETE_WITH_LETTERS] = "complete with dead letters",
        [FM_JOB_INCOMPLETE] = "incomplete",
        [FM_JOB_DISCARDED] = "being removed",
        [FM_JOB_UNREADABLE] = "unreadable",
    };
    return (unsigned)standing < FM_JOB_STANDING_COUNT_ ? names[standing] : "?";
}

/* --- Files --- */

static int facts_of(const char *directory, const char *name, struct fm_file_facts *ret_facts,
                    struct fm_error *reterr)
{
    char path[FM_OUTPUT_PATH_MAX];
    int length = snprintf(path, sizeof(path), "%s/%s", directory, name);
    return length >= 0 && (size_t)length < sizeof(path)
               ? fm_file_stat(path, ret_facts, reterr)
               : fm_error_set(reterr, FM_ETOOLARGE, "the path '%.200s...' is too long", directory);
}

/* Whether it is there; when it changed makes `look` younger. */
static int file_look(const char *directory, const char *name, struct fm_job_look *look,
                     bool *ret_there, struct fm_error *reterr)
{
    struct fm_file_facts facts = {0};
    int status = facts_of(directory, name, &facts, reterr);
    *ret_there = status == 0 && facts.kind == FM_FILE_REGULAR;
    if (*ret_there && facts.modified_ns > look->changed_wall_ns) {
        look->changed_wall_ns = facts.modified_ns;
    }
    return status;
}

/* --- The ledger --- */

static int fact_take(void *context, const struct fm_job_fact *fact)
{
    struct fm_job_look *look = context;
    uint64_t milliseconds = 0;
    if (strcmp(fact->key, FM_JOB_NOTE_NAME) == 0) {
        (void)snprintf(look->name, sizeof(look->name), "%s", fact->value);
    } else if (strcmp(fact->key, FM_JOB_NOTE_FILE) == 0) {
        (void)snprintf(look->file, sizeof(look->file), "%s", fact->value);
    } else if (strcmp(fact->key, FM_JOB_NOTE_STATE) == 0) {
        (void)snprintf(look->state, sizeof(look->state), "%s", fact->value);
    } else if (strcmp(fact->key, FM_JOB_NOTE_BEGUN) == 0) {
        look->begun_wall_ns =
            fm_parse_uint64(fact->value, &milliseconds) == 0 ? milliseconds * NS_PER_MS : 0;
    } else if (look->fact_count < FM_JOB_LOOK_FACTS) {
        (void)snprintf(look->facts[look->fact_count].key, sizeof(look->facts[0].key), "%s",
                       fact->key);
        (void)snprintf(look->facts[look->fact_count].value, sizeof(look->facts[0].value), "%s",
                       fact->value);
        look->fact_count++;
    }
    return 0;
}

static int segment_take(void *context, const struct fm_job_segment *segment)
{
    struct fm_job_look *look = context;
    look->rows_total += segment->rows.row_count;
    return 0;
}

static uint64_t failures_of(const struct fm_shard_record *record)
{
    return (uint64_t)record->shard.failures[FM_SHARD_FAILURE_INFRASTRUCTURE] +
           record->shard.failures[FM_SHARD_FAILURE_DATA];
}

/* Keeps the list of the worst in order: most failures first, of equal ones the lower number. */
static void worst_keep(struct fm_job_look *look, const struct fm_shard_record *record)
{
    uint32_t at = look->worst_count;
    uint64_t failures = failures_of(record);
    if (failures == 0 && record->shard.state != FM_SHARD_DEAD) {
        return;
    }
    while (at > 0 && failures_of(&look->worst[at - 1]) < failures) {
        at--;
    }
    if (at == FM_JOB_LOOK_WORST) {
        return;
    }
    uint32_t kept =
        look->worst_count < FM_JOB_LOOK_WORST ? look->worst_count : look->worst_count - 1;
    memmove(&look->worst[at + 1], &look->worst[at], (kept - at) * sizeof(look->worst[0]));
    look->worst[at] = *record;
    look->worst_count = kept + 1;
}

static int shard_take(void *context, const struct fm_shard_record *record)
{
    struct fm_job_look *look = context;
    const struct fm_shard *shard = &record->shard;
    look->shards[shard->state]++;
    look->failures[FM_SHARD_FAILURE_INFRASTRUCTURE] +=
        shard->failures[FM_SHARD_FAILURE_INFRASTRUCTURE];
    look->failures[FM_SHARD_FAILURE_DATA] += shard->failures[FM_SHARD_FAILURE_DATA];
    look->rows_leased += shard->state == FM_SHARD_LEASED ? shard->row_count : 0;
    look->rows_waiting += shard->state == FM_SHARD_READY ? shard->row_count : 0;
    look->rows_given_up += shard->state == FM_SHARD_DEAD ? shard->row_count : 0;
    if (shard->state == FM_SHARD_DONE) {
        look->rows_out += shard->rows_out;
        look->dead_letters += shard->dead_letters;
        look->bytes += record->files.part_bytes + record->files.letters_bytes;
    }
    worst_keep(look, record);
    return 0;
}

static int ledger_read(const char *directory, struct fm_job_look *look, struct fm_error *reterr)
{
    char path[FM_OUTPUT_PATH_MAX];
    struct fm_job_store *store = NULL;
    int status = fm_output_state_path(directory, FM_OUTPUT_LEDGER_FILE, path, sizeof(path), reterr);
    status = status != 0 ? status : fm_sqlite_store_open_reader(path, &store, reterr);
    if (status != 0) {
        return status;
    }
    status = store->functions->facts(store, fact_take, look, reterr);
    status = status != 0 ? status : store->functions->segments(store, segment_take, look, reterr);
    status =
        status != 0 ? status : store->functions->shards(store, false, shard_take, look, reterr);
    store->functions->close(store);
    uint64_t claimed = look->rows_out + look->dead_letters + look->rows_leased +
                       look->rows_waiting + look->rows_given_up;
    if (status == 0 && claimed > look->rows_total) {
        return fm_error_set(reterr, FM_ECORRUPT,
                            "the ledger of '%s' has more rows in shards than in all", directory);
    }
    look->rows_unclaimed = look->rows_total - claimed;
    return status;
}

/* --- A manifest alone --- */

static int manifest_part(void *context, const struct fm_manifest_part *part)
{
    struct fm_job_look *look = context;
    look->shards[FM_SHARD_DONE]++;
    look->bytes += part->files.part_bytes + part->files.letters_bytes;
    return 0;
}

static int manifest_read(const char *directory, struct fm_job_look *look, struct fm_error *reterr)
{
    char path[FM_OUTPUT_PATH_MAX];
    struct fm_manifest_head head;
    const struct fm_manifest_handlers handlers = {.part = look->has_ledger ? NULL : manifest_part,
                                                  .fact = look->has_ledger ? NULL : fact_take,
                                                  .context = look};
    int length = snprintf(path, sizeof(path), "%s/%s", directory, FM_OUTPUT_MANIFEST_FILE);
    if (length < 0 || (size_t)length >= sizeof(path)) {
        return fm_error_set(reterr, FM_ETOOLARGE, "the path '%.200s...' is too long", directory);
    }
    int status = fm_manifest_read(path, &handlers, &head, reterr);
    if (status != 0) {
        return status;
    }
    (void)snprintf(look->finished, sizeof(look->finished), "%s", head.finished);
    if (!look->has_ledger) {
        (void)snprintf(look->name, sizeof(look->name), "%s", head.job);
        look->rows_total = head.rows_in;
        look->rows_out = head.rows_out;
        look->dead_letters = head.dead_letters;
    }
    return 0;
}

/* --- The whole --- */

static bool is_of_the_directory(int status)
{
    return status == FM_ECORRUPT || status == FM_EUNSUPPORTED || status == FM_ENOTFOUND ||
           status == FM_EPERM;
}

static enum fm_job_standing standing_of(const struct fm_job_look *look, bool running,
                                        bool discarded, bool manifest)
{
    if (running) {
        return FM_JOB_RUNNING;
    }
    if (discarded) {
        return FM_JOB_DISCARDED;
    }
    if (manifest) {
        return look->dead_letters > 0 ? FM_JOB_COMPLETE_WITH_LETTERS : FM_JOB_COMPLETE;
    }
    if (look->rows_given_up > 0 &&
        look->rows_out + look->dead_letters + look->rows_given_up == look->rows_total) {
        return FM_JOB_INCOMPLETE;
    }
    return strcmp(look->state, FM_JOB_STATE_CANCELLED) == 0 ? FM_JOB_CANCELLED : FM_JOB_STOPPED;
}

/* Rows that a start takes down, or has taken down, before the job begins. */
static int taking_look(const char *directory, struct fm_job_look *look, struct fm_error *reterr)
{
    static const char *const names[] = {FM_OUTPUT_SPOOL_STDIN_PART, FM_OUTPUT_SPOOL_STDIN,
                                        FM_OUTPUT_SPOOL_QUERY};
    int status = 0;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && !look->taking && status == 0; i++) {
        char name[64];
        struct fm_file_facts facts = {0};
        (void)snprintf(name, sizeof(name), ".fermata/" FM_OUTPUT_SPOOL_NEW "/%s", names[i]);
        status = file_look(directory, name, look, &look->taking, reterr);
        status = status != 0 ? status : facts_of(directory, name, &facts, reterr);
        look->taken_bytes = look->taking ? facts.size : 0;
    }
    return status;
}

int fm_job_look(const char *directory, struct fm_job_look *ret_look, struct fm_error *reterr)
{
    char path[FM_OUTPUT_PATH_MAX];
    bool ledger = false;
    bool log = false;
    bool manifest = false;
    bool discarded = false;
    bool running = false;
    struct fm_job_look *look = ret_look;
    *look = (struct fm_job_look){.standing = FM_JOB_UNREADABLE};
    int status = file_look(directory, ".fermata/ledger.db", look, &ledger, reterr);
    status =
        status != 0 ? status : file_look(directory, ".fermata/ledger.db-wal", look, &log, reterr);
    status =
        status != 0 ? status : file_look(directory, ".fermata/discarded", look, &discarded, reterr);
    status = status != 0 ? status
                         : file_look(directory, FM_OUTPUT_MANIFEST_FILE, look, &manifest, reterr);
    status = status != 0
                 ? status
                 : fm_output_state_path(directory, FM_OUTPUT_LOCK_FILE, path, sizeof(path), reterr);
    if (status != 0) {
        return status;
    }
    fm_file_lock_look(path, &running, &look->process);
    if (!ledger && !manifest && !discarded && !running) {
        return fm_error_set(reterr, FM_ENOTFOUND, "there is no job in '%s'", directory);
    }
    look->has_ledger = ledger;
    status = running ? taking_look(directory, look, reterr) : 0;
    if (status != 0) {
        return status;
    }
    status = ledger && !discarded ? ledger_read(directory, look, &look->trouble) : 0;
    status = status == 0 && manifest ? manifest_read(directory, look, &look->trouble) : status;
    if (running && status == FM_ENOTFOUND) {
        status = 0; /* it has just begun, or is just being taken away */
        look->trouble = (struct fm_error){0};
    }
    if (status != 0 && !is_of_the_directory(status)) {
        if (reterr != NULL) {
            *reterr = look->trouble;
        }
        return status;
    }
    if (status == 0) {
        look->standing = standing_of(look, running, discarded, manifest);
    }
    return 0;
}

/* --- Finding --- */

struct finder {
    int (*each)(void *context, const char *directory);
    void (*trouble)(void *context, const char *text);
    void *context;
};

static int directory_try(void *context, const char *path, const struct fm_error *trouble)
{
    const struct finder *finder = context;
    static const char *const names[] = {".fermata/ledger.db", FM_OUTPUT_MANIFEST_FILE,
                                        ".fermata/discarded"};
    if (trouble != NULL) {
        if (finder->trouble != NULL) {
            finder->trouble(finder->context, trouble->text);
        }
        return 0;
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct fm_file_facts facts = {0};
        if (facts_of(path, names[i], &facts, NULL) == 0 && facts.kind == FM_FILE_REGULAR) {
            int status = finder->each(finder->context, path);
            return status < 0 ? status : 1;
        }
    }
    return 0;
}

int fm_job_find(const char *root, int (*each)(void *context, const char *directory),
                void (*trouble)(void *context, const char *text), void *context)
{
    struct finder finder = {.each = each, .trouble = trouble, .context = context};
    return fm_tree_directories(root, directory_try, &finder);
}
