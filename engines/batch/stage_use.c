/*
 * How busy stages are. See stage_use.h.
 */
#include "engines/batch/stage_use.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static struct fm_stage_use *find(struct fm_stage_uses *uses, const char *name)
{
    uint32_t at = 0;
    while (at < uses->count && strcmp(uses->items[at].name, name) != 0) {
        at++;
    }
    if (at == FM_BATCH_STAGES_MAX) {
        return NULL;
    }
    if (at == uses->count) {
        struct fm_stage_use *use = &uses->items[uses->count++];
        *use = (struct fm_stage_use){.busy = 0};
        (void)snprintf(use->name, sizeof(use->name), "%s", name);
    }
    return &uses->items[at];
}

static void add(struct fm_stage_uses *uses, const char *name, double busy, uint32_t workers)
{
    struct fm_stage_use *use = find(uses, name);
    if (use != NULL && workers > 0) {
        use->workers += workers;
        use->busy += (busy - use->busy) * workers / use->workers;
    }
}

void fm_stage_uses_set(struct fm_stage_uses *uses, const struct fm_batch_stages *stages)
{
    uses->count = 0;
    for (uint32_t i = 0; i < stages->count; i++) {
        char name[FM_STAGE_NAME_SIZE];
        fm_batch_view_copy(stages->items[i].name, name, sizeof(name));
        add(uses, name, stages->items[i].busy, 1);
    }
}

void fm_stage_uses_add(struct fm_stage_uses *means, const struct fm_stage_uses *more)
{
    for (uint32_t i = 0; i < more->count; i++) {
        add(means, more->items[i].name, more->items[i].busy, more->items[i].workers);
    }
}

void fm_stage_uses_view(const struct fm_stage_uses *uses, struct fm_batch_stages *ret_stages)
{
    ret_stages->count = uses->count;
    for (uint32_t i = 0; i < uses->count; i++) {
        ret_stages->items[i] = (struct fm_batch_stage){
            .name = fm_batch_view_of(uses->items[i].name), .busy = uses->items[i].busy};
    }
}

void fm_stage_uses_write(const struct fm_stage_uses *uses, struct fm_json_writer *json)
{
    fm_json_object_begin(json);
    for (uint32_t i = 0; i < uses->count; i++) {
        fm_json_member_number(json, uses->items[i].name, round(uses->items[i].busy * 1000) / 1000);
    }
    fm_json_object_end(json);
}

int fm_stage_uses_read(struct fm_stage_uses *ret_uses, struct fm_json_reader *json)
{
    enum fm_json_token token = FM_JSON_END;
    int status = 0;
    ret_uses->count = 0;
    while (status == 0 && (token = fm_json_next(json)) == FM_JSON_KEY) {
        struct fm_text name = {0};
        double busy = 0;
        fm_json_decode(json, &name);
        status = name.failed                            ? FM_ENOMEM
                 : fm_json_next(json) != FM_JSON_NUMBER ? FM_ETYPE
                                                        : fm_json_double(json, &busy);
        if (status == 0) {
            add(ret_uses, name.data != NULL ? name.data : "", busy, 1);
        }
        fm_text_deinit(&name);
    }
    return status != 0 || token == FM_JSON_OBJECT_END ? status : FM_ETYPE;
}
