/*
 * What happened lately. See recent.h.
 */
#include "core/stats/recent.h"

#include "core/util/assert.h"

static void copy_take(struct fm_recent_copy *copy, uint64_t now_ns,
                      const struct fm_model_totals *totals)
{
    *copy = (struct fm_recent_copy){
        .at_ns = now_ns,
        .successes = totals->times[FM_COUNTED_SUCCESS].count,
        .failures = totals->times[FM_COUNTED_FAIL].count,
        .good = fm_model_totals_good(totals),
        .dropped = fm_model_totals_dropped(totals),
        .met = totals->deadlines_met,
        .missed = totals->deadlines_missed,
        .inferences = totals->inferences,
        .executions = totals->executions,
        .total = totals->histograms[FM_COUNTED_HISTOGRAM_TOTAL],
        .queue = totals->histograms[FM_COUNTED_HISTOGRAM_QUEUE],
    };
}

void fm_recent_sample(struct fm_recent *recent, uint64_t now_ns,
                      const struct fm_model_totals *totals)
{
    copy_take(&recent->last, now_ns, totals);
    if (!recent->started) {
        recent->started = true;
        recent->older = recent->last;
        recent->newer = recent->last;
    } else if (now_ns >= recent->newer.at_ns + FM_RECENT_TURN_NS) {
        recent->older = recent->newer;
        recent->newer = recent->last;
    }
}

static uint64_t grown(uint64_t now, uint64_t before)
{
    return now > before ? now - before : 0;
}

void fm_recent_rates(const struct fm_recent *recent, struct fm_recent_rates *ret_rates)
{
    const struct fm_recent_copy *last = &recent->last;
    const struct fm_recent_copy *older = &recent->older;
    *ret_rates = (struct fm_recent_rates){.met_share = 1};
    if (last->at_ns <= older->at_ns) {
        return;
    }
    double seconds = (double)(last->at_ns - older->at_ns) / 1e9;
    uint64_t successes = grown(last->successes, older->successes);
    uint64_t failures = grown(last->failures, older->failures);
    uint64_t met = grown(last->met, older->met);
    uint64_t missed = grown(last->missed, older->missed);
    uint64_t executions = grown(last->executions, older->executions);
    struct fm_histogram_totals total = last->total;
    struct fm_histogram_totals queue = last->queue;
    fm_histogram_totals_subtract(&total, &older->total);
    fm_histogram_totals_subtract(&queue, &older->queue);
    ret_rates->span_ns = last->at_ns - older->at_ns;
    ret_rates->requests = (double)(successes + failures) / seconds;
    ret_rates->good = (double)grown(last->good, older->good) / seconds;
    ret_rates->failures = (double)failures / seconds;
    ret_rates->dropped = (double)grown(last->dropped, older->dropped) / seconds;
    if (executions > 0) {
        ret_rates->batch_mean =
            (double)grown(last->inferences, older->inferences) / (double)executions;
    }
    if (met + missed > 0) {
        ret_rates->met_share = (double)met / (double)(met + missed);
    }
    ret_rates->p50_ns = fm_histogram_totals_quantile_ns(&total, 500);
    ret_rates->p99_ns = fm_histogram_totals_quantile_ns(&total, 990);
    ret_rates->queue_p99_ns = fm_histogram_totals_quantile_ns(&queue, 990);
}

/* --- History --- */

void fm_history_totals_add(struct fm_history_totals *sum, const struct fm_model_totals *totals)
{
    uint64_t dropped = fm_model_totals_dropped(totals);
    sum->good += fm_model_totals_good(totals);
    sum->late += totals->answers_late;
    sum->failed += grown(totals->times[FM_COUNTED_FAIL].count, dropped);
    sum->dropped += dropped;
    sum->inferences += totals->inferences;
    sum->executions += totals->executions;
}

static uint32_t grown32(uint64_t now, uint64_t before)
{
    uint64_t amount = grown(now, before);
    return amount < UINT32_MAX ? (uint32_t)amount : UINT32_MAX;
}

void fm_history_sample(struct fm_history *history, const struct fm_history_now *now)
{
    if (!history->started) {
        history->started = true;
        history->last_ns = now->now_ns;
        history->last = now->totals;
        return;
    }
    uint64_t span_ns = grown(now->now_ns, history->last_ns);
    if (span_ns < FM_HISTORY_EVERY_NS - FM_HISTORY_EVERY_NS / 10) {
        return;
    }
    uint32_t at = (history->first + history->count) % FM_HISTORY_SAMPLES;
    if (history->count < FM_HISTORY_SAMPLES) {
        history->count++;
    } else {
        history->first = (history->first + 1) % FM_HISTORY_SAMPLES;
    }
    const struct fm_history_totals *last = &history->last;
    history->samples[at] = (struct fm_history_sample){
        .wall_ms = now->wall_ns / 1000000,
        .span_ms = grown32(span_ns / 1000000, 0),
        .good = grown32(now->totals.good, last->good),
        .late = grown32(now->totals.late, last->late),
        .failed = grown32(now->totals.failed, last->failed),
        .dropped = grown32(now->totals.dropped, last->dropped),
        .inferences = grown32(now->totals.inferences, last->inferences),
        .executions = grown32(now->totals.executions, last->executions),
        .queued = now->queued,
        .accelerators_up = now->accelerators_up,
        .accelerators_use = now->accelerators_use,
        .wanted = now->wanted,
    };
    history->last_ns = now->now_ns;
    history->last = now->totals;
}

const struct fm_history_sample *fm_history_get(const struct fm_history *history, uint32_t index)
{
    FM_ASSERT(index < history->count);
    return &history->samples[(history->first + index) % FM_HISTORY_SAMPLES];
}
