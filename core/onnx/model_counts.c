/*
 * Counting. See model_counts.h. Pure.
 */
#include "core/onnx/model_counts.h"

static void node_count(const struct fm_onnx_graph *graph, const struct fm_onnx_node *node,
                       struct fm_model_counts *counts)
{
    counts->flop += node->flop;
    if (node->is_view) {
        return;
    }
    uint64_t written = 0;
    for (uint32_t i = 0; i < node->output_count; i++) {
        if (node->outputs[i] != FM_ONNX_NONE) {
            written += fm_onnx_value_bytes(fm_onnx_graph_value(graph, node->outputs[i]));
        }
    }
    counts->activation_bytes += written;
    for (uint32_t i = 0; i < node->input_count; i++) {
        const struct fm_onnx_value *value = fm_onnx_graph_value(graph, node->inputs[i]);
        bool picked = node->picks && i == 0;
        uint64_t read = picked ? written : fm_onnx_value_bytes(value);
        if (fm_onnx_value_has_batch(value)) {
            counts->activation_bytes += read;
        } else if (value->role == FM_ONNX_PARAMETER) {
            *(picked ? &counts->gathered_bytes : &counts->weight_bytes) += read;
        }
    }
}

void fm_model_counts_make(const struct fm_onnx_graph *graph, struct fm_model_counts *ret_counts)
{
    struct fm_model_counts counts = {.nodes = graph->node_count};
    for (uint32_t i = 0; i < graph->node_count; i++) {
        node_count(graph, &graph->nodes[i], &counts);
    }
    for (uint32_t i = 0; i < graph->value_count; i++) {
        const struct fm_onnx_value *value = &graph->values[i];
        uint64_t bytes = fm_onnx_value_bytes(value);
        if (value->role == FM_ONNX_PARAMETER) {
            counts.parameters += fm_onnx_value_elements(value);
            counts.parameter_bytes += bytes;
        }
        counts.input_bytes += value->role == FM_ONNX_INPUT ? bytes : 0;
        counts.output_bytes += value->role == FM_ONNX_OUTPUT ? bytes : 0;
    }
    /* They have been counted with the nodes that read and write them. */
    counts.activation_bytes -= counts.input_bytes + counts.output_bytes;
    *ret_counts = counts;
}

double fm_model_traffic_least_bytes(const struct fm_model_counts *counts, uint64_t batch)
{
    return (double)counts->weight_bytes / (double)batch + (double)counts->gathered_bytes +
           (double)counts->input_bytes + (double)counts->output_bytes;
}

double fm_model_traffic_bytes(const struct fm_model_counts *counts, uint64_t batch)
{
    return fm_model_traffic_least_bytes(counts, batch) + (double)counts->activation_bytes;
}

double fm_model_intensity(const struct fm_model_counts *counts, uint64_t batch)
{
    return (double)counts->flop / fm_model_traffic_bytes(counts, batch);
}
