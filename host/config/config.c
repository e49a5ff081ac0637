/*
 * YAML into a tree of nodes with positions. See config.h.
 *
 * HOW IT WORKS. libyaml's event parser is pulled by a recursive descent whose depth is bounded.
 * Children of the collection being read are gathered on one growing stack and copied to the
 * document's arena when the collection ends. An anchor remembers its finished node; an alias is a
 * deep copy of it, so that every node has one parent and one set of "asked" marks, and so that
 * copies count against FM_CONFIG_NODES_MAX.
 */
#include "host/config/config.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "core/tensor/tensor.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/text.h"
#include "host/os/file.h"

enum { ANCHORS_MAX = 256, SHOWN_TEXT_MAX = 60, KNOWN_TEXT_SIZE = 300 };

struct fm_config_document {
    struct fm_arena arena;
    struct fm_config root;
};

/* A child on the loader's stack, before its collection is complete. */
struct pending {
    struct fm_config node;
    const char *key;
    uint32_t key_line;
    uint32_t key_column;
};

struct anchor {
    const char *name;
    struct fm_config node;
};

struct loader {
    yaml_parser_t parser;
    struct fm_config_document *document;
    const char *file;
    struct pending *stack;
    size_t stack_count;
    size_t stack_capacity;
    struct anchor anchors[ANCHORS_MAX];
    size_t anchor_count;
    size_t node_count;
    const char *text;
    size_t length;
    struct fm_error *reterr;
};

int fm_config_error(const struct fm_config *node, struct fm_error *reterr, const char *format, ...)
{
    char message[FM_ERROR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    return fm_error_set(reterr, FM_EINVAL, "%s:%u:%u: %s", node->file, node->line, node->column,
                        message);
}

static uint32_t position(size_t from_zero)
{
    return from_zero >= UINT32_MAX ? UINT32_MAX : (uint32_t)from_zero + 1;
}

static int error_at(const struct loader *loader, yaml_mark_t mark, const char *format, ...)
    FM_PRINTF(3, 4);

static int error_at(const struct loader *loader, yaml_mark_t mark, const char *format, ...)
{
    char message[FM_ERROR_TEXT_SIZE];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    return fm_error_set(loader->reterr, FM_EINVAL, "%s:%u:%u: %s", loader->file,
                        position(mark.line), position(mark.column), message);
}

static int out_of_memory(const struct loader *loader)
{
    return fm_error_set(loader->reterr, FM_ENOMEM, "%s: out of memory while reading the file",
                        loader->file);
}

/* The position of a byte offset, for what libyaml's reader refuses before it counts lines. */
static yaml_mark_t mark_of_offset(const struct loader *loader, size_t offset)
{
    yaml_mark_t mark = {.index = offset};
    for (size_t i = 0; i < offset && i < loader->length; i++) {
        if (loader->text[i] == '\n') {
            mark.line++;
            mark.column = 0;
        } else if (((unsigned char)loader->text[i] & 0xC0u) != 0x80u) {
            mark.column++;
        }
    }
    return mark;
}

static int parser_error(const struct loader *loader)
{
    const yaml_parser_t *parser = &loader->parser;
    const char *problem = parser->problem != NULL ? parser->problem : "malformed YAML";
    switch (parser->error) {
    case YAML_MEMORY_ERROR:
        return out_of_memory(loader);
    case YAML_READER_ERROR:
        return error_at(loader, mark_of_offset(loader, parser->problem_offset),
                        "not readable as YAML: %s", problem);
    case YAML_NO_ERROR:
    case YAML_SCANNER_ERROR:
    case YAML_PARSER_ERROR:
    case YAML_COMPOSER_ERROR:
    case YAML_WRITER_ERROR:
    case YAML_EMITTER_ERROR:
    default:
        break;
    }
    if (parser->context == NULL) {
        return error_at(loader, parser->problem_mark, "not readable as YAML: %s", problem);
    }
    return error_at(loader, parser->problem_mark,
                    "not readable as YAML: %s (%s that starts at line %u, column %u)", problem,
                    parser->context, position(parser->context_mark.line),
                    position(parser->context_mark.column));
}

static int next_event(struct loader *loader, yaml_event_t *ret_event)
{
    memset(ret_event, 0, sizeof(*ret_event));
    return yaml_parser_parse(&loader->parser, ret_event) == 1 ? 0 : parser_error(loader);
}

static int stack_push(struct loader *loader, const struct pending *pending)
{
    if (loader->stack_count == loader->stack_capacity) {
        size_t capacity = loader->stack_capacity == 0 ? 64 : loader->stack_capacity * 2;
        struct pending *grown = fm_realloc(loader->stack, capacity * sizeof(*grown));
        if (grown == NULL) {
            return out_of_memory(loader);
        }
        loader->stack = grown;
        loader->stack_capacity = capacity;
    }
    loader->stack[loader->stack_count++] = *pending;
    return 0;
}

static int compare_pending(const void *a, const void *b)
{
    const struct pending *const *left = a;
    const struct pending *const *right = b;
    int order = strcmp((*left)->key, (*right)->key);
    return order != 0 ? order : (*left > *right) - (*left < *right);
}

/* Of all keys that stand twice, reports the first repetition in the file. Sorted, because a hostile
 * mapping may be large. */
static int check_duplicates(const struct loader *loader, const struct pending *children,
                            size_t count)
{
    if (count < 2) {
        return 0;
    }
    const struct pending **sorted = fm_alloc(count * sizeof(*sorted));
    if (sorted == NULL) {
        return out_of_memory(loader);
    }
    for (size_t i = 0; i < count; i++) {
        sorted[i] = &children[i];
    }
    qsort(sorted, count, sizeof(*sorted), compare_pending);
    const struct pending *repeated = NULL;
    const struct pending *original = NULL;
    for (size_t i = 1; i < count; i++) {
        if (strcmp(sorted[i - 1]->key, sorted[i]->key) == 0 &&
            (repeated == NULL || sorted[i] < repeated)) {
            repeated = sorted[i];
            original = sorted[i - 1];
        }
    }
    fm_free(sorted);
    if (repeated == NULL) {
        return 0;
    }
    return fm_error_set(loader->reterr, FM_EINVAL,
                        "%s:%u:%u: key '%.*s' stands twice; the first one is at line %u",
                        loader->file, repeated->key_line, repeated->key_column, SHOWN_TEXT_MAX,
                        repeated->key, original->key_line);
}

static void *document_alloc(struct loader *loader, size_t count, size_t size)
{
    return fm_arena_alloc(&loader->document->arena, count * size);
}

/* Moves the children above `base` from the stack into `node`. */
static int collection_finish(struct loader *loader, struct fm_config *node, size_t base)
{
    size_t count = loader->stack_count - base;
    const struct pending *children = loader->stack + base;
    loader->stack_count = base;
    node->count = count;
    if (count == 0) {
        return 0;
    }
    node->children = document_alloc(loader, count, sizeof(*node->children));
    if (node->children == NULL) {
        return out_of_memory(loader);
    }
    for (size_t i = 0; i < count; i++) {
        node->children[i] = children[i].node;
    }
    if (node->kind != FM_CONFIG_MAPPING) {
        return 0;
    }
    node->keys = document_alloc(loader, count, sizeof(*node->keys));
    node->key_lines = document_alloc(loader, count, sizeof(*node->key_lines));
    node->key_columns = document_alloc(loader, count, sizeof(*node->key_columns));
    node->asked = document_alloc(loader, count, sizeof(*node->asked));
    if (node->keys == NULL || node->key_lines == NULL || node->key_columns == NULL ||
        node->asked == NULL) {
        return out_of_memory(loader);
    }
    for (size_t i = 0; i < count; i++) {
        node->keys[i] = children[i].key;
        node->key_lines[i] = children[i].key_line;
        node->key_columns[i] = children[i].key_column;
    }
    return check_duplicates(loader, children, count);
}

static int node_begin(struct loader *loader, const yaml_event_t *event, struct fm_config *ret_node)
{
    if (++loader->node_count > FM_CONFIG_NODES_MAX) {
        return error_at(loader, event->start_mark,
                        "more than %d values (aliases count with all they stand for)",
                        FM_CONFIG_NODES_MAX);
    }
    *ret_node = (struct fm_config){.file = loader->file,
                                   .line = position(event->start_mark.line),
                                   .column = position(event->start_mark.column),
                                   .document = loader->document};
    return 0;
}

/* A scalar's text in the arena. Refuses what C strings cannot hold. */
static int scalar_text(struct loader *loader, const yaml_event_t *event, const char **ret_text)
{
    const char *value = (const char *)event->data.scalar.value;
    size_t length = event->data.scalar.length;
    if (memchr(value, '\0', length) != NULL) {
        return error_at(loader, event->start_mark, "a text with a NUL character in it");
    }
    *ret_text = fm_arena_strndup(&loader->document->arena, value, length);
    return *ret_text != NULL ? 0 : out_of_memory(loader);
}

static bool is_null_text(const char *text)
{
    return text[0] == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0 ||
           strcmp(text, "Null") == 0 || strcmp(text, "NULL") == 0;
}

static int parse_scalar(struct loader *loader, const yaml_event_t *event, struct fm_config *node)
{
    int status = scalar_text(loader, event, &node->text);
    if (status != 0) {
        return status;
    }
    node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    node->kind = !node->quoted && is_null_text(node->text) ? FM_CONFIG_NULL : FM_CONFIG_SCALAR;
    return 0;
}

static int copy_children(struct loader *loader, const yaml_event_t *event,
                         const struct fm_config *source, struct fm_config *copy);

/* A copy of `source` with marks of its own. The depth is that of a finished node: bounded. */
static int copy_node(struct loader *loader, const yaml_event_t *event,
                     const struct fm_config *source, struct fm_config *copy)
{
    int status = node_begin(loader, event, copy);
    if (status != 0) {
        return status;
    }
    *copy = *source;
    return source->count == 0 ? 0 : copy_children(loader, event, source, copy);
}

static int copy_children(struct loader *loader, const yaml_event_t *event,
                         const struct fm_config *source, struct fm_config *copy)
{
    copy->children = document_alloc(loader, source->count, sizeof(*copy->children));
    if (copy->children == NULL) {
        return out_of_memory(loader);
    }
    if (source->kind == FM_CONFIG_MAPPING) {
        copy->asked = document_alloc(loader, source->count, sizeof(*copy->asked));
        if (copy->asked == NULL) {
            return out_of_memory(loader);
        }
    }
    for (size_t i = 0; i < source->count; i++) {
        int status = copy_node(loader, event, &source->children[i], &copy->children[i]);
        if (status != 0) {
            return status;
        }
    }
    return 0;
}

/* How many levels of collections a finished node has. */
static size_t node_depth(const struct fm_config *node)
{
    size_t deepest = 0;
    for (size_t i = 0; i < node->count; i++) {
        size_t depth = node_depth(&node->children[i]);
        deepest = depth > deepest ? depth : deepest;
    }
    return node->kind == FM_CONFIG_SEQUENCE || node->kind == FM_CONFIG_MAPPING ? deepest + 1 : 0;
}

static int parse_alias(struct loader *loader, const yaml_event_t *event, unsigned depth,
                       struct fm_config *node)
{
    const char *name = (const char *)event->data.alias.anchor;
    for (size_t i = loader->anchor_count; i > 0; i--) {
        const struct anchor *anchor = &loader->anchors[i - 1];
        if (strcmp(anchor->name, name) == 0) {
            if (depth + node_depth(&anchor->node) > FM_CONFIG_DEPTH_MAX) {
                return error_at(loader, event->start_mark, "nested deeper than %d levels",
                                FM_CONFIG_DEPTH_MAX);
            }
            return copy_node(loader, event, &anchor->node, node);
        }
    }
    return error_at(loader, event->start_mark, "alias '*%.*s' has no anchor '&%.*s' before it",
                    SHOWN_TEXT_MAX, name, SHOWN_TEXT_MAX, name);
}

static int anchor_add(struct loader *loader, const yaml_event_t *event, const char *name,
                      const struct fm_config *node)
{
    if (loader->anchor_count == ANCHORS_MAX) {
        return error_at(loader, event->start_mark, "more than %d anchors", ANCHORS_MAX);
    }
    loader->anchors[loader->anchor_count++] = (struct anchor){.name = name, .node = *node};
    return 0;
}

static int parse_node(struct loader *loader, const yaml_event_t *event, unsigned depth,
                      struct fm_config *node);

/* The key, whose event was read already, with its place. */
static int parse_key(struct loader *loader, const yaml_event_t *event, struct pending *child)
{
    if (event->type != YAML_SCALAR_EVENT) {
        return error_at(loader, event->start_mark,
                        "a key must be a text, not an alias, list or map");
    }
    int status = scalar_text(loader, event, &child->key);
    if (status != 0) {
        return status;
    }
    if (event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE && strcmp(child->key, "<<") == 0) {
        return error_at(loader, event->start_mark,
                        "merge keys ('<<') are not supported: write the keys out");
    }
    child->key_line = position(event->start_mark.line);
    child->key_column = position(event->start_mark.column);
    return 0;
}

static int parse_collection(struct loader *loader, const yaml_event_t *start, unsigned depth,
                            struct fm_config *node)
{
    bool mapping = start->type == YAML_MAPPING_START_EVENT;
    node->kind = mapping ? FM_CONFIG_MAPPING : FM_CONFIG_SEQUENCE;
    if (depth >= FM_CONFIG_DEPTH_MAX) {
        return error_at(loader, start->start_mark, "nested deeper than %d levels",
                        FM_CONFIG_DEPTH_MAX);
    }
    size_t base = loader->stack_count;
    for (;;) {
        yaml_event_t event;
        struct pending child = {0};
        int status = next_event(loader, &event);
        if (status != 0) {
            return status;
        }
        if (event.type == YAML_MAPPING_END_EVENT || event.type == YAML_SEQUENCE_END_EVENT) {
            yaml_event_delete(&event);
            return collection_finish(loader, node, base);
        }
        if (mapping) {
            status = parse_key(loader, &event, &child);
            yaml_event_delete(&event);
            if (status == 0) {
                status = next_event(loader, &event);
            }
            if (status != 0) {
                return status;
            }
        }
        status = parse_node(loader, &event, depth + 1, &child.node);
        yaml_event_delete(&event);
        if (status == 0) {
            status = stack_push(loader, &child);
        }
        if (status != 0) {
            return status;
        }
    }
}

/* The node that `event` begins; reads on to its end. The caller deletes the event. */
static int parse_node(struct loader *loader, const yaml_event_t *event, unsigned depth,
                      struct fm_config *node)
{
    if (event->type == YAML_ALIAS_EVENT) {
        return parse_alias(loader, event, depth, node);
    }
    const yaml_char_t *tag = NULL;
    const yaml_char_t *anchor = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        tag = event->data.scalar.tag;
        anchor = event->data.scalar.anchor;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        tag = event->data.mapping_start.tag;
        anchor = event->data.mapping_start.anchor;
    } else {
        tag = event->data.sequence_start.tag;
        anchor = event->data.sequence_start.anchor;
    }
    int status = node_begin(loader, event, node);
    if (status == 0 && tag != NULL) {
        status = error_at(loader, event->start_mark, "tags ('%.*s') are not supported",
                          SHOWN_TEXT_MAX, (const char *)tag);
    }
    const char *anchor_name = NULL;
    if (status == 0 && anchor != NULL) {
        anchor_name = fm_arena_strdup(&loader->document->arena, (const char *)anchor);
        status = anchor_name != NULL ? 0 : out_of_memory(loader);
    }
    if (status == 0) {
        status = event->type == YAML_SCALAR_EVENT ? parse_scalar(loader, event, node)
                                                  : parse_collection(loader, event, depth, node);
    }
    if (status == 0 && anchor_name != NULL) {
        status = anchor_add(loader, event, anchor_name, node);
    }
    return status;
}

static int parse_document(struct loader *loader)
{
    loader->document->root = (struct fm_config){.kind = FM_CONFIG_NULL,
                                                .file = loader->file,
                                                .line = 1,
                                                .column = 1,
                                                .document = loader->document};
    bool seen = false;
    for (;;) {
        yaml_event_t event;
        int status = next_event(loader, &event);
        if (status != 0) {
            return status;
        }
        bool end = event.type == YAML_STREAM_END_EVENT;
        if (event.type == YAML_DOCUMENT_START_EVENT && seen) {
            status = error_at(loader, event.start_mark,
                              "a second document begins here; one file holds one document");
        } else if (event.type == YAML_DOCUMENT_START_EVENT) {
            seen = true;
        } else if (!end && event.type != YAML_STREAM_START_EVENT &&
                   event.type != YAML_DOCUMENT_END_EVENT) {
            status = parse_node(loader, &event, 0, &loader->document->root);
        }
        yaml_event_delete(&event);
        if (status != 0 || end) {
            return status;
        }
    }
}

int fm_config_load_text(const char *file, const char *text, size_t length,
                        struct fm_config **ret_root, struct fm_error *reterr)
{
    *ret_root = NULL;
    if (length > FM_CONFIG_BYTES_MAX) {
        return fm_error_set(reterr, FM_ETOOLARGE,
                            "%s: %zu bytes, more than the %u that a configuration may have", file,
                            length, FM_CONFIG_BYTES_MAX);
    }
    struct loader *loader = fm_alloc_zero(1, sizeof(*loader));
    struct fm_config_document *document = fm_alloc_zero(1, sizeof(*document));
    int status = FM_ENOMEM;
    if (loader == NULL || document == NULL) {
        status = fm_error_set(reterr, FM_ENOMEM, "%s: out of memory while reading the file", file);
        goto out;
    }
    /* libyaml would take a byte order mark for a column of the first line. */
    static const char mark[] = "\xEF\xBB\xBF";
    if (length >= sizeof mark - 1 && memcmp(text, mark, sizeof mark - 1) == 0) {
        text += sizeof mark - 1;
        length -= sizeof mark - 1;
    }
    loader->document = document;
    loader->text = text;
    loader->length = length;
    loader->reterr = reterr;
    loader->file = file;
    const char *file_copy = fm_arena_strdup(&document->arena, file);
    if (file_copy == NULL || yaml_parser_initialize(&loader->parser) != 1) {
        status = out_of_memory(loader);
        goto out;
    }
    loader->file = file_copy;
    yaml_parser_set_encoding(&loader->parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&loader->parser, (const unsigned char *)text, length);
    status = parse_document(loader);
    yaml_parser_delete(&loader->parser);
    if (status == 0) {
        *ret_root = &document->root;
        document = NULL;
    }
out:
    if (document != NULL) {
        fm_arena_deinit(&document->arena);
        fm_free(document);
    }
    if (loader != NULL) {
        fm_free(loader->stack);
    }
    fm_free(loader);
    return status;
}

int fm_config_load(const char *path, struct fm_config **ret_root, struct fm_error *reterr)
{
    char *data = NULL;
    size_t size = 0;
    *ret_root = NULL;
    int status = fm_file_read(path, FM_CONFIG_BYTES_MAX, &data, &size, reterr);
    if (status == 0) {
        status = fm_config_load_text(path, data, size, ret_root, reterr);
    }
    fm_free(data);
    return status;
}

void fm_config_free(struct fm_config *root)
{
    if (root != NULL) {
        struct fm_config_document *document = root->document;
        fm_arena_deinit(&document->arena);
        fm_free(document);
    }
}

/* Remembers a key for suggestions. When memory is short, a suggestion is lost and nothing else. */
static void remember_asked(struct fm_config *mapping, const char *key)
{
    for (size_t i = 0; i < mapping->asked_count; i++) {
        if (strcmp(mapping->asked_keys[i], key) == 0) {
            return;
        }
    }
    struct fm_arena *arena = &mapping->document->arena;
    if (mapping->asked_count == mapping->asked_capacity) {
        size_t capacity = mapping->asked_capacity == 0 ? 16 : mapping->asked_capacity * 2;
        const char **grown = fm_arena_alloc(arena, capacity * sizeof(*grown));
        if (grown == NULL) {
            return;
        }
        if (mapping->asked_count > 0) {
            memcpy(grown, mapping->asked_keys, mapping->asked_count * sizeof(*grown));
        }
        mapping->asked_keys = grown;
        mapping->asked_capacity = capacity;
    }
    const char *copy = fm_arena_strdup(arena, key);
    if (copy != NULL) {
        mapping->asked_keys[mapping->asked_count++] = copy;
    }
}

struct fm_config *fm_config_get(struct fm_config *mapping, const char *key)
{
    if (mapping == NULL || mapping->kind != FM_CONFIG_MAPPING) {
        return NULL;
    }
    for (size_t i = 0; i < mapping->count; i++) {
        if (strcmp(mapping->keys[i], key) == 0) {
            mapping->asked[i] = true;
            return &mapping->children[i];
        }
    }
    remember_asked(mapping, key);
    return NULL;
}

static const char *const kind_names[] = {[FM_CONFIG_NULL] = "nothing",
                                         [FM_CONFIG_SCALAR] = "a single value",
                                         [FM_CONFIG_SEQUENCE] = "a list",
                                         [FM_CONFIG_MAPPING] = "a map"};

int fm_config_require(struct fm_config *mapping, const char *key, struct fm_config **ret_child,
                      struct fm_error *reterr)
{
    *ret_child = fm_config_get(mapping, key);
    if (*ret_child != NULL) {
        return 0;
    }
    if (mapping == NULL) {
        return fm_error_set(reterr, FM_EINVAL, "missing key '%s'", key);
    }
    if (mapping->kind != FM_CONFIG_MAPPING && mapping->kind != FM_CONFIG_NULL) {
        return fm_config_expect(mapping, FM_CONFIG_MAPPING, reterr);
    }
    /* A misspelt key is the likeliest reason: point at it rather than at the place where the right
     * one is missing. */
    for (size_t i = 0; i < mapping->count; i++) {
        if (!mapping->asked[i] && fm_text_suggest(mapping->keys[i], &key, 1) != NULL) {
            return fm_error_set(reterr, FM_EINVAL,
                                "%s:%u:%u: missing key '%s'; is '%.*s' a misspelling of it?",
                                mapping->file, mapping->key_lines[i], mapping->key_columns[i], key,
                                SHOWN_TEXT_MAX, mapping->keys[i]);
        }
    }
    return fm_config_error(mapping, reterr, "missing key '%s'", key);
}

bool fm_config_is_empty(const struct fm_config *node)
{
    return node->kind == FM_CONFIG_NULL ||
           (node->kind == FM_CONFIG_SCALAR && node->text[0] == '\0');
}

int fm_config_expect(const struct fm_config *node, enum fm_config_kind kind,
                     struct fm_error *reterr)
{
    if (node->kind == kind) {
        return 0;
    }
    if (node->kind == FM_CONFIG_SCALAR) {
        return fm_config_error(node, reterr, "%s is expected here, not '%.*s'", kind_names[kind],
                               SHOWN_TEXT_MAX, node->text);
    }
    return fm_config_error(node, reterr, "%s is expected here, not %s", kind_names[kind],
                           kind_names[node->kind]);
}

/* "; what may stand here, too: 'a', 'b' and 'c'", as far as there is room. */
static void keys_known(const struct fm_config *mapping, char *ret_words, size_t size)
{
    size_t used = 0;
    ret_words[0] = '\0';
    for (size_t i = 0; i < mapping->asked_count; i++) {
        const char *before = i == 0                         ? "; what may stand here, too: '"
                             : i + 1 < mapping->asked_count ? ", '"
                                                            : " and '";
        int length =
            snprintf(ret_words + used, size - used, "%s%s'", before, mapping->asked_keys[i]);
        if (length < 0 || (size_t)length >= size - used) {
            (void)snprintf(ret_words + used, size - used, ", ..."); /* or a part of that */
            return;
        }
        used += (size_t)length;
    }
}

int fm_config_finish(struct fm_config *mapping, struct fm_error *reterr)
{
    if (mapping == NULL || mapping->kind == FM_CONFIG_NULL) {
        return 0;
    }
    int status = fm_config_expect(mapping, FM_CONFIG_MAPPING, reterr);
    for (size_t i = 0; status == 0 && i < mapping->count; i++) {
        if (mapping->asked[i]) {
            continue;
        }
        const char *key = mapping->keys[i];
        const char *nearest = fm_text_suggest(key, mapping->asked_keys, mapping->asked_count);
        char words[KNOWN_TEXT_SIZE];
        if (nearest != NULL) {
            (void)snprintf(words, sizeof(words), "; did you mean '%s'?", nearest);
        } else {
            keys_known(mapping, words, sizeof(words));
        }
        status = fm_error_set(reterr, FM_EINVAL, "%s:%u:%u: unknown key '%.*s'%s", mapping->file,
                              mapping->key_lines[i], mapping->key_columns[i], SHOWN_TEXT_MAX, key,
                              words);
    }
    return status;
}

/* mapping[key] as a scalar; NULL where it is absent or null. */
static int get_scalar(struct fm_config *mapping, const char *key, const char *wanted,
                      struct fm_config **ret_node, struct fm_error *reterr)
{
    struct fm_config *node = fm_config_get(mapping, key);
    *ret_node = NULL;
    if (node == NULL || node->kind == FM_CONFIG_NULL) {
        return 0;
    }
    if (node->kind != FM_CONFIG_SCALAR) {
        return fm_config_error(node, reterr, "'%s' must be %s, not %s", key, wanted,
                               kind_names[node->kind]);
    }
    *ret_node = node;
    return 0;
}

static int wrong_value(const struct fm_config *node, const char *key, const char *wanted,
                       struct fm_error *reterr)
{
    if (node->text[0] == '\0') {
        return fm_config_error(node, reterr, "'%s' is empty: write %s after it", key, wanted);
    }
    return fm_config_error(node, reterr, "'%s' must be %s, not %s'%.*s'", key, wanted,
                           node->quoted ? "the text " : "", SHOWN_TEXT_MAX, node->text);
}

/* Of the right form, but beyond what can be held. */
static int too_large(const struct fm_config *node, const char *key, const char *limit,
                     struct fm_error *reterr)
{
    return fm_config_error(node, reterr, "'%s': '%.*s' is too %s", key, SHOWN_TEXT_MAX, node->text,
                           limit);
}

int fm_config_string(struct fm_config *mapping, const char *key, const char **value,
                     struct fm_error *reterr)
{
    struct fm_config *node = NULL;
    int status = get_scalar(mapping, key, "a text", &node, reterr);
    if (status == 0 && node != NULL) {
        *value = node->text;
    }
    return status;
}

int fm_config_int(struct fm_config *mapping, const char *key, int64_t min, int64_t max,
                  int64_t *value, struct fm_error *reterr)
{
    char wanted[100];
    if (min == INT64_MIN && max == INT64_MAX) {
        (void)snprintf(wanted, sizeof(wanted), "a whole number");
    } else if (max == INT64_MAX) {
        (void)snprintf(wanted, sizeof(wanted), "a whole number of at least %lld", (long long)min);
    } else {
        (void)snprintf(wanted, sizeof(wanted), "a whole number from %lld to %lld", (long long)min,
                       (long long)max);
    }
    struct fm_config *node = NULL;
    int64_t parsed = 0;
    int status = get_scalar(mapping, key, wanted, &node, reterr);
    if (status != 0 || node == NULL) {
        return status;
    }
    status = fm_parse_int64(node->text, &parsed);
    if (status == FM_ETOOLARGE && max == INT64_MAX && !node->quoted && node->text[0] != '-') {
        return too_large(node, key, "large: at most 9223372036854775807", reterr);
    }
    if (node->quoted || status != 0 || parsed < min || parsed > max) {
        return wrong_value(node, key, wanted, reterr);
    }
    *value = parsed;
    return 0;
}

int fm_config_double(struct fm_config *mapping, const char *key, double min, double max,
                     double *value, struct fm_error *reterr)
{
    char wanted[100];
    if (min < -1e300 && max > 1e300) {
        (void)snprintf(wanted, sizeof(wanted), "a number");
    } else if (max > 1e300) {
        (void)snprintf(wanted, sizeof(wanted), "a number of at least %g", min);
    } else {
        (void)snprintf(wanted, sizeof(wanted), "a number from %g to %g", min, max);
    }
    struct fm_config *node = NULL;
    double parsed = 0;
    int status = get_scalar(mapping, key, wanted, &node, reterr);
    if (status != 0 || node == NULL) {
        return status;
    }
    if (node->quoted || fm_parse_double(node->text, &parsed) != 0 || parsed < min || parsed > max) {
        return wrong_value(node, key, wanted, reterr);
    }
    *value = parsed;
    return 0;
}

int fm_config_bool(struct fm_config *mapping, const char *key, bool *value, struct fm_error *reterr)
{
    struct fm_config *node = NULL;
    bool parsed = false;
    int status = get_scalar(mapping, key, "true or false", &node, reterr);
    if (status != 0 || node == NULL) {
        return status;
    }
    if (node->quoted || fm_parse_bool(node->text, &parsed) != 0) {
        return wrong_value(node, key, "true or false", reterr);
    }
    *value = parsed;
    return 0;
}

int fm_config_duration_ns(struct fm_config *mapping, const char *key, uint64_t *value,
                          struct fm_error *reterr)
{
    static const char wanted[] = "a duration such as 250ms, 1.5s or 2m";
    struct fm_config *node = NULL;
    uint64_t parsed = 0;
    int status = get_scalar(mapping, key, wanted, &node, reterr);
    if (status != 0 || node == NULL) {
        return status;
    }
    status = fm_parse_duration_ns(node->text, &parsed);
    if (status == FM_ETOOLARGE) {
        return too_large(node, key, "long: at most 584 years", reterr);
    }
    if (status != 0) {
        return wrong_value(node, key, wanted, reterr);
    }
    *value = parsed;
    return 0;
}

int fm_config_bytes(struct fm_config *mapping, const char *key, uint64_t *value,
                    struct fm_error *reterr)
{
    static const char wanted[] = "a size such as 4096, 512k or 64MiB";
    struct fm_config *node = NULL;
    uint64_t parsed = 0;
    int status = get_scalar(mapping, key, wanted, &node, reterr);
    if (status != 0 || node == NULL) {
        return status;
    }
    status = fm_parse_bytes(node->text, &parsed);
    if (status == FM_ETOOLARGE) {
        return too_large(node, key, "large: less than 16 EiB", reterr);
    }
    if (status != 0) {
        return wrong_value(node, key, wanted, reterr);
    }
    *value = parsed;
    return 0;
}

int fm_config_enum(struct fm_config *mapping, const char *key, const char *const *names, int *value,
                   struct fm_error *reterr)
{
    struct fm_config *node = NULL;
    int status = get_scalar(mapping, key, "a word", &node, reterr);
    if (status != 0 || node == NULL) {
        return status;
    }
    size_t count = 0;
    char allowed[256] = "";
    size_t length = 0;
    for (; names[count] != NULL; count++) {
        if (strcmp(names[count], node->text) == 0) {
            *value = (int)count;
            return 0;
        }
        int written = snprintf(allowed + length, sizeof(allowed) - length, "%s%s",
                               count == 0 ? "" : ", ", names[count]);
        length = written < 0 || (size_t)written >= sizeof(allowed) - length
                     ? length
                     : length + (size_t)written;
    }
    if (node->text[0] == '\0') {
        return fm_config_error(node, reterr, "'%s' is empty: write one of %s after it", key,
                               allowed);
    }
    const char *nearest = fm_text_suggest(node->text, names, count);
    return fm_config_error(node, reterr, "'%s' must be one of %s, not '%.*s'%s%s%s", key, allowed,
                           SHOWN_TEXT_MAX, node->text, nearest != NULL ? "; did you mean '" : "",
                           nearest != NULL ? nearest : "", nearest != NULL ? "'?" : "");
}

int fm_config_dtype(struct fm_config *mapping, const char *key, uint32_t *value,
                    struct fm_error *reterr)
{
    static const char *const names[] = {
#define DTYPE_NAME(name, number, bits, oip, triton) oip,
        FM_DTYPE_TABLE(DTYPE_NAME)
#undef DTYPE_NAME
    };
    struct fm_config *node = NULL;
    int status = get_scalar(mapping, key, "a data type", &node, reterr);
    if (status != 0 || node == NULL) {
        return status;
    }
    uint32_t dtype = fm_dtype_parse(node->text, strlen(node->text));
    if (dtype == FM_DTYPE_INVALID && node->text[0] == '\0') {
        return wrong_value(node, key, "a data type (FP32, INT64, UINT8, BYTES, ...)", reterr);
    }
    if (dtype == FM_DTYPE_INVALID) {
        /* names[0] is INVALID itself. */
        const char *nearest = fm_text_suggest(node->text, names + 1, FM_COUNT_OF(names) - 1);
        return fm_config_error(
            node, reterr, "'%.*s' is no data type%s%s%s", SHOWN_TEXT_MAX, node->text,
            nearest != NULL ? "; did you mean '" : " (FP32, INT64, UINT8, BYTES, ...)",
            nearest != NULL ? nearest : "", nearest != NULL ? "'?" : "");
    }
    *value = dtype;
    return 0;
}

int fm_config_shape(struct fm_config *mapping, const char *key, int64_t *shape, int32_t *rank,
                    struct fm_error *reterr)
{
    struct fm_config *list = fm_config_get(mapping, key);
    if (list == NULL || list->kind == FM_CONFIG_NULL) {
        return 0;
    }
    int status = fm_config_expect(list, FM_CONFIG_SEQUENCE, reterr);
    if (status == 0 && list->count > FM_RANK_MAX) {
        status =
            fm_config_error(list, reterr, "a shape has at most %d dimensions, this one has %zu",
                            FM_RANK_MAX, list->count);
    }
    for (size_t i = 0; status == 0 && i < list->count; i++) {
        const struct fm_config *node = &list->children[i];
        if (node->kind != FM_CONFIG_SCALAR || node->quoted ||
            fm_parse_int64(node->text, &shape[i]) != 0 || shape[i] < -1 || shape[i] == 0) {
            status = fm_config_error(
                node, reterr,
                "a dimension must be a whole number of at least 1, or -1 where it varies");
        }
    }
    if (status == 0) {
        *rank = (int32_t)list->count;
    }
    return status;
}

static bool separator_free(const char *text, const char *separators)
{
    return text[strcspn(text, separators)] == '\0';
}

/* The elements of a list or map, as "a,b" or "k=a,l=b". */
static int join_elements(const struct fm_config *node, struct fm_text *text,
                         struct fm_error *reterr)
{
    for (size_t i = 0; i < node->count; i++) {
        const struct fm_config *element = &node->children[i];
        if (element->kind != FM_CONFIG_SCALAR) {
            return fm_config_error(element, reterr,
                                   "a list or map of settings holds single values only, not %s",
                                   kind_names[element->kind]);
        }
        if (!separator_free(element->text, ",")) {
            return fm_config_error(
                element, reterr, "an element of a list or map of settings cannot contain a comma");
        }
        if (i > 0) {
            fm_text_append_char(text, ',');
        }
        if (node->kind == FM_CONFIG_MAPPING) {
            if (!separator_free(node->keys[i], ",=")) {
                return fm_config_error(element, reterr,
                                       "a key of a map of settings cannot contain ',' or '='");
            }
            fm_text_append_format(text, "%s=", node->keys[i]);
        }
        fm_text_append_string(text, element->text);
    }
    return 0;
}

static int setting_text(const struct fm_config *node, struct fm_arena *arena, const char **ret_text,
                        struct fm_error *reterr)
{
    if (node->kind == FM_CONFIG_SCALAR) {
        *ret_text = fm_arena_strdup(arena, node->text);
    } else {
        struct fm_text text = {0};
        int status = join_elements(node, &text, reterr);
        if (status != 0) {
            fm_text_deinit(&text);
            return status;
        }
        *ret_text = text.failed
                        ? NULL
                        : fm_arena_strndup(arena, text.data != NULL ? text.data : "", text.length);
        fm_text_deinit(&text);
    }
    return *ret_text != NULL ? 0 : fm_error_set(reterr, FM_ENOMEM, "%s: out of memory", node->file);
}

int fm_config_settings(struct fm_config *mapping, struct fm_arena *arena,
                       struct fm_setting **ret_settings, size_t *ret_count, struct fm_error *reterr)
{
    *ret_settings = NULL;
    *ret_count = 0;
    if (mapping == NULL || mapping->kind == FM_CONFIG_NULL) {
        return 0;
    }
    int status = fm_config_expect(mapping, FM_CONFIG_MAPPING, reterr);
    if (status != 0) {
        return status;
    }
    struct fm_setting *settings = fm_arena_alloc(arena, mapping->count * sizeof(*settings));
    size_t count = 0;
    for (size_t i = 0; settings != NULL && i < mapping->count; i++) {
        mapping->asked[i] = true;
        if (mapping->children[i].kind == FM_CONFIG_NULL) {
            continue;
        }
        settings[count].key = fm_arena_strdup(arena, mapping->keys[i]);
        status = setting_text(&mapping->children[i], arena, &settings[count].value, reterr);
        if (status != 0) {
            return status;
        }
        if (settings[count].key == NULL) {
            return fm_error_set(reterr, FM_ENOMEM, "%s: out of memory", mapping->file);
        }
        count++;
    }
    if (settings == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "%s: out of memory", mapping->file);
    }
    *ret_settings = settings;
    *ret_count = count;
    return 0;
}
