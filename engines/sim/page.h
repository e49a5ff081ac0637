/*
 * The report page: one HTML file with everything in it, no network, readable without JavaScript but
 * for the zooming timeline.
 *
 * Owns: layout and charts. Does not own: the numbers. Thread rule: pure.
 */
#ifndef FM_ENGINES_SIM_PAGE_H
#define FM_ENGINES_SIM_PAGE_H

#include "core/util/text.h"
#include "engines/sim/recording.h"
#include "engines/sim/search.h"

struct fm_sim_page {
    const struct fm_sim_result *result;       /* the run that is shown */
    const struct fm_sim_recording *recording; /* its batches */
    const struct fm_sim_task *curve;          /* by policy, then by load, ascending */
    uint32_t curve_policies;
    uint32_t curve_loads;
};

void fm_sim_page_write(const struct fm_sim_page *page, struct fm_text *text);

#endif
