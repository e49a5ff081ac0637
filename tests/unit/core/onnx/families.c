/*
 * Families of networks: what ONNX Runtime computes from a written file is what plain loops compute,
 * and what is counted is what these loops do.
 */
#include "core/onnx/families.h"

#include "core/onnx/model_counts.h"
#include "core/onnx/onnx_writer.h"
#include "core/util/random.h"
#include "host/os/file.h"
#include "tests/harness/network_reference.h"
#include "tests/harness/subject.h"
#include "tests/harness/test.h"

#define TOLERANCE 1e-4

enum { ROWS_MAX = 8 };

/* What a test holds; released in study_close. */
struct study {
    struct fm_family_spec spec;
    struct fm_onnx_graph graph;
    struct fm_model_counts counts;
    struct fm_reference *reference;
    struct fm_model *model;
    size_t input_count; /* of floats, in each row */
    size_t index_count;
    size_t output_count;
    float *x; /* [ROWS_MAX, input_count] */
    int64_t *indices;
    double *y;
};

static int file_put(void *context, const void *data, size_t size, struct fm_error *reterr)
{
    return fm_file_writer_append(context, data, size, reterr);
}

static int model_write(const struct fm_onnx_graph *graph, const char *path)
{
    struct fm_file_writer writer = {0};
    struct fm_onnx_sink sink = {.put = file_put, .context = &writer};
    int status = fm_file_writer_open(&writer, path, NULL);
    status = status != 0 ? status : fm_onnx_write(graph, &sink, NULL);
    return status != 0 ? status : fm_file_writer_commit(&writer, NULL);
}

static int model_open(const struct fm_onnx_graph *graph, struct fm_model **ret_model,
                      struct fm_error *reterr)
{
    const char *path = fm_subject_path("family.onnx");
    int status = model_write(graph, path);
    struct fm_model_config config;
    fm_model_config_init(&config);
    config.name = "family";
    config.path = path;
    config.instance_count = 1;
    config.max_batch_size = ROWS_MAX;
    status = status != 0 ? status : fm_model_load(&config, ret_model, reterr);
    fm_model_config_deinit(&config);
    return status;
}

static bool is_backend_missing(int status, const struct fm_error *error)
{
    return status != 0 && strstr(error->text, "there is no libfm_backend_onnxruntime") != NULL;
}

/* Ports' sizes, and inputs of all rows from a seed: uniform with variance 1, any integers. */
static void inputs_make(struct study *study)
{
    for (uint32_t i = 0; i < study->graph.value_count; i++) {
        const struct fm_onnx_value *value = &study->graph.values[i];
        size_t elements = (size_t)fm_onnx_value_elements(value);
        if (value->role == FM_ONNX_INPUT) {
            *(value->type == FM_ONNX_INT64 ? &study->index_count : &study->input_count) = elements;
        } else if (value->role == FM_ONNX_OUTPUT) {
            study->output_count = elements;
        }
    }
    study->x = malloc(ROWS_MAX * study->input_count * sizeof *study->x);
    study->indices = malloc((ROWS_MAX * study->index_count + 1) * sizeof *study->indices);
    study->y = malloc(ROWS_MAX * study->output_count * sizeof *study->y);
    if (study->x == NULL || study->indices == NULL || study->y == NULL) {
        abort();
    }
    struct fm_random random;
    fm_random_init(&random, 7);
    for (size_t i = 0; i < ROWS_MAX * study->input_count; i++) {
        study->x[i] = (float)((2 * fm_random_unit(&random) - 1) * sqrt(3));
    }
    for (size_t i = 0; i < ROWS_MAX * study->index_count; i++) {
        study->indices[i] = (int64_t)fm_random_next(&random);
    }
}

/* Builds the graph, counts it and has the reference compute all rows. */
static int study_open(struct study *study, const struct fm_family_spec *spec,
                      struct fm_error *reterr)
{
    *study = (struct study){.spec = *spec};
    int status = fm_family_build(spec, &study->graph, NULL, reterr);
    if (status != 0) {
        return status;
    }
    fm_model_counts_make(&study->graph, &study->counts);
    inputs_make(study);
    study->reference = malloc(sizeof *study->reference);
    if (study->reference == NULL) {
        abort();
    }
    fm_reference_init(study->reference, &study->spec, &study->graph);
    for (size_t row = 0; row < ROWS_MAX; row++) {
        fm_reference_row(study->reference, study->x + row * study->input_count,
                         study->indices + row * study->index_count,
                         study->y + row * study->output_count);
    }
    return study->reference->failed ? FM_EINTERNAL : 0;
}

static void study_close(struct study *study)
{
    if (study->reference != NULL) {
        fm_reference_deinit(study->reference);
        fm_onnx_graph_deinit(&study->graph);
    }
    fm_model_free(study->model);
    free(study->reference);
    free(study->x);
    free(study->indices);
    free(study->y);
    *study = (struct study){.model = NULL};
}

/* An input of the model over the first `rows` rows. */
static struct fm_tensor input_tensor(const struct study *study, const struct fm_port *port,
                                     uint32_t rows)
{
    bool integers = port->dtype == FM_DTYPE_INT64;
    int64_t shape[FM_RANK_MAX];
    for (int32_t i = 0; i < (int32_t)port->rank; i++) {
        shape[i] = i == 0 ? (int64_t)rows : port->shape[i];
    }
    return integers ? fm_subject_tensor(port->dtype, shape, (uint32_t)port->rank, study->indices,
                                        rows * study->index_count * sizeof(int64_t))
                    : fm_subject_tensor(port->dtype, shape, (uint32_t)port->rank, study->x,
                                        rows * study->input_count * sizeof(float));
}

/* How far the model's answers for the first `rows` rows are from the reference's, relative to the
 * largest of them; 1e9 when it did not run. */
static double distance(struct study *study, uint32_t rows)
{
    uint32_t input_count = 0;
    const struct fm_port *ports = fm_model_inputs(study->model, &input_count);
    struct fm_subject_run run;
    struct fm_error error = {0};
    fm_subject_run_init(&run, input_count, 1, rows);
    for (uint32_t i = 0; i < input_count; i++) {
        run.inputs[i] = input_tensor(study, &ports[i], rows);
    }
    if (fm_model_run(study->model, 0, &run.execution, &error) != 0) {
        printf("# %s\n", error.text);
        return 1e9;
    }
    size_t count = rows * study->output_count;
    const float *answers = run.outputs[0].tensor.data;
    double largest = 0;
    double furthest = run.outputs[0].tensor.size == count * sizeof(float) ? 0 : 1e9;
    for (size_t i = 0; i < count && furthest < 1e9; i++) {
        largest = fmax(largest, fabs(study->y[i]));
        double apart = fabs((double)answers[i] - study->y[i]);
        furthest = isfinite(apart) ? fmax(furthest, apart) : 1e9;
    }
    fm_subject_run_release(&run);
    return furthest / fmax(largest, 1e-6);
}

/* "transformer layers=1 hidden=6": what is not named is the default. */
static struct fm_family_spec spec_of(const char *text)
{
    char copy[256];
    (void)snprintf(copy, sizeof copy, "%s", text);
    char *rest = NULL;
    char *word = strtok_r(copy, " ", &rest);
    struct fm_family_spec spec = {.family = fm_family_parse(word), .seed = 3};
    while ((word = strtok_r(NULL, " ", &rest)) != NULL) {
        char *number = strchr(word, '=');
        *number++ = '\0';
        if (fm_family_set(&spec, fm_family_parameter_parse(word), strtoull(number, NULL, 10),
                          NULL) != 0) {
            abort();
        }
    }
    return spec;
}

static const char *const studied[] = {
    "mlp",
    "mlp layers=1 hidden=1 inputs=1 outputs=1",
    "mlp layers=5 hidden=33 inputs=7 outputs=3",
    "cnn layers=2 channels=5 image=9",
    "cnn layers=1 channels=1 image=1 kernel=1 outputs=1",
    "cnn layers=7 channels=4 image=13 kernel=5 outputs=3",
    "cnn layers=2 channels=3 image=3 kernel=11",
    "rnn layers=2 hidden=24 sequence=9 inputs=5",
    "rnn layers=1 hidden=1 sequence=1 inputs=1 outputs=1",
    "lstm layers=2 hidden=24 sequence=9 inputs=5",
    "lstm layers=1 hidden=1 sequence=1 inputs=1 outputs=1",
    "lstm layers=3 hidden=16 sequence=20 inputs=3 outputs=4",
    "transformer layers=2 hidden=24 heads=3 sequence=7 expansion=2",
    "transformer layers=1 hidden=8 heads=8 sequence=3 expansion=1",
    "transformer layers=1 hidden=2 heads=1 sequence=1 expansion=1",
    "dlrm rows=50",
    "dlrm dense=1 tables=1 rows=1 width=1 hidden=1 bottom=1 top=1",
    "dlrm dense=5 tables=3 rows=17 width=6 hidden=9 bottom=3 top=1",
};

TEST(onnx_runtime_computes_what_the_reference_does)
{
    for (size_t i = 0; i < sizeof studied / sizeof studied[0]; i++) {
        struct fm_family_spec spec = spec_of(studied[i]);
        struct study study;
        struct fm_error error = {0};
        CHECK_INT_EQ(study_open(&study, &spec, &error), 0);
        int status = model_open(&study.graph, &study.model, &error);
        if (is_backend_missing(status, &error)) {
            study_close(&study);
            TEST_SKIP("there is no backend onnxruntime");
        }
        if (status != 0) {
            printf("# %s: %s\n", studied[i], error.text);
        }
        CHECK_INT_EQ(status, 0);
        CHECK_UINT_EQ(fm_model_batch_max(study.model), ROWS_MAX);
        static const uint32_t batches[] = {1, 3, 8};
        for (size_t j = 0; j < 3; j++) {
            double found = distance(&study, batches[j]);
            if (!(found <= TOLERANCE)) {
                printf("# %s, batch %u: %g\n", studied[i], batches[j], found);
            }
            CHECK(found <= TOLERANCE);
        }
        study_close(&study);
    }
}

/* One specification: every count is what the reference counted. */
static void counts_compare(const struct fm_family_spec *spec, const char *words)
{
    struct study study;
    struct fm_error error = {0};
    CHECK_INT_EQ(study_open(&study, spec, &error), 0);
    const struct fm_reference *reference = study.reference;
    uint64_t moved =
        study.counts.input_bytes + study.counts.output_bytes + study.counts.activation_bytes;
    if (study.counts.flop * ROWS_MAX != reference->flop || moved * ROWS_MAX != reference->moved) {
        printf("# %s\n", words);
    }
    CHECK_UINT_EQ(study.counts.flop * ROWS_MAX, reference->flop);
    CHECK_UINT_EQ(moved * ROWS_MAX, reference->moved);
    CHECK_UINT_EQ(study.counts.gathered_bytes * ROWS_MAX, reference->gathered);
    CHECK_UINT_EQ(study.counts.parameters, reference->parameters);
    CHECK_UINT_EQ(study.counts.parameter_bytes, reference->parameters * sizeof(float));
    CHECK_UINT_EQ(study.counts.input_bytes,
                  study.input_count * sizeof(float) + study.index_count * sizeof(int64_t));
    CHECK_UINT_EQ(study.counts.output_bytes, study.output_count * sizeof(float));
    uint64_t tables = spec->family != FM_FAMILY_DLRM
                          ? 0
                          : fm_family_value(spec, FM_FAMILY_TABLES) *
                                fm_family_value(spec, FM_FAMILY_ROWS) *
                                fm_family_value(spec, FM_FAMILY_WIDTH) * sizeof(float);
    CHECK_UINT_EQ(study.counts.weight_bytes + tables, study.counts.parameter_bytes);
    study_close(&study);
}

TEST(counts_are_what_the_reference_does)
{
    for (size_t i = 0; i < sizeof studied / sizeof studied[0]; i++) {
        struct fm_family_spec spec = spec_of(studied[i]);
        counts_compare(&spec, studied[i]);
        CHECK(!fm_test_failed);
    }
}

/* A small specification of a family, from a seed. */
static struct fm_family_spec spec_random(struct fm_random *random, enum fm_family family)
{
    struct fm_family_spec spec = {.family = family, .seed = fm_random_next(random)};
    for (int i = 0; i < FM_FAMILY_PARAMETER_COUNT_; i++) {
        if (fm_family_default(family, (enum fm_family_parameter)i) > 0) {
            bool deep = i == FM_FAMILY_LAYERS || i == FM_FAMILY_EXPANSION || i == FM_FAMILY_TOP;
            spec.values[i] = 1 + fm_random_below(random, deep ? 4 : 11);
        }
    }
    spec.values[FM_FAMILY_KERNEL] |= family == FM_FAMILY_CNN ? 1 : 0;
    if (family == FM_FAMILY_TRANSFORMER) {
        spec.values[FM_FAMILY_HIDDEN] *= spec.values[FM_FAMILY_HEADS];
    }
    return spec;
}

TEST(any_small_specification)
{
    struct fm_random random;
    fm_random_init(&random, 11);
    for (int i = 0; i < 20 * FM_FAMILY_COUNT_; i++) {
        struct fm_family_spec spec = spec_random(&random, (enum fm_family)(i % FM_FAMILY_COUNT_));
        struct fm_text text = {0};
        fm_family_describe(&spec, &text);
        CHECK(!text.failed);
        counts_compare(&spec, text.data);
        if (fm_test_failed) {
            printf("# %s\n", text.data);
        }
        fm_text_deinit(&text);
        CHECK(!fm_test_failed);
    }
}

TEST(any_small_specification_runs)
{
    struct fm_random random;
    fm_random_init(&random, 12);
    for (int i = 0; i < 4 * FM_FAMILY_COUNT_; i++) {
        struct fm_family_spec spec = spec_random(&random, (enum fm_family)(i % FM_FAMILY_COUNT_));
        struct study study;
        struct fm_error error = {0};
        CHECK_INT_EQ(study_open(&study, &spec, &error), 0);
        int status = model_open(&study.graph, &study.model, &error);
        if (is_backend_missing(status, &error)) {
            study_close(&study);
            TEST_SKIP("there is no backend onnxruntime");
        }
        CHECK_INT_EQ(status, 0);
        double found = distance(&study, 5);
        if (!(found <= TOLERANCE)) {
            printf("# %s: %g\n", study.graph.description, found);
        }
        CHECK(found <= TOLERANCE);
        study_close(&study);
    }
}

/* The root of the mean square of what comes out. */
static double strength(const char *words, double *ret_spread)
{
    struct fm_family_spec spec = spec_of(words);
    struct study study;
    if (study_open(&study, &spec, NULL) != 0) {
        return -1;
    }
    double squares = 0;
    double spread = 0;
    for (size_t i = 0; i < ROWS_MAX * study.output_count; i++) {
        squares += study.y[i] * study.y[i];
        spread = fmax(spread, fabs(study.y[i] - study.y[i % study.output_count]));
    }
    *ret_spread = spread;
    double found = sqrt(squares / (double)(ROWS_MAX * study.output_count));
    study_close(&study);
    return found;
}

TEST(outputs_neither_vanish_nor_explode)
{
    static const char *const deep[] = {
        "mlp layers=100 hidden=48 inputs=32",  "mlp layers=1 hidden=512 inputs=512",
        "cnn layers=16 channels=12 image=16",  "rnn layers=12 hidden=32 sequence=16",
        "lstm layers=6 hidden=32 sequence=16", "transformer layers=12 hidden=32 heads=4 sequence=8",
        "dlrm tables=40 rows=10 width=64",
    };
    for (size_t i = 0; i < sizeof deep / sizeof deep[0]; i++) {
        double spread = 0;
        double found = strength(deep[i], &spread);
        if (!(found > 0.02 && found < 50) || !(spread > 1e-5)) {
            printf("# %s: %g, rows differ by %g\n", deep[i], found, spread);
        }
        CHECK(found > 0.02 && found < 50); /* of inputs with variance 1 */
        CHECK(spread > 1e-5);              /* and it depends on them */
    }
}

/* Worked out by hand: mlp with 3 inputs, one layer of 4, 2 outputs. */
TEST(counts_of_a_small_network)
{
    struct fm_family_spec spec = spec_of("mlp layers=1 hidden=4 inputs=3 outputs=2");
    struct fm_onnx_graph graph;
    struct fm_model_counts counts;
    CHECK_INT_EQ(fm_family_build(&spec, &graph, NULL, NULL), 0);
    fm_model_counts_make(&graph, &counts);
    fm_onnx_graph_deinit(&graph);
    CHECK_UINT_EQ(counts.nodes, 3);
    CHECK_UINT_EQ(counts.parameters, 3 * 4 + 4 + 4 * 2 + 2);
    CHECK_UINT_EQ(counts.flop, (2 * 3 * 4 + 4) + 4 + (2 * 4 * 2 + 2));
    CHECK_UINT_EQ(counts.input_bytes, 12);
    CHECK_UINT_EQ(counts.output_bytes, 8);
    CHECK_UINT_EQ(counts.activation_bytes, 4 * 16); /* two values, each written and read */
    CHECK_UINT_EQ(counts.gathered_bytes, 0);
    CHECK_NEAR(fm_model_traffic_least_bytes(&counts, 2), 26.0 * 4 / 2 + 12 + 8, 1e-9);
    CHECK_NEAR(fm_model_traffic_bytes(&counts, 2), 26.0 * 4 / 2 + 12 + 8 + 64, 1e-9);
    CHECK_NEAR(fm_model_intensity(&counts, 2), 50.0 / (26.0 * 4 / 2 + 12 + 8 + 64), 1e-12);
}

/*
 * Networks whose sizes are published. The twelve blocks of BERT base (J. Devlin et al., 2019) have
 * 85,054,464 parameters, to which a last norm comes here; with h = 768 and s = 128 tokens the
 * products of a block are 24 s h^2 + 4 s^2 h operations, 22.35e9 for all twelve. An LSTM layer of n
 * to h has 4 (n h + h^2 + 2 h), as frameworks with two biases have it.
 */
TEST(counts_of_known_networks)
{
    struct fm_family_spec spec =
        spec_of("transformer layers=12 hidden=768 heads=12 sequence=128 expansion=4");
    struct fm_onnx_graph graph;
    struct fm_model_counts counts;
    CHECK_INT_EQ(fm_family_build(&spec, &graph, NULL, NULL), 0);
    fm_model_counts_make(&graph, &counts);
    fm_onnx_graph_deinit(&graph);
    CHECK_UINT_EQ(counts.parameters, 85054464 + 2 * 768);
    uint64_t products = 12 * (24 * UINT64_C(128) * 768 * 768 + 4 * UINT64_C(128) * 128 * 768);
    CHECK(counts.flop > products && (double)counts.flop < 1.02 * (double)products);
    CHECK_NEAR((double)products, 22.35e9, 0.01e9);
    spec = spec_of("lstm layers=1 hidden=256 inputs=100 outputs=1");
    CHECK_INT_EQ(fm_family_build(&spec, &graph, NULL, NULL), 0);
    fm_model_counts_make(&graph, &counts);
    fm_onnx_graph_deinit(&graph);
    CHECK_UINT_EQ(counts.parameters, 4 * (100 * 256 + 256 * 256 + 2 * 256) + 257);
}

TEST(specifications_that_are_refused)
{
    struct fm_family_spec spec = {.family = FM_FAMILY_MLP};
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_family_set(&spec, FM_FAMILY_HEADS, 2, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "heads: a model of the family mlp has none; it has layers, hidden, "
                             "inputs, outputs");
    CHECK_INT_EQ(fm_family_set(&spec, FM_FAMILY_LAYERS, 0, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "layers: 0 is not from 1 to 512");
    CHECK_INT_EQ(fm_family_set(&spec, FM_FAMILY_LAYERS, 513, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "layers: 513 is not from 1 to 512");
    CHECK_UINT_EQ(spec.values[FM_FAMILY_LAYERS], 0);
    struct fm_onnx_graph graph;
    spec.values[FM_FAMILY_HIDDEN] = 65537;
    CHECK_INT_EQ(fm_family_build(&spec, &graph, NULL, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "hidden: 65537 is not from 1 to 65536");
    spec = spec_of("cnn kernel=4");
    CHECK_INT_EQ(fm_family_build(&spec, &graph, NULL, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "kernel: 4 is even");
    spec = spec_of("transformer hidden=100 heads=8");
    CHECK_INT_EQ(fm_family_build(&spec, &graph, NULL, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "heads: hidden, 100, is not a multiple of 8");
    CHECK_INT_EQ(fm_family_parse("cmn"), FM_FAMILY_COUNT_);
    CHECK_INT_EQ(fm_family_parameter_parse("depth"), FM_FAMILY_PARAMETER_COUNT_);
}

/* Each at the limits of all its parameters: refused for its size, and nothing overflows. */
TEST(models_that_no_file_holds)
{
    for (int family = 0; family < FM_FAMILY_COUNT_; family++) {
        struct fm_family_spec spec = {.family = (enum fm_family)family};
        for (int i = 0; i < FM_FAMILY_PARAMETER_COUNT_; i++) {
            if (fm_family_default(spec.family, (enum fm_family_parameter)i) > 0) {
                spec.values[i] = fm_family_parameter_max((enum fm_family_parameter)i);
            }
        }
        struct fm_onnx_graph graph;
        struct fm_error error = {0};
        CHECK_INT_EQ(fm_family_build(&spec, &graph, NULL, &error), FM_ETOOLARGE);
        CHECK_STR_CONTAINS(error.text, "an ONNX file ends at 2 GiB: give it fewer or smaller");
    }
    struct fm_family_spec spec = spec_of("mlp layers=1 hidden=1000 inputs=500000 outputs=10");
    struct fm_onnx_graph graph;
    uint64_t bytes = 0;
    CHECK_INT_EQ(fm_family_build(&spec, &graph, &bytes, NULL), 0);
    CHECK(bytes > 2000000000 && bytes <= FM_ONNX_BYTES_MAX);
    fm_onnx_graph_deinit(&graph);
}

TEST(memory_that_fails)
{
    static const char *const words[] = {"dlrm tables=200 rows=5", "transformer layers=1",
                                        "lstm layers=2", "cnn layers=3"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        struct fm_family_spec spec = spec_of(words[i]);
        struct fm_onnx_graph graph;
        int status = FM_ENOMEM;
        for (uint64_t n = 1; status != 0; n++) {
            CHECK(n < 10000);
            (void)fm_memory_fail_at(n, 0);
            status = fm_family_build(&spec, &graph, NULL, NULL);
            (void)fm_memory_fail_at(0, 0);
            CHECK(status == 0 || status == FM_ENOMEM);
        }
        fm_onnx_graph_deinit(&graph);
    }
}

TEST_MAIN()
