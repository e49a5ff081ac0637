/*
 * Which stages are busy. See stage_watch.h.
 */
#include "engines/batch/stage_watch.h"

#include <string.h>

#include "core/util/memory.h"

#define LOOK_NS UINT64_C(2000000000)

int fm_stage_watch_init(struct fm_stage_watch *ret_watch, const char *const *names,
                        uint32_t stage_count, uint64_t now_ns)
{
    *ret_watch =
        (struct fm_stage_watch){.names = names, .stage_count = stage_count, .at_ns = now_ns};
    ret_watch->busy_before_ns = fm_alloc_zero(stage_count, sizeof(*ret_watch->busy_before_ns));
    ret_watch->readers = "read";
    for (uint32_t i = 0; i < stage_count; i++) {
        if (strcmp(names[i], "read") == 0) {
            ret_watch->readers = "read (input)";
        }
    }
    return ret_watch->busy_before_ns != NULL ? 0 : FM_ENOMEM;
}

void fm_stage_watch_deinit(struct fm_stage_watch *watch)
{
    fm_free(watch->busy_before_ns);
    watch->busy_before_ns = NULL;
}

/* A run counts when it ends, so that a long one may bring more than the time that has passed. */
static double share_of(uint64_t busy_ns, uint64_t past_ns, uint32_t slots)
{
    double most = (double)past_ns * (slots > 0 ? slots : 1);
    return most > 0 && (double)busy_ns < most ? (double)busy_ns / most : most > 0 ? 1 : 0;
}

/* Where there is no room, the least busy one goes. */
static void keep(struct fm_batch_stages *stages, const char *name, double busy)
{
    if (stages->count == FM_BATCH_STAGES_MAX) {
        uint32_t least = 0;
        for (uint32_t i = 1; i < stages->count; i++) {
            least = stages->items[i].busy < stages->items[least].busy ? i : least;
        }
        if (stages->items[least].busy >= busy) {
            return;
        }
        stages->count--;
        memmove(&stages->items[least], &stages->items[least + 1],
                (stages->count - least) * sizeof(stages->items[0]));
    }
    struct fm_batch_view view = fm_batch_view_of(name);
    view.size = view.size < FM_BATCH_NAME_BYTES_MAX ? view.size : FM_BATCH_NAME_BYTES_MAX;
    stages->items[stages->count++] = (struct fm_batch_stage){.name = view, .busy = busy};
}

bool fm_stage_watch_is_due(const struct fm_stage_watch *watch, uint64_t now_ns)
{
    return now_ns - watch->at_ns >= LOOK_NS;
}

void fm_stage_watch_look(struct fm_stage_watch *watch, const struct fm_stage_sum *readers,
                         const struct fm_stage_sum *sums, uint64_t now_ns)
{
    uint64_t past_ns = now_ns - watch->at_ns;
    uint64_t total = 0;
    uint64_t most = 0;
    watch->stages.count = 0;
    keep(&watch->stages, watch->readers,
         share_of(readers->busy_ns - watch->readers_before_ns, past_ns, readers->slots));
    for (uint32_t i = 0; i < watch->stage_count; i++) {
        uint64_t busy_ns = sums[i].busy_ns - watch->busy_before_ns[i];
        watch->busy_before_ns[i] = sums[i].busy_ns;
        keep(&watch->stages, watch->names[i], share_of(busy_ns, past_ns, sums[i].slots));
        total += busy_ns;
        if (busy_ns > most) {
            most = busy_ns;
            watch->slowest = watch->names[i];
        }
    }
    watch->slowest_share = total > 0 ? (double)most / (double)total : watch->slowest_share;
    watch->readers_before_ns = readers->busy_ns;
    watch->at_ns = now_ns;
}
