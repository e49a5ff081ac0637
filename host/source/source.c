/*
 * The table of formats. See source.h.
 */
#include "host/source/source.h"

#include <string.h>
#include <strings.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "host/source/formats.h"

enum { FORMATS_MAX = 16 };

const struct fm_source_format *const fm_source_formats[] = {
    &fm_source_csv,     &fm_source_tsv,          &fm_source_jsonl,
    &fm_source_parquet, &fm_source_npy,          &fm_source_npz,
    &fm_source_tar,     &fm_source_openai_batch, NULL};

int fm_source_format_find(const char *name, const struct fm_source_format **ret_format,
                          struct fm_error *reterr)
{
    const char *names[FORMATS_MAX];
    struct fm_text all = {0};
    size_t count = 0;
    for (; fm_source_formats[count] != NULL; count++) {
        names[count] = fm_source_formats[count]->name;
        fm_text_append_format(&all, "%s%s", count > 0 ? ", " : "", names[count]);
        if (strcmp(names[count], name) == 0) {
            *ret_format = fm_source_formats[count];
            fm_text_deinit(&all);
            return 0;
        }
    }
    const char *near = fm_text_suggest(name, names, count);
    int status =
        fm_error_set(reterr, FM_ENOTFOUND, "'%s' is no input format%s%s%s; there are %s", name,
                     near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                     near != NULL ? "'?" : "", all.data != NULL ? all.data : "others");
    fm_text_deinit(&all);
    return status;
}

const struct fm_source_format *fm_source_format_of(const char *path)
{
    size_t length = strlen(path);
    for (size_t i = 0; fm_source_formats[i] != NULL; i++) {
        for (const char *const *ending = fm_source_formats[i]->endings; *ending != NULL; ending++) {
            size_t tail = strlen(*ending);
            if (tail < length && strcasecmp(path + length - tail, *ending) == 0) {
                return fm_source_formats[i];
            }
        }
    }
    return NULL;
}

int fm_source_columns(const struct fm_source_spec *spec, struct fm_column **ret_columns)
{
    struct fm_column *columns = fm_alloc_zero(spec->tensor_count + 1, sizeof(*columns));
    if (columns == NULL) {
        return FM_ENOMEM;
    }
    for (uint32_t i = 0; i < spec->tensor_count; i++) {
        columns[i] = spec->tensors[i].column;
    }
    *ret_columns = columns;
    return 0;
}
