/*
 * What a webhook is told. See notify.h.
 */
#include "engines/batch/notify.h"

#include "core/proto/json.h"
#include "host/os/os.h"
#include "host/os/process.h"

static void nullable(struct fm_json_writer *json, const char *key, const char *value)
{
    fm_json_key(json, key);
    if (value != NULL) {
        fm_json_string(json, value);
    } else {
        fm_json_null(json);
    }
}

void fm_notify(struct fm_webhook *webhook, const struct fm_job *job,
               const struct fm_notify_event *event)
{
    char host[256];
    char time[32];
    struct fm_text text = {0};
    struct fm_json_writer json;
    const struct fm_ledger_proof *proof = event->proof;
    fm_os_host_name(host, sizeof(host));
    fm_os_format_time(fm_os_wall_ns(), time, sizeof(time));
    fm_json_writer_init(&json, &text);
    fm_json_object_begin(&json);
    fm_json_member_string(&json, "event", event->event);
    fm_json_member_string(&json, "job", job->name);
    fm_json_member_string(&json, "output", job->output);
    nullable(&json, "verdict", event->verdict);
    nullable(&json, "error", event->error);
    fm_json_member_uint(&json, "rows_in", proof->rows_in);
    fm_json_member_uint(&json, "rows_out", proof->rows_out);
    fm_json_member_uint(&json, "dead_letters", proof->dead_letters);
    fm_json_member_uint(&json, "rows_left", proof->rows_missing);
    fm_json_member_uint(&json, "rows_before", event->rows_before);
    fm_json_member_number(&json, "seconds", (double)(event->elapsed_ns / 1000000) / 1000);
    fm_json_member_string(&json, "host", host);
    fm_json_member_uint(&json, "process", (uint64_t)fm_process_id());
    fm_json_member_string(&json, "time", time);
    fm_json_object_end(&json);
    if (!text.failed) {
        fm_webhook_post(webhook, text.data, text.length);
    }
    fm_text_deinit(&text);
}
