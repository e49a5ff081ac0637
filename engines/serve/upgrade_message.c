/*
 * Messages between an old and a new process. See upgrade_message.h.
 */
#include "engines/serve/upgrade_message.h"

#include <string.h>

#include "host/os/successor.h"

struct head {
    uint64_t kind;
    uint64_t size;
};

void fm_upgrade_add(struct fm_text *strings, const char *string)
{
    fm_text_append(strings, string, strlen(string) + 1);
}

int fm_upgrade_send(int channel, enum fm_upgrade_kind kind, const struct fm_text *strings,
                    uint64_t deadline_ns)
{
    if (strings->failed || strings->length > FM_UPGRADE_BYTES_MAX) {
        return FM_ENOMEM;
    }
    const struct head head = {.kind = (uint64_t)kind, .size = strings->length};
    int status = fm_channel_send(channel, &head, sizeof(head), deadline_ns);
    return status == 0 ? fm_channel_send(channel, strings->data, strings->length, deadline_ns)
                       : status;
}

int fm_upgrade_receive(int channel, enum fm_upgrade_kind *ret_kind, struct fm_text *strings,
                       uint64_t deadline_ns)
{
    struct head head;
    int status = fm_channel_receive(channel, &head, sizeof(head), deadline_ns);
    if (status != 0) {
        return status;
    }
    if (head.kind < FM_UPGRADE_STATE || head.kind >= FM_UPGRADE_KIND_COUNT_ ||
        head.size > FM_UPGRADE_BYTES_MAX) {
        return FM_ECORRUPT;
    }
    *ret_kind = (enum fm_upgrade_kind)head.kind;
    if (head.size == 0) {
        return 0;
    }
    char *data = fm_text_reserve(strings, (size_t)head.size);
    if (data == NULL) {
        return FM_ENOMEM;
    }
    status = fm_channel_receive(channel, data, (size_t)head.size, deadline_ns);
    return status == 0 && data[head.size - 1] != '\0' ? FM_ECORRUPT : status;
}

const char *fm_upgrade_next(const struct fm_text *strings, size_t *offset)
{
    if (*offset >= strings->length) {
        return NULL;
    }
    const char *string = strings->data + *offset;
    *offset += strlen(string) + 1;
    return string;
}
