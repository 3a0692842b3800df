//! The command response buffer interface (PTP, "CRB Interface").

use tcg_defs::ptp::BASE;
use tcg_defs::ptp::crb as offset;
use vtpm::ptp::data_buffer::SIZE;

use super::super::engine::Asked;
use super::expected::Expectation;
use super::localities::{Ask, Localities, Turn};
use super::{Expected, LOCALITIES, PAGE, Part, Profile};

/// What a register reads as, and what a write to it does.
#[derive(Clone, Copy)]
enum Register {
    LocState,
    LocCtrl,
    LocSts,
    InterfaceId,
    CtrlReq,
    CtrlSts,
    Cancel,
    Start,
    IntEnable,
    IntStatus,
    AddressLow,
    AddressHigh,
    Fixed(u32),
}

/// Table "Allocation of Register Space for CRB". What is not here is reserved and reads as 0; behind it is the data buffer.
const REGISTERS: [(u32, Register); 17] = [
    (offset::LOC_STATE, Register::LocState),
    (offset::LOC_CTRL, Register::LocCtrl),
    (offset::LOC_STS, Register::LocSts),
    (offset::INTF_ID, Register::InterfaceId),
    (offset::INTF_ID_VENDOR, Register::Fixed(0x0001_1014)),
    (offset::CTRL_REQ, Register::CtrlReq),
    (offset::CTRL_STS, Register::CtrlSts),
    (offset::CTRL_CANCEL, Register::Cancel),
    (offset::CTRL_START, Register::Start),
    (offset::INT_ENABLE, Register::IntEnable),
    (offset::INT_STS, Register::IntStatus),
    (offset::CTRL_CMD_SIZE, Register::Fixed(0xF80)),
    (offset::CTRL_CMD_LADDR, Register::AddressLow),
    (offset::CTRL_CMD_HADDR, Register::AddressHigh),
    (offset::CTRL_RSP_SIZE, Register::Fixed(0xF80)),
    (offset::CTRL_RSP_LADDR, Register::AddressLow),
    (offset::CTRL_RSP_HADDR, Register::AddressHigh),
];

/// TPM_CRB_INTF_ID_x: CRB, version 1, five localities, 64-byte transfers, no other interface.
const INTERFACE_ID: u32 = 0x0002_5911;
const SELECTOR_LOCK: u32 = 1 << 19;

// TPM_LOC_STATE_x.
const VALID: u32 = 1 << 7;
const ASSIGNED: u32 = 1 << 1;
const NOT_ESTABLISHED: u32 = 1 << 0;
// TPM_LOC_CTRL_x.
const RESET_ESTABLISHMENT: u32 = 1 << 3;
const SEIZE: u32 = 1 << 2;
const RELINQUISH: u32 = 1 << 1;
const REQUEST: u32 = 1 << 0;
// TPM_LOC_STS_x.
const BEEN_SEIZED: u32 = 1 << 1;
const GRANTED: u32 = 1 << 0;
// TPM_CRB_CTRL_REQ_x.
const GO_IDLE: u32 = 1 << 1;
const COMMAND_READY: u32 = 1 << 0;
/// TPM_CRB_CTRL_STS_x.
const IDLE: u32 = 1 << 1;
// TPM_CRB_INT_ENABLE_x and TPM_CRB_INT_STS_x.
const GLOBAL: u32 = 1 << 31;
const START: u32 = 1 << 0;
const READY: u32 = 1 << 1;
const ESTABLISHMENT_CLEAR: u32 = 1 << 2;
const LOCALITY_CHANGE: u32 = 1 << 3;
/// What is stored of the former.
const ENABLES: u32 = GLOBAL | START | READY | ESTABLISHMENT_CLEAR | LOCALITY_CHANGE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// Reception, too: until START the buffer is the guest's alone.
    Ready,
    Execution,
    Completion,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    CommandReady,
    GoIdle,
    Start,
    /// The engine has the response.
    Done,
    /// The locality gives up the TPM or loses it.
    Leave,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    Nothing,
    Execute,
    /// Nothing of command and response is needed any more.
    Drop,
    /// And the command that runs is over.
    Abort,
}

type Row = (Event, State, Effect);

/// The state transitions: what happens, the state after it, and what is done. What is not here changes nothing. Idle takes
/// START, and Completion the next one, because drivers leave cmdReady out.
const TRANSITIONS: [(State, &[Row]); 4] = [
    (
        State::Idle,
        &[
            (Event::CommandReady, State::Ready, Effect::Nothing),
            (Event::Start, State::Execution, Effect::Execute),
            (Event::Leave, State::Idle, Effect::Drop),
        ],
    ),
    (
        State::Ready,
        &[
            (Event::GoIdle, State::Idle, Effect::Drop),
            (Event::Start, State::Execution, Effect::Execute),
            (Event::Leave, State::Ready, Effect::Drop),
        ],
    ),
    (
        State::Execution,
        &[
            (Event::CommandReady, State::Ready, Effect::Abort),
            (Event::GoIdle, State::Idle, Effect::Abort),
            (Event::Done, State::Completion, Effect::Nothing),
            (Event::Leave, State::Ready, Effect::Abort),
        ],
    ),
    (
        State::Completion,
        &[
            (Event::CommandReady, State::Ready, Effect::Nothing),
            (Event::GoIdle, State::Idle, Effect::Drop),
            (Event::Start, State::Execution, Effect::Execute),
            (Event::Leave, State::Ready, Effect::Drop),
        ],
    ),
];

pub struct Crb {
    localities: Localities,
    state: State,
    buffer: Vec<Expected>,
    /// Whose command was in the buffer last.
    writer: Option<u32>,
    /// Where the guest finds the buffer, where it is not behind the registers alone.
    pub address: Option<u64>,
    cancel: u32,
    enable: [u32; LOCALITIES as usize],
    occurred: [u32; LOCALITIES as usize],
    locked: bool,
    engine: Expectation,
}

impl Crb {
    fn with(engine: Expectation, address: Option<u64>) -> Self {
        Self {
            localities: Localities::default(),
            state: State::Idle,
            buffer: vec![Expected::Is(0); SIZE],
            writer: None,
            address,
            cancel: 0,
            enable: [0; LOCALITIES as usize],
            occurred: [0; LOCALITIES as usize],
            locked: false,
            engine,
        }
    }

    fn at(register: u32) -> Option<Register> {
        let found = REGISTERS.iter().find(|(start, _)| *start == register);
        found.map(|(_, register)| *register)
    }

    /// The owner, behind whose registers the buffer is.
    pub fn owner(&self) -> Option<u32> {
        self.localities.owner
    }

    /// What is in the buffer, which must be as it is expected to be.
    pub fn settle(&mut self, found: &[u8]) {
        for (at, (expected, byte)) in self.buffer.iter_mut().zip(found).enumerate() {
            assert!(
                expected.allows(*byte),
                "{byte:#x} at {at:#x} of the buffer, {expected:?}"
            );
            *expected = Expected::Is(*byte);
        }
    }

    /// The guest writes to its page, without an exit.
    pub fn poke(&mut self, at: usize, bytes: &[u8]) {
        for (place, byte) in self.buffer.iter_mut().skip(at).zip(bytes) {
            *place = Expected::Is(*byte);
        }
    }

    /// Of an event that the locality has not enabled nothing stays.
    fn occur(&mut self, locality: u32, interrupts: u32) {
        let at = locality as usize;
        if self.enable[at] & GLOBAL != 0 && self.enable[at] & interrupts != 0 {
            self.occurred[at] |= interrupts;
        }
    }

    fn happen(&mut self, event: Event) {
        if let Some(owner) = self.localities.owner {
            match event {
                Event::CommandReady => self.occur(owner, READY),
                Event::Done => self.occur(owner, START),
                Event::GoIdle | Event::Start | Event::Leave => {}
            }
        }
        let state = TRANSITIONS.iter().find(|(state, _)| *state == self.state);
        let (_, rows) = state.expect("there are rows for each");
        let Some((_, next, effect)) = rows.iter().find(|row| row.0 == event) else {
            return;
        };
        self.state = *next;
        match effect {
            Effect::Nothing => {}
            Effect::Drop => self.drop_bytes(),
            Effect::Abort => {
                self.engine.abandon();
                self.drop_bytes();
            }
            Effect::Execute => {
                let owner = self.localities.owner.expect("somebody starts it");
                let command = self.command();
                let response = self.engine.begin(owner, &command, SIZE);
                self.done(response);
            }
        }
    }

    /// As many bytes as the header says, and at least a header.
    fn command(&self) -> Vec<u8> {
        let bytes = self.buffer.iter().map(|byte| match byte {
            Expected::Is(byte) => *byte,
            Expected::IsOrZero(_) => panic!("the buffer is looked at before START"),
        });
        let bytes: Vec<u8> = bytes.collect();
        let size = u32::from_be_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]);
        bytes[..(size as usize).clamp(10, SIZE)].to_vec()
    }

    /// What was there may be gone.
    fn drop_bytes(&mut self) {
        for byte in &mut self.buffer {
            if let Expected::Is(value) = *byte {
                *byte = Expected::IsOrZero(value);
            }
        }
    }

    fn done(&mut self, response: Option<Vec<u8>>) {
        if let Some(response) = response {
            self.drop_bytes();
            self.poke(0, &response);
            self.happen(Event::Done);
        }
    }

    fn ask(&mut self, locality: u32, ask: Ask) {
        let Some(Turn { to, .. }) = self.localities.ask(locality, ask) else {
            return;
        };
        self.happen(Event::Leave);
        if to.is_some() && to != self.writer {
            self.writer = to;
            self.buffer.fill(Expected::Is(0));
        }
        if let Some(to) = to {
            self.occur(to, LOCALITY_CHANGE);
        }
    }

    fn value(&self, locality: u32, register: Register) -> u32 {
        let flag = |set: bool, bit: u32| u32::from(set) * bit;
        let at = locality as usize;
        let owner = self.localities.owner;
        let address = self
            .address
            .unwrap_or_else(|| BASE + u64::from(locality * PAGE) + u64::from(offset::DATA_BUFFER));
        match register {
            Register::LocState => {
                VALID
                    | owner.unwrap_or(0) << 2
                    | flag(owner.is_some(), ASSIGNED)
                    | flag(!self.engine.established, NOT_ESTABLISHED)
            }
            Register::LocSts => {
                flag(owner == Some(locality), GRANTED)
                    | flag(self.localities.seized[at], BEEN_SEIZED)
            }
            // What is written there is over at once.
            Register::LocCtrl | Register::CtrlReq => 0,
            Register::InterfaceId => INTERFACE_ID | flag(self.locked, SELECTOR_LOCK),
            Register::CtrlSts => flag(self.state == State::Idle, IDLE),
            Register::Cancel => self.cancel,
            Register::Start => u32::from(self.state == State::Execution),
            Register::IntEnable => self.enable[at],
            Register::IntStatus => self.occurred[at],
            Register::AddressLow => address as u32,
            Register::AddressHigh => (address >> 32) as u32,
            Register::Fixed(value) => value,
        }
    }
}

impl Profile for Crb {
    fn new(established: bool) -> Self {
        Self::with(Expectation::new(established), None)
    }

    fn read_part(&mut self, locality: u32, part: &Part, _width: usize) -> Vec<Expected> {
        let owned = self.localities.owner == Some(locality);
        if part.register >= offset::DATA_BUFFER {
            let at = (part.register - offset::DATA_BUFFER) as usize + part.first;
            return match owned {
                true => self.buffer[at..at + part.length].to_vec(),
                false => part.ones(),
            };
        }
        let Some(register) = Self::at(part.register) else {
            return part.of(0);
        };
        if owned && matches!(register, Register::Start) {
            // A poll: the command that runs goes on.
            self.slice();
        }
        part.of(self.value(locality, register))
    }

    fn write_part(&mut self, locality: u32, part: &Part, bytes: &[u8]) {
        let (value, mask) = part.written(bytes);
        let at = locality as usize;
        let owned = self.localities.owner == Some(locality);
        if part.register >= offset::DATA_BUFFER {
            let at = (part.register - offset::DATA_BUFFER) as usize + part.first;
            if owned {
                self.poke(at, bytes);
            }
            return;
        }
        match Self::at(part.register) {
            Some(Register::LocCtrl) => {
                if value & RESET_ESTABLISHMENT != 0
                    && locality >= 3
                    && std::mem::take(&mut self.engine.established)
                {
                    self.occur(locality, ESTABLISHMENT_CLEAR);
                }
                if value & SEIZE != 0 {
                    return self.ask(locality, Ask::Seize);
                }
                if value & RELINQUISH != 0 {
                    self.ask(locality, Ask::Relinquish);
                }
                if value & REQUEST != 0 {
                    // Who asks again knows that the TPM was taken from it.
                    self.localities.seized[at] = false;
                    self.ask(locality, Ask::Request);
                }
            }
            Some(Register::InterfaceId) => self.locked |= value & SELECTOR_LOCK != 0,
            _ if !owned => {}
            Some(Register::CtrlReq) => match value & (COMMAND_READY | GO_IDLE) {
                COMMAND_READY => self.happen(Event::CommandReady),
                GO_IDLE => self.happen(Event::GoIdle),
                _ => {}
            },
            Some(Register::Cancel) => {
                self.cancel = (self.cancel & !mask | value) & 1;
                if value & 1 != 0 {
                    self.engine.cancel();
                }
            }
            Some(Register::Start) if value & 1 != 0 => self.happen(Event::Start),
            Some(Register::IntEnable) => {
                self.enable[at] = (self.enable[at] & !mask | value) & ENABLES;
            }
            Some(Register::IntStatus) => self.occurred[at] &= !value,
            _ => {}
        }
    }

    fn slice(&mut self) {
        let response = self.engine.slice(SIZE);
        self.done(response);
    }

    fn reset(&mut self) {
        let mut engine = std::mem::take(&mut self.engine);
        engine.reset();
        *self = Self::with(engine, self.address);
    }

    fn line(&self) -> bool {
        let mut all = self.enable.iter().zip(&self.occurred);
        all.any(|(enable, occurred)| enable & GLOBAL != 0 && *occurred != 0)
    }

    fn runs(&self) -> bool {
        self.engine.runs()
    }

    fn asked(&mut self) -> Asked {
        self.engine.asked()
    }
}
