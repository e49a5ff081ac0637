/*
 * A tool of the build: writes a file's bytes as a C array. usage: embed FILE OUTPUT NAME
 *
 * Owns: nothing else; no part of the product. Thread rule: one thread.
 */
#include <stdio.h>

int main(int count, char **arguments)
{
    FILE *in = count == 4 ? fopen(arguments[1], "rb") : NULL;
    FILE *out = in != NULL ? fopen(arguments[2], "w") : NULL;
    if (out == NULL) {
        (void)fprintf(stderr, "usage: embed FILE OUTPUT NAME\n");
        return 1;
    }
    (void)fprintf(out,
                  "#include <stddef.h>\nextern const unsigned char %s[];\n"
                  "extern const size_t %s_size;\nconst unsigned char %s[] = {",
                  arguments[3], arguments[3], arguments[3]);
    int byte;
    size_t size = 0;
    while ((byte = fgetc(in)) != EOF) {
        (void)fprintf(out, "%s%d,", size++ % 20 == 0 ? "\n" : "", byte);
    }
    (void)fprintf(out, "\n};\nconst size_t %s_size = %zu;\n", arguments[3], size);
    int failed = ferror(in) || ferror(out);
    (void)fclose(in);
    return fclose(out) != 0 || failed ? 1 : 0;
}
