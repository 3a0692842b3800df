//! One counter of the 8254: what it holds follows from when it was loaded.

/// How the bytes of a count are accessed: the control word's RW field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Low,
    High,
    LowHigh,
}

/// What a count is written in: the control word's BCD bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    /// 16 bits.
    Binary,
    /// Four decimal digits.
    Decimal,
}

impl Base {
    const fn from_control(value: u8) -> Self {
        match value & 1 {
            0 => Self::Binary,
            _ => Self::Decimal,
        }
    }

    /// How many counts there are. 0 stands for as many.
    const fn modulus(self) -> u64 {
        match self {
            Self::Binary => 1 << 16,
            Self::Decimal => 10_000,
        }
    }

    /// What was written. A digit above 9, of which the data sheet says nothing, counts as what it is worth.
    fn decode(self, written: u64) -> u64 {
        let digits = [12, 8, 4, 0].map(|shift| written >> shift & 0xF);
        match self {
            Self::Binary => written,
            Self::Decimal => digits.iter().fold(0, |sum, digit| sum * 10 + digit),
        }
    }

    /// What is read.
    fn encode(self, count: u64) -> u16 {
        let count = count % self.modulus();
        match self {
            Self::Binary => count as u16,
            Self::Decimal => [1000, 100, 10, 1]
                .iter()
                .fold(0, |bits, weight| bits << 4 | (count / weight % 10) as u16),
        }
    }
}

/// What counts: the control word's mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// 0: interrupt on terminal count.
    TerminalCount,
    /// 1: a shot that the gate triggers.
    GateShot,
    /// 2: rate generator.
    Rate,
    /// 3: square wave.
    Square,
    /// 4: a strobe that loading triggers.
    Strobe,
    /// 5: a strobe that the gate triggers.
    GateStrobe,
}

impl Mode {
    const fn from_bits(bits: u8) -> Self {
        match bits & 0b111 {
            0 => Self::TerminalCount,
            1 => Self::GateShot,
            2 | 6 => Self::Rate,
            3 | 7 => Self::Square,
            4 => Self::Strobe,
            _ => Self::GateStrobe,
        }
    }

    const fn is_periodic(self) -> bool {
        matches!(self, Self::Rate | Self::Square)
    }

    /// A low gate stops it.
    const fn is_gated(self) -> bool {
        !matches!(self, Self::GateShot | Self::GateStrobe)
    }
}

/// What counts now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counting {
    /// Nothing: no count was loaded, or the gate has not triggered it.
    Stopped,
    /// Since this tick.
    Since(u64),
    /// The gate stopped it after so many ticks.
    Held(u64),
}

/// A counter.
#[derive(Clone, Debug)]
pub(super) struct Counter {
    /// Mode and access bits of the control word, as the status has them.
    control: u8,
    access: Access,
    mode: Mode,
    base: Base,
    /// 1 to the base's modulus; more with digits above 9.
    reload: u64,
    counting: Counting,
    /// Tick at which it next interrupts.
    expiry: Option<u64>,
    gate: bool,
    /// The low byte, while the high one is waited for.
    written: Option<u8>,
    /// The next read is of the high byte.
    high_next: bool,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
}

impl Counter {
    pub(super) fn new(gate: bool) -> Self {
        Self {
            control: 0,
            access: Access::LowHigh,
            mode: Mode::TerminalCount,
            base: Base::Binary,
            reload: 1 << 16,
            counting: Counting::Stopped,
            expiry: None,
            gate,
            written: None,
            high_next: false,
            latched_count: None,
            latched_status: None,
        }
    }

    /// Tick at which it next interrupts.
    pub(super) fn expiry(&self) -> Option<u64> {
        self.expiry
    }

    /// Whether it interrupted at or before `tick`.
    pub(super) fn expire(&mut self, tick: u64) -> bool {
        let Some(expiry) = self.expiry.filter(|expiry| *expiry <= tick) else {
            return false;
        };
        self.expiry = self.mode.is_periodic().then(|| {
            let missed = (tick - expiry) / self.reload;
            expiry + (missed + 1) * self.reload
        });
        true
    }

    /// A control word for this counter.
    pub(super) fn control(&mut self, value: u8, tick: u64) {
        self.access = match value >> 4 & 0b11 {
            0 => return self.latch_count(tick),
            1 => Access::Low,
            2 => Access::High,
            _ => Access::LowHigh,
        };
        self.control = value & 0x3F;
        self.mode = Mode::from_bits(value >> 1);
        self.base = Base::from_control(value);
        self.counting = Counting::Stopped;
        self.expiry = None;
        self.written = None;
        self.high_next = false;
        self.latched_count = None;
        self.latched_status = None;
    }

    pub(super) fn latch_count(&mut self, tick: u64) {
        if self.latched_count.is_none() {
            self.latched_count = Some(self.count(tick));
        }
    }

    pub(super) fn latch_status(&mut self, tick: u64) {
        const OUTPUT: u8 = 1 << 7;
        const NULL_COUNT: u8 = 1 << 6;
        if self.latched_status.is_none() {
            let output = if self.output(tick) { OUTPUT } else { 0 };
            let null = match self.counting {
                Counting::Stopped => NULL_COUNT,
                _ => 0,
            };
            self.latched_status = Some(self.control | output | null);
        }
    }

    pub(super) fn read(&mut self, tick: u64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let count = self.latched_count.unwrap_or_else(|| self.count(tick));
        let [low, high] = count.to_le_bytes();
        let byte = match self.access {
            Access::Low => low,
            Access::High => high,
            Access::LowHigh if self.high_next => high,
            Access::LowHigh => low,
        };
        self.high_next = self.access == Access::LowHigh && !self.high_next;
        if !self.high_next {
            self.latched_count = None;
        }
        byte
    }

    pub(super) fn write(&mut self, value: u8, tick: u64) {
        let value = u64::from(value);
        match (self.access, self.written) {
            (Access::Low, _) => self.load(value, tick),
            (Access::High, _) => self.load(value << 8, tick),
            (Access::LowHigh, None) => {
                self.written = Some(value as u8);
                // The first byte stops mode 0.
                if self.mode == Mode::TerminalCount {
                    self.counting = Counting::Stopped;
                    self.expiry = None;
                }
            }
            (Access::LowHigh, Some(low)) => {
                self.written = None;
                self.load(u64::from(low) | value << 8, tick);
            }
        }
    }

    pub(super) fn set_gate(&mut self, gate: bool, tick: u64) {
        let rose = gate && !self.gate;
        self.gate = gate;
        match (self.mode, self.counting) {
            (Mode::GateShot | Mode::GateStrobe, _) if rose => self.start(tick),
            (Mode::Rate | Mode::Square, Counting::Since(_) | Counting::Held(_)) if rose => {
                self.start(tick);
            }
            (_, Counting::Since(start)) if !gate && self.mode.is_gated() => {
                self.counting = Counting::Held(tick.saturating_sub(start));
                self.expiry = None;
            }
            (_, Counting::Held(elapsed)) if rose => {
                self.counting = Counting::Since(tick.saturating_sub(elapsed));
                self.arm();
            }
            _ => {}
        }
    }

    /// OUT.
    pub(super) fn output(&self, tick: u64) -> bool {
        let elapsed = self.elapsed(tick);
        match (self.mode, elapsed) {
            (Mode::TerminalCount, None) => false,
            (_, None) => true,
            (Mode::TerminalCount | Mode::GateShot, Some(elapsed)) => elapsed >= self.reload,
            (Mode::Rate, Some(elapsed)) => elapsed % self.reload != self.reload - 1,
            (Mode::Square, Some(elapsed)) => elapsed % self.reload < self.reload.div_ceil(2),
            (Mode::Strobe | Mode::GateStrobe, Some(elapsed)) => elapsed != self.reload,
        }
    }

    fn load(&mut self, count: u64, tick: u64) {
        self.reload = match self.base.decode(count) {
            0 => self.base.modulus(),
            count => count,
        };
        match self.mode {
            Mode::GateShot | Mode::GateStrobe => {}
            _ if self.gate => self.start(tick),
            _ => self.counting = Counting::Held(0),
        }
    }

    fn start(&mut self, tick: u64) {
        self.counting = Counting::Since(tick);
        self.arm();
    }

    fn arm(&mut self) {
        self.expiry = match self.counting {
            Counting::Since(start) => Some(start.saturating_add(self.reload)),
            _ => None,
        };
    }

    /// Ticks that it has counted, if it was started.
    fn elapsed(&self, tick: u64) -> Option<u64> {
        match self.counting {
            Counting::Stopped => None,
            Counting::Since(start) => Some(tick.saturating_sub(start)),
            Counting::Held(elapsed) => Some(elapsed),
        }
    }

    fn count(&self, tick: u64) -> u16 {
        let Some(elapsed) = self.elapsed(tick) else {
            return self.base.encode(self.reload);
        };
        let count = match self.mode {
            Mode::Rate => self.reload - elapsed % self.reload,
            // It counts down by two, twice a period.
            Mode::Square => (self.reload - 2 * elapsed % self.reload) & !1,
            // It goes on from the highest count.
            _ => {
                let modulus = self.base.modulus();
                self.reload % modulus + modulus - elapsed % modulus
            }
        };
        self.base.encode(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn outputs_are_those_of_the_data_sheet() {
        // Mode, output before the count, and at ticks 0, 1, 2, 3, 4, 5 of a count of 4.
        let table = [
            (0, false, [false, false, false, false, true, true]),
            (2, true, [true, true, true, false, true, true]),
            (3, true, [true, true, false, false, true, true]),
            (4, true, [true, true, true, true, false, true]),
        ];
        for (mode, before, outputs) in table {
            let mut counter = Counter::new(true);
            counter.control(0x10 | mode << 1, 0);
            assert_eq!(counter.output(0), before, "mode {mode}");
            counter.write(4, 100);
            for (tick, output) in (100..).zip(outputs) {
                assert_eq!(counter.output(tick), output, "mode {mode}, tick {tick}");
            }
        }
    }

    #[test]
    fn a_decimal_count_has_four_digits() {
        // Mode, count, ticks, what is read then.
        for (mode, written, ticks, read) in [
            (2, 0x1234, 0, 0x1234),
            (2, 0x1234, 35, 0x1199),
            (2, 0x1234, 1234, 0x1234),
            (0, 0x0010, 11, 0x9999),
            (0, 0x0000, 1, 0x9999),
            (3, 0x1000, 250, 0x0500),
        ] {
            let mut counter = Counter::new(true);
            counter.control(0x31 | mode << 1, 0);
            for byte in u16::to_le_bytes(written) {
                counter.write(byte, 0);
            }
            let bytes = [counter.read(ticks), counter.read(ticks)];
            let seen = u16::from_le_bytes(bytes);
            assert_eq!(
                seen, read,
                "mode {mode}, {written:#x}, {ticks} ticks: {seen:#x}"
            );
        }
        let mut counter = Counter::new(true);
        counter.control(0x11, 0);
        counter.write(0x42, 100);
        assert_eq!(counter.expiry(), Some(142));
        counter.latch_status(100);
        assert_eq!(counter.read(100), 0x11, "low byte, mode 0, BCD");
    }

    #[test]
    fn the_gate_triggers_and_stops() {
        let mut counter = Counter::new(false);
        counter.control(0x12, 0);
        counter.write(4, 0);
        assert!(counter.output(100), "not triggered");
        counter.set_gate(true, 100);
        assert_eq!((counter.output(103), counter.output(104)), (false, true));
        let mut counter = Counter::new(true);
        counter.control(0x10, 0);
        counter.write(4, 0);
        counter.set_gate(false, 2);
        assert!(!counter.output(50));
        counter.set_gate(true, 50);
        assert_eq!((counter.output(51), counter.output(52)), (false, true));
    }

    proptest! {
        /// Whatever is written, a counter answers, and an interrupt that it had is over.
        #[test]
        fn no_writes_make_it_panic(writes in proptest::collection::vec((0u8..3, any::<u8>(), 0u64..1 << 40), 0..60)) {
            let mut counter = Counter::new(true);
            let mut now = 0;
            for (what, value, passed) in writes {
                now += passed;
                match what {
                    0 => counter.control(value & 0x3F, now),
                    1 => counter.write(value, now),
                    _ => counter.set_gate(value & 1 != 0, now),
                }
                let _ = counter.read(now);
                let _ = counter.output(now);
                counter.expire(now);
                prop_assert!(counter.expiry().is_none_or(|expiry| expiry > now));
            }
        }
    }
}
