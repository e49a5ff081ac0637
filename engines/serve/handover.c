/*
 * Handing over to a new process. See handover.h.
 */
#include "engines/serve/handover.h"

#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "engines/serve/upgrade_message.h"
#include "host/os/log.h"
#include "host/os/os.h"

/* Between its being ready and its taking connections nothing takes long. */
#define GO_NS UINT64_C(10000000000)

/* --- What the new process has to know --- */

static void entry_add(struct fm_text *state, const struct fm_catalog_entry *entry, bool explicit)
{
    const char *directory = NULL;
    const char *config = fm_catalog_entry_override(entry, &directory);
    fm_upgrade_add(state, "answers");
    fm_upgrade_add(state, entry->name);
    fm_upgrade_add(state, "");
    if (explicit && config == NULL) {
        fm_upgrade_add(state, "load");
        fm_upgrade_add(state, entry->name);
        fm_upgrade_add(state, "");
    } else if (explicit) {
        fm_upgrade_add(state, "config");
        fm_upgrade_add(state, entry->name);
        fm_upgrade_add(state, directory != NULL ? directory : "");
        fm_upgrade_add(state, "text");
        fm_upgrade_add(state, config);
        fm_upgrade_add(state, "");
    }
}

static void state_write(const struct fm_serve *serve, struct fm_text *state)
{
    const struct fm_catalog_view *view = serve->loops[0].reader.view;
    const char *last = NULL;
    fm_upgrade_add(state, FM_UPGRADE_PROTOCOL);
    for (size_t i = 0; i < view->row_count; i++) {
        const struct fm_catalog_entry *entry = view->rows[i].entry;
        if (entry != NULL && (last == NULL || strcmp(last, entry->name) != 0)) {
            entry_add(state, entry, serve->options->control == FM_SERVE_CONTROL_EXPLICIT);
            last = entry->name;
        }
    }
}

static int regions_write(struct fm_serve *serve, struct fm_text *text, struct fm_error *reterr)
{
    struct fm_messages_region *rows = NULL;
    size_t count = 0;
    char number[24];
    struct fm_arena arena;
    fm_arena_init(&arena, 0);
    int status = fm_shared_regions_list(&serve->regions, NULL, &arena, &rows, &count, reterr);
    for (size_t i = 0; status == 0 && i < count; i++) {
        fm_upgrade_add(text, rows[i].name);
        fm_upgrade_add(text, rows[i].key);
        (void)snprintf(number, sizeof(number), "%llu", (unsigned long long)rows[i].offset);
        fm_upgrade_add(text, number);
        (void)snprintf(number, sizeof(number), "%llu", (unsigned long long)rows[i].size);
        fm_upgrade_add(text, number);
    }
    fm_arena_deinit(&arena);
    return status;
}

/* --- The conversation, on a thread of its own --- */

static bool is_cancelled(struct fm_handover *handover)
{
    fm_mutex_lock(&handover->lock);
    bool cancelled = handover->cancelled;
    fm_mutex_unlock(&handover->lock);
    return cancelled;
}

static int launch(struct fm_handover *handover)
{
    struct fm_successor successor = {.channel = -1};
    int status = fm_successor_start(&successor, &handover->sockets, &handover->error);
    fm_handed_sockets_close(&handover->sockets);
    if (status == 0) {
        fm_mutex_lock(&handover->lock);
        handover->successor = successor;
        fm_mutex_unlock(&handover->lock);
        handover->process = successor.process;
    }
    return status;
}

static const char ended_early[] = "the new process ended before it was ready";

/* Waits for a message of that kind. */
static int expect(struct fm_handover *handover, enum fm_upgrade_kind wanted, uint64_t deadline_ns)
{
    struct fm_text text = {0};
    size_t offset = 0;
    enum fm_upgrade_kind kind = wanted;
    struct fm_error *error = &handover->error;
    int status = fm_upgrade_receive(handover->successor.channel, &kind, &text, deadline_ns);
    const char *reason = status == 0 ? fm_upgrade_next(&text, &offset) : NULL;
    if (status == FM_EDEADLINE) {
        (void)fm_error_set(error, status, "the new process was not ready after %.1f s",
                           (double)(fm_os_now_ns() - handover->start_ns) / 1e9);
    } else if (status == FM_ECANCELLED) {
        (void)fm_error_set(error, status, "%s", ended_early);
    } else if (status != 0) {
        (void)fm_error_set(error, status, "cannot read what the new process says: %s",
                           fm_status_text(status));
    } else if (kind == FM_UPGRADE_FAILED) {
        status = fm_error_set(error, FM_EUNAVAILABLE, "the new process cannot serve: %.400s",
                              reason != NULL ? reason : "it does not say why");
    } else if (kind != wanted) {
        status = fm_error_set(error, FM_ECORRUPT, "the new process says something unexpected");
    }
    fm_text_deinit(&text);
    return status;
}

static int tell(struct fm_handover *handover, enum fm_upgrade_kind kind, const struct fm_text *text,
                uint64_t deadline_ns)
{
    int status = fm_upgrade_send(handover->successor.channel, kind, text, deadline_ns);
    if (status == FM_ECANCELLED) {
        (void)fm_error_set(&handover->error, status, "%s", ended_early);
    } else if (status != 0) {
        (void)fm_error_set(&handover->error, status,
                           "the new process does not listen to what it should do: %s",
                           fm_status_text(status));
    }
    return status;
}

static int go(struct fm_handover *handover)
{
    struct fm_serve *serve = handover->serve;
    struct fm_text text = {0};
    uint64_t deadline_ns = fm_os_now_ns() + GO_NS;
    /* From here on the list is the new process's. */
    fm_shared_regions_freeze(&serve->regions, true);
    int status = regions_write(serve, &text, &handover->error);
    if (status == 0 && is_cancelled(handover)) {
        status = fm_error_set(&handover->error, FM_ECANCELLED, "the server ends");
    }
    if (status == 0) {
        handover->went = true;
        status = tell(handover, FM_UPGRADE_GO, &text, deadline_ns);
    }
    fm_text_deinit(&text);
    status = status == 0 ? expect(handover, FM_UPGRADE_SERVING, deadline_ns) : status;
    if (status != 0) {
        fm_shared_regions_freeze(&serve->regions, false);
    }
    return status;
}

/* Nothing came of it. */
static void abandon(struct fm_handover *handover)
{
    char how[60] = "";
    bool started = handover->successor.process > 0;
    fm_mutex_lock(&handover->lock);
    bool cancelled = handover->cancelled;
    struct fm_successor successor = handover->successor;
    handover->successor = (struct fm_successor){.channel = -1};
    fm_mutex_unlock(&handover->lock);
    if (cancelled && handover->went) {
        /* It may have connections already, and answers what came over them. */
        fm_successor_stop(&successor);
    } else if (started) {
        fm_successor_end(&successor, handover->went, how, sizeof(how));
    }
    if (cancelled) {
        (void)fm_error_set(&handover->error, FM_ECANCELLED, "this server is to end");
    } else if (how[0] != '\0' && handover->error.status == FM_ECANCELLED) {
        size_t length = strlen(handover->error.text);
        (void)snprintf(handover->error.text + length, sizeof(handover->error.text) - length, ": %s",
                       how);
    }
}

static void converse(void *argument)
{
    struct fm_handover *handover = argument;
    int status = launch(handover);
    if (status == 0 && is_cancelled(handover)) {
        status = FM_ECANCELLED;
    }
    status = status == 0 ? tell(handover, FM_UPGRADE_STATE, &handover->state, handover->deadline_ns)
                         : status;
    status = status == 0 ? expect(handover, FM_UPGRADE_READY, handover->deadline_ns) : status;
    status = status == 0 ? go(handover) : status;
    if (status != 0) {
        handover->error.status = status;
        abandon(handover);
    }
    fm_loop_post(handover->serve->loops[0].loop, &handover->over);
}

/* --- The main loop's side --- */

static void finish(struct fm_handover *handover)
{
    fm_thread_join(&handover->thread);
    fm_mutex_deinit(&handover->lock);
    fm_text_deinit(&handover->state);
    handover->running = false;
}

static void on_over(struct fm_loop_task *task)
{
    struct fm_handover *handover = FM_CONTAINER_OF(task, struct fm_handover, over);
    struct fm_serve *serve = handover->serve;
    struct fm_successor successor = handover->successor;
    finish(handover);
    if (handover->error.status == 0 && !fm_serve_is_draining(serve)) {
        fm_successor_release(&successor);
        handover->done(serve, handover->process);
        return;
    }
    if (handover->error.status == 0) {
        /* The end was asked for while the new process had begun. */
        fm_successor_stop(&successor);
        return;
    }
    atomic_store(&serve->handing_over, false);
    fm_log(FM_LOG_ERROR, "upgrade_failed", FM_LOG_TEXT("reason", handover->error.text),
           FM_LOG_TEXT("next", fm_serve_is_draining(serve) ? "ending" : "serving as before"));
    handover->failed(serve);
}

/* Why not now; NULL: nothing is in the way. */
static const char *obstacle(struct fm_handover *handover)
{
    struct fm_serve *serve = handover->serve;
    if (handover->running) {
        return "one is under way";
    }
    if (fm_serve_is_draining(serve)) {
        return "the server is ending";
    }
    if (serve->loading) {
        return "the models of this one are being loaded";
    }
    if (serve->owner.sockets != NULL && serve->loops_begun < serve->loop_count) {
        return "this process has not taken over yet";
    }
    /* The flag first: whoever changes something counts first, and looks at the flag behind that. */
    atomic_store(&serve->handing_over, true);
    if (atomic_load(&serve->changes) > 0) {
        atomic_store(&serve->handing_over, false);
        return "models are being loaded or unloaded";
    }
    return NULL;
}

void fm_handover_begin(struct fm_handover *handover)
{
    struct fm_serve *serve = handover->serve;
    const char *reason = obstacle(handover);
    if (reason != NULL) {
        fm_log(FM_LOG_WARNING, "upgrade_refused", FM_LOG_TEXT("reason", reason),
               FM_LOG_TEXT("next", "going on; ask again later"));
        return;
    }
    handover->error = (struct fm_error){0};
    handover->over.run = on_over;
    handover->cancelled = false;
    handover->went = false;
    handover->process = 0;
    handover->successor = (struct fm_successor){.channel = -1};
    handover->start_ns = fm_os_now_ns();
    handover->deadline_ns = handover->start_ns + serve->options->upgrade_timeout_ns;
    fm_mutex_init(&handover->lock);
    state_write(serve, &handover->state);
    int status = 0;
    for (uint32_t i = 0; i < serve->loop_count && status == 0; i++) {
        status = fm_serve_loop_sockets(&serve->loops[i], &handover->sockets, &handover->error);
    }
    fm_log(FM_LOG_INFO, "upgrading", FM_LOG_UINT("sockets", handover->sockets.count),
           FM_LOG_NUMBER("timeout_s", (double)serve->options->upgrade_timeout_ns / 1e9));
    handover->running = true;
    if (status == 0 && fm_thread_start(&handover->thread, "fm-upgrade", converse, handover) == 0) {
        return;
    }
    fm_handed_sockets_close(&handover->sockets);
    if (status == 0) {
        (void)fm_error_set(&handover->error, FM_EAGAIN, "cannot start a thread");
    }
    fm_loop_post(serve->loops[0].loop, &handover->over);
}

void fm_handover_cancel(struct fm_handover *handover)
{
    if (!handover->running) {
        return;
    }
    fm_mutex_lock(&handover->lock);
    handover->cancelled = true;
    if (handover->successor.channel >= 0) {
        fm_channel_wake(handover->successor.channel);
    }
    fm_mutex_unlock(&handover->lock);
}

void fm_handover_end(struct fm_handover *handover)
{
    if (handover->running) {
        fm_handover_cancel(handover);
        fm_thread_join(&handover->thread);
        fm_loop_run_posted(handover->serve->loops[0].loop);
    }
}
