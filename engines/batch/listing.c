/*
 * Finding, recording and comparing inputs. See listing.h.
 */
#include "engines/batch/listing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/hash.h"
#include "core/util/text.h"
#include "engines/batch/glob.h"
#include "engines/batch/paths.h"
#include "engines/batch/remote.h"
#include "host/os/file.h"
#include "host/os/tree.h"

enum { WRITE_CHUNK = 1 << 16 };
#define LIST_BYTES_MAX ((size_t)1 << 30)

/* --- Collecting --- */

int fm_listing_add(struct fm_listing *listing, const struct fm_listing_entry *entry)
{
    if (listing->count == listing->capacity) {
        size_t capacity = listing->capacity == 0 ? 256 : listing->capacity * 2;
        struct fm_listing_entry *grown = fm_realloc(listing->entries, capacity * sizeof(*grown));
        if (grown == NULL) {
            return FM_ENOMEM;
        }
        listing->entries = grown;
        listing->capacity = capacity;
    }
    char *copy = fm_arena_strdup(&listing->arena, entry->id);
    if (copy == NULL) {
        return FM_ENOMEM;
    }
    listing->entries[listing->count] = *entry;
    listing->entries[listing->count++].id = copy;
    return 0;
}

void fm_listing_clear(struct fm_listing *listing)
{
    fm_arena_deinit(&listing->arena);
    fm_arena_init(&listing->arena, 0);
    listing->count = 0;
}

/* What a walk below one directory needs. */
struct collector {
    struct fm_listing *listing;
    const char *pattern; /* relative to the directory; NULL: everything */
    const char *prefix;  /* of ids; "": the directory is the base */
    uint64_t found;
    struct fm_error *reterr;
};

static int collect_id(void *context, const char *id, uint64_t size)
{
    struct collector *collector = context;
    struct fm_listing *listing = collector->listing;
    collector->found++;
    const struct fm_listing_entry entry = {.id = id, .size = size};
    int status = fm_listing_add(listing, &entry);
    if (status != 0) {
        return fm_error_set(collector->reterr, status,
                            "out of memory for the list of inputs (%zu so far)", listing->count);
    }
    return listing->found != NULL ? listing->found(listing->found_context) : 0;
}

static int collect(void *context, const char *path, uint64_t size)
{
    struct collector *collector = context;
    char id[FM_LISTING_ID_MAX];
    if (collector->pattern != NULL && !fm_glob_matches(collector->pattern, path)) {
        return 0;
    }
    if (fm_path_join(id, sizeof(id), collector->prefix, path) != 0) {
        return fm_error_set(collector->reterr, FM_ETOOLARGE, "the path '%.200s...' is too long",
                            path);
    }
    return collect_id(collector, id, size);
}

/* Removes the backslashes of a literal part of a pattern. */
static void unescape(char *text)
{
    char *to = text;
    for (const char *from = text; *from != '\0'; from++) {
        if (*from == '\\' && from[1] != '\0') {
            from++;
        }
        *to++ = *from;
    }
    *to = '\0';
}

/* The output directory, where no input may be: what the job writes must never become its input. */
struct output_place {
    const char *shown;  /* as the job names it; NULL: there is none */
    const char *folder; /* resolved */
};

/* FM_EINVAL when `path` is, or lies in, the output directory. */
static int output_refuse(const struct output_place *output, const char *path, const char *resolved,
                         struct fm_error *reterr)
{
    if (output->shown == NULL || fm_paths_below(output->folder, resolved) == NULL) {
        return 0;
    }
    return fm_error_set(reterr, FM_EINVAL,
                        "the input '%s' is in the output directory '%s', so that results of the "
                        "job could become its inputs: choose an output directory that holds no "
                        "inputs",
                        path, output->shown);
}

/* The same for a file, which itself may be a link into the output directory. */
static int output_refuse_file(const struct output_place *output, const char *path,
                              struct fm_error *reterr)
{
    char resolved[FM_LISTING_ID_MAX];
    int status = fm_paths_resolve(path, resolved, sizeof(resolved), reterr);
    return status != 0 ? status : output_refuse(output, path, resolved, reterr);
}

/* The prefix that ids of files in `directory` get. */
static int id_prefix(const struct fm_listing *listing, const char *directory,
                     const struct output_place *output, char *ret_prefix, size_t size,
                     struct fm_error *reterr)
{
    char base[FM_LISTING_ID_MAX];
    char resolved[FM_LISTING_ID_MAX];
    int status = fm_tree_resolve(listing->base, base, sizeof(base), reterr);
    status = status != 0 ? status : fm_tree_resolve(directory, resolved, sizeof(resolved), reterr);
    status = status != 0 ? status : output_refuse(output, directory, resolved, reterr);
    if (status != 0) {
        return status;
    }
    const char *relative = fm_paths_below(base, resolved);
    int length = snprintf(ret_prefix, size, "%s", relative != NULL ? relative : resolved);
    return length >= 0 && (size_t)length < size
               ? 0
               : fm_error_set(reterr, FM_ETOOLARGE, "the path '%.200s...' is too long", directory);
}

/* How deep it can match; 0: at any depth. */
static int levels_of(const char *pattern)
{
    int levels = pattern != NULL && strstr(pattern, "**") == NULL ? 1 : 0;
    for (const char *c = pattern; levels > 0 && *c != '\0'; c++) {
        levels += *c == '/' ? 1 : 0;
    }
    return levels;
}

static int walk_one(struct fm_listing *listing, const char *directory, const char *pattern,
                    const struct output_place *output, const char *shown, struct fm_error *reterr)
{
    char prefix[FM_LISTING_ID_MAX];
    struct collector collector = {
        .listing = listing, .pattern = pattern, .prefix = prefix, .reterr = reterr};
    bool hidden = pattern != NULL && (pattern[0] == '.' || strstr(pattern, "/.") != NULL);
    struct fm_tree_options options = {.exclude = output->shown,
                                      .hidden = hidden,
                                      .levels = levels_of(pattern),
                                      .ret_hidden = &listing->hidden_count,
                                      .stopping = listing->stopping};
    int status = id_prefix(listing, directory, output, prefix, sizeof(prefix), reterr);
    status = status != 0 ? status : fm_tree_walk(directory, &options, collect, &collector, reterr);
    if (status == 0 && collector.found == 0) {
        return pattern != NULL
                   ? fm_error_set(reterr, FM_ENOTFOUND, "no input: nothing matches '%s'", shown)
                   : fm_error_set(reterr, FM_ENOTFOUND,
                                  "no input: the directory '%s' has no files in it", shown);
    }
    return status;
}

static int add_file(struct fm_listing *listing, const char *path, uint64_t size,
                    const struct output_place *output, struct fm_error *reterr)
{
    char directory[FM_LISTING_ID_MAX];
    char prefix[FM_LISTING_ID_MAX];
    struct collector collector = {.listing = listing, .prefix = prefix, .reterr = reterr};
    int status = fm_path_directory(directory, sizeof(directory), path);
    if (status != 0) {
        return fm_error_set(reterr, status, "the path '%.200s...' is too long", path);
    }
    status = output_refuse_file(output, path, reterr);
    status = status != 0 ? status
                         : id_prefix(listing, directory, output, prefix, sizeof(prefix), reterr);
    return status != 0 ? status : collect(&collector, fm_path_base(path), size);
}

/* Whether the job's transfers can be had is seen here, before anything is written. */
static int options_check(const struct fm_job *job, struct fm_error *reterr)
{
    struct fm_objects *objects = NULL;
    int status = fm_remote_open(job, &objects, reterr);
    fm_objects_close(status == 0 ? objects : NULL);
    return status;
}

static int add_address(const struct fm_job *job, struct fm_listing *listing, const char *address,
                       struct fm_error *reterr)
{
    struct collector collector = {.listing = listing, .prefix = "", .reterr = reterr};
    const struct fm_remote_walk walk = {.address = address,
                                        .base = listing->base,
                                        .found = collect_id,
                                        .context = &collector,
                                        .hidden_count = &listing->hidden_count,
                                        .stopping = listing->stopping};
    if (fm_remote_is_walk(address)) {
        return fm_remote_walk(job, &walk, reterr);
    }
    int status = options_check(job, reterr);
    return status != 0 ? status
                       : collect_id(&collector, fm_remote_id(listing->base, address),
                                    FM_LISTING_SIZE_UNKNOWN);
}

static int add_path(struct fm_listing *listing, const char *path, const struct output_place *output,
                    struct fm_error *reterr)
{
    char literal[FM_LISTING_ID_MAX];
    struct fm_file_facts facts;
    size_t fixed = fm_glob_fixed_length(path);
    if (!fm_glob_is_pattern(path)) {
        int status = fm_file_stat(path, &facts, reterr);
        if (status != 0) {
            return status;
        }
        if (facts.kind == FM_FILE_ABSENT) {
            return fm_error_set(reterr, FM_ENOTFOUND, "no input: '%s' does not exist", path);
        }
        if (facts.kind == FM_FILE_DIRECTORY) {
            return walk_one(listing, path, NULL, output, path, reterr);
        }
        return add_file(listing, path,
                        facts.kind == FM_FILE_REGULAR ? facts.size : FM_LISTING_SIZE_UNKNOWN,
                        output, reterr);
    }
    /* Characters escaped in the directory part are literal: the fixed part reaches over them. */
    while (path[fixed] != '\0') {
        const char *next = path + fixed + (path[fixed] == '/' ? 1 : 0);
        size_t length = strcspn(next, "/");
        bool plain = next[length] == '/';
        for (size_t i = 0; i < length && plain; i++) {
            if (next[i] == '\\' && i + 1 < length) {
                i++;
            } else {
                plain = strchr("*?[", next[i]) == NULL;
            }
        }
        if (!plain) {
            break;
        }
        fixed = (size_t)(next - path) + length;
    }
    (void)snprintf(literal, sizeof(literal), "%.*s", (int)fixed, fixed == 0 ? "." : path);
    if (fixed == 0) {
        (void)snprintf(literal, sizeof(literal), ".");
    }
    unescape(literal);
    return walk_one(listing, literal, path + fixed + (path[fixed] == '/' ? 1 : 0), output, path,
                    reterr);
}

static int add_input(const struct fm_job *job, struct fm_listing *listing, const char *input,
                     const struct output_place *output, struct fm_error *reterr)
{
    if (fm_object_is_address(input)) {
        return add_address(job, listing, input, reterr);
    }
    return fm_object_is_address(listing->base)
               ? fm_error_set(reterr, FM_EINVAL,
                              "'input.base' is an address, and the input '%s' is none", input)
               : add_path(listing, input, output, reterr);
}

/* Where ids begin when the job file does not say: the one directory, the fixed part of the one
 * pattern, or the job file's directory. */
static int base_choose(const struct fm_job *job, struct fm_listing *listing,
                       struct fm_error *reterr)
{
    char chosen[FM_LISTING_ID_MAX];
    struct fm_file_facts facts;
    int status = 0;
    bool one = job->files != NULL && job->files[1] == NULL;
    if (job->base == NULL && one && fm_remote_is_walk(job->files[0])) {
        fm_remote_walk_base(job->files[0], listing->base, sizeof(listing->base));
        return 0;
    }
    if (job->base != NULL && fm_object_is_address(job->base)) {
        (void)snprintf(listing->base, sizeof(listing->base), "%s", job->base);
        return 0;
    }
    if (job->base != NULL) {
        (void)snprintf(chosen, sizeof(chosen), "%s", job->base);
    } else if (one && fm_object_is_address(job->files[0])) {
        status = fm_path_directory(chosen, sizeof(chosen), job->file);
    } else if (job->list != NULL && strcmp(job->list, "-") == 0) {
        (void)snprintf(chosen, sizeof(chosen), ".");
    } else if (job->list != NULL || job->files[1] != NULL) {
        status =
            fm_path_directory(chosen, sizeof(chosen), job->list != NULL ? job->list : job->file);
    } else if (fm_glob_is_pattern(job->files[0])) {
        size_t fixed = fm_glob_fixed_length(job->files[0]);
        (void)snprintf(chosen, sizeof(chosen), "%.*s", (int)(fixed > 0 ? fixed : 1),
                       fixed > 0 ? job->files[0] : ".");
    } else if (fm_file_stat(job->files[0], &facts, NULL) == 0 && facts.kind == FM_FILE_DIRECTORY) {
        (void)snprintf(chosen, sizeof(chosen), "%s", job->files[0]);
    } else {
        status = fm_path_directory(chosen, sizeof(chosen), job->files[0]);
    }
    if (status != 0) {
        return fm_error_set(reterr, status, "the input's path is too long");
    }
    status = fm_file_stat(chosen, &facts, reterr);
    if (status == 0 && facts.kind != FM_FILE_DIRECTORY) {
        return fm_error_set(reterr, FM_ENOTFOUND, "no input: the directory '%s' does not exist",
                            chosen);
    }
    (void)snprintf(listing->base, sizeof(listing->base), "%s", chosen);
    return status;
}

/* --- Lists --- */

/* What reading a list needs. Its paths are too many for a stack. */
struct list_reader {
    const struct fm_job *job;
    bool fetches; /* it has an address */
    struct fm_listing *listing;
    const struct output_place *output;
    char base[FM_LISTING_ID_MAX]; /* resolved */
    char text[FM_LISTING_ID_MAX]; /* the line */
    char id[FM_LISTING_ID_MAX];
    char path[2 * FM_LISTING_ID_MAX]; /* of the file that id names */
    char resolved[2 * FM_LISTING_ID_MAX];
};

/* One spelling for one file, as *ret_id, which is a part of reader->id: relative when it lies below
 * the base, else absolute. */
static int list_id(struct list_reader *reader, const char **ret_id)
{
    char *id = reader->id;
    int status = fm_paths_tidy(reader->listing->base, reader->text, id, sizeof(reader->id));
    if (status == 0 && (strcmp(id, "..") == 0 || strncmp(id, "../", 3) == 0)) {
        status = fm_path_join(reader->path, sizeof(reader->path), reader->base, id);
        status = status != 0 ? status : fm_paths_tidy("", reader->path, id, sizeof(reader->id));
    }
    const char *below = status == 0 && id[0] == '/' ? fm_paths_below(reader->base, id) : NULL;
    *ret_id = below != NULL && below[0] != '\0' ? below : id;
    return status;
}

/* The line is, or the base makes it, an address. */
static int list_address(struct list_reader *reader, struct fm_error *reterr)
{
    struct fm_listing *listing = reader->listing;
    char *address = reader->path;
    struct fm_error bad = {0};
    int status = fm_remote_place(address, sizeof(reader->path), listing->base, reader->text);
    status = status != 0 ? status : fm_object_check(address, &bad);
    if (status != 0) {
        return fm_error_set(reterr, FM_EINVAL, "the list of inputs: %s",
                            bad.status != 0 ? bad.text : "an address is too long");
    }
    if (reader->job->format != NULL) {
        return fm_error_set(reterr, FM_EINVAL,
                            "the list of inputs has the address '%.100s', but files that hold rows "
                            "('%s') are read from a file system: fetch them first",
                            address, reader->job->format->name);
    }
    status = reader->fetches ? 0 : options_check(reader->job, reterr);
    reader->fetches = true;
    const struct fm_listing_entry entry = {.id = fm_remote_id(listing->base, address),
                                           .size = FM_LISTING_SIZE_UNKNOWN};
    if (status == 0 && fm_listing_add(listing, &entry) != 0) {
        status = fm_error_set(reterr, FM_ENOMEM, "out of memory for the list of inputs");
    }
    return status;
}

static int list_line(struct list_reader *reader, const char *line, size_t length,
                     struct fm_error *reterr)
{
    struct fm_listing *listing = reader->listing;
    char *path = reader->path;
    const char *id = NULL;
    struct fm_file_facts facts = {0};
    bool fits = length < sizeof(reader->text);
    memcpy(reader->text, line, fits ? length : 0);
    reader->text[fits ? length : 0] = '\0';
    if (fits && fm_remote_is(listing->base, reader->text)) {
        return list_address(reader, reterr);
    }
    if (fits && fm_object_is_foreign(reader->text)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "the list of inputs has '%.200s', an address that cannot be read, "
                            "unlike those of s3, https and http; a path with such a name begins "
                            "with ./",
                            reader->text);
    }
    if (!fits || list_id(reader, &id) != 0) {
        return fm_error_set(reterr, FM_ETOOLARGE,
                            "the list of inputs has a path of %zu bytes; the limit is %d", length,
                            FM_LISTING_ID_MAX - 1);
    }
    bool short_enough = fm_path_join(path, sizeof(reader->path), listing->base, id) == 0;
    /* What cannot be looked at now becomes a dead letter when its turn comes. */
    if (short_enough &&
        fm_paths_resolve(path, reader->resolved, sizeof(reader->resolved), NULL) == 0) {
        int status = output_refuse(reader->output, reader->text, reader->resolved, reterr);
        if (status != 0) {
            return status;
        }
    }
    bool known =
        short_enough && fm_file_stat(path, &facts, NULL) == 0 && facts.kind == FM_FILE_REGULAR;
    const struct fm_listing_entry entry = {.id = id,
                                           .size = known ? facts.size : FM_LISTING_SIZE_UNKNOWN};
    int status = fm_listing_add(listing, &entry);
    return status == 0
               ? 0
               : fm_error_set(reterr, status, "out of memory for the list of inputs (%zu so far)",
                              listing->count);
}

static int read_list(const struct fm_job *job, const struct output_place *output,
                     struct fm_listing *listing, struct fm_error *reterr)
{
    struct list_reader *reader = fm_alloc(sizeof(*reader));
    char *data = NULL;
    size_t size = 0;
    if (reader == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the list of inputs");
    }
    reader->job = job;
    reader->fetches = false;
    reader->listing = listing;
    reader->output = output;
    (void)snprintf(reader->base, sizeof(reader->base), "%s", listing->base);
    int status = fm_object_is_address(listing->base)
                     ? 0
                     : fm_tree_resolve(listing->base, reader->base, sizeof(reader->base), reterr);
    if (status == 0) {
        status = strcmp(job->list, "-") == 0
                     ? fm_file_read_stdin(LIST_BYTES_MAX, &data, &size, reterr)
                     : fm_file_read(job->list, LIST_BYTES_MAX, &data, &size, reterr);
    }
    if (status != 0) {
        fm_free(reader);
        return status;
    }
    /* A NUL anywhere means that paths are separated by NULs, as find -print0 does: then they may
     * contain newlines. */
    char separator = memchr(data, '\0', size) != NULL ? '\0' : '\n';
    for (size_t at = 0; at < size && status == 0;) {
        const char *end = memchr(data + at, separator, size - at);
        size_t length = end != NULL ? (size_t)(end - data) - at : size - at;
        if (length > 0) {
            status = list_line(reader, data + at, length, reterr);
        }
        at += length + 1;
    }
    fm_free(data);
    fm_free(reader);
    if (status == 0 && listing->count == 0) {
        status = fm_error_set(reterr, FM_ENOTFOUND, "no input: the list '%s' is empty",
                              strcmp(job->list, "-") == 0 ? "standard input" : job->list);
    }
    return status;
}

int fm_listing_compare(const void *a, const void *b)
{
    const unsigned char *one = (const unsigned char *)((const struct fm_listing_entry *)a)->id;
    const unsigned char *other = (const unsigned char *)((const struct fm_listing_entry *)b)->id;
    while (*one == *other && *one != '\0') {
        one++;
        other++;
    }
    int left = *one == '/' ? 1 : *one == '\0' ? 0 : *one + 1;
    int right = *other == '/' ? 1 : *other == '\0' ? 0 : *other + 1;
    return left - right;
}

static void sort_unique(struct fm_listing *listing)
{
    size_t kept = 0;
    if (listing->count > 0) {
        qsort(listing->entries, listing->count, sizeof(*listing->entries), fm_listing_compare);
    }
    for (size_t i = 0; i < listing->count; i++) {
        if (kept > 0 && strcmp(listing->entries[kept - 1].id, listing->entries[i].id) == 0) {
            listing->duplicate_count++;
        } else {
            listing->entries[kept++] = listing->entries[i];
        }
    }
    listing->count = kept;
}

int fm_listing_build(const struct fm_job *job, const char *exclude, const atomic_bool *stopping,
                     struct fm_listing *ret_listing, struct fm_error *reterr)
{
    struct fm_listing *listing = ret_listing;
    char folder[FM_LISTING_ID_MAX];
    struct output_place output = {.shown = exclude, .folder = folder};
    memset(listing, 0, sizeof(*listing));
    listing->stopping = stopping;
    fm_arena_init(&listing->arena, 0);
    int status = exclude != NULL ? fm_paths_resolve(exclude, folder, sizeof(folder), reterr) : 0;
    status = status != 0 ? status : base_choose(job, listing, reterr);
    if (status == 0 && job->list != NULL) {
        status = read_list(job, &output, listing, reterr);
    }
    for (size_t i = 0; status == 0 && job->files != NULL && job->files[i] != NULL; i++) {
        status = add_input(job, listing, job->files[i], &output, reterr);
    }
    if (status != 0) {
        fm_listing_deinit(listing);
        return status;
    }
    sort_unique(listing);
    return 0;
}

bool fm_listing_is_walk(const struct fm_job *job)
{
    struct fm_file_facts facts;
    if (job->files == NULL || job->files[1] != NULL) {
        return false;
    }
    if (fm_object_is_address(job->files[0])) {
        return fm_remote_is_walk(job->files[0]);
    }
    return fm_glob_is_pattern(job->files[0]) ||
           (fm_file_stat(job->files[0], &facts, NULL) == 0 && facts.kind == FM_FILE_DIRECTORY);
}

int fm_listing_walk(const struct fm_job *job, const char *exclude, const atomic_bool *stopping,
                    int (*found)(void *context), void *context, struct fm_listing *ret_listing,
                    struct fm_error *reterr)
{
    struct fm_listing *listing = ret_listing;
    char folder[FM_LISTING_ID_MAX];
    const struct output_place output = {.shown = exclude, .folder = folder};
    *listing = (struct fm_listing){.found = found, .found_context = context, .stopping = stopping};
    fm_arena_init(&listing->arena, 0);
    int status = exclude != NULL ? fm_paths_resolve(exclude, folder, sizeof(folder), reterr) : 0;
    status = status != 0 ? status : base_choose(job, listing, reterr);
    return status != 0 ? status : add_input(job, listing, job->files[0], &output, reterr);
}

void fm_listing_deinit(struct fm_listing *listing)
{
    fm_free(listing->entries);
    fm_arena_deinit(&listing->arena);
    listing->entries = NULL;
    listing->count = 0;
}

/* --- Recording --- */

static void entry_write(struct fm_text *text, const struct fm_listing_entry *entry, bool rows)
{
    if (entry->size == FM_LISTING_SIZE_UNKNOWN) {
        fm_text_append_string(text, "? ");
    } else {
        fm_text_append_format(text, "%llu ", (unsigned long long)entry->size);
    }
    if (rows) {
        fm_text_append_format(text, "%llu %llu ", (unsigned long long)entry->first_row,
                              (unsigned long long)entry->row_count);
    }
    if (rows && entry->rows_total == FM_LISTING_ROWS_UNKNOWN) {
        fm_text_append_string(text, "? ");
    } else if (rows) {
        fm_text_append_format(text, "%llu ", (unsigned long long)entry->rows_total);
    }
    fm_text_append(text, entry->id, strlen(entry->id) + 1);
}

int fm_listing_write(const struct fm_listing *listing, const size_t *order, size_t count, bool rows,
                     const char *path, uint64_t *ret_checksum, struct fm_error *reterr)
{
    struct fm_file_writer writer = {0};
    struct fm_text text = {0};
    char temporary[FM_LISTING_ID_MAX];
    uint64_t checksum = FM_HASH_START;
    int status = fm_path_join(temporary, sizeof(temporary), "", path);
    if (status != 0 || strlen(temporary) + 5 > sizeof(temporary)) {
        return fm_error_set(reterr, FM_ETOOLARGE, "the path '%.200s...' is too long", path);
    }
    memcpy(temporary + strlen(temporary), ".tmp", 5);
    status = fm_file_writer_open(&writer, temporary, reterr);
    for (size_t i = 0; i <= count && status == 0; i++) {
        if (i < count) {
            entry_write(&text, &listing->entries[order != NULL ? order[i] : i], rows);
        }
        if (text.failed) {
            status = fm_error_set(reterr, FM_ENOMEM, "out of memory for the list of inputs");
        } else if (text.length >= WRITE_CHUNK || i == count) {
            checksum = fm_hash_add(checksum, text.data, text.length);
            status = fm_file_writer_append(&writer, text.data, text.length, reterr);
            fm_text_clear(&text);
        }
    }
    fm_text_deinit(&text);
    status = status != 0 ? status : fm_file_writer_commit(&writer, reterr);
    status = status != 0 ? status : fm_file_rename(temporary, path, reterr);
    if (status != 0) {
        fm_file_writer_abandon(&writer);
        /* What matters is said already; a leftover is overwritten by the next attempt. */
        int ignored = fm_file_remove(temporary, NULL);
        (void)ignored;
        return status;
    }
    *ret_checksum = checksum;
    /* The ledger is going to name this file, so its name must be on the disk before. */
    return fm_path_directory(temporary, sizeof(temporary), path) != 0
               ? fm_error_set(reterr, FM_ETOOLARGE, "the path '%.200s...' is too long", path)
               : fm_file_sync_directory(temporary, reterr);
}
