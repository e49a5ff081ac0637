/*
 * Taking another process's place. See takeover.h.
 */
#include "engines/serve/takeover.h"

#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/upgrade_message.h"
#include "host/os/file.h"
#include "host/os/log.h"
#include "host/os/os.h"
#include "host/os/tree.h"

/* What the old process says at the beginning it says at once. */
#define STATE_NS UINT64_C(30000000000)
#define TELL_NS  UINT64_C(5000000000)
#define LOG_NS   UINT64_C(1000000000)
/* Recordings of processes that took over from each other lie side by side. */
#define RECORDS_MAX    10000
#define MODEL_FILE_MAX ((size_t)4 << 30)

/* A model that was loaded with a configuration, or files, of its own. */
struct fm_takeover_load {
    struct fm_catalog_operation operation;
    struct fm_takeover *takeover;
    const char *name;
    const char *directory; /* of the old process; "": none */
    const char *config;
    struct fm_catalog_file files[FM_CATALOG_FILES_MAX];
    size_t file_count;
};

/* --- What the old process says --- */

static int state_count(struct fm_takeover *takeover, size_t *ret_answers, size_t *ret_models,
                       size_t *ret_loads)
{
    size_t offset = 0;
    const char *protocol = fm_upgrade_next(&takeover->state, &offset);
    if (protocol == NULL || strcmp(protocol, FM_UPGRADE_PROTOCOL) != 0) {
        return FM_EUNSUPPORTED;
    }
    for (;;) {
        const char *kind = fm_upgrade_next(&takeover->state, &offset);
        const char *first = fm_upgrade_next(&takeover->state, &offset);
        const char *second = fm_upgrade_next(&takeover->state, &offset);
        if (kind == NULL) {
            return 0;
        }
        if (first == NULL || second == NULL) {
            return FM_ECORRUPT;
        }
        *ret_answers += strcmp(kind, "answers") == 0 ? 1 : 0;
        *ret_models += strcmp(kind, "load") == 0 ? 1 : 0;
        *ret_loads += strcmp(kind, "config") == 0 ? 1 : 0;
    }
}

static int state_read(struct fm_takeover *takeover)
{
    size_t answers = 0;
    size_t models = 0;
    size_t loads = 0;
    int status = state_count(takeover, &answers, &models, &loads);
    if (status != 0) {
        return status;
    }
    takeover->answers = fm_alloc_zero(answers + 1, sizeof(char *));
    takeover->load_models = fm_alloc_zero(models + 1, sizeof(char *));
    takeover->loads = fm_alloc_zero(loads + 1, sizeof(struct fm_takeover_load));
    if (takeover->answers == NULL || takeover->load_models == NULL || takeover->loads == NULL) {
        return FM_ENOMEM;
    }
    size_t offset = 0;
    uint32_t model_count = 0;
    (void)fm_upgrade_next(&takeover->state, &offset);
    for (;;) {
        const char *kind = fm_upgrade_next(&takeover->state, &offset);
        const char *first = fm_upgrade_next(&takeover->state, &offset);
        const char *second = fm_upgrade_next(&takeover->state, &offset);
        if (kind == NULL) {
            break;
        }
        if (strcmp(kind, "answers") == 0) {
            takeover->answers[takeover->answer_count++] = first;
        } else if (strcmp(kind, "load") == 0) {
            takeover->load_models[model_count++] = first;
        } else if (strcmp(kind, "config") == 0) {
            takeover->loads[takeover->load_count++] =
                (struct fm_takeover_load){.takeover = takeover, .name = first, .directory = second};
        } else if (strcmp(kind, "text") == 0 && takeover->load_count > 0) {
            takeover->loads[takeover->load_count - 1].config = first;
        }
    }
    if (takeover->options.control == FM_SERVE_CONTROL_EXPLICIT) {
        takeover->options.load_models = takeover->load_models;
        takeover->options.load_model_count = model_count;
    }
    return 0;
}

/* The old process goes on writing to its own file. *path is NULL, or becomes one beside it. */
static int record_path_choose(const char **path, char room[FM_TAKEOVER_PATH_SIZE],
                              struct fm_error *reterr)
{
    struct fm_file_facts facts;
    if (*path == NULL) {
        return 0;
    }
    for (unsigned i = 2; i < RECORDS_MAX; i++) {
        int length = snprintf(room, FM_TAKEOVER_PATH_SIZE, "%s.%u", *path, i);
        if (length < 0 || length >= FM_TAKEOVER_PATH_SIZE) {
            break;
        }
        if (fm_file_stat(room, &facts, NULL) == 0 && facts.kind == FM_FILE_ABSENT) {
            *path = room;
            return 0;
        }
    }
    return fm_error_set(reterr, FM_EEXIST, "there is no free name for a recording beside '%.200s'",
                        *path);
}

int fm_takeover_open(struct fm_takeover *takeover, const struct fm_serve_options **options,
                     struct fm_error *reterr)
{
    takeover->channel = fm_predecessor_find(&takeover->sockets);
    if (takeover->channel < 0) {
        return 0;
    }
    takeover->active = true;
    takeover->waits = true;
    takeover->options = **options;
    *options = &takeover->options;
    enum fm_upgrade_kind kind = FM_UPGRADE_STATE;
    int status =
        fm_upgrade_receive(takeover->channel, &kind, &takeover->state, fm_os_now_ns() + STATE_NS);
    status = status == 0 && kind != FM_UPGRADE_STATE ? FM_ECORRUPT : status;
    status = status == 0 ? state_read(takeover) : status;
    if (status == FM_EUNSUPPORTED) {
        return fm_error_set(reterr, status,
                            "the running server hands over in a way that this version does not "
                            "know: stop it, and start this one");
    }
    if (status != 0) {
        return fm_error_set(reterr, status, "cannot read what the running server hands over: %s",
                            fm_status_text(status));
    }
    status = record_path_choose(&takeover->options.record_path, takeover->record_path, reterr);
    return status != 0 ? status
                       : record_path_choose(&takeover->options.payload_path, takeover->payload_path,
                                            reterr);
}

/* --- What it says later --- */

static void on_told(struct fm_loop_task *task);

static void listen_to_it(void *argument)
{
    struct fm_takeover *takeover = argument;
    enum fm_upgrade_kind kind = FM_UPGRADE_GO;
    int status = fm_upgrade_receive(takeover->channel, &kind, &takeover->regions, 0);
    takeover->told_status = status == 0 && kind != FM_UPGRADE_GO ? FM_ECORRUPT : status;
    fm_loop_post(takeover->serve->loops[0].loop, &takeover->told);
}

int fm_takeover_start(struct fm_takeover *takeover, struct fm_serve *serve, struct fm_error *reterr)
{
    if (!takeover->active) {
        return 0;
    }
    takeover->serve = serve;
    takeover->told.run = on_told;
    int status = fm_thread_start(&takeover->thread, "fm-upgrade", listen_to_it, takeover);
    return status == 0 ? 0
                       : fm_error_set(reterr, status,
                                      "cannot start the thread that listens to the running server");
}

/* By their keys: what the old process has mapped although nothing has that key any more stays with
 * it. */
static void regions_register(struct fm_takeover *takeover)
{
    size_t offset = 0;
    for (;;) {
        struct fm_error error = {0};
        const char *name = fm_upgrade_next(&takeover->regions, &offset);
        const char *key = fm_upgrade_next(&takeover->regions, &offset);
        const char *from = fm_upgrade_next(&takeover->regions, &offset);
        const char *size = fm_upgrade_next(&takeover->regions, &offset);
        struct fm_messages_region region = {.name = name, .key = key};
        if (size == NULL) {
            return;
        }
        if (fm_parse_uint64(from, &region.offset) != 0 ||
            fm_parse_uint64(size, &region.size) != 0 ||
            fm_shared_regions_register(&takeover->serve->regions, &region, &error) != 0) {
            fm_log(FM_LOG_WARNING, "region_lost", FM_LOG_TEXT("region", name),
                   FM_LOG_TEXT("reason", error.text),
                   FM_LOG_TEXT("next", "requests that name it are refused"));
        }
    }
}

static void on_told(struct fm_loop_task *task)
{
    struct fm_takeover *takeover = FM_CONTAINER_OF(task, struct fm_takeover, told);
    struct fm_error error = {0};
    fm_thread_join(&takeover->thread);
    if (takeover->ended || fm_serve_is_draining(takeover->serve)) {
        return;
    }
    if (takeover->told_status != 0) {
        (void)fm_error_set(&error, FM_EUNAVAILABLE,
                           "the server whose place this one was to take has gone, or does not want "
                           "it any more");
        fm_serve_fail(takeover->serve, &error);
        return;
    }
    regions_register(takeover);
    fm_serve_begin(takeover->serve);
}

static int tell(struct fm_takeover *takeover, enum fm_upgrade_kind kind, const char *string)
{
    struct fm_text text = {0};
    if (string != NULL) {
        fm_upgrade_add(&text, string);
    }
    int status = fm_upgrade_send(takeover->channel, kind, &text, fm_os_now_ns() + TELL_NS);
    fm_text_deinit(&text);
    return status;
}

void fm_takeover_begun(struct fm_takeover *takeover, const struct fm_error *error)
{
    if (fm_serve_is_draining(takeover->serve)) {
        return;
    }
    if (error != NULL) {
        fm_serve_fail(takeover->serve, error);
        return;
    }
    takeover->waits = false;
    takeover->done(takeover->serve);
    /* When nobody hears it the old process has gone meanwhile, and this one is the server. */
    (void)tell(takeover, FM_UPGRADE_SERVING, NULL);
    fm_channel_close(takeover->channel);
    takeover->channel = -1;
}

/* --- Loading --- */

/* Everything that the old process answers for is there. */
static void loads_done(struct fm_takeover *takeover)
{
    struct fm_serve *serve = takeover->serve;
    struct fm_error error = {0};
    struct fm_error reason = {0};
    if (takeover->load_error.status != 0) {
        (void)fm_error_set(&error, FM_EUNAVAILABLE,
                           "the running server answers for a model that this one cannot load: %s",
                           takeover->load_error.text);
        fm_serve_fail(serve, &error);
        return;
    }
    for (size_t i = 0; i < takeover->answer_count; i++) {
        struct fm_catalog_entry *entry = NULL;
        if (fm_catalog_view_find(serve->loops[0].reader.view, takeover->answers[i], 0, &entry,
                                 &reason) != 0) {
            (void)fm_error_set(&error, FM_EUNAVAILABLE,
                               "the running server answers for model '%.100s', and this one does "
                               "not: %.300s",
                               takeover->answers[i], reason.text);
            fm_serve_fail(serve, &error);
            return;
        }
    }
    if (tell(takeover, FM_UPGRADE_READY, NULL) != 0) {
        /* The thread that listens finds out why, and ends this process. */
        return;
    }
    fm_log(FM_LOG_INFO, "ready_to_take_over",
           FM_LOG_UINT("models", serve->loops[0].reader.view->counts[FM_CATALOG_READY]));
}

static void load_free(struct fm_takeover_load *load)
{
    for (size_t i = 0; i < load->file_count; i++) {
        fm_free((char *)load->files[i].path);
        fm_free((void *)load->files[i].data);
    }
    load->file_count = 0;
}

static void on_loaded(struct fm_catalog_operation *operation)
{
    struct fm_takeover_load *load = operation->context;
    struct fm_takeover *takeover = load->takeover;
    load_free(load);
    takeover->loads_pending--;
    if (takeover->load_error.status == 0) {
        takeover->load_error = operation->error;
    }
    if (takeover->loads_pending == 0 && !fm_serve_is_draining(takeover->serve)) {
        loads_done(takeover);
    }
}

static int file_read(void *context, const char *path, uint64_t size)
{
    struct fm_takeover_load *load = context;
    char whole[4096];
    char *data = NULL;
    size_t length = 0;
    (void)size;
    if (load->file_count == FM_CATALOG_FILES_MAX) {
        return FM_ELIMIT;
    }
    int status = fm_path_join(whole, sizeof(whole), load->directory, path);
    status = status == 0 ? fm_file_read(whole, MODEL_FILE_MAX, &data, &length, NULL) : status;
    if (status == 0) {
        load->files[load->file_count++] =
            (struct fm_catalog_file){.path = fm_strdup(path), .data = data, .size = length};
        status = load->files[load->file_count - 1].path != NULL ? 0 : FM_ENOMEM;
    }
    return status;
}

/* What clients sent with a load is read from where the old process keeps it. */
static int load_begin(struct fm_takeover *takeover, struct fm_takeover_load *load,
                      struct fm_error *reterr)
{
    const struct fm_tree_options all = {.hidden = true};
    int status = 0;
    if (load->config == NULL) {
        return fm_error_set(reterr, FM_ECORRUPT,
                            "the running server gives no configuration for "
                            "model '%.200s'",
                            load->name);
    }
    if (load->directory[0] != '\0') {
        status = fm_tree_walk(load->directory, &all, file_read, load, reterr);
    }
    if (status != 0) {
        load_free(load);
        return fm_error_set(reterr, status,
                            "cannot read the files of model '%.200s' from '%.200s': %s", load->name,
                            load->directory, fm_status_text(status));
    }
    load->operation = (struct fm_catalog_operation){.kind = FM_CATALOG_LOAD,
                                                    .name = load->name,
                                                    .config = load->config,
                                                    .config_size = strlen(load->config),
                                                    .files = load->files,
                                                    .file_count = load->file_count,
                                                    .reader = &takeover->serve->loops[0].reader,
                                                    .done = on_loaded,
                                                    .context = load};
    takeover->loads_pending++;
    fm_catalog_submit(takeover->serve->catalog, &load->operation);
    return 0;
}

void fm_takeover_loaded(struct fm_takeover *takeover)
{
    int status = 0;
    struct fm_error error = {0};
    if (takeover->loaded) {
        return;
    }
    takeover->loaded = true;
    /* One more, so that none is the last before all were begun. */
    takeover->loads_pending++;
    for (size_t i = 0; i < takeover->load_count && status == 0; i++) {
        status = load_begin(takeover, &takeover->loads[i], &error);
    }
    takeover->loads_pending--;
    if (status != 0) {
        fm_serve_fail(takeover->serve, &error);
    } else if (takeover->loads_pending == 0) {
        loads_done(takeover);
    }
}

/* --- The end --- */

void fm_takeover_tell_failed(struct fm_takeover *takeover, const struct fm_error *error)
{
    if (takeover->waits && takeover->channel >= 0) {
        fm_log_flush(LOG_NS); /* whoever hears of it ends this process */
        (void)tell(takeover, FM_UPGRADE_FAILED, error != NULL ? error->text : "it was told to end");
    }
}

void fm_takeover_end(struct fm_takeover *takeover, const struct fm_error *error)
{
    takeover->ended = true;
    if (takeover->channel < 0) {
        return;
    }
    fm_takeover_tell_failed(takeover, error);
    fm_channel_wake(takeover->channel);
    fm_thread_join(&takeover->thread);
    if (takeover->serve != NULL) {
        fm_loop_run_posted(takeover->serve->loops[0].loop);
    }
    fm_channel_close(takeover->channel);
    takeover->channel = -1;
}

void fm_takeover_close(struct fm_takeover *takeover)
{
    fm_handed_sockets_close(&takeover->sockets);
    for (size_t i = 0; i < takeover->load_count; i++) {
        load_free(&takeover->loads[i]);
    }
    fm_free(takeover->loads);
    fm_free(takeover->load_models);
    fm_free(takeover->answers);
    fm_text_deinit(&takeover->regions);
    fm_text_deinit(&takeover->state);
}
