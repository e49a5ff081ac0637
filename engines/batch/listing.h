/*
 * The inputs of a job: which files there are, in which order, and how that is written down.
 *
 * Owns: finding the files (patterns, directories, lists), ids, their order, writing listing
 * files. Ids are sorted by their bytes, with the slash as the lowest: what is in a directory comes
 * where the directory would, which is the order in which a walk finds it. Does not own: counting
 * the rows of files that hold many (row_index.h), reading what was recorded (row_source.h). Thread
 * rule: one thread.
 *
 * A listing file holds, for every file, "<size in bytes, or ?> <id>" and a NUL: any name that a
 * file can have fits. Where files hold rows it is "<size> <first> <rows> <total, or ?> <id>": the
 * rows of the file that are the job's, and how many it has. Memory: a listing in the making holds
 * all its ids.
 */
#ifndef FM_ENGINES_BATCH_LISTING_H
#define FM_ENGINES_BATCH_LISTING_H

#include <stdatomic.h>

#include "core/util/memory.h"
#include "engines/batch/job_file.h"

#define FM_LISTING_ID_MAX       4096
#define FM_LISTING_SIZE_UNKNOWN UINT64_MAX
#define FM_LISTING_ROWS_UNKNOWN UINT64_MAX

struct fm_listing_entry {
    /* Relative to the base; absolute when the file lies elsewhere, and the whole address of what is
     * behind one elsewhere. */
    const char *id;
    uint64_t size;
    /* Where files hold rows. */
    uint64_t first_row;  /* of the job's, in the file */
    uint64_t row_count;  /* of the job's */
    uint64_t rows_total; /* that the file has; FM_LISTING_ROWS_UNKNOWN: nobody has counted so far */
};

struct fm_listing {
    struct fm_arena arena;
    struct fm_listing_entry *entries; /* sorted by id, no two alike */
    size_t count;
    size_t capacity;
    char base[4096];          /* base + "/" + id opens the file; it may be an address */
    uint64_t hidden_count;    /* left out for a leading dot */
    uint64_t duplicate_count; /* left out because they were named more than once */

    /* Internal: of a walk. */
    int (*found)(void *context);
    void *found_context;
    const atomic_bool *stopping;
};

/* `exclude` (may be NULL) is the output directory, which may not exist yet: it is left out of every
 * search, links to files in it too, and an input that is named in it is FM_EINVAL. `stopping` (may
 * be NULL), once it is true, ends a search soon, wherever it is: FM_ECANCELLED. FM_ENOTFOUND:
 * nothing there, or a pattern without a match. */
int FM_NODISCARD fm_listing_build(const struct fm_job *job, const char *exclude,
                                  const atomic_bool *stopping, struct fm_listing *ret_listing,
                                  struct fm_error *reterr);
void fm_listing_deinit(struct fm_listing *listing);

/* Whether the job's input is one directory, one pattern, or a prefix of a store. */
bool fm_listing_is_walk(const struct fm_job *job);
/*
 * The same for such an input, as it is found: found(context) is called after each entry that was
 * added to the listing, which it may clear. What it returns, where it is not 0, ends the walk and
 * is returned. Then the listing is still to be deinitialised.
 */
int FM_NODISCARD fm_listing_walk(const struct fm_job *job, const char *exclude,
                                 const atomic_bool *stopping, int (*found)(void *context),
                                 void *context, struct fm_listing *ret_listing,
                                 struct fm_error *reterr);

/* Appends a copy. FM_ENOMEM. */
int FM_NODISCARD fm_listing_add(struct fm_listing *listing, const struct fm_listing_entry *entry);
void fm_listing_clear(struct fm_listing *listing); /* forgets the entries */
/* The order of ids, for qsort and bsearch of entries. */
int fm_listing_compare(const void *a, const void *b);

/* Writes entries to a listing file, durably. `order` gives the indices; NULL: the first `count`.
 * `rows`: the files hold rows, which were counted. */
int FM_NODISCARD fm_listing_write(const struct fm_listing *listing, const size_t *order,
                                  size_t count, bool rows, const char *path, uint64_t *ret_checksum,
                                  struct fm_error *reterr);

#endif
