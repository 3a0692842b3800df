//! The host VMM: builds the TD, runs it, and serves what it asks. Untrusted by the TD, and here
//! also its tester: it can be told to misbehave.
//!
//! * [`build`], [`memory`]: the TD and its memory.
//! * [`virtual_processors`]: which of them runs.
//! * [`tdvmcall`]: requests of the TD, on [`ports`], [`fw_cfg`], [`io_apic`], [`local_apic`] and
//!   [`quote`].
//! * [`devices`]: virtio devices on a PCI bus, of the host's own and ([`assigned`]) QEMU's.
//! * [`summary`]: what is printed of a run.

mod assigned;
pub(crate) mod build;
mod devices;
pub(crate) mod fw_cfg;
mod hostile;
mod interrupt_command;
mod interrupt_faults;
mod io_apic;
mod local_apic;
pub(crate) mod memory;
mod pace;
mod parallel;
mod pending_interrupts;
mod ports;
mod quote;
mod summary;
mod tdvmcall;
mod turns;
mod virtual_processors;

use alloc::format;
use alloc::string::String;

use tdx_defs::tdg;
use tdx_module::platform::Register;
use tdx_module::{Action, Configuration, HardwareExit, Module, Platform, TdExit, Vm, VpEnterInput};

use crate::arch::clock::ticks_per_millisecond;
use crate::arch::cpu::rdtsc;
use crate::console::say;
use crate::hardware::{Hardware, Timer};
use crate::json::Object;
use crate::options::{Fault, Options, Sealing};
use crate::pack::Pack;
use devices::Devices;
pub(crate) use fw_cfg::FwCfg;
use io_apic::{Interrupt, IoApic};
use memory::{Frames, TdMemory};
use pending_interrupts::PendingInterrupts;
use ports::{MachineRequest, Ports};
use quote::QuoteService;
use tdvmcall::Served;
use virtual_processors::{Inside, VirtualProcessors};

/// TDX_HOST_PRIORITY_BUSY_TIMEOUT, the upper half of a status.
const HOST_PRIORITY_BUSY_TIMEOUT: u64 = 0x9000_0205;
/// Basic exit reasons of a TD exit (SDM volume 3, appendix C).
mod reason {
    pub(super) const EXTERNAL_INTERRUPT: u32 = 1;
    pub(super) const EPT_VIOLATION: u32 = 48;
    pub(super) const TDCALL: u32 = 77;
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    PowerOff,
    Reboot,
    FatalError {
        code: u64,
        text: String,
    },
    /// A TDVMCALL of an interface that is not the GHCI's, by its number (R10).
    VendorCall(u64),
    /// A fault cut the power at a write to a disk.
    PowerCut,
    /// The run cannot go on.
    Stuck(String),
}

impl From<MachineRequest> for End {
    fn from(request: MachineRequest) -> Self {
        match request {
            MachineRequest::PowerOff => Self::PowerOff,
            MachineRequest::Reboot => Self::Reboot,
        }
    }
}

/// The host VMM with its one TD.
pub(crate) struct Host {
    pub(crate) options: Options,
    pub(crate) module: Module,
    pub(crate) hardware: Hardware,
    pub(crate) memory: TdMemory,
    ports: Ports,
    io_apic: IoApic,
    processors: VirtualProcessors,
    quotes: QuoteService,
    devices: Devices,
    /// L2 exits so far; requests for host-routed ones that were made.
    l2_exits: u64,
    routes_requested: u64,
    /// Entries that find an interrupt pending.
    pending_interrupts: Option<PendingInterrupts>,
    /// The watchdog's view: TPM exits and RTMR extends seen.
    progress_seen: u64,
}

impl Host {
    /// A host with a TD that TDH.MNG.CREATE has made, and nothing more.
    pub(crate) fn new(
        options: Options,
        fw_cfg: Option<FwCfg>,
        frames: Frames,
        hardware: Hardware,
    ) -> Result<Self, String> {
        let mut memory = TdMemory::new(options.memory, frames)
            .map_err(|error| format!("the TD's memory: {error}"))?;
        let devices = Devices::new(&options, &mut memory)?;
        let mut host = Self {
            ports: Ports::new(fw_cfg),
            module: Module::new(match options.sealing {
                Sealing::On | Sealing::Told => Configuration::with_sealing(),
                Sealing::Off => Configuration::default(),
            }),
            hardware,
            memory,
            io_apic: IoApic::new(),
            processors: VirtualProcessors::new(&options),
            quotes: QuoteService::default(),
            devices,
            l2_exits: 0,
            routes_requested: 0,
            pending_interrupts: None,
            progress_seen: 0,
            options,
        };
        host.arm_faults();
        Ok(host)
    }

    /// Builds the TD from the pack's image.
    pub(crate) fn build(&mut self, pack: &Pack) -> Result<(), String> {
        phase("td-build");
        let image = pack.file("image").ok_or("the pack has no image")?;
        build::build(
            &mut self.module,
            &mut self.hardware,
            &mut self.memory,
            &self.options,
            image,
        )
    }

    fn shared_bit(&self) -> u64 {
        self.options.gpaw.shared_bit()
    }

    fn arm_faults(&mut self) {
        for fault in &self.options.faults {
            match *fault {
                Fault::Busy { leaf, times } => self.module.faults().busy(leaf, times),
                Fault::Hold { leaf, vcpu, every } => self.module.faults().hold(leaf, vcpu, every),
                Fault::HostPriority {
                    leaf,
                    times,
                    microseconds,
                } => {
                    let ticks = microseconds.saturating_mul(ticks_per_millisecond() / 1000);
                    self.module.faults().host_priority(leaf, times, ticks);
                }
                Fault::Interrupt { leaf, times } => self.module.faults().interrupt(leaf, times),
                Fault::PendingInterrupt { seed } => {
                    say!("interrupts are pending at random entries: seed {seed}");
                    self.pending_interrupts = Some(PendingInterrupts::new(seed));
                }
                _ => {}
            }
        }
    }

    /// Runs the TD to its end.
    pub(crate) fn run(&mut self) -> End {
        if self.options.test.is_none() {
            phase("first-instruction");
        }
        if let Some(first) = self.options.first
            && let Err(end) = self.run_first(first)
        {
            return end;
        }
        self.restart_watchdog();
        if self.options.threads {
            return self.run_in_parallel();
        }
        self.run_virtual_processors()
    }

    /// TDH.VP.ENTER, up to the TD exit; none if the virtual processor stays inside the module meanwhile.
    fn enter(&mut self, input: VpEnterInput) -> Result<Option<TdExit>, End> {
        // Of a run that a runner has carried out.
        let mut ended = None;
        let mut action = match self.processors.take_inside() {
            None => self.module.tdh_vp_enter(&mut self.hardware, input),
            Some(Inside::Held) => self.module.finish_held(&mut self.hardware),
            Some(Inside::Finished(action)) => action,
            Some(Inside::Running(vm)) => {
                ended = self.hardware.ended(vm);
                Action::Run(vm)
            }
        };
        loop {
            let vm = match action {
                Action::Run(vm) => vm,
                Action::TdExit(exit) => return Ok(Some(exit)),
                Action::Held => {
                    self.processors.stay_inside();
                    return Ok(None);
                }
            };
            let first = self.hardware.profile.first_l2_entry.is_none();
            let Some(exited) = ended.take().or_else(|| self.hardware.begin(vm)) else {
                self.ran_out(vm);
                return Ok(None);
            };
            self.poll()?;
            if let Vm::L2(_) = vm {
                if first && self.options.test.is_none() {
                    phase("first-l2-entry");
                }
                self.l2_exited(&exited.exit);
            } else if self.is_entry(&exited.exit)
                && let Some(chosen) = &mut self.pending_interrupts
                && chosen.next_entry()
                && let Some(vector) = self.processors.local_apic().timer_vector()
            {
                self.post(self.processors.current(), vector);
            }
            let key = self.key_asked_for(vm, &exited.exit);
            action = self.module.handle_exit(&mut self.hardware, exited);
            if let Some(key) = key {
                self.tell_key(key);
            }
        }
    }

    /// Marks and faults that go by L2 exits.
    fn l2_exited(&mut self, exit: &HardwareExit) {
        self.l2_exits += 1;
        self.count_exit_for_devices();
        if (self.options.marks || self.devices.hear_marks())
            && let Some(value) = self.marked(exit)
        {
            self.mark(value);
        }
        for index in 0..self.options.faults.len() {
            match self.options.faults[index] {
                // One at a time: the next is asked for when the last has come true.
                Fault::HostRoute { reason, every }
                    if self.l2_exits.is_multiple_of(every)
                        && self.routes_requested <= self.host_routed(reason) =>
                {
                    self.module.faults().route_to_host(reason);
                    self.routes_requested = self.host_routed(reason) + 1;
                }
                Fault::LocalInterrupt { every } if self.l2_exits.is_multiple_of(every) => {
                    if let Some(vector) = self.processors.local_apic().timer_vector() {
                        self.post(self.processors.current(), vector);
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether L1 left for TDG.VP.ENTER.
    fn is_entry(&mut self, exit: &HardwareExit) -> bool {
        self.is_tdcall(exit, tdg::VP_ENTER)
    }

    /// Whether L1 left for this leaf.
    fn is_tdcall(&mut self, exit: &HardwareExit, leaf: u64) -> bool {
        let tdcall = matches!(exit, HardwareExit::Exception { vector: 6, .. });
        tdcall && self.hardware.register(Vm::L1, Register::Rax) == leaf
    }

    /// Where L1 wants a sealing key, if it left for one and the run is to tell it.
    fn key_asked_for(&mut self, vm: Vm, exit: &HardwareExit) -> Option<u64> {
        let told = self.options.sealing == Sealing::Told && vm == Vm::L1;
        let asked = told && self.is_tdcall(exit, tdg::MR_KEY_GET);
        asked.then(|| self.hardware.register(Vm::L1, Register::Rdx))
    }

    /// Prints the sealing key that the module has put there, which is no host's to know: for a search of what a host sees.
    fn tell_key(&mut self, gpa: u64) {
        let hpa = self.memory.private(gpa);
        let got = self.hardware.register(Vm::L1, Register::Rax) == 0;
        if let Some(hpa) = hpa.filter(|_| got) {
            let mut key = [0; 32];
            self.hardware.read(hpa, &mut key);
            Object::new().hex("sealing_key", &key).print();
        }
    }

    /// Looks at the machine's own interrupts, and for quotes that are due.
    #[inline]
    fn poll(&mut self) -> Result<(), End> {
        if !self.hardware.has_noted() && !self.quotes.is_any_pending() {
            return Ok(());
        }
        self.serve_interrupts()
    }

    fn serve_interrupts(&mut self) -> Result<(), End> {
        let noted = self.hardware.take_noted();
        if noted.uart {
            self.ports.note_progress();
            if let Some(Interrupt { vector, apic_id }) = self.io_apic.raise(io_apic::COM1_PIN) {
                self.post_to_apic(apic_id, vector);
            }
        }
        if noted.serial {
            self.ports.note_progress();
            self.poll_devices();
        }
        if noted.messages != 0 {
            self.ports.note_progress();
            self.pass_messages(noted.messages);
        }
        self.finish_quotes();
        if noted.timer {
            let now = rdtsc();
            self.expire_timers(now);
            self.deliver_late(now);
            if self
                .hardware
                .deadline(Timer::Watchdog)
                .is_some_and(|at| at <= now)
            {
                self.bark()?;
            }
        }
        Ok(())
    }

    fn restart_watchdog(&mut self) {
        if self.options.watchdog != 0 {
            // The virtual processors share the time.
            let limit = self.options.watchdog * u64::from(self.options.vcpus);
            let limit = limit.saturating_mul(ticks_per_millisecond());
            self.hardware
                .set_deadline(Timer::Watchdog, Some(rdtsc().saturating_add(limit)));
        }
    }

    /// The watchdog's time is up: was there progress?
    fn bark(&mut self) -> Result<(), End> {
        let progress = self.hardware.profile.tpm_exit_count + self.rtmr_extends();
        let advanced = progress != self.progress_seen;
        self.progress_seen = progress;
        if self.ports.take_progress() || advanced {
            self.restart_watchdog();
            return Ok(());
        }
        let limit = match self.options.watchdog {
            whole if whole.is_multiple_of(1000) => format!("{} s", whole / 1000),
            milliseconds => format!("{milliseconds} ms"),
        };
        Err(End::Stuck(format!(
            "no progress for {limit} of virtual time"
        )))
    }

    /// Serves a TD exit; what it gives back is the next entry's input.
    fn serve(&mut self, exit: &TdExit) -> Result<VpEnterInput, End> {
        let registers = &exit.registers;
        let vm = registers.rcx >> 32 & 3;
        let basic_reason = registers.rax as u32 & 0xFFFF;
        if registers.rax >> 32 == HOST_PRIORITY_BUSY_TIMEOUT {
            // The host calls again what was refused to it, and the TD goes on.
            return Ok(VpEnterInput::default());
        }
        if registers.rax >> 32 != 0 {
            return Err(End::Stuck(format!(
                "TDH.VP.ENTER gave {:#018x}: exit reason {basic_reason}, qualification {:#x}, GPA {:#x}, in VM {vm}{}",
                registers.rax,
                registers.rcx as u32,
                registers.r8,
                self.where_is(vm),
            )));
        }
        match basic_reason {
            reason::TDCALL => match self.serve_tdvmcall(registers) {
                Served::Answer(registers) => Ok(VpEnterInput {
                    registers,
                    ..VpEnterInput::default()
                }),
                Served::Halt { answer, blocked } => {
                    self.processors.halt(blocked);
                    Ok(VpEnterInput {
                        registers: answer,
                        ..VpEnterInput::default()
                    })
                }
                Served::End(end) => Err(end),
            },
            reason::EXTERNAL_INTERRUPT => Ok(VpEnterInput::default()),
            reason::EPT_VIOLATION => self.serve_ept_violation(registers.r8, registers.rdx, vm),
            // The host has nothing to do with it, so it is L1's: a host-routed exit.
            _ if vm != 0 => Ok(resume_l1()),
            _ => Err(End::Stuck(format!(
                "the TD left with exit reason {basic_reason}, which no host serves{}",
                self.where_is(vm)
            ))),
        }
    }

    /// An access that the secure or the shared EPT has nothing for.
    fn serve_ept_violation(
        &mut self,
        gpa: u64,
        extended_qualification: u64,
        vm: u64,
    ) -> Result<VpEnterInput, End> {
        self.let_held_finish()?;
        let shared = gpa & self.shared_bit() != 0;
        if !shared && accepts_small_page(extended_qualification) {
            let (module, hardware) = (&mut self.module, &mut self.hardware);
            match self.memory.split_pending(module, hardware, gpa) {
                Ok(true) => return Ok(VpEnterInput::default()),
                Ok(false) => {}
                Err(error) => return Err(End::Stuck(format!("splitting {gpa:#x}: {error}"))),
            }
        }
        if !shared && self.memory.can_give(gpa) {
            return self
                .memory
                .augment(&mut self.module, &mut self.hardware, gpa)
                .map(|_| VpEnterInput::default())
                .map_err(|error| End::Stuck(format!("giving the TD {gpa:#x}: {error}")));
        }
        if vm != 0 {
            return Ok(resume_l1());
        }
        let kind = if shared { "shared" } else { "private" };
        Err(End::Stuck(format!(
            "L1 touched {kind} GPA {:#x}, where the host has nothing to give{}",
            gpa & !self.shared_bit(),
            self.where_is(vm),
        )))
    }

    /// Whether an interrupt can still come: a deadline, a quote, input on COM1 or for a device.
    fn can_wake(&self) -> bool {
        let quote = self.quotes.event.and(self.hardware.deadline(Timer::Quote));
        self.hardware.deadline(Timer::LocalApic).or(quote).is_some()
            || self.io_apic.is_open(io_apic::COM1_PIN)
            || self.devices.can_wake()
    }
}

/// Whether an EPT violation is TDG.MEM.PAGE.ACCEPT of a 4 KiB page (TDX Module ABI, "Extended Exit
/// Qualification": type 1 in bits 3:0, the requested level in bits 34:32).
fn accepts_small_page(extended_qualification: u64) -> bool {
    extended_qualification & 0xF == 1 && extended_qualification >> 32 & 7 == 0
}

/// Lets L1 see what the host got from an L2 VM.
fn resume_l1() -> VpEnterInput {
    VpEnterInput {
        resume_l1: true,
        ..VpEnterInput::default()
    }
}

/// Prints that a phase of the run begins.
fn phase(name: &str) {
    Object::new()
        .text("phase", name)
        .number("tsc", rdtsc())
        .print();
    say!("{name}");
}
