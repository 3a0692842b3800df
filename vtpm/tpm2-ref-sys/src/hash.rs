//! The hash functions of the engine's crypto library, for long data: assembly for what the processor has
//! (SHA extensions, AVX2), chosen by CPUID.
//!
//! They use nothing but their own value, so that the engine may be anywhere meanwhile, and need no [`Tpm`](crate::Tpm).

use core::ffi::{c_int, c_uchar, c_void};

use spin::Once;

use crate::engine::OPENSSL_cpuid_setup;

/// Makes OpenSSL look at the processor once, before the first use in an image, which has no constructors.
fn look_at_processor() {
    static DONE: Once<()> = Once::new();
    DONE.call_once(|| {
        // SAFETY: fills OpenSSL's variables for what the processor has, once here. The engine's owner calls it as
        // well, which then does nothing, and in a hosted program a constructor has.
        unsafe { OPENSSL_cpuid_setup() }
    });
}

/// As much as is hashed between two places at which a command may be left.
const PIECE: usize = 16 << 10;

macro_rules! hash {
    ($name:ident, $title:literal, [$word:ty; $words:literal], $size:literal, $init:ident $update:ident $final:ident) => {
        unsafe extern "C" {
            fn $init(context: *mut $name) -> c_int;
            fn $update(context: *mut $name, data: *const c_void, length: usize) -> c_int;
            fn $final(digest: *mut c_uchar, context: *mut $name) -> c_int;
        }

        #[doc = concat!($title, " of a stream of bytes.")]
        // OpenSSL's context: state, length, a block, and what is used of it.
        #[derive(Clone)]
        #[repr(C)]
        pub struct $name([$word; $words]);

        impl $name {
            /// Of an empty stream.
            pub fn new() -> Self {
                look_at_processor();
                let mut context = Self([0; $words]);
                // SAFETY: the layout is OpenSSL's, and it keeps no reference.
                unsafe { $init(&mut context) };
                context
            }

            /// The next bytes of the stream.
            pub fn update(&mut self, data: &[u8]) {
                for piece in data.chunks(PIECE) {
                    // SAFETY: the context was initialized, the data is readable for its length; neither is kept.
                    unsafe { $update(self, piece.as_ptr().cast(), piece.len()) };
                }
            }

            /// The digest of everything so far.
            pub fn finish(mut self) -> [u8; $size] {
                let mut digest = [0; $size];
                // SAFETY: the context was initialized, and the digest has its algorithm's size.
                unsafe { $final(digest.as_mut_ptr(), &mut self) };
                digest
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }
    };
}

hash!(Sha1, "SHA-1", [u32; 24], 20, SHA1_Init SHA1_Update SHA1_Final);
hash!(Sha256, "SHA-256", [u32; 28], 32, SHA256_Init SHA256_Update SHA256_Final);
hash!(Sha384, "SHA-384", [u64; 27], 48, SHA384_Init SHA384_Update SHA384_Final);
hash!(Sha512, "SHA-512", [u64; 27], 64, SHA512_Init SHA512_Update SHA512_Final);
