//! Guest physical addresses, page levels, and the index of an L2 VM.

/// A guest physical address of the TD. L2's guest physical addresses are the same ones: the
/// module remaps nothing (TDX Module Base Architecture, "TD Partitioning").
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Gpa(pub u64);

impl Gpa {
    /// Bits 51:0: no GPA of a TD is wider.
    pub const MASK: u64 = (1 << 52) - 1;

    /// Whether the address is a multiple of `alignment`, a power of two.
    pub const fn is_aligned(self, alignment: u64) -> bool {
        self.0 & alignment.wrapping_sub(1) == 0
    }
}

/// Guest physical address width of the TD (`GPAW`): where the SHARED bit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gpaw {
    /// 48 bits, SHARED is bit 47.
    Bits48,
    /// 52 bits, SHARED is bit 51.
    Bits52,
}

impl Gpaw {
    /// The width given as a number of bits, as TDG.VP.INFO returns it.
    pub const fn from_bits(bits: u64) -> Option<Self> {
        match bits {
            48 => Some(Self::Bits48),
            52 => Some(Self::Bits52),
            _ => None,
        }
    }

    /// Number of bits, 48 or 52.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Bits48 => 48,
            Self::Bits52 => 52,
        }
    }

    /// The SHARED bit as a mask.
    pub const fn shared_bit(self) -> u64 {
        1 << (self.bits() - 1)
    }
}

/// Size of a page in the secure EPT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PageLevel {
    /// 4 KiB.
    Page4K = 0,
    /// 2 MiB.
    Page2M = 1,
    /// 1 GiB. TDG.MEM.PAGE.ACCEPT does not take it.
    Page1G = 2,
}

impl PageLevel {
    /// The level with this number in the low bits of a mapping or a status.
    pub const fn from_number(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Page4K),
            1 => Some(Self::Page2M),
            2 => Some(Self::Page1G),
            _ => None,
        }
    }

    /// The number that a leaf takes.
    pub const fn number(self) -> u64 {
        self as u64
    }

    /// Size in bytes.
    pub const fn size(self) -> u64 {
        0x1000 << (9 * self as u64)
    }
}

/// Index of an L2 VM, 1..=3. (VM 0 is L1 itself.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmIndex(u8);

impl VmIndex {
    /// The first L2 VM.
    pub const FIRST: Self = Self(1);
    /// The highest number of L2 VMs of a TD.
    pub const MAX: u8 = 3;

    /// The L2 VM with this number; 0 (L1) and numbers above 3 are none.
    pub const fn new(number: u8) -> Option<Self> {
        if number >= 1 && number <= Self::MAX {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number, 1..=3.
    pub const fn get(self) -> u8 {
        self.0
    }
}
