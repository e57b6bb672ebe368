/* Arithmetic of float16 (IEEE 754 binary16), each operation rounded once, half to even.
 *
 * Numbers are int16_t that hold their bits. Cores with instructions for them use these; anywhere else the same
 * bits come out of float32 and double.
 */
#ifndef IRSHRINK_FLOAT16_H
#define IRSHRINK_FLOAT16_H

#include "irshrink_kernels.h"

#if defined(__ARM_FEATURE_FP16_SCALAR_ARITHMETIC)

IRS_INLINE _Float16 irs_f16_number(int16_t bits)
{
    _Float16 value;
    __builtin_memcpy(&value, &bits, 2);
    return value;
}
IRS_INLINE int16_t irs_f16_bits(_Float16 value)
{
    int16_t bits;
    __builtin_memcpy(&bits, &value, 2);
    return bits;
}
IRS_INLINE float irs_f16_widen(int16_t x) { return (float)irs_f16_number(x); }
IRS_INLINE int16_t irs_f16_round(float x) { return irs_f16_bits((_Float16)x); }
IRS_INLINE int16_t irs_f16_fma(int16_t x, int16_t w, int16_t acc)
{
    return irs_f16_bits(__builtin_fmaf16(irs_f16_number(x), irs_f16_number(w), irs_f16_number(acc)));
}
IRS_INLINE int16_t irs_f16_add(int16_t a, int16_t b) { return irs_f16_bits(irs_f16_number(a) + irs_f16_number(b)); }
IRS_INLINE int16_t irs_f16_sub(int16_t a, int16_t b) { return irs_f16_bits(irs_f16_number(a) - irs_f16_number(b)); }
IRS_INLINE int16_t irs_f16_mul(int16_t a, int16_t b) { return irs_f16_bits(irs_f16_number(a) * irs_f16_number(b)); }
IRS_INLINE int16_t irs_f16_div(int16_t a, int16_t b) { return irs_f16_bits(irs_f16_number(a) / irs_f16_number(b)); }
IRS_INLINE int irs_f16_less(int16_t a, int16_t b) { return irs_f16_number(a) < irs_f16_number(b); }

#else

IRS_INLINE float irs_f16_widen(int16_t x)
{
    uint32_t low = (uint32_t)x & 0x7FFFu, bits = low << 13;
    float value;
    __builtin_memcpy(&value, &bits, 4);
    value *= 0x1p112f;
    __builtin_memcpy(&bits, &value, 4);
    bits = low >= 0x7C00u ? (low << 13) | 0x7F800000u : bits;
    bits |= ((uint32_t)x & 0x8000u) << 16;
    __builtin_memcpy(&value, &bits, 4);
    return value;
}
IRS_INLINE int16_t irs_f16_round(float x)
{
    uint32_t bits, tiny, sign;
    float moved;
    __builtin_memcpy(&bits, &x, 4);
    sign = bits >> 16 & 0x8000u;
    bits &= 0x7FFFFFFFu;
    __builtin_memcpy(&moved, &bits, 4);
    moved += 0.5f; /* its last place is that of the smallest float16 */
    __builtin_memcpy(&tiny, &moved, 4);
    tiny -= 0x3F000000u;
    uint32_t normal = (bits + 0xFFFu + (bits >> 13 & 1u) - 0x38000000u) >> 13;
    uint32_t half = bits < 0x38800000u ? tiny : normal;
    half = bits >= 0x477FF000u ? 0x7C00u : half;
    half = bits > 0x7F800000u ? 0x7E00u : half;
    return (int16_t)(half | sign);
}
/* The product is exact, and so is the sum in double or as good as exact; rounding it to an odd float32 leaves
 * the next rounding the only one that shows. */
IRS_INLINE int16_t irs_f16_fma(int16_t x, int16_t w, int16_t acc)
{
    float product = irs_f16_widen(x) * irs_f16_widen(w);
    double sum = (double)product + (double)irs_f16_widen(acc);
    float value = (float)sum;
    double back = (double)value;
    int32_t bits;
    __builtin_memcpy(&bits, &value, 4);
    int32_t away = (sum > 0.0) == (sum > back) ? 1 : -1;
    bits += back == sum || sum != sum || (bits & 1) ? 0 : away;
    __builtin_memcpy(&value, &bits, 4);
    return irs_f16_round(value);
}
IRS_INLINE int16_t irs_f16_add(int16_t a, int16_t b) { return irs_f16_round(irs_f16_widen(a) + irs_f16_widen(b)); }
IRS_INLINE int16_t irs_f16_sub(int16_t a, int16_t b) { return irs_f16_round(irs_f16_widen(a) - irs_f16_widen(b)); }
IRS_INLINE int16_t irs_f16_mul(int16_t a, int16_t b) { return irs_f16_round(irs_f16_widen(a) * irs_f16_widen(b)); }
IRS_INLINE int16_t irs_f16_div(int16_t a, int16_t b) { return irs_f16_round(irs_f16_widen(a) / irs_f16_widen(b)); }
IRS_INLINE int irs_f16_less(int16_t a, int16_t b) { return irs_f16_widen(a) < irs_f16_widen(b); }

#endif

/* Numbers among bytes. */
IRS_INLINE int16_t irs_f16_at(const int8_t *p)
{
    int16_t bits;
    __builtin_memcpy(&bits, p, 2);
    return bits;
}
IRS_INLINE float irs_f16_float_at(const int8_t *p)
{
    float value;
    __builtin_memcpy(&value, p, 4);
    return value;
}

IRS_INLINE int16_t irs_f16_min(int16_t a, int16_t b) { return irs_f16_less(a, b) ? a : b; }
IRS_INLINE int16_t irs_f16_max(int16_t a, int16_t b) { return irs_f16_less(b, a) ? a : b; }
IRS_INLINE int16_t irs_f16_prelu(int16_t x, int16_t slope) { return irs_f16_less(x, 0) ? irs_f16_mul(x, slope) : x; }

/* low or high where v lies beyond; NaN stays. */
IRS_INLINE int16_t irs_f16_atleast(int16_t v, int32_t low) { return irs_f16_less(v, (int16_t)low) ? (int16_t)low : v; }
IRS_INLINE int16_t irs_f16_atmost(int16_t v, int32_t high) { return irs_f16_less((int16_t)high, v) ? (int16_t)high : v; }

IRS_INLINE int16_t irs_f16_lowest(void) { return (int16_t)0xFC00; } /* -infinity */

/* A sum without -0. */
IRS_INLINE int16_t irs_f16_sum(int16_t v) { return irs_f16_add(v, 0); }

#endif
