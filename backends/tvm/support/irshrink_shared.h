/* Weights of 4 bits by vectors: a byte is 16 * A + B, and is multiplied as it is and by its lower half, 16 * B. */
#ifndef IRSHRINK_SHARED_H
#define IRSHRINK_SHARED_H

#if defined(__aarch64__)
#include "irshrink_neon.h"

/* 16 times the lower halves of all bytes. */
IRS_INLINE int8x16_t irs_shared_low(int8x16_t v) { return vshlq_n_s8(v, 4); }
IRS_INLINE int8x8_t irs_shared_low8(int8x8_t v) { return vshl_n_s8(v, 4); }
/* 16 times the upper halves; both halves as they are. */
IRS_INLINE int8x16_t irs_shared_high(int8x16_t v) { return vandq_s8(v, vdupq_n_s8(-16)); }
IRS_INLINE int8x16_t irs_shared_high_field(int8x16_t v) { return vshrq_n_s8(v, 4); }
IRS_INLINE int8x16_t irs_shared_low_field(int8x16_t v) { return vshrq_n_s8(vshlq_n_s8(v, 4), 4); }
IRS_INLINE int8x8_t irs_shared_high_field8(int8x8_t v) { return vshr_n_s8(v, 4); }
IRS_INLINE int8x8_t irs_shared_low_field8(int8x8_t v) { return vshr_n_s8(vshl_n_s8(v, 4), 4); }
/* b of 16 * b; a of 16 * a + b and b. */
IRS_INLINE int32x4_t irs_shared_second(int32x4_t sums) { return vshrq_n_s32(sums, 4); }
IRS_INLINE int32x4_t irs_shared_first(int32x4_t sums, int32x4_t b) { return vshrq_n_s32(vsubq_s32(sums, b), 4); }

#elif defined(__AVX2__)
#include "irshrink_x86.h"

IRS_INLINE __m256i irs_shared_low8(__m256i v)
{
    return _mm256_and_si256(_mm256_slli_epi16(v, 4), _mm256_set1_epi8((char)0xF0));
}
IRS_INLINE __m256i irs_shared_high8(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi8((char)0xF0)); }
/* The same of bytes that were widened. */
IRS_INLINE __m256i irs_shared_widened_high8(__m256i v) { return _mm256_and_si256(v, _mm256_set1_epi16(-16)); }
IRS_INLINE __m256i irs_shared_widened8(__m256i v) { return _mm256_srai_epi16(_mm256_slli_epi16(v, 12), 8); }
IRS_INLINE __m256i irs_shared_second8(__m256i sums) { return _mm256_srai_epi32(sums, 4); }
IRS_INLINE __m256i irs_shared_first8(__m256i sums, __m256i b)
{
    return _mm256_srai_epi32(_mm256_sub_epi32(sums, b), 4);
}
IRS_INLINE __m256i irs_shared_add8(__m256i a, __m256i b) { return _mm256_add_epi32(a, b); }
IRS_INLINE __m256i irs_shared_zero8(void) { return _mm256_setzero_si256(); }
#if defined(__AVX512VNNI__)
IRS_INLINE __m512i irs_shared_low16(__m512i v)
{
    return _mm512_and_si512(_mm512_slli_epi32(v, 4), _mm512_set1_epi8((char)0xF0));
}
IRS_INLINE __m512i irs_shared_high16(__m512i v) { return _mm512_and_si512(v, _mm512_set1_epi8((char)0xF0)); }
IRS_INLINE __m512i irs_shared_second16(__m512i sums) { return _mm512_srai_epi32(sums, 4); }
IRS_INLINE __m512i irs_shared_first16(__m512i sums, __m512i b)
{
    return _mm512_srai_epi32(_mm512_sub_epi32(sums, b), 4);
}
IRS_INLINE __m512i irs_shared_add16(__m512i a, __m512i b) { return _mm512_add_epi32(a, b); }
IRS_INLINE __m512i irs_shared_zero16(void) { return _mm512_setzero_si512(); }
#endif
#endif

#endif
