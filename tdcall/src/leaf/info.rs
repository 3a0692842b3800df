//! TDG.VP.INFO.

use thiserror::Error;

use crate::raw::RawTdcall;
use crate::td::Td;
use tdx_defs::Gpaw;
use tdx_defs::Registers;
use tdx_defs::field::TdAttributes;
use tdx_defs::status::{Code, Status};
use tdx_defs::tdg;

/// What TDG.VP.INFO says about the TD and this virtual processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VpInfo {
    /// Guest physical address width.
    pub gpaw: Gpaw,
    /// ATTRIBUTES of the TD.
    pub attributes: TdAttributes,
    /// Number of virtual processors that may enter the TD.
    pub num_vcpus: u32,
    /// Highest possible number of virtual processors.
    pub max_vcpus: u32,
    /// Index of this virtual processor.
    pub vcpu_index: u32,
    /// TDG.SYS.RD and its kin exist.
    pub sys_rd: bool,
}

/// Why TDG.VP.INFO gave nothing. It has no error of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum VpInfoError {
    /// The address width is neither 48 nor 52.
    #[error("TDG.VP.INFO: GPAW {0} is neither 48 nor 52")]
    Gpaw(u64),
    /// A status the ABI does not list.
    #[error("TDG.VP.INFO: {0}")]
    Unexpected(Status),
}

impl<R: RawTdcall> Td<R> {
    /// TDG.VP.INFO: facts about the TD and this virtual processor.
    pub fn vp_info(&self) -> Result<VpInfo, VpInfoError> {
        let out = self.call(Registers {
            rax: tdg::VP_INFO,
            ..Default::default()
        });
        match Status(out.rax).code() {
            Code::Success => {}
            _ => return Err(VpInfoError::Unexpected(Status(out.rax))),
        }
        let bits = out.rcx & 0x3F;
        Ok(VpInfo {
            gpaw: Gpaw::from_bits(bits).ok_or(VpInfoError::Gpaw(bits))?,
            attributes: TdAttributes::from_bits(out.rdx),
            num_vcpus: out.r8 as u32,
            max_vcpus: (out.r8 >> 32) as u32,
            vcpu_index: out.r9 as u32,
            sys_rd: out.r10 & 1 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;

    #[test]
    fn every_output_is_taken_apart() {
        let script = Script::new([Registers {
            rcx: 52,
            rdx: 1 << 28,
            r8: 0x10_0000_0002,
            r9: 1,
            r10: 1,
            ..Default::default()
        }]);
        let info = Td::new(&script).vp_info().unwrap();
        assert_eq!(script.only_call().rax, 1);
        assert_eq!(info.gpaw.shared_bit(), 1 << 51);
        assert!(info.attributes.sept_ve_disable() && !info.attributes.debug());
        assert_eq!(
            (info.num_vcpus, info.max_vcpus, info.vcpu_index),
            (2, 16, 1)
        );
        assert!(info.sys_rd);
    }

    #[test]
    fn sys_rd_is_bit_0_of_r10() {
        for (r10, sys_rd) in [(0, false), (1, true), (!1, false)] {
            let script = Script::new([Registers {
                rcx: 48,
                r10,
                ..Default::default()
            }]);
            assert_eq!(Td::new(&script).vp_info().unwrap().sys_rd, sys_rd);
        }
    }

    #[test]
    fn a_strange_width_is_refused() {
        let script = Script::new([Registers {
            rcx: 46,
            ..Default::default()
        }]);
        assert_eq!(Td::new(&script).vp_info(), Err(VpInfoError::Gpaw(46)));
    }
}
