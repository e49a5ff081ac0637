/*
 * Tells somebody's HTTP server what happens: a few JSON documents, posted one after the other from
 * a thread of their own.
 *
 * Owns: the thread, a bounded queue, libcurl. Does not own: what is told. A document is tried once:
 * nobody waits for the other side, and what it does not take is lost (and said). Thread rule:
 * start, post and stop from one thread.
 */
#ifndef FM_HOST_NET_WEBHOOK_H
#define FM_HOST_NET_WEBHOOK_H

#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_WEBHOOK_QUEUE_MAX 8u

struct fm_webhook;

/* FM_EINVAL: the URL is neither of HTTP nor of HTTPS; the words do not show it, because there may
 * be secrets in it. timeout_ns: of one document. */
int FM_NODISCARD fm_webhook_start(const char *url, uint64_t timeout_ns,
                                  struct fm_webhook **ret_webhook, struct fm_error *reterr);
/* Copies the document. One that there is no room for, or no memory, is lost, which stop says. */
void fm_webhook_post(struct fm_webhook *webhook, const char *document, size_t size);
/* Waits until all was sent, for at most grace_ns, and frees. 0, or the first failure, in words.
 * Accepts NULL. */
int FM_NODISCARD fm_webhook_stop(struct fm_webhook *webhook, uint64_t grace_ns,
                                 struct fm_error *reterr);

#endif
