/*
 * Progress: how far, how fast lately, how long still. And the words for it.
 *
 * Owns: the recent rate (over a sliding window of samples), the estimate of the rest, formatting of
 * durations, counts and bars. Does not own: clocks, terminals. Thread rule: caller's memory.
 */
#ifndef FM_CORE_STATS_PROGRESS_H
#define FM_CORE_STATS_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { FM_PROGRESS_SAMPLES = 64 };

struct fm_progress_sample {
    uint64_t at_ns;
    uint64_t done;
};

/* Made by fm_progress_start. */
struct fm_progress {
    uint64_t start_ns;
    uint64_t start_done;
    uint64_t total;
    uint64_t window_ns;
    struct fm_progress_sample samples[FM_PROGRESS_SAMPLES]; /* a ring */
    uint32_t sample_first;
    uint32_t sample_count;
};

/* `done` of `total` are there already (a resumed job); they do not count for the rate. window_ns >
 * 0: how far back "recent" reaches. */
void fm_progress_start(struct fm_progress *progress, uint64_t now_ns, uint64_t done, uint64_t total,
                       uint64_t window_ns);
/* Now `done` are done. Cheap: call as often as you like. */
void fm_progress_update(struct fm_progress *progress, uint64_t now_ns, uint64_t done);
/* Per second, over the recent window; 0 while unknown. */
double fm_progress_rate_recent(const struct fm_progress *progress);
/* Per second since the start; 0 while unknown. */
double fm_progress_rate_mean(const struct fm_progress *progress, uint64_t now_ns);
/* False while nothing can be said. */
bool fm_progress_rest_ns(const struct fm_progress *progress, uint64_t now_ns,
                         uint64_t *ret_rest_ns);

/* "0:42", "3:05", "1:02:05", "3d 04:10". Returns text. */
char *fm_progress_format_duration(uint64_t ns, char *text, size_t size);
/* Three significant digits, "0.52", "12.3", "1450". Returns text. */
char *fm_progress_format_rate(double per_second, char *text, size_t size);
/* A bar of `width` characters, with `filled` and `empty` for its two parts (any UTF-8). Returns
 * text, which is cut at whole characters when it does not fit. */
char *fm_progress_format_bar(uint64_t done, uint64_t total, uint32_t width, const char *filled,
                             const char *empty, char *text, size_t size);

#endif
