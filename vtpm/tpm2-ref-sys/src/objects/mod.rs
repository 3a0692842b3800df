//! Rust in place of C: the symbols of whole members of the two archives.
//!
//! A linker takes a member out of an archive only for a symbol that is still missing. Each file
//! here defines all symbols of one member that the rest uses, so that the member stays out. To
//! define only some would bring the member in after all, and with it a duplicate symbol.
//!
//! | file | in place of | because |
//! | --- | --- | --- |
//! | [`dispatch`] | libtpms `tpm_library`, `tpm_nvfile` | no TPM 1.2, no files, no log on stderr |
//! | [`entropy`] | libtpms `Entropy`; OpenSSL's RAND method | theirs goes on with the time when there is no entropy |
//! | [`nv_memory`] | libtpms `NVMem` | theirs falls back to a file |
//! | [`clock`] | libtpms `Clock` | time comes from the owner, so that a run can be repeated |
//! | [`cancel`] | libtpms `Cancel` | a flag that another thread may set |
//! | [`c23`] | a C library of before glibc 2.38 | objects compiled with newer headers ask for other names |
//! | [`avx512`] | OpenSSL's AVX-512 AES-GCM and AES-XTS | 700 KB that no TPM algorithm uses |
//!
//! Two functions of OpenSSL's that libtpms calls are ours and end in OpenSSL's own, which the build
//! renames: what is faster is made known to it where libtpms does not.
//!
//! | file | function | because |
//! | --- | --- | --- |
//! | [`curve`] | `EC_GROUP_new_curve_GFp` | libtpms gives a curve's numbers, OpenSSL has its fast code by name |
//! | [`factors`] | `EVP_PKEY_fromdata` | libtpms gives an RSA key's primes in an order that its exponents are not in |

pub(crate) mod avx512;
pub(crate) mod c23;
pub(crate) mod cancel;
pub(crate) mod clock;
pub(crate) mod curve;
pub(crate) mod dispatch;
pub(crate) mod entropy;
pub(crate) mod factors;
pub(crate) mod nv_memory;
