/* Operators that take turns: how far they can go, and what they still need. */
#ifndef IRSHRINK_STRIPES_H
#define IRSHRINK_STRIPES_H

#include "irshrink_kernels.h"

/* Output rows that `have` of `rows` input rows allow; row y needs those before y * stride + missing. */
IRS_INLINE int32_t irs_rows_ready(int32_t have, int32_t rows, int32_t out_rows, int32_t missing, int32_t stride)
{
    return have == rows ? out_rows : irs_max_i32(0, irs_min_i32(out_rows, (have - missing + stride) / stride));
}

/* The first input row that is read once `done` output rows are computed. */
IRS_INLINE int32_t irs_rows_first(int32_t done, int32_t stride, int32_t top, int32_t remembered)
{
    return irs_max_i32(0, done * stride - top + (done > 0 ? remembered : 0));
}

#endif
