//! What came of an instruction that L1 executed for L2.

use core::fmt;

use crate::event::Event;

/// What the run loop does after an emulated instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome {
    /// The instruction completed; registers and RIP hold its result. Enter L2.
    Completed,
    /// A repeated string instruction did as many iterations as one exit may: RCX, RSI and RDI
    /// stand after the last one, RIP still at the instruction. Enter L2, which goes on with it.
    Interrupted,
    /// The instruction faulted as it would have on the processor: registers as its completed
    /// iterations left them, CR2 set. Enter L2 with this event.
    Fault(Event),
}

/// Why L1 cannot execute an instruction in L2's place. L2 did something that no guest this VMM
/// is for does; entering it again would exit the same way. Its words name addresses, but nothing
/// that the addresses hold: who reads them may be somebody L2 has secrets from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmulationError {
    /// No implemented instruction: SSE and wider moves, read-modify-write beyond the ALU group.
    #[error("the instruction at {linear:#x} cannot be emulated")]
    Unsupported {
        /// Linear address of the instruction.
        linear: u64,
        /// Its bytes.
        instruction: InstructionBytes,
    },
    /// L2 fetched an instruction from an address that is not memory.
    #[error("instruction fetch from {gpa:#x}")]
    Fetch {
        /// Guest-physical address of the fetch.
        gpa: u64,
    },
    /// One of L2's paging structures is not in its memory.
    #[error("paging structure at {gpa:#x} is not memory")]
    PagingStructure {
        /// Guest-physical address of the entry.
        gpa: u64,
    },
    /// The access came from the delivery of an event (stack, IDT or TSS outside memory), so
    /// the instruction at RIP did not make it.
    #[error("event {event:?} delivered through {gpa:#x}")]
    Delivery {
        /// The event that was being delivered.
        event: Event,
        /// Guest-physical address of the access.
        gpa: u64,
    },
    /// An operand is neither in L2's memory nor claimed by a device.
    #[error("access to {gpa:#x}, which is neither memory nor a device")]
    Unclaimed {
        /// Guest-physical address of the operand.
        gpa: u64,
        /// Whether the access was a write.
        write: bool,
    },
    /// No operand of the instruction at RIP is where the exit says the access was.
    #[error("the instruction at {linear:#x} does not access {gpa:#x}")]
    Elsewhere {
        /// Linear address of the instruction.
        linear: u64,
        /// Its bytes.
        instruction: InstructionBytes,
        /// Guest-physical address of the access.
        gpa: u64,
    },
    /// The exit's description of an I/O instruction contradicts itself.
    #[error("I/O exit qualification {qualification:#x}")]
    Qualification {
        /// The qualification.
        qualification: u64,
    },
}

impl EmulationError {
    /// The bytes of the instruction, as far as they were fetched.
    pub const fn instruction(&self) -> Option<InstructionBytes> {
        match self {
            Self::Unsupported { instruction, .. } | Self::Elsewhere { instruction, .. } => {
                Some(*instruction)
            }
            _ => None,
        }
    }
}

/// The bytes of an instruction, for a report.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct InstructionBytes {
    bytes: [u8; Self::MAX],
    length: u8,
}

impl InstructionBytes {
    /// Longest instruction of the architecture.
    pub const MAX: usize = 15;

    /// Keeps the first 15 of `bytes`.
    pub fn new(bytes: &[u8]) -> Self {
        let mut kept = [0; Self::MAX];
        let mut length = 0;
        for (to, from) in kept.iter_mut().zip(bytes) {
            *to = *from;
            length += 1;
        }
        Self {
            bytes: kept,
            length,
        }
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or(&self.bytes)
    }
}

impl fmt::Display for InstructionBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.as_slice() {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for InstructionBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::format;

    use super::*;

    #[test]
    fn instruction_bytes_are_shown_in_hexadecimal() {
        let bytes = InstructionBytes::new(&[0x8B, 0x03]);
        assert_eq!(format!("{bytes} {bytes:?}"), "8b03 8b03");
        let longest = InstructionBytes::new(&[0x66; 16]);
        assert_eq!(longest.as_slice(), [0x66; 15]);
    }
}
