/*
 * The address of whoever is at the other end of a connection.
 *
 * Owns: nothing; values. Thread rule: any.
 */
#ifndef FM_HOST_NET_PEER_H
#define FM_HOST_NET_PEER_H

#include <stdint.h>

enum fm_peer_kind { FM_PEER_UNKNOWN, FM_PEER_UNIX, FM_PEER_IPV4, FM_PEER_IPV6 };

struct fm_peer {
    enum fm_peer_kind kind;
    uint8_t address[16]; /* in the order of the wire; of IPV4 the first four */
};

#endif
