/* 64-bit Arm: vectors of 16 bytes and the instructions that the generated kernels use.
 *
 * Every function is one or a few instructions. What depends on an extension (dot products, int8 matrix
 * products) is only there where the compiler targets it; kernels call it only for such targets.
 */
#ifndef IRSHRINK_NEON_H
#define IRSHRINK_NEON_H

#include <arm_neon.h>

typedef int8x16_t irs_int8x16;
typedef int8x8_t irs_int8x8;
typedef int16x8_t irs_int16x8;
typedef int32x4_t irs_int32x4;
typedef float32x4_t irs_float32x4;

/* Loads and stores, from and to any address. */
IRS_INLINE int8x16_t irs_neon_load(const int8_t *p) { return vld1q_s8(p); }
IRS_INLINE int8x8_t irs_neon_load8(const int8_t *p) { return vld1_s8(p); }
IRS_INLINE int32x4_t irs_neon_load_i32(const int32_t *p) { return vld1q_s32(p); }
IRS_INLINE float32x4_t irs_neon_load_f32(const float *p) { return vld1q_f32(p); }
IRS_INLINE int8x8_t irs_neon_load4(const int8_t *p)
{
    int32_t word;
    __builtin_memcpy(&word, p, 4);
    return vreinterpret_s8_s32(vdup_n_s32(word));
}
IRS_INLINE void irs_neon_store(int8_t *p, int8x16_t v) { vst1q_s8(p, v); }
IRS_INLINE void irs_neon_store8(int8_t *p, int8x8_t v) { vst1_s8(p, v); }
IRS_INLINE void irs_neon_store4(int8_t *p, int8x8_t v)
{
    int32_t word = vget_lane_s32(vreinterpret_s32_s8(v), 0);
    __builtin_memcpy(p, &word, 4);
}
/* v, computed before what is written after it: else compilers keep products of a long tile waiting in more
 * registers than there are. */
IRS_INLINE int32x4_t irs_neon_now(int32x4_t v)
{
    __asm__ volatile("" : "+w"(v));
    return v;
}
/* a and b, loaded by now: neighbours in memory come by one instruction. */
IRS_INLINE void irs_neon_both(int8x16_t a, int8x16_t b) { __asm__ volatile("" : : "w"(a), "w"(b)); }
IRS_INLINE int32x4_t irs_neon_zero(void) { return vdupq_n_s32(0); }
IRS_INLINE int32x4_t irs_neon_add(int32x4_t a, int32x4_t b) { return vaddq_s32(a, b); }

IRS_INLINE void irs_neon_copy32(int8_t *to, const int8_t *from)
{
    int8x16_t a = vld1q_s8(from), b = vld1q_s8(from + 16);
    vst1q_s8(to, a);
    vst1q_s8(to + 16, b);
}
IRS_INLINE void irs_neon_copy64(int8_t *to, const int8_t *from)
{
    int8x16_t a = vld1q_s8(from), b = vld1q_s8(from + 16), c = vld1q_s8(from + 32), d = vld1q_s8(from + 48);
    vst1q_s8(to, a);
    vst1q_s8(to + 16, b);
    vst1q_s8(to + 32, c);
    vst1q_s8(to + 48, d);
}

/* n bytes; reads and writes nothing else. */
IRS_INLINE void irs_neon_copy(int8_t *to, const int8_t *from, int32_t n)
{
    int32_t i = 0;
    for (; i + 64 <= n; i += 64) {
        irs_neon_copy64(to + i, from + i);
    }
    if (i + 32 <= n) {
        irs_neon_copy32(to + i, from + i);
        i += 32;
    }
    if (i + 16 <= n) {
        vst1q_s8(to + i, vld1q_s8(from + i));
        i += 16;
    }
    if (i == n) {
        return;
    }
    if (n >= 16) {
        vst1q_s8(to + n - 16, vld1q_s8(from + n - 16));
        return;
    }
    if (i + 8 <= n) {
        vst1_s8(to + i, vld1_s8(from + i));
        i += 8;
    }
    for (; i < n; ++i) {
        to[i] = from[i];
    }
}

IRS_INLINE void irs_neon_fill(int8_t *to, int32_t value, int32_t n)
{
    int8x16_t v = vdupq_n_s8((int8_t)value);
    int32_t i = 0;
    for (; i + 16 <= n; i += 16) {
        vst1q_s8(to + i, v);
    }
    if (i < n && n >= 16) {
        vst1q_s8(to + n - 16, v);
        return;
    }
    if (i + 8 <= n) {
        vst1_s8(to + i, vget_low_s8(v));
        i += 8;
    }
    for (; i < n; ++i) {
        to[i] = (int8_t)value;
    }
}

/* One padded row: `left` bytes of `value`, the row (all `value` when it lies outside), `right` bytes. */
IRS_INLINE void irs_neon_pad_row(int8_t *to, const int8_t *x, int32_t row, int32_t rows, int32_t row_bytes,
                                 int32_t left, int32_t right, int32_t value)
{
    if (row < 0 || row >= rows) {
        irs_neon_fill(to, value, left + row_bytes + right);
        return;
    }
    irs_neon_fill(to, value, left);
    irs_neon_copy(to + left, x + row * row_bytes, row_bytes);
    irs_neon_fill(to + left + row_bytes, value, right);
}

/* Up to 8 or 16 bytes, by moving 8 or 16. */
IRS_INLINE void irs_neon_move4(int8_t *to, const int8_t *from) { __builtin_memcpy(to, from, 4); }
IRS_INLINE void irs_neon_move8(int8_t *to, const int8_t *from) { vst1_s8(to, vld1_s8(from)); }
IRS_INLINE void irs_neon_move16(int8_t *to, const int8_t *from) { vst1q_s8(to, vld1q_s8(from)); }

/* Products of int8 without dot product instructions: 16 in 16 bits, two to a lane; the compiler knows that no
 * sum of two exceeds 16 bits. `_begin` starts a sum, the others add to one. */
IRS_INLINE int16x8_t irs_neon_products(int8x16_t x, int8x16_t w)
{
    return vmlal_high_s8(vmull_s8(vget_low_s8(x), vget_low_s8(w)), x, w);
}
IRS_INLINE int16x8_t irs_neon_more_products(int16x8_t sum, int8x16_t x, int8x16_t w)
{
    return vmlal_high_s8(vmlal_s8(sum, vget_low_s8(x), vget_low_s8(w)), x, w);
}
IRS_INLINE int16x8_t irs_neon_more_low(int16x8_t sum, int8x16_t x, int8x16_t w)
{
    return vmlal_s8(sum, vget_low_s8(x), vget_low_s8(w));
}
IRS_INLINE int16x8_t irs_neon_more_high(int16x8_t sum, int8x16_t x, int8x16_t w)
{
    return vmlal_high_s8(sum, x, w);
}
IRS_INLINE int16x8_t irs_neon_more8(int16x8_t sum, int8x8_t x, int8x8_t w) { return vmlal_s8(sum, x, w); }
IRS_INLINE int32x4_t irs_neon_widen_low(int32x4_t acc, int16x8_t products)
{
    return irs_neon_now(vaddw_s16(acc, vget_low_s16(products)));
}
IRS_INLINE int32x4_t irs_neon_widen_high(int32x4_t acc, int16x8_t products)
{
    return irs_neon_now(vaddw_high_s16(acc, products));
}
IRS_INLINE int16x8_t irs_neon_products_low(int8x16_t x, int8x16_t w)
{
    return vmull_s8(vget_low_s8(x), vget_low_s8(w));
}
IRS_INLINE int16x8_t irs_neon_products_high(int8x16_t x, int8x16_t w) { return vmull_high_s8(x, w); }
IRS_INLINE int16x8_t irs_neon_products8(int8x8_t x, int8x8_t w) { return vmull_s8(x, w); }
IRS_INLINE int32x4_t irs_neon_pairs(int16x8_t products) { return irs_neon_now(vpaddlq_s16(products)); }
IRS_INLINE int32x4_t irs_neon_add_pairs(int32x4_t acc, int16x8_t products)
{
    return irs_neon_now(vpadalq_s16(acc, products));
}
/* The sums of four vectors' lanes. */
IRS_INLINE int32x4_t irs_neon_sums(int32x4_t a, int32x4_t b, int32x4_t c, int32x4_t d)
{
    return vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d));
}

/* a0 b0 a1 b1 ... a7 b7; and the same of the lower and upper pairs of two such vectors. */
IRS_INLINE int8x16_t irs_neon_zip(int8x8_t a, int8x8_t b)
{
#if defined(__clang__)
    return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
#else
    return vzip1q_s8(vcombine_s8(a, a), vcombine_s8(b, b));
#endif
}
IRS_INLINE int8x16_t irs_neon_zip_low(int8x16_t a, int8x16_t b)
{
    return vreinterpretq_s8_s16(vzip1q_s16(vreinterpretq_s16_s8(a), vreinterpretq_s16_s8(b)));
}
IRS_INLINE int8x16_t irs_neon_zip_high(int8x16_t a, int8x16_t b)
{
    return vreinterpretq_s8_s16(vzip2q_s16(vreinterpretq_s16_s8(a), vreinterpretq_s16_s8(b)));
}

#if defined(__ARM_FEATURE_DOTPROD)
IRS_INLINE int32x4_t irs_neon_dot(int32x4_t acc, int8x16_t x, int8x16_t w)
{
    return irs_neon_now(vdotq_s32(acc, x, w));
}
/* Four channels: acc[c] += sum of w[4c + i] * x[4 lane + i]; lane is a literal. */
#define irs_neon_dot_lane(acc, w, x, lane) irs_neon_now(vdotq_laneq_s32(acc, w, x, lane))
#define irs_neon_dot_lane8(acc, w, x, lane) vdotq_lane_s32(acc, w, x, lane)
#endif

/* Sums of two pixels x two channels: 8 bytes of a and b in one vector, a bias for each pixel, and two such sums
 * as four channels of the first or of the second pixel. */
IRS_INLINE int8x16_t irs_neon_pair_low(int8x16_t a, int8x16_t b)
{
    return vreinterpretq_s8_s64(vzip1q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}
IRS_INLINE int8x16_t irs_neon_pair_high(int8x16_t a, int8x16_t b)
{
    return vreinterpretq_s8_s64(vzip2q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}
IRS_INLINE int32x4_t irs_neon_load_two(const int32_t *p) { return vcombine_s32(vld1_s32(p), vld1_s32(p)); }
IRS_INLINE int32x4_t irs_neon_channels_low(int32x4_t a, int32x4_t b)
{
    return vreinterpretq_s32_s64(vzip1q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}
IRS_INLINE int32x4_t irs_neon_channels_high(int32x4_t a, int32x4_t b)
{
    return vreinterpretq_s32_s64(vzip2q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}
#if defined(__ARM_FEATURE_MATMUL_INT8)
IRS_INLINE int32x4_t irs_neon_matrix(int32x4_t acc, int8x16_t x, int8x16_t w)
{
    return irs_neon_now(vmmlaq_s32(acc, x, w));
}
#endif

/* clip(rint((float)acc * multiplier) + zero) of eight accumulators: saturating steps commute with the clip. */
IRS_INLINE int16x4_t irs_neon_scaled(int32x4_t acc, float32x4_t multiplier)
{
    return vqmovn_s32(vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(acc), multiplier)));
}
IRS_INLINE int8x8_t irs_neon_requantize(int32x4_t a, int32x4_t b, float32x4_t ma, float32x4_t mb, int16x8_t zero)
{
    return vqmovn_s16(vqaddq_s16(vcombine_s16(irs_neon_scaled(a, ma), irs_neon_scaled(b, mb)), zero));
}
/* The same where results before the clip fit 16 bits: adding `magic`, 1.5 * 2^23 + an even zero point, rounds
 * half to even and leaves the whole number in the low bits. */
IRS_INLINE float32x4_t irs_neon_magic(int32_t zero) { return vdupq_n_f32((float)(12582912 + zero)); }
IRS_INLINE int16x8_t irs_neon_rounded(int32x4_t a, int32x4_t b, float32x4_t ma, float32x4_t mb, float32x4_t magic)
{
    float32x4_t low = vaddq_f32(vmulq_f32(vcvtq_f32_s32(a), ma), magic);
    float32x4_t high = vaddq_f32(vmulq_f32(vcvtq_f32_s32(b), mb), magic);
    return vuzp1q_s16(vreinterpretq_s16_f32(low), vreinterpretq_s16_f32(high));
}
IRS_INLINE int8x8_t irs_neon_requantize_magic(int32x4_t a, int32x4_t b, float32x4_t ma, float32x4_t mb,
                                              float32x4_t magic)
{
    return vqmovn_s16(irs_neon_rounded(a, b, ma, mb, magic));
}
IRS_INLINE int8x8_t irs_neon_requantize_magic_odd(int32x4_t a, int32x4_t b, float32x4_t ma, float32x4_t mb,
                                                  float32x4_t magic, int16x8_t zero)
{
    return vqmovn_s16(vaddq_s16(irs_neon_rounded(a, b, ma, mb, magic), zero));
}
/* The same in integers where the compiler proved it equal: floor(acc * multiplier / 2^(31 + shift) + 1/2). */
#define irs_neon_requantize_integer(a, b, ma, mb, zero, shift)                                                \
    vqmovn_s16(vqaddq_s16(vqrshrn_high_n_s32(vqrshrn_n_s32(vqdmulhq_s32(a, ma), shift),                       \
                                             vqdmulhq_s32(b, mb), shift), zero))

/* Residual addition, `offset` holding half a step: (q * ma + other * mb + offset >> shift) + zero. `even` where
 * sums can lie exactly between two steps: an odd step reached from exactly there falls back by one. */
IRS_INLINE int32x4_t irs_neon_total(int16x4_t q, int16x4_t other, int32_t ma, int32_t mb, int32_t offset)
{
    int32x4_t total = vmlaq_n_s32(vdupq_n_s32(offset), vmovl_s16(q), ma);
    return vmlaq_n_s32(total, vmovl_s16(other), mb);
}
IRS_INLINE int32x4_t irs_neon_to_even(int32x4_t total, int32_t shift)
{
    int32x4_t low = vandq_s32(total, vdupq_n_s32((int32_t)((2u << shift) - 1)));
    return vaddq_s32(total, vreinterpretq_s32_u32(vceqq_s32(low, vdupq_n_s32((int32_t)(1u << shift)))));
}
IRS_INLINE int8x8_t irs_neon_stepped(int32x4_t low, int32x4_t high, int32_t zero, int32_t shift)
{
    if (shift >= 17 && shift <= 24) { /* floor(floor(t / 2^16) / 2^(shift - 16)) */
        int16x8_t top = vuzp2q_s16(vreinterpretq_s16_s32(low), vreinterpretq_s16_s32(high));
        top = vqaddq_s16(top, vdupq_n_s16((int16_t)(zero * (1 << (shift - 16)))));
        return vqmovn_s16(vshlq_s16(top, vdupq_n_s16((int16_t)(16 - shift))));
    }
    int32x4_t by = vdupq_n_s32(-shift);
    int16x8_t q = vcombine_s16(vqmovn_s32(vshlq_s32(low, by)), vqmovn_s32(vshlq_s32(high, by)));
    return vqmovn_s16(vqaddq_s16(q, vdupq_n_s16((int16_t)zero)));
}
IRS_INLINE int8x8_t irs_neon_residual8(int8x8_t q, int8x8_t other, int32_t ma, int32_t mb, int32_t offset,
                                       int32_t zero, int32_t shift)
{
    int16x8_t a = vmovl_s8(q), b = vmovl_s8(other);
    int32x4_t low = irs_neon_total(vget_low_s16(a), vget_low_s16(b), ma, mb, offset);
    int32x4_t high = irs_neon_total(vget_high_s16(a), vget_high_s16(b), ma, mb, offset);
    return irs_neon_stepped(low, high, zero, shift);
}
IRS_INLINE int8x8_t irs_neon_residual8_even(int8x8_t q, int8x8_t other, int32_t ma, int32_t mb, int32_t offset,
                                            int32_t zero, int32_t shift)
{
    int16x8_t a = vmovl_s8(q), b = vmovl_s8(other);
    int32x4_t low = irs_neon_total(vget_low_s16(a), vget_low_s16(b), ma, mb, offset);
    int32x4_t high = irs_neon_total(vget_high_s16(a), vget_high_s16(b), ma, mb, offset);
    return irs_neon_stepped(irs_neon_to_even(low, shift), irs_neon_to_even(high, shift), zero, shift);
}
IRS_INLINE int8x16_t irs_neon_residual(int8x16_t q, int8x16_t other, int32_t ma, int32_t mb, int32_t offset,
                                       int32_t zero, int32_t shift)
{
    int8x8_t low = irs_neon_residual8(vget_low_s8(q), vget_low_s8(other), ma, mb, offset, zero, shift);
    int8x8_t high = irs_neon_residual8(vget_high_s8(q), vget_high_s8(other), ma, mb, offset, zero, shift);
    return vcombine_s8(low, high);
}
IRS_INLINE int8x16_t irs_neon_residual_even(int8x16_t q, int8x16_t other, int32_t ma, int32_t mb, int32_t offset,
                                            int32_t zero, int32_t shift)
{
    int8x8_t low = irs_neon_residual8_even(vget_low_s8(q), vget_low_s8(other), ma, mb, offset, zero, shift);
    int8x8_t high = irs_neon_residual8_even(vget_high_s8(q), vget_high_s8(other), ma, mb, offset, zero, shift);
    return vcombine_s8(low, high);
}

IRS_INLINE int16x8_t irs_neon_splat16(int32_t v) { return vdupq_n_s16((int16_t)v); }
IRS_INLINE int8x16_t irs_neon_splat8(int32_t v) { return vdupq_n_s8((int8_t)v); }
IRS_INLINE int8x16_t irs_neon_join(int8x8_t low, int8x8_t high) { return vcombine_s8(low, high); }
IRS_INLINE int8x8_t irs_neon_low(int8x16_t v) { return vget_low_s8(v); }
IRS_INLINE int8x16_t irs_neon_clamp(int8x16_t v, int8x16_t low, int8x16_t high)
{
    return vminq_s8(vmaxq_s8(v, low), high);
}
IRS_INLINE int8x8_t irs_neon_clamp8(int8x8_t v, int8x16_t low, int8x16_t high)
{
    return vmin_s8(vmax_s8(v, vget_low_s8(low)), vget_low_s8(high));
}

/* float32: numbers among bytes, fused multiply-add by lane (a literal) and its negative, the end of a sum (without
 * -0, clipped). */
IRS_INLINE float32x4_t irs_neon_load_f32x4(const float *p) { return vld1q_f32(p); }
IRS_INLINE float32x4_t irs_neon_floats4(const int8_t *p) { return vld1q_f32((const float *)(const void *)p); }
IRS_INLINE float32x4_t irs_neon_fma4(float32x4_t acc, float32x4_t x, float32x4_t w) { return vfmaq_f32(acc, x, w); }
#define irs_neon_fma_lane(acc, w, x, lane) vfmaq_laneq_f32(acc, w, x, lane)
IRS_INLINE float32x4_t irs_neon_plus_f32x4(float32x4_t a, float32x4_t b) { return vaddq_f32(a, b); }
IRS_INLINE float32x4_t irs_neon_minus_f32x4(float32x4_t a, float32x4_t b) { return vsubq_f32(a, b); }
IRS_INLINE float32x4_t irs_neon_zero_f32x4(void) { return vdupq_n_f32(0.0f); }
IRS_INLINE float32x4_t irs_neon_times_f32x4(float32x4_t a, float32x4_t b) { return vmulq_f32(a, b); }
IRS_INLINE float32x4_t irs_neon_fms4(float32x4_t acc, float32x4_t x, float32x4_t w) { return vfmsq_f32(acc, x, w); }
IRS_INLINE float32x4_t irs_neon_splat_f32x4(const float *p) { return vld1q_dup_f32(p); }
IRS_INLINE float32x4_t irs_neon_sum_f32x4(float32x4_t v) { return vaddq_f32(v, vdupq_n_f32(0.0f)); }
IRS_INLINE float32x4_t irs_neon_atleast_f32x4(float32x4_t v, float low) { return vmaxq_f32(v, vdupq_n_f32(low)); }
IRS_INLINE float32x4_t irs_neon_atmost_f32x4(float32x4_t v, float high) { return vminq_f32(v, vdupq_n_f32(high)); }
IRS_INLINE void irs_neon_store_f32x4(int8_t *p, float32x4_t v) { vst1q_f32((float *)(void *)p, v); }

#endif
