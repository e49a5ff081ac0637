/*
 * The formats that source.h lists, each in a file of its own.
 */
#ifndef FM_HOST_SOURCE_FORMATS_H
#define FM_HOST_SOURCE_FORMATS_H

#include "host/source/source.h"

extern const struct fm_source_format fm_source_csv;
extern const struct fm_source_format fm_source_tsv; /* csv with tabs, without quotes */
extern const struct fm_source_format fm_source_jsonl;
/* Lines of JSON that are requests; columns are paths in them (core/source/request_line.h). */
extern const struct fm_source_format fm_source_openai_batch;
extern const struct fm_source_format fm_source_parquet;
extern const struct fm_source_format fm_source_npy; /* the whole file is one column, without name */
extern const struct fm_source_format fm_source_npz; /* arrays are columns */
extern const struct fm_source_format fm_source_tar; /* files of one name are a row */
/* What fm_query_sqlite_spool makes. A job cannot name it, so it is not in the table. */
extern const struct fm_source_format fm_source_query;

#endif
