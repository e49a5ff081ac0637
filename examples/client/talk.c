/*
 * A stream over gRPC: each line of the standard input is a request to a model that takes and gives
 * strings, all on one call; answers are printed as they come, with the number of their line.
 *
 *     cc examples/client/talk.c $(pkg-config --cflags --libs libfermata-client) -lpthread \
 *         -Wl,-rpath,$(pkg-config --variable=libdir libfermata-client) -o build/talk
 *     build/talk grpc://localhost:8001 echo x < lines
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <fermata/client.h>

struct talk {
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    bool over;
    int status;
    int failures;
};

static void on_answer(void *context, int status, struct fm_client_result *result,
                      const struct fm_error *error)
{
    struct talk *talk = context;
    const char *id = result != NULL ? fm_client_result_id(result) : "";
    if (status != 0) {
        printf("%s: %s\n", id, error->text);
        talk->failures++;
    } else {
        struct fm_client_bytes element = {"", 0};
        const struct fm_tensor *output = fm_client_result_output(result, 0);
        size_t offset = 0;
        if (output != NULL && fm_client_bytes_next(output, &offset, &element) == 1) {
            printf("%s: %.*s\n", id, (int)element.size, (const char *)element.data);
        }
    }
    fm_client_result_free(result);
}

static void on_ended(void *context, int status, const struct fm_error *error)
{
    struct talk *talk = context;
    if (status != 0) {
        fprintf(stderr, "%s\n", error->text);
    }
    pthread_mutex_lock(&talk->mutex);
    talk->over = true;
    talk->status = status;
    pthread_cond_signal(&talk->ended);
    pthread_mutex_unlock(&talk->mutex);
}

static int send_line(struct fm_client_stream *stream, char **names, const char *line, int number,
                     struct fm_error *error)
{
    char id[16];
    const struct fm_client_bytes element = {line, strlen(line)};
    struct fm_client_input input = {.name = names[1]};
    struct fm_client_request request = {.struct_size = sizeof(request),
                                        .model = names[0],
                                        .id = id,
                                        .inputs = &input,
                                        .input_count = 1};
    snprintf(id, sizeof(id), "%d", number);
    int status = fm_client_bytes_make(&element, 1, &input.tensor);
    if (status == 0) {
        status = fm_client_stream_send(stream, &request, error);
        fm_client_bytes_free(&input.tensor);
    }
    return status;
}

int main(int argc, char **argv)
{
    struct talk talk = {.mutex = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};
    const struct fm_client_stream_options options = {
        .struct_size = sizeof(options), .context = &talk, .answer = on_answer, .ended = on_ended};
    struct fm_client *client = NULL;
    struct fm_client_stream *stream = NULL;
    struct fm_error error = {0};
    char line[4096];
    if (argc != 4) {
        fprintf(stderr, "usage: %s URL MODEL INPUT < LINES\n", argv[0]);
        return 2;
    }
    int status = fm_client_open(argv[1], NULL, &client, &error);
    if (status == 0) {
        status = fm_client_stream_open(client, &options, &stream, &error);
    }
    for (int i = 1; status == 0 && fgets(line, sizeof(line), stdin) != NULL; i++) {
        line[strcspn(line, "\n")] = '\0';
        status = send_line(stream, argv + 2, line, i, &error);
    }
    if (status == 0) {
        fm_client_stream_finish(stream);
        pthread_mutex_lock(&talk.mutex);
        while (!talk.over) {
            pthread_cond_wait(&talk.ended, &talk.mutex);
        }
        status = talk.status;
        pthread_mutex_unlock(&talk.mutex);
    } else {
        fprintf(stderr, "%s: %s\n", argv[0], error.text);
    }
    fm_client_stream_close(stream);
    fm_client_close(client);
    return status == 0 && talk.failures == 0 ? 0 : 1;
}
