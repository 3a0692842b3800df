//! Which values XCR0 takes (SDM Vol. 1, section "Enabling the XSAVE Feature Set and
//! XSAVE-Enabled Features"), and how large the state is.

pub use x86_defs::xcr0::{AVX, AVX512, SSE, X87};

/// User state that L2 can be offered. PKRU (9) is not: L1's emulation would have to honour it.
/// Nor is AMX (17, 18): IA32_XFD, which is not switched, can take its state out of an XSAVE. MPX
/// (3, 4) is no part of any TD.
const OFFERED: u64 = X87 | SSE | AVX | AVX512;

/// The user state components that L2 may enable: those the TD has (XFAM) and its processor
/// reports (CPUID leaf 0DH), in whole groups.
pub const fn offered(xfam: u64, reported: u64) -> u64 {
    let mut components = xfam & reported & OFFERED | X87 | SSE;
    if components & AVX512 != AVX512 || components & AVX == 0 {
        components &= !AVX512;
    }
    components
}

/// Whether XSETBV takes `value` when `offered` is what there is.
pub const fn is_valid(value: u64, offered: u64) -> bool {
    value & !offered == 0
        && value & X87 != 0
        && (value & AVX == 0 || value & SSE != 0)
        && (value & AVX512 == 0 || value & AVX512 == AVX512 && value & AVX != 0)
}

/// Where a state component lies in the standard format of the XSAVE area.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Component {
    /// Bytes.
    pub size: u32,
    /// Offset in the standard format.
    pub offset: u32,
    /// It starts at a multiple of 64 in the compacted format.
    pub aligned: bool,
}

/// By component number, up to the last that can be offered.
pub type Components = [Component; 8];

/// Legacy region and header.
const LEGACY_AND_HEADER: u32 = 576;

/// Size of the standard format for the components in `xcr0`.
pub fn standard_size(components: &Components, xcr0: u64) -> u32 {
    selected(components, xcr0)
        .map(|component| component.offset.saturating_add(component.size))
        .fold(LEGACY_AND_HEADER, u32::max)
}

/// Size of the compacted format for the components in `xcr0`.
pub fn compacted_size(components: &Components, xcr0: u64) -> u32 {
    selected(components, xcr0).fold(LEGACY_AND_HEADER, |end, component| {
        let start = if component.aligned {
            end.next_multiple_of(64)
        } else {
            end
        };
        start.saturating_add(component.size)
    })
}

fn selected(components: &Components, xcr0: u64) -> impl Iterator<Item = &Component> {
    (0..)
        .zip(components)
        .skip(2)
        .filter(move |(index, _): &(u32, _)| xcr0 >> index & 1 != 0)
        .map(|(_, component)| component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_offered_whole() {
        for (xfam, reported, expected) in [
            (0x3, u64::MAX, 0x3),
            (0xE7, 0x7, 0x7),
            (0xE7, u64::MAX, 0xE7),
            (0x67, u64::MAX, 0x7),
            (0xE3, u64::MAX, 0x3),
            (0x602E7, u64::MAX, 0xE7),
            (0, 0, 0x3),
        ] {
            assert_eq!(offered(xfam, reported), expected, "{xfam:#x} {reported:#x}");
        }
    }

    #[test]
    fn xsetbv_takes_what_the_sdm_says() {
        for (value, valid) in [
            (0x1, true),
            (0x3, true),
            (0x7, true),
            (0xE7, true),
            (0x0, false),
            (0x2, false),
            (0x5, false),
            (0x27, false),
            (0xE3, false),
            (0x60007, false),
            (0x207, false),
            (0x1F, false),
            (1 << 63 | 1, false),
        ] {
            assert_eq!(is_valid(value, 0xE7), valid, "{value:#x}");
        }
        assert!(!is_valid(0x7, 0x3));
    }

    #[test]
    fn sizes_follow_the_components() {
        let mut components = Components::default();
        components[2] = Component {
            size: 256,
            offset: 576,
            aligned: false,
        };
        components[5] = Component {
            size: 64,
            offset: 1088,
            aligned: false,
        };
        components[6] = Component {
            size: 512,
            offset: 1152,
            aligned: true,
        };
        assert_eq!(standard_size(&components, 3), 576);
        assert_eq!(standard_size(&components, 7), 832);
        assert_eq!(standard_size(&components, 0x27), 1152);
        assert_eq!(compacted_size(&components, 0x27), 896);
        components[5].size = 8;
        assert_eq!(compacted_size(&components, 0x67), 896 + 512);
    }
}
