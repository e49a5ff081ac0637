/*
 * Files that are texts. See sink_text.h.
 */
#include "engines/batch/sink_text.h"

#include "core/util/error.h"
#include "core/util/hash.h"
#include "core/util/memory.h"
#include "host/os/file.h"
#include "host/source/gzip_writer.h"

const char *const fm_sink_text_compressions[] = {"none", "gzip", NULL};

struct text_file {
    struct fm_sink_file base;
    struct fm_file_writer writer;
    uint64_t checksum;
    struct fm_gzip_writer *gzip; /* instead of both; NULL: it is not compressed */
};

static struct text_file *text_file_of(struct fm_sink_file *file)
{
    return (struct text_file *)(void *)file;
}

int fm_sink_text_append(struct fm_sink_file *file, const char *rows, size_t size,
                        struct fm_error *reterr)
{
    struct text_file *text = text_file_of(file);
    if (text->gzip != NULL) {
        return fm_gzip_writer_append(text->gzip, rows, size, reterr);
    }
    text->checksum = fm_hash_add(text->checksum, rows, size);
    return fm_file_writer_append(&text->writer, rows, size, reterr);
}

int fm_sink_text_open(const struct fm_sink *sink, const char *path, const struct fm_text *head,
                      struct fm_sink_file **ret_file, struct fm_error *reterr)
{
    struct text_file *text = fm_alloc_zero(1, sizeof(*text));
    if (text == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory to write '%s'", path);
    }
    text->base.sink = sink;
    text->checksum = FM_HASH_START;
    int status = sink->gzipped ? fm_gzip_writer_open(path, &text->gzip, reterr)
                               : fm_file_writer_open(&text->writer, path, reterr);
    if (status == 0 && head->length > 0) {
        status = fm_sink_text_append(&text->base, head->data, head->length, reterr);
    }
    if (status != 0) {
        fm_sink_text_abandon(&text->base);
        return status;
    }
    *ret_file = &text->base;
    return 0;
}

int fm_sink_text_seal(const struct fm_text *rows, struct fm_text *sealed)
{
    return fm_gzip_member_make(rows->data, rows->length, sealed);
}

int fm_sink_text_append_sealed(struct fm_sink_file *file, const char *sealed, size_t size,
                               struct fm_error *reterr)
{
    return fm_gzip_writer_append_member(text_file_of(file)->gzip, sealed, size, reterr);
}

int fm_sink_text_finish(struct fm_sink_file *file, uint64_t *ret_bytes, uint64_t *ret_checksum,
                        struct fm_error *reterr)
{
    struct text_file *text = text_file_of(file);
    int status = 0;
    if (text->gzip != NULL) {
        status = fm_gzip_writer_finish(text->gzip, ret_bytes, ret_checksum, reterr);
    } else {
        status = fm_file_writer_commit(&text->writer, reterr);
        *ret_bytes = text->writer.size;
        *ret_checksum = text->checksum;
    }
    fm_free(text);
    return status;
}

void fm_sink_text_abandon(struct fm_sink_file *file)
{
    struct text_file *text = text_file_of(file);
    fm_gzip_writer_abandon(text->gzip);
    fm_file_writer_abandon(&text->writer);
    fm_free(text);
}
