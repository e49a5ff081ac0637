/*
 * TLS with OpenSSL. See tls.h.
 */
#include "host/net/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/file.h"
#include "host/os/thread.h"

/* One record. */
#define WRITE_BYTES_MAX   16384
#define PROBLEM_BYTES_MAX 200u

struct fm_tls {
    struct fm_mutex mutex;
    SSL_CTX *context; /* the present one; behind mutex */
    char *certificate_path;
    char *key_path;
    char *client_ca_path;
    enum fm_tls_clients clients;
    bool only_1_3;
    char *server_name; /* not NULL: the client's end */
};

struct fm_tls_session {
    SSL *ssl;
    BIO *in;
    BIO *out;
    const char *protocol;
    const char *problem; /* of the handshake */
    char problem_text[PROBLEM_BYTES_MAX];
};

/* --- Certificates --- */

/* OpenSSL's first words about a failure are the nearest to its cause. */
static const char *reason(void)
{
    unsigned long code = ERR_peek_error();
    const char *text = NULL;
    if (ERR_SYSTEM_ERROR(code)) {
        text = uv_strerror(uv_translate_sys_error(ERR_GET_REASON(code)));
    } else if (code == 0 ||
               (ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE)) {
        text = "there is none in it in PEM form";
    } else {
        text = ERR_reason_error_string(code);
    }
    ERR_clear_error();
    return text != NULL ? text : "unknown reason";
}

/* Without this, OpenSSL would ask at the terminal. */
static int no_passphrase(char *text, int size, int writing, void *context)
{
    (void)text;
    (void)size;
    (void)writing;
    *(bool *)context = true;
    return -1;
}

static int key_load(SSL_CTX *context, const struct fm_tls *tls, struct fm_error *reterr)
{
    bool asked = false;
    SSL_CTX_set_default_passwd_cb(context, no_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(context, &asked);
    int loaded = SSL_CTX_use_PrivateKey_file(context, tls->key_path, SSL_FILETYPE_PEM);
    SSL_CTX_set_default_passwd_cb_userdata(context, NULL);
    if (loaded == 1) {
        return 0;
    }
    if (asked) {
        ERR_clear_error();
        return fm_error_set(reterr, FM_EINVAL,
                            "the key '%s' has a passphrase, which nobody can type here: give it "
                            "one without (openssl pkey -in OLD -out NEW)",
                            tls->key_path);
    }
    if (ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH) {
        ERR_clear_error();
        return fm_error_set(reterr, FM_EINVAL,
                            "the key '%s' does not belong to the certificate '%s'", tls->key_path,
                            tls->certificate_path);
    }
    return fm_error_set(reterr, FM_EINVAL, "cannot read the key '%s': %s", tls->key_path, reason());
}

/* A FIFO would be waited for, and read again it has nothing. What is wrong with others is said when
 * they are read. */
static int path_check(const char *path, struct fm_error *reterr)
{
    struct fm_file_facts facts;
    return fm_file_stat(path, &facts, NULL) == 0 && facts.kind == FM_FILE_OTHER
               ? fm_error_set(reterr, FM_EINVAL, "cannot read '%s': it is not a regular file", path)
               : 0;
}

/* What no client would accept is not served either. */
static int validity_check(SSL_CTX *context, const struct fm_tls *tls, struct fm_error *reterr)
{
    const X509 *certificate = SSL_CTX_get0_certificate(context);
    const ASN1_TIME *from = X509_get0_notBefore(certificate);
    const ASN1_TIME *to = X509_get0_notAfter(certificate);
    bool early = X509_cmp_current_time(from) > 0;
    if (!early && X509_cmp_current_time(to) > 0) {
        return 0;
    }
    char text[64] = "an unreadable date";
    BIO *memory = BIO_new(BIO_s_mem());
    if (memory != NULL && ASN1_TIME_print(memory, early ? from : to) == 1) {
        int length = BIO_read(memory, text, sizeof(text) - 1);
        text[length > 0 ? length : 0] = '\0';
    }
    BIO_free(memory);
    ERR_clear_error();
    return fm_error_set(reterr, FM_EINVAL, "the certificate '%s' %s %s, so no client would take it",
                        tls->certificate_path, early ? "is not valid before" : "expired on", text);
}

static int clients_load(SSL_CTX *context, const struct fm_tls *tls, struct fm_error *reterr)
{
    if (tls->clients == FM_TLS_CLIENTS_ANY) {
        return 0;
    }
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(tls->client_ca_path);
    if (names == NULL || SSL_CTX_load_verify_file(context, tls->client_ca_path) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return fm_error_set(reterr, FM_EINVAL, "cannot read the client authorities '%s': %s",
                            tls->client_ca_path, reason());
    }
    SSL_CTX_set_client_CA_list(context, names);
    SSL_CTX_set_verify(
        context,
        SSL_VERIFY_PEER |
            (tls->clients == FM_TLS_CLIENTS_REQUIRED ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
        NULL);
    return 0;
}

static int alpn_select(SSL *ssl, const unsigned char **ret_protocol, unsigned char *ret_length,
                       const unsigned char *offered, unsigned length, void *context)
{
    (void)context;
    const struct fm_tls_session *session = SSL_get_app_data(ssl);
    size_t wanted = strlen(session->protocol);
    for (unsigned at = 0; at < length && offered[at] < length - at; at += 1u + offered[at]) {
        if (offered[at] == wanted && memcmp(offered + at + 1, session->protocol, wanted) == 0) {
            *ret_protocol = offered + at + 1;
            *ret_length = offered[at];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int context_make(const struct fm_tls *tls, SSL_CTX **ret_context, struct fm_error *reterr)
{
    ERR_clear_error();
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (context == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "cannot set TLS up: %s", reason());
    }
    static const unsigned char name[] = "fermata";
    (void)SSL_CTX_set_min_proto_version(context, tls->only_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION);
    (void)SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                           SSL_OP_CIPHER_SERVER_PREFERENCE);
    (void)SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    (void)SSL_CTX_set_session_id_context(context, name, sizeof(name) - 1);
    SSL_CTX_set_alpn_select_cb(context, alpn_select, NULL);
    int status = path_check(tls->certificate_path, reterr);
    status = status == 0 ? path_check(tls->key_path, reterr) : status;
    status = status == 0 ? path_check(tls->client_ca_path, reterr) : status;
    if (status == 0 && SSL_CTX_use_certificate_chain_file(context, tls->certificate_path) != 1) {
        status = fm_error_set(reterr, FM_EINVAL, "cannot read the certificate '%s': %s",
                              tls->certificate_path, reason());
    }
    status = status == 0 ? key_load(context, tls, reterr) : status;
    status = status == 0 ? validity_check(context, tls, reterr) : status;
    status = status == 0 ? clients_load(context, tls, reterr) : status;
    if (status != 0) {
        SSL_CTX_free(context);
        return status;
    }
    *ret_context = context;
    return 0;
}

int fm_tls_create(const struct fm_tls_options *options, struct fm_tls **ret_tls,
                  struct fm_error *reterr)
{
    bool ask = options->clients != FM_TLS_CLIENTS_ANY;
    FM_ASSERT(options->certificate_path != NULL && options->key_path != NULL);
    FM_ASSERT(!ask || options->client_ca_path != NULL);
    struct fm_tls *tls = fm_alloc_zero(1, sizeof(*tls));
    if (tls == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while setting TLS up");
    }
    fm_mutex_init(&tls->mutex);
    tls->clients = options->clients;
    tls->only_1_3 = options->only_1_3;
    tls->certificate_path = fm_strdup(options->certificate_path);
    tls->key_path = fm_strdup(options->key_path);
    tls->client_ca_path = fm_strdup(ask ? options->client_ca_path : "");
    int status = FM_ENOMEM;
    if (tls->certificate_path == NULL || tls->key_path == NULL || tls->client_ca_path == NULL) {
        (void)fm_error_set(reterr, FM_ENOMEM, "out of memory while setting TLS up");
    } else {
        status = context_make(tls, &tls->context, reterr);
    }
    if (status != 0) {
        fm_tls_destroy(tls);
        return status;
    }
    *ret_tls = tls;
    return 0;
}

/* --- The client's end --- */

static int client_load(SSL_CTX *context, const struct fm_tls_client_options *options,
                       const struct fm_tls *tls, struct fm_error *reterr)
{
    if (options->ca_path != NULL && SSL_CTX_load_verify_file(context, options->ca_path) != 1) {
        return fm_error_set(reterr, FM_EINVAL, "cannot read the authorities '%s': %s",
                            options->ca_path, reason());
    }
    if (options->ca_path == NULL && SSL_CTX_set_default_verify_paths(context) != 1) {
        return fm_error_set(reterr, FM_EINVAL, "cannot read the system's authorities: %s",
                            reason());
    }
    if (options->certificate_path == NULL) {
        return 0;
    }
    if (SSL_CTX_use_certificate_chain_file(context, options->certificate_path) != 1) {
        return fm_error_set(reterr, FM_EINVAL, "cannot read the certificate '%s': %s",
                            options->certificate_path, reason());
    }
    return key_load(context, tls, reterr);
}

int fm_tls_create_client(const struct fm_tls_client_options *options, struct fm_tls **ret_tls,
                         struct fm_error *reterr)
{
    FM_ASSERT(options->server_name != NULL);
    FM_ASSERT((options->certificate_path == NULL) == (options->key_path == NULL));
    struct fm_tls *tls = fm_alloc_zero(1, sizeof(*tls));
    int status = FM_ENOMEM;
    ERR_clear_error();
    if (tls != NULL) {
        fm_mutex_init(&tls->mutex);
        tls->server_name = fm_strdup(options->server_name);
        tls->certificate_path =
            fm_strdup(options->certificate_path != NULL ? options->certificate_path : "");
        tls->key_path = fm_strdup(options->key_path != NULL ? options->key_path : "");
        tls->context = SSL_CTX_new(TLS_client_method());
    }
    if (tls == NULL || tls->server_name == NULL || tls->certificate_path == NULL ||
        tls->key_path == NULL || tls->context == NULL) {
        (void)fm_error_set(reterr, FM_ENOMEM, "out of memory while setting TLS up");
    } else {
        (void)SSL_CTX_set_min_proto_version(tls->context, TLS1_2_VERSION);
        (void)SSL_CTX_set_options(tls->context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                                    SSL_OP_IGNORE_UNEXPECTED_EOF);
        (void)SSL_CTX_set_mode(tls->context, SSL_MODE_RELEASE_BUFFERS);
        SSL_CTX_set_verify(tls->context, SSL_VERIFY_PEER, NULL);
        status = client_load(tls->context, options, tls, reterr);
    }
    if (status != 0) {
        fm_tls_destroy(tls);
        return status;
    }
    *ret_tls = tls;
    return 0;
}

/* Whom we want to talk to, and how. */
static bool session_aim(struct fm_tls_session *session, const struct fm_tls *tls)
{
    SSL *ssl = session->ssl;
    unsigned char offer[32];
    size_t length = strlen(session->protocol);
    FM_ASSERT(length > 0 && length < sizeof(offer));
    offer[0] = (unsigned char)length;
    memcpy(offer + 1, session->protocol, length);
    SSL_set_connect_state(ssl);
    /* 0 is success for this one alone. */
    bool good = SSL_set_alpn_protos(ssl, offer, (unsigned)length + 1) == 0;
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), tls->server_name) != 1) {
        good = good && SSL_set_tlsext_host_name(ssl, tls->server_name) == 1 &&
               SSL_set1_host(ssl, tls->server_name) == 1;
    }
    ERR_clear_error();
    return good;
}

int fm_tls_reload(struct fm_tls *tls, struct fm_error *reterr)
{
    SSL_CTX *context = NULL;
    int status = context_make(tls, &context, reterr);
    if (status != 0) {
        return status;
    }
    fm_mutex_lock(&tls->mutex);
    SSL_CTX *before = tls->context;
    tls->context = context;
    fm_mutex_unlock(&tls->mutex);
    /* Sessions have references of their own. */
    SSL_CTX_free(before);
    return 0;
}

void fm_tls_destroy(struct fm_tls *tls)
{
    if (tls == NULL) {
        return;
    }
    SSL_CTX_free(tls->context);
    fm_mutex_deinit(&tls->mutex);
    fm_free(tls->certificate_path);
    fm_free(tls->key_path);
    fm_free(tls->client_ca_path);
    fm_free(tls->server_name);
    fm_free(tls);
}

/* --- Sessions --- */

struct fm_tls_session *fm_tls_session_create(struct fm_tls *tls, const char *protocol)
{
    struct fm_tls_session *session = fm_alloc_zero(1, sizeof(*session));
    if (session == NULL) {
        return NULL;
    }
    session->protocol = protocol;
    fm_mutex_lock(&tls->mutex);
    session->ssl = SSL_new(tls->context);
    fm_mutex_unlock(&tls->mutex);
    session->in = BIO_new(BIO_s_mem());
    session->out = BIO_new(BIO_s_mem());
    if (session->ssl == NULL || session->in == NULL || session->out == NULL) {
        BIO_free(session->in);
        BIO_free(session->out);
        SSL_free(session->ssl);
        fm_free(session);
        return NULL;
    }
    /* An empty one means "later", not the end. */
    (void)BIO_set_mem_eof_return(session->in, -1);
    (void)BIO_set_mem_eof_return(session->out, -1);
    SSL_set_bio(session->ssl, session->in, session->out);
    (void)SSL_set_app_data(session->ssl, session);
    if (tls->server_name == NULL) {
        SSL_set_accept_state(session->ssl);
    } else if (!session_aim(session, tls)) {
        fm_tls_session_destroy(session);
        return NULL;
    }
    return session;
}

void fm_tls_session_destroy(struct fm_tls_session *session)
{
    if (session != NULL) {
        SSL_free(session->ssl); /* with its BIOs */
        fm_free(session);
    }
}

/* Goes on with it. */
static int handshake(struct fm_tls_session *session)
{
    int result = SSL_do_handshake(session->ssl);
    if (result == 1 || SSL_get_error(session->ssl, result) == SSL_ERROR_WANT_READ) {
        return 0;
    }
    unsigned long code = ERR_peek_error();
    long verified = SSL_get_verify_result(session->ssl);
    session->problem = ERR_reason_error_string(code);
    if (verified != X509_V_OK) {
        (void)snprintf(session->problem_text, sizeof(session->problem_text),
                       "its certificate is not to be trusted: %s",
                       X509_verify_cert_error_string(verified));
        session->problem = session->problem_text;
    }
    ERR_clear_error();
    return ERR_GET_REASON(code) == SSL_R_HTTP_REQUEST ? FM_ETYPE : FM_ECORRUPT;
}

int fm_tls_session_start(struct fm_tls_session *session)
{
    ERR_clear_error();
    return handshake(session);
}

const char *fm_tls_session_problem(const struct fm_tls_session *session)
{
    return session->problem;
}

int fm_tls_session_feed(struct fm_tls_session *session, const void *data, size_t size)
{
    size_t taken = 0;
    ERR_clear_error();
    if (BIO_write_ex(session->in, data, size, &taken) != 1 || taken != size) {
        return FM_ENOMEM;
    }
    if (SSL_is_init_finished(session->ssl)) {
        return 0;
    }
    return handshake(session);
}

bool fm_tls_session_is_ready(const struct fm_tls_session *session)
{
    return SSL_is_init_finished(session->ssl) == 1;
}

int fm_tls_session_read(struct fm_tls_session *session, void *data, size_t size_max,
                        size_t *ret_size)
{
    ERR_clear_error();
    *ret_size = 0;
    int result = SSL_read_ex(session->ssl, data, size_max, ret_size);
    if (result == 1) {
        return 0;
    }
    int error = SSL_get_error(session->ssl, result);
    ERR_clear_error();
    if (error == SSL_ERROR_ZERO_RETURN) {
        return FM_ECANCELLED;
    }
    return error == SSL_ERROR_WANT_READ ? 0 : FM_ECORRUPT;
}

int fm_tls_session_write(struct fm_tls_session *session, const void *data, size_t size)
{
    const char *bytes = data;
    ERR_clear_error();
    while (size > 0) {
        size_t piece = size < WRITE_BYTES_MAX ? size : WRITE_BYTES_MAX;
        size_t written = 0;
        if (SSL_write_ex(session->ssl, bytes, piece, &written) != 1) {
            ERR_clear_error();
            return FM_EIO;
        }
        bytes += written;
        size -= written;
    }
    return 0;
}

void fm_tls_session_end(struct fm_tls_session *session)
{
    ERR_clear_error();
    if (SSL_is_init_finished(session->ssl)) {
        (void)SSL_shutdown(session->ssl);
    }
    ERR_clear_error();
}

size_t fm_tls_session_output(struct fm_tls_session *session, const char **ret_data)
{
    char *data = NULL;
    long size = BIO_get_mem_data(session->out, &data);
    *ret_data = data;
    return size > 0 ? (size_t)size : 0;
}

void fm_tls_session_output_clear(struct fm_tls_session *session)
{
    (void)BIO_reset(session->out);
}
