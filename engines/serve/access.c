/*
 * Who may ask what, and how often. See access.h.
 */
#include "engines/serve/access.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/file.h"
#include "host/os/log.h"
#include "host/os/os.h"
#include "host/os/thread.h"

#define SHARDS          64u
#define SHARD_CLIENTS   (FM_ACCESS_CLIENTS_MAX / SHARDS)
#define LOG_INTERVAL_NS UINT64_C(10000000000)

#define CORS_FIELDS                       \
    "Access-Control-Allow-Origin: %s\r\n" \
    "Access-Control-Expose-Headers: "     \
    "Inference-Header-Content-Length, Retry-After\r\n%s"
#define CORS_PREFLIGHT_FIELDS                                                \
    "Access-Control-Allow-Methods: GET, HEAD, POST\r\n"                      \
    "Access-Control-Allow-Headers: Authorization, X-API-Key, Content-Type, " \
    "Content-Encoding, Inference-Header-Content-Length\r\n"                  \
    "Access-Control-Max-Age: 600\r\n"

struct shard {
    struct fm_mutex mutex;
    struct fm_client_table table;
};

struct origin {
    const char *name; /* borrowed */
    char *fields;
    char *preflight_fields;
};

struct fm_access {
    struct fm_access_options options;
    struct fm_digester *digester; /* the main loop's */
    struct fm_mutex mutex;
    struct fm_access_tokens *tokens; /* behind mutex; NULL: everybody may do everything */
    _Atomic uint64_t generation;     /* of tokens */
    struct shard shards[SHARDS];
    uint64_t seed[2];
    atomic_uint_fast64_t refused[FM_ACCESS_VERDICT_COUNT_];
    atomic_uint_fast64_t reloads;
    atomic_uint_fast64_t reload_failures;
    struct origin *origins;
};

/* --- words --- */

/* What a token needs for a class, and what is said where it lacks it. */
#define SCOPE(bit, name)                                                           \
    {                                                                              \
        bit, "the token is good, but not for this: it needs the scope '" name "'", \
            "Bearer error=\"insufficient_scope\", scope=\"" name "\""              \
    }
static const struct {
    uint32_t bit;
    const char *text;
    const char *challenge;
} scopes[FM_ACCESS_CLASS_COUNT_] = {
    [FM_ACCESS_OPEN] = {0, "", ""},
    [FM_ACCESS_HEALTH] = SCOPE(FM_ACCESS_SCOPE_READ, "read"),
    [FM_ACCESS_INFER] = SCOPE(FM_ACCESS_SCOPE_INFER, "infer"),
    [FM_ACCESS_READ] = SCOPE(FM_ACCESS_SCOPE_READ, "read"),
    [FM_ACCESS_CONTROL] = SCOPE(FM_ACCESS_SCOPE_CONTROL, "control"),
    [FM_ACCESS_OBSERVE] = SCOPE(FM_ACCESS_SCOPE_OBSERVE, "observe"),
};

static const struct {
    const char *name;
    const char *text;
} verdicts[] = {
    [FM_ACCESS_GRANTED] = {"granted", ""},
    [FM_ACCESS_NO_TOKEN] = {"no_token", "this server wants a token: send it as 'Authorization: "
                                        "Bearer TOKEN' or 'X-API-Key: TOKEN'"},
    [FM_ACCESS_BAD_TOKEN] = {"bad_token", "this server does not know the token"},
    [FM_ACCESS_NO_SCOPE] = {"no_scope", NULL /* scopes[] has it */},
    [FM_ACCESS_RATE] = {"rate", "more requests than this client may send; slow down"},
    [FM_ACCESS_IN_FLIGHT] = {"in_flight", "more requests at once than this client may have; wait "
                                          "for answers"},
    [FM_ACCESS_CROWDED] = {"crowded", "more clients at once than this server keeps count of; try "
                                      "again"},
    [FM_ACCESS_HOST] = {"host", "the Host header field names another server; whoever runs this one "
                                "can allow it with --allowed-host"},
    [FM_ACCESS_ORIGIN] = {"origin", "pages from elsewhere may not ask this server; whoever runs it "
                                    "can allow theirs with --cors-origin"},
};

const char *fm_access_verdict_name(enum fm_access_verdict verdict)
{
    return verdicts[verdict].name;
}

const char *fm_access_verdict_text(enum fm_access_verdict verdict, enum fm_access_class class)
{
    return verdict == FM_ACCESS_NO_SCOPE ? scopes[class].text : verdicts[verdict].text;
}

const char *fm_access_verdict_challenge(enum fm_access_verdict verdict, enum fm_access_class class)
{
    return verdict == FM_ACCESS_NO_TOKEN    ? "Bearer realm=\"fermata\""
           : verdict == FM_ACCESS_BAD_TOKEN ? "Bearer realm=\"fermata\", error=\"invalid_token\""
           : verdict == FM_ACCESS_NO_SCOPE  ? scopes[class].challenge
                                            : NULL;
}

/* --- life --- */

static int tokens_load(struct fm_access *access, struct fm_access_tokens **ret_tokens,
                       struct fm_error *reterr)
{
    char *text = NULL;
    size_t size = 0;
    int status = fm_file_read_secret(access->options.token_file, FM_ACCESS_FILE_BYTES_MAX, &text,
                                     &size, reterr);
    if (status == 0) {
        status = fm_access_tokens_parse(access->digester, access->options.token_file, text, size,
                                        &access->options.limit, ret_tokens, reterr);
        memset(text, 0, size);
        fm_free(text);
    }
    return status;
}

static int origins_make(struct fm_access *access)
{
    const struct fm_access_options *options = &access->options;
    access->origins = fm_alloc_zero(options->origin_count + 1, sizeof *access->origins);
    for (uint32_t i = 0; access->origins != NULL && i < options->origin_count; i++) {
        struct origin *origin = &access->origins[i];
        struct fm_text text = {0};
        origin->name = options->origins[i];
        fm_text_append_format(&text, CORS_FIELDS, origin->name,
                              strcmp(origin->name, "*") == 0 ? "" : "Vary: Origin\r\n");
        origin->fields = fm_text_take(&text);
        text = (struct fm_text){0};
        fm_text_append_string(&text, origin->fields != NULL ? origin->fields : "");
        fm_text_append_string(&text, CORS_PREFLIGHT_FIELDS);
        origin->preflight_fields = fm_text_take(&text);
        if (origin->fields == NULL || origin->preflight_fields == NULL) {
            return FM_ENOMEM;
        }
    }
    return access->origins != NULL ? 0 : FM_ENOMEM;
}

int fm_access_create(const struct fm_access_options *options, struct fm_access **ret_access,
                     struct fm_error *reterr)
{
    struct fm_access *access = fm_alloc_zero(1, sizeof *access);
    if (access == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while starting");
    }
    access->options = *options;
    fm_mutex_init(&access->mutex);
    access->seed[0] = fm_os_entropy();
    access->seed[1] = fm_os_entropy();
    for (uint32_t i = 0; i < SHARDS; i++) {
        fm_mutex_init(&access->shards[i].mutex);
        fm_client_table_init(&access->shards[i].table, SHARD_CLIENTS, access->seed);
    }
    access->digester = fm_digester_create();
    int status = access->digester != NULL ? origins_make(access) : FM_ENOMEM;
    if (status != 0) {
        (void)fm_error_set(reterr, status, "out of memory while starting");
    } else if (options->token_file != NULL) {
        status = tokens_load(access, &access->tokens, reterr);
    }
    if (status != 0) {
        fm_access_destroy(access);
        return status;
    }
    *ret_access = access;
    return 0;
}

void fm_access_destroy(struct fm_access *access)
{
    if (access == NULL) {
        return;
    }
    for (uint32_t i = 0; i < SHARDS; i++) {
        fm_client_table_deinit(&access->shards[i].table);
        fm_mutex_deinit(&access->shards[i].mutex);
    }
    for (uint32_t i = 0; access->origins != NULL && i < access->options.origin_count; i++) {
        fm_free(access->origins[i].fields);
        fm_free(access->origins[i].preflight_fields);
    }
    fm_free(access->origins);
    fm_access_tokens_unref(access->tokens);
    fm_digester_destroy(access->digester);
    fm_mutex_deinit(&access->mutex);
    fm_free(access);
}

int fm_access_reload(struct fm_access *access, struct fm_error *reterr)
{
    struct fm_access_tokens *tokens = NULL;
    if (access->options.token_file == NULL) {
        return 0;
    }
    int status = tokens_load(access, &tokens, reterr);
    if (status != 0) {
        atomic_fetch_add_explicit(&access->reload_failures, 1, memory_order_relaxed);
        return status;
    }
    fm_mutex_lock(&access->mutex);
    struct fm_access_tokens *before = access->tokens;
    access->tokens = tokens;
    fm_mutex_unlock(&access->mutex);
    atomic_fetch_add_explicit(&access->generation, 1, memory_order_release);
    atomic_fetch_add_explicit(&access->reloads, 1, memory_order_relaxed);
    fm_access_tokens_unref(before);
    return 0;
}

uint32_t fm_access_token_count(struct fm_access *access)
{
    fm_mutex_lock(&access->mutex);
    uint32_t count = access->tokens != NULL ? fm_access_tokens_count(access->tokens) : 0;
    fm_mutex_unlock(&access->mutex);
    return count;
}

/* --- seats --- */

/* The tokens in force, for the seat. */
static void seat_look(struct fm_access_seat *seat, uint64_t generation)
{
    struct fm_access *access = seat->access;
    struct fm_access_tokens *before = seat->tokens;
    fm_mutex_lock(&access->mutex);
    seat->tokens = access->tokens != NULL ? fm_access_tokens_ref(access->tokens) : NULL;
    fm_mutex_unlock(&access->mutex);
    seat->generation = generation;
    fm_access_tokens_unref(before);
}

int fm_access_seat_init(struct fm_access_seat *seat, struct fm_access *access,
                        struct fm_error *reterr)
{
    *seat = (struct fm_access_seat){.access = access, .digester = fm_digester_create()};
    if (seat->digester == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory while starting");
    }
    seat_look(seat, atomic_load_explicit(&access->generation, memory_order_acquire));
    return 0;
}

void fm_access_seat_deinit(struct fm_access_seat *seat)
{
    fm_access_tokens_unref(seat->tokens);
    fm_digester_destroy(seat->digester);
    *seat = (struct fm_access_seat){0};
}

/* --- who --- */

enum { KEY_ADDRESS = 1, KEY_TOKEN = 2 };

static void who_by_address(const struct fm_access *access, const struct fm_peer *peer,
                           struct fm_access_who *ret_who)
{
    size_t size = peer->kind == FM_PEER_IPV4 ? 4 : peer->kind == FM_PEER_IPV6 ? 8 : 0;
    ret_who->key = (struct fm_client_key){{0}};
    ret_who->limit = access->options.limit;
    ret_who->name[0] = '\0';
    ret_who->key.bytes[0] = KEY_ADDRESS;
    ret_who->key.bytes[1] = (uint8_t)peer->kind;
    memcpy(ret_who->key.bytes + 2, peer->address, size);
}

void fm_access_who_name(const struct fm_access_who *who, char *text, size_t size)
{
    const uint8_t *a = who->key.bytes + 2;
    if (who->key.bytes[0] == KEY_TOKEN) {
        (void)snprintf(text, size, "%s", who->name);
    } else if (who->key.bytes[1] == FM_PEER_IPV4) {
        (void)snprintf(text, size, "%u.%u.%u.%u", a[0], a[1], a[2], a[3]);
    } else if (who->key.bytes[1] == FM_PEER_IPV6) {
        (void)snprintf(text, size, "%x:%x:%x:%x::/64", a[0] << 8 | a[1], a[2] << 8 | a[3],
                       a[4] << 8 | a[5], a[6] << 8 | a[7]);
    } else {
        (void)snprintf(text, size, "unix");
    }
}

/* The token that was sent, or NULL. */
static const char *token_sent(const struct fm_access_credentials *credentials)
{
    const char *sent = credentials->authorization;
    if (sent != NULL && strncasecmp(sent, "Bearer ", 7) == 0) {
        return sent + 7 + strspn(sent + 7, " ");
    }
    return credentials->api_key;
}

bool fm_access_has_tokens(const struct fm_access *access)
{
    return access->options.token_file != NULL;
}

enum fm_access_verdict fm_access_identify(struct fm_access_seat *seat, const struct fm_peer *peer,
                                          const struct fm_access_credentials *credentials,
                                          enum fm_access_class class, struct fm_access_who *ret_who)
{
    const struct fm_access *access = seat->access;
    uint8_t digest[FM_SHA256_BYTES];
    who_by_address(access, peer, ret_who);
    if (access->options.token_file == NULL || class == FM_ACCESS_OPEN ||
        (class == FM_ACCESS_HEALTH && !access->options.auth_health)) {
        return FM_ACCESS_GRANTED;
    }
    uint64_t generation = atomic_load_explicit(&access->generation, memory_order_acquire);
    if (generation != seat->generation) {
        seat_look(seat, generation);
    }
    const char *sent = token_sent(credentials);
    if (sent == NULL) {
        return FM_ACCESS_NO_TOKEN;
    }
    size_t length = strnlen(sent, FM_ACCESS_TOKEN_BYTES_MAX + 1);
    const struct fm_access_token *token = NULL;
    if (length <= FM_ACCESS_TOKEN_BYTES_MAX &&
        fm_sha256(seat->digester, sent, length, digest) == 0) {
        token = fm_access_tokens_find(seat->tokens, digest);
    }
    if (token == NULL) {
        return FM_ACCESS_BAD_TOKEN;
    }
    ret_who->key = (struct fm_client_key){.bytes = {KEY_TOKEN}};
    memcpy(ret_who->key.bytes + 1, token->digest, FM_CLIENT_KEY_BYTES - 1);
    ret_who->limit = token->limit;
    memcpy(ret_who->name, token->name, sizeof token->name);
    return (token->scopes & scopes[class].bit) != 0 ? FM_ACCESS_GRANTED : FM_ACCESS_NO_SCOPE;
}

/* --- shares --- */

static uint32_t shard_of(const struct fm_access *access, const struct fm_client_key *key)
{
    /* The tables take the lower bits. */
    return (uint32_t)(fm_client_hash(access->seed, key) >> 32) % SHARDS;
}

enum fm_access_verdict fm_access_take(struct fm_access *access, const struct fm_access_who *who,
                                      uint64_t now_ns, uint64_t *ret_wait_ns)
{
    if (who->limit.interval_ns == 0) {
        return FM_ACCESS_GRANTED;
    }
    struct shard *shard = &access->shards[shard_of(access, &who->key)];
    enum fm_access_verdict verdict = FM_ACCESS_GRANTED;
    fm_mutex_lock(&shard->mutex);
    uint32_t index = fm_client_table_find(&shard->table, &who->key, now_ns);
    if (index == FM_CLIENT_NONE) {
        verdict = FM_ACCESS_CROWDED;
        *ret_wait_ns = who->limit.interval_ns;
    } else if (!fm_client_table_take(&shard->table, index, &who->limit, now_ns, ret_wait_ns)) {
        verdict = FM_ACCESS_RATE;
    }
    fm_mutex_unlock(&shard->mutex);
    return verdict;
}

enum fm_access_verdict fm_access_enter(struct fm_access *access, const struct fm_access_who *who,
                                       uint64_t now_ns, uint32_t *ret_slot)
{
    *ret_slot = 0;
    if (who->limit.in_flight_max == 0) {
        return FM_ACCESS_GRANTED;
    }
    uint32_t number = shard_of(access, &who->key);
    struct shard *shard = &access->shards[number];
    enum fm_access_verdict verdict = FM_ACCESS_GRANTED;
    fm_mutex_lock(&shard->mutex);
    uint32_t index = fm_client_table_find(&shard->table, &who->key, now_ns);
    if (index == FM_CLIENT_NONE) {
        verdict = FM_ACCESS_CROWDED;
    } else if (!fm_client_table_enter(&shard->table, index, &who->limit)) {
        verdict = FM_ACCESS_IN_FLIGHT;
    } else {
        *ret_slot = 1 + number * SHARD_CLIENTS + index;
    }
    fm_mutex_unlock(&shard->mutex);
    return verdict;
}

void fm_access_leave(struct fm_access *access, uint32_t slot)
{
    if (slot == 0) {
        return;
    }
    struct shard *shard = &access->shards[(slot - 1) / SHARD_CLIENTS];
    fm_mutex_lock(&shard->mutex);
    fm_client_table_leave(&shard->table, (slot - 1) % SHARD_CLIENTS);
    fm_mutex_unlock(&shard->mutex);
}

void fm_access_refused(struct fm_access *access, const struct fm_access_who *who,
                       enum fm_access_verdict verdict, const char *protocol, uint64_t now_ns)
{
    struct shard *shard = &access->shards[shard_of(access, &who->key)];
    atomic_fetch_add_explicit(&access->refused[verdict], 1, memory_order_relaxed);
    fm_mutex_lock(&shard->mutex);
    uint32_t index = fm_client_table_find(&shard->table, &who->key, now_ns);
    bool say = index == FM_CLIENT_NONE ||
               fm_client_table_note(&shard->table, index, now_ns, LOG_INTERVAL_NS);
    fm_mutex_unlock(&shard->mutex);
    if (say) {
        char name[FM_ACCESS_NAME_BYTES_MAX + 1];
        fm_access_who_name(who, name, sizeof name);
        fm_log(FM_LOG_WARNING, "access_refused", FM_LOG_TEXT("client", name),
               FM_LOG_TEXT("reason", verdicts[verdict].name), FM_LOG_TEXT("protocol", protocol));
    }
}

const char *fm_access_cors(const struct fm_access *access, const char *origin, bool preflight)
{
    for (uint32_t i = 0; i < access->options.origin_count; i++) {
        const struct origin *one = &access->origins[i];
        if (strcmp(one->name, "*") == 0 || strcasecmp(one->name, origin) == 0) {
            return preflight ? one->preflight_fields : one->fields;
        }
    }
    return NULL;
}

void fm_access_view(struct fm_access *access, struct fm_view_access *ret_view)
{
    *ret_view = (struct fm_view_access){
        .tokens = fm_access_token_count(access),
        .reloads = atomic_load_explicit(&access->reloads, memory_order_relaxed),
        .reload_failures = atomic_load_explicit(&access->reload_failures, memory_order_relaxed)};
    static_assert(FM_VIEW_ACCESS_REASONS == FM_ACCESS_VERDICT_COUNT_ - 1,
                  "the view has a place for each reason");
    for (uint32_t i = 1; i < FM_ACCESS_VERDICT_COUNT_; i++) {
        ret_view->refused[i - 1] = (struct fm_view_refused){
            verdicts[i].name, atomic_load_explicit(&access->refused[i], memory_order_relaxed)};
    }
    for (uint32_t i = 0; i < SHARDS; i++) {
        fm_mutex_lock(&access->shards[i].mutex);
        ret_view->clients += access->shards[i].table.count;
        ret_view->evicted += access->shards[i].table.evicted;
        fm_mutex_unlock(&access->shards[i].mutex);
    }
}
