//! The FIFO interface (PTP, "FIFO Interface").

use tcg_defs::ptp::fifo as offset;
use vtpm::MAX_RESPONSE;

use super::super::engine::Asked;
use super::expected::Expectation;
use super::localities::{Ask, Localities, Turn};
use super::{Expected, LOCALITIES, Part, Profile};

/// What a register reads as, and what a write to it does.
#[derive(Clone, Copy)]
enum Register {
    Access,
    IntEnable,
    IntVector,
    IntStatus,
    Status,
    Fifo,
    InterfaceId,
    Fixed(u32),
}

/// Table "Allocation of Register Space for FIFO" (table 12). What is not here is reserved, or locality 4's: all ones.
const REGISTERS: [(u32, u32, Register); 11] = [
    (offset::ACCESS, 4, Register::Access),
    (offset::INT_ENABLE, 4, Register::IntEnable),
    (offset::INT_VECTOR, 4, Register::IntVector),
    (offset::INT_STATUS, 4, Register::IntStatus),
    // Version 3, 64-byte transfers, dynamic burstCount, low level, all four interrupts.
    (offset::INTF_CAPABILITY, 4, Register::Fixed(0x3000_0697)),
    (offset::STS, 4, Register::Status),
    (offset::DATA_FIFO, 4, Register::Fifo),
    (offset::INTERFACE_ID, 4, Register::InterfaceId),
    (offset::XDATA_FIFO, 64, Register::Fifo),
    (offset::DID_VID, 4, Register::Fixed(0x0001_1014)),
    (offset::RID, 4, Register::Fixed(1)),
];

/// TPM_INTERFACE_ID_x (table 15): FIFO of PTP, five localities, no other interface.
const INTERFACE_ID: u32 = 0x2100;
const SELECTOR_LOCK: u32 = 1 << 19;

// TPM_ACCESS_x.
const VALID: u32 = 1 << 7;
const ACTIVE: u32 = 1 << 5;
const SEIZED: u32 = 1 << 4;
const SEIZE: u32 = 1 << 3;
const PENDING: u32 = 1 << 2;
const REQUEST: u32 = 1 << 1;
const NOT_ESTABLISHED: u32 = 1 << 0;

// TPM_STS_x (table 21).
const FAMILY_2_0: u32 = 1 << 26;
const RESET_ESTABLISHMENT: u32 = 1 << 25;
const COMMAND_CANCEL: u32 = 1 << 24;
const STS_VALID: u32 = 1 << 7;
const COMMAND_READY: u32 = 1 << 6;
const GO: u32 = 1 << 5;
const DATA_AVAIL: u32 = 1 << 4;
const EXPECT: u32 = 1 << 3;
const RETRY: u32 = 1 << 1;

// TPM_INT_ENABLE_x and TPM_INT_STATUS_x.
const GLOBAL: u32 = 1 << 31;
const READY_OCCURS: u32 = 1 << 7;
const CHANGE_OCCURS: u32 = 1 << 2;
const VALID_OCCURS: u32 = 1 << 1;
const DATA_OCCURS: u32 = 1 << 0;
const ENABLES: u32 = 0x8000_009F;
/// Low level, nothing enabled.
const ENABLE_RESET: u32 = 1 << 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Ready,
    /// Reception, Expect set.
    Incomplete,
    /// Reception, Expect clear.
    Complete,
    Execution,
    Completion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    CommandReady,
    Go,
    Retry,
    Written,
    Read,
    /// The engine has the response.
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Nothing,
    /// The byte is one of the command; the last one makes the state Complete.
    Take,
    Execute,
    /// The next byte of the response is read.
    Give,
    Rewind,
    /// Command and response are gone.
    Drop,
    /// And the command that runs.
    Abort,
}

type Row = (Event, State, Effect, u32);

/// The state transitions: what happens, the state after it, what is done, and the interrupts that occur. What is not here
/// changes nothing.
const TRANSITIONS: [(State, &[Row]); 6] = [
    (
        State::Idle,
        &[(
            Event::CommandReady,
            State::Ready,
            Effect::Nothing,
            READY_OCCURS,
        )],
    ),
    (
        State::Ready,
        &[(Event::Written, State::Incomplete, Effect::Take, 0)],
    ),
    (
        State::Incomplete,
        &[
            (Event::Written, State::Incomplete, Effect::Take, 0),
            (
                Event::CommandReady,
                State::Ready,
                Effect::Drop,
                READY_OCCURS,
            ),
        ],
    ),
    (
        State::Complete,
        &[
            (Event::Go, State::Execution, Effect::Execute, 0),
            (
                Event::CommandReady,
                State::Ready,
                Effect::Drop,
                READY_OCCURS,
            ),
        ],
    ),
    (
        State::Execution,
        &[
            (
                Event::CommandReady,
                State::Ready,
                Effect::Abort,
                READY_OCCURS,
            ),
            (
                Event::Done,
                State::Completion,
                Effect::Nothing,
                DATA_OCCURS | VALID_OCCURS,
            ),
        ],
    ),
    (
        State::Completion,
        &[
            (Event::Read, State::Completion, Effect::Give, 0),
            (Event::Retry, State::Completion, Effect::Rewind, 0),
            (
                Event::CommandReady,
                State::Ready,
                Effect::Drop,
                READY_OCCURS,
            ),
        ],
    ),
];

/// TPM_STS_x in each state, but for burstCount, and dataAvail when nothing is left.
const STATUS: [(State, u32); 6] = [
    (State::Idle, 0),
    (State::Ready, COMMAND_READY),
    (State::Incomplete, STS_VALID | EXPECT),
    (State::Complete, STS_VALID),
    (State::Execution, 0),
    (State::Completion, STS_VALID | DATA_AVAIL),
];

pub struct Fifo {
    localities: Localities,
    state: State,
    /// A locality that gave up a ready TPM finds it ready.
    ready: [bool; LOCALITIES as usize],
    command: Vec<u8>,
    response: Vec<u8>,
    read: usize,
    enable: [u32; LOCALITIES as usize],
    occurred: [u32; LOCALITIES as usize],
    vector: u32,
    locked: bool,
    /// Bytes that were moved since burstCount was 0.
    moved: usize,
    engine: Expectation,
}

/// So many bytes are moved between two pauses.
const STRETCH: usize = 768;

impl Fifo {
    fn with(engine: Expectation) -> Self {
        Self {
            localities: Localities::default(),
            state: State::Idle,
            ready: [false; LOCALITIES as usize],
            command: Vec::new(),
            response: Vec::new(),
            read: 0,
            enable: [ENABLE_RESET; LOCALITIES as usize],
            occurred: [0; LOCALITIES as usize],
            vector: 0,
            locked: false,
            moved: 0,
            engine,
        }
    }

    fn at(register: u32) -> Option<Register> {
        let within = |(start, length, _): &&(u32, u32, Register)| {
            (*start..*start + *length).contains(&register)
        };
        REGISTERS
            .iter()
            .find(within)
            .map(|(_, _, register)| *register)
    }

    fn occur(&mut self, locality: u32, interrupts: u32) {
        let at = locality as usize;
        if self.enable[at] & GLOBAL != 0 && self.enable[at] & interrupts != 0 {
            self.occurred[at] |= interrupts;
        }
    }

    fn drop_bytes(&mut self) {
        self.command.clear();
        self.response.clear();
        self.read = 0;
    }

    /// Whether the command has as many bytes as its header says, of which no more than there is room for count.
    fn is_complete(&self) -> bool {
        let size = self.command.get(2..6).and_then(|size| size.try_into().ok());
        let size = size.map_or(u32::MAX, u32::from_be_bytes);
        self.command.len() as u64 >= u64::from(size)
    }

    /// What a byte that is read is.
    fn happen(&mut self, event: Event, byte: u8) -> u8 {
        if event == Event::CommandReady {
            self.moved = 0;
        }
        let state = TRANSITIONS.iter().find(|(state, _)| *state == self.state);
        let (_, rows) = state.expect("there are rows for each");
        let Some((_, next, effect, interrupts)) = rows.iter().find(|row| row.0 == event) else {
            return 0xFF;
        };
        let owner = self.localities.owner.expect("somebody does it");
        self.state = *next;
        self.occur(owner, *interrupts);
        match effect {
            Effect::Nothing => {}
            Effect::Drop => self.drop_bytes(),
            Effect::Abort => {
                self.engine.abandon();
                self.drop_bytes();
            }
            Effect::Rewind => self.read = 0,
            Effect::Give => {
                self.moved += 1;
                let byte = self.response.get(self.read).copied();
                self.read += usize::from(byte.is_some());
                return byte.unwrap_or(0xFF);
            }
            Effect::Take => {
                self.moved += 1;
                let full = self.command.len() == MAX_RESPONSE;
                if !full {
                    self.command.push(byte);
                }
                if full || self.is_complete() {
                    self.state = State::Complete;
                    self.occur(owner, VALID_OCCURS);
                }
            }
            Effect::Execute => {
                self.moved = 0;
                let response = self.engine.begin(owner, &self.command, MAX_RESPONSE);
                self.done(response);
            }
        }
        0xFF
    }

    fn done(&mut self, response: Option<Vec<u8>>) {
        if let Some(response) = response {
            self.drop_bytes();
            self.response = response;
            self.happen(Event::Done, 0);
        }
    }

    fn turn(&mut self, Turn { from, to, taken }: Turn) {
        self.engine.abandon();
        self.drop_bytes();
        self.moved = 0;
        let was_ready = std::mem::replace(&mut self.state, State::Idle) == State::Ready;
        if let Some(from) = from {
            self.ready[from as usize] = was_ready && !taken;
        }
        if let Some(to) = to {
            let ready = std::mem::take(&mut self.ready[to as usize]);
            if ready && !taken {
                self.state = State::Ready;
            }
            self.occur(to, CHANGE_OCCURS);
        }
    }

    fn ask(&mut self, locality: u32, ask: Ask) {
        if let Some(turn) = self.localities.ask(locality, ask) {
            self.turn(turn);
        }
    }

    fn access(&self, locality: u32) -> u32 {
        let flag = |set: bool, bit: u32| u32::from(set) * bit;
        let at = locality as usize;
        VALID
            | flag(self.localities.owner == Some(locality), ACTIVE)
            | flag(self.localities.seized[at], SEIZED)
            | flag(self.localities.others_wait(locality), PENDING)
            | flag(self.localities.waits[at], REQUEST)
            | flag(!self.engine.established, NOT_ESTABLISHED)
    }

    fn status(&self, by_byte: bool) -> u32 {
        let status = STATUS.iter().find(|(state, _)| *state == self.state);
        let &(_, mut status) = status.expect("there is a row for each");
        let left = self.response.len() - self.read;
        if left == 0 {
            status &= !DATA_AVAIL;
        }
        let paced = STRETCH.saturating_sub(self.moved);
        let burst = match self.state {
            State::Idle | State::Execution => 0,
            State::Ready => MAX_RESPONSE.min(paced),
            State::Incomplete => (MAX_RESPONSE - self.command.len()).max(1).min(paced),
            State::Complete => (MAX_RESPONSE - self.command.len()).clamp(1, STRETCH),
            State::Completion => left.min(paced),
        };
        // Who reads the count by bytes must not take its low byte for none.
        let burst = match by_byte {
            true => burst.min(0xFF),
            false => burst,
        };
        FAMILY_2_0 | status | (burst as u32) << 8
    }
}

impl Profile for Fifo {
    fn new(established: bool) -> Self {
        Self::with(Expectation::new(established))
    }

    fn read_part(&mut self, locality: u32, part: &Part, width: usize) -> Vec<Expected> {
        let owned = self.localities.owner == Some(locality);
        let at = locality as usize;
        match Self::at(part.register) {
            None => part.ones(),
            Some(Register::Access) => part.of(self.access(locality)),
            Some(Register::IntEnable) => part.of(self.enable[at]),
            Some(Register::IntVector) => part.of(self.vector),
            Some(Register::IntStatus) => part.of(self.occurred[at]),
            Some(Register::InterfaceId) => {
                part.of(INTERFACE_ID | (u32::from(self.locked) * SELECTOR_LOCK))
            }
            Some(Register::Fixed(value)) => part.of(value),
            Some(Register::Status | Register::Fifo) if !owned => part.ones(),
            Some(Register::Status) => {
                // A poll: the command that runs goes on.
                self.slice();
                let status = self.status(width == 1);
                if (part.first..part.first + part.length).contains(&1) && self.moved >= STRETCH {
                    self.moved = 0;
                }
                part.of(status)
            }
            Some(Register::Fifo) => {
                let bytes = (0..part.length).map(|_| self.happen(Event::Read, 0));
                bytes.map(Expected::Is).collect()
            }
        }
    }

    fn write_part(&mut self, locality: u32, part: &Part, bytes: &[u8]) {
        let (value, mask) = part.written(bytes);
        let at = locality as usize;
        let Some(register) = Self::at(part.register) else {
            return;
        };
        match register {
            Register::Access => {
                if value & SEIZED != 0 {
                    self.localities.seized[at] = false;
                }
                if value & SEIZE != 0 {
                    return self.ask(locality, Ask::Seize);
                }
                if value & ACTIVE != 0 {
                    self.ask(locality, Ask::Relinquish);
                }
                if value & REQUEST != 0 {
                    self.ask(locality, Ask::Request);
                }
            }
            Register::InterfaceId => self.locked |= value & SELECTOR_LOCK != 0,
            Register::Fixed(_) => {}
            _ if self.localities.owner != Some(locality) => {}
            Register::IntEnable => {
                self.enable[at] = (self.enable[at] & !mask | value) & ENABLES;
            }
            Register::IntVector if mask & 0xFF != 0 => self.vector = value & 0xF,
            Register::IntVector => {}
            Register::IntStatus => self.occurred[at] &= !value,
            Register::Status => {
                if value & RESET_ESTABLISHMENT != 0 && locality >= 3 {
                    self.engine.established = false;
                }
                if value & COMMAND_CANCEL != 0 {
                    self.engine.cancel();
                }
                match value & (COMMAND_READY | GO | RETRY) {
                    COMMAND_READY => self.happen(Event::CommandReady, 0),
                    GO => self.happen(Event::Go, 0),
                    RETRY => self.happen(Event::Retry, 0),
                    // None, or some that contradict each other.
                    _ => 0,
                };
            }
            Register::Fifo => {
                for byte in bytes {
                    self.happen(Event::Written, *byte);
                }
            }
        }
    }

    fn slice(&mut self) {
        let response = self.engine.slice(MAX_RESPONSE);
        if response.is_some() {
            // The driver waits once before it moves the response.
            self.moved = STRETCH;
        }
        self.done(response);
    }

    fn reset(&mut self) {
        let mut engine = std::mem::take(&mut self.engine);
        engine.reset();
        *self = Self::with(engine);
    }

    fn line(&self) -> bool {
        let mut both = self.enable.iter().zip(self.occurred);
        both.any(|(enable, occurred)| enable & GLOBAL != 0 && occurred != 0)
    }

    fn runs(&self) -> bool {
        self.engine.runs()
    }

    fn asked(&mut self) -> Asked {
        self.engine.asked()
    }
}
