/*
 * Sleeping and waking. See parker.h.
 */
#include "host/os/parker.h"

void fm_parker_init(struct fm_parker *parker)
{
    atomic_init(&parker->awake, 1);
    fm_mutex_init(&parker->mutex);
    fm_condition_init(&parker->condition);
}

void fm_parker_deinit(struct fm_parker *parker)
{
    fm_condition_deinit(&parker->condition);
    fm_mutex_deinit(&parker->mutex);
}

void fm_parker_park(struct fm_parker *parker, uint64_t until_ns)
{
    fm_mutex_lock(&parker->mutex);
    bool in_time = true;
    while (in_time && atomic_load_explicit(&parker->awake, memory_order_acquire) == 0) {
        if (until_ns == FM_PARKER_FOREVER) {
            fm_condition_wait(&parker->condition, &parker->mutex);
        } else {
            in_time = fm_condition_wait_until(&parker->condition, &parker->mutex, until_ns);
        }
    }
    fm_mutex_unlock(&parker->mutex);
    fm_parker_stay(parker); /* after a timeout */
}

void fm_parker_rouse(struct fm_parker *parker)
{
    /* Under the lock: a thread that has looked at `awake` and not yet begun to wait would miss it.
     */
    fm_mutex_lock(&parker->mutex);
    fm_condition_signal(&parker->condition);
    fm_mutex_unlock(&parker->mutex);
}
