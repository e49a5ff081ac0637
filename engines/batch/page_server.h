/*
 * A page about a job while it runs, over HTTP: to look at, and for programs.
 *
 *   /              the report (job_report.h), asking for itself again every few seconds
 *   /status.json   what the master knows now (status_document.h)
 *   /metrics       the same for Prometheus
 *
 * Owns: a thread with an event loop and a server on it, so that nobody who looks holds up the
 * master. Does not own: what is shown. Nothing can be changed through it. Thread rule: start,
 * update and stop from one thread.
 */
#ifndef FM_ENGINES_BATCH_PAGE_SERVER_H
#define FM_ENGINES_BATCH_PAGE_SERVER_H

#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

struct fm_page_listen {
    const char *host; /* address or name */
    uint16_t port;    /* 0: any free one */
};

struct fm_page_server;

/* `directory`: the job's; borrowed until stop. FM_EUNAVAILABLE: the port is taken, and as a server
 * says. */
int FM_NODISCARD fm_page_server_start(const struct fm_page_listen *listen, const char *directory,
                                      struct fm_page_server **ret_server, struct fm_error *reterr);
uint16_t fm_page_server_port(const struct fm_page_server *server);
/* How the job stands now: a message Status (core/proto/batch_control.h), which is copied. Without
 * memory the last one stays. */
void fm_page_server_update(struct fm_page_server *server, const void *status, size_t size);
/* Accepts NULL. */
void fm_page_server_stop(struct fm_page_server *server);

#endif
