/*
 * Positioned reads. See file_reader.h.
 */
#include "host/os/file_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/util/error.h"

int fm_file_reader_open(struct fm_file_reader *reader, const char *path, struct fm_error *reterr)
{
    int length = snprintf(reader->path, sizeof(reader->path), "%s", path);
    if (length < 0 || (size_t)length >= sizeof(reader->path)) {
        return fm_error_set(reterr, FM_ETOOLARGE, "cannot read '%.100s...': the path is too long",
                            path);
    }
    struct stat facts;
    reader->descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe would wait */
    if (reader->descriptor < 0) {
        int status = errno == ENOENT ? FM_ENOTFOUND : errno == EACCES ? FM_EPERM : FM_EIO;
        return fm_error_set(reterr, status, "cannot open '%s': %s", path, strerror(errno));
    }
    reader->open = true;
    if (fstat(reader->descriptor, &facts) != 0 ||
        (!S_ISREG(facts.st_mode) && !S_ISBLK(facts.st_mode))) {
        fm_file_reader_close(reader);
        return fm_error_set(reterr, FM_EINVAL, "'%s' is no file that can be read at any place",
                            path);
    }
    return 0;
}

int fm_file_reader_read_at(const struct fm_file_reader *reader, uint64_t offset, void *data,
                           size_t size, size_t *ret_size, struct fm_error *reterr)
{
    size_t done = 0;
    while (done < size) {
        ssize_t got =
            pread(reader->descriptor, (char *)data + done, size - done, (off_t)(offset + done));
        if (got == 0) {
            break;
        }
        if (got > 0) {
            done += (size_t)got;
        } else if (errno != EINTR) {
            return fm_error_set(reterr, FM_EIO, "cannot read '%s': %s", reader->path,
                                strerror(errno));
        }
    }
    *ret_size = done;
    return 0;
}

void fm_file_reader_close(struct fm_file_reader *reader)
{
    if (reader->open) {
        close(reader->descriptor);
        reader->open = false;
    }
}
