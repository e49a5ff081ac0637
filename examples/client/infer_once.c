/*
 * Asks a model once, over REST or gRPC, with or without TLS, and prints what it answers.
 *
 *     cc examples/client/infer_once.c $(pkg-config --cflags --libs libfermata-client) \
 *         -Wl,-rpath,$(pkg-config --variable=libdir libfermata-client) -o build/infer_once
 *     build/infer_once grpc://localhost:8001 resnet x 1 2.5 3
 *     build/infer_once --ca ca.pem --token secret --timeout-ms 50 https://host:8000 resnet x 1 2.5
 * 3
 *
 * sends one row of three FP32 numbers as the input `x`. With --ask it prints the model's inputs and
 * outputs instead.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fermata/client.h>

enum { NUMBERS_MAX = 4096 };

static void print_output(const char *name, const struct fm_tensor *tensor)
{
    printf("%s:", name);
    if (tensor->dtype == FM_DTYPE_FP32) {
        const float *numbers = tensor->data;
        for (size_t i = 0; i < tensor->size / sizeof(float); i++) {
            printf(" %g", (double)numbers[i]);
        }
    } else if (tensor->dtype == FM_DTYPE_BYTES) {
        struct fm_client_bytes element;
        size_t offset = 0;
        while (fm_client_bytes_next(tensor, &offset, &element) == 1) {
            printf(" '%.*s'", (int)element.size, (const char *)element.data);
        }
    } else {
        printf(" %zu bytes", tensor->size);
    }
    printf("\n");
}

static int infer(struct fm_client *client, char **arguments, int count, struct fm_error *error)
{
    static float numbers[NUMBERS_MAX];
    int rank_one = count - 2;
    struct fm_client_result *result = NULL;
    for (int i = 0; i < rank_one; i++) {
        numbers[i] = strtof(arguments[2 + i], NULL);
    }
    const struct fm_client_input input = {.name = arguments[1],
                                          .tensor = {.dtype = FM_DTYPE_FP32,
                                                     .rank = 2,
                                                     .shape = {1, rank_one},
                                                     .data = numbers,
                                                     .size = (size_t)rank_one * sizeof(float)}};
    const struct fm_client_request request = {
        .struct_size = sizeof(request), .model = arguments[0], .inputs = &input, .input_count = 1};
    int status = fm_client_infer(client, &request, &result, error);
    if (status != 0) {
        return status;
    }
    for (uint32_t i = 0; i < fm_client_result_count(result); i++) {
        print_output(fm_client_result_name(result, i), fm_client_result_output(result, i));
    }
    fm_client_result_free(result);
    return 0;
}

static void print_ports(const char *what, const struct fm_port *ports, uint32_t count)
{
    static const char *const types[] = {
#define TYPE_NAME(name, value, bits, oip, triton) [value] = oip,
        FM_DTYPE_TABLE(TYPE_NAME)
#undef TYPE_NAME
    };
    for (uint32_t i = 0; i < count; i++) {
        printf("%s %s %s [", what, ports[i].name, types[ports[i].dtype]);
        for (int32_t k = 0; k < ports[i].rank; k++) {
            printf("%s%lld", k > 0 ? "," : "", (long long)ports[i].shape[k]);
        }
        printf("]\n");
    }
}

static int ask(struct fm_client *client, const char *name, struct fm_error *error)
{
    struct fm_client_model *model = NULL;
    int status = fm_client_model_get(client, name, NULL, &model, error);
    if (status == 0) {
        print_ports("input", model->inputs, model->input_count);
        print_ports("output", model->outputs, model->output_count);
        fm_client_model_free(model);
    }
    return status;
}

int main(int argc, char **argv)
{
    struct fm_client_options options = {.struct_size = sizeof(options)};
    struct fm_client *client = NULL;
    struct fm_error error = {0};
    int asks = 0;
    int at = 1;
    for (; at + 1 < argc && strncmp(argv[at], "--", 2) == 0; at++) {
        const char *option = argv[at] + 2;
        if (strcmp(option, "ask") == 0) {
            asks = 1;
        } else if (strcmp(option, "json") == 0) {
            options.json = 1;
        } else if (strcmp(option, "ca") == 0) {
            options.ca_path = argv[++at];
        } else if (strcmp(option, "certificate") == 0) {
            options.certificate_path = argv[++at];
        } else if (strcmp(option, "key") == 0) {
            options.key_path = argv[++at];
        } else if (strcmp(option, "token") == 0) {
            options.token = argv[++at];
        } else if (strcmp(option, "timeout-ms") == 0) {
            options.timeout_ns = strtoull(argv[++at], NULL, 10) * 1000000u;
        } else {
            at = argc;
        }
    }
    if (argc - at < (asks ? 2 : 4) || argc - at > NUMBERS_MAX) {
        fprintf(stderr,
                "usage: %s [--ca FILE] [--certificate FILE --key FILE] [--token TOKEN] [--json]\n"
                "       [--timeout-ms N] URL MODEL INPUT NUMBER... | --ask URL MODEL\n",
                argv[0]);
        return 2;
    }
    int status = fm_client_open(argv[at], &options, &client, &error);
    if (status == 0) {
        status = asks ? ask(client, argv[at + 1], &error)
                      : infer(client, argv + at + 1, argc - at - 1, &error);
    }
    fm_client_close(client);
    if (status != 0) {
        fprintf(stderr, "%s: %s\n", argv[0], error.text);
    }
    return status == 0 ? 0 : 1;
}
