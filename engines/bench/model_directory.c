/*
 * Generated models as files. See model_directory.h.
 */
#include "engines/bench/model_directory.h"

#include <inttypes.h>
#include <string.h>

#include "core/onnx/onnx_writer.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/text.h"
#include "host/os/file.h"

/* Bytes are handed to the kernel in pieces of this size. */
enum { PIECE_SIZE = 1 << 20 };

struct piece {
    struct fm_file_writer *writer;
    bool (*stopped)(void);
    char *data;
    size_t size;
};

static int piece_flush(struct piece *piece, struct fm_error *reterr)
{
    if (piece->stopped != NULL && piece->stopped()) {
        return fm_error_set(reterr, FM_ECANCELLED, "it was interrupted");
    }
    int status = fm_file_writer_append(piece->writer, piece->data, piece->size, reterr);
    piece->size = 0;
    return status;
}

static int piece_put(void *context, const void *data, size_t size, struct fm_error *reterr)
{
    struct piece *piece = context;
    const char *from = data;
    int status = 0;
    while (size > 0 && status == 0) {
        size_t room = PIECE_SIZE - piece->size;
        size_t count = size < room ? size : room;
        memcpy(piece->data + piece->size, from, count);
        piece->size += count;
        from += count;
        size -= count;
        status = piece->size == PIECE_SIZE ? piece_flush(piece, reterr) : 0;
    }
    return status;
}

static int model_write(const struct fm_model_directory_options *options, const char *path,
                       struct fm_error *reterr)
{
    struct fm_file_writer writer = {0};
    struct piece piece = {
        .writer = &writer, .stopped = options->stopped, .data = fm_alloc(PIECE_SIZE)};
    if (piece.data == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "cannot write '%s': out of memory", path);
    }
    struct fm_onnx_sink sink = {.put = piece_put, .context = &piece};
    int status = fm_file_writer_open_beside(&writer, path, reterr);
    if (status == 0) {
        status = fm_onnx_write(options->graph, &sink, reterr);
        status = status == 0 ? piece_flush(&piece, reterr) : status;
        if (status != 0) {
            fm_file_writer_abandon(&writer);
            status = fm_error_prefix(reterr, status, "cannot write '%s'", path);
        } else {
            status = options->replace ? fm_file_writer_commit_as(&writer, path, reterr)
                                      : fm_file_writer_commit_new(&writer, path, reterr);
            if (status == FM_EEXIST) {
                status = fm_error_set(reterr, FM_EEXIST,
                                      "'%s' is there by now, or is a link that leads nowhere: give "
                                      "another name, or --force to replace it",
                                      path);
            }
        }
    }
    fm_free(piece.data);
    return status;
}

/* Whether a file may be written there; a link leads to what it names. */
static int target_check(char *path, size_t size, bool replace, struct fm_error *reterr)
{
    struct fm_file_facts facts;
    int status = fm_file_stat(path, &facts, reterr);
    if (status != 0 || facts.kind == FM_FILE_ABSENT) {
        return status;
    }
    if (facts.kind != FM_FILE_REGULAR) {
        return fm_error_set(reterr, FM_EINVAL,
                            "'%s' is there and is no regular file: give another name", path);
    }
    if (!replace) {
        return fm_error_set(reterr, FM_EEXIST,
                            "'%s' is there already, and nothing was written: give another name, or "
                            "--force to replace it",
                            path);
    }
    char target[4096];
    status = fm_path_real(target, sizeof target, path, reterr);
    if (status == 0 && strlen(target) < size) {
        memcpy(path, target, strlen(target) + 1);
    }
    return status;
}

/* Neither a file nor the directory of something else, which one of these files would say. */
static int directory_check(const char *path, const char *const *others, struct fm_error *reterr)
{
    struct fm_file_facts facts;
    int status = fm_file_stat(path, &facts, reterr);
    if (status != 0 || facts.kind == FM_FILE_ABSENT) {
        return status;
    }
    if (facts.kind != FM_FILE_DIRECTORY) {
        return fm_error_set(reterr, FM_EINVAL,
                            "'%s' is there and is no directory: a model's directory goes where "
                            "nothing is, a single file has a name that ends in .onnx",
                            path);
    }
    for (size_t i = 0; others[i] != NULL; i++) {
        char name[4096];
        status = fm_path_join(name, sizeof name, path, others[i]);
        status = status == 0 ? fm_file_stat(name, &facts, reterr) : status;
        if (status == 0 && facts.kind != FM_FILE_ABSENT) {
            return fm_error_set(reterr, FM_EINVAL,
                                "'%s' holds something else, as its %s says: give another name",
                                path, others[i]);
        }
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

/* Whether a model may be put into the directory: there is none, or it is empty, or a model's. What
 * holds other things may be a repository, which a model.yaml would hide. */
static int model_place_check(const char *path, struct fm_error *reterr)
{
    struct fm_file_facts facts;
    struct fm_file_list list = {0};
    int status = fm_file_stat(path, &facts, reterr);
    if (status != 0 || facts.kind == FM_FILE_ABSENT) {
        return status;
    }
    status = fm_file_list(path, &list, reterr);
    bool fits = list.count == 0;
    for (size_t i = 0; i < list.count; i++) {
        fits = fits || strcmp(list.names[i], "model.yaml") == 0;
    }
    if (status == 0 && !fits) {
        status = fm_error_set(reterr, FM_EINVAL,
                              "'%s' is there and holds other things ('%.100s'), so a model in it "
                              "would not be alone: give another name, as '%s/NAME'",
                              path, list.names[0], path);
    }
    fm_file_list_free(&list);
    return status;
}

static int config_write(const struct fm_model_directory_options *options, const char *path,
                        struct fm_error *reterr)
{
    struct fm_text text = {0};
    fm_text_append_format(&text, "# Written by `fermata bench model`: %s\n",
                          options->graph->description);
    fm_text_append_format(&text, "backend: onnxruntime\nmax_batch_size: %" PRIu32 "\n",
                          options->batch_max);
    int status = text.failed
                     ? fm_error_set(reterr, FM_ENOMEM, "cannot write '%s': out of memory", path)
                     : fm_file_write_atomic(path, text.data, text.length, reterr);
    fm_text_deinit(&text);
    return status;
}

/* "DIR/model.yaml" and "DIR/1/model.onnx", whose directory is returned as well. */
static int paths_make(const char *path, struct fm_model_directory *ret_directory, char *ret_version,
                      size_t size, struct fm_error *reterr)
{
    int status = fm_path_join(ret_version, size, path, "1");
    status = status != 0 ? status
                         : fm_path_join(ret_directory->model_path, sizeof ret_directory->model_path,
                                        ret_version, "model.onnx");
    status = status != 0 ? status
                         : fm_path_join(ret_directory->config_path,
                                        sizeof ret_directory->config_path, path, "model.yaml");
    return status != 0 ? fm_error_set(reterr, status,
                                      "cannot write '%.100s...': the path is too long", path)
                       : 0;
}

/* Where everything goes, and whether it may go there. `ret_version` is the version's directory; ""
 * for a single file. */
static int place_make(const char *path, bool replace, struct fm_model_directory *ret_directory,
                      char *ret_version, size_t size, struct fm_error *reterr)
{
    static const char *const others[] = {"config.pbtxt", "pipeline.yaml", NULL};
    FM_ASSERT(path[0] != '\0');
    *ret_directory = (struct fm_model_directory){.config_path = ""};
    ret_version[0] = '\0';
    int status = 0;
    if (strcmp(fm_path_extension(path), ".onnx") == 0) {
        if (strlen(path) >= sizeof ret_directory->model_path) {
            return fm_error_set(reterr, FM_ETOOLARGE,
                                "cannot write '%.100s...': the path is too long", path);
        }
        memcpy(ret_directory->model_path, path, strlen(path) + 1);
    } else {
        status = paths_make(path, ret_directory, ret_version, size, reterr);
        status = status != 0 ? status : directory_check(path, others, reterr);
        status = status != 0 ? status : model_place_check(path, reterr);
        status = status != 0 ? status
                             : target_check(ret_directory->config_path,
                                            sizeof ret_directory->config_path, replace, reterr);
    }
    return status != 0 ? status
                       : target_check(ret_directory->model_path, sizeof ret_directory->model_path,
                                      replace, reterr);
}

int fm_model_directory_check(const char *path, bool replace, struct fm_error *reterr)
{
    struct fm_model_directory directory;
    char version[4096];
    return place_make(path, replace, &directory, version, sizeof version, reterr);
}

int fm_model_repository_check(const char *path, struct fm_error *reterr)
{
    static const char *const others[] = {"config.pbtxt", "model.yaml", "pipeline.yaml", NULL};
    return directory_check(path, others, reterr);
}

int fm_model_directory_write(const struct fm_model_directory_options *options,
                             struct fm_model_directory *ret_directory, struct fm_error *reterr)
{
    char version[4096];
    int status =
        place_make(options->path, options->replace, ret_directory, version, sizeof version, reterr);
    if (status == 0 && version[0] != '\0') {
        status = fm_file_make_directories(version, reterr);
    }
    status = status != 0 ? status : model_write(options, ret_directory->model_path, reterr);
    return status != 0 || version[0] == '\0'
               ? status
               : config_write(options, ret_directory->config_path, reterr);
}
