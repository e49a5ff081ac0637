/*
 * Assertions that stay on in release builds. They state programmer errors only, never input.
 */
#ifndef FM_CORE_UTIL_ASSERT_H
#define FM_CORE_UTIL_ASSERT_H

/* Writes the place and the condition to standard error and aborts. */
_Noreturn void fm_assert_failed(const char *file, int line, const char *condition);

#define FM_ASSERT(condition)                                  \
    do {                                                      \
        if (__builtin_expect(!(condition), 0)) {              \
            fm_assert_failed(__FILE__, __LINE__, #condition); \
        }                                                     \
    } while (0)

#define FM_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define FM_CONTAINER_OF(pointer, type, member) \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
