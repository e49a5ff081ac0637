/*
 * The formats that source.h lists, each in a file of its own.
 */
#ifndef FM_HOST_SOURCE_FORMATS_H
#define FM_HOST_SOURCE_FORMATS_H

#include "host/source/source.h"

extern const struct fm_source_format fm_source_csv;
extern const struct fm_source_format fm_source_tsv; /* csv with tabs, without quotes */
extern const struct fm_source_format fm_source_jsonl;
extern const struct fm_source_format fm_source_parquet;
extern const struct fm_source_format fm_source_npy; /* the whole file is one column, without name */
extern const struct fm_source_format fm_source_npz; /* arrays are columns */
extern const struct fm_source_format fm_source_tar; /* files of one name are a row */

#endif
