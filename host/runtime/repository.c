/*
 * Directories into model configurations. See repository.h and docs/model-repository.md.
 *
 * HOW IT WORKS. Exactly three levels are looked at (repository, model, version), by listing, so
 * that loops of symbolic links end by themselves. What lies in a model's directory decides what it
 * is: pipeline.yaml makes a pipeline; model.yaml, config.pbtxt or a numeric directory makes a
 * model.
 */
#include "host/runtime/repository.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/text.h"
#include "host/os/file.h"
#include "host/runtime/model_description.h"
#include "host/runtime/pipeline_file.h"

enum { PATH_SIZE = 4096, ENTRIES_MAX = 65536, VERSIONS_MAX = 4096 };

#define MODEL_YAML    "model.yaml"
#define MODEL_PBTXT   "config.pbtxt"
#define PIPELINE_YAML "pipeline.yaml"

/* Version numbers, ascending. */
struct versions {
    uint64_t *numbers;
    size_t count;
};

/* What a directory holds, of what makes a model or pipeline. */
struct contents {
    bool yaml;
    bool pbtxt;
    bool pipeline;
    struct versions versions;
    const struct fm_repository_override *override; /* NULL: none */
};

static int out_of_memory(const char *path, struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_ENOMEM, "'%s': out of memory while reading the repository",
                        path);
}

static int join(char *ret_path, const char *directory, const char *name, struct fm_error *reterr)
{
    if (fm_path_join(ret_path, PATH_SIZE, directory, name) != 0) {
        return fm_error_set(reterr, FM_ETOOLARGE, "'%.200s': the path is longer than %d bytes",
                            directory, PATH_SIZE - 1);
    }
    return 0;
}

/* The kind of directory/name; symbolic links are followed. */
static int kind_of(const char *directory, const char *name, enum fm_file_kind *ret_kind,
                   struct fm_error *reterr)
{
    char path[PATH_SIZE];
    struct fm_file_facts facts;
    int status = join(path, directory, name, reterr);
    if (status == 0) {
        status = fm_file_stat(path, &facts, reterr);
    }
    *ret_kind = status == 0 ? facts.kind : FM_FILE_ABSENT;
    return status;
}

uint64_t fm_repository_version_number(const char *name)
{
    uint64_t number = 0;
    if (name[0] < '1' || name[0] > '9' || strspn(name, "0123456789") != strlen(name) ||
        fm_parse_uint64(name, &number) != 0) {
        return 0;
    }
    return number;
}

static int compare_numbers(const void *a, const void *b)
{
    const uint64_t *left = a;
    const uint64_t *right = b;
    return (*left > *right) - (*left < *right);
}

static void contents_deinit(struct contents *contents)
{
    fm_free(contents->versions.numbers);
    *contents = (struct contents){0};
}

static int contents_of_names(const char *directory, const struct fm_file_list *list,
                             struct contents *contents, struct fm_error *reterr)
{
    for (size_t i = 0; i < list->count; i++) {
        const char *name = list->names[i];
        uint64_t number = fm_repository_version_number(name);
        bool yaml = strcmp(name, MODEL_YAML) == 0;
        bool pbtxt = strcmp(name, MODEL_PBTXT) == 0;
        bool pipeline = strcmp(name, PIPELINE_YAML) == 0;
        if (number == 0 && !yaml && !pbtxt && !pipeline) {
            continue;
        }
        enum fm_file_kind kind = FM_FILE_ABSENT;
        int status = kind_of(directory, name, &kind, reterr);
        if (status != 0) {
            return status;
        }
        contents->yaml = contents->yaml || (yaml && kind != FM_FILE_ABSENT);
        contents->pbtxt = contents->pbtxt || (pbtxt && kind != FM_FILE_ABSENT);
        contents->pipeline = contents->pipeline || (pipeline && kind != FM_FILE_ABSENT);
        if (number == 0 || kind != FM_FILE_DIRECTORY) {
            continue;
        }
        if (contents->versions.count == VERSIONS_MAX) {
            return fm_error_set(reterr, FM_ETOOLARGE, "'%s' has more than %d versions", directory,
                                VERSIONS_MAX);
        }
        contents->versions.numbers[contents->versions.count++] = number;
    }
    return 0;
}

static int contents_read(const char *directory, struct contents *contents, struct fm_error *reterr)
{
    struct fm_file_list list = {0};
    *contents = (struct contents){0};
    int status = fm_file_list(directory, &list, reterr);
    if (status != 0) {
        return status;
    }
    size_t capacity = list.count < VERSIONS_MAX ? list.count : VERSIONS_MAX;
    contents->versions.numbers = fm_alloc(capacity * sizeof(*contents->versions.numbers));
    status = contents->versions.numbers != NULL
                 ? contents_of_names(directory, &list, contents, reterr)
                 : out_of_memory(directory, reterr);
    fm_file_list_free(&list);
    if (status != 0) {
        contents_deinit(contents);
        return status;
    }
    if (contents->versions.count > 1) {
        qsort(contents->versions.numbers, contents->versions.count,
              sizeof(*contents->versions.numbers), compare_numbers);
    }
    return 0;
}

static bool contents_configured(const struct contents *contents)
{
    return contents->yaml || contents->pbtxt || contents->pipeline;
}

/* ---- one model ---- */

/* Reads the configuration file of a model, if it has one. `config` is initialised here and freed by
 * the caller. */
static int read_description(const char *directory, const struct contents *contents,
                            const char *expected_name, struct fm_model_config *config,
                            struct fm_model_description *ret_description, struct fm_error *reterr)
{
    char path[PATH_SIZE];
    fm_model_config_init(config);
    fm_model_description_init(ret_description, config, directory, expected_name);
    if (contents->yaml && contents->pbtxt && contents->override == NULL) {
        return fm_error_set(reterr, FM_EINVAL,
                            "'%s' has both " MODEL_YAML " and " MODEL_PBTXT
                            ": keep one, they could contradict each other",
                            directory);
    }
    config->backend = FM_MODEL_BACKEND_DEFAULT;
    if (contents->override != NULL) {
        config->backend = NULL;
        return fm_model_description_read_text(ret_description, "the given configuration",
                                              contents->override->config,
                                              contents->override->config_size, reterr);
    }
    if (!contents->yaml && !contents->pbtxt) {
        return 0;
    }
    int status = join(path, directory, contents->yaml ? MODEL_YAML : MODEL_PBTXT, reterr);
    if (status != 0) {
        return status;
    }
    config->backend = NULL;
    return contents->yaml ? fm_model_description_read_yaml(ret_description, path, reterr)
                          : fm_model_description_read_pbtxt(ret_description, path, reterr);
}

/* Whether the backend is one that loads a file. */
static bool needs_file(const struct fm_model_description *description)
{
    return description->file_name != NULL ||
           strcmp(description->config->backend, FM_MODEL_BACKEND_DEFAULT) == 0;
}

static const char *file_name(const struct fm_model_description *description)
{
    return description->file_name != NULL ? description->file_name : FM_MODEL_FILE_DEFAULT;
}

static bool has_version(const struct versions *versions, uint64_t number)
{
    return bsearch(&number, versions->numbers, versions->count, sizeof(number), compare_numbers) !=
           NULL;
}

static int no_versions(const char *directory, const struct fm_model_description *description,
                       struct fm_error *reterr)
{
    enum fm_file_kind kind = FM_FILE_ABSENT;
    const char *file = file_name(description);
    if (kind_of(directory, file, &kind, NULL) == 0 && kind == FM_FILE_REGULAR) {
        return fm_error_set(reterr, FM_ENOTFOUND,
                            "'%s' has '%s' but no version directory: move the file to '1/%s'",
                            directory, file, file);
    }
    return fm_error_set(reterr, FM_ENOTFOUND,
                        "'%s' has no version directory: expected '1/%s' in it", directory, file);
}

/* The versions that the policy selects, into `selected` (room for all of them, or for one). */
static int select_versions(const char *directory, const struct contents *contents,
                           const struct fm_model_description *description,
                           struct versions *selected, struct fm_error *reterr)
{
    const struct versions *all = &contents->versions;
    selected->count = 0;
    if (all->count == 0 && needs_file(description)) {
        return no_versions(directory, description, reterr);
    }
    if (description->policy == FM_VERSIONS_SPECIFIC) {
        for (size_t i = 0; i < description->specific_count; i++) {
            uint64_t number = description->specific[i];
            if (!has_version(all, number) && (all->count > 0 || number != 1)) {
                return fm_error_set(reterr, FM_ENOTFOUND,
                                    "'%s' has no version %llu, which its version policy asks for",
                                    directory, (unsigned long long)number);
            }
        }
    }
    if (all->count == 0) {
        selected->numbers[selected->count++] = 1;
        return 0;
    }
    for (size_t i = 0; i < all->count; i++) {
        bool wanted = description->policy == FM_VERSIONS_ALL;
        if (description->policy == FM_VERSIONS_LATEST) {
            wanted = all->count - i <= description->latest_count;
        }
        for (size_t j = 0;
             description->policy == FM_VERSIONS_SPECIFIC && j < description->specific_count; j++) {
            wanted = wanted || description->specific[j] == all->numbers[i];
        }
        if (wanted) {
            selected->numbers[selected->count++] = all->numbers[i];
        }
    }
    return 0;
}

/* "; it holds 'model.plan'", when there is another file that may have been meant. */
static void describe_other_file(const char *directory, char *text, size_t size)
{
    struct fm_file_list list = {0};
    text[0] = '\0';
    if (fm_file_list(directory, &list, NULL) == 0 && list.count > 0) {
        (void)snprintf(text, size, "; the directory holds '%.100s'%s", list.names[0],
                       list.count > 1 ? " and more" : "");
    }
    fm_file_list_free(&list);
}

/* Completes a configuration that was read: name, version, path of the model file. */
static int complete_version(const char *directory, const char *name, uint64_t version,
                            struct fm_model_description *description, struct fm_error *reterr)
{
    struct fm_model_config *config = description->config;
    char version_directory[PATH_SIZE];
    char path[PATH_SIZE];
    char number[24];
    (void)snprintf(number, sizeof(number), "%llu", (unsigned long long)version);
    config->version = version;
    config->name =
        fm_arena_strdup(&config->arena, description->name != NULL ? description->name : name);
    if (config->name == NULL) {
        return out_of_memory(directory, reterr);
    }
    if (!needs_file(description)) {
        return 0;
    }
    enum fm_file_kind kind = FM_FILE_ABSENT;
    int status = join(version_directory, directory, number, reterr);
    status = status == 0 ? join(path, version_directory, file_name(description), reterr) : status;
    status =
        status == 0 ? kind_of(version_directory, file_name(description), &kind, reterr) : status;
    if (status != 0) {
        return status;
    }
    if (kind == FM_FILE_ABSENT) {
        char other[160];
        describe_other_file(version_directory, other, sizeof(other));
        return fm_error_set(reterr, FM_ENOTFOUND, "model '%s': '%s' does not exist%s", config->name,
                            path, other);
    }
    if (kind != FM_FILE_REGULAR) {
        return fm_error_set(reterr, FM_EINVAL, "model '%s': '%s' is not a file", config->name,
                            path);
    }
    config->path = fm_arena_strdup(&config->arena, path);
    return config->path != NULL ? 0 : out_of_memory(directory, reterr);
}

/* Fills in entry->versions. The file is read once for each version: configurations own their
 * strings. */
static int read_versions(struct fm_repository_entry *entry, const struct contents *contents,
                         const char *expected_name, struct fm_error *reterr)
{
    struct fm_model_description description;
    struct fm_model_config first;
    struct versions selected = {.numbers =
                                    fm_alloc((contents->versions.count + 1) * sizeof(uint64_t))};
    int status =
        read_description(entry->path, contents, expected_name, &first, &description, reterr);
    if (status == 0 && selected.numbers == NULL) {
        status = out_of_memory(entry->path, reterr);
    }
    status = status == 0 ? select_versions(entry->path, contents, &description, &selected, reterr)
                         : status;
    fm_model_config_deinit(&first);
    if (status == 0) {
        entry->versions = fm_alloc_zero(selected.count, sizeof(*entry->versions));
        status = entry->versions != NULL ? 0 : out_of_memory(entry->path, reterr);
    }
    for (size_t i = 0; status == 0 && i < selected.count; i++) {
        status = read_description(entry->path, contents, expected_name,
                                  &entry->versions[entry->version_count++], &description, reterr);
        status = status == 0 ? complete_version(entry->path, entry->name, selected.numbers[i],
                                                &description, reterr)
                             : status;
    }
    fm_free(selected.numbers);
    return status;
}

/* ---- entries ---- */

static void versions_free(struct fm_repository_entry *entry)
{
    for (size_t i = 0; i < entry->version_count; i++) {
        fm_model_config_deinit(&entry->versions[i]);
    }
    fm_free(entry->versions);
    entry->versions = NULL;
    entry->version_count = 0;
}

static void entry_deinit(struct fm_repository_entry *entry)
{
    versions_free(entry);
    fm_free(entry->name);
    fm_free(entry->path);
    *entry = (struct fm_repository_entry){0};
}

static int entry_init(struct fm_repository_entry *entry, const char *name,
                      enum fm_repository_entry_kind kind, const char *path, struct fm_error *reterr)
{
    *entry = (struct fm_repository_entry){
        .kind = kind, .name = fm_strdup(name), .path = fm_strdup(path)};
    if (entry->name == NULL || entry->path == NULL) {
        entry_deinit(entry);
        return out_of_memory(path, reterr);
    }
    return 0;
}

/* Takes over a name that a configuration gives to something opened by itself. */
static int entry_rename(struct fm_repository_entry *entry, const char *name,
                        struct fm_error *reterr)
{
    char *copy = fm_strdup(name);
    if (copy == NULL) {
        return out_of_memory(entry->path, reterr);
    }
    fm_free(entry->name);
    entry->name = copy;
    return 0;
}

/* Names end up in URLs, metrics and JSON. */
static int check_name(const char *name, struct fm_error *reterr)
{
    size_t length = strlen(name);
    for (size_t i = 0; i < length;) {
        size_t sequence = fm_utf8_sequence(name + i, length - i);
        if (sequence == 0 || (unsigned char)name[i] < 0x20 || name[i] == 0x7F) {
            return fm_error_set(reterr, FM_EINVAL,
                                "the name '%s' is not printable UTF-8: rename the directory", name);
        }
        i += sequence;
    }
    return 0;
}

/* A pipeline file: its syntax is checked here, its meaning when it is opened. */
static int read_pipeline(struct fm_repository_entry *entry, const char *expected_name,
                         struct fm_error *reterr)
{
    struct fm_pipeline_file *file = NULL;
    int status = fm_pipeline_file_load(entry->path, &file, reterr);
    if (status != 0) {
        return status;
    }
    if (expected_name == NULL) {
        status = entry_rename(entry, file->spec.name, reterr);
    } else if (strcmp(file->spec.name, expected_name) != 0) {
        status = fm_error_set(reterr, FM_EINVAL,
                              "%s: the pipeline is called '%s' here but its directory '%s': make "
                              "them equal, or leave 'name' out",
                              entry->path, file->spec.name, expected_name);
    }
    fm_pipeline_file_free(file);
    return status;
}

/* What lies in a directory, into an entry that was initialised. `override`, unless NULL, has a
 * configuration. */
static int read_directory(struct fm_repository_entry *entry, bool name_is_fixed,
                          const struct fm_repository_override *override, struct fm_error *reterr)
{
    struct contents contents;
    char pipeline[PATH_SIZE];
    const char *expected_name = name_is_fixed ? entry->name : NULL;
    int status = check_name(entry->name, reterr);
    status = status == 0 ? contents_read(entry->path, &contents, reterr) : status;
    if (status != 0) {
        return status;
    }
    contents.override = override;
    if (contents.pipeline && override != NULL) {
        status = fm_error_set(reterr, FM_EUNSUPPORTED,
                              "'%s' is a pipeline: a model's configuration cannot replace its own",
                              entry->name);
    } else if (contents.pipeline && (contents.yaml || contents.pbtxt)) {
        status = fm_error_set(reterr, FM_EINVAL,
                              "'%s' has both " PIPELINE_YAML
                              " and a model's configuration: it is one or the other",
                              entry->path);
    } else if (contents.pipeline) {
        entry->kind = FM_REPOSITORY_PIPELINE;
        status = join(pipeline, entry->path, PIPELINE_YAML, reterr);
        char *path = status == 0 ? fm_strdup(pipeline) : NULL;
        if (status == 0 && path == NULL) {
            status = out_of_memory(pipeline, reterr);
        }
        if (status == 0) {
            fm_free(entry->path);
            entry->path = path;
            status = read_pipeline(entry, expected_name, reterr);
        }
    } else if (override == NULL && !contents_configured(&contents) &&
               contents.versions.count == 0) {
        status = fm_error_set(
            reterr, FM_ENOTFOUND,
            "'%s' is no model: it has neither a version directory (1/" FM_MODEL_FILE_DEFAULT
            ") nor " MODEL_YAML ", " MODEL_PBTXT " or " PIPELINE_YAML,
            entry->path);
    } else {
        status = read_versions(entry, &contents, expected_name, reterr);
        if (status == 0 && expected_name == NULL) {
            status = entry_rename(entry, entry->versions[0].name, reterr);
        }
    }
    contents_deinit(&contents);
    return status;
}

/* A model file with no directory that says more about it. */
static int read_bare_file(struct fm_repository_entry *entry, struct fm_error *reterr)
{
    entry->versions = fm_alloc_zero(1, sizeof(*entry->versions));
    if (entry->versions == NULL) {
        return out_of_memory(entry->path, reterr);
    }
    struct fm_model_config *config = &entry->versions[0];
    fm_model_config_init(config);
    entry->version_count = 1;
    config->version = 1;
    config->backend = FM_MODEL_BACKEND_DEFAULT;
    config->name = fm_arena_strdup(&config->arena, entry->name);
    config->path = fm_arena_strdup(&config->arena, entry->path);
    return config->name != NULL && config->path != NULL ? check_name(entry->name, reterr)
                                                        : out_of_memory(entry->path, reterr);
}

/* The file's name without its extension. */
static int stem_of(const char *path, char *ret_name, size_t size)
{
    const char *base = fm_path_base(path);
    size_t length = strlen(base) - strlen(fm_path_extension(base));
    int written = snprintf(ret_name, size, "%.*s", (int)length, base);
    return written >= 0 && (size_t)written < size ? 0 : FM_ETOOLARGE;
}

/* ---- the repository ---- */

static int compare_entries(const void *a, const void *b)
{
    return strcmp(((const struct fm_repository_entry *)a)->name,
                  ((const struct fm_repository_entry *)b)->name);
}

static bool is_hidden(const char *name)
{
    return name[0] == '.';
}

/* One name of the repository's directory into the next entry. Names that are no models are passed
 * over. */
static int read_name(const char *path, const char *name, struct fm_repository *repository,
                     struct fm_error *reterr)
{
    char entry_path[PATH_SIZE];
    char entry_name[PATH_SIZE];
    enum fm_file_kind kind = FM_FILE_ABSENT;
    struct fm_error error = {0};
    struct fm_repository_entry *entry = &repository->entries[repository->count];
    int status = join(entry_path, path, name, reterr);
    if (status != 0) {
        return status;
    }
    int kind_status = kind_of(path, name, &kind, &error);
    bool model_file = kind == FM_FILE_REGULAR && strcmp(fm_path_extension(name), ".onnx") == 0;
    if (kind_status == 0 && kind != FM_FILE_DIRECTORY && !model_file) {
        return 0;
    }
    (void)snprintf(entry_name, sizeof(entry_name), "%s", name);
    if (model_file && stem_of(name, entry_name, sizeof(entry_name)) != 0) {
        return fm_error_set(reterr, FM_ETOOLARGE, "'%.200s': the name is too long", name);
    }
    status = entry_init(entry, entry_name, FM_REPOSITORY_MODEL, entry_path, reterr);
    if (status != 0) {
        return status;
    }
    repository->count++;
    if (kind_status == 0) {
        kind_status =
            model_file ? read_bare_file(entry, &error) : read_directory(entry, true, NULL, &error);
    }
    if (kind_status != 0) {
        versions_free(entry);
        entry->error = error;
        entry->error.status = kind_status;
    }
    return kind_status == FM_ENOMEM ? fm_error_set(reterr, FM_ENOMEM, "%s", error.text) : 0;
}

/* Two entries of one name (det/ and det.onnx): neither can be chosen. Entries are sorted. */
static void refuse_twins(struct fm_repository *repository, const char *path)
{
    size_t kept = 0;
    for (size_t i = 0; i < repository->count; i++) {
        struct fm_repository_entry *entry = &repository->entries[i];
        if (kept > 0 && strcmp(repository->entries[kept - 1].name, entry->name) == 0) {
            struct fm_repository_entry *first = &repository->entries[kept - 1];
            versions_free(first);
            (void)fm_error_set(&first->error, FM_EEXIST,
                               "'%s' has both a directory and a file for model '%s': rename one",
                               path, first->name);
            entry_deinit(entry);
        } else {
            if (kept != i) {
                repository->entries[kept] = *entry;
                *entry = (struct fm_repository_entry){0};
            }
            kept++;
        }
    }
    repository->count = kept;
}

static int open_repository(const char *path, struct fm_repository *repository,
                           struct fm_error *reterr)
{
    struct fm_file_list list = {0};
    int status = fm_file_list(path, &list, reterr);
    if (status == 0 && list.count > ENTRIES_MAX) {
        status = fm_error_set(
            reterr, FM_ETOOLARGE,
            "'%s' has more than %d entries: this does not look like a model repository", path,
            ENTRIES_MAX);
    }
    if (status == 0) {
        repository->entries = fm_alloc_zero(list.count, sizeof(*repository->entries));
        status = repository->entries != NULL ? 0 : out_of_memory(path, reterr);
    }
    for (size_t i = 0; status == 0 && i < list.count; i++) {
        if (!is_hidden(list.names[i])) {
            status = read_name(path, list.names[i], repository, reterr);
        }
    }
    fm_file_list_free(&list);
    if (status == 0 && repository->count == 0) {
        status = fm_error_set(
            reterr, FM_ENOTFOUND,
            "'%s' has no models in it: expected <model>/<version>/" FM_MODEL_FILE_DEFAULT
            " or <name>/" PIPELINE_YAML,
            path);
    }
    if (status == 0 && repository->count > 1) {
        qsort(repository->entries, repository->count, sizeof(*repository->entries),
              compare_entries);
        refuse_twins(repository, path);
    }
    return status;
}

/* The last component of a directory's path, also for "." and "..". */
static int directory_name(const char *path, char *ret_name, struct fm_error *reterr)
{
    char real[PATH_SIZE];
    const char *base = fm_path_base(path);
    if (base[0] == '\0' || strcmp(base, ".") == 0 || strcmp(base, "..") == 0) {
        int status = fm_path_real(real, sizeof(real), path, reterr);
        if (status != 0) {
            return status;
        }
        base = fm_path_base(real);
    }
    (void)snprintf(ret_name, PATH_SIZE, "%s", base[0] != '\0' ? base : "root");
    return 0;
}

/* An entry by itself: its error is the caller's. */
static int open_single(const char *path, const char *name,
                       int (*read)(struct fm_repository_entry *entry, struct fm_error *reterr),
                       struct fm_repository *repository, struct fm_error *reterr)
{
    repository->entries = fm_alloc_zero(1, sizeof(*repository->entries));
    if (repository->entries == NULL) {
        return out_of_memory(path, reterr);
    }
    int status = entry_init(&repository->entries[0], name, FM_REPOSITORY_MODEL, path, reterr);
    if (status != 0) {
        return status;
    }
    repository->count = 1;
    return read(&repository->entries[0], reterr);
}

static int read_single_directory(struct fm_repository_entry *entry, struct fm_error *reterr)
{
    return read_directory(entry, false, NULL, reterr);
}

static int read_single_pipeline(struct fm_repository_entry *entry, struct fm_error *reterr)
{
    entry->kind = FM_REPOSITORY_PIPELINE;
    return read_pipeline(entry, NULL, reterr);
}

static int open_model_directory(const char *path, struct fm_repository *repository,
                                struct fm_error *reterr)
{
    char name[PATH_SIZE];
    int status = directory_name(path, name, reterr);
    return status == 0 ? open_single(path, name, read_single_directory, repository, reterr)
                       : status;
}

/*
 * Whether a directory is one model's, not a repository: it is configured, or has a version
 * directory. A numeric directory that itself holds a configuration or numeric directories is a
 * model with a number for a name.
 */
static int is_model_directory(const char *path, bool *ret_yes, struct fm_error *reterr)
{
    struct contents contents;
    *ret_yes = false;
    int status = contents_read(path, &contents, reterr);
    if (status != 0) {
        return status;
    }
    *ret_yes = contents_configured(&contents);
    for (size_t i = 0; !*ret_yes && i < contents.versions.count; i++) {
        char version[PATH_SIZE];
        char number[24];
        struct contents inner;
        (void)snprintf(number, sizeof(number), "%llu",
                       (unsigned long long)contents.versions.numbers[i]);
        if (fm_path_join(version, sizeof(version), path, number) == 0 &&
            contents_read(version, &inner, NULL) == 0) {
            *ret_yes = !contents_configured(&inner) && inner.versions.count == 0;
            contents_deinit(&inner);
        }
    }
    contents_deinit(&contents);
    return 0;
}

/*
 * A model file. In <model>/<version>/ it is that version of that model, with the model's
 * configuration, when it is the file which the configuration means; otherwise it is a model of its
 * own.
 */
static int open_version_file(const char *path, struct fm_repository *repository, bool *ret_done,
                             struct fm_error *reterr)
{
    char real[PATH_SIZE];
    char version[PATH_SIZE];
    char model[PATH_SIZE];
    char name[PATH_SIZE];
    struct contents contents;
    struct fm_model_config config;
    struct fm_model_description description;
    *ret_done = false;
    int status = fm_path_directory(version, sizeof(version), path);
    if (status == 0 && fm_repository_version_number(fm_path_base(version)) == 0) {
        /* "model.onnx" and "../2/model.onnx" say where they are only when resolved. */
        const char *base = fm_path_base(version);
        bool relative = strcmp(base, ".") == 0 || strcmp(base, "..") == 0;
        if (!relative || fm_path_real(real, sizeof(real), version, NULL) != 0 ||
            fm_repository_version_number(fm_path_base(real)) == 0) {
            return 0;
        }
        memcpy(version, real, sizeof(version));
    }
    if (status != 0 || fm_path_directory(model, sizeof(model), version) != 0) {
        return fm_error_set(reterr, FM_ETOOLARGE, "'%.200s': the path is too long", path);
    }
    status = directory_name(model, name, reterr);
    status = status == 0 ? contents_read(model, &contents, reterr) : status;
    if (status != 0) {
        return status;
    }
    status = read_description(model, &contents, NULL, &config, &description, reterr);
    if (status == 0 && !contents.pipeline &&
        strcmp(file_name(&description), fm_path_base(path)) == 0 && needs_file(&description)) {
        *ret_done = true;
        repository->entries = fm_alloc_zero(1, sizeof(*repository->entries));
        status = repository->entries != NULL
                     ? entry_init(&repository->entries[0], name, FM_REPOSITORY_MODEL, path, reterr)
                     : out_of_memory(path, reterr);
        repository->count = status == 0 ? 1 : 0;
        status = status == 0 ? complete_version(model, name,
                                                fm_repository_version_number(fm_path_base(version)),
                                                &description, reterr)
                             : status;
        status = status == 0 ? entry_rename(&repository->entries[0], config.name, reterr) : status;
    }
    contents_deinit(&contents);
    if (status == 0 && *ret_done) {
        struct fm_repository_entry *entry = &repository->entries[0];
        entry->versions = fm_alloc_zero(1, sizeof(*entry->versions));
        if (entry->versions != NULL) {
            entry->versions[0] = config; /* moved */
            entry->version_count = 1;
            return check_name(entry->name, reterr);
        }
        status = out_of_memory(path, reterr);
    }
    fm_model_config_deinit(&config);
    return status;
}

static int open_file(const char *path, struct fm_repository *repository, struct fm_error *reterr)
{
    char name[PATH_SIZE];
    const char *base = fm_path_base(path);
    const char *extension = fm_path_extension(path);
    if (strcmp(base, MODEL_YAML) == 0 || strcmp(base, MODEL_PBTXT) == 0) {
        if (fm_path_directory(name, sizeof(name), path) != 0) {
            return fm_error_set(reterr, FM_ETOOLARGE, "'%.200s': the path is too long", path);
        }
        return open_model_directory(name, repository, reterr);
    }
    if (stem_of(path, name, sizeof(name)) != 0) {
        return fm_error_set(reterr, FM_ETOOLARGE, "'%.200s': the path is too long", path);
    }
    if (strcmp(extension, ".yaml") == 0 || strcmp(extension, ".yml") == 0) {
        return open_single(path, name, read_single_pipeline, repository, reterr);
    }
    if (strcmp(extension, ".onnx") != 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "'%s' is neither a model file (.onnx), a pipeline file (.yaml), a "
                            "model's directory nor a repository",
                            path);
    }
    bool done = false;
    int status = open_version_file(path, repository, &done, reterr);
    return status != 0 || done ? status
                               : open_single(path, name, read_bare_file, repository, reterr);
}

/* The path without slashes at its end, from fm_alloc, and what is there. */
static int path_trim(const char *path, char **ret_path, struct fm_file_facts *ret_facts,
                     struct fm_error *reterr)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/') {
        length--;
    }
    if (length == 0) {
        return fm_error_set(reterr, FM_EINVAL, "the path of the models is empty");
    }
    if (length >= PATH_SIZE) {
        return fm_error_set(reterr, FM_ETOOLARGE, "'%.200s': the path is longer than %d bytes",
                            path, PATH_SIZE - 1);
    }
    char *trimmed = fm_strndup(path, length);
    if (trimmed == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "'%.200s': out of memory", path);
    }
    int status = fm_file_stat(trimmed, ret_facts, reterr);
    if (status != 0) {
        fm_free(trimmed);
        return status;
    }
    *ret_path = trimmed;
    return 0;
}

int fm_repository_open(const char *path, struct fm_repository *ret_repository,
                       struct fm_error *reterr)
{
    struct fm_file_facts facts;
    char *trimmed = NULL;
    *ret_repository = (struct fm_repository){0};
    int status = path_trim(path, &trimmed, &facts, reterr);
    if (status != 0) {
        return status;
    }
    if (facts.kind == FM_FILE_DIRECTORY) {
        bool model = false;
        status = is_model_directory(trimmed, &model, reterr);
        if (status == 0) {
            status = model ? open_model_directory(trimmed, ret_repository, reterr)
                           : open_repository(trimmed, ret_repository, reterr);
        }
    } else if (facts.kind == FM_FILE_REGULAR) {
        status = open_file(trimmed, ret_repository, reterr);
    } else if (facts.kind == FM_FILE_ABSENT) {
        status = fm_error_set(reterr, FM_ENOTFOUND, "'%s' does not exist", trimmed);
    } else {
        status = fm_error_set(reterr, FM_EINVAL, "'%s' is neither a file nor a directory", trimmed);
    }
    fm_free(trimmed);
    if (status != 0) {
        fm_repository_close(ret_repository);
    }
    return status;
}

void fm_repository_close(struct fm_repository *repository)
{
    for (size_t i = 0; i < repository->count; i++) {
        entry_deinit(&repository->entries[i]);
    }
    fm_free(repository->entries);
    *repository = (struct fm_repository){0};
}

/* ---- one by one ---- */

void fm_repository_names_free(struct fm_repository_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        fm_free(names->names[i]);
    }
    fm_free(names->names);
    *names = (struct fm_repository_names){0};
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int names_add(struct fm_repository_names *names, const char *path, const char *name,
                     struct fm_error *reterr)
{
    char *copy = fm_strdup(name);
    if (copy == NULL) {
        return out_of_memory(path, reterr);
    }
    names->names[names->count++] = copy;
    return 0;
}

/* What read_name would make an entry of. */
static int list_name(const char *path, const char *name, struct fm_repository_names *names,
                     struct fm_error *reterr)
{
    char stem[PATH_SIZE];
    enum fm_file_kind kind = FM_FILE_ABSENT;
    if (kind_of(path, name, &kind, NULL) != 0 || kind == FM_FILE_DIRECTORY) {
        return names_add(names, path, name, reterr);
    }
    bool model_file = kind == FM_FILE_REGULAR && strcmp(fm_path_extension(name), ".onnx") == 0;
    return model_file && stem_of(name, stem, sizeof(stem)) == 0
               ? names_add(names, path, stem, reterr)
               : 0;
}

static int list_directory(const char *path, struct fm_repository_names *names,
                          struct fm_error *reterr)
{
    struct fm_file_list list = {0};
    int status = fm_file_list(path, &list, reterr);
    if (status == 0 && list.count > ENTRIES_MAX) {
        status = fm_error_set(
            reterr, FM_ETOOLARGE,
            "'%s' has more than %d entries: this does not look like a model repository", path,
            ENTRIES_MAX);
    }
    if (status == 0) {
        names->names = fm_alloc_zero(list.count + 1, sizeof(*names->names));
        status = names->names != NULL ? 0 : out_of_memory(path, reterr);
    }
    for (size_t i = 0; status == 0 && i < list.count; i++) {
        status = is_hidden(list.names[i]) ? 0 : list_name(path, list.names[i], names, reterr);
    }
    fm_file_list_free(&list);
    if (status == 0 && names->count > 1) {
        qsort(names->names, names->count, sizeof(*names->names), compare_texts);
        size_t kept = 1;
        for (size_t i = 1; i < names->count; i++) {
            if (strcmp(names->names[i], names->names[kept - 1]) == 0) {
                fm_free(names->names[i]);
            } else {
                names->names[kept++] = names->names[i];
            }
        }
        names->count = kept;
    }
    return status;
}

static int list_single(const char *path, struct fm_repository_names *names, struct fm_error *reterr)
{
    struct fm_repository repository;
    int status = fm_repository_open(path, &repository, reterr);
    if (status != 0) {
        return status;
    }
    names->single = true;
    names->names = fm_alloc_zero(1, sizeof(*names->names));
    status = names->names != NULL ? names_add(names, path, repository.entries[0].name, reterr)
                                  : out_of_memory(path, reterr);
    fm_repository_close(&repository);
    return status;
}

int fm_repository_list(const char *path, struct fm_repository_names *ret_names,
                       struct fm_error *reterr)
{
    struct fm_file_facts facts;
    char *trimmed = NULL;
    bool model = true;
    *ret_names = (struct fm_repository_names){0};
    int status = path_trim(path, &trimmed, &facts, reterr);
    if (status != 0) {
        return status;
    }
    if (facts.kind == FM_FILE_DIRECTORY) {
        status = is_model_directory(trimmed, &model, reterr);
    }
    if (status == 0) {
        status = model ? list_single(trimmed, ret_names, reterr)
                       : list_directory(trimmed, ret_names, reterr);
    }
    fm_free(trimmed);
    if (status != 0) {
        fm_repository_names_free(ret_names);
    }
    return status;
}

int fm_repository_locate(const char *path, bool single, const char *name, char *ret_path,
                         size_t size, struct fm_error *reterr)
{
    struct fm_file_facts facts = {0};
    char file[PATH_SIZE];
    if (single) {
        /* A configuration stands for the directory it lies in. */
        const char *base = fm_path_base(path);
        bool config = strcmp(base, MODEL_YAML) == 0 || strcmp(base, MODEL_PBTXT) == 0;
        int written = snprintf(ret_path, size, "%s", path);
        if (config && fm_path_directory(ret_path, size, path) != 0) {
            written = -1;
        }
        return written >= 0 && (size_t)written < size
                   ? 0
                   : fm_error_set(reterr, FM_ETOOLARGE, "'%.200s': the path is too long", path);
    }
    int status =
        name[0] == '\0' || is_hidden(name) || strchr(name, '/') != NULL
            ? fm_error_set(reterr, FM_ENOTFOUND,
                           "'%s' has no model '%.200s': that is no name of one", path, name)
            : 0;
    int written = status == 0 ? snprintf(file, sizeof(file), "%s.onnx", name) : 0;
    if (status == 0 && (written >= (int)sizeof(file) || fm_path_join(ret_path, size, path, name))) {
        status = fm_error_set(reterr, FM_ETOOLARGE, "'%.200s': the path is too long", path);
    }
    status = status == 0 ? fm_file_stat(ret_path, &facts, reterr) : status;
    if (status != 0 || facts.kind == FM_FILE_DIRECTORY) {
        return status;
    }
    status = join(ret_path, path, file, reterr);
    status = status == 0 ? fm_file_stat(ret_path, &facts, reterr) : status;
    return status != 0 || facts.kind == FM_FILE_REGULAR
               ? status
               : fm_error_set(reterr, FM_ENOTFOUND, "'%s' has no model '%.200s'", path, name);
}

/* An entry of a directory of models, by its name. */
static int read_one(const char *path, const char *name,
                    const struct fm_repository_override *override, struct fm_repository *repository,
                    struct fm_error *reterr)
{
    char place[PATH_SIZE];
    char file[PATH_SIZE];
    enum fm_file_kind other = FM_FILE_ABSENT;
    bool replaced = override != NULL && override->directory != NULL;
    int status =
        replaced ? 0 : fm_repository_locate(path, false, name, place, sizeof(place), reterr);
    if (status != 0) {
        return status;
    }
    const char *directory = replaced ? override->directory : place;
    bool bare = !replaced && strcmp(fm_path_base(place), name) != 0;
    if (!bare && !replaced && snprintf(file, sizeof(file), "%s.onnx", name) < (int)sizeof(file) &&
        kind_of(path, file, &other, NULL) == 0 && other == FM_FILE_REGULAR) {
        return fm_error_set(reterr, FM_EEXIST,
                            "'%s' has both a directory and a file for model '%s': rename one", path,
                            name);
    }
    repository->entries = fm_alloc_zero(1, sizeof(*repository->entries));
    status = repository->entries != NULL
                 ? entry_init(&repository->entries[0], name, FM_REPOSITORY_MODEL, directory, reterr)
                 : out_of_memory(path, reterr);
    if (status != 0) {
        return status;
    }
    repository->count = 1;
    if (bare && override != NULL) {
        return fm_error_set(reterr, FM_EUNSUPPORTED,
                            "model '%s' is a file without a directory, which takes no "
                            "configuration: move it to '%s/1/" FM_MODEL_FILE_DEFAULT "'",
                            name, name);
    }
    return bare ? read_bare_file(&repository->entries[0], reterr)
                : read_directory(&repository->entries[0], true, override, reterr);
}

int fm_repository_read(const char *path, const char *name,
                       const struct fm_repository_override *override,
                       struct fm_repository *ret_repository, struct fm_error *reterr)
{
    struct fm_file_facts facts;
    char *trimmed = NULL;
    bool single = true;
    *ret_repository = (struct fm_repository){0};
    int status = path_trim(path, &trimmed, &facts, reterr);
    if (status != 0) {
        return status;
    }
    if (facts.kind == FM_FILE_DIRECTORY) {
        status = is_model_directory(trimmed, &single, reterr);
    }
    if (status == 0 && single && override != NULL && facts.kind == FM_FILE_DIRECTORY) {
        const struct fm_repository_override here = {
            .config = override->config,
            .config_size = override->config_size,
            .directory = override->directory != NULL ? override->directory : trimmed};
        status = read_one(trimmed, name, &here, ret_repository, reterr);
    } else if (status == 0 && single && override != NULL) {
        status = fm_error_set(reterr, FM_EUNSUPPORTED,
                              "'%s' is served from one file, which takes no configuration", name);
    } else if (status == 0 && single) {
        status = fm_repository_open(trimmed, ret_repository, reterr);
    } else if (status == 0) {
        status = read_one(trimmed, name, override, ret_repository, reterr);
    }
    fm_free(trimmed);
    if (status != 0) {
        fm_repository_close(ret_repository);
    }
    return status;
}

/* ---- looking up ---- */

static int unknown_model(const struct fm_repository *repository, const char *name,
                         struct fm_error *reterr)
{
    const char **names = fm_alloc((repository->count + 1) * sizeof(*names));
    const char *nearest = NULL;
    for (size_t i = 0; names != NULL && i < repository->count; i++) {
        names[i] = repository->entries[i].name;
    }
    if (names != NULL) {
        nearest = fm_text_suggest(name, names, repository->count);
    }
    (void)fm_error_set(reterr, FM_ENOTFOUND, "there is no model '%.100s' in the repository%s%s%s",
                       name, nearest != NULL ? "; did you mean '" : "",
                       nearest != NULL ? nearest : "", nearest != NULL ? "'?" : "");
    fm_free(names);
    return FM_ENOTFOUND;
}

static int unknown_version(const struct fm_repository_entry *entry, uint64_t version,
                           struct fm_error *reterr)
{
    char text[200] = "";
    size_t length = 0;
    for (size_t i = 0; i < entry->version_count && length < sizeof(text) - 24; i++) {
        length +=
            (size_t)snprintf(text + length, sizeof(text) - length, "%s%llu", i == 0 ? "" : ", ",
                             (unsigned long long)entry->versions[i].version);
    }
    return fm_error_set(reterr, FM_ENOTFOUND,
                        "model '%s' has no version %llu; its version policy selects %s",
                        entry->name, (unsigned long long)version, text);
}

int fm_repository_find_model(const struct fm_repository *repository, const char *name,
                             uint64_t version, const struct fm_model_config **ret_config,
                             struct fm_error *reterr)
{
    const struct fm_repository_entry *entry = NULL;
    *ret_config = NULL;
    for (size_t i = 0; i < repository->count && entry == NULL; i++) {
        entry = strcmp(repository->entries[i].name, name) == 0 ? &repository->entries[i] : NULL;
    }
    if (entry == NULL) {
        return unknown_model(repository, name, reterr);
    }
    if (entry->error.status != 0) {
        return fm_error_set(reterr, entry->error.status, "%s", entry->error.text);
    }
    if (entry->kind == FM_REPOSITORY_PIPELINE) {
        return fm_error_set(reterr, FM_EINVAL, "'%s' is a pipeline; a model is needed here", name);
    }
    if (version == 0 && entry->version_count > 0) {
        *ret_config = &entry->versions[entry->version_count - 1];
        return 0;
    }
    for (size_t i = 0; i < entry->version_count; i++) {
        if (entry->versions[i].version == version) {
            *ret_config = &entry->versions[i];
            return 0;
        }
    }
    return unknown_version(entry, version, reterr);
}
