/*
 * libfermata in a program of your own: opens a pipeline with one BYTES input and prints its first
 * output for every file named.
 *
 *     cc examples/embed/read_page.c $(pkg-config --cflags --libs libfermata) \
 *         -Wl,-rpath,$(pkg-config --variable=libdir libfermata) -o build/read_page
 *     build/read_page examples/ocr/pipeline.yaml build/ocr/pages/bash/020.jpg
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fermata/fermata.h>

/* A BYTES tensor of one element: its length, then its bytes. */
static int read_tensor(const char *path, struct fm_tensor *ret_tensor)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        return -1;
    }
    long size = ftell(file);
    unsigned char *data = size < 0 ? NULL : malloc((size_t)size + 4);
    rewind(file);
    if (data == NULL || fread(data + 4, 1, (size_t)size, file) != (size_t)size) {
        fclose(file);
        free(data);
        return -1;
    }
    fclose(file);
    for (int i = 0; i < 4; i++) {
        data[i] = (unsigned char)((unsigned long)size >> (8 * i));
    }
    *ret_tensor = (struct fm_tensor){
        .dtype = FM_DTYPE_BYTES, .rank = 1, .shape = {1}, .data = data, .size = (size_t)size + 4};
    return 0;
}

int main(int argc, char **argv)
{
    struct fm_error error = {0};
    struct fm_session *session = NULL;
    if (argc < 3) {
        fprintf(stderr, "usage: %s MODEL-OR-PIPELINE FILE...\n", argv[0]);
        return 2;
    }
    if (fm_session_open(argv[1], NULL, &session, &error) != 0) {
        fprintf(stderr, "%s: %s\n", argv[0], error.text);
        return 1;
    }
    int failures = 0;
    for (int i = 2; i < argc; i++) {
        struct fm_tensor input = {0};
        struct fm_result *result = NULL;
        if (read_tensor(argv[i], &input) != 0) {
            perror(argv[i]);
            failures++;
        } else if (fm_session_run(session, &input, 1, &result, &error) != 0) {
            fprintf(stderr, "%s: %s\n", argv[i], error.text);
            failures++;
        } else {
            const struct fm_tensor *output = fm_result_output(result, 0);
            if (output->dtype == FM_DTYPE_BYTES && output->size >= 4) {
                printf("%.*s\n", (int)(output->size - 4), (const char *)output->data + 4);
            } else {
                printf("%zu bytes\n", output->size);
            }
        }
        fm_result_free(result);
        free(input.data);
    }
    fm_session_close(session);
    return failures == 0 ? 0 : 1;
}
