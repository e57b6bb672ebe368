/* Support of the generated kernels: word access, row copies, requantization.
 *
 * Portable C11 for GCC and Clang. With the Arm DSP extension and with an FPU the same values come from
 * fewer instructions; no value depends on which path is taken (docs/integer-semantics.md).
 */
#ifndef IRSHRINK_KERNELS_H
#define IRSHRINK_KERNELS_H

#include <stdint.h>

#if defined(__ARM_FEATURE_DSP) || defined(__ARM_FEATURE_SAT)
#include <arm_acle.h>
#endif

/* Float operations are calls of the compiler's library. */
#if (defined(__ARM_ARCH) && !defined(__ARM_FP)) || (defined(__riscv) && !defined(__riscv_flen))
#define IRS_SOFT_FLOAT 1
#endif

/* Every float operation rounds on its own: a fused multiply-add would change results. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

#define IRS_INLINE static inline __attribute__((always_inline, unused))
#ifndef IRS_NOINLINE
#define IRS_NOINLINE static __attribute__((noinline, unused))
#endif

/* Whole loops are in assembly for the M profile with DSP extension and FPU. */
#if defined(__ARM_FEATURE_DSP) && defined(__ARM_FP) && defined(__thumb2__) && __ARM_ARCH_PROFILE == 'M'
#define IRS_DSP_ASM 1
#define IRS_DSP_FUNCTION static __attribute__((naked, noinline, unused, aligned(4))) /* ADR counts in words */
#else
#define IRS_DSP_FUNCTION IRS_NOINLINE
#endif

IRS_INLINE int32_t irs_min_i32(int32_t a, int32_t b) { return a < b ? a : b; }
IRS_INLINE int32_t irs_max_i32(int32_t a, int32_t b) { return a > b ? a : b; }
IRS_INLINE float irs_min_f32(float a, float b) { return a < b ? a : b; }
IRS_INLINE float irs_max_f32(float a, float b) { return a > b ? a : b; }
IRS_INLINE float irs_lowest(void) { return -__builtin_inff(); }
IRS_INLINE float irs_clip_f32(float v, float low, float high) { return v < low ? low : v > high ? high : v; }
IRS_INLINE int32_t irs_clamp_i32(int32_t v, int32_t low, int32_t high)
{
    return v < low ? low : v > high ? high : v;
}

IRS_INLINE int8_t irs_saturate(int32_t v)
{
#if defined(__ARM_FEATURE_SAT)
    return (int8_t)__ssat(v, 8);
#else
    return (int8_t)irs_clamp_i32(v, -128, 127);
#endif
}

/* An integer that orders like v, the same for -0 and 0; `nan` for any NaN. */
IRS_INLINE int32_t irs_order_key(float v, int32_t nan)
{
    int32_t bits, magnitude;
    __builtin_memcpy(&bits, &v, 4);
    magnitude = bits & INT32_MAX;
    return magnitude > 0x7F800000 ? nan : bits < 0 ? -magnitude : bits;
}

/* Keeps the compiler from loading ahead into more registers than there are. */
IRS_INLINE void irs_fence(void) { __asm__ volatile("" ::: "memory"); }

/* A word from any address; one LDR on cores that allow unaligned access. */
IRS_INLINE int32_t irs_load32(const int8_t *p)
{
    int32_t v;
    __builtin_memcpy(&v, p, 4);
    return v;
}

IRS_INLINE void irs_store32(int8_t *p, int32_t v) { __builtin_memcpy(p, &v, 4); }

/* The lowest four bits of v, two's complement. */
IRS_INLINE int32_t irs_low_nibble(int32_t v) { return (int32_t)((uint32_t)v << 28) >> 28; }

/* acc[i] += x * w[i] for 16 i, in vectors of whatever size the core has. */
typedef int8_t irs_i8x16 __attribute__((vector_size(16)));
typedef int32_t irs_i32x16 __attribute__((vector_size(64)));
IRS_INLINE void irs_mla16(int32_t *acc, int32_t x, const int8_t *w)
{
    irs_i32x16 sums;
    irs_i8x16 weights;
    __builtin_memcpy(&sums, acc, sizeof sums);
    __builtin_memcpy(&weights, w, sizeof weights);
    sums += x * __builtin_convertvector(weights, irs_i32x16);
    __builtin_memcpy(acc, &sums, sizeof sums);
}

/* acc[i] += x[i] * w[i] for 16 i, each rounded twice; x counts as 0 unless it is inside. */
typedef float irs_f32x16 __attribute__((vector_size(64)));
IRS_INLINE void irs_mla16_f32(float *acc, int32_t inside, const float *x, const float *w)
{
    irs_f32x16 sums, weights, values = {0};
    __builtin_memcpy(&sums, acc, sizeof sums);
    __builtin_memcpy(&weights, w, sizeof weights);
    if (inside) {
        __builtin_memcpy(&values, x, sizeof values);
    }
    sums += values * weights;
    __builtin_memcpy(acc, &sums, sizeof sums);
}

/* a * b + c, rounded once. */
IRS_INLINE float irs_fma_f32(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

/* irs_mla16_f32, each rounded once */
IRS_INLINE void irs_fma16_f32(float *acc, int32_t inside, const float *x, const float *w)
{
    if (!inside) {
        return; /* a product with 0 changes nothing but the sign of 0, which is lost at the end */
    }
    for (int32_t i = 0; i < 16; ++i) {
        acc[i] = __builtin_fmaf(x[i], w[i], acc[i]);
    }
}

/* Bytes 0 and 2, or 1 and 3, of a word as two int16. */
#if defined(__ARM_FEATURE_DSP)
IRS_INLINE int32_t irs_even(int32_t v) { return (int32_t)__sxtb16((int8x4_t)v); }
IRS_INLINE int32_t irs_odd(int32_t v)
{
    uint32_t u = (uint32_t)v;
    return (int32_t)__sxtb16((int8x4_t)((u >> 8) | (u << 24)));
}
/* acc + a.low * b.low + a.high * b.high; and the low or the high product alone. */
IRS_INLINE int32_t irs_mla_dual(int32_t a, int32_t b, int32_t acc) { return __smlad(a, b, acc); }
IRS_INLINE int32_t irs_mla_low(int32_t a, int32_t b, int32_t acc) { return __smlabb(a, b, acc); }
IRS_INLINE int32_t irs_mla_high(int32_t a, int32_t b, int32_t acc) { return __smlatt(a, b, acc); }
/* acc + unsigned bytes 0 and 2, or 1 and 3, of a word, as two uint16. */
IRS_INLINE int32_t irs_sum_even(int32_t acc, int32_t v) { return (int32_t)__uxtab16((uint32_t)acc, (uint32_t)v); }
IRS_INLINE int32_t irs_sum_odd(int32_t acc, int32_t v)
{
    uint32_t u = (uint32_t)v;
    return (int32_t)__uxtab16((uint32_t)acc, (u >> 8) | (u << 24));
}
/* The larger of each pair of int8. */
IRS_INLINE int32_t irs_max4(int32_t a, int32_t b)
{
    __ssub8(a, b); /* sets the flags that SEL reads */
    return (int32_t)__sel((uint32_t)a, (uint32_t)b);
}
#else
IRS_INLINE int32_t irs_even(int32_t v)
{
    return (int32_t)(((uint32_t)(int32_t)(int8_t)v & 0xFFFFu) | ((uint32_t)(int32_t)(int8_t)(v >> 16) << 16));
}
IRS_INLINE int32_t irs_odd(int32_t v)
{
    return (int32_t)(((uint32_t)(int32_t)(int8_t)(v >> 8) & 0xFFFFu) | ((uint32_t)(v >> 24) << 16));
}
IRS_INLINE int32_t irs_mla_low(int32_t a, int32_t b, int32_t acc) { return acc + (int16_t)a * (int16_t)b; }
IRS_INLINE int32_t irs_mla_high(int32_t a, int32_t b, int32_t acc) { return acc + (a >> 16) * (b >> 16); }
IRS_INLINE int32_t irs_mla_dual(int32_t a, int32_t b, int32_t acc)
{
    return irs_mla_high(a, b, irs_mla_low(a, b, acc));
}
/* The larger of each pair of int8. */
IRS_INLINE int32_t irs_max4(int32_t a, int32_t b)
{
    uint32_t v = 0;
    for (int i = 0; i < 32; i += 8) {
        v |= (uint32_t)(uint8_t)irs_max_i32((int8_t)(a >> i), (int8_t)(b >> i)) << i;
    }
    return (int32_t)v;
}
IRS_INLINE int32_t irs_sum_even(int32_t acc, int32_t v)
{
    return (int32_t)((uint32_t)acc + ((uint32_t)v & 0x00FF00FFu));
}
IRS_INLINE int32_t irs_sum_odd(int32_t acc, int32_t v)
{
    return (int32_t)((uint32_t)acc + (((uint32_t)v >> 8) & 0x00FF00FFu));
}
#endif
/* Four int8 as unsigned bytes, each plus 128. */
IRS_INLINE int32_t irs_load_biased(const int8_t *p) { return (int32_t)((uint32_t)irs_load32(p) ^ 0x80808080u); }

/* rint(v), |v| < 2^22: the sum has no bits below 1, so the addition rounds, half to even. */
IRS_INLINE int32_t irs_rint_by_addition(float v)
{
    int32_t bits;
    v += 12582912.0f; /* 1.5 * 2^23 */
    __builtin_memcpy(&bits, &v, 4);
    return bits - 0x4B400000;
}

#if defined(__ARM_FP) && defined(__ARM_FEATURE_DSP)
/* rint(v), half to even, saturated to int32: VCVTR rounds as FPSCR says, nearest even out of reset. */
IRS_INLINE int32_t irs_rint(float v)
{
    int32_t r;
    __asm__("vcvtr.s32.f32 %0, %0" : "+t"(v));
    __builtin_memcpy(&r, &v, 4);
    return r;
}
/* clip(rint((float)acc * multiplier) + zero_point, -128, 127) */
IRS_INLINE int8_t irs_requantize(int32_t acc, float multiplier, int32_t zero_point)
{
    return (int8_t)__ssat(__qadd(irs_rint((float)acc * multiplier), zero_point), 8);
}
#elif defined(IRS_SOFT_FLOAT)
IRS_INLINE int32_t irs_rint(float v) { return irs_rint_by_addition(v); }
/* Rounds a magnitude to 24 significant bits, half to even, as a conversion to float32 does. */
IRS_INLINE uint64_t irs_round_bits(uint64_t v, int bits)
{
    uint64_t half = (uint64_t)1 << (bits - 1), rest = v & (((uint64_t)1 << bits) - 1), q = v >> bits;
    return q + (rest > half || (rest == half && (q & 1)));
}
/* The same value as float32 arithmetic gives, bit for bit, whatever the operands. */
IRS_NOINLINE int8_t irs_requantize_exact(int32_t acc, float multiplier, int32_t zero_point)
{
    uint32_t bits, a = acc < 0 ? 0u - (uint32_t)acc : (uint32_t)acc;
    __builtin_memcpy(&bits, &multiplier, 4);
    if (a == 0 || bits == 0) {
        return (int8_t)irs_clamp_i32(zero_point, -128, 127);
    }
    int exponent = (int)(bits >> 23) - 150; /* multiplier = mantissa * 2^exponent, always normal */
    uint32_t mantissa = (bits & 0x7FFFFFu) | 0x800000u;
    int excess = 8 - __builtin_clz(a);
    if (excess > 0) {
        a = (uint32_t)irs_round_bits(a, excess) << excess;
    }
    uint64_t product = (uint64_t)a * mantissa;
    excess = 40 - __builtin_clzll(product);
    if (excess > 0) {
        product = irs_round_bits(product, excess) << excess;
    }
    uint32_t magnitude;
    if (exponent >= 0) {
        magnitude = 511; /* at least 2^23: saturates */
    } else if (exponent <= -63) {
        magnitude = 0;
    } else {
        uint64_t rounded = irs_round_bits(product, -exponent);
        magnitude = rounded > 511 ? 511u : (uint32_t)rounded;
    }
    int32_t value = acc < 0 ? -(int32_t)magnitude : (int32_t)magnitude;
    return (int8_t)irs_clamp_i32(value + zero_point, -128, 127);
}
/* clip(rint((float)acc * multiplier) + zero_point, -128, 127) without float operations, which would cost more.
 * The product in 16.16 fixed point decides, unless it is so close to a tie (2^-15) that the two roundings of
 * float32 could move it over, or so large that they are coarser than that. */
IRS_NOINLINE int8_t irs_requantize(int32_t acc, float multiplier, int32_t zero_point)
{
    uint32_t bits, a = acc < 0 ? 0u - (uint32_t)acc : (uint32_t)acc;
    __builtin_memcpy(&bits, &multiplier, 4);
    uint32_t shift = 134u - (bits >> 23); /* product * 2^-shift is 16.16 */
    uint64_t product = (uint64_t)a * ((bits & 0x7FFFFFu) | 0x800000u);
    uint32_t high = (uint32_t)(product >> 32);
    if (a >= 0x1000000u || shift - 1u >= 31u || high >> shift != 0) {
        return irs_requantize_exact(acc, multiplier, zero_point);
    }
    uint32_t fixed = ((uint32_t)product >> shift) | (high << (32u - shift));
    if (fixed >= 0x2000000u || (fixed & 0xFFFFu) - 0x7FFEu < 4u) {
        return irs_requantize_exact(acc, multiplier, zero_point);
    }
    int32_t magnitude = (int32_t)((fixed + 0x8000u) >> 16);
    return irs_saturate((acc < 0 ? -magnitude : magnitude) + zero_point);
}
#else
#if defined(__riscv) /* rounding to an integral float would be a library call */
IRS_INLINE int32_t irs_rint(float v) { return irs_rint_by_addition(v); }
#else
IRS_INLINE int32_t irs_rint(float v) { return (int32_t)__builtin_rintf(v); }
#endif
IRS_INLINE int8_t irs_requantize(int32_t acc, float multiplier, int32_t zero_point)
{
    float v = (float)acc * multiplier; /* clamped first: a conversion out of range is undefined */
    v = v < -512.0f ? -512.0f : v > 512.0f ? 512.0f : v;
    return (int8_t)irs_clamp_i32(irs_rint(v) + zero_point, -128, 127);
}
#endif

/* clip(rint(v) + zero_point, -128, 127); NaN gives zero_point */
IRS_INLINE int8_t irs_quantize(float v, int32_t zero_point)
{
    v = v < -512.0f ? -512.0f : v > 512.0f ? 512.0f : v == v ? v : 0.0f;
    return irs_saturate(irs_rint(v) + zero_point);
}

/* acc >> shift, made even where the bits shifted out are all 0: half_even if acc holds half a step, shift > 0 */
IRS_INLINE int32_t irs_shift_to_even(int32_t acc, int32_t shift, int32_t mask)
{
    int32_t q = acc >> shift;
    return (acc & mask) == 0 ? q & ~1 : q;
}

/* half_even(acc / 2^shift), shift in 0..30 */
IRS_INLINE int32_t irs_shift_half_even(int32_t acc, int32_t shift)
{
    int32_t half = (1 << shift) >> 1;
    return (acc + half - (half != 0) + (half != 0 ? (acc >> shift) & 1 : 0)) >> shift;
}

IRS_NOINLINE void irs_fill(int8_t *p, int32_t value, int32_t n)
{
    int32_t word = (int32_t)((uint32_t)(value & 0xFF) * 0x01010101u);
    for (; n >= 4; n -= 4, p += 4) {
        irs_store32(p, word);
    }
    for (; n > 0; --n) {
        *p++ = (int8_t)value;
    }
}

/* 16 bytes, all loads before the first store. */
IRS_INLINE void irs_copy16(int8_t *to, const int8_t *from)
{
    int32_t a = irs_load32(from), b = irs_load32(from + 4);
    int32_t c = irs_load32(from + 8), d = irs_load32(from + 12);
    irs_store32(to, a);
    irs_store32(to + 4, b);
    irs_store32(to + 8, c);
    irs_store32(to + 12, d);
}

IRS_NOINLINE void irs_copy(int8_t *to, const int8_t *from, int32_t n)
{
    for (; n >= 16; n -= 16, to += 16, from += 16) {
        irs_copy16(to, from);
    }
    for (; n > 0; --n) {
        *to++ = *from++;
    }
}

/* irs_fill and irs_copy in whole words: up to 3 bytes past the end are written, too, for the next run to
 * overwrite, and as many may be read. */
IRS_INLINE void irs_fill_words(int8_t *p, int32_t value, int32_t n)
{
    int32_t word = (int32_t)((uint32_t)(value & 0xFF) * 0x01010101u);
    for (; n > 0; n -= 4, p += 4) {
        irs_store32(p, word);
    }
}

IRS_INLINE void irs_copy_words(int8_t *to, const int8_t *from, int32_t n)
{
    for (; n >= 16; n -= 16, to += 16, from += 16) {
        irs_copy16(to, from);
    }
    for (; n > 0; n -= 4, to += 4, from += 4) {
        irs_store32(to, irs_load32(from));
    }
}

/* The window of one output pixel as contiguous bytes [rows][columns][run]: `run` of the `channels` bytes of
 * each pixel of x, which is `in_h` by `in_w`; outside of it `value`. */
IRS_NOINLINE void irs_patch(int8_t *to, const int8_t *x, int32_t top, int32_t left, int32_t rows,
                            int32_t columns, int32_t dilation_h, int32_t dilation_w, int32_t in_h,
                            int32_t in_w, int32_t channels, int32_t run, int32_t value)
{
    int32_t row_bytes = columns * run;
    int32_t first = left < 0 ? irs_min_i32(-left, columns) : 0;
    int32_t last = irs_max_i32(irs_min_i32(in_w - left, columns), first);
    for (int32_t ky = 0; ky < rows; ++ky, top += dilation_h, to += row_bytes) {
        if (top < 0 || top >= in_h) {
            irs_fill_words(to, value, row_bytes);
        } else if (dilation_w == 1 && run == channels) {
            irs_fill_words(to, value, first * run);
            irs_copy_words(to + first * run, x + (top * in_w + left + first) * run, (last - first) * run);
            irs_fill_words(to + last * run, value, (columns - last) * run);
        } else {
            for (int32_t kx = 0; kx < columns; ++kx) {
                int32_t column = left + kx * dilation_w;
                if (column < 0 || column >= in_w) {
                    irs_fill_words(to + kx * run, value, run);
                } else {
                    irs_copy_words(to + kx * run, x + (top * in_w + column) * channels, run);
                }
            }
        }
    }
}

/* One padded row: `left` bytes of `value`, the row (all `value` when it lies outside), `right` bytes. */
IRS_NOINLINE void irs_pad_row(int8_t *to, const int8_t *x, int32_t row, int32_t rows, int32_t row_bytes,
                              int32_t left, int32_t right, int32_t value)
{
    if (row < 0 || row >= rows) {
        irs_fill(to, value, left + row_bytes + right);
        return;
    }
    irs_fill(to, value, left);
    irs_copy(to + left, x + row * row_bytes, row_bytes);
    irs_fill(to + left + row_bytes, value, right);
}

#endif
