/* Helium (MVE) for the generated kernels: a few instructions each; elsewhere the same values in plain C.
 *
 * Requantization uses float vectors, by assembly: the compiler is not told of them, or it would use them for
 * the float operators of a model, where they flush subnormal numbers to zero. Here that changes nothing: a
 * whole number below 2^32 is none, and a product that is one, or has one as its factor, rounds to 0.
 */
#ifndef IRSHRINK_MVE_H
#define IRSHRINK_MVE_H

#include "irshrink_kernels.h"

#if defined(__ARM_FEATURE_MVE)
#include <arm_mve.h>
#define IRS_MVE 1
typedef int8x16_t irs_int8x16;
typedef int16x8_t irs_int16x8;
typedef int32x4_t irs_int32x4;
#else
typedef int8_t irs_int8x16 __attribute__((vector_size(16)));
typedef int16_t irs_int16x8 __attribute__((vector_size(16)));
typedef int32_t irs_int32x4 __attribute__((vector_size(16)));
#endif

/* i, unknown to the compiler: what is loaded from there is loaded again, not kept in a vector register. */
IRS_INLINE int32_t irs_mve_again(int32_t i)
{
    __asm__ volatile("" : "+r"(i));
    return i;
}

/* i, at least 1, unknown to the compiler otherwise: a loop of so many iterations is not unrolled. */
IRS_INLINE int32_t irs_mve_count(int32_t i)
{
    i = irs_mve_again(i);
    if (i < 1) {
        __builtin_unreachable();
    }
    return i;
}

/* 16 bytes from any address. */
IRS_INLINE irs_int8x16 irs_mve_load(const int8_t *p)
{
#ifdef IRS_MVE
    return vldrbq_s8(p);
#else
    irs_int8x16 v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
#endif
}

IRS_INLINE void irs_mve_store(int8_t *p, irs_int8x16 v)
{
#ifdef IRS_MVE
    vstrbq_s8(p, v);
#else
    __builtin_memcpy(p, &v, sizeof v);
#endif
}

/* Four words; and the same as 16 bytes of packed weights. */
IRS_INLINE irs_int32x4 irs_mve_words(const int32_t *p)
{
#ifdef IRS_MVE
    return vldrwq_s32(p);
#else
    irs_int32x4 v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
#endif
}

IRS_INLINE irs_int8x16 irs_mve_weights(const int32_t *p)
{
#ifdef IRS_MVE
    return vreinterpretq_s8_s32(vldrwq_s32(p));
#else
    return irs_mve_load((const int8_t *)p);
#endif
}

/* 16 times the lowest four bits of every byte, two's complement; bytes without them. */
#ifdef IRS_MVE
IRS_INLINE irs_int8x16 irs_mve_low_nibbles(irs_int8x16 v) { return vshlq_n_s8(v, 4); }
IRS_INLINE irs_int8x16 irs_mve_high_nibbles(irs_int8x16 v) { return vandq_s8(v, vdupq_n_s8(-16)); }
#else
IRS_INLINE irs_int8x16 irs_mve_low_nibbles(irs_int8x16 v) { return v << 4; }
IRS_INLINE irs_int8x16 irs_mve_high_nibbles(irs_int8x16 v) { return v & -16; }
#endif

/* 8 bytes as int16. */
IRS_INLINE irs_int16x8 irs_mve_widened(const int8_t *p)
{
#ifdef IRS_MVE
    return vldrbq_s16(p);
#else
    irs_int16x8 v;
    for (int i = 0; i < 8; ++i) {
        v[i] = p[i];
    }
    return v;
#endif
}

/* acc + sum of 16 products. */
IRS_INLINE int32_t irs_mve_dot(int32_t acc, irs_int8x16 x, irs_int8x16 w)
{
#ifdef IRS_MVE
    return vmladavaq_s8(acc, x, w);
#else
    for (int i = 0; i < 16; ++i) {
        acc += x[i] * w[i];
    }
    return acc;
#endif
}

IRS_INLINE int32_t irs_mve_dot_first(irs_int8x16 x, irs_int8x16 w)
{
#ifdef IRS_MVE
    return vmladavq_s8(x, w);
#else
    return irs_mve_dot(0, x, w);
#endif
}

/* Lanes 0 and 2, then lanes 1 and 3, from two registers each. */
IRS_INLINE irs_int32x4 irs_mve_even_lanes(int32_t a, int32_t b)
{
    irs_int32x4 v;
#ifdef IRS_MVE
    __asm__ volatile("vmov %q0[2], %q0[0], %1, %2" : "=w"(v) : "r"(a), "r"(b));
#else
    v = (irs_int32x4){a, 0, b, 0};
#endif
    return v;
}

IRS_INLINE irs_int32x4 irs_mve_odd_lanes(irs_int32x4 v, int32_t a, int32_t b)
{
#ifdef IRS_MVE
    __asm__ volatile("vmov %q0[3], %q0[1], %1, %2" : "+w"(v) : "r"(a), "r"(b));
#else
    v[1] = a;
    v[3] = b;
#endif
    return v;
}

/* 16 bytes at the given distances from p. */
IRS_INLINE irs_int8x16 irs_mve_gather(const int8_t *p, irs_int8x16 distances)
{
#ifdef IRS_MVE
    return vldrbq_gather_offset_s8(p, vreinterpretq_u8_s8(distances));
#else
    irs_int8x16 v;
    for (int i = 0; i < 16; ++i) {
        v[i] = p[(uint8_t)distances[i]];
    }
    return v;
#endif
}

/* Even lanes, or odd ones, as int32. */
IRS_INLINE irs_int32x4 irs_mve_even(irs_int16x8 v)
{
#ifdef IRS_MVE
    return vmovlbq_s16(v);
#else
    return (irs_int32x4){v[0], v[2], v[4], v[6]};
#endif
}

IRS_INLINE irs_int32x4 irs_mve_odd(irs_int16x8 v)
{
#ifdef IRS_MVE
    return vmovltq_s16(v);
#else
    return (irs_int32x4){v[1], v[3], v[5], v[7]};
#endif
}

IRS_INLINE irs_int32x4 irs_mve_sum(irs_int32x4 a, irs_int32x4 b)
{
#ifdef IRS_MVE
    return vaddq_s32(a, b);
#else
    return a + b;
#endif
}

/* rint((float)acc * multiplier), half to even, saturated; multipliers are the bits of floats. */
IRS_INLINE irs_int32x4 irs_mve_scale(irs_int32x4 acc, irs_int32x4 multiplier)
{
#ifdef IRS_MVE
    __asm__(".arch_extension mve.fp\n\t"
            "vcvt.f32.s32 %q0, %q0\n\t"
            "vmul.f32 %q0, %q0, %q1\n\t"
            "vcvtn.s32.f32 %q0, %q0"
            : "+w"(acc)
            : "w"(multiplier));
#else
    for (int i = 0; i < 4; ++i) {
        int32_t bits = multiplier[i];
        float m, v;
        __builtin_memcpy(&m, &bits, 4);
        v = (float)acc[i] * m; /* clamped first: a conversion out of range is undefined */
        acc[i] = irs_rint(v < -65536.0f ? -65536.0f : v > 65536.0f ? 65536.0f : v);
    }
#endif
    return acc;
}

/* acc * 2^left modulo 2^32. */
IRS_INLINE irs_int32x4 irs_mve_shifted(irs_int32x4 acc, irs_int32x4 left)
{
#ifdef IRS_MVE
    return vshlq_s32(acc, left);
#else
    for (int i = 0; i < 4; ++i) {
        acc[i] = (int32_t)((uint32_t)acc[i] << left[i]);
    }
    return acc;
#endif
}

/* acc * multiplier / 2^31, rounded, times 2^right, right <= 0, halves away from zero: VRSHL rounds them up, hence
 * one less where it shifts a negative number. */
IRS_INLINE irs_int32x4 irs_mve_scale_fixed(irs_int32x4 acc, irs_int32x4 multiplier, irs_int32x4 right)
{
#ifdef IRS_MVE
    acc = vqrdmulhq_s32(acc, multiplier);
    return vrshlq_s32(vqaddq_s32(acc, vshrq_n_s32(vandq_s32(acc, right), 31)), right);
#else
    for (int i = 0; i < 4; ++i) {
        int64_t high = ((int64_t)acc[i] * multiplier[i] + (1 << 30)) >> 31;
        int64_t half = ((int64_t)1 << -right[i]) >> 1;
        acc[i] = (int32_t)(high < 0 ? -((half - high) >> -right[i]) : (high + half) >> -right[i]);
    }
    return acc;
#endif
}

/* Even lanes from a, odd ones from b, saturated to int16, and plus zero_point, saturated. */
IRS_INLINE irs_int16x8 irs_mve_narrow(irs_int32x4 a, irs_int32x4 b, int32_t zero_point)
{
#ifdef IRS_MVE
    irs_int16x8 v = vqmovnbq_s32(vreinterpretq_s16_s32(a), a);
    return vqaddq_n_s16(vqmovntq_s32(v, b), (int16_t)zero_point);
#else
    irs_int16x8 v;
    for (int i = 0; i < 8; ++i) {
        int32_t lane = irs_clamp_i32(i % 2 ? b[i / 2] : a[i / 2], -32768, 32767) + zero_point;
        v[i] = (int16_t)irs_clamp_i32(lane, -32768, 32767);
    }
    return v;
#endif
}

/* Every lane between low and high. */
IRS_INLINE irs_int16x8 irs_mve_clamp(irs_int16x8 v, int32_t low, int32_t high)
{
#ifdef IRS_MVE
    return vminq_s16(vmaxq_s16(v, vdupq_n_s16((int16_t)low)), vdupq_n_s16((int16_t)high));
#else
    for (int i = 0; i < 8; ++i) {
        v[i] = (int16_t)irs_clamp_i32(v[i], low, high);
    }
    return v;
#endif
}

/* a * m_a + b * m_b + offset, by 2^shift with half a step in the offset. */
IRS_INLINE irs_int32x4 irs_mve_weighted(irs_int32x4 a, irs_int32x4 b, int32_t m_a, int32_t m_b,
                                        int32_t offset, int32_t shift)
{
#ifdef IRS_MVE
    irs_int32x4 total = vaddq_n_s32(vmulq_n_s32(a, m_a), offset);
    return vshlq_r_s32(vmlaq_n_s32(total, b, m_b), -shift);
#else
    for (int i = 0; i < 4; ++i) {
        a[i] = (a[i] * m_a + b[i] * m_b + offset) >> shift;
    }
    return a;
#endif
}

/* The same, made even where the bits shifted out, those of mask, are all 0: there the sum was a tie. */
IRS_INLINE irs_int32x4 irs_mve_weighted_even(irs_int32x4 a, irs_int32x4 b, int32_t m_a, int32_t m_b,
                                             int32_t offset, int32_t shift, int32_t mask)
{
#ifdef IRS_MVE
    irs_int32x4 total = vmlaq_n_s32(vaddq_n_s32(vmulq_n_s32(a, m_a), offset), b, m_b);
    irs_int32x4 q = vshlq_r_s32(total, -shift);
    mve_pred16_t tie = vcmpeqq_n_s32(vandq_s32(total, vdupq_n_s32(mask)), 0);
    return vbicq_m_n_s32(q, 1, tie);
#else
    for (int i = 0; i < 4; ++i) {
        a[i] = irs_shift_to_even(a[i] * m_a + b[i] * m_b + offset, shift, mask);
    }
    return a;
#endif
}

/* Eight lanes as int8, saturated; all of them, or the first n. */
IRS_INLINE irs_int8x16 irs_mve_saturated(irs_int16x8 v)
{
#ifdef IRS_MVE
    return vqmovnbq_s16(vreinterpretq_s8_s16(v), v);
#else
    irs_int8x16 r = {0};
    for (int i = 0; i < 8; ++i) {
        r[2 * i] = (int8_t)irs_clamp_i32(v[i], -128, 127);
    }
    return r;
#endif
}

IRS_INLINE void irs_mve_store8(int8_t *p, irs_int16x8 v)
{
    irs_int8x16 r = irs_mve_saturated(v);
#ifdef IRS_MVE
    vstrbq_s16(p, vreinterpretq_s16_s8(r));
#else
    for (int i = 0; i < 8; ++i) {
        p[i] = r[2 * i];
    }
#endif
}

IRS_INLINE void irs_mve_store8_part(int8_t *p, irs_int16x8 v, int32_t n)
{
    irs_int8x16 r = irs_mve_saturated(v);
#ifdef IRS_MVE
    vstrbq_p_s16(p, vreinterpretq_s16_s8(r), vctp16q((uint32_t)n));
#else
    for (int i = 0; i < 8 && i < n; ++i) {
        p[i] = r[2 * i];
    }
#endif
}

/* The same for four lanes: narrowed into the even lanes of eight, loaded there, stored from there. */
IRS_INLINE irs_int16x8 irs_mve_narrow4(irs_int32x4 a, int32_t zero_point)
{
#ifdef IRS_MVE
    return vqaddq_n_s16(vqmovnbq_s32(vreinterpretq_s16_s32(a), a), (int16_t)zero_point);
#else
    return irs_mve_narrow(a, a, zero_point);
#endif
}

IRS_INLINE irs_int16x8 irs_mve_widened4(const int8_t *p)
{
#ifdef IRS_MVE
    return vreinterpretq_s16_s32(vldrbq_s32(p));
#else
    return (irs_int16x8){p[0], 0, p[1], 0, p[2], 0, p[3], 0};
#endif
}

IRS_INLINE void irs_mve_store4(int8_t *p, irs_int16x8 v)
{
    irs_int8x16 r = irs_mve_saturated(v);
#ifdef IRS_MVE
    vstrbq_s32(p, vreinterpretq_s32_s8(r));
#else
    for (int i = 0; i < 4; ++i) {
        p[i] = r[4 * i];
    }
#endif
}

IRS_INLINE void irs_mve_store4_part(int8_t *p, irs_int16x8 v, int32_t n)
{
    irs_int8x16 r = irs_mve_saturated(v);
#ifdef IRS_MVE
    vstrbq_p_s32(p, vreinterpretq_s32_s8(r), vctp32q((uint32_t)n));
#else
    for (int i = 0; i < 4 && i < n; ++i) {
        p[i] = r[4 * i];
    }
#endif
}

#endif
