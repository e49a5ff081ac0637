/*
 * The headers of tar archives: ustar, with the long names and large sizes of pax and of GNU tar.
 *
 * Owns: what a header's block says, checked by its sum, and what a pax header before it adds. Does
 * not own: files, going from member to member, what members are for. Thread rule: pure.
 *
 * An archive is blocks of FM_TAR_BLOCK bytes: a member's header, its bytes filled up to a whole
 * block, the next header; at the end a block of zeros at least. A pax header (FM_TAR_PAX) or a long
 * name (FM_TAR_LONG_NAME) is a member of its own, whose bytes say more about the next one.
 */
#ifndef FM_CORE_PROTO_TAR_H
#define FM_CORE_PROTO_TAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

#define FM_TAR_BLOCK    512u
#define FM_TAR_NAME_MAX 4096u /* with its NUL */

enum fm_tar_kind {
    FM_TAR_FILE,
    FM_TAR_PAX,       /* about the next member */
    FM_TAR_LONG_NAME, /* the next member's name */
    FM_TAR_OTHER,     /* directories, links, devices, what is about all members */
};

struct fm_tar_header {
    enum fm_tar_kind kind;
    uint64_t size; /* of the bytes behind the header */
    char name[FM_TAR_NAME_MAX];
};

/* What a pax header says about the next member. */
struct fm_tar_pax {
    bool has_name;
    bool has_size;
    uint64_t size;
    char name[FM_TAR_NAME_MAX];
};

/* The header in `block`, of FM_TAR_BLOCK bytes. 1: it is there; 0: zeros, which end the archive.
 * FM_ECORRUPT: it is none, FM_EUNSUPPORTED: a sparse file, FM_ETOOLARGE: of a name; without the
 * place. */
int FM_NODISCARD fm_tar_header_read(const void *block, struct fm_tar_header *ret_header,
                                    struct fm_error *reterr);
/* The bytes behind a pax header. Likewise. */
int FM_NODISCARD fm_tar_pax_read(const void *data, size_t size, struct fm_tar_pax *ret_pax,
                                 struct fm_error *reterr);
/* How many bytes behind its header a member takes: filled up to a whole block. UINT64_MAX: more
 * than can be counted. */
uint64_t fm_tar_stored_size(uint64_t size);

/* A member of a data set: "dir/a.seg.png" is the field "seg.png" of the sample "dir/a". */
struct fm_tar_sample_name {
    const char *key; /* a part of the name */
    size_t key_length;
    const char *field;
};

/* False: the name is of no sample: without a dot, hidden, or of the kind "__name__". */
bool fm_tar_sample_name_parse(const char *name, struct fm_tar_sample_name *ret_name);

#endif
