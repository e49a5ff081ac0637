/*
 * Pictures of a profile: an SVG file and a chart for the terminal.
 *
 * Owns: layout. Both show rows per second and the latency of a batch over the batch size, one line
 * per setting, the recommended point marked. Thread rule: pure.
 */
#ifndef FM_ENGINES_PROFILE_PLOT_H
#define FM_ENGINES_PROFILE_PLOT_H

#include <stdbool.h>

#include "core/sched/profile_record.h"
#include "core/util/text.h"

/* A complete SVG document; follows the reader's light or dark scheme. */
void fm_profile_plot_svg(const struct fm_profile_record *record, struct fm_text *text);
/* Rows per second over the batch size in plain characters, `columns` wide at the most. */
void fm_profile_plot_terminal(const struct fm_profile_record *record, uint32_t columns, bool color,
                              struct fm_text *text);
/* "2 x 1 thread", "1 x 2 threads, spinning=yes": how a setting is called everywhere. Returns text.
 */
const char *fm_profile_setting_label(const struct fm_profile_setting *setting, char *text,
                                     size_t size);

#endif
