/* x86-64 with AVX2, or with AVX-512 VNNI: vectors and the instructions that the generated kernels use.
 *
 * Every function is one or a few instructions; n in a name counts int32 lanes.
 */
#ifndef IRSHRINK_X86_H
#define IRSHRINK_X86_H

#include <immintrin.h>

typedef __m256i irs_int32x8;
typedef __m256 irs_float32x8;

/* Up to 4, 8 or 16 bytes, by moving so many. */
IRS_INLINE void irs_x86_move4(int8_t *to, const int8_t *from) { __builtin_memcpy(to, from, 4); }
IRS_INLINE void irs_x86_move8(int8_t *to, const int8_t *from) { __builtin_memcpy(to, from, 8); }
IRS_INLINE void irs_x86_move16(int8_t *to, const int8_t *from) { __builtin_memcpy(to, from, 16); }
IRS_INLINE __m256i irs_x86_load_i32x8(const int32_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }
IRS_INLINE __m256i irs_x86_load_i32x8_s8(const int8_t *p) { return _mm256_loadu_si256((const __m256i *)(const void *)p); }

/* 0x80 in every byte, of which a compiler cannot know it: else it adds before it spreads, in three instructions. */
IRS_INLINE __m256i irs_x86_signs8(void)
{
    __m256i v = _mm256_set1_epi8((char)0x80);
    __asm__("" : "+v"(v));
    return v;
}

/* Four bytes plus 128 each, in every lane. */
IRS_INLINE __m256i irs_x86_spread8(const int8_t *p, __m256i signs)
{
    return _mm256_xor_si256(_mm256_set1_epi32(irs_load32(p)), signs);
}
IRS_INLINE __m128i irs_x86_sixteen(const int8_t *p) { return _mm_loadu_si128((const __m128i *)(const void *)p); }
IRS_INLINE __m128i irs_x86_eight(const int8_t *p) { return _mm_loadl_epi64((const __m128i *)(const void *)p); }

/* Four bytes plus 128 each, in every lane: lane c has channel c of one to four rows. */
IRS_INLINE __m256i irs_x86_turn8(__m128i ab, __m128i cd)
{
    const __m256i gather = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    const __m256i turn = _mm256_broadcastsi128_si256(_mm_setr_epi32(0x0C080400, 0x0D090501, 0x0E0A0602, 0x0F0B0703));
    __m256i rows = _mm256_inserti128_si256(_mm256_castsi128_si256(ab), cd, 1);
    return _mm256_xor_si256(_mm256_shuffle_epi8(_mm256_permutevar8x32_epi32(rows, gather), turn), _mm256_set1_epi8((char)0x80));
}
IRS_INLINE __m256i irs_x86_column8_1(const int8_t *a)
{
    return _mm256_xor_si256(_mm256_cvtepu8_epi32(irs_x86_eight(a)), _mm256_set1_epi8((char)0x80));
}
IRS_INLINE __m256i irs_x86_column8_2(const int8_t *a, const int8_t *b)
{
    return irs_x86_turn8(_mm_unpacklo_epi64(irs_x86_eight(a), irs_x86_eight(b)), _mm_setzero_si128());
}
IRS_INLINE __m256i irs_x86_column8_3(const int8_t *a, const int8_t *b, const int8_t *c)
{
    return irs_x86_turn8(_mm_unpacklo_epi64(irs_x86_eight(a), irs_x86_eight(b)), irs_x86_eight(c));
}
IRS_INLINE __m256i irs_x86_column8_4(const int8_t *a, const int8_t *b, const int8_t *c, const int8_t *d)
{
    __m128i cd = _mm_unpacklo_epi64(irs_x86_eight(c), irs_x86_eight(d));
    return irs_x86_turn8(_mm_unpacklo_epi64(irs_x86_eight(a), irs_x86_eight(b)), cd);
}

/* rint((float)acc * multiplier), clipped to [low, high], + zero; low and high are whole numbers in int8 - zero. */
IRS_INLINE __m256i irs_x86_requantize8(__m256i acc, const float *multiplier, int32_t zero, float low, float high)
{
    __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(multiplier));
    v = _mm256_min_ps(_mm256_max_ps(v, _mm256_set1_ps(low)), _mm256_set1_ps(high));
    return _mm256_add_epi32(_mm256_cvtps_epi32(v), _mm256_set1_epi32(zero));
}

/* rint((float)acc * multiplier), which must fit int32. */
IRS_INLINE __m256i irs_x86_whole8(__m256i acc, const float *multiplier)
{
    return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(acc), _mm256_loadu_ps(multiplier)));
}

/* Four vectors plus `zero`, saturated to int8, one after the other; each saturation on the way keeps the last. */
IRS_INLINE __m256i irs_x86_join8(__m256i a, __m256i b, __m256i c, __m256i d, int32_t zero)
{
    const __m256i gather = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i z = _mm256_set1_epi16((short)zero);
    __m256i ab = _mm256_adds_epi16(_mm256_packs_epi32(a, b), z), cd = _mm256_adds_epi16(_mm256_packs_epi32(c, d), z);
    return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(ab, cd), gather);
}
IRS_INLINE __m256i irs_x86_clamp8(__m256i v, int32_t low, int32_t high)
{
    return _mm256_min_epi8(_mm256_max_epi8(v, _mm256_set1_epi8((char)low)), _mm256_set1_epi8((char)high));
}

/* The bytes of `count` of the four vectors from `first` on. */
IRS_INLINE void irs_x86_put8(int8_t *p, __m256i v, int32_t first, int32_t count)
{
    for (int32_t i = first; i < first + count; ++i, p += 8) {
        __m128i half = i < 2 ? _mm256_castsi256_si128(v) : _mm256_extracti128_si256(v, 1);
        if (i % 2 == 0) _mm_storel_epi64((__m128i *)(void *)p, half);
        else _mm_storeh_pd((double *)(void *)p, _mm_castsi128_pd(half));
    }
}

/* Residual addition, `offset` holding half a step: clip((q * ma + other * mb + offset >> shift) + zero). `even`
 * where sums can lie exactly between two steps: an odd step reached from exactly there falls back by one. */
IRS_INLINE __m256i irs_x86_total8(__m256i q, const int8_t *other, int32_t ma, int32_t mb, int32_t offset)
{
    __m256i b = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)other));
    b = _mm256_add_epi32(_mm256_mullo_epi32(b, _mm256_set1_epi32(mb)), _mm256_set1_epi32(offset));
    return _mm256_add_epi32(_mm256_mullo_epi32(q, _mm256_set1_epi32(ma)), b);
}
IRS_INLINE __m256i irs_x86_stepped8(__m256i total, int32_t shift, int32_t zero, int32_t low, int32_t high)
{
    __m256i v = _mm256_add_epi32(_mm256_sra_epi32(total, _mm_cvtsi32_si128(shift)), _mm256_set1_epi32(zero));
    return _mm256_min_epi32(_mm256_max_epi32(v, _mm256_set1_epi32(low)), _mm256_set1_epi32(high));
}
IRS_INLINE __m256i irs_x86_residual8(__m256i q, const int8_t *other, int32_t ma, int32_t mb, int32_t offset,
                                     int32_t shift, int32_t zero, int32_t low, int32_t high)
{
    return irs_x86_stepped8(irs_x86_total8(q, other, ma, mb, offset), shift, zero, low, high);
}
IRS_INLINE __m256i irs_x86_residual8_even(__m256i q, const int8_t *other, int32_t ma, int32_t mb, int32_t offset,
                                          int32_t shift, int32_t zero, int32_t low, int32_t high)
{
    __m256i total = irs_x86_total8(q, other, ma, mb, offset);
    __m256i part = _mm256_and_si256(total, _mm256_set1_epi32((int32_t)((2u << shift) - 1)));
    __m256i tie = _mm256_cmpeq_epi32(part, _mm256_set1_epi32((int32_t)(1u << shift)));
    return irs_x86_stepped8(_mm256_add_epi32(total, tie), shift, zero, low, high);
}

/* float32: numbers among bytes, fused multiply-add, the end of a sum (without -0, clipped, NaN kept). */
IRS_INLINE __m256 irs_x86_load_f32x8(const float *p) { return _mm256_loadu_ps(p); }
IRS_INLINE __m256 irs_x86_floats8(const int8_t *p) { return _mm256_loadu_ps((const float *)(const void *)p); }
IRS_INLINE __m256 irs_x86_spread_f32x8(const int8_t *p) { return _mm256_castsi256_ps(_mm256_set1_epi32(irs_load32(p))); }
IRS_INLINE __m256 irs_x86_fma8(__m256 acc, __m256 x, __m256 w) { return _mm256_fmadd_ps(x, w, acc); }
IRS_INLINE __m256 irs_x86_plus_f32x8(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }
IRS_INLINE __m256 irs_x86_minus_f32x8(__m256 a, __m256 b) { return _mm256_sub_ps(a, b); }
IRS_INLINE __m256 irs_x86_zero_f32x8(void) { return _mm256_setzero_ps(); }
IRS_INLINE __m256 irs_x86_times_f32x8(__m256 a, __m256 b) { return _mm256_mul_ps(a, b); }
IRS_INLINE __m256 irs_x86_fms8(__m256 acc, __m256 x, __m256 w) { return _mm256_fnmadd_ps(x, w, acc); }
IRS_INLINE __m256 irs_x86_splat_f32x8(const float *p) { return _mm256_set1_ps(*p); }
IRS_INLINE __m256 irs_x86_sum_f32x8(__m256 v) { return _mm256_add_ps(v, _mm256_setzero_ps()); }
IRS_INLINE __m256 irs_x86_atleast_f32x8(__m256 v, float low) { return _mm256_max_ps(_mm256_set1_ps(low), v); }
IRS_INLINE __m256 irs_x86_atmost_f32x8(__m256 v, float high) { return _mm256_min_ps(_mm256_set1_ps(high), v); }
IRS_INLINE void irs_x86_store_f32x8(int8_t *p, __m256 v) { _mm256_storeu_ps((float *)(void *)p, v); }

/* Two bytes of a pixel as int16 in every lane; two bytes of eight channels; one or two rows of eight channels. */
IRS_INLINE __m256i irs_x86_pair8(const int8_t *p)
{
    int16_t pair;
    __builtin_memcpy(&pair, p, 2);
    return _mm256_cvtepi8_epi16(_mm_set1_epi16(pair));
}
IRS_INLINE __m256i irs_x86_widen8(const int8_t *p) { return _mm256_cvtepi8_epi16(irs_x86_sixteen(p)); }
IRS_INLINE __m256i irs_x86_rows8_1(const int8_t *a) { return _mm256_cvtepi8_epi32(irs_x86_eight(a)); }
IRS_INLINE __m256i irs_x86_rows8_2(const int8_t *a, const int8_t *b)
{
    return _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(irs_x86_eight(a), irs_x86_eight(b)));
}
/* acc[c] += x[2c] * w[2c] + x[2c + 1] * w[2c + 1], int16. */
IRS_INLINE __m256i irs_x86_pairs8(__m256i acc, __m256i x, __m256i w)
{
    return _mm256_add_epi32(acc, _mm256_madd_epi16(x, w));
}

#ifdef __AVX512VNNI__

typedef __m512i irs_int32x16;
typedef __m512 irs_float32x16;

/* n bytes; reads and writes nothing else. */
IRS_INLINE void irs_x86_copy(int8_t *to, const int8_t *from, int32_t n)
{
    int32_t i = 0;
    for (; i + 32 <= n; i += 32) {
        _mm256_storeu_si256((__m256i *)(void *)(to + i), _mm256_loadu_si256((const __m256i *)(const void *)(from + i)));
    }
    __mmask32 rest = _bzhi_u32(0xFFFFFFFFu, (uint32_t)(n - i));
    _mm256_mask_storeu_epi8(to + i, rest, _mm256_maskz_loadu_epi8(rest, from + i));
}
IRS_INLINE void irs_x86_fill(int8_t *to, int32_t value, int32_t n)
{
    __m256i v = _mm256_set1_epi8((char)value);
    int32_t i = 0;
    for (; i + 32 <= n; i += 32) {
        _mm256_storeu_si256((__m256i *)(void *)(to + i), v);
    }
    _mm256_mask_storeu_epi8(to + i, _bzhi_u32(0xFFFFFFFFu, (uint32_t)(n - i)), v);
}

/* int32 lanes, saturated to int8. */
IRS_INLINE void irs_x86_store8(int8_t *p, __m256i v) { _mm_storel_epi64((__m128i *)(void *)p, _mm256_cvtsepi32_epi8(v)); }

/* acc[c] += sum of x[i] * w[4c + i], x unsigned. */
IRS_INLINE __m256i irs_x86_dot8(__m256i acc, __m256i x, __m256i w) { return _mm256_dpbusd_epi32(acc, x, w); }
IRS_INLINE __m512i irs_x86_load_i32x16(const int32_t *p) { return _mm512_loadu_si512(p); }
IRS_INLINE __m512i irs_x86_load_i32x16_s8(const int8_t *p) { return _mm512_loadu_si512(p); }
IRS_INLINE __m512i irs_x86_signs16(void)
{
    __m512i v = _mm512_set1_epi8((char)0x80);
    __asm__("" : "+v"(v));
    return v;
}
IRS_INLINE __m512i irs_x86_spread16(const int8_t *p, __m512i signs)
{
    return _mm512_xor_si512(_mm512_set1_epi32(irs_load32(p)), signs);
}
IRS_INLINE __m512i irs_x86_turn16(__m512i rows)
{
    const __m512i gather = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i turn = _mm512_set4_epi32(0x0F0B0703, 0x0E0A0602, 0x0D090501, 0x0C080400);
    return _mm512_xor_si512(_mm512_shuffle_epi8(_mm512_permutexvar_epi32(gather, rows), turn), _mm512_set1_epi8((char)0x80));
}
IRS_INLINE __m512i irs_x86_column16_1(const int8_t *a)
{
    return _mm512_xor_si512(_mm512_cvtepu8_epi32(irs_x86_sixteen(a)), _mm512_set1_epi8((char)0x80));
}
IRS_INLINE __m512i irs_x86_column16_2(const int8_t *a, const int8_t *b)
{
    return irs_x86_turn16(_mm512_inserti32x4(_mm512_castsi128_si512(irs_x86_sixteen(a)), irs_x86_sixteen(b), 1));
}
IRS_INLINE __m512i irs_x86_column16_3(const int8_t *a, const int8_t *b, const int8_t *c)
{
    __m512i rows = _mm512_inserti32x4(_mm512_castsi128_si512(irs_x86_sixteen(a)), irs_x86_sixteen(b), 1);
    return irs_x86_turn16(_mm512_inserti32x4(rows, irs_x86_sixteen(c), 2));
}
IRS_INLINE __m512i irs_x86_column16_4(const int8_t *a, const int8_t *b, const int8_t *c, const int8_t *d)
{
    __m512i rows = _mm512_inserti32x4(_mm512_castsi128_si512(irs_x86_sixteen(a)), irs_x86_sixteen(b), 1);
    rows = _mm512_inserti32x4(rows, irs_x86_sixteen(c), 2);
    return irs_x86_turn16(_mm512_inserti32x4(rows, irs_x86_sixteen(d), 3));
}

IRS_INLINE __m512i irs_x86_dot16(__m512i acc, __m512i x, __m512i w) { return _mm512_dpbusd_epi32(acc, x, w); }
IRS_INLINE __m512i irs_x86_requantize16(__m512i acc, const float *multiplier, int32_t zero, float low, float high)
{
    __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), _mm512_loadu_ps(multiplier));
    v = _mm512_min_ps(_mm512_max_ps(v, _mm512_set1_ps(low)), _mm512_set1_ps(high));
    return _mm512_add_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(zero));
}
IRS_INLINE __m512i irs_x86_whole16(__m512i acc, const float *multiplier)
{
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), _mm512_loadu_ps(multiplier)));
}
IRS_INLINE __m512i irs_x86_join16(__m512i a, __m512i b, __m512i c, __m512i d, int32_t zero)
{
    const __m512i gather = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i z = _mm512_set1_epi16((short)zero);
    __m512i ab = _mm512_adds_epi16(_mm512_packs_epi32(a, b), z), cd = _mm512_adds_epi16(_mm512_packs_epi32(c, d), z);
    return _mm512_permutexvar_epi32(gather, _mm512_packs_epi16(ab, cd));
}
IRS_INLINE __m512i irs_x86_clamp16(__m512i v, int32_t low, int32_t high)
{
    return _mm512_min_epi8(_mm512_max_epi8(v, _mm512_set1_epi8((char)low)), _mm512_set1_epi8((char)high));
}
IRS_INLINE void irs_x86_put16(int8_t *p, __m512i v, int32_t first, int32_t count)
{
    __m128i *to = (__m128i *)(void *)p;
    if (count == 4) _mm512_storeu_si512(p, v);
    else if (count >= 2) {
        _mm256_storeu_si256((__m256i *)(void *)p, first ? _mm512_extracti64x4_epi64(v, 1) : _mm512_castsi512_si256(v));
        if (count == 3) _mm_storeu_si128(to + 2, _mm512_extracti32x4_epi32(v, 2)); /* a masked store costs more */
    } else if (first == 0) _mm_storeu_si128(to, _mm512_castsi512_si128(v));
    else if (first == 1) _mm_storeu_si128(to, _mm512_extracti32x4_epi32(v, 1));
    else if (first == 2) _mm_storeu_si128(to, _mm512_extracti32x4_epi32(v, 2));
    else _mm_storeu_si128(to, _mm512_extracti32x4_epi32(v, 3));
}
IRS_INLINE __m512i irs_x86_total16(__m512i q, const int8_t *other, int32_t ma, int32_t mb, int32_t offset)
{
    __m512i b = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)other));
    b = _mm512_add_epi32(_mm512_mullo_epi32(b, _mm512_set1_epi32(mb)), _mm512_set1_epi32(offset));
    return _mm512_add_epi32(_mm512_mullo_epi32(q, _mm512_set1_epi32(ma)), b);
}
IRS_INLINE __m512i irs_x86_stepped16(__m512i total, int32_t shift, int32_t zero, int32_t low, int32_t high)
{
    __m512i v = _mm512_add_epi32(_mm512_sra_epi32(total, _mm_cvtsi32_si128(shift)), _mm512_set1_epi32(zero));
    return _mm512_min_epi32(_mm512_max_epi32(v, _mm512_set1_epi32(low)), _mm512_set1_epi32(high));
}
IRS_INLINE __m512i irs_x86_residual16(__m512i q, const int8_t *other, int32_t ma, int32_t mb, int32_t offset,
                                      int32_t shift, int32_t zero, int32_t low, int32_t high)
{
    return irs_x86_stepped16(irs_x86_total16(q, other, ma, mb, offset), shift, zero, low, high);
}
IRS_INLINE __m512i irs_x86_residual16_even(__m512i q, const int8_t *other, int32_t ma, int32_t mb, int32_t offset,
                                           int32_t shift, int32_t zero, int32_t low, int32_t high)
{
    __m512i total = irs_x86_total16(q, other, ma, mb, offset);
    __m512i part = _mm512_and_si512(total, _mm512_set1_epi32((int32_t)((2u << shift) - 1)));
    __mmask16 tie = _mm512_cmpeq_epi32_mask(part, _mm512_set1_epi32((int32_t)(1u << shift)));
    total = _mm512_mask_sub_epi32(total, tie, total, _mm512_set1_epi32(1));
    return irs_x86_stepped16(total, shift, zero, low, high);
}

IRS_INLINE void irs_x86_store16(int8_t *p, __m512i v) { _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtsepi32_epi8(v)); }
IRS_INLINE __m512 irs_x86_load_f32x16(const float *p) { return _mm512_loadu_ps(p); }
IRS_INLINE __m512 irs_x86_floats16(const int8_t *p) { return _mm512_loadu_ps((const float *)(const void *)p); }
IRS_INLINE __m512 irs_x86_spread_f32x16(const int8_t *p) { return _mm512_castsi512_ps(_mm512_set1_epi32(irs_load32(p))); }
IRS_INLINE __m512 irs_x86_fma16(__m512 acc, __m512 x, __m512 w) { return _mm512_fmadd_ps(x, w, acc); }
IRS_INLINE __m512 irs_x86_plus_f32x16(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
IRS_INLINE __m512 irs_x86_minus_f32x16(__m512 a, __m512 b) { return _mm512_sub_ps(a, b); }
IRS_INLINE __m512 irs_x86_zero_f32x16(void) { return _mm512_setzero_ps(); }
IRS_INLINE __m512 irs_x86_times_f32x16(__m512 a, __m512 b) { return _mm512_mul_ps(a, b); }
IRS_INLINE __m512 irs_x86_fms16(__m512 acc, __m512 x, __m512 w) { return _mm512_fnmadd_ps(x, w, acc); }
IRS_INLINE __m512 irs_x86_splat_f32x16(const float *p) { return _mm512_set1_ps(*p); }
IRS_INLINE __m512 irs_x86_sum_f32x16(__m512 v) { return _mm512_add_ps(v, _mm512_setzero_ps()); }
IRS_INLINE __m512 irs_x86_atleast_f32x16(__m512 v, float low) { return _mm512_max_ps(_mm512_set1_ps(low), v); }
IRS_INLINE __m512 irs_x86_atmost_f32x16(__m512 v, float high) { return _mm512_min_ps(_mm512_set1_ps(high), v); }
IRS_INLINE void irs_x86_store_f32x16(int8_t *p, __m512 v) { _mm512_storeu_ps((float *)(void *)p, v); }

#else

IRS_INLINE void irs_x86_copy(int8_t *to, const int8_t *from, int32_t n) { __builtin_memcpy(to, from, (size_t)n); }
IRS_INLINE void irs_x86_fill(int8_t *to, int32_t value, int32_t n) { __builtin_memset(to, value, (size_t)n); }
IRS_INLINE void irs_x86_store8(int8_t *p, __m256i v)
{
    v = _mm256_packs_epi16(_mm256_packs_epi32(v, v), _mm256_setzero_si256());
    __m128i bytes = _mm_unpacklo_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64((__m128i *)(void *)p, bytes);
}

#endif

/* One padded row: `left` bytes of `value`, the row (all `value` when it lies outside), `right` bytes. */
IRS_INLINE void irs_x86_pad_row(int8_t *to, const int8_t *x, int32_t row, int32_t rows, int32_t row_bytes,
                                int32_t left, int32_t right, int32_t value)
{
    if (row < 0 || row >= rows) {
        irs_x86_fill(to, value, left + row_bytes + right);
        return;
    }
    irs_x86_fill(to, value, left);
    irs_x86_copy(to + left, x + row * row_bytes, row_bytes);
    irs_x86_fill(to + left + row_bytes, value, right);
}

#endif
