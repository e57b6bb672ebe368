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

#endif
