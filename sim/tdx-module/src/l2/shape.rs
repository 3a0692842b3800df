//! What of the TD's configuration and of the processor shapes an L2 VMCS.

use crate::platform::Platform;
use tdx_defs::Gpaw;
use tdx_defs::field::TdAttributes;

/// Features that decide which control bits are fixed and which CR4 bits exist.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) gpaw: Gpaw,
    pub(crate) attributes: TdAttributes,
    pub(crate) xfam: u64,
    /// CR4 bits that the processor has.
    pub(crate) cr4: u64,
}

/// XFAM bits, in the order of XCR0 and IA32_XSS.
mod xfam {
    pub(super) const PK: u64 = 1 << 9;
    pub(super) const CET_U: u64 = 1 << 11;
    pub(super) const CET_S: u64 = 1 << 12;
    pub(super) const UINTR: u64 = 1 << 14;
    /// The components that IA32_XSS, not XCR0, enables.
    pub(super) const SUPERVISOR: u64 = 1 << 8 | CET_U | CET_S | 1 << 13 | UINTR | 1 << 15 | 1 << 16;
}

/// CR4 bits by number.
pub(super) mod cr4 {
    pub(in crate::l2) const PAE: u64 = 1 << 5;
    pub(in crate::l2) const MCE: u64 = 1 << 6;
    pub(in crate::l2) const LA57: u64 = 1 << 12;
    pub(in crate::l2) const VMXE: u64 = 1 << 13;
    pub(in crate::l2) const PCIDE: u64 = 1 << 17;
    pub(in crate::l2) const PKE: u64 = 1 << 22;
    pub(in crate::l2) const CET: u64 = 1 << 23;
    pub(in crate::l2) const PKS: u64 = 1 << 24;
    pub(in crate::l2) const UINTR: u64 = 1 << 25;
}

impl Shape {
    /// Before TDH.VP.INIT.
    pub(super) const NONE: Shape = Shape {
        gpaw: Gpaw::Bits48,
        attributes: TdAttributes::new(),
        xfam: 0,
        cr4: 0,
    };

    /// The shape of a TD on this processor.
    pub(crate) fn new(
        platform: &mut dyn Platform,
        gpaw: Gpaw,
        attributes: TdAttributes,
        xfam: u64,
    ) -> Shape {
        Shape {
            gpaw,
            attributes,
            xfam,
            cr4: supported_cr4(platform),
        }
    }

    /// Whether a value is a private GPA of the TD: no bit at or above the SHARED bit.
    pub(crate) fn is_private(&self, gpa: u64) -> bool {
        gpa & !(self.gpaw.shared_bit() - 1) == 0
    }

    /// The TD counts performance events, or the host may debug it.
    pub(super) fn perfmon_or_debug(&self) -> bool {
        self.attributes.perfmon() || self.attributes.debug()
    }

    pub(super) fn has_supervisor_shadow_stacks(&self) -> bool {
        self.xfam & xfam::CET_S != 0
    }

    /// CR4 bits that L1 can write, of the ones in the field's write mask.
    pub(super) fn writable_cr4(&self) -> u64 {
        const BASE: u64 = 0x03f7_1fbf;
        let both_cet = xfam::CET_U | xfam::CET_S;
        let mut writable = BASE & self.cr4;
        for (granted, bit) in [
            (self.xfam & xfam::PK != 0, cr4::PKE),
            (self.xfam & both_cet == both_cet, cr4::CET),
            (self.attributes.pks(), cr4::PKS),
            (self.xfam & xfam::UINTR != 0, cr4::UINTR),
        ] {
            if !granted {
                writable &= !bit;
            }
        }
        writable
    }

    /// IA32_XSS bits that the TD has.
    pub(super) fn xss(&self) -> u64 {
        self.xfam & xfam::SUPERVISOR
    }
}

/// CR4 bits that every processor with TDX has: VME, PVI, TSD, DE, PSE, PAE, PGE, PCE, OSFXSR,
/// OSXMMEXCPT.
const CR4_BASELINE: u64 = 0x07bf;

/// CR4 bits, the later ones by the CPUID bits that announce them (SDM volume 3, "Control
/// Registers").
fn supported_cr4(platform: &mut dyn Platform) -> u64 {
    let one = platform.cpuid(1, 0);
    let seven = platform.cpuid(7, 0);
    let rows = [
        (seven.ecx, 2, 11),  // UMIP.
        (seven.ecx, 16, 12), // LA57.
        (seven.ebx, 0, 16),  // FSGSBASE.
        (one.ecx, 17, 17),   // PCIDE.
        (one.ecx, 26, 18),   // OSXSAVE.
        (seven.ebx, 7, 20),  // SMEP.
        (seven.ebx, 20, 21), // SMAP.
        (seven.ecx, 3, 22),  // PKE.
        (seven.ecx, 7, 23),  // CET.
        (seven.ecx, 31, 24), // PKS.
        (seven.edx, 5, 25),  // UINTR.
    ];
    rows.iter()
        .filter(|(register, bit, _)| register >> bit & 1 != 0)
        .fold(CR4_BASELINE, |cr4, (_, _, bit)| cr4 | 1u64 << bit)
}
