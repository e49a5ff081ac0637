/*
 * Everything that the server shows of itself, at one moment: what metrics, dashboard and trace are
 * written from.
 *
 * Owns: gathering it (the catalog, what was counted, the pool, the scheduler, the process). Does
 * not own: what is made of it (observe.c), how it is written (metrics.c, state_document.c,
 * debug_trace.c). Thread rule: the observer's thread.
 */
#ifndef FM_ENGINES_SERVE_PICTURE_H
#define FM_ENGINES_SERVE_PICTURE_H

#include "engines/serve/serve_internal.h"
#include "engines/serve/view.h"

struct fm_picture {
    struct fm_view view;
    struct fm_view_model *models;
    struct fm_view_accelerator *accelerators;
    char (*accelerator_names)[24];
    struct fm_view_loop *loops;
    const char **span_models;
    const struct fm_pool_model **pool_models; /* by model; NULL: a pipeline, or not ready */
    struct fm_model_totals *merged;           /* of models that pipelines ran, too: merged_count */
    uint32_t merged_count;
    struct fm_view_stage *stages;
    struct fm_model_totals *stage_totals;
    const struct fm_catalog_view *catalog;
    struct fm_text log; /* of the state document */
};

/* FM_ENOMEM: there is nothing to release. The view refers to the picture and to what the observer's
 * view of the catalog holds: it is good until the observer looks at the next one. */
int FM_NODISCARD fm_picture_take(struct fm_serve *serve, struct fm_picture *ret_picture);
void fm_picture_deinit(struct fm_picture *picture);

#endif
