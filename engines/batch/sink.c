/*
 * The table of what results can be written as. See sink.h.
 */
#include "engines/batch/sink.h"

#include <string.h>

#include "core/util/error.h"

const struct fm_sink *const fm_sinks[] = {&fm_sink_jsonl, &fm_sink_csv, &fm_sink_parquet,
                                          &fm_sink_openai_batch, NULL};

enum { NAMES_MAX = 16 };

static void names_join(const char *const *names, const char *between, struct fm_text *text)
{
    for (size_t i = 0; names[i] != NULL; i++) {
        fm_text_append_format(text, "%s%s", i > 0 ? between : "", names[i]);
    }
}

int fm_sink_find(const char *name, const struct fm_sink **ret_sink, struct fm_error *reterr)
{
    const char *names[NAMES_MAX + 1] = {NULL};
    uint32_t count = 0;
    for (; fm_sinks[count] != NULL; count++) {
        if (strcmp(fm_sinks[count]->name, name) == 0) {
            *ret_sink = fm_sinks[count];
            return 0;
        }
        names[count] = fm_sinks[count]->name;
    }
    struct fm_text all = {0};
    const char *near = fm_text_suggest(name, names, count);
    names_join(names, ", ", &all);
    int status = fm_error_set(reterr, FM_ENOTFOUND, "'%s' is no output format (%s)%s%s%s", name,
                              all.data != NULL ? all.data : fm_sinks[0]->name,
                              near != NULL ? "; did you mean '" : "", near != NULL ? near : "",
                              near != NULL ? "'?" : "");
    fm_text_deinit(&all);
    return status;
}

const struct fm_sink *fm_sink_of_ending(const char *ending)
{
    for (size_t i = 0; fm_sinks[i] != NULL; i++) {
        const struct fm_sink *gzip = fm_sinks[i]->gzip;
        if (strcmp(fm_sinks[i]->ending, ending) == 0) {
            return fm_sinks[i];
        }
        if (gzip != NULL && strcmp(gzip->ending, ending) == 0) {
            return gzip;
        }
    }
    return NULL;
}

const struct fm_sink *fm_sink_of_fact(const char *fact)
{
    static const char gzip[] = ", compression gzip";
    size_t length = strcspn(fact, ",");
    bool gzipped = strncmp(fact + length, gzip, sizeof(gzip) - 1) == 0;
    for (size_t i = 0; fm_sinks[i] != NULL; i++) {
        if (strlen(fm_sinks[i]->name) == length && strncmp(fm_sinks[i]->name, fact, length) == 0) {
            return gzipped && fm_sinks[i]->gzip != NULL ? fm_sinks[i]->gzip : fm_sinks[i];
        }
    }
    return fm_sinks[0];
}

int fm_sink_compression(const struct fm_sink **sink, const char *name, const char **ret_compression,
                        struct fm_error *reterr)
{
    const struct fm_sink *plain = *sink;
    for (size_t i = 0; plain->compressions[i] != NULL; i++) {
        if (strcmp(plain->compressions[i], name) == 0) {
            *ret_compression = plain->compressions[i];
            *sink = plain->gzip != NULL && strcmp(name, "gzip") == 0 ? plain->gzip : plain;
            return 0;
        }
    }
    struct fm_text all = {0};
    names_join(plain->compressions, ", ", &all);
    int status =
        fm_error_set(reterr, FM_EUNSUPPORTED, "%s has no compression '%s', but: %s", plain->title,
                     name, all.data != NULL ? all.data : plain->compressions[0]);
    fm_text_deinit(&all);
    return status;
}
