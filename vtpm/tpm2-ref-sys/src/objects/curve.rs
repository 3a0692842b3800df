//! P-256 by its name.
//!
//! libtpms makes a group from the numbers of its curve each time it needs one, and OpenSSL takes its
//! general code for such a group. For P-256 it has assembly, whose time does not depend on a secret
//! either (the whole table is read for each entry of it). That code is chosen by name.

use core::ffi::{c_int, c_void};
use core::ptr::null_mut;

/// OpenSSL's opaque types, by their names there.
type Bignum = c_void;
type BnCtx = c_void;
type EcGroup = c_void;

unsafe extern "C" {
    #[link_name = "openssl_EC_GROUP_new_curve_GFp"]
    fn general(
        prime: *const Bignum,
        a: *const Bignum,
        b: *const Bignum,
        context: *mut BnCtx,
    ) -> *mut EcGroup;
    fn EC_GROUP_new_by_curve_name(name: c_int) -> *mut EcGroup;
    fn EC_GROUP_get_curve(
        group: *const EcGroup,
        prime: *mut Bignum,
        a: *mut Bignum,
        b: *mut Bignum,
        context: *mut BnCtx,
    ) -> c_int;
    fn EC_GROUP_free(group: *mut EcGroup);
    fn BN_new() -> *mut Bignum;
    fn BN_free(number: *mut Bignum);
    fn BN_num_bits(number: *const Bignum) -> c_int;
    fn BN_cmp(one: *const Bignum, other: *const Bignum) -> c_int;
}

/// OpenSSL's number for P-256 (NID_X9_62_prime256v1).
const P256: c_int = 415;
/// Bits of its prime.
const P256_BITS: c_int = 256;

/// A number of OpenSSL's that is freed with this value.
struct Number(*mut Bignum);

impl Number {
    fn new() -> Option<Self> {
        // SAFETY: may be called at any time.
        let number = unsafe { BN_new() };
        (!number.is_null()).then_some(Self(number))
    }

    /// # Safety
    /// `other` is a number of OpenSSL's.
    unsafe fn is(&self, other: *const Bignum) -> bool {
        // SAFETY: both are numbers, this one by its invariant.
        unsafe { BN_cmp(self.0, other) == 0 }
    }
}

impl Drop for Number {
    fn drop(&mut self) {
        // SAFETY: from `BN_new`, and of nobody else.
        unsafe { BN_free(self.0) }
    }
}

/// The group of P-256, if these are its numbers.
///
/// # Safety
/// As [`general`]'s.
unsafe fn p256(
    prime: *const Bignum,
    a: *const Bignum,
    b: *const Bignum,
    context: *mut BnCtx,
) -> Option<*mut EcGroup> {
    // SAFETY: the caller's number.
    if unsafe { BN_num_bits(prime) } != P256_BITS {
        return None;
    }
    let (its_prime, its_a, its_b) = (Number::new()?, Number::new()?, Number::new()?);
    // SAFETY: takes any number.
    let group = unsafe { EC_GROUP_new_by_curve_name(P256) };
    if group.is_null() {
        return None;
    }
    // SAFETY: the group was made just now, the three numbers too, and the others are the caller's.
    unsafe {
        let known = EC_GROUP_get_curve(group, its_prime.0, its_a.0, its_b.0, context) == 1;
        if known && its_prime.is(prime) && its_a.is(a) && its_b.is(b) {
            return Some(group);
        }
        EC_GROUP_free(group);
    }
    None
}

/// # Safety
/// As OpenSSL's: three numbers, and a context or null.
#[unsafe(no_mangle)]
unsafe extern "C" fn EC_GROUP_new_curve_GFp(
    prime: *const Bignum,
    a: *const Bignum,
    b: *const Bignum,
    context: *mut BnCtx,
) -> *mut EcGroup {
    if [prime, a, b].iter().any(|number| number.is_null()) {
        return null_mut();
    }
    // SAFETY: the caller's, none of the three null.
    unsafe { p256(prime, a, b, context).unwrap_or_else(|| general(prime, a, b, context)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" {
        fn EC_GROUP_get_curve_name(group: *const EcGroup) -> c_int;
        fn BN_add_word(number: *mut Bignum, addend: core::ffi::c_ulong) -> c_int;
    }

    const P384: c_int = 715;

    /// The name of the group that is made from the numbers of a curve, with something added to b.
    fn made_from_numbers_of(name: c_int, more: core::ffi::c_ulong) -> c_int {
        let (prime, a, b) = (Number::new(), Number::new(), Number::new());
        let (prime, a, b) = (prime.unwrap(), a.unwrap(), b.unwrap());
        // SAFETY: the numbers were made just now, as the groups are, which are freed once.
        unsafe {
            let named = EC_GROUP_new_by_curve_name(name);
            assert_eq!(EC_GROUP_get_curve(named, prime.0, a.0, b.0, null_mut()), 1);
            EC_GROUP_free(named);
            assert_eq!(BN_add_word(b.0, more), 1);
            let made = EC_GROUP_new_curve_GFp(prime.0, a.0, b.0, null_mut());
            let name = EC_GROUP_get_curve_name(made);
            EC_GROUP_free(made);
            name
        }
    }

    #[test]
    fn p256_is_known_by_its_numbers_and_nothing_else_is() {
        assert_eq!(made_from_numbers_of(P256, 0), P256);
        assert_eq!(made_from_numbers_of(P256, 1), 0);
        assert_eq!(made_from_numbers_of(P384, 0), 0);
    }
}
