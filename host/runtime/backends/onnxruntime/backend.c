/*
 * The onnxruntime backend: ONNX models through ONNX Runtime's C API, on any execution provider that
 * its build has. The table only; see device.c, model.c, instance.c, tensor.c.
 */
#include "host/runtime/backends/onnxruntime/ort.h"

static struct fm_backend table = {.struct_size = sizeof(struct fm_backend),
                                  .abi_major = FM_BACKEND_ABI_MAJOR,
                                  .abi_minor = FM_BACKEND_ABI_MINOR,
                                  .name = "onnxruntime",
                                  .description = "ONNX models through ONNX Runtime",
                                  .device_open = ort_device_open,
                                  .device_close = ort_device_close,
                                  .model_load = ort_model_load,
                                  .model_unload = ort_model_unload,
                                  .model_info = ort_model_info,
                                  .instance_create = ort_instance_create,
                                  .instance_destroy = ort_instance_destroy,
                                  .submit = ort_instance_submit,
                                  .model_memory = ort_model_memory,
                                  .execute = ort_instance_execute};

FM_PLUGIN_EXPORT const struct fm_backend *fm_backend_entry(uint16_t host_abi_major,
                                                           uint16_t host_abi_minor);

const struct fm_backend *fm_backend_entry(uint16_t host_abi_major, uint16_t host_abi_minor)
{
    (void)host_abi_minor;
    table.version = OrtGetApiBase()->GetVersionString();
    return host_abi_major == FM_BACKEND_ABI_MAJOR ? &table : NULL;
}
