//! The local APIC of a virtual processor of L2's, whose registers are its virtual-APIC page.
//!
//! The CPU works on the same page while L2 runs: it reads TPR, PPR, ISR, TMR and IRR from it,
//! delivers interrupts from IRR to ISR, and virtualizes writes of TPR, EOI and SELF_IPI
//! (SDM Vol. 3C, chapter "APIC Virtualization and Virtual Interrupts"). Everything else exits
//! and is served here, by one register file for the x2APIC MSRs and the xAPIC page.
//!
//! What it sends to others, and perhaps to itself, it tells its caller ([`Effect::Command`]): who they are is the
//! machine's to know, by the [`Address`] that each has published.

mod access;
mod address;
mod delivery;
mod timer;

pub use address::{Address, Destination};
pub use timer::Timer;
use x86_defs::apic::{
    ApicBase, DELIVERY_EXTINT, DELIVERY_NMI, ErrorStatus, InterruptCommand, LvtEntry, Register,
    SpuriousVector,
};

/// Guest-physical address of the xAPIC registers; one page. It cannot be moved.
pub const BASE: u64 = x86_defs::pc::LOCAL_APIC;

/// Version register: version 14H, six LVT entries, no EOI-broadcast suppression.
const VERSION: u32 = 0x0005_0014;

/// L2's virtual-APIC page.
///
/// The CPU changes it while L2 runs, never while L1 does.
pub trait VapicPage {
    /// Reads the dword at `offset`, a multiple of 16 below 4096.
    fn read(&self, offset: u16) -> u32;
    /// Writes the dword at `offset`, a multiple of 16 below 4096.
    fn write(&mut self, offset: u16, value: u32);
}

/// The access does not exist in the APIC's mode, or sets a reserved bit: #GP(0) for an MSR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidAccess;

/// What a write asks of the rest of the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// The I/O APIC must hear that this level-triggered interrupt ended.
    EndOfInterrupt(u8),
    /// The command must be delivered. Its vector is a legal one. `wide`: the destination has 32 bits, as in x2APIC mode.
    Command {
        /// What to deliver, and where.
        command: InterruptCommand,
        /// The destination has 32 bits.
        wide: bool,
    },
}

/// How the registers are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not at all.
    Disabled,
    /// Through the page at [`BASE`].
    XApic,
    /// Through MSRs 800H to 8FFH.
    X2Apic,
}

/// The local APIC.
pub struct LocalApic<P> {
    page: P,
    id: u8,
    mode: Mode,
    timer: Timer,
    errors: ErrorStatus,
    nmi_pending: bool,
    changed: bool,
    mode_changed: bool,
    address_changed: bool,
}

impl<P: VapicPage> LocalApic<P> {
    /// APIC 0, the bootstrap processor's, as a PC's firmware hands it to a kernel: in xAPIC mode, enabled, LINT0 open for the 8259A pair
    /// ("virtual wire mode": MultiProcessor Specification 1.4, section 3.6.2.2) and LINT1 for NMIs, everything else
    /// as after a reset. Its timer's crystal ticks every `ratio` TSC ticks.
    pub fn new(page: P, ratio: u64) -> Self {
        let mut apic = Self::after_reset(page, ratio, 0);
        apic.set_up_virtual_wire();
        apic
    }

    /// APIC `id` as after a reset: in xAPIC mode, and disabled by software.
    pub fn after_reset(page: P, ratio: u64, id: u8) -> Self {
        let mut apic = Self {
            page,
            id,
            mode: Mode::XApic,
            timer: Timer::new(ratio),
            errors: ErrorStatus::new(),
            nmi_pending: false,
            changed: true,
            mode_changed: false,
            address_changed: true,
        };
        apic.reset_registers();
        apic
    }

    /// INIT: everything as after a reset but the identity and the mode (SDM Vol. 3A, section "Local APIC State After
    /// an INIT Reset").
    pub fn init(&mut self) {
        self.reset_registers();
    }

    /// What interrupts are sent to, if it may have changed since the last call.
    pub fn take_changed_address(&mut self) -> Option<Address> {
        core::mem::take(&mut self.address_changed).then(|| self.address())
    }

    /// What interrupts are sent to.
    pub fn address(&self) -> Address {
        Address {
            mode: self.mode,
            accepts: self.accepts(),
            id: self.id,
            logical: self.get(Register::LDR),
            flat: self.get(Register::DFR) >> 28 == 0xF,
        }
    }

    /// Whether it takes interrupts with a vector.
    fn accepts(&self) -> bool {
        self.mode != Mode::Disabled && self.spurious_vector().enabled()
    }

    fn set_up_virtual_wire(&mut self) {
        const SPURIOUS: u8 = 0x0F;
        let spurious = SpuriousVector::new()
            .with_vector(SPURIOUS)
            .with_enabled(true);
        self.put(Register::SVR, spurious.into());
        for (register, mode) in [
            (Register::LVT_LINT0, DELIVERY_EXTINT),
            (Register::LVT_LINT1, DELIVERY_NMI),
        ] {
            self.put(register, LvtEntry::new().with_delivery_mode(mode).into());
        }
    }

    /// How the registers are reached.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The page itself.
    pub fn page(&self) -> &P {
        &self.page
    }

    /// The page, for another APIC.
    pub fn into_page(self) -> P {
        self.page
    }

    /// IA32_APIC_BASE.
    pub fn base(&self) -> u64 {
        ApicBase::new()
            .with_bootstrap(self.id == 0)
            .with_enabled(self.mode != Mode::Disabled)
            .with_x2apic(self.mode == Mode::X2Apic)
            .with_frame(BASE >> 12)
            .into()
    }

    /// Writes IA32_APIC_BASE. The legal transitions are those of SDM Vol. 3A, figure "Local
    /// x2APIC State Transitions"; the page cannot be moved.
    pub fn set_base(&mut self, value: u64) -> Result<(), InvalidAccess> {
        let base = ApicBase::from(value);
        let canonical = ApicBase::new()
            .with_bootstrap(base.bootstrap())
            .with_enabled(base.enabled())
            .with_x2apic(base.x2apic())
            .with_frame(BASE >> 12);
        if base != canonical {
            return Err(InvalidAccess);
        }
        let next = match (base.enabled(), base.x2apic()) {
            (false, false) => Mode::Disabled,
            (true, false) => Mode::XApic,
            (true, true) => Mode::X2Apic,
            (false, true) => return Err(InvalidAccess),
        };
        match (self.mode, next) {
            (old, new) if old == new => return Ok(()),
            (Mode::X2Apic, Mode::XApic) | (Mode::Disabled, Mode::X2Apic) => {
                return Err(InvalidAccess);
            }
            (_, Mode::Disabled) => self.reset_registers(),
            _ => {}
        }
        self.mode = next;
        self.derive_identity();
        self.mode_changed = true;
        self.address_changed = true;
        Ok(())
    }

    /// Whether the mode changed since the last call: MSR accesses must exit, or need no longer.
    pub fn take_mode_change(&mut self) -> bool {
        core::mem::take(&mut self.mode_changed)
    }

    /// TPR.
    pub fn task_priority(&self) -> u8 {
        self.get(Register::TPR) as u8
    }

    /// Writes TPR.
    pub fn set_task_priority(&mut self, value: u8) {
        self.put(Register::TPR, u32::from(value));
        self.put(Register::PPR, u32::from(self.processor_priority()));
        self.changed = true;
    }

    /// IA32_TSC_DEADLINE.
    pub fn deadline(&self) -> u64 {
        self.timer.deadline()
    }

    /// Writes IA32_TSC_DEADLINE.
    pub fn set_deadline(&mut self, value: u64) {
        self.timer.set_deadline(value);
    }

    /// TSC value at which the timer next expires.
    pub fn timer_expiry(&self) -> Option<u64> {
        self.timer.expiry()
    }

    /// Requests the timer's interrupt if it expired at or before `now`.
    pub fn run_timer(&mut self, now: u64) {
        if self.timer.expire(now) {
            let entry = self.lvt(Register::LVT_TIMER);
            if !entry.masked() {
                self.request(entry.vector(), false);
            }
        }
    }

    /// RVI and SVI, if L1 changed what they follow from since the last call.
    pub fn take_changed_status(&mut self) -> Option<InterruptStatus> {
        core::mem::take(&mut self.changed).then(|| self.status())
    }

    /// RVI and SVI: the highest vectors requested and in service.
    pub fn status(&self) -> InterruptStatus {
        InterruptStatus {
            rvi: self.highest(Register::IRR),
            svi: self.highest(Register::ISR),
        }
    }

    /// Whether an interrupt is requested whose class is above the processor priority: what
    /// ends a HLT if interrupts are enabled.
    pub fn interrupt_pending(&self) -> bool {
        self.highest(Register::IRR) >> 4 > self.processor_priority() >> 4
    }

    /// Whether INTR, the 8259A pair's output, reaches the processor: through LINT0 as ExtINT, or past a disabled
    /// APIC (SDM Vol. 3A, "Enabling or Disabling the Local APIC").
    pub fn passes_external_interrupts(&self) -> bool {
        let entry = self.lvt(Register::LVT_LINT0);
        self.mode == Mode::Disabled || !entry.masked() && entry.delivery_mode() == DELIVERY_EXTINT
    }

    fn set_spurious_vector(&mut self, value: SpuriousVector) {
        self.put(Register::SVR, value.into());
        self.address_changed = true;
        if !value.enabled() {
            // SDM Vol. 3A, section "Local APIC State After It Has Been Software Disabled".
            for number in Register::LVT_TIMER.0..=Register::LVT_ERROR.0 {
                let register = Register(number);
                let masked = self.lvt(register).with_masked(true);
                self.put(register, masked.into());
            }
        }
    }

    fn store_lvt(&mut self, register: Register, value: u32) -> LvtEntry {
        let mut entry = LvtEntry::from(value);
        if !self.spurious_vector().enabled() {
            entry.set_masked(true);
        }
        self.put(register, entry.into());
        entry
    }

    fn error(&mut self, error: ErrorStatus) {
        self.errors = ErrorStatus::from(u32::from(self.errors) | u32::from(error));
        let entry = self.lvt(Register::LVT_ERROR);
        if !entry.masked() && entry.vector() >= 16 {
            self.request(entry.vector(), false);
        }
    }

    fn processor_priority(&self) -> u8 {
        let (tpr, svi) = (self.get(Register::TPR) as u8, self.highest(Register::ISR));
        if tpr >> 4 >= svi >> 4 {
            tpr
        } else {
            svi & 0xF0
        }
    }

    /// Everything as after a reset (SDM Vol. 3A, section "Local APIC State After Power-Up or
    /// Reset"), but the mode.
    fn reset_registers(&mut self) {
        for number in 0..0x40 {
            self.put(Register(number), 0);
        }
        for number in Register::LVT_TIMER.0..=Register::LVT_ERROR.0 {
            self.put(Register(number), LvtEntry::new().with_masked(true).into());
        }
        self.put(Register::VERSION, VERSION);
        self.put(Register::DFR, u32::MAX);
        self.put(Register::SVR, 0xFF);
        self.timer.reset();
        self.errors = ErrorStatus::new();
        self.nmi_pending = false;
        self.changed = true;
        self.address_changed = true;
        self.derive_identity();
    }

    /// ID and, in x2APIC mode, the LDR that follows from it.
    fn derive_identity(&mut self) {
        let id = u32::from(self.id);
        let (id, logical) = match self.mode {
            // SDM Vol. 3A, section "Logical Destination Mode in x2APIC Mode".
            Mode::X2Apic => (id, id >> 4 << 16 | 1 << (id & 0xF)),
            Mode::XApic | Mode::Disabled => (id << 24, 0),
        };
        self.put(Register::ID, id);
        self.put(Register::LDR, logical);
    }

    fn spurious_vector(&self) -> SpuriousVector {
        SpuriousVector::from(self.get(Register::SVR))
    }

    fn lvt(&self, register: Register) -> LvtEntry {
        LvtEntry::from(self.get(register))
    }

    fn get(&self, register: Register) -> u32 {
        self.page.read(register.offset())
    }

    fn put(&mut self, register: Register, value: u32) {
        self.page.write(register.offset(), value);
    }

    fn bit(&self, register: Register, vector: u8) -> bool {
        self.get(register.element(vector >> 5)) & 1 << (vector & 31) != 0
    }

    fn set_bit(&mut self, register: Register, vector: u8, value: bool) {
        let element = register.element(vector >> 5);
        let bit = 1 << (vector & 31);
        let old = self.get(element);
        self.put(element, if value { old | bit } else { old & !bit });
    }

    /// The highest vector set in a 256-bit register, 0 if none.
    fn highest(&self, register: Register) -> u8 {
        for index in (0..8u8).rev() {
            let word = self.get(register.element(index));
            if word != 0 {
                return index << 5 | (31 - word.leading_zeros()) as u8;
            }
        }
        0
    }
}

/// Guest interrupt status (SDM Vol. 3C, section "Guest Non-Register State").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InterruptStatus {
    /// Requesting virtual interrupt.
    pub rvi: u8,
    /// Servicing virtual interrupt.
    pub svi: u8,
}

impl InterruptStatus {
    /// As L2_ENTER_GUEST_STATE and the VMCS hold it.
    pub const fn bits(self) -> u16 {
        (self.svi as u16) << 8 | self.rvi as u16
    }
}

#[cfg(test)]
mod tests;
