/*
 * Parsing of operator parameters. See option.h.
 */
#include "host/runtime/operators/option.h"

#include <string.h>

#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/text.h"
#include "host/os/file.h"

#define LINES_BYTES_MAX ((size_t)16 << 20)

int fm_option_uint(const struct fm_setting *setting, uint64_t minimum, uint64_t maximum,
                   uint64_t *ret_value, struct fm_error *reterr)
{
    uint64_t value = 0;
    if (fm_parse_uint64(setting->value, &value) != 0 || value < minimum || value > maximum) {
        return fm_error_set(reterr, FM_EINVAL,
                            "parameter '%s' is '%s', but must be a whole number from %llu to %llu",
                            setting->key, setting->value, (unsigned long long)minimum,
                            (unsigned long long)maximum);
    }
    *ret_value = value;
    return 0;
}

int fm_option_double(const struct fm_setting *setting, double minimum, double maximum,
                     double *ret_value, struct fm_error *reterr)
{
    double value = 0;
    if (fm_parse_double(setting->value, &value) != 0 || !(value >= minimum && value <= maximum)) {
        return fm_error_set(reterr, FM_EINVAL,
                            "parameter '%s' is '%s', but must be a number from %g to %g",
                            setting->key, setting->value, minimum, maximum);
    }
    *ret_value = value;
    return 0;
}

int fm_option_bool(const struct fm_setting *setting, bool *ret_value, struct fm_error *reterr)
{
    if (fm_parse_bool(setting->value, ret_value) != 0) {
        return fm_error_set(reterr, FM_EINVAL, "parameter '%s' is '%s', but must be true or false",
                            setting->key, setting->value);
    }
    return 0;
}

int fm_option_choice(const struct fm_setting *setting, const char *const *choices, int *ret_index,
                     struct fm_error *reterr)
{
    size_t count = 0;
    for (; choices[count] != NULL; count++) {
        if (strcmp(choices[count], setting->value) == 0) {
            *ret_index = (int)count;
            return 0;
        }
    }
    struct fm_text list = {0};
    for (size_t i = 0; i < count; i++) {
        fm_text_append_format(&list, "%s%s", i == 0 ? "" : ", ", choices[i]);
    }
    const char *near = fm_text_suggest(setting->value, choices, count);
    int status = fm_error_set(
        reterr, FM_EINVAL, "parameter '%s' is '%s', but must be one of: %s%s%s%s", setting->key,
        setting->value, list.failed ? "(out of memory)" : list.data,
        near != NULL ? "; did you mean '" : "", near != NULL ? near : "", near != NULL ? "'?" : "");
    fm_text_deinit(&list);
    return status;
}

int fm_option_doubles(const struct fm_setting *setting, double minimum, double maximum,
                      size_t count_max, double *values, struct fm_error *reterr)
{
    static const char separators[] = ", []\t";
    const char *at = setting->value;
    size_t count = 0;
    for (at += strspn(at, separators); *at != '\0'; at += strspn(at, separators)) {
        char word[64];
        size_t length = strcspn(at, separators);
        double value = 0;
        if (length >= sizeof(word) || count == count_max) {
            count = 0;
            break;
        }
        memcpy(word, at, length);
        word[length] = '\0';
        if (fm_parse_double(word, &value) != 0 || !(value >= minimum && value <= maximum)) {
            count = 0;
            break;
        }
        values[count++] = value;
        at += length;
    }
    if (count == 0) {
        return fm_error_set(reterr, FM_EINVAL,
                            "parameter '%s' is '%s', but must be 1 to %zu numbers from %g to %g, "
                            "separated by commas",
                            setting->key, setting->value, count_max, minimum, maximum);
    }
    for (size_t i = count; i < count_max; i++) {
        values[i] = values[count - 1];
    }
    return 0;
}

/* Cuts the text at line ends; counts only when lines is NULL. */
static size_t lines_cut(char *data, size_t size, char **lines)
{
    size_t count = 0;
    size_t at = 0;
    while (at < size) {
        char *end = memchr(data + at, '\n', size - at);
        size_t length = end != NULL ? (size_t)(end - (data + at)) : size - at;
        if (lines != NULL) {
            lines[count] = data + at;
            data[at + length] = '\0';
            if (length > 0 && data[at + length - 1] == '\r') {
                data[at + length - 1] = '\0';
            }
        }
        count++;
        at += length + 1;
    }
    return count;
}

static int lines_check(const struct fm_setting *setting, const char *data, size_t size,
                       struct fm_error *reterr)
{
    size_t line = 1;
    for (size_t at = 0; at < size;) {
        size_t step = fm_utf8_sequence(data + at, size - at);
        if (step == 0 || data[at] == '\0') {
            return fm_error_set(reterr, FM_ECORRUPT,
                                "parameter '%s': line %zu of %s is not UTF-8 text; save the file "
                                "as UTF-8",
                                setting->key, line, setting->value);
        }
        line += data[at] == '\n';
        at += step;
    }
    return 0;
}

int fm_option_lines_read(const struct fm_setting *setting, struct fm_option_lines *ret_lines,
                         struct fm_error *reterr)
{
    struct fm_option_lines lines = {0};
    size_t size = 0;
    int status = fm_file_read(setting->value, LINES_BYTES_MAX, &lines.data, &size, reterr);
    if (status != 0) {
        return fm_error_prefix(reterr, status, "parameter '%s'", setting->key);
    }
    status = lines_check(setting, lines.data, size, reterr);
    if (status != 0) {
        goto out;
    }
    lines.count = lines_cut(lines.data, size, NULL);
    if (lines.count == 0) {
        status = fm_error_set(reterr, FM_EINVAL, "parameter '%s': %s is empty", setting->key,
                              setting->value);
        goto out;
    }
    lines.lines = fm_alloc(lines.count * sizeof(lines.lines[0]));
    if (lines.lines == NULL) {
        status =
            fm_error_set(reterr, FM_ENOMEM, "out of memory for the lines of %s", setting->value);
        goto out;
    }
    (void)lines_cut(lines.data, size, lines.lines);
    *ret_lines = lines;
    return 0;
out:
    fm_option_lines_deinit(&lines);
    return status;
}

void fm_option_lines_deinit(struct fm_option_lines *lines)
{
    fm_free(lines->lines);
    fm_free(lines->data);
    *lines = (struct fm_option_lines){0};
}
