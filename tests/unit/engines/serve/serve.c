/*
 * The serve engine without memory: every allocation between a request's bytes and its answer's
 * fails in turn. What each engine file decides otherwise is tested through the program
 * (tests/e2e/serve_*.py).
 *
 * The server runs on the test's thread, as fm_serve_run wants it; a client thread speaks to it
 * through a Unix socket and leaves what went wrong in `failure`.
 */
#include "engines/serve/serve.h"

#include <assert.h>
#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/util/memory.h"
#include "engines/serve/serve_internal.h"
#include "host/os/file.h"
#include "host/os/os.h"
#include "host/os/thread.h"
#include "tests/harness/test.h"

#define SECOND          UINT64_C(1000000000)
#define ALLOCATIONS_MAX 1000 /* of one request; more means that the sweep does not end */

/* --- The models --- */

static char folder[64];
static char socket_path[96];

static int remove_one(const char *path, const struct stat *facts, int kind, struct FTW *place)
{
    (void)facts;
    (void)kind;
    (void)place;
    return remove(path);
}

static void put_model(const char *name, const char *file, const char *text)
{
    char path[256];
    struct fm_error error = {0};
    (void)snprintf(path, sizeof(path), "%s/models/%s", folder, name);
    int status = fm_file_make_directories(path, &error);
    (void)snprintf(path, sizeof(path), "%s/models/%s/%s", folder, name, file);
    if (status != 0 || fm_file_write_atomic(path, text, strlen(text), &error) != 0) {
        abort();
    }
}

static void models_make(void)
{
    (void)snprintf(folder, sizeof(folder), "/tmp/fm-serve-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        abort();
    }
    (void)snprintf(socket_path, sizeof(socket_path), "%s/socket", folder);
    put_model("numbers", "model.yaml",
              "backend: identity\nmax_batch_size: 8\nsettings: {inputs: 'x:FP32[-1,2]'}\n");
    put_model("file", "model.yaml", "backend: identity\nsettings: {inputs: 'x:BYTES[1]'}\n");
    put_model("chain", "pipeline.yaml",
              "inputs: [{name: x, dtype: FP32, shape: [2]}]\n"
              "stages:\n"
              "  - {name: even, operator: softmax, inputs: x}\n"
              "  - {name: last, model: numbers, inputs: even}\n"
              "outputs: {y: last}\n");
}

/* --- The client --- */

struct exchange {
    const char *name;
    const char *method;
    const char *path;
    const char *headers;
    const char *body;
    size_t body_size;
    int status;
};

#define TEXT_BODY(text) text, sizeof(text) - 1
#define JSON_TENSOR     "{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,2],\"data\":[1,2]}"
#define BINARY_HEADER                                                    \
    "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,2]" \
    ",\"parameters\":{\"binary_data_size\":8}}]"                         \
    ",\"outputs\":[{\"name\":\"out_x\",\"parameters\":{\"binary_data\":true}}]}"

static_assert(sizeof(BINARY_HEADER) - 1 == 156, "what the second exchange's header field says");

static const struct exchange exchanges[] = {
    {"tensors in JSON", "POST", "/v2/models/numbers/infer", "",
     TEXT_BODY("{\"id\":\"seven\",\"inputs\":[" JSON_TENSOR "]}"), 200},
    {"tensors in binary", "POST", "/v2/models/numbers/infer",
     "Inference-Header-Content-Length: 156\r\n", TEXT_BODY(BINARY_HEADER "\0\0\200?\0\0\0@"), 200},
    {"a file as it is", "POST", "/v2/models/file/infer", "Content-Type: image/png\r\n",
     TEXT_BODY("some bytes"), 200},
    {"the best classes", "POST", "/v2/models/numbers/infer", "",
     TEXT_BODY("{\"inputs\":[" JSON_TENSOR "],\"outputs\":[{\"name\":\"out_x\",\"parameters\":"
               "{\"classification\":2}}]}"),
     200},
    {"a pipeline", "POST", "/v2/models/chain/infer", "",
     TEXT_BODY("{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[2],"
               "\"data\":[1,2]}]}"),
     200},
    {"a wrong request", "POST", "/v2/models/numbers/infer", "", TEXT_BODY("{\"inputs\":[]}"), 400},
    {"an unknown model", "POST", "/v2/models/nmbers/infer", "", TEXT_BODY("{}"), 404},
    {"metadata", "GET", "/v2/models/numbers", "", NULL, 0, 200},
    {"configuration", "GET", "/v2/models/numbers/config", "", NULL, 0, 200},
    {"the index", "POST", "/v2/repository/index", "", TEXT_BODY("{}"), 200},
    {"readiness", "GET", "/v2/health/ready", "", NULL, 0, 200},
};
enum { EXCHANGE_COUNT = sizeof(exchanges) / sizeof(exchanges[0]) };

struct answer {
    char data[4096];
    size_t size;
    int error; /* of the connection: it did not simply end */
};

static char failure[1024];
static int allocation_counts[EXCHANGE_COUNT];
static bool memory_returned; /* ask() had to end the want of memory */

/* Reads to the end. A server without memory for a connection lets it wait until there is some: so
 * there is, after a while without a byte. */
static void answer_read(int client, struct answer *answer)
{
    for (int waited = 0; waited < 200;) {
        ssize_t received =
            recv(client, answer->data + answer->size, sizeof(answer->data) - 1 - answer->size, 0);
        if (received > 0) {
            answer->size += (size_t)received;
        } else if (received < 0 && errno == EAGAIN) {
            memory_returned = true;
            (void)fm_memory_fail_at(0, 0);
            waited++;
        } else {
            bool reset = received < 0 && (errno == ECONNRESET || errno == EPIPE);
            answer->error = received == 0 || reset ? 0 : errno;
            return;
        }
    }
    answer->error = ETIMEDOUT;
}

static void ask(const struct exchange *exchange, struct answer *ret_answer)
{
    char request[2048];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_usec = 100000};
    ret_answer->size = 0;
    ret_answer->error = 0;
    size_t size =
        (size_t)snprintf(request, sizeof(request),
                         "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n%s"
                         "Content-Length: %zu\r\n\r\n",
                         exchange->method, exchange->path, exchange->headers, exchange->body_size);
    if (exchange->body_size > 0) {
        memcpy(request + size, exchange->body, exchange->body_size);
    }
    size += exchange->body_size;
    (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (connect(client, (struct sockaddr *)&address, sizeof(address)) == 0) {
        /* A server without memory for the connection may have closed it already. */
        (void)send(client, request, size, MSG_NOSIGNAL);
        answer_read(client, ret_answer);
    } else {
        ret_answer->error = errno;
    }
    ret_answer->data[ret_answer->size] = '\0';
    (void)close(client);
}

static bool has_status(const struct answer *answer, int status)
{
    char line[32];
    (void)snprintf(line, sizeof(line), "HTTP/1.1 %d ", status);
    return strncmp(answer->data, line, strlen(line)) == 0;
}

/* A whole answer that says 503 and, where there was memory for it, why. */
static bool is_refusal(const struct answer *answer)
{
    const char *body = strstr(answer->data, "\r\n\r\n");
    const char *length = strstr(answer->data, "Content-Length: ");
    if (!has_status(answer, 503) || body == NULL || length == NULL) {
        return false;
    }
    body += 4;
    return strtoul(length + strlen("Content-Length: "), NULL, 10) == strlen(body) &&
           (body[0] == '\0' || strncmp(body, "{\"error\":", 9) == 0);
}

/* But for the time of day. */
static bool is_same(const struct answer *answer, const struct answer *expected)
{
    static const char date[] = "\r\nDate: Sat, 21 Nov 2026 10:08:24 GMT\r\n";
    const char *end = strstr(expected->data, "\r\nDate: ");
    size_t head = end != NULL ? (size_t)(end - expected->data) : 0;
    size_t skip = end != NULL ? head + sizeof(date) - 1 : 0;
    return answer->size == expected->size && skip <= expected->size &&
           memcmp(answer->data, expected->data, head) == 0 &&
           memcmp(answer->data + skip, expected->data + skip, expected->size - skip) == 0;
}

/* Fails allocation 1, 2, ... of the exchange (with `persistent` all that follow too) until it needs
 * fewer. False when something went wrong, with the reason in `failure`. */
static bool sweep(const struct exchange *exchange, const struct answer *expected, int persistent)
{
    static struct answer answer;
    bool fired = true;
    for (int n = 1; fired; n++) {
        memory_returned = false;
        (void)fm_memory_fail_at((uint64_t)n, persistent);
        ask(exchange, &answer);
        fired = fm_memory_fail_at(0, 0) >= (uint64_t)n || memory_returned;
        bool closed = answer.size == 0 && answer.error == 0;
        bool right = closed ? fired : is_same(&answer, expected) || (fired && is_refusal(&answer));
        if (right) {
            ask(exchange, &answer);
            right = is_same(&answer, expected);
        }
        if (!right || n == ALLOCATIONS_MAX) {
            (void)snprintf(failure, sizeof(failure), "%s, allocation %d%s (errno %d): %.700s",
                           exchange->name, n, persistent ? " and all after it" : "", answer.error,
                           answer.data);
            return false;
        }
        allocation_counts[exchange - exchanges] = n - 1;
    }
    return true;
}

static bool wait_ready(void)
{
    static const struct exchange ready = {"", "GET", "/v2/health/ready", "", NULL, 0, 200};
    static struct answer answer;
    uint64_t deadline_ns = fm_os_now_ns() + 60 * SECOND;
    do {
        ask(&ready, &answer);
        if (has_status(&answer, 200)) {
            return true;
        }
        fm_sleep_until(fm_os_now_ns() + SECOND / 100);
    } while (fm_os_now_ns() < deadline_ns);
    (void)snprintf(failure, sizeof(failure), "the server does not become ready: %.700s",
                   answer.data);
    return false;
}

static void client_run(void *argument)
{
    static struct answer expected;
    (void)argument;
    bool good = wait_ready();
    for (int i = 0; i < EXCHANGE_COUNT && good; i++) {
        ask(&exchanges[i], &expected);
        good = has_status(&expected, exchanges[i].status);
        if (!good) {
            (void)snprintf(failure, sizeof(failure), "%s: %.700s", exchanges[i].name,
                           expected.data);
        }
        good = good && sweep(&exchanges[i], &expected, 0) && sweep(&exchanges[i], &expected, 1);
    }
    (void)kill(getpid(), SIGTERM);
}

TEST(a_large_machine_gets_no_more_than_the_pool_takes)
{
    CHECK_UINT_EQ(fm_serve_accelerators_default(1, 1), 1);
    CHECK_UINT_EQ(fm_serve_accelerators_default(2, 4), 1);
    CHECK_UINT_EQ(fm_serve_accelerators_default(9, 4), 2);
    CHECK_UINT_EQ(fm_serve_accelerators_default(64, 1), 64);
    CHECK_UINT_EQ(fm_serve_accelerators_default(65, 1), FM_SCHEDULER_ENDPOINTS_MAX);
    CHECK_UINT_EQ(fm_serve_accelerators_default(4096, 2), FM_SCHEDULER_ENDPOINTS_MAX);
    CHECK_UINT_EQ(fm_serve_loops_default(1), 1);
    CHECK_UINT_EQ(fm_serve_loops_default(8), 2);
    CHECK_UINT_EQ(fm_serve_loops_default(252), 63);
    CHECK_UINT_EQ(fm_serve_loops_default(256), FM_SCHEDULER_ENDPOINTS_MAX - 1);
    CHECK_UINT_EQ(fm_serve_loops_default(4096), FM_SCHEDULER_ENDPOINTS_MAX - 1);
}

TEST(failed_allocations_cost_one_request_its_answer)
{
    models_make();
    char models[96];
    (void)snprintf(models, sizeof(models), "%s/models", folder);
    const char *const paths[] = {models};
    const struct fm_serve_options options = {.paths = paths,
                                             .path_count = 1,
                                             .server_name = "fermata",
                                             .server_version = "0",
                                             .host = "127.0.0.1",
                                             .http = true,
                                             .unix_path = socket_path,
                                             .strict = true,
                                             .exit_timeout_ns = 20 * SECOND,
                                             .body_bytes_max = 1u << 20,
                                             .connections_max = 16,
                                             .idle_timeout_ns = 75 * SECOND};
    struct fm_thread client = {0};
    struct fm_error error = {0};
    enum fm_serve_end end = FM_SERVE_FORCED;
    CHECK_INT_EQ(fm_thread_start(&client, "client", client_run, NULL), 0);
    int status = fm_serve_run(&options, &end, &error);
    fm_thread_join(&client);
    (void)nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    CHECK_STR_EQ(error.text, "");
    CHECK_INT_EQ(status, 0);
    CHECK_STR_EQ(failure, "");
    /* Drained: no request is left in flight. */
    CHECK_INT_EQ(end, FM_SERVE_DRAINED);
    for (int i = 0; i < EXCHANGE_COUNT; i++) {
        printf("# %s: %d allocations\n", exchanges[i].name, allocation_counts[i]);
        CHECK_INT_LT(2, allocation_counts[i]);
    }
}

TEST_MAIN()
