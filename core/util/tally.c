/*
 * Sheets of counts. See tally.h.
 */
#include "core/util/tally.h"

#include <stdatomic.h>
#include <stddef.h>

#define LINE 64u

struct sheet {
    _Alignas(LINE) _Atomic uint64_t counts[FM_TALLY_COUNT_];
};

static struct sheet sheets[FM_TALLY_SHEETS];
static _Atomic uint32_t taken;
static _Thread_local struct sheet *mine;

static struct sheet *sheet_take(void)
{
    uint32_t number = atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed);
    if (number >= FM_TALLY_SHEETS) {
        /* So that it does not wrap, however many threads come and go. */
        atomic_store_explicit(&taken, FM_TALLY_SHEETS, memory_order_relaxed);
        number = FM_TALLY_SHEETS - 1;
    }
    return &sheets[number];
}

void fm_tally_add(enum fm_tally what, uint64_t amount)
{
    if (mine == NULL) {
        mine = sheet_take();
    }
    _Atomic uint64_t *count = &mine->counts[what];
    if (mine == &sheets[FM_TALLY_SHEETS - 1]) {
        (void)atomic_fetch_add_explicit(count, amount, memory_order_relaxed);
        return;
    }
    uint64_t value = atomic_load_explicit(count, memory_order_relaxed);
    atomic_store_explicit(count, value + amount, memory_order_relaxed);
}

uint64_t fm_tally_total(enum fm_tally what)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < FM_TALLY_SHEETS; i++) {
        sum += atomic_load_explicit(&sheets[i].counts[what], memory_order_relaxed);
    }
    return sum;
}
