/* Arithmetic of TensorFlow Lite Micro in 31-bit fixed point (docs/integer-semantics.md): every product rounds on
 * its own, to the nearest, and every shift again, halves away from zero. */
#ifndef IRSHRINK_Q31_H
#define IRSHRINK_Q31_H

#include "irshrink_kernels.h"

/* a * b / 2^31, rounded; one of them below 2^31 in magnitude. */
IRS_INLINE int32_t irs_q31_high(int32_t a, int32_t b)
{
    return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31);
}

/* x / 2^exponent, rounded, halves away from zero; exponent in 0..31 */
IRS_INLINE int32_t irs_q31_pot(int32_t x, int32_t exponent)
{
    int32_t mask = (int32_t)((1u << exponent) - 1u);
    return (x >> exponent) + ((x & mask) > (mask >> 1) + (x < 0));
}

/* clip(v + zero_point, -128, 127) */
IRS_INLINE int8_t irs_q31_saturate(int32_t v, int32_t zero_point)
{
#if defined(__ARM_FEATURE_DSP)
    return (int8_t)__ssat(__qadd(v, zero_point), 8);
#else
    return irs_saturate(irs_clamp_i32(v, -512, 512) + zero_point);
#endif
}

/* acc * multiplier / 2^(31 + right), to int8. */
IRS_INLINE int8_t irs_q31_requantize_right(int32_t acc, int32_t multiplier, int32_t right, int32_t zero_point)
{
    return irs_q31_saturate(irs_q31_pot(irs_q31_high(acc, multiplier), right), zero_point);
}

/* acc * multiplier * 2^(shift - 31), to int8; a shift to the left is modulo 2^32. */
IRS_INLINE int8_t irs_q31_requantize(int32_t acc, int32_t multiplier, int32_t shift, int32_t zero_point)
{
    int32_t left = shift > 0 ? shift : 0, moved = (int32_t)((uint32_t)acc << left);
    return irs_q31_requantize_right(moved, multiplier, left - shift, zero_point);
}

/* An operand of an addition, 20 bits up, in the scale that both share. */
IRS_INLINE int32_t irs_q31_operand(int32_t x, int32_t multiplier, int32_t right)
{
    return irs_q31_pot(irs_q31_high(x * (1 << 20), multiplier), right);
}

/* total / count, halves away from zero. */
IRS_INLINE int32_t irs_q31_average(int32_t total, int32_t count)
{
    return (total > 0 ? total + count / 2 : total - count / 2) / count;
}

/* clip(round(v) + zero_point, -128, 127), halves away from zero; NaN gives zero_point */
IRS_INLINE int8_t irs_q31_quantize(float v, int32_t zero_point)
{
    v = v < -512.0f ? -512.0f : v > 512.0f ? 512.0f : v == v ? v : 0.0f;
    int32_t whole = (int32_t)v;
    float rest = v - (float)whole;
    return irs_saturate(whole + (rest >= 0.5f) - (rest <= -0.5f) + zero_point);
}

IRS_INLINE int32_t irs_q31_left(int32_t x, int32_t bits)
{
    int64_t moved = (int64_t)x * ((int64_t)1 << bits);
    return moved < INT32_MIN ? INT32_MIN : moved > INT32_MAX ? INT32_MAX : (int32_t)moved;
}

/* The sum of a softmax's exponentials, in steps of 2^-19 and at least 1, is 2^bits * (1 + x), x in [0, 1). */
IRS_INLINE int32_t irs_q31_softmax_bits(int32_t total) { return 12 - __builtin_clz((uint32_t)total); }

/* 1 / (1 + x) in steps of 2^-31: three steps of Newton. */
IRS_NOINLINE int32_t irs_q31_softmax_reciprocal(int32_t total)
{
    uint32_t one_plus = (uint32_t)total << __builtin_clz((uint32_t)total); /* in steps of 2^-31 */
    int32_t half = (int32_t)(one_plus >> 1);
    int32_t y = 1515870810 + irs_q31_high(half, -1010580540);
    for (int i = 0; i < 3; ++i) {
        y += irs_q31_left(irs_q31_high(y, (1 << 29) - irs_q31_high(half, y)), 2);
    }
    return irs_q31_left(y, 1);
}

/* The softmax of one exponential, in steps of 1/256 from -128 up. */
IRS_INLINE int8_t irs_q31_softmax(int32_t exponential, int32_t reciprocal, int32_t bits)
{
    return irs_q31_saturate(irs_q31_pot(irs_q31_high(reciprocal, exponential), bits + 23), -128);
}

#endif
