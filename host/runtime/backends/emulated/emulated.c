/*
 * The emulated backend: takes l(b) to answer with zeros. For scale tests of everything above a
 * model, and for faults on purpose.
 *
 * Settings of a model:
 *   inputs, outputs   ports, see port_list.h; default "x:FP32[-1,4]" and "y:FP32[-1,4]"
 *   latency           table "1:2ms, 4:3.5ms", interpolated, extrapolated along its last piece; or
 *   alpha, beta       durations: l(b) = alpha * b + beta; default 1ms and 0
 *   spread            coefficient of variation of a log-normal factor, 0 to 2; default 0
 *   fail_rate         share of batches that fail, 0 to 1
 *   fail_every N      the N-th, 2N-th, ... batch of an instance fails
 *   hang_every N      likewise, but the batch takes `hang` (default 1h) instead of l(b)
 *   seed              of spread and fail_rate; default 1
 *
 * One thread for all instances of the process sleeps until the next batch's start + l(b), in
 * absolute time, so that thousands of emulated accelerators cost no threads. Thread rule: as
 * fermata/backend.h.
 */
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/tensor/tensor.h"
#include "core/util/error.h"
#include "core/util/random.h"
#include "core/util/text.h"
#include "host/runtime/backends/common/port_list.h"

enum { TABLE_MAX = 64 };

/* No batch takes longer than some thirty years: sums with the clock stay in range. */
#define DURATION_NS_MAX 1e18

struct latency_point {
    double batch;
    double ns;
};

struct model {
    const struct fm_host *host;
    struct port_list inputs;
    struct port_list outputs;
    struct latency_point table[TABLE_MAX];
    size_t table_count;
    uint64_t alpha_ns;
    uint64_t beta_ns;
    double spread;
    double fail_rate;
    uint64_t fail_every;
    uint64_t hang_every;
    uint64_t hang_ns;
    uint64_t seed;
    uint64_t instance_count; /* made so far: each gets a seed of its own */
};

/* Under the clock's lock. */
struct instance {
    struct model *model;
    struct fm_random random;
    uint64_t batch_count;
    struct fm_execution *running;
    struct fm_execution *pending; /* begins when the running one is over */
    uint64_t end_ns;              /* of the running one */
    bool fails;                   /* the running one */
    size_t place;                 /* in the clock's heap */
};

/* The thread and what it waits for: instances with a running batch, the earliest end first. */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t
        changed; /* the earliest end, or that the thread is to end; a completion is over */
    pthread_t thread;
    size_t users; /* instances there are; the thread runs while there are some */
    bool ready;   /* the condition has been made */
    bool stopping;
    struct instance **heap;
    size_t count;
    size_t capacity;
    const struct instance *completing; /* its `complete` is being called */
} timing = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* --- settings --- */

static int device_open(const struct fm_host *host, const struct fm_setting *settings,
                       size_t setting_count, void **ret_device, struct fm_error *reterr)
{
    if (setting_count > 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "emulated: a device has no settings, but '%s' was given",
                            settings[0].key);
    }
    *ret_device = (void *)(uintptr_t)host;
    return 0;
}

static void device_close(void *device)
{
    (void)device;
}

/* "1:2ms, 4:3.5ms" with growing batch sizes. */
static int table_parse(struct model *model, const char *text, struct fm_error *reterr)
{
    model->table_count = 0;
    while (*text != '\0') {
        char point[64];
        size_t length = strcspn(text, ",");
        uint64_t batch = 0;
        uint64_t ns = 0;
        const char *start = text + strspn(text, " ");
        size_t used = (size_t)(text + length - start);
        char *colon = NULL;
        if (used < sizeof(point)) {
            memcpy(point, start, used);
            point[used] = '\0';
            colon = strchr(point, ':');
        }
        if (colon != NULL) {
            *colon++ = '\0';
            colon += strspn(colon, " ");
        }
        if (colon == NULL || fm_parse_uint64(point, &batch) != 0 || batch == 0 ||
            fm_parse_duration_ns(colon, &ns) != 0 || model->table_count == TABLE_MAX ||
            (model->table_count > 0 &&
             (double)batch <= model->table[model->table_count - 1].batch)) {
            return fm_error_set(reterr, FM_EINVAL,
                                "emulated: 'latency' makes no sense at '%.40s'; write growing "
                                "batch sizes, as \"1:2ms, 4:3.5ms\" (at most %d)",
                                start, TABLE_MAX);
        }
        model->table[model->table_count++] =
            (struct latency_point){.batch = (double)batch, .ns = (double)ns};
        text += length + (text[length] == ',' ? 1 : 0);
    }
    return model->table_count > 0
               ? 0
               : fm_error_set(reterr, FM_EINVAL,
                              "emulated: 'latency' is empty; write growing batch sizes, as "
                              "\"1:2ms, 4:3.5ms\", or leave it out");
}

static int setting_bad(const struct fm_setting *setting, const char *wanted,
                       struct fm_error *reterr)
{
    return fm_error_set(reterr, FM_EINVAL, "emulated: setting '%s' must be %s, but is '%s'",
                        setting->key, wanted, setting->value);
}

static int read_duration(const struct fm_setting *setting, uint64_t *ret_ns,
                         struct fm_error *reterr)
{
    return fm_parse_duration_ns(setting->value, ret_ns) == 0
               ? 0
               : setting_bad(setting, "a duration such as 5ms", reterr);
}

static int read_number(const struct fm_setting *setting, double max, double *ret_value,
                       struct fm_error *reterr)
{
    if (fm_parse_double(setting->value, ret_value) == 0 && *ret_value >= 0 && *ret_value <= max) {
        return 0;
    }
    return setting_bad(setting, max > 1 ? "a number from 0 to 2" : "a number from 0 to 1", reterr);
}

static int read_count(const struct fm_setting *setting, uint64_t *ret_value,
                      struct fm_error *reterr)
{
    return fm_parse_uint64(setting->value, ret_value) == 0
               ? 0
               : setting_bad(setting, "a number", reterr);
}

static int setting_read(struct model *model, const struct fm_setting *setting,
                        struct fm_error *reterr)
{
    static const char *const names[] = {"inputs",     "outputs", "latency",   "alpha",
                                        "beta",       "spread",  "fail_rate", "fail_every",
                                        "hang_every", "hang",    "seed"};
    size_t index = 0;
    while (index < sizeof(names) / sizeof(names[0]) && strcmp(names[index], setting->key) != 0) {
        index++;
    }
    switch (index) {
    case 0:
        return port_list_parse(&model->inputs, "inputs", setting->value, reterr);
    case 1:
        return port_list_parse(&model->outputs, "outputs", setting->value, reterr);
    case 2:
        return table_parse(model, setting->value, reterr);
    case 3:
        return read_duration(setting, &model->alpha_ns, reterr);
    case 4:
        return read_duration(setting, &model->beta_ns, reterr);
    case 5:
        return read_number(setting, 2, &model->spread, reterr);
    case 6:
        return read_number(setting, 1, &model->fail_rate, reterr);
    case 7:
        return read_count(setting, &model->fail_every, reterr);
    case 8:
        return read_count(setting, &model->hang_every, reterr);
    case 9:
        return read_duration(setting, &model->hang_ns, reterr);
    case 10:
        return read_count(setting, &model->seed, reterr);
    default:
        break;
    }
    const char *nearest = fm_text_suggest(setting->key, names, sizeof(names) / sizeof(names[0]));
    return fm_error_set(reterr, FM_EINVAL, "emulated: unknown setting '%s'%s%s%s", setting->key,
                        nearest != NULL ? "; did you mean '" : "", nearest != NULL ? nearest : "",
                        nearest != NULL ? "'?" : "");
}

/* Outputs need a size for every dimension but those that an input gives: dimension 0 is the batch,
 * others must be fixed. */
static int outputs_check(const struct model *model, struct fm_error *reterr)
{
    for (uint32_t i = 0; i < model->outputs.count; i++) {
        for (int32_t axis = 1; axis < model->outputs.ports[i].rank; axis++) {
            if (model->outputs.ports[i].shape[axis] < 0) {
                return fm_error_set(reterr, FM_EINVAL,
                                    "emulated: output '%s' may be variable in dimension 0 only",
                                    model->outputs.names[i]);
            }
        }
    }
    return 0;
}

static int model_load(void *device, const struct fm_model_source *source,
                      const struct fm_setting *settings, size_t setting_count, void **ret_model,
                      struct fm_error *reterr)
{
    (void)source;
    struct model *model = calloc(1, sizeof(*model));
    if (model == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "emulated: out of memory");
    }
    model->host = device;
    model->alpha_ns = 1000000;
    model->hang_ns = 3600u * 1000000000ull;
    model->seed = 1;
    int status = port_list_parse(&model->inputs, "inputs", "x:FP32[-1,4]", reterr);
    status =
        status != 0 ? status : port_list_parse(&model->outputs, "outputs", "y:FP32[-1,4]", reterr);
    for (size_t i = 0; status == 0 && i < setting_count; i++) {
        status = setting_read(model, &settings[i], reterr);
    }
    status = status != 0 ? status : outputs_check(model, reterr);
    if (status != 0) {
        free(model);
        return status;
    }
    *ret_model = model;
    return 0;
}

static void model_unload(void *model)
{
    free(model);
}

static int model_info(void *handle, struct fm_model_info *ret_info)
{
    struct model *model = handle;
    ret_info->input_count = model->inputs.count;
    ret_info->output_count = model->outputs.count;
    ret_info->inputs = model->inputs.ports;
    ret_info->outputs = model->outputs.ports;
    ret_info->batch_dimension =
        port_list_is_batchable(&model->inputs) && port_list_is_batchable(&model->outputs) ? 1 : 0;
    ret_info->platform = "emulated";
    return 0;
}

/* --- latency --- */

static double latency_of(const struct model *model, double batch)
{
    const struct latency_point *table = model->table;
    size_t count = model->table_count;
    if (count == 0) {
        return (double)model->alpha_ns * batch + (double)model->beta_ns;
    }
    if (count == 1 || batch <= table[0].batch) {
        return table[0].ns;
    }
    size_t i = 1;
    while (i + 1 < count && table[i].batch < batch) {
        i++;
    }
    double slope = (table[i].ns - table[i - 1].ns) / (table[i].batch - table[i - 1].batch);
    double ns = table[i - 1].ns + slope * (batch - table[i - 1].batch);
    return ns > 0 ? ns : 0;
}

static uint64_t duration_draw(struct instance *instance, uint32_t batch)
{
    const struct model *model = instance->model;
    if (model->hang_every > 0 && instance->batch_count % model->hang_every == 0) {
        return model->hang_ns < (uint64_t)DURATION_NS_MAX ? model->hang_ns
                                                          : (uint64_t)DURATION_NS_MAX;
    }
    double ns = latency_of(model, batch);
    if (model->spread > 0) {
        /* Log-normal with mean 1 and the wanted coefficient of variation. */
        double variance = log(1.0 + model->spread * model->spread);
        ns *= exp(sqrt(variance) * fm_random_normal(&instance->random) - variance / 2);
    }
    return ns < DURATION_NS_MAX ? (uint64_t)ns : (uint64_t)DURATION_NS_MAX;
}

/* --- outputs --- */

/* Sets the size of a tensor of zeros; an empty string is four zero bytes. */
static int output_bytes(struct fm_tensor *tensor)
{
    uint64_t count = 0;
    if (tensor->dtype != FM_DTYPE_BYTES) {
        return fm_tensor_bytes(tensor->dtype, tensor->shape, tensor->rank, &tensor->size);
    }
    int status = fm_shape_element_count(tensor->shape, tensor->rank, &count);
    if (status == 0 && count > SIZE_MAX / 8) {
        return FM_ETOOLARGE;
    }
    tensor->size = (size_t)count * 4;
    return status;
}

static int outputs_fill(const struct model *model, struct fm_execution *execution)
{
    for (uint32_t i = 0; i < execution->output_count; i++) {
        struct fm_output *output = &execution->outputs[i];
        const struct fm_port *port = &model->outputs.ports[i];
        if (output->wanted == 0) {
            continue;
        }
        if (output->tensor.data != NULL) {
            memset(output->tensor.data, 0, output->tensor.size);
            continue;
        }
        output->tensor = (struct fm_tensor){.dtype = port->dtype, .rank = (uint32_t)port->rank};
        memcpy(output->tensor.shape, port->shape, sizeof(port->shape));
        if (port->rank > 0 && port->shape[0] < 0) {
            output->tensor.shape[0] = execution->batch_size;
        }
        int status = output_bytes(&output->tensor);
        void *zeros = status == 0 ? calloc(1, output->tensor.size + 1) : NULL;
        if (zeros == NULL) {
            return fm_error_set(&execution->error, FM_ENOMEM,
                                "emulated: out of memory for %zu bytes", output->tensor.size);
        }
        output->tensor.data = zeros;
        output->release = free;
        output->release_context = zeros;
    }
    return 0;
}

static void outputs_drop(struct fm_execution *execution)
{
    for (uint32_t i = 0; i < execution->output_count; i++) {
        if (execution->outputs[i].release != NULL) {
            execution->outputs[i].release(execution->outputs[i].release_context);
            execution->outputs[i].release = NULL;
            execution->outputs[i].tensor.data = NULL;
        }
    }
}

/* --- the clock: all with its lock held --- */

static void heap_put(size_t place, struct instance *instance)
{
    timing.heap[place] = instance;
    instance->place = place;
}

static void heap_sift(struct instance *instance)
{
    size_t place = instance->place;
    while (place > 0 && timing.heap[(place - 1) / 2]->end_ns > instance->end_ns) {
        heap_put(place, timing.heap[(place - 1) / 2]);
        place = (place - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * place + 1;
        if (child + 1 < timing.count &&
            timing.heap[child + 1]->end_ns < timing.heap[child]->end_ns) {
            child++;
        }
        if (child >= timing.count || timing.heap[child]->end_ns >= instance->end_ns) {
            break;
        }
        heap_put(place, timing.heap[child]);
        place = child;
    }
    heap_put(place, instance);
}

static void heap_remove(struct instance *instance)
{
    struct instance *last = timing.heap[--timing.count];
    if (last != instance) {
        heap_put(instance->place, last);
        heap_sift(last);
    }
}

static void begin_locked(struct instance *instance, struct fm_execution *execution)
{
    const struct model *model = instance->model;
    execution->start_ns = model->host->now_ns();
    instance->batch_count++;
    instance->running = execution;
    instance->end_ns = execution->start_ns + duration_draw(instance, execution->batch_size);
    instance->fails =
        (model->fail_every > 0 && instance->batch_count % model->fail_every == 0) ||
        (model->fail_rate > 0 && fm_random_unit(&instance->random) < model->fail_rate);
    heap_put(timing.count++, instance);
    heap_sift(instance);
    if (instance->place == 0) {
        pthread_cond_broadcast(&timing.changed);
    }
}

static int finish(struct instance *instance, struct fm_execution *execution, bool fails)
{
    execution->end_ns = instance->model->host->now_ns();
    if (fails) {
        return fm_error_set(&execution->error, FM_EINTERNAL,
                            "emulated: injected failure of batch %llu",
                            (unsigned long long)instance->batch_count);
    }
    int status = outputs_fill(instance->model, execution);
    if (status != 0) {
        outputs_drop(execution);
    }
    return status;
}

/* The earliest batch is over. Gives the lock up meanwhile. */
static void end_locked(struct instance *instance)
{
    struct fm_execution *execution = instance->running;
    bool fails = instance->fails;
    heap_remove(instance);
    instance->running = NULL;
    timing.completing = instance;
    pthread_mutex_unlock(&timing.mutex);
    int status = finish(instance, execution, fails);
    execution->complete(execution, status);
    pthread_mutex_lock(&timing.mutex);
    timing.completing = NULL;
    if (instance->pending != NULL && instance->running == NULL) {
        execution = instance->pending;
        instance->pending = NULL;
        begin_locked(instance, execution);
    }
    pthread_cond_broadcast(&timing.changed);
}

static void *timing_main(void *argument)
{
    (void)argument;
    pthread_mutex_lock(&timing.mutex);
    while (!timing.stopping) {
        if (timing.count == 0) {
            pthread_cond_wait(&timing.changed, &timing.mutex);
            continue;
        }
        struct instance *first = timing.heap[0];
        if (first->model->host->now_ns() >= first->end_ns) {
            end_locked(first);
            continue;
        }
        const struct timespec until = {.tv_sec = (time_t)(first->end_ns / 1000000000u),
                                       .tv_nsec = (long)(first->end_ns % 1000000000u)};
        (void)pthread_cond_timedwait(&timing.changed, &timing.mutex, &until);
    }
    pthread_mutex_unlock(&timing.mutex);
    return NULL;
}

static int timing_start_locked(struct fm_error *reterr)
{
    if (!timing.ready) {
        pthread_condattr_t attributes;
        pthread_condattr_init(&attributes);
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
        pthread_cond_init(&timing.changed, &attributes);
        pthread_condattr_destroy(&attributes);
        timing.ready = true;
    }
    timing.stopping = false;
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&timing.thread, NULL, timing_main, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error == 0 ? 0
                      : fm_error_set(reterr, FM_ELIMIT, "emulated: cannot start a thread: %s",
                                     strerror(error));
}

/* Room in the heap for one instance more, and the thread if it is the first. */
static int timing_join(struct fm_error *reterr)
{
    int status = 0;
    pthread_mutex_lock(&timing.mutex);
    while (timing.stopping) { /* the last one before is just leaving */
        pthread_cond_wait(&timing.changed, &timing.mutex);
    }
    if (timing.users == timing.capacity) {
        size_t capacity = timing.capacity > 0 ? 2 * timing.capacity : 16;
        struct instance **heap = realloc(timing.heap, capacity * sizeof(struct instance *));
        if (heap == NULL) {
            status = fm_error_set(reterr, FM_ENOMEM, "emulated: out of memory");
        } else {
            timing.heap = heap;
            timing.capacity = capacity;
        }
    }
    if (status == 0 && timing.users == 0) {
        status = timing_start_locked(reterr);
    }
    timing.users += status == 0 ? 1 : 0;
    pthread_mutex_unlock(&timing.mutex);
    return status;
}

static void timing_leave_locked(void)
{
    if (--timing.users > 0) {
        return;
    }
    timing.stopping = true;
    pthread_cond_broadcast(&timing.changed);
    pthread_mutex_unlock(&timing.mutex);
    pthread_join(timing.thread, NULL);
    pthread_mutex_lock(&timing.mutex);
    free(timing.heap);
    timing.heap = NULL;
    timing.capacity = 0;
    timing.stopping = false;
    pthread_cond_broadcast(&timing.changed);
}

/* --- instances --- */

static int instance_create(void *handle, const struct fm_setting *settings, size_t setting_count,
                           void **ret_instance, struct fm_error *reterr)
{
    struct model *model = handle;
    if (setting_count > 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "emulated: an instance has no settings, but '%s' was given",
                            settings[0].key);
    }
    struct instance *instance = calloc(1, sizeof(*instance));
    if (instance == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "emulated: out of memory");
    }
    instance->model = model;
    fm_random_init(&instance->random, model->seed + 1000003u * model->instance_count++);
    int status = timing_join(reterr);
    if (status != 0) {
        free(instance);
        return status;
    }
    *ret_instance = instance;
    return 0;
}

/* A hanging batch must not keep the process: what runs is answered as cancelled. */
static void instance_destroy(void *handle)
{
    struct instance *instance = handle;
    if (instance == NULL) {
        return;
    }
    pthread_mutex_lock(&timing.mutex);
    struct fm_execution *left[2] = {instance->running, instance->pending};
    instance->pending = NULL;
    if (instance->running != NULL) {
        heap_remove(instance);
        instance->running = NULL;
    }
    while (timing.completing == instance) {
        pthread_cond_wait(&timing.changed, &timing.mutex);
    }
    pthread_mutex_unlock(&timing.mutex);
    for (size_t i = 0; i < 2; i++) {
        if (left[i] != NULL) {
            left[i]->complete(left[i], fm_error_set(&left[i]->error, FM_ECANCELLED,
                                                    "emulated: stopped while a batch was running"));
        }
    }
    pthread_mutex_lock(&timing.mutex);
    timing_leave_locked();
    pthread_mutex_unlock(&timing.mutex);
    free(instance);
}

static int submit(void *handle, struct fm_execution *execution)
{
    struct instance *instance = handle;
    int status = 0;
    pthread_mutex_lock(&timing.mutex);
    if (instance->pending != NULL) {
        status =
            fm_error_set(&execution->error, FM_EAGAIN, "the instance has a batch waiting already");
    } else if (instance->running != NULL || timing.completing == instance) {
        instance->pending = execution;
    } else {
        begin_locked(instance, execution);
    }
    pthread_mutex_unlock(&timing.mutex);
    return status;
}

static uint64_t model_memory(void *model)
{
    (void)model;
    return sizeof(struct model);
}

static const struct fm_backend table = {
    .struct_size = sizeof(struct fm_backend),
    .abi_major = FM_BACKEND_ABI_MAJOR,
    .abi_minor = FM_BACKEND_ABI_MINOR,
    .name = "emulated",
    .version = "1",
    .description = "sleeps l(b) and answers zeros; injects failures and hangs",
    .device_open = device_open,
    .device_close = device_close,
    .model_load = model_load,
    .model_unload = model_unload,
    .model_info = model_info,
    .instance_create = instance_create,
    .instance_destroy = instance_destroy,
    .submit = submit,
    .model_memory = model_memory};

FM_PLUGIN_EXPORT const struct fm_backend *fm_backend_entry(uint16_t host_abi_major,
                                                           uint16_t host_abi_minor);

const struct fm_backend *fm_backend_entry(uint16_t host_abi_major, uint16_t host_abi_minor)
{
    (void)host_abi_minor;
    return host_abi_major == FM_BACKEND_ABI_MAJOR ? &table : NULL;
}
