/*
 * What browsers say about where a request comes from: Host and Origin.
 *
 * Owns: nothing. Pure. Without these checks any web page that somebody on this machine opens could
 * talk to a server on loopback: directly, or under a name of its own that it points to 127.0.0.1
 * (DNS rebinding).
 */
#ifndef FM_ENGINES_SERVE_ACCESS_ORIGIN_H
#define FM_ENGINES_SERVE_ACCESS_ORIGIN_H

#include <stdbool.h>
#include <stdint.h>

/* Whether a Host header field names this server: an address, localhost or a name in it, or one of
 * `names`. Ports do not matter. NULL (as HTTP/1.0 has it) does. */
bool fm_access_host_is_known(const char *host, const char *const *names, uint32_t name_count);
/* Whether `origin` is the server itself as the client knows it. */
bool fm_access_origin_is_same(const char *origin, const char *host);
/* "https://example.com", "http://[::1]:3000", "*": what --cors-origin takes. */
bool fm_access_origin_is_valid(const char *origin);
/* "example.com", "10.0.0.1": what --allowed-host takes. */
bool fm_access_host_is_valid(const char *host);

#endif
