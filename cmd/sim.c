/*
 * `fermata sim`: runs a scenario in virtual time and says what came out.
 *
 * Owns: options, which question is asked, printing. Does not own: the simulation (engines/sim).
 * Thread rule: the main thread; the search has threads of its own.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cmd/command.h"
#include "cmd/file_arguments.h"
#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/text.h"
#include "engines/sim/page.h"
#include "engines/sim/partition.h"
#include "engines/sim/recorder.h"
#include "engines/sim/recording.h"
#include "engines/sim/replay.h"
#include "engines/sim/report.h"
#include "engines/sim/scenario_file.h"
#include "engines/sim/search.h"
#include "engines/sim/what_if.h"
#include "host/os/file.h"
#include "host/os/os.h"

static const char *const policies[] = {"deferred", "eager",    "latest",    "timeout",  "target",
                                       "nexus",    "shepherd", "clockwork", "symphony", NULL};
_Static_assert(FM_COUNT_OF(policies) == FM_SCHED_POLICY_COUNT_ + 1, "one name each");

struct question {
    const struct fm_call *call;
    struct fm_sim_scenario scenario;
    enum fm_sched_policy_kind policies[FM_SCHED_POLICY_COUNT_];
    uint32_t policy_count;
    uint64_t seeds[FM_OPTION_LIST_MAX];
    uint32_t seed_count;
    double scale;
    bool many; /* --find-goodput or --compare: a table of runs */
    const char *trace;
    const char *report;
    const char *record;
    const char *replay; /* a recording; with what_if: the scenario is made of it */
    bool what_if;
};

/* Replays read the whole file: 16 GiB are more than a thousand million requests. */
#define RECORDING_BYTES_MAX ((size_t)1 << 34)

/* Loads of the report's curves, times --scale. */
static const double curve_loads[] = {0.1, 0.25, 0.4, 0.55, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.35, 1.5};

/* --- options -----------------------------------------------------------------------------------
 */

/* "deferred,eager": known names, each once. */
static int compare_parse(const char *list, struct question *question, struct fm_error *reterr)
{
    while (list != NULL) {
        size_t length = strcspn(list, ",");
        char name[40];
        (void)snprintf(name, sizeof name, "%.*s", (int)(length < 39 ? length : 39), list);
        enum fm_sched_policy_kind policy = fm_sched_policy_parse(name);
        if (policy == FM_SCHED_POLICY_COUNT_) {
            const char *nearest = fm_text_suggest(name, policies, FM_SCHED_POLICY_COUNT_);
            return fm_error_set(reterr, FM_EINVAL, "--compare: there is no policy '%s'%s%s%s", name,
                                nearest != NULL ? "; did you mean '" : "",
                                nearest != NULL ? nearest : "", nearest != NULL ? "'?" : "");
        }
        for (uint32_t i = 0; i < question->policy_count; i++) {
            if (question->policies[i] == policy) {
                return fm_error_set(reterr, FM_EINVAL, "--compare: '%s' is named twice", name);
            }
        }
        question->policies[question->policy_count++] = policy;
        list = list[length] == ',' ? list + length + 1 : NULL;
    }
    return 0;
}

/* What is run: a scenario, a recording once more, or a recording's load. */
static int source_check(const struct fm_call *call, struct question *question,
                        struct fm_error *reterr)
{
    static const char *const of_runs[] = {"policy",   "seed",    "scale",    "find-goodput",
                                          "bad-rate", "compare", "seeds",    "threads",
                                          "trace",    "report",  "partition"};
    const char *scenario = fm_call_positional(call, 0);
    question->replay = fm_call_string(call, "replay");
    question->what_if = fm_call_flag(call, "what-if");
    if (question->replay == NULL) {
        if (question->what_if) {
            return fm_error_set(reterr, FM_EINVAL,
                                "--what-if is for --replay: it runs a recording's load");
        }
        return scenario != NULL ? 0
                                : fm_error_set(reterr, FM_EINVAL,
                                               "SCENARIO is missing: a scenario file "
                                               "(docs/sim.md), or --replay with a recording");
    }
    if (scenario != NULL) {
        return fm_error_set(reterr, FM_EINVAL,
                            "give SCENARIO or --replay, not both: a recording brings its own load");
    }
    for (size_t i = 0; !question->what_if && i < FM_COUNT_OF(of_runs); i++) {
        if (fm_call_given(call, of_runs[i])) {
            return fm_error_set(reterr, FM_EINVAL,
                                "--replay repeats what was recorded, which --%s cannot change; add "
                                "--what-if to run the recorded load anew",
                                of_runs[i]);
        }
    }
    return 0;
}

/* A seed that is there twice would count twice in the median. */
static int seeds_check(const struct fm_call *call, struct fm_error *reterr)
{
    uint32_t count = 0;
    const int64_t *seeds = fm_call_integers(call, "seeds", &count);
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (seeds[i] == seeds[j]) {
                return fm_error_set(reterr, FM_EINVAL, "--seeds: %" PRId64 " is named twice",
                                    seeds[i]);
            }
        }
    }
    return 0;
}

/* Looks at the arguments alone: every EINVAL is a usage error. */
static int options_check(const struct fm_call *call, struct question *question,
                         struct fm_error *reterr)
{
    question->many = fm_call_flag(call, "find-goodput") || fm_call_given(call, "compare");
    question->scale = fm_call_number(call, "scale");
    question->trace = fm_call_string(call, "trace");
    question->report = fm_call_string(call, "report");
    question->record = fm_call_string(call, "record");
    int status = source_check(call, question, reterr);
    if (status != 0) {
        return status;
    }
    if (question->record != NULL && question->many) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--record records one run: leave out --find-goodput and --compare");
    }
    if (fm_call_given(call, "seeds") && !question->many) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--seeds is for --find-goodput and --compare; one run has one --seed");
    }
    if (fm_call_given(call, "seeds") && fm_call_given(call, "seed")) {
        return fm_error_set(reterr, FM_EINVAL, "give --seed or --seeds, not both");
    }
    if (fm_call_given(call, "compare") && fm_call_given(call, "policy")) {
        return fm_error_set(reterr, FM_EINVAL, "give --policy or --compare, not both");
    }
    if (question->trace != NULL && question->many) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--trace records one run: leave out --find-goodput and --compare");
    }
    if (question->report != NULL && fm_call_flag(call, "find-goodput")) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--report draws curves over the load: leave out --find-goodput");
    }
    if (fm_call_given(call, "bad-rate") && !fm_call_flag(call, "find-goodput")) {
        return fm_error_set(reterr, FM_EINVAL, "--bad-rate is for --find-goodput");
    }
    if (fm_call_number(call, "bad-rate") >= 1) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--bad-rate: any load at all keeps a share of 1: give one below it");
    }
    if (question->record != NULL && fm_call_given(call, "partition")) {
        return fm_error_set(reterr, FM_EINVAL,
                            "--record records one scheduler, with --partition there are several: "
                            "give one of them");
    }
    status = seeds_check(call, reterr);
    return status == 0 ? compare_parse(fm_call_string(call, "compare"), question, reterr) : status;
}

/* No result may lie over what is read, or over another result. */
static int files_check(const struct question *question, struct fm_error *reterr)
{
    const struct fm_file_argument files[] = {
        {.name = "SCENARIO", .path = fm_call_positional(question->call, 0)},
        {.name = "--replay", .path = question->replay},
        {.name = "--record", .path = question->record, .written = true},
        {.name = "--trace", .path = question->trace, .written = true},
        {.name = "--report", .path = question->report, .written = true},
    };
    int status = fm_file_arguments_check(files, FM_COUNT_OF(files), reterr);
    const struct fm_sim_file *named = question->scenario.files;
    for (; status == 0 && named != NULL; named = named->next) {
        for (size_t i = 0; status == 0 && i < FM_COUNT_OF(files); i++) {
            const struct fm_file_argument pair[] = {
                {.name = "a file that the scenario names", .path = named->path}, files[i]};
            status = files[i].written ? fm_file_arguments_check(pair, 2, reterr) : 0;
        }
    }
    return status;
}

/* What can be known to be a wrong call only once the scenario is: every EINVAL is a usage error. */
static int scenario_options_check(const struct question *question, struct fm_error *reterr)
{
    const struct fm_call *call = question->call;
    bool many = fm_call_given(call, "seeds");
    if ((many || fm_call_given(call, "seed")) && !fm_sim_scenario_draws(&question->scenario)) {
        fm_call_note(call, "%s changes nothing: %s", many ? "--seeds" : "--seed",
                     question->what_if
                         ? "a recording's requests come when they came"
                         : "all requests of this scenario come at times that are given");
    }
    return files_check(question, reterr);
}

/* The partition that was asked for, in the scenario that was loaded. */
static int partition_complete(struct question *question, struct fm_error *reterr)
{
    struct fm_sim_scenario *scenario = &question->scenario;
    if (!fm_call_given(question->call, "partition")) {
        return question->record == NULL || scenario->partition.clusters == 0
                   ? 0
                   : fm_error_set(
                         reterr, FM_EINVAL,
                         "--record records one scheduler, but '%s' has a 'partition', with "
                         "one for each sub-cluster",
                         fm_call_positional(question->call, 0));
    }
    scenario->partition.clusters = (uint32_t)fm_call_integer(question->call, "partition");
    return fm_sim_scenario_check(scenario, reterr);
}

/* What the scenario says where the options say nothing. */
static void options_complete(struct question *question)
{
    const struct fm_call *call = question->call;
    if (question->policy_count == 0) {
        question->policies[question->policy_count++] =
            fm_call_given(call, "policy")
                ? (enum fm_sched_policy_kind)fm_call_choice(call, "policy")
                : question->scenario.policy;
    }
    if (fm_call_given(call, "seeds")) {
        const int64_t *seeds = fm_call_integers(call, "seeds", &question->seed_count);
        for (uint32_t i = 0; i < question->seed_count; i++) {
            question->seeds[i] = (uint64_t)seeds[i];
        }
    } else {
        question->seed_count = 1;
        question->seeds[0] = fm_call_given(call, "seed") ? (uint64_t)fm_call_integer(call, "seed")
                                                         : question->scenario.seed;
    }
}

/* --- answers -----------------------------------------------------------------------------------
 */

/* Whatever the auditor found is a bug worth a report: said after the numbers, never hidden. */
static int violation_say(const struct fm_call *call, uint64_t violations, const char *first,
                         enum fm_sched_policy_kind policy, uint64_t seed)
{
    return fm_call_fail_with(
        call, FM_EXIT_FAILURE,
        "the auditor found %" PRIu64 " violation%s of what policy %s promises (seed %" PRIu64
        "), the first %s; this is a defect: please report it with the scenario",
        violations, violations == 1 ? "" : "s", fm_sched_policy_name(policy), seed, first);
}

/* Writes a finished text to a file and releases it. */
static int file_write(const char *path, struct fm_text *text, struct fm_error *reterr)
{
    int status = text->failed
                     ? fm_error_set(reterr, FM_ENOMEM, "out of memory while making '%s'", path)
                     : fm_file_write_atomic(path, text->data, text->length, reterr);
    fm_text_deinit(text);
    return status;
}

static uint32_t thread_count(const struct fm_call *call)
{
    return fm_call_given(call, "threads") ? (uint32_t)fm_call_integer(call, "threads")
                                          : fm_os_cpu_count();
}

static int page_write(const struct question *question, const struct fm_sim_result *result,
                      const struct fm_sim_recording *recording, struct fm_error *reterr)
{
    uint32_t loads = (uint32_t)FM_COUNT_OF(curve_loads);
    uint32_t count = question->policy_count * loads;
    struct fm_sim_task *tasks = fm_arena_alloc(question->call->arena, count * sizeof *tasks);
    if (tasks == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < count; i++) {
        tasks[i].policy = question->policies[i / loads];
        tasks[i].seed = question->seeds[0];
        tasks[i].scale = question->scale * curve_loads[i % loads];
    }
    struct fm_sim_search_options options = {.thread_count = thread_count(question->call)};
    int status = fm_sim_search(&question->scenario, &options, tasks, count, reterr);
    if (status != 0) {
        return status;
    }
    struct fm_text text = {0};
    fm_sim_page_write(&(struct fm_sim_page){.result = result,
                                            .recording = recording,
                                            .curve = tasks,
                                            .curve_policies = question->policy_count,
                                            .curve_loads = loads},
                      &text);
    return file_write(question->report, &text, reterr);
}

/* What the user must know of loads that end, to read the numbers. */
static void traces_note(const struct question *question, const struct fm_sim_traces *traces)
{
    const struct fm_call *call = question->call;
    /* A search goes to loads at which they end earlier: that is said in the documents. */
    if (traces->shortened && !question->what_if && !fm_call_flag(call, "find-goodput")) {
        fm_call_note(call,
                     "the load ends with the last request of the traces, at %.9g s: measured is "
                     "until then, not for all of 'measure'",
                     (double)traces->end_ns / 1e9);
    }
    if (traces->early != NULL) {
        fm_call_note(call,
                     "the trace of '%s' ends at %.9g s, before the measured interval does: what is "
                     "measured behind it is the rest of the load alone",
                     traces->early, (double)traces->early_ns / 1e9);
    }
    if (traces->left_out > 0) {
        fm_call_note(call,
                     "%" PRIu64 " requests of traces come after the measured interval and are left "
                     "out: give a longer 'measure' to have them",
                     traces->left_out);
    }
}

static void run_note(const struct question *question, const struct fm_sim_result *result)
{
    traces_note(question, &result->traces);
    if (result->total.requests == 0) {
        fm_call_note(question->call,
                     "no request arrived in the measured interval, so that every number is 0: "
                     "measure longer, or give arrivals that lie in it");
    }
}

static int record_write(const struct question *question, struct fm_sim_recorder *recorder,
                        struct fm_error *reterr)
{
    int status = fm_sim_recorder_finish(recorder, reterr);
    return status == 0 ? file_write(question->record, &recorder->bytes, reterr) : status;
}

/* *ret_path: the one that failed. */
static int files_write(const struct question *question, const struct fm_sim_result *result,
                       struct fm_sim_recording *recording, struct fm_sim_recorder *recorder,
                       const char **ret_path, struct fm_error *reterr)
{
    *ret_path = question->record;
    int status = question->record != NULL ? record_write(question, recorder, reterr) : 0;
    if (status == 0 && question->trace != NULL) {
        struct fm_text text = {0};
        *ret_path = question->trace;
        fm_sim_recording_trace(recording, result, &text);
        status = file_write(question->trace, &text, reterr);
        if (status == 0 && recording->omitted > 0) {
            fm_call_note(question->call,
                         "the trace holds the first %" PRIu32 " batches, not the %" PRIu64
                         " after them",
                         recording->span_count, recording->omitted);
        }
    }
    if (status == 0 && question->report != NULL) {
        if (recording->span_count > FM_SIM_PAGE_SPANS_MAX) {
            /* A page of a million batches would open in no browser. */
            recording->omitted += recording->span_count - FM_SIM_PAGE_SPANS_MAX;
            recording->span_count = FM_SIM_PAGE_SPANS_MAX;
        }
        *ret_path = question->report;
        status = page_write(question, result, recording, reterr);
    }
    return status;
}

/* One run, of the first policy. `print`: its numbers are the answer. */
static int run_once(const struct question *question, bool print)
{
    const struct fm_call *call = question->call;
    struct fm_error error = {0};
    struct fm_sim_result *result = NULL;
    struct fm_sim_recorder recorder = {0};
    struct fm_sim_recording recording = {
        .span_max = question->trace != NULL ? FM_SIM_TRACE_SPANS_MAX : FM_SIM_PAGE_SPANS_MAX};
    struct fm_sim_run_options options = {
        .policy = question->policies[0],
        .seed = question->seeds[0],
        .scale = question->scale,
        .on_span =
            question->trace != NULL || question->report != NULL ? fm_sim_recording_add : NULL,
        .context = &recording,
        .recorder = question->record != NULL ? &recorder : NULL,
        .with_pool = print,
    };
    uint64_t start_ns = fm_os_now_ns();
    int status = fm_sim_run(&question->scenario, &options, &result, &error);
    if (status != 0) {
        fm_sim_recorder_deinit(&recorder);
        fm_sim_recording_deinit(&recording);
        return fm_call_fail(call, &error);
    }
    uint64_t elapsed_ns = fm_os_now_ns() - start_ns;
    int exit_code = FM_EXIT_OK;
    if (print) {
        struct fm_text text = {0};
        if (call->json) {
            fm_sim_report_json(result, &text);
        } else {
            fm_sim_report_table(result, &text);
        }
        exit_code = fm_call_print(call, &text);
        fm_call_note(call, "%" PRIu64 " requests simulated in %.2f s", result->requests_all,
                     (double)elapsed_ns / 1e9);
        run_note(question, result);
    }
    const char *path = NULL;
    status = files_write(question, result, &recording, &recorder, &path, &error);
    if (exit_code == FM_EXIT_OK && status != 0) {
        exit_code = fm_file_argument_fail(call, path, &error);
    }
    if (exit_code == FM_EXIT_OK && result->audit.violations > 0) {
        exit_code = violation_say(call, result->audit.violations, result->audit.first,
                                  result->policy, result->seed);
    }
    fm_sim_recorder_deinit(&recorder);
    fm_sim_recording_deinit(&recording);
    fm_sim_result_free(result);
    return exit_code;
}

static int report_many(const struct question *question, const struct fm_sim_task *tasks,
                       uint32_t task_count)
{
    const struct fm_call *call = question->call;
    double bad_rate = fm_call_number(call, "bad-rate");
    struct fm_text text = {0};
    if (question->call->json && fm_call_given(call, "compare")) {
        fm_sim_report_compare_json(tasks, task_count, question->seed_count, &text);
    } else if (fm_call_given(call, "compare")) {
        fm_sim_report_compare_table(tasks, task_count, question->seed_count, &text);
    } else if (question->call->json) {
        fm_sim_report_goodput_json(&question->scenario, bad_rate, tasks, task_count, &text);
    } else {
        fm_sim_report_goodput_table(bad_rate, tasks, task_count, &text);
    }
    int exit_code = fm_call_print(call, &text);
    traces_note(question, &fm_sim_report_median(tasks, question->seed_count)->summary.traces);
    for (uint32_t i = 0; exit_code == FM_EXIT_OK && i < task_count; i++) {
        if (tasks[i].summary.violations > 0) {
            return violation_say(call, tasks[i].summary.violations, tasks[i].summary.violation,
                                 tasks[i].policy, tasks[i].seed);
        }
    }
    return exit_code;
}

static int run_many(struct question *question)
{
    const struct fm_call *call = question->call;
    struct fm_error error = {0};
    uint32_t count = question->policy_count * question->seed_count;
    struct fm_sim_task *tasks = fm_arena_alloc(call->arena, count * sizeof *tasks);
    if (tasks == NULL) {
        return fm_call_fail_with(call, FM_EXIT_FAILURE, "out of memory");
    }
    for (uint32_t i = 0; i < count; i++) {
        tasks[i].policy = question->policies[i / question->seed_count];
        tasks[i].seed = question->seeds[i % question->seed_count];
        tasks[i].scale = question->scale;
    }
    struct fm_sim_search_options options = {
        .thread_count = thread_count(call),
        .find_goodput = fm_call_flag(call, "find-goodput"),
        .bad_rate = fm_call_number(call, "bad-rate"),
    };
    return fm_sim_search(&question->scenario, &options, tasks, count, &error) == 0
               ? report_many(question, tasks, count)
               : fm_call_fail(call, &error);
}

/* --- recordings --------------------------------------------------------------------------------
 */

/* Replays data and prints what came of it. */
static int replay_report(const struct question *question, const char *data, size_t size,
                         struct fm_sim_recorder *recorder)
{
    const struct fm_call *call = question->call;
    struct fm_error error = {0};
    struct fm_sim_replay replay;
    uint64_t start_ns = fm_os_now_ns();
    int status = fm_sim_replay(data, size, recorder, &replay, &error);
    uint64_t elapsed_ns = fm_os_now_ns() - start_ns;
    if (status != 0) {
        return fm_call_fail_with(call, fm_exit_code_from_status(status),
                                 "'%s': %s (%" PRIu64 " steps in front of it %s)", question->replay,
                                 error.text, replay.steps,
                                 replay.header.has_actions ? "are identical" : "were replayed");
    }
    struct fm_text text = {0};
    if (call->json) {
        fm_sim_replay_json(&replay, elapsed_ns, &text);
    } else {
        fm_sim_replay_table(&replay, &text);
    }
    int exit_code = fm_call_print(call, &text);
    fm_call_note(call, "%" PRIu64 " requests replayed in %.2f s, %.0f per second", replay.requests,
                 (double)elapsed_ns / 1e9,
                 elapsed_ns > 0 ? (double)replay.requests * 1e9 / (double)elapsed_ns : 0.0);
    if (exit_code == FM_EXIT_OK && replay.differs) {
        return fm_call_fail_with(call, FM_EXIT_FAILURE,
                                 "'%s': the scheduler decides otherwise than the recorded one: %s",
                                 question->replay, replay.difference);
    }
    if (exit_code == FM_EXIT_OK && question->record != NULL) {
        status = record_write(question, recorder, &error);
        exit_code =
            status == 0 ? FM_EXIT_OK : fm_file_argument_fail(call, question->record, &error);
    }
    return exit_code;
}

static int run_replay(const struct question *question)
{
    const struct fm_call *call = question->call;
    struct fm_error error = {0};
    char *data = NULL;
    size_t size = 0;
    if (fm_file_read(question->replay, RECORDING_BYTES_MAX, &data, &size, &error) != 0) {
        return fm_call_fail(call, &error);
    }
    struct fm_sim_recorder recorder = {0};
    int exit_code =
        replay_report(question, data, size, question->record != NULL ? &recorder : NULL);
    fm_sim_recorder_deinit(&recorder);
    fm_free(data);
    return exit_code;
}

/* Says what of the recording is not in the scenario. */
static void what_if_note(const struct fm_call *call, const struct fm_sim_what_if *what_if)
{
    if (what_if->cancels + what_if->failures + what_if->changes + what_if->homeless > 0) {
        fm_call_note(call,
                     "not taken over from the recording: %" PRIu64 " cancels, %" PRIu64
                     " failed batches, %" PRIu64 " changes of models' settings, %" PRIu64
                     " requests for models that were not there",
                     what_if->cancels, what_if->failures, what_if->changes, what_if->homeless);
    }
}

static int what_if_load(struct question *question, struct fm_error *reterr)
{
    char *data = NULL;
    size_t size = 0;
    struct fm_sim_what_if what_if;
    int status = fm_file_read(question->replay, RECORDING_BYTES_MAX, &data, &size, reterr);
    if (status != 0) {
        return status;
    }
    status =
        fm_sim_what_if_load(question->replay, data, size, &question->scenario, &what_if, reterr);
    fm_free(data);
    if (status != 0) {
        return fm_error_prefix(reterr, status, "'%s'", question->replay);
    }
    what_if_note(question->call, &what_if);
    return 0;
}

static int scenario_load(struct question *question, struct fm_error *reterr)
{
    return question->what_if ? what_if_load(question, reterr)
                             : fm_sim_scenario_load(fm_call_positional(question->call, 0),
                                                    &question->scenario, reterr);
}

static int run(const struct fm_call *call)
{
    struct question question = {.call = call};
    struct fm_error error = {0};
    if (options_check(call, &question, &error) != 0) {
        return fm_call_fail_arguments(call, &error);
    }
    if (files_check(&question, &error) != 0) {
        return fm_call_fail_arguments(call, &error);
    }
    /* Minutes of work must not end at a path that cannot be written. */
    if ((question.trace != NULL && fm_file_check_writable(question.trace, &error) != 0) ||
        (question.report != NULL && fm_file_check_writable(question.report, &error) != 0) ||
        (question.record != NULL && fm_file_check_writable(question.record, &error) != 0)) {
        return fm_call_fail(call, &error);
    }
    if (question.replay != NULL && !question.what_if) {
        return run_replay(&question);
    }
    int exit_code = FM_EXIT_OK;
    if (scenario_load(&question, &error) != 0 || partition_complete(&question, &error) != 0) {
        exit_code = fm_call_fail(call, &error);
    } else if (scenario_options_check(&question, &error) != 0) {
        exit_code = fm_call_fail_arguments(call, &error);
    } else {
        options_complete(&question);
        exit_code = question.many ? run_many(&question) : run_once(&question, true);
        if (exit_code == FM_EXIT_OK && question.many && question.report != NULL) {
            exit_code = run_once(&question, false);
        }
    }
    fm_sim_scenario_deinit(&question.scenario);
    return exit_code;
}

static const struct fm_positional positionals[] = {
    {.name = "SCENARIO",
     .help = "a scenario file (docs/sim.md); left out with --replay",
     .optional = true,
     .path = true},
    {.name = NULL},
};

static const struct fm_option options_table[] = {
    {.name = "policy",
     .short_name = 'p',
     .kind = FM_OPTION_CHOICE,
     .value_name = "POLICY",
     .choices = policies,
     .help = "how to schedule, instead of the scenario's",
     .group = "What to run"},
    {.name = "seed",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .help = "of the arrivals, instead of the scenario's"},
    {.name = "scale",
     .kind = FM_OPTION_NUMBER,
     .value_name = "X",
     .default_value = "1",
     .number_min = 1e-6,
     .number_max = 1e6,
     .help = "this many times the scenario's load"},
    {.name = "partition",
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .min = 1,
     .max = FM_PARTITION_CLUSTERS_LIMIT,
     .help =
         "cut the accelerators into N sub-clusters with a scheduler and some of the models each"},
    {.name = "replay",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "repeat a recording with the scheduler of this version, and compare every action"},
    {.name = "what-if",
     .kind = FM_OPTION_FLAG,
     .help = "run the load of the --replay recording anew, as a scenario; takes all options"},
    {.name = "find-goodput",
     .kind = FM_OPTION_FLAG,
     .help = "search the highest load that keeps the bad rate, to 0.1 %",
     .group = "What to ask"},
    {.name = "bad-rate",
     .kind = FM_OPTION_NUMBER,
     .value_name = "SHARE",
     .default_value = "0.01",
     .number_min = 0,
     .number_max = 1,
     .help = "drops and late answers that --find-goodput allows, as a share (below 1) of all "
             "requests"},
    {.name = "compare",
     .kind = FM_OPTION_STRING,
     .value_name = "POLICY,POLICY,...",
     .help = "policies side by side, at this load or (with --find-goodput) each at its highest"},
    {.name = "seeds",
     .kind = FM_OPTION_INTEGERS,
     .value_name = "N,N,...",
     .help = "repeat with each of these, in parallel; the median counts"},
    {.name = "threads",
     .short_name = 't',
     .kind = FM_OPTION_INTEGER,
     .value_name = "N",
     .min = 1,
     .max = 256,
     .help = "runs at once (without this, one per CPU); results do not depend on it"},
    {.name = "trace",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "write every batch as Chrome trace events (.json), for Perfetto",
     .group = "Results"},
    {.name = "record",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "write all the scheduler was told and answered (docs/record.md), for --replay"},
    {.name = "report",
     .kind = FM_OPTION_PATH,
     .value_name = "FILE",
     .help = "write a page (.html): goodput over load, batch sizes, accelerators over time"},
    FM_OPTION_JSON,
    FM_OPTION_QUIET,
    {.name = NULL},
};

static const struct fm_example examples[] = {
    {"What would this load do to these accelerators?", "fermata sim examples/sim/first.yaml"},
    {"How much can they take with at most 1% bad?",
     "fermata sim examples/sim/first.yaml --find-goodput --seeds 11,22,33"},
    {"Which policy suits this load?",
     "fermata sim examples/sim/mixed.yaml --compare deferred,eager,timeout --find-goodput"},
    {"What does it cost to cut the pool in four, with a scheduler each?",
     "fermata sim examples/sim/partition.yaml --partition 4"},
    {"Look at every batch, and at curves over the load",
     "fermata sim examples/sim/first.yaml --trace trace.json --report report.html"},
    {"Record all that the scheduler is told and answers",
     "fermata sim examples/sim/first.yaml --record first.fmrec"},
    {"Does it still decide the same?", "fermata sim --replay first.fmrec"},
    {"What if the recorded load had met another policy?",
     "fermata sim --replay first.fmrec --what-if --policy eager"},
    {"For programs", "fermata sim examples/sim/first.yaml --scale 0.5 --json"},
    {NULL, NULL},
};

static const int exit_codes[] = {FM_EXIT_INPUT, FM_EXIT_UNAVAILABLE, 0};

const struct fm_command fm_command_sim = {
    .name = "sim",
    .summary = "try loads, policies and accelerators in virtual time, with the real scheduler",
    .description =
        "Simulates the scenario: clients that send requests, accelerators that take as long as the "
        "models' profiles say, and between them the scheduler that also serves. Hours of a large "
        "cluster take seconds, and the same scenario and seed give the same run everywhere "
        "(trace_hash says so).\n\n"
        "The bad rate counts requests that were dropped or answered late, over all that arrived in "
        "the measured interval. Goodput is answers within their SLO per second.\n\n"
        "Every run is audited: one outcome for each request, no batch on a busy accelerator, none "
        "planned past a deadline. A violation is reported after the numbers, with exit code 1.\n\n"
        "--record keeps everything the scheduler was told, and what it answered; --replay tells it "
        "again and compares. The first difference is named, with exit code 1. --what-if takes from "
        "a recording the requests with their times and deadlines, the models and the accelerators, "
        "and simulates the rest: with the same policy or another one.",
    .positionals = positionals,
    .options = options_table,
    .examples = examples,
    .exit_codes = exit_codes,
    .see_also = "docs/sim.md",
    .run = run,
};
