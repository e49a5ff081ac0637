/*
 * Fuzzes what `fermata job` reads of a job's directory, which may have been damaged or made by
 * anybody: a manifest in two pieces, lines of results and dead letters, lines of a history, and
 * what a master answers. The first byte chooses which of them, the second where the manifest is
 * cut. Whatever the pieces, the manifest is the same; what is read of a status can be written, and
 * reads the same again.
 */
#include "engines/batch/history.c"
#include "engines/batch/manifest.c"

#include "core/proto/batch_control.h"
#include "engines/batch/letters.h"
#include "tests/fuzz/check.h"

struct seen {
    uint64_t parts;
    uint64_t sum;
    uint64_t facts;
};

static int part_see(void *context, const struct fm_manifest_part *part)
{
    struct seen *seen = context;
    seen->parts++;
    seen->sum = seen->sum * 31 + part->number + part->first_row + part->files.part_checksum;
    FUZZ_CHECK(strncmp(part->name, "part-", 5) == 0 && strchr(part->name, '/') == NULL);
    return 0;
}

static int fact_see(void *context, const struct fm_job_fact *fact)
{
    struct seen *seen = context;
    seen->facts += 1 + strlen(fact->key) + strlen(fact->value);
    return 0;
}

static int manifest_read_cut(const char *data, size_t size, size_t cut, struct seen *seen)
{
    struct fm_error error = {0};
    struct fm_manifest_head manifest_head = {.complete = false};
    const struct fm_manifest_handlers handlers = {
        .part = part_see, .fact = fact_see, .context = seen};
    struct reader reader = {.path = "m", .handlers = &handlers, .reterr = &error};
    *seen = (struct seen){.parts = 0};
    int status = feed(&reader, data, cut);
    status = status != 0 ? status : feed(&reader, data + cut, size - cut);
    status = status != 0 ? status : head_read(&reader, &manifest_head);
    FUZZ_CHECK(status == 0 || error.text[0] != '\0');
    fm_text_deinit(&reader.head);
    fm_text_deinit(&reader.part);
    return status;
}

static void manifest_fuzz(const char *data, size_t size, size_t cut)
{
    struct seen whole;
    struct seen pieces;
    int status = manifest_read_cut(data, size, 0, &whole);
    FUZZ_CHECK(manifest_read_cut(data, size, cut < size ? cut : size, &pieces) == status);
    FUZZ_CHECK(whole.parts == pieces.parts && whole.sum == pieces.sum &&
               whole.facts == pieces.facts);
    FUZZ_CHECK(status != 0 || whole.parts == 0 || !fm_fuzz_canary);
}

static void lines_fuzz(const char *data, size_t size)
{
    struct fm_text id = {0};
    struct fm_row_letter letter = {.row = 0};
    struct fm_letter_summary summary = {.total = 0};
    struct fm_error error = {0};
    int status = fm_row_line_id(data, size, &id, &error);
    FUZZ_CHECK(status == 0 ? id.data != NULL : error.text[0] != '\0');
    if (fm_row_letter_read(&letter, data, size, &error) == 0) {
        FUZZ_CHECK(status == 0 && id.length == letter.id.length &&
                   memcmp(id.data, letter.id.data, id.length) == 0);
        FUZZ_CHECK(fm_letter_summary_add(&summary, &letter) == 0 && summary.count == 1);
        fm_letter_summary_sort(&summary);
    }
    fm_letter_summary_deinit(&summary);
    fm_row_letter_deinit(&letter);
    fm_text_deinit(&id);
}

static void history_fuzz(const char *data, size_t size)
{
    struct line line;
    struct line again;
    struct fm_text text = {0};
    if (line_read(data, size, &line) == 0 && line.is_sample) {
        sample_write(&text, &line.sample);
        FUZZ_CHECK(!text.failed && line_read(text.data, text.length - 1, &again) == 0);
        FUZZ_CHECK(again.sample.wall_ms == line.sample.wall_ms &&
                   again.sample.rows_done == line.sample.rows_done &&
                   again.sample.begin == line.sample.begin);
    }
    fm_text_deinit(&text);
}

static void status_fuzz(const char *data, size_t size)
{
    struct fm_batch_status status;
    struct fm_error error = {0};
    struct fm_text text = {0};
    struct fm_text again = {0};
    if (fm_batch_status_read(data, size, &status, &error) != 0) {
        FUZZ_CHECK(error.text[0] != '\0');
        return;
    }
    FUZZ_CHECK(fm_batch_status_write(&text, &status) == 0);
    FUZZ_CHECK(fm_batch_status_read(text.data, text.length, &status, &error) == 0);
    FUZZ_CHECK(fm_batch_status_write(&again, &status) == 0 && again.length == text.length &&
               (text.length == 0 || memcmp(again.data, text.data, text.length) == 0));
    fm_text_deinit(&text);
    fm_text_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    const char *text = (const char *)data + 2;
    switch (data[0] % 4) {
    case 0:
        manifest_fuzz(text, size - 2, data[1]);
        break;
    case 1:
        lines_fuzz(text, size - 2);
        break;
    case 2:
        history_fuzz(text, size - 2);
        break;
    default:
        status_fuzz(text, size - 2);
        break;
    }
    return 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}

static size_t status_seed(uint8_t *data, size_t capacity)
{
    static const struct fm_batch_worker_status worker = {
        .worker = 7, .connected = true, .rows_per_minute = 300, .slowest_share = 0.5};
    struct fm_text text = {0};
    const struct fm_batch_status status = {.job = fm_batch_view_of("ocr"),
                                           .version = fm_batch_view_of("1"),
                                           .rows_total = 480,
                                           .rows_per_s = 2.5,
                                           .rest_ns = 1000,
                                           .workers = {.items = &worker, .count = 1}};
    fm_text_append(&text, "\3\0", 2);
    FUZZ_CHECK(fm_batch_status_write(&text, &status) == 0);
    return fm_fuzz_bytes(&text, data, capacity);
}

/* As text, whose first character chooses: '@' 0, 'A' 1, 'B' 2, 'C' 3. */
size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const char *const texts[] = {
        "@@{\"manifest_version\":1,\"job\":\"j\",\"finished\":\"now\",\"complete\":true,"
        "\"rows_in\":4,\"rows_out\":3,\"dead_letters\":1,\"inputs_found\":9,"
        "\"checksum_algorithm\":\"fnv1a64\",\"facts\":{\"k\":\"v\"},\"parts\":[\n"
        "{\"part\":\"part-00000.jsonl\",\"first_row\":0,\"rows_in\":4,\"rows\":3,\"bytes\":10,"
        "\"checksum\":\"00000000000000ff\",\"dead_letters\":1,\"dead_letter_bytes\":5,"
        "\"dead_letter_checksum\":\"0000000000000001\"}\n]}\n",
        "A {\"id\":\"a\",\"id_base64\":\"/w==\",\"y\":[1,[2.5e3]],\"timings\":{\"total_ms\":1}}",
        "A {\"id\":\"bad.jpg\",\"row\":17,\"source\":\"p\",\"stage\":\"page\",\"code\":\"EIO\","
        "\"message\":\"'x' has 12 \\\"y\\\"\",\"attempts\":1}",
        "B {\"at\":5,\"begin\":true,\"done\":3,\"committed\":2,\"letters\":1,\"workers\":4,"
        "\"lost\":0,\"failed\":0,\"cut\":0,\"stage\":\"rec\",\"share\":0.25}",
        "B {\"shard\":1,\"first_row\":2,\"rows\":3,\"ms\":4}",
    };
    return index < sizeof(texts) / sizeof(texts[0])    ? fm_fuzz_text(texts[index], data, capacity)
           : index == sizeof(texts) / sizeof(texts[0]) ? status_seed(data, capacity)
                                                       : 0;
}
