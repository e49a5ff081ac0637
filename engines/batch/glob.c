/*
 * Pattern matching, a name at a time. See glob.h.
 *
 * HOW IT WORKS. Within a name, "*" keeps one point to come back to (the last star), which is enough
 * because an earlier star never needs to take more once a later one has matched; so a match takes
 * at most length x length steps. "**" likewise, by directories.
 */
#include "engines/batch/glob.h"

#include <stdint.h>
#include <string.h>

bool fm_glob_is_pattern(const char *text)
{
    return strpbrk(text, "*?[\\") != NULL;
}

size_t fm_glob_fixed_length(const char *pattern)
{
    size_t end = strcspn(pattern, "*?[\\");
    while (end > 0 && pattern[end - 1] != '/') {
        end--;
    }
    return end > 1 ? end - 1 : end;
}

static size_t name_length(const char *text)
{
    return strcspn(text, "/");
}

/* One character against one element of the pattern. Returns the element's length, 0 when it does
 * not match. */
static size_t element_matches(const char *pattern, size_t length, char character)
{
    if (pattern[0] == '?') {
        return 1;
    }
    if (pattern[0] == '\\' && length > 1) {
        return pattern[1] == character ? 2 : 0;
    }
    if (pattern[0] != '[') {
        return pattern[0] == character ? 1 : 0;
    }
    size_t at = 1;
    bool negated = at < length && (pattern[at] == '!' || pattern[at] == '^');
    at += negated ? 1 : 0;
    size_t first = at;
    bool found = false;
    while (at < length && (pattern[at] != ']' || at == first)) {
        unsigned char low = (unsigned char)pattern[at];
        unsigned char high = low;
        if (at + 2 < length && pattern[at + 1] == '-' && pattern[at + 2] != ']') {
            high = (unsigned char)pattern[at + 2];
            at += 2;
        }
        found = found || ((unsigned char)character >= low && (unsigned char)character <= high);
        at++;
    }
    if (at == length) {
        return pattern[0] == character ? 1 : 0; /* never closed: an ordinary bracket */
    }
    return found != negated ? at + 1 : 0;
}

static bool name_matches(const char *pattern, size_t pattern_length, const char *name,
                         size_t length)
{
    size_t p = 0;
    size_t n = 0;
    size_t star = SIZE_MAX;
    size_t star_name = 0;
    if (length > 0 && name[0] == '.' && pattern[0] != '.' &&
        !(pattern_length > 1 && pattern[0] == '\\' && pattern[1] == '.')) {
        return false;
    }
    while (n < length) {
        if (p < pattern_length && pattern[p] == '*') {
            star = p++;
            star_name = n;
            continue;
        }
        size_t step =
            p < pattern_length ? element_matches(pattern + p, pattern_length - p, name[n]) : 0;
        if (step > 0) {
            p += step;
            n++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            n = ++star_name;
        } else {
            return false;
        }
    }
    while (p < pattern_length && pattern[p] == '*') {
        p++;
    }
    return p == pattern_length;
}

static const char *next_name(const char *text)
{
    text += name_length(text);
    return *text == '/' ? text + 1 : text;
}

bool fm_glob_matches(const char *pattern, const char *path)
{
    const char *deep = NULL; /* behind the last "**" */
    const char *deep_path = NULL;
    while (*path != '\0') {
        size_t pattern_length = name_length(pattern);
        if (pattern_length == 2 && pattern[0] == '*' && pattern[1] == '*') {
            pattern = next_name(pattern);
            deep = pattern;
            deep_path = path;
            if (*pattern == '\0') {
                return true; /* "a/ **": everything below */
            }
            continue;
        }
        size_t length = name_length(path);
        bool last = path[length] == '\0';
        bool last_pattern = pattern[pattern_length] == '\0';
        if (pattern_length > 0 && last == last_pattern &&
            name_matches(pattern, pattern_length, path, length)) {
            pattern = next_name(pattern);
            path = next_name(path);
            continue;
        }
        /* "**" takes one more directory, but no hidden one. */
        if (deep == NULL || deep_path[0] == '.') {
            return false;
        }
        deep_path = next_name(deep_path);
        pattern = deep;
        path = deep_path;
    }
    return *pattern == '\0';
}
