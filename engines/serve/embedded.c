/*
 * The life of a server inside somebody else's program. See embedded.h.
 */
#include "engines/serve/embedded.h"

#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/log.h"
#include "host/os/os.h"

enum { HTTP, GRPC, METRICS };

/* --- the loops, from other threads -------------------------------------------------------------
 */

/* Threads are spread over the loops in the order in which they come. */
static uint32_t thread_number(void)
{
    static _Atomic uint32_t threads;
    static _Thread_local uint32_t number; /* from 1 on; 0: not numbered yet */
    if (number == 0) {
        number = atomic_fetch_add_explicit(&threads, 1, memory_order_relaxed) + 1;
    }
    return number - 1;
}

struct fm_serve_loop *fm_embedded_enter(struct fm_server *server)
{
    uint32_t index = thread_number() % server->loop_count;
    struct fm_embedded_gate *gate = &server->gates[index];
    /* In one order with what `close_gates` does: either it sees us, or we see that it is closed. */
    atomic_fetch_add(&gate->posting, 1);
    if (atomic_load(&server->closed)) {
        atomic_fetch_sub(&gate->posting, 1);
        return NULL;
    }
    return &server->serve->loops[index];
}

void fm_embedded_leave(struct fm_server *server, const struct fm_serve_loop *loop)
{
    atomic_fetch_sub(&server->gates[loop->index].posting, 1);
}

static void close_gates(struct fm_server *server)
{
    atomic_store(&server->closed, true);
    for (uint32_t i = 0; i < server->loop_count; i++) {
        while (atomic_load(&server->gates[i].posting) > 0) {
            /* Posting takes less than a microsecond, what the observer writes some milliseconds. */
            fm_sleep_until(fm_os_now_ns() + 10000);
        }
    }
}

struct fm_serve_loop *fm_embedded_here(struct fm_server *server)
{
    for (uint32_t i = 0; i < server->loop_count; i++) {
        if (fm_loop_is_here(server->serve->loops[i].loop)) {
            return &server->serve->loops[i];
        }
    }
    return NULL;
}

int fm_embedded_stopped(struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_EUNAVAILABLE, "the server is being stopped");
}

/* --- the beginning -----------------------------------------------------------------------------
 */

static void on_ready(struct fm_serve *serve)
{
    struct fm_server *server = serve->owner.context;
    fm_mutex_lock(&server->lock);
    server->loaded = true;
    fm_condition_broadcast(&server->changed);
    fm_mutex_unlock(&server->lock);
}

static void on_draining(struct fm_serve *serve)
{
    (void)serve; /* whoever stops it waits for its end, as long as they like */
}

static void main_loop_run(void *argument)
{
    struct fm_server *server = argument;
    fm_loop_run(server->serve->loops[0].loop);
    fm_mutex_lock(&server->lock);
    server->ended = true;
    fm_condition_broadcast(&server->changed);
    fm_mutex_unlock(&server->lock);
}

static void on_drain_task(struct fm_loop_task *task)
{
    struct fm_server *server = FM_CONTAINER_OF(task, struct fm_server, drain_task);
    if (!fm_serve_is_draining(server->serve)) {
        fm_serve_drain(server->serve);
    }
}

static void ports_note(struct fm_server *server)
{
    const struct fm_serve_loop *loop = &server->serve->loops[0];
    server->ports[HTTP] = loop->http != NULL ? fm_http_server_port(loop->http) : 0;
    server->ports[GRPC] = loop->grpc != NULL ? fm_grpc_server_port(loop->grpc) : 0;
    server->ports[METRICS] = loop->metrics != NULL ? fm_http_server_port(loop->metrics) : 0;
}

static int run_start(struct fm_server *server, struct fm_error *reterr)
{
    server->loop_count = server->serve->loop_count;
    server->gates = fm_alloc_zero(server->loop_count, sizeof *server->gates);
    if (server->gates == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while starting");
    }
    int status = fm_serve_start(server->serve, reterr);
    if (status == 0) {
        ports_note(server);
        status = fm_thread_start(&server->thread, "fm-loop-0", main_loop_run, server);
        if (status != 0) {
            (void)fm_error_set(reterr, status, "cannot start the thread of event loop 0");
        }
    }
    return status;
}

/* The main loop has ended: all that is left, but what still computes. */
static int finish(struct fm_server *server, struct fm_error *reterr)
{
    struct fm_serve *serve = server->serve;
    fm_thread_join(&server->thread);
    close_gates(server);
    /* Calls that came between the end of the loop and now. */
    fm_loop_run_posted(serve->loops[0].loop);
    uint32_t down = fm_pool_down_count(serve->pool);
    if (down > 0) {
        return fm_error_set(reterr, FM_EUNAVAILABLE,
                            "everything was answered, but %u accelerators do not answer: their "
                            "models have not returned, and what they use cannot be released",
                            (unsigned)down);
    }
    fm_serve_log_stopped(serve);
    server->serve = NULL;
    fm_serve_destroy(serve);
    return 0;
}

static void server_free(struct fm_server *server)
{
    fm_condition_deinit(&server->changed);
    fm_mutex_deinit(&server->lock);
    fm_free(server->gates);
    fm_free(server);
}

/* Waits for the first loading. Non-zero: it did not come to pass, and the server has ended. */
static int wait_loaded(struct fm_server *server, struct fm_error *reterr)
{
    fm_mutex_lock(&server->lock);
    while (!server->loaded && !server->ended) {
        fm_condition_wait(&server->changed, &server->lock);
    }
    bool loaded = server->loaded;
    fm_mutex_unlock(&server->lock);
    if (loaded) {
        return 0;
    }
    int status = server->serve->failure.status;
    if (reterr != NULL) {
        *reterr = server->serve->failure;
    }
    FM_ASSERT(status != 0);
    return status;
}

int fm_embedded_start(const struct fm_serve_options *options, void (*release)(void *context),
                      void *context, struct fm_server **ret_server, struct fm_error *reterr)
{
    struct fm_server *server = fm_alloc_zero(1, sizeof *server);
    if (server == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while starting");
    }
    const struct fm_serve_owner owner = {
        .ready = on_ready, .draining = on_draining, .context = server};
    server->options = *options;
    server->drain_task.run = on_drain_task;
    fm_mutex_init(&server->lock);
    fm_condition_init(&server->changed);
    int status = fm_serve_create(&server->options, &owner, &server->serve, reterr);
    if (status != 0) {
        server_free(server);
        return status;
    }
    status = run_start(server, reterr);
    if (status != 0) {
        fm_serve_destroy(server->serve);
        server_free(server);
        return status;
    }
    status = wait_loaded(server, reterr);
    if (status != 0) {
        /* Nobody else knows of it. What hangs while it is measured keeps its memory. */
        if (finish(server, NULL) == 0) {
            server_free(server);
        }
        return status;
    }
    server->release = release;
    server->context = context;
    *ret_server = server;
    return 0;
}

/* --- the end -----------------------------------------------------------------------------------
 */

/* False: not by then. */
static bool wait_ended(struct fm_server *server, uint64_t timeout_ns)
{
    uint64_t now_ns = fm_os_now_ns();
    uint64_t until_ns = timeout_ns > UINT64_MAX - now_ns ? UINT64_MAX : now_ns + timeout_ns;
    fm_mutex_lock(&server->lock);
    if (!server->draining) {
        server->draining = true;
        fm_loop_post(server->serve->loops[0].loop, &server->drain_task);
    }
    bool waits = true;
    while (!server->ended && waits) {
        if (until_ns == UINT64_MAX) {
            fm_condition_wait(&server->changed, &server->lock);
        } else {
            waits = fm_condition_wait_until(&server->changed, &server->lock, until_ns);
        }
    }
    bool ended = server->ended;
    fm_mutex_unlock(&server->lock);
    return ended;
}

int fm_server_stop(struct fm_server *server, uint64_t timeout_ns, struct fm_error *reterr)
{
    if (server->serve == NULL) {
        return 0;
    }
    if (!atomic_load(&server->closed)) {
        if (fm_embedded_here(server) != NULL) {
            return fm_error_set(reterr, FM_EINVAL,
                                "a server cannot be stopped by its own callback: it would wait "
                                "for itself");
        }
        if (!wait_ended(server, timeout_ns)) {
            return fm_error_set(reterr, FM_EDEADLINE,
                                "not everything that was under way was answered within %.3g s; "
                                "the server goes on ending, and can be waited for again",
                                (double)timeout_ns / 1e9);
        }
    }
    int status = finish(server, reterr);
    if (status == 0 && server->release != NULL) {
        server->release(server->context);
        server->release = NULL;
    }
    return status;
}

void fm_server_free(struct fm_server *server)
{
    if (server != NULL) {
        FM_ASSERT(server->serve == NULL);
        server_free(server);
    }
}

uint16_t fm_server_port(const struct fm_server *server, const char *protocol)
{
    static const char *const protocols[] = {
        [HTTP] = "http", [GRPC] = "grpc", [METRICS] = "metrics"};
    for (size_t i = 0; i < FM_COUNT_OF(protocols); i++) {
        if (strcmp(protocol, protocols[i]) == 0) {
            return server->ports[i];
        }
    }
    return 0;
}
