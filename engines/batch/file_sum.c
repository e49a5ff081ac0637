/*
 * Checksums of files. See file_sum.h.
 */
#include "engines/batch/file_sum.h"

#include "core/util/error.h"
#include "core/util/hash.h"
#include "core/util/memory.h"
#include "host/os/file_reader.h"

enum { READ_CHUNK = 1 << 16 };

int fm_file_sum(const char *path, uint64_t *ret_checksum, uint64_t *ret_bytes,
                struct fm_error *reterr)
{
    struct fm_file_reader reader = {0};
    uint64_t offset = 0;
    uint64_t checksum = FM_HASH_START;
    size_t size = 1;
    char *chunk = fm_alloc(READ_CHUNK);
    int status = chunk == NULL
                     ? fm_error_set(reterr, FM_ENOMEM, "out of memory to check '%s'", path)
                     : fm_file_reader_open(&reader, path, reterr);
    while (status == 0 && size > 0) {
        status = fm_file_reader_read_at(&reader, offset, chunk, READ_CHUNK, &size, reterr);
        if (status == 0) {
            checksum = fm_hash_add(checksum, chunk, size);
            offset += size;
        }
    }
    fm_file_reader_close(&reader);
    fm_free(chunk);
    *ret_checksum = checksum;
    *ret_bytes = offset;
    return status;
}
