/*
 * Tests of the client library, through its header, against a server in the same process and against
 * one that answers nonsense: both protocols, all calls, many requests under way, time limits,
 * cancelling, closing, streams, mistakes.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/util/memory.h"
#include "fermata/client.h"
#include "fermata/server.h"
#include "host/os/file.h"
#include "host/os/os.h"
#include "host/os/thread.h"
#include "tests/harness/test.h"

#define MILLISECOND UINT64_C(1000000)
#define SECOND      UINT64_C(1000000000)
#define LONG        (60 * SECOND)

/* --- a server ----------------------------------------------------------------------------------
 */

static char base[64];
static char folder[96]; /* the repository */
static struct fm_server *server;
static char urls[4][128]; /* http, grpc, and both over Unix sockets */

static int remove_one(const char *path, const struct stat *facts, int kind, struct FTW *place)
{
    (void)facts;
    (void)kind;
    (void)place;
    return remove(path);
}

static void all_end(void)
{
    struct fm_error error = {0};
    if (fm_server_stop(server, LONG, &error) == 0) {
        fm_server_free(server);
    }
    (void)nftw(base, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void put_model(const char *name, const char *text)
{
    char path[256];
    struct fm_error error = {0};
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    int status = fm_file_make_directories(path, &error);
    (void)snprintf(path, sizeof(path), "%s/%s/model.yaml", folder, name);
    if (status != 0 || fm_file_write_atomic(path, text, strlen(text), &error) != 0) {
        abort();
    }
}

static void models_make(void)
{
    (void)snprintf(base, sizeof(base), "/tmp/fm-client-XXXXXX");
    if (mkdtemp(base) == NULL) {
        abort();
    }
    (void)snprintf(folder, sizeof(folder), "%s/models", base);
    put_model("numbers",
              "backend: identity\nmax_batch_size: 8\nsettings: {inputs: 'x:FP32[-1,-1]'}\n");
    put_model("mixed", "backend: identity\nmax_batch_size: 0\nsettings: {inputs: "
                       "'s:BYTES[-1], i:INT64[2], h:FP16[2], b:BOOL[2]'}\n");
    put_model("slow",
              "backend: emulated\nmax_batch_size: 4\nsettings: {inputs: 'x:FP32[-1,2]', outputs: "
              "'y:FP32[-1,2]', alpha: '0', beta: '100ms'}\n");
}

/* One server for all tests of the process, which is one test's where each runs alone. */
static void start(void)
{
    static const char *const options[][2] = {
        {"accelerators", "2"},  {"http-port", "0"},         {"grpc-port", "0"},
        {"no-measure", NULL},   {"load-model", "*"},        {"model-control-mode", "explicit"},
        {"no-admission", NULL}, {"allow-client-shm", NULL},
    };
    struct fm_server_options *made = NULL;
    struct fm_error error = {0};
    if (server != NULL) {
        return;
    }
    models_make();
    int status = fm_server_options_create(&made, &error);
    status = status != 0 ? status : fm_server_options_add_path(made, folder, &error);
    for (size_t i = 0; status == 0 && i < sizeof(options) / sizeof(options[0]); i++) {
        status = fm_server_options_set(made, options[i][0], options[i][1], &error);
    }
    (void)snprintf(urls[2], sizeof(urls[2]), "unix:%s/http.socket", base);
    (void)snprintf(urls[3], sizeof(urls[3]), "grpc+unix:%s/grpc.socket", base);
    status = status != 0 ? status : fm_server_options_set(made, "unix-socket", urls[2] + 5, &error);
    status = status != 0 ? status
                         : fm_server_options_set(made, "grpc-unix-socket", urls[3] + 10, &error);
    status = status != 0 ? status : fm_server_start(made, &server, &error);
    fm_server_options_free(made);
    if (status != 0) {
        (void)fprintf(stderr, "# %s\n", error.text);
        abort();
    }
    (void)snprintf(urls[0], sizeof(urls[0]), "http://127.0.0.1:%u",
                   (unsigned)fm_server_port(server, "http"));
    (void)snprintf(urls[1], sizeof(urls[1]), "grpc://127.0.0.1:%u",
                   (unsigned)fm_server_port(server, "grpc"));
    (void)atexit(all_end);
}

static struct fm_client *open_client(const char *url, const struct fm_client_options *options)
{
    struct fm_client *client = NULL;
    struct fm_error error = {0};
    if (fm_client_open(url, options, &client, &error) != 0) {
        (void)fprintf(stderr, "# %s\n", error.text);
        abort();
    }
    return client;
}

static struct fm_client_input numbers_input(float *numbers, int64_t rows, int64_t columns)
{
    return (struct fm_client_input){.name = "x",
                                    .tensor = {.dtype = FM_DTYPE_FP32,
                                               .rank = 2,
                                               .shape = {rows, columns},
                                               .data = numbers,
                                               .size = (size_t)(rows * columns) * sizeof(float)}};
}

static struct fm_client_request request_for(const char *model, const struct fm_client_input *input)
{
    return (struct fm_client_request){.struct_size = sizeof(struct fm_client_request),
                                      .model = model,
                                      .inputs = input,
                                      .input_count = 1};
}

/* --- every call, every way ---------------------------------------------------------------------
 */

static void ask_for_state(struct fm_client *client)
{
    struct fm_error error = {0};
    char *text = NULL;
    bool yes = false;
    CHECK_INT_EQ(fm_client_is_live(client, &yes, &error), 0);
    CHECK(yes);
    yes = false;
    CHECK_INT_EQ(fm_client_is_ready(client, &yes, &error), 0);
    CHECK(yes);
    yes = false;
    CHECK_INT_EQ(fm_client_model_is_ready(client, "numbers", "1", &yes, &error), 0);
    CHECK(yes);
    CHECK_INT_EQ(fm_client_model_is_ready(client, "nobody", NULL, &yes, &error), 0);
    CHECK(!yes);
    CHECK_INT_EQ(fm_client_server_metadata(client, &text, &error), 0);
    CHECK_STR_CONTAINS(text, "\"name\":\"fermata\"");
    fm_client_text_free(text);
    CHECK_INT_EQ(fm_client_model_metadata(client, "numbers", NULL, &text, &error), 0);
    CHECK_STR_CONTAINS(text, "\"name\":\"numbers\"");
    fm_client_text_free(text);
    CHECK_INT_EQ(fm_client_model_config(client, "numbers", NULL, &text, &error), 0);
    CHECK_STR_CONTAINS(text, "\"max_batch_size\":8");
    fm_client_text_free(text);
    CHECK_INT_EQ(fm_client_statistics(client, "numbers", "1", &text, &error), 0);
    CHECK_STR_CONTAINS(text, "\"model_stats\":[{\"name\":\"numbers\"");
    fm_client_text_free(text);
    CHECK_INT_EQ(fm_client_statistics(client, NULL, NULL, &text, &error), 0);
    CHECK_STR_CONTAINS(text, "slow");
    CHECK_STR_CONTAINS(text, "numbers");
    fm_client_text_free(text);
    CHECK_INT_EQ(fm_client_repository_index(client, true, &text, &error), 0);
    CHECK_STR_CONTAINS(text, "[{\"name\":");
    CHECK_STR_CONTAINS(text, "READY");
    fm_client_text_free(text);
    fm_client_text_free(NULL);
}

static void ask_for_model(struct fm_client *client)
{
    struct fm_error error = {0};
    struct fm_client_model *model = NULL;
    CHECK_INT_EQ(fm_client_model_get(client, "mixed", NULL, &model, &error), 0);
    CHECK_STR_EQ(model->name, "mixed");
    CHECK_UINT_EQ(model->input_count, 4);
    CHECK_UINT_EQ(model->output_count, 4);
    CHECK_STR_EQ(model->inputs[1].name, "i");
    CHECK_UINT_EQ(model->inputs[1].dtype, FM_DTYPE_INT64);
    CHECK_INT_EQ(model->inputs[1].rank, 1);
    CHECK_INT_EQ(model->inputs[1].shape[0], 2);
    CHECK_INT_EQ(model->inputs[0].shape[0], -1);
    fm_client_model_free(model);
    fm_client_model_free(NULL);
    model = NULL;
    CHECK_INT_EQ(fm_client_model_get(client, "nobody", NULL, &model, &error), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "reading the metadata of model 'nobody' at ");
    CHECK_PTR_EQ(model, NULL);
}

static void change_repository(struct fm_client *client)
{
    struct fm_error error = {0};
    bool yes = true;
    CHECK_INT_EQ(fm_client_model_unload(client, "mixed", false, &error), 0);
    CHECK_INT_EQ(fm_client_model_is_ready(client, "mixed", NULL, &yes, &error), 0);
    CHECK(!yes);
    CHECK_INT_EQ(fm_client_model_load(client, "mixed", NULL, &error), 0);
    CHECK_INT_EQ(fm_client_model_is_ready(client, "mixed", NULL, &yes, &error), 0);
    CHECK(yes);
    int status = fm_client_model_load(client, "nobody", NULL, &error);
    CHECK(status == FM_ENOTFOUND || status == FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "loading model 'nobody' at ");
    CHECK_INT_EQ(fm_client_model_load(client, "", NULL, &error), FM_EINVAL);
}

static void infer_numbers(struct fm_client *client)
{
    struct fm_error error = {0};
    struct fm_client_result *result = NULL;
    float numbers[] = {1, -2.5f, 3e8f};
    const struct fm_client_input input = numbers_input(numbers, 1, 3);
    struct fm_client_request request = request_for("numbers", &input);
    request.id = "an id";
    request.version = "1";
    request.priority = 1;
    request.timeout_ns = LONG;
    CHECK_INT_EQ(fm_client_infer(client, &request, &result, &error), 0);
    CHECK_STR_EQ(error.text, "");
    CHECK_STR_EQ(fm_client_result_id(result), "an id");
    CHECK_STR_EQ(fm_client_result_model(result), "numbers");
    CHECK_STR_EQ(fm_client_result_version(result), "1");
    CHECK_UINT_EQ(fm_client_result_count(result), 1);
    CHECK_STR_EQ(fm_client_result_name(result, 0), "out_x");
    CHECK_PTR_EQ(fm_client_result_name(result, 1), NULL);
    const struct fm_tensor *output = fm_client_result_output(result, 0);
    CHECK_PTR_EQ(fm_client_result_find(result, "out_x"), output);
    CHECK_PTR_EQ(fm_client_result_find(result, "y"), NULL);
    CHECK_PTR_EQ(fm_client_result_output(result, 1), NULL);
    CHECK_UINT_EQ(output->rank, 2);
    CHECK_INT_EQ(output->shape[1], 3);
    CHECK_UINT_EQ(output->size, sizeof(numbers));
    CHECK_MEM_EQ(output->data, numbers, sizeof(numbers));
    fm_client_result_free(result);
    fm_client_result_free(NULL);
}

static void infer_large(struct fm_client *client)
{
    enum { COLUMNS = 1 << 20 };
    struct fm_error error = {0};
    struct fm_client_result *result = NULL;
    float *numbers = malloc(COLUMNS * sizeof(float));
    CHECK(numbers != NULL);
    for (int i = 0; i < COLUMNS; i++) {
        numbers[i] = (float)i;
    }
    const struct fm_client_input input = numbers_input(numbers, 1, COLUMNS);
    const struct fm_client_request request = request_for("numbers", &input);
    CHECK_INT_EQ(fm_client_infer(client, &request, &result, &error), 0);
    const struct fm_tensor *output = fm_client_result_output(result, 0);
    CHECK_UINT_EQ((uintptr_t)output->data % sizeof(float), 0);
    CHECK_MEM_EQ(output->data, numbers, COLUMNS * sizeof(float));
    fm_client_result_free(result);
    free(numbers);
}

static void infer_mixed(struct fm_client *client, bool json)
{
    struct fm_error error = {0};
    struct fm_client_result *result = NULL;
    const struct fm_client_bytes words[] = {{"one", 3}, {"", 0}, {"dr\xc3\xa4i", 5}};
    int64_t integers[] = {INT64_MIN, INT64_MAX};
    uint16_t halves[] = {0x3c00, 0xc000};
    bool flags[] = {true, false};
    struct fm_tensor strings;
    CHECK_INT_EQ(fm_client_bytes_make(words, 3, &strings), 0);
    const struct fm_client_input inputs[] = {
        {.name = "s", .tensor = strings},
        {.name = "i", .tensor = {FM_DTYPE_INT64, 1, {2}, integers, sizeof(integers)}},
        {.name = "b", .tensor = {FM_DTYPE_BOOL, 1, {2}, flags, sizeof(flags)}},
        {.name = "h", .tensor = {FM_DTYPE_FP16, 1, {2}, halves, sizeof(halves)}},
    };
    const struct fm_client_output outputs[] = {{.name = "out_b"}, {.name = "out_s"}};
    struct fm_client_request request = request_for("mixed", inputs);
    request.input_count = 4;
    request.outputs = outputs;
    request.output_count = 2;
    int status = fm_client_infer(client, &request, &result, &error);
    if (json) {
        CHECK_INT_EQ(status, FM_EUNSUPPORTED);
        CHECK_STR_CONTAINS(error.text, "inference of model 'mixed': input 'h' is FP16, which has");
        fm_client_bytes_free(&strings);
        return;
    }
    CHECK_STR_EQ(error.text, "");
    CHECK_UINT_EQ(fm_client_result_count(result), 2);
    CHECK_STR_EQ(fm_client_result_name(result, 0), "out_b");
    const struct fm_tensor *output = fm_client_result_find(result, "out_s");
    struct fm_client_bytes word;
    size_t offset = 0;
    for (int i = 0; i < 3; i++) {
        CHECK_INT_EQ(fm_client_bytes_next(output, &offset, &word), 1);
        CHECK_UINT_EQ(word.size, words[i].size);
        CHECK_MEM_EQ(word.data, words[i].data, word.size);
    }
    CHECK_INT_EQ(fm_client_bytes_next(output, &offset, &word), 0);
    offset = 1;
    CHECK_INT_EQ(fm_client_bytes_next(output, &offset, &word), FM_ETYPE);
    offset = 0;
    CHECK_INT_EQ(fm_client_bytes_next(fm_client_result_output(result, 0), &offset, &word),
                 FM_ETYPE);
    fm_client_result_free(result);
    fm_client_bytes_free(&strings);
    fm_client_bytes_free(NULL);
}

static void infer_wrongly(struct fm_client *client)
{
    struct fm_error error = {0};
    struct fm_client_result *result = NULL;
    float numbers[] = {1, 2, 3};
    struct fm_client_input input = numbers_input(numbers, 1, 3);
    struct fm_client_request request = request_for("nobody", &input);
    CHECK_INT_EQ(fm_client_infer(client, &request, &result, &error), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "inference of model 'nobody' at ");
    CHECK_STR_CONTAINS(error.text, "127.0.0.1");
    request.model = "numbers";
    input.name = "z";
    CHECK_INT_EQ(fm_client_infer(client, &request, &result, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "'z'");
    input = numbers_input(numbers, 1, 4);
    input.tensor.size = sizeof(numbers);
    CHECK_INT_EQ(fm_client_infer(client, &request, &result, &error), FM_ETYPE);
    CHECK_STR_CONTAINS(error.text, "inference of model 'numbers': input 'x'");
    request.model = "";
    CHECK_INT_EQ(fm_client_infer(client, &request, &result, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "names no model");
    request.struct_size = 0;
    CHECK_INT_EQ(fm_client_infer(client, &request, &result, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "struct_size");
    request.struct_size = sizeof(request);
    request.inputs = NULL;
    CHECK_INT_EQ(fm_client_infer(client, &request, &result, &error), FM_EINVAL);
    CHECK_INT_EQ(fm_client_infer_start(client, &request, NULL, NULL, NULL, &error), FM_EINVAL);
    CHECK_INT_EQ(fm_client_infer(client, NULL, &result, NULL), FM_EINVAL);
    CHECK_PTR_EQ(result, NULL);
}

TEST(every_call_over_both_protocols)
{
    start();
    for (int i = 0; i < 4; i++) {
        struct fm_client *client = open_client(urls[i], NULL);
        ask_for_state(client);
        ask_for_model(client);
        change_repository(client);
        infer_numbers(client);
        infer_large(client);
        infer_mixed(client, false);
        if (i < 2) {
            infer_wrongly(client);
        }
        fm_client_close(client);
    }
    fm_client_close(NULL);
    CHECK_STR_EQ(fm_client_status_text(FM_EDEADLINE), "deadline exceeded");
    CHECK_STR_CONTAINS(fm_client_version(), ".");
}

TEST(tensors_as_json)
{
    const struct fm_client_options options = {.struct_size = sizeof(options), .json = 1};
    start();
    struct fm_client *client = open_client(urls[0], &options);
    infer_numbers(client);
    infer_mixed(client, true);
    fm_client_close(client);
}

TEST(requests_and_answers_compressed)
{
    start();
    for (uint32_t kind = FM_CLIENT_COMPRESSION_DEFLATE; kind <= FM_CLIENT_COMPRESSION_GZIP;
         kind++) {
        const struct fm_client_options options = {.struct_size = sizeof(options),
                                                  .compression = kind};
        for (int i = 0; i < 2; i++) {
            struct fm_client *client = open_client(urls[i], &options);
            infer_numbers(client);
            infer_large(client);
            infer_mixed(client, false);
            fm_client_close(client);
        }
    }
}

TEST(results_outlive_their_client)
{
    start();
    for (int i = 0; i < 2; i++) {
        struct fm_client *client = open_client(urls[i], NULL);
        struct fm_client_result *result = NULL;
        struct fm_error error = {0};
        float numbers[] = {1, 2};
        const struct fm_client_input input = numbers_input(numbers, 1, 2);
        const struct fm_client_request request = request_for("numbers", &input);
        CHECK_INT_EQ(fm_client_infer(client, &request, &result, &error), 0);
        fm_client_close(client);
        CHECK_MEM_EQ(fm_client_result_output(result, 0)->data, numbers, sizeof(numbers));
        fm_client_result_free(result);
    }
}

/* --- shared memory -----------------------------------------------------------------------------
 */

TEST(tensors_in_shared_memory)
{
    start();
    char name[64];
    float numbers[] = {1, 2, 3, 4};
    (void)snprintf(name, sizeof(name), "/fm-client-%d", (int)getpid());
    int descriptor = shm_open(name, O_CREAT | O_RDWR | O_EXCL, 0600);
    CHECK(descriptor >= 0 && ftruncate(descriptor, 4096) == 0);
    char *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    CHECK(memory != MAP_FAILED);
    memcpy(memory, numbers, sizeof(numbers));
    for (int i = 0; i < 2; i++) {
        struct fm_client *client = open_client(urls[i], NULL);
        struct fm_client_result *result = NULL;
        struct fm_error error = {0};
        char *text = NULL;
        struct fm_client_input input = numbers_input(NULL, 2, 2);
        input.region = "mine";
        const struct fm_client_output output = {
            .name = "out_x", .region = "mine", .region_offset = 1024, .region_size = 64};
        struct fm_client_request request = request_for("numbers", &input);
        request.outputs = &output;
        request.output_count = 1;
        memset(memory + 1024, 0, 64);
        CHECK_INT_EQ(fm_client_region_register(client, "mine", name, 0, 4096, &error), 0);
        CHECK_INT_EQ(fm_client_region_status(client, NULL, &text, &error), 0);
        CHECK_STR_CONTAINS(text, "\"name\":\"mine\"");
        fm_client_text_free(text);
        CHECK_INT_EQ(fm_client_infer(client, &request, &result, &error), 0);
        CHECK_STR_EQ(error.text, "");
        CHECK_MEM_EQ(memory + 1024, numbers, sizeof(numbers));
        CHECK_PTR_EQ(fm_client_result_output(result, 0)->data, NULL);
        fm_client_result_free(result);
        CHECK_INT_EQ(fm_client_region_unregister(client, "mine", &error), 0);
        CHECK_INT_EQ(fm_client_infer(client, &request, &result, &error), FM_EINVAL);
        CHECK_STR_CONTAINS(error.text, "mine");
        fm_client_close(client);
    }
    (void)munmap(memory, 4096);
    (void)close(descriptor);
    (void)shm_unlink(name);
}

/* --- many under way ----------------------------------------------------------------------------
 */

enum { THREADS = 4, CALLS = 400 };

struct tally {
    struct fm_client *client;
    const char *model;
    uint64_t timeout_ns;
    _Atomic uint32_t started;
    _Atomic uint32_t good;
    _Atomic uint32_t wrong; /* answers of somebody else */
    _Atomic uint32_t failed;
    _Atomic int status; /* of one that failed */
    _Atomic uint32_t waited_in_callback;
};

struct sent {
    struct tally *tally;
    float numbers[2];
};

static void on_answer(void *context, int status, struct fm_client_result *result,
                      const struct fm_error *error)
{
    struct sent *sent = context;
    struct tally *tally = sent->tally;
    bool ready = false;
    if (fm_client_is_ready(tally->client, &ready, NULL) == FM_EINVAL) {
        atomic_fetch_add(&tally->waited_in_callback, 1);
    }
    if (status != 0) {
        atomic_store(&tally->status, error->text[0] != 0 ? status : 1);
        atomic_fetch_add(&tally->failed, 1);
    } else {
        const void *data = fm_client_result_output(result, 0)->data;
        bool same = memcmp(data, sent->numbers, sizeof(sent->numbers)) == 0;
        atomic_fetch_add(same ? &tally->good : &tally->wrong, 1);
    }
    fm_client_result_free(result);
    free(sent);
}

static int send_one(struct tally *tally, float first, float second, uint64_t *ret_call)
{
    struct sent *sent = malloc(sizeof(*sent));
    if (sent == NULL) {
        abort();
    }
    *sent = (struct sent){tally, {first, second}};
    const struct fm_client_input input = numbers_input(sent->numbers, 1, 2);
    struct fm_client_request request = request_for(tally->model, &input);
    request.timeout_ns = tally->timeout_ns;
    int status = fm_client_infer_start(tally->client, &request, on_answer, sent, ret_call, NULL);
    if (status != 0) {
        free(sent);
    } else {
        atomic_fetch_add(&tally->started, 1);
    }
    return status;
}

static void send_many(void *argument)
{
    struct tally *tally = argument;
    for (int i = 0; i < CALLS; i++) {
        if (send_one(tally, (float)i, (float)((uintptr_t)&i % 1048576), NULL) != 0) {
            abort();
        }
    }
}

static uint32_t ended(struct tally *tally)
{
    return atomic_load(&tally->good) + atomic_load(&tally->wrong) + atomic_load(&tally->failed);
}

static void wait_ended(struct tally *tally, uint32_t count)
{
    while (ended(tally) < count) {
        fm_sleep_until(fm_os_now_ns() + MILLISECOND / 10);
    }
}

TEST(threads_get_their_own_answers)
{
    start();
    for (int i = 0; i < 2; i++) {
        struct tally tally = {.client = open_client(urls[i], NULL), .model = "numbers"};
        struct fm_thread threads[THREADS] = {0};
        for (int k = 0; k < THREADS; k++) {
            CHECK_INT_EQ(fm_thread_start(&threads[k], "sender", send_many, &tally), 0);
        }
        for (int k = 0; k < THREADS; k++) {
            fm_thread_join(&threads[k]);
        }
        wait_ended(&tally, THREADS * CALLS);
        CHECK_UINT_EQ(tally.failed, 0);
        CHECK_UINT_EQ(tally.wrong, 0);
        CHECK_UINT_EQ(tally.waited_in_callback, THREADS * CALLS);
        fm_client_close(tally.client);
    }
}

TEST(closing_ends_what_is_under_way)
{
    start();
    for (int i = 0; i < 2; i++) {
        struct tally tally = {.client = open_client(urls[i], NULL), .model = "slow"};
        for (int k = 0; k < 100; k++) {
            CHECK_INT_EQ(send_one(&tally, 0, 0, NULL), 0);
        }
        fm_client_close(tally.client);
        CHECK_UINT_EQ(ended(&tally), 100);
        CHECK(tally.failed > 0);
        CHECK_INT_EQ(tally.status, FM_ECANCELLED);
    }
}

TEST(calls_are_cancelled_one_by_one)
{
    start();
    for (int i = 0; i < 2; i++) {
        struct tally tally = {.client = open_client(urls[i], NULL), .model = "slow"};
        uint64_t calls[50];
        for (int k = 0; k < 50; k++) {
            CHECK_INT_EQ(send_one(&tally, 0, 0, &calls[k]), 0);
        }
        for (int k = 0; k < 50; k++) {
            fm_client_cancel(tally.client, calls[k]);
            fm_client_cancel(tally.client, calls[k]);
        }
        wait_ended(&tally, 50);
        CHECK(tally.failed > 0);
        CHECK_INT_EQ(tally.status, FM_ECANCELLED);
        /* They are over, and so are their names; the client is as good as before. */
        for (int k = 0; k < 50; k++) {
            fm_client_cancel(tally.client, calls[k]);
        }
        fm_client_cancel(tally.client, 0);
        fm_client_cancel(tally.client, UINT64_MAX);
        infer_numbers(tally.client);
        CHECK_UINT_EQ(ended(&tally), 50);
        fm_client_close(tally.client);
    }
}

TEST(time_limits_are_kept)
{
    start();
    for (int i = 0; i < 2; i++) {
        struct tally tally = {
            .client = open_client(urls[i], NULL), .model = "slow", .timeout_ns = 10 * MILLISECOND};
        for (int k = 0; k < 20; k++) {
            CHECK_INT_EQ(send_one(&tally, 0, 0, NULL), 0);
        }
        wait_ended(&tally, 20);
        CHECK_UINT_EQ(tally.failed, 20);
        /* Who notices first is a matter of microseconds: REST has no status of its own for it. */
        CHECK(tally.status == FM_EDEADLINE || (i == 0 && tally.status == FM_EUNAVAILABLE));
        fm_client_close(tally.client);
        /* The client's own limit, for calls that have none. */
        const struct fm_client_options options = {.struct_size = sizeof(options),
                                                  .timeout_ns = MILLISECOND};
        struct fm_client *client = open_client(urls[i], &options);
        struct fm_client_result *result = NULL;
        struct fm_error error = {0};
        float numbers[] = {1, 2};
        const struct fm_client_input input = numbers_input(numbers, 1, 2);
        const struct fm_client_request request = request_for("slow", &input);
        int status = fm_client_infer(client, &request, &result, &error);
        CHECK(status == FM_EDEADLINE || (i == 0 && status == FM_EUNAVAILABLE));
        fm_client_close(client);
    }
}

TEST(no_more_than_wanted_are_under_way)
{
    start();
    const struct fm_client_options options = {.struct_size = sizeof(options), .requests_max = 3};
    for (int i = 0; i < 2; i++) {
        struct tally tally = {.client = open_client(urls[i], &options), .model = "slow"};
        int status = 0;
        for (int k = 0; k < 3; k++) {
            CHECK_INT_EQ(send_one(&tally, 0, 0, NULL), 0);
        }
        /* On a machine that stands still meanwhile, some are answered. */
        for (int k = 0; k < 1000 && status == 0; k++) {
            status = send_one(&tally, 0, 0, NULL);
        }
        CHECK_INT_EQ(status, FM_EAGAIN);
        wait_ended(&tally, atomic_load(&tally.started));
        /* The last one is over when its callback has returned. */
        do {
            status = send_one(&tally, 0, 0, NULL);
        } while (status == FM_EAGAIN);
        CHECK_INT_EQ(status, 0);
        fm_client_close(tally.client);
    }
}

/* --- streams -----------------------------------------------------------------------------------
 */

enum { STREAMED = 300 };

struct talk {
    _Atomic uint32_t answered;
    _Atomic uint32_t good;
    _Atomic uint32_t refused;
    _Atomic bool over;
    int status;
    char refused_id[16];
    struct fm_error refusal;
};

static void talk_answer(void *context, int status, struct fm_client_result *result,
                        const struct fm_error *error)
{
    struct talk *talk = context;
    if (status != 0) {
        (void)snprintf(talk->refused_id, sizeof(talk->refused_id), "%s",
                       result != NULL ? fm_client_result_id(result) : "");
        talk->refusal = *error;
        atomic_fetch_add(&talk->refused, 1);
    } else {
        const float *data = fm_client_result_output(result, 0)->data;
        atomic_fetch_add(&talk->good, data[0] == strtof(fm_client_result_id(result), NULL) ? 1 : 0);
    }
    fm_client_result_free(result);
    atomic_fetch_add(&talk->answered, 1);
}

static void talk_ended(void *context, int status, const struct fm_error *error)
{
    struct talk *talk = context;
    talk->status = error->status == status ? status : 1;
    atomic_store(&talk->over, true);
}

static struct fm_client_stream *talk_open(struct fm_client *client, struct talk *talk)
{
    struct fm_client_stream *stream = NULL;
    struct fm_error error = {0};
    const struct fm_client_stream_options options = {.struct_size = sizeof(options),
                                                     .context = talk,
                                                     .answer = talk_answer,
                                                     .ended = talk_ended};
    if (fm_client_stream_open(client, &options, &stream, &error) != 0) {
        abort();
    }
    return stream;
}

static int talk_send(struct fm_client_stream *stream, const char *model, int number)
{
    char id[16];
    float numbers[] = {(float)number, 0};
    const struct fm_client_input input = numbers_input(numbers, 1, 2);
    struct fm_client_request request = request_for(model, &input);
    (void)snprintf(id, sizeof(id), "%d", number);
    request.id = id;
    return fm_client_stream_send(stream, &request, NULL);
}

TEST(a_stream_of_requests_and_answers)
{
    start();
    for (uint32_t kind = 0; kind <= FM_CLIENT_COMPRESSION_GZIP; kind += 2) {
        const struct fm_client_options options = {.struct_size = sizeof(options),
                                                  .compression = kind};
        struct fm_client *client = open_client(urls[1], &options);
        struct talk talk = {0};
        struct fm_client_stream *stream = talk_open(client, &talk);
        for (int i = 0; i < STREAMED; i++) {
            CHECK_INT_EQ(talk_send(stream, i == 7 ? "nobody" : "numbers", i), 0);
        }
        fm_client_stream_finish(stream);
        fm_client_stream_finish(stream);
        CHECK_INT_EQ(talk_send(stream, "numbers", 1), FM_EUNAVAILABLE);
        while (!atomic_load(&talk.over)) {
            fm_sleep_until(fm_os_now_ns() + MILLISECOND / 10);
        }
        CHECK_UINT_EQ(talk.answered, STREAMED);
        CHECK_UINT_EQ(talk.refused, 1);
        CHECK_UINT_EQ(talk.good, STREAMED - 1);
        CHECK_INT_EQ(talk.status, 0);
        CHECK_STR_EQ(talk.refused_id, "7");
        CHECK_STR_CONTAINS(talk.refusal.text, "streaming inference at grpc://");
        CHECK_STR_CONTAINS(talk.refusal.text, "nobody");
        CHECK_INT_EQ(talk_send(stream, "numbers", 1), FM_EUNAVAILABLE);
        fm_client_stream_close(stream);
        fm_client_close(client);
    }
}

TEST(a_stream_that_is_closed_early)
{
    start();
    struct fm_client *client = open_client(urls[1], NULL);
    struct fm_error error = {0};
    for (int i = 0; i < 20; i++) {
        struct talk talk = {0};
        struct fm_client_stream *stream = talk_open(client, &talk);
        for (int k = 0; k < i; k++) {
            CHECK_INT_EQ(talk_send(stream, "slow", k), 0);
        }
        fm_client_stream_close(stream);
        CHECK(talk.over);
        CHECK_INT_EQ(talk.status, FM_ECANCELLED);
    }
    fm_client_stream_close(NULL);
    infer_numbers(client);
    fm_client_close(client);
    const struct fm_client_stream_options options = {.struct_size = sizeof(options),
                                                     .answer = talk_answer};
    struct fm_client_stream *stream = NULL;
    client = open_client(urls[0], NULL);
    CHECK_INT_EQ(fm_client_stream_open(client, &options, &stream, &error), FM_EUNSUPPORTED);
    CHECK_STR_CONTAINS(error.text, "REST has no streams");
    CHECK_INT_EQ(fm_client_stream_open(client, NULL, &stream, &error), FM_EINVAL);
    fm_client_close(client);
}

/* --- mistakes ----------------------------------------------------------------------------------
 */

TEST(urls_and_options_that_are_wrong)
{
    static const char *const bad[] = {"",
                                      "localhost:8000",
                                      "ftp://localhost",
                                      "http://",
                                      "http://:1",
                                      "http://localhost:0",
                                      "http://localhost:65536",
                                      "http://localhost:x",
                                      "grpc://[::1",
                                      "unix:",
                                      "grpc://localhost/prefix"};
    struct fm_client *client = NULL;
    struct fm_error error = {0};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        error = (struct fm_error){0};
        CHECK_INT_EQ(fm_client_open(bad[i], NULL, &client, &error), FM_EINVAL);
        CHECK(error.text[0] != '\0');
    }
    CHECK_INT_EQ(fm_client_open(NULL, NULL, &client, &error), FM_EINVAL);
    const struct fm_setting broken = {"good", "two\r\nlines"};
    const struct fm_client_options wrong[] = {
        {.struct_size = 0},
        {.struct_size = sizeof(wrong[0]), .connections = FM_CLIENT_CONNECTIONS_MAX + 1},
        {.struct_size = sizeof(wrong[0]), .compression = 9},
        {.struct_size = sizeof(wrong[0]), .token = "a\nb"},
        {.struct_size = sizeof(wrong[0]), .headers = &broken, .header_count = 1},
        {.struct_size = sizeof(wrong[0]), .header_count = FM_CLIENT_HEADERS_MAX + 1},
        {.struct_size = sizeof(wrong[0]), .key_path = "/nowhere/key.pem"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        error = (struct fm_error){0};
        CHECK_INT_EQ(fm_client_open("http://localhost", &wrong[i], &client, &error), FM_EINVAL);
        CHECK(error.text[0] != '\0');
    }
    const struct fm_client_options authority = {.struct_size = sizeof(authority),
                                                .ca_path = "/nowhere/ca.pem"};
    CHECK_INT_EQ(fm_client_open("grpcs://localhost", &authority, &client, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "/nowhere/ca.pem");
    CHECK_PTR_EQ(client, NULL);
}

TEST(nobody_is_there)
{
    static const char *const nowhere[] = {"http://127.0.0.1:1", "grpc://127.0.0.1:1",
                                          "unix:/nowhere/socket"};
    for (size_t i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++) {
        struct fm_client *client = open_client(nowhere[i], NULL);
        struct fm_error error = {0};
        bool yes = false;
        CHECK_INT_EQ(fm_client_is_live(client, &yes, &error), FM_EUNAVAILABLE);
        CHECK_STR_CONTAINS(error.text, "asking whether the server lives at ");
        CHECK_STR_CONTAINS(error.text, "cannot connect");
        fm_client_close(client);
    }
}

TEST(protocols_mixed_up)
{
    start();
    char url[128];
    struct fm_error error = {0};
    bool yes = false;
    (void)snprintf(url, sizeof(url), "grpc%.100s", urls[0] + 4);
    struct fm_client *client = open_client(url, NULL);
    CHECK_INT_EQ(fm_client_is_live(client, &yes, &error), FM_ECORRUPT);
    CHECK_STR_CONTAINS(error.text, "it may be the port of REST");
    fm_client_close(client);
    (void)snprintf(url, sizeof(url), "http%.100s", urls[1] + 4);
    client = open_client(url, NULL);
    CHECK_INT_NE(fm_client_is_live(client, &yes, &error), 0);
    CHECK_STR_CONTAINS(error.text, "gRPC");
    fm_client_close(client);
}

/* Opening a client with every allocation failing in turn. */
TEST(memory_runs_out_while_opening)
{
    const struct fm_setting header = {"x-a", "b"};
    const struct fm_client_options options = {.struct_size = sizeof(options),
                                              .token = "t",
                                              .headers = &header,
                                              .header_count = 1,
                                              .compression = FM_CLIENT_COMPRESSION_GZIP};
    for (int i = 0; i < 2; i++) {
        int status = FM_ENOMEM;
        uint64_t at = 0;
        while (status != 0) {
            struct fm_client *client = NULL;
            struct fm_error error = {0};
            (void)fm_memory_fail_at(++at, 0);
            status = fm_client_open(i == 0 ? "http://127.0.0.1:1" : "grpc://127.0.0.1:1", &options,
                                    &client, &error);
            (void)fm_memory_fail_at(0, 0);
            CHECK(status == 0 || (status == FM_ENOMEM && client == NULL));
            CHECK(status == 0 || error.text[0] != '\0');
            fm_client_close(client);
        }
        CHECK(at > 3);
    }
}

/* --- servers that answer nonsense --------------------------------------------------------------
 */

struct fake {
    int listener;
    const char *answer;
};

/* Answers one request of each of two connections, whatever it is. */
static void fake_run(void *argument)
{
    const struct fake *fake = argument;
    char request[65536];
    int connection = accept(fake->listener, NULL, NULL);
    if (connection >= 0 && recv(connection, request, sizeof(request), 0) > 0) {
        (void)send(connection, fake->answer, strlen(fake->answer), MSG_NOSIGNAL);
    }
    (void)close(connection);
}

static int fake_infer(const char *answer, struct fm_error *error)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(address);
    struct fake fake = {socket(AF_INET, SOCK_STREAM, 0), answer};
    struct fm_thread thread = {0};
    char url[64];
    if (bind(fake.listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(fake.listener, 8) != 0 ||
        getsockname(fake.listener, (struct sockaddr *)&address, &length) != 0 ||
        fm_thread_start(&thread, "fake", fake_run, &fake) != 0) {
        abort();
    }
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", (unsigned)ntohs(address.sin_port));
    const struct fm_client_options options = {.struct_size = sizeof(options),
                                              .answer_bytes_max = 1000};
    struct fm_client *client = open_client(url, &options);
    struct fm_client_result *result = NULL;
    float numbers[] = {1, 2};
    const struct fm_client_input input = numbers_input(numbers, 1, 2);
    const struct fm_client_request request = request_for("m", &input);
    int status = fm_client_infer(client, &request, &result, error);
    fm_client_result_free(result);
    fm_client_close(client);
    fm_thread_join(&thread);
    (void)close(fake.listener);
    return status;
}

#define HEAD   "HTTP/1.1 200 OK\r\nConnection: close\r\n"
#define MODEL  "{\"model_name\":\"m\",\"outputs\":["
#define BINARY "Inference-Header-Content-Length: "

TEST(answers_that_make_no_sense)
{
    static const struct {
        const char *answer;
        int status;
        const char *words;
    } cases[] = {
        {HEAD "\r\n" MODEL "{\"name\":\"y\",\"shape\":[2],\"datatype\":\"INT32\",\"data\":[1,2]}]}",
         0, ""},
        {"SMTP ready\r\n", FM_ECORRUPT, "no HTTP/1.1"},
        {"", FM_EUNAVAILABLE, "broke before the server answered"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", FM_EUNAVAILABLE,
         "in the middle of the answer"},
        {HEAD "Content-Length: 5000\r\n\r\n{", FM_ETOOLARGE, "larger than the client takes"},
        {HEAD "\r\n", FM_ECORRUPT, ""},
        {HEAD "\r\n[]", FM_ECORRUPT, ""},
        {HEAD "\r\n" MODEL "{\"name\":\"y\"}]}", FM_ECORRUPT, "no shape"},
        {HEAD "\r\n" MODEL "{\"name\":\"y\",\"shape\":[3],\"datatype\":\"INT32\",\"data\":[1,2]}]}",
         FM_ECORRUPT, "'y'"},
        {HEAD
         "\r\n" MODEL
         "{\"name\":\"y\",\"shape\":[9223372036854775807],\"datatype\":\"INT32\",\"data\":[1]}]}",
         FM_ECORRUPT, "'y'"},
        {HEAD BINARY "9999\r\n\r\n" MODEL "]}", FM_ECORRUPT, ""},
        {HEAD BINARY "x\r\n\r\n" MODEL "]}", FM_ECORRUPT, "header field"},
        {HEAD BINARY "110\r\n\r\n" MODEL "{\"name\":\"y\",\"shape\":[2],\"datatype\":\"INT32\","
                     "\"parameters\":{\"binary_data_size\":8}}]}  1234",
         FM_ECORRUPT, "'y'"},
        {HEAD "Content-Encoding: gzip\r\n\r\nxyz", FM_ECORRUPT, "decompressed"},
        {"HTTP/1.1 404 No\r\nContent-Length: 15\r\n\r\n{\"error\":\"why\"}", FM_ENOTFOUND, ": why"},
        {"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", FM_EINTERNAL, "HTTP status 500"},
        {"HTTP/1.1 302 No\r\nContent-Length: 0\r\n\r\n", 0, "HTTP status 302"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct fm_error error = {0};
        int status = fake_infer(cases[i].answer, &error);
        CHECK_STR_CONTAINS(error.text, cases[i].words);
        if (cases[i].status != 0 || i == 0) {
            CHECK_INT_EQ(status, cases[i].status);
        } else {
            CHECK_INT_NE(status, 0);
        }
        CHECK(status == 0 || strstr(error.text, "inference of model 'm' at http:") != NULL);
    }
}

/* --- a server that breaks connections ----------------------------------------------------------
 */

enum { BREAKS_MAX = 8 };

/* What it does after its request number i: answers, with or without closing, or resets. */
enum act { ANSWER, ANSWER_AND_CLOSE, RESET };

struct breaker {
    int listener;
    char path[128]; /* a Unix socket, whose closing is seen at once; "": TCP */
    char url[160];
    struct fm_thread thread;
    enum act acts[BREAKS_MAX]; /* ANSWER, beyond those set */
    _Atomic uint32_t requests;
    _Atomic uint32_t connections; /* that were closed */
};

/* Reads one request to its end: GETs end with their head, others with JSON. */
static bool breaker_read(int connection)
{
    char request[65536];
    size_t size = 0;
    bool whole = false;
    while (!whole && size < sizeof(request)) {
        ssize_t got = recv(connection, request + size, sizeof(request) - size, 0);
        if (got <= 0) {
            return false;
        }
        size += (size_t)got;
        whole = request[0] == 'G' ? size > 4 && memcmp(request + size - 4, "\r\n\r\n", 4) == 0
                                  : request[size - 1] == '}';
    }
    return whole;
}

static void breaker_run(void *argument)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 87\r\n\r\n"
                                 "{\"model_name\":\"m\",\"outputs\":[{\"name\":\"y\","
                                 "\"shape\":[2],\"datatype\":\"INT32\",\"data\":[1,2]}]}";
    struct breaker *breaker = argument;
    const struct linger at_once = {.l_onoff = 1, .l_linger = 0};
    int connection = -1;
    while ((connection = accept(breaker->listener, NULL, NULL)) >= 0) {
        enum act act = ANSWER;
        while (act == ANSWER && breaker_read(connection)) {
            uint32_t number = atomic_fetch_add(&breaker->requests, 1);
            act = number < BREAKS_MAX ? breaker->acts[number] : ANSWER;
            if (act != RESET) {
                (void)send(connection, answer, sizeof(answer) - 1, MSG_NOSIGNAL);
            }
        }
        if (act == RESET) {
            /* As if it were at work with it: no quick failure that tells something. */
            fm_sleep_until(fm_os_now_ns() + 20 * MILLISECOND);
            (void)setsockopt(connection, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
        }
        (void)close(connection);
        atomic_fetch_add(&breaker->connections, 1);
    }
}

static void breaker_start(struct breaker *breaker)
{
    struct sockaddr_in tcp = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct sockaddr_un local = {.sun_family = AF_UNIX};
    socklen_t length = sizeof(tcp);
    bool is_local = breaker->path[0] != '\0';
    (void)snprintf(local.sun_path, sizeof(local.sun_path), "%.100s", breaker->path);
    breaker->listener = socket(is_local ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
    if (bind(breaker->listener, is_local ? (struct sockaddr *)&local : (struct sockaddr *)&tcp,
             is_local ? sizeof(local) : sizeof(tcp)) != 0 ||
        listen(breaker->listener, 8) != 0 ||
        (!is_local && getsockname(breaker->listener, (struct sockaddr *)&tcp, &length) != 0) ||
        fm_thread_start(&breaker->thread, "breaker", breaker_run, breaker) != 0) {
        abort();
    }
    if (is_local) {
        (void)snprintf(breaker->url, sizeof(breaker->url), "unix:%s", breaker->path);
    } else {
        (void)snprintf(breaker->url, sizeof(breaker->url), "http://127.0.0.1:%u",
                       (unsigned)ntohs(tcp.sin_port));
    }
}

/* After the client, whose connections it waits for. */
static void breaker_stop(struct breaker *breaker)
{
    (void)shutdown(breaker->listener, SHUT_RDWR);
    fm_thread_join(&breaker->thread);
    (void)close(breaker->listener);
    (void)unlink(breaker->path);
}

static struct fm_client *breaker_client(const struct breaker *breaker)
{
    const struct fm_client_options options = {
        .struct_size = sizeof(options), .connections = 1, .json = 1};
    return open_client(breaker->url, &options);
}

static int breaker_infer(struct fm_client *client, struct fm_error *error)
{
    struct fm_client_result *result = NULL;
    float numbers[] = {1, 2};
    const struct fm_client_input input = numbers_input(numbers, 1, 2);
    const struct fm_client_request request = request_for("m", &input);
    int status = fm_client_infer(client, &request, &result, error);
    fm_client_result_free(result);
    return status;
}

TEST(an_inference_that_may_have_run_is_not_sent_again)
{
    struct breaker breaker = {.acts = {ANSWER, RESET}};
    struct fm_error error = {0};
    breaker_start(&breaker);
    struct fm_client *client = breaker_client(&breaker);
    CHECK_INT_EQ(breaker_infer(client, &error), 0);
    CHECK_INT_EQ(breaker_infer(client, &error), FM_EUNAVAILABLE);
    CHECK_STR_CONTAINS(error.text, "broke before the server answered");
    CHECK_UINT_EQ(atomic_load(&breaker.requests), 2);
    CHECK_INT_EQ(breaker_infer(client, &error), 0);
    fm_client_close(client);
    breaker_stop(&breaker);
    CHECK_UINT_EQ(breaker.requests, 3);
    CHECK_UINT_EQ(breaker.connections, 2);
}

TEST(a_question_that_changes_nothing_is_asked_again)
{
    struct breaker breaker = {.acts = {ANSWER, RESET, ANSWER, RESET, RESET}};
    struct fm_error error = {0};
    bool yes = false;
    breaker_start(&breaker);
    struct fm_client *client = breaker_client(&breaker);
    CHECK_INT_EQ(fm_client_is_live(client, &yes, &error), 0);
    CHECK_INT_EQ(fm_client_is_live(client, &yes, &error), 0);
    CHECK(yes);
    CHECK_UINT_EQ(atomic_load(&breaker.requests), 3);
    /* But not on a connection that never brought an answer. */
    CHECK_INT_EQ(fm_client_is_live(client, &yes, &error), FM_EUNAVAILABLE);
    fm_client_close(client);
    breaker_stop(&breaker);
    CHECK_UINT_EQ(breaker.requests, 5);
}

TEST(a_connection_that_the_server_closed_meanwhile_is_not_used)
{
    struct breaker breaker = {.acts = {ANSWER_AND_CLOSE, ANSWER_AND_CLOSE, ANSWER_AND_CLOSE,
                                       ANSWER_AND_CLOSE, ANSWER_AND_CLOSE, ANSWER_AND_CLOSE}};
    char dir[] = "/tmp/fm-client-XXXXXX";
    struct fm_error error = {0};
    CHECK(mkdtemp(dir) != NULL);
    (void)snprintf(breaker.path, sizeof(breaker.path), "%s/socket", dir);
    breaker_start(&breaker);
    struct fm_client *client = breaker_client(&breaker);
    for (uint32_t i = 0; i < 7; i++) {
        CHECK_INT_EQ(breaker_infer(client, &error), 0);
        while (i < 6 && atomic_load(&breaker.connections) <= i) {
            fm_sleep_until(fm_os_now_ns() + MILLISECOND / 100);
        }
    }
    fm_client_close(client);
    breaker_stop(&breaker);
    (void)rmdir(dir);
    CHECK_UINT_EQ(breaker.requests, 7);
    CHECK_UINT_EQ(breaker.connections, 7);
}

TEST_MAIN()
