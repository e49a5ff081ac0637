/*
 * Stamps and listings. See watch.h.
 */
#include "engines/serve/watch.h"

#include <stdlib.h>
#include <string.h>

#include "core/util/error.h"
#include "core/util/hash.h"
#include "core/util/memory.h"
#include "core/util/text.h"
#include "host/os/file.h"
#include "host/runtime/pipeline_file.h"
#include "host/runtime/repository.h"

enum { PATH_SIZE = 4096 };

static int out_of_memory(const char *what, struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_ENOMEM, "out of memory while looking at '%s'", what);
}

/* --- Stamps --- */

static uint64_t hash_number(uint64_t hash, uint64_t number)
{
    return fm_hash_add(hash, &number, sizeof(number));
}

static uint64_t hash_facts(uint64_t hash, const char *name, const struct fm_file_facts *facts)
{
    hash = fm_hash_add(hash, name, strlen(name) + 1);
    hash = hash_number(hash, (uint64_t)facts->kind);
    if (facts->kind != FM_FILE_DIRECTORY) {
        hash = hash_number(hash, facts->size);
        hash = hash_number(hash, facts->modified_ns);
        hash = hash_number(hash, facts->inode);
    }
    return hash;
}

/* The hash of a directory's files, continued from `hash`. What cannot be looked at is not there. */
static uint64_t hash_tree(uint64_t hash, const char *path, unsigned depth, uint32_t *budget)
{
    struct fm_file_list list = {0};
    char inner[PATH_SIZE];
    if (depth > FM_WATCH_DEPTH_MAX || fm_file_list(path, &list, NULL) != 0) {
        return hash_number(hash, depth);
    }
    for (size_t i = 0; i<list.count && * budget> 0; i++) {
        struct fm_file_facts facts;
        const char *name = list.names[i];
        /* Copies under way have such names. */
        if (name[0] == '.' || fm_path_join(inner, sizeof(inner), path, name) != 0 ||
            fm_file_stat(inner, &facts, NULL) != 0 || facts.kind == FM_FILE_ABSENT) {
            continue;
        }
        (*budget)--;
        hash = hash_facts(hash, name, &facts);
        if (facts.kind == FM_FILE_DIRECTORY) {
            hash = hash_tree(hash, inner, depth + 1, budget);
        }
    }
    fm_file_list_free(&list);
    /* So that a/b and a, b differ. */
    return hash_number(hash, depth);
}

static int compare_versions(const void *a, const void *b)
{
    const struct fm_watch_version *left = a;
    const struct fm_watch_version *right = b;
    return (left->version > right->version) - (left->version < right->version);
}

/* A model's directory: its versions apart from the rest. */
static void stamp_directory(const char *place, const struct fm_file_list *list,
                            struct fm_watch_stamps *stamps)
{
    uint32_t budget = FM_WATCH_FILES_MAX;
    char inner[PATH_SIZE];
    for (size_t i = 0; i < list->count && budget > 0; i++) {
        struct fm_file_facts facts;
        const char *name = list->names[i];
        if (name[0] == '.' || fm_path_join(inner, sizeof(inner), place, name) != 0 ||
            fm_file_stat(inner, &facts, NULL) != 0 || facts.kind == FM_FILE_ABSENT) {
            continue;
        }
        budget--;
        uint64_t version = facts.kind == FM_FILE_DIRECTORY ? fm_repository_version_number(name) : 0;
        if (version != 0) {
            stamps->versions[stamps->count++] =
                (struct fm_watch_version){version, hash_tree(FM_HASH_START, inner, 1, &budget)};
            continue;
        }
        stamps->common = hash_facts(stamps->common, name, &facts);
        if (facts.kind == FM_FILE_DIRECTORY) {
            stamps->common = hash_tree(stamps->common, inner, 1, &budget);
        }
    }
    if (stamps->count > 1) {
        qsort(stamps->versions, stamps->count, sizeof(*stamps->versions), compare_versions);
    }
}

/* The stamps of what lies at `place`, without what it uses. */
static int stamp_place(const char *place, struct fm_watch_stamps *stamps, struct fm_error *reterr)
{
    struct fm_file_list list = {0};
    struct fm_file_facts facts;
    *stamps = (struct fm_watch_stamps){.common = FM_HASH_START};
    int status = fm_file_stat(place, &facts, reterr);
    if (status == 0 && facts.kind == FM_FILE_ABSENT) {
        status = fm_error_set(reterr, FM_ENOTFOUND, "'%s' does not exist", place);
    }
    if (status != 0) {
        return status;
    }
    if (facts.kind != FM_FILE_DIRECTORY) {
        stamps->common = hash_facts(stamps->common, "", &facts);
        stamps->whole = stamps->common;
        return 0;
    }
    status = fm_file_list(place, &list, reterr);
    if (status != 0) {
        return status;
    }
    stamps->versions = fm_alloc_zero(list.count + 1, sizeof(*stamps->versions));
    if (stamps->versions != NULL) {
        stamp_directory(place, &list, stamps);
    } else {
        status = out_of_memory(place, reterr);
    }
    fm_file_list_free(&list);
    stamps->whole = stamps->common;
    for (size_t i = 0; i < stamps->count; i++) {
        stamps->whole = hash_number(stamps->whole, stamps->versions[i].version);
        stamps->whole = hash_number(stamps->whole, stamps->versions[i].stamp);
    }
    return status;
}

int fm_watch_stamps_read(const struct fm_watch_root *root, const char *name,
                         struct fm_watch_stamps *ret_stamps, struct fm_error *reterr)
{
    char place[PATH_SIZE];
    struct fm_watch_uses uses = {0};
    *ret_stamps = (struct fm_watch_stamps){0};
    int status = fm_repository_locate(root->path, root->single, name, place, sizeof(place), reterr);
    status = status == 0 ? stamp_place(place, ret_stamps, reterr) : status;
    status = status == 0 ? fm_watch_uses_read(root, name, &uses, reterr) : status;
    for (size_t i = 0; status == 0 && i < uses.count; i++) {
        struct fm_watch_stamps used = {0};
        char used_place[PATH_SIZE];
        uint64_t stamp = 0;
        if (fm_repository_locate(uses.models, false, uses.names[i], used_place, sizeof(used_place),
                                 NULL) == 0 &&
            stamp_place(used_place, &used, NULL) == 0) {
            stamp = used.whole;
        }
        fm_watch_stamps_free(&used);
        ret_stamps->common = hash_number(ret_stamps->common, stamp);
        ret_stamps->whole = hash_number(ret_stamps->whole, stamp);
    }
    fm_watch_uses_free(&uses);
    if (status != 0) {
        fm_watch_stamps_free(ret_stamps);
    }
    return status;
}

void fm_watch_stamps_free(struct fm_watch_stamps *stamps)
{
    fm_free(stamps->versions);
    *stamps = (struct fm_watch_stamps){0};
}

uint64_t fm_watch_stamp_of(const struct fm_watch_stamps *stamps, uint64_t version)
{
    uint64_t hash = stamps->common;
    for (size_t i = 0; i < stamps->count; i++) {
        if (stamps->versions[i].version == version) {
            hash = hash_number(hash, stamps->versions[i].stamp);
        }
    }
    return hash;
}

/* --- Pipelines --- */

static bool is_yaml(const char *place)
{
    const char *extension = fm_path_extension(place);
    return strcmp(extension, ".yaml") == 0 || strcmp(extension, ".yml") == 0;
}

/* Where the pipeline of that name has its file; false when it is none. */
static bool pipeline_place(const struct fm_watch_root *root, const char *name, char *ret_place,
                           size_t size)
{
    struct fm_file_facts facts;
    char place[PATH_SIZE];
    if (fm_repository_locate(root->path, root->single, name, place, sizeof(place), NULL) != 0 ||
        fm_file_stat(place, &facts, NULL) != 0) {
        return false;
    }
    if (facts.kind != FM_FILE_DIRECTORY) {
        return is_yaml(place) && fm_path_join(ret_place, size, ".", place) == 0;
    }
    return fm_path_join(ret_place, size, place, "pipeline.yaml") == 0 &&
           fm_file_stat(ret_place, &facts, NULL) == 0 && facts.kind == FM_FILE_REGULAR;
}

static bool uses_has(const struct fm_watch_uses *uses, const char *name)
{
    for (size_t i = 0; i < uses->count; i++) {
        if (strcmp(uses->names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* The repository as servable.c finds it: the one the file names, else the directory above. */
static int uses_fill(const struct fm_pipeline_file *file, const char *place,
                     struct fm_watch_uses *uses, struct fm_error *reterr)
{
    char above[PATH_SIZE];
    if (fm_path_join(above, sizeof(above), file->directory, "..") != 0) {
        return 0;
    }
    uses->models = fm_strdup(file->models != NULL ? file->models : above);
    uses->names = fm_alloc_zero(file->spec.stage_count + 1, sizeof(*uses->names));
    if (uses->models == NULL || uses->names == NULL) {
        return out_of_memory(place, reterr);
    }
    for (size_t i = 0; i < file->spec.stage_count; i++) {
        const struct fm_stage_spec *stage = &file->spec.stages[i];
        if (stage->kind != FM_STAGE_MODEL || uses_has(uses, stage->target)) {
            continue;
        }
        uses->names[uses->count] = fm_strdup(stage->target);
        if (uses->names[uses->count] == NULL) {
            return out_of_memory(place, reterr);
        }
        uses->count++;
    }
    return 0;
}

int fm_watch_uses_read(const struct fm_watch_root *root, const char *name,
                       struct fm_watch_uses *ret_uses, struct fm_error *reterr)
{
    char place[PATH_SIZE];
    struct fm_pipeline_file *file = NULL;
    *ret_uses = (struct fm_watch_uses){0};
    if (!pipeline_place(root, name, place, sizeof(place)) ||
        fm_pipeline_file_load(place, &file, NULL) != 0) {
        return 0;
    }
    int status = uses_fill(file, place, ret_uses, reterr);
    fm_pipeline_file_free(file);
    if (status != 0) {
        fm_watch_uses_free(ret_uses);
    }
    return status;
}

void fm_watch_uses_free(struct fm_watch_uses *uses)
{
    for (size_t i = 0; i < uses->count; i++) {
        fm_free(uses->names[i]);
    }
    fm_free(uses->names);
    fm_free(uses->models);
    *uses = (struct fm_watch_uses){0};
}

/* --- All of them --- */

static int compare_found(const void *a, const void *b)
{
    const struct fm_watch_found *left = a;
    const struct fm_watch_found *right = b;
    int names = strcmp(left->name, right->name);
    return names != 0 ? names : (left->root > right->root) - (left->root < right->root);
}

/* What a root holds now. A single one keeps its name, whatever its configuration says meanwhile. */
static int root_list(const struct fm_watch_root *root, struct fm_repository_names *names,
                     struct fm_error *reterr)
{
    struct fm_file_facts facts;
    if (!root->single || root->name == NULL) {
        return fm_repository_list(root->path, names, reterr);
    }
    int status = fm_file_stat(root->path, &facts, reterr);
    if (status != 0 || facts.kind == FM_FILE_ABSENT) {
        return status;
    }
    names->names = fm_alloc_zero(1, sizeof(*names->names));
    if (names->names == NULL || (names->names[0] = fm_strdup(root->name)) == NULL) {
        return out_of_memory(root->path, reterr);
    }
    names->count = 1;
    return 0;
}

/* Takes over the names of one root. */
static int scan_add(struct fm_watch_scan *scan, uint32_t root, struct fm_repository_names *names,
                    struct fm_error *reterr)
{
    struct fm_watch_found *grown =
        fm_realloc(scan->found, (scan->count + names->count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return out_of_memory("the repositories", reterr);
    }
    scan->found = grown;
    for (size_t i = 0; i < names->count; i++) {
        scan->found[scan->count++] = (struct fm_watch_found){.name = names->names[i], .root = root};
        names->names[i] = NULL;
    }
    return 0;
}

static void scan_merge(struct fm_watch_scan *scan)
{
    size_t kept = 0;
    if (scan->count > 1) {
        qsort(scan->found, scan->count, sizeof(*scan->found), compare_found);
    }
    for (size_t i = 0; i < scan->count; i++) {
        if (kept > 0 && strcmp(scan->found[kept - 1].name, scan->found[i].name) == 0) {
            scan->found[kept - 1].twins++;
            fm_free(scan->found[i].name);
        } else {
            scan->found[kept++] = scan->found[i];
        }
    }
    scan->count = kept;
}

int fm_watch_scan_read(const struct fm_watch_root *roots, uint32_t root_count, bool stamps,
                       struct fm_watch_scan *ret_scan, struct fm_error *reterr)
{
    *ret_scan = (struct fm_watch_scan){
        .errors = fm_alloc_zero((size_t)root_count + 1, sizeof(*ret_scan->errors))};
    int status = ret_scan->errors != NULL ? 0 : out_of_memory("the repositories", reterr);
    for (uint32_t r = 0; status == 0 && r < root_count; r++) {
        struct fm_repository_names names = {0};
        struct fm_error *error = &ret_scan->errors[r];
        error->status = root_list(&roots[r], &names, error);
        status = error->status == 0 ? scan_add(ret_scan, r, &names, reterr) : 0;
        fm_repository_names_free(&names);
    }
    if (status != 0) {
        fm_watch_scan_free(ret_scan);
        return status;
    }
    scan_merge(ret_scan);
    for (size_t i = 0; stamps && i < ret_scan->count; i++) {
        struct fm_watch_stamps one = {0};
        struct fm_watch_found *found = &ret_scan->found[i];
        /* What goes while it is looked at counts as changed; the next look finds it gone. */
        found->stamp =
            fm_watch_stamps_read(&roots[found->root], found->name, &one, NULL) == 0 ? one.whole : 0;
        fm_watch_stamps_free(&one);
    }
    return 0;
}

void fm_watch_scan_free(struct fm_watch_scan *scan)
{
    for (size_t i = 0; i < scan->count; i++) {
        fm_free(scan->found[i].name);
    }
    fm_free(scan->found);
    fm_free(scan->errors);
    *scan = (struct fm_watch_scan){0};
}
