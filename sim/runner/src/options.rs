//! Options of the simulator that nearly every run chooses.

/// The guest physical address width of the TD: the shared bit is its highest bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gpaw {
    /// 48 bits: shared bit 47.
    Bits48,
    /// 52 bits: shared bit 51.
    Bits52,
}

impl Gpaw {
    /// What [`from_word`](Self::from_word) takes.
    pub const WORDS: [&str; 2] = ["48", "52"];

    /// The width that this word names.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "48" => Some(Self::Bits48),
            "52" => Some(Self::Bits52),
            _ => None,
        }
    }

    /// The width in bits.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Bits48 => 48,
            Self::Bits52 => 52,
        }
    }
}

/// How L2's accesses to the TPM window reach L1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Private pages of L1: the TDX module gives the exits to L1.
    Accepted,
    /// No memory there: the host routes the exits to L1.
    Hole,
}

impl Window {
    /// What [`from_word`](Self::from_word) takes.
    pub const WORDS: [&str; 2] = ["accepted", "hole"];

    /// The kind of window that this word names.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "accepted" => Some(Self::Accepted),
            "hole" => Some(Self::Hole),
            _ => None,
        }
    }

    /// The simulator's option for it.
    pub fn option(self) -> String {
        match self {
            Self::Accepted => "window=accepted",
            Self::Hole => "window=hole",
        }
        .to_owned()
    }
}
