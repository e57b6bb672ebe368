/* 64-bit Arm with float16 arithmetic: vectors of eight or four numbers, loaded from their bits or from bytes. */
#ifndef IRSHRINK_NEON_HALVES_H
#define IRSHRINK_NEON_HALVES_H

#include "irshrink_neon.h"

typedef float16x8_t irs_float16x8;
typedef float16x4_t irs_float16x4;

IRS_INLINE float16x8_t irs_halves_load_f16x8(const int16_t *p) { return vreinterpretq_f16_s16(vld1q_s16(p)); }
IRS_INLINE float16x4_t irs_halves_load_f16x4(const int16_t *p) { return vreinterpret_f16_s16(vld1_s16(p)); }
IRS_INLINE float16x8_t irs_halves_floats8(const int8_t *p) { return vreinterpretq_f16_s8(vld1q_s8(p)); }
IRS_INLINE float16x4_t irs_halves_floats4(const int8_t *p) { return vreinterpret_f16_s8(vld1_s8(p)); }
IRS_INLINE float16x8_t irs_halves_zero_f16x8(void) { return vreinterpretq_f16_s16(vdupq_n_s16(0)); }
IRS_INLINE float16x4_t irs_halves_zero_f16x4(void) { return vreinterpret_f16_s16(vdup_n_s16(0)); }

/* Fused multiply-add, by a lane of x (a literal) or of whole vectors. */
#define irs_halves_fma_lane8(acc, w, x, lane) vfmaq_laneq_f16(acc, w, x, lane)
#define irs_halves_fma_lane4(acc, w, x, lane) vfma_laneq_f16(acc, w, x, lane)
IRS_INLINE float16x8_t irs_halves_fma8(float16x8_t acc, float16x8_t x, float16x8_t w) { return vfmaq_f16(acc, x, w); }
IRS_INLINE float16x4_t irs_halves_fma4(float16x4_t acc, float16x4_t x, float16x4_t w) { return vfma_f16(acc, x, w); }
IRS_INLINE float16x8_t irs_halves_plus_f16x8(float16x8_t a, float16x8_t b) { return vaddq_f16(a, b); }
IRS_INLINE float16x4_t irs_halves_plus_f16x4(float16x4_t a, float16x4_t b) { return vadd_f16(a, b); }
IRS_INLINE float16x8_t irs_halves_minus_f16x8(float16x8_t a, float16x8_t b) { return vsubq_f16(a, b); }
IRS_INLINE float16x4_t irs_halves_minus_f16x4(float16x4_t a, float16x4_t b) { return vsub_f16(a, b); }

/* Totals stay in memory: compilers would keep them in registers, and what is multiplied in memory. */
IRS_INLINE void irs_halves_in_memory(const void *totals) { __asm__ volatile("" : : "r"(totals) : "memory"); }

/* The end of a sum (without -0), clips, and stores among bytes. */
IRS_INLINE float16x8_t irs_halves_sum_f16x8(float16x8_t v) { return vaddq_f16(v, irs_halves_zero_f16x8()); }
IRS_INLINE float16x4_t irs_halves_sum_f16x4(float16x4_t v) { return vadd_f16(v, irs_halves_zero_f16x4()); }
IRS_INLINE float16x8_t irs_halves_atleast_f16x8(float16x8_t v, float low)
{
    return vmaxq_f16(v, vdupq_n_f16((float16_t)low));
}
IRS_INLINE float16x4_t irs_halves_atleast_f16x4(float16x4_t v, float low)
{
    return vmax_f16(v, vdup_n_f16((float16_t)low));
}
IRS_INLINE float16x8_t irs_halves_atmost_f16x8(float16x8_t v, float high)
{
    return vminq_f16(v, vdupq_n_f16((float16_t)high));
}
IRS_INLINE float16x4_t irs_halves_atmost_f16x4(float16x4_t v, float high)
{
    return vmin_f16(v, vdup_n_f16((float16_t)high));
}
IRS_INLINE void irs_halves_store_f16x8(int8_t *p, float16x8_t v) { vst1q_s8(p, vreinterpretq_s8_f16(v)); }
IRS_INLINE void irs_halves_store_f16x4(int8_t *p, float16x4_t v) { vst1_s8(p, vreinterpret_s8_f16(v)); }

#endif
