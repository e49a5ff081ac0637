/*
 * The token of a job's workers. See token.h.
 */
#include "engines/batch/token.h"

#include <stdio.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/os/file.h"

int fm_batch_token_read(const char *path, struct fm_batch_token *ret_token, struct fm_error *reterr)
{
    char *data = NULL;
    size_t size = 0;
    int status = fm_file_read(path, 4096, &data, &size, reterr);
    if (status != 0) {
        return status;
    }
    while (size > 0 && (data[size - 1] == '\n' || data[size - 1] == '\r')) {
        size--;
    }
    for (size_t i = 0; i < size && status == 0; i++) {
        status = data[i] > ' ' && data[i] < 0x7f ? 0 : FM_EINVAL;
    }
    if (status != 0 || size < FM_BATCH_TOKEN_BYTES_MIN || size > FM_BATCH_TOKEN_BYTES_MAX) {
        status = fm_error_set(reterr, FM_EINVAL,
                              "'%s' must hold one token of %u to %u visible characters, and "
                              "nothing else; make one with: openssl rand -hex 32",
                              path, FM_BATCH_TOKEN_BYTES_MIN, FM_BATCH_TOKEN_BYTES_MAX);
    } else {
        (void)snprintf(ret_token->header, sizeof(ret_token->header), "Bearer %.*s", (int)size,
                       data);
    }
    fm_free(data);
    return status;
}

bool fm_batch_token_is(const struct fm_batch_token *token, const char *header)
{
    size_t length = strlen(token->header);
    size_t shown = header != NULL ? strlen(header) : 0;
    unsigned char difference = shown == length ? 0 : 1;
    for (size_t i = 0; i < length; i++) {
        char other = i < shown ? header[i] : '\0';
        difference |= (unsigned char)(token->header[i] ^ other);
    }
    return difference == 0;
}
