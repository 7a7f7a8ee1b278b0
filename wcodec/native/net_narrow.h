/* What both files of AVX-512 share. */
WK_INLINE void narrow(const __m512i *x, int size, uint8_t *out, uint64_t stride) {
  for (int c = 0; c < 2; c++)
    if (size == 2)
      _mm256_storeu_si256((__m256i *)(void *)(out + c * stride), _mm512_cvtepi32_epi16(x[c]));
    else
      _mm_storeu_si128((__m128i *)(void *)(out + c * stride), _mm512_cvtepi32_epi8(x[c]));
}

