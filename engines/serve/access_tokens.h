/*
 * The token file: who may do what, and how often.
 *
 * Owns: the file's format, finding a token by its digest. Does not own: reading the file, deciding
 * about requests (access.h). Tokens are kept as SHA-256 digests only, and no message repeats a word
 * of the file that could be one. Thread rule: a set is constant once it is made; references may be
 * taken and given back by any thread.
 *
 * One token a line, words separated by blanks, '#' begins a comment:
 *
 *   NAME TOKEN [SCOPE...] [rate=N/s[:BURST]] [in-flight=N]
 *
 * TOKEN is the token itself (16 to 512 visible characters) or sha256: and 64 hexadecimal digits.
 */
#ifndef FM_ENGINES_SERVE_ACCESS_TOKENS_H
#define FM_ENGINES_SERVE_ACCESS_TOKENS_H

#include <stddef.h>
#include <stdint.h>

#include "core/util/client_table.h"
#include "host/net/digest.h"

#define FM_ACCESS_TOKENS_MAX      4096u /* in one file; more are an error */
#define FM_ACCESS_FILE_BYTES_MAX  ((size_t)4 << 20)
#define FM_ACCESS_NAME_BYTES_MAX  64u
#define FM_ACCESS_TOKEN_BYTES_MIN 16u
#define FM_ACCESS_TOKEN_BYTES_MAX 512u

enum fm_access_scope {
    FM_ACCESS_SCOPE_INFER = 1u << 0,
    FM_ACCESS_SCOPE_READ = 1u << 1,    /* metadata, statistics, health with --auth-health */
    FM_ACCESS_SCOPE_CONTROL = 1u << 2, /* repository, shared memory, settings */
    FM_ACCESS_SCOPE_OBSERVE = 1u << 3, /* metrics, the dashboard's numbers */
};

struct fm_access_token {
    char name[FM_ACCESS_NAME_BYTES_MAX + 1];
    uint8_t digest[FM_SHA256_BYTES];
    uint32_t scopes;
    struct fm_client_limit limit;
};

struct fm_access_tokens;

/*
 * `text` is the file's content, which is changed. A token that says nothing about a limit has that
 * of `limit`, one that names no scopes infer and read. FM_EINVAL names path and line; FM_ENOMEM.
 */
int FM_NODISCARD fm_access_tokens_parse(struct fm_digester *digester, const char *path, char *text,
                                        size_t size, const struct fm_client_limit *limit,
                                        struct fm_access_tokens **ret_tokens,
                                        struct fm_error *reterr);
struct fm_access_tokens *fm_access_tokens_ref(struct fm_access_tokens *tokens);
void fm_access_tokens_unref(struct fm_access_tokens *tokens); /* accepts NULL */
uint32_t fm_access_tokens_count(const struct fm_access_tokens *tokens);
/* NULL: there is none. */
const struct fm_access_token *fm_access_tokens_find(const struct fm_access_tokens *tokens,
                                                    const uint8_t digest[FM_SHA256_BYTES]);

#endif
