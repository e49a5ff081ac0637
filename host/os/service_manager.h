/*
 * What a service manager (systemd) and a service say to each other: readiness and the like over the
 * socket that $NOTIFY_SOCKET names, and sockets that it opened before it started us.
 *
 * Owns: that protocol, which is a datagram and a few variables; no library is needed. Does not own:
 * when what is said. Thread rule: tell from any thread; sockets from one, before others start.
 */
#ifndef FM_HOST_OS_SERVICE_MANAGER_H
#define FM_HOST_OS_SERVICE_MANAGER_H

#include <stdbool.h>
#include <stdint.h>

#define FM_SERVICE_SOCKETS_MAX 64

/*
 * Sends lines such as "READY=1". False when nobody listens or it did not get there, which changes
 * nothing for the service. Never blocks.
 */
bool fm_service_manager_tell(const char *lines);
/* "RELOADING=1" with the time that goes with it; READY=1 ends it. */
bool fm_service_manager_tell_reloading(void);
/* How often "WATCHDOG=1" has to come at the latest, or we are restarted; 0: never. */
uint64_t fm_service_manager_watchdog_ns(void);
/*
 * The listening socket called `name` (FileDescriptorName= of the .socket unit), or without names
 * number `index` of them. A new descriptor for it with each call, close-on-exec, the caller's; so
 * several listeners may share a socket. 0: none.
 */
int fm_service_manager_socket(const char *name, uint32_t index);

#endif
