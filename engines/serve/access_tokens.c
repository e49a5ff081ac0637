/*
 * The token file. See access_tokens.h.
 */
#include "engines/serve/access_tokens.h"

#include <stdatomic.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/text.h"

#define DIGEST_PREFIX "sha256:"

struct fm_access_tokens {
    atomic_uint references;
    uint32_t count;
    uint32_t slot_mask;
    uint32_t *slots; /* 1 + index of a token; 0: none. By the first bytes of the digest */
    struct fm_access_token list[];
};

struct reader {
    struct fm_digester *digester;
    const char *path;
    uint32_t line;
    const struct fm_client_limit *limit;
    struct fm_error *reterr;
};

static int fail(const struct reader *reader, const char *problem)
{
    return fm_error_set(reader->reterr, FM_EINVAL, "token file '%s', line %u: %s", reader->path,
                        reader->line, problem);
}

/* The next word of the line, NUL-terminated in place; NULL: no more. */
static char *word_next(char **place)
{
    char *word = *place + strspn(*place, " \t\r");
    if (*word == '\0' || *word == '#') {
        return NULL;
    }
    char *end = word + strcspn(word, " \t\r");
    *place = *end == '\0' ? end : end + 1;
    *end = '\0';
    return word;
}

static int digest_read(const struct reader *reader, const char *word,
                       uint8_t ret_digest[FM_SHA256_BYTES])
{
    size_t length = strlen(word);
    if (strncmp(word, DIGEST_PREFIX, strlen(DIGEST_PREFIX)) == 0) {
        const char *hex = word + strlen(DIGEST_PREFIX);
        bool good = strlen(hex) == (size_t)2 * FM_SHA256_BYTES;
        for (size_t i = 0; good && i < FM_SHA256_BYTES; i++) {
            int high = fm_hex_digit(hex[2 * i]);
            int low = fm_hex_digit(hex[2 * i + 1]);
            good = high >= 0 && low >= 0;
            if (good) {
                ret_digest[i] = (uint8_t)(high << 4 | low);
            }
        }
        return good ? 0 : fail(reader, "behind sha256: there must be 64 hexadecimal digits");
    }
    for (size_t i = 0; i < length; i++) {
        if (word[i] < '!' || word[i] > '~') {
            return fail(reader, "a token consists of visible ASCII characters");
        }
    }
    if (length < FM_ACCESS_TOKEN_BYTES_MIN || length > FM_ACCESS_TOKEN_BYTES_MAX) {
        return fail(reader, "a token has 16 to 512 characters (make one with: openssl rand -hex "
                            "32)");
    }
    return fm_sha256(reader->digester, word, length, ret_digest) == 0
               ? 0
               : fm_error_set(reader->reterr, FM_ENOMEM, "out of memory for the token file");
}

/* A scope or a limit. */
static int grant_read(const struct reader *reader, const char *word, struct fm_access_token *token)
{
    static const struct {
        const char *name;
        uint32_t scopes;
    } scopes[] = {{"infer", FM_ACCESS_SCOPE_INFER},
                  {"read", FM_ACCESS_SCOPE_READ},
                  {"control", FM_ACCESS_SCOPE_CONTROL},
                  {"observe", FM_ACCESS_SCOPE_OBSERVE},
                  {"all", FM_ACCESS_SCOPE_INFER | FM_ACCESS_SCOPE_READ | FM_ACCESS_SCOPE_CONTROL |
                              FM_ACCESS_SCOPE_OBSERVE}};
    uint64_t number = 0;
    for (size_t i = 0; i < FM_COUNT_OF(scopes); i++) {
        if (strcmp(word, scopes[i].name) == 0) {
            token->scopes |= scopes[i].scopes;
            return 0;
        }
    }
    if (strcmp(word, "rate=none") == 0) {
        token->limit.interval_ns = 0;
        return 0;
    }
    if (strncmp(word, "rate=", 5) == 0) {
        return fm_client_rate_parse(word + 5, &token->limit, NULL) == 0
                   ? 0
                   : fail(reader, "rate= wants something like 100/s, 100/s:300, 30/m:5 or none");
    }
    if (strcmp(word, "in-flight=none") == 0) {
        token->limit.in_flight_max = 0;
        return 0;
    }
    if (strncmp(word, "in-flight=", 10) == 0) {
        if (fm_parse_uint64(word + 10, &number) != 0 || number == 0 || number > 1000000) {
            return fail(reader, "in-flight= wants a number from 1 to 1000000, or none");
        }
        token->limit.in_flight_max = (uint32_t)number;
        return 0;
    }
    return fail(reader, "behind the token come scopes (infer, read, control, observe, all), "
                        "rate=... and in-flight=... only");
}

static int line_read(const struct reader *reader, const char *name, char *rest,
                     struct fm_access_token *ret_token)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "._@-";
    size_t length = strlen(name);
    *ret_token = (struct fm_access_token){.limit = *reader->limit};
    if (length > FM_ACCESS_NAME_BYTES_MAX || strspn(name, letters) != length) {
        return fail(reader, "a name has at most 64 letters, digits, '.', '_', '@' and '-'");
    }
    memcpy(ret_token->name, name, length + 1);
    const char *word = word_next(&rest);
    if (word == NULL) {
        return fail(reader, "there is no token behind the name");
    }
    int status = digest_read(reader, word, ret_token->digest);
    while (status == 0 && (word = word_next(&rest)) != NULL) {
        status = grant_read(reader, word, ret_token);
    }
    if (ret_token->scopes == 0) {
        ret_token->scopes = FM_ACCESS_SCOPE_INFER | FM_ACCESS_SCOPE_READ;
    }
    return status;
}

/* --- the set --- */

static uint32_t slot_of(const struct fm_access_tokens *tokens, const uint8_t *digest)
{
    uint32_t start = 0;
    memcpy(&start, digest, sizeof start);
    return start & tokens->slot_mask;
}

static int add(const struct reader *reader, struct fm_access_tokens *tokens,
               const struct fm_access_token *token)
{
    uint32_t slot = slot_of(tokens, token->digest);
    for (uint32_t i = 0; i < tokens->count; i++) {
        if (strcmp(tokens->list[i].name, token->name) == 0) {
            return fail(reader, "this name stands further up already");
        }
    }
    while (tokens->slots[slot] != 0) {
        if (fm_sha256_equal(tokens->list[tokens->slots[slot] - 1].digest, token->digest)) {
            return fail(reader, "this token stands further up already, under another name");
        }
        slot = (slot + 1) & tokens->slot_mask;
    }
    tokens->list[tokens->count++] = *token;
    tokens->slots[slot] = tokens->count;
    return 0;
}

static struct fm_access_tokens *set_create(uint32_t count_max)
{
    uint32_t slots = 16;
    while (slots < count_max * 2) {
        slots *= 2;
    }
    struct fm_access_tokens *tokens =
        fm_alloc_zero(1, sizeof *tokens + count_max * sizeof tokens->list[0]);
    uint32_t *table = fm_alloc_zero(slots, sizeof *table);
    if (tokens == NULL || table == NULL) {
        fm_free(tokens);
        fm_free(table);
        return NULL;
    }
    atomic_init(&tokens->references, 1);
    tokens->slots = table;
    tokens->slot_mask = slots - 1;
    return tokens;
}

int fm_access_tokens_parse(struct fm_digester *digester, const char *path, char *text, size_t size,
                           const struct fm_client_limit *limit,
                           struct fm_access_tokens **ret_tokens, struct fm_error *reterr)
{
    struct reader reader = {.digester = digester, .path = path, .limit = limit, .reterr = reterr};
    uint32_t lines = 1;
    for (size_t i = 0; i < size; i++) {
        lines += text[i] == '\n' ? 1 : 0;
    }
    struct fm_access_tokens *tokens =
        set_create(lines < FM_ACCESS_TOKENS_MAX ? lines : FM_ACCESS_TOKENS_MAX);
    if (tokens == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the token file");
    }
    int status = 0;
    char *line = text + fm_text_after_bom(text, size);
    const char *end = text + size;
    while (line < end && status == 0) {
        char *next = memchr(line, '\n', (size_t)(end - line));
        size_t length = (size_t)((next != NULL ? next : end) - line);
        reader.line++;
        if (memchr(line, '\0', length) != NULL) {
            status = fail(&reader, "there is a NUL in it; it must be a text");
            break;
        }
        line[length] = '\0';
        struct fm_access_token token;
        char *rest = line;
        const char *name = word_next(&rest);
        if (name != NULL && tokens->count == FM_ACCESS_TOKENS_MAX) {
            status = fail(&reader, "there are more than 4096 tokens");
        } else if (name != NULL) {
            status = line_read(&reader, name, rest, &token);
            status = status == 0 ? add(&reader, tokens, &token) : status;
        }
        line += length + 1;
    }
    if (status == 0 && tokens->count == 0) {
        status = fm_error_set(reterr, FM_EINVAL,
                              "token file '%s': there is no token in it, so nobody could ask "
                              "anything; write lines of NAME TOKEN [SCOPE...]",
                              path);
    }
    if (status != 0) {
        fm_access_tokens_unref(tokens);
        return status;
    }
    *ret_tokens = tokens;
    return 0;
}

struct fm_access_tokens *fm_access_tokens_ref(struct fm_access_tokens *tokens)
{
    atomic_fetch_add_explicit(&tokens->references, 1, memory_order_relaxed);
    return tokens;
}

void fm_access_tokens_unref(struct fm_access_tokens *tokens)
{
    if (tokens != NULL &&
        atomic_fetch_sub_explicit(&tokens->references, 1, memory_order_acq_rel) == 1) {
        fm_free(tokens->slots);
        fm_free(tokens);
    }
}

uint32_t fm_access_tokens_count(const struct fm_access_tokens *tokens)
{
    return tokens->count;
}

const struct fm_access_token *fm_access_tokens_find(const struct fm_access_tokens *tokens,
                                                    const uint8_t digest[FM_SHA256_BYTES])
{
    for (uint32_t slot = slot_of(tokens, digest); tokens->slots[slot] != 0;
         slot = (slot + 1) & tokens->slot_mask) {
        const struct fm_access_token *token = &tokens->list[tokens->slots[slot] - 1];
        if (fm_sha256_equal(token->digest, digest)) {
            return token;
        }
    }
    return NULL;
}
