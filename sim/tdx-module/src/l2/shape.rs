//! What of the TD's configuration and of the processor shapes an L2 VMCS.

use crate::platform::Platform;
use tdx_defs::Gpaw;
use tdx_defs::field::TdAttributes;
use x86_defs::{cr4, xcr0};

/// Features that decide which control bits are fixed and which CR4 bits exist.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) gpaw: Gpaw,
    pub(crate) attributes: TdAttributes,
    pub(crate) xfam: u64,
    /// CR4 bits that the processor has.
    pub(crate) cr4: u64,
}

/// The components of XFAM that IA32_XSS, not XCR0, enables.
const SUPERVISOR: u64 =
    xcr0::PT | xcr0::CET_U | xcr0::CET_S | xcr0::HDC | xcr0::UINTR | xcr0::LBR | xcr0::HWP;

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
        platform: &mut impl Platform,
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
        self.xfam & xcr0::CET_S != 0
    }

    /// CR4 bits that L1 can write, of the ones in the field's write mask.
    pub(super) fn writable_cr4(&self) -> u64 {
        const BASE: u64 = 0x03f7_1fbf;
        let both_cet = xcr0::CET_U | xcr0::CET_S;
        let mut writable = BASE & self.cr4;
        for (granted, bit) in [
            (self.xfam & xcr0::PKRU != 0, cr4::PKE),
            (self.xfam & both_cet == both_cet, cr4::CET),
            (self.attributes.pks(), cr4::PKS),
            (self.xfam & xcr0::UINTR != 0, cr4::UINTR),
        ] {
            if !granted {
                writable &= !bit;
            }
        }
        writable
    }

    /// IA32_XSS bits that the TD has.
    pub(super) fn xss(&self) -> u64 {
        self.xfam & SUPERVISOR
    }
}

/// CR4 bits that every processor with TDX has: VME, PVI, TSD, DE, PSE, PAE, PGE, PCE, OSFXSR,
/// OSXMMEXCPT.
const CR4_BASELINE: u64 = cr4::VME
    | cr4::PVI
    | cr4::TSD
    | cr4::DE
    | cr4::PSE
    | cr4::PAE
    | cr4::PGE
    | cr4::PCE
    | cr4::OSFXSR
    | cr4::OSXMMEXCPT;

/// CR4 bits, the later ones by the CPUID bits that announce them (SDM volume 3, "Control
/// Registers").
fn supported_cr4(platform: &mut impl Platform) -> u64 {
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
