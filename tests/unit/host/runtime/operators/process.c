/*
 * Unit tests of the operator process: parameters, ports, and what becomes of an item whose process
 * does what it should not. The processes are tests/harness/process_peer.py.
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "core/util/memory.h"
#include "core/util/text.h"
#include "host/os/file.h"
#include "host/os/os.h"
#include "host/os/thread.h"
#include "host/runtime/backend_registry.h"
#include "tests/harness/operator_rig.h"
#include "tests/harness/test.h"

#define PEER   "directory_path=tests/harness;command=python3,process_peer.py"
#define TEXT   ";inputs=t:BYTES[1];outputs=t:BYTES[1]"
#define SECOND UINT64_C(1000000000)

/* --- What is logged --- */

static struct fm_mutex log_mutex = {PTHREAD_MUTEX_INITIALIZER};
static char logged[65536];
static int log_lines;

static void log_keep(enum fm_log_level level, const char *text)
{
    fm_mutex_lock(&log_mutex);
    size_t length = strlen(logged);
    (void)snprintf(logged + length, sizeof(logged) - length, "%d %s\n", (int)level, text);
    log_lines++;
    fm_mutex_unlock(&log_mutex);
}

static void log_begin(void)
{
    fm_mutex_lock(&log_mutex);
    logged[0] = '\0';
    log_lines = 0;
    fm_mutex_unlock(&log_mutex);
    fm_host_set_log(log_keep);
}

static bool log_has(const char *words)
{
    fm_mutex_lock(&log_mutex);
    bool found = strstr(logged, words) != NULL;
    fm_mutex_unlock(&log_mutex);
    return found;
}

/* --- Helpers --- */

static int run_text(struct fm_rig *rig, const char *text)
{
    fm_rig_inputs_clear(rig);
    fm_rig_input_bytes(rig, 0, text, strlen(text));
    return fm_rig_run(rig);
}

/* The text of the answer, in a buffer that is used again. */
static const char *answer_text(const struct fm_rig *rig)
{
    static char text[256];
    const struct fm_tensor *tensor = fm_rig_output(rig, 0);
    const char *data = NULL;
    size_t length = 0;
    if (tensor == NULL || fm_bytes_get(tensor, 0, &data, &length) != 0) {
        return "(none)";
    }
    (void)snprintf(text, sizeof(text), "%.*s", (int)length, data);
    return text;
}

static int descriptors(void)
{
    int count = 0;
    DIR *folder = opendir("/proc/self/fd");
    while (folder != NULL && readdir(folder) != NULL) {
        count++;
    }
    (void)closedir(folder);
    return count;
}

static bool wait_for_log(const char *words)
{
    uint64_t until_ns = fm_os_now_ns() + 10 * SECOND;
    while (!log_has(words) && fm_os_now_ns() < until_ns) {
        fm_sleep_until(fm_os_now_ns() + 1000000);
    }
    return log_has(words);
}

/* --- Parameters --- */

static void check_refused(const char *parameters, int status, const char *words)
{
    struct fm_rig rig;
    CHECK_INT_EQ(fm_rig_create(&rig, "process", parameters), status);
    CHECK_STR_CONTAINS(rig.error.text, words);
    fm_rig_destroy(&rig);
}

TEST(parameters_that_are_refused)
{
    check_refused("command=cat;inputs=t:BYTES[1]", FM_EINVAL, "needs the parameter 'outputs'");
    check_refused("command=;inputs=t:BYTES[1];outputs=t:BYTES[1]", FM_EINVAL, "'command' is empty");
    check_refused("command=python3 x.py" TEXT, FM_ENOTFOUND,
                  "there is no program 'python3 x.py' on PATH; program and arguments are a list");
    check_refused("command=no-such-program" TEXT, FM_ENOTFOUND, "on PATH");
    check_refused("command=./no-such-program" TEXT, FM_ENOTFOUND, "no program './");
    check_refused("command=./meson.build" TEXT, FM_EPERM, "chmod +x");
    check_refused("command=cat;inputs=t:BYTS[1];outputs=t:BYTES[1]", FM_EINVAL, "'inputs'");
    check_refused("command=cat;inputs=t:BYTES[1];outputs=t:BYTES[1]?", FM_EINVAL,
                  "'?' behind 't' is for inputs");
    check_refused("command=cat;processes=0" TEXT, FM_EINVAL, "'processes' is '0'");
    check_refused("command=cat;attempts=11" TEXT, FM_EINVAL, "'attempts' is '11'");
    check_refused("command=cat;time_limit=0" TEXT, FM_EINVAL, "'time_limit' is '0'");
    check_refused("command=cat;start_limit=soon" TEXT, FM_EINVAL, "'start_limit' is 'soon'");
    check_refused("command=cat;answer_bytes=0" TEXT, FM_EINVAL, "'answer_bytes' is '0'");
    check_refused("command=cat;files=no-such-file" TEXT, FM_ENOTFOUND, "there is no file");
    check_refused("command=cat;comand=cat" TEXT, FM_EINVAL, "did you mean 'command'");
}

TEST(files_that_answers_depend_on)
{
    struct fm_rig rig;
    struct fm_operator_info info;
    CHECK_INT_EQ(
        fm_rig_create(&rig, "process", PEER ";processes=3;files=test.h,../unit/meson.build" TEXT),
        0);
    CHECK_INT_EQ(fm_operator_info(rig.instance, &info, &rig.error), 0);
    CHECK_INT_EQ(info.runs_at_once, 3);
    CHECK_INT_EQ(info.file_count, 3);
    CHECK_STR_CONTAINS(info.files[0], "tests/harness/process_peer.py");
    CHECK_STR_CONTAINS(info.files[1], "tests/harness/test.h");
    CHECK_STR_CONTAINS(info.files[2], "tests/harness/../unit/meson.build");
    fm_rig_destroy(&rig);
}

/* --- Items --- */

TEST(items_and_their_refusal)
{
    struct fm_rig rig;
    CHECK_INT_EQ(fm_rig_create(&rig, "process", PEER TEXT), 0);
    for (int i = 0; i < 50; i++) {
        char text[32];
        (void)snprintf(text, sizeof(text), "item %d", i);
        CHECK_INT_EQ(run_text(&rig, text), 0);
        CHECK_STR_EQ(answer_text(&rig), text);
    }
    CHECK_INT_EQ(run_text(&rig, "pid"), 0);
    char process[256];
    (void)snprintf(process, sizeof(process), "%s", answer_text(&rig));
    /* Failures of the item only: the same process goes on. */
    CHECK_INT_EQ(run_text(&rig, "fail no such word"), FM_EINVAL);
    CHECK_STR_EQ(rig.error.text, "operator 'process': no such word");
    CHECK_INT_EQ(run_text(&rig, "type"), FM_ETYPE);
    CHECK_STR_CONTAINS(rig.error.text,
                       "output 't' is declared as BYTES[1], but was given INT64[1]");
    CHECK_INT_EQ(run_text(&rig, "size"), FM_ECORRUPT);
    CHECK_STR_CONTAINS(rig.error.text, "but its frame has only 8 left");
    CHECK_INT_EQ(run_text(&rig, "none"), FM_ECORRUPT);
    CHECK_STR_CONTAINS(rig.error.text, "0 elements for output 't'");
    CHECK_INT_EQ(run_text(&rig, "pid"), 0);
    CHECK_STR_EQ(answer_text(&rig), process);
    fm_rig_destroy(&rig);
}

TEST(fan_out_fan_in_and_an_absent_input)
{
    struct fm_rig rig;
    CHECK_INT_EQ(fm_rig_create(&rig, "process",
                               PEER ";inputs=t:BYTES[1], all:BYTES[1]*, x:FP32[-1]?"
                                    ";outputs=t:BYTES[1]*"),
                 0);
    CHECK_INT_EQ(run_text(&rig, "many 1000"), 0);
    CHECK_INT_EQ(rig.outputs[0].count, 1000);
    CHECK_INT_EQ(run_text(&rig, "many 0"), 0);
    CHECK_INT_EQ(rig.outputs[0].count, 0);
    CHECK_INT_EQ(run_text(&rig, "many 5000"), FM_ELIMIT);
    CHECK_STR_CONTAINS(rig.error.text, "more than 4096 elements");
    fm_rig_inputs_clear(&rig);
    fm_rig_input_bytes(&rig, 0, "count", 5);
    for (int i = 0; i < 200; i++) {
        fm_rig_input_bytes(&rig, 1, "element", (size_t)i % 8);
    }
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    CHECK_STR_EQ(answer_text(&rig), "1 200 0");
    fm_rig_destroy(&rig);
}

TEST(big_items_fill_both_pipes)
{
    struct fm_rig rig;
    size_t size = (size_t)64 << 20;
    char *text = fm_alloc_tensor(size);
    CHECK(text != NULL);
    for (size_t i = 0; i < size; i++) {
        text[i] = (char)('a' + i % 23);
    }
    /* One reads all of the item and then answers, the other one does both at once. */
    static const char *const peers[] = {PEER TEXT, PEER ",stream" TEXT};
    for (int i = 0; i < 2; i++) {
        CHECK_INT_EQ(fm_rig_create(&rig, "process", peers[i]), 0);
        fm_rig_input_bytes(&rig, 0, text, size);
        CHECK_INT_EQ(fm_rig_run(&rig), 0);
        CHECK_INT_EQ(fm_rig_output(&rig, 0)->size, size + 4);
        CHECK_MEM_EQ((char *)fm_rig_output(&rig, 0)->data + 4, text, size);
        fm_rig_destroy(&rig);
    }
    CHECK_INT_EQ(fm_rig_create(&rig, "process", PEER TEXT ";answer_bytes=1MiB"), 0);
    fm_rig_input_bytes(&rig, 0, text, (size_t)2 << 20);
    CHECK_INT_EQ(fm_rig_run(&rig), FM_ETOOLARGE);
    CHECK_STR_CONTAINS(rig.error.text, "raise 'answer_bytes'");
    CHECK_INT_EQ(run_text(&rig, "small"), 0);
    fm_rig_destroy(&rig);
    fm_free(text);
}

TEST(big_items_in_shared_memory)
{
    struct fm_rig rig;
    size_t size = (size_t)1 << 20;
    char *text = fm_alloc_tensor(size);
    CHECK(text != NULL);
    memset(text, 'x', size);
    log_begin();
    CHECK_INT_EQ(
        fm_rig_create(&rig, "process", PEER ",shared" TEXT ";shared_memory=1100KiB;attempts=1"), 0);
    static const struct {
        const char *begin;
        int status;
        const char *words;
    } items[] = {
        {"good", 0, ""},
        {"cut", 0, ""},
        {"bad", FM_ECORRUPT, "9 elements for output 't', which takes one"},
        {"good", 0, ""},
        {"big", FM_ECORRUPT, "in memory of which it shares"}, /* it is ended, another one started */
        {"good", 0, ""},
    };
    for (size_t i = 0; i < sizeof(items) / sizeof(items[0]); i++) {
        memcpy(text, items[i].begin, strlen(items[i].begin));
        fm_rig_inputs_clear(&rig);
        fm_rig_input_bytes(&rig, 0, text, size);
        CHECK_INT_EQ(fm_rig_run(&rig), items[i].status);
        if (items[i].status != 0) {
            CHECK_STR_CONTAINS(rig.error.text, items[i].words);
            continue;
        }
        CHECK_INT_EQ(fm_rig_output(&rig, 0)->size, size + 4);
        CHECK_MEM_EQ((char *)fm_rig_output(&rig, 0)->data + 4, text, size);
    }
    CHECK(wait_for_log("its size is sealed"));
    /* Small ones, and those that do not fit, are frames. */
    CHECK_INT_EQ(run_text(&rig, "small"), 0);
    CHECK_STR_EQ(answer_text(&rig), "small");
    fm_rig_destroy(&rig);
    CHECK_INT_EQ(fm_rig_create(&rig, "process", PEER ",shared" TEXT ";shared_memory=64KiB"), 0);
    fm_rig_input_bytes(&rig, 0, text, size);
    CHECK_INT_EQ(fm_rig_run(&rig), 0);
    CHECK_MEM_EQ((char *)fm_rig_output(&rig, 0)->data + 4, text, size);
    fm_rig_destroy(&rig);
    fm_free(text);
    fm_host_set_log(NULL);
    check_refused(PEER TEXT ";shared_memory=much", FM_EINVAL, "but must be a size up to 64GiB");
}

/* --- Processes that misbehave --- */

/* The item fails with these words, and the next one is answered. */
static void check_failure(const char *item, int status, const char *words)
{
    struct fm_rig rig;
    log_begin();
    CHECK_INT_EQ(fm_rig_create(&rig, "process", PEER TEXT ";attempts=1;time_limit=300ms"), 0);
    CHECK_INT_EQ(run_text(&rig, item), status);
    CHECK_STR_CONTAINS(rig.error.text, words);
    CHECK(log_has("; another one is started"));
    CHECK_INT_EQ(run_text(&rig, "next"), 0);
    CHECK_STR_EQ(answer_text(&rig), "next");
    fm_rig_destroy(&rig);
    fm_host_set_log(NULL);
}

TEST(a_process_that_exits)
{
    check_failure("exit 3", FM_EINTERNAL,
                  "ended with exit code 3 while it worked on an item; its last line on standard "
                  "error: 'with 3'");
}

TEST(a_process_that_is_killed)
{
    check_failure("signal 11", FM_EINTERNAL, "ended with signal 11 (Segmentation fault)");
}

TEST(a_process_that_hangs)
{
    check_failure("hang", FM_EDEADLINE, "has not answered within 0.3 s (time_limit)");
}

TEST(a_process_that_closes_its_output)
{
    check_failure("close", FM_EINTERNAL, "has closed its standard input or output");
}

TEST(a_process_that_prints)
{
    check_failure("garbage", FM_ECORRUPT, "it wrote 'Hell' where a frame DONE or FAIL");
}

TEST(a_process_that_ends_in_the_middle_of_an_answer)
{
    check_failure("half", FM_EINTERNAL, "ended with exit code 0");
}

TEST(a_process_that_says_too_much)
{
    check_failure("more", FM_ECORRUPT, "behind the end of its answer");
}

TEST(a_process_that_answers_another_item)
{
    check_failure("other", FM_ECORRUPT, "it answered item 8, but item 1");
}

TEST(a_process_that_announces_too_much)
{
    check_failure("huge", FM_ETOOLARGE, "4611686018427387904 bytes");
}

TEST(an_item_whose_process_ends_is_tried_again)
{
    struct fm_rig rig;
    char file[] = "/tmp/fm-process-XXXXXX";
    char item[64];
    int descriptor = mkstemp(file);
    CHECK(descriptor >= 0);
    (void)close(descriptor);
    (void)unlink(file);
    (void)snprintf(item, sizeof(item), "signal-once %s", file);
    CHECK_INT_EQ(fm_rig_create(&rig, "process", PEER TEXT), 0);
    CHECK_INT_EQ(run_text(&rig, item), 0);
    CHECK_STR_EQ(answer_text(&rig), item);
    CHECK_INT_EQ(unlink(file), 0);
    CHECK_INT_EQ(run_text(&rig, "signal 9"), FM_EINTERNAL);
    CHECK_STR_CONTAINS(rig.error.text, "tried 2 times: process");
    /* Part of an answer was used: not again. */
    CHECK_INT_EQ(run_text(&rig, "half"), FM_EINTERNAL);
    CHECK(!fm_test_contains(rig.error.text, "tried"));
    fm_rig_destroy(&rig);
}

TEST(a_process_that_ends_between_items_costs_none)
{
    struct fm_rig rig;
    log_begin();
    CHECK_INT_EQ(fm_rig_create(&rig, "process", PEER TEXT ";attempts=1"), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_INT_EQ(run_text(&rig, "pid"), 0);
        uint64_t number = 0;
        CHECK_INT_EQ(fm_parse_uint64(answer_text(&rig), &number), 0);
        pid_t process = (pid_t)number;
        CHECK_INT_EQ(kill(process, SIGKILL), 0);
        /* Reaped at once, though nobody asks: no zombie, no process. */
        uint64_t until_ns = fm_os_now_ns() + 10 * SECOND;
        while (kill(process, 0) == 0 && fm_os_now_ns() < until_ns) {
            fm_sleep_until(fm_os_now_ns() + 1000000);
        }
        CHECK_INT_EQ(kill(process, 0), -1);
        /* The keeper tells of it right after that. */
        fm_sleep_until(fm_os_now_ns() + 20000000);
        CHECK_INT_EQ(run_text(&rig, "after"), 0);
    }
    CHECK(log_has("ended with signal 9 (Killed) while it had no item; another one is started"));
    fm_rig_destroy(&rig);
    fm_host_set_log(NULL);
}

TEST(all_of_a_family_is_ended)
{
    struct fm_rig rig;
    char file[] = "/tmp/fm-process-XXXXXX";
    char number[32] = "";
    CHECK(mkstemp(file) >= 0);
    CHECK_INT_EQ(setenv("FM_PEER_CHILD", file, 1), 0);
    CHECK_INT_EQ(fm_rig_create(&rig, "process", PEER TEXT ";time_limit=500ms"), 0);
    CHECK_INT_EQ(run_text(&rig, "family"), FM_EDEADLINE);
    FILE *stream = fopen(file, "r");
    CHECK(fgets(number, sizeof(number), stream) != NULL);
    (void)fclose(stream);
    /* It is no child of ours: whoever reaps orphans here may take its time, or never do it. */
    char path[64];
    char state[512] = "";
    uint64_t until_ns = fm_os_now_ns() + 10 * SECOND;
    (void)snprintf(path, sizeof(path), "/proc/%s/stat", number);
    do {
        stream = fopen(path, "r");
        state[0] = '\0';
        if (stream != NULL) {
            (void)!fgets(state, sizeof(state), stream);
            (void)fclose(stream);
        }
    } while (stream != NULL && strstr(state, ") Z ") == NULL && fm_os_now_ns() < until_ns);
    CHECK(stream == NULL || strstr(state, ") Z ") != NULL);
    fm_rig_destroy(&rig);
    (void)unlink(file);
}

/* --- Starting --- */

static void check_start(const char *how, int status, const char *words)
{
    struct fm_rig rig;
    char parameters[256];
    uint64_t begun_ns = fm_os_now_ns();
    (void)snprintf(parameters, sizeof(parameters), PEER ",%s;start_limit=1s;processes=2" TEXT, how);
    CHECK_INT_EQ(fm_rig_create(&rig, "process", parameters), status);
    CHECK_STR_CONTAINS(rig.error.text, words);
    CHECK(fm_os_now_ns() - begun_ns < 20 * SECOND);
    fm_rig_destroy(&rig);
}

TEST(processes_that_do_not_start)
{
    log_begin();
    check_start("exit", FM_EINTERNAL,
                "ended with exit code 3 while it started; its last line on standard error: 'no "
                "such vocabulary'");
    check_start("refuse", FM_EINVAL,
                "the program refuses to start: the vocabulary is from?another version");
    check_start("hang", FM_EDEADLINE, "has not answered within 1 s (start_limit) while it started");
    check_start("print", FM_ECORRUPT, "it wrote 'star' where a frame REDY");
    struct fm_rig rig;
    CHECK_INT_EQ(fm_rig_create(&rig, "process", "command=true" TEXT), FM_EINTERNAL);
    CHECK_STR_CONTAINS(rig.error.text, "ended with exit code 0 while it started");
    fm_rig_destroy(&rig);
    /* It gives back the hello. */
    CHECK_INT_EQ(fm_rig_create(&rig, "process", "command=cat" TEXT), FM_ECORRUPT);
    CHECK_STR_CONTAINS(rig.error.text, "it wrote 'HELO'");
    fm_rig_destroy(&rig);
    fm_host_set_log(NULL);
}

TEST(a_process_that_cannot_start_again_is_left_alone)
{
    struct fm_rig rig;
    char file[] = "/tmp/fm-process-XXXXXX";
    char parameters[256];
    int descriptor = mkstemp(file);
    CHECK(descriptor >= 0);
    (void)close(descriptor);
    (void)unlink(file);
    log_begin();
    (void)snprintf(parameters, sizeof(parameters), PEER ",once,%s;attempts=1" TEXT, file);
    CHECK_INT_EQ(fm_rig_create(&rig, "process", parameters), 0);
    CHECK_INT_EQ(run_text(&rig, "exit 1"), FM_EINTERNAL);
    /* Five tries, with pauses; then items fail at once, with the reason. */
    CHECK_INT_EQ(run_text(&rig, "next"), FM_EUNAVAILABLE);
    CHECK_STR_CONTAINS(rig.error.text, "no process can be started, the next try is in 30 s: ");
    CHECK_STR_CONTAINS(rig.error.text, "'it is there already'");
    uint64_t begun_ns = fm_os_now_ns();
    for (int i = 0; i < 1000; i++) {
        CHECK_INT_EQ(run_text(&rig, "next"), FM_EUNAVAILABLE);
    }
    CHECK(fm_os_now_ns() - begun_ns < 2 * SECOND);
    int tries = 0;
    for (const char *at = logged; (at = strstr(at, "cannot start another process")) != NULL; at++) {
        tries++;
    }
    CHECK_INT_EQ(tries, 5);
    fm_rig_destroy(&rig);
    fm_host_set_log(NULL);
    (void)unlink(file);
}

/* --- Standard error --- */

TEST(standard_error_goes_to_the_log)
{
    struct fm_rig rig;
    log_begin();
    CHECK_INT_EQ(fm_rig_create(&rig, "process", PEER ",hello" TEXT), 0);
    CHECK(wait_for_log("fermata-process 1|stage rig|input t BYTES one 1|output t BYTES one 1|"));
    CHECK_INT_EQ(run_text(&rig, "say one\r\ntwo\x1b[31m"), 0);
    CHECK(wait_for_log(": two?[31m\n"));
    CHECK(log_has("stage 'rig': process "));
    CHECK(log_has(": one\n"));
    fm_rig_destroy(&rig);
    fm_host_set_log(NULL);
}

TEST(an_endless_standard_error_stops_nobody)
{
    struct fm_rig rig;
    log_begin();
    CHECK_INT_EQ(fm_rig_create(&rig, "process", PEER TEXT ";time_limit=60s"), 0);
    CHECK_INT_EQ(run_text(&rig, "flood"), 0);
    CHECK_STR_EQ(answer_text(&rig), "flood");
    fm_rig_destroy(&rig);
    fm_mutex_lock(&log_mutex);
    /* 20 at once, 10 a second. */
    CHECK_INT_LE(log_lines, 20 + 10 * 65);
    fm_mutex_unlock(&log_mutex);
    fm_host_set_log(NULL);
}

/* --- Several at once --- */

struct runner {
    struct fm_thread thread;
    const struct fm_operator_instance *instance;
    uint32_t number;
    int failed;
};

static void runner_main(void *argument)
{
    struct runner *runner = argument;
    for (int i = 0; i < 200; i++) {
        char text[64];
        struct fm_value_list input = {0};
        struct fm_value_list output = {0};
        struct fm_value value = {0};
        struct fm_error error = {0};
        bool dies = i % 50 == 25 && runner->number == 0;
        (void)snprintf(text, sizeof(text), "%s %u of %d", dies ? "exit" : "item", runner->number,
                       i);
        if (fm_value_from_bytes(&value, text, strlen(text)) != 0 ||
            fm_value_list_append(&input, &value) != 0) {
            runner->failed++;
            return;
        }
        int status = fm_operator_run(runner->instance, &input, 1, &output, 1, 16, &error);
        if (dies) {
            runner->failed += status == FM_EINTERNAL ? 0 : 1;
        } else if (status != 0 || output.count != 1 ||
                   output.items[0].tensor.size != strlen(text) + 4 ||
                   memcmp((char *)output.items[0].tensor.data + 4, text, strlen(text)) != 0) {
            runner->failed++;
        }
        fm_value_list_deinit(&input);
        fm_value_list_deinit(&output);
    }
}

TEST(many_items_on_many_processes)
{
    static struct runner runners[8];
    struct fm_rig rig;
    log_begin();
    CHECK_INT_EQ(fm_rig_create(&rig, "process", PEER TEXT ";processes=3"), 0);
    for (uint32_t i = 0; i < 8; i++) {
        runners[i] = (struct runner){.instance = rig.instance, .number = i};
        CHECK_INT_EQ(fm_thread_start(&runners[i].thread, "runner", runner_main, &runners[i]), 0);
    }
    int failed = 0;
    for (uint32_t i = 0; i < 8; i++) {
        fm_thread_join(&runners[i].thread);
        failed += runners[i].failed;
    }
    CHECK_INT_EQ(failed, 0);
    fm_rig_destroy(&rig);
    fm_host_set_log(NULL);
}

TEST(nothing_is_left_open)
{
    struct fm_rig rig;
    int before = descriptors();
    for (int i = 0; i < 3; i++) {
        CHECK_INT_EQ(fm_rig_create(&rig, "process", PEER TEXT ";attempts=1;processes=4"), 0);
        CHECK_INT_EQ(run_text(&rig, "exit 1"), FM_EINTERNAL);
        CHECK_INT_EQ(run_text(&rig, "next"), 0);
        fm_rig_destroy(&rig);
        CHECK_INT_EQ(fm_rig_create(&rig, "process", PEER ",exit" TEXT), FM_EINTERNAL);
        fm_rig_destroy(&rig);
    }
    CHECK_INT_EQ(descriptors(), before);
}

TEST(without_a_start_there_is_no_run)
{
    const struct fm_operator *operator_ = NULL;
    const struct fm_setting settings[] = {
        {"command", "cat"}, {"inputs", "t:BYTES[1]"}, {"outputs", "t:BYTES[1]"}};
    struct fm_rig rig = {.input_count = 1, .output_count = 1};
    CHECK_INT_EQ(fm_operator_find("process", &operator_, &rig.error), 0);
    CHECK_INT_EQ(fm_operator_create(operator_, settings, 3, ".", &rig.instance, &rig.error), 0);
    CHECK_INT_EQ(run_text(&rig, "x"), FM_EINTERNAL);
    CHECK_STR_CONTAINS(rig.error.text, "were not started");
    fm_rig_destroy(&rig);
}

TEST(wherever_memory_runs_out)
{
    log_begin();
    for (uint64_t n = 1; n < 200; n++) {
        struct fm_rig rig;
        (void)fm_memory_fail_at(n, 0);
        int status = fm_rig_create(&rig, "process", PEER TEXT);
        uint64_t made = fm_memory_fail_at(0, 0);
        if (status == 0) {
            fm_rig_input_bytes(&rig, 0, "text", 4);
            (void)fm_memory_fail_at(n > made ? n - made : 0, 0);
            status = fm_rig_run(&rig);
            made += fm_memory_fail_at(0, 0);
        }
        CHECK(status == 0 || status == FM_ENOMEM);
        CHECK(status == 0 || rig.error.text[0] != '\0');
        if (status == FM_ENOMEM && rig.instance != NULL && rig.inputs[0].count > 0) {
            CHECK_INT_EQ(fm_rig_run(&rig), 0);
        }
        fm_rig_destroy(&rig);
        if (n > made) {
            fm_host_set_log(NULL);
            return;
        }
    }
    TEST_FAIL_("the sweep has no end");
}

TEST_MAIN()
