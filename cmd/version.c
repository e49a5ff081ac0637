/*
 * `fermata version`, also `fermata --version`: what this binary is, how it was built, and what it
 * can run.
 *
 * The build writes fermata_build_facts.h and fermata_commit.h. Loads the backends to find out
 * whether they work. Thread rule: the main thread.
 */
#include <gnu/libc-version.h>
#include <stdio.h>
#include <string.h>

#include "cmd/command.h"
#include "core/proto/json.h"
#include "core/util/text.h"
#include "fermata_build_facts.h"
#include "fermata_commit.h"
#include "host/os/os.h"
#include "host/runtime/backend_registry.h"

/* The backends that come with Fermata. Others are found by name when a model asks for them. */
static const char *const backend_names[] = {"onnxruntime", "emulated", "identity"};
enum { BACKEND_COUNT = sizeof backend_names / sizeof backend_names[0] };

static const char *architecture(void)
{
#if defined(__x86_64__)
    return "x86_64";
#elif defined(__aarch64__)
    return "aarch64";
#elif defined(__riscv)
    return "riscv";
#else
    return "other";
#endif
}

static void field(const char *name, const char *value)
{
    if (value[0] != '\0') {
        printf("  %-12s %s\n", name, value);
    }
}

static void print_text(const struct fm_call *call)
{
    printf("%sfermata %s%s%s%s%s\n", fm_style(call->color_out, FM_STYLE_BOLD), FM_BUILD_VERSION,
           fm_style(call->color_out, FM_STYLE_RESET), FM_BUILD_COMMIT[0] != '\0' ? " (commit " : "",
           FM_BUILD_COMMIT, FM_BUILD_COMMIT[0] != '\0' ? ")" : "");
    field("compiler", FM_BUILD_COMPILER);
    field("build", FM_BUILD_TYPE);
    field("sanitizers", FM_BUILD_SANITIZE);
    printf("  %-12s linux %s, glibc %s, %u usable CPUs\n", "system", architecture(),
           gnu_get_libc_version(), fm_os_cpu_count());
    field("libraries", "libuv " FM_BUILD_LIBUV ", " FM_BUILD_HTTP_PARSER);
    field("onnxruntime", FM_BUILD_ONNXRUNTIME);
    field("duckdb", FM_BUILD_DUCKDB);
    for (size_t i = 0; i < BACKEND_COUNT; i++) {
        const struct fm_backend *backend = NULL;
        struct fm_error error = {0};
        if (fm_backend_find(backend_names[i], &backend, &error) == 0) {
            printf("  %-12s %s %s: %s\n", i == 0 ? "backends" : "", backend->name, backend->version,
                   backend->description);
        } else {
            printf("  %-12s %s: not usable: %s\n", i == 0 ? "backends" : "", backend_names[i],
                   error.text);
        }
    }
}

static void write_backends(struct fm_json_writer *writer)
{
    fm_json_key(writer, "backends");
    fm_json_array_begin(writer);
    for (size_t i = 0; i < BACKEND_COUNT; i++) {
        const struct fm_backend *backend = NULL;
        struct fm_error error = {0};
        int status = fm_backend_find(backend_names[i], &backend, &error);
        fm_json_object_begin(writer);
        fm_json_member_string(writer, "name", backend_names[i]);
        fm_json_key(writer, "usable");
        fm_json_bool(writer, status == 0);
        if (status == 0) {
            fm_json_member_string(writer, "version", backend->version);
            fm_json_member_string(writer, "description", backend->description);
        } else {
            fm_json_member_string(writer, "reason", error.text);
        }
        fm_json_object_end(writer);
    }
    fm_json_array_end(writer);
}

static int print_json(const struct fm_call *call)
{
    struct fm_text text = {0};
    struct fm_json_writer writer;
    fm_json_writer_init(&writer, &text);
    fm_json_object_begin(&writer);
    fm_json_member_string(&writer, "version", FM_BUILD_VERSION);
    fm_json_member_string(&writer, "commit", FM_BUILD_COMMIT);
    fm_json_member_string(&writer, "compiler", FM_BUILD_COMPILER);
    fm_json_member_string(&writer, "build_type", FM_BUILD_TYPE);
    fm_json_member_string(&writer, "sanitizers", FM_BUILD_SANITIZE);
    fm_json_member_string(&writer, "architecture", architecture());
    fm_json_member_string(&writer, "glibc", gnu_get_libc_version());
    fm_json_key(&writer, "usable_cpus");
    fm_json_uint(&writer, fm_os_cpu_count());
    fm_json_member_string(&writer, "libuv", FM_BUILD_LIBUV);
    fm_json_member_string(&writer, "http_parser", FM_BUILD_HTTP_PARSER);
    fm_json_member_string(&writer, "onnxruntime", FM_BUILD_ONNXRUNTIME);
    fm_json_member_string(&writer, "duckdb", FM_BUILD_DUCKDB);
    fm_json_key(&writer, "backend_abi");
    char abi[32];
    (void)snprintf(abi, sizeof abi, "%d.%d", FM_BACKEND_ABI_MAJOR, FM_BACKEND_ABI_MINOR);
    fm_json_string(&writer, abi);
    write_backends(&writer);
    fm_json_object_end(&writer);
    int exit_code = FM_EXIT_OK;
    if (text.failed) {
        exit_code = fm_call_fail_with(call, FM_EXIT_FAILURE, "out of memory");
    } else {
        printf("%s\n", text.data);
    }
    fm_text_deinit(&text);
    return exit_code;
}

static int run(const struct fm_call *call)
{
    if (fm_call_flag(call, "json")) {
        return print_json(call);
    }
    print_text(call);
    return FM_EXIT_OK;
}

static const struct fm_option options[] = {
    FM_OPTION_JSON,
    {.name = NULL},
};

static const struct fm_example examples[] = {
    {"What is this, and which backends does it find", "fermata --version"},
    {"The same for a program, or to paste into a bug report", "fermata version --json"},
    {NULL, NULL},
};

const struct fm_command fm_command_version = {
    .name = "version",
    .summary = "print the version, how it was built, and which backends it finds",
    .description = "The backends are really loaded to find out, so a library that is missing shows "
                   "here with the reason.",
    .options = options,
    .examples = examples,
    .run = run,
};
