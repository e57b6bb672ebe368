/* Rows and windows of bytes in Helium (MVE) vectors; elsewhere the same in plain C. */
#ifndef IRSHRINK_MVE_ROWS_H
#define IRSHRINK_MVE_ROWS_H

#include "irshrink_mve.h"

/* n bytes. */
IRS_INLINE void irs_helium_copy(int8_t *to, const int8_t *from, int32_t n)
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

IRS_INLINE void irs_helium_fill(int8_t *p, int32_t value, int32_t n)
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
IRS_INLINE void irs_helium_window_apart(int8_t *to, const int8_t *x, int32_t top, int32_t left, int32_t rows,
                                        int32_t columns, int32_t dilation_h, int32_t in_h, int32_t in_w,
                                        int32_t value, int32_t pitch, int32_t dilation_w, int32_t channels,
                                        int32_t run)
{
    irs_helium_fill(to, value, pitch);
    for (int32_t ky = 0; ky < rows; ++ky, top += dilation_h) {
        for (int32_t kx = 0, column = left; kx < columns; ++kx, column += dilation_w, to += run) {
            if (top >= 0 && top < in_h && column >= 0 && column < in_w) {
                irs_helium_copy(to, x + (top * in_w + column) * channels, run);
            }
        }
    }
}

/* The same where the columns of a window and their channels follow each other. Up to 15 bytes more are written
 * behind it, and read behind its last row. */
IRS_INLINE void irs_helium_window(int8_t *to, const int8_t *x, int32_t top, int32_t left, int32_t rows,
                                  int32_t columns, int32_t dilation_h, int32_t in_h, int32_t in_w,
                                  int32_t value, int32_t pitch, int32_t run)
{
    int32_t row_bytes = columns * run, next = dilation_h * in_w * run;
    if (top >= 0 && left >= 0 && top + (rows - 1) * dilation_h < in_h && left + columns <= in_w) {
        x += (top * in_w + left) * run;
        for (int32_t ky = 0; ky < rows; ++ky, x += next, to += row_bytes) {
            const int8_t *from = x;
            int8_t *p = to;
            for (int32_t n = row_bytes; n > 0; n -= 16, p += 16, from += 16) {
                irs_mve_store(p, irs_mve_load(from));
            }
        }
        return;
    }
    irs_helium_fill(to, value, pitch);
    int32_t first = irs_max_i32(-left, 0), inside = irs_min_i32(in_w - left, columns) - first;
    for (int32_t ky = 0; ky < rows; ++ky, top += dilation_h, to += row_bytes) {
        if (top >= 0 && top < in_h) {
            irs_helium_copy(to + first * run, x + (top * in_w + left + first) * run, inside * run);
        }
    }
}

/* Row `row` of an image of `rows` rows, `width` pixels of `channels` bytes each, spread over planes: channel c
 * of pixel i goes to to[c * plane + i * step]. Outside of the image all are `value`. Channels go by eight: up to
 * 7 more are read and written. */
IRS_NOINLINE void irs_helium_spread(int8_t *to, const int8_t *x, int32_t row, int32_t rows, int32_t width,
                                  int32_t channels, int32_t plane, int32_t step, int32_t value)
{
    int8_t outside[16];
    int32_t pixel = channels, run = 8;
    if (row >= 0 && row < rows) {
        x += row * width * channels;
    } else {
        irs_helium_fill(outside, value, 16);
        x = outside;
        pixel = run = 0;
    }
#ifdef IRS_MVE
    uint16x8_t at = vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)plane);
    if (channels * 3 < width * 8) { /* the longer loop inside */
        uint16x8_t next = vaddq_n_u16(at, (uint16_t)step);
        for (int32_t c = 0; c < channels; c += 8, to += 8 * plane, x += run) {
            const int8_t *from = x;
            int8_t *p = to;
            int32_t i = width;
            for (; i > 1; i -= 2, p += 2 * step, from += 2 * pixel) {
                vstrbq_scatter_offset_s16(p, at, vldrbq_s16(from));
                vstrbq_scatter_offset_s16(p, next, vldrbq_s16(from + pixel));
            }
            if (i > 0) {
                vstrbq_scatter_offset_s16(p, at, vldrbq_s16(from));
            }
        }
        return;
    }
    uint16x8_t next = vaddq_n_u16(at, (uint16_t)(8 * plane));
    for (int32_t i = 0; i < width; ++i, to += step, x += pixel) {
        const int8_t *from = x;
        int8_t *p = to;
        int32_t c = channels;
        for (; c > 8; c -= 16, p += 16 * plane, from += 2 * run) {
            vstrbq_scatter_offset_s16(p, at, vldrbq_s16(from));
            vstrbq_scatter_offset_s16(p, next, vldrbq_s16(from + run));
        }
        if (c > 0) {
            vstrbq_scatter_offset_s16(p, at, vldrbq_s16(from));
        }
    }
#else
    for (int32_t i = 0; i < width; ++i) {
        for (int32_t c = 0; c < channels; ++c) {
            to[c * plane + i * step] = x[i * pixel + (run ? c : 0)];
        }
    }
#endif
}

#endif
