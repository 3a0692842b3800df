//! Any traffic of a guest's, on the registers and on the profile's tables side by side.

use tcg_defs::ptp::{crb, fifo};
use vtpm::Work;
use vtpm::ptp::Interface;
use vtpm::ptp::data_buffer::{SIZE, Unmapped};

use super::engine::{Scripted, message};
use super::input::Input;
use super::memory::{ADDRESS, Page};
use super::profile::{Crb, Fifo, LOCALITIES, PAGE, Profile};

/// Most steps of one input.
const STEPS: usize = 2000;
/// The byte after a reset's that makes it one: few inputs are all resets.
const RESET: u8 = 0xA5;

/// The registers, and the profile's tables.
struct Bench<P> {
    input: Input,
    registers: Interface<Scripted>,
    profile: P,
    /// The page that the guest reaches without exits, if there is one.
    page: Option<Page>,
}

impl<P: Profile> Bench<P> {
    fn read(&mut self, offset: u32, width: usize) -> Vec<u8> {
        let mut found = vec![0xCC; width];
        self.registers.read(offset, &mut found);
        let expected = self.profile.read(offset, width);
        assert_eq!(expected.len(), width);
        for (at, (expected, byte)) in expected.iter().zip(&found).enumerate() {
            assert!(
                expected.allows(*byte),
                "{width} bytes at {offset:#x} are {found:x?}; byte {at} is to be {expected:x?}"
            );
        }
        found
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) {
        self.registers.write(offset, bytes);
        self.profile.write(offset, bytes);
    }

    fn slice(&mut self) {
        self.registers.go_on(u64::MAX);
        self.profile.slice();
    }

    fn reset(&mut self) {
        self.registers.reset().expect("the engine resets");
        self.profile.reset();
    }

    /// Everything that can be looked at without a change is the same.
    fn compare(&mut self, quiet: &[u32]) {
        for locality in 0..LOCALITIES {
            for register in quiet {
                self.read(locality * PAGE + register, 4);
            }
        }
        assert_eq!(self.registers.line(), self.profile.line(), "the line");
        let runs = self.registers.has_work() == Work::Command;
        assert_eq!(runs, self.profile.runs(), "whether a command runs");
        let asked = std::mem::take(&mut self.registers.engine_mut().asked);
        assert_eq!(asked, self.profile.asked(), "what the engine was asked");
    }

    /// Mostly locality 0; the page behind the last one, too.
    fn locality(&self) -> u32 {
        match self.input.byte() % 16 {
            number @ 1..=5 => number.into(),
            6 => 2,
            7 => 3,
            _ => 0,
        }
    }

    /// One of these registers, seldom another offset.
    fn register(&self, registers: &[u32]) -> u32 {
        let choice = usize::from(self.input.byte());
        match registers.get(choice) {
            Some(register) => *register,
            None if choice < 0xE0 => registers[choice % registers.len()] + self.input.dword() % 4,
            None => self.input.dword() % PAGE,
        }
    }

    fn width(&self, most: usize) -> usize {
        const WIDTHS: [usize; 8] = [1, 4, 2, 8, 1, 4, 3, 64];
        WIDTHS[usize::from(self.input.byte() % 8)].min(most)
    }

    /// Bytes to write: one of these first.
    fn values(&self, width: usize, values: &[u32]) -> Vec<u8> {
        let choice = usize::from(self.input.byte());
        let value = match values.get(choice) {
            Some(value) => *value,
            None => self.input.dword(),
        };
        let mut bytes = value.to_le_bytes().to_vec();
        bytes.resize(width.max(4), choice as u8);
        bytes.truncate(width);
        bytes
    }

    /// Writes a command in pieces, each `step` times its length behind the one before.
    fn send(&mut self, at: u32, step: u32) {
        let command = self.command();
        let mut place = at;
        for bytes in command.chunks(self.width(4)) {
            self.write(place, bytes);
            place += bytes.len() as u32 * step;
            if place % PAGE < at % PAGE {
                // The page is over.
                break;
            }
        }
    }

    /// A command whose size may be a lie.
    fn command(&self) -> Vec<u8> {
        let choice = self.input.byte();
        let length = match choice {
            0xF0.. => self.input.word() % 4200,
            _ => u16::from(choice % 64),
        };
        let mut command = message(&self.input.bytes(usize::from(length.min(64))));
        command.resize(10 + usize::from(length), choice);
        let size = match self.input.byte() {
            0xF0 => 0,
            0xF1 => 9,
            0xF2 => 0x1_0000 + command.len() as u32,
            0xF3 => u32::MAX,
            0xF4 => command.len() as u32 + 1,
            0xF5 => command.len() as u32 - 1,
            0xF6 => SIZE as u32 + 1,
            _ => command.len() as u32,
        };
        command[2..6].copy_from_slice(&size.to_be_bytes());
        command
    }
}

/// The FIFO interface.
pub fn fifo_registers(data: &[u8]) {
    const REGISTERS: [u32; 12] = [
        fifo::ACCESS,
        fifo::STS,
        fifo::DATA_FIFO,
        fifo::STS + 1,
        fifo::XDATA_FIFO,
        fifo::INT_ENABLE,
        fifo::INT_STATUS,
        fifo::INT_VECTOR,
        fifo::INTERFACE_ID,
        fifo::INTF_CAPABILITY,
        fifo::HASH_START,
        fifo::DID_VID,
    ];
    const VALUES: [u32; 14] = [
        0x02,
        0x20,
        0x40,
        0x08,
        0x10,
        0x22,
        0xFF,
        1 << 24,
        1 << 25,
        0x8000_0087,
        0x8000_0009,
        1 << 19,
        0x0A,
        0x12,
    ];
    const QUIET: [u32; 5] = [
        fifo::ACCESS,
        fifo::INT_ENABLE,
        fifo::INT_VECTOR,
        fifo::INT_STATUS,
        fifo::INTERFACE_ID,
    ];
    let input = Input::new(data);
    let established = input.byte() & 1 != 0;
    let mut bench = Bench {
        input: input.clone(),
        registers: Interface::new(Scripted::new(established)),
        profile: Fifo::new(established),
        page: None,
    };
    for _ in 0..STEPS {
        if input.ended() {
            break;
        }
        let step = input.byte() % 13;
        let page = bench.locality() * PAGE;
        match step {
            // What a driver does.
            9 => {
                bench.write(page + fifo::ACCESS, &[0x02]);
                bench.write(page + fifo::STS, &[0x40]);
                bench.send(page + fifo::DATA_FIFO, 0);
                bench.write(page + fifo::STS, &[0x20]);
            }
            10 => bench.write(page + fifo::STS, &[0, 0, 0, 1]),
            0 => bench.write(page + fifo::ACCESS, &[0x02]),
            1 => bench.write(page + fifo::STS, &[0x40]),
            2 => bench.send(page + fifo::DATA_FIFO, 0),
            3 => bench.write(page + fifo::STS, &[0x20]),
            4 => {
                let (count, width) = (input.byte(), bench.width(64));
                for _ in 0..count {
                    bench.read(page + fifo::XDATA_FIFO, width.min(4));
                }
                bench.read(page + fifo::DATA_FIFO, width);
            }
            5 => drop(bench.read(page + fifo::STS, 4)),
            6 => {
                let (register, width) = (bench.register(&REGISTERS), bench.width(64));
                bench.read(page + register, width);
            }
            7 => {
                let (register, width) = (bench.register(&REGISTERS), bench.width(64));
                let bytes = bench.values(width, &VALUES);
                bench.write(page + register, &bytes);
            }
            8 => bench.slice(),
            _ if input.byte() == RESET => bench.reset(),
            _ => bench.write(page + fifo::ACCESS, &[0x20]),
        }
        bench.compare(&QUIET);
    }
}

/// The command response buffer interface, with a page of the guest's or without.
pub fn crb_registers(data: &[u8]) {
    const REGISTERS: [u32; 16] = [
        crb::LOC_CTRL,
        crb::CTRL_REQ,
        crb::CTRL_START,
        crb::CTRL_CANCEL,
        crb::DATA_BUFFER,
        crb::INT_ENABLE,
        crb::INT_STS,
        crb::INTF_ID,
        crb::CTRL_RSP_LADDR,
        crb::CTRL_CMD_LADDR,
        crb::CTRL_CMD_SIZE,
        crb::CTRL_RSP_SIZE,
        crb::LOC_STATE,
        crb::LOC_STS,
        PAGE - 4,
        crb::DATA_BUFFER - 4,
    ];
    const VALUES: [u32; 10] = [1, 2, 4, 3, 8, 5, 0, u32::MAX, 1 << 19, 1 << 31];
    // Not START, whose read is a poll.
    const QUIET: [u32; 7] = [
        crb::LOC_STATE,
        crb::LOC_STS,
        crb::CTRL_STS,
        crb::CTRL_CANCEL,
        crb::INT_ENABLE,
        crb::INT_STS,
        crb::INTF_ID,
    ];
    let input = Input::new(data);
    let options = input.byte();
    let established = options & 1 != 0;
    let page = (options & 2 != 0).then(Page::default);
    let engine = Scripted::new(established);
    let mut bench = Bench {
        input: input.clone(),
        registers: match &page {
            Some(page) => Interface::crb(engine, Box::new(page.clone())),
            None => Interface::crb(engine, Box::new(Unmapped::default())),
        },
        profile: Crb::new(established),
        page,
    };
    bench.profile.address = bench.page.as_ref().map(|_| ADDRESS);
    for _ in 0..STEPS {
        if input.ended() {
            break;
        }
        let step = input.byte() % 13;
        let at = bench.locality() * PAGE;
        match step {
            // What a driver does.
            9 => {
                bench.write(at + crb::LOC_CTRL, &[1, 0, 0, 0]);
                bench.write(at + crb::CTRL_REQ, &[1, 0, 0, 0]);
                bench.send(at + crb::DATA_BUFFER, 1);
                bench.settle();
                bench.write(at + crb::CTRL_START, &[1, 0, 0, 0]);
            }
            10 => {
                let bytes = [input.byte() & 1 ^ 1, 0, 0, 0];
                bench.write(at + crb::CTRL_CANCEL, &bytes);
            }
            0 => bench.write(at + crb::LOC_CTRL, &[1, 0, 0, 0]),
            1 => bench.write(at + crb::CTRL_REQ, &[1, 0, 0, 0]),
            2 => {
                let command = bench.command();
                match (&bench.page, input.byte() & 1) {
                    (Some(page), 0) => {
                        page.poke(0, &command);
                        bench.profile.poke(0, &command);
                    }
                    _ => bench.send(at + crb::DATA_BUFFER, 1),
                }
            }
            3 => {
                bench.settle();
                bench.write(at + crb::CTRL_START, &[1, 0, 0, 0]);
            }
            4 => {
                let (from, width) = (input.word() % SIZE as u16, bench.width(64));
                bench.read(at + crb::DATA_BUFFER + u32::from(from), width);
            }
            5 => drop(bench.read(at + crb::CTRL_START, 4)),
            6 => {
                let (register, width) = (bench.register(&REGISTERS), bench.width(64));
                bench.read(at + register, width);
            }
            7 => {
                // A wider one could drop a command and start it at once.
                let (register, width) = (bench.register(&REGISTERS), bench.width(8));
                let bytes = bench.values(width, &VALUES);
                bench.settle();
                bench.write(at + register, &bytes);
            }
            8 => bench.slice(),
            _ if input.byte() == RESET => bench.reset(),
            _ => bench.write(at + crb::LOC_CTRL, &[2, 0, 0, 0]),
        }
        bench.compare(&QUIET);
    }
    bench.settle();
}

impl Bench<Crb> {
    /// What is in the buffer is what may be there, and is then expected.
    fn settle(&mut self) {
        let found = match (&self.page, self.profile.owner()) {
            (Some(page), _) => page.bytes(),
            (None, Some(owner)) => {
                let mut bytes = vec![0; SIZE];
                self.registers
                    .read(owner * PAGE + crb::DATA_BUFFER, &mut bytes);
                bytes
            }
            (None, None) => return,
        };
        self.profile.settle(&found);
    }
}
