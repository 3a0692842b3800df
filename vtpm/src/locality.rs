//! Localities.

/// Who speaks to the TPM (PTP 1.05, section "Locality"). Higher ones may take the TPM from lower
/// ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Locality {
    /// The static root of trust and everything it starts: firmware and an operating system that
    /// was not launched dynamically.
    Zero,
    /// Left to the dynamically launched operating system.
    One,
    /// The dynamically launched operating system.
    Two,
    /// Its launch code.
    Three,
    /// The hardware that performs a dynamic launch. No software of a guest.
    Four,
}

impl Locality {
    /// All, in ascending order.
    pub const ALL: [Self; 5] = [Self::Zero, Self::One, Self::Two, Self::Three, Self::Four];

    /// The locality of this number.
    pub const fn new(number: u32) -> Option<Self> {
        match number {
            0 => Some(Self::Zero),
            1 => Some(Self::One),
            2 => Some(Self::Two),
            3 => Some(Self::Three),
            4 => Some(Self::Four),
            _ => None,
        }
    }

    /// 0 to 4.
    pub const fn number(self) -> u8 {
        match self {
            Self::Zero => 0,
            Self::One => 1,
            Self::Two => 2,
            Self::Three => 3,
            Self::Four => 4,
        }
    }
}
