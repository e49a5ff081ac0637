/*
 * Why a shard failed. See blame.h.
 */
#include "core/ledger/blame.h"

#include <stdio.h>
#include <string.h>

#include "core/util/error.h"

static const int statuses[] = {
#define BLAME_STATUS(name, value, text, http, grpc, retry) value,
    FM_STATUS_TABLE(BLAME_STATUS)
#undef BLAME_STATUS
};

void fm_blame_write(char *text, size_t size, int status, const char *stage, const char *words)
{
    char name[FM_BLAME_STAGE_SIZE];
    (void)snprintf(name, sizeof(name), "%s", stage);
    for (char *at = name; *at != '\0'; at++) {
        *at = *at == ']' || *at == '\n' || *at == '\r' ? '?' : *at;
    }
    (void)snprintf(text, size, "[%s %s] %s", fm_status_name(status), name, words);
}

void fm_blame_read(const char *text, struct fm_blame *ret_blame)
{
    *ret_blame = (struct fm_blame){.status = FM_EINTERNAL, .stage = "process", .words = text};
    const char *space = strchr(text, ' ');
    const char *end = strstr(text, "] ");
    if (text[0] != '[' || space == NULL || end == NULL || space + 1 >= end) {
        return;
    }
    size_t length = (size_t)(end - space - 1);
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        const char *name = fm_status_name(statuses[i]);
        if (statuses[i] < 0 && strlen(name) == (size_t)(space - text - 1) &&
            strncmp(name, text + 1, strlen(name)) == 0 && length < FM_BLAME_STAGE_SIZE) {
            ret_blame->status = statuses[i];
            memcpy(ret_blame->stage, space + 1, length);
            ret_blame->stage[length] = '\0';
            ret_blame->words = end + 2;
        }
    }
}
