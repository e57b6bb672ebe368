/* exp, tanh, sigmoid, erf and friends in float32: the sequences of irshrink/program/reference/mathematics.py,
 * line by line. Every operation rounds once, nothing is fused and no library is called, so that every
 * compiler and core gives the same bits. Polynomials: S. Moshier, Cephes Mathematical Library 2.2, single
 * precision; erf beyond 1: Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26.
 */
#ifndef IRSHRINK_MATH_H
#define IRSHRINK_MATH_H

#include "irshrink_kernels.h"

IRS_INLINE int32_t irs_math_bits(float v)
{
    int32_t bits;
    __builtin_memcpy(&bits, &v, 4);
    return bits;
}

IRS_INLINE float irs_math_from_bits(int32_t bits)
{
    float v;
    __builtin_memcpy(&v, &bits, 4);
    return v;
}

IRS_INLINE float irs_math_abs(float x) { return irs_math_from_bits(irs_math_bits(x) & 0x7FFFFFFF); }
IRS_INLINE float irs_math_neg(float x) { return -x; }

#if defined(__ARM_ARCH) && !defined(__ARM_FP)
/* |a / b| below 2**-126, by integers: the run-time libraries do not agree on how it rounds. */
IRS_NOINLINE float irs_math_div_subnormal(float a, float b)
{
    int32_t sign = (irs_math_bits(a) ^ irs_math_bits(b)) & INT32_MIN;
    int32_t x = irs_math_bits(irs_math_abs(a)), y = irs_math_bits(irs_math_abs(b));
    int32_t shift = irs_max_i32(x >> 23, 1) - irs_max_i32(y >> 23, 1) + 149; /* of a quotient in units of 2**-149 */
    uint64_t dividend = ((uint32_t)x & 0x7FFFFFu) | ((x >> 23) != 0 ? 0x800000u : 0u);
    uint64_t divisor = ((uint32_t)y & 0x7FFFFFu) | ((y >> 23) != 0 ? 0x800000u : 0u);
    if (shift >= 0) {
        dividend <<= shift;
    } else {
        divisor <<= irs_min_i32(-shift, 32); /* from 26 on the quotient rounds to 0 */
    }
    uint64_t quotient = dividend / divisor, rest = 2 * (dividend % divisor);
    quotient += rest > divisor || (rest == divisor && (quotient & 1) != 0);
    return irs_math_from_bits((int32_t)quotient | sign);
}
IRS_NOINLINE float irs_math_div(float a, float b)
{
    float q = a / b;
    int tiny = irs_math_bits(irs_math_abs(q)) < 0x00800000;
    return tiny && a != 0.0f && irs_math_abs(b) < __builtin_inff() ? irs_math_div_subnormal(a, b) : q;
}
#else
IRS_INLINE float irs_math_div(float a, float b) { return a / b; }
#endif
IRS_INLINE float irs_math_reciprocal(float x) { return irs_math_div(1.0f, x); }

/* 2**n, n in -126..127 */
IRS_INLINE float irs_math_power_of_two(int32_t n) { return irs_math_from_bits((n + 127) * (1 << 23)); }

IRS_INLINE float irs_math_exp(float x)
{
    const float lowest = -87.33654f, highest = 88.72283f;
    float inside = x >= lowest && x <= highest ? x : 0.0f;
    float n = (inside * 1.442695f + 12582912.0f) - 12582912.0f;
    float r = (inside - n * 0.6933594f) - n * (-2.1219444e-04f);
    float y = 1.9875691e-04f;
    y = y * r + 0.0013981999f;
    y = y * r + 0.008333452f;
    y = y * r + 0.041665796f;
    y = y * r + 0.16666666f;
    y = y * r + 0.5f;
    y = (y * (r * r) + r) + 1.0f;
    int32_t whole = (int32_t)n, half = whole >> 1;
    y = (y * irs_math_power_of_two(half)) * irs_math_power_of_two(whole - half);
    y = x < lowest ? 0.0f : y;
    y = x > highest ? __builtin_inff() : y;
    return x != x ? x : y;
}

IRS_INLINE float irs_math_sigmoid(float x) { return irs_math_reciprocal(1.0f + irs_math_exp(-x)); }

IRS_INLINE float irs_math_tanh(float x)
{
    float z = x * x, p = -0.0057049887f;
    p = p * z + 0.020639088f;
    p = p * z + (-0.053739715f);
    p = p * z + 0.13331442f;
    p = p * z + (-0.3333328f);
    float small = (p * z) * x + x;
    float magnitude = irs_math_abs(x);
    float cut = magnitude > 10.0f ? 10.0f : magnitude;
    float large = 1.0f - 2.0f / (irs_math_exp(cut + cut) + 1.0f);
    return magnitude < 0.625f ? small : x < 0.0f ? -large : large;
}

IRS_INLINE float irs_math_erf(float x)
{
    float magnitude = irs_math_abs(x), z = x * x, p = 7.8538615e-05f;
    p = p * z + (-8.0101937e-04f);
    p = p * z + 0.0051883277f;
    p = p * z + (-0.026853813f);
    p = p * z + 0.112835854f;
    p = p * z + (-0.37612626f);
    p = p * z + 1.1283791f;
    float cut = magnitude > 4.0f ? 4.0f : magnitude;
    float t = 1.0f / (1.0f + 0.3275911f * cut), q = 1.0614054f;
    q = q * t + (-1.4531521f);
    q = q * t + 1.4214138f;
    q = q * t + (-0.28449672f);
    q = q * t + 0.2548296f;
    float large = 1.0f - (q * t) * irs_math_exp(-(cut * cut));
    return magnitude < 1.0f ? x * p : x < 0.0f ? -large : large;
}

IRS_INLINE float irs_math_gelu(float x) { return (0.5f * x) * (1.0f + irs_math_erf(x * 0.70710677f)); }

IRS_INLINE float irs_math_gelu_tanh(float x)
{
    float inner = 0.7978846f * (x + ((0.044715f * x) * x) * x);
    return (0.5f * x) * (1.0f + irs_math_tanh(inner));
}

IRS_INLINE float irs_math_hardsigmoid(float x, float alpha, float beta)
{
    return irs_clip_f32(alpha * x + beta, 0.0f, 1.0f);
}

IRS_INLINE float irs_math_hardswish(float x) { return x * irs_math_hardsigmoid(x, 0.16666667f, 0.5f); }
IRS_INLINE float irs_math_leakyrelu(float x, float alpha) { return x < 0.0f ? alpha * x : x; }
IRS_INLINE float irs_math_elu(float x, float alpha)
{
    return x < 0.0f ? alpha * (irs_math_exp(x) - 1.0f) : x;
}

/* Rounded towards zero; from 2**23 on every float is whole. The sign of a zero stays. */
IRS_INLINE float irs_math_trunc(float x)
{
    if (!(irs_math_abs(x) < 8388608.0f)) {
        return x;
    }
    float whole = (float)(int32_t)x;
    return irs_math_from_bits(irs_math_bits(whole) | (irs_math_bits(x) & INT32_MIN));
}

IRS_INLINE float irs_math_floor(float x)
{
    float t = irs_math_trunc(x);
    return t > x ? t - 1.0f : t;
}

IRS_INLINE float irs_math_ceil(float x) { return -irs_math_floor(-x); }

#if defined(__ARM_ARCH) && !defined(__ARM_FP)
/* Square root without FPU or library: the digits of the mantissa's root one by one, rounded half to even
 * (a root is never halfway between two floats). */
IRS_NOINLINE float irs_math_sqrt(float x)
{
    int32_t bits = irs_math_bits(x);
    if (!(x > 0.0f) || bits == 0x7F800000) {
        return x < 0.0f ? __builtin_nanf("") : x; /* NaN, -0, 0 and infinity are their own roots */
    }
    int32_t exponent = bits >> 23, mantissa = bits & 0x7FFFFF;
    if (exponent == 0) { /* subnormal */
        int shift = __builtin_clz((uint32_t)mantissa) - 8;
        mantissa <<= shift;
        exponent = 1 - shift;
    }
    uint32_t m = (uint32_t)mantissa | 0x800000u;
    exponent -= 127;
    if (exponent & 1) {
        m <<= 1;
        exponent -= 1;
    }
    uint64_t rest = (uint64_t)m << 25; /* the root of m * 2**25 has 25 bits: one to round by */
    uint64_t root = 0;
    for (uint64_t bit = (uint64_t)1 << 48; bit != 0; bit >>= 2) {
        if (rest >= root + bit) {
            rest -= root + bit;
            root = (root >> 1) + bit;
        } else {
            root >>= 1;
        }
    }
    uint32_t rounded = ((uint32_t)root + 1) >> 1;
    return irs_math_from_bits((int32_t)((uint32_t)(exponent / 2 + 126) << 23) + (int32_t)rounded);
}
#else
IRS_INLINE float irs_math_sqrt(float x) { return __builtin_sqrtf(x); }
#endif

#endif
