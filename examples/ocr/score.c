/*
 * score: how well the job read the pages, against the text layer of the documents.
 *
 *   score [--json] [--kind KIND] [--max-cer RATE] [--worst N] PAGES OUTPUT...
 *
 * PAGES is the folder that fetch-pages made (pages.tsv and the truth beside each page); OUTPUT the
 * job's JSON lines, one page each, with "id" and "text". The character error rate (CER) of a page
 * is the Levenshtein distance between truth and text over the length of the truth; a document's or
 * a kind's is the mean over its pages.
 *
 * What is compared. Both sides are folded alike: full-width forms, curly quotes, dashes and
 * ligatures become ASCII; a run of three or more dots (the leaders of a table of contents, whose
 * number nobody reads) counts as one dot. CER leaves white space out; CER with spaces takes every
 * run of white space as one space.
 *
 * How lines are ordered. Truth is what `pdftotext -layout` gives, line by line across the page, and
 * for two-column pages `pdftotext -raw`, the order in which the file draws its text, which is
 * column by column for typeset documents. (pdftotext's default mode joins hyphenated words and
 * mixes figures into columns, and -layout reads across columns.) So a page whose lines come in a
 * wrong order is punished in full.
 *
 * Owns: all of this program. Thread rule: one thread.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/proto/json.h"
#include "core/util/text.h"

#define FILE_BYTES_MAX ((size_t)1 << 30)
#define PAGES_MAX      100000
#define GROUPS_MAX     1000
#define NAME_SIZE      128
/* Longer texts are no pages; the distance needs memory in proportion. */
#define PAGE_CHARACTERS_MAX 200000

enum exit_code { EXIT_GOOD = 0, EXIT_TOO_BAD = 1, EXIT_TROUBLE = 2 };

struct page {
    char id[NAME_SIZE];
    char document[NAME_SIZE];
    char kind[NAME_SIZE];
    bool read;
    double cer;
    double cer_spaces;
    size_t characters; /* of the truth, white space left out */
    size_t edits;
};

struct group {
    const char *name;
    size_t pages;
    size_t missing;
    double cer_sum;
    double cer_spaces_sum;
    size_t characters;
    size_t edits;
};

struct options {
    bool json;
    const char *kind;
    double cer_max; /* negative: no check */
    size_t worst;
    const char *folder;
    char **outputs;
    int output_count;
};

/* Unicode characters. */
struct letters {
    uint32_t *items;
    size_t count;
};

static void stop(const char *what, const char *name, const char *why)
{
    fprintf(stderr, "score: %s %s: %s\n", what, name, why);
    exit(EXIT_TROUBLE);
}

static void *memory_check(void *memory)
{
    if (memory == NULL) {
        stop("cannot go on with", "this page", "out of memory");
    }
    return memory;
}

static char *file_read(const char *path, size_t *ret_length)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        stop("cannot open", path, strerror(errno));
        return NULL;
    }
    struct fm_text text = {0};
    char block[65536];
    size_t length;
    while ((length = fread(block, 1, sizeof(block), file)) > 0 && text.length < FILE_BYTES_MAX) {
        fm_text_append(&text, block, length);
    }
    if (ferror(file)) {
        stop("cannot read", path, strerror(errno));
    }
    fclose(file);
    if (text.length >= FILE_BYTES_MAX) {
        stop("cannot read", path, "it is larger than 1 GiB");
    }
    fm_text_append_char(&text, '\0');
    *ret_length = text.failed ? 0 : text.length - 1;
    return memory_check(text.failed ? NULL : text.data);
}

/* --- Folding --- */

struct fold {
    uint32_t from;
    const char *to;
};

/* Each byte of `to` is one character of Latin-1. */
static const struct fold folds[] = {
    {0x00a0, " "},    {0x00ad, "-"},    {0x00b4, "'"},    {0x2010, "-"},   {0x2011, "-"},
    {0x2012, "-"},    {0x2013, "-"},    {0x2014, "-"},    {0x2015, "-"},   {0x2018, "'"},
    {0x2019, "'"},    {0x201a, "'"},    {0x201c, "\""},   {0x201d, "\""},  {0x201e, "\""},
    {0x2022, "\xb7"}, {0x2026, "..."},  {0x2027, "\xb7"}, {0x2032, "'"},   {0x2033, "\""},
    {0x2212, "-"},    {0x2219, "\xb7"}, {0x3000, " "},    {0x3001, ","},   {0x3002, "."},
    {0x3008, "<"},    {0x3009, ">"},    {0x300a, "<"},    {0x300b, ">"},   {0x300c, "\""},
    {0x300d, "\""},   {0x300e, "\""},   {0x300f, "\""},   {0x3010, "["},   {0x3011, "]"},
    {0xfb00, "ff"},   {0xfb01, "fi"},   {0xfb02, "fl"},   {0xfb03, "ffi"}, {0xfb04, "ffl"},
    {0xffe5, "\xa5"},
};

static bool is_space(uint32_t letter)
{
    return letter == ' ' || (letter >= '\t' && letter <= '\r') || letter == 0x85 ||
           (letter >= 0x2000 && letter <= 0x200b) || letter == 0x2028 || letter == 0x2029;
}

static uint32_t utf8_next(const char *text, size_t length, size_t *offset)
{
    size_t size = fm_utf8_sequence(text + *offset, length - *offset);
    const unsigned char *bytes = (const unsigned char *)text + *offset;
    *offset += size > 0 ? size : 1;
    switch (size) {
    case 1:
        return bytes[0];
    case 2:
        return (uint32_t)(bytes[0] & 0x1f) << 6 | (bytes[1] & 0x3f);
    case 3:
        return (uint32_t)(bytes[0] & 0x0f) << 12 | (uint32_t)(bytes[1] & 0x3f) << 6 |
               (bytes[2] & 0x3f);
    case 4:
        return (uint32_t)(bytes[0] & 0x07) << 18 | (uint32_t)(bytes[1] & 0x3f) << 12 |
               (uint32_t)(bytes[2] & 0x3f) << 6 | (bytes[3] & 0x3f);
    default:
        return 0xfffd;
    }
}

/* Appends one letter; white space only once in a row and not at the beginning. */
static void letters_push(struct letters *letters, uint32_t letter)
{
    if (is_space(letter)) {
        if (letters->count == 0 || letters->items[letters->count - 1] == ' ') {
            return;
        }
        letter = ' ';
    }
    letters->items[letters->count++] = letter;
}

/* Decodes and folds. A run of dots, spaces between them or not, shrinks to its first one when the
 * third is there. */
static struct letters letters_make(const char *text, size_t length)
{
    struct letters letters = {memory_check(malloc((3 * length + 1) * sizeof(uint32_t))), 0};
    size_t dots = 0;
    size_t run_start = 0;
    for (size_t offset = 0; offset < length;) {
        uint32_t letter = utf8_next(text, length, &offset);
        char single[2] = {0};
        const char *to = single;
        if (letter >= 0xff01 && letter <= 0xff5e) {
            letter -= 0xfee0;
        }
        for (size_t i = 0; i < sizeof(folds) / sizeof(folds[0]); i++) {
            if (folds[i].from == letter) {
                to = folds[i].to;
            }
        }
        size_t count = to == single ? 1 : strlen(to);
        for (size_t i = 0; i < count; i++) {
            uint32_t folded = to == single ? letter : (unsigned char)to[i];
            letters_push(&letters, folded);
            if (folded == '.') {
                run_start = dots == 0 ? letters.count : run_start;
                dots++;
                letters.count = dots >= 3 ? run_start : letters.count;
            } else if (!is_space(folded)) {
                dots = 0;
            }
        }
    }
    if (letters.count > 0 && letters.items[letters.count - 1] == ' ') {
        letters.count--;
    }
    return letters;
}

static struct letters letters_without_spaces(const struct letters *letters)
{
    struct letters solid = {memory_check(malloc((letters->count + 1) * sizeof(uint32_t))), 0};
    for (size_t i = 0; i < letters->count; i++) {
        if (letters->items[i] != ' ') {
            solid.items[solid.count++] = letters->items[i];
        }
    }
    return solid;
}

/* --- Distance --- */

/*
 * Levenshtein distance when it is at most `limit`, else something larger. HOW IT WORKS. Ukkonen's
 * band: a path that costs at most `limit` never strays further than that from the diagonal, so that
 * only 2 * limit + 1 cells of a row need be looked at.
 */
static size_t distance_within(const struct letters *a, const struct letters *b, size_t limit,
                              size_t *row)
{
    const size_t far = a->count + b->count + 1;
    for (size_t j = 0; j <= b->count; j++) {
        row[j] = j <= limit ? j : far;
    }
    for (size_t i = 1; i <= a->count; i++) {
        size_t begin = i > limit ? i - limit : 1;
        size_t end = i + limit < b->count ? i + limit : b->count;
        size_t diagonal = row[begin - 1];
        /* The cell left of the band: reachable only as a column of deletions. */
        row[begin - 1] = begin == 1 && i <= limit ? i : far;
        for (size_t j = begin; j <= end; j++) {
            size_t above = j == i + limit ? far : row[j];
            size_t best = diagonal + (a->items[i - 1] != b->items[j - 1]);
            best = above + 1 < best ? above + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[b->count];
}

static size_t distance(const struct letters *a, const struct letters *b)
{
    size_t *row = memory_check(malloc((b->count + 1) * sizeof(*row)));
    size_t longest = a->count > b->count ? a->count : b->count;
    size_t difference = longest - (a->count < b->count ? a->count : b->count);
    size_t limit = difference > 32 ? difference : 32;
    size_t found;
    while ((found = distance_within(a, b, limit, row)) > limit && limit < longest) {
        limit *= 2;
    }
    free(row);
    return found;
}

static double rate(size_t edits, size_t length)
{
    return (double)edits / (double)(length > 0 ? length : 1);
}

/* --- Pages --- */

static void page_score(struct page *page, const char *folder, const char *text, size_t length)
{
    char path[4096];
    size_t stem = strlen(page->id) > 4 ? strlen(page->id) - 4 : 0;
    (void)snprintf(path, sizeof(path), "%s/%.*s.txt", folder, (int)stem, page->id);
    size_t truth_length = 0;
    char *truth_text = file_read(path, &truth_length);
    struct letters truth = letters_make(truth_text, truth_length);
    struct letters given = letters_make(text, length);
    if (truth.count > PAGE_CHARACTERS_MAX || given.count > PAGE_CHARACTERS_MAX) {
        stop("cannot score", page->id, "the page has more than 200000 characters");
    }
    struct letters truth_solid = letters_without_spaces(&truth);
    struct letters given_solid = letters_without_spaces(&given);
    page->edits = distance(&given_solid, &truth_solid);
    page->characters = truth_solid.count;
    page->cer = rate(page->edits, truth_solid.count);
    page->cer_spaces = rate(distance(&given, &truth), truth.count);
    page->read = true;
    free(truth_text);
    free(truth.items);
    free(given.items);
    free(truth_solid.items);
    free(given_solid.items);
}

static size_t pages_load(const char *folder, struct page **ret_pages)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/pages.tsv", folder);
    size_t length = 0;
    char *text = file_read(path, &length);
    struct page *pages = NULL;
    size_t count = 0;
    for (char *line = text, *end = NULL; *line != '\0'; line = end) {
        end = line + strcspn(line, "\n");
        if (*end != '\0') {
            *end++ = '\0';
        }
        pages = memory_check(realloc(pages, (count + 1) * sizeof(*pages)));
        memset(&pages[count], 0, sizeof(pages[count]));
        if (count == PAGES_MAX || sscanf(line, "%127[^\t]\t%127[^\t]\t%127s", pages[count].id,
                                         pages[count].document, pages[count].kind) != 3) {
            stop("cannot use", path, "a line must be: id, tab, document, tab, kind");
        }
        count++;
    }
    free(text);
    if (count == 0) {
        stop("cannot use", path, "it names no pages: run fetch-pages again");
    }
    *ret_pages = pages;
    return count;
}

static struct page *page_find(struct page *pages, size_t count, const char *id)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(pages[i].id, id) == 0) {
            return &pages[i];
        }
    }
    return NULL;
}

/* Reads the strings "id" and "text" of one line's object. */
static bool record_read(const char *line, size_t length, struct fm_text *id, struct fm_text *text)
{
    struct fm_json_reader reader;
    fm_json_reader_init(&reader, line, length);
    bool has_id = false;
    bool has_text = false;
    enum fm_json_token token = fm_json_next(&reader);
    while (token == FM_JSON_OBJECT_BEGIN || token == FM_JSON_KEY) {
        token = fm_json_next(&reader);
        if (token != FM_JSON_KEY) {
            break;
        }
        bool is_id = fm_json_equals(&reader, "id");
        bool is_text = fm_json_equals(&reader, "text");
        if (!is_id && !is_text) {
            if (fm_json_skip(&reader) < 0) {
                return false;
            }
            continue;
        }
        if (fm_json_next(&reader) != FM_JSON_STRING) {
            return false;
        }
        fm_json_decode(&reader, is_id ? id : text);
        has_id = has_id || is_id;
        has_text = has_text || is_text;
        token = FM_JSON_KEY;
    }
    return token == FM_JSON_OBJECT_END && has_id && has_text && !id->failed && !text->failed;
}

static void output_score(const char *path, const char *folder, struct page *pages, size_t count)
{
    size_t length = 0;
    char *data = file_read(path, &length);
    size_t line_number = 0;
    for (char *line = data; line < data + length; line_number++) {
        char *end = memchr(line, '\n', (size_t)(data + length - line));
        end = end == NULL ? data + length : end;
        struct fm_text id = {0};
        struct fm_text text = {0};
        if (end > line) {
            if (!record_read(line, (size_t)(end - line), &id, &text)) {
                fprintf(stderr,
                        "score: %s, line %zu: not an object with the strings \"id\" and \"text\"\n",
                        path, line_number + 1);
                exit(EXIT_TROUBLE);
            }
            struct page *page = page_find(pages, count, id.data);
            if (page == NULL) {
                stop("cannot score page", id.data, "pages.tsv does not name it");
            } else if (page->read) {
                stop("cannot score page", id.data, "the output has it twice");
            } else {
                page_score(page, folder, text.length > 0 ? text.data : "", text.length);
            }
        }
        fm_text_deinit(&id);
        fm_text_deinit(&text);
        line = end + 1;
    }
    free(data);
}

/* --- Report --- */

static void group_add(struct group *groups, size_t *count, const char *name,
                      const struct page *page)
{
    size_t i = 0;
    while (i < *count && strcmp(groups[i].name, name) != 0) {
        i++;
    }
    if (i == *count) {
        if (i == GROUPS_MAX) {
            stop("cannot group by", name, "too many groups");
        }
        groups[i] = (struct group){.name = name};
        (*count)++;
    }
    if (!page->read) {
        groups[i].missing++;
        return;
    }
    groups[i].pages++;
    groups[i].cer_sum += page->cer;
    groups[i].cer_spaces_sum += page->cer_spaces;
    groups[i].characters += page->characters;
    groups[i].edits += page->edits;
}

static double mean(double sum, size_t count)
{
    return count > 0 ? sum / (double)count : 0;
}

static void groups_print(const char *title, const struct group *groups, size_t count)
{
    printf("%-18s %6s %8s %12s %10s %10s\n", title, "pages", "CER", "with spaces", "characters",
           "not read");
    for (size_t i = 0; i < count; i++) {
        if (groups[i].pages == 0) {
            printf("%-18s %6d %8s %12s %10s %10zu\n", groups[i].name, 0, "-", "-", "-",
                   groups[i].missing);
            continue;
        }
        printf("%-18s %6zu %7.2f%% %11.2f%% %10zu %10zu\n", groups[i].name, groups[i].pages,
               100 * mean(groups[i].cer_sum, groups[i].pages),
               100 * mean(groups[i].cer_spaces_sum, groups[i].pages), groups[i].characters,
               groups[i].missing);
    }
    printf("\n");
}

static void groups_write(struct fm_json_writer *json, const char *key, const struct group *groups,
                         size_t count)
{
    fm_json_key(json, key);
    fm_json_object_begin(json);
    for (size_t i = 0; i < count; i++) {
        fm_json_key(json, groups[i].name);
        fm_json_object_begin(json);
        fm_json_key(json, "pages");
        fm_json_uint(json, groups[i].pages);
        fm_json_key(json, "not_read");
        fm_json_uint(json, groups[i].missing);
        fm_json_key(json, "cer");
        fm_json_number(json, mean(groups[i].cer_sum, groups[i].pages));
        fm_json_key(json, "cer_with_spaces");
        fm_json_number(json, mean(groups[i].cer_spaces_sum, groups[i].pages));
        fm_json_key(json, "characters");
        fm_json_uint(json, groups[i].characters);
        fm_json_key(json, "edits");
        fm_json_uint(json, groups[i].edits);
        fm_json_object_end(json);
    }
    fm_json_object_end(json);
}

static int page_compare(const void *a, const void *b)
{
    const struct page *left = a;
    const struct page *right = b;
    if (left->cer != right->cer) {
        return left->cer > right->cer ? -1 : 1;
    }
    return strcmp(left->id, right->id);
}

static void worst_write(struct fm_json_writer *json, const struct page *pages, size_t count)
{
    fm_json_key(json, "worst");
    fm_json_array_begin(json);
    for (size_t i = 0; i < count; i++) {
        fm_json_object_begin(json);
        fm_json_key(json, "id");
        fm_json_string(json, pages[i].id);
        fm_json_key(json, "kind");
        fm_json_string(json, pages[i].kind);
        fm_json_key(json, "cer");
        fm_json_number(json, pages[i].cer);
        fm_json_key(json, "cer_with_spaces");
        fm_json_number(json, pages[i].cer_spaces);
        fm_json_object_end(json);
    }
    fm_json_array_end(json);
}

/* Prints everything; returns the exit code. */
static int report(const struct options *options, struct page *pages, size_t count)
{
    static struct group documents[GROUPS_MAX];
    static struct group kinds[GROUPS_MAX];
    size_t document_count = 0;
    size_t kind_count = 0;
    struct group checked = {0};
    size_t checked_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (options->kind == NULL || strcmp(options->kind, pages[i].kind) == 0) {
            group_add(documents, &document_count, pages[i].document, &pages[i]);
            group_add(&checked, &checked_count, "", &pages[i]);
        }
        group_add(kinds, &kind_count, pages[i].kind, &pages[i]);
    }
    double cer = mean(checked.cer_sum, checked.pages);
    bool good = options->cer_max < 0 ||
                (checked.pages > 0 && checked.missing == 0 && cer <= options->cer_max);
    struct page *worst = memory_check(malloc(count * sizeof(*worst)));
    size_t worst_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (pages[i].read && (options->kind == NULL || strcmp(options->kind, pages[i].kind) == 0)) {
            worst[worst_count++] = pages[i];
        }
    }
    qsort(worst, worst_count, sizeof(*worst), page_compare);
    worst_count = worst_count < options->worst ? worst_count : options->worst;
    if (options->json) {
        struct fm_text text = {0};
        struct fm_json_writer json;
        fm_json_writer_init(&json, &text);
        fm_json_object_begin(&json);
        groups_write(&json, "documents", documents, document_count);
        groups_write(&json, "kinds", kinds, kind_count);
        worst_write(&json, worst, worst_count);
        fm_json_key(&json, "good");
        fm_json_bool(&json, good);
        fm_json_object_end(&json);
        printf("%s\n", (const char *)memory_check(text.failed ? NULL : text.data));
        fm_text_deinit(&text);
    } else {
        groups_print(options->kind == NULL ? "document" : options->kind, documents, document_count);
        groups_print("kind", kinds, kind_count);
        for (size_t i = 0; i < worst_count; i++) {
            printf("%s %-30s %-11s %6.2f%% %6.2f%% with spaces\n", i == 0 ? "worst" : "     ",
                   worst[i].id, worst[i].kind, 100 * worst[i].cer, 100 * worst[i].cer_spaces);
        }
        if (options->cer_max >= 0) {
            printf("\nmean CER %.2f%% of %zu pages, %zu not read; at most %.2f%% wanted: %s\n",
                   100 * cer, checked.pages, checked.missing, 100 * options->cer_max,
                   good ? "good" : "TOO BAD");
        }
    }
    free(worst);
    return good ? EXIT_GOOD : EXIT_TOO_BAD;
}

static void usage(FILE *file)
{
    fputs("usage: score [--json] [--kind KIND] [--max-cer RATE] [--worst N] PAGES OUTPUT...\n"
          "  PAGES         the folder that fetch-pages made\n"
          "  OUTPUT        the job's JSON lines: one object a page, with \"id\" and \"text\"\n"
          "  --kind KIND   documents, worst pages and the check: only prose, table, code or "
          "two-column pages\n"
          "  --max-cer R   exit with 1 when the mean character error rate is above R (0.03 = 3%)\n"
          "                or a page was not read\n"
          "  --worst N     how many of the worst pages to list (5)\n"
          "  --json        for machines\n",
          file);
}

static double number_option(const char *name, const char *text)
{
    double value = 0;
    if (text == NULL || fm_parse_double(text, &value) < 0 || value < 0) {
        stop("cannot use option", name, "it needs a number, 0 or more");
    }
    return value;
}

static bool options_parse(int argc, char **argv, struct options *options)
{
    *options = (struct options){.cer_max = -1, .worst = 5};
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--json") == 0) {
            options->json = true;
        } else if (strcmp(argv[i], "--kind") == 0 && value != NULL) {
            options->kind = argv[++i];
        } else if (strcmp(argv[i], "--max-cer") == 0) {
            options->cer_max = number_option(argv[i++], value);
        } else if (strcmp(argv[i], "--worst") == 0) {
            options->worst = (size_t)number_option(argv[i++], value);
        } else {
            return false;
        }
    }
    if (argc - i < 2) {
        return false;
    }
    options->folder = argv[i];
    options->outputs = argv + i + 1;
    options->output_count = argc - i - 1;
    return true;
}

int main(int argc, char **argv)
{
    struct options options;
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        usage(stdout);
        return EXIT_GOOD;
    }
    if (!options_parse(argc, argv, &options)) {
        usage(stderr);
        return EXIT_TROUBLE;
    }
    struct page *pages = NULL;
    size_t count = pages_load(options.folder, &pages);
    for (int i = 0; i < options.output_count; i++) {
        output_score(options.outputs[i], options.folder, pages, count);
    }
    int code = report(&options, pages, count);
    free(pages);
    return code;
}
