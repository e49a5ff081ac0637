/*
 * Who may ask what, and how often.
 *
 * Owns: the tokens in force and their reloading, every client's share (rates, requests at once),
 * what is counted and logged about refusals, the origins that browsers may come from. Does not own:
 * TLS (host/net/tls.h), protocols: guard.c turns verdicts into answers. Thread rule: create, reload
 * and destroy on the main loop; a seat belongs to its loop; the rest from any loop. Shares are in
 * SHARDS tables, each with a lock that only clients of the same table share; without limits none is
 * taken. Tokens are looked up without a lock.
 */
#ifndef FM_ENGINES_SERVE_ACCESS_H
#define FM_ENGINES_SERVE_ACCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/util/client_table.h"
#include "engines/serve/access_tokens.h"
#include "engines/serve/view.h"
#include "host/net/peer.h"

#define FM_ACCESS_CLIENTS_MAX 65536u /* remembered at once */

/* What is asked for. */
enum fm_access_class {
    FM_ACCESS_OPEN, /* pages without numbers in them, OPTIONS */
    FM_ACCESS_HEALTH,
    FM_ACCESS_INFER,
    FM_ACCESS_READ,
    FM_ACCESS_CONTROL,
    FM_ACCESS_OBSERVE,
    FM_ACCESS_CLASS_COUNT_
};

enum fm_access_verdict {
    FM_ACCESS_GRANTED,
    FM_ACCESS_NO_TOKEN,
    FM_ACCESS_BAD_TOKEN,
    FM_ACCESS_NO_SCOPE,
    FM_ACCESS_RATE,
    FM_ACCESS_IN_FLIGHT, /* too many at once */
    FM_ACCESS_CROWDED,   /* no room for another client */
    FM_ACCESS_HOST,
    FM_ACCESS_ORIGIN,
    FM_ACCESS_VERDICT_COUNT_
};

/* For metrics and log: "no_token". */
const char *fm_access_verdict_name(enum fm_access_verdict verdict);
/* In words for the client. */
const char *fm_access_verdict_text(enum fm_access_verdict verdict, enum fm_access_class class);
/* The value of HTTP's WWW-Authenticate; NULL where the verdict is not about the token. */
const char *fm_access_verdict_challenge(enum fm_access_verdict verdict, enum fm_access_class class);

struct fm_access_options {
    const char *token_file; /* NULL: everybody may do everything */
    bool auth_health;
    struct fm_client_limit limit;
    const char *const *origins; /* of --cors-origin */
    uint32_t origin_count;
};

struct fm_access;

int FM_NODISCARD fm_access_create(const struct fm_access_options *options,
                                  struct fm_access **ret_access, struct fm_error *reterr);
/* Nobody has a seat. Accepts NULL. */
void fm_access_destroy(struct fm_access *access);
/* Reads the token file again; after a failure everything stays as it was. Requests that were
 * admitted go on. */
int FM_NODISCARD fm_access_reload(struct fm_access *access, struct fm_error *reterr);
/* Of the token file; 0 without one. */
uint32_t fm_access_token_count(struct fm_access *access);

/* A loop's: what it needs to decide without asking others. */
struct fm_access_seat {
    struct fm_access *access;
    struct fm_digester *digester;
    struct fm_access_tokens *tokens;
    uint64_t generation;
};
int FM_NODISCARD fm_access_seat_init(struct fm_access_seat *seat, struct fm_access *access,
                                     struct fm_error *reterr);
void fm_access_seat_deinit(struct fm_access_seat *seat); /* accepts a zeroed one */

/* Who asks: by the token, else by the address (of IPv6 the first 64 bits). */
struct fm_access_who {
    struct fm_client_key key;
    struct fm_client_limit limit;
    char name[FM_ACCESS_NAME_BYTES_MAX + 1]; /* of the token */
};
/* For the log: the token's name, or the address. */
void fm_access_who_name(const struct fm_access_who *who, char *text, size_t size);

struct fm_access_credentials {
    const char *authorization; /* NULL: none */
    const char *api_key;
};

/* Whether it asks for tokens at all: credentials need not be looked for otherwise. */
bool fm_access_has_tokens(const struct fm_access *access);
/* GRANTED, or what is wrong with the token; *ret_who is somebody in any case. */
enum fm_access_verdict fm_access_identify(struct fm_access_seat *seat, const struct fm_peer *peer,
                                          const struct fm_access_credentials *credentials,
                                          enum fm_access_class class,
                                          struct fm_access_who *ret_who);
/* Counts a request: GRANTED, RATE (again after *ret_wait_ns), CROWDED. */
enum fm_access_verdict fm_access_take(struct fm_access *access, const struct fm_access_who *who,
                                      uint64_t now_ns, uint64_t *ret_wait_ns);
/* One more at once: GRANTED, and *ret_slot is to be given back (0: nothing is), IN_FLIGHT, CROWDED.
 */
enum fm_access_verdict fm_access_enter(struct fm_access *access, const struct fm_access_who *who,
                                       uint64_t now_ns, uint32_t *ret_slot);
void fm_access_leave(struct fm_access *access, uint32_t slot); /* accepts 0 */
/* Counts a refusal, and logs it unless this client's last one was logged just now. */
void fm_access_refused(struct fm_access *access, const struct fm_access_who *who,
                       enum fm_access_verdict verdict, const char *protocol, uint64_t now_ns);
/* Header fields for answers to that origin (`preflight`: to its OPTIONS); NULL: it may not. */
const char *fm_access_cors(const struct fm_access *access, const char *origin, bool preflight);
void fm_access_view(struct fm_access *access, struct fm_view_access *ret_view);

#endif
