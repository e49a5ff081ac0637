/*
 * Runs any LLVMFuzzerTestOneInput as a plain program: seeds, then mutations of them that depend on
 * nothing but --seed. Prints TAP.
 *
 *   fuzz_x [--seed N] [--runs N] [--only N] [--smoke] [--canary] [--write-seeds DIR] [FILE...]
 *
 * Seeds are the target's own and what tests/fuzz/corpus/x holds: inputs that libFuzzer found to
 * take other paths. FILEs replace both. --only runs one mutation, for a debugger. --smoke is what
 * meson runs: the defaults. --canary runs only the proof that the target can fail. --write-seeds
 * writes the target's own seeds as files, for libFuzzer to begin with. When the target
 * crashes, the last line says how to repeat that one run. With -Dlibfuzzer=true the linker takes
 * libFuzzer's main() instead of this one. Thread rule: one thread.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/util/random.h"
#include "tests/fuzz/check.h"

enum { SEEDS_MAX = 2048, INPUT_BYTES_MAX = 1 << 20, SEED_BYTES_MAX = 1 << 18, RUNS_DEFAULT = 2000 };

struct options {
    uint64_t seed;
    uint64_t runs;
    uint64_t only;
    bool has_only;
    bool canary;
    const char *seeds_to; /* NULL: nowhere */
};

struct input {
    uint8_t *data;
    size_t size;
};

static struct input seeds[SEEDS_MAX];
static size_t seed_count;
static char repeat_line[160];

/* --- Crashes --- */

static void on_crash(int number)
{
    /* Only what a signal handler may do. */
    size_t length = strlen(repeat_line);
    while (length > 0 && write(STDOUT_FILENO, repeat_line, length) < 0 && errno == EINTR) {
    }
    (void)signal(number, SIG_DFL);
    (void)raise(number);
}

static void crashes_watch(void)
{
    static const int numbers[] = {SIGABRT,
#ifndef __SANITIZE_ADDRESS__
                                  SIGSEGV, SIGBUS, SIGFPE, SIGILL
#endif
    };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        (void)signal(numbers[i], on_crash);
    }
}

/* --- Seeds --- */

static void seed_add(const uint8_t *data, size_t size)
{
    if (seed_count == SEEDS_MAX) {
        return;
    }
    uint8_t *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL) {
        fputs("out of memory\n", stderr);
        exit(2);
    }
    if (size > 0) {
        memcpy(copy, data, size);
    }
    seeds[seed_count++] = (struct input){copy, size};
}

static bool seed_add_file(const char *path, uint8_t *scratch)
{
    FILE *file = fopen(path, "rbe");
    if (file == NULL) {
        fprintf(stderr, "cannot open %s: %s\n", path, strerror(errno));
        return false;
    }
    size_t size = fread(scratch, 1, INPUT_BYTES_MAX, file);
    bool good = ferror(file) == 0;
    (void)fclose(file);
    seed_add(scratch, size);
    return good;
}

static void seeds_add_built_in(uint8_t *scratch)
{
    for (size_t i = 0; fm_fuzz_seed != NULL && i < SEEDS_MAX; i++) {
        size_t size = fm_fuzz_seed(i, scratch, SEED_BYTES_MAX);
        if (size == 0) {
            break;
        }
        seed_add(scratch, size);
    }
    if (seed_count == 0) {
        seed_add(scratch, 0);
    }
}

/* In the order of their names, so that a run can be repeated. */
static bool seeds_add_corpus(const char *program, uint8_t *scratch)
{
    static const char prefix[] = "fuzz_fuzz_";
    const char *root = getenv("FM_SOURCE_ROOT");
    const char *name = strrchr(program, '/') != NULL ? strrchr(program, '/') + 1 : program;
    char path[4096];
    struct dirent **entries = NULL;
    bool good = true;
    if (root == NULL || strncmp(name, prefix, sizeof(prefix) - 1) != 0) {
        return true;
    }
    int length =
        snprintf(path, sizeof(path), "%s/tests/fuzz/corpus/%s/", root, name + sizeof(prefix) - 1);
    int count =
        length > 0 && (size_t)length < sizeof(path) ? scandir(path, &entries, NULL, alphasort) : 0;
    for (int i = 0; i < count; i++) {
        const char *file = entries[i]->d_name;
        if (good && file[0] != '.' && strlen(file) < sizeof(path) - (size_t)length) {
            memcpy(path + length, file, strlen(file) + 1);
            good = seed_add_file(path, scratch);
        }
        free(entries[i]);
    }
    free(entries);
    return good;
}

static int seeds_write(const char *directory)
{
    for (size_t i = 0; i < seed_count; i++) {
        char path[4096];
        (void)snprintf(path, sizeof(path), "%.4000s/seed-%zu", directory, i);
        FILE *file = fopen(path, "wbe");
        bool good = file != NULL && fwrite(seeds[i].data, 1, seeds[i].size, file) == seeds[i].size;
        good = (file != NULL && fclose(file) == 0) && good;
        if (!good) {
            fprintf(stderr, "cannot write %s: %s\n", path, strerror(errno));
            return 2;
        }
    }
    printf("%zu seeds are in %s\n", seed_count, directory);
    return 0;
}

/* --- Mutation --- */

static void bytes_number(struct fm_random *random, uint8_t *data, size_t size)
{
    static const uint32_t interesting[] = {
        0,       1,          0x7F,       0x80,       0xFF,       0x7FFF,     0x8000,    0xFFFF,
        0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 0x01000000, 0x40000000};
    size_t width = (size_t)1 << fm_random_below(random, 3);
    if (size < width) {
        return;
    }
    size_t at = fm_random_below(random, size - width + 1);
    uint32_t value =
        interesting[fm_random_below(random, sizeof(interesting) / sizeof(interesting[0]))];
    bool little = fm_random_below(random, 2) == 0;
    for (size_t i = 0; i < width; i++) {
        size_t shift = 8 * (little ? i : width - 1 - i);
        data[at + i] = (uint8_t)(value >> shift);
    }
}

static size_t range_insert(struct fm_random *random, uint8_t *data, size_t size)
{
    size_t length = 1 + fm_random_below(random, 16);
    size_t at = fm_random_below(random, size + 1);
    if (size + length > INPUT_BYTES_MAX) {
        return size;
    }
    memmove(data + at + length, data + at, size - at);
    bool copied = size >= length && fm_random_below(random, 2) == 0;
    size_t from = copied ? fm_random_below(random, size - length + 1) : 0;
    for (size_t i = 0; i < length; i++) {
        data[at + i] = copied ? data[from + i] : (uint8_t)fm_random_next(random);
    }
    return size + length;
}

static size_t range_delete(struct fm_random *random, uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    size_t at = fm_random_below(random, size);
    size_t most = fm_random_below(random, 4) == 0 ? size - at : 16;
    size_t length = 1 + fm_random_below(random, most);
    length = length < size - at ? length : size - at;
    memmove(data + at, data + at + length, size - at - length);
    return size - length;
}

static size_t splice(struct fm_random *random, uint8_t *data, size_t size)
{
    const struct input *other = &seeds[fm_random_below(random, seed_count)];
    size_t keep = fm_random_below(random, size + 1);
    size_t from = fm_random_below(random, other->size + 1);
    size_t length = other->size - from;
    if (keep + length > INPUT_BYTES_MAX) {
        length = INPUT_BYTES_MAX - keep;
    }
    if (length > 0) {
        memcpy(data + keep, other->data + from, length);
    }
    return keep + length;
}

static size_t mutate_once(struct fm_random *random, uint8_t *data, size_t size)
{
    switch (fm_random_below(random, 8)) {
    case 0:
    case 1:
        if (size > 0) {
            data[fm_random_below(random, size)] ^= (uint8_t)(1u << fm_random_below(random, 8));
        }
        return size;
    case 2:
        if (size > 0) {
            data[fm_random_below(random, size)] = (uint8_t)fm_random_next(random);
        }
        return size;
    case 3:
    case 4:
        bytes_number(random, data, size);
        return size;
    case 5:
        return range_insert(random, data, size);
    case 6:
        return range_delete(random, data, size);
    default:
        return fm_random_below(random, 4) == 0 ? splice(random, data, size) : size;
    }
}

/* Mutation number `run` of this seed, from scratch: it depends on no other run. */
static size_t mutation_make(uint64_t seed, uint64_t run, uint8_t *data)
{
    struct fm_random random;
    fm_random_init(&random, seed * UINT64_C(0x9E3779B97F4A7C15) + run);
    const struct input *input = &seeds[fm_random_below(&random, seed_count)];
    size_t size = input->size;
    if (size > 0) {
        memcpy(data, input->data, size);
    }
    uint64_t count = 1 + fm_random_below(&random, fm_random_below(&random, 4) == 0 ? 16 : 3);
    for (uint64_t i = 0; i < count; i++) {
        size = mutate_once(&random, data, size);
    }
    return size;
}

/* --- Running --- */

/* A copy of exactly that size lets a sanitizer see a read beyond the end. */
static void target_run(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL) {
        fputs("out of memory\n", stderr);
        exit(2);
    }
    if (size > 0) {
        memcpy(copy, data, size);
    }
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void seeds_run(void)
{
    for (size_t i = 0; i < seed_count; i++) {
        (void)snprintf(repeat_line, sizeof(repeat_line), "# crashed on seed input %zu\n", i);
        target_run(seeds[i].data, seeds[i].size);
    }
}

static void mutations_run(const struct options *options, const char *program, uint8_t *scratch)
{
    uint64_t first = options->has_only ? options->only : 0;
    uint64_t behind = options->has_only ? options->only + 1 : options->runs;
    for (uint64_t run = first; run < behind; run++) {
        (void)snprintf(repeat_line, sizeof(repeat_line),
                       "# crashed; repeat: %.80s --seed %" PRIu64 " --only %" PRIu64 "\n", program,
                       options->seed, run);
        size_t size = mutation_make(options->seed, run, scratch);
        target_run(scratch, size);
    }
}

/* 1 when the target saw the planted failure on its seeds. */
static int canary_sings(void)
{
    fm_fuzz_canary = 1;
    fm_fuzz_canary_failures = 0;
    seeds_run();
    fm_fuzz_canary = 0;
    return fm_fuzz_canary_failures > 0;
}

static int options_read(int argc, char **argv, struct options *options, uint8_t *scratch)
{
    for (int i = 1; i < argc; i++) {
        uint64_t *number = NULL;
        if (strcmp(argv[i], "--seed") == 0) {
            number = &options->seed;
        } else if (strcmp(argv[i], "--runs") == 0) {
            number = &options->runs;
        } else if (strcmp(argv[i], "--only") == 0) {
            number = &options->only;
            options->has_only = true;
        } else if (strcmp(argv[i], "--canary") == 0) {
            options->canary = true;
        } else if (strcmp(argv[i], "--write-seeds") == 0 && i + 1 < argc) {
            options->seeds_to = argv[++i];
            continue;
        } else if (strcmp(argv[i], "--smoke") != 0 && argv[i][0] == '-') {
            number = NULL;
            i = argc;
        } else if (argv[i][0] != '-' && !seed_add_file(argv[i], scratch)) {
            return 2;
        }
        char *end = NULL;
        if (i >= argc || (number != NULL && i + 1 >= argc)) {
            fputs("usage: [--seed N] [--runs N] [--only N] [--smoke] [--canary] "
                  "[--write-seeds DIR] [FILE...]\n",
                  stderr);
            return 2;
        }
        if (number != NULL) {
            *number = strtoull(argv[++i], &end, 10);
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct options options = {.seed = 1, .runs = RUNS_DEFAULT};
    uint8_t *scratch = malloc(INPUT_BYTES_MAX);
    if (scratch == NULL) {
        return 2;
    }
    int status = options_read(argc, argv, &options, scratch);
    if (status != 0) {
        return status;
    }
    crashes_watch();
    if (seed_count == 0) {
        seeds_add_built_in(scratch);
        if (options.seeds_to != NULL) {
            return seeds_write(options.seeds_to);
        }
        if (!seeds_add_corpus(argv[0], scratch)) {
            return 2;
        }
    }
    bool failed = false;
    int tests = 0;
    printf("# seed %" PRIu64 ", %" PRIu64 " mutations of %zu inputs\n", options.seed, options.runs,
           seed_count);
    fflush(stdout);
    if (!options.canary) {
        seeds_run();
        printf("ok %d - seed inputs\n", ++tests);
        mutations_run(&options, argv[0], scratch);
        printf("ok %d - mutations\n", ++tests);
    }
    if (fm_fuzz_has_canary == NULL || fm_fuzz_has_canary() == 0) {
        printf("ok %d - canary # SKIP this target has none\n", ++tests);
    } else {
        failed = !canary_sings();
        printf("%s %d - canary: the planted failure is found\n", failed ? "not ok" : "ok", ++tests);
    }
    printf("1..%d\n", tests);
    for (size_t i = 0; i < seed_count; i++) {
        free(seeds[i].data);
    }
    free(scratch);
    return failed ? 1 : 0;
}
