/*
 * The service manager's protocol. See service_manager.h.
 */
#include "host/os/service_manager.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/util/text.h"
#include "host/os/os.h"

enum { FIRST_DESCRIPTOR = 3 };

bool fm_service_manager_tell(const char *lines)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = fm_os_environment("NOTIFY_SOCKET");
    size_t length = path != NULL ? strlen(path) : 0;
    if (length < 2 || length >= sizeof(address.sun_path) || (path[0] != '/' && path[0] != '@')) {
        return false;
    }
    memcpy(address.sun_path, path, length);
    if (path[0] == '@') {
        /* A name of the kernel's own, not of the file system. */
        address.sun_path[0] = '\0';
    }
    int descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0) {
        return false;
    }
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    ssize_t sent = sendto(descriptor, lines, strlen(lines), MSG_NOSIGNAL,
                          (const struct sockaddr *)&address, size);
    (void)close(descriptor);
    return sent >= 0 && (size_t)sent == strlen(lines);
}

bool fm_service_manager_tell_reloading(void)
{
    char lines[80];
    (void)snprintf(lines, sizeof(lines), "RELOADING=1\nMONOTONIC_USEC=%llu",
                   (unsigned long long)(fm_os_now_ns() / 1000));
    return fm_service_manager_tell(lines);
}

/* Whether the variables are meant for this process, not for the one that started it. */
static bool is_ours(const char *variable, bool absent_is_fine)
{
    uint64_t process = 0;
    const char *text = fm_os_environment(variable);
    if (text == NULL) {
        return absent_is_fine;
    }
    return fm_parse_uint64(text, &process) == 0 && process == (uint64_t)getpid();
}

uint64_t fm_service_manager_watchdog_ns(void)
{
    uint64_t interval_us = 0;
    const char *text = fm_os_environment("WATCHDOG_USEC");
    if (text == NULL || !is_ours("WATCHDOG_PID", true) ||
        fm_parse_uint64(text, &interval_us) != 0 || interval_us > UINT64_MAX / 1000) {
        return 0;
    }
    return interval_us * 1000;
}

/* The place of `name` in "http:grpc:metrics"; `count` when it is not there. */
static uint32_t name_find(const char *names, const char *name, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        const char *end = strchrnul(names, ':');
        if ((size_t)(end - names) == strlen(name) && strncmp(names, name, strlen(name)) == 0) {
            return i;
        }
        if (*end == '\0') {
            break;
        }
        names = end + 1;
    }
    return count;
}

int fm_service_manager_socket(const char *name, uint32_t index)
{
    uint64_t count = 0;
    const char *text = fm_os_environment("LISTEN_FDS");
    const char *names = fm_os_environment("LISTEN_FDNAMES");
    if (text == NULL || !is_ours("LISTEN_PID", false) || fm_parse_uint64(text, &count) != 0 ||
        count > FM_SERVICE_SOCKETS_MAX) {
        return 0;
    }
    /* Sockets that were given no names have the unit's, which is one of ours by chance only. */
    uint32_t named = names != NULL ? name_find(names, name, (uint32_t)count) : (uint32_t)count;
    uint32_t place = named < count ? named : index;
    bool taken = named == count && names != NULL &&
                 (name_find(names, "http", (uint32_t)count) < count ||
                  name_find(names, "grpc", (uint32_t)count) < count ||
                  name_find(names, "metrics", (uint32_t)count) < count);
    if (taken || place >= count) {
        return 0;
    }
    int copy = fcntl(FIRST_DESCRIPTOR + (int)place, F_DUPFD_CLOEXEC, FIRST_DESCRIPTOR);
    return copy > 0 ? copy : 0;
}
