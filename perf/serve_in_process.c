/*
 * What an inference costs a program that has the server inside it (fermata/server.h): asks a model
 * of one FP32 input `x` again and again, with so many requests under way, and prints the CPU time
 * of the whole process for each of them as JSON.
 *
 * usage: serve_in_process REPOSITORY MODEL BYTES REQUESTS UNDER-WAY
 *
 * One thread sends, as one that reads them from somewhere would; answers are only looked at. Thread
 * rule: answers come on the server's thread, and are counted under the lock.
 */
#include <stdio.h>
#include <stdlib.h>

#include "fermata/server.h"
#include "host/os/os.h"
#include "host/os/thread.h"

struct flow {
    struct fm_mutex lock;
    struct fm_condition changed;
    uint32_t under_way;
    uint32_t failed;
    uint64_t total_ns; /* from sending to the answer, all together */
    char error[FM_ERROR_TEXT_SIZE];
};

static void answered(void *context, struct fm_server_call *call)
{
    struct flow *flow = context;
    struct fm_server_timing timing = {.struct_size = sizeof timing};
    const struct fm_error *error = fm_server_call_error(call);
    fm_server_call_timing(call, &timing);
    fm_mutex_lock(&flow->lock);
    flow->under_way--;
    flow->total_ns += timing.total_ns;
    if (error->status != 0) {
        flow->failed++;
        (void)snprintf(flow->error, sizeof flow->error, "%s", error->text);
    }
    fm_condition_signal(&flow->changed);
    fm_mutex_unlock(&flow->lock);
    fm_server_call_free(call);
}

static int start(const char *repository, struct fm_server **server, struct fm_error *error)
{
    struct fm_server_options *options = NULL;
    int status = fm_server_options_create(&options, error);
    status = status != 0 ? status : fm_server_options_add_path(options, repository, error);
    status = status != 0 ? status : fm_server_start(options, server, error);
    fm_server_options_free(options);
    return status;
}

/* Until all are answered. */
static int ask(struct fm_server *server, struct flow *flow, struct fm_server_request *request,
               uint64_t requests, uint32_t under_way, struct fm_error *error)
{
    int status = 0;
    request->done = answered;
    request->context = flow;
    for (uint64_t i = 0; i < requests && status == 0; i++) {
        fm_mutex_lock(&flow->lock);
        while (flow->under_way >= under_way) {
            fm_condition_wait(&flow->changed, &flow->lock);
        }
        flow->under_way++;
        fm_mutex_unlock(&flow->lock);
        status = fm_server_infer_async(server, request, NULL, error);
    }
    fm_mutex_lock(&flow->lock);
    while (status == 0 && flow->under_way > 0) {
        fm_condition_wait(&flow->changed, &flow->lock);
    }
    fm_mutex_unlock(&flow->lock);
    return status;
}

int main(int argc, char **argv)
{
    struct fm_error error = {0};
    struct fm_server *server = NULL;
    struct flow flow = {.under_way = 0};
    if (argc != 6) {
        (void)fprintf(stderr, "usage: %s REPOSITORY MODEL BYTES REQUESTS UNDER-WAY\n", argv[0]);
        return 2;
    }
    size_t size = strtoull(argv[3], NULL, 10) / sizeof(float) * sizeof(float);
    uint64_t requests = strtoull(argv[4], NULL, 10);
    float *data = calloc(1, size + 1);
    if (data == NULL || start(argv[1], &server, &error) != 0) {
        (void)fprintf(stderr, "%s: %s\n", argv[0], error.text);
        free(data);
        return 1;
    }
    const struct fm_named_tensor input = {"x",
                                          {.dtype = FM_DTYPE_FP32,
                                           .rank = 2,
                                           .shape = {1, (int64_t)(size / sizeof(float))},
                                           .data = data,
                                           .size = size}};
    struct fm_server_request request = {
        .struct_size = sizeof request, .model = argv[2], .inputs = &input, .input_count = 1};
    fm_mutex_init(&flow.lock);
    fm_condition_init(&flow.changed);
    uint64_t start_ns = fm_os_now_ns();
    uint64_t cpu_ns = fm_os_cpu_ns();
    int status =
        ask(server, &flow, &request, requests, (uint32_t)strtoul(argv[5], NULL, 10), &error);
    double took_s = (double)(fm_os_now_ns() - start_ns) / 1e9;
    double count = requests > 0 ? (double)requests : 1;
    (void)printf("{\"cpu_us\": %.2f, \"per_s\": %.0f, \"latency_us\": %.1f, \"failed\": %u}\n",
                 (double)(fm_os_cpu_ns() - cpu_ns) / 1e3 / count, count / took_s,
                 (double)flow.total_ns / 1e3 / count, flow.failed);
    if (status != 0 || flow.failed > 0) {
        (void)fprintf(stderr, "%s: %s\n", argv[0], status != 0 ? error.text : flow.error);
    }
    if (fm_server_stop(server, UINT64_C(10000000000), &error) == 0) {
        fm_server_free(server);
    }
    fm_condition_deinit(&flow.changed);
    fm_mutex_deinit(&flow.lock);
    free(data);
    return status == 0 && flow.failed == 0 ? 0 : 1;
}
