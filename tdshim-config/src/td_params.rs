//! The TD parameters the L1 VMM asks of the host that creates its TD.
//!
//! Source: TDX Module ABI, "TD_PARAMS". The file beside this crate, `td-params.json`, holds them in
//! the form of td-shim's `td-shim-patch` tool.

use serde::{Deserialize, Serialize};

/// The fields of TD_PARAMS that matter to the L1 VMM; the host is free in the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TdParams {
    /// ATTRIBUTES: bit 0 DEBUG must be clear, bit 28 SEPT_VE_DISABLE set.
    pub attributes: u64,
    /// XFAM: x87, SSE and AVX at least.
    pub xfam: u64,
    /// MAX_VCPUS.
    pub maxvcpus: u16,
    /// NUM_L2_VMS: 1 to 3.
    pub numl2vms: u8,
    /// CONFIG_FLAGS: bit 0 GPAW (0: 48 bits, 1: 52 bits).
    pub configflags: u64,
    /// Virtual TSC frequency in units of 25 MHz.
    pub tscfrequency: u16,
}

/// The parameters of `td-params.json`.
pub fn recommended() -> Result<TdParams, serde_json::Error> {
    serde_json::from_str(include_str!("../td-params.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_asks_for_an_l2_vm_and_no_debug() {
        let params = recommended().unwrap();
        assert!(params.numl2vms >= 1);
        assert_eq!(params.attributes & 1, 0);
        assert_eq!(params.attributes >> 28 & 1, 1);
        assert_eq!(params.xfam & 7, 7);
    }
}
