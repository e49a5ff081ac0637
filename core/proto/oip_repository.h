/*
 * The body of a repository load or unload request (REST form): a JSON object with `parameters`.
 *
 * Owns: `config`, `file:<path>` with its base64, `unload_dependents`. Does not own: what becomes of
 * them. Pure. Thread rule: caller's memory.
 */
#ifndef FM_CORE_PROTO_OIP_REPOSITORY_H
#define FM_CORE_PROTO_OIP_REPOSITORY_H

#include <stdbool.h>

#include "core/util/text.h"

#define FM_OIP_REPOSITORY_FILES_MAX 1024

struct fm_oip_repository_file {
    struct fm_text path; /* behind "file:" */
    struct fm_text content;
};

struct fm_oip_repository_request {
    bool has_config;
    struct fm_text config;
    bool unload_dependents;
    struct fm_oip_repository_file *files;
    uint32_t file_count;
};

/* An empty body is fine. Other parameters are ignored. On failure nothing has to be released. */
int FM_NODISCARD fm_oip_repository_request_decode(const char *data, size_t size,
                                                  struct fm_oip_repository_request *ret_request,
                                                  struct fm_error *reterr);
void fm_oip_repository_request_deinit(struct fm_oip_repository_request *request);

/* Appends what base64 text stands for; blanks in it are skipped. FM_EINVAL when it is malformed. */
int FM_NODISCARD fm_base64_decode(const char *text, size_t length, struct fm_text *content);

#endif
