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

#if defined(IRS_SOFT_FLOAT)
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

#if defined(IRS_SOFT_FLOAT)
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

/* Halves to even; the sign of a zero stays. */
IRS_INLINE float irs_math_round(float x)
{
    float magnitude = irs_math_abs(x);
    if (!(magnitude < 8388608.0f)) {
        return x;
    }
    float whole = (magnitude + 8388608.0f) - 8388608.0f;
    return irs_math_from_bits(irs_math_bits(whole) | (irs_math_bits(x) & INT32_MIN));
}

IRS_INLINE float irs_math_sign(float x) { return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : 0.0f; }
IRS_INLINE float irs_math_copysign(float x, float sign)
{
    return irs_math_from_bits((irs_math_bits(x) & 0x7FFFFFFF) | (irs_math_bits(sign) & INT32_MIN));
}

IRS_INLINE float irs_math_prelu(float x, float slope) { return x < 0.0f ? x * slope : x; }
IRS_INLINE float irs_math_selu(float x, float alpha, float gamma)
{
    return gamma * (x < 0.0f ? alpha * (irs_math_exp(x) - 1.0f) : x);
}
IRS_INLINE float irs_math_celu(float x, float alpha)
{
    return x < 0.0f ? alpha * (irs_math_exp(irs_math_div(x, alpha)) - 1.0f) : x;
}
IRS_INLINE float irs_math_thresholdedrelu(float x, float alpha) { return x > alpha ? x : 0.0f; }
IRS_INLINE float irs_math_shrink(float x, float threshold, float bias)
{
    return x < -threshold ? x + bias : x > threshold ? x - bias : 0.0f;
}
IRS_INLINE float irs_math_softsign(float x) { return irs_math_div(x, 1.0f + irs_math_abs(x)); }

IRS_INLINE float irs_math_log(float x)
{
    int tiny = x < 1.1754944e-38f;
    float scaled = tiny ? x * 8388608.0f : x;
    float usable = scaled > 0.0f && scaled < __builtin_inff() ? scaled : 1.0f;
    int32_t exponent = (irs_math_bits(usable) - irs_math_bits(0.70710677f)) >> 23;
    float t = irs_math_from_bits(irs_math_bits(usable) - exponent * (1 << 23)) - 1.0f;
    float e = (float)(exponent - (tiny ? 23 : 0)), z = t * t, y = 0.070376836f;
    y = y * t + (-0.115146101f);
    y = y * t + 0.11676998f;
    y = y * t + (-0.12420141f);
    y = y * t + 0.14249323f;
    y = y * t + (-0.16668057f);
    y = y * t + 0.20000714f;
    y = y * t + (-0.24999994f);
    y = y * t + 0.33333331f;
    y = (y * t) * z;
    y = y + e * (-2.1219444e-04f);
    y = y - 0.5f * z;
    y = (t + y) + e * 0.6933594f;
    y = x == 0.0f ? -__builtin_inff() : x < 0.0f ? __builtin_nanf("") : y;
    return x < __builtin_inff() ? y : x;
}

IRS_INLINE float irs_math_log1p(float x)
{
    float u = 1.0f + x, d = u - 1.0f;
    return d == 0.0f || x == __builtin_inff() ? x : irs_math_log(u) * irs_math_div(x, d);
}
IRS_INLINE float irs_math_softplus(float x)
{
    return (x > 0.0f ? x : 0.0f) + irs_math_log1p(irs_math_exp(-irs_math_abs(x)));
}
IRS_INLINE float irs_math_mish(float x)
{
    float e = irs_math_exp(x < 20.0f ? x : 20.0f), n = e * (e + 2.0f);
    return x < 20.0f ? x * irs_math_div(n, n + 2.0f) : x;
}
IRS_INLINE float irs_math_power(float x, float exponent) { return irs_math_exp(exponent * irs_math_log(x)); }

IRS_INLINE float irs_math_pow(float a, float b)
{
    float magnitude = irs_math_exp(b * irs_math_log(irs_math_abs(a)));
    int whole = irs_math_trunc(b) == b, odd = irs_math_trunc(b * 0.5f) * 2.0f != b;
    float negative = whole ? (odd ? -magnitude : magnitude) : __builtin_nanf("");
    return b == 0.0f ? 1.0f : a < 0.0f ? negative : magnitude;
}

/* |x| less an even number of eighths of a turn, which goes to *octants. */
IRS_INLINE float irs_math_octants(float x, int32_t *octants)
{
    float magnitude = irs_math_abs(x), eighths = magnitude * 1.2732395f;
    int inside = eighths < 8388608.0f;
    int32_t whole = inside ? (int32_t)eighths : 0;
    whole += whole & 1;
    float y = (float)whole;
    float rest = ((magnitude - y * 0.78515625f) - y * 2.4187565e-04f) - y * 3.774895e-08f;
    *octants = whole;
    return inside ? rest : magnitude < __builtin_inff() ? 0.0f : __builtin_nanf("");
}
IRS_INLINE float irs_math_sin_part(float r)
{
    float z = r * r, y = -1.9515296e-04f;
    y = y * z + 0.0083321612f;
    y = y * z + (-0.16666655f);
    return (y * z) * r + r;
}
IRS_INLINE float irs_math_cos_part(float r)
{
    float z = r * r, y = 2.4433157e-05f;
    y = y * z + (-0.0013887316f);
    y = y * z + 0.041666646f;
    return ((y * z) * z - 0.5f * z) + 1.0f;
}
IRS_INLINE float irs_math_sin(float x)
{
    int32_t j;
    float r = irs_math_octants(x, &j);
    float y = (j & 2) != 0 ? irs_math_cos_part(r) : irs_math_sin_part(r);
    return x == 0.0f ? x : ((j & 4) != 0) != (x < 0.0f) ? -y : y;
}
IRS_INLINE float irs_math_cos(float x)
{
    int32_t j;
    float r = irs_math_octants(x, &j);
    float y = (j & 2) != 0 ? irs_math_sin_part(r) : irs_math_cos_part(r);
    return ((j + 2) & 4) != 0 ? -y : y;
}
IRS_INLINE float irs_math_tan(float x) { return irs_math_div(irs_math_sin(x), irs_math_cos(x)); }

IRS_INLINE float irs_math_atan(float x)
{
    float a = irs_math_abs(x), t = a, base = 0.0f, y = 0.080537446f;
    if (a > 2.4142137f) {
        t = irs_math_div(-1.0f, a);
        base = 1.5707964f;
    } else if (a > 0.41421357f) {
        t = irs_math_div(a - 1.0f, a + 1.0f);
        base = 0.7853982f;
    }
    float z = t * t;
    y = y * z + (-0.13877685f);
    y = y * z + 0.19977711f;
    y = y * z + (-0.3333295f);
    return irs_math_copysign(base + ((y * z) * t + t), x);
}

IRS_INLINE float irs_math_asin(float x)
{
    float a = irs_math_abs(x), y = 0.0421632f;
    int high = a > 0.5f;
    float z = high ? 0.5f * (1.0f - a) : a * a, t = high ? irs_math_sqrt(z) : a;
    y = y * z + 0.024181312f;
    y = y * z + 0.045470025f;
    y = y * z + 0.074953005f;
    y = y * z + 0.16666752f;
    float p = (y * z) * t + t;
    return irs_math_copysign(high ? 1.5707964f - (p + p) : p, x);
}
IRS_INLINE float irs_math_acos(float x)
{
    float a = irs_math_abs(x);
    float half = irs_math_asin(irs_math_sqrt(0.5f * (1.0f - a))), twice = half + half;
    return a > 0.5f ? (x < 0.0f ? 3.1415927f - twice : twice) : 1.5707964f - irs_math_asin(x);
}

IRS_INLINE float irs_math_sinh(float x)
{
    float a = irs_math_abs(x), z = x * x, y = 2.0372191e-04f;
    y = y * z + 0.0083302837f;
    y = y * z + 0.16666716f;
    float e = irs_math_exp(a), large = 0.5f * e - irs_math_div(0.5f, e);
    return a > 1.0f ? irs_math_copysign(large, x) : (y * z) * x + x;
}
IRS_INLINE float irs_math_cosh(float x)
{
    float e = irs_math_exp(irs_math_abs(x));
    return 0.5f * e + irs_math_div(0.5f, e);
}
IRS_INLINE float irs_math_asinh(float x)
{
    float a = irs_math_abs(x), z = x * x, y = 0.020122003f;
    y = y * z + (-0.0426993409f);
    y = y * z + 0.074847586f;
    y = y * z + (-0.16666288f);
    float large = a > 1500.0f ? irs_math_log(a) + 0.6931472f : irs_math_log(a + irs_math_sqrt(z + 1.0f));
    return a < 0.5f ? (y * z) * x + x : irs_math_copysign(large, x);
}
IRS_INLINE float irs_math_acosh(float x)
{
    float z = x - 1.0f, y = 0.0017596881f;
    y = y * z + (-0.0075272887f);
    y = y * z + 0.026454905f;
    y = y * z + (-0.11784742f);
    y = y * z + 1.4142135f;
    float large =
        x > 1500.0f ? irs_math_log(x) + 0.6931472f : irs_math_log(x + irs_math_sqrt(z * (x + 1.0f)));
    return z < 0.5f ? y * irs_math_sqrt(z) : large;
}
IRS_INLINE float irs_math_atanh(float x)
{
    float a = irs_math_abs(x), z = x * x, y = 0.181740078f;
    y = y * z + 0.0824370301f;
    y = y * z + 0.146691431f;
    y = y * z + 0.199782164f;
    y = y * z + 0.3333373f;
    float large = 0.5f * irs_math_log(irs_math_div(1.0f + a, 1.0f - a));
    return a < 0.5f ? (y * z) * x + x : irs_math_copysign(large, x);
}

#endif
