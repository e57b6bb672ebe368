/* Elementwise operators and pools in Helium (MVE) vectors; elsewhere the same in plain C. */
#ifndef IRSHRINK_MVE_LANES_H
#define IRSHRINK_MVE_LANES_H

#include "irshrink_mve.h"

/* v in every lane. */
IRS_INLINE irs_int16x8 irs_lanes_same(int32_t v)
{
#ifdef IRS_MVE
    return vdupq_n_s16((int16_t)v);
#else
    return (irs_int16x8){0} + (int16_t)v;
#endif
}

IRS_INLINE irs_int32x4 irs_lanes_same4(int32_t v)
{
#ifdef IRS_MVE
    return vdupq_n_s32(v);
#else
    return (irs_int32x4){0} + v;
#endif
}

/* n bytes, at most 8, as int16; zeros behind them. */
IRS_INLINE irs_int16x8 irs_lanes_part(const int8_t *p, int32_t n)
{
#ifdef IRS_MVE
    return vldrbq_z_s16(p, vctp16q((uint32_t)n));
#else
    irs_int16x8 v = {0};
    for (int i = 0; i < 8 && i < n; ++i) {
        v[i] = p[i];
    }
    return v;
#endif
}

IRS_INLINE irs_int16x8 irs_lanes_sum(irs_int16x8 a, irs_int16x8 b)
{
#ifdef IRS_MVE
    return vaddq_s16(a, b);
#else
    return a + b;
#endif
}

/* (a - zero_a) * (b - zero_b) */
IRS_INLINE irs_int32x4 irs_lanes_product(irs_int32x4 a, irs_int32x4 b, int32_t zero_a, int32_t zero_b)
{
#ifdef IRS_MVE
    return vmulq_s32(vsubq_n_s32(a, zero_a), vsubq_n_s32(b, zero_b));
#else
    return (a - zero_a) * (b - zero_b);
#endif
}

/* The larger of each pair of 16 int8. */
IRS_INLINE irs_int8x16 irs_lanes_larger(irs_int8x16 a, irs_int8x16 b)
{
#ifdef IRS_MVE
    return vmaxq_s8(a, b);
#else
    for (int i = 0; i < 16; ++i) {
        a[i] = a[i] > b[i] ? a[i] : b[i];
    }
    return a;
#endif
}

/* 16 times -128. */
IRS_INLINE irs_int8x16 irs_lanes_lowest(void)
{
#ifdef IRS_MVE
    return vdupq_n_s8(-128);
#else
    return (irs_int8x16){0} + (int8_t)-128;
#endif
}

/* n times y = table[(uint8_t)x]. */
IRS_INLINE void irs_lanes_table(int8_t *y, const int8_t *x, const int8_t *table, int32_t n)
{
#ifdef IRS_MVE
    for (; n > 0; n -= 16, y += 16, x += 16) {
        mve_pred16_t some = vctp8q((uint32_t)n);
        uint8x16_t at = vreinterpretq_u8_s8(vldrbq_z_s8(x, some));
        vstrbq_p_s8(y, vldrbq_gather_offset_z_s8(table, at, some), some);
    }
#else
    for (; n > 0; --n) {
        *y++ = table[(uint8_t)*x++];
    }
#endif
}

#endif
