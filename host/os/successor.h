/*
 * The process that takes this one's place: the same program, started again by the same path with
 * the same arguments, which gets the sockets that this one listens on and a channel to talk with
 * it.
 *
 * Owns: starting it, its end as long as this process answers for it, the channel's bytes, and, in
 * the new process, finding what was handed over. Sockets are handed over as service managers do
 * (LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES; from descriptor 3 on), the channel is the number in
 * FERMATA_UPGRADE_FD. Nothing else but the standard files reaches the new process. Does not own:
 * what is said over the channel (engines/serve). Thread rule: one thread at a time, but for
 * fm_channel_wake.
 */
#ifndef FM_HOST_OS_SUCCESSOR_H
#define FM_HOST_OS_SUCCESSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_HANDED_SOCKETS_MAX 1024
#define FM_HANDED_NAME_SIZE   16

/* A listening socket. Several may have one name: they are told apart by their order. */
struct fm_handed_socket {
    char name[FM_HANDED_NAME_SIZE]; /* without ':' */
    int descriptor;                 /* negative: none, or taken */
};

struct fm_handed_sockets {
    struct fm_handed_socket list[FM_HANDED_SOCKETS_MAX];
    uint32_t count;
};

/* Adds a copy of the descriptor, close-on-exec. A negative one is no socket and adds nothing.
 * FM_ELIMIT, FM_EIO. */
int FM_NODISCARD fm_handed_sockets_add(struct fm_handed_sockets *sockets, const char *name,
                                       int descriptor, struct fm_error *reterr);
/* Closes what was not taken. */
void fm_handed_sockets_close(struct fm_handed_sockets *sockets);
uint32_t fm_handed_sockets_count(const struct fm_handed_sockets *sockets, const char *name);
/* Number `index` of that name, the caller's from now on; 0: there is none. */
int fm_handed_sockets_take(struct fm_handed_sockets *sockets, const char *name, uint32_t index);

struct fm_successor {
    int process; /* 0: none */
    int channel; /* -1: none */
};

/*
 * Starts it. FM_EUNSUPPORTED when this process may not have one, FM_ENOTFOUND when the program is
 * not there any more, FM_EIO; reterr says what was tried.
 */
int FM_NODISCARD fm_successor_start(struct fm_successor *successor,
                                    const struct fm_handed_sockets *sockets,
                                    struct fm_error *reterr);
/* Lets it go on alone. */
void fm_successor_release(struct fm_successor *successor);
/* Asks it to end by itself, and lets go. */
void fm_successor_stop(struct fm_successor *successor);
/* Ends it, waits for that, and writes how it ended: "it ended with exit code 3". Gives one that is
 * about to end a moment to do so by itself. `drains`: it may have clients, and ends when they have
 * their answers. May block for a second; for one that drains, for as long as it does. */
void fm_successor_end(struct fm_successor *successor, bool drains, char *ret_how, size_t size);

/* --- In the new process --- */

/*
 * Finds what was handed over: the channel's descriptor, or -1 when this process was started
 * otherwise. The sockets are the caller's, close-on-exec. Once, at the beginning.
 */
int fm_predecessor_find(struct fm_handed_sockets *ret_sockets);

/* --- The channel --- */

/* All of the bytes. FM_EDEADLINE (deadline_ns 0: none), FM_ECANCELLED when the other end is closed
 * or somebody woke it. */
int FM_NODISCARD fm_channel_send(int channel, const void *data, size_t size, uint64_t deadline_ns);
int FM_NODISCARD fm_channel_receive(int channel, void *data, size_t size, uint64_t deadline_ns);
/* Ends what others are waiting for, now and later. From any thread, while the channel is open. */
void fm_channel_wake(int channel);
void fm_channel_close(int channel); /* -1 is fine */

#endif
