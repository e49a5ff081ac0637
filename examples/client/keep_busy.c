/*
 * Keeps a number of requests under way on one client, without a thread for each: every answer's
 * callback sends the next request. Prints how many were answered.
 *
 *     cc examples/client/keep_busy.c $(pkg-config --cflags --libs libfermata-client) -lpthread \
 *         -Wl,-rpath,$(pkg-config --variable=libdir libfermata-client) -o build/keep_busy
 *     build/keep_busy grpc://localhost:8001 resnet x 256 64 100000
 *
 * sends 100,000 requests, 64 of them under way at a time, each with one row of 256 FP32 numbers.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <fermata/client.h>

struct work {
    struct fm_client *client;
    struct fm_client_input input;
    struct fm_client_request request;
    pthread_mutex_t mutex;
    pthread_cond_t over;
    /* Behind the mutex. */
    long to_send;
    long under_way;
    long answered;
    struct fm_error failure; /* the first one */
};

static void answered(void *context, int status, struct fm_client_result *result,
                     const struct fm_error *error);

static bool send_next(struct work *work)
{
    struct fm_error error = {0};
    return fm_client_infer_start(work->client, &work->request, answered, work, NULL, &error) == 0;
}

/* On the client's thread: it sends the next one and returns, and never waits. */
static void answered(void *context, int status, struct fm_client_result *result,
                     const struct fm_error *error)
{
    struct work *work = context;
    bool more = false;
    fm_client_result_free(result);
    pthread_mutex_lock(&work->mutex);
    if (status == 0) {
        work->answered++;
    } else if (work->failure.status == 0) {
        work->failure = *error;
        work->to_send = 0;
    }
    if (work->to_send > 0) {
        work->to_send--;
        more = true;
    }
    pthread_mutex_unlock(&work->mutex);
    if (more && send_next(work)) {
        return;
    }
    pthread_mutex_lock(&work->mutex);
    if (--work->under_way == 0) {
        pthread_cond_signal(&work->over);
    }
    pthread_mutex_unlock(&work->mutex);
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void run(struct work *work, long under_way, long count)
{
    under_way = under_way < count ? under_way : count;
    work->to_send = count - under_way;
    work->under_way = under_way;
    for (long i = 0; i < under_way; i++) {
        if (!send_next(work)) {
            pthread_mutex_lock(&work->mutex);
            work->under_way--;
            pthread_mutex_unlock(&work->mutex);
        }
    }
    pthread_mutex_lock(&work->mutex);
    while (work->under_way > 0) {
        pthread_cond_wait(&work->over, &work->mutex);
    }
    pthread_mutex_unlock(&work->mutex);
}

int main(int argc, char **argv)
{
    static struct work work = {.mutex = PTHREAD_MUTEX_INITIALIZER,
                               .over = PTHREAD_COND_INITIALIZER};
    struct fm_error error = {0};
    if (argc != 7) {
        fprintf(stderr, "usage: %s URL MODEL INPUT NUMBERS UNDER-WAY COUNT\n", argv[0]);
        return 2;
    }
    long numbers = strtol(argv[4], NULL, 10);
    long under_way = strtol(argv[5], NULL, 10);
    long count = strtol(argv[6], NULL, 10);
    float *zeros = numbers > 0 ? calloc((size_t)numbers, sizeof(float)) : NULL;
    if (zeros == NULL || under_way < 1 || count < 1) {
        fprintf(stderr, "%s: NUMBERS, UNDER-WAY and COUNT must be above 0\n", argv[0]);
        free(zeros);
        return 2;
    }
    /* One tensor for all: nobody writes to it while requests refer to it. */
    work.input = (struct fm_client_input){.name = argv[3],
                                          .tensor = {.dtype = FM_DTYPE_FP32,
                                                     .rank = 2,
                                                     .shape = {1, numbers},
                                                     .data = zeros,
                                                     .size = (size_t)numbers * sizeof(float)}};
    work.request = (struct fm_client_request){.struct_size = sizeof(work.request),
                                              .model = argv[2],
                                              .inputs = &work.input,
                                              .input_count = 1};
    int status = fm_client_open(argv[1], NULL, &work.client, &error);
    if (status == 0) {
        double start_s = now_s();
        run(&work, under_way, count);
        double took_s = now_s() - start_s;
        printf("%ld answers, %.0f a second\n", work.answered, (double)work.answered / took_s);
        error = work.failure;
        status = error.status;
        fm_client_close(work.client);
    }
    if (status != 0) {
        fprintf(stderr, "%s: %s\n", argv[0], error.text);
    }
    free(zeros);
    return status == 0 ? 0 : 1;
}
