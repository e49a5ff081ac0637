/*
 * Loading, unloading and listing on request, for both protocols. See serve_internal.h.
 *
 * An operation of the catalog takes as long as loading a model does; whoever asked waits for it
 * without holding up the loop. A client that leaves meanwhile changes nothing about the operation.
 */
#include <string.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/serve/serve_internal.h"

static void operation_free(struct fm_serve_operation *operation)
{
    struct fm_serve_loop *loop = operation->loop;
    fm_messages_load_deinit(&operation->request);
    fm_free(operation->files);
    fm_free(operation->name);
    if (operation->catalog.kind != FM_CATALOG_INDEX) {
        (void)atomic_fetch_sub(&loop->serve->changes, 1);
    }
    fm_free(operation);
    fm_serve_loop_in_flight_add(loop, -1);
    fm_serve_loop_progress(loop);
}

static void operation_done(struct fm_catalog_operation *catalog)
{
    struct fm_serve_operation *operation = catalog->context;
    operation->done(operation, catalog->error.status != 0 ? &catalog->error : NULL);
    operation_free(operation);
}

/* What was asked for, into the operation. */
static int request_read(struct fm_serve_operation *operation, enum fm_messages_form form,
                        const char *name, const void *data, size_t size, struct fm_error *reterr)
{
    struct fm_messages_load *request = &operation->request;
    struct fm_catalog_operation *catalog = &operation->catalog;
    int status = catalog->kind == FM_CATALOG_LOAD
                     ? fm_messages_read_load(form, data, size, request, reterr)
                     : fm_messages_read_unload(form, data, size, request, reterr);
    if (status != 0) {
        return status;
    }
    name = name != NULL ? name : request->model;
    if (name == NULL || name[0] == '\0') {
        return fm_error_set(reterr, FM_EINVAL, "the request names no model");
    }
    operation->name = fm_strdup(name);
    operation->files = fm_alloc_zero(request->file_count + 1, sizeof *operation->files);
    if (operation->name == NULL || operation->files == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the request");
    }
    for (size_t i = 0; i < request->file_count; i++) {
        operation->files[i] = (struct fm_catalog_file){
            request->files[i].path, request->files[i].data, request->files[i].size};
    }
    catalog->name = operation->name;
    catalog->dependents = request->unload_dependents;
    if (catalog->kind == FM_CATALOG_LOAD) {
        catalog->config = request->config;
        catalog->config_size = request->config != NULL ? strlen(request->config) : 0;
        catalog->files = operation->files;
        catalog->file_count = request->file_count;
    }
    return 0;
}

int fm_serve_operation_begin(
    struct fm_serve_loop *loop, enum fm_catalog_operation_kind kind, enum fm_messages_form form,
    const char *name, const void *data, size_t size,
    void (*done)(struct fm_serve_operation *operation, const struct fm_error *error), void *client,
    struct fm_serve_operation **ret_operation, struct fm_error *reterr)
{
    struct fm_serve_operation *operation = fm_alloc_zero(1, sizeof *operation);
    if (operation == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the request");
    }
    operation->loop = loop;
    operation->done = done;
    operation->client = client;
    operation->catalog = (struct fm_catalog_operation){
        .kind = kind, .reader = &loop->reader, .done = operation_done, .context = operation};
    fm_serve_loop_in_flight_add(loop, 1);
    if (kind != FM_CATALOG_INDEX) {
        /* Counted first: whoever begins to hand over looks at the count behind the flag. */
        (void)atomic_fetch_add(&loop->serve->changes, 1);
        int status =
            atomic_load(&loop->serve->handing_over)
                ? fm_error_set(reterr, FM_EAGAIN,
                               "this server is being replaced by a new one, which has to know what "
                               "to load: try again later")
                : request_read(operation, form, name, data, size, reterr);
        if (status != 0) {
            operation_free(operation);
            return status;
        }
    }
    *ret_operation = operation;
    fm_catalog_submit(loop->serve->catalog, &operation->catalog);
    return 0;
}
