/*
 * Tests of the server inside another program, through the header that such a program includes:
 * starting and stopping, inferences from many threads, cancelling, unloading meanwhile, mistakes,
 * and that clients of the network get the same answers in the same words.
 */
#include <arpa/inet.h>
#include <ftw.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/util/memory.h"
#include "fermata/server.h"
#include "host/os/file.h"
#include "host/os/os.h"
#include "host/os/thread.h"
#include "tests/harness/test.h"

#define MILLISECOND UINT64_C(1000000)
#define SECOND      UINT64_C(1000000000)
#define LONG        (60 * SECOND)

/* --- models ------------------------------------------------------------------------------------
 */

static char base[64];
static char folder[96]; /* the repository */

static int remove_one(const char *path, const struct stat *facts, int kind, struct FTW *place)
{
    (void)facts;
    (void)kind;
    (void)place;
    return remove(path);
}

static void models_remove(void)
{
    (void)nftw(base, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static void put_model(const char *name, const char *file, const char *text)
{
    char path[256];
    struct fm_error error = {0};
    (void)snprintf(path, sizeof(path), "%s/%s", base, name);
    int status = fm_file_make_directories(path, &error);
    (void)snprintf(path, sizeof(path), "%s/%s/%s", base, name, file);
    if (status != 0 || fm_file_write_atomic(path, text, strlen(text), &error) != 0) {
        abort();
    }
}

static void models_make(void)
{
    if (folder[0] != '\0') {
        return;
    }
    (void)snprintf(base, sizeof(base), "/tmp/fm-embedded-XXXXXX");
    if (mkdtemp(base) == NULL) {
        abort();
    }
    (void)snprintf(folder, sizeof(folder), "%s/models", base);
    (void)atexit(models_remove);
    put_model("models/numbers", "model.yaml",
              "backend: identity\nmax_batch_size: 8\nsettings: {inputs: 'x:FP32[-1,2]'}\n");
    put_model("models/slow", "model.yaml",
              "backend: emulated\nmax_batch_size: 4\nsettings: {inputs: 'x:FP32[-1,2]', outputs: "
              "'y:FP32[-1,2]', alpha: '0', beta: '20ms'}\n");
    put_model("models/chain", "pipeline.yaml",
              "inputs: [{name: x, dtype: FP32, shape: [2]}]\n"
              "stages:\n"
              "  - {name: even, operator: softmax, inputs: x}\n"
              "outputs: {y: even}\n");
}

/* --- servers -----------------------------------------------------------------------------------
 */

/* Options come in pairs, ended by NULL; a flag's value is "". */
static struct fm_server *start(struct fm_error *error, const char *const *options)
{
    struct fm_server_options *made = NULL;
    struct fm_server *server = NULL;
    models_make();
    int status = fm_server_options_create(&made, error);
    status = status != 0 ? status : fm_server_options_add_path(made, folder, error);
    status = status != 0 ? status : fm_server_options_set(made, "accelerators", "2", error);
    for (size_t i = 0; options != NULL && options[i] != NULL && status == 0; i += 2) {
        status = fm_server_options_set(made, options[i],
                                       options[i + 1][0] != '\0' ? options[i + 1] : NULL, error);
    }
    if (status == 0) {
        status = fm_server_start(made, &server, error);
    }
    fm_server_options_free(made);
    return status == 0 ? server : NULL;
}

static struct fm_tensor row_of(float *numbers)
{
    return (struct fm_tensor){.dtype = FM_DTYPE_FP32,
                              .rank = 2,
                              .shape = {1, 2},
                              .data = numbers,
                              .size = 2 * sizeof(float)};
}

static struct fm_server_request request_for(const char *model, const struct fm_named_tensor *input)
{
    return (struct fm_server_request){.struct_size = sizeof(struct fm_server_request),
                                      .model = model,
                                      .inputs = input,
                                      .input_count = 1};
}

TEST(a_server_answers_and_its_answers_outlive_it)
{
    struct fm_error error = {0};
    struct fm_server_call *call = NULL;
    float numbers[] = {1, 2};
    const struct fm_named_tensor input = {"x", row_of(numbers)};
    const char *name = NULL;
    struct fm_server *server = start(&error, NULL);
    CHECK_STR_EQ(error.text, "");
    CHECK(fm_server_is_ready(server));
    CHECK(fm_server_model_is_ready(server, "numbers", 0));
    CHECK(!fm_server_model_is_ready(server, "nobody", 0));
    CHECK_UINT_EQ(fm_server_port(server, "http"), 0);
    struct fm_server_request request = request_for("numbers", &input);
    CHECK_INT_EQ(fm_server_infer(server, &request, &call, &error), 0);
    numbers[0] = 9;
    struct fm_server_timing timing = {.struct_size = sizeof(timing)};
    fm_server_call_timing(call, &timing);
    CHECK_UINT_EQ(timing.version, 1);
    CHECK_UINT_EQ(timing.batch_rows, 1);
    CHECK(timing.total_ns >= timing.compute_ns);
    CHECK_INT_EQ(fm_server_stop(server, LONG, &error), 0);
    CHECK(!fm_server_is_ready(server));
    CHECK_INT_EQ(fm_server_stop(server, LONG, &error), 0);
    fm_server_free(server);
    CHECK_UINT_EQ(fm_server_call_output_count(call), 1);
    const struct fm_tensor *output = fm_server_call_output(call, 0, &name);
    CHECK_STR_EQ(name, "out_x");
    CHECK_PTR_EQ(fm_server_call_output_find(call, "out_x"), output);
    CHECK_PTR_EQ(fm_server_call_output_find(call, "y"), NULL);
    CHECK_PTR_EQ(fm_server_call_output(call, 1, NULL), NULL);
    CHECK_UINT_EQ(output->size, 8);
    CHECK(((const float *)output->data)[0] == 1);
    fm_server_call_free(call);
    fm_server_call_free(NULL);
    fm_server_free(NULL);
}

TEST(a_server_starts_and_stops_again_and_again)
{
    for (int i = 0; i < 20; i++) {
        struct fm_error error = {0};
        struct fm_server_call *call = NULL;
        float numbers[] = {1, 2};
        const struct fm_named_tensor input = {"x", row_of(numbers)};
        const char *const options[] = {"model", "numbers", "no-measure", "", NULL};
        struct fm_server *server = start(&error, options);
        CHECK_STR_EQ(error.text, "");
        const struct fm_server_request request = request_for("numbers", &input);
        CHECK_INT_EQ(fm_server_infer(server, &request, &call, &error), 0);
        fm_server_call_free(call);
        CHECK_INT_EQ(fm_server_stop(server, LONG, &error), 0);
        fm_server_free(server);
    }
}

/* --- many threads ------------------------------------------------------------------------------
 */

enum { THREADS = 8, CALLS = 300 };

struct tally {
    struct fm_server *server;
    const char *model;
    _Atomic uint32_t pending;
    _Atomic uint32_t answered;
    _Atomic uint32_t good;
    _Atomic uint32_t wrong;   /* answers of somebody else */
    _Atomic uint32_t refused; /* before they were taken */
    _Atomic int other;        /* a status that is not looked for */
    int allowed;              /* besides 0 and the next */
    int allowed_too;
};

struct sent {
    struct tally *tally;
    float numbers[2];
};

static void on_answer(void *context, struct fm_server_call *call)
{
    struct sent *sent = context;
    struct tally *tally = sent->tally;
    const struct fm_error *error = fm_server_call_error(call);
    if (error->status == 0) {
        const struct fm_tensor *output = fm_server_call_output(call, 0, NULL);
        bool same = memcmp(output->data, sent->numbers, sizeof(sent->numbers)) == 0;
        atomic_fetch_add(same ? &tally->good : &tally->wrong, 1);
    } else if (error->status != tally->allowed && error->status != tally->allowed_too) {
        atomic_store(&tally->other, error->status);
    }
    free(sent);
    fm_server_call_free(call);
    atomic_fetch_add(&tally->answered, 1);
    atomic_fetch_sub(&tally->pending, 1);
}

static void send_one(struct tally *tally, float first, float second)
{
    struct sent *sent = malloc(sizeof(*sent));
    if (sent == NULL) {
        abort();
    }
    *sent = (struct sent){tally, {first, second}};
    const struct fm_named_tensor input = {"x", row_of(sent->numbers)};
    struct fm_server_request request = request_for(tally->model, &input);
    struct fm_error error = {0};
    request.done = on_answer;
    request.context = sent;
    request.timeout_ns = LONG;
    atomic_fetch_add(&tally->pending, 1);
    if (fm_server_infer_async(tally->server, &request, NULL, &error) != 0) {
        free(sent);
        atomic_fetch_add(&tally->refused, 1);
        atomic_fetch_sub(&tally->pending, 1);
    }
}

static void send_many(void *argument)
{
    struct tally *tally = argument;
    for (int i = 0; i < CALLS; i++) {
        send_one(tally, (float)i, (float)(uintptr_t)&i);
        /* Not more than the server takes of one model. */
        while (atomic_load(&tally->pending) > 500) {
            fm_sleep_until(fm_os_now_ns() + MILLISECOND / 10);
        }
    }
}

static void send_from_threads(struct tally *tally, struct fm_thread *threads)
{
    for (int i = 0; i < THREADS; i++) {
        if (fm_thread_start(&threads[i], "sender", send_many, tally) != 0) {
            abort();
        }
    }
}

static void wait_answered(struct tally *tally)
{
    while (atomic_load(&tally->pending) > 0) {
        fm_sleep_until(fm_os_now_ns() + MILLISECOND / 10);
    }
}

TEST(threads_get_their_own_answers)
{
    struct fm_error error = {0};
    const char *const options[] = {"loops", "2", NULL};
    struct tally tally = {.server = start(&error, options), .model = "numbers"};
    struct fm_thread threads[THREADS] = {0};
    CHECK_STR_EQ(error.text, "");
    send_from_threads(&tally, threads);
    for (int i = 0; i < THREADS; i++) {
        fm_thread_join(&threads[i]);
    }
    wait_answered(&tally);
    CHECK_INT_EQ(tally.other, 0);
    CHECK_UINT_EQ(tally.refused, 0);
    CHECK_UINT_EQ(tally.good, THREADS * CALLS);
    CHECK_UINT_EQ(tally.wrong, 0);
    char *text = NULL;
    char expected[64];
    CHECK_INT_EQ(
        fm_server_read(tally.server, FM_SERVER_MODEL_STATISTICS, "numbers", 0, &text, &error), 0);
    (void)snprintf(expected, sizeof(expected), "\"inference_count\":%d", THREADS * CALLS);
    CHECK_STR_CONTAINS(text, expected);
    fm_server_text_free(text);
    CHECK_INT_EQ(fm_server_stop(tally.server, LONG, &error), 0);
    fm_server_free(tally.server);
}

TEST(stopping_answers_what_is_under_way)
{
    struct fm_error error = {0};
    struct tally tally = {
        .server = start(&error, NULL), .model = "slow", .allowed = FM_EUNAVAILABLE};
    CHECK_STR_EQ(error.text, "");
    for (int i = 0; i < 40; i++) {
        send_one(&tally, 0, 0);
    }
    /* Some 100 ms of work: not now, but then. */
    CHECK_INT_EQ(fm_server_stop(tally.server, 1, &error), FM_EDEADLINE);
    CHECK_STR_CONTAINS(error.text, "can be waited for again");
    CHECK_INT_EQ(fm_server_stop(tally.server, LONG, &error), 0);
    CHECK_UINT_EQ(tally.pending, 0);
    CHECK_UINT_EQ(tally.answered, 40);
    CHECK_INT_EQ(tally.other, 0);
    send_one(&tally, 0, 0);
    CHECK_UINT_EQ(tally.refused, 1);
    fm_server_free(tally.server);
}

TEST(stopping_is_fine_while_threads_go_on_sending)
{
    struct fm_error error = {0};
    const char *const options[] = {"loops", "2", NULL};
    struct tally tally = {
        .server = start(&error, options), .model = "numbers", .allowed = FM_EUNAVAILABLE};
    struct fm_thread threads[THREADS] = {0};
    CHECK_STR_EQ(error.text, "");
    send_from_threads(&tally, threads);
    while (atomic_load(&tally.answered) < 10) {
        fm_sleep_until(fm_os_now_ns() + MILLISECOND / 10);
    }
    CHECK_INT_EQ(fm_server_stop(tally.server, LONG, &error), 0);
    for (int i = 0; i < THREADS; i++) {
        fm_thread_join(&threads[i]);
    }
    CHECK_UINT_EQ(tally.pending, 0);
    CHECK_UINT_EQ(tally.answered + tally.refused, THREADS * CALLS);
    CHECK_INT_EQ(tally.other, 0);
    CHECK_UINT_EQ(tally.wrong, 0);
    fm_server_free(tally.server);
}

TEST(a_model_is_unloaded_and_loaded_under_load)
{
    struct fm_error error = {0};
    const char *const options[] = {"model-control-mode", "explicit", "load-model", "numbers", NULL};
    struct tally tally = {.server = start(&error, options),
                          .model = "numbers",
                          .allowed = FM_EUNAVAILABLE,
                          .allowed_too = FM_ENOTFOUND};
    struct fm_thread threads[THREADS] = {0};
    CHECK_STR_EQ(error.text, "");
    send_from_threads(&tally, threads);
    for (int i = 0; i < 5; i++) {
        CHECK_INT_EQ(fm_server_model_unload(tally.server, "numbers", NULL, &error), 0);
        CHECK(!fm_server_model_is_ready(tally.server, "numbers", 0));
        CHECK_INT_EQ(fm_server_model_load(tally.server, "numbers", NULL, &error), 0);
        CHECK(fm_server_model_is_ready(tally.server, "numbers", 0));
    }
    for (int i = 0; i < THREADS; i++) {
        fm_thread_join(&threads[i]);
    }
    wait_answered(&tally);
    CHECK_UINT_EQ(tally.answered, THREADS * CALLS);
    CHECK_INT_EQ(tally.other, 0);
    CHECK_UINT_EQ(tally.wrong, 0);
    CHECK_INT_EQ(fm_server_model_load(tally.server, "nobody", NULL, &error), FM_ENOTFOUND);
    CHECK_STR_CONTAINS(error.text, "nobody");
    CHECK_INT_EQ(fm_server_stop(tally.server, LONG, &error), 0);
    CHECK_INT_EQ(fm_server_model_load(tally.server, "numbers", NULL, &error), FM_EUNAVAILABLE);
    fm_server_free(tally.server);
}

/* --- one call ----------------------------------------------------------------------------------
 */

struct inbox {
    struct fm_mutex lock;
    struct fm_condition changed;
    struct fm_server_call *call;
    bool released;
    struct fm_server *server; /* done asks it something */
    int asked;
};

static void inbox_init(struct inbox *inbox)
{
    *inbox = (struct inbox){0};
    fm_mutex_init(&inbox->lock);
    fm_condition_init(&inbox->changed);
}

static void on_done(void *context, struct fm_server_call *call)
{
    struct inbox *inbox = context;
    struct fm_error error = {0};
    struct fm_server_call *none = NULL;
    if (inbox->server != NULL) {
        float numbers[] = {1, 2};
        const struct fm_named_tensor input = {"x", row_of(numbers)};
        const struct fm_server_request request = request_for("numbers", &input);
        inbox->asked = fm_server_infer(inbox->server, &request, &none, &error);
        /* What needs no waiting is fine. */
        if (!fm_server_is_ready(inbox->server) ||
            fm_server_stop(inbox->server, LONG, NULL) != FM_EINVAL ||
            fm_server_model_unload(inbox->server, "numbers", NULL, NULL) != FM_EINVAL) {
            inbox->asked = 0;
        }
    }
    fm_mutex_lock(&inbox->lock);
    inbox->call = call;
    fm_condition_signal(&inbox->changed);
    fm_mutex_unlock(&inbox->lock);
}

static void on_released(void *context)
{
    struct inbox *inbox = context;
    fm_mutex_lock(&inbox->lock);
    inbox->released = true;
    fm_condition_signal(&inbox->changed);
    fm_mutex_unlock(&inbox->lock);
}

static struct fm_server_call *inbox_wait(struct inbox *inbox)
{
    fm_mutex_lock(&inbox->lock);
    while (inbox->call == NULL) {
        fm_condition_wait(&inbox->changed, &inbox->lock);
    }
    struct fm_server_call *call = inbox->call;
    inbox->call = NULL;
    fm_mutex_unlock(&inbox->lock);
    return call;
}

static void inbox_wait_released(struct inbox *inbox)
{
    fm_mutex_lock(&inbox->lock);
    while (!inbox->released) {
        fm_condition_wait(&inbox->changed, &inbox->lock);
    }
    fm_mutex_unlock(&inbox->lock);
}

TEST(what_is_cancelled_does_not_run)
{
    struct fm_error error = {0};
    const char *const options[] = {"accelerators", "1", NULL};
    struct fm_server *server = start(&error, options);
    float numbers[] = {1, 2};
    const struct fm_named_tensor input = {"x", row_of(numbers)};
    struct fm_server_request request = request_for("slow", &input);
    struct inbox boxes[12];
    struct fm_server_call *calls[12];
    uint32_t cancelled = 0;
    CHECK_STR_EQ(error.text, "");
    for (int i = 0; i < 12; i++) {
        inbox_init(&boxes[i]);
        request.done = on_done;
        request.context = &boxes[i];
        CHECK_INT_EQ(fm_server_infer_async(server, &request, &calls[i], &error), 0);
    }
    /* The first four may be running already. */
    for (int i = 4; i < 12; i++) {
        fm_server_call_cancel(calls[i]);
        fm_server_call_cancel(calls[i]);
    }
    for (int i = 0; i < 12; i++) {
        struct fm_server_call *call = inbox_wait(&boxes[i]);
        CHECK_PTR_EQ(call, calls[i]);
        fm_server_call_cancel(call);
        int status = fm_server_call_error(call)->status;
        CHECK(status == 0 || status == FM_ECANCELLED);
        cancelled += status == FM_ECANCELLED ? 1 : 0;
        fm_server_call_free(call);
    }
    CHECK_INT_LT(3, cancelled);
    CHECK_INT_EQ(fm_server_stop(server, LONG, &error), 0);
    fm_server_free(server);
}

TEST(a_callback_may_not_wait)
{
    struct fm_error error = {0};
    struct fm_server *server = start(&error, NULL);
    float numbers[] = {1, 2};
    const struct fm_named_tensor input = {"x", row_of(numbers)};
    struct fm_server_request request = request_for("numbers", &input);
    struct inbox inbox;
    CHECK_STR_EQ(error.text, "");
    inbox_init(&inbox);
    inbox.server = server;
    request.done = on_done;
    request.inputs_released = on_released;
    request.context = &inbox;
    CHECK_INT_EQ(fm_server_infer_async(server, &request, NULL, &error), 0);
    fm_server_call_free(inbox_wait(&inbox));
    inbox_wait_released(&inbox);
    CHECK_INT_EQ(inbox.asked, FM_EINVAL);
    CHECK_INT_EQ(fm_server_stop(server, LONG, &error), 0);
    fm_server_free(server);
}

/* What a model that hangs reads stays the server's; the answer does not wait for it, if its caller
 * says how to be told. */
TEST(a_model_that_hangs_keeps_the_inputs)
{
    struct fm_error error = {0};
    models_make();
    put_model("apart/hangs", "model.yaml",
              "backend: emulated\nmax_batch_size: 1\nsettings: {inputs: 'x:FP32[-1,2]', outputs: "
              "'y:FP32[-1,2]', alpha: '1ms', hang_every: 1, hang: '1500ms'}\n");
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/apart/hangs", base);
    struct fm_server_options *options = NULL;
    struct fm_server *server = NULL;
    CHECK_INT_EQ(fm_server_options_create(&options, &error), 0);
    CHECK_INT_EQ(fm_server_options_add_path(options, path, &error), 0);
    CHECK_INT_EQ(fm_server_options_set(options, "hang-timeout", "100ms", &error), 0);
    CHECK_INT_EQ(fm_server_options_set(options, "no-measure", NULL, &error), 0);
    CHECK_INT_EQ(fm_server_options_set(options, "accelerators", "1", &error), 0);
    int status = fm_server_start(options, &server, &error);
    fm_server_options_free(options);
    CHECK_STR_EQ(error.text, "");
    CHECK_INT_EQ(status, 0);
    float numbers[] = {1, 2};
    const struct fm_named_tensor input = {"x", row_of(numbers)};
    struct fm_server_request request = request_for("hangs", &input);
    struct inbox inbox;
    inbox_init(&inbox);
    request.done = on_done;
    request.inputs_released = on_released;
    request.context = &inbox;
    uint64_t start_ns = fm_os_now_ns();
    CHECK_INT_EQ(fm_server_infer_async(server, &request, NULL, &error), 0);
    struct fm_server_call *call = inbox_wait(&inbox);
    CHECK_INT_NE(fm_server_call_error(call)->status, 0);
    CHECK(fm_os_now_ns() - start_ns < 1400 * MILLISECOND);
    CHECK(!inbox.released);
    fm_server_call_free(call);
    CHECK_INT_EQ(fm_server_stop(server, LONG, &error), FM_EUNAVAILABLE);
    CHECK_STR_CONTAINS(error.text, "do not answer");
    inbox_wait_released(&inbox);
    while (fm_server_stop(server, LONG, &error) != 0) {
        fm_sleep_until(fm_os_now_ns() + 10 * MILLISECOND);
    }
    fm_server_free(server);
}

/* --- mistakes, and the network -----------------------------------------------------------------
 */

/* One exchange over HTTP; the answer's body. */
static const char *http_ask(uint16_t port, const char *method, const char *path, const char *body)
{
    static char data[65536];
    char head[512];
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int length = snprintf(head, sizeof(head),
                          "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: "
                          "close\r\nContent-Length: %zu\r\n\r\n",
                          method, path, strlen(body));
    size_t size = 0;
    if (connect(descriptor, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
        send(descriptor, head, (size_t)length, MSG_NOSIGNAL) == length &&
        send(descriptor, body, strlen(body), MSG_NOSIGNAL) == (ssize_t)strlen(body)) {
        ssize_t got = 0;
        while ((got = recv(descriptor, data + size, sizeof(data) - 1 - size, 0)) > 0) {
            size += (size_t)got;
        }
    }
    (void)close(descriptor);
    data[size] = '\0';
    const char *end = strstr(data, "\r\n\r\n");
    return end != NULL ? end + 4 : "";
}

#define HTTP_X(dtype, shape, data)                                                               \
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"" dtype "\",\"shape\":" shape ",\"data\":" data \
    "}]}"

TEST(the_network_says_the_same)
{
    static const struct {
        const char *model;
        const char *name;
        struct fm_tensor tensor;
        const char *http;
    } mistakes[] = {
        {"nmbers",
         "x",
         {.dtype = FM_DTYPE_FP32, .rank = 2, .shape = {1, 2}, .size = 8},
         HTTP_X("FP32", "[1,2]", "[1,2]")},
        {"numbers",
         "x",
         {.dtype = FM_DTYPE_INT32, .rank = 2, .shape = {1, 2}, .size = 8},
         HTTP_X("INT32", "[1,2]", "[1,2]")},
        {"numbers",
         "x",
         {.dtype = FM_DTYPE_FP32, .rank = 2, .shape = {1, 3}, .size = 12},
         HTTP_X("FP32", "[1,3]", "[1,2,3]")},
        {"numbers",
         "x",
         {.dtype = FM_DTYPE_FP32, .rank = 2, .shape = {9, 2}, .size = 72},
         HTTP_X("FP32", "[9,2]", "[1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9]")},
        {"numbers",
         "x",
         {.dtype = FM_DTYPE_FP32, .rank = 2, .shape = {-1, 2}, .size = 8},
         HTTP_X("FP32", "[-1,2]", "[1,2]")},
        {"numbers",
         "xx",
         {.dtype = FM_DTYPE_FP32, .rank = 2, .shape = {1, 2}, .size = 8},
         "{\"inputs\":[{\"name\":\"xx\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":[1,2]}]}"},
        {"chain",
         "y",
         {.dtype = FM_DTYPE_FP32, .rank = 1, .shape = {2}, .size = 8},
         "{\"inputs\":[{\"name\":\"y\",\"datatype\":\"FP32\",\"shape\":[2],\"data\":[1,2]}]}"},
    };
    struct fm_error error = {0};
    const char *const options[] = {"http-port", "0",   "grpc-port", "0", "metrics-port",
                                   "0",         "slo", "5s",        NULL};
    struct fm_server *server = start(&error, options);
    CHECK_STR_EQ(error.text, "");
    uint16_t port = fm_server_port(server, "http");
    CHECK_INT_LT(0, port);
    CHECK_INT_LT(0, fm_server_port(server, "grpc"));
    CHECK_INT_LT(0, fm_server_port(server, "metrics"));
    CHECK_UINT_EQ(fm_server_port(server, "nothing"), 0);
    float numbers[18] = {1, 2, 3};
    for (size_t i = 0; i < sizeof(mistakes) / sizeof(mistakes[0]); i++) {
        struct fm_named_tensor input = {mistakes[i].name, mistakes[i].tensor};
        char path[64];
        struct fm_server_call *call = NULL;
        input.tensor.data = numbers;
        const struct fm_server_request request = request_for(mistakes[i].model, &input);
        error = (struct fm_error){0};
        CHECK_INT_NE(fm_server_infer(server, &request, &call, &error), 0);
        CHECK_PTR_EQ(call, NULL);
        (void)snprintf(path, sizeof(path), "/v2/models/%s/infer", mistakes[i].model);
        CHECK_STR_CONTAINS(http_ask(port, "POST", path, mistakes[i].http), error.text);
    }
    static const struct {
        enum fm_server_document document;
        const char *model;
        const char *method;
        const char *path;
    } documents[] = {
        {FM_SERVER_METADATA, NULL, "GET", "/v2"},
        {FM_SERVER_MODEL_METADATA, "numbers", "GET", "/v2/models/numbers"},
        {FM_SERVER_MODEL_CONFIG, "numbers", "GET", "/v2/models/numbers/config"},
        {FM_SERVER_MODEL_STATISTICS, "chain", "GET", "/v2/models/chain/stats"},
        {FM_SERVER_INDEX, NULL, "POST", "/v2/repository/index"},
    };
    for (size_t i = 0; i < sizeof(documents) / sizeof(documents[0]); i++) {
        char *text = NULL;
        CHECK_INT_EQ(
            fm_server_read(server, documents[i].document, documents[i].model, 0, &text, &error), 0);
        CHECK_STR_EQ(http_ask(port, documents[i].method, documents[i].path, ""), text);
        fm_server_text_free(text);
    }
    char *text = NULL;
    CHECK_INT_EQ(fm_server_read(server, FM_SERVER_METRICS, NULL, 0, &text, &error), 0);
    CHECK_STR_CONTAINS(text, "nv_inference_request_failure");
    fm_server_text_free(text);
    CHECK_INT_EQ(fm_server_read(server, FM_SERVER_STATE, NULL, 0, &text, &error), 0);
    CHECK_STR_CONTAINS(text, "\"accelerators\"");
    fm_server_text_free(text);
    CHECK_INT_EQ(fm_server_read(server, FM_SERVER_MODEL_CONFIG, "nobody", 0, &text, &error),
                 FM_ENOTFOUND);
    CHECK_INT_EQ(fm_server_read(server, (enum fm_server_document)99, NULL, 0, &text, &error),
                 FM_EINVAL);
    /* Both at once. */
    struct fm_server_call *call = NULL;
    const struct fm_named_tensor input = {"x", row_of(numbers)};
    const struct fm_server_request request = request_for("numbers", &input);
    CHECK_INT_EQ(fm_server_infer(server, &request, &call, &error), 0);
    CHECK(((const float *)fm_server_call_output(call, 0, NULL)->data)[1] == 2);
    fm_server_call_free(call);
    CHECK_STR_CONTAINS(
        http_ask(port, "POST", "/v2/models/numbers/infer", HTTP_X("FP32", "[1,2]", "[1,2]")),
        "\"data\":[1.0,2.0]");
    CHECK_INT_EQ(fm_server_stop(server, LONG, &error), 0);
    fm_server_free(server);
}

TEST(requests_that_make_no_sense)
{
    struct fm_error error = {0};
    struct fm_server *server = start(&error, NULL);
    float numbers[] = {1, 2, 3};
    struct fm_named_tensor inputs[2] = {{"x", row_of(numbers)}, {"x", row_of(numbers)}};
    struct fm_server_call *call = NULL;
    CHECK_STR_EQ(error.text, "");
    struct fm_server_request request = request_for("numbers", inputs);
    request.struct_size = 0;
    CHECK_INT_EQ(fm_server_infer(server, &request, &call, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "struct_size");
    request = request_for(NULL, inputs);
    CHECK_INT_EQ(fm_server_infer(server, &request, &call, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "names no model");
    request = request_for("numbers", inputs);
    CHECK_INT_EQ(fm_server_infer_async(server, &request, &call, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "done");
    request.input_count = 2;
    CHECK_INT_EQ(fm_server_infer(server, &request, &call, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "given twice");
    request.input_count = 0;
    CHECK_INT_EQ(fm_server_infer(server, &request, &call, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "input 'x' of model 'numbers' is missing");
    request.input_count = 1;
    inputs[0].name = NULL;
    CHECK_INT_EQ(fm_server_infer(server, &request, &call, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "an input has no name");
    inputs[0].name = "x";
    inputs[0].tensor.rank = FM_RANK_MAX + 1;
    CHECK_INT_EQ(fm_server_infer(server, &request, &call, &error), FM_EINVAL);
    inputs[0].tensor.rank = 2;
    inputs[0].tensor.dtype = 4000;
    CHECK_INT_EQ(fm_server_infer(server, &request, &call, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "unknown datatype '4000'");
    inputs[0].tensor.dtype = FM_DTYPE_FP32;
    inputs[0].tensor.size = 7;
    CHECK_INT_EQ(fm_server_infer(server, &request, &call, &error), FM_ETYPE);
    CHECK_STR_CONTAINS(error.text, "takes 8 bytes, but its size is 7");
    inputs[0].tensor.size = 8;
    inputs[0].tensor.data = NULL;
    CHECK_INT_EQ(fm_server_infer(server, &request, &call, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "has no data");
    inputs[0].tensor.data = numbers;
    const char *const unknown[] = {"out_y", NULL};
    request.outputs = unknown;
    request.output_count = 1;
    CHECK_INT_EQ(fm_server_infer(server, &request, &call, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "has no output 'out_y'; did you mean 'out_x'");
    request.output_count = 2;
    const char *const known[] = {"out_x", NULL};
    request.outputs = known;
    CHECK_INT_EQ(fm_server_infer(server, &request, &call, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "an output has no name");
    /* And one that does: bytes that do not lie as their type wants are copied. */
    request.output_count = 1;
    request.id = "seven";
    request.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    char apart[sizeof(numbers) + 1];
    memcpy(apart + 1, numbers, sizeof(numbers));
    inputs[0].tensor.data = apart + 1;
    CHECK_INT_EQ(fm_server_infer(server, &request, &call, &error), 0);
    CHECK_MEM_EQ(fm_server_call_output_find(call, "out_x")->data, numbers, 8);
    fm_server_call_free(call);
    request = request_for("slow", inputs);
    inputs[0].tensor.data = numbers;
    request.timeout_ns = MILLISECOND;
    CHECK_INT_EQ(fm_server_infer(server, &request, &call, &error), FM_EDEADLINE);
    request = request_for("numbers", inputs);
    request.version = 7;
    CHECK_INT_EQ(fm_server_infer(server, &request, &call, &error), FM_ENOTFOUND);
    CHECK_INT_EQ(fm_server_stop(server, LONG, &error), 0);
    CHECK_INT_EQ(fm_server_infer(server, &request, &call, &error), FM_EUNAVAILABLE);
    CHECK_STR_CONTAINS(error.text, "the server is being stopped");
    fm_server_free(server);
}

TEST(failed_allocations_cost_one_call_its_answer)
{
    struct fm_error error = {0};
    struct fm_server *server = start(&error, NULL);
    float numbers[] = {0, 0};
    struct fm_named_tensor input = {"x", row_of(numbers)};
    static const char *const models[] = {"numbers", "chain"};
    CHECK_STR_EQ(error.text, "");
    for (int m = 0; m < 2; m++) {
        struct fm_server_request request = request_for(models[m], &input);
        input.tensor.rank = m == 0 ? 2 : 1;
        input.tensor.shape[0] = m == 0 ? 1 : 2;
        uint64_t at = 1;
        bool fails = true;
        for (; fails && at < 1000; at++) {
            struct fm_server_call *call = NULL;
            (void)fm_memory_fail_at(at, 0);
            int status = fm_server_infer(server, &request, &call, &error);
            fails = fm_memory_fail_at(0, 0) >= at;
            CHECK(fails ? status == 0 || status == FM_ENOMEM : status == 0);
            fm_server_call_free(call);
        }
        CHECK_INT_LT(3, at);
        CHECK_INT_LT(at, 1000);
    }
    CHECK_INT_EQ(fm_server_stop(server, LONG, &error), 0);
    fm_server_free(server);
}

/* --- options -----------------------------------------------------------------------------------
 */

struct lines {
    _Atomic uint32_t count;
    _Atomic bool ready;
};

static void on_line(void *context, const char *line, size_t length)
{
    struct lines *lines = context;
    char text[256];
    (void)snprintf(text, sizeof(text), "%.*s", (int)length, line);
    atomic_fetch_add(&lines->count, 1);
    if (strstr(text, "\"event\":\"model_ready\"") != NULL && strchr(text, '\n') == NULL) {
        atomic_store(&lines->ready, true);
    }
}

TEST(options_are_those_of_the_command_line)
{
    struct fm_error error = {0};
    struct fm_server_options *options = NULL;
    struct fm_server *server = NULL;
    models_make();
    CHECK_INT_EQ(fm_server_options_create(&options, &error), 0);
    CHECK_INT_EQ(fm_server_start(options, &server, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "PATH is missing");
    CHECK_INT_EQ(fm_server_options_set(options, "acelerators", "4", &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "did you mean '--accelerators'?");
    /* Nor is it a path, whatever the parser would make of it behind "--". */
    static const char *const nothing[] = {"", "slo=50ms", "no-", "no-slo=50ms", "s"};
    for (int i = 0; i < (int)(sizeof(nothing) / sizeof(nothing[0])); i++) {
        error = (struct fm_error){0};
        CHECK_INT_EQ(fm_server_options_set(options, nothing[i], NULL, &error), FM_EINVAL);
        CHECK_STR_CONTAINS(error.text, "option");
        CHECK_INT_EQ(fm_server_options_set(options, nothing[i], "50ms", &error), FM_EINVAL);
    }
    CHECK_INT_EQ(fm_server_options_set(options, "slo=50ms", NULL, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "there is no option 'slo=50ms'");
    CHECK_INT_EQ(fm_server_options_set(options, "threads", "many", &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "a whole number from");
    CHECK_INT_EQ(fm_server_options_set(options, "accelerators", NULL, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "needs a value");
    CHECK_INT_EQ(fm_server_options_set(options, "help", NULL, &error), FM_EINVAL);
    CHECK_INT_EQ(fm_server_options_set(options, "policy", "eagre", &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "did you mean 'eager'?");
    CHECK_INT_EQ(fm_server_options_add_path(options, folder, &error), 0);
    CHECK_INT_EQ(fm_server_options_set(options, "tls-cert", "/nowhere", &error), 0);
    CHECK_INT_EQ(fm_server_start(options, &server, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "--tls-cert and --tls-key go together");
    fm_server_options_free(options);
    CHECK_INT_EQ(fm_server_options_create(&options, &error), 0);
    CHECK_INT_EQ(fm_server_options_add_path(options, folder, &error), 0);
    CHECK_INT_EQ(fm_server_options_set(options, "accelerators", "many", &error), 0);
    CHECK_INT_EQ(fm_server_start(options, &server, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "--accelerators: 'many' is no kind of accelerators");
    fm_server_options_free(options);
    /* Set twice: the last one holds. Set again for what may be repeated: both do. */
    CHECK_INT_EQ(fm_server_options_create(&options, &error), 0);
    CHECK_INT_EQ(fm_server_options_add_path(options, folder, &error), 0);
    CHECK_INT_EQ(fm_server_options_set(options, "strict", "no", &error), 0);
    CHECK_INT_EQ(fm_server_options_set(options, "no-strict", NULL, &error), 0);
    CHECK_INT_EQ(fm_server_options_set(options, "strict", NULL, &error), 0);
    CHECK_INT_EQ(fm_server_options_set(options, "policy", "timeout", &error), 0);
    CHECK_INT_EQ(fm_server_options_set(options, "policy", "eager", &error), 0);
    CHECK_INT_EQ(fm_server_options_set(options, "unix-socket", "/tmp/nobody", &error), 0);
    CHECK_INT_EQ(fm_server_start(options, &server, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "--unix-socket means something with --http-port only");
    fm_server_options_free(options);
    CHECK_INT_EQ(fm_server_options_create(&options, &error), 0);
    CHECK_INT_EQ(fm_server_options_add_path(options, folder, &error), 0);
    CHECK_INT_EQ(fm_server_options_set(options, "model", "numbers", &error), 0);
    CHECK_INT_EQ(fm_server_options_set(options, "model", "nobody", &error), 0);
    CHECK_INT_NE(fm_server_start(options, &server, &error), 0);
    CHECK_STR_CONTAINS(error.text, "nobody");
    CHECK_PTR_EQ(server, NULL);
    fm_server_options_free(options);
    fm_server_options_free(NULL);
}

TEST(equal_requests_are_answered_from_the_cache)
{
    struct fm_error error = {0};
    struct fm_server_options *options = NULL;
    struct fm_server *server = NULL;
    struct fm_server_call *calls[3] = {NULL, NULL, NULL};
    char path[96];
    models_make();
    (void)snprintf(path, sizeof(path), "%s/kept", base);
    put_model("kept/kept", "model.yaml",
              "backend: identity\nresponse_cache: true\nsettings: {inputs: 'x:FP32[-1,2]'}\n");
    CHECK_INT_EQ(fm_server_options_create(&options, &error), 0);
    CHECK_INT_EQ(fm_server_options_add_path(options, path, &error), 0);
    CHECK_INT_EQ(fm_server_options_set(options, "response-cache", "8MiB", &error), 0);
    CHECK_INT_EQ(fm_server_start(options, &server, &error), 0);
    fm_server_options_free(options);
    for (size_t i = 0; i < 3; i++) {
        float numbers[] = {1, i < 2 ? 2.0F : 3.0F};
        const struct fm_named_tensor input = {"x", row_of(numbers)};
        struct fm_server_request request = request_for("kept", &input);
        struct fm_server_timing timing = {.struct_size = sizeof(timing)};
        CHECK_INT_EQ(fm_server_infer(server, &request, &calls[i], &error), 0);
        fm_server_call_timing(calls[i], &timing);
        CHECK_UINT_EQ(timing.batch_rows, i == 1 ? 0 : 1); /* the second did not run */
        numbers[0] = 9;
    }
    CHECK_INT_EQ(fm_server_stop(server, LONG, &error), 0);
    fm_server_free(server);
    for (size_t i = 0; i < 3; i++) {
        const struct fm_tensor *output = fm_server_call_output(calls[i], 0, NULL);
        const float *got = output->data;
        CHECK(got[0] == 1 && got[1] == (i < 2 ? 2.0F : 3.0F));
        fm_server_call_free(calls[i]);
    }
}

TEST(the_log_is_handed_over_and_servers_are_apart)
{
    struct fm_error error = {0};
    struct lines lines = {0};
    struct fm_server_options *options = NULL;
    struct fm_server *servers[2] = {NULL, NULL};
    models_make();
    CHECK_INT_EQ(fm_server_options_create(&options, &error), 0);
    CHECK_INT_EQ(fm_server_options_add_path(options, folder, &error), 0);
    CHECK_INT_EQ(fm_server_options_set(options, "model", "numbers", &error), 0);
    CHECK_INT_EQ(fm_server_options_set(options, "log-format", "json", &error), 0);
    fm_server_options_log(options, on_line, &lines);
    CHECK_INT_EQ(fm_server_start(options, &servers[0], &error), 0);
    CHECK_INT_EQ(fm_server_start(options, &servers[1], &error), 0);
    fm_server_options_free(options);
    CHECK_INT_EQ(fm_server_stop(servers[0], LONG, &error), 0);
    CHECK(!fm_server_is_ready(servers[0]));
    CHECK(fm_server_is_ready(servers[1]));
    CHECK_INT_EQ(fm_server_stop(servers[1], LONG, &error), 0);
    fm_server_free(servers[0]);
    fm_server_free(servers[1]);
    CHECK(lines.ready);
    CHECK_INT_LT(3, lines.count);
}

TEST_MAIN()
