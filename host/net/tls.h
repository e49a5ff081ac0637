/*
 * TLS for servers and clients: certificates, and the sessions of connections between bytes that go
 * over the wire and bytes that mean something.
 *
 * Owns: the use of OpenSSL, certificate and key in memory. Does not own: sockets (stream.h), files
 * after they were read. Thread rule: fm_tls is shared by all loops and may be reloaded from any
 * thread; a session belongs to its connection's thread.
 *
 * TLS 1.2 and 1.3. Clients may be asked for certificates of their own.
 */
#ifndef FM_HOST_NET_TLS_H
#define FM_HOST_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "fermata/status.h"

enum fm_tls_clients {
    FM_TLS_CLIENTS_ANY,      /* not asked for a certificate */
    FM_TLS_CLIENTS_VERIFIED, /* one that has a certificate must have a good one */
    FM_TLS_CLIENTS_REQUIRED, /* and all must have one */
};

struct fm_tls_options {
    const char *certificate_path; /* PEM, with the chain behind it */
    const char *key_path;         /* PEM, without a passphrase */
    const char *client_ca_path;   /* PEM; due unless clients is ANY */
    enum fm_tls_clients clients;
    bool only_1_3; /* refuse TLS 1.2 */
};

struct fm_tls;

/* Reads the files; copies options. FM_EINVAL: a file that is missing, no PEM, does not belong to
 * the others, or a certificate that is not valid now. */
int FM_NODISCARD fm_tls_create(const struct fm_tls_options *options, struct fm_tls **ret_tls,
                               struct fm_error *reterr);

struct fm_tls_client_options {
    const char *ca_path;          /* PEM, who may have signed the server's certificate; NULL: the
                                     system's authorities */
    const char *certificate_path; /* PEM, our own; NULL: none */
    const char *key_path;         /* PEM; due with a certificate */
    const char *server_name;      /* a name or an address, which the certificate must be for */
};
/* The client's end: the server's certificate is always checked. Errors as above. Not for reload. */
int FM_NODISCARD fm_tls_create_client(const struct fm_tls_client_options *options,
                                      struct fm_tls **ret_tls, struct fm_error *reterr);
/* Reads the files again. Connections that stand keep what they have. After a failure all stays as
 * it was. */
int FM_NODISCARD fm_tls_reload(struct fm_tls *tls, struct fm_error *reterr);
/* No session may be opened any more. Accepts NULL. */
void fm_tls_destroy(struct fm_tls *tls);

/* --- For stream.c --- */

struct fm_tls_session;

/* `protocol` is what the server speaks, for ALPN: "h2". NULL: out of memory. */
struct fm_tls_session *fm_tls_session_create(struct fm_tls *tls, const char *protocol);
void fm_tls_session_destroy(struct fm_tls_session *session); /* accepts NULL */

/* Clients begin: the first bytes for the wire are there afterwards. FM_ECORRUPT. */
int FM_NODISCARD fm_tls_session_start(struct fm_tls_session *session);
/* Why the handshake failed; NULL: nothing is known. */
const char *fm_tls_session_problem(const struct fm_tls_session *session);

/* Takes bytes from the wire, and goes on with the handshake. FM_ETYPE: the client speaks HTTP
 * without TLS. FM_ECORRUPT: something else that cannot go on. What is to be sent may be there after
 * a failure too. */
int FM_NODISCARD fm_tls_session_feed(struct fm_tls_session *session, const void *data, size_t size);
bool fm_tls_session_is_ready(const struct fm_tls_session *session);
/* Bytes that mean something: *ret_size of them, 0 when more has to come. FM_ECANCELLED: the client
 * said that no more comes. FM_ECORRUPT. */
int FM_NODISCARD fm_tls_session_read(struct fm_tls_session *session, void *data, size_t size_max,
                                     size_t *ret_size);
/* Encrypts all of it. FM_EIO. */
int FM_NODISCARD fm_tls_session_write(struct fm_tls_session *session, const void *data,
                                      size_t size);
/* Says that no more comes. */
void fm_tls_session_end(struct fm_tls_session *session);
/* What is to go over the wire, valid until something else is called. */
size_t fm_tls_session_output(struct fm_tls_session *session, const char **ret_data);
/* All of the output was taken. */
void fm_tls_session_output_clear(struct fm_tls_session *session);

#endif
