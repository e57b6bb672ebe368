/* int32 arithmetic modulo 2**32 and conversions, defined for every operand (docs/integer-semantics.md). */
#ifndef IRSHRINK_INTEGERS_H
#define IRSHRINK_INTEGERS_H

#include "irshrink_kernels.h"

IRS_INLINE int32_t irs_int_add(int32_t a, int32_t b) { return (int32_t)((uint32_t)a + (uint32_t)b); }
IRS_INLINE int32_t irs_int_sub(int32_t a, int32_t b) { return (int32_t)((uint32_t)a - (uint32_t)b); }
IRS_INLINE int32_t irs_int_mul(int32_t a, int32_t b) { return (int32_t)((uint32_t)a * (uint32_t)b); }
/* By 0: 0. By -1: the negative, which cannot overflow here. */
IRS_INLINE int32_t irs_int_div(int32_t a, int32_t b)
{
    return b == 0 ? 0 : b == -1 ? irs_int_sub(0, a) : a / b;
}
/* With the sign of a. */
IRS_INLINE int32_t irs_int_fmod(int32_t a, int32_t b) { return b == 0 || b == -1 ? 0 : a % b; }
/* With the sign of b. */
IRS_INLINE int32_t irs_int_mod(int32_t a, int32_t b)
{
    int32_t r = irs_int_fmod(a, b);
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
IRS_INLINE int32_t irs_int_shl(int32_t a, int32_t b)
{
    return b < 0 || b > 31 ? 0 : (int32_t)((uint32_t)a << b);
}
IRS_INLINE int32_t irs_int_shr(int32_t a, int32_t b)
{
    int32_t places = b < 0 || b > 31 ? 31 : b;
    return a < 0 ? ~(~a >> places) : a >> places;
}

/* The low bits of x as a number in [low, high], whose size is a power of two. */
IRS_INLINE int32_t irs_int_narrow(int32_t x, int32_t low, int32_t high)
{
    uint32_t mask = (uint32_t)high - (uint32_t)low;
    return (int32_t)((((uint32_t)x - (uint32_t)low) & mask) + (uint32_t)low);
}
/* Cut towards 0, saturated; NaN gives 0. The bounds are compared in float, where they are rounded: a number
 * that is not below high is high, and below it every float fits. */
IRS_INLINE int32_t irs_int_from_float(float x, int32_t low, int32_t high)
{
    if (x != x) {
        return 0;
    }
    return x <= (float)low ? low : x >= (float)high ? high : (int32_t)x;
}

/* The place that an index names: negative ones count from the end, others are moved to the nearest place. */
IRS_INLINE int32_t irs_int_place(int32_t index, int32_t size)
{
    return irs_clamp_i32(index < 0 ? index + size : index, 0, size - 1);
}

#endif
