//! The L1 image: what td-shim starts.
//!
//! All of L1's `unsafe` is here; what L1 decides is in the library `l1-vmm`, which this file puts
//! together with the machine.
//!
//! | room | what lives there |
//! | --- | --- |
//! | [`arch`] | what needs the machine: entry, address space, handlers, state switch, raw memory, the TDCALL |
//! | [`per_cpu`] | what each processor has of its own |
//! | [`application`] | the processors beside the boot processor: how they come, and get their job |
//! | [`crt`] | the C library of the TPM engine |
//! | [`heap`] | the allocator |
//! | [`mod@fatal`], [`debug_port`] | how L1 ends, and its log |
//! | [`relaunch`] | what L2's reset does |
//! | [`environment`], [`tpm`], [`state`], [`measurement`], [`devices`], [`own_devices`] | the machine and the vTPM as the library's traits want them |
#![allow(unsafe_code, reason = "all of L1's, see docs/soundness.md")]
#![no_std]
#![no_main]

extern crate alloc;

use alloc::boxed::Box;
use alloc::sync::Arc;

// `memcpy` and its kin.
extern crate freestanding as _;

mod application;
mod arch;
mod crt;
mod debug_port;
mod devices;
mod environment;
mod fatal;
mod heap;
mod measurement;
mod own_devices;
mod per_cpu;
mod relaunch;
mod state;
mod tpm;

use application::{Started, Waiting};
use arch::{Instruction, clock, image, memory, paging, random, td};
use attestation::journal::{Processors, TpmInterface};
use environment::{Cpu, Image};
use fatal::{FatalCode, OrFatal, fatal, halt};
use l1_vmm::launch::configuration::AttestedConfiguration;
use l1_vmm::launch::firmware_image::{TpmWindow, tpm_window};
use l1_vmm::launch::fw_cfg::FwCfg;
use l1_vmm::launch::give::{Given, give_registers};
use l1_vmm::launch::module::{Reported, TdxModule};
use l1_vmm::launch::options::{Options, RunAhead};
use l1_vmm::launch::stopwatch::Stopwatch;
use l1_vmm::launch::tcg_log::put_tcg_log;
use l1_vmm::launch::wakeup::ApicIds;
use l1_vmm::launch::{
    Choices, GpaRange, GpaRanges, LoadedGuest, MemoryPlan, PayloadHobs, PlanRequest, give, load,
    processors,
};
use l1_vmm::machine::devices::pci::window::PciWindow;
use l1_vmm::machine::{host, host_power};
use l1_vmm::run::{End, L2, Layout, Machine, MachineParts, ProcessorParts};
use l1_vmm::shared_buffer::Part;
use l1_vmm::virtio::{devices::types, sharing};
use memory::{Bounce, Firmware, L2Ram, Mailbox, TpmPages, Vapic};
use own_devices::{Broker, HostBus};
use per_cpu::ThisCpu;
use relaunch::Relaunch;
use tdcall::SharedBuffer;
use tdcall::leaf::VpInfo;
use tdx_defs::VmIndex;
use tdx_defs::field::{FieldId, TdAttributes};
use tdx_defs::ghci::Width;
use tpm::Window;
use uefi_defs::acpi;
use vtpm::attested::MeasuredLaunch;
use x86_defs::pc;

/// Name and version; `cargo xtask check-image` knows the image by its start.
const MARK: &str = concat!("tdp-vtpm l1-vmm ", env!("CARGO_PKG_VERSION"));

/// The L2 VM that L1 runs.
const VM: VmIndex = VmIndex::FIRST;

/// The end of that buffer is for quotes: more than any quote is long, and no more than QEMU takes
/// (128 KiB). The rest is for files.
const QUOTES: usize = 0x1_0000;

/// Before it are pages for files again, when L2 resets its machine: those for files have become devices' by then.
const FILES_AGAIN: usize = 0x1_0000;

/// Power-off of the host's machine: SLP_EN and S5 to PM1_CNT.
const POWER_OFF: (u16, Width, u32) = (host_power::PM1_CNT, Width::Word, acpi::SLP_EN as u32);
/// Reset of the host's machine: a hard reset by the reset control register.
const RESET: (u16, Width, u32) = (
    pc::RESET_CONTROL,
    Width::Byte,
    (pc::SYSTEM_RESET | pc::RESET_CPU) as u32,
);

/// Called by the entry code with td-shim's HOB list, on L1's stack.
extern "sysv64" fn l1_main(hob: u64) -> ! {
    let firmware_tables = paging::current();
    let this = arch::start(0);
    debug_port::start();
    heap::start();
    let base = image::start();
    log::info!(target: "start", version = env!("CARGO_PKG_VERSION"); "{MARK} at {base:#x}");
    random::start().or_fatal(FatalCode::Entropy);
    this.thread.start().or_fatal(FatalCode::Entropy);
    let info = virtual_processor();

    // SAFETY: `hob` is what td-shim passed; nothing of L1's is there.
    let hobs = unsafe { memory::payload_hobs(hob) }.or_fatal(FatalCode::Configuration);
    let host_bus = own_devices::bus(info.gpaw.shared_bit());
    let mailbox = mailbox(&hobs, info);
    let mut plan = memory_plan(&hobs, info, &host_bus, &[mailbox, firmware_tables]);
    let bounce = address_space(&hobs, &plan, info);
    let processors = processors(&this, &hobs, info, mailbox);
    let l2_processors = processors.count() as u32;
    let [files, own, files_again, quotes] = divide(bounce);
    let td = td();
    let fw_cfg = FwCfg::open(&td, &files).or_fatal(FatalCode::Launch);
    let attested = AttestedConfiguration::read(&td, &fw_cfg).or_fatal(FatalCode::Configuration);
    let configuration = attested
        .as_ref()
        .map(|attested| &attested.init_data.configuration);
    let options = Options::read_beside(&fw_cfg, configuration).or_fatal(FatalCode::Launch);
    let pci = devices::window(&options.devices, &mut plan);
    let ram = l2_ram(&hobs, &plan, bounce);
    let window = tpm_window(&Firmware, hobs.payload_volume).or_fatal(FatalCode::Configuration);
    log::info!(
        "TPM window: {}",
        match window {
            TpmWindow::Private => "private pages, exits come from the TDX module",
            TpmWindow::HostRouted => "no pages, exits are routed by the host",
        }
    );
    let guest = guest(&plan, &fw_cfg, &ram, &options, pci.as_ref(), l2_processors);

    let logs = guest.layout.event_logs;
    let launched = guest.clone();
    let shared_bit = info.gpaw.shared_bit();
    let mut domain = measurement::domain(quotes, shared_bit, ram.clone(), logs.cc);
    let log = measurement::event_log(&hobs, &mut domain);
    let state = configuration.and_then(|configuration| configuration.state.as_ref());
    let has_state = state.is_some();
    let broker = match state.and_then(|state| state.key.broker()) {
        Some(_) => Broker::Named,
        None => Broker::None,
    };
    let mut on_bus = (has_state || devices::needs_host(&options.devices))
        .then(|| own_devices::find(host_bus, &hobs.e820))
        .flatten();
    // Also where no state is wanted: its disk is not L2's.
    let own = on_bus
        .as_mut()
        .map(|on_bus| own_devices::take(on_bus, own, broker))
        .unwrap_or_default();
    let host = devices::Host {
        devices: on_bus,
        memory: files,
    };
    let bus = pci.map(|window| devices::bus(window, &options.devices, host));
    let launch = guest.image.measurements();
    let measured = MeasuredLaunch::new(domain, log, env!("CARGO_PKG_VERSION"), &launch)
        .or_fatal(FatalCode::Tpm);
    log::info!("the TDX module's report: {}", Reported(measured.report()));
    let (measured, state) = state::open(measured, attested.as_ref(), own);
    let count = Processors::new(info.num_vcpus, l2_processors)
        .ok_or("the TD has fewer processors than L2")
        .or_fatal(FatalCode::Configuration);
    let data_buffer = guest.layout.data_buffer.map(|page| (ram.clone(), page));
    let mut tpm = tpm::start(measured, &options, count, &launch, state, data_buffer);
    let pages = register_pages(window, options.interface);
    // Where reads are no exits, L1 would execute what L2 does between them, and spare it nothing.
    let run_ahead = options.run_ahead == RunAhead::On && pages.is_none();
    if let Some(pages) = pages {
        tpm.show_in(pages);
    }
    put_tcg_log(&ram, logs.tcg, tpm.tcg_log()).or_fatal(FatalCode::Launch);
    let relaunch = Relaunch {
        files: files_again,
        plan,
        memory: ram.clone(),
        options,
        pci,
        processors: l2_processors,
        launched,
    };
    let machine = MachineParts {
        memory: ram,
        tpm,
        bus,
        shared_bit,
        run_ahead,
        processors: l2_processors,
        clock: clock::ticks,
    };
    run(this, processors, machine, relaunch, info.attributes)
}

/// Checks that this is a TD in which L1 can do its work.
fn virtual_processor() -> VpInfo {
    let info = td().vp_info().or_fatal(FatalCode::Configuration);
    let module = TdxModule::read(&td(), &info).or_fatal(FatalCode::Configuration);
    let (used, lacks) = (module.used(), module.lacks());
    log::info!(
        target: "module",
        features = module.features.into_bits(),
        used = used.as_str(),
        lacks = lacks.as_str();
        "{module}: L1 uses {used}; lacks {}",
        if lacks.is_empty() { "nothing" } else { &lacks }
    );
    processors::check(&info).or_fatal(FatalCode::Configuration);
    let frequency = clock::start().or_fatal(FatalCode::Configuration);
    let vms = td()
        .vm_rd(FieldId::NUM_L2_VMS)
        .or_fatal(FatalCode::Configuration);
    if vms == 0 {
        fatal(
            FatalCode::Configuration,
            format_args!("this TD has no L2 VM: it must be created with NUM_L2_VMS of 1 or more"),
        );
    }
    log::info!(
        "TD: {} address bits, {vms} L2 VMs, TSC {} MHz, attributes {:#x}",
        info.gpaw.bits(),
        frequency / 1_000_000,
        info.attributes.into_bits()
    );
    info
}

/// The pages of the mailbox at which the other processors wait; none where there is no other, and no mailbox.
fn mailbox(hobs: &PayloadHobs, info: VpInfo) -> GpaRange {
    let event_log = hobs.event_log.map_or(GpaRange::EMPTY, |log| log.range);
    let taken = [image::range(), hobs.range, event_log];
    let pages = hobs
        .wakeup
        .and_then(|wakeup| wakeup.pages(info.num_vcpus, &hobs.e820, &taken));
    match pages {
        Err(_) if info.num_vcpus == 1 => GpaRange::EMPTY,
        pages => pages.or_fatal(FatalCode::Configuration),
    }
}

/// Brings the other processors from td-shim to L1.
fn processors(this: &ThisCpu, hobs: &PayloadHobs, info: VpInfo, mailbox: GpaRange) -> Started {
    let others = info.num_vcpus > 1;
    let waiting = others.then(|| Waiting {
        // SAFETY: 1: `address_space` mapped every E820 range where it is, this is in some of them and in none of what L1
        // has, which `Wakeup::pages` checks; 2: the HOB list is td-shim's.
        mailbox: unsafe { Mailbox::new(mailbox) },
        apic_ids: hobs
            .wakeup
            .map_or_else(|_| ApicIds::default(), |wakeup| wakeup.apic_ids),
        processors: info.num_vcpus,
    });
    let begin = clock::nanoseconds();
    let processors = application::start(this, waiting);
    let time = clock::nanoseconds().saturating_sub(begin);
    log::info!(
        target: "processors",
        run = processors.count(), of = info.num_vcpus, ns = time;
        "processors: {} of {} run L1, after {time} ns",
        processors.count(),
        info.num_vcpus
    );
    processors
}

/// Divides the memory between L1 and L2. L1 takes, beside its image, what it shares with the host, out of the RAM below
/// 4 GiB: as much as the devices on the bus `host` have use for, or where that is too much, the least. What processors
/// use that still wait in td-shim, `firmware`, stays L1's.
fn memory_plan(
    hobs: &PayloadHobs,
    info: VpInfo,
    host: &HostBus,
    firmware: &[GpaRange; 2],
) -> MemoryPlan {
    let event_log = hobs.event_log.map_or(GpaRange::EMPTY, |log| log.range);
    let [mailbox, tables] = *firmware;
    let with = |l1_region_length| {
        MemoryPlan::new(&PlanRequest {
            e820: &hobs.e820,
            gpaw: info.gpaw,
            l1_in_use: &[image::range(), hobs.range, event_log, mailbox, tables],
            l1_region_length,
        })
    };
    let own = (own_devices::MEMORY + FILES_AGAIN + QUOTES) as u64;
    let memory = hobs.e820.ram().map_or(0, |ram| ram.length());
    let shared = sharing::length(&types(host), own, memory);
    with(shared)
        .or_else(|_| with(sharing::LENGTH_MIN))
        .or_fatal(FatalCode::Configuration)
}

/// Switches to L1's own page tables and shares the bounce buffer with the host.
fn address_space(hobs: &PayloadHobs, plan: &MemoryPlan, info: VpInfo) -> Bounce {
    let shared_bit = info.gpaw.shared_bit();
    let all = hobs.e820.entries().map(|entry| entry.range);
    let tables =
        paging::start(all, plan.l1_region(), shared_bit).or_fatal(FatalCode::Configuration);
    log::info!(
        target: "layout",
        image = image::range().start(),
        region = plan.l1_region().start();
        "memory: {} MiB for L2, L1 at {} and {}, {tables} page tables",
        plan.l2().length() >> 20,
        image::range(),
        plan.l1_region()
    );
    // SAFETY: 1: the page tables have just been made so; 2: the region is nothing else's.
    unsafe { Bounce::share(plan.l1_region(), shared_bit) }.or_fatal(FatalCode::Configuration)
}

/// Gives L2 its memory and L1 access to it.
fn l2_ram(hobs: &PayloadHobs, plan: &MemoryPlan, bounce: Bounce) -> L2Ram {
    let mut given = Given::default();
    for grant in plan.grants() {
        given += give(&td(), VM, &grant).or_fatal(FatalCode::Launch);
    }
    let [small, large, huge] = given.pages;
    log::info!("L2 pages: {small} of 4 KiB, {large} of 2 MiB, {huge} of 1 GiB");
    if given.accepted != 0 {
        let accepted = given.accepted;
        log::warn!("{accepted} bytes of RAM were pending although td-shim had accepted them");
    }
    let mut all = GpaRanges::new();
    for entry in hobs.e820.entries() {
        all.insert(entry.range).or_fatal(FatalCode::Configuration);
    }
    // SAFETY: 1: `address_space` mapped every E820 range writable; 2: the plan was made with
    // everything in it that L1 uses.
    unsafe { L2Ram::new(plan, all, bounce) }
}

/// Lets L2 read the registers of a CRB interface without exits, where the host gave the TD memory at their addresses.
fn register_pages(window: TpmWindow, interface: TpmInterface) -> Option<TpmPages> {
    if window != TpmWindow::Private || !interface.is_crb() {
        return None;
    }
    give_registers(&td(), VM).or_fatal(FatalCode::Launch);
    log::info!("TPM registers: L2 reads them without exits");
    // SAFETY: 1: `address_space` mapped the window, and the firmware image has private pages there; 2: L1's objects are in
    // its image and in what the memory plan has, which is RAM, and never there.
    Some(unsafe { TpmPages::new() })
}

/// The parts of the shared memory: for files, for devices that L1 drives for itself, for files when L2 is launched again, and
/// for quotes.
fn divide(bounce: Bounce) -> [Part<Bounce>; 4] {
    let length = bounce.length();
    let quotes = length.saturating_sub(QUOTES);
    let again = quotes.saturating_sub(FILES_AGAIN);
    let own = again.saturating_sub(own_devices::MEMORY);
    [0..own, own..again, again..quotes, quotes..length].map(|range| {
        Part::new(bounce, range)
            .ok_or("the shared memory has no room for quotes")
            .or_fatal(FatalCode::Configuration)
    })
}

/// Loads the guest's kernel, initrd and command line.
fn guest(
    plan: &MemoryPlan,
    fw_cfg: &FwCfg<'_, Instruction, Part<Bounce>>,
    ram: &L2Ram,
    options: &Options,
    pci: Option<&PciWindow>,
    processors: u32,
) -> LoadedGuest {
    let begin = clock::nanoseconds();
    let hashing = Stopwatch::new(clock::nanoseconds);
    let choices = choices(options, pci, processors, &hashing);
    let guest = load(fw_cfg, plan, ram, &choices).or_fatal(FatalCode::Launch);
    let loaded = clock::nanoseconds();
    log::info!("kernel: {}", guest.image.kernel);
    if let Some(initrd) = &guest.image.initrd {
        log::info!("initrd: {initrd}");
    }
    log::info!("command line: {}", guest.image.command_line);
    for (of, what, time) in [
        ("load", "load the guest", loaded.saturating_sub(begin)),
        ("hash", "hash it, of that", hashing.total()),
    ] {
        log::info!(target: "time", of, ns = time; "time to {what}: {time} ns");
    }
    guest
}

/// What a launch depends on, and a launch again.
fn choices<'a>(
    options: &Options,
    pci: Option<&'a PciWindow>,
    processors: u32,
    hashing: &'a Stopwatch,
) -> Choices<'a> {
    Choices {
        banks: options.banks,
        interface: options.interface,
        pci,
        processors: processors as u8,
        hashing,
    }
}

/// Runs the guest on the processors that started, to its end, and ends the TD as the guest asked.
fn run(
    this: ThisCpu,
    processors: Started,
    machine: MachineParts<Image>,
    relaunch: Relaunch,
    attributes: TdAttributes,
) -> ! {
    let td: &'static _ = Box::leak(Box::new(td()));
    let cpuid = environment::cpuid;
    let machine = Arc::new(Machine::new(td, machine, cpuid).or_fatal(FatalCode::Launch));
    host::set_up_timer(td).or_fatal(FatalCode::Launch);
    if let Err(error) = host::set_up_console(td) {
        log::warn!("no console input: {error}");
    }
    let run = move |this, number| run_processor(&machine, &relaunch, attributes, this, number);
    let run: &'static application::Job = Box::leak(Box::new(run));
    log::info!("entering L2");
    application::give(&this, processors, run);
    run(this, 0);
    halt()
}

/// Runs virtual processor `number` of L2's, on the processor of the TD that executes this. Whichever sees the run end
/// ends the TD, or launches L2 again.
fn run_processor(
    machine: &Arc<Machine<'static, Image>>,
    relaunch: &Relaunch,
    attributes: TdAttributes,
    this: ThisCpu,
    number: usize,
) {
    let entry = &relaunch.launched.entry;
    let vapic = Vapic::new();
    let layout = Layout {
        vm: VM,
        index: number as u8,
        vapic: vapic.gpa(),
    };
    let parts = ProcessorParts {
        processor: Cpu(this),
        vapic,
    };
    let mut l2 = L2::new(Arc::clone(machine), &layout, parts, entry).or_fatal(FatalCode::Launch);
    loop {
        match l2.run() {
            None => application::wait_for(|| l2.is_restarted().then_some(())),
            Some(end) if relaunch.follows(&end, &l2) => {
                log_registers(&l2, &end, attributes);
                relaunch.relaunch(&mut l2, &end);
                application::kick_all();
            }
            Some(end) => conclude(l2, end, attributes),
        }
        l2 = l2.anew(&layout, entry).or_fatal(FatalCode::Launch);
    }
}

/// L2's registers, where its end is its mistake.
fn log_registers(l2: &L2<'_, Image>, end: &End, attributes: TdAttributes) {
    let registers = match end {
        End::PowerOff | End::Reset | End::Failure(_) | End::Stopped => None,
        End::Halted { .. } | End::TripleFault { .. } | End::GuestError { .. } => {
            l2.snapshot(attributes)
        }
    };
    if let Some(registers) = registers {
        log::info!("L2 registers: {registers}");
    }
}

/// L2 is over on all processors: says how it was, and ends the TD as the guest asked.
fn conclude(mut l2: L2<'_, Image>, end: End, attributes: TdAttributes) -> ! {
    l2.with_tpm(Window::conclude);
    l2.log_figures();
    log_high_water_marks();
    log_registers(&l2, &end, attributes);
    let (port, width, value) = match end {
        End::PowerOff => POWER_OFF,
        End::Reset => RESET,
        // A guest that cannot power off, or was told not to, ends so: nothing is wrong, and nothing is left to run.
        End::Halted { rip } => {
            log::info!(target: "halted", rip; "{end}");
            POWER_OFF
        }
        End::TripleFault { .. } | End::GuestError { .. } | End::Failure(_) | End::Stopped => {
            fatal(FatalCode::Run, format_args!("{end}"))
        }
    };
    if !matches!(end, End::Halted { .. }) {
        log::info!("{end}");
    }
    // Configuration space is no memory, of which a bit says that it is shared.
    if let Err(error) = host_power::enable(&own_devices::bus(0)) {
        log::warn!("the host's power management: {error}");
    }
    if let Err(error) = td().io_write(port, width, value) {
        log::error!("the host does not let the machine end: {error}");
    }
    halt()
}

/// What L1 took at most of its own memory.
fn log_high_water_marks() {
    let stack = (0..image::PROCESSORS)
        .map(arch::entry::stack_high_water_mark)
        .max()
        .unwrap_or(0);
    let heap = heap::usage();
    log::info!(
        target: "memory",
        heap = heap.high_water_mark,
        stack,
        heap_size = heap.size,
        stack_size = image::MAIN_STACK;
        "high-water marks: heap {} bytes, stack {stack} bytes; heap size {} bytes, {} in use",
        heap.high_water_mark,
        heap.size,
        heap.used
    );
}
