//! The primes of RSA keys in the order that goes with the rest of the key.
//!
//! An RSA key of OpenSSL's has two primes, an exponent for each and a coefficient, the inverse of the
//! second prime modulo the first (RFC 8017, 3.2). libtpms computes exponents and coefficient with the
//! larger prime as the first, and then gives the primes in the order in which the key has them. Where
//! the first is the smaller one the numbers do not fit; OpenSSL notices that in its result and computes
//! it again from the private exponent, which is right, and takes five times as long.

use core::cmp::Ordering;
use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use core::slice;

/// OpenSSL's `OSSL_PARAM`; one without a key ends a list.
#[repr(C)]
struct Parameter {
    key: *const c_char,
    data_type: c_uint,
    data: *mut c_void,
    data_size: usize,
    return_size: usize,
}

/// OSSL_PKEY_PARAM_RSA_FACTOR1 and 2.
const FACTORS: [&CStr; 2] = [c"rsa-factor1", c"rsa-factor2"];

unsafe extern "C" {
    #[link_name = "openssl_EVP_PKEY_fromdata"]
    fn from_data(
        context: *mut c_void,
        key: *mut *mut c_void,
        selection: c_int,
        parameters: *mut Parameter,
    ) -> c_int;
}

/// Two numbers in the processor's order of bytes, the lowest first. Takes a time that depends on where
/// they differ, as libtpms's own comparison of the two does.
fn compare(one: &[u8], other: &[u8]) -> Ordering {
    let digit = |number: &[u8], index| number.get(index).copied().unwrap_or(0);
    (0..one.len().max(other.len()))
        .rev()
        .map(|index| digit(one, index).cmp(&digit(other, index)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

impl Parameter {
    /// # Safety
    /// The data is readable for its size.
    unsafe fn bytes(&self) -> &[u8] {
        if self.data.is_null() {
            return &[];
        }
        // SAFETY: the caller's, and it is not null.
        unsafe { slice::from_raw_parts(self.data.cast(), self.data_size) }
    }
}

/// Gives the larger of two factors the first's name.
///
/// # Safety
/// A list of parameters that ends, which nobody else uses.
unsafe fn put_larger_first(parameters: *mut Parameter) {
    let mut factors = [None, None];
    let mut at = parameters;
    // SAFETY: the list is valid up to the one without a key; keys are C strings. `at` goes over each
    // once, so that no parameter is referred to twice.
    while let Some(parameter) = unsafe { at.as_mut() }.filter(|one| !one.key.is_null()) {
        // SAFETY: as above.
        let key = unsafe { CStr::from_ptr(parameter.key) };
        for (name, factor) in FACTORS.iter().zip(&mut factors) {
            if key == *name {
                *factor = Some(&raw mut *parameter);
            }
        }
        // SAFETY: this one is not the last.
        at = unsafe { at.add(1) };
    }
    let [Some(first), Some(second)] = factors else {
        return;
    };
    // SAFETY: two different parameters of the list, to which nothing else refers any more.
    let (first, second) = unsafe { (&mut *first, &mut *second) };
    // SAFETY: a parameter's data is readable for its size.
    if unsafe { compare(first.bytes(), second.bytes()) }.is_lt() {
        core::mem::swap(&mut first.key, &mut second.key);
    }
}

/// # Safety
/// As OpenSSL's.
#[unsafe(no_mangle)]
unsafe extern "C" fn EVP_PKEY_fromdata(
    context: *mut c_void,
    key: *mut *mut c_void,
    selection: c_int,
    parameters: *mut Parameter,
) -> c_int {
    // SAFETY: the caller's.
    unsafe {
        if !parameters.is_null() {
            put_larger_first(parameters);
        }
        from_data(context, key, selection, parameters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::null;

    #[test]
    fn numbers_are_compared_from_the_highest_byte() {
        assert_eq!(compare(&[9, 1], &[1, 2]), Ordering::Less);
        assert_eq!(compare(&[1, 2], &[9, 1]), Ordering::Greater);
        assert_eq!(compare(&[1, 2, 0], &[1, 2]), Ordering::Equal);
        assert_eq!(compare(&[1, 2, 1], &[9, 9]), Ordering::Greater);
    }

    /// The names of a list after [`put_larger_first`], by the data that they have.
    fn names(list: &[(&CStr, &[u8])]) -> Vec<(String, Vec<u8>)> {
        let parameter = |key, data: &[u8]| Parameter {
            key,
            data_type: 2,
            data: data.as_ptr().cast_mut().cast(),
            data_size: data.len(),
            return_size: 0,
        };
        let mut parameters: Vec<_> = list
            .iter()
            .map(|(key, data)| parameter(key.as_ptr(), data))
            .collect();
        parameters.push(parameter(null(), &[]));
        // SAFETY: a list that ends, of this test's memory.
        unsafe { put_larger_first(parameters.as_mut_ptr()) };
        let named = parameters.iter().zip(list).map(|(parameter, (_, data))| {
            // SAFETY: one of the keys above.
            let key = unsafe { CStr::from_ptr(parameter.key) };
            (key.to_str().unwrap().to_owned(), data.to_vec())
        });
        named.collect()
    }

    #[test]
    fn the_larger_factor_becomes_the_first() {
        let (one, two): (&[u8], &[u8]) = (&[1, 0, 3], &[0, 0, 4]);
        let expected = [
            ("rsa-factor2".to_owned(), one.to_vec()),
            ("n".to_owned(), vec![7]),
            ("rsa-factor1".to_owned(), two.to_vec()),
        ];
        assert_eq!(
            names(&[(FACTORS[0], one), (c"n", &[7]), (FACTORS[1], two)]),
            expected
        );
        assert_eq!(
            names(&[(FACTORS[1], one), (c"n", &[7]), (FACTORS[0], two)]),
            expected
        );
        assert_eq!(names(&[(FACTORS[0], one)])[0].0, "rsa-factor1");
    }
}
