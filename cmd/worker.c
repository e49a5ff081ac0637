/*
 * `fermata worker`: joins the master of a batch job and runs what it is given.
 *
 * Owns: options, signals, exit codes. Does not own: the work (engines/batch/worker.h). Thread rule:
 * the main thread.
 */
#include <stdio.h>

#include "cmd/command.h"
#include "engines/batch/worker.h"
#include "fermata_build_facts.h"
#include "host/os/process.h"
#include "host/os/stop_signal.h"
#include "host/runtime/accelerator_group.h"

static bool on_stop(void *context)
{
    (void)context;
    return fm_stop_signal_get() != 0;
}

/* Another process is to take its place, which was noted. */
static bool is_told(int status)
{
    return status == FM_EAGAIN || status == FM_ENOMEM || status == FM_EDEADLINE;
}

static int exit_code_of(int status)
{
    switch (status) {
    case FM_ENOSPC:
    case FM_EIO:
    case FM_EUNAVAILABLE:
        return FM_EXIT_UNAVAILABLE;
    case FM_EINTERNAL:
        return FM_EXIT_INCOMPLETE;
    default:
        return FM_EXIT_INPUT;
    }
}

static int run(const struct fm_call *call)
{
    struct fm_error error = {0};
    struct fm_fault fault = {.status = 0};
    struct fm_batch_token token;
    const char *token_file = fm_call_string(call, "token-file");
    const char *fault_text = fm_call_string(call, "fault");
    if (!fm_call_given(call, "join")) {
        return fm_call_usage(call, "--join is missing: where the master listens");
    }
    if (fault_text != NULL && fm_fault_parse(fault_text, &fault, &error) != 0) {
        return fm_call_usage(call, "--fault: %s", error.text);
    }
    if (fm_call_given(call, "tls-cert") != fm_call_given(call, "tls-key")) {
        return fm_call_usage(call, "--tls-cert and --tls-key go together: give both or none");
    }
    if (fm_call_given(call, "accelerators")) {
        struct fm_accelerator_group groups[FM_GROUPS_MAX];
        uint32_t count = 0;
        if (fm_accelerator_groups_parse(fm_call_string(call, "accelerators"), groups, &count,
                                        &error) != 0) {
            return fm_call_usage(call, "--accelerators: %s", error.text);
        }
    }
    if (token_file != NULL && fm_batch_token_read(token_file, &token, &error) != 0) {
        return fm_call_fail(call, &error);
    }
    struct fm_worker_options worker = {
        .url = fm_call_string(call, "join"),
        .version = FM_BUILD_VERSION,
        .name = fm_call_string(call, "name"),
        .token = token_file != NULL ? &token : NULL,
        .ca_path = fm_call_string(call, "tls-ca"),
        .certificate_path = fm_call_string(call, "tls-cert"),
        .key_path = fm_call_string(call, "tls-key"),
        .sharers = (uint32_t)fm_call_integer(call, "sharers"),
        .accelerators = fm_call_string(call, "accelerators"),
        .patience_ns = fm_call_duration_ns(call, "patience"),
        .fault = fault_text != NULL ? &fault : NULL,
        .stop = on_stop,
        .note = fm_call_flag(call, "quiet") ? NULL : fm_call_note_text,
        .context = (void *)(uintptr_t)call,
    };
    fm_stop_signal_install();
    bool stuck = false;
    int status = fm_worker_run(&worker, &stuck, &error);
    int exit_code = fm_stop_signal_get() != 0 ? 128 + fm_stop_signal_get() : FM_EXIT_OK;
    if (is_told(status)) {
        exit_code = FM_EXIT_INCOMPLETE;
    } else if (status != 0) {
        exit_code = fm_call_fail_with(call, exit_code_of(status), "%s", error.text);
    }
    if (stuck) {
        fm_process_end(exit_code);
    }
    return exit_code;
}

static const struct fm_option options[] = {
    {.name = "join",
     .kind = FM_OPTION_STRING,
     .value_name = "URL",
     .help = "where the master listens: grpc://HOST:PORT, grpcs://HOST:PORT with TLS, unix:PATH"},
    {.name = "name",
     .kind = FM_OPTION_STRING,
     .value_name = "NAME",
     .help = "what the master calls this worker; without it, its host and process"},
    {.name = "patience",
     .kind = FM_OPTION_DURATION,
     .value_name = "TIME",
     .default_value = "10s",
     .help = "how long to try to reach the master in the beginning"},
    {.name = "sharers",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .min = 1,
     .max = 4096,
     .help = "how many workers share this machine's memory, with this one; without it, as many as "
             "the master knows of when this one joins"},
    {.name = "accelerators",
     .kind = FM_OPTION_STRING,
     .value_name = "GROUPS",
     .help =
         "what this host has, such as front=gpu:1@0,back=gpu:2@1; without it, what the job file "
         "says of every worker"},
    {.name = "token-file",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .group = "Access",
     .help = "the token that the master wants to see"},
    {.name = "tls-ca",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "who may have signed the master's certificate (PEM); without it, whom this system "
             "trusts"},
    {.name = "tls-cert",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "this worker's certificate (PEM), where the master wants one"},
    {.name = "tls-key",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "its key (PEM, without a passphrase)"},
    {.name = "quiet",
     .short_name = 'q',
     .kind = FM_OPTION_FLAG,
     .help = "no notes, only errors",
     .group = "Output"},
    {.name = "fault",
     .kind = FM_OPTION_STRING,
     .value_name = "POINT[:N][:HOW]",
     .group = "Testing recovery",
     .help = "die or fail at this point, as in fermata batch --fault"},
    {.name = NULL},
};

static const struct fm_example examples[] = {
    {.text = "Help a job on another host, which was started with --listen",
     .command = "fermata worker --join grpc://master.example:7070 --token-file token"},
    {.text = "Help a job that runs on this machine",
     .command = "fermata worker --join unix:out/.fermata/master.sock"},
    {.text = NULL},
};

static const int exit_codes[] = {FM_EXIT_INPUT,       FM_EXIT_INCOMPLETE, FM_EXIT_UNAVAILABLE,
                                 FM_EXIT_INTERRUPTED, FM_EXIT_TERMINATED, 0};

const struct fm_command fm_command_worker = {
    .name = "worker",
    .summary = "help with a batch job that runs: join its master",
    .description =
        "Joins the master of a batch job, gets the job from it, and runs the shards that it is "
        "given until the job is over. Workers may come and go at any time: what one had begun "
        "is done by another. The job file, its inputs, models and output directory have to be "
        "there under the same paths as at the master's.\n\n"
        "A worker whose stage hangs, that ran out of memory, or whose memory has grown near to the "
        "job's limit says so and ends with exit code 5: whoever started it is to start another "
        "one.\n\n"
        "fermata batch starts workers of its own (--workers); more can be added while it runs. "
        "The first Ctrl-C or SIGTERM finishes the rows in work, keeps them, and gives the rest "
        "back; the second ends at once.",
    .options = options,
    .examples = examples,
    .exit_codes = exit_codes,
    .see_also = "docs/batch.md",
    .results_elsewhere = true,
    .run = run,
};
