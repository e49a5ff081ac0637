/*
 * Host and Origin. See access_origin.h.
 */
#include "engines/serve/access_origin.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

#define NAME_BYTES_MAX 253u

/* The length of the name in "name:port" or "[address]:port"; 0: neither. */
static size_t name_length(const char *host)
{
    size_t length = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    if (host[0] == '[' && host[length - 1] != ']') {
        return 0;
    }
    const char *rest = host + length;
    if (*rest == ':') {
        rest += 1 + strspn(rest + 1, "0123456789");
    }
    return *rest == '\0' && length <= NAME_BYTES_MAX ? length : 0;
}

static bool is_address(const char *name, size_t length)
{
    static const char ipv6[] = "0123456789abcdefABCDEF:.";
    if (name[0] == '[') {
        return strspn(name + 1, ipv6) >= length - 2;
    }
    /* No top-level domain is a number. */
    size_t dots = 0;
    for (size_t i = 0; i < length; i++) {
        dots += name[i] == '.' ? 1 : 0;
    }
    return dots == 3 && strspn(name, "0123456789.") >= length;
}

bool fm_access_host_is_known(const char *host, const char *const *names, uint32_t name_count)
{
    if (host == NULL) {
        return true;
    }
    size_t length = name_length(host);
    if (length > 1 && host[length - 1] == '.') {
        length--;
    }
    if (length == 0) {
        return false;
    }
    if (is_address(host, length) ||
        (length >= 9 && strncasecmp(host + length - 9, "localhost", 9) == 0 &&
         (length == 9 || host[length - 10] == '.'))) {
        return true;
    }
    for (uint32_t i = 0; i < name_count; i++) {
        if (strlen(names[i]) == length && strncasecmp(names[i], host, length) == 0) {
            return true;
        }
    }
    return false;
}

bool fm_access_origin_is_same(const char *origin, const char *host)
{
    const char *name = strstr(origin, "://");
    return name != NULL && host != NULL && strcasecmp(name + 3, host) == 0;
}

bool fm_access_host_is_valid(const char *host)
{
    size_t length = strlen(host);
    return length > 0 && length <= NAME_BYTES_MAX &&
           strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
               length;
}

bool fm_access_origin_is_valid(const char *origin)
{
    if (strcmp(origin, "*") == 0) {
        return true;
    }
    const char *host = strncmp(origin, "http://", 7) == 0    ? origin + 7
                       : strncmp(origin, "https://", 8) == 0 ? origin + 8
                                                             : "";
    size_t length = name_length(host);
    return length > 0 && strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                      "0123456789._-:[]") == strlen(host);
}
