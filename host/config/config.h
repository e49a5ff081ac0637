/*
 * Configuration files: YAML (and JSON, its subset) read into a tree whose every node knows its line
 * and column, and checked reading of that tree.
 *
 * Owns: the only contact with libyaml; messages of the form "job.yaml:12:5: unknown key 'souce';
 * did you mean 'source'?". Does not own: what the keys mean. Limits: file size, nesting, node
 * count, aliases are refused beyond FM_CONFIG_*_MAX. Thread rule: a tree is read-only after
 * loading.
 *
 * Checked reading: a reader function asks for the keys it knows; fm_config_finish() then reports
 * the first key nobody asked for, with a suggestion among those that were asked for. Scalars are
 * plain text until asked for with a type.
 */
#ifndef FM_HOST_CONFIG_CONFIG_H
#define FM_HOST_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/util/memory.h"
#include "fermata/status.h"
#include "fermata/tensor.h"

#define FM_CONFIG_BYTES_MAX (4u << 20)
#define FM_CONFIG_DEPTH_MAX 32
#define FM_CONFIG_NODES_MAX 100000

enum fm_config_kind { FM_CONFIG_NULL, FM_CONFIG_SCALAR, FM_CONFIG_SEQUENCE, FM_CONFIG_MAPPING };

/* One node. Public for reading; made by the loader only. */
struct fm_config {
    enum fm_config_kind kind;
    const char *file; /* as given to the loader */
    uint32_t line;    /* from 1 */
    uint32_t column;  /* from 1 */
    bool quoted;      /* a scalar that was in quotes */
    const char *text; /* scalar */
    size_t count;     /* children */
    struct fm_config *children;
    const char **keys;   /* mapping: children[i]'s key */
    uint32_t *key_lines; /* where the key stands */
    uint32_t *key_columns;
    bool *asked;             /* mapping: someone read children[i] */
    const char **asked_keys; /* every key that was asked for (for suggestions); may repeat */
    size_t asked_count;
    size_t asked_capacity;
    struct fm_config_document *document;
};

/* Reads a file, or (load_text) a text whose name for messages is `file`. *ret_root lives until
 * fm_config_free(root). */
int FM_NODISCARD fm_config_load(const char *path, struct fm_config **ret_root,
                                struct fm_error *reterr);
int FM_NODISCARD fm_config_load_text(const char *file, const char *text, size_t length,
                                     struct fm_config **ret_root, struct fm_error *reterr);
void fm_config_free(struct fm_config *root); /* accepts NULL */

/* Sets "file:line:column: <message>" with status FM_EINVAL and returns FM_EINVAL. */
int fm_config_error(const struct fm_config *node, struct fm_error *reterr, const char *format, ...)
    FM_PRINTF(3, 4);

/* The child, or NULL when absent. Marks it as asked for. `mapping` may be NULL or a null node:
 * everything is absent then. */
struct fm_config *fm_config_get(struct fm_config *mapping, const char *key);
/* As get, but absence is an error "missing key 'x'". */
int FM_NODISCARD fm_config_require(struct fm_config *mapping, const char *key,
                                   struct fm_config **ret_child, struct fm_error *reterr);
/* FM_EINVAL when the mapping has a key nobody asked for (or is not a mapping). */
int FM_NODISCARD fm_config_finish(struct fm_config *mapping, struct fm_error *reterr);
/* True for nothing, null, ~ and '': what somebody leaves behind a key who means to fill it later.
 */
bool fm_config_is_empty(const struct fm_config *node);
int FM_NODISCARD fm_config_expect(const struct fm_config *node, enum fm_config_kind kind,
                                  struct fm_error *reterr);

/*
 * Typed reading of mapping[key]: absent (or null) leaves *value as it is and returns 0; a wrong
 * type or a value outside [min, max] is an error that says what was found and what is allowed.
 * Strings are borrowed from the tree.
 */
int FM_NODISCARD fm_config_string(struct fm_config *mapping, const char *key, const char **value,
                                  struct fm_error *reterr);
int FM_NODISCARD fm_config_int(struct fm_config *mapping, const char *key, int64_t min, int64_t max,
                               int64_t *value, struct fm_error *reterr);
int FM_NODISCARD fm_config_double(struct fm_config *mapping, const char *key, double min,
                                  double max, double *value, struct fm_error *reterr);
int FM_NODISCARD fm_config_bool(struct fm_config *mapping, const char *key, bool *value,
                                struct fm_error *reterr);
int FM_NODISCARD fm_config_duration_ns(struct fm_config *mapping, const char *key, uint64_t *value,
                                       struct fm_error *reterr);
int FM_NODISCARD fm_config_bytes(struct fm_config *mapping, const char *key, uint64_t *value,
                                 struct fm_error *reterr);
/* One of `names` (NULL-terminated); *value is its index. A misspelt one gets a suggestion. */
int FM_NODISCARD fm_config_enum(struct fm_config *mapping, const char *key,
                                const char *const *names, int *value, struct fm_error *reterr);

/* A data type by either of its names; a misspelt one gets a suggestion. */
int FM_NODISCARD fm_config_dtype(struct fm_config *mapping, const char *key, uint32_t *value,
                                 struct fm_error *reterr);
/* A list of dimensions, each at least 1, or -1 where it varies. shape has room for FM_RANK_MAX. */
int FM_NODISCARD fm_config_shape(struct fm_config *mapping, const char *key, int64_t *shape,
                                 int32_t *rank, struct fm_error *reterr);
/*
 * A mapping whose keys are not ours to know (operator parameters, backend settings) as text, copied
 * into `arena`: scalars as they stand, a list of scalars joined by commas ("1,2,3"), a map of
 * scalars as "key=value" joined by commas. A null leaves its key out. Deeper nesting, and commas
 * inside elements of lists and maps, are errors. All keys count as asked for. `mapping` may be NULL
 * or a null node: no settings.
 */
int FM_NODISCARD fm_config_settings(struct fm_config *mapping, struct fm_arena *arena,
                                    struct fm_setting **ret_settings, size_t *ret_count,
                                    struct fm_error *reterr);

#endif
