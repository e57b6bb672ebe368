/* Activations of 16 bits (docs/integer-semantics.md): a clip to whole numbers comes before the rounding, so that
 * no float outside int16 is ever converted. */
#ifndef IRSHRINK_WIDE_H
#define IRSHRINK_WIDE_H

#include "irshrink_kernels.h"

/* clip(rint(v), low, high) */
IRS_INLINE int16_t irs_wide_rounded(float v, int32_t low, int32_t high)
{
    v = v < (float)low ? (float)low : v > (float)high ? (float)high : v;
    return (int16_t)irs_rint(v);
}

/* clip(rint((float)acc * multiplier), low, high) */
IRS_INLINE int16_t irs_wide_requantize(int32_t acc, float multiplier, int32_t low, int32_t high)
{
    return irs_wide_rounded((float)acc * multiplier, low, high);
}

/* clip(rint(v), -32768, 32767); NaN gives 0 */
IRS_INLINE int16_t irs_wide_quantize(float v)
{
    return irs_wide_rounded(v == v ? v : 0.0f, -32768, 32767);
}

/* clip(rint(a * m_a + b * m_b), low, high), every operation rounded once */
IRS_INLINE int16_t irs_wide_add(int16_t a, int16_t b, float m_a, float m_b, int32_t low, int32_t high)
{
    float first = (float)a * m_a, second = (float)b * m_b;
    return irs_wide_rounded(first + second, low, high);
}

/* acc[0..1] += four activations times four weights each of two channels, stored in the order 0, 2, 1, 3 */
IRS_INLINE void irs_wide_step(int32_t *acc, const int16_t *x, const int8_t *w)
{
#if defined(__ARM_FEATURE_DSP)
    int32_t first = irs_load32((const int8_t *)x), second = irs_load32((const int8_t *)(x + 2));
    int32_t a = irs_load32(w), b = irs_load32(w + 4);
    acc[0] = __smlad(second, __sxtb16(__ror((uint32_t)a, 8)), __smlad(first, __sxtb16(a), acc[0]));
    acc[1] = __smlad(second, __sxtb16(__ror((uint32_t)b, 8)), __smlad(first, __sxtb16(b), acc[1]));
#else
    acc[0] += x[0] * w[0] + x[1] * w[2] + x[2] * w[1] + x[3] * w[3];
    acc[1] += x[0] * w[4] + x[1] * w[6] + x[2] * w[5] + x[3] * w[7];
#endif
}

/* One pixel, two channels: acc[0..1]. */
IRS_INLINE void irs_wide_one(int32_t *acc, const int16_t *x, const int8_t *w, int32_t steps)
{
    int32_t sums[2] = {acc[0], acc[1]};
    for (int32_t k = 0; k < steps; ++k) {
        irs_wide_step(sums, x + 4 * k, w + 8 * k);
    }
    acc[0] = sums[0];
    acc[1] = sums[1];
}

/* Two pixels, two channels: acc[0..1] and acc[2..3]. */
IRS_INLINE void irs_wide_two(int32_t *acc, const int16_t *x0, const int16_t *x1, const int8_t *w, int32_t steps)
{
    int32_t first[2] = {acc[0], acc[1]}, second[2] = {acc[2], acc[3]};
    for (int32_t k = 0; k < steps; ++k) {
        irs_wide_step(first, x0 + 4 * k, w + 8 * k);
        irs_wide_step(second, x1 + 4 * k, w + 8 * k);
    }
    acc[0] = first[0];
    acc[1] = first[1];
    acc[2] = second[0];
    acc[3] = second[1];
}

/* The same, where pixels that do not lie inside the image are read from zeros. */
IRS_INLINE void irs_wide_one_padded(int32_t *acc, int32_t inside, const int16_t *x, const int16_t *zeros,
                                    const int8_t *w, int32_t steps)
{
    irs_wide_one(acc, inside ? x : zeros, w, steps);
}

IRS_INLINE void irs_wide_two_padded(int32_t *acc, int32_t inside0, int32_t inside1, const int16_t *x0,
                                    const int16_t *x1, const int16_t *zeros, const int8_t *w, int32_t steps)
{
    irs_wide_two(acc, inside0 ? x0 : zeros, inside1 ? x1 : zeros, w, steps);
}

#endif
