/*
 * File name patterns: * ? [abc] [!a-z] within a name, ** for any number of directories, \ before a
 * character that is meant literally.
 *
 * A name that begins with a dot is matched only by a pattern that begins with one. Bytewise; locale
 * does not matter. Thread rule: pure.
 */
#ifndef FM_ENGINES_BATCH_GLOB_H
#define FM_ENGINES_BATCH_GLOB_H

#include <stdbool.h>
#include <stddef.h>

/* Whether the text is a pattern at all. */
bool fm_glob_is_pattern(const char *text);
/* How many bytes of the pattern name a fixed directory, without the slash behind it; 0: none. */
size_t fm_glob_fixed_length(const char *pattern);
/* Whether `path` (no leading slash) matches `pattern`, as a whole. */
bool fm_glob_matches(const char *pattern, const char *path);

#endif
