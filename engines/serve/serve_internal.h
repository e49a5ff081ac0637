/*
 * What the files of the serve engine share: serve.c (life), routes.c (paths and documents),
 * infer_request.c (one inference). Thread rule: the loop's thread.
 */
#ifndef FM_ENGINES_SERVE_SERVE_INTERNAL_H
#define FM_ENGINES_SERVE_SERVE_INTERNAL_H

#include "engines/serve/catalog.h"
#include "engines/serve/serve.h"
#include "host/net/http_server.h"

struct fm_serve {
    const struct fm_serve_options *options;
    struct fm_loop *loop;
    struct fm_http_server *http;
    struct fm_catalog *catalog;
    struct fm_catalog_reader reader;
    struct fm_catalog_operation starting;
    struct fm_catalog_operation stopping;
    struct fm_catalog_operation polling;
    bool polls;   /* `polling` is under way */
    bool loading; /* `starting` is under way */
    bool stopped; /* nothing is being loaded any more, nor will be */
    uint64_t start_ns;
    uint32_t in_flight; /* inferences not yet answered and released */
    bool draining;
    bool http_drained;
    enum fm_serve_end end;
    struct fm_error failure; /* why the server ends although nobody asked it to */
};

/* serve.c: ends the loop once nothing is left to wait for. */
void fm_serve_stop_when_done(struct fm_serve *serve);

/* routes.c */
void fm_serve_handle(void *context, struct fm_http_request *http);
/* Answers {"error": message}; 503 carries Retry-After. */
void fm_serve_answer_error(struct fm_http_request *http, int http_status, const char *message);

void fm_serve_answer_index(struct fm_http_request *http, const struct fm_catalog_view *view,
                           bool ready_only);

/* repository_routes.c: what changes what is served, and the index. */
void fm_serve_control_index(struct fm_serve *serve, struct fm_http_request *http);
void fm_serve_control_model(struct fm_serve *serve, struct fm_http_request *http, const char *name,
                            bool load);

/* infer_request.c: takes the request to its answer. */
void fm_serve_infer(struct fm_serve *serve, struct fm_catalog_entry *entry,
                    struct fm_http_request *http);

#endif
