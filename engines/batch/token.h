/*
 * The token that workers of other hosts show to a master.
 *
 * Owns: its file's form, comparing. Does not own: where it is shown (host.h, worker.h). Thread
 * rule: no shared state.
 */
#ifndef FM_ENGINES_BATCH_TOKEN_H
#define FM_ENGINES_BATCH_TOKEN_H

#include <stdbool.h>

#include "fermata/status.h"

#define FM_BATCH_TOKEN_BYTES_MIN 16u
#define FM_BATCH_TOKEN_BYTES_MAX 512u

struct fm_batch_token {
    char header[FM_BATCH_TOKEN_BYTES_MAX + 8]; /* "Bearer ...", as it is sent */
};

/* The file holds one token of visible characters, and perhaps a newline. FM_EINVAL. */
int FM_NODISCARD fm_batch_token_read(const char *path, struct fm_batch_token *ret_token,
                                     struct fm_error *reterr);
/* Whether a header (NULL: there is none) shows the token. Takes as long wherever they differ. */
bool fm_batch_token_is(const struct fm_batch_token *token, const char *header);

#endif
