//! Says that the processor cannot do AES-GCM and AES-XTS with AVX-512, which keeps the code for it
//! out of the image. OpenSSL asks both `..._capable` questions before it calls any of the others.

/// Defines functions that OpenSSL asks first (they answer no) or, having had that answer, never
/// calls.
macro_rules! absent {
    ($($name:ident)*) => { $(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> isize {
            0
        }
    )* };
}

absent! {
    ossl_vaes_vpclmulqdq_capable
    ossl_aes_gcm_init_avx512
    ossl_aes_gcm_setiv_avx512
    ossl_aes_gcm_update_aad_avx512
    ossl_aes_gcm_encrypt_avx512
    ossl_aes_gcm_decrypt_avx512
    ossl_aes_gcm_finalize_avx512
    ossl_gcm_gmult_avx512

    aesni_xts_avx512_eligible
    aesni_xts_128_encrypt_avx512
    aesni_xts_128_decrypt_avx512
    aesni_xts_256_encrypt_avx512
    aesni_xts_256_decrypt_avx512
}
