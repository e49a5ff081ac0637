/*
 * What the files of the serve engine share: server.c (the server as an object), serve.c (the
 * process around it), handover.c and takeover.c (a new process in its place, and the other way
 * round; upgrade_message.c: what they say to each other), loop.c (one event loop and its
 * listeners), http_routes.c and http_infer.c (REST), grpc_service.c and grpc_infer.c (gRPC),
 * inference.c (one inference, whatever brought it; inference_count.c: what is told of it),
 * response_cache.c and payload_recording.c (what is kept of them), control.c (loading and
 * unloading), documents.c (what both protocols say), embedded*.c (the server in another program,
 * its calls), observe.c (metrics, dashboard, trace; picture.c: what they are written from), spans.c
 * (the timeline), guard.c (who may ask what).
 *
 * Thread rule: a fm_serve_loop belongs to its loop's thread; struct fm_serve is constant while
 * requests are served, but for what is atomic or says whose it is.
 */
#ifndef FM_ENGINES_SERVE_SERVE_INTERNAL_H
#define FM_ENGINES_SERVE_SERVE_INTERNAL_H

#include <stdatomic.h>
#include <stddef.h>

#include "core/proto/oip_grpc.h"
#include "core/sched/advice.h"
#include "core/stats/timeline.h"
#include "core/util/random.h"
#include "engines/serve/access.h"
#include "engines/serve/catalog.h"
#include "engines/serve/payload_recording.h"
#include "engines/serve/response_cache.h"
#include "engines/serve/serve.h"
#include "engines/serve/serving.h"
#include "engines/serve/shared_memory.h"
#include "engines/serve/supervision.h"
#include "engines/serve/tracing.h"
#include "host/messages/messages.h"
#include "host/net/grpc_server.h"
#include "host/net/http_server.h"
#include "host/os/process_facts.h"
#include "host/os/successor.h"
#include "host/os/thread.h"

/* Names of models in the timeline; it does not forget one, as its spans may still be there. */
#define FM_SERVE_SPAN_MODELS_MAX 10000u

struct fm_inference;
struct fm_server_call;
struct fm_grpc_service_call;
struct fm_otlp_exporter;

/* What a loop has counted, as of some time ago. */
struct fm_serve_loop_counts {
    struct fm_http_stats http;
    struct fm_grpc_stats grpc;
    uint64_t local; /* requests of this process */
    uint64_t cpu_ns;
    uint64_t turn_longest_ns; /* of the last seconds */
};

/* One event loop: a thread, its listeners, the requests that came in there. */
struct fm_serve_loop {
    struct fm_serve *serve;
    uint32_t index; /* 0: the main one. Also its submitter in the pool */
    struct fm_loop *loop;
    struct fm_thread thread; /* not of the main one */
    struct fm_http_server *http;
    struct fm_grpc_server *grpc;
    struct fm_http_server *metrics; /* of the main one only */
    struct fm_catalog_reader reader;
    _Atomic uint32_t in_flight;            /* inferences and control requests not yet answered */
    struct fm_inference *inferences;       /* free ones */
    uint32_t inference_count;              /* free */
    struct fm_grpc_service_call *calls;    /* free ones */
    uint32_t call_count;                   /* free */
    struct fm_grpc_service_call *watching; /* calls of Health.Watch */
    struct fm_grpc_service_call *streams;
    struct fm_digester *digester; /* for the response cache; NULL: there is none */
    struct fm_access_seat seat;
    struct fm_access_who who; /* of the HTTP request that is being looked at ... */
    uint32_t slot;  /* ... and its place among those in flight, until an inference takes it */
    bool submitted; /* something since the last round */
    bool http_drained;
    bool grpc_drained;
    bool metrics_drained;
    bool drained;
    uint64_t local_count;            /* requests of this process */
    uint64_t request_number;         /* of those that came in here, for sampling */
    struct fm_random random;         /* of ids in traces */
    struct fm_random payload_random; /* of the share of requests that is recorded */
    uint64_t publish_ns;
    uint64_t wall_offset_ns; /* what the wall shows more than fm_os_now_ns, as of publishing */
    uint64_t turn_ns;        /* the longest since `turn_since_ns`, and the longest before */
    uint64_t turn_before_ns;
    uint64_t turn_since_ns;
    struct fm_serve_loop_counts counts; /* under the server's counts_lock */
    struct fm_loop_task drain_task;
    struct fm_loop_task stop_task;
    struct fm_loop_task drained_task; /* runs on the main loop */
    struct fm_loop_task begin_task;
    struct fm_loop_task begun_task; /* runs on the main loop */
    struct fm_loop_task leave_task;
    struct fm_error begin_error; /* the main loop's once begun_task runs */
};

/* Any thread. */
static inline uint32_t fm_serve_loop_in_flight(const struct fm_serve_loop *loop)
{
    return atomic_load_explicit(&loop->in_flight, memory_order_relaxed);
}

/* On the loop's thread, which alone writes: no locked add is due. */
static inline void fm_serve_loop_in_flight_add(struct fm_serve_loop *loop, int change)
{
    atomic_store_explicit(&loop->in_flight, fm_serve_loop_in_flight(loop) + (uint32_t)change,
                          memory_order_relaxed);
}

/* Whoever made the server hears of it on the main loop. */
struct fm_serve_owner {
    /* The first loading is through, or a look at the repositories that somebody asked for. */
    void (*ready)(struct fm_serve *serve);
    /* Once: it drains from now on, because of fm_serve_drain or of what loading found. */
    void (*draining)(struct fm_serve *serve);
    /* After fm_serve_begin, when every loop has begun (error NULL) or one cannot. */
    void (*begun)(struct fm_serve *serve, const struct fm_error *error);
    void *context;
    /* The listening sockets of the process whose place this one takes; NULL: there was none. With
     * them no loop takes connections before fm_serve_begin. */
    struct fm_handed_sockets *sockets;
};

/*
 * A thread that writes what takes long to write (metrics, dashboard, trace) and follows what was
 * counted: a loop without listeners, so that no request waits for a page.
 */
struct fm_serve_observer {
    struct fm_loop *loop;
    struct fm_thread thread;
    bool running;
    struct fm_catalog_reader reader;
    struct fm_loop_task stop_task;
    /* Its own: what is made of what was counted (fm_serving.totals and .recent, too). */
    struct fm_advisor advisor;
    struct fm_advice advice;
    struct fm_history history;
    struct fm_machine_cpu cpu; /* as of the last look */
    double cpu_utilization;    /* since the one before */
    uint32_t kept_looks;       /* at much memory that is kept and that nobody wants, in a row */
    uint64_t kept_bytes;       /* the least since it was last given back */
    uint64_t kept_look_ns;     /* when it is looked at again */
};

/* The life of a server that serves; it moves down this list only. */
enum fm_serve_phase {
    FM_SERVE_SERVING, /* models may still be loading */
    FM_SERVE_LEAVING, /* draining: another process goes on with the service; who is idle or streams
                         has time to go there */
    FM_SERVE_LEFT,    /* the same, and nobody is waited for any more who has no request here */
    FM_SERVE_ENDING,  /* draining, likewise, and nobody goes on */
};

struct fm_serve {
    const struct fm_serve_options *options;
    struct fm_serve_owner owner;
    struct fm_serve_loop *loops;
    uint32_t loop_count;
    struct fm_pool *pool;
    struct fm_catalog *catalog;
    struct fm_response_cache *cache;       /* NULL: none */
    struct fm_payload_recording *payloads; /* NULL: none */
    bool recording_failed;                 /* that of the scheduler; it was said */
    struct fm_shared_regions regions;
    struct fm_access *access;
    struct fm_tls *tls; /* NULL: without */
    struct fm_timeline timeline;
    struct fm_otlp_exporter *otlp; /* NULL: nobody is traced */
    struct fm_trace_sampler sampler;
    _Atomic uint32_t phase;    /* enum fm_serve_phase; the main loop moves it */
    _Atomic bool handing_over; /* another process is to go on: nothing may be loaded here any more
                                */
    _Atomic uint32_t changes;  /* loads and unloads that clients asked for, under way */
    uint64_t start_ns;
    uint64_t start_wall_ns;
    char host_name[256]; /* of this machine; "" */

    /* The main loop's. */
    struct fm_supervision supervision;
    struct fm_catalog_operation starting;
    struct fm_catalog_operation stopping;
    struct fm_catalog_operation polling;
    bool started;    /* it listens, or would if it should */
    bool polls;      /* `polling` is under way ... */
    bool poll_again; /* ... and somebody asked for another look meanwhile */
    bool loading;    /* `starting` is under way */
    bool stopped;    /* nothing is being loaded any more, nor will be */
    uint32_t loops_drained;
    uint32_t loops_begun;
    enum fm_serve_end end;
    struct fm_error failure; /* why the server ends although nobody asked it to */

    struct fm_serve_observer observer;
    struct fm_mutex counts_lock; /* of the loops' counts: held for a copy */
    struct fm_mutex names_lock;
    char **span_models; /* names of models in the timeline, by their number; kept to the end */
    uint32_t span_model_count;
    _Atomic uint64_t *rest_told_ns; /* by accelerator: what the timeline has of its rests */
};

static inline enum fm_serve_phase fm_serve_phase(const struct fm_serve *serve)
{
    return (enum fm_serve_phase)atomic_load_explicit(&serve->phase, memory_order_relaxed);
}

static inline bool fm_serve_is_draining(const struct fm_serve *serve)
{
    return fm_serve_phase(serve) != FM_SERVE_SERVING;
}

/* It drains, and nobody goes on with the service. */
static inline bool fm_serve_is_stopping(const struct fm_serve *serve)
{
    return fm_serve_phase(serve) == FM_SERVE_ENDING;
}

/* Calls that have no end of their own are ended. */
static inline bool fm_serve_is_ending(const struct fm_serve *serve)
{
    return fm_serve_phase(serve) >= FM_SERVE_LEFT;
}

/* Whether requests should be sent here, as this loop sees it. */
bool fm_serve_is_ready(const struct fm_serve_loop *loop);
bool fm_serve_is_ready_by(const struct fm_serve *serve, const struct fm_catalog_view *view);

/* --- loop.c --- */

int FM_NODISCARD fm_serve_loop_init(struct fm_serve_loop *loop, struct fm_serve *serve,
                                    uint32_t index, struct fm_error *reterr);
/* Listens; the first loop before the others, which take the same ports. */
int FM_NODISCARD fm_serve_loop_listen(struct fm_serve_loop *loop, struct fm_error *reterr);
/* A thread that runs the loop; not for the main one. */
int FM_NODISCARD fm_serve_loop_start(struct fm_serve_loop *loop, struct fm_error *reterr);
/* On the loop's thread: takes nothing new, answers what there is. */
void fm_serve_loop_drain(struct fm_serve_loop *loop);
/* The descriptors that it listens on, for another process. The main loop's thread, before the end
 * begins. */
int FM_NODISCARD fm_serve_loop_sockets(const struct fm_serve_loop *loop,
                                       struct fm_handed_sockets *sockets, struct fm_error *reterr);
/* For fm_serve_begin and fm_serve_leave, on the loop's thread. */
void fm_serve_loop_begin(struct fm_serve_loop *loop);
void fm_serve_loop_leave(struct fm_serve_loop *loop);
/* Something that the drain waits for is over. */
void fm_serve_loop_progress(struct fm_serve_loop *loop);
/* No loop runs any more. */
void fm_serve_loop_release(struct fm_serve_loop *loop);

/* --- server.c -------------------------------------------------------------------------------- */

/* What there is of them where nobody said how many: as the CPUs suggest (`threads`: of an
 * instance), and at most as many as the pool takes. */
uint32_t fm_serve_accelerators_default(uint32_t cpus, uint32_t threads);
uint32_t fm_serve_loops_default(uint32_t cpus);
/* Makes all of its parts; nothing runs yet but threads that wait. `options` is borrowed. */
int FM_NODISCARD fm_serve_create(const struct fm_serve_options *options,
                                 const struct fm_serve_owner *owner, struct fm_serve **ret_serve,
                                 struct fm_error *reterr);
/* Listens, starts the other loops, begins to load. Then somebody has to run the main loop: until
 * it stops by itself, which is when everything has drained. Non-zero: destroy it. */
int FM_NODISCARD fm_serve_start(struct fm_serve *serve, struct fm_error *reterr);
/* On the main loop, once: nothing new is taken, what there is is answered. */
void fm_serve_drain(struct fm_serve *serve);
/* On the main loop, when sockets were handed over: connections are taken from now on. */
void fm_serve_begin(struct fm_serve *serve);
/*
 * On the main loop, once, instead of fm_serve_drain: another process with the same sockets goes on.
 * Every request that comes here is answered as before, but connections end with it. Those without
 * one, and streams, stay until fm_serve_leave_end.
 */
void fm_serve_leave(struct fm_serve *serve);
void fm_serve_leave_end(struct fm_serve *serve);
/* On the main loop: it ends because of this. */
void fm_serve_fail(struct fm_serve *serve, const struct fm_error *error);
/* On the main loop: tokens, certificates and repositories are looked at again. False: they are
 * being looked at, or it drains. */
bool fm_serve_reload(struct fm_serve *serve);
/* On the main loop, when a loop has drained or loading has stopped. */
void fm_serve_stop_when_done(struct fm_serve *serve);
/* When everything was answered or nothing was started, and the main loop does not run. */
void fm_serve_log_stopped(const struct fm_serve *serve);
/* What was recorded is in its files when this returns; what comes later is not recorded. Failures
 * are logged. Any thread, once; fm_serve_destroy does it by itself. */
void fm_serve_recordings_end(struct fm_serve *serve);
void fm_serve_destroy(struct fm_serve *serve);

/* --- inference.c ----------------------------------------------------------------------------- */

enum { FM_INFERENCE_FEW = 4, FM_INFERENCE_MEMORY = 512 };

/* What the response cache has to do with it. */
enum fm_inference_cached { FM_INFERENCE_UNCACHED, FM_INFERENCE_HIT, FM_INFERENCE_MISS };

/*
 * One inference on its way: made by a protocol, which decodes into `decoded`; submitted; finished
 * on the loop by `finish`, which answers and frees it when the answer was sent.
 */
struct fm_inference {
    struct fm_serve_loop *loop;
    struct fm_inference *next;      /* among the free ones, or in its stream */
    struct fm_catalog_entry *entry; /* a reference; NULL: no model was found */
    struct fm_serving *serving;
    struct fm_oip_request decoded;
    struct fm_value *outputs; /* by output of the model */
    bool *wanted;             /* NULL: all */
    uint64_t received_ns;
    uint64_t deadline_ns; /* 0: none was asked for */
    uint64_t number;      /* for sampling */
    uint32_t slot;        /* for fm_access_leave */
    bool has_decoded;
    bool has_response;
    bool submitted; /* the pool or an executor has it */
    bool finished;
    bool answered; /* gRPC: it is known what to answer */
    enum fm_inference_cached cached;
    uint64_t cache_start_ns;
    uint64_t cache_ns; /* looking it up, and putting it in */
    void (*finish)(struct fm_inference *inference, const struct fm_error *error);
    struct fm_loop_task task;

    /* The protocol's. */
    struct fm_http_request *http;
    struct fm_grpc_service_call *call;
    struct fm_server_call *local;
    const char *stream_id; /* gRPC: of a request of a stream, in its message; else NULL */
    size_t stream_id_length;
    const void *parts; /* of its own kind, when there are too many for `few_parts` */
    struct fm_text error_body;

    union {
        struct fm_pool_request pool;
        struct fm_request pipeline;
    } run;
    /* Behind what every request uses, and most of it unused by most. */
    struct fm_oip_response response;
    _Alignas(max_align_t) char memory[FM_INFERENCE_MEMORY]; /* of `decoded` */
    struct fm_value few_outputs[FM_INFERENCE_FEW];
    union {
        struct fm_http_part http[FM_OIP_PARTS_INLINE];
        struct fm_grpc_part grpc[FM_OIP_PARTS_INLINE];
    } few_parts;
    bool few_wanted[FM_INFERENCE_FEW];
    char header_length[24];
    struct fm_lru_key key; /* HIT, MISS */
    struct fm_serve_trace trace;
    struct fm_error outcome; /* gRPC: of what waits to be answered */
};

/* Takes a reference to the entry, which may be NULL. NULL: no memory. */
struct fm_inference *fm_inference_create(struct fm_serve_loop *loop,
                                         struct fm_catalog_entry *entry);
/*
 * Hands the decoded request to the pool or the executor. Non-zero: finish will not be called, and
 * reterr says why.
 */
int FM_NODISCARD fm_inference_submit(struct fm_inference *inference, uint64_t deadline_ns,
                                     struct fm_error *reterr);
/* The client does not want it any more. finish comes all the same. */
void fm_inference_cancel(struct fm_inference *inference);
/* Counts how it ended; error NULL: well. Once, before it is freed. */
void fm_inference_count(struct fm_inference *inference, const struct fm_error *error);
void fm_inference_free(struct fm_inference *inference);
/* A failure that is news is logged. */
void fm_inference_log(const struct fm_inference *inference, const struct fm_error *error);
/* For fm_oip_labels; context: the catalog's entry. */
const char *const *fm_inference_labels(void *context, uint32_t port, size_t *ret_count);
/* Hands what was submitted in this round to the scheduler. */
void fm_inference_flush(struct fm_serve_loop *loop);
/* The deadline that `timeout_us` from now means, or `deadline_ns` if that is earlier; 0: none. */
uint64_t fm_inference_deadline(uint64_t timeout_us, uint64_t deadline_ns);
void fm_inferences_release(struct fm_serve_loop *loop);

/* --- documents.c: what both protocols say ----------------------------------------------------- */

void fm_serve_write_server(const struct fm_serve_loop *loop, struct fm_text *text,
                           enum fm_messages_form form);
/* all_versions: list them all, not the one of the entry. */
void fm_serve_write_metadata(const struct fm_serve_loop *loop, struct fm_text *text,
                             enum fm_messages_form form, const struct fm_catalog_entry *entry,
                             bool all_versions);
void fm_serve_write_config(struct fm_text *text, enum fm_messages_form form,
                           const struct fm_catalog_entry *entry);
/* Of one version (version 0: all of them), or of everything (name ""). */
int FM_NODISCARD fm_serve_write_statistics(const struct fm_serve_loop *loop, struct fm_text *text,
                                           enum fm_messages_form form, const char *name,
                                           uint64_t version, struct fm_error *reterr);
void fm_serve_write_index(const struct fm_serve_loop *loop, struct fm_text *text,
                          enum fm_messages_form form, bool ready_only);
int FM_NODISCARD fm_serve_write_regions(const struct fm_serve_loop *loop, struct fm_text *text,
                                        enum fm_messages_form form, const char *name,
                                        struct fm_error *reterr);
/* Trace and log settings: what they are after `change` (NULL: nothing is changed). What this server
 * does not let change is FM_EUNSUPPORTED. */
int FM_NODISCARD fm_serve_write_trace(struct fm_text *text, enum fm_messages_form form,
                                      const struct fm_messages_settings *change,
                                      struct fm_error *reterr);
int FM_NODISCARD fm_serve_write_log(struct fm_text *text, enum fm_messages_form form,
                                    const struct fm_messages_settings *change,
                                    struct fm_error *reterr);

/* --- guard.c: who may ask what, before anything is done ----------------------------------------
 */

/* False: refused, or a preflight; it was answered. True: fm_serve_guard_end is due when the request
 * was handled, for what no inference took. */
bool fm_serve_http_guard(struct fm_serve_loop *loop, struct fm_http_request *http,
                         enum fm_access_class class);
void fm_serve_guard_end(struct fm_serve_loop *loop);
/* False: refused, and the call is finished. */
bool fm_serve_grpc_guard(struct fm_serve_loop *loop, struct fm_grpc_call *grpc,
                         enum fm_access_class class, bool stream, struct fm_access_who *ret_who);
/* One inference of a call; fm_serve_guard_end as above. FM_ELIMIT. */
int FM_NODISCARD fm_serve_grpc_guard_infer(struct fm_grpc_service_call *call,
                                           struct fm_error *reterr);

/* --- control.c: operations of the catalog, for both protocols ----------------------------------
 */

struct fm_serve_operation {
    struct fm_catalog_operation catalog;
    struct fm_serve_loop *loop;
    struct fm_messages_load request;
    struct fm_catalog_file *files;
    char *name;
    /* On the loop, once; the control is freed behind it. */
    void (*done)(struct fm_serve_operation *operation, const struct fm_error *error);
    void *client; /* whom to answer; NULL: gone */
};

/*
 * Begins an operation: INDEX, or LOAD and UNLOAD with the request in `form` (name: of the path, or
 * NULL: in the request). Non-zero: nothing was begun.
 */
int FM_NODISCARD fm_serve_operation_begin(
    struct fm_serve_loop *loop, enum fm_catalog_operation_kind kind, enum fm_messages_form form,
    const char *name, const void *data, size_t size,
    void (*done)(struct fm_serve_operation *operation, const struct fm_error *error), void *client,
    struct fm_serve_operation **ret_operation, struct fm_error *reterr);

/* --- REST --- */

/* http_routes.c */
void fm_serve_http_handle(void *context, struct fm_http_request *http);
/* Answers {"error": message}; 503 carries Retry-After. */
void fm_serve_http_error(struct fm_http_request *http, int http_status, const char *message);
/* The same with a header field (name NULL or value NULL: none). */
void fm_serve_http_refuse(struct fm_http_request *http, int http_status, const char *message,
                          const struct fm_http_header *header);
/* Answers with the text, which is taken (and freed, also when it has failed). */
void fm_serve_http_text(struct fm_http_request *http, int http_status, const char *content_type,
                        struct fm_text *take_text);
/* http_infer.c */
void fm_serve_http_infer(struct fm_serve_loop *loop, struct fm_catalog_entry *entry,
                         struct fm_http_request *http);

/* --- gRPC --- */

/* A call as the service keeps it, from begin to finish. */
struct fm_grpc_service_call {
    struct fm_serve_loop *loop;
    struct fm_grpc_call *grpc; /* NULL: finished; it is freed when nothing waits any more */
    uint32_t method;           /* index into the table of grpc_service.c */
    bool had_message;          /* of a unary call: there is one only */
    bool half_closed;
    bool dropped;     /* a message that came when the calls were ended already */
    bool unary_infer; /* ModelInfer and not ModelStreamInfer */
    struct fm_access_who who;
    uint32_t held; /* functions that are working with it */
    /* ModelInfer and ModelStreamInfer. */
    struct fm_inference *first; /* in the order of their requests, which is that of the answers */
    struct fm_inference *last;
    uint32_t unanswered;
    /* A unary call that waits for the catalog. */
    struct fm_serve_operation *operation;
    /* Of a stream: the loop's others. Of a free one: the next. */
    struct fm_grpc_service_call *stream_next;
    struct fm_grpc_service_call **stream_place; /* what points to it; NULL: no stream */
    /* Health.Watch. */
    struct fm_grpc_service_call *watch_next;
    char *watched;
    int watched_status;
};

/* grpc_service.c */
void fm_serve_grpc_events(struct fm_grpc_events *ret_events);
void fm_serve_grpc_calls_release(struct fm_serve_loop *loop); /* the free ones */
/* Finishes the call (NULL: well); it is freed when nothing waits for it any more. */
void fm_serve_grpc_finish(struct fm_grpc_service_call *call, const struct fm_error *error);
/* Something that the call waited for is over: ends a stream when nothing more comes, frees what is
 * finished. */
void fm_serve_grpc_progress(struct fm_grpc_service_call *call);
/* The server drains: streams that wait for nothing end now, the others with their last answer. */
void fm_serve_grpc_streams_end(struct fm_serve_loop *loop);
/* Tells those who watch what has changed. */
void fm_serve_grpc_watch_round(struct fm_serve_loop *loop);
/* grpc_infer.c */
void fm_serve_grpc_infer(struct fm_grpc_service_call *call, struct fm_buffer *buffer,
                         const void *data, size_t size);
void fm_serve_grpc_stream(struct fm_grpc_service_call *call, struct fm_buffer *buffer,
                          const void *data, size_t size);
/* The client is gone: what is on its way is not wanted. */
void fm_serve_grpc_infer_cancel(struct fm_grpc_service_call *call);

/* --- spans.c --- */

/* After the pool was made. FM_ENOMEM. */
int FM_NODISCARD fm_serve_spans_init(struct fm_serve *serve);
void fm_serve_spans_release(struct fm_serve *serve);
/* A number for the model in the timeline; the same name has the same. FM_TIMELINE_NONE: no memory,
 * or the name is new and there are FM_SERVE_SPAN_MODELS_MAX; its spans are there without a name. */
uint32_t fm_serve_span_model(struct fm_serve *serve, const char *name);
/* Those names, in memory to be freed; the names themselves stay. NULL: no memory. */
const char **fm_serve_span_names(struct fm_serve *serve, uint32_t *ret_count);
/* A run, with its window and the rest before it; as fm_pool_run_fn. */
void fm_serve_span_run(void *context, const struct fm_pool_run *run);
/* An accelerator rests as of now. On the observer's thread. */
void fm_serve_span_rest(struct fm_serve *serve, uint32_t accelerator, uint64_t now_ns);

/* --- observe.c --- */

void fm_serve_observe_handle(void *context, struct fm_http_request *http); /* the metrics port */
/* "/", "/try", their files, "/metrics", "/debug/...": true when the path was one of these. */
bool fm_serve_observe_route(struct fm_serve_loop *loop, struct fm_http_request *http);
/* The dashboard's state, else the metrics, as they are served there. Waits for the observer, which
 * runs; any other thread. */
int FM_NODISCARD fm_serve_observe_write(struct fm_serve *serve, bool state, struct fm_text *text,
                                        struct fm_error *reterr);
/* What a path of the above is for access. */
enum fm_access_class fm_serve_observe_class(const struct fm_http_request *http);
/* Makes the observer's loop; after that its reader may be added to the catalog. */
int FM_NODISCARD fm_serve_observer_open(struct fm_serve *serve, struct fm_error *reterr);
/* Its thread. Documents that were asked for before are written then. */
int FM_NODISCARD fm_serve_observer_start(struct fm_serve *serve, struct fm_error *reterr);
/* When no other loop runs: what was asked for is answered before. */
void fm_serve_observer_stop(struct fm_serve *serve);
/* When the catalog is closed. */
void fm_serve_observer_release(struct fm_serve *serve);

#endif
