//! TD_PARAMS: what the host configures a TD with (TDX Module ABI, "TD_PARAMS").

use crate::td::seamcall;
use tdx_defs::VmIndex;
use tdx_defs::field::{ConfigFlags, TdAttributes};
use tdx_defs::status::{Operand, Status};

/// The fields of TD_PARAMS that the model uses. CPUID_CONFIG has no counterpart: the TD's CPUID is
/// the platform's, cut to what a TD may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdParams {
    /// ATTRIBUTES.
    pub attributes: u64,
    /// XFAM.
    pub xfam: u64,
    /// MAX_VCPUS.
    pub max_vcpus: u16,
    /// NUM_L2_VMS, 0 to 3.
    pub num_l2_vms: u8,
    /// EPTP_CONTROLS: \[2:0\] memory type, \[5:3\] EPT levels minus 1.
    pub eptp_controls: u64,
    /// CONFIG_FLAGS.
    pub config_flags: u64,
    /// TSC_FREQUENCY, in units of 25 MHz.
    pub tsc_frequency: u16,
    /// MRCONFIGID.
    pub mrconfigid: [u8; 48],
    /// MROWNER.
    pub mrowner: [u8; 48],
    /// MROWNERCONFIG.
    pub mrownerconfig: [u8; 48],
}

impl Default for TdParams {
    /// A TD as a host would launch ours: SEPT_VE_DISABLE, x87 to AVX, one L2 VM, GPAW 48, 1 GHz.
    fn default() -> TdParams {
        TdParams {
            attributes: TdAttributes::new().with_sept_ve_disable(true).into_bits(),
            xfam: 0b111,
            max_vcpus: 1,
            num_l2_vms: 1,
            eptp_controls: EPTP_WRITE_BACK | EPTP_4_LEVELS,
            config_flags: 0,
            tsc_frequency: 40,
            mrconfigid: [0; 48],
            mrowner: [0; 48],
            mrownerconfig: [0; 48],
        }
    }
}

const EPTP_WRITE_BACK: u64 = 6;
const EPTP_4_LEVELS: u64 = 3 << 3;
const EPTP_5_LEVELS: u64 = 4 << 3;

/// DEBUG, LASS and SEPT_VE_DISABLE: what the modelled platform supports.
const ATTRIBUTES_ALLOWED: u64 = 1 | 1 << 27 | 1 << 28;
/// x87 and SSE.
const XFAM_FIXED_1: u64 = 0b11;
/// What the real module can give a TD.
const XFAM_ALLOWED: u64 = 0x6DBE7;
/// Features that come together or not at all, each group with what it needs.
const XFAM_GROUPS: [(u64, u64); 3] = [(0xe0, 0b100), (0x1800, 0), (0x60000, 0)];
/// GPAW, FLEXIBLE_PENDING_VE and NO_RBP_MOD.
const CONFIG_FLAGS_ALLOWED: u64 = 0b111;
/// 100 MHz to 10 GHz.
const TSC_FREQUENCY_RANGE: core::ops::RangeInclusive<u16> = 4..=400;

impl TdParams {
    /// The parameters with a GPA width of 52 bits, which needs a five-level EPT.
    #[must_use]
    pub fn with_gpaw_52(mut self) -> TdParams {
        self.config_flags |= ConfigFlags::new().with_gpaw(true).into_bits();
        self.eptp_controls = EPTP_WRITE_BACK | EPTP_5_LEVELS;
        self
    }

    /// Levels of the secure EPT, 4 or 5.
    pub(crate) fn ept_levels(&self) -> u64 {
        (self.eptp_controls >> 3 & 7) + 1
    }

    /// The checks of TDH.MNG.INIT, in its order.
    pub(crate) fn check(&self) -> Result<(), Status> {
        let require = |holds: bool, operand: Operand| {
            if holds {
                Ok(())
            } else {
                Err(Status::operand_invalid(operand))
            }
        };
        require(
            self.attributes & !ATTRIBUTES_ALLOWED == 0,
            seamcall::OPERAND_ATTRIBUTES,
        )?;
        require(is_xfam(self.xfam), seamcall::OPERAND_XFAM)?;
        require(self.max_vcpus != 0, seamcall::OPERAND_MAX_VCPUS)?;
        require(self.num_l2_vms <= VmIndex::MAX, Operand::NUM_L2_VMS)?;
        require(
            self.config_flags & !CONFIG_FLAGS_ALLOWED == 0,
            seamcall::OPERAND_EXEC_CONTROLS,
        )?;
        let gpaw_52 = ConfigFlags::from_bits(self.config_flags).gpaw();
        let levels = self.eptp_controls & !7;
        require(
            self.eptp_controls & 7 == EPTP_WRITE_BACK
                && (levels == EPTP_5_LEVELS || levels == EPTP_4_LEVELS && !gpaw_52),
            seamcall::OPERAND_EPTP_CONTROLS,
        )?;
        require(
            TSC_FREQUENCY_RANGE.contains(&self.tsc_frequency),
            seamcall::OPERAND_TSC_FREQUENCY,
        )
    }
}

fn is_xfam(xfam: u64) -> bool {
    let consistent = XFAM_GROUPS
        .iter()
        .all(|&(group, needs)| xfam & group == 0 || xfam & group == group && xfam & needs == needs);
    xfam & XFAM_FIXED_1 == XFAM_FIXED_1 && xfam & !XFAM_ALLOWED == 0 && consistent
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_platform_has_is_taken() {
        const DEBUG: u64 = 1;
        const LASS: u64 = 1 << 27;
        const SEPT_VE_DISABLE: u64 = 1 << 28;
        for attributes in [0, DEBUG, LASS, SEPT_VE_DISABLE, DEBUG | LASS] {
            let params = TdParams {
                attributes,
                ..TdParams::default()
            };
            assert_eq!(params.check(), Ok(()), "{attributes:#x}");
        }
        // x87 and SSE, AVX, AVX-512, PT, PKRU, CET, ULI, LBR, AMX: groups come whole.
        for (xfam, valid) in [
            (0x3, true),
            (0x7, true),
            (0xe7, true),
            (0xe3, false),
            (0x67, false),
            (0x103, true),
            (0x203, true),
            (0x1803, true),
            (0x803, false),
            (0x1003, false),
            (0x4003, true),
            (0x8003, true),
            (0x60003, true),
            (0x20003, false),
            (0x40003, false),
            (0x6dbe7, true),
            (0x5, false),
            (0x6, false),
            (0xb, false),
            (0x10003, false),
            (1 << 63 | 3, false),
        ] {
            let params = TdParams {
                xfam,
                ..TdParams::default()
            };
            assert_eq!(params.check().is_ok(), valid, "{xfam:#x}");
        }
    }

    #[test]
    fn every_parameter_out_of_range_is_named() {
        let good = TdParams::default();
        assert_eq!(good.check(), Ok(()));
        assert_eq!(good.clone().with_gpaw_52().check(), Ok(()));
        type Spoil = fn(&mut TdParams);
        let rows: [(Spoil, Operand); 12] = [
            (|p| p.attributes |= 1 << 63, seamcall::OPERAND_ATTRIBUTES),
            (|p| p.attributes |= 1 << 3, seamcall::OPERAND_ATTRIBUTES),
            (|p| p.xfam = 0b110, seamcall::OPERAND_XFAM),
            (|p| p.xfam |= 1 << 3, seamcall::OPERAND_XFAM),
            (|p| p.xfam |= 0x20, seamcall::OPERAND_XFAM),
            (|p| p.xfam = 0xe3, seamcall::OPERAND_XFAM),
            (|p| p.max_vcpus = 0, seamcall::OPERAND_MAX_VCPUS),
            (|p| p.num_l2_vms = 4, Operand::NUM_L2_VMS),
            (|p| p.config_flags = 1 << 3, seamcall::OPERAND_EXEC_CONTROLS),
            (|p| p.config_flags = 1, seamcall::OPERAND_EPTP_CONTROLS),
            (
                |p| p.eptp_controls = 3 << 3,
                seamcall::OPERAND_EPTP_CONTROLS,
            ),
            (|p| p.tsc_frequency = 3, seamcall::OPERAND_TSC_FREQUENCY),
        ];
        for (spoil, operand) in rows {
            let mut params = good.clone();
            spoil(&mut params);
            assert_eq!(params.check(), Err(Status::operand_invalid(operand)));
        }
    }
}
