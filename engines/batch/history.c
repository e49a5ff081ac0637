/*
 * The history of a job. See history.h.
 */
#include "engines/batch/history.h"

#include <stdio.h>
#include <string.h>

#include "core/proto/json.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/batch/line_reader.h"
#include "host/os/file.h"

#define NS_PER_MS         UINT64_C(1000000)
#define INTERVAL_FIRST_MS 500u

/* Leases whose beginning is remembered; of more, the time is not known. */
enum { LEASES_MAX = 4096 };

struct lease {
    uint64_t epoch;
    uint64_t granted_ns;
    struct fm_history_shard shard;
};

struct fm_history {
    struct fm_history_record record;
    struct fm_file_writer file;
    struct fm_text line;
    struct lease *leases;
    size_t lease_count;
    size_t lease_capacity;
    uint64_t next_ns;
    bool begun;
    bool broken; /* nothing is written any more */
    bool told;
    struct fm_error trouble;
    char path[4096];
};

/* --- Lines --- */

static void sample_write(struct fm_text *text, const struct fm_history_sample *sample)
{
    struct fm_json_writer json;
    fm_json_writer_init(&json, text);
    fm_json_object_begin(&json);
    fm_json_member_uint(&json, "at", sample->wall_ms);
    if (sample->begin) {
        fm_json_key(&json, "begin");
        fm_json_bool(&json, true);
    }
    fm_json_member_uint(&json, "done", sample->rows_done);
    fm_json_member_uint(&json, "committed", sample->rows_committed);
    fm_json_member_uint(&json, "letters", sample->dead_letters);
    fm_json_member_uint(&json, "workers", sample->workers);
    fm_json_member_uint(&json, "lost", sample->workers_lost);
    fm_json_member_uint(&json, "failed", sample->attempts_failed);
    fm_json_member_uint(&json, "cut", sample->shards_cut);
    if (sample->stage[0] != '\0') {
        fm_json_member_string(&json, "stage", sample->stage);
        fm_json_member_number(&json, "share", sample->stage_share);
    }
    if (sample->stages.count > 0) {
        fm_json_key(&json, "stages");
        fm_stage_uses_write(&sample->stages, &json);
    }
    fm_json_object_end(&json);
    fm_text_append_char(text, '\n');
}

static void shard_write(struct fm_text *text, const struct fm_history_shard *shard)
{
    struct fm_json_writer json;
    fm_json_writer_init(&json, text);
    fm_json_object_begin(&json);
    fm_json_member_uint(&json, "shard", shard->number);
    fm_json_member_uint(&json, "first_row", shard->first_row);
    fm_json_member_uint(&json, "rows", shard->rows);
    fm_json_member_uint(&json, "ms", shard->ms);
    fm_json_object_end(&json);
    fm_text_append_char(text, '\n');
}

static void interval_write(struct fm_text *text, uint64_t interval_ms)
{
    fm_text_append_format(text, "{\"interval\":%llu}\n", (unsigned long long)interval_ms);
}

/* A line, whatever it is of. */
struct line {
    struct fm_history_sample sample;
    struct fm_history_shard shard;
    uint64_t interval_ms;
    bool is_sample;
    bool is_shard;
};

static int value_read(struct fm_json_reader *json, struct line *line, uint64_t **number)
{
    struct fm_text text = {0};
    enum fm_json_token token = fm_json_next(json);
    int status = 0;
    if (number != NULL) {
        return token == FM_JSON_NUMBER ? fm_json_uint64(json, *number) : FM_ETYPE;
    }
    if (token == FM_JSON_TRUE) {
        line->sample.begin = true;
        return 0;
    }
    if (token == FM_JSON_NUMBER) {
        return fm_json_double(json, &line->sample.stage_share);
    }
    if (token == FM_JSON_OBJECT_BEGIN) {
        return fm_stage_uses_read(&line->sample.stages, json);
    }
    if (token != FM_JSON_STRING) {
        return FM_ETYPE;
    }
    fm_json_decode(json, &text);
    status = text.failed ? FM_ENOMEM : 0;
    (void)snprintf(line->sample.stage, sizeof(line->sample.stage), "%s",
                   status == 0 && text.data != NULL ? text.data : "");
    fm_text_deinit(&text);
    return status;
}

static int line_read(const char *data, size_t length, struct line *ret_line)
{
    static const char *const others[] = {"begin", "stage", "share", "stages"};
    struct fm_history_sample *sample = &ret_line->sample;
    *ret_line = (struct line){.interval_ms = 0};
    struct {
        const char *key;
        uint64_t *number;
    } numbers[] = {{"at", &sample->wall_ms},
                   {"done", &sample->rows_done},
                   {"committed", &sample->rows_committed},
                   {"letters", &sample->dead_letters},
                   {"workers", &sample->workers},
                   {"lost", &sample->workers_lost},
                   {"failed", &sample->attempts_failed},
                   {"cut", &sample->shards_cut},
                   {"shard", &ret_line->shard.number},
                   {"first_row", &ret_line->shard.first_row},
                   {"rows", &ret_line->shard.rows},
                   {"ms", &ret_line->shard.ms},
                   {"interval", &ret_line->interval_ms}};
    struct fm_json_reader json;
    fm_json_reader_init(&json, data, length);
    int status = fm_json_next(&json) == FM_JSON_OBJECT_BEGIN ? 0 : FM_ETYPE;
    enum fm_json_token token = FM_JSON_END;
    while (status == 0 && (token = fm_json_next(&json)) == FM_JSON_KEY) {
        uint64_t **number = NULL;
        bool known = false;
        for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
            number = fm_json_equals(&json, numbers[i].key) ? &numbers[i].number : number;
        }
        ret_line->is_sample = ret_line->is_sample || fm_json_equals(&json, "at");
        ret_line->is_shard = ret_line->is_shard || fm_json_equals(&json, "shard");
        for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
            known = known || fm_json_equals(&json, others[i]);
        }
        status =
            number != NULL || known ? value_read(&json, ret_line, number) : fm_json_skip(&json);
    }
    return status != 0                                                         ? status
           : token == FM_JSON_OBJECT_END && fm_json_next(&json) == FM_JSON_END ? 0
                                                                               : FM_ECORRUPT;
}

/* --- The record --- */

static void shard_keep(struct fm_history_record *record, const struct fm_history_shard *shard)
{
    size_t at = record->shard_count;
    while (at > 0 && record->shards[at - 1].ms < shard->ms) {
        at--;
    }
    if (at == FM_HISTORY_SHARDS_MAX) {
        return;
    }
    size_t kept = record->shard_count < FM_HISTORY_SHARDS_MAX ? record->shard_count
                                                              : FM_HISTORY_SHARDS_MAX - 1;
    memmove(&record->shards[at + 1], &record->shards[at], (kept - at) * sizeof(record->shards[0]));
    record->shards[at] = *shard;
    record->shard_count = kept + 1;
}

/* Every second one goes, but for those that begin a run or end one. */
static void thin(struct fm_history_record *record)
{
    size_t kept = 0;
    bool keep = true;
    for (size_t i = 0; i < record->sample_count; i++) {
        bool edge = record->samples[i].begin || i + 1 == record->sample_count ||
                    record->samples[i + 1].begin;
        /* However many runs there were, it gets shorter. */
        if (keep || (edge && kept < FM_HISTORY_SAMPLES_MAX * 3 / 4)) {
            record->samples[kept++] = record->samples[i];
        }
        keep = !keep;
    }
    record->sample_count = kept;
    record->interval_ms *= 2;
}

static int sample_keep(struct fm_history_record *record, const struct fm_history_sample *sample)
{
    if (record->samples == NULL) {
        record->samples = fm_alloc(FM_HISTORY_SAMPLES_MAX * sizeof(*record->samples));
    }
    if (record->samples == NULL) {
        return FM_ENOMEM;
    }
    if (record->sample_count == FM_HISTORY_SAMPLES_MAX) {
        thin(record);
    }
    record->samples[record->sample_count++] = *sample;
    return 0;
}

int fm_history_read(const char *path, struct fm_history_record *ret_record, struct fm_error *reterr)
{
    struct fm_line_reader lines = {0};
    struct line line;
    const char *data = NULL;
    size_t length = 0;
    *ret_record = (struct fm_history_record){.interval_ms = INTERVAL_FIRST_MS};
    int status = fm_line_reader_open(&lines, path, reterr);
    if (status == FM_ENOTFOUND) {
        if (reterr != NULL) {
            *reterr = (struct fm_error){0};
        }
        return 0;
    }
    while (status == 0) {
        status = fm_line_reader_next(&lines, &data, &length, reterr);
        if (status != 0 || data == NULL) {
            break;
        }
        if (line_read(data, length, &line) != 0) {
            continue;
        }
        if (line.is_shard) {
            shard_keep(ret_record, &line.shard);
        } else if (line.is_sample) {
            status = sample_keep(ret_record, &line.sample);
        } else if (line.interval_ms >= INTERVAL_FIRST_MS && line.interval_ms < UINT32_MAX) {
            ret_record->interval_ms = line.interval_ms;
        }
    }
    fm_line_reader_deinit(&lines);
    if (status != 0) {
        fm_history_record_deinit(ret_record);
    }
    return status;
}

void fm_history_record_deinit(struct fm_history_record *record)
{
    fm_free(record->samples);
    *record = (struct fm_history_record){.interval_ms = INTERVAL_FIRST_MS};
}

/* --- The file --- */

static void check(struct fm_history *history, int status)
{
    if (status != 0 && !history->broken) {
        history->broken = true;
        history->trouble.status = status;
    }
}

/* What was gathered in history->line. */
static void line_append(struct fm_history *history)
{
    if (!history->broken) {
        check(history, history->line.failed
                           ? FM_ENOMEM
                           : fm_file_writer_append(&history->file, history->line.data,
                                                   history->line.length, &history->trouble));
    }
    fm_text_clear(&history->line);
}

static void file_write(struct fm_history *history)
{
    const struct fm_history_record *record = &history->record;
    interval_write(&history->line, record->interval_ms);
    for (size_t i = 0; i < record->sample_count; i++) {
        sample_write(&history->line, &record->samples[i]);
    }
    for (size_t i = 0; i < record->shard_count; i++) {
        shard_write(&history->line, &record->shards[i]);
    }
    if (!history->broken) {
        check(history, fm_file_writer_open(&history->file, history->path, &history->trouble));
    }
    line_append(history);
}

struct fm_history *fm_history_open(const char *path, uint64_t now_ns)
{
    struct fm_history *history = fm_alloc_zero(1, sizeof(*history));
    if (history == NULL) {
        return NULL;
    }
    (void)snprintf(history->path, sizeof(history->path), "%s", path);
    history->next_ns = now_ns;
    check(history, fm_history_read(path, &history->record, &history->trouble));
    file_write(history);
    return history;
}

bool fm_history_due(const struct fm_history *history, uint64_t now_ns)
{
    return now_ns >= history->next_ns && (!history->broken || !history->told);
}

void fm_history_add(struct fm_history *history, uint64_t now_ns,
                    const struct fm_history_sample *sample)
{
    struct fm_history_sample kept = *sample;
    struct fm_history_record *record = &history->record;
    bool full = record->sample_count == FM_HISTORY_SAMPLES_MAX;
    if (history->broken) {
        return;
    }
    kept.begin = !history->begun;
    history->begun = true;
    check(history, sample_keep(record, &kept));
    history->next_ns = now_ns + record->interval_ms * NS_PER_MS;
    if (full && !history->broken) {
        check(history, fm_file_writer_commit(&history->file, &history->trouble));
        file_write(history);
        return;
    }
    sample_write(&history->line, &kept);
    line_append(history);
}

void fm_history_granted(struct fm_history *history, uint64_t now_ns, uint64_t epoch,
                        const struct fm_history_shard *shard)
{
    if (history->lease_count == history->lease_capacity) {
        size_t capacity = history->lease_capacity > 0 ? history->lease_capacity * 2 : 64;
        struct lease *leases =
            capacity <= LEASES_MAX ? fm_realloc(history->leases, capacity * sizeof(*leases)) : NULL;
        if (leases == NULL) {
            return; /* how long this one takes will not be known */
        }
        history->leases = leases;
        history->lease_capacity = capacity;
    }
    history->leases[history->lease_count++] =
        (struct lease){.epoch = epoch, .granted_ns = now_ns, .shard = *shard};
}

void fm_history_committed(struct fm_history *history, uint64_t now_ns, uint64_t number,
                          uint64_t epoch)
{
    size_t kept = 0;
    for (size_t i = 0; i < history->lease_count; i++) {
        struct lease *lease = &history->leases[i];
        if (lease->shard.number != number) {
            history->leases[kept++] = *lease;
        } else if (lease->epoch == epoch) {
            const struct fm_history_record *record = &history->record;
            struct fm_history_shard shard = lease->shard;
            shard.ms = (now_ns - lease->granted_ns) / NS_PER_MS;
            bool slow = record->shard_count < FM_HISTORY_SHARDS_MAX ||
                        record->shards[record->shard_count - 1].ms < shard.ms;
            if (slow) {
                shard_keep(&history->record, &shard);
                shard_write(&history->line, &shard);
                line_append(history);
            }
        }
    }
    history->lease_count = kept;
}

bool fm_history_trouble(struct fm_history *history, struct fm_error *ret_error)
{
    bool news = history->broken && !history->told;
    history->told = history->told || news;
    if (news) {
        *ret_error = history->trouble;
    }
    return news;
}

void fm_history_close(struct fm_history *history)
{
    if (history == NULL) {
        return;
    }
    if (history->file.open) {
        int ignored = fm_file_writer_commit(&history->file, NULL);
        (void)ignored;
    }
    fm_history_record_deinit(&history->record);
    fm_text_deinit(&history->line);
    fm_free(history->leases);
    fm_free(history);
}
