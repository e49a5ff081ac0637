/*
 * What a server and the process that takes its place say to each other, over host/os/successor.h's
 * channel.
 *
 * Owns: the form of messages. A message is its kind, its size and strings, each with its NUL. Does
 * not own: when which comes (handover.h, takeover.h). Thread rule: caller's memory.
 */
#ifndef FM_ENGINES_SERVE_UPGRADE_MESSAGE_H
#define FM_ENGINES_SERVE_UPGRADE_MESSAGE_H

#include "core/util/text.h"

#define FM_UPGRADE_BYTES_MAX ((size_t)256 << 20) /* of a message */
/* The first string of FM_UPGRADE_STATE. Another number is another conversation. */
#define FM_UPGRADE_PROTOCOL "fermata upgrade 1"

enum fm_upgrade_kind {
    FM_UPGRADE_STATE = 1, /* old to new: protocol, then records of three strings:
                               "answers", name, ""        a model that answers, and has to there
                               "load", name, ""           explicit control: to be loaded
                               "config", name, directory  the same, with files of its own from
                                                          `directory` ("": none), and ...
                               "text", config, ""         ... this configuration */
    FM_UPGRADE_READY,     /* new to old: everything is loaded */
    FM_UPGRADE_FAILED,    /* new to old, instead: why */
    FM_UPGRADE_GO,        /* old to new: take connections. Four strings for each region of shared
                             memory: name, key, offset, size */
    FM_UPGRADE_SERVING,   /* new to old: it does */
    FM_UPGRADE_KIND_COUNT_
};

/* Appends a string with its NUL. */
void fm_upgrade_add(struct fm_text *strings, const char *string);

/* FM_ENOMEM where `strings` failed, and as fm_channel_send. */
int FM_NODISCARD fm_upgrade_send(int channel, enum fm_upgrade_kind kind,
                                 const struct fm_text *strings, uint64_t deadline_ns);
/* Fills an empty `strings`. FM_ECORRUPT for what is no message, FM_ENOMEM, and as
 * fm_channel_receive. */
int FM_NODISCARD fm_upgrade_receive(int channel, enum fm_upgrade_kind *ret_kind,
                                    struct fm_text *strings, uint64_t deadline_ns);
/* The string at *offset, which moves behind it; NULL behind the last. */
const char *fm_upgrade_next(const struct fm_text *strings, size_t *offset);

#endif
