/* How threads share an operator: by position alone, so that any number of them gives the same bytes. */
#ifndef IRSHRINK_SHARE_H
#define IRSHRINK_SHARE_H

#include <stdint.h>

#include "irshrink_kernels.h"

/* One operator: part `share` of `shares` of it, and how many parts it is worth. */
typedef struct {
    void (*run)(void *arena, int32_t share, int32_t shares);
    int32_t most;
} irs_step;

/* Where part `share` of `shares` of n iterations begins, and where the part before it ends. The last
 * `joined` + 1 iterations stay together. */
IRS_INLINE int32_t irs_share(int32_t n, int32_t joined, int32_t share, int32_t shares)
{
    const int32_t split = n > joined ? n - joined : n;
    const int32_t begin = split / shares * share + irs_min_i32(share, split % shares);
    return begin < split ? begin : n;
}

#endif
