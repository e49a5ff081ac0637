/*
 * The page for Prometheus.
 *
 * Owns: names, help texts and which number goes where: Triton's nv_* names, so that dashboards
 * carry over, and fermata_* for what Triton lacks; docs/metrics.md lists them. Does not own: the
 * numbers (view.h), the format (core/stats/prometheus). Thread rule: pure.
 */
#ifndef FM_ENGINES_SERVE_METRICS_H
#define FM_ENGINES_SERVE_METRICS_H

#include "core/util/text.h"
#include "engines/serve/view.h"

/* Models beyond these have no series of their own: fermata_models_omitted counts them. */
#define FM_METRICS_MODELS_MAX       10000u
#define FM_METRICS_STAGES_MAX       10000u /* of pipelines */
#define FM_METRICS_ACCELERATORS_MAX 4096u

/* Appends the page; its content type is FM_PROMETHEUS_TYPE. text->failed when memory ran out. */
void fm_metrics_write(const struct fm_view *view, struct fm_text *text);

#endif
