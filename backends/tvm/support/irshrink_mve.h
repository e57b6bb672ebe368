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

/* Lanes 0 and 2, then lanes 1 and 3, from two registers each. */
IRS_INLINE irs_int32x4 irs_mve_even_lanes(int32_t a, int32_t b)
{
    irs_int32x4 v;
#ifdef IRS_MVE
    __asm__("vmov %q0[2], %q0[0], %1, %2" : "=w"(v) : "r"(a), "r"(b));
#else
    v = (irs_int32x4){a, 0, b, 0};
#endif
    return v;
}

IRS_INLINE irs_int32x4 irs_mve_odd_lanes(irs_int32x4 v, int32_t a, int32_t b)
{
#ifdef IRS_MVE
    __asm__("vmov %q0[3], %q0[1], %1, %2" : "+w"(v) : "r"(a), "r"(b));
#else
    v[1] = a;
    v[3] = b;
#endif
    return v;
}

/* Products of the even bytes, or of the odd ones. */
IRS_INLINE irs_int16x8 irs_mve_mul_even(irs_int8x16 a, irs_int8x16 b)
{
#ifdef IRS_MVE
    return vmullbq_int_s8(a, b);
#else
    irs_int16x8 v;
    for (int i = 0; i < 8; ++i) {
        v[i] = (int16_t)(a[2 * i] * b[2 * i]);
    }
    return v;
#endif
}

IRS_INLINE irs_int16x8 irs_mve_mul_odd(irs_int8x16 a, irs_int8x16 b)
{
#ifdef IRS_MVE
    return vmulltq_int_s8(a, b);
#else
    irs_int16x8 v;
    for (int i = 0; i < 8; ++i) {
        v[i] = (int16_t)(a[2 * i + 1] * b[2 * i + 1]);
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

IRS_INLINE irs_int16x8 irs_mve_sum16(irs_int16x8 a, irs_int16x8 b)
{
#ifdef IRS_MVE
    return vaddq_s16(a, b);
#else
    return a + b;
#endif
}

/* rint((float)acc * multiplier), half to even, saturated; multipliers are the bits of floats. */
IRS_INLINE irs_int32x4 irs_mve_scale(irs_int32x4 acc, irs_int32x4 multiplier)
{
#ifdef IRS_MVE
    irs_int32x4 v;
    __asm__(".arch_extension mve.fp\n\t"
            "vcvt.f32.s32 %q0, %q1\n\t"
            "vmul.f32 %q0, %q0, %q2\n\t"
            "vcvtn.s32.f32 %q0, %q0"
            : "=&w"(v)
            : "w"(acc), "w"(multiplier));
    return v;
#else
    for (int i = 0; i < 4; ++i) {
        int32_t bits = multiplier[i];
        float m, v;
        __builtin_memcpy(&m, &bits, 4);
        v = (float)acc[i] * m; /* clamped first: a conversion out of range is undefined */
        acc[i] = irs_rint(v < -65536.0f ? -65536.0f : v > 65536.0f ? 65536.0f : v);
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
IRS_INLINE irs_int32x4 irs_mve_weighted(irs_int32x4 a, irs_int32x4 b, int32_t m_a, int32_t m_b, int32_t offset,
                                        int32_t shift)
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

/* Even bytes from a, odd ones from b, saturated; all of them, or the first n. */
IRS_INLINE void irs_mve_store16(int8_t *p, irs_int16x8 a, irs_int16x8 b)
{
#ifdef IRS_MVE
    vstrbq_s8(p, vqmovntq_s16(irs_mve_saturated(a), b));
#else
    for (int i = 0; i < 16; ++i) {
        p[i] = (int8_t)irs_clamp_i32(i % 2 ? b[i / 2] : a[i / 2], -128, 127);
    }
#endif
}

IRS_INLINE void irs_mve_store16_part(int8_t *p, irs_int16x8 a, irs_int16x8 b, int32_t n)
{
#ifdef IRS_MVE
    vstrbq_p_s8(p, vqmovntq_s16(irs_mve_saturated(a), b), vctp8q((uint32_t)n));
#else
    for (int i = 0; i < 16 && i < n; ++i) {
        p[i] = (int8_t)irs_clamp_i32(i % 2 ? b[i / 2] : a[i / 2], -128, 127);
    }
#endif
}

/* n bytes. */
IRS_INLINE void irs_mve_copy(int8_t *to, const int8_t *from, int32_t n)
{
#ifdef IRS_MVE
    for (; n > 0; n -= 16, to += 16, from += 16) {
        mve_pred16_t some = vctp8q((uint32_t)n);
        vstrbq_p_s8(to, vldrbq_z_s8(from, some), some);
    }
#else
    for (; n > 0; --n) {
        *to++ = *from++;
    }
#endif
}

IRS_INLINE void irs_mve_fill(int8_t *p, int32_t value, int32_t n)
{
#ifdef IRS_MVE
    int8x16_t bytes = vdupq_n_s8((int8_t)value);
    for (; n > 0; n -= 16, p += 16) {
        vstrbq_p_s8(p, bytes, vctp8q((uint32_t)n));
    }
#else
    for (; n > 0; --n) {
        *p++ = (int8_t)value;
    }
#endif
}

/* The window of one output pixel as contiguous bytes [rows][columns][run]: `run` of the `channels` bytes of
 * each pixel of x, which is `in_h` by `in_w`; outside of it `value`. `pitch` bytes are written at most. */
IRS_INLINE void irs_mve_patch(int8_t *to, const int8_t *x, int32_t top, int32_t left, int32_t rows,
                              int32_t columns, int32_t dilation_h, int32_t dilation_w, int32_t in_h,
                              int32_t in_w, int32_t channels, int32_t run, int32_t value, int32_t pitch)
{
    int32_t bottom = top + (rows - 1) * dilation_h, right = left + (columns - 1) * dilation_w;
    if (top < 0 || left < 0 || bottom >= in_h || right >= in_w) {
        irs_mve_fill(to, value, pitch);
    }
    if (dilation_w == 1 && run == channels) {
        int32_t first = irs_max_i32(-left, 0), last = irs_min_i32(in_w - left, columns);
        for (int32_t ky = 0; ky < rows; ++ky, top += dilation_h) {
            if (top >= 0 && top < in_h) {
                irs_mve_copy(to + (ky * columns + first) * run, x + (top * in_w + left + first) * run,
                             (last - first) * run);
            }
        }
        return;
    }
    for (int32_t ky = 0; ky < rows; ++ky, top += dilation_h) {
        for (int32_t kx = 0, column = left; kx < columns; ++kx, column += dilation_w) {
            if (top >= 0 && top < in_h && column >= 0 && column < in_w) {
                irs_mve_copy(to + (ky * columns + kx) * run, x + (top * in_w + column) * channels, run);
            }
        }
    }
}

/* One padded row: `left` bytes of `value`, the row (all `value` when it lies outside), `right` bytes. */
IRS_NOINLINE void irs_mve_pad_row(int8_t *to, const int8_t *x, int32_t row, int32_t rows, int32_t row_bytes,
                                  int32_t left, int32_t right, int32_t value)
{
    if (row < 0 || row >= rows) {
        irs_mve_fill(to, value, left + row_bytes + right);
        return;
    }
    irs_mve_fill(to, value, left);
    irs_mve_copy(to + left, x + row * row_bytes, row_bytes);
    irs_mve_fill(to + left + row_bytes, value, right);
}

#endif
