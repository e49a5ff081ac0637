/*
 * CSV records of plain numbers. See csv_numbers.h.
 */
#include "core/source/csv_numbers.h"

#include "core/proto/decimal.h"

static bool is_of_numbers(char character)
{
    return (character >= '0' && character <= '9') || character == '.' || character == '-';
}

/* How long the unquoted field at `at` is; a line end or a quote in it also ends it. */
static size_t text_length(const struct fm_csv_options *options, const char *at, const char *end)
{
    const char *from = at;
    while (at < end && *at != options->delimiter && *at != '\n' &&
           (*at != options->quote || options->quote == '\0')) {
        at++;
    }
    return (size_t)(at - from);
}

bool fm_csv_numbers_parse(const struct fm_csv_options *options, const char *data, size_t size,
                          const uint32_t *places, uint32_t count, float *ret_elements,
                          struct fm_csv_field *ret_fields)
{
    const char *at = size > 0 ? data : "";
    const char *end = at + size;
    if (is_of_numbers(options->delimiter) || is_of_numbers(options->quote)) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        size_t length = 0;
        if (i > 0) {
            if (at == end || *at != options->delimiter) {
                return false;
            }
            at++;
        }
        if (places[i] == FM_CSV_NUMBERS_TEXT) {
            length = text_length(options, at, end);
            ret_fields[i] = (struct fm_csv_field){.data = at, .size = length};
        } else {
            double value = 0;
            length = fm_decimal_take_plain(at, (size_t)(end - at), &value);
            if (length == 0) {
                return false;
            }
            ret_elements[places[i]] = (float)value;
        }
        at += length;
    }
    return count > 0 && at == end;
}
