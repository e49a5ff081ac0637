/*
 * Gets objects over HTTP: many at once, on one thread.
 *
 * Owns: the thread, libcurl, connections and their reuse, how many transfers there are at once,
 * time limits, further attempts, redirects, the limit on an object's size. Does not own: what
 * objects there are, how one of a store is called (objects.h), what becomes of the bytes. Thread
 * rule: submit and cancel from any thread; `done` comes on the fetcher's, and must not wait for
 * anything.
 *
 * HOW IT WORKS. What was submitted waits in order of its submission until one of transfers_max
 * places is free. An object that comes 20 ms after it was asked for costs the thread next to
 * nothing meanwhile, so that the rate is places divided by latency, whatever the number of threads.
 * A connection stays open for the next transfer to the same server. What fails in a way that may
 * pass (no connection, a cut one, too many requests, an error of the server's) is tried again after
 * a pause, which the server may lengthen by Retry-After, and gives its place to others meanwhile.
 * Proxies are those of the environment (http_proxy, https_proxy, no_proxy).
 */
#ifndef FM_HOST_NET_FETCHER_H
#define FM_HOST_NET_FETCHER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/util/text.h"
#include "fermata/status.h"

#define FM_FETCH_REDIRECTS_MAX 5u
/* A server that asks for a longer pause is not waited for any longer. */
#define FM_FETCH_PAUSE_MAX_NS UINT64_C(30000000000)

/* Bytes in a second; a server that sends less, if not nothing, would hold a place for ever. */
#define FM_FETCH_RATE_LEAST 1024

/* With which requests to a store are signed (AWS Signature, version 4). */
struct fm_fetch_signature {
    const char *access_key;
    const char *secret_key;
    const char *session_token; /* NULL: none */
    const char *region;
};

struct fm_fetcher_options {
    uint32_t transfers_max; /* at once; > 0 */
    uint32_t attempts_max;  /* at an object; > 0 */
    uint64_t connect_timeout_ns;
    uint64_t stall_timeout_ns; /* below FM_FETCH_RATE_LEAST; whole seconds, at least one */
    uint64_t pause_ns;         /* before the second attempt; four times as long each time */
    const char *ca_file;       /* whom to trust; NULL: whom the system trusts */
    const char *headers; /* "Name: value" lines, of requests that are not signed; NULL: none */
    const struct fm_fetch_signature *signature; /* of those that are; NULL: there is none */
};

/* One object. Zeroed to start; the caller's memory until `done`. */
struct fm_fetch {
    /* Given by the caller, and borrowed until `done`. */
    const char *url;
    const char *name; /* that errors call it by; NULL: its URL */
    bool of_store;    /* signed, where there is a signature; never redirected */
    size_t bytes_max;
    void (*done)(struct fm_fetch *fetch); /* once; the fetch is the caller's again */

    /* The outcome: 0 and the body, or a failure in words, which name the object. */
    int status;
    struct fm_error error;
    struct fm_text body; /* the caller's, also when it failed */
    uint32_t attempts;

    /* Internal. */
    struct fm_fetch *next;
    struct fm_fetch_transfer *transfer;
    uint64_t due_ns;
    uint32_t redirects;
    char *target; /* where a redirect led; NULL: `url` */
    bool strange; /* that is another server's: it gets no headers of ours */
};

struct fm_fetcher;

/* Copies what the options name. The thread begins with the first fetch. FM_ENOMEM, FM_EINVAL: a
 * line of the headers is none. */
int FM_NODISCARD fm_fetcher_create(const struct fm_fetcher_options *options,
                                   struct fm_fetcher **ret_fetcher, struct fm_error *reterr);
void fm_fetcher_submit(struct fm_fetcher *fetcher, struct fm_fetch *fetch);
/* Submits it and waits. What fetch->status will be. Not on the fetcher's thread. Once `stopping` is
 * true, everything is cancelled; NULL: never. */
int FM_NODISCARD fm_fetcher_run(struct fm_fetcher *fetcher, const atomic_bool *stopping,
                                struct fm_fetch *fetch);
/* Everything that is under way, or is submitted from now on, ends with FM_ECANCELLED, soon. */
void fm_fetcher_cancel(struct fm_fetcher *fetcher);
/* Cancels, waits for the last `done`, frees. Accepts NULL. */
void fm_fetcher_destroy(struct fm_fetcher *fetcher);

#endif
