/*
 * Tests of host/runtime/repository and of both configuration files it reads (model.yaml,
 * config.pbtxt). Repositories are made in a scratch directory, so that a test shows the files it is
 * about. Model files are empty: nothing here loads them.
 */
#include "host/runtime/repository.h"

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/util/assert.h"
#include "core/util/text.h"
#include "host/os/file.h"
#include "tests/harness/test.h"

static char root[256];

static void scratch_begin(void)
{
    (void)snprintf(root, sizeof(root), "/tmp/fm-repository-XXXXXX");
    if (mkdtemp(root) == NULL) {
        abort();
    }
}

static int remove_one(const char *path, const struct stat *facts, int kind, struct FTW *place)
{
    (void)facts;
    (void)kind;
    (void)place;
    return remove(path);
}

static void scratch_end(void)
{
    if (nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0) {
        abort();
    }
}

/* The path of a name in the scratch directory: valid until the fourth call from now. */
static const char *in_root(const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];
    (void)snprintf(path, sizeof(paths[0]), "%s%s%s", root, name[0] != '\0' ? "/" : "", name);
    return path;
}

/* Creates a file with its directories. A name that ends in '/' is a directory. */
static void put(const char *name, const char *text)
{
    char directory[512];
    const char *path = in_root(name);
    if (path[strlen(path) - 1] == '/') {
        if (fm_file_make_directories(path, NULL) != 0) {
            abort();
        }
        return;
    }
    if (fm_path_directory(directory, sizeof(directory), path) != 0 ||
        fm_file_make_directories(directory, NULL) != 0) {
        abort();
    }
    FILE *file = fopen(path, "w");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0) {
        abort();
    }
}

/* The error without the scratch directory in it, for comparison. */
static const char *relative(const char *text)
{
    static char shown[FM_ERROR_TEXT_SIZE];
    size_t length = 0;
    size_t skip = strlen(root) + 1;
    while (*text != '\0') {
        if (strncmp(text, root, skip - 1) == 0) {
            text += text[skip - 1] == '/' ? skip : skip - 1;
        } else {
            shown[length++] = *text++;
        }
    }
    shown[length] = '\0';
    return shown;
}

static const struct fm_repository_entry *find(const struct fm_repository *repository,
                                              const char *name)
{
    for (size_t i = 0; i < repository->count; i++) {
        if (strcmp(repository->entries[i].name, name) == 0) {
            return &repository->entries[i];
        }
    }
    return NULL;
}

static const char *setting(const struct fm_setting *settings, size_t count, const char *key)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(settings[i].key, key) == 0) {
            return settings[i].value;
        }
    }
    return NULL;
}

static const char pipeline_text[] = "inputs: [{name: x, dtype: FP32, shape: [1]}]\n"
                                    "stages: [{name: s, model: bare, inputs: x}]\n"
                                    "outputs: {y: s}\n";

TEST(names_and_single_entries)
{
    static const char *const names[] = {"bare", "broken", "file", "pages", "twin"};
    struct fm_repository_names list;
    struct fm_repository one;
    struct fm_error error = {0};
    char place[512];
    scratch_begin();
    put("bare/1/model.onnx", "");
    put("bare/2/model.onnx", "");
    put("broken/model.yaml", "max_batch: 8\n");
    put("file.onnx", "");
    put("pages/pipeline.yaml", pipeline_text);
    put("twin/1/model.onnx", "");
    put("twin.onnx", "");
    put("readme.txt", "");
    put(".hidden/1/model.onnx", "");
    put("empty/", "");
    CHECK_INT_EQ(fm_repository_list(in_root(""), &list, &error), 0);
    CHECK_UINT_EQ(list.count, FM_COUNT_OF(names) + 1);
    CHECK(!list.single);
    CHECK_STR_EQ(list.names[2], "empty");
    fm_repository_names_free(&list);
    CHECK_INT_EQ(fm_repository_list(in_root("bare"), &list, &error), 0);
    CHECK(list.single);
    CHECK_STR_EQ(list.names[0], "bare");
    fm_repository_names_free(&list);
    CHECK_INT_EQ(fm_repository_list(in_root("nothing"), &list, &error), FM_ENOTFOUND);

    for (size_t i = 0; i < FM_COUNT_OF(names); i++) {
        int status = fm_repository_read(root, names[i], NULL, &one, &error);
        CHECK_INT_EQ(status, strcmp(names[i], "broken") == 0 ? FM_EINVAL
                             : strcmp(names[i], "twin") == 0 ? FM_EEXIST
                                                             : 0);
        if (status == 0) {
            CHECK_UINT_EQ(one.count, 1);
            CHECK_STR_EQ(one.entries[0].name, names[i]);
        }
        fm_repository_close(&one);
    }
    CHECK_INT_EQ(fm_repository_read(root, "nothing", NULL, &one, &error), FM_ENOTFOUND);
    CHECK_INT_EQ(fm_repository_read(root, "../x", NULL, &one, &error), FM_ENOTFOUND);
    CHECK_INT_EQ(fm_repository_locate(root, false, "file", place, sizeof(place), &error), 0);
    CHECK_STR_EQ(relative(place), "file.onnx");
    scratch_end();
}

TEST(a_configuration_from_elsewhere)
{
    static const char json[] = "{\"max_batch_size\": \"4\", \"versionPolicy\": {\"all\": {}},"
                               "\"instance_group\": [{\"count\": 3, \"kind\": \"KIND_CPU\"}],"
                               "\"parameters\": {\"fermata.threads\": {\"string_value\": \"2\"}},"
                               "\"input\": [{\"name\": \"x\", \"data_type\": \"TYPE_FP32\", "
                               "\"dims\": [\"-1\", 3]}]}";
    struct fm_repository one;
    struct fm_error error = {0};
    struct fm_repository_override override = {.config = json, .config_size = strlen(json)};
    scratch_begin();
    put("m/1/model.onnx", "");
    put("m/2/model.onnx", "");
    put("m/model.yaml", "max_batch_size: 8\n");
    put("other/7/model.onnx", "");
    put("p/pipeline.yaml", pipeline_text);
    CHECK_INT_EQ(fm_repository_read(root, "m", &override, &one, &error), 0);
    CHECK_UINT_EQ(one.entries[0].version_count, 2);
    const struct fm_model_config *config = &one.entries[0].versions[1];
    CHECK_INT_EQ(config->max_batch_size, 4);
    CHECK_UINT_EQ(config->instance_count, 3);
    CHECK_STR_EQ(setting(config->settings, config->setting_count, "threads"), "2");
    CHECK_INT_EQ(config->inputs[0].shape[0], -1);
    CHECK_INT_EQ(config->inputs[0].shape[1], 3);
    fm_repository_close(&one);
    override.directory = in_root("other");
    CHECK_INT_EQ(fm_repository_read(root, "m", &override, &one, &error), 0);
    CHECK_STR_EQ(one.entries[0].name, "m");
    CHECK_UINT_EQ(one.entries[0].versions[0].version, 7);
    fm_repository_close(&one);
    override.directory = NULL;
    CHECK_INT_EQ(fm_repository_read(root, "p", &override, &one, &error), FM_EUNSUPPORTED);
    override.config = "{\"max_batch_sizes\": 4}";
    override.config_size = strlen(override.config);
    CHECK_INT_EQ(fm_repository_read(root, "m", &override, &one, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "did you mean 'max_batch_size'?");
    scratch_end();
}

TEST(a_repository_of_everything)
{
    scratch_begin();
    put("bare/1/model.onnx", "");
    put("versions/2/model.onnx", "");
    put("versions/10/model.onnx", "");
    put("versions/010/model.onnx", "");
    put("versions/0/model.onnx", "");
    put("versions/backup/model.onnx", "");
    put("configured/1/model.onnx", "");
    put("configured/model.yaml", "version_policy: all\n");
    put("triton/1/model.onnx", "");
    put("triton/config.pbtxt", "backend: \"onnxruntime\"\n");
    put("emulated/model.yaml", "backend: emulated\n");
    put("pages/pipeline.yaml", pipeline_text);
    put("broken/model.yaml", "max_batch: 8\n");
    put("lonely/readme.txt", "");
    put("single.onnx", "");
    put("README.md", "");
    put(".git/HEAD", "");
    CHECK_INT_EQ(symlink("bare", in_root("linked")), 0);
    CHECK_INT_EQ(symlink("..", in_root("bare/loop")), 0);
    CHECK_INT_EQ(symlink("self", in_root("self")), 0);
    struct fm_repository repository;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_repository_open(root, &repository, &error), 0);
    static const char *const names[] = {"bare",   "broken", "configured", "emulated",
                                        "linked", "lonely", "pages",      "self",
                                        "single", "triton", "versions"};
    CHECK_UINT_EQ(repository.count, FM_COUNT_OF(names));
    for (size_t i = 0; i < FM_COUNT_OF(names); i++) {
        CHECK_STR_EQ(repository.entries[i].name, names[i]);
        bool bad = strcmp(names[i], "broken") == 0 || strcmp(names[i], "lonely") == 0 ||
                   strcmp(names[i], "self") == 0;
        CHECK_INT_EQ(repository.entries[i].error.status != 0, bad);
        CHECK_INT_EQ(repository.entries[i].kind,
                     strcmp(names[i], "pages") == 0 ? FM_REPOSITORY_PIPELINE : FM_REPOSITORY_MODEL);
    }
    CHECK_STR_CONTAINS(relative(find(&repository, "broken")->error.text),
                       "broken/model.yaml:1:1: unknown key 'max_batch'; what may stand here, too: "
                       "'name', 'backend', ");
    CHECK_STR_CONTAINS(find(&repository, "lonely")->error.text,
                       "is no model: it has neither a version directory (1/model.onnx)");
    CHECK_STR_CONTAINS(find(&repository, "self")->error.text, "self");
    CHECK_STR_EQ(relative(find(&repository, "pages")->path), "pages/pipeline.yaml");
    const struct fm_repository_entry *versions = find(&repository, "versions");
    CHECK_UINT_EQ(versions->version_count, 1);
    CHECK_UINT_EQ(versions->versions[0].version, 10);
    CHECK_STR_EQ(relative(versions->versions[0].path), "versions/10/model.onnx");
    const struct fm_repository_entry *emulated = find(&repository, "emulated");
    CHECK_STR_EQ(emulated->versions[0].backend, "emulated");
    CHECK_PTR_EQ(emulated->versions[0].path, NULL);
    CHECK_UINT_EQ(emulated->versions[0].version, 1);
    const struct fm_model_config *single = &find(&repository, "single")->versions[0];
    CHECK_STR_EQ(single->name, "single");
    CHECK_STR_EQ(single->backend, "onnxruntime");
    CHECK_INT_EQ(single->max_batch_size, -1);
    CHECK_UINT_EQ(single->version, 1);
    fm_repository_close(&repository);
    scratch_end();
}

TEST(models_are_found_by_name_and_version)
{
    scratch_begin();
    put("det/1/model.onnx", "");
    put("det/3/model.onnx", "");
    put("det/model.yaml", "version_policy: all\n");
    put("bad/model.yaml", "nonsense: 1\n");
    put("pages/pipeline.yaml", pipeline_text);
    struct fm_repository repository;
    struct fm_error error = {0};
    const struct fm_model_config *config = NULL;
    CHECK_INT_EQ(fm_repository_open(root, &repository, &error), 0);
    CHECK_INT_EQ(fm_repository_find_model(&repository, "det", 0, &config, &error), 0);
    CHECK_UINT_EQ(config->version, 3);
    CHECK_STR_EQ(config->name, "det");
    CHECK_INT_EQ(fm_repository_find_model(&repository, "det", 1, &config, &error), 0);
    CHECK_UINT_EQ(config->version, 1);
    CHECK_INT_EQ(fm_repository_find_model(&repository, "det", 2, &config, &error), FM_ENOTFOUND);
    CHECK_STR_EQ(error.text, "model 'det' has no version 2; its version policy selects 1, 3");
    CHECK_PTR_EQ(config, NULL);
    CHECK_INT_EQ(fm_repository_find_model(&repository, "dte", 0, &config, &error), FM_ENOTFOUND);
    CHECK_STR_EQ(error.text, "there is no model 'dte' in the repository");
    CHECK_INT_EQ(fm_repository_find_model(&repository, "dets", 0, &config, &error), FM_ENOTFOUND);
    CHECK_STR_EQ(error.text, "there is no model 'dets' in the repository; did you mean 'det'?");
    CHECK_INT_EQ(fm_repository_find_model(&repository, "bad", 0, &config, &error), FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "unknown key 'nonsense'");
    CHECK_INT_EQ(fm_repository_find_model(&repository, "pages", 0, &config, &error), FM_EINVAL);
    CHECK_STR_EQ(error.text, "'pages' is a pipeline; a model is needed here");
    fm_repository_close(&repository);
    scratch_end();
}

TEST(version_policies)
{
    static const struct {
        const char *file;
        const char *text;
        const char *expected; /* versions, or the message */
    } rows[] = {
        {"model.yaml", "", "7"},
        {"model.yaml", "version_policy: latest", "7"},
        {"model.yaml", "version_policy: {latest: 2}", "3 7"},
        {"model.yaml", "version_policy: {latest: 9}", "1 3 7"},
        {"model.yaml", "version_policy: all", "1 3 7"},
        {"model.yaml", "version_policy: {specific: [3, 1, 3]}", "1 3"},
        {"model.yaml", "version_policy: {specific: [2]}",
         "'m' has no version 2, which its version policy asks for"},
        {"config.pbtxt", "version_policy { latest { num_versions: 2 } }", "3 7"},
        {"config.pbtxt", "version_policy: { latest {} }", "7"},
        {"config.pbtxt", "version_policy { all {} }", "1 3 7"},
        {"config.pbtxt", "version_policy { specific { versions: [3, 7] } }", "3 7"},
        {"config.pbtxt", "version_policy { specific { versions: 3 versions: 4 } }",
         "'m' has no version 4, which its version policy asks for"},
    };
    for (size_t i = 0; i < FM_COUNT_OF(rows); i++) {
        char name[64];
        scratch_begin();
        put("m/1/model.onnx", "");
        put("m/3/model.onnx", "");
        put("m/7/model.onnx", "");
        (void)snprintf(name, sizeof(name), "m/%s", rows[i].file);
        put(name, rows[i].text);
        struct fm_repository repository;
        struct fm_error error = {0};
        struct fm_text text = {0};
        int status = fm_repository_open(in_root("m"), &repository, &error);
        for (size_t j = 0; status == 0 && j < repository.entries[0].version_count; j++) {
            fm_text_append_format(&text, "%s%d", j == 0 ? "" : " ",
                                  (int)repository.entries[0].versions[j].version);
        }
        CHECK_STR_EQ(status == 0 ? text.data : relative(error.text), rows[i].expected);
        fm_text_deinit(&text);
        fm_repository_close(&repository);
        scratch_end();
    }
}

TEST(every_kind_of_path)
{
    static const struct {
        const char *path;
        const char *expected; /* "name kind version", or a part of the message */
    } rows[] = {
        {"repo", "det model 1 (3 entries)"},
        {"repo/", "det model 1 (3 entries)"},
        {"repo/det", "det model 1"},
        {"repo/det/", "det model 1"},
        {"repo/det/1/..", "det model 1"},
        {"repo/det/model.yaml", "det model 1"},
        {"repo/tri/config.pbtxt", "tri model 2"},
        {"repo/det/1/model.onnx", "det model 1"},
        {"repo/det/1", "model model 1"},
        {"repo/tri/1/model.onnx", "tri model 1"},
        {"repo/tri/1/other.onnx", "other model 1"},
        {"repo/pages", "ocr pipeline"},
        {"repo/pages/pipeline.yaml", "ocr pipeline"},
        {"flat/net.v2.onnx", "net.v2 model 1"},
        {"flat/pages.yml", "pages pipeline"},
        {"numbers", "1 model 1 (1 entries)"},
        {"numbers/1", "1 model 1"},
        {"empty", "'empty' has no models in it: expected <model>/<version>/model.onnx"},
        {"gone", "'gone' does not exist"},
        {"flat/notes.txt", "'flat/notes.txt' is neither a model file (.onnx)"},
        {"flat/bad.yaml", "flat/bad.yaml:1:1: missing key 'inputs'"},
        {"fifo", "'fifo' is neither a file nor a directory"},
    };
    scratch_begin();
    put("repo/det/1/model.onnx", "");
    put("repo/det/model.yaml", "instances: 3\n");
    put("repo/tri/1/model.onnx", "");
    put("repo/tri/2/model.onnx", "");
    put("repo/tri/1/other.onnx", "");
    put("repo/tri/config.pbtxt", "");
    put("repo/pages/pipeline.yaml", pipeline_text);
    put("flat/net.v2.onnx", "");
    put("flat/pages.yml", pipeline_text);
    put("flat/bad.yaml", "stages: []\n");
    put("flat/notes.txt", "");
    put("numbers/1/1/model.onnx", "");
    put("empty/", "");
    CHECK_INT_EQ(mkfifo(in_root("fifo"), 0600), 0);
    /* Opened by itself, a pipeline may have another name than its directory. */
    FILE *file = fopen(in_root("repo/pages/pipeline.yaml"), "a");
    CHECK(file != NULL && fputs("name: ocr\n", file) >= 0 && fclose(file) == 0);
    for (size_t i = 0; i < FM_COUNT_OF(rows); i++) {
        struct fm_repository repository;
        struct fm_error error = {0};
        char shown[200];
        int status = fm_repository_open(in_root(rows[i].path), &repository, &error);
        if (status != 0) {
            CHECK_UINT_EQ(repository.count, 0);
            CHECK_STR_CONTAINS(relative(error.text), rows[i].expected);
            continue;
        }
        const struct fm_repository_entry *entry = &repository.entries[0];
        int length = snprintf(shown, sizeof(shown), "%s %s", entry->name,
                              entry->kind == FM_REPOSITORY_MODEL ? "model" : "pipeline");
        if (entry->kind == FM_REPOSITORY_MODEL && entry->version_count == 1) {
            length += snprintf(shown + length, sizeof(shown) - (size_t)length, " %d",
                               (int)entry->versions[0].version);
            CHECK_STR_EQ(entry->versions[0].name, entry->name);
        }
        if (strstr(rows[i].expected, "entries") != NULL) {
            (void)snprintf(shown + length, sizeof(shown) - (size_t)length, " (%zu entries)",
                           repository.count);
        }
        CHECK_STR_EQ(shown, rows[i].expected);
        fm_repository_close(&repository);
    }
    struct fm_repository repository;
    CHECK_INT_EQ(fm_repository_open("", &repository, NULL), FM_EINVAL);
    scratch_end();
}

/* A relative path to a version's file, from inside: the names come from where it really lies. */
TEST(paths_relative_to_the_inside)
{
    static const struct {
        const char *directory;
        const char *path;
    } rows[] = {{"repo/det/1", "model.onnx"},
                {"repo/det", "1/model.onnx"},
                {"repo/det", "."},
                {"repo/det/1", ".."},
                {"repo/det/1", "../1/model.onnx"},
                {"repo/det", "model.yaml"}};
    char before[1024];
    CHECK(getcwd(before, sizeof(before)) != NULL);
    scratch_begin();
    put("repo/det/1/model.onnx", "");
    put("repo/det/model.yaml", "instances: 3\n");
    for (size_t i = 0; i < FM_COUNT_OF(rows); i++) {
        struct fm_repository repository;
        struct fm_error error = {0};
        CHECK_INT_EQ(chdir(in_root(rows[i].directory)), 0);
        int status = fm_repository_open(rows[i].path, &repository, &error);
        CHECK_INT_EQ(chdir(before), 0);
        CHECK_STR_EQ(error.text, "");
        CHECK_INT_EQ(status, 0);
        CHECK_STR_EQ(repository.entries[0].name, "det");
        CHECK_UINT_EQ(repository.entries[0].versions[0].instance_count, 3);
        fm_repository_close(&repository);
    }
    scratch_end();
}

TEST(layouts_that_contradict_themselves)
{
    scratch_begin();
    put("both/1/model.onnx", "");
    put("both/model.yaml", "");
    put("both/config.pbtxt", "");
    put("mixed/pipeline.yaml", pipeline_text);
    put("mixed/model.yaml", "");
    put("nofile/1/model.plan", "");
    put("empty/1/", "");
    put("folder/1/model.onnx/", "");
    put("direct/model.onnx", "");
    put("direct/model.yaml", "");
    put("yaml/model.yaml", "name: other\nbackend: identity\n");
    put("pbtxt/config.pbtxt", "# x\nname: \"other\"\nbackend: \"identity\"\n");
    put("line/pipeline.yaml", "name: other\ninputs: [{name: x, dtype: FP32, shape: [1]}]\nstages: "
                              "[{name: s, model: b}]\noutputs: {y: s}\n");
    put("named/1/weights.onnx", "");
    put("named/model.yaml", "file: weights.onnx\n");
    put("twin/1/model.onnx", "");
    put("twin.onnx", "");
    put("control\x01/1/model.onnx", "");
    struct fm_repository repository;
    struct fm_error error = {0};
    CHECK_INT_EQ(fm_repository_open(root, &repository, &error), 0);
    static const struct {
        const char *name;
        const char *message;
    } rows[] = {
        {"both", "'both' has both model.yaml and config.pbtxt"},
        {"mixed", "'mixed' has both pipeline.yaml and a model's configuration"},
        {"nofile",
         "model 'nofile': 'nofile/1/model.onnx' does not exist; the directory holds 'model.plan'"},
        {"empty", "model 'empty': 'empty/1/model.onnx' does not exist"},
        {"folder", "model 'folder': 'folder/1/model.onnx' is not a file"},
        {"direct",
         "'direct' has 'model.onnx' but no version directory: move the file to '1/model.onnx'"},
        {"yaml", "yaml/model.yaml:1:7: the model is called 'other' here but its directory 'yaml'"},
        {"pbtxt",
         "pbtxt/config.pbtxt:2:7: the model is called 'other' here but its directory 'pbtxt'"},
        {"line",
         "line/pipeline.yaml: the pipeline is called 'other' here but its directory 'line'"},
        {"twin", "'' has both a directory and a file for model 'twin'"},
        {"control\x01", "the name 'control?' is not printable UTF-8"},
    };
    for (size_t i = 0; i < FM_COUNT_OF(rows); i++) {
        const struct fm_repository_entry *entry = find(&repository, rows[i].name);
        CHECK_PTR_NE(entry, NULL);
        CHECK_INT_NE(entry->error.status, 0);
        CHECK_UINT_EQ(entry->version_count, 0);
        CHECK_STR_CONTAINS(relative(entry->error.text), rows[i].message);
    }
    CHECK_UINT_EQ(repository.count, FM_COUNT_OF(rows) + 1);
    CHECK_STR_EQ(relative(find(&repository, "named")->versions[0].path), "named/1/weights.onnx");
    fm_repository_close(&repository);
    scratch_end();
}

TEST(model_yaml_in_full)
{
    scratch_begin();
    put("m/1/net.onnx", "");
    put("m/model.yaml", "name: m\n"
                        "backend: onnxruntime\n"
                        "file: net.onnx\n"
                        "max_batch_size: 8\n"
                        "inputs:\n"
                        "  - {name: x, dtype: FP32, shape: [3, -1]}\n"
                        "  - {name: mask, optional: yes}\n"
                        "outputs: [{name: y, labels: words/y.txt}]\n"
                        "labels: {z: z.txt}\n"
                        "instances: 2\n"
                        "threads: 4\n"
                        "settings: {graph_optimization: basic}\n"
                        "device: {provider: cuda, provider.device_id: 1}\n"
                        "batching: {preferred_sizes: [4, 8], max_queue_delay: 5ms}\n"
                        "warmup: {count: 3, batch: 8}\n"
                        "profile: profile.yaml\n"
                        "policy: timeout\n"
                        "accelerators:\n"
                        "  gpu:\n"
                        "  big: {settings: {threads: 9}, profile: big.yaml}\n");
    struct fm_repository repository;
    struct fm_error error = {0};
    const struct fm_model_config *config = NULL;
    CHECK_INT_EQ(fm_repository_open(root, &repository, &error), 0);
    int status = fm_repository_find_model(&repository, "m", 0, &config, &error);
    CHECK_STR_EQ(error.text, "");
    CHECK_INT_EQ(status, 0);
    CHECK_STR_EQ(relative(config->path), "m/1/net.onnx");
    CHECK_INT_EQ(config->max_batch_size, 8);
    CHECK_UINT_EQ(config->input_count, 2);
    CHECK_UINT_EQ(config->inputs[0].dtype, FM_DTYPE_FP32);
    CHECK_INT_EQ(config->inputs[0].rank, 2);
    CHECK_INT_EQ(config->inputs[0].shape[1], -1);
    CHECK_INT_EQ(config->inputs[1].rank, -1);
    CHECK(config->inputs[1].optional && !config->inputs[0].optional);
    CHECK_UINT_EQ(config->output_count, 2);
    CHECK_STR_EQ(relative(config->outputs[0].label_path), "m/words/y.txt");
    CHECK_STR_EQ(config->outputs[1].name, "z");
    CHECK_STR_EQ(relative(config->outputs[1].label_path), "m/z.txt");
    CHECK_UINT_EQ(config->instance_count, 2);
    CHECK_STR_EQ(setting(config->settings, config->setting_count, "threads"), "4");
    CHECK_STR_EQ(setting(config->settings, config->setting_count, "graph_optimization"), "basic");
    CHECK_STR_EQ(setting(config->device_settings, config->device_setting_count, "provider"),
                 "cuda");
    CHECK_STR_EQ(
        setting(config->device_settings, config->device_setting_count, "provider.device_id"), "1");
    CHECK_UINT_EQ(config->preferred_batch_size_count, 2);
    CHECK_UINT_EQ(config->preferred_batch_sizes[1], 8);
    CHECK_UINT_EQ(config->max_queue_delay_ns, 5000000);
    CHECK_UINT_EQ(config->warmup_count, 3);
    CHECK_UINT_EQ(config->warmup_batch, 8);
    CHECK_STR_EQ(relative(config->profile_path), "m/profile.yaml");
    CHECK_INT_EQ(config->policy, FM_SCHED_POLICY_TIMEOUT);
    CHECK_UINT_EQ(config->group_count, 2);
    CHECK_STR_EQ(config->groups[0].name, "gpu");
    CHECK_UINT_EQ(config->groups[0].setting_count, 0);
    CHECK_PTR_EQ(config->groups[0].profile_path, NULL);
    CHECK_STR_EQ(config->groups[1].name, "big");
    CHECK_STR_EQ(setting(config->groups[1].settings, config->groups[1].setting_count, "threads"),
                 "9");
    CHECK_STR_EQ(relative(config->groups[1].profile_path), "m/big.yaml");
    CHECK_UINT_EQ(config->note_count, 0);
    fm_repository_close(&repository);
    scratch_end();
}

/* One configuration file of a file-less model, opened by itself. */
static int open_config(const char *file, const char *text, struct fm_repository *repository,
                       struct fm_error *error)
{
    char name[64];
    *error = (struct fm_error){0};
    (void)snprintf(name, sizeof(name), "m/%s", file);
    put(name, text);
    return fm_repository_open(in_root("m"), repository, error);
}

TEST(model_yaml_mistakes)
{
    static const struct {
        const char *text;
        const char *message;
    } rows[] = {
        {"[1]", "1:1: a map is expected here, not a list"},
        {"backend: ''", "1:10: 'backend' is empty: write a text after it"},
        {"instance: 2", "1:1: unknown key 'instance'; did you mean 'instances'?"},
        {"max_batch_size: -1",
         "1:17: 'max_batch_size' must be a whole number from 0 to 1048576, not '-1'"},
        {"inputs: {x: 1}", "1:9: a list is expected here, not a map"},
        {"inputs: [{dtype: FP32}]", "1:10: missing key 'name'"},
        {"inputs: [{name: ~}]", "1:17: 'name' is empty: write the port's name after it"},
        {"inputs: [{name: x, dtype: F32}]", "1:27: 'F32' is no data type; did you mean 'FP32'?"},
        {"inputs: [{name: x, shape: 3}]", "1:27: a list is expected here, not '3'"},
        {"inputs: [{name: x, shape: [-2]}]", "1:28: a dimension must be"},
        {"inputs: [{name: x, labels: y}]", "1:20: unknown key 'labels'"},
        {"inputs: [{name: x}, {name: x}]", "1:21: two inputs are called 'x'"},
        {"outputs: [{name: x, optional: true}]", "1:21: unknown key 'optional'"},
        {"labels: x.txt", "1:9: say which output the labels are of: labels: {<output>: x.txt}"},
        {"outputs: [{name: y, labels: a}]\nlabels: b", "2:9: output 'y' has labels already"},
        {"instances: 0", "1:12: 'instances' must be a whole number from 1 to 256, not '0'"},
        {"threads: two", "1:10: 'threads' must be a whole number from 1 to 1024, not 'two'"},
        {"threads: 2\nsettings: {threads: 3}",
         "2:21: 'threads' stands both here and beside 'settings'"},
        {"settings: [a]", "1:11: a map is expected here, not a list"},
        {"device: cuda", "1:9: a map is expected here, not 'cuda'"},
        {"max_batch_size: 4\nbatching: {preferred_sizes: [2, 8]}",
         "2:33: a batch size must be a whole number from 1 to 4"},
        {"max_batch_size: 0\nbatching: {}",
         "2:11: 'batching' has no effect with 'max_batch_size: 0'"},
        {"batching: {max_queue_delay: soon}", "1:29: 'max_queue_delay' must be a duration"},
        {"batching: {max_delay: 1ms}", "1:12: unknown key 'max_delay'"},
        {"version_policy: newest",
         "1:17: 'version_policy' must be one of latest, all, not 'newest'"},
        {"version_policy: {specific: []}", "1:28: a list of 1 to 4096 versions is expected here"},
        {"version_policy: {specific: [0]}", "1:29: a version must be a whole number from 1"},
        {"version_policy: {latest: 1, specific: [1]}", "1:17: a version policy is 'latest', 'all'"},
        {"version_policy: {}", "1:17: a version policy is 'latest', 'all'"},
        {"warmup: [1]", "1:9: a map is expected here, not a list"},
        {"warmup: {rounds: 1}", "1:10: unknown key 'rounds'"},
        {"policy: hasty", "1:9: 'hasty' is no policy; there are deferred"},
        {"policy: [eager]", "1:9: 'policy' must be a text, not a list"},
        {"accelerators: []", "1:15: 'accelerators' names the groups that the model may use"},
        {"accelerators: {}", "1:15: 'accelerators' names the groups that the model may use"},
        {"accelerators: [{}]", "1:16: a single value is expected here, not a map"},
        {"accelerators: {cpu: 4}", "1:21: a map is expected here, not '4'"},
        {"accelerators: {cpu: {thread: 4}}", "1:22: unknown key 'thread'"},
        {"max_batch_size: 4\nwarmup: {batch: 8}",
         "2:17: 'batch' must be a whole number from 1 to 4, not '8'"},
    };
    scratch_begin();
    for (size_t i = 0; i < FM_COUNT_OF(rows); i++) {
        struct fm_repository repository;
        struct fm_error error;
        char expected[300];
        (void)snprintf(expected, sizeof(expected), "m/model.yaml:%s", rows[i].message);
        CHECK_INT_EQ(open_config("model.yaml", rows[i].text, &repository, &error), FM_EINVAL);
        CHECK_STR_CONTAINS(relative(error.text), expected);
    }
    scratch_end();
}

static const char triton_text[] =
    "name: \"m\"\n"
    "platform: \"onnxruntime_onnx\"\n"
    "max_batch_size: 8\n"
    "input [ { name: \"x\" data_type: TYPE_FP32 format: FORMAT_NCHW dims: [ 3, -1, 224 ] },\n"
    "        { name: \"n\" data_type: TYPE_INT64 dims: [ 1 ] reshape { shape: [ ] } optional: true "
    "} ]\n"
    "output { name: \"y\" data_type: TYPE_STRING dims: 1000 label_filename: \"labels.txt\" }\n"
    "instance_group [ { count: 2 kind: KIND_GPU gpus: [ 1 ] }, { count: 1 host_policy: \"p\" } ]\n"
    "dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 "
    "priority_levels: 2 }\n"
    "optimization { graph { level: -1 } cuda { graphs: true } }\n"
    "parameters { key: \"intra_op_thread_count\" value: { string_value: \"4\" } }\n"
    "parameters: { key: \"enable_mem_arena\" value { string_value: \"0\" } }\n"
    "parameters { key: \"fermata.spinning\" value: { string_value: \"false\" } }\n"
    "parameters { key: \"fermata.profile\" value: { string_value: \"p.yaml\" } }\n"
    "parameters { key: \"unheard_of\" value: { string_value: \"1\" } }\n"
    "model_warmup { name: \"w\" batch_size: 4 count: 2 inputs { key: \"x\" value: { zero_data: "
    "true } } }\n"
    "model_warmup { batch_size: 1 }\n"
    "sequence_batching { max_sequence_idle_microseconds: 5 }\n"
    "a_field_from_the_future: 1\n"
    "default_model_filename: \"net.onnx\"\n";

TEST(config_pbtxt_in_full)
{
    scratch_begin();
    put("m/1/net.onnx", "");
    struct fm_repository repository;
    struct fm_error error;
    int status = open_config("config.pbtxt", triton_text, &repository, &error);
    CHECK_STR_EQ(error.text, "");
    CHECK_INT_EQ(status, 0);
    const struct fm_model_config *config = &repository.entries[0].versions[0];
    CHECK_STR_EQ(config->backend, "onnxruntime");
    CHECK_STR_EQ(relative(config->path), "m/1/net.onnx");
    CHECK_INT_EQ(config->max_batch_size, 8);
    CHECK_UINT_EQ(config->input_count, 2);
    CHECK_INT_EQ(config->inputs[0].rank, 3);
    CHECK_INT_EQ(config->inputs[0].shape[2], 224);
    CHECK_INT_EQ(config->inputs[1].rank, 0); /* as the model sees it */
    CHECK(config->inputs[1].optional);
    CHECK_UINT_EQ(config->outputs[0].dtype, FM_DTYPE_BYTES);
    CHECK_STR_EQ(relative(config->outputs[0].label_path), "m/labels.txt");
    CHECK_UINT_EQ(config->instance_count, 3);
    CHECK_STR_EQ(setting(config->device_settings, config->device_setting_count, "provider"),
                 "cuda");
    CHECK_STR_EQ(
        setting(config->device_settings, config->device_setting_count, "provider.device_id"), "1");
    CHECK_UINT_EQ(config->preferred_batch_size_count, 2);
    CHECK_UINT_EQ(config->max_queue_delay_ns, 100000);
    CHECK_STR_EQ(setting(config->settings, config->setting_count, "graph_optimization"), "basic");
    CHECK_STR_EQ(setting(config->settings, config->setting_count, "threads"), "4");
    CHECK_STR_EQ(setting(config->settings, config->setting_count, "arena"), "false");
    CHECK_STR_EQ(setting(config->settings, config->setting_count, "spinning"), "false");
    CHECK_STR_EQ(relative(config->profile_path), "m/p.yaml");
    CHECK_UINT_EQ(config->warmup_count, 3);
    CHECK_UINT_EQ(config->warmup_batch, 4);
    static const char *const notes[] = {
        "m/config.pbtxt:4: 'format' is ignored: an input is bytes of its shape",
        "m/config.pbtxt:5: 'reshape' is ignored: requests carry 'n' in the shape that the model "
        "itself has",
        "m/config.pbtxt:7: 'host_policy' is ignored: placement",
        "m/config.pbtxt:8: 'priority_levels' is ignored: requests are ordered by deadline",
        "m/config.pbtxt:9: 'cuda' is ignored: CUDA graphs are not used",
        "m/config.pbtxt:14: parameter 'unheard_of' is ignored",
        "m/config.pbtxt:15: 'name' is ignored: warm-up runs have no names",
        "m/config.pbtxt:15: 'inputs' is ignored: warm-up runs on zeros",
        "m/config.pbtxt:17: 'sequence_batching' is ignored: requests are independent here",
        "m/config.pbtxt:18: 'a_field_from_the_future' is ignored: a model configuration has no "
        "such field",
        "m/config.pbtxt:8: preferred_batch_size and max_queue_delay_microseconds are for policy "
        "'timeout' only",
    };
    CHECK_UINT_EQ(config->note_count, FM_COUNT_OF(notes));
    for (size_t i = 0; i < FM_COUNT_OF(notes); i++) {
        CHECK_STR_CONTAINS(relative(config->notes[i]), notes[i]);
    }
    fm_repository_close(&repository);
    scratch_end();
}

TEST(config_pbtxt_defaults)
{
    static const struct {
        const char *text;
        int64_t max_batch_size;
        const char *provider;
    } rows[] = {
        {"", -1, NULL},
        {"max_batch_size: 0", 0, NULL},
        {"input { name: \"x\" } output { name: \"y\" }", 0, NULL},
        {"input { name: \"x\" }", -1, NULL},
        {"instance_group { kind: KIND_CPU }", -1, NULL},
        {"instance_group { kind: KIND_GPU }", -1, "cuda"},
        {"instance_group { kind: KIND_GPU } optimization { execution_accelerators { "
         "gpu_execution_accelerator: [ { name: \"tensorrt\" } ] } }",
         -1, "tensorrt"},
        {"optimization { execution_accelerators { cpu_execution_accelerator { name: \"openvino\" } "
         "} }",
         -1, "openvino"},
        {"parameters { key: \"fermata.provider\" value { string_value: \"cpu\" } } instance_group "
         "{ kind: KIND_GPU }",
         -1, "cpu"},
    };
    scratch_begin();
    put("m/1/model.onnx", "");
    for (size_t i = 0; i < FM_COUNT_OF(rows); i++) {
        struct fm_repository repository;
        struct fm_error error;
        int status = open_config("config.pbtxt", rows[i].text, &repository, &error);
        CHECK_STR_EQ(error.text, "");
        CHECK_INT_EQ(status, 0);
        const struct fm_model_config *config = &repository.entries[0].versions[0];
        CHECK_INT_EQ(config->max_batch_size, rows[i].max_batch_size);
        const char *provider =
            setting(config->device_settings, config->device_setting_count, "provider");
        CHECK_STR_EQ(provider != NULL ? provider : "none",
                     rows[i].provider != NULL ? rows[i].provider : "none");
        CHECK_UINT_EQ(config->note_count, 0);
        fm_repository_close(&repository);
    }
    scratch_end();
}

TEST(provider_options_of_accelerators)
{
    scratch_begin();
    put("m/1/model.onnx", "");
    struct fm_repository repository;
    struct fm_error error;
    CHECK_INT_EQ(open_config("config.pbtxt",
                             "optimization { execution_accelerators { gpu_execution_accelerator : "
                             "[ { name : \"tensorrt\"\n"
                             "parameters { key: \"trt_dla_core\" value: \"1\" }\n"
                             "parameters { key: \"precision_mode\" value: \"FP16\" }\n"
                             "parameters { key: \"verbosity\" value: \"FP16\" } } ] } }",
                             &repository, &error),
                 0);
    const struct fm_model_config *config = &repository.entries[0].versions[0];
    CHECK_STR_EQ(
        setting(config->device_settings, config->device_setting_count, "provider.trt_fp16_enable"),
        "1");
    CHECK_STR_EQ(
        setting(config->device_settings, config->device_setting_count, "provider.trt_dla_core"),
        "1");
    CHECK_UINT_EQ(config->device_setting_count, 3);
    CHECK_UINT_EQ(config->note_count, 1);
    CHECK_STR_CONTAINS(config->notes[0], "config.pbtxt:4: parameter 'verbosity' is ignored");
    fm_repository_close(&repository);
    scratch_end();
}

TEST(config_pbtxt_mistakes)
{
    static const struct {
        const char *text;
        int status;
        const char *message;
    } rows[] = {
        {"platform: \"tensorrt_plan\"", FM_EUNSUPPORTED,
         "1:11: platform 'tensorrt_plan' is not supported: export the model to ONNX"},
        {"\nbackend: \"python\"", FM_EUNSUPPORTED, "2:10: backend 'python' is not supported"},
        {"platform: \"ensemble\"", FM_EUNSUPPORTED, "1:11: Triton ensembles are not read"},
        {"ensemble_scheduling { step [ { } ] }", FM_EUNSUPPORTED,
         "1:21: Triton ensembles are not read"},
        {"backend: \"identity\" platform: \"onnxruntime_onnx\"", FM_EINVAL,
         "1:31: platform 'onnxruntime_onnx' contradicts backend 'identity'"},
        {"max_batch_sise: 8", FM_EINVAL,
         "1:1: a model configuration has no field 'max_batch_sise'; did you mean "
         "'max_batch_size'?"},
        {"input { nam: \"x\" }", FM_EINVAL, "1:9: input has no field 'nam'; did you mean 'name'?"},
        {"name: \"m\"\nname: \"m\"", FM_EINVAL, "2:1: 'name' stands twice"},
        {"name: 5", FM_EINVAL, "1:7: 'name' must be a string, not a number"},
        {"max_batch_size: -1", FM_EINVAL,
         "1:17: 'max_batch_size' must be a whole number from 0 to 1048576"},
        {"max_batch_size: \"8\"", FM_EINVAL, "1:17: 'max_batch_size' must be a whole number"},
        {"input: 5", FM_EINVAL, "1:8: 'input' must be a message { ... }, not a number"},
        {"input { data_type: TYPE_FP32 }", FM_EINVAL, "1:7: this 'input' has no name"},
        {"input { name: \"x\" data_type: FP32 }", FM_EINVAL, "1:30: 'FP32' is no data type"},
        {"input { name: \"x\" data_type: TYPE_FP33 }", FM_EINVAL,
         "1:30: 'TYPE_FP33' is no data type; did you mean 'TYPE_FP"},
        {"input { name: \"x\" dims: [1, 0] }", FM_EINVAL,
         "1:29: a dimension must be a whole number of at least 1"},
        {"input { name: \"x\" optional: 2 }", FM_EINVAL, "1:29: 'optional' must be true or false"},
        {"output [ { name: \"x\" }, { name: \"x\" } ]", FM_EINVAL,
         "1:25: two entries of 'output' are called 'x'"},
        {"input { name: \"x\" dims: [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1] }", FM_EINVAL,
         "1:58: 'dims' has more than 16 dimensions"},
        {"instance_group { kind: KIND_TPU }", FM_EINVAL, "1:24: 'kind' must be one of KIND_AUTO"},
        {"instance_group { count: 0 }", FM_EINVAL,
         "1:25: 'count' must be a whole number from 1 to 256"},
        {"instance_group [ { count: 200 }, { count: 200 } ]", FM_EINVAL,
         "1:34: more than 256 instances"},
        {"max_batch_size: 4 dynamic_batching { preferred_batch_size: [2, 8] }", FM_EINVAL,
         "1:64: the preferred batch size 8 is larger than 'max_batch_size' (4)"},
        {"version_policy { all {} latest {} }", FM_EINVAL, "1:16: a version policy is one of"},
        {"version_policy { specific {} }", FM_EINVAL, "1:27: 'specific' names no versions"},
        {"parameters { value { string_value: \"x\" } }", FM_EINVAL,
         "1:12: this entry of 'parameters' has no key"},
        {"parameters { key: \"fermata.policy\" value { string_value: \"hasty\" } }", FM_EINVAL,
         "1:12: 'hasty' is no policy; there are deferred"},
        {"parameters { key: \"fermata.accelerators\" value { string_value: \"a,,b\" } }", FM_EINVAL,
         "1:12: 'a,,b' does not name accelerators: write up to 8 names, separated by commas"},
        {"parameters { key: \"fermata.accelerators\" value { string_value: \"a b\" } }", FM_EINVAL,
         "1:12: 'a b' does not name accelerators: separate names by commas"},
        {"parameters { key: \"fermata.accelerators\" value { string_value: \"\" } }", FM_EINVAL,
         "1:12: '' does not name accelerators"},
        {"optimization { graph { level: 3 } }", FM_EINVAL,
         "1:31: 'level' must be a whole number from -1 to 2"},
        {"input [", FM_EINVAL, "1:8: a value is expected here, not the end of the file"},
    };
    scratch_begin();
    put("m/1/model.onnx", "");
    for (size_t i = 0; i < FM_COUNT_OF(rows); i++) {
        struct fm_repository repository;
        struct fm_error error;
        char expected[300];
        (void)snprintf(expected, sizeof(expected), "m/config.pbtxt:%s", rows[i].message);
        int status = open_config("config.pbtxt", rows[i].text, &repository, &error);
        CHECK_STR_CONTAINS(relative(error.text), expected);
        CHECK_INT_EQ(status, rows[i].status);
    }
    scratch_end();
}

TEST(memory_may_fail_anywhere)
{
    scratch_begin();
    put("m/1/net.onnx", "");
    put("m/2/net.onnx", "");
    put("m/config.pbtxt", triton_text);
    put("p/pipeline.yaml", pipeline_text);
    put("y/model.yaml",
        "backend: identity\nlabels: {y: a}\nthreads: 2\nbatching: {preferred_sizes: [1]}\n");
    for (uint64_t countdown = 1;; countdown++) {
        struct fm_repository repository;
        struct fm_error error = {0};
        (void)fm_memory_fail_at(countdown, 0);
        int status = fm_repository_open(root, &repository, &error);
        (void)fm_memory_fail_at(0, 0);
        bool whole = status == 0;
        for (size_t i = 0; i < repository.count; i++) {
            whole = whole && repository.entries[i].error.status == 0;
        }
        fm_repository_close(&repository);
        if (whole) {
            CHECK_INT_GT(countdown, 20);
            break;
        }
        CHECK_INT_EQ(status, FM_ENOMEM);
    }
    scratch_end();
}

TEST_MAIN()
