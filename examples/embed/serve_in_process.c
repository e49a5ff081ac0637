/*
 * A server inside a program of your own: loads a model repository, and has several threads ask one
 * of its models, each request with a deadline. Prints how many answers were in time.
 *
 *     cc examples/embed/serve_in_process.c $(pkg-config --cflags --libs libfermata) -lpthread \
 *         -Wl,-rpath,$(pkg-config --variable=libdir libfermata) -o build/serve_in_process
 *     build/serve_in_process models resnet x 4 0.05 2
 *
 * asks `resnet`, whose input `x` takes rows of 4 FP32 numbers, for 2 seconds, and wants each answer
 * within 50 ms. Requests of all threads run in batches that the server's scheduler forms, so that
 * they meet their deadlines on few accelerators.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <fermata/server.h>

enum { THREADS = 16, NUMBERS_MAX = 65536 };

struct work {
    struct fm_server *server;
    const char *model;
    const char *input;
    int64_t numbers;
    double deadline_s;
    double until_s;
    /* What came of it, by thread. */
    unsigned good[THREADS];
    unsigned late[THREADS];
    struct fm_error failure[THREADS];
};

struct worker {
    struct work *work;
    int index;
};

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void *work_run(void *argument)
{
    const struct worker *worker = argument;
    struct work *work = worker->work;
    static const float zeros[NUMBERS_MAX];
    const struct fm_named_tensor input = {
        .name = work->input,
        .tensor = {.dtype = FM_DTYPE_FP32,
                   .rank = 2,
                   .shape = {1, work->numbers},
                   .data = (void *)zeros,
                   .size = (size_t)work->numbers * sizeof(float)}};
    const struct fm_server_request request = {
        .struct_size = sizeof(request),
        .model = work->model,
        .inputs = &input,
        .input_count = 1,
        .timeout_ns = (uint64_t)(work->deadline_s * 1e9),
    };
    while (now_s() < work->until_s) {
        struct fm_server_call *call = NULL;
        struct fm_error error = {0};
        int status = fm_server_infer(work->server, &request, &call, &error);
        if (status == 0) {
            work->good[worker->index]++;
        } else if (status == FM_EDEADLINE) {
            /* It was not run, or not in time: nobody waits for an answer that is of no use. */
            work->late[worker->index]++;
        } else {
            work->failure[worker->index] = error;
            return NULL;
        }
        fm_server_call_free(call);
    }
    return NULL;
}

/* Until all threads are done; 0, or what one of them stumbled over. */
static int ask(struct work *work, double seconds, struct fm_error *error)
{
    pthread_t threads[THREADS];
    struct worker workers[THREADS];
    unsigned good = 0;
    unsigned late = 0;
    int count = 0;
    double start_s = now_s();
    work->until_s = start_s + seconds;
    for (; count < THREADS; count++) {
        workers[count] = (struct worker){work, count};
        if (pthread_create(&threads[count], NULL, work_run, &workers[count]) != 0) {
            break;
        }
    }
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        good += work->good[i];
        late += work->late[i];
        if (work->failure[i].status != 0) {
            *error = work->failure[i];
        }
    }
    double took_s = now_s() - start_s;
    printf("%u answers in time, %.0f a second; %u not\n", good, good / took_s, late);
    return error->status;
}

static int serve(const char *repository, struct fm_server **server, struct fm_error *error)
{
    struct fm_server_options *options = NULL;
    int status = fm_server_options_create(&options, error);
    status = status ? status : fm_server_options_add_path(options, repository, error);
    status = status ? status : fm_server_options_set(options, "accelerators", "2", error);
    status = status ? status : fm_server_start(options, server, error);
    fm_server_options_free(options);
    return status;
}

int main(int argc, char **argv)
{
    static struct work work;
    struct fm_error error = {0};
    if (argc != 7) {
        fprintf(stderr, "usage: %s REPOSITORY MODEL INPUT NUMBERS DEADLINE-S SECONDS\n", argv[0]);
        return 2;
    }
    work.model = argv[2];
    work.input = argv[3];
    work.numbers = strtoll(argv[4], NULL, 10);
    work.deadline_s = strtod(argv[5], NULL);
    if (work.numbers < 1 || work.numbers > NUMBERS_MAX) {
        fprintf(stderr, "%s: NUMBERS must be from 1 to %d\n", argv[0], NUMBERS_MAX);
        return 2;
    }
    int status = serve(argv[1], &work.server, &error);
    if (status == 0) {
        struct fm_error ending = {0};
        status = ask(&work, strtod(argv[6], NULL), &error);
        if (fm_server_stop(work.server, 10000000000u, &ending) == 0) {
            fm_server_free(work.server);
        } else {
            fprintf(stderr, "%s: %s\n", argv[0], ending.text);
        }
    }
    if (status != 0) {
        fprintf(stderr, "%s: %s\n", argv[0], error.text);
    }
    return status == 0 ? 0 : 1;
}
