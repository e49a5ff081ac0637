/*
 * Rate and rest from a ring of samples. See progress.h.
 */
#include "core/stats/progress.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/util/assert.h"

#define NS_PER_SECOND 1000000000ull

static struct fm_progress_sample *sample_at(struct fm_progress *progress, uint32_t index)
{
    return &progress->samples[(progress->sample_first + index) % FM_PROGRESS_SAMPLES];
}

static const struct fm_progress_sample *sample_get(const struct fm_progress *progress,
                                                   uint32_t index)
{
    return &progress->samples[(progress->sample_first + index) % FM_PROGRESS_SAMPLES];
}

void fm_progress_start(struct fm_progress *progress, uint64_t now_ns, uint64_t done, uint64_t total,
                       uint64_t window_ns)
{
    FM_ASSERT(window_ns > 0);
    *progress = (struct fm_progress){.start_ns = now_ns,
                                     .start_done = done,
                                     .total = total,
                                     .window_ns = window_ns,
                                     .sample_count = 1};
    progress->samples[0] = (struct fm_progress_sample){.at_ns = now_ns, .done = done};
}

void fm_progress_update(struct fm_progress *progress, uint64_t now_ns, uint64_t done)
{
    struct fm_progress_sample *newest = sample_at(progress, progress->sample_count - 1);
    uint64_t step_ns = progress->window_ns / (FM_PROGRESS_SAMPLES - 1) + 1;
    /* The newest sample moves until it is a step away from the one before it. */
    bool moves = progress->sample_count > 1 &&
                 newest->at_ns - sample_at(progress, progress->sample_count - 2)->at_ns < step_ns;
    if (!moves) {
        if (progress->sample_count == FM_PROGRESS_SAMPLES) {
            progress->sample_first = (progress->sample_first + 1) % FM_PROGRESS_SAMPLES;
        } else {
            progress->sample_count++;
        }
        newest = sample_at(progress, progress->sample_count - 1);
    }
    *newest = (struct fm_progress_sample){.at_ns = now_ns, .done = done};
    while (progress->sample_count > 2 &&
           now_ns - sample_at(progress, 1)->at_ns >= progress->window_ns) {
        progress->sample_first = (progress->sample_first + 1) % FM_PROGRESS_SAMPLES;
        progress->sample_count--;
    }
}

static double rate(uint64_t done, uint64_t elapsed_ns)
{
    return elapsed_ns == 0 ? 0 : (double)done * NS_PER_SECOND / (double)elapsed_ns;
}

double fm_progress_rate_recent(const struct fm_progress *progress)
{
    const struct fm_progress_sample *oldest = sample_get(progress, 0);
    const struct fm_progress_sample *newest = sample_get(progress, progress->sample_count - 1);
    return rate(newest->done - oldest->done, newest->at_ns - oldest->at_ns);
}

double fm_progress_rate_mean(const struct fm_progress *progress, uint64_t now_ns)
{
    const struct fm_progress_sample *newest = sample_get(progress, progress->sample_count - 1);
    return rate(newest->done - progress->start_done, now_ns - progress->start_ns);
}

bool fm_progress_rest_ns(const struct fm_progress *progress, uint64_t now_ns, uint64_t *ret_rest_ns)
{
    const struct fm_progress_sample *newest = sample_get(progress, progress->sample_count - 1);
    double recent = fm_progress_rate_recent(progress);
    double mean = fm_progress_rate_mean(progress, now_ns);
    /* The recent rate follows changes, the mean does not jump: the middle of both is what people
     * find right. */
    double use = recent > 0 && mean > 0 ? (recent + mean) / 2 : recent > 0 ? recent : mean;
    if (use <= 0 || newest->done > progress->total) {
        return false;
    }
    double rest_ns = (double)(progress->total - newest->done) / use * NS_PER_SECOND;
    if (rest_ns > 1e18) {
        return false;
    }
    *ret_rest_ns = (uint64_t)rest_ns;
    return true;
}

char *fm_progress_format_duration(uint64_t ns, char *text, size_t size)
{
    uint64_t seconds = ns / NS_PER_SECOND + (ns % NS_PER_SECOND >= NS_PER_SECOND / 2 ? 1 : 0);
    unsigned long long days = seconds / 86400;
    unsigned hours = (unsigned)(seconds / 3600 % 24);
    unsigned minutes = (unsigned)(seconds / 60 % 60);
    if (days > 0) {
        (void)snprintf(text, size, "%llud %02u:%02u", days, hours, minutes);
    } else if (hours > 0) {
        (void)snprintf(text, size, "%u:%02u:%02u", hours, minutes, (unsigned)(seconds % 60));
    } else {
        (void)snprintf(text, size, "%u:%02u", minutes, (unsigned)(seconds % 60));
    }
    return text;
}

char *fm_progress_format_rate(double per_second, char *text, size_t size)
{
    int digits = per_second < 9.995 ? 2 : per_second < 99.95 ? 1 : 0;
    (void)snprintf(text, size, "%.*f", digits, per_second);
    return text;
}

char *fm_progress_format_bar(uint64_t done, uint64_t total, uint32_t width, const char *filled,
                             const char *empty, char *text, size_t size)
{
    FM_ASSERT(size > 0);
    double share = total == 0 ? 1 : (double)done / (double)total;
    uint32_t full = share >= 1 ? width : (uint32_t)floor(share * (double)width);
    size_t used = 0;
    for (uint32_t i = 0; i < width; i++) {
        const char *piece = i < full ? filled : empty;
        size_t length = strlen(piece);
        if (used + length + 1 > size) {
            break;
        }
        memcpy(text + used, piece, length);
        used += length;
    }
    text[used] = '\0';
    return text;
}
