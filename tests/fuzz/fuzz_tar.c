/*
 * Fuzzes core/proto/tar: any bytes as an archive give headers with names that end, or an error with
 * words. The sums are made right, so that what is behind them is reached.
 */
#include "core/proto/tar.h"

#include <stdio.h>
#include <string.h>

#include "tests/fuzz/check.h"

static struct fm_tar_header header;
static struct fm_tar_pax pax;

static void sum_set(uint8_t *block)
{
    unsigned sum = 0;
    memset(block + 148, ' ', 8);
    for (size_t i = 0; i < FM_TAR_BLOCK; i++) {
        sum += block[i];
    }
    (void)snprintf((char *)block + 148, 8, "%06o", sum);
}

static void name_check(const char *name)
{
    struct fm_tar_sample_name sample;
    FUZZ_CHECK(memchr(name, '\0', FM_TAR_NAME_MAX) != NULL && !fm_fuzz_canary);
    if (fm_tar_sample_name_parse(name, &sample)) {
        const char *end = name + strlen(name);
        FUZZ_CHECK(sample.key >= name && sample.key_length > 0 && sample.field[0] != '\0');
        FUZZ_CHECK(sample.key + sample.key_length < sample.field && sample.field < end);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fm_error error = {0};
    for (size_t at = 0; size - at >= FM_TAR_BLOCK;) {
        uint8_t block[FM_TAR_BLOCK];
        memcpy(block, data + at, sizeof(block));
        int status = fm_tar_header_read(block, &header, &error);
        if (status < 0) {
            FUZZ_CHECK(error.status == status && error.text[0] != '\0');
            sum_set(block);
            status = fm_tar_header_read(block, &header, &error);
        }
        at += FM_TAR_BLOCK;
        if (status <= 0) {
            continue;
        }
        name_check(header.name);
        size_t left = size - at;
        size_t bytes = header.size < left ? (size_t)header.size : left;
        if (header.kind == FM_TAR_PAX && fm_tar_pax_read(data + at, bytes, &pax, &error) == 0 &&
            pax.has_name) {
            name_check(pax.name);
        }
        uint64_t stored = fm_tar_stored_size(header.size);
        FUZZ_CHECK(stored >= header.size);
        at += stored < left ? (size_t)stored : left;
    }
    return 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}

/* A pax header and its file; a file alone. */
size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const char record[] = "14 path=a/b.c\n9 size=3\n";
    if (index > 1 || capacity < (size_t)5 * FM_TAR_BLOCK) {
        return 0;
    }
    memset(data, 0, (size_t)5 * FM_TAR_BLOCK);
    uint8_t *at = data;
    if (index == 0) {
        (void)snprintf((char *)at, 100, "pax");
        (void)snprintf((char *)at + 124, 12, "%o", (unsigned)(sizeof(record) - 1));
        at[156] = 'x';
        memcpy(at + 257,
               "ustar\0"
               "00",
               8);
        sum_set(at);
        memcpy(at + FM_TAR_BLOCK, record, sizeof(record) - 1);
        at += (size_t)2 * FM_TAR_BLOCK;
    }
    (void)snprintf((char *)at, 100, "dir/1.jpg");
    (void)snprintf((char *)at + 124, 12, "%o", 3u);
    at[156] = '0';
    memcpy(at + 257,
           "ustar\0"
           "00",
           8);
    memcpy(at + 345, "prefix", 6);
    sum_set(at);
    memcpy(at + FM_TAR_BLOCK, "abc", 3);
    return (size_t)(at - data) + (size_t)3 * FM_TAR_BLOCK;
}
