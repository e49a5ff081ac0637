/*
 * The log. See log.h. Callers format into a shared text under a mutex, briefly; one thread takes
 * the whole text and writes it.
 */
#include "host/os/log.h"

#include <string.h>
#include <unistd.h>

#include "core/proto/json.h"
#include "core/util/error.h"
#include "core/util/text.h"
#include "host/os/os.h"
#include "host/os/thread.h"

#define SITE_TOKEN_NS (1000000000u / FM_LOG_PER_SECOND)
/* What was left out is said so long after, unless the place says it before. */
#define QUIET_NS UINT64_C(1000000000)

static struct {
    struct fm_log_options options;
    struct fm_thread thread;
    struct fm_mutex mutex;
    struct fm_condition condition; /* something is pending, or stopping */
    struct fm_condition written;
    struct fm_text pending; /* behind mutex, as all below */
    uint64_t dropped;
    struct fm_log_site *quiet; /* places that left records out and have not said so */
    uint64_t quiet_due_ns;     /* when they are looked at */
    bool writing;
    bool stopping;
    struct fm_text recent[FM_LOG_RECENT_MAX]; /* a ring of JSON objects */
    uint64_t recent_count;                    /* ever */
} log_;

static atomic_bool running;

/* --- Writing --- */

static void lines_hand_on(const char *data, size_t length)
{
    while (length > 0) {
        const char *end = memchr(data, '\n', length);
        size_t line = end != NULL ? (size_t)(end - data) : length;
        log_.options.line(log_.options.context, data, line);
        size_t taken = end != NULL ? line + 1 : line;
        data += taken;
        length -= taken;
    }
}

static void write_all(const char *data, size_t length)
{
    if (log_.options.line != NULL) {
        lines_hand_on(data, length);
        return;
    }
    while (length > 0) {
        ssize_t written = write(log_.options.descriptor, data, length);
        if (written <= 0) {
            /* There is nowhere left to say so. */
            return;
        }
        data += written;
        length -= (size_t)written;
    }
}

static void writer_run(void *argument);

int fm_log_start(const struct fm_log_options *options, struct fm_error *reterr)
{
    log_.options = *options;
    log_.stopping = false;
    log_.dropped = 0;
    log_.recent_count = 0;
    fm_mutex_init(&log_.mutex);
    fm_condition_init(&log_.condition);
    fm_condition_init(&log_.written);
    int status = fm_thread_start(&log_.thread, "fm-log", writer_run, NULL);
    if (status != 0) {
        fm_condition_deinit(&log_.written);
        fm_condition_deinit(&log_.condition);
        fm_mutex_deinit(&log_.mutex);
        return fm_error_set(reterr, status, "cannot start the log's thread");
    }
    atomic_store(&running, true);
    return 0;
}

void fm_log_stop(void)
{
    if (!atomic_exchange(&running, false)) {
        return;
    }
    fm_mutex_lock(&log_.mutex);
    log_.stopping = true;
    fm_condition_signal(&log_.condition);
    fm_mutex_unlock(&log_.mutex);
    fm_thread_join(&log_.thread);
    fm_text_deinit(&log_.pending);
    for (uint32_t i = 0; i < FM_LOG_RECENT_MAX; i++) {
        fm_text_deinit(&log_.recent[i]);
    }
    fm_condition_deinit(&log_.written);
    fm_condition_deinit(&log_.condition);
    fm_mutex_deinit(&log_.mutex);
}

void fm_log_flush(uint64_t timeout_ns)
{
    if (!atomic_load(&running)) {
        return;
    }
    uint64_t deadline_ns = fm_os_now_ns() + timeout_ns;
    fm_mutex_lock(&log_.mutex);
    while ((log_.pending.length > 0 || log_.writing) &&
           fm_condition_wait_until(&log_.written, &log_.mutex, deadline_ns)) {
    }
    fm_mutex_unlock(&log_.mutex);
}

/* --- Formatting --- */

static const char *level_name(enum fm_log_level level)
{
    switch (level) {
    case FM_LOG_DEBUG:
        return "debug";
    case FM_LOG_INFO:
        return "info";
    case FM_LOG_WARNING:
        return "warning";
    case FM_LOG_ERROR:
        return "error";
    }
    return "unknown";
}

/* The length of a text value, cut at a character's beginning. */
static size_t text_length(const char *text)
{
    size_t length = strnlen(text, FM_LOG_TEXT_BYTES_MAX + 1);
    if (length > FM_LOG_TEXT_BYTES_MAX) {
        length = FM_LOG_TEXT_BYTES_MAX;
        while (length > 0 && ((unsigned char)text[length] & 0xC0u) == 0x80u) {
            length--;
        }
    }
    return length;
}

/* Words stand as they are, everything else in JSON's quotes: a value can neither end its line nor
 * look like another key. */
static void append_plain(struct fm_text *text, struct fm_json_writer *writer, const char *value,
                         size_t length)
{
    bool word = length > 0;
    for (size_t i = 0; i < length && word; i++) {
        unsigned char character = (unsigned char)value[i];
        word = character > ' ' && character < 0x7F && character != '"' && character != '=' &&
               character != '\\';
    }
    if (word) {
        fm_text_append(text, value, length);
    } else {
        fm_json_string_n(writer, value, length);
    }
}

static void append_value(struct fm_text *text, const struct fm_log_field *field, bool json)
{
    struct fm_json_writer writer;
    fm_json_writer_init(&writer, text);
    const char *string = field->value.text != NULL ? field->value.text : "";
    switch (field->kind) {
    case FM_LOG_KIND_TEXT:
        if (json) {
            fm_json_string_n(&writer, string, text_length(string));
        } else {
            append_plain(text, &writer, string, text_length(string));
        }
        break;
    case FM_LOG_KIND_INT:
        fm_json_int(&writer, field->value.integer);
        break;
    case FM_LOG_KIND_UINT:
        fm_json_uint(&writer, field->value.count);
        break;
    case FM_LOG_KIND_NUMBER:
        fm_json_number(&writer, field->value.number);
        break;
    case FM_LOG_KIND_BOOL:
        fm_json_bool(&writer, field->value.flag);
        break;
    }
}

static void append_field(struct fm_text *text, const struct fm_log_field *field, bool json)
{
    if (json) {
        struct fm_json_writer writer;
        fm_json_writer_init(&writer, text);
        fm_text_append_char(text, ',');
        fm_json_key(&writer, field->key);
    } else {
        fm_text_append_char(text, ' ');
        fm_text_append_string(text, field->key);
        fm_text_append_char(text, '=');
    }
    append_value(text, field, json);
}

static void append_record(struct fm_text *text, bool json, enum fm_log_level level,
                          const char *event, const struct fm_log_field *fields, size_t count,
                          uint64_t suppressed)
{
    char when[40];
    fm_os_format_time(fm_os_wall_ns(), when, sizeof(when));
    if (json) {
        fm_text_append_format(text, "{\"time\":\"%s\",\"level\":\"%s\",\"event\":\"%s\"", when,
                              level_name(level), event);
    } else {
        fm_text_append_format(text, "%s %-7s %s", when, level_name(level), event);
    }
    for (size_t i = 0; i < count; i++) {
        append_field(text, &fields[i], json);
    }
    if (suppressed > 0) {
        append_field(text, &FM_LOG_UINT("suppressed", suppressed), json);
    }
    fm_text_append_string(text, json ? "}\n" : "\n");
}

/* --- The latest records --- */

/* Behind the mutex. Records that are too long, or for which there is no memory, are left out: the
 * log itself has them. */
static void recent_put(enum fm_log_level level, const char *event,
                       const struct fm_log_field *fields, size_t count, uint64_t suppressed)
{
    struct fm_text *text = &log_.recent[log_.recent_count % FM_LOG_RECENT_MAX];
    fm_text_clear(text);
    append_record(text, true, level, event, fields, count, suppressed);
    if (text->failed || text->length > FM_LOG_RECENT_BYTES_MAX) {
        fm_text_deinit(text);
    } else {
        log_.recent_count++;
    }
}

void fm_log_recent(struct fm_text *text)
{
    if (!atomic_load(&running)) {
        return;
    }
    fm_mutex_lock(&log_.mutex);
    uint64_t held = log_.recent_count < FM_LOG_RECENT_MAX ? log_.recent_count : FM_LOG_RECENT_MAX;
    for (uint64_t i = log_.recent_count - held; i < log_.recent_count; i++) {
        const struct fm_text *record = &log_.recent[i % FM_LOG_RECENT_MAX];
        fm_text_append(text, record->data, record->length);
    }
    fm_mutex_unlock(&log_.mutex);
}

/* --- The rate limit --- */

/*
 * A token bucket in one word: the tenth of a second in which it was last filled (high 48 bits) and
 * the tokens (low 16). A tenth is the time of one token.
 */
static bool site_allows(struct fm_log_site *site)
{
    uint64_t now = fm_os_now_ns() / SITE_TOKEN_NS + 1;
    uint_fast64_t old = atomic_load_explicit(&site->allowance, memory_order_relaxed);
    for (;;) {
        uint64_t tokens = old & 0xFFFFu;
        uint64_t elapsed = old == 0 ? FM_LOG_BURST : now - (old >> 16);
        tokens = elapsed + tokens > FM_LOG_BURST ? FM_LOG_BURST : elapsed + tokens;
        uint64_t left = tokens > 0 ? tokens - 1 : 0;
        if (atomic_compare_exchange_weak(&site->allowance, &old, now << 16 | left)) {
            return tokens > 0;
        }
    }
}

/* Behind the mutex. */
static void record_put(enum fm_log_level level, const char *event,
                       const struct fm_log_field *fields, size_t count, uint64_t suppressed)
{
    bool json = log_.options.format == FM_LOG_FORMAT_JSON;
    recent_put(level, event, fields, count, suppressed);
    size_t before = log_.pending.length;
    if (before < FM_LOG_PENDING_BYTES_MAX) {
        if (log_.dropped > 0) {
            append_record(&log_.pending, json, FM_LOG_WARNING, "log_dropped",
                          &FM_LOG_UINT("records", log_.dropped), 1, 0);
        }
        append_record(&log_.pending, json, level, event, fields, count, suppressed);
        log_.dropped = 0;
        if (log_.pending.failed) {
            log_.pending.failed = false;
            log_.pending.length = before;
            log_.dropped = 1;
        }
        fm_condition_signal(&log_.condition);
    } else {
        log_.dropped++;
    }
}

/* Whether the place has not even tried for a second. */
static bool site_rests(const struct fm_log_site *site)
{
    uint64_t tenth = atomic_load_explicit(&site->allowance, memory_order_relaxed) >> 16;
    return fm_os_now_ns() / SITE_TOKEN_NS + 1 >= tenth + FM_LOG_PER_SECOND;
}

/* Behind the mutex. A record was left out: somebody has to say so even if the place logs nothing
 * any more. */
static void quiet_add(struct fm_log_site *site, enum fm_log_level level, const char *event)
{
    if (site->listed) {
        return;
    }
    site->listed = true;
    site->level = level;
    site->event = event;
    site->next = log_.quiet;
    if (log_.quiet == NULL) {
        log_.quiet_due_ns = fm_os_now_ns() + QUIET_NS;
        fm_condition_signal(&log_.condition);
    }
    log_.quiet = site;
}

/* Behind the mutex. Says how many records were left out where it is quiet by now, or everywhere. */
static void quiet_tell(bool all)
{
    struct fm_log_site *site = log_.quiet;
    log_.quiet = NULL;
    log_.quiet_due_ns = fm_os_now_ns() + QUIET_NS;
    while (site != NULL) {
        struct fm_log_site *next = site->next;
        site->listed = false;
        if (all || site_rests(site)) {
            uint64_t count = atomic_exchange(&site->suppressed, 0);
            const struct fm_log_field fields[] = {FM_LOG_TEXT("of", site->event),
                                                  FM_LOG_UINT("records", count)};
            if (count > 0) {
                record_put(site->level, "log_suppressed", fields, 2, 0);
            }
        } else {
            quiet_add(site, site->level, site->event);
        }
        site = next;
    }
}

void fm_log_write(struct fm_log_site *site, enum fm_log_level level, const char *event,
                  const struct fm_log_field *fields, size_t count)
{
    if (!atomic_load_explicit(&running, memory_order_acquire) || level < log_.options.level) {
        return;
    }
    if (!site_allows(site)) {
        if (atomic_fetch_add(&site->suppressed, 1) == 0) {
            fm_mutex_lock(&log_.mutex);
            quiet_add(site, level, event);
            fm_mutex_unlock(&log_.mutex);
        }
        return;
    }
    uint64_t suppressed = atomic_exchange(&site->suppressed, 0);
    fm_mutex_lock(&log_.mutex);
    record_put(level, event, fields, count, suppressed);
    fm_mutex_unlock(&log_.mutex);
}

/* --- The thread --- */

static bool quiet_is_due(void)
{
    return log_.quiet != NULL && fm_os_now_ns() >= log_.quiet_due_ns;
}

static void writer_wait(void)
{
    if (log_.quiet == NULL) {
        fm_condition_wait(&log_.condition, &log_.mutex);
    } else {
        (void)fm_condition_wait_until(&log_.condition, &log_.mutex, log_.quiet_due_ns);
    }
}

static void writer_run(void *argument)
{
    (void)argument;
    struct fm_text taken = {0};
    fm_mutex_lock(&log_.mutex);
    for (;;) {
        while (log_.pending.length == 0 && !log_.stopping && !quiet_is_due()) {
            writer_wait();
        }
        if (log_.quiet != NULL && (log_.stopping || quiet_is_due())) {
            quiet_tell(log_.stopping);
        }
        if (log_.pending.length == 0 && log_.stopping) {
            break;
        }
        struct fm_text empty = taken;
        taken = log_.pending;
        log_.pending = empty;
        fm_text_clear(&log_.pending);
        log_.writing = true;
        fm_mutex_unlock(&log_.mutex);
        write_all(taken.data, taken.length);
        fm_mutex_lock(&log_.mutex);
        log_.writing = false;
        fm_condition_broadcast(&log_.written);
    }
    fm_mutex_unlock(&log_.mutex);
    fm_text_deinit(&taken);
}
